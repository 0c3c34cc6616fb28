//! Deleted and applied again: same keys, same chain, height goes on.

use crate::network::{NAME, READY_LIMIT, VALIDATORS, sample, scenario};
use aitbc_tests::wait;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

#[test]
fn a_deleted_network_leaves_keys_and_volumes_and_goes_on_when_it_is_applied_again() {
    scenario("e2e delete", async |network| {
        let cluster = &network.cluster;
        let keys = async || -> Result<Vec<String>> {
            let mut all = Vec::new();
            for index in 0..VALIDATORS {
                let secret = cluster.get(&[&format!("secret/{NAME}-validator-{index}-key")]).await?;
                ensure!(secret["metadata"]["ownerReferences"].is_null(), "key {index} has an owner");
                all.push(secret["data"].to_string());
            }
            Ok(all)
        };
        let before = keys().await?;
        let (rpc, endpoint) = network.validator(0).await?;
        let height = rpc.height().await?;
        let block = rpc.block_hash(height).await?;
        drop((rpc, endpoint));

        cluster.kubectl(&["delete", "bcn", NAME, "--timeout=120s"]).await?;
        wait::until_ok(Duration::from_millis(500), "the pods are gone", Duration::from_secs(120), || async {
            let left = cluster.pods(NAME).await?.len();
            ensure!(left == 0, "{left} are left");
            Ok(())
        })
        .await?;
        ensure!(keys().await? == before, "the keys changed when the network was deleted");
        let claims = cluster.get(&["persistentvolumeclaims"]).await?;
        let claims = claims["items"].as_array().context("a list")?.len();
        ensure!(claims >= VALIDATORS, "{claims} volume claims are left of {VALIDATORS}");
        let gone = cluster.get(&[&format!("statefulset/{NAME}-validator")]).await;
        ensure!(gone.is_err(), "the StatefulSet is still there");

        cluster.apply(&sample()?).await?;
        cluster.wait_ready(NAME, READY_LIMIT).await?;
        ensure!(keys().await? == before, "the keys changed when the network was applied again");
        let (rpc, _endpoint) = network.validator(0).await?;
        ensure!(rpc.block_hash(height).await? == block, "another block {height}");
        wait::until_ok(Duration::from_millis(300), "the height goes on", Duration::from_secs(30), || async {
            let now = rpc.height().await?;
            ensure!(now > height, "{now}, before {height}");
            Ok(())
        })
        .await
    });
}
