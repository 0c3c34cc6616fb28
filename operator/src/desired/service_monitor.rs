//! ServiceMonitor: Prometheus scrapes every validator, ready or not, through the headless Service.

use crate::names::{self, NETWORK_LABEL, Role};
use crate::validate::Settings;
use kube::api::{ApiResource, DynamicObject};
use serde_json::json;

/// The ServiceMonitor.
pub fn build(settings: &Settings, api: &ApiResource) -> DynamicObject {
    let identity = &settings.identity;
    let mut metadata = names::owned_meta(identity, identity.name.clone(), Role::Validator);
    // The operator's own labels win: it finds its objects by them.
    let own = metadata.labels.take().unwrap_or_default();
    metadata.labels = Some(settings.monitoring.labels.clone().into_iter().chain(own).collect());
    let mut object = DynamicObject::new(&identity.name, api).data(json!({
        "spec": {
            "selector": { "matchLabels": names::selector_labels(&identity.name, Role::Peers) },
            "endpoints": [{ "port": "metrics", "interval": "15s" }],
            "targetLabels": [NETWORK_LABEL],
        }
    }));
    object.metadata = metadata;
    object
}
