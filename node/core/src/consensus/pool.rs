//! Votes: kept first of its kind, tallied by weight, verified late, contradictions reported (protocol.md C1-C3, X2).

use super::output::{Event, Output};
use super::state::{Core, Slot, Stored};
use crate::evidence::{Evidence, x2_class};
use crate::message::Message;
use crate::params::VOTE_WINDOW;
use crate::validators::Index;
use crate::vote::{Cert, Kind, Statement, Vote};

impl Core {
    /// **C1.** Upon a vote: drop what is malformed, unknown, old or far; verify what is not from its signer's own
    /// channel; keep the first of its kind.
    pub(super) fn c1_observe_vote(&mut self, from: Index, vote: Vote) {
        let Statement { epoch, slot, .. } = vote.statement;
        if epoch != self.config.epoch() {
            return self.other_epoch(from, epoch, Message::Vote(vote));
        }
        if !vote.statement.well_formed() || self.config.set.get(vote.signer).is_none() {
            return self.dropped("vote_malformed");
        }
        // C2: the own vote enters the pool when it is durable, and not otherwise.
        if vote.signer == self.config.me {
            return self.a8_own_vote(&vote, false);
        }
        if from == vote.signer {
            if !self.is_late(slot) {
                self.note_alive(from);
            }
            self.note_cleared(from, &vote.statement);
            self.a2_note_vote(&vote);
        }
        if slot > self.frontier.slot + VOTE_WINDOW {
            return self.dropped("vote_far");
        }
        if slot <= self.top.slot {
            if slot < self.top.slot {
                self.c18_repair_final(from);
            }
            return;
        }
        if self.is_stored(&vote) {
            return;
        }
        let verified = from != vote.signer;
        if verified {
            if !self.verify_vote(&vote) {
                return self.dropped("vote_signature");
            }
            self.note_alive(vote.signer);
        }
        self.take_vote(&vote, verified);
    }

    /// Stores a vote and forms the certificate that it may complete.
    pub(super) fn take_vote(&mut self, vote: &Vote, verified: bool) {
        if self.record_vote(vote, verified) {
            self.c3_certify(vote.statement);
        }
    }

    fn is_stored(&self, vote: &Vote) -> bool {
        let key = (vote.statement.kind, vote.signer);
        let stored = self.slots.get(&vote.statement.slot).and_then(|slot| slot.votes.get(&key));
        stored.is_some_and(|stored| stored.digest == vote.statement.digest && stored.signature == vote.signature)
    }

    /// Keeps the first vote per signer, slot and kind; a later one that contradicts becomes evidence (X2) and is not
    /// tallied. True if the vote was added to the tally.
    pub(super) fn record_vote(&mut self, vote: &Vote, verified: bool) -> bool {
        let Statement { slot, kind, digest, .. } = vote.statement;
        while let Some(rival) = self.slots.get(&slot).and_then(|s| s.rival(vote)) {
            if !self.accuse_or_forget(vote, verified, rival) {
                return false;
            }
        }
        let weight = self.config.set.weight(vote.signer);
        let slot_state = self.slots.entry(slot).or_default();
        let stored = slot_state.votes.entry((kind, vote.signer));
        if let std::collections::btree_map::Entry::Occupied(mut same) = stored {
            // The same statement under another signature: keep a verified one.
            if verified && !same.get().verified {
                same.insert(Stored { digest, signature: vote.signature, verified });
            }
            return false;
        }
        stored.or_insert(Stored { digest, signature: vote.signature, verified });
        *slot_state.tally.entry((kind, digest)).or_default() += weight;
        self.seen.voted(vote.signer, self.now.mono_ms);
        if kind == Kind::Notar {
            self.c14_want_voted(slot, digest, vote.signer);
        }
        true
    }

    /// Settles a contradiction of a vote with a stored one: evidence, if both signatures are valid. True if the stored one
    /// turned out to be forged and is gone, so that the new one can take its place.
    fn accuse_or_forget(&mut self, vote: &Vote, verified: bool, rival: Vote) -> bool {
        let slot = vote.statement.slot;
        let Some(class) = x2_class(&vote.statement, &rival.statement) else { return false };
        if self.slots.get(&slot).is_some_and(|s| s.accused.contains(&(vote.signer, class))) {
            return false;
        }
        if !verified && !self.verify_vote(vote) {
            self.dropped("vote_signature");
            return false;
        }
        if !self.verify_stored(&rival) {
            return true;
        }
        self.slots.entry(slot).or_default().accused.insert((vote.signer, class));
        self.x2_accuse(Evidence::of_votes(vote.clone(), rival, &self.config.chain));
        false
    }

    /// Verifies a stored vote once; a forged one is removed and its sender scored down.
    fn verify_stored(&mut self, vote: &Vote) -> bool {
        let key = (vote.statement.kind, vote.signer);
        let stored = self.slots.get(&vote.statement.slot).and_then(|s| s.votes.get(&key));
        if stored.is_some_and(|stored| stored.verified) {
            return true;
        }
        let valid = self.verify_vote(vote);
        if let Some(slot) = self.slots.get_mut(&vote.statement.slot) {
            if valid {
                slot.votes.entry(key).and_modify(|stored| stored.verified = true);
            } else {
                slot.remove_vote(key, self.config.set.weight(vote.signer));
                self.dropped("vote_signature");
            }
        }
        valid
    }

    /// **C3.** Upon verified votes of weight ≥ q for a statement, form its certificate. The signatures are looked at only
    /// now, when the possible weight reaches q.
    pub(super) fn c3_certify(&mut self, statement: Statement) {
        let quorum = self.config.set.quorum();
        if self.is_held(&statement) || self.tally(&statement) < quorum {
            return;
        }
        for vote in self.votes_for(&statement) {
            self.verify_stored(&vote);
        }
        if self.tally(&statement) < quorum {
            return;
        }
        let votes: Vec<_> = self.votes_for(&statement).iter().map(|vote| (vote.signer, vote.signature)).collect();
        let cert = Cert::collect(statement, &self.config.set, &votes);
        self.c4_hold(cert);
    }

    pub(super) fn tally(&self, statement: &Statement) -> u64 {
        let key = (statement.kind, statement.digest);
        self.slots.get(&statement.slot).and_then(|slot| slot.tally.get(&key)).copied().unwrap_or(0)
    }

    fn votes_for(&self, statement: &Statement) -> Vec<Vote> {
        let Some(slot) = self.slots.get(&statement.slot) else { return Vec::new() };
        let of_kind = slot.votes.range((statement.kind, 0)..=(statement.kind, Index::MAX));
        let same = of_kind.filter(|(_, stored)| stored.digest == statement.digest);
        same.map(|((_, signer), stored)| Vote { statement: *statement, signer: *signer, signature: stored.signature })
            .collect()
    }

    /// True if this very vote was verified before, so that no signature is verified twice.
    pub(super) fn is_verified(&self, vote: &Vote) -> bool {
        let key = (vote.statement.kind, vote.signer);
        let stored = self.slots.get(&vote.statement.slot).and_then(|slot| slot.votes.get(&key));
        stored.is_some_and(|s| s.verified && s.digest == vote.statement.digest && s.signature == vote.signature)
    }

    pub(super) fn verify_vote(&self, vote: &Vote) -> bool {
        let message = vote.statement.sign_bytes(&self.config.chain);
        self.is_verified(vote) || self.is_signed_by(vote.signer, &message, &vote.signature)
    }

    /// Whether a member of the set, or another peer, signed.
    pub(super) fn is_signed_by(&self, signer: Index, message: &[u8], signature: &crate::key::Signature) -> bool {
        self.roster.key(signer).is_some_and(|key| self.config.verifier.verifies(key, message, signature))
    }

    /// A sign of life of a validator: it is not missing (C11).
    pub(super) fn note_alive(&mut self, signer: Index) {
        if let Some(missing) = self.missing_since.get_mut(usize::from(signer)) {
            *missing = None;
        }
    }

    /// True for a slot that was final T0 ago: whose vote comes so late is, as leader, heard too late to be voted for (D25).
    fn is_late(&self, slot: u64) -> bool {
        let (now, t0) = (self.now.mono_ms, self.config.t0());
        self.became_final.iter().any(|(final_slot, at)| slot <= *final_slot && now - at > t0)
    }

    /// A vote shows which slots its signer sees as cleared (C16).
    fn note_cleared(&mut self, signer: Index, statement: &Statement) {
        let cleared = match statement.kind {
            Kind::Notar | Kind::Skip => statement.slot - 1,
            Kind::Final => statement.slot,
        };
        if let Some(peer) = self.peers.get_mut(usize::from(signer)) {
            peer.cleared = peer.cleared.max(cleared);
        }
    }

    pub(super) fn dropped(&mut self, reason: &'static str) {
        self.emit(Output::Event(Event::Dropped { reason }));
    }
}

impl Slot {
    /// A stored vote of the same signer that contradicts this one (X2 a-d).
    fn rival(&self, vote: &Vote) -> Option<Vote> {
        let Statement { kind, digest, .. } = vote.statement;
        let other = |kind: Kind| {
            let stored = self.votes.get(&(kind, vote.signer))?;
            let statement = Statement { kind, digest: stored.digest, ..vote.statement };
            Some(Vote { statement, signature: stored.signature, ..vote.clone() })
        };
        let differing = |kind: Kind| other(kind).filter(|rival| rival.statement.digest != digest);
        match kind {
            Kind::Notar => differing(Kind::Notar).or_else(|| differing(Kind::Final)),
            Kind::Skip => other(Kind::Final),
            Kind::Final => differing(Kind::Final).or_else(|| other(Kind::Skip)).or_else(|| differing(Kind::Notar)),
        }
    }

    fn remove_vote(&mut self, key: (Kind, Index), weight: u64) {
        if let Some(stored) = self.votes.remove(&key)
            && let Some(tally) = self.tally.get_mut(&(key.0, stored.digest))
        {
            *tally = tally.saturating_sub(weight);
        }
    }
}
