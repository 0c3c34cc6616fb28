//! What is refused before it costs the node anything.

use super::*;
use crate::view::BlockSummary;
use aitbc_core::epoch::Sets;
use aitbc_core::hash::plain;
use aitbc_core::key::Signature;
use aitbc_core::ledger::ReceiptRules;
use aitbc_core::receipt::{Attestation, AttestedReceipt, Receipt, Text};
use aitbc_core::state::State;
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, Payment, Transaction};
use aitbc_core::validators::{Validator, ValidatorSet};

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
    let receipts = ReceiptRules { chain_id: "devnet".into(), terms };
    Rules { chain: plain(b"chain"), min_fee: 1, receipts: Some(receipts), ..Rules::default() }
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

/// Of a node with this key, on a chain of one validator.
fn handle(own: &SecretKey, metrics: &Arc<Metrics>) -> Handle {
    let verifier = Arc::new(Verifier::new(Some(1), metrics.clone()).expect("threads"));
    let member = Validator { key: key(1).public(), weight: 1 };
    let head = BlockSummary {
        height: 0,
        slot: 0,
        hash: Hash::ZERO,
        parent_hash: Hash::ZERO,
        time_ms: 0,
        proposer: None,
        tx_count: 0,
        state_root: Hash::ZERO,
        results_root: Hash::ZERO,
    };
    let sets = Sets::genesis(Arc::new(ValidatorSet::new(vec![member]).expect("valid")));
    let snapshot = watch::channel(Arc::new(Snapshot { head, state: State::default(), parent_state: None, sets })).1;
    let (commands, rules, metrics) = (mpsc::channel(1).0, Arc::new(rules()), metrics.clone());
    Handle { commands, verifier, rules, metrics, own: own.public(), snapshot }
}

#[tokio::test]
async fn a_node_that_validates_neither_now_nor_next_takes_no_transaction() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let answers = handle(&key(2), &metrics).submit_all(vec![claim(11), claim(12)]).await;
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|answer| matches!(answer, Err(SubmitError::NotValidator))), "{answers:?}");
}

#[tokio::test]
async fn what_every_block_would_refuse_is_refused_before_its_signatures_are_verified() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let handle = handle(&key(1), &metrics);
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
