//! The specification's vote-set model, written apart from the core: which votes the rules allow, given the votes cast.
//!
//! Its plain form has the counts of the specification's own checker (docs/consensus.md §11). The strict form adds what the
//! core does beyond the rules of safety, so that the core must reach exactly its vote sets.

use crate::universe::{Cand, Rows, Universe};
use std::collections::HashSet;

/// What the core adds to the rules of safety:
///
/// - D1: Skip only in the least uncleared slot.
/// - D2, C7: an honest leader makes one candidate, on the highest block that it holds, and proposes before its own timer can
///   fire unless it lacks that block; nobody votes for the candidate before the leader did.
/// - H2: a base is executed before its child is voted for, and what can be executed here is voted for first, unless a block
///   of its slot or above is final already.
/// - C9 comes at once: who holds the certificate of its own Notar, and nothing that forbids it, votes Final before it skips
///   or leads anything above.
///
/// Exact for two slots with executions that are done at once.
#[derive(Clone, Copy)]
pub struct Strict;

/// `strict: None` is the model of the rules of safety alone.
pub struct Model<'a> {
    pub universe: &'a Universe,
    pub strict: Option<Strict>,
}

impl Model<'_> {
    /// Every reachable set of votes.
    pub fn vote_sets(&self) -> HashSet<Vec<Rows>> {
        let start = vec![0; self.universe.honest.len()];
        let mut seen = HashSet::from([start.clone()]);
        let mut todo = vec![start];
        while let Some(votes) = todo.pop() {
            for validator in 0..votes.len() {
                for cast in self.moves(&votes, validator) {
                    let mut next = votes.clone();
                    next[validator] |= cast;
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
        if votes[validator] >> statement & 1 == 1 || !self.epoch_is_open(votes, validator, u.slot_of(statement)) {
            return false;
        }
        match statement / n {
            0 => self.may_notar(votes, validator, statement),
            1 => self.may_final(votes, validator, statement - n),
            _ => self.may_skip(votes, validator, statement - 2 * n),
        }
    }

    /// E1, E5: of a member; after the epoch before is sealed; before any own vote in a later one.
    fn epoch_is_open(&self, votes: &[Rows], validator: usize, slot: usize) -> bool {
        let u = self.universe;
        let epoch = u.place(slot).0;
        let member = u.index_of(u.honest[validator], epoch).is_some();
        let later = epoch == 0 && votes[validator] & u.statements_of(1) != 0;
        let seals = |cand: usize| u.is_boundary(cand) && u.reached(votes, u.fin(cand));
        member && !later && (epoch == 0 || (0..u.cands.len()).any(seals))
    }

    fn may_notar(&self, votes: &[Rows], validator: usize, cand: usize) -> bool {
        self.may_notar_on(votes, validator, cand) && self.base_voted_for(votes, validator, cand)
    }

    /// G1, G2, G3, E3, E4, E6.
    fn may_notar_on(&self, votes: &[Rows], validator: usize, cand: usize) -> bool {
        let u = self.universe;
        let first = u.of_slot(u.cands[cand].slot).all(|other| !has(votes, validator, u.notar(other)));
        let proposed = self.strict.is_none() || self.proposed(votes, validator, cand);
        first && proposed && !u.is_above_end(cand) && u.rests(cand, |statement| u.reached(votes, statement))
    }

    fn base_voted_for(&self, votes: &[Rows], validator: usize, cand: usize) -> bool {
        let Cand { parent, slot, .. } = self.universe.cands[cand];
        self.strict.is_none() || parent.is_none_or(|base| self.voted_for(votes, validator, base, slot))
    }

    /// An own Notar in the slot of a base, or a final block in it or above.
    fn voted_for(&self, votes: &[Rows], validator: usize, base: usize, below: usize) -> bool {
        let u = self.universe;
        let slot = u.cands[base].slot;
        let own = u.of_slot(slot).any(|other| has(votes, validator, u.notar(other)));
        own || self.final_in_slots(votes, slot..below)
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
        if at != validator {
            return has(votes, at, u.notar(cand));
        }
        // A leader waits for its pause, and votes Final meanwhile.
        let ready = |base: usize| self.cleared(votes, at, u.cands[base].slot, u.cands[cand].slot);
        !holds_more && u.cands[cand].parent.is_none_or(ready)
    }

    /// What may become durable next: one vote; or a leader's vote for a base and its own block on it, decided while the
    /// former was under way.
    fn moves(&self, votes: &[Rows], validator: usize) -> Vec<Rows> {
        let u = self.universe;
        let single = (0..u.statements()).filter(|s| self.may(votes, validator, *s)).map(|statement| 1 << statement);
        let both = |cand: usize| {
            let mine = u.leader(u.cands[cand].slot) == u.honest[validator];
            let base = u.cands[cand].parent.filter(|base| mine && self.may_notar(votes, validator, *base))?;
            let mut reserved = votes.to_vec();
            reserved[validator] |= 1 << u.notar(base);
            let decided = self.may_notar_on(votes, validator, cand) && self.base_voted_for(&reserved, validator, cand);
            decided.then_some(1 << u.notar(base) | 1 << u.notar(cand))
        };
        single.chain((0..u.cands.len()).filter_map(both)).collect()
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
        let frontier = self.strict.is_none() || (0..slot).all(|low| self.cleared(votes, validator, low, slot));
        let led = self.strict.is_none() || self.led_or_could_not(votes, validator, slot);
        frontier && led && !self.final_in(votes, validator, slot)
    }

    /// Whether a validator that is about to skip `slot` may know that the lower slot `low` is cleared.
    fn cleared(&self, votes: &[Rows], validator: usize, low: usize, slot: usize) -> bool {
        let u = self.universe;
        let outcome = has(votes, validator, u.skip(low)) || self.final_in(votes, validator, low);
        let notarized = |cand: usize| {
            let due = self.strict.is_some() && has(votes, validator, u.notar(cand)) && !outcome;
            u.reached(votes, u.notar(cand)) && !due
        };
        u.reached(votes, u.skip(low)) || self.final_in_slots(votes, low..slot) || u.of_slot(low).any(notarized)
    }

    /// A block of these slots is final: s* may be there.
    fn final_in_slots(&self, votes: &[Rows], slots: std::ops::Range<usize>) -> bool {
        let u = self.universe;
        (0..u.cands.len()).any(|cand| slots.contains(&u.cands[cand].slot) && u.reached(votes, u.fin(cand)))
    }

    /// C7: a leader proposes before its timer fires, unless it lacks the block to build on.
    fn led_or_could_not(&self, votes: &[Rows], validator: usize, slot: usize) -> bool {
        let u = self.universe;
        let proposed = u.of_slot(slot).any(|cand| has(votes, validator, u.notar(cand)));
        let lacks = |cand: usize| {
            let gap = u.cands[cand].slot + 1..slot;
            let known = has(votes, validator, u.notar(cand));
            u.cands[cand].slot < slot
                && !known
                && u.reached(votes, u.notar(cand))
                && gap.clone().all(|s| u.reached(votes, u.skip(s)))
        };
        u.leader(slot) != u.honest[validator] || proposed || (0..u.cands.len()).any(lacks)
    }

    fn final_in(&self, votes: &[Rows], validator: usize, slot: usize) -> bool {
        let u = self.universe;
        u.of_slot(slot).any(|cand| has(votes, validator, u.fin(cand)))
    }
}

fn has(votes: &[Rows], validator: usize, statement: usize) -> bool {
    votes[validator] >> statement & 1 == 1
}
