//! `GET /rpc/genesis`: the agreed beginning, and its hash, which every signature is for.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use aitbc_core::genesis::Genesis;
use aitbc_core::hash::Hash;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Genesis and its hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GenesisInfo {
    /// The chain's identity; a client that does not trust this node hashes `genesis` itself.
    pub genesis_hash: Hash,
    /// The file.
    pub genesis: Genesis,
}

pub(super) async fn genesis(State(api): State<Api>, uri: Uri) -> Result<Json<GenesisInfo>, ApiError> {
    Parameters::read(&uri, &[])?;
    let identity = &api.view.identity;
    Ok(Json(GenesisInfo { genesis_hash: identity.chain, genesis: identity.genesis.clone() }))
}
