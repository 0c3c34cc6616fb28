//! Networks cut in two, and healed: without a quorum nothing is final, with one the chain goes on, and both sides meet again.

use super::{LONGEST_PAUSE, all_vote, goes_on, log_tells, tormented};
use aitbc_tests::localnet::{Database, Localnet};
use aitbc_tests::rounds;
use aitbc_tests::wait;
use aitbc_tests::witness::Witness;
use anyhow::{Result, ensure};
use rand::RngExt;
use std::time::{Duration, Instant};

/// How long a cut lasts in `make test`.
const CUT: Duration = Duration::from_secs(3);
/// Longer than a silent channel stays open (node/src/gossip/limits.rs), so that both ends dial anew.
const LONG_CUT: Duration = Duration::from_secs(20);
/// Until the doctor has looked once more.
const TOLD: Duration = Duration::from_secs(2);
/// What is on its way when a cut begins is final by then.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[test]
fn a_chain_cut_in_halves_and_then_one_from_three_goes_on_after_each_heal_on_sqlite() {
    tormented("partitions sqlite", Database::Sqlite, cut_and_healed);
}

#[test]
#[ignore = "part of make chaos"]
fn a_chain_cut_in_halves_and_then_one_from_three_goes_on_after_each_heal_on_postgres() {
    tormented("partitions postgres", Database::Postgres, cut_and_healed);
}

#[test]
#[ignore = "part of make chaos"]
fn a_chain_cut_for_longer_than_channels_live_goes_on_after_each_heal() {
    tormented("long partitions", Database::Sqlite, async |net, witness| {
        let mut rng = net.seed().rng("sides");
        for round in 0..rounds::rounds(1, 5) {
            let other = rng.random_range(1..4);
            halves(net, witness, [0, other], LONG_CUT).await?;
            log_tells(&net.nodes[0], &["peer disconnected", "silent"], Duration::from_secs(1)).await?;
            let alone = rng.random_range(0..4);
            println!("round {round}: halves [0, {other}], then {alone} alone");
            one_from_three(net, witness, alone, LONG_CUT).await?;
        }
        Ok(())
    });
}

async fn cut_and_healed(net: &mut Localnet, witness: &Witness) -> Result<()> {
    let other = net.seed().rng("sides").random_range(1..4);
    halves(net, witness, [0, other], CUT).await?;
    one_from_three(net, witness, other, CUT).await
}

async fn halves(net: &Localnet, witness: &Witness, side: [usize; 2], time: Duration) -> Result<()> {
    let cut_at = Instant::now();
    net.network()?.partition(&side);
    wait::let_it_run(LAST_WORDS).await;
    let height = witness.height();
    wait::let_it_run(time - LAST_WORDS).await;
    ensure!(witness.height() == height, "half of the validators made {} final", witness.height());
    log_tells(&net.nodes[0], &["nothing becomes final"], TOLD).await?;
    net.network()?.heal();
    goes_on(net, witness, "halves", cut_at).await?;
    log_tells(&net.nodes[0], &["blocks become final again"], TOLD).await?;
    all_vote(net).await
}

async fn one_from_three(net: &Localnet, witness: &Witness, alone: usize, time: Duration) -> Result<()> {
    let others: Vec<usize> = (0..4).filter(|index| *index != alone).collect();
    let cut_at = Instant::now();
    net.network()?.partition(&[alone]);
    wait::let_it_run(LAST_WORDS).await;
    let left_at = net.nodes[alone].rpc.height().await?;
    wait::let_it_run(time - LAST_WORDS).await;
    let pause = witness.longest_pause(cut_at, &others);
    println!("three of four: longest pause {pause:?}, {} blocks without the fourth", witness.height() - left_at);
    ensure!(pause < LONGEST_PAUSE, "three of four made no block for {pause:?}");
    ensure!(net.nodes[alone].rpc.height().await? == left_at, "a validator alone made a block final");
    net.network()?.heal();
    goes_on(net, witness, "one from three", cut_at).await?;
    all_vote(net).await
}
