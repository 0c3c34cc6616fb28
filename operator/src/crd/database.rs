//! `spec.database`: where each validator keeps its blocks, votes and accounts. One database for one validator, always.

use crate::crd::validators::Storage;
use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The databases of a network.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("self.mode == oldSelf.mode")
        .message("database.mode is immutable: the chain's data does not move by itself; create a new network instead"),
    validation = Rule::new("self.mode == 'Postgres' || !has(self.postgres)")
        .message("database.postgres is allowed only with database.mode Postgres"),
    validation = Rule::new("(self.mode == 'External') == has(self.external)")
        .message("database.external is required with database.mode External and allowed only there"),
    validation = Rule::new("(has(self.postgres) && has(self.postgres.storage)) == (has(oldSelf.postgres) && has(oldSelf.postgres.storage))")
        .message("database.postgres.storage cannot be added or removed later: volumes keep what they began with"),
)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Postgres (default): a sidecar in each validator pod. External: a database you run for each validator. SQLite: a file on the
    /// validator's volume. Immutable.
    #[serde(default)]
    pub mode: DatabaseMode,

    /// Settings of the Postgres sidecars. Only with mode Postgres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,

    /// The databases you run. Only with mode External.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

/// Where data is kept.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum DatabaseMode {
    /// A sidecar in each pod.
    #[default]
    Postgres,
    /// One URL for each validator.
    External,
    /// A file in each pod.
    #[serde(rename = "SQLite")]
    Sqlite,
}

/// Settings of the Postgres sidecars.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Postgres {
    /// Image with the official image's variables (POSTGRES_USER, POSTGRES_DB, PGDATA …). Default postgres:17. Never change the major version in place.
    #[serde(default = "default_image")]
    #[schemars(length(min = 1, max = 512))]
    pub image: String,

    /// Volume of each database. Default: what validators.storage says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,

    /// Requests and limits of the sidecar. Default: requests of 100m CPU and 256Mi memory, no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Server parameters over the operator's defaults. Those that could lose a vote or open the database to the network are refused. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[x_kube(validation = Rule::new("self.all(p, !(p.name in ['fsync', 'full_page_writes', 'listen_addresses', 'port', 'unix_socket_directories', 'unix_socket_permissions', 'unix_socket_group', 'data_directory', 'config_file', 'hba_file', 'ident_file', 'external_pid_file']))")
        .message("database.postgres.parameters must not set fsync or full_page_writes (a lost vote is a double vote), nor addresses, sockets or files"))]
    pub parameters: Vec<Parameter>,
}

/// A server parameter.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name as in postgresql.conf.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z][a-z0-9_.]*$"))]
    pub name: String,

    /// Value as in postgresql.conf.
    #[schemars(length(max = 256))]
    pub value: String,
}

/// The databases the user runs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// The Secret of each validator's database, one for each ordinal. A database seen twice stops the roll-out.
    #[schemars(length(min = 1, max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ordinal"]))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a.name == b.name && a.key == b.key))")
        .message("database.external.secrets must not name the same Secret and key twice: each validator needs its own database"))]
    pub secrets: Vec<DatabaseSecret>,
}

/// A Secret that holds a database's address.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct DatabaseSecret {
    /// Which validator: 0 to validators.replicas - 1.
    #[schemars(range(min = 0, max = 99))]
    pub ordinal: i32,

    /// Name of the Secret in the network's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Key inside the Secret that holds the URL, postgresql://user:password@host:port/database. Default uri.
    #[serde(default = "default_uri")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl Default for Postgres {
    fn default() -> Self {
        Postgres { image: default_image(), storage: None, resources: None, parameters: Vec::new() }
    }
}

fn default_image() -> String {
    "postgres:17".into()
}

fn default_uri() -> String {
    "uri".into()
}
