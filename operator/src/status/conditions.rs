//! Pure: the conditions, each a function of its own, and their transition times.

use crate::crd::status::{JailCause, ValidatorStatus, ValidatorsStatus};
use crate::crd::{Optional, Suspend};
use crate::observe::{SyncStatus, VotingState};
use crate::plan::{Chain, Rollout};
use crate::quorum;
use crate::status::Visit;
use crate::status::validators::is_fenced;
use crate::validate::{Problem, members};
use aitbc_core::genesis::Mode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::collections::BTreeMap;

/// The condition that says who decides on the chain.
const SET_SYNCED: &str = "ValidatorSetSynced";

/// All condition types, in the order they are written.
pub const NAMES: [&str; 11] = [
    "Ready",
    "KeysReady",
    "GenesisReady",
    "DatabaseReady",
    "Available",
    "Progressing",
    "Degraded",
    "QuorumSafe",
    SET_SYNCED,
    "FaultDomainsIndependent",
    "Suspended",
];

/// What conditions are made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The visit.
    pub visit: Visit<'a>,
    /// The validators as the planner sees them.
    pub chain: &'a Chain,
    /// The validators counted.
    pub validators: &'a ValidatorsStatus,
    /// Each of this network's.
    pub own: &'a [ValidatorStatus],
}

/// One condition before it has a time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn yes(reason: &'static str, message: impl Into<String>) -> Finding {
    Finding { status: "True", reason, message: message.into() }
}

fn no(reason: &'static str, message: impl Into<String>) -> Finding {
    Finding { status: "False", reason, message: message.into() }
}

fn unknown(reason: &'static str, message: impl Into<String>) -> Finding {
    Finding { status: "Unknown", reason, message: message.into() }
}

fn no_for(problem: &Problem) -> Finding {
    no(problem.reason, problem.message.clone())
}

/// All conditions; a transition time changes only with the status of its condition.
pub fn all(facts: Facts<'_>, former: &[Condition]) -> Vec<Condition> {
    let findings = [
        ("KeysReady", keys(facts)),
        ("GenesisReady", genesis(facts)),
        ("DatabaseReady", database(facts)),
        ("Available", available(facts)),
        ("Progressing", progressing(facts)),
        ("Degraded", degraded(facts)),
        ("QuorumSafe", quorum_safe(facts)),
        (SET_SYNCED, set_synced(facts)),
        ("FaultDomainsIndependent", fault_domains(facts)),
        ("Suspended", suspended(facts)),
    ];
    let ready = ready(facts, &findings);
    let all = std::iter::once(("Ready", ready)).chain(findings);
    all.map(|(type_, finding)| kept(facts, former, type_).unwrap_or_else(|| dated(facts, former, type_, finding)))
        .collect()
}

/// Who decides, as it was known a moment ago.
fn kept(facts: Facts<'_>, former: &[Condition], type_: &str) -> Option<Condition> {
    let Visit { validated, set_seen, observed, network, .. } = facts.visit;
    let keeps = type_ == SET_SYNCED && members::is_awaited(validated.set.as_ref(), set_seen, observed.now);
    let known = former.iter().find(|condition| keeps && condition.type_ == type_)?;
    Some(Condition { observed_generation: network.metadata.generation, ..known.clone() })
}

fn dated(facts: Facts<'_>, former: &[Condition], type_: &str, finding: Finding) -> Condition {
    let same = former.iter().find(|condition| condition.type_ == type_ && condition.status == finding.status);
    // Whole seconds, as the API stores them; a fraction would make every status look changed.
    let now = Time(facts.visit.observed.now.round(k8s_openapi::jiff::Unit::Second).unwrap_or(facts.visit.observed.now));
    Condition {
        type_: type_.to_owned(),
        status: finding.status.to_owned(),
        reason: finding.reason.to_owned(),
        message: finding.message,
        observed_generation: facts.visit.network.metadata.generation,
        last_transition_time: same.map_or(now, |condition| condition.last_transition_time.clone()),
    }
}

fn keys(facts: Facts<'_>) -> Finding {
    match &facts.visit.validated.keys {
        Err(problem) => no_for(problem),
        Ok(keys) if keys.complete() => yes("KeysReady", format!("{} validators have their key", keys.known.len())),
        Ok(keys) => no("Creating", format!("{} key Secrets are being created", keys.create.len())),
    }
}

fn genesis(facts: Facts<'_>) -> Finding {
    match &facts.visit.validated.genesis {
        Err(problem) => no_for(problem),
        Ok(genesis) => yes("GenesisReady", format!("genesis hash {}", genesis.hash)),
    }
}

fn database(facts: Facts<'_>) -> Finding {
    if let Err(problem) = &facts.visit.validated.databases {
        return no_for(problem);
    }
    if facts.visit.validated.settings.suspend == Suspend::Hibernated {
        return unknown("Hibernated", "the databases are stopped with their validators");
    }
    let (mut down, mut silent) = (Vec::new(), Vec::new());
    for ordinal in 0..facts.visit.validated.settings.replicas {
        match facts.visit.observed.sync.get(&ordinal) {
            Some(sync) if sync.database_ready => {}
            Some(_) => down.push(ordinal.to_string()),
            None => silent.push(ordinal.to_string()),
        }
    }
    match (down.is_empty(), silent.is_empty()) {
        (false, _) => no("DatabaseDown", format!("the databases of validators {} do not serve", down.join(", "))),
        (true, false) => unknown("ValidatorsSilent", format!("validators {} do not answer yet", silent.join(", "))),
        (true, true) => yes("DatabasesServe", "every validator's database serves"),
    }
}

fn available(facts: Facts<'_>) -> Finding {
    if facts.visit.validated.settings.suspend == Suspend::Hibernated {
        return no("Hibernated", "all pods are stopped; set spec.suspend to Active to go on");
    }
    match facts.visit.observed.best() {
        None => unknown("ValidatorsSilent", "no validator answers yet"),
        Some(best) if best.height == 0 => no("NoBlockYet", "the validators have not agreed on a first block yet"),
        Some(_) if facts.chain.advancing => yes("BlocksAdvance", "blocks are being made"),
        Some(best) => no(
            "ChainHalted",
            format!(
                "no block since height {}: {} of {} of the voting power signs, more than two thirds must",
                best.height, facts.validators.live_weight, facts.validators.total_weight
            ),
        ),
    }
}

fn progressing(facts: Facts<'_>) -> Finding {
    let Visit { validated, plan, .. } = facts.visit;
    match validated.settings.suspend {
        Suspend::Paused => return no("Paused", "spec.suspend is Paused: nothing is written but status"),
        Suspend::Hibernated if facts.chain.validators.values().any(|view| view.uid.is_some()) => {
            return yes("Hibernating", "the validators are being stopped");
        }
        Suspend::Hibernated => return no("Hibernated", "all pods are stopped"),
        Suspend::Active => {}
    }
    if !plan.grow.is_empty() || plan.recreate.is_some() {
        return yes("GrowingVolumes", format!("{} volumes are being enlarged", plan.grow.len()));
    }
    match &plan.rollout {
        Rollout::Running { updated, waiting } => {
            let progress = format!("{updated} of {} validators have the new template", validated.settings.replicas);
            match waiting {
                Some(problem) => yes("RollingOut", format!("{progress}; {}", problem.message)),
                None => yes("RollingOut", progress),
            }
        }
        Rollout::Complete if facts.validators.ready < facts.validators.desired => {
            yes("Starting", format!("{} of {} validators are ready", facts.validators.ready, facts.validators.desired))
        }
        Rollout::Complete => no("Complete", "every validator has the current template"),
    }
}

fn degraded(facts: Facts<'_>) -> Finding {
    if let Some(failed) = facts.visit.failed {
        return yes(failed.reason, failed.message.clone());
    }
    let settings = &facts.visit.validated.settings;
    if settings.monitoring.service_monitor == Optional::Enabled && facts.visit.observed.monitors.is_none() {
        let message =
            "monitoring.serviceMonitor is Enabled and the cluster has no ServiceMonitor API; install it, or use Auto";
        return yes("ServiceMonitorMissing", message);
    }
    if let Some(found) = fenced(facts).or_else(|| quarantined(facts)) {
        return found;
    }
    let began = facts.chain.height > 0 && settings.suspend != Suspend::Hibernated;
    if let Some(names) = jailed(facts) {
        return yes("ValidatorJailed", format!("{names}; {UNJAIL}"));
    }
    let silent: Vec<String> = facts.chain.silent().map(|(ordinal, _)| ordinal.to_string()).collect();
    if began && !silent.is_empty() {
        return yes("ValidatorsDown", format!("validators {} do not sign", silent.join(", ")));
    }
    no("AsExpected", "nothing is amiss")
}

fn fenced(facts: Facts<'_>) -> Option<Finding> {
    let pods = facts.visit.observed.pods.values().filter(|pod| is_fenced(pod));
    let names: Vec<&str> = pods.filter_map(|pod| pod.metadata.name.as_deref()).collect();
    let message =
        format!("{} stopped itself because its key or database is in use elsewhere; see its log", names.join(", "));
    (!names.is_empty()).then(|| yes("ValidatorFenced", message))
}

/// Validators without a vote, why, and what gives it back (protocol A5): answers of a quorum that is not quarantined itself.
fn quarantined(facts: Facts<'_>) -> Option<Finding> {
    let all = facts.visit.observed.sync.iter().filter(|(_, sync)| sync.voting_state() == VotingState::Quarantined);
    let all: Vec<(&i32, &SyncStatus)> = all.collect();
    let (first, sync) = all.first()?;
    let ordinals: Vec<String> = all.iter().map(|(ordinal, _)| ordinal.to_string()).collect();
    let total = facts.chain.total();
    let others = total - all.iter().map(|(ordinal, _)| facts.visit.validated.members.weight_of(**ordinal)).sum::<i64>();
    let needed = quorum::quorum(total);
    let way_out = if others >= needed {
        format!(
            "each votes again by itself once {needed} of {total} of the voting power, not quarantined, have answered it"
        )
    } else {
        format!(
            "{needed} of {total} of the voting power, not quarantined, would have to answer, and only {others} are left: \
             see \"Lost databases\" in docs/operations.md"
        )
    };
    let why = sync.quarantine();
    let message =
        format!("validators {} are quarantined and cast no vote ({first}: {why}); {way_out}", ordinals.join(", "));
    Some(yes("ValidatorQuarantined", message))
}

fn quorum_safe(facts: Facts<'_>) -> Finding {
    let (live, total) = (facts.validators.live_weight, facts.validators.total_weight);
    if facts.visit.observed.best().is_none() {
        return unknown("ValidatorsSilent", "no validator answers yet");
    }
    if facts.validators.fault_tolerance == 0 {
        let message =
            "the chain cannot spare its heaviest validator: its restart halts it; use 4 or more of equal weight";
        return no("NoFaultTolerance", message);
    }
    if !quorum::is_quorum(live, total) {
        return no("QuorumLost", format!("{live} of {total} of the voting power signs, more than two thirds must"));
    }
    if facts.validators.disruptions_allowed == 0 && facts.validators.signing > 0 {
        return no(
            "NoSlack",
            format!("{live} of {total} of the voting power signs: one more validator down halts the chain"),
        );
    }
    yes("QuorumSafe", format!("{live} of {total} of the voting power signs, one more validator may go down"))
}

/// How a jailed validator comes back.
const UNJAIL: &str = "see \"Jail\" in docs/staking.md for how it comes back";

/// Which of this network's validators the chain has jailed, and why.
fn jailed(facts: Facts<'_>) -> Option<String> {
    let named = |validator: &ValidatorStatus| {
        let cause = match validator.on_chain.jailed_for? {
            JailCause::DoubleSigning => "double signing",
            JailCause::Absence => "absence",
        };
        Some(format!("validator {} is jailed for {cause}", validator.ordinal))
    };
    let all: Vec<String> = facts.own.iter().filter_map(named).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Whether the chain counts every validator of the network, and what is missing where it does not.
fn set_synced(facts: Facts<'_>) -> Finding {
    let Some(set) = &facts.visit.validated.set else {
        let message = match facts.visit.observed.set {
            None => "no validator says who decides",
            Some(_) => {
                "what validators say of who decides is of an earlier height than the chain had: they have yet to catch up"
            }
        };
        return unknown("ValidatorsSilent", message);
    };
    if let Some(names) = jailed(facts) {
        return no("ValidatorJailed", format!("{names}; {UNJAIL}"));
    }
    let is_next = |v: &&ValidatorStatus| v.public_key.as_deref().is_some_and(|key| set.is_next(key));
    let decides = |v: &&ValidatorStatus| v.weight.is_some_and(|weight| weight > 0);
    let leaving = ordinals(facts.own.iter().filter(|v| decides(v) && !is_next(v)));
    let joining = ordinals(facts.own.iter().filter(|v| !decides(v) && is_next(v)));
    let outside = ordinals(facts.own.iter().filter(|v| !decides(v) && !is_next(v)));
    if !leaving.is_empty() {
        return no(
            "ValidatorsLeaving",
            format!("validators {leaving} decide until the end of epoch {} only", set.epoch),
        );
    }
    if !outside.is_empty() {
        let needs = match facts.visit.validated.settings.mode {
            Mode::Poa => "ACTIVATE, and to be admitted",
            Mode::Pos => "ACTIVATE, and a stake",
            Mode::Hybrid => "ACTIVATE, a stake, and to be admitted",
        };
        let message = format!(
            "validators {outside} do not decide on the chain: each needs {needs} (docs/staking.md), and decides two epochs later"
        );
        return no("ValidatorsOutside", message);
    }
    if !joining.is_empty() {
        return no("ValidatorsJoining", format!("validators {joining} decide from epoch {} on", set.epoch + 1));
    }
    yes("Synced", format!("all {} validators decide on the chain", facts.own.len()))
}

fn ordinals<'a>(validators: impl Iterator<Item = &'a ValidatorStatus>) -> String {
    validators.map(|validator| validator.ordinal.to_string()).collect::<Vec<_>>().join(", ")
}

/// A third of the voting power in one place means that one failure stops the chain.
fn fault_domains(facts: Facts<'_>) -> Finding {
    let members = &facts.visit.validated.members;
    let mut places: BTreeMap<String, i64> = BTreeMap::new();
    for (ordinal, pod) in &facts.visit.observed.pods {
        if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) {
            *places.entry(format!("machine {node}")).or_default() += members.weight_of(*ordinal);
        }
    }
    if places.is_empty() {
        return unknown("NotScheduled", "no validator runs yet");
    }
    for (ordinal, host) in facts.visit.validated.databases.iter().flat_map(|databases| &databases.hosts) {
        *places.entry(format!("database server {host}")).or_default() += members.weight_of(*ordinal);
    }
    let total = members.total();
    match places.iter().max_by_key(|(_, weight)| **weight) {
        Some((place, weight)) if members.weights().count() > 1 && *weight * 3 >= total => no(
            "SharedFaultDomain",
            format!("{place} carries {weight} of {total} of the voting power: its failure halts the chain"),
        ),
        Some(_) | None => yes("Independent", "no machine or database server carries a third of the voting power"),
    }
}

fn suspended(facts: Facts<'_>) -> Finding {
    match facts.visit.validated.settings.suspend {
        Suspend::Active => no("Active", "the network runs"),
        Suspend::Paused => yes("Paused", "the network runs; the operator writes nothing but status"),
        Suspend::Hibernated => yes("Hibernated", "all pods are stopped; keys and volumes stay"),
    }
}

/// The first thing that is missing, in the order things come about.
fn ready(facts: Facts<'_>, findings: &[(&str, Finding)]) -> Finding {
    let needed = ["KeysReady", "GenesisReady"];
    let failing = |names: &[&str]| {
        findings.iter().find(|(name, finding)| names.contains(name) && finding.status != "True").map(|(_, f)| f.clone())
    };
    if let Some(missing) = failing(&needed) {
        return Finding { status: "False", ..missing };
    }
    if let Err(problem) = &facts.visit.validated.databases {
        return no_for(problem);
    }
    if facts.visit.validated.settings.suspend == Suspend::Hibernated {
        return no("Hibernated", "all pods are stopped; set spec.suspend to Active to go on");
    }
    let counted = facts.validators;
    if counted.ready < counted.desired {
        return no("ValidatorsNotReady", format!("{} of {} validators are ready", counted.ready, counted.desired));
    }
    if let Some(missing) = failing(&["DatabaseReady", "Available"]) {
        return Finding { status: "False", ..missing };
    }
    // Who decides nothing on the chain is no reason: that is what ValidatorSetSynced tells.
    let deciding = facts.visit.validated.members.own_count();
    if counted.signing < deciding {
        return no("ValidatorsNotSigning", format!("{} of {deciding} validators sign", counted.signing));
    }
    yes("Ready", format!("{} validators finalise blocks", counted.signing))
}
