//! The chain: a real SQLite database, the core's pool, the core's ledger; no consensus and no peers.

use super::super::{Servers, start};
use crate::client::Client;
use crate::config::Config;
use crate::doctor::Examined;
use crate::events;
use crate::executor::{receipt_rows, transaction_rows};
use crate::mempool::{Mempool, Outcome, Pending, PendingTransaction, Standing, SubmitError};
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::shutdown::{self, ShutdownTrigger};
use crate::storage::{self, BatchWrite, BlockWrite, Owner, StateWrite, Storage, TransactionRow};
use crate::subscriptions::{Subscriptions, Topic};
use crate::view::{BlockSummary, Identity, NodeStatus, Snapshot, View};
use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::block::{Candidate, Header, VERSION};
use aitbc_core::epoch::Sets;
use aitbc_core::genesis::{Faucet, Genesis, GenesisAccount, GenesisValidator, Mode, Staking};
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::ledger::{self, Context, Executed, Rules};
use aitbc_core::mempool::{Limits, Mempool as Pool, Place, Reason, VerifiedTx};
use aitbc_core::params::Parameters;
use aitbc_core::state::State;
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, Payment, SignedTransaction, Transaction};
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use futures_util::future::BoxFuture;
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Header time of block 1; each block is a second later.
pub(super) const START_MS: u64 = 1_700_000_000_000;

/// A test's chain with its listeners.
pub(super) struct Chain {
    pub(super) key: SecretKey,
    pub(super) chain: Hash,
    pub(super) pool: Arc<TestPool>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) status: watch::Sender<Arc<NodeStatus>>,
    pub(super) doctor: watch::Sender<Arc<Examined>>,
    pub(super) subscriptions: Subscriptions,
    pub(super) metrics: Arc<Metrics>,
    pub(super) rpc: SocketAddr,
    pub(super) ws: SocketAddr,
    pub(super) prometheus: SocketAddr,
    pub(super) identity: Arc<Identity>,
    /// `DATABASE_URL` of `storage`.
    pub(super) database: String,
    snapshots: watch::Sender<Arc<Snapshot>>,
    servers: Option<Servers>,
    trigger: ShutdownTrigger,
    _dir: tempfile::TempDir,
}

/// Key of an endowed account.
pub(super) fn alice() -> SecretKey {
    SecretKey::from_seed([2; 32])
}

/// What alice owns at genesis.
pub(super) const FUNDS: u64 = 1_000_000;

/// One authority.
pub(super) fn genesis(validator: &SecretKey) -> Genesis {
    let rich = |seed| GenesisAccount { address: SecretKey::from_seed([seed; 32]).public().address(), balance: FUNDS };
    Genesis {
        chain_id: "test".into(),
        mode: Mode::Poa,
        validators: vec![GenesisValidator { public_key: validator.public(), weight: 1, stake: 0 }],
        accounts: (2..10).map(rich).collect(),
        faucet: Some(Faucet { balance: 1_000, max_amount: 100 }),
        receipts: Some(terms()),
        parameters: Parameters::default(),
        staking: Staking::default(),
    }
}

/// What a unit of work earns on the fixture's chain.
fn terms() -> Terms {
    let coordinator = |n| Coordinator { public_key: SecretKey::from_seed([n; 32]).public() };
    Terms {
        mint_per_unit: 10,
        coordinator_parts_per_million: 200_000,
        coordinators: vec![coordinator(40), coordinator(41)],
        coordinator_threshold: 2,
        epoch_cap: 1_000,
        provider_epoch_cap: 1_000,
        expiry_seconds: 604_800,
    }
}

/// Settings with any free port, no rate limit and a short time-out.
pub(super) fn config() -> Config {
    let none = |name: &str| match name {
        "RPC_HOST" => Some("127.0.0.1".to_owned()),
        "RPC_PORT" | "WS_PORT" | "METRICS_PORT" | "P2P_PORT" | "ADMIN_PORT" | "RPC_RATE_LIMIT" => Some("0".to_owned()),
        "RPC_TIMEOUT" => Some("5s".to_owned()),
        _ => None,
    };
    Config::load(None, none).expect("valid settings")
}

impl Chain {
    pub(super) async fn start() -> Chain {
        Chain::start_with(config()).await
    }

    pub(super) async fn start_with(config: Config) -> Chain {
        Chain::start_of(config, genesis).await
    }

    /// With a genesis made for the validator's key.
    pub(super) async fn start_of(config: Config, genesis: impl FnOnce(&SecretKey) -> Genesis) -> Chain {
        let key = SecretKey::from_seed([1; 32]);
        let genesis = genesis(&key);
        let (chain, genesis_set) = (genesis.hash(), Arc::new(genesis.validator_set().expect("valid set")));
        let sets = Sets::genesis(genesis_set.clone());
        let identity = Arc::new(Identity { chain, genesis_set, key: Some(key.public()), genesis: genesis.clone() });
        let metrics = Arc::new(Metrics::new().expect("unique names"));
        let dir = tempfile::tempdir().expect("folder");
        let url = format!("sqlite:///{}", dir.path().join("test.db").display());
        let owner = Owner { chain: identity.chain, key: identity.key };
        let storage = storage::open(&url, owner, metrics.clone()).await.expect("database");
        storage.take_lease("test".into()).await.expect("lease");
        let state = State::from_genesis(&genesis);
        storage.reset_state(StateWrite::whole(0, &state, Hash::ZERO)).await.expect("genesis state");
        let (snapshots, chain) = watch::channel(Arc::new(Snapshot {
            head: BlockSummary::genesis(identity.chain, state.root()),
            state,
            parent_state: None,
            sets,
        }));
        let ready = NodeStatus { database_ready: true, ..NodeStatus::default() };
        let (status, condition) = watch::channel(Arc::new(ready));
        let (doctor, examined) = watch::channel(Arc::default());
        let (trigger, shutdown) = shutdown::channel();
        let subscriptions = Subscriptions::default();
        let pool = Arc::new(TestPool::new(Rules::of(&genesis), chain.clone(), subscriptions.clone()));
        let view = View {
            identity: identity.clone(),
            chain,
            status: condition,
            doctor: examined,
            storage: storage.clone(),
            state_wanted: Arc::default(),
            pulse: Arc::new(Pulse::default()),
        };
        let servers = start(&config, view, pool.clone(), subscriptions.clone(), metrics.clone(), shutdown).await;
        let servers = servers.expect("free ports");
        Chain {
            chain: identity.chain,
            key,
            pool,
            storage,
            status,
            doctor,
            subscriptions,
            metrics,
            rpc: servers.rpc,
            ws: servers.ws,
            prometheus: servers.metrics,
            identity,
            database: url,
            snapshots,
            servers: Some(servers),
            trigger,
            _dir: dir,
        }
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.rpc)).expect("valid URL")
    }

    pub(super) fn head(&self) -> BlockSummary {
        self.snapshots.borrow().head.clone()
    }

    pub(super) fn balance(&self, address: &Address) -> u64 {
        self.snapshots.borrow().state.account(address).balance
    }

    /// Asks to stop; answers how long it took until all listeners were down.
    pub(super) async fn stop(&mut self) -> Duration {
        let start = std::time::Instant::now();
        self.trigger.trigger();
        if let Some(servers) = self.servers.take() {
            servers.stopped().await;
        }
        start.elapsed()
    }

    /// A block of all that is ready, told to everybody and then written, as the node does it.
    pub(super) async fn block(&self) -> u64 {
        let write = self.publish_block();
        self.write(write).await
    }

    /// A block that is final but not in the database yet.
    pub(super) fn publish_block(&self) -> Unwritten {
        let batches = self.seal(self.head().height + 1);
        self.publish(batches, |_| {})
    }

    /// A block of these batches, its header changed before it is hashed and signed: what no honest validator votes for.
    pub(super) fn publish(&self, batches: Vec<VerifiedBatch>, change: impl FnOnce(&mut Header)) -> Unwritten {
        let parent = self.snapshots.borrow().clone();
        let mut header = self.header(&parent.head, &batches);
        change(&mut header);
        let digest = header.digest();
        let rules = Rules::of(&self.identity.genesis);
        let sets = parent.sets.clone();
        let executed = ledger::execute(&parent.state, &rules, &Context::of(&header, &sets), &batches);
        let roots = (executed.state_root, executed.results_root);
        let head = BlockSummary::of(Some(&sets.current), digest, &header, roots);
        let rows = transaction_rows(header.height, &batches, &executed.results);
        let (state, parent_state) = (executed.state.clone(), Some(parent.state.clone()));
        self.snapshots.send_replace(Arc::new(Snapshot { head: head.clone(), state, parent_state, sets }));
        self.pool.on_final(header.height, &executed, &rows);
        events::block_final(&self.subscriptions, &head);
        for row in &rows {
            let status = if row.code == 0 { "final" } else { "rejected" };
            let event = json!({ "tx_hash": row.id, "status": status, "block_height": row.height });
            self.subscriptions.publish(Topic::NewTransactions, header.height, &event);
        }
        Unwritten { header, digest, batches, executed, rows }
    }

    /// Writes a block to ledger and state.
    pub(super) async fn write(&self, block: Unwritten) -> u64 {
        let Unwritten { header, digest, batches, executed, rows } = block;
        let receipts = receipt_rows(&header, &batches, &executed);
        let batches = batches.into_iter().map(|b| BatchWrite { digest: b.digest, batch: b.batch }).collect();
        self.storage.commit_batches(batches).await.expect("batches");
        let height = header.height;
        let signature = Vote::sign(header.notar(digest), &self.chain, 0, &self.key).signature;
        let cert = Some(self.certificate(&header, digest));
        let write = BlockWrite { digest, candidate: Candidate { header, signature }, cert };
        self.storage.commit_blocks(vec![write]).await.expect("block");
        let accounts = executed.changed.iter().map(|(a, account)| (*a, account.balance, account.nonce)).collect();
        let write = StateWrite {
            height,
            state_root: executed.state_root,
            results_root: executed.results_root,
            accounts,
            records: executed.changed_records,
            transactions: rows,
            receipts,
        };
        self.storage.apply_state(write).await.expect("state");
        height
    }

    fn seal(&self, height: u64) -> Vec<VerifiedBatch> {
        let txs: Vec<_> = self.pool.take().iter().map(|tx| (*tx.tx).clone()).collect();
        if txs.is_empty() {
            return Vec::new();
        }
        let batch = Arc::new(Batch::seal(&self.chain, &self.key, (0, 0), height, height + 100, txs));
        let digest = batch.digest();
        vec![VerifiedBatch::trusted(batch, digest, &self.chain)]
    }

    fn header(&self, parent: &BlockSummary, batches: &[VerifiedBatch]) -> Header {
        let set_hash = self.identity.genesis_set.hash();
        let height = parent.height + 1;
        Header {
            version: VERSION,
            epoch: 0,
            slot: height,
            height,
            parent_slot: parent.slot,
            parent: parent.hash,
            parent_state_root: parent.state_root,
            parent_results_root: parent.results_root,
            time_ms: START_MS + height * 1_000,
            proposer: 0,
            set_hash,
            next_set_hash: set_hash,
            batches: batches.iter().map(|b| b.batch.reference(b.digest)).collect(),
            evidence: Vec::new(),
        }
    }

    fn certificate(&self, header: &Header, digest: Hash) -> Cert {
        let statement = Statement { epoch: 0, slot: header.slot, kind: Kind::Final, digest };
        let vote = Vote::sign(statement, &self.chain, 0, &self.key);
        Cert::collect(statement, &self.identity.genesis_set, &[(0, vote.signature)])
    }

    /// A payment of 5 to nobody in particular.
    pub(super) fn pay(&self, key: &SecretKey, nonce: u64) -> SignedTransaction {
        let action = Action::Transfer(Payment { to: Address([9; 20]), amount: 5 });
        self.sign(key, nonce, 1, action)
    }

    pub(super) fn sign(&self, key: &SecretKey, nonce: u64, fee: u64, action: Action) -> SignedTransaction {
        let tx = Transaction { sender: key.public(), nonce, fee, expiry_height: self.head().height + 100, action };
        tx.sign(&self.chain, key)
    }
}

/// A block that is final but not in the database yet.
pub(super) struct Unwritten {
    header: Header,
    digest: Hash,
    batches: Vec<VerifiedBatch>,
    executed: Executed,
    rows: Vec<TransactionRow>,
}

/// The core's pool behind the node's trait.
pub(super) struct TestPool {
    inner: Mutex<Inner>,
    chain: watch::Receiver<Arc<Snapshot>>,
    rules: Rules,
    subscriptions: Subscriptions,
    finals: watch::Sender<u64>,
    /// Answers nothing any more.
    pub(super) hangs: AtomicBool,
    /// Takes nothing any more.
    pub(super) busy: AtomicBool,
}

struct Inner {
    pool: Pool,
    outcomes: HashMap<Hash, Outcome>,
    dropped: HashMap<Hash, Reason>,
}

impl TestPool {
    fn new(rules: Rules, chain: watch::Receiver<Arc<Snapshot>>, subscriptions: Subscriptions) -> Self {
        let pool = Pool::new(rules.clone(), Limits::default());
        let inner = Mutex::new(Inner { pool, outcomes: HashMap::new(), dropped: HashMap::new() });
        let (hangs, busy) = (AtomicBool::new(false), AtomicBool::new(false));
        TestPool { inner, chain, rules, subscriptions, finals: watch::channel(0).0, hangs, busy }
    }

    fn take(&self) -> Vec<VerifiedTx> {
        self.inner.lock().expect("lock").pool.take(2 << 20, 4_096)
    }

    fn on_final(&self, height: u64, executed: &Executed, rows: &[TransactionRow]) {
        let mut inner = self.inner.lock().expect("lock");
        for dropped in inner.pool.on_executed(height, &executed.results, &executed.changed) {
            inner.dropped.insert(dropped.id, dropped.reason);
        }
        for row in rows {
            inner.outcomes.insert(row.id, Outcome { height, index: row.index, code: row.code });
        }
        drop(inner);
        self.finals.send_replace(height);
    }

    /// Forgets outcomes: from now on only the database knows.
    pub(super) fn forget(&self) {
        self.inner.lock().expect("lock").outcomes.clear();
    }

    fn admit(&self, tx: SignedTransaction) -> Result<Hash, SubmitError> {
        if self.busy.load(Ordering::Relaxed) {
            return Err(SubmitError::Busy);
        }
        tx.check()?;
        if !tx.verifies(&self.rules.chain) {
            return Err(SubmitError::InvalidSignature);
        }
        let verified = VerifiedTx::trusted(tx, &self.rules.chain);
        let (id, snapshot, known) = (verified.id, self.chain.borrow().clone(), [verified.clone()]);
        let account = snapshot.state.account(&verified.sender);
        let mut inner = self.inner.lock().expect("lock");
        for dropped in inner.pool.admit(snapshot.head.height, verified, account)?.dropped {
            inner.dropped.insert(dropped.id, dropped.reason);
        }
        events::transactions_pending(&self.subscriptions, snapshot.head.height, &known);
        Ok(id)
    }
}

fn place(place: Place) -> Pending {
    match place {
        Place::Queued => Pending::Queued,
        Place::InFlight => Pending::Sealed,
    }
}

impl Mempool for TestPool {
    fn submit(&self, transactions: Vec<SignedTransaction>) -> BoxFuture<'_, Vec<Result<Hash, SubmitError>>> {
        Box::pin(async move {
            if self.hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            transactions.into_iter().map(|tx| self.admit(tx)).collect()
        })
    }

    fn pending(&self, id: Hash) -> BoxFuture<'_, Option<Pending>> {
        Box::pin(async move { self.inner.lock().expect("lock").pool.get(&id).map(|(_, at)| place(at)) })
    }

    fn standing(&self, id: Hash) -> BoxFuture<'_, Standing> {
        Box::pin(async move {
            let inner = self.inner.lock().expect("lock");
            if let Some((_, at)) = inner.pool.get(&id) {
                return Standing::Pending(place(at));
            }
            let dropped = inner.dropped.get(&id).copied().map(Standing::Dropped);
            inner.outcomes.get(&id).copied().map(Standing::Final).or(dropped).unwrap_or(Standing::Unknown)
        })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Vec<PendingTransaction>> {
        Box::pin(async move {
            let inner = self.inner.lock().expect("lock");
            let one = |(tx, at): (&VerifiedTx, Place)| PendingTransaction {
                id: tx.id,
                transaction: (*tx.tx).clone(),
                state: place(at),
            };
            inner.pool.iter().take(limit).map(one).collect()
        })
    }

    fn next_nonce(&self, sender: Address) -> BoxFuture<'_, Option<u64>> {
        Box::pin(async move { self.inner.lock().expect("lock").pool.next_nonce(&sender) })
    }

    fn outcome(&self, id: Hash, timeout: Duration) -> BoxFuture<'_, Option<Outcome>> {
        Box::pin(async move {
            let mut finals = self.finals.subscribe();
            let found = |inner: &Inner| inner.outcomes.get(&id).copied();
            let wait = finals.wait_for(|_| {
                let inner = self.inner.lock().expect("lock");
                found(&inner).is_some() || inner.dropped.contains_key(&id)
            });
            tokio::time::timeout(timeout, wait).await.ok()?.ok()?;
            found(&self.inner.lock().expect("lock"))
        })
    }
}
