//! NetworkPolicy: default deny, and then what a validator needs.
//!
//! Gossip comes from this network's validators only. RPC, WebSocket and metrics are read by anybody: the RPC is the product,
//! rate-limited by the node itself. The admin port is not opened. Out go gossip, DNS and an external database.

use crate::names::{self, Role};
use crate::validate::Settings;
use aitbc_core::env;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;

const DNS_PORT: u16 = 53;

/// The policy; `database_ports` are those of external databases.
pub fn build(settings: &Settings, database_ports: &BTreeSet<u16>) -> NetworkPolicy {
    let identity = &settings.identity;
    let validators = NetworkPolicyPeer {
        pod_selector: Some(names::validators_selector(&identity.name)),
        ..NetworkPolicyPeer::default()
    };
    let gossip = vec![port("TCP", env::P2P_PORT)];
    let open = [env::RPC_PORT, env::WS_PORT, env::METRICS_PORT].map(|number| port("TCP", number));
    let mut egress = vec![
        NetworkPolicyEgressRule { to: Some(vec![validators.clone()]), ports: Some(gossip.clone()) },
        NetworkPolicyEgressRule { to: None, ports: Some(vec![port("UDP", DNS_PORT), port("TCP", DNS_PORT)]) },
    ];
    if !database_ports.is_empty() {
        let ports = database_ports.iter().map(|number| port("TCP", *number)).collect();
        egress.push(NetworkPolicyEgressRule { to: None, ports: Some(ports) });
    }
    NetworkPolicy {
        metadata: names::owned_meta(identity, identity.name.clone(), Role::Validator),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(names::validators_selector(&identity.name)),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule { from: Some(vec![validators]), ports: Some(gossip) },
                NetworkPolicyIngressRule { from: None, ports: Some(open.into()) },
            ]),
            egress: Some(egress),
        }),
    }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.into()),
        port: Some(IntOrString::Int(number.into())),
        ..NetworkPolicyPort::default()
    }
}
