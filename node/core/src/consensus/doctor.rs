//! Why is there no block? What stands between this validator and the next final block; for `/rpc/consensus/doctor`.
//!
//! Reads the state, changes nothing: what is told here decides nothing. The sentence is made in `diagnosis`.

use super::diagnosis::diagnose;
use super::input::Now;
use super::memory::VotingState;
use super::resolve::Want;
use super::state::{Core, Entry, Execution, Slot};
use super::validity::check_v5;
use crate::hash::Hash;
use crate::key::Address;
use crate::staking::motion::Upgrade;
use crate::validators::Index;
use crate::vote::Kind;
use schemars::JsonSchema;
use serde::Serialize;

/// Fetches that are listed; `fetches_open` counts all.
const FETCHES_MAX: usize = 16;

/// How finality does here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing waits to become final.
    #[default]
    Idle,
    /// Something waits, and not for long.
    Working,
    /// Something waits, and nothing became final for `stalled_after_ms`.
    Stalled,
}

/// Whether this validator votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Voting {
    /// It does.
    #[default]
    Yes,
    /// Not yet: it waits for what others have seen of its key (A2).
    Checking,
    /// Its database may lack votes of its key, and it asks the others (A3).
    Quarantined,
    /// It is stopping, or its database does not answer.
    NotReady,
    /// A vote could not be stored: not before a restart (P6).
    WriteFailed,
    /// Halted for good; the log says why.
    Halted,
    /// It does not speak the version of the next block: another program must go on (V1).
    OldVersion,
}

/// What is in the way, as programs tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing: there is no work, or it goes on.
    #[default]
    None,
    /// This validator does not vote.
    OwnVoting,
    /// The next block has a version that this program does not speak (V1).
    OldVersion,
    /// A block is final, but this node lacks what it needs to let it out.
    Unresolved,
    /// The validators that are connected weigh less than a quorum.
    NoQuorumConnected,
    /// The own clock is behind.
    OwnClock,
    /// The leader's clock is ahead.
    LeaderClock,
    /// The own database has not answered a write.
    OwnDatabase,
    /// A batch of the candidate is not durable here (H3).
    BatchesMissing,
    /// The parent of the candidate is not executed here (H2).
    ParentNotExecuted,
    /// A block below the candidate is missing here (H4).
    AncestorMissing,
    /// Certificates below the candidate are missing here (H5).
    ProofMissing,
    /// The candidate breaks a rule: its leader is faulty, or the own state is.
    CandidateInvalid,
    /// The leader proposed nothing, and too few have skipped its slot.
    LeaderSilent,
    /// Too few have voted.
    VotesMissing,
    /// All have voted, none of the statements has a quorum.
    VotesSplit,
    /// Slots pass, but none of their blocks becomes final.
    FinalVotesMissing,
    /// Slots are skipped one after the other.
    Skipping,
}

/// Answer to "why is there no block?".
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// Epoch.
    pub epoch: u64,
    /// Frontier F: the least slot that is neither notarized nor skipped.
    pub slot: u64,
    /// Milliseconds since F became the frontier here.
    pub slot_age_ms: u64,
    /// Height of the last final block let out here.
    pub height: u64,
    /// s*: slot of the highest Final certificate.
    pub final_slot: u64,
    /// Milliseconds since the time in the header of the last final block; absent at genesis.
    pub final_age_ms: Option<u64>,
    /// How it does.
    pub state: Condition,
    /// Milliseconds for which something should have become final and nothing did; 0 where idle.
    pub waiting_ms: u64,
    /// `waiting_ms` from which on the chain counts as stalled.
    pub stalled_after_ms: u64,
    /// When the wait began, milliseconds since 1970; absent unless stalled.
    pub stalled_since_ms: Option<u64>,
    /// What is in the way.
    pub cause: Cause,
    /// The same in a sentence: who or what is waited for, and what to do.
    pub diagnosis: String,
    /// Least weight that decides.
    pub quorum: u64,
    /// Sum of all weights.
    pub total_weight: u64,
    /// Own index.
    pub me: Index,
    /// Whether this validator votes.
    pub voting: Voting,
    /// What the next block needs and this program does not speak (V1); absent where it does.
    pub upgrade: Option<Upgrade>,
    /// Its writes of votes.
    pub writes: Writes,
    /// Slot F.
    pub frontier: SlotReport,
    /// The highest slot whose block is notarized but not final, where there is one.
    pub notarized: Option<SlotReport>,
    /// What a final block lacks here, where it lacks something.
    pub unresolved: Option<Unresolved>,
    /// What is being fetched, by slot; at most 16.
    pub fetches: Vec<FetchReport>,
    /// How much is being fetched.
    pub fetches_open: usize,
    /// All of them, by index.
    pub validators: Vec<ValidatorReport>,
}

/// Writes of votes and certificates, which must be durable before anything leaves (P5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Writes {
    /// Without an answer from the database.
    pub open: usize,
    /// Milliseconds for which the oldest of them has waited; absent where none does.
    pub oldest_ms: Option<u64>,
    /// How long the last answered one took; absent before the first.
    pub last_ms: Option<u64>,
}

/// A slot and who voted what in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SlotReport {
    /// The slot.
    pub slot: u64,
    /// Who may propose in it.
    pub leader: Index,
    /// Candidates here: none where the leader was silent, two where it contradicts itself.
    pub candidates: Vec<CandidateReport>,
    /// Notar votes for the candidate that has most.
    pub notar: Tally,
    /// Skip votes.
    pub skip: Tally,
    /// Final votes for the candidate that has most.
    #[serde(rename = "final")]
    pub finality: Tally,
    /// Who has cast no vote in it that is known here.
    pub silent: Vec<Index>,
}

/// Votes for one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tally {
    /// Their weight, to be held against the quorum.
    pub weight: u64,
    /// Who cast one.
    pub voted: Vec<Index>,
    /// Who did not, as far as is known here.
    pub missing: Vec<Index>,
}

/// A candidate and why it is not voted for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CandidateReport {
    /// Its digest.
    pub block: Hash,
    /// Its height.
    pub height: u64,
    /// Rules that hold it back: `V1` a version that this program does not speak, `H1` time, `H2` parent not executed, `H3` batches,
    /// `H4` ancestor, `H5` certificates.
    pub holds: Vec<&'static str>,
    /// The rule that it breaks; absent where it breaks none, or that is not known yet.
    pub invalid: Option<&'static str>,
    /// Batches that are not durable here.
    pub missing_batches: Vec<Hash>,
    /// How far its time is ahead of the own clock, in milliseconds; 0 where it is not.
    pub ahead_ms: u64,
    /// Whether it is executed here.
    pub executed: bool,
}

/// What a final block lacks here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unresolved {
    /// Slot of the final block.
    pub slot: u64,
    /// The highest block below it, or itself, that is missing here.
    pub missing_block: Option<Hash>,
    /// Batches of its chain that are not durable here, as far down as blocks are here.
    pub missing_batches: Vec<Hash>,
}

/// Something asked of peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FetchReport {
    /// `candidate`, `batches` or `certificates`.
    pub what: &'static str,
    /// The candidate, or the one whose batches or certificates are meant.
    pub block: Hash,
    /// Its slot, or that of its child.
    pub slot: u64,
    /// The batches.
    pub batches: Vec<Hash>,
    /// Slots of the certificates.
    pub slots: Vec<u64>,
    /// Who was asked last; absent before the first request and where nobody is connected.
    pub asked: Option<Index>,
    /// Requests so far.
    pub tries: u32,
}

/// A validator as it is seen from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ValidatorReport {
    /// Index in the set.
    pub index: Index,
    /// Its address.
    pub address: Address,
    /// Its voting power.
    pub weight: u64,
    /// Whether a channel to it is open; true for this validator itself.
    pub connected: bool,
    /// Milliseconds since the channel opened or closed; since this process started where it never did.
    pub connection_age_ms: u64,
    /// What its last Status says: false where it is stopping or without its database; absent before the first.
    pub ready: Option<bool>,
    /// Milliseconds since a new vote of it was seen; absent where none was.
    pub last_vote_ms: Option<u64>,
    /// Milliseconds for which certificates have come without its vote; absent where the last one had it.
    pub missing_ms: Option<u64>,
    /// How far its clock was ahead of ours by its last proposal, in milliseconds, the way here taken off; absent where
    /// none shows it.
    pub clock_ahead_ms: Option<i64>,
}

impl Report {
    /// The validator at an index.
    pub fn validator(&self, index: Index) -> Option<&ValidatorReport> {
        self.validators.get(usize::from(index))
    }

    /// Weight of some validators.
    pub fn weight_of(&self, indices: &[Index]) -> u64 {
        indices.iter().filter_map(|index| self.validator(*index)).map(|validator| validator.weight).sum()
    }
}

impl Core {
    /// How finality does at `now`, and what is in its way. Costs microseconds; bounded by the size of the set.
    pub fn report(&self, now: Now) -> Report {
        let now = Now { mono_ms: now.mono_ms.max(self.now.mono_ms), ..now };
        let notarized = self.slots.iter().rev().find(|(_, slot)| slot.notar.is_some()).map(|(number, _)| *number);
        let all = 0..self.config.set.len() as Index;
        let mut report = Report {
            epoch: self.config.epoch(),
            slot: self.frontier.slot,
            slot_age_ms: now.mono_ms.saturating_sub(self.frontier.activated),
            height: self.tip.height,
            final_slot: self.top.slot,
            final_age_ms: (self.tip.height > 0).then(|| now.wall_ms.saturating_sub(self.tip.time_ms)),
            quorum: self.config.set.quorum(),
            total_weight: self.config.set.total_weight(),
            me: self.config.me,
            voting: self.voting(),
            upgrade: self.v1_stopped().or_else(|| self.v1_awaited()),
            writes: self.open_writes(now.mono_ms),
            frontier: self.slot_report(self.frontier.slot, now.wall_ms),
            notarized: notarized.map(|slot| self.slot_report(slot, now.wall_ms)),
            unresolved: self.unresolved(),
            fetches: self.fetch_reports(),
            fetches_open: self.wants.len(),
            validators: all.map(|index| self.validator_report(index, now.mono_ms)).collect(),
            ..self.wait(now)
        };
        (report.cause, report.diagnosis) = diagnose(&report);
        report
    }

    /// Whether something waits, and for how long.
    fn wait(&self, now: Now) -> Report {
        let waiting_ms = self.seen.work.map_or(0, |work| now.mono_ms.saturating_sub(work.since));
        // Twice what it takes to go round a leader that is gone.
        let stalled_after_ms = 2 * self.config.skip_after();
        let state = match self.seen.work {
            None => Condition::Idle,
            Some(_) if waiting_ms < stalled_after_ms => Condition::Working,
            Some(_) => Condition::Stalled,
        };
        let stalled_since_ms = (state == Condition::Stalled).then(|| now.wall_ms.saturating_sub(waiting_ms));
        Report { state, waiting_ms, stalled_after_ms, stalled_since_ms, ..Report::default() }
    }

    fn voting(&self) -> Voting {
        if self.halted.is_some() {
            Voting::Halted
        } else if self.stopped {
            Voting::WriteFailed
        } else if self.v1_stopped().is_some() {
            Voting::OldVersion
        } else if !self.ready {
            Voting::NotReady
        } else {
            match self.voting_state {
                VotingState::Checking => Voting::Checking,
                VotingState::Quarantined => Voting::Quarantined,
                VotingState::Voting => Voting::Yes,
            }
        }
    }

    fn open_writes(&self, mono_ms: u64) -> Writes {
        let (open, oldest) = self.seen.open_writes();
        let oldest_ms = oldest.map(|asked| mono_ms.saturating_sub(asked));
        Writes { open, oldest_ms, last_ms: self.seen.last_write_ms }
    }

    fn slot_report(&self, slot: u64, wall_ms: u64) -> SlotReport {
        let nothing = Slot::default();
        let state = self.slots.get(&slot).unwrap_or(&nothing);
        let all = || 0..self.config.set.len() as Index;
        let known = self.by_slot.get(&slot).into_iter().flatten();
        let candidates = known.filter_map(|digest| Some((digest, self.candidates.get(digest)?)));
        let voted = |index: &Index| {
            [Kind::Notar, Kind::Skip, Kind::Final].into_iter().any(|kind| state.votes.contains_key(&(kind, *index)))
        };
        SlotReport {
            slot,
            leader: self.leader(slot),
            candidates: candidates.map(|(digest, entry)| self.candidate_report(*digest, entry, wall_ms)).collect(),
            notar: self.tally_of(state, Kind::Notar),
            skip: self.tally_of(state, Kind::Skip),
            finality: self.tally_of(state, Kind::Final),
            silent: all().filter(|index| !voted(index)).collect(),
        }
    }

    /// Votes of a kind for the digest of which there are most.
    fn tally_of(&self, slot: &Slot, kind: Kind) -> Tally {
        let of_kind = slot.tally.range((kind, Hash::ZERO)..).take_while(|((of, _), _)| *of == kind);
        let Some((digest, weight)) = of_kind.map(|((_, digest), weight)| (*digest, *weight)).max_by_key(|(_, w)| *w)
        else {
            return Tally { missing: (0..self.config.set.len() as Index).collect(), ..Tally::default() };
        };
        let votes_for = |index: &Index| slot.votes.get(&(kind, *index)).is_some_and(|vote| vote.digest == digest);
        let (voted, missing) = (0..self.config.set.len() as Index).partition(votes_for);
        Tally { weight, voted, missing }
    }

    fn candidate_report(&self, digest: Hash, entry: &Entry, wall_ms: u64) -> CandidateReport {
        let header = &entry.candidate.header;
        let parent = self.parent_facts(header);
        let roots = parent.and_then(|parent| check_v5(header, &parent));
        let verdicts = [roots, entry.verdict].into_iter().flatten();
        let ahead = self.is_ahead(header, wall_ms);
        let holds = [
            ("V1", parent.is_some_and(|parent| self.v1_foreign(&parent).is_some())),
            ("H1", ahead),
            ("H2", parent.is_some() && roots.is_none()),
            ("H3", !entry.missing.is_empty()),
            ("H4", parent.is_none()),
            ("H5", self.lacks_proof(header)),
        ];
        CandidateReport {
            block: digest,
            height: header.height,
            holds: holds.into_iter().filter(|(_, holds)| *holds).map(|(rule, _)| rule).collect(),
            invalid: verdicts.filter_map(|verdict| verdict.err()).map(|invalid| invalid.name()).next(),
            missing_batches: entry.missing.iter().copied().collect(),
            ahead_ms: header.time_ms.saturating_sub(wall_ms),
            executed: matches!(entry.execution, Execution::Done(_)),
        }
    }

    /// C19: what is missing of the chain from the last block let out up to s*.
    fn unresolved(&self) -> Option<Unresolved> {
        let mut missing = Unresolved { slot: self.top.slot, ..Unresolved::default() };
        let mut at = self.top.digest;
        if at == self.tip.digest {
            return None;
        }
        while at != self.tip.digest {
            let Some(entry) = self.candidates.get(&at).filter(|e| e.candidate.header.slot > self.tip.slot) else {
                missing.missing_block = Some(at);
                break;
            };
            missing.missing_batches.extend(entry.missing.iter().copied());
            at = entry.candidate.header.parent;
        }
        missing.missing_batches.truncate(crate::message::MAX_REQUEST);
        Some(missing)
    }

    fn fetch_reports(&self) -> Vec<FetchReport> {
        let mut wants: Vec<_> = self.wants.iter().collect();
        wants.sort_by_key(|(_, fetch)| fetch.slot);
        let report = |(want, fetch): (&Want, &super::resolve::Fetch)| {
            let (what, block) = match want {
                Want::Candidate(digest) => ("candidate", *digest),
                Want::Batches(digest) => ("batches", *digest),
                Want::Proof(_, digest) => ("certificates", *digest),
            };
            let missing = self.candidates.get(&block).map(|entry| &entry.missing);
            let batches = missing.filter(|_| matches!(want, Want::Batches(_)));
            let slots = if let Want::Proof(slot, _) = want { self.missing_proof(*slot, &block) } else { None };
            FetchReport {
                what,
                block,
                slot: fetch.slot,
                batches: batches.into_iter().flatten().copied().collect(),
                slots: slots.unwrap_or_default(),
                asked: fetch.asked,
                tries: fetch.tries,
            }
        };
        wants.into_iter().take(FETCHES_MAX).map(report).collect()
    }

    fn validator_report(&self, index: Index, mono_ms: u64) -> ValidatorReport {
        let ago = |at: u64| mono_ms.saturating_sub(at);
        let (at, me) = (usize::from(index), index == self.config.me);
        let (peer, seen) = (self.peers.get(at), self.seen.validators.get(at));
        let told = peer.and_then(|peer| peer.status.as_ref()).map(|status| status.ready);
        ValidatorReport {
            index,
            address: self.config.set.address(index).unwrap_or(Address([0; 20])),
            weight: self.config.set.weight(index),
            connected: me || self.is_connected(index),
            connection_age_ms: seen.map_or(0, |seen| ago(seen.link_changed)),
            ready: if me { Some(self.may_vote() && self.v1_stopped().is_none()) } else { told },
            last_vote_ms: seen.and_then(|seen| seen.voted).map(ago),
            missing_ms: self.missing_since.get(at).copied().flatten().map(ago),
            clock_ahead_ms: seen.and_then(|seen| seen.clock_ahead_ms),
        }
    }
}
