-- What the state holds beside accounts, borsh; the first byte of the key is its kind. Some builds made this table in the
-- first script.
CREATE TABLE IF NOT EXISTS state.records (
    key   BYTEA PRIMARY KEY,
    value BYTEA NOT NULL
);
UPDATE ledger.meta SET value = '3' WHERE name = 'schema';
