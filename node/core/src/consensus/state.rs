//! All that the core knows (protocol.md §3.1), and how a restart rebuilds it from what is durable (P8).

use super::accusations::Accusations;
use super::batches::BatchBook;
use super::input::{Now, Recovered, Roots, Tip, WriteId};
use super::memory::{Inquiry, VotingState};
use super::output::{Halt, Output};
use super::random::Random;
use super::roster::Roster;
use super::verify::{Ed25519, Verify};
use crate::block::{Candidate, Header, Seal, VERSION};
use crate::epoch::{Epochs, Sets};
use crate::evidence::Class;
use crate::hash::Hash;
use crate::hello::Heard;
use crate::key::{PublicKey, Signature};
use crate::memory::Memory;
use crate::message::Status;
use crate::params::{Parameters, STATUS_EVERY_MS};
use crate::validators::{Index, ValidatorSet};
use crate::vote::{Cert, Kind, Statement, Vote};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Ends of epochs below the own one that are kept for stragglers (E7); what is older comes by block sync. Of later epochs a
/// start has as many as the blocks of the ledger lag behind votes.
pub(super) const SEALS_KEPT: u64 = 3;

/// What is fixed within an epoch; all but the sets and what follows from them within a process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Genesis hash: in every signature, and the digest of slot 0 of epoch 0.
    pub chain: Hash,
    /// Own consensus key.
    pub key: PublicKey,
    /// Validators of the epoch and of those around it.
    pub sets: Sets,
    /// Validators of the epoch: `sets.current`.
    pub set: Arc<ValidatorSet>,
    /// Own index in `set`, or a number beyond it: then this node follows and does not vote.
    pub me: Index,
    /// Keys of peers in the order of the shell's own numbers. Keys of new validators are appended ([`Output::Entered`]).
    pub roster: Vec<PublicKey>,
    /// Parameters of genesis.
    pub parameters: Parameters,
    /// Seeds the choice of peers to ask; any value is safe.
    pub seed: u64,
    /// Decides signatures.
    pub verifier: Arc<dyn Verify>,
    /// Newest version of blocks that this program speaks: [`VERSION`], but where a simulation stands for another program.
    pub version: u16,
    /// [`ValidatorSet::hash`] of `set`.
    pub set_hash: Hash,
    /// The same of `sets.next`.
    pub next_set_hash: Hash,
    /// True, but where liars of a simulation stand for altered code, or no disk ever loses a row: false votes at once and
    /// never looks for own votes elsewhere (A2, A8).
    pub watches_memory: bool,
    /// True, but in exhaustive exploration, where each header is known beforehand: false puts no evidence into own blocks.
    pub accuses: bool,
}

impl Config {
    /// A configuration with real signatures for epoch 0, of a member of its set.
    pub fn new(chain: Hash, set: Arc<ValidatorSet>, me: Index, parameters: Parameters, seed: u64) -> Self {
        let key = set.get(me).map_or(PublicKey([0; 32]), |member| member.key);
        let roster = set.members().iter().map(|member| member.key).collect();
        Config::at(chain, key, Sets::genesis(set), roster, parameters, seed)
    }

    /// A configuration with real signatures for any epoch and key.
    pub fn at(
        chain: Hash,
        key: PublicKey,
        sets: Sets,
        roster: Vec<PublicKey>,
        parameters: Parameters,
        seed: u64,
    ) -> Self {
        let set = sets.current.clone();
        let verifier = Arc::new(Ed25519::new(&set));
        let (set_hash, next_set_hash) = (set.hash(), sets.next.hash());
        let me = set.index_of(&key).unwrap_or(Index::MAX);
        let (watches_memory, accuses) = (true, true);
        Config {
            chain,
            key,
            sets,
            set,
            me,
            roster,
            parameters,
            seed,
            verifier,
            version: VERSION,
            set_hash,
            next_set_hash,
            watches_memory,
            accuses,
        }
    }

    /// The next epoch's; `after` is its next set (E1).
    pub(super) fn enter(&mut self, after: Arc<ValidatorSet>) {
        self.sets = self.sets.advance(after);
        self.set = self.sets.current.clone();
        self.verifier = self.verifier.prepared(&self.set);
        (self.set_hash, self.next_set_hash) = (self.next_set_hash, self.sets.next.hash());
    }

    /// e.
    pub(super) fn epoch(&self) -> u64 {
        self.sets.epoch
    }

    /// H_e: no block of this epoch is higher (E3).
    pub(super) fn last_height(&self) -> u64 {
        self.epochs().last(self.epoch())
    }

    pub(super) fn epochs(&self) -> Epochs {
        Epochs::by(&self.parameters)
    }

    /// Whether the own key is in the set: others follow, and vote in no slot.
    pub(super) fn is_member(&self) -> bool {
        self.set.get(self.me).is_some()
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
    /// Boundary blocks proposed again, by slot, with the signatures of their leaders (E4).
    pub(super) reproposals: BTreeMap<(u64, Hash), Signature>,
    /// Boundary blocks that are executed, with what their states decide (E1).
    pub(super) boundaries: BTreeMap<Hash, Arc<ValidatorSet>>,
    /// Header of a boundary block that came by block sync.
    pub(super) synced_boundary: Option<Header>,
    /// Ends of the last epochs, and whether they are durable (E5, E7, P10).
    pub(super) seals: BTreeMap<u64, Sealed>,
    /// What the ledger holds of epochs after this one: blocks of this one may be written later than votes of the next.
    pub(super) later: EpochRows,
    /// Inputs of the next epoch that came before its beginning, by peer.
    pub(super) ahead: BTreeMap<Index, super::ahead::Queue>,
    pub(super) roster: Roster,

    /// Writes without an answer.
    pub(super) writes: BTreeMap<WriteId, Option<Statement>>,
    pub(super) next_write: WriteId,
    /// A write failed or voting was halted: no vote until restart (P6).
    pub(super) stopped: bool,
    pub(super) halted: Option<Halt>,
    pub(super) ready: bool,
    pub(super) lagging: bool,
    /// No vote at or below this position, ever (P9).
    pub(super) vote_floor: (u64, u64),
    /// No own vote of this epoch is in a higher slot.
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
    /// When askers without a number are answered again (A4): at most 32.
    pub(super) others_marked: BTreeMap<PublicKey, u64>,
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

/// The end of an epoch.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) seal: Seal,
    pub(super) durable: bool,
    /// The write that makes it so.
    pub(super) write: Option<WriteId>,
}

/// Rows of the ledger, of one epoch or of those that have not begun here.
#[derive(Clone, Debug, Default)]
pub(super) struct EpochRows {
    pub(super) votes: Vec<Vote>,
    pub(super) certs: Vec<Cert>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) final_cert: Option<Cert>,
}

impl EpochRows {
    /// Those of an epoch, and those of later ones; what is of earlier ones is over (E5).
    pub(super) fn split(self, epoch: u64) -> (EpochRows, EpochRows) {
        let (votes, later_votes) = split(self.votes, epoch, |vote| vote.statement.epoch);
        let (certs, later_certs) = split(self.certs, epoch, |cert| cert.statement.epoch);
        let (candidates, later_candidates) = split(self.candidates, epoch, |candidate| candidate.header.epoch);
        let (now, later) = split(self.final_cert, epoch, |cert| cert.statement.epoch);
        let now = EpochRows { votes, certs, candidates, final_cert: now.into_iter().next() };
        let (votes, certs, candidates) = (later_votes, later_certs, later_candidates);
        (now, EpochRows { votes, certs, candidates, final_cert: later.into_iter().next() })
    }

    /// Highest slot voted in; 0 where there are no votes.
    pub(super) fn last_voted(&self) -> u64 {
        self.votes.iter().map(|vote| vote.statement.slot).max().unwrap_or(0)
    }
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
            seals,
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
        let mut config = config;
        let epoch = config.epoch();
        let (roster, n) = (Roster::new(&config), config.set.len());
        config.me = roster.me();
        config.roster = roster.keys().to_vec();
        let seals = recovered_seals(seals, epoch);
        let inquired: Vec<Vote> = votes.iter().chain(&memory.taken_back).cloned().collect();
        let (mut rows, later) = EpochRows { votes, certs, candidates, final_cert }.split(epoch);
        let tip_facts = floor_facts(&config, facts_of(&tip));
        let top = recovered_top(&tip_facts, rows.final_cert.take(), &seals, epoch, now.mono_ms);
        let frontier = Frontier::at(top.slot + 1, &top, now.mono_ms);
        let mut random = Random::new(config.seed);
        let inquiry = Inquiry::new(&inquired, &mut random, now.mono_ms);
        let mut core = Core {
            now,
            random,
            out: Vec::new(),
            wake: None,
            timer: None,
            tip: tip_facts,
            kept: BTreeMap::new(),
            slots: BTreeMap::new(),
            candidates: BTreeMap::new(),
            by_slot: BTreeMap::new(),
            open: BTreeSet::new(),
            past: VecDeque::new(),
            awaited: BTreeMap::new(),
            finals_due: BTreeSet::new(),
            batches: BatchBook::of_epoch(epoch),
            accusations: Accusations::default(),
            reproposals: BTreeMap::new(),
            boundaries: BTreeMap::new(),
            synced_boundary: None,
            seals,
            later,
            ahead: BTreeMap::new(),
            writes: BTreeMap::new(),
            next_write: 1,
            stopped: false,
            halted: None,
            ready: true,
            lagging: false,
            // Where somebody vouches for a database that lacks votes, those of blocks that were final need not be in it (A9).
            vote_floor: vote_floor.max(memory.vouched_to),
            last_voted: rows.last_voted(),
            memory,
            generation,
            voting_state: VotingState::Checking,
            inquiry,
            frontier,
            instant: BTreeSet::new(),
            missing_since: vec![None; n],
            became_final: VecDeque::new(),
            peers: vec![Peer::default(); roster.len()],
            others_marked: BTreeMap::new(),
            roster,
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
        core.recover_rows(rows);
        core.a9_recover_taken_back();
        core.a2_begin();
        core
    }

    /// F: the least uncleared slot.
    pub fn frontier(&self) -> u64 {
        self.frontier.slot
    }

    /// Epoch whose slots these are.
    pub fn epoch(&self) -> u64 {
        self.config.epoch()
    }

    /// The sets of this epoch and of those around it.
    pub fn sets(&self) -> &Sets {
        &self.config.sets
    }

    /// Own index in the epoch's set; `None`: this node follows.
    pub fn member(&self) -> Option<Index> {
        self.config.is_member().then_some(self.config.me)
    }

    /// Peers by number.
    pub fn roster(&self) -> &[PublicKey] {
        self.roster.keys()
    }

    /// s*: the highest final slot.
    pub fn final_slot(&self) -> u64 {
        self.top.slot
    }

    /// Height of the last block let out.
    pub fn height(&self) -> u64 {
        self.tip.height
    }

    /// Whether no block to come may include this batch: it is in a final one, or has expired (V6).
    pub fn is_spent(&self, batch: &Hash, expiry_height: u64) -> bool {
        self.batches.is_included(batch) || expiry_height <= self.tip.height
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

    /// Numbers of peers go out as those of the shell.
    pub(super) fn emit(&mut self, mut output: Output) {
        match &mut output {
            Output::Send { to, .. } | Output::Announce { to, .. } => *to = self.roster.global(*to),
            Output::Behind { peer, .. } => *peer = self.roster.global(*peer),
            _ => {}
        }
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
        self.config.set.leader(self.config.epoch(), slot)
    }

    /// Rows of this epoch, at a start or where it begins: nothing is re-decided (P8).
    pub(super) fn recover_rows(&mut self, rows: EpochRows) {
        let EpochRows { votes, certs, candidates, final_cert: _ } = rows;
        self.recover_votes(&votes);
        certs.into_iter().for_each(|cert| self.recover_cert(cert));
        candidates.into_iter().for_each(|candidate| self.recover_candidate(candidate));
        self.recover_boundary();
        self.want_ancestors_of_top();
        // A validator that is a quorum by itself may hold certificates by its own votes alone.
        votes.iter().for_each(|vote| self.c3_certify(vote.statement));
    }

    /// Own rows above s* are votes in the pool, and forbid any other vote of their class.
    fn recover_votes(&mut self, votes: &[Vote]) {
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
            // A boundary block may be notarized in other slots than its own (E4).
            let names = |s: &Slot| s.notar.as_ref().is_some_and(|held| held.cert.statement.digest == digest);
            let certified = digest == self.top.digest || self.slots.values().any(names);
            // A boundary block that was voted for when proposed again may have come without its first leader's signature.
            let signed = candidate.is_signed();
            self.insert_candidate(digest, candidate, super::candidates::Origin { signed, certified });
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

/// s* is the highest final position that the ledger proves: by a certificate, by the end of the epoch or of the one before,
/// or by its last block.
fn recovered_top(tip: &Facts, cert: Option<Cert>, seals: &BTreeMap<u64, Sealed>, epoch: u64, now: u64) -> Top {
    let seal = seals.get(&epoch).map(|sealed| sealed.seal.cert.clone());
    // The same block may have become final again in a higher slot (E4).
    let highest = [seal, cert].into_iter().flatten().max_by_key(|cert| cert.statement.slot);
    match highest.filter(|cert| cert.statement.slot >= tip.slot) {
        Some(cert) => Top { slot: cert.statement.slot, digest: cert.statement.digest, cert: Some(cert), since: now },
        None => {
            let below = epoch.checked_sub(1).and_then(|before| seals.get(&before));
            let cert = below.map(|sealed| sealed.seal.cert.clone()).filter(|cert| cert.statement.digest == tip.digest);
            Top { slot: tip.slot, digest: tip.digest, cert, since: now }
        }
    }
}

/// All that are not too old; each is in the ledger.
fn recovered_seals(seals: Vec<Seal>, epoch: u64) -> BTreeMap<u64, Sealed> {
    let sealed = |seal: Seal| (seal.header.epoch, Sealed { seal, durable: true, write: None });
    let mut seals: BTreeMap<u64, Sealed> = seals.into_iter().map(sealed).collect();
    seals.split_off(&epoch.saturating_sub(SEALS_KEPT))
}

fn split<T>(items: impl IntoIterator<Item = T>, epoch: u64, of: impl Fn(&T) -> u64) -> (Vec<T>, Vec<T>) {
    let (later, now): (Vec<T>, Vec<T>) = items.into_iter().partition(|item| of(item) > epoch);
    (now.into_iter().filter(|item| of(item) == epoch).collect(), later)
}

/// The last block of the epoch before is slot 0 of this one (M4).
pub(super) fn floor_facts(config: &Config, facts: Facts) -> Facts {
    let is_floor = config.epochs().after(facts.height) == config.epoch() && config.epochs().is_boundary(facts.height);
    Facts { slot: if is_floor { 0 } else { facts.slot }, ..facts }
}

pub(super) fn facts_of(tip: &Tip) -> Facts {
    Facts { digest: tip.digest, slot: tip.slot, height: tip.height, time_ms: tip.time_ms, roots: Some(tip.roots) }
}
