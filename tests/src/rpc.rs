//! The documented HTTP interface as a client sees it: bytes and JSON, apart from the node's own code.

use aitbc_core::codec;
use aitbc_core::hash::Hash;
use aitbc_core::json;
use aitbc_core::key::Address;
use aitbc_core::transaction::SignedTransaction;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::time::Duration;

/// Longest time an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Connections idle for longer are not used again: a node closes them after 10 s, maybe just as a request leaves.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// An answer: status, `Retry-After`, JSON body (null where it is none).
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Seconds of `Retry-After`.
    pub retry_after: Option<u64>,
    /// Body.
    pub body: Value,
}

impl Answer {
    /// The stable code of an error, empty where there is none.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The body of a 2xx answer.
    ///
    /// # Errors
    /// On any other status: shows the body.
    pub fn ok(self) -> Result<Value> {
        if !(200..300).contains(&self.status) {
            bail!("answered {}: {}", self.status, self.body);
        }
        Ok(self.body)
    }
}

/// A node's REST interface.
#[derive(Clone, Debug)]
pub struct Rpc {
    http: reqwest::Client,
    base: String,
}

impl Rpc {
    /// At `http://host:port`.
    ///
    /// # Errors
    /// Where the HTTP client cannot be made.
    pub fn new(base: impl Into<String>) -> Result<Rpc> {
        let client = reqwest::Client::builder().timeout(LIMIT).pool_idle_timeout(IDLE_LIMIT);
        let http = client.no_proxy().tcp_nodelay(true).build()?;
        Ok(Rpc { http, base: base.into() })
    }

    /// `http://host:port`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET, whatever the status.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        answer(self.http.get(format!("{}{path}", self.base))).await.with_context(|| format!("GET {}{path}", self.base))
    }

    /// GET of a text.
    ///
    /// # Errors
    /// Where it is not answered with 200.
    pub async fn text(&self, path: &str) -> Result<String> {
        Ok(self.http.get(format!("{}{path}", self.base)).send().await?.error_for_status()?.text().await?)
    }

    /// Any method with any body, whatever the status.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn request(&self, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let request = self.http.request(method, format!("{}{path}", self.base)).header("content-type", content_type);
        answer(request.body(body)).await.with_context(|| format!("request {}{path}", self.base))
    }

    /// `GET /rpc/get_head`.
    ///
    /// # Errors
    /// Where it is not answered with 200.
    pub async fn head(&self) -> Result<Value> {
        self.get("/rpc/get_head").await?.ok()
    }

    /// Height of the head.
    ///
    /// # Errors
    /// As [`Rpc::head`].
    pub async fn height(&self) -> Result<u64> {
        let head = self.head().await?;
        head["height"].as_u64().with_context(|| format!("no height in {head}"))
    }

    /// Digest of the block at a height.
    ///
    /// # Errors
    /// Where the node has no such block.
    pub async fn block_hash(&self, height: u64) -> Result<String> {
        let block = self.get(&format!("/rpc/get_block/{height}")).await?.ok()?;
        Ok(block["hash"].as_str().with_context(|| format!("no hash in {block}"))?.to_owned())
    }

    /// Balance and next nonce of an account.
    ///
    /// # Errors
    /// Where it is not answered with 200.
    pub async fn balance(&self, address: Address) -> Result<(u64, u64)> {
        let account = self.get(&format!("/rpc/get_balance/{address}")).await?.ok()?;
        let number = |name: &str| account[name].as_u64().with_context(|| format!("no {name} in {account}"));
        Ok((number("balance")?, number("nonce")?))
    }

    /// `POST /rpc/send_tx`, as JSON. `query` is empty or `?wait=final`.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn send(&self, signed: &SignedTransaction, chain: &Hash, query: &str) -> Result<Answer> {
        let body = json::to_value(signed, chain).to_string().into_bytes();
        self.request("POST", &format!("/rpc/send_tx{query}"), "application/json", body).await
    }

    /// Sends and waits until it is final with result OK; returns the answer.
    ///
    /// # Errors
    /// Where it is refused or has another outcome.
    pub async fn send_final(&self, signed: &SignedTransaction, chain: &Hash) -> Result<Value> {
        let status = self.send(signed, chain, "?wait=final").await?.ok()?;
        if status["status"] != "final" {
            bail!("sent, but not final: {status}");
        }
        Ok(status)
    }

    /// Status of a transaction: `pending`, `final` or `rejected`, with what belongs to it.
    ///
    /// # Errors
    /// Where the node does not know it.
    pub async fn status(&self, id: Hash) -> Result<Value> {
        self.get(&format!("/rpc/transaction/{id}")).await?.ok()
    }

    /// Sends many at once, in the binary form. One answer each, in order.
    ///
    /// # Errors
    /// Where the request as a whole is not taken.
    pub async fn send_many(&self, signed: &[SignedTransaction]) -> Result<Vec<Taken>> {
        let body = codec::encode(&signed.to_vec());
        let answer = self.request("POST", "/rpc/send_txs", "application/octet-stream", body).await?;
        if answer.status == 429 || answer.status == 503 {
            return Ok(vec![Taken::Later; signed.len()]);
        }
        let body = answer.ok()?;
        let results = body["results"].as_array().with_context(|| format!("no results in {body}"))?;
        Ok(results.iter().map(Taken::of).collect())
    }
}

/// What became of a transaction of a bulk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in the pool.
    Yes,
    /// The node is too busy: send it again.
    Later,
    /// Refused, with the code.
    No(String),
}

impl Taken {
    fn of(result: &Value) -> Taken {
        match result["error"]["code"].as_str() {
            None => Taken::Yes,
            Some("BUSY" | "MEMPOOL_FULL" | "SENDER_FULL") => Taken::Later,
            Some(code) => Taken::No(code.to_owned()),
        }
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let retry_after =
        response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|text| text.parse().ok());
    let body = response.bytes().await?;
    Ok(Answer { status, retry_after, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}
