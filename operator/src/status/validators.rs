//! Pure: each validator of the network, and those of nobody here: what it weighs, what it has at stake, and one word for what it does.

use crate::crd::status::{
    BlockchainNetworkStatus, JailCause, Known, OnChain, OtherValidator, ValidatorState, ValidatorStatus,
    ValidatorsStatus,
};
use crate::names;
use crate::observe::chain_set::{Candidate, ChainSet, JailedFor};
use crate::observe::{SyncStatus, VotingState};
use crate::plan::Chain;
use crate::quorum;
use crate::status::Visit;
use aitbc_core::env;
use aitbc_core::genesis::Mode;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;

/// Most validators of others that status lists; `validators.others` counts all.
const OTHERS_MAX: usize = 100;

/// What the chain makes of a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Shut out.
    Jailed,
    /// It decides in this epoch and the next.
    Member,
    /// It decides in this epoch and not in the next.
    Leaving,
    /// It decides in the next epoch, or could in a later one.
    Candidate,
    /// None of these.
    Outside,
}

/// One of this network's validators.
pub fn own(visit: Visit<'_>, chain: &Chain, former: Option<&BlockchainNetworkStatus>, ordinal: i32) -> ValidatorStatus {
    let statuses = former.map(|status| status.validator_statuses.as_slice()).unwrap_or_default();
    let known = statuses.iter().find(|status| status.ordinal == ordinal).cloned().unwrap_or_default();
    let key = visit.validated.keys.as_ref().ok().and_then(|keys| keys.known.get(&ordinal));
    let sync = visit.observed.sync.get(&ordinal);
    let own = sync.and_then(|sync| sync.validator.as_ref());
    let pod = visit.observed.pods.get(&ordinal);
    let view = chain.validators.get(&ordinal);
    let mut status = ValidatorStatus {
        ordinal,
        // A key once recorded stays recorded: it is what a lost Secret is recognised by.
        address: key.map(|key| key.public.address().to_string()).or(known.address.clone()),
        public_key: key.map(|key| key.public.to_string()).or(known.public_key.clone()),
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
        // What the chain says stays until a node says something else.
        ..known.clone()
    };
    let mode = visit.validated.settings.mode;
    let standing = match (&visit.validated.set, &status.public_key) {
        (Some(set), Some(key)) => {
            status.weight = Some(set.weight_of(key));
            status.on_chain = on_chain(set.candidate(key));
            standing(set, mode, key)
        }
        _ => {
            status.weight = known.weight.or(own.map(|validator| validator.weight));
            remembered(&known, view.is_some_and(|view| view.weight > 0))
        }
    };
    let signing = view.is_some_and(|view| view.signing);
    status.state = state(&known, standing, pod, sync, signing);
    status
}

/// Who decides, or may, without being a validator of this network; those that decide come first. And how many there are.
pub fn others(
    visit: Visit<'_>,
    own: &[ValidatorStatus],
    former: Option<&BlockchainNetworkStatus>,
) -> (Vec<OtherValidator>, i32) {
    let Some(set) = &visit.validated.set else {
        let count = former.and_then(|status| status.validators.as_ref()).map_or(0, |counted| counted.others);
        return (former.map(|status| status.other_validators.clone()).unwrap_or_default(), count);
    };
    let ours: BTreeSet<&str> = own.iter().filter_map(|validator| validator.public_key.as_deref()).collect();
    let members = set.validators.iter().map(|member| (member.public_key.as_str(), member.address.as_str()));
    let members: Vec<_> = members.filter(|(key, _)| !ours.contains(key)).collect();
    let rest = set.candidates.iter().map(|candidate| (candidate.public_key.as_str(), candidate.address.as_str()));
    let rest = rest.filter(|(key, _)| !ours.contains(key) && set.member(key).is_none());
    let all: Vec<_> = members.into_iter().chain(rest).collect();
    let shown =
        all.iter().take(OTHERS_MAX).map(|(key, address)| other(set, visit.validated.settings.mode, key, address));
    (shown.collect(), i32::try_from(all.len()).unwrap_or(i32::MAX))
}

fn other(set: &ChainSet, mode: Mode, key: &str, address: &str) -> OtherValidator {
    OtherValidator {
        public_key: key.to_owned(),
        address: address.to_owned(),
        weight: set.weight_of(key),
        on_chain: on_chain(set.candidate(key)),
        state: match standing(set, mode, key) {
            Standing::Jailed => ValidatorState::Jailed,
            Standing::Member if set.seems_live(key) => ValidatorState::Active,
            Standing::Member => ValidatorState::Pending,
            Standing::Leaving => ValidatorState::Leaving,
            Standing::Candidate => ValidatorState::Candidate,
            Standing::Outside => ValidatorState::Left,
        },
    }
}

/// The validators counted.
pub fn count(visit: Visit<'_>, chain: &Chain, desired: i32, others: i32) -> ValidatorsStatus {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let ready = number(chain.validators.values().filter(|view| view.ready && !view.terminating).count());
    let signing = || chain.signing().filter(|(_, view)| view.signed_height > 0).map(|(_, view)| view.weight);
    let live = signing().sum::<i64>() + chain.others.live;
    let total = chain.total();
    let to_spare = quorum::spare(total) - (total - live);
    ValidatorsStatus {
        desired,
        ready,
        signing: number(signing().count()),
        summary: format!("{ready}/{desired}"),
        others,
        total_weight: total,
        live_weight: live,
        fault_tolerance: visit.validated.members.fault_tolerance(),
        disruptions_allowed: quorum::heaviest_within(signing(), to_spare),
    }
}

fn on_chain(candidate: Option<&Candidate>) -> OnChain {
    let Some(known) = candidate else { return OnChain::default() };
    let positive = |amount: i64| (amount > 0).then_some(amount);
    OnChain {
        stake: positive(known.stake),
        unbonding: positive(known.unbonding),
        jailed_for: known.jailed_for.map(|cause| match cause {
            JailedFor::DoubleSigning => JailCause::DoubleSigning,
            JailedFor::Absence => JailCause::Absence,
        }),
        jailed_until_epoch: known.jailed_until,
    }
}

fn standing(set: &ChainSet, mode: Mode, key: &str) -> Standing {
    let (candidate, is_next) = (set.candidate(key), set.is_next(key));
    if candidate.is_some_and(|known| known.jailed_for.is_some()) {
        return Standing::Jailed;
    }
    let wanted = candidate.is_some_and(|known| known.stake > 0 || (known.admitted && mode != Mode::Pos));
    match (set.member(key).is_some(), is_next) {
        (true, true) => Standing::Member,
        (true, false) => Standing::Leaving,
        (false, true) => Standing::Candidate,
        (false, false) if wanted => Standing::Candidate,
        (false, false) => Standing::Outside,
    }
}

/// What the chain made of it when a node last said so.
fn remembered(known: &ValidatorStatus, decides: bool) -> Standing {
    match known.state {
        _ if known.on_chain.jailed_for.is_some() => Standing::Jailed,
        ValidatorState::Leaving => Standing::Leaving,
        ValidatorState::Left => Standing::Outside,
        _ if decides => Standing::Member,
        _ => Standing::Candidate,
    }
}

fn state(
    known: &ValidatorStatus,
    standing: Standing,
    pod: Option<&Pod>,
    sync: Option<&SyncStatus>,
    signing: bool,
) -> ValidatorState {
    let was_member = known.weight.is_some_and(|weight| weight > 0) || known.state == ValidatorState::Left;
    match (standing, sync.map(SyncStatus::voting_state)) {
        (Standing::Jailed, _) => ValidatorState::Jailed,
        _ if pod.is_some_and(is_fenced) => ValidatorState::Fenced,
        (_, Some(VotingState::Quarantined)) => ValidatorState::Quarantined,
        // Until it says otherwise: a restart ends no quarantine, and the same one does not begin twice.
        (_, None | Some(VotingState::Checking)) if known.state == ValidatorState::Quarantined => known.state,
        (Standing::Outside, _) if was_member => ValidatorState::Left,
        (_, None) => ValidatorState::Pending,
        (Standing::Leaving, Some(_)) => ValidatorState::Leaving,
        (Standing::Member, Some(_)) if signing => ValidatorState::Active,
        (Standing::Member, Some(_)) => ValidatorState::Syncing,
        (Standing::Candidate | Standing::Outside, Some(_)) if sync.is_some_and(|sync| sync.catching_up) => {
            ValidatorState::Syncing
        }
        (Standing::Candidate | Standing::Outside, Some(_)) => ValidatorState::Candidate,
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
