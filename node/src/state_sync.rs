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
use aitbc_core::hash::Hash;
use aitbc_core::key::Signature;
use aitbc_core::message::{self, Headers, MAX_HEADERS, MAX_MESSAGE_BYTES};
use aitbc_core::params::MIN_KEEP_BLOCKS;
use aitbc_core::state::chunk::CHUNK_BYTES;
use aitbc_core::state::{ProvenLeaf, State};
use aitbc_core::state_sync::{Fetched, FinalHeader, GivenUp, Progress, StateSync};
use aitbc_core::sync::reply_headers;
use aitbc_core::validators::Index;
use aitbc_core::vote::Cert;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

/// Events waiting for the task: no more answers than a few MiB each are asked for at once, and what was not asked for must
/// not fill the memory.
const QUEUE: usize = 32;
/// Pause between two looks at time-outs.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Pause between two log lines about progress.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Pause after a failed fetch; blocks are fetched meanwhile.
const RETRY: Duration = Duration::from_secs(60);
/// Headers read at once.
const HEADERS: u64 = 256;
/// Leaves of a part as it is stored: about half a MiB of accounts.
const PART_LEAVES: usize = 16_384;

/// What concerns a fetch.
#[derive(Debug)]
pub enum FetchEvent {
    /// A channel is up.
    Connected(Index),
    /// A channel is gone.
    Disconnected(Index),
    /// A peer sent headers.
    Headers(Index, Headers),
    /// A peer sent a part of a snapshot, or says which ones it has.
    Snapshot(Index, Box<message::Snapshot>),
}

/// A fetch under way.
struct Running {
    events: mpsc::Sender<FetchEvent>,
    end: JoinHandle<Result<u64, FetchError>>,
}

/// When a snapshot is fetched, and the fetch under way.
pub struct Attempts {
    lag: Option<u64>,
    running: Option<Running>,
    retry_at: Instant,
    stored: bool,
}

impl Attempts {
    /// `lag`: blocks behind the others from which on a snapshot is fetched; `None`: never.
    pub fn new(lag: Option<u64>) -> Attempts {
        Attempts { lag, running: None, retry_at: Instant::now(), stored: false }
    }

    /// True while one is being fetched, or is stored and waits for the node to start anew.
    pub fn active(&self) -> bool {
        self.running.is_some() || self.stored
    }

    /// Whether to begin one, by the own height, that of the others, and whether none of them has the next block: the height
    /// above which a snapshot is worth it.
    pub fn due(&self, own: u64, best: u64, out_of_reach: bool) -> Option<u64> {
        let lag = self.lag.filter(|_| !self.active() && Instant::now() >= self.retry_at)?;
        match best > own.saturating_add(lag) {
            true => Some(own.saturating_add(MIN_KEEP_BLOCKS)),
            false => out_of_reach.then_some(own),
        }
    }

    /// Begins.
    pub fn begin(&mut self, fetch: StateFetch) {
        info!(above = fetch.above, "too far behind to take all blocks: looking for a snapshot");
        let (events, receiver) = mpsc::channel(QUEUE);
        self.running = Some(Running { events, end: tokio::spawn(fetch.run(receiver)) });
    }

    /// Tells the fetch, if there is one. False where it has too much to do.
    pub fn pass(&self, event: FetchEvent) -> bool {
        // One that has just ended takes no more, which is no loss.
        let full = |fetch: &Running| matches!(fetch.events.try_send(event), Err(mpsc::error::TrySendError::Full(_)));
        !self.running.as_ref().is_some_and(full)
    }

    /// Waits for the end of the fetch; gives the height of the snapshot that is stored now. May be cancelled at any time.
    pub async fn ended(&mut self) -> Option<u64> {
        let Some(fetch) = &mut self.running else { return std::future::pending().await };
        let outcome = (&mut fetch.end).await.unwrap_or_else(|cause| Err(cause.into()));
        self.running = None;
        self.retry_at = Instant::now() + RETRY;
        match outcome {
            Ok(height) => {
                self.stored = true;
                Some(height)
            }
            Err(cause) => {
                warn!(%cause, retry_seconds = RETRY.as_secs(), "no snapshot: taking blocks meanwhile");
                None
            }
        }
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
    Storage(#[from] StorageError),
    /// The chunks, each of which was verified, do not make the state.
    #[error("the fetched leaves have root {found}, the header above says {expected}")]
    Root {
        /// By the final header above.
        expected: Hash,
        /// Of all leaves.
        found: Hash,
    },
    /// A thread ended.
    #[error("a thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What a fetch works with.
pub struct StateFetch {
    /// Fixed facts.
    pub identity: Arc<Identity>,
    /// Where it goes.
    pub storage: Arc<dyn Storage>,
    /// Channels to peers.
    pub gossip: GossipHandle,
    /// A snapshot at or below this height is of no use.
    pub above: u64,
    /// For readers.
    pub progress: watch::Sender<Option<Progress>>,
}

impl StateFetch {
    /// Fetches and stores; gives the height from which the next start of the node goes on.
    ///
    /// # Errors
    /// Where nothing was stored, or nobody knows whether it was; another attempt may follow.
    pub async fn run(self, mut events: mpsc::Receiver<FetchEvent>) -> Result<u64, FetchError> {
        let started = Instant::now();
        let now = || started.elapsed().as_millis() as u64;
        let mut plan = StateSync::new(self.identity.chain, self.identity.set.clone(), self.above, now());
        self.gossip.connected().into_iter().for_each(|peer| plan.on_connected(peer));
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut told = Instant::now();
        let fetched = loop {
            for (peer, ask) in plan.next(now())? {
                debug!(peer, ?ask, "asking for a part of a snapshot");
                // A peer that left is told by `Disconnected`, and another one asked.
                let _ = self.gossip.send(peer, &ask.message());
            }
            self.tell(&plan, &mut told);
            tokio::select! {
                event = events.recv() => self.on_event(now(), event.ok_or(FetchError::Stopping)?, &mut plan).await?,
                _ = look.tick() => {}
            }
            if let Some(fetched) = plan.take() {
                break fetched;
            }
        };
        self.tell(&plan, &mut told);
        let (height, leaves) = (fetched.height(), fetched.leaves.len());
        info!(height, leaves, seconds = started.elapsed().as_secs_f64(), "a snapshot is here and proven: storing it");
        self.install(fetched).await?;
        info!(height, seconds = started.elapsed().as_secs_f64(), "the snapshot is stored");
        Ok(height)
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

    async fn on_event(&self, now: u64, event: FetchEvent, plan: &mut StateSync) -> Result<(), FetchError> {
        match event {
            FetchEvent::Connected(peer) => plan.on_connected(peer),
            FetchEvent::Disconnected(peer) => plan.on_disconnected(peer),
            FetchEvent::Headers(peer, headers) => {
                if let Err(cause) = plan.on_headers(now, peer, headers) {
                    warn!(%cause, peer, "headers from a peer do not verify: it is asked no more");
                }
            }
            FetchEvent::Snapshot(peer, reply) => {
                let message::Snapshot { heights, height, from, chunk } = *reply;
                let Some(chunk) = chunk else {
                    plan.on_offers(now, peer, heights);
                    return Ok(());
                };
                let Some((root, from)) = plan.expected(peer, height, &from) else { return Ok(()) };
                let verdict = tokio::task::spawn_blocking(move || chunk.verify(&root, &from)).await?;
                if let Err(cause) = &verdict {
                    warn!(%cause, peer, "a part of a snapshot does not verify: its sender is asked no more");
                }
                plan.on_chunk(now, peer, verdict.ok());
            }
        }
        Ok(())
    }

    /// One commit, after the whole root was compared (S3).
    async fn install(&self, fetched: Fetched) -> Result<(), FetchError> {
        let height = fetched.height();
        let Fetched { headers, state_root, results_root, leaves } = fetched;
        let (found, parts) = tokio::task::spawn_blocking(move || {
            let state = State::from_leaves(leaves);
            (state.root(), parts(&state))
        })
        .await?;
        if found != state_root {
            return Err(FetchError::Root { expected: state_root, found });
        }
        // The leader's signature is not part of fetched headers and not needed: a certificate covers them.
        let write = |FinalHeader { digest, header, cert }| BlockWrite {
            digest,
            candidate: Candidate { header, signature: Signature([0; 64]) },
            cert,
        };
        let headers = headers.into_iter().map(write).collect();
        let snapshot = StoredSnapshot { height, state_root, results_root, parts };
        Ok(self.storage.commit_snapshot(headers, snapshot).await?)
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

/// The answer to a request for headers: as far as a certificate at or above the last one that was asked for, if that fits.
///
/// # Errors
/// Where they cannot be read.
pub async fn headers(storage: &dyn Storage, from: u64, count: u32) -> storage::Result<Headers> {
    let most = MAX_HEADERS.min(usize::try_from(count).unwrap_or(MAX_HEADERS).max(1));
    let (mut found, mut bytes): (Vec<(Header, Option<Cert>)>, usize) = (Vec::new(), 0);
    let enough = |found: &[(Header, Option<Cert>)]| found.iter().skip(most - 1).any(|(_, cert)| cert.is_some());
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

/// The answer to a request for a part of a snapshot.
pub async fn part(snapshots: Arc<Snapshots>, height: u64, from: Hash) -> message::Snapshot {
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
    fn a_snapshot_is_looked_for_where_the_lag_is_large_or_no_peer_has_the_next_block() {
        let attempts = Attempts::new(Some(10_000));
        assert_eq!(attempts.due(5, 10_005, false), None);
        assert_eq!(attempts.due(5, 10_006, false), Some(5 + MIN_KEEP_BLOCKS));
        assert_eq!(attempts.due(5, 20, true), Some(5));
        assert_eq!(Attempts::new(None).due(5, 1_000_000, true), None);
        let mut failed = Attempts::new(Some(10_000));
        failed.retry_at = Instant::now() + RETRY;
        assert_eq!(failed.due(5, 1_000_000, true), None);
        let stored = Attempts { stored: true, ..Attempts::new(Some(10_000)) };
        assert!(stored.active() && stored.due(5, 1_000_000, false).is_none());
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
