//! What must hold of every set of honest votes, with all Byzantine weight added to every statement (protocol.md §8.2).

use crate::universe::{Rows, Universe};

/// Theorem 1 and Lemmas 1 to 3, and what they say of the end of an epoch (§8.6).
///
/// # Errors
/// Names what is broken.
pub fn check(universe: &Universe, votes: &[Rows]) -> Result<(), &'static str> {
    let reached = universe.all_reached(votes);
    let is = |statement: usize| reached >> statement & 1 == 1;
    let notars = |slot: usize| universe.of_slot(slot).filter(|cand| is(universe.notar(*cand)));
    let finals: Vec<usize> = (0..universe.cands.len()).filter(|cand| is(universe.fin(*cand))).collect();
    for slot in 0..universe.slots() {
        if notars(slot).count() > 1 {
            return Err("two candidates of a slot are notarized (Lemma 1)");
        }
        let of_slot = finals.iter().filter(|cand| universe.cands[**cand].slot == slot).count();
        if of_slot > 1 {
            return Err("two blocks of a slot are final (Lemma 2)");
        }
        if of_slot > 0 && is(universe.skip(slot)) {
            return Err("a slot is both final and skipped (Lemma 1)");
        }
    }
    if finals.iter().any(|cand| !is(universe.notar(*cand))) {
        return Err("a block is final and not notarized (Lemma 2)");
    }
    let mut notarized = (0..universe.cands.len()).filter(|cand| is(universe.notar(*cand)));
    if notarized.any(|cand| !universe.rests(cand, is)) {
        return Err("a notarized block rests on what is not notarized, or on a gap that is not skipped (Lemma 3)");
    }
    check_epochs(universe, votes, &finals)?;
    let forked = |a: &usize, b: &usize| !universe.descends(*a, *b) && !universe.descends(*b, *a);
    if finals.iter().any(|a| finals.iter().any(|b| forked(a, b))) {
        return Err("two final blocks are on different branches (Theorem 1)");
    }
    Ok(())
}

/// An epoch ends with one block, however often that is final, and nobody votes in the next one before that is.
fn check_epochs(universe: &Universe, votes: &[Rows], finals: &[usize]) -> Result<(), &'static str> {
    let mut ends: Vec<usize> = finals.iter().filter(|cand| universe.is_boundary(**cand)).copied().collect();
    ends.sort_by_key(|cand| universe.block(*cand));
    ends.dedup_by_key(|cand| universe.block(*cand));
    if ends.len() > 1 {
        return Err("two last blocks of an epoch are final (§8.6)");
    }
    let cast = votes.iter().fold(0, |all, rows| all | rows);
    if ends.is_empty() && cast & universe.statements_of(1) != 0 {
        return Err("a vote in an epoch before the one below it is sealed (E5)");
    }
    let above = |cand: &usize| universe.is_above_end(*cand) && cast >> universe.notar(*cand) & 1 == 1;
    if (0..universe.cands.len()).any(|cand| above(&cand)) {
        return Err("a vote for a block above the last height of its epoch (E3)");
    }
    Ok(())
}
