//! I/O: whether everything that is watched can be read. A watch without the right to it retries in silence; this says so in `/readyz`.

use crate::admin::Readiness;
use crate::crd::BlockchainNetwork;
use crate::reconcile::with_causes;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

const BETWEEN_TRIES: Duration = Duration::from_secs(2);

/// Tries until every kind can be read, and then says that the operator is ready.
pub async fn wait(client: Client, namespace: Option<String>, readiness: Readiness) {
    loop {
        let obstacle = check(&client, namespace.as_deref()).await.err();
        readiness.set(obstacle.clone());
        let Some(obstacle) = obstacle else { return };
        tracing::error!(obstacle, "the cluster cannot be watched");
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

async fn check(client: &Client, namespace: Option<&str>) -> Result<(), String> {
    readable::<BlockchainNetwork>(client, namespace).await?;
    readable::<StatefulSet>(client, namespace).await?;
    readable::<Pod>(client, namespace).await?;
    readable::<Service>(client, namespace).await?;
    readable::<ServiceAccount>(client, namespace).await?;
    readable::<ConfigMap>(client, namespace).await?;
    readable::<Secret>(client, namespace).await?;
    readable::<PersistentVolumeClaim>(client, namespace).await?;
    readable::<PodDisruptionBudget>(client, namespace).await?;
    readable::<NetworkPolicy>(client, namespace).await
}

/// Objects of a kind where the operator looks after networks.
pub fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Lists at most one object, of which only the metadata is asked for.
async fn readable<K>(client: &Client, namespace: Option<&str>) -> Result<(), String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let listed = scoped::<K>(client, namespace).list_metadata(&ListParams::default().limit(1)).await;
    listed.map(drop).map_err(|error| format!("cannot list {}: {}", K::plural(&()), with_causes(&error)))
}
