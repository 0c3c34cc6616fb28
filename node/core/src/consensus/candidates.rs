//! Candidates: taken in, at most two a slot uncertified, linked to what they wait for (protocol.md C13).

use super::output::{Event, Output};
use super::state::{Core, Entry, Execution};
use super::validity::{check_alone, check_v1};
use crate::batch::BatchRef;
use crate::block::{Candidate, Header, Proposal};
use crate::hash::Hash;
use crate::key::Signature;
use crate::message::Message;
use crate::params::VOTE_WINDOW;
use crate::validators::Index;
use crate::vote::Vote;
use std::collections::BTreeSet;

/// Digests of a slot that are kept without a certificate (C13): an equivocating leader has two, a third tells nothing.
pub(super) const UNCERTIFIED_MAX: usize = 2;
/// Final blocks whose candidates are kept for peers (C14).
const PAST_MAX: usize = 256;

/// What is known of a candidate as it comes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// Its leader's signature is valid.
    pub(super) signed: bool,
    /// A certificate names it or a descendant.
    pub(super) certified: bool,
}

impl Core {
    /// A leader's proposal: its certificates first, they may be what makes it acceptable.
    pub(super) fn on_proposal(&mut self, from: Index, mut proposal: Proposal) {
        for cert in std::mem::take(&mut proposal.proof) {
            self.on_cert(from, cert);
        }
        let epoch = proposal.candidate.header.epoch;
        if epoch != self.config.epoch() {
            return self.other_epoch(from, epoch, Message::Proposal(Box::new(proposal)));
        }
        self.c13_take_candidate(from, proposal.candidate);
    }

    /// A candidate that was asked for. One that a certificate names needs no signature: the digest says that it is the
    /// one that was asked for.
    pub(super) fn on_candidate(&mut self, from: Index, candidate: Candidate) {
        let digest = candidate.header.digest();
        if self.is_wanted_certified(&digest) && self.is_above_tip(&candidate.header) {
            let signed = candidate.header.slot > self.top.slot && self.is_signed(&candidate, digest);
            if signed {
                self.take_leaders_vote(&candidate.vote(digest));
            }
            // Nobody vouches for another one: it must get into no ledger, nor come out of it as verified (V1).
            let candidate = if signed { candidate } else { Candidate::unsigned(candidate.header) };
            return self.insert_candidate(digest, candidate, Origin { signed, certified: true });
        }
        self.c13_take_candidate(from, candidate);
    }

    /// **C13.** Upon a candidate: check leader and signature (V1), observe the embedded vote, keep two digests a slot.
    fn c13_take_candidate(&mut self, from: Index, candidate: Candidate) {
        let slot = candidate.header.slot;
        if candidate.header.epoch != self.config.epoch() {
            return self.dropped("candidate_epoch");
        }
        if slot <= self.top.slot {
            if slot < self.top.slot && from == candidate.header.proposer {
                self.c18_repair_final(from);
            }
            return;
        }
        if slot > self.frontier.slot + VOTE_WINDOW {
            return self.dropped("candidate_far");
        }
        let digest = candidate.header.digest();
        if self.candidates.get(&digest).is_some_and(|entry| entry.signed) {
            return;
        }
        if let Err(invalid) = check_alone(&candidate.header, &self.config) {
            return self.dropped(invalid.name());
        }
        if !self.is_signed(&candidate, digest) {
            return self.dropped("candidate_signature");
        }
        let vote = candidate.vote(digest);
        self.note_alive(vote.signer);
        self.take_leaders_vote(&vote);
        // Its own vote may have completed a Final certificate.
        if slot <= self.top.slot {
            return;
        }
        if self.is_third(slot, digest) {
            return self.dropped("candidate_third");
        }
        self.note_clock(from, &candidate.header);
        self.insert_candidate(digest, candidate, Origin { signed: true, certified: false });
    }

    /// The vote in a candidate (F6), verified. An own one is in a row, or another process's (A8).
    pub(super) fn take_leaders_vote(&mut self, vote: &Vote) {
        if vote.signer == self.config.me {
            self.a8_own_vote(vote, true);
        } else {
            self.take_vote(vote, true);
        }
    }

    fn is_signed(&self, candidate: &Candidate, digest: Hash) -> bool {
        check_v1(&candidate.header, &self.config).is_ok() && self.verify_vote(&candidate.vote(digest))
    }

    fn is_third(&self, slot: u64, digest: Hash) -> bool {
        let Some(known) = self.by_slot.get(&slot) else { return false };
        let uncertified = |d: &&Hash| self.candidates.get(*d).is_some_and(|entry| !entry.certified);
        !known.contains(&digest)
            && !self.is_wanted_certified(&digest)
            && known.iter().filter(uncertified).count() >= UNCERTIFIED_MAX
    }

    /// Adds a candidate above the tip, or what is new about a known one.
    pub(super) fn insert_candidate(&mut self, digest: Hash, candidate: Candidate, origin: Origin) {
        let slot = candidate.header.slot;
        let signature = candidate.signature;
        let certified = origin.certified || self.slot_certifies(slot, &digest) || self.is_wanted_certified(&digest);
        self.unwant_candidate(&digest);
        if self.candidates.contains_key(&digest) {
            return self.complete_candidate(digest, signature, Origin { certified, ..origin });
        }
        let missing = self.missing_batches(&candidate.header);
        for batch in &missing {
            self.awaited.entry(*batch).or_default().insert(digest);
        }
        let header = &candidate.header;
        self.out.push(Output::Event(Event::Proposed { slot, height: header.height, digest }));
        if !missing.is_empty() {
            self.c14_want_batches(digest, header.slot, header.proposer, certified);
        }
        let execution = Execution::No;
        let entry = Entry { candidate, signed: origin.signed, certified: false, verdict: None, execution, missing };
        self.candidates.insert(digest, entry);
        self.by_slot.entry(slot).or_default().push(digest);
        self.open.insert((slot, digest));
        self.frontier.includable = None;
        if certified {
            self.mark_certified(digest, slot, &[]);
        }
    }

    /// A known candidate came again, now with its signature or a certificate.
    fn complete_candidate(&mut self, digest: Hash, signature: Signature, origin: Origin) {
        if let Some(entry) = self.candidates.get_mut(&digest)
            && origin.signed
            && !entry.signed
        {
            entry.signed = true;
            entry.candidate.signature = signature;
        }
        if origin.certified {
            let slot = self.facts(&digest).map_or(0, |facts| facts.slot);
            self.mark_certified(digest, slot, &[]);
        }
    }

    fn slot_certifies(&self, slot: u64, digest: &Hash) -> bool {
        let held = self.slots.get(&slot).and_then(|s| s.notar.as_ref());
        *digest == self.top.digest || held.is_some_and(|held| held.cert.statement.digest == *digest)
    }

    /// Of this epoch and a slot above the tip's: what is not is final, or lost.
    pub(super) fn is_above_tip(&self, header: &Header) -> bool {
        header.epoch == self.config.epoch() && header.slot > self.tip.slot
    }

    fn missing_batches(&self, header: &Header) -> BTreeSet<Hash> {
        let here = |digest: &Hash| self.batches.get(digest).is_some() || self.batches.is_included(digest);
        header.batches.iter().map(|batch| batch.digest).filter(|digest| !here(digest)).collect()
    }

    /// H3 of some candidates may have ended: a batch is durable.
    pub(super) fn on_batch(&mut self, reference: BatchRef, seq: u64, expiry_height: u64) {
        let digest = reference.digest;
        if expiry_height > self.tip.height {
            self.add_batch(reference, seq, expiry_height);
        }
        for candidate in self.awaited.remove(&digest).unwrap_or_default() {
            if let Some(entry) = self.candidates.get_mut(&candidate) {
                entry.missing.remove(&digest);
            }
        }
    }

    /// Puts a durable batch into the book; where its author used the number before, that is evidence (X2 e).
    pub(super) fn add_batch(&mut self, reference: BatchRef, seq: u64, expiry_height: u64) {
        let digest = reference.digest;
        let rival = self.batches.rival(&reference, seq);
        if self.batches.add(reference, seq, expiry_height)
            && let Some(first) = rival
        {
            self.x2_two_batches(first, digest);
        }
    }

    /// The final block that a ledger already has: kept only to answer peers (C14).
    pub(super) fn remember_past(&mut self, header: Header) {
        let digest = header.digest();
        let entry = Entry {
            candidate: Candidate::unsigned(header),
            signed: false,
            certified: true,
            verdict: None,
            execution: Execution::Asked,
            missing: BTreeSet::new(),
        };
        self.candidates.insert(digest, entry);
        self.keep_past(digest);
    }

    /// Moves a candidate among the final ones; the oldest of them go (C20).
    pub(super) fn keep_past(&mut self, digest: Hash) {
        self.past.push_back(digest);
        while self.past.len() > PAST_MAX {
            if let Some(oldest) = self.past.pop_front() {
                self.candidates.remove(&oldest);
            }
        }
    }

    /// Forgets candidates at or below the tip's slot that did not become final (C20).
    pub(super) fn drop_candidates_below_tip(&mut self) {
        let above = self.by_slot.split_off(&(self.tip.slot + 1));
        let below = std::mem::replace(&mut self.by_slot, above);
        for digest in below.into_values().flatten() {
            let Some(entry) = self.candidates.get(&digest) else { continue };
            for batch in &entry.missing {
                if let Some(waiting) = self.awaited.get_mut(batch) {
                    waiting.remove(&digest);
                    if waiting.is_empty() {
                        self.awaited.remove(batch);
                    }
                }
            }
            self.candidates.remove(&digest);
        }
        self.open = self.open.split_off(&(self.tip.slot + 1, Hash::ZERO));
    }
}
