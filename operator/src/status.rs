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
//! | ValidatorSetSynced | every validator of the network decides on the chain, in this epoch and the next |
//! | FaultDomainsIndependent | no machine or database server carries a third of the voting power |
//! | Suspended | `spec.suspend` is not Active |
//! | Ready | keys, genesis, databases and all validators are there, and blocks are being made |

pub mod conditions;
pub mod validators;

use crate::crd::status::{BlockchainNetworkStatus, ChainStatus, Endpoints};
use crate::crd::{BlockchainNetwork, Suspend};
use crate::names;
use crate::observe::{Observed, SyncStatus};
use crate::plan::{self, Plan};
use crate::validate::{Problem, Settings, Validated};
use aitbc_core::env;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// A block whose time is so much ahead of the operator's clock is of the future; less is between the clocks of two machines.
const CLOCKS_APART_SECONDS: i64 = 60;

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
    /// When a node last said who decides, at the earliest the first visit of this operator; `None`: it is not on record.
    pub set_seen: Option<Timestamp>,
}

/// The status to write.
pub fn status(visit: Visit<'_>) -> BlockchainNetworkStatus {
    let settings = &visit.validated.settings;
    let chain = plan::chain(visit.validated, visit.observed);
    let former = visit.network.status.as_ref();
    let own: Vec<_> = (0..settings.replicas).map(|ordinal| validators::own(visit, &chain, former, ordinal)).collect();
    let (others, others_count) = validators::others(visit, &own, former);
    let desired = match settings.suspend {
        Suspend::Active | Suspend::Paused => settings.replicas,
        Suspend::Hibernated => 0,
    };
    let counted = validators::count(visit, &chain, desired, others_count);
    let facts = conditions::Facts { visit, chain: &chain, validators: &counted, own: &own };
    let known = former.map(|status| status.conditions.as_slice()).unwrap_or_default();
    BlockchainNetworkStatus {
        observed_generation: visit.network.metadata.generation,
        conditions: conditions::all(facts, known),
        chain: Some(chain_status(visit, former)),
        validators: Some(counted),
        validator_statuses: own,
        other_validators: others,
        operation: visit.plan.operation.clone(),
        endpoints: Some(endpoints(settings)),
    }
}

/// The view of the node that is believed. The block on record stays while no such node has come as far: a chain never goes back.
fn chain_status(visit: Visit<'_>, former: Option<&BlockchainNetworkStatus>) -> ChainStatus {
    let known = former.and_then(|status| status.chain.clone()).unwrap_or_default();
    let genesis = visit.validated.genesis.as_ref().ok().map(|genesis| genesis.hash.clone());
    let base = ChainStatus {
        chain_id: visit.validated.settings.chain_id.clone(),
        genesis_hash: genesis.or(known.genesis_hash.clone()),
        epoch: visit.validated.set.as_ref().map(|set| set.epoch).or(known.epoch),
        ..known.clone()
    };
    let Some(best) = visit.observed.best() else { return base };
    let base = ChainStatus { version: text(&best.version), ..base };
    if base.genesis_hash == known.genesis_hash && may_be_above(&known, best, visit.observed.now) {
        return base;
    }
    ChainStatus {
        height: Some(best.height),
        last_block_time: time(best.last_block_time_ms).or(base.last_block_time),
        state_root: text(&best.state_root),
        ..base
    }
}

/// Whether the block on record is not below a node's last one and may be of its chain, on which times grow with heights (protocol V4):
/// it is neither older than that one nor of the future. Else it is of a chain that was begun anew or went back, or somebody lied.
fn may_be_above(known: &ChainStatus, best: &SyncStatus, now: Timestamp) -> bool {
    let possible = best.last_block_time_ms.div_euclid(1_000)..=now.as_second() + CLOCKS_APART_SECONDS;
    let at = known.last_block_time.as_ref().map(|time| time.0.as_second());
    known.height.is_some_and(|height| height >= best.height) && at.is_some_and(|at| possible.contains(&at))
}

fn time(milliseconds: i64) -> Option<Time> {
    // Whole seconds: that is what the API's times hold.
    let at = Timestamp::from_second(milliseconds.div_euclid(1_000)).ok()?;
    (milliseconds > 0).then_some(Time(at))
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn endpoints(settings: &Settings) -> Endpoints {
    let host = format!("{}.{}.svc", names::rpc(&settings.identity.name), settings.identity.namespace);
    Endpoints { rpc: format!("http://{host}:{}", env::RPC_PORT), ws: format!("ws://{host}:{}", env::WS_PORT) }
}

/// True where the two say the same but for what anybody or any block may change without end: heights, stakes, and why something is
/// amiss in words of others. That is written only now and then, or with an event that tells of it.
pub fn differs_only_in_detail(one: &BlockchainNetworkStatus, other: &BlockchainNetworkStatus) -> bool {
    let still = |status: &BlockchainNetworkStatus| {
        let mut status = status.clone();
        if let Some(chain) = &mut status.chain {
            let first_block = chain.height.is_some_and(|height| height > 0);
            (chain.height, chain.last_block_time, chain.state_root) = (Some(i64::from(first_block)), None, None);
            // Epochs are counted in heights. Who comes or goes with one is news.
            chain.epoch = None;
        }
        for validator in &mut status.validator_statuses {
            (validator.height, validator.last_signed_height) = (None, None);
            (validator.on_chain.stake, validator.on_chain.unbonding) = (None, None);
        }
        for validator in &mut status.other_validators {
            (validator.on_chain.stake, validator.on_chain.unbonding) = (None, None);
        }
        for condition in &mut status.conditions {
            // It cites a node or the API server, down to the port of a connection that broke.
            if condition.type_ == "Degraded" {
                condition.message.clear();
            }
        }
        status
    };
    still(one) == still(other)
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
