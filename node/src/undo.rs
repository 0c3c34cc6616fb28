//! Keeps what the last block of a quiet chain changed, as it was before (protocol.md S3).
//!
//! The state after block X can be proven once block X + 1 is final. Where the chain stands because a validator is away, that
//! validator can make it go on, and may need a snapshot for it: with this a start knows the state after X − 1 too, which the header
//! of X proves. While blocks come nothing is written: then there will be newer snapshots.

use crate::metrics::Metrics;
use crate::storage::{Storage, Undo};
use crate::view::Snapshot;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::error;

/// How long no block must have come.
const QUIET: Duration = Duration::from_secs(3);
/// Accounts and records that are kept at most, some megabytes; of a block that changed more nothing is.
const MOST: usize = 100_000;

/// What the task works with.
pub struct KeepUndo {
    /// Own end of the chain.
    pub chain: watch::Receiver<Arc<Snapshot>>,
    /// Where it goes.
    pub storage: Arc<dyn Storage>,
    /// Counts failures.
    pub metrics: Arc<Metrics>,
}

impl KeepUndo {
    /// Follows the chain until the node stops.
    pub async fn run(mut self) {
        let mut kept = 0;
        loop {
            match tokio::time::timeout(QUIET, self.chain.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    let snapshot = self.chain.borrow().clone();
                    if snapshot.head.height > kept && self.keep(&snapshot).await {
                        kept = snapshot.head.height;
                    }
                }
            }
        }
    }

    /// False where the state is not in its tables yet, or they cannot be written.
    async fn keep(&self, snapshot: &Snapshot) -> bool {
        let Some(parent) = snapshot.parent_state.clone() else { return true };
        let (height, state) = (snapshot.head.height, snapshot.state.clone());
        let changes = tokio::task::spawn_blocking(move || state.changes_to(&parent)).await;
        // A thread that fails fails again.
        let Ok((accounts, records)) = changes else { return true };
        if accounts.len() + records.len() > MOST {
            return true;
        }
        self.storage.commit_undo(Undo { height, accounts, records }).await.unwrap_or_else(|cause| {
            error!(%cause, height, "what the last block changed could not be stored, trying again");
            self.metrics.database_errors.with_label_values(&["undo"]).inc();
            false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::chain::{BLOCKS, Chain, Stored, chain, sets_of};
    use crate::view::BlockSummary;
    use aitbc_core::hash::Hash;
    use aitbc_core::state::State;

    fn end(chain: &Chain, height: u64) -> Arc<Snapshot> {
        let head = BlockSummary { height, ..BlockSummary::genesis(Hash::ZERO, Hash::ZERO) };
        let (state, parent_state) = (chain.state(height), Some(chain.state(height - 1)));
        Arc::new(Snapshot { head, state, parent_state, sets: sets_of(0) })
    }

    async fn keep(chain: &Chain, stored: &Stored, height: u64) -> bool {
        let (_sender, told) = watch::channel(end(chain, height));
        let metrics = Arc::new(Metrics::new().expect("unique names"));
        KeepUndo { chain: told, storage: stored.storage.clone(), metrics }.keep(&end(chain, height)).await
    }

    async fn parent_at_start(chain: &Chain, stored: &Stored) -> Option<State> {
        chain.start(&stored.storage).await.expect("starts").snapshot.parent_state
    }

    #[tokio::test]
    async fn s3_a_start_knows_the_state_before_the_last_block_too_where_the_chain_stood() {
        let chain = chain(3 * BLOCKS);
        // At each place in an epoch, whose first and last blocks change records.
        for height in 2 * BLOCKS..=3 * BLOCKS {
            let stored = chain.store(height, height).await;
            assert_eq!(parent_at_start(&chain, &stored).await, None);
            assert!(keep(&chain, &stored, height).await);
            assert_eq!(parent_at_start(&chain, &stored).await, Some(chain.state(height - 1)), "block {height}");
        }
    }

    #[tokio::test]
    async fn what_an_earlier_block_changed_is_of_no_use_and_what_a_later_one_did_is_not_kept_yet() {
        let chain = chain(3);
        let stored = chain.store(3, 2).await;
        assert!(!keep(&chain, &stored, 3).await, "the tables are of block 2");
        assert!(keep(&chain, &stored, 2).await);
        stored.storage.apply_state(chain.state_write(3)).await.expect("applies");
        assert_eq!(parent_at_start(&chain, &stored).await, None);
        assert!(keep(&chain, &stored, 3).await);
        // Changed by hand, it leads to no root that the header has.
        let other = Undo { height: 3, accounts: Vec::new(), records: Vec::new() };
        assert!(stored.storage.commit_undo(other).await.expect("stored"));
        assert_eq!(parent_at_start(&chain, &stored).await, None);
    }
}
