//! Who may connect, and under which number: a key keeps its number for the life of the process (protocol.md M1, E1).
//!
//! ```text
//! 0 …                 keys of the core's roster; allowed are members of the two epochs before, of this and of the next one
//! … LAST_CANDIDATE    candidates that a later set may have, and that dialed this node to follow the chain
//! … LAST_STRANGER     others that PEERS lead to: they may know epochs that this node does not, or follow the chain by it
//! ```
//! A candidate or stranger is asked for blocks, which prove themselves, and gets what it asks for; the core takes nothing from it.
//! Once its key is allowed in the roster it connects anew, under its number there: from the beginning of the epoch before its
//! first one on, so that it has all of that epoch to be connected and to catch up. Once it is not any more it is a stranger
//! again: it may have left for good or for some epochs, and this node may be in epochs that are long over.

use aitbc_core::epoch::Sets;
use aitbc_core::key::PublicKey;
use aitbc_core::validators::{Index, ValidatorSet};
use std::collections::BTreeSet;

/// Strangers with a number, 128 KiB of keys; one more takes that of the one who came first. How many have a channel at a time
/// is bounded by [`Answered`](super::handshake::Answered): keys cost nothing, addresses of PEERS do.
const STRANGERS_MAX: usize = 4_096;
/// Number of the first stranger; the others go down from it. Rosters never come so far.
const LAST_STRANGER: Index = Index::MAX - 1;
/// Candidates with a number, beside the strangers: what somebody bonds takes no number from whom PEERS names.
const CANDIDATES_MAX: usize = 256;
/// Number of the first candidate, below those of all strangers.
const LAST_CANDIDATE: Index = LAST_STRANGER - STRANGERS_MAX as Index;

/// Whom the chain lets connect.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// By number.
    keys: Vec<PublicKey>,
    allowed: BTreeSet<PublicKey>,
}

impl Peers {
    /// In an epoch: members of its set, of that just after it, and of the two before it, who are served until it is over (E7).
    pub fn of(roster: &[PublicKey], sets: &Sets) -> Peers {
        let sets = [&sets.older, &sets.previous, &sets.current, &sets.next];
        let members = sets.into_iter().flat_map(|set| set.members());
        Peers { keys: roster.to_vec(), allowed: members.map(|member| member.key).collect() }
    }

    /// The members of one set, numbered as there.
    pub fn of_set(set: &ValidatorSet) -> Peers {
        let keys: Vec<PublicKey> = set.members().iter().map(|member| member.key).collect();
        Peers { allowed: keys.iter().copied().collect(), keys }
    }
}

/// The numbers given so far.
#[derive(Debug, Default)]
pub struct Roster {
    peers: Peers,
    strangers: Vec<PublicKey>,
    /// Strangers so far.
    admitted: usize,
    /// Who is one now.
    candidates: BTreeSet<PublicKey>,
    /// Candidates that have connected, and may be none any more.
    followers: Vec<PublicKey>,
}

/// Whether a number is that of a candidate, which follows the chain and takes no part in it.
pub fn is_follower(number: Index) -> bool {
    number <= LAST_CANDIDATE && usize::from(LAST_CANDIDATE - number) < CANDIDATES_MAX
}

impl Roster {
    /// Of a start.
    pub fn new(peers: Peers) -> Roster {
        Roster { peers, ..Roster::default() }
    }

    /// The chain goes on: `peers` has the same numbers as before, and perhaps more.
    pub fn follow(&mut self, peers: Peers) {
        self.peers = peers;
    }

    /// Candidates that are let in from now on, and no others.
    pub fn let_in(&mut self, candidates: BTreeSet<PublicKey>) {
        self.candidates = candidates;
    }

    /// Number of a key that may have a channel; `named`: PEERS lead to its process.
    pub fn admit(&mut self, key: &PublicKey, named: bool) -> Option<Index> {
        if let Some(number) = self.number_of(key) {
            return Some(number);
        }
        if named {
            self.add_stranger(key);
        } else if self.candidates.contains(key) {
            self.add_follower(key);
        }
        self.number_of(key)
    }

    /// In a place of its own, or in that of one that is no candidate any more.
    fn add_follower(&mut self, key: &PublicKey) {
        if self.followers.len() < CANDIDATES_MAX {
            return self.followers.push(*key);
        }
        if let Some(former) = self.followers.iter_mut().find(|key| !self.candidates.contains(*key)) {
            *former = *key;
        }
    }

    fn add_stranger(&mut self, key: &PublicKey) {
        let at = self.admitted % STRANGERS_MAX;
        self.admitted = self.admitted.wrapping_add(1);
        match self.strangers.get_mut(at) {
            Some(first) => *first = *key,
            None => self.strangers.push(*key),
        }
    }

    /// Number of a key that has one and may have a channel.
    pub fn number_of(&self, key: &PublicKey) -> Option<Index> {
        let candidate = self.candidates.contains(key);
        let at = |keys: &[PublicKey]| Index::try_from(keys.iter().position(|known| known == key)?).ok();
        let peer = at(&self.peers.keys).filter(|_| candidate || self.peers.allowed.contains(key));
        let follower = || LAST_CANDIDATE.checked_sub(at(&self.followers)?).filter(|_| candidate);
        let stranger = || LAST_STRANGER.checked_sub(at(&self.strangers)?);
        peer.or_else(follower).or_else(stranger)
    }

    /// The key of a number.
    pub fn key_of(&self, number: Index) -> Option<PublicKey> {
        let (list, last) =
            if is_follower(number) { (&self.followers, LAST_CANDIDATE) } else { (&self.strangers, LAST_STRANGER) };
        let other = || list.get(usize::from(last.checked_sub(number)?));
        self.peers.keys.get(usize::from(number)).or_else(other).copied()
    }
}

/// Whether a number is a stranger's.
pub fn is_stranger(number: Index) -> bool {
    LAST_STRANGER.checked_sub(number).is_some_and(|at| usize::from(at) < STRANGERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aitbc_core::validators::Validator;
    use std::sync::Arc;

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    fn set(members: &[u8]) -> Arc<ValidatorSet> {
        let member = |n: &u8| Validator { key: key(*n), weight: 1 };
        Arc::new(ValidatorSet::new(members.iter().map(member).collect()).expect("a set"))
    }

    fn sets(epoch: u64, previous: &[u8], current: &[u8], next: &[u8]) -> Sets {
        Sets { epoch, older: set(previous), previous: set(previous), current: set(current), next: set(next) }
    }

    #[test]
    fn e1_e7_members_of_four_epochs_are_let_in_and_who_left_before_is_not() {
        let keys = [1, 2, 3, 4].map(key);
        let first = Sets { older: set(&[1]), ..sets(5, &[2], &[3], &[3, 4]) };
        let mut roster = Roster::new(Peers::of(&keys, &first));
        assert_eq!([1, 2, 3, 4, 5].map(|n| roster.number_of(&key(n))), [Some(0), Some(1), Some(2), Some(3), None]);
        roster.follow(Peers::of(&keys, &first.advance(set(&[3, 4]))));
        assert_eq!([1, 2, 3, 4, 5].map(|n| roster.number_of(&key(n))), [None, Some(1), Some(2), Some(3), None]);
        assert_eq!(roster.key_of(0), Some(key(1)), "its number is nobody else's");
    }

    #[test]
    fn a_stranger_is_let_in_where_peers_lead_to_it_until_the_chain_knows_it() {
        let mut roster = Roster::new(Peers::of(&[key(1)], &sets(0, &[1], &[1], &[1])));
        assert_eq!(roster.admit(&key(7), false), None);
        let number = roster.admit(&key(7), true).expect("named");
        assert_eq!((roster.admit(&key(7), true), roster.key_of(number)), (Some(number), Some(key(7))));
        assert_ne!(roster.admit(&key(8), true), Some(number));
        roster.follow(Peers::of(&[key(1), key(7)], &sets(1, &[1], &[1], &[1, 7])));
        assert_eq!((roster.number_of(&key(7)), roster.key_of(1)), (Some(1), Some(key(7))));
        roster.follow(Peers::of(&[key(1), key(7)], &sets(9, &[1], &[1], &[1])));
        assert_eq!(roster.number_of(&key(7)), Some(number), "a stranger again");
    }

    #[test]
    fn e1_who_was_a_validator_once_is_let_in_as_a_stranger_where_peers_lead_to_it() {
        let keys = [1, 2, 3, 4, 5, 6, 7, 8].map(key);
        let mut roster = Roster::new(Peers::of(&keys, &sets(12, &[5, 6, 7, 8], &[5, 6, 7, 8], &[5, 6, 7, 8])));
        assert_eq!((roster.number_of(&key(1)), roster.admit(&key(1), false)), (None, None));
        let number = roster.admit(&key(1), true).expect("PEERS names it");
        assert!(is_stranger(number) && !is_stranger(7), "the core takes nothing from it");
        assert_eq!(roster.key_of(number), Some(key(1)));
        roster.follow(Peers::of(&keys, &sets(13, &[5, 6, 7, 8], &[5, 6, 7, 8], &[1, 6, 7, 8])));
        assert_eq!(roster.number_of(&key(1)), Some(0), "it comes back");
    }

    #[test]
    fn e1_a_candidate_is_let_in_as_long_as_it_is_one_and_then_by_its_number_in_the_roster() {
        let mut roster = Roster::new(Peers::of(&[key(1)], &sets(3, &[1], &[1], &[1])));
        roster.let_in([key(7)].into());
        let number = roster.admit(&key(7), false).expect("a candidate dials");
        assert!(is_follower(number));
        assert_eq!((roster.key_of(number), roster.admit(&key(8), false)), (Some(key(7)), None));
        assert_eq!(roster.admit(&key(7), true), Some(number), "one channel, whoever dials");
        roster.let_in(BTreeSet::new());
        assert_eq!((roster.number_of(&key(7)), roster.admit(&key(7), false)), (None, None));
        let stranger = roster.admit(&key(7), true).expect("PEERS names it, whatever it has bonded");
        assert!(!is_follower(stranger) && roster.key_of(stranger) == Some(key(7)));
        roster.follow(Peers::of(&[key(1), key(7)], &sets(4, &[1], &[1], &[1, 7])));
        assert_eq!(roster.number_of(&key(7)), Some(1), "a validator of the next epoch");
        roster.follow(Peers::of(&[key(1), key(7)], &sets(9, &[1], &[1], &[1])));
        assert_eq!(roster.number_of(&key(7)), Some(stranger));
        roster.let_in([key(7)].into());
        assert_eq!(roster.admit(&key(7), false), Some(1), "it was jailed, say, and may come back");
    }

    #[test]
    fn candidates_are_bounded_and_take_no_number_of_strangers_or_of_the_roster() {
        let mut roster = Roster::new(Peers::of_set(&set(&[1])));
        let candidates = |from: u8| (from..from + 100).map(|n| PublicKey([n; 32])).collect::<BTreeSet<_>>();
        let mut numbers = BTreeSet::new();
        for from in [10, 110] {
            roster.let_in(candidates(from));
            numbers.extend(candidates(from).iter().filter_map(|key| roster.admit(key, false)));
        }
        assert_eq!(numbers.len(), 200);
        assert!(numbers.iter().all(|number| is_follower(*number)));
        assert!(roster.admit(&key(250), true).is_some_and(|number| !is_follower(number)));
        let third = (0..100u8).map(|n| {
            let mut bytes = [0xEE; 32];
            bytes[0] = n;
            PublicKey(bytes)
        });
        roster.let_in(third.clone().collect());
        assert_eq!(
            third.filter_map(|key| roster.admit(&key, false)).count(),
            100,
            "in the places of those that are none"
        );
        assert_eq!(roster.followers.len(), CANDIDATES_MAX);
    }

    #[test]
    fn a_stranger_more_than_there_are_numbers_takes_that_of_the_first_and_none_of_the_roster() {
        let mut roster = Roster::new(Peers::of_set(&set(&[1])));
        let stranger = |n: usize| {
            let mut bytes = [0xDD; 32];
            bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
            PublicKey(bytes)
        };
        let numbers: BTreeSet<Index> = (0..STRANGERS_MAX).filter_map(|n| roster.admit(&stranger(n), true)).collect();
        assert_eq!((numbers.len(), numbers.last()), (STRANGERS_MAX, Some(&LAST_STRANGER)));
        assert!(numbers.iter().all(|number| is_stranger(*number)));
        let first = roster.number_of(&stranger(0));
        assert_eq!(roster.admit(&stranger(STRANGERS_MAX), true), first, "whoever shows new keys keeps nobody out");
        assert_eq!(roster.number_of(&stranger(0)), None);
        assert_eq!(roster.admit(&stranger(0), true), roster.number_of(&stranger(0)));
        assert!(roster.number_of(&stranger(1)).is_none() && roster.number_of(&stranger(2)).is_some());
        assert_eq!(roster.strangers.len(), STRANGERS_MAX);
    }
}
