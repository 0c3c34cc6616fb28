-- Transactions by number, with an index by id that stays cheap. The state is empty after it, and is rebuilt at start.
DROP TABLE transactions;
DELETE FROM accounts;
UPDATE applied SET height = NULL, state_root = NULL, results_root = NULL;
ALTER TABLE applied ADD COLUMN transactions INTEGER NOT NULL DEFAULT 0; -- how many there are: the next one's number

-- In the order of the chain. One that is in two batches has two rows, of which the first tells its outcome.
CREATE TABLE transactions (
    number INTEGER PRIMARY KEY, -- from 0
    height INTEGER NOT NULL,
    idx    INTEGER NOT NULL, -- in the block, over all batches
    code   INTEGER NOT NULL,
    sender TEXT NOT NULL,
    nonce  INTEGER NOT NULL,
    id     BLOB NOT NULL,
    batch  BLOB NOT NULL
);
CREATE INDEX transactions_height ON transactions (height);
-- Ids are random: in one big index every new one changes a page of its own, which costs more than all else. In runs of
-- 65,536 new ones share the pages of the last run, and a search looks into each run.
CREATE INDEX transactions_id ON transactions (number >> 16, substr(id, 1, 8));
UPDATE meta SET value = '2' WHERE name = 'schema';
