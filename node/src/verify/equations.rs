//! Which of many signatures are invalid by ZIP-215 (protocol.md F2): one equation over all, in which points of known keys need not be
//! found again; where it does not hold ZIP-215's own, and bisection.

use crate::recent::Recent;
use aitbc_core::hash::Hash;
use aitbc_core::key::{PublicKey, Signature};
use aitbc_core::receipt::Endorsement;
use ed25519_dalek::VerifyingKey;
use ed25519_zebra::batch::{Item, Verifier as Equation};
use prometheus::IntCounterVec;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keys whose points are kept at least, and twice as many at most: 3.7 MB.
const KEYS: usize = 7_168;
/// So many times the signatures of a group for which the equation with known points did not hold are verified without it: whoever
/// makes it fail, by what is invalid or by what only ZIP-215 accepts, has a 64th of the signatures tried twice, or takes from all what
/// it saves.
const REST: usize = 64;
/// The same after a group of which most signatures had a key that was not known: finding points once costs as much as ever, and
/// the rest of that equation somewhat more, so of a flood of keys that sign once one group of five is learned from.
const REST_AFTER_NEW: usize = 4;
/// Signatures at which bisection ends: so few are cheaper one by one.
const SINGLES: usize = 16;
/// Failed halves after which a group is verified one by one, so that a flood of bad signatures costs little more.
const BISECTIONS: usize = 16;

/// A signature to be verified, with whose and of what it is.
pub(super) struct Signed {
    pub(super) key: PublicKey,
    pub(super) bytes: Vec<u8>,
    pub(super) signature: Signature,
}

impl From<Endorsement> for Signed {
    fn from(Endorsement { key, bytes, signature }: Endorsement) -> Signed {
        Signed { key, bytes, signature }
    }
}

/// The equations, with what they keep.
pub(super) struct Equations {
    /// Of keys that signed lately, valid or not.
    points: Mutex<Recent<VerifyingKey>>,
    /// Signatures for which the equation with known points is not tried.
    resting: AtomicUsize,
    /// By what a group was decided.
    decided: IntCounterVec,
}

impl Equations {
    pub(super) fn new(decided: IntCounterVec) -> Equations {
        Equations { points: Mutex::new(Recent::new(KEYS)), resting: AtomicUsize::new(0), decided }
    }

    /// Positions of those that are invalid by ZIP-215, ascending.
    pub(super) fn culprits(&self, group: &[&Signed]) -> Vec<usize> {
        if group.is_empty() {
            return Vec::new();
        }
        if self.all_hold_by_known_points(group) {
            self.decided.with_label_values(&["known_points"]).inc();
            return Vec::new();
        }
        self.decided.with_label_values(&["zip215"]).inc();
        let items: Vec<Item> = group.iter().map(|signed| item(signed)).collect();
        if holds(&items) { Vec::new() } else { culprits(&items) }
    }

    /// Only true says something: that all are valid.
    ///
    /// The equation of ed25519-dalek, `Σ zᵢ (−sᵢ B + Rᵢ + kᵢ Aᵢ) = 0`, is ZIP-215's without its factor 8; both crates read points, `sᵢ`
    /// (below the order: no feature `legacy_compatibility`) and `kᵢ` the same way, with the same curve25519-dalek. Where it holds, so
    /// does eight times it, in which nothing of small order is left and `zᵢ kᵢ` may be reduced; as the `zᵢ` are 128 bits each of a
    /// hash over all of the group, eight times each term is 0 then, which is ZIP-215's rule for one signature, or somebody has tried
    /// some 2¹²⁸ groups. The other way it need not be: a part of small order in `Aᵢ` or `Rᵢ` is nothing to ZIP-215, and here
    /// makes the sum another one.
    fn all_hold_by_known_points(&self, group: &[&Signed]) -> bool {
        if group.len() <= SINGLES || !keys_are_many(group) || self.rests(group.len()) {
            return false;
        }
        let messages: Vec<&[u8]> = group.iter().map(|signed| signed.bytes.as_slice()).collect();
        let signatures: Vec<_> = group.iter().map(|s| ed25519_dalek::Signature::from_bytes(&s.signature.0)).collect();
        let found = self.keys(group);
        let new = found.as_ref().map_or(0, |(_, new)| *new);
        let all = found.is_some_and(|(keys, _)| ed25519_dalek::verify_batch(&messages, &signatures, &keys).is_ok());
        let rest = match all {
            false => REST,
            true if new * 2 > group.len() => REST_AFTER_NEW,
            true => 0,
        };
        self.resting.fetch_add(rest * group.len(), Ordering::Relaxed);
        all
    }

    fn rests(&self, signatures: usize) -> bool {
        let rest = |left: usize| (left > 0).then(|| left.saturating_sub(signatures));
        self.resting.try_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok()
    }

    /// The keys of a group, with their points, and how many were not known; `None` where one is no point.
    fn keys(&self, group: &[&Signed]) -> Option<(Vec<VerifyingKey>, usize)> {
        let mut points = self.points();
        let known: Vec<Option<VerifyingKey>> = group.iter().map(|signed| points.recall(&Hash(signed.key.0))).collect();
        drop(points);
        let mut found = HashMap::new();
        for (signed, _) in group.iter().zip(&known).filter(|(_, key)| key.is_none()) {
            if let Entry::Vacant(place) = found.entry(signed.key) {
                place.insert(VerifyingKey::from_bytes(&signed.key.0).ok()?);
            }
        }
        let mut points = self.points();
        found.iter().for_each(|(key, point)| points.insert(Hash(key.0), *point));
        drop(points);
        let keys = group.iter().zip(known).map(|(signed, key)| key.or_else(|| found.get(&signed.key).copied()));
        Some((keys.collect::<Option<_>>()?, found.len()))
    }

    fn points(&self) -> MutexGuard<'_, Recent<VerifyingKey>> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there are more than half as many keys as signatures. ZIP-215's equation has one term for each key, where that of known points has one
/// for each signature, and is the slower one where keys repeat.
fn keys_are_many(group: &[&Signed]) -> bool {
    let keys: HashSet<&PublicKey> = group.iter().map(|signed| &signed.key).collect();
    keys.len() * 2 > group.len()
}

fn item(signed: &Signed) -> Item {
    let signature = ed25519_zebra::Signature::from(signed.signature.0);
    Item::from((signed.key.0.into(), signature, signed.bytes.as_slice()))
}

/// True iff all signatures are valid.
fn holds(items: &[Item]) -> bool {
    match items {
        [] => true,
        [single] => holds_alone(single),
        many => {
            let mut equation = Equation::new();
            many.iter().for_each(|item| equation.queue(item.clone()));
            equation.verify(rand::rng()).is_ok()
        }
    }
}

fn holds_alone(item: &Item) -> bool {
    item.clone().verify_single().is_ok()
}

/// Positions of the invalid ones, ascending, of a group in which there is at least one.
fn culprits(items: &[Item]) -> Vec<usize> {
    let (mut found, mut budget) = (Vec::new(), BISECTIONS);
    bisect(items, 0, &mut budget, &mut found);
    found
}

/// Adds the positions of the invalid ones of a part that is known to hold one.
fn bisect(items: &[Item], offset: usize, budget: &mut usize, found: &mut Vec<usize>) {
    if items.len() <= SINGLES || *budget == 0 {
        found.extend(items.iter().enumerate().filter(|(_, item)| !holds_alone(item)).map(|(at, _)| offset + at));
        return;
    }
    *budget -= 1;
    let (left, right) = items.split_at(items.len() / 2);
    let before = found.len();
    if !holds(left) {
        bisect(left, offset, budget, found);
    }
    // A bad one that is not left is right: no need to ask.
    if found.len() == before || !holds(right) {
        bisect(right, offset + left.len(), budget, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use aitbc_core::key::SecretKey;
    use ed25519_dalek::SigningKey;
    use sha2::{Digest, Sha512};
    use std::time::Instant;

    const NOBODY: [usize; 0] = [];
    /// Points of small order as ZIP-215 reads them: the eight, and six other forms of some.
    const SMALL: [&str; 14] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];

    fn key(n: usize) -> SecretKey {
        let mut seed = [5; 32];
        seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
        SecretKey::from_seed(seed)
    }

    fn signed_by(who: usize, n: usize) -> Signed {
        let bytes = format!("message {n}").into_bytes();
        Signed { key: key(who).public(), signature: key(who).sign(&bytes), bytes }
    }

    fn signed(n: usize) -> Signed {
        signed_by(n, n)
    }

    fn small(n: usize) -> [u8; 32] {
        hex::decode(SMALL[n]).expect("hex").try_into().expect("32 bytes")
    }

    /// `s = 0` over any message.
    fn of_nobody(key: [u8; 32], r: [u8; 32], message: usize) -> Signed {
        let mut signature = Signature([0; 64]);
        signature.0[..32].copy_from_slice(&r);
        Signed { key: PublicKey(key), bytes: message.to_le_bytes().to_vec(), signature }
    }

    /// By somebody who added a point of order 8 to key and R.
    fn with_small_parts(message: usize) -> Signed {
        let point = |key: [u8; 32]| VerifyingKey::from_bytes(&key).expect("a point").to_edwards();
        let [a, r] = [1, 2].map(|n| SigningKey::from_bytes(&[n; 32]));
        let [key, nonce] = [&a, &r].map(|of| (point(of.verifying_key().to_bytes()) + point(small(4))).compress().0);
        let bytes = message.to_le_bytes().to_vec();
        let hash = Sha512::new().chain_update(nonce).chain_update(key).chain_update(&bytes).finalize();
        let (a, r) = (a.to_scalar(), r.to_scalar());
        let (zero, one) = (a + -a, a * a.invert());
        let number = |n: u8| (0..n).fold(zero, |sum, _| sum + one);
        let k = hash.iter().rev().fold(zero, |k, byte| k * (number(255) + one) + number(*byte));
        let mut signature = Signature([0; 64]);
        signature.0[..32].copy_from_slice(&nonce);
        signature.0[32..].copy_from_slice(&(r + k * a).to_bytes());
        Signed { key: PublicKey(key), bytes, signature }
    }

    fn equations() -> Equations {
        Equations::new(Metrics::new().expect("metrics").verified_groups)
    }

    fn culprits_of(equations: &Equations, group: &[Signed]) -> Vec<usize> {
        equations.culprits(&group.iter().collect::<Vec<_>>())
    }

    /// Groups decided with known points, and by ZIP-215's own equation.
    fn decided(equations: &Equations) -> [u64; 2] {
        ["known_points", "zip215"].map(|by| equations.decided.with_label_values(&[by]).get())
    }

    #[test]
    fn points_of_known_keys_decide_a_group_of_more_than_16_honest_ones_whether_none_some_or_all_are_known() {
        let equations = equations();
        let group: Vec<Signed> = (0..60).map(|n| signed(n % 40)).collect();
        assert_eq!(culprits_of(&equations, &group[..SINGLES]), NOBODY);
        assert_eq!(culprits_of(&equations, &[]), NOBODY);
        assert_eq!(decided(&equations), [0, 1]);
        let rested = [(10..60, [1, 2]), (10..60, [1, 3])];
        for (of, expected) in [(0..20, [1, 1])].into_iter().chain(rested).chain([(10..60, [2, 3]), (0..60, [3, 3])]) {
            assert_eq!(culprits_of(&equations, &group[of]), NOBODY);
            assert_eq!(
                decided(&equations),
                expected,
                "80 signatures rest after 20 keys that were new, none after 20 of 50"
            );
        }
        let mut points = equations.points();
        let mut kept = |n| points.recall(&Hash(key(n).public().0));
        assert!((0..40).all(|n| kept(n).is_some_and(|kept| kept.to_bytes() == key(n).public().0)));
        assert_eq!(kept(40), None);
    }

    #[test]
    fn a_group_in_which_each_key_signs_twice_is_for_the_equation_that_has_one_term_a_key() {
        let equations = equations();
        let group: Vec<Signed> = (0..60).map(|n| signed(n / 2)).collect();
        assert_eq!(culprits_of(&equations, &group), NOBODY);
        assert_eq!(decided(&equations), [0, 1]);
        assert_eq!(culprits_of(&equations, &group[1..]), NOBODY);
        assert_eq!(decided(&equations), [1, 1]);
    }

    /// Twenty honest ones and `odd`, as a node sees them whose keys are unknown, then known: whether it is accepted, and how often known
    /// points decided.
    fn among_honest_ones(odd: Signed) -> (bool, u64) {
        let mut group: Vec<Signed> = (0..20).map(signed).collect();
        group.push(odd);
        let group: Vec<&Signed> = group.iter().collect();
        let alone = group[20].key.verifies(&group[20].bytes, &group[20].signature);
        let expected: &[usize] = if alone { &[] } else { &[20] };
        let by_known_points = [false, true].map(|known| {
            let equations = equations();
            assert!(!known || equations.keys(&group).is_some());
            assert_eq!(equations.culprits(&group), expected, "{} over {:?}", group[20].key, group[20].bytes);
            decided(&equations)[0]
        });
        (alone, by_known_points.iter().sum())
    }

    #[test]
    fn what_only_zip_215_accepts_is_accepted_in_every_group() {
        let mut by_known_points = 0;
        for (a, r) in (0..14).flat_map(|a| (0..14).map(move |r| (a, r))) {
            let (accepted, decided) = among_honest_ones(of_nobody(small(a), small(r), 14 * a + r));
            assert!(accepted, "{a} {r}");
            by_known_points += decided;
        }
        assert!(
            (1..2 * 14 * 14).contains(&by_known_points),
            "what is of small order sums up to 0 by chance: {by_known_points}"
        );
        let mixed: Vec<(bool, u64)> = (0..16).map(|message| among_honest_ones(with_small_parts(message))).collect();
        assert!(mixed.iter().all(|(accepted, _)| *accepted));
        assert!(mixed.iter().any(|(_, decided)| *decided < 2));
    }

    #[test]
    fn a_point_of_small_order_is_no_signature_of_an_honest_key() {
        let honest = key(77).public().0;
        assert!((0..14).all(|r| among_honest_ones(of_nobody(honest, small(r), r)) == (false, 0)));
    }

    #[test]
    fn one_that_is_valid_for_another_key_or_message_or_whose_key_is_no_point_or_s_too_large_is_named() {
        let mut group: Vec<Signed> = (0..100).map(signed).collect();
        group[3].bytes.push(b' ');
        group[40].key = key(41).public();
        group[77].key = PublicKey(std::array::from_fn(|i| if i == 0 { 2 } else { 0 }));
        // s + l: the same number to who does not look.
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").expect("hex");
        let mut carry = 0;
        for (byte, add) in group[90].signature.0[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        for bad in [3, 40, 77, 90] {
            let equations = equations();
            let one: Vec<&Signed> =
                (0..100).filter(|n| ![3, 40, 77, 90].contains(n) || *n == bad).map(|n| &group[n]).collect();
            let at = one.iter().position(|signed| std::ptr::eq(*signed, &group[bad])).expect("in it");
            assert_eq!(equations.culprits(&one), [at]);
            assert_eq!(decided(&equations), [0, 1]);
        }
        assert_eq!(culprits_of(&equations(), &group), [3, 40, 77, 90]);
    }

    #[test]
    fn after_a_failure_known_points_are_left_alone_for_64_times_its_signatures() {
        let equations = equations();
        let good: Vec<Signed> = (0..20).map(signed).collect();
        let mut bad: Vec<Signed> = (0..41).map(signed).collect();
        bad[11].signature.0[0] ^= 1;
        assert_eq!(culprits_of(&equations, &bad), [11]);
        let twice: Vec<Signed> = (0..40).map(|n| signed_by(n / 2, n)).collect();
        assert_eq!(culprits_of(&equations, &twice), NOBODY);
        for group in 1..=132 {
            assert_eq!(culprits_of(&equations, &good), NOBODY);
            assert_eq!(decided(&equations), [0, 2 + group], "2,624 signatures, those of few keys not counted");
        }
        assert_eq!(culprits_of(&equations, &good), NOBODY);
        assert_eq!(decided(&equations), [1, 134]);
    }

    /// What a signature costs: `cargo test --release -p aitbc-node --lib -- --ignored --nocapture a_signature_costs`.
    #[test]
    #[ignore = "a measurement"]
    fn a_signature_costs() {
        let features = ["avx2", "avx512ifma"].map(|name| match name {
            "avx2" => (name, std::is_x86_feature_detected!("avx2")),
            _ => (name, std::is_x86_feature_detected!("avx512ifma")),
        });
        println!("this machine has {features:?}");
        let decided = Metrics::new().expect("metrics").verified_groups;
        for (size, keys) in
            [1, 8, 16, 32, 64, 128, 256, 512, 1_024].map(|size| (size, 1_024)).into_iter().chain([(1_024, 513)])
        {
            let all: Vec<Signed> = (0..1_024).map(|n| signed_by(n % keys, n)).collect();
            let all: Vec<&Signed> = all.iter().collect();
            let best = |check: &dyn Fn(&[&Signed]) -> bool| {
                let round = || {
                    let started = Instant::now();
                    assert!(all.chunks(size).all(check));
                    started.elapsed().as_secs_f64() * 1e6 / all.len() as f64
                };
                (0..7).map(|_| round()).fold(f64::MAX, f64::min)
            };
            let zip215 = best(&|group| holds(&group.iter().map(|signed| item(signed)).collect::<Vec<_>>()));
            let new = best(&|group| Equations::new(decided.clone()).culprits(group).is_empty());
            let known = Equations::new(decided.clone());
            assert!(known.keys(&all).is_some());
            let known = best(&|group| known.culprits(group).is_empty());
            println!(
                "groups of {size}, {keys} keys: {zip215:.1} µs a signature, {known:.1} with known keys, {new:.1} with new ones"
            );
        }
    }
}
