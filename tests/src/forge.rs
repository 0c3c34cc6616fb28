//! A chain made in seconds instead of hours: final blocks signed by all validators' keys, put straight into their databases.

use crate::localnet::Localnet;
use crate::wallet::Wallet;
use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::block::{Candidate, Header, VERSION};
use aitbc_core::epoch::{Epochs, Sets};
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::ledger::{self, Executed, Rules};
use aitbc_core::params::MAX_EXPIRY_AHEAD;
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::state::{Account, State};
use aitbc_core::validators::{Index, ValidatorSet};
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use aitbc_node::executor::transaction_rows;
use aitbc_node::metrics::Metrics;
use aitbc_node::recovery::{Lease, recover};
use aitbc_node::storage::{self, BatchWrite, BlockWrite, Owner, StateWrite, Storage, TransactionRow};
use aitbc_node::view::Identity;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Blocks made, and written in one commit, at a time.
const CHUNK: u64 = 256;
/// Bytes of batches after which a chunk ends early.
const CHUNK_BYTES: usize = 8 << 20;
/// Header times lie this far apart, the last one at the present.
const BLOCK_MS: u64 = 10;

/// What the blocks are like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many.
    pub blocks: u64,
    /// One block in so many has batches; the others are empty.
    pub filled_every: u64,
    /// Blocks above this height are empty.
    pub filled_to: u64,
    /// Batches of a filled block.
    pub batches: usize,
    /// Transactions of a batch.
    pub transactions: usize,
    /// Payments of a transaction.
    pub payments: usize,
    /// One block in so many has a Final certificate of its own, and the last one.
    pub certified_every: u64,
}

impl Plan {
    /// Small blocks as a lightly used chain has them: every second one with a batch of two transfers, each certified.
    pub fn small(blocks: u64) -> Plan {
        Plan {
            blocks,
            filled_every: 2,
            filled_to: u64::MAX,
            batches: 1,
            transactions: 2,
            payments: 1,
            certified_every: 1,
        }
    }
}

/// Puts a chain into the databases of `nodes`, which must be empty and not run. The wallets' nonces move along.
///
/// # Errors
/// Where a database fails.
pub async fn fill(net: &mut Localnet, nodes: &[usize], plan: Plan) -> Result<()> {
    let mut databases = Vec::new();
    for index in nodes {
        databases.push(Database::open(net, *index).await?);
    }
    let mut forger = Forger::new(net, plan, nodes)?;
    let mut chunk = forger.chunk();
    while !chunk.blocks.is_empty() {
        let writes = databases.iter().map(|database| database.write(&chunk));
        let writes = futures_util::future::try_join_all(writes);
        let next = tokio::task::spawn_blocking(move || {
            let chunk = forger.chunk();
            (forger, chunk)
        });
        let (written, next) = tokio::join!(writes, next);
        written?;
        (forger, chunk) = next?;
    }
    let cert = forger.cert.clone().context("a plan without blocks")?;
    for database in &databases {
        database.storage.commit_cert(cert.clone()).await?;
        // Without the rows of their votes: they are said to be deleted, or the others would show them as lost (P9, A2).
        database.storage.prune((cert.statement.epoch, cert.statement.slot), 0).await?;
        database.storage.close().await;
    }
    net.wallets = forger.wallets;
    Ok(())
}

/// A validator's database, opened as its node would.
struct Database {
    storage: Arc<dyn Storage>,
}

impl Database {
    async fn open(net: &Localnet, index: usize) -> Result<Database> {
        let node = &net.nodes[index];
        let set = net.genesis.validator_set()?;
        let member = set.get(node.signer as Index).context("a validator of genesis")?;
        let owner = Owner { chain: net.chain, key: Some(member.key) };
        let storage = storage::open(&node.database_url, owner, Arc::new(Metrics::new()?)).await?;
        let generation = storage.take_lease("forge".into()).await?;
        let lease = Lease { generation, first_start: true };
        let (genesis, key, genesis_set) = (net.genesis.clone(), Some(member.key), Arc::new(set.clone()));
        let identity = Identity { genesis, chain: net.chain, key, genesis_set };
        let start = recover(&storage, &identity, &Rules::of(&net.genesis), lease).await?;
        ensure!(start.snapshot.head.height == 0, "the database of validator {index} is not empty");
        Ok(Database { storage })
    }

    async fn write(&self, chunk: &Chunk) -> Result<()> {
        if !chunk.batches.is_empty() {
            self.storage.commit_batches(chunk.batches.clone()).await?;
        }
        self.storage.commit_blocks(chunk.blocks.clone()).await?;
        self.storage.apply_state(chunk.state.clone().context("a chunk without blocks")?).await?;
        Ok(())
    }
}

/// Consecutive blocks with all that goes into a database.
#[derive(Default)]
struct Chunk {
    batches: Vec<BatchWrite>,
    bytes: usize,
    blocks: Vec<BlockWrite>,
    state: Option<StateWrite>,
}

/// Makes blocks, one on the other.
struct Forger {
    plan: Plan,
    chain: Hash,
    set: Arc<ValidatorSet>,
    epochs: Epochs,
    /// In the order of the set.
    keys: Vec<SecretKey>,
    /// Whose databases are filled: nobody else has voted.
    signers: Vec<Index>,
    rules: Rules,
    wallets: Vec<Wallet>,
    state: State,
    roots: (Hash, Hash),
    parent: Hash,
    height: u64,
    first_ms: u64,
    /// Number of the next batch, and of the next transaction.
    counters: (u64, usize),
    cert: Option<Cert>,
}

impl Forger {
    fn new(net: &mut Localnet, plan: Plan, nodes: &[usize]) -> Result<Forger> {
        let set = net.genesis.validator_set()?;
        let mut keys: Vec<SecretKey> = (0..net.nodes.len()).map(|i| net.seed().key("validator", i as u64)).collect();
        keys.sort_by_key(|key| set.index_of(&key.public()));
        let mut signers: Vec<Index> = nodes.iter().map(|node| net.nodes[*node].signer as Index).collect();
        signers.sort_unstable();
        let state = State::from_genesis(&net.genesis);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64;
        Ok(Forger {
            plan,
            chain: net.chain,
            set: Arc::new(set),
            epochs: Epochs::by(&net.genesis.parameters),
            keys,
            signers,
            rules: Rules::of(&net.genesis),
            wallets: std::mem::take(&mut net.wallets),
            roots: (state.root(), Hash::ZERO),
            state,
            parent: net.chain,
            height: 0,
            first_ms: now.saturating_sub(plan.blocks * BLOCK_MS),
            counters: (0, 0),
            cert: None,
        })
    }

    /// The next blocks; none at the end.
    fn chunk(&mut self) -> Chunk {
        let mut chunk = Chunk::default();
        let mut accounts: BTreeMap<Address, Account> = BTreeMap::new();
        let mut records: BTreeMap<RecordKey, Option<Record>> = BTreeMap::new();
        let mut transactions: Vec<TransactionRow> = Vec::new();
        while self.height < self.plan.blocks && (chunk.blocks.len() as u64) < CHUNK && chunk.bytes < CHUNK_BYTES {
            let (executed, rows) = self.block(&mut chunk);
            accounts.extend(executed.changed);
            records.extend(executed.changed_records);
            transactions.extend(rows);
        }
        chunk.state = (!chunk.blocks.is_empty()).then(|| StateWrite {
            height: self.height,
            state_root: self.roots.0,
            results_root: self.roots.1,
            accounts: accounts.into_iter().map(|(address, a)| (address, a.balance, a.nonce)).collect(),
            records: records.into_iter().collect(),
            transactions,
            // It forges no receipts.
            receipts: Vec::new(),
        });
        chunk
    }

    /// One more block: every slot has one, so slots are heights of the epoch.
    fn block(&mut self, chunk: &mut Chunk) -> (Executed, Vec<TransactionRow>) {
        let height = self.height + 1;
        let filled = height <= self.plan.filled_to && height.is_multiple_of(self.plan.filled_every);
        let batches = if filled { self.batches(height) } else { Vec::new() };
        let epoch = self.epochs.of(height);
        let slot = height - epoch * self.epochs.last(0);
        let proposer = self.set.leader(epoch, slot);
        let header = Header {
            version: VERSION,
            epoch,
            slot,
            height,
            parent_slot: slot - 1,
            parent: self.parent,
            parent_state_root: self.roots.0,
            parent_results_root: self.roots.1,
            time_ms: self.first_ms + height * BLOCK_MS,
            proposer,
            set_hash: self.set.hash(),
            next_set_hash: self.set.hash(),
            batches: batches.iter().map(|b| b.batch.reference(b.digest)).collect(),
            evidence: Vec::new(),
        };
        // It is the same in all epochs.
        let context = ledger::Context::of(&header, &Sets { epoch, ..Sets::genesis(self.set.clone()) });
        let executed = ledger::execute(&self.state, &self.rules, &context, &batches);
        let rows = transaction_rows(height, &batches, &executed.results);
        let digest = header.digest();
        let cert = self.certified(height).then(|| self.certify(header.notar(digest)));
        // A certified block needs no leader's signature (D23).
        let candidate = match self.signers.contains(&proposer) {
            true => Candidate { signature: self.sign(header.notar(digest), proposer).signature, header },
            false => Candidate::unsigned(header),
        };
        chunk.bytes += batches.iter().map(|b| b.batch.encoded_len()).sum::<usize>();
        chunk.batches.extend(batches.into_iter().map(|b| BatchWrite { digest: b.digest, batch: b.batch }));
        chunk.blocks.push(BlockWrite { digest, candidate, cert: cert.clone() });
        self.cert = cert.or(self.cert.take());
        (self.parent, self.height) = (digest, height);
        self.roots = (executed.state_root, executed.results_root);
        self.state = executed.state.clone();
        (executed, rows)
    }

    fn certified(&self, height: u64) -> bool {
        height == self.plan.blocks
            || self.epochs.is_boundary(height)
            || height.is_multiple_of(self.plan.certified_every)
    }

    /// A Final certificate by those who have the chain.
    fn certify(&self, notar: Statement) -> Cert {
        let statement = Statement { kind: Kind::Final, ..notar };
        let votes: Vec<_> = self.signers.iter().map(|index| (*index, self.sign(statement, *index).signature)).collect();
        Cert::collect(statement, &self.set, &votes)
    }

    fn sign(&self, statement: Statement, index: Index) -> Vote {
        Vote::sign(statement, &self.chain, index, &self.keys[usize::from(index)])
    }

    fn batches(&mut self, height: u64) -> Vec<VerifiedBatch> {
        (0..self.plan.batches).map(|_| self.batch(height)).collect()
    }

    /// A batch of the next author in turn.
    fn batch(&mut self, height: u64) -> VerifiedBatch {
        let epoch = self.epochs.of(height);
        let expiry = height + MAX_EXPIRY_AHEAD / 2;
        let txs = (0..self.plan.transactions).map(|_| self.transaction(expiry)).collect();
        let (seq, author) = (self.counters.0, (self.counters.0 % self.keys.len() as u64) as Index);
        self.counters.0 += 1;
        let batch = Batch::seal(&self.chain, &self.keys[usize::from(author)], (epoch, author), seq, expiry, txs);
        let digest = batch.digest();
        VerifiedBatch::trusted(Arc::new(batch), digest, &self.chain)
    }

    /// A transaction of the next wallet in turn, to those after it.
    fn transaction(&mut self, expiry: u64) -> aitbc_core::transaction::SignedTransaction {
        let (count, turn) = (self.wallets.len(), self.counters.1);
        self.counters.1 += 1;
        let to: Vec<Address> = (1..=self.plan.payments).map(|i| self.wallets[(turn + i) % count].address()).collect();
        let (chain, wallet) = (self.chain, &mut self.wallets[turn % count]);
        match to[..] {
            [to] => wallet.transfer(&chain, to, 1, expiry),
            _ => wallet.pay_all(&chain, &to, 1, expiry),
        }
    }
}
