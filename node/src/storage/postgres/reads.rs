//! Reads, each on a connection of the readers' pool.

use super::super::backend::{BlockId, EVIDENCE_SCAN, RECEIPT_COUNT, SENDER_SCAN, SNAPSHOT_PARTS};
use super::super::rows::{self, sql};
use super::super::{ReceiptRow, ReceiptsOf, Result, StoredBlock, StoredSnapshot, TransactionRow, Undo, owner};
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::params::MAX_EXPIRY_AHEAD;
use aitbc_core::record::{Record, RecordKey};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;

/// Of the lease, whoever holds it.
pub(super) async fn generation(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT generation FROM ledger.lease WHERE id = 1").fetch_one(pool).await?)
}

pub(super) async fn lowest(pool: &PgPool) -> Result<u64> {
    let query = sqlx::query_scalar("SELECT value FROM ledger.meta WHERE name = $1").bind(owner::LOWEST);
    let value: Option<String> = query.fetch_optional(pool).await?;
    owner::lowest(value.as_deref())
}

pub(super) async fn snapshot(pool: &PgPool, from: u64) -> Result<Option<StoredSnapshot>> {
    let query = "SELECT height, state_root, results_root, leaves FROM ledger.snapshot \
        WHERE part >= $1 ORDER BY part LIMIT $2";
    rows::snapshot(sqlx::query_as(query).bind(sql(from)).bind(SNAPSHOT_PARTS).fetch_all(pool).await?)
}

/// A batch expires at most so many blocks above its own: the index on that ends the search.
const BATCHES_BELOW: &str = "SELECT digest, size FROM ledger.batches \
    WHERE height IS NOT NULL AND expiry_height < $1 + $2 AND height < $1 ORDER BY expiry_height LIMIT $3";

pub(super) async fn batches_below(pool: &PgPool, height: u64, limit: u32) -> Result<Vec<(Hash, u64)>> {
    let query = sqlx::query_as(BATCHES_BELOW).bind(sql(height)).bind(sql(MAX_EXPIRY_AHEAD)).bind(i64::from(limit));
    let found: Vec<(String, i64)> = query.fetch_all(pool).await?;
    found.into_iter().map(rows::numbered).collect()
}

pub(super) async fn block(pool: &PgPool, id: &BlockId) -> Result<Option<StoredBlock>> {
    let row: Option<rows::BlockRow> = match id {
        BlockId::Height(height) => {
            sqlx::query_as("SELECT digest, header, signature, cert FROM ledger.blocks WHERE height = $1")
                .bind(sql(*height))
                .fetch_optional(pool)
                .await?
        }
        BlockId::Digest(digest) => {
            sqlx::query_as("SELECT digest, header, signature, cert FROM ledger.blocks WHERE digest = $1")
                .bind(digest.to_string())
                .fetch_optional(pool)
                .await?
        }
    };
    row.map(rows::block).transpose()
}

pub(super) async fn block_range(pool: &PgPool, from: u64, to: u64, limit: u32) -> Result<Vec<StoredBlock>> {
    let rows: Vec<rows::BlockRow> = sqlx::query_as(
        "SELECT digest, header, signature, cert FROM ledger.blocks WHERE height BETWEEN $1 AND $2 \
         ORDER BY height LIMIT $3",
    )
    .bind(sql(from))
    .bind(sql(to))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(rows::block).collect()
}

/// Rows of blocks, all columns, for an audit.
pub(in super::super) async fn block_rows(
    pool: &PgPool,
    from: u64,
    to: u64,
    limit: u32,
) -> Result<Vec<rows::BlockColumns>> {
    let query = sqlx::query_as("SELECT * FROM ledger.blocks WHERE height BETWEEN $1 AND $2 ORDER BY height LIMIT $3");
    Ok(query.bind(sql(from)).bind(sql(to)).bind(i64::from(limit)).fetch_all(pool).await?)
}

pub(in super::super) async fn batch_bytes(pool: &PgPool, digests: &[Hash]) -> Result<Vec<(Hash, Vec<u8>)>> {
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    let texts: Vec<String> = digests.iter().map(Hash::to_string).collect();
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT digest, bytes FROM ledger.batches WHERE digest = ANY($1)")
            .bind(texts)
            .fetch_all(pool)
            .await?;
    rows.into_iter().map(|(digest, bytes)| Ok((rows::hash(&digest)?, bytes))).collect()
}

/// Looks into each run of the index that was not deleted; the first row counts. LATERAL with LIMIT keeps it a search per run.
const TRANSACTION: &str = "SELECT t.id, t.height, t.idx::bigint, t.code::bigint, t.sender, t.nonce, t.batch \
    FROM generate_series((SELECT coalesce(min(number), 0) >> 16 FROM state.transactions), \
        (SELECT transactions >> 16 FROM state.applied)) AS run, LATERAL ( \
        SELECT * FROM state.transactions AS t \
        WHERE t.number >> 16 = run AND substr(t.id, 1, 8) = substr($1, 1, 8) AND t.id = $1 ORDER BY number LIMIT 1 \
    ) AS t ORDER BY run LIMIT 1";
const TRANSACTIONS: &str = "SELECT id, height, idx::bigint, code::bigint, sender, nonce, batch \
    FROM state.transactions ORDER BY number DESC LIMIT $1 OFFSET $2";
const TRANSACTIONS_OF: &str = "SELECT id, height, idx::bigint, code::bigint, sender, nonce, batch \
    FROM state.transactions WHERE sender = $3 AND number >= (SELECT transactions - $4 FROM state.applied) \
    ORDER BY number DESC LIMIT $1 OFFSET $2";

pub(super) async fn transaction(pool: &PgPool, id: Hash) -> Result<Option<TransactionRow>> {
    let row: Option<rows::OutcomeRow> = sqlx::query_as(TRANSACTION).bind(&id.0[..]).fetch_optional(pool).await?;
    row.map(rows::transaction).transpose()
}

pub(super) async fn transactions(
    pool: &PgPool,
    sender: Option<Address>,
    limit: u32,
    offset: u32,
) -> Result<Vec<TransactionRow>> {
    let (limit, offset) = (i64::from(limit), i64::from(offset));
    let rows: Vec<rows::OutcomeRow> = match sender {
        Some(sender) => {
            let query = sqlx::query_as(TRANSACTIONS_OF).bind(limit).bind(offset).bind(sender.to_string());
            query.bind(SENDER_SCAN).fetch_all(pool).await?
        }
        None => sqlx::query_as(TRANSACTIONS).bind(limit).bind(offset).fetch_all(pool).await?,
    };
    rows.into_iter().map(rows::transaction).collect()
}

pub(super) async fn block_transactions(pool: &PgPool, height: u64) -> Result<Vec<TransactionRow>> {
    let rows: Vec<rows::OutcomeRow> = sqlx::query_as(
        "SELECT id, height, idx::bigint, code::bigint, sender, nonce, batch FROM state.transactions \
         WHERE height = $1 ORDER BY idx",
    )
    .bind(sql(height))
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(rows::transaction).collect()
}

pub(super) async fn transaction_count(pool: &PgPool) -> Result<u64> {
    let count: i64 = sqlx::query_scalar("SELECT transactions FROM state.applied").fetch_one(pool).await?;
    Ok(rows::number(count))
}

pub(super) async fn receipts(
    pool: &PgPool,
    of: &ReceiptsOf,
    limit: u32,
    offset: u32,
) -> Result<(Vec<ReceiptRow>, u64)> {
    let (column, value) = rows::receipts_of(of).unwrap_or(("''::text", String::new()));
    // The column is one of a few fixed words.
    let count = format!("SELECT count(*) FROM (SELECT 1 FROM state.receipts WHERE {column} = $1 LIMIT $2) AS found");
    let count = sqlx::query_scalar(AssertSqlSafe(count)).bind(value.clone()).bind(RECEIPT_COUNT);
    let total: i64 = count.fetch_one(pool).await?;
    let page = format!(
        "SELECT height, idx, time_ms, minted, receipt FROM state.receipts WHERE {column} = $1 \
         ORDER BY place DESC LIMIT $2 OFFSET $3"
    );
    let page = sqlx::query_as(AssertSqlSafe(page)).bind(value).bind(i64::from(limit)).bind(i64::from(offset));
    let found: Vec<rows::ReceiptColumns> = page.fetch_all(pool).await?;
    Ok((found.into_iter().map(rows::receipt).collect::<Result<_>>()?, rows::number(total)))
}

pub(super) async fn undo(pool: &PgPool) -> Result<Option<Undo>> {
    let changes: Option<Vec<u8>> = sqlx::query_scalar("SELECT changes FROM state.undo").fetch_optional(pool).await?;
    changes.map(|changes| rows::decode("undo", &changes)).transpose()
}

/// Keys of evidence begin with a zero byte: one range of the index, however much else there is.
const EVIDENCE: &str = "SELECT height, key, value FROM state.applied \
    LEFT JOIN state.records ON key >= '\\x00'::bytea AND key < '\\x01'::bytea ORDER BY key LIMIT $1";

pub(super) async fn evidence(pool: &PgPool) -> Result<(u64, Vec<(RecordKey, Record)>)> {
    rows::evidence(sqlx::query_as(EVIDENCE).bind(EVIDENCE_SCAN).fetch_all(pool).await?)
}
