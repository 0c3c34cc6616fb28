//! Deletion: pods go; keys, genesis and volumes stay unless the policy says otherwise, and a network of the same name goes on.

use crate::kubelet::Kubelet;
use crate::wait;
use crate::world::{World, gone, nowhere, with};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::api::DeleteParams;
use serde_json::json;

async fn running(world: &World, spec: serde_json::Value) {
    world.apply("net", spec).await.expect("created");
    world.condition("net", "Ready", "True", "Ready").await;
}

async fn keys(world: &World) -> Vec<String> {
    let all = world.names::<Secret>().await;
    all.into_iter().filter(|name| name.ends_with("-key")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_genesis_and_volumes_stay_and_the_same_network_goes_on_with_them() {
    let world = World::new("deletes").await;
    let _kubelet = Kubelet::start(&world, 4).await;
    running(&world, nowhere()).await;
    let secrets = world.versions::<Secret>().await;
    let hash = world.network("net").await.status.and_then(|status| status.chain?.genesis_hash);
    world.delete("net").await;
    assert!(world.names::<Pod>().await.is_empty(), "the network goes only after its last pod");
    assert!(world.names::<StatefulSet>().await.is_empty());
    assert_eq!(keys(&world).await.len(), 4);
    assert_eq!(world.names::<PersistentVolumeClaim>().await.len(), 4);
    assert!(world.names::<ConfigMap>().await.contains(&"net-genesis".to_owned()));
    running(&world, nowhere()).await;
    let again = world.versions::<Secret>().await;
    for name in keys(&world).await {
        assert_eq!(again[&name], secrets[&name], "{name} is the very same object");
    }
    assert_eq!(world.network("net").await.status.and_then(|status| status.chain?.genesis_hash), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_their_stateful_set_left_behind_go_with_the_network() {
    let world = World::new("orphans").await;
    let _kubelet = Kubelet::start(&world, 4).await;
    running(&world, nowhere()).await;
    // Paused, the operator does not make it again.
    world.apply("net", with("suspend", json!("Paused"))).await.expect("paused");
    world.condition("net", "Suspended", "True", "Paused").await;
    let (sets, orphan) = (world.api::<StatefulSet>(), DeleteParams::orphan());
    sets.delete("net-validator", &orphan).await.expect("deleted");
    wait::until("no StatefulSet", || async { gone(sets.get_opt("net-validator").await.expect("answer")) }).await;
    assert_eq!(world.names::<Pod>().await.len(), 4);
    world.delete("net").await;
    assert!(world.names::<Pod>().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_policy_delete_nothing_stays() {
    let world = World::new("purges").await;
    let _kubelet = Kubelet::start(&world, 4).await;
    running(&world, with("deletionPolicy", json!({ "keys": "Delete", "volumes": "Delete" }))).await;
    world.delete("net").await;
    wait::until("everything to go", || async {
        let claims = world.names::<PersistentVolumeClaim>().await;
        let left = [claims, world.names::<Secret>().await, world.names::<Pod>().await].concat();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    assert!(!world.names::<ConfigMap>().await.contains(&"net-genesis".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_spec_on_the_former_chain_is_refused_with_the_field_that_differs() {
    let world = World::new("differs").await;
    let _kubelet = Kubelet::start(&world, 4).await;
    running(&world, nowhere()).await;
    world.delete("net").await;
    world.apply("net", with("consensus.blockTime", json!("3s"))).await.expect("created");
    let message = world.condition("net", "GenesisReady", "False", "GenesisConflict").await;
    assert!(message.contains("consensus.blockTime"), "{message}");
    assert!(world.names::<StatefulSet>().await.is_empty());
}
