//! One validator: the real core with its disk, and every state that any order of inputs can bring it to.
//!
//! The graph is made once, for an environment in which any message may come at any time; `global.rs` then lets through
//! only those whose votes have been cast.

use crate::disk::Disk;
use crate::universe::{Rows, Universe, WALL, roots};
use aitbc_core::block::{Candidate, Proposal};
use aitbc_core::codec;
use aitbc_core::consensus::Core;
use aitbc_core::consensus::input::{Input, Now, WriteFailure};
use aitbc_core::consensus::output::{Event, Output, Rows as Commit, Write};
use aitbc_core::hash::{self, Hash};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Cert, Kind, Statement};
use std::collections::HashMap;

/// Commits that one step may add to those under way: a Final certificate, and a vote of each class.
const COMMITS_OF_A_STEP: usize = 4;
/// How time passes in a wait, in milliseconds: half of T0 and a bit, T0, an idle chain's pause, the longest timeout.
const WAITS: [u64; 4] = [501, 1_000, 100_000, 10_000];

/// What can happen to a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A candidate arrives.
    Cand(usize),
    /// A certificate of a statement arrives.
    Cert(usize),
    /// A vote arrives from its signer.
    Vote(Index, usize),
    /// An execution ends.
    Executed(usize),
    /// Time passes until the core acts.
    Wait,
    /// The oldest commit is durable.
    Commit,
    /// The outcome of the oldest commit is unknown; whether its rows are there.
    Fail(bool),
    /// The process dies and starts again; so many commits under way have reached the disk.
    Crash(usize),
}

/// A running validator.
#[derive(Clone)]
struct Live {
    core: Core,
    disk: Disk,
    now: u64,
    pending: Vec<Write>,
    executing: Vec<usize>,
    /// Certificates held in this life, by statement.
    held: Rows,
    /// Votes heard in this life, by signer and statement: an honest signer has one of a class.
    heard: Vec<(Index, usize)>,
    /// Last block let out in this life.
    finalized: Option<usize>,
    bad: Option<&'static str>,
}

/// A state of the graph.
pub struct State {
    /// Own votes that are durable.
    pub rows: Rows,
    /// Last block let out as final.
    pub finalized: Option<usize>,
    /// A rule broken on the way here.
    pub bad: Option<&'static str>,
    /// Where it came from first.
    from: Option<(u32, Happening)>,
    /// Happening by number, and the state after it. Those that change nothing are left out.
    pub edges: Vec<(u8, u32)>,
}

pub struct Graph {
    pub me: Index,
    pub happenings: Vec<Happening>,
    pub states: Vec<State>,
    pub steps: u64,
}

/// States met while a graph is made.
#[derive(Default)]
struct Visited {
    seen: HashMap<Hash, u32>,
    todo: Vec<(u32, Live)>,
    /// What each disk starts as.
    starts: HashMap<(crate::disk::Key, Option<&'static str>), u32>,
}

/// More states than a bound allows.
#[derive(Debug)]
pub struct TooMany;

impl Graph {
    /// Every reachable state.
    ///
    /// # Errors
    /// Where there are more than `states_max`.
    pub fn explore(universe: &Universe, me: Index, states_max: usize) -> Result<Graph, TooMany> {
        let happenings = happenings(universe, me);
        let mut graph = Graph { me, happenings, states: Vec::new(), steps: 0 };
        let mut visited = Visited::default();
        let first = Live::start(universe, me, Disk::default());
        graph.add(universe, first, None, &mut visited);
        while let Some((id, live)) = visited.todo.pop() {
            if graph.states.len() > states_max {
                return Err(TooMany);
            }
            for number in 0..graph.happenings.len() {
                let happening = graph.happenings[number];
                if !live.can(universe, me, happening) {
                    continue;
                }
                graph.steps += 1;
                let to = graph.after(universe, (id, &live), happening, &mut visited);
                if to != id {
                    graph.states[id as usize].edges.push((number as u8, to));
                }
            }
        }
        Ok(graph)
    }

    /// The state after a happening. A start depends on the disk alone, so each is made once.
    fn after(&mut self, universe: &Universe, from: (u32, &Live), happening: Happening, visited: &mut Visited) -> u32 {
        let (id, live) = from;
        let Happening::Crash(commits) = happening else {
            let mut next = live.clone();
            next.happens(universe, self.me, happening);
            return self.add(universe, next, Some((id, happening)), visited);
        };
        let (disk, bad) = live.torn(universe, self.me, commits);
        let key = (disk.key(universe), bad);
        if let Some(known) = visited.starts.get(&key) {
            return *known;
        }
        let mut next = Live::start(universe, self.me, disk);
        next.bad = next.bad.or(bad);
        let started = self.add(universe, next, Some((id, happening)), visited);
        visited.starts.insert(key, started);
        started
    }

    fn add(&mut self, universe: &Universe, live: Live, from: Option<(u32, Happening)>, visited: &mut Visited) -> u32 {
        let id = self.states.len() as u32;
        let known = *visited.seen.entry(live.key(universe)).or_insert(id);
        if known == id {
            let rows = live.disk.rows(universe);
            self.states.push(State { rows, finalized: live.finalized, bad: live.bad, from, edges: Vec::new() });
            if live.bad.is_none() {
                visited.todo.push((id, live));
            }
        }
        known
    }

    /// Happenings that need nobody's vote, and those whose votes are cast: bit b for happening b.
    pub fn available(&self, universe: &Universe, votes: &[Rows]) -> u128 {
        let is = |happening: &Happening| match *happening {
            Happening::Cand(cand) => {
                let leader = universe.leader(universe.cands[cand].slot);
                universe.is_byzantine(leader) || cast(universe, votes, leader, universe.notar(cand))
            }
            Happening::Cert(statement) => universe.reached(votes, statement),
            Happening::Vote(signer, statement) => {
                universe.is_byzantine(signer) || cast(universe, votes, signer, statement)
            }
            Happening::Executed(_) | Happening::Wait | Happening::Commit | Happening::Fail(_) | Happening::Crash(_) => {
                true
            }
        };
        let bits = self.happenings.iter().enumerate().filter(|(_, happening)| is(happening));
        bits.fold(0, |mask, (bit, _)| mask | 1 << bit)
    }

    /// How a state was reached.
    pub fn story(&self, mut state: u32) -> Vec<Happening> {
        let mut story = Vec::new();
        while let Some((from, happening)) = self.states[state as usize].from {
            story.push(happening);
            state = from;
        }
        story.reverse();
        story
    }
}

fn cast(universe: &Universe, votes: &[Rows], signer: Index, statement: usize) -> bool {
    let at = universe.honest.iter().position(|index| *index == signer);
    at.is_some_and(|at| votes[at] >> statement & 1 == 1)
}

fn happenings(universe: &Universe, me: Index) -> Vec<Happening> {
    let bounds = &universe.bounds;
    let cands = 0..universe.cands.len();
    let others = cands.clone().filter(|cand| universe.leader(universe.cands[*cand].slot) != me);
    let mut all: Vec<Happening> = others.map(Happening::Cand).collect();
    let statements = 0..universe.statements();
    if bounds.single_votes {
        let signers = (0..bounds.weights.len() as Index).filter(|signer| *signer != me);
        all.extend(signers.flat_map(|signer| statements.clone().map(move |s| Happening::Vote(signer, s))));
    } else {
        all.extend(statements.map(Happening::Cert));
    }
    if bounds.slow_execution {
        all.extend(cands.map(Happening::Executed));
    }
    all.extend([Happening::Wait, Happening::Commit]);
    if bounds.failures {
        all.extend([Happening::Fail(false), Happening::Fail(true)]);
    }
    all.extend((0..bounds.commits_under_way + COMMITS_OF_A_STEP).map(Happening::Crash));
    assert!(all.len() <= 128, "the happenings of a validator must fit 128 bits");
    all
}

impl Live {
    fn start(universe: &Universe, me: Index, disk: Disk) -> Live {
        let now = Now { mono_ms: 0, wall_ms: WALL };
        let mut core = Core::new(universe.config_of(me), disk.recover(universe), now);
        let mut out = Vec::new();
        core.start(now, &mut out);
        let held = disk.held(universe);
        let (pending, executing, heard) = Default::default();
        let mut live = Live { core, disk, now: 0, pending, executing, held, heard, finalized: None, bad: None };
        live.carry_out(universe, me, out);
        live
    }

    /// What tells states apart.
    fn key(&self, universe: &Universe) -> Hash {
        let pending: Vec<_> = self.pending.iter().map(|write| row_key(&write.rows)).collect();
        let finalized = self.finalized.map(|cand| cand as u32);
        let executing: Vec<u32> = self.executing.iter().map(|cand| *cand as u32).collect();
        let disk = self.disk.key(universe);
        let heard: Vec<_> = self.heard.iter().map(|(signer, statement)| (*signer, *statement as u32)).collect();
        let bad = self.bad.unwrap_or_default().to_owned();
        hash::plain(&codec::encode(&(self.core.fingerprint(), disk, pending, executing, heard, finalized, bad)))
    }

    /// False if it cannot happen here, or can change nothing.
    fn can(&self, universe: &Universe, me: Index, happening: Happening) -> bool {
        let pending = self.pending.len();
        let listens = pending < universe.bounds.commits_under_way;
        match happening {
            Happening::Cand(_) => listens,
            Happening::Vote(from, statement) => listens && self.can_hear_vote(universe, from, statement),
            Happening::Cert(statement) => listens && self.can_hear_cert(universe, me, statement),
            Happening::Executed(cand) => listens && self.executing.contains(&cand),
            // Beyond the explored slots nothing is waited for.
            Happening::Wait => listens && universe.position(self.core.frontier()).is_some(),
            Happening::Commit | Happening::Fail(_) => pending > 0,
            Happening::Crash(commits) => commits <= pending,
        }
    }

    fn happens(&mut self, universe: &Universe, me: Index, happening: Happening) {
        match happening {
            Happening::Cand(cand) => self.hear_candidate(universe, me, cand),
            Happening::Cert(statement) => self.hear_cert(universe, me, statement),
            Happening::Vote(from, statement) => self.hear_vote(universe, me, from, statement),
            Happening::Executed(cand) => self.executed(universe, me, cand),
            Happening::Wait => self.wait(universe, me),
            Happening::Commit => self.commit(universe, me),
            Happening::Fail(there) => self.fail(universe, me, there),
            Happening::Crash(_) => unreachable!("a crash is a new start"),
        }
    }

    fn hear_candidate(&mut self, universe: &Universe, me: Index, cand: usize) {
        let candidate = universe.cands[cand].candidate.clone();
        let from = candidate.header.proposer;
        // A final slot's candidate comes only as an answer.
        let input = if candidate.header.slot <= self.core.final_slot() {
            Input::Cand { from, candidate }
        } else {
            Input::Proposal { from, proposal: Proposal { candidate, proof: Vec::new() } }
        };
        self.give(universe, me, input);
    }

    fn can_hear_vote(&self, universe: &Universe, from: Index, number: usize) -> bool {
        let (Statement { slot, kind, .. }, honest) = (universe.statement(number), !universe.is_byzantine(from));
        let of_class = |heard: usize| {
            let Statement { slot: other, kind: of, .. } = universe.statement(heard);
            other == slot && of.class() == kind.class()
        };
        let spoke = honest && self.heard.iter().any(|(signer, heard)| *signer == from && of_class(*heard));
        !spoke && !self.heard.contains(&(from, number))
    }

    fn hear_vote(&mut self, universe: &Universe, me: Index, from: Index, number: usize) {
        if !universe.is_byzantine(from) {
            self.heard.push((from, number));
            self.heard.sort_unstable();
        }
        let vote = universe.sign(from, universe.statement(number));
        self.give(universe, me, Input::Vote { from, vote });
    }

    /// What contradicts a held certificate cannot exist while safety holds, which is checked apart.
    fn can_hear_cert(&self, universe: &Universe, me: Index, number: usize) -> bool {
        let statement = universe.statement(number);
        let stale = statement.slot <= self.core.final_slot() || self.held >> number & 1 == 1;
        let weight: u64 = self.signers(universe, me, &statement).iter().map(|i| universe.config.set.weight(*i)).sum();
        !stale && weight >= universe.config.set.quorum() && !self.contradicts(universe, &statement)
    }

    /// The Byzantine, all others, and the own vote if that is durable. Which quorum signed makes no difference to the state
    /// (see `Core::fingerprint`).
    fn signers(&self, universe: &Universe, me: Index, statement: &Statement) -> Vec<Index> {
        let mine = self.disk.has(statement);
        (0..universe.bounds.weights.len() as Index).filter(|index| *index != me || mine).collect()
    }

    fn hear_cert(&mut self, universe: &Universe, me: Index, number: usize) {
        let statement = universe.statement(number);
        let cert = universe.cert(statement, &self.signers(universe, me, &statement));
        self.give(universe, me, Input::Cert { from: universe.bounds.byzantine[0], cert });
    }

    fn contradicts(&self, universe: &Universe, statement: &Statement) -> bool {
        (0..universe.statements()).filter(|number| self.held >> number & 1 == 1).any(|number| {
            let held = universe.statement(number);
            let skip = |s: &Statement| s.kind == Kind::Skip;
            let two = held.digest != statement.digest && !skip(&held) && !skip(statement);
            let outcome = held.kind.class() == 1 && statement.kind.class() == 1 && held.kind != statement.kind;
            held.slot == statement.slot && (two || outcome)
        })
    }

    fn executed(&mut self, universe: &Universe, me: Index, cand: usize) {
        self.executing.retain(|other| *other != cand);
        let digest = universe.cands[cand].digest;
        self.give(universe, me, Input::Executed { digest, roots: roots(digest), set: None });
    }

    /// Time passes until the core asks for a commit.
    fn wait(&mut self, universe: &Universe, me: Index) {
        let before = self.pending.len();
        for pause in WAITS {
            if universe.position(self.core.frontier()).is_none() || self.pending.len() > before || self.bad.is_some() {
                break;
            }
            self.now += pause;
            self.give(universe, me, Input::Tick);
        }
    }

    fn commit(&mut self, universe: &Universe, me: Index) {
        let write = self.pending.remove(0);
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
    fn torn(&self, universe: &Universe, me: Index, commits: usize) -> (Disk, Option<&'static str>) {
        let mut disk = self.disk.clone();
        let refused = self.pending[..commits].iter().find_map(|write| disk.commit(universe, me, &write.rows).err());
        (disk, refused)
    }

    // ---- the shell around the core ----

    fn give(&mut self, universe: &Universe, me: Index, input: Input) {
        let mut out = Vec::new();
        self.core.step(Now { mono_ms: self.now, wall_ms: WALL }, input, &mut out);
        self.carry_out(universe, me, out);
    }

    fn carry_out(&mut self, universe: &Universe, me: Index, out: Vec<Output>) {
        let mut executed = Vec::new();
        for output in out {
            match output {
                Output::Persist(write) => self.persist(universe, write),
                Output::Send { message, .. } | Output::Broadcast(message) => self.check_sent(me, &message),
                Output::Execute { digest, .. } => executed.push(digest),
                Output::Finalized { blocks, .. } => self.finalize(universe, &blocks),
                Output::Halt(_) => self.bad = Some("the core halts (C21)"),
                Output::Evidence(evidence) => {
                    let honest = !universe.is_byzantine(evidence.signer());
                    if honest && universe.bounds.single_votes {
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
                | Output::Entered { .. }
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
                self.give(universe, me, Input::Executed { digest, roots: roots(digest), set: None });
            }
        }
    }

    /// Votes beyond the explored slots never reach the disk.
    fn persist(&mut self, universe: &Universe, write: Write) {
        let slot = match &write.rows {
            Commit::Notar { statement, .. } | Commit::Final { statement, .. } | Commit::Skip { statement } => {
                statement.slot
            }
            Commit::FinalCert { cert } => cert.statement.slot,
            Commit::Seal { .. } => unreachable!("no epoch ends here (E5)"),
            Commit::Memory { .. } => unreachable!("no row was ever lost here (A3)"),
        };
        if universe.position(slot).is_some() {
            self.pending.push(write);
            let most = universe.bounds.commits_under_way + COMMITS_OF_A_STEP;
            assert!(self.pending.len() < most, "more commits under way than a crash may tear");
        }
    }

    /// P5: a vote, and a certificate or proposal that holds it, leaves only when it is durable.
    fn check_sent(&mut self, me: Index, message: &Message) {
        let of_candidate = |candidate: &Candidate| {
            let mine = candidate.header.proposer == me;
            mine.then(|| candidate.header.notar(candidate.header.digest()))
        };
        let of_cert = |cert: &Cert| cert.signer_indices().any(|signer| signer == me).then_some(cert.statement);
        let own: Vec<Statement> = match message {
            Message::Vote(vote) if vote.signer == me => vec![vote.statement],
            Message::Proposal(proposal) => of_candidate(&proposal.candidate).into_iter().collect(),
            Message::Cand(candidate) => of_candidate(candidate).into_iter().collect(),
            Message::Cert(cert) => of_cert(cert).into_iter().collect(),
            Message::Certs { certs } => certs.iter().filter_map(of_cert).collect(),
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

/// What a commit under way holds: kind, slot, digest.
fn row_key(rows: &Commit) -> (u8, u64, Hash) {
    match rows {
        Commit::Notar { statement, .. } => (0, statement.slot, statement.digest),
        Commit::Final { statement, .. } => (1, statement.slot, statement.digest),
        Commit::Skip { statement } => (2, statement.slot, statement.digest),
        Commit::FinalCert { cert } => (3, cert.statement.slot, cert.statement.digest),
        Commit::Seal { .. } | Commit::Memory { .. } => unreachable!("never asked for"),
    }
}
