//! Bounds of block sync, and a chain whose validators change, fetched from genesis.

use super::*;
use crate::gossip::{Gossip, GossipConfig};
use crate::serving::Turn;
use crate::tests::chain::{BLOCKS, Chain, Executing, Stored, chain, gossip_config, secret, set_of, sets_of};
use aitbc_core::sync::{OUT_OF_REACH_MS, STALL_MS};
use aitbc_core::validators::Validator;
use aitbc_core::vote::Statement;
use futures_util::FutureExt;

#[test]
fn fetched_blocks_wait_for_the_ledger_and_for_the_state() {
    let ((ledger, mut stored), (state, mut unapplied)) = (watch::channel(4), watch::channel(0));
    let mut waits = || room(&mut stored, &mut unapplied, 5).now_or_never();
    assert_eq!(waits(), None, "block 5 is not in the ledger");
    ledger.send_replace(5);
    assert_eq!(waits(), Some(true));
    state.send_replace(MAX_LAG_ROWS + 1);
    assert_eq!(waits(), None, "too much state is not applied");
    state.send_replace(MAX_LAG_ROWS);
    assert_eq!(waits(), Some(true));
    state.send_replace(MAX_LAG_ROWS + 1);
    drop(state);
    assert_eq!(waits(), Some(false), "the node is stopping");
}

#[tokio::test]
async fn a_validator_waits_for_none_that_only_follows_and_those_wait_for_the_bytes_they_had() {
    let servings = Servings::new();
    let begin = |takes_part: bool, peer: Index| servings.blocks(takes_part).begin(peer).expect("its only one");
    let followers: Vec<Turn> = (100..132).map(|peer| begin(false, peer)).collect();
    let held = [0, 1].map(|at: usize| followers[at].come().now_or_never().flatten().expect("a place"));
    assert!(followers[ANSWERING_OTHERS].come().now_or_never().is_none(), "two of them at a time");
    let validators: Vec<Turn> = (0..ANSWERING as Index).map(|peer| begin(true, peer)).collect();
    for validator in validators {
        assert!(validator.come().now_or_never().flatten().is_some());
        validator.end(MAX_MESSAGE_BYTES);
    }
    drop(held);
    followers.into_iter().for_each(|turn| turn.end(MAX_MESSAGE_BYTES));
    assert!(begin(true, 0).come().now_or_never().flatten().is_some(), "at once");
    assert!(begin(false, 100).come().now_or_never().is_none(), "a second");
}

/// A node behind the chain, without gossip: what it asks for is read from a database.
struct Behind {
    fetching: Fetching,
    clock_ms: u64,
    runs: mpsc::Receiver<Run>,
    apply: Apply,
    core: mpsc::Receiver<Input>,
    _stored: watch::Sender<u64>,
    _unapplied: watch::Sender<usize>,
    _executing: Executing,
    _own: Stored,
}

/// It has so many blocks of the chain.
async fn behind(chain: &Chain, blocks: u64) -> Behind {
    let own = chain.store(blocks, blocks).await;
    let executing = chain.executing(&own).await;
    let start = executing.snapshots.borrow().clone();
    let (core_sender, core) = mpsc::channel(256);
    let ((stored_sender, stored), (unapplied_sender, unapplied)) = (watch::channel(u64::MAX), watch::channel(0));
    let (runs_sender, runs) = mpsc::channel(RUNS);
    let apply = Apply {
        identity: chain.identity.clone(),
        stored,
        unapplied,
        executor: executing.commands.clone(),
        core: core_sender,
        halted: watch::channel(None).0,
        chain: executing.snapshots.clone(),
    };
    let front = Anchor::from(&crate::executor::tip(&start));
    let mut fetching = Fetching::new(front, &start.sets.current, chain.epochs, runs_sender);
    fetching.planner.on_status(7, chain.blocks.len() as u64);
    Behind {
        fetching,
        clock_ms: 0,
        runs,
        apply,
        core,
        _stored: stored_sender,
        _unapplied: unapplied_sender,
        _executing: executing,
        _own: own,
    }
}

impl Behind {
    fn height(&self) -> u64 {
        self.apply.chain.borrow().head.height
    }

    /// Asks for what is missing, where the height stands still a while, and hears the answer.
    async fn ask(&mut self, source: &Stored) {
        for _ in 0..2 {
            for request in self.fetching.planner.next(self.clock_ms, self.fetching.front.height) {
                let answer = read_answer(&*source.storage, request.from, request.count.into()).await.expect("read");
                self.fetching.planner.on_blocks(request.peer, answer);
            }
            self.clock_ms += STALL_MS;
        }
    }

    /// Verifies what is here and may be verified; answers whether it was right.
    async fn verify(&mut self) -> bool {
        let sets = self.apply.chain.borrow().sets.clone();
        self.fetching.verify_next(&self.apply.identity.clone(), &sets);
        if !matches!(self.fetching.stage, Stage::Verifying(..)) {
            return false;
        }
        assert!(self.fetching.advance().await);
        matches!(self.fetching.stage, Stage::Verified(_))
    }

    /// Executes what was verified.
    async fn execute(&mut self) {
        assert!(self.fetching.advance().await);
        let run = self.runs.recv().await.expect("a run");
        self.apply.apply(run).await.expect("applied");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_a_chain_whose_validators_change_is_fetched_from_genesis_epoch_by_epoch() {
    let chain = chain(7 * BLOCKS);
    let source = chain.store(7 * BLOCKS, 0).await;
    let mut behind = behind(&chain, 0).await;
    while behind.height() < 7 * BLOCKS {
        let before = behind.height();
        behind.ask(&source).await;
        assert!(behind.verify().await, "above {before}");
        behind.execute().await;
        assert_eq!(behind.height(), before + BLOCKS, "an epoch at a time");
        let sets = behind.apply.chain.borrow().sets.clone();
        assert_eq!(sets, sets_of(chain.epochs.after(behind.height())));
        let Some(Input::Synced { boundary: Some(boundary), .. }) = behind.core.recv().await else {
            panic!("a boundary")
        };
        assert_eq!(
            (boundary.header.height, &boundary.set),
            (behind.height(), &sets.next),
            "what the core is told (E1)"
        );
    }
    assert_eq!(behind.apply.chain.borrow().state.root(), chain.state(7 * BLOCKS).root());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_the_next_epoch_is_not_verified_before_the_last_block_of_this_one_is_executed() {
    let chain = chain(4 * BLOCKS);
    let source = chain.store(4 * BLOCKS, 0).await;
    let mut behind = behind(&chain, 2 * BLOCKS).await;
    behind.ask(&source).await;
    assert!(behind.verify().await);
    assert_eq!(behind.fetching.front.height, 3 * BLOCKS);
    let Stage::Verified(run) = std::mem::replace(&mut behind.fetching.stage, Stage::Idle) else { panic!("verified") };
    behind.ask(&source).await;
    assert!(!behind.verify().await, "who validates epoch 4 says the state after block 9");
    behind.apply.apply(run).await.expect("applied");
    assert!(behind.verify().await);
    assert_eq!(behind.fetching.front.height, 4 * BLOCKS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_blocks_of_an_epoch_that_the_validators_of_another_one_signed_are_not_taken() {
    let mut chain = chain(5 * BLOCKS);
    // The last block of epoch 4, certified by those of epoch 3 and of epoch 5.
    let last = &chain.blocks[5 * BLOCKS as usize - 1];
    let statement: Statement = last.cert.statement;
    let forged = [3, 5].map(|epoch| chain.certify(&set_of(epoch), statement));
    for cert in forged {
        for block in &mut chain.blocks[4 * BLOCKS as usize..] {
            block.cert = cert.clone();
        }
        let source = chain.store(5 * BLOCKS, 0).await;
        let mut behind = behind(&chain, 4 * BLOCKS).await;
        behind.ask(&source).await;
        assert!(!behind.verify().await);
        assert_eq!(behind.fetching.front.height, 4 * BLOCKS);
    }
}

impl Fetching {
    /// So much time passes.
    fn pass(&mut self, ms: u64) {
        self.started = self.started.checked_sub(Duration::from_millis(ms)).expect("uptime");
    }
}

/// Block sync of a node with key 9, which validates nowhere and knows the sets of genesis, with channels to a validator of those
/// and to two strangers that PEERS lead to, which have told these heights; and what must live with it.
async fn joiner(chain: &Chain, heights: [u64; 3]) -> (Sync, Fetching, impl Sized) {
    let behind = behind(chain, 0).await;
    let metrics = Arc::new(Metrics::new().expect("unique names"));
    let (stop, stopped) = watch::channel(false);
    let newcomer = Validator { key: secret(9).public(), weight: 1 };
    let lets_in = ValidatorSet::new(vec![newcomer]).expect("a set");
    let start = |key: u8, peers: Vec<String>, set: &ValidatorSet| {
        let config = GossipConfig { peers, ..gossip_config(key, chain.identity.chain, set, &metrics) };
        let (events, taken) = mpsc::channel(64);
        (Gossip::start(config, events, stopped.clone()).expect("a port"), taken)
    };
    let others = [1, 7, 8].map(|key| start(key, Vec::new(), &lets_in));
    let addresses = others.iter().map(|(gossip, _)| gossip.local_addr().to_string()).collect();
    let (gossip, taken) = start(9, addresses, &set_of(0));
    let end = Instant::now() + Duration::from_secs(20);
    while gossip.connected().len() < 3 {
        assert!(Instant::now() < end, "not connected");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let Identity { genesis, chain: id, genesis_set, .. } = &*chain.identity;
    let (genesis, genesis_set) = (genesis.clone(), genesis_set.clone());
    let sync = Sync {
        identity: Arc::new(Identity { genesis, chain: *id, genesis_set, key: Some(secret(9).public()) }),
        chain: behind.apply.chain.clone(),
        storage: behind._own.storage.clone(),
        gossip,
        heights: Arc::default(),
        stored: behind.apply.stored.clone(),
        unapplied: behind.apply.unapplied.clone(),
        executor: behind.apply.executor.clone(),
        core: behind.apply.core.clone(),
        halted: watch::channel(None).0,
        state_sync_lag: Some(10_000),
        snapshots: Arc::default(),
        progress: watch::channel(None).0,
        restart: watch::channel(None).0,
        metrics: metrics.clone(),
    };
    sync.gossip.connected().into_iter().zip(heights).for_each(|(peer, height)| sync.heights.set(peer, height));
    let fetching = Fetching::new(behind.fetching.front, &set_of(0), chain.epochs, mpsc::channel(RUNS).0);
    (sync, fetching, (behind, others, taken, stop))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_a_node_whose_sets_are_of_the_past_looks_for_a_snapshot_by_the_word_of_whoever_is_connected() {
    let chain = chain(1);
    let (sync, mut fetching, _parts) = joiner(&chain, [50_000, 50_001, u64::MAX]).await;
    let (mut attempts, (best, _)) = (Attempts::new(Some(10_000)), watch::channel(0));
    sync.look(&mut fetching, &mut attempts, &best);
    assert!(!attempts.active(), "the validators that it knows may be on their way");
    fetching.pass(ALONE_FOR_MS);
    sync.look(&mut fetching, &mut attempts, &best);
    assert!(attempts.active());
    assert_eq!(*best.borrow(), 50_001, "one liar of three decides nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_knows_enough_validators_believes_no_stranger_and_one_that_does_not_waits_a_while_for_them() {
    let chain = chain(1);
    let (mut fetching, set) = (behind(&chain, 0).await.fetching, set_of(0));
    assert!(!fetching.alone(&set, &[(0, 5)]), "one of four is no more than the faulty");
    fetching.pass(ALONE_FOR_MS / 2);
    assert!(!fetching.alone(&set, &[(0, 5), (1, 5)]));
    fetching.pass(ALONE_FOR_MS / 2);
    assert!(!fetching.alone(&set, &[(0, 5)]), "from the beginning");
    fetching.pass(ALONE_FOR_MS);
    assert!(fetching.alone(&set, &[(0, 5)]));
    assert!(!fetching.alone(&set, &[(0, 5), (1, 5)]), "they are there");
}

#[test]
fn s3_liars_that_are_fewer_than_half_do_not_raise_the_height_that_more_than_half_have_reached() {
    let middles = [vec![], vec![20], vec![20, 30], vec![30, 10, 20], vec![9, 9, 20], vec![9, 30, 20, 10]].map(middle);
    assert_eq!(middles, [0, 20, 20, 20, 9, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_one_liar_beside_peers_that_are_not_ahead_begins_nothing_and_one_of_two_does_not_make_snapshots_old() {
    let chain = chain(1);
    let (sync, mut fetching, _parts) = joiner(&chain, [0, 0, u64::MAX]).await;
    let (mut attempts, (best, _)) = (Attempts::new(Some(10_000)), watch::channel(0));
    let peers = sync.gossip.connected();
    sync.look(&mut fetching, &mut attempts, &best);
    fetching.pass(ALONE_FOR_MS);
    sync.look(&mut fetching, &mut attempts, &best);
    assert_eq!((attempts.active(), *best.borrow()), (false, 0), "a node at the end of the chain");
    sync.heights.remove(peers[1]);
    sync.heights.set(peers[0], 50_000);
    sync.look(&mut fetching, &mut attempts, &best);
    assert_eq!((attempts.active(), *best.borrow()), (true, 50_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_where_the_next_block_is_deleted_peers_that_wait_for_it_too_do_not_say_how_old_a_snapshot_is() {
    let chain = chain(1);
    let (sync, mut fetching, _parts) = joiner(&chain, [0, 0, 50_000]).await;
    let (mut attempts, (best, _)) = (Attempts::new(Some(10_000)), watch::channel(0));
    let peers = sync.gossip.connected();
    fetching.planner.on_status(peers[2], 50_000);
    fetching.planner.next(fetching.now_ms(), 0);
    fetching.planner.on_blocks(peers[2], Blocks { lowest: 2, ..Blocks::default() });
    sync.look(&mut fetching, &mut attempts, &best);
    assert_eq!(*best.borrow(), 0);
    fetching.pass(ALONE_FOR_MS.max(OUT_OF_REACH_MS));
    sync.look(&mut fetching, &mut attempts, &best);
    assert_eq!(*best.borrow(), 50_000);
    assert!(!attempts.active(), "the block may come for two minutes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_a_node_that_knows_too_few_validators_believes_any_peer_that_the_next_block_is_deleted_after_two_minutes() {
    let chain = chain(2 * BLOCKS);
    let (mut fetching, set) = (behind(&chain, 0).await.fetching, set_of(0));
    // Peer 7 is a stranger.
    let asked = fetching.planner.next(fetching.now_ms(), 0);
    assert_eq!(asked.iter().map(|request| request.peer).collect::<Vec<_>>(), [7]);
    fetching.planner.on_blocks(7, Blocks { lowest: 2, ..Blocks::default() });
    let deleted = |fetching: &Fetching, alone| fetching.deleted(&set, |_| None, alone);
    assert_eq!(deleted(&fetching, true), None, "it may come from another one");
    fetching.pass(OUT_OF_REACH_MS);
    assert_eq!(deleted(&fetching, false), None, "validators will say so");
    let gone = deleted(&fetching, true);
    assert_eq!(gone, Some(Deleted { height: 1, kept: true }));
    let (mut attempts, start) = (Attempts::new(Some(10_000)), Instant::now());
    let mut due = |seconds| attempts.due(start + Duration::from_secs(seconds), 0, 6, gone);
    assert_eq!([due(0), due(119), due(120)], [None, None, Some(0)]);
}
