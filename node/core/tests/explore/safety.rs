//! What must hold of every set of honest votes, with all Byzantine weight added to every statement (protocol.md §8.2).

use crate::universe::{Rows, Universe};

/// Theorem 1 and Lemmas 1 to 3.
///
/// # Errors
/// Names what is broken.
pub fn check(universe: &Universe, votes: &[Rows]) -> Result<(), &'static str> {
    let reached: Rows = (0..universe.statements())
        .filter(|s| universe.reached(votes, *s))
        .fold(0, |all, statement| all | 1 << statement);
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
    let forked = |a: &usize, b: &usize| !universe.descends(*a, *b) && !universe.descends(*b, *a);
    if finals.iter().any(|a| finals.iter().any(|b| forked(a, b))) {
        return Err("two final blocks are on different branches (Theorem 1)");
    }
    let mut notarized = (0..universe.cands.len()).filter(|cand| is(universe.notar(*cand)));
    let hangs = |cand: usize| {
        let base = universe.cands[cand].parent;
        let from = base.map_or(0, |parent| universe.cands[parent].slot + 1);
        let base_lacks = base.is_some_and(|parent| !is(universe.notar(parent)));
        base_lacks || (from..universe.cands[cand].slot).any(|slot| !is(universe.skip(slot)))
    };
    if notarized.any(hangs) {
        return Err("a notarized block rests on what is not notarized, or on a gap that is not skipped (Lemma 3)");
    }
    Ok(())
}
