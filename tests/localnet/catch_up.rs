//! Nodes that were away catch up and sign again.

use aitbc_core::params::Parameters;
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
