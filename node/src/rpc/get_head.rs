//! `GET /rpc/get_head`: the last final block.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The last final block in a few words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// Height.
    pub height: u64,
    /// Digest of its header; the genesis hash at height 0.
    pub hash: Hash,
    /// Digest of its parent.
    pub parent_hash: Hash,
    /// Slot it was proposed in.
    pub slot: u64,
    /// Milliseconds since 1970, by the proposer's clock.
    pub time_ms: u64,
    /// The same as RFC 3339; `None` for genesis.
    pub timestamp: Option<String>,
    /// Who proposed it; `None` for genesis.
    pub proposer: Option<Address>,
    /// Transactions in it.
    pub tx_count: u64,
    /// State root after it.
    pub state_root: Hash,
    /// Root of its results.
    pub results_root: Hash,
}

pub(super) async fn get_head(State(api): State<Api>, uri: Uri) -> Result<Json<Head>, ApiError> {
    Parameters::read(&uri, &[])?;
    let head = &api.view.snapshot().head;
    Ok(Json(Head {
        height: head.height,
        hash: head.hash,
        parent_hash: head.parent_hash,
        slot: head.slot,
        time_ms: head.time_ms,
        timestamp: if head.height > 0 { super::timestamp(head.time_ms) } else { None },
        proposer: head.proposer,
        tx_count: head.tx_count,
        state_root: head.state_root,
        results_root: head.results_root,
    }))
}
