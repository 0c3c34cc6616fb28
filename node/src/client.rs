//! A client of the REST interface, for the command line, tests and benchmarks. Every answer and every error is typed.

use crate::rpc::error::ErrorBody;
use crate::rpc::genesis::GenesisInfo;
use crate::rpc::get_balance::Balance;
use crate::rpc::get_block::BlockInfo;
use crate::rpc::get_head::Head;
use crate::rpc::headers::Headers;
use crate::rpc::mempool::Pool;
use crate::rpc::peers::Peers;
use crate::rpc::proof::{ProvenAccount, ProvenTransaction};
use crate::rpc::receipts::{Escrow, Minted, ReceiptList};
use crate::rpc::send_txs::Sent;
use crate::rpc::supply::Supply;
use crate::rpc::sync_status::SyncStatus;
use crate::rpc::transaction::{Status, TransactionStatus};
use crate::rpc::validators::Validators;
use aitbc_core::codec;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::receipt::Name;
use aitbc_core::transaction::SignedTransaction;
use reqwest::{RequestBuilder, header};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::error::Error;
use std::time::{Duration, Instant};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, waiting for a result aside.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that one request asks the node to wait; beyond, it is asked again.
const WAIT_STEP: Duration = Duration::from_secs(10);
/// Pause between two looks at a transaction.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why there is no answer of the kind asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base URL is none.
    #[error("\"{0}\" is not a URL: expected http://host:port")]
    Url(String),
    /// The node cannot be reached, or the connection broke.
    #[error("{url} cannot be reached: {}", root_cause(.cause))]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why.
        cause: reqwest::Error,
    },
    /// The node refused.
    #[error("{}: {}", .body.code, .body.message)]
    Refused {
        /// HTTP status.
        status: u16,
        /// Code, message, detail.
        body: ErrorBody,
        /// When to try again, where the node says so.
        retry_after: Option<Duration>,
    },
    /// The answer is not of this interface.
    #[error("{url} answers with status {status} something that is not understood: {cause}")]
    Shape {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        cause: String,
    },
    /// No result within the time.
    #[error("transaction {id} is still pending after {} ms; ask again with \"query tx {id}\"", .waited.as_millis())]
    StillPending {
        /// Which.
        id: Hash,
        /// How long.
        waited: Duration,
    },
}

impl ClientError {
    /// When the same request may succeed, where the node is busy or asked too often.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Refused { status: 429 | 503, retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The node's stable code, where it refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Refused { body, .. } => Some(&body.code),
            _ => None,
        }
    }
}

/// The innermost cause: reqwest's own message only repeats the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A name as it stands in a query.
fn percent_encoded(name: &Name) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.as_str().bytes().map(encode).collect()
}

/// A client of one node; cheap to clone, keeps connections open.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// A client of the node at `url`, such as `http://127.0.0.1:9080`.
    ///
    /// # Errors
    /// Where it is no such URL.
    pub fn new(url: &str) -> Result<Client, ClientError> {
        let wrong = || ClientError::Url(url.to_owned());
        let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // The node closes idle connections after 10 s; ours must not be used then.
            .pool_idle_timeout(Duration::from_secs(8))
            .tcp_nodelay(true)
            .build()
            .map_err(|cause| ClientError::Unreachable { url: url.to_owned(), cause })?;
        Ok(Client { http, base: url.trim_end_matches('/').to_owned() })
    }

    /// The last final block.
    ///
    /// # Errors
    /// See [`ClientError`], as with all that follow.
    pub async fn get_head(&self) -> Result<Head, ClientError> {
        self.get("/rpc/get_head").await
    }

    /// A block; `None`: the last one.
    ///
    /// # Errors
    /// `NOT_FOUND` above the head.
    pub async fn get_block(&self, height: Option<u64>, full: bool) -> Result<BlockInfo, ClientError> {
        let height = height.map_or_else(|| "latest".to_owned(), |height| height.to_string());
        self.get(&format!("/rpc/get_block/{height}?full={full}")).await
    }

    /// An account after the last final block.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get_balance(&self, address: &Address, proof: bool) -> Result<Balance, ClientError> {
        self.get(&format!("/rpc/get_balance/{address}?proof={proof}")).await
    }

    /// A receipt that minted.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn receipt(&self, provider: &Address, receipt_id: &Name) -> Result<Minted, ClientError> {
        self.get(&format!("/rpc/receipt/{provider}?receipt_id={}", percent_encoded(receipt_id))).await
    }

    /// Receipts that minted, newest first: all, or those of a job or a provider.
    ///
    /// # Errors
    /// `INVALID_QUERY` where both are given.
    pub async fn receipts(
        &self,
        job: Option<&Name>,
        provider: Option<&Address>,
        limit: u32,
    ) -> Result<ReceiptList, ClientError> {
        let job = job.map(|job| format!("&job_id={}", percent_encoded(job))).unwrap_or_default();
        let provider = provider.map(|provider| format!("&provider={provider}")).unwrap_or_default();
        self.get(&format!("/rpc/receipts?limit={limit}{job}{provider}")).await
    }

    /// How many units there are.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn supply(&self) -> Result<Supply, ClientError> {
        self.get("/rpc/supply").await
    }

    /// What a client locked for a job.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn escrow(&self, client: &Address, job_id: &Name) -> Result<Escrow, ClientError> {
        self.get(&format!("/rpc/escrow/{client}?job_id={}", percent_encoded(job_id))).await
    }

    /// Final headers from a height on, with certificates, and with batches where asked for; none above the head.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn headers(&self, from: u64, count: u64, batches: bool) -> Result<Headers, ClientError> {
        self.get(&format!("/rpc/headers?from={from}&count={count}&batches={batches}")).await
    }

    /// An account after the block below the last one, with what proves it.
    ///
    /// # Errors
    /// `NOT_PROVABLE` shortly after a start of the node.
    pub async fn account_proof(&self, address: &Address) -> Result<ProvenAccount, ClientError> {
        self.get(&format!("/rpc/proof/account/{address}")).await
    }

    /// A final transaction with what proves it and its result.
    ///
    /// # Errors
    /// `NOT_FOUND` where it is in no final block, `NOT_PROVABLE` where the block's batches were deleted.
    pub async fn transaction_proof(&self, id: &Hash) -> Result<ProvenTransaction, ClientError> {
        self.get(&format!("/rpc/proof/transaction/{id}")).await
    }

    /// Genesis and its hash, as the node tells them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn genesis(&self) -> Result<GenesisInfo, ClientError> {
        self.get("/rpc/genesis").await
    }

    /// The validator set and the candidates.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn validators(&self) -> Result<Validators, ClientError> {
        self.get("/rpc/validators").await
    }

    /// The other validators.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn peers(&self) -> Result<Peers, ClientError> {
        self.get("/rpc/peers").await
    }

    /// Why there is no block, as the node sees it; the fields are those of docs/rpc.md.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn doctor(&self) -> Result<serde_json::Value, ClientError> {
        self.get("/rpc/consensus/doctor").await
    }

    /// Pending transactions of the node.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn mempool(&self, limit: u64) -> Result<Pool, ClientError> {
        self.get(&format!("/rpc/mempool?limit={limit}")).await
    }

    /// Where the node is and how it does.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn sync_status(&self) -> Result<SyncStatus, ClientError> {
        self.get("/sync_status").await
    }

    /// What became of a transaction.
    ///
    /// # Errors
    /// `NOT_FOUND` where the node does not know it.
    pub async fn transaction(&self, id: &Hash) -> Result<TransactionStatus, ClientError> {
        self.get(&format!("/rpc/transaction/{id}")).await
    }

    /// Sends a transaction; the answer is `pending`.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn send(&self, signed: &SignedTransaction) -> Result<TransactionStatus, ClientError> {
        self.send_raw(signed, "/rpc/send_tx", ANSWER_TIMEOUT).await
    }

    /// Sends a transaction and waits until it is final or rejected.
    ///
    /// # Errors
    /// Why it was not taken; [`ClientError::StillPending`] when time is up.
    pub async fn send_and_wait(
        &self,
        signed: &SignedTransaction,
        timeout: Duration,
    ) -> Result<TransactionStatus, ClientError> {
        let start = Instant::now();
        let step = timeout.min(WAIT_STEP);
        let path = format!("/rpc/send_tx?wait=final&timeout_ms={}", step.as_millis().max(1));
        let status = self.send_raw(signed, &path, step + ANSWER_TIMEOUT).await?;
        match status.status {
            Status::Pending => self.wait_final(&status.tx_hash, timeout.saturating_sub(start.elapsed())).await,
            Status::Final | Status::Rejected => Ok(status),
        }
    }

    /// Asks again and again until a transaction is final or rejected.
    ///
    /// # Errors
    /// [`ClientError::StillPending`] when time is up.
    pub async fn wait_final(&self, id: &Hash, timeout: Duration) -> Result<TransactionStatus, ClientError> {
        let start = Instant::now();
        loop {
            let status = self.transaction(id).await?;
            if status.status != Status::Pending {
                return Ok(status);
            }
            if start.elapsed() >= timeout {
                return Err(ClientError::StillPending { id: *id, waited: timeout });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Sends many at once; one answer each, in order.
    ///
    /// # Errors
    /// Where the request as a whole is refused.
    pub async fn send_many(&self, signed: &[SignedTransaction]) -> Result<Sent, ClientError> {
        let url = self.url("/rpc/send_txs");
        let request = self.http.post(&url).timeout(ANSWER_TIMEOUT);
        let request = request.header(header::CONTENT_TYPE, "application/octet-stream");
        answer(url, request.body(codec::encode(&signed))).await
    }

    async fn send_raw(
        &self,
        signed: &SignedTransaction,
        path: &str,
        timeout: Duration,
    ) -> Result<TransactionStatus, ClientError> {
        let url = self.url(path);
        let body = json!({ "transaction": format!("0x{}", hex::encode(codec::encode(signed))) });
        answer(url.clone(), self.http.post(url).timeout(timeout).json(&body)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let url = self.url(path);
        answer(url.clone(), self.http.get(url).timeout(ANSWER_TIMEOUT)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// Sends a request and reads the answer, or the error that stands in its place.
async fn answer<T: DeserializeOwned>(url: String, request: RequestBuilder) -> Result<T, ClientError> {
    let unreachable = |cause| ClientError::Unreachable { url: url.clone(), cause };
    let response = request.send().await.map_err(unreachable)?;
    let (status, ok) = (response.status().as_u16(), response.status().is_success());
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = response.bytes().await.map_err(unreachable)?;
    let shape = |cause: serde_json::Error| ClientError::Shape { url: url.clone(), status, cause: cause.to_string() };
    if ok {
        return serde_json::from_slice(&bytes).map_err(shape);
    }
    let body = serde_json::from_slice(&bytes).map_err(shape)?;
    Err(ClientError::Refused { status, body, retry_after: retry_after.map(Duration::from_secs) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_taken() {
        for url in ["", "localhost:9080", "ftp://x", "http://"] {
            assert!(matches!(Client::new(url), Err(ClientError::Url(_))), "{url}");
        }
        let client = Client::new("http://localhost:9080/").expect("valid");
        assert_eq!(client.url("/health"), "http://localhost:9080/health");
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_named_with_the_cause() {
        let client = Client::new("http://127.0.0.1:1").expect("valid");
        let error = client.get_head().await.expect_err("nobody listens").to_string();
        assert!(error.contains("http://127.0.0.1:1/rpc/get_head") && error.contains("refused"), "{error}");
    }
}
