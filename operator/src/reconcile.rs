//! One visit to a network: observe, validate, plan, build, apply, write status, and only then disturb a pod.
//!
//! Status goes before the disturbance: an operator that is restarted in between finds in `status.operation` what it was about to do.

use crate::apply::{self, ApplyError, Memory, Writer};
use crate::cleanup::{self, Cleanup, CleanupError};
use crate::crd::status::BlockchainNetworkStatus;
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

/// How often a converged network is looked at, and how often heights in its status are refreshed.
const RESYNC: Duration = Duration::from_secs(10);
/// How soon a network is looked at again whose nodes are about to bring something about.
const SOON: Duration = Duration::from_millis(300);
/// How soon one is that waits for pods or for somebody.
const WAITING: Duration = Duration::from_secs(1);
/// How soon one that has not come up for a while is.
const LATER: Duration = Duration::from_secs(5);
/// How long "a while" is, in seconds.
const PATIENCE_SECONDS: i64 = 180;

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
    /// When heights were last written, by UID.
    pub heights_written: Mutex<HashMap<String, Instant>>,
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
    let Some(network) = networks.get_opt(&network.name_any()).await.map_err(ReconcileError::Read)? else {
        return Ok(Action::await_change());
    };
    let identity = Identity {
        name: network.name_any(),
        namespace: network.namespace().unwrap_or_default(),
        uid: network.uid().unwrap_or_default(),
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

async fn visit(network: &BlockchainNetwork, writer: &Writer<'_>, context: &Context) -> Result<Action, ReconcileError> {
    let observed = observe::observe(&context.client, &context.http, network).await?;
    let validated = validate::validate(network, &observed, &context.defaults);
    let former = network.status.as_ref().and_then(|status| status.operation.as_ref());
    let plan = plan::plan(&validated, &observed, former);
    let written = write(&validated, &plan, &observed, writer).await;
    let failed = written.as_ref().err().map(|error| Problem::new(error.reason(), with_causes(error)));
    let visit = Visit { network, validated: &validated, observed: &observed, plan: &plan, failed: failed.as_ref() };
    let status = status::status(visit);
    write_status(network, &status, context).await?;
    context.metrics.show(&writer.identity.namespace, &writer.identity.name, &status);
    publish(network, news(visit, &status, written.as_ref().ok()), context).await;
    if written? != Written::Nothing {
        // Keys or genesis came into being: what is built from them follows at once.
        return Ok(Action::requeue(Duration::ZERO));
    }
    for replacement in &plan.replace {
        tracing::info!(pod = replacement.pod, "replacing");
        context.metrics.disruptions.inc();
        writer.replace(replacement).await?;
    }
    Ok(Action::requeue(pause(&status, &plan, observed.now)))
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

/// Writes status where it says something new. Heights alone are news only now and then.
async fn write_status(
    network: &BlockchainNetwork,
    status: &BlockchainNetworkStatus,
    context: &Context,
) -> Result<(), ReconcileError> {
    let known = network.status.as_ref();
    let only_heights = known.is_some_and(|known| status::differs_only_in_heights(known, status));
    if known == Some(status) || (only_heights && !heights_are_due(network, context)) {
        return Ok(());
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
    written.map(drop).map_err(ReconcileError::Status)
}

fn heights_are_due(network: &BlockchainNetwork, context: &Context) -> bool {
    let Ok(mut written) = context.heights_written.lock() else { return false };
    let uid = network.uid().unwrap_or_default();
    // A little less than the resync, or every other one would come too early.
    let due = written.get(&uid).is_none_or(|at| at.elapsed() + WAITING >= RESYNC);
    if due {
        written.insert(uid, Instant::now());
    }
    due
}

fn news(visit: Visit<'_>, status: &BlockchainNetworkStatus, written: Option<&Written>) -> Vec<Event> {
    let namespace = &visit.validated.settings.identity.namespace;
    let none = BlockchainNetworkStatus::default();
    let known = visit.network.status.as_ref().unwrap_or(&none);
    let mut all = events::transitions(&known.conditions, &status.conditions);
    let (former, present) = (&known.validator_statuses, &status.validator_statuses);
    all.extend(events::quarantines(former, present, visit.observed, namespace));
    all.extend(events::set_changes(known, status, namespace));
    all.extend(visit.plan.notes.iter().map(|note| events::of_note(note, namespace)));
    if let Some(Written::Keys(names)) = written
        && !names.is_empty()
    {
        all.push(events::keys_created(names));
    }
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
    let since = ready.map_or(now, |ready| ready.last_transition_time.0);
    let is_new = now.as_second().saturating_sub(since.as_second()) < PATIENCE_SECONDS;
    match reason {
        _ if busy => SOON,
        "Ready" | "Hibernated" => RESYNC,
        // What is missing comes from the nodes: no object tells us of it.
        "ValidatorsNotSigning" | "NoBlockYet" | "ValidatorsSilent" | "DatabaseDown" if is_new => SOON,
        _ if is_new => WAITING,
        _ => LATER,
    }
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
            Ok(Action::requeue(SOON))
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
        if let Ok(mut written) = self.heights_written.lock() {
            written.remove(&identity.uid);
        }
    }
}

fn api(network: &BlockchainNetwork, context: &Context) -> Api<BlockchainNetwork> {
    Api::namespaced(context.client.clone(), &network.namespace().unwrap_or_default())
}
