//! `POST /rpc/send_txs`: many signed transactions at once, as a borsh list or a JSON array; one answer each, in order.
//!
//! ```text
//! application/octet-stream   u32 count, little-endian | signed transactions     (borsh)
//! anything else              [{…}, …], each as POST /rpc/send_tx takes it
//! ```

use super::Api;
use super::error::{ApiError, ErrorBody};
use super::limits::MAX_BULK_TXS;
use super::query::Parameters;
use crate::mempool::SubmitError;
use aitbc_core::codec;
use aitbc_core::hash::Hash;
use aitbc_core::json;
use aitbc_core::mempool::Rejected;
use aitbc_core::transaction::SignedTransaction;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, Uri, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Answers to all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// How many are pending now.
    pub accepted: u64,
    /// How many are not.
    pub rejected: u64,
    /// One for each, in the order in which they were sent.
    pub results: Vec<SentOne>,
}

/// Answer to one transaction: its id, and an error where it was not taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SentOne {
    /// Id; `None` where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<Hash>,
    /// Why it was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// A transaction that could be read, with its id, or what is wrong with it.
type Read = Result<SignedTransaction, ApiError>;

pub(super) async fn send_txs(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Sent>, ApiError> {
    Parameters::read(&uri, &[])?;
    let octets =
        headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/octet-stream"));
    let (body, chain) = (body?, api.view.identity.chain);
    // A megabyte of transactions takes milliseconds to read and hash: not on the threads that serve everybody.
    let read = tokio::task::spawn_blocking(move || {
        let read = if octets { from_borsh(&body) } else { from_json(&body, &chain) };
        let ids = |read: Vec<Read>| read.into_iter().map(|one| one.map(|tx| (tx.id(&chain), tx))).collect::<Vec<_>>();
        read.map(ids)
    });
    let read = read.await.map_err(|cause| ApiError::Internal(format!("send_txs: {cause}")))??;
    let sound = read.iter().flatten().map(|(_, tx)| tx.clone()).collect();
    let mut answers = api.mempool.submit(sound).await.into_iter();
    let results: Vec<SentOne> = read
        .into_iter()
        .map(|one| match one {
            Err(error) => SentOne { tx_hash: None, error: Some(error.body()) },
            Ok((id, _)) => answer(id, answers.next().unwrap_or(Err(SubmitError::Stopping))),
        })
        .collect();
    let rejected = results.iter().filter(|result| result.error.is_some()).count() as u64;
    Ok(Json(Sent { accepted: results.len() as u64 - rejected, rejected, results }))
}

fn answer(id: Hash, answer: Result<Hash, SubmitError>) -> SentOne {
    let error = match answer {
        Ok(_) | Err(SubmitError::Rejected(Rejected::Duplicate)) => None,
        Err(error) => Some(ApiError::Submit { id, error }.body()),
    };
    SentOne { tx_hash: Some(id), error }
}

fn from_borsh(body: &[u8]) -> Result<Vec<Read>, ApiError> {
    let mut rest = body;
    let list = codec::capped::<_, SignedTransaction, MAX_BULK_TXS>(&mut rest)
        .map_err(|cause| ApiError::MalformedBorsh(cause.to_string()))?;
    if !rest.is_empty() {
        return Err(ApiError::MalformedBorsh(format!("{} bytes are left over", rest.len())));
    }
    Ok(list.into_iter().map(Ok).collect())
}

fn from_json(body: &[u8], chain: &Hash) -> Result<Vec<Read>, ApiError> {
    let list: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|cause| ApiError::MalformedJson(cause.to_string()))?;
    if list.len() > MAX_BULK_TXS {
        return Err(ApiError::BodyTooLarge { allowed: format!("{MAX_BULK_TXS} transactions") });
    }
    Ok(list.iter().map(|one| json::from_str(one.get(), chain).map_err(ApiError::from)).collect())
}
