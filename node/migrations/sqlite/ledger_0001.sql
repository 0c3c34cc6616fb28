-- Ledger file: the truth, durable at commit. Big columns last, so that people can read the rows.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY NOT NULL, -- schema, chain, key, identity
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '1'), ('identity', lower(hex(randomblob(16))));

-- One row: who may vote (P7), and above which position (P9).
CREATE TABLE lease (
    id                 INTEGER PRIMARY KEY CHECK (id = 1),
    generation         INTEGER NOT NULL,
    holder             TEXT NOT NULL,
    taken_at           TEXT NOT NULL,
    vote_floor_epoch   INTEGER NOT NULL,
    vote_floor_slot    INTEGER NOT NULL,
    highest_vote_epoch INTEGER NOT NULL, -- of the deleted rows; the others speak for themselves
    highest_vote_slot  INTEGER NOT NULL
);
INSERT INTO lease VALUES (1, 0, '', '', 0, 0, 0, 0);

-- Own votes. The primary key is the last guard against a second vote (P1, P2): class 0 notar, 1 skip or final.
CREATE TABLE votes (
    epoch      INTEGER NOT NULL,
    slot       INTEGER NOT NULL,
    class      INTEGER NOT NULL CHECK (class IN (0, 1)),
    kind       TEXT NOT NULL CHECK (class = (kind <> 'notar')),
    digest     TEXT NOT NULL,
    signer     INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    signature  BLOB NOT NULL,
    PRIMARY KEY (epoch, slot, class)
) WITHOUT ROWID;

-- Final certificates, and the Notar certificates that Final votes rest on (P4).
CREATE TABLE certs (
    epoch  INTEGER NOT NULL,
    slot   INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    digest TEXT NOT NULL,
    cert   BLOB NOT NULL,
    PRIMARY KEY (epoch, slot, kind)
) WITHOUT ROWID;

-- Candidates voted for (P3).
CREATE TABLE candidates (
    epoch     INTEGER NOT NULL,
    slot      INTEGER NOT NULL,
    digest    TEXT NOT NULL,
    height    INTEGER NOT NULL,
    proposer  INTEGER NOT NULL,
    candidate BLOB NOT NULL,
    PRIMARY KEY (epoch, slot, digest)
) WITHOUT ROWID;

CREATE TABLE batches (
    id            INTEGER PRIMARY KEY,
    digest        TEXT NOT NULL UNIQUE,
    epoch         INTEGER NOT NULL,
    author        INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    expiry_height INTEGER NOT NULL,
    tx_count      INTEGER NOT NULL,
    size          INTEGER NOT NULL,
    height        INTEGER -- of the final block that holds it
);
CREATE INDEX batches_pending ON batches (expiry_height) WHERE height IS NULL;
CREATE INDEX batches_included ON batches (expiry_height) WHERE height IS NOT NULL;

-- Apart from the row above, which changes once: SQLite would write all bytes again.
CREATE TABLE batch_bytes (
    id    INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
);

CREATE TABLE blocks (
    height            INTEGER PRIMARY KEY,
    epoch             INTEGER NOT NULL,
    slot              INTEGER NOT NULL,
    digest            TEXT NOT NULL UNIQUE,
    parent            TEXT NOT NULL,
    time_ms           INTEGER NOT NULL,
    proposer          INTEGER NOT NULL,
    tx_count          INTEGER NOT NULL,
    parent_state_root TEXT NOT NULL,
    header            BLOB NOT NULL,
    signature         BLOB NOT NULL,
    cert              BLOB
);
