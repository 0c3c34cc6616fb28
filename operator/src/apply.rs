//! I/O: makes the cluster hold what the pure steps want. Creates keys and genesis once, applies the rest, prunes what is left over.
//!
//! Server-side apply with our field manager: fields of other managers stay theirs. An object whose version and wanted content are
//! as after our last apply is skipped, so a converged network causes no request that writes.

use crate::desired::{Objects, keys};
use crate::names;
use crate::names::{Identity, Role};
use crate::observe::{Observed, Owned};
use crate::plan::{Growth, Plan, Replacement};
use crate::validate::keys::{KeySource, ValidatorKey};
use crate::validate::starts::Record;
use aitbc_core::key::SecretKey;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The operating system gave no randomness.
    #[error("no randomness for a key: {0}")]
    Randomness(String),
    /// A key Secret could not be created.
    #[error("could not create the key Secret \"{name}\"")]
    CreateKey {
        name: String,
        #[source]
        source: kube::Error,
    },
    /// A Secret that is no key of this network stands in the way.
    #[error(
        "Secret \"{name}\" exists but is no key Secret of this network; rename it, or give it the labels \
         blockchain.aitbc.io/network, role and ordinal if it is a restored key"
    )]
    KeyNameTaken { name: String },
    /// A key Secret could not be annotated.
    #[error("could not record on the key Secret \"{name}\" that its key may have voted")]
    RecordStart {
        name: String,
        #[source]
        source: kube::Error,
    },
    /// Genesis could not be created.
    #[error("could not create the ConfigMap \"{name}\"")]
    CreateGenesis {
        name: String,
        #[source]
        source: kube::Error,
    },
    /// An object that is not of this network stands in the way.
    #[error("{kind} \"{name}\" exists and belongs to somebody else; rename it, or name the network differently")]
    NameTaken { kind: String, name: String },
    /// An object could not be applied.
    #[error("could not apply {kind} \"{name}\"")]
    Apply {
        kind: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    /// An object could not be deleted.
    #[error("could not delete {kind} \"{name}\"")]
    Delete {
        kind: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    /// A volume claim could not grow.
    #[error("could not grow the volume claim \"{name}\"; its StorageClass has to allow expansion")]
    Grow {
        name: String,
        #[source]
        source: kube::Error,
    },
}

impl ApplyError {
    /// Name of the variant: label of the metric, reason of the event.
    pub fn reason(&self) -> &'static str {
        match self {
            ApplyError::Randomness(_) => "RandomnessFailed",
            ApplyError::CreateKey { .. } => "CreateKeyFailed",
            ApplyError::KeyNameTaken { .. } => "KeyNameTaken",
            ApplyError::RecordStart { .. } => "RecordStartFailed",
            ApplyError::CreateGenesis { .. } => "CreateGenesisFailed",
            ApplyError::NameTaken { .. } => "NameTaken",
            ApplyError::Apply { .. } => "ApplyFailed",
            ApplyError::Delete { .. } => "DeleteFailed",
            ApplyError::Grow { .. } => "GrowFailed",
        }
    }
}

/// What was last applied: content by hash, and the version the API server answered with.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<String, (u64, String)>>);

impl Memory {
    fn is_fresh(&self, key: &str, content: u64, version: Option<&str>) -> bool {
        let Ok(known) = self.0.lock() else { return false };
        known.get(key).is_some_and(|(hash, seen)| *hash == content && Some(seen.as_str()) == version)
    }

    fn remember(&self, key: String, content: u64, version: Option<String>) {
        if let (Ok(mut known), Some(version)) = (self.0.lock(), version) {
            known.insert(key, (content, version));
        }
    }

    /// Forgets a network that is gone.
    pub fn forget(&self, identity: &Identity) {
        if let Ok(mut known) = self.0.lock() {
            known.retain(|key, _| !key.starts_with(&identity.uid));
        }
    }
}

/// Writes for one network.
pub struct Writer<'a> {
    /// The API.
    pub client: &'a Client,
    /// Which network.
    pub identity: &'a Identity,
    /// What was last applied.
    pub memory: &'a Memory,
}

impl Writer<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.identity.namespace)
    }

    /// Creates key Secrets: never an apply, so that an existing key cannot be overwritten.
    ///
    /// # Errors
    /// Where one cannot be created.
    pub async fn create_keys(&self, sources: &BTreeMap<i32, KeySource>) -> Result<Vec<String>, ApplyError> {
        let mut created = Vec::new();
        for (ordinal, source) in sources {
            let secret = keys::build(self.identity, *ordinal, &material(source)?);
            let name = secret.name_any();
            match self.api::<Secret>().create(&post(), &secret).await {
                Ok(_) => created.push(name),
                Err(kube::Error::Api(status)) if status.is_already_exists() => self.taken(&name, *ordinal).await?,
                Err(source) => return Err(ApplyError::CreateKey { name, source }),
            }
        }
        Ok(created)
    }

    /// A Secret of that name is there: ours from a moment ago is fine, anything that the next look would not find is not.
    async fn taken(&self, name: &str, ordinal: i32) -> Result<(), ApplyError> {
        let found = self.api::<Secret>().get_metadata_opt(name).await;
        let found = found.map_err(|source| ApplyError::CreateKey { name: name.to_owned(), source })?;
        let ours = found.is_none_or(|secret| is_key_of(secret.labels(), &self.identity.name, ordinal));
        if ours { Ok(()) } else { Err(ApplyError::KeyNameTaken { name: name.to_owned() }) }
    }

    /// Writes on key Secrets on which chains their keys may have voted: one annotation, and only on the very object that was read.
    ///
    /// # Errors
    /// Where one cannot be written.
    pub async fn record_starts(&self, records: &[Record]) -> Result<(), ApplyError> {
        let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PatchParams::default() };
        for Record { secret, resource_version, chains } in records {
            // A merge patch: an apply would make an empty Secret of one that was deleted meanwhile.
            let annotations = json!({ names::STARTED_ON_ANNOTATION: chains });
            let patch = json!({ "metadata": { "resourceVersion": resource_version, "annotations": annotations } });
            match self.api::<Secret>().patch_metadata(secret, &params, &Patch::Merge(&patch)).await {
                Ok(_) => tracing::info!(secret, chains, "first start is over"),
                // The next visit sees what somebody else did.
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
                Err(source) => return Err(ApplyError::RecordStart { name: secret.clone(), source }),
            }
        }
        Ok(())
    }

    /// Brings the cluster to what is wanted: objects in the order they need each other, then what is left over goes.
    ///
    /// # Errors
    /// At the first write that fails.
    pub async fn apply(&self, objects: &Objects, plan: &Plan, observed: &Observed) -> Result<(), ApplyError> {
        let Objects {
            genesis,
            service_account,
            mounted_keys,
            mounted_databases,
            peers,
            rpc,
            disruption_budget,
            network_policy,
            service_monitor,
            stateful_set,
        } = objects;
        if let Some(genesis) = genesis {
            self.create_genesis(genesis).await?;
        }
        let mut wanted = vec![
            self.one(service_account, observed).await?,
            self.one(mounted_keys, observed).await?,
            self.one(peers, observed).await?,
            self.one(rpc, observed).await?,
            self.one(disruption_budget, observed).await?,
        ];
        wanted.extend(self.some(mounted_databases.as_ref(), observed).await?);
        wanted.extend(self.some(network_policy.as_ref(), observed).await?);
        if let (Some(monitor), Some(api)) = (service_monitor, &observed.monitors) {
            wanted.push(self.one_dynamic(monitor, api, observed).await?);
        }
        // Last: with the ConfigMap and Secrets in place its pods can start at once.
        wanted.push(self.stateful_set(stateful_set, plan, observed).await?);
        self.prune(&wanted, observed).await
    }

    async fn create_genesis(&self, genesis: &ConfigMap) -> Result<(), ApplyError> {
        match self.api::<ConfigMap>().create(&post(), genesis).await {
            Ok(_) => Ok(()),
            // Made a moment ago: the next visit reads and compares it.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(source) => Err(ApplyError::CreateGenesis { name: genesis.name_any(), source }),
        }
    }

    async fn some<K>(&self, object: Option<&K>, observed: &Observed) -> Result<Option<(String, String)>, ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        match object {
            Some(object) => Ok(Some(self.one(object, observed).await?)),
            None => Ok(None),
        }
    }

    async fn one<K>(&self, object: &K, observed: &Observed) -> Result<(String, String), ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        self.apply_to(&self.api::<K>(), &K::kind(&()), &K::api_version(&()), object, observed).await
    }

    async fn one_dynamic(
        &self,
        object: &DynamicObject,
        api: &ApiResource,
        observed: &Observed,
    ) -> Result<(String, String), ApplyError> {
        let objects = Api::namespaced_with(self.client.clone(), &self.identity.namespace, api);
        self.apply_to(&objects, &api.kind, &api.api_version, object, observed).await
    }

    async fn apply_to<K>(
        &self,
        api: &Api<K>,
        kind: &str,
        api_version: &str,
        object: &K,
        observed: &Observed,
    ) -> Result<(String, String), ApplyError>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        let name = object.name_any();
        let failed = |source| ApplyError::Apply { kind: kind.to_owned(), name: name.clone(), source };
        let mut body = serde_json::to_value(object).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        body["apiVersion"] = api_version.into();
        body["kind"] = kind.into();
        let content = content_hash(&body);
        let key = format!("{}/{kind}/{name}", self.identity.uid);
        let live = observed.owned.iter().find(|owned| owned.kind == kind && owned.name == name);
        if live.is_none() && self.is_foreign(api, &name).await.map_err(failed)? {
            return Err(ApplyError::NameTaken { kind: kind.to_owned(), name });
        }
        if !self.memory.is_fresh(&key, content, live.map(|owned| owned.resource_version.as_str())) {
            let applied = api.patch(&name, &apply_params(), &Patch::Apply(&body)).await.map_err(failed)?;
            self.memory.remember(key, content, applied.resource_version());
        }
        Ok((kind.to_owned(), name))
    }

    /// True where an object of that name was not made for this network: a forced apply would take it over.
    async fn is_foreign<K>(&self, api: &Api<K>, name: &str) -> Result<bool, kube::Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        let found = api.get_metadata_opt(name).await?;
        Ok(found.is_some_and(|object| object.labels().get(names::NETWORK_LABEL) != Some(&self.identity.name)))
    }

    async fn stateful_set(
        &self,
        set: &StatefulSet,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<(String, String), ApplyError> {
        let here = ("StatefulSet".to_owned(), set.name_any());
        if let Some(uid) = &plan.recreate {
            self.delete::<StatefulSet>(&here.1, uid, Some(PropagationPolicy::Orphan)).await?;
            return Ok(here);
        }
        let leaving = observed.stateful_set.as_ref().is_some_and(|live| live.metadata.deletion_timestamp.is_some());
        if leaving { Ok(here) } else { self.one(set, observed).await }
    }

    /// Enlarges volume claims: each that can be, whatever becomes of the others.
    ///
    /// # Errors
    /// The first that cannot be.
    pub async fn grow(&self, growths: &[Growth]) -> Result<(), ApplyError> {
        let claims = self.api::<PersistentVolumeClaim>();
        let mut result = Ok(());
        for Growth { claim, size } in growths {
            let patch = json!({ "spec": { "resources": { "requests": { "storage": size } } } });
            let grown = claims.patch(claim, &PatchParams::default(), &Patch::Merge(&patch)).await;
            let grown = grown.map(drop).map_err(|source| ApplyError::Grow { name: claim.clone(), source });
            result = result.and(grown);
        }
        result
    }

    /// Deletes owned objects that are no longer wanted, such as a NetworkPolicy that was switched off.
    async fn prune(&self, wanted: &[(String, String)], observed: &Observed) -> Result<(), ApplyError> {
        let left_over = |owned: &&Owned| !wanted.iter().any(|(kind, name)| *kind == owned.kind && *name == owned.name);
        for Owned { kind, name, uid, .. } in observed.owned.iter().filter(left_over) {
            tracing::info!(kind, name, "pruning");
            match kind.as_str() {
                "Secret" => self.delete::<Secret>(name, uid, None).await?,
                "Service" => self.delete::<Service>(name, uid, None).await?,
                "ServiceAccount" => self.delete::<ServiceAccount>(name, uid, None).await?,
                "NetworkPolicy" => self.delete::<NetworkPolicy>(name, uid, None).await?,
                "PodDisruptionBudget" => self.delete::<PodDisruptionBudget>(name, uid, None).await?,
                "StatefulSet" => self.delete::<StatefulSet>(name, uid, None).await?,
                _ => self.delete_dynamic(name, uid, observed.monitors.as_ref()).await?,
            }
        }
        Ok(())
    }

    /// Deletes a pod so that its successor is made; only the very pod that was looked at.
    ///
    /// # Errors
    /// Where it cannot be deleted.
    pub async fn replace(&self, replacement: &Replacement) -> Result<(), ApplyError> {
        self.delete::<Pod>(&replacement.pod, &replacement.uid, None).await
    }

    /// Deletes one object by UID; that it is gone already, or another by now, is no error.
    ///
    /// # Errors
    /// Where it cannot be deleted.
    pub async fn delete<K>(&self, name: &str, uid: &str, how: Option<PropagationPolicy>) -> Result<(), ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        deleted(&K::kind(&()), name, self.api::<K>().delete(name, &by_uid(uid, how)).await)
    }

    async fn delete_dynamic(&self, name: &str, uid: &str, api: Option<&ApiResource>) -> Result<(), ApplyError> {
        let Some(api) = api else { return Ok(()) };
        let objects = Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.identity.namespace, api);
        deleted(&api.kind, name, objects.delete(name, &by_uid(uid, None)).await)
    }
}

fn deleted<T>(kind: &str, name: &str, result: Result<T, kube::Error>) -> Result<(), ApplyError> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(ApplyError::Delete { kind: kind.to_owned(), name: name.to_owned(), source }),
    }
}

fn by_uid(uid: &str, how: Option<PropagationPolicy>) -> DeleteParams {
    DeleteParams {
        propagation_policy: how,
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    }
}

/// The key a Secret is made from.
fn material(source: &KeySource) -> Result<ValidatorKey, ApplyError> {
    match source {
        KeySource::Copy(key) => Ok(key.clone()),
        KeySource::Generate => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| ApplyError::Randomness(error.to_string()))?;
            let key = SecretKey::from_seed(seed);
            Ok(ValidatorKey { public: key.public(), pem: key.to_pkcs8_pem() })
        }
    }
}

/// Whether a Secret with these labels is found as the key of that validator.
fn is_key_of(labels: &BTreeMap<String, String>, network: &str, ordinal: i32) -> bool {
    let ordinal = ordinal.to_string();
    let own = [
        (names::NETWORK_LABEL, network),
        (names::ROLE_LABEL, Role::ValidatorKey.label()),
        (names::ORDINAL_LABEL, &ordinal),
    ];
    own.into_iter().all(|(name, value)| labels.get(name).is_some_and(|label| label == value))
}

fn post() -> PostParams {
    PostParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PostParams::default() }
}

/// Our own fields are ours: whoever else set one of them loses it.
pub fn apply_params() -> PatchParams {
    PatchParams::apply(names::FIELD_MANAGER).force()
}

fn content_hash(body: &serde_json::Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_counts_as_a_key_only_with_the_labels_by_which_it_is_found() {
        let key = ValidatorKey { public: SecretKey::from_seed([1; 32]).public(), pem: String::new() };
        let identity = Identity { name: "net".into(), namespace: "chains".into(), uid: "u".into() };
        let made = keys::build(&identity, 2, &key);
        assert!(is_key_of(made.labels(), "net", 2));
        assert!(!is_key_of(made.labels(), "net", 1) && !is_key_of(made.labels(), "other", 2));
        for name in [names::NETWORK_LABEL, names::ROLE_LABEL, names::ORDINAL_LABEL] {
            let mut labels = made.labels().clone();
            labels.remove(name);
            assert!(
                !is_key_of(&labels, "net", 2),
                "restored without {name}: made again at every visit, and never seen"
            );
        }
    }
}
