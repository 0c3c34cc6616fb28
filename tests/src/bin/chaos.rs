//! Part of `make chaos`: what one bad validator of four costs, as a table.

use aitbc_tests::bench::Machine;
use aitbc_tests::localnet::Database;
use aitbc_tests::one_of_four::{Fourth, NOTICED, Options, Report, SLOW, measure};
use aitbc_tests::seed::Seed;
use anyhow::{Context, Result};
use clap::Parser;
use std::process::ExitCode;
use std::time::Duration;

/// Measures a chain of four of which one is well, dead for good, or slow.
#[derive(Parser, Debug)]
struct Arguments {
    /// Length of each measurement.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Transfers a second while finality is measured.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Accepted and not yet final while throughput is measured.
    #[arg(long, default_value_t = 4_000)]
    in_flight: u64,
    /// Distinct senders.
    #[arg(long, default_value_t = 1_000)]
    senders: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("chaos: {cause:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let machine = Machine::this()?;
    let slow = SLOW.as_millis();
    println!("{machine}\nfour validators, proxies and clients on this machine; slow: {slow} ms each way");
    let seed = Seed::of("chaos");
    for database in [Database::Sqlite, Database::Postgres] {
        let options = Options {
            database,
            seed,
            senders: arguments.senders,
            time: Duration::from_secs(arguments.seconds),
            rate: arguments.rate,
            in_flight: arguments.in_flight,
        };
        let mut reports = Vec::new();
        for fourth in Fourth::ALL {
            reports.push(measure(&options, fourth).await?);
        }
        println!("\n{}", table(database, arguments.rate, &reports)?);
    }
    Ok(())
}

/// One row a state of the fourth validator, compared with the first.
fn table(database: Database, rate: u32, reports: &[Report]) -> Result<String> {
    let well = reports.first().context("a report to compare with")?;
    let name = database.name();
    let mut text = format!(
        "| {name}: fourth validator | final tx/s | blocks/s | p50 / p99 ms at {rate}/s | not final | longest pause ms | pauses ≥ {} ms a minute |\n\
         |---|---|---|---|---|---|---|\n",
        NOTICED.as_millis()
    );
    for report in reports {
        let share = (report.final_tx_per_second / well.final_tx_per_second - 1.0) * 100.0;
        text += &format!(
            "| {} | {:.0} ({share:+.0} %) | {:.0} | {:.1} / {:.1} ({:+.1}) | {} | {} | {:.1} |\n",
            report.fourth.name(),
            report.final_tx_per_second,
            report.blocks_per_second,
            report.p50_ms,
            report.p99_ms,
            report.p99_ms - well.p99_ms,
            report.failed,
            report.longest_pause.as_millis(),
            report.noticed_a_minute,
        );
    }
    Ok(text)
}
