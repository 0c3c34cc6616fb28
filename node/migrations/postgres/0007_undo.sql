-- One row at most: what the last block changed, as it was before, once no block has come for a while (S3).
CREATE TABLE IF NOT EXISTS state.undo (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    height  BIGINT NOT NULL, -- of that block: of no use where the tables are of another one
    changes BYTEA NOT NULL   -- accounts and records, borsh
);
UPDATE ledger.meta SET value = '7' WHERE name = 'schema';
