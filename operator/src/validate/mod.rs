//! Pure: spec and observation in, a network to build out, or for each part the reason why not yet.
//!
//! After this step nobody reads the raw spec. What the API server's rules cannot see is checked here: checksums of addresses,
//! Secrets that hold no key, keys that changed, databases named twice.

pub mod databases;
pub mod genesis;
pub mod keys;
pub mod members;
pub mod starts;

use crate::crd::database::{Database, DatabaseMode, Parameter};
use crate::crd::validators::{AntiAffinity, KeySecret, PodSettings, Storage};
use crate::crd::{
    BlockchainNetwork, BlockchainNetworkSpec, DeletionPolicy, ImagePullPolicy, Mode as SpecMode, Monitoring,
    PruningMode, RpcService, Suspend, Switch,
};
use crate::names::{self, Identity};
use crate::observe::Observed;
use crate::observe::chain_set::ChainSet;
use crate::validate::databases::Databases;
use crate::validate::genesis::{GenesisFile, GenesisWish};
use crate::validate::keys::Keys;
use crate::validate::members::Members;
use crate::validate::starts::Starts;
use aitbc_core::genesis::{Mode, Staking};
use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::time::Duration;

/// Why something is not so: the reason is stable, what changes stands in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// CamelCase, part of the API.
    pub reason: &'static str,
    /// For people: what, and what unblocks it.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Problem { reason, message: message.into() }
    }
}

/// What the user asks for, in types that cannot be wrong.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which network.
    pub identity: Identity,
    /// Name of the chain.
    pub chain_id: String,
    /// Number of validators.
    pub replicas: i32,
    /// How validators are chosen.
    pub mode: Mode,
    /// Who validates from genesis on, by ordinal: voting power in mode poa, stake in the others.
    pub genesis_power: BTreeMap<i32, i64>,
    /// Longest pause between blocks.
    pub block_time: Duration,
    /// Image of the node.
    pub image: String,
    /// When it is pulled.
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets with registry credentials.
    pub image_pull_secrets: Vec<String>,
    /// Pods.
    pub pod: PodSettings,
    /// Who avoids whom.
    pub anti_affinity: AntiAffinity,
    /// Provided keys by ordinal; `None`: they are generated.
    pub provided_keys: Option<BTreeMap<i32, KeySecret>>,
    /// Where data is kept.
    pub store: Store,
    /// Blocks that are kept whole; `None`: all.
    pub keep_blocks: Option<i64>,
    /// The RPC Service.
    pub service: RpcService,
    /// Prometheus.
    pub monitoring: Monitoring,
    /// NetworkPolicy.
    pub network_policy: Switch,
    /// Whether it runs.
    pub suspend: Suspend,
    /// What stays at deletion.
    pub deletion_policy: DeletionPolicy,
    /// Value of the restart annotation.
    pub restart_at: Option<String>,
}

/// Where a validator keeps its data.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// In a sidecar.
    Postgres {
        /// Image of the sidecar.
        image: String,
        /// Its volume.
        volume: Storage,
        /// Its requests and limits.
        resources: Option<ResourceRequirements>,
        /// Its server parameters.
        parameters: Vec<Parameter>,
    },
    /// In a database the user runs.
    External,
    /// In a file.
    Sqlite {
        /// The volume of the file.
        volume: Storage,
    },
}

impl Store {
    /// The volume, where there is one.
    pub fn volume(&self) -> Option<&Storage> {
        match self {
            Store::Postgres { volume, .. } | Store::Sqlite { volume } => Some(volume),
            Store::External => None,
        }
    }
}

/// A network to build, each part with its own reason where it cannot be built yet.
#[derive(Clone, Debug)]
pub struct Validated {
    /// What the user asks for.
    pub settings: Settings,
    /// The keys.
    pub keys: Result<Keys, Problem>,
    /// Genesis; waits for the keys.
    pub genesis: Result<GenesisFile, Problem>,
    /// The databases' addresses.
    pub databases: Result<Databases, Problem>,
    /// Whose key is new to the chain; empty while genesis waits.
    pub starts: Starts,
    /// The set as the chain says it; `None` while no node does.
    pub set: Option<ChainSet>,
    /// Who decides, as far as is known.
    pub members: Members,
    /// Who decides in the next epoch; `None` while no node says so.
    pub next_members: Option<Members>,
}

impl Validated {
    /// What keeps the network from being built as the spec says.
    pub fn obstacle(&self) -> Option<&Problem> {
        self.keys.as_ref().err().or(self.genesis.as_ref().err()).or(self.databases.as_ref().err())
    }
}

/// What the operator itself contributes.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Image of the node where the spec names none.
    pub node_image: String,
}

/// Checks a network against what the cluster holds.
pub fn validate(network: &BlockchainNetwork, observed: &Observed, defaults: &Defaults) -> Validated {
    let settings = settings(network, defaults);
    let recorded = keys::recorded(&settings, observed, network.status.as_ref());
    let keys = keys::check(&settings, observed, &recorded);
    let wish = GenesisWish::new(network, &settings);
    let genesis = keys.as_ref().map_err(waits_for_keys).and_then(|keys| {
        let began = network.status.as_ref().and_then(|s| s.chain.as_ref()).and_then(|c| c.genesis_hash.as_deref());
        genesis::check(&wish, keys, observed, began)
    });
    let databases = databases::check(&settings, observed);
    let of = |genesis: &GenesisFile| starts::check(&settings, observed, network.status.as_ref(), &genesis.hash);
    let starts = genesis.as_ref().map(of).unwrap_or_default();
    let set = members::current(observed, network.status.as_ref());
    let mut public: BTreeMap<i32, String> = recorded.iter().map(|(i, key)| (*i, key.to_string())).collect();
    let known = keys.iter().flat_map(|keys| &keys.known);
    public.extend(known.map(|(ordinal, key)| (*ordinal, key.public.to_string())));
    let members = members::check(&settings, &public, set.as_ref(), network.status.as_ref());
    let next_members = members::next(&settings, &public, set.as_ref());
    Validated { settings, keys, genesis, databases, starts, set, members, next_members }
}

fn waits_for_keys(problem: &Problem) -> Problem {
    Problem::new("WaitingForKeys", format!("genesis names the validators' keys: {}", problem.message))
}

fn settings(network: &BlockchainNetwork, defaults: &Defaults) -> Settings {
    let spec = &network.spec;
    let name = network.name_any();
    let provided = spec.validators.keys.secrets.iter().map(|s| (s.ordinal, s.clone()));
    Settings {
        identity: Identity {
            namespace: network.namespace().unwrap_or_default(),
            uid: network.uid().unwrap_or_default(),
            name: name.clone(),
        },
        chain_id: spec.chain_id.clone().unwrap_or(name),
        replicas: spec.validators.replicas,
        mode: match spec.consensus.mode {
            SpecMode::Poa => Mode::Poa,
            SpecMode::Pos => Mode::Pos,
            SpecMode::Hybrid => Mode::Hybrid,
        },
        genesis_power: genesis_power(spec),
        block_time: parse_duration(&spec.consensus.block_time).unwrap_or(Duration::from_secs(1)),
        image: spec.image.clone().unwrap_or_else(|| defaults.node_image.clone()),
        image_pull_policy: spec.image_pull_policy,
        image_pull_secrets: spec.image_pull_secrets.iter().map(|s| s.name.clone()).collect(),
        pod: spec.validators.pod.clone(),
        anti_affinity: spec.validators.anti_affinity,
        provided_keys: match spec.validators.keys.policy {
            crate::crd::validators::KeyPolicy::Generate => None,
            crate::crd::validators::KeyPolicy::Provided => Some(provided.collect()),
        },
        store: store(&spec.database, &spec.validators.storage),
        keep_blocks: spec.pruning.keep_blocks.filter(|_| spec.pruning.mode == PruningMode::Keep),
        service: spec.rpc.service.clone(),
        monitoring: spec.monitoring.clone(),
        network_policy: spec.network_policy,
        suspend: spec.suspend,
        deletion_policy: spec.deletion_policy,
        restart_at: network.annotations().get(names::RESTART_ANNOTATION).cloned(),
    }
}

/// Those that `genesis.authorities` names, by default all, each with its weight or stake.
fn genesis_power(spec: &BlockchainNetworkSpec) -> BTreeMap<i32, i64> {
    let least = spec.consensus.min_stake.or_else(|| i64::try_from(Staking::default().min_stake).ok());
    let default = match spec.consensus.mode {
        SpecMode::Poa => 1,
        SpecMode::Pos | SpecMode::Hybrid => least.unwrap_or(1),
    };
    let named: Vec<i32> = spec.genesis.authorities.iter().map(|authority| authority.ordinal).collect();
    let ordinals = if named.is_empty() { (0..spec.validators.replicas).collect() } else { named };
    let given = |ordinal: i32| spec.validators.weights.iter().find(|weight| weight.ordinal == ordinal);
    ordinals.into_iter().map(|i| (i, given(i).map_or(default, |weight| weight.weight))).collect()
}

fn store(database: &Database, storage: &Storage) -> Store {
    match database.mode {
        DatabaseMode::Postgres => {
            let postgres = database.postgres.clone().unwrap_or_default();
            Store::Postgres {
                image: postgres.image,
                volume: postgres.storage.unwrap_or_else(|| storage.clone()),
                resources: postgres.resources,
                parameters: postgres.parameters,
            }
        }
        DatabaseMode::External => Store::External,
        DatabaseMode::Sqlite => Store::Sqlite { volume: storage.clone() },
    }
}

/// Reads a duration as the custom resource allows it: numbers with ms, s, m, h, added up. `None` where it is none.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
