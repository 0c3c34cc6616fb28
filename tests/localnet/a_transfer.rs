//! A transfer from the pool to final, as subscribers and all validators see it; metrics and readiness.

use aitbc_tests::localnet::{Database, Localnet, scenario};
use aitbc_tests::subscriber::{Event, Subscriber};
use aitbc_tests::wait;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_signed_transfer_is_final_on_all_four_and_subscribers_see_it_from_pool_to_final_on_sqlite() {
    scenario("a_transfer sqlite", 4, Database::Sqlite, transfer_and_subscribers);
}

#[test]
fn a_signed_transfer_is_final_on_all_four_and_subscribers_see_it_from_pool_to_final_on_postgres() {
    scenario("a_transfer postgres", 4, Database::Postgres, transfer_and_subscribers);
}

async fn transfer_and_subscribers(net: &mut Localnet) -> Result<()> {
    let subscriber = net.subscribe(0, &["new_blocks", "new_transactions", "consensus_events"]).await?;
    let topics = ["new_blocks", "consensus_events"];
    let others = futures_util::future::try_join_all((1..4).map(|index| net.subscribe(index, &topics))).await?;
    let expiry = net.expiry().await?;
    let to = net.wallets[1].address();
    let before = net.nodes[0].rpc.balance(to).await?;
    let signed = net.wallets[0].transfer(&net.chain, to, 1_234, expiry);
    let id = signed.id(&net.chain).to_string();
    let outcome = net.nodes[0].rpc.send_final(&signed, &net.chain).await?;
    let height = outcome["height"].as_u64().with_context(|| format!("no height in {outcome}"))?;

    let seen = wait::until("the subscriber sees the transfer and its block final", LIMIT, || async {
        let events = subscriber.events();
        Some((transaction(&events, &id, "final")?, block(&events, height)?))
    });
    let (final_at, block_at) = seen.await.with_context(|| format!("{:#?}", summary(&subscriber)))?;
    let events = subscriber.events();
    let pending_at = transaction(&events, &id, "pending").context("never seen in the pool")?;
    ensure!(pending_at < final_at, "pending is event {pending_at}, final is {final_at}");
    ensure!(pending_at < block_at, "pending is event {pending_at}, its block is {block_at}");
    let all: Vec<&Subscriber> = std::iter::once(&subscriber).chain(&others).collect();
    // Three of four are a quorum: the fourth may hear that the block is final before its own vote is durable.
    for (step, least) in [("proposed", 3), ("voted", 3), ("certified", 1)] {
        wait::until_ok(Duration::from_millis(20), "a quorum tells the steps of the block", LIMIT, || async {
            let steps: Vec<Vec<String>> = all.iter().map(|s| consensus_steps(&s.events(), height)).collect();
            let telling = steps.iter().filter(|steps| steps.iter().any(|s| s == step)).count();
            ensure!(telling >= least, "{telling} of {least} told \"{step}\" of block {height}: {steps:?}");
            Ok(())
        })
        .await?;
    }
    ensure!(events.iter().all(|e| !e.data.is_null()), "an event without data");

    net.wait_for_height(height, LIMIT).await?;
    for node in &net.nodes {
        ensure!(node.rpc.balance(to).await? == (before.0 + 1_234, before.1), "validator {}", node.index);
        ensure!(node.rpc.block_hash(height).await? == net.nodes[0].rpc.block_hash(height).await?);
        let status = node.rpc.status(signed.id(&net.chain)).await?;
        ensure!(status["status"] == "final" && status["height"] == height, "validator {}: {status}", node.index);
    }
    Ok(())
}

fn transaction(events: &[Event], id: &str, status: &str) -> Option<usize> {
    events.iter().position(|e| e.topic == "new_transactions" && e.data["tx_hash"] == id && e.data["status"] == status)
}

fn block(events: &[Event], height: u64) -> Option<usize> {
    events.iter().position(|e| e.topic == "new_blocks" && e.data["height"] == height)
}

/// What was said of the block at a height, by its hash.
fn consensus_steps(events: &[Event], height: u64) -> Vec<String> {
    let of_height = events.iter().find(|e| e.topic == "new_blocks" && e.data["height"] == height);
    let Some(hash) = of_height.map(|e| e.data["hash"].clone()) else { return Vec::new() };
    let of_block = events.iter().filter(|e| e.topic == "consensus_events" && e.data["block_hash"] == hash);
    of_block.filter_map(|e| e.data["event"].as_str().map(str::to_owned)).collect()
}

fn summary(subscriber: &Subscriber) -> Vec<String> {
    let line = |e: Event| format!("{} {}", e.topic, e.data);
    subscriber.events().into_iter().map(line).chain(subscriber.closed()).collect()
}

#[test]
fn blocks_come_in_order_of_height_without_a_gap_while_nobody_sends() {
    scenario("idle blocks", 4, Database::Sqlite, async |net| {
        let subscriber = net.subscribe(1, &["new_blocks"]).await?;
        let heights = || -> Vec<u64> { subscriber.events().iter().filter_map(|e| e.data["height"].as_u64()).collect() };
        wait::until("four blocks", LIMIT, || async { (heights().len() >= 4).then_some(()) }).await?;
        let heights = heights();
        ensure!(heights.windows(2).all(|pair| pair[1] == pair[0] + 1), "{heights:?}");
        Ok(())
    });
}

#[test]
fn the_four_documented_metrics_move_on_every_validator() {
    scenario("metrics", 4, Database::Sqlite, async |net| {
        let before = all_metrics(net).await?;
        let expiry = net.expiry().await?;
        let to = net.wallets[1].address();
        let signed = net.wallets[0].transfer(&net.chain, to, 1, expiry);
        net.nodes[2].rpc.send_final(&signed, &net.chain).await?;
        wait::until_ok(Duration::from_millis(50), "the metrics move", LIMIT, || async {
            let after = all_metrics(net).await?;
            for (index, (before, after)) in before.iter().zip(&after).enumerate() {
                for name in ["blockchain_blocks_total", "blockchain_transactions_total", "blockchain_consensus_rounds"]
                {
                    ensure!(
                        after.sum(name) > before.sum(name),
                        "{name} of validator {index} stays at {}",
                        before.sum(name)
                    );
                }
                ensure!(after.sum("blockchain_network_peers") == 3.0, "peers of validator {index}");
            }
            Ok(())
        })
        .await
    });
}

async fn all_metrics(net: &Localnet) -> Result<Vec<aitbc_tests::metrics::Metrics>> {
    futures_util::future::try_join_all((0..net.nodes.len()).map(|i| net.metrics(i))).await
}

#[test]
fn health_readiness_and_sync_status_tell_how_a_validator_is_doing() {
    scenario("health", 4, Database::Sqlite, async |net| {
        for node in &net.nodes {
            wait::until_ok(Duration::from_millis(50), "ready", LIMIT, || async { node.rpc.get("/ready").await?.ok() })
                .await?;
            node.rpc.get("/health").await?.ok()?;
            let status = node.rpc.get("/sync_status").await?.ok()?;
            ensure!(status["height"].as_u64().is_some_and(|height| height >= 1), "{status}");
            ensure!(status["validator"]["last_signed_height"].as_u64().is_some(), "{status}");
            ensure!(node.rpc.get("/rpc/peers").await?.ok()?.to_string().matches("ait1").count() >= 3);
        }
        // Alone, a validator is alive but not ready: it can't say what the chain's height is.
        for index in 1..4 {
            net.nodes[index].process.kill().await?;
        }
        let alone = &net.nodes[0].rpc;
        wait::until("not ready without peers", LIMIT, || async {
            alone.get("/ready").await.is_ok_and(|answer| answer.status == 503).then_some(())
        })
        .await?;
        alone.get("/health").await?.ok()?;
        net.start_all()?;
        let height = net.nodes[0].rpc.height().await?;
        net.wait_for_height(height + 1, LIMIT).await
    });
}
