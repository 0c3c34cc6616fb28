//! Many seeds, each with the scenario that it chooses: `SIM_SEEDS=1000000 SIM_FIRST=1 SIM_THREADS=2`.

use aitbc_sim::run::{Scenario, Verdict, Wanted, run};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn wanted(seed: u64) -> Wanted {
    Wanted { seed, nodes: None, slots: 0, scenario: None, tell: false }
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
    failures: Vec<String>,
}

impl Sums {
    fn of(seed: u64, verdict: Verdict) -> Sums {
        let Verdict { scenario, nodes, .. } = &verdict;
        let failure = verdict.violation.as_ref().map(|violation| {
            let replay = format!("aitbc-node sim --seed {seed}");
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
        }
    }

    fn merge(&mut self, other: Sums) {
        other.runs.into_iter().for_each(|(name, runs)| *self.runs.entry(name).or_default() += runs);
        self.votes += other.votes;
        self.blocks += other.blocks;
        self.crashes += other.crashes;
        self.steps += other.steps;
        self.virtual_ms += other.virtual_ms;
        self.worst_first_final_ms = self.worst_first_final_ms.max(other.worst_first_final_ms);
        self.worst_egress = self.worst_egress.max(other.worst_egress);
        self.failures.extend(other.failures);
    }
}

#[test]
fn no_seed_violates_anything() {
    let (first, seeds) = (number("SIM_FIRST", 1), number("SIM_SEEDS", 10_000));
    let (next, started) = (AtomicU64::new(first), Instant::now());
    let work = || {
        let mut sums = Sums::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return sums;
            }
            sums.merge(Sums::of(seed, run(&wanted(seed))));
        }
    };
    let mut sums = Sums::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..number("SIM_THREADS", 2)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| sums.merge(worker.join().expect("a run's panic is its verdict")));
    });
    println!("{seeds} seeds in {:.1} s: {:?}", started.elapsed().as_secs_f64(), sums.runs);
    println!(
        "{} votes, {} final blocks, {} crashes, {} events, {} virtual s; worst first Final {} ms, worst egress {} B/s",
        sums.votes,
        sums.blocks,
        sums.crashes,
        sums.steps,
        sums.virtual_ms / 1_000,
        sums.worst_first_final_ms,
        sums.worst_egress
    );
    sums.failures.iter().for_each(|failure| eprintln!("{failure}"));
    assert!(sums.failures.is_empty(), "{} of {seeds} seeds violate something", sums.failures.len());
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
