//! What a node says of the chain's validators (`/rpc/validators`): who decides in this epoch, who in the next, who else may later.

use aitbc_core::params::{MAX_SUPPLY, MAX_VALIDATORS as MEMBERS_MAX};
use aitbc_core::staking::MAX_LISTED as CANDIDATES_MAX;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Most voting power of a set (M1).
pub const POWER_MAX: i64 = 1 << 31;
/// Most bytes of a key, an address, a hash or a version: the longest of a node has 90.
const WORD_BYTES_MAX: usize = 128;

/// Whether a number is one that a chain counts up to.
pub(super) fn is_number(number: i64) -> bool {
    u64::try_from(number).is_ok_and(|number| number <= MAX_SUPPLY)
}

/// Whether a text is as short as keys, addresses, hashes and versions are: it goes into status.
pub(super) fn is_word(text: &str) -> bool {
    text.len() <= WORD_BYTES_MAX
}

/// Whether these are keys of as many validators: status lists each once.
fn are_names<'a>(mut keys: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    keys.all(|key| is_word(key) && seen.insert(key))
}

/// Answer of a node's `/rpc/validators`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ChainSet {
    /// Epoch of the next block.
    pub epoch: i64,
    /// Height of the block after which all this holds.
    pub height: i64,
    /// Who decides in this epoch.
    pub validators: Vec<Member>,
    /// Who decides in the next one.
    pub next: Vec<NextMember>,
    /// Who is admitted or has something at stake, and the members.
    pub candidates: Vec<Candidate>,
}

/// Who decides in this epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its address.
    pub address: String,
    /// Its public key.
    pub public_key: String,
    /// Its voting power.
    pub weight: i64,
    /// Whether the node that says this has a channel to it.
    pub connected: bool,
}

/// Who decides in the next epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NextMember {
    /// Its public key.
    pub key: String,
    /// Its voting power then.
    pub weight: i64,
}

/// What the chain knows of a validator's key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Candidate {
    /// Its address.
    pub address: String,
    /// Its public key.
    pub public_key: String,
    /// Smallest units at stake.
    pub stake: i64,
    /// Smallest units on their way back to the owner.
    pub unbonding: i64,
    /// Whether authorities have admitted it; of no meaning in mode pos.
    pub admitted: bool,
    /// Whether it has said that it is ready.
    pub active: bool,
    /// First epoch in which `UNJAIL` is taken; `None`: not jailed.
    pub jailed_until: Option<i64>,
    /// Why it is jailed; `None`: not jailed.
    pub jailed_for: Option<JailedFor>,
    /// Slots it should have led since its last block, and did not.
    pub missed_slots: i64,
}

/// Why a validator is jailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JailedFor {
    /// It signed two things that contradict each other.
    DoubleSigning,
    /// It led no block for long.
    Absence,
}

/// Whether weights are those of a set (M1).
fn is_power(weights: impl Iterator<Item = i64> + Clone) -> bool {
    weights.clone().all(|weight| (0..=POWER_MAX).contains(&weight)) && weights.fold(0, i64::saturating_add) <= POWER_MAX
}

impl ChainSet {
    /// Whether a chain of ours can say this. What answers runs in somebody's namespace, with an image that its owner chose,
    /// and one network must not upset the sums of all.
    pub fn is_possible(&self) -> bool {
        let members = || self.validators.iter().map(|member| member.weight);
        let next = || self.next.iter().map(|member| member.weight);
        let units = |known: &Candidate| [known.stake, known.unbonding, known.missed_slots].into_iter().all(is_number);
        (1..=MEMBERS_MAX).contains(&self.validators.len())
            && self.next.len() <= MEMBERS_MAX
            && self.candidates.len() <= CANDIDATES_MAX
            && is_power(members())
            && is_power(next())
            && self.candidates.iter().all(units)
            && [self.epoch, self.height].into_iter().all(is_number)
            && self.is_listable()
    }

    /// Whether status could list it.
    fn is_listable(&self) -> bool {
        let addresses = self.validators.iter().map(|member| member.address.as_str());
        let mut addresses = addresses.chain(self.candidates.iter().map(|known| known.address.as_str()));
        are_names(self.validators.iter().map(|member| member.public_key.as_str()))
            && are_names(self.next.iter().map(|member| member.key.as_str()))
            && are_names(self.candidates.iter().map(|known| known.public_key.as_str()))
            && addresses.all(is_word)
    }

    /// The member of this epoch with that key.
    pub fn member(&self, public_key: &str) -> Option<&Member> {
        self.validators.iter().find(|member| member.public_key == public_key)
    }

    /// Voting power of a key in this epoch; 0: it has none.
    pub fn weight_of(&self, public_key: &str) -> i64 {
        self.member(public_key).map_or(0, |member| member.weight)
    }

    /// Whether a key decides in the next epoch.
    pub fn is_next(&self, public_key: &str) -> bool {
        self.next.iter().any(|member| member.key == public_key)
    }

    /// What the chain knows of a key.
    pub fn candidate(&self, public_key: &str) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.public_key == public_key)
    }

    /// Whether whoever has that key does its part, as far as the chain and one node's connections tell. A node speaks of its
    /// connections to those that decide in this epoch only.
    pub fn seems_live(&self, public_key: &str) -> bool {
        let connected = self.member(public_key).is_none_or(|member| member.connected);
        let candidate = self.candidate(public_key);
        connected && candidate.is_none_or(|known| known.missed_slots == 0 && known.jailed_for.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_answer_of_a_node_is_read_and_unknown_fields_of_a_later_version_are_passed_over() {
        let set: ChainSet = serde_json::from_value(json!({
            "epoch": 7, "height": 43, "total_weight": 3, "terms": { "min_fee": 1 },
            "validators": [{ "index": 0, "address": "ait1a", "public_key": "aa", "weight": 3, "connected": true }],
            "next": [{ "key": "bb", "weight": 2 }],
            "candidates": [{ "address": "ait1a", "public_key": "aa", "owner": "ait1o", "stake": 95, "unbonding": 5, "admitted": false,
                "active": true, "jailed_until": 9, "jailed_for": "double_signing", "missed_slots": 2 }],
        }))
        .expect("an answer");
        assert_eq!((set.epoch, set.height, set.weight_of("aa"), set.weight_of("bb")), (7, 43, 3, 0));
        assert!(set.is_next("bb") && !set.is_next("aa"));
        let jailed = set.candidate("aa").expect("known");
        assert_eq!((jailed.stake, jailed.unbonding, jailed.jailed_until), (95, 5, Some(9)));
        assert_eq!(jailed.jailed_for, Some(JailedFor::DoubleSigning));
    }

    #[test]
    fn numbers_that_no_chain_has_are_told_from_those_of_one() {
        let member =
            |(i, weight): (usize, &i64)| Member { weight: *weight, public_key: i.to_string(), ..Member::default() };
        let of = |weights: &[i64]| ChainSet {
            validators: weights.iter().enumerate().map(member).collect(),
            ..ChainSet::default()
        };
        assert!(of(&[POWER_MAX]).is_possible() && of(&[1; MEMBERS_MAX]).is_possible());
        for weights in [&[][..], &[-1], &[i64::MAX], &[i64::MAX, i64::MAX], &[POWER_MAX, 1], &[1; MEMBERS_MAX + 1]] {
            assert!(!of(weights).is_possible(), "{weights:?}");
        }
        let staked = |stake| ChainSet { candidates: vec![Candidate { stake, ..Candidate::default() }], ..of(&[1]) };
        assert!(staked(1 << 52).is_possible());
        assert!(!staked(i64::MIN).is_possible() && !staked(i64::MAX).is_possible());
    }

    #[test]
    fn a_set_that_status_could_not_list_is_none_of_a_chain() {
        let member = |key: &str| Member { public_key: key.into(), weight: 1, ..Member::default() };
        let of = |keys: &[&str]| ChainSet {
            validators: keys.iter().map(|key| member(key)).collect(),
            ..ChainSet::default()
        };
        assert!(of(&["aa", "bb"]).is_possible());
        assert!(!of(&["aa", "aa"]).is_possible(), "one key twice");
        assert!(!of(&["a".repeat(WORD_BYTES_MAX + 1).as_str()]).is_possible(), "a key of any length");
        let known = |address: String| ChainSet {
            candidates: vec![Candidate { address, ..Candidate::default() }],
            ..of(&["aa"])
        };
        assert!(known("ait1a".into()).is_possible() && !known("a".repeat(WORD_BYTES_MAX + 1)).is_possible());
        let twice = vec![Candidate::default(), Candidate::default()];
        assert!(!ChainSet { candidates: twice, ..of(&["aa"]) }.is_possible());
    }

    #[test]
    fn a_member_seems_live_while_it_is_connected_leads_and_is_not_jailed() {
        let seems = |connected: bool, missed_slots: i64, jailed_for: Option<JailedFor>| {
            let member = Member { public_key: "aa".into(), weight: 1, connected, ..Member::default() };
            let known = Candidate { public_key: "aa".into(), missed_slots, jailed_for, ..Candidate::default() };
            let set = ChainSet { validators: vec![member], candidates: vec![known], ..ChainSet::default() };
            set.seems_live("aa")
        };
        assert!(seems(true, 0, None));
        assert!(!seems(false, 0, None) && !seems(true, 1, None) && !seems(true, 0, Some(JailedFor::Absence)));
        assert!(ChainSet::default().seems_live("aa"), "of one that has yet to come in nothing is known");
    }
}
