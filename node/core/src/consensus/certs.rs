//! Certificates: checked once, held, relayed; the highest Final one moves s* (protocol.md C4, C16, C20, C21).

use super::output::{Event, Halt, Output, Rows};
use super::state::{Core, Held, Top};
use crate::hash::Hash;
use crate::message::MAX_REQUEST;
use crate::message::Message;
use crate::params::{KEEP_FINAL_SLOTS, MAX_INLINE_CERTS};
use crate::validators::Index;
use crate::vote::{Cert, Kind, Statement, Vote};

/// Bytes of certificates inline in a proposal (F6).
const INLINE_BYTES: usize = 64 << 10;

impl Core {
    /// A certificate from a peer, for any slot above s*. Signatures that the pool has verified are not verified again.
    pub(super) fn on_cert(&mut self, from: Index, cert: Cert) {
        let Statement { epoch, slot, .. } = cert.statement;
        if epoch != self.config.epoch() {
            // An older one needs no answer: the one that sealed the epoch before is resent as that of the floor (C17).
            if epoch > self.config.epoch() {
                self.other_epoch(from, epoch, Message::Cert(cert));
            }
            return;
        }
        if slot <= self.top.slot || self.is_held(&cert.statement) {
            return self.note_holder(from, &cert.statement);
        }
        if cert.check_shape(&self.config.set).is_err() {
            return self.dropped("cert_malformed");
        }
        let votes = votes_of(&cert);
        if !votes.iter().all(|vote| self.verify_vote(vote)) {
            return self.dropped("cert_signature");
        }
        self.note_holder(from, &cert.statement);
        let me = self.config.me;
        for vote in &votes {
            if vote.signer == me {
                self.a8_own_vote(vote, true);
            } else {
                self.record_vote(vote, true);
            }
        }
        self.c4_hold(cert);
    }

    /// True if the certificate of this statement is held, or needless because its slot is final.
    pub(super) fn is_held(&self, statement: &Statement) -> bool {
        if statement.slot <= self.top.slot {
            return true;
        }
        let Some(slot) = self.slots.get(&statement.slot) else { return false };
        let held = match statement.kind {
            Kind::Notar => &slot.notar,
            Kind::Skip => &slot.skip,
            // A held Final certificate is the one of s*.
            Kind::Final => return false,
        };
        held.as_ref().is_some_and(|held| held.cert.statement.digest == statement.digest)
    }

    /// **C4.** Upon a new valid certificate of a slot above s*: note who is missing, store, relay, move s*.
    pub(super) fn c4_hold(&mut self, cert: Cert) {
        let statement = cert.statement;
        if self.c21_contradicts(&statement) {
            return self.halt(Halt::ContradictingCerts { slot: statement.slot });
        }
        self.note_missing(&cert);
        self.emit(Output::Event(Event::Certified { statement }));
        self.c16_relay(&cert);
        match statement.kind {
            Kind::Notar => self.hold_notar(cert),
            Kind::Skip => self.hold_skip(cert),
            Kind::Final => self.hold_final(cert),
        }
    }

    fn hold_notar(&mut self, cert: Cert) {
        let Statement { slot, digest, .. } = cert.statement;
        let signers: Vec<Index> = cert.signer_indices().collect();
        let since = self.now.mono_ms;
        self.slots.entry(slot).or_default().notar = Some(Held { cert, since });
        self.finals_due.insert(slot);
        self.refresh_base();
        self.mark_certified(digest, slot, &signers);
    }

    fn hold_skip(&mut self, cert: Cert) {
        let slot = cert.statement.slot;
        let leader = self.leader(slot);
        let since = self.now.mono_ms;
        let state = self.slots.entry(slot).or_default();
        state.skip = Some(Held { cert, since });
        if !state.votes.contains_key(&(Kind::Notar, leader)) {
            let epoch = self.config.epoch();
            self.emit(Output::Event(Event::Missed { epoch, slot, leader }));
        }
    }

    /// A Final certificate above s* sets (s*, d*), is persisted, prunes the pool, ends instant skips.
    fn hold_final(&mut self, cert: Cert) {
        let Statement { slot, digest, .. } = cert.statement;
        let signers: Vec<Index> = cert.signer_indices().collect();
        self.persist(Rows::FinalCert { cert: cert.clone() });
        self.raise_top(cert);
        self.mark_certified(digest, slot, &signers);
    }

    /// Moves s* up and forgets what no rule asks for below it (C4, C20).
    pub(super) fn raise_top(&mut self, cert: Cert) {
        let Statement { slot, digest, .. } = cert.statement;
        let above = self.slots.split_off(&(slot + 1));
        let below = std::mem::replace(&mut self.slots, above);
        let notar = below.get(&slot).and_then(|s| s.notar.as_ref());
        let since = notar.map_or(self.now.mono_ms, |held| held.since);
        self.kept.extend(below.into_iter().filter_map(|(slot, state)| Some((slot, state.notar?.cert))));
        self.kept.insert(slot, cert.clone());
        while self.kept.len() as u64 > KEEP_FINAL_SLOTS {
            self.kept.pop_first();
        }
        self.top = Top { slot, digest, cert: Some(cert), since };
        self.note_final(slot);
        self.instant.clear();
        self.standstill = None;
        self.finals_due = self.finals_due.split_off(&(slot + 1));
        self.reproposals = self.reproposals.split_off(&(slot + 1, Hash::ZERO));
        self.relays.retain(|(_, s)| s.slot > slot || s.kind == Kind::Final && s.slot == slot);
        self.refresh_base();
    }

    /// D25: remembers when slots became final. One that is passed over is taken for one that is not: its votes count longer.
    fn note_final(&mut self, slot: u64) {
        let (now, t0) = (self.now.mono_ms, self.config.t0());
        if self.became_final.back().is_none_or(|(_, at)| now - at >= t0 / 16) {
            self.became_final.push_back((slot, now));
        }
        while self.became_final.get(1).is_some_and(|(_, at)| now - at > t0) {
            self.became_final.pop_front();
        }
    }

    /// C4: signers of a certificate are alive; whoever is not in it is missing from now on, unless missing already.
    fn note_missing(&mut self, cert: &Cert) {
        let now = self.now.mono_ms;
        let mut signers = cert.signer_indices().peekable();
        for (index, missing) in self.missing_since.iter_mut().enumerate() {
            let signed = signers.next_if(|signer| usize::from(*signer) == index).is_some();
            *missing = if signed { None } else { missing.or(Some(now)) };
        }
    }

    /// **C21.** Two held certificates that cannot both be: more than fw of weight is Byzantine (Lemmas 1, 2).
    fn c21_contradicts(&self, statement: &Statement) -> bool {
        let Some(slot) = self.slots.get(&statement.slot) else { return false };
        let other_notar = slot.notar.as_ref().is_some_and(|held| held.cert.statement.digest != statement.digest);
        match statement.kind {
            Kind::Notar => other_notar,
            Kind::Skip => false,
            Kind::Final => other_notar || slot.skip.is_some(),
        }
    }

    /// **C21.** Voting stops first.
    pub(super) fn halt(&mut self, halt: Halt) {
        self.stopped = true;
        if self.halted.is_none() {
            self.halted = Some(halt.clone());
            self.emit(Output::Halt(halt));
        }
    }

    /// **C16.** A newly held certificate goes once to every peer: at once in a small set, else after a while and only to
    /// those who are not known to have it.
    fn c16_relay(&mut self, cert: &Cert) {
        if self.config.relays_at_once() {
            self.emit(Output::Broadcast(Message::Cert(cert.clone())));
        } else {
            let due = self.now.mono_ms + self.config.t0() / 8;
            self.relays.insert((due, cert.statement));
        }
    }

    /// C16, second half: relays whose time has come.
    pub(super) fn c16_relay_due(&mut self) {
        while let Some((due, statement)) = self.relays.first().copied() {
            if due > self.now.mono_ms {
                return self.wake_at(due);
            }
            self.relays.pop_first();
            let Some(cert) = self.find_cert(&statement).cloned() else { continue };
            for to in self.connected().filter(|to| !self.knows(*to, &cert)).collect::<Vec<_>>() {
                self.emit(Output::Send { to, message: Message::Cert(cert.clone()) });
            }
        }
    }

    /// What shows that a peer has a certificate: it signed or sent it, or voted or stands beyond its slot.
    fn knows(&self, peer: Index, cert: &Cert) -> bool {
        let Some(state) = self.peers.get(usize::from(peer)) else { return true };
        let Statement { epoch, slot, .. } = cert.statement;
        match cert.statement.kind {
            Kind::Notar | Kind::Skip => state.cleared >= slot,
            // Of the epoch before: that of the floor, which whoever is in this one has.
            Kind::Final if epoch < self.config.epoch() => {
                state.status.as_ref().is_some_and(|status| status.epoch > epoch)
            }
            Kind::Final => state.status.as_ref().is_some_and(|status| status.final_slot >= slot),
        }
    }

    /// Who sends a certificate has it.
    fn note_holder(&mut self, from: Index, statement: &Statement) {
        if let Some(peer) = self.peers.get_mut(usize::from(from)) {
            match statement.kind {
                // It clears this slot there, though not surely those below: enough to spare a needless relay of this one.
                Kind::Notar | Kind::Skip if peer.cleared.checked_add(1) == Some(statement.slot) => {
                    peer.cleared = statement.slot;
                }
                Kind::Notar | Kind::Skip => {}
                Kind::Final => peer.cleared = peer.cleared.max(statement.slot),
            }
        }
    }

    /// The certificate of a statement, if held.
    pub(super) fn find_cert(&self, statement: &Statement) -> Option<&Cert> {
        if statement.kind == Kind::Final {
            return self.top.cert.as_ref().filter(|cert| cert.statement == *statement);
        }
        let slot = self.slots.get(&statement.slot)?;
        let held = if statement.kind == Kind::Notar { &slot.notar } else { &slot.skip };
        held.as_ref().map(|held| &held.cert)
    }

    /// Certificates that clear the slots from one on, up to the frontier (C15, C18).
    pub(super) fn clearing_certs(&self, from: u64) -> impl Iterator<Item = &Cert> + '_ {
        let slots = self.slots.range(from.max(self.top.slot + 1)..).map(|(_, slot)| slot);
        slots.flat_map(|slot| [&slot.notar, &slot.skip].into_iter().flatten()).map(|held| &held.cert)
    }

    /// Sends certificates to a peer in messages of as many as one may hold, within the bytes of a reply.
    pub(super) fn send_certs(&mut self, to: Index, certs: Vec<Cert>) {
        if !certs.is_empty() {
            self.emit(Output::Send { to, message: Message::Certs { certs } });
        }
    }
}

/// The first certificates that fit into one reply: 64 of them, 256 KiB (C15).
pub(super) fn within_reply<'a>(certs: impl Iterator<Item = &'a Cert>) -> Vec<Cert> {
    let mut bytes = 0;
    let fits = |cert: &&Cert| {
        bytes += cert_bytes(cert);
        bytes <= crate::params::STANDSTILL_BYTES
    };
    certs.take(MAX_REQUEST).take_while(fits).cloned().collect()
}

/// The first certificates that fit into a proposal: 16 and 64 KiB (F6); what does not fit is fetched by C15.
pub(super) fn within_inline<'a>(certs: impl Iterator<Item = &'a Cert>) -> Vec<Cert> {
    let mut bytes = 0;
    let fits = |cert: &&Cert| {
        bytes += cert_bytes(cert);
        bytes <= INLINE_BYTES
    };
    certs.take(MAX_INLINE_CERTS).take_while(fits).cloned().collect()
}

/// Encoded size, near enough for a bound.
pub(super) fn cert_bytes(cert: &Cert) -> usize {
    64 + cert.signers.len() + 64 * cert.signatures.len()
}

/// The votes that make a certificate.
pub(super) fn votes_of(cert: &Cert) -> Vec<Vote> {
    let vote = |(signer, signature): (Index, &crate::key::Signature)| Vote {
        statement: cert.statement,
        signer,
        signature: *signature,
    };
    cert.signer_indices().zip(&cert.signatures).map(vote).collect()
}
