//! `GET /rpc/receipt/{provider}`, `/rpc/escrow/{client}`: what the state remembers of a receipt, and of a job.
//! `GET /rpc/receipts`, `/rpc/receipts/{id}`: receipts that minted, in the prototype's shape, by receipt, job and provider.

use super::Api;
use super::error::ApiError;
use super::query::{self, Page, Parameters, Segment};
use crate::events::naive_utc;
use crate::storage::{ReceiptRow, ReceiptsOf};
use aitbc_core::hash::Hash;
use aitbc_core::json;
use aitbc_core::key::Address;
use aitbc_core::receipt::{self, Name};
use aitbc_core::record::{Record, RecordKey};
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most receipts of a list, and how many without `limit`: each may be 16 KiB.
const LISTED: (u32, u32) = (100, 20);

/// A receipt that minted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Minted {
    /// Whose.
    pub provider: Address,
    /// As the provider calls it.
    pub receipt_id: String,
    /// SHA-256 of its canonical form.
    pub digest: Hash,
    /// Smallest units it minted, the coordinators' share among them.
    pub minted_amount: u64,
    /// Height of the block that minted it.
    pub height: u64,
}

/// Where the units of a job are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EscrowStatus {
    /// A receipt pays them out, or the client has them back after the timeout.
    Locked,
    /// They were paid.
    Paid,
}

/// What a client locked for a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Escrow {
    /// Who locked.
    pub client: Address,
    /// As the client calls it.
    pub job_id: String,
    /// Where the units are.
    pub status: EscrowStatus,
    /// Who may be paid, null: anyone; who was paid.
    pub provider: Option<Address>,
    /// Smallest units that are locked.
    pub amount: u64,
    /// Last height at which a receipt releases them.
    pub timeout_height: u64,
}

/// A receipt that minted, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordedReceipt {
    /// As the provider calls it.
    pub receipt_id: String,
    /// As the client calls the job.
    pub job_id: String,
    /// Whose.
    pub provider: Address,
    /// Who ordered the work.
    pub client: Address,
    /// The receipt as its provider signed it, without the signature.
    pub payload: Value,
    /// The provider's signature, over the payload's canonical form.
    pub miner_signature: Value,
    /// What coordinators signed.
    pub coordinator_attestations: Vec<Value>,
    /// Smallest units it minted, the coordinators' share among them.
    pub minted_amount: u64,
    /// Height of the block that minted it.
    pub block_height: u64,
    /// The block's time, UTC without saying so.
    pub recorded_at: Option<String>,
}

/// A part of the receipts that minted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptList {
    /// Newest first.
    pub receipts: Vec<RecordedReceipt>,
    /// How many there are of these here, counted up to 10,000.
    pub total: u64,
    /// Most of this answer.
    pub limit: u32,
    /// How many newer ones were left out.
    pub offset: u32,
}

impl RecordedReceipt {
    fn of(row: &ReceiptRow) -> RecordedReceipt {
        let attested = &row.attested;
        let mut payload = json::receipt::receipt_value(attested);
        let miner_signature = payload.as_object_mut().and_then(|fields| fields.remove("signature")).unwrap_or_default();
        RecordedReceipt {
            receipt_id: attested.receipt.receipt_id.to_string(),
            job_id: attested.receipt.job_id.to_string(),
            provider: attested.receipt.provider.address(),
            client: attested.receipt.client,
            payload,
            miner_signature,
            coordinator_attestations: attested.attestations.iter().map(json::receipt::attestation_value).collect(),
            minted_amount: row.minted,
            block_height: row.height,
            recorded_at: naive_utc(row.time_ms),
        }
    }
}

/// All, or those of a job or a provider.
pub(super) async fn list(State(api): State<Api>, uri: Uri) -> Result<Json<ReceiptList>, ApiError> {
    let parameters = Parameters::read(&uri, &["job_id", "provider", "limit", "offset", "chain_id"])?;
    parameters.of_chain(&api.view.identity)?;
    let Page { limit, offset } = parameters.page(LISTED.1, LISTED.0)?;
    let provider = "an address, ait1… (bech32) or 0x and 40 hex digits, and no job_id beside it";
    let of = match (parameters.name("job_id")?, parameters.has("provider")) {
        (None, false) => ReceiptsOf::Everybody,
        (Some(job), false) => ReceiptsOf::Job(job),
        (job, true) => {
            let one = |text: &str| if job.is_none() { text.parse().ok() } else { None };
            ReceiptsOf::Provider(parameters.parsed("provider", provider, one)?)
        }
    };
    let (rows, total) = api.view.storage.receipts(of, limit, offset).await?;
    Ok(Json(ReceiptList { receipts: rows.iter().map(RecordedReceipt::of).collect(), total, limit, offset }))
}

/// The newest that its provider calls so: two providers may call theirs the same.
pub(super) async fn one(
    State(api): State<Api>,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Json<RecordedReceipt>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let missing = || {
        let hint = "it has not minted, did so a moment ago, or its block was deleted by pruning; /rpc/receipt/{provider}?receipt_id= \
             knows it in both cases";
        ApiError::NotFound { what: format!("receipt {}", query::shown(&id)), hint: hint.into() }
    };
    let name = Name::new(&id).ok_or_else(missing)?;
    let (rows, _) = api.view.storage.receipts(ReceiptsOf::Receipt(name), 1, 0).await?;
    api.view.or_wanted(rows.first()).map(|row| Json(RecordedReceipt::of(row))).ok_or_else(missing)
}

pub(super) async fn receipt(
    State(api): State<Api>,
    Segment(provider): Segment,
    uri: Uri,
) -> Result<Json<Minted>, ApiError> {
    let receipt_id = name(&uri, "receipt_id")?;
    let provider = query::address(&provider)?;
    let nullifier = receipt::nullifier(&provider, &receipt_id);
    let snapshot = api.view.snapshot();
    let Some(Record::Receipt { digest, height, minted }) = snapshot.state.record(&RecordKey::Receipt { nullifier })
    else {
        let hint = format!("it has not minted up to height {}", snapshot.head.height);
        return Err(ApiError::NotFound { what: format!("receipt {receipt_id} of {provider}"), hint });
    };
    let receipt_id = receipt_id.as_str().to_owned();
    Ok(Json(Minted { provider, receipt_id, digest: *digest, minted_amount: *minted, height: *height }))
}

pub(super) async fn escrow(
    State(api): State<Api>,
    Segment(client): Segment,
    uri: Uri,
) -> Result<Json<Escrow>, ApiError> {
    let job_id = name(&uri, "job_id")?;
    let client = query::address(&client)?;
    let key = RecordKey::Escrow { job: receipt::job(&client, &job_id) };
    let snapshot = api.view.snapshot();
    let Some(Record::Escrow { provider, amount, timeout_height, .. }) = snapshot.state.record(&key) else {
        let hint =
            format!("at height {} nothing is locked for it; it was never, or was refunded", snapshot.head.height);
        return Err(ApiError::NotFound { what: format!("job {job_id} of {client}"), hint });
    };
    Ok(Json(Escrow {
        client,
        job_id: job_id.as_str().to_owned(),
        status: if *amount == 0 { EscrowStatus::Paid } else { EscrowStatus::Locked },
        provider: *provider,
        amount: *amount,
        timeout_height: *timeout_height,
    }))
}

/// The only parameter, which must be there.
fn name(uri: &Uri, parameter: &'static str) -> Result<Name, ApiError> {
    Parameters::read(uri, &[parameter])?.required_name(parameter)
}
