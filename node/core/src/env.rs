//! Names and defaults of settings and ports: the contract between node, operator and users (design.md §2).

/// REST port.
pub const RPC_PORT: u16 = 9080;
/// WebSocket subscription port.
pub const WS_PORT: u16 = 9081;
/// Gossip port.
pub const P2P_PORT: u16 = 9082;
/// Administration port: loopback, or a bearer token.
pub const ADMIN_PORT: u16 = 9083;
/// Prometheus port.
pub const METRICS_PORT: u16 = 9090;

/// Environment variables; the same name in lower case is the key in the YAML file.
pub mod name {
    /// `sqlite:///path` or `postgresql://…`.
    pub const DATABASE_URL: &str = "DATABASE_URL";
    /// Address the RPC and WebSocket ports listen on.
    pub const RPC_HOST: &str = "RPC_HOST";
    /// REST port.
    pub const RPC_PORT: &str = "RPC_PORT";
    /// WebSocket port.
    pub const WS_PORT: &str = "WS_PORT";
    /// Address the gossip port listens on.
    pub const P2P_HOST: &str = "P2P_HOST";
    /// Gossip port.
    pub const P2P_PORT: &str = "P2P_PORT";
    /// Prometheus port.
    pub const METRICS_PORT: &str = "METRICS_PORT";
    /// Administration port.
    pub const ADMIN_PORT: &str = "ADMIN_PORT";
    /// `poa`, `pos` or `hybrid`; must equal genesis.
    pub const CONSENSUS_MODE: &str = "CONSENSUS_MODE";
    /// Must match the key, else the node refuses to start.
    pub const VALIDATOR_ADDRESS: &str = "VALIDATOR_ADDRESS";
    /// PKCS#8 PEM of the consensus key.
    pub const VALIDATOR_KEY_FILE: &str = "VALIDATOR_KEY_FILE";
    /// Holds the genesis hash while nobody with this key has voted on that chain; used by a new database only.
    pub const FIRST_START_FILE: &str = "FIRST_START_FILE";
    /// Genesis JSON.
    pub const GENESIS_FILE: &str = "GENESIS_FILE";
    /// Comma-separated `host:port`; names are resolved again at every attempt.
    pub const PEERS: &str = "PEERS";
    /// Longest pause between blocks; must equal genesis where given.
    pub const BLOCK_TIME: &str = "BLOCK_TIME";
    /// Blocks kept in memory for readers.
    pub const BLOCK_CACHE_SIZE: &str = "BLOCK_CACHE_SIZE";
    /// `archive`, or for how many blocks transactions are kept.
    pub const PRUNING: &str = "PRUNING";
    /// Whether a node that is far behind fetches a snapshot instead of blocks: `auto`, `on`, `off`.
    pub const STATE_SYNC: &str = "STATE_SYNC";
    /// Longest time a request may take.
    pub const RPC_TIMEOUT: &str = "RPC_TIMEOUT";
    /// Requests a second and client; 0: no limit.
    pub const RPC_RATE_LIMIT: &str = "RPC_RATE_LIMIT";
    /// Bytes of pending transactions.
    pub const MEMPOOL_MAX_BYTES: &str = "MEMPOOL_MAX_BYTES";
    /// `error`, `warn`, `info`, `debug`, `trace`, or a tracing filter.
    pub const LOG_LEVEL: &str = "LOG_LEVEL";
    /// `json` or `text`.
    pub const LOG_FORMAT: &str = "LOG_FORMAT";

    /// All of them.
    pub const ALL: [&str; 23] = [
        DATABASE_URL,
        RPC_HOST,
        RPC_PORT,
        WS_PORT,
        P2P_HOST,
        P2P_PORT,
        METRICS_PORT,
        ADMIN_PORT,
        CONSENSUS_MODE,
        VALIDATOR_ADDRESS,
        VALIDATOR_KEY_FILE,
        FIRST_START_FILE,
        GENESIS_FILE,
        PEERS,
        BLOCK_TIME,
        BLOCK_CACHE_SIZE,
        PRUNING,
        STATE_SYNC,
        RPC_TIMEOUT,
        RPC_RATE_LIMIT,
        MEMPOOL_MAX_BYTES,
        LOG_LEVEL,
        LOG_FORMAT,
    ];
}

/// Exit codes of the node (design.md §4).
pub mod exit {
    /// Another process holds the lease of this database.
    pub const FENCED: u8 = 70;
    /// The database refused a vote that contradicts one already there.
    pub const CONFLICTING_VOTE: u8 = 71;
    /// The state diverged from the chain, or certificates contradict.
    pub const DIVERGED: u8 = 72;
    /// The own key was seen voting elsewhere.
    pub const TWIN: u8 = 74;
    /// Wrong configuration.
    pub const CONFIGURATION: u8 = 78;
}
