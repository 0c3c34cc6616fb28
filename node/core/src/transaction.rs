//! Signed transactions: their bytes, ids and the checks that need no state (design.md §2, §5).

use crate::codec;
use crate::hash::{self, Hash};
use crate::key::{Address, PublicKey, SecretKey, Signature};
use crate::params::{FEE_UNIT_BYTES, FEE_UNITS_OF_RECORD, MAX_ESCROW_AHEAD, MAX_SUPPLY, MAX_TRANSFERS, MAX_TX_BYTES};
use crate::receipt::{AttestedReceipt, Endorsement, Name, ReceiptError};
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Prefix of a transaction's sign bytes.
const PREFIX: [u8; 16] = hash::sign_prefix("aitbc/tx/v1");

/// One payment of a `TransferMany`.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Payment {
    /// Who receives.
    pub to: Address,
    /// Smallest units, 1 ..= [`MAX_SUPPLY`].
    pub amount: u64,
}

/// Units that a client locks for a job.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Lock {
    /// The job, as the sender calls it.
    pub job_id: Name,
    /// Who may be paid; `None`: whoever coordinators attest.
    pub provider: Option<Address>,
    /// Smallest units, 1 ..= [`MAX_SUPPLY`].
    pub amount: u64,
    /// Last height at which a receipt releases them; then the sender can have them back.
    pub timeout_height: u64,
}

/// A part of a validator's stake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Stake {
    /// The validator's consensus key.
    pub validator: PublicKey,
    /// Smallest units, 1 ..= [`MAX_SUPPLY`].
    pub amount: u64,
}

/// What authorities can change of the chain's terms, within bounds (docs/staking.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// Least fee of a transaction, in smallest units.
    MinFee,
    /// Least stake of a validator, in smallest units.
    MinStake,
    /// Most validators in a set.
    MaxValidators,
    /// How long unbonding takes beyond the epochs, in milliseconds of block time.
    UnbondingMs,
}

impl Term {
    /// All, in the order of their tags.
    pub const ALL: [Term; 4] = [Term::MinFee, Term::MinStake, Term::MaxValidators, Term::UnbondingMs];

    /// Stable name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Term::MinFee => "min_fee",
            Term::MinStake => "min_stake",
            Term::MaxValidators => "max_validators",
            Term::UnbondingMs => "unbonding_ms",
        }
    }
}

/// What is voted for. The borsh tag is the position: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Motion {
    /// A validator may come in; also one that was removed for double signing.
    Admit(PublicKey),
    /// A validator has to go.
    Remove(PublicKey),
    /// A term changes, from the next block on.
    SetTerm {
        /// Which.
        term: Term,
        /// To what.
        value: u64,
    },
    /// From a height on, blocks are of another version (V1).
    ScheduleUpgrade {
        /// The one after the last scheduled.
        version: u16,
        /// First height of the version.
        height: u64,
    },
}

/// What a transaction does. Tags are for ever.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Action {
    /// Pays one account.
    Transfer(Payment) = 0,
    /// Pays 1 ..= [`MAX_TRANSFERS`] accounts, all or none.
    TransferMany {
        /// The payments, in order.
        #[borsh(deserialize_with = "codec::capped::<_, _, MAX_TRANSFERS>")]
        payments: Vec<Payment>,
    } = 1,
    /// Takes units out of the faucet's account, where genesis enables it. Needs no fee.
    Faucet(Payment) = 2,
    /// Puts units at stake for a validator. The sender is the owner that it named.
    Bond(Stake) = 3,
    /// Asks for units at stake back, which come after the unbonding time. The sender is the owner.
    Unbond(Stake) = 4,
    /// The sender, a validator's key, is ready (E2).
    Activate {
        /// Whose its stake is.
        owner: Address,
    } = 5,
    /// The sender, a jailed validator's key, is ready again.
    Unjail = 6,
    /// The sender, a validator of the present epoch, is for a motion.
    AuthorityVote(Motion) = 7,
    /// Mints what a receipt earns. Anybody may send it: the receipt says who earns.
    ClaimReceipt(Box<AttestedReceipt>) = 16,
    /// Locks units of the sender for a job.
    LockEscrow(Lock) = 17,
    /// Pays the provider of a job what its client locked. Anybody may send it.
    ReleaseEscrow(Box<AttestedReceipt>) = 18,
    /// Gives the sender back what it locked for a job that nobody did in time.
    RefundEscrow {
        /// The job, as the sender calls it.
        job_id: Name,
    } = 19,
}

/// What is signed, beside the chain.
///
/// ```text
/// sender [32] | nonce u64 | fee u64 | expiry_height u64 | action: u8 tag, fields     (borsh, little-endian)
/// ```
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Transaction {
    /// Key that signs and pays.
    pub sender: PublicKey,
    /// Number of the sender's transactions before this one.
    pub nonce: u64,
    /// Smallest units, to the proposer.
    pub fee: u64,
    /// Last height of a block that may hold it.
    pub expiry_height: u64,
    /// What it does.
    pub action: Action,
}

/// A transaction with its signature: what travels and is stored.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedTransaction {
    /// What was signed.
    pub transaction: Transaction,
    /// By `transaction.sender`, over [`Transaction::sign_bytes`].
    pub signature: Signature,
}

/// Why a transaction is invalid whatever the state; the name is its stable error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Larger than [`MAX_TX_BYTES`].
    #[error("transaction of {found} bytes, at most {MAX_TX_BYTES} allowed")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// An amount is zero or over the bound.
    #[error("amount {found}, 1 to {MAX_SUPPLY} allowed")]
    AmountOutOfRange {
        /// The amount.
        found: u64,
    },
    /// The value or the height of a motion is over the bound.
    #[error("the motion's number is {found}, at most {MAX_SUPPLY} allowed")]
    MotionOutOfRange {
        /// The number.
        found: u64,
    },
    /// The fee is over the bound, or fee and amounts together.
    #[error("fee and amounts add up to more than {MAX_SUPPLY}")]
    TotalOutOfRange,
    /// A `TransferMany` without payments.
    #[error("no payments given, 1 to {MAX_TRANSFERS} allowed")]
    NoPayments,
    /// A job without a name.
    #[error("job_id is empty, 1 to 64 characters allowed")]
    NoJob,
    /// An `Activate` by a key of small order, which everybody could vote with.
    #[error("key {0} is of small order, so everybody could sign for it: no validator can have it")]
    EverybodysKey(PublicKey),
    /// The receipt in it.
    #[error("receipt: {0}")]
    Receipt(#[from] ReceiptError),
}

impl Lock {
    /// Whether a block of this height takes its timeout: above the height, and at most [`MAX_ESCROW_AHEAD`] over it.
    pub fn timeout_fits(&self, height: u64) -> bool {
        (1..=MAX_ESCROW_AHEAD).contains(&self.timeout_height.saturating_sub(height))
    }
}

impl Action {
    /// The receipt in it.
    pub fn receipt(&self) -> Option<&AttestedReceipt> {
        match self {
            Action::ClaimReceipt(receipt) | Action::ReleaseEscrow(receipt) => Some(receipt),
            _ => None,
        }
    }

    /// How many least fees it has to pay, for what it costs every validator: one for each [`FEE_UNIT_BYTES`] begun, one for each
    /// signature in a receipt, [`FEE_UNITS_OF_RECORD`] for a record that it leaves behind; one for each payment, as it may begin an
    /// account; none for the faucet's.
    pub fn fee_units(&self) -> u64 {
        let record = match self {
            Action::Faucet(_) => return 0,
            Action::TransferMany { payments } => return payments.len() as u64,
            Action::Activate { .. } => return 1 + FEE_UNITS_OF_RECORD,
            // Of one small size.
            Action::Transfer(_)
            | Action::Bond(_)
            | Action::Unbond(_)
            | Action::Unjail
            | Action::AuthorityVote(_)
            | Action::RefundEscrow { .. } => return 1,
            Action::ClaimReceipt(_) | Action::LockEscrow(_) => FEE_UNITS_OF_RECORD,
            Action::ReleaseEscrow(_) => 0,
        };
        let pieces = borsh::object_length(self).map_or(u64::MAX, |bytes| bytes.div_ceil(FEE_UNIT_BYTES) as u64);
        pieces.saturating_add(self.receipt().map_or(0, |receipt| receipt.signatures() as u64)).saturating_add(record)
    }

    /// Smallest units it has to pay where the chain's least fee is `min_fee`.
    pub fn least_fee(&self, min_fee: u64) -> u64 {
        self.fee_units().saturating_mul(min_fee)
    }
}

impl Transaction {
    /// Bytes under the signature: pad16(`aitbc/tx/v1`) ‖ genesis `hash[32]` ‖ borsh(transaction).
    pub fn sign_bytes(&self, chain: &Hash) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.extend_from_slice(&PREFIX);
        out.extend_from_slice(&chain.0);
        out.extend_from_slice(&codec::encode(self));
        out
    }

    /// Id: BLAKE3 of the sign bytes, so no second signature gives the same payment another id.
    pub fn id(&self, chain: &Hash) -> Hash {
        hash::plain(&self.sign_bytes(chain))
    }

    /// Signs for a chain.
    pub fn sign(self, chain: &Hash, key: &SecretKey) -> SignedTransaction {
        let signature = key.sign(&self.sign_bytes(chain));
        SignedTransaction { transaction: self, signature }
    }

    /// Units that leave the sender beside the fee; `None` over the bound.
    pub fn amount(&self) -> Option<u64> {
        match &self.action {
            Action::Transfer(payment) => Some(payment.amount),
            Action::TransferMany { payments } => payments.iter().try_fold(0u64, |sum, p| sum.checked_add(p.amount)),
            Action::LockEscrow(lock) => Some(lock.amount),
            Action::Bond(stake) => Some(stake.amount),
            Action::Faucet(_)
            | Action::Unbond(_)
            | Action::Activate { .. }
            | Action::Unjail
            | Action::AuthorityVote(_)
            | Action::ClaimReceipt(_)
            | Action::ReleaseEscrow(_)
            | Action::RefundEscrow { .. } => Some(0),
        }
    }

    /// Checks that need neither state nor signature.
    ///
    /// # Errors
    /// On amounts, sums or lists out of range.
    pub fn check(&self) -> Result<(), TransactionError> {
        match &self.action {
            Action::Transfer(payment) | Action::Faucet(payment) => check_amount(payment.amount)?,
            Action::TransferMany { payments } if payments.is_empty() => return Err(TransactionError::NoPayments),
            Action::TransferMany { payments } => {
                payments.iter().try_for_each(|payment| check_amount(payment.amount))?
            }
            Action::Bond(stake) | Action::Unbond(stake) => check_amount(stake.amount)?,
            // No set holds a key that has not activated (E2), so this is the way in of all that genesis does not name. What is of
            // no small order has an owner: the one who signed this.
            Action::Activate { .. } if self.sender.is_everybodys() => {
                return Err(TransactionError::EverybodysKey(self.sender));
            }
            Action::AuthorityVote(motion) => check_motion(motion)?,
            Action::Activate { .. } | Action::Unjail => {}
            Action::ClaimReceipt(receipt) | Action::ReleaseEscrow(receipt) => receipt.check()?,
            Action::LockEscrow(lock) => {
                check_job(&lock.job_id)?;
                check_amount(lock.amount)?;
            }
            Action::RefundEscrow { job_id } => check_job(job_id)?,
        }
        let total = self.amount().and_then(|amount| amount.checked_add(self.fee));
        match total {
            Some(total) if total <= MAX_SUPPLY => Ok(()),
            _ => Err(TransactionError::TotalOutOfRange),
        }
    }
}

fn check_amount(found: u64) -> Result<(), TransactionError> {
    if (1..=MAX_SUPPLY).contains(&found) { Ok(()) } else { Err(TransactionError::AmountOutOfRange { found }) }
}

/// JSON has to tell these numbers exactly.
fn check_motion(motion: &Motion) -> Result<(), TransactionError> {
    match *motion {
        Motion::SetTerm { value: found, .. } | Motion::ScheduleUpgrade { height: found, .. } if found > MAX_SUPPLY => {
            Err(TransactionError::MotionOutOfRange { found })
        }
        _ => Ok(()),
    }
}

fn check_job(job_id: &Name) -> Result<(), TransactionError> {
    if job_id.as_str().is_empty() { Err(TransactionError::NoJob) } else { Ok(()) }
}

impl SignedTransaction {
    /// Id on a chain.
    pub fn id(&self, chain: &Hash) -> Hash {
        self.transaction.id(chain)
    }

    /// Size in bytes, for the bound and for batches.
    pub fn encoded_len(&self) -> usize {
        borsh::object_length(self).unwrap_or(usize::MAX)
    }

    /// All checks but the signature.
    ///
    /// # Errors
    /// As [`Transaction::check`], and on size.
    pub fn check(&self) -> Result<(), TransactionError> {
        let found = self.encoded_len();
        if found > MAX_TX_BYTES {
            return Err(TransactionError::TooLarge { found });
        }
        self.transaction.check()
    }

    /// Number of signatures, the sender's and those of a receipt: what it costs to verify.
    pub fn signatures(&self) -> usize {
        1 + self.transaction.action.receipt().map_or(0, AttestedReceipt::signatures)
    }

    /// The signatures beside the sender's.
    pub fn endorsements(&self, chain: &Hash) -> Vec<Endorsement> {
        self.transaction.action.receipt().map_or_else(Vec::new, |receipt| receipt.endorsements(chain))
    }

    /// True iff all signatures are valid on this chain (ZIP-215).
    pub fn verifies(&self, chain: &Hash) -> bool {
        self.transaction.sender.verifies(&self.transaction.sign_bytes(chain), &self.signature)
            && self.endorsements(chain).iter().all(|e| e.key.verifies(&e.bytes, &e.signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(amount: u64, fee: u64) -> Transaction {
        let sender = SecretKey::from_seed([1; 32]).public();
        let to = Address([9; 20]);
        Transaction { sender, nonce: 0, fee, expiry_height: 100, action: Action::Transfer(Payment { to, amount }) }
    }

    #[test]
    fn a_transaction_is_valid_on_its_own_chain_only() {
        let (chain, other) = (hash::plain(b"one"), hash::plain(b"two"));
        let signed = transfer(5, 1).sign(&chain, &SecretKey::from_seed([1; 32]));
        assert!(signed.verifies(&chain));
        assert!(!signed.verifies(&other));
        assert_ne!(signed.id(&chain), signed.id(&other));
    }

    #[test]
    fn a_transaction_pays_for_its_bytes_its_signatures_and_what_it_leaves_behind() {
        let to = Address([9; 20]);
        let many = |count| Action::TransferMany { payments: vec![Payment { to, amount: 1 }; count] };
        let lock = Lock { job_id: Name::new("j").expect("a name"), provider: None, amount: 1, timeout_height: 1 };
        let units = |action: Action| action.fee_units();
        assert_eq!(units(Action::Faucet(Payment { to, amount: 1 })), 0);
        assert_eq!(units(Action::Transfer(Payment { to, amount: 1 })), 1);
        assert_eq!([1, 9, 64].map(|count| units(many(count))), [1, 9, 64]);
        assert_eq!(units(Action::Activate { owner: to }), 1 + 16);
        assert_eq!(units(Action::LockEscrow(lock)), 1 + 16);
        assert_eq!(units(Action::RefundEscrow { job_id: Name::new("j").expect("a name") }), 1);
        assert_eq!([0, 3, u64::MAX].map(|min_fee| many(9).least_fee(min_fee)), [0, 27, u64::MAX]);
    }

    #[test]
    fn a_receipt_pays_for_each_of_its_signatures() {
        let (chain, keys) = (hash::plain(b"one"), [1, 2, 3].map(|n| SecretKey::from_seed([n; 32])));
        let name = |text| Name::new(text).expect("a name");
        let receipt = crate::receipt::Receipt::required(
            (name("r"), name("j")),
            keys[0].public(),
            Address([9; 20]),
            (1, crate::receipt::Text::new("s").expect("a text")),
            (1, 2),
        );
        let two = Box::new(receipt.clone().attest(&chain, &keys[0], &[&keys[1]]));
        let three = Box::new(receipt.attest(&chain, &keys[0], &[&keys[1], &keys[2]]));
        let bytes = |action: &Action| borsh::object_length(action).expect("a length").div_ceil(256) as u64;
        for (receipt, signatures) in [(two, 2), (three, 3)] {
            let (claim, release) = (Action::ClaimReceipt(receipt.clone()), Action::ReleaseEscrow(receipt));
            assert_eq!(claim.fee_units(), bytes(&claim) + signatures + 16);
            assert_eq!(release.fee_units(), bytes(&release) + signatures);
        }
    }

    #[test]
    fn amounts_and_sums_beyond_the_supply_are_refused() {
        assert_eq!(transfer(0, 1).check(), Err(TransactionError::AmountOutOfRange { found: 0 }));
        assert_eq!(transfer(MAX_SUPPLY, 0).check(), Ok(()));
        assert_eq!(transfer(MAX_SUPPLY, 1).check(), Err(TransactionError::TotalOutOfRange));
        assert_eq!(transfer(1, u64::MAX).check(), Err(TransactionError::TotalOutOfRange));
    }

    #[test]
    fn a_motions_number_is_one_that_json_tells_exactly() {
        let number = |found| {
            let term = Motion::SetTerm { term: Term::MinFee, value: found };
            let upgrade = Motion::ScheduleUpgrade { version: 2, height: found };
            [term, upgrade]
                .map(|motion| Transaction { action: Action::AuthorityVote(motion), ..transfer(1, 3) }.check())
        };
        assert_eq!(number(MAX_SUPPLY), [Ok(()), Ok(())]);
        let refused = TransactionError::MotionOutOfRange { found: MAX_SUPPLY + 1 };
        assert_eq!(number(MAX_SUPPLY + 1), [Err(refused.clone()), Err(refused)]);
    }

    #[test]
    fn a_stake_of_nothing_is_refused_and_bonding_costs_what_it_locks() {
        let validator = SecretKey::from_seed([2; 32]).public();
        let with = |action| Transaction { action, ..transfer(1, 3) };
        for amount in [0, MAX_SUPPLY + 1] {
            for action in [Action::Bond(Stake { validator, amount }), Action::Unbond(Stake { validator, amount })] {
                assert_eq!(with(action).check(), Err(TransactionError::AmountOutOfRange { found: amount }));
            }
        }
        assert_eq!(with(Action::Bond(Stake { validator, amount: 7 })).amount(), Some(7));
        assert_eq!(with(Action::Unbond(Stake { validator, amount: 7 })).amount(), Some(0));
        let over = Action::Bond(Stake { validator, amount: MAX_SUPPLY - 2 });
        assert_eq!(with(over).check(), Err(TransactionError::TotalOutOfRange));
        assert_eq!(with(Action::Unjail).check(), Ok(()));
    }

    #[test]
    fn e2_a_key_that_everybody_can_sign_for_never_becomes_a_validators() {
        let chain = hash::plain(b"one");
        let activate =
            |sender| Transaction { sender, action: Action::Activate { owner: Address([9; 20]) }, ..transfer(1, 3) };
        let mut by_nobody = Signature([0; 64]);
        by_nobody.0[0] = 1;
        let forged = SignedTransaction { transaction: activate(PublicKey([0; 32])), signature: by_nobody };
        assert!(forged.verifies(&chain), "its signature is valid");
        assert_eq!(forged.check(), Err(TransactionError::EverybodysKey(PublicKey([0; 32]))));
        assert_eq!(activate(SecretKey::from_seed([1; 32]).public()).check(), Ok(()));
    }

    #[test]
    fn tags_of_actions_and_motions_are_stable() {
        let (key, to) = (SecretKey::from_seed([2; 32]).public(), Address([9; 20]));
        let (payment, stake) = (Payment { to, amount: 1 }, Stake { validator: key, amount: 1 });
        let actions = [
            Action::Transfer(payment.clone()),
            Action::TransferMany { payments: vec![payment.clone()] },
            Action::Faucet(payment),
            Action::Bond(stake),
            Action::Unbond(stake),
            Action::Activate { owner: to },
            Action::Unjail,
            Action::AuthorityVote(Motion::Admit(key)),
        ];
        assert_eq!(actions.map(|action| codec::encode(&action)[0]), [0, 1, 2, 3, 4, 5, 6, 7]);
        let motions = [
            Motion::Admit(key),
            Motion::Remove(key),
            Motion::SetTerm { term: Term::MinFee, value: 1 },
            Motion::ScheduleUpgrade { version: 2, height: 1 },
        ];
        assert_eq!(motions.map(|motion| codec::encode(&motion)[0]), [0, 1, 2, 3]);
        assert_eq!(Term::ALL.map(|term| codec::encode(&term)[0]), [0, 1, 2, 3]);
    }

    #[test]
    fn a_transfer_to_more_accounts_than_allowed_does_not_decode() {
        let payment = Payment { to: Address([1; 20]), amount: 1 };
        let mut tx = transfer(1, 0);
        tx.action = Action::TransferMany { payments: vec![payment; MAX_TRANSFERS + 1] };
        assert!(codec::decode::<Transaction>(&codec::encode(&tx)).is_err());
    }
}
