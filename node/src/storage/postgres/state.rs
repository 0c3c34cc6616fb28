//! The state, written by arrays: one statement for accounts, one for transactions.

use super::super::rows::{self, AccountRow, AddressTexts, AppliedRow, RecordRow, sql};
use super::super::{ReceiptRow, Result, StateWrite, Undo};
use aitbc_core::codec;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres as Driver, Transaction};

type Tx<'c> = Transaction<'c, Driver>;

const APPLY: &str = "UPDATE state.applied SET generation = $1, height = $2, state_root = $3, results_root = $4, \
    transactions = transactions + $5 WHERE id = 1 AND generation <= $1 AND height < $2 RETURNING transactions";
const RESET: &str = "UPDATE state.applied SET generation = $1, height = $2, state_root = $3, results_root = $4, \
    transactions = $5 WHERE id = 1 AND generation <= $1 RETURNING transactions";
const ACCOUNTS: &str = "INSERT INTO state.accounts (address, balance, nonce) \
    SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[]) \
    ON CONFLICT (address) DO UPDATE SET balance = excluded.balance, nonce = excluded.nonce";
const RECORDS: &str = "INSERT INTO state.records (key, value) SELECT * FROM UNNEST($1::bytea[], $2::bytea[]) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const RECORDS_GONE: &str = "DELETE FROM state.records WHERE key = ANY($1)";
const TRANSACTIONS: &str = "INSERT INTO state.transactions (number, height, idx, code, sender, nonce, id, batch) \
    SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::integer[], $4::smallint[], $5::text[], $6::bigint[], \
    $7::bytea[], $8::bytea[])";
const RECEIPTS: &str = "INSERT INTO state.receipts \
    (place, height, idx, time_ms, receipt_id, job_id, provider, client, units, minted, receipt) \
    SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], \
    $8::text[], $9::bigint[], $10::bigint[], $11::bytea[])";

const UNDO: &str = "INSERT INTO state.undo (id, height, changes) \
    SELECT 1, $1, $2 FROM state.applied WHERE id = 1 AND generation = $3 AND height = $1 \
    ON CONFLICT (id) DO UPDATE SET height = excluded.height, changes = excluded.changes";

pub(super) async fn write_undo(connection: &mut PgConnection, undo: &Undo, generation: i64) -> Result<bool> {
    let query = sqlx::query(UNDO).bind(sql(undo.height)).bind(codec::encode(undo)).bind(generation);
    Ok(query.execute(connection).await?.rows_affected() > 0)
}

/// From now on writers of older leases are refused.
pub(super) async fn fence(connection: &mut PgConnection, generation: i64) -> Result<()> {
    sqlx::query("UPDATE state.applied SET generation = $1 WHERE id = 1 AND generation < $1")
        .bind(generation)
        .execute(connection)
        .await?;
    Ok(())
}

pub(in super::super) async fn load(connection: &mut PgConnection) -> Result<Option<StateWrite>> {
    let mut tx = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let applied: AppliedRow =
        sqlx::query_as("SELECT height, state_root, results_root FROM state.applied").fetch_one(&mut *tx).await?;
    let accounts: Vec<AccountRow> =
        sqlx::query_as("SELECT address, balance, nonce FROM state.accounts").fetch_all(&mut *tx).await?;
    let records: Vec<RecordRow> = sqlx::query_as("SELECT key, value FROM state.records").fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows::state(applied, accounts, records)
}

pub(super) async fn apply(connection: &mut PgConnection, write: &StateWrite, generation: i64) -> Result<()> {
    let mut tx = connection.begin().await?;
    let Some(number) = mark(&mut tx, APPLY, generation, write).await? else {
        return explain(&mut tx, write, generation).await;
    };
    insert(&mut tx, write, number).await?;
    Ok(tx.commit().await?)
}

pub(super) async fn reset(connection: &mut PgConnection, state: &StateWrite, generation: i64) -> Result<()> {
    let mut tx = connection.begin().await?;
    let Some(number) = mark(&mut tx, RESET, generation, state).await? else {
        return explain(&mut tx, state, generation).await;
    };
    sqlx::query("TRUNCATE state.accounts, state.records, state.transactions, state.receipts").execute(&mut *tx).await?;
    insert(&mut tx, state, number).await?;
    Ok(tx.commit().await?)
}

/// A commit that waits for the disk takes all before it along; it must have something to write.
pub(super) async fn flush(connection: &mut PgConnection) -> Result<Option<u64>> {
    let mut tx = connection.begin().await?;
    sqlx::raw_sql("SET LOCAL synchronous_commit = on").execute(&mut *tx).await?;
    let height: Option<i64> =
        sqlx::query_scalar("UPDATE state.applied SET generation = generation WHERE id = 1 RETURNING height")
            .fetch_one(&mut *tx)
            .await?;
    tx.commit().await?;
    Ok(height.map(rows::number))
}

pub(super) async fn forget(connection: &mut PgConnection, below: u64) -> Result<()> {
    let mut tx = connection.begin().await?;
    sqlx::query("DELETE FROM state.transactions WHERE height < $1").bind(sql(below)).execute(&mut *tx).await?;
    sqlx::query("DELETE FROM state.receipts WHERE place < $1::bigint << 20").bind(sql(below)).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Moves `applied`, if it may; gives the number of the first new transaction.
async fn mark(tx: &mut Tx<'_>, statement: &'static str, generation: i64, write: &StateWrite) -> Result<Option<i64>> {
    let new = sql(write.transactions.len() as u64);
    let query = sqlx::query_scalar(statement)
        .bind(generation)
        .bind(sql(write.height))
        .bind(write.state_root.to_string())
        .bind(write.results_root.to_string())
        .bind(new);
    let all: Option<i64> = query.fetch_optional(&mut **tx).await?;
    Ok(all.map(|all| all - new))
}

/// Why `applied` did not move: fenced, never begun, or there already, which is no error.
async fn explain(tx: &mut Tx<'_>, write: &StateWrite, ours: i64) -> Result<()> {
    let (generation, height): (i64, Option<i64>) =
        sqlx::query_as("SELECT generation, height FROM state.applied").fetch_one(&mut **tx).await?;
    if generation > ours {
        return Err(super::fenced(ours, generation));
    }
    rows::applied_before(height, write.height)
}

async fn insert(tx: &mut Tx<'_>, write: &StateWrite, number: i64) -> Result<()> {
    let mut texts = AddressTexts::default();
    let accounts = &write.accounts;
    if !accounts.is_empty() {
        sqlx::query(ACCOUNTS)
            .bind(accounts.iter().map(|(address, ..)| texts.get(*address).to_owned()).collect::<Vec<_>>())
            .bind(accounts.iter().map(|(_, balance, _)| sql(*balance)).collect::<Vec<_>>())
            .bind(accounts.iter().map(|(.., nonce)| sql(*nonce)).collect::<Vec<_>>())
            .execute(&mut **tx)
            .await?;
    }
    let (written, gone) = rows::records(&write.records);
    if !written.is_empty() {
        let (keys, values): (Vec<_>, Vec<_>) = written.into_iter().unzip();
        sqlx::query(RECORDS).bind(keys).bind(values).execute(&mut **tx).await?;
    }
    if !gone.is_empty() {
        sqlx::query(RECORDS_GONE).bind(gone).execute(&mut **tx).await?;
    }
    let rows = &write.transactions;
    if !rows.is_empty() {
        sqlx::query(TRANSACTIONS)
            .bind((number..).take(rows.len()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| sql(row.height)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| i32::try_from(row.index).unwrap_or(i32::MAX)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| i16::try_from(row.code).unwrap_or(i16::MAX)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| texts.get(row.sender).to_owned()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| sql(row.nonce)).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| &row.id.0[..]).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| &row.batch.0[..]).collect::<Vec<_>>())
            .execute(&mut **tx)
            .await?;
    }
    insert_receipts(tx, &write.receipts, &mut texts).await
}

async fn insert_receipts(tx: &mut Tx<'_>, minted: &[ReceiptRow], texts: &mut AddressTexts) -> Result<()> {
    if minted.is_empty() {
        return Ok(());
    }
    let receipts = || minted.iter().map(|row| &row.attested.receipt);
    sqlx::query(RECEIPTS)
        .bind(minted.iter().map(rows::place).collect::<Vec<_>>())
        .bind(minted.iter().map(|row| sql(row.height)).collect::<Vec<_>>())
        .bind(minted.iter().map(|row| i64::from(row.index)).collect::<Vec<_>>())
        .bind(minted.iter().map(|row| sql(row.time_ms)).collect::<Vec<_>>())
        .bind(receipts().map(|receipt| receipt.receipt_id.to_string()).collect::<Vec<_>>())
        .bind(receipts().map(|receipt| receipt.job_id.to_string()).collect::<Vec<_>>())
        .bind(receipts().map(|receipt| texts.get(receipt.provider.address()).to_owned()).collect::<Vec<_>>())
        .bind(receipts().map(|receipt| texts.get(receipt.client).to_owned()).collect::<Vec<_>>())
        .bind(receipts().map(|receipt| sql(receipt.units)).collect::<Vec<_>>())
        .bind(minted.iter().map(|row| sql(row.minted)).collect::<Vec<_>>())
        .bind(minted.iter().map(|row| codec::encode(&row.attested)).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
