//! Nodes and servers that stand still: alive for the kernel, connected for their peers, and of no use to anybody.

use super::{BACK, LONGEST_PAUSE, all_vote, log_tells, tormented, unready};
use aitbc_tests::localnet::{Database, Localnet};
use aitbc_tests::rounds;
use aitbc_tests::wait;
use aitbc_tests::witness::Witness;
use anyhow::{Result, ensure};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How long they stand in `make chaos`, and in `make test`.
const TIME: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Those that go on.
const OTHERS: [usize; 3] = [0, 1, 2];

fn time() -> Duration {
    if rounds::are_many() { TIME.0 } else { TIME.1 }
}

#[test]
fn a_node_stopped_for_seconds_pauses_the_chain_less_than_two_and_votes_again_on_sqlite() {
    tormented("frozen node sqlite", Database::Sqlite, node_stands_still);
}

#[test]
#[ignore = "part of make chaos"]
fn a_node_stopped_for_seconds_pauses_the_chain_less_than_two_and_votes_again_on_postgres() {
    tormented("frozen node postgres", Database::Postgres, node_stands_still);
}

async fn node_stands_still(net: &mut Localnet, witness: &Witness) -> Result<()> {
    let stopped_at = Instant::now();
    net.nodes[3].process.signal(Signal::STOP)?;
    wait::let_it_run(time()).await;
    net.nodes[3].process.signal(Signal::CONT)?;
    let resumed_at = Instant::now();
    net.wait_until_votes(3, BACK).await?;
    let pause = witness.longest_pause(stopped_at, &OTHERS);
    println!("stopped and back: longest pause {pause:?}, votes again after {:?}", resumed_at.elapsed());
    ensure!(pause < LONGEST_PAUSE, "no block for {pause:?}");
    log_tells(&net.nodes[3], &["this process stood still"], Duration::from_secs(2)).await?;
    all_vote(net).await
}

#[test]
fn a_postgres_stopped_for_seconds_pauses_the_chain_less_than_two_and_its_node_votes_again() {
    tormented("frozen postgres", Database::PostgresEach, async |net, witness| {
        let stopped_at = Instant::now();
        net.servers[3].freeze()?;
        // Either it says so while it waits, or it could not know of a vote, and ended (protocol P6).
        let told = unready(&net.nodes[3], "database", time()).await;
        if told.is_err() {
            log_tells(&net.nodes[3], &["a vote could not be stored"], Duration::from_secs(1)).await?;
        }
        wait::let_it_run(time().saturating_sub(stopped_at.elapsed())).await;
        let pause = witness.longest_pause(stopped_at, &OTHERS);
        net.servers[3].thaw()?;
        let resumed_at = Instant::now();
        net.start_again_until_votes(3, BACK).await?;
        println!("its Postgres: longest pause {pause:?}, votes again after {:?}", resumed_at.elapsed());
        ensure!(pause < LONGEST_PAUSE, "no block for {pause:?}");
        all_vote(net).await
    });
}
