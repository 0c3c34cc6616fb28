//! Optional APIs: under Auto their absence does not matter, under Enabled it is said.

use crate::world::{World, nowhere, with};
use aitbc_operator::names::SERVICE_MONITOR_API;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::json;

async fn served(client: &Client) -> Option<ApiResource> {
    let (group, version, kind) = SERVICE_MONITOR_API;
    let gvk = GroupVersionKind::gvk(group, version, kind);
    kube::discovery::pinned_kind(client, &gvk).await.ok().map(|(api, _)| api)
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_needs_no_service_monitor_api_and_enabled_says_that_it_is_missing() {
    let world = World::new("monitors").await;
    world.apply("auto", nowhere()).await.expect("created");
    world.apply("enabled", with("monitoring.serviceMonitor", json!("Enabled"))).await.expect("created");
    world.condition("auto", "Degraded", "False", "AsExpected").await;
    match served(&world.client).await {
        None => {
            let message = world.condition("enabled", "Degraded", "True", "ServiceMonitorMissing").await;
            assert!(message.contains("monitoring.serviceMonitor"), "{message}");
        }
        Some(api) => {
            let monitors = Api::<DynamicObject>::namespaced_with(world.client.clone(), &world.namespace, &api);
            for name in ["auto", "enabled"] {
                crate::wait::until("the ServiceMonitor", || async { monitors.get(name).await.map(drop) }).await;
            }
        }
    }
}
