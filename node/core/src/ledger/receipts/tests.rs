//! Each question to a receipt or an escrow, answered with yes and with no; what is minted, paid and kept.

use super::super::{Context, Executed, Rules, execute};
use super::*;
use crate::batch::{Batch, VerifiedBatch};
use crate::hash::plain;
use crate::key::{SecretKey, Signature};
use crate::params::{MAX_ESCROW_AHEAD, MAX_SUPPLY};
use crate::receipt::{Extra, Text};
use crate::state::{Account, State};
use crate::supply::Supply;
use crate::terms::Coordinator;
use crate::transaction::{Action, SignedTransaction, Transaction};
use std::sync::Arc;

const HEIGHT: u64 = 10;
const DONE: u64 = 1_000_000;
const EXPIRY: u64 = 60;
/// Senders have this much.
const FUNDS: u64 = 10_000;

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn address(n: u8) -> Address {
    key(n).public().address()
}

const SENDER: u8 = 1;
const CLIENT: u8 = 2;
const PROVIDER: u8 = 7;
const COORDINATORS: [u8; 3] = [11, 12, 13];
const PROPOSER: u8 = 9;

fn rules() -> Rules {
    let coordinator = |n| Coordinator { public_key: key(n).public() };
    let terms = Terms {
        mint_per_unit: 10,
        coordinator_parts_per_million: 200_000,
        coordinators: COORDINATORS.map(coordinator).to_vec(),
        coordinator_threshold: 2,
        epoch_cap: 5_000,
        provider_epoch_cap: 4_000,
        expiry_seconds: EXPIRY,
    };
    let receipts = Some(ReceiptRules { chain_id: "devnet".into(), terms });
    Rules { chain: plain(b"chain"), min_fee: 0, supply: 2 * FUNDS, receipts, ..Rules::default() }
}

fn with_terms(change: impl FnOnce(&mut ReceiptRules)) -> Rules {
    let mut rules = rules();
    change(rules.receipts.as_mut().expect("terms"));
    rules
}

fn start() -> State {
    let funded = |n| (address(n), Account { balance: FUNDS, nonce: 0 });
    State::from_accounts([funded(SENDER), funded(CLIENT)])
}

fn name<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).expect("text")
}

fn receipt(id: &str, units: u64) -> Receipt {
    Receipt {
        chain_id: Some(name("devnet")),
        ..Receipt::required(
            (name(id), name("job")),
            key(PROVIDER).public(),
            address(CLIENT),
            (units, name("gpu_seconds")),
            (DONE - 5, DONE),
        )
    }
}

/// Attested by these keys, coordinators or not.
fn by(coordinators: &[u8], receipt: Receipt) -> Box<AttestedReceipt> {
    let keys: Vec<SecretKey> = coordinators.iter().map(|n| key(*n)).collect();
    Box::new(receipt.attest(&rules().chain, &key(PROVIDER), &keys.iter().collect::<Vec<_>>()))
}

fn claim(receipt: Receipt) -> Action {
    Action::ClaimReceipt(by(&[11, 12], receipt))
}

fn release(receipt: Receipt) -> Action {
    Action::ReleaseEscrow(by(&[11, 12], receipt))
}

fn lock(amount: u64, timeout_height: u64) -> Action {
    Action::LockEscrow(Lock { job_id: name("job"), provider: None, amount, timeout_height })
}

fn refund() -> Action {
    Action::RefundEscrow { job_id: name("job") }
}

fn transaction(sender: u8, nonce: u64, action: Action) -> SignedTransaction {
    let sender = key(sender).public();
    let transaction = Transaction { sender, nonce, fee: 2, expiry_height: u64::MAX, action };
    SignedTransaction { transaction, signature: Signature([0; 64]) }
}

/// A chain that runs one block after another.
struct Chain {
    rules: Rules,
    state: State,
    epoch: u64,
    height: u64,
    time: u64,
    fees: u64,
}

impl Chain {
    fn new() -> Chain {
        Chain::with(rules())
    }

    fn with(rules: Rules) -> Chain {
        Chain { rules, state: start(), epoch: 0, height: HEIGHT, time: DONE, fees: 0 }
    }

    /// A block of actions by senders with a fee of 2; nonces are as they should be.
    fn block(&mut self, actions: Vec<(u8, Action)>) -> Executed {
        let mut nonces = std::collections::HashMap::new();
        let txs = actions.into_iter().map(|(sender, action)| {
            let nonce = nonces.entry(sender).or_insert_with(|| self.state.account(&address(sender)).nonce);
            *nonce += 1;
            transaction(sender, *nonce - 1, action)
        });
        let txs = txs.collect();
        self.batches(vec![txs])
    }

    /// A block of batches, each of another author.
    fn batches(&mut self, batches: Vec<Vec<SignedTransaction>>) -> Executed {
        let (seq, signature) = (self.height, Signature([0; 64]));
        let sealed = |(author, txs)| {
            let batch = Batch { epoch: 0, author, seq, expiry_height: seq, txs, signature };
            let digest = batch.digest();
            VerifiedBatch::trusted(Arc::new(batch), digest, &self.rules.chain)
        };
        let batches: Vec<VerifiedBatch> = (0..).zip(batches).map(sealed).collect();
        let plain = Context::plain(self.height, address(PROPOSER));
        let context = Context { epoch: self.epoch, time_ms: self.time * 1_000, ..plain };
        let executed = execute(&self.state, &self.rules, &context, &batches);
        self.fees += executed.fees;
        self.state = executed.state.clone();
        self.height += 1;
        self.check_supply();
        executed
    }

    fn code(&mut self, sender: u8, action: Action) -> ResultCode {
        self.block(vec![(sender, action)]).results[0].code
    }

    fn holds(&self, n: u8) -> u64 {
        self.state.account(&address(n)).balance
    }

    fn supply(&self) -> (u64, u64) {
        let Supply { minted, burnt } = self.state.supply();
        (minted, burnt)
    }

    /// Balances and what is locked are genesis and what was minted less what was burnt.
    fn check_supply(&self) {
        let balances: u64 = self.state.iter().map(|(_, account)| account.balance).sum();
        let locked = |(_, record): (&RecordKey, &Record)| match record {
            Record::Escrow { amount, .. } => *amount,
            _ => 0,
        };
        let locked: u64 = self.state.records().map(locked).sum();
        let (minted, burnt) = self.supply();
        assert_eq!(balances + locked, 2 * FUNDS + minted - burnt, "height {}", self.height);
    }

    /// Refused with this code: only fee and nonce are gone.
    fn refuses(mut self, sender: u8, action: Action, code: ResultCode) {
        let (before, records) = (self.state.clone(), self.state.records().count());
        let executed = self.block(vec![(sender, action)]);
        let result = executed.results[0];
        assert_eq!((result.code, result.fee), (code, 2));
        assert!(code.had_effect() && code.is_final());
        let mut expected: Vec<(Address, Account)> = vec![(address(sender), before.account(&address(sender)))];
        expected[0].1.balance -= 2;
        expected[0].1.nonce += 1;
        let others = executed.changed.iter().filter(|(who, _)| *who != address(PROPOSER));
        assert_eq!(others.copied().collect::<Vec<_>>(), expected);
        assert!(executed.changed_records.is_empty());
        assert_eq!(self.state.records().count(), records);
    }
}

#[test]
fn a_receipt_mints_for_provider_and_coordinators_and_leaves_its_record() {
    let mut chain = Chain::new();
    assert_eq!(chain.code(SENDER, claim(receipt("a", 33))), ResultCode::Ok);
    // 330: a fifth is 66, 22 for each of three, of whom two attest.
    assert_eq!((chain.holds(PROVIDER), chain.holds(11), chain.holds(12), chain.holds(13)), (286, 22, 22, 0));
    assert_eq!((chain.supply(), chain.holds(SENDER)), ((330, 0), FUNDS - 2));
    let key = RecordKey::Receipt { nullifier: receipt("a", 33).nullifier() };
    let record = Record::Receipt { digest: receipt("a", 33).digest(), height: HEIGHT, minted: 330 };
    assert_eq!(chain.state.record(&key), Some(&record));
}

#[test]
fn a_receipt_mints_once_however_it_comes_again() {
    let mut chain = Chain::new();
    assert_eq!(chain.code(SENDER, claim(receipt("a", 1))), ResultCode::Ok);
    let other_words = Receipt { metadata: Some(vec![(name("again"), Extra::Number(1))]), ..receipt("a", 99) };
    let all = Action::ClaimReceipt(by(&COORDINATORS, receipt("a", 1)));
    let others = Action::ClaimReceipt(by(&[12, 13], receipt("a", 1)));
    let other_job = Receipt { job_id: name("job 2"), client: address(SENDER), chain_id: None, ..receipt("a", 1) };
    for again in [claim(receipt("a", 1)), all, others, claim(other_words), claim(other_job)] {
        assert_eq!(chain.code(CLIENT, again), ResultCode::ReceiptClaimed);
    }
    assert_eq!(chain.supply(), (10, 0));
    assert_eq!(chain.code(SENDER, claim(receipt("b", 1))), ResultCode::Ok, "another receipt is another");
    let executed = Chain::new().block(vec![(SENDER, claim(receipt("a", 1))), (CLIENT, claim(receipt("a", 1)))]);
    let codes: Vec<_> = executed.results.iter().map(|result| result.code).collect();
    assert_eq!(codes, [ResultCode::Ok, ResultCode::ReceiptClaimed], "twice in one block");
}

/// As it comes to two validators in the same millisecond: each seals it, and one block has both batches.
#[test]
fn a_receipt_in_two_batches_of_a_block_mints_once() {
    let run = |first: (u8, Action), second: (u8, Action)| {
        let mut chain = Chain::new();
        let [first, second] = [first, second].map(|(sender, action)| vec![transaction(sender, 0, action)]);
        let executed = chain.batches(vec![first, second]);
        let codes: Vec<_> = executed.results.iter().map(|result| result.code).collect();
        assert_eq!((chain.supply(), chain.holds(PROVIDER)), ((10, 0), 10), "{codes:?}");
        (codes, executed.fees)
    };
    let one = || claim(receipt("a", 1));
    let others = || Action::ClaimReceipt(by(&[12, 13], receipt("a", 1)));
    let claimed = vec![ResultCode::Ok, ResultCode::ReceiptClaimed];
    assert_eq!(run((SENDER, one()), (CLIENT, one())), (claimed.clone(), 4), "of two senders");
    assert_eq!(run((SENDER, one()), (CLIENT, others())), (claimed, 4), "attested by others");
    let used = vec![ResultCode::Ok, ResultCode::NonceTooLow];
    assert_eq!(run((SENDER, one()), (SENDER, one())), (used.clone(), 2), "the same transaction");
    assert_eq!(run((SENDER, one()), (SENDER, others())), (used, 2), "of one sender with one nonce");
}

#[test]
fn two_providers_may_use_the_same_receipt_id() {
    let mut chain = Chain::new();
    assert_eq!(chain.code(SENDER, claim(receipt("a", 1))), ResultCode::Ok);
    let other = Receipt { provider: key(8).public(), ..receipt("a", 1) };
    assert_eq!(chain.code(SENDER, claim(other)), ResultCode::Ok);
}

#[test]
fn without_terms_receipts_and_locks_are_refused() {
    let none = || Chain::with(Rules { receipts: None, ..rules() });
    none().refuses(SENDER, claim(receipt("a", 1)), ResultCode::ReceiptsDisabled);
    none().refuses(SENDER, release(receipt("a", 1)), ResultCode::ReceiptsDisabled);
    none().refuses(SENDER, lock(1, 20), ResultCode::ReceiptsDisabled);
}

#[test]
fn a_receipt_of_another_chain_is_refused_and_one_that_names_none_is_not() {
    let foreign = || Receipt { chain_id: Some(name("mainnet")), ..receipt("a", 1) };
    Chain::new().refuses(SENDER, claim(foreign()), ResultCode::ReceiptWrongChain);
    Chain::new().refuses(SENDER, release(foreign()), ResultCode::ReceiptWrongChain);
    assert_eq!(Chain::new().code(SENDER, claim(Receipt { chain_id: None, ..receipt("a", 1) })), ResultCode::Ok);
}

#[test]
fn an_attestation_by_no_coordinator_is_refused_even_beside_enough_others() {
    for keys in [&[11, 20][..], &[11, 12, 20]] {
        let forged = Action::ClaimReceipt(by(keys, receipt("a", 1)));
        Chain::new().refuses(SENDER, forged, ResultCode::UnknownCoordinator);
    }
}

#[test]
fn fewer_attestations_than_the_threshold_are_refused() {
    let one = Action::ClaimReceipt(by(&[13], receipt("a", 1)));
    Chain::new().refuses(SENDER, one, ResultCode::TooFewAttestations);
}

#[test]
fn what_a_coordinator_says_of_its_own_work_does_not_count() {
    let own = |keys: &[u8]| {
        let receipt = Receipt { provider: key(11).public(), ..receipt("a", 3) };
        Action::ClaimReceipt(by(keys, receipt))
    };
    Chain::new().refuses(SENDER, own(&[11, 12]), ResultCode::TooFewAttestations);
    let mut chain = Chain::new();
    assert_eq!(chain.code(SENDER, own(&[12, 13])), ResultCode::Ok);
    let mut chain = Chain::new();
    assert_eq!(chain.code(SENDER, own(&COORDINATORS)), ResultCode::Ok, "beside enough others it may be there");
    assert_eq!((chain.holds(11), chain.holds(12), chain.supply()), (26, 2, (30, 0)));
}

/// Whoever sees a claim that is pending can send the same receipt with fewer attestations and a higher fee.
#[test]
fn no_coordinator_earns_more_by_leaving_out_anothers_attestation() {
    for (keys, provider) in [(&COORDINATORS[..], 24), (&[11, 12], 26), (&[12, 13], 26)] {
        let mut chain = Chain::new();
        assert_eq!(chain.code(SENDER, Action::ClaimReceipt(by(keys, receipt("a", 3)))), ResultCode::Ok);
        // 30: a fifth is 6, 2 for each of three.
        assert!(keys.iter().all(|n| chain.holds(*n) == 2), "{keys:?}");
        assert_eq!(chain.holds(PROVIDER), provider, "{keys:?}");
    }
    let mut small = Chain::new();
    assert_eq!(small.code(SENDER, Action::ClaimReceipt(by(&COORDINATORS, receipt("a", 1)))), ResultCode::Ok);
    // 10: a fifth is 2, which three cannot share.
    assert_eq!((small.holds(PROVIDER), small.holds(11)), (10, 0));
}

#[test]
fn a_receipt_is_worth_something_until_its_last_second_and_nothing_after() {
    let mut last = Chain::new();
    last.time = DONE + EXPIRY;
    assert_eq!(last.code(SENDER, claim(receipt("a", 1))), ResultCode::Ok);
    let mut late = Chain::new();
    late.time = DONE + EXPIRY + 1;
    late.refuses(SENDER, claim(receipt("a", 1)), ResultCode::ReceiptExpired);
}

/// As a receipt in milliseconds is: it would not expire for 50,000 years.
#[test]
fn a_receipt_of_the_future_is_worth_nothing_yet_but_for_what_clocks_differ_by() {
    let ahead = |seconds| Receipt { completed_at: DONE + seconds, ..receipt("a", 1) };
    let locked = || {
        let mut chain = Chain::new();
        assert_eq!(chain.code(CLIENT, lock(500, 20)), ResultCode::Ok);
        chain
    };
    for wrong in [61, 1_000 * DONE, MAX_SUPPLY - DONE] {
        Chain::new().refuses(SENDER, claim(ahead(wrong)), ResultCode::ReceiptFromFuture);
        locked().refuses(SENDER, release(ahead(wrong)), ResultCode::ReceiptFromFuture);
    }
    assert_eq!(locked().code(SENDER, release(ahead(60))), ResultCode::Ok);
    let mut later = Chain::new();
    assert_eq!(later.code(SENDER, claim(ahead(61))), ResultCode::ReceiptFromFuture);
    later.time += 1;
    assert_eq!(later.code(SENDER, claim(ahead(61))), ResultCode::Ok, "it can come again");
}

#[test]
fn nothing_is_minted_over_the_greatest_supply() {
    let most = || Rules { supply: MAX_SUPPLY - 9, ..with_terms(|r| r.terms.mint_per_unit = 1) };
    Chain::with(most()).refuses(SENDER, claim(receipt("a", 10)), ResultCode::SupplyExhausted);
    assert_eq!(Chain::with(most()).code(SENDER, claim(receipt("a", 9))), ResultCode::Ok);
    let over = |units| claim(receipt("a", units));
    Chain::new().refuses(SENDER, over(MAX_SUPPLY), ResultCode::SupplyExhausted);
    Chain::new().refuses(SENDER, over(1 << 63), ResultCode::SupplyExhausted);
}

#[test]
fn an_epoch_mints_up_to_its_cap_and_the_next_one_anew() {
    let mut chain = Chain::new();
    let other = |id, units| claim(Receipt { provider: key(8).public(), ..receipt(id, units) });
    assert_eq!(chain.code(SENDER, claim(receipt("a", 400))), ResultCode::Ok);
    assert_eq!(chain.code(SENDER, other("a", 101)), ResultCode::EpochCapReached);
    assert_eq!(chain.code(SENDER, other("a", 100)), ResultCode::Ok, "a refused receipt can come again");
    assert_eq!(chain.code(SENDER, other("b", 1)), ResultCode::EpochCapReached);
    chain.epoch = 1;
    assert_eq!(chain.code(SENDER, other("b", 1)), ResultCode::Ok);
    let spent = Record::ReceiptCap { epoch: 1, minted: 10 };
    assert_eq!(chain.state.record(&RecordKey::ReceiptCap { provider: None }), Some(&spent));
}

#[test]
fn a_provider_mints_up_to_its_own_cap() {
    let mut chain = Chain::new();
    assert_eq!(chain.code(SENDER, claim(receipt("a", 399))), ResultCode::Ok);
    assert_eq!(chain.code(SENDER, claim(receipt("b", 2))), ResultCode::ProviderCapReached);
    assert_eq!(chain.code(SENDER, claim(receipt("b", 1))), ResultCode::Ok);
    let other = Receipt { provider: key(8).public(), ..receipt("b", 1) };
    assert_eq!(chain.code(SENDER, claim(other)), ResultCode::Ok);
    chain.epoch = 1;
    assert_eq!(chain.code(SENDER, claim(receipt("c", 400))), ResultCode::Ok);
}

#[test]
fn a_receipt_that_mints_nothing_is_still_claimed_once() {
    let mut chain = Chain::with(with_terms(|r| r.terms.mint_per_unit = 0));
    assert_eq!(chain.code(SENDER, claim(receipt("a", 5))), ResultCode::Ok);
    assert_eq!(chain.code(SENDER, claim(receipt("a", 5))), ResultCode::ReceiptClaimed);
    assert_eq!((chain.supply(), chain.state.records().count()), ((0, 0), 1));
}

#[test]
fn a_lock_takes_the_units_and_a_receipt_pays_all_of_them_where_it_names_no_price() {
    let mut chain = Chain::new();
    assert_eq!(chain.code(CLIENT, lock(500, 20)), ResultCode::Ok);
    assert_eq!(chain.holds(CLIENT), FUNDS - 502);
    assert_eq!(chain.code(SENDER, release(receipt("a", 1))), ResultCode::Ok);
    assert_eq!((chain.holds(CLIENT), chain.holds(PROVIDER)), (FUNDS - 502, 500));
    let record =
        Record::Escrow { client: address(CLIENT), provider: Some(address(PROVIDER)), amount: 0, timeout_height: 20 };
    assert_eq!(chain.state.record(&RecordKey::Escrow { job: receipt("a", 1).job() }), Some(&record));
}

#[test]
fn a_price_is_paid_up_to_what_is_locked_and_the_rest_goes_back() {
    for (price, paid) in [(0, 0), (120, 120), (500, 500), (501, 500), (MAX_SUPPLY, 500)] {
        let mut chain = Chain::new();
        assert_eq!(chain.code(CLIENT, lock(500, 20)), ResultCode::Ok);
        let priced = Receipt { price: Some(price), ..receipt("a", 1) };
        assert_eq!(chain.code(SENDER, release(priced)), ResultCode::Ok);
        assert_eq!((chain.holds(PROVIDER), chain.holds(CLIENT)), (paid, FUNDS - 2 - paid), "price {price}");
    }
}

#[test]
fn the_same_receipt_mints_and_releases_in_either_order() {
    for claim_first in [true, false] {
        let mut chain = Chain::new();
        let (one, other) = (claim(receipt("a", 1)), release(receipt("a", 1)));
        let (first, second) = if claim_first { (one, other) } else { (other, one) };
        assert_eq!(chain.code(CLIENT, lock(500, 20)), ResultCode::Ok);
        assert_eq!((chain.code(SENDER, first), chain.code(SENDER, second)), (ResultCode::Ok, ResultCode::Ok));
        assert_eq!((chain.holds(PROVIDER), chain.supply()), (510, (10, 0)));
    }
}

#[test]
fn a_job_is_paid_once_and_its_name_is_used_up() {
    let mut chain = Chain::new();
    assert_eq!(chain.code(CLIENT, lock(500, 20)), ResultCode::Ok);
    assert_eq!(chain.code(CLIENT, lock(1, 30)), ResultCode::EscrowExists);
    assert_eq!(chain.code(SENDER, release(receipt("a", 1))), ResultCode::Ok);
    assert_eq!(chain.code(SENDER, release(receipt("b", 1))), ResultCode::EscrowPaid);
    assert_eq!(chain.code(CLIENT, lock(500, 20)), ResultCode::EscrowPaid, "else an old receipt would take it");
    assert_eq!(chain.code(CLIENT, refund()), ResultCode::EscrowPaid);
    assert_eq!(chain.code(SENDER, lock(500, 20)), ResultCode::Ok, "another client's job is another");
}

#[test]
fn a_lock_over_the_balance_costs_the_fee_only() {
    Chain::new().refuses(CLIENT, lock(FUNDS - 1, 20), ResultCode::InsufficientBalance);
    assert_eq!(Chain::new().code(CLIENT, lock(FUNDS - 2, 20)), ResultCode::Ok);
}

#[test]
fn a_timeout_is_ahead_and_not_for_ever() {
    for wrong in [0, HEIGHT - 1, HEIGHT, HEIGHT + MAX_ESCROW_AHEAD + 1, u64::MAX] {
        Chain::new().refuses(CLIENT, lock(1, wrong), ResultCode::EscrowTimeoutOutOfRange);
    }
    for right in [HEIGHT + 1, HEIGHT + MAX_ESCROW_AHEAD] {
        assert_eq!(Chain::new().code(CLIENT, lock(1, right)), ResultCode::Ok);
    }
}

#[test]
fn until_the_timeout_a_receipt_releases_and_after_it_only_a_refund_does() {
    let locked = |height| {
        let mut chain = Chain::new();
        assert_eq!(chain.code(CLIENT, lock(500, 20)), ResultCode::Ok);
        chain.height = height;
        chain
    };
    locked(20).refuses(CLIENT, refund(), ResultCode::EscrowNotTimedOut);
    assert_eq!(locked(20).code(SENDER, release(receipt("a", 1))), ResultCode::Ok);
    locked(21).refuses(SENDER, release(receipt("a", 1)), ResultCode::EscrowTimedOut);
    let mut late = locked(21);
    assert_eq!(late.code(CLIENT, refund()), ResultCode::Ok);
    assert_eq!((late.holds(CLIENT), late.state.records().count()), (FUNDS - 4, 0));
    assert_eq!(late.code(CLIENT, refund()), ResultCode::EscrowNotFound);
    assert_eq!(late.code(CLIENT, lock(500, 40)), ResultCode::Ok, "what was refunded can be locked again");
}

#[test]
fn what_nobody_locked_is_neither_released_nor_refunded() {
    Chain::new().refuses(SENDER, release(receipt("a", 1)), ResultCode::EscrowNotFound);
    let mut chain = Chain::new();
    assert_eq!(chain.code(CLIENT, lock(500, 20)), ResultCode::Ok);
    chain.height = 30;
    chain.refuses(SENDER, refund(), ResultCode::EscrowNotFound);
}

#[test]
fn only_the_named_provider_is_paid() {
    let named = |provider| {
        Action::LockEscrow(Lock { job_id: name("job"), provider: Some(provider), amount: 9, timeout_height: 20 })
    };
    let mut chain = Chain::new();
    assert_eq!(chain.code(CLIENT, named(address(8))), ResultCode::Ok);
    chain.refuses(SENDER, release(receipt("a", 1)), ResultCode::EscrowOtherProvider);
    let mut chain = Chain::new();
    assert_eq!(chain.code(CLIENT, named(address(PROVIDER))), ResultCode::Ok);
    assert_eq!(chain.code(SENDER, release(receipt("a", 1))), ResultCode::Ok);
}

#[test]
fn an_escrow_needs_the_same_attestations_as_a_claim() {
    let locked = || {
        let mut chain = Chain::new();
        assert_eq!(chain.code(CLIENT, lock(500, 20)), ResultCode::Ok);
        chain
    };
    let by = |keys: &[u8]| Action::ReleaseEscrow(by(keys, receipt("a", 1)));
    locked().refuses(SENDER, by(&[11]), ResultCode::TooFewAttestations);
    locked().refuses(SENDER, by(&[11, 12, 20]), ResultCode::UnknownCoordinator);
    let mut late = locked();
    late.time = DONE + EXPIRY + 1;
    late.refuses(SENDER, release(receipt("a", 1)), ResultCode::ReceiptExpired);
}

#[test]
fn a_receipt_may_pay_who_sends_it_and_a_client_that_is_its_provider() {
    let mut chain = Chain::new();
    let own = Receipt { provider: key(CLIENT).public(), ..receipt("a", 1) };
    assert_eq!(chain.code(CLIENT, lock(500, 20)), ResultCode::Ok);
    assert_eq!(chain.code(CLIENT, release(Receipt { price: Some(100), ..own.clone() })), ResultCode::Ok);
    assert_eq!(chain.holds(CLIENT), FUNDS - 4);
    assert_eq!(chain.code(CLIENT, claim(own)), ResultCode::Ok);
    assert_eq!(chain.holds(CLIENT), FUNDS - 6 + 10);
}
