//! Changed specs reach the pods one at a time, and the chain does not notice.

use crate::network::{LONGEST_PAUSE, NAME, READY_LIMIT, VALIDATORS, scenario};
use aitbc_tests::cluster::{command, uid};
use aitbc_tests::wait;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Four pods, each stopped, started, caught up and signing before the next.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(300);

#[test]
fn a_changed_image_rolls_one_validator_at_a_time() {
    scenario("e2e image", async |network| {
        let before = network.cluster.pods(NAME).await?;
        let image = image_of(&before[0]).context("a validator container")?;
        let next = second_name(&image).await?;
        roll(network, json!({ "spec": { "image": next } }), |pod| image_of(pod).as_deref() == Some(next.as_str()))
            .await?;
        roll(network, json!({ "spec": { "image": null } }), |pod| image_of(pod).as_deref() == Some(image.as_str()))
            .await
    });
}

#[test]
fn a_changed_variable_rolls_one_validator_at_a_time() {
    scenario("e2e variable", async |network| {
        let env = json!([{ "name": "LOG_LEVEL", "value": "debug" }]);
        let patch = json!({ "spec": { "validators": { "pod": { "env": env } } } });
        roll(network, patch, |pod| variable_of(pod, "LOG_LEVEL").as_deref() == Some("debug")).await?;
        let patch = json!({ "spec": { "validators": { "pod": null } } });
        roll(network, patch, |pod| variable_of(pod, "LOG_LEVEL").as_deref() != Some("debug")).await
    });
}

async fn roll(network: &crate::network::Network, patch: Value, changed: impl Fn(&Pod) -> bool) -> Result<()> {
    network.cluster.wait_ready(NAME, READY_LIMIT).await?;
    let before: Vec<String> = network.cluster.pods(NAME).await?.iter().map(uid).collect();
    // Blocks as the last one to roll sees them, until it does; then as the first does. Both watch the same chain.
    let (first, _first_endpoint) = network.watch_blocks(0).await?;
    let (last, _last_endpoint) = network.watch_blocks(VALIDATORS - 1).await?;
    let start = Instant::now();
    network.cluster.kubectl(&["patch", "bcn", NAME, "--type=merge", "--patch", &patch.to_string()]).await?;
    let done = |pods: &[Pod]| pods.iter().all(|pod| changed(pod) && !before.contains(&uid(pod)));
    let seen = network.cluster.watch_pods(NAME, VALIDATORS, ROLLOUT_LIMIT, done).await?;
    println!("rolled in {:.1} s, most down at a time: {}", seen.took.as_secs_f64(), seen.most_down);
    ensure!(seen.most_down <= 1, "{} validators were down at a time", seen.most_down);
    let blocks: Vec<_> = first.events().into_iter().chain(last.events()).collect();
    let mut blocks: Vec<_> = blocks.into_iter().filter(|e| e.at > start).collect();
    blocks.sort_by_key(|e| e.at);
    // Watched only while one of the two connections stood.
    let until = blocks.last().map_or(start, |e| e.at);
    let pauses = blocks.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default();
    println!("longest pause {pauses:?} in the {:?} that were watched", until - start);
    ensure!(pauses < LONGEST_PAUSE, "no block for {pauses:?}");
    wait::until_ok(Duration::from_secs(1), "the operation ends", READY_LIMIT, || async {
        let object = network.cluster.get(&[&format!("bcn/{NAME}")]).await?;
        ensure!(object["status"]["operation"].is_null(), "{}", object["status"]["operation"]);
        Ok(())
    })
    .await?;
    network.cluster.wait_ready(NAME, READY_LIMIT).await
}

fn container(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::Container> {
    pod.spec.as_ref()?.containers.iter().find(|c| c.name == "validator")
}

fn image_of(pod: &Pod) -> Option<String> {
    container(pod)?.image.clone()
}

fn variable_of(pod: &Pod, name: &str) -> Option<String> {
    container(pod)?.env.as_ref()?.iter().find(|v| v.name == name)?.value.clone()
}

/// The same image under another tag, known to the node: what a new version is to the operator.
async fn second_name(image: &str) -> Result<String> {
    if let Ok(given) = std::env::var("AITBC_SECOND_NODE_IMAGE") {
        return Ok(given);
    }
    let next = format!("{image}-next");
    let full = |name: &str| if name.starts_with("docker.io/") { name.to_owned() } else { format!("docker.io/{name}") };
    let tag = ["--namespace", "k8s.io", "images", "tag", "--force", &full(image), &full(&next)];
    command("ctr", &tag, "").await.context("in another cluster: AITBC_SECOND_NODE_IMAGE names a second node image")?;
    Ok(next)
}
