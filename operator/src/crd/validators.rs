//! `spec.validators`: how many, with which keys, on which volumes, in which pods.

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The validators of a network.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("self.keys.policy != 'Provided' || (has(self.keys.secrets) && self.keys.secrets.size() == self.replicas && self.keys.secrets.all(s, s.ordinal < self.replicas))")
        .message("validators.keys.secrets must name one Secret for each validator: ordinals 0 to validators.replicas - 1"),
    validation = Rule::new("!has(self.weights) || self.weights.all(w, w.ordinal < self.replicas)")
        .message("validators.weights must name validators: ordinals 0 to validators.replicas - 1"),
    validation = Rule::new("has(self.weights) == has(oldSelf.weights) && (!has(self.weights) || self.weights == oldSelf.weights)")
        .message("validators.weights is immutable: genesis holds them; stakes change by transactions"),
)]
#[serde(rename_all = "camelCase")]
pub struct Validators {
    /// Number of validators, 1 to 100. With n of them, floor((n - 1) / 3) may be down while the chain goes on: 4 tolerate 1, 7 tolerate 2.
    /// Those that genesis.authorities leaves out decide nothing until the chain lets them in. Immutable for now.
    #[schemars(range(min = 1, max = 100))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("validators.replicas is immutable: adding and removing pods is not supported yet; create a new network instead, with those that shall come in later left out of genesis.authorities"))]
    pub replicas: i32,

    /// Where the validators' signing keys come from.
    #[serde(default)]
    pub keys: Keys,

    /// What validators of genesis bring. poa: voting power, default 1 each. pos, hybrid: stake in smallest units, which its own key owns,
    /// default consensus.minStake each. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ordinal"]))]
    pub weights: Vec<Weight>,

    /// Volume of each validator's chain data: of the Postgres sidecar (unless database.postgres.storage says otherwise) or of SQLite.
    #[serde(default)]
    pub storage: Storage,

    /// Settings of the validator pods. A change restarts the validators one by one.
    #[serde(default)]
    pub pod: PodSettings,

    /// Whether validators avoid each other's machines: Preferred (default, machine before zone), Required (never two on a machine), None.
    #[serde(default)]
    pub anti_affinity: AntiAffinity,
}

/// What a validator of genesis brings.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Weight {
    /// Which validator: 0 to validators.replicas - 1.
    #[schemars(range(min = 0, max = 99))]
    pub ordinal: i32,

    /// 1 to 20000000: voting power in mode poa, stake in smallest units in pos and hybrid.
    #[schemars(range(min = 1, max = 20_000_000))]
    pub weight: i64,
}

/// Where signing keys come from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("self.policy == oldSelf.policy")
        .message("validators.keys.policy is immutable: genesis names the validators' keys; create a new network instead"),
    validation = Rule::new("self.policy != 'Generate' || !has(self.secrets)")
        .message("validators.keys.secrets is allowed only with validators.keys.policy Provided"),
    validation = Rule::new("!has(self.secrets) || self.secrets.all(a, self.secrets.exists_one(b, a.name == b.name && a.key == b.key))")
        .message("validators.keys.secrets must not name the same Secret and key twice: two validators with one key would sign against each other"),
)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// Generate (default): the operator makes an ed25519 key for each validator once. Provided: keys come from the Secrets below. Immutable.
    #[serde(default)]
    pub policy: KeyPolicy,

    /// With Provided: the Secret of each validator, one for each ordinal, none twice. They are copied; the chain keeps the key it began with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ordinal"]))]
    pub secrets: Vec<KeySecret>,
}

/// Where keys come from.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum KeyPolicy {
    /// Made by the operator.
    #[default]
    Generate,
    /// Brought by the user.
    Provided,
}

/// A validator's own Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct KeySecret {
    /// Which validator: 0 to validators.replicas - 1.
    #[schemars(range(min = 0, max = 99))]
    pub ordinal: i32,

    /// Name of the Secret in the network's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Key inside the Secret that holds the ed25519 private key as PKCS#8 PEM. Default ed25519.pem.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A volume.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
        .message("storage.size can only grow: a volume never shrinks"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storage.storageClassName is immutable: a volume keeps its class"),
)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size as a quantity, default 10Gi. It can grow where the StorageClass allows expansion, and never shrinks.
    #[serde(default = "default_size")]
    #[schemars(length(min = 1, max = 24), regex(pattern = r"^[0-9]+(\.[0-9]+)?(k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("storage.size must be a quantity greater than 0, such as 10Gi"))]
    pub size: String,

    /// StorageClass of the volume. Default: the cluster's default class. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// Settings of the validator pods.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Requests and limits of the node's container. Default: requests of 100m CPU and 256Mi memory, no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Labels a machine must have. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints the pods tolerate. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// Affinity of the pods; given, it replaces what validators.antiAffinity would set. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// How the pods spread over topologies. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// PriorityClass of the pods. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// Labels added to the pods; the operator's own win. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,

    /// Annotations added to the pods. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,

    /// Settings of the node as environment variables, such as LOG_LEVEL or RPC_RATE_LIMIT. Those the operator sets are refused. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[x_kube(validation = Rule::new("self.all(e, !(e.name in ['DATABASE_URL', 'RPC_HOST', 'RPC_PORT', 'WS_PORT', 'P2P_HOST', 'P2P_PORT', 'METRICS_PORT', 'ADMIN_PORT', 'CONSENSUS_MODE', 'BLOCK_TIME', 'VALIDATOR_ADDRESS', 'VALIDATOR_KEY_FILE', 'GENESIS_FILE', 'FIRST_START_FILE', 'PEERS', 'POD_NAME']))")
        .message("validators.pod.env must not set what the operator sets: DATABASE_URL, CONSENSUS_MODE, BLOCK_TIME, GENESIS_FILE, FIRST_START_FILE, PEERS, POD_NAME, VALIDATOR_* and ports and hosts"))]
    pub env: Vec<Variable>,
}

/// An environment variable.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Variable {
    /// Name of the setting, as in docs/operations.md.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Z][A-Z0-9_]*$"))]
    pub name: String,

    /// Its value.
    #[schemars(length(max = 1024))]
    pub value: String,
}

/// Whether validators avoid each other's machines.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum AntiAffinity {
    /// Wherever the scheduler likes.
    None,
    /// Apart where possible.
    #[default]
    Preferred,
    /// Never two on a machine.
    Required,
}

impl Default for Storage {
    fn default() -> Self {
        Storage { size: default_size(), storage_class_name: None }
    }
}

fn default_key() -> String {
    "ed25519.pem".into()
}

fn default_size() -> String {
    "10Gi".into()
}
