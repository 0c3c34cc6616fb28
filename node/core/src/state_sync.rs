//! State sync: which pieces of a snapshot to ask of whom, and what proves them (protocol.md S3). Pure; times come in.
//!
//! ```text
//! offers ─→ height h ─→ headers h − 1,999 … h + 1, under a Final certificate ─→ chunks of the state after block h ─→ Snapshot
//!   of all peers          any peer; their batches may not come again (V6)         all peers that offer h, at once
//! ```
//! Trusted are genesis and its set only: the certificate makes the headers final, header h + 1 has the root of the state
//! after block h, and each chunk proves itself against that root.

use crate::block::Header;
use crate::hash::Hash;
use crate::light::{Client, LightError};
use crate::message::{Headers, MAX_SNAPSHOTS, Message};
use crate::params::MAX_EXPIRY_AHEAD;
use crate::state::ProvenLeaf;
use crate::state::chunk::Piece;
use crate::validators::{Index, ValidatorSet};
use crate::vote::Cert;
use std::collections::BTreeMap;

/// Heights whose state is kept as a snapshot are multiples of this.
pub const SNAPSHOT_EVERY: u64 = 1_000;
/// Blocks behind the others from which on a snapshot is worth what is lost by it: the blocks in between.
pub const STATE_SYNC_LAG: u64 = 10_000;
/// How long is waited for more peers to say which snapshots they have, in milliseconds.
const OFFERS_MS: u64 = 1_500;
/// How long for the first one.
const FIRST_OFFER_MS: u64 = 10_000;
/// First time-out of a request in milliseconds; it doubles with each failure of the peer in a row.
const TIMEOUT_MS: u64 = 2_000;
/// Doublings of the time-out.
const MAX_PATIENCE: u32 = 4;
/// Without anything new for this long the attempt is over, in milliseconds.
const STALLED_MS: u64 = 60_000;
/// Times the peers are asked for a newer snapshot because nobody has the chosen one any more.
const MAX_CHOICES: u32 = 4;
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
    /// The last [`MAX_EXPIRY_AHEAD`] final headers up to this height, or all: none of their batches may come again (V6).
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
    /// Nothing came for long.
    #[error("nothing came for {} s", STALLED_MS / 1_000)]
    Stalled,
    /// The peers replace snapshots faster than one can be fetched.
    #[error("{MAX_CHOICES} snapshots were replaced by newer ones before they were here")]
    Replaced,
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
    /// Snapshots it has; `None`: it has not said.
    offers: Option<Vec<u64>>,
    asked: Option<Ask>,
    /// Until when it may take to answer.
    until: u64,
    /// Failures, less one for each good answer: others are asked first.
    failures: u32,
    /// Until when it is not asked again, because it had nothing to give.
    rest_until: u64,
    /// It sent something wrong: it is asked no more.
    barred: bool,
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
    set: ValidatorSet,
    /// Snapshots at or below this height are of no use.
    above: u64,
    peers: BTreeMap<Index, Peer>,
    phase: Phase,
    /// When something new came last.
    news_ms: u64,
    choices: u32,
    turns: u64,
}

/// First of the headers that are needed below a snapshot: a batch of an earlier one has expired.
fn first_header(height: u64) -> u64 {
    height.saturating_sub(MAX_EXPIRY_AHEAD - 1).max(1)
}

impl StateSync {
    /// Begins to look for a snapshot above a height.
    pub fn new(chain: Hash, set: ValidatorSet, above: u64, now_ms: u64) -> StateSync {
        let phase = Phase::Offers { since: now_ms };
        StateSync { chain, set, above, peers: BTreeMap::new(), phase, news_ms: now_ms, choices: 0, turns: 0 }
    }

    /// A peer is connected.
    pub fn on_connected(&mut self, peer: Index) {
        self.peers.entry(peer).or_default().connected = true;
    }

    /// The channel to a peer is gone: what it was asked is asked elsewhere.
    pub fn on_disconnected(&mut self, peer: Index) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            (peer.connected, peer.asked, peer.offers) = (false, None, None);
        }
    }

    /// A peer said which snapshots it has, or has not the one it was asked for.
    pub fn on_offers(&mut self, now_ms: u64, peer: Index, mut heights: Vec<u64>) {
        heights.truncate(MAX_SNAPSHOTS);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if matches!(state.asked, Some(Ask::Offers | Ask::Chunk { .. })) {
            state.asked = None;
        }
        state.offers = Some(heights);
        if let Phase::Chunks { fetched, .. } = &self.phase {
            let height = fetched.height();
            if !self.peers.values().any(|peer| peer.may_have(height)) {
                self.choose_again(now_ms);
            }
        }
    }

    /// A peer sent headers; `Err` says what is wrong with them, and it is asked no more.
    ///
    /// # Errors
    /// Where they are not the final headers that follow those here.
    pub fn on_headers(&mut self, now_ms: u64, peer: Index, reply: Headers) -> Result<(), LightError> {
        let Some(state) = self.peers.get_mut(&peer) else { return Ok(()) };
        let Some(Ask::Headers { from, .. }) = state.asked else { return Ok(()) };
        let Phase::Headers { height, client, headers } = &mut self.phase else { return Ok(()) };
        state.asked = None;
        if reply.headers.first().map(|first| first.height) != Some(from) {
            // It has them not, or this answers something it was asked before.
            state.failures += 1;
            state.rest_until = now_ms + TIMEOUT_MS;
            return Ok(());
        }
        let taken = follow(&self.chain, &self.set, client.as_ref(), reply);
        let (next, taken) = taken.inspect_err(|_| state.barred = true)?;
        state.failures = state.failures.saturating_sub(1);
        (*client, self.news_ms) = (Some(next), now_ms);
        headers.extend(taken);
        let height = *height;
        if let Some(at) = headers.iter().position(|header| header.header.height == height + 1) {
            let (state_root, results_root) =
                (headers[at].header.parent_state_root, headers[at].header.parent_results_root);
            headers.truncate(at);
            let headers = std::mem::take(headers);
            let fetched = Fetched { headers, state_root, results_root, leaves: Vec::new() };
            self.phase = Phase::Chunks { fetched, parts: parts(), chunks: 0 };
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
        let Some(Ask::Chunk { from, .. }) = state.asked.take() else { return };
        let Some(piece) = piece else {
            state.barred = true;
            return;
        };
        state.failures = state.failures.saturating_sub(1);
        let Phase::Chunks { fetched, parts, chunks } = &mut self.phase else { return };
        self.news_ms = now_ms;
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

    /// What to ask now; call it after each change and several times a second.
    ///
    /// # Errors
    /// Where there is nothing to be had.
    pub fn next(&mut self, now_ms: u64) -> Result<Vec<(Index, Ask)>, GivenUp> {
        self.time_out(now_ms);
        self.choose(now_ms)?;
        if now_ms >= self.news_ms + STALLED_MS {
            return Err(GivenUp::Stalled);
        }
        let mut asks = Vec::new();
        while let Some((peer, ask)) = self.one_more(now_ms) {
            self.turns += 1;
            let Some(state) = self.peers.get_mut(&peer) else { break };
            state.asked = Some(ask);
            state.until = now_ms + (TIMEOUT_MS << state.failures.min(MAX_PATIENCE));
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

    fn time_out(&mut self, now_ms: u64) {
        for peer in self.peers.values_mut().filter(|peer| peer.asked.is_some() && peer.until <= now_ms) {
            (peer.asked, peer.failures) = (None, peer.failures + 1);
        }
    }

    /// Decides which snapshot it shall be, once all peers have said what they have, or had time to: the one that most
    /// have, so that one peer alone cannot choose, and of such the newest.
    fn choose(&mut self, now_ms: u64) -> Result<(), GivenUp> {
        let Phase::Offers { since } = self.phase else { return Ok(()) };
        let mut able = self.peers.values().filter(|peer| peer.able()).peekable();
        let all = able.peek().is_some() && able.all(|peer| peer.offers.is_some());
        if !all && now_ms < since + OFFERS_MS {
            return Ok(());
        }
        let mut offered: BTreeMap<u64, usize> = BTreeMap::new();
        for height in self.peers.values().filter(|peer| peer.able()).flat_map(|peer| peer.offers.iter().flatten()) {
            *offered.entry(*height).or_default() += 1;
        }
        let useful = offered.into_iter().filter(|(height, _)| *height > self.above);
        let Some((height, _)) = useful.max_by_key(|(height, peers)| (*peers, *height)) else {
            return if all || now_ms >= since + FIRST_OFFER_MS { Err(GivenUp::NoOffer) } else { Ok(()) };
        };
        if self.choices >= MAX_CHOICES {
            return Err(GivenUp::Replaced);
        }
        self.choices += 1;
        self.news_ms = now_ms;
        self.phase = Phase::Headers { height, client: None, headers: Vec::new() };
        Ok(())
    }

    fn choose_again(&mut self, now_ms: u64) {
        self.phase = Phase::Offers { since: now_ms };
        self.peers.values_mut().for_each(|peer| (peer.asked, peer.offers) = (None, None));
    }

    /// A request that some idle peer can answer.
    fn one_more(&self, now_ms: u64) -> Option<(Index, Ask)> {
        let asked = |ask: &Ask| self.peers.values().any(|peer| peer.asked.as_ref() == Some(ask));
        match &self.phase {
            Phase::Offers { .. } => Some((self.idle(now_ms, |peer| peer.offers.is_none())?, Ask::Offers)),
            Phase::Headers { height, client, .. } => {
                let from = client.as_ref().map_or(first_header(*height), |client| client.head().height + 1);
                let count = u32::try_from((height + 1).saturating_sub(from) + 1).unwrap_or(u32::MAX);
                let ask = Ask::Headers { from, count };
                if asked(&ask) { None } else { Some((self.idle(now_ms, |_| true)?, ask)) }
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
                let ask = parts.iter().map(ask).find(|ask| !asked(ask))?;
                Some((self.idle(now_ms, |peer| peer.may_have(height))?, ask))
            }
            Phase::Done { .. } => None,
        }
    }

    /// Of the peers that can be asked: the one with the fewest failures, of equals the one not asked for longest.
    fn idle(&self, now_ms: u64, able: impl Fn(&Peer) -> bool) -> Option<Index> {
        let free = |peer: &Peer| peer.able() && peer.asked.is_none() && peer.rest_until <= now_ms;
        let idle = self.peers.iter().filter(|(_, peer)| free(peer) && able(peer));
        idle.min_by_key(|(_, peer)| (peer.failures, peer.turn)).map(|(index, _)| *index)
    }
}

impl Peer {
    fn able(&self) -> bool {
        self.connected && !self.barred
    }

    fn may_have(&self, height: u64) -> bool {
        self.able() && self.offers.as_ref().is_some_and(|offers| offers.contains(&height))
    }
}

/// The headers of a reply, each of which must follow from the one before it, up to the certified last one (L1).
fn follow(
    chain: &Hash,
    set: &ValidatorSet,
    client: Option<&Client>,
    reply: Headers,
) -> Result<(Client, Vec<FinalHeader>), LightError> {
    let Headers { headers, cert } = reply;
    let first = headers.first().map(|first| Client::before(*chain, set.clone(), first));
    // The caller saw that there is one.
    let mut client = client.cloned().or(first).ok_or(LightError::NotFinal { height: 0 })?;
    let (last, mut taken) = (headers.len().saturating_sub(1), Vec::with_capacity(headers.len()));
    for (index, header) in headers.into_iter().enumerate() {
        let cert = cert.clone().filter(|_| index == last);
        let digest = client.advance(&header, cert.as_ref())?;
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
    use crate::sync::tests::{block, cert, chain, genesis, set, tip_of};
    use crate::vote::Kind;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Height of the snapshot in these tests.
    const HEIGHT: u64 = 30;

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
        for height in 1..=HEIGHT + 5 {
            let tip = blocks.last().map_or_else(genesis, |block| tip_of(&block.header));
            let mut next = block(&tip);
            if height == HEIGHT + 1 {
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

        fn piece(&self, from: &Hash) -> Piece {
            self.state.chunk(from, CHUNK_BYTES).verify(&self.state.root(), from).expect("genuine")
        }
    }

    fn started(peers: Index) -> StateSync {
        let mut sync = StateSync::new(chain(), set(), 10, 0);
        (0..peers).for_each(|peer| sync.on_connected(peer));
        sync
    }

    /// Past the offers: every peer has the snapshot.
    fn offered(peers: Index) -> StateSync {
        let mut sync = started(peers);
        assert_eq!(sync.next(0).expect("peers").len(), usize::from(peers));
        (0..peers).for_each(|peer| sync.on_offers(0, peer, vec![HEIGHT]));
        sync
    }

    /// Past the headers too.
    fn headed(chain: &Chain, peers: Index) -> StateSync {
        let mut sync = offered(peers);
        while sync.progress().phase != "chunks" {
            for (peer, ask) in sync.next(0).expect("a snapshot") {
                let Ask::Headers { from, .. } = ask else { panic!("{ask:?}") };
                sync.on_headers(0, peer, chain.headers(from)).expect("genuine");
            }
        }
        sync
    }

    #[test]
    fn s3_the_snapshot_that_most_peers_have_is_chosen_and_of_those_the_newest() {
        let mut sync = started(4);
        assert_eq!(sync.next(0).expect("peers").len(), 4);
        for (peer, heights) in [(0, vec![20, 30]), (1, vec![20, 30]), (2, vec![20]), (3, vec![90])] {
            sync.on_offers(1, peer, heights);
        }
        sync.next(1).expect("offers");
        assert_eq!((sync.progress().phase, sync.progress().height), ("headers", 20));
        let mut late = started(3);
        late.next(0).expect("peers");
        late.on_offers(1, 0, vec![20, 30]);
        late.next(OFFERS_MS - 1).expect("others may have more");
        assert_eq!(late.progress().phase, "offers");
        late.next(OFFERS_MS).expect("one has some");
        assert_eq!(late.progress().height, 30);
    }

    #[test]
    fn s3_a_snapshot_that_is_not_far_enough_ahead_is_none() {
        let mut sync = started(1);
        sync.next(0).expect("a peer");
        sync.on_offers(1, 0, vec![9, 10]);
        assert_eq!(sync.next(1), Err(GivenUp::NoOffer));
        let mut silent = started(1);
        silent.next(0).expect("a peer");
        assert!(silent.next(FIRST_OFFER_MS - 1).is_ok());
        assert_eq!(silent.next(FIRST_OFFER_MS), Err(GivenUp::NoOffer));
        assert_eq!(started(0).next(FIRST_OFFER_MS), Err(GivenUp::NoOffer), "nobody is connected");
    }

    #[test]
    fn s3_headers_reach_down_as_far_as_a_batch_may_be_named_again() {
        assert_eq!((first_header(1), first_header(2_000), first_header(2_001)), (1, 1, 2));
        // V6: a batch of the block at 3,000 may be named up to 5,000; that of 3,001 still in 5,001, the next block.
        assert_eq!(first_header(5_000), 3_001);
        let chain = chain_with(10);
        let mut sync = headed(&chain, 1);
        let Ok(asks) = sync.next(0) else { panic!("a snapshot") };
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
            let asks = sync.next(0).expect("a snapshot");
            assert_eq!(asks, [(0, Ask::Headers { from: 1, count: HEIGHT as u32 + 1 })]);
            let mut headers = good.clone();
            change(&mut headers);
            sync.on_headers(0, 0, headers).expect_err("it was changed");
            assert_eq!(sync.next(0).expect("another peer")[0].0, 1);
            sync.on_disconnected(1);
            assert_eq!(sync.next(0), Ok(Vec::new()), "the liar is asked no more");
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
    fn s3_headers_of_a_second_reply_must_follow_from_the_first() {
        let chain = chain_with(10);
        let mut sync = offered(1);
        sync.next(0).expect("a snapshot");
        sync.on_headers(0, 0, chain.headers(1)).expect("genuine");
        let from = HEIGHT / 2 + 1;
        assert_eq!(sync.next(0), Ok(vec![(0, Ask::Headers { from, count: (HEIGHT + 1 - from + 1) as u32 })]));
        // Final by its certificate, but of another chain: the caller's set would have signed twice.
        let mut other = chain.headers(from);
        other.headers[0].parent = plain(b"other");
        sync.on_headers(0, 0, other).expect_err("it does not link");
    }

    #[test]
    fn s3_a_peer_without_the_headers_is_not_asked_first_again() {
        let mut sync = offered(2);
        sync.next(0).expect("a snapshot");
        sync.on_headers(0, 0, Headers::default()).expect("no lie");
        assert_eq!(sync.next(0).expect("another")[0].0, 1);
        sync.on_disconnected(1);
        assert_eq!(sync.next(TIMEOUT_MS - 1), Ok(Vec::new()), "nor at once");
        assert_eq!(sync.next(TIMEOUT_MS).expect("it may have them now")[0].0, 0);
    }

    #[test]
    fn s3_a_chunk_is_expected_of_whom_it_was_asked_and_a_liar_is_asked_no_more() {
        let chain = chain_with(10);
        let mut sync = headed(&chain, 2);
        let asks = sync.next(0).expect("chunks");
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
        assert_eq!(sync.next(0), Ok(Vec::new()), "the other is busy");
        sync.on_chunk(0, second, Some(chain.piece(&other)));
        assert_eq!(sync.next(0), Ok(vec![(second, Ask::Chunk { height, from })]));
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
        let asks = sync.next(0).expect("chunks");
        assert_eq!(sync.next(TIMEOUT_MS - 1), Ok(Vec::new()));
        let again = sync.next(TIMEOUT_MS).expect("chunks");
        assert_eq!(again, asks, "there is nobody else");
        assert_eq!(sync.next(3 * TIMEOUT_MS - 1), Ok(Vec::new()), "but it has longer now");
        sync.on_connected(1);
        sync.on_offers(0, 1, vec![HEIGHT]);
        assert_eq!(sync.next(3 * TIMEOUT_MS).expect("chunks")[0].0, 1);
    }

    #[test]
    fn s3_a_snapshot_that_nobody_has_any_more_is_replaced_by_a_newer_one_a_few_times() {
        let chain = chain_with(10);
        let mut sync = headed(&chain, 1);
        for _ in 1..MAX_CHOICES {
            sync.next(0).expect("a snapshot");
            sync.on_offers(0, 0, vec![]);
            assert_eq!(sync.next(0), Ok(vec![(0, Ask::Offers)]));
            sync.on_offers(0, 0, vec![HEIGHT]);
            while sync.progress().phase != "chunks" {
                for (peer, ask) in sync.next(0).expect("a snapshot") {
                    let Ask::Headers { from, .. } = ask else { panic!("{ask:?}") };
                    sync.on_headers(0, peer, chain.headers(from)).expect("genuine");
                }
            }
        }
        sync.next(0).expect("a snapshot");
        sync.on_offers(0, 0, vec![]);
        sync.next(0).expect("offers are asked for");
        sync.on_offers(0, 0, vec![HEIGHT]);
        assert_eq!(sync.next(0), Err(GivenUp::Replaced));
    }

    #[test]
    fn s3_an_attempt_in_which_nothing_comes_any_more_ends() {
        let chain = chain_with(10);
        let mut sync = headed(&chain, 1);
        sync.next(0).expect("chunks");
        assert!(sync.next(STALLED_MS - 1).is_ok());
        assert_eq!(sync.next(STALLED_MS), Err(GivenUp::Stalled));
    }

    #[test]
    fn s3_each_peer_is_asked_for_one_chunk_at_a_time_and_all_for_a_few() {
        let sync = || headed(&chain_with(10), 3);
        assert_eq!(sync().next(0).expect("chunks").len(), 3);
        let asked = headed(&chain_with(10), 12).next(0).expect("chunks");
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
            for (peer, ask) in sync.next(0).expect("chunks") {
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
    }

    #[test]
    fn s3_a_snapshot_is_fetched_from_any_mix_of_peers_among_whom_one_is_honest() {
        let chain = chain_with(100_000);
        for seed in 0..20 {
            let mut rng = StdRng::seed_from_u64(seed);
            let all = [Manner::Honest, Manner::Silent, Manner::Empty, Manner::Liar];
            let mut manners: Vec<Manner> = (0..rng.random_range(0..4)).map(|_| all[rng.random_range(0..4)]).collect();
            manners.insert(rng.random_range(0..=manners.len()), Manner::Honest);
            let (mut sync, mut now) = (started(manners.len() as Index), 0);
            let mut network: Vec<(u64, Index, Ask)> = Vec::new();
            let fetched = loop {
                assert!(now < 200_000, "seed {seed}, {manners:?}: {:?}", sync.progress());
                for (peer, ask) in sync.next(now).unwrap_or_else(|cause| panic!("seed {seed}, {manners:?}: {cause}")) {
                    network.push((now + rng.random_range(1..3_000), peer, ask));
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
        if manner == Manner::Silent {
            return;
        }
        match ask {
            Ask::Offers if manner == Manner::Empty => sync.on_offers(now, peer, Vec::new()),
            Ask::Offers => sync.on_offers(now, peer, vec![HEIGHT]),
            Ask::Headers { from, .. } => {
                let mut reply = if manner == Manner::Empty { Headers::default() } else { chain.headers(from) };
                if manner == Manner::Liar {
                    let at = rng.random_range(0..reply.headers.len());
                    reply.headers[at].parent_state_root = plain(b"lie");
                }
                let _ = sync.on_headers(now, peer, reply);
            }
            Ask::Chunk { height, from } => {
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
