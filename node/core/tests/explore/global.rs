//! All validators together: every set of votes they can cast, and every state each can be in meanwhile.
//!
//! A message once sent may arrive at any time later, again, or never: what is available only grows, by votes becoming
//! durable. So between two votes each validator moves alone, and a state of all is the votes cast plus, for each validator,
//! the set of states of its graph that it can be in. This is exact: every combination of them is an execution.

use crate::local::{Graph, Happening, TooMany};
use crate::safety;
use crate::universe::{Rows, Universe};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A set of states of one graph, by number.
type SetId = u32;
/// The sets of all validators.
type Sets = Vec<SetId>;

/// A graph with the sets of its states that were met, each computed once.
struct Player {
    graph: Graph,
    sets: Vec<Vec<u32>>,
    ids: HashMap<Vec<u32>, SetId>,
    closures: HashMap<(SetId, u128), SetId>,
    /// The states right after a vote became durable, a set for each such vote.
    casts: HashMap<SetId, Vec<SetId>>,
    within: HashMap<(SetId, SetId), bool>,
    summaries: HashMap<SetId, Summary>,
}

/// What the states of a set have among them.
#[derive(Clone, Copy, Default)]
struct Summary {
    bad: bool,
    /// Blocks let out last.
    finalized: Rows,
    held: Rows,
}

/// What was found.
#[derive(Default)]
pub struct Report {
    /// States of each validator's graph, and steps of its core.
    pub local_states: Vec<usize>,
    pub steps: u64,
    /// Different sets of votes.
    pub vote_sets: HashSet<Vec<Rows>>,
    pub states: usize,
    pub transitions: u64,
    /// Combinations of states of single validators that the states stand for.
    pub combinations: u128,
    pub violation: Option<String>,
    /// A bound was met, so this is not all.
    pub cut: bool,
}

/// Most states of one validator and of all together.
#[derive(Clone, Copy)]
pub struct Limits {
    pub local: usize,
    pub global: usize,
}

pub fn explore(universe: &Universe, limits: Limits) -> Report {
    let mut report = Report::default();
    let mut players = Vec::new();
    for me in &universe.honest {
        match Graph::explore(universe, *me, limits.local) {
            Ok(graph) => players.push(Player::new(graph)),
            Err(TooMany) => {
                report.cut = true;
                return report;
            }
        }
    }
    report.local_states = players.iter().map(|player| player.graph.states.len()).collect();
    report.steps = players.iter().map(|player| player.graph.steps).sum();
    Search { universe, players, report, states: Vec::new(), layers: BTreeMap::new() }.run(limits.global)
}

/// States with the same votes, each with the number of the one it was met from.
type Met = HashMap<Sets, Option<usize>>;

struct Search<'a> {
    universe: &'a Universe,
    players: Vec<Player>,
    report: Report,
    /// Expanded, each with the number of the one it was met from.
    states: Vec<(Sets, Option<usize>)>,
    /// Not yet expanded, by the number of votes cast, then by the votes.
    layers: BTreeMap<u32, BTreeMap<Vec<Rows>, Met>>,
}

impl Search<'_> {
    /// Votes are never taken back: all ways to a set of votes are known before it is expanded.
    fn run(mut self, states_max: usize) -> Report {
        let starts: Sets = self.players.iter_mut().map(|player| player.intern(vec![0])).collect();
        self.reach(None, starts);
        while let Some((_, layer)) = self.layers.pop_first() {
            for (votes, met) in layer {
                self.expand_all(votes, met);
                self.report.cut |= self.states.len() > states_max;
                if self.report.cut || self.report.violation.is_some() {
                    return self.report;
                }
            }
        }
        self.report
    }

    /// Of states with the same votes, one whose validators have no more choice than those of another is left out: all that
    /// follows from it follows from the other.
    fn expand_all(&mut self, votes: Vec<Rows>, met: Met) {
        let mut met: Vec<(Sets, Option<usize>)> = met.into_iter().collect();
        met.sort_by_key(|(sets, _)| (std::cmp::Reverse(self.combinations(sets)), sets.clone()));
        let mut largest: Vec<Sets> = Vec::new();
        for (sets, from) in met {
            if largest.iter().any(|other| self.is_within(&sets, other)) {
                continue;
            }
            largest.push(sets.clone());
            self.expand(&votes, sets, from);
        }
        self.report.vote_sets.insert(votes);
    }

    fn expand(&mut self, votes: &[Rows], sets: Sets, from: Option<usize>) {
        let number = self.states.len();
        self.states.push((sets.clone(), from));
        self.report.states += 1;
        self.report.combinations += self.combinations(&sets);
        if let Some(broken) = self.broken(votes, &sets) {
            self.report.violation = Some(self.tell(&broken, number));
            return;
        }
        for validator in 0..self.players.len() {
            for after in self.players[validator].casts(sets[validator]) {
                let mut next = sets.clone();
                next[validator] = after;
                self.report.transitions += 1;
                self.reach(Some(number), next);
            }
        }
    }

    /// A vote has become durable: everybody may now hear more.
    fn reach(&mut self, from: Option<usize>, raw: Sets) {
        let votes: Vec<Rows> = self.players.iter().zip(&raw).map(|(player, set)| player.rows(*set)).collect();
        let mut sets = Sets::with_capacity(raw.len());
        for (player, set) in self.players.iter_mut().zip(raw) {
            let available = player.graph.available(self.universe, &votes);
            sets.push(player.closure(set, available));
        }
        let count = votes.iter().map(|rows| rows.count_ones()).sum();
        let met = self.layers.entry(count).or_default().entry(votes).or_default();
        met.entry(sets).or_insert(from);
    }

    fn combinations(&self, sets: &Sets) -> u128 {
        self.players.iter().zip(sets).map(|(player, set)| player.sets[*set as usize].len() as u128).product()
    }

    fn is_within(&mut self, sets: &Sets, others: &Sets) -> bool {
        self.players
            .iter_mut()
            .zip(sets.iter().zip(others))
            .all(|(player, (set, other))| player.is_within(*set, *other))
    }

    fn broken(&mut self, votes: &[Rows], sets: &Sets) -> Option<String> {
        if let Err(broken) = safety::check(self.universe, votes) {
            return Some(broken.to_owned());
        }
        let reached = self.universe.all_reached(votes);
        let finals = self.universe.final_blocks(reached);
        self.players.iter_mut().zip(sets).find_map(|(player, set)| player.broken(reached, finals, *set))
    }

    /// The votes one after the other.
    fn tell(&self, broken: &str, number: usize) -> String {
        let mut story = Vec::new();
        let mut at = Some(number);
        while let Some(number) = at {
            let (sets, from) = &self.states[number];
            let of = |(player, set): (&Player, &SetId)| {
                format!("{}: {}", player.graph.me, self.universe.names(player.rows(*set)))
            };
            story.push(self.players.iter().zip(sets).map(of).collect::<Vec<_>>().join("; "));
            at = *from;
        }
        story.reverse();
        format!("{broken}\n  votes by validator, step by step:\n  {}", story.join("\n  "))
    }
}

impl Player {
    fn new(graph: Graph) -> Player {
        let (sets, ids, closures, casts, within) = Default::default();
        Player { graph, sets, ids, closures, casts, within, summaries: HashMap::new() }
    }

    fn intern(&mut self, states: Vec<u32>) -> SetId {
        let next = self.sets.len() as SetId;
        let id = *self.ids.entry(states.clone()).or_insert(next);
        if id == next {
            self.sets.push(states);
        }
        id
    }

    /// All states of a set have the same durable votes.
    fn rows(&self, set: SetId) -> Rows {
        let first = self.sets[set as usize].first();
        first.map_or(0, |state| self.graph.states[*state as usize].rows)
    }

    /// What can be reached by available happenings without a vote becoming durable.
    fn closure(&mut self, set: SetId, available: u128) -> SetId {
        if let Some(known) = self.closures.get(&(set, available)) {
            return *known;
        }
        let rows = self.rows(set);
        let mut todo = self.sets[set as usize].clone();
        let mut reached: HashSet<u32> = todo.iter().copied().collect();
        while let Some(state) = todo.pop() {
            for (happening, to) in &self.graph.states[state as usize].edges {
                let quiet = self.graph.states[*to as usize].rows == rows;
                if quiet && available >> happening & 1 == 1 && reached.insert(*to) {
                    todo.push(*to);
                }
            }
        }
        let mut states: Vec<u32> = reached.into_iter().collect();
        states.sort_unstable();
        let id = self.intern(states);
        self.closures.insert((set, available), id);
        id
    }

    fn is_within(&mut self, set: SetId, other: SetId) -> bool {
        let sets = &self.sets;
        set == other
            || *self.within.entry((set, other)).or_insert_with(|| {
                let (set, other) = (&sets[set as usize], &sets[other as usize]);
                set.len() <= other.len() && set.iter().all(|state| other.binary_search(state).is_ok())
            })
    }

    /// Votes become durable by commits and by crashes, which are always possible.
    fn casts(&mut self, set: SetId) -> Vec<SetId> {
        if let Some(known) = self.casts.get(&set) {
            return known.clone();
        }
        let rows = self.rows(set);
        let mut after: BTreeMap<Rows, Vec<u32>> = BTreeMap::new();
        for state in &self.sets[set as usize] {
            for (_, to) in &self.graph.states[*state as usize].edges {
                let next = self.graph.states[*to as usize].rows;
                if next != rows {
                    after.entry(next).or_default().push(*to);
                }
            }
        }
        let mut casts = Vec::new();
        for mut states in after.into_values() {
            states.sort_unstable();
            states.dedup();
            casts.push(self.intern(states));
        }
        self.casts.insert(set, casts.clone());
        casts
    }

    /// A rule that a validator broke in one of the states, a block that it calls final and is not, or a certificate that it
    /// holds and nobody can have made.
    fn broken(&mut self, reached: Rows, finals: Rows, set: SetId) -> Option<String> {
        let Summary { bad, finalized, held } = self.summary(set);
        if !bad && finalized & !finals == 0 && held & !reached == 0 {
            return None;
        }
        self.sets[set as usize].iter().find_map(|id| {
            let state = &self.graph.states[*id as usize];
            let early = state.finalized.is_some_and(|block| finals >> block & 1 == 0);
            let forged = state.held & !reached != 0;
            let broken = state.bad.or(early.then_some("a block is let out without its Final votes (C19)"));
            let broken = broken.or(forged.then_some("a certificate is held without a quorum of its epoch (F4)"))?;
            let story: Vec<Happening> = self.graph.story(*id);
            Some(format!("{broken}; validator {}, for instance by {story:?}", self.graph.me))
        })
    }

    fn summary(&mut self, set: SetId) -> Summary {
        let (sets, states) = (&self.sets, &self.graph.states);
        let of_state = |sum: Summary, id: &u32| {
            let state = &states[*id as usize];
            let finalized = sum.finalized | state.finalized.map_or(0, |block| 1 << block);
            Summary { bad: sum.bad || state.bad.is_some(), finalized, held: sum.held | state.held }
        };
        let fold = || sets[set as usize].iter().fold(Summary::default(), of_state);
        *self.summaries.entry(set).or_insert_with(fold)
    }
}
