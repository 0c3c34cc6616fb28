//! `GET /rpc/tx/{hash}`, `/rpc/transactions`: final transactions as the prototype had them.

use super::super::error::ApiError;
use super::super::query::{self, Parameters, Segment};
use super::super::transaction::{Status, code_name};
use super::super::websocket::{self, Upgrade};
use super::super::{Api, written};
use super::timestamp;
use crate::storage::TransactionRow;
use crate::subscriptions::Topic;
use crate::view::Identity;
use aitbc_core::batch::Batch;
use aitbc_core::hash::Hash;
use aitbc_core::json;
use aitbc_core::key::Address;
use aitbc_core::transaction::{Action, SignedTransaction};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Most transactions of a list, and how many without `limit`.
pub(super) const LISTED: (u32, u32) = (100, 20);

/// A transaction of a final block.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PrototypeTransaction {
    /// Id.
    pub tx_hash: Hash,
    /// `final` or `rejected`.
    pub status: Status,
    /// `OK`, or why it was rejected.
    pub code: String,
    /// What it says.
    #[serde(flatten)]
    pub content: Content,
}

/// What a transaction of a final block says.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Content {
    /// Id, by its other name.
    pub transaction_id: Hash,
    /// Name of the chain.
    pub chain_id: String,
    /// Height of its block.
    pub block_height: u64,
    /// Who signed.
    pub sender: Address,
    /// Whom it pays, where that is one account; of a receipt its provider.
    pub recipient: Option<Address>,
    /// The whole transaction as it was sent (`/rpc/tx`, lists), or its own `payload` (`/rpc/transaction`, blocks).
    pub payload: Value,
    /// `TRANSFER` and so on.
    pub r#type: String,
    /// Time of its block, UTC without saying so.
    pub created_at: Option<String>,
    /// The same.
    pub timestamp: Option<String>,
    /// Number of the sender's transactions before it.
    pub nonce: u64,
    /// Smallest units it moves beside the fee.
    pub value: u64,
    /// Smallest units it offers the proposer.
    pub fee: u64,
}

/// A part of all transactions.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TransactionList {
    /// Newest first.
    pub transactions: Vec<PrototypeTransaction>,
    /// How many final blocks have had.
    pub total: u64,
    /// Most of this answer.
    pub limit: u32,
    /// How many newer ones were left out.
    pub offset: u32,
}

/// What stands in `payload`: the versions of the prototype differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Payload {
    /// The transaction as it was sent.
    Whole,
    /// Its own `payload`.
    Own,
}

impl PrototypeTransaction {
    /// Of a row, the block's time, and the transaction itself.
    pub(super) fn of(
        identity: &Identity,
        row: &TransactionRow,
        time_ms: u64,
        signed: &SignedTransaction,
        payload: Payload,
    ) -> PrototypeTransaction {
        PrototypeTransaction {
            tx_hash: row.id,
            status: if row.code == 0 { Status::Final } else { Status::Rejected },
            code: code_name(row.code),
            content: content(identity, row, time_ms, signed, payload),
        }
    }
}

fn content(
    identity: &Identity,
    row: &TransactionRow,
    time_ms: u64,
    signed: &SignedTransaction,
    payload: Payload,
) -> Content {
    let (tx, time) = (&signed.transaction, timestamp(row.height, time_ms));
    Content {
        transaction_id: row.id,
        chain_id: identity.genesis.chain_id.clone(),
        block_height: row.height,
        sender: row.sender,
        recipient: json::recipient(&tx.action),
        payload: match payload {
            Payload::Whole => json::to_value(signed, &identity.chain),
            Payload::Own => json::payload(&tx.action),
        },
        r#type: json::type_name(&tx.action).to_owned(),
        created_at: time.clone(),
        timestamp: time,
        nonce: tx.nonce,
        value: match &tx.action {
            Action::Faucet(payment) => payment.amount,
            _ => tx.amount().unwrap_or(0),
        },
        fee: tx.fee,
    }
}

pub(in super::super) async fn transaction(
    State(api): State<Api>,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Response, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let id = query::transaction_id(&id)?;
    let found = api.view.or_wanted(api.view.storage.transaction(id).await?);
    let found = bodies(&api, found.into_iter().collect()).await?;
    let missing = move || {
        let hint =
            "it is there a moment after it is final; /rpc/transaction/{id} tells at once, and of pending ones too"
                .into();
        ApiError::NotFound { what: format!("transaction {id}"), hint }
    };
    written("tx", move || found.list(Payload::Whole).pop().ok_or_else(missing)).await
}

/// Where a WebSocket is asked for, new transactions; else a list, which with `address` is bare: the versions differ.
pub(in super::super) async fn list(State(api): State<Api>, uri: Uri, upgrade: Upgrade) -> Result<Response, ApiError> {
    if upgrade.is_ok() {
        return websocket::prototype(&api, &uri, upgrade, Topic::PrototypeTransactions);
    }
    let parameters = Parameters::read(&uri, &["limit", "offset", "address", "chain_id"])?;
    parameters.of_chain(&api.view.identity)?;
    let page = parameters.page(LISTED.1, LISTED.0)?;
    let sender = if parameters.has("address") {
        let allowed = "an address, ait1… (bech32) or 0x and 40 hex digits, of the sender";
        Some(parameters.parsed("address", allowed, |text| text.parse::<Address>().ok())?)
    } else {
        None
    };
    let total = api.view.storage.transaction_count().await?;
    let rows = api.view.storage.transactions(sender, page.limit, page.offset).await?;
    let _permit = api.block_reads.acquire().await.map_err(|_| ApiError::Stopping)?;
    let found = bodies(&api, rows).await?;
    if sender.is_some() {
        return written("transactions", move || Ok(found.list(Payload::Own))).await;
    }
    written("transactions", move || {
        let transactions = found.list(Payload::Whole);
        Ok(TransactionList { transactions, total, limit: page.limit, offset: page.offset })
    })
    .await
}

/// Rows with what is needed to find their transactions: hashing many of them takes long.
pub(in super::super) struct Bodies {
    identity: Arc<Identity>,
    rows: Vec<TransactionRow>,
    batches: HashMap<Hash, Arc<Batch>>,
    times: HashMap<u64, u64>,
}

/// Reads batches and times of rows.
pub(in super::super) async fn bodies(api: &Api, rows: Vec<TransactionRow>) -> Result<Bodies, ApiError> {
    let storage = &api.view.storage;
    let digests: BTreeSet<Hash> = rows.iter().map(|row| row.batch).collect();
    let batches = storage.batches(digests.into_iter().collect()).await?.into_iter().collect();
    let mut times = HashMap::new();
    for height in rows.iter().map(|row| row.height).collect::<BTreeSet<u64>>() {
        if let Some(stored) = storage.block(height).await? {
            times.insert(height, stored.candidate.header.time_ms);
        }
    }
    Ok(Bodies { identity: api.view.identity.clone(), rows, batches, times })
}

impl Bodies {
    /// Those whose batches are still there, in the order of the rows.
    pub(in super::super) fn list(&self, payload: Payload) -> Vec<PrototypeTransaction> {
        let one = |row: &TransactionRow| {
            let tx = self.find(row)?;
            Some(PrototypeTransaction::of(&self.identity, row, self.time(row), tx, payload))
        };
        self.rows.iter().filter_map(one).collect()
    }

    /// What the first of them says.
    pub(in super::super) fn content(&self) -> Option<Content> {
        let row = self.rows.first()?;
        Some(content(&self.identity, row, self.time(row), self.find(row)?, Payload::Own))
    }

    fn time(&self, row: &TransactionRow) -> u64 {
        self.times.get(&row.height).copied().unwrap_or(0)
    }

    fn find(&self, row: &TransactionRow) -> Option<&SignedTransaction> {
        let is_it =
            |tx: &&SignedTransaction| tx.transaction.nonce == row.nonce && tx.id(&self.identity.chain) == row.id;
        self.batches.get(&row.batch)?.txs.iter().find(is_it)
    }
}
