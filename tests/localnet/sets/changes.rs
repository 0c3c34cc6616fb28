//! The whole way of a validator: it joins, weighs more, is jailed for absence, comes back and leaves, each as its epoch says.

use super::{Chain, MEMBERS, SIGNS, STAKE, UNIT, WEIGHT};
use aitbc_core::genesis::Staking;
use aitbc_core::params::Parameters;
use aitbc_core::transaction::{Action, Motion};
use aitbc_tests::localnet::{Database, FUNDS, Shape, Wiring, run};
use aitbc_tests::seed::Seed;
use aitbc_tests::wait;
use aitbc_tests::wallet::FEE;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::time::Duration;

/// The one that joins.
const FIFTH: usize = MEMBERS;
/// Blocks of an epoch: an idle chain makes as many in a second.
const EPOCH: u64 = 10;
/// Longer than a validator takes to find the others when it comes into the set, or it would be jailed again for that.
const ABSENCE_MS: u64 = 5_000;
/// Bonds at most, until one has come before, at and after the end of an epoch; its weight must stay below a third.
const BONDS: u64 = 9;

#[test]
fn a_fifth_validator_joins_weighs_more_is_jailed_for_absence_comes_back_and_leaves_on_sqlite() {
    run_changes("set changes sqlite", Database::Sqlite);
}

#[test]
fn a_fifth_validator_joins_weighs_more_is_jailed_for_absence_comes_back_and_leaves_on_postgres() {
    run_changes("set changes postgres", Database::Postgres);
}

fn run_changes(test: &str, database: Database) {
    run(test, async {
        let parameters = Parameters { epoch_blocks: EPOCH, block_time_ms: 100, ..Parameters::default() };
        let staking = Staking {
            min_stake: STAKE,
            unit: UNIT,
            absence_slots: 3,
            absence_ms: ABSENCE_MS,
            unbonding_ms: 0,
            ..Staking::default()
        };
        let (seed, wiring) = (Seed::of(test), Wiring::Direct);
        let shape = Shape { validators: 5, database, seed, accounts: 5, parameters, wiring };
        let mut chain = Chain::start(shape, staking).await?;
        joins(&mut chain).await?;
        let weight = weighs_more(&mut chain).await?;
        is_jailed(&mut chain).await?;
        comes_back(&mut chain, weight).await?;
        leaves(&mut chain, weight).await?;
        chain.finish().await
    });
}

/// Where a block stands in its epoch.
fn place(height: u64) -> &'static str {
    match height % EPOCH {
        0 => "at",
        1 => "after",
        9 => "before",
        _ => "amid",
    }
}

/// Weight of the fifth in an epoch; 0: it is no member. The four others are always in.
async fn weight(chain: &Chain, epoch: u64) -> Result<u64> {
    let mut weights = chain.history.weights(epoch).await?;
    let fifth = weights.remove(&FIFTH).unwrap_or(0);
    ensure!(weights.len() == MEMBERS && weights.values().all(|w| *w == WEIGHT), "epoch {epoch}: {weights:?}");
    Ok(fifth)
}

/// E1: what the chain knows at the end of an epoch counts from the second after it on, and not before.
async fn changes_after(chain: &Chain, height: u64, before: u64, then: u64) -> Result<u64> {
    let epoch = chain.epochs.of(height);
    let found = [weight(chain, epoch + 1).await?, weight(chain, epoch + 2).await?];
    ensure!(found == [before, then], "at height {height} of epoch {epoch}: {found:?}, not {:?}", [before, then]);
    Ok(epoch + 2)
}

/// Admission, its own word and a stake, the last of them at the end of an epoch.
async fn joins(chain: &mut Chain) -> Result<()> {
    let key = chain.key(FIFTH);
    chain.decide(MEMBERS, &[Motion::Admit(key)]).await?;
    chain.activate(FIFTH).await?;
    chain.below_end(1).await?;
    let height = chain.bond(FIFTH, STAKE).await?;
    let epoch = changes_after(chain, height, 0, WEIGHT).await?;
    let first = chain.epochs.last(epoch - 1) + 1;
    chain.signs(FIFTH, first - 1).await?;
    println!("bonded {} the end of an epoch, at height {height}; signs from epoch {epoch} on", place(height));
    Ok(())
}

/// One bond after the other, until one has come before, at and after the end of an epoch. Each counts in its time.
async fn weighs_more(chain: &mut Chain) -> Result<u64> {
    let (mut heights, mut places) = (Vec::new(), BTreeSet::new());
    let aims = [("before", 2), ("at", 1), ("after", 0)];
    while let Some((_, below)) = aims.iter().find(|(place, _)| !places.contains(place)) {
        ensure!(heights.len() < BONDS as usize, "{heights:?}: none at the end of an epoch");
        chain.below_end(*below).await?;
        let height = chain.bond(FIFTH, UNIT).await?;
        heights.push(height);
        places.insert(place(height));
    }
    let (first, last) = (chain.epochs.of(heights[0]), chain.epochs.of(heights[heights.len() - 1]) + 2);
    for epoch in first..=last {
        let counted = heights.iter().filter(|height| chain.epochs.of(**height) + 2 <= epoch).count() as u64;
        let found = weight(chain, epoch).await?;
        ensure!(found == WEIGHT + counted, "epoch {epoch}: weight {found}, of bonds at {heights:?} {counted} count");
    }
    println!("bonded at heights {heights:?}, epochs of {EPOCH} blocks: before, at and after the end of one");
    Ok(WEIGHT + heights.len() as u64)
}

async fn is_jailed(chain: &mut Chain) -> Result<()> {
    chain.net.nodes[FIFTH].process.kill().await?;
    let limit = Duration::from_millis(ABSENCE_MS) + SIGNS;
    let until = wait::until_ok(Duration::from_millis(50), "it is jailed for absence", limit, async || {
        let candidate = chain.candidate(FIFTH).await?;
        ensure!(candidate["jailed_for"] == "absence", "{candidate}");
        candidate["jailed_until"].as_u64().context("an epoch")
    })
    .await?;
    // Absence jails until the next epoch.
    let epoch = until - 1;
    let found = [weight(chain, epoch + 1).await? > 0, weight(chain, epoch + 2).await? > 0];
    ensure!(found == [true, false], "jailed in epoch {epoch}, in the two after it: {found:?}");
    println!("jailed in epoch {epoch}");
    Ok(())
}

/// It comes back after the end of an epoch, within a quarter of the weight of all others at once and with the rest later.
async fn comes_back(chain: &mut Chain, weight: u64) -> Result<()> {
    chain.net.start_all()?;
    chain.below_end(0).await?;
    let height = chain.by_key(FIFTH, Action::Unjail).await?;
    let quarter = MEMBERS as u64 * WEIGHT / 4;
    let epoch = changes_after(chain, height, 0, quarter).await?;
    let whole = self::weight(chain, epoch + 1).await?;
    ensure!(whole == weight, "weight {whole} in epoch {}, {weight} at stake", epoch + 1);
    let first = chain.epochs.last(epoch - 1) + 1;
    chain.signs(FIFTH, first - 1).await?;
    let candidate = chain.candidate(FIFTH).await?;
    ensure!(candidate["jailed_for"].is_null(), "{candidate}");
    println!("unjailed {} the end of an epoch, at height {height}", place(height));
    Ok(())
}

/// It takes its stake back before the end of an epoch, and gets all of it in time.
async fn leaves(chain: &mut Chain, weight: u64) -> Result<()> {
    chain.below_end(2).await?;
    let height = chain.unbond(FIFTH, weight * UNIT).await?;
    changes_after(chain, height, weight, 0).await?;
    println!("unbonded {} the end of an epoch, at height {height}", place(height));
    let owner = &chain.owners[FIFTH];
    let rpc = &chain.net.nodes[chain.via].rpc;
    wait::until_ok(Duration::from_millis(50), "the stake is paid out", SIGNS, async || {
        let (balance, nonce) = rpc.balance(owner.address()).await?;
        ensure!(nonce == owner.nonce && balance == FUNDS - nonce * FEE, "{balance} after {nonce} transactions");
        Ok(())
    })
    .await?;
    // The first block of the second epoch after the set's, and not before.
    let (epoch, paid_by) = (chain.epochs.of(height) + 2, chain.epochs.after(rpc.height().await?));
    ensure!(paid_by >= epoch + 2, "paid out in epoch {paid_by}, out of the set from {epoch} on");
    Ok(())
}
