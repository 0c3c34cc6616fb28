//! Settings: environment first, then the YAML file, then defaults; read once (design.md §2).
//!
//! | variable, or key in lower case | default | allowed |
//! |---|---|---|
//! | `DATABASE_URL` | `sqlite:///blockchain.db` | `sqlite:///path`, `postgresql://…` |
//! | `RPC_HOST`, `P2P_HOST` | `0.0.0.0` | an IP address, or `localhost` |
//! | `RPC_PORT`, `WS_PORT`, `P2P_PORT`, `METRICS_PORT` | 9080, 9081, 9082, 9090 | 0 to 65535; 0: any free port |
//! | `ADMIN_PORT` (on loopback) | 9083 | the same |
//! | `CONSENSUS_MODE` | as genesis says | `poa`, `pos`, `hybrid` |
//! | `VALIDATOR_ADDRESS` | not checked | an address |
//! | `VALIDATOR_KEY_FILE` | none | a path |
//! | `FIRST_START_FILE` | none | a path; the file holds the genesis hash while the key has never voted on that chain |
//! | `GENESIS_FILE` | `genesis.json` | a path |
//! | `PEERS` | none | `host:port`, separated by commas, or a YAML list |
//! | `BLOCK_TIME` | as genesis says | a duration |
//! | `BLOCK_CACHE_SIZE` | 256 | answers of `get_block` kept in memory, 0 to 100000; 64 MiB of them at most |
//! | `PRUNING` | `archive` | `archive`: all blocks are kept whole; or a number of blocks from 2064 on |
//! | `STATE_SYNC` | `auto` | `auto`: with `PRUNING` a number, a snapshot is fetched where too many blocks are missing; `on`; `off` |
//! | `RPC_TIMEOUT` | `30s` | `100ms` to `10m` |
//! | `RPC_RATE_LIMIT` | 1000 | requests a second and client, 0: no limit |
//! | `MEMPOOL_MAX_BYTES` | `64MiB` | 64 KiB to 16 GiB; bytes, or with KiB, MiB, GiB |
//! | `LOG_LEVEL` | `info` | a level, or a tracing filter |
//! | `LOG_FORMAT` | `json` | `json`, `text` |
//!
//! An empty value counts as not given. Other environment variables are nobody's business here.

use aitbc_core::env::{self, name};
use aitbc_core::genesis::{Genesis, Mode};
use aitbc_core::key::Address;
use aitbc_core::params::{KEEP_FINAL_SLOTS, MAX_EXPIRY_AHEAD, MIN_KEEP_BLOCKS};
use aitbc_core::state_sync::STATE_SYNC_LAG;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
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
    /// Expected mode of genesis; `None`: not checked.
    pub consensus_mode: Option<Mode>,
    /// Genesis file.
    pub genesis_file: PathBuf,
    /// Key file; `None`: the node has no key.
    pub validator_key_file: Option<PathBuf>,
    /// File that asserts a first start; `None`: nobody does.
    pub first_start_file: Option<PathBuf>,
    /// Expected address of the key; `None`: not checked.
    pub validator_address: Option<Address>,
    /// Peers, `host:port`.
    pub peers: Vec<String>,
    /// Expected `block_time_ms` of genesis; `None`: not checked.
    pub block_time: Option<Duration>,
    /// Answers of `get_block` kept in memory.
    pub block_cache_size: usize,
    /// For how many of the last blocks transactions are kept; `None`: for all.
    pub keep_blocks: Option<u64>,
    /// Blocks behind the others from which on a snapshot is fetched instead of them; `None`: never.
    pub state_sync_lag: Option<u64>,
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

/// What is wrong with the settings, in one line that names the key, what was found and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("--config {}: cannot be read: {cause}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is not YAML, or no list of keys.
    #[error("--config {}: not a YAML file of \"key: value\" lines: {cause}", file.display())]
    NotYaml {
        /// Which.
        file: PathBuf,
        /// What the parser says, its first line.
        cause: String,
    },
    /// A key that is no setting.
    #[error("--config {}: unknown key \"{key}\"{}; known are {}", file.display(), suggest(key), known().join(", "))]
    UnknownKey {
        /// Which file.
        file: PathBuf,
        /// Which key.
        key: String,
    },
    /// A value is not allowed.
    #[error("{key} is {found}, allowed: {allowed}")]
    Value {
        /// Name of the variable, or key and file.
        key: String,
        /// What was found; secrets are left out.
        found: String,
        /// What may be there.
        allowed: String,
    },
    /// Two listeners have the same port.
    #[error("{first} and {second} are both {port}: each listener needs a port of its own")]
    SamePort {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The port.
        port: u16,
    },
    /// A setting contradicts genesis.
    #[error(
        "{key} is {found}, but genesis of chain \"{chain_id}\" says {expected}: leave the setting out or make them equal"
    )]
    Genesis {
        /// Which setting.
        key: &'static str,
        /// Its value.
        found: String,
        /// What genesis has.
        expected: String,
        /// Whose genesis.
        chain_id: String,
    },
}

fn known() -> Vec<String> {
    name::ALL.iter().map(|name| name.to_lowercase()).collect()
}

/// `; did you mean "x"?` for a key in the wrong case or with hyphens.
fn suggest(key: &str) -> String {
    let like = key.to_lowercase().replace('-', "_");
    known()
        .into_iter()
        .find(|name| *name == like)
        .map_or_else(String::new, |name| format!(" (did you mean \"{name}\"?)"))
}

impl Config {
    /// Reads all settings; `env` answers the value of an environment variable.
    ///
    /// # Errors
    /// Names the first setting that is wrong.
    pub fn load(file: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let file = file.map(|path| read(path).map(|values| (path.to_owned(), values))).transpose()?;
        let settings = Settings { env, file };
        let rpc_host = settings.get(name::RPC_HOST, "an IP address, or localhost", host)?;
        let p2p_host = settings.get(name::P2P_HOST, "an IP address, or localhost", host)?;
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let at = |host: IpAddr, name: &'static str, default: u16| -> Result<SocketAddr, ConfigError> {
            let port = settings.parse::<u16>(name, "a port, 0 to 65535")?.unwrap_or(default);
            Ok(SocketAddr::new(host, port))
        };
        let keep_blocks = settings.get(name::PRUNING, &pruning_allowed(), pruning)?.flatten();
        let state_sync = settings.get(name::STATE_SYNC, "auto, on or off", state_sync)?.unwrap_or(StateSync::Auto);
        let config = Config {
            database_url: settings
                .get(name::DATABASE_URL, "sqlite:///path or postgresql://user@host/database", database)?
                .unwrap_or_else(|| "sqlite:///blockchain.db".into()),
            rpc: at(rpc_host.unwrap_or(any), name::RPC_PORT, env::RPC_PORT)?,
            ws: at(rpc_host.unwrap_or(any), name::WS_PORT, env::WS_PORT)?,
            p2p: at(p2p_host.unwrap_or(any), name::P2P_PORT, env::P2P_PORT)?,
            metrics: at(rpc_host.unwrap_or(any), name::METRICS_PORT, env::METRICS_PORT)?,
            admin: at(Ipv4Addr::LOCALHOST.into(), name::ADMIN_PORT, env::ADMIN_PORT)?,
            consensus_mode: settings.get(name::CONSENSUS_MODE, "poa, pos or hybrid", |text| {
                Mode::ALL.into_iter().find(|mode| mode.name() == text)
            })?,
            genesis_file: settings.path(name::GENESIS_FILE)?.unwrap_or_else(|| "genesis.json".into()),
            validator_key_file: settings.path(name::VALIDATOR_KEY_FILE)?,
            first_start_file: settings.path(name::FIRST_START_FILE)?,
            validator_address: settings.parse(name::VALIDATOR_ADDRESS, "an address: ait1… or 0x and 40 hex digits")?,
            peers: settings
                .get(name::PEERS, "host:port, separated by commas, ports from 1", peers)?
                .unwrap_or_default(),
            block_time: settings.get(name::BLOCK_TIME, "a duration such as 1s or 500ms, 100ms to 60m", |text| {
                duration_within(text, Duration::from_millis(100), Duration::from_secs(3_600))
            })?,
            block_cache_size: settings
                .get(name::BLOCK_CACHE_SIZE, "a number of blocks, 0 to 100000", |text| {
                    text.parse().ok().filter(|blocks| *blocks <= 100_000)
                })?
                .unwrap_or(256),
            keep_blocks,
            state_sync_lag: state_sync.lag(keep_blocks),
            rpc_timeout: settings
                .get(name::RPC_TIMEOUT, "a duration such as 30s or 500ms, 100ms to 10m", |text| {
                    duration_within(text, Duration::from_millis(100), Duration::from_secs(600))
                })?
                .unwrap_or(Duration::from_secs(30)),
            rpc_rate_limit: settings
                .parse(name::RPC_RATE_LIMIT, "requests a second and client, a whole number; 0: no limit")?
                .unwrap_or(1_000),
            mempool_max_bytes: settings
                .get(name::MEMPOOL_MAX_BYTES, "64KiB to 16GiB: bytes, or a number with KiB, MiB or GiB", |text| {
                    bytes(text).filter(|n| (64 << 10..=16 << 30).contains(n))
                })?
                .unwrap_or(64 << 20),
            log_level: settings
                .get(name::LOG_LEVEL, "error, warn, info, debug, trace, off, or a tracing filter", filter)?
                .unwrap_or_else(|| "info".into()),
            log_json: settings
                .get(name::LOG_FORMAT, "json or text", |text| match text {
                    "json" => Some(true),
                    "text" => Some(false),
                    _ => None,
                })?
                .unwrap_or(true),
        };
        config.check_ports()?;
        Ok(config)
    }

    /// Settings that stand in genesis too must say the same.
    ///
    /// # Errors
    /// Names the setting that contradicts.
    pub fn check_genesis(&self, genesis: &Genesis) -> Result<(), ConfigError> {
        let wrong = |key, found, expected| {
            Err(ConfigError::Genesis { key, found, expected, chain_id: genesis.chain_id.clone() })
        };
        if let Some(mode) = self.consensus_mode
            && mode != genesis.mode
        {
            return wrong(name::CONSENSUS_MODE, mode.name().into(), genesis.mode.name().into());
        }
        let expected = genesis.parameters.block_time_ms;
        match self.block_time.map(|time| time.as_millis()) {
            Some(found) if found != u128::from(expected) => {
                wrong(name::BLOCK_TIME, format!("{found}ms"), format!("{expected}ms"))
            }
            _ => Ok(()),
        }
    }

    fn check_ports(&self) -> Result<(), ConfigError> {
        let listeners = [
            (name::RPC_PORT, self.rpc.port()),
            (name::WS_PORT, self.ws.port()),
            (name::P2P_PORT, self.p2p.port()),
            (name::METRICS_PORT, self.metrics.port()),
            (name::ADMIN_PORT, self.admin.port()),
        ];
        for (i, (second, port)) in listeners.iter().enumerate() {
            if let Some((first, _)) = listeners[..i].iter().find(|(_, other)| other == port && *port != 0) {
                return Err(ConfigError::SamePort { first, second, port: *port });
            }
        }
        Ok(())
    }
}

/// The file's values as text, by key; a list becomes its items with commas between.
fn read(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let file = || path.to_owned();
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { file: file(), cause })?;
    let parsed: Option<BTreeMap<String, Value>> = serde_saphyr::from_str(&text).map_err(|cause| {
        let cause = cause.to_string().lines().next().unwrap_or_default().to_owned();
        ConfigError::NotYaml { file: file(), cause }
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in parsed.unwrap_or_default() {
        if !known().contains(&key) {
            return Err(ConfigError::UnknownKey { file: file(), key: key.chars().take(80).collect() });
        }
        let text = scalar(&value).or_else(|| {
            value.as_array().and_then(|items| items.iter().map(scalar).collect::<Option<Vec<_>>>()).map(|l| l.join(","))
        });
        let text = text.ok_or_else(|| ConfigError::Value {
            key: format!("{key} in {}", path.display()),
            found: "a structure".into(),
            allowed: "one value".into(),
        })?;
        values.insert(key, text);
    }
    Ok(values)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Environment and file.
struct Settings<E> {
    env: E,
    file: Option<(PathBuf, BTreeMap<String, String>)>,
}

impl<E: Fn(&str) -> Option<String>> Settings<E> {
    /// A value and how to name where it comes from; empty ones are absent.
    fn raw(&self, name: &str) -> Option<(String, String)> {
        if let Some(value) = (self.env)(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()) {
            return Some((value, name.to_owned()));
        }
        let (path, values) = self.file.as_ref()?;
        let key = name.to_lowercase();
        let value = values.get(&key).map(|v| v.trim()).filter(|v| !v.is_empty())?;
        Some((value.to_owned(), format!("{key} in {}", path.display())))
    }

    fn get<T>(&self, name: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ConfigError> {
        let Some((value, key)) = self.raw(name) else { return Ok(None) };
        let wrong = || ConfigError::Value { key, found: shown(name, &value), allowed: allowed.to_owned() };
        parse(&value).map(Some).ok_or_else(wrong)
    }

    fn parse<T: FromStr>(&self, name: &str, allowed: &str) -> Result<Option<T>, ConfigError> {
        self.get(name, allowed, |text| text.parse().ok())
    }

    fn path(&self, name: &str) -> Result<Option<PathBuf>, ConfigError> {
        self.get(name, "a path", |text| Some(PathBuf::from(text)))
    }
}

/// A wrong value in quotes, cut short; of a database URL only the scheme, because it may hold a password.
fn shown(name: &str, value: &str) -> String {
    if name == name::DATABASE_URL {
        let scheme: String = value.split_once(':').map_or("", |(scheme, _)| scheme).chars().take(20).collect();
        return format!("\"{scheme}:…\"");
    }
    format!("\"{}\"", value.chars().take(80).collect::<String>())
}

fn host(text: &str) -> Option<IpAddr> {
    if text == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { text.parse().ok() }
}

fn database(text: &str) -> Option<String> {
    ["sqlite:///", "postgresql://", "postgres://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
        .then(|| text.to_owned())
}

fn peers(text: &str) -> Option<Vec<String>> {
    text.split(',').map(str::trim).filter(|peer| !peer.is_empty()).map(peer).collect()
}

/// `host:port` with a port that can be dialled; IPv6 in brackets.
fn peer(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = !host.is_empty() && !host.contains([':', '/', ' ']);
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let dialled = port.parse::<u16>().is_ok_and(|port| port > 0);
    ((bare || bracketed) && dialled).then(|| text.to_owned())
}

fn filter(text: &str) -> Option<String> {
    tracing_subscriber::EnvFilter::try_new(text).ok().map(|_| text.to_owned())
}

/// `archive` or a number of blocks that is not too small.
fn pruning(text: &str) -> Option<Option<u64>> {
    if text == "archive" {
        Some(None)
    } else {
        text.parse::<u64>().ok().filter(|blocks| *blocks >= MIN_KEEP_BLOCKS).map(Some)
    }
}

/// When a snapshot is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StateSync {
    /// Where old blocks are deleted anyway.
    Auto,
    /// Where all blocks are kept too: of this node those below the snapshot are missing then.
    On,
    /// Never.
    Off,
}

impl StateSync {
    /// Blocks behind from which on; a node does not leave out any that it was told to keep.
    fn lag(self, keep_blocks: Option<u64>) -> Option<u64> {
        match (self, keep_blocks) {
            (StateSync::Off, _) | (StateSync::Auto, None) => None,
            (StateSync::On, None) => Some(STATE_SYNC_LAG),
            (StateSync::Auto | StateSync::On, Some(keep)) => Some(keep.max(STATE_SYNC_LAG)),
        }
    }
}

fn state_sync(text: &str) -> Option<StateSync> {
    match text {
        "auto" => Some(StateSync::Auto),
        "on" => Some(StateSync::On),
        "off" => Some(StateSync::Off),
        _ => None,
    }
}

fn pruning_allowed() -> String {
    format!(
        "archive, or a number of blocks from {MIN_KEEP_BLOCKS} on: a batch may be named again for {MAX_EXPIRY_AHEAD} \
         blocks, and late peers ask for the last {KEEP_FINAL_SLOTS}"
    )
}

fn bytes(text: &str) -> Option<usize> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
    let (digits, shift) = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))?;
    digits.trim_end().parse::<usize>().ok()?.checked_mul(1 << shift)
}

fn duration_within(text: &str, least: Duration, most: Duration) -> Option<Duration> {
    duration(text).filter(|found| (least..=most).contains(found))
}

/// `500ms`, `1s`, `2m`: a whole number and a unit.
pub fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    let (digits, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    digits.parse::<u64>().ok()?.checked_mul(*factor).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    fn load(yaml: Option<&str>, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = yaml.map(file);
        let value = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::load(file.as_ref().map(|f| f.path()), value)
    }

    fn wrong(yaml: Option<&str>, env: &[(&str, &str)], words: &[&str]) {
        let message = load(yaml, env).expect_err(&format!("{yaml:?} {env:?}")).to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        for word in words {
            assert!(message.contains(word), "\"{word}\" in: {message}");
        }
    }

    #[test]
    fn without_anything_the_documented_defaults_hold() {
        let config = load(None, &[]).expect("defaults");
        assert_eq!(config.database_url, "sqlite:///blockchain.db");
        let listeners = [config.rpc, config.ws, config.p2p, config.metrics, config.admin].map(|a| a.to_string());
        assert_eq!(listeners, ["0.0.0.0:9080", "0.0.0.0:9081", "0.0.0.0:9082", "0.0.0.0:9090", "127.0.0.1:9083"]);
        assert_eq!((config.rpc_timeout, config.rpc_rate_limit), (Duration::from_secs(30), 1_000));
        assert_eq!(config.keep_blocks, None);
        assert_eq!((config.block_time, config.consensus_mode, config.validator_address), (None, None, None));
        assert!(config.peers.is_empty() && config.log_json && config.validator_key_file.is_none());
    }

    #[test]
    fn the_environment_stands_over_the_file_and_an_empty_value_over_nothing() {
        let yaml = "rpc_port: 1\nws_port: 2\nblock_time: 500ms\npeers: [a:1, \"[::1]:2\"]\nlog_format: text\n";
        let config = load(Some(yaml), &[("RPC_PORT", "7"), ("WS_PORT", ""), ("PEERS", "b:3, c.d:4")]).expect("valid");
        assert_eq!((config.rpc.port(), config.ws.port()), (7, 2));
        assert_eq!(config.peers, ["b:3", "c.d:4"]);
        assert_eq!((config.block_time, config.log_json), (Some(Duration::from_millis(500)), false));
        assert_eq!(load(Some(yaml), &[]).expect("valid").peers, ["a:1", "[::1]:2"]);
        assert!(load(Some("# nothing\n"), &[]).is_ok());
    }

    #[test]
    fn each_wrong_setting_is_one_line_with_key_value_and_what_is_allowed() {
        wrong(None, &[("RPC_PORT", "70000")], &["RPC_PORT", "70000", "0 to 65535"]);
        wrong(Some("ws_port: x"), &[], &["ws_port", "x", "port"]);
        wrong(None, &[("BLOCK_TIME", "0s")], &["BLOCK_TIME", "0s", "100ms"]);
        wrong(None, &[("BLOCK_TIME", "1")], &["BLOCK_TIME", "1s"]);
        wrong(None, &[("CONSENSUS_MODE", "pow")], &["CONSENSUS_MODE", "pow", "poa"]);
        wrong(None, &[("VALIDATOR_ADDRESS", "ait1x")], &["VALIDATOR_ADDRESS", "ait1x", "40 hex"]);
        wrong(None, &[("PEERS", "a:1,b")], &["PEERS", "host:port"]);
        wrong(None, &[("PEERS", "a:0")], &["PEERS"]);
        wrong(None, &[("MEMPOOL_MAX_BYTES", "1")], &["MEMPOOL_MAX_BYTES", "64KiB"]);
        wrong(None, &[("LOG_FORMAT", "xml")], &["LOG_FORMAT", "json or text"]);
        wrong(None, &[("LOG_LEVEL", "a=b=c")], &["LOG_LEVEL"]);
        wrong(None, &[("RPC_HOST", "example.com")], &["RPC_HOST", "IP address"]);
        wrong(None, &[("WS_PORT", "9080")], &["RPC_PORT", "WS_PORT", "9080"]);
        wrong(Some("rpc_port: {a: 1}"), &[], &["rpc_port", "one value"]);
        wrong(Some("rpc-port: 1"), &[], &["unknown key", "rpc-port", "did you mean \"rpc_port\"", "ws_port"]);
        wrong(Some("prune: archive"), &[], &["unknown key", "prune"]);
        wrong(Some("pruning: 2063"), &[], &["pruning", "2063", "archive", "from 2064 on", "2000 blocks", "last 64"]);
        wrong(None, &[("PRUNING", "all")], &["PRUNING", "all", "archive"]);
        wrong(Some("- a\n- b"), &[], &["not a YAML file"]);
        wrong(Some("a: [1"), &[], &["not a YAML file"]);
    }

    #[test]
    fn the_longest_block_time_is_told_in_a_unit_that_is_taken() {
        let config = load(None, &[("BLOCK_TIME", "60m")]).expect("an hour");
        assert_eq!(config.block_time, Some(Duration::from_secs(3_600)));
        wrong(None, &[("BLOCK_TIME", "61m")], &["BLOCK_TIME", "61m", "100ms to 60m"]);
        wrong(None, &[("BLOCK_TIME", "1h")], &["BLOCK_TIME", "1h", "100ms to 60m"]);
    }

    #[test]
    fn a_password_in_a_wrong_database_url_is_not_repeated() {
        let error = load(None, &[("DATABASE_URL", "mysql://me:secret@host/db")]).expect_err("mysql").to_string();
        assert!(error.contains("mysql") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::load(Some(Path::new("/nowhere/x.yaml")), |_| None).expect_err("absent").to_string();
        assert!(error.contains("/nowhere/x.yaml") && error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(bytes("64MiB"), Some(64 << 20));
        assert_eq!((bytes("1024"), bytes("1 KiB"), bytes("1KB"), bytes("-1")), (Some(1024), Some(1024), None, None));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!((duration("5"), duration("s"), duration("-1s"), duration("1h")), (None, None, None, None));
    }

    #[test]
    fn pruning_keeps_all_blocks_or_a_number_of_them() {
        let keep = |value| load(None, &[("PRUNING", value)]).expect("allowed").keep_blocks;
        assert_eq!((keep("archive"), keep("2064"), keep("1000000")), (None, Some(2_064), Some(1_000_000)));
        assert_eq!(load(Some("pruning: 5000"), &[]).expect("allowed").keep_blocks, Some(5_000));
    }

    #[test]
    fn a_snapshot_is_fetched_where_blocks_are_deleted_anyway_or_it_is_asked_for() {
        let lag = |vars: &[(&str, &str)]| load(None, vars).expect("allowed").state_sync_lag;
        assert_eq!(lag(&[]), None);
        assert_eq!(lag(&[("STATE_SYNC", "on")]), Some(10_000));
        assert_eq!(lag(&[("PRUNING", "5000")]), Some(10_000));
        assert_eq!(lag(&[("PRUNING", "50000")]), Some(50_000), "what shall be kept is not left out");
        assert_eq!(lag(&[("PRUNING", "50000"), ("STATE_SYNC", "off")]), None);
        assert!(load(None, &[("STATE_SYNC", "fast")]).is_err());
    }

    #[test]
    fn a_setting_that_contradicts_genesis_is_refused() {
        let text = format!(
            r#"{{"chain_id":"t","mode":"poa","validators":[{{"public_key":"{}"}}]}}"#,
            aitbc_core::key::SecretKey::from_seed([1; 32]).public()
        );
        let genesis = Genesis::from_json(&text).expect("valid");
        let with = |time: &str| load(None, &[("BLOCK_TIME", time), ("CONSENSUS_MODE", "poa")]).expect("valid");
        assert!(with("1s").check_genesis(&genesis).is_ok());
        let error = with("2s").check_genesis(&genesis).expect_err("other").to_string();
        assert!(error.contains("BLOCK_TIME") && error.contains("2000ms") && error.contains("1000ms"), "{error}");
    }
}
