//! Services: headless for gossip and scraping, and one for the RPC and WebSocket of validators that are caught up.

use crate::crd::ServiceType;
use crate::names::{self, Role};
use crate::validate::Settings;
use aitbc_core::env;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The headless Service. It names pods that are not ready too: a validator must be found in order to catch up.
pub fn build_peers(settings: &Settings) -> Service {
    let identity = &settings.identity;
    Service {
        metadata: names::owned_meta(identity, names::peers(&identity.name), Role::Peers),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector_labels(&identity.name, Role::Validator)),
            ports: Some(vec![port("p2p", env::P2P_PORT), port("metrics", env::METRICS_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The RPC Service. Only ready pods are behind it: database up, caught up with the best peer.
pub fn build_rpc(settings: &Settings) -> Service {
    let identity = &settings.identity;
    let mut metadata = names::owned_meta(identity, names::rpc(&identity.name), Role::Rpc);
    let annotations = &settings.service.annotations;
    metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    let type_ = match settings.service.type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_.into()),
            selector: Some(names::selector_labels(&identity.name, Role::Validator)),
            ports: Some(vec![port("rpc", env::RPC_PORT), port("ws", env::WS_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number.into(),
        target_port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}
