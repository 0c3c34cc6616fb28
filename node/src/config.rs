//! Settings: environment first, then the YAML file, then defaults; read once (design.md §2).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// All settings of a node, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// `sqlite:///path` or `postgresql://…`.
    pub database_url: String,
    /// REST listener.
    pub rpc: SocketAddr,
    /// WebSocket listener.
    pub ws: SocketAddr,
    /// Gossip listener.
    pub p2p: SocketAddr,
    /// Prometheus listener.
    pub metrics: SocketAddr,
    /// Administration listener, loopback.
    pub admin: SocketAddr,
    /// Genesis file.
    pub genesis_file: PathBuf,
    /// Key file.
    pub validator_key_file: Option<PathBuf>,
    /// Expected address of the key.
    pub validator_address: Option<String>,
    /// Peers, `host:port`.
    pub peers: Vec<String>,
    /// Blocks kept in memory for readers.
    pub block_cache_size: usize,
    /// Longest time a request may take.
    pub rpc_timeout: Duration,
    /// Requests a second and client; 0: no limit.
    pub rpc_rate_limit: u32,
    /// Bytes of pending transactions.
    pub mempool_max_bytes: usize,
    /// Filter of the log.
    pub log_level: String,
    /// JSON or text.
    pub log_json: bool,
}
