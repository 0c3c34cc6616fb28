//! `GET /rpc/syncStatus`: where the node is, as the prototype told it.

use super::super::Api;
use super::super::error::ApiError;
use super::super::query::Parameters;
use super::timestamp;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::Serialize;

/// Where the node is, and by which rules.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PrototypeSyncStatus {
    /// Name of the chain.
    pub chain_id: String,
    /// Height of the last final block here.
    pub head_height: u64,
    /// Digest of its header.
    pub head_hash: Hash,
    /// Who proposed it; null for genesis.
    pub head_proposer: Option<Address>,
    /// By its proposer's clock, UTC without saying so; null for genesis.
    pub head_timestamp: Option<String>,
    /// Blocks, genesis among them.
    pub total_blocks: u64,
    /// Transactions that final blocks have had.
    pub total_transactions: u64,
    /// Always true: every signature is verified.
    pub validate_signatures: bool,
    /// The validators.
    pub trusted_proposers: Vec<Address>,
    /// Always 0: a final block stays.
    pub max_reorg_depth: u64,
}

pub(in super::super) async fn sync_status(
    State(api): State<Api>,
    uri: Uri,
) -> Result<Json<PrototypeSyncStatus>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let total_transactions = api.view.storage.transaction_count().await?;
    let (identity, snapshot) = (&api.view.identity, api.view.snapshot());
    let head = &snapshot.head;
    Ok(Json(PrototypeSyncStatus {
        chain_id: identity.genesis.chain_id.clone(),
        head_height: head.height,
        head_hash: head.hash,
        head_proposer: head.proposer,
        head_timestamp: timestamp(head.height, head.time_ms),
        total_blocks: head.height + 1,
        total_transactions,
        validate_signatures: true,
        trusted_proposers: snapshot.sets.current.members().iter().map(|member| member.key.address()).collect(),
        max_reorg_depth: 0,
    }))
}
