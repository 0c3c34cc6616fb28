//! Paused: nothing is written but status. Hibernated: no pods, everything else stays.

use crate::kubelet::Kubelet;
use crate::wait;
use crate::world::{World, nowhere, with};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_hibernated_network_has_no_pods_and_wakes_with_its_volumes() {
    let world = World::new("sleeps").await;
    let _kubelet = Kubelet::start(&world, 4).await;
    world.apply("net", nowhere()).await.expect("created");
    world.condition("net", "Ready", "True", "Ready").await;
    world.apply("net", with("suspend", json!("Hibernated"))).await.expect("hibernated");
    wait::until("no pods", || async {
        let pods = world.names::<Pod>().await;
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    })
    .await;
    world.condition("net", "Ready", "False", "Hibernated").await;
    assert_eq!(world.names::<PersistentVolumeClaim>().await.len(), 4);
    world.apply("net", nowhere()).await.expect("woken");
    world.condition("net", "Ready", "True", "Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_network_is_not_touched() {
    let world = World::new("pauses").await;
    world.apply("net", with("suspend", json!("Paused"))).await.expect("created");
    world.condition("net", "Suspended", "True", "Paused").await;
    world.more_visits(2).await;
    assert!(world.names::<StatefulSet>().await.is_empty());
    world.apply("net", nowhere()).await.expect("resumed");
    wait::until("the validators", || async { world.api::<StatefulSet>().get("net-validator").await.map(drop) }).await;
}
