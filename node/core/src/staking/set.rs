//! The next validator set: a pure function of the candidates and the set before (protocol.md E1, E2).

use super::{Candidate, Rules, motion::Terms};
use crate::genesis::Mode;
use crate::key::PublicKey;
use crate::params::MAX_WEIGHT;
use crate::validators::{Validator, ValidatorSet, weight_of_stake};
use std::cmp::Reverse;

/// The set after `current`, from the candidates as they are after the boundary block two epochs earlier (E1):
///
/// 1. Eligible are candidates as [`Candidate::is_eligible`] says.
/// 2. Those with the greatest stake are wanted, `max_validators` of them; of equals the smaller key goes first.
/// 3. A wanted one weighs its stake / `unit`, capped as [`Mode::cap`] says; poa: its weight.
/// 4. Weight that `current` has not is let in up to a quarter of all of its weight, and up to a third of the weight that
///    stays, at least 1, by key; the excess waits. Who waits altogether takes no place: the eligible of `current` keep theirs.
/// 5. Where these are fewer than `min_validators`, as many of `current` as are wanting stay as they are: first those not
///    jailed, then the greater weights, of equals the smaller key.
/// 6. The cap is applied again.
/// 7. Still fewer, or none of `current` that is eligible: `current` stays.
pub fn next_set(
    candidates: &[(PublicKey, Candidate)],
    rules: &Rules,
    terms: &Terms,
    current: &ValidatorSet,
) -> ValidatorSet {
    let mut ranked: Vec<&(PublicKey, Candidate)> =
        candidates.iter().filter(|(_, candidate)| candidate.is_eligible(rules.mode, terms)).collect();
    ranked.sort_by_key(|(key, candidate)| (Reverse(rank(rules.mode, candidate)), *key));
    let most = usize::from(terms.max_validators);
    let wanted = ranked.iter().take(most).map(|(key, candidate)| member(*key, candidate, rules)).collect();
    let wanted = capped(wanted, rules.mode);
    let waiting: Vec<Validator> =
        ranked.iter().skip(most).map(|(key, candidate)| member(*key, candidate, rules)).collect();
    let stays = |member: &Validator| current.weight_of(&member.key).min(member.weight.into());
    let stay: u64 = wanted.iter().chain(&waiting).map(stays).sum();
    let room = (current.total_weight() / 4).min(stay / 3).max(1);
    let mut members = let_in(wanted, room, current);
    // Places that newcomers could not take yet stay with those who have them.
    let staying = |key: &PublicKey| current.index_of(key).is_some();
    let had = |key: &PublicKey| current.index_of(key).and_then(|at| current.get(at)).map_or(0, |member| member.weight);
    let places = most.saturating_sub(members.len());
    let kept = waiting.into_iter().filter(|member| staying(&member.key)).take(places);
    members.extend(kept.map(|member| Validator { weight: member.weight.min(had(&member.key)), ..member }));
    if !members.iter().any(|member| staying(&member.key)) {
        return current.clone();
    }
    let wanting = usize::from(rules.fixed.min_validators).saturating_sub(members.len());
    members.extend(last_to_leave(candidates, current, &members, wanting));
    if members.len() < usize::from(rules.fixed.min_validators) {
        return current.clone();
    }
    ValidatorSet::new(capped(members, rules.mode)).unwrap_or_else(|_| current.clone())
}

/// Step 5: so many of those of `current` that are not in `members`.
fn last_to_leave(
    candidates: &[(PublicKey, Candidate)],
    current: &ValidatorSet,
    members: &[Validator],
    wanting: usize,
) -> Vec<Validator> {
    let jailed = |key: &PublicKey| candidates.iter().any(|(of, candidate)| of == key && candidate.jail.is_some());
    let leaves = |old: &&Validator| !members.iter().any(|member| member.key == old.key);
    let mut leaving: Vec<Validator> = current.members().iter().filter(leaves).cloned().collect();
    leaving.sort_by_key(|member| (jailed(&member.key), Reverse(member.weight), member.key));
    leaving.truncate(wanting);
    leaving
}

/// What candidates are ordered by, greatest first.
fn rank(mode: Mode, candidate: &Candidate) -> u64 {
    match mode {
        Mode::Poa => 0,
        Mode::Pos | Mode::Hybrid => candidate.stake,
    }
}

fn member(key: PublicKey, candidate: &Candidate, rules: &Rules) -> Validator {
    let weight = match rules.mode {
        Mode::Poa => candidate.weight.clamp(1, MAX_WEIGHT),
        Mode::Pos | Mode::Hybrid => weight_of_stake(candidate.stake, rules.fixed.unit),
    };
    Validator { key, weight }
}

/// Steps 3 and 6.
fn capped(mut members: Vec<Validator>, mode: Mode) -> Vec<Validator> {
    let mut weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
    mode.cap(&mut weights);
    for (member, weight) in members.iter_mut().zip(weights) {
        member.weight = weight;
    }
    members
}

/// Step 4: new weight as far as there is room for it, by key.
fn let_in(mut wanted: Vec<Validator>, mut room: u64, current: &ValidatorSet) -> Vec<Validator> {
    wanted.sort_by_key(|member| member.key);
    for member in &mut wanted {
        let had = current.weight_of(&member.key);
        let joins = u64::from(member.weight).saturating_sub(had).min(room);
        room -= joins;
        let weight = u64::from(member.weight).min(had + joins);
        member.weight = u32::try_from(weight).unwrap_or(member.weight);
    }
    wanted.retain(|member| member.weight > 0);
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::Staking;
    use crate::key::Address;
    use crate::staking::{Cause, Jail};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    fn rules(mode: Mode, max: u16, min: u16) -> Rules {
        let fixed = Staking { min_stake: 10, max_validators: max, min_validators: min, ..Staking::default() };
        Rules { mode, fixed }
    }

    fn terms(rules: &Rules) -> Terms {
        Terms::of(&rules.fixed, 1)
    }

    fn candidate(n: u8, stake: u64) -> (PublicKey, Candidate) {
        (key(n), Candidate::of_genesis(Address([n; 20]), stake, 1))
    }

    fn set(members: &[(u8, u32)]) -> ValidatorSet {
        ValidatorSet::new(members.iter().map(|(n, weight)| Validator { key: key(*n), weight: *weight }).collect())
            .expect("a set")
    }

    fn next(candidates: &[(PublicKey, Candidate)], rules: &Rules, current: &ValidatorSet) -> Vec<(u8, u32)> {
        let next = next_set(candidates, rules, &terms(rules), current);
        next.members().iter().map(|member| (member.key.0[0], member.weight)).collect()
    }

    /// What comes of it, epoch by epoch, until it stays.
    fn settled(candidates: &[(PublicKey, Candidate)], rules: &Rules, mut current: ValidatorSet) -> Vec<(u8, u32)> {
        for _ in 0..200 {
            let after = next_set(candidates, rules, &terms(rules), &current);
            if after == current {
                break;
            }
            current = after;
        }
        current.members().iter().map(|member| (member.key.0[0], member.weight)).collect()
    }

    #[test]
    fn e2_poa_takes_those_admitted_and_active_and_not_jailed() {
        let mut all: Vec<_> = (1..=6).map(|n| candidate(n, 0)).collect();
        all[3].1.admitted = false;
        all[4].1.active = false;
        all[5].1.jail = Some(Jail { until: 9, cause: Cause::Absence });
        let current = set(&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]);
        assert_eq!(next(&all, &rules(Mode::Poa, 100, 1), &current), [(1, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn e2_pos_takes_the_greatest_stakes_and_of_equals_the_smaller_key() {
        let all = [candidate(1, 9), candidate(2, 50), candidate(3, 40), candidate(4, 40), candidate(5, 60)];
        let rules = rules(Mode::Pos, 3, 1);
        let current = set(&[(1, 1_000), (2, 50), (3, 40), (5, 60)]);
        assert_eq!(next(&all, &rules, &current), [(2, 50), (3, 40), (5, 60)], "1 has less than min_stake");
        let mut stranger = all.to_vec();
        stranger[2].1.admitted = false;
        assert_eq!(next(&stranger, &rules, &current), [(2, 50), (3, 40), (5, 60)], "pos asks no authority");
        stranger.reverse();
        assert_eq!(next(&stranger, &rules, &current), [(2, 50), (3, 40), (5, 60)], "whatever comes first");
    }

    #[test]
    fn e2_hybrid_wants_admission_and_stake_both() {
        let mut all = vec![candidate(1, 50), candidate(2, 50), candidate(3, 9), candidate(4, 50)];
        all[3].1.admitted = false;
        let current = set(&[(1, 50), (2, 50), (3, 50), (4, 50)]);
        assert_eq!(next(&all, &rules(Mode::Hybrid, 100, 1), &current), [(1, 50), (2, 50)]);
    }

    #[test]
    fn e2_a_quarter_of_the_weight_joins_at_once_by_key_and_the_excess_waits() {
        let all: Vec<_> = (1..=6).map(|n| candidate(n, 100)).collect();
        let rules = rules(Mode::Pos, 100, 1);
        let four = set(&[(3, 100), (4, 100), (5, 100), (6, 100)]);
        assert_eq!(next(&all, &rules, &four), [(1, 100), (3, 100), (4, 100), (5, 100), (6, 100)]);
        let three = set(&[(4, 100), (5, 100), (6, 100)]);
        let first = next(&all, &rules, &three);
        assert_eq!(first, [(1, 75), (4, 100), (5, 100), (6, 100)]);
        assert_eq!(settled(&all, &rules, three), [(1, 100), (2, 100), (3, 100), (4, 100), (5, 100), (6, 100)]);
    }

    #[test]
    fn e2_poa_grows_by_one_from_any_size() {
        let all: Vec<_> = (1..=10).map(|n| candidate(n, 0)).collect();
        let rules = rules(Mode::Poa, 100, 1);
        assert_eq!(next(&all, &rules, &set(&[(9, 1)])), [(1, 1), (9, 1)]);
        assert_eq!(settled(&all, &rules, set(&[(9, 1)])).len(), 10);
    }

    #[test]
    fn e2_more_stake_of_a_member_joins_as_a_newcomers_does() {
        let all = [candidate(1, 1_000), candidate(2, 100), candidate(3, 100)];
        let rules = rules(Mode::Pos, 100, 1);
        let current = set(&[(1, 100), (2, 100), (3, 100)]);
        assert_eq!(next(&all, &rules, &current), [(1, 175), (2, 100), (3, 100)]);
        assert_eq!(settled(&all, &rules, current), [(1, 1_000), (2, 100), (3, 100)]);
    }

    #[test]
    fn e2_who_waits_takes_no_place_from_who_is_there() {
        // All four places go to richer newcomers, one at a time.
        let poor: Vec<_> = (5..=8).map(|n| candidate(n, 100)).collect();
        let rich: Vec<_> = (1..=4).map(|n| candidate(n, 110)).collect();
        let all = [poor, rich].concat();
        let rules = rules(Mode::Pos, 4, 4);
        let mut current = set(&[(5, 100), (6, 100), (7, 100), (8, 100)]);
        let first = next(&all, &rules, &current);
        assert_eq!(first, [(1, 100), (5, 100), (6, 100), (7, 100)]);
        for _ in 0..20 {
            current = next_set(&all, &rules, &terms(&rules), &current);
            assert_eq!(current.len(), 4);
        }
        assert_eq!(settled(&all, &rules, current), [(1, 110), (2, 110), (3, 110), (4, 110)]);
    }

    #[test]
    fn e2_who_keeps_a_place_for_now_gains_no_weight_in_it() {
        let poor: Vec<_> = (5..=8).map(|n| candidate(n, 100)).collect();
        let rich: Vec<_> = (1..=4).map(|n| candidate(n, 110)).collect();
        let current = set(&[(5, 50), (6, 50), (7, 50), (8, 50)]);
        let first = next(&[poor, rich].concat(), &rules(Mode::Pos, 4, 4), &current);
        assert_eq!(first, [(1, 50), (5, 50), (6, 50), (7, 50)]);
    }

    #[test]
    fn e2_a_stake_over_the_cap_takes_no_room_that_it_cannot_use() {
        let all = [candidate(1, 10_000), candidate(2, 15), candidate(3, 10), candidate(4, 10)];
        let current = set(&[(1, 10), (2, 10), (3, 10), (4, 10)]);
        let first = next(&all, &rules(Mode::Hybrid, 100, 1), &current);
        assert_eq!(first, [(1, 16), (2, 13), (3, 10), (4, 10)]);
    }

    #[test]
    fn e1_too_few_are_no_set_and_the_one_before_stays() {
        let all = [candidate(1, 50), candidate(2, 50), candidate(3, 5)];
        let current = set(&[(1, 50), (2, 50), (3, 50)]);
        assert_eq!(next(&all, &rules(Mode::Pos, 100, 3), &current), [(1, 50), (2, 50), (3, 50)]);
        assert_eq!(next(&all, &rules(Mode::Pos, 100, 2), &current), [(1, 50), (2, 50)]);
        assert_eq!(next(&[], &rules(Mode::Pos, 100, 1), &current), [(1, 50), (2, 50), (3, 50)]);
    }

    #[test]
    fn e1_a_set_that_is_too_small_and_cannot_be_filled_stays_as_it_is() {
        let current = set(&[(1, 50), (2, 50)]);
        assert_eq!(next(&[candidate(1, 60)], &rules(Mode::Pos, 100, 3), &current), [(1, 50), (2, 50)]);
        assert_eq!(next(&[candidate(1, 60)], &rules(Mode::Pos, 100, 2), &current), [(1, 60), (2, 50)]);
    }

    #[test]
    fn e2_removals_are_not_capped() {
        let mut all: Vec<_> = (1..=8).map(|n| candidate(n, 50)).collect();
        for (_, candidate) in &mut all[..5] {
            candidate.jail = Some(Jail { until: 3, cause: Cause::DoubleSigning });
        }
        let current = set(&(1..=8).map(|n| (n, 50)).collect::<Vec<_>>());
        assert_eq!(next(&all, &rules(Mode::Pos, 100, 1), &current), [(6, 50), (7, 50), (8, 50)]);
    }

    #[test]
    fn e2_in_hybrid_nobody_holds_a_third_of_four_or_more_and_in_poa_weights_stay() {
        let all = [candidate(1, 10_000), candidate(2, 10), candidate(3, 10), candidate(4, 10)];
        let current = set(&[(1, 10), (2, 10), (3, 10), (4, 10)]);
        assert_eq!(settled(&all, &rules(Mode::Hybrid, 100, 1), current), [(1, 14), (2, 10), (3, 10), (4, 10)]);
        let mut heavy = all.to_vec();
        heavy[0].1.weight = 7;
        assert_eq!(next(&heavy, &rules(Mode::Poa, 100, 1), &set(&[(1, 7), (2, 1), (3, 1), (4, 1)]))[0], (1, 7));
    }

    #[test]
    fn e2_small_stakes_of_strangers_never_rule_in_place_of_one_great_stake() {
        let all = [candidate(1, 1_000_000), candidate(2, 1_000), candidate(3, 1_000), candidate(4, 1_000)];
        let mut current = set(&[(1, 1_000_000)]);
        for _ in 0..5 {
            current = next_set(&all, &rules(Mode::Pos, 100, 1), &terms(&rules(Mode::Pos, 100, 1)), &current);
            assert!(current.weight(0) > current.faulty_weight(), "{current:?}");
        }
    }

    #[test]
    fn e2_newcomers_are_a_quarter_of_those_who_stay_not_of_those_who_leave() {
        let all: Vec<_> = (1..=9).map(|n| candidate(n, 100)).collect();
        let rules = rules(Mode::Pos, 100, 1);
        // 6 to 9 of eight are gone: of 400 that stay, 133 join.
        let members: Vec<_> = (4..=7).chain(11..=14).map(|n| (n, 100)).collect();
        assert_eq!(next(&all, &rules, &set(&members)), [(1, 100), (2, 33), (4, 100), (5, 100), (6, 100), (7, 100)]);
    }

    #[test]
    fn e1_who_leaves_a_set_that_is_too_small_goes_once_another_has_come() {
        let mut all: Vec<_> = (1..=6).map(|n| candidate(n, 0)).collect();
        for (_, candidate) in &mut all[..2] {
            candidate.jail = Some(Jail { until: 3, cause: Cause::Absence });
        }
        all[2].1.admitted = false;
        let rules = rules(Mode::Poa, 100, 4);
        let mut sets = vec![set(&[(1, 1), (2, 1), (3, 1), (4, 1)])];
        for _ in 0..3 {
            let after = next_set(&all, &rules, &terms(&rules), &sets[sets.len() - 1]);
            sets.push(after);
        }
        let keys = |set: &ValidatorSet| set.members().iter().map(|member| member.key.0[0]).collect::<Vec<_>>();
        let keys: Vec<_> = sets.iter().map(keys).collect();
        assert_eq!(keys[1..], [vec![1, 3, 4, 5], vec![3, 4, 5, 6], vec![3, 4, 5, 6]], "3 is not jailed");
    }

    #[test]
    fn e1_newcomers_alone_are_no_set() {
        let all = [candidate(5, 50)];
        let current = set(&[(1, 50), (2, 50), (3, 50), (4, 50)]);
        assert_eq!(next(&all, &rules(Mode::Pos, 100, 1), &current), [(1, 50), (2, 50), (3, 50), (4, 50)]);
    }

    #[test]
    fn random_candidates_make_sets_within_every_bound_that_do_not_depend_on_their_order() {
        for seed in 0..3_000 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mode = [Mode::Poa, Mode::Pos, Mode::Hybrid][rng.random_range(0..3)];
            let min = rng.random_range(1..4);
            let rules = rules(mode, rng.random_range(min..12), min);
            let mut current = set(&[(1, 10), (2, 30), (3, 10)]);
            for _ in 0..6 {
                let mut all: Vec<_> =
                    (1..rng.random_range(2..14)).map(|n| candidate(n, rng.random_range(0..200))).collect();
                for (_, candidate) in &mut all {
                    candidate.admitted = rng.random_bool(0.8);
                    candidate.active = rng.random_bool(0.9);
                    candidate.jail = rng.random_bool(0.1).then_some(Jail { until: 1, cause: Cause::Absence });
                }
                let after = next_set(&all, &rules, &terms(&rules), &current);
                all.reverse();
                assert_eq!(next_set(&all, &rules, &terms(&rules), &current), after, "seed {seed}");
                if after != current {
                    check(&after, &current, &all, &rules, seed);
                }
                current = after;
            }
        }
    }

    fn check(after: &ValidatorSet, before: &ValidatorSet, all: &[(PublicKey, Candidate)], rules: &Rules, seed: u64) {
        let (min, max) = (rules.fixed.min_validators.into(), rules.fixed.max_validators.into());
        assert!((min..=max).contains(&after.len()), "seed {seed}");
        let mut joined = 0;
        let eligible = |key: &PublicKey| {
            all.iter().any(|(of, candidate)| of == key && candidate.is_eligible(rules.mode, &terms(rules)))
        };
        let chosen = after.members().iter().filter(|member| eligible(&member.key)).count();
        assert!(chosen == after.len() || after.len() == min, "seed {seed}: others only where they are wanting");
        for member in after.members() {
            let had = before.weight_of(&member.key);
            joined += u64::from(member.weight).saturating_sub(had);
            let third = rules.mode == Mode::Hybrid && after.len() >= 4;
            assert!(!third || 3 * u64::from(member.weight) < after.total_weight(), "seed {seed}");
        }
        assert!(joined <= (before.total_weight() / 4).max(1), "seed {seed}");
    }
}
