//! `GET /rpc/proof/account/{address}` and `GET /rpc/proof/transaction/{id}`: what proves an account, and a transaction with
//! its result, to who trusts certificates only (protocol.md L3).

use super::Api;
use super::error::ApiError;
use super::headers::{self, HeaderInfo};
use super::query::{self, Parameters, Segment};
use super::transaction::code_name;
use crate::storage::{StoredBlock, TransactionRow};
use aitbc_core::batch::Batch;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::ledger::{ResultCode, TxResult};
use aitbc_core::light::{InclusionProof, ResultProof, TransactionProof};
use aitbc_core::state::AccountProof;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An account after a final block, with the header that commits to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProvenAccount {
    /// Whose.
    pub address: Address,
    /// Height of the block after which this holds.
    pub height: u64,
    /// Smallest units; 0 for an account that was never used.
    pub balance: u64,
    /// Transactions of it that had an effect.
    pub nonce: u64,
    /// Leads from the account to `parent_state_root` of the header below.
    pub proof: AccountProof,
    /// Header of the block after `height`.
    pub committed_by: HeaderInfo,
}

/// A transaction in a final block, with the headers that commit to it and to its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProvenTransaction {
    /// Id.
    pub tx_hash: Hash,
    /// Height of its block.
    pub height: u64,
    /// Position in the block.
    pub index: u32,
    /// Stable name of the result; `None` while no block after this one is final.
    pub code: Option<String>,
    /// Smallest units taken as fee; `None` as `code`.
    pub fee: Option<u64>,
    /// Leads from the transaction to a batch of the first header, and from the result to `parent_results_root` of the other.
    pub proof: TransactionProof,
    /// Header of its block.
    pub included_by: HeaderInfo,
    /// Header of the block after it; `None` as `code`.
    pub committed_by: Option<HeaderInfo>,
}

pub(super) async fn account(
    State(api): State<Api>,
    Segment(address): Segment,
    uri: Uri,
) -> Result<Json<ProvenAccount>, ApiError> {
    let asked = Parameters::read(&uri, &["height"])?.number("height", 0..=u64::MAX)?;
    let address = query::address(&address)?;
    let snapshot = api.view.snapshot();
    let head = snapshot.head.height;
    let below = snapshot.parent_state.as_ref().zip(head.checked_sub(1));
    let Some((state, height)) = below.filter(|(_, height)| asked.is_none_or(|asked| asked == *height)) else {
        let what = format!("account {address} after block {}", asked.unwrap_or(head));
        let provable_height = below.map(|(_, height)| height);
        let hint = match provable_height {
            Some(_) => "only the state below the last block is kept: detail.provable_height, which leave out to get",
            None => "after a start the next block must be final first; try again then",
        };
        return Err(ApiError::NotProvable { what, hint, provable_height });
    };
    let account = state.account(&address);
    let proof = state.prove(&address);
    let committed = headers::read(&api, head, head).await?;
    let committed_by = committed.first().map(HeaderInfo::of).ok_or_else(|| gone(head))?;
    let (balance, nonce) = (account.balance, account.nonce);
    Ok(Json(ProvenAccount { address, height, balance, nonce, proof, committed_by }))
}

pub(super) async fn transaction(State(api): State<Api>, Segment(id): Segment, uri: Uri) -> Result<Response, ApiError> {
    Parameters::read(&uri, &[])?;
    let id = query::transaction_id(&id)?;
    let Some(row) = api.view.or_wanted(api.view.storage.transaction(id).await?) else {
        let hint =
            "only one of a final block can be proven, as soon as /rpc/transaction says so and it is in the database";
        return Err(ApiError::NotFound { what: format!("transaction {id}"), hint: hint.into() });
    };
    let _permit = api.block_reads.acquire().await.map_err(|_| ApiError::Stopping)?;
    let stored = headers::read(&api, row.height, row.height + 1).await?;
    let mut stored = stored.into_iter();
    let block = stored.next().filter(|block| block.candidate.header.height == row.height);
    let block = block.ok_or_else(|| gone(row.height))?;
    let digests: Vec<Hash> = block.candidate.header.batches.iter().map(|b| b.digest).collect();
    let named = digests.len();
    let batches: Vec<Arc<Batch>> = api.view.storage.batches(digests).await?.into_iter().map(|(_, b)| b).collect();
    if batches.len() < named {
        let what = format!("transaction {id} of block {}", row.height);
        let hint = "the batches of this block were deleted by pruning; ask a node that keeps all";
        return Err(ApiError::NotProvable { what, hint, provable_height: None });
    }
    let rows = api.view.storage.block_transactions(row.height).await?;
    let (chain, next) = (api.view.identity.chain, stored.next());
    super::written("proof/transaction", move || prove(&chain, &row, &block, next.as_ref(), &batches, &rows)).await
}

fn gone(height: u64) -> ApiError {
    ApiError::Internal(format!("header {height} is missing in the ledger"))
}

/// The proof, checked as its reader will: a database that was changed by hand must not prove anything.
fn prove(
    chain: &Hash,
    row: &TransactionRow,
    block: &StoredBlock,
    next: Option<&StoredBlock>,
    batches: &[Arc<Batch>],
    rows: &[TransactionRow],
) -> Result<ProvenTransaction, ApiError> {
    let wrong = |cause: String| ApiError::Internal(format!("proof of transaction {}: {cause}", row.id));
    let inclusion = inclusion(row, batches).ok_or_else(|| wrong("its place is in no batch".into()))?;
    let result = next.and_then(|_| ResultProof::of(&results(batches, rows)?, row.index));
    let proof = TransactionProof { inclusion, result };
    let (header, next_header) = (&block.candidate.header, next.map(|next| &next.candidate.header));
    let (index, result) =
        proof.verify(chain, &row.id, header, next_header).map_err(|cause| wrong(cause.to_string()))?;
    Ok(ProvenTransaction {
        tx_hash: row.id,
        height: row.height,
        index,
        code: result.map(|result| code_name(result.code.number())),
        fee: result.map(|result| result.fee),
        proof,
        included_by: HeaderInfo::of(block),
        committed_by: next.map(HeaderInfo::of),
    })
}

/// The transaction at the row's place in the block.
fn inclusion(row: &TransactionRow, batches: &[Arc<Batch>]) -> Option<InclusionProof> {
    let mut index = usize::try_from(row.index).ok()?;
    for batch in batches {
        if index < batch.txs.len() {
            return InclusionProof::of(batch, u16::try_from(index).ok()?);
        }
        index -= batch.txs.len();
    }
    None
}

/// All results of a block, from its transactions and the codes stored for them; `None` where one is missing.
fn results(batches: &[Arc<Batch>], rows: &[TransactionRow]) -> Option<Vec<TxResult>> {
    let txs: Vec<_> = batches.iter().flat_map(|batch| &batch.txs).collect();
    if txs.len() != rows.len() {
        return None;
    }
    let result = |(row, tx): (&TransactionRow, &&aitbc_core::transaction::SignedTransaction)| {
        let code = ResultCode::from_number(row.code)?;
        let fee = if code.had_effect() { tx.transaction.fee } else { 0 };
        Some(TxResult { id: row.id, code, fee })
    };
    rows.iter().zip(&txs).map(result).collect()
}
