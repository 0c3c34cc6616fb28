//! Pure: what happens next to volumes, StatefulSet and pods, so that the chain never loses its quorum.
//!
//! A pod is replaced because its template changed. The rules, each a test below or in `plan/tests.rs`:
//!
//! 1. One voluntary disruption at a time, recorded in `status.operation` before the pod is deleted: a restarted operator goes on with it,
//!    and weighs it anew while the pod is untouched.
//! 2. The next one only after the last target is ready *and* has signed above the height at which it was stopped. One that decides
//!    nothing on the chain need not sign. A successor that says that it does not sign, while the chain goes on and can spare it, makes
//!    way for a newer template.
//! 3. Never more voting power down than `floor((W - 1) / 3)`, as the chain says it for this epoch and the next, which may begin while the
//!    target restarts, whoever took the others down. Where the target alone is more, as each of n ≤ 3 is, all others must sign, the chain
//!    pauses for that restart, and an event says so. Who is quarantined is down: it casts no vote. Who decides from the next epoch on
//!    only is down unless it keeps up, and then its restart takes nothing along. An answer that is missing is no answer: one that is
//!    ready and says nothing is weighed as one that does its part, and while it is only a moment ago that a node said who decides next,
//!    no restart begins that hangs on it.
//! 4. A halted chain means no deletions.
//! 5. A pod whose node does not even run takes no voting power along: it is replaced at once, that is how a broken image is mended.
//!    Not while the chain advances and another restart is in flight: it may come back by itself sooner.
//! 6. Paused: nothing. Hibernated: no pods, hence nothing to replace.
//! 7. A pod that runs is deleted only if its successor can be made: its template is known to be outdated, and keys, genesis and database
//!    addresses are there.

use crate::crd::Suspend;
use crate::crd::status::{Operation, OperationStep, OperationType};
use crate::names;
use crate::observe::{Observed, SyncStatus, VotingState};
use crate::validate::members::{self, Members};
use crate::validate::{Problem, Settings, Validated};
use crate::{quantity, quorum};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// A validator signs if its last signature is at most this many blocks behind its own height: both come from one answer, while heights
/// of several nodes, asked one after the other, differ under load.
const SIGNED_LAG_BLOCKS: i64 = 10;
/// A chain is halted after ten block times without a block, but not before this.
const HALTED_AFTER_MIN: Duration = Duration::from_secs(15);

/// What happens next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Pods the StatefulSet shall have.
    pub replicas: i32,
    /// Claims that grow.
    pub grow: Vec<Growth>,
    /// UID of a StatefulSet whose claim template is too small: it is deleted without its pods and made again.
    pub recreate: Option<String>,
    /// Pods that are deleted once status is written.
    pub replace: Vec<Replacement>,
    /// What `status.operation` shall say.
    pub operation: Option<Operation>,
    /// How far the roll-out is.
    pub rollout: Rollout,
    /// What happened or is about to happen, for people.
    pub notes: Vec<Note>,
}

/// A claim that grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Its name.
    pub claim: String,
    /// Its new size.
    pub size: String,
}

/// A pod that is deleted so that the StatefulSet makes its successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Its name.
    pub pod: String,
    /// Its UID: only this very pod is deleted.
    pub uid: String,
}

/// How far a roll-out is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rollout {
    /// Every pod is of the current template, or there is none yet.
    #[default]
    Complete,
    /// Pods are being replaced.
    Running {
        /// Pods of the current template.
        updated: i32,
        /// What it waits for.
        waiting: Option<Problem>,
    },
}

/// An event of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A validator is about to be restarted.
    Restarting { pod: String },
    /// A restarted validator signs again.
    Restarted { pod: String, height: i64 },
    /// A pod that did not run is replaced.
    Replacing { pod: String },
    /// The restart halts the chain for a while: it cannot spare that validator.
    NoFaultTolerance { pod: String },
}

/// One validator as the planner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Its pod's UID; `None`: there is no pod.
    pub uid: Option<String>,
    /// The pod is on its way out.
    pub terminating: bool,
    /// The node's container runs.
    pub running: bool,
    /// The pod is ready.
    pub ready: bool,
    /// Its voting power in this epoch; 0: it decides nothing.
    pub weight: i64,
    /// That in the next epoch.
    pub next_weight: i64,
    /// It keeps up with the chain and may vote: all that one can do that decides nothing yet.
    pub follows: bool,
    /// It said at this visit how it is.
    pub answered: bool,
    /// It takes part in finalising.
    pub signing: bool,
    /// Height of its last signature.
    pub signed_height: i64,
    /// The pod is of the current template; `None` while the StatefulSet's controller has yet to say.
    pub current: Option<bool>,
}

impl View {
    /// Whether it does what the next epoch's set will need of it.
    fn is_fit(&self) -> bool {
        self.signing || (self.weight == 0 && self.follows)
    }

    /// Whether it is known to do none of that, by its own words or by the kubelet's. One that is ready and did not answer in time may.
    fn is_known_unfit(&self) -> bool {
        !self.is_fit() && (self.answered || !self.ready)
    }
}

/// Voting power of validators of nobody here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Of those that do their part.
    pub live: i64,
    /// Of those that do not.
    pub down: i64,
}

/// All validators as the planner sees them.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// By ordinal, one for each validator.
    pub validators: BTreeMap<i32, View>,
    /// Those of nobody here, in this epoch.
    pub others: Others,
    /// Those in the next epoch; `None`: no node says who decides then.
    pub next_others: Option<Others>,
    /// No node says who decides, and a moment ago one did: another visit will know.
    pub next_awaited: bool,
    /// How far it is, as the node that is believed says.
    pub height: i64,
    /// Whether blocks are being made.
    pub advancing: bool,
    /// Why the successor of a pod could not be made.
    pub obstacle: Option<Problem>,
}

impl Chain {
    /// Voting power of all.
    pub fn total(&self) -> i64 {
        self.validators.values().map(|view| view.weight).sum::<i64>() + self.others.live + self.others.down
    }

    /// This network's validators that sign.
    pub fn signing(&self) -> impl Iterator<Item = (&i32, &View)> {
        self.validators.iter().filter(|(_, view)| view.signing)
    }

    /// This network's validators that should sign and do not.
    pub fn silent(&self) -> impl Iterator<Item = (&i32, &View)> {
        self.validators.iter().filter(|(_, view)| view.weight > 0 && !view.signing)
    }
}

impl Plan {
    /// The plan without what disturbs a pod, as the look at the cluster that it rests on is too old for that: `former` stays.
    pub fn held_back(self, former: Option<&Operation>, why: Problem) -> Self {
        let begins = self.notes.iter().any(|note| matches!(note, Note::Restarting { .. }));
        let goes_on = former.filter(|_| self.operation.is_some() && !begins);
        let operation = goes_on.map(|former| Operation { message: why.message.clone(), ..former.clone() });
        let notes = self.notes.into_iter().filter(|note| matches!(note, Note::Restarted { .. })).collect();
        let rollout = match self.rollout {
            Rollout::Running { updated, .. } => Rollout::Running { updated, waiting: Some(why) },
            Rollout::Complete => Rollout::Complete,
        };
        Plan { replace: Vec::new(), operation, rollout, notes, ..self }
    }
}

/// Plans the next step; `set_seen` is when a node last said who decides.
pub fn plan(
    validated: &Validated,
    observed: &Observed,
    former: Option<&Operation>,
    set_seen: Option<Timestamp>,
) -> Plan {
    match validated.settings.suspend {
        Suspend::Paused => Plan { operation: former.cloned(), ..idle(observed) },
        Suspend::Hibernated => Plan { replicas: 0, ..Plan::default() },
        Suspend::Active => active(validated, observed, former, set_seen),
    }
}

fn idle(observed: &Observed) -> Plan {
    let replicas = observed.stateful_set.as_ref().and_then(|set| set.spec.as_ref()?.replicas);
    Plan { replicas: replicas.unwrap_or(0), ..Plan::default() }
}

fn active(validated: &Validated, observed: &Observed, former: Option<&Operation>, set_seen: Option<Timestamp>) -> Plan {
    let settings = &validated.settings;
    let grow = growths(settings, &observed.claims);
    let recreate = observed.stateful_set.as_ref().filter(|set| template_too_small(settings, set));
    let next_awaited = members::is_awaited(validated.set.as_ref(), set_seen, observed.now);
    let chain = Chain { next_awaited, ..chain(validated, observed) };
    let steps = roll(&settings.identity.name, &chain, former, observed.now);
    Plan { replicas: settings.replicas, grow, recreate: recreate.and_then(|set| set.metadata.uid.clone()), ..steps }
}

fn growths(settings: &Settings, claims: &BTreeMap<i32, PersistentVolumeClaim>) -> Vec<Growth> {
    let Some(volume) = settings.store.volume() else { return Vec::new() };
    let Some(wanted) = quantity::bytes(&volume.size) else { return Vec::new() };
    let small = claims.values().filter(|claim| claim_bytes(claim).is_some_and(|has| has < wanted));
    small
        .map(|claim| Growth { claim: claim.metadata.name.clone().unwrap_or_default(), size: volume.size.clone() })
        .collect()
}

fn claim_bytes(claim: &PersistentVolumeClaim) -> Option<u128> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    quantity::bytes(&requests.get("storage")?.0)
}

fn template_too_small(settings: &Settings, set: &StatefulSet) -> bool {
    let wanted = settings.store.volume().and_then(|volume| quantity::bytes(&volume.size));
    let templates = set.spec.iter().flat_map(|spec| spec.volume_claim_templates.iter().flatten());
    templates.filter_map(claim_bytes).any(|has| wanted.is_some_and(|wanted| has < wanted))
}

/// Condenses the observation to what the rules need.
pub fn chain(validated: &Validated, observed: &Observed) -> Chain {
    let (settings, members) = (&validated.settings, &validated.members);
    let best = observed.best();
    let revision = observed.stateful_set.as_ref().and_then(revision);
    // No block is of the future: one node that says so does not leave all others behind.
    let newest_ms = observed.sync.values().map(|sync| sync.last_block_time_ms).max().unwrap_or(0);
    let newest_ms = newest_ms.min(observed.now.as_millisecond());
    let one = |ordinal: i32| {
        let sync = observed.sync.get(&ordinal);
        let weight = members.weight_of(ordinal);
        let next_weight = validated.next_members.as_ref().map_or(weight, |next| next.weight_of(ordinal));
        let follows = sync.is_some_and(|sync| follows(settings, sync, newest_ms));
        let view = observed.pods.get(&ordinal).map(|pod| view(pod, sync, follows, revision.as_deref()));
        let view = view.unwrap_or_default();
        let signing = weight > 0 && view.follows && sync.is_some_and(signs_what_it_has);
        (ordinal, View { weight, next_weight, signing, ..view })
    };
    Chain {
        validators: (0..settings.replicas).map(one).collect(),
        others: others(members),
        next_others: validated.next_members.as_ref().map(others),
        next_awaited: false,
        height: best.map_or(0, |sync| sync.height),
        advancing: best.is_some_and(|sync| is_advancing(settings, sync, observed.now)),
        obstacle: validated.obstacle().cloned(),
    }
}

fn others(members: &Members) -> Others {
    let sum = |live: bool| members.others.iter().filter(|other| other.live == live).map(|other| other.weight).sum();
    Others { live: sum(true), down: sum(false) }
}

/// Revision of the current template, once the StatefulSet's controller has seen that template.
fn revision(set: &StatefulSet) -> Option<String> {
    let status = set.status.as_ref()?;
    (status.observed_generation == set.metadata.generation).then(|| status.update_revision.clone())?
}

/// True while blocks come at least every ten block times.
pub fn is_advancing(settings: &Settings, sync: &SyncStatus, now: Timestamp) -> bool {
    let patience = halted_after(settings);
    let age_ms = now.as_millisecond().saturating_sub(sync.last_block_time_ms);
    sync.height > 0 && u128::try_from(age_ms).unwrap_or(0) <= patience.as_millis()
}

/// How long a pause between blocks may be before the chain counts as halted.
pub fn halted_after(settings: &Settings) -> Duration {
    settings.block_time.saturating_mul(10).max(HALTED_AFTER_MIN)
}

/// True where a node keeps up with the newest block and may vote. One that may not is of no use, whatever it signed before.
fn follows(settings: &Settings, sync: &SyncStatus, newest_ms: i64) -> bool {
    let behind_ms = u128::try_from(newest_ms.saturating_sub(sync.last_block_time_ms)).unwrap_or(0);
    let keeps_up = !sync.catching_up && behind_ms <= halted_after(settings).as_millis();
    let may_vote = match sync.voting_state() {
        VotingState::Voting | VotingState::Unknown => true,
        VotingState::Checking | VotingState::Quarantined => false,
    };
    may_vote && keeps_up
}

fn signs_what_it_has(sync: &SyncStatus) -> bool {
    sync.signed_height().saturating_add(SIGNED_LAG_BLOCKS) >= sync.height
}

fn view(pod: &Pod, sync: Option<&SyncStatus>, follows: bool, revision: Option<&str>) -> View {
    let ready = is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("controller-revision-hash"));
    View {
        uid: pod.metadata.uid.clone(),
        terminating,
        running: is_running(pod),
        ready,
        answered: sync.is_some(),
        follows: ready && !terminating && follows,
        signed_height: sync.map_or(0, SyncStatus::signed_height),
        current: revision.map(|revision| label.is_some_and(|label| label == revision)),
        ..View::default()
    }
}

/// True where the pod's Ready condition is.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_running(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut node = containers.filter(|container| container.name == names::CONTAINER);
    node.any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}

/// The rules 1 to 5 and 7 of this file.
pub fn roll(network: &str, chain: &Chain, former: Option<&Operation>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let in_flight = former.and_then(|operation| go_on(network, chain, operation, &mut plan));
    if in_flight.is_none() || !chain.advancing {
        replace_what_does_not_run(network, chain, &mut plan);
    }
    plan.operation = in_flight;
    let outdated = chain.validators.values().filter(|view| view.current == Some(false)).count();
    if plan.operation.is_none() && outdated == 0 {
        return plan;
    }
    let waiting = match &plan.operation {
        Some(operation) => Some(Problem::new("WaitingForValidator", operation.message.clone())),
        None => begin(network, chain, now, &mut plan).err(),
    };
    let updated = chain.validators.values().filter(|view| view.current == Some(true)).count();
    plan.rollout = Rollout::Running { updated: i32::try_from(updated).unwrap_or(i32::MAX), waiting };
    plan
}

/// Goes on with the operation in flight; `None` once it is done.
fn go_on(network: &str, chain: &Chain, operation: &Operation, plan: &mut Plan) -> Option<Operation> {
    let ordinal = names::ordinal_of(network, &operation.target)?;
    let view = chain.validators.get(&ordinal)?;
    let at = |step, message: String| Some(Operation { step, message, ..operation.clone() });
    let target = &operation.target;
    match &view.uid {
        None => at(OperationStep::Starting, format!("waiting for pod {target} to be created")),
        Some(uid) if *uid == operation.pod_uid => {
            let message = stop(chain, ordinal, view, target)?;
            if !view.terminating && view.current.is_some() {
                plan.replace.push(Replacement { pod: target.clone(), uid: uid.clone() });
            }
            at(OperationStep::Stopping, message)
        }
        Some(_) if view.ready && (view.weight == 0 || view.signed_height > signed_before(chain, operation)) => {
            plan.notes.push(Note::Restarted { pod: target.clone(), height: view.signed_height });
            None
        }
        // The template changed again before the successor signed: it is replaced in turn, under the same operation.
        Some(uid) if view.current == Some(false) && !view.terminating && is_of_no_use(chain, ordinal, view, target) => {
            plan.replace.push(Replacement { pod: target.clone(), uid: uid.clone() });
            let message = format!("waiting for the outdated pod {target} to stop");
            Some(Operation { step: OperationStep::Stopping, pod_uid: uid.clone(), message, ..operation.clone() })
        }
        Some(_) if view.ready => at(OperationStep::Signing, has_yet_to_sign(chain, operation, view)),
        Some(_) => {
            at(OperationStep::Starting, format!("waiting for pod {target} to be ready: database up and caught up"))
        }
    }
}

/// The height above which a successor has to sign. Any that it tells it signed since its start; where the chain is not as high as was
/// thought when the operation began (a node lied, or databases were restored), nobody can sign above that.
fn signed_before(chain: &Chain, operation: &Operation) -> i64 {
    operation.from_height.min(chain.height - 1).max(0)
}

fn has_yet_to_sign(chain: &Chain, operation: &Operation, view: &View) -> String {
    let (target, height) = (&operation.target, signed_before(chain, operation));
    let by_hand = match view.current {
        Some(false) => {
            format!("; once you know why it does not, \"kubectl delete pod {target}\" brings up the newer template")
        }
        Some(true) | None => String::new(),
    };
    format!("waiting for {target} to sign above height {height}{by_hand}")
}

/// What is waited for while the pod that was to stop is still there; `None`: it stays, or is chosen anew. As long as nothing has
/// happened to it, much may have to the others since it was chosen.
fn stop(chain: &Chain, ordinal: i32, view: &View, target: &str) -> Option<String> {
    let stopping = format!("waiting for the old pod {target} to stop");
    match view.current {
        _ if view.terminating => Some(stopping),
        Some(true) => None,
        // It takes no voting power along.
        Some(false) if !view.ready && chain.obstacle.is_none() => Some(stopping),
        Some(false) => can_spare(chain, ordinal, view, target).ok().map(|()| stopping),
        None => Some(format!("waiting for the new template of {target} to be seen")),
    }
}

/// True where a successor does nothing that its own successor would have to do again. One that is ready has to say so itself, and is
/// weighed as every other: it may sign with its next breath. Whether it would only a chain that advances tells.
fn is_of_no_use(chain: &Chain, target: i32, view: &View, pod: &str) -> bool {
    if !view.ready {
        return chain.obstacle.is_none();
    }
    view.answered && !view.signing && can_spare(chain, target, view, pod).is_ok()
}

/// Rule 5.
fn replace_what_does_not_run(network: &str, chain: &Chain, plan: &mut Plan) {
    for (ordinal, view) in &chain.validators {
        let Some(uid) = &view.uid else { continue };
        let pod = names::pod(network, *ordinal);
        let already = plan.replace.iter().any(|replacement| replacement.pod == pod);
        if view.current == Some(false) && !view.running && !view.terminating && !already {
            plan.notes.push(Note::Replacing { pod: pod.clone() });
            plan.replace.push(Replacement { pod, uid: uid.clone() });
        }
    }
}

/// Chooses the next pod, if the chain can spare it; else says why not.
fn begin(network: &str, chain: &Chain, now: Timestamp, plan: &mut Plan) -> Result<(), Problem> {
    // One that does nothing for any epoch goes first: the others may have to wait for it. Then one that does not answer, for the same
    // reason, then one that does not decide yet: it costs nothing. Then from the highest ordinal down.
    let turn = |ordinal: i32, view: &View| (!view.is_known_unfit(), view.is_fit(), view.signing, -ordinal);
    let candidates =
        chain.validators.iter().filter(|(_, view)| view.current == Some(false) && !view.terminating && view.running);
    let Some((ordinal, view)) = candidates.min_by_key(|(ordinal, view)| turn(**ordinal, view)) else {
        return Err(Problem::new("WaitingForValidator", "waiting for pods of the former template to stop"));
    };
    let pod = names::pod(network, *ordinal);
    can_spare(chain, *ordinal, view, &pod)?;
    if view.weight > quorum::spare(chain.total()) {
        plan.notes.push(Note::NoFaultTolerance { pod: pod.clone() });
    }
    let uid = view.uid.clone().unwrap_or_default();
    plan.notes.push(Note::Restarting { pod: pod.clone() });
    plan.replace.push(Replacement { pod: pod.clone(), uid: uid.clone() });
    plan.operation = Some(Operation {
        type_: OperationType::Restart,
        message: format!("waiting for the old pod {pod} to stop"),
        target: pod,
        step: OperationStep::Stopping,
        since: Time(now),
        pod_uid: uid,
        from_height: chain.height,
    });
    Ok(())
}

/// One epoch's set at the restart of one validator.
struct Scale {
    /// Voting power of the target.
    weight: i64,
    /// That of all others that are down, and who they are.
    down: i64,
    who: Vec<String>,
    /// That of everybody.
    total: i64,
}

impl Scale {
    /// `of` says what a validator weighs in that epoch, and whether it does its part.
    fn new(chain: &Chain, target: i32, others: Others, of: impl Fn(&View) -> (i64, bool)) -> Self {
        let all: Vec<(i32, i64, bool)> =
            chain.validators.iter().map(|(i, view)| (*i, of(view).0, of(view).1)).collect();
        let silent = || all.iter().filter(|(i, weight, live)| *i != target && *weight > 0 && !live);
        let mut who: Vec<String> = silent().map(|(i, _, _)| i.to_string()).collect();
        if others.down > 0 {
            who.push(format!("of others with a voting power of {}", others.down));
        }
        Scale {
            weight: all.iter().find(|(i, _, _)| *i == target).map_or(0, |(_, weight, _)| *weight),
            down: silent().map(|(_, weight, _)| weight).sum::<i64>() + others.down,
            who,
            total: all.iter().map(|(_, weight, _)| weight).sum::<i64>() + others.live + others.down,
        }
    }

    fn bears_it(&self) -> bool {
        self.weight == 0 || self.down == 0 || self.down + self.weight <= quorum::spare(self.total)
    }
}

/// Rules 3, 4 and 7.
fn can_spare(chain: &Chain, target: i32, view: &View, pod: &str) -> Result<(), Problem> {
    if let Some(obstacle) = &chain.obstacle {
        return Err(Problem::new(obstacle.reason, format!("no validator is restarted: {}", obstacle.message)));
    }
    if !chain.advancing {
        let message = format!(
            "no block is being made, so no validator is restarted; once you know why, \"kubectl delete pod {pod}\" brings up the new template"
        );
        return Err(Problem::new("ChainHalted", message));
    }
    let now = Scale::new(chain, target, chain.others, |view| (view.weight, view.signing));
    if !now.bears_it() {
        let message = format!("validators {} do not sign, {pod} has to wait for them", now.who.join(", "));
        return Err(Problem::new("WaitingForQuorum", message));
    }
    if view.is_known_unfit() {
        // The next epoch does not miss what is of no use to it now: so a pod that its set waits for is mended.
        return Ok(());
    }
    if chain.next_awaited {
        let message =
            format!("no validator says at the moment who decides in the next epoch, {pod} has to wait for that");
        return Err(Problem::new("WaitingForQuorum", message));
    }
    let Some(others) = chain.next_others else { return unless_it_comes_in(&now, view, pod) };
    let next = Scale::new(chain, target, others, |view| (view.next_weight, view.is_fit()));
    if !next.bears_it() {
        let message = format!(
            "validators {} do not sign or keep up, {pod} has to wait for them: the next epoch, which may begin at once, needs it",
            next.who.join(", ")
        );
        return Err(Problem::new("WaitingForQuorum", message));
    }
    Ok(())
}

/// Where no node has said for a while who decides next, one that decides nothing may be about to.
fn unless_it_comes_in(now: &Scale, view: &View, pod: &str) -> Result<(), Problem> {
    if view.weight > 0 || now.down == 0 {
        return Ok(());
    }
    let message = format!(
        "validators {} do not sign, and no validator says whether {pod} decides in the next epoch: it has to wait",
        now.who.join(", ")
    );
    Err(Problem::new("WaitingForQuorum", message))
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
