//! Random blocks through the ledger and the model: every result, account, fee and root must agree.

use crate::model::{Model, Moment, Records, address, merkle_root, state_root_with};
use crate::receipts::Receipts;
use crate::seed;
use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::codec;
use aitbc_core::genesis::{Faucet, Genesis, GenesisAccount, GenesisValidator, Mode, faucet_address};
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey, SecretKey, Signature};
use aitbc_core::ledger::{Context, Executed, ResultCode, Rules, execute};
use aitbc_core::params::{MAX_SUPPLY, MAX_TRANSFERS, Parameters};
use aitbc_core::receipt::{Attestation, AttestedReceipt, Extra, Receipt, Text};
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::state::{Account, State};
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, Lock, Payment, SignedTransaction, Transaction};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PLAYERS: u8 = 8;
/// Transactions of a case; 100 cases are the short run.
const ACTIONS: usize = 1_000;

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

/// A small chain, so that balances run out, or one that holds every unit there may be.
fn genesis(rng: &mut StdRng) -> Genesis {
    let whole = rng.random_bool(0.3);
    let share = if whole { MAX_SUPPLY / 8 } else { rng.random_range(0..2_000) };
    let owners = 1..=rng.random_range(0..=5u8);
    let accounts: Vec<_> =
        owners.map(|n| GenesisAccount { address: key(n).address(), balance: rng.random_range(0..=share) }).collect();
    let rest = MAX_SUPPLY - accounts.iter().map(|account| account.balance).sum::<u64>();
    let faucet = rng.random_bool(0.8).then(|| Faucet {
        balance: if whole { rest } else { rng.random_range(0..20_000) },
        max_amount: *[0, 50, 1_000, MAX_SUPPLY].choose(rng).expect("some"),
    });
    let min_fee = *[0, 1, 2, 100].choose(rng).expect("some");
    Genesis {
        chain_id: "reference".into(),
        mode: Mode::Poa,
        validators: vec![GenesisValidator { public_key: secret(101).public(), weight: 1 }],
        accounts,
        faucet,
        receipts: rng.random_bool(0.9).then(|| terms(rng)),
        parameters: Parameters { min_fee, ..Parameters::default() },
    }
}

/// Genesis takes keys only that somebody has.
fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn coordinator(n: u8) -> PublicKey {
    secret(60 + n).public()
}

/// Terms whose caps are reached, and such that never are.
fn terms(rng: &mut StdRng) -> Terms {
    let count = rng.random_range(1..=4u8);
    let cap = |rng: &mut StdRng| *[0, 40, 300, 2_000, MAX_SUPPLY].choose(rng).expect("some");
    Terms {
        mint_per_unit: *[0, 1, 7, 1_000, MAX_SUPPLY / 5].choose(rng).expect("some"),
        coordinator_parts_per_million: *[0, 50_000, 333_333, 1_000_000].choose(rng).expect("some"),
        coordinators: (0..count).map(|n| Coordinator { public_key: coordinator(n) }).collect(),
        coordinator_threshold: rng.random_range(1..=count).into(),
        epoch_cap: cap(rng),
        provider_epoch_cap: cap(rng),
        expiry_seconds: rng.random_range(1..100),
    }
}

/// A chain in the core and in the model, side by side.
struct Chain {
    rules: Rules,
    state: State,
    model: Model,
    supply: u128,
    now: Moment,
    /// Transactions of earlier blocks and batches, to come again.
    sent: Vec<Transaction>,
    seen: BTreeSet<&'static str>,
}

impl Chain {
    fn new(rng: &mut StdRng) -> Chain {
        let genesis = genesis(rng);
        genesis.check().expect("valid genesis");
        let faucet = genesis.faucet.as_ref().map(|f| (faucet_address(), u128::from(f.max_amount)));
        let min_fee = genesis.parameters.min_fee.into();
        let receipts = Receipts {
            chain_id: genesis.chain_id.clone(),
            genesis_supply: genesis.supply().expect("checked").into(),
            terms: genesis.receipts.clone(),
            claimed: BTreeMap::new(),
            escrows: BTreeMap::new(),
            minted_by: BTreeMap::new(),
            minted: 0,
        };
        let mut model = Model { accounts: BTreeMap::new(), min_fee, faucet, receipts };
        for account in &genesis.accounts {
            model.reward(&account.address, account.balance.into());
        }
        if let Some(faucet) = &genesis.faucet {
            model.reward(&faucet_address(), faucet.balance.into());
        }
        let (rules, state, supply) = (Rules::of(&genesis), State::from_genesis(&genesis), model.supply());
        let now = Moment { epoch: 0, height: 0, time_ms: 1_000_000_000 };
        Chain { rules, state, model, supply, now, sent: Vec::new(), seen: BTreeSet::new() }
    }

    fn anybody(&self, rng: &mut StdRng) -> Address {
        match rng.random_range(0..20) {
            0 => faucet_address(),
            1 => Address(rng.random()),
            _ => key(rng.random_range(1..=PLAYERS)).address(),
        }
    }

    fn transaction(&self, rng: &mut StdRng) -> Transaction {
        if rng.random_bool(0.05) && !self.sent.is_empty() {
            return self.sent[rng.random_range(0..self.sent.len())].clone();
        }
        let sender = key(rng.random_range(1..=PLAYERS));
        let had = self.model.entry(&address(&sender));
        let balance = u64::try_from(had.balance).expect("within the supply");
        let fee = fee(rng, self.rules.min_fee, balance);
        let nonce = nonce(rng, u64::try_from(had.nonce).expect("small"));
        let expiry_height = match rng.random_range(0..10) {
            0 => self.now.height.saturating_sub(rng.random_range(0..2)),
            1 => u64::MAX,
            _ => self.now.height + rng.random_range(0..5),
        };
        let action = self.action(rng, balance.saturating_sub(fee));
        Transaction { sender, nonce, fee, expiry_height, action }
    }

    fn action(&self, rng: &mut StdRng, free: u64) -> Action {
        match rng.random_range(0..20) {
            10..14 => Action::ClaimReceipt(Box::new(self.receipt(rng))),
            14..16 => Action::ReleaseEscrow(Box::new(self.receipt(rng))),
            16..18 => Action::LockEscrow(self.lock(rng, free)),
            18..20 => Action::RefundEscrow { job_id: job_id(rng) },
            0..5 => Action::Transfer(Payment { to: self.anybody(rng), amount: amount(rng, free) }),
            5..7 => Action::TransferMany { payments: self.payments(rng, free) },
            _ => {
                let faucet = u64::try_from(self.model.entry(&faucet_address()).balance).expect("within the supply");
                let most = self.rules.faucet.unwrap_or(10);
                let source = if rng.random_bool(0.5) { faucet } else { most };
                Action::Faucet(Payment { to: self.anybody(rng), amount: amount(rng, source) })
            }
        }
    }

    /// By a player, of few names, so that they come again; mostly as it should be.
    fn receipt(&self, rng: &mut StdRng) -> AttestedReceipt {
        let terms = self.rules.receipts.as_ref().map(|rules| &rules.terms);
        let now = self.now.time_ms / 1_000;
        let completed_at = match rng.random_range(0..12) {
            0 => now.saturating_sub(rng.random_range(0..200)),
            1 => MAX_SUPPLY,
            2 => now - terms.map_or(1, |terms| terms.expiry_seconds),
            3 => now - terms.map_or(1, |terms| terms.expiry_seconds) - 1,
            4 => now + rng.random_range(58..64),
            _ => now + rng.random_range(0..3),
        };
        let chain_id = match rng.random_range(0..12) {
            0 => Some("elsewhere"),
            1 => None,
            _ => Some("reference"),
        };
        let receipt = Receipt {
            receipt_id: text(&format!("r{}", rng.random_range(0..40))),
            job_id: job_id(rng),
            provider: if rng.random_bool(0.1) { coordinator(0) } else { key(rng.random_range(1..=PLAYERS)) },
            client: key(rng.random_range(1..=PLAYERS)).address(),
            units: if rng.random_bool(0.1) { amount(rng, MAX_SUPPLY) } else { rng.random_range(1..50) },
            unit_type: text("gpu_seconds"),
            price: rng.random_bool(0.5).then(|| rng.random_range(0..300)),
            model: rng.random_bool(0.5).then(|| text("a <model>/1")),
            prompt_hash: rng.random_bool(0.2).then(|| text("")),
            started_at: completed_at.saturating_sub(rng.random_range(0..5)),
            completed_at,
            duration_ms: rng.random_bool(0.2).then(|| rng.random_range(0..=MAX_SUPPLY)),
            artifact_hash: rng.random_bool(0.2).then(|| text("sha256:00")),
            coordinator_id: rng.random_bool(0.2).then(|| text("c")),
            nonce: rng.random_bool(0.2).then(|| text("n")),
            chain_id: chain_id.map(text),
            metadata: rng
                .random_bool(0.2)
                .then(|| vec![(text("A"), Extra::Number(1)), (text("b"), Extra::Text(text("~")))]),
        };
        AttestedReceipt { receipt, signature: Signature([0; 64]), attestations: attestations(rng, terms) }
    }

    fn lock(&self, rng: &mut StdRng, free: u64) -> Lock {
        let timeout_height = match rng.random_range(0..10) {
            0 => self.now.height.saturating_sub(rng.random_range(0..2)),
            1 => self.now.height + 100_000_000 + rng.random_range(0..3),
            _ => self.now.height + rng.random_range(1..8),
        };
        let provider = rng.random_bool(0.4).then(|| key(rng.random_range(1..=PLAYERS)).address());
        let most = if rng.random_bool(0.8) { free.min(400) } else { free };
        Lock { job_id: job_id(rng), provider, amount: amount(rng, most), timeout_height }
    }

    /// Few or as many as allowed; sometimes exactly, or one more than, all that the sender has.
    fn payments(&self, rng: &mut StdRng, free: u64) -> Vec<Payment> {
        let count = if rng.random_bool(0.1) { MAX_TRANSFERS } else { rng.random_range(0..6) };
        let share = free / (count.max(1) as u64);
        let mut payments: Vec<Payment> =
            (0..count).map(|_| Payment { to: self.anybody(rng), amount: rng.random_range(0..=share) }).collect();
        let given: u64 = payments.iter().map(|payment| payment.amount).sum();
        if let Some(last) = payments.last_mut() {
            match rng.random_range(0..6) {
                0 => last.amount += free - given,
                1 => last.amount += free - given + 1,
                2 => last.amount = u64::MAX,
                _ => {}
            }
        }
        payments
    }

    /// One block through both; answers how many transactions it had.
    fn block(&mut self, rng: &mut StdRng) -> usize {
        // Whatever a header says is its epoch: nothing is derived from its height.
        self.now.epoch += u64::from(rng.random_bool(0.05));
        self.now.height += if rng.random_bool(0.05) { 700 } else { 1 };
        self.now.time_ms += rng.random_range(1..20_000);
        let (mut batches, mut expected, mut fees) = (Vec::new(), Vec::new(), 0);
        for author in 0..rng.random_range(0..4) {
            let mut txs: Vec<Transaction> = Vec::new();
            for _ in 0..rng.random_range(0..25) {
                let tx = self.transaction(rng);
                let (code, fee) = self.model.apply(self.now, &tx);
                expected.push((code, fee));
                fees += fee;
                self.sent.push(tx.clone());
                txs.push(tx);
            }
            batches.push(self.batch(author, txs));
        }
        let proposer = self.anybody(rng);
        self.model.reward(&proposer, fees);
        let before = self.state.root();
        let Moment { epoch, height, time_ms } = self.now;
        let context = Context { epoch, time_ms, ..Context::plain(height, proposer) };
        let executed = execute(&self.state, &self.rules, &context, &batches);
        assert_eq!(self.state.root(), before, "the parent's state stays");
        self.compare(rng, &executed, &expected, fees);
        let ids: Vec<Hash> = batches.iter().flat_map(|batch| batch.ids.iter().copied()).collect();
        assert_eq!(executed.results.iter().map(|result| result.id).collect::<Vec<_>>(), ids);
        self.state = executed.state;
        expected.len()
    }

    fn batch(&self, author: u16, txs: Vec<Transaction>) -> VerifiedBatch {
        let signature = Signature([0; 64]);
        let txs = txs.into_iter().map(|transaction| SignedTransaction { transaction, signature }).collect();
        let batch = Batch { epoch: 0, author, seq: self.now.height, expiry_height: self.now.height, txs, signature };
        let digest = batch.digest();
        VerifiedBatch::trusted(Arc::new(batch), digest, &self.rules.chain)
    }

    fn compare(&mut self, rng: &mut StdRng, executed: &Executed, expected: &[(&'static str, u128)], fees: u128) {
        let height = self.now.height;
        assert_eq!(executed.results.len(), expected.len(), "height {height}");
        for (i, (result, (code, fee))) in executed.results.iter().zip(expected).enumerate() {
            assert_eq!((result.code.name(), u128::from(result.fee)), (*code, *fee), "height {height}, transaction {i}");
            self.seen.insert(code);
        }
        assert_eq!(u128::from(executed.fees), fees, "height {height}");
        let accounts = self.model.existing();
        assert_eq!(plain(&executed.state), accounts, "height {height}");
        let all = self.supply + self.model.receipts.minted;
        assert_eq!(self.model.supply(), all, "height {height}: units are minted by receipts only and never lost");
        let records = self.model.records();
        assert_eq!(encoded(&executed.state), records, "height {height}");
        assert_eq!(executed.state_root, state_root_with(&accounts, &records), "height {height}");
        let rebuilt = rebuilt(rng, &accounts, &executed.state);
        assert_eq!(executed.state_root, rebuilt.root(), "height {height}, inserted in another order");
        let results: Vec<Vec<u8>> = executed
            .results
            .iter()
            .map(|r| [&r.id.0[..], &r.code.number().to_le_bytes(), &r.fee.to_le_bytes()].concat())
            .collect();
        assert_eq!(executed.results_root, merkle_root(&results), "height {height}");
        self.compare_changed(&executed.changed, &accounts);
        self.compare_changed_records(&executed.changed_records, &executed.state);
    }

    /// `changed` holds what differs from the parent, all of it, once, in order.
    fn compare_changed(&self, changed: &[(Address, Account)], after: &BTreeMap<Address, (u64, u64)>) {
        let before = plain(&self.state);
        let differing: BTreeMap<Address, (u64, u64)> = before
            .keys()
            .chain(after.keys())
            .filter(|address| before.get(address) != after.get(address))
            .map(|address| (*address, after.get(address).copied().unwrap_or_default()))
            .collect();
        let changed: Vec<_> = changed.iter().map(|(address, a)| (*address, (a.balance, a.nonce))).collect();
        assert_eq!(changed, differing.into_iter().collect::<Vec<_>>(), "height {}", self.now.height);
    }

    /// As [`Self::compare_changed`], of records.
    fn compare_changed_records(&self, changed: &[(RecordKey, Option<Record>)], after: &State) {
        let keys = self.state.records().chain(after.records()).map(|(key, _)| key.clone()).collect::<BTreeSet<_>>();
        let differing = keys.into_iter().filter(|key| self.state.record(key) != after.record(key));
        let differing: Vec<_> = differing.map(|key| (key.clone(), after.record(&key).cloned())).collect();
        assert_eq!(changed, differing, "height {}", self.now.height);
    }
}

/// Some of the coordinators, all of them, or others too; by ascending key.
fn attestations(rng: &mut StdRng, terms: Option<&Terms>) -> Vec<Attestation> {
    let named = terms.map_or(1, |terms| terms.coordinators.len()) as u8;
    let mut who: Vec<u8> = (0..named).filter(|_| rng.random_bool(0.85)).collect();
    if who.is_empty() || rng.random_bool(0.05) {
        who.push(rng.random_range(0..5));
    }
    let keys: BTreeSet<PublicKey> = who.into_iter().map(coordinator).collect();
    keys.into_iter().map(|coordinator| Attestation { coordinator, signature: Signature([0; 64]) }).collect()
}

fn job_id(rng: &mut StdRng) -> Text<64> {
    text(&format!("job {}", rng.random_range(0..12)))
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).expect("a text")
}

/// Records as bytes of key and value.
fn encoded(state: &State) -> Records {
    state.records().map(|(key, record)| (codec::encode(key), codec::encode(record))).collect()
}

fn plain(state: &State) -> BTreeMap<Address, (u64, u64)> {
    state.iter().map(|(address, account)| (address, (account.balance, account.nonce))).collect()
}

fn rebuilt(rng: &mut StdRng, accounts: &BTreeMap<Address, (u64, u64)>, with_records: &State) -> State {
    let mut items: Vec<_> = accounts.iter().collect();
    items.shuffle(rng);
    let mut state = State::empty();
    for (address, (balance, nonce)) in items {
        state.set(*address, Account { balance: *balance, nonce: *nonce });
    }
    let mut records: Vec<_> = with_records.records().collect();
    records.shuffle(rng);
    for (key, record) in records {
        state.set_record(key.clone(), Some(record.clone()));
    }
    state
}

fn fee(rng: &mut StdRng, min: u64, balance: u64) -> u64 {
    match rng.random_range(0..20) {
        0 => 0,
        1 => min.saturating_sub(1),
        2 => balance,
        3 => balance.saturating_add(1),
        4 => *[MAX_SUPPLY, MAX_SUPPLY + 1, u64::MAX].choose(rng).expect("some"),
        _ => min + rng.random_range(0..3),
    }
}

fn nonce(rng: &mut StdRng, next: u64) -> u64 {
    match rng.random_range(0..20) {
        0 => next + rng.random_range(1..4),
        1 => next.saturating_sub(1),
        2 => *[0, u64::MAX].choose(rng).expect("some"),
        _ => next,
    }
}

/// Around nothing, around all there is, around the bounds, or some of it.
fn amount(rng: &mut StdRng, free: u64) -> u64 {
    match rng.random_range(0..16) {
        0 => 0,
        1 => 1,
        2 => free,
        3 => free.saturating_add(1),
        4 => *[MAX_SUPPLY, MAX_SUPPLY + 1, u64::MAX].choose(rng).expect("some"),
        5 => rng.next_u64(),
        _ => rng.random_range(0..=free / 2),
    }
}

#[test]
fn every_result_account_and_root_of_random_blocks_is_that_of_the_model() {
    let mut seen = BTreeSet::new();
    let count = seed::cases("ledger", |rng| {
        let mut chain = Chain::new(rng);
        let mut actions = 0;
        while actions < ACTIONS {
            actions += chain.block(rng);
        }
        seen.append(&mut chain.seen);
    });
    if count >= 100 {
        let all: BTreeSet<_> = ResultCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(seen, all, "every result code came up");
    }
}
