//! The validators of epochs in the state: who decides next, written down by the first block of each epoch (protocol.md E1, E2).
//!
//! ```text
//! epoch e−1 … H   set(e+1) = next_set(state after H)
//! epoch e     1   writes set(e+1), whose hash its own header holds; deletes set(e−3)
//! ```
//! Sets of epochs 0 and 1 are those of genesis and stand nowhere else.

use super::{Block, Rules};
use crate::epoch::{Epochs, Sets};
use crate::record::{Record, RecordKey};
use crate::state::State;
use crate::validators::ValidatorSet;
use std::sync::Arc;

/// Epochs before that of the last block whose sets are kept: evidence of them is fresh still (X3).
const EPOCHS_BEFORE: u64 = 2;

impl State {
    /// The set of an epoch from 2 on, if it is written down: that of the last block, the two before and the one after it.
    pub fn set_of(&self, epoch: u64) -> Option<Arc<ValidatorSet>> {
        let Some(Record::ValidatorSet { members }) = self.record(&RecordKey::ValidatorSet { epoch }) else {
            return None;
        };
        ValidatorSet::new(members.clone()).ok().map(Arc::new)
    }

    /// **E1** Who validates an epoch from 2 on: by this state, that after the last block of the epoch but one before, unless
    /// a test says it. `current` is the set of the epoch before.
    pub fn elect(&self, rules: &Rules, epoch: u64, current: &Arc<ValidatorSet>) -> Arc<ValidatorSet> {
        let at = epoch.checked_sub(2).and_then(|at| usize::try_from(at).ok());
        let scheduled = at.and_then(|at| rules.scheduled.get(at).or(rules.scheduled.last()));
        scheduled.cloned().unwrap_or_else(|| self.next_set(rules, epoch, current))
    }

    /// What the child of the block at `height` goes by; this is the state after that block, and `genesis` the first set.
    /// `None` where a record is missing, which no state lacks that execution made.
    pub fn sets(&self, rules: &Rules, epochs: Epochs, genesis: &Arc<ValidatorSet>, height: u64) -> Option<Sets> {
        let epoch = epochs.after(height);
        let set_of = |epoch: u64| if epoch < 2 { Some(genesis.clone()) } else { self.set_of(epoch) };
        let current = set_of(epoch)?;
        let next = match epoch.checked_add(1)? {
            after if after >= 2 && epochs.is_boundary(height) => self.elect(rules, after, &current),
            after => set_of(after)?,
        };
        let (older, previous) = (set_of(epoch.saturating_sub(2))?, set_of(epoch.saturating_sub(1))?);
        Some(Sets { epoch, older, previous, current, next })
    }

    /// **E1** The same where `sets` of the block's own epoch are known: they move up where the block is the last of it.
    pub fn sets_after(&self, rules: &Rules, epochs: Epochs, sets: &Sets, height: u64) -> Sets {
        match epochs.is_boundary(height) {
            true => sets.advance(self.elect(rules, sets.epoch.saturating_add(2), &sets.next)),
            false => sets.clone(),
        }
    }
}

impl Block<'_> {
    /// **E1** The first block of an epoch from 1 on, whose set is `current`: who validates the next one is what the state
    /// before this block says.
    pub(super) fn e1_write_next_set(&mut self, current: &Arc<ValidatorSet>) {
        let Some(next) = self.context.epoch.checked_add(1) else { return };
        let set = self.accounts.parent.elect(self.rules, next, current);
        let record = Record::ValidatorSet { members: set.members().to_vec() };
        self.accounts.set_record(RecordKey::ValidatorSet { epoch: next }, Some(record));
        if let Some(epoch) = self.context.epoch.checked_sub(EPOCHS_BEFORE + 1) {
            self.accounts.set_record(RecordKey::ValidatorSet { epoch }, None);
        }
    }
}

#[cfg(test)]
mod tests;
