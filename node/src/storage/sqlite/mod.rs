//! SQLite: two files, so that bulk writes of the state never hold up a vote.
//!
//! ```text
//! blockchain.db        ledger: WAL, synchronous=FULL    one writing connection, both lanes take turns on it
//! blockchain-state.db  state:  WAL, synchronous=NORMAL  one writing connection of its own
//! ```
//! Fencing is by the lease's generation: another process may open the same files and take over.

mod checkpoint;
mod ledger;
mod many;
pub(super) mod reads;
pub(super) mod state;

use self::checkpoint::Checkpoints;
use super::backend::{Backend, BlockId, DataJob, VoteJob};
use super::owner::{self, Expected, Meta};
use super::{
    LedgerSnapshot, Owner, ReceiptRow, ReceiptsOf, Result, StateWrite, StorageError, StoredBlock, StoredSnapshot,
    TransactionRow, Undo,
};
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::memory::Memory;
use aitbc_core::record::{Record, RecordKey};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// How long a write waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Reading connections a file has at most; each is a thread.
const READERS: u32 = 4;
/// How long a read waits for one of them.
const READER_TIMEOUT: Duration = Duration::from_secs(5);
/// A reading connection without work for this long is closed.
const READER_IDLE: Duration = Duration::from_secs(60);
/// Pages in the state's log after which it is written back: the more, the more often a page changes in between.
const STATE_LOG_PAGES: &str = "16384";
/// KiB of the state's pages that its writer keeps in memory, as SQLite wants it: negative.
const STATE_CACHE: &str = "-4096";
/// The same of each reading connection. What it misses is most often in the operating system's cache, once for all.
const READER_CACHE: &str = "-2048";
/// Begins a write: takes the file's write lock at once, so that what is read next stays true until the commit (P7).
const BEGIN: &str = "BEGIN IMMEDIATE";

/// One for each version of the file's tables, run once each. A script that any database has run is never edited: a change is a new
/// script. None empties the state any more: a ledger that was pruned cannot rebuild it.
pub(super) const LEDGER: &[&str] = &[
    include_str!("../../../migrations/sqlite/ledger_0001.sql"),
    include_str!("../../../migrations/sqlite/ledger_0002.sql"),
    include_str!("../../../migrations/sqlite/ledger_0003.sql"),
];
/// As above, of the state's file.
const STATE: &[&str] = &[
    include_str!("../../../migrations/sqlite/state_0001.sql"),
    include_str!("../../../migrations/sqlite/state_0002.sql"),
    include_str!("../../../migrations/sqlite/state_0003.sql"),
    include_str!("../../../migrations/sqlite/state_0004.sql"),
    include_str!("../../../migrations/sqlite/state_0005.sql"),
];

/// Two open files.
pub struct Sqlite {
    ledger: Mutex<Writing>,
    state: Mutex<Writing>,
    ledger_reads: SqlitePool,
    state_reads: SqlitePool,
    /// Of the own lease, −1 before it is taken.
    generation: AtomicI64,
    file: LedgerFile,
    checkpoints: Arc<Checkpoints>,
    checkpointing: JoinHandle<()>,
}

/// Which file the ledger's connection writes to.
struct LedgerFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

/// The writing connection of a file.
struct Writing {
    connection: SqliteConnection,
    options: SqliteConnectOptions,
}

impl Writing {
    fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        Writing { connection, options: options.create_if_missing(false) }
    }

    /// Opens the file anew after a failure. Where the disk is full or broken SQLite has rolled back by itself; the driver
    /// believes in a transaction that is gone, and would never begin another on this connection.
    async fn settle<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if matches!(outcome, Err(StorageError::Database(_))) {
            match SqliteConnection::connect_with(&self.options).await {
                Ok(connection) => self.connection = connection,
                Err(cause) => tracing::warn!(%cause, "a database file could not be opened again"),
            }
        }
        outcome
    }
}

impl Sqlite {
    /// Opens or makes both files.
    pub async fn open(path: &Path, owner: &Owner) -> Result<Self> {
        let state_path = state_path(path)?;
        let ledger_options =
            options(path, SqliteSynchronous::Full).pragma("wal_autocheckpoint", checkpoint::INLINE_PAGES);
        let state_options = options(&state_path, SqliteSynchronous::Normal)
            .pragma("wal_autocheckpoint", STATE_LOG_PAGES)
            .pragma("cache_size", STATE_CACHE);

        let mut ledger = connect(&ledger_options, path).await?;
        migrate(&mut ledger, LEDGER).await?;
        let meta = own(&mut ledger, &owner::expected(owner)).await?;

        let mut state = connect(&state_options, &state_path).await?;
        migrate(&mut state, STATE).await?;
        let identity = meta.get("identity").cloned().unwrap_or_default();
        let chain = owner.chain.to_string();
        let rebuild = "it is the state of another ledger: move it away, it is rebuilt from the ledger, unless blocks of that \
            were pruned: then put back both files of one copy";
        own(&mut state, &vec![("identity", identity, rebuild), ("chain", chain, rebuild)]).await?;

        let checkpoints = Arc::new(Checkpoints::default());
        Ok(Sqlite {
            checkpointing: checkpoints.clone().start(ledger_options.clone()),
            checkpoints,
            ledger: Mutex::new(Writing::new(ledger, ledger_options.clone())),
            state: Mutex::new(Writing::new(state, state_options.clone())),
            ledger_reads: readers(ledger_options),
            state_reads: readers(state_options),
            generation: AtomicI64::new(-1),
            file: LedgerFile { path: path.to_owned(), device_and_inode: device_and_inode(path)? },
        })
    }

    fn generation(&self) -> i64 {
        self.generation.load(Ordering::Acquire)
    }

    fn take_generation(&self, generation: Option<u32>) {
        if let Some(generation) = generation {
            self.generation.store(i64::from(generation), Ordering::Release);
        }
    }

    fn fenced(&self, found: i64) -> StorageError {
        let shown = |generation: i64| u32::try_from(generation).unwrap_or(0);
        StorageError::Fenced { ours: shown(self.generation()), found: shown(found) }
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.checkpointing.abort();
    }
}

impl LedgerFile {
    /// A deleted or replaced file goes on taking writes that nobody will ever read: no vote may rest on it (P12).
    fn check(&self) -> Result<()> {
        if device_and_inode(&self.path)? == self.device_and_inode {
            return Ok(());
        }
        Err(StorageError::Foreign(format!("\"{}\" is another file than the one opened", self.path.display())))
    }
}

fn device_and_inode(path: &Path) -> Result<(u64, u64)> {
    let metadata = std::fs::metadata(path);
    let metadata = metadata
        .map_err(|cause| StorageError::Foreign(format!("\"{}\" is gone or unreadable: {cause}", path.display())))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Both files for reading only: ledger and state.
pub(super) fn read_only(path: &Path) -> Result<(SqlitePool, SqlitePool)> {
    let file = |path: &Path| -> Result<SqlitePool> {
        // Without this a missing file is found by the first read, which does not name it.
        device_and_inode(path)?;
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT);
        Ok(readers(options.foreign_keys(false).disable_statement_logging()))
    };
    Ok((file(path)?, file(&state_path(path)?)?))
}

/// `dir/blockchain.db` → `dir/blockchain-state.db`.
fn state_path(ledger: &Path) -> Result<PathBuf> {
    let (Some(stem), true) = (ledger.file_stem(), ledger.extension().is_none_or(|e| !e.is_empty())) else {
        return Err(StorageError::Foreign(format!("\"{}\" names no database file", ledger.display())));
    };
    let mut name = stem.to_owned();
    name.push("-state");
    if let Some(extension) = ledger.extension() {
        name.push(".");
        name.push(extension);
    }
    Ok(ledger.with_file_name(name))
}

fn options(path: &Path, synchronous: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .disable_statement_logging()
}

async fn connect(options: &SqliteConnectOptions, path: &Path) -> Result<SqliteConnection> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        let missing = format!("there is no directory \"{}\" for \"{}\"", parent.display(), path.display());
        return Err(StorageError::Foreign(missing));
    }
    Ok(SqliteConnection::connect_with(options).await?)
}

fn readers(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(READER_TIMEOUT)
        .idle_timeout(READER_IDLE)
        .connect_lazy_with(options.pragma("cache_size", READER_CACHE).read_only(true))
}

/// Brings the tables up to date. Two processes that open a new file at once take turns.
async fn migrate(connection: &mut SqliteConnection, scripts: &'static [&'static str]) -> Result<()> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    let made: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'")
        .fetch_one(&mut *transaction)
        .await?;
    let version: Option<String> = match made {
        0 => None,
        _ => {
            let query = sqlx::query_scalar("SELECT value FROM meta WHERE name = 'schema'");
            query.fetch_optional(&mut *transaction).await?
        }
    };
    for script in owner::pending(version.as_deref(), scripts)? {
        sqlx::raw_sql(*script).execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

/// Checks who owns the file, or makes `expected` its owner; gives all of `meta`.
async fn own(connection: &mut SqliteConnection, expected: &Expected) -> Result<Meta> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT name, value FROM meta").fetch_all(&mut *transaction).await?;
    let mut meta: Meta = rows.into_iter().collect();
    for (name, value) in owner::compare(&meta, expected)? {
        sqlx::query("INSERT INTO meta VALUES (?1, ?2)").bind(name).bind(&value).execute(&mut *transaction).await?;
        meta.insert(name.to_owned(), value);
    }
    transaction.commit().await?;
    Ok(meta)
}

impl Backend for Sqlite {
    const KIND: &'static str = "sqlite";

    async fn take_lease(&self, holder: String) -> Result<u32> {
        let generation = ledger::take_lease(&mut self.ledger.lock().await.connection, &holder).await?;
        state::fence(&mut self.state.lock().await.connection, generation).await?;
        self.generation.store(generation, Ordering::Release);
        u32::try_from(generation).map_err(|_| StorageError::Corrupt(format!("lease generation {generation}")))
    }

    async fn load_ledger(&self) -> Result<LedgerSnapshot> {
        ledger::load(&mut self.ledger.lock().await.connection).await
    }

    async fn write_memory(&self, memory: &Memory, generation: Option<u32>) -> Result<()> {
        self.file.check()?;
        let mut ledger = self.ledger.lock().await;
        let outcome = self.write_memory_row(&mut ledger.connection, memory, generation).await;
        ledger.settle(outcome).await
    }

    async fn write_votes(&self, jobs: &[VoteJob]) -> Result<()> {
        self.file.check()?;
        let mut ledger = self.ledger.lock().await;
        let outcome = self.write_vote_jobs(&mut ledger.connection, jobs).await;
        ledger.settle(outcome).await
    }

    async fn write_data(&self, jobs: &[DataJob]) -> Result<()> {
        let mut ledger = self.ledger.lock().await;
        let outcome = self.write_data_jobs(&mut ledger.connection, jobs).await;
        ledger.settle(outcome).await
    }

    async fn keep_alive(&self) {}

    async fn apply_state(&self, write: &StateWrite) -> Result<()> {
        let mut file = self.state.lock().await;
        let outcome = self.apply(&mut file.connection, write).await;
        file.settle(outcome).await
    }

    async fn load_state(&self) -> Result<Option<StateWrite>> {
        state::load(&mut self.state.lock().await.connection).await
    }

    async fn reset_state(&self, state: &StateWrite) -> Result<()> {
        let mut file = self.state.lock().await;
        let outcome = self.reset(&mut file.connection, state).await;
        file.settle(outcome).await
    }

    async fn write_undo(&self, undo: &Undo) -> Result<bool> {
        let mut file = self.state.lock().await;
        let outcome = state::write_undo(&mut file.connection, undo, self.generation()).await;
        file.settle(outcome).await
    }

    async fn undo(&self) -> Result<Option<Undo>> {
        reads::undo(&self.state_reads).await
    }

    async fn snapshot(&self, from: u64) -> Result<Option<StoredSnapshot>> {
        reads::snapshot(&self.ledger_reads, from).await
    }

    async fn batches_below(&self, height: u64, limit: u32) -> Result<Vec<(Hash, u64)>> {
        reads::batches_below(&self.ledger_reads, height, limit).await
    }

    async fn lowest(&self) -> Result<u64> {
        reads::lowest(&self.ledger_reads).await
    }

    async fn flush_state(&self) -> Result<Option<u64>> {
        let mut file = self.state.lock().await;
        let outcome = state::flush(&mut file.connection).await;
        file.settle(outcome).await
    }

    async fn forget_transactions(&self, below: u64) -> Result<()> {
        let mut file = self.state.lock().await;
        let outcome = state::forget(&mut file.connection, below).await;
        file.settle(outcome).await
    }

    async fn block(&self, id: BlockId) -> Result<Option<StoredBlock>> {
        reads::block(&self.ledger_reads, id).await
    }

    async fn block_range(&self, from: u64, to: u64, limit: u32) -> Result<Vec<StoredBlock>> {
        reads::block_range(&self.ledger_reads, from, to, limit).await
    }

    async fn batch_bytes(&self, digests: &[Hash]) -> Result<Vec<(Hash, Vec<u8>)>> {
        reads::batch_bytes(&self.ledger_reads, digests).await
    }

    async fn transaction(&self, id: Hash) -> Result<Option<TransactionRow>> {
        reads::transaction(&self.state_reads, id).await
    }

    async fn transactions(&self, sender: Option<Address>, limit: u32, offset: u32) -> Result<Vec<TransactionRow>> {
        reads::transactions(&self.state_reads, sender, limit, offset).await
    }

    async fn block_transactions(&self, height: u64) -> Result<Vec<TransactionRow>> {
        reads::block_transactions(&self.state_reads, height).await
    }

    async fn transaction_count(&self) -> Result<u64> {
        reads::transaction_count(&self.state_reads).await
    }

    async fn receipts(&self, of: &ReceiptsOf, limit: u32, offset: u32) -> Result<(Vec<ReceiptRow>, u64)> {
        reads::receipts(&self.state_reads, of, limit, offset).await
    }

    async fn evidence(&self) -> Result<(u64, Vec<(RecordKey, Record)>)> {
        reads::evidence(&self.state_reads).await
    }

    async fn ping(&self) -> Result<()> {
        self.file.check()?;
        let (ours, found) = (self.generation(), reads::generation(&self.ledger_reads).await?);
        if ours < 0 || found == ours { Ok(()) } else { Err(self.fenced(found)) }
    }

    async fn close(&self) {
        self.checkpointing.abort();
        self.ledger_reads.close().await;
        self.state_reads.close().await;
        // Checkpoints, so that no log is left beside the files; closing itself happens at drop.
        for file in [&self.ledger, &self.state] {
            let mut file = file.lock().await;
            if let Err(cause) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut file.connection).await {
                tracing::warn!(%cause, "the log of a database file could not be written back at close");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_lies_beside_the_ledger() {
        let state = |path: &str| state_path(Path::new(path)).map(|p| p.display().to_string());
        assert_eq!(state("/data/blockchain.db").expect("a file"), "/data/blockchain-state.db");
        assert_eq!(state("chain").expect("a file"), "chain-state");
        assert!(state("").is_err());
    }
}
