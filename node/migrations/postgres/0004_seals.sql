-- Ends of epochs: boundary block and a Final certificate of it (E5), before the first vote of the next epoch (P10). Some
-- builds made this table in the first script.
CREATE TABLE IF NOT EXISTS ledger.seals (
    epoch  BIGINT PRIMARY KEY NOT NULL,
    height BIGINT NOT NULL,
    digest TEXT NOT NULL,
    seal   BYTEA NOT NULL
);
UPDATE ledger.meta SET value = '4' WHERE name = 'schema';
