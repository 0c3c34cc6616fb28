//! A chain whose validators change, made without nodes: one joins, one weighs more, one leaves, one takes another's place.

use crate::batches::BatchPool;
use crate::commit::CommitJob;
use crate::executor::{Command, Executor};
use crate::gossip::{GossipConfig, Peers};
use crate::mempool::task::FinalBlock;
use crate::metrics::Metrics;
use crate::recovery::{Lease, RecoveryError, Start, recover};
use crate::snapshots::Snapshots;
use crate::storage::{self, BatchWrite, BlockWrite, Owner, StateWrite, Storage};
use crate::subscriptions::Subscriptions;
use crate::view::{Identity, Snapshot};
use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::block::{Candidate, Header, VERSION};
use aitbc_core::consensus::input::Input;
use aitbc_core::epoch::{Epochs, Sets};
use aitbc_core::genesis::{Genesis, GenesisAccount, GenesisValidator, Mode, Staking};
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::ledger::{self, Context, Executed, Rules};
use aitbc_core::params::Parameters;
use aitbc_core::state::State;
use aitbc_core::transaction::{Action, Payment, Transaction};
use aitbc_core::validators::{Validator, ValidatorSet};
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Heights of an epoch.
pub(crate) const BLOCKS: u64 = 3;
/// Members of epochs 0 and 1 and their weights, then those of 2, 3, … and for ever those of the last.
const MEMBERS: [&[(u8, u32)]; 5] = [
    &[(1, 1), (2, 1), (3, 1), (4, 1)],
    &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)],
    &[(1, 3), (2, 1), (3, 1), (4, 1), (5, 1)],
    &[(1, 3), (3, 1), (4, 1), (5, 1)],
    &[(6, 2), (3, 1), (4, 1), (5, 1)],
];

/// Key of a validator.
pub(crate) fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn set(members: &[(u8, u32)]) -> Arc<ValidatorSet> {
    let member = |(n, weight): &(u8, u32)| Validator { key: secret(*n).public(), weight: *weight };
    Arc::new(ValidatorSet::new(members.iter().map(member).collect()).expect("valid set"))
}

/// The set of an epoch.
pub(crate) fn set_of(epoch: u64) -> Arc<ValidatorSet> {
    set(MEMBERS[(epoch.saturating_sub(1) as usize).min(MEMBERS.len() - 1)])
}

/// The sets that an epoch has to do with.
pub(crate) fn sets_of(epoch: u64) -> Sets {
    let [older, previous] = [2, 1].map(|before| set_of(epoch.saturating_sub(before)));
    Sets { epoch, older, previous, current: set_of(epoch), next: set_of(epoch + 1) }
}

/// Gossip of the node with such a key: it listens at a free port, dials nobody and lets the members of a set connect.
pub(crate) fn gossip_config(key: u8, chain: Hash, allowed: &ValidatorSet, metrics: &Arc<Metrics>) -> GossipConfig {
    GossipConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        peers: Vec::new(),
        chain,
        allowed: Peers::of_set(allowed),
        key: Arc::new(secret(key)),
        generation: 1,
        metrics: metrics.clone(),
    }
}

/// A block with what came of it.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) candidate: Candidate,
    pub(crate) digest: Hash,
    pub(crate) cert: Cert,
    pub(crate) batches: Vec<VerifiedBatch>,
    pub(crate) executed: Executed,
}

/// The chain, in memory.
pub(crate) struct Chain {
    pub(crate) identity: Arc<Identity>,
    pub(crate) rules: Rules,
    pub(crate) epochs: Epochs,
    pub(crate) blocks: Vec<Made>,
}

/// A database with some of it.
pub(crate) struct Stored {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) url: String,
    _dir: tempfile::TempDir,
}

/// An executor at the end of a database, with what it tells.
pub(crate) struct Executing {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) core: mpsc::Receiver<Input>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) commits: mpsc::Receiver<CommitJob>,
    _outcomes: mpsc::Receiver<FinalBlock>,
}

fn genesis() -> Genesis {
    let validator = |member: &Validator| GenesisValidator { public_key: member.key, weight: member.weight, stake: 0 };
    Genesis {
        chain_id: "changing".into(),
        mode: Mode::Poa,
        validators: set_of(0).members().iter().map(validator).collect(),
        accounts: vec![GenesisAccount { address: secret(90).public().address(), balance: 1_000_000 }],
        faucet: None,
        receipts: None,
        parameters: Parameters { epoch_blocks: BLOCKS, ..Parameters::default() },
        staking: Staking::default(),
    }
}

/// So many blocks, as honest validators of each epoch make them.
pub(crate) fn chain(blocks: u64) -> Chain {
    changed(blocks, |_| {})
}

/// The same with some headers changed before they are signed, as validators do that all lie.
pub(crate) fn changed(blocks: u64, change: impl Fn(&mut Header)) -> Chain {
    let genesis = genesis();
    let scheduled = (2..2 + MEMBERS.len() as u64).map(set_of).collect();
    let rules = Rules { scheduled, ..Rules::of(&genesis) };
    let (chain, key) = (genesis.hash(), Some(secret(1).public()));
    let epochs = Epochs::by(&genesis.parameters);
    let identity = Arc::new(Identity { chain, genesis_set: set_of(0), key, genesis });
    let mut made = Chain { identity, rules, epochs, blocks: Vec::new() };
    for height in 1..=blocks {
        let block = made.next(height, &change);
        made.blocks.push(block);
    }
    made
}

impl Chain {
    fn next(&self, height: u64, change: &impl Fn(&mut Header)) -> Made {
        let (epoch, slot) = (self.epochs.of(height), (height - 1) % BLOCKS + 1);
        let (sets, batches) = (sets_of(epoch), self.batches(height));
        let mut header = self.header(height, slot, &batches);
        change(&mut header);
        let parent = self.blocks.last().map_or_else(|| State::from_genesis(&self.identity.genesis), state_after);
        let executed = ledger::execute(&parent, &self.rules, &Context::of(&header, &sets), &batches);
        let digest = header.digest();
        let statement = Statement { epoch, slot, kind: Kind::Final, digest };
        let signature = self.sign(&sets.current, header.notar(digest), header.proposer).signature;
        let cert = self.certify(&sets.current, statement);
        Made { candidate: Candidate { header, signature }, digest, cert, batches, executed }
    }

    fn header(&self, height: u64, slot: u64, batches: &[VerifiedBatch]) -> Header {
        let sets = sets_of(self.epochs.of(height));
        let parent = self.blocks.last();
        Header {
            version: VERSION,
            epoch: sets.epoch,
            slot,
            height,
            parent_slot: slot - 1,
            parent: parent.map_or(self.identity.chain, |block| block.digest),
            parent_state_root: self.state(height - 1).root(),
            parent_results_root: parent.map_or(Hash::ZERO, |block| block.executed.results_root),
            time_ms: 1_700_000_000_000 + height,
            proposer: sets.current.leader(sets.epoch, slot),
            set_hash: sets.current.hash(),
            next_set_hash: sets.next.hash(),
            batches: batches.iter().map(|batch| batch.batch.reference(batch.digest)).collect(),
            evidence: Vec::new(),
        }
    }

    /// The first block of an epoch has a batch of an author of the epoch before (E8), others of its own.
    fn batches(&self, height: u64) -> Vec<VerifiedBatch> {
        let epoch = self.epochs.of(height.saturating_sub(1)).min(self.epochs.of(height));
        let (set, payer) = (set_of(epoch), secret(90));
        let author = (set.len() - 1) as u16;
        let action = Action::Transfer(Payment { to: Address([9; 20]), amount: 5 });
        let tx = Transaction { sender: payer.public(), nonce: height - 1, fee: 1, expiry_height: height + 50, action };
        let tx = tx.sign(&self.identity.chain, &payer);
        let key = key_of(&set, author);
        let place = (epoch, author);
        let batch = Arc::new(Batch::seal(&self.identity.chain, &key, place, height, height + 50, vec![tx]));
        let digest = batch.digest();
        vec![VerifiedBatch::trusted(batch, digest, &self.identity.chain)]
    }

    fn sign(&self, set: &ValidatorSet, statement: Statement, signer: u16) -> Vote {
        Vote::sign(statement, &self.identity.chain, signer, &key_of(set, signer))
    }

    /// By all members of a set.
    pub(crate) fn certify(&self, set: &ValidatorSet, statement: Statement) -> Cert {
        let votes: Vec<_> =
            (0..set.len() as u16).map(|index| (index, self.sign(set, statement, index).signature)).collect();
        Cert::collect(statement, set, &votes)
    }

    /// The state after the block at a height.
    pub(crate) fn state(&self, height: u64) -> State {
        match height.checked_sub(1).and_then(|at| self.blocks.get(at as usize)) {
            Some(block) => state_after(block),
            None => State::from_genesis(&self.identity.genesis),
        }
    }

    /// A new database with blocks up to a height, whose state is that after another one.
    pub(crate) async fn store(&self, blocks: u64, state: u64) -> Stored {
        let dir = tempfile::tempdir().expect("folder");
        let url = format!("sqlite:///{}", dir.path().join("node.db").display());
        let owner = Owner { chain: self.identity.chain, key: self.identity.key };
        let metrics = Arc::new(Metrics::new().expect("unique names"));
        let storage = storage::open(&url, owner, metrics).await.expect("database");
        storage.take_lease("test".into()).await.expect("lease");
        for block in &self.blocks[..blocks as usize] {
            let batches = block.batches.iter().map(|b| BatchWrite { digest: b.digest, batch: b.batch.clone() });
            storage.commit_batches(batches.collect()).await.expect("batches");
            let (digest, candidate) = (block.digest, block.candidate.clone());
            let write = BlockWrite { digest, candidate, cert: Some(block.cert.clone()) };
            storage.commit_blocks(vec![write]).await.expect("block");
        }
        storage.reset_state(self.state_write(state)).await.expect("state");
        Stored { storage, url, _dir: dir }
    }

    /// Goes on from a database.
    pub(crate) async fn start(&self, storage: &Arc<dyn Storage>) -> Result<Start, RecoveryError> {
        let generation = storage.take_lease("test".into()).await?;
        recover(storage, &self.identity, &self.rules, Lease { generation, first_start: true }).await
    }

    /// The same with an executor.
    pub(crate) async fn executing(&self, stored: &Stored) -> Executing {
        let start = self.start(&stored.storage).await.expect("starts");
        let sets = start.snapshot.sets.clone();
        let (sender, snapshots) = watch::channel(Arc::new(start.snapshot));
        let ((core_sender, core), (commands, waiting)) = (mpsc::channel(256), mpsc::channel(8));
        let ((commits_sender, commits), (outcomes_sender, outcomes)) = (mpsc::channel(256), mpsc::channel(256));
        let executor = Executor::new(
            self.identity.clone(),
            self.rules.clone(),
            Arc::new(BatchPool::new(sets)),
            stored.storage.clone(),
            core_sender,
            commits_sender,
            outcomes_sender,
            sender,
            Arc::new(Snapshots::default()),
            Subscriptions::default(),
            Arc::new(Metrics::new().expect("unique names")),
            tokio::runtime::Handle::current(),
        );
        std::thread::spawn(move || executor.run(waiting));
        Executing { commands, core, snapshots, commits, _outcomes: outcomes }
    }

    /// All of the state after a block.
    pub(crate) fn state_write(&self, height: u64) -> StateWrite {
        let state = self.state(height);
        let block = height.checked_sub(1).and_then(|at| self.blocks.get(at as usize));
        StateWrite::whole(height, &state, block.map_or(Hash::ZERO, |block| block.executed.results_root))
    }
}

fn state_after(block: &Made) -> State {
    block.executed.state.clone()
}

fn key_of(set: &ValidatorSet, index: u16) -> SecretKey {
    let member = set.get(index).map(|member| member.key);
    (1..=9).map(secret).find(|key| Some(key.public()) == member).expect("a member")
}
