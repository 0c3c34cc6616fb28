//! Postgres: the sidecar in each validator's pod, and the addresses of databases that the user runs.
//!
//! A native sidecar (an init container that restarts): it starts before the validator and stops after it, so the two are one unit of
//! failure. It listens on a Unix socket in a folder that only this pod's containers share and on no network address, which is why
//! it needs no password: whoever can open the socket already runs inside the validator's pod.

use crate::crd::database::Parameter;
use crate::desired::pod::{CONFIG_VOLUME, GROUP_ID, default_resources, mount, restricted, scratch, variable};
use crate::names::{self, Role, VOLUME};
use crate::validate::Settings;
use crate::validate::databases::Databases;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, Probe, ResourceRequirements, Secret, SecurityContext, Volume, VolumeMount,
};
use std::collections::BTreeMap;

/// Folder of the socket, shared by both containers.
pub const SOCKET_DIR: &str = "/var/run/postgresql";
/// Volume of that folder.
const SOCKET_VOLUME: &str = "postgres-socket";
/// Volume of temporary files.
const TMP_VOLUME: &str = "postgres-tmp";
/// Where the database's volume is mounted; the data lies in a folder below, as a volume's root may hold `lost+found`.
const DATA_DIR: &str = "/var/lib/postgresql/data";
const USER: &str = "aitbc";
const DATABASE: &str = "blockchain";
/// `postgres` in the official Debian-based images.
const USER_ID: i64 = 999;
/// The node's configuration file, where addresses come from a Secret.
pub const CONFIG_FILE: &str = "/etc/aitbc/config/node.yaml";

/// Server parameters of a validator: durable always, memory small, checkpoints rare.
const PARAMETERS: [(&str, &str); 18] = [
    ("listen_addresses", ""),
    ("unix_socket_directories", SOCKET_DIR),
    ("unix_socket_permissions", "0770"),
    ("max_connections", "50"),
    ("shared_buffers", "128MB"),
    ("effective_cache_size", "256MB"),
    ("work_mem", "8MB"),
    ("maintenance_work_mem", "64MB"),
    ("wal_compression", "on"),
    ("max_wal_size", "2GB"),
    ("min_wal_size", "128MB"),
    ("checkpoint_timeout", "15min"),
    ("random_page_cost", "1.1"),
    ("jit", "off"),
    // In a container without a limit for huge pages, trying them ends in a bus error.
    ("huge_pages", "off"),
    ("autovacuum_vacuum_cost_limit", "1000"),
    ("log_min_duration_statement", "1s"),
    ("log_checkpoints", "off"),
];

/// DATABASE_URL of a validator beside its sidecar.
pub fn url() -> String {
    format!("postgresql:///{DATABASE}?host={SOCKET_DIR}&user={USER}")
}

/// The sidecar.
pub fn build_container(image: &str, resources: Option<&ResourceRequirements>, parameters: &[Parameter]) -> Container {
    Container {
        name: "postgres".into(),
        image: Some(image.into()),
        restart_policy: Some("Always".into()),
        args: Some(arguments(parameters)),
        env: Some(vec![
            variable("PGDATA", &format!("{DATA_DIR}/pgdata")),
            variable("POSTGRES_DB", DATABASE),
            // Trust is for the socket alone: listen_addresses is empty.
            variable("POSTGRES_HOST_AUTH_METHOD", "trust"),
            variable("POSTGRES_USER", USER),
        ]),
        resources: Some(resources.cloned().unwrap_or_else(default_resources)),
        security_context: Some(SecurityContext {
            run_as_user: Some(USER_ID),
            run_as_group: Some(GROUP_ID),
            ..restricted()
        }),
        // The validator starts once the database answers; it also waits by itself, should the database go later.
        startup_probe: Some(Probe { period_seconds: Some(1), failure_threshold: Some(300), ..is_ready() }),
        liveness_probe: Some(Probe { period_seconds: Some(10), failure_threshold: Some(6), ..is_ready() }),
        volume_mounts: Some(vec![mount(VOLUME, DATA_DIR), socket_mount(), mount(TMP_VOLUME, "/tmp")]),
        ..Container::default()
    }
}

/// The socket as both containers mount it.
pub fn socket_mount() -> VolumeMount {
    mount(SOCKET_VOLUME, SOCKET_DIR)
}

/// Volumes that the sidecar needs beside its data.
pub fn volumes() -> [Volume; 2] {
    [scratch(SOCKET_VOLUME), scratch(TMP_VOLUME)]
}

/// Configuration files with the addresses of external databases, an entry for each pod. `None` where there are none.
pub fn build_mounted(settings: &Settings, databases: &Databases) -> Option<Secret> {
    let identity = &settings.identity;
    let file = |url: &str| ByteString(format!("database_url: {}\n", serde_json::Value::from(url)).into_bytes());
    (!databases.urls.is_empty()).then(|| Secret {
        metadata: names::owned_meta(identity, names::mounted_databases(&identity.name), Role::MountedDatabases),
        type_: Some("Opaque".into()),
        data: Some(databases.urls.iter().map(|(i, url)| (names::pod(&identity.name, *i), file(url))).collect()),
        ..Secret::default()
    })
}

/// The node's configuration file as its container mounts it: its own entry only.
pub fn config_mount() -> VolumeMount {
    VolumeMount {
        sub_path_expr: Some("$(POD_NAME)".into()),
        read_only: Some(true),
        ..mount(CONFIG_VOLUME, CONFIG_FILE)
    }
}

fn is_ready() -> Probe {
    let command = ["pg_isready", "-h", SOCKET_DIR, "-U", USER, "-d", DATABASE].map(str::to_owned);
    Probe { exec: Some(ExecAction { command: Some(command.into()) }), timeout_seconds: Some(5), ..Probe::default() }
}

fn arguments(parameters: &[Parameter]) -> Vec<String> {
    let mut all: BTreeMap<&str, &str> = PARAMETERS.into();
    all.extend(parameters.iter().map(|p| (p.name.as_str(), p.value.as_str())));
    let settings = all.into_iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]);
    std::iter::once("postgres".to_owned()).chain(settings).collect()
}
