//! Stakes and votes in a block: which records an action, an offence, a skipped slot and a new epoch change (docs/staking.md).
//!
//! A block begins, before its transactions: offences are punished (X7); skipped slots count against their leaders; in the
//! first block of an epoch, what has finished unbonding goes to its owners. It ends: fees to the proposer, then the reward.

use super::{Block, Rules};
use crate::epoch::Sets;
use crate::evidence::Offence;
use crate::genesis::{Genesis, GenesisValidator, Mode};
use crate::key::PublicKey;
use crate::record::{Record, RecordKey};
use crate::result_code::ResultCode;
use crate::staking::motion::{Ballot, Terms, Upgrade, Upgrades, is_carried, power};
use crate::staking::{Candidate, MAX_CANDIDATES, MAX_LISTED, set, shares};
use crate::state::State;
use crate::supply::Supply;
use crate::transaction::{Action, Motion, Stake, Transaction};
use crate::validators::ValidatorSet;
use std::cmp::Reverse;
use std::sync::Arc;

type Outcome = Result<(), ResultCode>;

/// What a motion brings about.
enum Effect {
    Admission(PublicKey, bool),
    Terms(Terms),
    Upgrades(Upgrades),
}

/// The records of a chain's beginning: its validators as candidates.
pub(super) fn records_of(genesis: &Genesis) -> impl Iterator<Item = (RecordKey, Record)> {
    let candidate = |v: &GenesisValidator| {
        let weight = if genesis.mode == Mode::Poa { v.weight } else { 0 };
        let admitted = genesis.mode != Mode::Pos;
        let candidate = Candidate { admitted, ..Candidate::of_genesis(v.public_key.address(), v.stake, weight) };
        (RecordKey::Candidate { key: v.public_key }, Record::Candidate(candidate))
    };
    let mut keys: Vec<PublicKey> = genesis.validators.iter().map(|v| v.public_key).collect();
    keys.sort_unstable();
    let records: Vec<_> = genesis.validators.iter().map(candidate).collect();
    records.into_iter().chain([(RecordKey::Candidates, Record::Candidates { keys })])
}

impl State {
    /// What the chain knows of a validator's key.
    pub fn candidate(&self, key: &PublicKey) -> Option<&Candidate> {
        match self.record(&RecordKey::Candidate { key: *key }) {
            Some(Record::Candidate(candidate)) => Some(candidate),
            _ => None,
        }
    }

    /// Keys of all that are admitted, or have something at stake or unbonding, ascending.
    pub fn candidates(&self) -> &[PublicKey] {
        match self.record(&RecordKey::Candidates) {
            Some(Record::Candidates { keys }) => keys,
            _ => &[],
        }
    }

    /// The terms by which the next block is made.
    pub fn terms(&self, rules: &Rules) -> Terms {
        match self.record(&RecordKey::Terms) {
            Some(Record::Terms(terms)) => *terms,
            _ => Terms::of(&rules.staking.fixed, rules.min_fee),
        }
    }

    /// The version that a block of `height` must have (V1). An upgrade is known long before its height.
    pub fn version_at(&self, height: u64) -> u16 {
        match self.record(&RecordKey::Upgrades) {
            Some(Record::Upgrades(upgrades)) => upgrades.version_at(height),
            _ => Upgrades::default().version_at(height),
        }
    }

    /// The first upgrade to a version above `spoken`: a program that speaks no newer one stops before it (V1).
    pub fn upgrade_beyond(&self, spoken: u16) -> Option<Upgrade> {
        match self.record(&RecordKey::Upgrades) {
            Some(Record::Upgrades(upgrades)) => upgrades.beyond(spoken),
            _ => None,
        }
    }

    /// What was minted and burnt.
    pub fn supply(&self) -> Supply {
        match self.record(&RecordKey::Supply) {
            Some(Record::Supply(supply)) => *supply,
            _ => Supply::default(),
        }
    }

    /// **E1** set(`epoch`), as this state, that after the last block of `epoch` − 2, decides it; `current` is
    /// set(`epoch` − 1). It does not depend on the number of the epoch.
    pub fn next_set(&self, rules: &Rules, _epoch: u64, current: &Arc<ValidatorSet>) -> Arc<ValidatorSet> {
        let with = |key: &PublicKey| self.candidate(key).map(|candidate| (*key, candidate.clone()));
        let listed = self.candidates();
        // No list has who signed twice and lost admission or stake; it is jailed nevertheless.
        let others = current.members().iter().map(|member| &member.key).filter(|key| !listed.contains(key));
        let candidates: Vec<_> = listed.iter().chain(others).filter_map(with).collect();
        let next = set::next_set(&candidates, &rules.staking, &self.terms(rules), current);
        if next == **current { current.clone() } else { Arc::new(next) }
    }

    /// Candidates that none of these sets has and that a later one may have, be they ready or not: those with the greatest stakes,
    /// of equals the smaller keys, at most `most`. They follow the chain until it is their turn.
    pub fn waiting(&self, rules: &Rules, sets: &Sets, most: usize) -> Vec<PublicKey> {
        let (mode, terms) = (rules.staking.mode, self.terms(rules));
        let near = [&sets.previous, &sets.current, &sets.next];
        let outside = self.candidates().iter().filter(|key| near.iter().all(|set| set.index_of(key).is_none()));
        let with = outside.filter_map(|key| Some((self.candidate(key)?, *key)));
        let mut waiting: Vec<_> = with.filter(|(candidate, _)| candidate.may_join(mode, &terms)).collect();
        waiting.sort_by_key(|(candidate, key)| (Reverse(candidate.stake), *key));
        waiting.into_iter().take(most).map(|(_, key)| key).collect()
    }
}

impl Block<'_> {
    /// What a block does before its transactions, once its offences are punished.
    pub(super) fn begin(&mut self) {
        let (context, rules) = (self.context, &self.rules.staking);
        for key in context.missed.iter().filter(|key| Some(**key) != context.leader) {
            self.change(*key, |candidate| candidate.miss_slot(rules, context.epoch, context.time_ms));
        }
        if let Some(key) = context.leader {
            self.change(key, Candidate::forget_missed);
        }
        if context.is_first {
            self.start_epoch();
        }
    }

    /// E2: what has finished unbonding goes to its owners. Who is not in the set starts afresh when it comes back.
    fn start_epoch(&mut self) {
        let (context, rules, terms) = (self.context, &self.rules.staking, self.terms);
        for key in self.keys().to_vec() {
            let weight = context.weight(&key);
            let (owner, paid) = self.change(key, |candidate| {
                if weight == 0 {
                    candidate.forget_missed();
                    candidate.unbond_too_small(rules, &terms, context.epoch);
                }
                (candidate.owner, candidate.start_epoch(rules, &terms, context.epoch, context.time_ms, weight))
            });
            if paid > 0 {
                self.credit(owner, paid);
            }
        }
    }

    /// **X7.** What an offence costs its validator.
    pub(super) fn punish(&mut self, offence: &Offence) {
        let (rules, epoch) = (&self.rules.staking, self.context.epoch);
        let burnt = self.change(offence.key, |candidate| candidate.punish(rules, offence.class, epoch));
        if burnt > 0 {
            self.set_supply(self.supply().burning(burnt));
        }
    }

    /// The block reward, by weight among the members that work. What does not divide is not minted; nothing is where there
    /// would be more units than there may be.
    pub(super) fn reward(&mut self) {
        let (context, reward) = (self.context, self.rules.staking.fixed.block_reward);
        if reward == 0 {
            return;
        }
        let working: Vec<_> =
            context.members().iter().filter(|member| self.candidate(&member.key).is_working()).collect();
        let shares = shares(reward, &working.iter().map(|member| member.weight.into()).collect::<Vec<_>>());
        let Some(supply) = self.supply().minting(self.rules.supply, shares.iter().sum()) else { return };
        self.set_supply(supply);
        for (member, share) in working.into_iter().zip(shares).filter(|(_, share)| *share > 0) {
            self.credit(member.key.address(), share);
        }
    }

    /// Stakes and votes, once the fee is paid.
    pub(super) fn stake(&mut self, sender: usize, tx: &Transaction) -> Outcome {
        let (address, rules, terms, epoch) = (tx.sender.address(), &self.rules.staking, self.terms, self.context.epoch);
        match &tx.action {
            Action::Bond(stake) => self.bond(sender, tx, stake),
            Action::Unbond(Stake { validator, amount }) => {
                self.try_change(*validator, |candidate| candidate.unbond(rules, &terms, address, *amount, epoch))
            }
            Action::Activate { owner } => self.try_change(tx.sender, |candidate| candidate.activate(*owner)),
            Action::Unjail => self.try_change(tx.sender, |candidate| candidate.unjail(rules.mode, epoch)),
            Action::AuthorityVote(motion) => self.vote(tx.sender, motion),
            other => unreachable!("{other:?} has its own way"),
        }
    }

    fn bond(&mut self, sender: usize, tx: &Transaction, stake: &Stake) -> Outcome {
        let (rules, terms) = (&self.rules.staking, self.terms);
        let balance = self.accounts.get(sender).balance;
        let rest = balance.checked_sub(stake.amount).ok_or(ResultCode::InsufficientBalance)?;
        self.try_change(stake.validator, |candidate| candidate.bond(rules, &terms, tx.sender.address(), stake.amount))?;
        self.accounts.get(sender).balance = rest;
        Ok(())
    }

    /// E2: a vote, and what the motion brings about once it is carried.
    fn vote(&mut self, voter: PublicKey, motion: &Motion) -> Outcome {
        let (context, epoch) = (self.context, self.context.epoch);
        if context.weight(&voter) == 0 {
            return Err(ResultCode::NotAuthority);
        }
        let effect = self.effect_of(motion)?;
        let mut ballot = self.ballot(&voter);
        ballot.cast(*motion, epoch)?;
        self.set_ballot(voter, ballot);
        let weigh = |weight: u32| power(self.rules.staking.mode, weight.into());
        let for_it = context.members().iter().filter(|member| self.ballot(&member.key).is_for(motion, epoch));
        let for_it = for_it.map(|member| weigh(member.weight)).sum();
        if !is_carried(for_it, context.members().iter().map(|member| weigh(member.weight)).sum()) {
            return Ok(());
        }
        for member in context.members() {
            let mut ballot = self.ballot(&member.key);
            ballot.forget(motion);
            self.set_ballot(member.key, ballot);
        }
        self.bring_about(effect);
        Ok(())
    }

    /// What a motion would bring about now.
    fn effect_of(&self, motion: &Motion) -> Result<Effect, ResultCode> {
        let rules = &self.rules.staking;
        match *motion {
            Motion::Admit(key) => self.admission(key, true),
            Motion::Remove(key) => self.admission(key, false),
            Motion::SetTerm { term, value } => {
                let now = self.latest_terms();
                let then = now.with(rules, term, value)?;
                if then == now { Err(ResultCode::MotionPointless) } else { Ok(Effect::Terms(then)) }
            }
            Motion::ScheduleUpgrade { version, height } => {
                let upgrades = self.upgrades().with(Upgrade { version, height }, self.context.height)?;
                Ok(Effect::Upgrades(upgrades))
            }
        }
    }

    fn admission(&self, key: PublicKey, admit: bool) -> Result<Effect, ResultCode> {
        let candidate = self.candidate(&key);
        if self.rules.staking.mode == Mode::Pos || candidate.admitted == admit {
            return Err(ResultCode::MotionPointless);
        }
        if admit && !candidate.is_listed() && self.keys().len() >= MAX_LISTED {
            return Err(ResultCode::CandidatesFull);
        }
        Ok(Effect::Admission(key, admit))
    }

    fn bring_about(&mut self, effect: Effect) {
        match effect {
            Effect::Admission(key, admitted) => {
                let poa = self.rules.staking.mode == Mode::Poa;
                self.change(key, |candidate| {
                    candidate.admitted = admitted;
                    candidate.weight = if poa { candidate.weight.max(1) } else { 0 };
                });
            }
            Effect::Terms(terms) => self.accounts.set_record(RecordKey::Terms, Some(Record::Terms(terms))),
            Effect::Upgrades(upgrades) => {
                self.accounts.set_record(RecordKey::Upgrades, Some(Record::Upgrades(upgrades)));
            }
        }
    }

    fn candidate(&self, key: &PublicKey) -> Candidate {
        match self.accounts.record(&RecordKey::Candidate { key: *key }) {
            Some(Record::Candidate(candidate)) => candidate.clone(),
            _ => Candidate::default(),
        }
    }

    /// Changes a candidate where that is allowed, and the list of candidates with it.
    fn try_change<T>(
        &mut self,
        key: PublicKey,
        change: impl FnOnce(&mut Candidate) -> Result<T, ResultCode>,
    ) -> Result<T, ResultCode> {
        let before = self.candidate(&key);
        let mut after = before.clone();
        let done = change(&mut after)?;
        if after.is_listed() && !before.is_listed() && self.keys().len() >= MAX_CANDIDATES {
            return Err(ResultCode::CandidatesFull);
        }
        self.put(key, &before, after);
        Ok(done)
    }

    /// Changes a candidate in a way that lists no new one for its stake.
    fn change<T>(&mut self, key: PublicKey, change: impl FnOnce(&mut Candidate) -> T) -> T {
        let before = self.candidate(&key);
        let mut after = before.clone();
        let done = change(&mut after);
        self.put(key, &before, after);
        done
    }

    fn put(&mut self, key: PublicKey, before: &Candidate, after: Candidate) {
        if *before == after {
            return;
        }
        if before.is_listed() != after.is_listed() {
            let mut keys = self.keys().to_vec();
            match keys.binary_search(&key) {
                Ok(at) => drop(keys.remove(at)),
                Err(at) => keys.insert(at, key),
            }
            self.accounts.set_record(RecordKey::Candidates, Some(Record::Candidates { keys }));
        }
        let record = (!after.is_empty()).then_some(Record::Candidate(after));
        self.accounts.set_record(RecordKey::Candidate { key }, record);
    }

    fn keys(&self) -> &[PublicKey] {
        match self.accounts.record(&RecordKey::Candidates) {
            Some(Record::Candidates { keys }) => keys,
            _ => &[],
        }
    }

    fn ballot(&self, voter: &PublicKey) -> Ballot {
        match self.accounts.record(&RecordKey::Ballot { voter: *voter }) {
            Some(Record::Ballot(ballot)) => ballot.clone(),
            _ => Ballot::default(),
        }
    }

    fn set_ballot(&mut self, voter: PublicKey, ballot: Ballot) {
        let record = (!ballot.votes.is_empty()).then_some(Record::Ballot(ballot));
        self.accounts.set_record(RecordKey::Ballot { voter }, record);
    }

    /// The terms as the block so far leaves them.
    fn latest_terms(&self) -> Terms {
        match self.accounts.record(&RecordKey::Terms) {
            Some(Record::Terms(terms)) => *terms,
            _ => self.terms,
        }
    }

    fn upgrades(&self) -> Upgrades {
        match self.accounts.record(&RecordKey::Upgrades) {
            Some(Record::Upgrades(upgrades)) => upgrades.clone(),
            _ => Upgrades::default(),
        }
    }
}

#[cfg(test)]
mod tests;
