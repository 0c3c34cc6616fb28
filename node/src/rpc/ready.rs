//! `GET /ready`: whether clients should be sent here: database there, caught up, connected. Blocks need not come.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The node is ready; else the answer is 503 with `NOT_READY` and the reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// Always true.
    pub ready: bool,
    /// Height of the last final block.
    pub height: u64,
}

pub(super) async fn ready(State(api): State<Api>, uri: Uri) -> Result<Json<Ready>, ApiError> {
    Parameters::read(&uri, &[])?;
    let (height, status) = (api.view.snapshot().head.height, api.view.condition());
    match status.not_ready.clone() {
        None => Ok(Json(Ready { ready: true, height })),
        Some(reason) => Err(ApiError::NotReady { reason, height, best_peer_height: status.best_peer_height }),
    }
}
