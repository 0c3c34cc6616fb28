//! Watches networks and what belongs to them; every change brings a visit. Failures wait longer each time, for each network by itself.

use crate::access::{self, scoped};
use crate::admin::Readiness;
use crate::backoff::Backoff;
use crate::crd::BlockchainNetwork;
use crate::events;
use crate::names::{self, NETWORK_LABEL};
use crate::reconcile::{self, Context, ReconcileError, with_causes};
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Resource, ResourceExt};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Networks visited at the same time.
const CONCURRENCY: u16 = 16;
/// How soon a network is visited again that somebody else wrote to at the same moment.
const AFTER_CONFLICT: Duration = Duration::from_millis(200);

type Guarded = DeserializeGuard<BlockchainNetwork>;

struct Shared {
    context: Context,
    backoff: Mutex<Backoff<ObjectRef<Guarded>>>,
}

/// Runs until `stop` is done; visits under way are finished.
pub async fn run(
    context: Context,
    namespace: Option<&str>,
    readiness: Readiness,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = context.client.clone();
    let networks = scoped::<Guarded>(&client, namespace);
    let ours = || watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={}", names::FIELD_MANAGER));
    let controller = Controller::new(networks, watcher::Config::default())
        .with_config(kube::runtime::controller::Config::default().concurrency(CONCURRENCY))
        .owns(scoped::<StatefulSet>(&client, namespace), ours())
        .owns(scoped::<Service>(&client, namespace), ours())
        .owns(scoped::<ServiceAccount>(&client, namespace), ours())
        .owns(scoped::<PodDisruptionBudget>(&client, namespace), ours())
        .owns(scoped::<NetworkPolicy>(&client, namespace), ours())
        // Pods belong to the StatefulSet, keys and genesis to nobody: found by label.
        .watches(scoped::<Pod>(&client, namespace), ours(), |pod| network_of(&pod))
        .watches(scoped::<ConfigMap>(&client, namespace), ours(), |map| network_of(&map))
        // Metadata only: no key ever lies in a cache.
        .watches(scoped::<PartialObjectMeta<Secret>>(&client, namespace), ours(), |secret| network_of(&secret))
        .graceful_shutdown_on(stop);
    tokio::spawn(access::wait(client, namespace.map(str::to_owned), readiness));
    let shared = Arc::new(Shared { context, backoff: Mutex::default() });
    controller.run(visit, failed, shared).for_each(|_| std::future::ready(())).await;
}

fn network_of(object: &impl ResourceExt) -> Option<ObjectRef<Guarded>> {
    let name = object.labels().get(NETWORK_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

async fn visit(guarded: Arc<Guarded>, shared: Arc<Shared>) -> Result<Action, ReconcileError> {
    let began = Instant::now();
    let result = match &guarded.0 {
        Ok(network) => contained(reconcile::reconcile(network, &shared.context)).await,
        Err(invalid) => Err(ReconcileError::InvalidObject(invalid.error.clone())),
    };
    shared.context.metrics.reconciles.inc();
    shared.context.metrics.duration.observe(began.elapsed().as_secs_f64());
    match &result {
        Ok(_) => {
            if let Ok(mut backoff) = shared.backoff.lock() {
                backoff.succeeded(&ObjectRef::from_obj(&*guarded));
            }
        }
        Err(error) if error.is_conflict() => {}
        Err(error) => report(&guarded, error, &shared.context).await,
    }
    result
}

/// A visit whose panic is its own failure: it would end the process, and with it the care for every other network.
async fn contained<T>(visit: impl Future<Output = Result<T, ReconcileError>>) -> Result<T, ReconcileError> {
    AssertUnwindSafe(visit).catch_unwind().await.unwrap_or(Err(ReconcileError::Panicked))
}

async fn report(guarded: &Guarded, error: &ReconcileError, context: &Context) {
    let text = with_causes(error);
    let network = guarded.name_any();
    let namespace = guarded.namespace().unwrap_or_default();
    tracing::error!(network, namespace, reason = error.reason(), error = text, "visit failed");
    context.metrics.errors.with_label_values(&[error.reason()]).inc();
    let event = events::failed(error.reason(), &text);
    if let Err(error) = context.recorder.publish(&event, &guarded.object_ref(&())).await {
        tracing::warn!(error = with_causes(&error), "event not published");
    }
}

fn failed(guarded: Arc<Guarded>, error: &ReconcileError, shared: Arc<Shared>) -> Action {
    match error {
        // Nothing to do before somebody mends it.
        ReconcileError::InvalidObject(_) => Action::await_change(),
        error if error.is_conflict() => Action::requeue(AFTER_CONFLICT),
        _ => {
            let pause = shared.backoff.lock().map(|mut backoff| backoff.failed(ObjectRef::from_obj(&*guarded)));
            Action::requeue(pause.unwrap_or(AFTER_CONFLICT))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn panics() -> Result<(), ReconcileError> {
        panic!("of one network's visit")
    }

    #[tokio::test]
    async fn a_visit_that_panics_fails_and_ends_nothing_else() {
        assert!(matches!(contained(panics()).await, Err(ReconcileError::Panicked)));
        assert!(matches!(contained(async { Ok(7) }).await, Ok(7)));
    }
}
