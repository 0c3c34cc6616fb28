//! Leader election: one operator writes, the others stand by.
//!
//! The Lease is taken and renewed with the resource version that was read, so of two candidates one loses with a conflict. Expiry is
//! judged by our own monotonic clock since the last change we saw, never by comparing clocks of two machines. Who cannot renew in
//! time stops the whole process before the others may take over: nothing that is half done goes on.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::{Duration, Instant};

/// How long a lease is valid without renewal.
const VALID: Duration = Duration::from_secs(15);
/// After how long without renewal its holder gives up: well before `VALID`.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How often it is renewed, and how often a candidate looks.
const RENEW: Duration = Duration::from_secs(2);

/// Which lease, and who we are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Our name: unique for each process.
    pub identity: String,
}

/// The lease was lost: the process has to end.
#[derive(Debug, thiserror::Error)]
#[error(
    "the lease \"{name}\" could not be renewed for {seconds} s or was taken by \"{holder}\"; stopping so that two operators never write"
)]
pub struct Lost {
    name: String,
    holder: String,
    seconds: u64,
}

/// A candidate for the lease.
pub struct Candidate {
    leases: Api<Lease>,
    settings: Settings,
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// A candidate.
    pub fn new(client: Client, settings: Settings) -> Self {
        Candidate { leases: Api::namespaced(client, &settings.namespace), settings, seen: None }
    }

    /// Waits until the lease is ours.
    pub async fn acquire(&mut self) {
        loop {
            match self.try_take().await {
                Ok(Taken::Ours) => return,
                Ok(Taken::By(holder)) => tracing::info!(holder, "standing by"),
                Err(error) => tracing::warn!(%error, "lease not readable"),
            }
            tokio::time::sleep(RENEW).await;
        }
    }

    /// Renews until that fails for too long.
    pub async fn keep(&mut self) -> Lost {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW).await;
            let holder = match tokio::time::timeout(RENEW, self.try_take()).await {
                Ok(Ok(Taken::Ours)) => {
                    renewed = Instant::now();
                    continue;
                }
                Ok(Ok(Taken::By(holder))) => return self.lost(renewed, holder),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "lease not renewed");
                    String::new()
                }
                Err(_) => String::new(),
            };
            if renewed.elapsed() >= GIVE_UP {
                return self.lost(renewed, holder);
            }
        }
    }

    fn lost(&self, renewed: Instant, holder: String) -> Lost {
        Lost { name: self.settings.name.clone(), holder, seconds: renewed.elapsed().as_secs() }
    }

    /// Gives the lease back, so that the next one need not wait.
    pub async fn release(&self) {
        let Ok(Some(lease)) = self.leases.get_opt(&self.settings.name).await else { return };
        if holder(&lease) == Some(self.settings.identity.as_str()) {
            let free = Lease { spec: lease.spec.map(|spec| LeaseSpec { holder_identity: None, ..spec }), ..lease };
            if let Err(error) = self.leases.replace(&self.settings.name, &PostParams::default(), &free).await {
                tracing::warn!(%error, "lease not given back");
            }
        }
    }

    async fn try_take(&mut self) -> Result<Taken, kube::Error> {
        let Some(lease) = self.leases.get_opt(&self.settings.name).await? else {
            return self
                .settle(self.leases.create(&PostParams::default(), &self.fresh(ObjectMeta::default(), 0)).await);
        };
        match holder(&lease) {
            Some(other) if other != self.settings.identity && !self.expired(&lease) => Ok(Taken::By(other.to_owned())),
            Some(_) | None => {
                let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
                let ours = holder(&lease) == Some(self.settings.identity.as_str());
                let next = self.fresh(lease.metadata, if ours { transitions } else { transitions.saturating_add(1) });
                self.settle(self.leases.replace(&self.settings.name, &PostParams::default(), &next).await)
            }
        }
    }

    /// A conflict means that somebody else was faster: no error.
    fn settle(&self, result: Result<Lease, kube::Error>) -> Result<Taken, kube::Error> {
        match result {
            Ok(_) => Ok(Taken::Ours),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(Taken::By("another candidate".into()))
            }
            Err(error) => Err(error),
        }
    }

    fn expired(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() >= VALID,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn fresh(&self, metadata: ObjectMeta, transitions: i32) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        Lease {
            metadata: ObjectMeta {
                name: Some(self.settings.name.clone()),
                namespace: Some(self.settings.namespace.clone()),
                managed_fields: None,
                ..metadata
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.settings.identity.clone()),
                lease_duration_seconds: i32::try_from(VALID.as_secs()).ok(),
                lease_transitions: Some(transitions),
                acquire_time: now.clone(),
                renew_time: now,
                ..LeaseSpec::default()
            }),
        }
    }
}

enum Taken {
    Ours,
    By(String),
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}
