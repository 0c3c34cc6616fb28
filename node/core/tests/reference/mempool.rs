//! Random use of the pool against a plain list: bounds, order, replacement, expiry, and nothing lost without a word.

use crate::model::fee_units;
use crate::seed;
use aitbc_core::hash::{Hash, plain};
use aitbc_core::key::{Address, PublicKey, Signature};
use aitbc_core::ledger::{ReceiptRules, ResultCode, Rules, TxResult};
use aitbc_core::mempool::{Dropped, Limits, Mempool, Place, Reason, Rejected, VerifiedTx};
use aitbc_core::params::MAX_SUPPLY;
use aitbc_core::receipt::{Attestation, AttestedReceipt, Receipt, Text};
use aitbc_core::state::Account;
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, Lock, Payment, SignedTransaction, Stake, Transaction};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

const STEPS: usize = 400;
const SENDERS: u8 = 6;

/// What the pool must have dropped, by id; the order is its own.
type Drops = BTreeMap<Hash, &'static str>;

#[derive(Clone)]
struct Entry {
    tx: VerifiedTx,
    in_flight: bool,
    arrival: usize,
}

impl Entry {
    fn inner(&self) -> &Transaction {
        &self.tx.tx.transaction
    }

    fn cost(&self) -> u128 {
        cost(self.inner())
    }

    fn price(&self) -> u128 {
        price(self.inner())
    }
}

fn cost(tx: &Transaction) -> u128 {
    let amounts: u128 = match &tx.action {
        Action::Transfer(payment) => payment.amount.into(),
        Action::TransferMany { payments } => payments.iter().map(|payment| u128::from(payment.amount)).sum(),
        Action::LockEscrow(lock) => lock.amount.into(),
        Action::Bond(stake) => stake.amount.into(),
        _ => 0,
    };
    amounts + u128::from(tx.fee)
}

/// 1,024 times the fee for each least fee that is due, rounded down.
fn price(tx: &Transaction) -> u128 {
    u128::from(tx.fee) * 1_024 / fee_units(&tx.action).max(1)
}

fn check_attested(rules: &ReceiptRules, attested: &AttestedReceipt) -> Result<(), &'static str> {
    if attested.receipt.chain_id.as_ref().is_some_and(|id| id.as_str() != rules.chain_id) {
        return Err("RECEIPT_WRONG_CHAIN");
    }
    let named: BTreeSet<PublicKey> = rules.terms.coordinators.iter().map(|one| one.public_key).collect();
    let mut who: BTreeSet<PublicKey> = attested.attestations.iter().map(|one| one.coordinator).collect();
    if !who.is_subset(&named) {
        return Err("UNKNOWN_COORDINATOR");
    }
    who.remove(&attested.receipt.provider);
    if who.len() < usize::from(rules.terms.coordinator_threshold) { Err("TOO_FEW_ATTESTATIONS") } else { Ok(()) }
}

fn check_mint(terms: &Terms, units: u64) -> Result<(), &'static str> {
    match u128::from(units) * u128::from(terms.mint_per_unit) {
        over if over > u128::from(MAX_SUPPLY) => Err("SUPPLY_EXHAUSTED"),
        over if over > terms.epoch_cap.into() => Err("EPOCH_CAP_REACHED"),
        over if over > terms.provider_epoch_cap.into() => Err("PROVIDER_CAP_REACHED"),
        _ => Ok(()),
    }
}

/// The pool as one list.
struct Model {
    rules: Rules,
    limits: Limits,
    entries: Vec<Entry>,
    /// The account of each sender that has something in the list, as the pool last heard of it.
    known: BTreeMap<Address, Account>,
    arrivals: usize,
}

impl Model {
    fn of<'a>(&'a self, sender: &'a Address) -> impl Iterator<Item = &'a Entry> + 'a {
        self.entries.iter().filter(move |entry| entry.tx.sender == *sender)
    }

    fn find(&self, id: &Hash) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tx.id == *id)
    }

    /// Least nonce from the account's on of which nothing is pending.
    fn next(&self, sender: &Address) -> Option<u64> {
        let mut next = self.known.get(sender)?.nonce;
        while self.of(sender).any(|entry| entry.inner().nonce == next) {
            next += 1;
        }
        Some(next)
    }

    fn queued<'a>(&'a self, sender: &'a Address) -> impl Iterator<Item = &'a Entry> + 'a {
        self.of(sender).filter(|entry| !entry.in_flight)
    }

    /// Each sender's first queued transaction, if no nonce is missing before it.
    fn heads(&self) -> Vec<&Entry> {
        let first = |sender| {
            let first = self.queued(sender).min_by_key(|entry| entry.inner().nonce)?;
            (first.inner().nonce < self.next(sender)?).then_some(first)
        };
        self.known.keys().filter_map(first).collect()
    }

    fn remove(&mut self, id: &Hash) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.tx.id != *id);
        let left: BTreeSet<Address> = self.entries.iter().map(|entry| entry.tx.sender).collect();
        self.known.retain(|sender, _| left.contains(sender));
        self.entries.len() < before
    }

    fn learn(&mut self, sender: Address, account: Account, drops: &mut Drops) {
        let Some(known) = self.known.get_mut(&sender) else { return };
        if account.nonce < known.nonce {
            return;
        }
        *known = account;
        let stale: Vec<Hash> =
            self.of(&sender).filter(|entry| entry.inner().nonce < account.nonce).map(|entry| entry.tx.id).collect();
        for id in stale {
            self.remove(&id);
            drops.insert(id, "NONCE_TOO_LOW");
        }
    }

    fn expire(&mut self, height: u64, drops: &mut Drops) {
        let old = self.entries.iter().filter(|entry| entry.inner().expiry_height <= height);
        for id in old.map(|entry| entry.tx.id).collect::<Vec<_>>() {
            self.remove(&id);
            drops.insert(id, "EXPIRED");
        }
    }

    /// Of these what would be refused by now, and of their senders the last until the account covers the rest.
    fn drop_no_longer_valid(&mut self, height: u64, ids: &[Hash]) -> Drops {
        let named: Vec<Entry> = ids.iter().filter_map(|id| self.find(id).cloned()).collect();
        let outdated = |entry: &&Entry| {
            let refused = self.check_terms(height, entry.inner());
            matches!(refused, Err("FEE_TOO_LOW" | "ESCROW_TIMEOUT_OUT_OF_RANGE"))
        };
        let mut gone: Vec<Hash> = named.iter().filter(outdated).map(|entry| entry.tx.id).collect();
        for id in &gone {
            self.remove(id);
        }
        for entry in &named {
            while let Some(id) = self.uncovered(&entry.tx.sender) {
                self.remove(&id);
                gone.push(id);
            }
        }
        gone.into_iter().map(|id| (id, "NO_LONGER_VALID")).collect()
    }

    /// The sender's last one, where its account does not cover all.
    fn uncovered(&self, sender: &Address) -> Option<Hash> {
        let balance = self.known.get(sender)?.balance;
        let needed: u128 = self.of(sender).map(Entry::cost).sum();
        let last = self.of(sender).max_by_key(|entry| entry.inner().nonce)?;
        (needed > balance.into()).then_some(last.tx.id)
    }

    fn requeue(&mut self, id: &Hash) {
        self.entries.iter_mut().filter(|entry| entry.tx.id == *id).for_each(|entry| entry.in_flight = false);
    }

    /// Whether it is ready and what had to go, or the code of the refusal.
    fn admit(&mut self, height: u64, tx: &VerifiedTx, account: Account) -> Result<(bool, Drops), &'static str> {
        if self.find(&tx.id).is_some() {
            return Err("DUPLICATE");
        }
        self.check_terms(height, &tx.tx.transaction)?;
        let known = self.known.get(&tx.sender).copied().unwrap_or_default();
        let account = if known.nonce > account.nonce { known } else { account };
        let old = self.check_sender(tx, account)?;
        let evicted = self.make_room(tx, old.as_ref(), account.nonce)?;
        let mut drops = Drops::new();
        self.learn(tx.sender, account, &mut drops);
        if let Some(old) = old {
            self.remove(&old.tx.id);
            drops.insert(old.tx.id, "REPLACED");
        }
        for id in evicted {
            self.remove(&id);
            drops.insert(id, "EVICTED");
        }
        self.arrivals += 1;
        self.entries.push(Entry { tx: tx.clone(), in_flight: false, arrival: self.arrivals });
        self.known.entry(tx.sender).or_insert(account);
        let next = self.next(&tx.sender).expect("just put in");
        Ok((tx.tx.transaction.nonce < next, drops))
    }

    fn check_terms(&self, height: u64, tx: &Transaction) -> Result<(), &'static str> {
        if tx.expiry_height <= height {
            return Err("EXPIRED");
        }
        if tx.expiry_height > height + 2_000 {
            return Err("EXPIRY_TOO_FAR");
        }
        match (&tx.action, self.rules.faucet) {
            (Action::Faucet(_), None) => Err("FAUCET_DISABLED"),
            (Action::Faucet(payment), Some(most)) if payment.amount > most => Err("FAUCET_LIMIT"),
            (Action::Faucet(_), _) => Ok(()),
            _ if u128::from(tx.fee) < fee_units(&tx.action) * u128::from(self.rules.min_fee) => Err("FEE_TOO_LOW"),
            (action, _) => self.check_receipt(height, action),
        }
    }

    /// What of docs/rpc.md, "Receipts and escrows", neither state nor time can change, and the timeout of a lock.
    fn check_receipt(&self, height: u64, action: &Action) -> Result<(), &'static str> {
        let attested = match action {
            Action::ClaimReceipt(attested) | Action::ReleaseEscrow(attested) => Some(attested),
            Action::LockEscrow(_) => None,
            _ => return Ok(()),
        };
        let Some(rules) = &self.rules.receipts else { return Err("RECEIPTS_DISABLED") };
        if let Some(attested) = attested {
            check_attested(rules, attested)?;
        }
        match action {
            Action::ClaimReceipt(attested) => check_mint(&rules.terms, attested.receipt.units),
            Action::LockEscrow(lock) if lock.timeout_height <= height + 1 => Err("ESCROW_TIMEOUT_OUT_OF_RANGE"),
            Action::LockEscrow(lock) if lock.timeout_height > height + 100_000_001 => {
                Err("ESCROW_TIMEOUT_OUT_OF_RANGE")
            }
            _ => Ok(()),
        }
    }

    /// Answers which pending transaction of the sender gives way.
    fn check_sender(&self, tx: &VerifiedTx, account: Account) -> Result<Option<Entry>, &'static str> {
        let new = &tx.tx.transaction;
        if new.nonce < account.nonce {
            return Err("NONCE_TOO_LOW");
        }
        // What the account has passed goes with the admission and counts no more.
        let left = || self.of(&tx.sender).filter(|entry| entry.inner().nonce >= account.nonce);
        let next = (account.nonce..).find(|nonce| left().all(|entry| entry.inner().nonce != *nonce)).expect("some");
        if new.nonce > next + self.limits.nonce_gap {
            return Err("NONCE_GAP");
        }
        let old = left().find(|entry| entry.inner().nonce == new.nonce);
        match old {
            Some(old) if old.in_flight => return Err("NONCE_IN_FLIGHT"),
            // Ten percent more, and at least one more; in tenths, so that nothing is rounded.
            Some(old) if new.fee <= old.inner().fee || new.fee * 10 < old.inner().fee * 11 => {
                return Err("REPLACEMENT_UNDERPRICED");
            }
            None if left().count() >= self.limits.per_sender => return Err("SENDER_FULL"),
            _ => {}
        }
        let pending: u128 = left().map(Entry::cost).sum();
        let needed = pending - old.map_or(0, Entry::cost) + cost(new);
        if u128::from(account.balance) < needed {
            return Err("INSUFFICIENT_BALANCE");
        }
        Ok(old.cloned())
    }

    /// The last queued of each other sender, cheapest first, until the newcomer fits; all must pay less than it.
    fn make_room(&self, tx: &VerifiedTx, old: Option<&Entry>, nonce: u64) -> Result<Vec<Hash>, &'static str> {
        let passed = |entry: &&Entry| entry.tx.sender == tx.sender && entry.inner().nonce < nonce;
        let left = || self.entries.iter().filter(|entry| !passed(entry));
        let mut bytes: usize = left().map(|entry| entry.tx.bytes).sum::<usize>() + tx.bytes;
        let mut count = left().count() + 1;
        if let Some(old) = old {
            bytes -= old.tx.bytes;
            count -= 1;
        }
        let others = self.known.keys().filter(|sender| **sender != tx.sender);
        let last = |sender| self.queued(sender).max_by_key(|entry| entry.inner().nonce);
        let mut tails: Vec<&Entry> = others.filter_map(last).collect();
        tails.sort_by_key(|entry| (entry.price(), Reverse(entry.arrival)));
        let (mut evicted, mut tails) = (Vec::new(), tails.into_iter());
        while bytes > self.limits.bytes || count > self.limits.count {
            let tail = tails.next().filter(|tail| tail.price() < price(&tx.tx.transaction)).ok_or("MEMPOOL_FULL")?;
            bytes -= tail.tx.bytes;
            count -= 1;
            evicted.push(tail.tx.id);
        }
        Ok(evicted)
    }

    fn executed(&mut self, height: u64, results: &[TxResult], changed: &[(Address, Account)]) -> Drops {
        let mut drops = Drops::new();
        for result in results {
            let Some(entry) = self.find(&result.id).cloned() else { continue };
            match result.code.name() {
                "NONCE_TOO_HIGH" => self.requeue(&result.id),
                "EXPIRED" | "NONCE_TOO_LOW" | "FEE_TOO_LOW" | "FEE_NOT_COVERED" | "FAUCET_DISABLED"
                | "FAUCET_LIMIT" | "FAUCET_EMPTY" => assert!(self.remove(&result.id)),
                // All others take fee and nonce.
                _ => {
                    let known = self.known.get_mut(&entry.tx.sender).expect("has an entry");
                    known.nonce = known.nonce.max(entry.inner().nonce + 1);
                    self.remove(&result.id);
                }
            }
        }
        for (address, account) in changed {
            self.learn(*address, *account, &mut drops);
        }
        self.expire(height, &mut drops);
        drops
    }
}

fn reported(dropped: &[Dropped]) -> Drops {
    let drops: Drops = dropped.iter().map(|dropped| (dropped.id, dropped.reason.name())).collect();
    assert_eq!(drops.len(), dropped.len(), "nothing is dropped twice");
    drops
}

/// The pool, the list, and a chain that gives results.
struct World {
    pool: Mempool,
    model: Model,
    height: u64,
    /// The chain's accounts: the pool hears of them late.
    accounts: BTreeMap<Address, Account>,
    seen: BTreeSet<&'static str>,
    drops: Drops,
}

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

fn some_key(rng: &mut StdRng) -> PublicKey {
    key(rng.random_range(1..=SENDERS))
}

fn receipt_rules() -> ReceiptRules {
    let terms = Terms {
        mint_per_unit: 10,
        coordinator_parts_per_million: 50_000,
        coordinators: [61, 62, 63].map(|n| Coordinator { public_key: key(n) }).to_vec(),
        coordinator_threshold: 2,
        epoch_cap: 500,
        provider_epoch_cap: 400,
        expiry_seconds: 60,
    };
    ReceiptRules { chain_id: "pool".into(), terms }
}

/// Mostly as it should be: by others than its provider, within the caps.
fn receipt(rng: &mut StdRng) -> Box<AttestedReceipt> {
    let text = |text: &str| Text::new(text).expect("text");
    let chain_id = *[None, Some("pool"), Some("pool"), Some("elsewhere")].choose(rng).expect("some");
    let receipt = Receipt {
        chain_id: chain_id.and_then(Text::new),
        ..Receipt::required(
            (text("r"), text("job")),
            key(*[1, 2, 61].choose(rng).expect("some")),
            Address([9; 20]),
            (
                *[1, 2, 40, 41, 50, 51, MAX_SUPPLY / 10 + 1, u64::MAX].choose(rng).expect("some"),
                Text::new("gpu_seconds").expect("text"),
            ),
            (1, 2),
        )
    };
    let signature = Signature([0; 64]);
    let who = [(61, 0.8), (62, 0.9), (63, 0.8), (64, 0.1)].into_iter().filter(|(_, likely)| rng.random_bool(*likely));
    let attestations = who.map(|(n, _)| Attestation { coordinator: key(n), signature }).collect();
    Box::new(AttestedReceipt { receipt, signature, attestations })
}

fn lock(rng: &mut StdRng, height: u64) -> Lock {
    let ahead = *[0, 1, 2, 9, 100_000_001, 100_000_002].choose(rng).expect("some");
    let job_id = Text::new("job").expect("text");
    Lock { job_id, provider: None, amount: rng.random_range(1..100), timeout_height: height + ahead }
}

impl World {
    fn new(rng: &mut StdRng) -> World {
        let faucet = rng.random_bool(0.8).then_some(50);
        let receipts = rng.random_bool(0.8).then(receipt_rules);
        let rules = Rules { chain: plain(b"pool"), min_fee: 2, faucet, receipts, ..Rules::default() };
        let limits = Limits {
            bytes: rng.random_range(1_500..6_000),
            count: rng.random_range(4..30),
            per_sender: rng.random_range(2..9),
            nonce_gap: rng.random_range(0..6),
        };
        let start = |n| (key(n).address(), Account { balance: 200 * u64::from(n), nonce: 0 });
        World {
            pool: Mempool::new(rules.clone(), limits.clone()),
            model: Model { rules, limits, entries: Vec::new(), known: BTreeMap::new(), arrivals: 0 },
            height: 10,
            accounts: (1..=SENDERS).map(start).collect(),
            seen: BTreeSet::new(),
            drops: Drops::new(),
        }
    }

    fn step(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..21) {
            0..11 => self.admit(rng),
            11..14 => self.take(rng),
            14..15 => self.requeue(rng),
            15..18 => self.block(rng),
            18 => self.expire(rng),
            19 => self.drop_no_longer_valid(rng),
            _ => self.nonsense(rng),
        }
        self.compare();
    }

    fn transaction(&self, rng: &mut StdRng) -> VerifiedTx {
        let sender = some_key(rng);
        let next = self.model.next(&sender.address()).unwrap_or(self.accounts[&sender.address()].nonce);
        let nonce = match rng.random_range(0..8) {
            0..4 => next,
            4 => next + rng.random_range(0..8),
            _ => next.saturating_sub(rng.random_range(0..5)),
        };
        let to = Address([9; 20]);
        let payment = |amount| Payment { to, amount };
        let action = match rng.random_range(0..14) {
            0 => Action::Faucet(payment(rng.random_range(1..60))),
            1 => Action::TransferMany { payments: vec![payment(1); rng.random_range(1..=64)] },
            2 => Action::LockEscrow(lock(rng, self.height)),
            3 => Action::ClaimReceipt(receipt(rng)),
            4 => Action::ReleaseEscrow(receipt(rng)),
            5 => Action::RefundEscrow { job_id: Text::new("job").expect("text") },
            6 => Action::Bond(Stake { validator: sender, amount: rng.random_range(1..100) }),
            7 => Action::Unbond(Stake { validator: sender, amount: 1_000_000 }),
            _ => Action::Transfer(payment(rng.random_range(1..100))),
        };
        let due = 2 * u64::try_from(fee_units(&action)).expect("small");
        let fee = if rng.random_bool(0.1) {
            due.saturating_sub(rng.random_range(0..3))
        } else {
            due + rng.random_range(0..58)
        };
        let ahead = *[0, 1, 2, 8, 2_000, 2_001].choose(rng).expect("some");
        let expiry_height = self.height + if rng.random_bool(0.5) { 30 } else { ahead };
        let transaction = Transaction { sender, nonce, fee, expiry_height, action };
        let signed = SignedTransaction { transaction, signature: Signature([0; 64]) };
        VerifiedTx::trusted(signed, &self.model.rules.chain)
    }

    fn admit(&mut self, rng: &mut StdRng) {
        let tx = match self.model.entries.choose(rng) {
            Some(old) if rng.random_bool(0.05) => old.tx.clone(),
            _ => self.transaction(rng),
        };
        let mut account = self.accounts[&tx.sender];
        if rng.random_bool(0.1) {
            // Read before the last block was in.
            account.nonce = account.nonce.saturating_sub(1);
        }
        let expected = self.model.admit(self.height, &tx, account);
        let found = self.pool.admit(self.height, tx, account);
        let seen = found.as_ref().map_or_else(Rejected::code, |_| "ADMITTED");
        self.seen.insert(seen);
        let found = found.map(|admitted| (admitted.ready, reported(&admitted.dropped)));
        assert_eq!(found.as_ref().map_err(Rejected::code), expected.as_ref().map_err(|code| *code));
        if let Ok((_, drops)) = expected {
            self.note(drops);
        }
    }

    fn note(&mut self, drops: Drops) {
        self.drops.extend(drops);
    }

    /// Best price first, each sender's in order of nonce, stopping only where it must.
    fn take(&mut self, rng: &mut StdRng) {
        let max_bytes = if rng.random_bool(0.5) { usize::MAX } else { rng.random_range(0..2_000) };
        let max_txs = rng.random_range(0..8);
        let taken = self.pool.take(max_bytes, max_txs);
        let mut room = max_bytes;
        for tx in &taken {
            let heads = self.model.heads();
            let best = heads.iter().map(|head| head.price()).max();
            assert!(heads.iter().any(|head| head.tx.id == tx.id), "{} is no sender's next", tx.id);
            assert_eq!(Some(price(&tx.tx.transaction)), best, "the best price goes first");
            assert!(tx.bytes <= room, "no more bytes than asked for");
            room -= tx.bytes;
            let entry = self.model.entries.iter_mut().find(|entry| entry.tx.id == tx.id).expect("a head");
            entry.in_flight = true;
        }
        assert!(taken.len() <= max_txs);
        let heads = self.model.heads();
        let best = heads.iter().map(|head| head.price()).max();
        let stuck = heads.iter().any(|head| Some(head.price()) == best && head.tx.bytes > room);
        assert!(taken.len() == max_txs || heads.is_empty() || stuck, "it stopped for no reason");
    }

    fn some_ids(&self, rng: &mut StdRng, in_flight_only: bool) -> Vec<Hash> {
        let all = self.model.entries.iter().filter(|entry| entry.in_flight || !in_flight_only);
        let some: Vec<Hash> = all.map(|entry| entry.tx.id).filter(|_| rng.random_bool(0.4)).collect();
        if rng.random_bool(0.1) { [some, vec![plain(b"unknown")]].concat() } else { some }
    }

    fn requeue(&mut self, rng: &mut StdRng) {
        let only_in_flight = rng.random_bool(0.8);
        let ids = self.some_ids(rng, only_in_flight);
        self.pool.requeue(&ids);
        ids.iter().for_each(|id| self.model.requeue(id));
    }

    fn drop_no_longer_valid(&mut self, rng: &mut StdRng) {
        let ids = self.some_ids(rng, false);
        let expected = self.model.drop_no_longer_valid(self.height, &ids);
        assert_eq!(reported(&self.pool.drop_no_longer_valid(self.height, &ids)), expected);
        self.note(expected);
    }

    fn expire(&mut self, rng: &mut StdRng) {
        self.height += rng.random_range(0..3);
        let mut expected = Drops::new();
        self.model.expire(self.height, &mut expected);
        assert_eq!(reported(&self.pool.expire(self.height)), expected);
        self.note(expected);
    }

    /// A block with some of what is in flight, and other validators' transactions of the same senders.
    fn block(&mut self, rng: &mut StdRng) {
        self.height += 1;
        let mut results = Vec::new();
        let mut touched = BTreeSet::new();
        for id in self.some_ids(rng, true) {
            let Some(entry) = self.model.find(&id).cloned() else { continue };
            let account = self.accounts.get_mut(&entry.tx.sender).expect("a sender");
            let code = match entry.inner().nonce.cmp(&account.nonce) {
                std::cmp::Ordering::Less => ResultCode::NonceTooLow,
                std::cmp::Ordering::Greater => ResultCode::NonceTooHigh,
                std::cmp::Ordering::Equal if rng.random_bool(0.1) => ResultCode::FeeNotCovered,
                std::cmp::Ordering::Equal => {
                    account.nonce += 1;
                    touched.insert(entry.tx.sender);
                    if rng.random_bool(0.1) { ResultCode::InsufficientBalance } else { ResultCode::Ok }
                }
            };
            results.push(TxResult { id, code, fee: 0 });
        }
        if rng.random_bool(0.3) {
            let sender = some_key(rng).address();
            let account = self.accounts.get_mut(&sender).expect("a sender");
            account.nonce += rng.random_range(0..3);
            account.balance = rng.random_range(0..1_500);
            touched.insert(sender);
        }
        let changed: Vec<_> = touched.into_iter().map(|sender| (sender, self.accounts[&sender])).collect();
        self.executed(&results, &changed);
    }

    /// Results and accounts of no chain: wrong ones must not break the pool either.
    fn nonsense(&mut self, rng: &mut StdRng) {
        let ids = self.some_ids(rng, false);
        let mut result = |id| TxResult { id, code: *ResultCode::ALL.choose(rng).expect("some"), fee: 0 };
        let results: Vec<_> = ids.into_iter().map(&mut result).collect();
        let account = Account { balance: rng.random_range(0..1_000), nonce: rng.random_range(0..20) };
        let changed = [(some_key(rng).address(), account)];
        self.executed(&results, if rng.random_bool(0.5) { &changed } else { &[] });
    }

    fn executed(&mut self, results: &[TxResult], changed: &[(Address, Account)]) {
        let expected = self.model.executed(self.height, results, changed);
        assert_eq!(reported(&self.pool.on_executed(self.height, results, changed)), expected);
        self.note(expected);
    }

    fn compare(&self) {
        let expected: BTreeMap<Hash, bool> =
            self.model.entries.iter().map(|entry| (entry.tx.id, entry.in_flight)).collect();
        let found: BTreeMap<Hash, bool> =
            self.pool.iter().map(|(tx, place)| (tx.id, place == Place::InFlight)).collect();
        assert_eq!(found, expected, "the pool holds what was admitted and not reported as gone");
        let (counters, limits) = (self.pool.counters(), &self.model.limits);
        let bytes: usize = self.model.entries.iter().map(|entry| entry.tx.bytes).sum();
        let in_flight = self.model.entries.iter().filter(|entry| entry.in_flight).count();
        assert_eq!((counters.count, counters.bytes, counters.in_flight), (expected.len(), bytes, in_flight));
        assert!(counters.count <= limits.count && counters.bytes <= limits.bytes, "{counters:?} over {limits:?}");
        for n in 1..=SENDERS {
            let sender = key(n).address();
            assert!(self.model.of(&sender).count() <= limits.per_sender);
            assert_eq!(self.pool.next_nonce(&sender), self.model.next(&sender));
        }
        assert_eq!(self.pool.has_ready(), !self.model.heads().is_empty());
    }
}

#[test]
fn random_use_of_the_pool_ends_as_in_a_plain_list_and_nothing_leaves_it_unsaid() {
    let (mut seen, mut reasons) = (BTreeSet::new(), BTreeSet::new());
    let count = seed::cases("mempool", |rng| {
        let mut world = World::new(rng);
        (0..STEPS).for_each(|_| world.step(rng));
        seen.append(&mut world.seen);
        reasons.extend(world.drops.into_values());
    });
    if count >= 100 {
        // Every answer but none came up, so that none went unchecked.
        assert_eq!(seen.len(), 22, "{seen:?}");
        let all = [Reason::Expired, Reason::NonceUsed, Reason::Replaced, Reason::Evicted, Reason::NoLongerValid];
        assert_eq!(reasons, all.iter().map(|reason| reason.name()).collect());
    }
}
