//! Bounded exhaustive exploration of the real core: every order of deliveries, timeouts, commits and crashes that matters.
//!
//! Run by `cargo test -p aitbc-core --release --test explore -- --nocapture`; larger bounds by `EXPLORE=large`,
//! fewer runs by `EXPLORE=small`.

// What exists: validators, candidates, statements.
mod universe;
// What survives a crash.
mod disk;
// One validator as it runs.
mod live;
// The same in all its states.
mod local;
// What must hold.
mod safety;
// All of them together.
mod global;
// The same rules, written apart.
mod model;

use global::{Limits, Report};
use model::{Model, Strict};
use std::time::Instant;
use universe::{Boundary, Bounds, Rows, Universe};

/// States of one validator, and of all, at which a run gives up.
const LIMITS: Limits = Limits { local: 2_000_000, global: 20_000_000 };

/// Four validators of equal weight. Validator 0 leads slot 1, and so on.
fn equal_weights(name: &'static str, byzantine: u16, variants: Vec<usize>) -> Bounds {
    Bounds {
        name,
        weights: vec![1; 4],
        byzantine: vec![byzantine],
        floor: 0,
        variants,
        single_votes: false,
        commits_under_way: 2,
        failures: false,
        slow_execution: false,
        boundary: None,
    }
}

/// Four validators; block 1 is final in slot 1, and block 2 ends epoch 0. Slots 2 and 3 of that, of which `byzantine` leads
/// one, may hold it, slot 3 again too; then comes slot 1 of epoch 1.
fn end_of_epoch(name: &'static str, byzantine: u16, blocks: usize, boundary: Boundary) -> Bounds {
    let bounds = equal_weights(name, byzantine, vec![blocks, blocks, 1]);
    Bounds { floor: 1, boundary: Some(boundary), ..bounds }
}

/// Explores, prints, compares with the model, and fails on a violation.
fn run(bounds: Bounds) {
    let started = Instant::now();
    let universe = Universe::new(bounds);
    tell_bounds(&universe);
    let report = global::explore(&universe, LIMITS);
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "  each validator alone: {:?} states, {} steps of the core; together: {} states, {} transitions, \
         {:.1e} combinations of single states; {} vote sets; {seconds:.1} s",
        report.local_states,
        report.steps,
        report.states,
        report.transitions,
        report.combinations as f64,
        report.vote_sets.len(),
    );
    if let Some(violation) = &report.violation {
        panic!("{violation}");
    }
    assert!(!report.cut, "a bound was met: not everything was explored");
    compare(&universe, &report);
    check_scope(&universe, &report);
}

fn tell_bounds(universe: &Universe) {
    let Bounds {
        name, weights, byzantine, commits_under_way, single_votes, failures, slow_execution, boundary, ..
    } = &universe.bounds;
    let leaders: Vec<_> = (0..universe.slots()).map(|slot| (universe.place(slot), universe.leader(slot))).collect();
    let by_slot: Vec<_> = (0..universe.slots()).map(|slot| universe.of_slot(slot).count()).collect();
    println!(
        "{name}: weights {weights:?}, Byzantine {byzantine:?}, slots and leaders {leaders:?}, candidates by slot {by_slot:?}, \
         commits under way {commits_under_way}, vote by vote {single_votes}, failing commits {failures}, \
         slow execution {slow_execution}, {boundary:?}"
    );
}

/// Where an epoch ends: each member of the next one votes in it, and a block of it is final, also on a boundary block that is
/// final only where it was proposed again. Else nothing is shown of what comes after.
fn check_scope(universe: &Universe, report: &Report) {
    if universe.bounds.boundary.is_none() {
        return;
    }
    let (cands, n) = (&universe.cands, universe.cands.len());
    for (at, peer) in universe.honest.iter().enumerate() {
        let votes = report.vote_sets.iter().any(|votes| votes[at] & universe.statements_of(1) != 0);
        assert_eq!(votes, universe.index_of(*peer, 1).is_some(), "whether peer {peer} votes in epoch 1");
    }
    let is_next = |cand: &usize| universe.place(cands[*cand].slot).0 == 1;
    let final_next = |votes: &Vec<Rows>| (0..n).filter(is_next).find(|c| universe.reached(votes, universe.fin(*c)));
    let by_first = |votes: &Vec<Rows>| {
        final_next(votes)
            .and_then(|cand| cands[cand].parent)
            .map(|parent| universe.reached(votes, universe.fin(parent)))
    };
    let found: Vec<bool> = report.vote_sets.iter().filter_map(by_first).collect();
    let again = (0..n).any(|cand| cands[cand].again.is_some());
    assert!(found.contains(&true), "no block of epoch 1 became final");
    assert!(!again || found.contains(&false), "none did on a block that became final when it was proposed again");
}

/// The core must reach what the model with all that the core adds allows, no more and no less; that is less than the rules
/// of safety alone allow.
fn compare(universe: &Universe, report: &Report) {
    let plain = Model { universe, strict: None }.vote_sets();
    let smallest = |sets: &mut dyn Iterator<Item = &Vec<Rows>>| {
        let votes = sets.min_by_key(|votes| votes.iter().map(|rows| rows.count_ones()).sum::<u32>());
        votes.map(|votes| votes.iter().map(|rows| universe.names(*rows)).collect::<Vec<_>>())
    };
    let beyond = smallest(&mut report.vote_sets.difference(&plain));
    assert_eq!(beyond, None, "the core casts votes that the rules of safety forbid");
    if universe.bounds.boundary.is_some() {
        return println!("  the model: {} vote sets by the rules of safety", plain.len());
    }
    let strict = Model { universe, strict: Some(Strict) }.vote_sets();
    println!("  the model: {} vote sets by the rules of safety, {} with what the core adds", plain.len(), strict.len());
    let Bounds { slow_execution, commits_under_way, .. } = universe.bounds;
    if slow_execution || commits_under_way < 2 || universe.slots() > 2 {
        // The strict form is exact for two slots, for bases that are executed at once, and where a vote can be decided while
        // another is under way.
        return;
    }
    let beyond = smallest(&mut report.vote_sets.difference(&strict));
    assert_eq!(beyond, None, "the core casts votes that what it adds forbids");
    let short = smallest(&mut strict.difference(&report.vote_sets));
    assert_eq!(short, None, "the core cannot cast votes that the model can");
}

fn explore_is(value: &str) -> bool {
    std::env::var("EXPLORE").is_ok_and(|given| given == value)
}

/// Large bounds take minutes, and memory: only by `EXPLORE=large`.
fn run_if_large(bounds: Bounds) {
    if explore_is("large") {
        run(bounds);
    } else {
        println!("{}: only with EXPLORE=large", bounds.name);
    }
}

/// The mutation check, which runs many times, goes without: `EXPLORE=small`.
fn run_unless_small(bounds: Bounds) {
    if !explore_is("small") {
        run(bounds);
    }
}

/// Blocks on one parent that a Byzantine leader may make in each of two slots.
fn two_slots() -> Vec<usize> {
    if explore_is("small") { vec![1, 1] } else { vec![2, 1] }
}

#[test]
fn one_slot() {
    run(equal_weights("one slot", 0, vec![2]));
}

#[test]
fn one_slot_vote_by_vote() {
    let bounds = equal_weights("one slot, vote by vote", 0, vec![2]);
    run_unless_small(Bounds { single_votes: true, ..bounds });
}

#[test]
fn two_slots_with_equal_weights() {
    run(equal_weights("two slots, equal weights", 0, two_slots()));
}

/// Weights 3,2,2,2: slot 2 is led by validator 1, who is Byzantine, slot 3 by validator 2.
#[test]
fn two_slots_with_different_weights() {
    let bounds = equal_weights("two slots, different weights", 1, vec![2, 1]);
    run_unless_small(Bounds { weights: vec![3, 2, 2, 2], floor: 1, ..bounds });
}

/// Three honest validators of weight 3 and two Byzantine of weight 2, who lead slots 4 and 5: any two honest ones with all
/// Byzantine weight make a quorum, as with n = 4, but every block of both slots is the adversary's, as in the model.
#[test]
fn two_slots_led_by_the_adversary() {
    let bounds = equal_weights("two slots led by the adversary", 0, two_slots());
    run(Bounds { weights: vec![3, 3, 3, 2, 2], byzantine: vec![3, 4], floor: 3, ..bounds });
}

#[test]
fn one_slot_with_failing_commits_and_slow_execution() {
    let bounds = equal_weights("one slot, failing commits", 0, vec![2]);
    run(Bounds { failures: true, slow_execution: true, commits_under_way: 3, ..bounds });
}

/// Validator 1 leads slot 2 of epoch 0, which two blocks may end, and slot 1 of epoch 1.
#[test]
fn an_epoch_ends_with_a_block_of_the_adversary() {
    run(end_of_epoch("an epoch's end, led by the adversary", 1, 1, Boundary::default()));
}

/// Validator 2 leads slot 3: it proposes again what is not notarized, and builds on what ends the epoch.
#[test]
fn an_epoch_ends_where_the_adversary_proposes_again() {
    let boundary = Boundary { above: true, ..Boundary::default() };
    run(end_of_epoch("an epoch's end, proposed again by the adversary", 2, 1, boundary));
}

/// Validator 3 leaves, and another comes, which renumbers all.
#[test]
fn an_epoch_ends_and_a_member_is_replaced() {
    let boundary = Boundary { leaves: Some(3), ..Boundary::default() };
    run_unless_small(end_of_epoch("an epoch's end, a member replaced", 1, 1, boundary));
}

#[test]
fn large_one_slot_vote_by_vote_with_failing_commits() {
    let bounds = equal_weights("one slot, vote by vote, failing commits", 0, vec![2]);
    run_if_large(Bounds { single_votes: true, failures: true, ..bounds });
}

#[test]
fn large_two_slots_with_failing_commits() {
    let bounds = equal_weights("two slots, failing commits", 0, vec![2, 1]);
    run_if_large(Bounds { failures: true, commits_under_way: 1, ..bounds });
}

#[test]
fn large_two_slots_with_slow_execution() {
    let bounds = equal_weights("two slots, slow execution", 0, vec![2, 1]);
    run_if_large(Bounds { slow_execution: true, commits_under_way: 1, ..bounds });
}

#[test]
fn large_two_slots_led_by_the_adversary_with_two_blocks_each() {
    let bounds = equal_weights("two slots led by the adversary, two blocks each", 0, vec![2, 2]);
    run_if_large(Bounds { weights: vec![3, 3, 3, 2, 2], byzantine: vec![3, 4], floor: 3, ..bounds });
}

#[test]
fn large_an_epoch_ends_with_one_of_two_blocks_of_the_adversary() {
    run_if_large(end_of_epoch("an epoch's end, two blocks each", 1, 2, Boundary::default()));
}

#[test]
fn large_an_epoch_ends_with_slow_execution() {
    let bounds = end_of_epoch("an epoch's end, slow execution", 1, 1, Boundary::default());
    run_if_large(Bounds { slow_execution: true, commits_under_way: 1, ..bounds });
}

#[test]
fn large_an_epoch_ends_and_words_of_the_next_come_early() {
    let boundary = Boundary { early: 1, ..Boundary::default() };
    run_if_large(end_of_epoch("an epoch's end, words of the next come early", 1, 1, boundary));
}

#[test]
fn large_an_epoch_ends_and_blocks_get_into_the_ledger() {
    let boundary = Boundary { ledger: true, ..Boundary::default() };
    run_if_large(end_of_epoch("an epoch's end, with a ledger and block sync", 1, 1, boundary));
}
