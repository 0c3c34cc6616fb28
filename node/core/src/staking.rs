//! Who may validate, with what at stake: candidates, their stake, jail and absence (protocol.md E1, E2, X7).
//!
//! All of it are plain values and what happens to them; `ledger` reads them from the state's records and writes them back.
//! docs/staking.md tells the same to users.
//!
//! ```text
//! Candidate   owner [20] | stake u64 | weight u32 | admitted bool | active bool | jail: 0 or 1, until u64, cause u8
//!             | missed u32 | missed_since_ms u64 | list of (amount u64, epoch u64, since_ms u64)      (borsh)
//! ```
//!
//! A validator's way in, by mode; each step in any order, a set counts it from two epochs later on (E1):
//!
//! | step | action, signed by | poa | pos | hybrid |
//! |---|---|---|---|---|
//! | says that it is ready, and who owns its stake | `Activate`, the validator | yes | yes | yes |
//! | is admitted | `AuthorityVote`, validators of the epoch | yes | – | yes |
//! | has at least `min_stake` at stake | `Bond`, the owner | – | yes | yes |

pub mod motion;
pub mod set;

use crate::codec;
use crate::evidence::Class;
use crate::genesis::{Genesis, Mode, Staking};
use crate::key::Address;
use crate::params::{MAX_VALIDATORS, MAX_WEIGHT};
use crate::result_code::ResultCode;
use borsh::{BorshDeserialize, BorshSerialize};
use motion::Terms;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Candidates that a chain keeps for their stake; authorities may admit [`MAX_VALIDATORS`] more.
pub const MAX_CANDIDATES: usize = 1_024;
/// Candidates that a chain keeps at most.
pub const MAX_LISTED: usize = MAX_CANDIDATES + MAX_VALIDATORS;
/// Parts of one stake that may be unbonding at once; what is unbonded in one epoch is one part.
pub const MAX_UNBONDINGS: usize = 32;
/// Skipped slots that one block counts against their leaders: the last ones before it.
pub const MAX_COUNTED_SKIPS: u64 = 256;

/// What of genesis the rules here go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// How validators are chosen.
    pub mode: Mode,
    /// Fixed for ever.
    pub fixed: Staking,
}

impl Rules {
    /// The rules of a chain.
    pub fn of(genesis: &Genesis) -> Rules {
        Rules { mode: genesis.mode, fixed: genesis.staking.clone() }
    }
}

/// Why a validator is jailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "JailCause")]
pub enum Cause {
    /// It signed two things that contradict each other (X7).
    DoubleSigning,
    /// It led no block for long.
    Absence,
}

/// Out of all later sets until [`Candidate::unjail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
pub struct Jail {
    /// First epoch in which it may end.
    pub until: u64,
    /// Why.
    pub cause: Cause,
}

/// A part of a stake on its way back to the owner. It can still be slashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
pub struct Unbonding {
    /// Smallest units.
    pub amount: u64,
    /// Epoch in which it was unbonded; it counts no more from the second after it on.
    pub epoch: u64,
    /// Time of the first block of that second epoch, in milliseconds since 1970; 0 until then.
    pub since_ms: u64,
}

/// Everything the chain knows of a validator's key beside its account.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema,
)]
pub struct Candidate {
    /// Who bonds, unbonds and is paid out; named by `Activate`.
    pub owner: Address,
    /// Smallest units at stake.
    pub stake: u64,
    /// Voting power in mode poa, 1 unless genesis says otherwise; 0 in the other modes, where the stake says it.
    pub weight: u32,
    /// By genesis or a motion; of no meaning in mode pos.
    pub admitted: bool,
    /// Whether its key has said that it is ready (E2).
    pub active: bool,
    /// `None`: not jailed.
    pub jail: Option<Jail>,
    /// Slots it should have led since its last block, and did not.
    pub missed: u32,
    /// Time of the block that counted the first of them, in milliseconds since 1970.
    pub missed_since_ms: u64,
    /// What is on its way back, oldest first.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_UNBONDINGS>")]
    pub unbonding: Vec<Unbonding>,
}

type Outcome = Result<(), ResultCode>;

fn must(holds: bool, code: ResultCode) -> Outcome {
    if holds { Ok(()) } else { Err(code) }
}

impl Candidate {
    /// A validator of genesis: ready, admitted, its own owner.
    pub fn of_genesis(owner: Address, stake: u64, weight: u32) -> Candidate {
        Candidate { owner, stake, weight, admitted: true, active: true, ..Candidate::default() }
    }

    /// True where the chain has to look at it at each epoch: it has stake, or had, or is admitted.
    pub fn is_listed(&self) -> bool {
        self.stake > 0 || self.admitted || !self.unbonding.is_empty()
    }

    /// True where nothing is known that a stranger's key would not have as well.
    pub fn is_empty(&self) -> bool {
        !self.is_listed() && !self.active && self.jail.is_none()
    }

    /// All units that an offence can cost.
    pub fn locked(&self) -> u64 {
        self.unbonding.iter().fold(self.stake, |sum, part| sum.saturating_add(part.amount))
    }

    /// Whether a set may hold it (E2).
    pub fn is_eligible(&self, mode: Mode, terms: &Terms) -> bool {
        self.may_join(mode, terms) && self.active && self.jail.is_none()
    }

    /// Whether a set may hold it as soon as its own key has said that it is ready.
    pub fn may_join(&self, mode: Mode, terms: &Terms) -> bool {
        let (admitted, staked) = (self.admitted, self.stake >= terms.min_stake);
        match mode {
            Mode::Poa => admitted,
            Mode::Pos => staked,
            Mode::Hybrid => admitted && staked,
        }
    }

    /// `Activate`: the key says that it is ready, and whose its stake is. The owner stays who it is while it has something
    /// at stake, or the validator's key alone could take it.
    ///
    /// # Errors
    /// `ALREADY_ACTIVE`; `NOT_OWNER` where another owner still has something at stake.
    pub fn activate(&mut self, owner: Address) -> Outcome {
        must(!self.active || (self.locked() == 0 && self.owner != owner), ResultCode::AlreadyActive)?;
        must(self.locked() == 0 || self.owner == owner, ResultCode::NotOwner)?;
        (self.owner, self.active) = (owner, true);
        Ok(())
    }

    /// `Bond`: the sender has paid.
    ///
    /// # Errors
    /// `STAKING_DISABLED`, `NOT_ACTIVATED`, `NOT_OWNER`, `BOND_TOO_SMALL`; `BOND_TOO_LARGE` for more than weighs something,
    /// which genesis refuses too.
    pub fn bond(&mut self, rules: &Rules, terms: &Terms, sender: Address, amount: u64) -> Outcome {
        must(rules.mode != Mode::Poa, ResultCode::StakingDisabled)?;
        must(self.active, ResultCode::NotActivated)?;
        must(self.owner == sender, ResultCode::NotOwner)?;
        let stake = self.stake.saturating_add(amount);
        must(stake >= terms.min_stake, ResultCode::BondTooSmall)?;
        must(stake / rules.fixed.unit.max(1) <= u64::from(MAX_WEIGHT), ResultCode::BondTooLarge)?;
        self.stake = stake;
        Ok(())
    }

    /// `Unbond`: what leaves is paid out later ([`Self::start_epoch`]). With the last unit the validator leaves too, and has
    /// to activate again before it comes back.
    ///
    /// # Errors
    /// `STAKING_DISABLED`, `NOT_OWNER`, `UNBOND_TOO_MUCH`, `BOND_TOO_SMALL` for what would remain, `UNBONDINGS_FULL`.
    pub fn unbond(&mut self, rules: &Rules, terms: &Terms, sender: Address, amount: u64, epoch: u64) -> Outcome {
        must(rules.mode != Mode::Poa, ResultCode::StakingDisabled)?;
        must(self.owner == sender && self.locked() > 0, ResultCode::NotOwner)?;
        let rest = self.stake.checked_sub(amount).ok_or(ResultCode::UnbondTooMuch)?;
        must(rest == 0 || rest >= terms.min_stake, ResultCode::BondTooSmall)?;
        let full = self.unbonding.len() >= MAX_UNBONDINGS;
        match self.unbonding.last_mut().filter(|last| last.epoch == epoch) {
            Some(last) => last.amount = last.amount.saturating_add(amount),
            None if full => return Err(ResultCode::UnbondingsFull),
            None => self.unbonding.push(Unbonding { amount, epoch, since_ms: 0 }),
        }
        self.stake = rest;
        self.active &= rest > 0;
        Ok(())
    }

    /// `Unjail`, signed by the validator itself: it is ready again.
    ///
    /// # Errors
    /// `NOT_JAILED`, `STILL_JAILED`, `NOT_ADMITTED` where authorities have to admit it again first (X7).
    pub fn unjail(&mut self, mode: Mode, epoch: u64) -> Outcome {
        let jail = self.jail.ok_or(ResultCode::NotJailed)?;
        must(epoch >= jail.until, ResultCode::StillJailed)?;
        must(mode == Mode::Pos || self.admitted, ResultCode::NotAdmitted)?;
        (self.jail, self.active) = (None, true);
        self.forget_missed();
        Ok(())
    }

    /// The first block of `epoch`, of time `time_ms`: answers the units that go back to the owner now. Those unbonded in e
    /// go in the first block from e + 2 + `unbonding_epochs` on that is `unbonding_ms` later than the first of e + 2 (E2).
    /// Where its weight in the set of `epoch` stands for more than its stake, as in a set that stayed for want of another,
    /// the newest of what is unbonding counts still, as if unbonded in `epoch` − 1.
    pub fn start_epoch(&mut self, rules: &Rules, terms: &Terms, epoch: u64, time_ms: u64, weight: u64) -> u64 {
        let mut paid = 0u64;
        let mut counts = weight.saturating_mul(rules.fixed.unit).saturating_sub(self.stake);
        for part in self.unbonding.iter_mut().rev() {
            if counts > 0 {
                (part.epoch, part.since_ms) = (part.epoch.max(epoch.saturating_sub(1)), 0);
            }
            counts = counts.saturating_sub(part.amount);
        }
        self.unbonding.retain_mut(|part| {
            let outside = part.epoch.saturating_add(2);
            if epoch >= outside && part.since_ms == 0 {
                part.since_ms = time_ms;
            }
            let due = epoch >= outside.saturating_add(rules.fixed.unbonding_epochs)
                && time_ms >= part.since_ms.saturating_add(terms.unbonding_ms);
            if due {
                paid = paid.saturating_add(part.amount);
            }
            !due
        });
        paid
    }

    /// A stake that is too small to validate with, after a slash or for new terms, and does not: as if its owner unbonded
    /// it, so that it takes no place among [`MAX_CANDIDATES`] for nothing. What has no part free waits for one.
    pub fn unbond_too_small(&mut self, rules: &Rules, terms: &Terms, epoch: u64) {
        if self.stake > 0 && self.stake < terms.min_stake {
            let _waits = self.unbond(rules, terms, self.owner, self.stake, epoch);
        }
    }

    /// X7: an offence, proven in a block of `epoch`. Votes that contradict each other cost `slash_bp` of all that is at stake
    /// or unbonding, each part rounded down; batches cost nothing; both jail. Where authorities decide, they have to admit
    /// it again. Answers the units that are gone.
    pub fn punish(&mut self, rules: &Rules, class: Class, epoch: u64) -> u64 {
        let mut burnt = 0;
        if class != Class::Batches {
            let parts = self.unbonding.iter_mut().map(|part| &mut part.amount);
            for amount in parts.chain([&mut self.stake]) {
                let cut = slashed(*amount, rules.fixed.slash_bp);
                *amount -= cut;
                burnt += cut;
            }
            self.unbonding.retain(|part| part.amount > 0);
        }
        let until = match rules.mode {
            Mode::Pos => epoch.saturating_add(rules.fixed.jail_epochs),
            Mode::Poa | Mode::Hybrid => epoch,
        };
        let until = self.jail.map_or(until, |jail| jail.until.max(until));
        self.jail = Some(Jail { until, cause: Cause::DoubleSigning });
        self.admitted = false;
        burnt
    }

    /// A slot that it should have led was skipped, as a block of time `time_ms` in `epoch` shows. Jails it for the rest of
    /// the epoch at least once that has gone on for `absence_slots` slots and `absence_ms`; authorities are not asked.
    pub fn miss_slot(&mut self, rules: &Rules, epoch: u64, time_ms: u64) {
        if self.missed == 0 {
            self.missed_since_ms = time_ms;
        }
        self.missed = self.missed.saturating_add(1);
        let long = time_ms.saturating_sub(self.missed_since_ms) >= rules.fixed.absence_ms;
        if self.jail.is_none() && self.missed >= rules.fixed.absence_slots && long {
            self.jail = Some(Jail { until: epoch.saturating_add(1), cause: Cause::Absence });
        }
    }

    /// It led a block.
    pub fn forget_missed(&mut self) {
        (self.missed, self.missed_since_ms) = (0, 0);
    }

    /// Whether it has a share in the block reward: the nearest that the chain itself can tell of "it signs".
    pub fn is_working(&self) -> bool {
        self.jail.is_none() && self.missed == 0
    }
}

/// `slash_bp` ten-thousandths, rounded down.
fn slashed(amount: u64, slash_bp: u16) -> u64 {
    let cut = u128::from(amount) * u128::from(slash_bp) / 10_000;
    u64::try_from(cut).unwrap_or(amount).min(amount)
}

/// Shares of `reward` by weight, each rounded down; what that leaves is not minted.
pub fn shares(reward: u64, weights: &[u64]) -> Vec<u64> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let share = |weight: &u64| u64::try_from(u128::from(reward) * u128::from(*weight) / total.max(1)).unwrap_or(0);
    weights.iter().map(share).collect()
}

#[cfg(test)]
mod tests;
