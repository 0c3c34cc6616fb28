//! Wiring: the only file that knows all parts. Start and stop order stand here.
//!
//! ```text
//! gossip ─┬─ votes, proposals ─────────▶ consensus ──▶ signer ──▶ storage (votes)
//!         ├─ batches ──▶ verify ──▶ storage ──▶ ┘  └──▶ executor ──▶ commit ──▶ storage (blocks, state)
//!         ├─ blocks ──▶ sync ──▶ executor                    └──▶ mempool, subscriptions, view
//!         └─ transactions passed on ──▶ intake ──▶ mempool
//! rpc ──▶ mempool ──▶ verify ──▶ batch ──▶ gossip, storage
//! ```

use crate::batches::{BatchPool, Batches};
use crate::commit::{self, Commit, Rest};
use crate::config::Config;
use crate::consensus::{self, Consensus, Outbox};
use crate::doctor::Doctor;
use crate::executor::{self, Executor};
use crate::gossip::{Gossip, GossipConfig, GossipHandle, Peers};
use crate::joiners::Joiners;
use crate::mempool::intake::Intake;
use crate::mempool::task as mempool;
use crate::metrics::Metrics;
use crate::prune::{self, Prune};
use crate::pulse::Pulse;
use crate::recovery::{self, Lease, RecoveryError};
use crate::rpc;
use crate::shutdown::{self, Shutdown};
use crate::signer::{self, Signer};
use crate::snapshots::Snapshots;
use crate::status::StatusTask;
use crate::storage::{self, Owner, Storage, StorageError};
use crate::subscriptions::Subscriptions;
use crate::sync::{self, Heights, Sync};
use crate::undo::KeepUndo;
use crate::verify::Verifier;
use crate::view::{Identity, NodeStatus, View};
use aitbc_core::consensus::input::Input;
use aitbc_core::consensus::output::Halt;
use aitbc_core::consensus::{Config as CoreConfig, Core};
use aitbc_core::env::exit;
use aitbc_core::epoch::Epochs;
use aitbc_core::genesis::Genesis;
use aitbc_core::hash::Hash;
use aitbc_core::key::SecretKey;
use aitbc_core::ledger::Rules;
use aitbc_core::memory::{Memory, generation_above};
use aitbc_core::mempool::{Limits, Mempool as Pool};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// Messages from peers waiting for the consensus loop.
const GOSSIP_QUEUE: usize = 1_024;
/// How long stopping may take; Kubernetes waits longer, then kills.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// Why a node did not start, or stopped; [`NodeError::exit_code`] is what the process ends with.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A setting, or a file it names, is wrong.
    #[error("{0}")]
    Configuration(String),
    /// The database failed at start.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database does not agree with itself or with the chain.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A port or a thread could not be had.
    #[error("{what}: {cause}")]
    Start {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        cause: String,
    },
    /// A vote or a final block could not be stored, or whether it was is unknown: a restart reads the rows again (P6).
    #[error("a vote or block could not be stored ({0}): a restart reads what is there before any new vote")]
    NotStored(Arc<StorageError>),
    /// A part of the node ended by itself: a broken invariant, told in the log above.
    #[error("{0} ended unexpectedly: a restart goes on from what is durable")]
    PartEnded(&'static str),
    /// The core stopped voting for good.
    #[error("{}", explain(.0))]
    Halted(Halt),
}

impl NodeError {
    /// Exit code of the process (design.md §4).
    pub fn exit_code(&self) -> u8 {
        match self {
            NodeError::Configuration(_) | NodeError::Storage(StorageError::Foreign(_)) => exit::CONFIGURATION,
            NodeError::Storage(StorageError::Fenced { .. }) | NodeError::Halted(Halt::Fenced) => exit::FENCED,
            NodeError::Storage(StorageError::ConflictingVote { .. }) | NodeError::Halted(Halt::ConflictingVote) => {
                exit::CONFLICTING_VOTE
            }
            NodeError::Recovery(RecoveryError::Storage(StorageError::Fenced { .. })) => exit::FENCED,
            NodeError::Recovery(RecoveryError::Storage(_) | RecoveryError::Pruned { .. })
            | NodeError::Storage(_)
            | NodeError::Start { .. }
            | NodeError::PartEnded(_) => 1,
            NodeError::NotStored(cause) if matches!(**cause, StorageError::Fenced { .. }) => exit::FENCED,
            NodeError::NotStored(_) => 1,
            NodeError::Recovery(_) | NodeError::Halted(Halt::Diverged { .. } | Halt::ContradictingCerts { .. }) => {
                exit::DIVERGED
            }
            NodeError::Halted(Halt::Recovered) => 1,
            NodeError::Halted(Halt::Twin) => exit::TWIN,
        }
    }
}

fn explain(halt: &Halt) -> String {
    match halt {
        Halt::Fenced => "fenced: another process started with this key and database and took the lease; \
                         this one signs nothing any more"
            .into(),
        Halt::ConflictingVote => {
            "the database holds another vote of ours in this slot: is it shared or was it restored?".into()
        }
        Halt::Diverged { height, digest } => {
            format!("own execution of block {height} disagrees with certified header {digest}: voting stopped")
        }
        Halt::ContradictingCerts { slot } => {
            format!("two certificates of slot {slot} contradict: more than a third of the voting power is faulty")
        }
        Halt::Twin => {
            "the own key votes elsewhere with another database: stop one of the two for good, and delete its \
             database, before this one is started again"
                .into()
        }
        Halt::Recovered => {
            "recovered: the others told the highest slots this key can have voted in; a restart votes above them".into()
        }
    }
}

/// Runs a node until a signal, or until it may not go on.
///
/// # Errors
/// See [`NodeError`].
pub async fn run(config: Config) -> Result<(), NodeError> {
    let (trigger, shutdown) = shutdown::channel();
    let (stop, stopped) = oneshot::channel();
    let node = tokio::spawn(run_until(config, shutdown, stop));
    tokio::select! {
        signal = shutdown::signal() => match signal {
            Ok(name) => info!(signal = name, "stopping"),
            Err(cause) => warn!(%cause, "signals cannot be listened to"),
        },
        _ = stopped => {}
    }
    trigger.trigger();
    node.await.unwrap_or_else(|cause| Err(NodeError::Start { what: "run the node", cause: cause.to_string() }))
}

/// The key and the chain.
struct Own {
    key: Arc<SecretKey>,
    identity: Arc<Identity>,
}

fn read(path: &Path, setting: &str) -> Result<String, NodeError> {
    std::fs::read_to_string(path)
        .map_err(|cause| NodeError::Configuration(format!("{setting}: cannot read {}: {cause}", path.display())))
}

fn own(config: &Config) -> Result<Own, NodeError> {
    let wrong = |text: String| NodeError::Configuration(text);
    let genesis = Genesis::from_json(&read(&config.genesis_file, "GENESIS_FILE")?)
        .map_err(|cause| wrong(format!("GENESIS_FILE {}: {cause}", config.genesis_file.display())))?;
    config.check_genesis(&genesis).map_err(|cause| wrong(cause.to_string()))?;
    let file = config.validator_key_file.as_ref().ok_or_else(|| {
        wrong(
            "VALIDATOR_KEY_FILE is not set: a validator needs its key, as \"aitbc-node keys generate\" makes it".into(),
        )
    })?;
    let key = SecretKey::from_pkcs8_pem(&read(file, "VALIDATOR_KEY_FILE")?)
        .map_err(|cause| wrong(format!("VALIDATOR_KEY_FILE {}: {cause}", file.display())))?;
    let address = key.public().address();
    if let Some(expected) = &config.validator_address
        && *expected != address
    {
        return Err(wrong(format!(
            "VALIDATOR_ADDRESS is {expected}, but the key in {} is that of {address}",
            file.display()
        )));
    }
    let set = genesis.validator_set().map_err(|cause| wrong(format!("GENESIS_FILE: {cause}")))?;
    if set.index_of(&key.public()).is_none() {
        info!(%address, "no validator of genesis: follows the chain until it is one of an epoch");
    }
    let (chain, key) = (genesis.hash(), Arc::new(key));
    let identity = Identity { chain, genesis, genesis_set: Arc::new(set), key: Some(key.public()) };
    Ok(Own { key, identity: Arc::new(identity) })
}

/// What everything else stands on: the database with the lease taken, and where the chain goes on.
struct Ground {
    own: Own,
    metrics: Arc<Metrics>,
    storage: Arc<dyn Storage>,
    generation: u32,
    rules: Rules,
    start: recovery::Start,
}

/// A1: whether FIRST_START_FILE holds the hash of this chain's genesis.
fn asserts_first_start(config: &Config, chain: &Hash) -> Result<bool, NodeError> {
    let Some(file) = config.first_start_file.as_deref().filter(|file| file.exists()) else { return Ok(false) };
    let text = read(file, "FIRST_START_FILE")?;
    let text = text.trim();
    if text.is_empty() || text == chain.to_string() {
        return Ok(!text.is_empty());
    }
    warn!(file = %file.display(), found = text, chain = %chain, "FIRST_START_FILE is about another chain: not used");
    Ok(false)
}

/// The assertion holds once: from now on the database remembers. Where an operator mounts the file it is read-only, and the
/// operator withdraws it.
fn retire_assertion(config: &Config, asserted: bool) {
    let Some(file) = config.first_start_file.as_deref().filter(|_| asserted) else { return };
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let gone = std::fs::remove_file(file).and_then(|()| std::fs::File::open(directory)?.sync_all());
    if let Err(cause) = gone {
        warn!(
            %cause,
            file = %file.display(),
            "FIRST_START_FILE stays: unless the operator manages it, delete it now, or it is believed again after a loss of \
             the database"
        );
    }
}

/// Changes the memory record of a database whose node does not run, by it and the position up to which all is decided; a
/// node that does run is fenced and ends (A3, A9).
///
/// # Errors
/// See [`NodeError`].
pub async fn change_memory(
    config: &Config,
    change: impl FnOnce(Memory, (u64, u64)) -> Memory,
) -> Result<Memory, NodeError> {
    let own = own(config)?;
    let metrics =
        Arc::new(Metrics::new().map_err(|c| NodeError::Start { what: "register metrics", cause: c.to_string() })?);
    let owner = Owner { chain: own.identity.chain, key: own.identity.key };
    let storage = storage::open(&config.database_url, owner, metrics).await?;
    let known = storage.take_lease(format!("recover/{}", std::process::id())).await?;
    let ledger = storage.load_ledger().await?;
    let decided = ledger.decided();
    let memory = change(ledger.memory.unwrap_or_default(), decided);
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    storage.commit_memory(memory.clone(), Some(generation_above(known, wall_ms))).await?;
    storage.close().await;
    Ok(memory)
}

/// Database first: lease, then rows, then state (P8). `None`: asked to stop meanwhile.
async fn ground(config: &Config, metrics: Arc<Metrics>, shutdown: &Shutdown) -> Result<Option<Ground>, NodeError> {
    let own = own(config)?;
    let owner = Owner { chain: own.identity.chain, key: own.identity.key };
    let storage = tokio::select! {
        storage = storage::open(&config.database_url, owner, metrics.clone()) => storage?,
        () = shutdown.asked() => return Ok(None),
    };
    let holder = std::env::var("HOSTNAME").unwrap_or_else(|_| "local".into()) + "/" + &std::process::id().to_string();
    let generation = storage.take_lease(holder).await?;
    let rules = Rules::of(&own.identity.genesis);
    let first_start = asserts_first_start(config, &own.identity.chain)?;
    let start = recovery::recover(&storage, &own.identity, &rules, Lease { generation, first_start }).await?;
    retire_assertion(config, first_start);
    metrics.assumed_clean.set(i64::from(start.recovered.memory.assumed_clean));
    let (height, address) = (start.snapshot.head.height, own.key.public().address());
    info!(height, generation, database = storage.kind(), validator = %address, "database ready");
    Ok(Some(Ground { own, metrics, storage, generation, rules, start }))
}

/// Why a node stops.
enum End {
    /// Somebody asked for it.
    Asked,
    /// A snapshot of this height is stored: it starts anew from there.
    Snapshot(u64),
}

/// The parts that may end the node, and what stopping needs.
struct Running {
    inputs: mpsc::Sender<Input>,
    halt: watch::Receiver<Option<Halt>>,
    failure: watch::Receiver<Option<Arc<StorageError>>>,
    /// Height of a snapshot that was stored: the node has to start anew from it.
    restart: watch::Receiver<Option<u64>>,
    deciding: JoinHandle<()>,
    signing: JoinHandle<()>,
    committing: JoinHandle<()>,
    executing: std::thread::JoinHandle<()>,
    /// Dropped when the executor's thread ends, also by a panic.
    execution: oneshot::Receiver<()>,
    servers: rpc::Servers,
    gossip: GossipHandle,
    storage: Arc<dyn Storage>,
}

impl Running {
    /// Waits for the wish to stop, or for what does not let the node go on.
    async fn end(&mut self, shutdown: &Shutdown) -> Result<End, NodeError> {
        tokio::select! {
            () = shutdown.asked() => Ok(End::Asked),
            height = told(&mut self.restart) => Ok(End::Snapshot(height)),
            halt = told(&mut self.halt) => Err(NodeError::Halted(halt)),
            cause = told(&mut self.failure) => Err(NodeError::NotStored(cause)),
            _ = &mut self.deciding => Err(NodeError::PartEnded("consensus")),
            _ = &mut self.signing => Err(NodeError::PartEnded("the signer")),
            _ = &mut self.committing => Err(NodeError::PartEnded("the ledger's writer")),
            _ = &mut self.execution => Err(NodeError::PartEnded("the executor")),
        }
    }

    /// Leads and votes no more, then lets what is final reach the disk.
    async fn stop(self) {
        let _ = self.inputs.send(Input::Ready(false)).await;
        self.servers.stopped().await;
        self.gossip.closed().await;
        self.deciding.abort();
        finished(self.deciding).await;
        // Without the loop nobody sends to the executor, the signer and, through them, to commit.
        let _ = tokio::task::spawn_blocking(move || self.executing.join()).await;
        finished(self.signing).await;
        finished(self.committing).await;
        self.storage.close().await;
    }
}

/// Runs until the wish to stop or a halt; after each snapshot once more, from what is durable. `_ended` is dropped at the end.
async fn run_until(config: Config, shutdown: Shutdown, _ended: oneshot::Sender<()>) -> Result<(), NodeError> {
    let metrics =
        Arc::new(Metrics::new().map_err(|c| NodeError::Start { what: "register metrics", cause: c.to_string() })?);
    while let End::Snapshot(height) = run_once(&config, &metrics, &shutdown).await? {
        info!(height, "starting anew from the snapshot");
    }
    Ok(())
}

/// Starts everything, waits for the end, stops in order.
async fn run_once(config: &Config, metrics: &Arc<Metrics>, shutdown: &Shutdown) -> Result<End, NodeError> {
    let Some(ground) = ground(config, metrics.clone(), shutdown).await? else { return Ok(End::Asked) };
    // Of this run only: the process may go on after it. Dropping it tells it too, so nothing outlives a failed start.
    let (trigger, stopping) = shutdown::channel();
    let mut running = start(config, &stopping, ground).await?;
    let outcome = running.end(shutdown).await;
    if let Err(cause) = &outcome {
        error!(%cause, "stopping");
    }
    trigger.trigger();
    if tokio::time::timeout(STOP_LIMIT, running.stop()).await.is_err() {
        warn!("stopped before everything was flushed; the next start replays it");
    }
    info!("stopped");
    outcome
}

/// Makes the channels, starts the parts in the order of the flow, and opens the ports last. Long because it is a list: what
/// is connected to what is to be read off one place.
async fn start(config: &Config, shutdown: &Shutdown, ground: Ground) -> Result<Running, NodeError> {
    let Ground { own, metrics, storage, generation, rules, start } = ground;
    let identity = own.identity.clone();
    let (height, sets) = (start.snapshot.head.height, start.snapshot.sets.clone());
    let own_key = own.key.public();

    let (chain_sender, chain) = watch::channel(Arc::new(start.snapshot));
    let (status_sender, status) = watch::channel(Arc::new(NodeStatus::default()));
    let (stored_sender, stored) = watch::channel(height);
    let (unapplied_sender, unapplied) = watch::channel(0);
    let (halted, halt) = watch::channel(None);
    let (failed, failure) = watch::channel(None);
    let (restarting, restart) = watch::channel(None);
    let (fetching, state_sync) = watch::channel(None);
    let (inputs_sender, inputs) = mpsc::channel(consensus::QUEUE);
    let (gossip_sender, gossip_events) = mpsc::channel(GOSSIP_QUEUE);
    let (writes_sender, writes) = mpsc::channel(signer::QUEUE);
    let (commands_sender, commands) = mpsc::channel(executor::QUEUE);
    let (commits_sender, commits) = mpsc::channel(commit::QUEUE);
    let (outcomes_sender, outcomes) = mpsc::channel(mempool::FINAL_QUEUE);
    let (sync_sender, sync_events) = mpsc::channel(sync::QUEUE);
    let subscriptions = Subscriptions::default();
    let pulse = Arc::new(Pulse::default());
    let pool = Arc::new(BatchPool::new(sets.clone()));
    let snapshots = Arc::new(Snapshots::default());
    // Until the next one that all keep: on an idle chain that takes long, and where it stands only the one below is proven.
    if let Some(parent) = chain.borrow().parent_state.clone() {
        snapshots.keep(height - 1, parent);
    }
    if height > 0 {
        snapshots.keep(height, chain.borrow().state.clone());
    }
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)
        .map_err(|cause| NodeError::Start { what: "get randomness from the system", cause: cause.to_string() })?;
    let (parameters, seed) = (identity.genesis.parameters.clone(), u64::from_le_bytes(seed));
    let roster = sets.current.members().iter().map(|member| member.key).collect();
    let core_config = CoreConfig::at(identity.chain, own_key, sets.clone(), roster, parameters, seed);
    let core = Core::new(core_config, start.recovered, pulse.now());
    let verifier = Verifier::new(None, metrics.clone())
        .map_err(|cause| NodeError::Start { what: "start the verifier's threads", cause: chain_of(&cause) })?;
    let verifier = Arc::new(verifier);

    let gossip = Gossip::start(
        GossipConfig {
            listen: config.p2p,
            peers: config.peers.clone(),
            chain: identity.chain,
            allowed: Peers::of(core.roster(), &sets),
            key: own.key.clone(),
            generation,
            metrics: metrics.clone(),
        },
        gossip_sender,
        shutdown.receiver(),
    )
    .map_err(|cause| NodeError::Start { what: "listen for peers (P2P_HOST, P2P_PORT)", cause: chain_of(&cause) })?;

    let batches = Batches::start(
        identity.chain,
        own_key,
        pool.clone(),
        verifier.clone(),
        storage.clone(),
        inputs_sender.clone(),
        metrics.clone(),
    );
    let signer = Signer {
        key: own.key.clone(),
        chain: identity.chain,
        storage: storage.clone(),
        metrics: metrics.clone(),
        failed: failed.clone(),
    };
    let signing = tokio::spawn(signer.run(writes, inputs_sender.clone()));
    let state_wanted = Arc::new(Notify::new());
    let commit = Commit {
        storage: storage.clone(),
        epochs: Epochs::by(&identity.genesis.parameters),
        core: inputs_sender.clone(),
        stored: stored_sender,
        unapplied: unapplied_sender,
        rest: Rest::default(),
        wanted: state_wanted.clone(),
        metrics: metrics.clone(),
        failed,
    };
    let committing = tokio::spawn(commit.run(commits));

    let executor = Executor::new(
        identity.clone(),
        rules.clone(),
        pool.clone(),
        storage.clone(),
        inputs_sender.clone(),
        commits_sender,
        outcomes_sender,
        chain_sender,
        snapshots.clone(),
        subscriptions.clone(),
        metrics.clone(),
        tokio::runtime::Handle::current(),
    );
    let (executing_until, execution) = oneshot::channel::<()>();
    let executing = std::thread::Builder::new()
        .name("executor".into())
        .spawn(move || {
            executor.run(commands);
            drop(executing_until);
        })
        .map_err(|cause| NodeError::Start { what: "start the executor", cause: cause.to_string() })?;

    tokio::spawn(Joiners { rules: rules.clone(), chain: chain.clone(), gossip: gossip.clone() }.run());
    tokio::spawn(KeepUndo { chain: chain.clone(), storage: storage.clone(), metrics: metrics.clone() }.run());
    tokio::spawn(prune::sweep(storage.clone(), stored.clone(), metrics.clone()));
    if let Some(keep) = config.keep_blocks {
        let (storage, metrics) = (storage.clone(), metrics.clone());
        tokio::spawn(Prune { storage, keep, stored: stored.clone(), metrics }.run());
    }

    let min_fee = chain.borrow().state.terms(&rules).min_fee;
    let mut pending = Pool::new(rules, Limits { bytes: config.mempool_max_bytes, ..Limits::default() });
    pending.set_min_fee(min_fee);
    let mempool = mempool::start(
        mempool::Parts {
            chain: identity.chain,
            key: own.key.clone(),
            epochs: Epochs::by(&identity.genesis.parameters),
            generation,
            pulse: pulse.clone(),
            snapshot: chain.clone(),
            batches: batches.clone(),
            gossip: gossip.clone(),
            verifier: verifier.clone(),
            subscriptions: subscriptions.clone(),
            metrics: metrics.clone(),
        },
        pending,
        outcomes,
    );

    let heights = Arc::new(Heights::default());
    let sync = Sync {
        identity: identity.clone(),
        chain: chain.clone(),
        storage: storage.clone(),
        gossip: gossip.clone(),
        heights: heights.clone(),
        state_sync_lag: config.state_sync_lag,
        snapshots,
        progress: fetching,
        restart: restarting,
        halted: halted.clone(),
        stored,
        unapplied,
        executor: commands_sender.clone(),
        core: inputs_sender.clone(),
        metrics: metrics.clone(),
    };
    tokio::spawn(sync.run(sync_events));

    let (doctor, examined) = Doctor::new(metrics.clone());
    let consensus = Consensus {
        core,
        identity: identity.clone(),
        sets,
        key: own.key.clone(),
        own: own_key,
        gossip: gossip.clone(),
        batches,
        intake: Intake::start(own_key, mempool.clone(), metrics.clone()),
        pool,
        storage: storage.clone(),
        writes: Outbox::new(writes_sender),
        executor: Outbox::new(commands_sender),
        sync: sync_sender,
        subscriptions: subscriptions.clone(),
        metrics: metrics.clone(),
        pulse: pulse.clone(),
        doctor,
        inputs: inputs_sender.downgrade(),
        answering: Arc::new(Semaphore::new(consensus::ANSWERING)),
        halted: halted.clone(),
    };
    let deciding = tokio::spawn(consensus.run(inputs, gossip_events));

    tokio::spawn(
        StatusTask {
            key: own_key,
            chain: chain.clone(),
            storage: storage.clone(),
            gossip: gossip.clone(),
            heights,
            state_sync,
            pulse: pulse.clone(),
            core: inputs_sender.clone(),
            doctor: examined.clone(),
            metrics: metrics.clone(),
            halted,
        }
        .run(status_sender, shutdown.clone()),
    );

    let view = View { identity, chain, status, doctor: examined, storage: storage.clone(), state_wanted, pulse };
    let servers = rpc::start(config, view, Arc::new(mempool), subscriptions, metrics, shutdown.clone()).await.map_err(
        |cause| NodeError::Start {
            what: "listen for clients (RPC_HOST, RPC_PORT, WS_PORT, METRICS_PORT)",
            cause: cause.to_string(),
        },
    )?;
    info!(rpc = %config.rpc, ws = %config.ws, p2p = %config.p2p, metrics = %config.metrics, "node started");
    Ok(Running {
        inputs: inputs_sender,
        halt,
        failure,
        restart,
        deciding,
        signing,
        committing,
        executing,
        execution,
        servers,
        gossip,
        storage,
    })
}

/// An error and its causes in one line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// Waits for the end of a task, unless it was seen already.
async fn finished(task: JoinHandle<()>) {
    if !task.is_finished() {
        let _ = task.await;
    }
}

/// Waits until a channel holds something.
async fn told<T: Clone>(channel: &mut watch::Receiver<Option<T>>) -> T {
    loop {
        if let Some(value) = channel.borrow_and_update().clone() {
            return value;
        }
        if channel.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
