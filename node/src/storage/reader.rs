//! A validator's database for reading only, beside its node or without: no lease, no migration, no owner's key. Every block
//! comes with what is wrong with its row, for an audit.

use super::rows::{self, number};
use super::{Result, StateWrite, StorageError, StoredBlock, owner, postgres, sqlite};
use aitbc_core::hash::Hash;
use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;

/// An open database.
#[derive(Clone)]
pub enum Reader {
    /// Two files.
    Sqlite {
        /// The truth.
        ledger: SqlitePool,
        /// The projection.
        state: SqlitePool,
    },
    /// Two schemas.
    Postgres(PgPool),
}

/// A row of `blocks`.
pub struct LedgerRow {
    /// Its height column.
    pub height: u64,
    /// The block, or what is wrong with the row: bytes that do not decode, or a column that its header contradicts.
    pub block: std::result::Result<StoredBlock, String>,
}

impl Reader {
    /// Opens the database at `url`, of the forms that [`super::open`] takes, of the chain with this genesis hash.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] where the URL is of no known form, the file is missing, or the database is another
    /// chain's or of another version; [`StorageError::Database`] where it cannot be read.
    pub async fn open(url: &str, chain: &Hash) -> Result<Reader> {
        let reader = if let Some(path) = url.strip_prefix("sqlite:///") {
            let (ledger, state) = sqlite::read_only(path.as_ref())?;
            Reader::Sqlite { ledger, state }
        } else if url.starts_with("postgresql://") || url.starts_with("postgres://") {
            Reader::Postgres(postgres::read_only(url)?)
        } else {
            return Err(super::unknown_url(url));
        };
        reader.check(chain).await?;
        Ok(reader)
    }

    async fn check(&self, chain: &Hash) -> Result<()> {
        let meta = self.meta().await?;
        let scripts = match self {
            Reader::Sqlite { .. } => sqlite::LEDGER,
            Reader::Postgres(_) => postgres::SCRIPTS,
        };
        if !owner::pending(meta.get("schema").map(String::as_str), scripts)?.is_empty() {
            let older = "its tables are of an older version: start the node once, which brings them up to date";
            return Err(StorageError::Foreign(older.to_owned()));
        }
        let expected = vec![("chain", chain.to_string(), "it belongs to the chain of another genesis file")];
        if !owner::compare(&meta, &expected)?.is_empty() {
            return Err(StorageError::Foreign("it holds no chain yet".to_owned()));
        }
        Ok(())
    }

    async fn meta(&self) -> Result<owner::Meta> {
        let rows: Vec<(String, String)> = match self {
            Reader::Sqlite { ledger, .. } => sqlx::query_as("SELECT name, value FROM meta").fetch_all(ledger).await?,
            Reader::Postgres(pool) => sqlx::query_as("SELECT name, value FROM ledger.meta").fetch_all(pool).await?,
        };
        Ok(rows.into_iter().collect())
    }

    /// Least height whose batches are kept, now; 1 unless some were deleted.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn lowest(&self) -> Result<u64> {
        owner::lowest(self.meta().await?.get(owner::LOWEST).map(String::as_str))
    }

    /// Height of the last block; `None`: there is none.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn head(&self) -> Result<Option<u64>> {
        let height: Option<i64> = match self {
            Reader::Sqlite { ledger, .. } => {
                sqlx::query_scalar("SELECT max(height) FROM blocks").fetch_one(ledger).await?
            }
            Reader::Postgres(pool) => {
                sqlx::query_scalar("SELECT max(height) FROM ledger.blocks").fetch_one(pool).await?
            }
        };
        Ok(height.map(number))
    }

    /// Rows of blocks `from ..= to`, ascending, at most `limit`.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn rows(&self, from: u64, to: u64, limit: u32) -> Result<Vec<LedgerRow>> {
        let columns = match self {
            Reader::Sqlite { ledger, .. } => sqlite::reads::block_rows(ledger, from, to, limit).await?,
            Reader::Postgres(pool) => postgres::reads::block_rows(pool, from, to, limit).await?,
        };
        Ok(columns.iter().map(|row| LedgerRow { height: number(row.height), block: rows::audited(row) }).collect())
    }

    /// Encoded batches, those that are there, in any order.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn batch_bytes(&self, digests: &[Hash]) -> Result<Vec<(Hash, Vec<u8>)>> {
        match self {
            Reader::Sqlite { ledger, .. } => sqlite::reads::batch_bytes(ledger, digests).await,
            Reader::Postgres(pool) => postgres::reads::batch_bytes(pool, digests).await,
        }
    }

    /// The state as applied; `None` before genesis was. `transactions` and `receipts` are empty.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn state(&self) -> Result<Option<StateWrite>> {
        match self {
            Reader::Sqlite { state, .. } => sqlite::state::load(&mut *state.acquire().await?).await,
            Reader::Postgres(pool) => postgres::state::load(&mut *pool.acquire().await?).await,
        }
    }
}
