//! A validator's database read from outside, as an auditor would: blocks, votes and balances by plain SQL.

use aitbc_core::codec;
use aitbc_core::hash::Hash;
use aitbc_core::record::Record;
use anyhow::{Context, Result, bail};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{PgPool, Row, SqlitePool};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for a connection: a killed server answers no more.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A row of the votes table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRow {
    /// Who voted.
    pub signer: i64,
    /// Where.
    pub epoch: i64,
    /// Where.
    pub slot: i64,
    /// 0 notar, 1 skip or final.
    pub class: i64,
    /// notar, skip, final.
    pub kind: String,
    /// For what.
    pub digest: String,
    /// Lease under which it was written.
    pub generation: i64,
}

/// Reads one validator's database.
#[derive(Clone)]
pub enum LedgerReader {
    /// Ledger and state files.
    Sqlite {
        /// The truth.
        ledger: SqlitePool,
        /// The projection.
        state: SqlitePool,
    },
    /// Both schemas.
    Postgres(PgPool),
}

impl LedgerReader {
    /// Of a node's `DATABASE_URL`. Connects when it is used.
    ///
    /// # Errors
    /// Where the URL is of no known kind.
    pub fn open(url: &str) -> Result<LedgerReader> {
        if let Some(path) = url.strip_prefix("sqlite:///") {
            let file = |path: String| {
                let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(CONNECT_LIMIT);
                SqlitePoolOptions::new().max_connections(1).acquire_timeout(CONNECT_LIMIT).connect_lazy_with(options)
            };
            return Ok(LedgerReader::Sqlite { ledger: file(path.to_owned()), state: file(state_path(path)) });
        }
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_LIMIT).connect_lazy(url);
        Ok(LedgerReader::Postgres(pool.with_context(|| format!("database URL {url}"))?))
    }

    /// All rows of the votes table.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn votes(&self) -> Result<Vec<VoteRow>> {
        let columns = "SELECT signer, epoch, slot, class, kind, digest, generation FROM";
        macro_rules! rows {
            ($pool:expr, $table:literal) => {
                sqlx::query(sqlx::AssertSqlSafe(format!("{columns} {}", $table)))
                    .fetch_all($pool)
                    .await?
                    .iter()
                    .map(|row| {
                        Ok(VoteRow {
                            signer: row.try_get(0)?,
                            epoch: row.try_get(1)?,
                            slot: row.try_get(2)?,
                            class: row.try_get(3)?,
                            kind: row.try_get(4)?,
                            digest: row.try_get(5)?,
                            generation: row.try_get(6)?,
                        })
                    })
                    .collect()
            };
        }
        match self {
            LedgerReader::Sqlite { ledger, .. } => rows!(ledger, "votes"),
            LedgerReader::Postgres(pool) => rows!(pool, "ledger.votes"),
        }
    }

    /// Digest of every final block, by height.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn blocks(&self) -> Result<BTreeMap<i64, String>> {
        let rows: Vec<(i64, String)> = match self {
            LedgerReader::Sqlite { ledger, .. } => {
                sqlx::query_as("SELECT height, digest FROM blocks").fetch_all(ledger).await?
            }
            LedgerReader::Postgres(pool) => {
                sqlx::query_as("SELECT height, digest FROM ledger.blocks").fetch_all(pool).await?
            }
        };
        Ok(rows.into_iter().collect())
    }

    /// Id and height of every transaction that took effect, by place.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn successful_transactions(&self) -> Result<Vec<(Hash, u64)>> {
        let rows: Vec<(Vec<u8>, i64)> = match self {
            LedgerReader::Sqlite { state, .. } => {
                sqlx::query_as("SELECT id, height FROM transactions WHERE code = 0 ORDER BY number")
                    .fetch_all(state)
                    .await?
            }
            LedgerReader::Postgres(pool) => {
                sqlx::query_as("SELECT id, height FROM state.transactions WHERE code = 0 ORDER BY number")
                    .fetch_all(pool)
                    .await?
            }
        };
        let id = |bytes: Vec<u8>| bytes.try_into().ok().context("an id of other than 32 bytes");
        rows.into_iter().map(|(bytes, height)| Ok((Hash(id(bytes)?), height as u64))).collect()
    }

    /// Sum of all balances, and the height it belongs to.
    ///
    /// # Errors
    /// Where the database cannot be read, or has no state yet.
    pub async fn supply(&self) -> Result<(i64, i64)> {
        let sum = "SELECT (SELECT CAST(SUM(balance) AS BIGINT) FROM accounts), (SELECT height FROM applied)";
        let (total, height): (Option<i64>, Option<i64>) = match self {
            LedgerReader::Sqlite { state, .. } => sqlx::query_as(sum).fetch_one(state).await?,
            LedgerReader::Postgres(pool) => sqlx::query_as(
                "SELECT (SELECT CAST(SUM(balance) AS BIGINT) FROM state.accounts), (SELECT height FROM state.applied)",
            )
            .fetch_one(pool)
            .await?,
        };
        match (total, height) {
            (Some(total), Some(height)) => Ok((total, height)),
            other => bail!("no state yet: {other:?}"),
        }
    }

    /// Everything that the state holds beside accounts.
    ///
    /// # Errors
    /// Where the database cannot be read, or a record of it.
    pub async fn records(&self) -> Result<Vec<Record>> {
        let rows: Vec<Vec<u8>> = match self {
            LedgerReader::Sqlite { state, .. } => {
                sqlx::query_scalar("SELECT value FROM records").fetch_all(state).await?
            }
            LedgerReader::Postgres(pool) => {
                sqlx::query_scalar("SELECT value FROM state.records").fetch_all(pool).await?
            }
        };
        rows.iter().map(|bytes| codec::decode(bytes).context("a record")).collect()
    }

    /// Number of batches that are kept.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn batches(&self) -> Result<i64> {
        Ok(match self {
            LedgerReader::Sqlite { ledger, .. } => {
                sqlx::query_scalar("SELECT count(*) FROM batches").fetch_one(ledger).await?
            }
            LedgerReader::Postgres(pool) => {
                sqlx::query_scalar("SELECT count(*) FROM ledger.batches").fetch_one(pool).await?
            }
        })
    }

    /// Bytes of all tables and indexes; of files without their logs, free pages in them included.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn bytes(&self) -> Result<i64> {
        let file = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        Ok(match self {
            LedgerReader::Sqlite { ledger, state } => {
                let ledger: i64 = sqlx::query_scalar(file).fetch_one(ledger).await?;
                ledger + sqlx::query_scalar::<_, i64>(file).fetch_one(state).await?
            }
            LedgerReader::Postgres(pool) => {
                sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(pool).await?
            }
        })
    }

    /// Version of the server or library, for reports.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn version(&self) -> Result<String> {
        Ok(match self {
            LedgerReader::Sqlite { ledger, .. } => {
                format!(
                    "SQLite {}",
                    sqlx::query_scalar::<_, String>("SELECT sqlite_version()").fetch_one(ledger).await?
                )
            }
            LedgerReader::Postgres(pool) => {
                let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(pool).await?;
                format!("PostgreSQL {version}")
            }
        })
    }
}

/// The state file lies beside the ledger file.
fn state_path(ledger: &str) -> String {
    match ledger.strip_suffix(".db") {
        Some(stem) => format!("{stem}-state.db"),
        None => format!("{ledger}-state"),
    }
}
