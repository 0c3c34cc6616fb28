//! `GET /rpc/supply`: how many units there are, and since genesis were made and unmade.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};

/// Smallest units after the block at `height`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Supply {
    /// All there are: genesis + minted − burnt.
    pub total: u64,
    /// At height 0.
    pub genesis: u64,
    /// By receipts and block rewards.
    pub minted: u64,
    /// By slashing.
    pub burnt: u64,
    /// Of the total, at stake or unbonding.
    pub staked: u64,
    /// Height of the block after which this holds.
    pub height: u64,
}

pub(super) async fn supply(State(api): State<Api>, uri: Uri) -> Result<Json<Supply>, ApiError> {
    Parameters::read(&uri, &[])?;
    let (snapshot, genesis) = (api.view.snapshot(), api.view.identity.genesis.supply().unwrap_or(0));
    let changed = snapshot.state.supply();
    let candidates = snapshot.state.candidates().iter().filter_map(|key| snapshot.state.candidate(key));
    Ok(Json(Supply {
        total: changed.total(genesis),
        genesis,
        minted: changed.minted,
        burnt: changed.burnt,
        staked: candidates.map(|candidate| candidate.locked()).sum(),
        height: snapshot.head.height,
    }))
}
