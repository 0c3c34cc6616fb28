//! The validator's pod: containers, probes, volumes, placement, and the restricted security context of every container.

use crate::crd::ImagePullPolicy;
use crate::crd::validators::AntiAffinity;
use crate::desired::postgres;
use crate::names::{self, DATABASES_ANNOTATION, RESTART_ANNOTATION, Role, VOLUME};
use crate::validate::databases::Databases;
use crate::validate::{Settings, Store};
use aitbc_core::env::{self, name};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, LocalObjectReference, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource,
    SecurityContext, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::time::Duration;

/// Group of every process in the pod, so that both containers can use what they share.
pub const GROUP_ID: i64 = 65532;
const USER_ID: i64 = 65532;
/// Volume of temporary files.
const TMP_VOLUME: &str = "tmp";
/// Volume of configuration files with database addresses.
pub const CONFIG_VOLUME: &str = "config";
const KEYS_VOLUME: &str = "keys";
const GENESIS_VOLUME: &str = "genesis";
const KEY_FILE: &str = "/etc/aitbc/key/ed25519.pem";
const FIRST_START_FILE: &str = "/etc/aitbc/first-start/genesis-hash";
const GENESIS_DIR: &str = "/etc/aitbc/genesis";
const DATA_DIR: &str = "/data";
/// The node stops within 10 s, then the database does.
const GRACE_SECONDS: i64 = 30;
const LABEL_CHARS_MAX: usize = 63;

/// The template of the validator pods.
pub fn build(settings: &Settings, databases: &Databases) -> PodTemplateSpec {
    let pod = &settings.pod;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod.labels.clone().into_iter().chain(labels(settings)).collect()),
            annotations: Some(annotations(settings, databases)).filter(|all| !all.is_empty()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            affinity: pod.affinity.clone().or_else(|| affinity(settings)),
            automount_service_account_token: Some(false),
            containers: vec![node(settings)],
            enable_service_links: Some(false),
            image_pull_secrets: list(
                settings.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }),
            ),
            init_containers: sidecar(settings),
            node_selector: (!pod.node_selector.is_empty()).then(|| pod.node_selector.clone()),
            priority_class_name: pod.priority_class_name.clone(),
            security_context: Some(pod_security()),
            service_account_name: Some(names::validator(&settings.identity.name)),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            tolerations: list(pod.tolerations.iter().cloned()),
            topology_spread_constraints: list(pod.topology_spread_constraints.iter().cloned()),
            volumes: Some(volumes(settings)),
            ..PodSpec::default()
        }),
    }
}

/// All labels of the pods, with the version where the image's tag is one.
pub fn labels(settings: &Settings) -> BTreeMap<String, String> {
    let mut all = names::labels(&settings.identity.name, Role::Validator);
    all.extend(version(&settings.image).map(|version| ("app.kubernetes.io/version".to_owned(), version)));
    all
}

/// Tag of an image, if it can be a label.
fn version(image: &str) -> Option<String> {
    let (_, tag) = image.split('@').next()?.rsplit_once(':')?;
    let fits = tag.len() <= LABEL_CHARS_MAX && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    (fits && ends(tag.chars().next()) && ends(tag.chars().last())).then(|| tag.to_owned())
}

fn annotations(settings: &Settings, databases: &Databases) -> BTreeMap<String, String> {
    let mut all = settings.pod.annotations.clone();
    all.insert("kubectl.kubernetes.io/default-container".into(), names::CONTAINER.into());
    all.extend(settings.restart_at.clone().map(|at| (RESTART_ANNOTATION.to_owned(), at)));
    if !databases.urls.is_empty() {
        // A mounted address does not change in a running container: a new one has to restart it.
        let text = databases.urls.values().cloned().collect::<Vec<_>>().join("\n");
        let digest = aitbc_core::hash::plain(text.as_bytes()).to_string();
        all.insert(DATABASES_ANNOTATION.into(), digest.chars().take(16).collect());
    }
    all
}

fn node(settings: &Settings) -> Container {
    let mut args = vec!["run".to_owned()];
    if settings.store == Store::External {
        args.extend(["--config".to_owned(), postgres::CONFIG_FILE.to_owned()]);
    }
    Container {
        name: names::CONTAINER.into(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(pull_policy(settings.image_pull_policy).into()),
        command: Some(vec!["aitbc-node".into()]),
        args: Some(args),
        env: Some(environment(settings)),
        ports: Some(ports()),
        resources: Some(settings.pod.resources.clone().unwrap_or_else(default_resources)),
        security_context: Some(restricted()),
        // Alive while the event loop turns. Neither probe depends on blocks: a halted chain must not become a storm of restarts.
        liveness_probe: Some(Probe {
            initial_delay_seconds: Some(10),
            period_seconds: Some(5),
            failure_threshold: Some(6),
            timeout_seconds: Some(3),
            ..http("/health")
        }),
        readiness_probe: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(3),
            timeout_seconds: Some(2),
            ..http("/ready")
        }),
        volume_mounts: Some(mounts(settings)),
        ..Container::default()
    }
}

fn environment(settings: &Settings) -> Vec<EnvVar> {
    let own_name = EnvVarSource {
        field_ref: Some(ObjectFieldSelector { field_path: "metadata.name".into(), ..ObjectFieldSelector::default() }),
        ..EnvVarSource::default()
    };
    let mut all = vec![
        EnvVar { name: "POD_NAME".into(), value_from: Some(own_name), ..EnvVar::default() },
        variable(name::CONSENSUS_MODE, settings.mode.name()),
        variable(name::BLOCK_TIME, &duration(settings.block_time)),
        variable(name::GENESIS_FILE, &format!("{GENESIS_DIR}/{}", names::GENESIS_ENTRY)),
        variable(name::VALIDATOR_KEY_FILE, KEY_FILE),
        variable(name::FIRST_START_FILE, FIRST_START_FILE),
        variable(name::PEERS, &peers(settings)),
        variable(name::LOG_FORMAT, "json"),
    ];
    // Not said where it is the node's default: networks made before need no restart.
    all.extend(settings.keep_blocks.map(|blocks| variable(name::PRUNING, &blocks.to_string())));
    match settings.store {
        Store::Postgres { .. } => all.push(variable(name::DATABASE_URL, &postgres::url())),
        Store::Sqlite { .. } => all.push(variable(name::DATABASE_URL, &format!("sqlite:///{DATA_DIR}/blockchain.db"))),
        Store::External => {}
    }
    for own in &settings.pod.env {
        all.retain(|variable| variable.name != own.name);
        all.push(variable(&own.name, &own.value));
    }
    all
}

/// Every validator by its own DNS name, itself included: the list is the same in every pod. Names are resolved again at each attempt.
fn peers(settings: &Settings) -> String {
    let network = &settings.identity.name;
    let service = names::peers(network);
    let all = (0..settings.replicas).map(|i| format!("{}.{service}:{}", names::pod(network, i), env::P2P_PORT));
    all.collect::<Vec<_>>().join(",")
}

fn duration(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

fn ports() -> Vec<ContainerPort> {
    let all = [("rpc", env::RPC_PORT), ("ws", env::WS_PORT), ("p2p", env::P2P_PORT), ("metrics", env::METRICS_PORT)];
    let port = |(name, number): (&str, u16)| ContainerPort {
        name: Some(name.into()),
        container_port: number.into(),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    all.map(port).into()
}

fn mounts(settings: &Settings) -> Vec<VolumeMount> {
    // An entry of one's own, as it is when the container starts: a mounted entry never changes in a running one.
    let own = |suffix: &str, path: &str| VolumeMount {
        sub_path_expr: Some(format!("$(POD_NAME){suffix}")),
        read_only: Some(true),
        ..mount(KEYS_VOLUME, path)
    };
    let genesis = VolumeMount { read_only: Some(true), ..mount(GENESIS_VOLUME, GENESIS_DIR) };
    let first_start = own(names::FIRST_START_SUFFIX, FIRST_START_FILE);
    let mut all = vec![own("", KEY_FILE), first_start, genesis, mount(TMP_VOLUME, "/tmp")];
    all.push(match settings.store {
        Store::Postgres { .. } => postgres::socket_mount(),
        Store::Sqlite { .. } => mount(VOLUME, DATA_DIR),
        Store::External => postgres::config_mount(),
    });
    all
}

fn volumes(settings: &Settings) -> Vec<Volume> {
    let network = &settings.identity.name;
    // Readable by the pod's group, by nobody else.
    let secret = |volume: &str, name: String| Volume {
        name: volume.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mut all = vec![
        secret(KEYS_VOLUME, names::mounted_keys(network)),
        Volume {
            name: GENESIS_VOLUME.into(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::genesis(network),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        scratch(TMP_VOLUME),
    ];
    match settings.store {
        Store::Postgres { .. } => all.extend(postgres::volumes()),
        Store::External => all.push(secret(CONFIG_VOLUME, names::mounted_databases(network))),
        Store::Sqlite { .. } => {}
    }
    all
}

fn sidecar(settings: &Settings) -> Option<Vec<Container>> {
    match &settings.store {
        Store::Postgres { image, volume: _, resources, parameters } => {
            Some(vec![postgres::build_container(image, resources.as_ref(), parameters)])
        }
        Store::External | Store::Sqlite { .. } => None,
    }
}

fn affinity(settings: &Settings) -> Option<Affinity> {
    let term = |topology: &str| PodAffinityTerm {
        label_selector: Some(names::validators_selector(&settings.identity.name)),
        topology_key: topology.into(),
        ..PodAffinityTerm::default()
    };
    let preferred = |weight, topology| WeightedPodAffinityTerm { weight, pod_affinity_term: term(topology) };
    let (machine, zone) = ("kubernetes.io/hostname", "topology.kubernetes.io/zone");
    let rules = match settings.anti_affinity {
        AntiAffinity::None => return None,
        AntiAffinity::Preferred => PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                preferred(100, machine),
                preferred(50, zone),
            ]),
            ..PodAntiAffinity::default()
        },
        AntiAffinity::Required => PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term(machine)]),
            preferred_during_scheduling_ignored_during_execution: Some(vec![preferred(50, zone)]),
        },
    };
    Some(Affinity { pod_anti_affinity: Some(rules), ..Affinity::default() })
}

/// The `restricted` Pod Security Standard, and a read-only root on top.
pub fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER_ID),
        run_as_group: Some(GROUP_ID),
        fs_group: Some(GROUP_ID),
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

/// Requests where the spec gives none: enough for a small chain, and no limit that would kill a validator under load.
pub fn default_resources() -> ResourceRequirements {
    let requests = [("cpu", "100m"), ("memory", "256Mi")];
    ResourceRequirements {
        requests: Some(requests.map(|(name, amount)| (name.to_owned(), Quantity(amount.into()))).into()),
        ..ResourceRequirements::default()
    }
}

/// A volume mounted somewhere.
pub fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.into(), mount_path: path.into(), ..VolumeMount::default() }
}

/// A volume that lives as long as the pod.
pub fn scratch(name: &str) -> Volume {
    let limit = EmptyDirVolumeSource { size_limit: Some(Quantity("64Mi".into())), ..EmptyDirVolumeSource::default() };
    Volume { name: name.into(), empty_dir: Some(limit), ..Volume::default() }
}

/// An environment variable with a plain value.
pub fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), ..EnvVar::default() }
}

fn http(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("rpc".into()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

fn pull_policy(policy: ImagePullPolicy) -> &'static str {
    match policy {
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::Never => "Never",
    }
}

/// A list that is absent where it is empty.
fn list<T>(items: impl IntoIterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then_some(items)
}
