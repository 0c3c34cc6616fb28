//! `make bench`: throughput, finality, memory and processor time of validators on this machine; a table, and JSON in the target folder.

use aitbc_tests::bench::{self, Machine, Options, Report};
use aitbc_tests::catch_up::{self, Way};
use aitbc_tests::forge::Plan;
use aitbc_tests::localnet::Database;
use aitbc_tests::seed::Seed;
use anyhow::Result;
use clap::Parser;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measures a chain of real validators on this machine.
#[derive(Parser, Debug)]
struct Arguments {
    /// What keeps the blocks; both: a chain on each, one after the other.
    #[arg(long, value_enum, default_value = "both")]
    database: Database,
    /// Validators, all on this machine.
    #[arg(long, default_value_t = 4)]
    validators: usize,
    /// Length of each measurement under load.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Distinct senders.
    #[arg(long, default_value_t = 2_000)]
    senders: usize,
    /// Accepted and not yet final at any time.
    #[arg(long, default_value_t = 16_000)]
    in_flight: u64,
    /// Transfers a second while finality under load is measured; 0 leaves it out.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Single transfers on an idle chain; 0 leaves it out.
    #[arg(long, default_value_t = 200)]
    singles: usize,
    /// Runs of each database; the one with the middle throughput is shown.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Percent of the load that are receipts and bonds, half and half, on a chain of mode pos whose receipts mint; 0: transfers only,
    /// on a chain of authorities.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    mix: u8,
    /// Measures instead how fast a validator takes so many blocks from the others; 0: the load is measured.
    #[arg(long, default_value_t = 0)]
    catch_up: u64,
    /// With --catch-up: PRUNING of the validator that catches up; 0: archive.
    #[arg(long, default_value_t = 0)]
    keep_blocks: u64,
    /// With --catch-up: it fetches a snapshot instead of blocks.
    #[arg(long)]
    state_sync: bool,
    /// Where the JSON goes; default: bench.json beside the built binaries.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Arguments {
    fn databases(&self) -> &[Database] {
        match &self.database {
            Database::Both => &[Database::Sqlite, Database::Postgres],
            one => std::slice::from_ref(one),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("bench: {cause:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let machine = Machine::this()?;
    println!(
        "{machine}\n{} validators on this machine, each verifies every transaction\nnode: {}",
        arguments.validators, machine.node_binary
    );
    let seed = Seed::of("bench");
    if arguments.catch_up > 0 {
        return catch_up(arguments, &machine, seed).await;
    }
    let (mut medians, mut all) = (Vec::new(), Vec::new());
    for database in arguments.databases() {
        let mut runs = Vec::new();
        for run in 0..arguments.runs.max(1) {
            let report = bench::measure(&options(arguments, *database, Seed(seed.0 + run as u64))).await?;
            println!("{} run {}: {:.0} final tx/s", report.database, run + 1, report.final_tx_per_second);
            runs.push(report);
        }
        all.extend(runs.iter().cloned());
        medians.push(bench::median(runs, |run| run.final_tx_per_second)?);
    }
    println!("\n{}", table(&medians));
    write_json(arguments, &json!({ "machine": machine, "median": medians, "runs": all }))
}

fn write_json(arguments: &Arguments, report: &serde_json::Value) -> Result<()> {
    let path = arguments.json.clone().map_or_else(default_json, Ok)?;
    std::fs::write(&path, format!("{report:#}\n"))?;
    println!("\nas JSON: {}", path.display());
    Ok(())
}

/// Each database so often as asked for; the run in the middle is shown.
async fn catch_up(arguments: &Arguments, machine: &Machine, seed: Seed) -> Result<()> {
    let (mut medians, mut all) = (Vec::new(), Vec::new());
    for database in arguments.databases() {
        let mut runs = Vec::new();
        for run in 0..arguments.runs.max(1) {
            let plan = Plan::small(arguments.catch_up);
            let keep = Some(arguments.keep_blocks).filter(|blocks| *blocks > 0);
            let way = if arguments.state_sync { Way::Snapshot } else { Way::Blocks };
            let report = catch_up::measure(*database, Seed(seed.0 + run as u64), plan, keep, way).await?;
            println!("run {}: {report:#?}", run + 1);
            runs.push(report);
        }
        all.extend(runs.iter().cloned());
        medians.push(bench::median(runs, |run| run.blocks_per_second)?);
    }
    for r in &medians {
        println!(
            "{}: {} blocks in {:.1} s, {:.0} a second; first vote after {:.1} s; memory {:.0} MB; database {:.0} MB, \
             with all blocks {:.0} MB; whole blocks from {} on",
            r.database,
            r.blocks,
            r.seconds,
            r.blocks_per_second,
            r.seconds_to_vote,
            r.memory_mb,
            r.database_mb,
            r.archive_mb,
            r.lowest
        );
    }
    write_json(arguments, &json!({ "machine": machine, "median": medians, "runs": all }))
}

fn options(arguments: &Arguments, database: Database, seed: Seed) -> Options {
    Options {
        validators: arguments.validators,
        database,
        seed,
        senders: arguments.senders,
        time: Duration::from_secs(arguments.seconds),
        in_flight: arguments.in_flight,
        rate: arguments.rate,
        singles: arguments.singles,
        rest: Duration::from_secs(5),
        mix: arguments.mix.into(),
    }
}

fn default_json() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("bench.json"))
}

/// One column a database.
fn table(reports: &[Report]) -> String {
    let pair = |ms: &Option<[f64; 2]>| ms.map_or("not measured".into(), |[p50, p99]| format!("{p50:.1} / {p99:.1}"));
    type Line<'a> = (&'a str, &'a dyn Fn(&Report) -> String);
    let lines: [Line; 12] = [
        ("database", &|r| r.version.clone()),
        ("distinct senders", &|r| r.senders.to_string()),
        ("final tx/s, sustained", &|r| format!("{:.0}", r.final_tx_per_second)),
        ("of them receipts / bonds", &|r| {
            let [receipts, bonds] = r.receipts_and_bonds_per_second;
            format!("{receipts:.0} / {bonds:.0}")
        }),
        ("blocks/s under load", &|r| format!("{:.0}", r.blocks_per_second)),
        ("in blocks without effect", &|r| format!("{:.0}", r.without_effect)),
        ("finality idle, p50 / p99 ms", &|r| pair(&r.idle_ms)),
        ("finality at 2nd rate, p50 / p99 ms", &|r| format!("{} at {}/s", pair(&r.loaded_ms), r.rate)),
        ("not final there", &|r| r.failed.to_string()),
        ("memory per node idle, MB", &|r| format!("{:.0}", r.idle_mb)),
        ("memory per node after load, MB", &|r| format!("{:.0}", r.loaded_mb)),
        ("refused / sent again", &|r| format!("{} / {}", r.refused.values().sum::<u64>(), r.retried)),
    ];
    let mut text = String::new();
    for (name, value) in lines {
        let cells: Vec<String> = reports.iter().map(|r| format!("{:>24}", value(r))).collect();
        text += &format!("{name:<36}{}\n", cells.join(""));
    }
    for report in reports {
        text += &format!("\nshare of all cores under load, {}:\n", report.database);
        let mut parts: Vec<_> = report.cpu_percent.iter().collect();
        parts.sort_by(|a, b| b.1.total_cmp(a.1));
        for (name, percent) in parts {
            text += &format!("  {name:<34}{percent:>6.1} %\n");
        }
        for (code, count) in &report.without_effect_by_code {
            text += &format!("  in blocks as {code:<21}{count:>8.0}\n");
        }
        if let Some(cause) = &report.first_failure {
            text += &format!("  first failure: {cause}\n");
        }
    }
    text
}
