//! Lets candidates connect before a set has them, so that they can follow the chain until it is their turn (protocol.md E1, S2).
//!
//! ```text
//! state: admitted, or enough at stake ─→ let in ─→ blocks, snapshots     set(e+1) has it, epoch e begins ─→ a peer like any other
//! ```
//! Without this a newcomer that no validator's PEERS names had one epoch to take the whole chain.

use crate::gossip::GossipHandle;
use crate::view::Snapshot;
use aitbc_core::key::PublicKey;
use aitbc_core::ledger::Rules;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::info;

/// Candidates let in at once, those with the greatest stakes: a stake must not buy the validators' sockets.
const CANDIDATES: usize = 32;
/// Pause between two looks at the state.
const EVERY: Duration = Duration::from_secs(1);

/// What the task works with.
pub struct Joiners {
    /// Who may join.
    pub rules: Rules,
    /// Own end of the chain.
    pub chain: watch::Receiver<Arc<Snapshot>>,
    /// Where they are let in.
    pub gossip: GossipHandle,
}

impl Joiners {
    /// Follows the state until the node stops.
    pub async fn run(mut self) {
        let mut before = BTreeSet::new();
        loop {
            let waiting = self.waiting();
            if waiting != before {
                info!(candidates = waiting.len(), "other candidates may connect");
                self.gossip.let_in(waiting.clone());
                before = waiting;
            }
            tokio::time::sleep(EVERY).await;
            if self.chain.changed().await.is_err() {
                return;
            }
        }
    }

    fn waiting(&mut self) -> BTreeSet<PublicKey> {
        let snapshot = self.chain.borrow_and_update().clone();
        snapshot.state.waiting(&self.rules, &snapshot.sets, CANDIDATES).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::{Gossip, GossipConfig, GossipEvent};
    use crate::metrics::Metrics;
    use crate::tests::chain::{chain, gossip_config, secret, set_of, sets_of};
    use crate::view::BlockSummary;
    use aitbc_core::hash::Hash;
    use aitbc_core::record::{Record, RecordKey};
    use aitbc_core::staking::Candidate;
    use aitbc_core::state::State;
    use std::time::Instant;
    use tokio::sync::mpsc;

    fn snapshot(state: State) -> Arc<Snapshot> {
        let head = BlockSummary::genesis(Hash::ZERO, Hash::ZERO);
        Arc::new(Snapshot { head, state, parent_state: None, sets: sets_of(0) })
    }

    /// Who takes no events is closed.
    type Taken = mpsc::Receiver<GossipEvent>;

    fn gossip(key: u8, peers: Vec<String>, stop: &watch::Receiver<bool>) -> (GossipHandle, Taken) {
        let metrics = Arc::new(Metrics::new().expect("unique names"));
        let config = GossipConfig { peers, ..gossip_config(key, Hash::ZERO, &set_of(0), &metrics) };
        let (events, taken) = mpsc::channel(64);
        (Gossip::start(config, events, stop.clone()).expect("a port"), taken)
    }

    #[tokio::test]
    async fn whom_the_authorities_admit_is_connected_a_moment_later() {
        let (chain, newcomer) = (chain(1), secret(7).public());
        let (_stop, stop) = watch::channel(false);
        let (validator, _taken) = gossip(1, Vec::new(), &stop);
        let (follower, _taken_too) = gossip(7, vec![validator.local_addr().to_string()], &stop);
        let (state, told) = watch::channel(snapshot(chain.state(1)));
        tokio::spawn(Joiners { rules: chain.rules.clone(), chain: told, gossip: validator.clone() }.run());
        let mut admitted = chain.state(1);
        let candidate = Candidate { admitted: true, weight: 1, ..Candidate::default() };
        admitted.set_record(RecordKey::Candidate { key: newcomer }, Some(Record::Candidate(candidate)));
        let mut keys = admitted.candidates().to_vec();
        keys.push(newcomer);
        keys.sort_unstable();
        admitted.set_record(RecordKey::Candidates, Some(Record::Candidates { keys }));
        assert!(validator.connected().is_empty());
        state.send_replace(snapshot(admitted));
        let end = Instant::now() + Duration::from_secs(20);
        while validator.connected().is_empty() || follower.connected().is_empty() {
            assert!(Instant::now() < end, "it is not let in");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(validator.number_of(&newcomer), validator.connected().first().copied());
    }
}
