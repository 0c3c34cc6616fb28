-- The state after a block whose ancestors' batches were never here, until it is in the state's tables (S3). The height of
-- the block and the roots after it stand in each row.
CREATE TABLE IF NOT EXISTS snapshot (
    part         INTEGER PRIMARY KEY, -- from 0
    height       INTEGER NOT NULL,
    state_root   TEXT NOT NULL,
    results_root TEXT NOT NULL,
    leaves       BLOB NOT NULL
);
UPDATE meta SET value = '3' WHERE name = 'schema';
