//! Final blocks on their way to the database: ledger first, then the state, folded (P11).

use crate::metrics::Metrics;
use crate::storage::{BatchWrite, BlockWrite, ReceiptRow, StateWrite, Storage, StorageError, TransactionRow};
use aitbc_core::block::{Candidate, Header};
use aitbc_core::consensus::input::Input;
use aitbc_core::epoch::Epochs;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::record::{Record, RecordChange, RecordKey};
use aitbc_core::vote::Cert;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::error;

/// Final blocks waiting for the ledger.
pub const QUEUE: usize = 256;
/// Blocks that share a commit.
const GROUP: usize = 32;
/// Fetched blocks that share a commit. The Final certificates of live slots wait behind it, and what votes a node casts that
/// is behind; nobody waits for either.
const FETCHED_GROUP: usize = 256;
/// Rows of state of blocks that one write applies; more wait for the next one.
const FOLDED_ROWS: usize = 120_000;
/// Rows of state of blocks in the ledger that are not applied, above which the leader proposes empty blocks (C7) and block
/// sync waits: those of one write and of the next one.
pub const MAX_LAG_ROWS: usize = 2 * FOLDED_ROWS;
/// Blocks in the ledger waiting for their state; once there is no room the ledger waits too, and then execution.
const STATE_QUEUE: usize = 8 * QUEUE;
/// The same, above which the leader proposes empty blocks however few rows they have (C7).
const MAX_LAG_BLOCKS: usize = STATE_QUEUE / 2;
/// Heights between two deletions of old votes and certificates (P9).
const PRUNE_EVERY: u64 = 128;
/// The same while blocks are fetched: such a node writes a certificate a live slot, and a deletion costs as much as a commit of blocks.
const FETCHED_PRUNE_EVERY: u64 = 4_096;
/// First and longest pause before a failed write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How long the state rests after each write. The more blocks a write folds, the fewer rows it has for each: accounts change in most
/// blocks. Rows are there that much later, unless somebody asks for them, and a restart executes as much again.
#[derive(Clone, Copy)]
pub struct Rest {
    /// So many times what the write took.
    pub times: u32,
    /// And no longer than this.
    pub at_most: Duration,
}

impl Default for Rest {
    fn default() -> Rest {
        Rest { times: 3, at_most: Duration::from_secs(1) }
    }
}

/// A final block with what it changes.
pub struct CommitJob {
    /// Digest of its header.
    pub digest: Hash,
    /// Header and leader's signature.
    pub candidate: Candidate,
    /// Own Final certificate.
    pub cert: Option<Cert>,
    /// Of a block that came by block sync its batches, which are not in the ledger yet; `None`: they are (P3).
    pub fetched: Option<Vec<BatchWrite>>,
    /// Changed accounts: address, balance, nonce.
    pub accounts: Vec<(Address, u64, u64)>,
    /// Changed records; `None`: it is gone.
    pub records: Vec<RecordChange>,
    /// Its transactions' outcomes.
    pub transactions: Arc<[TransactionRow]>,
    /// Receipts it minted.
    pub receipts: Vec<ReceiptRow>,
    /// State root after it.
    pub state_root: Hash,
    /// Root of its results.
    pub results_root: Hash,
}

impl CommitJob {
    /// Rows of its state: what it takes while it waits for the state, but for its header.
    fn rows(&self) -> usize {
        self.accounts.len() + self.records.len() + self.transactions.len() + self.receipts.len()
    }

    fn into_state(self) -> StateWrite {
        StateWrite {
            height: self.candidate.header.height,
            state_root: self.state_root,
            results_root: self.results_root,
            accounts: self.accounts,
            records: self.records,
            transactions: self.transactions.to_vec(),
            receipts: self.receipts,
        }
    }
}

/// State changes of consecutive blocks, each account and record once.
#[derive(Default)]
pub struct Folded {
    height: u64,
    roots: (Hash, Hash),
    accounts: BTreeMap<Address, (u64, u64)>,
    records: BTreeMap<RecordKey, Option<Record>>,
    transactions: Vec<TransactionRow>,
    receipts: Vec<ReceiptRow>,
}

impl Folded {
    /// Adds the changes of the next block.
    pub fn add(&mut self, block: StateWrite) {
        self.height = block.height;
        self.roots = (block.state_root, block.results_root);
        self.accounts.extend(block.accounts.into_iter().map(|(address, balance, nonce)| (address, (balance, nonce))));
        self.records.extend(block.records);
        self.transactions.extend(block.transactions);
        self.receipts.extend(block.receipts);
    }

    /// All of them as one change, to the height of the last block.
    pub fn into_write(self) -> StateWrite {
        StateWrite {
            height: self.height,
            state_root: self.roots.0,
            results_root: self.roots.1,
            accounts: self.accounts.into_iter().map(|(address, (balance, nonce))| (address, balance, nonce)).collect(),
            records: self.records.into_iter().collect(),
            transactions: self.transactions,
            receipts: self.receipts,
        }
    }
}

/// What the two writers need.
pub struct Commit {
    /// The database.
    pub storage: Arc<dyn Storage>,
    /// Where the vote floor is, below the last block (P9).
    pub epochs: Epochs,
    /// Told when the state lags, so that it leads with empty blocks.
    pub core: mpsc::Sender<Input>,
    /// Height of the last block in the ledger.
    pub stored: watch::Sender<u64>,
    /// Rows of state of blocks in the ledger that are not applied; raised before `stored` is.
    pub unapplied: watch::Sender<usize>,
    /// Of the state after a write.
    pub rest: Rest,
    /// Notified by who wants rows of the last blocks: the rest is over then.
    pub wanted: Arc<Notify>,
    /// Commit times and heights.
    pub metrics: Arc<Metrics>,
    /// Told when the ledger refuses a block for good: another process has the lease, or holds another block.
    pub failed: watch::Sender<Option<NodeFailure>>,
}

/// Why the process must end.
pub type NodeFailure = Arc<StorageError>;

impl Commit {
    /// Writes jobs until the channel closes, then flushes; the state is written beside the ledger, never ahead.
    pub async fn run(self, mut jobs: mpsc::Receiver<CommitJob>) {
        let (state_jobs, state_waiting) = mpsc::channel(STATE_QUEUE);
        let state = StateWriter {
            storage: self.storage.clone(),
            unapplied: self.unapplied.clone(),
            rest: self.rest,
            wanted: self.wanted.clone(),
            metrics: self.metrics.clone(),
        };
        let state = tokio::spawn(state.run(state_waiting));
        tokio::spawn(tell_lag(self.unapplied.subscribe(), state_jobs.downgrade(), self.core.clone()));
        let mut group = Vec::with_capacity(GROUP);
        let mut pruned = 0;
        while jobs.recv_many(&mut group, GROUP).await > 0 {
            take_fetched(&mut group, &mut jobs);
            if !self.write_ledger(&group).await {
                return;
            }
            let Some(last) = group.last() else { continue };
            let Header { epoch, slot, height, .. } = last.candidate.header;
            self.unapplied.send_modify(|rows| *rows += group.iter().map(CommitJob::rows).sum::<usize>());
            self.stored.send_replace(height);
            if height >= pruned + if last.fetched.is_some() { FETCHED_PRUNE_EVERY } else { PRUNE_EVERY } {
                pruned = height;
                self.prune((epoch, slot), height).await;
            }
            for mut job in group.drain(..) {
                // They are in the ledger, and many blocks may wait for their state.
                job.fetched = None;
                if state_jobs.send(job).await.is_err() {
                    return;
                }
            }
        }
        drop(state_jobs);
        let _ = state.await;
    }

    /// Tries until it holds: nothing may be built on a ledger with a hole. The full queue stops execution meanwhile.
    /// False where trying again cannot help.
    async fn write_ledger(&self, group: &[CommitJob]) -> bool {
        let mut pause = RETRY.0;
        loop {
            let timer = self.metrics.database_seconds.with_label_values(&["blocks"]).start_timer();
            let result = self.write_once(group).await;
            timer.observe_duration();
            let cause = match result {
                Ok(()) => return true,
                Err(StorageError::Database(cause)) => cause,
                Err(cause) => {
                    error!(%cause, blocks = group.len(), "the ledger refuses final blocks");
                    self.failed.send_replace(Some(Arc::new(cause)));
                    return false;
                }
            };
            error!(%cause, blocks = group.len(), "final blocks could not be stored, trying again");
            self.metrics.database_errors.with_label_values(&["blocks"]).inc();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    async fn write_once(&self, group: &[CommitJob]) -> Result<(), StorageError> {
        let batches: Vec<BatchWrite> =
            group.iter().filter_map(|job| job.fetched.as_deref()).flatten().cloned().collect();
        if !batches.is_empty() {
            self.storage.commit_batches(batches).await?;
        }
        let write = |job: &CommitJob| BlockWrite {
            digest: job.digest,
            candidate: job.candidate.clone(),
            cert: job.cert.clone(),
        };
        self.storage.commit_blocks(group.iter().map(write).collect()).await
    }

    async fn prune(&self, (epoch, slot): (u64, u64), height: u64) {
        let floor = self.epochs.vote_floor(epoch, slot);
        if let Err(cause) = self.storage.prune(floor, height).await {
            error!(%cause, "old votes and certificates could not be deleted");
            self.metrics.database_errors.with_label_values(&["prune"]).inc();
        }
    }
}

/// Lengthens a group of fetched blocks by what is there.
fn take_fetched(group: &mut Vec<CommitJob>, jobs: &mut mpsc::Receiver<CommitJob>) {
    while group.len() < FETCHED_GROUP && group.last().is_some_and(|job| job.fetched.is_some()) {
        let Ok(job) = jobs.try_recv() else { return };
        group.push(job);
    }
}

/// Tells the core whether the state lags: at once, for one slow write may last while hundreds of blocks come.
/// `waiting` is the queue of such blocks, which this task does not keep open.
async fn tell_lag(
    mut unapplied: watch::Receiver<usize>,
    waiting: mpsc::WeakSender<CommitJob>,
    core: mpsc::Sender<Input>,
) {
    let mut lagging = false;
    loop {
        let rows = *unapplied.borrow_and_update();
        let blocks = waiting.upgrade().map_or(0, |jobs| jobs.max_capacity() - jobs.capacity());
        let behind = rows > MAX_LAG_ROWS || blocks > MAX_LAG_BLOCKS;
        if behind != lagging {
            lagging = behind;
            // Fails only while the node stops.
            let _ = core.send(Input::Lagging(lagging)).await;
        }
        if unapplied.changed().await.is_err() {
            return;
        }
    }
}

/// Applies folded state, as many blocks at once as came during the last write and the rest after it.
struct StateWriter {
    storage: Arc<dyn Storage>,
    unapplied: watch::Sender<usize>,
    rest: Rest,
    wanted: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl StateWriter {
    async fn run(self, mut waiting: mpsc::Receiver<CommitJob>) {
        let mut rest_until = Instant::now();
        while let Some(first) = waiting.recv().await {
            let (mut rows, mut folded) = (first.rows(), Folded::default());
            folded.add(first.into_state());
            while rows < FOLDED_ROWS {
                // What is there is taken also where the rest is over.
                let job = tokio::select! {
                    biased;
                    job = waiting.recv() => job,
                    () = self.wanted.notified() => None,
                    () = sleep_until(rest_until) => None,
                };
                // Also where none comes any more: the node stops.
                let Some(job) = job else { break };
                rows += job.rows();
                folded.add(job.into_state());
            }
            let (height, begun) = (folded.height, Instant::now());
            self.write(folded.into_write()).await;
            rest_until = Instant::now() + (begun.elapsed() * self.rest.times).min(self.rest.at_most);
            self.unapplied.send_modify(|unapplied| *unapplied = unapplied.saturating_sub(rows));
            self.metrics.state_height.set(height as i64);
        }
    }

    /// Tries until it holds.
    async fn write(&self, write: StateWrite) {
        let mut pause = RETRY.0;
        loop {
            let timer = self.metrics.database_seconds.with_label_values(&["state"]).start_timer();
            let result = self.storage.apply_state(write.clone()).await;
            timer.observe_duration();
            let Err(cause) = result else { return };
            error!(%cause, height = write.height, "state could not be applied, trying again");
            self.metrics.database_errors.with_label_values(&["state"]).inc();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{database, unsigned};
    use aitbc_core::batch::Batch;
    use aitbc_core::evidence::Class;
    use aitbc_core::hash::plain;
    use aitbc_core::key::{PublicKey, SecretKey};
    use aitbc_core::record::RecordChange;
    use sqlx::Connection;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

    fn job(height: u64, accounts: Vec<(Address, u64, u64)>, records: Vec<RecordChange>) -> CommitJob {
        let (candidate, roots) = (unsigned(height), (plain(&height.to_le_bytes()), plain(b"results")));
        CommitJob {
            digest: candidate.header.digest(),
            candidate,
            cert: None,
            fetched: None,
            accounts,
            records,
            transactions: Vec::new().into(),
            receipts: Vec::new(),
            state_root: roots.0,
            results_root: roots.1,
        }
    }

    fn fetched(height: u64) -> CommitJob {
        let batch = Batch::seal(&Hash::ZERO, &SecretKey::from_seed([1; 32]), (0, 0), height, 100, Vec::new());
        let fetched = Some(vec![BatchWrite { digest: batch.digest(), batch: Arc::new(batch) }]);
        CommitJob { fetched, ..job(height, vec![(Address([1; 20]), height, 0)], Vec::new()) }
    }

    /// Writers at work, whose state cannot be written.
    struct Stuck {
        jobs: mpsc::Sender<CommitJob>,
        commit: tokio::task::JoinHandle<()>,
        ledger: watch::Receiver<u64>,
        rows: watch::Receiver<usize>,
        inputs: mpsc::Receiver<Input>,
        state: SqliteConnection,
        wanted: Arc<Notify>,
        metrics: Arc<Metrics>,
        _dir: tempfile::TempDir,
    }

    impl Stuck {
        async fn start() -> Stuck {
            Stuck::start_with(Rest::default()).await
        }

        async fn start_with(rest: Rest) -> Stuck {
            let dir = tempfile::tempdir().expect("folder");
            let metrics = Arc::new(Metrics::new().expect("metrics"));
            let storage = database(dir.path(), &metrics).await;
            storage.reset_state(Folded::default().into_write()).await.expect("genesis");
            let options = SqliteConnectOptions::new().filename(dir.path().join("chain-state.db"));
            let mut state = SqliteConnection::connect_with(&options).await.expect("connects");
            sqlx::query("BEGIN IMMEDIATE").execute(&mut state).await.expect("locks the state");
            let ((core, inputs), (failed, _)) = (mpsc::channel(8), watch::channel(None));
            let ((stored, ledger), (unapplied, rows)) = (watch::channel(0), watch::channel(0));
            let (jobs, waiting) = mpsc::channel(QUEUE);
            let (epochs, wanted, kept) = (Epochs::new(1_000), Arc::new(Notify::new()), metrics.clone());
            let of_readers = wanted.clone();
            let commit = Commit { storage, epochs, core, stored, unapplied, rest, wanted, metrics, failed };
            let commit = tokio::spawn(commit.run(waiting));
            Stuck { jobs, commit, ledger, rows, inputs, state, wanted: of_readers, metrics: kept, _dir: dir }
        }

        async fn commit(&mut self, job: CommitJob) {
            let height = job.candidate.header.height;
            assert!(self.jobs.send(job).await.is_ok());
            self.ledger.wait_for(|stored| *stored >= height).await.expect("commits");
        }

        /// Blocks without a row, up to a height.
        async fn commit_small(&mut self, to: u64) {
            let from = *self.ledger.borrow() + 1;
            for height in from..=to {
                assert!(self.jobs.send(job(height, Vec::new(), Vec::new())).await.is_ok());
            }
            self.ledger.wait_for(|stored| *stored >= to).await.expect("commits");
        }

        /// Writes of the state that began and ended, in vain or not.
        fn state_writes(&self) -> u64 {
            self.metrics.database_seconds.with_label_values(&["state"]).get_sample_count()
        }

        async fn unlock(&mut self) {
            sqlx::query("ROLLBACK").execute(&mut self.state).await.expect("unlocks");
        }
    }

    #[tokio::test]
    async fn blocks_that_wait_for_their_state_hold_no_batches_and_their_rows_are_counted_until_it_is_applied() {
        let mut stuck = Stuck::start().await;
        let mut batches = Vec::new();
        for height in 1..=3 {
            let job = fetched(height);
            batches.extend(job.fetched.iter().flatten().map(|write| Arc::downgrade(&write.batch)));
            stuck.commit(job).await;
        }
        // That of block 1 is tried in vain; block 2 waits behind it.
        assert!(batches[1].upgrade().is_none(), "a batch is kept though it is in the ledger");
        assert_eq!(*stuck.rows.borrow(), 3);
        stuck.unlock().await;
        drop(stuck.jobs);
        stuck.commit.await.expect("ends");
        assert_eq!(*stuck.rows.borrow(), 0);
    }

    #[tokio::test]
    async fn the_state_rests_after_a_write_and_folds_what_comes_until_somebody_wants_it_or_the_node_stops() {
        // An hour, however short the write.
        let mut stuck = Stuck::start_with(Rest { times: u32::MAX, at_most: Duration::from_secs(3_600) }).await;
        let pays = |height| job(height, vec![(Address([1; 20]), height, 0)], Vec::new());
        stuck.commit(pays(1)).await;
        stuck.unlock().await;
        stuck.rows.wait_for(|rows| *rows == 0).await.expect("applies");
        let writes = stuck.state_writes();
        for height in 2..=50 {
            stuck.commit(pays(height)).await;
        }
        assert_eq!((stuck.state_writes(), *stuck.rows.borrow()), (writes, 49));
        // As a reader does: the last block is in the ledger a moment before it is told to who applies the state.
        while *stuck.rows.borrow() > 0 {
            stuck.wanted.notify_one();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(stuck.state_writes() <= writes + 2, "49 blocks, or 48 and then the last");
        stuck.commit(pays(51)).await;
        let rows = stuck.rows.clone();
        drop(stuck.jobs);
        stuck.commit.await.expect("ends");
        assert_eq!(*rows.borrow(), 0);
    }

    #[tokio::test]
    async fn c7_the_core_is_told_that_the_state_lags_while_one_write_still_lasts_and_that_it_does_no_more() {
        let mut stuck = Stuck::start().await;
        let rows = |height, count| job(height, vec![(Address([1; 20]), height, 0); count], Vec::new());
        stuck.commit(rows(1, 1)).await;
        // That of block 1 is tried in vain; what comes now waits behind it.
        stuck.commit(rows(2, MAX_LAG_ROWS - 1)).await;
        assert_eq!(*stuck.rows.borrow(), MAX_LAG_ROWS);
        assert!(stuck.inputs.try_recv().is_err(), "as many as may be");
        stuck.commit(rows(3, 1)).await;
        assert!(matches!(stuck.inputs.recv().await, Some(Input::Lagging(true))));
        stuck.unlock().await;
        assert!(matches!(stuck.inputs.recv().await, Some(Input::Lagging(false))));
        assert!(*stuck.rows.borrow() <= MAX_LAG_ROWS);
    }

    #[tokio::test]
    async fn c7_the_core_is_told_that_the_state_lags_where_blocks_of_few_rows_fill_half_of_the_queue() {
        let mut stuck = Stuck::start().await;
        stuck.commit(job(1, vec![(Address([1; 20]), 1, 0)], Vec::new())).await;
        // That of block 1 is tried in vain; what comes now waits behind it.
        let half = 1 + MAX_LAG_BLOCKS as u64;
        stuck.commit_small(half).await;
        assert!(stuck.inputs.try_recv().is_err(), "as many as may be");
        // Of all groups but the last one it was told before that one was in the ledger.
        stuck.commit_small(half + 4 * GROUP as u64).await;
        assert_eq!(*stuck.rows.borrow(), 1);
        assert!(matches!(stuck.inputs.try_recv(), Ok(Input::Lagging(true))));
        stuck.unlock().await;
        assert!(matches!(stuck.inputs.recv().await, Some(Input::Lagging(false))));
    }

    #[test]
    fn folded_blocks_hold_each_account_and_record_once_as_the_last_block_left_it() {
        let (a, b) = (Address([1; 20]), Address([2; 20]));
        let mut folded = Folded::default();
        let key = |epoch| RecordKey::Evidence { key: PublicKey([1; 32]), epoch, class: Class::Notars };
        let record = |slot| Some(Record::Evidence { slot, height: 1 });
        folded.add(job(1, vec![(a, 10, 1), (b, 5, 0)], vec![(key(1), record(1)), (key(2), record(2))]).into_state());
        folded.add(job(2, vec![(a, 7, 2)], vec![(key(1), None), (key(3), record(3))]).into_state());
        let write = folded.into_write();
        assert_eq!(write.height, 2);
        assert_eq!(write.state_root, plain(&2u64.to_le_bytes()));
        assert_eq!(write.accounts, vec![(a, 7, 2), (b, 5, 0)]);
        assert_eq!(write.records, vec![(key(1), None), (key(2), record(2)), (key(3), record(3))]);
    }
}
