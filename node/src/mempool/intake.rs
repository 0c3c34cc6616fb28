//! What nodes of no set pass on to a member: a quota each, a bounded queue, then verified after all else and taken into the pool.
//!
//! ```text
//! gossip → consensus loop → receive: member? quota? ─→ queue ─→ one message at a time: known? verify → pool
//! ```
//! Nothing is answered: who passed it on sees it in a block, or tries another member.

use super::forward::{self, RATE};
use super::task::Handle;
use crate::metrics::Metrics;
use crate::quota::Quota;
use aitbc_core::key::PublicKey;
use aitbc_core::transaction::SignedTransaction;
use aitbc_core::validators::{Index, ValidatorSet};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;

/// Messages waiting for the pool, of 64 KiB at most.
const QUEUE: usize = 64;
/// Seconds of its rate that may come at once, after a while without any.
const BURST_SECONDS: u64 = 2;
/// How many times the rate of one peer all that are no members may send together: a third of a core verifies it.
const OTHERS: u64 = 4;
/// Peers after which those are forgotten that have sent nothing lately.
const PEERS: usize = 1_024;

/// The way of such transactions from the wire to the pool.
pub struct Intake {
    own: PublicKey,
    gate: Mutex<Gate>,
    queue: mpsc::Sender<Vec<SignedTransaction>>,
    metrics: Arc<Metrics>,
}

impl Intake {
    /// Starts the task that puts them into a pool; `own` key.
    pub fn start(own: PublicKey, pool: Handle, metrics: Arc<Metrics>) -> Intake {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(transactions) = waiting.recv().await {
                pool.take_forwarded(transactions).await;
            }
        });
        Intake { own, gate: Mutex::new(Gate::new(Instant::now())), queue, metrics }
    }

    /// Never waits: the consensus loop calls it. `key` is the sender's, `current` the set of this epoch.
    pub fn receive(
        &self,
        from: Index,
        key: Option<PublicKey>,
        current: &ValidatorSet,
        transactions: Vec<SignedTransaction>,
    ) {
        // Here nobody seals it, and it must not be passed on twice.
        if current.index_of(&self.own).is_none() {
            return self.refuse("transactions_no_member");
        }
        let member = key.is_some_and(|key| current.index_of(&key).is_some());
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if !gate.admits(from, member, &transactions, Instant::now()) {
            return self.refuse("transactions_quota");
        }
        if self.queue.try_send(transactions).is_err() {
            self.refuse("transactions");
        }
    }

    fn refuse(&self, cause: &str) {
        self.metrics.network_dropped.with_label_values(&[cause]).inc();
    }
}

/// Who may send how much.
struct Gate {
    peers: HashMap<Index, Quota>,
    /// Of all that are no members: whoever has many keys has one share.
    others: Quota,
}

impl Gate {
    fn new(now: Instant) -> Gate {
        Gate { peers: HashMap::new(), others: Quota::new(OTHERS * RATE, OTHERS * RATE * BURST_SECONDS, now) }
    }

    /// Whether a message may come in; what it costs is worked out only then. A member has ceased to be one, or is about to be one,
    /// where this node is in another epoch: it has its own share, and no stranger takes any of it.
    fn admits(&mut self, from: Index, member: bool, transactions: &[SignedTransaction], now: Instant) -> bool {
        if self.peers.len() >= PEERS && !self.peers.contains_key(&from) {
            self.peers.retain(|_, quota| !quota.is_full(now));
        }
        let own = self.peers.entry(from).or_insert_with(|| Quota::new(RATE, RATE * BURST_SECONDS, now));
        if !own.is_level(now) || !(member || self.others.is_level(now)) {
            return false;
        }
        let cost = forward::cost(transactions);
        own.pay(cost, now);
        if !member {
            self.others.pay(cost, now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aitbc_core::key::{Address, Signature};
    use aitbc_core::transaction::{Action, Payment, Transaction};
    use std::time::Duration;

    /// So many seconds of a peer's share.
    fn message(seconds: u64) -> Vec<SignedTransaction> {
        let payments = vec![Payment { to: Address([1; 20]), amount: 1 }; 64];
        let action = Action::TransferMany { payments };
        let transaction = Transaction { sender: PublicKey([1; 32]), nonce: 0, fee: 1, expiry_height: 9, action };
        let signed = SignedTransaction { transaction, signature: Signature([0; 64]) };
        let count = (seconds * RATE).div_ceil(signed.encoded_len() as u64);
        vec![signed; usize::try_from(count).expect("few")]
    }

    #[test]
    fn a_peer_over_its_quota_is_refused_until_it_has_earned_it_and_another_is_not() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        assert!(gate.admits(7, false, &message(BURST_SECONDS + 1), now), "nothing was owed before");
        assert!(!gate.admits(7, false, &[], now));
        assert!(gate.admits(8, false, &[], now));
        assert!(!gate.admits(7, false, &[], now + Duration::from_millis(500)));
        assert!(gate.admits(7, false, &[], now + Duration::from_secs(2)));
    }

    #[test]
    fn all_that_are_no_members_have_one_share_and_members_their_own() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        let all = OTHERS * BURST_SECONDS + 1;
        assert!(gate.admits(1, false, &message(all), now));
        assert!(!gate.admits(2, false, &[], now), "however many keys somebody has");
        assert!(gate.admits(3, true, &message(1), now));
        assert!(gate.admits(2, false, &[], now + Duration::from_secs(1)));
    }

    #[test]
    fn what_members_send_takes_nothing_from_the_others() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        for member in 0..2 * OTHERS as Index {
            assert!(gate.admits(member, true, &message(BURST_SECONDS), now));
        }
        assert!(gate.admits(99, false, &[], now));
    }

    #[test]
    fn peers_that_have_sent_nothing_lately_are_forgotten_once_there_are_many() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        for peer in 0..PEERS as Index {
            assert!(gate.admits(peer, true, &message(u64::from(peer == 0) * BURST_SECONDS), now));
        }
        assert!(gate.admits(Index::MAX, true, &[], now));
        assert_eq!(gate.peers.len(), 2, "but not who has used up its share");
        assert!(gate.peers.contains_key(&0));
    }
}
