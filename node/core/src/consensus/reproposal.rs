//! A boundary block that is notarized but not final is proposed again: nothing else may extend it (protocol.md E3, E4).

use super::candidates::UNCERTIFIED_MAX;
use super::certs::within_inline;
use super::output::Rows;
use super::state::{Core, Execution};
use crate::block::Reproposal;
use crate::hash::Hash;
use crate::key::Signature;
use crate::message::{MAX_REQUEST, Message};
use crate::params::VOTE_WINDOW;
use crate::validators::Index;
use crate::vote::{Cert, Kind, Statement, Vote};

/// Longest wait for the Final certificate of the block before it is proposed again.
const WAIT_MAX_MS: u64 = 50;

impl Core {
    /// Whether a candidate is a boundary block of this epoch: nothing extends it here (E3).
    pub(super) fn is_boundary(&self, digest: &Hash) -> bool {
        let header = self.candidates.get(digest).map(|entry| &entry.candidate.header);
        header.is_some_and(|h| h.epoch == self.config.epoch() && h.height == self.config.last_height())
    }

    /// The largest slot r below s in which Notar(r, d) is held, if Skip is held for all slots between (E4, G2, G3).
    pub(super) fn e4_base(&self, slot: u64, digest: &Hash) -> Option<u64> {
        let below = self.slots.range(self.top.slot + 1..slot.max(self.top.slot + 1)).rev();
        let notarized =
            |state: &super::state::Slot| state.notar.as_ref().is_some_and(|held| held.cert.statement.digest == *digest);
        let base = below.filter(|(_, state)| notarized(state)).map(|(base, _)| *base).next()?;
        self.g3_gap_skipped(base, slot).then_some(base)
    }

    /// **E4** as leader: the best base is a boundary block, executed and not final. After min(T0/4, 50 ms) for its Final
    /// certificate it is proposed again; the proposal leaves in `p5_on_durable`.
    pub(super) fn e4_lead(&mut self, slot: u64, digest: Hash) -> bool {
        let until = self.frontier.activated + (self.config.t0() / 4).min(WAIT_MAX_MS);
        if self.now.mono_ms < until {
            self.wake_at(until);
            return false;
        }
        self.e4_vote(slot, digest)
    }

    /// **E4, C8** A re-proposal comes: its certificates first, then its leader's vote, which signs it (F6).
    pub(super) fn on_reproposal(&mut self, from: Index, mut reproposal: Reproposal) {
        for cert in std::mem::take(&mut reproposal.proof) {
            self.on_cert(from, cert);
        }
        let Reproposal { epoch, slot, digest, signature, .. } = reproposal;
        if epoch != self.config.epoch() {
            return self.other_epoch(from, epoch, Message::Reproposal(Box::new(reproposal)));
        }
        let statement = Statement { epoch, slot, kind: Kind::Notar, digest };
        if slot <= self.top.slot || !statement.well_formed() {
            return;
        }
        if slot > self.frontier.slot + VOTE_WINDOW {
            return self.dropped("candidate_far");
        }
        let vote = Vote { statement, signer: self.leader(slot), signature };
        if self.reproposals.contains_key(&(slot, digest)) {
            return;
        }
        if !self.verify_vote(&vote) {
            return self.dropped("candidate_signature");
        }
        self.note_alive(vote.signer);
        self.take_leaders_vote(&vote);
        // Its own vote may have completed a Final certificate.
        if slot <= self.top.slot {
            return;
        }
        if self.reproposals_of(slot).count() >= UNCERTIFIED_MAX {
            return self.dropped("candidate_third");
        }
        self.reproposals.insert((slot, digest), signature);
    }

    /// Boundary blocks proposed again in a slot.
    pub(super) fn reproposals_of(&self, slot: u64) -> impl Iterator<Item = Hash> + '_ {
        let known = self.reproposals.range((slot, Hash::ZERO)..=(slot, Hash([0xff; 32])));
        known.map(|((_, digest), _)| *digest)
    }

    /// Looks at every re-proposal above s*. True if one was voted for.
    pub(super) fn examine_reproposals(&mut self) -> bool {
        let open: Vec<(u64, Hash)> =
            self.reproposals.keys().copied().filter(|(slot, _)| *slot > self.top.slot).collect();
        let mut acted = false;
        for (slot, digest) in open {
            acted |= self.e4_vote(slot, digest);
        }
        acted
    }

    /// **E4, C8** Upon a re-proposal (s, d): if no own Notar is in s (G1), the position is allowed (G5), d is a boundary block of
    /// this epoch whose data is here (P3), and there is r < s with Notar(r, d) held and Skip for all slots between: persist
    /// Notar(s, d).
    fn e4_vote(&mut self, slot: u64, digest: Hash) -> bool {
        if !self.g1_no_own_notar(slot) || !self.g5_position_allowed(slot) || !self.is_boundary(&digest) {
            return false;
        }
        if !self.a9_no_other_own_final(slot, &digest) {
            return false;
        }
        let here = |entry: &super::state::Entry| entry.missing.is_empty() && entry.execution != Execution::No;
        let Some(entry) = self.candidates.get(&digest).filter(|entry| here(entry)) else { return false };
        let candidate = Box::new(entry.candidate.clone());
        if self.e4_base(slot, &digest).is_none() {
            self.c15_want_proof(digest, slot);
            return false;
        }
        let statement = Statement { epoch: self.config.epoch(), slot, kind: Kind::Notar, digest };
        self.persist(Rows::Notar { statement, candidate });
        true
    }

    /// **F6** A re-proposal as it is sent: with the Notar certificate of its base and the Skip certificates of the gap.
    pub(super) fn reproposal(&self, statement: Statement, signature: Signature) -> Message {
        let Statement { epoch, slot, digest, .. } = statement;
        let base = self.e4_base(slot, &digest).unwrap_or(slot);
        let notar = self.slots.get(&base).and_then(|s| s.notar.as_ref()).filter(|_| base < slot).map(|held| &held.cert);
        let gap = self.slots.range(base.saturating_add(1).min(slot)..slot);
        let skips = gap.filter_map(|(_, s)| s.skip.as_ref()).map(|held| &held.cert);
        let proof: Vec<Cert> = within_inline(notar.into_iter().chain(skips));
        Message::Reproposal(Box::new(Reproposal { epoch, slot, digest, signature, proof }))
    }

    /// The own Notar vote of an own slot as it leaves: in the proposal that carries it (F6).
    pub(super) fn proposed(&self, statement: Statement, signature: Signature) -> Option<Message> {
        let of_slot = self.candidates.get(&statement.digest)?.candidate.header.slot;
        if of_slot == statement.slot {
            self.proposal(&statement.digest)
        } else {
            Some(self.reproposal(statement, signature))
        }
    }

    /// Slots whose certificates a re-proposal lacks (C15): Skips above the highest slot in which the block is notarized, or, if
    /// that is not known, the slots that may be the one, the nearest first.
    pub(super) fn e4_missing_proof(&self, slot: u64, digest: &Hash) -> Vec<u64> {
        let first = self.candidates.get(digest).map_or(0, |entry| entry.candidate.header.slot);
        let from = first.max(self.top.slot + 1);
        let notar = |at: &u64| self.slots.get(at).and_then(|s| s.notar.as_ref());
        let base = (from..slot).rev().find(|at| notar(at).is_some_and(|held| held.cert.statement.digest == *digest));
        match base {
            Some(base) => {
                let unskipped = |at: &u64| self.slots.get(at).is_none_or(|s| s.skip.is_none());
                (base + 1..slot).filter(unskipped).take(MAX_REQUEST).collect()
            }
            None => (from..slot).rev().filter(|at| notar(at).is_none()).take(MAX_REQUEST).collect(),
        }
    }
}
