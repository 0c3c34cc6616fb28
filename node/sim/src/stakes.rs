//! The ledger of a simulated chain whose blocks decide who validates: stakes, votes, offences and absence (E1, E2, X7).
//!
//! It is one for all validators: a block's state depends on nothing but the blocks below it, so it is executed once, by whom it
//! reaches first, and everybody's core is told the same.

use crate::random::Random;
use crate::world::{key_of, unsigned};
use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::block::Header;
use aitbc_core::epoch::{Epochs, Sets};
use aitbc_core::genesis::{Genesis, GenesisAccount, GenesisValidator, Mode, Staking};
use aitbc_core::hash::Hash;
use aitbc_core::key::PublicKey;
use aitbc_core::ledger::{Context, Executed, Rules, execute};
use aitbc_core::params::Parameters;
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::staking::Candidate;
use aitbc_core::state::State;
use aitbc_core::transaction::{Action, Motion, SignedTransaction, Stake, Transaction};
use aitbc_core::validators::{Index, ValidatorSet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Smallest units of everybody at the start.
const FUNDS: u64 = 1_000_000;
/// At stake of each validator of genesis, where there are stakes.
const STAKE: u64 = 1_000;
const FEE: u64 = 20;

/// After a block.
struct End {
    state: State,
    /// Of the next block's epoch.
    sets: Sets,
    /// What it changed, of the validators.
    changes: Vec<String>,
}

/// Executed blocks, and what came of them.
pub struct Stakes {
    rules: Rules,
    epochs: Epochs,
    identities: Index,
    ends: BTreeMap<Hash, End>,
    /// Who has lost a part of its stake in any block.
    slashed: BTreeSet<PublicKey>,
    /// How often something happened in final blocks before, at, after or amid the ends of epochs: "jail at". Sets change at ends
    /// only, and twice: "join at" is the decision, "join begins at" the end of the epoch before that of the new set. What befell
    /// the block comes after it: "join at, leader killed".
    pub happened: BTreeMap<String, u64>,
}

impl Stakes {
    /// A chain with as many identities as there are weights, of which those with any validate from the start.
    pub fn new(chain: Hash, mode: Mode, weights: &[u32], parameters: &Parameters, random: &mut Random) -> Stakes {
        let genesis = genesis(mode, weights, parameters, random);
        let set = Arc::new(genesis.validator_set().expect("a plan has members"));
        let end = End { state: State::from_genesis(&genesis), sets: Sets::genesis(set), changes: Vec::new() };
        Stakes {
            rules: Rules { chain, ..Rules::of(&genesis) },
            epochs: Epochs::by(parameters),
            identities: weights.len() as Index,
            ends: BTreeMap::from([(chain, end)]),
            slashed: BTreeSet::new(),
            happened: BTreeMap::new(),
        }
    }

    /// Executes a block, once; its parent was.
    pub fn execute(&mut self, digest: Hash, header: &Header, batches: impl Iterator<Item = Batch>) {
        if self.ends.contains_key(&digest) {
            return;
        }
        let parent = self.ends.get(&header.parent).expect("H2: the parent was executed");
        let trusted = |batch: Batch| {
            let digest = batch.digest();
            VerifiedBatch::trusted(Arc::new(batch), digest, &self.rules.chain)
        };
        let batches: Vec<VerifiedBatch> = batches.map(trusted).collect();
        let context = Context::of(header, &parent.sets);
        let done = execute(&parent.state, &self.rules, &context, &batches);
        self.check_supply(&done.state);
        let mut changes = changes(&parent.state, &done);
        self.slashed.extend(context.offences.iter().map(|offence| offence.key));
        self.check_weights(&parent.sets.current, &done.state);
        let mut sets = parent.sets.clone();
        if self.epochs.is_boundary(header.height) {
            let after = done.state.next_set(&self.rules, header.epoch + 2, &sets.next);
            changes.extend(moves(&sets.next, &after).map(str::to_owned));
            changes.extend(moves(&sets.current, &sets.next).map(|change| format!("{change} begins")));
            sets = sets.advance(after);
        }
        self.ends.insert(digest, End { state: done.state, sets, changes });
    }

    fn check_supply(&self, state: &State) {
        let balances: u64 = state.iter().map(|(_, account)| account.balance).sum();
        let staked: u64 = state.candidates().iter().filter_map(|key| state.candidate(key)).map(Candidate::locked).sum();
        assert_eq!(balances + staked, state.supply().total(self.rules.supply), "units are neither made nor lost");
    }

    /// E2: who votes has at stake what its vote weighs, and loses it for what it does.
    fn check_weights(&self, set: &ValidatorSet, state: &State) {
        if self.rules.staking.mode == Mode::Poa {
            return;
        }
        for member in set.members().iter().filter(|member| !self.slashed.contains(&member.key)) {
            let locked = state.candidate(&member.key).map_or(0, Candidate::locked);
            let weight = u64::from(member.weight) * self.rules.staking.fixed.unit;
            assert!(locked >= weight, "{} weighs {weight} with {locked} at stake", member.key);
        }
    }

    /// The sets of the epoch of a block's child.
    pub fn sets_after(&self, digest: &Hash) -> &Sets {
        &self.ends.get(digest).expect("it was executed").sets
    }

    /// A block of the chain, told once, with what befell its proposal.
    pub fn note_final(&mut self, digest: &Hash, height: u64, faults: &BTreeSet<&'static str>) {
        let place = match height {
            _ if self.epochs.is_boundary(height) => "at",
            _ if self.epochs.is_boundary(height + 1) => "before",
            _ if self.epochs.is_boundary(height - 1) => "after",
            _ => "amid",
        };
        for change in &self.ends.get(digest).expect("it was executed").changes {
            *self.happened.entry(format!("{change} {place}")).or_default() += 1;
            for fault in faults {
                *self.happened.entry(format!("{change} {place}, {fault}")).or_default() += 1;
            }
        }
    }

    /// What somebody does about who validates, by what it knows after block `tip`.
    pub fn transaction(&self, tip: &Hash, expiry_height: u64, random: &mut Random) -> SignedTransaction {
        let end = self.ends.get(tip).expect("it was executed");
        let who = random.below(self.identities.into()) as Index;
        let sender = key_of(who);
        let action = self.action(end, who, random);
        let nonce = end.state.account(&sender.address()).nonce;
        unsigned(Transaction { sender, nonce, fee: FEE, expiry_height, action })
    }

    fn action(&self, end: &End, who: Index, random: &mut Random) -> Action {
        let known = end.state.candidate(&key_of(who)).cloned().unwrap_or_default();
        let validator = key_of(who);
        if known.jail.is_some() && random.percent(60) {
            return Action::Unjail;
        }
        match random.below(10) {
            0..2 => Action::Bond(Stake { validator, amount: random.choose(&[100, 200, STAKE]) }),
            2 => Action::Unbond(Stake { validator, amount: random.choose(&[100, 500, known.stake.max(1)]) }),
            3 => Action::Activate { owner: validator.address() },
            _ => Action::AuthorityVote(self.motion(end)),
        }
    }

    /// The same for everybody for two epochs, so that motions are carried: whoever is in has to go, or is let in.
    fn motion(&self, end: &End) -> Motion {
        let turn = (end.sets.epoch / 2).wrapping_mul(7) % u64::from(self.identities);
        let key = key_of(turn as Index);
        let admitted = end.state.candidate(&key).is_some_and(|known| known.admitted);
        if admitted { Motion::Remove(key) } else { Motion::Admit(key) }
    }
}

/// Every period so short that it passes in a run. Four validators remain, so that the one that lies is never too heavy.
fn genesis(mode: Mode, weights: &[u32], parameters: &Parameters, random: &mut Random) -> Genesis {
    let stake = if mode == Mode::Poa { 0 } else { STAKE };
    let members = (0..).zip(weights).filter(|(_, weight)| **weight > 0);
    let everybody = 0..weights.len() as Index;
    Genesis {
        chain_id: "simulated".into(),
        mode,
        validators: members.map(|(i, _)| GenesisValidator { public_key: key_of(i), weight: 1, stake }).collect(),
        accounts: everybody.map(|i| GenesisAccount { address: key_of(i).address(), balance: FUNDS }).collect(),
        faucet: None,
        receipts: None,
        parameters: parameters.clone(),
        staking: Staking {
            min_stake: 100,
            unit: 100,
            min_validators: 4,
            max_validators: random.between(weights.len() as u64 - 1, weights.len() as u64) as u16,
            unbonding_epochs: 2,
            unbonding_ms: random.choose(&[0, 300]),
            slash_bp: random.choose(&[500, 5_000]),
            jail_epochs: random.between(1, 3),
            absence_slots: random.between(2, 6) as u32,
            absence_ms: random.choose(&[0, 200]),
            block_reward: random.choose(&[0, 7]),
        },
    }
}

/// What a block did to validators.
fn changes(before: &State, done: &Executed) -> Vec<String> {
    let mut changes = Vec::new();
    for (key, record) in &done.changed_records {
        let RecordKey::Candidate { key } = key else { continue };
        let was = before.candidate(key).cloned().unwrap_or_default();
        let is = match record {
            Some(Record::Candidate(is)) => is.clone(),
            _ => Candidate::default(),
        };
        let found = [
            ("bond", is.stake > was.stake),
            ("unbond", is.stake < was.stake && is.locked() == was.locked()),
            ("slash", is.stake < was.stake && is.locked() < was.locked()),
            ("payout", is.unbonding.len() < was.unbonding.len()),
            ("admit", is.admitted && !was.admitted),
            ("remove", !is.admitted && was.admitted),
            ("jail", is.jail.is_some() && was.jail.is_none()),
            ("unjail", is.jail.is_none() && was.jail.is_some()),
        ];
        changes.extend(found.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name.to_owned()));
    }
    changes
}

/// How a set differs from the one before.
fn moves(before: &ValidatorSet, after: &ValidatorSet) -> impl Iterator<Item = &'static str> {
    let weight = |set: &ValidatorSet, key| set.index_of(key).map(|index| set.weight(index));
    let joins = after.members().iter().any(|member| before.index_of(&member.key).is_none());
    let leaves = before.members().iter().any(|member| after.index_of(&member.key).is_none());
    let both =
        before.members().iter().filter_map(|member| Some((u64::from(member.weight), weight(after, &member.key)?)));
    let weighs = both.into_iter().any(|(was, is)| was != is);
    let found = [("join", joins), ("leave", leaves), ("weight", weighs)];
    found.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name)
}
