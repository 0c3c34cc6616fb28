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
//! | receipts and escrows: see `receipts`; stakes and votes: see `stake` | one of their codes | **yes** |
//! | then it happens | `OK` | yes |
//!
//! Fees go to the proposer after the last transaction, so it cannot spend in a block what it earns in it, nor its share in
//! the block reward. Only receipts and that reward create units, only offences destroy some: after every block, all balances
//! and all that is at stake, unbonding or locked for jobs add up to genesis' supply, plus what was minted and minus what
//! was burnt (record `Supply`).
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
use crate::key::{Address, PublicKey};
use crate::merkle;
use crate::params::MAX_SUPPLY;
use crate::record::{Record, RecordChange, RecordKey};
pub use crate::result_code::ResultCode;
use crate::staking::{self, MAX_COUNTED_SKIPS, motion::Terms};
use crate::state::{Account, State, key_of};
use crate::supply::Supply;
use crate::transaction::{Action, Payment, Transaction};
use crate::validators::{Validator, ValidatorSet};
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

mod receipts;
mod sets;
mod stake;

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
    /// Smallest units at height 0, those at stake among them.
    pub supply: u64,
    /// Terms of receipts; `None`: they are worth nothing.
    pub receipts: Option<ReceiptRules>,
    /// Who may validate, with what at stake.
    pub staking: staking::Rules,
    /// Sets of epochs 2, 3, … and the last one for ever: of simulations and tests, for who validates is none of their
    /// business. Empty on every chain: its state says it (E1).
    pub scheduled: Vec<Arc<ValidatorSet>>,
}

impl Rules {
    /// The rules of a chain; its genesis was checked, else receipts mint nothing.
    pub fn of(genesis: &Genesis) -> Rules {
        Rules {
            chain: genesis.hash(),
            min_fee: genesis.parameters.min_fee,
            faucet: genesis.faucet.as_ref().map(|faucet| faucet.max_amount),
            supply: genesis.supply().unwrap_or(MAX_SUPPLY),
            receipts: genesis
                .receipts
                .as_ref()
                .map(|terms| ReceiptRules { chain_id: genesis.chain_id.clone(), terms: terms.clone() }),
            staking: staking::Rules::of(genesis),
            scheduled: Vec::new(),
        }
    }
}

impl State {
    /// The state at height 0: the accounts of genesis and the faucet's, and its validators as candidates.
    pub fn from_genesis(genesis: &Genesis) -> State {
        let accounts = genesis.accounts.iter().map(|a| (a.address, a.balance));
        let faucet = genesis.faucet.iter().map(|f| (faucet_address(), f.balance));
        let accounts = accounts.chain(faucet).map(|(address, balance)| (address, Account { balance, nonce: 0 }));
        State::from_parts(accounts, stake::records_of(genesis))
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
    /// Epoch of the block.
    pub epoch: u64,
    /// Height of the block.
    pub height: u64,
    /// Whether it is the first block of its epoch.
    pub is_first: bool,
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who earns the fees.
    pub proposer: Address,
    /// The epoch's set; `None`: it has nobody.
    pub set: Option<Arc<ValidatorSet>>,
    /// Consensus key of the proposer; `None` where it is no member.
    pub leader: Option<PublicKey>,
    /// Who should have led the slots skipped before this one, of the last [`MAX_COUNTED_SKIPS`].
    pub missed: Vec<PublicKey>,
    /// What its evidence proves (X5).
    pub offences: Vec<Offence>,
}

impl Context {
    /// Of a header that passed V1 and V7, with the sets of its epoch. A proposer outside the set, which no such header has,
    /// is the zero address. Evidence is judged by the set of its own epoch (X1).
    pub fn of(header: &Header, sets: &Sets) -> Context {
        let Header { epoch, slot, parent_slot, .. } = *header;
        let set = &sets.current;
        let first_counted = parent_slot.saturating_add(1).max(slot.saturating_sub(MAX_COUNTED_SKIPS));
        let leader_of = |slot| set.get(set.leader(epoch, slot)).map(|member| member.key);
        Context {
            epoch,
            height: header.height,
            // Slot 0 is the floor: the last block of the epoch before (M4).
            is_first: parent_slot == 0,
            time_ms: header.time_ms,
            proposer: set.address(header.proposer).unwrap_or_default(),
            set: Some(set.clone()),
            leader: set.get(header.proposer).map(|member| member.key),
            missed: (first_counted..slot).filter_map(leader_of).collect(),
            offences: header.evidence.iter().filter_map(|e| e.offence(sets.of(e.epoch())?)).collect(),
        }
    }

    /// Members of the set, by ascending key.
    fn members(&self) -> &[Validator] {
        self.set.as_ref().map_or(&[], |set| set.members())
    }

    /// 0: it is no member.
    fn weight(&self, key: &PublicKey) -> u64 {
        self.set.as_ref().map_or(0, |set| set.weight_of(key))
    }

    /// Of a block at time 0 that has nothing but transactions.
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
    let terms = parent.terms(rules);
    let mut block = Block { rules, context, terms, accounts: Touched::new(parent) };
    if let Some(set) = context.set.as_ref().filter(|_| context.is_first && context.epoch > 0) {
        block.e1_write_next_set(set);
    }
    for offence in &context.offences {
        block.x5_record(offence);
    }
    block.begin();
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
        block.credit(context.proposer, fees);
    }
    block.reward();
    let (state, changed, changed_records) = block.accounts.into_state();
    let (state_root, results_root) = (state.root(), results_root(&results));
    Executed { state, results, state_root, results_root, changed, changed_records, fees }
}

/// # Panics
/// See [`execute`].
fn sum(a: u64, b: u64) -> u64 {
    match a.checked_add(b) {
        Some(sum) => sum,
        None => unreachable!("balances {a} and {b}: the supply is bounded"),
    }
}

/// The accounts a block touches, each read from the parent's state once, and the records it writes.
struct Touched<'a> {
    parent: &'a State,
    slots: HashMap<Address, usize>,
    accounts: Vec<Touch>,
    records: BTreeMap<RecordKey, Option<Record>>,
}

/// An account before the block, and as the block so far leaves it.
struct Touch {
    /// Its place in the state, hashed once for both states.
    key: Hash,
    address: Address,
    before: Account,
    after: Account,
}

impl<'a> Touched<'a> {
    fn new(parent: &'a State) -> Self {
        Touched { parent, slots: HashMap::new(), accounts: Vec::new(), records: BTreeMap::new() }
    }

    fn slot(&mut self, address: Address) -> usize {
        match self.slots.entry(address) {
            Entry::Occupied(slot) => *slot.get(),
            Entry::Vacant(slot) => {
                let key = key_of(&address);
                let before = self.parent.get_at(&key, &address).unwrap_or_default();
                self.accounts.push(Touch { key, address, before, after: before });
                *slot.insert(self.accounts.len() - 1)
            }
        }
    }

    fn get(&mut self, slot: usize) -> &mut Account {
        &mut self.accounts[slot].after
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

    /// The state after the block, and what of it differs from before: accounts by address, records by key.
    fn into_state(self) -> (State, Vec<(Address, Account)>, Vec<RecordChange>) {
        let parent = self.parent;
        let differs = |(key, record): &RecordChange| parent.record(key) != record.as_ref();
        let records: Vec<RecordChange> = self.records.into_iter().filter(differs).collect();
        let changed = || self.accounts.iter().filter(|touch| touch.before != touch.after);
        let mut state = parent.clone();
        state.set_many_at(changed().map(|touch| (touch.key, touch.address, touch.after)));
        state.set_records(&records);
        let mut accounts: Vec<_> = changed().map(|touch| (touch.address, touch.after)).collect();
        accounts.sort_unstable_by_key(|(address, _)| *address);
        (state, accounts, records)
    }
}

struct Block<'a> {
    rules: &'a Rules,
    context: &'a Context,
    /// As they were after the parent: a change is from the next block on.
    terms: Terms,
    accounts: Touched<'a>,
}

impl Block<'_> {
    /// **X4, X5.** Writes that a key misbehaved in this way in this epoch, once.
    fn x5_record(&mut self, offence: &Offence) {
        let key = RecordKey::nullifier(offence);
        if self.accounts.record(&key).is_some() {
            return;
        }
        let record = Record::Evidence { slot: offence.slot, height: self.context.height };
        self.accounts.set_record(key, Some(record));
        self.punish(offence);
    }

    fn apply(&mut self, tx: &Transaction) -> ResultCode {
        if self.context.height > tx.expiry_height {
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
        if tx.fee < tx.action.least_fee(self.terms.min_fee) {
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
            Action::Bond(_)
            | Action::Unbond(_)
            | Action::Activate { .. }
            | Action::Unjail
            | Action::AuthorityVote(_) => self.charged(sender, after_fee, |block| block.stake(sender, tx)),
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
            self.credit(payment.to, payment.amount);
        }
        ResultCode::Ok
    }

    fn credit(&mut self, to: Address, amount: u64) {
        let slot = self.accounts.slot(to);
        self.accounts.credit(slot, amount);
    }

    /// What was minted and burnt, as the block so far leaves it.
    fn supply(&self) -> Supply {
        match self.accounts.record(&RecordKey::Supply) {
            Some(Record::Supply(supply)) => *supply,
            _ => Supply::default(),
        }
    }

    fn set_supply(&mut self, supply: Supply) {
        let record = (supply != Supply::default()).then_some(Record::Supply(supply));
        self.accounts.set_record(RecordKey::Supply, record);
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
        self.credit(payment.to, payment.amount);
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
        let executed = run(&start(), vec![tx(1, 0, 8, pay_many(&[(2, 10), (3, 20), (1, 5), (3, 1)]))]);
        assert_eq!(codes(&executed), [ResultCode::Ok]);
        assert_eq!(holds(&executed.state, 1), (61, 1));
        assert_eq!((holds(&executed.state, 2), holds(&executed.state, 3)), ((110, 0), (21, 0)));
        let executed = run(&start(), vec![tx(1, 0, 4, pay_many(&[(2, 10), (3, 89)]))]);
        assert_eq!(codes(&executed), [ResultCode::InsufficientBalance]);
        assert_eq!((holds(&executed.state, 1), holds(&executed.state, 2)), ((96, 1), (100, 0)));
        let executed = run(&start(), vec![tx(1, 0, 3, pay_many(&[(2, 10), (3, 9)]))]);
        assert_eq!(codes(&executed), [ResultCode::FeeTooLow], "the least fee is 2 for each");
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
        let is_evidence = |(key, _): &&RecordChange| matches!(key, RecordKey::Evidence { .. });
        assert_eq!(executed.changed_records.iter().filter(is_evidence).cloned().collect::<Vec<_>>(), expected);
        for (key, record) in &expected {
            assert_eq!(executed.state.record(key), record.as_ref());
        }
        assert_eq!(executed.state.len(), start().len() + 4, "two records, the candidate and the proposer");
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
            let key = RecordKey::nullifier(&other);
            assert!(first.state.record(&key).is_none() && third.state.record(&key).is_some(), "{other:?}");
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
            (10, "BOND_TOO_SMALL"),
            (11, "UNBOND_TOO_MUCH"),
            (12, "UNBONDINGS_FULL"),
            (13, "NOT_OWNER"),
            (14, "NOT_ACTIVATED"),
            (15, "ALREADY_ACTIVE"),
            (16, "NOT_JAILED"),
            (17, "STILL_JAILED"),
            (18, "NOT_ADMITTED"),
            (19, "STAKING_DISABLED"),
            (20, "NOT_AN_AUTHORITY"),
            (21, "ALREADY_VOTED"),
            (22, "VOTES_FULL"),
            (23, "MOTION_POINTLESS"),
            (24, "PARAMETER_OUT_OF_RANGE"),
            (25, "UPGRADE_OUT_OF_RANGE"),
            (26, "CANDIDATES_FULL"),
            (27, "BOND_TOO_LARGE"),
            (64, "RECEIPTS_DISABLED"),
            (65, "RECEIPT_WRONG_CHAIN"),
            (66, "UNKNOWN_COORDINATOR"),
            (67, "TOO_FEW_ATTESTATIONS"),
            (68, "RECEIPT_EXPIRED"),
            (69, "RECEIPT_CLAIMED"),
            (70, "SUPPLY_EXHAUSTED"),
            (71, "EPOCH_CAP_REACHED"),
            (72, "PROVIDER_CAP_REACHED"),
            (73, "RECEIPT_FROM_FUTURE"),
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
        assert!(codec::decode::<ResultCode>(&[28, 0]).is_err());
        assert_eq!(ResultCode::from_number(28), None);
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
            let payments = if let Action::TransferMany { payments } = &tx.action { payments.len() as u64 } else { 1 };
            if !faucet && tx.fee < rules.min_fee * payments {
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
        let payments: std::collections::BTreeSet<_> =
            ResultCode::ALL.into_iter().filter(|code| *code <= ResultCode::FaucetEmpty).collect();
        assert_eq!(seen, payments, "every result of a payment must come up");
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
        assert_eq!((state.iter().count(), holds(&state, 1)), (2, (7, 0)));
        assert_eq!(state.account(&faucet_address()).balance, 9);
        let rules = Rules::of(&genesis);
        let expected = Rules {
            chain: genesis.hash(),
            min_fee: 1,
            faucet: Some(3),
            supply: 16,
            receipts: None,
            staking: staking::Rules::default(),
            scheduled: Vec::new(),
        };
        assert_eq!(rules, expected);
    }
}
