//! Headers and proofs as a client checks them that trusts nothing but the validators of genesis.

use super::fixture::{Chain, FUNDS, alice};
use super::requests::{ask, refused};
use crate::rpc::headers::{HeaderInfo, MAX_HEADERS};
use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::block::Header;
use aitbc_core::codec::hex;
use aitbc_core::epoch::Sets;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::ledger::ResultCode;
use aitbc_core::light::{Client as LightClient, named};
use aitbc_core::transaction::{Action, Payment};
use aitbc_core::vote::Cert;
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;

fn header(info: &HeaderInfo) -> Header {
    hex::parse(&info.header).expect("borsh")
}

fn cert(info: &HeaderInfo) -> Option<Cert> {
    info.certificate.as_deref().map(|text| hex::parse(text).expect("borsh"))
}

#[tokio::test]
async fn headers_link_from_genesis_under_certificates_and_name_their_batches() {
    let chain = Chain::start().await;
    for nonce in 0..3 {
        chain.client().send(&chain.pay(&alice(), nonce)).await.expect("taken");
        chain.block().await;
        chain.block().await;
    }
    let answer = chain.client().headers(1, MAX_HEADERS, true).await.expect("headers");
    assert_eq!((answer.head, answer.headers.len()), (6, 6));
    let mut light = LightClient::at_genesis(chain.chain, (*chain.identity.genesis_set).clone());
    let sets = Sets::genesis(chain.identity.genesis_set.clone());
    for info in &answer.headers {
        let (header, cert) = (header(info), cert(info));
        assert_eq!(light.advance(&header, cert.as_ref()), Ok(info.hash));
        let batches = info.batches.as_ref().expect("asked for");
        assert_eq!(batches.len(), usize::from(header.height % 2 == 1));
        for (index, text) in batches.iter().enumerate() {
            let batch: Batch = hex::parse(text).expect("borsh");
            named(&sets, &header, index, &batch).expect("the one it names");
        }
    }
    assert_eq!(light.trusted().map(|anchor| anchor.height), Some(6));

    let some = chain.client().headers(3, 2, false).await.expect("headers");
    assert_eq!(some.headers.iter().map(|info| info.height).collect::<Vec<_>>(), [3, 4]);
    assert!(some.headers.iter().all(|info| info.batches.is_none()));
    assert!(chain.client().headers(7, 2, false).await.expect("none yet").headers.is_empty());
    for query in ["from=0", "count=0", "count=257", "batches=1", "to=7"] {
        refused(ask(&chain, Method::GET, &format!("/rpc/headers?{query}"), "").await, 400, "INVALID_QUERY").await;
    }
}

#[tokio::test]
async fn a_final_header_that_is_not_written_yet_is_waited_for() {
    let chain = Chain::start().await;
    let unwritten = chain.publish_block();
    let client = chain.client();
    let (answer, _) = tokio::join!(client.headers(1, 1, true), chain.write(unwritten));
    assert_eq!(answer.expect("headers").headers.len(), 1);
}

#[tokio::test]
async fn an_account_is_proven_at_the_height_below_the_last_block_and_at_no_other() {
    let chain = Chain::start().await;
    let (address, absent) = (alice().public().address(), Address([200; 20]));
    let path = |address: Address, query: &str| format!("/rpc/proof/account/{address}{query}");
    let body = refused(ask(&chain, Method::GET, &path(address, ""), "").await, 404, "NOT_PROVABLE").await;
    assert_eq!(body.detail, json!({ "provable_height": null }));
    chain.client().send(&chain.pay(&alice(), 0)).await.expect("taken");
    chain.block().await;
    let before = chain.client().account_proof(&address).await.expect("the state of genesis");
    assert_eq!((before.height, before.balance, before.nonce), (0, FUNDS, 0));
    chain.block().await;

    let proven = chain.client().account_proof(&address).await.expect("proof");
    assert_eq!((proven.height, proven.balance, proven.nonce), (1, FUNDS - 6, 1));
    let next = header(&proven.committed_by);
    assert_eq!((next.height, next.digest()), (2, proven.committed_by.hash));
    let account = proven.proof.verify(&next.parent_state_root).expect("valid").expect("there");
    assert_eq!((account.balance, account.nonce), (proven.balance, proven.nonce));
    let nobody = chain.client().account_proof(&absent).await.expect("proof of absence");
    assert_eq!((nobody.balance, nobody.proof.verify(&next.parent_state_root)), (0, Ok(None)));

    let asked = ask(&chain, Method::GET, &path(address, "?height=1"), "").await;
    assert_eq!(asked.status(), 200);
    for height in ["0", "2", "7"] {
        let asked = ask(&chain, Method::GET, &path(address, &format!("?height={height}")), "").await;
        let body = refused(asked, 404, "NOT_PROVABLE").await;
        assert_eq!(body.detail, json!({ "provable_height": 1 }), "{height}");
    }
    refused(ask(&chain, Method::GET, &path(address, "?height=-1"), "").await, 400, "INVALID_QUERY").await;
    let wrong = ask(&chain, Method::GET, "/rpc/proof/account/bob", "").await;
    refused(wrong, 400, "UNKNOWN_ADDRESS_FORM").await;
}

#[tokio::test]
async fn a_transaction_is_proven_once_final_and_its_result_one_block_later() {
    let chain = Chain::start().await;
    let client = chain.client();
    // The second one's fee is taken, and nothing else.
    let broke = Action::Transfer(Payment { to: Address([9; 20]), amount: FUNDS });
    let signed = vec![chain.pay(&alice(), 0), chain.sign(&alice(), 1, 2, broke), chain.pay(&alice(), 2)];
    let ids: Vec<Hash> = signed.iter().map(|tx| tx.id(&chain.chain)).collect();
    client.send(&signed[0]).await.expect("taken");
    let path = format!("/rpc/proof/transaction/{}", ids[0]);
    refused(ask(&chain, Method::GET, &path, "").await, 404, "NOT_FOUND").await;
    let batch = Batch::seal(&chain.chain, &chain.key, (0, 0), 1, 100, signed);
    let digest = batch.digest();
    let batch = VerifiedBatch::trusted(Arc::new(batch), digest, &chain.chain);
    chain.write(chain.publish(vec![batch], |_| {})).await;
    let early = client.transaction_proof(&ids[0]).await.expect("included");
    assert_eq!((early.code, early.fee, early.committed_by), (None, None, None));
    assert_eq!(early.proof.verify(&chain.chain, &ids[0], &header(&early.included_by), None), Ok((0, None)));
    chain.block().await;
    for (index, code, fee) in [(0, ResultCode::Ok, 1), (1, ResultCode::InsufficientBalance, 2), (2, ResultCode::Ok, 1)]
    {
        let proven = client.transaction_proof(&ids[index]).await.expect("proof");
        let (block, next) = (header(&proven.included_by), header(&proven.committed_by.expect("there is a next one")));
        let verdict = proven.proof.verify(&chain.chain, &ids[index], &block, Some(&next)).expect("valid");
        assert_eq!((verdict.0, proven.index), (index as u32, index as u32));
        assert_eq!(verdict.1.map(|result| (result.code, result.fee)), Some((code, fee)));
        assert_eq!((proven.code.as_deref(), proven.fee), (Some(code.name()), Some(fee)));
    }
    refused(ask(&chain, Method::GET, "/rpc/proof/transaction/0x12", "").await, 400, "MALFORMED_HASH").await;
}
