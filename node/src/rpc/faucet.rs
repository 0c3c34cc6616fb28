//! `POST /rpc/faucet`: units for an address, where genesis has a faucet. The node signs the transaction, by a key of its own
//! that owns nothing: who can sign may send the same as a `FAUCET` transaction to `/rpc/send_tx`.

use super::Api;
use super::error::ApiError;
use super::query::{Parameters, shown};
use super::send_tx::{longest_wait, read_json, submit, wait_final};
use super::transaction::{Status, TransactionStatus};
use aitbc_core::hash::Hash;
use aitbc_core::json::JsonError;
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::params::{MAX_EXPIRY_AHEAD, MAX_SUPPLY};
use aitbc_core::transaction::{Action, Payment, Transaction};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

/// The key by which this process asks the faucet, new at each start: an account with a nonce and no balance.
pub(super) struct FaucetKey {
    key: SecretKey,
    /// Held from reading a nonce until it is used.
    turn: Mutex<()>,
}

impl FaucetKey {
    /// A new key.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub(super) fn new() -> Result<FaucetKey, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(FaucetKey { key: SecretKey::from_seed(seed), turn: Mutex::default() })
    }
}

/// Units that came out of the faucet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Given {
    /// Who has them.
    pub address: Address,
    /// Its balance after the last final block.
    pub balance: u64,
    /// Id of the transaction.
    pub tx_hash: Hash,
    /// `final`, or `pending` with 202 where it is not within the time of a request.
    pub status: Status,
}

/// Answers once the units are there.
pub(super) async fn faucet(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Given>), ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let payment = payment(&read_json(&headers, body)?)?;
    let address = payment.to;
    let (_, Json(taken)) = ask(&api, payment).await?;
    let status = wait_final(&api, taken.tx_hash, longest_wait(api.timeout)).await?;
    let code = match status.status {
        Status::Rejected => return Err(ApiError::NoEffect(status)),
        Status::Pending => StatusCode::ACCEPTED,
        Status::Final => StatusCode::OK,
    };
    let balance = api.view.snapshot().state.account(&address).balance;
    Ok((code, Json(Given { address, balance, tx_hash: status.tx_hash, status: status.status })))
}

/// Signs and submits; one at a time, or two would use one nonce.
async fn ask(api: &Api, payment: Payment) -> Result<(StatusCode, Json<TransactionStatus>), ApiError> {
    let FaucetKey { key, turn } = &api.faucet;
    let _turn = turn.lock().await;
    let sender = key.public().address();
    let queued = api.mempool.next_nonce(sender).await.unwrap_or(0);
    let snapshot = api.view.snapshot();
    let nonce = queued.max(snapshot.state.account(&sender).nonce);
    let expiry_height = snapshot.head.height + MAX_EXPIRY_AHEAD / 2;
    let transaction =
        Transaction { sender: key.public(), nonce, fee: 0, expiry_height, action: Action::Faucet(payment) };
    submit(api, transaction.sign(&api.view.identity.chain, key), None).await
}

/// `{"address", "amount"}`.
fn payment(value: &Value) -> Result<Payment, ApiError> {
    let found = |field: &str| value.get(field).map_or_else(|| "missing".to_owned(), |value| shown(&value.to_string()));
    let address = || JsonError::Address { field: "address".into(), found: found("address") };
    let amount = || {
        let allowed = "a whole number from 1 expected".into();
        JsonError::Field { field: "amount".into(), found: found("amount"), allowed }
    };
    Ok(Payment {
        to: value["address"].as_str().and_then(|text| text.parse().ok()).ok_or_else(address)?,
        amount: value["amount"].as_u64().filter(|units| (1..=MAX_SUPPLY).contains(units)).ok_or_else(amount)?,
    })
}
