//! What can come of a transaction: stable numbers, names and what to do about each.

use borsh::{BorshDeserialize, BorshSerialize};

/// What came of a transaction in a block. Number and name are stable: they are hashed, stored and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum ResultCode {
    /// It happened.
    Ok = 0,
    /// Height over the expiry height.
    Expired = 1,
    /// The nonce is used.
    NonceTooLow = 2,
    /// A transaction before it is missing: it may succeed later.
    NonceTooHigh = 3,
    /// Fee under the least.
    FeeTooLow = 4,
    /// Balance under the fee.
    FeeNotCovered = 5,
    /// Balance covers the fee, not the amounts: only the fee was taken.
    InsufficientBalance = 6,
    /// Genesis has no faucet.
    FaucetDisabled = 7,
    /// More than the faucet gives at once.
    FaucetLimit = 8,
    /// The faucet has not that much left.
    FaucetEmpty = 9,
    /// The stake would be under the least there may be.
    BondTooSmall = 10,
    /// More than is bonded.
    UnbondTooMuch = 11,
    /// The validator has as many parts of its stake unbonding as are kept.
    UnbondingsFull = 12,
    /// The sender does not own the validator's stake.
    NotOwner = 13,
    /// The validator's key has not said that it is ready.
    NotActivated = 14,
    /// Its `Activate` stands.
    AlreadyActive = 15,
    /// There is nothing to end.
    NotJailed = 16,
    /// The jail lasts.
    StillJailed = 17,
    /// Authorities have not admitted it, or no more.
    NotAdmitted = 18,
    /// Mode poa has no stakes.
    StakingDisabled = 19,
    /// The sender is not in the set of this epoch.
    NotAuthority = 20,
    /// The sender's vote for this motion counts already.
    AlreadyVoted = 21,
    /// The sender has as many votes in flight as are kept.
    VotesFull = 22,
    /// It would change nothing, or is none of this mode.
    MotionPointless = 23,
    /// Outside what authorities may choose.
    ParameterOutOfRange = 24,
    /// Not the next version, or too near.
    UpgradeOutOfRange = 25,
    /// The chain keeps no more candidates.
    CandidatesFull = 26,
    /// More at stake than weighs something.
    BondTooLarge = 27,
    /// Genesis has no terms of receipts.
    ReceiptsDisabled = 64,
    /// The receipt names another chain.
    ReceiptWrongChain = 65,
    /// An attestation is by a key that genesis does not name.
    UnknownCoordinator = 66,
    /// Fewer attestations than genesis wants.
    TooFewAttestations = 67,
    /// Completed too long ago.
    ReceiptExpired = 68,
    /// It minted already.
    ReceiptClaimed = 69,
    /// More units than there may be.
    SupplyExhausted = 70,
    /// More than all may mint in an epoch.
    EpochCapReached = 71,
    /// More than a provider may mint in an epoch.
    ProviderCapReached = 72,
    /// Completed in a future that no clock's error explains.
    ReceiptFromFuture = 73,
    /// The timeout has passed, or is too far ahead.
    EscrowTimeoutOutOfRange = 80,
    /// Something is locked for the job already.
    EscrowExists = 81,
    /// Nothing is locked for the job.
    EscrowNotFound = 82,
    /// The job was paid.
    EscrowPaid = 83,
    /// Too late to be released.
    EscrowTimedOut = 84,
    /// Too early to be refunded.
    EscrowNotTimedOut = 85,
    /// The client named another provider.
    EscrowOtherProvider = 86,
}

impl ResultCode {
    /// All, in the order of their numbers.
    pub const ALL: [ResultCode; 45] = [
        ResultCode::Ok,
        ResultCode::Expired,
        ResultCode::NonceTooLow,
        ResultCode::NonceTooHigh,
        ResultCode::FeeTooLow,
        ResultCode::FeeNotCovered,
        ResultCode::InsufficientBalance,
        ResultCode::FaucetDisabled,
        ResultCode::FaucetLimit,
        ResultCode::FaucetEmpty,
        ResultCode::BondTooSmall,
        ResultCode::UnbondTooMuch,
        ResultCode::UnbondingsFull,
        ResultCode::NotOwner,
        ResultCode::NotActivated,
        ResultCode::AlreadyActive,
        ResultCode::NotJailed,
        ResultCode::StillJailed,
        ResultCode::NotAdmitted,
        ResultCode::StakingDisabled,
        ResultCode::NotAuthority,
        ResultCode::AlreadyVoted,
        ResultCode::VotesFull,
        ResultCode::MotionPointless,
        ResultCode::ParameterOutOfRange,
        ResultCode::UpgradeOutOfRange,
        ResultCode::CandidatesFull,
        ResultCode::BondTooLarge,
        ResultCode::ReceiptsDisabled,
        ResultCode::ReceiptWrongChain,
        ResultCode::UnknownCoordinator,
        ResultCode::TooFewAttestations,
        ResultCode::ReceiptExpired,
        ResultCode::ReceiptClaimed,
        ResultCode::SupplyExhausted,
        ResultCode::EpochCapReached,
        ResultCode::ProviderCapReached,
        ResultCode::ReceiptFromFuture,
        ResultCode::EscrowTimeoutOutOfRange,
        ResultCode::EscrowExists,
        ResultCode::EscrowNotFound,
        ResultCode::EscrowPaid,
        ResultCode::EscrowTimedOut,
        ResultCode::EscrowNotTimedOut,
        ResultCode::EscrowOtherProvider,
    ];

    /// Stable number.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Code of a number.
    pub fn from_number(number: u16) -> Option<ResultCode> {
        ResultCode::ALL.into_iter().find(|code| code.number() == number)
    }

    /// Stable name for people, metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            ResultCode::Ok => "OK",
            ResultCode::Expired => "EXPIRED",
            ResultCode::NonceTooLow => "NONCE_TOO_LOW",
            ResultCode::NonceTooHigh => "NONCE_TOO_HIGH",
            ResultCode::FeeTooLow => "FEE_TOO_LOW",
            ResultCode::FeeNotCovered => "FEE_NOT_COVERED",
            ResultCode::InsufficientBalance => "INSUFFICIENT_BALANCE",
            ResultCode::FaucetDisabled => "FAUCET_DISABLED",
            ResultCode::FaucetLimit => "FAUCET_LIMIT",
            ResultCode::FaucetEmpty => "FAUCET_EMPTY",
            ResultCode::BondTooSmall => "BOND_TOO_SMALL",
            ResultCode::UnbondTooMuch => "UNBOND_TOO_MUCH",
            ResultCode::UnbondingsFull => "UNBONDINGS_FULL",
            ResultCode::NotOwner => "NOT_OWNER",
            ResultCode::NotActivated => "NOT_ACTIVATED",
            ResultCode::AlreadyActive => "ALREADY_ACTIVE",
            ResultCode::NotJailed => "NOT_JAILED",
            ResultCode::StillJailed => "STILL_JAILED",
            ResultCode::NotAdmitted => "NOT_ADMITTED",
            ResultCode::StakingDisabled => "STAKING_DISABLED",
            ResultCode::NotAuthority => "NOT_AN_AUTHORITY",
            ResultCode::AlreadyVoted => "ALREADY_VOTED",
            ResultCode::VotesFull => "VOTES_FULL",
            ResultCode::MotionPointless => "MOTION_POINTLESS",
            ResultCode::ParameterOutOfRange => "PARAMETER_OUT_OF_RANGE",
            ResultCode::UpgradeOutOfRange => "UPGRADE_OUT_OF_RANGE",
            ResultCode::CandidatesFull => "CANDIDATES_FULL",
            ResultCode::BondTooLarge => "BOND_TOO_LARGE",
            ResultCode::ReceiptsDisabled => "RECEIPTS_DISABLED",
            ResultCode::ReceiptWrongChain => "RECEIPT_WRONG_CHAIN",
            ResultCode::UnknownCoordinator => "UNKNOWN_COORDINATOR",
            ResultCode::TooFewAttestations => "TOO_FEW_ATTESTATIONS",
            ResultCode::ReceiptExpired => "RECEIPT_EXPIRED",
            ResultCode::ReceiptClaimed => "RECEIPT_CLAIMED",
            ResultCode::SupplyExhausted => "SUPPLY_EXHAUSTED",
            ResultCode::EpochCapReached => "EPOCH_CAP_REACHED",
            ResultCode::ProviderCapReached => "PROVIDER_CAP_REACHED",
            ResultCode::ReceiptFromFuture => "RECEIPT_FROM_FUTURE",
            ResultCode::EscrowTimeoutOutOfRange => "ESCROW_TIMEOUT_OUT_OF_RANGE",
            ResultCode::EscrowExists => "ESCROW_EXISTS",
            ResultCode::EscrowNotFound => "ESCROW_NOT_FOUND",
            ResultCode::EscrowPaid => "ESCROW_PAID",
            ResultCode::EscrowTimedOut => "ESCROW_TIMED_OUT",
            ResultCode::EscrowNotTimedOut => "ESCROW_NOT_TIMED_OUT",
            ResultCode::EscrowOtherProvider => "ESCROW_OTHER_PROVIDER",
        }
    }

    /// What happened and what the sender can do, for answers to clients.
    pub fn explanation(self) -> &'static str {
        match self {
            ResultCode::Ok => "the transaction took effect",
            ResultCode::Expired => "it came into a block after its expiry_height; sign it again with a later one",
            ResultCode::NonceTooLow => {
                "another transaction of the sender used this nonce; read the account's nonce and sign again"
            }
            ResultCode::NonceTooHigh => {
                "a transaction with a lower nonce is missing; it is tried again once that one is in"
            }
            ResultCode::FeeTooLow => "the fee is under the chain's least fee; sign it again with a higher one",
            ResultCode::FeeNotCovered => "the sender's balance does not cover the fee; fund it and sign again",
            ResultCode::InsufficientBalance => {
                "the balance covered the fee but not the amounts; the fee was taken and the nonce used"
            }
            ResultCode::FaucetDisabled => "this chain has no faucet; ask an account holder for units",
            ResultCode::FaucetLimit => "more was asked than the faucet gives at once; ask for less",
            ResultCode::FaucetEmpty => "the faucet does not hold that much any more; ask for less",
            ResultCode::BondTooSmall => {
                "the stake would be under the chain's min_stake; bond more, or unbond all of it"
            }
            ResultCode::BondTooLarge => {
                "the stake would be over 20,000,000 units of voting power; bond less, or with another validator"
            }
            ResultCode::UnbondTooMuch => "more was asked than is bonded; read the validator's stake and ask for less",
            ResultCode::UnbondingsFull => {
                "too many parts of this stake are unbonding already; wait until one is paid out"
            }
            ResultCode::NotOwner => {
                "the sender is not the owner that the validator named when it activated; sign with the owner's key"
            }
            ResultCode::NotActivated => "the validator has not activated; send ACTIVATE signed with its own key first",
            ResultCode::AlreadyActive => {
                "the validator is active already; its owner can be changed only once nothing is bonded or unbonding"
            }
            ResultCode::NotJailed => "the sender is no jailed validator; sign with the validator's own key",
            ResultCode::StillJailed => {
                "the jail lasts for some epochs more; read the validator's jailed_until and send it again then"
            }
            ResultCode::NotAdmitted => {
                "the authorities have to admit the validator first; ask them for an AUTHORITY_VOTE"
            }
            ResultCode::StakingDisabled => {
                "validators of this chain have no stakes; they are admitted by its authorities"
            }
            ResultCode::NotAuthority => "only validators of the present epoch vote; sign with a key of the present set",
            ResultCode::AlreadyVoted => {
                "the sender's vote for this motion counts already; it lasts until the end of the next epoch"
            }
            ResultCode::VotesFull => "the sender has too many votes in flight; wait until one is carried or forgotten",
            ResultCode::MotionPointless => {
                "the motion would change nothing, or is none of this chain's mode; read /rpc/validators and move something else"
            }
            ResultCode::ParameterOutOfRange => {
                "the value is outside what may be chosen; docs/staking.md has the bounds"
            }
            ResultCode::UpgradeOutOfRange => {
                "an upgrade is to the version after the last one scheduled, at least 100 blocks ahead; propose a later height"
            }
            ResultCode::CandidatesFull => "the chain keeps no more candidates; wait until one has left",
            ResultCode::ReceiptsDisabled => "this chain has no terms of receipts in its genesis; claim on one that has",
            ResultCode::ReceiptWrongChain => "the receipt's chain_id is another chain's; claim it there",
            ResultCode::UnknownCoordinator => {
                "an attestation is by a key that is no coordinator of genesis; leave it out or get one of a coordinator"
            }
            ResultCode::TooFewAttestations => {
                "fewer coordinators than genesis wants attest the receipt, its provider not counted; get more attestations"
            }
            ResultCode::ReceiptExpired => "the work was completed longer ago than genesis allows; nothing can be done",
            ResultCode::ReceiptClaimed => {
                "a receipt of this provider with this receipt_id has minted already; each does once"
            }
            ResultCode::SupplyExhausted => {
                "it would mint more than the greatest supply there may be; nothing can be done"
            }
            ResultCode::EpochCapReached => {
                "receipts have minted what they may in this epoch; send it in the next one, or ask for smaller receipts"
            }
            ResultCode::ProviderCapReached => {
                "the provider has minted what it may in this epoch; send it in the next one, or ask for smaller receipts"
            }
            ResultCode::ReceiptFromFuture => {
                "completed_at is over a minute ahead of the block's time; send it then, or sign it anew with seconds"
            }
            ResultCode::EscrowTimeoutOutOfRange => {
                "timeout_height must be above the block's height and at most 100,000,000 ahead; lock with another one"
            }
            ResultCode::EscrowExists => {
                "the sender has something locked for this job already; wait for its end or use another job_id"
            }
            ResultCode::EscrowNotFound => "nothing is locked for this client and job_id; it was never, or was refunded",
            ResultCode::EscrowPaid => "the job of this client was paid already; each is once",
            ResultCode::EscrowTimedOut => "the timeout has passed, so only the client can have the units back",
            ResultCode::EscrowNotTimedOut => "a receipt can still release it; ask for the refund after timeout_height",
            ResultCode::EscrowOtherProvider => "the client locked the units for another provider than the receipt's",
        }
    }

    /// False where a pool should try the transaction again: only a nonce that is too high comes right by itself.
    pub fn is_final(self) -> bool {
        self != ResultCode::NonceTooHigh
    }

    /// True where the fee was taken and the nonce used: of all results of one id, at most one.
    pub fn had_effect(self) -> bool {
        !matches!(
            self,
            ResultCode::Expired
                | ResultCode::NonceTooLow
                | ResultCode::NonceTooHigh
                | ResultCode::FeeTooLow
                | ResultCode::FeeNotCovered
                | ResultCode::FaucetDisabled
                | ResultCode::FaucetLimit
                | ResultCode::FaucetEmpty
        )
    }
}

impl BorshSerialize for ResultCode {
    fn serialize<W: borsh::io::Write>(&self, writer: &mut W) -> borsh::io::Result<()> {
        self.number().serialize(writer)
    }
}

impl BorshDeserialize for ResultCode {
    fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Self> {
        let number = u16::deserialize_reader(reader)?;
        ResultCode::from_number(number).ok_or_else(|| {
            borsh::io::Error::new(borsh::io::ErrorKind::InvalidData, format!("{number} is no result code"))
        })
    }
}
