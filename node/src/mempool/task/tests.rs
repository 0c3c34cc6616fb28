//! What is refused before it costs the node anything; what is passed on, by whom and to whom, and what a member makes of it.

use super::*;
use crate::batches::BatchPool;
use crate::gossip::{Gossip, GossipConfig, GossipEvent};
use crate::mempool::intake::Intake;
use crate::tests::chain::{Chain, Stored, chain, gossip_config, secret};
use crate::view::BlockSummary;
use aitbc_core::epoch::Sets;
use aitbc_core::hash::plain;
use aitbc_core::key::Signature;
use aitbc_core::ledger::ReceiptRules;
use aitbc_core::mempool::Limits;
use aitbc_core::receipt::{Attestation, AttestedReceipt, Receipt, Text};
use aitbc_core::state::State;
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, Payment, Transaction};
use aitbc_core::validators::{Validator, ValidatorSet};
use std::net::SocketAddr;

/// Longest a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn rules() -> Rules {
    let terms = Terms {
        mint_per_unit: 1,
        coordinator_parts_per_million: 0,
        coordinators: vec![Coordinator { public_key: key(11).public() }],
        coordinator_threshold: 1,
        epoch_cap: 9,
        provider_epoch_cap: 9,
        expiry_seconds: 9,
    };
    let receipts = ReceiptRules { chain_id: "devnet".into(), terms };
    Rules { chain: plain(b"chain"), min_fee: 1, receipts: Some(receipts), ..Rules::default() }
}

/// No signature in it is valid.
fn claim(coordinator: u8) -> SignedTransaction {
    let receipt = Receipt::required(
        (Text::new("r").expect("text"), Text::new("j").expect("text")),
        key(7).public(),
        Address([9; 20]),
        (1, Text::new("gpu_seconds").expect("text")),
        (1, 2),
    );
    let signature = Signature([7; 64]);
    let attestations = vec![Attestation { coordinator: key(coordinator).public(), signature }];
    forged(Action::ClaimReceipt(Box::new(AttestedReceipt { receipt, signature, attestations })))
}

fn forged(action: Action) -> SignedTransaction {
    let transaction = Transaction { sender: key(1).public(), nonce: 0, fee: 1, expiry_height: 9, action };
    SignedTransaction { transaction, signature: Signature([7; 64]) }
}

fn set_of(n: u8) -> Arc<ValidatorSet> {
    set_of_all(&[n])
}

fn set_of_all(keys: &[u8]) -> Arc<ValidatorSet> {
    let member = |n: &u8| Validator { key: key(*n).public(), weight: 1 };
    Arc::new(ValidatorSet::new(keys.iter().map(member).collect()).expect("valid"))
}

/// Gossip of a node by key, which lets keys 1 to 4 connect, and what comes of it as long as the second part lives.
struct Peer {
    gossip: GossipHandle,
    events: mpsc::Receiver<GossipEvent>,
    stop: watch::Sender<bool>,
}

fn peer(own: u8, chain: Hash, peers: &[SocketAddr], metrics: &Arc<Metrics>) -> Peer {
    let (events, gossiped) = mpsc::channel(64);
    let (stop, stopped) = watch::channel(false);
    let peers = peers.iter().map(ToString::to_string).collect();
    let config = GossipConfig { peers, ..gossip_config(own, chain, &set_of_all(&[1, 2, 3, 4]), metrics) };
    Peer { gossip: Gossip::start(config, events, stopped).expect("starts"), events: gossiped, stop }
}

impl Peer {
    /// A member that none dials.
    fn member(own: u8, chain: &Chain) -> Peer {
        peer(own, chain.identity.chain, &[], &Arc::new(Metrics::new().expect("metrics")))
    }

    /// The transactions that are passed on to it next.
    async fn passed_on(&mut self) -> Vec<SignedTransaction> {
        let next = async {
            loop {
                match self.events.recv().await.expect("gossip runs") {
                    GossipEvent::Message(_, Message::Transactions { transactions }) => return transactions,
                    GossipEvent::Message(_, other) => panic!("{} came", other.name()),
                    GossipEvent::Connected(..) | GossipEvent::Disconnected(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("it is passed on")
    }
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Before the first block of an epoch with these sets.
fn snapshot(state: State, sets: Sets) -> Arc<Snapshot> {
    let head = BlockSummary {
        height: 0,
        slot: 0,
        hash: Hash::ZERO,
        parent_hash: Hash::ZERO,
        time_ms: 0,
        proposer: None,
        tx_count: 0,
        state_root: Hash::ZERO,
        results_root: Hash::ZERO,
    };
    Arc::new(Snapshot { head, state, parent_state: None, sets })
}

/// Of a node with this key, on a chain of one validator, that will have another one.
fn handle(own: &SecretKey, metrics: &Arc<Metrics>) -> Handle {
    let verifier = Arc::new(Verifier::new(Some(1), metrics.clone()).expect("threads"));
    let sets = Sets { next: set_of(3), ..Sets::genesis(set_of(1)) };
    let snapshot = watch::channel(snapshot(State::default(), sets)).1;
    let gossip = peer(4, plain(b"chain"), &[], metrics).gossip;
    let (commands, rules, metrics) = (mpsc::channel(1).0, Arc::new(rules()), metrics.clone());
    Handle { commands, verifier, rules, metrics, own: own.public(), snapshot, gossip }
}

#[tokio::test]
async fn who_is_no_validator_now_and_connected_to_none_takes_no_transaction_though_it_will_be_one_in_the_next_epoch() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    for own in [2, 3] {
        let answers = handle(&key(own), &metrics).submit_all(vec![claim(11), claim(12)]).await;
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(|answer| matches!(answer, Err(SubmitError::NotValidator))), "{answers:?}");
    }
}

fn payment(chain: &Chain, nonce: u64) -> SignedTransaction {
    let (action, sender) = (Action::Transfer(Payment { to: Address([9; 20]), amount: 1 }), secret(90));
    let transaction = Transaction { sender: sender.public(), nonce, fee: 1, expiry_height: 9, action };
    transaction.sign(&chain.identity.chain, &sender)
}

/// What a task works with that does not run yet, and what that needs to live.
struct Setup {
    parts: Parts,
    pool: Pool,
    snapshots: watch::Sender<Arc<Snapshot>>,
    chain: Chain,
    alive: Alive,
}

/// What a task works with and never looks at in a test.
type Alive = (Stored, mpsc::Receiver<aitbc_core::consensus::input::Input>, Peer);

/// What is left of a set-up once its task is taken out.
struct Rest {
    snapshots: watch::Sender<Arc<Snapshot>>,
    chain: Chain,
    _alive: Alive,
}

impl Setup {
    /// With key `own` in an epoch of the validators `members`, connected to `peers`; it seals nothing yet.
    async fn of(own: u8, members: &[u8], peers: &[&Peer]) -> Setup {
        let chain = chain(1);
        let stored = chain.store(0, 0).await;
        let (snapshots, snapshot) = watch::channel(snapshot(chain.state(0), Sets::genesis(set_of_all(members))));
        let (id, metrics) = (chain.identity.chain, Arc::new(Metrics::new().expect("metrics")));
        let verifier = Arc::new(Verifier::new(Some(1), metrics.clone()).expect("threads"));
        let (core, inputs) = mpsc::channel(8);
        let addresses: Vec<SocketAddr> = peers.iter().map(|peer| peer.gossip.local_addr()).collect();
        let own_peer = peer(own, id, &addresses, &metrics);
        let gossip = own_peer.gossip.clone();
        until("connected", async || gossip.connected().len() == peers.len()).await;
        let batch_pool = Arc::new(BatchPool::new(Sets::genesis(set_of(1))));
        let parts = Parts {
            chain: id,
            key: Arc::new(key(own)),
            epochs: chain.epochs,
            generation: 1,
            pulse: Arc::new(Pulse::default()),
            snapshot,
            batches: Batches::start(
                id,
                key(own).public(),
                batch_pool,
                verifier.clone(),
                stored.storage.clone(),
                core,
                metrics.clone(),
            ),
            gossip,
            verifier,
            subscriptions: Subscriptions::default(),
            metrics,
        };
        let pool = Pool::new(chain.rules.clone(), Limits::default());
        Setup { parts, pool, snapshots, chain, alive: (stored, inputs, own_peer) }
    }

    /// The task, not running, once it has taken the first `count` payments; those, and the rest of this for as long as it is used.
    fn task(self, count: u64) -> (Task, Vec<VerifiedTx>, Rest) {
        let Setup { parts, pool, snapshots, chain, alive } = self;
        let id = &chain.identity.chain;
        let payments: Vec<VerifiedTx> =
            (0..count).map(|nonce| VerifiedTx::trusted(payment(&chain, nonce), id)).collect();
        let mut task = Task::new(parts, pool);
        assert!(task.admit_all(payments.clone()).iter().all(Result::is_ok));
        (task, payments, Rest { snapshots, chain, _alive: alive })
    }
}

/// A pool, and what it needs to live.
struct Node {
    handle: Handle,
    metrics: Arc<Metrics>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    pulse: Arc<Pulse>,
    blocks: mpsc::Sender<FinalBlock>,
    chain: Chain,
    _alive: Alive,
}

impl Node {
    /// With key `own` in an epoch of the validators `members`, connected to `peers`; it seals nothing yet.
    async fn start(own: u8, members: &[u8], peers: &[&Peer]) -> Node {
        let Setup { parts, pool, snapshots, chain, alive } = Setup::of(own, members, peers).await;
        let (metrics, pulse) = (parts.metrics.clone(), parts.pulse.clone());
        let (blocks, final_blocks) = mpsc::channel(8);
        let handle = start(parts, pool, final_blocks);
        Node { handle, metrics, snapshots, pulse, blocks, chain, _alive: alive }
    }

    /// Another epoch begins.
    fn enter(&self, members: &[u8]) {
        self.snapshots.send_replace(snapshot(self.chain.state(0), Sets::genesis(set_of_all(members))));
    }

    fn payment(&self, nonce: u64) -> SignedTransaction {
        payment(&self.chain, nonce)
    }

    async fn submit(&self, transaction: &SignedTransaction) -> Result<Hash, SubmitError> {
        self.handle.submit_all(vec![transaction.clone()]).await.remove(0)
    }

    async fn is(&self, id: Hash, pending: Pending) {
        until(&format!("{pending:?}"), async || self.handle.standing(id).await == Standing::Pending(pending)).await;
    }

    /// A block in which these took effect.
    async fn executes(&self, height: u64, ids: &[Hash]) {
        self.ends(height, ids, ResultCode::Ok).await;
    }

    /// A block in which these had this result.
    async fn ends(&self, height: u64, ids: &[Hash], code: ResultCode) {
        let row = |(index, id): (usize, &Hash)| TransactionRow {
            id: *id,
            height,
            index: index as u32,
            code: code.number(),
            sender: secret(90).public().address(),
            nonce: index as u64,
            batch: Hash::ZERO,
        };
        let block = FinalBlock {
            height,
            results: ids.iter().map(|id| TxResult { id: *id, code, fee: 1 }).collect(),
            changed: Vec::new(),
            rows: ids.iter().enumerate().map(row).collect(),
            batches: Vec::new(),
            min_fee: 1,
        };
        self.blocks.send(block).await.expect("the pool runs");
    }

    fn count(&self, cause: &str) -> u64 {
        self.metrics.network_dropped.with_label_values(&[cause]).get()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_validator_passes_on_what_it_takes_and_tells_when_it_is_final() {
    let mut member = Peer::member(1, &chain(1));
    let node = Node::start(2, &[1, 3], &[&member]).await;
    let transaction = node.payment(0);
    let id = node.submit(&transaction).await.expect("taken");
    assert_eq!(member.passed_on().await, std::slice::from_ref(&transaction));
    node.is(id, Pending::Forwarded).await;
    assert_eq!(node.metrics.forwarded.with_label_values(&["first"]).get(), 1);
    let again = node.submit(&transaction).await;
    assert!(matches!(again, Err(SubmitError::Rejected(Rejected::Duplicate))), "as a validator says: {again:?}");
    let mut forged = node.payment(1);
    forged.signature = Signature([7; 64]);
    assert!(matches!(node.submit(&forged).await, Err(SubmitError::InvalidSignature)));
    let ids = [id];
    let (waiting, ()) = tokio::join!(node.handle.outcome(id, PATIENCE), node.executes(1, &ids));
    assert_eq!(waiting, Some(Outcome { height: 1, index: 0, code: 0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_had_that_is_gone_is_passed_on_to_another_one_in_the_order_of_nonces() {
    let (mut first, mut second) = (Peer::member(1, &chain(1)), Peer::member(3, &chain(1)));
    let node = Node::start(2, &[1, 3], &[&first, &second]).await;
    let payments: Vec<SignedTransaction> = (0..20).map(|nonce| node.payment(nonce)).collect();
    let mut ids = Vec::new();
    for payment in &payments {
        ids.push(node.submit(payment).await.expect("taken"));
    }
    // The keys decide which of the two comes first.
    let own = key(2).public();
    let mut ring = [key(1).public(), key(3).public()];
    ring.sort_by_key(|key| (*key < own, *key));
    let (gets, other) = if ring[0] == key(1).public() { (&mut first, &mut second) } else { (&mut second, &mut first) };
    let mut got = Vec::new();
    while got.len() < payments.len() {
        got.extend(gets.passed_on().await);
    }
    assert_eq!(got, payments);
    let connected = tokio::time::timeout(PATIENCE, other.events.recv()).await;
    assert!(matches!(connected, Ok(Some(GossipEvent::Connected(..)))));
    assert!(other.events.try_recv().is_err(), "the other one gets nothing");
    node.executes(1, &ids[..5]).await;
    until("final", async || matches!(node.handle.standing(ids[4]).await, Standing::Final(_))).await;
    gets.stop.send_replace(true);
    let mut again = Vec::new();
    while again.len() < payments.len() - 5 {
        again.extend(other.passed_on().await);
    }
    assert_eq!(again, payments[5..], "what is final is not sent again");
    assert_eq!(node.metrics.forwarded.with_label_values(&["again"]).get(), 15);
}

/// Takes as long as a member has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_does_not_bring_into_a_block_in_time_is_passed_on_to_another_one() {
    let (mut first, mut second) = (Peer::member(1, &chain(1)), Peer::member(3, &chain(1)));
    let node = Node::start(2, &[1, 3], &[&first, &second]).await;
    let transaction = node.payment(0);
    let id = node.submit(&transaction).await.expect("taken");
    for height in 1..=forward::AGAIN_BLOCKS {
        node.executes(height, &[]).await;
    }
    let (one, other) = tokio::join!(first.passed_on(), second.passed_on());
    assert_eq!((one, other), (vec![transaction.clone()], vec![transaction]));
    node.is(id, Pending::Forwarded).await;
    assert_eq!(node.metrics.forwarded.with_label_values(&["again"]).get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_set_passes_on_what_it_has_not_sealed() {
    let mut member = Peer::member(3, &chain(1));
    let node = Node::start(1, &[1], &[&member]).await;
    let transaction = node.payment(0);
    let id = node.submit(&transaction).await.expect("a validator takes it");
    assert_eq!(node.handle.standing(id).await, Standing::Pending(Pending::Queued));
    node.enter(&[3]);
    assert_eq!(member.passed_on().await, [transaction]);
    node.is(id, Pending::Forwarded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_keeps_that_is_connected_to_no_member_it_seals_once_it_is_one() {
    let node = Node::start(1, &[1], &[]).await;
    let id = node.submit(&node.payment(0)).await.expect("a validator takes it");
    node.enter(&[2]);
    let refused = node.submit(&node.payment(1)).await;
    assert!(matches!(refused, Err(SubmitError::NotValidator)), "{refused:?}");
    assert_eq!(node.handle.standing(id).await, Standing::Pending(Pending::Queued));
    node.pulse.set_voting_state(VotingState::Voting, None);
    node.enter(&[1]);
    node.is(id, Pending::Sealed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_becomes_a_member_seals_what_it_had_passed_on_to_one_that_is_none_any_more() {
    let mut member = Peer::member(3, &chain(1));
    let node = Node::start(1, &[3], &[&member]).await;
    let transaction = node.payment(0);
    let id = node.submit(&transaction).await.expect("taken");
    assert_eq!(member.passed_on().await, [transaction]);
    node.is(id, Pending::Forwarded).await;
    node.pulse.set_voting_state(VotingState::Voting, None);
    node.enter(&[1]);
    node.is(id, Pending::Sealed).await;
    assert_eq!(node.metrics.forwarded.with_label_values(&["again"]).get(), 0, "a member passes nothing on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_too_early_for_its_nonce_is_passed_on_again() {
    let mut member = Peer::member(1, &chain(1));
    let node = Node::start(2, &[1], &[&member]).await;
    let transaction = node.payment(0);
    let id = node.submit(&transaction).await.expect("taken");
    assert_eq!(member.passed_on().await, std::slice::from_ref(&transaction));
    node.ends(1, &[id], ResultCode::NonceTooHigh).await;
    assert_eq!(member.passed_on().await, [transaction]);
    node.is(id, Pending::Forwarded).await;
    let passed_on = ["first", "again"].map(|time| node.metrics.forwarded.with_label_values(&[time]).get());
    assert_eq!(passed_on, [1, 1]);
}

/// A block without transactions, after which whoever sends the payments has so much.
fn block_that_leaves(balance: u64, height: u64) -> FinalBlock {
    let changed = vec![(secret(90).public().address(), Account { balance, nonce: 0 })];
    FinalBlock { height, results: Vec::new(), changed, rows: Vec::new().into(), batches: Vec::new(), min_fee: 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_member_may_take_any_more_leaves_the_pool_when_it_is_late_and_makes_no_member_late() {
    let (first, second) = (Peer::member(1, &chain(1)), Peer::member(3, &chain(1)));
    let (mut task, payments, _rest) = Setup::of(2, &[1, 3], &[&first, &second]).await.task(3);
    let (ids, bytes) = ([0, 1, 2].map(|n: usize| payments[n].id), payments[0].bytes);
    let before = Instant::now();
    task.seal().await;
    let members = task.members();
    let one = task.forwards.target(&members);
    // Each takes 2.
    task.on_final(block_that_leaves(4, forward::AGAIN_BLOCKS));
    task.take_back(&members, before + forward::AGAIN_AFTER - Duration::from_millis(1));
    assert_eq!(ids.map(|id| task.standing(&id)), [Standing::Pending(Pending::Forwarded); 3], "not late yet");
    task.take_back(&members, Instant::now() + forward::AGAIN_AFTER);
    let [dropped, queued] = [Standing::Dropped(Reason::NoLongerValid), Standing::Pending(Pending::Queued)];
    assert_eq!(ids.map(|id| task.standing(&id)), [queued, queued, dropped]);
    assert_eq!(task.ready_bytes, 2 * bytes, "what came back waits for no more");
    let other = task.forwards.target(&members);
    assert_ne!(one, other, "what it could have taken it was late with");

    task.seal().await;
    task.on_final(block_that_leaves(0, 2 * forward::AGAIN_BLOCKS));
    task.take_back(&members, Instant::now() + 2 * forward::AGAIN_AFTER);
    assert_eq!(ids.map(|id| task.standing(&id)), [dropped; 3]);
    assert!(task.forwards.is_empty() && !task.pool.has_ready());
    assert_eq!(task.forwards.target(&members), other);
    assert_eq!(task.parts.metrics.mempool_rejected.with_label_values(&["NO_LONGER_VALID"]).get(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_seals_drops_nothing_that_is_late_and_no_longer_valid_but_gets_a_result_for_it() {
    let first = Peer::member(1, &chain(1));
    let (mut task, payments, rest) = Setup::of(2, &[1], &[&first]).await.task(2);
    let ids = [payments[0].id, payments[1].id];
    task.seal().await;
    task.on_final(block_that_leaves(0, forward::AGAIN_BLOCKS));
    let members = task.members();
    rest.snapshots.send_replace(snapshot(rest.chain.state(0), Sets::genesis(set_of_all(&[1, 2]))));
    task.take_back(&members, Instant::now() + forward::AGAIN_AFTER);
    assert_eq!(ids.map(|id| task.standing(&id)), [Standing::Pending(Pending::Queued); 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_for_room_is_not_put_off_by_what_happens_meanwhile() {
    let (mut task, _, _rest) = Setup::of(2, &[1], &[]).await.task(1);
    let now = Instant::now();
    task.forwards.sent([], 3 * forward::RATE, 0, now.into_std());
    let look = now + LOOK_AGAIN;
    for (at, next) in [(now, look), (now + LOOK_AGAIN / 2, look), (look, look + LOOK_AGAIN)] {
        task.set_timer(at);
        assert_eq!(task.seal_at, Some(next), "what was passed on leaves no room for seconds");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_in_a_later_block_does_not_change_the_result_that_took_the_fee() {
    let node = Node::start(1, &[1], &[]).await;
    let id = plain(b"sealed by two");
    node.ends(1, &[id], ResultCode::InsufficientBalance).await;
    node.ends(2, &[id], ResultCode::NonceTooLow).await;
    let last = plain(b"another");
    node.executes(3, &[last]).await;
    until("final", async || matches!(node.handle.standing(last).await, Standing::Final(_))).await;
    let code = ResultCode::InsufficientBalance.number();
    assert_eq!(node.handle.standing(id).await, Standing::Final(Outcome { height: 1, index: 0, code }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_without_its_nonce_used_is_taken_when_it_is_passed_on_again() {
    let node = Node::start(1, &[1], &[]).await;
    let (again, over) = (node.payment(0), node.payment(1));
    let id = |tx: &SignedTransaction| tx.id(&node.chain.identity.chain);
    node.ends(1, &[id(&again)], ResultCode::FeeNotCovered).await;
    node.ends(2, &[id(&over)], ResultCode::Expired).await;
    until("final", async || matches!(node.handle.standing(id(&over)).await, Standing::Final(_))).await;
    node.handle.take_forwarded(vec![again.clone(), over]).await;
    let taken: Vec<Hash> = node.handle.list(9).await.iter().map(|pending| pending.id).collect();
    assert_eq!(taken, [id(&again)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_passed_on_to_a_member_is_taken_as_if_sent_there_and_costs_a_lookup_from_then_on() {
    let node = Node::start(1, &[1], &[]).await;
    let (good, mut forged) = (node.payment(0), node.payment(1));
    forged.signature = Signature([7; 64]);
    assert_eq!(node.handle.take_forwarded(vec![good.clone(), forged.clone()]).await, [1]);
    assert_eq!(node.handle.take_forwarded(vec![good.clone(), forged.clone()]).await, [1], "of all that was sent");
    let id = |tx: &SignedTransaction| tx.id(&node.chain.identity.chain);
    assert_eq!(node.handle.standing(id(&good)).await, Standing::Pending(Pending::Queued));
    assert_eq!(node.handle.standing(id(&forged)).await, Standing::Unknown);
    node.handle.take_forwarded(vec![good.clone(); 9]).await;
    node.executes(1, &[id(&good)]).await;
    until("final", async || matches!(node.handle.standing(id(&good)).await, Standing::Final(_))).await;
    node.handle.take_forwarded(vec![good; 9]).await;
    let refused = node.metrics.mempool_rejected.with_label_values(&["DUPLICATE"]).get();
    let passed = node.metrics.mempool_rejected.with_label_values(&["NONCE_TOO_LOW"]).get();
    assert_eq!((refused, passed, node.metrics.verified.get()), (0, 0, 1), "the pool was not asked to take it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_takes_what_is_passed_on_and_who_is_none_drops_it() {
    let node = Node::start(1, &[1], &[]).await;
    let intake = Intake::start(key(1).public(), node.handle.clone(), node.metrics.clone());
    let (payment, stranger) = (node.payment(0), Some(key(4).public()));
    intake.receive(9, stranger, &set_of(2), vec![payment.clone()]);
    assert_eq!(node.count("transactions_no_member"), 1);
    intake.receive(9, stranger, &set_of(1), vec![payment.clone()]);
    node.is(payment.id(&node.chain.identity.chain), Pending::Queued).await;
    assert_eq!(node.count("transactions") + node.count("transactions_quota"), 0);
}

/// The intake of validator 1; its pool says nothing as long as what it is asked is kept.
fn before_a_pool_that_never_answers(metrics: &Arc<Metrics>) -> (Intake, mpsc::Receiver<Command>) {
    let (commands, waiting) = mpsc::channel(1);
    let handle = Handle { commands, ..handle(&key(1), metrics) };
    (Intake::start(key(1).public(), handle, metrics.clone()), waiting)
}

#[tokio::test]
async fn what_is_passed_on_over_a_quota_or_to_a_full_queue_is_dropped_and_counted() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let (intake, _waiting) = before_a_pool_that_never_answers(&metrics);
    let dropped = |cause: &str| metrics.network_dropped.with_label_values(&[cause]).get();
    let payment = forged(Action::Transfer(Payment { to: Address([9; 20]), amount: 1 }));
    for from in 0..200 {
        intake.receive(from, None, &set_of(1), vec![payment.clone()]);
    }
    assert_eq!((dropped("transactions"), dropped("transactions_quota")), (72, 0));
    assert_eq!(metrics.queue_depth.with_label_values(&["mempool_intake"]).get(), 128, "the others wait");
    intake.receive(7, None, &set_of(1), vec![payment.clone(); 16_384]);
    intake.receive(7, None, &set_of(1), vec![payment]);
    assert_eq!(dropped("transactions_quota"), 1);
}

#[tokio::test]
async fn empty_messages_and_too_many_of_one_peer_take_no_places_from_others() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let (intake, _waiting) = before_a_pool_that_never_answers(&metrics);
    let dropped = |cause: &str| metrics.network_dropped.with_label_values(&[cause]).get();
    let payment = forged(Action::Transfer(Payment { to: Address([9; 20]), amount: 1 }));
    for _ in 0..200 {
        intake.receive(7, None, &set_of(1), Vec::new());
    }
    assert_eq!((dropped("transactions_empty"), dropped("transactions")), (200, 0));
    for _ in 0..200 {
        intake.receive(7, None, &set_of(1), vec![payment.clone()]);
    }
    assert_eq!(dropped("transactions"), 136, "64 of one peer wait");
    for from in 100..110 {
        intake.receive(from, None, &set_of(1), vec![payment.clone()]);
    }
    assert_eq!((dropped("transactions"), dropped("transactions_quota")), (136, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_passes_on_what_is_forged_is_refused_for_a_while() {
    let node = Node::start(1, &[1], &[]).await;
    let intake = Intake::start(key(1).public(), node.handle.clone(), node.metrics.clone());
    let forged = forged(Action::Transfer(Payment { to: Address([9; 20]), amount: 1 }));
    // A quarter of the burst, so nothing would be owed if they were good; the fine takes two seconds to earn.
    intake.receive(9, None, &set_of(1), vec![forged; 2_000]);
    until("refused", async || {
        intake.receive(9, None, &set_of(1), vec![node.payment(0)]);
        node.count("transactions_quota") > 0
    })
    .await;
    let dropped = || node.count("transactions_quota") + node.count("transactions");
    let before = dropped();
    intake.receive(8, None, &set_of(1), vec![node.payment(1)]);
    assert_eq!(dropped(), before, "another one is not");
}

#[tokio::test]
async fn what_every_block_would_refuse_is_refused_before_its_signatures_are_verified() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let handle = handle(&key(1), &metrics);
    let payment = Action::Transfer(Payment { to: Address([9; 20]), amount: 1 });
    let answers = handle.submit_all(vec![claim(12), claim(11), forged(payment)]).await;
    let [stranger, coordinator, payment] = &answers[..] else { panic!("an answer each: {answers:?}") };
    let code = |answer: &Result<Hash, SubmitError>| match answer {
        Err(SubmitError::Rejected(rejected)) => Some(rejected.code()),
        _ => None,
    };
    assert_eq!(code(stranger), Some("UNKNOWN_COORDINATOR"), "{stranger:?}");
    assert!(matches!(coordinator, Err(SubmitError::InvalidSignature)), "{coordinator:?}");
    assert!(matches!(payment, Err(SubmitError::InvalidSignature)), "{payment:?}");
    assert_eq!(metrics.mempool_rejected.with_label_values(&["UNKNOWN_COORDINATOR"]).get(), 1);
}

#[test]
fn a_transaction_waits_longer_for_others_the_more_batches_are_on_their_way_and_at_most_24_ms() {
    let waits = [0, 1, 2, 3, 15, 16, MAX_OUTSTANDING].map(|outstanding| seal_after(outstanding).as_micros());
    assert_eq!(waits, [3_000, 3_000, 4_500, 6_000, 24_000, 24_000, 24_000]);
}
