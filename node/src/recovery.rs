//! From what is durable to where the node goes on: state rebuilt, root compared, blocks replayed (protocol.md P8).

use crate::commit::Folded;
use crate::executor::{receipt_rows, tip, transaction_rows};
use crate::storage::{
    LedgerSnapshot, ReceiptRow, StateWrite, Storage, StorageError, StoredBlock, StoredSnapshot, TransactionRow, Undo,
};
use crate::view::{BlockSummary, Identity, Snapshot};
use aitbc_core::batch::VerifiedBatch;
use aitbc_core::block::{Block, Seal, VERSION};
use aitbc_core::codec;
use aitbc_core::consensus::input::Recovered;
use aitbc_core::epoch::{Epochs, Sets};
use aitbc_core::hash::Hash;
use aitbc_core::ledger::{self, Context, Executed, Rules};
use aitbc_core::memory::{Cause, Memory};
use aitbc_core::params::{KEEP_FINAL_SLOTS, MAX_EXPIRY_AHEAD};
use aitbc_core::staking::motion::Upgrade;
use aitbc_core::state::{ProvenLeaf, State};
use std::sync::Arc;
use tracing::{info, warn};

/// Blocks read at once when replaying.
const REPLAY_BLOCKS: u64 = 128;
/// Bytes of batches read at once when replaying.
const REPLAY_BYTES: usize = 16 << 20;

/// Why a node cannot go on from its database.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Accounts and records do not hash to the root stored with them.
    #[error(
        "state at height {height} has root {found}, {expected} was stored with it: it was changed by hand or is damaged"
    )]
    StateRoot {
        /// Applied height.
        height: u64,
        /// Of accounts and records.
        found: Hash,
        /// Stored.
        expected: Hash,
    },
    /// Executing a block of the ledger gives other roots than the next header says (C21).
    #[error("replaying block {height} gives other roots than the certified header after it says")]
    Diverged {
        /// The block.
        height: u64,
    },
    /// Blocks of a newer program must be executed again: this one is older than the one that wrote them (V1).
    #[error(
        "block {height} of the ledger has version {version}, and this program speaks up to {VERSION}: its state was not \
         stored yet, so start the newer program again"
    )]
    Version {
        /// The block.
        height: u64,
        /// Its version.
        version: u16,
    },
    /// Blocks must be executed again, and their transactions were deleted by `PRUNING`.
    #[error(
        "the state is at height {height}, but blocks below {lowest} lost their transactions (PRUNING): restore the whole \
         database, state and ledger together, or start with an empty one"
    )]
    Pruned {
        /// Height of the state, 0 where it is lost.
        height: u64,
        /// Least height whose transactions are there.
        lowest: u64,
    },
    /// The ledger lacks a block that must be there.
    #[error("block {height} is missing in the ledger, whose head is {head}")]
    Hole {
        /// The block.
        height: u64,
        /// The head.
        head: u64,
    },
    /// The state does not say who validates (E1).
    #[error(
        "the state at height {height} does not hold the validators of its epochs: it is damaged or of another build"
    )]
    Sets {
        /// Applied height.
        height: u64,
    },
}

/// What a start knows besides the database.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Generation just taken (P8).
    pub generation: u32,
    /// Somebody asserts that the key has never voted on this chain (A1).
    pub first_start: bool,
}

/// What a start goes on from.
pub struct Start {
    /// What readers see first.
    pub snapshot: Snapshot,
    /// What the core needs.
    pub recovered: Recovered,
}

/// Reads the ledger (after the lease was taken), brings the state to its head and describes both.
///
/// # Errors
/// Where the database fails, or does not agree with itself.
pub async fn recover(
    storage: &Arc<dyn Storage>,
    identity: &Identity,
    rules: &Rules,
    lease: Lease,
) -> Result<Start, RecoveryError> {
    let mut ledger = storage.load_ledger().await?;
    p10_seal(storage, identity, &mut ledger).await?;
    let memory = a1_memory(storage, ledger.memory.clone(), lease.first_start).await?;
    let head = ledger.head.as_ref().map_or(0, |b| b.candidate.header.height);
    let mut end = load_state(storage, identity, rules).await?;
    if end.head.height > head {
        // Cannot happen: the state is written after the ledger. It would mean a restored ledger.
        return Err(RecoveryError::Hole { height: end.head.height, head });
    }
    if end.head.height < head {
        info!(from = end.head.height + 1, to = head, "replaying blocks whose state was not stored");
    }
    let (height, lowest) = (end.head.height, storage.lowest());
    if height < head && height + 1 < lowest {
        return Err(RecoveryError::Pruned { height, lowest });
    }
    while end.head.height < head {
        end = replay(storage, identity, rules, end, head).await?;
    }
    let recent = storage.headers(head.saturating_sub(KEEP_FINAL_SLOTS).max(1), head).await?;
    let end = with_parent(storage, end).await?;
    let mut recovered = recovered(ledger, &end, recent, memory, lease.generation);
    recovered.included.extend(named_below(storage, lowest, head).await?);
    Ok(Start { snapshot: end, recovered })
}

/// **P10.** The end of the epoch before that of the next block, where its row is not there: the blocks are written by another
/// lane, and with them its certificate.
async fn p10_seal(
    storage: &Arc<dyn Storage>,
    identity: &Identity,
    ledger: &mut LedgerSnapshot,
) -> Result<(), RecoveryError> {
    let epochs = epochs(identity);
    let head = ledger.head.as_ref().map_or(0, |block| block.candidate.header.height);
    let Some(before) = epochs.after(head).checked_sub(1) else { return Ok(()) };
    if ledger.seals.iter().any(|seal| seal.header.epoch == before) {
        return Ok(());
    }
    let height = epochs.last(before);
    let Some(block) = storage.block(height).await? else { return Err(RecoveryError::Hole { height, head }) };
    let Some(cert) = block.cert else {
        // Nothing extends it without one, so somebody changed the row; a peer has another.
        warn!(
            height,
            "the last block of the epoch before has no certificate here: no vote until a peer sends one (P10)"
        );
        return Ok(());
    };
    ledger.seals.push(Seal { header: block.candidate.header, cert });
    Ok(())
}

/// **A1.** The memory record; a new database gets its own before anything is voted for: clean if somebody asserted that the
/// key has never voted, else quarantined (A3).
async fn a1_memory(
    storage: &Arc<dyn Storage>,
    found: Option<Memory>,
    first_start: bool,
) -> Result<Memory, StorageError> {
    if let Some(memory) = found {
        return Ok(memory);
    }
    let memory = match first_start {
        true => Memory::first_start(),
        false => Memory::default().quarantined(Cause::NewDatabase),
    };
    storage.commit_memory(memory.clone(), None).await?;
    Ok(memory)
}

/// The state as applied. One that was fetched and is not in the state's tables yet goes there first (S3): it is the base of
/// the ledger, and the blocks from which the tables could be made are not here.
async fn applied(storage: &Arc<dyn Storage>) -> Result<Option<StateWrite>, RecoveryError> {
    let applied = storage.load_state().await?;
    let Some(snapshot) = storage.snapshot(0).await? else { return Ok(applied) };
    let base = snapshot.height;
    let applied = match applied {
        Some(applied) if applied.height >= base => applied,
        _ => {
            info!(height = base, "putting the fetched state into its tables");
            let write = restored(storage, snapshot).await?;
            storage.reset_state(write.clone()).await?;
            write
        }
    };
    // If it is not on disk yet, a later start does this.
    if storage.flush_state().await?.is_some_and(|durable| durable >= base) {
        storage.forget_snapshot().await?;
    }
    Ok(Some(applied))
}

/// A fetched state as it goes into its tables, of which the first parts were read.
async fn restored(storage: &Arc<dyn Storage>, first: StoredSnapshot) -> Result<StateWrite, RecoveryError> {
    let StoredSnapshot { height, state_root, results_root, .. } = first;
    let (mut leaves, mut read, mut page): (Vec<ProvenLeaf>, u64, _) = (Vec::new(), 0, Some(first));
    while let Some(snapshot) = page {
        for part in &snapshot.parts {
            let part: Vec<ProvenLeaf> = codec::decode(part)
                .map_err(|cause| StorageError::Corrupt(format!("leaves of the state at height {height}: {cause}")))?;
            leaves.extend(part);
        }
        read += snapshot.parts.len() as u64;
        page = storage.snapshot(read).await?;
    }
    let state = State::from_leaves(leaves);
    let found = state.root();
    if found != state_root {
        return Err(RecoveryError::StateRoot { height, found, expected: state_root });
    }
    Ok(StateWrite::whole(height, &state, results_root))
}

/// Batches of the last blocks that have no rows because they were never here, with the greatest height at which they could be
/// named again: their headers say which must not (V6).
async fn named_below(storage: &Arc<dyn Storage>, lowest: u64, head: u64) -> Result<Vec<(Hash, u64)>, RecoveryError> {
    let (mut next, end) = (head.saturating_sub(MAX_EXPIRY_AHEAD - 1).max(1), head.min(lowest.saturating_sub(1)));
    let mut named = Vec::new();
    while next <= end {
        let headers = storage.headers(next, end).await?;
        if headers.is_empty() {
            return Err(RecoveryError::Hole { height: next, head });
        }
        for header in headers.iter().map(|stored| &stored.candidate.header) {
            if header.height != next {
                return Err(RecoveryError::Hole { height: next, head });
            }
            named.extend(header.batches.iter().map(|batch| (batch.digest, header.height + MAX_EXPIRY_AHEAD)));
            next += 1;
        }
    }
    Ok(named)
}

/// The state as applied, or genesis.
async fn load_state(storage: &Arc<dyn Storage>, identity: &Identity, rules: &Rules) -> Result<Snapshot, RecoveryError> {
    let at_genesis = |state: State, root| Snapshot {
        head: BlockSummary::genesis(identity.chain, root),
        state,
        parent_state: None,
        sets: Sets::genesis(identity.genesis_set.clone()),
    };
    let Some(applied) = applied(storage).await? else {
        let state = State::from_genesis(&identity.genesis);
        storage.reset_state(StateWrite::whole(0, &state, Hash::ZERO)).await?;
        let root = state.root();
        return Ok(at_genesis(state, root));
    };
    let state = applied.state();
    let found = state.root();
    if found != applied.state_root {
        return Err(RecoveryError::StateRoot { height: applied.height, found, expected: applied.state_root });
    }
    if applied.height == 0 {
        return Ok(at_genesis(state, found));
    }
    let stored = storage.block(applied.height).await?;
    let Some(stored) = stored else { return Err(RecoveryError::Hole { height: applied.height, head: 0 }) };
    let sets = state.sets(rules, epochs(identity), &identity.genesis_set, applied.height);
    let Some(sets) = sets else { return Err(RecoveryError::Sets { height: applied.height }) };
    let head = stored_summary(&sets, &stored, applied.state_root, applied.results_root);
    Ok(Snapshot { head, state, parent_state: None, sets })
}

/// The same with the state before the last block, where no block was replayed and the database has kept what that one changed
/// (S3). What was kept may be of another block, or changed by hand: the header knows.
async fn with_parent(storage: &Arc<dyn Storage>, end: Snapshot) -> Result<Snapshot, StorageError> {
    if end.parent_state.is_some() {
        return Ok(end);
    }
    let (undo, last) = (storage.undo().await?, storage.block(end.head.height).await?);
    let of_last = |(undo, last): (Undo, StoredBlock)| {
        let before = undo.before(&end.state);
        (before.root() == last.candidate.header.parent_state_root).then_some(before)
    };
    let parent_state = undo.filter(|undo| undo.height == end.head.height).zip(last).and_then(of_last);
    Ok(Snapshot { parent_state, ..end })
}

/// Executes some blocks beyond `end` and applies them, all in one transaction: of one each, most of the time is commits.
async fn replay(
    storage: &Arc<dyn Storage>,
    identity: &Identity,
    rules: &Rules,
    mut end: Snapshot,
    head: u64,
) -> Result<Snapshot, RecoveryError> {
    let from = end.head.height + 1;
    let blocks = storage.blocks(from, head.min(from + REPLAY_BLOCKS - 1), REPLAY_BYTES).await?;
    if blocks.is_empty() {
        return Err(RecoveryError::Hole { height: from, head });
    }
    let mut folded = Folded::default();
    for (stored, block) in blocks {
        let header = &stored.candidate.header;
        if header.height != end.head.height + 1 {
            return Err(RecoveryError::Hole { height: end.head.height + 1, head });
        }
        if (header.parent_state_root, header.parent_results_root) != (end.head.state_root, end.head.results_root) {
            return Err(RecoveryError::Diverged { height: end.head.height });
        }
        if let Some(Upgrade { version, .. }) = end.upgrade_due() {
            return Err(RecoveryError::Version { height: header.height, version });
        }
        let (executed, transactions, receipts) = execute(identity, rules, &end, &block);
        let summary = stored_summary(&end.sets, &stored, executed.state_root, executed.results_root);
        let sets = executed.state.sets_after(rules, epochs(identity), &end.sets, header.height);
        let accounts = executed.changed.iter().map(|(address, a)| (*address, a.balance, a.nonce)).collect();
        let (height, records) = (header.height, executed.changed_records);
        let (state_root, results_root) = (executed.state_root, executed.results_root);
        folded.add(StateWrite { height, state_root, results_root, accounts, records, transactions, receipts });
        end = Snapshot { head: summary, state: executed.state, parent_state: Some(end.state), sets };
    }
    storage.apply_state(folded.into_write()).await?;
    Ok(end)
}

fn epochs(identity: &Identity) -> Epochs {
    Epochs::by(&identity.genesis.parameters)
}

/// Executes a block on the end of the chain.
fn execute(
    identity: &Identity,
    rules: &Rules,
    end: &Snapshot,
    block: &Block,
) -> (Executed, Vec<TransactionRow>, Vec<ReceiptRow>) {
    let verified: Vec<VerifiedBatch> = block
        .batches
        .iter()
        .zip(&block.header.batches)
        // The ledger holds verified batches only.
        .map(|(b, r)| VerifiedBatch::trusted(Arc::new(b.clone()), r.digest, &identity.chain))
        .collect();
    let executed = ledger::execute(&end.state, rules, &Context::of(&block.header, &end.sets), &verified);
    let transactions = transaction_rows(block.header.height, &verified, &executed.results);
    let receipts = receipt_rows(&block.header, &verified, &executed);
    (executed, transactions, receipts)
}

fn recovered(
    ledger: LedgerSnapshot,
    end: &Snapshot,
    recent: Vec<StoredBlock>,
    memory: Memory,
    generation: u32,
) -> Recovered {
    let keys = end.state.records().map(|(key, _)| key);
    let nullifiers = keys.filter(|key| key.offence_epoch().is_some()).cloned().collect();
    Recovered {
        memory,
        generation,
        tip: tip(end),
        final_cert: ledger.final_cert,
        votes: ledger.votes,
        certs: ledger.certs,
        candidates: ledger.candidates,
        batches: ledger.batches,
        included: ledger.included,
        seals: ledger.seals,
        vote_floor: ledger.vote_floor,
        nullifiers,
        recent: recent.into_iter().map(|stored| stored.candidate.header).collect(),
    }
}

/// `sets` are those of the block's epoch or of the one after it.
fn stored_summary(sets: &Sets, stored: &StoredBlock, state_root: Hash, results_root: Hash) -> BlockSummary {
    let header = &stored.candidate.header;
    BlockSummary::of(sets.of(header.epoch), stored.digest, header, (state_root, results_root))
}

#[cfg(test)]
mod tests;
