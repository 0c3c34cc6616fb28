//! The prototype's routes, under each name, against examples of its answers that were written by hand (prototype.json).

use super::super::ROUTES;
use super::fixture::{Chain, FUNDS, alice, config, genesis};
use super::receipts::{attested, provider, receipt};
use super::requests::{ask, refused};
use crate::client::ClientError;
use aitbc_core::genesis::{Genesis, GenesisValidator, Mode};
use aitbc_core::json;
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::transaction::{Action, Payment, SignedTransaction};
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio_tungstenite::connect_async;

/// How long a message may take.
const SOON: Duration = Duration::from_secs(10);

fn examples() -> Map<String, Value> {
    serde_json::from_str(include_str!("prototype.json")).expect("examples")
}

/// Has an answer every field of an example, of the same kind? Texts that tell of a form have that form too.
fn same_shape(example: &Value, answer: &Value, at: &str) {
    match (example, answer) {
        (Value::Null, _) => {}
        (Value::Object(example), Value::Object(answer)) => {
            for (name, value) in example {
                let found = answer.get(name).unwrap_or_else(|| panic!("{at}: no {name} in {answer:?}"));
                same_shape(value, found, &format!("{at}.{name}"));
            }
        }
        (Value::Array(example), Value::Array(answer)) => {
            let Some(one) = example.first() else { return };
            assert!(!answer.is_empty(), "{at} is empty");
            answer.iter().for_each(|found| same_shape(one, found, at));
        }
        (Value::String(example), Value::String(answer)) => {
            assert_eq!(example.starts_with("0x"), answer.starts_with("0x"), "{at}: {answer}");
            assert_eq!(example.starts_with("ait1"), answer.starts_with("ait1"), "{at}: {answer}");
            let is_time = |text: &str| text.len() >= 19 && text.as_bytes()[10] == b'T' && !text.ends_with('Z');
            assert_eq!(is_time(example), is_time(answer), "{at}: {answer}");
        }
        (Value::Number(_), Value::Number(answer)) => assert!(answer.is_u64(), "{at}: {answer}"),
        (Value::Bool(_), Value::Bool(_)) => {}
        _ => panic!("{at}: {answer}, as {example} expected"),
    }
}

async fn answer(chain: &Chain, method: Method, path: &str, body: Value) -> (u16, Value) {
    let body = if method == Method::GET { String::new() } else { body.to_string() };
    let response = ask(chain, method, path, body).await;
    (response.status().as_u16(), response.json().await.expect("json"))
}

/// A transaction as the prototype's clients name its fields, with what this chain wants beside them.
fn renamed(chain: &Chain, signed: &SignedTransaction, names: &[(&str, &str)]) -> Value {
    let mut value = json::to_value(signed, &chain.chain);
    let fields = value.as_object_mut().expect("an object");
    for (ours, theirs) in names {
        let field = fields.remove(*ours).expect("a field");
        fields.insert((*theirs).into(), field);
    }
    value
}

/// A payment, then a receipt, each final in a block of its own.
async fn history(chain: &Chain) -> SignedTransaction {
    let paid = chain.pay(&alice(), 0);
    chain.client().send(&paid).await.expect("taken");
    chain.block().await;
    let claim = chain.sign(&alice(), 1, 30, Action::ClaimReceipt(attested(chain, receipt("r 1"))));
    chain.client().send(&claim).await.expect("taken");
    chain.block().await;
    paid
}

#[tokio::test]
async fn every_reading_route_answers_in_the_prototypes_shape() {
    let chain = Chain::start().await;
    let paid = history(&chain).await;
    for (route, example) in examples().iter().filter(|(route, _)| route.starts_with("GET ")) {
        let path = route.trim_start_matches("GET ").replace("{height}", "1").replace("{receipt}", "r%201");
        let path = path.replace("{address}", &alice().public().address().to_string());
        let path = path.replace("{id}", &paid.id(&chain.chain).to_string());
        let (status, found) = answer(&chain, Method::GET, &path, Value::Null).await;
        assert_eq!(status, 200, "{route}: {found}");
        same_shape(example, &found, route);
    }
}

#[tokio::test]
async fn the_figures_of_the_prototypes_answers_are_right() {
    let chain = Chain::start().await;
    let paid = history(&chain).await;
    let get = async |path: &str| answer(&chain, Method::GET, path, Value::Null).await.1;
    let (head, range) = (get("/rpc/get_head").await, get("/rpc/blocks-range?start=0&end=9").await);
    let heights = |blocks: &Value| -> Vec<u64> {
        blocks.as_array().expect("blocks").iter().filter_map(|block| block["height"].as_u64()).collect()
    };
    assert_eq!((heights(&range["blocks"]), &range["count"]), (vec![0, 1, 2], &json!(3)));
    assert_eq!(range["blocks"][0]["hash"], json!(chain.chain));
    assert_eq!(range["blocks"][1]["parent_hash"], json!(chain.chain));
    assert_eq!((&range["blocks"][2]["hash"], &range["blocks"][2]["state_root"]), (&head["hash"], &head["state_root"]));
    assert_eq!(range["blocks"][1]["timestamp"], json!("2023-11-14T22:13:21.000000"));
    let second = get("/rpc/blocks/2").await;
    assert_eq!(second["transactions"][0]["recipient"], json!(provider().public().address()));
    let newest = get("/rpc/blocks?limit=2").await;
    assert_eq!((heights(&newest["blocks"]), &newest["total"]), (vec![2, 1], &json!(3)));
    assert_eq!(heights(&get("/rpc/blocks?limit=2&offset=2").await["blocks"]), [0]);
    assert_eq!(get("/rpc/blocks?offset=3").await["blocks"], json!([]));
    let known = get(&format!("/rpc/transaction/{}", paid.id(&chain.chain))).await;
    assert_eq!((&known["value"], &known["fee"], &known["payload"]["amount"]), (&json!(5), &json!(1), &json!(5)));
    assert_eq!((&known["status"], &known["height"], &known["block_height"]), (&json!("final"), &json!(1), &json!(1)));
    let all = get("/rpc/transactions?limit=1&offset=1").await;
    assert_eq!((&all["total"], &all["transactions"][0]["tx_hash"]), (&json!(2), &json!(paid.id(&chain.chain))));
    let allocations = get("/rpc/genesis_allocations").await;
    assert_eq!(allocations["state_root"], range["blocks"][0]["state_root"]);
    let sum = |list: &Value| list.as_array().expect("list").iter().filter_map(|a| a["balance"].as_u64()).sum::<u64>();
    let supply = get("/rpc/supply").await;
    assert_eq!(supply["genesis"], json!(sum(&allocations["allocations"])));
    assert_eq!((&supply["minted"], &supply["burnt"]), (&json!(70), &json!(0)));
    let accounts = get("/rpc/addresses?limit=100").await;
    assert_eq!((&supply["total"], &accounts["total"]), (&json!(sum(&accounts["addresses"])), &json!(14)));
}

#[tokio::test]
async fn allocations_of_genesis_and_its_stakes_are_all_there_is_where_stakes_have_left_balances() {
    const STAKES: [u64; 3] = [3_000, 1_000, 2_500];
    for mode in [Mode::Pos, Mode::Hybrid] {
        let staked = |key: &SecretKey| {
            let others = [50, 51].map(|seed| SecretKey::from_seed([seed; 32]).public());
            let keys = [vec![key.public()], others.to_vec()].concat().into_iter().zip(STAKES);
            let validators = keys.map(|(public_key, stake)| GenesisValidator { public_key, weight: 1, stake });
            Genesis { mode, validators: validators.collect(), ..genesis(key) }
        };
        let chain = Chain::start_of(config(), staked).await;
        let get = async |path: &str| answer(&chain, Method::GET, path, Value::Null).await.1;
        let (found, supply) = (get("/rpc/genesis_allocations").await, get("/rpc/supply").await);
        let sum = |list: &str, field: &str| -> u64 {
            found[list].as_array().expect("a list").iter().filter_map(|one| one[field].as_u64()).sum()
        };
        let (balances, stakes) = (sum("allocations", "balance"), sum("stakes", "stake"));
        assert_eq!((balances, stakes), (8 * FUNDS + 1_000, STAKES.iter().sum()), "{mode:?}");
        assert_eq!((&supply["genesis"], &supply["staked"]), (&json!(balances + stakes), &json!(stakes)), "{mode:?}");
        let own = found["stakes"].as_array().expect("a list").iter().find(|one| one["stake"] == 3_000);
        let own = own.expect("the first one's");
        assert_eq!(own["public_key"], json!(chain.key.public()));
        assert_eq!(own["address"], json!(chain.key.public().address()), "who owns it");
        assert_eq!(found["state_root"], get("/rpc/blocks-range?start=0&end=0").await["blocks"][0]["state_root"]);
    }
    let chain = Chain::start().await;
    assert_eq!(answer(&chain, Method::GET, "/rpc/genesis_allocations", Value::Null).await.1["stakes"], json!([]));
}

#[tokio::test]
async fn receipts_are_found_by_job_and_provider() {
    let chain = Chain::start().await;
    history(&chain).await;
    let found = async |query: &str| {
        let (status, body) = answer(&chain, Method::GET, &format!("/rpc/receipts?{query}"), Value::Null).await;
        assert_eq!(status, 200, "{query}: {body}");
        (body["total"].as_u64(), body["receipts"].as_array().expect("a list").len())
    };
    let miner = provider().public().address();
    let (client, job) = (chain.client(), receipt("r 1").job_id);
    let listed = client.receipts(Some(&job), None, 1).await.expect("a list");
    assert_eq!((listed.receipts[0].receipt_id.as_str(), listed.receipts[0].minted_amount), ("r 1", 70));
    assert_eq!(client.receipts(None, Some(&miner), 1).await.expect("a list"), listed);
    assert_eq!(client.supply().await.expect("supply").minted, 70);
    assert_eq!(found("job_id=job%201/2").await, (Some(1), 1));
    assert_eq!(found("job_id=job").await, (Some(0), 0));
    assert_eq!(found(&format!("provider={miner}&limit=1")).await, (Some(1), 1));
    assert_eq!(found(&format!("provider={miner}&offset=1")).await, (Some(1), 0));
    assert_eq!(found(&format!("provider={}", alice().public().address())).await, (Some(0), 0));
    let wrong =
        ["provider=bob", &format!("provider={miner}&job_id=x"), "job_id=", "limit=101", "miner=x", "chain_id=x"];
    for query in wrong {
        let response = ask(&chain, Method::GET, &format!("/rpc/receipts?{query}"), "").await;
        refused(response, 400, "INVALID_QUERY").await;
    }
    refused(ask(&chain, Method::GET, "/rpc/receipts/r%202", "").await, 404, "NOT_FOUND").await;
}

#[tokio::test]
async fn a_signed_transaction_is_taken_under_each_name_with_each_spelling_of_its_fields() {
    let chain = Chain::start().await;
    let (names, mut nonce) = (examples(), 0);
    let spellings: [&[(&str, &str)]; 3] =
        [&[], &[("sender", "from"), ("signature", "sig")], &[("public_key", "public_key")]];
    for path in ["/rpc/send_tx", "/rpc/sendTx", "/rpc/transaction"] {
        for spelling in spellings {
            let body = renamed(&chain, &chain.pay(&alice(), nonce), spelling);
            let (status, found) = answer(&chain, Method::POST, path, body).await;
            assert_eq!(status, 200, "{path} {spelling:?}: {found}");
            same_shape(&names[&format!("POST {path}")], &found, path);
            nonce += 1;
        }
    }
    // Recipient and amount beside an empty payload, as one of its versions sends them.
    let mut flat = json::to_value(&chain.pay(&alice(), nonce), &chain.chain);
    flat["to"] = flat["payload"]["recipient"].clone();
    flat["amount"] = flat["payload"]["amount"].clone();
    flat["payload"] = json!({});
    flat["chain_id"] = json!("test");
    assert_eq!(answer(&chain, Method::POST, "/rpc/transaction", flat).await.0, 200);
    chain.block().await;
    assert_eq!(chain.balance(&Address([9; 20])), 5 * (nonce + 1));
}

#[tokio::test]
async fn a_receipt_is_submitted_without_saying_its_type() {
    let chain = Chain::start().await;
    for (nonce, path) in (0..).zip(["/rpc/submitReceipt", "/rpc/submit_receipt"]) {
        let claim = Action::ClaimReceipt(attested(&chain, receipt(path)));
        let mut body = json::to_value(&chain.sign(&alice(), nonce, 30, claim), &chain.chain);
        body.as_object_mut().expect("an object").remove("type");
        let (status, found) = answer(&chain, Method::POST, path, body).await;
        assert_eq!(status, 200, "{path}: {found}");
        same_shape(&examples()[&format!("POST {path}")], &found, path);
    }
    let payment = json::to_value(&chain.pay(&alice(), 2), &chain.chain).to_string();
    let refusal = refused(ask(&chain, Method::POST, "/rpc/submitReceipt", payment).await, 400, "MALFORMED_TRANSACTION");
    assert_eq!(refusal.await.detail["field"], json!("type"));
    chain.block().await;
    assert_eq!(chain.balance(&provider().public().address()), 112);
}

/// As the prototype's versions sent it: without signature, without key, with a signature of another kind.
#[tokio::test]
async fn an_unsigned_transaction_is_refused_with_what_to_send_instead() {
    let chain = Chain::start().await;
    let (from, to) = (alice().public().address(), Address([9; 20]));
    let old = json!({ "type": "TRANSFER", "sender": from, "nonce": 0, "fee": 10, "payload": { "recipient": to, "amount": 5 } });
    let head = json!({ "from": from, "to": to, "amount": 5, "fee": 36, "nonce": 0, "type": "TRANSFER", "payload": {},
                       "signature": "ab".repeat(65) });
    let receipt = json!({ "sender": from, "nonce": 0, "fee": 10, "payload": { "receipt_id": "r" } });
    let all = json!(["genesis_hash", "public_key", "expiry_height", "signature"]);
    let cases = [
        ("/rpc/sendTx", &old, all.clone()),
        ("/rpc/send_tx", &old, all.clone()),
        ("/rpc/transaction", &head, json!(["genesis_hash", "public_key", "expiry_height"])),
        ("/rpc/submitReceipt", &receipt, all),
    ];
    for (path, body, missing) in cases {
        let refusal = ask(&chain, Method::POST, path, body.to_string()).await;
        let refusal = refused(refusal, 422, "UNSIGNED_TRANSACTION").await;
        assert_eq!((&refusal.detail["missing"], &refusal.detail["genesis_hash"]), (&missing, &json!(chain.chain)));
        assert!(refusal.detail["sign"].as_str().is_some_and(|sign| sign.contains("aitbc/tx/v1")), "{refusal:?}");
    }
    // With key and signature, what is missing is named as ever.
    let mut signed = json::to_value(&chain.pay(&alice(), 0), &chain.chain);
    signed.as_object_mut().expect("an object").remove("expiry_height");
    let refusal = ask(&chain, Method::POST, "/rpc/sendTx", signed.to_string()).await;
    assert_eq!(refused(refusal, 400, "MALFORMED_TRANSACTION").await.detail["field"], json!("expiry_height"));
}

#[tokio::test]
async fn fees_are_estimated_as_they_are_asked_and_blocks_are_never_imported() {
    let chain = Chain::start().await;
    let payload = json!({ "recipient": Address([9; 20]), "amount": 5 });
    for path in ["/rpc/estimateFee", "/rpc/estimate_fee"] {
        let (status, found) = answer(&chain, Method::POST, path, json!({ "payload": payload })).await;
        assert_eq!(status, 200, "{found}");
        same_shape(&examples()[&format!("POST {path}")], &found, path);
        let bytes = payload.to_string().len();
        assert_eq!(found, json!({ "type": "TRANSFER", "base_fee": 1, "payload_bytes": bytes, "estimated_fee": 1 }));
    }
    let (_, free) = answer(&chain, Method::POST, "/rpc/estimateFee", json!({ "type": "faucet", "payload": {} })).await;
    assert_eq!(free["estimated_fee"], json!(0));
    let claim = Action::ClaimReceipt(attested(&chain, receipt("r 1")));
    let body = json!({ "type": "RECEIPT_CLAIM", "payload": json::payload(&claim) });
    let (_, found) = answer(&chain, Method::POST, "/rpc/estimateFee", body).await;
    assert_eq!((&found["base_fee"], &found["estimated_fee"]), (&json!(1), &json!(claim.fee_units())));
    let part = json!({ "type": "RECEIPT_CLAIM", "payload": { "receipt_id": "r" } });
    let (_, guessed) = answer(&chain, Method::POST, "/rpc/estimateFee", part).await;
    assert_eq!(guessed["estimated_fee"], json!(1 + 3 + 16), "a piece, two coordinators and the provider, a record");
    let due = found["estimated_fee"].as_u64().expect("a fee");
    let cheap = chain.client().send(&chain.sign(&alice(), 0, due - 1, claim)).await;
    assert_eq!(cheap.expect_err("too low").code(), Some("FEE_TOO_LOW"));
    let wrong = ask(&chain, Method::POST, "/rpc/estimateFee", "{\"payload\":[]}").await;
    refused(wrong, 400, "MALFORMED_TRANSACTION").await;
    let wrong = ask(&chain, Method::POST, "/rpc/estimateFee", "{\"type\":\"GIFT\"}").await;
    assert_eq!(refused(wrong, 400, "MALFORMED_TRANSACTION").await.detail["field"], json!("type"));
    for path in ["/rpc/importBlock", "/rpc/import_block"] {
        let block = json!({ "height": 7, "hash": "0x01", "parent_hash": "0x00", "proposer": "x", "timestamp": "x" });
        let (status, found) = answer(&chain, Method::POST, path, block).await;
        same_shape(&examples()[&format!("POST {path}")], &found, path);
        assert_eq!((status, &found["accepted"], &found["height"]), (200, &json!(false), &json!(7)));
    }
    assert_eq!(chain.head().height, 0);
}

/// Makes blocks until an answer is there.
async fn while_blocks_come(chain: &Chain, path: &str, body: Value) -> (u16, Value) {
    let mut asked = std::pin::pin!(answer(chain, Method::POST, path, body));
    loop {
        tokio::select! {
            answer = &mut asked => return answer,
            () = tokio::time::sleep(Duration::from_millis(20)) => { chain.block().await; }
        }
    }
}

#[tokio::test]
async fn the_faucet_gives_under_each_name_what_genesis_allows() {
    let chain = Chain::start().await;
    let poor = SecretKey::from_seed([99; 32]).public().address();
    let paths = ["/rpc/admin/mintFaucet", "/rpc/admin/mint_faucet", "/rpc/faucet"];
    for (times, path) in (1..).zip(paths) {
        let (status, found) = while_blocks_come(&chain, path, json!({ "address": poor, "amount": 100 })).await;
        assert_eq!((status, &found["balance"]), (200, &json!(100 * times)), "{path}: {found}");
        same_shape(&examples()[&format!("POST {path}")], &found, path);
    }
    for (amount, status, code) in [
        (json!(101), 422, "FAUCET_LIMIT"),
        (json!(0), 422, "AMOUNT_OUT_OF_RANGE"),
        (json!("5"), 400, "MALFORMED_TRANSACTION"),
    ] {
        let body = json!({ "address": poor, "amount": amount }).to_string();
        refused(ask(&chain, Method::POST, "/rpc/faucet", body).await, status, code).await;
    }
    let nobody = ask(&chain, Method::POST, "/rpc/faucet", "{\"address\":\"bob\",\"amount\":1}").await;
    refused(nobody, 400, "UNKNOWN_ADDRESS_FORM").await;
    // 1,000 at genesis: the eleventh hundred is not there.
    for _ in 0..7 {
        while_blocks_come(&chain, "/rpc/faucet", json!({ "address": poor, "amount": 100 })).await;
    }
    let (status, empty) = while_blocks_come(&chain, "/rpc/faucet", json!({ "address": poor, "amount": 100 })).await;
    assert_eq!((status, &empty["code"]), (409, &json!("FAUCET_EMPTY")));
}

#[tokio::test]
async fn websockets_send_bare_events_under_each_name_on_both_ports() {
    let chain = Chain::start().await;
    let mut sockets = Vec::new();
    for port in [chain.rpc, chain.ws] {
        for (path, kind) in [
            ("/rpc/ws/blocks", "blocks"),
            ("/rpc/blocks?chain_id=test", "blocks"),
            ("/rpc/ws/transactions", "transactions"),
            ("/rpc/transactions", "transactions"),
        ] {
            sockets.push((path, kind, connect_async(format!("ws://{port}{path}")).await.expect("connected").0));
        }
    }
    let paid = chain.sign(&alice(), 0, 1, Action::Transfer(Payment { to: Address([9; 20]), amount: 5 }));
    chain.client().send(&paid).await.expect("taken");
    chain.block().await;
    let head = chain.head();
    for (path, kind, socket) in &mut sockets {
        let message = tokio::time::timeout(SOON, socket.next()).await.expect("soon").expect("open").expect("a message");
        let found: Value = serde_json::from_str(message.to_text().expect("text")).expect("json");
        same_shape(&examples()[&format!("WS /rpc/ws/{kind}")], &found, path);
        match *kind {
            "blocks" => assert_eq!((&found["height"], &found["hash"]), (&json!(1), &json!(head.hash))),
            _ => assert_eq!((&found["tx_hash"], &found["nonce"]), (&json!(paid.id(&chain.chain)), &json!(0))),
        }
    }
}

#[tokio::test]
async fn metrics_are_on_the_rpc_port_too_and_an_unknown_account_is_none() {
    let chain = Chain::start().await;
    let text = ask(&chain, Method::GET, "/metrics", "").await.text().await.expect("text");
    assert!(text.contains("blockchain_blocks_total"), "{text}");
    let nobody = SecretKey::from_seed([99; 32]).public().address();
    for path in ["/rpc/account/", "/rpc/accounts/"] {
        refused(ask(&chain, Method::GET, &format!("{path}{nobody}"), "").await, 404, "NOT_FOUND").await;
    }
    let (_, balance) = answer(&chain, Method::GET, &format!("/rpc/getBalance/{nobody}"), Value::Null).await;
    assert_eq!((&balance["balance"], &balance["nonce"]), (&json!(0), &json!(0)));
    let other = ask(&chain, Method::GET, "/rpc/head?chain_id=ait-mainnet", "").await;
    refused(other, 400, "INVALID_QUERY").await;
    let client = chain.client();
    let unknown = client.transaction(&aitbc_core::hash::Hash([7; 32])).await;
    assert!(matches!(unknown, Err(ClientError::Refused { status: 404, .. })), "{unknown:?}");
}

/// A route that is listed and not served, or served for another method only, would answer 404 `UNKNOWN_ROUTE` or 405.
#[tokio::test]
async fn every_listed_route_is_served() {
    let chain = Chain::start().await;
    for route in ROUTES {
        let (method, path) = route.split_once(' ').expect("method and path");
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let path = path.replace("{address}", "x").replace("{height}", "x").replace("{id}", "x");
        let path = path.replace("{provider}", "x").replace("{client}", "x");
        let response = ask(&chain, method, &path, "").await;
        let (status, text) = (response.status().as_u16(), response.text().await.expect("text"));
        assert!(status != 405 && !text.contains("UNKNOWN_ROUTE"), "{route}: {status} {text}");
    }
}
