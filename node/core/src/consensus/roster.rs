//! Who is behind a channel: the shell numbers peers once, an epoch's set numbers its members anew (protocol.md M1, E1).
//!
//! Inside the core a peer is its index in the set, or, where it is in none, a number beyond the last index. Both numberings
//! are the same where the set never changes.

use super::state::Config;
use crate::epoch::Sets;
use crate::key::PublicKey;
use crate::validators::{Index, ValidatorSet};

/// The two numberings.
#[derive(Clone, Debug)]
pub(super) struct Roster {
    own: PublicKey,
    /// By the shell's number.
    keys: Vec<PublicKey>,
    /// The core's number, by the shell's.
    local: Vec<Index>,
    /// The shell's number, by the core's.
    global: Vec<Index>,
}

impl Roster {
    /// What the shell has numbered, and after it whoever else is in a set, and the own key.
    pub(super) fn new(config: &Config) -> Roster {
        let keys = config.roster.clone();
        let mut roster = Roster { own: config.key, keys, local: Vec::new(), global: Vec::new() };
        roster.add(&config.sets);
        roster.renumber(&config.set);
        roster
    }

    /// Numbers the members of the sets that have none yet.
    pub(super) fn add(&mut self, sets: &Sets) {
        let sets = [&sets.previous, &sets.current, &sets.next, &sets.older];
        let members = sets.into_iter().flat_map(|set| set.members());
        let keys: Vec<PublicKey> = members.map(|member| member.key).chain([self.own]).collect();
        for key in keys {
            // Sets of 100 for ever new keys would need years; a number is never used for another key.
            if !self.keys.contains(&key) && self.keys.len() < usize::from(Index::MAX) {
                self.keys.push(key);
            }
        }
    }

    /// Numbers for another set: its members by index, then all others in the order of the shell.
    pub(super) fn renumber(&mut self, set: &ValidatorSet) {
        let others = self.keys.iter().enumerate().filter(|(_, key)| set.index_of(key).is_none());
        let others: Vec<Index> = others.map(|(global, _)| global as Index).collect();
        let number_of = |key: &PublicKey| self.keys.iter().position(|known| known == key).unwrap_or(usize::MAX);
        let members = set.members().iter().map(|member| number_of(&member.key) as Index);
        self.global = members.chain(others).collect();
        self.local = vec![Index::MAX; self.keys.len()];
        for (local, global) in self.global.iter().enumerate() {
            if let Some(slot) = self.local.get_mut(usize::from(*global)) {
                *slot = local as Index;
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Keys by the shell's numbers.
    pub(super) fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The own number in the core.
    pub(super) fn me(&self) -> Index {
        self.local_of(&self.own).unwrap_or(Index::MAX)
    }

    /// The core's number of a peer; `None` of one that the shell has not told.
    pub(super) fn local(&self, global: Index) -> Option<Index> {
        self.local.get(usize::from(global)).copied()
    }

    /// The core's number of a key that has one.
    pub(super) fn local_of(&self, key: &PublicKey) -> Option<Index> {
        let global = self.keys.iter().position(|known| known == key)?;
        self.local.get(global).copied()
    }

    /// The shell's number of a peer.
    pub(super) fn global(&self, local: Index) -> Index {
        self.global.get(usize::from(local)).copied().unwrap_or(Index::MAX)
    }

    /// The key of a peer by the core's number.
    pub(super) fn key(&self, local: Index) -> Option<&PublicKey> {
        self.keys.get(usize::from(*self.global.get(usize::from(local))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::key::SecretKey;
    use crate::params::Parameters;
    use crate::validators::Validator;
    use std::sync::Arc;

    #[test]
    fn e7_after_a_start_members_of_the_epoch_two_before_have_numbers_too() {
        let key = |seed: u8| SecretKey::from_seed([seed; 32]).public();
        let set = |seed: u8| Arc::new(ValidatorSet::new(vec![Validator { key: key(seed), weight: 1 }]).expect("a set"));
        let sets = Sets { epoch: 5, older: set(1), previous: set(2), current: set(3), next: set(4) };
        let roster = Roster::new(&Config::at(Hash::ZERO, key(5), sets, Vec::new(), Parameters::default(), 0));
        assert_eq!(
            (1..=6).map(|seed| roster.local_of(&key(seed)).is_some()).collect::<Vec<_>>(),
            [true, true, true, true, true, false]
        );
    }
}
