//! Nodes that were away catch up and sign again.

use aitbc_core::params::Parameters;
use aitbc_tests::catch_up;
use aitbc_tests::forge::Plan;
use aitbc_tests::load::Load;
use aitbc_tests::localnet::{Database, Localnet, Shape, Wiring, run};
use aitbc_tests::seed::Seed;
use aitbc_tests::wait;
use anyhow::ensure;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn a_validator_that_was_away_for_2000_blocks_catches_up_and_signs_on_sqlite() {
    away("away sqlite", Database::Sqlite);
}

#[test]
fn a_validator_that_was_away_for_2000_blocks_catches_up_and_signs_on_postgres() {
    away("away postgres", Database::Postgres);
}

/// Blocks that a new validator takes from the others: enough to measure, few enough to forge in a test.
const LONG: u64 = 40_000;
/// Blocks a second that block sync must take at least.
const BLOCKS_PER_SECOND: f64 = 2_000.0;

#[test]
fn a_validator_without_blocks_takes_2000_small_ones_a_second_and_votes() {
    run("a long chain", async {
        let report = catch_up::measure(Database::Sqlite, Seed::of("a long chain"), Plan::small(LONG)).await?;
        println!("{report:#?}");
        ensure!(report.blocks_per_second >= BLOCKS_PER_SECOND, "{:.0} blocks a second", report.blocks_per_second);
        Ok(())
    });
}

/// Blocks of almost 2 MiB of which only the last one has a certificate: no message holds two of them and a third.
const LARGE: Plan =
    Plan { blocks: 6, filled_every: 1, batches: 8, transactions: 130, payments: 63, certified_every: 6 };

#[test]
fn large_blocks_without_certificates_of_their_own_are_taken_under_the_headers_above_them() {
    run("large blocks", async {
        let report = catch_up::measure(Database::Sqlite, Seed::of("large blocks"), LARGE).await?;
        ensure!(report.blocks > LARGE.blocks);
        Ok(())
    });
}

fn away(test: &str, database: Database) {
    run(test, async {
        let seed = Seed::of(test);
        let (parameters, wiring) = (Parameters::default(), Wiring::Direct);
        let shape = Shape { validators: 4, database, seed, accounts: 64, parameters, wiring };
        let mut net = Localnet::start_shape(shape).await?;
        net.nodes[3].process.kill().await?;
        let left_at = net.height().await?;
        // Blocks come as fast as there is something for them: a light load makes 2,000 in seconds.
        let senders = std::mem::take(&mut net.wallets);
        let load = Load::closed_loop_on(&net, senders, 64, &[0, 1, 2]).await?;
        let counters = load.counters.clone();
        wait::until("2,000 blocks without validator 3", Duration::from_secs(400), || async {
            (counters.height.load(Ordering::Relaxed) > left_at + 2_000).then_some(())
        })
        .await?;
        let senders = load.stop().await?;
        ensure!(!senders.is_empty());

        let height = net.height().await?;
        let start = Instant::now();
        net.start_all()?;
        let not_ready = net.nodes[3].rpc.get("/ready").await.map(|answer| answer.status);
        ensure!(!matches!(not_ready, Ok(200)), "ready before it caught up");
        net.wait_for_height(height, Duration::from_secs(60)).await?;
        println!("caught up with {} blocks in {:?}", height - left_at, start.elapsed());
        net.wait_until_signs(3, Duration::from_secs(20)).await?;
        net.finish().await
    });
}
