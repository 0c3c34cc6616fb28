//! `GET /rpc/get_block/{height}`: a final block by height, or `latest`, with ids and results of its transactions.

use super::error::ApiError;
use super::query::{self, Parameters, Segment};
use super::transaction::{Status, code_name};
use super::{Api, json_response, written_text};
use crate::storage::{StoredBlock, TransactionRow};
use crate::view::{BlockSummary, Identity, KnownSets};
use aitbc_core::block::{Block, Header};
use aitbc_core::codec;
use aitbc_core::evidence::{Class, Evidence};
use aitbc_core::hash::Hash;
use aitbc_core::json;
use aitbc_core::key::Address;
use aitbc_core::validators::ValidatorSet;
use aitbc_core::vote::Cert;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a reader waits for a block that is final but not in the database yet, and for its results.
pub(super) const WRITE_WAIT: Duration = Duration::from_secs(2);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A final block. Fields of the header are `None` or zero for genesis, height 0, which has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockInfo {
    /// Height.
    pub height: u64,
    /// Digest of its header; the genesis hash at height 0.
    pub hash: Hash,
    /// Digest of its parent.
    pub parent_hash: Hash,
    /// Format of the header.
    pub version: u16,
    /// Epoch.
    pub epoch: u64,
    /// Slot it was proposed in.
    pub slot: u64,
    /// Slot of its parent.
    pub parent_slot: u64,
    /// Milliseconds since 1970, by the proposer's clock.
    pub time_ms: u64,
    /// The same as RFC 3339.
    pub timestamp: Option<String>,
    /// Who proposed it; `None` where the validators of that epoch are not known here any more.
    pub proposer: Option<Address>,
    /// State root after its parent.
    pub parent_state_root: Hash,
    /// Root of its parent's results.
    pub parent_results_root: Hash,
    /// Hash of the validator set.
    pub set_hash: Hash,
    /// Hash of the next epoch's set.
    pub next_set_hash: Hash,
    /// Number of transactions.
    pub tx_count: u64,
    /// Batches, in order.
    pub batches: Vec<BatchInfo>,
    /// Proofs of double signing in its header.
    pub evidence: Vec<EvidenceInfo>,
    /// Transactions, in order over all batches.
    pub transactions: Vec<BlockTransaction>,
    /// What makes it final; `None` where a later block's certificate does, as an ancestor is final with it.
    pub certificate: Option<Certificate>,
}

/// A batch as the header names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchInfo {
    /// Digest.
    pub digest: Hash,
    /// Who sealed it.
    pub author: Option<Address>,
    /// Encoded bytes.
    pub bytes: u32,
    /// Number of transactions.
    pub txs: u16,
}

/// Proof that a validator signed two things that contradict each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceInfo {
    /// Who signed them.
    pub validator: Option<Address>,
    /// Which contradiction: `notars`, `skip_final`, `finals`, `notar_final` or `batches`.
    pub class: Option<Class>,
    /// Epoch of what was signed.
    pub epoch: u64,
    /// Slot of the votes; of batches their sequence number.
    pub slot: u64,
    /// Hex of borsh of the two with their signatures.
    pub proof: String,
}

/// A transaction of a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockTransaction {
    /// Id.
    pub tx_hash: Hash,
    /// Position in the block.
    pub index: u32,
    /// `final` or `rejected`; `None` where no result is recorded under this block: the same transaction's stands at
    /// another height.
    pub status: Option<Status>,
    /// Stable name of the result.
    pub code: Option<String>,
    /// With `?full=true`, in the form in which it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Value>,
}

/// Votes of a quorum for the block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// `final`.
    pub kind: String,
    /// Slot.
    pub slot: u64,
    /// Addresses of the signers, by index; none where the validators of that epoch are not known here any more.
    pub signers: Vec<Address>,
    /// Their voting power; `None` where they are not known.
    pub weight: Option<u64>,
    /// Power that was needed; `None` where that is not known.
    pub quorum: Option<u64>,
}

pub(super) async fn get_block(
    State(api): State<Api>,
    Segment(height): Segment,
    uri: Uri,
) -> Result<Response, ApiError> {
    let full = Parameters::read(&uri, &["full"])?.flag("full")?;
    let head = api.view.snapshot().head.clone();
    let height = query::height(&height)?.unwrap_or(head.height);
    not_ahead(height, &head)?;
    if height == 0 {
        return Ok(Json(genesis_block(&api.view.identity)).into_response());
    }
    kept(&api, height)?;
    if let Some(answer) = api.block_cache.get((height, full)) {
        return Ok(json_response(answer));
    }
    let _permit = api.block_reads.acquire().await.map_err(|_| ApiError::Stopping)?;
    // It may be deleted while it is read.
    let (stored, block) = read(&api, height).await.or_else(|cause| kept(&api, height).and(Err(cause)))?;
    let rows = results(&api, height, block.header.tx_count()).await?;
    // Without results it was answered before they were in the database: later answers will have them.
    let complete = !rows.is_empty() || block.header.tx_count() == 0;
    let (identity, sets) = (api.view.identity.clone(), api.view.known_sets());
    // Megabytes of transactions are hashed and written.
    let text = written_text("get_block", move || Ok(describe(&identity, &sets, &stored, &block, &rows, full))).await?;
    if complete {
        api.block_cache.put((height, full), text.clone());
    }
    Ok(json_response(text))
}

/// Refuses a height that is not there yet.
pub(super) fn not_ahead(height: u64, head: &BlockSummary) -> Result<(), ApiError> {
    if height <= head.height {
        return Ok(());
    }
    let hint = "heights up to that of /rpc/get_head are there".into();
    Err(ApiError::NotFound { what: format!("block {height}"), hint })
}

/// Refuses a height whose transactions were deleted.
pub(super) fn kept(api: &Api, height: u64) -> Result<(), ApiError> {
    let lowest = api.view.storage.lowest();
    if height >= lowest { Ok(()) } else { Err(ApiError::Pruned { what: format!("block {height}"), lowest }) }
}

/// Readers are told of a block before it is in the database, so the last few may take a moment.
pub(super) async fn read(api: &Api, height: u64) -> Result<(StoredBlock, Block), ApiError> {
    let found = within(WRITE_WAIT, || async {
        Ok(api.view.storage.blocks(height, height, usize::MAX).await?.into_iter().next())
    });
    found.await?.ok_or(ApiError::Busy("the block is final but not in the database yet"))
}

/// Results of a block, by id. The state lags behind the ledger by a few blocks.
pub(super) async fn results(api: &Api, height: u64, tx_count: u64) -> Result<HashMap<Hash, TransactionRow>, ApiError> {
    if tx_count == 0 {
        return Ok(HashMap::new());
    }
    let found = within(WRITE_WAIT, || async {
        let rows = api.view.storage.block_transactions(height).await?;
        Ok(api.view.or_wanted(Some(rows).filter(|rows| !rows.is_empty())))
    });
    Ok(found.await?.unwrap_or_default().into_iter().map(|row| (row.id, row)).collect())
}

/// Looks again and again until something is there, or time is up.
pub(super) async fn within<T, F>(limit: Duration, look: impl Fn() -> F) -> Result<Option<T>, ApiError>
where
    F: Future<Output = Result<Option<T>, ApiError>>,
{
    let start = tokio::time::Instant::now();
    loop {
        let found = look().await?;
        if found.is_some() || start.elapsed() >= limit {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn genesis_block(identity: &Identity) -> BlockInfo {
    let set_hash = identity.genesis_set.hash();
    BlockInfo {
        height: 0,
        hash: identity.chain,
        parent_hash: Hash::ZERO,
        version: 0,
        epoch: 0,
        slot: 0,
        parent_slot: 0,
        time_ms: 0,
        timestamp: None,
        proposer: None,
        parent_state_root: Hash::ZERO,
        parent_results_root: Hash::ZERO,
        set_hash,
        next_set_hash: set_hash,
        tx_count: 0,
        batches: Vec::new(),
        evidence: Vec::new(),
        transactions: Vec::new(),
        certificate: None,
    }
}

fn describe(
    identity: &Identity,
    sets: &KnownSets,
    stored: &StoredBlock,
    block: &Block,
    rows: &HashMap<Hash, TransactionRow>,
    full: bool,
) -> BlockInfo {
    let header = &block.header;
    let set = sets.of_header(header);
    BlockInfo {
        height: header.height,
        hash: stored.digest,
        parent_hash: header.parent,
        version: header.version,
        epoch: header.epoch,
        slot: header.slot,
        parent_slot: header.parent_slot,
        time_ms: header.time_ms,
        timestamp: super::timestamp(header.time_ms),
        proposer: set.and_then(|set| set.address(header.proposer)),
        parent_state_root: header.parent_state_root,
        parent_results_root: header.parent_results_root,
        set_hash: header.set_hash,
        next_set_hash: header.next_set_hash,
        tx_count: header.tx_count(),
        batches: batches(sets, header),
        evidence: header.evidence.iter().map(|evidence| accusation(sets, header, evidence)).collect(),
        transactions: transactions(identity, block, rows, full),
        certificate: stored.cert.as_ref().map(|cert| certificate(set, cert)),
    }
}

fn batches(sets: &KnownSets, header: &Header) -> Vec<BatchInfo> {
    let info = |batch: &aitbc_core::batch::BatchRef| BatchInfo {
        digest: batch.digest,
        author: sets.of_epoch_in(header, batch.epoch).and_then(|set| set.address(batch.author)),
        bytes: batch.bytes,
        txs: batch.txs,
    };
    header.batches.iter().map(info).collect()
}

fn accusation(sets: &KnownSets, header: &Header, evidence: &Evidence) -> EvidenceInfo {
    let set = sets.of_epoch_in(header, evidence.epoch());
    EvidenceInfo {
        validator: set.and_then(|set| set.address(evidence.signer())),
        class: evidence.class(),
        epoch: evidence.epoch(),
        slot: evidence.slot(),
        proof: codec::hex::text(evidence),
    }
}

fn transactions(
    identity: &Identity,
    block: &Block,
    rows: &HashMap<Hash, TransactionRow>,
    full: bool,
) -> Vec<BlockTransaction> {
    let all = block.batches.iter().flat_map(|batch| &batch.txs);
    let info = |(index, tx): (u32, &aitbc_core::transaction::SignedTransaction)| {
        let tx_hash = tx.id(&identity.chain);
        // A transaction may stand in two batches; its result is recorded at one place.
        let row = rows.get(&tx_hash).filter(|row| row.index == index);
        BlockTransaction {
            tx_hash,
            index,
            status: row.map(|row| if row.code == 0 { Status::Final } else { Status::Rejected }),
            code: row.map(|row| code_name(row.code)),
            transaction: full.then(|| json::to_value(tx, &identity.chain)),
        }
    };
    (0..).zip(all).map(info).collect()
}

fn certificate(set: Option<&Arc<ValidatorSet>>, cert: &Cert) -> Certificate {
    let address = |index| set.and_then(|set| set.address(index));
    Certificate {
        kind: cert.statement.kind.name().to_owned(),
        slot: cert.statement.slot,
        signers: cert.signer_indices().filter_map(address).collect(),
        weight: set.map(|set| cert.signer_indices().map(|index| set.weight(index)).sum()),
        quorum: set.map(|set| set.quorum()),
    }
}
