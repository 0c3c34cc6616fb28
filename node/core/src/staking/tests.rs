//! Candidates and shares, rule by rule.

use super::*;
use crate::params::MAX_SUPPLY;

const OWNER: Address = Address([1; 20]);
const TERMS: Terms = Terms { min_fee: 1, min_stake: 100, max_validators: 100, unbonding_ms: 5_000 };
const OTHER: Address = Address([2; 20]);

fn rules(mode: Mode) -> Rules {
    let fixed = Staking { min_stake: 100, absence_slots: 3, absence_ms: 1_000, ..Staking::default() };
    Rules { mode, fixed }
}

fn bonded(stake: u64) -> Candidate {
    Candidate { owner: OWNER, stake, active: true, ..Candidate::default() }
}

fn bond(candidate: &mut Candidate, sender: Address, amount: u64) -> Outcome {
    let rules = rules(Mode::Pos);
    candidate.bond(&rules, &TERMS, sender, amount)
}

fn unbond(candidate: &mut Candidate, sender: Address, amount: u64, epoch: u64) -> Outcome {
    let rules = rules(Mode::Hybrid);
    candidate.unbond(&rules, &TERMS, sender, amount, epoch)
}

/// Refused with this code, and nothing is changed.
fn refused(before: &Candidate, code: ResultCode, act: impl FnOnce(&mut Candidate) -> Outcome) {
    let mut after = before.clone();
    assert_eq!(act(&mut after), Err(code));
    assert_eq!(after, *before);
}

#[test]
fn e2_only_the_owner_that_the_validator_named_bonds_and_not_below_the_minimum() {
    let mut candidate = Candidate::default();
    refused(&candidate, ResultCode::NotActivated, |c| bond(c, OWNER, 100));
    candidate.activate(OWNER).expect("first");
    refused(&candidate, ResultCode::NotOwner, |c| bond(c, OTHER, 100));
    refused(&candidate, ResultCode::BondTooSmall, |c| bond(c, OWNER, 99));
    refused(&candidate, ResultCode::StakingDisabled, |c| {
        let rules = rules(Mode::Poa);
        c.bond(&rules, &TERMS, OWNER, 100)
    });
    assert_eq!(bond(&mut candidate, OWNER, 100), Ok(()));
    assert_eq!(bond(&mut candidate, OWNER, 1), Ok(()), "more is always enough");
    refused(&candidate, ResultCode::BondTooLarge, |c| bond(c, OWNER, 1 << 50));
    assert_eq!(candidate.stake, 101);
}

#[test]
fn e2_a_stakes_owner_stays_while_there_is_something_to_take() {
    let mut candidate = bonded(100);
    refused(&candidate, ResultCode::AlreadyActive, |c| c.activate(OWNER));
    refused(&candidate, ResultCode::AlreadyActive, |c| c.activate(OTHER));
    unbond(&mut candidate, OWNER, 100, 0).expect("all");
    assert!(!candidate.active, "it has to say again that it is ready");
    refused(&candidate, ResultCode::NotOwner, |c| c.activate(OTHER));
    assert_eq!(candidate.clone().activate(OWNER), Ok(()));
    candidate.unbonding.clear();
    assert_eq!(candidate.activate(OTHER), Ok(()));
    assert_eq!(candidate.activate(OWNER), Ok(()), "nothing is at stake");
    assert_eq!(candidate.owner, OWNER);
}

#[test]
fn e2_more_than_is_bonded_cannot_be_unbonded_and_what_remains_is_nothing_or_enough() {
    let mut candidate = bonded(150);
    refused(&candidate, ResultCode::NotOwner, |c| unbond(c, OTHER, 10, 0));
    refused(&candidate, ResultCode::UnbondTooMuch, |c| unbond(c, OWNER, 151, 0));
    refused(&candidate, ResultCode::BondTooSmall, |c| unbond(c, OWNER, 51, 0));
    refused(&candidate, ResultCode::StakingDisabled, |c| {
        let rules = rules(Mode::Poa);
        c.unbond(&rules, &TERMS, OWNER, 50, 0)
    });
    refused(&Candidate { owner: OWNER, ..Candidate::default() }, ResultCode::NotOwner, |c| unbond(c, OWNER, 1, 0));
    assert_eq!(unbond(&mut candidate, OWNER, 50, 3), Ok(()));
    assert_eq!((candidate.stake, candidate.active, candidate.locked()), (100, true, 150));
    assert_eq!(unbond(&mut candidate, OWNER, 100, 3), Ok(()));
    assert_eq!(candidate.unbonding, [Unbonding { amount: 150, epoch: 3, since_ms: 0 }], "one part an epoch");
}

#[test]
fn e2_as_many_parts_unbond_at_once_as_are_kept() {
    let mut candidate = bonded(100_000);
    for epoch in 0..MAX_UNBONDINGS as u64 {
        unbond(&mut candidate, OWNER, 1, epoch).expect("room");
    }
    refused(&candidate, ResultCode::UnbondingsFull, |c| unbond(c, OWNER, 1, MAX_UNBONDINGS as u64));
    assert_eq!(unbond(&mut candidate, OWNER, 1, MAX_UNBONDINGS as u64 - 1), Ok(()));
}

#[test]
fn e2_a_stake_is_paid_out_after_the_epochs_and_the_time_both() {
    let rules = rules(Mode::Pos);
    let start = |c: &mut Candidate, epoch, time_ms| c.start_epoch(&rules, &TERMS, epoch, time_ms, 0);
    let mut fast = bonded(150);
    unbond(&mut fast, OWNER, 50, 7).expect("unbonded");
    let mut slow = fast.clone();
    // Epochs of 100 s: after two more epochs outside, and not before.
    assert_eq!([start(&mut slow, 8, 100_000), start(&mut slow, 9, 200_000), start(&mut slow, 10, 300_000)], [0, 0, 0]);
    assert_eq!(slow.unbonding[0].since_ms, 200_000, "it counts from the first epoch without it on");
    assert_eq!((start(&mut slow, 11, 400_000), slow.locked()), (50, 100));
    // Epochs of 1 s: the time decides.
    for epoch in 8..14 {
        assert_eq!(start(&mut fast, epoch, epoch * 1_000), 0, "{epoch}");
    }
    assert_eq!((start(&mut fast, 14, 14_000), fast.unbonding.len()), (50, 0));
}

#[test]
fn e2_what_unbonds_counts_as_long_as_the_set_goes_by_it() {
    let rules = rules(Mode::Pos);
    let mut candidate = bonded(150);
    unbond(&mut candidate, OWNER, 50, 7).expect("unbonded");
    for epoch in 8..20 {
        assert_eq!(candidate.start_epoch(&rules, &TERMS, epoch, epoch * 100_000, 150), 0, "{epoch}");
    }
    assert_eq!(candidate.unbonding, [Unbonding { amount: 50, epoch: 18, since_ms: 0 }], "it weighs 150 in epoch 19");
    let paid = (20..=22).map(|epoch| candidate.start_epoch(&rules, &TERMS, epoch, epoch * 100_000, 100));
    assert_eq!(paid.collect::<Vec<_>>(), [0, 0, 50], "two epochs after the first in which it weighs 100");
}

#[test]
fn e2_the_wait_of_what_counts_no_more_is_not_begun_again_by_what_unbonds_later() {
    let rules = rules(Mode::Pos);
    let mut candidate = bonded(200);
    unbond(&mut candidate, OWNER, 50, 7).expect("unbonded");
    let mut paid = 0;
    for epoch in 8..=11 {
        // Each set is two epochs behind the stake.
        let weight = if epoch < 9 { 200 } else { 158 - epoch + 1 };
        paid += candidate.start_epoch(&rules, &TERMS, epoch, epoch * 100_000, weight);
        unbond(&mut candidate, OWNER, 1, epoch).expect("unbonded");
    }
    assert_eq!(paid, 50);
}

#[test]
fn e2_a_stake_too_small_to_validate_with_unbonds_where_there_is_room() {
    let rules = rules(Mode::Pos);
    let mut enough = bonded(100);
    enough.unbond_too_small(&rules, &TERMS, 3);
    assert_eq!(enough, bonded(100));
    let mut small = bonded(99);
    small.unbond_too_small(&rules, &TERMS, 3);
    assert_eq!((small.stake, small.locked(), small.active), (0, 99, false));
    let mut full = bonded(99);
    full.unbonding = (0..MAX_UNBONDINGS as u64).map(|epoch| Unbonding { amount: 1, epoch, since_ms: 0 }).collect();
    let before = full.clone();
    full.unbond_too_small(&rules, &TERMS, 99);
    assert_eq!(full, before);
}

#[test]
fn x7_double_signing_costs_a_part_of_all_that_is_locked_and_jails() {
    let mut candidate = Candidate { admitted: true, ..bonded(1_000) };
    unbond(&mut candidate, OWNER, 210, 5).expect("unbonded");
    let pos = rules(Mode::Pos);
    assert_eq!(candidate.clone().punish(&pos, Class::Finals, 6), 39 + 10, "each part rounded down");
    let mut votes = candidate.clone();
    votes.punish(&pos, Class::Finals, 6);
    assert_eq!((votes.stake, votes.unbonding[0].amount), (751, 200));
    assert_eq!(votes.jail, Some(Jail { until: 16, cause: Cause::DoubleSigning }));
    assert!(!votes.is_working(), "no share in the reward, though it missed nothing");
    let mut batches = candidate.clone();
    assert_eq!((batches.punish(&pos, Class::Batches, 6), batches.locked()), (0, 1_000));
    assert!(batches.jail.is_some());
    let mut all = candidate.clone();
    let ruin = Rules { fixed: Staking { slash_bp: 10_000, ..pos.fixed.clone() }, ..pos };
    assert_eq!((all.punish(&ruin, Class::Finals, 6), all.locked()), (1_000, 0));
}

#[test]
fn x7_who_signed_twice_comes_back_after_epochs_or_by_the_authorities() {
    let mut pos = bonded(1_000);
    pos.punish(&rules(Mode::Pos), Class::Finals, 6);
    refused(&pos, ResultCode::StillJailed, |c| c.unjail(Mode::Pos, 15));
    assert_eq!((pos.unjail(Mode::Pos, 16), pos.jail), (Ok(()), None));
    refused(&pos, ResultCode::NotJailed, |c| c.unjail(Mode::Pos, 17));
    for mode in [Mode::Poa, Mode::Hybrid] {
        let mut candidate = Candidate { admitted: true, ..bonded(1_000) };
        candidate.punish(&rules(mode), Class::Batches, 6);
        refused(&candidate, ResultCode::NotAdmitted, |c| c.unjail(mode, 100));
        candidate.admitted = true;
        assert_eq!(candidate.unjail(mode, 6), Ok(()));
    }
}

#[test]
fn x7_a_second_offence_never_shortens_the_jail() {
    let mut candidate = bonded(1_000);
    candidate.punish(&rules(Mode::Pos), Class::Finals, 20);
    candidate.punish(&rules(Mode::Pos), Class::Batches, 6);
    assert_eq!(candidate.jail.map(|jail| jail.until), Some(30));
    for time_ms in [1, 90_000, 180_000] {
        candidate.miss_slot(&rules(Mode::Pos), 6, time_ms);
    }
    assert_eq!(candidate.jail.map(|jail| (jail.until, jail.cause)), Some((30, Cause::DoubleSigning)));
}

#[test]
fn an_absence_is_as_many_slots_and_as_long_and_ends_with_a_block() {
    let rules = rules(Mode::Poa);
    let mut quick = Candidate::of_genesis(OWNER, 0, 1);
    for _ in 0..50 {
        quick.miss_slot(&rules, 4, 1_999);
    }
    assert!(quick.jail.is_none() && !quick.is_working(), "many slots in no time");
    let mut rare = Candidate::of_genesis(OWNER, 0, 1);
    rare.miss_slot(&rules, 4, 0);
    rare.miss_slot(&rules, 4, 90_000);
    assert!(rare.jail.is_none(), "a long time, two slots");
    let mut back = rare.clone();
    back.forget_missed();
    back.miss_slot(&rules, 4, 91_000);
    back.miss_slot(&rules, 4, 91_100);
    assert!(back.jail.is_none(), "its block ended the absence");
    rare.miss_slot(&rules, 4, 91_000);
    assert_eq!(rare.jail, Some(Jail { until: 5, cause: Cause::Absence }));
    assert!(rare.admitted, "authorities need not be asked");
    refused(&rare, ResultCode::StillJailed, |c| c.unjail(Mode::Poa, 4));
    assert_eq!((rare.unjail(Mode::Poa, 5), rare.missed), (Ok(()), 0));
}

#[test]
fn a_reward_is_shared_by_weight_and_the_rest_is_not_made() {
    assert_eq!(shares(10, &[1, 1, 1]), [3, 3, 3]);
    assert_eq!(shares(MAX_SUPPLY, &[1, 2_000_000_000]), [4_503_599, MAX_SUPPLY - 4_503_600]);
    assert_eq!(shares(2, &[1, 1, 1]), [0, 0, 0]);
    assert_eq!(shares(5, &[]), Vec::<u64>::new());
}
