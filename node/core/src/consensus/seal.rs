//! The end of an epoch, and the beginning of the next one (protocol.md E5-E7, P10).
//!
//! ```text
//! Final certificate of the boundary block, header here: no new vote (E5)
//!   └ all blocks let out (C19): Seal written (P10) ─┐
//!   └ executed: the set after the next (E1) ────────┴─→ floor, slot 1 of the next epoch; votes once the Seal is durable
//! ```
//! What served the old epoch is its Seal and its final candidates: a Final certificate clears every slot, so no other
//! certificate of it is ever needed (E7).

use super::candidates::Origin;
use super::output::{Output, Rows};
use super::state::{Core, Frontier, SEALS_KEPT, Sealed, Top};
use crate::block::{Candidate, Header, Seal};
use crate::hash::Hash;
use crate::key::Signature;
use crate::message::Message;
use crate::validators::{Index, ValidatorSet};
use crate::vote::Kind;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Core {
    /// **E5** A Final certificate of the boundary block is held and its header is here, or the ledger shows that a later epoch
    /// had begun before the start, whose votes are written ahead of the blocks of this one: no vote in it any more.
    pub(super) fn e5_sealed(&self) -> bool {
        self.holds_end() || self.seals.range(self.config.epoch()..).next().is_some() || !self.later.votes.is_empty()
    }

    /// A Final certificate of the boundary block is held and its header is here.
    pub(super) fn holds_end(&self) -> bool {
        self.facts(&self.top.digest).is_some_and(|facts| facts.height == self.config.last_height())
    }

    /// **P10** The Seal of the epoch before is durable: what lets the first vote of this one leave.
    pub(super) fn p10_floor_durable(&self) -> bool {
        let Some(before) = self.config.epoch().checked_sub(1) else { return true };
        self.seals.get(&before).is_some_and(|sealed| sealed.durable)
    }

    /// **E5** Once the boundary block and all below it are let out, its Seal is written, and once it is executed the next
    /// epoch begins. True if it did.
    pub(super) fn e5_advance_epoch(&mut self) -> bool {
        if self.tip.height != self.config.last_height() || self.halted.is_some() {
            return false;
        }
        let epoch = self.config.epoch();
        if !self.seals.contains_key(&epoch) {
            let Some(seal) = self.seal_of_tip() else { return false };
            self.keep_seal(epoch, seal);
        }
        let Some(after) = self.boundaries.get(&self.tip.digest).cloned().filter(|_| self.tip.roots.is_some()) else {
            return false;
        };
        self.enter_epoch(after);
        true
    }

    fn seal_of_tip(&self) -> Option<Seal> {
        let of_tip = |header: &&Header| header.height == self.tip.height;
        let synced = self.synced_boundary.as_ref().filter(of_tip);
        let here = self.candidates.get(&self.tip.digest).map(|entry| &entry.candidate.header);
        let header = here.or(synced)?.clone();
        let cert = self.top.cert.clone().filter(|cert| cert.statement.digest == self.tip.digest)?;
        Some(Seal { header, cert })
    }

    /// **P10** Asks for it to be durable, and keeps it for stragglers (E7).
    fn keep_seal(&mut self, epoch: u64, seal: Seal) {
        let write = Some(self.next_write);
        self.persist(Rows::Seal { seal: Box::new(seal.clone()) });
        self.seals.insert(epoch, Sealed { seal, durable: false, write });
        self.seals = self.seals.split_off(&self.config.epoch().saturating_sub(SEALS_KEPT));
    }

    /// P10: the write of a Seal was answered.
    pub(super) fn p10_on_durable(&mut self, write: super::input::WriteId) {
        let Some(sealed) = self.seals.values_mut().find(|sealed| sealed.write == Some(write)) else { return };
        sealed.durable = true;
        sealed.write = None;
        // What P10 held back may go now.
        self.finals_due.extend(self.slots.keys().copied());
        self.broadcast_status();
    }

    /// The floor is the sealed block, F = 1; what is known of slots belongs to the old epoch and goes (E5, M4).
    fn enter_epoch(&mut self, after: Arc<ValidatorSet>) {
        let before = self.config.set.clone();
        self.config.enter(after);
        self.renumber_peers();
        // Who is gone is gone in the new epoch too (C11).
        let old = std::mem::take(&mut self.missing_since);
        let missing = |key| before.index_of(key).and_then(|index| old.get(usize::from(index)).copied().flatten());
        self.missing_since = self.config.set.members().iter().map(|member| missing(&member.key)).collect();
        let (n, now, epoch) = (self.config.set.len(), self.now.mono_ms, self.config.epoch());
        self.tip.slot = 0;
        let cert = self.seals.get(&(epoch - 1)).map(|sealed| sealed.seal.cert.clone());
        self.top = Top { slot: 0, digest: self.tip.digest, cert, since: now };
        self.forget_slots();
        self.seen.enter_epoch(n, now);
        self.batches.enter(epoch);
        self.accusations.enter_epoch(epoch);
        self.became_final.clear();
        self.frontier = Frontier::at(1, &self.top, now);
        self.inquiry.enter_epoch(epoch, now, self.memory.vouched_anew);
        self.emit(Output::Entered { sets: self.config.sets.clone(), roster: self.roster.keys().to_vec() });
        self.recover_later();
        self.a9_recover_taken_back();
        self.broadcast_status();
        // Before any vote: own ones that peers have sent early may be missing here (A2, A9).
        self.take_ahead();
        self.a2_conclude();
        self.a5_recover();
    }

    fn forget_slots(&mut self) {
        let past: BTreeSet<Hash> = self.past.iter().copied().collect();
        self.candidates.retain(|digest, _| past.contains(digest));
        self.slots.clear();
        self.kept.clear();
        self.by_slot.clear();
        self.open.clear();
        self.awaited.clear();
        self.finals_due.clear();
        self.reproposals.clear();
        self.boundaries.clear();
        self.synced_boundary = None;
        self.instant.clear();
        self.wants.clear();
        // C16: who is in the old epoch still needs the certificate that sealed it, which is that of the floor now.
        self.relays.retain(|(_, statement)| statement.kind == Kind::Final);
        self.standstill = None;
        self.last_voted = 0;
    }

    /// Peers keep their channels and change their numbers.
    fn renumber_peers(&mut self) {
        let before = self.roster.clone();
        self.roster.add(&self.config.sets);
        self.roster.renumber(&self.config.set);
        self.config.me = self.roster.me();
        let old = std::mem::take(&mut self.peers);
        let peer_of = |number: usize| {
            let was = before.local(self.roster.global(number as Index));
            let mut peer = was.and_then(|was| old.get(usize::from(was))).cloned().unwrap_or_default();
            peer.cleared = 0;
            if let Some(status) = &mut peer.status {
                status.final_slot = 0;
            }
            peer
        };
        self.peers = (0..self.roster.len()).map(peer_of).collect();
    }

    /// Rows of this epoch that the ledger held before it began here: votes forbid others of their class, as at a start (P8).
    fn recover_later(&mut self) {
        let epoch = self.config.epoch();
        let mut rows;
        (rows, self.later) = std::mem::take(&mut self.later).split(epoch);
        let seal = self.seals.get(&epoch).map(|sealed| sealed.seal.cert.clone());
        self.last_voted = rows.last_voted();
        if let Some(cert) = seal.into_iter().chain(rows.final_cert.take()).max_by_key(|cert| cert.statement.slot) {
            self.raise_top(cert);
        }
        self.recover_rows(rows);
    }

    /// After a start the Seal of the epoch may be here, and votes of the next one, before its last block is in the ledger (P8).
    pub(super) fn recover_boundary(&mut self) {
        let Some(sealed) = self.seals.get(&self.config.epoch()) else { return };
        let (header, digest) = (sealed.seal.header.clone(), sealed.seal.cert.statement.digest);
        self.insert_sealed(digest, header);
    }

    /// A last block that a Seal names.
    fn insert_sealed(&mut self, digest: Hash, header: Header) {
        self.insert_candidate(digest, Candidate::unsigned(header), Origin { signed: false, certified: true });
    }

    /// The end of an epoch from a peer: the certificate seals it, the header need not be fetched (E5, C18). In an epoch that
    /// was entered without its Seal at hand, that Seal lets votes begin (P10).
    pub(super) fn on_seal(&mut self, from: Index, seal: Seal) {
        let (epoch, digest) = (seal.header.epoch, seal.header.digest());
        let statement = seal.cert.statement;
        let whole = statement.kind == Kind::Final && statement.epoch == epoch && statement.digest == digest;
        if !whole || seal.header.height != self.config.epochs().last(epoch) {
            return self.dropped("seal_malformed");
        }
        if epoch == self.config.epoch() {
            self.on_cert(from, seal.cert);
            if self.top.digest == digest && self.tip.digest != digest {
                self.insert_sealed(digest, seal.header);
            }
        } else if epoch.checked_add(1) == Some(self.config.epoch()) && !self.seals.contains_key(&epoch) {
            let verifies = |signer: Index, message: &[u8], signature: &Signature| {
                let key = self.config.sets.previous.get(signer).map(|member| member.key);
                key.is_some_and(|key| self.config.verifier.verifies(&key, message, signature))
            };
            if seal.cert.verify_by(&self.config.chain, &self.config.sets.previous, verifies).is_err() {
                return self.dropped("cert_signature");
            }
            self.keep_seal(epoch, seal);
        }
    }

    /// **P10** An epoch was entered by blocks of the ledger whose end of the epoch before is not there: a peer has it.
    pub(super) fn p10_ask(&mut self, peer: Index) {
        let Some(before) = self.config.epoch().checked_sub(1) else { return };
        if !self.seals.contains_key(&before) && self.may_repair(peer) {
            self.emit(Output::Send { to: peer, message: Message::SealReq { epoch: before } });
        }
    }

    /// **E7, C18** A peer is in an epoch that is over: its Seal, at most once per 50 ms and peer.
    pub(super) fn e7_help(&mut self, to: Index, epoch: u64) {
        if epoch < self.config.epoch() && self.may_repair(to) {
            self.send_seal(to, epoch);
        }
    }

    /// **E7** A peer asks for the Seal of an epoch.
    pub(super) fn e7_answer(&mut self, to: Index, epoch: u64) {
        let bytes = self.seals.get(&epoch).map(|sealed| borsh::object_length(&sealed.seal).unwrap_or(usize::MAX));
        if bytes.is_some_and(|bytes| self.may_answer(to, bytes)) {
            self.send_seal(to, epoch);
        }
    }

    fn send_seal(&mut self, to: Index, epoch: u64) {
        if let Some(sealed) = self.seals.get(&epoch) {
            let message = Message::Seal(Box::new(sealed.seal.clone()));
            self.emit(Output::Send { to, message });
        }
    }

    /// Something of another epoch: the next one's is kept for a moment, an old one's sender is told of the end (E7).
    pub(super) fn other_epoch(&mut self, from: Index, epoch: u64, message: Message) {
        if epoch < self.config.epoch() {
            self.e7_help(from, epoch);
        } else if epoch - self.config.epoch() == 1 {
            self.keep_ahead(from, message);
        } else {
            self.dropped("epoch_far");
        }
    }
}
