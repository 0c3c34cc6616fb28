//! Pure: status from what was seen and planned. Conditions with stable reasons; `Ready` sums up.
//!
//! | condition | True when |
//! |---|---|
//! | KeysReady | every validator has its key, the one the chain knows |
//! | GenesisReady | genesis exists and agrees with the spec |
//! | DatabaseReady | every validator's database serves |
//! | Available | blocks are being made |
//! | Progressing | something is being brought about: creation, roll-out, growth |
//! | Degraded | the chain lacks a validator that should sign, or a write failed |
//! | QuorumSafe | one more validator may go down |
//! | FaultDomainsIndependent | no machine or database server carries a third of the voting power |
//! | Suspended | `spec.suspend` is not Active |
//! | Ready | keys, genesis, databases and all validators are there, and blocks are being made |

pub mod conditions;

use crate::crd::status::{
    BlockchainNetworkStatus, ChainStatus, Endpoints, Known, ValidatorState, ValidatorStatus, ValidatorsStatus,
};
use crate::crd::{BlockchainNetwork, Suspend};
use crate::names;
use crate::observe::{Observed, SyncStatus, VotingState};
use crate::plan::{self, Chain, Plan};
use crate::quorum;
use crate::validate::{Problem, Settings, Validated};
use aitbc_core::env;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// What a visit brought about.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// The network as read.
    pub network: &'a BlockchainNetwork,
    /// What it is to be.
    pub validated: &'a Validated,
    /// What the cluster holds.
    pub observed: &'a Observed,
    /// What happens next.
    pub plan: &'a Plan,
    /// The write that failed, if one did.
    pub failed: Option<&'a Problem>,
}

/// The status to write.
pub fn status(visit: Visit<'_>) -> BlockchainNetworkStatus {
    let settings = &visit.validated.settings;
    let chain = plan::chain(settings, visit.observed);
    let former = visit.network.status.as_ref();
    let validators = count(settings, &chain);
    let facts = conditions::Facts { visit, chain: &chain, validators: &validators };
    let known = former.map(|status| status.conditions.as_slice()).unwrap_or_default();
    BlockchainNetworkStatus {
        observed_generation: visit.network.metadata.generation,
        conditions: conditions::all(facts, known),
        chain: Some(chain_status(visit, former)),
        validators: Some(validators),
        validator_statuses: (0..settings.replicas).map(|ordinal| validator(visit, &chain, former, ordinal)).collect(),
        operation: visit.plan.operation.clone(),
        endpoints: Some(endpoints(settings)),
    }
}

fn count(settings: &Settings, chain: &Chain) -> ValidatorsStatus {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let ready = number(chain.validators.values().filter(|view| view.ready && !view.terminating).count());
    let signing = number(chain.validators.values().filter(|view| view.signing && view.signed_height > 0).count());
    let desired = match settings.suspend {
        Suspend::Active | Suspend::Paused => settings.replicas,
        Suspend::Hibernated => 0,
    };
    let spare = quorum::fault_tolerance(settings.replicas);
    ValidatorsStatus {
        desired,
        ready,
        signing,
        summary: format!("{ready}/{desired}"),
        total_weight: settings.replicas.into(),
        live_weight: signing.into(),
        fault_tolerance: spare,
        disruptions_allowed: (spare - (settings.replicas - signing)).max(0),
    }
}

/// The most advanced node's view. Where none answers, the last known height stays: a chain never goes back.
fn chain_status(visit: Visit<'_>, former: Option<&BlockchainNetworkStatus>) -> ChainStatus {
    let known = former.and_then(|status| status.chain.clone()).unwrap_or_default();
    let genesis = visit.validated.genesis.as_ref().ok().map(|genesis| genesis.hash.clone());
    let base = ChainStatus {
        chain_id: visit.validated.settings.chain_id.clone(),
        genesis_hash: genesis.or(known.genesis_hash.clone()),
        ..known
    };
    match visit.observed.best() {
        None => base,
        Some(best) => ChainStatus {
            height: Some(best.height),
            last_block_time: time(best.last_block_time_ms).or(base.last_block_time),
            state_root: text(&best.state_root),
            version: text(&best.version),
            ..base
        },
    }
}

fn time(milliseconds: i64) -> Option<Time> {
    // Whole seconds: that is what the API's times hold.
    let at = Timestamp::from_second(milliseconds.div_euclid(1_000)).ok()?;
    (milliseconds > 0).then_some(Time(at))
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn validator(
    visit: Visit<'_>,
    chain: &Chain,
    former: Option<&BlockchainNetworkStatus>,
    ordinal: i32,
) -> ValidatorStatus {
    let statuses = former.map(|status| status.validator_statuses.as_slice()).unwrap_or_default();
    let known = statuses.iter().find(|status| status.ordinal == ordinal).cloned().unwrap_or_default();
    let key = visit.validated.keys.as_ref().ok().and_then(|keys| keys.known.get(&ordinal));
    let sync = visit.observed.sync.get(&ordinal);
    let own = sync.and_then(|sync| sync.validator.as_ref());
    let pod = visit.observed.pods.get(&ordinal);
    let signing = chain.validators.get(&ordinal).is_some_and(|view| view.signing);
    ValidatorStatus {
        ordinal,
        // A key once recorded stays recorded: it is what a lost Secret is recognised by.
        address: key.map(|key| key.public.address().to_string()).or(known.address),
        public_key: key.map(|key| key.public.to_string()).or(known.public_key),
        weight: own.map(|validator| validator.weight).or(known.weight),
        state: state(known.state, pod, sync, signing),
        height: sync.map(|sync| sync.height).or(known.height),
        // A node counts from its start, and what it signed before that stays true.
        last_signed_height: own.map(|validator| validator.last_signed_height).max(known.last_signed_height),
        database_ready: match sync.map(|sync| sync.database_ready) {
            Some(true) => Known::True,
            Some(false) => Known::False,
            None => Known::Unknown,
        },
        pod_name: names::pod(&visit.validated.settings.identity.name, ordinal),
        node_name: pod.and_then(|pod| pod.spec.as_ref()?.node_name.clone()),
        image: pod.and_then(image),
    }
}

fn state(known: ValidatorState, pod: Option<&Pod>, sync: Option<&SyncStatus>, signing: bool) -> ValidatorState {
    match sync.map(SyncStatus::voting_state) {
        _ if pod.is_some_and(is_fenced) => ValidatorState::Fenced,
        Some(VotingState::Quarantined) => ValidatorState::Quarantined,
        // Until it says otherwise: a restart ends no quarantine, and the same one does not begin twice.
        None | Some(VotingState::Checking) if known == ValidatorState::Quarantined => known,
        Some(_) if signing => ValidatorState::Active,
        Some(_) => ValidatorState::Syncing,
        None => ValidatorState::Pending,
    }
}

/// True where the node stopped itself: another process holds its database or its key.
pub fn is_fenced(pod: &Pod) -> bool {
    let fencing = [env::exit::FENCED, env::exit::CONFLICTING_VOTE, env::exit::TWIN].map(i32::from);
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.filter(|container| container.name == names::CONTAINER).any(|container| {
        let running = container.state.as_ref().is_some_and(|state| state.running.is_some());
        let states = [container.state.as_ref(), container.last_state.as_ref()];
        let mut ends = states.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
        !running && ends.any(|end| fencing.contains(&end.exit_code))
    })
}

fn image(pod: &Pod) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    containers.iter().find(|container| container.name == names::CONTAINER)?.image.clone()
}

fn endpoints(settings: &Settings) -> Endpoints {
    let host = format!("{}.{}.svc", names::rpc(&settings.identity.name), settings.identity.namespace);
    Endpoints { rpc: format!("http://{host}:{}", env::RPC_PORT), ws: format!("ws://{host}:{}", env::WS_PORT) }
}

/// True where the two say the same but for heights, which change with every block and are written only now and then.
pub fn differs_only_in_heights(one: &BlockchainNetworkStatus, other: &BlockchainNetworkStatus) -> bool {
    let still = |status: &BlockchainNetworkStatus| {
        let mut status = status.clone();
        if let Some(chain) = &mut status.chain {
            let first_block = chain.height.is_some_and(|height| height > 0);
            (chain.height, chain.last_block_time, chain.state_root) = (Some(i64::from(first_block)), None, None);
        }
        for validator in &mut status.validator_statuses {
            (validator.height, validator.last_signed_height) = (None, None);
        }
        status
    };
    still(one) == still(other)
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
