//! Who may connect, and under which number: a key keeps its number for the life of the process (protocol.md M1, E1).
//!
//! ```text
//! 0 …                 keys of the core's roster; allowed are members of the two epochs before, of this and of the next one
//! … LAST_CANDIDATE    candidates that a later set may have, and that dialed this node to follow the chain
//! … LAST_STRANGER     processes that PEERS lead to, whatever keys they show: they may know epochs that this node does not, or
//!                     follow the chain by it
//! ```
//! A candidate or stranger is asked for blocks, which prove themselves, and gets what it asks for; the core takes nothing from it.
//! Once its key is allowed in the roster it connects anew, under its number there: from the beginning of the epoch before its
//! first one on, so that it has all of that epoch to be connected and to catch up. Once it is not any more it is a stranger
//! again: it may have left for good or for some epochs, and this node may be in epochs that are long over.

use aitbc_core::epoch::Sets;
use aitbc_core::key::PublicKey;
use aitbc_core::validators::{Index, ValidatorSet};
use std::collections::BTreeSet;

/// Strangers with a number, 256 KiB of keys; one more takes that of a process that PEERS lead to no more. There is always one: no
/// more of them have a channel at a time than [`Answered`](super::handshake::Answered) remembers. Keys cost nothing, addresses of
/// PEERS do.
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
    strangers: Vec<Stranger>,
    /// Who is one now.
    candidates: BTreeSet<PublicKey>,
    /// Candidates that have connected, and may be none any more.
    followers: Vec<PublicKey>,
}

/// Who has a stranger's number.
#[derive(Debug)]
struct Stranger {
    /// The last key that it showed.
    key: PublicKey,
    process: [u8; 32],
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

    /// Number of a key that may have a channel, shown by a process; `named`: PEERS lead to such a one.
    pub fn admit(&mut self, key: &PublicKey, process: &[u8; 32], named: impl Fn(&[u8; 32]) -> bool) -> Option<Index> {
        if self.peer(key).or_else(|| self.follower(key)).is_none() {
            if named(process) {
                self.add_stranger(key, process, named);
            } else if self.candidates.contains(key) {
                self.add_follower(key);
            }
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

    /// In the place of the key, else of the process: it takes none from others, however many keys it shows.
    fn add_stranger(&mut self, key: &PublicKey, process: &[u8; 32], named: impl Fn(&[u8; 32]) -> bool) {
        let of = |holds: &dyn Fn(&Stranger) -> bool| self.strangers.iter().position(holds);
        let own = of(&|one| one.key == *key).or_else(|| of(&|one| one.process == *process));
        let full = self.strangers.len() >= STRANGERS_MAX;
        let place = own.or_else(|| full.then(|| of(&|one| !named(&one.process))).flatten());
        let stranger = Stranger { key: *key, process: *process };
        match place.and_then(|at| self.strangers.get_mut(at)) {
            Some(one) => *one = stranger,
            None if full => {}
            None => self.strangers.push(stranger),
        }
    }

    /// Number of a key that has one and may have a channel.
    pub fn number_of(&self, key: &PublicKey) -> Option<Index> {
        let stranger = || LAST_STRANGER.checked_sub(place(self.strangers.iter().map(|one| &one.key), key)?);
        self.peer(key).or_else(|| self.follower(key)).or_else(stranger)
    }

    /// Number of a key of the core's roster that may have a channel.
    fn peer(&self, key: &PublicKey) -> Option<Index> {
        let allowed = self.candidates.contains(key) || self.peers.allowed.contains(key);
        place(self.peers.keys.iter(), key).filter(|_| allowed)
    }

    /// Number of a candidate that is none of those.
    fn follower(&self, key: &PublicKey) -> Option<Index> {
        let number = LAST_CANDIDATE.checked_sub(place(self.followers.iter(), key)?);
        number.filter(|_| self.candidates.contains(key))
    }

    /// The key of a number.
    pub fn key_of(&self, number: Index) -> Option<PublicKey> {
        let at = |last: Index| last.checked_sub(number).map(usize::from);
        let follower = || self.followers.get(at(LAST_CANDIDATE)?);
        let stranger = || self.strangers.get(at(LAST_STRANGER)?).map(|one| &one.key);
        let other = || if is_follower(number) { follower() } else { stranger() };
        self.peers.keys.get(usize::from(number)).or_else(other).copied()
    }
}

/// Where a key stands.
fn place<'a>(mut keys: impl Iterator<Item = &'a PublicKey>, key: &PublicKey) -> Option<Index> {
    Index::try_from(keys.position(|known| known == key)?).ok()
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

    /// Admits a key that its own process shows, to whom PEERS lead or not.
    fn admit(roster: &mut Roster, key: &PublicKey, named: bool) -> Option<Index> {
        roster.admit(key, &key.0, |_| named)
    }

    fn stranger(n: usize) -> PublicKey {
        let mut bytes = [0xDD; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
        PublicKey(bytes)
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
        assert_eq!(admit(&mut roster, &key(7), false), None);
        let number = admit(&mut roster, &key(7), true).expect("named");
        assert_eq!((admit(&mut roster, &key(7), true), roster.key_of(number)), (Some(number), Some(key(7))));
        assert_ne!(admit(&mut roster, &key(8), true), Some(number));
        roster.follow(Peers::of(&[key(1), key(7)], &sets(1, &[1], &[1], &[1, 7])));
        assert_eq!((roster.number_of(&key(7)), roster.key_of(1)), (Some(1), Some(key(7))));
        roster.follow(Peers::of(&[key(1), key(7)], &sets(9, &[1], &[1], &[1])));
        assert_eq!(roster.number_of(&key(7)), Some(number), "a stranger again");
    }

    #[test]
    fn e1_who_was_a_validator_once_is_let_in_as_a_stranger_where_peers_lead_to_it() {
        let keys = [1, 2, 3, 4, 5, 6, 7, 8].map(key);
        let mut roster = Roster::new(Peers::of(&keys, &sets(12, &[5, 6, 7, 8], &[5, 6, 7, 8], &[5, 6, 7, 8])));
        assert_eq!((roster.number_of(&key(1)), admit(&mut roster, &key(1), false)), (None, None));
        let number = admit(&mut roster, &key(1), true).expect("PEERS names it");
        assert!(is_stranger(number) && !is_stranger(7), "the core takes nothing from it");
        assert_eq!(roster.key_of(number), Some(key(1)));
        roster.follow(Peers::of(&keys, &sets(13, &[5, 6, 7, 8], &[5, 6, 7, 8], &[1, 6, 7, 8])));
        assert_eq!(roster.number_of(&key(1)), Some(0), "it comes back");
    }

    #[test]
    fn e1_a_candidate_is_let_in_as_long_as_it_is_one_and_then_by_its_number_in_the_roster() {
        let mut roster = Roster::new(Peers::of(&[key(1)], &sets(3, &[1], &[1], &[1])));
        roster.let_in([key(7)].into());
        let number = admit(&mut roster, &key(7), false).expect("a candidate dials");
        assert!(is_follower(number));
        assert_eq!((roster.key_of(number), admit(&mut roster, &key(8), false)), (Some(key(7)), None));
        assert_eq!(admit(&mut roster, &key(7), true), Some(number), "one channel, whoever dials");
        roster.let_in(BTreeSet::new());
        assert_eq!((roster.number_of(&key(7)), admit(&mut roster, &key(7), false)), (None, None));
        let stranger = admit(&mut roster, &key(7), true).expect("PEERS names it, whatever it has bonded");
        assert!(!is_follower(stranger) && roster.key_of(stranger) == Some(key(7)));
        roster.follow(Peers::of(&[key(1), key(7)], &sets(4, &[1], &[1], &[1, 7])));
        assert_eq!(roster.number_of(&key(7)), Some(1), "a validator of the next epoch");
        roster.follow(Peers::of(&[key(1), key(7)], &sets(9, &[1], &[1], &[1])));
        assert_eq!(roster.number_of(&key(7)), Some(stranger));
        roster.let_in([key(7)].into());
        assert_eq!(admit(&mut roster, &key(7), false), Some(1), "it was jailed, say, and may come back");
    }

    #[test]
    fn candidates_are_bounded_and_take_no_number_of_strangers_or_of_the_roster() {
        let mut roster = Roster::new(Peers::of_set(&set(&[1])));
        let candidates = |from: u8| (from..from + 100).map(|n| PublicKey([n; 32])).collect::<BTreeSet<_>>();
        let mut numbers = BTreeSet::new();
        for from in [10, 110] {
            roster.let_in(candidates(from));
            numbers.extend(candidates(from).iter().filter_map(|key| admit(&mut roster, key, false)));
        }
        assert_eq!(numbers.len(), 200);
        assert!(numbers.iter().all(|number| is_follower(*number)));
        assert!(admit(&mut roster, &key(250), true).is_some_and(|number| !is_follower(number)));
        let third = (0..100u8).map(|n| {
            let mut bytes = [0xEE; 32];
            bytes[0] = n;
            PublicKey(bytes)
        });
        roster.let_in(third.clone().collect());
        assert_eq!(
            third.filter_map(|key| admit(&mut roster, &key, false)).count(),
            100,
            "in the places of those that are none"
        );
        assert_eq!(roster.followers.len(), CANDIDATES_MAX);
    }

    #[test]
    fn a_process_that_shows_key_after_key_has_one_number_and_takes_none_from_another_stranger() {
        let mut roster = Roster::new(Peers::of_set(&set(&[1])));
        let other = admit(&mut roster, &key(7), true).expect("PEERS name it");
        let numbers = (0..5_000).filter_map(|n| roster.admit(&stranger(n), &[9; 32], |_| true));
        let numbers: BTreeSet<Index> = numbers.collect();
        assert_eq!(numbers.len(), 1);
        let number = *numbers.first().expect("one");
        assert!(is_stranger(number) && number != other);
        assert_eq!((roster.number_of(&key(7)), roster.key_of(other)), (Some(other), Some(key(7))));
        assert_eq!((roster.key_of(number), roster.number_of(&stranger(0))), (Some(stranger(4_999)), None));
    }

    #[test]
    fn a_stranger_keeps_its_number_after_a_restart_which_is_another_process() {
        let mut roster = Roster::new(Peers::of_set(&set(&[1])));
        let number = roster.admit(&key(7), &[1; 32], |_| true);
        assert_eq!(roster.admit(&key(7), &[2; 32], |_| true), number);
        assert_ne!(roster.admit(&key(8), &[1; 32], |_| true), number, "the process before is gone");
        assert_eq!(roster.admit(&key(9), &[2; 32], |_| true), number);
    }

    #[test]
    fn a_stranger_more_than_there_are_numbers_takes_that_of_one_whom_peers_lead_to_no_more() {
        let mut roster = Roster::new(Peers::of_set(&set(&[1])));
        let numbers = (0..STRANGERS_MAX).filter_map(|n| admit(&mut roster, &stranger(n), true));
        let numbers: BTreeSet<Index> = numbers.collect();
        assert_eq!((numbers.len(), numbers.last()), (STRANGERS_MAX, Some(&LAST_STRANGER)));
        assert!(numbers.iter().all(|number| is_stranger(*number)));
        let (gone, more) = (stranger(5), stranger(STRANGERS_MAX));
        let place = roster.number_of(&gone);
        assert_eq!(roster.admit(&more, &more.0, |process| *process != gone.0), place);
        assert_eq!((roster.number_of(&gone), roster.number_of(&stranger(0))), (None, Some(LAST_STRANGER)));
        assert_eq!(admit(&mut roster, &gone, true), None, "all the others have theirs");
        assert_eq!(roster.strangers.len(), STRANGERS_MAX);
    }
}
