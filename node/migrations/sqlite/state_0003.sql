-- What the state holds beside accounts, borsh; the first byte of the key is its kind. Some builds made this table in the
-- first script.
CREATE TABLE IF NOT EXISTS records (
    key   BLOB PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
) WITHOUT ROWID;
UPDATE meta SET value = '3' WHERE name = 'schema';
