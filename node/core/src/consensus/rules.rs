//! The guards of voting, G1-G10, each with the reason it must hold (protocol.md C8-C10).
//!
//! A vote is cast only in `voting.rs`, and only where these say so. The ledger's primary key is the last guard of
//! G1, G8 and G9 (P1, P2).

use super::memory::VotingState;
use super::state::{Core, Own, Slot};
use crate::hash::Hash;
use crate::vote::{Kind, Statement};

impl Core {
    fn slot_has(&self, slot: u64, test: impl Fn(&Slot) -> bool) -> bool {
        self.slots.get(&slot).is_some_and(test)
    }

    /// **G1** No Notar row or reservation in the slot: two Notars of one honest validator could make two quorums
    /// (Lemma 1).
    pub(super) fn g1_no_own_notar(&self, slot: u64) -> bool {
        !self.slot_has(slot, |s| s.own_notar.is_some())
    }

    /// **A9** No Final of another candidate that was taken back: there was a Notar of that one, which may be lost for good.
    pub(super) fn a9_no_other_own_final(&self, slot: u64, digest: &Hash) -> bool {
        let other = |own: Own| own.statement.kind == Kind::Final && own.statement.digest != *digest;
        !self.slot_has(slot, |s| s.own_outcome.is_some_and(other))
    }

    /// **G2** Notar or Final of the base is held: the chain below every notarized block is notarized (Lemma 3).
    pub(super) fn g2_base_held(&self, (slot, digest): (u64, Hash)) -> bool {
        if slot == self.top.slot {
            return digest == self.top.digest;
        }
        self.slot_has(slot, |s| s.notar.as_ref().is_some_and(|held| held.cert.statement.digest == digest))
    }

    /// **G3** Skip is held for every slot between base and candidate: a final block in between would be left out
    /// (Theorem 1).
    pub(super) fn g3_gap_skipped(&self, base: u64, slot: u64) -> bool {
        self.first_unskipped(base, slot).is_none()
    }

    /// First slot between base and candidate whose Skip certificate is missing.
    pub(super) fn first_unskipped(&self, base: u64, slot: u64) -> Option<u64> {
        (base + 1..slot).find(|s| !self.slot_has(*s, |s| s.skip.is_some()))
    }

    /// **G5** The position is allowed: above s*, the vote floor (P9) and the floors of a recovery (A6), in an epoch that is not
    /// sealed (E5) and whose floor's Seal is durable (P10), nothing has stopped voting (P6, C21, A3), and this program speaks the
    /// version of the next block (V1).
    pub(super) fn g5_position_allowed(&self, slot: u64) -> bool {
        slot > self.top.slot && self.g5_own_position(slot) && !self.e5_sealed() && self.p10_floor_durable()
    }

    /// The part of G5 that only this validator decides: its own past, and that it is one of the set.
    pub(super) fn g5_own_position(&self, slot: u64) -> bool {
        self.config.is_member() && self.g5_past(slot)
    }

    /// The part of G5 that its own past and its program decide.
    pub(super) fn g5_past(&self, slot: u64) -> bool {
        let epoch = self.config.epoch();
        let allowed = (epoch, slot) > self.vote_floor && self.memory.allows(epoch, slot);
        allowed && self.may_vote() && self.v1_stopped().is_none()
    }

    /// **G6** The own Notar row is for this very candidate: with G7 it keeps Final apart from other candidates.
    pub(super) fn g6_own_notar_is(&self, slot: u64, digest: Hash) -> bool {
        self.slot_has(slot, |s| {
            s.own_notar.is_some_and(|own| own.statement.digest == digest && own.signature.is_some())
        })
    }

    /// **G7** The Notar certificate is held, to be written in the same commit (P4): else the slot may become
    /// unclearable after a crash.
    pub(super) fn g7_notar_held(&self, slot: u64) -> Option<Statement> {
        self.slots.get(&slot)?.notar.as_ref().map(|held| held.cert.statement)
    }

    /// **G8** No Skip row or reservation in the slot: Final and Skip of one validator could make both quorums.
    pub(super) fn g8_no_own_skip(&self, slot: u64) -> bool {
        !self.slot_has(slot, |s| s.own_outcome.is_some_and(|own| own.statement.kind == Kind::Skip))
    }

    /// **G9** No Final row or reservation in the slot, for the same reason; and no Skip row, which would be the same
    /// vote again.
    pub(super) fn g9_no_own_outcome(&self, slot: u64) -> bool {
        !self.slot_has(slot, |s| s.own_outcome.is_some())
    }

    /// **G10** The slot is the frontier: a cleared slot needs no Skip (D1).
    pub(super) fn g10_is_frontier(&self, slot: u64) -> bool {
        slot == self.frontier.slot
    }

    /// Nothing has stopped voting: no failed write (P6), no halt (C21), no doubt about own votes (A2, A3), not told to pause.
    pub(super) fn may_vote(&self) -> bool {
        self.voting_state == VotingState::Voting && !self.stopped && self.halted.is_none() && self.ready
    }
}
