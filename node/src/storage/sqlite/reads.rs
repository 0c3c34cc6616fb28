//! Reads, each on a connection of the readers' pools.

use super::super::backend::{BlockId, SENDER_SCAN};
use super::super::rows::{self, sql};
use super::super::{Result, StoredBlock, TransactionRow};
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use sqlx::sqlite::SqlitePool;

pub(super) async fn block(pool: &SqlitePool, id: BlockId) -> Result<Option<StoredBlock>> {
    let row: Option<rows::BlockRow> = match id {
        BlockId::Height(height) => {
            sqlx::query_as("SELECT digest, header, signature, cert FROM blocks WHERE height = ?1")
                .bind(sql(height))
                .fetch_optional(pool)
                .await?
        }
        BlockId::Digest(digest) => {
            sqlx::query_as("SELECT digest, header, signature, cert FROM blocks WHERE digest = ?1")
                .bind(digest.to_string())
                .fetch_optional(pool)
                .await?
        }
    };
    row.map(rows::block).transpose()
}

pub(super) async fn block_range(pool: &SqlitePool, from: u64, to: u64, limit: u32) -> Result<Vec<StoredBlock>> {
    let rows: Vec<rows::BlockRow> = sqlx::query_as(
        "SELECT digest, header, signature, cert FROM blocks WHERE height BETWEEN ?1 AND ?2 ORDER BY height LIMIT ?3",
    )
    .bind(sql(from))
    .bind(sql(to))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(rows::block).collect()
}

pub(super) async fn batch_bytes(pool: &SqlitePool, digests: &[Hash]) -> Result<Vec<(Hash, Vec<u8>)>> {
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
        "SELECT digest, bytes FROM batches JOIN batch_bytes USING (id) \
         WHERE digest IN (SELECT value FROM json_each(?1))",
    )
    .bind(rows::json_list(digests.iter()))
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|(digest, bytes)| Ok((rows::hash(&digest)?, bytes))).collect()
}

pub(super) async fn transaction(pool: &SqlitePool, id: Hash) -> Result<Option<TransactionRow>> {
    let row: Option<rows::OutcomeRow> =
        sqlx::query_as("SELECT id, height, idx, code, sender, nonce, batch FROM transactions WHERE id = ?1")
            .bind(&id.0[..])
            .fetch_optional(pool)
            .await?;
    row.map(rows::transaction).transpose()
}

pub(super) async fn transactions(
    pool: &SqlitePool,
    sender: Option<Address>,
    limit: u32,
    offset: u32,
) -> Result<Vec<TransactionRow>> {
    let rows: Vec<rows::OutcomeRow> = match sender {
        Some(sender) => {
            sqlx::query_as(
                "SELECT id, height, idx, code, sender, nonce, batch FROM \
                 (SELECT * FROM transactions ORDER BY place DESC LIMIT ?4) \
                 WHERE sender = ?3 ORDER BY place DESC LIMIT ?1 OFFSET ?2",
            )
            .bind(i64::from(limit))
            .bind(i64::from(offset))
            .bind(sender.to_string())
            .bind(SENDER_SCAN)
            .fetch_all(pool)
            .await?
        }
        None => {
            sqlx::query_as(
                "SELECT id, height, idx, code, sender, nonce, batch FROM transactions \
                 ORDER BY place DESC LIMIT ?1 OFFSET ?2",
            )
            .bind(i64::from(limit))
            .bind(i64::from(offset))
            .fetch_all(pool)
            .await?
        }
    };
    rows.into_iter().map(rows::transaction).collect()
}

pub(super) async fn block_transactions(pool: &SqlitePool, height: u64) -> Result<Vec<TransactionRow>> {
    // A range of `place`, which is the key; `height` is computed from it and has no index.
    let rows: Vec<rows::OutcomeRow> = sqlx::query_as(
        "SELECT id, height, idx, code, sender, nonce, batch FROM transactions \
         WHERE place BETWEEN ?1 << 20 AND (?1 << 20) + 1048575 ORDER BY place",
    )
    .bind(sql(height))
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(rows::transaction).collect()
}
