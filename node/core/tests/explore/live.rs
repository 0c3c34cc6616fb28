//! A running validator in the exploration: the real core, its disk and the shell around them, and what happens to it.

use crate::disk::Disk;
use crate::local::Happening;
use crate::universe::{Rows, Universe, WALL};
use aitbc_core::block::{Candidate, Proposal, Reproposal, Seal};
use aitbc_core::codec;
use aitbc_core::consensus::Core;
use aitbc_core::consensus::input::{Input, Now, WriteFailure};
use aitbc_core::consensus::output::{Event, Output, Rows as Commit, Write};
use aitbc_core::epoch::Sets;
use aitbc_core::hash::{self, Hash};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Cert, Kind, Statement, Vote};

/// Commits that one step may add to those under way: a Final certificate, and a vote of each class.
pub const COMMITS_OF_A_STEP: usize = 4;
/// How time passes in a wait, in milliseconds: half of T0 and a bit, T0, an idle chain's pause, the longest timeout.
const WAITS: [u64; 4] = [501, 1_000, 100_000, 10_000];

/// What a commit holds, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Haste {
    Vote,
    Cert,
    Seal,
}

/// A running validator.
#[derive(Clone)]
pub struct Live {
    core: Core,
    pub disk: Disk,
    now: u64,
    pending: Vec<Write>,
    executing: Vec<usize>,
    /// Certificates held in this life, by statement.
    held: Rows,
    /// Votes heard in this life, by signer and statement: an honest signer has one of a class.
    heard: Vec<(Index, usize)>,
    /// Messages of the next epoch that came before that has begun here.
    early: usize,
    /// Last block let out in this life.
    pub finalized: Option<usize>,
    /// A rule that was broken.
    pub bad: Option<&'static str>,
}

impl Live {
    pub fn start(universe: &Universe, me: Index, disk: Disk) -> Live {
        let now = Now { mono_ms: 0, wall_ms: WALL };
        let mut core = Core::new(universe.config_of(me, disk.tip), disk.recover(universe), now);
        let mut out = Vec::new();
        core.start(now, &mut out);
        let held = disk.held(universe);
        let (pending, executing, heard) = Default::default();
        let (now, early, finalized, bad) = (0, 0, disk.tip, None);
        let mut live = Live { core, disk, now, pending, executing, held, heard, early, finalized, bad };
        live.carry_out(universe, me, out);
        live
    }

    /// What tells states apart.
    pub fn key(&self, universe: &Universe) -> Hash {
        let pending: Vec<_> = self.pending.iter().map(|write| row_key(&write.rows)).collect();
        let finalized = self.finalized.map(|cand| cand as u32);
        let executing: Vec<u32> = self.executing.iter().map(|cand| *cand as u32).collect();
        let disk = self.disk.key(universe);
        let heard: Vec<_> = self.heard.iter().map(|(signer, statement)| (*signer, *statement as u32)).collect();
        let bad = self.bad.unwrap_or_default().to_owned();
        hash::plain(&codec::encode(&(self.core.fingerprint(), disk, pending, executing, heard, finalized, bad)))
    }

    /// False if it cannot happen here, or can change nothing.
    pub fn can(&self, universe: &Universe, me: Index, happening: Happening) -> bool {
        let pending = self.pending.len();
        let listens = pending < universe.bounds.commits_under_way;
        match happening {
            Happening::Cand(cand) => listens && self.is_due(universe, universe.cands[cand].slot),
            Happening::Vote(from, statement) => {
                listens
                    && self.is_due(universe, universe.slot_of(statement))
                    && self.can_hear_vote(universe, from, statement)
            }
            Happening::Cert(statement) => {
                listens
                    && self.is_due(universe, universe.slot_of(statement))
                    && self.can_hear_cert(universe, me, statement)
            }
            Happening::Seal(cand) => listens && self.is_possible(universe, me, universe.fin(cand)),
            Happening::Synced(cand) => listens && self.can_sync(universe, me, cand),
            Happening::Append => self.finalized != self.disk.tip,
            Happening::OldCert(_) => listens && self.core.epoch() == 1,
            Happening::Executed(cand) => listens && self.executing.contains(&cand),
            // Beyond the explored slots nothing is waited for.
            Happening::Wait => listens && self.is_explored(universe),
            Happening::Commit | Happening::Fail(_) => pending > 0,
            Happening::Overtake(haste) => self.overtaking(haste).is_some(),
            Happening::Crash(commits) => commits <= pending,
        }
    }

    /// F is one of the explored slots.
    fn is_explored(&self, universe: &Universe) -> bool {
        universe.position((self.core.epoch(), self.core.frontier())).is_some()
    }

    /// Of this epoch, or one of the first messages of the next; what is of the one before changes nothing, and comes all the
    /// same.
    fn is_due(&self, universe: &Universe, slot: usize) -> bool {
        let early = universe.bounds.boundary.map_or(0, |boundary| boundary.early);
        !self.is_ahead(universe, slot) || self.early < early
    }

    fn is_ahead(&self, universe: &Universe, slot: usize) -> bool {
        universe.place(slot).0 > self.core.epoch()
    }

    /// The first commit of a kind, if all that is ahead of it has less haste.
    fn overtaking(&self, haste: Haste) -> Option<usize> {
        let of = |write: &Write| haste_of(&write.rows);
        let at = self.pending.iter().position(|write| of(write) == haste)?;
        (at > 0 && self.pending[..at].iter().all(|write| of(write) > haste)).then_some(at)
    }

    pub fn happens(&mut self, universe: &Universe, me: Index, happening: Happening) {
        match happening {
            Happening::Cand(cand) => self.hear_candidate(universe, me, cand),
            Happening::Cert(statement) => self.hear_cert(universe, me, statement),
            Happening::Seal(cand) => self.hear_seal(universe, me, cand),
            Happening::Synced(cand) => self.sync(universe, me, cand),
            Happening::Append => self.disk.tip = self.finalized,
            Happening::OldCert(statement) => self.hear_old_cert(universe, me, statement),
            Happening::Vote(from, statement) => self.hear_vote(universe, me, from, statement),
            Happening::Executed(cand) => self.executed(universe, me, cand),
            Happening::Wait => self.wait(universe, me),
            Happening::Commit => self.commit(universe, me, 0),
            Happening::Overtake(haste) => {
                if let Some(at) = self.overtaking(haste) {
                    self.commit(universe, me, at);
                }
            }
            Happening::Fail(there) => self.fail(universe, me, there),
            Happening::Crash(_) => unreachable!("a crash is a new start"),
        }
    }

    fn hear_candidate(&mut self, universe: &Universe, me: Index, cand: usize) {
        self.early += usize::from(self.is_ahead(universe, universe.cands[cand].slot));
        let statement = universe.statement(universe.notar(cand));
        let Statement { epoch, slot, digest, .. } = statement;
        let from = universe.leader(universe.cands[cand].slot);
        let candidate = universe.cands[cand].candidate.clone();
        let input = if universe.cands[cand].again.is_some() {
            let signature = universe.sign(from, statement).signature;
            Input::Reproposal { from, reproposal: Reproposal { epoch, slot, digest, signature, proof: Vec::new() } }
        } else if epoch == self.core.epoch() && slot <= self.core.final_slot() {
            // A final slot's candidate comes only as an answer.
            Input::Cand { from, candidate }
        } else {
            Input::Proposal { from, proposal: Proposal { candidate, proof: Vec::new() } }
        };
        self.give(universe, me, input);
    }

    fn can_hear_vote(&self, universe: &Universe, from: Index, number: usize) -> bool {
        let (kind, honest) = (universe.statement(number).kind, !universe.is_byzantine(from));
        let of_class = |heard: usize| {
            let same_slot = universe.slot_of(heard) == universe.slot_of(number);
            same_slot && universe.statement(heard).kind.class() == kind.class()
        };
        let spoke = honest && self.heard.iter().any(|(signer, heard)| *signer == from && of_class(*heard));
        !spoke && !self.heard.contains(&(from, number))
    }

    fn hear_vote(&mut self, universe: &Universe, me: Index, from: Index, number: usize) {
        self.early += usize::from(self.is_ahead(universe, universe.slot_of(number)));
        if !universe.is_byzantine(from) {
            self.heard.push((from, number));
            self.heard.sort_unstable();
        }
        let vote = universe.sign(from, universe.statement(number));
        self.give(universe, me, Input::Vote { from, vote });
    }

    /// What contradicts a held certificate cannot exist while safety holds, which is checked apart.
    fn can_hear_cert(&self, universe: &Universe, me: Index, number: usize) -> bool {
        let Statement { epoch, slot, .. } = universe.statement(number);
        let stale = epoch == self.core.epoch() && slot <= self.core.final_slot();
        !stale && self.held >> number & 1 == 0 && self.is_possible(universe, me, number)
    }

    /// Votes for it can make a quorum, and nothing held contradicts it.
    fn is_possible(&self, universe: &Universe, me: Index, number: usize) -> bool {
        let statement = universe.statement(number);
        let set = universe.set(statement.epoch);
        let index_of = |peer: &Index| universe.index_of(*peer, statement.epoch);
        let signers = self.signers(universe, me, &statement);
        let weight: u64 = signers.iter().filter_map(index_of).map(|index| set.weight(index)).sum();
        weight >= set.quorum() && !self.contradicts(universe, number) && !self.is_elsewhere(universe, number)
    }

    /// The Byzantine, all other members, and the own vote if that is durable. Which quorum signed makes no difference to the
    /// state (see `Core::fingerprint`).
    fn signers(&self, universe: &Universe, me: Index, statement: &Statement) -> Vec<Index> {
        let mine = self.disk.has(statement);
        let is_member = |peer: &Index| universe.index_of(*peer, statement.epoch).is_some();
        universe.peers().filter(is_member).filter(|peer| *peer != me || mine).collect()
    }

    fn hear_cert(&mut self, universe: &Universe, me: Index, number: usize) {
        self.early += usize::from(self.is_ahead(universe, universe.slot_of(number)));
        let cert = self.cert_of(universe, me, number);
        self.give(universe, me, Input::Cert { from: universe.bounds.byzantine[0], cert });
    }

    fn cert_of(&self, universe: &Universe, me: Index, number: usize) -> Cert {
        let statement = universe.statement(number);
        universe.cert(statement, &self.signers(universe, me, &statement))
    }

    fn hear_seal(&mut self, universe: &Universe, me: Index, cand: usize) {
        let header = universe.cands[cand].candidate.header.clone();
        let cert = self.cert_of(universe, me, universe.fin(cand));
        self.give(universe, me, Input::Seal { from: universe.bounds.byzantine[0], seal: Seal { header, cert } });
    }

    /// Above the last block let out, in the epoch that has begun here.
    fn can_sync(&self, universe: &Universe, me: Index, cand: usize) -> bool {
        let is_below = |last: usize| universe.block(cand) != last && universe.descends(cand, last);
        let above = self.finalized.is_none_or(is_below);
        let now = universe.place(universe.cands[cand].slot).0 == self.core.epoch();
        above && now && self.is_possible(universe, me, universe.fin(cand))
    }

    /// The shell lets synced blocks out itself.
    fn sync(&mut self, universe: &Universe, me: Index, cand: usize) {
        let cert = self.cert_of(universe, me, universe.fin(cand));
        self.finalized = Some(universe.block(cand));
        self.give(universe, me, universe.synced(cand, cert));
    }

    /// By the numbers of epoch 0: also who has left has signed.
    fn hear_old_cert(&mut self, universe: &Universe, me: Index, number: usize) {
        let statement = universe.statement(number);
        let mine = self.disk.has(&statement);
        let signers: Vec<Index> = universe.peers().filter(|peer| *peer != me || mine).collect();
        let cert = universe.cert_by_old_set(statement, &signers);
        self.give(universe, me, Input::Cert { from: universe.bounds.byzantine[0], cert });
    }

    fn contradicts(&self, universe: &Universe, number: usize) -> bool {
        let statement = universe.statement(number);
        (0..universe.statements()).filter(|number| self.held >> number & 1 == 1).any(|other| {
            let held = universe.statement(other);
            let skip = |s: &Statement| s.kind == Kind::Skip;
            let two = held.digest != statement.digest && !skip(&held) && !skip(&statement);
            let outcome = held.kind.class() == 1 && statement.kind.class() == 1 && held.kind != statement.kind;
            universe.slot_of(other) == universe.slot_of(number) && (two || outcome)
        })
    }

    /// Where an epoch ends: final, or in epoch 1, and on another branch than what is final here or on the disk.
    fn is_elsewhere(&self, universe: &Universe, number: usize) -> bool {
        let n = universe.cands.len();
        let (cand, Statement { epoch, kind, .. }) = (number % n, universe.statement(number));
        let forks = |last: usize| !universe.descends(cand, last) && !universe.descends(last, cand);
        let known = self.held_now(universe) | self.disk.held(universe);
        let finals = (0..n).filter(|last| known >> universe.fin(*last) & 1 == 1);
        let binds = kind == Kind::Final || epoch == 1 && kind == Kind::Notar;
        binds && universe.bounds.boundary.is_some() && finals.chain(self.finalized).any(forks)
    }

    /// Certificates that the core remembers: what it has forgotten does not tell states apart.
    pub fn held_now(&self, universe: &Universe) -> Rows {
        let (epoch, last) = (self.core.epoch(), self.core.final_slot());
        let is_known = |number: &usize| {
            let Statement { epoch: of, slot, kind, .. } = universe.statement(*number);
            of == epoch && (slot > last || slot == last && kind == Kind::Final)
        };
        let held = (0..universe.statements()).filter(|number| self.held >> number & 1 == 1);
        held.filter(is_known).fold(0, |all, number| all | 1 << number)
    }

    fn executed(&mut self, universe: &Universe, me: Index, cand: usize) {
        self.executing.retain(|other| *other != cand);
        self.give(universe, me, universe.executed(cand));
    }

    /// Time passes until the core asks for a commit.
    fn wait(&mut self, universe: &Universe, me: Index) {
        let before = self.pending.len();
        for pause in WAITS {
            if !self.is_explored(universe) || self.pending.len() > before || self.bad.is_some() {
                break;
            }
            self.now += pause;
            self.give(universe, me, Input::Tick);
        }
    }

    fn commit(&mut self, universe: &Universe, me: Index, at: usize) {
        let write = self.pending.remove(at);
        match self.disk.commit(universe, me, &write.rows) {
            Ok(vote) => {
                let signature = vote.map(|vote| vote.signature);
                self.give(universe, me, Input::Durable { write: write.id, signature });
            }
            Err(bad) => self.bad = Some(bad),
        }
    }

    /// Commits behind the one that failed are not tried: the shell ends the process.
    fn fail(&mut self, universe: &Universe, me: Index, there: bool) {
        let write = self.pending.remove(0);
        self.pending.clear();
        if there && let Err(bad) = self.disk.commit(universe, me, &write.rows) {
            self.bad = Some(bad);
            return;
        }
        self.give(universe, me, Input::WriteFailed { write: write.id, failure: WriteFailure::Unknown });
    }

    /// The disk after a crash, and what its schema refused.
    pub fn torn(&self, universe: &Universe, me: Index, commits: usize) -> (Disk, Option<&'static str>) {
        let mut disk = self.disk.clone();
        let refused = self.pending[..commits].iter().find_map(|write| disk.commit(universe, me, &write.rows).err());
        (disk, refused)
    }

    // ---- the shell around the core ----

    fn give(&mut self, universe: &Universe, me: Index, input: Input) {
        let mut out = Vec::new();
        let epoch = self.core.epoch();
        self.core.step(Now { mono_ms: self.now, wall_ms: WALL }, input, &mut out);
        if self.core.epoch() != epoch {
            self.early = 0;
            self.heard.retain(|(_, statement)| universe.statements_of(epoch) >> statement & 1 == 0);
        }
        self.carry_out(universe, me, out);
    }

    fn carry_out(&mut self, universe: &Universe, me: Index, out: Vec<Output>) {
        let mut executed = Vec::new();
        for output in out {
            match output {
                Output::Persist(write) => self.persist(universe, write),
                Output::Send { message, .. } | Output::Broadcast(message) => self.check_sent(universe, me, &message),
                Output::Execute { digest, .. } => executed.push(digest),
                Output::Finalized { blocks, .. } => self.finalize(universe, &blocks),
                Output::Entered { sets, .. } => self.check_entered(universe, &sets),
                Output::Halt(_) => self.bad = Some("the core halts (C21)"),
                Output::Evidence(evidence) => {
                    let signer = universe.peer(evidence.epoch(), evidence.signer());
                    if !universe.is_byzantine(signer) && universe.bounds.single_votes {
                        self.bad = Some("an honest validator is accused (X2)");
                    }
                }
                Output::Event(Event::Certified { statement }) => {
                    if let Some(number) = universe.number_of(&statement) {
                        self.held |= 1 << number;
                    }
                }
                Output::Event(_)
                | Output::Timer(_)
                | Output::Announce { .. }
                | Output::TwoBatches { .. }
                | Output::Behind { .. }
                | Output::Mark { .. } => {}
            }
        }
        for digest in executed {
            // Own blocks beyond the explored slots are nobody's business.
            let Some(cand) = universe.find(&digest) else { continue };
            if universe.bounds.slow_execution {
                self.executing.push(cand);
                self.executing.sort_unstable();
            } else {
                self.give(universe, me, universe.executed(cand));
            }
        }
    }

    /// E1, E6.
    fn check_entered(&mut self, universe: &Universe, sets: &Sets) {
        if sets.current != *universe.set(sets.epoch) {
            self.bad = Some("an epoch begins with another set than the chain's (E1)");
        }
        if !self.finalized.is_some_and(|cand| universe.is_boundary(cand)) {
            self.bad = Some("an epoch begins on what is no final boundary block (E6)");
        }
    }

    /// Votes beyond the explored slots never reach the disk.
    fn persist(&mut self, universe: &Universe, write: Write) {
        let place = match &write.rows {
            Commit::Notar { statement, .. } | Commit::Final { statement, .. } | Commit::Skip { statement } => {
                (statement.epoch, statement.slot)
            }
            Commit::FinalCert { cert } => (cert.statement.epoch, cert.statement.slot),
            Commit::Seal { seal } => (seal.cert.statement.epoch, seal.cert.statement.slot),
            Commit::Memory { .. } => unreachable!("no row was ever lost here (A3)"),
        };
        if universe.position(place).is_some() {
            self.pending.push(write);
            let most = universe.bounds.commits_under_way + COMMITS_OF_A_STEP;
            assert!(self.pending.len() < most, "more commits under way than a crash may tear");
        }
    }

    /// P5: a vote, and a certificate or proposal that holds it, leaves only when it is durable.
    fn check_sent(&mut self, universe: &Universe, me: Index, message: &Message) {
        let is_me = |epoch: u64, signer: Index| universe.index_of(me, epoch) == Some(signer);
        let mine = |signer: Index, statement: Statement| is_me(statement.epoch, signer).then_some(statement);
        let of_vote = |vote: &Vote| mine(vote.signer, vote.statement);
        let of_candidate = |candidate: &Candidate| of_vote(&candidate.vote(candidate.header.digest()));
        let of_cert = |cert: &Cert| cert.signer_indices().find_map(|signer| mine(signer, cert.statement));
        let own: Vec<Statement> = match message {
            Message::Vote(vote) => of_vote(vote).into_iter().collect(),
            Message::Proposal(proposal) => of_candidate(&proposal.candidate).into_iter().collect(),
            Message::Reproposal(again) => of_reproposal(universe, me, again).into_iter().collect(),
            Message::Cand(candidate) => of_candidate(candidate).into_iter().collect(),
            Message::Cert(cert) => of_cert(cert).into_iter().collect(),
            Message::Certs { certs } => certs.iter().filter_map(of_cert).collect(),
            Message::Seal(seal) => of_cert(&seal.cert).into_iter().collect(),
            _ => Vec::new(),
        };
        if own.iter().any(|statement| !self.disk.has(statement)) {
            self.bad = Some("a vote leaves before it is durable (P5)");
        }
    }

    /// C19: in order, each on the one before.
    fn finalize(&mut self, universe: &Universe, blocks: &[(Hash, Candidate)]) {
        for (digest, _) in blocks {
            let cand = universe.find(digest).expect("a candidate of the universe");
            if universe.cands[cand].parent != self.finalized {
                self.bad = Some("a final block does not follow the last one (C19)");
            }
            self.finalized = Some(cand);
        }
    }
}

/// The own Notar vote that a re-proposal carries (F6).
fn of_reproposal(universe: &Universe, me: Index, again: &Reproposal) -> Option<Statement> {
    let Reproposal { epoch, slot, digest, .. } = *again;
    let leads = universe.set(epoch).leader(epoch, slot);
    let mine = universe.index_of(me, epoch) == Some(leads);
    mine.then_some(Statement { epoch, slot, kind: Kind::Notar, digest })
}

fn haste_of(rows: &Commit) -> Haste {
    match rows {
        Commit::Notar { .. } | Commit::Final { .. } | Commit::Skip { .. } => Haste::Vote,
        Commit::FinalCert { .. } => Haste::Cert,
        Commit::Seal { .. } | Commit::Memory { .. } => Haste::Seal,
    }
}

/// What a commit under way holds: what it is, epoch, slot, digest.
fn row_key(rows: &Commit) -> (u8, u64, u64, Hash) {
    let (what, Statement { epoch, slot, digest, .. }) = match rows {
        Commit::Notar { statement, .. } => (0, *statement),
        Commit::Final { statement, .. } => (1, *statement),
        Commit::Skip { statement } => (2, *statement),
        Commit::FinalCert { cert } => (3, cert.statement),
        Commit::Seal { seal } => (4, seal.cert.statement),
        Commit::Memory { .. } => unreachable!("never asked for"),
    };
    (what, epoch, slot, digest)
}
