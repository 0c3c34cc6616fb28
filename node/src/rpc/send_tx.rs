//! `POST /rpc/send_tx`: one signed transaction as JSON into the pool; with `?wait=final` the answer is what became of it.

use super::Api;
use super::error::ApiError;
use super::query::{Parameters, shown};
use super::transaction::{self, TransactionStatus};
use crate::mempool::SubmitError;
use aitbc_core::hash::Hash;
use aitbc_core::json::{self, JsonError};
use aitbc_core::mempool::Rejected;
use aitbc_core::transaction::SignedTransaction;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use serde_json::Value;
use std::time::Duration;

/// Of RPC_TIMEOUT, the part that a client may wait for a result; the rest is for the answer.
const WAIT_PERCENT: u32 = 90;
/// Both names of the signature.
const SIGNATURE: [&str; 2] = ["signature", "sig"];

/// 200 with what became of it, or with `pending` where nobody waited; 202 where it is still pending after the wait.
pub(super) async fn send_tx(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<TransactionStatus>), ApiError> {
    take(&api, &uri, &headers, body, |_| Ok(())).await
}

/// What every route does that takes one transaction; `complete` may add to the JSON before it is read as one.
pub(super) async fn take(
    api: &Api,
    uri: &Uri,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    complete: impl FnOnce(&mut Value) -> Result<(), JsonError>,
) -> Result<(StatusCode, Json<TransactionStatus>), ApiError> {
    let wait = wait(uri, api.timeout)?;
    let mut value = read_json(headers, body)?;
    complete(&mut value)?;
    let chain = api.view.identity.chain;
    let signed = json::from_value(&value, &chain).map_err(|error| unsigned(&value, chain).unwrap_or(error.into()))?;
    submit(api, signed, wait).await
}

/// Puts a transaction into the pool and waits for its end, where that is wanted.
pub(super) async fn submit(
    api: &Api,
    signed: SignedTransaction,
    wait: Option<Duration>,
) -> Result<(StatusCode, Json<TransactionStatus>), ApiError> {
    let id = signed.id(&api.view.identity.chain);
    let answer = api.mempool.submit(vec![signed]).await.pop();
    match answer.unwrap_or(Err(SubmitError::Stopping)) {
        // Sent again, after a lost answer for instance: it is where it should be.
        Ok(_) | Err(SubmitError::Rejected(Rejected::Duplicate)) => {}
        Err(error) => return Err(ApiError::Submit { id, error }),
    }
    let Some(wait) = wait else { return Ok((StatusCode::OK, Json(TransactionStatus::pending(id, None)))) };
    let status = wait_final(api, id, wait).await?;
    let code = if status.status == transaction::Status::Pending { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((code, Json(status)))
}

/// A body as JSON in which no field is there twice.
pub(super) fn read_json(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Value, ApiError> {
    refuse_octets(headers)?;
    let body = body?;
    let text = std::str::from_utf8(&body).map_err(|cause| ApiError::MalformedJson(cause.to_string()))?;
    Ok(json::read(text)?)
}

/// The error of an object that nobody signed as this chain wants it; `None` where something else is wrong with it. The
/// prototype took transactions without signature, and signed others by keys of another kind.
fn unsigned(value: &Value, chain: Hash) -> Option<ApiError> {
    let object = value.as_object().filter(|object| !object.contains_key("transaction"))?;
    let is_there = |name: &&str| object.get(*name).is_some_and(|value| !value.is_null());
    let signed = SIGNATURE.iter().any(is_there) && is_there(&"public_key");
    let named = ["sender", "from", "payload", "type"].iter().any(is_there);
    let missing = ["genesis_hash", "public_key", "expiry_height"].into_iter().filter(|name| !is_there(name));
    let signature = (!SIGNATURE.iter().any(is_there)).then_some("signature");
    (named && !signed).then(|| ApiError::Unsigned { missing: missing.chain(signature).collect(), chain })
}

/// Longest that a client may wait for a result.
pub(super) fn longest_wait(timeout: Duration) -> Duration {
    timeout * WAIT_PERCENT / 100
}

/// `None` where the client does not wait.
fn wait(uri: &Uri, timeout: Duration) -> Result<Option<Duration>, ApiError> {
    let parameters = Parameters::read(uri, &["wait", "timeout_ms"])?;
    let longest = longest_wait(timeout);
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

/// What became of a transaction that is in the pool, once that is known or time is up.
pub(super) async fn wait_final(api: &Api, id: Hash, wait: Duration) -> Result<TransactionStatus, ApiError> {
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
