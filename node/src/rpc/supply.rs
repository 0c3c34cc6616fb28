//! `GET /rpc/supply`: how many units there are, and where they came from.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use aitbc_core::record::{Record, RecordKey};
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Smallest units, those that are locked among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Supply {
    /// Height of the block after which this holds.
    pub height: u64,
    /// What genesis gave out, the faucet's balance among it.
    pub genesis: u64,
    /// What receipts minted since.
    pub minted: u64,
    /// What was destroyed since.
    pub burnt: u64,
    /// What there is: genesis and minted less burnt.
    pub total: u64,
}

pub(super) async fn supply(State(api): State<Api>, uri: Uri) -> Result<Json<Supply>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let snapshot = api.view.snapshot();
    let (minted, burnt) = match snapshot.state.record(&RecordKey::Supply) {
        Some(Record::Supply { minted, burnt }) => (*minted, *burnt),
        _ => (0, 0),
    };
    // A genesis is checked before a node starts with it.
    let genesis = api.view.identity.genesis.supply().unwrap_or(0);
    let total = genesis.saturating_add(minted).saturating_sub(burnt);
    Ok(Json(Supply { height: snapshot.head.height, genesis, minted, burnt, total }))
}
