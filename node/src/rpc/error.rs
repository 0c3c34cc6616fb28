//! The one place that maps what goes wrong to an HTTP status, a stable code, a message and a detail.
//!
//! ```text
//! {"code": "NONCE_GAP", "message": "what happened and what to do", "detail": {…}}
//! ```
//! 400: the request cannot be read. 422: it can, but this transaction will never be accepted. 409: it does not fit the
//! chain or the pool as they are now. 429 and 503 carry `Retry-After`. Inner causes are logged, not sent.

use super::transaction::TransactionStatus;
use crate::mempool::SubmitError;
use crate::storage::StorageError;
use aitbc_core::hash::Hash;
use aitbc_core::json::JsonError;
use aitbc_core::mempool::Rejected;
use aitbc_core::params::{MAX_SUPPLY, MAX_TX_BYTES};
use aitbc_core::transaction::TransactionError;
use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The body of every error answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// Stable: programs decide by it.
    pub code: String,
    /// For people: what happened and what to do.
    pub message: String,
    /// The figures of the message; an object.
    pub detail: Value,
}

/// Why a request is not answered with what was asked for.
#[derive(Debug)]
pub enum ApiError {
    /// 400 `MALFORMED_JSON`: the body is no JSON, or not of the outer form asked for.
    MalformedJson(String),
    /// 400 `MALFORMED_BORSH`: the body is no borsh list of signed transactions.
    MalformedBorsh(String),
    /// 400 `MALFORMED_TRANSACTION`: a field is missing, unknown or of the wrong form.
    /// 400 `UNKNOWN_ADDRESS_FORM`: an address in it is none. 422 `AMOUNT_OUT_OF_RANGE`, `FEE_OUT_OF_RANGE`: over the
    /// bound. 422 `WRONG_CHAIN`: signed for another genesis. 422 `WRONG_SENDER`: sender and public key differ.
    Transaction(JsonError),
    /// 422 `UNSIGNED_TRANSACTION`: nobody signed it as this chain wants it; the detail says what is missing and how to sign.
    Unsigned {
        /// Fields that are not there.
        missing: Vec<&'static str>,
        /// This chain's genesis hash, which is signed with it.
        chain: Hash,
    },
    /// 409 with the result's code: a transaction that the node made for a client took no effect.
    NoEffect(TransactionStatus),
    /// What the pool says of a transaction, see [`submit_code`].
    Submit {
        /// The transaction's id.
        id: Hash,
        /// Why it was not taken.
        error: SubmitError,
    },
    /// 400 `UNKNOWN_ADDRESS_FORM`: the address in the path is none.
    UnknownAddressForm(String),
    /// 400 `MALFORMED_HASH`: the transaction id in the path is none.
    MalformedHash(String),
    /// 400 `MALFORMED_HEIGHT`: neither a height nor `latest`.
    MalformedHeight(String),
    /// 400 `INVALID_QUERY`: an unknown parameter, or a value that is not allowed.
    InvalidQuery {
        /// The parameter.
        name: String,
        /// What was given.
        found: String,
        /// What may be given.
        allowed: String,
    },
    /// 400 `WEBSOCKET_EXPECTED`: plain HTTP on a WebSocket route.
    WebSocketExpected(String),
    /// 404 `NOT_FOUND`: the route is there, the thing is not.
    NotFound {
        /// What was looked for.
        what: String,
        /// What to try.
        hint: String,
    },
    /// 410 `PRUNED`: it was here, and was deleted as `PRUNING` says; or a snapshot was fetched instead of it.
    Pruned {
        /// What was looked for.
        what: String,
        /// Least height whose transactions are kept.
        lowest: u64,
    },
    /// 404 `NOT_PROVABLE`: it is or was there, but what proves it is not kept here.
    NotProvable {
        /// What was to be proven.
        what: String,
        /// What to do.
        hint: &'static str,
        /// The height that can be proven instead; `None`: nothing now.
        provable_height: Option<u64>,
    },
    /// 404 `UNKNOWN_ROUTE`: no such route; the detail lists those that exist.
    UnknownRoute {
        /// What was asked for.
        path: String,
        /// What there is.
        routes: &'static [&'static str],
    },
    /// 405 `METHOD_NOT_ALLOWED`: the header `Allow` says which are.
    MethodNotAllowed {
        /// What was tried.
        method: String,
        /// Where.
        path: String,
    },
    /// 413 `BODY_TOO_LARGE`.
    BodyTooLarge {
        /// Bytes, or transactions, that are allowed.
        allowed: String,
    },
    /// 415 `UNSUPPORTED_MEDIA_TYPE`.
    UnsupportedMediaType {
        /// The content type given.
        found: String,
        /// What is read here.
        allowed: &'static str,
    },
    /// 429 `RATE_LIMITED`: more requests a second than one client may send.
    RateLimited {
        /// Requests a second.
        allowed: u32,
        /// When the next one is taken.
        retry: Duration,
    },
    /// 503 `TOO_MANY_SUBSCRIBERS`: the cap on WebSocket clients is reached.
    TooManySubscribers {
        /// The cap.
        allowed: usize,
    },
    /// 503 `BUSY`: something inside is full or late.
    Busy(&'static str),
    /// 503 `STOPPING`: the node is on its way down.
    Stopping,
    /// 503 `NOT_READY`: `/ready` says why.
    NotReady {
        /// The reason.
        reason: String,
        /// Own height.
        height: u64,
        /// Highest height a peer told of.
        best_peer_height: u64,
    },
    /// 503 `STALLED`: the consensus loop does not turn.
    Stalled {
        /// Since its last turn.
        age: Duration,
    },
    /// 503 `DATABASE_UNAVAILABLE`.
    Database(StorageError),
    /// 504 `TIMEOUT`: not answered within `RPC_TIMEOUT`.
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// 500 `INTERNAL`: a bug; the log has the cause.
    Internal(String),
}

impl ApiError {
    /// Status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            ApiError::MalformedJson(_)
            | ApiError::MalformedBorsh(_)
            | ApiError::UnknownAddressForm(_)
            | ApiError::MalformedHash(_)
            | ApiError::MalformedHeight(_)
            | ApiError::InvalidQuery { .. }
            | ApiError::WebSocketExpected(_) => StatusCode::BAD_REQUEST,
            ApiError::Transaction(error) => match json_code(error) {
                "MALFORMED_JSON" | "MALFORMED_TRANSACTION" | "UNKNOWN_ADDRESS_FORM" => StatusCode::BAD_REQUEST,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            },
            ApiError::Submit { error, .. } => submit_status(error),
            ApiError::Unsigned { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            ApiError::NoEffect(_) => StatusCode::CONFLICT,
            ApiError::NotFound { .. } | ApiError::NotProvable { .. } | ApiError::UnknownRoute { .. } => {
                StatusCode::NOT_FOUND
            }
            ApiError::Pruned { .. } => StatusCode::GONE,
            ApiError::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ApiError::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            ApiError::TooManySubscribers { .. }
            | ApiError::Busy(_)
            | ApiError::Stopping
            | ApiError::NotReady { .. }
            | ApiError::Stalled { .. }
            | ApiError::Database(_) => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Stable code.
    pub fn code(&self) -> &str {
        match self {
            ApiError::Unsigned { .. } => "UNSIGNED_TRANSACTION",
            ApiError::NoEffect(status) => status.code.as_deref().unwrap_or("INTERNAL"),
            ApiError::MalformedJson(_) => "MALFORMED_JSON",
            ApiError::MalformedBorsh(_) => "MALFORMED_BORSH",
            ApiError::Transaction(error) => json_code(error),
            ApiError::Submit { error, .. } => submit_code(error),
            ApiError::UnknownAddressForm(_) => "UNKNOWN_ADDRESS_FORM",
            ApiError::MalformedHash(_) => "MALFORMED_HASH",
            ApiError::MalformedHeight(_) => "MALFORMED_HEIGHT",
            ApiError::InvalidQuery { .. } => "INVALID_QUERY",
            ApiError::WebSocketExpected(_) => "WEBSOCKET_EXPECTED",
            ApiError::NotFound { .. } => "NOT_FOUND",
            ApiError::NotProvable { .. } => "NOT_PROVABLE",
            ApiError::Pruned { .. } => "PRUNED",
            ApiError::UnknownRoute { .. } => "UNKNOWN_ROUTE",
            ApiError::MethodNotAllowed { .. } => "METHOD_NOT_ALLOWED",
            ApiError::BodyTooLarge { .. } => "BODY_TOO_LARGE",
            ApiError::UnsupportedMediaType { .. } => "UNSUPPORTED_MEDIA_TYPE",
            ApiError::RateLimited { .. } => "RATE_LIMITED",
            ApiError::TooManySubscribers { .. } => "TOO_MANY_SUBSCRIBERS",
            ApiError::Busy(_) => "BUSY",
            ApiError::Stopping => "STOPPING",
            ApiError::NotReady { .. } => "NOT_READY",
            ApiError::Stalled { .. } => "STALLED",
            ApiError::Database(_) => "DATABASE_UNAVAILABLE",
            ApiError::Timeout { .. } => "TIMEOUT",
            ApiError::Internal(_) => "INTERNAL",
        }
    }

    fn message(&self) -> String {
        match self {
            ApiError::MalformedJson(cause) => format!("the body is not the JSON asked for: {cause}"),
            ApiError::MalformedBorsh(cause) => format!("the body is not a borsh list of signed transactions: {cause}"),
            ApiError::Transaction(error) => error.to_string(),
            ApiError::Submit { error, .. } => error.to_string(),
            ApiError::Unsigned { missing, .. } => format!(
                "a transaction without a signature of this chain is not taken ({} missing): sign as detail.sign says with \
                 an ed25519 key and send {{\"type\", \"genesis_hash\", \"public_key\", \"nonce\", \"fee\", \
                 \"expiry_height\", \"payload\", \"signature\"}} to /rpc/send_tx; docs/clients.md has programs",
                missing.join(", ")
            ),
            ApiError::NoEffect(status) => {
                format!(
                    "transaction {} took no effect: {}",
                    status.tx_hash,
                    status.reason.as_deref().unwrap_or("no reason")
                )
            }
            ApiError::UnknownAddressForm(found) => {
                format!("\"{found}\" is not an address: send ait1… (bech32) or 0x and 40 hex digits")
            }
            ApiError::MalformedHash(found) => {
                format!("\"{found}\" is not a transaction id: send 0x and 64 hex digits")
            }
            ApiError::MalformedHeight(found) => {
                format!("\"{found}\" is not a height: send a whole number from 0, or \"latest\"")
            }
            ApiError::InvalidQuery { name, found, allowed } => {
                format!("query parameter \"{name}\" is \"{found}\", allowed: {allowed}")
            }
            ApiError::WebSocketExpected(cause) => {
                format!("this route speaks WebSocket only: connect with ws:// ({cause})")
            }
            ApiError::NotFound { what, hint } => format!("{what} is not known here; {hint}"),
            ApiError::NotProvable { what, hint, .. } => format!("{what} cannot be proven here; {hint}"),
            ApiError::Pruned { what, lowest } => {
                format!("{what} is not kept here: blocks from height {lowest} on are kept; ask a node that keeps all")
            }
            ApiError::UnknownRoute { path, .. } => {
                format!("there is no \"{path}\"; detail.routes lists what there is, docs/rpc.md explains it")
            }
            ApiError::MethodNotAllowed { method, path } => {
                format!("{method} is not allowed on \"{path}\"; the header Allow says what is")
            }
            ApiError::BodyTooLarge { allowed } => {
                format!("the body is too large, at most {allowed} allowed; send less")
            }
            ApiError::UnsupportedMediaType { found, allowed } => {
                format!("content type \"{found}\" is not read here; send {allowed}")
            }
            ApiError::RateLimited { allowed, .. } => {
                format!("one client may send {allowed} requests a second; wait as Retry-After says")
            }
            ApiError::TooManySubscribers { allowed } => {
                format!("{allowed} subscribers are connected, no more are taken; try later or another node")
            }
            ApiError::Busy(what) => format!("{what}; try again"),
            ApiError::Stopping => "the node is stopping; use another node".into(),
            ApiError::NotReady { reason, .. } => format!("not ready: {reason}"),
            ApiError::Stalled { age } => {
                format!("the consensus loop has not turned for {} s; restart the node", age.as_secs())
            }
            ApiError::Database(_) => "the database does not answer; try again".into(),
            ApiError::Timeout { limit } => format!(
                "not answered within {} ms; what was sent may still take effect, ask /rpc/transaction/{{id}}",
                limit.as_millis()
            ),
            ApiError::Internal(_) => "the node made a mistake; its log has the cause".into(),
        }
    }

    fn detail(&self) -> Value {
        match self {
            ApiError::Transaction(error) => error.detail(),
            ApiError::Submit { id, error } => {
                let mut detail = submit_detail(error);
                detail["tx_hash"] = json!(id);
                detail
            }
            ApiError::Unsigned { missing, chain } => json!({
                "missing": missing,
                "genesis_hash": chain,
                "sign": "ed25519 over \"aitbc/tx/v1\" padded with zeros to 16 bytes, then genesis_hash [32], public_key [32], \
                    nonce u64, fee u64, expiry_height u64, action; a TRANSFER's action is a zero byte, recipient [20], \
                    amount u64; numbers little-endian",
            }),
            ApiError::NoEffect(status) => json!({ "tx_hash": status.tx_hash, "height": status.height }),
            ApiError::UnknownAddressForm(found) | ApiError::MalformedHash(found) | ApiError::MalformedHeight(found) => {
                json!({ "found": found })
            }
            ApiError::InvalidQuery { name, found, allowed } => {
                json!({ "parameter": name, "found": found, "allowed": allowed })
            }
            ApiError::NotProvable { provable_height, .. } => json!({ "provable_height": provable_height }),
            ApiError::Pruned { lowest, .. } => json!({ "lowest_height": lowest }),
            ApiError::UnknownRoute { path, routes } => json!({ "path": path, "routes": routes }),
            ApiError::MethodNotAllowed { method, path } => json!({ "method": method, "path": path }),
            ApiError::BodyTooLarge { allowed } => json!({ "allowed": allowed }),
            ApiError::UnsupportedMediaType { found, allowed } => json!({ "found": found, "allowed": allowed }),
            ApiError::RateLimited { allowed, .. } => json!({ "requests_per_second": allowed }),
            ApiError::TooManySubscribers { allowed } => json!({ "allowed": allowed }),
            ApiError::NotReady { reason, height, best_peer_height } => {
                json!({ "reason": reason, "height": height, "best_peer_height": best_peer_height })
            }
            ApiError::Stalled { age } => json!({ "last_turn_ms_ago": age.as_millis() as u64 }),
            ApiError::Timeout { limit } => json!({ "timeout_ms": limit.as_millis() as u64 }),
            ApiError::MalformedJson(_)
            | ApiError::MalformedBorsh(_)
            | ApiError::WebSocketExpected(_)
            | ApiError::NotFound { .. }
            | ApiError::Busy(_)
            | ApiError::Stopping
            | ApiError::Database(_)
            | ApiError::Internal(_) => json!({}),
        }
    }

    /// When the same request may succeed, for 429 and 503.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            ApiError::RateLimited { retry, .. } => Some(*retry),
            _ => match self.status() {
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some(Duration::from_secs(1)),
                _ => None,
            },
        }
    }

    /// What is sent.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { code: self.code().to_owned(), message: self.message(), detail: self.detail() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match &self {
            ApiError::Database(cause) => tracing::warn!(%cause, "request failed in the database"),
            ApiError::Internal(cause) => tracing::error!(cause, "request failed"),
            _ => {}
        }
        let mut response = (self.status(), Json(self.body())).into_response();
        if let Some(wait) = self.retry_after() {
            let seconds = wait.as_millis().div_ceil(1_000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        response
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        ApiError::Database(error)
    }
}

impl From<JsonError> for ApiError {
    fn from(error: JsonError) -> Self {
        ApiError::Transaction(error)
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::BodyTooLarge { allowed: format!("{} bytes", super::limits::MAX_BODY_BYTES) }
        } else {
            ApiError::MalformedJson(format!("the body did not arrive: {rejection}"))
        }
    }
}

/// The core's code, but that broken JSON and figures over a bound have codes of their own.
fn json_code(error: &JsonError) -> &'static str {
    match error {
        JsonError::Syntax(_) => "MALFORMED_JSON",
        JsonError::Field { field, found, .. } if is_number(found) => match field.rsplit('.').next() {
            Some("amount") => "AMOUNT_OUT_OF_RANGE",
            Some("fee") => "FEE_OUT_OF_RANGE",
            Some("units") => "UNITS_OUT_OF_RANGE",
            _ => error.code(),
        },
        _ => error.code(),
    }
}

/// A whole number that does not fit the field, rather than something else.
fn is_number(found: &str) -> bool {
    let digits = found.strip_prefix('-').unwrap_or(found);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Stable code of what the pool says.
pub fn submit_code(error: &SubmitError) -> &'static str {
    match error {
        SubmitError::Invalid(TransactionError::TooLarge { .. }) => "TRANSACTION_TOO_LARGE",
        SubmitError::Invalid(TransactionError::AmountOutOfRange { .. }) => "AMOUNT_OUT_OF_RANGE",
        SubmitError::Invalid(TransactionError::MotionOutOfRange { .. }) => "MOTION_OUT_OF_RANGE",
        SubmitError::Invalid(TransactionError::TotalOutOfRange) => "TOTAL_OUT_OF_RANGE",
        SubmitError::Invalid(TransactionError::NoPayments) => "NO_PAYMENTS",
        SubmitError::Invalid(TransactionError::NoJob) => "NO_JOB",
        SubmitError::Invalid(TransactionError::EverybodysKey(_)) => "EVERYBODYS_KEY",
        SubmitError::Invalid(TransactionError::Receipt(error)) => error.code(),
        SubmitError::InvalidSignature => "INVALID_SIGNATURE",
        SubmitError::Rejected(rejected) => rejected.code(),
        SubmitError::NotValidator => "NOT_A_VALIDATOR",
        SubmitError::Busy => "BUSY",
        SubmitError::Stopping => "STOPPING",
    }
}

fn submit_status(error: &SubmitError) -> StatusCode {
    match error {
        SubmitError::Invalid(TransactionError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
        SubmitError::Invalid(_) | SubmitError::InvalidSignature => StatusCode::UNPROCESSABLE_ENTITY,
        SubmitError::Rejected(rejected) => match rejected {
            Rejected::FeeTooLow { .. }
            | Rejected::FaucetDisabled
            | Rejected::FaucetLimit { .. }
            | Rejected::Receipt { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Rejected::SenderFull { .. } => StatusCode::TOO_MANY_REQUESTS,
            Rejected::MempoolFull { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Rejected::Duplicate
            | Rejected::NonceTooLow { .. }
            | Rejected::NonceGap { .. }
            | Rejected::NonceInFlight { .. }
            | Rejected::InsufficientBalance { .. }
            | Rejected::ReplacementUnderpriced { .. }
            | Rejected::Expired { .. }
            | Rejected::ExpiryTooFar { .. } => StatusCode::CONFLICT,
        },
        SubmitError::NotValidator | SubmitError::Busy | SubmitError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn submit_detail(error: &SubmitError) -> Value {
    match error {
        SubmitError::Invalid(TransactionError::TooLarge { found }) => json!({ "found": found, "max": MAX_TX_BYTES }),
        SubmitError::Invalid(TransactionError::AmountOutOfRange { found }) => {
            json!({ "found": found, "min": 1, "max": MAX_SUPPLY })
        }
        SubmitError::Invalid(TransactionError::MotionOutOfRange { found }) => {
            json!({ "found": found, "max": MAX_SUPPLY })
        }
        SubmitError::Invalid(TransactionError::TotalOutOfRange) => json!({ "max": MAX_SUPPLY }),
        SubmitError::Rejected(rejected) => rejected.detail(),
        SubmitError::Invalid(
            TransactionError::NoPayments
            | TransactionError::NoJob
            | TransactionError::EverybodysKey(_)
            | TransactionError::Receipt(_),
        )
        | SubmitError::InvalidSignature
        | SubmitError::NotValidator
        | SubmitError::Busy
        | SubmitError::Stopping => json!({}),
    }
}
