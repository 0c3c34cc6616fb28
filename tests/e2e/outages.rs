//! Pods, containers and databases killed: the chain pauses for less than two seconds, forgets nothing, heals itself.

use crate::network::{BACK_LIMIT, LONGEST_PAUSE, NAME, Network, VALIDATORS, scenario};
use aitbc_tests::cluster::{restarts, uid};
use aitbc_tests::subscriber::{Subscriber, longest_pause};
use aitbc_tests::wait;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// The validator that is killed; blocks are watched on another.
const VICTIM: usize = 2;
const WATCHED: usize = 0;

#[test]
fn a_deleted_pod_comes_back_and_signs_while_the_chain_goes_on() {
    scenario("e2e pod deleted", async |network| {
        let before = uid(&network.cluster.pods(NAME).await?[VICTIM]);
        outage(network, "pod deleted", async || {
            network.cluster.kubectl(&["delete", "pod", &Network::pod(VICTIM), "--wait=false"]).await.map(|_| ())
        })
        .await?;
        ensure!(uid(&network.cluster.pods(NAME).await?[VICTIM]) != before, "it is the same pod");
        Ok(())
    });
}

#[test]
fn a_validator_killed_with_9_in_its_container_comes_back_and_signs_while_the_chain_goes_on() {
    scenario("e2e validator killed", async |network| {
        let before = restarts(&network.cluster.pods(NAME).await?[VICTIM], "validator");
        outage(network, "validator killed", async || {
            network.cluster.kill_container(&Network::pod(VICTIM), "validator").await
        })
        .await?;
        ensure!(restarts(&network.cluster.pods(NAME).await?[VICTIM], "validator") > before, "nothing was killed");
        Ok(())
    });
}

#[test]
fn a_validator_whose_postgres_container_is_killed_signs_again_while_the_chain_goes_on() {
    scenario("e2e postgres killed", async |network| {
        let before = restarts(&network.cluster.pods(NAME).await?[VICTIM], "postgres");
        outage(network, "postgres killed", async || {
            network.cluster.kill_container(&Network::pod(VICTIM), "postgres").await
        })
        .await?;
        ensure!(restarts(&network.cluster.pods(NAME).await?[VICTIM], "postgres") > before, "nothing was killed");
        Ok(())
    });
}

/// Lets something happen to the victim, waits until it signs again, and holds the chain's pause against the bound.
async fn outage(network: &Network, what: &str, happens: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    network.wait_until_signs(VICTIM).await?;
    let (subscriber, _endpoint) = network.watch_blocks(WATCHED).await?;
    let start = Instant::now();
    happens().await?;
    // Only what comes after it is gone counts as coming back.
    wait::until_every(Duration::from_millis(50), "it is gone", Duration::from_secs(20), || async {
        let answer = match network.validator(VICTIM).await {
            Ok((rpc, _endpoint)) => rpc.get("/ready").await,
            Err(cause) => Err(cause),
        };
        (!answer.is_ok_and(|answer| answer.status == 200)).then_some(())
    })
    .await?;
    network.wait_until_signs(VICTIM).await?;
    let (pause, height) = longest_pause(&subscriber.events(), start);
    println!(
        "{what}: signs again after {:.1} s; longest pause {pause:?}, height {height}",
        start.elapsed().as_secs_f64()
    );
    ensure!(subscriber.closed().is_none(), "the subscriber was cut off: {:?}", subscriber.closed());
    ensure!(pause < LONGEST_PAUSE, "no block for {pause:?}");
    network.cluster.wait_ready(NAME, BACK_LIMIT).await
}

#[test]
fn with_all_four_pods_killed_at_once_nothing_final_is_lost_and_the_chain_resumes() {
    scenario("e2e all killed", async |network| {
        let (rpc, endpoint) = network.validator(WATCHED).await?;
        let mut wallet = network.funded_wallet(&rpc, "all killed").await?;
        let mut subscribers: Vec<(Subscriber, _)> = Vec::new();
        for index in 0..VALIDATORS {
            subscribers.push(network.watch_blocks(index).await?);
        }
        let expiry = rpc.height().await? + 1_000;
        let mut reported = Vec::new();
        for _ in 0..20 {
            let signed = wallet.transfer(&network.chain, wallet.address(), 1, expiry);
            let status = rpc.send_final(&signed, &network.chain).await?;
            reported.push((signed.id(&network.chain), status["height"].clone()));
        }
        drop(endpoint);
        let pods: Vec<String> = (0..VALIDATORS).map(Network::pod).collect();
        network.cluster.kill_pods(&pods).await?;
        let start = Instant::now();
        let blocks: Vec<(u64, String)> = subscribers
            .iter()
            .flat_map(|(subscriber, _)| subscriber.events())
            .filter_map(|e| Some((e.data["height"].as_u64()?, e.data["hash"].as_str()?.to_owned())))
            .collect();
        let top = blocks.iter().map(|(height, _)| *height).max().context("no block was seen")?;
        for index in 0..VALIDATORS {
            wait::until_ok(Duration::from_millis(300), "the chain resumes", BACK_LIMIT, || async {
                let height = network.validator(index).await?.0.height().await?;
                ensure!(height > top, "validator {index} is at {height}, before the end {top}");
                Ok(())
            })
            .await?;
        }
        println!("all four killed: above height {top} again after {:.1} s", start.elapsed().as_secs_f64());
        for index in 0..VALIDATORS {
            let (rpc, _endpoint) = network.validator(index).await?;
            for (height, hash) in &blocks {
                ensure!(rpc.block_hash(*height).await? == *hash, "validator {index} has another block {height}");
            }
            for (id, height) in &reported {
                let status = rpc.status(*id).await?;
                ensure!(status["status"] == "final" && status["height"] == *height, "{id}: {status}");
            }
        }
        network.cluster.wait_ready(NAME, BACK_LIMIT).await
    });
}
