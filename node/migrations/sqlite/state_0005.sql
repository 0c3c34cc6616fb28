-- One row at most: what the last block changed, as it was before, once no block has come for a while (S3).
CREATE TABLE undo (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    height  INTEGER NOT NULL, -- of that block: of no use where the tables are of another one
    changes BLOB NOT NULL     -- accounts and records, borsh
);
UPDATE meta SET value = '5' WHERE name = 'schema';
