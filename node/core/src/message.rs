//! What validators send each other over an authenticated channel (protocol.md F8), and what those send them that are none.

use crate::batch::Batch;
use crate::block::{Block, Candidate, Header, Proposal, Reproposal, Seal};
use crate::codec;
use crate::hash::Hash;
use crate::memory::MarkReply;
use crate::state::chunk::StateChunk;
use crate::transaction::SignedTransaction;
use crate::vote::{Cert, Vote};
use borsh::{BorshDeserialize, BorshSerialize};

/// Digests of one request.
pub const MAX_REQUEST: usize = 64;
/// Blocks of one reply.
pub const MAX_BLOCKS: usize = 256;
/// Headers of one reply that lead from its last block up to the certified one. Bytes bound it first where headers are full:
/// of the largest, 5.2 KiB each, more than 256 fit beside a block of 2 MiB.
pub const MAX_HEADERS: usize = 4_096;
/// Snapshots that a node keeps at most, and may offer.
pub const MAX_SNAPSHOTS: usize = 4;
/// Transactions that one message passes on; bytes bound them first, for the smallest takes more than 64.
pub const MAX_TRANSACTIONS: usize = 1_024;
/// Bytes of any encoded message (S4).
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Where a validator stands (C18).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Status {
    /// Epoch.
    pub epoch: u64,
    /// s*: slot of the highest Final certificate held.
    pub final_slot: u64,
    /// F: least uncleared slot.
    pub frontier: u64,
    /// Height of the last final block that it executed; its ledger may lack the newest of them for a moment.
    pub height: u64,
    /// False: shall not lead now (stopping, or its database is down).
    pub ready: bool,
}

/// Final blocks from a ledger, with what proves them (S1).
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Blocks {
    /// Consecutive, the first one as asked for; empty where the sender has not got them.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_BLOCKS>")]
    pub blocks: Vec<Block>,
    /// Headers of the blocks after them, up to the one that `cert` is of; empty where that is the last of `blocks`.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_HEADERS>")]
    pub headers: Vec<Header>,
    /// Final certificate of the last header; absent where `blocks` is empty.
    pub cert: Option<Cert>,
    /// Least height whose batches the sender keeps: it need not be asked for those below.
    pub lowest: u64,
}

/// Final headers from a ledger (S3).
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Headers {
    /// Consecutive, the first one as asked for; empty where the sender has not got them.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_HEADERS>")]
    pub headers: Vec<Header>,
    /// Final certificate of the last one; absent where `headers` is empty.
    pub cert: Option<Cert>,
}

/// A part of the state after a block (S3).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Snapshot {
    /// Heights of the snapshots that the sender has.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_SNAPSHOTS>")]
    pub heights: Vec<u64>,
    /// The height asked for.
    pub height: u64,
    /// The key asked for.
    pub from: Hash,
    /// Leaves from that key on; absent where the sender has no snapshot of this height.
    pub chunk: Option<StateChunk>,
}

/// Everything on the wire. The borsh tag is the position: append only.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Message {
    /// Every 500 ms and on connecting.
    Status(Status),
    /// A leader's block.
    Proposal(Box<Proposal>),
    /// A vote, of the sender unless resent.
    Vote(Vote),
    /// A certificate.
    Cert(Cert),
    /// A sealed batch, from its author.
    Batch(Box<Batch>),
    /// Asks for candidates by digest (C14).
    CandReq {
        /// At most [`MAX_REQUEST`].
        #[borsh(deserialize_with = "codec::capped::<_, _, MAX_REQUEST>")]
        digests: Vec<Hash>,
    },
    /// One candidate asked for.
    Cand(Box<Candidate>),
    /// Asks for batches by digest (C14).
    BatchReq {
        /// At most [`MAX_REQUEST`].
        #[borsh(deserialize_with = "codec::capped::<_, _, MAX_REQUEST>")]
        digests: Vec<Hash>,
    },
    /// Batches asked for.
    Batches {
        /// At most [`MAX_REQUEST`].
        #[borsh(deserialize_with = "codec::capped::<_, _, MAX_REQUEST>")]
        batches: Vec<Batch>,
    },
    /// Asks for the clearing certificates of slots (C15).
    CertReq {
        /// At most [`MAX_REQUEST`].
        #[borsh(deserialize_with = "codec::capped::<_, _, MAX_REQUEST>")]
        slots: Vec<u64>,
    },
    /// Certificates asked for, or resent (C15, C17).
    Certs {
        /// At most [`MAX_REQUEST`].
        #[borsh(deserialize_with = "codec::capped::<_, _, MAX_REQUEST>")]
        certs: Vec<Cert>,
    },
    /// Asks for final blocks from a height on (S1).
    BlocksReq {
        /// First height.
        from: u64,
        /// Most blocks wanted, at most [`MAX_BLOCKS`].
        count: u32,
    },
    /// The answer to it.
    Blocks(Blocks),
    /// Asks for the receiver's mark, and what it has seen of the sender's key (A2, A5).
    MarkQuery {
        /// Goes into the answer.
        nonce: Hash,
        /// Epoch and slot above which the sender wants its votes that the receiver keeps, if it does (A9).
        votes_above: Option<(u64, u64)>,
    },
    /// The answer.
    MarkReply(Box<MarkReply>),
    /// A boundary block again (E4).
    Reproposal(Box<Reproposal>),
    /// Asks for the Seal of an epoch (E7).
    SealReq {
        /// Which.
        epoch: u64,
    },
    /// The end of the receiver's epoch (C18, E7).
    Seal(Box<Seal>),
    /// Asks for final headers from a height on (S3).
    HeadersReq {
        /// First height.
        from: u64,
        /// How many are wanted, at most [`MAX_HEADERS`]; the answer may go on to a certificate.
        count: u32,
    },
    /// The answer to it.
    Headers(Headers),
    /// Asks for a part of a snapshot (S3).
    SnapshotReq {
        /// Its height; 0: only which ones there are is asked.
        height: u64,
        /// Key from which on leaves are wanted.
        from: Hash,
    },
    /// The answer to it.
    Snapshot(Box<Snapshot>),
    /// From a node of no set to a member, which seals them as its own and answers nothing.
    Transactions {
        /// Those of one sender by nonce; at most [`MAX_TRANSACTIONS`].
        #[borsh(deserialize_with = "codec::capped::<_, _, MAX_TRANSACTIONS>")]
        transactions: Vec<SignedTransaction>,
    },
}

impl Message {
    /// Whether only those who take part in consensus have any use for it, or can say it: all but what a follower asks or
    /// passes on, and what answers it.
    pub fn is_of_consensus(&self) -> bool {
        match self {
            Message::Status(_)
            | Message::BlocksReq { .. }
            | Message::Blocks(_)
            | Message::MarkQuery { .. }
            | Message::MarkReply(_)
            | Message::HeadersReq { .. }
            | Message::Headers(_)
            | Message::SnapshotReq { .. }
            | Message::Snapshot(_)
            | Message::Transactions { .. } => false,
            Message::Proposal(_)
            | Message::Vote(_)
            | Message::Cert(_)
            | Message::Certs { .. }
            | Message::CandReq { .. }
            | Message::Cand(_)
            | Message::CertReq { .. }
            | Message::Batch(_)
            | Message::BatchReq { .. }
            | Message::Batches { .. }
            | Message::Reproposal(_)
            | Message::SealReq { .. }
            | Message::Seal(_) => true,
        }
    }

    /// Name in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Status(_) => "status",
            Message::Proposal(_) => "proposal",
            Message::Vote(_) => "vote",
            Message::Cert(_) => "cert",
            Message::Batch(_) => "batch",
            Message::CandReq { .. } => "cand_req",
            Message::Cand(_) => "cand",
            Message::BatchReq { .. } => "batch_req",
            Message::Batches { .. } => "batches",
            Message::CertReq { .. } => "cert_req",
            Message::Certs { .. } => "certs",
            Message::BlocksReq { .. } => "blocks_req",
            Message::Blocks(_) => "blocks",
            Message::MarkQuery { .. } => "mark_query",
            Message::MarkReply(_) => "mark_reply",
            Message::Reproposal(_) => "reproposal",
            Message::SealReq { .. } => "seal_req",
            Message::Seal(_) => "seal",
            Message::HeadersReq { .. } => "headers_req",
            Message::Headers(_) => "headers",
            Message::SnapshotReq { .. } => "snapshot_req",
            Message::Snapshot(_) => "snapshot",
            Message::Transactions { .. } => "transactions",
        }
    }
}
