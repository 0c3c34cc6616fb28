//! What the state holds beside accounts: records, each under a key that says what it is of.
//!
//! ```text
//! key   = tag u8 | fields        evidence: 0 | key [32] | epoch u64 | class u8     (borsh, little-endian)
//! value = tag u8 | fields        evidence: 0 | slot u64 | height u64
//!
//! validators   1 | epoch u64     1 | list of (key [32] | weight u32)
//! candidates   2                 2 | list of key [32]                   those of stakes and votes: see `staking`
//! candidate    3 | key [32]      3 | candidate
//! ballot       5 | key [32]      5 | list of (motion, epoch u64)
//! terms        6                 6 | min_fee u64 | min_stake u64 | max_validators u16 | unbonding_ms u64
//! upgrades     7                 7 | list of (version u16, height u64)
//! supply       8                 8 | minted u64 | burnt u64
//! receipt      16 | hash [32]    16 | digest [32] | height u64 | minted u64
//! receipt cap  17 | provider?    17 | epoch u64 | minted u64            provider?: 0, or 1 | address [20]
//! escrow       18 | hash [32]    18 | client [20] | provider? | amount u64 | timeout_height u64
//! ```
//!
//! A tag is never given to another kind; a kind's key and value have the same one. Lists in values have a cap.

use crate::codec;
use crate::evidence::{Class, Evidence, Offence};
use crate::hash::Hash;
use crate::key::{Address, PublicKey};
use crate::params::MAX_VALIDATORS;
use crate::staking::motion::{Ballot, Terms, Upgrades};
use crate::staking::{Candidate, MAX_LISTED};
use crate::supply::Supply;
use crate::validators::{Validator, ValidatorSet};
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// What a record is of. Its order is that of the encoded bytes only as far as the kind.
#[derive(
    Clone,
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
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum RecordKey {
    /// A validator's misbehaviour of one class in one epoch: there once, it is not punished again (X4).
    Evidence {
        /// Consensus key of the validator.
        key: PublicKey,
        /// Epoch of what it signed.
        epoch: u64,
        /// Which contradiction.
        class: Class,
    } = 0,
    /// Who validates an epoch (E1).
    ValidatorSet {
        /// Which.
        epoch: u64,
    } = 1,
    /// Which candidates there are to look at.
    Candidates = 2,
    /// What is known of a validator's key.
    Candidate {
        /// The consensus key.
        key: PublicKey,
    } = 3,
    /// The votes of an authority.
    Ballot {
        /// Its consensus key.
        voter: PublicKey,
    } = 5,
    /// What authorities have changed.
    Terms = 6,
    /// The upgrades they have scheduled.
    Upgrades = 7,
    /// What was minted and burnt since genesis.
    Supply = 8,
    /// A receipt that minted: there once, it mints never again.
    Receipt {
        /// Hash of provider and `receipt_id`.
        nullifier: Hash,
    } = 16,
    /// What receipts minted in the last epoch in which any did.
    ReceiptCap {
        /// Whose; `None`: of all together.
        provider: Option<Address>,
    } = 17,
    /// What is locked for a job.
    Escrow {
        /// Hash of client and `job_id`.
        job: Hash,
    } = 18,
}

/// A record to set; `None`: to remove.
pub type RecordChange = (RecordKey, Option<Record>);

impl RecordKey {
    /// Where it stands that an offence is in the chain (X4).
    pub fn nullifier(offence: &Offence) -> RecordKey {
        RecordKey::Evidence { key: offence.key, epoch: offence.epoch, class: offence.class }
    }

    /// Nullifiers that the evidence of a valid header leaves; `set_of` gives the sets of the epochs of what was signed.
    pub fn nullifiers<S: Deref<Target = ValidatorSet>>(
        evidence: &[Evidence],
        set_of: impl Fn(u64) -> Option<S>,
    ) -> impl Iterator<Item = RecordKey> {
        let offences = evidence.iter().filter_map(move |evidence| evidence.offence(&*set_of(evidence.epoch())?));
        offences.map(|offence| RecordKey::nullifier(&offence))
    }

    /// Epoch of the offence that a nullifier is of (X3); `None` of another record.
    pub fn offence_epoch(&self) -> Option<u64> {
        let RecordKey::Evidence { epoch, .. } = self else { return None };
        Some(*epoch)
    }
}

/// The value under a [`RecordKey`] of the same kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Record {
    /// Where it happened, and which block holds the proof.
    Evidence {
        /// Slot of the votes; of batches their sequence number.
        slot: u64,
        /// Height of the block whose header has the evidence.
        height: u64,
    } = 0,
    /// By ascending key (M1).
    ValidatorSet {
        /// Keys and weights.
        #[borsh(deserialize_with = "codec::capped::<_, _, MAX_VALIDATORS>")]
        members: Vec<Validator>,
    } = 1,
    /// Keys of all that are admitted, or have something at stake or unbonding; ascending.
    Candidates {
        /// At most [`MAX_LISTED`].
        #[borsh(deserialize_with = "codec::capped::<_, _, MAX_LISTED>")]
        keys: Vec<PublicKey>,
    } = 2,
    /// Of one of them, or of a key that has only activated.
    Candidate(Candidate) = 3,
    /// Votes in flight.
    Ballot(Ballot) = 5,
    /// Absent: they are those of genesis.
    Terms(Terms) = 6,
    /// Absent: there are none.
    Upgrades(Upgrades) = 7,
    /// Smallest units; those of genesis and minted less burnt are all there are. Absent: nothing was.
    Supply(Supply) = 8,
    /// A receipt that minted.
    Receipt {
        /// SHA-256 of its canonical form.
        digest: Hash,
        /// Height of the block that minted it.
        height: u64,
        /// Smallest units it minted.
        minted: u64,
    } = 16,
    /// Of one epoch.
    ReceiptCap {
        /// Which.
        epoch: u64,
        /// Smallest units minted in it.
        minted: u64,
    } = 17,
    /// Of one job.
    Escrow {
        /// Who locked.
        client: Address,
        /// Who may be paid, `None`: anyone; who was paid, where nothing is locked any more.
        provider: Option<Address>,
        /// Smallest units locked; 0: they were paid.
        amount: u64,
        /// Last height at which a receipt releases them.
        timeout_height: u64,
    } = 18,
}
