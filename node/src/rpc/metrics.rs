//! `GET /metrics` on METRICS_PORT: what Prometheus scrapes. On RPC_PORT too, where the prototype has it.

use super::Api;
use super::error::ApiError;
use crate::metrics::Metrics;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use std::sync::Arc;

pub(super) async fn metrics(State(metrics): State<Arc<Metrics>>) -> Result<impl IntoResponse, ApiError> {
    let text = metrics.render().map_err(|cause| ApiError::Internal(format!("metrics: {cause}")))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

pub(super) async fn metrics_beside(State(api): State<Api>) -> Result<impl IntoResponse, ApiError> {
    metrics(State(api.metrics.clone())).await
}
