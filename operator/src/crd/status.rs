//! `status`: what the operator sees, as conditions with stable reasons. There is no phase.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is true of a network.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockchainNetworkStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready sums up; the others say what holds it back, since when and what unblocks it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// The chain as its validators report it. Heights are refreshed at most every 10 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainStatus>,

    /// The validators counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validators: Option<ValidatorsStatus>,

    /// Each validator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ordinal"]))]
    pub validator_statuses: Vec<ValidatorStatus>,

    /// Who decides on this chain, or may, without being a validator of this network: those that decide first, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["publicKey"]))]
    pub other_validators: Vec<OtherValidator>,

    /// The one voluntary disruption in flight; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,

    /// Where clients in the cluster reach the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
}

/// The chain.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChainStatus {
    /// Name of the chain.
    #[serde(rename = "chainID")]
    pub chain_id: String,

    /// Height of the last final block; the last known one while no validator answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<i64>,

    /// Epoch of the next block; the validators of an epoch are fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,

    /// Time of that block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_block_time: Option<Time>,

    /// Hash of genesis: the chain's identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis_hash: Option<String>,

    /// Root of the state at that height.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_root: Option<String>,

    /// Version of the node that reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The validators counted.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidatorsStatus {
    /// How many pods there should be.
    pub desired: i32,
    /// How many are ready: database up and caught up.
    pub ready: i32,
    /// How many signed one of the last blocks.
    pub signing: i32,
    /// Ready of desired, as in 4/4.
    pub summary: String,
    /// How many decide, or may, without being validators of this network.
    #[serde(default)]
    pub others: i32,
    /// Voting power of all that decide.
    pub total_weight: i64,
    /// Voting power of those that sign.
    pub live_weight: i64,
    /// How many may be down while the chain goes on, whoever they are.
    pub fault_tolerance: i32,
    /// How many more of this network may go down now, whoever they are.
    pub disruptions_allowed: i32,
}

/// A validator.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidatorStatus {
    /// Number of its pod.
    pub ordinal: i32,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its public key, recorded once and never replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Its voting power; 0: it does not decide in this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// What the chain holds of it.
    #[serde(flatten)]
    pub on_chain: OnChain,
    /// Pending: no answer yet; Syncing: behind the others; Candidate: follows the chain, decides nothing in this epoch; Active: signs;
    /// Leaving: decides until the end of this epoch; Left: decided once; Jailed: shut out by the chain; Fenced: stopped itself for the
    /// safety of its key; Quarantined: casts no vote, as its database may lack votes of its key, until the others have answered for it.
    pub state: ValidatorState,
    /// Height it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<i64>,
    /// Height of the last block it signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_signed_height: Option<i64>,
    /// Whether its database serves: True, False, or Unknown while the validator does not answer.
    pub database_ready: Known,
    /// Its pod.
    pub pod_name: String,
    /// The machine it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Who decides, or may, without being a validator of this network.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OtherValidator {
    /// Its public key.
    pub public_key: String,
    /// Its address.
    pub address: String,
    /// Its voting power; 0: it does not decide in this epoch.
    pub weight: i64,
    /// What the chain holds of it.
    #[serde(flatten)]
    pub on_chain: OnChain,
    /// Candidate, Active, Leaving, Left or Jailed as for those of this network; Pending: it decides, and is not connected or makes no blocks.
    pub state: ValidatorState,
}

/// What the chain holds of a validator, whosever it is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnChain {
    /// Its stake in smallest units; absent in mode poa, and where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stake: Option<i64>,
    /// What is on its way back to the owner of its stake, in smallest units; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbonding: Option<i64>,
    /// Why the chain has jailed it; absent where it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jailed_for: Option<JailCause>,
    /// First epoch in which the chain takes its UNJAIL; absent where it is not jailed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jailed_until_epoch: Option<i64>,
}

/// Why the chain has shut a validator out.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum JailCause {
    /// It signed two things that contradict each other; that costs a part of its stake.
    DoubleSigning,
    /// It made no block for long.
    Absence,
}

/// What a validator does.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ValidatorState {
    /// No answer yet.
    #[default]
    Pending,
    /// Behind the others.
    Syncing,
    /// Follows the chain, and decides nothing in this epoch.
    Candidate,
    /// Signs.
    Active,
    /// Decides until the end of this epoch.
    Leaving,
    /// Decided once, and is neither admitted nor at stake any more.
    Left,
    /// Shut out by the chain.
    Jailed,
    /// Stopped itself: another process holds its key or database.
    Fenced,
    /// Casts no vote: its database may lack votes of its key.
    Quarantined,
}

impl ValidatorState {
    /// All, as metrics name them.
    pub const ALL: [ValidatorState; 9] = [
        ValidatorState::Pending,
        ValidatorState::Syncing,
        ValidatorState::Candidate,
        ValidatorState::Active,
        ValidatorState::Leaving,
        ValidatorState::Left,
        ValidatorState::Jailed,
        ValidatorState::Fenced,
        ValidatorState::Quarantined,
    ];
}

/// A fact that may not be known.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Known {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody answers.
    #[default]
    Unknown,
}

/// The one voluntary disruption in flight.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// What is done.
    #[serde(rename = "type")]
    pub type_: OperationType,
    /// The pod it is done to.
    pub target: String,
    /// How far it is.
    pub step: OperationStep,
    /// When it began.
    pub since: Time,
    /// What it waits for.
    pub message: String,
    /// UID of the pod that is replaced, so that a restarted operator never replaces its successor.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Height of the chain when it began: the successor must sign above it.
    pub from_height: i64,
}

/// What is done.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum OperationType {
    /// A pod is replaced by one of the current template.
    #[default]
    Restart,
}

/// How far an operation is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum OperationStep {
    /// The old pod stops.
    #[default]
    Stopping,
    /// The new pod starts and catches up.
    Starting,
    /// The new pod is ready and has yet to sign.
    Signing,
}

/// Where clients in the cluster reach the chain.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct Endpoints {
    /// REST.
    pub rpc: String,
    /// WebSocket.
    pub ws: String,
}
