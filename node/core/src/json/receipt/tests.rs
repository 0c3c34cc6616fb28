//! Receipts as text: what is read as the same, what is refused and how the message names it.

use super::*;
use crate::hash::{Hash, plain};
use crate::json::{from_str, from_value, to_value};
use crate::key::SecretKey;
use crate::transaction::{Action, SignedTransaction, Transaction};

fn chain() -> Hash {
    plain(b"chain")
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).expect("text")
}

fn example() -> AttestedReceipt {
    let receipt = Receipt {
        receipt_id: text("r-1"),
        job_id: text("j-1"),
        provider: key(7).public(),
        client: key(8).public().address(),
        units: 5,
        unit_type: text("gpu_seconds"),
        price: Some(70),
        model: Some(text("m")),
        prompt_hash: None,
        started_at: 1_000,
        completed_at: 2_000,
        duration_ms: None,
        artifact_hash: None,
        coordinator_id: None,
        nonce: None,
        chain_id: Some(text("devnet")),
        metadata: Some(vec![(text("a"), Extra::Number(1)), (text("b"), Extra::Text(text("x")))]),
    };
    receipt.attest(&chain(), &key(7), &[&key(11), &key(12)])
}

fn signed(action: Action) -> SignedTransaction {
    Transaction { sender: key(1).public(), nonce: 3, fee: 2, expiry_height: 100, action }.sign(&chain(), &key(1))
}

fn lock(provider: Option<Address>) -> Action {
    Action::LockEscrow(Lock { job_id: text("j-1"), provider, amount: 9, timeout_height: 500 })
}

/// The example with the field at a path set, or taken out where the value is null.
fn with(path: &[&str], value: Value) -> Value {
    let mut whole = attested_value(&example());
    let (last, parents) = path.split_last().expect("a path");
    let place = parents.iter().fold(&mut whole, |place, name| match name.parse::<usize>() {
        Ok(index) => &mut place[index],
        Err(_) => &mut place[*name],
    });
    place.as_object_mut().expect("object").insert((*last).to_owned(), value);
    whole
}

fn refused(path: &[&str], value: Value, words: &[&str]) {
    let error = attested(&with(path, value)).expect_err("refused").to_string();
    for word in words {
        assert!(error.contains(word), "\"{word}\" in: {error}");
    }
}

#[test]
fn every_action_with_a_receipt_or_escrow_survives_its_json() {
    let receipt = || Box::new(example());
    let refund = Action::RefundEscrow { job_id: text("j-1") };
    let actions = [
        Action::ClaimReceipt(receipt()),
        Action::ReleaseEscrow(receipt()),
        lock(None),
        lock(Some(Address([3; 20]))),
        refund,
    ];
    for action in actions {
        let tx = signed(action);
        let back = from_str(&to_value(&tx, &chain()).to_string(), &chain()).expect("own JSON");
        assert_eq!(back, tx);
        assert!(back.verifies(&chain()));
    }
}

#[test]
fn a_signature_is_read_from_base64url_padded_or_not_and_from_hex() {
    let signature = example().signature;
    let plain = base64url(&signature);
    for form in [plain.clone(), format!("{plain}=="), hex::encode(signature.0)] {
        assert_eq!(attested(&with(&["receipt", "signature", "sig"], json!(form))), Ok(example()), "{form}");
    }
    assert_eq!(base64url(&Signature([0; 64])), "A".repeat(86));
    assert_eq!(base64url(&Signature([255; 64])), format!("{}w", "_".repeat(85)));
    // The last symbol holds four bits that belong to no byte: only zeros are read.
    assert_eq!(from_base64url(&format!("{}B", "A".repeat(85))), None);
    for wrong in ["", "A", &"A".repeat(85), &"A".repeat(87), &"+".repeat(86), &format!("{plain}=")] {
        assert_eq!(from_base64url(wrong), None, "{wrong}");
    }
}

#[test]
fn each_wrong_field_of_a_receipt_is_named_with_its_path() {
    refused(&["receipt", "units"], json!(1.9), &["receipt.units", "1.9", "a whole number"]);
    refused(&["receipt", "price"], json!(4.2), &["receipt.price", "4.2"]);
    refused(&["receipt", "units"], json!("5"), &["receipt.units"]);
    refused(&["receipt", "version"], json!("2.0"), &["receipt.version", "2.0", "1.0 expected"]);
    refused(&["receipt", "receipt_id"], Value::Null, &["receipt.receipt_id", "missing"]);
    refused(&["receipt", "model"], json!("é"), &["receipt.model", "printable ASCII"]);
    refused(&["receipt", "job_id"], json!("x".repeat(65)), &["receipt.job_id", "64 characters"]);
    refused(&["receipt", "memo"], json!(1), &["receipt.memo", "unknown field"]);
    refused(&["receipt", "metadata"], json!({ "a": { "b": 1 } }), &["receipt.metadata.a"]);
    refused(&["receipt", "metadata"], json!({ "a": 1.5 }), &["receipt.metadata.a", "1.5"]);
    refused(&["receipt", "metadata"], json!({ "a": null }), &["receipt.metadata.a"]);
    for name in ["", "a b", "$serde_json::private::RawValue", "\"", &"n".repeat(65)] {
        refused(&["receipt", "metadata"], json!({ name: 1 }), &["receipt.metadata", "as a name"]);
    }
    let many: Map<String, Value> = (0..17).map(|n| (format!("k{n}"), json!(n))).collect();
    refused(&["receipt", "metadata"], json!(many), &["receipt.metadata", "17 entries"]);
    refused(&["receipt", "signature"], Value::Null, &["receipt.signature", "missing"]);
    refused(&["receipt", "signature", "alg"], json!("secp256k1"), &["signature.alg", "Ed25519 expected"]);
    refused(&["receipt", "signature", "key_id"], json!("miner-ed25519-2025-09"), &["signature.key_id", "64 hex"]);
    refused(&["receipt", "signature", "sig"], json!("x"), &["signature.sig", "base64url"]);
    refused(&["attestations"], json!([]), &["attestations", "0 entries", "1 to 16"]);
    refused(&["attestations"], json!(vec![1; 17]), &["17 entries"]);
    refused(&["attestations", "0", "key_id"], json!("me"), &["attestations[0].key_id", "coordinator"]);
    refused(&["attestations", "1", "weight"], json!(1), &["attestations[1].weight", "unknown"]);
}

#[test]
fn addresses_in_a_receipt_have_the_one_form_that_is_signed() {
    let hex = format!("0x{}", hex::encode(example().receipt.client.0));
    refused(&["receipt", "client"], json!(hex), &["receipt.client", "signed as it is written"]);
    let upper = example().receipt.client.to_string().to_uppercase();
    refused(&["receipt", "client"], json!(upper), &["receipt.client", "signed as it is written"]);
    let other = key(9).public().address();
    refused(&["receipt", "provider"], json!(other), &["receipt.provider", &other.to_string(), "key_id is the key of"]);
}

#[test]
fn a_field_that_is_there_twice_is_refused_wherever_it_is() {
    let whole = to_value(&signed(Action::ClaimReceipt(Box::new(example()))), &chain()).to_string();
    assert!(from_str(&whole, &chain()).is_ok());
    for (once, twice) in [
        ("\"units\":5", "\"units\":5,\"units\":5"),
        ("\"a\":1", "\"a\":1,\"a\":2"),
        ("\"fee\":2", "\"fee\":2,\"f\\u0065e\":2"),
    ] {
        assert!(whole.contains(once), "{once} in {whole}");
        let error = from_str(&whole.replace(once, twice), &chain()).expect_err("twice");
        assert_eq!(error.code(), "MALFORMED_TRANSACTION");
        assert!(error.to_string().contains("there twice"), "{error}");
    }
}

#[test]
fn fields_beside_the_payload_and_of_other_types_are_refused() {
    let mut beside = to_value(&signed(lock(None)), &chain());
    beside["amount"] = json!(9);
    let error = from_value(&beside, &chain()).expect_err("beside").to_string();
    assert!(error.contains("amount") && error.contains("payload only"), "{error}");
    let mut strange = to_value(&signed(lock(None)), &chain());
    strange["payload"]["recipient"] = json!(Address([1; 20]));
    let error = from_value(&strange, &chain()).expect_err("strange").to_string();
    assert!(error.contains("payload.recipient") && error.contains("unknown"), "{error}");
    let mut transfer = to_value(&signed(lock(None)), &chain());
    transfer["type"] = json!("TRANSFER");
    assert!(from_value(&transfer, &chain()).is_err(), "a lock is no transfer");
}
