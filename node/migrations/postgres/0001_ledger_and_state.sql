-- Schema ledger: the truth, durable at commit. Schema state: a projection of it that may lag and can be rebuilt.
-- Big columns last, so that people can read the rows.
CREATE SCHEMA IF NOT EXISTS ledger;
CREATE SCHEMA IF NOT EXISTS state;

CREATE TABLE ledger.meta (
    name  TEXT PRIMARY KEY, -- schema, chain, key, identity
    value TEXT NOT NULL
);
INSERT INTO ledger.meta VALUES ('schema', '1');

-- One row: who may vote (P7), and above which position (P9).
CREATE TABLE ledger.lease (
    id                 BIGINT PRIMARY KEY CHECK (id = 1),
    generation         BIGINT NOT NULL,
    holder             TEXT NOT NULL,
    taken_at           TIMESTAMPTZ NOT NULL,
    vote_floor_epoch   BIGINT NOT NULL,
    vote_floor_slot    BIGINT NOT NULL,
    highest_vote_epoch BIGINT NOT NULL, -- of the deleted rows; the others speak for themselves
    highest_vote_slot  BIGINT NOT NULL
);
INSERT INTO ledger.lease VALUES (1, 0, '', now(), 0, 0, 0, 0);

-- Own votes. The primary key is the last guard against a second vote (P1, P2): class 0 notar, 1 skip or final.
CREATE TABLE ledger.votes (
    epoch      BIGINT NOT NULL,
    slot       BIGINT NOT NULL,
    class      BIGINT NOT NULL CHECK (class IN (0, 1)),
    kind       TEXT NOT NULL CHECK ((class = 0) = (kind = 'notar')),
    digest     TEXT NOT NULL,
    signer     BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    signature  BYTEA NOT NULL,
    PRIMARY KEY (epoch, slot, class)
);

-- Final certificates, and the Notar certificates that Final votes rest on (P4).
CREATE TABLE ledger.certs (
    epoch  BIGINT NOT NULL,
    slot   BIGINT NOT NULL,
    kind   TEXT NOT NULL,
    digest TEXT NOT NULL,
    cert   BYTEA NOT NULL,
    PRIMARY KEY (epoch, slot, kind)
);

-- Candidates voted for (P3).
CREATE TABLE ledger.candidates (
    epoch     BIGINT NOT NULL,
    slot      BIGINT NOT NULL,
    digest    TEXT NOT NULL,
    height    BIGINT NOT NULL,
    proposer  BIGINT NOT NULL,
    candidate BYTEA NOT NULL,
    PRIMARY KEY (epoch, slot, digest)
);

CREATE TABLE ledger.batches (
    digest        TEXT PRIMARY KEY,
    epoch         BIGINT NOT NULL,
    author        BIGINT NOT NULL,
    seq           BIGINT NOT NULL,
    expiry_height BIGINT NOT NULL,
    tx_count      BIGINT NOT NULL,
    size          BIGINT NOT NULL,
    height        BIGINT, -- of the final block that holds it
    bytes         BYTEA NOT NULL
);
-- Signatures do not compress; trying costs more than the write.
ALTER TABLE ledger.batches ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE INDEX batches_pending ON ledger.batches (expiry_height) WHERE height IS NULL;
CREATE INDEX batches_included ON ledger.batches (expiry_height) WHERE height IS NOT NULL;

CREATE TABLE ledger.blocks (
    height            BIGINT PRIMARY KEY,
    epoch             BIGINT NOT NULL,
    slot              BIGINT NOT NULL,
    digest            TEXT NOT NULL UNIQUE,
    parent            TEXT NOT NULL,
    time_ms           BIGINT NOT NULL,
    proposer          BIGINT NOT NULL,
    tx_count          BIGINT NOT NULL,
    parent_state_root TEXT NOT NULL,
    header            BYTEA NOT NULL,
    signature         BYTEA NOT NULL,
    cert              BYTEA
);

-- One row: up to which block the tables below are.
CREATE TABLE state.applied (
    id           BIGINT PRIMARY KEY CHECK (id = 1),
    generation   BIGINT NOT NULL, -- of the lease of the last writer; older ones are refused
    height       BIGINT,          -- NULL: nothing, not even genesis
    state_root   TEXT,
    results_root TEXT
);
INSERT INTO state.applied (id, generation) VALUES (1, 0);

-- Room in each page lets a changed balance stay there, without a new index entry.
CREATE TABLE state.accounts (
    address TEXT PRIMARY KEY,
    balance BIGINT NOT NULL,
    nonce   BIGINT NOT NULL
) WITH (fillfactor = 60);

CREATE TABLE state.transactions (
    id     BYTEA PRIMARY KEY,
    height BIGINT NOT NULL,
    idx    INTEGER NOT NULL,
    code   SMALLINT NOT NULL,
    sender TEXT NOT NULL,
    nonce  BIGINT NOT NULL,
    batch  BYTEA NOT NULL
);
CREATE INDEX transactions_place ON state.transactions (height, idx);
