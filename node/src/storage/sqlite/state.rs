//! The state: written in few big statements.

use super::super::rows::{self, AccountRow, AddressTexts, AppliedRow, RecordRow, sql};
use super::super::{ReceiptRow, Result, StateWrite, TransactionRow, Undo};
use super::many::{self, statements};
use super::{BEGIN, Sqlite};
use aitbc_core::codec;
use aitbc_core::key::Address;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Sqlite as Driver, Transaction};
use std::sync::{Arc, LazyLock};

type Tx<'c> = Transaction<'c, Driver>;

static ACCOUNTS: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let end = "ON CONFLICT DO UPDATE SET balance = excluded.balance, nonce = excluded.nonce";
    statements("INSERT INTO accounts (address, balance, nonce) VALUES", "(?, ?, ?)", end)
});
static RECORDS: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let end = "ON CONFLICT DO UPDATE SET value = excluded.value";
    statements("INSERT INTO records (key, value) VALUES", "(?, ?)", end)
});
static RECORDS_GONE: LazyLock<Vec<Arc<str>>> =
    LazyLock::new(|| statements("DELETE FROM records WHERE key IN (", "?", ")"));
static TRANSACTIONS: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let start = "INSERT INTO transactions (number, height, idx, code, sender, nonce, id, batch) VALUES";
    statements(start, "(?, ?, ?, ?, ?, ?, ?, ?)", "")
});
static RECEIPTS: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let start = "INSERT INTO receipts \
        (place, height, idx, time_ms, receipt_id, job_id, provider, client, units, minted, receipt) VALUES";
    statements(start, "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "")
});

const APPLY: &str = "UPDATE applied SET generation = ?1, height = ?2, state_root = ?3, results_root = ?4, \
    transactions = transactions + ?5 WHERE id = 1 AND generation <= ?1 AND height < ?2 RETURNING transactions";
const RESET: &str = "UPDATE applied SET generation = ?1, height = ?2, state_root = ?3, results_root = ?4, \
    transactions = ?5 WHERE id = 1 AND generation <= ?1 RETURNING transactions";

const UNDO: &str = "INSERT INTO undo (id, height, changes) \
    SELECT 1, ?1, ?2 FROM applied WHERE id = 1 AND generation = ?3 AND height = ?1 \
    ON CONFLICT (id) DO UPDATE SET height = excluded.height, changes = excluded.changes";

pub(super) async fn write_undo(connection: &mut SqliteConnection, undo: &Undo, generation: i64) -> Result<bool> {
    let query = sqlx::query(UNDO).bind(sql(undo.height)).bind(codec::encode(undo)).bind(generation);
    Ok(query.execute(connection).await?.rows_affected() > 0)
}

/// From now on writers of older leases are refused.
pub(super) async fn fence(connection: &mut SqliteConnection, generation: i64) -> Result<()> {
    let query = sqlx::query("UPDATE applied SET generation = ?1 WHERE id = 1 AND generation < ?1").bind(generation);
    query.execute(connection).await?;
    Ok(())
}

pub(in super::super) async fn load(connection: &mut SqliteConnection) -> Result<Option<StateWrite>> {
    let mut tx = connection.begin().await?;
    let applied: AppliedRow =
        sqlx::query_as("SELECT height, state_root, results_root FROM applied").fetch_one(&mut *tx).await?;
    let accounts: Vec<AccountRow> =
        sqlx::query_as("SELECT address, balance, nonce FROM accounts").fetch_all(&mut *tx).await?;
    let records: Vec<RecordRow> = sqlx::query_as("SELECT key, value FROM records").fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows::state(applied, accounts, records)
}

/// Writes the log back, which syncs both files; done only where all of it was.
pub(super) async fn flush(connection: &mut SqliteConnection) -> Result<Option<u64>> {
    let height: Option<i64> = sqlx::query_scalar("SELECT height FROM applied").fetch_one(&mut *connection).await?;
    let (busy, log, written): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(connection).await?;
    Ok(height.filter(|_| busy == 0 && log == written).map(rows::number))
}

pub(super) async fn forget(connection: &mut SqliteConnection, below: u64) -> Result<()> {
    let mut tx = connection.begin_with(BEGIN).await?;
    sqlx::query("DELETE FROM transactions WHERE height < ?1").bind(sql(below)).execute(&mut *tx).await?;
    sqlx::query("DELETE FROM receipts WHERE place < ?1 << 20").bind(sql(below)).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

impl Sqlite {
    pub(super) async fn apply(&self, connection: &mut SqliteConnection, write: &StateWrite) -> Result<()> {
        let mut tx = connection.begin_with(BEGIN).await?;
        let Some(number) = mark(&mut tx, APPLY, self.generation(), write).await? else {
            return self.explain_apply(&mut tx, write).await;
        };
        insert(&mut tx, write, number).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn reset(&self, connection: &mut SqliteConnection, state: &StateWrite) -> Result<()> {
        let mut tx = connection.begin_with(BEGIN).await?;
        let Some(number) = mark(&mut tx, RESET, self.generation(), state).await? else {
            return self.explain_apply(&mut tx, state).await;
        };
        sqlx::query("DELETE FROM accounts").execute(&mut *tx).await?;
        sqlx::query("DELETE FROM records").execute(&mut *tx).await?;
        sqlx::query("DELETE FROM transactions").execute(&mut *tx).await?;
        sqlx::query("DELETE FROM receipts").execute(&mut *tx).await?;
        insert(&mut tx, state, number).await?;
        Ok(tx.commit().await?)
    }

    /// Why `applied` did not move: fenced, never begun, or there already, which is no error.
    async fn explain_apply(&self, tx: &mut Tx<'_>, write: &StateWrite) -> Result<()> {
        let (generation, height): (i64, Option<i64>) =
            sqlx::query_as("SELECT generation, height FROM applied").fetch_one(&mut **tx).await?;
        if generation > self.generation() {
            return Err(self.fenced(generation));
        }
        rows::applied_before(height, write.height)
    }
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

async fn insert(tx: &mut Tx<'_>, write: &StateWrite, mut number: i64) -> Result<()> {
    let mut texts = AddressTexts::default();
    many::execute(tx, &ACCOUNTS, &write.accounts, |query, (address, balance, nonce): &(Address, u64, u64)| {
        query.bind(texts.get(*address).to_owned()).bind(sql(*balance)).bind(sql(*nonce))
    })
    .await?;
    let (written, gone) = rows::records(&write.records);
    many::execute(tx, &RECORDS, &written, |query, (key, value)| query.bind(key.clone()).bind(value.clone())).await?;
    many::execute(tx, &RECORDS_GONE, &gone, |query, key| query.bind(key.clone())).await?;
    many::execute(tx, &TRANSACTIONS, &write.transactions, |query, row: &TransactionRow| {
        number += 1;
        query
            .bind(number - 1)
            .bind(sql(row.height))
            .bind(i64::from(row.index))
            .bind(i64::from(row.code))
            .bind(texts.get(row.sender).to_owned())
            .bind(sql(row.nonce))
            .bind(row.id.0.to_vec())
            .bind(row.batch.0.to_vec())
    })
    .await?;
    many::execute(tx, &RECEIPTS, &write.receipts, |query, row: &ReceiptRow| {
        let receipt = &row.attested.receipt;
        query
            .bind(rows::place(row))
            .bind(sql(row.height))
            .bind(i64::from(row.index))
            .bind(sql(row.time_ms))
            .bind(receipt.receipt_id.to_string())
            .bind(receipt.job_id.to_string())
            .bind(texts.get(receipt.provider.address()).to_owned())
            .bind(texts.get(receipt.client).to_owned())
            .bind(sql(receipt.units))
            .bind(sql(row.minted))
            .bind(codec::encode(&row.attested))
    })
    .await?;
    Ok(())
}
