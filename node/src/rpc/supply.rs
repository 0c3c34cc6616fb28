//! `GET /rpc/supply`: how many units there are, and what was made and unmade since genesis.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Smallest units, those that are locked or at stake among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Supply {
    /// Height of the block after which this holds.
    pub height: u64,
    /// At height 0: what genesis gave out, stakes and the faucet's balance among it.
    pub genesis: u64,
    /// What receipts and block rewards minted since.
    pub minted: u64,
    /// What slashing destroyed since.
    pub burnt: u64,
    /// What there is: genesis and minted less burnt.
    pub total: u64,
    /// Of the total, at stake or unbonding.
    pub staked: u64,
}

pub(super) async fn supply(State(api): State<Api>, uri: Uri) -> Result<Json<Supply>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    // A genesis is checked before a node starts with it.
    let (snapshot, genesis) = (api.view.snapshot(), api.view.identity.genesis.supply().unwrap_or(0));
    let changed = snapshot.state.supply();
    let candidates = snapshot.state.candidates().iter().filter_map(|key| snapshot.state.candidate(key));
    Ok(Json(Supply {
        height: snapshot.head.height,
        genesis,
        minted: changed.minted,
        burnt: changed.burnt,
        total: changed.total(genesis),
        staked: candidates.map(|candidate| candidate.locked()).sum(),
    }))
}
