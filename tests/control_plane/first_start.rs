//! A key's first start on a chain is asserted once: until its node votes, and never again while anything remembers it.

use crate::kubelet::Kubelet;
use crate::wait;
use crate::world::{World, nowhere};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use std::collections::BTreeMap;

const STARTED_ON: &str = "blockchain.aitbc.io/started-on";

/// What is asserted to each pod.
async fn asserted(world: &World) -> Result<Vec<String>, String> {
    let mounted = world.api::<Secret>().get("net-validator-keys").await.map_err(|error| error.to_string())?;
    let data = mounted.data.unwrap_or_default();
    let entry = |i| data.get(&format!("net-validator-{i}.first-start")).ok_or(format!("no entry of {i}"));
    (0..4).map(|i| Ok(String::from_utf8(entry(i)?.0.clone()).expect("text"))).collect()
}

async fn all_are(world: &World, wanted: &str) -> Result<(), String> {
    let found = asserted(world).await?;
    if found.iter().all(|text| text == wanted) { Ok(()) } else { Err(format!("{found:?}")) }
}

/// What the key Secrets say of the chains their keys were on.
async fn recorded(world: &World) -> Vec<Option<String>> {
    let mut all = Vec::new();
    for i in 0..4 {
        let secret = world.api::<Secret>().get(&format!("net-validator-{i}-key")).await.expect("a key");
        all.push(secret.annotations().get(STARTED_ON).cloned());
    }
    all
}

async fn pods(world: &World) -> BTreeMap<String, Option<String>> {
    let list = world.api::<Pod>().list(&ListParams::default()).await.expect("list");
    list.iter().map(|pod| (pod.name_any(), pod.uid())).collect()
}

async fn hash(world: &World) -> String {
    let status = world.network("net").await.status;
    status.and_then(|status| status.chain?.genesis_hash).expect("a genesis")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_is_asserted_until_the_node_votes_and_never_again_for_that_key_and_chain() {
    let world = World::new("first").await;
    world.apply("net", nowhere()).await.expect("created");
    world.condition("net", "GenesisReady", "True", "GenesisReady").await;
    let hash = hash(&world).await;
    wait::until("the assertions", || all_are(&world, &hash)).await;
    assert_eq!(recorded(&world).await, vec![None; 4], "no key has voted");
    wait::until("four pods", || async {
        let pods = pods(&world).await;
        if pods.len() == 4 { Ok(()) } else { Err(pods) }
    })
    .await;
    let pods_before = pods(&world).await;

    let kubelet = Kubelet::start(&world, 4).await;
    kubelet.set_voting_state(0, "voting");
    world.condition("net", "Ready", "True", "Ready").await;
    wait::until("the assertions to be taken back", || all_are(&world, "")).await;
    assert_eq!(recorded(&world).await, vec![Some(hash.clone()); 4]);
    assert_eq!(pods(&world).await, pods_before, "nobody is restarted for it");
    let set = world.api::<StatefulSet>().get("net-validator").await.expect("the validators");
    assert_eq!(set.metadata.generation, Some(1));

    // Network, volumes and mounted Secret go; what is on record with the keys stays.
    world.delete("net").await;
    let claims = world.api::<PersistentVolumeClaim>();
    claims.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("volumes deleted");
    for ordinal in 0..4 {
        kubelet.set_voting_state(ordinal, "quarantined");
    }
    let again = world.apply("net", nowhere()).await.expect("created again");
    world.condition("net", "Degraded", "True", "ValidatorQuarantined").await;
    wait::until("the mounted Secret of the new network", || async {
        let mounted = world.api::<Secret>().get("net-validator-keys").await.map_err(|error| error.to_string())?;
        let owners: Vec<String> = mounted.owner_references().iter().map(|owner| owner.uid.clone()).collect();
        if owners == [again.uid().unwrap_or_default()] { Ok(()) } else { Err(format!("{owners:?}")) }
    })
    .await;
    all_are(&world, "").await.expect("nothing is asserted of keys that have voted");
    assert_eq!(recorded(&world).await, vec![Some(hash); 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_validator_is_told_when_it_begins_and_when_it_ends() {
    let world = World::new("quarantine").await;
    let kubelet = Kubelet::start(&world, 4).await;
    world.apply("net", nowhere()).await.expect("created");
    world.condition("net", "Ready", "True", "Ready").await;
    kubelet.set_voting_state(2, "quarantined");
    let message = world.condition("net", "Degraded", "True", "ValidatorQuarantined").await;
    assert!(message.contains("2: the database is new"), "{message}");
    world.condition("net", "QuorumSafe", "False", "NoSlack").await;
    world.told("ValidatorQuarantined").await;
    kubelet.set_voting_state(2, "voting");
    world.condition("net", "Ready", "True", "Ready").await;
    world.told("ValidatorRecovered").await;
}
