//! Balances and nonces: what a block's transactions do to the state, and what came of each.
//!
//! A block's transactions run in the order of its batches. Each of these questions ends a transaction at the first "no":
//!
//! | question | else | fee taken, nonce used |
//! |---|---|---|
//! | height ≤ expiry height? | `EXPIRED` | no |
//! | nonce ≥ the account's? | `NONCE_TOO_LOW` | no |
//! | nonce ≤ the account's? | `NONCE_TOO_HIGH` | no |
//! | fee ≥ the least fee (not asked of `Faucet`)? | `FEE_TOO_LOW` | no |
//! | balance ≥ fee? | `FEE_NOT_COVERED` | no |
//! | balance ≥ fee + amounts? | `INSUFFICIENT_BALANCE` | **yes** |
//! | `Faucet`: does genesis have one? | `FAUCET_DISABLED` | no |
//! | `Faucet`: amount ≤ its most? | `FAUCET_LIMIT` | no |
//! | `Faucet`: has it that much? | `FAUCET_EMPTY` | no |
//! | then it happens | `OK` | yes |
//!
//! Receipts and escrows: see [`receipts`].
//!
//! Fees go to the proposer after the last transaction, so it cannot spend in a block what it earns in it. Only receipts
//! create units: after every block balances and what is locked add up to genesis and what the record `Supply` says.
//!
//! A transaction can be in two batches, sealed by two validators. At most one of its results has an effect, because that
//! one uses up its nonce; whoever keeps results by id must let that one stand over the others.

use crate::batch::VerifiedBatch;
use crate::block::Header;
use crate::codec;
use crate::epoch::Sets;
use crate::evidence::Offence;
use crate::genesis::{Genesis, faucet_address};
use crate::hash::Hash;
use crate::key::Address;
use crate::merkle;
use crate::params::MAX_SUPPLY;
use crate::record::{Record, RecordChange, RecordKey};
use crate::state::{Account, State};
use crate::transaction::{Action, Payment, Transaction};
use crate::validators::ValidatorSet;
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

mod receipts;
mod sets;

pub use receipts::ReceiptRules;

/// What every validator must apply alike; from genesis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Genesis hash: the chain that transactions are signed for.
    pub chain: Hash,
    /// Least fee in smallest units; `Faucet` needs none.
    pub min_fee: u64,
    /// Most units of one `Faucet` transaction; `None`: there is no faucet.
    pub faucet: Option<u64>,
    /// Terms of receipts; `None`: they are worth nothing.
    pub receipts: Option<ReceiptRules>,
    /// Sets of epochs 2, 3, … and the last one for ever: of simulations and tests, for who validates is none of their
    /// business. Empty on every chain: its state says it (E1).
    pub scheduled: Vec<Arc<ValidatorSet>>,
}

impl Rules {
    /// The rules of a chain.
    pub fn of(genesis: &Genesis) -> Rules {
        Rules {
            chain: genesis.hash(),
            min_fee: genesis.parameters.min_fee,
            faucet: genesis.faucet.as_ref().map(|faucet| faucet.max_amount),
            receipts: genesis.receipts.as_ref().map(|terms| ReceiptRules {
                chain_id: genesis.chain_id.clone(),
                genesis_supply: genesis.supply().unwrap_or(MAX_SUPPLY),
                terms: terms.clone(),
            }),
            scheduled: Vec::new(),
        }
    }
}

impl State {
    /// The state at height 0: the accounts of genesis and the faucet's.
    pub fn from_genesis(genesis: &Genesis) -> State {
        let accounts = genesis.accounts.iter().map(|a| (a.address, a.balance));
        let faucet = genesis.faucet.iter().map(|f| (faucet_address(), f.balance));
        State::from_accounts(accounts.chain(faucet).map(|(address, balance)| (address, Account { balance, nonce: 0 })))
    }
}

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
    pub const ALL: [ResultCode; 26] = [
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
        ResultCode::ReceiptsDisabled,
        ResultCode::ReceiptWrongChain,
        ResultCode::UnknownCoordinator,
        ResultCode::TooFewAttestations,
        ResultCode::ReceiptExpired,
        ResultCode::ReceiptClaimed,
        ResultCode::SupplyExhausted,
        ResultCode::EpochCapReached,
        ResultCode::ProviderCapReached,
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
            ResultCode::ReceiptsDisabled => "RECEIPTS_DISABLED",
            ResultCode::ReceiptWrongChain => "RECEIPT_WRONG_CHAIN",
            ResultCode::UnknownCoordinator => "UNKNOWN_COORDINATOR",
            ResultCode::TooFewAttestations => "TOO_FEW_ATTESTATIONS",
            ResultCode::ReceiptExpired => "RECEIPT_EXPIRED",
            ResultCode::ReceiptClaimed => "RECEIPT_CLAIMED",
            ResultCode::SupplyExhausted => "SUPPLY_EXHAUSTED",
            ResultCode::EpochCapReached => "EPOCH_CAP_REACHED",
            ResultCode::ProviderCapReached => "PROVIDER_CAP_REACHED",
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
            ResultCode::ReceiptsDisabled => "this chain has no terms of receipts in its genesis; claim on one that has",
            ResultCode::ReceiptWrongChain => "the receipt's chain_id is another chain's; claim it there",
            ResultCode::UnknownCoordinator => {
                "an attestation is by a key that is no coordinator of genesis; leave it out or get one of a coordinator"
            }
            ResultCode::TooFewAttestations => {
                "fewer coordinators attest the receipt than genesis wants; get more attestations"
            }
            ResultCode::ReceiptExpired => "the work was completed longer ago than genesis allows; nothing can be done",
            ResultCode::ReceiptClaimed => {
                "a receipt of this provider with this receipt_id has minted already; each does once"
            }
            ResultCode::SupplyExhausted => {
                "it would mint more than the greatest supply there may be; nothing can be done"
            }
            ResultCode::EpochCapReached => {
                "receipts have minted what they may in this epoch; send it again in the next one"
            }
            ResultCode::ProviderCapReached => {
                "the provider has minted what it may in this epoch; send it again in the next one"
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
        matches!(self, ResultCode::Ok | ResultCode::InsufficientBalance) || self.is_of_receipts()
    }

    /// True for what receipts and escrows end with: their signatures were verified, so the fee is due.
    fn is_of_receipts(self) -> bool {
        (64..96).contains(&self.number())
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

/// What came of one transaction; the results root is over these.
///
/// ```text
/// id [32] | code u16 | fee u64     (borsh, little-endian)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TxResult {
    /// Id of the transaction.
    pub id: Hash,
    /// What came of it.
    pub code: ResultCode,
    /// Smallest units taken as fee; 0 where it had no effect.
    pub fee: u64,
}

/// What a header says that execution depends on, beside its batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Epoch of the block, by which caps of receipts begin anew.
    pub epoch: u64,
    /// Height of the block.
    pub height: u64,
    /// Whether it is the first block of its epoch.
    pub is_first: bool,
    /// The epoch's set; `None`: it has nobody.
    pub set: Option<Arc<ValidatorSet>>,
    /// Who earns the fees.
    pub proposer: Address,
    /// What its evidence proves (X5).
    pub offences: Vec<Offence>,
    /// Its time in milliseconds since 1970, by which receipts expire.
    pub time_ms: u64,
}

impl Context {
    /// Of a header that passed V1 and V7, with the sets of its epoch. A proposer outside the set, which no such header has,
    /// is the zero address. Evidence is judged by the set of its own epoch (X1).
    pub fn of(header: &Header, sets: &Sets) -> Context {
        let offences = header.evidence.iter().filter_map(|evidence| evidence.offence(sets.of(evidence.epoch())?));
        Context {
            epoch: header.epoch,
            height: header.height,
            // Slot 0 is the floor: the last block of the epoch before (M4).
            is_first: header.parent_slot == 0,
            set: Some(sets.current.clone()),
            proposer: sets.current.address(header.proposer).unwrap_or(Address([0; 20])),
            offences: offences.collect(),
            time_ms: header.time_ms,
        }
    }

    /// Of a block of epoch 0 at time 0 that has nothing but transactions.
    pub fn plain(height: u64, proposer: Address) -> Context {
        Context { height, proposer, ..Context::default() }
    }
}

/// A block after execution.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The state after it.
    pub state: State,
    /// One result a transaction, in order.
    pub results: Vec<TxResult>,
    /// Root of [`Self::state`]: `parent_state_root` of the next header.
    pub state_root: Hash,
    /// Merkle root over [`Self::results`]: `parent_results_root` of the next header.
    pub results_root: Hash,
    /// Each account that differs from before the block, once, by ascending address.
    pub changed: Vec<(Address, Account)>,
    /// Each record that differs from before the block, once, by ascending key; `None`: it is gone.
    pub changed_records: Vec<RecordChange>,
    /// Smallest units the proposer earned.
    pub fees: u64,
}

/// Root over results as the next header has it; zero for a block without transactions.
pub fn results_root(results: &[TxResult]) -> Hash {
    let leaves: Vec<Hash> = results.iter().map(|result| merkle::leaf(&codec::encode(result))).collect();
    merkle::root(&leaves)
}

/// Executes a block on its parent's state: the next set where an epoch begins, evidence, then the transactions. Deterministic; header and batches were
/// verified before.
///
/// # Panics
/// Where balances add up to more than `u64`, which no state can that grew from a checked genesis.
pub fn execute<'a>(
    parent: &State,
    rules: &Rules,
    context: &Context,
    batches: impl IntoIterator<Item = &'a VerifiedBatch>,
) -> Executed {
    let (epoch, height, time_ms) = (context.epoch, context.height, context.time_ms);
    let mut block = Block { rules, epoch, height, time_ms, accounts: Touched::new(parent) };
    if let Some(set) = context.set.as_ref().filter(|_| context.is_first && epoch > 0) {
        block.e1_write_next_set(set);
    }
    for offence in &context.offences {
        block.x5_record(offence);
    }
    let (mut results, mut fees) = (Vec::new(), 0);
    for verified in batches {
        results.reserve(verified.ids.len());
        for (tx, id) in verified.batch.txs.iter().zip(verified.ids.iter()) {
            let code = block.apply(&tx.transaction);
            let fee = if code.had_effect() { tx.transaction.fee } else { 0 };
            fees = sum(fees, fee);
            results.push(TxResult { id: *id, code, fee });
        }
    }
    if fees > 0 {
        let proposer = block.accounts.slot(context.proposer);
        block.accounts.credit(proposer, fees);
    }
    let (changed, changed_records) = block.accounts.into_changed();
    let mut state = parent.clone();
    state.set_many(&changed);
    state.set_records(&changed_records);
    let (state_root, results_root) = (state.root(), results_root(&results));
    Executed { state, results, state_root, results_root, changed, changed_records, fees }
}

/// # Panics
/// See [`execute`].
fn sum(a: u64, b: u64) -> u64 {
    match a.checked_add(b) {
        Some(sum) => sum,
        None => unreachable!("balances {a} and {b}: genesis bounds the supply and no transaction raises it"),
    }
}

/// The accounts a block touches, each read from the parent's state once, and the records it writes.
struct Touched<'a> {
    parent: &'a State,
    slots: HashMap<Address, usize>,
    accounts: Vec<(Address, Account, Account)>,
    records: BTreeMap<RecordKey, Option<Record>>,
}

impl<'a> Touched<'a> {
    fn new(parent: &'a State) -> Self {
        Touched { parent, slots: HashMap::new(), accounts: Vec::new(), records: BTreeMap::new() }
    }

    fn slot(&mut self, address: Address) -> usize {
        match self.slots.entry(address) {
            Entry::Occupied(slot) => *slot.get(),
            Entry::Vacant(slot) => {
                let before = self.parent.account(&address);
                self.accounts.push((address, before, before));
                *slot.insert(self.accounts.len() - 1)
            }
        }
    }

    fn get(&mut self, slot: usize) -> &mut Account {
        &mut self.accounts[slot].2
    }

    fn credit(&mut self, slot: usize, amount: u64) {
        let account = self.get(slot);
        account.balance = sum(account.balance, amount);
    }

    /// A record as the block so far leaves it.
    fn record(&self, key: &RecordKey) -> Option<&Record> {
        match self.records.get(key) {
            Some(written) => written.as_ref(),
            None => self.parent.record(key),
        }
    }

    fn set_record(&mut self, key: RecordKey, record: Option<Record>) {
        self.records.insert(key, record);
    }

    fn into_changed(self) -> (Vec<(Address, Account)>, Vec<RecordChange>) {
        let differs = |(address, before, after)| (before != after).then_some((address, after));
        let mut changed: Vec<_> = self.accounts.into_iter().filter_map(differs).collect();
        changed.sort_unstable_by_key(|(address, _)| *address);
        let parent = self.parent;
        let differs = |(key, record): &RecordChange| parent.record(key) != record.as_ref();
        (changed, self.records.into_iter().filter(differs).collect())
    }
}

struct Block<'a> {
    rules: &'a Rules,
    epoch: u64,
    height: u64,
    time_ms: u64,
    accounts: Touched<'a>,
}

impl Block<'_> {
    /// **X4, X5.** Writes that a key misbehaved in this way in this epoch, once.
    fn x5_record(&mut self, offence: &Offence) {
        let key = RecordKey::nullifier(offence);
        if self.accounts.record(&key).is_some() {
            return;
        }
        let record = Record::Evidence { slot: offence.slot, height: self.height };
        self.accounts.set_record(key, Some(record));
        // X7: what it costs the validator is taken here, exactly once per nullifier.
    }

    fn apply(&mut self, tx: &Transaction) -> ResultCode {
        if self.height > tx.expiry_height {
            return ResultCode::Expired;
        }
        let sender = self.accounts.slot(tx.sender.address());
        let account = *self.accounts.get(sender);
        if tx.nonce < account.nonce {
            return ResultCode::NonceTooLow;
        }
        if tx.nonce > account.nonce {
            return ResultCode::NonceTooHigh;
        }
        if tx.fee < self.rules.min_fee && !matches!(tx.action, Action::Faucet(_)) {
            return ResultCode::FeeTooLow;
        }
        let Some(after_fee) = account.balance.checked_sub(tx.fee) else { return ResultCode::FeeNotCovered };
        match &tx.action {
            Action::Transfer(payment) => self.pay(sender, after_fee, tx, std::slice::from_ref(payment)),
            Action::TransferMany { payments } => self.pay(sender, after_fee, tx, payments),
            Action::Faucet(payment) => self.draw(sender, after_fee, payment),
            Action::ClaimReceipt(receipt) => self.charged(sender, after_fee, |block| block.claim(receipt)),
            Action::LockEscrow(lock) => self.charged(sender, after_fee, |block| block.lock(tx.sender.address(), lock)),
            Action::ReleaseEscrow(receipt) => self.charged(sender, after_fee, |block| block.release(receipt)),
            Action::RefundEscrow { job_id } => {
                self.charged(sender, after_fee, |block| block.refund(tx.sender.address(), job_id))
            }
        }
    }

    /// Takes fee and nonce, then does what changes nothing where it fails.
    fn charged(
        &mut self,
        sender: usize,
        after_fee: u64,
        rest: impl FnOnce(&mut Self) -> Result<(), ResultCode>,
    ) -> ResultCode {
        let account = self.accounts.get(sender);
        account.nonce = sum(account.nonce, 1);
        account.balance = after_fee;
        rest(self).err().unwrap_or(ResultCode::Ok)
    }

    /// All payments, or only the fee.
    fn pay(&mut self, sender: usize, after_fee: u64, tx: &Transaction, payments: &[Payment]) -> ResultCode {
        let account = self.accounts.get(sender);
        account.nonce = sum(account.nonce, 1);
        let Some(rest) = tx.amount().and_then(|amount| after_fee.checked_sub(amount)) else {
            account.balance = after_fee;
            return ResultCode::InsufficientBalance;
        };
        account.balance = rest;
        for payment in payments {
            let to = self.accounts.slot(payment.to);
            self.accounts.credit(to, payment.amount);
        }
        ResultCode::Ok
    }

    /// Units out of the faucet's account. A refused request costs nothing, so that asking an empty faucet is harmless.
    fn draw(&mut self, sender: usize, after_fee: u64, payment: &Payment) -> ResultCode {
        let Some(most) = self.rules.faucet else { return ResultCode::FaucetDisabled };
        if payment.amount > most {
            return ResultCode::FaucetLimit;
        }
        let faucet = self.accounts.slot(faucet_address());
        let source = self.accounts.get(faucet);
        let Some(rest) = source.balance.checked_sub(payment.amount) else { return ResultCode::FaucetEmpty };
        source.balance = rest;
        let account = self.accounts.get(sender);
        account.balance = after_fee;
        account.nonce = sum(account.nonce, 1);
        let to = self.accounts.slot(payment.to);
        self.accounts.credit(to, payment.amount);
        ResultCode::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::evidence::Class;
    use crate::hash::plain;
    use crate::key::{PublicKey, Signature};
    use crate::transaction::SignedTransaction;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const HEIGHT: u64 = 10;

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    fn address(n: u8) -> Address {
        key(n).address()
    }

    fn rules() -> Rules {
        Rules { chain: plain(b"chain"), min_fee: 2, faucet: Some(50), ..Rules::default() }
    }

    fn tx(sender: u8, nonce: u64, fee: u64, action: Action) -> Transaction {
        Transaction { sender: key(sender), nonce, fee, expiry_height: HEIGHT, action }
    }

    fn pay(to: u8, amount: u64) -> Action {
        Action::Transfer(Payment { to: address(to), amount })
    }

    fn pay_many(to: &[(u8, u64)]) -> Action {
        let payments = to.iter().map(|(to, amount)| Payment { to: address(*to), amount: *amount }).collect();
        Action::TransferMany { payments }
    }

    fn ask(to: u8, amount: u64) -> Action {
        Action::Faucet(Payment { to: address(to), amount })
    }

    fn verified(txs: Vec<Transaction>) -> VerifiedBatch {
        let signature = Signature([0; 64]);
        let txs = txs.into_iter().map(|transaction| SignedTransaction { transaction, signature }).collect();
        let batch = Batch { epoch: 0, author: 0, seq: 1, expiry_height: HEIGHT, txs, signature };
        let digest = batch.digest();
        VerifiedBatch::trusted(Arc::new(batch), digest, &rules().chain)
    }

    /// Accounts 1 and 2 with 100 units, a faucet with 60; the proposer is 9.
    fn start() -> State {
        let with = |balance| Account { balance, nonce: 0 };
        State::from_accounts([(address(1), with(100)), (address(2), with(100)), (faucet_address(), with(60))])
    }

    fn plain_block() -> Context {
        Context::plain(HEIGHT, address(9))
    }

    fn run(state: &State, txs: Vec<Transaction>) -> Executed {
        execute(state, &rules(), &plain_block(), [&verified(txs)])
    }

    fn codes(executed: &Executed) -> Vec<ResultCode> {
        executed.results.iter().map(|result| result.code).collect()
    }

    fn holds(state: &State, who: u8) -> (u64, u64) {
        let account = state.account(&address(who));
        (account.balance, account.nonce)
    }

    /// The transaction fails with `code` and nothing changes.
    fn refused(tx: Transaction, code: ResultCode) {
        let executed = run(&start(), vec![tx]);
        assert_eq!(codes(&executed), [code]);
        assert_eq!((executed.changed, executed.fees, executed.results[0].fee), (vec![], 0, 0));
        assert_eq!(executed.state_root, start().root());
        assert!(!code.had_effect());
    }

    #[test]
    fn a_transfer_moves_the_amount_and_pays_the_proposer_the_fee() {
        let executed = run(&start(), vec![tx(1, 0, 3, pay(2, 40))]);
        assert_eq!(codes(&executed), [ResultCode::Ok]);
        assert_eq!((holds(&executed.state, 1), holds(&executed.state, 2)), ((57, 1), (140, 0)));
        assert_eq!((holds(&executed.state, 9), executed.fees), ((3, 0), 3));
    }

    #[test]
    fn a_transaction_over_its_expiry_height_has_no_effect() {
        refused(Transaction { expiry_height: HEIGHT - 1, ..tx(1, 0, 3, pay(2, 40)) }, ResultCode::Expired);
    }

    #[test]
    fn a_used_nonce_has_no_effect() {
        let executed = run(&start(), vec![tx(1, 0, 2, pay(2, 1)), tx(1, 0, 3, pay(2, 2))]);
        assert_eq!(codes(&executed), [ResultCode::Ok, ResultCode::NonceTooLow]);
        assert_eq!(holds(&executed.state, 1), (97, 1));
    }

    #[test]
    fn a_nonce_too_high_has_no_effect_and_is_the_only_result_to_try_again() {
        refused(tx(1, 1, 3, pay(2, 40)), ResultCode::NonceTooHigh);
        let again: Vec<_> = ResultCode::ALL.into_iter().filter(|code| !code.is_final()).collect();
        assert_eq!(again, [ResultCode::NonceTooHigh]);
    }

    #[test]
    fn a_fee_under_the_least_has_no_effect() {
        refused(tx(1, 0, 1, pay(2, 40)), ResultCode::FeeTooLow);
    }

    #[test]
    fn a_fee_over_the_balance_has_no_effect() {
        refused(tx(1, 0, 101, pay(2, 40)), ResultCode::FeeNotCovered);
        refused(tx(7, 0, 2, pay(2, 40)), ResultCode::FeeNotCovered);
    }

    #[test]
    fn amounts_over_the_balance_cost_the_fee_and_the_nonce() {
        let executed = run(&start(), vec![tx(1, 0, 2, pay(2, 99)), tx(1, 1, 2, pay(2, 96))]);
        assert_eq!(codes(&executed), [ResultCode::InsufficientBalance, ResultCode::Ok]);
        assert_eq!((holds(&executed.state, 1), holds(&executed.state, 2)), ((0, 2), (196, 0)));
        assert_eq!(executed.fees, 4);
    }

    #[test]
    fn paying_oneself_costs_the_fee_only() {
        let executed = run(&start(), vec![tx(1, 0, 2, pay(1, 98))]);
        assert_eq!((codes(&executed), holds(&executed.state, 1)), (vec![ResultCode::Ok], (98, 1)));
        let executed = run(&start(), vec![tx(1, 0, 2, pay(1, 99))]);
        assert_eq!(codes(&executed), [ResultCode::InsufficientBalance]);
    }

    #[test]
    fn of_many_payments_all_happen_or_none() {
        let executed = run(&start(), vec![tx(1, 0, 2, pay_many(&[(2, 10), (3, 20), (1, 5), (3, 1)]))]);
        assert_eq!(codes(&executed), [ResultCode::Ok]);
        assert_eq!(holds(&executed.state, 1), (67, 1));
        assert_eq!((holds(&executed.state, 2), holds(&executed.state, 3)), ((110, 0), (21, 0)));
        let executed = run(&start(), vec![tx(1, 0, 2, pay_many(&[(2, 10), (3, 89)]))]);
        assert_eq!(codes(&executed), [ResultCode::InsufficientBalance]);
        assert_eq!((holds(&executed.state, 1), holds(&executed.state, 2)), ((98, 1), (100, 0)));
    }

    #[test]
    fn units_received_in_a_block_can_be_spent_in_it() {
        let executed = run(&start(), vec![tx(1, 0, 2, pay(7, 50)), tx(7, 0, 2, pay(2, 48))]);
        assert_eq!(codes(&executed), [ResultCode::Ok, ResultCode::Ok]);
        assert_eq!(holds(&executed.state, 7), (0, 1));
    }

    #[test]
    fn the_proposer_cannot_spend_the_fees_of_the_same_block() {
        let executed = run(&start(), vec![tx(1, 0, 50, pay(2, 1)), tx(9, 0, 2, pay(2, 1))]);
        assert_eq!(codes(&executed), [ResultCode::Ok, ResultCode::FeeNotCovered]);
        assert_eq!(holds(&executed.state, 9), (50, 0));
    }

    #[test]
    fn the_faucet_pays_an_unknown_sender_without_a_fee() {
        let executed = run(&start(), vec![tx(7, 0, 0, ask(7, 50))]);
        assert_eq!((codes(&executed), holds(&executed.state, 7)), (vec![ResultCode::Ok], (50, 1)));
        assert_eq!(executed.state.account(&faucet_address()).balance, 10);
    }

    #[test]
    fn the_faucet_refuses_over_its_most_and_over_what_it_has() {
        refused(tx(7, 0, 0, ask(7, 51)), ResultCode::FaucetLimit);
        let executed = run(&start(), vec![tx(7, 0, 0, ask(7, 50)), tx(7, 1, 0, ask(7, 11)), tx(7, 1, 0, ask(7, 10))]);
        assert_eq!(codes(&executed), [ResultCode::Ok, ResultCode::FaucetEmpty, ResultCode::Ok]);
        assert_eq!(executed.state.get(&faucet_address()), None);
    }

    #[test]
    fn without_a_faucet_a_request_has_no_effect() {
        let none = Rules { faucet: None, ..rules() };
        let executed = execute(&start(), &none, &plain_block(), [&verified(vec![tx(7, 0, 0, ask(7, 1))])]);
        assert_eq!((codes(&executed), executed.changed), (vec![ResultCode::FaucetDisabled], vec![]));
    }

    #[test]
    fn the_same_transaction_in_two_batches_has_its_effect_once() {
        let batch = verified(vec![tx(1, 0, 2, pay(2, 10))]);
        let executed = execute(&start(), &rules(), &plain_block(), [&batch, &batch.clone()]);
        assert_eq!(codes(&executed), [ResultCode::Ok, ResultCode::NonceTooLow]);
        assert_eq!(executed.results[0].id, executed.results[1].id);
        assert_eq!(holds(&executed.state, 1), (88, 1));
    }

    #[test]
    fn a_block_without_transactions_changes_nothing() {
        let executed = execute(&start(), &rules(), &plain_block(), []);
        assert_eq!((executed.state_root, executed.results_root), (start().root(), Hash::ZERO));
        assert!(executed.changed.is_empty() && executed.results.is_empty());
    }

    fn offence(class: Class, slot: u64) -> Offence {
        Offence { key: key(3), epoch: 1, class, slot }
    }

    fn guilty(height: u64, offences: Vec<Offence>) -> Context {
        Context { offences, ..Context::plain(height, address(9)) }
    }

    #[test]
    fn x5_evidence_leaves_a_record_of_its_key_epoch_and_class_with_slot_and_height() {
        let both = vec![offence(Class::Notars, 5), offence(Class::Batches, 7)];
        let executed = execute(&start(), &rules(), &guilty(HEIGHT, both), [&verified(vec![tx(1, 0, 2, pay(2, 10))])]);
        assert_eq!(codes(&executed), [ResultCode::Ok]);
        let expected = [(Class::Notars, 5), (Class::Batches, 7)].map(|(class, slot)| {
            (RecordKey::Evidence { key: key(3), epoch: 1, class }, Some(Record::Evidence { slot, height: HEIGHT }))
        });
        assert_eq!(executed.changed_records, expected);
        for (key, record) in &expected {
            assert_eq!(executed.state.record(key), record.as_ref());
        }
        assert_eq!(executed.state.len(), start().len() + 3, "two records and the proposer");
    }

    #[test]
    fn x4_a_second_proof_of_the_same_key_epoch_and_class_changes_nothing() {
        let first = execute(&start(), &rules(), &guilty(HEIGHT, vec![offence(Class::Finals, 5)]), []);
        let again = vec![offence(Class::Finals, 5), offence(Class::Finals, 6)];
        let second = execute(&first.state, &rules(), &guilty(HEIGHT + 1, again), []);
        assert_eq!((second.state_root, second.changed_records.len()), (first.state_root, 0));
        for other in
            [Offence { epoch: 2, ..offence(Class::Finals, 5) }, Offence { key: key(4), ..offence(Class::Finals, 5) }]
        {
            let third = execute(&first.state, &rules(), &guilty(HEIGHT + 1, vec![other]), []);
            assert_eq!(third.changed_records.len(), 1, "{other:?}");
        }
        let twice = vec![offence(Class::Finals, 5), offence(Class::Finals, 6)];
        let at_once = execute(&start(), &rules(), &guilty(HEIGHT, twice), []);
        assert_eq!(at_once.state_root, first.state_root, "the first of a block counts");
    }

    #[test]
    fn numbers_and_names_of_results_are_stable() {
        let all: Vec<_> = ResultCode::ALL.into_iter().map(|code| (code.number(), code.name())).collect();
        let stable = [
            (0, "OK"),
            (1, "EXPIRED"),
            (2, "NONCE_TOO_LOW"),
            (3, "NONCE_TOO_HIGH"),
            (4, "FEE_TOO_LOW"),
            (5, "FEE_NOT_COVERED"),
            (6, "INSUFFICIENT_BALANCE"),
            (7, "FAUCET_DISABLED"),
            (8, "FAUCET_LIMIT"),
            (9, "FAUCET_EMPTY"),
            (64, "RECEIPTS_DISABLED"),
            (65, "RECEIPT_WRONG_CHAIN"),
            (66, "UNKNOWN_COORDINATOR"),
            (67, "TOO_FEW_ATTESTATIONS"),
            (68, "RECEIPT_EXPIRED"),
            (69, "RECEIPT_CLAIMED"),
            (70, "SUPPLY_EXHAUSTED"),
            (71, "EPOCH_CAP_REACHED"),
            (72, "PROVIDER_CAP_REACHED"),
            (80, "ESCROW_TIMEOUT_OUT_OF_RANGE"),
            (81, "ESCROW_EXISTS"),
            (82, "ESCROW_NOT_FOUND"),
            (83, "ESCROW_PAID"),
            (84, "ESCROW_TIMED_OUT"),
            (85, "ESCROW_NOT_TIMED_OUT"),
            (86, "ESCROW_OTHER_PROVIDER"),
        ];
        assert_eq!(all, stable);
        for code in ResultCode::ALL {
            assert_eq!(codec::decode::<ResultCode>(&codec::encode(&code)).expect("own bytes"), code);
        }
        assert!(codec::decode::<ResultCode>(&[10, 0]).is_err());
        assert_eq!(ResultCode::from_number(10), None);
    }

    #[test]
    fn a_result_is_proven_by_its_path_to_the_results_root() {
        let executed = run(&start(), vec![tx(1, 0, 2, pay(2, 1)), tx(2, 5, 2, pay(2, 2)), tx(2, 0, 9, pay(1, 3))]);
        let leaves: Vec<_> = executed.results.iter().map(|result| merkle::leaf(&codec::encode(result))).collect();
        for (i, leaf) in leaves.iter().enumerate() {
            assert!(merkle::verify(leaf, i, leaves.len(), &merkle::path(&leaves, i), &executed.results_root));
        }
    }

    /// The rules once more, as plainly as they can be said: a map that is copied before each transaction.
    mod model {
        use super::*;

        pub(super) type Accounts = BTreeMap<Address, (u64, u64)>;

        fn move_units(map: &mut Accounts, from: Address, to: Address, amount: u64) -> bool {
            let have = map.get(&from).map_or(0, |a| a.0);
            if have < amount {
                return false;
            }
            map.entry(from).or_default().0 -= amount;
            map.entry(to).or_default().0 += amount;
            true
        }

        pub(super) fn apply(
            map: &mut Accounts,
            pot: Address,
            rules: &Rules,
            height: u64,
            tx: &Transaction,
        ) -> ResultCode {
            let sender = tx.sender.address();
            let (balance, nonce) = map.get(&sender).copied().unwrap_or_default();
            let faucet = matches!(tx.action, Action::Faucet(_));
            if height > tx.expiry_height {
                return ResultCode::Expired;
            }
            if tx.nonce != nonce {
                return if tx.nonce < nonce { ResultCode::NonceTooLow } else { ResultCode::NonceTooHigh };
            }
            if !faucet && tx.fee < rules.min_fee {
                return ResultCode::FeeTooLow;
            }
            if balance < tx.fee {
                return ResultCode::FeeNotCovered;
            }
            let before = map.clone();
            map.entry(sender).or_default().1 += 1;
            assert!(move_units(map, sender, pot, tx.fee));
            let with_fee = map.clone();
            let (from, payments) = match &tx.action {
                Action::Transfer(payment) => (sender, vec![payment.clone()]),
                Action::TransferMany { payments } => (sender, payments.clone()),
                Action::Faucet(payment) => (faucet_address(), vec![payment.clone()]),
                other => unreachable!("{other:?} is for the reference model"),
            };
            if faucet {
                let failure = match rules.faucet {
                    None => Some(ResultCode::FaucetDisabled),
                    Some(most) if payments[0].amount > most => Some(ResultCode::FaucetLimit),
                    Some(_) if !move_units(map, from, payments[0].to, payments[0].amount) => {
                        Some(ResultCode::FaucetEmpty)
                    }
                    Some(_) => None,
                };
                if let Some(code) = failure {
                    *map = before;
                    return code;
                }
                return ResultCode::Ok;
            }
            // All leave before any arrives: paying oneself does not fund the next payment.
            let total: u64 = payments.iter().map(|p| p.amount).sum();
            let hand = Address([255; 20]);
            if !move_units(map, from, hand, total) {
                *map = with_fee;
                return ResultCode::InsufficientBalance;
            }
            for payment in payments {
                assert!(move_units(map, hand, payment.to, payment.amount));
            }
            ResultCode::Ok
        }
    }

    fn random_tx(rng: &mut StdRng, nonces: &model::Accounts) -> Transaction {
        let sender = rng.random_range(1..8);
        let nonce = nonces.get(&address(sender)).map_or(0, |account| account.1);
        let amount = rng.random_range(1..60);
        let to = rng.random_range(1..10);
        let action = match rng.random_range(0..4) {
            0 => ask(to, amount),
            1 => pay_many(&[(to, amount), (rng.random_range(1..10), rng.random_range(1..40))]),
            _ => pay(to, amount),
        };
        let nonce = if rng.random_bool(0.1) { rng.random_range(0..nonce + 3) } else { nonce };
        let fee = if rng.random_bool(0.05) { rng.random_range(0..500) } else { rng.random_range(1..6) };
        let expiry_height = if rng.random_bool(0.05) { 1 } else { 1_000 };
        Transaction { expiry_height, ..tx(sender, nonce, fee, action) }
    }

    #[test]
    fn random_blocks_end_as_the_plain_model_does_and_no_unit_is_made_or_lost() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..150 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut rules = rules();
            if seed % 10 == 0 {
                rules.faucet = None;
            }
            let (mut state, pot) = (start(), Address([254; 20]));
            let mut map: model::Accounts =
                state.iter().map(|(a, account)| (a, (account.balance, account.nonce))).collect();
            let supply: u64 = map.values().map(|a| a.0).sum();
            for height in 2..20 {
                let proposer = address(rng.random_range(8..10));
                let mut batches = Vec::new();
                let mut expected = Vec::new();
                for _ in 0..rng.random_range(0..3) {
                    let mut txs = Vec::new();
                    for _ in 0..rng.random_range(1..12) {
                        let tx = random_tx(&mut rng, &map);
                        expected.push(model::apply(&mut map, pot, &rules, height, &tx));
                        txs.push(tx);
                    }
                    batches.push(verified(txs));
                }
                let fees = map.remove(&pot).map_or(0, |account| account.0);
                map.entry(proposer).or_default().0 += fees;

                let executed = execute(&state, &rules, &Context::plain(height, proposer), &batches);
                assert_eq!(codes(&executed), expected, "seed {seed}, height {height}");
                assert_eq!(executed.fees, fees, "seed {seed}");
                assert_eq!(executed.results.iter().map(|r| r.fee).sum::<u64>(), fees, "seed {seed}");
                seen.extend(expected);
                check_changed(&state, &executed, seed);
                state = executed.state;
                let plain: model::Accounts = map.iter().filter(|(_, a)| **a != (0, 0)).map(|(k, v)| (*k, *v)).collect();
                let got: model::Accounts = state.iter().map(|(k, a)| (k, (a.balance, a.nonce))).collect();
                assert_eq!(got, plain, "seed {seed}, height {height}");
                assert_eq!(got.values().map(|a| a.0).sum::<u64>(), supply, "seed {seed}");
            }
        }
        let payments = ResultCode::ALL.into_iter().filter(|code| !code.is_of_receipts());
        assert_eq!(seen, payments.collect(), "every result must come up");
    }

    /// `changed` names each account that differs, once, with its last value.
    fn check_changed(before: &State, executed: &Executed, seed: u64) {
        let mut again = before.clone();
        for (address, account) in &executed.changed {
            assert_ne!(before.account(address), *account, "seed {seed}");
            again.set(*address, *account);
        }
        again.set_records(&executed.changed_records);
        assert_eq!(again.root(), executed.state_root, "seed {seed}");
        assert!(executed.changed.windows(2).all(|pair| pair[0].0 < pair[1].0), "seed {seed}");
    }

    #[test]
    fn a_chain_starts_with_the_accounts_of_genesis_and_the_faucet() {
        let text = format!(
            r#"{{"chain_id":"t","mode":"poa","validators":[{{"public_key":"{}"}}],
                "accounts":[{{"address":"{}","balance":7}}],"faucet":{{"balance":9,"max_amount":3}}}}"#,
            crate::key::SecretKey::from_seed([1; 32]).public(),
            address(1)
        );
        let genesis = Genesis::from_json(&text).expect("valid");
        let state = State::from_genesis(&genesis);
        assert_eq!((state.len(), holds(&state, 1)), (2, (7, 0)));
        assert_eq!(state.account(&faucet_address()).balance, 9);
        assert_eq!(
            Rules::of(&genesis),
            Rules { chain: genesis.hash(), min_fee: 1, faucet: Some(3), ..Rules::default() }
        );
    }
}
