-- Receipts that minted, for those who look for one; that each mints once is in records. They go with their block's transactions.
CREATE TABLE IF NOT EXISTS state.receipts (
    place      BIGINT PRIMARY KEY, -- height * 2^20 + idx: the order of the chain
    height     BIGINT NOT NULL,
    idx        BIGINT NOT NULL, -- of its transaction in the block
    time_ms    BIGINT NOT NULL, -- of the block
    receipt_id TEXT NOT NULL,
    job_id     TEXT NOT NULL,
    provider   TEXT NOT NULL,
    client     TEXT NOT NULL,
    units      BIGINT NOT NULL,
    minted     BIGINT NOT NULL,
    receipt    BYTEA NOT NULL -- with its signatures, borsh
);
CREATE INDEX IF NOT EXISTS receipts_id ON state.receipts (receipt_id, place);
CREATE INDEX IF NOT EXISTS receipts_job ON state.receipts (job_id, place);
CREATE INDEX IF NOT EXISTS receipts_provider ON state.receipts (provider, place);
UPDATE ledger.meta SET value = '6' WHERE name = 'schema';
