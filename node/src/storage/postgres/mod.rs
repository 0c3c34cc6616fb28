//! Postgres: two schemas, a connection for each kind of write, a small pool for reads.
//!
//! ```text
//! votes  synchronous_commit=on   one statement a commit; never sent twice
//! data   synchronous_commit=on   batches, blocks, pruning; sent again after a lost connection
//! state  synchronous_commit=off  accounts and transactions
//! ```

mod connection;
mod ledger;
pub(super) mod reads;
pub(super) mod state;

use self::connection::{Durability, Held, Link, limit, retry};
use super::backend::{Backend, BlockId, DataJob, VoteJob};
use super::owner::{self, Expected};
use super::{
    LedgerSnapshot, Owner, ReceiptRow, ReceiptsOf, Result, StateWrite, StorageError, StoredBlock, StoredSnapshot,
    TransactionRow, Undo,
};
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::memory::{Cause, Memory};
use aitbc_core::record::{Record, RecordKey};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection};
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::{info, warn};

/// How long a vote waits for a lost connection to come back; nothing was sent yet.
const VOTE_CONNECT_WAIT: Duration = Duration::from_secs(10);
/// After this long without an answer the outcome of a vote counts as unknown (P6).
const VOTE_TIMEOUT: Duration = Duration::from_secs(10);
/// One attempt of a bulk write.
const DATA_TIMEOUT: Duration = Duration::from_secs(60);
/// One attempt to write or read the whole state.
const STATE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long reads and bulk writes are tried while the server is away.
const RETRY_FOR: Duration = Duration::from_secs(30);
/// One attempt of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Reading connections.
const READERS: u32 = 4;
/// How long a read waits for one of them.
const READER_TIMEOUT: Duration = Duration::from_secs(5);
/// A reading connection without work for this long is closed.
const READER_IDLE: Duration = Duration::from_secs(60);
/// Pause between attempts to reach a server that is starting, and between two log lines about it.
const OPEN_PAUSE: Duration = Duration::from_millis(200);
const OPEN_LOG_EVERY: Duration = Duration::from_secs(5);
/// Serialises nodes that make the tables at the same time; any number would do.
const MIGRATION_LOCK: i64 = 0x6169_7462_6300;

const SET_META: &str =
    "INSERT INTO ledger.meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// One for each version of the tables, run once each. A script that any database has run is never edited: a change is a new
/// script. None empties the state any more: a ledger that was pruned cannot rebuild it.
pub(super) const SCRIPTS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_ledger_and_state.sql"),
    include_str!("../../../migrations/postgres/0002_transactions_in_runs.sql"),
    include_str!("../../../migrations/postgres/0003_records.sql"),
    include_str!("../../../migrations/postgres/0004_seals.sql"),
    include_str!("../../../migrations/postgres/0005_snapshot.sql"),
    include_str!("../../../migrations/postgres/0006_receipts.sql"),
    include_str!("../../../migrations/postgres/0007_undo.sql"),
];

/// An open database.
pub struct Postgres {
    votes: Link,
    data: Link,
    state: Link,
    reads: PgPool,
    /// Of the own lease, −1 before it is taken.
    generation: AtomicI64,
}

impl Postgres {
    /// Connects, within `wait` while the server is starting, makes the tables, and checks whose they are.
    pub async fn open(url: &str, owner: &Owner, wait: Duration) -> Result<Self> {
        let options = parse(url)?;
        let expected = Arc::new(reach(&options, owner, wait).await?);
        let link = |durability| Link::new(options.clone(), durability, expected.clone());
        Ok(Postgres {
            votes: link(Durability::Ledger),
            data: link(Durability::Ledger),
            state: link(Durability::State),
            reads: readers(options.clone(), expected.clone()),
            generation: AtomicI64::new(-1),
        })
    }

    fn generation(&self) -> i64 {
        self.generation.load(Ordering::Acquire)
    }

    async fn write_data_once(&self, jobs: &[DataJob]) -> Result<()> {
        let mut held = self.data.hold(Duration::ZERO).await?;
        let large = jobs.iter().any(|job| matches!(job, DataJob::Snapshot(..)));
        let time = if large { STATE_TIMEOUT } else { DATA_TIMEOUT };
        let outcome = limit(time, ledger::write_data(&mut held, jobs, self.generation())).await;
        held.settle(outcome)
    }

    async fn hold_state(&self) -> Result<Held<'_>> {
        self.state.hold(Duration::ZERO).await
    }

    async fn read<T, F: Future<Output = Result<T>>>(&self, call: impl Fn() -> F) -> Result<T> {
        retry("read", RETRY_FOR, || limit(READ_TIMEOUT, call())).await
    }
}

/// Whoever holds a newer lease goes on.
fn fenced(ours: i64, found: i64) -> StorageError {
    let shown = |generation: i64| u32::try_from(generation).unwrap_or(0);
    StorageError::Fenced { ours: shown(ours), found: shown(found) }
}

fn parse(url: &str) -> Result<PgConnectOptions> {
    // The cause never holds the URL, which may hold a password.
    PgConnectOptions::from_str(url)
        .map_err(|cause| StorageError::Foreign(format!("the postgresql:// URL cannot be read: {cause}")))
}

/// Where a server is, without the password.
fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(directory) => format!("database \"{database}\" at the socket in {}", directory.display()),
        None => format!("database \"{database}\" at {}:{}", options.get_host(), options.get_port()),
    }
}

fn readers(options: PgConnectOptions, expected: Arc<Expected>) -> PgPool {
    PgPoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(READER_TIMEOUT)
        .idle_timeout(READER_IDLE)
        // A broken one shows itself at its use, and the read is done again.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let expected = expected.clone();
            Box::pin(async move {
                connection::check(connection, &expected).await.map_err(|cause| match cause {
                    StorageError::Database(cause) => Arc::try_unwrap(cause)
                        .unwrap_or_else(|cause| sqlx::Error::Configuration(cause.to_string().into())),
                    cause => sqlx::Error::Configuration(cause.to_string().into()),
                })
            })
        })
        .connect_lazy_with(connection::quiet(options))
}

/// A pool that cannot write.
pub(super) fn read_only(url: &str) -> Result<PgPool> {
    let options = connection::quiet(parse(url)?).options([("default_transaction_read_only", "on")]);
    let pool = PgPoolOptions::new().max_connections(READERS).acquire_timeout(READER_TIMEOUT);
    Ok(pool.idle_timeout(READER_IDLE).connect_lazy_with(options))
}

/// Tries until the server answers and the tables are there. A server that is being set up refuses in many ways, so
/// every failure but a foreign owner is tried again.
async fn reach(options: &PgConnectOptions, owner: &Owner, wait: Duration) -> Result<Expected> {
    let started = Instant::now();
    let mut logged: Option<Instant> = None;
    loop {
        let cause = match prepare(options, owner).await {
            Ok(expected) => {
                if logged.is_some() {
                    info!(seconds = started.elapsed().as_secs(), "the database answers");
                }
                return Ok(expected);
            }
            Err(cause @ StorageError::Database(_)) if started.elapsed() < wait => cause,
            Err(cause @ StorageError::Database(_)) => {
                let seconds = started.elapsed().as_secs();
                warn!(%cause, seconds, "gave up waiting for {}", place(options));
                return Err(cause);
            }
            Err(cause) => return Err(cause),
        };
        if logged.is_none_or(|at| at.elapsed() >= OPEN_LOG_EVERY) {
            logged = Some(Instant::now());
            warn!(%cause, "waiting up to {} s for {}", wait.as_secs(), place(options));
        }
        sleep(OPEN_PAUSE).await;
    }
}

/// Makes the tables where they are missing, checks or writes whose they are; gives what later connections must find.
async fn prepare(options: &PgConnectOptions, owner: &Owner) -> Result<Expected> {
    let mut connection = connection::connect(options, Durability::Ledger).await?;
    let mut expected = owner::expected(owner);
    let identity = connection::identity(&mut connection).await?;
    expected.extend(identity.clone());
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await?;
    if fsync != "on" {
        warn!("this server runs with fsync = {fsync}: after a power loss votes may be missing and be cast twice");
    }

    let mut tx = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *tx).await?;
    let meta = connection::meta(&mut tx).await?;
    for script in owner::pending(meta.get("schema").map(String::as_str), SCRIPTS)? {
        sqlx::raw_sql(*script).execute(&mut *tx).await?;
    }
    let (meta, moved) = owner::without_moved(meta, &identity);
    let mut rows: Vec<(&str, String)> = owner::compare(&meta, &expected)?;
    if moved {
        // P12: the node goes on in quarantine, and asks the others what it may have forgotten.
        let memory = meta.get(owner::MEMORY).map(|text| owner::memory(text)).transpose()?.unwrap_or_default();
        rows.push((owner::MEMORY, owner::memory_text(&memory.quarantined(Cause::OtherServer))?));
    }
    for (name, value) in rows {
        sqlx::query(SET_META).bind(name).bind(value).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    // It answered, so failing to say goodbye matters to nobody.
    let _ = connection.close().await;
    Ok(expected)
}

/// Makes a database beside the one in `url`, unless it is there; gives its URL.
///
/// # Errors
/// Where the server cannot be reached or refuses.
///
/// # Panics
/// Where `name` is not of lower-case letters, digits and underscores.
pub async fn create_database(url: &str, name: &str) -> Result<String> {
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "a plain name");
    let mut connection: PgConnection = connection::connect(&parse(url)?, Durability::Ledger).await?;
    let made: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
    if made == 0 {
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE \"{name}\""))).execute(&mut connection).await?;
    }
    let _ = connection.close().await;
    Ok(with_database(url, name))
}

/// The same URL with another database in its path.
fn with_database(url: &str, name: &str) -> String {
    let (before, query) = url.split_once('?').map_or((url, None), |(before, query)| (before, Some(query)));
    let authority = before.find("://").map_or(0, |at| at + 3);
    let end = before[authority..].find('/').map_or(before.len(), |at| authority + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &before[..end])
}

impl Backend for Postgres {
    const KIND: &'static str = "postgres";

    async fn take_lease(&self, holder: String) -> Result<u32> {
        // A bump whose answer was lost is bumped once more: any number above all others will do.
        let generation = retry("take_lease", RETRY_FOR, || async {
            let mut held = self.votes.hold(Duration::ZERO).await?;
            let outcome = limit(VOTE_TIMEOUT, ledger::take_lease(&mut held, &holder)).await;
            held.settle(outcome)
        })
        .await?;
        retry("take_lease", RETRY_FOR, || async {
            let mut held = self.hold_state().await?;
            let outcome = limit(DATA_TIMEOUT, state::fence(&mut held, generation)).await;
            held.settle(outcome)
        })
        .await?;
        self.generation.store(generation, Ordering::Release);
        u32::try_from(generation).map_err(|_| StorageError::Corrupt(format!("lease generation {generation}")))
    }

    async fn load_ledger(&self) -> Result<LedgerSnapshot> {
        retry("load_ledger", RETRY_FOR, || async {
            let mut held = self.data.hold(Duration::ZERO).await?;
            let outcome = limit(STATE_TIMEOUT, ledger::load(&mut held)).await;
            held.settle(outcome)
        })
        .await
    }

    async fn write_memory(&self, memory: &Memory, generation: Option<u32>) -> Result<()> {
        let next = generation.map_or(self.generation(), i64::from);
        // Bulk writes wait: between the commit and the store below they would find a lease that is not theirs.
        let data = self.data.hold(VOTE_CONNECT_WAIT).await?;
        let mut held = self.votes.hold(VOTE_CONNECT_WAIT).await?;
        let outcome = limit(VOTE_TIMEOUT, ledger::write_memory(&mut held, memory, self.generation(), next)).await;
        held.settle(outcome)?;
        self.generation.store(next, Ordering::Release);
        data.settle(Ok(()))
    }

    async fn write_votes(&self, jobs: &[VoteJob]) -> Result<()> {
        let mut held = self.votes.hold(VOTE_CONNECT_WAIT).await?;
        let outcome = limit(VOTE_TIMEOUT, ledger::write_votes(&mut held, jobs, self.generation())).await;
        held.settle(outcome)
    }

    async fn write_data(&self, jobs: &[DataJob]) -> Result<()> {
        retry("write_data", RETRY_FOR, || self.write_data_once(jobs)).await
    }

    async fn keep_alive(&self) {
        self.votes.keep_alive().await;
    }

    async fn apply_state(&self, write: &StateWrite) -> Result<()> {
        retry("apply_state", RETRY_FOR, || async {
            let mut held = self.hold_state().await?;
            let outcome = limit(STATE_TIMEOUT, state::apply(&mut held, write, self.generation())).await;
            held.settle(outcome)
        })
        .await
    }

    async fn load_state(&self) -> Result<Option<StateWrite>> {
        retry("load_state", RETRY_FOR, || async {
            let mut held = self.hold_state().await?;
            let outcome = limit(STATE_TIMEOUT, state::load(&mut held)).await;
            held.settle(outcome)
        })
        .await
    }

    async fn reset_state(&self, state: &StateWrite) -> Result<()> {
        retry("reset_state", RETRY_FOR, || async {
            let mut held = self.hold_state().await?;
            let outcome = limit(STATE_TIMEOUT, state::reset(&mut held, state, self.generation())).await;
            held.settle(outcome)
        })
        .await
    }

    async fn write_undo(&self, undo: &Undo) -> Result<bool> {
        retry("undo", RETRY_FOR, || async {
            let mut held = self.hold_state().await?;
            let outcome = limit(DATA_TIMEOUT, state::write_undo(&mut held, undo, self.generation())).await;
            held.settle(outcome)
        })
        .await
    }

    async fn undo(&self) -> Result<Option<Undo>> {
        self.read(|| reads::undo(&self.reads)).await
    }

    async fn snapshot(&self, from: u64) -> Result<Option<StoredSnapshot>> {
        self.read(|| reads::snapshot(&self.reads, from)).await
    }

    async fn batches_below(&self, height: u64, limit: u32) -> Result<Vec<(Hash, u64)>> {
        self.read(|| reads::batches_below(&self.reads, height, limit)).await
    }

    async fn lowest(&self) -> Result<u64> {
        self.read(|| reads::lowest(&self.reads)).await
    }

    async fn flush_state(&self) -> Result<Option<u64>> {
        retry("flush_state", RETRY_FOR, || async {
            let mut held = self.hold_state().await?;
            let outcome = limit(DATA_TIMEOUT, state::flush(&mut held)).await;
            held.settle(outcome)
        })
        .await
    }

    async fn forget_transactions(&self, below: u64) -> Result<()> {
        retry("forget_transactions", RETRY_FOR, || async {
            let mut held = self.hold_state().await?;
            let outcome = limit(DATA_TIMEOUT, state::forget(&mut held, below)).await;
            held.settle(outcome)
        })
        .await
    }

    async fn block(&self, id: BlockId) -> Result<Option<StoredBlock>> {
        self.read(|| reads::block(&self.reads, &id)).await
    }

    async fn block_range(&self, from: u64, to: u64, limit: u32) -> Result<Vec<StoredBlock>> {
        self.read(|| reads::block_range(&self.reads, from, to, limit)).await
    }

    async fn batch_bytes(&self, digests: &[Hash]) -> Result<Vec<(Hash, Vec<u8>)>> {
        self.read(|| reads::batch_bytes(&self.reads, digests)).await
    }

    async fn transaction(&self, id: Hash) -> Result<Option<TransactionRow>> {
        self.read(|| reads::transaction(&self.reads, id)).await
    }

    async fn transactions(&self, sender: Option<Address>, limit: u32, offset: u32) -> Result<Vec<TransactionRow>> {
        self.read(|| reads::transactions(&self.reads, sender, limit, offset)).await
    }

    async fn block_transactions(&self, height: u64) -> Result<Vec<TransactionRow>> {
        self.read(|| reads::block_transactions(&self.reads, height)).await
    }

    async fn transaction_count(&self) -> Result<u64> {
        self.read(|| reads::transaction_count(&self.reads)).await
    }

    async fn receipts(&self, of: &ReceiptsOf, limit: u32, offset: u32) -> Result<(Vec<ReceiptRow>, u64)> {
        self.read(|| reads::receipts(&self.reads, of, limit, offset)).await
    }

    async fn evidence(&self) -> Result<(u64, Vec<(RecordKey, Record)>)> {
        self.read(|| reads::evidence(&self.reads)).await
    }

    async fn ping(&self) -> Result<()> {
        let (ours, found) = (self.generation(), reads::generation(&self.reads).await?);
        if ours < 0 || found == ours { Ok(()) } else { Err(fenced(ours, found)) }
    }

    async fn close(&self) {
        self.votes.close().await;
        self.data.close().await;
        self.state.close().await;
        self.reads.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_of_the_same_server_keeps_the_rest_of_the_url() {
        let check = |url: &str, expected: &str| assert_eq!(with_database(url, "v0"), expected);
        check("postgresql://u:p@h:5432/postgres", "postgresql://u:p@h:5432/v0");
        check("postgresql://u@h", "postgresql://u@h/v0");
        check("postgresql:///postgres?host=/run/pg&user=u", "postgresql:///v0?host=/run/pg&user=u");
    }

    #[test]
    fn messages_about_a_server_never_show_the_password() {
        let options = parse("postgresql://user:secret@db.example:6543/chain").expect("well-formed");
        assert_eq!(place(&options), "database \"chain\" at db.example:6543");
        let options = parse("postgresql:///chain?host=/run/pg&user=u&password=secret").expect("well-formed");
        assert_eq!(place(&options), "database \"chain\" at the socket in /run/pg");
        let refused = parse("postgresql://user:secret@db:port/chain").err().map(|cause| cause.to_string());
        assert!(refused.is_some_and(|message| !message.contains("secret")));
    }
}
