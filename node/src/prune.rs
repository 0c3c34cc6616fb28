//! Deletes transactions of old blocks, a few blocks at a time, where `PRUNING` says how many are kept.
//!
//! ```text
//! height 1 … lowest − 1: headers, certificates      lowest … stored: whole blocks
//!                      └ moves up to stored − keep, never above the state that is on disk: a start executes from there
//! ```

use crate::metrics::Metrics;
use crate::storage::{Result, Storage};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{error, info};

/// Blocks too many before a commit deletes them: a commit for each would cost as much as the block itself.
const AT_LEAST: u64 = 32;
/// Shortest pause between two commits; otherwise it lasts as long as the one before, so votes get at least half the time.
const PAUSE: Duration = Duration::from_millis(2);
/// Pause after a failure, and before the state is asked again to be on disk.
const RETRY: Duration = Duration::from_secs(1);

/// What the task works with.
pub struct Prune {
    /// The database.
    pub storage: Arc<dyn Storage>,
    /// Blocks that are kept whole; at least [`MIN_KEEP_BLOCKS`](aitbc_core::params::MIN_KEEP_BLOCKS).
    pub keep: u64,
    /// Height of the last block in the ledger.
    pub stored: watch::Receiver<u64>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Deletes the batches that a fetched state made needless (S3), a few at a time, until there are none or the node stops: in the
/// commit that stored the state all of them could take longer than a commit may.
pub async fn sweep(storage: Arc<dyn Storage>, stored: watch::Receiver<u64>, metrics: Arc<Metrics>) {
    let mut swept = 0;
    loop {
        let start = Instant::now();
        match storage.forget_leftovers().await {
            Ok(0) => break,
            Ok(batches) => {
                swept += batches;
                tokio::time::sleep(start.elapsed().max(PAUSE)).await;
            }
            // The node stops, and the database is closed.
            Err(_) if stored.has_changed().is_err() => break,
            Err(cause) => {
                error!(%cause, "batches below a fetched state could not be deleted");
                metrics.database_errors.with_label_values(&["prune_bodies"]).inc();
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    if swept > 0 {
        info!(batches = swept, "batches below the fetched state are deleted");
    }
}

impl Prune {
    /// Deletes until the node stops.
    pub async fn run(mut self) {
        info!(keep = self.keep, lowest = self.storage.lowest(), "old blocks lose their transactions");
        // Height up to which the state is on disk.
        let mut durable = 0;
        loop {
            let below = (*self.stored.borrow_and_update() + 1).saturating_sub(self.keep);
            if self.storage.lowest() + AT_LEAST > below {
                if self.stored.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let start = Instant::now();
            match self.step(below, &mut durable).await {
                Ok(true) => tokio::time::sleep(start.elapsed().max(PAUSE)).await,
                Ok(false) => tokio::time::sleep(RETRY).await,
                // The node stops, and the database is closed.
                Err(_) if self.stored.has_changed().is_err() => return,
                Err(cause) => {
                    error!(%cause, "transactions of old blocks could not be deleted");
                    self.metrics.database_errors.with_label_values(&["prune_bodies"]).inc();
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// One commit. False where nothing may be deleted yet, because the state is not on disk.
    async fn step(&self, below: u64, durable: &mut u64) -> Result<bool> {
        if *durable + 1 < below {
            *durable = self.storage.flush_state().await?.unwrap_or(*durable);
        }
        let (before, below) = (self.storage.lowest(), below.min(*durable + 1));
        Ok(before < below && self.storage.forget_bodies(below).await? > before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{BlockWrite, StateWrite};
    use crate::tests::{database, unsigned};
    use aitbc_core::hash::Hash;
    use aitbc_core::key::Signature;
    use aitbc_core::state::State;

    fn block(height: u64) -> BlockWrite {
        let candidate = unsigned(height);
        BlockWrite { digest: candidate.header.digest(), candidate, cert: None }
    }

    fn state(height: u64) -> StateWrite {
        StateWrite::whole(height, &State::default(), Hash::ZERO)
    }

    #[tokio::test]
    async fn all_batches_below_a_fetched_state_are_swept_away() {
        use crate::storage::{BatchWrite, StoredSnapshot};
        use aitbc_core::batch::Batch;
        let dir = tempfile::tempdir().expect("folder");
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let storage = database(dir.path(), &metrics).await;
        let (signature, txs) = (Signature([0; 64]), Vec::new());
        let batch = |seq| Batch { epoch: 0, author: 0, seq, expiry_height: 9, txs: txs.clone(), signature };
        let batches: Vec<Batch> = (0..600).map(batch).collect();
        let write = |batch: &Batch| BatchWrite { digest: batch.digest(), batch: Arc::new(batch.clone()) };
        storage.commit_batches(batches.iter().map(write).collect()).await.expect("batches");
        let mut full = block(1);
        full.candidate.header.batches = batches.iter().map(|batch| batch.reference(batch.digest())).collect();
        storage.commit_blocks(vec![full]).await.expect("a block");
        let base = StoredSnapshot { height: 2, state_root: Hash::ZERO, results_root: Hash::ZERO, parts: Vec::new() };
        storage.commit_snapshot(vec![block(2)], base).await.expect("a snapshot");
        let (_sender, stored) = watch::channel(2);
        sweep(storage.clone(), stored, metrics).await;
        let digests = batches.iter().map(Batch::digest).collect();
        assert!(storage.batches(digests).await.expect("reads").is_empty());
    }

    /// Steps until one has nothing to do.
    async fn steps(prune: &Prune, below: u64, durable: &mut u64) -> u64 {
        while prune.step(below, durable).await.expect("deletes") {}
        prune.storage.lowest()
    }

    #[tokio::test]
    async fn blocks_that_a_start_may_have_to_execute_again_are_never_deleted() {
        let dir = tempfile::tempdir().expect("folder");
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let storage = database(dir.path(), &metrics).await;
        storage.reset_state(state(0)).await.expect("genesis");
        storage.commit_blocks((1..=500).map(block).collect()).await.expect("blocks");
        let (_, stored) = watch::channel(500);
        let prune = Prune { storage: storage.clone(), keep: 200, stored, metrics };
        let mut durable = 0;
        assert_eq!(steps(&prune, 301, &mut durable).await, 1, "the state is that of genesis");
        storage.apply_state(state(100)).await.expect("applies");
        assert_eq!(steps(&prune, 301, &mut durable).await, 101, "the next start executes block 101 first");
        storage.apply_state(state(500)).await.expect("applies");
        assert_eq!((steps(&prune, 301, &mut durable).await, durable), (301, 500));
        assert_eq!(storage.headers(1, 500).await.expect("reads").len(), 500);
    }
}
