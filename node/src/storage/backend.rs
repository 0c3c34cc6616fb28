//! What a database must do; queues, group commit, limits and metrics around it are the same for both.

use super::{
    BatchWrite, BlockWrite, LedgerSnapshot, ReceiptRow, ReceiptsOf, Result, StateWrite, StoredBlock, StoredSnapshot,
    TransactionRow, Undo, VoteWrite,
};
use aitbc_core::block::Seal;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::memory::Memory;
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::vote::Cert;
use std::future::Future;

/// Newest transactions searched for those of one sender. An index would cost each transaction more than all its other
/// columns, and a search without bound could be asked for by anybody.
pub const SENDER_SCAN: i64 = 100_000;
/// Most receipts that are counted: counting all could be asked for by anybody.
pub const RECEIPT_COUNT: i64 = 10_000;
/// Most records of evidence that are read: each is a validator that was punished.
pub const EVIDENCE_SCAN: i64 = 100_000;

/// Parts of a fetched state read at once: about 8 MiB.
pub const SNAPSHOT_PARTS: i64 = 16;

/// A write somebody waits for before speaking: its lane never waits for bulk data.
pub enum VoteJob {
    /// Own votes.
    Votes(Vec<VoteWrite>),
    /// A certificate.
    Cert(Cert),
    /// The end of an epoch.
    Seal(Box<Seal>),
}

/// A write of bulk data.
pub enum DataJob {
    /// Verified batches.
    Batches(Vec<BatchWrite>),
    /// Final blocks.
    Blocks(Vec<BlockWrite>),
    /// Deletes batches of final blocks.
    Bodies {
        /// Which.
        digests: Vec<Hash>,
        /// Least height whose batches are kept from now on.
        lowest: u64,
    },
    /// A fetched state, with the last headers up to it.
    Snapshot(Vec<BlockWrite>, StoredSnapshot),
    /// Deletes it.
    ForgetSnapshot,
    /// Deletes votes up to a position and expired batches.
    Prune {
        /// New vote floor: epoch and slot.
        floor: (u64, u64),
        /// Batches that expired below it go.
        height: u64,
    },
}

/// Which block.
pub enum BlockId {
    /// By height.
    Height(u64),
    /// By digest.
    Digest(Hash),
}

/// One database. Each write is one transaction; an error means that nothing of it is there, or, with
/// [`super::StorageError::Database`], that nobody knows.
pub trait Backend: Send + Sync + 'static {
    /// `sqlite` or `postgres`.
    const KIND: &'static str;

    fn take_lease(&self, holder: String) -> impl Future<Output = Result<u32>> + Send;
    fn load_ledger(&self) -> impl Future<Output = Result<LedgerSnapshot>> + Send;
    fn write_votes(&self, jobs: &[VoteJob]) -> impl Future<Output = Result<()>> + Send;
    fn write_memory(&self, memory: &Memory, generation: Option<u32>) -> impl Future<Output = Result<()>> + Send;
    fn write_data(&self, jobs: &[DataJob]) -> impl Future<Output = Result<()>> + Send;
    /// Called while no vote is to be written, so that a lost connection is found before the next one.
    fn keep_alive(&self) -> impl Future<Output = ()> + Send;
    fn apply_state(&self, write: &StateWrite) -> impl Future<Output = Result<()>> + Send;
    fn load_state(&self) -> impl Future<Output = Result<Option<StateWrite>>> + Send;
    fn reset_state(&self, state: &StateWrite) -> impl Future<Output = Result<()>> + Send;
    /// True where the state as applied is of this height.
    fn write_undo(&self, undo: &Undo) -> impl Future<Output = Result<bool>> + Send;
    fn undo(&self) -> impl Future<Output = Result<Option<Undo>>> + Send;
    /// Some parts of the fetched state, from one on.
    fn snapshot(&self, from: u64) -> impl Future<Output = Result<Option<StoredSnapshot>>> + Send;
    /// Digest and size of some batches of blocks below a height.
    fn batches_below(&self, height: u64, limit: u32) -> impl Future<Output = Result<Vec<(Hash, u64)>>> + Send;
    /// Least height whose batches are in the ledger, 1 unless some were deleted.
    fn lowest(&self) -> impl Future<Output = Result<u64>> + Send;
    /// Makes the state as applied durable; gives its height, `None` where it cannot be told to be so now.
    fn flush_state(&self) -> impl Future<Output = Result<Option<u64>>> + Send;
    /// Deletes outcomes of transactions, and receipts, in blocks below a height.
    fn forget_transactions(&self, below: u64) -> impl Future<Output = Result<()>> + Send;
    fn block(&self, id: BlockId) -> impl Future<Output = Result<Option<StoredBlock>>> + Send;
    /// Blocks `from ..= to`, ascending, at most `limit`.
    fn block_range(&self, from: u64, to: u64, limit: u32) -> impl Future<Output = Result<Vec<StoredBlock>>> + Send;
    /// Encoded batches, those that are there, in any order.
    fn batch_bytes(&self, digests: &[Hash]) -> impl Future<Output = Result<Vec<(Hash, Vec<u8>)>>> + Send;
    fn transaction(&self, id: Hash) -> impl Future<Output = Result<Option<TransactionRow>>> + Send;
    fn transactions(
        &self,
        sender: Option<Address>,
        limit: u32,
        offset: u32,
    ) -> impl Future<Output = Result<Vec<TransactionRow>>> + Send;
    /// By position.
    fn block_transactions(&self, height: u64) -> impl Future<Output = Result<Vec<TransactionRow>>> + Send;
    fn transaction_count(&self) -> impl Future<Output = Result<u64>> + Send;
    /// Newest first, and how many there are, counted up to [`RECEIPT_COUNT`].
    fn receipts(
        &self,
        of: &ReceiptsOf,
        limit: u32,
        offset: u32,
    ) -> impl Future<Output = Result<(Vec<ReceiptRow>, u64)>> + Send;
    /// Evidence in the state as applied, at most [`EVIDENCE_SCAN`] records, and its height.
    fn evidence(&self) -> impl Future<Output = Result<(u64, Vec<(RecordKey, Record)>)>> + Send;
    /// Reads the lease.
    fn ping(&self) -> impl Future<Output = Result<()>> + Send;
    fn close(&self) -> impl Future<Output = ()> + Send;
}
