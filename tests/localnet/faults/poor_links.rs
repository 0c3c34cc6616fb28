//! Links that lose, delay and break: the chain becomes slower, and neither stops nor forgets.

use super::{LONGEST_PAUSE, all_vote, goes_on, log_tells, tormented};
use aitbc_tests::localnet::{Database, Localnet};
use aitbc_tests::proxy::Faults;
use aitbc_tests::rounds;
use aitbc_tests::wait;
use aitbc_tests::witness::Witness;
use anyhow::{Result, ensure};
use rand::RngExt;
use std::time::{Duration, Instant};

/// A fifth of all transmissions is lost, and none arrives when it should.
const POOR: Faults = Faults { cut: false, delay: Duration::ZERO, jitter: Duration::from_millis(100), loss_percent: 20 };
/// How long it lasts, at least.
const TIME: Duration = Duration::from_secs(6);
/// Blocks that must become final meanwhile. Of 15 times six seconds 14 had as many, one had two.
const BLOCKS: u64 = 4;
/// The longest it may take: chance decides how often in a row a leader's block is late, not how long the chain stands.
const SLOWEST: Duration = Duration::from_secs(30);

#[test]
#[ignore = "part of make chaos"]
fn a_one_way_cut_with_20_percent_loss_and_100_ms_jitter_slows_the_chain_and_does_not_stop_it_on_sqlite() {
    tormented("one way sqlite", Database::Sqlite, cut_one_way_and_lossy);
}

#[test]
fn a_one_way_cut_with_20_percent_loss_and_100_ms_jitter_slows_the_chain_and_does_not_stop_it_on_postgres() {
    tormented("one way postgres", Database::Postgres, cut_one_way_and_lossy);
}

/// Nothing that one validator says to another arrives, and every other way is poor.
async fn cut_one_way_and_lossy(net: &mut Localnet, witness: &Witness) -> Result<()> {
    let mut rng = net.seed().rng("ways");
    for _ in 0..rounds::rounds(1, 5) {
        let from = rng.random_range(0..4);
        let to = (from + rng.random_range(1..4)) % 4;
        let (began, height) = (Instant::now(), witness.height());
        let network = net.network()?;
        (0..4).for_each(|validator| network.set_all_of(validator, POOR));
        network.set(from, to, Faults::CUT);
        wait::let_it_run(TIME).await;
        println!("nothing from {from} to {to}, all else poor: {} blocks in {TIME:?}", witness.height() - height);
        let enough = async || (witness.height() >= height + BLOCKS).then_some(());
        wait::until("blocks over poor links", SLOWEST, enough).await?;
        net.network()?.heal();
        goes_on(net, witness, "one way", began).await?;
        all_vote(net).await?;
    }
    Ok(())
}

#[test]
fn connections_reset_all_the_time_cost_the_chain_less_than_two_seconds() {
    tormented("resets", Database::Sqlite, async |net, witness| {
        let mut rng = net.seed().rng("resets");
        let began = Instant::now();
        for _ in 0..rounds::rounds(12, 200) {
            let a = rng.random_range(0..4);
            net.network()?.reset(a, (a + rng.random_range(1..4)) % 4);
            wait::let_it_run(Duration::from_millis(rng.random_range(10..500))).await;
        }
        let pause = witness.longest_pause(began, &[0, 1, 2, 3]);
        println!("reset all the time: longest pause {pause:?}");
        ensure!(pause < LONGEST_PAUSE, "no block for {pause:?}");
        for node in &net.nodes {
            log_tells(node, &["peer disconnected", "closed_by_peer"], Duration::from_secs(1)).await?;
        }
        goes_on(net, witness, "resets", began).await?;
        all_vote(net).await
    });
}
