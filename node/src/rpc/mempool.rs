//! `GET /rpc/mempool`: transactions that wait on this node.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use super::transaction::Place;
use crate::mempool::PendingTransaction;
use aitbc_core::hash::Hash;
use aitbc_core::json;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most transactions of one answer.
const MAX_LISTED: u64 = 1_000;
/// Where `limit` is not given.
const LISTED: u64 = 100;

/// Pending transactions, in no particular order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    /// At most `limit` of them.
    pub transactions: Vec<PooledTransaction>,
    /// How many stand in this answer.
    pub count: u64,
    /// How many there are.
    pub total: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A pending transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PooledTransaction {
    /// Id.
    pub tx_hash: Hash,
    /// Where it waits.
    pub place: Place,
    /// In the form in which it was sent.
    pub transaction: Value,
}

pub(super) async fn mempool(State(api): State<Api>, uri: Uri) -> Result<Json<Pool>, ApiError> {
    let parameters = Parameters::read(&uri, &["limit", "chain_id"])?;
    parameters.of_chain(&api.view.identity)?;
    let limit = parameters.number("limit", 1..=MAX_LISTED)?.unwrap_or(LISTED);
    let chain = api.view.identity.chain;
    let pending = api.mempool.list(usize::try_from(limit).unwrap_or(usize::MAX)).await;
    let describe = move |pending: PendingTransaction| PooledTransaction {
        tx_hash: pending.id,
        place: pending.state.into(),
        transaction: json::to_value(&pending.transaction, &chain),
    };
    // A thousand transactions take milliseconds to describe: not on the threads that serve everybody.
    let described = tokio::task::spawn_blocking(move || pending.into_iter().map(describe).collect::<Vec<_>>());
    let transactions = described.await.map_err(|cause| ApiError::Internal(format!("mempool: {cause}")))?;
    let count = transactions.len() as u64;
    // The gauges lag by one turn of the pool, the list does not.
    let gauge = |value: i64| u64::try_from(value).unwrap_or(0);
    let total = gauge(api.metrics.mempool_transactions.get()).max(count);
    Ok(Json(Pool { transactions, count, total, bytes: gauge(api.metrics.mempool_bytes.get()) }))
}
