//! Who may connect, and under which number: a key keeps its number for the life of the process (protocol.md M1, E1).
//!
//! ```text
//! 0 …                 keys of the core's roster; allowed are members of the epoch before, of this and of the next one
//! … LAST_CANDIDATE    candidates that a later set may have, and that dialed this node to follow the chain
//! … LAST_STRANGER     others that this node dialed because PEERS names them: they may know epochs that it does not
//! ```
//! A candidate or stranger is asked for blocks, which prove themselves, and gets what it asks for; the core takes nothing from it.
//! Once its key is in the roster it connects anew, under its number there: from the beginning of the epoch before its first one on,
//! so that it has all of that epoch to be connected and to catch up.

use aitbc_core::epoch::Sets;
use aitbc_core::hello::Role;
use aitbc_core::key::PublicKey;
use aitbc_core::validators::{Index, ValidatorSet};
use std::collections::BTreeSet;

/// Strangers numbered in the life of a process; one more is refused.
const STRANGERS_MAX: usize = 256;
/// Number of the first stranger; the others go down from it. Rosters never come so far.
const LAST_STRANGER: Index = Index::MAX - 1;
/// Candidates numbered in the life of a process, beside the strangers: what somebody bonds takes no number from whom PEERS names.
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
    /// In an epoch: members of its set and of those just before and after it.
    pub fn of(roster: &[PublicKey], sets: &Sets) -> Peers {
        let members = [&sets.previous, &sets.current, &sets.next].into_iter().flat_map(|set| set.members());
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

    /// Number of a key that may have a channel; `role` is that of its end.
    pub fn admit(&mut self, key: &PublicKey, role: Role) -> Option<Index> {
        if let Some(number) = self.number_of(key) {
            return Some(number);
        }
        if self.peers.keys.contains(key) {
            return None;
        }
        let candidate = self.candidates.contains(key);
        let (list, most) = match role {
            // This node dialed it.
            Role::Listener => (&mut self.strangers, STRANGERS_MAX),
            Role::Dialer if candidate => (&mut self.followers, CANDIDATES_MAX),
            Role::Dialer => return None,
        };
        if list.len() >= most {
            return None;
        }
        list.push(*key);
        self.number_of(key)
    }

    /// Number of a key that has one and may have a channel.
    pub fn number_of(&self, key: &PublicKey) -> Option<Index> {
        let candidate = self.candidates.contains(key);
        if let Some(at) = self.peers.keys.iter().position(|known| known == key) {
            return Index::try_from(at).ok().filter(|_| candidate || self.peers.allowed.contains(key));
        }
        let numbered = |list: &[PublicKey], last: Index| {
            let at = list.iter().position(|known| known == key)?;
            last.checked_sub(Index::try_from(at).ok()?)
        };
        let follower = numbered(&self.followers, LAST_CANDIDATE).filter(|_| candidate);
        follower.or_else(|| numbered(&self.strangers, LAST_STRANGER))
    }

    /// The key of a number.
    pub fn key_of(&self, number: Index) -> Option<PublicKey> {
        let (list, last) =
            if is_follower(number) { (&self.followers, LAST_CANDIDATE) } else { (&self.strangers, LAST_STRANGER) };
        let other = || list.get(usize::from(last.checked_sub(number)?));
        self.peers.keys.get(usize::from(number)).or_else(other).copied()
    }
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
    fn e1_members_of_three_epochs_are_let_in_and_who_left_before_is_not() {
        let keys = [1, 2, 3, 4].map(key);
        let roster = Roster::new(Peers::of(&keys, &sets(5, &[2], &[3], &[3, 4])));
        assert_eq!([1, 2, 3, 4, 5].map(|n| roster.number_of(&key(n))), [None, Some(1), Some(2), Some(3), None]);
        assert_eq!(roster.key_of(0), Some(key(1)), "its number is nobody else's");
    }

    #[test]
    fn a_stranger_is_let_in_where_this_node_dialed_it_until_the_chain_knows_it() {
        let mut roster = Roster::new(Peers::of(&[key(1)], &sets(0, &[1], &[1], &[1])));
        assert_eq!(roster.admit(&key(7), Role::Dialer), None);
        let number = roster.admit(&key(7), Role::Listener).expect("dialed");
        assert_eq!((roster.admit(&key(7), Role::Listener), roster.key_of(number)), (Some(number), Some(key(7))));
        assert_ne!(roster.admit(&key(8), Role::Listener), Some(number));
        roster.follow(Peers::of(&[key(1), key(7)], &sets(1, &[1], &[1], &[1, 7])));
        assert_eq!((roster.number_of(&key(7)), roster.key_of(1)), (Some(1), Some(key(7))));
        roster.follow(Peers::of(&[key(1), key(7)], &sets(9, &[1], &[1], &[1])));
        assert_eq!(roster.admit(&key(7), Role::Listener), None, "who left is not let in as a stranger");
    }

    #[test]
    fn e1_a_candidate_is_let_in_as_long_as_it_is_one_and_then_by_its_number_in_the_roster() {
        let mut roster = Roster::new(Peers::of(&[key(1)], &sets(3, &[1], &[1], &[1])));
        roster.let_in([key(7)].into());
        let number = roster.admit(&key(7), Role::Dialer).expect("a candidate dials");
        assert!(is_follower(number));
        assert_eq!((roster.key_of(number), roster.admit(&key(8), Role::Dialer)), (Some(key(7)), None));
        assert_eq!(roster.admit(&key(7), Role::Listener), Some(number), "one channel, whoever dials");
        roster.let_in(BTreeSet::new());
        assert_eq!((roster.number_of(&key(7)), roster.admit(&key(7), Role::Dialer)), (None, None));
        let stranger = roster.admit(&key(7), Role::Listener).expect("PEERS names it, whatever it has bonded");
        assert!(!is_follower(stranger) && roster.key_of(stranger) == Some(key(7)));
        roster.follow(Peers::of(&[key(1), key(7)], &sets(4, &[1], &[1], &[1, 7])));
        assert_eq!(roster.number_of(&key(7)), Some(1), "a validator of the next epoch");
        roster.follow(Peers::of(&[key(1), key(7)], &sets(9, &[1], &[1], &[1])));
        assert_eq!(roster.number_of(&key(7)), None);
        roster.let_in([key(7)].into());
        assert_eq!(roster.admit(&key(7), Role::Dialer), Some(1), "it was jailed, say, and may come back");
    }

    #[test]
    fn candidates_are_bounded_and_take_no_number_of_strangers_or_of_the_roster() {
        let mut roster = Roster::new(Peers::of_set(&set(&[1])));
        let candidates = |from: u8| (from..from + 100).map(|n| PublicKey([n; 32])).collect::<BTreeSet<_>>();
        let mut numbers = BTreeSet::new();
        for from in [10, 110] {
            roster.let_in(candidates(from));
            numbers.extend(candidates(from).iter().filter_map(|key| roster.admit(key, Role::Dialer)));
        }
        assert_eq!(numbers.len(), 200);
        assert!(numbers.iter().all(|number| is_follower(*number)));
        assert!(roster.admit(&key(250), Role::Listener).is_some_and(|number| !is_follower(number)));
        let third = (0..100u8).map(|n| {
            let mut bytes = [0xEE; 32];
            bytes[0] = n;
            PublicKey(bytes)
        });
        roster.let_in(third.clone().collect());
        assert_eq!(third.filter_map(|key| roster.admit(&key, Role::Dialer)).count(), CANDIDATES_MAX - 200);
    }

    #[test]
    fn strangers_are_bounded_and_have_numbers_that_no_roster_has() {
        let mut roster = Roster::new(Peers::of_set(&set(&[1])));
        let stranger = |n: usize| {
            let mut bytes = [0xDD; 32];
            bytes[0] = n as u8;
            PublicKey(bytes)
        };
        let mut numbers: Vec<Index> =
            (0..STRANGERS_MAX).filter_map(|n| roster.admit(&stranger(n), Role::Listener)).collect();
        assert_eq!((numbers.len(), numbers.iter().min()), (STRANGERS_MAX, Some(&(LAST_STRANGER - 255))));
        numbers.dedup();
        assert_eq!(numbers.len(), STRANGERS_MAX);
        assert_eq!(roster.admit(&PublicKey([0xEE; 32]), Role::Listener), None);
    }
}
