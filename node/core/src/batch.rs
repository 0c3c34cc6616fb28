//! Sealed batches of transactions: broadcast once, named by digest in proposals (protocol.md F7).

use crate::codec;
use crate::hash::{self, Domain, Hash};
use crate::key::{PublicKey, SecretKey, Signature};
use crate::merkle;
use crate::params::{MAX_BATCH_BYTES, MAX_BATCH_TXS};
use crate::transaction::SignedTransaction;
use crate::validators::Index;
use borsh::{BorshDeserialize, BorshSerialize};
use std::sync::Arc;

/// Prefix of a batch's sign bytes.
const PREFIX: [u8; 16] = hash::sign_prefix("aitbc/batch/v1");

/// Transactions sealed by one validator.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Batch {
    /// Epoch whose set `author` is an index of.
    pub epoch: u64,
    /// Who sealed it.
    pub author: Index,
    /// Lease generation (high 32 bits) and a counter: never twice by one author.
    pub seq: u64,
    /// Last height of a block that may name it.
    pub expiry_height: u64,
    /// The transactions, in the order of their execution.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_BATCH_TXS>")]
    pub txs: Vec<SignedTransaction>,
    /// The author's, over pad16(`aitbc/batch/v1`) ‖ chain ‖ digest.
    pub signature: Signature,
}

/// A batch without transactions and signature: what its digest covers beside the Merkle root of the transactions (F7).
///
/// ```text
/// epoch u64 | author u16 | seq u64 | expiry_height u64     (borsh, little-endian)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BatchHead {
    /// See [`Batch::epoch`].
    pub epoch: u64,
    /// See [`Batch::author`].
    pub author: Index,
    /// See [`Batch::seq`].
    pub seq: u64,
    /// See [`Batch::expiry_height`].
    pub expiry_height: u64,
}

impl BatchHead {
    /// Digest of the batch whose transactions have this Merkle root.
    pub fn digest(&self, root: &Hash) -> Hash {
        hash::hash(Domain::Batch, &[&codec::encode(self), &root.0])
    }
}

/// A batch whose size, author and every signature were verified, with the hashes that were computed on the way.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct VerifiedBatch {
    /// The batch.
    pub batch: Arc<Batch>,
    /// [`Batch::digest`].
    pub digest: Hash,
    /// Ids of its transactions, in order.
    pub ids: Arc<[Hash]>,
}

/// What a header says of a batch (F5).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BatchRef {
    /// [`Batch::digest`].
    pub digest: Hash,
    /// Epoch of the author's set.
    pub epoch: u64,
    /// Who sealed it.
    pub author: Index,
    /// Encoded size of the whole batch in bytes.
    pub bytes: u32,
    /// Number of transactions.
    pub txs: u16,
}

/// Why a batch is invalid; the author is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Empty, or over [`MAX_BATCH_TXS`] or [`MAX_BATCH_BYTES`].
    #[error(
        "batch of {txs} transactions and {bytes} bytes, 1 to {MAX_BATCH_TXS} and at most {MAX_BATCH_BYTES} allowed"
    )]
    Size {
        /// Transactions in it.
        txs: usize,
        /// Encoded size.
        bytes: usize,
    },
    /// The author's signature is wrong.
    #[error("the author's signature is invalid")]
    Signature,
    /// A transaction in it is invalid, so the whole batch is (V6).
    #[error("transaction {index} is invalid")]
    Transaction {
        /// Which.
        index: usize,
    },
}

impl Batch {
    /// Seals and signs.
    pub fn seal(
        chain: &Hash,
        key: &SecretKey,
        (epoch, author): (u64, Index),
        seq: u64,
        expiry_height: u64,
        txs: Vec<SignedTransaction>,
    ) -> Batch {
        let mut batch = Batch { epoch, author, seq, expiry_height, txs, signature: Signature([0; 64]) };
        batch.signature = key.sign(&Batch::sign_bytes(chain, &batch.digest()));
        batch
    }

    /// Everything but transactions and signature.
    pub fn head(&self) -> BatchHead {
        BatchHead { epoch: self.epoch, author: self.author, seq: self.seq, expiry_height: self.expiry_height }
    }

    /// Hashes of its transactions: the leaves of its Merkle tree.
    pub fn leaves(&self) -> Vec<Hash> {
        self.txs.iter().map(|tx| merkle::leaf(&codec::encode(tx))).collect()
    }

    /// `H(batch: epoch ‖ author ‖ seq ‖ expiry ‖ Merkle root of the transactions)` (F7).
    pub fn digest(&self) -> Hash {
        self.head().digest(&merkle::root(&self.leaves()))
    }

    /// Encoded size in bytes.
    pub fn encoded_len(&self) -> usize {
        borsh::object_length(self).unwrap_or(usize::MAX)
    }

    /// What a header says of this batch, whose digest the caller already has.
    pub fn reference(&self, digest: Hash) -> BatchRef {
        BatchRef {
            digest,
            epoch: self.epoch,
            author: self.author,
            bytes: u32::try_from(self.encoded_len()).unwrap_or(u32::MAX),
            txs: u16::try_from(self.txs.len()).unwrap_or(u16::MAX),
        }
    }

    /// Size, author's signature and each transaction's stateless checks; not the transactions' signatures,
    /// which are verified together (see `verify` in the node).
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn check(&self, chain: &Hash, digest: &Hash, author: &PublicKey) -> Result<(), BatchError> {
        self.check_shape()?;
        if author.verifies(&Batch::sign_bytes(chain, digest), &self.signature) {
            Ok(())
        } else {
            Err(BatchError::Signature)
        }
    }

    /// Size and each transaction's stateless checks: everything but signatures.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn check_shape(&self) -> Result<(), BatchError> {
        let (txs, bytes) = (self.txs.len(), self.encoded_len());
        if txs == 0 || txs > MAX_BATCH_TXS || bytes > MAX_BATCH_BYTES {
            return Err(BatchError::Size { txs, bytes });
        }
        match self.txs.iter().position(|tx| tx.check().is_err()) {
            Some(index) => Err(BatchError::Transaction { index }),
            None => Ok(()),
        }
    }

    /// Bytes under the author's signature: pad16(`aitbc/batch/v1`) ‖ chain ‖ digest.
    pub fn sign_bytes(chain: &Hash, digest: &Hash) -> [u8; 80] {
        let mut out = [0; 80];
        out[..16].copy_from_slice(&PREFIX);
        out[16..48].copy_from_slice(&chain.0);
        out[48..].copy_from_slice(&digest.0);
        out
    }
}

impl VerifiedBatch {
    /// Puts the hashes beside a batch. The caller has verified its author and every signature, or takes them from its
    /// own ledger, where only verified ones are.
    pub fn trusted(batch: Arc<Batch>, digest: Hash, chain: &Hash) -> VerifiedBatch {
        let ids = batch.txs.iter().map(|tx| tx.id(chain)).collect();
        VerifiedBatch { batch, digest, ids }
    }
}
