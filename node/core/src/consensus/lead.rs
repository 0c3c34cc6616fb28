//! Leading: when and on what to build, the header itself, and its way out (protocol.md C7, C7b, F6).

use super::candidates::Origin;
use super::certs::within_inline;
use super::input::Now;
use super::output::{Output, Rows};
use super::state::{Core, Facts};
use super::validity::{Invalid, check_alone};
use crate::block::{Candidate, Header, Proposal};
use crate::hash::Hash;
use crate::message::Message;
use crate::vote::Cert;

impl Core {
    /// **C7.** Upon F = s active with the own turn, no Notar row, Busy, the pause since the parent over and the base
    /// executed: build, check, make durable. The proposal leaves in `p5_on_durable`.
    pub(super) fn c7_lead(&mut self) -> bool {
        let slot = self.frontier.slot;
        if !self.is_mine(slot) || !self.g5_position_allowed(slot) {
            return false;
        }
        if !self.g1_no_own_notar(slot) {
            return self.c7_offer_again(slot);
        }
        if !self.c12_busy() {
            return false;
        }
        let Some(base) = self.c7_base() else { return false };
        if self.is_boundary(&base.digest) {
            return self.e4_lead(slot, base.digest);
        }
        if self.v1_foreign(&base).is_some() || !self.c7_pause_is_over(&base) {
            return false;
        }
        // No new block has this digest.
        if !self.a9_no_other_own_final(slot, &Hash::ZERO) {
            return false;
        }
        let Some(header) = self.build(slot, &base) else { return false };
        if let Err(invalid) = self.check_own(&header, &base) {
            // A defect: nobody would vote for it. The slot passes by its timer.
            self.dropped(invalid.name());
            return false;
        }
        self.propose(header);
        true
    }

    /// C7 after a restart: the candidate of the Notar row again, never a new one.
    fn c7_offer_again(&mut self, slot: u64) -> bool {
        let Some(state) = self.slots.get_mut(&slot) else { return false };
        let Some(own) = state.own_notar.filter(|own| own.signature.is_some() && !state.proposed) else {
            return false;
        };
        state.proposed = true;
        if let Some(message) = own.signature.and_then(|signature| self.proposed(own.statement, signature)) {
            self.emit(Output::Broadcast(message));
        }
        true
    }

    /// **C7, C7b.** The largest eligible base that is executed. If it is another than the largest, the largest gets T0/4 to
    /// be resolved, and its slot must be skipped.
    fn c7_base(&mut self) -> Option<Facts> {
        let patient_until = self.frontier.activated + self.config.t0() / 4;
        let mut slot = self.frontier.slot - 1;
        while slot > self.top.slot {
            let state = self.slots.get(&slot)?;
            if let Some(held) = &state.notar {
                let facts = self.facts(&held.cert.statement.digest).filter(|facts| facts.roots.is_some());
                if facts.is_some() {
                    return facts;
                }
                state.skip.as_ref()?;
                if self.now.mono_ms < patient_until {
                    self.wake_at(patient_until);
                    return None;
                }
            }
            slot -= 1;
        }
        self.facts(&self.top.digest).filter(|facts| facts.roots.is_some())
    }

    /// C7: `min_slot` after the parent's time, but never longer than `min_slot` by the own clock, for the parent's leader
    /// may have a fast one; and a while longer with a state writer that lags, or empty blocks would keep it lagging.
    fn c7_pause_is_over(&mut self, base: &Facts) -> bool {
        let Now { mono_ms, wall_ms } = self.now;
        let min_slot = self.config.parameters.min_slot_ms;
        let by_parent = mono_ms + (base.time_ms + min_slot).saturating_sub(wall_ms);
        let mut until = by_parent.min(self.frontier.activated + min_slot);
        if self.lagging {
            until = until.max(self.frontier.activated + self.config.t0() / 4);
        }
        if mono_ms < until {
            self.wake_at(until);
        }
        mono_ms >= until
    }

    fn build(&self, slot: u64, base: &Facts) -> Option<Header> {
        let (roots, height) = (base.roots?, base.height + 1);
        let batches = if self.lagging {
            Vec::new()
        } else {
            let first = (slot % self.config.set.len() as u64) as u16;
            self.batches.pick(height, &self.unfinal_batches(base.digest), first)
        };
        Some(Header {
            version: roots.next_version,
            epoch: self.config.epoch(),
            slot,
            height,
            parent_slot: base.slot,
            parent: base.digest,
            parent_state_root: roots.state,
            parent_results_root: roots.results,
            time_ms: self.now.wall_ms.max(base.time_ms + 1),
            proposer: self.config.me,
            set_hash: self.config.set_hash,
            next_set_hash: self.config.next_set_hash,
            batches,
            evidence: self.x5_pick(base.digest),
        })
    }

    /// C7: the own header must pass what others check.
    fn check_own(&self, header: &Header, base: &Facts) -> Result<(), Invalid> {
        check_alone(header, &self.config)?;
        self.on_parent(header, base)
    }

    fn propose(&mut self, header: Header) {
        let digest = header.digest();
        let statement = header.notar(digest);
        let candidate = Candidate::unsigned(header);
        self.persist(Rows::Notar { statement, candidate: Box::new(candidate.clone()) });
        self.insert_candidate(digest, candidate, Origin { signed: false, certified: false });
    }

    /// A candidate as it is proposed: with the certificates of its base and gap (F6).
    pub(super) fn proposal(&self, digest: &crate::hash::Hash) -> Option<Message> {
        let entry = self.candidates.get(digest).filter(|entry| entry.signed)?;
        let candidate = entry.candidate.clone();
        let proof = self.f6_proof(&candidate.header);
        Some(Message::Proposal(Box::new(Proposal { candidate, proof })))
    }

    /// **F6.** The base's Notar or Final certificate and the Skip certificates of the gap, at most 16 and 64 KiB; what does
    /// not fit is fetched by C15.
    fn f6_proof(&self, header: &Header) -> Vec<Cert> {
        let base = if header.parent_slot == self.top.slot {
            self.top.cert.as_ref()
        } else {
            self.slots.get(&header.parent_slot).and_then(|s| s.notar.as_ref()).map(|held| &held.cert)
        };
        let gap = self.slots.range(header.parent_slot + 1..header.slot.max(header.parent_slot + 1));
        let skips = gap.filter_map(|(_, s)| s.skip.as_ref()).map(|held| &held.cert);
        within_inline(base.into_iter().chain(skips))
    }
}
