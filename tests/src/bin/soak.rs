//! `make soak`: a day's worth of blocks under mixed load; a table of what grew, and exit code 1 where something may not.

use aitbc_tests::bench::Machine;
use aitbc_tests::localnet::Database;
use aitbc_tests::seed::Seed;
use aitbc_tests::soak::{self, DAY, Findings, Options, PRUNES, RESTARTS, Report, Sample};
use anyhow::{Context, Result};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Measures whether a chain of four validators leaks.
#[derive(Parser, Debug)]
struct Arguments {
    /// Least length of the load.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Least number of blocks meanwhile; a day has 86400 at a block a second.
    #[arg(long, default_value_t = DAY)]
    blocks: u64,
    /// What keeps the blocks; both: SQLite of validators 0 and 2, Postgres of 1 and 3.
    #[arg(long, value_enum, default_value = "both")]
    database: Database,
    /// Seconds between two samples.
    #[arg(long, default_value_t = 10)]
    sample_seconds: u64,
    /// Seconds between two restarts of validator 3.
    #[arg(long, default_value_t = 180)]
    restart_seconds: u64,
    /// Distinct senders of transfers.
    #[arg(long, default_value_t = 24)]
    senders: usize,
    /// Transfers accepted and not yet final at any time.
    #[arg(long, default_value_t = 8)]
    in_flight: u64,
    /// Where every sample goes as a line of CSV.
    #[arg(long)]
    csv: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(cause) => {
            eprintln!("soak: {cause:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
async fn run(arguments: &Arguments) -> Result<bool> {
    let machine = Machine::this()?;
    println!(
        "{machine}\nfour validators and all clients on this machine; validator {PRUNES} prunes, {RESTARTS} restarts"
    );
    let options = Options {
        database: arguments.database,
        seed: Seed::of("soak"),
        time: Duration::from_secs(arguments.minutes * 60),
        blocks: arguments.blocks,
        every: Duration::from_secs(arguments.sample_seconds.max(1)),
        restart_every: Duration::from_secs(arguments.restart_seconds),
        senders: arguments.senders,
        in_flight: arguments.in_flight,
    };
    let report = soak::measure(&options, |line| println!("{line}")).await?;
    if let Some(path) = &arguments.csv {
        write_csv(path, &report)?;
    }
    let findings = soak::judge(&report);
    println!("\n{}\n{}\n{}", summary(&report), table(&options, &report, &findings), clients(&report));
    let wrong = report.counts.wrong.iter().map(|(what, count)| format!("{count} × {what}"));
    let faults =
        findings.iter().flat_map(|f| f.faults.iter().map(|fault| format!("validator {}: {fault}", f.validator)));
    let faults: Vec<String> = soak::too_short(&report).into_iter().chain(faults).chain(wrong).collect();
    faults.iter().for_each(|fault| println!("FAULT {fault}"));
    println!("{}", if faults.is_empty() { "nothing leaks, databases grow evenly" } else { "not as it must be" });
    Ok(faults.is_empty())
}

fn write_csv(path: &Path, report: &Report) -> Result<()> {
    let samples = report.before.iter().chain(&report.samples).chain(&report.after).map(Sample::to_csv);
    let lines: Vec<String> = std::iter::once(Sample::CSV.to_owned()).chain(samples).collect();
    std::fs::write(path, lines.join("\n") + "\n").with_context(|| format!("write {}", path.display()))
}

fn summary(report: &Report) -> String {
    let of_first: Vec<&Sample> = report.samples.iter().filter(|s| s.validator == 0).collect();
    let rise = |of: fn(&Sample) -> u64| match &of_first[..] {
        [first, .., last] => of(last) - of(first),
        _ => 0,
    };
    let (blocks, transactions) = (rise(|s| s.height), rise(|s| s.transactions));
    format!(
        "{:.1} minutes · {blocks} blocks, {:.1} a second, {:.2} days at one a second · {transactions} transactions, {:.0} a second · \
         {} restarts · {} transfers refused",
        report.seconds / 60.0,
        blocks as f64 / report.seconds,
        blocks as f64 / DAY as f64,
        transactions as f64 / report.seconds,
        report.restarts,
        report.refused,
    )
}

/// One row a validator; figures of the second half, but of the most at any time.
fn table(options: &Options, report: &Report, findings: &[Findings]) -> String {
    let mut text = String::from(
        "| validator | memory MB, grown | most files, rest | most threads, rest | most tasks, rest | database bytes a block, R² | a transaction | MB a day |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for ((found, before), after) in findings.iter().zip(&report.before).zip(&report.after) {
        let memory = found.memory.map_or("?".into(), |m| {
            format!("{:.1}, {:+.1} ({:+.1} %)", m.mean / 1e6, m.growth() / 1e6, m.growth() / m.mean * 100.0)
        });
        let rest = |number: usize, before: u64, after: u64| format!("{}, {before} → {after}", found.most[number]);
        let database = found.database.map_or(["?".into(), "?".into()], |d| {
            [format!("{:.0}, {:.4}", d.slope, d.r2), format!("{:.1}", d.slope * DAY as f64 / 1e6)]
        });
        let kind = match options.database {
            Database::Both => ["sqlite", "postgres"][found.validator % 2],
            one => one.name(),
        };
        let role = match found.validator {
            PRUNES => ", prunes",
            RESTARTS => ", restarts",
            _ => "",
        };
        text += &format!(
            "| {} ({kind}{role}) | {memory} | {} | {} | {} | {} | {:.0} | {} |\n",
            found.validator,
            rest(0, before.files, after.files),
            rest(1, before.threads, after.threads),
            rest(2, before.tasks, after.tasks),
            database[0],
            found.bytes_a_transaction,
            database[1],
        );
    }
    text
}

fn clients(report: &Report) -> String {
    let lines = report.counts.all.iter().map(|(what, count)| format!("{count:>9} {what}\n"));
    lines.collect()
}
