//! Fetching what certificates and votes name: candidates, their ancestors and batches, and proofs (protocol.md C14, C15).

use super::certs::{cert_bytes, within_reply};
use super::output::Output;
use super::state::{Answers, Core, Execution};
use crate::hash::Hash;
use crate::message::{MAX_REQUEST, Message};
use crate::params::{ANSWER_BYTES, FETCH_TIMEOUT_MS, MAX_FETCHES};
use crate::validators::Index;
use std::collections::BTreeSet;

/// Requests for one thing after which its ancestors count as unfetchable: block sync must help.
const TRIES_BEFORE_BEHIND: u32 = 6;
/// Heights beyond the tip up to which ancestors are fetched one by one; beyond, block sync does it.
pub(super) const BEHIND_HEIGHTS: u64 = 64;
/// Least time between two calls for block sync by an unfetchable ancestor.
const BEHIND_EVERY_MS: u64 = 1_000;

/// Something to be fetched from peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    /// A candidate.
    Candidate(Hash),
    /// The missing batches of a candidate.
    Batches(Hash),
    /// The certificates that the base of a candidate in a slot lacks.
    Proof(u64, Hash),
}

/// How far the fetching of one thing is.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    /// Slot of the candidate, or of its child: of no use once the tip is there.
    pub(super) slot: u64,
    /// When to ask next.
    due: u64,
    /// Pause after the next request.
    timeout: u64,
    pub(super) tries: u32,
    /// Who was asked last.
    pub(super) asked: Option<Index>,
    /// Who is asked first: it signed that it has it.
    first: Option<Index>,
    /// A certificate names the candidate or a descendant.
    pub(super) certified: bool,
}

impl Core {
    /// A verified or directly received Notar vote names a candidate: fetch it if the proposal does not come (C14).
    pub(super) fn c14_want_voted(&mut self, slot: u64, digest: Hash, signer: Index) {
        if !self.candidates.contains_key(&digest) && signer != self.config.me {
            let due = self.now.mono_ms + self.patience();
            self.want(Want::Candidate(digest), slot, due, Some(signer), false);
        }
    }

    /// **C14.** A certificate names a candidate: it and all its ancestors above the tip are wanted, and to be executed.
    pub(super) fn mark_certified(&mut self, digest: Hash, slot: u64, signers: &[Index]) {
        let (mut at, mut at_slot) = (digest, slot);
        loop {
            if at == self.tip.digest || at_slot <= self.tip.slot {
                return;
            }
            let Some(entry) = self.candidates.get_mut(&at) else {
                let others: Vec<Index> = signers.iter().copied().filter(|i| *i != self.config.me).collect();
                let first = self.random.choose(&others);
                return self.want(Want::Candidate(at), at_slot, self.now.mono_ms, first, true);
            };
            if entry.certified {
                return;
            }
            entry.certified = true;
            let (header, waits) = (&entry.candidate.header, !entry.missing.is_empty());
            let (slot, proposer, height) = (header.slot, header.proposer, header.height);
            let parent = (header.parent, header.parent_slot);
            if entry.execution == Execution::No {
                self.open.insert((slot, at));
            }
            if waits {
                self.c14_want_batches(at, slot, proposer, true);
            }
            if height > self.tip.height + BEHIND_HEIGHTS {
                return;
            }
            (at, at_slot) = parent;
        }
    }

    /// Continues towards the tip where fetching had stopped, after a start or a jump of the tip.
    pub(super) fn want_ancestors_of_top(&mut self) {
        let (mut at, mut slot) = (self.top.digest, self.top.slot);
        while at != self.tip.digest && slot > self.tip.slot {
            match self.candidates.get(&at) {
                Some(entry) => (at, slot) = (entry.candidate.header.parent, entry.candidate.header.parent_slot),
                None => return self.want(Want::Candidate(at), slot, self.now.mono_ms, None, true),
            }
        }
    }

    /// Batches of a candidate are missing: those of a fresh proposal are probably under way.
    pub(super) fn c14_want_batches(&mut self, digest: Hash, slot: u64, proposer: Index, certified: bool) {
        let due = self.now.mono_ms + if certified { 0 } else { self.patience() };
        let first = Some(proposer).filter(|proposer| *proposer != self.config.me);
        self.want(Want::Batches(digest), slot, due, first, certified);
    }

    /// **C15.** A candidate is held back by H5: ask its leader, then others, for the certificates.
    pub(super) fn c15_want_proof(&mut self, digest: Hash, slot: u64) {
        let due = self.now.mono_ms + self.patience();
        let leader = Some(self.leader(slot)).filter(|leader| *leader != self.config.me);
        self.want(Want::Proof(slot, digest), slot, due, leader, false);
    }

    /// What is sent unasked gets this long to come.
    fn patience(&self) -> u64 {
        self.config.t0() / 4
    }

    fn want(&mut self, want: Want, slot: u64, due: u64, first: Option<Index>, certified: bool) {
        let timeout = FETCH_TIMEOUT_MS.0;
        let fresh = Fetch { slot, due, timeout, tries: 0, asked: None, first, certified };
        let fetch = self.wants.entry(want).or_insert(fresh);
        if certified && !fetch.certified {
            fetch.certified = true;
            fetch.first = first.or(fetch.first);
            if fetch.tries == 0 {
                fetch.due = fetch.due.min(due);
            }
        }
    }

    pub(super) fn is_wanted_certified(&self, digest: &Hash) -> bool {
        self.wants.get(&Want::Candidate(*digest)).is_some_and(|fetch| fetch.certified)
    }

    pub(super) fn unwant_candidate(&mut self, digest: &Hash) {
        self.wants.remove(&Want::Candidate(*digest));
    }

    /// Forgets wants that finality has overtaken.
    pub(super) fn drop_wants_below_tip(&mut self) {
        let (tip, top) = (self.tip.slot, self.top.slot);
        self.wants.retain(|want, fetch| match want {
            Want::Candidate(_) => fetch.slot > tip && (fetch.certified || fetch.slot > top),
            Want::Batches(_) => fetch.slot > tip,
            Want::Proof(..) => fetch.slot > top,
        });
    }

    /// **C14, C15.** Asks for what is due, at most 16 requests in flight: a signer first, then random peers, with growing
    /// time-outs. What has waited longest is asked for first, so that nothing starves behind what nobody has.
    pub(super) fn c14_fetch(&mut self) {
        if self.wants.is_empty() {
            return;
        }
        let now = self.now.mono_ms;
        let mut due: Vec<(u64, Want)> =
            self.wants.iter().filter(|(_, f)| f.due <= now).map(|(want, f)| (f.due, *want)).collect();
        let in_flight = self.wants.values().filter(|f| f.due > now && f.tries > 0).count();
        due.sort_unstable();
        for (_, want) in due.into_iter().take(MAX_FETCHES.saturating_sub(in_flight)) {
            self.ask(want);
        }
        let next = self.wants.values().map(|fetch| fetch.due).filter(|due| *due > now).min();
        // Without one, all slots are taken by requests whose time-outs come first.
        if let Some(next) = next {
            self.wake_at(next);
        }
    }

    fn ask(&mut self, want: Want) {
        let Some(message) = self.request(want) else {
            self.wants.remove(&want);
            return;
        };
        let now = self.now.mono_ms;
        let Some(fetch) = self.wants.get_mut(&want) else { return };
        let first = fetch.first.take();
        let stuck = fetch.certified && fetch.tries >= TRIES_BEFORE_BEHIND;
        fetch.tries += 1;
        fetch.due = now + fetch.timeout;
        fetch.timeout = (fetch.timeout * 3 / 2).min(FETCH_TIMEOUT_MS.1);
        let first = first.filter(|peer| self.is_connected(*peer));
        if let Some(to) = first.or_else(|| self.random_peer()) {
            if let Some(fetch) = self.wants.get_mut(&want) {
                fetch.asked = Some(to);
            }
            self.emit(Output::Send { to, message });
        }
        if stuck {
            self.call_block_sync();
        }
    }

    /// The message that asks for it; `None` where it is not wanted any more.
    fn request(&self, want: Want) -> Option<Message> {
        match want {
            Want::Candidate(digest) => {
                (!self.candidates.contains_key(&digest)).then(|| Message::CandReq { digests: vec![digest] })
            }
            Want::Batches(digest) => {
                let missing = &self.candidates.get(&digest)?.missing;
                let digests: Vec<Hash> = missing.iter().copied().take(MAX_REQUEST).collect();
                (!digests.is_empty()).then_some(Message::BatchReq { digests })
            }
            Want::Proof(slot, digest) => {
                let slots = self.missing_proof(slot, &digest)?;
                (!slots.is_empty()).then_some(Message::CertReq { slots })
            }
        }
    }

    /// Slots whose certificates a candidate above s* lacks.
    pub(super) fn missing_proof(&self, slot: u64, digest: &Hash) -> Option<Vec<u64>> {
        let header = &self.candidates.get(digest)?.candidate.header;
        if slot <= self.top.slot {
            return None;
        }
        if slot != header.slot {
            let held = self.e4_base(slot, digest).is_some();
            return Some(if held { Vec::new() } else { self.e4_missing_proof(slot, digest) });
        }
        let base = Some(header.parent_slot).filter(|_| !self.g2_base_held((header.parent_slot, header.parent)));
        let from = header.parent_slot.max(self.top.slot) + 1;
        let gap = (from..header.slot).filter(|slot| self.slots.get(slot).is_none_or(|s| s.skip.is_none()));
        Some(base.into_iter().chain(gap).take(MAX_REQUEST).collect())
    }

    /// An ancestor of a certified block cannot be had: a peer that is ahead has it as a final block (S1).
    fn call_block_sync(&mut self) {
        if self.now.mono_ms < self.behind_due {
            return;
        }
        let height = |peer: &Index| {
            let status = self.peers.get(usize::from(*peer)).and_then(|p| p.status.as_ref());
            status.map_or(0, |status| status.height)
        };
        let ahead: Vec<Index> = self.connected().filter(|peer| height(peer) > self.tip.height).collect();
        if let Some(best) = ahead.iter().copied().max_by_key(height) {
            let height = height(&best);
            self.behind_due = self.now.mono_ms + BEHIND_EVERY_MS;
            self.emit(Output::Behind { peer: best, height });
        }
    }

    /// **C14.** Answers for candidates that are signed or certified: among them all that were voted for.
    pub(super) fn c14_answer_candidates(&mut self, from: Index, digests: &[Hash]) {
        for digest in digests.iter().take(MAX_REQUEST) {
            let entry = self.candidates.get(digest).filter(|entry| entry.signed || entry.certified);
            let Some(candidate) = entry.map(|entry| Box::new(entry.candidate.clone())) else { continue };
            if self.may_answer(from, borsh::object_length(&candidate).unwrap_or(usize::MAX)) {
                self.emit(Output::Send { to: from, message: Message::Cand(candidate) });
            }
        }
    }

    /// At most 1 MiB of answers within a second and peer, whatever it asks for: what does not fit is dropped and asked for
    /// again.
    pub(super) fn may_answer(&mut self, to: Index, bytes: usize) -> bool {
        let now = self.now.mono_ms;
        let Some(peer) = self.peers.get_mut(usize::from(to)) else { return false };
        if now >= peer.answers.since + 1_000 {
            peer.answers = Answers { since: now, bytes: 0 };
        }
        let fits = peer.answers.bytes.saturating_add(bytes) <= ANSWER_BYTES;
        if fits {
            peer.answers.bytes += bytes;
        } else {
            self.dropped("answer_rate");
        }
        fits
    }

    /// **C15.** Answers with the certificates held for the slots asked for; for final ones with the Final certificate of s*,
    /// which clears them all.
    pub(super) fn c15_answer_certs(&mut self, from: Index, slots: &[u64]) {
        let status = self.peers.get(usize::from(from)).and_then(|peer| peer.status.as_ref());
        if let Some(epoch) = status.map(|status| status.epoch).filter(|epoch| *epoch < self.config.epoch()) {
            return self.e7_help(from, epoch);
        }
        let asked: BTreeSet<u64> = slots.iter().copied().take(MAX_REQUEST).collect();
        let top = self.top.slot;
        let highest = self.top.cert.as_ref().filter(|_| asked.first().is_some_and(|slot| *slot <= top));
        let kept = asked.range(..=top).filter_map(|slot| self.kept.get(slot));
        let above = asked.range(top + 1..).filter_map(|slot| self.slots.get(slot));
        let above = above.flat_map(|s| [&s.notar, &s.skip].into_iter().flatten()).map(|held| &held.cert);
        let certs = within_reply(highest.into_iter().chain(kept).chain(above));
        if self.may_answer(from, certs.iter().map(cert_bytes).sum()) {
            self.send_certs(from, certs);
        }
    }
}
