//! Votes for candidates, and how any vote becomes durable before it leaves (protocol.md C2, C8, C9, P3-P6).

use super::input::{WriteFailure, WriteId};
use super::output::{Event, Halt, Output, Rows, Write};
use super::state::{Core, Own};
use crate::hash::Hash;
use crate::key::Signature;
use crate::message::Message;
use crate::vote::{Kind, Statement, Vote};

impl Core {
    /// **C8.** Upon a candidate that is votable (G2, G3, G4: see `state_of`), signed by its leader (V1), at an allowed
    /// position (G5) without an own Notar (G1): persist Notar with the candidate (P3).
    pub(super) fn c8_vote_notar(&mut self, slot: u64, digest: Hash) -> bool {
        let Some(entry) = self.candidates.get(&digest).filter(|entry| entry.signed) else { return false };
        if !self.g1_no_own_notar(slot) || !self.g5_position_allowed(slot) || !self.a9_no_other_own_final(slot, &digest)
        {
            return false;
        }
        let statement = entry.candidate.header.notar(digest);
        let candidate = Box::new(entry.candidate.clone());
        self.persist(Rows::Notar { statement, candidate });
        true
    }

    /// **C9.** For each slot where a Notar certificate or the own Notar row is new: vote Final where the guards hold.
    pub(super) fn c9_vote_final(&mut self) -> bool {
        let mut acted = false;
        for slot in std::mem::take(&mut self.finals_due) {
            acted |= self.vote_final(slot);
        }
        acted
    }

    /// **C9.** Upon holding Notar(s,d) (G7) with the own Notar row for it (G6), no own Skip (G8), an allowed position (G5)
    /// and no Skip certificate (D13): persist Final with the certificate it rests on (P4).
    fn vote_final(&mut self, slot: u64) -> bool {
        let Some(notar) = self.g7_notar_held(slot) else { return false };
        let allowed = self.g5_position_allowed(slot)
            && self.g6_own_notar_is(slot, notar.digest)
            && self.g8_no_own_skip(slot)
            && self.g9_no_own_outcome(slot);
        let Some(state) = self.slots.get(&slot).filter(|s| allowed && s.skip.is_none()) else { return false };
        let Some(held) = &state.notar else { return false };
        let cert = held.cert.clone();
        self.persist(Rows::Final { statement: Statement { kind: Kind::Final, ..notar }, cert });
        true
    }

    /// **P6.** Asks for a commit; a vote in it is reserved from this moment, so nothing that contradicts is emitted.
    pub(super) fn persist(&mut self, rows: Rows) {
        let statement = match &rows {
            Rows::Notar { statement, .. } | Rows::Final { statement, .. } | Rows::Skip { statement } => {
                Some(*statement)
            }
            Rows::FinalCert { .. } | Rows::Seal { .. } | Rows::Memory { .. } => None,
        };
        if let Some(statement) = statement {
            self.set_own(Own { statement, signature: None });
        }
        let id = self.next_write;
        self.next_write += 1;
        self.writes.insert(id, statement);
        self.seen.write_asked(id, self.now.mono_ms);
        self.emit(Output::Persist(Write { id, rows }));
    }

    pub(super) fn set_own(&mut self, own: Own) {
        self.last_voted = self.last_voted.max(own.statement.slot);
        let slot = self.slots.entry(own.statement.slot).or_default();
        match own.statement.kind {
            Kind::Notar => slot.own_notar = Some(own),
            Kind::Skip | Kind::Final => slot.own_outcome = Some(own),
        }
    }

    /// **P5, C2.** Only now does a vote leave, alone or in the proposal that carries it, and enter the own pool.
    pub(super) fn p5_on_durable(&mut self, write: WriteId, signature: Option<Signature>) {
        self.a6_on_durable(write);
        self.a9_on_durable(write);
        self.p10_on_durable(write);
        self.seen.write_answered(write, self.now.mono_ms);
        let Some(Some(statement)) = self.writes.remove(&write) else { return };
        let Some(signature) = signature else {
            // A vote without a signature is no vote: what became of it is unknown.
            self.stopped = true;
            return;
        };
        // Finality overtook it, or nothing of ours may leave any more.
        if statement.epoch != self.config.epoch() || statement.slot <= self.top.slot || self.stopped {
            return;
        }
        self.set_own(Own { statement, signature: Some(signature) });
        self.finals_due.insert(statement.slot);
        self.send_own(statement, signature);
        self.take_vote(&Vote { statement, signer: self.config.me, signature }, true);
    }

    /// The leader's Notar leaves inside its proposal (F6), every other vote alone.
    fn send_own(&mut self, statement: Statement, signature: Signature) {
        self.emit(Output::Event(Event::Voted { statement }));
        let vote = Message::Vote(Vote { statement, signer: self.config.me, signature });
        if statement.kind != Kind::Notar || !self.is_mine(statement.slot) {
            return self.emit(Output::Broadcast(vote));
        }
        if let Some(entry) = self.candidates.get_mut(&statement.digest)
            && entry.candidate.header.slot == statement.slot
        {
            entry.candidate.signature = signature;
            entry.signed = true;
        }
        if let Some(slot) = self.slots.get_mut(&statement.slot) {
            slot.proposed = true;
        }
        let message = self.proposed(statement, signature).unwrap_or(vote);
        self.emit(Output::Broadcast(message));
    }

    /// **P6, P7.** No vote until restart after any failed write: the row may or may not be there.
    pub(super) fn p6_on_write_failed(&mut self, write: WriteId, failure: WriteFailure) {
        self.writes.remove(&write);
        self.seen.write_answered(write, self.now.mono_ms);
        match failure {
            WriteFailure::Unknown => {
                if !self.stopped {
                    self.stopped = true;
                    // Not ready: others skip this validator's slots at once (C11).
                    self.broadcast_status();
                }
            }
            WriteFailure::Fenced => self.halt(Halt::Fenced),
            WriteFailure::Conflict => self.halt(Halt::ConflictingVote),
        }
    }
}
