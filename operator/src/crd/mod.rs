//! `BlockchainNetwork`: what a user asks for (`spec`) and what is true (`status`), with every rule the API server checks.
//!
//! Every sentence on a field is read by `kubectl explain`: unit, default, effect. A field stands here once it works.

pub mod database;
pub mod definition;
pub mod receipts;
pub mod status;
pub mod validators;

use crate::crd::database::Database;
use crate::crd::receipts::Receipts;
use crate::crd::status::BlockchainNetworkStatus;
use crate::crd::validators::Validators;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// API group of the custom resource; labels and annotations of ours start with it.
pub const GROUP: &str = "blockchain.aitbc.io";

/// A validator network: one chain, its validators, their keys and their databases.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "blockchain.aitbc.io",
    version = "v1alpha1",
    kind = "BlockchainNetwork",
    plural = "blockchainnetworks",
    shortname = "bcn",
    category = "aitbc",
    namespaced,
    status = "BlockchainNetworkStatus",
    derive = "PartialEq",
    doc = "A blockchain network: validators, each with its key and database, that together finalise transactions.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')")
        .message("metadata.name must be 1 to 40 lower-case letters, digits or inner hyphens and begin with a letter: pods, Services and DNS names are made from it"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Validators", type_ = "string", json_path = ".status.validators.summary", description = "ready of desired"),
    printcolumn(name = "Height", type_ = "integer", json_path = ".status.chain.height", description = "height of the last final block"),
    printcolumn(name = "Tolerates", type_ = "integer", json_path = ".status.validators.faultTolerance", description = "validators that may be down while the chain goes on"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.consensus.mode"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.chain.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "ChainID", type_ = "string", json_path = ".status.chain.chainID", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    printcolumn(name = "Operation", type_ = "string", json_path = ".status.operation.type", priority = 1),
    printcolumn(name = "Database", type_ = "string", json_path = ".spec.database.mode", priority = 1),
)]
#[x_kube(
    validation = Rule::new("has(self.chainID) == has(oldSelf.chainID) && (!has(self.chainID) || self.chainID == oldSelf.chainID)")
        .message("chainID is immutable: it cannot be changed, added or removed; create a new network instead"),
    validation = Rule::new("self.database.mode != 'External' || (has(self.database.external) && self.database.external.secrets.size() == self.validators.replicas && self.database.external.secrets.all(s, s.ordinal < self.validators.replicas))")
        .message("database.external.secrets must name one Secret for each validator: ordinals 0 to validators.replicas - 1"),
    validation = Rule::new("!has(self.genesis.authorities) || self.genesis.authorities.all(a, a.ordinal < self.validators.replicas)")
        .message("genesis.authorities must name validators: ordinals 0 to validators.replicas - 1"),
    validation = Rule::new("!has(self.validators.weights) || !has(self.genesis.authorities) || self.genesis.authorities.size() == 0 || self.validators.weights.all(w, self.genesis.authorities.exists(a, a.ordinal == w.ordinal))")
        .message("validators.weights must name only those of genesis.authorities: who is not in genesis has no weight and no stake there"),
    validation = Rule::new("self.consensus.mode == 'poa' || !has(self.validators.weights) || self.validators.weights.all(w, w.weight >= (has(self.consensus.minStake) ? self.consensus.minStake : 1000))")
        .message("validators.weights are stakes in modes pos and hybrid: each must be at least consensus.minStake, by default 1000"),
    validation = Rule::new("!has(self.consensus.maxValidators) || self.consensus.maxValidators >= (has(self.genesis.authorities) && self.genesis.authorities.size() > 0 ? self.genesis.authorities.size() : self.validators.replicas)")
        .message("consensus.maxValidators must be at least the number of validators of genesis: genesis.authorities, by default validators.replicas"),
)]
#[serde(rename_all = "camelCase")]
pub struct BlockchainNetworkSpec {
    /// Name of the chain, part of every signature. Default: metadata.name. Immutable, and cannot be added or removed later.
    #[serde(rename = "chainID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48), regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$"))]
    pub chain_id: Option<String>,

    /// Image of the node; a digest is advised. Default: the operator's own version. A change restarts the validators one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// When the kubelet pulls images: IfNotPresent (default), Always or Never.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Secrets in this namespace that hold registry credentials. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<NameReference>,

    /// How blocks are agreed on. Immutable: it is part of genesis.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self.mode == oldSelf.mode")
        .message("consensus.mode is immutable: it is part of genesis; create a new network instead"))]
    #[x_kube(validation = Rule::new("self.blockTime == oldSelf.blockTime")
        .message("consensus.blockTime is immutable: it is part of genesis; create a new network instead"))]
    #[x_kube(validation = Rule::new("has(self.epochBlocks) == has(oldSelf.epochBlocks) && (!has(self.epochBlocks) || self.epochBlocks == oldSelf.epochBlocks)")
        .message("consensus.epochBlocks is immutable: it is part of genesis; it cannot be changed, added or removed"))]
    #[x_kube(validation = Rule::new("has(self.minStake) == has(oldSelf.minStake) && (!has(self.minStake) || self.minStake == oldSelf.minStake)")
        .message("consensus.minStake is immutable: it is part of genesis; it cannot be changed, added or removed"))]
    #[x_kube(validation = Rule::new("has(self.maxValidators) == has(oldSelf.maxValidators) && (!has(self.maxValidators) || self.maxValidators == oldSelf.maxValidators)")
        .message("consensus.maxValidators is immutable: it is part of genesis; it cannot be changed, added or removed"))]
    #[x_kube(validation = Rule::new("has(self.unbondingEpochs) == has(oldSelf.unbondingEpochs) && (!has(self.unbondingEpochs) || self.unbondingEpochs == oldSelf.unbondingEpochs)")
        .message("consensus.unbondingEpochs is immutable: it is part of genesis; it cannot be changed, added or removed"))]
    pub consensus: Consensus,

    /// What is true at height 0. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("genesis is immutable: the chain began with it; create a new network instead"))]
    pub genesis: Genesis,

    /// The validators: how many, their keys, volumes and pods.
    pub validators: Validators,

    /// Where each validator keeps its blocks, votes and accounts.
    #[serde(default)]
    pub database: Database,

    /// For how many blocks each validator keeps transactions. Default: for all. A change restarts the validators one by one.
    #[serde(default)]
    pub pruning: Pruning,

    /// How clients in the cluster reach the chain.
    #[serde(default)]
    pub rpc: Rpc,

    /// How Prometheus finds the validators.
    #[serde(default)]
    pub monitoring: Monitoring,

    /// Enabled (default): a NetworkPolicy lets in gossip from this network's validators only, RPC, WebSocket and metrics from
    /// anywhere, and lets out gossip, DNS and an external database. Disabled: none is made.
    #[serde(default)]
    pub network_policy: Switch,

    /// Active (default); Paused: the operator writes nothing but status; Hibernated: all pods are stopped, keys and volumes stay.
    #[serde(default)]
    pub suspend: Suspend,

    /// What happens to keys and volumes once this network is deleted. Default: both are retained.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A named object in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct NameReference {
    /// Name of the object in the network's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// When the kubelet pulls an image.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ImagePullPolicy {
    /// Only where the image is absent.
    #[default]
    IfNotPresent,
    /// At every start of a container.
    Always,
    /// Not at all: the image must be on the machine.
    Never,
}

/// How blocks are agreed on, and by whom.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("self.mode != 'poa' || (!has(self.minStake) && !has(self.unbondingEpochs))")
        .message("consensus.minStake and consensus.unbondingEpochs are allowed only with consensus.mode pos or hybrid: poa has no stakes"),
)]
#[serde(rename_all = "camelCase")]
pub struct Consensus {
    /// poa (default): the validators of genesis, and whom they admit. pos: those with the greatest stakes. hybrid: those that are admitted and
    /// have a stake. Immutable.
    #[serde(default)]
    pub mode: Mode,

    /// Longest pause between blocks of an idle chain, 100ms to 1h, default 1s. Pending transactions never wait for it. Immutable.
    #[serde(default = "default_block_time")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('1h')")
        .message("consensus.blockTime must be between 100ms and 1h"))]
    pub block_time: String,

    /// Blocks of an epoch, 1 to 2000, default 1000. The validators of an epoch are fixed: who comes, goes or is jailed in one is in or out
    /// two epochs later. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_000))]
    pub epoch_blocks: Option<i64>,

    /// Least stake of a validator in smallest units, 1 to 20000000, default 1000; modes pos and hybrid only. Immutable here; the
    /// validators can vote for another one on the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20_000_000))]
    pub min_stake: Option<i64>,

    /// Most validators that decide at one time, 1 to 100, default 100. Immutable here; the validators can vote for another number on
    /// the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_validators: Option<i32>,

    /// Epochs for which a stake that was unbonded stays locked and can be slashed, 2 to 100000, default 2, and a day at least; modes pos and
    /// hybrid only. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 100_000))]
    pub unbonding_epochs: Option<i64>,
}

/// How validators are chosen.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Proof of authority: the validators of genesis, and whom they admit.
    #[default]
    Poa,
    /// Proof of stake: those with the greatest stakes.
    Pos,
    /// Both: those that are admitted and have a stake.
    Hybrid,
}

/// What is true at height 0.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Genesis {
    /// First balances. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["address"]))]
    pub accounts: Vec<GenesisAccount>,

    /// Enabled: whoever asks gets units from a faucet account; for development only. Disabled (default).
    #[serde(default = "disabled")]
    pub faucet: Switch,

    /// Which of this network's validators decide from the beginning, and may admit others. The rest follow the chain and come in by
    /// transactions. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ordinal"]))]
    pub authorities: Vec<Authority>,

    /// What compute receipts are worth, and who attests them. Default: receipts and escrows are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<Receipts>,
}

/// A validator that decides from the beginning.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Authority {
    /// Which validator: 0 to validators.replicas - 1.
    #[schemars(range(min = 0, max = 99))]
    pub ordinal: i32,
}

/// A balance at height 0.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct GenesisAccount {
    /// Owner: ait1… (bech32), or 0x and 40 hex digits.
    #[schemars(length(min = 42, max = 90), regex(pattern = r"^(ait1[02-9ac-hj-np-z]{38,}|0x[0-9a-fA-F]{40})$"))]
    pub address: String,

    /// Smallest units, 1 to 2^53 - 1; all balances together at most 2^53 - 1.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub balance: i64,
}

/// For how many blocks each validator keeps transactions.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.keepBlocks) == (self.mode == 'Keep')")
        .message("pruning.keepBlocks is required with pruning.mode Keep, and allowed only with it"),
    validation = Rule::new("!has(self.keepBlocks) || self.keepBlocks >= 2064")
        .message("pruning.keepBlocks must be at least 2064: a batch may be named again for 2000 blocks, and late peers ask for the last 64"),
)]
#[serde(rename_all = "camelCase")]
pub struct Pruning {
    /// Archive (default): all blocks are kept whole. Keep: transactions of blocks older than the last keepBlocks are deleted;
    /// headers and certificates stay. A validator that is more than 10,000 of them behind fetches the state instead.
    #[serde(default)]
    pub mode: PruningMode,

    /// Blocks that are kept whole, from 2064 on; required with mode Keep. What was deleted does not come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub keep_blocks: Option<i64>,
}

/// Whether old transactions are deleted.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum PruningMode {
    /// They are kept.
    #[default]
    Archive,
    /// Those of the last blocks are kept.
    Keep,
}

/// How clients in the cluster reach the chain.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rpc {
    /// The Service `<name>-rpc`: REST on 9080, WebSocket on 9081, caught-up validators only.
    #[serde(default)]
    pub service: RpcService,
}

/// The Service of the RPC.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RpcService {
    /// ClusterIP (default), NodePort or LoadBalancer.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,

    /// Annotations of the Service, for load balancers and DNS controllers. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

/// How a Service is reachable.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    ClusterIP,
    /// On a port of every machine.
    NodePort,
    /// Through the platform's load balancer.
    LoadBalancer,
}

/// How Prometheus finds the validators.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Auto (default): a ServiceMonitor where the cluster has that API; Enabled: its absence is a problem; Disabled: none.
    #[serde(default)]
    pub service_monitor: Optional,

    /// Labels on the ServiceMonitor, as the Prometheus selects them. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
}

/// An object whose API may be absent.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Optional {
    /// Made where the API exists.
    #[default]
    Auto,
    /// Made; a missing API is reported.
    Enabled,
    /// Not made.
    Disabled,
}

/// On or off.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Switch {
    /// On.
    #[default]
    Enabled,
    /// Off.
    Disabled,
}

/// Whether the network runs.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Suspend {
    /// It runs.
    #[default]
    Active,
    /// It runs, and the operator writes nothing but status.
    Paused,
    /// All pods are stopped; keys and volumes stay.
    Hibernated,
}

/// What happens at deletion.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeletionPolicy {
    /// Retain (default): key Secrets stay, a network of the same name adopts them. Delete: they go, and with them the identities.
    #[serde(default)]
    pub keys: Retention,

    /// Retain (default): volumes and genesis stay, a network of the same name continues the chain. Delete: the chain is gone.
    #[serde(default)]
    pub volumes: Retention,
}

/// Kept or removed.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Retention {
    /// Kept.
    #[default]
    Retain,
    /// Removed.
    Delete,
}

impl Default for Consensus {
    fn default() -> Self {
        Consensus {
            mode: Mode::default(),
            block_time: default_block_time(),
            epoch_blocks: None,
            min_stake: None,
            max_validators: None,
            unbonding_epochs: None,
        }
    }
}

impl Default for Genesis {
    fn default() -> Self {
        Genesis { accounts: Vec::new(), faucet: Switch::Disabled, authorities: Vec::new(), receipts: None }
    }
}

fn default_block_time() -> String {
    "1s".into()
}

fn disabled() -> Switch {
    Switch::Disabled
}
