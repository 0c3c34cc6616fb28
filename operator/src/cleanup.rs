//! I/O: what happens when a network is deleted. Pods go first; keys and volumes stay unless the deletion policy says otherwise.
//!
//! The finalizer is held until the last pod is gone, so a network of the same name can never start a second process with a key that
//! is still in use. Everything else that the network owns goes by garbage collection. Nothing is created here: a terminating
//! namespace would refuse it.

use crate::apply::{ApplyError, Writer};
use crate::crd::{BlockchainNetwork, Retention};
use crate::names::{self, Role};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// How far a deletion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Pods are still there.
    WaitingForPods(usize),
    /// The finalizer is gone.
    Done,
}

/// Why a deletion is stuck.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// Something could not be read.
    #[error("could not list {kind} of \"{network}\"")]
    List {
        kind: String,
        network: String,
        #[source]
        source: kube::Error,
    },
    /// Something could not be deleted.
    #[error(transparent)]
    Delete(#[from] ApplyError),
    /// The finalizer could not be set or removed.
    #[error("could not write the finalizers of \"{network}\"")]
    Finalizer {
        network: String,
        #[source]
        source: kube::Error,
    },
}

impl CleanupError {
    /// Name of the variant: label of the metric, reason of the event.
    pub fn reason(&self) -> &'static str {
        match self {
            CleanupError::List { .. } => "ListFailed",
            CleanupError::Delete(error) => error.reason(),
            CleanupError::Finalizer { .. } => "FinalizerFailed",
        }
    }
}

/// Goes on with a deletion.
///
/// # Errors
/// Where something cannot be read or deleted; the next visit goes on.
pub async fn clean_up(
    client: &Client,
    network: &BlockchainNetwork,
    writer: &Writer<'_>,
) -> Result<Cleanup, CleanupError> {
    let sets = stateful_sets(client, network).await?;
    for set in sets.iter().filter(|set| set.metadata.deletion_timestamp.is_none()) {
        writer.delete::<StatefulSet>(&set.name_any(), &set.uid().unwrap_or_default(), None).await?;
    }
    let pods = list::<Pod>(client, network, Role::Validator).await?;
    // One that grew, or that somebody deleted, may have left its pods behind: garbage collection never takes those.
    let left = pods.iter().filter(|pod| sets.is_empty() && pod.metadata.deletion_timestamp.is_none());
    for pod in left {
        writer.delete::<Pod>(&pod.name_any(), &pod.uid().unwrap_or_default(), None).await?;
    }
    if !pods.is_empty() {
        return Ok(Cleanup::WaitingForPods(pods.len()));
    }
    if network.spec.deletion_policy.volumes == Retention::Delete {
        delete_all::<PersistentVolumeClaim>(client, network, writer, Role::Validator).await?;
        // Without its data the chain is gone, and with it what genesis was for.
        delete_all::<ConfigMap>(client, network, writer, Role::Genesis).await?;
    }
    if network.spec.deletion_policy.keys == Retention::Delete {
        delete_all::<Secret>(client, network, writer, Role::ValidatorKey).await?;
    }
    set_finalizers(
        client,
        network,
        network.finalizers().iter().filter(|name| *name != names::FINALIZER).cloned().collect(),
    )
    .await?;
    Ok(Cleanup::Done)
}

/// Takes hold of a network before anything is created for it.
///
/// # Errors
/// Where the finalizer cannot be set.
pub async fn hold(client: &Client, network: &BlockchainNetwork) -> Result<(), CleanupError> {
    let finalizers = network.finalizers().iter().cloned().chain([names::FINALIZER.to_owned()]);
    set_finalizers(client, network, finalizers.collect()).await
}

async fn set_finalizers(
    client: &Client,
    network: &BlockchainNetwork,
    finalizers: Vec<String>,
) -> Result<(), CleanupError> {
    let name = network.name_any();
    let networks = Api::<BlockchainNetwork>::namespaced(client.clone(), &network.namespace().unwrap_or_default());
    // With the version: a list that somebody else changed meanwhile must not be overwritten.
    let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": network.resource_version() } });
    match networks.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(CleanupError::Finalizer { network: name, source }),
    }
}

/// Those with the labels, and the one that is the network's own by name and owner: without its labels it would make its pods again.
async fn stateful_sets(client: &Client, network: &BlockchainNetwork) -> Result<Vec<StatefulSet>, CleanupError> {
    let mut sets = list::<StatefulSet>(client, network, Role::Validator).await?;
    let objects = Api::<StatefulSet>::namespaced(client.clone(), &network.namespace().unwrap_or_default());
    let found = objects.get_opt(&names::validator(&network.name_any())).await;
    let failed = |source| CleanupError::List { kind: "StatefulSet".to_owned(), network: network.name_any(), source };
    let own = found.map_err(failed)?.filter(|set| {
        let is_owner = set.owner_references().iter().any(|owner| Some(&owner.uid) == network.metadata.uid.as_ref());
        is_owner && !sets.iter().any(|known| known.metadata.uid == set.metadata.uid)
    });
    sets.extend(own);
    Ok(sets)
}

async fn list<K>(client: &Client, network: &BlockchainNetwork, role: Role) -> Result<Vec<K>, CleanupError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let objects = Api::<K>::namespaced(client.clone(), &network.namespace().unwrap_or_default());
    let query = ListParams::default().labels(&names::role_query(&network.name_any(), role));
    let listed = objects.list(&query).await;
    let failed = |source| CleanupError::List { kind: K::kind(&()).into_owned(), network: network.name_any(), source };
    Ok(listed.map_err(failed)?.items)
}

async fn delete_all<K>(
    client: &Client,
    network: &BlockchainNetwork,
    writer: &Writer<'_>,
    role: Role,
) -> Result<(), CleanupError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    for object in list::<K>(client, network, role).await? {
        writer.delete::<K>(&object.name_any(), &object.uid().unwrap_or_default(), None).await?;
    }
    Ok(())
}
