//! Bounded exhaustive exploration of the real core: every order of deliveries, timeouts, commits and crashes that matters.
//!
//! Run by `cargo test -p aitbc-core --release --test explore -- --nocapture`; larger bounds by `EXPLORE=large`.

// What exists: validators, candidates, statements.
mod universe;
// What survives a crash.
mod disk;
// One validator in all its states.
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
use universe::{Bounds, Universe};

/// States of one validator, and of all, at which a run gives up.
const LIMITS: Limits = Limits { local: 2_000_000, global: 20_000_000 };

const STRICT: Strict = Strict { skip_at_frontier: true, honest_leaders: true, bases_voted_for: true, final_at_once: true };

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
    }
}

/// Explores, prints, and fails on a violation.
fn run(bounds: Bounds, strict: Strict) -> Report {
    let started = Instant::now();
    let universe = Universe::new(bounds);
    let report = global::explore(&universe, LIMITS);
    let bounds = &universe.bounds;
    println!(
        "{}: weights {:?}, byzantine {:?}, slots {} to {}, {} candidates",
        bounds.name,
        bounds.weights,
        bounds.byzantine,
        universe.number(0),
        universe.number(universe.slots() - 1),
        universe.cands.len(),
    );
    println!(
        "  {:?} states of single validators by {} steps; together {} states, {} transitions, {:.2e} combinations; {} vote sets; {:.1} s",
        report.local_states,
        report.steps,
        report.states,
        report.transitions,
        report.combinations as f64,
        report.vote_sets.len(),
        started.elapsed().as_secs_f64()
    );
    if let Some(violation) = &report.violation {
        panic!("{violation}");
    }
    assert!(!report.cut, "a bound was met: not everything was explored");
    let plain = Model { universe: &universe, strict: Strict::default() }.vote_sets();
    let strict = Model { universe: &universe, strict }.vote_sets();
    println!(
        "  model: {} vote sets by the rules of safety, {} with what the core adds; {:.1} s",
        plain.len(),
        strict.len(),
        started.elapsed().as_secs_f64()
    );
    let beyond = report.vote_sets.difference(&strict).next();
    let short = strict.difference(&report.vote_sets).min_by_key(|v| v.iter().map(|r| r.count_ones()).sum::<u32>());
    println!("  short by {}", strict.difference(&report.vote_sets).count());
    let tell = |votes: Option<&Vec<u64>>| votes.map(|v| v.iter().map(|rows| universe.names(*rows)).collect::<Vec<_>>());
    println!("  beyond {:?}, short {:?}", tell(beyond), tell(short));
    report
}

#[test]
fn one_slot() {
    run(equal_weights("one slot", 0, vec![2]), STRICT);
}

#[test]
fn one_slot_vote_by_vote() {
    let bounds = equal_weights("one slot, vote by vote", 0, vec![2]);
    run(Bounds { single_votes: true, ..bounds }, STRICT);
}

#[test]
fn two_slots_with_equal_weights() {
    run(equal_weights("two slots, equal weights", 0, vec![2, 1]), STRICT);
}

/// Weights 3,2,2,2: slot 2 is led by validator 1, who is Byzantine, slot 3 by validator 2.
#[test]
fn two_slots_with_different_weights() {
    let bounds = equal_weights("two slots, different weights", 1, vec![2, 1]);
    run(Bounds { weights: vec![3, 2, 2, 2], floor: 1, ..bounds }, STRICT);
}

/// Three honest validators of weight 3 and two Byzantine of weight 2, who lead slots 4 and 5: any two honest ones with all
/// Byzantine weight make a quorum, as with n = 4, but every block of both slots is the adversary's, as in the model.
#[test]
fn two_slots_led_by_the_adversary() {
    let bounds = equal_weights("two slots led by the adversary", 0, vec![2, 1]);
    run(Bounds { weights: vec![3, 3, 3, 2, 2], byzantine: vec![3, 4], floor: 3, ..bounds }, STRICT);
}
