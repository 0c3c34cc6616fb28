//! Receipts and escrows as clients see them: minted, paid, found again; and what bad ones are answered with.

use super::fixture::{Chain, FUNDS, START_MS, alice};
use crate::client::ClientError;
use crate::rpc::receipts::EscrowStatus;
use crate::rpc::transaction::Status;
use aitbc_core::json;
use aitbc_core::key::{Address, SecretKey, Signature};
use aitbc_core::receipt::{AttestedReceipt, Name, Receipt, Text};
use aitbc_core::transaction::{Action, Lock, SignedTransaction};
use serde_json::{Value, json};

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub(super) fn provider() -> SecretKey {
    key(20)
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).expect("a text")
}

/// Of alice's job, completed when the chain began.
pub(super) fn receipt(id: &str) -> Receipt {
    Receipt {
        receipt_id: text(id),
        job_id: text("job 1/2"),
        provider: provider().public(),
        client: alice().public().address(),
        units: 7,
        unit_type: text("gpu_seconds"),
        price: Some(120),
        model: None,
        prompt_hash: None,
        started_at: START_MS / 1_000 - 9,
        completed_at: START_MS / 1_000,
        duration_ms: None,
        artifact_hash: None,
        coordinator_id: None,
        nonce: None,
        chain_id: Some(text("test")),
        metadata: None,
    }
}

/// By both coordinators of the fixture's genesis.
pub(super) fn attested(chain: &Chain, receipt: Receipt) -> Box<AttestedReceipt> {
    Box::new(receipt.attest(&chain.chain, &provider(), &[&key(40), &key(41)]))
}

/// For the least fee that is taken.
fn signed(chain: &Chain, key: &SecretKey, nonce: u64, action: Action) -> SignedTransaction {
    chain.sign(key, nonce, action.fee_units(), action)
}

fn claim(chain: &Chain, nonce: u64, receipt: Receipt) -> SignedTransaction {
    signed(chain, &alice(), nonce, Action::ClaimReceipt(attested(chain, receipt)))
}

/// Sends it, makes a block, and answers what came of it.
async fn code(chain: &Chain, tx: SignedTransaction) -> String {
    chain.client().send(&tx).await.expect("taken");
    chain.block().await;
    let status = chain.client().transaction(&tx.id(&chain.chain)).await.expect("known");
    assert_ne!(status.status, Status::Pending);
    status.code.expect("a code")
}

/// Answer to a body sent as it is: status and code.
async fn answer(chain: &Chain, body: String) -> (u16, Value) {
    let url = format!("http://{}/rpc/send_tx", chain.rpc);
    let response = reqwest::Client::new().post(url).body(body).send().await.expect("an answer");
    (response.status().as_u16(), response.json::<Value>().await.expect("json")["code"].clone())
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    answer.expect_err("refused").code().expect("an answer").to_owned()
}

#[tokio::test]
async fn a_receipt_mints_once_and_is_found_again() {
    let chain = Chain::start().await;
    let (client, id) = (chain.client(), text("r 1"));
    assert_eq!(refusal(client.receipt(&provider().public().address(), &id).await), "NOT_FOUND");
    assert_eq!(code(&chain, claim(&chain, 0, receipt("r 1"))).await, "OK");
    let minted = client.receipt(&provider().public().address(), &id).await.expect("minted");
    assert_eq!((minted.minted_amount, minted.height, minted.digest), (70, 1, receipt("r 1").digest()));
    // A fifth of 70 is 14: 7 for each of two.
    let holds = |key: SecretKey| chain.balance(&key.public().address());
    assert_eq!((holds(provider()), holds(key(40)), holds(key(41))), (56, 7, 7));
    let others = signed(&chain, &key(3), 0, Action::ClaimReceipt(attested(&chain, receipt("r 1"))));
    assert_eq!(code(&chain, others).await, "RECEIPT_CLAIMED");
    assert_eq!(holds(provider()), 56);
}

#[tokio::test]
async fn a_receipt_written_in_another_way_is_the_same_receipt() {
    let chain = Chain::start().await;
    let tx = claim(&chain, 0, receipt("r 1"));
    let text = json::to_value(&tx, &chain.chain).to_string();
    let spaced = text.replace(',', " ,\n\t").replace("\"units\"", "\"model\": null, \"\\u0075nits\"");
    assert_ne!(text, spaced);
    assert_eq!(json::from_str(&spaced, &chain.chain), Ok(tx));
    assert_eq!(answer(&chain, spaced).await.0, 200);
    chain.block().await;
    assert_eq!(chain.balance(&provider().public().address()), 56);
}

#[tokio::test]
async fn bad_receipts_are_refused_each_with_its_code_and_without_a_fee() {
    let chain = Chain::start().await;
    let sent = |change: &dyn Fn(&mut AttestedReceipt)| {
        let mut attested = attested(&chain, receipt("r 1"));
        change(&mut attested);
        signed(&chain, &alice(), 0, Action::ClaimReceipt(attested))
    };
    let again = |receipt: Receipt| claim(&chain, 0, receipt);
    let one = Box::new(receipt("r 1").attest(&chain.chain, &provider(), &[&key(40)]));
    let stranger = Box::new(receipt("r 1").attest(&chain.chain, &provider(), &[&key(40), &key(41), &key(42)]));
    let cases = [
        (sent(&|a| a.attestations[1].signature = Signature([7; 64])), "INVALID_SIGNATURE"),
        (sent(&|a| a.signature = Signature([7; 64])), "INVALID_SIGNATURE"),
        (sent(&|a| a.receipt.units = 8), "INVALID_SIGNATURE"),
        (again(Receipt { units: 1 << 63, ..receipt("r 1") }), "UNITS_OUT_OF_RANGE"),
        (again(Receipt { units: 0, ..receipt("r 1") }), "UNITS_OUT_OF_RANGE"),
        (again(Receipt { chain_id: Some(text("mainnet")), ..receipt("r 1") }), "RECEIPT_WRONG_CHAIN"),
        (again(Receipt { receipt_id: text(""), ..receipt("r 1") }), "MALFORMED_RECEIPT"),
        (sent(&|a| a.attestations.clear()), "MALFORMED_ATTESTATIONS"),
        (signed(&chain, &alice(), 0, Action::ClaimReceipt(one)), "TOO_FEW_ATTESTATIONS"),
        (signed(&chain, &alice(), 0, Action::ClaimReceipt(stranger)), "UNKNOWN_COORDINATOR"),
        (signed(&chain, &alice(), 0, Action::RefundEscrow { job_id: text("") }), "NO_JOB"),
    ];
    for (tx, expected) in cases {
        let answer = chain.client().send(&tx).await;
        assert!(matches!(&answer, Err(ClientError::Refused { status: 400 | 422, .. })), "{expected}: {answer:?}");
        assert_eq!(refusal(answer), expected);
    }
    let whole = json::to_value(&again(receipt("r 1")), &chain.chain).to_string();
    let text = |from: &str, to: &str| whole.replacen(from, to, 1);
    assert_eq!(answer(&chain, text("\"units\":7", "\"units\":-7")).await, (422, json!("UNITS_OUT_OF_RANGE")));
    assert_eq!(answer(&chain, text("\"units\":7", "\"units\":7.5")).await, (400, json!("MALFORMED_TRANSACTION")));
    assert_eq!(answer(&chain, text("\"units\":7", "\"units\":7,\"units\":7")).await, (400, json!("MALFORMED_JSON")));
    chain.block().await;
    assert_eq!((chain.head().tx_count, chain.balance(&alice().public().address())), (0, FUNDS));
}

#[tokio::test]
async fn an_expired_receipt_costs_the_fee_and_mints_nothing() {
    let chain = Chain::start().await;
    let old = Receipt { started_at: 1, completed_at: START_MS / 1_000 - 604_800, ..receipt("r 1") };
    let claim = claim(&chain, 0, old);
    let fee = claim.transaction.fee;
    assert_eq!(code(&chain, claim).await, "RECEIPT_EXPIRED");
    assert_eq!(chain.balance(&provider().public().address()), 0);
    assert_eq!(chain.balance(&alice().public().address()), FUNDS - fee);
}

#[tokio::test]
async fn a_client_locks_a_receipt_pays_and_everybody_can_see_it() {
    let chain = Chain::start().await;
    let (client, job): (Address, Name) = (alice().public().address(), text("job 1/2"));
    let lock = Lock { job_id: job.clone(), provider: None, amount: 500, timeout_height: 9 };
    assert_eq!(code(&chain, signed(&chain, &alice(), 0, Action::LockEscrow(lock))).await, "OK");
    let locked = chain.client().escrow(&client, &job).await.expect("locked");
    assert_eq!((locked.status, locked.amount, locked.provider), (EscrowStatus::Locked, 500, None));
    let early = signed(&chain, &alice(), 1, Action::RefundEscrow { job_id: job.clone() });
    assert_eq!(code(&chain, early).await, "ESCROW_NOT_TIMED_OUT");
    let release = signed(&chain, &key(3), 0, Action::ReleaseEscrow(attested(&chain, receipt("r 1"))));
    assert_eq!(code(&chain, release).await, "OK");
    let paid = chain.client().escrow(&client, &job).await.expect("paid");
    let provider = provider().public().address();
    assert_eq!((paid.status, paid.amount, paid.provider), (EscrowStatus::Paid, 0, Some(provider)));
    assert_eq!((chain.balance(&provider), chain.balance(&client)), (120, FUNDS - 120 - 17 - 1));
    assert_eq!(refusal(chain.client().escrow(&client, &text("job 2")).await), "NOT_FOUND");
}
