//! Wrong requests get the right status and code each time, and the node goes on.

use aitbc_core::json;
use aitbc_core::key::SecretKey;
use aitbc_core::params::MAX_SUPPLY;
use aitbc_core::transaction::{Action, Payment, SignedTransaction, Transaction};
use aitbc_tests::localnet::{Database, FUNDS, Localnet, scenario};
use aitbc_tests::rpc::Answer;
use aitbc_tests::wait;
use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;

/// Sockets that are opened and left idle.
const IDLE_SOCKETS: usize = 10_000;
/// Files that a process needs beside them.
const OTHER_FILES: u64 = 500;

#[test]
fn wrong_transactions_get_their_status_and_code_and_the_node_goes_on() {
    scenario("bad transactions", 4, Database::Sqlite, async |net| {
        let expiry = net.expiry().await?;
        let base = Base::new(net, expiry).await?;
        let good = base.json(&base.transaction(|_| {}));
        // What is wrong, what is sent, status, code.
        let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
            ("no JSON", b"{\"type\":".to_vec(), 400, "MALFORMED_JSON"),
            ("empty body", Vec::new(), 400, "MALFORMED_JSON"),
            ("a list", b"[1,2]".to_vec(), 400, "MALFORMED_TRANSACTION"),
            ("not UTF-8", vec![0xff, 0xfe, 0x00], 400, "MALFORMED_JSON"),
            ("deep nesting", "[".repeat(50_000).into_bytes(), 400, "MALFORMED_JSON"),
            ("a field too many", with(&good, "memo", json!("x")), 400, "MALFORMED_TRANSACTION"),
            ("a missing nonce", with(&good, "nonce", Value::Null), 400, "MALFORMED_TRANSACTION"),
            ("a negative fee", with(&good, "fee", json!(-1)), 422, "FEE_OUT_OF_RANGE"),
            ("a fraction", with(&good, "fee", json!(0.5)), 400, "MALFORMED_TRANSACTION"),
            ("a fee over the bound", with(&good, "fee", json!(MAX_SUPPLY + 1)), 422, "FEE_OUT_OF_RANGE"),
            ("an amount over the bound", with_amount(&good, json!(MAX_SUPPLY + 1)), 422, "AMOUNT_OUT_OF_RANGE"),
            ("an unknown type", with(&good, "type", json!("MINT")), 400, "MALFORMED_TRANSACTION"),
            ("an unknown address form", with_recipient(&good, json!("bob")), 400, "UNKNOWN_ADDRESS_FORM"),
            ("an address of another chain's form", with_recipient(&good, json!("0x12")), 400, "UNKNOWN_ADDRESS_FORM"),
            ("another chain's hash", with(&good, "genesis_hash", json!(base.other)), 422, "WRONG_CHAIN"),
            ("another's address as sender", with(&good, "sender", json!(base.to)), 422, "WRONG_SENDER"),
            ("a wrong signature", with(&good, "signature", json!("11".repeat(64))), 422, "INVALID_SIGNATURE"),
            ("a changed nonce", with(&good, "nonce", json!(7)), 422, "INVALID_SIGNATURE"),
            ("signed for another chain", base.signed_for_other_chain(), 422, "INVALID_SIGNATURE"),
            ("signed by another key", base.signed_by_other_key(), 422, "INVALID_SIGNATURE"),
            ("amount 0", base.sent(|t| t.action = base.pay(0)), 422, "AMOUNT_OUT_OF_RANGE"),
            ("fee and amount over the bound", base.sent(|t| t.fee = MAX_SUPPLY), 422, "TOTAL_OUT_OF_RANGE"),
            (
                "no payments",
                base.sent(|t| t.action = Action::TransferMany { payments: vec![] }),
                400,
                "MALFORMED_TRANSACTION",
            ),
            ("a used nonce", base.sent(|t| t.nonce = 0), 409, "NONCE_TOO_LOW"),
            ("a nonce far ahead", base.sent(|t| t.nonce = 1_000), 409, "NONCE_GAP"),
            ("more than the balance", base.sent(|t| t.action = base.pay(2 * FUNDS)), 409, "INSUFFICIENT_BALANCE"),
            ("no fee", base.sent(|t| t.fee = 0), 422, "FEE_TOO_LOW"),
            ("expired", base.sent(|t| t.expiry_height = 0), 409, "EXPIRED"),
            ("valid for too long", base.sent(|t| t.expiry_height += 10_000), 409, "EXPIRY_TOO_FAR"),
            ("the faucet's bound", base.sent(|t| t.action = base.faucet(5_000)), 422, "FAUCET_LIMIT"),
            ("an oversized body", vec![b' '; (1 << 20) + 1], 413, "BODY_TOO_LARGE"),
        ];
        let mut wrong = Vec::new();
        for (what, body, status, code) in cases {
            let answer = net.nodes[0].rpc.request("POST", "/rpc/send_tx", "application/json", body).await;
            note(&mut wrong, what, answer, status, code);
        }
        ensure!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
        goes_on(net).await
    });
}

#[test]
fn wrong_requests_get_their_status_and_code_and_the_node_goes_on() {
    scenario("bad requests", 4, Database::Sqlite, async |net| {
        let hash = format!("0x{}", "ab".repeat(32));
        let cases: Vec<(&str, String, u16, &str)> = vec![
            ("GET", "/rpc/nothing".into(), 404, "UNKNOWN_ROUTE"),
            ("GET", "/".into(), 404, "UNKNOWN_ROUTE"),
            ("DELETE", "/rpc/get_head".into(), 405, "METHOD_NOT_ALLOWED"),
            ("GET", "/rpc/send_tx".into(), 405, "METHOD_NOT_ALLOWED"),
            ("POST", "/rpc/get_head".into(), 405, "METHOD_NOT_ALLOWED"),
            ("GET", "/rpc/get_balance/bob".into(), 400, "UNKNOWN_ADDRESS_FORM"),
            ("GET", "/rpc/get_balance/0x1234".into(), 400, "UNKNOWN_ADDRESS_FORM"),
            ("GET", "/rpc/get_block/first".into(), 400, "MALFORMED_HEIGHT"),
            ("GET", "/rpc/get_block/-1".into(), 400, "MALFORMED_HEIGHT"),
            ("GET", "/rpc/get_block/99999999".into(), 404, "NOT_FOUND"),
            ("GET", format!("/rpc/transaction/{hash}"), 404, "NOT_FOUND"),
            ("GET", "/rpc/transaction/xyz".into(), 400, "MALFORMED_HASH"),
            ("GET", "/rpc/genesis/".into(), 404, "UNKNOWN_ROUTE"),
            ("GET", "/rpc/mempool?limit=0".into(), 400, "INVALID_QUERY"),
            ("GET", "/rpc/get_head?verbose=1".into(), 400, "INVALID_QUERY"),
            ("GET", format!("/rpc/get_balance/{}", "a".repeat(20_000)), 400, "UNKNOWN_ADDRESS_FORM"),
        ];
        let mut wrong = Vec::new();
        for (method, path, status, code) in cases {
            let answer = net.nodes[0].rpc.request(method, &path, "application/json", Vec::new()).await;
            note(&mut wrong, &format!("{method} {}", &path[..path.len().min(60)]), answer, status, code);
        }
        ensure!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
        goes_on(net).await
    });
}

#[test]
fn a_transaction_sent_twice_is_executed_once_and_a_gap_is_filled_later() {
    scenario("replay and gap", 4, Database::Sqlite, async |net| {
        let expiry = net.expiry().await?;
        let (to, chain) = (net.wallets[1].address(), net.chain);
        let first = net.wallets[0].transfer(&chain, to, 10, expiry);
        let second = net.wallets[0].transfer(&chain, to, 20, expiry);
        let third = net.wallets[0].transfer(&chain, to, 30, expiry);
        net.nodes[0].rpc.send_final(&first, &chain).await?;
        // Replayed at the validator that took it and at another.
        for index in [0, 2] {
            let answer = net.nodes[index].rpc.send(&first, &chain, "").await?;
            ensure!(answer.status == 409, "replay at validator {index}: {answer:?}");
        }
        // Third before second: it waits, then both are final.
        let answer = net.nodes[0].rpc.send(&third, &chain, "").await?;
        ensure!(answer.status == 200 || answer.status == 202, "{answer:?}");
        let status = net.nodes[0].rpc.status(third.id(&chain)).await?;
        ensure!(status["status"] == "pending", "{status}");
        net.nodes[0].rpc.send_final(&second, &chain).await?;
        wait::until_ok(Duration::from_millis(20), "the third follows", Duration::from_secs(5), || async {
            let status = net.nodes[0].rpc.status(third.id(&chain)).await?;
            ensure!(status["status"] == "final", "{status}");
            Ok(())
        })
        .await?;
        ensure!(net.nodes[0].rpc.balance(to).await?.0 == FUNDS + 60);
        Ok(())
    });
}

#[test]
fn ten_thousand_idle_sockets_do_not_stop_a_node() {
    let needed = IDLE_SOCKETS as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    assert!(maximum >= needed, "\"ulimit -Hn\" is {maximum}, this test needs {needed}: raise it and run again");
    // The validators inherit it.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("raise the limit");
    scenario("idle sockets", 4, Database::Sqlite, async |net| {
        let address = net.nodes[0].rpc.base().trim_start_matches("http://").to_owned();
        let mut sockets = Vec::with_capacity(IDLE_SOCKETS);
        let mut refused = 0;
        while sockets.len() + refused < IDLE_SOCKETS {
            // The node may refuse, or close at once, what is over its bound: that is an answer too.
            match tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(&address)).await {
                Ok(Ok(socket)) => sockets.push(socket),
                Ok(Err(_)) | Err(_) => refused += 1,
            }
            ensure!(refused < 100, "{refused} of {} connections were not even accepted", sockets.len());
        }
        println!("{} idle sockets open, {refused} refused", sockets.len());
        // The chain does not notice, other clients of other validators neither.
        let height = net.nodes[1].rpc.height().await?;
        net.wait_until_signs(0, Duration::from_secs(10)).await?;
        wait::until_ok(Duration::from_millis(50), "the chain goes on", Duration::from_secs(10), || async {
            ensure!(net.nodes[1].rpc.height().await? > height + 1);
            Ok(())
        })
        .await?;
        // Probes and clients of this one are answered, meanwhile or at the latest when idle ones are cut off.
        let health = wait::until_ok(
            Duration::from_millis(200),
            "an answer beside idle sockets",
            Duration::from_secs(60),
            || async { net.nodes[0].rpc.get("/health").await?.ok() },
        );
        health.await?;
        drop(sockets);
        goes_on(net).await
    });
}

/// Compares an answer with what is expected and notes the difference.
fn note(wrong: &mut Vec<String>, what: &str, answer: Result<Answer>, status: u16, code: &str) {
    match answer {
        Ok(answer) => {
            let told = answer.body["message"].as_str().is_some_and(|message| message.len() > 10);
            if (answer.status, answer.code()) != (status, code) || !told {
                wrong.push(format!("{what}: expected {status} {code}, got {} {}", answer.status, answer.body));
            }
        }
        Err(cause) => wrong.push(format!("{what}: no answer: {cause:#}")),
    }
}

/// A transfer still becomes final through the node that was mistreated.
async fn goes_on(net: &mut Localnet) -> Result<()> {
    let expiry = net.expiry().await?;
    let to = net.wallets[3].address();
    let signed = net.wallets[2].transfer(&net.chain, to, 1, expiry);
    net.nodes[0].rpc.send_final(&signed, &net.chain).await.context("after the wrong requests")?;
    ensure!(net.nodes[0].process.ended().is_none());
    Ok(())
}

/// What a good transaction consists of; the cases change one thing each.
struct Base {
    key: SecretKey,
    to: aitbc_core::key::Address,
    chain: aitbc_core::hash::Hash,
    other: aitbc_core::hash::Hash,
    expiry: u64,
}

impl Base {
    /// Of the first wallet, whose nonce 0 is used up.
    async fn new(net: &mut Localnet, expiry: u64) -> Result<Base> {
        let to = net.wallets[1].address();
        let first = net.wallets[0].transfer(&net.chain, to, 1, expiry);
        net.nodes[0].rpc.send_final(&first, &net.chain).await?;
        let key = net.seed().key("account", 0);
        Ok(Base { key, to, chain: net.chain, other: aitbc_core::hash::plain(b"another chain"), expiry })
    }

    fn pay(&self, amount: u64) -> Action {
        Action::Transfer(Payment { to: self.to, amount })
    }

    fn faucet(&self, amount: u64) -> Action {
        Action::Faucet(Payment { to: self.to, amount })
    }

    fn transaction(&self, change: impl FnOnce(&mut Transaction)) -> Transaction {
        let sender = self.key.public();
        let mut tx = Transaction { sender, nonce: 1, fee: 1, expiry_height: self.expiry, action: self.pay(5) };
        change(&mut tx);
        tx
    }

    fn json(&self, tx: &Transaction) -> Value {
        json::to_value(&tx.clone().sign(&self.chain, &self.key), &self.chain)
    }

    /// Bytes of a transaction that is well signed but for the change.
    fn sent(&self, change: impl FnOnce(&mut Transaction)) -> Vec<u8> {
        self.json(&self.transaction(change)).to_string().into_bytes()
    }

    /// Names this chain, but the signature is over another's hash.
    fn signed_for_other_chain(&self) -> Vec<u8> {
        let signed: SignedTransaction = self.transaction(|_| {}).sign(&self.other, &self.key);
        json::to_value(&signed, &self.chain).to_string().into_bytes()
    }

    fn signed_by_other_key(&self) -> Vec<u8> {
        let signed = self.transaction(|_| {}).sign(&self.chain, &SecretKey::from_seed([9; 32]));
        json::to_value(&signed, &self.chain).to_string().into_bytes()
    }
}

fn with(good: &Value, field: &str, value: Value) -> Vec<u8> {
    let mut changed = good.clone();
    changed[field] = value;
    changed.to_string().into_bytes()
}

fn with_amount(good: &Value, amount: Value) -> Vec<u8> {
    let payload = json!({ "recipient": good["payload"]["recipient"], "amount": amount });
    with(good, "payload", payload)
}

fn with_recipient(good: &Value, recipient: Value) -> Vec<u8> {
    with(good, "payload", json!({ "recipient": recipient, "amount": 5 }))
}
