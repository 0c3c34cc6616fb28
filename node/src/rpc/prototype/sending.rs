//! `POST /rpc/submitReceipt`, `/rpc/transaction`, `/rpc/estimateFee`, `/rpc/importBlock`: what the prototype's clients send.

use super::super::Api;
use super::super::error::ApiError;
use super::super::query::{Parameters, shown};
use super::super::send_tx::{read_json, take};
use super::super::transaction::TransactionStatus;
use aitbc_core::hash::Hash;
use aitbc_core::json::{self, JsonError};
use aitbc_core::ledger::Rules;
use aitbc_core::params::{FEE_UNIT_BYTES, FEE_UNITS_OF_RECORD};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, Uri};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

/// The one type that `submitReceipt` takes.
const CLAIM: &str = "RECEIPT_CLAIM";

/// What became of a transaction, in both forms.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PrototypeSent {
    /// Whether it is pending or took effect.
    pub success: bool,
    /// Id.
    pub transaction_hash: Hash,
    /// The status for people.
    pub message: String,
    /// As `/rpc/send_tx` answers.
    #[serde(flatten)]
    pub status: TransactionStatus,
}

/// What a transaction costs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FeeEstimate {
    /// Of which type, in capitals.
    pub r#type: String,
    /// The chain's least fee; 0 for `FAUCET`.
    pub base_fee: u64,
    /// Bytes of the payload as JSON without spaces.
    pub payload_bytes: u64,
    /// The least fee that is taken: docs/rpc.md, "Fees".
    pub estimated_fee: u64,
}

/// Why a block was not imported.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ImportedBlock {
    /// Always false.
    pub accepted: bool,
    /// As it was sent.
    pub height: Value,
    /// As it was sent.
    pub hash: Value,
    /// Why, and what to do instead.
    pub reason: String,
    /// Always false.
    pub reorged: bool,
    /// Always 0.
    pub reorg_depth: u64,
}

type Body = Result<Bytes, BytesRejection>;

/// As `POST /rpc/send_tx`, of type RECEIPT_CLAIM, which need not be said.
pub(in super::super) async fn submit_receipt(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<TransactionStatus>), ApiError> {
    take(&api, &uri, &headers, body, claim).await
}

/// Adds the type to a transaction that has none; the form of bytes has one always.
fn claim(value: &mut Value) -> Result<(), JsonError> {
    let Some(object) = value.as_object_mut().filter(|object| !object.contains_key("transaction")) else {
        return Ok(());
    };
    let found = object.get("type").filter(|found| !found.is_null());
    match found {
        None => {
            object.insert("type".into(), json!(CLAIM));
            Ok(())
        }
        Some(Value::String(name)) if name.eq_ignore_ascii_case(CLAIM) => Ok(()),
        Some(other) => Err(JsonError::Field {
            field: "type".into(),
            found: shown(&other.to_string()),
            allowed: format!("{CLAIM} expected, or none; others go to /rpc/sendTx"),
        }),
    }
}

/// As `POST /rpc/send_tx`, answered in the prototype's words too.
pub(in super::super) async fn transaction(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<PrototypeSent>), ApiError> {
    let (code, Json(status)) = take(&api, &uri, &headers, body, |_| Ok(())).await?;
    let rejected = status.status == super::super::transaction::Status::Rejected;
    let message = match &status.reason {
        Some(reason) => format!("rejected: {reason}"),
        None => "taken; ask /rpc/transaction/{id} what becomes of it".to_owned(),
    };
    Ok((code, Json(PrototypeSent { success: !rejected, transaction_hash: status.tx_hash, message, status })))
}

pub(in super::super) async fn estimate_fee(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<FeeEstimate>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let value = read_json(&headers, body)?;
    let wrong = |field: &str, found: &Value, allowed: &str| {
        let found = shown(&found.to_string());
        ApiError::Transaction(JsonError::Field { field: field.into(), found, allowed: allowed.into() })
    };
    let name = match &value["type"] {
        Value::Null => "TRANSFER".to_owned(),
        Value::String(name) => shown(&name.to_ascii_uppercase()),
        other => return Err(wrong("type", other, "the name of a type expected, TRANSFER without it")),
    };
    let payload = match &value["payload"] {
        Value::Null => json!({}),
        object @ Value::Object(_) => object.clone(),
        other => return Err(wrong("payload", other, "an object expected")),
    };
    let bytes = payload.to_string().len();
    let rules = Rules::of(&api.view.identity.genesis);
    let least = api.view.snapshot().state.terms(&rules).min_fee;
    let estimated_fee = match json::action_of(&value) {
        Ok(action) => action.least_fee(least),
        Err(cause) => {
            let units = units_of_part(&name, &payload, bytes, &rules).ok_or(ApiError::Transaction(cause))?;
            units.saturating_mul(least)
        }
    };
    // Of what needs no fee both are 0.
    let base_fee = least.min(estimated_fee);
    Ok(Json(FeeEstimate { r#type: name, base_fee, payload_bytes: bytes as u64, estimated_fee }))
}

/// Least fees of what is not whole yet, or has more in it as the prototype's payloads had: no less than the whole one will need. The
/// payload is so many `bytes` as JSON. `None` of a type whose fee goes by what it says, and of none.
fn units_of_part(name: &str, payload: &Value, bytes: usize, rules: &Rules) -> Option<u64> {
    let pieces = bytes.div_ceil(FEE_UNIT_BYTES) as u64;
    let asked = rules.receipts.as_ref().map_or(1, |receipts| u64::from(receipts.terms.coordinator_threshold));
    let given = payload["attestations"].as_array().map_or(0, |list| list.len() as u64);
    let signatures = 1 + given.max(asked);
    match name {
        "FAUCET" => Some(0),
        "TRANSFER" => Some(1),
        CLAIM => Some(pieces + signatures + FEE_UNITS_OF_RECORD),
        "ESCROW_RELEASE" => Some(pieces + signatures),
        "ESCROW_LOCK" => Some(pieces + FEE_UNITS_OF_RECORD),
        _ => None,
    }
}

/// Never imports anything, and says so in the shape that was always answered with 200.
pub(in super::super) async fn import_block(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ImportedBlock>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let value = read_json(&headers, body)?;
    let reason = "blocks are agreed on by the validators and certified by more than two thirds of them; none is taken \
        from clients: send transactions to /rpc/send_tx, and check blocks by /rpc/headers";
    Ok(Json(ImportedBlock {
        accepted: false,
        height: value["height"].clone(),
        hash: value["hash"].clone(),
        reason: reason.into(),
        reorged: false,
        reorg_depth: 0,
    }))
}
