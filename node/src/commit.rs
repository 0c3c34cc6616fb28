//! Final blocks on their way to the database: ledger first, then the state, folded (P11).

use crate::metrics::Metrics;
use crate::storage::{BatchWrite, BlockWrite, StateWrite, Storage, StorageError, TransactionRow};
use aitbc_core::block::Candidate;
use aitbc_core::consensus::input::Input;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::params::KEEP_FINAL_SLOTS;
use aitbc_core::record::{Record, RecordChange, RecordKey};
use aitbc_core::vote::Cert;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::error;

/// Final blocks waiting for the ledger.
pub const QUEUE: usize = 256;
/// Blocks that share a commit.
const GROUP: usize = 32;
/// Fetched blocks that share a commit: while they come this node does not vote, so no vote waits behind it.
const FETCHED_GROUP: usize = 256;
/// Blocks in the ledger whose state is not applied; from here on the leader proposes empty blocks (C7).
const MAX_LAG_BLOCKS: usize = 512;
/// Transactions of such blocks.
const MAX_LAG_TRANSACTIONS: usize = 60_000;
/// Heights between two deletions of old votes and certificates (P9).
const PRUNE_EVERY: u64 = 128;
/// The same while blocks are fetched: such a node writes no votes, and a deletion costs as much as a commit of blocks.
const FETCHED_PRUNE_EVERY: u64 = 4_096;
/// First and longest pause before a failed write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

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
    /// State root after it.
    pub state_root: Hash,
    /// Root of its results.
    pub results_root: Hash,
}

/// State changes of consecutive blocks, each account and record once.
#[derive(Default)]
struct Folded {
    height: u64,
    blocks: usize,
    roots: (Hash, Hash),
    accounts: BTreeMap<Address, (u64, u64)>,
    records: BTreeMap<RecordKey, Option<Record>>,
    transactions: Vec<TransactionRow>,
}

impl Folded {
    fn add(&mut self, job: CommitJob) {
        self.height = job.candidate.header.height;
        self.blocks += 1;
        self.roots = (job.state_root, job.results_root);
        self.accounts.extend(job.accounts.into_iter().map(|(address, balance, nonce)| (address, (balance, nonce))));
        self.records.extend(job.records);
        self.transactions.extend(job.transactions.iter().cloned());
    }

    fn into_write(self) -> StateWrite {
        StateWrite {
            height: self.height,
            state_root: self.roots.0,
            results_root: self.roots.1,
            accounts: self.accounts.into_iter().map(|(address, (balance, nonce))| (address, balance, nonce)).collect(),
            records: self.records.into_iter().collect(),
            transactions: self.transactions,
        }
    }
}

/// What the two writers need.
pub struct Commit {
    /// The database.
    pub storage: Arc<dyn Storage>,
    /// Told when the state lags, so that it leads with empty blocks.
    pub core: mpsc::Sender<Input>,
    /// Height of the last block in the ledger.
    pub stored: watch::Sender<u64>,
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
        let (state_jobs, state_waiting) = mpsc::channel(QUEUE * 8);
        let state =
            tokio::spawn(write_state(self.storage.clone(), self.metrics.clone(), self.core.clone(), state_waiting));
        let mut group = Vec::with_capacity(GROUP);
        let mut pruned = 0;
        while jobs.recv_many(&mut group, GROUP).await > 0 {
            take_fetched(&mut group, &mut jobs);
            if !self.write_ledger(&group).await {
                return;
            }
            let Some(last) = group.last() else { continue };
            let (slot, height) = (last.candidate.header.slot, last.candidate.header.height);
            self.stored.send_replace(height);
            if height >= pruned + if last.fetched.is_some() { FETCHED_PRUNE_EVERY } else { PRUNE_EVERY } {
                pruned = height;
                self.prune(slot, height).await;
            }
            for job in group.drain(..) {
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

    async fn prune(&self, slot: u64, height: u64) {
        if let Err(cause) = self.storage.prune(slot.saturating_sub(KEEP_FINAL_SLOTS), height).await {
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

/// Applies folded state, as many blocks at once as came during the last write.
async fn write_state(
    storage: Arc<dyn Storage>,
    metrics: Arc<Metrics>,
    core: mpsc::Sender<Input>,
    mut waiting: mpsc::Receiver<CommitJob>,
) {
    let mut lagging = false;
    while let Some(first) = waiting.recv().await {
        let mut folded = Folded::default();
        folded.add(first);
        while let Ok(job) = waiting.try_recv() {
            folded.add(job);
            if folded.transactions.len() >= MAX_LAG_TRANSACTIONS {
                break;
            }
        }
        let behind = folded.blocks >= MAX_LAG_BLOCKS || folded.transactions.len() >= MAX_LAG_TRANSACTIONS;
        if behind != lagging {
            lagging = behind;
            let _ = core.send(Input::Lagging(lagging)).await;
        }
        let height = folded.height;
        let write = folded.into_write();
        let mut pause = RETRY.0;
        loop {
            let timer = metrics.database_seconds.with_label_values(&["state"]).start_timer();
            let result = storage.apply_state(write.clone()).await;
            timer.observe_duration();
            let Err(cause) = result else { break };
            error!(%cause, height, "state could not be applied, trying again");
            metrics.database_errors.with_label_values(&["state"]).inc();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
        metrics.state_height.set(height as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::{CommitJob, Folded};
    use aitbc_core::block::{Candidate, Header, VERSION};
    use aitbc_core::evidence::Class;
    use aitbc_core::hash::{Hash, plain};
    use aitbc_core::key::{Address, PublicKey, Signature};
    use aitbc_core::record::{Record, RecordChange, RecordKey};

    fn job(height: u64, accounts: Vec<(Address, u64, u64)>, records: Vec<RecordChange>) -> CommitJob {
        let header = Header {
            version: VERSION,
            epoch: 0,
            slot: height,
            height,
            parent_slot: height - 1,
            parent: Hash::ZERO,
            parent_state_root: Hash::ZERO,
            parent_results_root: Hash::ZERO,
            time_ms: height,
            proposer: 0,
            set_hash: Hash::ZERO,
            next_set_hash: Hash::ZERO,
            batches: Vec::new(),
            evidence: Vec::new(),
        };
        let roots = (plain(&height.to_le_bytes()), plain(b"results"));
        CommitJob {
            digest: header.digest(),
            candidate: Candidate { header, signature: Signature([0; 64]) },
            cert: None,
            fetched: None,
            accounts,
            records,
            transactions: Vec::new().into(),
            state_root: roots.0,
            results_root: roots.1,
        }
    }

    #[test]
    fn folded_blocks_hold_each_account_and_record_once_as_the_last_block_left_it() {
        let (a, b) = (Address([1; 20]), Address([2; 20]));
        let mut folded = Folded::default();
        let key = |epoch| RecordKey::Evidence { key: PublicKey([1; 32]), epoch, class: Class::Notars };
        let record = |slot| Some(Record::Evidence { slot, height: 1 });
        folded.add(job(1, vec![(a, 10, 1), (b, 5, 0)], vec![(key(1), record(1)), (key(2), record(2))]));
        folded.add(job(2, vec![(a, 7, 2)], vec![(key(1), None), (key(3), record(3))]));
        let write = folded.into_write();
        assert_eq!(write.height, 2);
        assert_eq!(write.state_root, plain(&2u64.to_le_bytes()));
        assert_eq!(write.accounts, vec![(a, 7, 2), (b, 5, 0)]);
        assert_eq!(write.records, vec![(key(1), None), (key(2), record(2)), (key(3), record(3))]);
    }
}
