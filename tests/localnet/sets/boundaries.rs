//! Last blocks of epochs, at which sets change, under faults: their leader is killed, one is cut off, the network is in halves; and
//! what the old set can do alone.

use super::{Chain, MEMBERS, STAKE, UNIT, WEIGHT};
use aitbc_core::genesis::Staking;
use aitbc_core::params::Parameters;
use aitbc_core::transaction::Motion;
use aitbc_tests::localnet::{Database, Shape, Wiring, run};
use aitbc_tests::seed::Seed;
use aitbc_tests::wait;
use aitbc_tests::witness::Witness;
use anyhow::{Context, Result, ensure};
use rand::RngExt;
use std::time::{Duration, Instant};

/// The one that joins, weighs more, leaves and joins again.
const FIFTH: usize = MEMBERS;
/// Clients that send all the time, so that no block waits for the next second.
const CLIENTS: usize = 6;
/// Blocks of an epoch, least time of a block and first skip timeout in milliseconds: an epoch takes longer than a killed validator
/// until it signs again.
const PARAMETERS: (u64, u64, u64) = (50, 30, 300);
/// Blocks below the last one of an epoch at which a fault begins.
const BEFORE: u64 = 3;
/// Longest pause while one validator is missing.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long halves are apart, and how long the old set is watched.
const APART: Duration = Duration::from_millis(1_500);
/// What is on its way when a cut begins is final by then.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Until the chain goes on after a fault: what was lost is sent again after as long as it lasted, and dialing takes its time.
const GOES_ON: Duration = Duration::from_secs(10);

#[test]
fn sets_change_on_time_with_leaders_of_last_blocks_killed_and_partitions_across_them_on_sqlite() {
    run_boundaries("boundaries sqlite", Database::Sqlite);
}

#[test]
#[ignore = "part of make chaos"]
fn sets_change_on_time_with_leaders_of_last_blocks_killed_and_partitions_across_them_on_postgres() {
    run_boundaries("boundaries postgres", Database::Postgres);
}

fn run_boundaries(test: &str, database: Database) {
    run(test, async {
        let (epoch_blocks, min_slot_ms, skip_timeout_ms) = PARAMETERS;
        let parameters = Parameters { epoch_blocks, min_slot_ms, skip_timeout_ms, ..Parameters::default() };
        let staking = Staking { min_stake: STAKE, unit: UNIT, unbonding_ms: 0, ..Staking::default() };
        let (seed, wiring) = (Seed::of(test), Wiring::Proxied);
        let shape = Shape { validators: 5, database, seed, accounts: 5 + CLIENTS, parameters, wiring };
        let mut chain = Chain::start(shape, staking).await?;
        let senders = std::mem::take(&mut chain.net.wallets);
        let witness = Witness::start_on(&chain.net, senders, &[0, 1, 2, 3]);
        joins_while_leaders_die(&mut chain, &witness).await?;
        weighs_more_while_one_is_cut_off(&mut chain, &witness).await?;
        leaves_while_the_network_is_in_halves(&mut chain, &witness).await?;
        the_old_set_alone_begins_no_epoch(&mut chain).await?;
        witness.end(&chain.net).await?;
        chain.finish().await
    });
}

/// What weighs the fifth in the two epochs after one; 0: it is no member.
async fn weights_after(chain: &Chain, epoch: u64) -> Result<[u64; 2]> {
    let mut found = [0; 2];
    for (weight, epoch) in found.iter_mut().zip(epoch + 1..) {
        *weight = chain.history.weights(epoch).await?.get(&FIFTH).copied().unwrap_or(0);
    }
    Ok(found)
}

/// The leader dies of the last block of the epoch that decides, and of the last one of the epoch before the new set's.
async fn joins_while_leaders_die(chain: &mut Chain, witness: &Witness) -> Result<()> {
    let key = chain.key(FIFTH);
    chain.decide(MEMBERS, &[Motion::Admit(key)]).await?;
    chain.activate(FIFTH).await?;
    // What is done just after the end of an epoch leaves all of the next one to come.
    chain.below_end(0).await?;
    let height = chain.bond(FIFTH, STAKE).await?;
    let epoch = chain.epochs.of(height);
    for epoch in [epoch, epoch + 1] {
        kill_leader_of_last(chain, witness, epoch).await?;
    }
    let found = weights_after(chain, epoch).await?;
    ensure!(found == [0, WEIGHT], "bonded in epoch {epoch}, weights after it: {found:?}");
    chain.signs(FIFTH, chain.epochs.last(epoch + 1)).await
}

async fn kill_leader_of_last(chain: &mut Chain, witness: &Witness, epoch: u64) -> Result<()> {
    let last = chain.epochs.last(epoch);
    let head = chain.reaches(last - BEFORE).await?;
    let number = |name: &str| head[name].as_u64().with_context(|| format!("no {name} in {head}"));
    let (height, slot) = (number("height")?, number("slot")?);
    ensure!(height < last, "seen too late: {head}");
    let slot = slot + (last - height);
    let victim = chain.history.leader(epoch, slot).await?;
    let killed_at = Instant::now();
    chain.net.nodes[victim].process.kill().await?;
    let others: Vec<usize> = (0..MEMBERS).filter(|node| *node != victim).collect();
    chain.via = others[0];
    chain.reaches(last + 1).await?;
    let pause = witness.longest_pause(killed_at, &others);
    let block = chain.net.nodes[chain.via].rpc.get(&format!("/rpc/get_block/{last}")).await?.ok()?;
    println!(
        "epoch {epoch}: validator {victim}, leader of slot {slot}, killed after height {height}; block {last} is of slot {}, \
         longest pause {pause:?}",
        block["slot"]
    );
    ensure!(pause < LONGEST_PAUSE, "no block for {pause:?}");
    chain.net.start_all()?;
    chain.signs(victim, last).await
}

async fn weighs_more_while_one_is_cut_off(chain: &mut Chain, witness: &Witness) -> Result<()> {
    chain.below_end(0).await?;
    let height = chain.bond(FIFTH, UNIT).await?;
    let epoch = chain.epochs.of(height);
    let last = chain.epochs.last(epoch + 1);
    let alone = chain.net.seed().rng("alone").random_range(0..=FIFTH);
    let others: Vec<usize> = (0..=FIFTH).filter(|node| *node != alone).collect();
    chain.via = others[0];
    chain.reaches(last - BEFORE).await?;
    let cut_at = Instant::now();
    chain.net.network()?.partition(&[alone]);
    chain.reaches(last + BEFORE).await?;
    let pause = witness.longest_pause(cut_at, &others);
    let left = chain.net.nodes[alone].rpc.height().await?;
    chain.net.network()?.heal();
    println!("epoch {}: validator {alone} was cut off at height {left}, longest pause {pause:?}", epoch + 1);
    ensure!(left < last && pause < LONGEST_PAUSE, "height {left} of {last}, no block for {pause:?}");
    let found = weights_after(chain, epoch).await?;
    ensure!(found == [WEIGHT, WEIGHT + 1], "bonded in epoch {epoch}, weights after it: {found:?}");
    chain.signs(alone, last + BEFORE).await
}

async fn leaves_while_the_network_is_in_halves(chain: &mut Chain, witness: &Witness) -> Result<()> {
    chain.below_end(0).await?;
    let height = chain.unbond(FIFTH, STAKE + UNIT).await?;
    let epoch = chain.epochs.of(height);
    let last = chain.epochs.last(epoch + 1);
    chain.reaches(last - BEFORE).await?;
    let cut_at = Instant::now();
    chain.net.network()?.partition(&[0, FIFTH]);
    wait::let_it_run(LAST_WORDS).await;
    let before = witness.height();
    wait::let_it_run(APART).await;
    let after = witness.height();
    chain.net.network()?.heal();
    ensure!(before == after && before <= last, "in halves from height {before} to {after}, the last one was {last}");
    let healed = Instant::now();
    let first = witness.block_above(last, GOES_ON).await?;
    println!(
        "epoch {}: in halves at height {before} for {:?}, the next one began {:?} after the heal",
        epoch + 1,
        healed - cut_at,
        first - healed
    );
    let found = weights_after(chain, epoch).await?;
    ensure!(found == [WEIGHT + 1, 0], "unbonded in epoch {epoch}, weights after it: {found:?}");
    Ok(())
}

/// Three of four are a quorum of the old set, and none of the new one of five.
async fn the_old_set_alone_begins_no_epoch(chain: &mut Chain) -> Result<()> {
    let killed = chain.net.seed().rng("killed").random_range(1..MEMBERS);
    chain.via = 0;
    chain.activate(FIFTH).await?;
    chain.below_end(0).await?;
    let height = chain.bond(FIFTH, STAKE).await?;
    let epoch = chain.epochs.of(height);
    let last = chain.epochs.last(epoch + 1);
    chain.reaches(chain.epochs.last(epoch) + BEFORE).await?;
    let found = weights_after(chain, epoch).await?;
    ensure!(found == [0, WEIGHT], "bonded in epoch {epoch}, weights after it: {found:?}");
    for node in [killed, FIFTH] {
        chain.net.nodes[node].process.kill().await?;
    }
    chain.reaches(last).await?;
    wait::let_it_run(APART).await;
    let height = chain.net.height().await?;
    ensure!(height == last, "the old set alone came to height {height}, its last one is {last}");
    println!("epoch {}: the old set alone ended it, and made no block in {APART:?}", epoch + 1);
    chain.net.start_all()?;
    chain.signs(FIFTH, last).await?;
    chain.signs(killed, last).await
}
