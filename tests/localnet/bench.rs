//! The measuring tool measures: its figures are no test's business.

use aitbc_tests::bench::{Options, measure};
use aitbc_tests::localnet::{Database, run};
use aitbc_tests::seed::Seed;
use anyhow::ensure;
use std::time::Duration;

#[test]
fn the_bench_tool_measures_a_chain_whose_transactions_all_take_effect() {
    run("bench", async {
        let options = Options {
            validators: 4,
            database: Database::Sqlite,
            seed: Seed::of("bench"),
            senders: 1_100,
            time: Duration::from_secs(2),
            in_flight: 1_000,
            rate: 50,
            singles: 5,
            rest: Duration::ZERO,
        };
        let report = measure(&options).await?;
        println!("{report:#?}");
        ensure!(report.final_tx_per_second > 0.0, "nothing became final");
        ensure!(report.without_effect == 0.0, "{} transactions without effect", report.without_effect);
        ensure!(report.refused.is_empty(), "{:?}", report.refused);
        ensure!(report.failed == 0, "{:?}", report.first_failure);
        ensure!(report.idle_ms.is_some() && report.loaded_ms.is_some());
        ensure!(report.idle_mb > 1.0 && report.loaded_mb > 1.0);
        Ok(())
    });
}
