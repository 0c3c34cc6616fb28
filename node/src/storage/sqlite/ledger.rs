//! Writes of the ledger, and what a start reads of it.

use super::super::backend::{DataJob, VoteJob};
use super::super::owner;
use super::super::rows::{self, BatchColumns, BlockColumns, sql};
use super::super::{BatchWrite, BlockWrite, LedgerSnapshot, Result, SEALS, StorageError, StoredSnapshot, VoteWrite};
use super::many::{self, statements};
use super::{BEGIN, Sqlite};
use aitbc_core::block::{Candidate, Seal};
use aitbc_core::codec;
use aitbc_core::hash::Hash;
use aitbc_core::memory::Memory;
use aitbc_core::vote::{Cert, Vote};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Sqlite as Driver, Transaction};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

type Tx<'c> = Transaction<'c, Driver>;

/// What a small commit adds to the log, about: the pages it touches, whole.
const COMMIT_BYTES: usize = 16 << 10;

const TAKE_LEASE: &str = "UPDATE lease SET generation = generation + 1, holder = ?1, \
    taken_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE id = 1 RETURNING generation";

/// P7: no row unless the lease is ours; P9: none at or below the floor, where rows may be gone.
const VOTE: &str = "INSERT INTO votes (epoch, slot, class, kind, digest, signer, generation, signature) \
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM lease WHERE id = 1 AND generation = ?7 \
    AND (vote_floor_epoch, vote_floor_slot) < (?1, ?2) ON CONFLICT DO NOTHING";
const SAME_VOTE: &str =
    "SELECT count(*) FROM votes WHERE epoch = ?1 AND slot = ?2 AND class = ?3 AND kind = ?4 AND digest = ?5";
const CANDIDATE: &str = "INSERT INTO candidates (epoch, slot, digest, height, proposer, candidate) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
const CERT: &str = "INSERT INTO certs (epoch, slot, kind, digest, cert) \
    VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";

static BATCHES: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let start = "INSERT INTO batches (digest, epoch, author, seq, expiry_height, tx_count, size) VALUES";
    statements(start, "(?, ?, ?, ?, ?, ?, ?)", "ON CONFLICT DO NOTHING")
});
/// After their rows, which have the ids.
static BATCH_BYTES: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let start = "INSERT INTO batch_bytes (id, bytes) SELECT b.id, v.column2 FROM (VALUES";
    let end = ") AS v CROSS JOIN batches AS b ON b.digest = v.column1 WHERE true ON CONFLICT DO NOTHING";
    statements(start, "(?, ?)", end)
});
static BLOCKS: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let start = "INSERT INTO blocks (height, epoch, slot, digest, parent, time_ms, proposer, tx_count, \
        parent_state_root, header, signature, cert) VALUES";
    statements(start, "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "ON CONFLICT DO NOTHING")
});
const INCLUDE: &str = "UPDATE batches SET height = named.value ->> 1 FROM json_each(?1) AS named \
    WHERE batches.digest = named.value ->> 0";

/// P10. Changes no row where another block ends the epoch already.
const SEAL: &str = "INSERT INTO seals (epoch, height, digest, seal) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT (epoch) DO UPDATE SET seal = seals.seal WHERE seals.digest = excluded.digest";

/// Before rows are deleted: the highest vote among them is kept here.
const RAISE_HIGHEST: &str = "UPDATE lease SET (highest_vote_epoch, highest_vote_slot) = \
    (SELECT epoch, slot FROM votes ORDER BY epoch DESC, slot DESC LIMIT 1) \
    WHERE id = 1 AND generation = ?1 AND EXISTS (SELECT 1 FROM votes)";
const RAISE_FLOOR: &str = "UPDATE lease SET vote_floor_epoch = ?2, vote_floor_slot = ?3 \
    WHERE id = 1 AND generation = ?1 AND (vote_floor_epoch, vote_floor_slot) < (?2, ?3)";
const DELETE_VOTES: &str = "DELETE FROM votes WHERE (epoch, slot) <= (?1, ?2)";
const DELETE_CANDIDATES: &str = "DELETE FROM candidates WHERE (epoch, slot) <= (?1, ?2)";
/// The highest Final certificate stays whatever the floor.
const DELETE_CERTS: &str = "DELETE FROM certs WHERE (epoch, slot) <= (?1, ?2) AND NOT (kind = 'final' \
    AND (epoch, slot) = (SELECT epoch, slot FROM certs WHERE kind = 'final' ORDER BY epoch DESC, slot DESC LIMIT 1))";
/// Those that a start reads stay, whichever block is the last one then.
const DELETE_SEALS: &str = "DELETE FROM seals WHERE epoch < ?1";
const DELETE_BYTES: &str = "DELETE FROM batch_bytes WHERE id IN \
    (SELECT id FROM batches WHERE height IS NULL AND (expiry_height < ?1 OR epoch < ?2))";
/// No block includes them any more (V6).
const DELETE_BATCHES: &str = "DELETE FROM batches WHERE height IS NULL AND (expiry_height < ?1 OR epoch < ?2)";

const DELETE_BODY_BYTES: &str = "DELETE FROM batch_bytes WHERE id IN \
    (SELECT id FROM batches WHERE digest IN (SELECT value FROM json_each(?1)))";
const DELETE_BODIES: &str = "DELETE FROM batches WHERE digest IN (SELECT value FROM json_each(?1))";
const SNAPSHOT: &str =
    "INSERT INTO snapshot (part, height, state_root, results_root, leaves) VALUES (?1, ?2, ?3, ?4, ?5)";
const DELETE_SNAPSHOT: &str = "DELETE FROM snapshot";
const RAISE_LOWEST: &str = "INSERT INTO meta AS old (name, value) VALUES (?1, ?2) \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value \
    WHERE CAST(old.value AS INTEGER) < CAST(excluded.value AS INTEGER)";
/// A1, fenced like a vote (P7).
const MEMORY: &str = "INSERT INTO meta (name, value) SELECT ?1, ?2 FROM lease WHERE id = 1 AND generation = ?3 \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
const SET_GENERATION: &str = "UPDATE lease SET generation = ?1 WHERE id = 1";

pub(super) async fn take_lease(connection: &mut SqliteConnection, holder: &str) -> Result<i64> {
    let mut tx = connection.begin_with(BEGIN).await?;
    let generation = sqlx::query_scalar(TAKE_LEASE).bind(holder).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(generation)
}

pub(super) async fn load(connection: &mut SqliteConnection) -> Result<LedgerSnapshot> {
    let mut tx = connection.begin().await?;
    let (floor_epoch, floor_slot): (i64, i64) =
        sqlx::query_as("SELECT vote_floor_epoch, vote_floor_slot FROM lease").fetch_one(&mut *tx).await?;
    let head: Option<rows::BlockRow> =
        sqlx::query_as("SELECT digest, header, signature, cert FROM blocks ORDER BY height DESC LIMIT 1")
            .fetch_optional(&mut *tx)
            .await?;
    let head = head.map(rows::block).transpose()?;
    let at = head.as_ref().map(|b| &b.candidate.header);
    let (height, epoch, slot) = at.map_or((0, 0, 0), |h| (sql(h.height), sql(h.epoch), sql(h.slot)));

    let final_cert: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT cert FROM certs WHERE kind = 'final' ORDER BY epoch DESC, slot DESC LIMIT 1")
            .fetch_optional(&mut *tx)
            .await?;
    let votes: Vec<rows::VoteRow> = sqlx::query_as(
        "SELECT epoch, slot, kind, digest, signer, signature FROM votes WHERE (epoch, slot) > (?1, ?2) \
         ORDER BY epoch, slot, class",
    )
    .bind(floor_epoch)
    .bind(floor_slot)
    .fetch_all(&mut *tx)
    .await?;
    let certs: Vec<Vec<u8>> = sqlx::query_scalar("SELECT cert FROM certs WHERE kind = 'notar' ORDER BY epoch, slot")
        .fetch_all(&mut *tx)
        .await?;
    let candidates: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT candidate FROM candidates WHERE (epoch, slot) > (?1, ?2) ORDER BY epoch, slot, digest",
    )
    .bind(epoch)
    .bind(slot)
    .fetch_all(&mut *tx)
    .await?;
    let batches: Vec<rows::BatchRow> = sqlx::query_as(
        "SELECT digest, epoch, author, size, tx_count, seq, expiry_height FROM batches \
         WHERE height IS NULL AND expiry_height > ?1 ORDER BY id",
    )
    .bind(height)
    .fetch_all(&mut *tx)
    .await?;
    let included: Vec<(String, i64)> =
        sqlx::query_as("SELECT digest, expiry_height FROM batches WHERE height IS NOT NULL AND expiry_height >= ?1")
            .bind(height)
            .fetch_all(&mut *tx)
            .await?;
    let seals: Vec<Vec<u8>> = sqlx::query_scalar("SELECT seal FROM seals WHERE epoch >= ?1 ORDER BY epoch")
        .bind(epoch - SEALS)
        .fetch_all(&mut *tx)
        .await?;
    let memory: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE name = ?1")
        .bind(owner::MEMORY)
        .fetch_optional(&mut *tx)
        .await?;
    tx.commit().await?;

    Ok(LedgerSnapshot {
        head,
        final_cert: final_cert.map(|bytes| rows::decode("certificate", &bytes)).transpose()?,
        votes: votes.into_iter().map(rows::vote).collect::<Result<_>>()?,
        certs: certs.iter().map(|bytes| rows::decode("certificate", bytes)).collect::<Result<_>>()?,
        candidates: candidates.iter().map(|bytes| rows::decode("candidate", bytes)).collect::<Result<_>>()?,
        batches: batches.into_iter().map(rows::batch).collect::<Result<_>>()?,
        included: included.into_iter().map(rows::numbered).collect::<Result<_>>()?,
        seals: seals.iter().map(|bytes| rows::decode("seal", bytes)).collect::<Result<_>>()?,
        vote_floor: (rows::number(floor_epoch), rows::number(floor_slot)),
        memory: memory.as_deref().map(owner::memory).transpose()?,
    })
}

impl Sqlite {
    pub(super) async fn write_vote_jobs(&self, connection: &mut SqliteConnection, jobs: &[VoteJob]) -> Result<()> {
        let mut tx = connection.begin_with(BEGIN).await?;
        for job in jobs {
            match job {
                VoteJob::Votes(votes) => {
                    for write in votes {
                        self.vote(&mut tx, write).await?;
                    }
                }
                VoteJob::Cert(cert) => {
                    self.check_lease(&mut tx).await?;
                    insert_cert(&mut tx, cert).await?;
                }
                VoteJob::Seal(seal) => {
                    self.check_lease(&mut tx).await?;
                    insert_seal(&mut tx, seal).await?;
                }
            }
        }
        tx.commit().await?;
        self.checkpoints.wrote(COMMIT_BYTES);
        Ok(())
    }

    pub(super) async fn write_data_jobs(&self, connection: &mut SqliteConnection, jobs: &[DataJob]) -> Result<()> {
        let mut tx = connection.begin_with(BEGIN).await?;
        self.check_lease(&mut tx).await?;
        let mut bytes = COMMIT_BYTES;
        for job in jobs {
            match job {
                DataJob::Batches(batches) => bytes += insert_batches(&mut tx, batches).await?,
                DataJob::Blocks(blocks) => insert_blocks(&mut tx, blocks).await?,
                DataJob::Bodies { digests, lowest } => delete_bodies(&mut tx, digests, *lowest).await?,
                DataJob::Snapshot(headers, snapshot) => bytes += insert_snapshot(&mut tx, headers, snapshot).await?,
                DataJob::ForgetSnapshot => {
                    sqlx::query(DELETE_SNAPSHOT).execute(&mut *tx).await?;
                }
                DataJob::Prune { floor, height } => self.delete_old(&mut tx, *floor, *height).await?,
            }
        }
        tx.commit().await?;
        self.checkpoints.wrote(bytes);
        Ok(())
    }

    pub(super) async fn write_memory_row(
        &self,
        connection: &mut SqliteConnection,
        memory: &Memory,
        generation: Option<u32>,
    ) -> Result<()> {
        let mut tx = connection.begin_with(BEGIN).await?;
        let written = sqlx::query(MEMORY)
            .bind(owner::MEMORY)
            .bind(owner::memory_text(memory)?)
            .bind(self.generation())
            .execute(&mut *tx)
            .await?;
        if written.rows_affected() == 0 {
            self.check_lease(&mut tx).await?;
        }
        if let Some(generation) = generation {
            sqlx::query(SET_GENERATION).bind(i64::from(generation)).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        // Under the lock, so that no write comes between with the old one.
        self.take_generation(generation);
        Ok(())
    }

    async fn check_lease(&self, tx: &mut Tx<'_>) -> Result<()> {
        let found: i64 = sqlx::query_scalar("SELECT generation FROM lease WHERE id = 1").fetch_one(&mut **tx).await?;
        if found == self.generation() { Ok(()) } else { Err(self.fenced(found)) }
    }

    async fn vote(&self, tx: &mut Tx<'_>, write: &VoteWrite) -> Result<()> {
        let Vote { statement, signer, signature } = &write.vote;
        let digest = statement.digest.to_string();
        let inserted = sqlx::query(VOTE)
            .bind(sql(statement.epoch))
            .bind(sql(statement.slot))
            .bind(i64::from(statement.kind.class()))
            .bind(statement.kind.name())
            .bind(&digest)
            .bind(i64::from(*signer))
            .bind(self.generation())
            .bind(&signature.0[..])
            .execute(&mut **tx)
            .await?;
        if inserted.rows_affected() == 0 {
            self.explain(tx, &write.vote, &digest).await?;
        }
        if let Some(candidate) = &write.candidate {
            insert_candidate(tx, candidate, &digest).await?;
        }
        if let Some(cert) = &write.cert {
            insert_cert(tx, cert).await?;
        }
        Ok(())
    }

    /// Why a vote made no row: fenced, refused, or there already.
    async fn explain(&self, tx: &mut Tx<'_>, vote: &Vote, digest: &str) -> Result<()> {
        self.check_lease(tx).await?;
        let statement = &vote.statement;
        let same: i64 = sqlx::query_scalar(SAME_VOTE)
            .bind(sql(statement.epoch))
            .bind(sql(statement.slot))
            .bind(i64::from(statement.kind.class()))
            .bind(statement.kind.name())
            .bind(digest)
            .fetch_one(&mut **tx)
            .await?;
        match same {
            0 => Err(StorageError::ConflictingVote { slot: statement.slot, class: statement.kind.class() }),
            _ => Ok(()),
        }
    }

    async fn delete_old(&self, tx: &mut Tx<'_>, floor: (u64, u64), height: u64) -> Result<()> {
        let (epoch, slot, height) = (sql(floor.0), sql(floor.1), sql(height));
        self.check_lease(tx).await?;
        sqlx::query(RAISE_HIGHEST).bind(self.generation()).execute(&mut **tx).await?;
        sqlx::query(RAISE_FLOOR).bind(self.generation()).bind(epoch).bind(slot).execute(&mut **tx).await?;
        for delete in [DELETE_VOTES, DELETE_CANDIDATES, DELETE_CERTS] {
            sqlx::query(delete).bind(epoch).bind(slot).execute(&mut **tx).await?;
        }
        sqlx::query(DELETE_SEALS).bind(epoch - SEALS - 1).execute(&mut **tx).await?;
        for delete in [DELETE_BYTES, DELETE_BATCHES] {
            sqlx::query(delete).bind(height).bind(epoch - 1).execute(&mut **tx).await?;
        }
        Ok(())
    }
}

async fn delete_bodies(tx: &mut Tx<'_>, digests: &[Hash], lowest: u64) -> Result<()> {
    let digests = rows::json_list(digests.iter());
    for delete in [DELETE_BODY_BYTES, DELETE_BODIES] {
        sqlx::query(delete).bind(&digests).execute(&mut **tx).await?;
    }
    raise_lowest(tx, lowest).await
}

async fn raise_lowest(tx: &mut Tx<'_>, lowest: u64) -> Result<()> {
    sqlx::query(RAISE_LOWEST).bind(owner::LOWEST).bind(lowest.to_string()).execute(&mut **tx).await?;
    Ok(())
}

/// Gives the bytes of the leaves.
async fn insert_snapshot(tx: &mut Tx<'_>, headers: &[BlockWrite], snapshot: &StoredSnapshot) -> Result<usize> {
    let height = sql(snapshot.height);
    let head: Option<i64> = sqlx::query_scalar("SELECT max(height) FROM blocks").fetch_one(&mut **tx).await?;
    if head >= Some(height) {
        return Ok(0);
    }
    sqlx::query(DELETE_SNAPSHOT).execute(&mut **tx).await?;
    insert_headers(tx, headers).await?;
    raise_lowest(tx, snapshot.height + 1).await?;
    let (state_root, results_root) = (snapshot.state_root.to_string(), snapshot.results_root.to_string());
    for (part, leaves) in (0i64..).zip(&snapshot.parts) {
        let query =
            sqlx::query(SNAPSHOT).bind(part).bind(height).bind(&state_root).bind(&results_root).bind(&leaves[..]);
        query.execute(&mut **tx).await?;
    }
    Ok(snapshot.parts.iter().map(Vec::len).sum())
}

async fn insert_candidate(tx: &mut Tx<'_>, candidate: &Candidate, digest: &str) -> Result<()> {
    let header = &candidate.header;
    sqlx::query(CANDIDATE)
        .bind(sql(header.epoch))
        .bind(sql(header.slot))
        .bind(digest)
        .bind(sql(header.height))
        .bind(i64::from(header.proposer))
        .bind(codec::encode(candidate))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn insert_seal(tx: &mut Tx<'_>, seal: &Seal) -> Result<()> {
    let insert = sqlx::query(SEAL)
        .bind(sql(seal.header.epoch))
        .bind(sql(seal.header.height))
        .bind(seal.cert.statement.digest.to_string())
        .bind(codec::encode(seal));
    let inserted = insert.execute(&mut **tx).await?;
    if inserted.rows_affected() == 1 { Ok(()) } else { Err(rows::another_seal(seal)) }
}

async fn insert_cert(tx: &mut Tx<'_>, cert: &Cert) -> Result<()> {
    let statement = &cert.statement;
    sqlx::query(CERT)
        .bind(sql(statement.epoch))
        .bind(sql(statement.slot))
        .bind(statement.kind.name())
        .bind(statement.digest.to_string())
        .bind(codec::encode(cert))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Gives the bytes of the batches.
async fn insert_batches(tx: &mut Tx<'_>, writes: &[BatchWrite]) -> Result<usize> {
    let rows: Vec<BatchColumns> = writes.iter().map(BatchColumns::from).collect();
    many::execute(tx, &BATCHES, &rows, |query, row: &BatchColumns| {
        query
            .bind(row.digest.clone())
            .bind(row.epoch)
            .bind(row.author)
            .bind(row.seq)
            .bind(row.expiry_height)
            .bind(row.tx_count)
            .bind(row.size)
    })
    .await?;
    many::execute(tx, &BATCH_BYTES, &rows, |query, row: &BatchColumns| {
        query.bind(row.digest.clone()).bind(row.bytes.clone())
    })
    .await?;
    Ok(rows.iter().map(|row| row.bytes.len()).sum())
}

async fn insert_blocks(tx: &mut Tx<'_>, writes: &[BlockWrite]) -> Result<()> {
    insert_headers(tx, writes).await?;
    include(tx, writes).await
}

/// The rows without what they say of batches.
async fn insert_headers(tx: &mut Tx<'_>, writes: &[BlockWrite]) -> Result<()> {
    let rows: Vec<BlockColumns> = writes.iter().map(BlockColumns::from).collect();
    let inserted = many::execute(tx, &BLOCKS, &rows, |query, row: &BlockColumns| {
        query
            .bind(row.height)
            .bind(row.epoch)
            .bind(row.slot)
            .bind(row.digest.clone())
            .bind(row.parent.clone())
            .bind(row.time_ms)
            .bind(row.proposer)
            .bind(row.tx_count)
            .bind(row.parent_state_root.clone())
            .bind(row.header.clone())
            .bind(row.signature.clone())
            .bind(row.cert.clone())
    })
    .await?;
    if inserted != rows.len() as u64 {
        check_known(tx, &rows).await?;
    }
    Ok(())
}

/// Blocks that were there before must be the same ones.
async fn check_known(tx: &mut Tx<'_>, rows: &[BlockColumns]) -> Result<()> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
    let query = sqlx::query_as("SELECT height, digest FROM blocks WHERE height BETWEEN ?1 AND ?2");
    let found: Vec<(i64, String)> = query.bind(first.height).bind(last.height).fetch_all(&mut **tx).await?;
    let found: HashMap<i64, String> = found.into_iter().collect();
    rows.iter().try_for_each(|r| rows::same_block(r.height, &r.digest, found.get(&r.height).map(String::as_str)))
}

/// Marks the blocks' batches.
async fn include(tx: &mut Tx<'_>, writes: &[BlockWrite]) -> Result<()> {
    let headers = writes.iter().map(|write| &write.candidate.header);
    let named: Vec<String> = headers
        .flat_map(|header| header.batches.iter().map(|b| format!("[\"{}\",{}]", b.digest, sql(header.height))))
        .collect();
    let Some(last) = writes.last().filter(|_| !named.is_empty()) else { return Ok(()) };
    let list = format!("[{}]", named.join(","));
    let marked = sqlx::query(INCLUDE).bind(list).execute(&mut **tx).await?.rows_affected();
    rows::all_there(sql(last.candidate.header.height), named.len(), marked)
}
