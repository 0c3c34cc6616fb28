//! Skipping: the timer of the frontier, and leaders that are not waited for (protocol.md C10-C12).

use super::output::{Output, Rows};
use super::state::Core;
use crate::hash::Hash;
use crate::vote::{Kind, Statement};

impl Core {
    /// **C10.** Upon the timer of slot F firing, with no own outcome (G9), F still the frontier (G10) and an allowed position
    /// (G5): persist Skip(F). Not while the next block needs another program (V1): slots would pass without end.
    pub(super) fn c10_skip(&mut self) -> bool {
        let slot = self.frontier.slot;
        if self.v1_awaited().is_some() {
            return false;
        }
        if !self.c10_arm() || !self.g5_position_allowed(slot) || !self.g9_no_own_outcome(slot) {
            return false;
        }
        self.c11_instant_skip();
        self.c12_announce();
        if self.now.mono_ms < self.frontier.deadline {
            self.wake_at(self.frontier.deadline);
            return false;
        }
        if !self.g10_is_frontier(slot) {
            return false;
        }
        let statement = Statement { epoch: self.config.epoch(), slot, kind: Kind::Skip, digest: Hash::ZERO };
        self.persist(Rows::Skip { statement });
        true
    }

    /// C10: the timer is set once per activation, when Busy first holds; later events never move it but C11. True if it is
    /// set.
    fn c10_arm(&mut self) -> bool {
        if self.frontier.armed.is_none() && self.c12_busy() {
            let now = self.now.mono_ms;
            self.frontier.armed = Some(now);
            self.frontier.deadline = now + self.skip_timeout(self.frontier.slot);
        }
        self.frontier.armed.is_some()
    }

    /// C10: `T(s) = min(T_cap, T0·α^max(0, s − s* − 2 − |instant|))`.
    fn skip_timeout(&self, slot: u64) -> u64 {
        let excess = (slot - self.top.slot).saturating_sub(2 + self.instant.len() as u64);
        self.config.parameters.skip_timeout(excess)
    }

    /// **C11.** A leader that is known not to lead is not waited for, within 2n slots above s*: beyond, the growing timeouts
    /// must rule, or liveness would rest on a guess.
    fn c11_instant_skip(&mut self) {
        let slot = self.frontier.slot;
        let leader = self.leader(slot);
        let span = 2 * self.config.set.len() as u64;
        if leader == self.config.me || slot - self.top.slot > span || self.instant.contains(&slot) {
            return;
        }
        let now = self.now.mono_ms;
        let gone_at = self.missing_since.get(usize::from(leader)).copied().flatten();
        let gone_at = gone_at.map(|since| since + self.config.skip_after());
        let state = self.slots.get(&slot);
        let skipped_itself = state.is_some_and(|s| s.votes.contains_key(&(Kind::Skip, leader)));
        if skipped_itself || gone_at.is_some_and(|at| at <= now) || self.says_not_ready(leader) {
            self.frontier.deadline = self.frontier.deadline.min(now);
            self.instant.insert(slot);
        } else if let Some(at) = gone_at.filter(|at| *at < self.frontier.deadline) {
            self.wake_at(at);
        }
    }

    fn says_not_ready(&self, peer: crate::validators::Index) -> bool {
        let state = self.peers.get(usize::from(peer));
        state.and_then(|peer| peer.status.as_ref()).is_some_and(|status| !status.ready)
    }

    /// **C12**, last sentence: the leader may lack the batch that makes us wait for it. Only once it has been silent for
    /// T0/4: the author's broadcast has mostly reached it.
    fn c12_announce(&mut self) {
        let slot = self.frontier.slot;
        let silent = self.by_slot.get(&slot).is_none_or(|known| known.is_empty());
        if self.frontier.announced || self.is_mine(slot) || !silent {
            return;
        }
        let due = self.frontier.armed.unwrap_or(self.now.mono_ms) + self.config.t0() / 4;
        if self.now.mono_ms < due {
            return self.wake_at(due);
        }
        self.frontier.announced = true;
        if let Some(batch) = self.includable() {
            let to = self.leader(slot);
            self.emit(Output::Announce { to, batch });
        }
    }
}
