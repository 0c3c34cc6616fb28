//! Which heights make an epoch, and whose votes count in it (protocol.md M4, M5, E1, E9).

use crate::params::{KEEP_FINAL_SLOTS, Parameters};
use crate::validators::ValidatorSet;
use std::sync::Arc;

/// Length of all epochs in heights: epoch e holds heights e·N+1 ..= (e+1)·N (M5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs(u64);

impl Epochs {
    /// Epochs of `blocks` heights; of one where that is 0, which no genesis allows.
    pub fn new(blocks: u64) -> Epochs {
        Epochs(blocks.max(1))
    }

    /// Those that genesis says.
    pub fn by(parameters: &Parameters) -> Epochs {
        Epochs::new(parameters.epoch_blocks)
    }

    /// Epoch of the block at a height; genesis belongs to epoch 0.
    pub fn of(self, height: u64) -> u64 {
        height.saturating_sub(1) / self.0
    }

    /// Epoch of the child of the block at a height.
    pub fn after(self, height: u64) -> u64 {
        height / self.0
    }

    /// H_e: height of the last block of an epoch.
    pub fn last(self, epoch: u64) -> u64 {
        epoch.saturating_add(1).saturating_mul(self.0)
    }

    /// Whether the block at a height is the last one of its epoch: the *boundary block* (M5).
    pub fn is_boundary(self, height: u64) -> bool {
        height > 0 && height.is_multiple_of(self.0)
    }

    /// **P9** The vote floor once the block at a position is in the ledger: [`KEEP_FINAL_SLOTS`] slots below it or lower, however
    /// many epochs these span, for a vote may still be on its way there. An epoch has a slot a height, or more.
    pub fn vote_floor(self, epoch: u64, slot: u64) -> (u64, u64) {
        match KEEP_FINAL_SLOTS.saturating_sub(slot) {
            0 => (epoch, slot - KEEP_FINAL_SLOTS),
            before => (epoch.saturating_sub(before.div_ceil(self.0)), 0),
        }
    }

    /// The slot by which a child names the block at a height: 0 where it is the floor of the child's epoch (M4).
    pub fn parent_slot(self, height: u64, slot: u64) -> u64 {
        if self.is_boundary(height) { 0 } else { slot }
    }
}

/// The sets that an epoch has to do with: its own, those before for batches and evidence (V6, V7), and the next one (V3, E9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sets {
    /// e.
    pub epoch: u64,
    /// set(e−2), whose evidence is fresh still (X3); the one of genesis before epoch 2.
    pub older: Arc<ValidatorSet>,
    /// set(e−1); the one of genesis in epoch 0.
    pub previous: Arc<ValidatorSet>,
    /// set(e).
    pub current: Arc<ValidatorSet>,
    /// set(e+1).
    pub next: Arc<ValidatorSet>,
}

impl Sets {
    /// Of epoch 0: set(0) = set(1) = the set of genesis (E1).
    pub fn genesis(set: Arc<ValidatorSet>) -> Sets {
        Sets { epoch: 0, older: set.clone(), previous: set.clone(), current: set.clone(), next: set }
    }

    /// Of the next epoch: `after` is set(e+2), which the state after the last block of e decides (E1).
    #[must_use]
    pub fn advance(&self, after: Arc<ValidatorSet>) -> Sets {
        let Sets { epoch, previous, current, next, .. } = self.clone();
        Sets { epoch: epoch.saturating_add(1), older: previous, previous: current, current: next, next: after }
    }

    /// The set of an epoch, if it is one of the four.
    pub fn of(&self, epoch: u64) -> Option<&Arc<ValidatorSet>> {
        match epoch.checked_add(2)?.checked_sub(self.epoch)? {
            0 => Some(&self.older),
            1 => Some(&self.previous),
            2 => Some(&self.current),
            3 => Some(&self.next),
            _ => None,
        }
    }

    /// The set of the author of a batch that a block of this epoch may include: of its own epoch or the one before (V6, E8).
    pub fn of_batch(&self, epoch: u64) -> Option<&Arc<ValidatorSet>> {
        self.of(epoch).filter(|_| epoch <= self.epoch && epoch.saturating_add(1) >= self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use crate::validators::Validator;

    fn set(seed: u8) -> Arc<ValidatorSet> {
        let key = SecretKey::from_seed([seed; 32]).public();
        Arc::new(ValidatorSet::new(vec![Validator { key, weight: 1 }]).expect("valid set"))
    }

    #[test]
    fn m5_every_height_has_one_epoch_and_the_last_of_each_is_its_boundary() {
        let epochs = Epochs::new(20);
        assert_eq!([0, 1, 20, 21, 40, 41].map(|height| epochs.of(height)), [0, 0, 0, 1, 1, 2]);
        assert_eq!([0, 19, 20, 39, 40].map(|height| epochs.after(height)), [0, 0, 1, 1, 2]);
        assert_eq!([0, 1, 7].map(|epoch| epochs.last(epoch)), [20, 40, 160]);
        assert_eq!([0, 1, 20, 21, 40].map(|height| epochs.is_boundary(height)), [false, false, true, false, true]);
        for height in 0..100 {
            assert_eq!(epochs.after(height), epochs.of(height + 1));
            assert_eq!(epochs.is_boundary(height), height > 0 && epochs.last(epochs.of(height)) == height);
        }
    }

    #[test]
    fn m4_a_boundary_block_is_slot_0_to_its_child_and_no_other_is() {
        let epochs = Epochs::new(20);
        assert_eq!([(0, 0), (19, 25), (20, 26), (21, 1)].map(|(h, s)| epochs.parent_slot(h, s)), [0, 25, 0, 1]);
    }

    #[test]
    fn p9_the_vote_floor_is_64_slots_below_though_they_span_epochs() {
        let floors =
            |blocks| [(0, 3), (1, 3), (9, 0), (9, 64), (9, 70)].map(|(e, s)| Epochs::new(blocks).vote_floor(e, s));
        assert_eq!(floors(1_000), [(0, 0), (0, 0), (8, 0), (9, 0), (9, 6)]);
        assert_eq!(floors(20), [(0, 0), (0, 0), (5, 0), (9, 0), (9, 6)], "four epochs have 80 slots at least");
        assert_eq!(Epochs::new(1).vote_floor(100, 4), (40, 0));
    }

    #[test]
    fn e1_the_sets_move_up_by_one() {
        let genesis = Sets::genesis(set(1));
        assert_eq!(genesis.of(1), genesis.of(0));
        let first = genesis.advance(set(2));
        assert_eq!((first.epoch, &first.current, &first.next), (1, &set(1), &set(2)));
        let second = first.advance(set(3));
        assert_eq!((second.of(1), second.of(2), second.of(3)), (Some(&set(1)), Some(&set(2)), Some(&set(3))));
        assert_eq!((second.of(0), second.of(4), second.of(u64::MAX)), (Some(&set(1)), None, None));
        assert_eq!((second.of_batch(0), second.of_batch(1), second.of_batch(3)), (None, Some(&set(1)), None));
        assert_eq!(second.advance(set(4)).of(0), None);
    }
}
