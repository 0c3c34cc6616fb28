//! A chain of real `aitbc-node` processes on this machine, each with its own database; kept for inspection where a test fails.

use crate::ledger_reader::LedgerReader;
use crate::metrics::Metrics;
use crate::node_process::NodeProcess;
use crate::ports::PortBlock;
use crate::postgres::Postgres;
use crate::proxy::Network;
use crate::rpc::Rpc;
use crate::seed::Seed;
use crate::subscriber::Subscriber;
use crate::vote_archive::VoteArchive;
use crate::wait;
use crate::wallet::Wallet;
use aitbc_core::genesis::{Faucet, Genesis, GenesisAccount, GenesisValidator, Mode, Staking};
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::params::Parameters;
use aitbc_core::record::Record;
use aitbc_core::supply::Supply;
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a started chain may take to its first block.
pub const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a stopped node may take (design.md §4).
pub const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Ports of a node: RPC, WebSocket, gossip, metrics, administration.
const PORTS: u16 = 5;
/// Which of them is the gossip port.
const GOSSIP: u16 = 2;
/// Balance of each account at genesis.
pub const FUNDS: u64 = 1_000_000_000;

/// What keeps the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Database {
    /// Two files for each node.
    Sqlite,
    /// One server, a database for each node.
    Postgres,
    /// A server for each node, so that one can be killed.
    #[value(skip)]
    PostgresEach,
    /// Two files for nodes 0, 2 and so on, one server for the others.
    Both,
}

impl Database {
    /// For reports.
    pub fn name(self) -> &'static str {
        match self {
            Database::Sqlite => "sqlite",
            Database::Postgres | Database::PostgresEach => "postgres",
            Database::Both => "sqlite and postgres",
        }
    }
}

/// How validators reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// As they would without a test.
    Direct,
    /// Through the proxies of a [`Network`].
    Proxied,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Number of validators.
    pub validators: usize,
    /// What keeps the blocks.
    pub database: Database,
    /// Of keys and choices.
    pub seed: Seed,
    /// Funded accounts at genesis.
    pub accounts: usize,
    /// Consensus parameters.
    pub parameters: Parameters,
    /// How validators reach each other.
    pub wiring: Wiring,
}

/// A validator: its process and everything one needs to look at it.
pub struct Node {
    /// Position in [`Localnet::nodes`].
    pub index: usize,
    /// Position in the validator set of genesis, which orders by key: how votes name it while that set stands. −1: not in it.
    pub signer: i64,
    /// The process.
    pub process: NodeProcess,
    /// Its REST interface.
    pub rpc: Rpc,
    /// `ws://host:port`.
    pub ws: String,
    /// `http://host:port` of its metrics.
    pub metrics: Rpc,
    /// Port on which it listens for its peers.
    pub gossip: u16,
    /// Its YAML file.
    pub config: PathBuf,
    /// Its `DATABASE_URL`.
    pub database_url: String,
    /// Its consensus key's address.
    pub address: Address,
}

/// The chain.
pub struct Localnet {
    /// Validators, in the order of genesis.
    pub nodes: Vec<Node>,
    /// Its genesis.
    pub genesis: Genesis,
    /// Genesis hash.
    pub chain: Hash,
    /// Funded accounts.
    pub wallets: Vec<Wallet>,
    /// All votes seen.
    pub votes: VoteArchive,
    /// Servers: none, one, or one each.
    pub servers: Vec<Postgres>,
    /// What lies between the validators, where they are wired so.
    network: Option<Network>,
    shape: Shape,
    dir: Option<tempfile::TempDir>,
    finished: bool,
    _ports: PortBlock,
}

impl Localnet {
    /// Starts `n` validators and waits for the first block.
    ///
    /// # Errors
    /// Where a process or a database does not come up, or no block comes.
    pub async fn start(n: usize, database: Database, seed: Seed) -> Result<Localnet> {
        let (parameters, wiring) = (Parameters::default(), Wiring::Direct);
        Localnet::start_shape(Shape { validators: n, database, seed, accounts: 64, parameters, wiring }).await
    }

    /// As [`Localnet::start`], with everything chosen.
    ///
    /// # Errors
    /// As [`Localnet::start`].
    pub async fn start_shape(shape: Shape) -> Result<Localnet> {
        let mut net = Localnet::prepare(shape).await?;
        net.start_all()?;
        net.wait_for_height(1, START_LIMIT).await?;
        Ok(net)
    }

    /// Makes keys, genesis, databases and configuration, starts nothing.
    ///
    /// # Errors
    /// Where a file or a database cannot be made.
    pub async fn prepare(shape: Shape) -> Result<Localnet> {
        Localnet::prepare_with(shape, |_| {}).await
    }

    /// As [`Localnet::prepare`], with something else in genesis. Nodes whose key is taken out of it follow the chain.
    ///
    /// # Errors
    /// As [`Localnet::prepare`].
    pub async fn prepare_with(shape: Shape, change: impl FnOnce(&mut Genesis)) -> Result<Localnet> {
        let dir = tempfile::Builder::new().prefix("aitbc-localnet-").tempdir()?;
        let keys: Vec<SecretKey> = (0..shape.validators).map(|i| shape.seed.key("validator", i as u64)).collect();
        let wallets: Vec<Wallet> =
            (0..shape.accounts).map(|i| Wallet::new(shape.seed.key("account", i as u64))).collect();
        let mut genesis = genesis(&shape, &keys, &wallets);
        change(&mut genesis);
        genesis.check()?;
        std::fs::write(dir.path().join("genesis.json"), genesis.to_json())?;
        let servers = servers(&shape)?;
        let ports = PortBlock::take(PORTS * shape.validators as u16)?;
        let gossip: Vec<u16> = (0..shape.validators).map(|index| port(&ports, index, GOSSIP)).collect();
        let network = match shape.wiring {
            Wiring::Direct => None,
            Wiring::Proxied => Some(Network::start(shape.seed, &gossip).await?),
        };
        let set = genesis.validator_set()?;
        let mut nodes = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let first_start = dir.path().join(format!("validator-{index}.first-start"));
            std::fs::write(first_start, genesis.hash().to_string())?;
            let database_url = database_url(dir.path(), shape.database, &servers, index)?;
            let signer = set.index_of(&key.public()).map_or(-1, i64::from);
            let reached = |other| network.as_ref().map_or(gossip[other], |network| network.port(index, other));
            let peers = (0..shape.validators).filter(|other| *other != index).map(reached).collect::<Vec<_>>();
            nodes.push(Node { signer, ..node(dir.path(), &ports, &peers, index, key, database_url)? });
        }
        let readers = nodes.iter().map(|n| LedgerReader::open(&n.database_url)).collect::<Result<_>>()?;
        Ok(Localnet {
            nodes,
            chain: genesis.hash(),
            genesis,
            wallets,
            votes: VoteArchive::start(readers),
            servers,
            network,
            shape,
            dir: Some(dir),
            finished: false,
            _ports: ports,
        })
    }

    /// Starts every node that does not run.
    ///
    /// # Errors
    /// Where one cannot be started.
    pub fn start_all(&mut self) -> Result<()> {
        self.nodes.iter_mut().filter(|n| n.process.pid().is_none()).try_for_each(|n| n.process.start())
    }

    /// Folder of keys, configuration, databases and logs.
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new("."), |dir| dir.path())
    }

    /// Folder of a validator's database files, on SQLite.
    pub fn database_dir(&self, index: usize) -> PathBuf {
        database_dir(self.dir(), index)
    }

    /// What lies between the validators.
    ///
    /// # Errors
    /// Where they are wired directly.
    pub fn network(&self) -> Result<&Network> {
        self.network.as_ref().context("these validators are wired directly")
    }

    /// Seed of all choices.
    pub fn seed(&self) -> Seed {
        self.shape.seed
    }

    /// What keeps the blocks.
    pub fn database(&self) -> Database {
        self.shape.database
    }

    /// Waits until every running node is at `height` or above.
    ///
    /// # Errors
    /// After `limit`: tells every node's height.
    pub async fn wait_for_height(&self, height: u64, limit: Duration) -> Result<()> {
        let running = self.nodes.iter().filter(|n| n.process.pid().is_some());
        let all = running.map(|node| {
            let what = format!("validator {} at height {height}", node.index);
            async move {
                wait::until_ok(Duration::from_millis(20), &what, limit, || async {
                    let found = node.rpc.height().await?;
                    if found < height {
                        bail!("it is at {found}");
                    }
                    Ok(())
                })
                .await
            }
        });
        futures_util::future::try_join_all(all).await.map(|_| ())
    }

    /// Height of the highest node that answers.
    ///
    /// # Errors
    /// Where none does.
    pub async fn height(&self) -> Result<u64> {
        let heights = futures_util::future::join_all(self.nodes.iter().map(|n| n.rpc.height())).await;
        heights.into_iter().flatten().max().context("no node answers")
    }

    /// A height up to which a transaction signed now may wait.
    ///
    /// # Errors
    /// Where no node answers.
    pub async fn expiry(&self) -> Result<u64> {
        Ok(self.height().await? + 1_000)
    }

    /// Subscribes to topics of a node.
    ///
    /// # Errors
    /// Where it does not take it.
    pub async fn subscribe(&self, index: usize, topics: &[&str]) -> Result<Subscriber> {
        Subscriber::connect(&self.nodes[index].ws, topics).await
    }

    /// Metrics of a node, as a scraper gets them.
    ///
    /// # Errors
    /// Where the port does not answer.
    pub async fn metrics(&self, index: usize) -> Result<Metrics> {
        self.nodes[index].metrics.text("/metrics").await.map(|text| Metrics::parse(&text))
    }

    /// Another database took the place of a validator's: its votes are collected too, those of the old one stay.
    ///
    /// # Errors
    /// Where its URL cannot be read.
    pub fn database_replaced(&mut self, index: usize) -> Result<()> {
        self.votes.add(LedgerReader::open(&self.nodes[index].database_url)?);
        Ok(())
    }

    /// Waits until a validator wrote a vote above every slot of now.
    ///
    /// # Errors
    /// After `limit`.
    pub async fn wait_until_votes(&self, index: usize, limit: Duration) -> Result<()> {
        let before = self.votes.highest_of_all();
        wait::until(&format!("validator {index} votes above (epoch, slot) {before:?}"), limit, || async {
            self.votes.voted_above(self.nodes[index].signer, before).then_some(())
        })
        .await
    }

    /// As [`Localnet::wait_until_votes`], for a validator whose database was away: when it ends because it cannot know
    /// whether a vote was stored (protocol P6), at any moment until it votes, it is started anew, as a kubelet does.
    ///
    /// # Errors
    /// After `limit`, or where it ends with another code than 1.
    pub async fn start_again_until_votes(&mut self, index: usize, limit: Duration) -> Result<()> {
        let (before, votes, node) = (self.votes.highest_of_all(), &self.votes, &mut self.nodes[index]);
        let what = format!("validator {index}, started again whenever it ended, votes above (epoch, slot) {before:?}");
        wait::until_ok(Duration::from_millis(20), &what, limit, async || {
            match node.process.ended() {
                Some(status) if status.code() != Some(1) => return Ok(Err(status)),
                Some(_) => node.process.start()?,
                None => {}
            }
            ensure!(votes.voted_above(node.signer, before), "no vote yet");
            Ok(Ok(()))
        })
        .await?
        .map_err(|status| anyhow!("validator {index} ended with {status}, not with code 1"))
    }

    /// Waits until a validator votes, and its vote is part of what makes a block after now final.
    ///
    /// # Errors
    /// After `limit`.
    pub async fn wait_until_signs(&self, index: usize, limit: Duration) -> Result<()> {
        let start = self.height().await?;
        self.wait_until_votes(index, limit).await?;
        let node = &self.nodes[index];
        wait::until_ok(Duration::from_millis(50), &format!("votes of validator {index} count"), limit, || async {
            let status = node.rpc.get("/sync_status").await?.ok()?;
            match status["validator"]["last_signed_height"].as_u64() {
                Some(height) if height > start => Ok(()),
                _ => bail!("height {start} when asked, now {status}"),
            }
        })
        .await
    }

    /// What must hold of every chain at any time: no vote contradicts another, no two nodes have different blocks, all
    /// balances, stakes and locks add up to genesis' with what was minted and without what was burnt.
    ///
    /// # Errors
    /// Names what does not hold.
    pub async fn check_invariants(&self) -> Result<()> {
        let (seen, conflicts) = self.votes.check().await;
        if seen == 0 || !conflicts.is_empty() {
            bail!("{seen} votes seen; of one signer, slot and class: {conflicts:#?}");
        }
        println!("{seen} votes seen, none against another");
        let mut chain: BTreeMap<i64, (usize, String)> = BTreeMap::new();
        for node in &self.nodes {
            let reader = LedgerReader::open(&node.database_url)?;
            for (height, digest) in reader.blocks().await.with_context(|| format!("validator {}", node.index))? {
                let (other, first) = chain.entry(height).or_insert_with(|| (node.index, digest.clone()));
                if *first != digest {
                    bail!("height {height}: validator {other} has {first}, validator {} has {digest}", node.index);
                }
            }
            self.check_supply(&reader).await.with_context(|| format!("validator {}", node.index))?;
        }
        Ok(())
    }

    async fn check_supply(&self, reader: &LedgerReader) -> Result<()> {
        let (balances, height) = reader.supply().await?;
        let (mut locked, mut supply) = (0, Supply::default());
        for record in reader.records().await? {
            match record {
                Record::Candidate(candidate) => locked += candidate.locked(),
                Record::Escrow { amount, .. } => locked += amount,
                Record::Supply(now) => supply = now,
                _ => {}
            }
        }
        let (found, expected) = (balances as u64 + locked, supply.total(self.genesis.supply().context("a sum")?));
        ensure!(found == expected, "height {height}: {found} units, {expected} expected");
        Ok(())
    }

    /// Stops what runs, checks the invariants, and removes the files. A net that is dropped without this is a failure:
    /// its files stay and the ends of its logs are printed.
    ///
    /// # Errors
    /// Where a node does not stop in time, or an invariant does not hold.
    pub async fn finish(mut self) -> Result<()> {
        self.stop_all().await?;
        self.check_invariants().await?;
        self.finished = true;
        Ok(())
    }

    /// Removes the files of a net that never ran.
    pub fn discard(mut self) {
        self.finished = true;
    }

    /// SIGTERM to every node that runs, all at once.
    ///
    /// # Errors
    /// Where one does not stop in time, or not with code 0.
    pub async fn stop_all(&mut self) -> Result<()> {
        let running = self.nodes.iter_mut().filter(|n| n.process.pid().is_some());
        let stops = running.map(|n| n.process.terminate(STOP_LIMIT));
        futures_util::future::try_join_all(stops).await.map(|_| ())
    }
}

impl Drop for Localnet {
    fn drop(&mut self) {
        let Some(dir) = self.dir.take() else { return };
        if self.finished {
            return;
        }
        for node in &mut self.nodes {
            if let Some(status) = node.process.ended() {
                eprintln!("validator {} had ended by itself: {status}", node.index);
            }
            eprintln!("{}", node.process.tail());
        }
        eprintln!("kept: {}", dir.keep().display());
    }
}

fn genesis(shape: &Shape, keys: &[SecretKey], wallets: &[Wallet]) -> Genesis {
    Genesis {
        chain_id: "localnet".into(),
        mode: Mode::Poa,
        validators: keys.iter().map(|k| GenesisValidator { public_key: k.public(), weight: 1, stake: 0 }).collect(),
        accounts: wallets.iter().map(|w| GenesisAccount { address: w.address(), balance: FUNDS }).collect(),
        faucet: Some(Faucet { balance: FUNDS, max_amount: 1_000 }),
        receipts: None,
        parameters: shape.parameters.clone(),
        staking: Staking::default(),
    }
}

fn servers(shape: &Shape) -> Result<Vec<Postgres>> {
    let count = match shape.database {
        Database::Sqlite => 0,
        Database::Postgres | Database::Both => 1,
        Database::PostgresEach => shape.validators,
    };
    (0..count).map(|_| Postgres::start()).collect()
}

/// Makes the folder or the database, and names it.
fn database_url(dir: &Path, database: Database, servers: &[Postgres], index: usize) -> Result<String> {
    let server = match database {
        Database::Both if index.is_multiple_of(2) => None,
        _ => servers.get(index.min(servers.len().saturating_sub(1))),
    };
    match server {
        None => {
            std::fs::create_dir(database_dir(dir, index))?;
            Ok(format!("sqlite:///{}/blockchain.db", database_dir(dir, index).display()))
        }
        Some(server) => Ok(server.url(&server.create(&format!("validator_{index}"))?)),
    }
}

fn database_dir(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("database-{index}"))
}

fn port(ports: &PortBlock, index: usize, which: u16) -> u16 {
    ports.base() + PORTS * index as u16 + which
}

fn node(
    dir: &Path,
    ports: &PortBlock,
    peers: &[u16],
    index: usize,
    key: &SecretKey,
    database_url: String,
) -> Result<Node> {
    let port = |which: u16| port(ports, index, which);
    let key_file = dir.join(format!("validator-{index}.pem"));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&key_file)?;
    std::io::Write::write_all(&mut file, key.to_pkcs8_pem().as_bytes())?;
    let peers: Vec<String> = peers.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let yaml = format!(
        "database_url: {database_url}\ngenesis_file: {dir}/genesis.json\nvalidator_key_file: {key}\n\
         validator_address: {address}\nfirst_start_file: {dir}/validator-{index}.first-start\nrpc_host: 127.0.0.1\np2p_host: 127.0.0.1\nrpc_port: {}\nws_port: {}\n\
         p2p_port: {}\nmetrics_port: {}\nadmin_port: {}\nrpc_rate_limit: 0\npeers: {}\n",
        port(0),
        port(1),
        port(GOSSIP),
        port(3),
        port(4),
        peers.join(","),
        dir = dir.display(),
        key = key_file.display(),
        address = key.public().address(),
    );
    let config = dir.join(format!("validator-{index}.yaml"));
    std::fs::write(&config, yaml)?;
    let arguments = ["run", "--config", &config.display().to_string()];
    let log = dir.join(format!("validator-{index}.log"));
    Ok(Node {
        index,
        signer: 0,
        process: NodeProcess::new(format!("validator {index}"), &arguments, log),
        rpc: Rpc::new(format!("http://127.0.0.1:{}", port(0)))?,
        ws: format!("ws://127.0.0.1:{}", port(1)),
        metrics: Rpc::new(format!("http://127.0.0.1:{}", port(3)))?,
        gossip: port(GOSSIP),
        config,
        database_url,
        address: key.public().address(),
    })
}

/// Runs a scenario on a chain of `n` validators with a seed of its own; what must always hold is checked at the end.
///
/// # Panics
/// Where the scenario fails: with its reason, after the ends of the nodes' logs.
pub fn scenario(test: &str, n: usize, database: Database, steps: impl AsyncFnOnce(&mut Localnet) -> Result<()>) {
    let seed = Seed::of(test);
    run(test, async {
        let mut net = Localnet::start(n, database, seed).await?;
        steps(&mut net).await?;
        net.finish().await
    });
}

/// Runs a test on a runtime of its own.
///
/// # Panics
/// Where it fails: with its reason.
pub fn run(test: &str, steps: impl Future<Output = Result<()>>) {
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.context("make a runtime").and_then(|runtime| runtime.block_on(steps));
    if let Err(cause) = outcome {
        panic!("{test}: {cause:#}");
    }
    println!("{test}: {:.1} s", start.elapsed().as_secs_f64());
}
