//! The one-command chain.

use aitbc_core::key::SecretKey;
use aitbc_tests::devnet::Devnet;
use aitbc_tests::localnet::run;
use aitbc_tests::node_process::NodeProcess;
use aitbc_tests::rpc::Rpc;
use aitbc_tests::wait;
use aitbc_tests::wallet::Wallet;
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::time::{Duration, Instant};

#[test]
fn a_devnet_makes_blocks_within_three_seconds_and_goes_on_with_the_same_chain_after_ctrl_c() {
    run("devnet", async {
        let mut devnet = Devnet::prepare()?;
        let outcome = stop_and_start(&mut devnet.process, &devnet.nodes).await;
        outcome.with_context(|| devnet.process.tail())
    });
}

#[test]
fn a_devnet_in_each_mode_with_stakes_makes_blocks_of_four_validators_that_have_one() {
    run("devnet modes", async { futures_util::future::try_join_all(["pos", "hybrid"].map(in_mode)).await.map(|_| ()) });
}

async fn in_mode(mode: &str) -> Result<()> {
    let mut devnet = Devnet::prepare_with(&["--mode", mode])?;
    let outcome = makes_blocks(&mut devnet, mode).await;
    outcome.with_context(|| devnet.process.tail())
}

/// A transfer of its account is final, too.
async fn makes_blocks(devnet: &mut Devnet, mode: &str) -> Result<()> {
    devnet.process.start()?;
    let took = first_block(&devnet.process, &devnet.nodes, 1).await?;
    let rpc = &devnet.nodes[3];
    let genesis = rpc.get("/rpc/genesis").await?.ok()?;
    ensure!(genesis["genesis"]["mode"] == mode, "{genesis}");
    let set = rpc.get("/rpc/validators").await?.ok()?;
    let (members, candidates) = (set["validators"].as_array(), set["candidates"].as_array().context("a list")?);
    ensure!(members.is_some_and(|members| members.len() == 4) && candidates.len() == 4, "{set}");
    ensure!(candidates.iter().all(|candidate| candidate["stake"].as_u64() > Some(0)), "{set}");

    let pem = std::fs::read_to_string(devnet.data.join("account.pem"))?;
    let mut account = Wallet::new(SecretKey::from_pkcs8_pem(&pem)?);
    let (chain, to) = (rpc.block_hash(0).await?.parse()?, account.address());
    let done = rpc.send_final(&account.transfer(&chain, to, 1, 100), &chain).await?;
    println!("mode {mode}: first block after {took:?}, a transfer is final at height {}", done["height"]);
    devnet.process.stop_by(Signal::INT, Duration::from_secs(12)).await.map(|_| ())
}

async fn stop_and_start(process: &mut NodeProcess, nodes: &[Rpc]) -> Result<()> {
    process.start()?;
    let took = first_block(process, nodes, 1).await?;
    ensure!(took < Duration::from_secs(3), "first block after {took:?}");
    println!("first block after {took:?}");
    let genesis = nodes[0].block_hash(0).await?;
    let height = nodes[0].height().await?;
    let block = nodes[0].block_hash(height).await?;

    process.stop_by(Signal::INT, Duration::from_secs(12)).await?;
    for node in nodes {
        ensure!(node.height().await.is_err(), "{} answers after Ctrl-C", node.base());
    }

    process.start()?;
    let took = first_block(process, nodes, height + 1).await?;
    println!("next block {took:?} after the second start");
    for node in nodes {
        ensure!(node.block_hash(0).await? == genesis, "{}: another genesis", node.base());
        ensure!(node.block_hash(height).await? == block, "{}: another block {height}", node.base());
    }
    process.stop_by(Signal::INT, Duration::from_secs(12)).await.map(|_| ())
}

/// Waits until every validator is at a height and never below one it had; time since the command was given.
async fn first_block(process: &NodeProcess, nodes: &[Rpc], height: u64) -> Result<Duration> {
    let start: Instant = process.started();
    for node in nodes {
        wait::until_ok(Duration::from_millis(20), "the next block", Duration::from_secs(20), || async {
            let found = node.height().await?;
            ensure!(found + 1 >= height, "{} fell from {} to {found}", node.base(), height - 1);
            ensure!(found >= height, "{} is at {found}", node.base());
            Ok(())
        })
        .await?;
    }
    Ok(start.elapsed())
}
