//! A queue of writes before one connection: those that wait at the same time share a commit.

use super::{Result, StorageError};
use futures_util::future::BoxFuture;
use prometheus::IntGauge;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Writes waiting for their commit; more wait in their callers.
const QUEUE: usize = 256;
/// Most writes of one commit.
const GROUP: usize = 64;
/// Bytes after which a commit takes no further write: bounds how long a vote waits behind bulk data on SQLite.
pub const GROUP_BYTES: usize = 512 << 10;
/// After this long without a write the connection is checked.
const IDLE: Duration = Duration::from_secs(1);

struct Waiting<J> {
    job: J,
    done: oneshot::Sender<Result<()>>,
}

/// What a lane does with its jobs.
pub trait Writer<J>: Send + Sync + 'static {
    /// One durable commit of all.
    fn write<'a>(&'a self, jobs: &'a [J]) -> BoxFuture<'a, Result<()>>;
    /// Nothing to do for a while.
    fn idle(&self) -> BoxFuture<'_, ()>;
    /// Bytes of a job, roughly.
    fn weight(job: &J) -> usize;
}

/// The sending half of a queue with the task behind it.
pub struct Lane<J> {
    sender: Mutex<Option<mpsc::Sender<Waiting<J>>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    depth: IntGauge,
}

impl<J: Send + Sync + 'static> Lane<J> {
    /// Starts the task.
    pub fn start<W: Writer<J>>(writer: W, depth: IntGauge) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(writer, receiver));
        Lane { sender: Mutex::new(Some(sender)), task: Mutex::new(Some(task)), depth }
    }

    /// Waits until the job is committed.
    ///
    /// # Errors
    /// What the database said, or that the lane is closed.
    pub async fn write(&self, job: J) -> Result<()> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sender = sender.ok_or(sqlx::Error::PoolClosed)?;
        let (done, answer) = oneshot::channel();
        self.depth.inc();
        let outcome = match sender.send(Waiting { job, done }).await {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed.into())),
            Err(_) => Err(sqlx::Error::PoolClosed.into()),
        };
        self.depth.dec();
        outcome
    }

    /// Takes no further jobs, waits for those taken.
    pub async fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // Fails only if the task panicked; then nothing is left to wait for.
            let _ = task.await;
        }
    }
}

async fn run<J: Send + Sync + 'static, W: Writer<J>>(writer: W, mut queue: mpsc::Receiver<Waiting<J>>) {
    loop {
        let Ok(first) = tokio::time::timeout(IDLE, queue.recv()).await else {
            writer.idle().await;
            continue;
        };
        let Some(first) = first else { return };
        let mut bytes = W::weight(&first.job);
        let (mut jobs, mut waiting) = (vec![first.job], vec![first.done]);
        while jobs.len() < GROUP && bytes < GROUP_BYTES {
            let Ok(next) = queue.try_recv() else { break };
            bytes += W::weight(&next.job);
            jobs.push(next.job);
            waiting.push(next.done);
        }
        commit(&writer, jobs, waiting).await;
    }
}

/// Commits a group. A job that is refused must not sink the others, so they are then committed one by one;
/// after an unknown outcome nothing is tried again (P6).
async fn commit<J, W: Writer<J>>(writer: &W, jobs: Vec<J>, waiting: Vec<oneshot::Sender<Result<()>>>) {
    let outcome = writer.write(&jobs).await;
    let alone = matches!(&outcome, Err(StorageError::ConflictingVote { .. } | StorageError::Corrupt(_)));
    if alone && jobs.len() > 1 {
        for (job, done) in jobs.iter().zip(waiting) {
            let _ = done.send(writer.write(std::slice::from_ref(job)).await);
        }
        return;
    }
    for done in waiting {
        // The caller may have gone.
        let _ = done.send(outcome.clone());
    }
}
