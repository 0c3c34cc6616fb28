//! An upgrade that the running program does not speak: all stop exactly before its height, serve reads, and say what they need.

use aitbc_core::block::VERSION;
use aitbc_core::genesis::GenesisAccount;
use aitbc_core::params::Parameters;
use aitbc_core::staking::motion::UPGRADE_NOTICE;
use aitbc_core::transaction::{Action, Motion};
use aitbc_tests::localnet::{Database, FUNDS, Localnet, START_LIMIT, Shape, Wiring, run};
use aitbc_tests::seed::Seed;
use aitbc_tests::wait;
use aitbc_tests::wallet::Wallet;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Votes that carry a motion among four.
const CARRYING: u64 = 3;
/// Blocks beyond the notice for which an upgrade is planned, so that all votes come in time.
const MARGIN: u64 = 20;
/// Until a block, or until a node tells what it needs: a start and its first channels among it.
const LIMIT: Duration = Duration::from_secs(20);
/// How long nothing must happen any more.
const QUIET: Duration = Duration::from_secs(3);
/// What the log says of it, again and again.
const LINE: &str = "nothing becomes final: blocks from height";

#[test]
fn all_four_stop_exactly_before_an_upgrade_that_they_do_not_speak_serve_reads_and_say_so_after_a_restart_too() {
    run("upgrade", async {
        let since = Instant::now();
        // Nobody skips the last slot for want of processor time: its block would be notarized then, and final only by the next one.
        let parameters = Parameters { skip_timeout_ms: 500, ..Parameters::default() };
        let (database, seed, wiring) = (Database::Both, Seed::of("upgrade"), Wiring::Direct);
        let shape = Shape { validators: 4, database, seed, accounts: 2, parameters, wiring };
        let mut net = Localnet::prepare_with(shape, |genesis| {
            let addresses = genesis.validators.iter().map(|validator| validator.public_key.address());
            genesis.accounts.extend(addresses.map(|address| GenesisAccount { address, balance: FUNDS }));
        })
        .await?;
        net.start_all()?;
        net.wait_for_height(1, START_LIMIT).await?;
        let at = schedule(&net).await?;
        for node in &net.nodes {
            let status = node.rpc.get("/sync_status").await?.ok()?;
            ensure!(status["ready"] == true && status["upgrade"] == needed(at, false), "long before: {status}");
        }
        let paid = fill(&mut net, at - 1).await?;
        stopped(&net, at, paid, since).await?;
        let votes = net.votes.highest_of_all();
        net.stop_all().await?;
        net.start_all()?;
        stopped(&net, at, paid, since).await.context("after a restart")?;
        ensure!(net.votes.highest_of_all() == votes, "votes after {votes:?}");
        net.finish().await
    });
}

/// What `/sync_status` says of the upgrade.
fn needed(at: u64, due: bool) -> Value {
    json!({ "version": VERSION + 1, "height": at, "spoken": VERSION, "due": due })
}

/// Three of four validators vote for the version after that of this program; the height from which on it is due, told by all.
async fn schedule(net: &Localnet) -> Result<u64> {
    let at = net.height().await? + UPGRADE_NOTICE + MARGIN;
    let motion = Motion::ScheduleUpgrade { version: VERSION + 1, height: at };
    let mut height = 0;
    for validator in 0..CARRYING {
        let mut wallet = Wallet::new(net.seed().key("validator", validator));
        let signed = wallet.sign(&net.chain, Action::AuthorityVote(motion), net.expiry().await?);
        let status = net.nodes[0].rpc.send_final(&signed, &net.chain).await?;
        height = status["height"].as_u64().with_context(|| format!("no height in {status}"))?;
    }
    net.wait_for_height(height, LIMIT).await?;
    for node in &net.nodes {
        wait::until_ok(Duration::from_millis(50), "the upgrade is told of", LIMIT, async || {
            let status = node.rpc.get("/sync_status").await?.ok()?;
            ensure!(status["upgrade"]["height"] == at, "{status}");
            Ok(())
        })
        .await?;
    }
    Ok(at)
}

/// Transfers, one a block, until all are at the last height; what was paid.
async fn fill(net: &mut Localnet, last: u64) -> Result<u64> {
    let (mut sender, to, expiry) = (net.wallets.remove(0), net.wallets[0].address(), net.expiry().await?);
    let mut paid = 0;
    loop {
        let height = net.height().await?;
        let signed = sender.transfer(&net.chain, to, 1, expiry);
        // The last one waits for the upgrade: there is something to do, and nobody does it.
        net.nodes[0].rpc.send(&signed, &net.chain, "").await?.ok()?;
        if height >= last {
            return Ok(paid);
        }
        paid += 1;
        net.wait_for_height(height + 1, LIMIT).await?;
    }
}

/// Every node has stopped at the block before, says so everywhere, and answers what it is asked.
async fn stopped(net: &Localnet, at: u64, paid: u64, since: Instant) -> Result<()> {
    let reason =
        format!("blocks from height {at} on have version {}, and this program speaks up to {VERSION}", VERSION + 1);
    for node in &net.nodes {
        wait::until_ok(Duration::from_millis(50), &format!("validator {} says why", node.index), LIMIT, async || {
            let ready = node.rpc.get("/ready").await?;
            ensure!(ready.status == 503 && ready.body["detail"]["reason"] == reason, "{ready:?}");
            Ok(())
        })
        .await?;
    }
    wait::let_it_run(QUIET).await;
    let last = net.nodes[0].rpc.block_hash(at - 1).await?;
    let to = net.wallets[0].address();
    for node in &net.nodes {
        let index = node.index;
        ensure!(node.process.pid().is_some() && node.rpc.height().await? == at - 1, "validator {index} goes on");
        ensure!(node.rpc.block_hash(at - 1).await? == last, "validator {index} has another block");
        ensure!(node.rpc.balance(to).await?.0 == FUNDS + paid, "validator {index}: reads");
        ensure!(node.rpc.get("/health").await?.status == 200, "validator {index} is alive");
        let status = node.rpc.get("/sync_status").await?.ok()?;
        ensure!(status["ready"] == false && status["reason"] == reason, "validator {index}: {status}");
        ensure!(status["upgrade"] == needed(at, true), "validator {index}: {status}");
        let doctor = node.rpc.get("/rpc/consensus/doctor").await?.ok()?;
        ensure!(doctor["cause"] == "old_version" && doctor["voting"] == "old_version", "validator {index}: {doctor}");
        ensure!(doctor["upgrade"] == json!({ "version": VERSION + 1, "height": at }), "validator {index}: {doctor}");
        let gauge = net.metrics(index).await?.value("blockchain_upgrade_height", "");
        ensure!(gauge == at as f64, "validator {index}: {gauge}");
        told_now_and_then(net, index, since).await?;
    }
    Ok(())
}

/// The log says it soon after each stop, of which there are two, and then no more often than every five seconds.
async fn told_now_and_then(net: &Localnet, index: usize, since: Instant) -> Result<()> {
    let node = &net.nodes[index];
    let lines = || node.process.log_text().lines().filter(|line| line.contains(LINE)).count() as u64;
    wait::until(&format!("validator {index} tells its log"), LIMIT, async || (lines() > 0).then_some(())).await?;
    let most = 2 + since.elapsed().as_secs() / 5;
    ensure!(lines() <= most, "validator {index}: {} lines, at most {most} expected", lines());
    Ok(())
}
