//! A transaction from being sent to being final or rejected, as clients see it.

use super::fixture::{Chain, FUNDS, alice};
use crate::client::ClientError;
use crate::rpc::transaction::Status;
use aitbc_core::codec;
use aitbc_core::hash::plain;
use aitbc_core::key::{Address, SecretKey, Signature};
use aitbc_core::transaction::{Action, Payment};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn a_transaction_is_pending_then_final_and_stays_so_when_only_the_database_knows() {
    let chain = Chain::start().await;
    let client = chain.client();
    let sent = client.send(&chain.pay(&alice(), 0)).await.expect("taken");
    assert_eq!(client.transaction(&sent.tx_hash).await.expect("known").status, Status::Pending);
    chain.block().await;
    for _ in 0..2 {
        let status = client.transaction(&sent.tx_hash).await.expect("known");
        assert_eq!((status.status, status.height, status.index), (Status::Final, Some(1), Some(0)));
        assert_eq!(status.code.as_deref(), Some("OK"));
        chain.pool.forget();
    }
}

#[tokio::test]
async fn who_waits_is_answered_as_soon_as_the_block_is_final_though_not_in_the_database() {
    let chain = Chain::start().await;
    let (client, tx) = (chain.client(), chain.pay(&alice(), 0));
    let id = tx.id(&chain.chain);
    let waiting = tokio::spawn(async move { client.send_and_wait(&tx, Duration::from_secs(4)).await });
    let client = chain.client();
    while client.transaction(&id).await.is_err() {
        tokio::task::yield_now().await;
    }
    let unwritten = chain.publish_block();
    let status = waiting.await.expect("no panic").expect("final");
    assert_eq!((status.status, status.height), (Status::Final, Some(1)));
    let reading = tokio::spawn(async move { client.get_block(None, false).await });
    chain.write(unwritten).await;
    assert_eq!(reading.await.expect("no panic").expect("block").transactions[0].tx_hash, id);
}

#[tokio::test]
async fn a_transaction_without_effect_is_rejected_with_code_and_reason() {
    let chain = Chain::start().await;
    let (client, key, to) = (chain.client(), alice(), Address([9; 20]));
    // Both are covered when they come in; the faucet request is refused in the block for want of units.
    let asks: Vec<_> = (0..11).map(|n| chain.sign(&key, n, 0, Action::Faucet(Payment { to, amount: 100 }))).collect();
    for ask in &asks {
        client.send(ask).await.expect("taken");
    }
    chain.block().await;
    let status = client.transaction(&asks[10].id(&chain.chain)).await.expect("known");
    assert_eq!((status.status, status.code.as_deref()), (Status::Rejected, Some("FAUCET_EMPTY")));
    assert!(status.reason.expect("for people").contains("faucet"));
    assert_eq!(chain.balance(&to), 1_000);
    assert_eq!(chain.balance(&key.public().address()), FUNDS);
}

#[tokio::test]
async fn a_replaced_transaction_is_rejected_and_who_waits_for_it_learns_that() {
    let chain = Chain::start().await;
    let (client, key) = (chain.client(), alice());
    let first = client.send(&chain.pay(&key, 0)).await.expect("taken");
    let action = Action::Transfer(Payment { to: Address([8; 20]), amount: 5 });
    client.send(&chain.sign(&key, 0, 100, action)).await.expect("replaces it");
    let status = client.transaction(&first.tx_hash).await.expect("known");
    assert_eq!((status.status, status.code.as_deref()), (Status::Rejected, Some("REPLACED")));
    assert!(status.height.is_none());
}

#[tokio::test]
async fn a_wait_that_ends_too_early_says_pending_with_202_and_sending_again_is_harmless() {
    let chain = Chain::start().await;
    let tx = chain.pay(&alice(), 0);
    let url = format!("http://{}/rpc/send_tx?wait=final&timeout_ms=50", chain.rpc);
    let body = aitbc_core::json::to_value(&tx, &chain.chain);
    for _ in 0..2 {
        let response = reqwest::Client::new().post(&url).json(&body).send().await.expect("an answer");
        assert_eq!(response.status(), 202);
        let answer: Value = response.json().await.expect("json");
        assert_eq!((&answer["status"], &answer["place"]), (&json!("pending"), &json!("queued")));
    }
    let error = chain.client().wait_final(&tx.id(&chain.chain), Duration::from_millis(100)).await;
    assert!(matches!(error, Err(ClientError::StillPending { .. })), "{error:?}");
}

#[tokio::test]
async fn many_transactions_get_one_answer_each_in_order() {
    let chain = Chain::start().await;
    let mut txs: Vec<_> = (2..10).map(|seed| chain.pay(&SecretKey::from_seed([seed; 32]), 0)).collect();
    txs[3].signature = Signature([1; 64]);
    txs.push(chain.pay(&alice(), 90));
    txs.push(txs[0].clone());
    let sent = chain.client().send_many(&txs).await.expect("answers");
    let codes: Vec<_> = sent.results.iter().map(|r| r.error.as_ref().map_or("", |e| e.code.as_str())).collect();
    assert_eq!(codes, ["", "", "", "INVALID_SIGNATURE", "", "", "", "", "NONCE_GAP", ""]);
    assert_eq!((sent.accepted, sent.rejected), (8, 2));
    for (result, tx) in sent.results.iter().zip(&txs) {
        assert_eq!(result.tx_hash, Some(tx.id(&chain.chain)));
    }
    chain.block().await;
    assert_eq!(chain.head().tx_count, 7);

    let url = format!("http://{}/rpc/send_txs", chain.rpc);
    let list = json!([aitbc_core::json::to_value(&chain.pay(&alice(), 1), &chain.chain), { "nonce": 1 }]);
    let response = reqwest::Client::new().post(&url).json(&list).send().await.expect("an answer");
    let answer: Value = response.json().await.expect("json");
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(answer["results"][1]["error"]["code"], json!("MALFORMED_TRANSACTION"));
}

#[tokio::test]
async fn a_borsh_list_that_does_not_decode_is_refused_as_a_whole() {
    let chain = Chain::start().await;
    let url = format!("http://{}/rpc/send_txs", chain.rpc);
    let good = codec::encode(&vec![chain.pay(&alice(), 0)]);
    let too_many = codec::encode(&5_000u32);
    for bytes in [vec![], vec![1, 0, 0], [&good[..], &[0]].concat(), good[..good.len() - 1].to_vec(), too_many] {
        let post = reqwest::Client::new().post(&url).header("content-type", "application/octet-stream");
        let response = post.body(bytes).send().await.expect("an answer");
        assert_eq!(response.status(), 400);
        assert_eq!(response.json::<Value>().await.expect("json")["code"], json!("MALFORMED_BORSH"));
    }
    assert_eq!(chain.client().send_many(&[]).await.expect("nothing to do").results.len(), 0);
}

#[tokio::test]
async fn a_busy_pool_and_one_that_hangs_are_told_apart() {
    let mut config = super::fixture::config();
    config.rpc_timeout = Duration::from_millis(300);
    let chain = Chain::start_with(config).await;
    let client = chain.client();
    chain.pool.busy.store(true, Ordering::Relaxed);
    let Err(ClientError::Refused { status, body, retry_after }) = client.send(&chain.pay(&alice(), 0)).await else {
        panic!("refused")
    };
    assert_eq!((status, body.code.as_str(), retry_after), (503, "BUSY", Some(Duration::from_secs(1))));
    chain.pool.hangs.store(true, Ordering::Relaxed);
    let error = client.send(&chain.pay(&alice(), 0)).await.expect_err("no answer");
    assert_eq!(error.code(), Some("TIMEOUT"));
    assert_eq!(chain.metrics.rpc_limited.with_label_values(&["timeout"]).get(), 1);
    assert!(client.get_head().await.is_ok());
    let unknown = client.transaction(&plain(b"x")).await.expect_err("unknown");
    assert_eq!(unknown.code(), Some("NOT_FOUND"));
}
