//! Wiring: the only file that knows all parts of the running operator. Starts them, waits, stops them in order.

use crate::admin::{self, Readiness};
use crate::apply::Memory;
use crate::controller;
use crate::lease::{self, Candidate};
use crate::metrics::Metrics;
use crate::names;
use crate::observe;
use crate::reconcile::Context;
use crate::validate::Defaults;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use std::future::Future;
use std::net::SocketAddr;

/// How the operator runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Image of the node where a network names none.
    pub node_image: String,
    /// The one namespace it looks after; `None`: all.
    pub namespace: Option<String>,
    /// Where `/healthz`, `/readyz` and `/metrics` are; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// The lease it leads by; `None`: it leads alone.
    pub lease: Option<lease::Settings>,
    /// Name of this process in events.
    pub instance: String,
}

/// Runs until `stop` is done.
///
/// # Errors
/// Where the lease is lost or the admin address cannot be listened on.
pub async fn run(
    client: Client,
    options: Options,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let metrics = Metrics::new()?;
    let readiness = Readiness::waiting("the first look at the cluster is under way");
    let admin = serve(options.admin, metrics.clone(), readiness.clone());
    tokio::select! {
        result = admin => result,
        result = lead(client, options, metrics, readiness, stop) => result,
    }
}

async fn serve(address: Option<SocketAddr>, metrics: Metrics, readiness: Readiness) -> anyhow::Result<()> {
    match address {
        Some(address) => Ok(admin::serve(address, metrics, readiness).await?),
        None => std::future::pending().await,
    }
}

async fn lead(
    client: Client,
    options: Options,
    metrics: Metrics,
    readiness: Readiness,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let Some(settings) = options.lease.clone() else {
        work(client, &options, metrics, readiness, stop).await?;
        return Ok(());
    };
    let mut candidate = Candidate::new(client.clone(), settings);
    // Standing by is ready: otherwise an upgrade of the operator would wait for the old one for ever.
    readiness.set(None);
    let mut stop = Box::pin(stop);
    tokio::select! {
        () = candidate.acquire() => {}
        () = &mut stop => return Ok(()),
    }
    tracing::info!("leading");
    readiness.set(Some("the first look at the cluster is under way".into()));
    tokio::select! {
        lost = candidate.keep() => Err(lost.into()),
        result = work(client, &options, metrics, readiness, stop) => {
            candidate.release().await;
            result
        }
    }
}

async fn work(
    client: Client,
    options: &Options,
    metrics: Metrics,
    readiness: Readiness,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    metrics.leader.set(1);
    let reporter = Reporter { controller: names::FIELD_MANAGER.into(), instance: Some(options.instance.clone()) };
    let context = Context {
        recorder: Recorder::new(client.clone(), reporter),
        http: observe::client()?,
        defaults: Defaults { node_image: options.node_image.clone() },
        metrics,
        memory: Memory::default(),
        status_written: std::sync::Mutex::default(),
        sets_seen: std::sync::Mutex::default(),
        client,
    };
    controller::run(context, options.namespace.as_deref(), readiness, stop).await;
    Ok(())
}
