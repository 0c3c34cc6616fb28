//! Names, labels, selectors and owner references: said once, so that every object and every list agrees.

use crate::crd::{BlockchainNetwork, GROUP};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;
use std::collections::BTreeMap;

/// Field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "aitbc-operator";
/// Finalizer of a network.
pub const FINALIZER: &str = "blockchain.aitbc.io/cleanup";
/// Label with the network's name: how owned and retained objects are found.
pub const NETWORK_LABEL: &str = "blockchain.aitbc.io/network";
/// Label that tells objects of a network apart.
pub const ROLE_LABEL: &str = "blockchain.aitbc.io/role";
/// Label of a key Secret: whose key it is.
pub const ORDINAL_LABEL: &str = "blockchain.aitbc.io/ordinal";
/// Annotation on the genesis ConfigMap, for people who compare networks.
pub const GENESIS_HASH_ANNOTATION: &str = "blockchain.aitbc.io/genesis-hash";
/// Annotation on a network: a new value restarts the validators one by one.
pub const RESTART_ANNOTATION: &str = "blockchain.aitbc.io/restart-at";
/// Annotation on pods: a changed database address restarts them.
pub const DATABASES_ANNOTATION: &str = "blockchain.aitbc.io/databases-hash";
/// Annotation on a key Secret: the chains on which its key may have voted, as hashes of genesis with commas between them.
pub const STARTED_ON_ANNOTATION: &str = "blockchain.aitbc.io/started-on";
/// Type of a key Secret.
pub const KEY_SECRET_TYPE: &str = "blockchain.aitbc.io/validator-key";
/// Entry of a key Secret with the private key, PKCS#8 PEM.
pub const KEY_ENTRY: &str = "ed25519.pem";
/// Entry of a key Secret with the validator's address.
pub const ADDRESS_ENTRY: &str = "address";
/// Entry of the genesis ConfigMap.
pub const GENESIS_ENTRY: &str = "genesis.json";

/// Name of the node's container.
pub const CONTAINER: &str = "validator";
/// Group, version and kind of the API whose presence is discovered.
pub const SERVICE_MONITOR_API: (&str, &str, &str) = ("monitoring.coreos.com", "v1", "ServiceMonitor");

/// Which network it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
}

/// What an object is for; value of [`ROLE_LABEL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Validator pods, their StatefulSet and volumes.
    Validator,
    /// The key of one validator.
    ValidatorKey,
    /// All keys, to be mounted.
    MountedKeys,
    /// All database addresses, to be mounted.
    MountedDatabases,
    /// Genesis.
    Genesis,
    /// The headless Service.
    Peers,
    /// The RPC Service.
    Rpc,
}

impl Role {
    /// Value of the label.
    pub fn label(self) -> &'static str {
        match self {
            Role::Validator => "validator",
            Role::ValidatorKey => "validator-key",
            Role::MountedKeys => "mounted-keys",
            Role::MountedDatabases => "mounted-databases",
            Role::Genesis => "genesis",
            Role::Peers => "peers",
            Role::Rpc => "rpc",
        }
    }
}

/// StatefulSet, ServiceAccount and disruption budget of the validators.
pub fn validator(network: &str) -> String {
    format!("{network}-validator")
}

/// Pod of a validator; also its entry in the mounted Secrets.
pub fn pod(network: &str, ordinal: i32) -> String {
    format!("{network}-validator-{ordinal}")
}

/// What a pod's entry with the asserted first start ends with, after the pod's name.
pub const FIRST_START_SUFFIX: &str = ".first-start";

/// Entry of the mounted Secret that asserts a validator's first start: the hash of genesis, or nothing.
pub fn first_start(network: &str, ordinal: i32) -> String {
    format!("{}{FIRST_START_SUFFIX}", pod(network, ordinal))
}

/// Headless Service.
pub fn peers(network: &str) -> String {
    format!("{network}-peers")
}

/// RPC Service.
pub fn rpc(network: &str) -> String {
    format!("{network}-rpc")
}

/// Genesis ConfigMap.
pub fn genesis(network: &str) -> String {
    format!("{network}-genesis")
}

/// Secret with one validator's key: what people back up.
pub fn key_secret(network: &str, ordinal: i32) -> String {
    format!("{network}-validator-{ordinal}-key")
}

/// Secret with all keys, for mounting.
pub fn mounted_keys(network: &str) -> String {
    format!("{network}-validator-keys")
}

/// Secret with all database addresses, for mounting.
pub fn mounted_databases(network: &str) -> String {
    format!("{network}-validator-databases")
}

/// Volume claim of a validator.
pub fn claim(network: &str, ordinal: i32) -> String {
    format!("{VOLUME}-{network}-validator-{ordinal}")
}

/// Name of the volume claim template.
pub const VOLUME: &str = "data";

/// Ordinal of a pod of this network.
pub fn ordinal_of(network: &str, pod: &str) -> Option<i32> {
    pod.strip_prefix(&format!("{network}-validator-"))?.parse().ok()
}

/// All labels of an object.
pub fn labels(network: &str, role: Role) -> BTreeMap<String, String> {
    let common = [
        ("app.kubernetes.io/name", "blockchain-node"),
        ("app.kubernetes.io/instance", network),
        ("app.kubernetes.io/component", role.label()),
        ("app.kubernetes.io/part-of", "aitbc"),
        ("app.kubernetes.io/managed-by", FIELD_MANAGER),
        (NETWORK_LABEL, network),
        (ROLE_LABEL, role.label()),
    ];
    common.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What selectors use: never changes in an object's life.
pub fn selector_labels(network: &str, role: Role) -> BTreeMap<String, String> {
    [(NETWORK_LABEL, network), (ROLE_LABEL, role.label())].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

/// Selector of the validator pods.
pub fn validators_selector(network: &str) -> LabelSelector {
    LabelSelector { match_labels: Some(selector_labels(network, Role::Validator)), match_expressions: None }
}

/// Label query for everything of a network.
pub fn network_query(network: &str) -> String {
    format!("{NETWORK_LABEL}={network}")
}

/// Label query for one role of a network.
pub fn role_query(network: &str, role: Role) -> String {
    format!("{NETWORK_LABEL}={network},{ROLE_LABEL}={}", role.label())
}

/// Metadata of an object that goes with the network.
pub fn owned_meta(identity: &Identity, name: String, role: Role) -> ObjectMeta {
    ObjectMeta { owner_references: Some(vec![owner(identity)]), ..retained_meta(identity, name, role) }
}

/// Metadata of an object that survives the network: no owner, so garbage collection never takes it.
pub fn retained_meta(identity: &Identity, name: String, role: Role) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(identity.namespace.clone()),
        labels: Some(labels(&identity.name, role)),
        ..ObjectMeta::default()
    }
}

fn owner(identity: &Identity) -> OwnerReference {
    OwnerReference {
        api_version: format!("{GROUP}/{}", BlockchainNetwork::version(&())),
        kind: BlockchainNetwork::kind(&()).into_owned(),
        name: identity.name.clone(),
        uid: identity.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
