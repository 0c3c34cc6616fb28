//! Resending everything that may be missing elsewhere, slowly, while nothing becomes final (protocol.md C17).

use super::certs::cert_bytes;
use super::output::Output;
use super::state::{Core, Slot};
use crate::message::Message;
use crate::params::{STANDSTILL_BYTES, STANDSTILL_SLOTS};
use crate::vote::Vote;

/// Encoded size of a vote, near enough for a bound.
const VOTE_BYTES: usize = 128;

/// When to resend next, and from which slot on.
#[derive(Clone, Debug)]
pub(super) struct Standstill {
    due: u64,
    period: u64,
    cursor: u64,
}

impl Core {
    /// **C17.** While unfinished or Busy without a new Final certificate: at growing intervals send every peer the Final
    /// certificate of s*, then what is held and own of the slots from a wrapping cursor on, within 64 slots and 256 KiB, so
    /// every object is resent infinitely often and egress stays bounded.
    pub(super) fn c17_standstill(&mut self) {
        if self.frontier.slot <= self.top.slot + 1 && self.frontier.armed.is_none() {
            self.standstill = None;
            return;
        }
        let (first, cap) = self.config.standstill_periods();
        let now = self.now.mono_ms;
        let fresh = Standstill { due: now + first, period: first, cursor: self.top.slot + 1 };
        let mut state = self.standstill.take().unwrap_or(fresh);
        if now >= state.due {
            state.cursor = self.resend_from(state.cursor);
            state.period = (state.period * 2).min(cap);
            state.due = now + state.period;
        }
        self.wake_at(state.due);
        self.standstill = Some(state);
    }

    /// One attempt; returns the next cursor.
    fn resend_from(&mut self, cursor: u64) -> u64 {
        let (bottom, end) = (self.top.slot + 1, self.frontier.slot.max(self.last_voted));
        let cursor = if (bottom..=end).contains(&cursor) { cursor } else { bottom };
        let slots = self.slots.range(cursor..=end).chain(self.slots.range(bottom..cursor));
        let mut bytes = self.top.cert.as_ref().map_or(0, cert_bytes);
        let mut messages: Vec<Message> = self.top.cert.iter().cloned().map(Message::Cert).collect();
        let mut next = bottom;
        for (taken, (number, slot)) in slots.enumerate() {
            next = *number;
            let of_slot = self.resend_slot(slot);
            bytes += of_slot.iter().map(message_bytes).sum::<usize>();
            if taken as u64 >= STANDSTILL_SLOTS || bytes > STANDSTILL_BYTES && taken > 0 {
                break;
            }
            messages.extend(of_slot);
            next = *number + 1;
        }
        for message in messages {
            self.emit(Output::Broadcast(message));
        }
        next
    }

    /// Held certificates, own durable votes and the own proposal of a slot.
    fn resend_slot(&self, slot: &Slot) -> Vec<Message> {
        let certs = [&slot.notar, &slot.skip].into_iter().flatten().map(|held| Message::Cert(held.cert.clone()));
        let own = [slot.own_notar, slot.own_outcome].into_iter().flatten();
        let votes = own.filter_map(|own| {
            let signature = own.signature?;
            let vote = Vote { statement: own.statement, signer: self.config.me, signature };
            let mine = own.statement.kind == crate::vote::Kind::Notar && self.is_mine(own.statement.slot);
            let proposal = if mine { self.proposed(own.statement, signature) } else { None };
            Some(proposal.unwrap_or(Message::Vote(vote)))
        });
        certs.chain(votes).collect()
    }
}

fn message_bytes(message: &Message) -> usize {
    match message {
        Message::Cert(cert) => cert_bytes(cert),
        Message::Vote(_) => VOTE_BYTES,
        other => borsh::object_length(other).unwrap_or(STANDSTILL_BYTES),
    }
}
