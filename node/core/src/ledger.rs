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
//! Fees go to the proposer after the last transaction, so it cannot spend in a block what it earns in it. Nothing creates
//! or destroys units: the sum of all balances is that of genesis after every block.
//!
//! A transaction can be in two batches, sealed by two validators. At most one of its results has an effect, because that
//! one uses up its nonce; whoever keeps results by id must let that one stand over the others.

use crate::batch::VerifiedBatch;
use crate::codec;
use crate::genesis::{Genesis, faucet_address};
use crate::hash::Hash;
use crate::key::Address;
use crate::merkle;
use crate::state::{Account, State};
use crate::transaction::{Action, Payment, Transaction};
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What every validator must apply alike; from genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Genesis hash: the chain that transactions are signed for.
    pub chain: Hash,
    /// Least fee in smallest units; `Faucet` needs none.
    pub min_fee: u64,
    /// Most units of one `Faucet` transaction; `None`: there is no faucet.
    pub faucet: Option<u64>,
}

impl Rules {
    /// The rules of a chain.
    pub fn of(genesis: &Genesis) -> Rules {
        Rules {
            chain: genesis.hash(),
            min_fee: genesis.parameters.min_fee,
            faucet: genesis.faucet.as_ref().map(|faucet| faucet.max_amount),
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
}

impl ResultCode {
    /// All, in the order of their numbers.
    pub const ALL: [ResultCode; 10] = [
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
    ];

    /// Stable number.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Code of a number.
    pub fn from_number(number: u16) -> Option<ResultCode> {
        ResultCode::ALL.get(usize::from(number)).copied()
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
        }
    }

    /// False where a pool should try the transaction again: only a nonce that is too high comes right by itself.
    pub fn is_final(self) -> bool {
        self != ResultCode::NonceTooHigh
    }

    /// True where the fee was taken and the nonce used: of all results of one id, at most one.
    pub fn had_effect(self) -> bool {
        matches!(self, ResultCode::Ok | ResultCode::InsufficientBalance)
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
    /// Smallest units the proposer earned.
    pub fees: u64,
}

/// Root over results as the next header has it; zero for a block without transactions.
pub fn results_root(results: &[TxResult]) -> Hash {
    let leaves: Vec<Hash> = results.iter().map(|result| merkle::leaf(&codec::encode(result))).collect();
    merkle::root(&leaves)
}

/// Executes a block of height `height` on its parent's state. Deterministic; the batches were verified before.
///
/// # Panics
/// Where balances add up to more than `u64`, which no state can that grew from a checked genesis.
pub fn execute<'a>(
    parent: &State,
    rules: &Rules,
    height: u64,
    proposer: Address,
    batches: impl IntoIterator<Item = &'a VerifiedBatch>,
) -> Executed {
    let mut block = Block { rules, height, accounts: Touched::new(parent) };
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
        let proposer = block.accounts.slot(proposer);
        block.accounts.credit(proposer, fees);
    }
    let changed = block.accounts.into_changed();
    let mut state = parent.clone();
    for (address, account) in &changed {
        state.set(*address, *account);
    }
    let (state_root, results_root) = (state.root(), results_root(&results));
    Executed { state, results, state_root, results_root, changed, fees }
}

/// # Panics
/// See [`execute`].
fn sum(a: u64, b: u64) -> u64 {
    match a.checked_add(b) {
        Some(sum) => sum,
        None => unreachable!("balances {a} and {b}: genesis bounds the supply and no transaction raises it"),
    }
}

/// The accounts a block touches, each read from the parent's state once.
struct Touched<'a> {
    parent: &'a State,
    slots: HashMap<Address, usize>,
    accounts: Vec<(Address, Account, Account)>,
}

impl<'a> Touched<'a> {
    fn new(parent: &'a State) -> Self {
        Touched { parent, slots: HashMap::new(), accounts: Vec::new() }
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

    fn into_changed(self) -> Vec<(Address, Account)> {
        let differs = |(address, before, after)| (before != after).then_some((address, after));
        let mut changed: Vec<_> = self.accounts.into_iter().filter_map(differs).collect();
        changed.sort_unstable_by_key(|(address, _)| *address);
        changed
    }
}

struct Block<'a> {
    rules: &'a Rules,
    height: u64,
    accounts: Touched<'a>,
}

impl Block<'_> {
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
        }
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
