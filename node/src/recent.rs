//! What happened lately, by id: so many at least, in tables that are filled, emptied and filled again and never grow after that.

use aitbc_core::hash::Hash;
use std::collections::HashMap;

/// Two generations: when the newer one is full, the older one is forgotten. A table from which the oldest is removed for each
/// that comes in would double once more, and one that is begun anew each time leaves holes where it grew.
pub(crate) struct Recent<V> {
    newer: HashMap<Hash, V>,
    older: HashMap<Hash, V>,
    generation: usize,
}

impl<V> Recent<V> {
    /// Remembers the last `generation` at least, and twice as many at most; 7/8 of a power of two fill their table.
    pub(crate) fn new(generation: usize) -> Recent<V> {
        Recent { newer: HashMap::new(), older: HashMap::new(), generation }
    }

    /// What was remembered last of an id.
    pub(crate) fn get(&self, id: &Hash) -> Option<&V> {
        self.newer.get(id).or_else(|| self.older.get(id))
    }

    /// The same, to be changed in its place.
    pub(crate) fn get_mut(&mut self, id: &Hash) -> Option<&mut V> {
        self.newer.get_mut(id).or_else(|| self.older.get_mut(id))
    }

    /// What was remembered last of an id, which is remembered anew by it.
    pub(crate) fn recall(&mut self, id: &Hash) -> Option<V>
    where
        V: Copy,
    {
        let value = *self.get(id)?;
        if !self.is_new(id) {
            self.insert(*id, value);
        }
        Some(value)
    }

    /// Whether an id is of those that are remembered longest.
    pub(crate) fn is_new(&self, id: &Hash) -> bool {
        self.newer.contains_key(id)
    }

    /// Remembers it among the newest.
    pub(crate) fn insert(&mut self, id: Hash, value: V) {
        if self.newer.len() >= self.generation && !self.is_new(&id) {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.clear();
        }
        self.newer.insert(id, value);
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;
    use aitbc_core::hash::{Hash, plain};

    fn id(n: usize) -> Hash {
        plain(&n.to_le_bytes())
    }

    #[test]
    fn the_last_of_a_generation_are_remembered_and_of_two_at_most() {
        let mut recent = Recent::new(100);
        for n in 0..1_000 {
            recent.insert(id(n), n);
            assert!((n.saturating_sub(99)..=n).all(|at| recent.get(&id(at)) == Some(&at)), "{n}");
            assert!(recent.newer.len() + recent.older.len() <= 200, "{n}");
        }
        assert_eq!(recent.get(&id(799)), None);
    }

    #[test]
    fn what_is_known_is_changed_in_its_place_and_moves_to_the_newest_where_it_is_inserted_again() {
        let mut recent = Recent::new(2);
        (0..3).for_each(|n| recent.insert(id(n), n));
        assert!(!recent.is_new(&id(0)));
        *recent.get_mut(&id(0)).expect("known") = 7;
        assert_eq!(recent.get(&id(0)), Some(&7));
        recent.insert(id(0), 8);
        assert!(recent.is_new(&id(0)));
        recent.insert(id(0), 9);
        assert_eq!((recent.get(&id(0)), recent.get(&id(2))), (Some(&9), Some(&2)), "no place is lost by it");
    }

    #[test]
    fn what_is_recalled_is_remembered_anew() {
        let mut recent = Recent::new(2);
        (0..3).for_each(|n| recent.insert(id(n), n));
        assert_eq!((recent.recall(&id(0)), recent.recall(&id(9))), (Some(0), None));
        recent.insert(id(3), 3);
        assert_eq!(recent.get(&id(1)), None, "older than what was recalled");
        assert_eq!(recent.get(&id(0)), Some(&0));
    }

    #[test]
    fn tables_never_grow_after_two_generations() {
        let generation = 28_672;
        let mut recent = Recent::new(generation);
        let after = |recent: &mut Recent<usize>, count: usize, from: usize| {
            (from..from + count).for_each(|n| recent.insert(id(n), n));
            [recent.newer.capacity(), recent.older.capacity()]
        };
        let early = after(&mut recent, 3 * generation, 0);
        assert_eq!(early, [generation; 2]);
        assert_eq!(after(&mut recent, 6 * generation, 3 * generation), early);
    }
}
