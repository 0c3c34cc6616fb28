//! Fetches a snapshot from peers and makes it the base of the ledger (protocol.md S3, S4).
//!
//! ```text
//! sync: far behind ─→ StateFetch: planner ─→ asks ─→ peers ─→ headers, chunks ─→ verified ─→ one commit ─→ the node starts anew
//! ```
//! Nothing that runs is told to jump: after the commit the node goes on from its database as after a crash. Until then it
//! is the node it was, so a stop at any moment loses what was fetched and nothing else.

use crate::gossip::GossipHandle;
use crate::snapshots::Snapshots;
use crate::storage::{self, BlockWrite, Storage, StorageError, StoredSnapshot};
use crate::view::Identity;
use aitbc_core::block::{Candidate, Header};
use aitbc_core::codec;
use aitbc_core::consensus::output::Halt;
use aitbc_core::epoch::{Epochs, Sets};
use aitbc_core::hash::Hash;
use aitbc_core::message::{self, Headers, MAX_HEADERS, MAX_MESSAGE_BYTES};
use aitbc_core::params::{MAX_VALIDATORS, MIN_KEEP_BLOCKS};
use aitbc_core::state::chunk::CHUNK_BYTES;
use aitbc_core::state::{ProvenLeaf, State};
use aitbc_core::state_sync::{Ask, Bars, Fetched, FinalHeader, GivenUp, Progress, StateSync, is_old};
use aitbc_core::sync::{Deleted, reply_headers};
use aitbc_core::validators::Index;
use aitbc_core::vote::Cert;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

/// Answers waiting for the task: one comes for each request, and a peer has one open.
const QUEUE: usize = 2 * MAX_VALIDATORS;
/// Pause between two looks at time-outs and channels.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Pause between two log lines about progress.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Pause after a failed fetch; blocks are fetched meanwhile.
const RETRY: Duration = Duration::from_secs(60);
/// How long the same block must be deleted everywhere before it is given up: a peer that keeps it may be starting.
const DELETED_FOR: Duration = Duration::from_secs(30);
/// How long where a peer says that it keeps it, but no block comes. It was asked again meanwhile, with all patience; if it
/// keeps its word, the next block is another one.
const DELETED_BUT_KEPT_FOR: Duration = Duration::from_secs(120);
/// Headers read at once.
const HEADERS: u64 = 256;
/// Leaves of a part as it is stored: about half a MiB of accounts.
const PART_LEAVES: usize = 16_384;

/// What a peer sent for a fetch.
#[derive(Debug)]
pub enum Answer {
    /// Headers.
    Headers(Index, Headers),
    /// A part of a snapshot, or which ones there are.
    Snapshot(Index, Box<message::Snapshot>),
}

/// Requests that have no answer yet, by peer. Each lets one answer in.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<BTreeMap<Index, Ask>>>);

impl Asked {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Index, Ask>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True where this is what the peer was asked for, once.
    fn lets_in(&self, answer: &Answer) -> bool {
        let mut asked = self.lock();
        let (peer, fits) = match answer {
            Answer::Headers(peer, reply) => (peer, asked.get(peer).is_some_and(|ask| ask.takes_headers(reply))),
            Answer::Snapshot(peer, reply) => (peer, asked.get(peer).is_some_and(|ask| ask.takes_snapshot(reply))),
        };
        fits && asked.remove(peer).is_some()
    }
}

/// A fetch under way.
struct Running {
    answers: mpsc::Sender<Answer>,
    asked: Asked,
    end: JoinHandle<(Bars, Result<u64, FetchError>)>,
}

/// When a snapshot is fetched, and the fetch under way.
pub struct Attempts {
    lag: Option<u64>,
    running: Option<Running>,
    /// Begin of the times that the planners are told.
    clock: Instant,
    retry_at: Instant,
    /// Height of the next block, if it is deleted; since when it is, and since when nobody says that it keeps it.
    deleted: Option<(u64, Instant, Option<Instant>)>,
    /// What earlier ones learned.
    bars: Bars,
    /// One is stored, or the node must stop.
    over: bool,
}

impl Attempts {
    /// `lag`: blocks behind the others from which on a snapshot is fetched; `None`: never.
    pub fn new(lag: Option<u64>) -> Attempts {
        let (now, bars) = (Instant::now(), Bars::default());
        Attempts { lag, running: None, clock: now, retry_at: now, deleted: None, bars, over: false }
    }

    /// True while one is being fetched, or is stored and waits for the node to start anew.
    pub fn active(&self) -> bool {
        self.running.is_some() || self.over
    }

    /// Whether to begin one, by the own height, that of the others, and the next block if it is deleted: the height above which
    /// a snapshot is worth it. To be called several times a second.
    pub fn due(&mut self, now: Instant, own: u64, best: u64, deleted: Option<Deleted>) -> Option<u64> {
        self.deleted = deleted.map(|Deleted { height, kept }| {
            let (_, since, alone) = self.deleted.filter(|(at, ..)| *at == height).unwrap_or((height, now, None));
            (height, since, (!kept).then(|| alone.unwrap_or(now)))
        });
        let lag = self.lag.filter(|_| !self.active() && now >= self.retry_at)?;
        if best > own.saturating_add(lag) {
            return Some(own.saturating_add(MIN_KEEP_BLOCKS));
        }
        let (_, since, alone) = self.deleted?;
        let stood = |since, limit| now.saturating_duration_since(since) >= limit;
        (stood(since, DELETED_BUT_KEPT_FOR) || alone.is_some_and(|alone| stood(alone, DELETED_FOR))).then_some(own)
    }

    /// Begins.
    pub fn begin(&mut self, fetch: StateFetch) {
        info!(above = fetch.above, "too far behind to take all blocks: looking for a snapshot");
        let (answers, receiver) = mpsc::channel(QUEUE);
        let (asked, bars) = (Asked::default(), self.bars.clone());
        let end = tokio::spawn(fetch.run(receiver, asked.clone(), bars, self.clock));
        self.running = Some(Running { answers, asked, end });
    }

    /// Hands an answer to the fetch that asked for it. False where nobody did.
    pub fn pass(&self, answer: Answer) -> bool {
        let Some(fetch) = self.running.as_ref().filter(|fetch| fetch.asked.lets_in(&answer)) else { return false };
        // One that has just ended takes no more, which is no loss.
        !matches!(fetch.answers.try_send(answer), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Waits for the end of the fetch; gives the height of the snapshot that is stored now. May be cancelled at any time.
    ///
    /// # Errors
    /// Says why there is none. Another attempt follows later, unless the node must stop.
    pub async fn ended(&mut self) -> Result<u64, FetchError> {
        let Some(fetch) = &mut self.running else { return std::future::pending().await };
        let (bars, outcome) = match (&mut fetch.end).await {
            Ok(end) => end,
            Err(cause) => (self.bars.clone(), Err(cause.into())),
        };
        (self.running, self.bars) = (None, bars);
        self.retry_at = Instant::now() + RETRY;
        self.over = outcome.as_ref().map_or_else(|cause| cause.halt().is_some(), |_| true);
        if let Err(FetchError::GivenUp(GivenUp::OtherSet | GivenUp::NewVersion { .. })) = outcome {
            // Nor would any later one be proven.
            self.lag = None;
        }
        outcome
    }
}

/// Why a fetch ended without a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is none to be had.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
    /// It could not be stored.
    #[error(transparent)]
    Storage(StorageError),
    /// Final headers that were fetched are not those of the own ledger (C21).
    #[error("the fetched final headers up to slot {slot} contradict the own ledger: {cause}")]
    Contradicts {
        /// Slot of the last one.
        slot: u64,
        /// What the ledger has.
        cause: String,
    },
    /// The chunks, each of which was verified, do not make the state.
    #[error("the fetched leaves have root {found}, the header above says {expected}")]
    Root {
        /// By the final header above.
        expected: Hash,
        /// Of all leaves.
        found: Hash,
    },
    /// It took so long that the blocks above it are about to be deleted.
    #[error("the snapshot of height {height} is too old by now: the others have {best} blocks")]
    Old {
        /// Its height.
        height: u64,
        /// What more than the faulty have.
        best: u64,
    },
    /// A thread ended.
    #[error("a thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl FetchError {
    /// What the commit of headers up to a slot came to.
    fn of_commit(cause: StorageError, slot: u64) -> FetchError {
        match cause {
            StorageError::Corrupt(cause) => FetchError::Contradicts { slot, cause },
            cause => FetchError::Storage(cause),
        }
    }

    /// Where no other attempt would help: why the node must stop.
    pub fn halt(&self) -> Option<Halt> {
        match self {
            FetchError::Contradicts { slot, .. } => Some(Halt::ContradictingCerts { slot: *slot }),
            FetchError::Storage(StorageError::Fenced { .. }) => Some(Halt::Fenced),
            _ => None,
        }
    }
}

/// What a fetch works with.
pub struct StateFetch {
    /// Fixed facts.
    pub identity: Arc<Identity>,
    /// The sets of the epoch of the block after the own last one.
    pub sets: Sets,
    /// Where it goes.
    pub storage: Arc<dyn Storage>,
    /// Channels to peers.
    pub gossip: GossipHandle,
    /// A snapshot at or below this height is of no use.
    pub above: u64,
    /// What more than the faulty say of the chain's height.
    pub best: watch::Receiver<u64>,
    /// For readers.
    pub progress: watch::Sender<Option<Progress>>,
}

impl StateFetch {
    /// Fetches and stores; gives the height from which the next start of the node goes on. After an error nothing was stored, or
    /// nobody knows whether it was.
    async fn run(
        self,
        answers: mpsc::Receiver<Answer>,
        asked: Asked,
        bars: Bars,
        clock: Instant,
    ) -> (Bars, Result<u64, FetchError>) {
        let started = clock.elapsed().as_millis() as u64;
        let known = (self.sets.clone(), Epochs::by(&self.identity.genesis.parameters));
        let mut plan = StateSync::new(self.identity.chain, known, self.above, bars, started);
        let fetched = self.fetch(&mut plan, answers, &asked, clock).await;
        let bars = plan.into_bars();
        let outcome = match fetched {
            Ok(fetched) => self.install(fetched).await,
            Err(cause) => Err(cause),
        };
        (bars, outcome)
    }

    async fn fetch(
        &self,
        plan: &mut StateSync,
        mut answers: mpsc::Receiver<Answer>,
        asked: &Asked,
        clock: Instant,
    ) -> Result<Fetched, FetchError> {
        let now = || clock.elapsed().as_millis() as u64;
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut told = Instant::now();
        loop {
            plan.on_channels(&self.channels());
            let best = *self.best.borrow();
            for (peer, ask) in plan.next(now(), best)? {
                debug!(peer, ?ask, "asking for a part of a snapshot");
                asked.lock().insert(peer, ask);
                // A peer that left is seen at the next look, and another one asked.
                let _ = self.gossip.send(peer, &ask.message());
            }
            self.tell(plan, &mut told);
            tokio::select! {
                answer = answers.recv() => self.on_answer(now(), answer.ok_or(FetchError::Stopping)?, plan).await?,
                _ = look.tick() => {}
            }
            if let Some(fetched) = plan.take() {
                self.tell(plan, &mut told);
                return Ok(fetched);
            }
        }
    }

    /// Peers with an open channel, and their weights in the present set; of strangers 0.
    fn channels(&self) -> Vec<(Index, u64)> {
        let set = &self.sets.current;
        let weight = |peer| self.gossip.key_of(peer).map_or(0, |key| set.weight_of(&key));
        self.gossip.connected().into_iter().map(|peer| (peer, weight(peer))).collect()
    }

    /// Whom to look at, for the log.
    fn address_of(&self, peer: Index) -> Option<String> {
        self.gossip.key_of(peer).map(|key| key.address().to_string())
    }

    fn tell(&self, plan: &StateSync, told: &mut Instant) {
        let progress = plan.progress();
        let Progress { phase, height, chunks, permille } = progress;
        let changed = self.progress.send_replace(Some(progress)).is_none_or(|before| before.phase != phase);
        if changed || told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            info!(phase, height, chunks, permille, "fetching a snapshot");
        }
    }

    async fn on_answer(&self, now: u64, answer: Answer, plan: &mut StateSync) -> Result<(), FetchError> {
        match answer {
            Answer::Headers(peer, headers) => {
                if let Err(cause) = plan.on_headers(now, peer, headers) {
                    let address = self.address_of(peer);
                    warn!(%cause, peer, address, "headers from a peer do not verify: it is asked nothing for an hour");
                }
            }
            Answer::Snapshot(peer, reply) => {
                let message::Snapshot { heights, height, from, chunk } = *reply;
                let Some(chunk) = chunk else {
                    plan.on_offers(peer, heights);
                    return Ok(());
                };
                let Some((root, from)) = plan.expected(peer, height, &from) else { return Ok(()) };
                let verdict = tokio::task::spawn_blocking(move || chunk.verify(&root, &from)).await?;
                if let Err(cause) = &verdict {
                    let address = self.address_of(peer);
                    warn!(%cause, peer, address, "a part of a snapshot does not verify: its sender is asked nothing for an hour");
                }
                plan.on_chunk(now, peer, verdict.ok());
            }
        }
        Ok(())
    }

    /// One commit, after the whole root was compared (S3).
    async fn install(&self, fetched: Fetched) -> Result<u64, FetchError> {
        let (height, started) = (fetched.height(), Instant::now());
        let slot = fetched.headers.last().map_or(0, |last| last.header.slot);
        let Fetched { headers, state_root, results_root, leaves } = fetched;
        info!(height, leaves = leaves.len(), "a snapshot is here and proven: storing it");
        let (found, parts) = tokio::task::spawn_blocking(move || {
            let state = State::from_leaves(leaves);
            (state.root(), parts(&state))
        })
        .await?;
        if found != state_root {
            return Err(FetchError::Root { expected: state_root, found });
        }
        // Of a large state that took a while, and the blocks above the base must still be there after the commit and a start.
        let best = *self.best.borrow();
        if is_old(height, best) {
            return Err(FetchError::Old { height, best });
        }
        // The leader's signature is not part of fetched headers and not needed: a certificate covers them.
        let write =
            |FinalHeader { digest, header, cert }| BlockWrite { digest, candidate: Candidate::unsigned(header), cert };
        let headers = headers.into_iter().map(write).collect();
        let snapshot = StoredSnapshot { height, state_root, results_root, parts };
        self.storage.commit_snapshot(headers, snapshot).await.map_err(|cause| FetchError::of_commit(cause, slot))?;
        info!(height, seconds = started.elapsed().as_secs_f64(), "the snapshot is stored");
        Ok(height)
    }
}

/// All leaves, encoded, in parts.
fn parts(state: &State) -> Vec<Vec<u8>> {
    let (mut parts, mut part): (Vec<Vec<u8>>, Vec<ProvenLeaf>) = (Vec::new(), Vec::new());
    for leaf in state.leaves() {
        part.push(leaf);
        if part.len() == PART_LEAVES {
            parts.push(codec::encode(&std::mem::take(&mut part)));
        }
    }
    // An empty state has one too, or nothing would say that it is there.
    if !part.is_empty() || parts.is_empty() {
        parts.push(codec::encode(&part));
    }
    parts
}

/// The answer to a request for headers: as far as a certificate at or above the last one that was asked for, if that fits and is
/// of the same epoch.
///
/// # Errors
/// Where they cannot be read.
pub async fn headers(storage: &dyn Storage, from: u64, count: u32) -> storage::Result<Headers> {
    let most = MAX_HEADERS.min(usize::try_from(count).unwrap_or(MAX_HEADERS).max(1));
    let (mut found, mut bytes): (Vec<(Header, Option<Cert>)>, usize) = (Vec::new(), 0);
    // An answer ends with its epoch.
    let enough = |found: &[(Header, Option<Cert>)]| {
        let epoch_of = |at: Option<&(Header, _)>| at.map(|(header, _)| header.epoch);
        epoch_of(found.first()) != epoch_of(found.last()) || found.iter().skip(most - 1).any(|(_, cert)| cert.is_some())
    };
    while !enough(&found) && found.len() < MAX_HEADERS && bytes < MAX_MESSAGE_BYTES {
        let next = from.saturating_add(found.len() as u64);
        let page = storage.headers(next, next.saturating_add(HEADERS - 1)).await?;
        // The ledger may have a hole: what is above it does not follow.
        if page.first().is_none_or(|first| first.candidate.header.height != next) {
            break;
        }
        bytes +=
            page.iter().map(|b| borsh::object_length(&b.candidate.header).unwrap_or(MAX_MESSAGE_BYTES)).sum::<usize>();
        found.extend(page.into_iter().map(|stored| (stored.candidate.header, stored.cert)));
    }
    Ok(reply_headers(from, found))
}

/// The answer to a request for a part of a snapshot; height 0 asks which there are.
pub async fn part(snapshots: Arc<Snapshots>, height: u64, from: Hash) -> message::Snapshot {
    if height == 0 {
        return message::Snapshot { heights: snapshots.offer(), height, from, chunk: None };
    }
    let state = snapshots.get(height);
    let chunk = tokio::task::spawn_blocking(move || state.map(|state| state.chunk(&from, CHUNK_BYTES)));
    // A thread that fails has no chunk either.
    let chunk = chunk.await.ok().flatten();
    message::Snapshot { heights: snapshots.heights(), height, from, chunk }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_looked_for_where_the_lag_is_large() {
        let now = Instant::now() + RETRY;
        let mut attempts = Attempts::new(Some(10_000));
        assert_eq!(attempts.due(now, 5, 10_005, None), None);
        assert_eq!(attempts.due(now, 5, 10_006, None), Some(5 + MIN_KEEP_BLOCKS));
        assert_eq!(Attempts::new(None).due(now, 5, 1_000_000, None), None);
        let mut failed = Attempts::new(Some(10_000));
        failed.retry_at = now + Duration::from_millis(1);
        assert_eq!(failed.due(now, 5, 1_000_000, None), None);
        assert!(failed.due(failed.retry_at, 5, 1_000_000, None).is_some());
        let mut stored = Attempts { over: true, ..Attempts::new(Some(10_000)) };
        assert!(stored.active() && stored.due(now, 5, 1_000_000, None).is_none());
    }

    #[test]
    fn a_snapshot_is_looked_for_where_the_next_block_is_deleted_everywhere_for_half_a_minute_without_a_break() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let deleted = |height, kept| Some(Deleted { height, kept });
        let mut attempts = Attempts::new(Some(10_000));
        assert_eq!(attempts.due(at(0), 5, 20, deleted(6, false)), None, "not at once");
        assert_eq!(attempts.due(at(29_999), 5, 20, deleted(6, false)), None);
        assert_eq!(attempts.due(at(30_000), 5, 20, deleted(6, false)), Some(5));
        assert_eq!(attempts.due(at(30_250), 5, 20, deleted(6, true)), None, "somebody came who keeps it");
        assert_eq!(attempts.due(at(30_500), 5, 20, deleted(6, false)), None);
        assert_eq!(attempts.due(at(60_499), 5, 20, deleted(6, false)), None, "from the beginning");
        assert_eq!(attempts.due(at(60_500), 6, 20, deleted(7, false)), None, "it was another block");
        assert_eq!(attempts.due(at(90_500), 6, 20, deleted(7, false)), Some(6));
        assert_eq!(Attempts::new(None).due(at(90_000), 5, 20, deleted(6, false)), None);
    }

    #[test]
    fn who_says_that_it_keeps_a_block_and_never_sends_it_holds_nobody_up_for_more_than_two_minutes() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let kept = |height| Some(Deleted { height, kept: true });
        let mut attempts = Attempts::new(Some(10_000));
        assert_eq!(attempts.due(at(0), 5, 20, kept(6)), None);
        assert_eq!(
            attempts.due(at(60_000), 5, 20, Some(Deleted { height: 6, kept: false })),
            None,
            "it went and comes back"
        );
        assert_eq!(attempts.due(at(119_999), 5, 20, kept(6)), None);
        assert_eq!(attempts.due(at(120_000), 5, 20, kept(6)), Some(5));
        assert_eq!(attempts.due(at(120_250), 6, 20, kept(7)), None, "it keeps its word");
        assert_eq!(attempts.due(at(120_500), 6, 20, None), None, "fewer say that it is deleted");
        assert_eq!(attempts.due(at(240_499), 6, 20, kept(7)), None);
    }

    #[test]
    fn answers_nobody_asked_for_are_not_let_in_and_those_asked_for_once() {
        let offers = |peer| {
            let reply = message::Snapshot { heights: vec![5], height: 0, from: Hash::ZERO, chunk: None };
            Answer::Snapshot(peer, Box::new(reply))
        };
        let asked = Asked::default();
        assert!(!asked.lets_in(&offers(1)) && !asked.lets_in(&Answer::Headers(1, Headers::default())));
        asked.lock().insert(1, Ask::Offers);
        assert!(!asked.lets_in(&offers(2)), "another peer");
        assert!(!asked.lets_in(&Answer::Headers(1, Headers::default())), "something else");
        assert!(asked.lets_in(&offers(1)));
        assert!(!asked.lets_in(&offers(1)), "once");
        assert!(!Attempts::new(Some(1)).pass(offers(1)), "nothing is fetched");
    }

    /// Attempts whose fetch ends so.
    async fn after(outcome: Result<u64, FetchError>) -> (Attempts, Result<u64, FetchError>) {
        let mut attempts = Attempts::new(Some(1));
        let end = tokio::spawn(async move { (Bars::default(), outcome) });
        attempts.running = Some(Running { answers: mpsc::channel(1).0, asked: Asked::default(), end });
        assert!(attempts.active());
        let outcome = attempts.ended().await;
        (attempts, outcome)
    }

    #[tokio::test]
    async fn s3_a_snapshot_that_is_too_old_once_it_is_proven_is_not_stored() {
        use crate::gossip::Gossip;
        use crate::metrics::Metrics;
        use crate::tests::chain::{BLOCKS, Made, chain, gossip_config, set_of, sets_of};
        let (height, metrics) = (2 * BLOCKS, Arc::new(Metrics::new().expect("unique names")));
        let chain = chain(height);
        let (stored, state) = (chain.store(0, 0).await, chain.state(height));
        let header = |made: &Made| {
            let (header, cert) = (made.candidate.header.clone(), Some(made.cert.clone()));
            FinalHeader { digest: made.digest, header, cert }
        };
        let fetched = || Fetched {
            headers: chain.blocks.iter().map(header).collect(),
            state_root: state.root(),
            results_root: Hash::ZERO,
            leaves: state.leaves().collect(),
        };
        let config = gossip_config(1, chain.identity.chain, &set_of(0), &metrics);
        let (_stop, stop) = watch::channel(false);
        let (best, told) = watch::channel(height + 1_251);
        let fetch = StateFetch {
            identity: chain.identity.clone(),
            sets: sets_of(0),
            storage: stored.storage.clone(),
            gossip: Gossip::start(config, mpsc::channel(1).0, stop).expect("a port"),
            above: 0,
            best: told,
            progress: watch::channel(None).0,
        };
        let outcome = fetch.install(fetched()).await;
        assert!(matches!(outcome, Err(FetchError::Old { height: 6, best: 1_257 })), "{outcome:?}");
        assert_eq!(stored.storage.snapshot(0).await.expect("reads"), None);
        best.send_replace(height + 1_250);
        assert_eq!(fetch.install(fetched()).await.expect("stored"), height);
        assert!(stored.storage.snapshot(0).await.expect("reads").is_some());
    }

    #[tokio::test]
    async fn after_a_failed_fetch_blocks_are_taken_and_a_minute_later_it_looks_again() {
        let (mut attempts, outcome) = after(Err(GivenUp::NoOffer.into())).await;
        assert!(matches!(outcome, Err(FetchError::GivenUp(GivenUp::NoOffer))) && !attempts.active());
        assert_eq!(attempts.due(Instant::now(), 5, 100, None), None);
        assert!(attempts.due(Instant::now() + RETRY, 5, 100, None).is_some());
        assert!(after(Ok(9)).await.0.active(), "the node starts anew");
    }

    #[tokio::test]
    async fn where_the_validators_are_others_by_now_no_snapshot_is_looked_for_again() {
        let (mut attempts, _) = after(Err(GivenUp::OtherSet.into())).await;
        assert!(!attempts.active(), "blocks are taken");
        assert_eq!(attempts.due(Instant::now() + 10 * RETRY, 5, 1_000_000, None), None);
    }

    #[tokio::test]
    async fn c21_headers_that_contradict_the_own_ledger_and_a_lost_lease_stop_the_node() {
        let of_commit = |cause| FetchError::of_commit(cause, 7);
        let contradiction = of_commit(StorageError::Corrupt("block 5 is 0x01, but the ledger has 0x02".to_owned()));
        assert_eq!(contradiction.halt(), Some(Halt::ContradictingCerts { slot: 7 }));
        let fenced = of_commit(StorageError::Fenced { ours: 1, found: 2 });
        assert_eq!(fenced.halt(), Some(Halt::Fenced));
        for cause in [contradiction, fenced] {
            let (mut attempts, _) = after(Err(cause)).await;
            assert!(
                attempts.active() && attempts.due(Instant::now() + RETRY, 5, 100, None).is_none(),
                "no other attempt"
            );
        }
        assert_eq!(of_commit(StorageError::Foreign("gone".to_owned())).halt(), None);
        assert_eq!(FetchError::from(GivenUp::NoOffer).halt(), None);
    }

    #[test]
    fn all_leaves_are_in_parts_once() {
        use aitbc_core::key::Address;
        use aitbc_core::state::Account;
        let address = |i: u32| Address(aitbc_core::hash::plain(&i.to_le_bytes()).0[..20].try_into().expect("20 bytes"));
        for accounts in [0, 1, PART_LEAVES as u32, PART_LEAVES as u32 + 1] {
            let state = State::from_accounts((0..accounts).map(|i| (address(i), Account { balance: 1, nonce: 0 })));
            let parts = parts(&state);
            assert_eq!(parts.len(), (accounts as usize).div_ceil(PART_LEAVES).max(1));
            let leaves = parts.iter().flat_map(|part| codec::decode::<Vec<ProvenLeaf>>(part).expect("decodes"));
            assert_eq!(State::from_leaves(leaves), state);
        }
    }
}
