//! Pure: a validated network and a plan in, every object the cluster should hold out. One file for each kind.

pub mod disruption_budget;
pub mod genesis;
pub mod keys;
pub mod network_policy;
pub mod pod;
pub mod postgres;
pub mod service_account;
pub mod service_monitor;
pub mod services;
pub mod stateful_set;

use crate::crd::{Optional, Switch};
use crate::plan::Plan;
use crate::validate::Validated;
use crate::validate::databases::Databases;
use crate::validate::genesis::{GenesisFile, Stored};
use crate::validate::keys::Keys;
use crate::validate::starts::Starts;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DynamicObject};

/// All objects of a network. `apply` takes it apart field by field, so a new one that is not applied does not compile.
#[derive(Clone, Debug)]
pub struct Objects {
    /// Created once, never changed; `None` once it exists.
    pub genesis: Option<ConfigMap>,
    /// Identity of the pods, without rights.
    pub service_account: ServiceAccount,
    /// Keys as pods mount them.
    pub mounted_keys: Secret,
    /// Database addresses as pods mount them.
    pub mounted_databases: Option<Secret>,
    /// Names of the validators, ready or not.
    pub peers: Service,
    /// RPC of the validators that are caught up.
    pub rpc: Service,
    /// What drains may take down.
    pub disruption_budget: PodDisruptionBudget,
    /// Who may talk to whom.
    pub network_policy: Option<NetworkPolicy>,
    /// Scraping, where the API exists.
    pub service_monitor: Option<DynamicObject>,
    /// The pods. Last: they need the rest.
    pub stateful_set: StatefulSet,
}

/// The parts of a network once none of them waits.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Keys, all of them.
    pub keys: &'a Keys,
    /// Genesis.
    pub genesis: &'a GenesisFile,
    /// Database addresses.
    pub databases: &'a Databases,
    /// Whose key is new to the chain.
    pub starts: &'a Starts,
}

impl<'a> Parts<'a> {
    /// The parts, if all are there.
    pub fn of(validated: &'a Validated) -> Option<Self> {
        match (&validated.keys, &validated.genesis, &validated.databases) {
            (Ok(keys), Ok(genesis), Ok(databases)) if keys.complete() => {
                Some(Parts { keys, genesis, databases, starts: &validated.starts })
            }
            _ => None,
        }
    }
}

/// Builds every object.
pub fn desired(validated: &Validated, parts: Parts<'_>, plan: &Plan, monitors: Option<&ApiResource>) -> Objects {
    let settings = &validated.settings;
    Objects {
        genesis: match parts.genesis.stored {
            Stored::Yes => None,
            Stored::No => Some(genesis::build(settings, parts.genesis)),
        },
        service_account: service_account::build(settings),
        mounted_keys: keys::build_mounted(settings, parts.keys, parts.starts, &parts.genesis.hash),
        mounted_databases: postgres::build_mounted(settings, parts.databases),
        peers: services::build_peers(settings),
        rpc: services::build_rpc(settings),
        disruption_budget: disruption_budget::build(validated),
        network_policy: match settings.network_policy {
            Switch::Enabled => Some(network_policy::build(settings, &parts.databases.ports)),
            Switch::Disabled => None,
        },
        service_monitor: match settings.monitoring.service_monitor {
            Optional::Auto | Optional::Enabled => monitors.map(|api| service_monitor::build(settings, api)),
            Optional::Disabled => None,
        },
        stateful_set: stateful_set::build(settings, parts.databases, plan.replicas),
    }
}
