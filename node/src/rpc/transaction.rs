//! `GET /rpc/transaction/{id}`: pending, final or rejected, and why.

use super::Api;
use super::error::ApiError;
use super::prototype::transactions::{Content, bodies};
use super::query::{self, Parameters, Segment};
use crate::mempool::{Outcome, Pending, Standing};
use aitbc_core::hash::Hash;
use aitbc_core::ledger::ResultCode;
use aitbc_core::mempool::Reason;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a transaction took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits, on this node.
    Pending,
    /// It is in a final block and took effect.
    Final,
    /// It is in a final block and did not take effect, or it left the pool.
    Rejected,
}

/// Where a pending transaction waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the pool.
    Queued,
    /// In a sealed batch, on its way into a block.
    Sealed,
    /// Passed on to a validator, as this node is none.
    Forwarded,
}

impl From<Pending> for Place {
    fn from(pending: Pending) -> Self {
        match pending {
            Pending::Queued => Place::Queued,
            Pending::Sealed => Place::Sealed,
            Pending::Forwarded => Place::Forwarded,
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TransactionStatus {
    /// Id.
    pub tx_hash: Hash,
    /// Whether it took effect.
    pub status: Status,
    /// `OK`, or why it was rejected: a result's or a drop's stable name; `None` while pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same for people; `None` unless rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Height of its block, where it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Position in the block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// While pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl TransactionStatus {
    /// It waits.
    pub(super) fn pending(tx_hash: Hash, place: Option<Place>) -> Self {
        TransactionStatus {
            tx_hash,
            status: Status::Pending,
            code: None,
            reason: None,
            height: None,
            index: None,
            place,
        }
    }

    /// It is in a final block.
    pub(super) fn in_block(tx_hash: Hash, outcome: Outcome) -> Self {
        let code = ResultCode::from_number(outcome.code);
        let ok = code == Some(ResultCode::Ok);
        TransactionStatus {
            tx_hash,
            status: if ok { Status::Final } else { Status::Rejected },
            code: Some(code_name(outcome.code)),
            reason: code.filter(|_| !ok).map(|code| code.explanation().to_owned()),
            height: Some(outcome.height),
            index: Some(outcome.index),
            place: None,
        }
    }

    /// It left the pool.
    pub(super) fn dropped(tx_hash: Hash, reason: Reason) -> Self {
        let why = match reason {
            Reason::Expired => "no block up to its expiry_height took it; sign it again with a later one",
            Reason::NonceUsed => "another transaction of the sender used this nonce",
            Reason::Replaced => "the sender replaced it by one with a higher fee",
            Reason::Evicted => {
                "the pool was full and others pay more; sign it again with the same nonce and a higher fee"
            }
            Reason::NoLongerValid => {
                "validators that have not taken it yet refuse it: the account does not cover it, the least fee has risen, or its \
                 lock's timeout is too near; mend that and sign it again with the same nonce, as one may still bring it in"
            }
        };
        TransactionStatus {
            status: Status::Rejected,
            code: Some(reason.name().to_owned()),
            reason: Some(why.to_owned()),
            ..TransactionStatus::pending(tx_hash, None)
        }
    }
}

/// Stable name of a result's number.
pub(crate) fn code_name(number: u16) -> String {
    ResultCode::from_number(number).map_or_else(|| format!("UNKNOWN_{number}"), |code| code.name().to_owned())
}

/// What became of a transaction, and what it says where it is in a block that the database has.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct KnownTransaction {
    /// What became of it.
    #[serde(flatten)]
    pub status: TransactionStatus,
    /// What it says.
    #[serde(flatten)]
    pub content: Option<Content>,
}

pub(super) async fn transaction(
    State(api): State<Api>,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Json<KnownTransaction>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let id = query::transaction_id(&id)?;
    let Some(status) = look_up(&api, id).await? else {
        let hint = hint(api.view.storage.lowest());
        return Err(ApiError::NotFound { what: format!("transaction {id}"), hint });
    };
    let content = if status.height.is_some() { content(&api, id).await? } else { None };
    Ok(Json(KnownTransaction { status, content }))
}

/// What a transaction of a block says; `None` as long as the database lags behind.
async fn content(api: &Api, id: Hash) -> Result<Option<Content>, ApiError> {
    let Some(row) = api.view.or_wanted(api.view.storage.transaction(id).await?) else { return Ok(None) };
    let found = bodies(api, vec![row]).await?;
    let content = tokio::task::spawn_blocking(move || found.content());
    content.await.map_err(|cause| ApiError::Internal(format!("transaction: {cause}")))
}

fn hint(lowest: u64) -> String {
    let mut hint = "a pending one is known only to the node it was sent to, and a dropped one not for ever".to_owned();
    if lowest > 1 {
        hint += &format!("; results in blocks below height {lowest} were deleted here");
    }
    hint
}

/// The pool first, then the database, then the pool again: a block may have become final in between.
pub(super) async fn look_up(api: &Api, id: Hash) -> Result<Option<TransactionStatus>, ApiError> {
    if let Some(status) = in_pool(api, id).await.filter(|status| status.status != Status::Rejected) {
        return Ok(Some(status));
    }
    if let Some(row) = api.view.storage.transaction(id).await? {
        let outcome = Outcome { height: row.height, index: row.index, code: row.code };
        return Ok(Some(TransactionStatus::in_block(id, outcome)));
    }
    Ok(in_pool(api, id).await)
}

async fn in_pool(api: &Api, id: Hash) -> Option<TransactionStatus> {
    match api.mempool.standing(id).await {
        Standing::Unknown => None,
        Standing::Pending(place) => Some(TransactionStatus::pending(id, Some(place.into()))),
        Standing::Final(outcome) => Some(TransactionStatus::in_block(id, outcome)),
        Standing::Dropped(reason) => Some(TransactionStatus::dropped(id, reason)),
    }
}
