//! Four validators, seven, ten and four again, under load: the chain never pauses.

use super::{Chain, MEMBERS, STAKE, UNIT, WEIGHT};
use aitbc_core::genesis::Staking;
use aitbc_core::params::Parameters;
use aitbc_core::transaction::Motion;
use aitbc_tests::localnet::{Database, STOP_LIMIT, Shape, Wiring, run};
use aitbc_tests::seed::Seed;
use aitbc_tests::witness::Witness;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Longest pause between two final blocks.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Clients that send all the time.
const CLIENTS: usize = 24;
/// Blocks of an epoch: a second or more for four validators, so that newcomers find the others before they count.
const EPOCH: u64 = 60;
/// Validators that stay.
const STAYING: [usize; MEMBERS] = [0, 1, 2, 3];

#[test]
fn growth_to_seven_and_ten_and_removal_down_to_four_under_load_pause_the_chain_less_than_two_seconds() {
    run("growth", async {
        let parameters = Parameters { epoch_blocks: EPOCH, min_slot_ms: 15, ..Parameters::default() };
        let staking = Staking { min_stake: STAKE, unit: UNIT, unbonding_ms: 0, ..Staking::default() };
        let (seed, database, wiring) = (Seed::of("growth"), Database::Sqlite, Wiring::Direct);
        let shape = Shape { validators: 10, database, seed, accounts: 10 + CLIENTS, parameters, wiring };
        let mut chain = Chain::start(shape, staking).await?;
        let senders = std::mem::take(&mut chain.net.wallets);
        let witness = Witness::start_on(&chain.net, senders, &STAYING);
        for newcomers in [MEMBERS..7, 7..10] {
            grows(&mut chain, &witness, newcomers).await?;
        }
        shrinks(&mut chain, &witness).await?;
        // Who left has no channel any more, and so not the last blocks.
        for node in &mut chain.net.nodes[MEMBERS..] {
            node.process.terminate(STOP_LIMIT).await?;
        }
        witness.end(&chain.net).await?;
        chain.finish().await
    });
}

/// Of so many validators, all of equal weight.
fn equal(validators: usize) -> BTreeMap<usize, u64> {
    (0..validators).map(|node| (node, WEIGHT)).collect()
}

async fn grows(chain: &mut Chain, witness: &Witness, newcomers: Range<usize>) -> Result<()> {
    let began = Instant::now();
    let admit: Vec<Motion> = newcomers.clone().map(|node| Motion::Admit(chain.key(node))).collect();
    chain.decide(newcomers.start, &admit).await?;
    let mut height = 0;
    for node in newcomers.clone() {
        chain.activate(node).await?;
        height = chain.bond(node, STAKE).await?;
    }
    let epoch = chain.history.first_with(chain.epochs.of(height) + 2, &equal(newcomers.end)).await?;
    let before = chain.epochs.last(epoch - 1);
    for node in newcomers.clone() {
        chain.signs(node, before).await?;
    }
    check_pause(chain, witness, &format!("{} to {} validators", newcomers.start, newcomers.end), began, epoch).await
}

/// Three take their stakes back, three are removed by vote.
async fn shrinks(chain: &mut Chain, witness: &Witness) -> Result<()> {
    let began = Instant::now();
    let mut height = 0;
    for node in MEMBERS..7 {
        height = chain.unbond(node, STAKE).await?;
    }
    let remove: Vec<Motion> = (7..10).map(|node| Motion::Remove(chain.key(node))).collect();
    height = height.max(chain.decide(10, &remove).await?);
    let epoch = chain.history.first_with(chain.epochs.of(height) + 1, &equal(MEMBERS)).await?;
    check_pause(chain, witness, "10 to 4 validators", began, epoch).await
}

/// Until some blocks of the epoch are there.
async fn check_pause(chain: &Chain, witness: &Witness, what: &str, began: Instant, epoch: u64) -> Result<()> {
    chain.reaches(chain.epochs.last(epoch - 1) + EPOCH / 2).await?;
    let pause = witness.longest_pause(began, &STAYING);
    let (took, height, transfers) = (began.elapsed(), witness.height(), witness.transfers());
    println!("{what} by epoch {epoch}: {took:.1?}, height {height}, {transfers} transfers, longest pause {pause:?}");
    ensure!(pause < LONGEST_PAUSE, "{what}: no block for {pause:?}");
    Ok(())
}
