//! `GET /rpc/consensus/doctor`: why there is no block, who is waited for, since when. Always 200 while it can answer.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use aitbc_core::consensus::doctor::Report;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::Serialize;

/// The core's report, with what the rest of the node knows.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Doctor {
    /// What the core says: position, state, cause, diagnosis, votes, fetches, validators.
    #[serde(flatten)]
    pub report: Report,
    /// Milliseconds since the report was made; grows where the consensus loop hangs.
    pub report_age_ms: u64,
    /// Whether the own database answered lately.
    pub database_ready: bool,
    /// Why this node is not ready; `None` where it is.
    pub not_ready: Option<String>,
}

pub(super) async fn doctor(State(api): State<Api>, uri: Uri) -> Result<Json<Doctor>, ApiError> {
    Parameters::read(&uri, &[])?;
    let (examined, status) = (api.view.doctor.borrow().clone(), api.view.condition());
    Ok(Json(Doctor {
        report: examined.report.clone(),
        report_age_ms: api.view.pulse.mono_ms().saturating_sub(examined.at_ms),
        database_ready: status.database_ready,
        not_ready: status.not_ready.clone(),
    }))
}
