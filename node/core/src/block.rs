//! Headers, candidates and finalized blocks (protocol.md F5, F6).

use crate::batch::{Batch, BatchRef};
use crate::codec;
use crate::evidence::Evidence;
use crate::hash::{Domain, Hash, hash};
use crate::key::Signature;
use crate::params::{MAX_BLOCK_BATCHES, MAX_EVIDENCE, MAX_INLINE_CERTS};
use crate::validators::Index;
use crate::vote::{Cert, Kind, Statement, Vote};
use borsh::{BorshDeserialize, BorshSerialize};

/// Version of the blocks of a chain before its first upgrade.
pub const FIRST_VERSION: u16 = 1;
/// The newest version of blocks that this program makes and judges (V1). What was scheduled beyond it needs another program.
pub const VERSION: u16 = 1;

/// A block without its batches. The roots are those after executing the parent (lag 1).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Header {
    /// Version of the format and of all rules: the one scheduled for this height (V1).
    pub version: u16,
    /// Epoch.
    pub epoch: u64,
    /// Slot in the epoch.
    pub slot: u64,
    /// Parent's height + 1; genesis is 0.
    pub height: u64,
    /// Slot of the parent, 0 for the floor.
    pub parent_slot: u64,
    /// Digest of the parent.
    pub parent: Hash,
    /// State root after the parent.
    pub parent_state_root: Hash,
    /// Root of the parent's transaction results.
    pub parent_results_root: Hash,
    /// Wall-clock milliseconds since 1970 by the leader's clock; greater than the parent's.
    pub time_ms: u64,
    /// Leader of the slot.
    pub proposer: Index,
    /// Hash of this epoch's set.
    pub set_hash: Hash,
    /// Hash of the next epoch's set.
    pub next_set_hash: Hash,
    /// The transactions, by batch.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_BLOCK_BATCHES>")]
    pub batches: Vec<BatchRef>,
    /// Proofs of double voting.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_EVIDENCE>")]
    pub evidence: Vec<Evidence>,
}

impl Header {
    /// d = H(`header`) (F5).
    pub fn digest(&self) -> Hash {
        hash(Domain::Header, &[&codec::encode(self)])
    }

    /// Number of transactions, by the references.
    pub fn tx_count(&self) -> u64 {
        self.batches.iter().map(|b| u64::from(b.txs)).sum()
    }

    /// Bytes of its batches, by the references.
    pub fn batch_bytes(&self) -> u64 {
        self.batches.iter().map(|b| u64::from(b.bytes)).sum()
    }

    /// The leader's Notar statement on this header, whose digest the caller has.
    pub fn notar(&self, digest: Hash) -> Statement {
        Statement { epoch: self.epoch, slot: self.slot, kind: Kind::Notar, digest }
    }
}

/// A header with the leader's Notar vote, which signs it (F6, D2): what is stored and fetched.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Candidate {
    /// The header.
    pub header: Header,
    /// Signature of the leader's Notar vote on it.
    pub signature: Signature,
}

impl Candidate {
    /// Without its leader's signature, which zeros stand for: its own that is not signed yet, or one that a certificate covers,
    /// which needs none (D23).
    pub fn unsigned(header: Header) -> Candidate {
        Candidate { header, signature: Signature([0; 64]) }
    }

    /// Whether it has its leader's signature.
    pub fn is_signed(&self) -> bool {
        self.signature != Signature([0; 64])
    }

    /// The leader's Notar vote.
    pub fn vote(&self, digest: Hash) -> Vote {
        Vote { statement: self.header.notar(digest), signer: self.header.proposer, signature: self.signature }
    }
}

/// A candidate as it is proposed, with what proves its base (F6).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Proposal {
    /// Header and signature.
    pub candidate: Candidate,
    /// Notar or Final certificate of the base and Skip certificates of the gap; what is missing comes by C15.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_INLINE_CERTS>")]
    pub proof: Vec<Cert>,
}

/// A boundary block proposed again in a later slot of its epoch, so that it becomes final (E4, F6).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Reproposal {
    /// Epoch.
    pub epoch: u64,
    /// The slot it is proposed in now.
    pub slot: u64,
    /// The boundary block.
    pub digest: Hash,
    /// Signature of the Notar vote of the leader of `slot` on it.
    pub signature: Signature,
    /// Notar certificate of the block in an earlier slot and Skip certificates of the gap.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_INLINE_CERTS>")]
    pub proof: Vec<Cert>,
}

/// What ends an epoch: its boundary block and a Final certificate of it (E5).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Seal {
    /// The boundary block.
    pub header: Header,
    /// Final(s, d) of it, for any slot s of the epoch.
    pub cert: Cert,
}

/// A finalized block as block sync sends it and the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// Its batches, in the order of the header.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_BLOCK_BATCHES>")]
    pub batches: Vec<Batch>,
}
