//! The measuring tool measures: its figures are no test's business.

use aitbc_tests::bench::{Options, Report, measure};
use aitbc_tests::localnet::{Database, run};
use aitbc_tests::seed::Seed;
use anyhow::{Result, ensure};
use std::time::Duration;

#[test]
fn the_bench_tool_measures_a_chain_whose_transactions_all_take_effect() {
    run("bench", async {
        let report = measured(0, 5).await?;
        ensure!(report.idle_ms.is_some() && report.receipts_and_bonds_per_second == [0.0; 2], "{report:#?}");
        Ok(())
    });
}

#[test]
fn a_fifth_of_the_load_are_receipts_that_mint_and_bonds_that_take_effect_where_that_is_asked_for() {
    run("bench, mixed", async {
        let report = measured(20, 0).await?;
        for (name, rate) in ["receipts", "bonds"].iter().zip(report.receipts_and_bonds_per_second) {
            let share = rate / report.final_tx_per_second;
            // Of a tenth each; requests end in the middle of a round of senders.
            ensure!((0.05..0.15).contains(&share), "{name} are {share:.3} of all: {report:#?}");
        }
        Ok(())
    });
}

async fn measured(mix: usize, singles: usize) -> Result<Report> {
    let options = Options {
        validators: 4,
        database: Database::Sqlite,
        seed: Seed::of("bench"),
        senders: 1_100,
        time: Duration::from_secs(2),
        in_flight: 1_000,
        rate: 50,
        singles,
        rest: Duration::ZERO,
        mix,
    };
    let report = measure(&options).await?;
    println!("{report:#?}");
    ensure!(report.final_tx_per_second > 0.0, "nothing became final");
    ensure!(report.without_effect == 0.0, "{} transactions without effect", report.without_effect);
    ensure!(report.refused.is_empty(), "{:?}", report.refused);
    ensure!(report.failed == 0, "{:?}", report.first_failure);
    ensure!(report.loaded_ms.is_some());
    ensure!(report.idle_mb > 1.0 && report.loaded_mb > 1.0);
    Ok(report)
}
