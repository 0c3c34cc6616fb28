//! Block sync: fetches final blocks a peer has and we lack, checks, executes and stores them (protocol.md S1, S4).

use crate::executor::{Command, SyncedBlock};
use crate::gossip::GossipHandle;
use crate::metrics::Metrics;
use crate::storage::{BatchWrite, Storage, StorageError, StoredBlock};
use crate::view::{Identity, Snapshot};
use aitbc_core::block::{Block, Candidate};
use aitbc_core::consensus::input::Input;
use aitbc_core::consensus::output::Halt;
use aitbc_core::consensus::verify::Ed25519;
use aitbc_core::key::Signature;
use aitbc_core::message::Message;
use aitbc_core::sync::{Answer, FinalBlock, Planner, reply_len, reply_range, verify_blocks};
use aitbc_core::validators::Index;
use aitbc_core::vote::Cert;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

/// Events waiting for the task.
pub const QUEUE: usize = 256;
/// Bytes of batches in an answer: a message holds 4 MiB.
const ANSWER_BYTES: usize = 3 << 20;
/// Requests of peers answered at once.
const ANSWERING: usize = 4;
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
    /// A peer sent blocks.
    Reply {
        /// Who.
        peer: Index,
        /// The blocks.
        blocks: Vec<Block>,
        /// Final certificate of the last one.
        cert: Option<Cert>,
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

/// What the task works with.
pub struct Sync {
    /// Fixed facts.
    pub identity: Arc<Identity>,
    /// Own end of the chain.
    pub chain: watch::Receiver<Arc<Snapshot>>,
    /// For answers, and to store what came.
    pub storage: Arc<dyn Storage>,
    /// Channels to peers.
    pub gossip: GossipHandle,
    /// Heights of peers, for readiness.
    pub heights: Arc<Heights>,
    /// Executes what came.
    pub executor: mpsc::Sender<Command>,
    /// Told where to go on.
    pub core: mpsc::Sender<Input>,
    /// Told when the own execution disagrees with certified blocks.
    pub halted: watch::Sender<Option<Halt>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Why blocks that came were not taken.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    /// They are wrong; the peer is to blame.
    #[error(transparent)]
    Blocks(#[from] aitbc_core::sync::SyncError),
    /// They contradict the own execution.
    #[error(transparent)]
    Roots(#[from] crate::executor::RootsDiffer),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl Sync {
    /// Serves events until the channel closes.
    pub async fn run(self, mut events: mpsc::Receiver<SyncEvent>) {
        let started = Instant::now();
        let mut planner = Planner::new();
        let verifier = Ed25519::new(&self.identity.set);
        let answering = Arc::new(Semaphore::new(ANSWERING));
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.on_event(event, &mut planner, &answering),
                    None => return,
                },
                _ = look.tick() => {}
            }
            while let Some(answer) = planner.take(self.own_height()) {
                let peer = answer.peer;
                match self.take(answer, &verifier).await {
                    Ok(()) => {}
                    Err(cause @ TakeError::Blocks(_)) => {
                        warn!(%cause, peer, "blocks from a peer do not verify");
                        planner.on_wrong(started.elapsed().as_millis() as u64, peer);
                    }
                    Err(TakeError::Stopping) => return,
                    Err(TakeError::Roots(cause)) => {
                        error!(%cause, "the own state diverged (C21)");
                        let digest = self.chain.borrow().head.hash;
                        self.halted.send_replace(Some(Halt::Diverged { height: cause.height, digest }));
                        return;
                    }
                    Err(cause) => {
                        error!(%cause, "blocks could not be taken");
                        break;
                    }
                }
            }
            for request in planner.next(started.elapsed().as_millis() as u64, self.own_height()) {
                debug!(peer = request.peer, from = request.from, count = request.count, "asking for blocks");
                // A peer that left is told by `Disconnected`, and another one asked.
                let _ =
                    self.gossip.send(request.peer, &Message::BlocksReq { from: request.from, count: request.count });
            }
        }
    }

    fn own_height(&self) -> u64 {
        self.chain.borrow().head.height
    }

    fn on_event(&self, event: SyncEvent, planner: &mut Planner, answering: &Arc<Semaphore>) {
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
            SyncEvent::Reply { peer, blocks, cert } => planner.on_blocks(peer, blocks, cert),
            SyncEvent::Request { peer, from, count } => self.answer(peer, from, count, answering),
        }
    }

    /// Reads beside this task; a peer that asks for more than can be read at once asks again after its time-out.
    fn answer(&self, peer: Index, from: u64, count: u32, answering: &Arc<Semaphore>) {
        let Ok(permit) = answering.clone().try_acquire_owned() else {
            self.metrics.network_dropped.with_label_values(&["blocks_req"]).inc();
            return;
        };
        let (storage, gossip) = (self.storage.clone(), self.gossip.clone());
        tokio::spawn(async move {
            let (from, to, read_to) = reply_range(from, count);
            match storage.blocks(from, read_to, ANSWER_BYTES).await {
                Ok(found) => {
                    if let Err(cause) = gossip.send(peer, &blocks_message(found, to)) {
                        debug!(%cause, peer, "blocks not sent");
                    }
                }
                Err(cause) => warn!(%cause, from, "blocks asked for could not be read"),
            }
            drop(permit);
        });
    }

    /// Verified, durable as batches, executed, then told to the core.
    async fn take(&self, answer: Answer, verifier: &Ed25519) -> Result<(), TakeError> {
        let tip = crate::executor::tip(&self.chain.borrow().head);
        let Identity { chain, set, .. } = &*self.identity;
        let blocks = verify_blocks(verifier, chain, set, &tip, answer.blocks, &answer.cert)?;
        let (first, count) = (tip.height + 1, blocks.len());
        let batch = |b: &aitbc_core::batch::VerifiedBatch| BatchWrite { digest: b.digest, batch: b.batch.clone() };
        let batches: Vec<BatchWrite> = blocks.iter().flat_map(|block| block.batches.iter().map(batch)).collect();
        let included = batches.iter().map(|b| (b.digest, b.batch.expiry_height)).collect();
        if !batches.is_empty() {
            self.storage.commit_batches(batches).await?;
        }
        let (reply, done) = oneshot::channel();
        let blocks = blocks.into_iter().map(synced).collect();
        let command = Command::Sync { blocks, cert: answer.cert.clone(), reply };
        self.executor.send(command).await.map_err(|_| TakeError::Stopping)?;
        let tip = done.await.map_err(|_| TakeError::Stopping)??;
        info!(first, count, height = tip.height, "blocks fetched");
        let input = Input::Synced { tip, cert: answer.cert, included };
        self.core.send(input).await.map_err(|_| TakeError::Stopping)
    }
}

/// The reply with those of the blocks found that [`reply_len`] says.
fn blocks_message(mut found: Vec<(StoredBlock, Block)>, to: u64) -> Message {
    let certified = |(stored, block): &(StoredBlock, Block)| (block.header.height, stored.cert.is_some());
    found.truncate(reply_len(&found.iter().map(certified).collect::<Vec<_>>(), to));
    let cert = found.last().and_then(|(stored, _)| stored.cert.clone());
    Message::Blocks { blocks: found.into_iter().map(|(_, block)| block).collect(), cert }
}

fn synced(block: FinalBlock) -> SyncedBlock {
    let candidate = Candidate { header: block.header, signature: Signature([0; 64]) };
    SyncedBlock { digest: block.digest, candidate, batches: block.batches }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aitbc_core::block::Header;
    use aitbc_core::hash::Hash;
    use aitbc_core::vote::{Kind, Statement};

    /// A block, with a certificate of its own or covered by a later one only.
    fn block(height: u64, certified: bool) -> (StoredBlock, Block) {
        let header = Header {
            version: 1,
            epoch: 0,
            slot: height,
            height,
            parent_slot: height - 1,
            parent: Hash::ZERO,
            parent_state_root: Hash::ZERO,
            parent_results_root: Hash::ZERO,
            time_ms: height,
            proposer: 0,
            set_hash: Hash::ZERO,
            next_set_hash: Hash::ZERO,
            batches: Vec::new(),
            evidence: Vec::new(),
        };
        let statement = Statement { epoch: 0, slot: height, kind: Kind::Final, digest: Hash::ZERO };
        let cert = certified.then(|| Cert { statement, signers: Vec::new(), signatures: Vec::new() });
        let candidate = Candidate { header: header.clone(), signature: Signature([0; 64]) };
        (StoredBlock { digest: Hash::ZERO, candidate, cert }, Block { header, batches: Vec::new() })
    }

    /// Heights of the reply where blocks 5 to 9 are there and those in `certified` have a certificate.
    fn reply(certified: &[u64], to: u64) -> Vec<u64> {
        let found = (5..=9).map(|height| block(height, certified.contains(&height))).collect();
        let Message::Blocks { blocks, cert } = blocks_message(found, to) else { unreachable!("a Blocks message") };
        assert_eq!(cert.is_some(), !blocks.is_empty());
        blocks.iter().map(|block| block.header.height).collect()
    }

    #[test]
    fn a_reply_ends_at_the_last_block_asked_for_that_has_a_certificate() {
        assert_eq!(reply(&[5, 6, 7, 8, 9], 7), [5, 6, 7]);
        assert_eq!(reply(&[6, 9], 8), [5, 6]);
    }

    #[test]
    fn a_gap_of_blocks_without_certificates_is_closed_by_a_later_one() {
        assert_eq!(reply(&[7, 8], 5), [5, 6, 7]);
        assert_eq!(reply(&[], 5), [0; 0]);
    }
}
