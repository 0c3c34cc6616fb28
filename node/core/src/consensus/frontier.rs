//! The frontier: the slot in progress, what it builds on, and whether there is anything to do (protocol.md C5, C6, C12).

use super::output::{Event, Output};
use super::state::{Core, Frontier};
use crate::hash::Hash;
use crate::vote::{Kind, Statement};

impl Core {
    /// **C5, C6.** F is the least uncleared slot: s is cleared if Notar or Skip of it is held or s ≤ s*. Upon reaching a
    /// new one the old timer is gone, and no new one is set until Busy (C10).
    pub(super) fn c5_advance_frontier(&mut self) -> bool {
        let mut slot = self.frontier.slot.max(self.top.slot + 1);
        while self.slots.get(&slot).is_some_and(|s| s.notar.is_some() || s.skip.is_some()) {
            slot += 1;
        }
        if slot == self.frontier.slot {
            return false;
        }
        self.frontier = Frontier::at(slot, &self.top, self.now.mono_ms);
        self.refresh_base();
        let leader = self.leader(slot);
        let epoch = self.config.epoch();
        self.emit(Output::Event(Event::SlotStarted { epoch, slot, leader }));
        true
    }

    /// The largest position below F whose Notar or Final is held: every slot above it is cleared by Skip.
    pub(super) fn refresh_base(&mut self) {
        let below = self.slots.range(..self.frontier.slot).rev();
        let notarized = below.filter_map(|(slot, state)| Some((*slot, state.notar.as_ref()?))).next();
        (self.frontier.base, self.frontier.base_since) = match notarized {
            Some((slot, held)) => ((slot, held.cert.statement.digest), held.since),
            None => ((self.top.slot, self.top.digest), self.top.since),
        };
    }

    /// **C12.** Whether slot F is worth a block: without a reason an idle chain has no timers, skips or blocks.
    ///
    /// Unfinished business alone counts only after T0/2: the Final votes of a block are under way when its Notar
    /// certificate makes the next slot, and an idle chain would never come to rest (deviation D16).
    pub(super) fn c12_busy(&mut self) -> bool {
        let slot = self.frontier.slot;
        let idle_at = self.frontier.base_since + self.config.parameters.block_time_ms;
        let unfinished_at = self.frontier.activated + self.config.t0() / 2;
        let unfinished = slot > self.top.slot + 1;
        let now = self.now.mono_ms;
        let busy = now >= idle_at
            || unfinished && now >= unfinished_at
            || self.by_slot.get(&slot).is_some_and(|known| !known.is_empty())
            || self.reproposals_of(slot).next().is_some()
            || self.skip_weight(slot) > self.config.set.faulty_weight()
            || self.includable().is_some();
        if !busy {
            self.wake_at(if unfinished { unfinished_at.min(idle_at) } else { idle_at });
        }
        busy
    }

    fn skip_weight(&self, slot: u64) -> u64 {
        self.tally(&Statement { epoch: self.config.epoch(), slot, kind: Kind::Skip, digest: Hash::ZERO })
    }

    /// A batch that a block on the base may include; found again only when base or batches have changed.
    pub(super) fn includable(&mut self) -> Option<Hash> {
        let (base, version) = (self.frontier.base.1, self.batches.version());
        if let Some((at, of, found)) = self.frontier.includable
            && (at, of) == (base, version)
        {
            return found;
        }
        let height = self.facts(&base).map_or(self.tip.height, |facts| facts.height) + 1;
        let found = self.batches.first_includable(height, &self.unfinal_batches(base));
        self.frontier.includable = Some((base, version, found));
        found
    }
}
