//! Random blocks through the ledger and the model: every result, account, fee and root must agree.

use crate::model::{Head, Model, Records, address, evidence_record, fee_units, merkle_root, state_root_with};
use crate::receipts::Receipts;
use crate::seed;
use crate::staking::{Set, Staking as Staked};
use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::evidence::{Class, Offence};
use aitbc_core::genesis::{Faucet, Genesis, GenesisAccount, GenesisValidator, Mode, Staking, faucet_address};
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey, SecretKey, Signature};
use aitbc_core::ledger::{Context, Executed, ResultCode, Rules, execute};
use aitbc_core::params::{MAX_SUPPLY, MAX_TRANSFERS, Parameters};
use aitbc_core::receipt::{Attestation, AttestedReceipt, Extra, Receipt, Text};
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::state::{Account, State};
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, Lock, Motion, Payment, SignedTransaction, Stake, Term, Transaction};
use aitbc_core::validators::{Validator, ValidatorSet};
use aitbc_core::{codec, json};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// Who sends transactions, bonds and validates.
const PLAYERS: u8 = 8;
/// Transactions of a case; 100 cases are the short run.
const ACTIONS: usize = 1_000;
/// By their tags.
const CLASSES: [Class; 5] = [Class::Notars, Class::SkipFinal, Class::Finals, Class::NotarFinal, Class::Batches];

/// Genesis takes keys only that somebody has. Made once: they are asked for all the time.
static KEYS: LazyLock<Vec<PublicKey>> =
    LazyLock::new(|| (0..=u8::MAX).map(|n| SecretKey::from_seed([n; 32]).public()).collect());

fn key(n: u8) -> PublicKey {
    KEYS[usize::from(n)]
}

/// What a chain is full of, so that its lists fill up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Crowd {
    /// Nothing.
    None,
    /// Parts of one stake that unbond.
    Unbonding,
    /// Votes of one authority.
    Votes,
}

/// A small chain, so that balances run out, or one that holds every unit there may be.
fn genesis(rng: &mut StdRng, crowd: Crowd) -> Genesis {
    let whole = rng.random_bool(0.3);
    let share = if whole { MAX_SUPPLY / 8 } else { rng.random_range(0..2_000) };
    let mode = Mode::ALL[rng.random_range(if crowd == Crowd::Unbonding { 1..3 } else { 0..3 })];
    let staking = staking(rng, if whole { 1 << 40 } else { 10 }, crowd);
    let owners = 1..=rng.random_range(0..=5u8);
    let accounts: Vec<_> =
        owners.map(|n| GenesisAccount { address: key(n).address(), balance: rng.random_range(0..=share) }).collect();
    let count = rng.random_range(u8::try_from(staking.min_validators).expect("few")..=5);
    let validator = |n| match mode {
        Mode::Poa => GenesisValidator { public_key: key(n), weight: rng.random_range(1..4), stake: 0 },
        _ => GenesisValidator { public_key: key(n), weight: 1, stake: staking.min_stake * rng.random_range(1..6) },
    };
    let validators: Vec<_> = (1..=count).map(validator).collect();
    let rest = MAX_SUPPLY
        - accounts.iter().map(|account| account.balance).sum::<u64>()
        - validators.iter().map(|validator| validator.stake).sum::<u64>();
    let faucet = rng.random_bool(0.8).then(|| Faucet {
        balance: if whole { rest } else { rng.random_range(0..20_000) },
        max_amount: *[0, 50, 1_000, MAX_SUPPLY].choose(rng).expect("some"),
    });
    let parameters = Parameters { min_fee: *[0, 1, 2, 100].choose(rng).expect("some"), ..Parameters::default() };
    let receipts = rng.random_bool(0.9).then(|| terms(rng));
    Genesis { chain_id: "reference".into(), mode, validators, accounts, faucet, receipts, parameters, staking }
}

/// Every period so short that it passes within a case.
fn staking(rng: &mut StdRng, unit: u64, crowd: Crowd) -> Staking {
    Staking {
        unit,
        min_stake: unit * rng.random_range(1..10),
        min_validators: rng.random_range(1..3),
        max_validators: rng.random_range(5..9),
        unbonding_epochs: if crowd == Crowd::Unbonding { 1_000 } else { rng.random_range(2..4) },
        unbonding_ms: rng.random_range(0..6_000),
        slash_bp: *[0, 500, 3_333, 10_000].choose(rng).expect("some"),
        jail_epochs: rng.random_range(1..4),
        absence_slots: rng.random_range(1..4),
        absence_ms: rng.random_range(0..3_000),
        block_reward: *[0, 7, 1_000].choose(rng).expect("some"),
    }
}

fn coordinator(n: u8) -> PublicKey {
    key(60 + n)
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

/// What the model makes of genesis; late enough for receipts that have expired.
fn model(genesis: &Genesis, set: Set) -> Model {
    let staking = Staked::new(genesis);
    let mut model = Model {
        accounts: BTreeMap::new(),
        faucet: genesis.faucet.as_ref().map(|faucet| (faucet_address(), faucet.max_amount.into())),
        head: Head { epoch: 0, height: 0, time: 1_000_000_000, first: false, set, leader: key(1), missed: Vec::new() },
        terms: staking.terms(),
        genesis: 0,
        minted: 0,
        burnt: 0,
        receipts: Receipts {
            chain_id: genesis.chain_id.clone(),
            terms: genesis.receipts.clone(),
            claimed: BTreeMap::new(),
            escrows: BTreeMap::new(),
            minted_by: BTreeMap::new(),
        },
        staking,
    };
    for account in &genesis.accounts {
        model.reward(&account.address, account.balance.into());
    }
    if let Some(faucet) = &genesis.faucet {
        model.reward(&faucet_address(), faucet.balance.into());
    }
    model.genesis = model.supply();
    model
}

/// A chain in the core and in the model, side by side.
struct Chain {
    rules: Rules,
    state: State,
    model: Model,
    /// The set of the next epoch.
    next: Set,
    epoch_blocks: u64,
    crowd: Crowd,
    /// What is mostly voted for.
    motion: Motion,
    /// Transactions of earlier blocks and batches, to come again.
    sent: Vec<Transaction>,
    seen: BTreeSet<&'static str>,
    /// Types of actions that took effect.
    done: BTreeSet<&'static str>,
}

impl Chain {
    fn new(rng: &mut StdRng) -> Chain {
        let crowd = *[Crowd::None, Crowd::None, Crowd::None, Crowd::Unbonding, Crowd::Votes].choose(rng).expect("some");
        let genesis = genesis(rng, crowd);
        genesis.check().expect("valid genesis");
        let set = plain_set(&genesis.validator_set().expect("a set"));
        Chain {
            rules: Rules::of(&genesis),
            state: State::from_genesis(&genesis),
            model: model(&genesis, set.clone()),
            next: set,
            epoch_blocks: match crowd {
                Crowd::None => rng.random_range(1..5),
                Crowd::Unbonding => 1,
                Crowd::Votes => 4,
            },
            crowd,
            motion: Motion::Remove(key(1)),
            sent: Vec::new(),
            seen: BTreeSet::new(),
            done: BTreeSet::new(),
        }
    }

    fn head(&self) -> &Head {
        &self.model.head
    }

    fn height(&self) -> u64 {
        narrow(self.head().height)
    }

    /// The next block's header; the first of an epoch finds the set after its own (E1).
    fn advance(&mut self, rng: &mut StdRng) {
        let (height, blocks) = (self.height(), self.epoch_blocks);
        let head = &mut self.model.head;
        (head.epoch, head.first) = (u128::from(height / blocks), height.is_multiple_of(blocks));
        if head.first && head.epoch > 0 {
            head.set = std::mem::take(&mut self.next);
            self.next = self.model.staking.next_set(&head.set);
            let decided = self.state.next_set(&self.rules, narrow(head.epoch) + 1, &core_set(&head.set));
            assert_eq!(plain_set(&decided), self.next, "epoch {}", head.epoch);
            let sets = &mut self.model.staking.sets;
            sets.insert(head.epoch + 1, self.next.clone());
            // Evidence is fresh for two epochs, and the last block's set is one of its own.
            sets.retain(|epoch, _| epoch + 3 > head.epoch);
        }
        let members: Vec<PublicKey> = head.set.keys().copied().collect();
        let skipped = if rng.random_bool(0.3) { rng.random_range(1..4) } else { 0 };
        head.missed = (0..skipped).map(|_| *members.choose(rng).expect("some")).collect();
        head.leader = *members.choose(rng).expect("some");
        head.time += rng.random_range(1..1_500);
        head.height += 1;
    }

    fn context(&self, proposer: Address, offences: Vec<Offence>) -> Context {
        let head = self.head();
        Context {
            epoch: narrow(head.epoch),
            height: self.height(),
            is_first: head.first,
            time_ms: narrow(head.time),
            proposer,
            set: Some(core_set(&head.set)),
            leader: Some(head.leader),
            missed: head.missed.clone(),
            offences,
        }
    }

    /// What misbehaved, as evidence in the header proves it; the model is told.
    fn offences(&mut self, rng: &mut StdRng) -> Vec<Offence> {
        let mut offences = Vec::new();
        while rng.random_bool(0.08) {
            let (key, tag) = (key(rng.random_range(1..=PLAYERS)), rng.random_range(0..5u8));
            let epoch = narrow(self.head().epoch).saturating_sub(rng.random_range(0..3));
            let slot = rng.random_range(1..9);
            offences.push(Offence { key, epoch, class: CLASSES[usize::from(tag)], slot });
            let (name, value) = evidence_record(&key, epoch, tag, slot, self.height());
            if let Entry::Vacant(first) = self.model.staking.offences.entry(name) {
                first.insert(value);
                self.model.punish(key, tag == 4);
            }
        }
        offences
    }

    fn anybody(&self, rng: &mut StdRng) -> Address {
        match rng.random_range(0..20) {
            0 => faucet_address(),
            1 => Address(rng.random()),
            _ => key(rng.random_range(1..=PLAYERS)).address(),
        }
    }

    fn transaction(&mut self, rng: &mut StdRng) -> Transaction {
        if rng.random_bool(0.05) && !self.sent.is_empty() {
            return self.sent[rng.random_range(0..self.sent.len())].clone();
        }
        let crowded = self.crowd != Crowd::None && rng.random_bool(0.5);
        let sender = if crowded { key(1) } else { key(rng.random_range(1..=PLAYERS)) };
        let had = self.model.entry(&address(&sender));
        let balance = u64::try_from(had.balance).expect("within the supply");
        let least = self.rules.min_fee;
        let free = balance.saturating_sub(if rng.random_bool(0.9) { 20 * least } else { 0 });
        let action = if crowded { self.crowding(rng, free) } else { self.action(rng, sender, free) };
        let due = least * u64::try_from(fee_units(&action)).expect("small");
        let fee = fee(rng, due, balance);
        let nonce = nonce(rng, u64::try_from(had.nonce).expect("small"));
        let expiry_height = match rng.random_range(0..10) {
            0 => self.height().saturating_sub(rng.random_range(0..2)),
            1 => u64::MAX,
            _ => self.height() + rng.random_range(0..5),
        };
        Transaction { sender, nonce, fee, expiry_height, action }
    }

    fn action(&mut self, rng: &mut StdRng, sender: PublicKey, free: u64) -> Action {
        match rng.random_range(0..30) {
            0..5 => Action::Transfer(Payment { to: self.anybody(rng), amount: amount(rng, free) }),
            5..7 => Action::TransferMany { payments: self.payments(rng, free) },
            10..14 => Action::ClaimReceipt(Box::new(self.receipt(rng))),
            14..16 => Action::ReleaseEscrow(Box::new(self.receipt(rng))),
            16..18 => Action::LockEscrow(self.lock(rng, free)),
            18..20 => Action::RefundEscrow { job_id: job_id(rng) },
            20..30 => self.stake(rng, sender, free),
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
        let now = narrow(self.head().time) / 1_000;
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
            0 => self.height().saturating_sub(rng.random_range(0..2)),
            1 => self.height() + 100_000_000 + rng.random_range(0..3),
            _ => self.height() + rng.random_range(1..8),
        };
        let provider = rng.random_bool(0.4).then(|| key(rng.random_range(1..=PLAYERS)).address());
        let most = if rng.random_bool(0.8) { free.min(400) } else { free };
        Lock { job_id: job_id(rng), provider, amount: amount(rng, most), timeout_height }
    }

    /// Mostly what may succeed: by its own validator or of its own stake.
    fn stake(&mut self, rng: &mut StdRng, sender: PublicKey, free: u64) -> Action {
        let owned = self.model.staking.known.iter().filter(|(_, known)| known.owner == address(&sender));
        let mut validators: Vec<PublicKey> = owned.map(|(key, _)| *key).collect();
        validators.push(key(rng.random_range(1..=PLAYERS)));
        let validator = *validators.choose(rng).expect("some");
        let stake = self.model.staking.known.get(&validator).map_or(0, |known| known.stake);
        let stake = u64::try_from(stake).expect("within the supply");
        match rng.random_range(0..12) {
            0..3 => Action::Bond(Stake { validator, amount: amount(rng, free) }),
            3..5 => Action::Unbond(Stake { validator, amount: amount(rng, stake) }),
            5 => Action::Activate { owner: self.anybody(rng) },
            6 => Action::Activate { owner: address(&sender) },
            7 => Action::Unjail,
            _ => Action::AuthorityVote(self.motion(rng)),
        }
    }

    /// What fills a list of player 1.
    fn crowding(&self, rng: &mut StdRng, free: u64) -> Action {
        let validator = key(1);
        match self.crowd {
            Crowd::Unbonding if rng.random_bool(0.2) => Action::Bond(Stake { validator, amount: free / 2 }),
            Crowd::Unbonding => Action::Unbond(Stake { validator, amount: 1 }),
            _ => {
                let value = rng.random_range(0..10_000);
                Action::AuthorityVote(Motion::SetTerm { term: Term::UnbondingMs, value })
            }
        }
    }

    fn motion(&mut self, rng: &mut StdRng) -> Motion {
        let validator = key(rng.random_range(1..=PLAYERS));
        let fixed = &self.rules.staking.fixed;
        let motion = match rng.random_range(0..8) {
            0..3 => Motion::Admit(validator),
            3 => Motion::Remove(validator),
            4 => Motion::SetTerm { term: Term::MinFee, value: *[0, 1, 3, 1_000_001].choose(rng).expect("some") },
            5 => {
                let value = *[0, fixed.unit, 3 * fixed.unit, fixed.min_stake].choose(rng).expect("some");
                Motion::SetTerm { term: Term::MinStake, value }
            }
            6 => Motion::SetTerm { term: Term::MaxValidators, value: rng.random_range(0..9) },
            _ => {
                let version = u16::try_from(self.model.staking.upgrades.len()).expect("few") + rng.random_range(1..4);
                Motion::ScheduleUpgrade { version, height: self.height() + rng.random_range(90..140) }
            }
        };
        if rng.random_bool(0.15) {
            self.motion = motion;
        }
        if rng.random_bool(0.8) { self.motion } else { motion }
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
        self.advance(rng);
        self.model.terms = self.model.staking.terms();
        let offences = self.offences(rng);
        self.model.begin();
        let (mut batches, mut expected, mut fees) = (Vec::new(), Vec::new(), 0);
        for author in 0..rng.random_range(0..4) {
            let mut txs: Vec<Transaction> = Vec::new();
            for _ in 0..rng.random_range(0..25) {
                let tx = self.transaction(rng);
                let (code, fee) = self.model.apply(&tx);
                if code == "OK" {
                    self.done.insert(json::type_name(&tx.action));
                }
                expected.push((code, fee));
                fees += fee;
                self.sent.push(tx.clone());
                txs.push(tx);
            }
            batches.push(self.batch(author, txs));
        }
        let proposer = self.anybody(rng);
        self.model.reward(&proposer, fees);
        self.model.end();
        let before = self.state.root();
        let executed = execute(&self.state, &self.rules, &self.context(proposer, offences), &batches);
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
        let batch = Batch { epoch: 0, author, seq: self.height(), expiry_height: self.height(), txs, signature };
        let digest = batch.digest();
        VerifiedBatch::trusted(Arc::new(batch), digest, &self.rules.chain)
    }

    fn compare(&mut self, rng: &mut StdRng, executed: &Executed, expected: &[(&'static str, u128)], fees: u128) {
        let height = self.height();
        assert_eq!(executed.results.len(), expected.len(), "height {height}");
        for (i, (result, (code, fee))) in executed.results.iter().zip(expected).enumerate() {
            assert_eq!((result.code.name(), u128::from(result.fee)), (*code, *fee), "height {height}, transaction {i}");
            self.seen.insert(code);
        }
        assert_eq!(u128::from(executed.fees), fees, "height {height}");
        let accounts = self.model.existing();
        assert_eq!(plain(&executed.state), accounts, "height {height}");
        let there = self.model.genesis + self.model.minted - self.model.burnt;
        assert_eq!(self.model.supply(), there, "height {height}: units are neither made nor lost");
        let records = self.model.records();
        assert_eq!(plain_records(&executed.state), records, "height {height}");
        assert_eq!(executed.state_root, state_root_with(&accounts, &records), "height {height}");
        let rebuilt = rebuilt(rng, &executed.state);
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
        assert_eq!(changed, differing.into_iter().collect::<Vec<_>>(), "height {}", self.height());
    }

    /// As [`Self::compare_changed`], of records.
    fn compare_changed_records(&self, changed: &[(RecordKey, Option<Record>)], after: &State) {
        let keys = self.state.records().chain(after.records()).map(|(key, _)| key.clone()).collect::<BTreeSet<_>>();
        let differing = keys.into_iter().filter(|key| self.state.record(key) != after.record(key));
        let differing: Vec<_> = differing.map(|key| (key.clone(), after.record(&key).cloned())).collect();
        assert_eq!(changed, differing, "height {}", self.height());
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

fn plain(state: &State) -> BTreeMap<Address, (u64, u64)> {
    state.iter().map(|(address, account)| (address, (account.balance, account.nonce))).collect()
}

/// Keys and values as bytes.
fn plain_records(state: &State) -> Records {
    state.records().map(|(key, record)| (codec::encode(key), codec::encode(record))).collect()
}

fn narrow(n: u128) -> u64 {
    u64::try_from(n).expect("a u64")
}

fn plain_set(set: &ValidatorSet) -> Set {
    set.members().iter().map(|member| (member.key, member.weight.into())).collect()
}

fn core_set(set: &Set) -> Arc<ValidatorSet> {
    let member =
        |(key, weight): (&PublicKey, &u128)| Validator { key: *key, weight: u32::try_from(*weight).expect("a u32") };
    Arc::new(ValidatorSet::new(set.iter().map(member).collect()).expect("a set"))
}

fn rebuilt(rng: &mut StdRng, of: &State) -> State {
    let mut accounts: Vec<_> = of.iter().collect();
    accounts.shuffle(rng);
    let mut records: Vec<_> = of.records().collect();
    records.shuffle(rng);
    let mut state = State::empty();
    for (key, record) in records {
        state.set_record(key.clone(), Some(record.clone()));
    }
    for (address, account) in accounts {
        state.set(address, account);
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
    let (mut seen, mut done) = (BTreeSet::new(), BTreeSet::new());
    let count = seed::cases("ledger", |rng| {
        let mut chain = Chain::new(rng);
        let mut actions = 0;
        let most = if chain.crowd == Crowd::Unbonding { 2 * ACTIONS } else { ACTIONS };
        while actions < most {
            actions += chain.block(rng);
        }
        seen.append(&mut chain.seen);
        done.append(&mut chain.done);
    });
    if count >= 100 {
        // The list of candidates is longer than these chains have players.
        let short = |code: &&ResultCode| **code != ResultCode::CandidatesFull;
        let all: BTreeSet<_> = ResultCode::ALL.iter().filter(short).map(|code| code.name()).collect();
        assert_eq!(seen, all, "every result code came up");
        assert_eq!(done.len(), 12, "every action took effect: {done:?}");
    }
}
