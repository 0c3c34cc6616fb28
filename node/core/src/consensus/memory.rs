//! A validator that may have forgotten votes: found out before its first vote, cured by asking the others
//! (protocol.md A2-A8).
//!
//! ```text
//! start ─→ Checking ─ enough others heard, nothing missing (A2) ─→ Voting
//!             │ a vote or generation of the own key that is not in the database (A3)
//!             ↓
//!          Quarantined ─ marks of weight ≥ q from clean others (A5) ─→ floors durable (A6) ─→ Halt::Recovered, a restart
//! ```
//! Both stages ask the same question, so an answer heard while checking counts for the recovery too. Where the owner has just vouched for
//! the database (A9), what the others show while it checks is taken back instead, and durable before the first vote.

use super::input::WriteId;
use super::output::{Halt, Output, Rows};
use super::state::{Core, Own, Peer};
use crate::evidence::x2_class;
use crate::hash::Hash;
use crate::hello::Heard;
use crate::key::PublicKey;
use crate::memory::{Cause, MAX_VOTES_SHOWN, Mark, MarkReply, Memory, Seen, generation_above};
use crate::message::Message;
use crate::params::{REPAIR_EVERY_MS, STATUS_EVERY_MS, VOTE_WINDOW};
use crate::validators::Index;
use crate::vote::{Kind, Statement, Vote};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Askers without a number in the roster that are answered within [`REPAIR_EVERY_MS`]; more ask again.
const OTHERS_MARKED_MAX: usize = 32;
/// Least time between two answers with votes that are kept of an asker (A9): they are searched for. It asks each [`STATUS_EVERY_MS`].
const VOTES_EVERY_MS: u64 = 400;
/// How long a database that is newly vouched for waits for all others, once enough have answered (A9).
const VOUCHED_WAIT_MS: u64 = 10_000;
/// The same where too few of them vote: who does not may have forgotten what it saw, and somebody else who has not may be on its way.
const FORGOTTEN_WAIT_MS: u64 = 60_000;

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
    /// Epoch and slot up to which each of them has shown the votes that it keeps, where they are more than fit into one answer (A9).
    shown: BTreeMap<PublicKey, (u64, u64)>,
    /// Of them those that vote, by key: they have not forgotten what they have seen since they started (A9).
    remember: BTreeSet<PublicKey>,
    /// When enough had answered (A9).
    enough_since: Option<u64>,
    /// The write that ends the owner's word (A9).
    ending_word: Option<WriteId>,
}

impl Inquiry {
    /// **A5** A proven higher epoch restarts the round. Marks of the epochs before count as 0 from now on: whoever gave them
    /// after the loss had not voted in this one then. One of this epoch that is far is asked for again.
    ///
    /// Where the owner's word is new all are heard again: who has answered in the epoch before may have votes of this one (A9).
    pub(super) fn enter_epoch(&mut self, epoch: u64, now: u64, vouched_anew: bool) {
        if vouched_anew && self.ending_word.is_none() {
            self.heard.clear();
            self.remember.clear();
            self.enough_since = None;
        }
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
            shown: BTreeMap::new(),
            remember: BTreeSet::new(),
            enough_since: None,
            ending_word: None,
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
        } else if self.a2_needed() == 0 && !self.memory.vouched_anew || !self.config.watches_memory {
            self.voting_state = VotingState::Voting;
        }
    }

    /// A2, A5: ask everybody, again and again: a question or an answer may be lost.
    pub(super) fn a5_ask(&mut self) {
        if self.voting_state == VotingState::Voting || self.inquiry.recovering.is_some() {
            return;
        }
        if self.memory.vouched_anew {
            self.a2_conclude();
        }
        if self.now.mono_ms >= self.inquiry.due {
            self.inquiry.due = self.now.mono_ms + STATUS_EVERY_MS;
            self.a2_ask_all();
        }
        self.wake_at(self.inquiry.due);
    }

    /// A new channel is asked at once.
    pub(super) fn a2_on_connected(&mut self, peer: Index) {
        if self.voting_state != VotingState::Voting {
            self.a2_ask(peer);
        }
    }

    fn a2_ask_all(&mut self) {
        // First who has shown a part: of two questions at once the second goes unanswered (A4).
        let shown: Vec<Index> = self.inquiry.shown.keys().filter_map(|key| self.roster.local_of(key)).collect();
        shown.into_iter().for_each(|peer| self.a2_ask(peer));
        self.emit(Output::Broadcast(self.a2_question(self.vote_floor)));
    }

    fn a2_ask(&mut self, peer: Index) {
        let shown = self.roster.key(peer).and_then(|key| self.inquiry.shown.get(key)).copied();
        let message = self.a2_question(shown.unwrap_or(self.vote_floor));
        self.emit(Output::Send { to: peer, message });
    }

    fn a2_question(&self, above: (u64, u64)) -> Message {
        Message::MarkQuery { nonce: self.inquiry.nonce, votes_above: self.memory.vouched_anew.then_some(above) }
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
    pub(super) fn a4_answer(&mut self, to: Index, asker: PublicKey, nonce: Hash, votes_above: Option<(u64, u64)>) {
        let local = self.roster.local_of(&asker);
        let wanted = votes_above.zip(local);
        if !self.a4_may_answer(local, asker, wanted.is_some()) {
            return;
        }
        let peer = local.and_then(|local| self.peers.get(usize::from(local)));
        let (noted, hello) = peer.map(|peer| (peer.vote.clone(), peer.hello.clone())).unwrap_or_default();
        let votes = wanted.map(|(above, member)| self.a9_votes_kept_of(member, above)).unwrap_or_default();
        if let Some((_, asker)) = wanted {
            if !votes.is_empty() && !self.may_answer(asker, borsh::object_length(&votes).unwrap_or(usize::MAX)) {
                return;
            }
            // What is not shown, as it is decided, the asker shall wait for; and know of which epoch this answer is.
            self.emit(Output::Send { to: asker, message: Message::Status(self.status()) });
        }
        let (epoch, slot) = self.a4_mark();
        let mark = Mark { nonce, epoch, clean_from: self.memory.clean_from, quarantined: !self.may_vote(), slot };
        let noted = noted.into_iter().chain(self.certified_vote_of(&asker));
        let highest = noted.max_by_key(|vote| (vote.statement.epoch, vote.statement.slot));
        self.emit(Output::Mark { to, asker, mark, seen: Seen { vote: highest, hello }, votes });
    }

    /// A4: one answer to each in [`REPAIR_EVERY_MS`], or [`VOTES_EVERY_MS`] with votes, and of those without a number to [`OTHERS_MARKED_MAX`].
    fn a4_may_answer(&mut self, local: Option<Index>, asker: PublicKey, votes: bool) -> bool {
        let every = if votes { VOTES_EVERY_MS } else { REPAIR_EVERY_MS };
        let (now, again) = (self.now.mono_ms, self.now.mono_ms + every);
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
        let statements = self.later.votes.iter().chain(&self.memory.taken_back).map(|vote| vote.statement);
        let voted = statements.clone().map(|statement| statement.epoch);
        let epoch = sealed.chain(voted).chain([own]).max().unwrap_or(own);
        let later = statements.filter(|statement| statement.epoch == epoch);
        let later = later.map(|statement| statement.slot).max().unwrap_or(0);
        let last = if epoch > own { later } else { self.last_voted };
        let floor = self.memory.floors.get(&epoch).copied().unwrap_or(0);
        let vote_floor = if self.vote_floor.0 == epoch { self.vote_floor.1 } else { 0 };
        (epoch, last.max(vote_floor).max(floor))
    }

    /// A9: votes of a member above s* and a position that are kept here, ascending: in the pool; after a restart, in certificates, and in
    /// what it has proposed.
    fn a9_votes_kept_of(&self, member: Index, (of, slot): (u64, u64)) -> Vec<Vote> {
        let epoch = self.config.epoch();
        if self.config.set.get(member).is_none() || of > epoch {
            return Vec::new();
        }
        let slot = if of == epoch { slot.max(self.top.slot) } else { self.top.slot };
        let above = slot.saturating_add(1)..;
        let pooled = self.slots.range(above.clone()).flat_map(|(slot, state)| {
            [Kind::Notar, Kind::Skip, Kind::Final].into_iter().filter_map(move |kind| {
                let stored = state.votes.get(&(kind, member))?;
                let statement = Statement { epoch, slot: *slot, kind, digest: stored.digest };
                Some(Vote { statement, signer: member, signature: stored.signature })
            })
        });
        let certified = self.slots.range(above.clone()).flat_map(|(_, state)| {
            let certs = [&state.notar, &state.skip].into_iter().flatten().map(|held| &held.cert);
            let only = certs.filter(move |cert| {
                let pooled = state.votes.contains_key(&(cert.statement.kind, member));
                !pooled && cert.signer_indices().any(|signer| signer == member)
            });
            only.flat_map(super::certs::votes_of).filter(move |vote| vote.signer == member)
        });
        let digests = self.by_slot.range(above).flat_map(|(_, digests)| digests);
        let proposed = digests.filter_map(|digest| {
            let entry = self.candidates.get(digest)?;
            (entry.signed && entry.candidate.header.proposer == member).then(|| entry.candidate.vote(*digest))
        });
        // So many of each suffice, and are all that is searched for.
        let (pooled, certified) = (pooled.take(MAX_VOTES_SHOWN), certified.take(MAX_VOTES_SHOWN));
        let kept = pooled.chain(certified).chain(proposed.take(MAX_VOTES_SHOWN));
        let votes: BTreeMap<Statement, Vote> = kept.map(|vote| (vote.statement, vote)).collect();
        votes.into_values().take(MAX_VOTES_SHOWN).collect()
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
        // What does not fit into an answer is asked for next, and may be any vote. A slot has up to three. Nor does one count whose epoch
        // is an earlier one: it has put votes of this one aside.
        let last = reply.votes.get(MAX_VOTES_SHOWN - 1).map(|vote| vote.statement);
        let status = self.peers.get(usize::from(from)).and_then(|peer| peer.status.as_ref());
        let earlier = reply.mark.epoch < self.config.epoch() || status.is_some_and(|s| s.epoch < self.config.epoch());
        let behind = self.memory.vouched_anew && earlier;
        let Some(lost) = self.a9_lost(reply.votes) else { return self.dropped("mark_votes") };
        if let Some(Statement { epoch, slot, .. }) = last {
            let shown = self.inquiry.shown.entry(key).or_default();
            *shown = (*shown).max((epoch, slot.saturating_sub(1)));
        } else if !behind {
            self.inquiry.heard.insert(key);
            if !reply.mark.quarantined {
                self.inquiry.remember.insert(key);
            }
        }
        self.a5_note_mark(key, &reply.mark);
        self.a2_judge(reply.seen, lost);
        self.a5_recover();
    }

    /// A2: what a peer has seen of the own key, and votes that it keeps (A9), against what the database knows.
    fn a2_judge(&mut self, Seen { vote, hello }: Seen, mut lost: Vec<Vote>) {
        let generation = self.a2_missing_generation(hello);
        match self.voting_state {
            VotingState::Checking => {
                lost.extend(vote.filter(|vote| self.a2_missing_vote(vote)));
                match generation.or(self.a9_take_back(lost)) {
                    Some(cause) => self.a3_quarantine(cause),
                    None => self.a2_conclude(),
                }
            }
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
    fn a2_missing_vote(&self, vote: &Vote) -> bool {
        self.a2_unknown(&vote.statement) && self.is_own(vote)
    }

    fn a2_unknown(&self, statement: &Statement) -> bool {
        let Statement { epoch, slot, .. } = *statement;
        statement.well_formed()
            && (epoch, slot) > self.vote_floor
            && self.memory.allows(epoch, slot)
            && !self.inquiry.rows.contains(statement)
    }

    fn is_own(&self, vote: &Vote) -> bool {
        let message = vote.statement.sign_bytes(&self.config.chain);
        self.config.verifier.verifies(&self.config.key, &message, &vote.signature)
    }

    /// **A3.** From now on no vote, durably: the next start must not find peers that have forgotten.
    fn a3_quarantine(&mut self, cause: Cause) {
        self.voting_state = VotingState::Quarantined;
        self.memory = std::mem::take(&mut self.memory).quarantined(cause);
        self.persist(Rows::Memory { memory: self.memory.clone(), generation: None });
    }

    /// A9: those of the votes that a peer keeps which the database lacks. `None` where one is forged or one comes twice: an honest peer shows
    /// none such, and this one is heard once it answers otherwise.
    fn a9_lost(&self, votes: Vec<Vote>) -> Option<Vec<Vote>> {
        if self.voting_state != VotingState::Checking || !self.memory.vouched_anew {
            return Some(Vec::new());
        }
        if !votes.is_sorted_by(|one, next| one.statement < next.statement) {
            return None;
        }
        let unknown = votes.into_iter().filter(|vote| self.a2_unknown(&vote.statement));
        unknown.map(|vote| self.is_own(&vote).then_some(vote)).collect()
    }

    /// **A9.** Missing votes that are shown to a database which was just vouched for bind from now on, and durably before anything else. The
    /// cause to vote no more where one cannot be taken back: it is of a later epoch, or contradicts a row or another (X2), so somebody else
    /// votes with this key; or nobody vouches for the database.
    fn a9_take_back(&mut self, votes: Vec<Vote>) -> Option<Cause> {
        let before = self.memory.taken_back.len();
        let refused = votes.into_iter().find(|vote| !self.a9_takes_back(vote));
        if self.memory.taken_back.len() > before {
            let epoch = self.config.epoch();
            self.memory.taken_back.retain(|vote| vote.statement.epoch >= epoch);
            // This write says again that the word is new.
            self.inquiry.ending_word = None;
            self.persist(Rows::Memory { memory: self.memory.clone(), generation: None });
        }
        refused.map(|vote| Cause::VoteMissing { slot: vote.statement.slot })
    }

    fn a9_takes_back(&mut self, vote: &Vote) -> bool {
        let statement = vote.statement;
        if self.memory.vouched_anew && statement.epoch < self.config.epoch() {
            // That epoch is over, and nothing is voted for in it (E5).
            return true;
        }
        let taken = self.memory.vouched_anew
            && self.config.is_member()
            && statement.epoch == self.config.epoch()
            && self.inquiry.rows.iter().all(|row| x2_class(row, &statement).is_none());
        if taken && self.inquiry.rows.insert(statement) {
            self.a9_reserve(statement);
            self.memory.taken_back.push(Vote { signer: self.config.me, ..vote.clone() });
        }
        taken
    }

    /// A9: a start and an epoch find what was taken back reserved and in the pool.
    pub(super) fn a9_recover_taken_back(&mut self) {
        let epoch = self.config.epoch();
        let votes = self.memory.taken_back.iter().filter(|vote| vote.statement.epoch == epoch).cloned();
        for vote in votes.collect::<Vec<_>>() {
            self.a9_reserve(vote.statement);
            if vote.statement.slot > self.top.slot {
                self.record_vote(&vote, true);
                self.c3_certify(vote.statement);
            }
        }
    }

    /// **A9.** Like a reservation (P6) a vote that was taken back forbids others, and is not cast again: what P3 and P4 commit with a row may be
    /// lost, so no Final rests on it (G6). In the pool it counts toward certificates, as it does for whoever kept it, once it is durable (P5).
    fn a9_reserve(&mut self, statement: Statement) {
        self.last_voted = self.last_voted.max(statement.slot);
        if statement.slot > self.top.slot {
            self.set_own(Own { statement, signature: None });
        }
    }

    /// **A9.** The owner vouches for what nobody shows, so all others are heard, or waited for. The word ends
    /// durably before the first vote: a copy of this database that is put back later has to ask like any other.
    fn a9_end_word(&mut self, heard: u64) {
        let others = self.config.set.total_weight() - self.config.set.weight(self.config.me);
        let since = *self.inquiry.enough_since.get_or_insert(self.now.mono_ms);
        let remembering = self.a9_remembering() >= self.a2_needed();
        let until = since + if remembering { VOUCHED_WAIT_MS } else { FORGOTTEN_WAIT_MS };
        // Nobody shows votes at or below its own last final slot; they are decided, but not yet here.
        let here = (self.config.epoch(), self.top.slot);
        let ahead = |peer: &Peer| peer.status.as_ref().is_some_and(|status| (status.epoch, status.final_slot) > here);
        let waits = heard < others || self.peers.iter().any(|peer| peer.connected && ahead(peer));
        if waits && self.now.mono_ms < until {
            return self.wake_at(until);
        }
        self.inquiry.ending_word = Some(self.next_write);
        let memory = Memory { vouched_anew: false, ..self.memory.clone() };
        self.persist(Rows::Memory { memory, generation: None });
    }

    fn a9_remembering(&self) -> u64 {
        let members = self.config.set.members().iter().filter(|member| self.inquiry.remember.contains(&member.key));
        members.map(|member| u64::from(member.weight)).sum()
    }

    /// A9: the word has ended, unless another vote was taken back meanwhile.
    pub(super) fn a9_on_durable(&mut self, write: WriteId) {
        if self.inquiry.ending_word.take_if(|ending| *ending == write).is_some() {
            self.memory.vouched_anew = false;
            self.a9_recover_taken_back();
            self.a2_conclude();
        }
    }

    /// A2: enough others have answered and none knew more than the database. Looked at again in another epoch, whose set may
    /// need fewer, or nobody else.
    pub(super) fn a2_conclude(&mut self) {
        if self.inquiry.ending_word.is_some() {
            return;
        }
        let set = &self.config.set;
        let members = set.members().iter().filter(|member| self.inquiry.heard.contains(&member.key));
        let heard: u64 = members.map(|member| u64::from(member.weight)).sum();
        if self.voting_state == VotingState::Checking && heard >= self.a2_needed() {
            match self.memory.vouched_anew {
                true => self.a9_end_word(heard),
                false => self.a2_vote(),
            }
        }
    }

    fn a2_vote(&mut self) {
        self.voting_state = VotingState::Voting;
        self.broadcast_status();
        self.finals_due.extend(self.slots.keys().copied());
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
        // What was taken back may be above Lemma 5's bound, which rests on no validator's word (A9).
        let highest = highest.max(self.last_voted);
        let memory = Memory {
            first_start: self.memory.first_start,
            assumed_clean: false,
            vouched_to: self.memory.vouched_to,
            vouched_anew: false,
            taken_back: self.memory.taken_back.clone(),
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
            && self.memory.allows(epoch, slot)
            && self.voting_state != VotingState::Quarantined;
        if !judged || self.has_own(&vote.statement) {
            return;
        }
        if !verified && !self.verify_vote(vote) {
            return self.dropped("vote_signature");
        }
        match self.voting_state {
            VotingState::Checking => {
                if let Some(cause) = self.a9_take_back(vec![vote.clone()]) {
                    self.a3_quarantine(cause);
                }
            }
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
