//! The smallest manifest becomes a ready network, and a converged network is left alone.

use crate::kubelet::Kubelet;
use crate::world::{World, nowhere};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use std::collections::BTreeMap;

async fn versions(world: &World) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let kinds = [
        ("Secret", world.versions::<Secret>().await),
        ("ConfigMap", world.versions::<ConfigMap>().await),
        ("Service", world.versions::<Service>().await),
        ("ServiceAccount", world.versions::<ServiceAccount>().await),
        ("NetworkPolicy", world.versions::<NetworkPolicy>().await),
        ("StatefulSet", world.versions::<StatefulSet>().await),
    ];
    for (kind, objects) in kinds {
        all.extend(objects.into_iter().map(|(name, version)| (format!("{kind}/{name}"), version)));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_manifest_becomes_ready_and_says_so() {
    let world = World::new("up").await;
    let _kubelet = Kubelet::start(&world, 4).await;
    world.apply("net", nowhere()).await.expect("created");
    world.condition("net", "Ready", "True", "Ready").await;
    let status = world.network("net").await.status.expect("status");
    let validators = status.validators.expect("validators");
    assert_eq!((validators.summary.as_str(), validators.fault_tolerance), ("4/4", 1));
    assert_eq!(status.conditions.len(), 11);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(1)));
    assert!(status.chain.and_then(|chain| chain.genesis_hash).is_some());
    assert_eq!(status.operation, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_apply_changes_no_resource_version() {
    let world = World::new("again").await;
    let _kubelet = Kubelet::start(&world, 4).await;
    world.apply("net", nowhere()).await.expect("created");
    world.condition("net", "Ready", "True", "Ready").await;
    world.more_visits(1).await;
    let before = versions(&world).await;
    let generation = world.network("net").await.metadata.generation;
    world.apply("net", nowhere()).await.expect("applied again");
    world.more_visits(2).await;
    assert_eq!(versions(&world).await, before);
    assert_eq!(world.network("net").await.metadata.generation, generation);
    assert!(before.contains_key("StatefulSet/net-validator") && before.contains_key("Secret/net-validator-3-key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_changes_is_put_right() {
    use kube::api::{Patch, PatchParams};
    use serde_json::json;
    let world = World::new("drift").await;
    world.apply("net", nowhere()).await.expect("created");
    world.condition("net", "GenesisReady", "True", "GenesisReady").await;
    let budgets = world.api::<PodDisruptionBudget>();
    crate::wait::until("the budget", || async { budgets.get("net-validator").await.map(drop) }).await;
    let wrong = json!({ "spec": { "maxUnavailable": 4 } });
    budgets.patch("net-validator", &PatchParams::default(), &Patch::Merge(&wrong)).await.expect("changed");
    crate::wait::until("the budget to be put right", || async {
        let budget = budgets.get("net-validator").await.map_err(|error| error.to_string())?;
        let text = serde_json::to_value(&budget.spec).expect("json")["maxUnavailable"].to_string();
        if text == "1" { Ok(()) } else { Err(text) }
    })
    .await;
    let list = budgets.list(&ListParams::default()).await.expect("list");
    assert_eq!(list.items.len(), 1);
}
