//! What only the diagnosis looks at: since when, and how late. No rule reads any of it.

use super::input::WriteId;
use super::state::Core;
use crate::block::Header;
use crate::validators::Index;
use std::collections::BTreeMap;

/// Moments of the monotonic clock, in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Since when something should become final, `None` while nothing waits.
    pub(super) work: Option<Work>,
    /// When each write without an answer was asked for.
    writes: BTreeMap<WriteId, u64>,
    /// How long the last answered write took.
    pub(super) last_write_ms: Option<u64>,
    pub(super) validators: Vec<SeenValidator>,
}

/// Something waits to become final, and nothing did since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) since: u64,
    /// Last block let out at that moment: a new one is progress.
    height: u64,
}

/// One validator as it was noticed.
#[derive(Clone, Debug)]
pub(super) struct SeenValidator {
    /// When its channel came or went last; the start of this process before that.
    pub(super) link_changed: u64,
    /// When a new vote of it was last taken into the pool.
    pub(super) voted: Option<u64>,
    /// How far its clock was ahead of ours when its last own proposal came, the way here taken off it.
    pub(super) clock_ahead_ms: Option<i64>,
}

impl Seen {
    pub(super) fn new(validators: usize, now: u64) -> Self {
        let validator = SeenValidator { link_changed: now, voted: None, clock_ahead_ms: None };
        Seen { work: None, writes: BTreeMap::new(), last_write_ms: None, validators: vec![validator; validators] }
    }

    /// Validators of another set.
    pub(super) fn enter_epoch(&mut self, validators: usize, now: u64) {
        self.validators = Seen::new(validators, now).validators;
    }

    pub(super) fn link_changed(&mut self, peer: Index, now: u64) {
        if let Some(validator) = self.validators.get_mut(usize::from(peer)) {
            validator.link_changed = now;
        }
    }

    pub(super) fn voted(&mut self, signer: Index, now: u64) {
        if let Some(validator) = self.validators.get_mut(usize::from(signer)) {
            validator.voted = Some(now);
        }
    }

    pub(super) fn write_asked(&mut self, write: WriteId, now: u64) {
        self.writes.insert(write, now);
    }

    pub(super) fn write_answered(&mut self, write: WriteId, now: u64) {
        if let Some(asked) = self.writes.remove(&write) {
            self.last_write_ms = Some(now.saturating_sub(asked));
        }
    }

    /// How many writes have no answer yet, and when the oldest of them was asked for.
    pub(super) fn open_writes(&self) -> (usize, Option<u64>) {
        (self.writes.len(), self.writes.values().min().copied())
    }
}

impl Core {
    /// Something should become final while the frontier is Busy (C12), while there are slots above s* + 1 (C17), while a final
    /// block cannot be let out (C19), and while nothing can because this program is too old (V1).
    pub(super) fn note_work(&mut self) {
        let unfinished = self.frontier.slot > self.top.slot + 1 || self.frontier.armed.is_some();
        let work = unfinished || self.top.digest != self.tip.digest || self.v1_stopped().is_some();
        let (since, height) = (self.now.mono_ms, self.tip.height);
        let known = self.seen.work.filter(|known| known.height == height);
        self.seen.work = work.then(|| known.unwrap_or(Work { since, height }));
    }

    /// A leader's clock shows in the time of a block that it sends itself, unless the parent's time pushed it up (C7).
    pub(super) fn note_clock(&mut self, from: Index, header: &Header) {
        let pushed = self.facts(&header.parent).is_none_or(|parent| header.time_ms <= parent.time_ms + 1);
        if from != header.proposer || pushed {
            return;
        }
        let ahead = i128::from(header.time_ms) - i128::from(self.now.wall_ms);
        if let Some(validator) = self.seen.validators.get_mut(usize::from(from)) {
            validator.clock_ahead_ms = i64::try_from(ahead).ok();
        }
    }
}
