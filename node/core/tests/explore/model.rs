//! The specification's vote-set model, written apart from the core: which votes the rules allow, given the votes cast.
//!
//! Its plain form has the counts of the specification's own checker (docs/consensus.md §11). The strict form adds what the
//! core does beyond the rules of safety, so that the core must reach exactly its vote sets.

use crate::universe::{Rows, Universe};
use std::collections::HashSet;

/// What holds beyond the rules of safety.
#[derive(Clone, Copy, Default)]
pub struct Strict {
    /// D1: Skip only in the least uncleared slot.
    pub skip_at_frontier: bool,
    /// An honest leader makes one candidate, and nobody votes for it before the leader did (D2).
    pub honest_leaders: bool,
    /// H2: a base is executed before its child is voted for, and what can be executed here is voted for first, unless it
    /// is final already.
    pub bases_voted_for: bool,
}

pub struct Model<'a> {
    pub universe: &'a Universe,
    pub strict: Strict,
}

impl Model<'_> {
    /// Every reachable set of votes.
    pub fn vote_sets(&self) -> HashSet<Vec<Rows>> {
        let start = vec![0; self.universe.honest.len()];
        let mut seen = HashSet::from([start.clone()]);
        let mut todo = vec![start];
        while let Some(votes) = todo.pop() {
            for validator in 0..votes.len() {
                for statement in (0..self.universe.statements()).filter(|s| self.may(&votes, validator, *s)) {
                    let mut next = votes.clone();
                    next[validator] |= 1 << statement;
                    if seen.insert(next.clone()) {
                        todo.push(next);
                    }
                }
            }
        }
        seen
    }

    fn may(&self, votes: &[Rows], validator: usize, statement: usize) -> bool {
        let u = self.universe;
        let n = u.cands.len();
        if votes[validator] >> statement & 1 == 1 {
            return false;
        }
        match statement / n {
            0 => self.may_notar(votes, validator, statement),
            1 => self.may_final(votes, validator, statement - n),
            _ => self.may_skip(votes, validator, statement - 2 * n),
        }
    }

    /// G1, G2, G3.
    fn may_notar(&self, votes: &[Rows], validator: usize, cand: usize) -> bool {
        let u = self.universe;
        let slot = u.cands[cand].slot;
        let parent = u.cands[cand].parent;
        let from = parent.map_or(0, |parent| u.cands[parent].slot + 1);
        let first = u.of_slot(slot).all(|other| !has(votes, validator, u.notar(other)));
        let base = parent.is_none_or(|parent| u.reached(votes, u.notar(parent)));
        let skipped = (from..slot).all(|gap| u.reached(votes, u.skip(gap)));
        let proposed = !self.strict.honest_leaders || self.proposed(votes, validator, cand);
        let voted_below = !self.strict.bases_voted_for || parent.is_none_or(|p| self.voted_for(votes, validator, p));
        first && base && skipped && proposed && voted_below
    }

    /// An own Notar in the slot, or a final block in it or above.
    fn voted_for(&self, votes: &[Rows], validator: usize, cand: usize) -> bool {
        let u = self.universe;
        let slot = u.cands[cand].slot;
        let own = u.of_slot(slot).any(|other| has(votes, validator, u.notar(other)));
        own || (0..u.cands.len()).any(|other| u.cands[other].slot >= slot && u.reached(votes, u.fin(other)))
    }

    /// D2, C7: the leader's own vote comes first; a leader that has voted Final below builds on that block.
    fn proposed(&self, votes: &[Rows], validator: usize, cand: usize) -> bool {
        let u = self.universe;
        let leader = u.leader(u.cands[cand].slot);
        if u.is_byzantine(leader) {
            return true;
        }
        let Some(at) = u.honest.iter().position(|index| *index == leader) else { return true };
        let from = u.cands[cand].parent.map_or(0, |parent| u.cands[parent].slot + 1);
        let holds_more = (from..u.cands[cand].slot).any(|gap| self.final_in(votes, at, gap));
        if at == validator { !holds_more } else { has(votes, at, u.notar(cand)) }
    }

    /// G6, G7, G8.
    fn may_final(&self, votes: &[Rows], validator: usize, cand: usize) -> bool {
        let u = self.universe;
        let slot = u.cands[cand].slot;
        let own = has(votes, validator, u.notar(cand));
        own && u.reached(votes, u.notar(cand))
            && !has(votes, validator, u.skip(slot))
            && !self.final_in(votes, validator, slot)
    }

    /// G9, G10.
    fn may_skip(&self, votes: &[Rows], validator: usize, slot: usize) -> bool {
        let u = self.universe;
        let cleared =
            |slot: usize| u.reached(votes, u.skip(slot)) || u.of_slot(slot).any(|c| u.reached(votes, u.notar(c)));
        let frontier = !self.strict.skip_at_frontier || (0..slot).all(cleared);
        frontier && !self.final_in(votes, validator, slot)
    }

    fn final_in(&self, votes: &[Rows], validator: usize, slot: usize) -> bool {
        let u = self.universe;
        u.of_slot(slot).any(|cand| has(votes, validator, u.fin(cand)))
    }
}

fn has(votes: &[Rows], validator: usize, statement: usize) -> bool {
    votes[validator] >> statement & 1 == 1
}
