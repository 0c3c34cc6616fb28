//! The pool as clients see it; the task that owns it is in `mempool/task.rs`. A node of no set passes on what it is sent
//! (`forward.rs`), and members take it in (`intake.rs`).

pub mod forward;
pub mod intake;
pub mod task;

use aitbc_core::hash::Hash;
use aitbc_core::mempool::{Reason, Rejected};
use aitbc_core::transaction::{SignedTransaction, TransactionError};
use std::time::Duration;

/// Why a transaction was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// It is invalid whatever the state.
    #[error(transparent)]
    Invalid(#[from] TransactionError),
    /// The signature does not fit key, content and chain.
    #[error("the signature does not fit the public key, the transaction and this chain's genesis hash")]
    InvalidSignature,
    /// The pool refuses it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The own key does not validate in this epoch, and nobody whose does is connected: nobody would see the transaction.
    #[error(
        "this node is no validator of this epoch and connected to none that could take it: send it again, or to one that \
         GET /rpc/validators lists"
    )]
    NotValidator,
    /// The queue before the verifier is full.
    #[error("the node has more transactions waiting than it can verify")]
    Busy,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// In the pool.
    Queued,
    /// In a sealed batch.
    Sealed,
    /// Passed on to a validator, as this node is none.
    Forwarded,
}

/// Outcome in a final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Height of the block.
    pub height: u64,
    /// Position in it.
    pub index: u32,
    /// Stable number of the result, see `aitbc_core::ledger::ResultCode`.
    pub code: u16,
}

/// What the pool knows of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: never seen here, or too long ago.
    Unknown,
    /// It waits.
    Pending(Pending),
    /// It is in one of the last final blocks.
    Final(Outcome),
    /// It left the pool without a result, lately.
    Dropped(Reason),
}

/// A transaction waiting in the pool, as `/rpc/mempool` lists it.
#[derive(Clone, Debug)]
pub struct PendingTransaction {
    /// Id.
    pub id: Hash,
    /// The transaction.
    pub transaction: SignedTransaction,
    /// Where it is.
    pub state: Pending,
}

/// Access to the pool; cheap to clone. Implemented by the task's handle.
pub trait Mempool: Send + Sync + 'static {
    /// Verifies and admits transactions; one answer each, in order.
    fn submit(
        &self,
        transactions: Vec<SignedTransaction>,
    ) -> futures_util::future::BoxFuture<'_, Vec<Result<Hash, SubmitError>>>;

    /// Where a transaction is, if it is pending here.
    fn pending(&self, id: Hash) -> futures_util::future::BoxFuture<'_, Option<Pending>>;

    /// What is known of a transaction, without waiting for anything to happen.
    fn standing(&self, id: Hash) -> futures_util::future::BoxFuture<'_, Standing>;

    /// Pending transactions, at most `limit`.
    fn list(&self, limit: usize) -> futures_util::future::BoxFuture<'_, Vec<PendingTransaction>>;

    /// Next nonce of a sender, counting what is queued here.
    fn next_nonce(&self, sender: aitbc_core::key::Address) -> futures_util::future::BoxFuture<'_, Option<u64>>;

    /// Waits until a transaction is final; `None` after `timeout`. Call before `submit` can race is safe:
    /// outcomes of the last blocks are remembered.
    fn outcome(&self, id: Hash, timeout: Duration) -> futures_util::future::BoxFuture<'_, Option<Outcome>>;
}
