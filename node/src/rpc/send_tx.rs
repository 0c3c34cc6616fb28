//! `POST /rpc/send_tx`: one signed transaction as JSON into the pool; with `?wait=final` the answer is what became of it.

use super::Api;
use super::error::ApiError;
use super::query::{Parameters, shown};
use super::transaction::{self, TransactionStatus};
use crate::mempool::SubmitError;
use aitbc_core::hash::Hash;
use aitbc_core::json;
use aitbc_core::mempool::Rejected;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use std::time::Duration;

/// Of RPC_TIMEOUT, the part that a client may wait for a result; the rest is for the answer.
const WAIT_PERCENT: u32 = 90;

/// 200 with what became of it, or with `pending` where nobody waited; 202 where it is still pending after the wait.
pub(super) async fn send_tx(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<TransactionStatus>), ApiError> {
    let wait = wait(&uri, api.timeout)?;
    refuse_octets(&headers)?;
    let body = body?;
    let text = std::str::from_utf8(&body).map_err(|cause| ApiError::MalformedJson(cause.to_string()))?;
    let chain = api.view.identity.chain;
    let signed = json::from_str(text, &chain)?;
    let id = signed.id(&chain);
    let answer = api.mempool.submit(vec![signed]).await.pop();
    match answer.unwrap_or(Err(SubmitError::Stopping)) {
        // Sent again, after a lost answer for instance: it is where it should be.
        Ok(_) | Err(SubmitError::Rejected(Rejected::Duplicate)) => {}
        Err(error) => return Err(ApiError::Submit { id, error }),
    }
    let Some(wait) = wait else { return Ok((StatusCode::OK, Json(TransactionStatus::pending(id, None)))) };
    let status = wait_final(&api, id, wait).await?;
    let code = if status.status == transaction::Status::Pending { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((code, Json(status)))
}

/// `None` where the client does not wait.
fn wait(uri: &Uri, timeout: Duration) -> Result<Option<Duration>, ApiError> {
    let parameters = Parameters::read(uri, &["wait", "timeout_ms"])?;
    let longest = timeout * WAIT_PERCENT / 100;
    let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX).max(1);
    let wait = parameters.word("wait", &["final", "none"])?;
    let limit = parameters.number("timeout_ms", 1..=longest_ms)?.map_or(longest, Duration::from_millis);
    Ok((wait == Some("final")).then_some(limit))
}

/// Any content type may be JSON, as `curl -d` names none; bytes are none.
fn refuse_octets(headers: &HeaderMap) -> Result<(), ApiError> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if found.starts_with("application/octet-stream") {
        let allowed = "application/json here, a borsh list to POST /rpc/send_txs";
        return Err(ApiError::UnsupportedMediaType { found: shown(found), allowed });
    }
    Ok(())
}

async fn wait_final(api: &Api, id: Hash, wait: Duration) -> Result<TransactionStatus, ApiError> {
    let outcome = tokio::select! {
        outcome = api.mempool.outcome(id, wait) => outcome,
        () = api.shutdown.asked() => None,
    };
    if let Some(outcome) = outcome {
        return Ok(TransactionStatus::in_block(id, outcome));
    }
    // Dropped from the pool, or time is up.
    Ok(transaction::look_up(api, id).await?.unwrap_or_else(|| TransactionStatus::pending(id, None)))
}
