//! State sync: which pieces of a snapshot to ask of whom, and what proves them (protocol.md S3). Pure; times come in.
//!
//! ```text
//! offers ─→ height h ─→ hand-overs ─→ headers h − 1,999 … h + 1, under a Final certificate ─→ chunks of the state after block h
//!   of all peers          any peer      any peer; their batches may not come again (V6)         all peers that offer h, at once
//! ```
//! Trusted are the sets that the own blocks decide, at first those of genesis. From them a hand-over leads to each next epoch: the
//! final last header of an epoch names the set after it (L2). Only where that is the same set still, for nobody sends the bytes of
//! another yet: [`GivenUp::OtherSet`]. No epoch is stepped over, or validators that left long ago could sign a chain of their own.
//! The certificate makes the headers final, header h + 1 has the root of the state after block h, and each chunk proves itself
//! against that root.

use crate::block::{Header, VERSION};
use crate::epoch::{Epochs, Sets};
use crate::hash::Hash;
use crate::key::PublicKey;
use crate::light::{Client, LightError, equal};
use crate::message::{Headers, MAX_SNAPSHOTS, Message, Snapshot};
use crate::params::MAX_EXPIRY_AHEAD;
use crate::state::ProvenLeaf;
use crate::state::chunk::Piece;
use crate::validators::{Index, ValidatorSet};
use crate::vote::Cert;
use std::collections::{BTreeMap, BTreeSet};

/// Heights whose state is kept as a snapshot are multiples of this.
pub const SNAPSHOT_EVERY: u64 = 1_000;
/// Blocks behind the others from which on a snapshot is worth what is lost by it: the blocks in between.
pub const STATE_SYNC_LAG: u64 = 10_000;
/// Blocks behind the others from which on a snapshot is of no use: every node keeps 2,064, and fetching the blocks above it takes
/// a while. At the choice some newer one is near enough: of two that follow each other, both kept, one is.
const MAX_BEHIND: u64 = SNAPSHOT_EVERY + SNAPSHOT_EVERY / 4;
/// How long is waited for more peers to say which snapshots they have, in milliseconds.
const OFFERS_MS: u64 = 1_500;
/// How long for the first one of use.
const FIRST_OFFER_MS: u64 = 10_000;
/// First time-out of a request in milliseconds; it doubles with each failure of the peer in a row.
const TIMEOUT_MS: u64 = 2_000;
/// Doublings of the time-out.
const MAX_PATIENCE: u32 = 4;
/// Without anything new for this long another snapshot is chosen, in milliseconds.
const GRACE_MS: u64 = 10_000;
/// What a header adds to this time where less is left, in milliseconds.
const HEADER_MS: u64 = 10;
/// What a hand-over adds: they come one after the other.
const HANDOVER_MS: u64 = 1_000;
/// What a chunk adds: whoever sends half a MiB each time must send 128 KiB a second.
const CHUNK_MS: u64 = 4_000;
/// How long a snapshot whose parts did not come is not chosen again, in milliseconds.
const BARRED_MS: u64 = 120_000;
/// How long a peer that sent something wrong is asked nothing, in milliseconds: one damaged answer is not for ever.
const WRONG_MS: u64 = 3_600_000;
/// Peers asked for the same headers at once: those that answer nothing are named by nobody before, and may be a third.
const HEADER_PEERS: usize = 3;
/// Snapshots chosen in one attempt.
const MAX_CHOICES: u32 = 8;
/// Chunks asked for at once, over all peers: bounds the memory of those that come.
const MAX_CHUNKS_IN_FLIGHT: usize = 8;
/// Parts of the key space that are fetched at once, as far as there are peers: each a first hexadecimal digit.
const PARTS: u8 = 16;

/// A request to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Which snapshots it has.
    Offers,
    /// Headers, and what makes them final.
    Headers {
        /// First height.
        from: u64,
        /// How many.
        count: u32,
    },
    /// A part of a snapshot.
    Chunk {
        /// Height of the snapshot.
        height: u64,
        /// Key from which on leaves are wanted.
        from: Hash,
    },
}

impl Ask {
    /// As it goes over the wire; height 0 asks for offers.
    pub fn message(&self) -> Message {
        match *self {
            Ask::Offers => Message::SnapshotReq { height: 0, from: Hash::ZERO },
            Ask::Headers { from, count } => Message::HeadersReq { from, count },
            Ask::Chunk { height, from } => Message::SnapshotReq { height, from },
        }
    }

    /// Whether headers answer it: those asked for, or none.
    pub fn takes_headers(&self, reply: &Headers) -> bool {
        let Ask::Headers { from, .. } = self else { return false };
        reply.headers.first().is_none_or(|first| first.height == *from)
    }

    /// Whether a part of a snapshot answers it, or says that there is none.
    pub fn takes_snapshot(&self, reply: &Snapshot) -> bool {
        match self {
            Ask::Offers => reply.height == 0 && reply.chunk.is_none(),
            Ask::Headers { .. } => false,
            Ask::Chunk { height, from } => (reply.height, reply.from) == (*height, *from),
        }
    }
}

/// A final header, its digest, and its Final certificate if it came with one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalHeader {
    /// Digest.
    pub digest: Hash,
    /// The header.
    pub header: Header,
    /// Its certificate.
    pub cert: Option<Cert>,
}

/// All that a node needs to go on from a height without the blocks below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The last [`MAX_EXPIRY_AHEAD`] final headers up to this height, or all that the own ledger may lack: none of their batches
    /// may come again (V6).
    pub headers: Vec<FinalHeader>,
    /// Root of the state after the last one.
    pub state_root: Hash,
    /// Root of its results.
    pub results_root: Hash,
    /// The state, in any order; a leaf may be there twice.
    pub leaves: Vec<ProvenLeaf>,
}

impl Fetched {
    /// Height of the snapshot.
    pub fn height(&self) -> u64 {
        self.headers.last().map_or(0, |last| last.header.height)
    }
}

/// Why there will be no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GivenUp {
    /// No peer offers one that is far enough ahead.
    #[error("no connected peer has a snapshot that is far enough ahead")]
    NoOffer,
    /// None of the chosen ones came.
    #[error("{MAX_CHOICES} snapshots were chosen, and none came fast enough, or before it was too old")]
    NoneCame,
    /// Other validators than those known here decide by now: nothing proves their blocks. No later attempt ends otherwise.
    #[error(
        "the validators have changed since the own last block: their snapshots cannot be verified, only blocks be taken"
    )]
    OtherSet,
    /// The chain has gone beyond what this program speaks (V1): a state made by rules that it does not know is of no use. No later
    /// attempt of the same program ends otherwise.
    #[error(
        "final headers from height {height} on have version {version}, which this program does not speak: start one that does; \
         meanwhile blocks below are taken"
    )]
    NewVersion {
        /// Version of the first such header.
        version: u16,
        /// Its height.
        height: u64,
    },
}

/// What an attempt has learned for those after it.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    /// Peers that sent something wrong, and until when they are asked nothing.
    wrong: BTreeMap<Index, u64>,
    /// Failures of peers, less one for each good answer: others are asked first.
    failures: BTreeMap<Index, u32>,
    /// Peers whose snapshot did not come fast enough: what they alone offer is chosen last.
    slow: BTreeSet<Index>,
    /// Heights that are not chosen until a time in milliseconds.
    heights: BTreeMap<u64, u64>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// `offers`, `headers`, `chunks` or `install`.
    pub phase: &'static str,
    /// Height of the snapshot, 0 before one is chosen.
    pub height: u64,
    /// Chunks that came.
    pub chunks: u64,
    /// Thousandths of the key space that are here.
    pub permille: u64,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    connected: bool,
    /// Its weight in the set that decides by the own blocks.
    weight: u64,
    /// Snapshots it has; `None`: it has not said.
    offers: Option<Vec<u64>>,
    /// What it was asked and has not answered.
    asked: Option<Ask>,
    /// Until when others are not asked in its place; `None`: it took too long, or nothing is asked.
    alone_until: Option<u64>,
    /// Failures, less one for each good answer: others are asked first.
    failures: u32,
    /// Until when it is not asked again, because it had nothing to give.
    rest_until: u64,
    /// Until when it is asked nothing, because it sent something wrong.
    barred_until: u64,
    turn: u64,
}

/// A part of the key space that is not here yet.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Key from which on leaves are missing.
    next: Hash,
    /// The first key that is not its own; `None`: it is the last part.
    end: Option<Hash>,
}

/// What is fetched now.
#[derive(Clone, Debug)]
enum Phase {
    /// Who has what, since when.
    Offers { since: u64 },
    /// Headers up to the one above the snapshot.
    Headers { height: u64, client: Option<Client>, headers: Vec<FinalHeader> },
    /// The state.
    Chunks { fetched: Fetched, parts: Vec<Part>, chunks: u64 },
    /// All is here.
    Done { height: u64, chunks: u64 },
}

/// Fetches one snapshot.
#[derive(Clone, Debug)]
pub struct StateSync {
    chain: Hash,
    trust: Trust,
    /// Why no attempt can be of use, once final headers have said so.
    in_vain: Option<GivenUp>,
    /// Snapshots at or below this height are of no use.
    above: u64,
    /// What more than the faulty say of the chain's height.
    best: u64,
    peers: BTreeMap<Index, Peer>,
    phase: Phase,
    /// When another snapshot is chosen unless something comes before.
    due_ms: u64,
    choices: u32,
    turns: u64,
    bars: Bars,
}

/// Whose certificates are believed.
#[derive(Clone, Debug)]
struct Trust {
    epochs: Epochs,
    /// Those that the own blocks decide.
    own: Sets,
    /// The newest epoch whose set is known. From the one after the own on, all have the same.
    newest: u64,
}

impl Trust {
    fn new(epochs: Epochs, own: Sets) -> Trust {
        Trust { epochs, newest: own.epoch.saturating_add(1), own }
    }

    fn set_of(&self, epoch: u64) -> Option<&ValidatorSet> {
        let handed_over = epoch > self.own.epoch && epoch <= self.newest;
        if handed_over { Some(&*self.own.next) } else { self.own.of(epoch).map(|set| &**set) }
    }

    /// Height of the header that names the set after the newest known, where that is needed for headers from `first` on.
    fn handover(&self, first: u64) -> Option<u64> {
        (self.epochs.of(first) > self.newest).then(|| self.epochs.last(self.newest))
    }

    /// First of the headers that are needed below a snapshot: a batch of an earlier one has expired, or it is of an epoch that ended
    /// before those whose sets are known, and so in the own ledger.
    fn first_header(&self, height: u64) -> u64 {
        let oldest = self.own.epoch.saturating_sub(2);
        let known = oldest.checked_sub(1).map_or(0, |before| self.epochs.last(before));
        first_header(height).max(known.saturating_add(1))
    }

    /// **L2** Goes on with the epoch after the client's, whose last header is final.
    fn enter_next(&mut self, client: &mut Client) -> Result<(), LightError> {
        let next = client.epoch().saturating_add(1);
        // Beyond those known the same again, unless the header says otherwise.
        client.enter_epoch(self.set_of(next).unwrap_or(&self.own.next).clone())?;
        self.newest = self.newest.max(next);
        Ok(())
    }
}

/// Whether a snapshot is so old that another one is taken, where others have `best` blocks: to be seen before it is stored, too.
pub fn is_old(height: u64, best: u64) -> bool {
    best > height.saturating_add(MAX_BEHIND)
}

/// A time that moves on by what came, but is at most [`GRACE_MS`] away.
fn later(due_ms: u64, by_ms: u64, now_ms: u64) -> u64 {
    due_ms.saturating_add(by_ms).min(now_ms + GRACE_MS)
}

/// First of the headers that are needed below a snapshot: a batch of an earlier one has expired.
fn first_header(height: u64) -> u64 {
    height.saturating_sub(MAX_EXPIRY_AHEAD - 1).max(1)
}

impl StateSync {
    /// Begins to look for a snapshot above a height, by the sets that the own blocks decide. Times are of one clock for all
    /// attempts.
    pub fn new(chain: Hash, (sets, epochs): (Sets, Epochs), above: u64, bars: Bars, now_ms: u64) -> StateSync {
        let (trust, peers, phase) = (Trust::new(epochs, sets), BTreeMap::new(), Phase::Offers { since: now_ms });
        let (in_vain, best, due_ms, choices, turns) = (None, 0, now_ms, 0, 0);
        StateSync { chain, trust, in_vain, above, best, peers, phase, due_ms, choices, turns, bars }
    }

    /// What the next attempt begins with.
    pub fn into_bars(mut self) -> Bars {
        let failed = self.peers.iter().filter(|(_, peer)| peer.failures > 0);
        self.bars.failures = failed.map(|(index, peer)| (*index, peer.failures)).collect();
        self.bars
    }

    /// To whom a channel is open now, with the peer's weight in the set that decides by the own blocks: what others were asked is
    /// asked elsewhere. A number is the same key's in all attempts, or that of one process whatever keys it shows, which keeps its
    /// bars so.
    pub fn on_channels(&mut self, open: &[(Index, u64)]) {
        for (index, peer) in &mut self.peers {
            if peer.connected && !open.iter().any(|(number, _)| number == index) {
                peer.connected = false;
                peer.forget();
            }
        }
        for (index, weight) in open {
            let barred_until = self.bars.wrong.get(index).copied().unwrap_or(0);
            let failures = self.bars.failures.get(index).copied().unwrap_or(0);
            let peer = self.peers.entry(*index).or_insert(Peer { barred_until, failures, ..Peer::default() });
            (peer.connected, peer.weight) = (true, *weight);
        }
    }

    /// A peer said which snapshots it has, or has not the one it was asked for.
    pub fn on_offers(&mut self, peer: Index, mut heights: Vec<u64>) {
        heights.truncate(MAX_SNAPSHOTS);
        heights.sort_unstable();
        heights.dedup();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if matches!(state.asked, Some(Ask::Offers | Ask::Chunk { .. })) {
            state.answered();
        }
        state.offers = Some(heights);
    }

    /// A peer sent headers, be it late; `Err` says what is wrong with them, and it is asked nothing for an hour.
    ///
    /// # Errors
    /// Where they are not the final headers that follow those here.
    pub fn on_headers(&mut self, now_ms: u64, peer: Index, reply: Headers) -> Result<(), LightError> {
        let wanted = self.wanted_headers();
        let Some(state) = self.peers.get_mut(&peer) else { return Ok(()) };
        let Some(asked @ Ask::Headers { from, .. }) = state.asked else { return Ok(()) };
        state.answered();
        // Another one was faster.
        if wanted != Some(asked) {
            return Ok(());
        }
        let Phase::Headers { height, client, headers } = &mut self.phase else { return Ok(()) };
        if reply.headers.first().map(|first| first.height) != Some(from) {
            // It has them not, or this answers something it was asked before.
            state.failures += 1;
            state.rest_until = now_ms + TIMEOUT_MS;
            return Ok(());
        }
        let handover = self.trust.handover(self.trust.first_header(*height)) == Some(from);
        // What is above the header that holds the root is here for its certificate only.
        let needed = |header: &&Header| header.version > VERSION && header.height <= height.saturating_add(1);
        let newer = reply.headers.iter().find(needed);
        let newer = newer.map(|header| GivenUp::NewVersion { version: header.version, height: header.height });
        let mut taken = follow(&self.chain, &mut self.trust, client.as_ref(), reply);
        if handover {
            taken = taken.and_then(|(mut client, _)| {
                self.trust.enter_next(&mut client)?;
                Ok((client, Vec::new()))
            });
        }
        let (next, taken) = match taken {
            Ok(taken) => taken,
            // Final it is, so its sender is not to blame.
            Err(LightError::Set { .. }) => {
                self.in_vain = Some(GivenUp::OtherSet);
                return Ok(());
            }
            Err(wrong) => {
                self.bar(now_ms, peer);
                return Err(wrong);
            }
        };
        if newer.is_some() {
            // V1: final they are, so their sender is not to blame.
            self.in_vain = newer;
            return Ok(());
        }
        state.failures = state.failures.saturating_sub(1);
        if handover {
            self.due_ms = later(self.due_ms, HANDOVER_MS, now_ms);
            return Ok(());
        }
        *client = Some(next);
        self.due_ms = later(self.due_ms, HEADER_MS.saturating_mul(taken.len() as u64), now_ms);
        headers.extend(taken);
        let above = height.saturating_add(1);
        if let Some(at) = headers.iter().position(|header| header.header.height == above) {
            let (state_root, results_root) =
                (headers[at].header.parent_state_root, headers[at].header.parent_results_root);
            headers.truncate(at);
            let headers = std::mem::take(headers);
            let fetched = Fetched { headers, state_root, results_root, leaves: Vec::new() };
            self.phase = Phase::Chunks { fetched, parts: parts(), chunks: 0 };
            self.due_ms = now_ms + GRACE_MS;
        }
        Ok(())
    }

    /// Root and key that a chunk of a peer must be verified for; `None`: it was not asked for.
    pub fn expected(&self, peer: Index, height: u64, from: &Hash) -> Option<(Hash, Hash)> {
        let Phase::Chunks { fetched, .. } = &self.phase else { return None };
        let asked = self.peers.get(&peer)?.asked?;
        (asked == Ask::Chunk { height, from: *from } && height == fetched.height())
            .then_some((fetched.state_root, *from))
    }

    /// A chunk that was expected is verified. `None`: it proves nothing, and the peer is asked no more.
    pub fn on_chunk(&mut self, now_ms: u64, peer: Index, piece: Option<Piece>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(Ask::Chunk { from, .. }) = state.asked else { return };
        state.answered();
        let Some(piece) = piece else { return self.bar(now_ms, peer) };
        state.failures = state.failures.saturating_sub(1);
        let Phase::Chunks { fetched, parts, chunks } = &mut self.phase else { return };
        self.due_ms = later(self.due_ms, CHUNK_MS, now_ms);
        *chunks += 1;
        fetched.leaves.extend(piece.leaves);
        parts.retain_mut(|part| !part.take(&from, piece.to.as_ref()));
    }

    /// All that came, once nothing is missing; whether the leaves make the root is for the caller to see.
    pub fn take(&mut self) -> Option<Fetched> {
        let Phase::Chunks { fetched, parts, chunks } = &mut self.phase else { return None };
        if !parts.is_empty() {
            return None;
        }
        let (height, chunks) = (fetched.height(), *chunks);
        let empty = Fetched { headers: Vec::new(), leaves: Vec::new(), ..*fetched };
        let fetched = std::mem::replace(fetched, empty);
        self.phase = Phase::Done { height, chunks };
        Some(fetched)
    }

    /// What to ask now, when more than the faulty say that the chain has `best` blocks; call it after each change and several
    /// times a second.
    ///
    /// # Errors
    /// Where there is nothing to be had.
    pub fn next(&mut self, now_ms: u64, best: u64) -> Result<Vec<(Index, Ask)>, GivenUp> {
        if let Some(in_vain) = self.in_vain {
            return Err(in_vain);
        }
        self.best = best;
        self.time_out(now_ms);
        self.check_choice(now_ms);
        self.choose(now_ms)?;
        let mut asks = Vec::new();
        while let Some((peer, ask)) = self.one_more(now_ms) {
            self.turns += 1;
            let Some(state) = self.peers.get_mut(&peer) else { break };
            state.asked = Some(ask);
            state.alone_until = Some(now_ms + (TIMEOUT_MS << state.failures.min(MAX_PATIENCE)));
            state.turn = self.turns;
            asks.push((peer, ask));
        }
        Ok(asks)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let (phase, height, chunks, permille) = match &self.phase {
            Phase::Offers { .. } => ("offers", 0, 0, 0),
            Phase::Headers { height, .. } => ("headers", *height, 0, 0),
            Phase::Chunks { fetched, parts, chunks } => ("chunks", fetched.height(), *chunks, here(parts)),
            Phase::Done { height, chunks } => ("install", *height, *chunks, 1_000),
        };
        Progress { phase, height, chunks, permille }
    }

    /// Who takes too long may be asked anew, and others are. Of headers a late answer is still taken: on a slow channel all are.
    fn time_out(&mut self, now_ms: u64) {
        let late = |peer: &&mut Peer| peer.alone_until.is_some_and(|until| until <= now_ms);
        for peer in self.peers.values_mut().filter(late) {
            (peer.alone_until, peer.failures) = (None, peer.failures + 1);
            peer.asked = peer.asked.filter(|ask| matches!(ask, Ask::Headers { .. }));
        }
    }

    /// A peer sent something wrong.
    fn bar(&mut self, now_ms: u64, peer: Index) {
        let until = now_ms.saturating_add(WRONG_MS);
        self.bars.wrong.insert(peer, until);
        if let Some(state) = self.peers.get_mut(&peer) {
            state.barred_until = until;
        }
    }

    /// Drops the chosen snapshot where it comes too slowly, is too old by now, or nobody has it any more.
    fn check_choice(&mut self, now_ms: u64) {
        let (height, chunks) = match &self.phase {
            Phase::Headers { height, .. } => (*height, false),
            Phase::Chunks { fetched, parts, .. } if !parts.is_empty() => (fetched.height(), true),
            Phase::Offers { .. } | Phase::Chunks { .. } | Phase::Done { .. } => return,
        };
        let (late, old) = (now_ms >= self.due_ms, is_old(height, self.best));
        let gone = !self.peers.values().any(|peer| peer.may_have(now_ms, height));
        if late && chunks {
            // Headers any peer may be asked for, and none that is silent makes a height a bad choice; chunks only those that say
            // they have them.
            self.bars.heights.retain(|_, until| *until > now_ms);
            self.bars.heights.insert(height, now_ms + BARRED_MS);
            let have = self.peers.iter().filter(|(_, peer)| peer.may_have(now_ms, height));
            self.bars.slow.extend(have.map(|(index, _)| *index));
        }
        if late || old || gone {
            self.phase = Phase::Offers { since: now_ms };
            self.peers.values_mut().for_each(Peer::forget);
        }
    }

    /// Decides which snapshot it shall be, once all peers have said what they have, or had time to.
    fn choose(&mut self, now_ms: u64) -> Result<(), GivenUp> {
        let Phase::Offers { since } = self.phase else { return Ok(()) };
        let mut able = self.peers.values().filter(|peer| peer.able(now_ms)).peekable();
        let all = able.peek().is_some() && able.all(|peer| peer.offers.is_some());
        if !all && now_ms < since + OFFERS_MS {
            return Ok(());
        }
        let Some(height) = self.best_offer(now_ms) else {
            // One above the end of the chain may be of use in a moment.
            let able = self.peers.values().filter(|peer| peer.able(now_ms));
            let offered = able.flat_map(|peer| peer.offers.iter().flatten());
            let none = all && offered.max().is_none_or(|height| *height <= self.above);
            return if none || now_ms >= since + FIRST_OFFER_MS { Err(GivenUp::NoOffer) } else { Ok(()) };
        };
        if self.choices >= MAX_CHOICES {
            return Err(GivenUp::NoneCame);
        }
        self.choices += 1;
        self.due_ms = now_ms + GRACE_MS;
        self.phase = Phase::Headers { height, client: None, headers: Vec::new() };
        Ok(())
    }

    /// The newest snapshot that peers heavier than the faulty offer, so that one of them has it; where there is none, that of the
    /// heaviest, so that one alone cannot choose. Of use is one below the end of the chain, which has the header above it then,
    /// and not far below.
    fn best_offer(&self, now_ms: u64) -> Option<u64> {
        let mut offered: BTreeMap<u64, u64> = BTreeMap::new();
        for (index, peer) in self.peers.iter().filter(|(_, peer)| peer.able(now_ms)) {
            let weight = if self.bars.slow.contains(index) { 0 } else { peer.weight };
            for height in peer.offers.iter().flatten() {
                *offered.entry(*height).or_default() += weight;
            }
        }
        let barred = |height: &u64| self.bars.heights.get(height).is_some_and(|until| now_ms < *until);
        let of_use = |height: &u64| {
            *height > self.above && *height < self.best && !is_old(*height, self.best) && !barred(height)
        };
        let faulty = self.trust.own.current.faulty_weight();
        let rank = |(height, weight): &(u64, u64)| ((*weight).min(faulty + 1), *height);
        let useful = offered.into_iter().filter(|(height, _)| of_use(height));
        useful.max_by_key(rank).map(|(height, _)| height)
    }

    /// The headers that come next, while headers are fetched.
    fn wanted_headers(&self) -> Option<Ask> {
        let Phase::Headers { height, client, .. } = &self.phase else { return None };
        let first = self.trust.first_header(*height);
        if let Some(from) = self.trust.handover(first) {
            return Some(Ask::Headers { from, count: 1 });
        }
        let from = client.as_ref().map_or(first, |client| client.head().height.saturating_add(1));
        let count = u32::try_from(height.saturating_add(2).saturating_sub(from)).unwrap_or(u32::MAX);
        Some(Ask::Headers { from, count })
    }

    /// A request that some idle peer can answer.
    fn one_more(&self, now_ms: u64) -> Option<(Index, Ask)> {
        let asked = |ask: &Ask| self.peers.values().filter(|peer| peer.is_asked(ask)).count();
        match &self.phase {
            Phase::Offers { .. } => Some((self.idle(now_ms, |peer| peer.offers.is_none())?, Ask::Offers)),
            Phase::Headers { .. } => {
                let ask = self.wanted_headers().filter(|ask| asked(ask) < HEADER_PEERS)?;
                Some((self.idle(now_ms, |_| true)?, ask))
            }
            Phase::Chunks { fetched, parts, .. } => {
                if let Some(new) = self.idle(now_ms, |peer| peer.offers.is_none()) {
                    return Some((new, Ask::Offers));
                }
                let open = |peer: &&Peer| matches!(peer.asked, Some(Ask::Chunk { .. }));
                if self.peers.values().filter(open).count() >= MAX_CHUNKS_IN_FLIGHT {
                    return None;
                }
                let height = fetched.height();
                let ask = |part: &Part| Ask::Chunk { height, from: part.next };
                let ask = parts.iter().map(ask).find(|ask| asked(ask) == 0)?;
                Some((self.idle(now_ms, |peer| peer.may_have(now_ms, height))?, ask))
            }
            Phase::Done { .. } => None,
        }
    }

    /// Of the peers that can be asked: the one with the fewest failures, of equals the one not asked for longest.
    fn idle(&self, now_ms: u64, able: impl Fn(&Peer) -> bool) -> Option<Index> {
        let free = |peer: &Peer| peer.able(now_ms) && peer.alone_until.is_none() && peer.rest_until <= now_ms;
        let idle = self.peers.iter().filter(|(_, peer)| free(peer) && able(peer));
        idle.min_by_key(|(_, peer)| (peer.failures, peer.turn)).map(|(index, _)| *index)
    }
}

impl Peer {
    fn able(&self, now_ms: u64) -> bool {
        self.connected && self.barred_until <= now_ms
    }

    /// Whether it still has time to answer this.
    fn is_asked(&self, ask: &Ask) -> bool {
        self.alone_until.is_some() && self.asked.as_ref() == Some(ask)
    }

    /// What it was asked is done with.
    fn answered(&mut self) {
        (self.asked, self.alone_until) = (None, None);
    }

    /// What it was asked, and what it has, is of another choice, or its channel is gone.
    fn forget(&mut self) {
        self.answered();
        self.offers = None;
    }

    fn may_have(&self, now_ms: u64, height: u64) -> bool {
        self.able(now_ms) && self.offers.as_ref().is_some_and(|offers| offers.contains(&height))
    }
}

/// The headers of a reply, each of which must follow from the one before it, up to the certified last one (L1).
fn follow(
    chain: &Hash,
    trust: &mut Trust,
    client: Option<&Client>,
    reply: Headers,
) -> Result<(Client, Vec<FinalHeader>), LightError> {
    let Headers { headers, cert } = reply;
    // The caller saw that there is one, and asked for none of an epoch whose set is not known.
    let first = headers.first().ok_or(LightError::NotFinal { height: 0 })?;
    let mut client = match (client, trust.set_of(trust.epochs.of(first.height))) {
        (Some(client), _) => client.clone(),
        (None, Some(set)) => {
            equal(first.height, "epoch", trust.epochs.of(first.height), first.epoch)?;
            Client::before(*chain, set.clone(), first)
        }
        (None, None) => return Err(LightError::NotFinal { height: first.height }),
    };
    let (last, mut taken) = (headers.len().saturating_sub(1), Vec::with_capacity(headers.len()));
    for (index, header) in headers.into_iter().enumerate() {
        let cert = cert.clone().filter(|_| index == last);
        if header.epoch > client.epoch() {
            // Refused unless the last header is the certified end of its epoch, and names the set known for the next one.
            trust.enter_next(&mut client)?;
        }
        // V1 is looked at once they are final: before that anybody could have made them.
        let digest = client.advance_over(&header, cert.as_ref(), PublicKey::verifies)?;
        taken.push(FinalHeader { digest, header, cert });
    }
    let head = client.head();
    // Under a set that is known, but not final: without a certificate anybody could have made them.
    if client.trusted().map(|trusted| trusted.height) != Some(head.height) {
        return Err(LightError::NotFinal { height: head.height });
    }
    Ok((client, taken))
}

/// The whole key space.
fn parts() -> Vec<Part> {
    let start = |digit: u8| {
        let mut key = Hash::ZERO;
        key.0[0] = digit << 4;
        key
    };
    (0..PARTS).map(|digit| Part { next: start(digit), end: (digit + 1 < PARTS).then(|| start(digit + 1)) }).collect()
}

/// Thousandths of the key space that are in no part.
fn here(parts: &[Part]) -> u64 {
    let place = |key: &Hash| u64::from(u32::from_be_bytes([key.0[0], key.0[1], key.0[2], key.0[3]]));
    let end = |part: &Part| part.end.as_ref().map_or(1 << 32, place);
    let missing: u64 = parts.iter().map(|part| end(part).saturating_sub(place(&part.next))).sum();
    1_000 - (missing * 1_000).div_ceil(1 << 32).min(1_000)
}

impl Part {
    /// Leaves from one key to another came, `None`: to the last. True where nothing of this part is missing then.
    fn take(&mut self, from: &Hash, to: Option<&Hash>) -> bool {
        if self.next < *from {
            return false;
        }
        let Some(to) = to else { return true };
        if self.end.is_some_and(|end| end <= *to) {
            return true;
        }
        self.next = self.next.max(*to);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Block;
    use crate::hash::plain;
    use crate::key::Address;
    use crate::state::chunk::CHUNK_BYTES;
    use crate::state::{Account, State};
    use crate::sync::reply_headers;
    use crate::sync::tests::{block, cert, genesis, set, tip_of};
    use crate::vote::Kind;
    use crate::vote::tests::{chain, keys, set_of};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use std::sync::Arc;

    /// Height of the snapshot in these tests.
    const HEIGHT: u64 = 30;
    /// From this height on the state is the same.
    const FIRST: u64 = 20;
    /// End of the chain by the word of the others.
    const BEST: u64 = HEIGHT + 5;

    /// A chain with a snapshot.
    struct Chain {
        state: State,
        blocks: Vec<Block>,
    }

    fn chain_with(accounts: u32) -> Chain {
        let address = |i: u32| Address(plain(&i.to_le_bytes()).0[..20].try_into().expect("20 bytes"));
        let account = |i| (address(i), Account { balance: u64::from(i) + 1, nonce: 1 });
        let state = State::from_accounts((0..accounts).map(account));
        let mut blocks: Vec<Block> = Vec::new();
        for height in 1..=BEST {
            let tip = blocks.last().map_or_else(genesis, |block| tip_of(&block.header));
            let mut next = block(&tip);
            if height > FIRST {
                (next.header.parent_state_root, next.header.parent_results_root) = (state.root(), plain(b"results"));
            }
            blocks.push(next);
        }
        Chain { state, blocks }
    }

    impl Chain {
        /// Headers of which those at `certified` have a Final certificate.
        fn found(&self, from: u64, certified: &[u64]) -> Vec<(Header, Option<Cert>)> {
            let own =
                |header: &Header| certified.contains(&header.height).then(|| cert(header, Kind::Final, &[0, 1, 3]));
            let headers = self.blocks.iter().skip(from as usize - 1).map(|block| &block.header);
            headers.map(|header| (header.clone(), own(header))).collect()
        }

        fn headers(&self, from: u64) -> Headers {
            let certified = if from <= HEIGHT / 2 { HEIGHT / 2 } else { HEIGHT + 3 };
            reply_headers(from, self.found(from, &[certified]))
        }

        /// Puts the blocks above this height into epoch 1, which has the same set.
        fn begin_epoch_1_above(&mut self, last: u64) {
            let mut parent = (self.blocks[last as usize].header.parent, 0);
            for Block { header, .. } in self.blocks.iter_mut().skip(last as usize) {
                (header.epoch, header.slot) = (1, header.height - last);
                (header.parent, header.parent_slot) = parent;
                header.proposer = set().leader(1, header.slot);
                parent = (header.digest(), header.slot);
            }
        }

        fn piece(&self, from: &Hash) -> Piece {
            self.state.chunk(from, CHUNK_BYTES).verify(&self.state.root(), from).expect("genuine")
        }
    }

    /// What a node without a block knows.
    fn at_genesis(epoch_blocks: u64) -> (Sets, Epochs) {
        (Sets::genesis(Arc::new(set())), Epochs::new(epoch_blocks))
    }

    /// Channels to peers, the first of whom are the members.
    fn open(peers: impl IntoIterator<Item = Index>) -> Vec<(Index, u64)> {
        peers.into_iter().map(|peer| (peer, set().weight(peer))).collect()
    }

    fn started(peers: Index) -> StateSync {
        anew(peers, Bars::default(), 0)
    }

    /// An attempt after others.
    fn anew(peers: Index, bars: Bars, now_ms: u64) -> StateSync {
        let mut sync = StateSync::new(chain(), at_genesis(1_000), 10, bars, now_ms);
        sync.on_channels(&open(0..peers));
        sync
    }

    /// Tells what the first peers offer, once they were asked.
    fn told(sync: &mut StateSync, now: u64, best: u64, offers: &[&[u64]]) {
        let asked = sync.next(now, best).expect("peers");
        assert_eq!(asked.len(), offers.len(), "{asked:?}");
        assert!(asked.iter().all(|(_, ask)| *ask == Ask::Offers), "{asked:?}");
        (0..).zip(offers).for_each(|(peer, heights)| sync.on_offers(peer, heights.to_vec()));
    }

    /// Asks, and answers requests for headers until all are here.
    fn head(sync: &mut StateSync, chain: &Chain, now: u64) {
        while sync.progress().phase != "chunks" {
            for (peer, ask) in sync.next(now, BEST).expect("a snapshot") {
                let Ask::Headers { from, .. } = ask else { panic!("{ask:?}") };
                sync.on_headers(now, peer, chain.headers(from)).expect("genuine");
            }
        }
    }

    fn chosen(sync: &mut StateSync, now: u64, best: u64) -> u64 {
        sync.next(now, best).expect("an offer");
        sync.progress().height
    }

    /// Past the offers: every peer has the snapshot.
    fn offered(peers: Index) -> StateSync {
        let mut sync = started(peers);
        assert_eq!(sync.next(0, BEST).expect("peers").len(), usize::from(peers));
        (0..peers).for_each(|peer| sync.on_offers(peer, vec![HEIGHT]));
        sync
    }

    /// Past the headers too.
    fn headed(chain: &Chain, peers: Index) -> StateSync {
        let mut sync = offered(peers);
        head(&mut sync, chain, 0);
        sync
    }

    #[test]
    fn s3_the_newest_snapshot_that_more_than_the_faulty_have_is_chosen_or_else_that_of_the_heaviest() {
        let mut sync = started(4);
        told(&mut sync, 0, BEST, &[&[20, 30], &[20, 30], &[20], &[33]]);
        assert_eq!(chosen(&mut sync, 1, BEST), 30, "one honest peer has it, whoever lags; 33 may be a lie");
        assert_eq!(sync.progress().phase, "headers");
        let mut late = started(3);
        late.next(0, BEST).expect("peers");
        late.on_offers(0, vec![20, 30]);
        late.next(OFFERS_MS - 1, BEST).expect("others may have more");
        assert_eq!(late.progress().phase, "offers");
        assert_eq!(chosen(&mut late, OFFERS_MS, BEST), 30);
        let mut twice = started(2);
        told(&mut twice, 0, BEST, &[&[20, 20], &[30]]);
        assert_eq!(chosen(&mut twice, 0, BEST), 30, "said twice it is no heavier");
        let mut heavy = StateSync::new(chain(), at_genesis(1_000), 10, Bars::default(), 0);
        heavy.on_channels(&[(0, 2), (1, 1), (2, 0)]);
        told(&mut heavy, 0, BEST, &[&[20], &[30], &[30]]);
        assert_eq!(chosen(&mut heavy, 0, BEST), 20, "weight counts, not the number of peers");
    }

    #[test]
    fn s3_an_offer_at_or_above_the_end_of_the_chain_or_far_below_it_is_of_no_use() {
        let mut sync = started(4);
        told(&mut sync, 0, BEST, &[&[u64::MAX, BEST], &[u64::MAX], &[BEST + 1, u64::MAX - 1], &[30]]);
        assert_eq!(chosen(&mut sync, 0, BEST), 30, "whatever most say");
        let mut none = started(1);
        told(&mut none, 0, BEST, &[&[BEST, u64::MAX]]);
        assert_eq!(chosen(&mut none, FIRST_OFFER_MS - 1, BEST), 0, "the chain may get there");
        let mut grown = none.clone();
        assert_eq!(chosen(&mut grown, FIRST_OFFER_MS - 1, BEST + 1), BEST);
        assert_eq!(none.next(FIRST_OFFER_MS, BEST), Err(GivenUp::NoOffer));
        let mut greatest = started(1);
        told(&mut greatest, 0, u64::MAX, &[&[u64::MAX - 1]]);
        assert_eq!(chosen(&mut greatest, 0, u64::MAX), u64::MAX - 1, "nor does anything overflow");
        let mut old = started(1);
        told(&mut old, 0, BEST, &[&[HEIGHT]]);
        let mut new = old.clone();
        assert_eq!(chosen(&mut new, 0, HEIGHT + MAX_BEHIND), HEIGHT);
        assert_eq!(chosen(&mut old, 0, HEIGHT + MAX_BEHIND + 1), 0);
    }

    #[test]
    fn s3_a_height_whose_chunks_do_not_come_is_left_for_another_and_remembered() {
        let chain = chain_with(10);
        let mut sync = started(2);
        told(&mut sync, 0, BEST, &[&[25, 30], &[25, 30]]);
        head(&mut sync, &chain, 0);
        assert_eq!(chosen(&mut sync, GRACE_MS - 1, BEST), 30);
        told(&mut sync, GRACE_MS, BEST, &[&[25, 30], &[25, 30]]);
        assert_eq!(chosen(&mut sync, GRACE_MS, BEST), 25);
        let bars = sync.into_bars();
        for (now, height) in [(GRACE_MS + BARRED_MS - 1, 25), (GRACE_MS + BARRED_MS, 30)] {
            let mut next = anew(1, bars.clone(), now);
            told(&mut next, now, BEST, &[&[25, 30]]);
            assert_eq!(chosen(&mut next, now, BEST), height, "after {now} ms");
        }
    }

    #[test]
    fn s3_a_height_is_not_left_because_peers_send_no_headers() {
        let mut sync = started(2);
        told(&mut sync, 0, BEST, &[&[25, 30], &[25, 30]]);
        assert_eq!(chosen(&mut sync, 0, BEST), 30);
        told(&mut sync, GRACE_MS, BEST, &[&[25, 30], &[25, 30]]);
        assert_eq!(chosen(&mut sync, GRACE_MS, BEST), 30, "any other peer may have them");
    }

    #[test]
    fn s3_headers_are_asked_of_three_peers_at_once_and_the_first_answer_counts() {
        let chain = chain_with(10);
        let mut sync = offered(5);
        let asks = sync.next(0, BEST).expect("a snapshot");
        let first = Ask::Headers { from: 1, count: HEIGHT as u32 + 1 };
        assert_eq!(asks, [(0, first), (1, first), (2, first)]);
        sync.on_headers(0, 1, chain.headers(1)).expect("genuine");
        let from = HEIGHT / 2 + 1;
        let second = Ask::Headers { from, count: (HEIGHT + 2 - from) as u32 };
        assert_eq!(sync.next(0, BEST), Ok(vec![(3, second), (4, second), (1, second)]), "0 and 2 are busy");
        let mut lie = chain.headers(1);
        lie.cert = None;
        sync.on_headers(0, 0, lie).expect("nobody looks at it");
        sync.on_headers(0, 2, chain.headers(1)).expect("needless");
        sync.on_headers(0, 4, chain.headers(from)).expect("genuine");
        assert_eq!(sync.progress().phase, "chunks");
    }

    #[test]
    fn s3_headers_that_come_late_are_taken_all_the_same() {
        let chain = chain_with(10);
        let mut sync = offered(5);
        let asked = |asks: Vec<(Index, Ask)>| asks.iter().map(|(peer, _)| *peer).collect::<Vec<_>>();
        assert_eq!(asked(sync.next(0, BEST).expect("a snapshot")), [0, 1, 2]);
        assert_eq!(asked(sync.next(TIMEOUT_MS, BEST).expect("others")), [3, 4, 0]);
        sync.on_headers(TIMEOUT_MS + 400, 1, chain.headers(1)).expect("genuine");
        assert_eq!(sync.wanted_headers(), Some(Ask::Headers { from: 16, count: 16 }));
    }

    /// The silent ones have the least keys, which who knows the order can make.
    #[test]
    fn s3_a_third_of_the_peers_that_send_no_headers_keep_no_snapshot_away() {
        let chain = chain_with(10);
        for (peers, silent, limit) in [(16, 5, GRACE_MS), (31, 10, GRACE_MS), (100, 33, 3 * GRACE_MS)] {
            let (mut sync, mut now) = (started(peers), 0);
            let mut network: Vec<(Index, u64)> = Vec::new();
            while sync.progress().phase != "chunks" {
                assert!(now < limit, "{silent} of {peers} are silent: {:?}", sync.progress());
                for (peer, from) in std::mem::take(&mut network) {
                    let _ = sync.on_headers(now, peer, chain.headers(from));
                }
                for (peer, ask) in sync.next(now, BEST).expect("a snapshot") {
                    match ask {
                        Ask::Headers { from, .. } if peer >= silent => network.push((peer, from)),
                        Ask::Offers => sync.on_offers(peer, vec![HEIGHT]),
                        _ => {}
                    }
                }
                now += 100;
            }
            let mut next = anew(peers, sync.into_bars(), now);
            told(&mut next, now, BEST, &vec![&[HEIGHT][..]; usize::from(peers)]);
            let asks = next.next(now, BEST).expect("headers");
            assert!(asks.iter().all(|(peer, _)| *peer > 2), "nor those that failed, in the next attempt: {asks:?}");
        }
    }

    #[test]
    fn s3_who_sent_something_wrong_is_asked_again_after_an_hour() {
        let mut sync = offered(1);
        sync.next(0, BEST).expect("a snapshot");
        sync.on_headers(0, 0, Headers { cert: None, ..chain_with(10).headers(1) }).expect_err("not final");
        let bars = sync.into_bars();
        assert_eq!(anew(1, bars.clone(), WRONG_MS - 1).next(WRONG_MS - 1, BEST), Ok(Vec::new()));
        assert_eq!(anew(1, bars, WRONG_MS).next(WRONG_MS, BEST), Ok(vec![(0, Ask::Offers)]));
    }

    #[test]
    fn s3_headers_that_come_in_drops_give_no_time_without_end() {
        let chain = chain_with(10);
        let mut sync = offered(1);
        sync.next(0, BEST).expect("a snapshot");
        // One header in two seconds.
        for now in (1..).map(|n| 2_000 * n) {
            assert!(now < 20_000, "still waiting");
            let from = now / 2_000;
            let header = reply_headers(from, chain.found(from, &[from])[..1].to_vec());
            let _ = sync.on_headers(now, 0, header);
            if sync.next(now, BEST).expect("peers").iter().any(|(_, ask)| *ask == Ask::Offers) {
                break;
            }
        }
        assert_eq!(sync.progress().phase, "offers");
    }

    #[test]
    fn s3_a_snapshot_that_comes_too_slowly_is_left_and_its_peers_alone_choose_none_any_more() {
        let chain = chain_with(100_000);
        let mut sync = started(2);
        told(&mut sync, 0, BEST, &[&[25], &[32]]);
        head(&mut sync, &chain, 0);
        let chunk = |sync: &mut StateSync, now: u64| {
            let asked = sync.next(now, BEST).expect("a snapshot");
            let [(peer, Ask::Chunk { height: 32, from })] = asked[..] else { panic!("{asked:?}") };
            (peer, chain.piece(&from))
        };
        let (peer, piece) = chunk(&mut sync, 0);
        sync.on_chunk(9_000, peer, Some(piece));
        let (peer, piece) = chunk(&mut sync, 9_000);
        assert_eq!(chosen(&mut sync, 13_999, BEST), 32, "one chunk gives four more seconds");
        let mut steady = sync.clone();
        steady.on_chunk(13_000, peer, Some(piece));
        assert_eq!(chosen(&mut steady, 17_999, BEST), 32);
        told(&mut sync, 14_000, BEST, &[&[25], &[33]]);
        assert_eq!(chosen(&mut sync, 14_000, BEST), 25, "the other is newer, but only the slow one has it");
        let mut next = anew(2, sync.into_bars(), 80_000);
        told(&mut next, 80_000, BEST, &[&[25], &[33]]);
        assert_eq!(chosen(&mut next, 80_000, BEST), 25, "nor in the next attempt");
        let bars = next.into_bars();
        let mut alone = anew(2, bars, 90_000);
        told(&mut alone, 90_000, BEST, &[&[], &[33]]);
        assert_eq!(chosen(&mut alone, 90_000, BEST), 33, "where there is no other it is asked");
    }

    #[test]
    fn s3_another_snapshot_is_chosen_when_the_last_peer_that_has_it_leaves_or_lies() {
        let chain = chain_with(10);
        let offers = |sync: &mut StateSync| sync.next(0, BEST).expect("peers").iter().any(|(_, a)| *a == Ask::Offers);
        let begun = || {
            let mut sync = started(2);
            told(&mut sync, 0, BEST, &[&[25], &[30]]);
            head(&mut sync, &chain, 0);
            sync.next(0, BEST).expect("chunks");
            sync
        };
        assert!(!offers(&mut begun()));
        let mut left = begun();
        left.on_channels(&open([0]));
        assert!(offers(&mut left));
        let mut lied = begun();
        lied.on_chunk(0, 1, None);
        assert!(offers(&mut lied));
        lied.on_offers(0, vec![25]);
        assert_eq!(chosen(&mut lied, 0, BEST), 25);
        let mut next = anew(2, lied.into_bars(), 0);
        assert_eq!(
            next.next(0, BEST),
            Ok(vec![(0, Ask::Offers)]),
            "the liar is asked no more in the next attempt either"
        );
    }

    #[test]
    fn s3_a_snapshot_that_falls_too_far_behind_before_it_is_here_is_left_for_a_newer_one() {
        assert!(!is_old(HEIGHT, HEIGHT + MAX_BEHIND) && is_old(HEIGHT, HEIGHT + MAX_BEHIND + 1));
        let chain = chain_with(10);
        let mut sync = headed(&chain, 2);
        sync.next(0, HEIGHT + MAX_BEHIND).expect("chunks");
        assert_eq!(sync.progress().phase, "chunks");
        told(&mut sync, 0, HEIGHT + MAX_BEHIND + 1, &[&[HEIGHT], &[HEIGHT, 1_030]]);
        assert_eq!(chosen(&mut sync, 0, HEIGHT + MAX_BEHIND + 1), 1_030);
        assert!(sync.clone().into_bars().slow.is_empty(), "nobody was slow, the chain is fast");
        let mut heading = offered(2);
        heading.next(0, BEST).expect("headers");
        told(&mut heading, 0, HEIGHT + MAX_BEHIND + 1, &[&[], &[]]);
        let mut whole = headed(&chain, 1);
        whole.next(0, BEST).expect("chunks");
        whole.on_chunk(0, 0, Some(chain.piece(&Hash::ZERO)));
        whole.next(GRACE_MS, HEIGHT + MAX_BEHIND + 1).expect("all is here");
        assert!(whole.take().is_some());
    }

    #[test]
    fn s3_an_answer_is_taken_for_what_was_asked_only() {
        let reply = |height, from, chunk| Snapshot { heights: vec![30], height, from, chunk };
        let chunk = || Some(chain_with(3).state.chunk(&Hash::ZERO, CHUNK_BYTES));
        let (key, ask) = (plain(b"key"), Ask::Chunk { height: 30, from: plain(b"key") });
        assert!(ask.takes_snapshot(&reply(30, key, chunk())) && ask.takes_snapshot(&reply(30, key, None)));
        assert!(!ask.takes_snapshot(&reply(30, Hash::ZERO, chunk())) && !ask.takes_snapshot(&reply(31, key, chunk())));
        assert!(Ask::Offers.takes_snapshot(&reply(0, Hash::ZERO, None)));
        assert!(!Ask::Offers.takes_snapshot(&reply(0, Hash::ZERO, chunk())), "nobody asked for leaves");
        assert!(!Ask::Offers.takes_snapshot(&reply(30, key, None)));
        let headers = chain_with(3).headers(1);
        let ask = Ask::Headers { from: 1, count: 9 };
        assert!(ask.takes_headers(&headers) && ask.takes_headers(&Headers::default()));
        assert!(!Ask::Headers { from: 2, count: 9 }.takes_headers(&headers));
        assert!(!ask.takes_snapshot(&reply(0, Hash::ZERO, None)) && !Ask::Offers.takes_headers(&Headers::default()));
    }

    #[test]
    fn s3_a_snapshot_that_is_not_far_enough_ahead_is_none() {
        let mut sync = started(1);
        sync.next(0, BEST).expect("a peer");
        sync.on_offers(0, vec![9, 10]);
        assert_eq!(sync.next(1, BEST), Err(GivenUp::NoOffer));
        let mut silent = started(1);
        silent.next(0, BEST).expect("a peer");
        assert!(silent.next(FIRST_OFFER_MS - 1, BEST).is_ok());
        assert_eq!(silent.next(FIRST_OFFER_MS, BEST), Err(GivenUp::NoOffer));
        assert_eq!(started(0).next(FIRST_OFFER_MS, BEST), Err(GivenUp::NoOffer), "nobody is connected");
    }

    #[test]
    fn s3_headers_reach_down_as_far_as_a_batch_may_be_named_again() {
        assert_eq!((first_header(1), first_header(2_000), first_header(2_001)), (1, 1, 2));
        // V6: a batch of the block at 3,000 may be named up to 5,000; that of 3,001 still in 5,001, the next block.
        assert_eq!(first_header(5_000), 3_001);
        let chain = chain_with(10);
        let mut sync = headed(&chain, 1);
        let Ok(asks) = sync.next(0, BEST) else { panic!("a snapshot") };
        for (peer, _) in asks {
            sync.on_chunk(0, peer, Some(chain.piece(&Hash::ZERO)));
        }
        let fetched = sync.take().expect("all is here");
        let heights: Vec<u64> = fetched.headers.iter().map(|header| header.header.height).collect();
        assert_eq!(heights, (1..=HEIGHT).collect::<Vec<_>>());
        assert_eq!(fetched.height(), HEIGHT);
        assert_eq!((fetched.state_root, fetched.results_root), (chain.state.root(), plain(b"results")));
        let certified: Vec<u64> =
            fetched.headers.iter().filter(|h| h.cert.is_some()).map(|h| h.header.height).collect();
        assert_eq!(certified, [HEIGHT / 2], "a reply ends at a certified header, and this one is kept");
    }

    #[test]
    fn s3_headers_that_no_certificate_of_the_set_makes_final_are_refused() {
        let chain = chain_with(10);
        let good = chain.headers(1);
        let refused = |change: &dyn Fn(&mut Headers)| {
            let mut sync = offered(2);
            let asks = sync.next(0, BEST).expect("a snapshot");
            let ask = Ask::Headers { from: 1, count: HEIGHT as u32 + 1 };
            assert_eq!(asks, [(0, ask), (1, ask)]);
            let mut headers = good.clone();
            change(&mut headers);
            sync.on_headers(0, 0, headers).expect_err("it was changed");
            sync.clone().on_headers(0, 1, good.clone()).expect("another peer's are taken");
            sync.on_channels(&open([0]));
            assert_eq!(sync.next(0, BEST), Ok(Vec::new()), "the liar is asked no more");
        };
        refused(&|reply| reply.cert = None);
        refused(&|reply| drop(reply.headers.pop()));
        refused(&|reply| reply.headers[3].parent_state_root.0[0] ^= 1);
        refused(&|reply| reply.headers[14].parent_state_root.0[0] ^= 1);
        refused(&|reply| reply.headers[3].set_hash.0[0] ^= 1);
        refused(&|reply| drop(reply.headers.remove(3)));
        refused(&|reply| {
            let last = reply.headers.last().expect("some");
            reply.cert = Some(cert(last, Kind::Notar, &[0, 1, 2]));
        });
        refused(&|reply| {
            let last = reply.headers.last().expect("some");
            reply.cert = Some(cert(last, Kind::Final, &[0, 1]));
        });
        refused(&|reply| {
            // A chain of its own, on which the rest must not be built.
            reply.headers[14].time_ms += 1;
            reply.cert = reply.headers.last().map(|last| cert(last, Kind::Final, &[0, 1]));
        });
    }

    #[test]
    fn s3_headers_of_another_epoch_than_their_heights_are_in_are_refused_though_its_set_has_certified_them() {
        let mut chain = chain_with(10);
        chain.begin_epoch_1_above(0);
        let mut sync = offered(1);
        sync.next(0, BEST).expect("a snapshot");
        let refused = sync.on_headers(0, 0, chain.headers(1)).expect_err("blocks 1 to 1,000 are of epoch 0");
        assert!(refused.to_string().contains("epoch"), "{refused}");
    }

    #[test]
    fn s3_headers_of_a_second_reply_must_follow_from_the_first() {
        let chain = chain_with(10);
        let mut sync = offered(1);
        sync.next(0, BEST).expect("a snapshot");
        sync.on_headers(0, 0, chain.headers(1)).expect("genuine");
        let from = HEIGHT / 2 + 1;
        assert_eq!(sync.next(0, BEST), Ok(vec![(0, Ask::Headers { from, count: (HEIGHT + 1 - from + 1) as u32 })]));
        // Final by its certificate, but of another chain: the caller's set would have signed twice.
        let mut other = chain.headers(from);
        other.headers[0].parent = plain(b"other");
        sync.on_headers(0, 0, other).expect_err("it does not link");
    }

    #[test]
    fn s3_headers_go_on_over_the_end_of_an_epoch_if_that_is_certified() {
        const LAST: u64 = 14;
        let mut chain = chain_with(10);
        chain.begin_epoch_1_above(LAST);
        let reply = |from, certified: &[u64]| reply_headers(from, chain.found(from, certified));
        let first = reply(1, &[LAST, HEIGHT + 3]);
        assert_eq!(first.headers.len() as u64, LAST, "an answer ends with its epoch");
        let mut sync = offered(1);
        sync.next(0, BEST).expect("a snapshot");
        sync.on_headers(0, 0, first).expect("genuine");
        sync.next(0, BEST).expect("more headers");
        sync.on_headers(0, 0, reply(LAST + 1, &[HEIGHT + 3])).expect("genuine");
        assert_eq!(sync.progress().phase, "chunks");

        let mut lied = offered(1);
        lied.next(0, BEST).expect("a snapshot");
        lied.on_headers(0, 0, reply(1, &[LAST - 1])).expect("final as far as it goes");
        lied.next(0, BEST).expect("more headers");
        let mut whole = chain.found(LAST, &[HEIGHT + 3]);
        let cert = whole.iter_mut().find_map(|(_, cert)| cert.take());
        let headers = whole.into_iter().take((HEIGHT + 4 - LAST) as usize).map(|(header, _)| header).collect();
        let found = lied.on_headers(0, 0, Headers { headers, cert });
        assert_eq!(found, Err(LightError::NotFinal { height: LAST }), "a boundary block that is not final itself");
    }

    /// Blocks in an epoch of a long chain, and its last height.
    const EPOCH: u64 = 1_000;
    const LAST: u64 = 5_003;

    /// Headers 1 ..= [`LAST`] by the same validators; `change` may do what it likes to each before the next one names it.
    fn long_chain(change: impl Fn(&mut Header)) -> Vec<Header> {
        let (epochs, set, first) = (Epochs::new(EPOCH), set(), block(&genesis()).header);
        let mut headers: Vec<Header> = Vec::new();
        for height in 1..=LAST {
            let (epoch, slot) = (epochs.of(height), (height - 1) % EPOCH + 1);
            let (parent, parent_slot) = headers
                .last()
                .map_or((chain(), 0), |parent| (parent.digest(), epochs.parent_slot(parent.height, parent.slot)));
            let (time_ms, proposer) = (10 * height, set.leader(epoch, slot));
            let mut header = Header { epoch, slot, height, parent, parent_slot, time_ms, proposer, ..first.clone() };
            change(&mut header);
            headers.push(header);
        }
        headers
    }

    /// What an honest peer answers.
    fn long_reply(headers: &[Header], from: u64) -> Headers {
        let certified = |header: &Header| Epochs::new(EPOCH).is_boundary(header.height) || header.height == LAST;
        let found = headers.iter().skip(from as usize - 1).take(EPOCH as usize);
        let found = found.map(|h| (h.clone(), certified(h).then(|| cert(h, Kind::Final, &[0, 1, 3]))));
        reply_headers(from, found.collect())
    }

    /// A peer, and a snapshot of height 5,000.
    fn long_sync(known: (Sets, Epochs)) -> StateSync {
        let mut sync = StateSync::new(chain(), known, 10, Bars::default(), 0);
        sync.on_channels(&open([0]));
        told(&mut sync, 0, LAST, &[&[5_000]]);
        sync
    }

    /// What is asked for, answered by `reply`, until that is refused or no headers are wanted any more.
    fn walk(sync: &mut StateSync, reply: impl Fn(u64) -> Headers) -> (Vec<(u64, u32)>, Result<(), LightError>) {
        let mut asked = Vec::new();
        while let Ok(asks) = sync.next(0, LAST) {
            let [(0, Ask::Headers { from, count })] = asks[..] else { break };
            asked.push((from, count));
            if let Err(wrong) = sync.on_headers(0, 0, reply(from)) {
                return (asked, Err(wrong));
            }
        }
        (asked, Ok(()))
    }

    #[test]
    fn l2_hand_overs_lead_from_the_epochs_that_are_known_to_that_of_a_snapshot_and_none_is_left_out() {
        let headers = long_chain(|_| {});
        let mut sync = long_sync(at_genesis(EPOCH));
        let (asked, found) = walk(&mut sync, |from| long_reply(&headers, from));
        assert_eq!((sync.progress().phase, found), ("chunks", Ok(())));
        // Epochs 0 and 1 have the set of genesis; 3,001 is the first of the last 2,000 headers.
        assert_eq!(asked, [(2_000, 1), (3_000, 1), (3_001, 2_001), (4_001, 1_001), (5_001, 1)]);
        let later = Sets { epoch: 2, ..at_genesis(EPOCH).0 };
        let (asked, _) = walk(&mut long_sync((later, Epochs::new(EPOCH))), |from| long_reply(&headers, from));
        assert_eq!(asked[0].0, 3_001, "the own blocks decide the sets of epochs up to 3");
    }

    #[test]
    fn l2_a_hand_over_that_no_certificate_makes_final_is_refused_and_leads_nowhere() {
        let headers = long_chain(|_| {});
        let light = |from| {
            let mut reply = long_reply(&headers, from);
            reply.cert = reply.headers.last().map(|last| cert(last, Kind::Final, &[0, 1]));
            reply
        };
        let mut sync = long_sync(at_genesis(EPOCH));
        let (asked, found) = walk(&mut sync, light);
        assert!(matches!(found, Err(LightError::Cert { height: 2_000, .. })), "{found:?}");
        assert_eq!((asked, sync.trust.newest), (vec![(2_000, 1)], 1));
        assert!(sync.into_bars().wrong.contains_key(&0));
    }

    #[test]
    fn s3_where_other_validators_decide_by_now_nobody_is_barred_and_no_snapshot_taken() {
        for end in [2_000, 3_000, 4_000, 5_000] {
            let headers = long_chain(|header| {
                if header.height == end {
                    header.next_set_hash = plain(b"others");
                }
            });
            let mut sync = long_sync(at_genesis(EPOCH));
            let (asked, found) = walk(&mut sync, |from| long_reply(&headers, from));
            assert_eq!(found, Ok(()), "final all the same");
            assert!(asked.iter().all(|(from, _)| *from <= end + 1), "{asked:?}");
            assert_eq!(sync.next(0, LAST), Err(GivenUp::OtherSet), "a new set after {end}");
            assert!(sync.into_bars().wrong.is_empty());
        }
    }

    #[test]
    fn v1_where_the_chain_has_gone_beyond_this_program_nobody_is_barred_and_no_snapshot_taken() {
        for first in [3_500, 5_001] {
            let headers = long_chain(|header| header.version = VERSION + u16::from(header.height >= first));
            let mut sync = long_sync(at_genesis(EPOCH));
            let (_, found) = walk(&mut sync, |from| long_reply(&headers, from));
            assert_eq!(found, Ok(()), "final all the same");
            let needed = GivenUp::NewVersion { version: VERSION + 1, height: first };
            assert_eq!(sync.next(0, LAST), Err(needed));
            assert!(sync.into_bars().wrong.is_empty());
        }
        let headers = long_chain(|header| header.version = VERSION + u16::from(header.height >= 5_002));
        let mut sync = long_sync(at_genesis(EPOCH));
        walk(&mut sync, |from| long_reply(&headers, from)).1.expect("final");
        assert_eq!(sync.progress().phase, "chunks", "all that is needed of it is spoken here");
    }

    #[test]
    fn v1_a_version_is_believed_only_of_final_headers() {
        let headers = long_chain(|header| header.version = VERSION + u16::from(header.height >= 3_500));
        let forged = |from| {
            let mut reply = long_reply(&headers, from);
            reply.cert = reply.headers.last().map(|last| cert(last, Kind::Final, &[0, 1]));
            reply
        };
        let genuine = long_chain(|_| {});
        let mut sync = long_sync(at_genesis(EPOCH));
        let mixed = |from| if from <= 3_000 { long_reply(&genuine, from) } else { forged(from) };
        let (_, found) = walk(&mut sync, mixed);
        assert!(found.is_err(), "{found:?}");
        assert!(!matches!(sync.next(0, LAST), Err(GivenUp::NewVersion { .. })), "a liar alone makes nobody give up");
        assert!(sync.into_bars().wrong.contains_key(&0));
    }

    /// Whoever validated long ago has nothing to lose: its signatures prove nothing of later epochs.
    #[test]
    fn s3_old_validators_cannot_sign_a_later_epoch() {
        let headers = long_chain(|_| {});
        let others = Arc::new(set_of(&keys(1)[..3]));
        let own = Sets { epoch: 2, current: others.clone(), next: others, ..at_genesis(EPOCH).0 };
        let mut sync = long_sync((own, Epochs::new(EPOCH)));
        let (asked, found) = walk(&mut sync, |from| long_reply(&headers, from));
        assert_eq!(asked, [(3_001, 2_001)]);
        assert!(matches!(&found, Err(LightError::Link(link)) if link.field == "set_hash"), "{found:?}");
    }

    #[test]
    fn l2_no_set_is_known_beyond_the_hand_overs() {
        let mut trust = Trust::new(Epochs::new(10), Sets { epoch: 5, ..at_genesis(10).0 });
        assert_eq!([3, 6, 7, 9].map(|epoch| trust.set_of(epoch).is_some()), [true, true, false, false]);
        trust.newest = 8;
        assert_eq!([7, 8, 9].map(|epoch| trust.set_of(epoch).is_some()), [true, true, false]);
    }

    #[test]
    fn s3_no_headers_are_asked_for_of_epochs_whose_sets_are_forgotten() {
        let own = |epoch| Trust::new(Epochs::new(10), Sets { epoch, ..at_genesis(10).0 });
        assert_eq!(own(300).first_header(3_050), 2_981, "of epoch 298, two before the own");
        assert_eq!((own(2).first_header(25), own(1).first_header(25)), (1, 1));
        assert_eq!(own(100).first_header(5_000), 3_001);
    }

    #[test]
    fn s3_a_peer_without_the_headers_is_not_asked_first_again() {
        let mut sync = offered(2);
        sync.next(0, BEST).expect("a snapshot");
        sync.on_headers(0, 0, Headers::default()).expect("no lie");
        assert_eq!(sync.next(0, BEST), Ok(Vec::new()), "another is asked already");
        sync.on_channels(&open([0]));
        assert_eq!(sync.next(TIMEOUT_MS - 1, BEST), Ok(Vec::new()), "nor at once");
        assert_eq!(sync.next(TIMEOUT_MS, BEST).expect("it may have them now")[0].0, 0);
    }

    #[test]
    fn s3_a_chunk_is_expected_of_whom_it_was_asked_and_a_liar_is_asked_no_more() {
        let chain = chain_with(10);
        let mut sync = headed(&chain, 2);
        let asks = sync.next(0, BEST).expect("chunks");
        assert_eq!(asks.len(), 2);
        let (Ask::Chunk { height, from }, Ask::Chunk { from: other, .. }) = (asks[0].1, asks[1].1) else {
            panic!("{asks:?}")
        };
        let (first, second) = (asks[0].0, asks[1].0);
        assert_eq!(sync.expected(first, height, &from), Some((chain.state.root(), from)));
        assert_eq!(sync.expected(first, height, &other), None);
        assert_eq!(sync.expected(first, height + 1, &from), None);
        assert_eq!(sync.expected(9, height, &from), None);
        sync.on_chunk(0, first, None);
        assert_eq!(sync.next(0, BEST), Ok(Vec::new()), "the other is busy");
        sync.on_chunk(0, second, Some(chain.piece(&other)));
        assert_eq!(sync.next(0, BEST), Ok(vec![(second, Ask::Chunk { height, from })]));
        assert!(sync.take().is_none(), "something is missing");
        sync.on_chunk(0, second, Some(chain.piece(&from)));
        let fetched = sync.take().expect("all is here");
        assert_eq!(State::from_leaves(fetched.leaves).root(), chain.state.root());
        assert!(sync.take().is_none(), "once");
    }

    #[test]
    fn s3_a_slow_peers_part_is_asked_of_another_and_its_late_answer_dropped() {
        let chain = chain_with(10);
        let mut sync = headed(&chain, 1);
        let asks = sync.next(0, BEST).expect("chunks");
        assert_eq!(sync.next(TIMEOUT_MS - 1, BEST), Ok(Vec::new()));
        let again = sync.next(TIMEOUT_MS, BEST).expect("chunks");
        assert_eq!(again, asks, "there is nobody else");
        assert_eq!(sync.next(3 * TIMEOUT_MS - 1, BEST), Ok(Vec::new()), "but it has longer now");
        sync.on_channels(&open([0, 1]));
        sync.on_offers(1, vec![HEIGHT]);
        assert_eq!(sync.next(3 * TIMEOUT_MS, BEST).expect("chunks")[0].0, 1);
    }

    #[test]
    fn s3_a_snapshot_that_nobody_has_any_more_is_replaced_by_another_a_few_times() {
        let chain = chain_with(10);
        let mut sync = headed(&chain, 1);
        for _ in 1..MAX_CHOICES {
            sync.next(0, BEST).expect("a snapshot");
            sync.on_offers(0, vec![]);
            told(&mut sync, 0, BEST, &[&[HEIGHT]]);
            head(&mut sync, &chain, 0);
        }
        sync.next(0, BEST).expect("a snapshot");
        sync.on_offers(0, vec![]);
        told(&mut sync, 0, BEST, &[&[HEIGHT]]);
        assert_eq!(sync.next(0, BEST), Err(GivenUp::NoneCame));
    }

    #[test]
    fn s3_each_peer_is_asked_for_one_chunk_at_a_time_and_all_for_a_few() {
        let sync = || headed(&chain_with(10), 3);
        assert_eq!(sync().next(0, BEST).expect("chunks").len(), 3);
        let asked = headed(&chain_with(10), 12).next(0, BEST).expect("chunks");
        assert_eq!(asked.len(), MAX_CHUNKS_IN_FLIGHT);
        let peers: std::collections::BTreeSet<Index> = asked.iter().map(|(peer, _)| *peer).collect();
        assert_eq!(peers.len(), MAX_CHUNKS_IN_FLIGHT);
    }

    #[test]
    fn progress_grows_from_nothing_to_all() {
        let chain = chain_with(60_000);
        let mut sync = headed(&chain, 1);
        let mut seen = vec![sync.progress().permille];
        while sync.take().is_none() {
            for (peer, ask) in sync.next(0, BEST).expect("chunks") {
                let Ask::Chunk { from, .. } = ask else { panic!("{ask:?}") };
                sync.on_chunk(0, peer, Some(chain.piece(&from)));
                seen.push(sync.progress().permille);
            }
        }
        assert!(seen.is_sorted() && seen[0] == 0 && seen.len() > 3, "{seen:?}");
        assert_eq!(sync.progress().permille, 1_000);
    }

    /// What each peer of the random test does with a request.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Manner {
        Honest,
        Silent,
        /// Has no snapshot, and says so late.
        Empty,
        /// Changes what it sends.
        Liar,
        /// Offers what nobody has, and sends nothing of it.
        Boaster,
        /// Has the newest snapshot, alone, and sends as little as it may.
        Miser,
    }

    const MANNERS: [Manner; 6] =
        [Manner::Honest, Manner::Silent, Manner::Empty, Manner::Liar, Manner::Boaster, Manner::Miser];

    #[test]
    fn s3_a_snapshot_is_fetched_from_any_mix_of_peers_among_whom_one_is_honest() {
        let chain = chain_with(100_000);
        for seed in 0..60 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut manners: Vec<Manner> =
                (0..rng.random_range(0..4)).map(|_| MANNERS[rng.random_range(0..6)]).collect();
            manners.insert(rng.random_range(0..=manners.len()), Manner::Honest);
            let (mut sync, mut now) = (started(manners.len() as Index), 0);
            let mut network: Vec<(u64, Index, Ask)> = Vec::new();
            let fetched = loop {
                assert!(now < 300_000, "seed {seed}, {manners:?}: {:?}", sync.progress());
                let asks = sync.next(now, BEST).unwrap_or_else(|_| {
                    // As its caller does.
                    now += 60_000;
                    sync = anew(manners.len() as Index, sync.clone().into_bars(), now);
                    Vec::new()
                });
                for (peer, ask) in asks {
                    let miser = manners[usize::from(peer)] == Manner::Miser && matches!(ask, Ask::Chunk { .. });
                    let delay = if miser { rng.random_range(8_000..30_000) } else { rng.random_range(1..3_000) };
                    network.push((now + delay, peer, ask));
                }
                let (due, later) = network.into_iter().partition(|(at, ..)| *at <= now);
                network = later;
                for (_, peer, ask) in due {
                    answer(&mut rng, &mut sync, &chain, now, peer, manners[usize::from(peer)], ask);
                }
                if let Some(fetched) = sync.take() {
                    break fetched;
                }
                now += 100;
            };
            assert_eq!(State::from_leaves(fetched.leaves).root(), chain.state.root(), "seed {seed}");
        }
    }

    fn answer(rng: &mut StdRng, sync: &mut StateSync, chain: &Chain, now: u64, peer: Index, manner: Manner, ask: Ask) {
        match (ask, manner) {
            (_, Manner::Silent) => {}
            (Ask::Offers, Manner::Empty) => sync.on_offers(peer, Vec::new()),
            (Ask::Offers, Manner::Boaster) => {
                let height = [u64::MAX, BEST, BEST - 1, 33][rng.random_range(0..4)];
                sync.on_offers(peer, vec![height, rng.random_range(0..u64::MAX)]);
            }
            (Ask::Offers, Manner::Miser) => sync.on_offers(peer, vec![32]),
            // Each has been asked at another time.
            (Ask::Offers, _) => sync.on_offers(peer, vec![HEIGHT - u64::from(peer), HEIGHT - 5]),
            (Ask::Headers { .. }, Manner::Empty) => drop(sync.on_headers(now, peer, Headers::default())),
            (Ask::Headers { from, .. }, _) => {
                let mut reply = chain.headers(from);
                if manner == Manner::Liar {
                    let at = rng.random_range(0..reply.headers.len());
                    reply.headers[at].parent_state_root = plain(b"lie");
                }
                let _ = sync.on_headers(now, peer, reply);
            }
            (Ask::Chunk { .. }, Manner::Boaster) => {}
            (Ask::Chunk { height, from }, _) => {
                let Some((root, from)) = sync.expected(peer, height, &from) else { return };
                let mut chunk = chain.state.chunk(&from, CHUNK_BYTES);
                if manner == Manner::Liar {
                    chunk.leaves.swap(0, 1);
                }
                sync.on_chunk(now, peer, chunk.verify(&root, &from).ok());
            }
        }
    }
}
