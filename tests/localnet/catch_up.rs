//! Nodes that were away catch up and sign again.

use aitbc_core::params::{MAX_EXPIRY_AHEAD, MIN_KEEP_BLOCKS, Parameters};
use aitbc_core::state_sync::STATE_SYNC_LAG;
use aitbc_tests::catch_up::{self, Way};
use aitbc_tests::forge::Plan;
use aitbc_tests::ledger_reader::LedgerReader;
use aitbc_tests::load::Load;
use aitbc_tests::localnet::{Database, Localnet, START_LIMIT, Shape, Wiring, run};
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
#[ignore = "part of make chaos"]
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
        let seed = Seed::of("a long chain");
        let report = catch_up::measure(Database::Sqlite, seed, Plan::small(LONG), None, Way::Blocks).await?;
        println!("{report:#?}");
        ensure!(report.blocks_per_second >= BLOCKS_PER_SECOND, "{:.0} blocks a second", report.blocks_per_second);
        Ok(())
    });
}

#[test]
fn a_validator_that_prunes_keeps_the_batches_of_the_last_blocks_only_on_sqlite() {
    prunes("pruning sqlite", Database::Sqlite);
}

#[test]
fn a_validator_that_prunes_keeps_the_batches_of_the_last_blocks_only_on_postgres() {
    prunes("pruning postgres", Database::Postgres);
}

/// It takes ten times as many blocks as it keeps. Those it deleted are gone for clients, and it starts again.
fn prunes(test: &str, database: Database) {
    run(test, async {
        let plan = Plan { blocks: 10 * MIN_KEEP_BLOCKS, transactions: 20, ..Plan::small(0) };
        let mut net = catch_up::prepare(database, Seed::of(test), plan).await?;
        let report = catch_up::catch_up(&mut net, plan, Some(MIN_KEEP_BLOCKS), Way::Blocks).await?;
        println!("{report:#?}");
        let batches = async |node: usize| LedgerReader::open(&net.nodes[node].database_url)?.batches().await;
        let (kept, all) = (batches(3).await?, batches(0).await?);
        // A tenth, and those of the few blocks that are deleted next.
        ensure!(0 < kept && kept * 8 <= all, "{kept} of {all} batches");
        let gone = net.nodes[3].rpc.get("/rpc/get_block/5").await?;
        ensure!(gone.status == 410, "{}", gone.status);
        ensure!(net.nodes[0].rpc.get("/rpc/get_block/5").await?.status == 200);
        net.nodes[3].process.kill().await?;
        net.start_all()?;
        net.wait_until_signs(3, Duration::from_secs(20)).await?;
        net.finish().await
    });
}

#[test]
fn a_validator_that_is_too_far_behind_fetches_a_snapshot_and_votes_on_sqlite() {
    fetches_a_snapshot("snapshot sqlite", Database::Sqlite);
}

#[test]
fn a_validator_that_is_too_far_behind_fetches_a_snapshot_and_votes_on_postgres() {
    fetches_a_snapshot("snapshot postgres", Database::Postgres);
}

/// It has whole blocks from the snapshot on and headers of the last ones below, starts again from there, and lends its
/// vote where one of the others is gone.
fn fetches_a_snapshot(test: &str, database: Database) {
    run(test, async {
        let plan = Plan::small(STATE_SYNC_LAG + 3_000);
        let mut net = catch_up::prepare(database, Seed::of(test), plan).await?;
        let report = catch_up::catch_up(&mut net, plan, Some(MIN_KEEP_BLOCKS), Way::Snapshot).await?;
        println!("{report:#?}");
        ensure!(report.lowest > plan.blocks, "whole blocks from {} on", report.lowest);
        let fetched = net.metrics(3).await?.sum("blockchain_state_syncs_total");
        ensure!(fetched == 1.0, "{fetched} snapshots");
        for (path, status) in [
            ("/rpc/get_block/5", 410),
            (&*format!("/rpc/headers?from={}", plan.blocks - MAX_EXPIRY_AHEAD - 500), 410),
            (&*format!("/rpc/headers?from={}", report.lowest - 1), 200),
            (&*format!("/rpc/get_block/{}", report.lowest), 200),
        ] {
            let found = net.nodes[3].rpc.get(path).await?.status;
            ensure!(found == status, "{path}: {found}, {status} expected");
        }
        net.nodes[3].process.kill().await?;
        net.start_all()?;
        net.wait_until_signs(3, Duration::from_secs(20)).await?;
        net.nodes[0].process.kill().await?;
        let height = net.nodes[3].rpc.height().await?;
        wait::until_ok(Duration::from_millis(100), "blocks by three of four", Duration::from_secs(20), async || {
            let found = net.nodes[3].rpc.height().await?;
            ensure!(found > height + 1, "height {found}");
            Ok(())
        })
        .await?;
        net.start_all()?;
        net.wait_until_signs(0, Duration::from_secs(20)).await?;
        net.finish().await
    });
}

/// Blocks of almost 2 MiB, of which no message holds three, and a certificate far above them: too far for consensus
/// itself to fetch them.
const LARGE: Plan = Plan {
    blocks: 120,
    filled_every: 1,
    filled_to: 4,
    batches: 8,
    transactions: 130,
    payments: 63,
    certified_every: 120,
};

#[test]
fn large_blocks_without_certificates_of_their_own_are_taken_under_the_headers_above_them() {
    run("large blocks", async {
        let report = catch_up::measure(Database::Sqlite, Seed::of("large blocks"), LARGE, None, Way::Blocks).await?;
        ensure!(report.blocks > LARGE.blocks);
        Ok(())
    });
}

#[test]
fn a_validator_whose_state_is_lost_executes_its_blocks_again() {
    run("state lost", async {
        let plan = Plan { transactions: 20, ..Plan::small(1_000) };
        let mut net = catch_up::prepare(Database::Sqlite, Seed::of("state lost"), plan).await?;
        for entry in std::fs::read_dir(net.database_dir(2))? {
            let path = entry?.path();
            if path.to_string_lossy().contains("-state.db") {
                std::fs::remove_file(path)?;
            }
        }
        net.start_all()?;
        net.wait_for_height(plan.blocks + 1, START_LIMIT).await?;
        let log = net.nodes[2].process.log_text();
        ensure!(log.contains("replaying blocks whose state was not stored"), "{}", net.nodes[2].process.tail());
        net.wait_until_signs(2, Duration::from_secs(20)).await?;
        net.finish().await
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
