//! All that the core knows (protocol.md §3.1), and how a restart rebuilds it from what is durable (P8).

use super::accusations::Accusations;
use super::batches::BatchBook;
use super::input::{Now, Recovered, Roots, Tip, WriteId};
use super::memory::{Inquiry, VotingState};
use super::output::{Halt, Output};
use super::random::Random;
use super::verify::{Ed25519, Verify};
use crate::block::Candidate;
use crate::evidence::Class;
use crate::hash::Hash;
use crate::hello::Heard;
use crate::key::Signature;
use crate::memory::Memory;
use crate::message::Status;
use crate::params::{Parameters, STATUS_EVERY_MS};
use crate::validators::{Index, ValidatorSet};
use crate::vote::{Cert, Kind, Statement, Vote};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The only epoch of a fixed validator set.
pub(super) const EPOCH: u64 = 0;

/// What never changes in a process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Genesis hash: in every signature, and the digest of slot 0.
    pub chain: Hash,
    /// The validators.
    pub set: Arc<ValidatorSet>,
    /// Own index in `set`.
    pub me: Index,
    /// Parameters of genesis.
    pub parameters: Parameters,
    /// Seeds the choice of peers to ask; any value is safe.
    pub seed: u64,
    /// Decides signatures.
    pub verifier: Arc<dyn Verify>,
    /// [`ValidatorSet::hash`] of `set`.
    pub set_hash: Hash,
    /// True, but where liars of a simulation stand for altered code, or no disk ever loses a row: false votes at once and
    /// never looks for own votes elsewhere (A2, A8).
    pub watches_memory: bool,
    /// True, but in exhaustive exploration, where each header is known beforehand: false puts no evidence into own blocks.
    pub accuses: bool,
}

impl Config {
    /// A configuration with real signatures.
    pub fn new(chain: Hash, set: Arc<ValidatorSet>, me: Index, parameters: Parameters, seed: u64) -> Self {
        let (verifier, set_hash) = (Arc::new(Ed25519::new(&set)), set.hash());
        Config { chain, set, me, parameters, seed, verifier, set_hash, watches_memory: true, accuses: true }
    }

    pub(super) fn t0(&self) -> u64 {
        self.parameters.skip_timeout_ms
    }

    /// `skip_after` (§9): how long a validator may be missing in certificates before its slots are skipped at once.
    pub(super) fn skip_after(&self) -> u64 {
        (4 * self.t0()).max(1_000)
    }

    /// Largest set in which certificates are relayed at once (C16).
    pub(super) fn relays_at_once(&self) -> bool {
        self.set.len() <= 8
    }

    /// First and longest period of standstill resends (C17, §9).
    pub(super) fn standstill_periods(&self) -> (u64, u64) {
        (self.t0().max(250), (4 * self.t0()).max(2_000))
    }
}

/// The weighted Simplex state machine of one validator. See the module's documentation for the rules.
#[derive(Clone, Debug)]
pub struct Core {
    pub(super) config: Config,
    pub(super) now: Now,
    pub(super) random: Random,
    /// Outputs of the running step.
    pub(super) out: Vec<Output>,
    /// Earliest moment at which some rule wants to be looked at again, collected during the running step.
    pub(super) wake: Option<u64>,
    /// What the last `Timer` said.
    pub(super) timer: Option<u64>,

    /// (s*, d*): the highest final position.
    pub(super) top: Top,
    /// Last block let out by `Finalized`; at or below `top`.
    pub(super) tip: Facts,
    /// Notar or Final certificates of the last slots at or below s*, for late peers (C20).
    pub(super) kept: BTreeMap<u64, Cert>,

    /// Votes and certificates of slots above s*.
    pub(super) slots: BTreeMap<u64, Slot>,
    /// Candidates above the tip, and those of the last final blocks.
    pub(super) candidates: BTreeMap<Hash, Entry>,
    /// Candidates above the tip by slot.
    pub(super) by_slot: BTreeMap<u64, Vec<Hash>>,
    /// Candidates above the tip that are to be executed or may still be voted for.
    pub(super) open: BTreeSet<(u64, Hash)>,
    /// Final blocks in `candidates`, oldest first.
    pub(super) past: VecDeque<Hash>,
    /// Candidates that wait for a batch, by batch.
    pub(super) awaited: BTreeMap<Hash, BTreeSet<Hash>>,
    /// Slots whose Final vote is to be reconsidered (C9).
    pub(super) finals_due: BTreeSet<u64>,
    pub(super) batches: BatchBook,
    pub(super) accusations: Accusations,

    /// Writes without an answer.
    pub(super) writes: BTreeMap<WriteId, Option<Statement>>,
    pub(super) next_write: WriteId,
    /// A write failed or voting was halted: no vote until restart (P6).
    pub(super) stopped: bool,
    pub(super) halted: Option<Halt>,
    pub(super) ready: bool,
    pub(super) lagging: bool,
    /// No vote at or below, ever (P9).
    pub(super) vote_floor: u64,
    /// No own vote is in a higher slot.
    pub(super) last_voted: u64,
    /// What the database knows of the key's past (A1).
    pub(super) memory: Memory,
    /// Lease generation of this process (P8).
    pub(super) generation: u32,
    pub(super) voting_state: VotingState,
    pub(super) inquiry: Inquiry,

    pub(super) frontier: Frontier,
    /// Slots above s* that were skipped at once here (C11).
    pub(super) instant: BTreeSet<u64>,
    /// Since when each validator is missing in certificates (C4).
    pub(super) missing_since: Vec<Option<u64>>,
    /// Slots and when they became final, at least T0/16 apart and all but the first within T0: at most 18 (D25).
    pub(super) became_final: VecDeque<(u64, u64)>,
    pub(super) peers: Vec<Peer>,
    pub(super) wants: BTreeMap<super::resolve::Want, super::resolve::Fetch>,
    /// Certificates to be relayed, by time (C16).
    pub(super) relays: BTreeSet<(u64, Statement)>,
    pub(super) standstill: Option<super::standstill::Standstill>,
    pub(super) status_due: u64,
    pub(super) behind_due: u64,
    pub(super) seen: super::seen::Seen,
}

/// s* with its digest and certificate.
#[derive(Clone, Debug)]
pub(super) struct Top {
    pub(super) slot: u64,
    pub(super) digest: Hash,
    /// `None` at genesis, and after a restart whose ledger has none.
    pub(super) cert: Option<Cert>,
    /// When its block was notarized, by the own clock (C12).
    pub(super) since: u64,
}

/// What a child needs to know of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) digest: Hash,
    pub(super) slot: u64,
    pub(super) height: u64,
    pub(super) time_ms: u64,
    /// `None` until executed.
    pub(super) roots: Option<Roots>,
}

/// A certificate with the time it came to be held.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) cert: Cert,
    pub(super) since: u64,
}

/// An own vote: a reservation until it is durable (P6), a row from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) statement: Statement,
    /// `None` while only reserved.
    pub(super) signature: Option<Signature>,
}

/// A vote in the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) digest: Hash,
    pub(super) signature: Signature,
    /// False: from the signer's own channel, its signature not yet looked at.
    pub(super) verified: bool,
}

/// What is known of a slot above s*.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// First vote of each kind and signer (C1).
    pub(super) votes: BTreeMap<(Kind, Index), Stored>,
    /// Weight of the votes for each statement.
    pub(super) tally: BTreeMap<(Kind, Hash), u64>,
    pub(super) notar: Option<Held>,
    pub(super) skip: Option<Held>,
    /// Own vote of class 0.
    pub(super) own_notar: Option<Own>,
    /// Own vote of class 1.
    pub(super) own_outcome: Option<Own>,
    /// The own proposal left in this process (C7).
    pub(super) proposed: bool,
    /// Signers already reported (X2).
    pub(super) accused: BTreeSet<(Index, Class)>,
}

/// How far a candidate's execution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Execution {
    No,
    Asked,
    Done(Roots),
}

/// A candidate with what was found out about it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) candidate: Candidate,
    /// The leader's signature was verified, or is the own one and durable.
    pub(super) signed: bool,
    /// A certificate names it or a descendant.
    pub(super) certified: bool,
    /// What V1-V8 but V5 say, once all that they need is here.
    pub(super) verdict: Option<Result<(), super::validity::Invalid>>,
    pub(super) execution: Execution,
    /// Batches that are not durable here (H3).
    pub(super) missing: BTreeSet<Hash>,
}

impl Entry {
    pub(super) fn facts(&self, digest: Hash) -> Facts {
        let header = &self.candidate.header;
        let roots = match self.execution {
            Execution::Done(roots) => Some(roots),
            Execution::No | Execution::Asked => None,
        };
        Facts { digest, slot: header.slot, height: header.height, time_ms: header.time_ms, roots }
    }
}

/// The least uncleared slot and its timer (C5, C6, C10).
#[derive(Clone, Debug)]
pub(super) struct Frontier {
    pub(super) slot: u64,
    /// t_act.
    pub(super) activated: u64,
    /// t_armed; `None` until Busy.
    pub(super) armed: Option<u64>,
    /// When the timer fires; set with `armed`.
    pub(super) deadline: u64,
    /// The largest notarized position below: what the next block builds on.
    pub(super) base: (u64, Hash),
    /// When `base` was notarized here.
    pub(super) base_since: u64,
    /// A batch was announced to the leader (C12).
    pub(super) announced: bool,
    /// Whether a batch is includable, for this base and version of the book.
    pub(super) includable: Option<(Hash, u64, Option<Hash>)>,
}

/// A peer as its channel shows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    pub(super) connected: bool,
    pub(super) status: Option<Status>,
    /// Slots up to here are cleared there, by its votes (C16).
    pub(super) cleared: u64,
    /// No repair before this time (C18).
    pub(super) repair_due: u64,
    /// No mark before this time (A4).
    pub(super) mark_due: u64,
    /// Its vote in the highest slot (A2).
    pub(super) vote: Option<Vote>,
    /// Its Hello of the highest generation (A2).
    pub(super) hello: Option<Heard>,
    /// What it got for asking (C14, C15).
    pub(super) answers: Answers,
}

/// Bytes of answers within a second that began with the first of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answers {
    pub(super) since: u64,
    pub(super) bytes: usize,
}

impl Core {
    /// State of a start from what the ledger holds (P8). Nothing is re-decided: own votes above s* stand as they are and
    /// are offered again by C17.
    pub fn new(config: Config, recovered: Recovered, now: Now) -> Core {
        let Recovered {
            tip,
            final_cert,
            votes,
            certs,
            candidates,
            batches,
            included,
            vote_floor,
            recent,
            nullifiers,
            memory,
            generation,
        } = recovered;
        let top = recovered_top(&tip, final_cert, now.mono_ms);
        let n = config.set.len();
        let frontier = Frontier::at(top.slot + 1, &top, now.mono_ms);
        let mut random = Random::new(config.seed);
        let inquiry = Inquiry::new(&votes, &mut random, now.mono_ms);
        let mut core = Core {
            now,
            random,
            out: Vec::new(),
            wake: None,
            timer: None,
            tip: facts_of(&tip),
            kept: BTreeMap::new(),
            slots: BTreeMap::new(),
            candidates: BTreeMap::new(),
            by_slot: BTreeMap::new(),
            open: BTreeSet::new(),
            past: VecDeque::new(),
            awaited: BTreeMap::new(),
            finals_due: BTreeSet::new(),
            batches: BatchBook::default(),
            accusations: Accusations::default(),
            writes: BTreeMap::new(),
            next_write: 1,
            stopped: false,
            halted: None,
            ready: true,
            lagging: false,
            vote_floor,
            last_voted: votes.iter().map(|vote| vote.statement.slot).max().unwrap_or(0),
            memory,
            generation,
            voting_state: VotingState::Checking,
            inquiry,
            frontier,
            instant: BTreeSet::new(),
            missing_since: vec![None; n],
            became_final: VecDeque::new(),
            peers: vec![Peer::default(); n],
            wants: BTreeMap::new(),
            relays: BTreeSet::new(),
            standstill: None,
            status_due: now.mono_ms + STATUS_EVERY_MS,
            behind_due: now.mono_ms,
            seen: super::seen::Seen::new(n, now.mono_ms),
            top,
            config,
        };
        included.into_iter().for_each(|(digest, expiry)| core.batches.include_until(digest, expiry));
        nullifiers.into_iter().for_each(|nullifier| core.accusations.settle(nullifier));
        for (reference, seq, expiry) in batches {
            core.add_batch(reference, seq, expiry);
        }
        core.batches.expire(tip.height);
        recent.into_iter().for_each(|header| core.remember_past(header));
        core.recover_votes(&votes);
        certs.into_iter().for_each(|cert| core.recover_cert(cert));
        candidates.into_iter().for_each(|candidate| core.recover_candidate(candidate));
        core.want_ancestors_of_top();
        // A validator that is a quorum by itself may hold certificates by its own votes alone.
        votes.iter().for_each(|vote| core.c3_certify(vote.statement));
        core.a2_begin();
        core
    }

    /// F: the least uncleared slot.
    pub fn frontier(&self) -> u64 {
        self.frontier.slot
    }

    /// s*: the highest final slot.
    pub fn final_slot(&self) -> u64 {
        self.top.slot
    }

    /// Height of the last block let out.
    pub fn height(&self) -> u64 {
        self.tip.height
    }

    /// Height of a candidate or recent block.
    pub fn height_of(&self, digest: &Hash) -> Option<u64> {
        self.facts(digest).map(|facts| facts.height)
    }

    /// Why the core stopped for good, if it did.
    pub fn halted(&self) -> Option<&Halt> {
        self.halted.as_ref()
    }

    /// What a child of `digest` needs to know of it: the tip, or a candidate.
    pub(super) fn facts(&self, digest: &Hash) -> Option<Facts> {
        if *digest == self.tip.digest {
            return Some(self.tip);
        }
        self.candidates.get(digest).map(|entry| entry.facts(*digest))
    }

    pub(super) fn emit(&mut self, output: Output) {
        self.out.push(output);
    }

    /// A rule waits for a moment of the monotonic clock.
    pub(super) fn wake_at(&mut self, at: u64) {
        // Never now: a moment that has come was acted upon, and a timer must not spin.
        let at = at.max(self.now.mono_ms + 1);
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    pub(super) fn is_mine(&self, slot: u64) -> bool {
        self.leader(slot) == self.config.me
    }

    pub(super) fn leader(&self, slot: u64) -> Index {
        self.config.set.leader(EPOCH, slot)
    }

    /// Own rows above s* are votes in the pool, and forbid any other vote of their class.
    fn recover_votes(&mut self, votes: &[crate::vote::Vote]) {
        let top = self.top.slot;
        for vote in votes.iter().filter(|vote| vote.statement.slot > top) {
            let own = Own { statement: vote.statement, signature: Some(vote.signature) };
            self.set_own(own);
            self.record_vote(vote, true);
        }
    }

    fn recover_cert(&mut self, cert: Cert) {
        let slot = cert.statement.slot;
        if slot > self.top.slot && cert.statement.kind == Kind::Notar {
            let since = self.now.mono_ms;
            self.slots.entry(slot).or_default().notar = Some(Held { cert, since });
            self.finals_due.insert(slot);
        }
    }

    fn recover_candidate(&mut self, candidate: Candidate) {
        let (digest, slot) = (candidate.header.digest(), candidate.header.slot);
        if slot > self.tip.slot {
            let held = self.slots.get(&slot).and_then(|s| s.notar.as_ref());
            let certified = digest == self.top.digest || held.is_some_and(|held| held.cert.statement.digest == digest);
            self.insert_candidate(digest, candidate, super::candidates::Origin { signed: true, certified });
        }
    }
}

impl Frontier {
    pub(super) fn at(slot: u64, base: &Top, now: u64) -> Self {
        Frontier {
            slot,
            activated: now,
            armed: None,
            deadline: 0,
            base: (base.slot, base.digest),
            base_since: base.since,
            announced: false,
            includable: None,
        }
    }
}

/// s* is the highest final position that the ledger proves: by a certificate, or by its last block.
fn recovered_top(tip: &Tip, cert: Option<Cert>, now: u64) -> Top {
    match cert.filter(|cert| cert.statement.slot >= tip.slot) {
        Some(cert) => Top { slot: cert.statement.slot, digest: cert.statement.digest, cert: Some(cert), since: now },
        None => Top { slot: tip.slot, digest: tip.digest, cert: None, since: now },
    }
}

pub(super) fn facts_of(tip: &Tip) -> Facts {
    Facts { digest: tip.digest, slot: tip.slot, height: tip.height, time_ms: tip.time_ms, roots: Some(tip.roots) }
}
