//! Scenarios: what happens to whom, and what must come of it.

use aitbc_core::evidence::Class;
use aitbc_core::params::Parameters;
use aitbc_sim::adversary::Adversary;
use aitbc_sim::network::Network;
use aitbc_sim::random::Random;
use aitbc_sim::run::{Scenario, Wanted, run};
use aitbc_sim::world::{Plan, World};
use std::collections::{BTreeMap, BTreeSet};

/// Chaos lasts this long.
const HEAL_AT: u64 = 3_000;
/// And then the chain must have come back, whatever had grown meanwhile.
const CALM_FOR: u64 = 12_000;

/// Seeds of each scenario: few by default, many by `SIMULATION_SEEDS`, from `SIMULATION_FIRST` on.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SIMULATION_FIRST").unwrap_or(1);
    first..first + number("SIMULATION_SEEDS").unwrap_or(default)
}

/// Runs a scenario with each seed, and prints the one that fails.
fn with_seeds(name: &str, default: u64, mut run: impl FnMut(u64)) {
    struct Loud<'a>(&'a str, u64);
    impl Drop for Loud<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{} failed: SIMULATION_FIRST={} SIMULATION_SEEDS=1", self.0, self.1);
            }
        }
    }
    let seeds = seeds(default);
    println!("{name}: seeds {} to {}", seeds.start, seeds.end - 1);
    for seed in seeds {
        let _loud = Loud(name, seed);
        run(seed);
    }
}

fn plan(seed: u64, weights: &[u32]) -> Plan {
    Plan {
        seed,
        weights: weights.to_vec(),
        parameters: Parameters::default(),
        network: Network::calm(weights.len(), 5),
        crashes: 0,
        power_losses: Vec::new(),
        byzantine: None,
        leads_often: false,
        clock_off: None,
        amnesic: None,
        forgetful: 0,
        tell: false,
        batch_every: 0,
        schedule: Vec::new(),
        boundary_crashes: 0,
        boundary_cuts: 0,
        stalls: 0,
        stakes: None,
        upgrade: None,
        old: BTreeSet::new(),
    }
}

fn chaos(seed: u64, weights: &[u32]) -> Plan {
    let mut random = Random::new(seed ^ 0x5eed);
    let skip_timeout_ms = random.choose(&[60, 100, 150]);
    let parameters = Parameters { skip_timeout_ms, ..Parameters::default() };
    let network = Network::chaos(weights.len(), HEAL_AT, &mut random);
    let (crashes, stalls) = (random.choose(&[0, 2, 6]), random.choose(&[0, 5]));
    Plan { parameters, network, crashes, stalls, batch_every: 10, ..plan(seed, weights) }
}

/// After the heal everything that live validators offer becomes final, everywhere, and the chain keeps its pace.
fn check_liveness(world: &mut World) {
    world.run_until(HEAL_AT);
    let before = world.safety.height();
    world.run_until(HEAL_AT + CALM_FOR / 2);
    let healed = world.safety.height();
    assert!(healed > before + 20, "height {healed} {} ms after the heal, {before} at it", CALM_FOR / 2);
    world.set_batch_every(0);
    world.run_until(HEAL_AT + CALM_FOR);
    let end = world.safety.height();
    for node in world.honest() {
        let height = world.ledger_height(node);
        assert!(height + 3 > end, "validator {node} is at height {height}, the chain at {end}");
        let included = world.included(node);
        let lost = world.made.iter().filter(|(digest, at)| **at > HEAL_AT + 500 && !included.contains(*digest)).count();
        assert_eq!(lost, 0, "batches that validator {node} does not have in a final block");
    }
}

#[test]
fn four_equal_validators_agree_through_chaos_and_go_on_after_it() {
    with_seeds("chaos n=4", 25, |seed| check_liveness(&mut World::new(chaos(seed, &[1; 4]))));
}

#[test]
fn five_weighted_validators_agree_through_chaos_and_go_on_after_it() {
    with_seeds("chaos n=5 weighted", 15, |seed| check_liveness(&mut World::new(chaos(seed, &[3, 2, 2, 1, 2]))));
}

#[test]
fn seven_validators_agree_through_chaos_and_go_on_after_it() {
    with_seeds("chaos n=7", 8, |seed| check_liveness(&mut World::new(chaos(seed, &[1; 7]))));
}

#[test]
fn an_equivocating_double_voting_leader_divides_nobody() {
    with_seeds("equivocator n=4", 20, |seed| {
        let byzantine = Some(((seed % 4) as u16, Adversary::Equivocator));
        let mut world = World::new(Plan { byzantine, ..chaos(seed, &[1; 4]) });
        world.run_until(HEAL_AT);
        let before = world.safety.height();
        world.run_until(HEAL_AT + CALM_FOR);
        assert!(world.safety.height() > before + 20, "{} after {before}", world.safety.height());
        assert!(world.evidence > 0, "it was seen");
    });
}

/// X4, X5: what an honest validator can prove after the heal comes into a block within two seconds. That it comes once, and
/// never against an honest key, is checked block by block.
#[test]
fn whoever_signs_twice_is_convicted_of_each_class_that_was_seen() {
    let guilty = [Adversary::Equivocator, Adversary::DoubleVoter, Adversary::Twin, Adversary::Forker];
    let mut classes = BTreeMap::new();
    for adversary in guilty {
        with_seeds(adversary.name(), 6, |seed| {
            let byzantine = Some(((seed % 4) as u16, adversary));
            let mut world = World::new(Plan { byzantine, ..chaos(seed, &[1; 4]) });
            world.run_until(HEAL_AT + CALM_FOR);
            assert!(!world.safety.convicted.is_empty(), "{} is convicted of nothing", adversary.name());
            let timely = |at: &u64| (HEAL_AT..HEAL_AT + CALM_FOR - 2_000).contains(at);
            for ((accused, class), seen) in world.accused.iter().filter(|(_, seen)| seen.iter().any(timely)) {
                let convicted = world.safety.convicted.contains(&(*accused, 0, *class));
                assert!(convicted, "{class:?} of {accused}, seen at {seen:?} ms, is in no block");
            }
            world.safety.convicted.iter().for_each(|(_, _, class)| *classes.entry(*class).or_insert(0) += 1);
        });
    }
    println!("convictions: {classes:?}");
    if seeds(6).count() >= 6 {
        assert_eq!(classes.len(), Class::ALL.len(), "every class must come up: {classes:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    with_seeds("determinism", 3, |seed| {
        let run = || {
            let mut world = World::new(chaos(seed, &[1; 4]));
            world.run_until(HEAL_AT + 1_000);
            (world.trace, world.safety.height(), world.ticks)
        };
        assert_eq!(run(), run());
    });
}

#[test]
fn under_load_all_honest_validators_pause_no_longer_than_a_skip_timeout() {
    with_seeds("load", 3, |seed| {
        let mut world = World::new(Plan { batch_every: 4, ..plan(seed, &[1; 4]) });
        world.run_until(10_000);
        let gap = world.pace.worst_gap(500, 9_900);
        assert!(gap <= 150, "worst gap {gap} ms");
        assert!(world.safety.height() > 300, "{} blocks in 10 s", world.safety.height());
    });
}

#[test]
fn a_dead_validator_costs_at_most_two_skip_timeouts_and_no_periodic_stall() {
    with_seeds("one dead", 4, |seed| {
        let mut world = World::new(Plan { batch_every: 10, ..plan(seed, &[1; 4]) });
        world.run_until(2_000);
        world.kill((seed % 4) as u16);
        world.run_until(4_000);
        // skip_after has passed: its slots are skipped at once from here on.
        world.run_until(20_000);
        let gap = world.pace.worst_gap(4_000, 19_900);
        assert!(gap <= 300, "worst gap {gap} ms");
        let late = world.pace.worst_gap(6_000, 19_900);
        assert!(late <= 150, "each of its slots costs a hop, not a timeout: {late} ms");
    });
}

#[test]
fn an_idle_chain_is_silent_between_heartbeats() {
    with_seeds("idle", 3, |seed| {
        let mut world = World::new(plan(seed, &[1; 4]));
        world.run_until(20_000);
        let height = world.safety.height();
        assert!((15..=21).contains(&height), "one block a second, not {height} in 20");
        // Votes come in bursts: everything else of each second is silent.
        let mut bursts = 0;
        let mut last = None;
        for at in &world.voted_at {
            if last.is_none_or(|last| at - last > 300) {
                bursts += 1;
            }
            last = Some(*at);
        }
        assert!(bursts <= height + 1, "{bursts} bursts of votes for {height} blocks");
        assert!(world.ticks < 20 * 4 * 20, "{} ticks in 20 s of 4 idle validators", world.ticks);
    });
}

#[test]
fn an_idle_chain_with_a_dead_leader_takes_a_batch_at_once() {
    with_seeds("idle, one dead", 4, |seed| {
        let mut world = World::new(plan(seed, &[1; 4]));
        world.run_until(3_000);
        world.kill(0);
        world.run_until(9_000 + seed * 130);
        let (made_at, batch) = (world.now, world.make_batch(1));
        while !world.included(1).contains(&batch) {
            world.run_until(world.now + 1);
            assert!(world.now < made_at + 250, "not final after {} ms", world.now - made_at);
        }
    });
}

#[test]
fn a_validator_that_was_away_catches_up_and_votes_again() {
    with_seeds("away", 3, |seed| {
        let mut world = World::new(Plan { batch_every: 10, ..plan(seed, &[1; 4]) });
        world.run_until(1_000);
        world.kill(2);
        world.run_until(8_000);
        world.start(2);
        world.run_until(12_000);
        assert!(world.ledger_height(2) + 5 > world.safety.height());
        assert!(world.synced_blocks > 100, "by block sync: {}", world.synced_blocks);
        // Without it, two of four are no quorum: the chain can only go on by its votes.
        world.kill(1);
        let before = world.safety.height();
        world.run_until(16_000);
        assert!(world.safety.height() > before + 20);
    });
}

#[test]
fn all_four_killed_at_once_lose_nothing_and_go_on() {
    with_seeds("power loss", 6, |seed| {
        let mut world = World::new(Plan { batch_every: 10, ..plan(seed, &[1; 4]) });
        world.run_until(2_000 + seed * 7);
        (0..4).for_each(|node| world.kill(node));
        let before = world.safety.height();
        (0..4).for_each(|node| world.start(node));
        world.run_until(7_000);
        // Agreement with what was final before is checked block by block.
        assert!(world.safety.height() > before + 20);
    });
}

/// P10, P8: nobody can tell it how its epoch ended where its block is in the ledger and the Seal is not.
#[test]
fn a_validator_alone_goes_on_from_the_last_block_of_an_epoch_without_its_seal() {
    let mut rebuilt = 0;
    with_seeds("alone, epochs of two", 20, |seed| {
        let alone = chaos(seed, &[1]);
        let parameters = Parameters { epoch_blocks: 2, ..alone.parameters.clone() };
        let mut world = World::new(Plan { crashes: 10, parameters, ..alone });
        world.run_until(HEAL_AT);
        let before = world.safety.height();
        world.run_until(HEAL_AT + 3_000);
        assert!(world.safety.height() > before + 20, "{} after {before}", world.safety.height());
        rebuilt += world.rebuilt_seals();
    });
    assert!(rebuilt > 0, "no start found a last block without its Seal: this tells nothing");
}

/// Of so many identities, those that validate an epoch, all of equal weight.
fn members(all: usize, who: std::ops::Range<usize>) -> Vec<u32> {
    (0..all).map(|identity| u32::from(who.contains(&identity))).collect()
}

/// Epochs short enough to pass many.
fn short_epochs() -> Parameters {
    Parameters { epoch_blocks: 20, ..Parameters::default() }
}

/// E7: a set ends its own last epoch, and no certificate of it makes a block of the next one final.
#[test]
fn the_old_set_alone_ends_its_epoch_and_makes_no_block_of_the_next_one() {
    with_seeds("old set alone", 6, |seed| {
        let schedule = vec![members(8, 4..8)];
        let old = Plan { parameters: short_epochs(), schedule, batch_every: 10, ..plan(seed, &members(8, 0..4)) };
        let mut world = World::new(old);
        (4..8).for_each(|node| world.kill(node));
        world.run_until(6_000);
        let last = world.epochs.last(1);
        assert_eq!(world.safety.height(), last, "epochs 0 and 1 are those of the old set");
        (4..8).for_each(|node| world.start(node));
        world.run_until(9_000);
        assert!(world.safety.height() > last + 20, "height {} with the new set", world.safety.height());
        (0..4).for_each(|node| world.kill(node));
        let before = world.safety.height();
        world.run_until(12_000);
        assert!(world.safety.height() > before + 20, "the old set is needed still after height {before}");
        (4..8).for_each(|node| world.audit(node));
    });
}

#[test]
fn growth_from_four_to_seven_and_ten_and_removal_down_to_four_under_load_cost_at_most_two_skip_timeouts() {
    with_seeds("growth", 3, |seed| {
        let sizes = [5, 6, 7, 7, 8, 9, 10, 10, 4, 4];
        let schedule = sizes.map(|size| members(10, 0..size)).to_vec();
        let growing = Plan { parameters: short_epochs(), schedule, batch_every: 10, ..plan(seed, &members(10, 0..4)) };
        let mut world = World::new(growing);
        let end = world.epochs.last(1 + sizes.len() as u64);
        while world.safety.height() < end && world.now < 60_000 {
            world.run_until(world.now + 100);
        }
        let (height, gap) = (world.safety.height(), world.pace.worst_gap(500, world.now));
        println!("seed {seed}: {height} blocks in {} ms, worst gap {gap} ms", world.now);
        assert!(height >= end && gap <= 300, "height {height} of {end}, worst gap {gap} ms");
        (0..10).for_each(|node| world.audit(node));
    });
}

/// The ledger's blocks may be epochs behind its votes when a validator starts: it votes in none of them again.
#[test]
fn votes_that_are_epochs_ahead_of_the_blocks_of_a_ledger_are_not_cast_again() {
    let (mut starts, mut worst) = (0, 0);
    for seed in 1..=40 {
        let scenario = Some(Scenario::Lag);
        let (epochs, stakes) = (true, false);
        let wanted = Wanted { seed, nodes: None, slots: 0, scenario, chaos_ms: None, tell: false, epochs, stakes };
        let verdict = run(&wanted);
        assert_eq!(verdict.violation, None, "aitbc-node sim --seed {seed} --scenario lag --epochs");
        (starts, worst) = (starts + verdict.starts_behind, worst.max(verdict.worst_lag));
    }
    println!("{starts} starts behind, by {worst} epochs at most");
    assert!(starts > 0 && worst >= 4, "{starts} starts behind, by {worst} epochs at most: this tells nothing");
}

#[test]
fn a_validator_alone_makes_blocks() {
    let mut world = World::new(Plan { batch_every: 50, ..plan(1, &[1]) });
    world.run_until(5_000);
    assert!(world.safety.height() > 50);
    assert_eq!(world.live(), [0]);
}

/// A1-A7: over many seeds with a validator whose database goes, no vote contradicts one from before the loss, and it votes again.
#[test]
fn a_validator_that_loses_its_database_again_and_again_never_votes_twice_and_comes_back() {
    let (mut losses, mut recoveries) = (0, 0);
    for seed in 1..=1_500 {
        let wanted = Wanted {
            seed,
            nodes: None,
            slots: 0,
            scenario: Some(Scenario::Amnesia),
            chaos_ms: None,
            tell: false,
            epochs: false,
            stakes: false,
        };
        let verdict = run(&wanted);
        assert_eq!(verdict.violation, None, "aitbc-node sim --seed {seed} --scenario amnesia");
        losses += verdict.losses;
        recoveries += verdict.recoveries;
    }
    println!("{losses} databases lost, {recoveries} recoveries");
    assert!(
        losses > 500 && recoveries > 200,
        "{losses} losses, {recoveries} recoveries: the scenario has become too mild"
    );
}

/// V1, through chaos and crashes: that nobody takes more than its program speaks is checked at each vote, execution and block.
#[test]
fn old_programs_stop_before_an_upgrade_and_new_ones_go_on_from_there() {
    const AT: u64 = 30;
    let mut exact = 0;
    with_seeds("upgrade, all old", 12, |seed| {
        // At the end of an epoch, amid one, and just after its beginning.
        let epoch_blocks = [5, 7, 29][seed as usize % 3];
        let chaotic = chaos(seed, &[1; 4]);
        let parameters = Parameters { epoch_blocks, ..chaotic.parameters.clone() };
        let mut world = World::new(Plan { upgrade: Some(AT), old: (0..4).collect(), parameters, ..chaotic });
        world.run_until(HEAL_AT + CALM_FOR);
        let stopped: Vec<u64> = (0..4).map(|node| world.ledger_height(node)).collect();
        // The last block of the old version may be notarized and not final: the first of the new one makes it so.
        assert!(stopped.iter().all(|height| (AT - 2..AT).contains(height)), "they stopped at {stopped:?}");
        exact += u64::from(stopped == [AT - 1; 4]);
        let votes = world.safety.votes;
        world.run_until(HEAL_AT + 2 * CALM_FOR);
        assert_eq!(world.safety.votes, votes, "votes after the stop");
        for node in 0..4 {
            world.run_until(world.now + 700);
            world.upgrade(node);
        }
        world.run_until(world.now + 5_000);
        assert!(world.safety.height() > AT + 20, "height {} with new programs", world.safety.height());
    });
    assert!(exact > 0, "none stopped exactly before the upgrade with all its blocks final");
}

#[test]
fn one_old_program_of_four_stops_before_an_upgrade_while_the_others_go_on_and_catches_up_as_a_new_one() {
    const AT: u64 = 60;
    with_seeds("upgrade, one old", 12, |seed| {
        let node = (seed % 4) as u16;
        let network = Network::calm(4, 5);
        let loud = Plan { network, crashes: 0, stalls: 0, ..chaos(seed, &[1; 4]) };
        let mut world = World::new(Plan { upgrade: Some(AT), old: BTreeSet::from([node]), ..loud });
        if seed % 2 == 0 {
            // It was away as the upgrade came: by block sync it gets as far.
            world.run_until(300);
            world.kill(node);
            world.run_until(4_000);
            world.start(node);
        }
        world.run_until(8_000);
        assert!(world.safety.height() > AT + 100, "the others are at {}", world.safety.height());
        assert_eq!(world.ledger_height(node), AT - 1, "where the old program stopped");
        let late = world.pace.worst_gap(6_000, 8_000);
        assert!(late <= 300, "nobody waits for its turns: {late} ms");
        world.upgrade(node);
        world.run_until(12_000);
        assert!(world.ledger_height(node) + 5 > world.safety.height(), "{}", world.ledger_height(node));
    });
}
