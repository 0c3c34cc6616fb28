//! One validator: the real core with its disk, and every state that any order of inputs can bring it to.
//!
//! The graph is made once, for an environment in which any message may come at any time; `global.rs` then lets through
//! only those whose votes have been cast.

use crate::disk::Disk;
use crate::live::{COMMITS_OF_A_STEP, Haste, Live};
use crate::universe::{Rows, Universe};
use aitbc_core::hash::Hash;
use aitbc_core::validators::Index;
use std::collections::HashMap;

/// What can happen to a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A candidate arrives, proposed or proposed again.
    Cand(usize),
    /// A certificate of a statement arrives.
    Cert(usize),
    /// A Seal arrives: a boundary block, final by the certificate of this candidate.
    Seal(usize),
    /// This candidate is final by its certificate, and comes by block sync.
    Synced(usize),
    /// The blocks let out are in the ledger.
    Append,
    /// A certificate of a statement of epoch 1 arrives, made by the members of epoch 0.
    OldCert(usize),
    /// A vote arrives from its signer.
    Vote(Index, usize),
    /// An execution ends.
    Executed(usize),
    /// Time passes until the core acts.
    Wait,
    /// The oldest commit is durable.
    Commit,
    /// The oldest of a kind is, ahead of what has less haste: the shell writes votes first, then certificates, then Seals.
    Overtake(Haste),
    /// The outcome of the oldest commit is unknown; whether its rows are there.
    Fail(bool),
    /// The process dies and starts again; so many commits under way have reached the disk.
    Crash(usize),
}

/// A state of the graph.
pub struct State {
    /// Own votes that are durable.
    pub rows: Rows,
    /// Certificates of the epoch in progress that are held, down to the highest Final one.
    pub held: Rows,
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
            let (held, finalized, bad) = (live.held_now(universe), live.finalized, live.bad);
            self.states.push(State { rows, held, finalized, bad, from, edges: Vec::new() });
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
            Happening::Seal(cand) | Happening::Synced(cand) => universe.reached(votes, universe.fin(cand)),
            Happening::OldCert(statement) => universe.reached_by_old_set(votes, statement),
            Happening::Vote(signer, statement) => {
                universe.is_byzantine(signer)
                    || universe.is_stranger(signer, statement)
                    || cast(universe, votes, signer, statement)
            }
            Happening::Executed(_) | Happening::Wait | Happening::Append => true,
            Happening::Commit | Happening::Overtake(_) | Happening::Fail(_) | Happening::Crash(_) => true,
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
    if bounds.single_votes {
        all.extend(votes_of_others(universe, me));
    } else {
        let may_be = |statement: &usize| !universe.is_of_nobody(*statement);
        all.extend((0..universe.statements()).filter(may_be).map(Happening::Cert));
    }
    if bounds.slow_execution {
        all.extend(cands.clone().map(Happening::Executed));
    }
    all.extend([Happening::Wait, Happening::Commit]);
    if let Some(boundary) = bounds.boundary {
        all.extend([Haste::Vote, Haste::Cert].map(Happening::Overtake));
        all.extend(cands.clone().filter(|cand| universe.is_boundary(*cand)).map(Happening::Seal));
        if boundary.ledger {
            all.push(Happening::Append);
            all.extend(cands.filter(|cand| !universe.is_above_end(*cand)).map(Happening::Synced));
        }
        let of_next = |statement: &usize| universe.statements_of(1) >> statement & 1 == 1;
        let forged = (0..universe.statements()).filter(|statement| boundary.leaves.is_some() && of_next(statement));
        all.extend(forged.map(Happening::OldCert));
    }
    if bounds.failures {
        all.extend([Happening::Fail(false), Happening::Fail(true)]);
    }
    all.extend((0..bounds.commits_under_way + COMMITS_OF_A_STEP).map(Happening::Crash));
    assert!(all.len() <= 128, "the happenings of a validator must fit 128 bits");
    all
}

/// Of members of the epoch, and of who has left it.
fn votes_of_others(universe: &Universe, me: Index) -> impl Iterator<Item = Happening> + '_ {
    let votes = move |signer: Index| {
        let epoch_of = |statement: &usize| universe.statement(*statement).epoch;
        let speaks = move |statement: &usize| {
            universe.index_of(signer, epoch_of(statement)).is_some() || universe.is_stranger(signer, *statement)
        };
        let all = (0..universe.statements()).filter(|statement| !universe.is_of_nobody(*statement));
        all.filter(speaks).map(move |statement| Happening::Vote(signer, statement))
    };
    universe.peers().filter(move |signer| *signer != me).flat_map(votes)
}
