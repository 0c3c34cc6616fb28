//! Writes of the ledger, and what a start reads of it. Arrays make each write one statement, prepared once.

use super::super::backend::{DataJob, VoteJob};
use super::super::owner;
use super::super::rows::{self, BatchColumns, BlockColumns, sql};
use super::super::{BatchWrite, BlockWrite, LedgerSnapshot, Result, SEALS, StorageError, StoredSnapshot, VoteWrite};
use aitbc_core::block::{Candidate, Seal};
use aitbc_core::codec;
use aitbc_core::hash::Hash;
use aitbc_core::memory::Memory;
use aitbc_core::vote::{Cert, Vote};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres as Driver, Transaction};
use std::collections::HashMap;

type Tx<'c> = Transaction<'c, Driver>;

const TAKE_LEASE: &str = "UPDATE ledger.lease SET generation = generation + 1, holder = $1, taken_at = now() \
    WHERE id = 1 RETURNING generation";

/// P7: nothing unless the lease is ours, under its row lock: a bump of it waits for this commit, or this statement for
/// the bump. P9: nothing at or below the floor, where rows may be gone. P3, P4: one commit with what the votes rest on.
/// A second vote of a slot and class breaks the primary key, which undoes the whole statement.
const VOTES: &str = "WITH mine AS ( \
        SELECT 1 FROM ledger.lease WHERE id = 1 AND generation = $1 \
        AND (vote_floor_epoch, vote_floor_slot) < ($2, $3) FOR SHARE \
    ), vote AS ( \
        INSERT INTO ledger.votes (epoch, slot, class, kind, digest, signer, generation, signature) \
        SELECT v.epoch, v.slot, v.class, v.kind, v.digest, v.signer, $1, v.signature \
        FROM mine, UNNEST($4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::bigint[], $10::bytea[]) \
        AS v(epoch, slot, class, kind, digest, signer, signature) \
    ), candidate AS ( \
        INSERT INTO ledger.candidates (epoch, slot, digest, height, proposer, candidate) SELECT c.* \
        FROM mine, UNNEST($11::bigint[], $12::bigint[], $13::text[], $14::bigint[], $15::bigint[], $16::bytea[]) AS c \
        ON CONFLICT DO NOTHING \
    ), cert AS ( \
        INSERT INTO ledger.certs (epoch, slot, kind, digest, cert) SELECT c.* \
        FROM mine, UNNEST($17::bigint[], $18::bigint[], $19::text[], $20::text[], $21::bytea[]) AS c \
        ON CONFLICT DO NOTHING \
    ) SELECT count(*) FROM mine";
const VOTE: &str = "SELECT kind, digest FROM ledger.votes WHERE epoch = $1 AND slot = $2 AND class = $3";

const BATCHES: &str = "WITH mine AS (SELECT 1 FROM ledger.lease WHERE id = 1 AND generation = $1), \
    batch AS ( \
        INSERT INTO ledger.batches (digest, epoch, author, seq, expiry_height, tx_count, size, bytes) SELECT b.* \
        FROM mine, UNNEST($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
        $8::bigint[], $9::bytea[]) AS b ON CONFLICT DO NOTHING \
    ) SELECT count(*) FROM mine";
const BLOCKS: &str = "INSERT INTO ledger.blocks (height, epoch, slot, digest, parent, time_ms, proposer, tx_count, \
    parent_state_root, header, signature, cert) \
    SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], \
    $7::bigint[], $8::bigint[], $9::text[], $10::bytea[], $11::bytea[], $12::bytea[]) ON CONFLICT DO NOTHING";
const INCLUDE: &str = "UPDATE ledger.batches AS b SET height = named.height \
    FROM UNNEST($1::text[], $2::bigint[]) AS named(digest, height) WHERE b.digest = named.digest";

/// P10, under the lock of the lease (P7). Changes no row where another block ends the epoch already.
const SEAL: &str = "INSERT INTO ledger.seals AS known (epoch, height, digest, seal) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (epoch) DO UPDATE SET seal = known.seal WHERE known.digest = excluded.digest";
const DELETE_VOTES: &str = "DELETE FROM ledger.votes WHERE (epoch, slot) <= ($1, $2)";
const DELETE_CANDIDATES: &str = "DELETE FROM ledger.candidates WHERE (epoch, slot) <= ($1, $2)";
/// The highest Final certificate stays whatever the floor.
const DELETE_CERTS: &str = "DELETE FROM ledger.certs WHERE (epoch, slot) <= ($1, $2) AND NOT (kind = 'final' \
    AND (epoch, slot) = (SELECT epoch, slot FROM ledger.certs WHERE kind = 'final' \
    ORDER BY epoch DESC, slot DESC LIMIT 1))";
/// Those that a start reads stay, whichever block is the last one then.
const DELETE_SEALS: &str = "DELETE FROM ledger.seals WHERE epoch < $1";
/// No block includes them any more (V6).
const DELETE_BATCHES: &str = "DELETE FROM ledger.batches WHERE height IS NULL AND (expiry_height < $1 OR epoch < $2)";
const DELETE_BODIES: &str = "DELETE FROM ledger.batches WHERE digest = ANY($1)";
const SNAPSHOT: &str = "INSERT INTO ledger.snapshot (part, height, state_root, results_root, leaves) \
    VALUES ($1, $2, $3, $4, $5)";
const DELETE_SNAPSHOT: &str = "DELETE FROM ledger.snapshot";
const RAISE_LOWEST: &str = "INSERT INTO ledger.meta AS old (name, value) VALUES ($1, $2) \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE old.value::bigint < excluded.value::bigint";
const HIGHEST_VOTE: &str = "SELECT epoch, slot FROM ledger.votes ORDER BY epoch DESC, slot DESC LIMIT 1";
/// Last in its transaction: votes wait for this row's lock.
const RAISE_FLOOR: &str = "UPDATE ledger.lease SET \
    (vote_floor_epoch, vote_floor_slot) = (SELECT * FROM (VALUES ($2::bigint, $3::bigint), \
        (vote_floor_epoch, vote_floor_slot)) AS f(epoch, slot) ORDER BY epoch DESC, slot DESC LIMIT 1), \
    (highest_vote_epoch, highest_vote_slot) = (SELECT * FROM (VALUES ($4::bigint, $5::bigint), \
        (highest_vote_epoch, highest_vote_slot)) AS h(epoch, slot) ORDER BY epoch DESC, slot DESC LIMIT 1) \
    WHERE id = 1 AND generation = $1";

/// A1, fenced like a vote (P7), under the row lock of the lease.
const MEMORY: &str = "WITH mine AS ( \
        UPDATE ledger.lease SET generation = $2 WHERE id = 1 AND generation = $1 RETURNING 1 \
    ), memory AS ( \
        INSERT INTO ledger.meta (name, value) SELECT $3, $4 FROM mine \
        ON CONFLICT (name) DO UPDATE SET value = excluded.value \
    ) SELECT count(*) FROM mine";

pub(super) async fn take_lease(connection: &mut PgConnection, holder: &str) -> Result<i64> {
    Ok(sqlx::query_scalar(TAKE_LEASE).bind(holder).fetch_one(connection).await?)
}

pub(super) async fn load(connection: &mut PgConnection) -> Result<LedgerSnapshot> {
    let mut tx = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let (floor_epoch, floor_slot): (i64, i64) =
        sqlx::query_as("SELECT vote_floor_epoch, vote_floor_slot FROM ledger.lease").fetch_one(&mut *tx).await?;
    let head: Option<rows::BlockRow> =
        sqlx::query_as("SELECT digest, header, signature, cert FROM ledger.blocks ORDER BY height DESC LIMIT 1")
            .fetch_optional(&mut *tx)
            .await?;
    let head = head.map(rows::block).transpose()?;
    let at = head.as_ref().map(|b| &b.candidate.header);
    let (height, epoch, slot) = at.map_or((0, 0, 0), |h| (sql(h.height), sql(h.epoch), sql(h.slot)));

    let final_cert: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT cert FROM ledger.certs WHERE kind = 'final' ORDER BY epoch DESC, slot DESC LIMIT 1")
            .fetch_optional(&mut *tx)
            .await?;
    let votes: Vec<rows::VoteRow> = sqlx::query_as(
        "SELECT epoch, slot, kind, digest, signer, signature FROM ledger.votes WHERE (epoch, slot) > ($1, $2) \
         ORDER BY epoch, slot, class",
    )
    .bind(floor_epoch)
    .bind(floor_slot)
    .fetch_all(&mut *tx)
    .await?;
    let certs: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT cert FROM ledger.certs WHERE kind = 'notar' ORDER BY epoch, slot")
            .fetch_all(&mut *tx)
            .await?;
    let candidates: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT candidate FROM ledger.candidates WHERE (epoch, slot) > ($1, $2) ORDER BY epoch, slot, digest",
    )
    .bind(epoch)
    .bind(slot)
    .fetch_all(&mut *tx)
    .await?;
    let batches: Vec<rows::BatchRow> = sqlx::query_as(
        "SELECT digest, epoch, author, size, tx_count, seq, expiry_height FROM ledger.batches \
         WHERE height IS NULL AND expiry_height > $1 ORDER BY expiry_height, digest",
    )
    .bind(height)
    .fetch_all(&mut *tx)
    .await?;
    let included: Vec<(String, i64)> = sqlx::query_as(
        "SELECT digest, expiry_height FROM ledger.batches WHERE height IS NOT NULL AND expiry_height >= $1",
    )
    .bind(height)
    .fetch_all(&mut *tx)
    .await?;
    let seals: Vec<Vec<u8>> = sqlx::query_scalar("SELECT seal FROM ledger.seals WHERE epoch >= $1 ORDER BY epoch")
        .bind(epoch - SEALS)
        .fetch_all(&mut *tx)
        .await?;
    let memory: Option<String> = sqlx::query_scalar("SELECT value FROM ledger.meta WHERE name = $1")
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

/// What a group of vote jobs writes, by position and class.
struct Group<'a> {
    votes: HashMap<(u64, u64, u8), &'a Vote>,
    candidates: Vec<&'a Candidate>,
    certs: Vec<&'a Cert>,
    seals: Vec<&'a Seal>,
}

impl<'a> Group<'a> {
    fn collect(jobs: &'a [VoteJob]) -> Result<Self> {
        let mut group = Group { votes: HashMap::new(), candidates: Vec::new(), certs: Vec::new(), seals: Vec::new() };
        for job in jobs {
            match job {
                VoteJob::Votes(votes) => votes.iter().try_for_each(|write| group.add(write))?,
                VoteJob::Cert(cert) => group.certs.push(cert),
                VoteJob::Seal(seal) => group.seals.push(seal),
            }
        }
        Ok(group)
    }

    fn is_empty(&self) -> bool {
        self.votes.is_empty() && self.candidates.is_empty() && self.certs.is_empty()
    }

    fn add(&mut self, write: &'a VoteWrite) -> Result<()> {
        let statement = &write.vote.statement;
        let class = statement.kind.class();
        let other = self.votes.insert((statement.epoch, statement.slot, class), &write.vote);
        if other.is_some_and(|other| other.statement != *statement) {
            return Err(StorageError::ConflictingVote { slot: statement.slot, class });
        }
        self.candidates.extend(&write.candidate);
        self.certs.extend(&write.cert);
        Ok(())
    }

    async fn insert(&self, connection: &mut PgConnection, generation: i64) -> Result<()> {
        let votes: Vec<&Vote> = self.votes.values().copied().collect();
        let lowest = votes.iter().map(|v| (sql(v.statement.epoch), sql(v.statement.slot))).min();
        let (floor_epoch, floor_slot) = lowest.unwrap_or((i64::MAX, i64::MAX));
        let candidates = &self.candidates;
        let certs = &self.certs;
        let mine: i64 = sqlx::query_scalar(VOTES)
            .bind(generation)
            .bind(floor_epoch)
            .bind(floor_slot)
            .bind(column(&votes, |v| sql(v.statement.epoch)))
            .bind(column(&votes, |v| sql(v.statement.slot)))
            .bind(column(&votes, |v| i64::from(v.statement.kind.class())))
            .bind(column(&votes, |v| v.statement.kind.name()))
            .bind(column(&votes, |v| v.statement.digest.to_string()))
            .bind(column(&votes, |v| i64::from(v.signer)))
            .bind(column(&votes, |v| v.signature.0.to_vec()))
            .bind(column(candidates, |c| sql(c.header.epoch)))
            .bind(column(candidates, |c| sql(c.header.slot)))
            .bind(column(candidates, |c| c.header.digest().to_string()))
            .bind(column(candidates, |c| sql(c.header.height)))
            .bind(column(candidates, |c| i64::from(c.header.proposer)))
            .bind(column(candidates, |c| codec::encode(*c)))
            .bind(column(certs, |c| sql(c.statement.epoch)))
            .bind(column(certs, |c| sql(c.statement.slot)))
            .bind(column(certs, |c| c.statement.kind.name()))
            .bind(column(certs, |c| c.statement.digest.to_string()))
            .bind(column(certs, |c| codec::encode(*c)))
            .fetch_one(&mut *connection)
            .await?;
        if mine == 1 {
            return Ok(());
        }
        check_lease(connection, generation).await?;
        // The lease is ours, so the floor is too high.
        let lowest = votes.iter().map(|v| &v.statement).min_by_key(|s| (s.epoch, s.slot));
        let (slot, class) = lowest.map_or((0, 0), |s| (s.slot, s.kind.class()));
        Err(StorageError::ConflictingVote { slot, class })
    }

    /// Leaves out votes that are in the table already.
    async fn drop_known(&mut self, connection: &mut PgConnection) -> Result<()> {
        let mut known = Vec::new();
        for (key, vote) in &self.votes {
            let (epoch, slot, class) = *key;
            let query = sqlx::query_as(VOTE).bind(sql(epoch)).bind(sql(slot)).bind(i64::from(class));
            let row: Option<(String, String)> = query.fetch_optional(&mut *connection).await?;
            let statement = &vote.statement;
            match row {
                None => {}
                Some((kind, digest)) if kind == statement.kind.name() && digest == statement.digest.to_string() => {
                    known.push(*key);
                }
                Some(_) => return Err(StorageError::ConflictingVote { slot, class }),
            }
        }
        known.iter().for_each(|key| {
            self.votes.remove(key);
        });
        Ok(())
    }
}

/// Ends of epochs, each in a transaction that holds the lease: no vote of the next epoch is asked for before it is answered.
async fn write_seals(connection: &mut PgConnection, seals: &[&Seal], generation: i64) -> Result<()> {
    if seals.is_empty() {
        return Ok(());
    }
    let mut tx = connection.begin().await?;
    check_lease(&mut tx, generation).await?;
    for seal in seals {
        let insert = sqlx::query(SEAL)
            .bind(sql(seal.header.epoch))
            .bind(sql(seal.header.height))
            .bind(seal.cert.statement.digest.to_string())
            .bind(codec::encode(*seal));
        if insert.execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(rows::another_seal(seal));
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Commits votes and certificates in one statement. A broken primary key undoes it; then the rows are read to tell
/// the same vote again, which is no error, from another one.
pub(super) async fn write_votes(connection: &mut PgConnection, jobs: &[VoteJob], generation: i64) -> Result<()> {
    let mut group = Group::collect(jobs)?;
    write_seals(connection, &group.seals, generation).await?;
    if group.is_empty() {
        return Ok(());
    }
    match group.insert(connection, generation).await {
        Err(StorageError::Database(cause))
            if cause.as_database_error().is_some_and(|cause| cause.is_unique_violation()) => {}
        outcome => return outcome,
    }
    check_lease(connection, generation).await?;
    group.drop_known(connection).await?;
    group.insert(connection, generation).await
}

pub(super) async fn write_data(connection: &mut PgConnection, jobs: &[DataJob], generation: i64) -> Result<()> {
    let (mut batches, mut blocks, mut prune, mut bodies) = (Vec::new(), Vec::new(), None, Vec::new());
    let (mut snapshots, mut forget_snapshot) = (Vec::new(), false);
    for job in jobs {
        match job {
            DataJob::Batches(writes) => batches.extend(writes),
            DataJob::Blocks(writes) => blocks.extend(writes),
            DataJob::Bodies { digests, lowest } => bodies.push((digests, *lowest)),
            DataJob::Snapshot(headers, snapshot) => snapshots.push((headers, snapshot)),
            DataJob::ForgetSnapshot => forget_snapshot = true,
            DataJob::Prune { floor, height } => prune = prune.max(Some((*floor, *height))),
        }
    }
    let others = prune.is_some() || !bodies.is_empty() || !snapshots.is_empty() || forget_snapshot;
    if blocks.is_empty() && !others {
        return insert_batches(connection, &batches, generation).await;
    }
    let mut tx = connection.begin().await?;
    if batches.is_empty() {
        check_lease(&mut tx, generation).await?;
    } else {
        insert_batches(&mut tx, &batches, generation).await?;
    }
    if !blocks.is_empty() {
        insert_blocks(&mut tx, &blocks).await?;
    }
    for (digests, lowest) in bodies {
        delete_bodies(&mut tx, digests, lowest).await?;
    }
    if forget_snapshot {
        sqlx::query(DELETE_SNAPSHOT).execute(&mut *tx).await?;
    }
    for (headers, snapshot) in snapshots {
        insert_snapshot(&mut tx, headers, snapshot).await?;
    }
    if let Some(((epoch, slot), height)) = prune {
        delete_old(&mut tx, (sql(epoch), sql(slot)), sql(height), generation).await?;
    }
    Ok(tx.commit().await?)
}

pub(super) async fn write_memory(connection: &mut PgConnection, memory: &Memory, ours: i64, next: i64) -> Result<()> {
    let mine: i64 = sqlx::query_scalar(MEMORY)
        .bind(ours)
        .bind(next)
        .bind(owner::MEMORY)
        .bind(owner::memory_text(memory)?)
        .fetch_one(&mut *connection)
        .await?;
    if mine == 1 { Ok(()) } else { check_lease(connection, ours).await }
}

async fn check_lease(connection: &mut PgConnection, ours: i64) -> Result<()> {
    let found: i64 =
        sqlx::query_scalar("SELECT generation FROM ledger.lease WHERE id = 1").fetch_one(connection).await?;
    if found == ours { Ok(()) } else { Err(super::fenced(ours, found)) }
}

async fn insert_batches(connection: &mut PgConnection, batches: &[&BatchWrite], generation: i64) -> Result<()> {
    let mut rows: Vec<BatchColumns> = batches.iter().map(|write| BatchColumns::from(*write)).collect();
    let bytes: Vec<Vec<u8>> = rows.iter_mut().map(|row| std::mem::take(&mut row.bytes)).collect();
    let mine: i64 = sqlx::query_scalar(BATCHES)
        .bind(generation)
        .bind(column(&rows, |r| r.digest.clone()))
        .bind(column(&rows, |r| r.epoch))
        .bind(column(&rows, |r| r.author))
        .bind(column(&rows, |r| r.seq))
        .bind(column(&rows, |r| r.expiry_height))
        .bind(column(&rows, |r| r.tx_count))
        .bind(column(&rows, |r| r.size))
        .bind(bytes)
        .fetch_one(&mut *connection)
        .await?;
    if mine == 1 { Ok(()) } else { check_lease(connection, generation).await }
}

async fn insert_blocks(tx: &mut Tx<'_>, blocks: &[&BlockWrite]) -> Result<()> {
    insert_headers(tx, blocks).await?;
    include(tx, blocks).await
}

/// The rows without what they say of batches.
async fn insert_headers(tx: &mut Tx<'_>, blocks: &[&BlockWrite]) -> Result<()> {
    let rows: Vec<BlockColumns> = blocks.iter().map(|write| BlockColumns::from(*write)).collect();
    let inserted = sqlx::query(BLOCKS)
        .bind(column(&rows, |r| r.height))
        .bind(column(&rows, |r| r.epoch))
        .bind(column(&rows, |r| r.slot))
        .bind(column(&rows, |r| r.digest.clone()))
        .bind(column(&rows, |r| r.parent.clone()))
        .bind(column(&rows, |r| r.time_ms))
        .bind(column(&rows, |r| r.proposer))
        .bind(column(&rows, |r| r.tx_count))
        .bind(column(&rows, |r| r.parent_state_root.clone()))
        .bind(column(&rows, |r| r.header.clone()))
        .bind(column(&rows, |r| r.signature.clone()))
        .bind(column(&rows, |r| r.cert.clone()))
        .execute(&mut **tx)
        .await?;
    if inserted.rows_affected() != rows.len() as u64 {
        check_known(tx, &rows).await?;
    }
    Ok(())
}

/// Blocks that were there before must be the same ones.
async fn check_known(tx: &mut Tx<'_>, rows: &[BlockColumns]) -> Result<()> {
    let query = sqlx::query_as("SELECT height, digest FROM ledger.blocks WHERE height = ANY($1)");
    let found: Vec<(i64, String)> = query.bind(column(rows, |r| r.height)).fetch_all(&mut **tx).await?;
    let found: HashMap<i64, String> = found.into_iter().collect();
    rows.iter().try_for_each(|r| rows::same_block(r.height, &r.digest, found.get(&r.height).map(String::as_str)))
}

/// Marks the blocks' batches.
async fn include(tx: &mut Tx<'_>, blocks: &[&BlockWrite]) -> Result<()> {
    let named: Vec<(String, i64)> = blocks
        .iter()
        .map(|write| &write.candidate.header)
        .flat_map(|header| header.batches.iter().map(|b| (b.digest.to_string(), sql(header.height))))
        .collect();
    let Some((_, last)) = named.last() else { return Ok(()) };
    let marked = sqlx::query(INCLUDE)
        .bind(column(&named, |(digest, _)| digest.clone()))
        .bind(column(&named, |(_, height)| *height))
        .execute(&mut **tx)
        .await?
        .rows_affected();
    rows::all_there(*last, named.len(), marked)
}

async fn delete_bodies(tx: &mut Tx<'_>, digests: &[Hash], lowest: u64) -> Result<()> {
    sqlx::query(DELETE_BODIES).bind(column(digests, Hash::to_string)).execute(&mut **tx).await?;
    raise_lowest(tx, lowest).await
}

async fn raise_lowest(tx: &mut Tx<'_>, lowest: u64) -> Result<()> {
    sqlx::query(RAISE_LOWEST).bind(owner::LOWEST).bind(lowest.to_string()).execute(&mut **tx).await?;
    Ok(())
}

async fn insert_snapshot(tx: &mut Tx<'_>, headers: &[BlockWrite], snapshot: &StoredSnapshot) -> Result<()> {
    let height = sql(snapshot.height);
    let head: Option<i64> = sqlx::query_scalar("SELECT max(height) FROM ledger.blocks").fetch_one(&mut **tx).await?;
    if head >= Some(height) {
        return Ok(());
    }
    sqlx::query(DELETE_SNAPSHOT).execute(&mut **tx).await?;
    insert_headers(tx, &headers.iter().collect::<Vec<_>>()).await?;
    raise_lowest(tx, snapshot.height + 1).await?;
    let (state_root, results_root) = (snapshot.state_root.to_string(), snapshot.results_root.to_string());
    for (part, leaves) in (0i64..).zip(&snapshot.parts) {
        let query =
            sqlx::query(SNAPSHOT).bind(part).bind(height).bind(&state_root).bind(&results_root).bind(&leaves[..]);
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

async fn delete_old(tx: &mut Tx<'_>, floor: (i64, i64), height: i64, generation: i64) -> Result<()> {
    let (epoch, slot) = floor;
    let highest: Option<(i64, i64)> = sqlx::query_as(HIGHEST_VOTE).fetch_optional(&mut **tx).await?;
    for delete in [DELETE_VOTES, DELETE_CANDIDATES, DELETE_CERTS] {
        sqlx::query(delete).bind(epoch).bind(slot).execute(&mut **tx).await?;
    }
    sqlx::query(DELETE_SEALS).bind(epoch - SEALS - 1).execute(&mut **tx).await?;
    sqlx::query(DELETE_BATCHES).bind(height).bind(epoch - 1).execute(&mut **tx).await?;
    let (highest_epoch, highest_slot) = highest.unwrap_or((0, 0));
    let raise = sqlx::query(RAISE_FLOOR).bind(generation).bind(epoch).bind(slot).bind(highest_epoch).bind(highest_slot);
    let raised = raise.execute(&mut **tx).await?;
    if raised.rows_affected() == 1 { Ok(()) } else { check_lease(tx, generation).await }
}

fn column<T, C>(rows: &[T], value: impl Fn(&T) -> C) -> Vec<C> {
    rows.iter().map(value).collect()
}
