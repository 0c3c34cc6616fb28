//! A validator that may have forgotten votes: found out before its first vote, cured by asking the others
//! (protocol.md A2-A8).
//!
//! ```text
//! start ─→ Checking ─ enough others heard, nothing missing (A2) ─→ Voting
//!             │ a vote or generation of the own key that is not in the database (A3)
//!             ↓
//!          Quarantined ─ marks of weight ≥ q from clean others (A5) ─→ floors durable (A6) ─→ Halt::Recovered, a restart
//! ```
//! Both stages ask the same question, so an answer heard while checking counts for the recovery too.

use super::input::WriteId;
use super::output::{Halt, Output, Rows};
use super::state::Core;
use crate::hash::Hash;
use crate::hello::Heard;
use crate::key::PublicKey;
use crate::memory::{Cause, Mark, MarkReply, Memory, Seen, generation_above};
use crate::message::Message;
use crate::params::{REPAIR_EVERY_MS, STATUS_EVERY_MS, VOTE_WINDOW};
use crate::validators::Index;
use crate::vote::{Statement, Vote};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Askers without a number in the roster that are answered within [`REPAIR_EVERY_MS`]; more ask again.
const OTHERS_MARKED_MAX: usize = 32;

/// Whether this validator votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VotingState {
    /// Not yet: it waits for what others have seen of its key (A2).
    #[default]
    Checking,
    /// No: its database may lack votes of its key (A3).
    Quarantined,
    /// Yes, where the guards allow.
    Voting,
}

/// What the others said since the start.
#[derive(Clone, Debug)]
pub(super) struct Inquiry {
    /// Makes answers to this process's question fresh.
    nonce: Hash,
    /// When it is asked again.
    due: u64,
    /// Own votes in the database, above the vote floor.
    rows: BTreeSet<Statement>,
    /// Who answered, by key: numbers change with epochs, and what was said since the loss stays true.
    heard: BTreeSet<PublicKey>,
    /// Marks of those who are not quarantined, by signer: at most one a peer.
    marks: BTreeMap<PublicKey, Mark>,
    /// Highest generation shown in own Hellos.
    newest_generation: u32,
    /// The write of A6.
    recovering: Option<WriteId>,
}

impl Inquiry {
    /// **A5** A proven higher epoch restarts the round. Marks of the epochs before count as 0 from now on: whoever gave them
    /// after the loss had not voted in this one then. One of this epoch that is far is asked for again.
    pub(super) fn enter_epoch(&mut self, epoch: u64, now: u64) {
        self.marks.retain(|_, mark| mark.epoch != epoch || mark.slot <= 1 + VOTE_WINDOW);
        self.due = now;
    }

    pub(super) fn new(votes: &[Vote], random: &mut super::random::Random, now: u64) -> Inquiry {
        let mut nonce = [0; 32];
        nonce.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.number().to_le_bytes()));
        Inquiry {
            nonce: Hash(nonce),
            due: now,
            rows: votes.iter().map(|vote| vote.statement).collect(),
            heard: BTreeSet::new(),
            marks: BTreeMap::new(),
            newest_generation: 0,
            recovering: None,
        }
    }
}

impl Core {
    /// Whether this validator votes.
    pub fn voting_state(&self) -> VotingState {
        self.voting_state
    }

    /// What its database knows of its key's past (A1).
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    #[cfg(test)]
    pub(super) fn inquiry_nonce(&self) -> Hash {
        self.inquiry.nonce
    }

    /// A2: weight of others that must have answered: at least one of them is honest, or they are all there are.
    fn a2_needed(&self) -> u64 {
        let set = &self.config.set;
        let others = set.total_weight() - set.faulty_weight();
        (set.faulty_weight() + 1).min(others.saturating_sub(set.weight(self.config.me)))
    }

    /// Where a start stands: with nobody to ask, or once they answered, it votes.
    pub(super) fn a2_begin(&mut self) {
        if self.memory.quarantine.is_some() {
            self.voting_state = VotingState::Quarantined;
        } else if self.a2_needed() == 0 || !self.config.watches_memory {
            self.voting_state = VotingState::Voting;
        }
    }

    /// A2, A5: ask everybody, again and again: a question or an answer may be lost.
    pub(super) fn a5_ask(&mut self) {
        if self.voting_state == VotingState::Voting || self.inquiry.recovering.is_some() {
            return;
        }
        if self.now.mono_ms >= self.inquiry.due {
            self.inquiry.due = self.now.mono_ms + STATUS_EVERY_MS;
            self.emit(Output::Broadcast(Message::MarkQuery { nonce: self.inquiry.nonce }));
        }
        self.wake_at(self.inquiry.due);
    }

    /// A new channel is asked at once.
    pub(super) fn a2_on_connected(&mut self, peer: Index) {
        if self.voting_state != VotingState::Voting {
            self.emit(Output::Send { to: peer, message: Message::MarkQuery { nonce: self.inquiry.nonce } });
        }
    }

    /// Remembers the Hello of the highest generation a peer's key has signed (A2), of equal ones the first: a process on an
    /// old copy of its database may have the generation of the one before it. The channel has verified it.
    pub(super) fn a2_on_greeted(&mut self, peer: Index, heard: Heard) {
        let Some(state) = self.peers.get_mut(usize::from(peer)) else { return };
        let newest = state.hello.as_ref().is_none_or(|known| known.hello.generation < heard.hello.generation);
        if newest {
            state.hello = Some(heard);
        }
    }

    /// Remembers the vote in the highest slot of each validator, of one slot rather the outcome (A2). It need not be verified: its signer will be shown it.
    pub(super) fn a2_note_vote(&mut self, vote: &Vote) {
        let Some(state) = self.peers.get_mut(usize::from(vote.signer)) else { return };
        let position = |vote: &Vote| (vote.statement.epoch, vote.statement.slot, vote.statement.kind.class());
        if state.vote.as_ref().is_none_or(|known| position(known) <= position(vote)) {
            state.vote = Some(vote.clone());
        }
    }

    /// **A4.** States the own votes' mark; and shows what was seen of the asker's (A2). One that does not vote now, be it that it
    /// is checking itself or that another process may have taken over (P6, P7), does not count. Votes not yet durable are within the mark: a higher one only costs the asker slots.
    ///
    /// Whoever asks is answered, or a joiner could not recover before it is in a set, which may then have no quorum without it
    /// (A1). What the asker may conclude rests on who answers (A5, A7), not on who it is itself.
    pub(super) fn a4_answer(&mut self, to: Index, asker: PublicKey, nonce: Hash) {
        let local = self.roster.local_of(&asker);
        if !self.a4_may_answer(local, asker) {
            return;
        }
        let peer = local.and_then(|local| self.peers.get(usize::from(local)));
        let (noted, hello) = peer.map(|peer| (peer.vote.clone(), peer.hello.clone())).unwrap_or_default();
        let (epoch, slot) = self.a4_mark();
        let mark = Mark { nonce, epoch, clean_from: self.memory.clean_from, quarantined: !self.may_vote(), slot };
        let votes = noted.into_iter().chain(self.certified_vote_of(&asker));
        let highest = votes.max_by_key(|vote| (vote.statement.epoch, vote.statement.slot));
        self.emit(Output::Mark { to, asker, mark, seen: Seen { vote: highest, hello } });
    }

    /// A4: one answer to each in [`REPAIR_EVERY_MS`], and of those without a number to [`OTHERS_MARKED_MAX`].
    fn a4_may_answer(&mut self, local: Option<Index>, asker: PublicKey) -> bool {
        let (now, again) = (self.now.mono_ms, self.now.mono_ms + REPAIR_EVERY_MS);
        if let Some(peer) = local.and_then(|local| self.peers.get_mut(usize::from(local))) {
            let due = now >= peer.mark_due;
            if due {
                peer.mark_due = again;
            }
            return due;
        }
        self.others_marked.retain(|_, due| now < *due);
        if self.others_marked.contains_key(&asker) {
            return false;
        }
        if self.others_marked.len() >= OTHERS_MARKED_MAX {
            self.dropped("mark_query");
            return false;
        }
        self.others_marked.insert(asker, again);
        true
    }

    /// The highest epoch proven started, and a slot of it above which is no own vote; rows at or below the vote floor are
    /// deleted (P9) or were lost (A9). An epoch has started where the Seal of the one before is durable or an own vote of it is, though blocks
    /// of several epochs may still be missing in the ledger, which are written by another lane.
    fn a4_mark(&self) -> (u64, u64) {
        let own = self.config.epoch();
        let sealed = self.seals.iter().filter(|(_, sealed)| sealed.durable).map(|(epoch, _)| epoch.saturating_add(1));
        let voted = self.later.votes.iter().map(|vote| vote.statement.epoch);
        let epoch = sealed.chain(voted).chain([own]).max().unwrap_or(own);
        let later = self.later.votes.iter().filter(|vote| vote.statement.epoch == epoch);
        let later = later.map(|vote| vote.statement.slot).max().unwrap_or(0);
        let last = if epoch > own { later } else { self.last_voted };
        let floor = self.memory.floors.get(&epoch).copied().unwrap_or(0);
        let vote_floor = if self.vote_floor.0 == epoch { self.vote_floor.1 } else { 0 };
        (epoch, last.max(vote_floor).max(floor))
    }

    /// After a restart the certificate of s* still holds votes of others.
    fn certified_vote_of(&self, key: &PublicKey) -> Option<Vote> {
        let cert = self.top.cert.as_ref()?;
        let signer = self.config.sets.of(cert.statement.epoch)?.index_of(key)?;
        super::certs::votes_of(cert).into_iter().find(|vote| vote.signer == signer)
    }

    /// **A2, A5.** An answer: does it show something the database lacks, are there enough to vote, enough to recover?
    pub(super) fn a5_on_reply(&mut self, from: Index, reply: MarkReply) {
        if self.inquiry.recovering.is_some() {
            return;
        }
        let message = reply.mark.sign_bytes(&self.config.chain, &self.config.key);
        let fresh = reply.mark.nonce == self.inquiry.nonce && from != self.config.me;
        if !fresh || !self.is_signed_by(from, &message, &reply.signature) {
            return self.dropped("mark");
        }
        let Some(key) = self.roster.key(from).copied() else { return };
        self.inquiry.heard.insert(key);
        self.a5_note_mark(key, &reply.mark);
        self.a2_judge(reply.seen);
        self.a5_recover();
    }

    /// A2: what a peer has seen of the own key, against what the database knows.
    fn a2_judge(&mut self, Seen { vote, hello }: Seen) {
        let generation = self.a2_missing_generation(hello);
        match self.voting_state {
            VotingState::Checking => match generation.or_else(|| self.a2_missing_vote(&vote?)) {
                Some(cause) => self.a3_quarantine(cause),
                None => self.a2_conclude(),
            },
            // Enough others had answered before this one, which knows more.
            VotingState::Voting => {
                if let Some(cause) = generation {
                    self.a3_quarantine(cause);
                } else if let Some(vote) = vote {
                    self.a8_own_vote(&vote, false);
                }
            }
            VotingState::Quarantined => {}
        }
    }

    /// A5: the newest mark of each, of one epoch the highest. A mark far beyond the own frontier waits until that is there, where
    /// every honest mark is once the others have helped (C18): a liar's would forbid every vote to come.
    fn a5_note_mark(&mut self, signer: PublicKey, mark: &Mark) {
        if mark.quarantined {
            self.inquiry.marks.remove(&signer);
        } else if mark.epoch != self.config.epoch() || mark.slot <= self.frontier.slot + VOTE_WINDOW {
            let known = self.inquiry.marks.get(&signer).filter(|known| known.epoch == mark.epoch);
            let slot = known.map_or(mark.slot, |known| known.slot.max(mark.slot));
            self.inquiry.marks.insert(signer, Mark { slot, ..*mark });
        }
    }

    /// A4, A5: weight in the set of this epoch or the next one and slot of each member whose mark counts toward it. One of a
    /// later epoch does not: its Seal will come (C18), and the round begins again. One of an earlier epoch has slot 0.
    fn a5_counting(&self, of: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let epoch = self.config.epoch();
        let members = self.config.sets.of(of).into_iter().flat_map(|set| set.members());
        members.filter_map(move |member| {
            let mark = self.inquiry.marks.get(&member.key)?;
            let counts = mark.epoch <= epoch && mark.counts_toward(of);
            counts.then_some((u64::from(member.weight), if mark.epoch == epoch { mark.slot } else { 0 }))
        })
    }

    fn a5_weight(&self, epoch: u64) -> u64 {
        self.a5_counting(epoch).map(|(weight, _)| weight).sum()
    }

    /// A2: a Hello of the own key, by another process, with a generation not below ours. Only the signature makes it count:
    /// nobody can lie a validator into quarantine.
    fn a2_missing_generation(&mut self, heard: Option<Heard>) -> Option<Cause> {
        let Heard { role, hello } = heard?;
        let own = self.config.key;
        let ours = hello.chain == self.config.chain && hello.key == own;
        if !ours || !self.config.verifier.verifies(&own, &hello.sign_bytes(role), &hello.signature) {
            return None;
        }
        let generation = hello.generation;
        self.inquiry.newest_generation = self.inquiry.newest_generation.max(generation);
        (generation >= self.generation).then_some(Cause::NewerGeneration { generation })
    }

    /// A2: a vote of the own key above vote floor and floors that is in no row, in whatever epoch: the signature says whose it
    /// is.
    fn a2_missing_vote(&self, vote: &Vote) -> Option<Cause> {
        let Statement { epoch, slot, .. } = vote.statement;
        let message = vote.statement.sign_bytes(&self.config.chain);
        let missing = vote.statement.well_formed()
            && (epoch, slot) > self.vote_floor
            && self.memory.allows(epoch, slot)
            && !self.inquiry.rows.contains(&vote.statement)
            && self.config.verifier.verifies(&self.config.key, &message, &vote.signature);
        missing.then_some(Cause::VoteMissing { slot })
    }

    /// **A3.** From now on no vote, durably: the next start must not find peers that have forgotten.
    fn a3_quarantine(&mut self, cause: Cause) {
        self.voting_state = VotingState::Quarantined;
        self.memory = std::mem::take(&mut self.memory).quarantined(cause);
        self.persist(Rows::Memory { memory: self.memory.clone(), generation: None });
    }

    /// A2: enough others have answered and none knew more than the database. Looked at again in another epoch, whose set may
    /// need fewer, or nobody else.
    pub(super) fn a2_conclude(&mut self) {
        let set = &self.config.set;
        let members = set.members().iter().filter(|member| self.inquiry.heard.contains(&member.key));
        let heard: u64 = members.map(|member| u64::from(member.weight)).sum();
        if self.voting_state == VotingState::Checking && heard >= self.a2_needed() {
            self.voting_state = VotingState::Voting;
            self.broadcast_status();
            self.finals_due.extend(self.slots.keys().copied());
        }
    }

    /// **A5, A6.** With marks of others of weight ≥ q in the sets of this epoch and of the next: no own vote can be above the highest by more than one slot (Lemma 5),
    /// so votes may begin above that. In one commit with a generation above all that were shown, or the next start would
    /// find them missing again, and above all that may have been: others forget Hellos when they start, but batches of a lost
    /// generation stay in ledgers, and a number used twice is an offence (X2 e).
    pub(super) fn a5_recover(&mut self) {
        let epoch = self.config.epoch();
        let enough = self.a5_weight(epoch) >= self.config.set.quorum()
            && self.a5_weight(epoch + 1) >= self.config.sets.next.quorum();
        if self.voting_state != VotingState::Quarantined || self.inquiry.recovering.is_some() || !enough {
            return;
        }
        let highest = self.a5_counting(epoch).map(|(_, slot)| slot).max().unwrap_or(0);
        let memory = Memory {
            first_start: self.memory.first_start,
            assumed_clean: false,
            vouched_to: self.memory.vouched_to,
            clean_from: epoch + 2,
            floors: BTreeMap::from([(epoch, highest.saturating_add(1)), (epoch + 1, 1)]),
            quarantine: None,
        };
        let known = self.inquiry.newest_generation.max(self.generation);
        let generation = Some(generation_above(known, self.now.wall_ms));
        self.inquiry.recovering = Some(self.next_write);
        self.persist(Rows::Memory { memory, generation });
    }

    /// A6: the floors are durable; a restart takes them up, with the new generation.
    pub(super) fn a6_on_durable(&mut self, write: WriteId) {
        if self.inquiry.recovering == Some(write) {
            self.halt(Halt::Recovered);
        }
    }

    /// **A8.** A vote of the own key that no row holds: while checking it tells of a lost row (A3), later of a second process
    /// with this key and another database. Slots at or below s* are not looked at: their rows may be gone from memory.
    pub(super) fn a8_own_vote(&mut self, vote: &Vote, verified: bool) {
        let Statement { epoch, slot, .. } = vote.statement;
        let judged = self.config.watches_memory
            && vote.signer == self.config.me
            && vote.statement.well_formed()
            && epoch == self.config.epoch()
            && slot > self.top.slot
            && (epoch, slot) > self.vote_floor
            && self.memory.allows(epoch, slot);
        if !judged || self.has_own(&vote.statement) {
            return;
        }
        if !verified && !self.verify_vote(vote) {
            return self.dropped("vote_signature");
        }
        match self.voting_state {
            VotingState::Checking => self.a3_quarantine(Cause::VoteMissing { slot }),
            VotingState::Voting => {
                // The next start must know, even if its own votes have passed this slot by then.
                self.a3_quarantine(Cause::VoteMissing { slot });
                self.halt(Halt::Twin);
            }
            VotingState::Quarantined => {}
        }
    }

    /// Whether this very vote is a row, or on its way to become one.
    fn has_own(&self, statement: &Statement) -> bool {
        let Some(slot) = self.slots.get(&statement.slot) else { return false };
        let own = if statement.kind.class() == 0 { slot.own_notar } else { slot.own_outcome };
        own.is_some_and(|own| own.statement == *statement)
    }
}
