-- Receipts that minted, for those who look for one; that each mints once is in records. They go with their block's transactions.
CREATE TABLE receipts (
    place      INTEGER PRIMARY KEY, -- height * 2^20 + idx: the order of the chain
    height     INTEGER NOT NULL,
    idx        INTEGER NOT NULL, -- of its transaction in the block
    time_ms    INTEGER NOT NULL, -- of the block
    receipt_id TEXT NOT NULL,
    job_id     TEXT NOT NULL,
    provider   TEXT NOT NULL,
    client     TEXT NOT NULL,
    units      INTEGER NOT NULL,
    minted     INTEGER NOT NULL,
    receipt    BLOB NOT NULL -- with its signatures, borsh
);
CREATE INDEX receipts_id ON receipts (receipt_id, place);
CREATE INDEX receipts_job ON receipts (job_id, place);
CREATE INDEX receipts_provider ON receipts (provider, place);
UPDATE meta SET value = '4' WHERE name = 'schema';
