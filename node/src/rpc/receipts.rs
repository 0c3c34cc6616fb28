//! `GET /rpc/receipt/{provider}`, `/rpc/escrow/{client}`: what the state remembers of a receipt, and of a job.

use super::Api;
use super::error::ApiError;
use super::query::{self, Parameters, Segment};
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::receipt::{self, Name};
use aitbc_core::record::{Record, RecordKey};
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};

/// A receipt that minted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EscrowStatus {
    /// A receipt pays them out, or the client has them back after the timeout.
    Locked,
    /// They were paid.
    Paid,
}

/// What a client locked for a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    let allowed = "1 to 64 characters of printable ASCII without \" and \\";
    Parameters::read(uri, &[parameter])?
        .parsed(parameter, allowed, |text| Name::new(text).filter(|n| !n.as_str().is_empty()))
}
