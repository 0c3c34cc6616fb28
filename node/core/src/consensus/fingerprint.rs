//! What decides the votes to come, as a hash: two cores of one validator with equal fingerprints vote alike.
//!
//! For exhaustive exploration (`tests/explore`), which prunes states it has seen. Taken apart without `..`, so that a new
//! field must be judged before it compiles.
//!
//! Left out, evidence, which no explored block has (`Config::accuses`), and, each because it can move a vote in time but
//! neither cause nor forbid one: moments of the clock (only whether
//! the timer is set and due is kept), who was missing or skipped at once, and everything that only moves data. Votes of a
//! kind whose certificate is held are left out too: they can do nothing any more but accuse.

use super::resolve::Want;
use super::state::{Core, Entry, EpochRows, Execution, Frontier, Held, Own, Slot};
use crate::codec;
use crate::hash::{self, Hash};
use crate::vote::{Cert, Kind};
use borsh::BorshSerialize;

impl Core {
    /// The hash; equal for states that differ only in what the module's documentation lists.
    pub fn fingerprint(&self) -> Hash {
        let Core {
            config: _,
            now: _,
            random: _,
            out: _,
            wake: _,
            timer: _,
            top,
            tip,
            kept: _,
            slots,
            candidates,
            by_slot: _,
            open,
            past: _,
            awaited: _,
            finals_due,
            batches,
            accusations: _,
            reproposals,
            boundaries,
            synced_boundary,
            seals,
            later,
            ahead,
            roster: _,
            writes,
            next_write: _,
            stopped,
            halted,
            ready,
            lagging,
            vote_floor,
            last_voted: _,
            memory,
            generation: _,
            voting_state,
            inquiry: _,
            frontier,
            instant: _,
            missing_since: _,
            became_final: _,
            peers: _,
            others_marked: _,
            wants,
            relays: _,
            standstill: _,
            status_due: _,
            behind_due: _,
            seen: _,
        } = self;
        let mut bytes = Vec::with_capacity(1_024);
        put(&mut bytes, &(self.config.epoch(), reproposals.keys().collect::<Vec<_>>()));
        put(&mut bytes, &seals.iter().map(|(epoch, sealed)| (*epoch, sealed.durable)).collect::<Vec<_>>());
        put(&mut bytes, &(self.config.set_hash, self.config.next_set_hash, synced_boundary));
        put(&mut bytes, &boundaries.iter().map(|(digest, set)| (*digest, set.hash())).collect::<Vec<_>>());
        put_later(&mut bytes, later);
        // Few at any time: an epoch begins here soon after it has begun elsewhere.
        put(&mut bytes, &format!("{ahead:?}"));
        put(&mut bytes, &(top.slot, top.digest, tip.slot, tip.digest, tip.roots.is_some()));
        put(&mut bytes, &(*stopped, halted.is_some(), *ready, *lagging, *vote_floor));
        put(&mut bytes, &(*voting_state as u8, &memory.floors));
        slots.iter().for_each(|(number, slot)| put_slot(&mut bytes, *number, slot));
        for (digest, entry) in candidates {
            put(&mut bytes, &(digest, open.contains(&(entry.candidate.header.slot, *digest))));
            put_entry(&mut bytes, entry);
        }
        put(&mut bytes, &(finals_due, batches.digests(), writes.values().collect::<Vec<_>>()));
        self.put_frontier(&mut bytes, frontier);
        let wanted = wants.iter().filter(|(_, fetch)| fetch.certified).map(|(want, _)| match want {
            Want::Candidate(digest) => (0u8, *digest),
            Want::Batches(digest) => (1, *digest),
            Want::Proof(_, digest) => (2, *digest),
        });
        put(&mut bytes, &wanted.collect::<Vec<_>>());
        hash::plain(&bytes)
    }

    fn put_frontier(&self, bytes: &mut Vec<u8>, frontier: &Frontier) {
        let Frontier { slot, activated: _, armed, deadline, base, base_since: _, announced: _, includable: _ } =
            frontier;
        let due = armed.is_some() && *deadline <= self.now.mono_ms;
        put(bytes, &(*slot, armed.is_some(), due, *base));
    }
}

fn put(bytes: &mut Vec<u8>, value: &impl BorshSerialize) {
    bytes.extend(codec::encode(value));
}

fn put_later(bytes: &mut Vec<u8>, EpochRows { votes, certs, candidates, final_cert }: &EpochRows) {
    put(bytes, &votes.iter().map(|vote| vote.statement).collect::<Vec<_>>());
    put(bytes, &certs.iter().chain(final_cert).map(|cert| cert.statement).collect::<Vec<_>>());
    put(bytes, &candidates.iter().map(|candidate| candidate.header.digest()).collect::<Vec<_>>());
}

fn put_slot(bytes: &mut Vec<u8>, number: u64, slot: &Slot) {
    let Slot { votes, tally: _, notar, skip, own_notar, own_outcome, proposed: _, accused } = slot;
    let own = |own: &Option<Own>| own.map(|own| (own.statement, own.signature.is_some()));
    let digest = |held: &Option<Held>| held.as_ref().map(|Held { cert: Cert { statement, .. }, .. }| statement.digest);
    put(bytes, &(number, digest(notar), digest(skip), own(own_notar), own(own_outcome), accused));
    let settled = |kind: Kind| match kind {
        Kind::Notar => notar.is_some(),
        Kind::Skip => skip.is_some(),
        // A held Final certificate ends the slot.
        Kind::Final => false,
    };
    for ((kind, signer), stored) in votes.iter().filter(|((kind, _), _)| !settled(*kind)) {
        put(bytes, &(*kind, *signer, stored.digest, stored.verified));
    }
}

fn put_entry(bytes: &mut Vec<u8>, entry: &Entry) {
    let Entry { candidate: _, signed, certified, verdict, execution, missing } = entry;
    let executed = match execution {
        Execution::No => 0u8,
        Execution::Asked => 1,
        Execution::Done(_) => 2,
    };
    put(bytes, &(*signed, *certified, verdict.map(|verdict| verdict.is_ok()), executed, missing));
}
