//! One database per validator: the ledger (truth, durable at commit) and the state (projection, may lag).
//!
//! ```text
//! ledger: lease, votes, certs, candidates, seals, batches, blocks     state: applied, accounts, records, transactions, receipts
//! ```
//! SQLite keeps them in two files, Postgres in two schemas, so bulk writes of the state never delay a vote.

mod backend;
mod database;
mod lane;
mod owner;
pub mod postgres;

pub mod reader;
mod rows;
mod sqlite;

use crate::metrics::Metrics;
use aitbc_core::batch::{Batch, BatchRef};
use aitbc_core::block::{Block, Candidate, Seal};
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::memory::Memory;
use aitbc_core::receipt::{AttestedReceipt, Name};
use aitbc_core::record::{Record, RecordChange, RecordKey};
use aitbc_core::state::{Account, State};
use aitbc_core::vote::{Cert, Vote};
use borsh::{BorshDeserialize, BorshSerialize};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Epochs below that of the last block whose Seals a start reads: those that the core keeps for stragglers (E7). Of later ones
/// it reads all: blocks are written behind the votes, by no more than waits for the ledger.
pub const SEALS: i64 = 3;

/// Result of a storage call.
pub type Result<T> = std::result::Result<T, StorageError>;

/// Why a storage call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process took the lease (P7): exit 70.
    #[error("another process holds the lease of this database: generation {found}, ours is {ours}")]
    Fenced {
        /// Ours.
        ours: u32,
        /// In the database.
        found: u32,
    },
    /// A vote row of this slot and class exists with another value (P6): exit 71.
    #[error("the votes table already holds another vote of class {class} in slot {slot}")]
    ConflictingVote {
        /// Slot.
        slot: u64,
        /// Class of the row.
        class: u8,
    },
    /// The database belongs to another chain, key or schema, or is another database than before (P8, P12): exit 78.
    #[error("this database does not fit: {0}")]
    Foreign(String),
    /// The database cannot be reached, or failed. Its text tells the cause already, so it is no source.
    #[error("database: {0}")]
    Database(Arc<sqlx::Error>),
    /// Bytes in the database do not decode.
    #[error("the database holds bytes that do not decode: {0}")]
    Corrupt(String),
}

impl From<sqlx::Error> for StorageError {
    fn from(cause: sqlx::Error) -> Self {
        StorageError::Database(Arc::new(cause))
    }
}

/// A vote to be durable before it is sent, with what must be in the same commit.
#[derive(Clone, Debug)]
pub struct VoteWrite {
    /// The signed vote.
    pub vote: Vote,
    /// With Notar: the candidate voted for (P3), own ones with their signature.
    pub candidate: Option<Candidate>,
    /// With Final: the Notar certificate it rests on (P4).
    pub cert: Option<Cert>,
}

/// A batch that is verified and must be durable before it is voted for.
#[derive(Clone, Debug)]
pub struct BatchWrite {
    /// Its digest.
    pub digest: Hash,
    /// The batch.
    pub batch: Arc<Batch>,
}

/// A final block of the ledger. Its batches are in the ledger before.
#[derive(Clone, Debug)]
pub struct BlockWrite {
    /// Digest of the header.
    pub digest: Hash,
    /// Header and leader's signature.
    pub candidate: Candidate,
    /// Final certificate, where this very block has one; ancestors of it are final without.
    pub cert: Option<Cert>,
}

/// The state after a block, fetched instead of the blocks below it (S3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// Height of the block.
    pub height: u64,
    /// Root of the state after it.
    pub state_root: Hash,
    /// Root of its results.
    pub results_root: Hash,
    /// Its leaves, encoded, in parts of a size that suits a row.
    pub parts: Vec<Vec<u8>>,
}

/// A block of the ledger with what proves it.
#[derive(Clone, Debug)]
pub struct StoredBlock {
    /// Digest of the header.
    pub digest: Hash,
    /// Header and leader's signature.
    pub candidate: Candidate,
    /// Final certificate, where this very block has one.
    pub cert: Option<Cert>,
}

/// How many of the first things of these sizes are together no larger than `most`; at least one.
pub fn fitting(sizes: impl Iterator<Item = u64>, most: u64) -> usize {
    let mut sum = 0u64;
    let fits = |size: &u64| {
        sum = sum.saturating_add(*size);
        sum <= most
    };
    sizes.take_while(fits).count().max(1)
}

/// Outcome of a transaction in a final block.
#[derive(Clone, Debug)]
pub struct TransactionRow {
    /// Id.
    pub id: Hash,
    /// Height of the block.
    pub height: u64,
    /// Position in the block, over all batches.
    pub index: u32,
    /// Stable number of the result.
    pub code: u16,
    /// Who signed.
    pub sender: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Digest of the batch that holds it.
    pub batch: Hash,
}

/// A receipt that minted, as those find it who look for one.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiptRow {
    /// Height of the block that minted it.
    pub height: u64,
    /// Position of its transaction in the block.
    pub index: u32,
    /// The block's time, milliseconds since 1970.
    pub time_ms: u64,
    /// Smallest units it minted, the coordinators' share among them.
    pub minted: u64,
    /// The receipt with its signatures.
    pub attested: AttestedReceipt,
}

/// Which receipts are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiptsOf {
    /// All.
    Everybody,
    /// Those that their providers call so.
    Receipt(Name),
    /// Those of jobs that their clients call so.
    Job(Name),
    /// Those of one provider.
    Provider(Address),
}

/// State after some final blocks, folded: each account and record once.
#[derive(Clone, Debug)]
pub struct StateWrite {
    /// Height of the last of them.
    pub height: u64,
    /// State root after it: a start compares the rebuilt state with it (P8).
    pub state_root: Hash,
    /// Root of its results: the next header needs it, and a start does not execute the head again.
    pub results_root: Hash,
    /// Changed accounts: address, balance, nonce.
    pub accounts: Vec<(Address, u64, u64)>,
    /// Changed records; `None`: it is gone.
    pub records: Vec<RecordChange>,
    /// Transactions of the blocks.
    pub transactions: Vec<TransactionRow>,
    /// Receipts that they minted.
    pub receipts: Vec<ReceiptRow>,
}

impl StateWrite {
    /// All accounts and records of a state; no transactions or receipts.
    pub fn whole(height: u64, state: &State, results_root: Hash) -> StateWrite {
        StateWrite {
            height,
            state_root: state.root(),
            results_root,
            accounts: state.iter().map(|(address, account)| (address, account.balance, account.nonce)).collect(),
            records: state.records().map(|(key, record)| (key.clone(), Some(record.clone()))).collect(),
            transactions: Vec::new(),
            receipts: Vec::new(),
        }
    }

    /// The trie of accounts and records, of one that was loaded: it has all of them.
    pub fn state(&self) -> State {
        let account =
            |(address, balance, nonce): &(Address, u64, u64)| (*address, Account { balance: *balance, nonce: *nonce });
        let record = |(key, record): &RecordChange| record.clone().map(|record| (key.clone(), record));
        State::from_parts(self.accounts.iter().map(account), self.records.iter().filter_map(record))
    }
}

/// What the last block changed, as it was before: with it a start knows the state after the block below it, which its header makes
/// provable (L3, S3).
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct Undo {
    /// Height of the last block.
    pub height: u64,
    /// Accounts; one that was not there is empty.
    pub accounts: Vec<(Address, Account)>,
    /// Records; `None`: it was not there.
    pub records: Vec<RecordChange>,
}

impl Undo {
    /// The state before the last block, from that after it.
    pub fn before(&self, state: &State) -> State {
        let mut before = state.clone();
        before.set_many(&self.accounts);
        before.set_records(&self.records);
        before
    }
}

/// What a start finds in the ledger (P8).
#[derive(Clone, Debug, Default)]
pub struct LedgerSnapshot {
    /// Last final block, none at genesis.
    pub head: Option<StoredBlock>,
    /// Highest Final certificate stored, maybe above `head`.
    pub final_cert: Option<Cert>,
    /// Own votes above the floor.
    pub votes: Vec<Vote>,
    /// Notar certificates stored with Final votes.
    pub certs: Vec<Cert>,
    /// Candidates above the head.
    pub candidates: Vec<Candidate>,
    /// Batches in no final block, not expired: reference, author's seq, expiry height.
    pub batches: Vec<(BatchRef, u64, u64)>,
    /// Batches in final blocks that are not expired, with expiry heights.
    pub included: Vec<(Hash, u64)>,
    /// Ends of epochs (P10), oldest first, from [`SEALS`] below that of the last block on.
    pub seals: Vec<Seal>,
    /// No vote at or below this position, epoch and slot (P9).
    pub vote_floor: (u64, u64),
    /// What the database knows of the key's past (A1); `None`: it is new.
    pub memory: Option<Memory>,
}

impl LedgerSnapshot {
    /// Epoch and slot at or below which this database knows all to be decided, hence nobody votes: of the highest final block, or the
    /// begin of the epoch after the last Seal; zeros at genesis.
    pub fn decided(&self) -> (u64, u64) {
        let head = self.head.iter().map(|block| (block.candidate.header.epoch, block.candidate.header.slot));
        let cert = self.final_cert.iter().map(|cert| (cert.statement.epoch, cert.statement.slot));
        let sealed = self.seals.iter().map(|seal| (seal.header.epoch.saturating_add(1), 0));
        head.chain(cert).chain(sealed).max().unwrap_or_default()
    }
}

/// The database of one validator. All methods may be called from any task; writers are serialised inside,
/// calls that wait at the same time share a commit.
#[allow(clippy::type_complexity, reason = "a boxed future of a list of pairs is the plainest thing here")]
pub trait Storage: Send + Sync + 'static {
    /// `sqlite` or `postgres`, for logs and metrics.
    fn kind(&self) -> &'static str;

    /// Raises the lease's generation and returns it (P8). From then on every other holder is fenced.
    fn take_lease(&self, holder: String) -> BoxFuture<'_, Result<u32>>;

    /// What the ledger holds, read after the lease was taken.
    fn load_ledger(&self) -> BoxFuture<'_, Result<LedgerSnapshot>>;

    /// Inserts votes, each fenced by the lease (P1-P7): one durable commit. The same vote again is no error.
    fn commit_votes(&self, votes: Vec<VoteWrite>) -> BoxFuture<'_, Result<()>>;

    /// Stores the highest Final certificate, replacing a lower one, and any Notar certificates given; durable.
    fn commit_cert(&self, cert: Cert) -> BoxFuture<'_, Result<()>>;

    /// Stores the end of an epoch (P10), fenced by the lease; durable. The same block again is no error, another one is
    /// [`StorageError::ConflictingVote`] in the slot of its certificate.
    fn commit_seal(&self, seal: Seal) -> BoxFuture<'_, Result<()>>;

    /// Replaces the memory record, fenced by the lease, whose generation becomes `generation` in the same commit (A3, A6);
    /// durable.
    fn commit_memory(&self, memory: Memory, generation: Option<u32>) -> BoxFuture<'_, Result<()>>;

    /// Stores batches, durable. Known ones are no error.
    fn commit_batches(&self, batches: Vec<BatchWrite>) -> BoxFuture<'_, Result<()>>;

    /// Appends final blocks in order and marks their batches as included, durable. Known ones are no error.
    fn commit_blocks(&self, blocks: Vec<BlockWrite>) -> BoxFuture<'_, Result<()>>;

    /// Makes a fetched state the base of the ledger, fenced by the lease, in one durable commit: the headers up to its height
    /// are appended, `lowest` is the height above, as nothing below is executed again, and the next start goes on from the
    /// base. Votes stay as they are. Nothing happens where the ledger has a block of this height already.
    ///
    /// [`StorageError::Corrupt`] where a header is not that of the own block.
    fn commit_snapshot(&self, headers: Vec<BlockWrite>, snapshot: StoredSnapshot) -> BoxFuture<'_, Result<()>>;

    /// The base with a few of its parts, from part `from` on, until [`Storage::forget_snapshot`]; `None` where there are no more.
    fn snapshot(&self, from: u64) -> BoxFuture<'_, Result<Option<StoredSnapshot>>>;

    /// Deletes the base. The caller has its state, or a later one, durable in the state's tables.
    fn forget_snapshot(&self) -> BoxFuture<'_, Result<()>>;

    /// Deletes, in one small commit, some batches of blocks below `lowest` that a base made needless; gives how many.
    fn forget_leftovers(&self) -> BoxFuture<'_, Result<usize>>;

    /// Deletes votes, certificates and candidates at or below a position, epoch and slot, and raises the vote floor to it in the same
    /// transaction (P9); deletes batches in no block that expired below `height`, or are of an epoch older than the one before the
    /// position's (V6).
    fn prune(&self, floor: (u64, u64), height: u64) -> BoxFuture<'_, Result<()>>;

    /// Least height whose batches are kept; below it only headers and certificates are. 1 unless some were deleted.
    fn lowest(&self) -> u64;

    /// Deletes batches, receipts and outcomes of the transactions of some of the lowest blocks below `below`, in one small commit,
    /// and gives the least height that is kept then. The caller leaves at least
    /// [`MIN_KEEP_BLOCKS`](aitbc_core::params::MIN_KEEP_BLOCKS), and no block whose state is not durable.
    fn forget_bodies(&self, below: u64) -> BoxFuture<'_, Result<u64>>;

    /// Makes the state as applied durable and gives its height: blocks up to it are never executed again. `None` where
    /// that cannot be told now, because a reader is in the way.
    fn flush_state(&self) -> BoxFuture<'_, Result<Option<u64>>>;

    /// Applies folded state, not necessarily durable at return; heights only grow.
    fn apply_state(&self, write: StateWrite) -> BoxFuture<'_, Result<()>>;

    /// The state as applied, for building the trie at start; `None` before the first `reset_state`.
    /// `transactions` and `receipts` are empty.
    fn load_state(&self) -> BoxFuture<'_, Result<Option<StateWrite>>>;

    /// Keeps what the last block changed, not necessarily durable at return. False where the state as applied is of another block.
    fn commit_undo(&self, undo: Undo) -> BoxFuture<'_, Result<bool>>;

    /// What was kept last, of whichever block.
    fn undo(&self) -> BoxFuture<'_, Result<Option<Undo>>>;

    /// Empties the state, transactions and receipts included, and writes this one (genesis at height 0, or a rebuild).
    fn reset_state(&self, state: StateWrite) -> BoxFuture<'_, Result<()>>;

    /// Block at a height.
    fn block(&self, height: u64) -> BoxFuture<'_, Result<Option<StoredBlock>>>;

    /// Block with a digest.
    fn block_by_digest(&self, digest: Hash) -> BoxFuture<'_, Result<Option<StoredBlock>>>;

    /// Blocks `from ..= to` without their batches, ascending, at most 1,024.
    fn headers(&self, from: u64, to: u64) -> BoxFuture<'_, Result<Vec<StoredBlock>>>;

    /// Blocks `from ..= to` with their batches, ascending, at most `max_bytes` of batches (at least one block).
    fn blocks(&self, from: u64, to: u64, max_bytes: usize) -> BoxFuture<'_, Result<Vec<(StoredBlock, Block)>>>;

    /// Batches by digest, those that are there, in the order asked.
    fn batches(&self, digests: Vec<Hash>) -> BoxFuture<'_, Result<Vec<(Hash, Arc<Batch>)>>>;

    /// Outcome of a final transaction (the state may lag: absent is not "never").
    fn transaction(&self, id: Hash) -> BoxFuture<'_, Result<Option<TransactionRow>>>;

    /// Final transactions, newest first, of all or, among the last 100,000, of one sender.
    fn transactions(
        &self,
        sender: Option<Address>,
        limit: u32,
        offset: u32,
    ) -> BoxFuture<'_, Result<Vec<TransactionRow>>>;

    /// Outcomes recorded under a block, by position. Fewer than it has transactions where the state lags, or where an id
    /// took effect in another place.
    fn block_transactions(&self, height: u64) -> BoxFuture<'_, Result<Vec<TransactionRow>>>;

    /// How many transactions final blocks had, deleted ones among them (the state may lag).
    fn transaction_count(&self) -> BoxFuture<'_, Result<u64>>;

    /// Receipts that minted, newest first, and how many there are of these, counted up to 10,000.
    fn receipts(&self, of: ReceiptsOf, limit: u32, offset: u32) -> BoxFuture<'_, Result<(Vec<ReceiptRow>, u64)>>;

    /// Evidence in the state as applied, and the height of that; at most 100,000 records, by key.
    fn evidence(&self) -> BoxFuture<'_, Result<(u64, Vec<(RecordKey, Record)>)>>;

    /// A round trip, for readiness; the time it took is measured by the caller. `Fenced` where another process has taken the
    /// lease: one that has nothing to write would else never notice (P7).
    fn ping(&self) -> BoxFuture<'_, Result<()>>;

    /// Writes out what is buffered and closes.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Who owns a database: must be the same at every start.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Genesis hash.
    pub chain: Hash,
    /// Consensus key; `None` for a node without one.
    pub key: Option<PublicKey>,
}

/// How long [`open`] waits for a Postgres that is still starting.
pub const OPEN_WAIT: Duration = Duration::from_secs(60);

/// Opens, or makes, the database at `url`: `sqlite:///relative/path`, `sqlite:////absolute/path`, or
/// `postgresql://user:password@host:port/database`, where `?host=/run/postgresql` names a Unix socket's directory.
///
/// # Errors
/// [`StorageError::Foreign`] where the URL is none of these, or the database has another owner;
/// [`StorageError::Database`] where it cannot be reached within [`OPEN_WAIT`]. Never shows the password.
pub async fn open(url: &str, owner: Owner, metrics: Arc<Metrics>) -> Result<Arc<dyn Storage>> {
    open_within(url, owner, metrics, OPEN_WAIT).await
}

/// [`open`] with another wait.
///
/// # Errors
/// As [`open`].
pub async fn open_within(url: &str, owner: Owner, metrics: Arc<Metrics>, wait: Duration) -> Result<Arc<dyn Storage>> {
    if let Some(path) = url.strip_prefix("sqlite:///") {
        let backend = sqlite::Sqlite::open(path.as_ref(), &owner).await?;
        return Ok(Arc::new(database::Database::start(backend, metrics).await?));
    }
    if url.starts_with("postgresql://") || url.starts_with("postgres://") {
        let backend = postgres::Postgres::open(url, &owner, wait).await?;
        return Ok(Arc::new(database::Database::start(backend, metrics).await?));
    }
    Err(unknown_url(url))
}

fn unknown_url(url: &str) -> StorageError {
    let scheme = url.split("://").next().unwrap_or_default();
    let allowed = "sqlite:///path (sqlite:////absolute/path) or postgresql://user@host/database";
    StorageError::Foreign(format!("a database URL that begins with \"{scheme}\" is unknown: {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::{LedgerSnapshot, StorageError, StoredBlock};
    use crate::tests::unsigned;
    use aitbc_core::block::Seal;
    use aitbc_core::hash::Hash;
    use aitbc_core::vote::{Cert, Kind, Statement};

    fn cert(epoch: u64, slot: u64) -> Cert {
        let statement = Statement { kind: Kind::Final, epoch, slot, digest: Hash::ZERO };
        Cert { statement, signers: Vec::new(), signatures: Vec::new() }
    }

    #[test]
    fn all_is_decided_up_to_the_highest_final_block_and_all_of_an_epoch_that_is_sealed() {
        let head = |height| Some(StoredBlock { digest: Hash::ZERO, candidate: unsigned(height), cert: None });
        let with = |head, final_cert| LedgerSnapshot { head, final_cert, ..LedgerSnapshot::default() };
        assert_eq!(LedgerSnapshot::default().decided(), (0, 0));
        assert_eq!(with(head(9), Some(cert(0, 7))).decided(), (0, 9));
        assert_eq!(with(head(7), Some(cert(0, 9))).decided(), (0, 9));
        assert_eq!(with(head(9), Some(cert(1, 2))).decided(), (1, 2));
        let seals = vec![Seal { header: unsigned(9).header, cert: cert(0, 9) }];
        assert_eq!(LedgerSnapshot { seals, ..with(head(9), Some(cert(0, 9))) }.decided(), (1, 0));
    }

    #[test]
    fn an_error_that_several_writers_share_tells_its_cause_once_to_each() {
        let cause = StorageError::from(sqlx::Error::Io(std::io::Error::other("no route to host")));
        let shared = cause.clone();
        assert_eq!(shared.to_string(), cause.to_string());
        assert_eq!(shared.to_string(), "database: error communicating with database: no route to host");
        assert!(std::error::Error::source(&shared).is_none(), "who prints the sources too would tell it twice");
    }
}
