//! A chain on this machine by one command: keys, genesis, N validator processes, a funded account.

use crate::shutdown;
use aitbc_core::env;
use aitbc_core::genesis::{Faucet, Genesis, GenesisAccount, GenesisValidator, Mode, Staking};
use aitbc_core::key::SecretKey;
use aitbc_core::params::Parameters;
use aitbc_core::terms::{Coordinator, Terms};
use anyhow::{Context, Result, bail};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Ports of validator i are the documented ones plus 100·i.
const PORT_STEP: u16 = 100;
/// Smallest units that each validator has at stake, in the modes that have stakes.
const STAKE: u64 = 1_000_000;
/// Units of the funded account, and of the faucet.
const FUNDS: u64 = 1_000_000_000_000;
/// Most units of one faucet request.
const FAUCET_MAX: u64 = 1_000_000;
/// Key file of the coordinator who attests receipts.
const COORDINATOR: &str = "coordinator.pem";
/// How long the first block may take before the command gives up.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long validators may take to stop before they are killed.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// What to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where files and databases go.
    pub dir: PathBuf,
    /// Number of validators, 1 ..= 20.
    pub validators: u16,
    /// `sqlite`, or a Postgres server in which each validator gets a database of its own.
    pub database: String,
    /// Added to every port, so that two devnets fit on one machine.
    pub port_offset: u16,
    /// Longest pause between blocks in milliseconds.
    pub block_time_ms: u64,
    /// How validators are chosen; in modes pos and hybrid each begins with a stake.
    pub mode: Mode,
}

/// Files of a validator.
struct Paths {
    config: PathBuf,
    key: PathBuf,
    first_start: PathBuf,
    log: PathBuf,
}

fn paths(dir: &Path, index: u16) -> Paths {
    let file = |suffix: &str| dir.join(format!("validator-{index}.{suffix}"));
    Paths { config: file("yaml"), key: file("pem"), first_start: file("first-start"), log: file("log") }
}

fn port(options: &Options, base: u16, index: u16) -> u16 {
    base + options.port_offset + PORT_STEP * index
}

/// Writes keys, genesis and configuration; what is there already stays, so the same chain goes on.
///
/// # Errors
/// Where a file cannot be read or written, or belongs to another shape of network.
pub async fn init(options: &Options) -> Result<Genesis> {
    if !(1..=20).contains(&options.validators) {
        bail!("--validators {} is not allowed: 1 to 20", options.validators);
    }
    let dir = &options.dir;
    fs::create_dir_all(dir).with_context(|| format!("create folder {}", dir.display()))?;
    let keys = (0..options.validators).map(|i| key(&paths(dir, i).key)).collect::<Result<Vec<_>>>()?;
    let account = key(&dir.join("account.pem"))?;
    let genesis = genesis(options, &keys, &account)?;
    for index in 0..options.validators {
        let url = database_url(options, index).await?;
        fs::write(paths(dir, index).config, yaml(options, index, &keys[usize::from(index)], &url))?;
    }
    Ok(genesis)
}

/// The key in a file, made where there is none. Readable by the owner only.
fn key(path: &Path) -> Result<SecretKey> {
    if path.exists() {
        let pem = fs::read_to_string(path).with_context(|| format!("read key file {}", path.display()))?;
        return SecretKey::from_pkcs8_pem(&pem).with_context(|| format!("key file {}", path.display()));
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|cause| anyhow::anyhow!("no randomness from the system: {cause}"))?;
    let key = SecretKey::from_seed(seed);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.to_pkcs8_pem().as_bytes())?;
    file.sync_all()?;
    Ok(key)
}

fn genesis(options: &Options, keys: &[SecretKey], account: &SecretKey) -> Result<Genesis> {
    let path = options.dir.join("genesis.json");
    if path.exists() {
        let genesis = Genesis::from_json(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
        if genesis.validators.len() != keys.len() {
            bail!(
                "{} holds a devnet of {} validators, {} were asked for: choose another --dir, or the same number",
                options.dir.display(),
                genesis.validators.len(),
                keys.len()
            );
        }
        if genesis.mode != options.mode {
            bail!(
                "{} holds a devnet of mode {}, {} was asked for: choose another --dir, or the same mode",
                options.dir.display(),
                genesis.mode.name(),
                options.mode.name()
            );
        }
        return Ok(genesis);
    }
    let stake = if options.mode == Mode::Poa { 0 } else { STAKE };
    let genesis = Genesis {
        chain_id: "devnet".into(),
        mode: options.mode,
        validators: keys.iter().map(|k| GenesisValidator { public_key: k.public(), weight: 1, stake }).collect(),
        accounts: vec![GenesisAccount { address: account.public().address(), balance: FUNDS }],
        faucet: Some(Faucet { balance: FUNDS, max_amount: FAUCET_MAX }),
        receipts: Some(terms(&options.dir)?),
        parameters: Parameters { block_time_ms: options.block_time_ms, ..Parameters::default() },
        staking: Staking::beginning_with(keys.len()),
    };
    genesis.check()?;
    // A chain that is being made has no votes yet. Before genesis: what exists is not made again.
    for index in 0..options.validators {
        fs::write(paths(&options.dir, index).first_start, genesis.hash().to_string())?;
    }
    fs::write(&path, genesis.to_json())?;
    Ok(genesis)
}

/// Terms of receipts by which 1,000 units are minted for each unit of work, a twentieth of them for the coordinator.
fn terms(dir: &Path) -> Result<Terms> {
    let coordinator = Coordinator { public_key: key(&dir.join(COORDINATOR))?.public() };
    Ok(Terms {
        mint_per_unit: 1_000,
        coordinator_parts_per_million: 50_000,
        coordinators: vec![coordinator],
        coordinator_threshold: 1,
        epoch_cap: FUNDS,
        provider_epoch_cap: FUNDS,
        expiry_seconds: 604_800,
    })
}

fn yaml(options: &Options, index: u16, key: &SecretKey, database_url: &str) -> String {
    let dir = std::path::absolute(&options.dir).unwrap_or_else(|_| options.dir.clone());
    let p = |base| port(options, base, index);
    let peers: Vec<String> = (0..options.validators)
        .filter(|other| *other != index)
        .map(|other| format!("127.0.0.1:{}", port(options, env::P2P_PORT, other)))
        .collect();
    format!(
        "# Validator {index} of a devnet; every key may also be given as environment variable in capitals.\n\
         database_url: {database_url}\n\
         genesis_file: {dir}/genesis.json\n\
         validator_key_file: {dir}/validator-{index}.pem\n\
         first_start_file: {dir}/validator-{index}.first-start\n\
         validator_address: {address}\n\
         rpc_host: 127.0.0.1\n\
         rpc_port: {rpc}\n\
         ws_port: {ws}\n\
         p2p_host: 127.0.0.1\n\
         p2p_port: {p2p}\n\
         metrics_port: {metrics}\n\
         admin_port: {admin}\n\
         rpc_rate_limit: 0\n\
         peers: {peers}\n",
        dir = dir.display(),
        address = key.public().address(),
        rpc = p(env::RPC_PORT),
        ws = p(env::WS_PORT),
        p2p = p(env::P2P_PORT),
        metrics = p(env::METRICS_PORT),
        admin = p(env::ADMIN_PORT),
        peers = peers.join(","),
    )
}

/// Each validator its own database: a file, or one made in the server that was named.
async fn database_url(options: &Options, index: u16) -> Result<String> {
    if options.database == "sqlite" {
        let dir = std::path::absolute(&options.dir)?;
        return Ok(format!("sqlite:///{}/validator-{index}.db", dir.display()));
    }
    if !options.database.starts_with("postgres") {
        bail!("--database \"{}\" is not allowed: sqlite, or postgresql://user@host/database", options.database);
    }
    create_database(&options.database, &format!("devnet_validator_{index}"))
        .await
        .context("create a database for each validator")
}

/// Makes a database in the server of `url`, unless it is there, and returns its URL.
async fn create_database(url: &str, name: &str) -> Result<String> {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(url).await?;
    let exists: Option<i32> = sqlx::query_scalar("SELECT 1 FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_optional(&mut connection)
        .await?;
    if exists.is_none() {
        // Not user input: a fixed word and a number.
        let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(statement).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(replace_database(url, name))
}

/// `scheme://authority/database?query` with another database.
fn replace_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let authority_end = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority_end..].find('/').map_or(base.len(), |at| authority_end + at);
    format!("{}/{name}{query}", &base[..end])
}

/// Makes what is missing, runs all validators until a signal, tells where they are.
///
/// # Errors
/// Where the files cannot be made, or a validator does not come up or stops by itself.
pub async fn run(options: Options) -> Result<()> {
    let started = Instant::now();
    let genesis = init(&options).await?;
    let mut children = Vec::new();
    for index in 0..options.validators {
        children.push(spawn(&options, index)?);
    }
    let outcome = tokio::select! {
        signal = shutdown::signal() => signal.map(|_| ()).context("listen to signals"),
        result = serve(&options, &genesis, started) => result,
        (index, status) = first_exit(&mut children) => {
            let log = paths(&options.dir, index).log;
            Err(anyhow::anyhow!("validator {index} stopped by itself ({status}); its log: {}", log.display()))
        }
    };
    stop(children).await;
    outcome
}

fn spawn(options: &Options, index: u16) -> Result<Child> {
    let paths = paths(&options.dir, index);
    let log = OpenOptions::new().create(true).append(true).open(&paths.log)?;
    let program = std::env::current_exe().context("find the own program")?;
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(&paths.config).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    // Its own process group: Ctrl-C reaches this process, which stops them in order.
    command.process_group(0);
    command.spawn().with_context(|| format!("start validator {index}"))
}

async fn first_exit(children: &mut [Child]) -> (u16, std::process::ExitStatus) {
    let waits = children.iter_mut().enumerate().map(|(index, child)| {
        Box::pin(async move {
            match child.wait().await {
                Ok(status) => (index as u16, status),
                Err(_) => std::future::pending().await,
            }
        })
    });
    futures_util::future::select_all(waits).await.0
}

/// Waits for blocks, prints the summary, then waits for ever.
async fn serve(options: &Options, genesis: &Genesis, started: Instant) -> Result<()> {
    let url = format!("http://127.0.0.1:{}", port(options, env::RPC_PORT, 0));
    println!("starting {} validators in {} …", options.validators, options.dir.display());
    let first = height(&url).await;
    let head = tokio::time::timeout(START_LIMIT, async {
        loop {
            match (first, height(&url).await) {
                (_, Some(now)) if Some(now) > first && now > 0 => return now,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
    .with_context(|| format!("no block within {START_LIMIT:?}: see {}/validator-0.log", options.dir.display()))?;
    println!("{}", welcome(options, genesis, head, started.elapsed()));
    std::future::pending().await
}

async fn height(url: &str) -> Option<u64> {
    let answer = reqwest::get(format!("{url}/rpc/get_head")).await.ok()?;
    answer.json::<serde_json::Value>().await.ok()?["height"].as_u64()
}

fn welcome(options: &Options, genesis: &Genesis, head: u64, took: Duration) -> String {
    let dir = options.dir.display();
    let mut text =
        format!("\nchain \"{}\" is at height {head}, {:.1} s after start\n\n", genesis.chain_id, took.as_secs_f64());
    for index in 0..options.validators {
        let p = |base| port(options, base, index);
        text += &format!(
            "  validator {index}   rpc http://127.0.0.1:{}   ws ws://127.0.0.1:{}/ws   metrics http://127.0.0.1:{}/metrics\n",
            p(env::RPC_PORT),
            p(env::WS_PORT),
            p(env::METRICS_PORT)
        );
    }
    let rpc = port(options, env::RPC_PORT, 0);
    let account = genesis.accounts.first().map(|a| a.address.to_string()).unwrap_or_default();
    text + &format!(
        "\n  funded account {account}   key {dir}/account.pem\n  \
         receipts are attested by {dir}/{COORDINATOR}\n  logs {dir}/validator-*.log\n\n\
         try:  aitbc-node query head --rpc http://127.0.0.1:{rpc}\n      \
         aitbc-node tx transfer --rpc http://127.0.0.1:{rpc} --key {dir}/account.pem --to 0x{to} --amount 5 --wait final\n\n\
         Ctrl-C stops it; the same command goes on with the same chain.",
        to = "11".repeat(20),
    )
}

/// SIGTERM to all at once, SIGKILL to who does not follow.
async fn stop(mut children: Vec<Child>) {
    println!("stopping …");
    for child in &children {
        let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32));
        if let Some(pid) = pid {
            // It may have exited meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
    let all = futures_util::future::join_all(children.iter_mut().map(Child::wait));
    if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
        eprintln!("a validator did not stop within {STOP_LIMIT:?} and is killed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_devnet_of_another_mode_or_number_is_not_taken_for_the_one_asked_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = |validators, mode| Options {
            dir: dir.path().join("data"),
            validators,
            database: "sqlite".into(),
            port_offset: 0,
            block_time_ms: 1_000,
            mode,
        };
        let first = init(&options(4, Mode::Hybrid)).await.expect("made");
        assert!(first.validators.iter().all(|validator| validator.stake == STAKE));
        assert_eq!(init(&options(4, Mode::Hybrid)).await.expect("the same").hash(), first.hash());
        for (other, word) in [(options(4, Mode::Poa), "hybrid"), (options(5, Mode::Hybrid), "4 validators")] {
            let error = init(&other).await.expect_err("another one").to_string();
            assert!(error.contains(word) && error.contains("--dir"), "{error}");
        }
    }

    #[test]
    fn the_database_of_a_url_is_replaced_and_nothing_else() {
        for (url, expected) in [
            ("postgresql://u@h:5432/postgres", "postgresql://u@h:5432/x"),
            ("postgresql://u@h", "postgresql://u@h/x"),
            ("postgresql:///postgres?host=/run", "postgresql:///x?host=/run"),
        ] {
            assert_eq!(replace_database(url, "x"), expected);
        }
    }
}
