//! What a valid header is: V1-V8, one function each (protocol.md §2).
//!
//! A header is checked in two parts: alone as it comes in, and against its parent once that is here. V5, which needs the
//! parent's execution, is checked apart (`examine.rs`), for it alone can fail by the own fault (C21).

use super::batches::BatchBook;
use super::state::{Config, Facts};
use crate::block::Header;
use crate::epoch::Epochs;
use crate::evidence::Evidence;
use crate::hash::Hash;
use crate::key::Signature;
use crate::params::{MAX_BLOCK_BATCHES, MAX_BLOCK_BYTES, MAX_BLOCK_TXS, MAX_EVIDENCE, MAX_HEADER_BYTES};
use crate::record::RecordKey;
use std::collections::BTreeSet;

/// The rule that a header breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// V1: a version that is not due at this height, or that this program does not speak.
    Version,
    /// V1: epoch, slots or leader.
    Position,
    /// V2: height or parent.
    Parent,
    /// V2, E3: a height of another epoch.
    Epoch,
    /// V3: hash of a set.
    Sets,
    /// V4: not later than its parent.
    Time,
    /// V5: other roots than the own execution has.
    Roots,
    /// V6: the batches.
    Batches,
    /// V7: the evidence.
    Evidence,
    /// V8: too long.
    Size,
}

impl Invalid {
    /// Stable name for metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Invalid::Version => "v1_version",
            Invalid::Position => "v1_position",
            Invalid::Parent => "v2_parent",
            Invalid::Epoch => "e3_height",
            Invalid::Sets => "v3_sets",
            Invalid::Time => "v4_time",
            Invalid::Roots => "v5_roots",
            Invalid::Batches => "v6_batches",
            Invalid::Evidence => "v7_evidence",
            Invalid::Size => "v8_size",
        }
    }
}

fn must(holds: bool, invalid: Invalid) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(invalid) }
}

/// What can be said of a header by itself: V1 but the signature, V3, V6's limits, V7's shapes, V8.
pub(super) fn check_alone(header: &Header, config: &Config) -> Result<(), Invalid> {
    check_v1(header, config)?;
    check_v3(header, config)?;
    check_v6_limits(header, config)?;
    check_v7_shape(header, config)?;
    check_v8(header)
}

/// What needs the parent and the batches: the rest of V1, V2, V4, the rest of V6. `taken` are the batches of ancestors above the tip.
pub(super) fn check_on_parent(
    header: &Header,
    parent: &Facts,
    epochs: Epochs,
    taken: &BTreeSet<Hash>,
    book: &BatchBook,
) -> Result<(), Invalid> {
    check_v1_due(header, parent)?;
    check_v2(header, parent, epochs)?;
    check_v4(header, parent)?;
    check_v6_batches(header, taken, book)
}

/// **V1** but the signature and which version is due: one that is spoken here, epoch, parent below, the slot's leader.
pub(super) fn check_v1(header: &Header, config: &Config) -> Result<(), Invalid> {
    let Header { version, epoch, slot, parent_slot, proposer, .. } = *header;
    must(version <= config.version, Invalid::Version)?;
    let position = epoch == config.epoch() && parent_slot < slot;
    must(position && proposer == config.set.leader(epoch, slot), Invalid::Position)
}

/// **V1** the version is the one scheduled for this height, as the state after the parent has it.
pub(super) fn check_v1_due(header: &Header, parent: &Facts) -> Result<(), Invalid> {
    must(parent.roots.is_none_or(|roots| roots.next_version == header.version), Invalid::Version)
}

/// **V2, E3** height is the parent's + 1 and of the epoch, so that no block is above H_e and none extends a boundary block
/// inside its epoch; and the parent is the block of its slot, the floor for slot 0.
pub(super) fn check_v2(header: &Header, parent: &Facts, epochs: Epochs) -> Result<(), Invalid> {
    let linked = header.parent == parent.digest && header.parent_slot == parent.slot;
    must(linked && header.height == parent.height + 1, Invalid::Parent)?;
    must(epochs.of(header.height) == header.epoch, Invalid::Epoch)
}

/// **V3** both set hashes are the own ones.
pub(super) fn check_v3(header: &Header, config: &Config) -> Result<(), Invalid> {
    must(header.set_hash == config.set_hash && header.next_set_hash == config.next_set_hash, Invalid::Sets)
}

/// **V4** later than the parent.
pub(super) fn check_v4(header: &Header, parent: &Facts) -> Result<(), Invalid> {
    must(header.time_ms > parent.time_ms, Invalid::Time)
}

/// **V5** the roots are those of the own execution of the parent, `None` until that is done (H2).
pub(super) fn check_v5(header: &Header, parent: &Facts) -> Option<Result<(), Invalid>> {
    let roots = parent.roots?;
    let equal = header.parent_state_root == roots.state && header.parent_results_root == roots.results;
    Some(must(equal, Invalid::Roots))
}

/// **V6**, first part: count, bytes, transactions, known authors, nothing twice.
pub(super) fn check_v6_limits(header: &Header, config: &Config) -> Result<(), Invalid> {
    let (mut bytes, mut txs, mut seen) = (0u64, 0u64, BTreeSet::new());
    for batch in &header.batches {
        bytes += u64::from(batch.bytes);
        txs += u64::from(batch.txs);
        let author = config.sets.of_batch(batch.epoch).is_some_and(|set| set.get(batch.author).is_some());
        must(author && seen.insert(batch.digest), Invalid::Batches)?;
    }
    let within = header.batches.len() <= MAX_BLOCK_BATCHES && bytes <= MAX_BLOCK_BYTES && txs <= MAX_BLOCK_TXS;
    must(within, Invalid::Batches)
}

/// **V6**, second part: each batch is here as the header says, not expired, and in no ancestor. That it is well-formed and
/// all its signatures are valid was checked before it was made durable.
pub(super) fn check_v6_batches(header: &Header, taken: &BTreeSet<Hash>, book: &BatchBook) -> Result<(), Invalid> {
    let fits = |reference: &crate::batch::BatchRef| {
        let known = book.get(&reference.digest);
        known.is_some_and(|known| known.reference == *reference && known.may_be_in(header.height))
            && !taken.contains(&reference.digest)
    };
    must(header.batches.iter().all(fits), Invalid::Batches)
}

/// **V7**, first part: at most 8, each a contradiction of one member in a fresh epoch, in its one form, none twice (X1 but the
/// signatures, X2, X3).
pub(super) fn check_v7_shape(header: &Header, config: &Config) -> Result<(), Invalid> {
    must(header.evidence.len() <= MAX_EVIDENCE, Invalid::Evidence)?;
    let mut seen = BTreeSet::new();
    for evidence in &header.evidence {
        let set = config.sets.of(evidence.epoch());
        let offence = set.and_then(|set| evidence.check_shape(&config.chain, set, header.epoch).ok());
        must(offence.is_some_and(|offence| seen.insert(RecordKey::nullifier(&offence))), Invalid::Evidence)?;
    }
    Ok(())
}

/// **V7**, second part: all signatures (X1). Looked at last, for each costs as much as all else together.
pub(super) fn check_v7_signatures(header: &Header, config: &Config) -> Result<(), Invalid> {
    let valid = |evidence: &Evidence| {
        let set = config.sets.of(evidence.epoch());
        let verifies = |signer, message: &[u8], signature: &Signature| {
            let key = set.and_then(|set| set.get(signer)).map(|member| &member.key);
            key.is_some_and(|key| config.verifier.verifies(key, message, signature))
        };
        evidence.check_signatures(&config.chain, verifies).is_ok()
    };
    must(header.evidence.iter().all(valid), Invalid::Evidence)
}

/// **V7**, last part: none of which the parent's state has the nullifier (X4).
pub(super) fn check_v7_once(
    header: &Header,
    config: &Config,
    settled: impl Fn(&RecordKey) -> bool,
) -> Result<(), Invalid> {
    let again =
        { RecordKey::nullifiers(&header.evidence, |epoch| config.sets.of(epoch).cloned()).any(|key| settled(&key)) };
    must(!again, Invalid::Evidence)
}

/// **V8** at most 64 KiB.
pub(super) fn check_v8(header: &Header) -> Result<(), Invalid> {
    let bytes = borsh::object_length(header).unwrap_or(usize::MAX);
    must(bytes <= MAX_HEADER_BYTES, Invalid::Size)
}
