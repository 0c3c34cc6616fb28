//! Bad input gets the right status and stable code; good input the documented shape.

use super::fixture::{Chain, FUNDS, alice};
use crate::doctor::Examined;
use crate::rpc::error::ErrorBody;
use crate::view::{NodeStatus, PeerInfo};
use aitbc_core::consensus::VotingState;
use aitbc_core::consensus::doctor::{Cause, Condition, Report, SlotReport};
use aitbc_core::json;
use aitbc_core::key::{Address, SecretKey, Signature};
use aitbc_core::memory;
use aitbc_core::params::MAX_SUPPLY;
use aitbc_core::staking::motion::Upgrade;
use aitbc_core::transaction::{Action, Payment, SignedTransaction};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) async fn ask(chain: &Chain, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Response {
    let url = format!("http://{}{path}", chain.rpc);
    reqwest::Client::new().request(method, url).body(body).send().await.expect("an answer")
}

async fn get(chain: &Chain, path: &str) -> Value {
    let response = ask(chain, Method::GET, path, "").await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.expect("json")
}

/// Status and code as expected; answers the whole.
pub(super) async fn refused(response: Response, status: u16, code: &str) -> ErrorBody {
    let (found, retry) = (response.status(), response.headers().contains_key("retry-after"));
    let body: ErrorBody = response.json().await.expect("an error body");
    assert_eq!((found.as_u16(), body.code.as_str()), (status, code), "{body:?}");
    assert_eq!(retry, matches!(status, 429 | 503), "Retry-After goes with 429 and 503: {body:?}");
    assert!(!body.message.is_empty() && body.detail.is_object(), "{body:?}");
    body
}

async fn send(chain: &Chain, body: &Value) -> Response {
    ask(chain, Method::POST, "/rpc/send_tx", body.to_string()).await
}

fn with(chain: &Chain, signed: &SignedTransaction, fields: &[(&str, Value)]) -> Value {
    let mut value = json::to_value(signed, &chain.chain);
    for (name, field) in fields {
        value[*name] = field.clone();
    }
    value
}

#[tokio::test]
async fn bad_transactions_get_a_stable_code_each_and_the_node_goes_on() {
    let chain = Chain::start().await;
    let (key, good) = (alice(), chain.pay(&alice(), 0));
    let to = Address([9; 20]);
    let pay = |nonce, fee, amount| {
        let signed = chain.sign(&key, nonce, fee, Action::Transfer(Payment { to, amount }));
        json::to_value(&signed, &chain.chain)
    };
    let mut forged = good.clone();
    forged.signature = Signature([7; 64]);
    let poor = chain.pay(&SecretKey::from_seed([99; 32]), 0);
    let far = json!(chain.head().height + 1_000_000);
    let cases: Vec<(Value, u16, &str)> = vec![
        (json!("x"), 400, "MALFORMED_TRANSACTION"),
        (with(&chain, &good, &[("nonce", json!("0"))]), 400, "MALFORMED_TRANSACTION"),
        (with(&chain, &good, &[("colour", json!(1))]), 400, "MALFORMED_TRANSACTION"),
        (with(&chain, &good, &[("payload", json!({"recipient": "bc1x", "amount": 5}))]), 400, "UNKNOWN_ADDRESS_FORM"),
        (with(&chain, &good, &[("genesis_hash", json!(format!("0x{}", "11".repeat(32))))]), 422, "WRONG_CHAIN"),
        (with(&chain, &good, &[("sender", json!(to))]), 422, "WRONG_SENDER"),
        (
            with(&chain, &good, &[("payload", json!({"recipient": to, "amount": MAX_SUPPLY + 1}))]),
            422,
            "AMOUNT_OUT_OF_RANGE",
        ),
        (with(&chain, &good, &[("payload", json!({"recipient": to, "amount": -1}))]), 422, "AMOUNT_OUT_OF_RANGE"),
        (with(&chain, &good, &[("fee", json!(u64::MAX))]), 422, "FEE_OUT_OF_RANGE"),
        (json::to_value(&forged, &chain.chain), 422, "INVALID_SIGNATURE"),
        (with(&chain, &good, &[("expiry_height", far)]), 422, "INVALID_SIGNATURE"),
        (pay(0, 1, 0), 422, "AMOUNT_OUT_OF_RANGE"),
        (pay(0, MAX_SUPPLY, MAX_SUPPLY), 422, "TOTAL_OUT_OF_RANGE"),
        (pay(0, 0, 5), 422, "FEE_TOO_LOW"),
        (pay(0, 1, FUNDS), 409, "INSUFFICIENT_BALANCE"),
        (json::to_value(&poor, &chain.chain), 409, "INSUFFICIENT_BALANCE"),
        (pay(65, 1, 5), 409, "NONCE_GAP"),
    ];
    for (body, status, code) in cases {
        refused(send(&chain, &body).await, status, code).await;
    }
    let text = ask(&chain, Method::POST, "/rpc/send_tx", "{\"nonce\":").await;
    refused(text, 400, "MALFORMED_JSON").await;
    refused(ask(&chain, Method::POST, "/rpc/send_tx", vec![0xff, 0xfe]).await, 400, "MALFORMED_JSON").await;
    refused(ask(&chain, Method::POST, "/rpc/send_tx", "").await, 400, "MALFORMED_JSON").await;

    let status: Value = send(&chain, &json::to_value(&good, &chain.chain)).await.json().await.expect("json");
    assert_eq!(status, json!({ "tx_hash": good.id(&chain.chain), "status": "pending" }));
    chain.block().await;
    let replayed = refused(send(&chain, &json::to_value(&good, &chain.chain)).await, 409, "NONCE_TOO_LOW").await;
    assert_eq!((&replayed.detail["expected"], &replayed.detail["found"]), (&json!(1), &json!(0)));
    assert_eq!(replayed.detail["tx_hash"], json!(good.id(&chain.chain)));
}

#[tokio::test]
async fn bad_requests_get_a_stable_code_each() {
    let chain = Chain::start().await;
    let zero = format!("0x{}", "00".repeat(32));
    let cases = [
        ("GET", "/rpc/get_balance/bc1qxy".to_owned(), 400, "UNKNOWN_ADDRESS_FORM"),
        ("GET", format!("/rpc/get_balance/{}", "a".repeat(5_000)), 400, "UNKNOWN_ADDRESS_FORM"),
        ("GET", "/rpc/get_balance/0x12?proof=true".to_owned(), 400, "UNKNOWN_ADDRESS_FORM"),
        ("GET", format!("/rpc/get_balance/{}?proof=yes", Address([9; 20])), 400, "INVALID_QUERY"),
        ("GET", "/rpc/get_head?verbose=1".to_owned(), 400, "INVALID_QUERY"),
        ("GET", "/rpc/get_block/-1".to_owned(), 400, "MALFORMED_HEIGHT"),
        ("GET", "/rpc/get_block/+1".to_owned(), 400, "MALFORMED_HEIGHT"),
        ("GET", "/rpc/get_block/99999999999999999999".to_owned(), 400, "MALFORMED_HEIGHT"),
        ("GET", "/rpc/get_block/newest".to_owned(), 400, "MALFORMED_HEIGHT"),
        ("GET", "/rpc/get_block/7".to_owned(), 404, "NOT_FOUND"),
        ("GET", "/rpc/get_block/0?full=1".to_owned(), 400, "INVALID_QUERY"),
        ("GET", "/rpc/transaction/0x12".to_owned(), 400, "MALFORMED_HASH"),
        ("GET", format!("/rpc/transaction/{zero}"), 404, "NOT_FOUND"),
        ("GET", "/rpc/mempool?limit=0".to_owned(), 400, "INVALID_QUERY"),
        ("GET", "/rpc/mempool?limit=1&limit=2".to_owned(), 400, "INVALID_QUERY"),
        ("POST", "/rpc/send_tx?wait=soon".to_owned(), 400, "INVALID_QUERY"),
        ("POST", "/rpc/send_tx?wait=final&timeout_ms=600000".to_owned(), 400, "INVALID_QUERY"),
        ("POST", "/rpc/send_txs".to_owned(), 400, "MALFORMED_JSON"),
        ("GET", "/".to_owned(), 404, "UNKNOWN_ROUTE"),
        ("GET", "/rpc/get_heads".to_owned(), 404, "UNKNOWN_ROUTE"),
        ("POST", "/rpc/get_head".to_owned(), 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/rpc/send_tx".to_owned(), 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/health".to_owned(), 405, "METHOD_NOT_ALLOWED"),
    ];
    for (method, path, status, code) in cases {
        let method = Method::from_bytes(method.as_bytes()).expect("method");
        let response = ask(&chain, method, &path, "").await;
        if status == 405 {
            let expected = if path == "/rpc/send_tx" { "POST" } else { "GET,HEAD" };
            assert_eq!(response.headers()["allow"], expected, "{path}");
        }
        let body = refused(response, status, code).await;
        assert!(body.message.len() < 400, "{path}: {}", body.message);
        if code == "UNKNOWN_ROUTE" {
            assert!(body.detail["routes"].as_array().expect("list").contains(&json!("GET /rpc/get_head")));
        }
    }
}

#[tokio::test]
async fn oversized_and_octet_bodies_are_refused_with_what_is_allowed() {
    let chain = Chain::start().await;
    let large = "x".repeat((1 << 20) + 1);
    refused(ask(&chain, Method::POST, "/rpc/send_tx", large.clone()).await, 413, "BODY_TOO_LARGE").await;
    refused(ask(&chain, Method::POST, "/rpc/send_txs", large).await, 413, "BODY_TOO_LARGE").await;
    let many = format!("[{}]", vec!["0"; 4_097].join(","));
    refused(ask(&chain, Method::POST, "/rpc/send_txs", many).await, 413, "BODY_TOO_LARGE").await;
    let url = format!("http://{}/rpc/send_tx", chain.rpc);
    let octets = reqwest::Client::new().post(url).header("content-type", "application/octet-stream").body("x");
    let body = refused(octets.send().await.expect("an answer"), 415, "UNSUPPORTED_MEDIA_TYPE").await;
    assert!(body.message.contains("/rpc/send_txs"), "{}", body.message);
}

#[tokio::test]
async fn head_block_and_balance_have_the_documented_shape() {
    let chain = Chain::start().await;
    let genesis = get(&chain, "/rpc/get_block/latest").await;
    assert_eq!((&genesis["height"], &genesis["hash"]), (&json!(0), &json!(chain.chain)));
    let (key, address) = (alice(), alice().public().address());
    let broke = chain.sign(&key, 1, 1, Action::Transfer(Payment { to: address, amount: FUNDS - 10 }));
    let client = chain.client();
    let first = client.send(&chain.pay(&key, 0)).await.expect("taken");
    assert_eq!(client.get_balance(&address, false).await.expect("balance").next_nonce, 1);
    chain.block().await;
    client.send(&broke).await.expect("taken");
    chain.block().await;

    let head = get(&chain, "/rpc/get_head").await;
    assert_eq!((&head["height"], &head["tx_count"]), (&json!(2), &json!(1)));
    assert_eq!((&head["timestamp"], &head["time_ms"]), (&json!("2023-11-14T22:13:22Z"), &json!(1_700_000_002_000_u64)));
    assert_eq!(head["proposer"], json!(chain.key.public().address()));
    assert_eq!(head["hash"], get(&chain, "/rpc/get_block/2").await["hash"]);
    assert_eq!(head["hash"], get(&chain, "/rpc/get_block/latest").await["hash"]);

    let block = get(&chain, "/rpc/get_block/1?full=true").await;
    assert_eq!(block["parent_hash"], json!(chain.chain));
    assert_eq!(get(&chain, "/rpc/get_block/1?full=true").await, block, "again, from memory");
    let tx = &block["transactions"][0];
    assert_eq!((&tx["tx_hash"], &tx["status"], &tx["code"]), (&json!(first.tx_hash), &json!("final"), &json!("OK")));
    assert_eq!(tx["transaction"]["payload"]["amount"], json!(5));
    let certificate = &block["certificate"];
    assert_eq!((&certificate["kind"], &certificate["weight"]), (&json!("final"), &json!(1)));
    assert_eq!(certificate["signers"], json!([chain.key.public().address()]));
    assert_eq!(block["batches"][0]["txs"], json!(1));
    assert!(get(&chain, "/rpc/get_block/1").await["transactions"][0].get("transaction").is_none());

    let hex = format!("0x{}", ::hex::encode(address.0));
    let balance = get(&chain, &format!("/rpc/get_balance/{hex}")).await;
    let spent = 5 + 1 + 1;
    let expected = json!({ "address": address, "balance": FUNDS - spent, "nonce": 2, "next_nonce": 2, "height": 2 });
    assert_eq!(balance, expected);
    let unused = get(&chain, &format!("/rpc/get_balance/{}", Address([200; 20]))).await;
    assert_eq!((&unused["balance"], &unused["nonce"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_block_whose_transactions_were_deleted_is_gone_and_the_answer_says_which_are_kept() {
    let chain = Chain::start().await;
    chain.client().send(&chain.pay(&alice(), 0)).await.expect("taken");
    for _ in 0..4 {
        chain.block().await;
    }
    assert_eq!(get(&chain, "/rpc/get_block/1").await["tx_count"], json!(1));
    assert_eq!(chain.storage.forget_bodies(3).await.expect("deletes"), 3);

    for height in [1, 2] {
        let body =
            refused(ask(&chain, Method::GET, &format!("/rpc/get_block/{height}"), "").await, 410, "PRUNED").await;
        assert_eq!(body.detail, json!({ "lowest_height": 3 }));
        assert!(body.message.contains("from height 3 on"), "{}", body.message);
    }
    assert_eq!(get(&chain, "/rpc/get_block/3").await["height"], json!(3));
    assert_eq!(get(&chain, "/rpc/get_block/0").await["height"], json!(0));
    let unknown = ask(&chain, Method::GET, &format!("/rpc/transaction/0x{}", "11".repeat(32)), "").await;
    let body = refused(unknown, 404, "NOT_FOUND").await;
    assert!(body.message.contains("below height 3 were deleted"), "{}", body.message);
}

#[tokio::test]
async fn a_balance_is_proven_by_the_root_in_the_next_header() {
    let chain = Chain::start().await;
    let address = alice().public().address();
    chain.client().send(&chain.pay(&alice(), 0)).await.expect("taken");
    chain.block().await;
    let balance = chain.client().get_balance(&address, true).await.expect("balance");
    let absent = chain.client().get_balance(&Address([200; 20]), true).await.expect("balance");
    chain.block().await;
    let proof = balance.proof.expect("asked for");
    let next = chain.client().get_block(Some(proof.committed_in_height), false).await.expect("next block");
    assert_eq!((next.parent_state_root, next.parent_hash), (proof.state_root, proof.block_hash));
    let proven = proof.account.verify(&next.parent_state_root).expect("valid").expect("there");
    assert_eq!((proven.balance, proven.nonce), (balance.balance, balance.nonce));
    assert_eq!(absent.proof.expect("asked for").account.verify(&next.parent_state_root), Ok(None));
}

#[tokio::test]
async fn sync_status_has_exactly_the_fields_the_operator_reads() {
    let chain = Chain::start().await;
    chain.block().await;
    let peer = |connected| PeerInfo {
        address: Address([3; 20]),
        public_key: alice().public(),
        weight: 1,
        connected,
        height: 9,
        last_seen_ms: Some(1),
    };
    let status = NodeStatus {
        best_peer_height: 9,
        catching_up: true,
        database_ready: true,
        not_ready: Some("catching up: height 1 of 9".into()),
        last_signed_height: 1,
        voting_state: VotingState::Quarantined,
        quarantine: Some(memory::Cause::VoteMissing { slot: 17 }),
        upgrade: Some((Upgrade { version: 2, height: 500 }, false)),
        peers: vec![peer(true), peer(false)],
        ..NodeStatus::default()
    };
    chain.status.send_replace(Arc::new(status));
    let head = chain.head();
    let expected = json!({
        "chain_id": "test",
        "height": 1,
        "epoch": 0,
        "best_peer_height": 9,
        "catching_up": true,
        "ready": false,
        "last_block_time_ms": head.time_ms,
        "genesis_hash": chain.chain,
        "state_root": head.state_root,
        "version": env!("CARGO_PKG_VERSION"),
        "validator": {
            "address": chain.key.public().address(),
            "public_key": chain.key.public(),
            "weight": 1,
            "last_signed_height": 1,
            "voting_state": "quarantined",
            "quarantine": "a peer has a vote of this key in slot 17 that the database lacks: it is an old copy",
        },
        "database_ready": true,
        "peers": 1,
        "reason": "catching up: height 1 of 9",
        "state_sync": null,
        "upgrade": { "version": 2, "height": 500, "spoken": 1, "due": false },
    });
    assert_eq!(get(&chain, "/sync_status").await, expected);
    assert_eq!(get(&chain, "/rpc/peers").await["connected"], json!(1));
    let body = refused(ask(&chain, Method::GET, "/ready", "").await, 503, "NOT_READY").await;
    assert_eq!(body.detail, json!({ "reason": "catching up: height 1 of 9", "height": 1, "best_peer_height": 9 }));
    chain.status.send_replace(Arc::new(NodeStatus::default()));
    assert_eq!(get(&chain, "/ready").await, json!({ "ready": true, "height": 1 }));
    assert_eq!(get(&chain, "/health").await["status"], json!("ok"));
}

#[tokio::test]
async fn validators_genesis_and_mempool_tell_what_there_is() {
    let chain = Chain::start().await;
    let validators = get(&chain, "/rpc/validators").await;
    assert_eq!((&validators["quorum"], &validators["total_weight"]), (&json!(1), &json!(1)));
    assert_eq!(validators["validators"][0]["connected"], json!(true));
    let info = chain.client().genesis().await.expect("genesis");
    assert_eq!((info.genesis.hash(), info.genesis_hash), (chain.chain, chain.chain));
    let sent = chain.client().send(&chain.pay(&alice(), 0)).await.expect("taken");
    chain.client().send(&chain.pay(&alice(), 1)).await.expect("taken");
    let pool = chain.client().mempool(1).await.expect("mempool");
    assert_eq!(pool.count, 1);
    let pool = chain.client().mempool(10).await.expect("mempool");
    let ids: BTreeSet<_> = pool.transactions.iter().map(|tx| tx.tx_hash).collect();
    assert!(ids.len() == 2 && ids.contains(&sent.tx_hash));
}

#[tokio::test]
async fn candidates_terms_and_supply_are_those_of_the_last_final_block() {
    let chain = Chain::start().await;
    let answer = get(&chain, "/rpc/validators").await;
    let (member, candidate) = (&answer["validators"][0], &answer["candidates"][0]);
    assert_eq!(
        (&candidate["public_key"], &candidate["owner"], &candidate["admitted"], &candidate["jailed_until"]),
        (&member["public_key"], &member["address"], &json!(true), &Value::Null)
    );
    assert_eq!(
        answer["terms"]["min_fee"],
        json!(chain.client().genesis().await.expect("genesis").genesis.parameters.min_fee)
    );
    let supply = chain.client().supply().await.expect("supply");
    assert_eq!((supply.total, supply.minted, supply.burnt, supply.staked), (supply.genesis, 0, 0, 0));
    assert!(supply.genesis >= 2 * FUNDS, "{supply:?}");
}

#[tokio::test]
async fn the_doctor_tells_what_the_loop_saw_last_and_how_old_that_is() {
    let chain = Chain::start().await;
    let healthy = get(&chain, "/rpc/consensus/doctor").await;
    assert_eq!(
        (&healthy["state"], &healthy["cause"], &healthy["database_ready"]),
        (&json!("idle"), &json!("none"), &json!(true))
    );
    let report = Report {
        state: Condition::Stalled,
        cause: Cause::LeaderSilent,
        diagnosis: "slot 7: its leader proposed nothing".into(),
        frontier: SlotReport { slot: 7, silent: vec![1, 2], ..SlotReport::default() },
        ..Report::default()
    };
    chain.doctor.send_replace(Arc::new(Examined { report, at_ms: 0 }));
    let stalled = get(&chain, "/rpc/consensus/doctor").await;
    assert_eq!((&stalled["state"], &stalled["cause"]), (&json!("stalled"), &json!("leader_silent")));
    assert_eq!((&stalled["frontier"]["slot"], &stalled["frontier"]["silent"]), (&json!(7), &json!([1, 2])));
    assert!(stalled["frontier"]["final"]["weight"] == 0 && stalled["report_age_ms"].is_u64(), "{stalled}");
    assert_eq!(chain.client().doctor().await.expect("an answer")["diagnosis"], stalled["diagnosis"]);
}

#[tokio::test]
async fn metrics_are_on_their_own_port_and_count_requests_by_route() {
    let chain = Chain::start().await;
    get(&chain, &format!("/rpc/get_balance/{}", Address([9; 20]))).await;
    ask(&chain, Method::GET, "/nowhere", "").await;
    let response = reqwest::get(format!("http://{}/metrics", chain.prometheus)).await.expect("an answer");
    assert!(response.headers()["content-type"].to_str().expect("text").starts_with("text/plain; version=0.0.4"));
    let text = response.text().await.expect("text");
    for line in [
        "blockchain_rpc_requests_total{route=\"/rpc/get_balance/{address}\",status=\"200\"} 1",
        "blockchain_rpc_requests_total{route=\"unknown\",status=\"404\"} 1",
        "blockchain_rpc_seconds_count{route=\"/rpc/get_balance/{address}\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let other = reqwest::get(format!("http://{}/health", chain.prometheus)).await.expect("an answer");
    refused(other, 404, "UNKNOWN_ROUTE").await;
}

#[tokio::test]
async fn browsers_of_other_sites_may_read_but_not_send() {
    let chain = Chain::start().await;
    let preflight = |method: &'static str, path: &str| {
        reqwest::Client::new()
            .request(Method::OPTIONS, format!("http://{}{path}", chain.rpc))
            .header("origin", "https://example.org")
            .header("access-control-request-method", method)
            .send()
    };
    let read = preflight("GET", "/rpc/get_head").await.expect("an answer");
    assert_eq!(
        (read.status(), &read.headers()["access-control-allow-origin"]),
        (StatusCode::OK, &"*".parse().expect("value"))
    );
    let sent = preflight("POST", "/rpc/send_tx").await.expect("an answer");
    let methods = sent.headers()["access-control-allow-methods"].to_str().expect("text").to_owned();
    assert!(!methods.contains("POST"), "{methods}");
}
