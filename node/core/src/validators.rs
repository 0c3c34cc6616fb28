//! The validator set: weights, quorum, leader rotation (protocol.md M1, M6).

use crate::codec;
use crate::hash::{Domain, Hash, hash};
use crate::key::{Address, PublicKey};
use crate::params::{MAX_VALIDATORS, MAX_WEIGHT};
use borsh::{BorshDeserialize, BorshSerialize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Index of a validator in its set, by ascending key.
pub type Index = u16;

/// A member of the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validator {
    /// Consensus key; its hash is the address that earns the fees.
    pub key: PublicKey,
    /// Voting power, 1 ..= [`MAX_WEIGHT`].
    pub weight: u32,
}

/// Validators of an epoch, sorted by key, with what is derived from their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSet {
    members: Vec<Validator>,
    cycle: Vec<Index>,
    total: u64,
}

/// Why a list is no validator set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No or too many validators.
    #[error("{0} validators given, 1 to {MAX_VALIDATORS} allowed")]
    Count(usize),
    /// A key stands twice.
    #[error("validator key {0} is listed twice")]
    DuplicateKey(PublicKey),
    /// A weight is out of range.
    #[error("validator {key} has weight {weight}, 1 to {MAX_WEIGHT} allowed")]
    Weight {
        /// Whose.
        key: PublicKey,
        /// What was given.
        weight: u32,
    },
}

impl ValidatorSet {
    /// Sorts and checks a set (M1).
    ///
    /// # Errors
    /// On a count, weight or key that M1 forbids.
    pub fn new(mut members: Vec<Validator>) -> Result<Self, SetError> {
        if members.is_empty() || members.len() > MAX_VALIDATORS {
            return Err(SetError::Count(members.len()));
        }
        members.sort_by_key(|v| v.key);
        for pair in members.windows(2) {
            if pair[0].key == pair[1].key {
                return Err(SetError::DuplicateKey(pair[0].key));
            }
        }
        if let Some(v) = members.iter().find(|v| v.weight == 0 || v.weight > MAX_WEIGHT) {
            return Err(SetError::Weight { key: v.key, weight: v.weight });
        }
        let total = members.iter().map(|v| u64::from(v.weight)).sum();
        let cycle = cycle(&members, total);
        Ok(ValidatorSet { members, cycle, total })
    }

    /// The same set with other turns to lead. Safety never rests on who leads, and simulations let an adversary lead often
    /// (protocol.md §10.4). Indices must be of the set.
    #[must_use]
    pub fn with_cycle(self, cycle: Vec<Index>) -> Self {
        assert!(
            !cycle.is_empty() && cycle.iter().all(|index| usize::from(*index) < self.members.len()),
            "a cycle of members"
        );
        ValidatorSet { cycle, ..self }
    }

    /// Members by index.
    pub fn members(&self) -> &[Validator] {
        &self.members
    }

    /// Number of validators, n.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never true: a set has at least one member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member at `index`.
    pub fn get(&self, index: Index) -> Option<&Validator> {
        self.members.get(usize::from(index))
    }

    /// Weight of `index`, 0 where there is none.
    pub fn weight(&self, index: Index) -> u64 {
        self.get(index).map_or(0, |v| u64::from(v.weight))
    }

    /// Weight of a key, 0 where it is no member's.
    pub fn weight_of(&self, key: &PublicKey) -> u64 {
        self.index_of(key).map_or(0, |index| self.weight(index))
    }

    /// Index of a key.
    pub fn index_of(&self, key: &PublicKey) -> Option<Index> {
        self.members.binary_search_by_key(key, |v| v.key).ok().and_then(|i| Index::try_from(i).ok())
    }

    /// Address that earns the fees of blocks proposed by `index`.
    pub fn address(&self, index: Index) -> Option<Address> {
        self.get(index).map(|v| v.key.address())
    }

    /// W: the sum of weights.
    pub fn total_weight(&self) -> u64 {
        self.total
    }

    /// fw = ⌊(W−1)/3⌋: the most weight that may be faulty.
    pub fn faulty_weight(&self) -> u64 {
        (self.total - 1) / 3
    }

    /// q = ⌊2W/3⌋+1.
    pub fn quorum(&self) -> u64 {
        2 * self.total / 3 + 1
    }

    /// `cycle(e)`: seats in smooth weighted round-robin order (M6).
    pub fn cycle(&self) -> &[Index] {
        &self.cycle
    }

    /// `leader(e,s) = cycle(e)[(s − 1 + e) mod |cycle|]` (M6). `slot` is at least 1.
    pub fn leader(&self, epoch: u64, slot: u64) -> Index {
        let len = self.cycle.len() as u64;
        let at = ((slot.saturating_sub(1)) % len + epoch % len) % len;
        self.cycle[at as usize]
    }

    /// `set_hash = H(borsh(set))` (F5).
    pub fn hash(&self) -> Hash {
        hash(Domain::Set, &[&codec::encode(&self.members)])
    }
}

/// Weight of a stake, 1 ..= [`MAX_WEIGHT`] (M1).
pub fn weight_of_stake(stake: u64, unit: u64) -> u32 {
    u32::try_from(stake / unit.max(1)).unwrap_or(MAX_WEIGHT).clamp(1, MAX_WEIGHT)
}

/// Lowers weights so that each is below a third of their sum, W: no one validator can stop the chain alone (E2). Fewer than
/// four cannot all be below a third, and stay as they are. Of `open` sets, which nobody has to be admitted to, the cap takes
/// a quarter of all weight at most: a few small stakes would rule in place of a great one (ADR 0009).
pub fn cap_weights(weights: &mut [u32], open: bool) {
    if weights.len() < 4 {
        return;
    }
    // Σ min(w, c) − 3c is concave in c, zero at 0 and above it at 1: the greatest c for which it is above zero is the cap.
    let sum = |cap: u32| weights.iter().map(|w| u64::from((*w).min(cap))).sum::<u64>();
    let greatest = weights.iter().copied().max().unwrap_or(1);
    let mut cap = last_that(greatest, |cap| sum(cap) > 3 * u64::from(cap));
    if open && 4 * sum(cap) < 3 * sum(greatest) {
        cap = last_that(greatest, |cap| 4 * sum(cap) < 3 * sum(greatest)) + 1;
    }
    for weight in weights {
        *weight = (*weight).min(cap);
    }
}

/// The last of 1 to `most` that holds, where 1 does and none does after one that does not.
fn last_that(most: u32, holds: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (1, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// Seats of each member: 1 if weights are equal, else max(1, round(8·n·w/W)) in integers (M6).
fn seats(members: &[Validator], total: u64) -> Vec<i64> {
    let n = members.len() as u64;
    let equal = members.windows(2).all(|pair| pair[0].weight == pair[1].weight);
    let seat = |w: u64| if equal { 1 } else { ((16 * n * w + total) / (2 * total)).max(1) };
    members.iter().map(|v| seat(u64::from(v.weight)) as i64).collect()
}

/// Smooth weighted round-robin over the seats (M6).
fn cycle(members: &[Validator], total: u64) -> Vec<Index> {
    let seats = seats(members, total);
    let all: i64 = seats.iter().sum();
    let mut current = vec![0i64; seats.len()];
    let mut order = Vec::with_capacity(all as usize);
    for _ in 0..all {
        let mut best = 0;
        for (i, seat) in seats.iter().enumerate() {
            current[i] += seat;
        }
        for i in 1..current.len() {
            if current[i] > current[best] {
                best = i;
            }
        }
        current[best] -= all;
        order.push(best as Index);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;

    fn set(weights: &[u32]) -> ValidatorSet {
        let member =
            |(i, w): (usize, &u32)| Validator { key: SecretKey::from_seed([i as u8 + 1; 32]).public(), weight: *w };
        ValidatorSet::new(weights.iter().enumerate().map(member).collect()).expect("valid set")
    }

    #[test]
    fn m1_quorum_identities_hold_for_every_total_weight_up_to_10000() {
        for w in 1..=10_000u32 {
            let s = set(&[w]);
            let (total, q, fw) = (s.total_weight(), s.quorum(), s.faulty_weight());
            assert_eq!(q, total - fw, "W = {w}");
            assert!(2 * q - total > fw, "W = {w}");
        }
    }

    #[test]
    fn m6_equal_weights_give_plain_rotation() {
        assert_eq!(set(&[5, 5, 5, 5]).cycle(), &[0, 1, 2, 3]);
        let s = set(&[1, 1, 1, 1]);
        assert_eq!((1..=5).map(|slot| s.leader(0, slot)).collect::<Vec<_>>(), [0, 1, 2, 3, 0]);
        assert_eq!(s.leader(2, 1), 2);
    }

    #[test]
    fn m6_seats_follow_the_weights_and_everybody_has_one() {
        let mut weights = vec![1u32; 100];
        weights[0] = 1_000_000;
        let s = set(&weights);
        let mut seen: Vec<Index> = s.cycle().to_vec();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn e2_the_cap_of_a_set_open_to_all_takes_a_quarter_of_the_weight_at_most() {
        let capped = |weights: &[u32]| {
            let mut out = weights.to_vec();
            cap_weights(&mut out, true);
            out
        };
        assert_eq!(capped(&[1_000_000, 1_000, 1_000, 1_000]), [749_250, 1_000, 1_000, 1_000]);
        assert_eq!(capped(&[100, 10, 10, 10, 10]), [65, 10, 10, 10, 10]);
        assert_eq!(capped(&[80, 20, 20, 20, 20]), [40, 20, 20, 20, 20], "39 would be below a third");
        assert_eq!(capped(&[60, 20, 20, 20, 20]), [39, 20, 20, 20, 20]);
        assert_eq!(capped(&[60, 50, 40, 10]), [49, 49, 40, 10]);
    }

    #[test]
    fn e2_no_weight_reaches_a_third_where_four_or_more_have_one() {
        let capped = |weights: &[u32]| {
            let mut out = weights.to_vec();
            cap_weights(&mut out, false);
            out
        };
        assert_eq!(capped(&[1_000_000, 1, 1]), [1_000_000, 1, 1]);
        assert_eq!(capped(&[1_000_000, 1, 1, 1]), [1, 1, 1, 1]);
        assert_eq!(capped(&[100, 10, 10, 10, 10]), [19, 10, 10, 10, 10]);
        assert_eq!(capped(&[5, 5, 5, 5]), [5, 5, 5, 5]);
        assert_eq!(capped(&[MAX_WEIGHT; 100]), [MAX_WEIGHT; 100]);
        let mut seed = 1u64;
        for _ in 0..2_000 {
            let mut weights = Vec::new();
            for _ in 0..4 + seed % 9 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                weights.push(1 + (seed >> (33 + seed % 30)) as u32 % MAX_WEIGHT);
            }
            let out = capped(&weights);
            let (total, most) =
                (out.iter().map(|w| u64::from(*w)).sum::<u64>(), u64::from(*out.iter().max().expect("some")));
            assert!(3 * most < total, "{weights:?}");
            // As little as possible is taken: one more would be too much, or nothing was taken.
            let more: u64 = weights.iter().map(|w| u64::from(*w).min(most + 1)).sum();
            assert!(out == weights || 3 * (most + 1) >= more, "{weights:?}");
        }
    }

    #[test]
    fn m1_a_set_has_100_members_at_most_and_one_at_least() {
        let member = |i: u16| {
            let mut seed = [1; 32];
            seed[..2].copy_from_slice(&i.to_le_bytes());
            Validator { key: SecretKey::from_seed(seed).public(), weight: 1 }
        };
        assert!(ValidatorSet::new((0..100).map(member).collect()).is_ok());
        assert_eq!(ValidatorSet::new((0..101).map(member).collect()), Err(SetError::Count(101)));
        assert_eq!(ValidatorSet::new(Vec::new()), Err(SetError::Count(0)));
    }

    #[test]
    fn m1_a_weight_is_one_at_least_and_within_its_bound() {
        let key = SecretKey::from_seed([1; 32]).public();
        let weighing = |weight| ValidatorSet::new(vec![Validator { key, weight }]);
        assert!(weighing(1).is_ok() && weighing(MAX_WEIGHT).is_ok());
        for weight in [0, MAX_WEIGHT + 1] {
            assert_eq!(weighing(weight), Err(SetError::Weight { key, weight }));
        }
    }

    #[test]
    fn m1_a_key_may_not_stand_twice() {
        let key = SecretKey::from_seed([1; 32]).public();
        let twice = vec![Validator { key, weight: 1 }, Validator { key, weight: 2 }];
        assert_eq!(ValidatorSet::new(twice), Err(SetError::DuplicateKey(key)));
    }
}
