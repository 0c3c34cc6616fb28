//! What authorities decide by vote: who is admitted, terms within bounds, upgrades (protocol.md E2, V1).
//!
//! Authorities are the validators of the present epoch. In modes poa and hybrid each has one vote; in mode pos, which has
//! no authorities, votes weigh as stakes do, and only terms and upgrades can be moved. A vote counts in the epoch in which
//! it was cast and in the next one; a motion is carried by the vote with which more than two thirds are for it.

use super::Rules;
use crate::block::FIRST_VERSION;
use crate::codec;
use crate::genesis::{Mode, Staking};
use crate::params::{MAX_SUPPLY, MAX_UNBONDING_MS, MAX_VALIDATORS};
use crate::result_code::ResultCode;
use crate::transaction::{Motion, Term};
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Motions that one authority may have votes for in flight.
pub const MAX_VOTES: usize = 16;
/// Upgrades a chain may have in its life.
pub const MAX_UPGRADES: usize = 256;
/// Heights between a vote for an upgrade and the upgrade: time for the vote to be final and for nodes to read it.
pub const UPGRADE_NOTICE: u64 = 100;
/// Greatest least fee that can be chosen: a typo must not stop all traffic.
pub const MAX_MIN_FEE: u64 = 1_000_000;

/// What authorities can change.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema,
)]
#[schemars(rename = "StakingTerms")]
pub struct Terms {
    /// Least fee of a transaction, in smallest units.
    pub min_fee: u64,
    /// Least stake of a validator, in smallest units.
    pub min_stake: u64,
    /// Most validators in a set.
    pub max_validators: u16,
    /// How long unbonding takes beyond the epochs, in milliseconds of block time.
    pub unbonding_ms: u64,
}

impl Terms {
    /// Those of genesis.
    pub fn of(fixed: &Staking, min_fee: u64) -> Terms {
        let Staking { min_stake, max_validators, unbonding_ms, .. } = *fixed;
        Terms { min_fee, min_stake, max_validators, unbonding_ms }
    }

    /// Value of a term.
    pub fn get(&self, term: Term) -> u64 {
        match term {
            Term::MinFee => self.min_fee,
            Term::MinStake => self.min_stake,
            Term::MaxValidators => self.max_validators.into(),
            Term::UnbondingMs => self.unbonding_ms,
        }
    }

    /// These terms with one changed.
    ///
    /// # Errors
    /// `PARAMETER_OUT_OF_RANGE`; see [`Term`].
    pub fn with(mut self, rules: &Rules, term: Term, value: u64) -> Result<Terms, ResultCode> {
        let allowed = match term {
            Term::MinFee => 0..=MAX_MIN_FEE,
            Term::MinStake => rules.fixed.unit..=MAX_SUPPLY,
            Term::MaxValidators => rules.fixed.min_validators.into()..=MAX_VALIDATORS as u64,
            Term::UnbondingMs => 0..=MAX_UNBONDING_MS,
        };
        if !allowed.contains(&value) {
            return Err(ResultCode::ParameterOutOfRange);
        }
        match term {
            Term::MinFee => self.min_fee = value,
            Term::MinStake => self.min_stake = value,
            Term::MaxValidators => self.max_validators = value as u16,
            Term::UnbondingMs => self.unbonding_ms = value,
        }
        Ok(self)
    }
}

/// A vote in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[schemars(rename = "MotionVote")]
pub struct Vote {
    /// For what.
    pub motion: Motion,
    /// Epoch in which it was cast.
    pub epoch: u64,
}

/// The votes of one authority.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema,
)]
pub struct Ballot {
    /// Oldest first, no motion twice.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_VOTES>")]
    pub votes: Vec<Vote>,
}

impl Ballot {
    /// Whether a vote for `motion` counts in `epoch`.
    pub fn is_for(&self, motion: &Motion, epoch: u64) -> bool {
        self.votes.iter().any(|vote| vote.motion == *motion && vote.counts(epoch))
    }

    /// Drops what counts no more in `epoch`.
    pub fn expire(&mut self, epoch: u64) {
        self.votes.retain(|vote| vote.counts(epoch));
    }

    /// Drops the vote for a motion that was carried.
    pub fn forget(&mut self, motion: &Motion) {
        self.votes.retain(|vote| vote.motion != *motion);
    }

    /// Adds a vote.
    ///
    /// # Errors
    /// `ALREADY_VOTED`, `VOTES_FULL`.
    pub fn cast(&mut self, motion: Motion, epoch: u64) -> Result<(), ResultCode> {
        self.expire(epoch);
        if self.is_for(&motion, epoch) {
            return Err(ResultCode::AlreadyVoted);
        }
        if self.votes.len() >= MAX_VOTES {
            return Err(ResultCode::VotesFull);
        }
        self.votes.push(Vote { motion, epoch });
        Ok(())
    }
}

impl Vote {
    fn counts(&self, epoch: u64) -> bool {
        epoch <= self.epoch.saturating_add(1)
    }
}

/// Whether `for_it` of `all` is enough: more than two thirds.
pub fn is_carried(for_it: u64, all: u64) -> bool {
    3 * u128::from(for_it) > 2 * u128::from(all)
}

/// What a vote weighs, of a member that weighs `weight` in the set.
pub fn power(mode: Mode, weight: u64) -> u64 {
    match mode {
        Mode::Poa | Mode::Hybrid => 1,
        Mode::Pos => weight,
    }
}

/// A version and the first height that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
pub struct Upgrade {
    /// Version of the block format and of all rules.
    pub version: u16,
    /// First height.
    pub height: u64,
}

/// The upgrades of a chain, by ascending height and version.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema,
)]
pub struct Upgrades {
    /// Those scheduled, past ones too: old blocks are checked by the rules of their time.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_UPGRADES>")]
    pub list: Vec<Upgrade>,
}

impl Upgrades {
    /// The version that a block of `height` must have (V1).
    pub fn version_at(&self, height: u64) -> u16 {
        self.list.iter().rev().find(|upgrade| upgrade.height <= height).map_or(FIRST_VERSION, |upgrade| upgrade.version)
    }

    /// The first upgrade to a version above `spoken`: a program that speaks no newer one stops before it.
    pub fn beyond(&self, spoken: u16) -> Option<Upgrade> {
        self.list.iter().find(|upgrade| upgrade.version > spoken).copied()
    }

    /// These with one more, voted for in a block of `height`. The same version once more moves an upgrade that is still
    /// far enough ahead.
    ///
    /// # Errors
    /// `UPGRADE_OUT_OF_RANGE`.
    pub fn with(mut self, upgrade: Upgrade, height: u64) -> Result<Upgrades, ResultCode> {
        let soonest = height.saturating_add(UPGRADE_NOTICE);
        self.list.retain(|old| old.version != upgrade.version || old.height < soonest);
        let last = self.list.last().map_or(FIRST_VERSION, |last| last.version);
        let next = last.checked_add(1) == Some(upgrade.version) && self.list.len() < MAX_UPGRADES;
        let later = self.list.last().is_none_or(|last| last.height < upgrade.height);
        if !next || !later || upgrade.height < soonest {
            return Err(ResultCode::UpgradeOutOfRange);
        }
        self.list.push(upgrade);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PublicKey;

    const KEY: PublicKey = PublicKey([3; 32]);

    #[test]
    fn e2_a_vote_counts_in_its_epoch_and_the_next_and_once() {
        let mut ballot = Ballot::default();
        ballot.cast(Motion::Admit(KEY), 5).expect("first");
        assert_eq!(ballot.cast(Motion::Admit(KEY), 5), Err(ResultCode::AlreadyVoted));
        assert_eq!(ballot.cast(Motion::Admit(KEY), 6), Err(ResultCode::AlreadyVoted));
        assert!(ballot.is_for(&Motion::Admit(KEY), 6) && !ballot.is_for(&Motion::Admit(KEY), 7));
        assert!(!ballot.is_for(&Motion::Remove(KEY), 5));
        ballot.cast(Motion::Admit(KEY), 7).expect("the first is forgotten");
        ballot.forget(&Motion::Admit(KEY));
        assert_eq!(ballot, Ballot::default());
    }

    #[test]
    fn an_authority_has_as_many_votes_in_flight_as_are_kept() {
        let mut ballot = Ballot::default();
        let motion = |value| Motion::SetTerm { term: Term::MinFee, value };
        for value in 0..MAX_VOTES as u64 {
            ballot.cast(motion(value), 1).expect("room");
        }
        assert_eq!(ballot.cast(motion(99), 2), Err(ResultCode::VotesFull));
        assert_eq!((ballot.cast(motion(99), 3), ballot.votes.len()), (Ok(()), 1));
    }

    #[test]
    fn e2_more_than_two_thirds_carry_a_motion() {
        for all in 1..100 {
            let least = (0..=all).find(|n| is_carried(*n, all)).expect("all are enough");
            assert_eq!(least, 2 * all / 3 + 1, "{all}");
        }
        assert_eq!((power(Mode::Poa, 7), power(Mode::Hybrid, 7), power(Mode::Pos, 7)), (1, 1, 7));
    }

    #[test]
    fn each_term_changes_within_its_bounds_only() {
        let fixed = Staking { unit: 10, min_validators: 3, ..Staking::default() };
        let rules = Rules { fixed, ..Rules::default() };
        let bounds = [
            (Term::MinFee, 0, MAX_MIN_FEE),
            (Term::MinStake, 10, MAX_SUPPLY),
            (Term::MaxValidators, 3, 100),
            (Term::UnbondingMs, 0, MAX_UNBONDING_MS),
        ];
        for (term, least, most) in bounds {
            for value in [least, most] {
                let changed = Terms::default().with(&rules, term, value).expect("in bounds");
                assert_eq!(changed.get(term), value);
                for other in Term::ALL.into_iter().filter(|other| *other != term) {
                    assert_eq!(changed.get(other), 0, "{}", other.name());
                }
            }
            for value in [least.wrapping_sub(1), most + 1, u64::MAX] {
                assert_eq!(Terms::default().with(&rules, term, value), Err(ResultCode::ParameterOutOfRange));
            }
        }
    }

    #[test]
    fn v1_a_height_has_the_version_of_the_last_upgrade_at_or_below_it() {
        let none = Upgrades::default();
        assert_eq!(none.version_at(u64::MAX), FIRST_VERSION);
        let upgrade = |version, height| Upgrade { version, height };
        let two = none.with(upgrade(2, 200), 100).and_then(|one| one.with(upgrade(3, 500), 300)).expect("both");
        let versions = [0, 199, 200, 499, 500, 10_000].map(|height| two.version_at(height));
        assert_eq!(versions, [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn v1_a_program_stops_before_the_first_upgrade_that_it_does_not_speak() {
        let upgrade = |version, height| Upgrade { version, height };
        let two = Upgrades { list: vec![upgrade(2, 200), upgrade(3, 500)] };
        let stops = [1, 2, 3].map(|spoken| two.beyond(spoken));
        assert_eq!(stops, [Some(upgrade(2, 200)), Some(upgrade(3, 500)), None]);
        assert_eq!(Upgrades::default().beyond(1), None);
    }

    #[test]
    fn an_upgrade_is_to_the_next_version_and_far_enough_ahead() {
        let upgrade = |version, height| Upgrade { version, height };
        let refused = |upgrades: &Upgrades, upgrade, height| {
            assert_eq!(upgrades.clone().with(upgrade, height), Err(ResultCode::UpgradeOutOfRange));
        };
        let none = Upgrades::default();
        for wrong in [0, 1, 3, u16::MAX] {
            refused(&none, upgrade(wrong, 1_000), 10);
        }
        refused(&none, upgrade(2, 109), 10);
        let one = none.with(upgrade(2, 110), 10).expect("far enough");
        refused(&one, upgrade(3, 110), 10);
        refused(&one, upgrade(2, 300), 11);
        let moved = one.with(upgrade(2, 300), 10).expect("moved while it was far enough ahead");
        assert_eq!(moved.list, [upgrade(2, 300)]);
    }

    #[test]
    fn v1_a_chain_has_as_many_upgrades_in_its_life_as_are_kept() {
        let upgrade = |n: usize| Upgrade { version: FIRST_VERSION + n as u16, height: 1_000 * n as u64 };
        let mut upgrades = Upgrades::default();
        for n in 1..=MAX_UPGRADES {
            upgrades = upgrades.with(upgrade(n), 1_000 * n as u64 - 500).expect("room");
        }
        let height = upgrade(MAX_UPGRADES).height;
        assert_eq!(upgrades.with(upgrade(MAX_UPGRADES + 1), height), Err(ResultCode::UpgradeOutOfRange));
    }
}
