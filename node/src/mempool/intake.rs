//! What nodes of no set pass on to a member: a quota each, a bounded queue, then verified after all else and taken into the pool.
//!
//! ```text
//! gossip → consensus loop → receive: member? quota? ─→ queue ─→ what waits, together: known? verify → pool
//!                             ↑                                                                │
//!                             └───────────── forged ones cost their sender more ───────────────┘
//! ```
//! Nothing is answered: who passed it on sees it in a block, or tries another member.

use super::forward::{self, RATE};
use super::task::Handle;
use crate::metrics::Metrics;
use crate::quota::Quota;
use aitbc_core::key::PublicKey;
use aitbc_core::message::MAX_TRANSACTIONS;
use aitbc_core::transaction::SignedTransaction;
use aitbc_core::validators::{Index, ValidatorSet};
use prometheus::IntGauge;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Messages waiting for the pool, of 64 KiB at most.
const QUEUE: usize = 128;
/// Seconds of its rate that may come at once, after a while without any.
const BURST_SECONDS: u64 = 2;
/// How many times the rate of one peer all that are no members may send together: a third of a core verifies it.
const OTHERS: u64 = 4;
/// How many times its cost a transaction with a forged signature costs beside: finding it takes so much longer, and who is honest
/// has verified it before.
const FORGED: u64 = 8;
/// Peers after which those are forgotten that have sent nothing lately.
const PEERS: usize = 1_024;
/// For so long it counts what a peer has sent, where all together send too much.
const WINDOW: Duration = Duration::from_secs(1);

/// The way of such transactions from the wire to the pool.
pub struct Intake {
    own: PublicKey,
    gate: Arc<Mutex<Gate>>,
    queue: mpsc::Sender<Waiting>,
    /// Messages in the queue.
    depth: IntGauge,
    metrics: Arc<Metrics>,
}

/// A message in the queue, and who sent it.
struct Waiting {
    from: Index,
    transactions: Vec<SignedTransaction>,
}

impl Intake {
    /// Starts the task that puts them into a pool; `own` key.
    pub fn start(own: PublicKey, pool: Handle, metrics: Arc<Metrics>) -> Intake {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let gate = Arc::new(Mutex::new(Gate::new(Instant::now())));
        let depth = metrics.queue_depth.with_label_values(&["mempool_intake"]);
        tokio::spawn(take(waiting, gate.clone(), pool, depth.clone()));
        Intake { own, gate, queue, depth, metrics }
    }

    /// Never waits: the consensus loop calls it. `key` is the sender's, `current` the set of this epoch.
    pub fn receive(
        &self,
        from: Index,
        key: Option<PublicKey>,
        current: &ValidatorSet,
        transactions: Vec<SignedTransaction>,
    ) {
        if transactions.is_empty() {
            return self.refuse("transactions_empty");
        }
        // Here nobody seals it, and it has been passed on already.
        if current.index_of(&self.own).is_none() {
            return self.refuse("transactions_no_member");
        }
        let member = key.is_some_and(|key| current.index_of(&key).is_some());
        let mut gate = locked(&self.gate);
        if !gate.admits(from, member, &transactions, Instant::now()) {
            return self.refuse("transactions_quota");
        }
        if !gate.has_place(from, self.queue.capacity()) || self.queue.try_send(Waiting { from, transactions }).is_err()
        {
            return self.refuse("transactions");
        }
        gate.waits(from);
        // Under the gate's lock: who takes it out counts it after this.
        self.depth.inc();
    }

    fn refuse(&self, cause: &str) {
        self.metrics.network_dropped.with_label_values(&[cause]).inc();
    }
}

/// Puts what waits into a pool, until nobody sends any more.
async fn take(mut waiting: mpsc::Receiver<Waiting>, gate: Arc<Mutex<Gate>>, pool: Handle, depth: IntGauge) {
    while let Some(first) = waiting.recv().await {
        let (transactions, costs) = gathered(first, &mut waiting, &gate, &depth);
        let forged = pool.take_forwarded(transactions).await;
        let mut gate = locked(&gate);
        for (from, cost) in forged.into_iter().filter_map(|at| costs.get(at)) {
            gate.fine(*from, FORGED * cost, Instant::now());
        }
    }
}

/// The transactions of one message and of those that wait behind it, until there are about as many as one holds at most: many small
/// messages take no longer than one large one. Beside them, of each, its sender and cost.
fn gathered(
    first: Waiting,
    waiting: &mut mpsc::Receiver<Waiting>,
    gate: &Mutex<Gate>,
    depth: &IntGauge,
) -> (Vec<SignedTransaction>, Vec<(Index, u64)>) {
    let (mut all, mut costs, mut next) = (Vec::new(), Vec::new(), Some(first));
    while let Some(Waiting { from, transactions }) = next {
        locked(gate).is_taken(from);
        depth.dec();
        costs.extend(transactions.iter().map(|tx| (from, forward::cost_of_one(tx))));
        all.extend(transactions);
        next = if all.len() < MAX_TRANSACTIONS { waiting.try_recv().ok() } else { None };
    }
    (all, costs)
}

fn locked(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who may send how much.
struct Gate {
    peers: HashMap<Index, Peer>,
    /// Of all that are no members: whoever has many keys has one share.
    others: Quota,
}

/// What one peer has sent.
struct Peer {
    quota: Quota,
    /// Messages in the queue.
    waiting: usize,
    /// When it began to count `used`; never, for a member.
    since: Option<Instant>,
    /// What came in of it since then.
    used: u64,
}

impl Peer {
    fn new(now: Instant) -> Peer {
        Peer { quota: Quota::new(RATE, RATE * BURST_SECONDS, now), waiting: 0, since: None, used: 0 }
    }

    /// Whether it counts what it has sent, being no member, and has begun lately.
    fn is_active(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) < WINDOW)
    }
}

impl Gate {
    fn new(now: Instant) -> Gate {
        Gate { peers: HashMap::new(), others: Quota::new(OTHERS * RATE, OTHERS * RATE * BURST_SECONDS, now) }
    }

    /// Whether a message may come in; what it costs is worked out only where its sender owes nothing. A member has ceased to be one,
    /// or is about to be one, where this node is in another epoch: it has its own share, and no stranger takes any of it.
    fn admits(&mut self, from: Index, member: bool, transactions: &[SignedTransaction], now: Instant) -> bool {
        if self.peers.len() >= PEERS && !self.peers.contains_key(&from) {
            self.peers.retain(|_, peer| peer.waiting > 0 || !peer.quota.is_full(now));
        }
        if !self.peers.entry(from).or_insert_with(|| Peer::new(now)).quota.is_level(now) {
            return false;
        }
        // Also for what is refused: who passes it on has counted it too, and must not have it worked out again at once.
        let cost = forward::cost(transactions);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.quota.pay(cost, now);
        }
        member || self.admits_other(from, cost, now)
    }

    /// The same of one that is no member. Where all together send too much, each that is active may send an equal part: who asks for
    /// little gets it, however much the others want.
    fn admits_other(&mut self, from: Index, cost: u64, now: Instant) -> bool {
        if let Some(peer) = self.peers.get_mut(&from).filter(|peer| !peer.is_active(now)) {
            (peer.since, peer.used) = (Some(now), 0);
        }
        let used = self.peers.get(&from).map_or(0, |peer| peer.used).saturating_add(cost);
        if !self.others.is_level(now) {
            let active = self.peers.values().filter(|peer| peer.is_active(now)).count();
            if used > OTHERS * RATE / active.max(1) as u64 {
                return false;
            }
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.used = used;
        }
        self.others.pay(cost, now);
        true
    }

    /// Whether fewer messages of a peer wait than places are free: alone it may have half of them, and however many there are, some
    /// are left for another one.
    fn has_place(&self, from: Index, free: usize) -> bool {
        self.peers.get(&from).is_none_or(|peer| peer.waiting < free)
    }

    /// One more waits.
    fn waits(&mut self, from: Index) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.waiting += 1;
        }
    }

    /// One waits no more.
    fn is_taken(&mut self, from: Index) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.waiting = peer.waiting.saturating_sub(1);
        }
    }

    /// A peer pays for what was found out later.
    fn fine(&mut self, from: Index, cost: u64, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.quota.pay(cost, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aitbc_core::key::{Address, Signature};
    use aitbc_core::transaction::{Action, Payment, Transaction};

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
        assert!(gate.admits(1, false, &message(OTHERS * BURST_SECONDS + 1), now));
        assert!(!gate.admits(2, false, &message(OTHERS), now), "however many keys somebody has");
        assert!(gate.admits(3, true, &message(1), now));
        assert!(!gate.admits(2, false, &message(0), now + Duration::from_secs(1)), "it has paid for what was refused");
        assert!(gate.admits(2, false, &message(OTHERS), now + Duration::from_secs(3)));
    }

    #[test]
    fn greedy_peers_do_not_shut_out_a_modest_one() {
        let start = Instant::now();
        let (mut gate, mut greedy) = (Gate::new(start), 0);
        let much = message(1);
        for tenth in 0..100 {
            let now = start + Duration::from_millis(100 * tenth);
            for peer in 1..=8 {
                greedy += u64::from(gate.admits(peer, false, &much, now)) * RATE;
            }
            assert!(gate.admits(9, false, &much[..1], now), "after {tenth} tenths of a second");
        }
        // Their part of ten seconds, what was saved up, and the last message, which may owe.
        assert!(greedy <= OTHERS * RATE * (10 + BURST_SECONDS + 1), "{greedy}");
    }

    #[test]
    fn many_peers_do_not_get_more_than_all_may_together_by_sending_little_each() {
        let start = Instant::now();
        let (mut gate, mut admitted) = (Gate::new(start), 0);
        assert!(gate.admits(0, false, &message(OTHERS * (BURST_SECONDS + 2)), start));
        let message = message(0);
        let cost = forward::cost(&message);
        // All at one moment: nothing of what is owed is earned back.
        for peer in 1..=900 {
            for _ in 0..9 {
                admitted += u64::from(gate.admits(peer, false, &message, start)) * cost;
            }
        }
        // The part of the first ones was worked out for few, that of the last for all; without one it were four times the rate.
        assert!(admitted <= OTHERS * RATE * 3, "{admitted}");
    }

    #[test]
    fn who_passes_on_forged_signatures_pays_for_finding_them() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        assert!(gate.admits(7, false, &message(0), now));
        assert!(gate.admits(8, false, &message(0), now));
        gate.fine(7, RATE * (BURST_SECONDS + 1), now);
        assert!(!gate.admits(7, false, &message(0), now) && gate.admits(8, false, &message(0), now));
        assert!(gate.admits(7, false, &message(0), now + Duration::from_secs(2)));
    }

    /// As many messages of a peer as get a place.
    fn fill(gate: &mut Gate, peer: Index, free: &mut usize) -> usize {
        let before = *free;
        assert!(gate.admits(peer, false, &message(0), Instant::now()));
        while gate.has_place(peer, *free) {
            gate.waits(peer);
            *free -= 1;
        }
        before - *free
    }

    #[test]
    fn a_peer_has_no_more_places_of_the_queue_than_are_free_so_that_who_comes_late_gets_those_that_become_so() {
        let (mut gate, mut free) = (Gate::new(Instant::now()), QUEUE);
        let places: Vec<usize> = (1..=6).map(|peer| fill(&mut gate, peer, &mut free)).collect();
        assert_eq!(places, [64, 32, 16, 8, 4, 2]);
        // The oldest are taken first.
        for _ in 0..20 {
            gate.is_taken(1);
            free += 1;
        }
        assert_eq!(fill(&mut gate, 1, &mut free), 0, "it has more than are free still");
        assert_eq!((fill(&mut gate, 7, &mut free), fill(&mut gate, 8, &mut free)), (11, 6));
    }

    #[tokio::test]
    async fn small_messages_are_taken_together_up_to_what_a_large_one_holds() {
        let gate = Mutex::new(Gate::new(Instant::now()));
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let depth = IntGauge::new("depth", "messages that wait").expect("gauge");
        depth.set(7);
        let one = message(1).remove(0);
        let of = |from, count| Waiting { from, transactions: vec![one.clone(); count] };
        for from in 0..5 {
            assert!(queue.try_send(of(from, 1)).is_ok());
        }
        assert!(queue.try_send(of(5, MAX_TRANSACTIONS)).is_ok());
        assert!(queue.try_send(of(6, 1)).is_ok());
        let first = waiting.recv().await.expect("waits");
        let (all, costs) = gathered(first, &mut waiting, &gate, &depth);
        assert_eq!((all.len(), costs.len()), (5 + MAX_TRANSACTIONS, 5 + MAX_TRANSACTIONS));
        let cost = forward::cost_of_one(&one);
        assert_eq!((costs[0], costs[4], costs[5]), ((0, cost), (4, cost), (5, cost)));
        assert_eq!((waiting.try_recv().map(|last| last.from).ok(), depth.get()), (Some(6), 1));
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
        assert!(gate.admits(Index::MAX, true, &[], now + Duration::from_millis(10)));
        assert_eq!(gate.peers.len(), 2, "but not who has used up its share");
        assert!(gate.peers.contains_key(&0));
    }
}
