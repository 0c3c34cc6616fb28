//! What is no longer wanted goes; what is not ours stays.

use crate::wait;
use crate::world::{World, gone, nowhere, with};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_network_policy_that_is_switched_off_goes_and_comes_back() {
    let world = World::new("prunes").await;
    let policies = world.api::<NetworkPolicy>();
    let foreign: NetworkPolicy = serde_json::from_value(json!({
        "metadata": { "name": "foreign", "labels": { "blockchain.aitbc.io/network": "net" } },
        "spec": { "podSelector": {} },
    }))
    .expect("a policy");
    policies.create(&PostParams::default(), &foreign).await.expect("created");
    world.apply("net", nowhere()).await.expect("created");
    wait::until("the policy", || async { policies.get("net").await.map(drop) }).await;
    world.apply("net", with("networkPolicy", json!("Disabled"))).await.expect("switched off");
    wait::until("the policy to go", || async { gone(policies.get_opt("net").await.expect("answer")) }).await;
    assert_eq!(world.names::<NetworkPolicy>().await, ["foreign"], "only what has our owner reference is pruned");
    world.apply("net", nowhere()).await.expect("switched on");
    wait::until("the policy again", || async { policies.get("net").await.map(drop) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_somebody_else_is_not_taken_over() {
    let world = World::new("foreign").await;
    let services = world.api::<Service>();
    let foreign: Service = serde_json::from_value(json!({
        "metadata": { "name": "net-rpc" },
        "spec": { "selector": { "app": "mine" }, "ports": [{ "port": 80 }] },
    }))
    .expect("a Service");
    services.create(&PostParams::default(), &foreign).await.expect("created");
    world.apply("net", nowhere()).await.expect("created");
    let message = world.condition("net", "Degraded", "True", "NameTaken").await;
    assert!(message.contains("Service \"net-rpc\""), "{message}");
    let ports = services.get("net-rpc").await.expect("still there").spec.and_then(|spec| spec.ports);
    assert_eq!(ports.map(|ports| ports.iter().map(|port| port.port).collect()), Some(vec![80]));
    services.delete("net-rpc", &DeleteParams::default()).await.expect("deleted");
    world.condition("net", "Degraded", "False", "AsExpected").await;
}
