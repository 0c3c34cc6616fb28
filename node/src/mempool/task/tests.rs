//! What is refused before it costs the node anything.

use super::*;
use aitbc_core::hash::plain;
use aitbc_core::key::Signature;
use aitbc_core::ledger::ReceiptRules;
use aitbc_core::receipt::{Attestation, AttestedReceipt, Receipt, Text};
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, Payment, Transaction};

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn rules() -> Rules {
    let terms = Terms {
        mint_per_unit: 1,
        coordinator_parts_per_million: 0,
        coordinators: vec![Coordinator { public_key: key(11).public() }],
        coordinator_threshold: 1,
        epoch_cap: 9,
        provider_epoch_cap: 9,
        expiry_seconds: 9,
    };
    let receipts = ReceiptRules { chain_id: "devnet".into(), genesis_supply: 0, terms };
    Rules { chain: plain(b"chain"), min_fee: 1, faucet: None, receipts: Some(receipts) }
}

/// No signature in it is valid.
fn claim(coordinator: u8) -> SignedTransaction {
    let receipt = Receipt::required(
        (Text::new("r").expect("text"), Text::new("j").expect("text")),
        key(7).public(),
        Address([9; 20]),
        (1, Text::new("gpu_seconds").expect("text")),
        (1, 2),
    );
    let signature = Signature([7; 64]);
    let attestations = vec![Attestation { coordinator: key(coordinator).public(), signature }];
    forged(Action::ClaimReceipt(Box::new(AttestedReceipt { receipt, signature, attestations })))
}

fn forged(action: Action) -> SignedTransaction {
    let transaction = Transaction { sender: key(1).public(), nonce: 0, fee: 1, expiry_height: 9, action };
    SignedTransaction { transaction, signature: Signature([7; 64]) }
}

#[tokio::test]
async fn what_every_block_would_refuse_is_refused_before_its_signatures_are_verified() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let verifier = Arc::new(Verifier::new(Some(1), metrics.clone()).expect("threads"));
    let handle = Handle { commands: mpsc::channel(1).0, verifier, rules: Arc::new(rules()), metrics: metrics.clone() };
    let payment = Action::Transfer(Payment { to: Address([9; 20]), amount: 1 });
    let answers = handle.submit_all(vec![claim(12), claim(11), forged(payment)]).await;
    let [stranger, coordinator, payment] = &answers[..] else { panic!("an answer each: {answers:?}") };
    let code = |answer: &Result<Hash, SubmitError>| match answer {
        Err(SubmitError::Rejected(rejected)) => Some(rejected.code()),
        _ => None,
    };
    assert_eq!(code(stranger), Some("UNKNOWN_COORDINATOR"), "{stranger:?}");
    assert!(matches!(coordinator, Err(SubmitError::InvalidSignature)), "{coordinator:?}");
    assert!(matches!(payment, Err(SubmitError::InvalidSignature)), "{payment:?}");
    assert_eq!(metrics.mempool_rejected.with_label_values(&["UNKNOWN_COORDINATOR"]).get(), 1);
}
