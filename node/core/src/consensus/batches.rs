//! Batches that are durable here, by what may still become of them: pending, or in a final block (protocol.md C12, V6).

use crate::batch::BatchRef;
use crate::evidence::FRESH_EPOCHS;
use crate::hash::Hash;
use crate::params::{MAX_BLOCK_BATCHES, MAX_BLOCK_BYTES, MAX_BLOCK_TXS, MAX_EXPIRY_AHEAD};
use crate::validators::Index;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// A durable batch that is in no final block.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) reference: BatchRef,
    /// Author's number: its batches are proposed in this order.
    seq: u64,
    /// Last height that may include it.
    pub(super) expiry_height: u64,
}

impl Known {
    /// Whether a block at `height` may include it: neither expired, nor expiring so late that it would have to be
    /// remembered for ever (§9).
    pub(super) fn may_be_in(&self, height: u64) -> bool {
        self.expiry_height >= height && self.expiry_height <= height.saturating_add(MAX_EXPIRY_AHEAD)
    }
}

/// All batches that matter above the tip.
#[derive(Clone, Debug, Default)]
pub(super) struct BatchBook {
    known: BTreeMap<Hash, Known>,
    /// The same, by epoch and author and in its order. Two batches with one number are told apart by digest.
    queues: BTreeMap<(u64, Index), BTreeSet<(u64, Hash)>>,
    known_by_expiry: BTreeSet<(u64, Hash)>,
    /// In final blocks, with expiry heights: an older one cannot come again anyway.
    included: BTreeMap<Hash, u64>,
    included_by_expiry: BTreeSet<(u64, Hash)>,
    /// First batch of each epoch, author and number that came here, pending or not, until it expires (X2 e) or evidence of it
    /// would be stale (X3).
    numbers: BTreeMap<(u64, Index, u64), Hash>,
    numbers_by_expiry: BTreeSet<(u64, (u64, Index, u64))>,
    /// Grows with each change, so that answers can be kept.
    version: u64,
    /// Of the next block: it includes batches of this epoch and the one before (V6).
    epoch: u64,
}

impl BatchBook {
    /// An empty book.
    pub(super) fn of_epoch(epoch: u64) -> BatchBook {
        BatchBook { epoch, ..BatchBook::default() }
    }

    /// **E8** Batches of the epoch that is over stay includable in this one; older ones go, however late they say that they
    /// expire.
    pub(super) fn enter(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.version += 1;
        let old = self.known.values().filter(|known| self.is_old(&known.reference));
        for digest in old.map(|known| known.reference.digest).collect::<Vec<_>>() {
            self.forget(&digest);
        }
        let fresh = |of: u64| of.saturating_add(FRESH_EPOCHS) >= epoch;
        self.numbers.retain(|(of, ..), _| fresh(*of));
        self.numbers_by_expiry.retain(|(_, (of, ..))| fresh(*of));
    }

    /// Of an epoch whose batches no block includes any more.
    fn is_old(&self, reference: &BatchRef) -> bool {
        reference.epoch.saturating_add(1) < self.epoch
    }

    /// V6: expiry, and the epoch of its author.
    fn fits(&self, known: &Known, height: u64) -> bool {
        known.reference.epoch <= self.epoch && known.may_be_in(height)
    }

    /// A batch is durable. False if it was known, is in a final block, or of an epoch too old (V6).
    pub(super) fn add(&mut self, reference: BatchRef, seq: u64, expiry_height: u64) -> bool {
        let digest = reference.digest;
        if self.known.contains_key(&digest) || self.included.contains_key(&digest) || self.is_old(&reference) {
            return false;
        }
        self.version += 1;
        let number = (reference.epoch, reference.author, seq);
        if let Entry::Vacant(first) = self.numbers.entry(number) {
            first.insert(digest);
            self.numbers_by_expiry.insert((expiry_height, number));
        }
        self.queues.entry((reference.epoch, reference.author)).or_default().insert((seq, digest));
        self.known_by_expiry.insert((expiry_height, digest));
        self.known.insert(digest, Known { reference, seq, expiry_height });
        true
    }

    /// Another batch with the same epoch, author and number.
    pub(super) fn rival(&self, reference: &BatchRef, seq: u64) -> Option<Hash> {
        let first = self.numbers.get(&(reference.epoch, reference.author, seq)).copied();
        first.filter(|first| *first != reference.digest)
    }

    /// A batch is in a final block.
    pub(super) fn include(&mut self, digest: Hash) {
        if let Some(known) = self.forget(&digest) {
            self.include_until(digest, known.expiry_height);
        }
    }

    /// A batch is in a final block, which is known from the ledger or by block sync.
    pub(super) fn include_until(&mut self, digest: Hash, expiry_height: u64) {
        self.forget(&digest);
        self.included.insert(digest, expiry_height);
        self.included_by_expiry.insert((expiry_height, digest));
    }

    /// Forgets what no block above `height` may include (V6).
    pub(super) fn expire(&mut self, height: u64) {
        while let Some((_, digest)) = self.known_by_expiry.first().copied().filter(|(expiry, _)| *expiry <= height) {
            self.forget(&digest);
        }
        while let Some(old) = self.included_by_expiry.first().copied().filter(|(expiry, _)| *expiry <= height) {
            self.included_by_expiry.remove(&old);
            self.included.remove(&old.1);
        }
        while let Some(old) = self.numbers_by_expiry.first().copied().filter(|(expiry, _)| *expiry <= height) {
            self.numbers_by_expiry.remove(&old);
            self.numbers.remove(&old.1);
        }
    }

    fn forget(&mut self, digest: &Hash) -> Option<Known> {
        let known = self.known.remove(digest)?;
        self.version += 1;
        self.known_by_expiry.remove(&(known.expiry_height, *digest));
        let author = (known.reference.epoch, known.reference.author);
        if let Some(queue) = self.queues.get_mut(&author) {
            queue.remove(&(known.seq, *digest));
            if queue.is_empty() {
                self.queues.remove(&author);
            }
        }
        Some(known)
    }

    pub(super) fn get(&self, digest: &Hash) -> Option<&Known> {
        self.known.get(digest)
    }

    /// True for a batch of a final block that could come again.
    pub(super) fn is_included(&self, digest: &Hash) -> bool {
        self.included.contains_key(digest)
    }

    /// Every batch known, and whether it is in a final block.
    pub(super) fn digests(&self) -> Vec<(Hash, bool)> {
        let known = self.known.keys().map(|digest| (*digest, false));
        known.chain(self.included.keys().map(|digest| (*digest, true))).collect()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The first batch that a block at `height` may include whose chain already has those in `taken` (C12).
    pub(super) fn first_includable(&self, height: u64, taken: &BTreeSet<Hash>) -> Option<Hash> {
        let fits = |known: &&Known| self.fits(known, height) && !taken.contains(&known.reference.digest);
        self.in_order().filter_map(|digest| self.known.get(&digest)).find(fits).map(|known| known.reference.digest)
    }

    fn in_order(&self) -> impl Iterator<Item = Hash> + '_ {
        self.queues.values().flat_map(|queue| queue.iter().map(|(_, digest)| *digest))
    }

    /// Batches for a block at `height` (C7, V6): each author's in its order, one of each author in turn beginning with
    /// `first`, until a limit is met. An author whose next batch does not fit is done, or its order would break.
    pub(super) fn pick(&self, height: u64, taken: &BTreeSet<Hash>, first: Index) -> Vec<BatchRef> {
        let usable =
            |digest: &Hash| self.known.get(digest).filter(|known| self.fits(known, height) && !taken.contains(digest));
        let first = (self.epoch, first);
        let turn = self.queues.range(first..).chain(self.queues.range(..first));
        let mut authors: Vec<_> =
            turn.map(|(_, queue)| queue.iter().filter_map(move |(_, digest)| usable(digest))).collect();
        let mut picked = Picked::default();
        while !authors.is_empty() && picked.refs.len() < MAX_BLOCK_BATCHES {
            authors.retain_mut(|batches| batches.next().is_some_and(|known| picked.push(&known.reference)));
        }
        picked.refs
    }
}

/// A growing list of batches within the limits of V6.
#[derive(Default)]
struct Picked {
    refs: Vec<BatchRef>,
    bytes: u64,
    txs: u64,
}

impl Picked {
    /// False where it does not fit.
    fn push(&mut self, reference: &BatchRef) -> bool {
        let (bytes, txs) = (self.bytes + u64::from(reference.bytes), self.txs + u64::from(reference.txs));
        if self.refs.len() >= MAX_BLOCK_BATCHES || bytes > MAX_BLOCK_BYTES || txs > MAX_BLOCK_TXS {
            return false;
        }
        (self.bytes, self.txs) = (bytes, txs);
        self.refs.push(reference.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(author: Index, name: u8, bytes: u32) -> BatchRef {
        BatchRef { digest: Hash([name; 32]), epoch: 0, author, bytes, txs: 10 }
    }

    fn book(items: &[(Index, u64, u8)]) -> BatchBook {
        let mut book = BatchBook::default();
        for (author, seq, name) in items {
            assert!(book.add(reference(*author, *name, 1_000), *seq, 100));
        }
        book
    }

    fn names(refs: &[BatchRef]) -> Vec<u8> {
        refs.iter().map(|r| r.digest.0[0]).collect()
    }

    #[test]
    fn c7_authors_take_turns_and_keep_their_order() {
        let book = book(&[(0, 9, 3), (0, 1, 1), (0, 2, 2), (2, 5, 7), (2, 4, 6)]);
        assert_eq!(names(&book.pick(1, &BTreeSet::new(), 0)), [1, 6, 2, 7, 3]);
        assert_eq!(names(&book.pick(1, &BTreeSet::new(), 1)), [6, 1, 7, 2, 3], "another author begins");
    }

    #[test]
    fn v6_limits_end_an_authors_turn_without_breaking_its_order() {
        let mut book = BatchBook::default();
        for (seq, bytes) in [(1, 2 << 20), (2, 1), (3, 1)] {
            book.add(reference(0, seq as u8, bytes), seq, 100);
        }
        book.add(reference(1, 9, 1), 1, 100);
        assert_eq!(names(&book.pick(1, &BTreeSet::new(), 0)), [1], "1 fills the block");
        assert_eq!(names(&book.pick(1, &BTreeSet::new(), 1)), [9], "so 1 does not fit, and 2 must not overtake it");
    }

    #[test]
    fn e8_a_batch_of_the_epoch_before_is_picked_an_older_one_forgotten_and_one_that_comes_later_not_taken() {
        let of = |epoch: u64, name: u8| BatchRef { epoch, ..reference(0, name, 10) };
        let mut book = BatchBook::default();
        for epoch in 0..4 {
            assert!(book.add(of(epoch, epoch as u8), epoch, 100));
        }
        assert_eq!(names(&book.pick(1, &BTreeSet::new(), 0)), [0], "the others' epochs have not begun");
        book.enter(2);
        assert_eq!(names(&book.pick(1, &BTreeSet::new(), 0)), [2, 1]);
        assert!(book.get(&Hash([0; 32])).is_none());
        assert!(!book.add(of(0, 9), 9, 100), "nobody may include it, so no leader may pick it");
        assert_eq!(book.first_includable(1, &BTreeSet::from([Hash([1; 32]), Hash([2; 32])])), None);
    }

    #[test]
    fn x3_numbers_of_epochs_whose_evidence_is_stale_are_forgotten_however_late_the_batch_expires() {
        let of = |epoch: u64, name: u8| BatchRef { epoch, ..reference(0, name, 10) };
        let mut book = BatchBook::default();
        for epoch in 0..2 {
            assert!(book.add(of(epoch, epoch as u8), 7, u64::MAX));
        }
        book.enter(2);
        assert_eq!(book.rival(&of(0, 9), 7), Some(Hash([0; 32])), "evidence of it is fresh still");
        book.enter(3);
        assert_eq!((book.rival(&of(0, 9), 7), book.rival(&of(1, 9), 7)), (None, Some(Hash([1; 32]))));
        assert_eq!((book.numbers.len(), book.numbers_by_expiry.len()), (1, 1));
    }

    #[test]
    fn v6_at_most_64_batches() {
        let mut book = BatchBook::default();
        for seq in 0..100 {
            book.add(reference(0, seq as u8, 10), seq, 100);
        }
        assert_eq!(book.pick(1, &BTreeSet::new(), 0).len(), MAX_BLOCK_BATCHES);
    }

    #[test]
    fn c12_taken_expired_and_included_batches_are_not_includable() {
        let mut book = book(&[(0, 1, 1), (0, 2, 2)]);
        let taken = BTreeSet::from([Hash([1; 32])]);
        assert_eq!(book.first_includable(1, &taken), Some(Hash([2; 32])));
        assert_eq!(book.first_includable(101, &BTreeSet::new()), None, "expired");
        book.include(Hash([2; 32]));
        assert_eq!(book.first_includable(1, &taken), None);
        assert!(book.is_included(&Hash([2; 32])));
        assert!(!book.add(reference(0, 2, 1_000), 2, 100), "never pending again");
    }

    #[test]
    fn v6_a_batch_that_expires_too_far_ahead_is_not_includable_yet() {
        let mut book = BatchBook::default();
        book.add(reference(0, 1, 10), 1, u64::MAX);
        book.add(reference(1, 2, 10), 1, MAX_EXPIRY_AHEAD + 2);
        assert_eq!(names(&book.pick(1, &BTreeSet::new(), 0)), [] as [u8; 0]);
        assert_eq!(names(&book.pick(2, &BTreeSet::new(), 0)), [2]);
        assert_eq!(book.first_includable(2, &BTreeSet::new()), Some(Hash([2; 32])));
    }

    #[test]
    fn x2e_a_number_is_known_until_its_first_batch_expires_even_once_that_is_final() {
        let mut book = book(&[(0, 1, 1)]);
        assert_eq!(book.rival(&reference(0, 1, 1_000), 1), None, "itself");
        assert_eq!(book.rival(&reference(0, 2, 1_000), 2), None, "another number");
        assert_eq!(book.rival(&reference(1, 2, 1_000), 1), None, "another author");
        assert_eq!(book.rival(&BatchRef { epoch: 1, ..reference(0, 2, 1_000) }, 1), None, "another epoch");
        book.include(Hash([1; 32]));
        assert_eq!(book.rival(&reference(0, 2, 1_000), 1), Some(Hash([1; 32])));
        book.expire(100);
        assert_eq!(book.rival(&reference(0, 2, 1_000), 1), None);
        assert!(book.numbers_by_expiry.is_empty());
    }

    #[test]
    fn v6_expired_batches_are_forgotten() {
        let mut book = book(&[(0, 1, 1), (0, 2, 2)]);
        book.include(Hash([2; 32]));
        book.expire(99);
        assert!(book.get(&Hash([1; 32])).is_some());
        book.expire(100);
        assert!(book.get(&Hash([1; 32])).is_none() && !book.is_included(&Hash([2; 32])));
        assert!(book.queues.is_empty());
    }
}
