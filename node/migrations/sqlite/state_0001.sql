-- State file: a projection of the ledger that may lag and can be rebuilt from it.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY NOT NULL, -- schema, chain, identity (of the ledger)
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '1');

-- One row: up to which block the tables below are.
CREATE TABLE applied (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    generation   INTEGER NOT NULL, -- of the lease of the last writer; older ones are refused
    height       INTEGER,          -- NULL: nothing, not even genesis
    state_root   TEXT,
    results_root TEXT
);
INSERT INTO applied (id, generation) VALUES (1, 0);

CREATE TABLE accounts (
    address TEXT PRIMARY KEY NOT NULL,
    balance INTEGER NOT NULL,
    nonce   INTEGER NOT NULL
) WITHOUT ROWID;

-- In the order of the chain: new rows go to the end, and the newest are found without an index.
CREATE TABLE transactions (
    place  INTEGER PRIMARY KEY, -- height * 2^20 + idx
    height INTEGER AS (place >> 20) VIRTUAL,
    idx    INTEGER AS (place & 1048575) VIRTUAL,
    code   INTEGER NOT NULL,
    sender TEXT NOT NULL,
    nonce  INTEGER NOT NULL,
    id     BLOB NOT NULL UNIQUE,
    batch  BLOB NOT NULL
);
