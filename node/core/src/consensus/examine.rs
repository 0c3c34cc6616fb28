//! Each open candidate, looked at whenever something may have changed: hold, execute, vote (protocol.md H1-H5, C8, V5).

use super::output::{Halt, Output};
use super::state::{Core, Execution, Facts};
use super::validity::{Invalid, check_on_parent, check_v5, check_v7_once, check_v7_signatures};
use crate::block::Header;
use crate::hash::Hash;
use crate::record::RecordKey;
use crate::validators::ValidatorSet;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why a candidate is not votable yet; never "invalid".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// H1: its time is too far ahead; ends at this wall-clock millisecond.
    Time(u64),
    /// H2: the parent is not executed.
    Parent,
    /// H3: a batch is not durable here.
    Batches,
    /// H4: an ancestor above the tip is missing.
    Ancestor,
    /// H5: the base's certificate or a Skip certificate of the gap is missing.
    Proof,
    /// V1: this program does not speak its version, so it cannot say whether it is valid.
    Version,
}

/// What is to be said of a candidate now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Invalid(Invalid),
    Held(Hold),
    Votable,
}

impl Core {
    /// Looks at every open candidate. True if one was executed or voted for, so that other rules look again.
    pub(super) fn examine_candidates(&mut self) -> bool {
        let open: Vec<(u64, Hash)> = self.open.iter().copied().collect();
        let mut acted = false;
        for (slot, digest) in open {
            acted |= self.examine(slot, digest);
        }
        acted
    }

    fn examine(&mut self, slot: u64, digest: Hash) -> bool {
        let state = self.state_of(&digest);
        let mut acted = false;
        match state {
            State::Invalid(Invalid::Roots) if self.is_certified(&digest) => self.c21_diverged(&digest),
            State::Invalid(invalid) => {
                // A certified candidate stays open: its descendants need its execution, and only V5 can be ours to judge.
                if self.is_certified(&digest) {
                    acted |= self.execute(&digest);
                } else if self.open.remove(&(slot, digest)) {
                    self.dropped(invalid.name());
                }
            }
            State::Held(Hold::Time(_) | Hold::Proof) => {
                acted |= self.execute(&digest);
                self.wait_for(state, slot, digest);
            }
            State::Held(Hold::Parent | Hold::Batches | Hold::Ancestor | Hold::Version) => {}
            State::Votable => {
                acted |= self.execute(&digest);
                acted |= self.c8_vote_notar(slot, digest);
            }
        }
        self.close_if_done(slot, digest);
        acted
    }

    /// Nothing is left to do for a candidate that is executed and whose slot has an own Notar, or is final.
    fn close_if_done(&mut self, slot: u64, digest: Hash) {
        let executed = self.candidates.get(&digest).is_none_or(|entry| entry.execution != Execution::No);
        if executed && (!self.g1_no_own_notar(slot) || slot <= self.top.slot) {
            self.open.remove(&(slot, digest));
        }
    }

    fn is_certified(&self, digest: &Hash) -> bool {
        self.candidates.get(digest).is_some_and(|entry| entry.certified)
    }

    /// **H1-H5, V1-V6.** What stands between a candidate and a vote. Everything is judged only when the parent is executed,
    /// for then the whole chain below is here.
    pub(super) fn state_of(&mut self, digest: &Hash) -> State {
        let Some(entry) = self.candidates.get(digest) else { return State::Held(Hold::Ancestor) };
        if !entry.missing.is_empty() {
            return State::Held(Hold::Batches);
        }
        let header = &entry.candidate.header;
        let Some(parent) = self.parent_facts(header) else { return State::Held(Hold::Ancestor) };
        if self.v1_foreign(&parent).is_some() {
            return State::Held(Hold::Version);
        }
        match check_v5(header, &parent) {
            None => return State::Held(Hold::Parent),
            Some(Err(invalid)) => return State::Invalid(invalid),
            Some(Ok(())) => {}
        }
        let hold = self.hold_of(header);
        match self.verdict(digest, &parent) {
            Err(invalid) => State::Invalid(invalid),
            Ok(()) => hold.map_or(State::Votable, State::Held),
        }
    }

    /// H1 and H5: they hold back the vote, not the execution.
    fn hold_of(&self, header: &Header) -> Option<Hold> {
        if self.lacks_proof(header) {
            return Some(Hold::Proof);
        }
        let drift = self.config.parameters.drift_ms;
        self.is_ahead(header, self.now.wall_ms).then(|| Hold::Time(header.time_ms.saturating_sub(drift)))
    }

    /// H5.
    pub(super) fn lacks_proof(&self, header: &Header) -> bool {
        let base = (header.parent_slot, header.parent);
        !self.g2_base_held(base) || !self.g3_gap_skipped(header.parent_slot, header.slot)
    }

    /// H1.
    pub(super) fn is_ahead(&self, header: &Header, wall_ms: u64) -> bool {
        header.time_ms > wall_ms.saturating_add(self.config.parameters.drift_ms)
    }

    /// The parent, if it is the tip or a candidate above it: nothing else can be built upon.
    pub(super) fn parent_facts(&self, header: &Header) -> Option<Facts> {
        let above = |entry: &super::state::Entry| self.is_above_tip(&entry.candidate.header);
        let is_tip = header.parent == self.tip.digest;
        self.facts(&header.parent).filter(|_| is_tip || self.candidates.get(&header.parent).is_some_and(above))
    }

    /// V1, V2, V4, V6, V7 of a candidate whose batches and parent are here: computed once.
    fn verdict(&mut self, digest: &Hash, parent: &Facts) -> Result<(), Invalid> {
        let Some(entry) = self.candidates.get(digest) else { return Ok(()) };
        if let Some(verdict) = entry.verdict {
            return verdict;
        }
        let verdict = self.on_parent(&entry.candidate.header, parent);
        if let Some(entry) = self.candidates.get_mut(digest) {
            entry.verdict = Some(verdict);
        }
        verdict
    }

    /// V1, V2, V4, V6, V7 as they are.
    pub(super) fn on_parent(&self, header: &Header, parent: &Facts) -> Result<(), Invalid> {
        check_on_parent(header, parent, self.config.epochs(), &self.unfinal_batches(parent.digest), &self.batches)?;
        if header.evidence.is_empty() {
            return Ok(());
        }
        check_v7_signatures(header, &self.config)?;
        let taken = self.unfinal_nullifiers(parent.digest);
        let settled = |nullifier: &RecordKey| taken.contains(nullifier) || self.accusations.is_settled(nullifier);
        check_v7_once(header, &self.config, settled)
    }

    /// Batches of a block and its ancestors above the tip; those of final blocks are in the book.
    pub(super) fn unfinal_batches(&self, from: Hash) -> BTreeSet<Hash> {
        self.above_tip(from).flat_map(|header| header.batches.iter().map(|batch| batch.digest)).collect()
    }

    /// Headers of a block and its ancestors above the tip, the block first.
    pub(super) fn above_tip(&self, from: Hash) -> impl Iterator<Item = &Header> {
        let header = |digest: &Hash| {
            let header = &self.candidates.get(digest)?.candidate.header;
            (*digest != self.tip.digest && self.is_above_tip(header)).then_some(header)
        };
        std::iter::successors(header(&from), move |child| header(&child.parent))
    }

    /// Asks for the execution of a resolved candidate, once: before any vote, so that execution overlaps voting. Never of one whose
    /// version is not spoken here (V1).
    pub(super) fn execute(&mut self, digest: &Hash) -> bool {
        let spoken = self.config.version;
        let Some(entry) = self.candidates.get_mut(digest) else { return false };
        if entry.execution != Execution::No || entry.candidate.header.version > spoken {
            return false;
        }
        entry.execution = Execution::Asked;
        let candidate = Box::new(entry.candidate.clone());
        self.emit(Output::Execute { digest: *digest, candidate });
        true
    }

    /// H2 of its children may have ended.
    pub(super) fn on_executed(&mut self, digest: Hash, roots: super::input::Roots, set: Option<Arc<ValidatorSet>>) {
        if let Some(set) = set.filter(|_| self.is_boundary(&digest)) {
            self.boundaries.insert(digest, set);
        }
        if digest == self.tip.digest {
            self.tip.roots = Some(roots);
        }
        if let Some(entry) = self.candidates.get_mut(&digest) {
            entry.execution = Execution::Done(roots);
        }
    }

    /// **C21.** A certified candidate's V5 fails here: a quorum has other state than we.
    fn c21_diverged(&mut self, digest: &Hash) {
        let height = self.facts(digest).map_or(0, |facts| facts.height.saturating_sub(1));
        self.halt(Halt::Diverged { height, digest: *digest });
    }

    /// What ends a hold by itself: time, or certificates to be asked for (C15).
    fn wait_for(&mut self, state: State, slot: u64, digest: Hash) {
        match state {
            State::Held(Hold::Time(wall)) => {
                self.wake_at(self.now.mono_ms + wall.saturating_sub(self.now.wall_ms));
            }
            State::Held(Hold::Proof) if slot > self.top.slot => self.c15_want_proof(digest, slot),
            State::Held(_) | State::Invalid(_) | State::Votable => {}
        }
    }
}
