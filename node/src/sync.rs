//! Block sync: fetches final blocks a peer has and we lack, checks, executes and stores them (protocol.md S1, S4). A node that
//! is too far behind fetches a snapshot first ([`crate::state_sync`]).
//!
//! ```text
//! peers ─→ planner ─→ verify (blocking pool) ─→ runs ─→ apply: executor, core          all at once, each on other blocks
//!                                                          └─→ commit: batches, blocks, state
//! ```

use crate::commit::MAX_LAG_ROWS;
use crate::executor::Command;
use crate::gossip::GossipHandle;
use crate::metrics::Metrics;
use crate::serving::Serving;
use crate::snapshots::Snapshots;
use crate::state_sync::{self, Answer, Attempts, FetchError, StateFetch};
use crate::storage::{Storage, StorageError};
use crate::view::{Identity, Snapshot};
use aitbc_core::block::Header;
use aitbc_core::consensus::input::{Boundary, Input, Tip};
use aitbc_core::consensus::output::Halt;
use aitbc_core::consensus::verify::{Ed25519, Verify};
use aitbc_core::epoch::{Epochs, Sets};
use aitbc_core::hash::Hash;
use aitbc_core::key::PublicKey;
use aitbc_core::light::Anchor;
use aitbc_core::message::{self, Blocks, Headers, MAX_BLOCKS, MAX_HEADERS, MAX_MESSAGE_BYTES, Message};
use aitbc_core::record::RecordKey;
use aitbc_core::state::chunk::CHUNK_BYTES;
use aitbc_core::state_sync::Progress;
use aitbc_core::sync::{Deleted, FinalBlock, Planner, credible_height, reply, verify_blocks};
use aitbc_core::validators::{Index, ValidatorSet};
use aitbc_core::vote::Cert;
use prometheus::IntGauge;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

/// Events waiting for the task.
pub const QUEUE: usize = 256;
/// Bytes of batches in an answer: a message holds 4 MiB.
const ANSWER_BYTES: usize = 3 << 20;
/// Headers read at once in search of a certificate above the blocks of an answer.
const HEADERS: u64 = 256;
/// Requests of validators for blocks answered at once.
const ANSWERING: usize = 4;
/// The same of others, who follow the chain: apart from those, so that a validator that is behind never waits for one of them.
const ANSWERING_OTHERS: usize = 2;
/// Bytes a second of blocks for each of those others; who is asked for more is not the only one that has them.
const OTHERS_BYTES_PER_SECOND: u64 = 4 << 20;
/// Requests for snapshots answered at once, apart from those.
const ANSWERING_SNAPSHOTS: usize = 2;
/// Bytes a second of headers and parts of snapshots for each peer: cutting them costs processor time.
const SNAPSHOT_BYTES_PER_SECOND: u64 = 16 << 20;
/// Room that a part of a snapshot takes at most.
const PART_BYTES: usize = 2 * CHUNK_BYTES;
/// Verified answers waiting to be executed; one more is being executed, and the blocks of one more being stored.
const RUNS: usize = 1;
/// Pause between two log lines about blocks that nobody keeps.
const TELL_EVERY_MS: u64 = 10_000;
/// How long no more of the validators known here than may be faulty must have told their heights before what anybody says counts:
/// after a start the others are on their way.
const ALONE_FOR_MS: u64 = 10_000;
/// Pause between two looks at time-outs.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What concerns block sync.
#[derive(Debug)]
pub enum SyncEvent {
    /// A channel is up.
    Connected(Index),
    /// A channel is gone.
    Disconnected(Index),
    /// A peer told its height.
    Height {
        /// Who.
        peer: Index,
        /// Its last final block.
        height: u64,
    },
    /// The core meets a gap that it will not close itself.
    Behind {
        /// Who has the blocks.
        peer: Index,
        /// Up to this height.
        height: u64,
    },
    /// A peer wants blocks.
    Request {
        /// Who.
        peer: Index,
        /// First height.
        from: u64,
        /// Most blocks.
        count: u32,
    },
    /// A peer wants headers (S3).
    HeadersRequest {
        /// Who.
        peer: Index,
        /// First height.
        from: u64,
        /// How many.
        count: u32,
    },
    /// A peer sent headers.
    Headers {
        /// Who.
        peer: Index,
        /// The headers and what makes them final.
        headers: Headers,
    },
    /// A peer wants a part of a snapshot (S3).
    SnapshotRequest {
        /// Who.
        peer: Index,
        /// Of which height; 0: it asks which there are.
        height: u64,
        /// Key from which on.
        from: Hash,
    },
    /// A peer sent a part of a snapshot, or says which ones it has.
    Snapshot {
        /// Who.
        peer: Index,
        /// The part.
        snapshot: Box<message::Snapshot>,
    },
    /// A peer sent blocks.
    Reply {
        /// Who.
        peer: Index,
        /// The blocks and what proves them.
        blocks: Blocks,
    },
}

/// What peers said of their heights, with the wall time in milliseconds.
#[derive(Default)]
pub struct Heights(Mutex<HashMap<Index, (u64, u64)>>);

impl Heights {
    /// Height and time of a peer's last status.
    pub fn get(&self, peer: Index) -> Option<(u64, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).copied()
    }

    fn set(&self, peer: Index, height: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, (height, now));
    }

    fn remove(&self, peer: Index) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }
}

/// Answers under way.
struct Servings {
    /// Blocks for validators of these epochs.
    validators: Serving,
    /// Blocks for candidates and strangers.
    others: Serving,
    /// Headers and parts of snapshots, for all.
    snapshots: Serving,
}

impl Servings {
    fn new() -> Servings {
        Servings {
            validators: Serving::new(ANSWERING, u64::MAX),
            others: Serving::new(ANSWERING_OTHERS, OTHERS_BYTES_PER_SECOND),
            snapshots: Serving::new(ANSWERING_SNAPSHOTS, SNAPSHOT_BYTES_PER_SECOND),
        }
    }

    /// Of blocks, for who takes part in consensus or does not.
    fn blocks(&self, takes_part: bool) -> &Serving {
        if takes_part { &self.validators } else { &self.others }
    }
}

/// What the task works with.
pub struct Sync {
    /// Fixed facts.
    pub identity: Arc<Identity>,
    /// Own end of the chain.
    pub chain: watch::Receiver<Arc<Snapshot>>,
    /// For answers.
    pub storage: Arc<dyn Storage>,
    /// Channels to peers.
    pub gossip: GossipHandle,
    /// Heights of peers, for readiness.
    pub heights: Arc<Heights>,
    /// Height of the last block in the own ledger.
    pub stored: watch::Receiver<u64>,
    /// Rows of state that blocks in the ledger changed and that are not applied.
    pub unapplied: watch::Receiver<usize>,
    /// Executes what came.
    pub executor: mpsc::Sender<Command>,
    /// Told where to go on.
    pub core: mpsc::Sender<Input>,
    /// Told when the own execution disagrees with certified blocks.
    pub halted: watch::Sender<Option<Halt>>,
    /// Blocks behind from which on a snapshot is fetched instead; `None`: never.
    pub state_sync_lag: Option<u64>,
    /// States for nodes that are far behind.
    pub snapshots: Arc<Snapshots>,
    /// How far the fetch of a snapshot is.
    pub progress: watch::Sender<Option<Progress>>,
    /// Told when a snapshot is stored, from which the node must start anew.
    pub restart: watch::Sender<Option<u64>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Verified blocks of one answer, and the certificate that proves them.
struct Run {
    blocks: Vec<FinalBlock>,
    cert: Cert,
}

/// What becomes of the answer that continues the front.
enum Stage {
    /// It is not here yet.
    Idle,
    /// It is being verified; who sent it.
    Verifying(Index, JoinHandle<Result<Run, String>>),
    /// It waits for those before it to be executed.
    Verified(Run),
}

/// The task's state.
struct Fetching {
    planner: Planner,
    started: Instant,
    /// End of the verified blocks, or the own end where that is ahead.
    front: Anchor,
    stage: Stage,
    runs: mpsc::Sender<Run>,
    /// When it was last said that nobody keeps the next block.
    told_ms: Option<u64>,
    /// Since when too few of the validators known here are there.
    alone_since: Option<u64>,
    /// Decides signatures, and the set whose keys it has prepared.
    verifier: (Arc<ValidatorSet>, Arc<dyn Verify>),
}

impl Fetching {
    fn new(front: Anchor, set: &Arc<ValidatorSet>, epochs: Epochs, runs: mpsc::Sender<Run>) -> Fetching {
        Fetching {
            planner: Planner::new(epochs),
            started: Instant::now(),
            front,
            stage: Stage::Idle,
            runs,
            told_ms: None,
            alone_since: None,
            verifier: (set.clone(), Arc::new(Ed25519::new(set))),
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Waits until the answer is one stage further. False: the node is stopping.
    async fn advance(&mut self) -> bool {
        match &mut self.stage {
            Stage::Idle => std::future::pending().await,
            Stage::Verifying(peer, verdict) => {
                let peer = *peer;
                let verdict = verdict.await.unwrap_or_else(|cause| Err(cause.to_string()));
                self.on_verdict(peer, verdict);
                true
            }
            Stage::Verified(_) => {
                let Ok(room) = self.runs.reserve().await else { return false };
                if let Stage::Verified(run) = std::mem::replace(&mut self.stage, Stage::Idle) {
                    room.send(run);
                }
                true
            }
        }
    }

    fn on_verdict(&mut self, peer: Index, verdict: Result<Run, String>) {
        self.stage = Stage::Idle;
        match verdict {
            Ok(run) => {
                // The own end may be beyond it by now; the executor leaves out what it has.
                if let Some(end) = run
                    .blocks
                    .last()
                    .map(|block| Anchor::of(&block.header, block.digest))
                    .filter(|end| end.height > self.front.height)
                {
                    self.front = end;
                    self.stage = Stage::Verified(run);
                }
            }
            Err(cause) => {
                warn!(cause, peer, "blocks from a peer do not verify");
                self.planner.on_wrong(self.now_ms(), peer);
            }
        }
    }

    /// Begins to verify the answer that continues the front, if it is here and its turn. `sets` are those that the executed
    /// blocks decide: where an epoch ends, the next one waits until its last block is executed (E1).
    fn verify_next(&mut self, identity: &Arc<Identity>, sets: &Sets) {
        let front = self.front;
        let epochs = Epochs::by(&identity.genesis.parameters);
        let idle = matches!(self.stage, Stage::Idle) && epochs.after(front.height) == sets.epoch;
        let Some(answer) = idle.then(|| self.planner.take(front.height)).flatten() else { return };
        let verifier = self.verifier_of(&sets.current);
        let (identity, sets, peer) = (identity.clone(), sets.clone(), answer.peer);
        let verify = move || {
            let cert = answer.cert.clone();
            let blocks = verify_blocks(&*verifier, &identity.chain, (&sets, epochs), &front, answer);
            Ok(Run { blocks: blocks.map_err(|cause| cause.to_string())?, cert })
        };
        self.stage = Stage::Verifying(peer, tokio::task::spawn_blocking(verify));
    }

    /// With the keys of a set prepared, as long as it is the same.
    fn verifier_of(&mut self, set: &Arc<ValidatorSet>) -> Arc<dyn Verify> {
        let (prepared, verifier) = &mut self.verifier;
        if prepared != set {
            (*prepared, *verifier) = (set.clone(), verifier.prepared(set));
        }
        verifier.clone()
    }

    /// Whether members no heavier than the faulty have told their heights, and this for a while: the sets known here may be of the
    /// past, and others validate by now. What such a node begins by the word of others is proven from its own sets on (S3), and
    /// blocks are taken between two attempts in vain.
    fn alone(&mut self, set: &ValidatorSet, told: &[(Index, u64)]) -> bool {
        let weight: u64 = told.iter().map(|(index, _)| set.weight(*index)).sum();
        let (now, few) = (self.now_ms(), weight <= set.faulty_weight());
        let since = self.alone_since.filter(|_| few).unwrap_or(now);
        self.alone_since = few.then_some(since);
        few && now >= since + ALONE_FOR_MS
    }

    /// The next block, where more than the faulty have deleted it. `alone`: where anybody has and it does not come, as if one were
    /// there that says that it keeps it: the longer patience.
    fn deleted(&self, set: &ValidatorSet, index_of: impl Fn(Index) -> Option<Index>, alone: bool) -> Option<Deleted> {
        let missing = || self.planner.out_of_reach(self.now_ms(), set, |_| None).filter(|_| alone);
        let by_anybody = |_lowest| Deleted { height: self.front.height + 1, kept: true };
        self.planner.deleted(set, index_of).or_else(|| missing().map(by_anybody))
    }

    /// Says now and then that the peers have deleted what is missing here: nothing but another peer helps.
    fn tell_out_of_reach(&mut self, set: &ValidatorSet, index_of: impl Fn(Index) -> Option<Index>, gauge: &IntGauge) {
        let now = self.now_ms();
        let lowest = self.planner.out_of_reach(now, set, index_of);
        gauge.set(i64::from(lowest.is_some()));
        if self.told_ms.is_some_and(|at| now < at + TELL_EVERY_MS) {
            return;
        }
        if let Some(lowest) = lowest {
            self.told_ms = Some(now);
            let next = self.front.height + 1;
            warn!(next, lowest, "no connected peer keeps the next block: connect one whose PRUNING is archive");
        }
    }
}

impl Sync {
    /// Serves events until the channel closes.
    pub async fn run(self, mut events: mpsc::Receiver<SyncEvent>) {
        let (runs, waiting) = mpsc::channel(RUNS);
        let apply = Apply {
            identity: self.identity.clone(),
            stored: self.stored.clone(),
            unapplied: self.unapplied.clone(),
            executor: self.executor.clone(),
            core: self.core.clone(),
            halted: self.halted.clone(),
            chain: self.chain.clone(),
        };
        tokio::spawn(apply.run(waiting));
        let epochs = Epochs::by(&self.identity.genesis.parameters);
        let mut fetching = Fetching::new(self.own_end(), &self.sets().current, epochs, runs);
        let mut executed = self.chain.clone();
        let mut attempts = Attempts::new(self.state_sync_lag);
        let (best, _) = watch::channel(0);
        let servings = Servings::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => {
                        let height = matches!(event, SyncEvent::Height { .. });
                        self.on_event(event, &mut fetching, &attempts, &servings);
                        if height {
                            // Before blocks are asked for: thousands come until the next look.
                            self.look(&mut fetching, &mut attempts, &best);
                        }
                    }
                    None => return,
                },
                going_on = fetching.advance() => if !going_on { return },
                changed = executed.changed() => if changed.is_err() { return },
                end = attempts.ended() => self.after_attempt(end),
                _ = look.tick() => self.look(&mut fetching, &mut attempts, &best),
            }
            // What is fetched is the state after blocks that are not fetched then.
            if attempts.active() {
                continue;
            }
            let own = self.own_end();
            if own.height > fetching.front.height {
                fetching.front = own;
            }
            fetching.verify_next(&self.identity, &self.sets());
            self.ask(&mut fetching);
        }
    }

    fn look(&self, fetching: &mut Fetching, attempts: &mut Attempts, best: &watch::Sender<u64>) {
        let own = self.chain.borrow().head.height;
        if self.chain.borrow().upgrade_due().is_some() {
            // V1: nothing above is of use, nor is a snapshot of it.
            return;
        }
        let sets = self.sets();
        let told = self.told(&sets.current, own);
        let alone = fetching.alone(&sets.current, &told);
        let deleted = fetching.deleted(&sets.current, |peer| self.index_in(&sets.current, peer), alone);
        let heights = if alone { self.heights_of_connected() } else { Vec::new() };
        // Where the next block is deleted others may wait for it too: they say nothing of which snapshot is too old, nor while one
        // is fetched and whoever serves it is away for a moment.
        let of_use = |height: &u64| (deleted.is_some() || attempts.active()) && *height > own;
        let ahead: Vec<u64> = heights.iter().copied().filter(of_use).collect();
        let height = credible_height(&sets.current, told).max(middle(heights));
        best.send_replace(height.max(middle(ahead)));
        if let Some(above) = attempts.due(Instant::now(), own, height, deleted) {
            let (identity, storage, gossip) = (self.identity.clone(), self.storage.clone(), self.gossip.clone());
            let (best, progress) = (best.subscribe(), self.progress.clone());
            attempts.begin(StateFetch { identity, sets, storage, gossip, above, best, progress });
        } else if !attempts.active() {
            let index_of = |peer| self.index_in(&sets.current, peer);
            fetching.tell_out_of_reach(&sets.current, index_of, &self.metrics.sync_out_of_reach);
        }
    }

    /// What members of a set say of their heights, this node among them.
    fn told(&self, set: &ValidatorSet, own: u64) -> Vec<(Index, u64)> {
        let of_peer = |key: &PublicKey| Some(self.heights.get(self.gossip.number_of(key)?)?.0);
        let of_key = |key: &PublicKey| if self.identity.key == Some(*key) { Some(own) } else { of_peer(key) };
        (0..).zip(set.members()).filter_map(|(index, member)| Some((index, of_key(&member.key)?))).collect()
    }

    /// What whoever is connected says.
    fn heights_of_connected(&self) -> Vec<u64> {
        self.gossip.connected().into_iter().filter_map(|peer| Some(self.heights.get(peer)?.0)).collect()
    }

    /// Index of a peer in a set.
    fn index_in(&self, set: &ValidatorSet, peer: Index) -> Option<Index> {
        set.index_of(&self.gossip.key_of(peer)?)
    }

    fn after_attempt(&self, end: Result<u64, FetchError>) {
        self.progress.send_replace(None);
        let outcome = if end.is_ok() { "stored" } else { "failed" };
        self.metrics.state_syncs.with_label_values(&[outcome]).inc();
        match end.map_err(|cause| (cause.halt(), cause)) {
            Ok(height) => {
                self.restart.send_replace(Some(height));
            }
            Err((None, cause)) => warn!(%cause, "no snapshot: taking blocks, looking again later"),
            Err((halt, cause)) => {
                error!(%cause, "the snapshot cannot be stored, and the node cannot go on");
                self.halted.send_replace(halt);
            }
        }
    }

    /// Of the epoch of the next block to execute.
    fn sets(&self) -> Sets {
        self.chain.borrow().sets.clone()
    }

    fn own_end(&self) -> Anchor {
        Anchor::from(&crate::executor::tip(&self.chain.borrow()))
    }

    fn ask(&self, fetching: &mut Fetching) {
        let now = fetching.now_ms();
        // V1: known long before its height, by the executed blocks.
        fetching.planner.end_at(self.chain.borrow().upgrade().map(|upgrade| upgrade.height.saturating_sub(1)));
        for request in fetching.planner.next(now, fetching.front.height) {
            debug!(peer = request.peer, from = request.from, count = request.count, "asking for blocks");
            // A peer that left is told by `Disconnected`, and another one asked.
            let _ = self.gossip.send(request.peer, &Message::BlocksReq { from: request.from, count: request.count });
        }
    }

    fn on_event(&self, event: SyncEvent, fetching: &mut Fetching, attempts: &Attempts, servings: &Servings) {
        let planner = &mut fetching.planner;
        let pass = |answer: Answer| {
            if !attempts.pass(answer) {
                self.metrics.network_dropped.with_label_values(&["state_sync"]).inc();
            }
        };
        match event {
            SyncEvent::Connected(_) => {}
            SyncEvent::Disconnected(peer) => {
                self.heights.remove(peer);
                planner.on_disconnected(peer);
            }
            SyncEvent::Height { peer, height } | SyncEvent::Behind { peer, height } => {
                self.heights.set(peer, height);
                planner.on_status(peer, height);
            }
            SyncEvent::Reply { peer, blocks } => planner.on_blocks(peer, blocks),
            SyncEvent::Headers { peer, headers } => pass(Answer::Headers(peer, headers)),
            SyncEvent::Snapshot { peer, snapshot } => pass(Answer::Snapshot(peer, snapshot)),
            SyncEvent::Request { peer, from, count } => {
                let (storage, count) = (self.storage.clone(), u64::from(count).clamp(1, MAX_BLOCKS as u64));
                let read = async move { read_answer(&*storage, from.max(1), count).await.map(Message::Blocks) };
                let blocks = servings.blocks(self.gossip.takes_part(peer));
                self.answer("blocks_req", peer, blocks, MAX_MESSAGE_BYTES, read);
            }
            SyncEvent::HeadersRequest { peer, from, count } => {
                let storage = self.storage.clone();
                let read =
                    async move { state_sync::headers(&*storage, from.max(1), count).await.map(Message::Headers) };
                self.answer("headers_req", peer, &servings.snapshots, MAX_MESSAGE_BYTES, read);
            }
            SyncEvent::SnapshotRequest { peer, height, from } => {
                let part = state_sync::part(self.snapshots.clone(), height, from);
                let read = async move { Ok(Message::Snapshot(Box::new(part.await))) };
                self.answer("snapshot_req", peer, &servings.snapshots, PART_BYTES, read);
            }
        }
    }

    /// Reads beside this task, `most` bytes at most. What cannot be answered now, or could not leave, the peer asks for again
    /// after its time-out.
    fn answer(
        &self,
        request: &'static str,
        peer: Index,
        serving: &Serving,
        most: usize,
        read: impl Future<Output = Result<Message, StorageError>> + Send + 'static,
    ) {
        let dropped = self.metrics.network_dropped.with_label_values(&[request]);
        let Some(turn) = serving.begin(peer) else { return dropped.inc() };
        let gossip = self.gossip.clone();
        tokio::spawn(async move {
            let place = turn.come().await;
            if !gossip.has_room(peer, most) {
                return dropped.inc();
            }
            let answer = read.await;
            drop(place);
            match answer {
                Ok(message) => {
                    turn.end(borsh::object_length(&message).unwrap_or(most));
                    if let Err(cause) = gossip.send(peer, &message) {
                        debug!(%cause, peer, request, "answer not sent");
                    }
                }
                Err(cause) => warn!(%cause, request, "what was asked for could not be read"),
            }
        });
    }
}

/// What more than half have reached, be they ahead of this node or not: liars that are fewer than half do not raise it. 0 where
/// there is nobody.
fn middle(mut heights: Vec<u64>) -> u64 {
    heights.sort_unstable();
    heights.get(heights.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// Blocks of the ledger from a height on, and what proves them.
async fn read_answer(storage: &dyn Storage, from: u64, count: u64) -> Result<Blocks, StorageError> {
    let lowest = storage.lowest();
    if from < lowest {
        return Ok(Blocks { lowest, ..Blocks::default() });
    }
    let found = match storage.blocks(from, from.saturating_add(count - 1), ANSWER_BYTES).await {
        // They were deleted meanwhile.
        Err(_) if from < storage.lowest() => return Ok(Blocks { lowest: storage.lowest(), ..Blocks::default() }),
        found => found?,
    };
    let found: Vec<_> = found.into_iter().map(|(stored, block)| (block, stored.cert)).collect();
    let mut after: Vec<(Header, Option<Cert>)> = Vec::new();
    let certified = |cert: &Option<Cert>| cert.is_some();
    let mut proven = found.is_empty() || found.iter().any(|(_, cert)| certified(cert));
    let mut next = from.saturating_add(found.len() as u64);
    while !proven && after.len() < MAX_HEADERS {
        let headers = storage.headers(next, next.saturating_add(HEADERS - 1)).await?;
        next = next.saturating_add(headers.len() as u64);
        proven = headers.is_empty() || headers.iter().any(|stored| certified(&stored.cert));
        after.extend(headers.into_iter().map(|stored| (stored.candidate.header, stored.cert)));
    }
    Ok(reply(found, after, lowest))
}

/// Hands verified blocks to the executor, in order, then tells the core.
struct Apply {
    identity: Arc<Identity>,
    stored: watch::Receiver<u64>,
    unapplied: watch::Receiver<usize>,
    executor: mpsc::Sender<Command>,
    core: mpsc::Sender<Input>,
    halted: watch::Sender<Option<Halt>>,
    chain: watch::Receiver<Arc<Snapshot>>,
}

/// Why blocks that came were not taken.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    /// They contradict the own execution.
    #[error(transparent)]
    Roots(#[from] crate::executor::RootsDiffer),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl Apply {
    async fn run(mut self, mut runs: mpsc::Receiver<Run>) {
        let mut before = 0;
        while let Some(run) = runs.recv().await {
            let Some(end) = run.blocks.last().map(|block| block.header.height) else { continue };
            if !room(&mut self.stored, &mut self.unapplied, before).await {
                return;
            }
            before = end;
            match self.apply(run).await {
                Ok(()) => {}
                Err(ApplyError::Stopping) => return,
                Err(ApplyError::Roots(cause)) => {
                    error!(%cause, "the own state diverged (C21)");
                    let digest = self.chain.borrow().head.hash;
                    self.halted.send_replace(Some(Halt::Diverged { height: cause.height, digest }));
                    return;
                }
            }
        }
    }

    /// Where a run ends its epoch: its last header, and what the state after it decides (E1). `None` where the chain went on
    /// meanwhile: consensus has told the core by then.
    fn boundary(&self, tip: &Tip, header: Header) -> Option<Box<Boundary>> {
        let epochs = Epochs::by(&self.identity.genesis.parameters);
        let snapshot = self.chain.borrow();
        let ends =
            epochs.is_boundary(header.height) && tip.digest == header.digest() && snapshot.head.hash == tip.digest;
        ends.then(|| Box::new(Boundary { header, set: snapshot.sets.next.clone() }))
    }

    async fn apply(&self, run: Run) -> Result<(), ApplyError> {
        let (first, count) = (run.blocks.first().map_or(0, |block| block.header.height), run.blocks.len());
        let batches = run.blocks.iter().flat_map(|block| &block.batches);
        let included = batches.map(|b| (b.digest, b.batch.expiry_height)).collect();
        let evidence = run.blocks.iter().map(|block| &block.header.evidence);
        // All blocks of a run are of one epoch, and not executed yet.
        let sets = self.chain.borrow().sets.clone();
        let nullifiers =
            evidence.flat_map(|evidence| RecordKey::nullifiers(evidence, |epoch| sets.of(epoch).cloned())).collect();
        let last = run.blocks.last().map(|block| block.header.clone());
        let (reply, done) = oneshot::channel();
        let command = Command::Sync { blocks: run.blocks, cert: run.cert.clone(), reply };
        self.executor.send(command).await.map_err(|_| ApplyError::Stopping)?;
        let tip = done.await.map_err(|_| ApplyError::Stopping)??;
        info!(first, count, height = tip.height, "blocks fetched");
        let boundary = last.and_then(|header| self.boundary(&tip, header));
        let input = Input::Synced { tip, cert: run.cert, included, nullifiers, boundary };
        self.core.send(input).await.map_err(|_| ApplyError::Stopping)
    }
}

/// Waits until the blocks up to `before` are in the ledger and most of the state is applied: a slow database slows block
/// sync down, or its queues would hold hundreds of large blocks. False: the node is stopping.
async fn room(stored: &mut watch::Receiver<u64>, unapplied: &mut watch::Receiver<usize>, before: u64) -> bool {
    stored.wait_for(|height| *height >= before).await.is_ok()
        && unapplied.wait_for(|rows| *rows <= MAX_LAG_ROWS).await.is_ok()
}

#[cfg(test)]
mod tests;
