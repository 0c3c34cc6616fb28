//! Block sync: which final blocks to ask of whom, and what proves the answer (protocol.md S1). Pure; times come in.
//!
//! A validator that was away asks peers for ranges of heights, at most [`MAX_IN_FLIGHT`] at once and one of each peer.
//! Answers may come in any order and shorter than asked; they wait until they continue the own chain. What is missing is
//! asked again: of another peer when one is slow, sends something wrong, has deleted it, or goes away.
//!
//! ```text
//! status ─→ peers ─→ next() ─→ BlocksReq ─→ reply()        Blocks ─→ on_blocks() ─→ take() ─→ verify_blocks() ─→ execute
//!                      ↑ time-outs                                             └─ wrong: on_wrong() ─→ asked elsewhere
//! ```
//! Verified blocks need not be executed before the next ones are asked for and verified: "own height" here is that of the
//! last verified block, [`Anchor`].

use crate::batch::{Batch, BatchError, VerifiedBatch};
use crate::block::{Block, Header};
use crate::consensus::verify::Verify;
use crate::epoch::{Epochs, Sets};
use crate::hash::Hash;
use crate::light::{self, Anchor, LinkError, names};
use crate::message::{Blocks, Headers, MAX_BLOCKS, MAX_HEADERS, MAX_MESSAGE_BYTES};
use crate::validators::{Index, ValidatorSet};
use crate::vote::{Cert, CertError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Requests under way at once.
pub const MAX_IN_FLIGHT: usize = 4;
/// Answers that wait for an earlier one: bounds memory to this many messages, and the one that continues the own chain.
pub const MAX_WAITING: usize = 8;
/// Blocks asked for at once; the answer may be shorter, as a message holds 4 MiB.
pub const REQUEST_BLOCKS: u64 = MAX_BLOCKS as u64;
/// After how long another peer is asked, in milliseconds. A late answer is still taken.
pub const TIMEOUT_MS: u64 = 2_000;
/// Doublings of the time-out until a peer that owes an answer is asked again: at most 32 s.
const MAX_PATIENCE: u32 = 4;
/// How long a peer that sent something wrong is not asked, in milliseconds.
pub const PENALTY_MS: u64 = 10_000;
/// Consensus itself fetches what is up to this many heights away; sync helps beyond, or when the height stands still.
pub const LAG: u64 = 4;
/// How long the own height may stand still below a peer's before sync helps, in milliseconds.
pub const STALL_MS: u64 = 1_000;
/// How long the own height must stand still before the next block is out of reach, in milliseconds: the same range was asked
/// of two peers in vain by then.
pub const OUT_OF_REACH_MS: u64 = 2 * TIMEOUT_MS;
/// Room in a reply for its lengths and the largest certificate.
const REPLY_BYTES: usize = 8 << 10;

/// Blocks to ask of a peer: a [`BlocksReq`](crate::message::Message::BlocksReq).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whom.
    pub peer: Index,
    /// First height.
    pub from: u64,
    /// Most blocks wanted.
    pub count: u32,
}

/// Blocks that continue the own chain, not verified yet.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who sent them.
    pub peer: Index,
    /// Consecutive, the first one above the own height.
    pub blocks: Vec<Block>,
    /// Headers of the blocks after them, up to the certified one.
    pub headers: Vec<Header>,
    /// Final certificate of the last header.
    pub cert: Cert,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    height: u64,
    /// Least height whose batches it keeps, by its last answer; `None`: it has not answered.
    lowest: Option<u64>,
    connected: bool,
    /// What it was asked and has not answered: first height and count.
    asked: Option<(u64, u64)>,
    /// Until when nobody else is asked the same; `None`: it took too long, or nothing is asked.
    alone_until: Option<u64>,
    /// Until when it is not asked again while it owes an answer: a slow channel would only get slower.
    patience_until: u64,
    /// Failures since its last good answer: others are asked first.
    failures: u32,
    barred_until: u64,
    turn: u64,
}

/// Keeps track of peers, requests and answers.
#[derive(Clone, Debug)]
pub struct Planner {
    epochs: Epochs,
    peers: BTreeMap<Index, Peer>,
    /// Answers that do not continue the own chain yet, by first height.
    waiting: BTreeMap<u64, Answer>,
    own: u64,
    /// When the own height was first seen as it is.
    own_since: Option<u64>,
    turns: u64,
    /// Blocks above this height are of no use (V1); `None`: all are.
    last: Option<u64>,
}

impl Planner {
    /// A planner that knows no peers.
    pub fn new(epochs: Epochs) -> Planner {
        let (peers, waiting) = (BTreeMap::new(), BTreeMap::new());
        Planner { epochs, peers, waiting, own: 0, own_since: None, turns: 0, last: None }
    }

    /// A peer told its height.
    pub fn on_status(&mut self, peer: Index, height: u64) {
        let peer = self.peers.entry(peer).or_default();
        (peer.height, peer.connected) = (height, true);
    }

    /// The channel to a peer is gone: what it was asked is asked elsewhere.
    pub fn on_disconnected(&mut self, peer: Index) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            (peer.connected, peer.alone_until, peer.asked, peer.lowest) = (false, None, None, None);
        }
    }

    /// A peer answered. What was not asked of it, or came already, is dropped.
    pub fn on_blocks(&mut self, peer: Index, reply: Blocks) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some((from, _)) = state.asked else { return };
        let Blocks { blocks, headers, cert, lowest } = reply;
        state.lowest = Some(lowest);
        let Some(first) = blocks.first().map(|block| block.header.height) else {
            (state.asked, state.alone_until) = (None, None);
            // It has deleted them, which is no failure, or has less than its status said; the next status may say more.
            if lowest <= from {
                state.height = state.height.min(from - 1);
                state.failures += 1;
            }
            return;
        };
        // The answer to something it was asked before: the one it owes is still to come.
        if first != from {
            return;
        }
        (state.asked, state.alone_until) = (None, None);
        match cert {
            Some(cert) if blocks.len() <= MAX_BLOCKS => {
                let (next, room) = (self.own + 1, self.waiting.len() < MAX_WAITING);
                let awaited = first <= next && self.waiting.range(..=next).next().is_none();
                if first + blocks.len() as u64 > next && (room || awaited) {
                    self.waiting.entry(from).or_insert(Answer { peer, blocks, headers, cert });
                }
            }
            _ => state.failures += 1,
        }
    }

    /// **V1** The greatest height of use to this program, where an upgrade that it does not speak is scheduled: nothing above is
    /// asked for.
    pub fn end_at(&mut self, last: Option<u64>) {
        self.last = last;
    }

    /// What to ask now. `own` is the height of the last verified block; call it after each change and each second.
    pub fn next(&mut self, now_ms: u64, own: u64) -> Vec<Request> {
        self.move_to(now_ms, own);
        let last = self.last.unwrap_or(u64::MAX);
        let best = self.peers.values().filter(|p| p.connected).map(|p| p.height).max().unwrap_or(0).min(last);
        let stalled = self.own_since.is_some_and(|since| now_ms.saturating_sub(since) >= STALL_MS);
        let started = !self.waiting.is_empty() || self.in_flight().count() > 0;
        if best <= own || (best <= own + LAG && !stalled && !started) {
            return Vec::new();
        }
        let mut requests = Vec::new();
        while self.in_flight().count() < MAX_IN_FLIGHT {
            let (from, count) = self.first_gap();
            if from > last {
                break;
            }
            let room = self.in_flight().count() + self.waiting.len() < MAX_WAITING;
            // What all others wait for is asked always.
            if !room && from > own + 1 {
                break;
            }
            let Some(peer) = self.choose(now_ms, from) else { break };
            self.turns += 1;
            let Some(state) = self.peers.get_mut(&peer) else { break };
            let count = count.min(state.height.min(last) - from + 1);
            (state.asked, state.alone_until) = (Some((from, count)), Some(now_ms + TIMEOUT_MS));
            // A time-out counts as a failure, so this doubles with each one in a row.
            state.patience_until = now_ms + (TIMEOUT_MS << (state.failures + 1).min(MAX_PATIENCE));
            state.turn = self.turns;
            requests.push(Request { peer, from, count: u32::try_from(count).unwrap_or(u32::MAX) });
        }
        requests
    }

    /// The answer that continues the own chain, if it is here: verify it, then execute it or call [`Self::on_wrong`].
    pub fn take(&mut self, own: u64) -> Option<Answer> {
        loop {
            let entry = self.waiting.first_entry()?;
            if *entry.key() > own + 1 {
                return None;
            }
            let mut answer = entry.remove();
            // Consensus went on meanwhile, or an earlier answer reached into this one.
            answer.blocks.retain(|block| block.header.height > own);
            if !answer.blocks.is_empty() {
                if let Some(peer) = self.peers.get_mut(&answer.peer) {
                    peer.failures = 0;
                }
                return Some(answer);
            }
        }
    }

    /// A peer's answer did not verify: others are asked first for a while. It is never banned, it may be needed.
    pub fn on_wrong(&mut self, now_ms: u64, peer: Index) {
        self.waiting.retain(|_, answer| answer.peer != peer);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.failures += 1;
            peer.barred_until = now_ms + PENALTY_MS;
        }
    }

    /// Where peers that are ahead have deleted the block after the own one, no block comes, and those that say they keep it
    /// are no heavier than the faulty: the least height that one of the former keeps. `index_of` a peer is that in the set.
    pub fn out_of_reach(
        &self,
        now_ms: u64,
        set: &ValidatorSet,
        index_of: impl Fn(Index) -> Option<Index>,
    ) -> Option<u64> {
        let [keep, deleted] = self.answered();
        let stands = self.own_since.is_some_and(|since| now_ms.saturating_sub(since) >= OUT_OF_REACH_MS);
        // Of more weight than that one is honest, and sends the block.
        let kept = keep.iter().filter_map(|(peer, _)| index_of(*peer)).map(|index| set.weight(index)).sum::<u64>();
        let lies = kept <= set.faulty_weight();
        deleted.into_iter().map(|(_, lowest)| lowest).min().filter(|_| stands && lies)
    }

    /// The next block, where peers heavier than the faulty have deleted it: nobody gives up blocks by the word of the faulty
    /// alone. `index_of` a peer is that in the set.
    pub fn deleted(&self, set: &ValidatorSet, index_of: impl Fn(Index) -> Option<Index>) -> Option<Deleted> {
        let [keep, deleted] = self.answered();
        let members = deleted.iter().filter_map(|(peer, _)| index_of(*peer));
        let weight: u64 = members.map(|index| set.weight(index)).sum();
        (weight > set.faulty_weight()).then_some(Deleted { height: self.own + 1, kept: !keep.is_empty() })
    }

    /// Peers that are ahead and have said whether they keep the block after the own one, with the least height they keep: those
    /// that do, and those that do not.
    fn answered(&self) -> [Vec<(Index, u64)>; 2] {
        let next = self.own + 1;
        let of_use = self.last.is_none_or(|last| next <= last);
        let ahead = self.peers.iter().filter(|(_, peer)| of_use && peer.connected && peer.height >= next);
        let answered = ahead.filter_map(|(index, peer)| Some((*index, peer.lowest?)));
        answered.partition(|(_, lowest)| *lowest <= next).into()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> impl Iterator<Item = Request> + '_ {
        self.peers.iter().filter_map(|(index, peer)| {
            let (from, count) = peer.asked.filter(|_| peer.alone_until.is_some())?;
            Some(Request { peer: *index, from, count: u32::try_from(count).unwrap_or(u32::MAX) })
        })
    }

    fn move_to(&mut self, now_ms: u64, own: u64) {
        if own != self.own || self.own_since.is_none() {
            (self.own, self.own_since) = (own, Some(now_ms));
        }
        for peer in self.peers.values_mut() {
            if peer.alone_until.is_some_and(|until| until <= now_ms) {
                peer.alone_until = None;
                peer.failures += 1;
            }
        }
    }

    /// The first heights above the own that are neither asked for nor waiting. They end with their epoch, as every answer does: what
    /// is asked of others at the same time then begins where this one ends, however short epochs are.
    fn first_gap(&self) -> (u64, u64) {
        let waiting = self.waiting.iter().map(|(from, answer)| (*from, answer.blocks.len() as u64));
        let asked = self.in_flight().map(|request| (request.from, u64::from(request.count)));
        let mut taken: Vec<(u64, u64)> = waiting.chain(asked).collect();
        taken.sort_unstable();
        let of_epoch = |at: u64| self.epochs.last(self.epochs.of(at)).saturating_sub(at).saturating_add(1);
        let mut at = self.own + 1;
        for (from, count) in taken {
            if from > at {
                return (at, REQUEST_BLOCKS.min(from - at).min(of_epoch(at)));
            }
            at = at.max(from + count);
        }
        (at, REQUEST_BLOCKS.min(of_epoch(at)))
    }

    /// Of the idle peers that have `from`: the one with the fewest failures, of equals the one not asked for longest.
    fn choose(&self, now_ms: u64, from: u64) -> Option<Index> {
        let idle = |p: &Peer| p.asked.is_none() || (p.alone_until.is_none() && p.patience_until <= now_ms);
        let has = |p: &Peer| (p.lowest.unwrap_or(0)..=p.height).contains(&from);
        let able = |p: &Peer| p.connected && has(p) && p.barred_until <= now_ms && idle(p);
        let able = self.peers.iter().filter(|(_, peer)| able(peer));
        able.min_by_key(|(_, peer)| (peer.failures, peer.turn)).map(|(index, _)| *index)
    }
}

/// A block that peers heavier than the faulty have deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Its height.
    pub height: u64,
    /// A connected peer says that it keeps it, which one that delivers nothing can say for ever.
    pub kept: bool,
}

/// The greatest height that validators heavier than all faulty ones together have reached by their own word, so that at
/// least one honest one has: what "caught up" is measured against. Give the own height too.
pub fn credible_height(set: &ValidatorSet, heights: impl IntoIterator<Item = (Index, u64)>) -> u64 {
    let mut heights: Vec<(u64, Index)> = heights.into_iter().map(|(index, height)| (height, index)).collect();
    heights.sort_unstable();
    let mut weight = 0;
    for (height, index) in heights.into_iter().rev() {
        weight += set.weight(index);
        if weight > set.faulty_weight() {
            return height;
        }
    }
    0
}

/// The answer to a request: of the blocks found from the asked height on, each with its Final certificate if it has one
/// of its own, as many as one message holds and a certificate proves. It ends at the last certified one, because the
/// asker keeps that certificate and proves the blocks to others with it. Where none is certified, `after`, the headers of
/// the blocks above, lead to the first one that is. Empty where not even that proves the first block: it is newer than
/// any certificate, or more headers lead to one than fit.
pub fn reply(found: Vec<(Block, Option<Cert>)>, after: Vec<(Header, Option<Cert>)>, lowest: u64) -> Blocks {
    let (found, after) = within_epoch(found, after);
    let sizes = Sizes::of(&found, &after);
    let cut = (1..=found.len()).rev().find_map(|most| sizes.cut(most));
    let Some((bodies, end)) = cut else { return Blocks { lowest, ..Blocks::default() } };
    let mut blocks: Vec<Block> = Vec::with_capacity(bodies);
    let (mut headers, mut cert) = (Vec::new(), None);
    for (index, (block, own)) in found.into_iter().enumerate().take(end + 1) {
        cert = own;
        if index < bodies { blocks.push(block) } else { headers.push(block.header) }
    }
    for (header, own) in after.into_iter().take((end + 1).saturating_sub(blocks.len() + headers.len())) {
        cert = own;
        headers.push(header);
    }
    Blocks { blocks, headers, cert, lowest }
}

/// What is of the epoch of the first block: the next one's validators are strange to who asks for it (E1).
#[expect(clippy::type_complexity, reason = "what a reply is made of, in and out")]
fn within_epoch(
    mut found: Vec<(Block, Option<Cert>)>,
    mut after: Vec<(Header, Option<Cert>)>,
) -> (Vec<(Block, Option<Cert>)>, Vec<(Header, Option<Cert>)>) {
    let Some(epoch) = found.first().map(|(block, _)| block.header.epoch) else { return (found, after) };
    found.retain(|(block, _)| block.header.epoch == epoch);
    after.retain(|(header, _)| header.epoch == epoch);
    (found, after)
}

/// Encoded sizes of what a reply may hold, as running sums: each block and header is measured once, however many cuts are tried.
struct Sizes {
    /// Bytes of the first 0, 1, … blocks.
    blocks: Vec<usize>,
    /// Bytes of the first 0, 1, … headers: of the blocks and of those above.
    headers: Vec<usize>,
    /// Which of these headers are certified.
    certified: Vec<bool>,
}

impl Sizes {
    fn of(found: &[(Block, Option<Cert>)], after: &[(Header, Option<Cert>)]) -> Sizes {
        let all = || found.iter().map(|(block, cert)| (&block.header, cert)).chain(after.iter().map(|(h, c)| (h, c)));
        Sizes {
            blocks: running_sums(found.iter().map(|(block, _)| borsh::object_length(block))),
            headers: running_sums(all().map(|(header, _)| borsh::object_length(header))),
            certified: all().map(|(_, cert)| cert.is_some()).collect(),
        }
    }

    /// Whether at most the first `most` blocks can be sent: how many, and the position of the certified header.
    fn cut(&self, most: usize) -> Option<(usize, usize)> {
        let (below, above) = self.certified.split_at_checked(most)?;
        let (bodies, end) = match below.iter().rposition(|certified| *certified) {
            Some(last) => (last + 1, last),
            None => (most, most + above.iter().take(MAX_HEADERS).position(|certified| *certified)?),
        };
        let headers = self.headers.get(end + 1)?.saturating_sub(*self.headers.get(bodies)?);
        let bytes = self.blocks.get(bodies)?.saturating_add(headers);
        (bytes <= MAX_MESSAGE_BYTES - REPLY_BYTES).then_some((bodies, end))
    }
}

/// Of the first 0, 1, … sizes; one that cannot be told counts as a whole message.
fn running_sums(sizes: impl Iterator<Item = std::io::Result<usize>>) -> Vec<usize> {
    let add = |sum: &mut usize, size: std::io::Result<usize>| {
        *sum = sum.saturating_add(size.unwrap_or(MAX_MESSAGE_BYTES));
        Some(*sum)
    };
    std::iter::once(0).chain(sizes.scan(0, add)).collect()
}

/// The answer to a request for headers: of those found, which begin at height `from`, as many as are consecutive, of one epoch
/// and fit into one message, up to the last certified one. The end of an epoch is certified by its own (M5).
pub fn reply_headers(from: u64, found: Vec<(Header, Option<Cert>)>) -> Headers {
    let mut room = MAX_MESSAGE_BYTES - REPLY_BYTES;
    let epoch = found.first().map_or(0, |(first, _)| first.epoch);
    let fits = |(index, (header, _)): &(usize, &(Header, Option<Cert>))| {
        let bytes = borsh::object_length(header).unwrap_or(MAX_MESSAGE_BYTES);
        let next = from.checked_add(*index as u64) == Some(header.height) && bytes <= room && header.epoch == epoch;
        room = room.saturating_sub(bytes);
        next
    };
    let fitting = found.iter().enumerate().take(MAX_HEADERS).take_while(fits).count();
    let end = found.iter().take(fitting).rposition(|(_, cert)| cert.is_some());
    let mut headers: Vec<Header> = Vec::new();
    let mut last = None;
    for (header, cert) in found.into_iter().take(end.map_or(0, |end| end + 1)) {
        headers.push(header);
        last = cert;
    }
    Headers { headers, cert: last }
}

/// A final block, its digest and its batches with theirs.
#[derive(Clone, Debug)]
pub struct FinalBlock {
    /// Digest of the header.
    pub digest: Hash,
    /// The header.
    pub header: Header,
    /// Its batches, in order.
    pub batches: Vec<VerifiedBatch>,
}

/// Why blocks do not continue the own chain; the peer that sent them is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// No blocks, or more than a message may hold.
    #[error("{0} blocks, 1 to {MAX_BLOCKS} expected")]
    Count(usize),
    /// The certificate is of another kind, epoch or digest than the last header's, or of an earlier slot.
    #[error("the certificate is not a Final certificate of the last header, {0}")]
    OtherCert(Hash),
    /// The certificate itself is invalid.
    #[error("certificate: {0}")]
    Cert(#[from] CertError),
    /// A header does not follow from the one before it.
    #[error("block {height}: {field} does not follow from the block before it")]
    Link {
        /// Height at which the chain breaks.
        height: u64,
        /// Field of the header.
        field: &'static str,
    },
    /// A batch is not the one that the header names, or its author did not sign it.
    #[error("block {height}, batch {index}: {reason}")]
    Batch {
        /// Height of the block.
        height: u64,
        /// Which batch.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// Checks that blocks continue the chain above `front` and are final: heights are consecutive, parents link, also of the
/// headers above the blocks, all are of the epoch of `sets`, batches match what headers say, and the certificate is of the
/// last header, which proves all below it (S1, L1), of whatever version; from the first block on that is of a version not spoken
/// here (V1) their headers alone are of use. Blocks of two epochs never come together: the set after the next is known only
/// when the first of them is over and executed (E1), and a [`reply`] ends there.
///
/// Signatures of transactions are not verified: a quorum voted for these headers, so an honest validator verified them.
/// Roots are checked by executing: each header holds those of its parent.
///
/// # Errors
/// Names the first thing that is wrong.
pub fn verify_blocks(
    verifier: &dyn Verify,
    chain: &Hash,
    (sets, epochs): (&Sets, Epochs),
    front: &Anchor,
    answer: Answer,
) -> Result<Vec<FinalBlock>, SyncError> {
    let Answer { mut blocks, mut headers, cert, .. } = answer;
    if blocks.is_empty() || blocks.len() > MAX_BLOCKS {
        return Err(SyncError::Count(blocks.len()));
    }
    light::spoken(&blocks[0].header).map_err(|LinkError { height, field, .. }| SyncError::Link { height, field })?;
    // Who answers does not know what is spoken here; and the vote for an upgrade may be in these very blocks.
    let spoken = blocks.iter().take_while(|block| light::spoken(&block.header).is_ok()).count();
    headers.splice(0..0, blocks.split_off(spoken).into_iter().map(|block| block.header));
    let mut all = blocks.iter().map(|block| &block.header).chain(&headers);
    let digests = check_links(sets, epochs, front, &mut all)?;
    let last = headers.last().or(blocks.last().map(|block| &block.header));
    check_cert(&cert, last, digests.last())?;
    let set = &sets.current;
    cert.verify_by(chain, set, |signer, message, signature| {
        set.get(signer).is_some_and(|member| verifier.verifies(&member.key, message, signature))
    })?;
    let finish = |(block, digest): (Block, Hash)| {
        let batches = check_batches(verifier, chain, sets, &block.header, block.batches)?;
        Ok(FinalBlock { digest, header: block.header, batches })
    };
    blocks.into_iter().zip(digests).map(finish).collect()
}

/// Whether a certificate says that this header is final.
fn check_cert(cert: &Cert, header: Option<&Header>, digest: Option<&Hash>) -> Result<(), SyncError> {
    let (Some(header), Some(digest)) = (header, digest) else { return Err(SyncError::Count(0)) };
    if names(cert, header, digest) { Ok(()) } else { Err(SyncError::OtherCert(*digest)) }
}

/// Digests of headers, each of which must follow from the one before it.
fn check_links(
    sets: &Sets,
    epochs: Epochs,
    front: &Anchor,
    headers: &mut dyn Iterator<Item = &Header>,
) -> Result<Vec<Hash>, SyncError> {
    let mut end = Anchor { slot: epochs.parent_slot(front.height, front.slot), ..*front };
    let (set, set_hash, next_set_hash) = (&sets.current, sets.current.hash(), sets.next.hash());
    let mut digests = Vec::new();
    for header in headers {
        let height = end.height.saturating_add(1);
        let wrong = |cause: LinkError| SyncError::Link { height: cause.height, field: cause.field };
        end = end.follow(sets.epoch, set, &set_hash, header).map_err(wrong)?;
        if epochs.of(header.height) != sets.epoch {
            return Err(SyncError::Link { height, field: "epoch" });
        }
        if header.next_set_hash != next_set_hash {
            return Err(SyncError::Link { height, field: "next_set_hash" });
        }
        digests.push(end.digest);
    }
    Ok(digests)
}

/// The batches of a header: it names their digests, but not their authors' signatures, which are checked.
fn check_batches(
    verifier: &dyn Verify,
    chain: &Hash,
    sets: &Sets,
    header: &Header,
    batches: Vec<Batch>,
) -> Result<Vec<VerifiedBatch>, SyncError> {
    if header.batches.len() != batches.len() {
        return Err(SyncError::Link { height: header.height, field: "batches" });
    }
    let check = |(index, batch): (usize, Batch)| {
        let wrong = |reason: String| SyncError::Batch { height: header.height, index, reason };
        let digest = batch.digest();
        if header.batches.get(index) != Some(&batch.reference(digest)) {
            return Err(wrong("it is not the one that the header names".into()));
        }
        let wrong_batch = |cause: BatchError| wrong(cause.to_string());
        batch.check_shape().map_err(wrong_batch)?;
        let author = sets.of_batch(batch.epoch).and_then(|set| set.get(batch.author));
        // Nobody outside the set verifies.
        let bytes = Batch::sign_bytes(chain, &digest);
        if !author.is_some_and(|author| verifier.verifies(&author.key, &bytes, &batch.signature)) {
            return Err(wrong_batch(BatchError::Signature));
        }
        Ok(VerifiedBatch::trusted(Arc::new(batch), digest, chain))
    };
    batches.into_iter().enumerate().map(check).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::block::VERSION;
    use crate::consensus::input::Roots;
    use crate::consensus::input::Tip;
    use crate::consensus::verify::Ed25519;
    use crate::hash::plain;
    use crate::key::{Address, SecretKey};
    use crate::transaction::{Action, Payment, Transaction};
    use crate::vote::tests::{certify, chain, keys, set_of};
    use crate::vote::{Kind, Statement};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    pub(crate) fn set() -> ValidatorSet {
        set_of(&keys(1))
    }

    fn sets() -> Sets {
        Sets::genesis(Arc::new(set()))
    }

    pub(crate) fn genesis() -> Tip {
        let roots = Roots { state: Hash::ZERO, results: Hash::ZERO, next_version: VERSION };
        Tip { digest: chain(), slot: 0, height: 0, time_ms: 0, roots }
    }

    fn batch(seq: u64) -> Batch {
        let action = Action::Transfer(Payment { to: Address([9; 20]), amount: 5 });
        let key = &keys(1)[0];
        let tx = Transaction { sender: key.public(), nonce: seq, fee: 1, expiry_height: 100, action };
        Batch::seal(&chain(), key, (0, 0), seq, 100, vec![tx.sign(&chain(), key)])
    }

    /// A block on `parent`; every third one has a batch, every fifth slot was skipped.
    pub(crate) fn block(parent: &Tip) -> Block {
        let height = parent.height + 1;
        let batches = if height.is_multiple_of(3) { vec![batch(height)] } else { Vec::new() };
        let slot = parent.slot + if height.is_multiple_of(5) { 2 } else { 1 };
        let header = Header {
            version: VERSION,
            epoch: 0,
            slot,
            height,
            parent_slot: parent.slot,
            parent: parent.digest,
            parent_state_root: Hash::ZERO,
            parent_results_root: Hash::ZERO,
            time_ms: parent.time_ms + 10,
            proposer: set().leader(0, slot),
            set_hash: set().hash(),
            next_set_hash: set().hash(),
            batches: batches.iter().map(|b| b.reference(b.digest())).collect(),
            evidence: Vec::new(),
        };
        Block { header, batches }
    }

    pub(crate) fn tip_of(header: &Header) -> Tip {
        let (slot, height, time_ms) = (header.slot, header.height, header.time_ms);
        Tip { digest: header.digest(), slot, height, time_ms, ..genesis() }
    }

    fn blocks(count: u64) -> Vec<Block> {
        let mut out: Vec<Block> = Vec::new();
        for _ in 0..count {
            let tip = out.last().map_or_else(genesis, |block| tip_of(&block.header));
            out.push(block(&tip));
        }
        out
    }

    pub(crate) fn cert(header: &Header, kind: Kind, signers: &[Index]) -> Cert {
        let statement = Statement { epoch: header.epoch, slot: header.slot, kind, digest: header.digest() };
        certify(&keys(1), statement, signers)
    }

    fn final_cert(blocks: &[Block]) -> Cert {
        cert(&blocks.last().expect("some").header, Kind::Final, &[0, 1, 3])
    }

    fn verify(tip: &Tip, blocks: &[Block], cert: &Cert) -> Result<Vec<FinalBlock>, SyncError> {
        verify_under(tip, blocks, &[], cert)
    }

    fn verify_under(tip: &Tip, blocks: &[Block], above: &[Block], cert: &Cert) -> Result<Vec<FinalBlock>, SyncError> {
        let headers = above.iter().map(|block| block.header.clone()).collect();
        let answer = Answer { peer: 0, blocks: blocks.to_vec(), headers, cert: cert.clone() };
        verify_blocks(&Ed25519::new(&set()), &chain(), (&sets(), Epochs::new(1_000)), &tip.into(), answer)
    }

    /// What a peer that has everything sends.
    fn sent(blocks: &[Block]) -> Blocks {
        Blocks { blocks: blocks.to_vec(), headers: Vec::new(), cert: Some(final_cert(blocks)), lowest: 1 }
    }

    fn nothing(lowest: u64) -> Blocks {
        Blocks { lowest, ..Blocks::default() }
    }

    #[test]
    fn s1_linked_blocks_under_one_final_certificate_are_accepted() {
        let blocks = blocks(7);
        let done = verify(&genesis(), &blocks, &final_cert(&blocks)).expect("valid");
        assert_eq!(done.len(), 7);
        for (done, block) in done.iter().zip(&blocks) {
            assert_eq!((done.digest, &done.header), (block.header.digest(), &block.header));
            let ids: Vec<_> = done.batches.iter().flat_map(|b| b.ids.to_vec()).collect();
            let txs = block.batches.iter().flat_map(|b| &b.txs);
            assert_eq!(ids, txs.map(|tx| tx.id(&chain())).collect::<Vec<_>>());
        }
        let middle = tip_of(&blocks[2].header);
        assert_eq!(verify(&middle, &blocks[3..], &final_cert(&blocks)).expect("valid").len(), 4);
    }

    #[test]
    fn s1_a_certificate_of_anything_but_the_last_block_is_refused() {
        let blocks = blocks(4);
        let other = |cert: &Cert| matches!(verify(&genesis(), &blocks, cert), Err(SyncError::OtherCert(_)));
        assert!(other(&cert(&blocks[3].header, Kind::Notar, &[0, 1, 2])));
        assert!(other(&cert(&blocks[2].header, Kind::Final, &[0, 1, 2])));
        // Final in the same slot, but another block: what only a forked chain has.
        let fork = Header { time_ms: blocks[3].header.time_ms + 1, ..blocks[3].header.clone() };
        assert!(other(&cert(&fork, Kind::Final, &[0, 1, 2])));
        let mut early = final_cert(&blocks);
        early.statement.slot -= 1;
        assert!(other(&early));
        let light = cert(&blocks[3].header, Kind::Final, &[0, 1]);
        let error = verify(&genesis(), &blocks, &light).expect_err("light");
        assert_eq!(error, SyncError::Cert(CertError::Weight { found: 2, quorum: 3 }));
        let mut forged = final_cert(&blocks);
        forged.signatures.swap(0, 1);
        assert!(matches!(verify(&genesis(), &blocks, &forged), Err(SyncError::Cert(CertError::Signature(0)))));
        assert!(matches!(verify(&genesis(), &[], &final_cert(&blocks)), Err(SyncError::Count(0))));
        let many = vec![blocks[0].clone(); MAX_BLOCKS + 1];
        assert!(matches!(verify(&genesis(), &many, &final_cert(&blocks)), Err(SyncError::Count(_))));
    }

    #[test]
    fn s1_a_header_that_does_not_follow_from_the_one_before_is_refused_by_its_field() {
        type Change = fn(&mut Header);
        let changes: [(&str, Change); 8] = [
            ("height", |h| h.height += 1),
            ("parent", |h| h.parent.0[0] ^= 1),
            ("epoch", |h| h.epoch += 1),
            ("parent_slot", |h| h.parent_slot += 1),
            ("slot", |h| h.slot = h.parent_slot),
            ("time_ms", |h| h.time_ms -= 10),
            ("set_hash", |h| h.set_hash.0[0] ^= 1),
            ("proposer", |h| h.proposer = 4),
        ];
        for (field, change) in changes {
            let mut blocks = blocks(6);
            change(&mut blocks[2].header);
            let error = verify(&genesis(), &blocks, &final_cert(&blocks)).expect_err(field);
            assert_eq!(error, SyncError::Link { height: 3, field });
        }
        let mut gap = blocks(6);
        gap.remove(3);
        let error = verify(&genesis(), &gap, &final_cert(&gap)).expect_err("gap");
        assert_eq!(error, SyncError::Link { height: 4, field: "height" });
        let other = Tip { digest: plain(b"other"), ..genesis() };
        let blocks = blocks(2);
        let error = verify(&other, &blocks, &final_cert(&blocks)).expect_err("other chain");
        assert_eq!(error, SyncError::Link { height: 1, field: "parent" });
    }

    #[test]
    fn s1_a_batch_that_the_header_does_not_name_is_refused() {
        let good = blocks(3);
        let cert = final_cert(&good);
        let mut missing = good.clone();
        missing[2].batches.clear();
        let error = verify(&genesis(), &missing, &cert).expect_err("missing");
        assert_eq!(error, SyncError::Link { height: 3, field: "batches" });
        let mut other = good.clone();
        other[2].batches = vec![batch(77)];
        assert!(matches!(verify(&genesis(), &other, &cert), Err(SyncError::Batch { height: 3, index: 0, .. })));
        // The digest does not cover the author's signature.
        let mut forged = good.clone();
        forged[2].batches[0].signature.0[0] ^= 1;
        assert!(matches!(verify(&genesis(), &forged, &cert), Err(SyncError::Batch { height: 3, index: 0, .. })));
    }

    #[test]
    fn s1_headers_above_the_blocks_lead_to_the_certificate_and_must_link_too() {
        let blocks = blocks(9);
        let cert = final_cert(&blocks);
        let done = verify_under(&genesis(), &blocks[..4], &blocks[4..], &cert).expect("valid");
        assert_eq!(done.len(), 4);
        assert_eq!(Anchor::of(&done[3].header, done[3].digest), Anchor::from(&tip_of(&blocks[3].header)));
        let error = verify_under(&genesis(), &blocks[..4], &blocks[5..], &cert).expect_err("a header is missing");
        assert_eq!(error, SyncError::Link { height: 5, field: "height" });
        let mut forged = blocks.clone();
        forged[6].header.time_ms += 1;
        let error = verify_under(&genesis(), &forged[..4], &forged[4..], &cert).expect_err("a header is changed");
        assert_eq!(error, SyncError::Link { height: 8, field: "parent" });
        let below = verify_under(&genesis(), &blocks[..4], &blocks[4..], &final_cert(&blocks[..4]));
        assert!(matches!(below, Err(SyncError::OtherCert(_))), "the certificate must be of the last header");
    }

    fn others(first: u8) -> (Vec<SecretKey>, Arc<ValidatorSet>) {
        let keys = keys(first);
        let set = Arc::new(set_of(&keys));
        (keys, set)
    }

    /// The first block of epoch 1, upon one in slot 7: of it, of the epoch before and of the next one other validators decide.
    #[test]
    fn s1_each_epoch_has_its_own_set_and_the_authors_of_batches_are_of_theirs() {
        let ((own, current), (later, next)) = (others(20), others(30));
        let before = Arc::new(set());
        let sets =
            Sets { epoch: 1, older: before.clone(), previous: before, current: current.clone(), next: next.clone() };
        let floor = Tip { digest: plain(b"floor"), slot: 7, height: 3, ..genesis() };
        let batches = vec![batch(1)];
        let header = Header {
            epoch: 1,
            slot: 1,
            height: 4,
            parent_slot: 0,
            parent: floor.digest,
            proposer: current.leader(1, 1),
            set_hash: current.hash(),
            next_set_hash: next.hash(),
            batches: vec![batches[0].reference(batches[0].digest())],
            ..block(&genesis()).header
        };
        let by = |keys: &[SecretKey], header: &Header, batches: &[Batch]| {
            let statement = Statement { epoch: 1, slot: 1, kind: Kind::Final, digest: header.digest() };
            let blocks = vec![Block { header: header.clone(), batches: batches.to_vec() }];
            let answer = Answer { peer: 0, blocks, headers: Vec::new(), cert: certify(keys, statement, &[0, 1, 3]) };
            verify_blocks(&Ed25519::new(&current), &chain(), (&sets, Epochs::new(3)), &(&floor).into(), answer)
        };
        assert_eq!(by(&own, &header, &batches).expect("final").len(), 1);
        for strangers in [keys(1), later] {
            let error = by(&strangers, &header, &batches).expect_err("another epoch's validators");
            assert_eq!(error, SyncError::Cert(CertError::Signature(0)));
        }
        let other = Header { next_set_hash: current.hash(), ..header.clone() };
        let error = by(&own, &other, &batches).expect_err("another next set");
        assert_eq!(error, SyncError::Link { height: 4, field: "next_set_hash" });
        let late = Batch { epoch: 1, ..batch(1) };
        let named = Header { batches: vec![late.reference(late.digest())], ..header };
        let error = by(&own, &named, &[late]).expect_err("number 0 of epoch 1 is another");
        assert!(matches!(error, SyncError::Batch { height: 4, index: 0, .. }), "{error}");
    }

    #[test]
    fn s1_v6_a_batch_that_is_not_well_formed_is_refused_though_its_author_signed_it() {
        let mut blocks = blocks(1);
        let none = Batch::seal(&chain(), &keys(1)[0], (0, 0), 1, 100, Vec::new());
        blocks[0].header.batches = vec![none.reference(none.digest())];
        blocks[0].batches = vec![none];
        let error = verify(&genesis(), &blocks, &final_cert(&blocks)).expect_err("it is empty");
        assert!(matches!(error, SyncError::Batch { height: 1, index: 0, .. }), "{error}");
    }

    #[test]
    fn s1_e3_a_height_of_the_next_epoch_is_refused() {
        let blocks = blocks(3);
        let answer = Answer { peer: 0, blocks: blocks.clone(), headers: Vec::new(), cert: final_cert(&blocks) };
        let verified =
            verify_blocks(&Ed25519::new(&set()), &chain(), (&sets(), Epochs::new(2)), &(&genesis()).into(), answer);
        assert_eq!(verified.expect_err("epoch 0 ends at 2"), SyncError::Link { height: 3, field: "epoch" });
    }

    #[test]
    fn e1_a_reply_ends_with_the_epoch_of_its_first_block() {
        let mut blocks = blocks(6);
        blocks[3..].iter_mut().for_each(|block| block.header.epoch = 1);
        let all = [1, 2, 3, 4, 5, 6];
        assert_eq!(reply(found(&blocks, &all), Vec::new(), 1).blocks.len(), 3);
        let above = reply(found(&blocks[..1], &[]), headers_of(found(&blocks[1..], &[6])), 1);
        assert_eq!((above.blocks.len(), above.headers.len()), (0, 0), "no certificate of its own epoch");
    }

    /// Blocks as a ledger has them, of which those at `certified` have a certificate of their own.
    fn found(blocks: &[Block], certified: &[u64]) -> Vec<(Block, Option<Cert>)> {
        let own = |b: &Block| certified.contains(&b.header.height).then(|| cert(&b.header, Kind::Final, &[0, 1, 3]));
        blocks.iter().map(|block| (block.clone(), own(block))).collect()
    }

    fn headers_of(found: Vec<(Block, Option<Cert>)>) -> Vec<(Header, Option<Cert>)> {
        found.into_iter().map(|(block, cert)| (block.header, cert)).collect()
    }

    /// Sends the first `bodies` of `blocks` and the others' headers; gives the counts of both that arrive, verified.
    fn replied(blocks: &[Block], bodies: usize, certified: &[u64]) -> (usize, usize) {
        let after = headers_of(found(&blocks[bodies..], certified));
        let reply = reply(found(&blocks[..bodies], certified), after, 1);
        let counts = (reply.blocks.len(), reply.headers.len());
        let encoded = borsh::object_length(&crate::message::Message::Blocks(reply.clone())).expect("encodes");
        assert!(encoded <= MAX_MESSAGE_BYTES, "{encoded} bytes");
        if let Some(cert) = reply.cert {
            let answer = Answer { peer: 0, blocks: reply.blocks, headers: reply.headers, cert };
            verify_blocks(
                &Ed25519::new(&set()),
                &chain(),
                (&sets(), Epochs::new(1_000)),
                &Anchor::from(&genesis()),
                answer,
            )
            .expect("proves itself");
        }
        counts
    }

    #[test]
    fn a_reply_ends_at_its_last_certified_block_else_headers_lead_up_to_one() {
        let blocks = blocks(9);
        assert_eq!(replied(&blocks, 9, &[1, 2, 3, 4, 5, 6, 7, 8, 9]), (9, 0));
        assert_eq!(replied(&blocks, 6, &[2, 5, 9]), (5, 0));
        assert_eq!(replied(&blocks, 6, &[8, 9]), (6, 2));
        assert_eq!(replied(&blocks, 1, &[9]), (1, 8));
        assert_eq!(replied(&blocks, 6, &[]), (0, 0), "newer than any certificate");
    }

    #[test]
    fn s3_a_reply_of_headers_is_consecutive_from_the_asked_height_and_ends_at_a_certificate() {
        let blocks = blocks(9);
        let headers = |certified: &[u64]| headers_of(found(&blocks, certified));
        let told = |from, found| {
            let reply = reply_headers(from, found);
            assert_eq!(reply.cert.is_some(), !reply.headers.is_empty());
            reply.headers.iter().map(|header| header.height).collect::<Vec<_>>()
        };
        assert_eq!(told(1, headers(&[2, 5])), [1, 2, 3, 4, 5]);
        assert_eq!(told(1, headers(&[])), [0; 0], "nothing makes them final");
        assert_eq!(told(2, headers(&[9])), [0; 0], "another height was asked for");
        let mut hole = headers(&[3, 4, 9]);
        hole.remove(3);
        assert_eq!(told(1, hole), [1, 2, 3]);
    }

    /// As large as V6 allows, nearly.
    fn full_block(parent: &Tip) -> Block {
        let key = &keys(1)[0];
        let payments = (0..64).map(|i| Payment { to: Address([i; 20]), amount: 1 }).collect();
        let action = Action::TransferMany { payments };
        let tx = Transaction { sender: key.public(), nonce: parent.height, fee: 1, expiry_height: 100, action };
        let tx = tx.sign(&chain(), key);
        let batch = |seq| Batch::seal(&chain(), key, (0, 0), parent.height * 10 + seq, 100, vec![tx.clone(); 128]);
        let batches: Vec<Batch> = (0..8).map(batch).collect();
        let refs: Vec<_> = batches.iter().map(|b| b.reference(b.digest())).collect();
        let bytes: u64 = refs.iter().map(|r| u64::from(r.bytes)).sum();
        assert!((1_900_000..=crate::params::MAX_BLOCK_BYTES).contains(&bytes), "{bytes} bytes");
        let header = Header { batches: refs, ..block(parent).header };
        Block { header, batches }
    }

    #[test]
    fn neighbouring_full_blocks_without_certificates_are_sent_as_far_as_they_fit_under_headers() {
        let mut blocks: Vec<Block> = Vec::new();
        for _ in 0..4 {
            let tip = blocks.last().map_or_else(genesis, |block| tip_of(&block.header));
            blocks.push(full_block(&tip));
        }
        assert_eq!(replied(&blocks[..2], 2, &[2]), (2, 0), "two of them just fit");
        assert_eq!(replied(&blocks, 4, &[4]), (2, 2), "what does not fit follows as headers");
        assert_eq!(replied(&blocks, 1, &[4]), (1, 3));
    }

    #[test]
    fn more_headers_than_fit_beside_the_block_are_not_sent() {
        let mut blocks = vec![full_block(&genesis())];
        while blocks.len() < MAX_HEADERS + 2 {
            let parent = &blocks[blocks.len() - 1].header;
            let tip = Tip { slot: parent.slot, height: parent.height, time_ms: parent.time_ms, ..genesis() };
            blocks.push(Block { batches: Vec::new(), header: Header { batches: Vec::new(), ..block(&tip).header } });
        }
        let last = blocks.len() as u64;
        let after = |certified: u64| headers_of(found(&blocks[1..], &[certified]));
        let first = || found(&blocks[..1], &[]);
        assert_eq!(reply(first(), after(last), 1), nothing(1));
        assert_eq!(reply(first(), after(last - 1), 1).headers.len(), MAX_HEADERS);
    }

    fn planner(heights: &[u64]) -> Planner {
        planner_by(Epochs::new(u64::MAX), heights)
    }

    fn planner_by(epochs: Epochs, heights: &[u64]) -> Planner {
        let mut planner = Planner::new(epochs);
        for (peer, height) in heights.iter().enumerate() {
            planner.on_status(peer as Index, *height);
        }
        planner
    }

    fn froms(requests: &[Request]) -> Vec<(Index, u64, u32)> {
        requests.iter().map(|r| (r.peer, r.from, r.count)).collect()
    }

    #[test]
    fn ranges_are_asked_of_different_peers_at_once() {
        let mut planner = planner(&[1_000; 6]);
        let asked = planner.next(0, 0);
        assert_eq!(froms(&asked), [(0, 1, 256), (1, 257, 256), (2, 513, 256), (3, 769, 232)]);
        assert!(planner.next(1, 0).is_empty());
    }

    #[test]
    fn m5_what_is_asked_of_different_peers_at_once_is_of_an_epoch_each() {
        let mut planner = planner_by(Epochs::new(20), &[1_000; 6]);
        assert_eq!(froms(&planner.next(0, 10)), [(0, 11, 10), (1, 21, 20), (2, 41, 20), (3, 61, 20)]);
        let mut long = planner_by(Epochs::new(300), &[1_000; 6]);
        assert_eq!(froms(&long.next(0, 0)), [(0, 1, 256), (1, 257, 44), (2, 301, 256), (3, 557, 44)]);
        let mut short = planner_by(Epochs::new(1), &[1_000; 6]);
        assert_eq!(froms(&short.next(0, 7)), [(0, 8, 1), (1, 9, 1), (2, 10, 1), (3, 11, 1)]);
    }

    #[test]
    fn v1_nothing_is_asked_for_above_the_last_block_that_this_program_can_take() {
        let mut planner = planner(&[1_000; 2]);
        planner.end_at(Some(300));
        assert_eq!(froms(&planner.next(0, 0)), [(0, 1, 256), (1, 257, 44)]);
        let mut there = self::planner(&[1_000; 2]);
        there.end_at(Some(300));
        assert!(there.next(0, 300).is_empty() && there.next(5_000, 300).is_empty());
        assert_eq!(froms(&there.next(6_000, 299)), []);
        assert_eq!(froms(&there.next(6_000 + STALL_MS, 299)), [(0, 300, 1)]);
        // Nor does it matter who keeps what is above.
        there.on_blocks(0, nothing(900));
        there.next(8_000, 300);
        assert_eq!((there.out_of_reach(20_000, &set(), Some), there.deleted(&set(), Some)), (None, None));
    }

    #[test]
    fn v1_a_block_of_a_version_that_is_not_spoken_is_not_taken_and_proves_those_below() {
        let mut chain: Vec<Block> = Vec::new();
        for height in 1..=4 {
            let mut next = block(&chain.last().map_or_else(genesis, |block| tip_of(&block.header)));
            next.header.version = VERSION + u16::from(height == 4);
            chain.push(next);
        }
        let cert = final_cert(&chain);
        let heights = |taken: Vec<FinalBlock>| taken.iter().map(|block| block.header.height).collect::<Vec<_>>();
        assert_eq!(heights(verify(&genesis(), &chain, &cert).expect("those that are spoken here")), [1, 2, 3]);
        let under = verify_under(&genesis(), &chain[..3], &chain[3..], &cert);
        assert_eq!(heights(under.expect("all that is spoken here")), [1, 2, 3]);
        let refused = verify(&tip_of(&chain[2].header), &chain[3..], &cert).expect_err("nothing of use");
        assert_eq!(refused, SyncError::Link { height: 4, field: "version" });
    }

    #[test]
    fn a_small_lag_is_left_to_consensus_until_the_height_stands_still() {
        let mut planner = planner(&[14]);
        assert!(planner.next(0, 10).is_empty());
        assert!(planner.next(999, 10).is_empty());
        assert_eq!(froms(&planner.next(1_000, 10)), [(0, 11, 4)]);
        let mut even = self::planner(&[10]);
        assert!(even.next(0, 10).is_empty() && even.next(5_000, 10).is_empty());
    }

    #[test]
    fn a_slow_peers_range_is_asked_of_another_after_the_time_out() {
        let mut planner = planner(&[100, 100]);
        assert_eq!(froms(&planner.next(0, 0)), [(0, 1, 100)]);
        assert!(planner.next(1_999, 0).is_empty());
        assert_eq!(froms(&planner.next(2_000, 0)), [(1, 1, 100)]);
    }

    #[test]
    fn a_late_answer_is_taken_and_its_double_dropped() {
        let mut planner = planner(&[100, 100]);
        planner.next(0, 0);
        planner.next(2_000, 0);
        let blocks = blocks(100);
        planner.on_blocks(0, sent(&blocks));
        planner.on_blocks(1, sent(&blocks));
        assert_eq!(planner.take(0).map(|answer| (answer.peer, answer.blocks.len())), Some((0, 100)));
        assert!(planner.take(100).is_none());
    }

    #[test]
    fn a_peer_that_owes_an_answer_is_asked_again_only_after_longer_and_longer() {
        let mut planner = planner(&[100]);
        planner.next(0, 0);
        assert!(planner.next(2_000, 0).is_empty());
        assert_eq!(planner.next(4_000, 0).len(), 1);
        assert!(planner.next(8_000, 0).is_empty());
        assert_eq!(planner.next(12_000, 0).len(), 1);
    }

    #[test]
    fn answers_wait_until_they_continue_the_own_chain() {
        let mut planner = planner(&[300, 300]);
        planner.next(0, 0);
        let blocks = blocks(300);
        planner.on_blocks(1, sent(&blocks[256..]));
        assert!(planner.take(0).is_none());
        planner.on_blocks(0, sent(&blocks[..200]));
        assert_eq!(planner.take(0).map(|answer| answer.blocks.len()), Some(200));
        // It was shorter than asked: the rest is asked again.
        assert_eq!(froms(&planner.next(10, 200)), [(0, 201, 56)]);
        planner.on_blocks(0, sent(&blocks[200..270]));
        assert_eq!(planner.take(200).map(|answer| answer.blocks.len()), Some(70));
        // And longer than asked: what is known of the next answer is cut off.
        assert_eq!(planner.take(270).map(|answer| answer.blocks[0].header.height), Some(271));
    }

    #[test]
    fn what_was_not_asked_is_dropped() {
        let mut planner = planner(&[100, 100]);
        let blocks = blocks(10);
        planner.on_blocks(0, sent(&blocks));
        planner.next(0, 0);
        planner.on_blocks(1, sent(&blocks));
        planner.on_blocks(0, sent(&blocks[1..]));
        planner.on_blocks(9, sent(&blocks));
        assert!(planner.take(0).is_none());
        planner.on_blocks(0, sent(&blocks));
        assert!(planner.take(0).is_some());
    }

    #[test]
    fn a_peer_that_goes_away_or_lies_or_has_less_than_it_said_is_not_waited_for() {
        let mut planner = planner(&[100, 100]);
        planner.next(0, 0);
        planner.on_disconnected(0);
        assert_eq!(froms(&planner.next(1, 0)), [(1, 1, 100)]);
        planner.on_blocks(1, nothing(1));
        assert!(planner.next(2, 0).is_empty());
        planner.on_status(1, 100);
        assert_eq!(planner.next(3, 0).len(), 1);
        planner.on_blocks(1, Blocks { cert: None, ..sent(&blocks(3)) });
        planner.on_wrong(4, 1);
        assert!(planner.next(5, 0).is_empty());
        planner.on_status(0, 100);
        assert_eq!(froms(&planner.next(6, 0)), [(0, 1, 100)]);
        planner.on_disconnected(0);
        assert_eq!(froms(&planner.next(4 + PENALTY_MS, 0)), [(1, 1, 100)]);
    }

    #[test]
    fn blocks_that_a_peer_has_deleted_are_asked_of_one_that_keeps_them() {
        let mut planner = planner(&[1_000, 1_000]);
        assert_eq!(froms(&planner.next(0, 10)), [(0, 11, 256), (1, 267, 256)]);
        planner.on_blocks(0, nothing(500));
        assert!(planner.next(1, 10).is_empty(), "peer 1 has a request open, peer 0 is of no use yet");
        planner.on_blocks(1, nothing(5));
        planner.on_status(1, 1_000);
        assert_eq!(froms(&planner.next(2, 10)), [(1, 11, 256)]);
        planner.on_blocks(1, nothing(300));
        assert!(planner.next(3, 10).is_empty());
        // It may come back with another database.
        planner.on_disconnected(1);
        planner.on_status(1, 1_000);
        assert_eq!(planner.next(4, 10).len(), 1);
        // Of a block that it keeps, the first is asked of peer 0 too.
        assert_eq!(froms(&planner.next(5, 499)), [(0, 500, 256)]);
    }

    /// What `out_of_reach` says of block 1 once it was waited for long enough; 4 validators of equal weight.
    fn out_of_reach(answers: &[Option<u64>]) -> Option<u64> {
        let mut planner = planner(&vec![1_000; answers.len()]);
        planner.next(0, 0);
        for (peer, lowest) in (0..).zip(answers).filter_map(|(peer, lowest)| Some((peer, (*lowest)?))) {
            planner.on_blocks(peer, nothing(lowest));
            planner.on_status(peer, 1_000);
        }
        assert_eq!(planner.out_of_reach(OUT_OF_REACH_MS - 1, &set(), Some), None, "not waited long enough");
        planner.out_of_reach(OUT_OF_REACH_MS, &set(), Some)
    }

    #[test]
    fn a_block_is_out_of_reach_where_peers_have_deleted_it_and_no_more_than_the_faulty_say_they_keep_it() {
        assert_eq!(out_of_reach(&[Some(300), Some(200)]), Some(200));
        assert_eq!(out_of_reach(&[Some(300), Some(200), None]), Some(200), "one that never answered");
        assert_eq!(out_of_reach(&[Some(300), Some(200), Some(1)]), Some(200), "one liar");
        assert_eq!(out_of_reach(&[Some(300), Some(1), Some(1)]), None, "an honest one keeps it");
        assert_eq!(out_of_reach(&[None, None]), None);
        assert_eq!(out_of_reach(&[Some(1), None]), None, "nobody says that it is gone");
    }

    #[test]
    fn a_block_is_deleted_where_more_than_the_faulty_say_so_and_who_says_that_it_keeps_it_is_told_apart() {
        let deleted = |answers: &[Option<u64>]| {
            let mut planner = planner(&vec![1_000; answers.len()]);
            planner.next(0, 0);
            for (peer, lowest) in (0..).zip(answers).filter_map(|(peer, lowest)| Some((peer, (*lowest)?))) {
                planner.on_blocks(peer, nothing(lowest));
                planner.on_status(peer, 1_000);
            }
            planner.deleted(&set(), Some)
        };
        let gone = |height| Some(Deleted { height, kept: false });
        assert_eq!(deleted(&[Some(300), Some(u64::MAX)]), gone(1));
        let silent = "one that has not answered does not say that it keeps it";
        assert_eq!(deleted(&[Some(300), Some(200), None]), gone(1), "{silent}");
        assert_eq!(deleted(&[Some(u64::MAX), None, None]), None, "one liar");
        assert_eq!(
            deleted(&[Some(300), Some(300), Some(1)]),
            Some(Deleted { height: 1, kept: true }),
            "one may have it"
        );
        assert_eq!(deleted(&[Some(1), None]), None);
        assert_eq!(deleted(&[]), None);
        let mut left = planner(&[1_000, 1_000]);
        left.next(0, 10);
        (0..2).for_each(|peer| left.on_blocks(peer, nothing(300)));
        assert_eq!(left.deleted(&set(), Some), gone(11));
        left.on_disconnected(1);
        assert_eq!(left.deleted(&set(), Some), None, "what one that left has said does not count");
    }

    #[test]
    fn a_block_that_comes_or_whose_peer_comes_back_is_not_out_of_reach() {
        let mut planner = planner(&[1_000]);
        planner.next(0, 10);
        planner.on_blocks(0, nothing(300));
        planner.next(OUT_OF_REACH_MS, 10);
        assert_eq!(planner.out_of_reach(OUT_OF_REACH_MS, &set(), Some), Some(300));
        let mut moved = planner.clone();
        moved.next(OUT_OF_REACH_MS, 11);
        assert_eq!(moved.out_of_reach(OUT_OF_REACH_MS, &set(), Some), None);
        planner.on_disconnected(0);
        planner.on_status(0, 1_000);
        assert_eq!(planner.out_of_reach(OUT_OF_REACH_MS, &set(), Some), None, "it may have another database");
    }

    #[test]
    fn one_answer_at_most_waits_beyond_the_bound() {
        let blocks = blocks(40);
        let mut planner = planner(&[40; 2 * MAX_WAITING]);
        planner.next(0, 0);
        let asked = |planner: &mut Planner, peer: Index, from: u64| {
            planner.peers.entry(peer).or_default().asked = Some((from, 2));
            planner.on_blocks(peer, sent(&blocks[from as usize - 1..from as usize + 1]));
            planner.waiting.len()
        };
        let far = (0..).zip([11, 13, 15, 17, 19, 21, 23, 25]);
        assert_eq!(far.map(|(peer, from)| asked(&mut planner, peer, from)).last(), Some(MAX_WAITING));
        assert_eq!(asked(&mut planner, 8, 27), MAX_WAITING, "it is not waited for");
        assert_eq!(asked(&mut planner, 9, 1), MAX_WAITING + 1, "all others wait for it");
        // Consensus went on meanwhile: two answers reach beyond the own end.
        planner.next(1, 1);
        assert_eq!(asked(&mut planner, 10, 2), MAX_WAITING + 1, "one of the two is enough");
        assert_eq!(planner.take(1).map(|answer| answer.blocks[0].header.height), Some(2));
    }

    #[test]
    fn a_liar_about_heights_does_not_count_as_the_best_peer() {
        let heights = |heights: [u64; 4]| (0..4).zip(heights).collect::<Vec<(Index, u64)>>();
        assert_eq!(credible_height(&set(), heights([5, 6, 7, u64::MAX])), 7);
        assert_eq!(credible_height(&set(), heights([5, 5, 5, 5])), 5);
        assert_eq!(credible_height(&set(), [(0, 9)]), 0);
    }

    /// What each peer of the random test does with a request.
    #[derive(Clone, Copy, PartialEq)]
    enum Manner {
        Honest,
        Silent,
        Empty,
        Pruned,
        Garbage,
    }

    #[test]
    fn a_node_catches_up_with_any_mix_of_peers_among_whom_one_is_honest() {
        let chain_blocks = blocks(400);
        let certs: Vec<Cert> = (1..=400).map(|to| final_cert(&chain_blocks[..to])).collect();
        for seed in 0..30 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut manners = vec![Manner::Honest];
            for _ in 0..rng.random_range(0..5) {
                let all = [Manner::Honest, Manner::Silent, Manner::Empty, Manner::Pruned, Manner::Garbage];
                manners.push(all[rng.random_range(0..5)]);
            }
            let (mut planner, mut tip, mut now) = (planner(&[]), genesis(), 0);
            let mut network: Vec<(u64, Request)> = Vec::new();
            while tip.height < 400 {
                assert!(now < 300_000, "seed {seed}: at height {} after {now} ms", tip.height);
                if now % 500 == 0 {
                    (0..manners.len()).for_each(|peer| planner.on_status(peer as Index, 400));
                }
                for request in planner.next(now, tip.height) {
                    network.push((now + rng.random_range(1..3_000), request));
                }
                check_requests(&planner, seed);
                let (due, later) = network.into_iter().partition(|(at, _)| *at <= now);
                network = later;
                for (_, request) in due {
                    answer(&mut rng, &mut planner, manners[usize::from(request.peer)], request, &chain_blocks, &certs);
                }
                while let Some(answer) = planner.take(tip.height) {
                    let peer = answer.peer;
                    match verify_blocks(
                        &Ed25519::new(&set()),
                        &chain(),
                        (&sets(), Epochs::new(1_000)),
                        &Anchor::from(&tip),
                        answer,
                    ) {
                        Ok(done) => tip = tip_of(&done.last().expect("some").header),
                        Err(_) => planner.on_wrong(now, peer),
                    }
                }
                now += 100;
            }
            assert_eq!(tip.digest, chain_blocks[399].header.digest(), "seed {seed}");
        }
    }

    fn check_requests(planner: &Planner, seed: u64) {
        let mut flights: Vec<Request> = planner.in_flight().collect();
        flights.sort_by_key(|request| request.from);
        assert!(flights.len() <= MAX_IN_FLIGHT, "seed {seed}");
        assert!(planner.waiting.len() <= MAX_WAITING + 1, "seed {seed}");
        let apart = flights.windows(2).all(|pair| pair[0].from + u64::from(pair[0].count) <= pair[1].from);
        assert!(apart, "seed {seed}: a height is asked for twice in {flights:?}");
    }

    fn answer(
        rng: &mut StdRng,
        planner: &mut Planner,
        manner: Manner,
        request: Request,
        blocks: &[Block],
        certs: &[Cert],
    ) {
        let from = request.from as usize - 1;
        let count = rng.random_range(1..=request.count.min(40)) as usize;
        let to = (from + count).min(blocks.len());
        match manner {
            Manner::Honest => planner.on_blocks(request.peer, under(blocks[from..to].to_vec(), &certs[to - 1])),
            Manner::Silent => {}
            Manner::Empty => planner.on_blocks(request.peer, nothing(1)),
            Manner::Pruned => planner.on_blocks(request.peer, nothing(rng.random_range(request.from + 1..=402))),
            Manner::Garbage => {
                let mut wrong = blocks[from..to].to_vec();
                wrong[0].header.parent_state_root = plain(b"garbage");
                planner.on_blocks(request.peer, under(wrong, &certs[to - 1]));
            }
        }
    }

    fn under(blocks: Vec<Block>, cert: &Cert) -> Blocks {
        Blocks { blocks, headers: Vec::new(), cert: Some(cert.clone()), lowest: 1 }
    }
}
