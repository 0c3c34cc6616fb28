//! Writes the ledger's log back into its file beside the commits, so that a vote seldom pays for it.

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::warn;

/// Bytes in the log after which it is written back.
const AFTER: usize = 2 << 20;
/// Pages in the log after which the writer does it itself, which also lets the log begin anew. Reached only under load
/// without a pause; little is left to do then.
pub(super) const INLINE_PAGES: &str = "8192";

/// Counts what was written and wakes the task.
#[derive(Default)]
pub(super) struct Checkpoints {
    written: AtomicUsize,
    due: Notify,
}

impl Checkpoints {
    /// Some bytes went to the log.
    pub(super) fn wrote(&self, bytes: usize) {
        if self.written.fetch_add(bytes, Ordering::Relaxed) + bytes >= AFTER {
            self.written.store(0, Ordering::Relaxed);
            self.due.notify_one();
        }
    }

    /// Starts the task on a connection of its own; it ends when aborted.
    pub(super) fn start(self: Arc<Self>, options: SqliteConnectOptions) -> JoinHandle<()> {
        tokio::spawn(async move {
            let options = options.pragma("wal_autocheckpoint", "0");
            let mut connection = match SqliteConnection::connect_with(&options).await {
                Ok(connection) => connection,
                Err(cause) => return warn!(%cause, "the writer writes its log back itself"),
            };
            loop {
                self.due.notified().await;
                // Passive: waits for nobody and nobody waits for it.
                if let Err(cause) = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await {
                    warn!(%cause, "the ledger's log could not be written back");
                }
            }
        })
    }
}
