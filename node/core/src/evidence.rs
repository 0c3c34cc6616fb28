//! Proof that a validator signed what no honest one signs (protocol.md X1-X3).
//!
//! ```text
//! evidence = 0 | vote | vote                  two votes, each statement | signer u16 | signature [64]
//!          | 1 | sealed | sealed              two batches, each head | Merkle root [32] | signature [64]
//! ```
//!
//! Which of the two comes first is fixed, so that one contradiction has one form.

use crate::batch::{Batch, BatchHead};
use crate::hash::Hash;
use crate::key::{PublicKey, Signature};
use crate::merkle;
use crate::validators::{Index, ValidatorSet};
use crate::vote::{Kind, Statement, Vote};
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Epochs for which evidence stays good after its own (X3).
pub const FRESH_EPOCHS: u64 = 2;

/// Which of the contradictions of X2.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Class {
    /// (a) Notar for two digests in a slot; a leader's two proposals are that.
    Notars = 0,
    /// (b) Skip and Final in a slot.
    SkipFinal = 1,
    /// (c) Final for two digests in a slot.
    Finals = 2,
    /// (d) Notar for one digest and Final for another in a slot.
    NotarFinal = 3,
    /// (e) Two batches with one sequence number.
    Batches = 4,
}

impl Class {
    /// All, in the order of X2.
    pub const ALL: [Class; 5] = [Class::Notars, Class::SkipFinal, Class::Finals, Class::NotarFinal, Class::Batches];

    /// Name in JSON, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Class::Notars => "notars",
            Class::SkipFinal => "skip_final",
            Class::Finals => "finals",
            Class::NotarFinal => "notar_final",
            Class::Batches => "batches",
        }
    }
}

/// What an author signed of a batch: all but its transactions, whose Merkle root stands for them (F7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SealedHead {
    /// Epoch, author, number and expiry.
    pub head: BatchHead,
    /// Merkle root of the transactions.
    pub root: Hash,
    /// The author's, over [`Batch::sign_bytes`] of the digest.
    pub signature: Signature,
}

impl SealedHead {
    /// Of a batch.
    pub fn of(batch: &Batch) -> SealedHead {
        SealedHead { head: batch.head(), root: merkle::root(&batch.leaves()), signature: batch.signature }
    }

    fn sign_bytes(&self, chain: &Hash) -> [u8; 80] {
        Batch::sign_bytes(chain, &self.head.digest(&self.root))
    }
}

/// Two contradicting things of one signer (X1), smaller sign-bytes first.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Evidence {
    /// Votes in one slot: X2 (a) to (d).
    Votes {
        /// One.
        first: Vote,
        /// The other.
        second: Vote,
    },
    /// Batches of one number: X2 (e).
    Batches {
        /// One.
        first: SealedHead,
        /// The other.
        second: SealedHead,
    },
}

/// What a piece of evidence proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// Whose consensus key signed.
    pub key: PublicKey,
    /// Epoch of what was signed.
    pub epoch: u64,
    /// Which contradiction.
    pub class: Class,
    /// Slot of the votes; of batches their sequence number.
    pub slot: u64,
}

/// Why evidence proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// X1: two signers, or one that is not of the set.
    #[error("it is not of one validator of the set")]
    Signer,
    /// X2: an honest validator may sign both.
    #[error("the two do not contradict each other")]
    Legal,
    /// X1: the same twice, or the larger sign-bytes first.
    #[error("the two are not in order of their sign-bytes")]
    Order,
    /// X3: too old, or of an epoch that has not begun.
    #[error("it is of epoch {found}, in epoch {current}")]
    Stale {
        /// Its epoch.
        found: u64,
        /// Of the block.
        current: u64,
    },
    /// X1: a signature is invalid.
    #[error("the signature of validator {0} is invalid")]
    Signature(Index),
}

impl Evidence {
    /// Of two votes, in either order.
    pub fn of_votes(a: Vote, b: Vote, chain: &Hash) -> Evidence {
        let swap = a.statement.sign_bytes(chain) > b.statement.sign_bytes(chain);
        let (first, second) = if swap { (b, a) } else { (a, b) };
        Evidence::Votes { first, second }
    }

    /// Of two batches, in either order.
    pub fn of_batches(a: &Batch, b: &Batch, chain: &Hash) -> Evidence {
        let (a, b) = (SealedHead::of(a), SealedHead::of(b));
        let (first, second) = if a.sign_bytes(chain) > b.sign_bytes(chain) { (b, a) } else { (a, b) };
        Evidence::Batches { first, second }
    }

    /// Whose it is, by the first of the two.
    pub fn signer(&self) -> Index {
        match self {
            Evidence::Votes { first, .. } => first.signer,
            Evidence::Batches { first, .. } => first.head.author,
        }
    }

    /// Epoch of the set that the signer is of.
    pub fn epoch(&self) -> u64 {
        match self {
            Evidence::Votes { first, .. } => first.statement.epoch,
            Evidence::Batches { first, .. } => first.head.epoch,
        }
    }

    /// Slot of the votes; of batches their sequence number.
    pub fn slot(&self) -> u64 {
        match self {
            Evidence::Votes { first, .. } => first.statement.slot,
            Evidence::Batches { first, .. } => first.head.seq,
        }
    }

    /// **X2.** Which contradiction the two are, if signed by one; `None` for what is legal.
    pub fn class(&self) -> Option<Class> {
        match self {
            Evidence::Votes { first, second } if first.signer != second.signer => None,
            Evidence::Votes { first, second } => x2_class(&first.statement, &second.statement),
            Evidence::Batches { first, second } => {
                let same = |sealed: &SealedHead| (sealed.head.epoch, sealed.head.author, sealed.head.seq);
                let differ = first.head.digest(&first.root) != second.head.digest(&second.root);
                (same(first) == same(second) && differ).then_some(Class::Batches)
            }
        }
    }

    /// What it proves if its signatures are valid, of a member of its epoch's set: for what was checked before.
    pub fn offence(&self, set: &ValidatorSet) -> Option<Offence> {
        let key = set.get(self.signer())?.key;
        Some(Offence { key, epoch: self.epoch(), class: self.class()?, slot: self.slot() })
    }

    /// **X1, X2, X3** but the signatures, in a block of epoch `current`; `set` is that of the evidence's own epoch.
    ///
    /// # Errors
    /// Says which rule fails.
    pub fn check_shape(&self, chain: &Hash, set: &ValidatorSet, current: u64) -> Result<Offence, EvidenceError> {
        x3_fresh(self.epoch(), current)?;
        let (one_signer, ordered) = match self {
            Evidence::Votes { first, second } => {
                let well_formed = first.statement.well_formed() && second.statement.well_formed();
                let ordered = first.statement.sign_bytes(chain) < second.statement.sign_bytes(chain);
                (first.signer == second.signer && well_formed, ordered)
            }
            Evidence::Batches { first, second } => {
                (first.head.author == second.head.author, first.sign_bytes(chain) < second.sign_bytes(chain))
            }
        };
        if !one_signer || set.get(self.signer()).is_none() {
            return Err(EvidenceError::Signer);
        }
        let offence = self.offence(set).ok_or(EvidenceError::Legal)?;
        if ordered { Ok(offence) } else { Err(EvidenceError::Order) }
    }

    /// **X1** Both signatures, where somebody decides whether the member at an index signed a message.
    ///
    /// # Errors
    /// Names the signer.
    pub fn check_signatures(
        &self,
        chain: &Hash,
        verifies: impl Fn(Index, &[u8], &Signature) -> bool,
    ) -> Result<(), EvidenceError> {
        let signer = self.signer();
        let vote = |vote: &Vote| verifies(signer, &vote.statement.sign_bytes(chain), &vote.signature);
        let sealed = |sealed: &SealedHead| verifies(signer, &sealed.sign_bytes(chain), &sealed.signature);
        let valid = match self {
            Evidence::Votes { first, second } => vote(first) && vote(second),
            Evidence::Batches { first, second } => sealed(first) && sealed(second),
        };
        if valid { Ok(()) } else { Err(EvidenceError::Signature(signer)) }
    }

    /// X1 to X3 with the keys of the set.
    ///
    /// # Errors
    /// Says which rule fails.
    pub fn verify(&self, chain: &Hash, set: &ValidatorSet, current: u64) -> Result<Offence, EvidenceError> {
        let offence = self.check_shape(chain, set, current)?;
        self.check_signatures(chain, |_, message, signature| offence.key.verifies(message, signature))?;
        Ok(offence)
    }
}

/// **X2 (a)-(d).** The contradiction of two statements of one signer, in either order; `None` for a legal pair.
pub fn x2_class(a: &Statement, b: &Statement) -> Option<Class> {
    if (a.epoch, a.slot) != (b.epoch, b.slot) {
        return None;
    }
    let differ = a.digest != b.digest;
    match (a.kind.min(b.kind), a.kind.max(b.kind)) {
        (Kind::Notar, Kind::Notar) if differ => Some(Class::Notars),
        (Kind::Notar, Kind::Final) if differ => Some(Class::NotarFinal),
        (Kind::Skip, Kind::Final) => Some(Class::SkipFinal),
        (Kind::Final, Kind::Final) if differ => Some(Class::Finals),
        _ => None,
    }
}

/// **X3** Of the current epoch or one of the two before.
pub fn x3_fresh(found: u64, current: u64) -> Result<(), EvidenceError> {
    if found <= current && current - found <= FRESH_EPOCHS {
        return Ok(());
    }
    Err(EvidenceError::Stale { found, current })
}

#[cfg(test)]
mod tests;
