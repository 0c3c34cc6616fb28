//! Many seeds, each with the scenario that it chooses: `SIM_SEEDS=1000000 SIM_FIRST=1 SIM_THREADS=2`; `SIM_SCENARIO=forgetful`
//! and `SIM_CHAOS_MS=8000` choose instead, `SIM_STOP=1` ends at the first seed that violates something.

use aitbc_sim::adversary::Adversary;
use aitbc_sim::run::{Scenario, Verdict, Wanted, run};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn wanted(seed: u64) -> Wanted {
    let chaos_ms = Some(number("SIM_CHAOS_MS", 0)).filter(|ms| *ms > 0);
    let scenario = std::env::var("SIM_SCENARIO").ok().and_then(|name| Scenario::from_name(&name));
    Wanted { seed, nodes: None, slots: 0, scenario, chaos_ms, tell: false, epochs: false, stakes: false }
}

/// The same with epochs of a few blocks, and sets that change. Scenarios that are run by name only are drawn too.
fn with_epochs(seed: u64) -> Wanted {
    let wanted = wanted(seed);
    let [reproposer, forger, early] = Adversary::OF_EPOCHS;
    let named = match seed % 16 {
        0 | 8 => Some(Scenario::Amnesia),
        1 => Some(Scenario::Liar(reproposer)),
        3 | 9 => Some(Scenario::OftenLeader(reproposer)),
        7 | 15 => Some(Scenario::Lag),
        5 => Some(Scenario::Liar(forger)),
        11 => Some(Scenario::OftenLeader(forger)),
        13 => Some(Scenario::Liar(early)),
        _ => None,
    };
    Wanted { scenario: wanted.scenario.or(named), epochs: true, slots: 40, ..wanted }
}

/// Epochs of a few blocks in which stakes, votes, offences and absence decide who validates.
fn with_stakes(seed: u64) -> Wanted {
    Wanted { stakes: true, slots: 40, ..wanted(seed) }
}

/// What many runs come to.
#[derive(Default)]
struct Sums {
    runs: BTreeMap<String, u64>,
    votes: u64,
    blocks: u64,
    crashes: u64,
    steps: u64,
    virtual_ms: u64,
    worst_first_final_ms: u64,
    worst_egress: u64,
    synced_blocks: u64,
    epochs: u64,
    reproposals: u64,
    recoveries: u64,
    rebuilt_seals: u64,
    starts_behind: u64,
    worst_lag: u64,
    happened: BTreeMap<String, u64>,
    failures: Vec<String>,
}

impl Sums {
    fn of(wanted: &Wanted, verdict: Verdict) -> Sums {
        let seed = wanted.seed;
        let Verdict { scenario, nodes, .. } = &verdict;
        let failure = verdict.violation.as_ref().map(|violation| {
            let Wanted { scenario: chosen, chaos_ms, epochs, stakes, .. } = wanted;
            let mut replay = format!("aitbc-node sim --seed {seed}");
            chosen.iter().for_each(|chosen| replay += &format!(" --scenario {}", chosen.name()));
            chaos_ms.iter().for_each(|ms| replay += &format!(" --chaos-ms {ms}"));
            replay += if *epochs { " --epochs" } else { "" };
            replay += if *stakes { " --stakes" } else { "" };
            format!("seed {seed}, {scenario}, {nodes} validators: {violation}\n    replay: {replay}")
        });
        Sums {
            failures: failure.into_iter().collect(),
            runs: BTreeMap::from([(verdict.scenario, 1)]),
            votes: verdict.votes,
            blocks: verdict.height,
            crashes: verdict.crashes,
            steps: verdict.steps,
            virtual_ms: verdict.virtual_ms,
            worst_first_final_ms: verdict.first_final_ms,
            worst_egress: verdict.egress,
            synced_blocks: verdict.synced_blocks,
            epochs: verdict.epochs,
            reproposals: verdict.reproposals,
            recoveries: verdict.recoveries,
            rebuilt_seals: verdict.rebuilt_seals,
            starts_behind: verdict.starts_behind,
            worst_lag: verdict.worst_lag,
            happened: verdict.happened,
        }
    }

    fn merge(&mut self, other: Sums) {
        other.runs.into_iter().for_each(|(name, runs)| *self.runs.entry(name).or_default() += runs);
        other.happened.into_iter().for_each(|(name, times)| *self.happened.entry(name).or_default() += times);
        self.votes += other.votes;
        self.blocks += other.blocks;
        self.crashes += other.crashes;
        self.steps += other.steps;
        self.virtual_ms += other.virtual_ms;
        self.worst_first_final_ms = self.worst_first_final_ms.max(other.worst_first_final_ms);
        self.worst_egress = self.worst_egress.max(other.worst_egress);
        self.synced_blocks += other.synced_blocks;
        self.epochs += other.epochs;
        self.reproposals += other.reproposals;
        self.recoveries += other.recoveries;
        self.rebuilt_seals += other.rebuilt_seals;
        self.starts_behind += other.starts_behind;
        self.worst_lag = self.worst_lag.max(other.worst_lag);
        self.failures.extend(other.failures);
    }
}

#[test]
fn no_seed_violates_anything() {
    run_seeds(number("SIM_SEEDS", 10_000), wanted);
}

#[test]
fn no_seed_with_short_epochs_violates_anything() {
    let seeds = number("SIM_EPOCH_SEEDS", number("SIM_SEEDS", 10_000).div_ceil(5));
    let sums = run_seeds(seeds, with_epochs);
    println!(
        "{} epochs, {} re-proposals, {} recoveries, {} starts without the Seal of their floor, {} with blocks behind votes, by {} epochs at most",
        sums.epochs, sums.reproposals, sums.recoveries, sums.rebuilt_seals, sums.starts_behind, sums.worst_lag
    );
    assert!(seeds < 1_000 || sums.reproposals > 0, "no last block of an epoch was ever proposed again");
    assert!(seeds < 1_000 || sums.rebuilt_seals > 0, "no start ever found the last block of an epoch without its Seal");
    assert!(seeds < 1_000 || sums.worst_lag >= 4, "no start ever found its blocks four epochs behind its votes");
}

/// E1, E2, X7: whatever decides who validates, everybody goes by the same sets, and the chain goes on.
#[test]
fn no_seed_in_which_stakes_and_votes_decide_who_validates_violates_anything() {
    let seeds = number("SIM_STAKE_SEEDS", number("SIM_SEEDS", 10_000).div_ceil(5));
    let sums = run_seeds(seeds, with_stakes);
    println!("{} epochs, {} re-proposals, {:?}", sums.epochs, sums.reproposals, sums.happened);
    let everywhere = ["bond", "unbond", "slash", "admit", "remove", "jail", "unjail"];
    let everywhere = everywhere.iter().flat_map(|what| ["before", "at", "after"].map(|at| format!("{what} {at}")));
    let sets = ["join", "leave", "weight", "join begins", "leave begins", "weight begins"];
    let at_the_end = sets.map(|what| format!("{what} at"));
    let amid_faults = sets.iter().chain(&["jail", "unjail"]);
    let amid_faults = amid_faults.flat_map(|what| ["leader killed", "cut"].map(|fault| format!("{what} at, {fault}")));
    let wanted = everywhere.chain(at_the_end).chain(amid_faults);
    let missing: Vec<_> = wanted.filter(|name| !sums.happened.contains_key(name)).collect();
    assert!(seeds < 500 || missing.is_empty(), "never happened: {missing:?}");
}

/// All of them, and that nothing was violated.
fn run_seeds(seeds: u64, wanted: impl Fn(u64) -> Wanted + Sync + Copy) -> Sums {
    let first = number("SIM_FIRST", 1);
    let (next, started, stop) = (AtomicU64::new(first), Instant::now(), number("SIM_STOP", 0) > 0);
    let work = || {
        let mut sums = Sums::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return sums;
            }
            let wanted = wanted(seed);
            sums.merge(Sums::of(&wanted, run(&wanted)));
            if stop && !sums.failures.is_empty() {
                // Seeds below this one are under way, so that the first of all is among those found.
                next.store(first + seeds, Ordering::Relaxed);
            }
        }
    };
    let mut sums = Sums::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..number("SIM_THREADS", 2)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| sums.merge(worker.join().expect("a run's panic is its verdict")));
    });
    println!("{seeds} seeds in {:.1} s: {:?}", started.elapsed().as_secs_f64(), sums.runs);
    println!(
        "{} votes, {} final blocks, {} crashes, {} blocks by sync, {} events, {} virtual s; worst first Final {} ms, worst egress {} B/s",
        sums.votes,
        sums.blocks,
        sums.crashes,
        sums.synced_blocks,
        sums.steps,
        sums.virtual_ms / 1_000,
        sums.worst_first_final_ms,
        sums.worst_egress
    );
    sums.failures.iter().for_each(|failure| eprintln!("{failure}"));
    assert!(sums.failures.is_empty(), "{} of {seeds} seeds violate something", sums.failures.len());
    sums
}

/// Seeds that once violated something, with what was wrong. A change of the world deals them other cards; they stay because they
/// cost nothing, and the scenario that found the fault is played for sure.
const REGRESSIONS: [(u64, &str, Option<u64>, &str); 8] = [
    (
        109_450,
        "batch-withholder-often",
        None,
        "3,020 ms to the first Final: each turn of a faulty leader takes a skip timeout",
    ),
    (119_833, "flooder", None, "the same"),
    (
        117_324,
        "forgetful",
        None,
        "4 MiB in a second: a process that starts again in no time relays each certificate, and its own proposal, again",
    ),
    (
        51_260,
        "forgetful",
        None,
        "no Final for 3 s: a process that came back while others were away never heard that they are connected",
    ),
    (118_874, "forgetful", None, "the same"),
    (138_859, "forgetful", None, "the same"),
    (171_254, "forgetful", None, "the same"),
    (
        9_189,
        "flooder",
        Some(8_000),
        "a ledger at height 23 of 78 four seconds after the heal: the world had no block sync",
    ),
];

#[test]
fn seeds_that_found_something_stay_quiet() {
    for (seed, name, chaos_ms, what) in REGRESSIONS {
        let scenario = Scenario::from_name(name);
        assert!(scenario.is_some(), "{name} is a scenario");
        let verdict = run(&Wanted { scenario, chaos_ms, ..wanted(seed) });
        assert_eq!(verdict.violation, None, "seed {seed}, {name}: {what}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story_byte_for_byte() {
    for (seed, scenario) in (1..).zip(Scenario::all()) {
        let wanted = Wanted { scenario: Some(scenario), tell: true, ..wanted(seed) };
        let (one, two) = (run(&wanted), run(&wanted));
        assert_eq!(one, two);
        assert!(!one.story.is_empty());
    }
}
