//! Pure: whose votes count on the chain, now and in the next epoch: this network's validators, by ordinal, and others.
//!
//! The chain says it. While no node does, status remembers who decides now, and before there is a chain the spec says who begins.

use crate::crd::status::{BlockchainNetworkStatus, ValidatorState};
use crate::observe::Observed;
use crate::observe::chain_set::{ChainSet, POWER_MAX};
use crate::quorum;
use crate::validate::Settings;
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;

/// How long it stays known who decides after a node last said so, in seconds: nodes limit how often one may ask.
const SET_KEPT_SECONDS: i64 = 30;

/// Who decides in an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Voting power of each of this network's validators; 0: it decides nothing.
    pub own: BTreeMap<i32, i64>,
    /// Those that are no validators of this network.
    pub others: Vec<Other>,
}

/// A member that is no validator of this network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its voting power.
    pub weight: i64,
    /// Whether it does its part, as far as one can tell from here.
    pub live: bool,
}

impl Members {
    /// Voting power of one of this network's validators.
    pub fn weight_of(&self, ordinal: i32) -> i64 {
        self.own.get(&ordinal).copied().unwrap_or(0)
    }

    /// Voting power of every member.
    pub fn weights(&self) -> impl Iterator<Item = i64> {
        let own = self.own.values().copied().filter(|weight| *weight > 0);
        own.chain(self.others.iter().map(|other| other.weight))
    }

    /// Voting power of all.
    pub fn total(&self) -> i64 {
        self.weights().sum()
    }

    /// How many of this network's validators decide.
    pub fn own_count(&self) -> i32 {
        let count = self.own.values().filter(|weight| **weight > 0).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    /// How many members may be down, whoever they are.
    pub fn fault_tolerance(&self) -> i32 {
        quorum::heaviest_within(self.weights(), quorum::spare(self.total()))
    }
}

/// The set as a node says it, unless status already says more: the node that is asked may be behind one that was asked before.
pub fn current(observed: &Observed, status: Option<&BlockchainNetworkStatus>) -> Option<ChainSet> {
    let known = status.and_then(|status| status.chain.as_ref()?.height).unwrap_or(0);
    observed.set.clone().filter(|set| set.height >= known)
}

/// Whether no node says who decides, and one did so recently (`seen`) that one will again: till then its silence means nothing.
pub fn is_awaited(set: Option<&ChainSet>, seen: Option<Timestamp>, now: Timestamp) -> bool {
    let age = |seen: Timestamp| now.as_second().saturating_sub(seen.as_second());
    set.is_none() && seen.is_some_and(|seen| age(seen) <= SET_KEPT_SECONDS)
}

/// Who decides in this epoch, with the public keys of this network's validators by ordinal.
pub fn check(
    settings: &Settings,
    keys: &BTreeMap<i32, String>,
    set: Option<&ChainSet>,
    status: Option<&BlockchainNetworkStatus>,
) -> Members {
    match set {
        Some(set) => {
            let all = set.validators.iter().map(|member| (member.public_key.as_str(), member.weight));
            told(settings, keys, set, all.collect())
        }
        None => remembered(settings, status),
    }
}

/// Who decides in the next epoch; `None` while no node says so.
pub fn next(settings: &Settings, keys: &BTreeMap<i32, String>, set: Option<&ChainSet>) -> Option<Members> {
    let set = set.filter(|set| !set.next.is_empty())?;
    let all = set.next.iter().map(|member| (member.key.as_str(), member.weight));
    Some(told(settings, keys, set, all.collect()))
}

fn told(settings: &Settings, keys: &BTreeMap<i32, String>, set: &ChainSet, all: BTreeMap<&str, i64>) -> Members {
    let weight = |ordinal: i32| keys.get(&ordinal).and_then(|key| all.get(key.as_str())).copied().unwrap_or(0);
    let strangers = all.iter().filter(|(key, _)| !keys.values().any(|own| own == *key));
    let other = |(key, weight): (&&str, &i64)| Other { weight: *weight, live: set.seems_live(key) };
    Members { own: (0..settings.replicas).map(|i| (i, weight(i))).collect(), others: strangers.map(other).collect() }
}

/// Status was written by an operator of any version, or restored, or edited: weights that no chain has are no weights.
fn remembered(settings: &Settings, status: Option<&BlockchainNetworkStatus>) -> Members {
    let is_weight = |weight: &i64| (0..=POWER_MAX).contains(weight);
    let recorded = |ordinal: i32| {
        let all = status.map(|status| status.validator_statuses.as_slice()).unwrap_or_default();
        all.iter().find(|validator| validator.ordinal == ordinal)?.weight.filter(is_weight)
    };
    let at_genesis = |ordinal: i32| settings.genesis_power.get(&ordinal).copied().unwrap_or(0);
    let own = (0..settings.replicas).map(|i| (i, recorded(i).unwrap_or_else(|| at_genesis(i))));
    let others = status.into_iter().flat_map(|status| &status.other_validators);
    let others = others.filter(|other| other.weight > 0 && is_weight(&other.weight));
    let live = |state: ValidatorState| matches!(state, ValidatorState::Active | ValidatorState::Leaving);
    let others = others.map(|other| Other { weight: other.weight, live: live(other.state) });
    Members { own: own.collect(), others: others.collect() }
}
