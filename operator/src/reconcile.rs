//! One visit to a network: observe, validate, plan, build, apply, write status, and only then disturb a pod.
//!
//! Status goes before the disturbance: an operator that is restarted in between finds in `status.operation` what it was about to do.
//! What is told in an event stands in the written status too, or it would be told at every visit.

use crate::apply::{self, ApplyError, Memory, Writer};
use crate::cleanup::{self, Cleanup, CleanupError};
use crate::crd::status::{BlockchainNetworkStatus, Operation};
use crate::crd::{BlockchainNetwork, Suspend};
use crate::desired::{self, Parts};
use crate::events;
use crate::metrics::Metrics;
use crate::names;
use crate::names::Identity;
use crate::observe::{self, ObserveError, Observed};
use crate::plan::{self, Plan, Rollout};
use crate::status::{self, Visit};
use crate::validate::{self, Defaults, Problem, Validated};
use k8s_openapi::jiff::Timestamp;
use kube::api::Patch;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, Recorder};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a converged network is looked at, and how often heights and stakes in its status are refreshed.
const RESYNC: Duration = Duration::from_secs(10);
/// Least time between two writes of status that are about neither a decision of the operator nor anything that is told in an event.
const BETWEEN_NEWS: Duration = Duration::from_secs(1);
/// How soon a network is looked at again whose nodes are about to bring something about.
const SOON: Duration = Duration::from_millis(300);
/// How soon one is that waits for pods or for somebody.
const WAITING: Duration = Duration::from_secs(1);
/// How soon one that has not come up for a while is.
const LATER: Duration = Duration::from_secs(5);
/// How long "a while" is, in seconds.
const PATIENCE_SECONDS: i64 = 180;
/// How old a look at the cluster may be for a pod to be deleted by it: a slow API server may take minutes over what comes between.
const DECISION_VALID: Duration = Duration::from_secs(15);
/// How old it may be for status to say that a pod is about to be deleted: what is left is for the writing of status and events.
const DECIDED_WITHIN: Duration = Duration::from_secs(10);
/// Most of the words that status cites of a failure.
const FAILURE_CHARS_MAX: usize = 1_000;

/// What a visit needs beside the network.
pub struct Context {
    /// The API.
    pub client: Client,
    /// Asks nodes how they are.
    pub http: reqwest::Client,
    /// Publishes events.
    pub recorder: Recorder,
    /// What the operator itself contributes.
    pub defaults: Defaults,
    /// Counters.
    pub metrics: Metrics,
    /// What was last applied.
    pub memory: Memory,
    /// When status was last written, by UID.
    pub status_written: Mutex<HashMap<String, Instant>>,
    /// When a node last said who decides, by UID; at the earliest the first visit.
    pub sets_seen: Mutex<HashMap<String, Timestamp>>,
}

/// Why a visit failed; each step has its variant.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The object is not what its definition says.
    #[error("the object cannot be read: {0}")]
    InvalidObject(String),
    /// The network itself could not be read.
    #[error("could not read the network")]
    Read(#[source] kube::Error),
    /// The cluster could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A write failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The deletion is stuck.
    #[error(transparent)]
    Cleanup(#[from] CleanupError),
    /// Status could not be written.
    #[error("could not write status")]
    Status(#[source] kube::Error),
    /// A mistake of the operator, which one network brings out: the others are looked after all the same.
    #[error("the visit panicked: see the log, and report it")]
    Panicked,
}

impl ReconcileError {
    /// Label of the metric, reason of the event.
    pub fn reason(&self) -> &'static str {
        match self {
            ReconcileError::InvalidObject(_) => "InvalidObject",
            ReconcileError::Read(_) => "ReadFailed",
            ReconcileError::Observe(_) => "ObserveFailed",
            ReconcileError::Apply(error) => error.reason(),
            ReconcileError::Cleanup(error) => error.reason(),
            ReconcileError::Status(_) => "StatusFailed",
            ReconcileError::Panicked => "Panicked",
        }
    }

    /// True where somebody else wrote first: the next visit sees it, nothing is wrong.
    pub fn is_conflict(&self) -> bool {
        let source = match self {
            ReconcileError::Status(source) => source,
            ReconcileError::Cleanup(CleanupError::Finalizer { source, .. }) => source,
            _ => return false,
        };
        matches!(source, kube::Error::Api(status) if status.is_conflict())
    }
}

/// An error with its causes, each once.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Visits a network.
///
/// # Errors
/// The step that failed; the caller decides when to try again.
pub async fn reconcile(network: &BlockchainNetwork, context: &Context) -> Result<Action, ReconcileError> {
    // Live, not from the watch: `status.operation` must be the one that was last written.
    let networks = api(network, context);
    let found = networks.get_opt(&network.name_any()).await.map_err(ReconcileError::Read)?;
    let identity = identity(found.as_ref().unwrap_or(network));
    let Some(network) = found else {
        context.forget(&identity);
        return Ok(Action::await_change());
    };
    let writer = Writer { client: &context.client, identity: &identity, memory: &context.memory };
    if network.metadata.deletion_timestamp.is_some() {
        return delete(&network, &writer, context).await;
    }
    if !network.finalizers().iter().any(|name| name == names::FINALIZER) {
        cleanup::hold(&context.client, &network).await?;
        return Ok(Action::requeue(Duration::ZERO));
    }
    visit(&network, &writer, context).await
}

fn identity(network: &BlockchainNetwork) -> Identity {
    Identity {
        name: network.name_any(),
        namespace: network.namespace().unwrap_or_default(),
        uid: network.uid().unwrap_or_default(),
    }
}

async fn visit(network: &BlockchainNetwork, writer: &Writer<'_>, context: &Context) -> Result<Action, ReconcileError> {
    let looked = Instant::now();
    let observed = observe::observe(&context.client, &context.http, network).await?;
    let validated = validate::validate(network, &observed, &context.defaults);
    let former = network.status.as_ref().and_then(|status| status.operation.as_ref());
    let set_seen = context.set_seen(writer.identity, &validated, observed.now);
    let plan = plan::plan(&validated, &observed, former, set_seen);
    let written = write(&validated, &plan, &observed, writer).await;
    if let Ok(Written::Keys(names)) = &written
        && !names.is_empty()
    {
        // At once: no later visit knows that they are new.
        publish(network, vec![events::keys_created(names)], context).await;
    }
    // A volume that cannot grow keeps nothing else from happening: its size in the spec cannot be taken back.
    let grown = writer.grow(&plan.grow).await;
    let failed = written.as_ref().err().or(grown.as_ref().err()).map(failure);
    let plan = in_time(plan, former, looked.elapsed());
    let visit =
        Visit { network, validated: &validated, observed: &observed, plan: &plan, failed: failed.as_ref(), set_seen };
    let status = status::status(visit);
    let news = news(visit, &status);
    let recorded = write_status(network, &status, !news.is_empty(), context).await?;
    context.metrics.show(&writer.identity.namespace, &writer.identity.name, &status);
    publish(network, news, context).await;
    if written? != Written::Nothing {
        // Keys or genesis came into being: what is built from them follows at once.
        return Ok(Action::requeue(Duration::ZERO));
    }
    if is_outdated(&plan, looked.elapsed(), DECISION_VALID) {
        tracing::warn!(network = writer.identity.name, "the cluster answers too slowly to restart anything by it");
        return Ok(Action::requeue(WAITING));
    }
    replace(&plan, writer, &context.metrics).await?;
    Ok(next_visit(grown, pause(&status, &plan, observed.now), recorded, &context.metrics))
}

async fn replace(plan: &Plan, writer: &Writer<'_>, metrics: &Metrics) -> Result<(), ReconcileError> {
    for replacement in &plan.replace {
        tracing::info!(pod = replacement.pod, "replacing");
        metrics.disruptions.inc();
        writer.replace(replacement).await?;
    }
    Ok(())
}

/// What follows a visit at which everything was done, but that a volume may not have grown. That is counted, and status says it; it is no
/// failure, whose pauses grow: all the rest is looked at as closely as ever.
fn next_visit(grown: Result<(), ApplyError>, pause: Duration, recorded: bool, metrics: &Metrics) -> Action {
    if let Err(error) = grown {
        metrics.errors.with_label_values(&[error.reason()]).inc();
        tracing::debug!(error = with_causes(&error), "a volume did not grow");
    }
    Action::requeue(if recorded { pause } else { pause.min(BETWEEN_NEWS) })
}

/// Whether a plan deletes a pod by a look at the cluster that is older than that.
fn is_outdated(plan: &Plan, age: Duration, valid: Duration) -> bool {
    age > valid && !plan.replace.is_empty()
}

/// The plan as far as there is time for it: nobody is told of a deletion that would come too late to be made.
fn in_time(plan: Plan, former: Option<&Operation>, age: Duration) -> Plan {
    if !is_outdated(&plan, age, DECIDED_WITHIN) {
        return plan;
    }
    let message = format!(
        "the API server and the nodes take more than {} s to say how everything is: too long to restart anything by it",
        DECIDED_WITHIN.as_secs()
    );
    plan.held_back(former, Problem::new("ClusterSlow", message))
}

/// What status says of a write that failed.
fn failure(error: &ApplyError) -> Problem {
    Problem::new(error.reason(), with_causes(error).chars().take(FAILURE_CHARS_MAX).collect::<String>())
}

/// What a visit brought into being that the next one builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Written {
    /// Nothing new.
    Nothing,
    /// Key Secrets of these names.
    Keys(Vec<String>),
    /// The genesis ConfigMap.
    Genesis,
}

/// Writes what can be written: keys first, then everything that is built from them.
async fn write(
    validated: &Validated,
    plan: &Plan,
    observed: &Observed,
    writer: &Writer<'_>,
) -> Result<Written, ApplyError> {
    if validated.settings.suspend == Suspend::Paused {
        return Ok(Written::Nothing);
    }
    if let Ok(keys) = &validated.keys
        && !keys.complete()
    {
        return Ok(Written::Keys(writer.create_keys(&keys.create).await?));
    }
    let Some(parts) = Parts::of(validated) else { return Ok(Written::Nothing) };
    // Before the mounted Secret takes the assertion back: what was asserted once must be on record.
    writer.record_starts(&parts.starts.unrecorded).await?;
    let objects = desired::desired(validated, parts, plan, observed.monitors.as_ref());
    writer.apply(&objects, plan, observed).await?;
    Ok(if objects.genesis.is_some() { Written::Genesis } else { Written::Nothing })
}

/// How long after the last one this status is written; `None`: it says nothing new. Each write brings the next visit at once, so what
/// others can change at will must not be written at will.
fn rest(known: Option<&BlockchainNetworkStatus>, status: &BlockchainNetworkStatus, told: bool) -> Option<Duration> {
    let Some(known) = known else { return Some(Duration::ZERO) };
    let decided = known.operation != status.operation || known.observed_generation != status.observed_generation;
    if known == status {
        return None;
    }
    if told || decided {
        return Some(Duration::ZERO);
    }
    // A little less than the resync, or every other one would come too early.
    let of_detail = RESYNC.saturating_sub(WAITING);
    Some(if status::differs_only_in_detail(known, status) { of_detail } else { BETWEEN_NEWS })
}

/// Writes status where it says something new, and says whether nothing but detail is left to be written.
async fn write_status(
    network: &BlockchainNetwork,
    status: &BlockchainNetworkStatus,
    told: bool,
    context: &Context,
) -> Result<bool, ReconcileError> {
    let Some(rest) = rest(network.status.as_ref(), status, told) else { return Ok(true) };
    if !context.may_write(network, rest) {
        return Ok(rest > BETWEEN_NEWS);
    }
    let body = json!({
        "apiVersion": BlockchainNetwork::api_version(&()),
        "kind": BlockchainNetwork::kind(&()),
        // With the version that was read: a plan made on an older status must not be recorded.
        "metadata": { "name": network.name_any(), "resourceVersion": network.resource_version() },
        "status": status,
    });
    let (networks, name) = (api(network, context), network.name_any());
    let written = networks.patch_status(&name, &apply::apply_params(), &Patch::Apply(&body)).await;
    written.map(|_| true).map_err(ReconcileError::Status)
}

fn news(visit: Visit<'_>, status: &BlockchainNetworkStatus) -> Vec<Event> {
    let namespace = &visit.validated.settings.identity.namespace;
    let none = BlockchainNetworkStatus::default();
    let known = visit.network.status.as_ref().unwrap_or(&none);
    let mut all = events::transitions(&known.conditions, &status.conditions);
    let (former, present) = (&known.validator_statuses, &status.validator_statuses);
    all.extend(events::quarantines(former, present, visit.observed, namespace));
    all.extend(events::set_changes(known, status, namespace));
    all.extend(visit.plan.notes.iter().map(|note| events::of_note(note, namespace)));
    all
}

/// Publishes events; a lost event is no reason to fail.
async fn publish(network: &BlockchainNetwork, events: Vec<Event>, context: &Context) {
    let reference = network.object_ref(&());
    for event in events {
        if let Err(error) = context.recorder.publish(&event, &reference).await {
            tracing::warn!(reason = event.reason, error = with_causes(&error), "event not published");
        }
    }
}

/// How soon the next visit comes by itself; a changed object, such as a pod that becomes ready, brings one about at once.
fn pause(status: &BlockchainNetworkStatus, plan: &Plan, now: Timestamp) -> Duration {
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let reason = ready.map(|ready| ready.reason.as_str()).unwrap_or_default();
    let busy = plan.operation.is_some() || plan.rollout != Rollout::Complete || !plan.grow.is_empty();
    let began = plan.operation.as_ref().map(|operation| operation.since.0);
    let since = began.or(ready.map(|ready| ready.last_transition_time.0)).unwrap_or(now);
    let is_new = now.as_second().saturating_sub(since.as_second()) < PATIENCE_SECONDS;
    match reason {
        _ if busy && is_new => SOON,
        // A roll-out may wait for days, for a machine that is lost.
        _ if busy => LATER,
        "Ready" | "Hibernated" => RESYNC,
        // What is missing comes from the nodes: no object tells us of it.
        "ValidatorsNotSigning" | "NoBlockYet" | "ValidatorsSilent" | "DatabaseDown" if is_new => SOON,
        _ if is_new => WAITING,
        _ => LATER,
    }
}

/// How soon a network is looked at again whose pods stop, or never do, on a machine that is lost.
fn pause_of_deletion(since: Option<Timestamp>, now: Timestamp) -> Duration {
    let age = since.map_or(0, |since| now.as_second().saturating_sub(since.as_second()));
    if age < PATIENCE_SECONDS { SOON } else { LATER }
}

async fn delete(network: &BlockchainNetwork, writer: &Writer<'_>, context: &Context) -> Result<Action, ReconcileError> {
    if !network.finalizers().iter().any(|name| name == names::FINALIZER) {
        return Ok(Action::await_change());
    }
    match cleanup::clean_up(&context.client, network, writer).await? {
        Cleanup::WaitingForPods(count) => {
            tracing::debug!(network = writer.identity.name, count, "waiting for pods to stop");
            let message = "waiting for the validators to stop; then what the deletion policy retains stays";
            publish(network, vec![events::cleanup(message)], context).await;
            let since = network.metadata.deletion_timestamp.as_ref().map(|at| at.0);
            Ok(Action::requeue(pause_of_deletion(since, Timestamp::now())))
        }
        Cleanup::Done => {
            context.forget(writer.identity);
            Ok(Action::await_change())
        }
    }
}

impl Context {
    /// Forgets a network that is gone.
    fn forget(&self, identity: &Identity) {
        self.memory.forget(identity);
        self.metrics.forget(&identity.namespace, &identity.name);
        if let Ok(mut written) = self.status_written.lock() {
            written.remove(&identity.uid);
        }
        if let Ok(mut seen) = self.sets_seen.lock() {
            seen.remove(&identity.uid);
        }
    }

    /// Whether it is that long since status was last written; if so it is about to be.
    fn may_write(&self, network: &BlockchainNetwork, rest: Duration) -> bool {
        let Ok(mut written) = self.status_written.lock() else { return true };
        let uid = network.uid().unwrap_or_default();
        let may = written.get(&uid).is_none_or(|at| at.elapsed() >= rest);
        if may {
            written.insert(uid, Instant::now());
        }
        may
    }

    /// When a node last said who decides, so that it was believed; at the earliest the first visit.
    fn set_seen(&self, identity: &Identity, validated: &Validated, now: Timestamp) -> Option<Timestamp> {
        let mut seen = self.sets_seen.lock().ok()?;
        Some(last_said(&mut seen, &identity.uid, validated.set.is_some(), now))
    }
}

/// A new operator knows of no earlier answer. It waits for the first one as long as for one that is missing later.
fn last_said(seen: &mut HashMap<String, Timestamp>, uid: &str, said: bool, now: Timestamp) -> Timestamp {
    let last = seen.entry(uid.to_owned()).or_insert(now);
    if said {
        *last = now;
    }
    *last
}

fn api(network: &BlockchainNetwork, context: &Context) -> Api<BlockchainNetwork> {
    Api::namespaced(context.client.clone(), &network.namespace().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::status::{ChainStatus, OperationStep, OperationType};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// A network whose `Ready` has said this since second 0.
    fn saying(reason: &str) -> BlockchainNetworkStatus {
        let ready = Condition {
            type_: "Ready".into(),
            status: "False".into(),
            reason: reason.into(),
            message: String::new(),
            last_transition_time: Time(at(0)),
            observed_generation: None,
        };
        BlockchainNetworkStatus { conditions: vec![ready], ..BlockchainNetworkStatus::default() }
    }

    fn restarting_since(second: i64) -> Plan {
        let operation = Operation {
            type_: OperationType::Restart,
            target: "net-validator-0".into(),
            step: OperationStep::Signing,
            since: Time(at(second)),
            message: String::new(),
            pod_uid: "u".into(),
            from_height: 1,
        };
        Plan { operation: Some(operation), ..Plan::default() }
    }

    #[test]
    fn a_restart_is_followed_closely_and_one_that_hangs_is_not() {
        let status = saying("ValidatorsNotSigning");
        assert_eq!(pause(&status, &restarting_since(1_000), at(1_001)), SOON, "however long Ready has been False");
        assert_eq!(pause(&status, &restarting_since(1_000), at(1_000 + PATIENCE_SECONDS)), LATER);
    }

    #[test]
    fn a_roll_out_that_waits_for_a_lost_machine_does_not_keep_the_operator_busy_for_days() {
        let waiting = Some(Problem::new("WaitingForQuorum", "validators 0 do not sign"));
        let plan = Plan { rollout: Rollout::Running { updated: 1, waiting }, ..Plan::default() };
        let status = saying("ValidatorsNotReady");
        assert_eq!((pause(&status, &plan, at(1)), pause(&status, &plan, at(PATIENCE_SECONDS))), (SOON, LATER));
    }

    #[test]
    fn a_network_that_waits_is_looked_at_less_often_after_a_while() {
        let pauses = |reason| [1, PATIENCE_SECONDS].map(|now| pause(&saying(reason), &Plan::default(), at(now)));
        assert_eq!(pauses("NoBlockYet"), [SOON, LATER]);
        assert_eq!(pauses("KeyMissing"), [WAITING, LATER]);
        assert_eq!(pauses("Ready"), [RESYNC, RESYNC]);
    }

    #[test]
    fn decisions_and_what_is_told_are_written_at_once_and_what_others_change_at_will_is_not() {
        let before = saying("Ready");
        let chain = |height| Some(ChainStatus { height: Some(height), ..ChainStatus::default() });
        let higher = BlockchainNetworkStatus { chain: chain(2), ..before.clone() };
        let lower = BlockchainNetworkStatus { chain: chain(1), ..before.clone() };
        assert_eq!(rest(None, &before, false), Some(Duration::ZERO), "the first");
        assert_eq!((rest(Some(&before), &before, false), rest(Some(&before), &before, true)), (None, None));
        assert_eq!(rest(Some(&lower), &higher, false), Some(Duration::from_secs(9)));
        assert_eq!(rest(Some(&lower), &higher, true), Some(Duration::ZERO), "or it would be told again and again");
        assert_eq!(rest(Some(&before), &saying("NoBlockYet"), false), Some(BETWEEN_NEWS));
        let decided = BlockchainNetworkStatus { operation: restarting_since(1).operation, ..before.clone() };
        assert_eq!(rest(Some(&before), &decided, false), Some(Duration::ZERO), "before a pod is deleted by it");
        let seen = BlockchainNetworkStatus { observed_generation: Some(2), ..before.clone() };
        assert_eq!(rest(Some(&before), &seen, false), Some(Duration::ZERO));
    }

    #[test]
    fn a_deletion_that_waits_for_a_lost_machine_is_looked_at_less_often_after_a_while() {
        let pauses = [0, PATIENCE_SECONDS].map(|now| pause_of_deletion(Some(at(0)), at(now)));
        assert_eq!((pauses, pause_of_deletion(None, at(0))), ([SOON, LATER], SOON));
    }

    #[test]
    fn no_pod_is_deleted_by_an_old_look_and_what_deletes_none_is_never_too_old() {
        let replace = vec![plan::Replacement { pod: "net-validator-0".into(), uid: "u".into() }];
        let plan = Plan { replace, ..Plan::default() };
        let old = DECISION_VALID + Duration::from_millis(1);
        assert!(is_outdated(&plan, old, DECISION_VALID) && !is_outdated(&plan, DECISION_VALID, DECISION_VALID));
        assert!(!is_outdated(&Plan::default(), old, DECISION_VALID));
    }

    #[test]
    fn of_a_deletion_that_would_come_too_late_nobody_is_told_and_status_says_why_it_waits() {
        let replace = vec![plan::Replacement { pod: "net-validator-0".into(), uid: "u".into() }];
        let notes = vec![plan::Note::Restarting { pod: "net-validator-0".into() }];
        let rollout = Rollout::Running { updated: 1, waiting: None };
        let plan = Plan { replace, notes, rollout, ..restarting_since(1) };
        assert_eq!(in_time(plan.clone(), None, DECIDED_WITHIN), plan);
        let late = in_time(plan, None, DECIDED_WITHIN + Duration::from_millis(1));
        assert!(late.replace.is_empty() && late.notes.is_empty() && late.operation.is_none(), "{late:?}");
        let waits = matches!(&late.rollout, Rollout::Running { waiting: Some(why), .. } if why.reason == "ClusterSlow");
        assert!(waits, "{late:?}");
    }

    #[test]
    fn a_volume_that_cannot_grow_is_counted_and_slows_down_nothing_else() {
        let metrics = Metrics::new().expect("metrics");
        let refused = || Err(ApplyError::Randomness("refused".into()));
        assert_eq!(next_visit(refused(), LATER, true, &metrics), Action::requeue(LATER), "however often it fails");
        assert_eq!(next_visit(refused(), LATER, false, &metrics), Action::requeue(BETWEEN_NEWS), "news is left");
        assert_eq!(metrics.errors.with_label_values(&["RandomnessFailed"]).get(), 2);
        assert_eq!(next_visit(Ok(()), SOON, true, &metrics), Action::requeue(SOON));
        assert_eq!(metrics.errors.with_label_values(&["RandomnessFailed"]).get(), 2);
        let grow = vec![plan::Growth { claim: "data-net-validator-0".into(), size: "2Gi".into() }];
        let growing = Plan { grow, ..Plan::default() };
        assert_eq!(pause(&saying("Ready"), &growing, at(PATIENCE_SECONDS)), LATER);
    }

    #[test]
    fn a_new_operator_waits_for_the_first_answer_as_for_one_that_is_missing() {
        let mut seen = HashMap::new();
        assert_eq!(last_said(&mut seen, "u", false, at(1)), at(1));
        assert_eq!(last_said(&mut seen, "u", false, at(20)), at(1), "it does not wait for ever");
        assert_eq!(last_said(&mut seen, "u", true, at(30)), at(30));
        assert_eq!(last_said(&mut seen, "u", false, at(40)), at(30));
    }

    #[test]
    fn of_a_failure_status_cites_no_more_than_fits() {
        let error = ApplyError::Randomness("ä".repeat(10_000));
        assert_eq!(failure(&error).message.chars().count(), FAILURE_CHARS_MAX);
    }
}
