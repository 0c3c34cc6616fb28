//! All that can come into the core (protocol.md §3.1).

use crate::batch::BatchRef;
use crate::block::{Candidate, Header, Proposal, Reproposal, Seal};
use crate::epoch::Epochs;
use crate::evidence::Evidence;
use crate::hash::Hash;
use crate::hello::Heard;
use crate::key::{PublicKey, Signature};
use crate::memory::{MarkReply, Memory};
use crate::message::Status;
use crate::record::RecordKey;
use crate::validators::{Index, ValidatorSet};
use crate::vote::{Cert, Vote};
use std::sync::Arc;

/// Time of a step, both in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic; never goes back.
    pub mono_ms: u64,
    /// Wall clock since 1970; used for H1 and header times only.
    pub wall_ms: u64,
}

/// Number of a write asked for by [`super::output::Output::Persist`], unique in a process.
pub type WriteId = u64;

/// What executing a block gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roots {
    /// State root.
    pub state: Hash,
    /// Merkle root of the results of its transactions.
    pub results: Hash,
    /// Version that the block after it must have, by the upgrades in the state (V1).
    pub next_version: u16,
}

/// Why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// The database failed, or whether it committed is unknown: no vote until restart (P6).
    Unknown,
    /// Another process has taken the lease (P7): exit 70.
    Fenced,
    /// The row exists with another value (P6): exit 71.
    Conflict,
}

/// A final block the core may build on without knowing what lies below it.
///
/// Its slot is that of its own epoch here, and 0 to its child where it is the last of an epoch (M4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Digest of its header; the genesis hash at height 0.
    pub digest: Hash,
    /// Slot, 0 for genesis.
    pub slot: u64,
    /// Height, 0 for genesis.
    pub height: u64,
    /// Its time, 0 for genesis.
    pub time_ms: u64,
    /// What executing it gave.
    pub roots: Roots,
}

/// The last synced block is the last of its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Its header.
    pub header: Header,
    /// The set that the state after it decides: set(e+2) for one of epoch e (E1).
    pub set: Arc<ValidatorSet>,
}

/// Something happened. Peers are numbers of the roster (`Config::roster`), which is the shell's own.
#[derive(Clone, Debug)]
pub enum Input {
    /// A leader's proposal, from whoever.
    Proposal {
        /// Authenticated sender.
        from: Index,
        /// The proposal.
        proposal: Proposal,
    },
    /// A vote.
    Vote {
        /// Authenticated sender, not always the signer.
        from: Index,
        /// The vote.
        vote: Vote,
    },
    /// A certificate.
    Cert {
        /// Authenticated sender.
        from: Index,
        /// The certificate.
        cert: Cert,
    },
    /// A candidate that was asked for.
    Cand {
        /// Authenticated sender.
        from: Index,
        /// The candidate.
        candidate: Candidate,
    },
    /// A boundary block again (E4).
    Reproposal {
        /// Authenticated sender.
        from: Index,
        /// The proposal.
        reproposal: Reproposal,
    },
    /// The end of an epoch (E5, C18).
    Seal {
        /// Authenticated sender.
        from: Index,
        /// Header and certificate.
        seal: Seal,
    },
    /// A peer wants the Seal of an epoch (E7).
    SealReq {
        /// Authenticated sender.
        from: Index,
        /// Which.
        epoch: u64,
    },
    /// A peer's position.
    Status {
        /// Authenticated sender.
        from: Index,
        /// The position.
        status: Status,
    },
    /// A peer wants candidates.
    CandReq {
        /// Authenticated sender.
        from: Index,
        /// Which.
        digests: Vec<Hash>,
    },
    /// A peer wants the clearing certificates of slots.
    CertReq {
        /// Authenticated sender.
        from: Index,
        /// Which.
        slots: Vec<u64>,
    },
    /// A channel to a peer is up.
    Connected {
        /// Who.
        peer: Index,
    },
    /// The channel to a peer is gone.
    Disconnected {
        /// Who.
        peer: Index,
    },
    /// What a peer said of itself on a channel that is up; the channel has verified it.
    Greeted {
        /// Who.
        peer: Index,
        /// Its Hello.
        heard: Heard,
    },
    /// Somebody wants to know what we voted for, and what we saw of its votes (A2, A5): a peer, or who is in no set near this
    /// epoch and may be in a later one.
    MarkQuery {
        /// Goes into the output as it is: only the key says who asks.
        from: Index,
        /// Authenticated key of the sender.
        asker: PublicKey,
        /// Goes into the answer.
        nonce: Hash,
        /// Epoch and slot above which it wants its votes that are kept here, if it does (A9).
        votes_above: Option<(u64, u64)>,
    },
    /// An answer to our own query.
    MarkReply {
        /// Authenticated sender.
        from: Index,
        /// The answer.
        reply: MarkReply,
    },
    /// A timer that was asked for is due; harmless at any time.
    Tick,
    /// A batch is verified and durable here.
    BatchDurable {
        /// What headers say of it.
        reference: BatchRef,
        /// Author's sequence number: leaders keep an author's batches in its order.
        seq: u64,
        /// Last height that may include it.
        expiry_height: u64,
    },
    /// A block is executed (asked for by `Execute`).
    Executed {
        /// Which.
        digest: Hash,
        /// What that gave.
        roots: Roots,
        /// Of the last block of epoch e only: set(e+2), which the state after it decides (E1).
        set: Option<Arc<ValidatorSet>>,
    },
    /// A write is durable.
    Durable {
        /// Which.
        write: WriteId,
        /// Signature of the vote that it held, if it held one.
        signature: Option<Signature>,
    },
    /// A write is not, or not known to be, durable.
    WriteFailed {
        /// Which.
        write: WriteId,
        /// Why.
        failure: WriteFailure,
    },
    /// Final blocks came by block sync and are executed; they are on their way to the ledger. The core goes on from there.
    Synced {
        /// The last of them.
        tip: Tip,
        /// A Final certificate of it, or of a block above it.
        cert: Cert,
        /// Batches of the synced blocks, with their expiry heights.
        included: Vec<(Hash, u64)>,
        /// Nullifiers that their evidence left (X4).
        nullifiers: Vec<RecordKey>,
        /// Where the last of them ends its epoch.
        boundary: Option<Box<Boundary>>,
    },
    /// Proof against a validator, made of two batches (X2 e).
    Evidence(Evidence),
    /// Whether the writer of the state is behind: if so, lead with empty blocks (C7).
    Lagging(bool),
    /// Whether this validator may lead and vote at all: false while stopping or without a database.
    Ready(bool),
}

/// What a restart finds in the ledger (P8).
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Last block of the ledger; the epoch of its child is that of [`Config::sets`](super::Config::sets).
    pub tip: Tip,
    /// Ends of the last epochs (P10). Required is that of the epoch before the tip's child ([`Recovered::lacks_seal`]), which the
    /// ledger may hold as the block and its certificate only; the others help stragglers, or show what began before the start.
    pub seals: Vec<Seal>,
    /// Final certificate of the highest final slot held, if any; its slot is s*.
    pub final_cert: Option<Cert>,
    /// Own votes above the vote floor.
    pub votes: Vec<Vote>,
    /// Notar certificates stored with Final rows (P4).
    pub certs: Vec<Cert>,
    /// Candidates voted for, above the tip.
    pub candidates: Vec<Candidate>,
    /// Durable batches that are in no final block.
    pub batches: Vec<(BatchRef, u64, u64)>,
    /// Batches in final blocks that are not expired yet, with their expiry heights.
    pub included: Vec<(Hash, u64)>,
    /// No vote at or below this position, epoch and slot, ever (P9).
    pub vote_floor: (u64, u64),
    /// Headers of the last final blocks, newest last, for peers that ask for candidates.
    pub recent: Vec<Header>,
    /// Nullifiers of evidence in the state (X4).
    pub nullifiers: Vec<RecordKey>,
    /// What the database knows of the key's past (A1).
    pub memory: Memory,
    /// Lease generation of this process (P8).
    pub generation: u32,
}

impl Recovered {
    /// **P10** The epoch whose Seal a start needs and does not have: without it nobody votes before a peer has sent it, and whoever is
    /// alone never does.
    pub fn lacks_seal(&self, epochs: Epochs) -> Option<u64> {
        let before = epochs.after(self.tip.height).checked_sub(1)?;
        self.seals.iter().all(|seal| seal.header.epoch != before).then_some(before)
    }
}
