//! Connections that come back: back-off, bounded waits, and the server's identity compared each time (P12).

use super::super::owner::{self, Expected, Meta};
use super::super::{Result, StorageError};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use std::future::Future;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// One attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long a call of an idle connection may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// What the server says of itself. The timeline changes when a replica takes over, and that may lack votes.
const IDENTITY: &str = "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), \
    (SELECT oid::text FROM pg_database WHERE datname = current_database())";

/// How a connection commits.
#[derive(Clone, Copy)]
pub enum Durability {
    /// Waits for the disk (and for synchronous replicas, where there are some).
    Ledger,
    /// Does not wait: the state can be rebuilt.
    State,
}

impl Durability {
    /// Locks of other sessions must not hold up a vote for ever. What the ledger's writers do goes by keys: a plan made while a
    /// table was empty would pass all of it, and is kept until the server looks at the table again.
    fn settings(self) -> &'static str {
        match self {
            Durability::Ledger => {
                "SET synchronous_commit = on; SET lock_timeout = '10s'; SET statement_timeout = '60s'; \
                 SET idle_in_transaction_session_timeout = '60s'; SET enable_seqscan = off"
            }
            Durability::State => {
                "SET synchronous_commit = off; SET lock_timeout = '30s'; SET statement_timeout = '300s'; \
                 SET idle_in_transaction_session_timeout = '60s'"
            }
        }
    }
}

/// A connection that is made again after it broke. One user at a time.
pub struct Link {
    options: PgConnectOptions,
    durability: Durability,
    expected: Arc<Expected>,
    slot: Mutex<Option<PgConnection>>,
}

/// The connection while it is used. Dropped without [`Held::settle`], as a cancelled call does, it is closed.
pub struct Held<'a> {
    slot: MutexGuard<'a, Option<PgConnection>>,
    connection: PgConnection,
}

impl Link {
    pub fn new(options: PgConnectOptions, durability: Durability, expected: Arc<Expected>) -> Self {
        Link { options, durability, expected, slot: Mutex::new(None) }
    }

    /// The connection, made if need be, for at most about `wait`.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] where another database answers.
    pub async fn hold(&self, wait: Duration) -> Result<Held<'_>> {
        let mut slot = self.slot.lock().await;
        let connection = match slot.take() {
            Some(connection) => connection,
            None => retry("connect", wait, || self.connect()).await?,
        };
        Ok(Held { slot, connection })
    }

    async fn connect(&self) -> Result<PgConnection> {
        let mut connection = connect(&self.options, self.durability).await?;
        check(&mut connection, &self.expected).await?;
        Ok(connection)
    }

    /// Finds a broken connection and replaces it, unless it is in use.
    pub async fn keep_alive(&self) {
        let Ok(mut slot) = self.slot.try_lock() else { return };
        if let Some(mut connection) = slot.take() {
            if let Ok(Ok(())) = timeout(CHECK_TIMEOUT, connection.ping()).await {
                *slot = Some(connection);
                return;
            }
            warn!("connection to the database lost");
        }
        match self.connect().await {
            Ok(connection) => {
                info!("connected to the database again");
                *slot = Some(connection);
            }
            Err(cause) => warn!(%cause, "no connection to the database"),
        }
    }

    pub async fn close(&self) {
        if let Some(connection) = self.slot.lock().await.take() {
            // The server closes it at the latest when the process ends.
            let _ = timeout(CHECK_TIMEOUT, connection.close()).await;
        }
    }
}

impl Held<'_> {
    /// Keeps the connection for the next call unless `outcome` shows that it broke.
    pub fn settle<T>(mut self, outcome: Result<T>) -> Result<T> {
        if !matches!(&outcome, Err(cause) if is_lost(cause)) {
            *self.slot = Some(self.connection);
        }
        outcome
    }
}

impl Deref for Held<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// Named in `pg_stat_activity`, and not in the log with every statement.
pub fn quiet(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("aitbc-node").disable_statement_logging()
}

/// A new connection with its settings.
pub async fn connect(options: &PgConnectOptions, durability: Durability) -> Result<PgConnection> {
    let options = quiet(options.clone());
    limit(CONNECT_TIMEOUT, async {
        let mut connection = PgConnection::connect_with(&options).await?;
        sqlx::raw_sql(durability.settings()).execute(&mut connection).await?;
        Ok(connection)
    })
    .await
}

/// The identity of the server behind a connection, as rows of `meta`.
pub async fn identity(connection: &mut PgConnection) -> Result<Expected> {
    let (system, timeline, oid): (String, String, String) = sqlx::query_as(IDENTITY).fetch_one(connection).await?;
    let lost = "votes may be missing in it: it was restored, moved, or a replica took over";
    Ok(vec![("system_identifier", system, lost), ("timeline", timeline, lost), ("database_oid", oid, lost)])
}

/// All rows of `meta`, none where there is no such table.
pub async fn meta(connection: &mut PgConnection) -> Result<Meta> {
    let made: bool =
        sqlx::query_scalar("SELECT to_regclass('ledger.meta') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !made {
        return Ok(Meta::new());
    }
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT name, value FROM ledger.meta").fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Compares server and owner with what they were when the database was opened.
pub async fn check(connection: &mut PgConnection, expected: &Expected) -> Result<()> {
    let live = identity(connection).await?.into_iter().map(|(name, value, _)| (name.to_owned(), value));
    let mut found = meta(connection).await?;
    if !owner::compare(&found, expected)?.is_empty() {
        return Err(StorageError::Foreign("its tables are gone or new: votes are missing in it".to_owned()));
    }
    found.extend(live);
    owner::compare(&found, expected).map(|_| ())
}

/// Fails a call that takes longer than `bound`; its outcome is then unknown.
pub async fn limit<T>(bound: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(bound, call).await.unwrap_or_else(|_| {
        let late = format!("no answer within {} s", bound.as_secs());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, late)).into())
    })
}

/// Repeats a call that may be done twice while connections break, for at most about `bound`.
pub async fn retry<T, F: Future<Output = Result<T>>>(
    operation: &'static str,
    bound: Duration,
    call: impl Fn() -> F,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = PAUSE.0;
    loop {
        match call().await {
            Err(cause) if is_passing(&cause) && started.elapsed() < bound => {
                warn!(%cause, operation, "database call failed, trying again");
            }
            outcome => return outcome,
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// The connection is of no use any more.
pub fn is_lost(cause: &StorageError) -> bool {
    let StorageError::Database(cause) = cause else { return false };
    match cause.as_ref() {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
        // Connection exceptions; shutdowns; sessions ended for idling; a standby that takes no writes.
        sqlx::Error::Database(cause) => cause.code().is_some_and(|code| {
            code.starts_with("08") || code.starts_with("57P") || code == "25P03" || code == "25006"
        }),
        _ => false,
    }
}

/// Trying again may help: lost connections, too many of them, and transactions the server chose to abort.
fn is_passing(cause: &StorageError) -> bool {
    let code = match cause {
        StorageError::Database(cause) => cause.as_database_error().and_then(|cause| cause.code()),
        _ => None,
    };
    is_lost(cause) || matches!(code.as_deref(), Some("53300" | "40001" | "40P01"))
}
