//! `GET /openapi.json`: the REST interface as OpenAPI 3.1, made of the types that handlers answer with.
//!
//! `aitbc-node openapi` prints it, `make generate` writes it to docs/openapi.json. Tests compare its routes with
//! [`ROUTES`](super::ROUTES) and its parameters with what the handlers take.

use super::error::{ApiError, ErrorBody};
use super::prototype::{accounts, blocks, sending, status, transactions};
use super::query::Parameters;
use super::{
    doctor, evidence, faucet, genesis, get_balance, get_block, get_head, headers, health, json_response, mempool,
    peers, proof, ready, receipts, send_txs, supply, sync_status, transaction, validators,
};
use axum::body::Bytes;
use axum::http::Uri;
use axum::response::Response;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// A route as the document has it.
pub(super) struct Operation {
    /// Method and path.
    pub(super) route: &'static str,
    summary: &'static str,
    /// Parameters of the query.
    pub(super) query: &'static [&'static str],
    body: Option<&'static str>,
    /// `None`: no JSON.
    answer: Option<fn(&mut SchemaGenerator) -> Schema>,
}

impl Operation {
    const fn query(self, query: &'static [&'static str]) -> Operation {
        Operation { query, ..self }
    }

    /// Of the components below.
    const fn body(self, body: &'static str) -> Operation {
        Operation { body: Some(body), ..self }
    }
}

/// A route that answers with a type.
const fn route<T: JsonSchema>(route: &'static str, summary: &'static str) -> Operation {
    Operation { route, summary, query: &[], body: None, answer: Some(SchemaGenerator::subschema_for::<T>) }
}

/// A route that answers with something else than JSON.
const fn other(route: &'static str, summary: &'static str) -> Operation {
    Operation { route, summary, query: &[], body: None, answer: None }
}

const CHAIN: &[&str] = &["chain_id"];
const PAGE: &[&str] = &["limit", "offset", "chain_id"];
const WAIT: &[&str] = &["wait", "timeout_ms"];
const ACCOUNT: &[&str] = &["proof", "chain_id"];
const RECEIPTS: &[&str] = &["job_id", "provider", "limit", "offset", "chain_id"];
const RANGE: &[&str] = &["start", "end", "limit", "include_tx", "chain_id"];

/// All of them, in the order of [`ROUTES`](super::ROUTES).
pub(super) const OPERATIONS: &[Operation] = &[
    route::<get_head::Head>("GET /rpc/get_head", "The last final block"),
    route::<transaction::TransactionStatus>("POST /rpc/send_tx", "Send a signed transaction")
        .query(WAIT)
        .body("SignedTransaction"),
    route::<send_txs::Sent>("POST /rpc/send_txs", "Send many at once, each answered for itself")
        .body("SignedTransactions"),
    route::<get_balance::Balance>("GET /rpc/get_balance/{address}", "Balance and nonces of an account").query(ACCOUNT),
    route::<get_block::BlockInfo>("GET /rpc/get_block/{height}", "A final block by height, or latest").query(&["full"]),
    route::<transaction::KnownTransaction>("GET /rpc/transaction/{id}", "What became of a transaction").query(CHAIN),
    route::<headers::Headers>("GET /rpc/headers", "Final headers with certificates, as bytes")
        .query(&["from", "count", "batches"]),
    route::<proof::ProvenAccount>("GET /rpc/proof/account/{address}", "An account with what proves it")
        .query(&["height"]),
    route::<proof::ProvenTransaction>("GET /rpc/proof/transaction/{id}", "A final transaction with what proves it"),
    route::<receipts::Minted>("GET /rpc/receipt/{provider}", "Whether a provider's receipt has minted")
        .query(&["receipt_id"]),
    route::<receipts::Escrow>("GET /rpc/escrow/{client}", "What a client has locked for a job").query(&["job_id"]),
    route::<peers::Peers>("GET /rpc/peers", "The other validators"),
    route::<validators::Validators>(
        "GET /rpc/validators",
        "The set that decides, the next one, and who may come into later ones",
    ),
    route::<evidence::Convictions>("GET /rpc/evidence", "Who was convicted of double signing"),
    route::<doctor::Doctor>("GET /rpc/consensus/doctor", "Why there is no block, and who is waited for"),
    route::<mempool::Pool>("GET /rpc/mempool", "Transactions that wait on this node").query(&["limit", "chain_id"]),
    route::<genesis::GenesisInfo>("GET /rpc/genesis", "The agreed beginning, and its hash"),
    route::<supply::Supply>("GET /rpc/supply", "How many units there are").query(CHAIN),
    route::<receipts::ReceiptList>("GET /rpc/receipts", "Receipts that minted, of a job or a provider").query(RECEIPTS),
    route::<receipts::RecordedReceipt>("GET /rpc/receipts/{id}", "A receipt that minted").query(CHAIN),
    route::<faucet::Given>("POST /rpc/faucet", "Units for an address, where genesis has a faucet")
        .query(CHAIN)
        .body("FaucetRequest"),
    route::<transaction::TransactionStatus>("POST /rpc/submit_receipt", "Send a signed RECEIPT_CLAIM")
        .query(WAIT)
        .body("SignedTransaction"),
    route::<sending::FeeEstimate>("POST /rpc/estimate_fee", "What a transaction costs").query(CHAIN).body("FeeRequest"),
    route::<health::Health>("GET /health", "Alive as long as the consensus loop turns"),
    route::<ready::Ready>("GET /ready", "Whether clients should be sent here"),
    route::<sync_status::SyncStatus>("GET /sync_status", "Where this node is and how it does").query(CHAIN),
    other("GET /metrics", "Metrics as Prometheus reads them"),
    other("GET /openapi.json", "This document"),
    route::<blocks::PrototypeBlock>("GET /rpc/head", "The last final block, as the prototype had it").query(CHAIN),
    route::<blocks::Height>("GET /rpc/height", "Its height").query(CHAIN),
    route::<blocks::BlockList>("GET /rpc/blocks", "Newest blocks first; as a WebSocket, new ones").query(PAGE),
    route::<blocks::PrototypeBlock>("GET /rpc/blocks/{height}", "A final block with its transactions").query(CHAIN),
    route::<blocks::BlockRange>("GET /rpc/blocks-range", "Blocks by ascending height").query(RANGE),
    route::<transactions::PrototypeTransaction>("GET /rpc/tx/{id}", "A final transaction").query(CHAIN),
    route::<transactions::TransactionList>(
        "GET /rpc/transactions",
        "Newest transactions first, a bare list with address; as a WebSocket, new ones",
    )
    .query(&["limit", "offset", "address", "chain_id"]),
    route::<get_balance::Balance>("GET /rpc/getBalance/{address}", "As /rpc/get_balance").query(ACCOUNT),
    route::<get_balance::Balance>("GET /rpc/balance/{address}", "As /rpc/get_balance").query(ACCOUNT),
    route::<accounts::KnownAccount>("GET /rpc/account/{address}", "An account that was used").query(CHAIN),
    route::<accounts::KnownAccount>("GET /rpc/accounts/{address}", "As /rpc/account").query(CHAIN),
    route::<accounts::AddressHistory>("GET /rpc/address/{address}", "An account with what it sent").query(PAGE),
    route::<accounts::AddressList>("GET /rpc/addresses", "All accounts").query(&[
        "limit",
        "offset",
        "min_balance",
        "chain_id",
    ]),
    route::<accounts::GenesisAllocations>("GET /rpc/genesis_allocations", "Who owned what at height 0").query(CHAIN),
    route::<sync_status::SyncStatus>("GET /rpc/info", "As /sync_status").query(CHAIN),
    route::<sync_status::SyncStatus>("GET /rpc/status", "As /sync_status").query(CHAIN),
    route::<status::PrototypeSyncStatus>("GET /rpc/syncStatus", "Where the node is, as the prototype told it")
        .query(CHAIN),
    route::<status::PrototypeSyncStatus>("GET /rpc/sync_status", "As /rpc/syncStatus").query(CHAIN),
    route::<transaction::TransactionStatus>("POST /rpc/sendTx", "As /rpc/send_tx")
        .query(WAIT)
        .body("SignedTransaction"),
    route::<sending::PrototypeSent>("POST /rpc/transaction", "As /rpc/send_tx, answered in the prototype's words too")
        .query(WAIT)
        .body("SignedTransaction"),
    route::<transaction::TransactionStatus>("POST /rpc/submitReceipt", "As /rpc/submit_receipt")
        .query(WAIT)
        .body("SignedTransaction"),
    route::<sending::FeeEstimate>("POST /rpc/estimateFee", "As /rpc/estimate_fee").query(CHAIN).body("FeeRequest"),
    route::<sending::ImportedBlock>("POST /rpc/importBlock", "Never imports a block, and says why")
        .query(CHAIN)
        .body("Anything"),
    route::<sending::ImportedBlock>("POST /rpc/import_block", "As /rpc/importBlock").query(CHAIN).body("Anything"),
    route::<faucet::Given>("POST /rpc/admin/mintFaucet", "As /rpc/faucet").query(CHAIN).body("FaucetRequest"),
    route::<faucet::Given>("POST /rpc/admin/mint_faucet", "As /rpc/faucet").query(CHAIN).body("FaucetRequest"),
    other("GET /rpc/ws/blocks", "WebSocket: new blocks, as the prototype sent them").query(CHAIN),
    other("GET /rpc/ws/transactions", "WebSocket: transactions that the pool took").query(CHAIN),
];

static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_string()));

pub(super) async fn openapi(uri: Uri) -> Result<Response, ApiError> {
    Parameters::read(&uri, &[])?;
    Ok(json_response(TEXT.clone()))
}

/// The document.
pub fn document() -> Value {
    // OpenAPI 3.1 has the dialect of JSON Schema 2020-12.
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let error = generator.subschema_for::<ErrorBody>();
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let (method, path) = operation.route.split_once(' ').unwrap_or_default();
        let described = describe(operation, path, &mut generator, &error);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method.to_ascii_lowercase()] = described;
    }
    let mut schemas = bodies();
    schemas.extend(generator.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "AITBC node",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "REST interface of a validator: docs/rpc.md. How to sign: docs/clients.md. Amounts are whole numbers \
                of the smallest unit, at most 2^53 - 1. WebSocket subscriptions are on a port of their own.",
        },
        "servers": [{ "url": format!("http://127.0.0.1:{}", aitbc_core::env::RPC_PORT) }],
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn describe(operation: &Operation, path: &str, generator: &mut SchemaGenerator, error: &Schema) -> Value {
    let in_path = path.split(['{', '}']).skip(1).step_by(2).map(|name| parameter(name, "path"));
    let in_query = operation.query.iter().map(|name| parameter(name, "query"));
    let answer = match operation.answer {
        Some(answer) => json!({ "application/json": { "schema": answer(generator) } }),
        None => json!({}),
    };
    let mut described = json!({
        "summary": operation.summary,
        "parameters": in_path.chain(in_query).collect::<Vec<Value>>(),
        "responses": {
            "200": { "description": "the answer", "content": answer },
            "default": { "description": "an error with a stable code", "content": { "application/json": { "schema": error } } },
        },
    });
    if let Some(body) = operation.body {
        let schema = json!({ "$ref": format!("#/components/schemas/{body}") });
        described["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    described
}

/// A parameter by its name: each means the same wherever it stands. Examples are such that requests made of them are understood.
fn parameter(name: &str, place: &str) -> Value {
    let number = || json!({ "type": "integer", "minimum": 0 });
    let (schema, example) = match name {
        "address" | "provider" | "client" => (json!({ "type": "string" }), json!(format!("0x{}", "11".repeat(20)))),
        "id" => (json!({ "type": "string" }), json!(format!("0x{}", "00".repeat(32)))),
        // A word beside numbers.
        "height" if place == "path" => (json!({ "type": "string" }), json!("0")),
        "limit" | "offset" | "count" | "from" | "start" | "end" | "height" | "min_balance" | "timeout_ms" => {
            (number(), json!(if name == "offset" { 0 } else { 1 }))
        }
        "proof" | "full" | "batches" | "include_tx" => (json!({ "type": "boolean" }), json!(true)),
        "wait" => (json!({ "type": "string", "enum": ["none", "final"] }), json!("final")),
        _ => (json!({ "type": "string" }), json!("devnet")),
    };
    json!({ "name": name, "in": place, "required": place == "path", "schema": schema, "example": example })
}

/// What is sent, by name. Handlers read it by hand, field by field, so no type describes it.
fn bodies() -> Map<String, Value> {
    let address = || json!({ "type": "string", "description": "ait1… (bech32), or 0x and 40 hex digits" });
    let number = || json!({ "type": "integer", "minimum": 0, "maximum": aitbc_core::params::MAX_SUPPLY });
    let bodies = json!({
        "SignedTransaction": {
            "description": "The signature is over bytes, not over this JSON: docs/clients.md.",
            "oneOf": [
                {
                    "type": "object",
                    "required": ["genesis_hash", "public_key", "nonce", "fee", "expiry_height", "payload", "signature"],
                    "properties": {
                        "type": { "type": "string", "default": "TRANSFER" },
                        "genesis_hash": { "type": "string" },
                        "public_key": { "type": "string", "pattern": "^[0-9a-fA-F]{64}$" },
                        "sender": address(),
                        "nonce": number(),
                        "fee": number(),
                        "expiry_height": number(),
                        "payload": { "type": "object", "example": { "recipient": format!("0x{}", "11".repeat(20)), "amount": 5 } },
                        "signature": { "type": "string", "pattern": "^[0-9a-fA-F]{128}$" },
                    },
                },
                {
                    "type": "object",
                    "required": ["transaction"],
                    "properties": { "transaction": { "type": "string", "description": "0x and borsh of the signed transaction" } },
                },
            ],
        },
        "SignedTransactions": { "type": "array", "maxItems": super::limits::MAX_BULK_TXS, "items": { "$ref": "#/components/schemas/SignedTransaction" } },
        "FaucetRequest": {
            "type": "object",
            "required": ["address", "amount"],
            "properties": { "address": address(), "amount": { "type": "integer", "minimum": 1 } },
            "example": { "address": format!("0x{}", "11".repeat(20)), "amount": 5 },
        },
        "FeeRequest": {
            "type": "object",
            "properties": { "type": { "type": "string", "default": "TRANSFER" }, "payload": { "type": "object" } },
            "example": { "type": "TRANSFER", "payload": { "recipient": format!("0x{}", "11".repeat(20)), "amount": 5 } },
        },
        "Anything": { "type": "object" },
    });
    match bodies {
        Value::Object(bodies) => bodies,
        _ => Map::new(),
    }
}
