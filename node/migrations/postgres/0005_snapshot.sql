-- The state after a block whose ancestors' batches were never here, until it is in the state's tables (S3). The height of
-- the block and the roots after it stand in each row.
CREATE TABLE IF NOT EXISTS ledger.snapshot (
    part         BIGINT PRIMARY KEY, -- from 0
    height       BIGINT NOT NULL,
    state_root   TEXT NOT NULL,
    results_root TEXT NOT NULL,
    leaves       BYTEA NOT NULL
);
UPDATE ledger.meta SET value = '5' WHERE name = 'schema';
