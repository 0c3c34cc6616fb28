//! All that can go out of the core (protocol.md §3.1).

use super::input::WriteId;
use crate::block::{Candidate, Seal};
use crate::epoch::Sets;
use crate::evidence::Evidence;
use crate::hash::Hash;
use crate::key::PublicKey;
use crate::memory::{Mark, Memory, Seen};
use crate::message::Message;
use crate::validators::Index;
use crate::vote::{Cert, Statement, Vote};

/// A row, or rows of one commit, that the ledger must hold before anything that depends on it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Comes back in `Durable` or `WriteFailed`.
    pub id: WriteId,
    /// What to write.
    pub rows: Rows,
}

/// What a commit holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Own Notar vote with its candidate (P3); the signer signs the statement. For the own proposal
    /// `candidate.signature` is still zero: it is the signature of this very vote.
    Notar {
        /// Notar(s,d).
        statement: Statement,
        /// The candidate.
        candidate: Box<Candidate>,
    },
    /// Own Final vote with the Notar certificate it rests on (P4).
    Final {
        /// Final(s,d).
        statement: Statement,
        /// Notar(s,d).
        cert: Cert,
    },
    /// Own Skip vote.
    Skip {
        /// Skip(s).
        statement: Statement,
    },
    /// The new highest Final certificate (C4).
    FinalCert {
        /// The certificate.
        cert: Cert,
    },
    /// The end of an epoch: durable before the first vote of the next one (P10).
    Seal {
        /// Header and certificate.
        seal: Box<Seal>,
    },
    /// The memory record (A3, A6).
    Memory {
        /// Replaces the one that is there.
        memory: Memory,
        /// The lease's generation becomes this in the same commit (A6).
        generation: Option<u32>,
    },
}

/// Why the core will never vote again in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Exit 70 (P7).
    Fenced,
    /// Exit 71 (P6).
    ConflictingVote,
    /// Exit 72 (C21): the own execution disagrees with a certified block.
    Diverged {
        /// Height whose roots differ.
        height: u64,
        /// Certified header that says so.
        digest: Hash,
    },
    /// Exit 72 (C21): two certificates contradict, so more than fw is Byzantine.
    ContradictingCerts {
        /// Slot of both.
        slot: u64,
    },
    /// Exit 74 (A8).
    Twin,
    /// Exit 1 (A6): floors are durable, a restart votes above them.
    Recovered,
}

/// What observers may want to know; nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// F reached a slot (C6).
    SlotStarted {
        /// Its epoch, whose set the leader is of.
        epoch: u64,
        /// The slot.
        slot: u64,
        /// Its leader.
        leader: Index,
    },
    /// A valid proposal of a leader was seen.
    Proposed {
        /// Slot.
        slot: u64,
        /// Height.
        height: u64,
        /// Candidate.
        digest: Hash,
    },
    /// An own vote left.
    Voted {
        /// What for.
        statement: Statement,
    },
    /// A certificate came to be held.
    Certified {
        /// What was certified.
        statement: Statement,
    },
    /// A slot passed without a vote of its leader.
    Missed {
        /// Its epoch, whose set the leader is of.
        epoch: u64,
        /// The slot.
        slot: u64,
        /// Its leader.
        leader: Index,
    },
    /// A message was dropped, with a stable reason for the metric.
    Dropped {
        /// Why.
        reason: &'static str,
    },
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Write, then answer `Durable` or `WriteFailed`.
    Persist(Write),
    /// Send to one peer.
    Send {
        /// Whom.
        to: Index,
        /// What.
        message: Message,
    },
    /// Send to every connected peer.
    Broadcast(Message),
    /// Sign the mark and send it with what was seen, as a `MarkReply` (A4).
    Mark {
        /// `from` of the query.
        to: Index,
        /// Who asked: its key is under the signature.
        asker: PublicKey,
        /// To be signed.
        mark: Mark,
        /// Of the asker.
        seen: Seen,
        /// The asker's that are kept, if it wants them (A9).
        votes: Vec<Vote>,
    },
    /// Execute a block whose parent is executed and whose batches are durable; answer `Executed`.
    Execute {
        /// Digest of the candidate.
        digest: Hash,
        /// The candidate.
        candidate: Box<Candidate>,
    },
    /// These blocks are final, in order (C19). All are executed or were asked to be.
    Finalized {
        /// Digest and candidate of each.
        blocks: Vec<(Hash, Candidate)>,
        /// Final certificate of the last one.
        cert: Cert,
    },
    /// Send this durable batch to a peer that has to lead and may lack it (C12).
    Announce {
        /// The leader of the slot in progress.
        to: Index,
        /// Digest of the batch.
        batch: Hash,
    },
    /// An epoch has begun (E5): its sets, and the roster, which may have grown.
    Entered {
        /// Of the new epoch.
        sets: Sets,
        /// Peers by number; those that were there keep theirs.
        roster: Vec<PublicKey>,
    },
    /// Give a `Tick` at this monotonic time; replaces the last one.
    Timer(u64),
    /// Somebody signed what contradicts (X2): for people; the core itself puts it into a block.
    Evidence(Evidence),
    /// Two durable batches of one author have one number (X2 e): answer `Evidence` made of both.
    TwoBatches {
        /// Digest of the one known before.
        first: Hash,
        /// Of the other.
        second: Hash,
    },
    /// A peer has final blocks far beyond ours: block sync should ask for them (S1).
    Behind {
        /// Who has them.
        peer: Index,
        /// Its height.
        height: u64,
    },
    /// Stop voting, say why, exit with the code (C21).
    Halt(Halt),
    /// For subscribers and metrics.
    Event(Event),
}
