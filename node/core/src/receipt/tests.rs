//! The canonical form and the signatures against those of another implementation; the checks, each firing and refusing.

use super::*;
use crate::json::receipt as receipt_json;
use crate::transaction::{Action, Transaction};
use serde_json::json;

const FILE: &str = include_str!("../../tests/vectors/receipts.json");

/// What serde_json calls a raw value to itself.
const PRIVATE: &str = "$serde_json::private::RawValue";

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn chain() -> Hash {
    file()["chain"].as_str().expect("chain").parse().expect("hash")
}

fn file() -> Value {
    serde_json::from_str(FILE).expect("JSON")
}

/// The receipts of the file, each with its vector.
fn vectors() -> Vec<(AttestedReceipt, Value)> {
    let read = |vector: &Value| {
        let value = json!({ "receipt": vector["receipt"], "attestations": vector["attestations"] });
        (receipt_json::attested(&value).expect("reads"), vector.clone())
    };
    file()["receipts"].as_array().expect("list").iter().map(read).collect()
}

fn attested() -> AttestedReceipt {
    vectors().swap_remove(1).0
}

fn receipt() -> Receipt {
    attested().receipt
}

#[test]
fn canonical_form_digest_and_signatures_are_those_of_the_other_implementation() {
    assert_eq!(vectors().len(), 3);
    for (attested, vector) in vectors() {
        let receipt = &attested.receipt;
        assert_eq!(String::from_utf8(receipt.canonical()).as_deref(), Ok(vector["canonical"].as_str().expect("text")));
        assert_eq!(json!(receipt.digest()), vector["digest"]);
        assert_eq!(json!(format!("0x{}", hex::encode(receipt.attest_bytes(&chain())))), vector["attest_bytes"]);
        let ours = receipt.clone().attest(&chain(), &key(7), &[&key(11), &key(12)]);
        assert_eq!(ours, attested, "signatures are deterministic");
        assert_eq!(receipt_json::receipt_value(&attested), vector["receipt"]);
        assert_eq!(attested.check(), Ok(()));
        let valid = |e: &Endorsement| e.key.verifies(&e.bytes, &e.signature);
        let endorsements = attested.endorsements(&chain());
        assert_eq!((endorsements.len(), endorsements.iter().all(valid)), (3, true));
        let elsewhere = attested.endorsements(&crate::hash::plain(b"another chain"));
        assert_eq!(elsewhere.iter().filter(|e| valid(e)).count(), 1, "only the provider's knows no chain");
    }
}

#[test]
fn what_is_shown_is_what_is_signed_and_metadata_without_entries_is_an_empty_object() {
    let empty = Receipt { metadata: Some(Vec::new()), ..receipt() };
    for receipt in [receipt(), empty.clone()] {
        let signed: Value = serde_json::from_slice(&receipt.canonical()).expect("JSON");
        assert_eq!(signed, Value::Object(receipt.to_json()));
    }
    let text = String::from_utf8(empty.canonical()).expect("ASCII");
    assert!(text.contains(r#","metadata":{},"model":"#), "{text}");
}

#[test]
fn a_receipt_has_the_same_bytes_however_its_json_was_written() {
    let (first, vector) = vectors().swap_remove(1);
    let mut fields: Vec<(String, Value)> = vector["receipt"].as_object().expect("object").clone().into_iter().collect();
    for turn in 0..fields.len() {
        fields.rotate_left(1);
        let written: Vec<String> = fields.iter().map(|(name, value)| format!("\n \"{name}\" :\t{value} ")).collect();
        let text = format!("{{{}}}", written.join(",")).replace("job-abc123", "job\\u002dabc123");
        let receipt = crate::json::read(&text).expect("JSON");
        let value = json!({ "receipt": receipt, "attestations": vector["attestations"] });
        assert_eq!(receipt_json::attested(&value).as_ref(), Ok(&first), "turn {turn}: {text}");
    }
    let (least, vector) = vectors().swap_remove(0);
    let mut with_nulls = vector["receipt"].clone();
    for absent in ["price", "model", "prompt_hash", "duration_ms", "artifact_hash", "nonce", "chain_id", "metadata"] {
        with_nulls[absent] = Value::Null;
    }
    let value = json!({ "receipt": with_nulls, "attestations": vector["attestations"] });
    assert_eq!(receipt_json::attested(&value), Ok(least));
}

#[test]
fn the_nullifier_is_of_provider_and_receipt_id_whatever_else_differs() {
    let one = receipt();
    let changed =
        Receipt { units: 1, job_id: Text::new("other").expect("text"), client: Address([1; 20]), ..receipt() };
    assert_eq!(one.nullifier(), changed.nullifier());
    assert_ne!(one.digest(), changed.digest());
    assert_ne!(one.nullifier(), Receipt { provider: key(9).public(), ..receipt() }.nullifier());
    assert_ne!(one.nullifier(), Receipt { receipt_id: Text::new("rcpt-3").expect("text"), ..receipt() }.nullifier());
    let of = |address: &Address, name: &[u8]| [&address.0[..], name].concat();
    assert_eq!(one.job().0, blake3::derive_key("aitbc/job/v1", &of(&one.client, b"job-abc123")));
    let nullifier = blake3::derive_key("aitbc/receipt/v1", &of(&one.provider.address(), b"rcpt-2"));
    assert_eq!(one.nullifier().0, nullifier);
}

#[test]
fn texts_that_json_could_write_in_two_ways_are_none() {
    for wrong in ["\"", "\\", "\n", "\u{7f}", "é", "\0"] {
        assert_eq!(Text::<64>::new(wrong), None, "{wrong:?}");
        let bytes = codec::encode(&wrong.to_owned());
        assert!(codec::decode::<Text<64>>(&bytes).is_err(), "{wrong:?}");
    }
    assert!(Text::<4>::new("<'/>").is_some());
    assert_eq!(Text::<4>::new("12345"), None);
    assert!(codec::decode::<Text<4>>(&codec::encode(&"12345".to_owned())).is_err());
    assert!(codec::decode::<Text<4>>(&codec::encode(&"1234".to_owned())).is_ok());
}

#[test]
fn units_are_at_least_one_and_at_most_what_json_holds() {
    for (units, expected) in [(1, Ok(())), (MAX_SUPPLY, Ok(()))] {
        assert_eq!(Receipt { units, ..receipt() }.check(), expected);
    }
    for found in [0, MAX_SUPPLY + 1, 1 << 63, u64::MAX] {
        let error = Receipt { units: found, ..receipt() }.check().expect_err("out of range");
        assert_eq!((error.code(), &error), ("UNITS_OUT_OF_RANGE", &ReceiptError::UnitsOutOfRange { found }));
    }
}

#[test]
fn numbers_names_times_and_metadata_out_of_order_are_refused() {
    let over = MAX_SUPPLY + 1;
    let name = |text: &str| Text::new(text).expect("text");
    let wrong = [
        Receipt { price: Some(over), ..receipt() },
        Receipt { duration_ms: Some(over), ..receipt() },
        Receipt { completed_at: over, ..receipt() },
        Receipt { metadata: Some(vec![(name("a"), Extra::Number(over))]), ..receipt() },
        Receipt { metadata: Some(vec![(name(""), Extra::Number(1))]), ..receipt() },
        Receipt { metadata: Some(vec![(name(PRIVATE), Extra::Number(1))]), ..receipt() },
        Receipt { receipt_id: name(""), ..receipt() },
        Receipt { job_id: name(""), ..receipt() },
        Receipt { unit_type: Text::new("").expect("text"), ..receipt() },
        Receipt { started_at: 10, completed_at: 9, ..receipt() },
        Receipt { metadata: Some(vec![(name("b"), Extra::Number(1)), (name("a"), Extra::Number(1))]), ..receipt() },
        Receipt { metadata: Some(vec![(name("a"), Extra::Number(1)), (name("a"), Extra::Number(2))]), ..receipt() },
    ];
    for receipt in wrong {
        assert_eq!(receipt.check().expect_err("refused").code(), "MALFORMED_RECEIPT", "{receipt:?}");
    }
}

#[test]
fn names_of_metadata_are_of_letters_digits_and_three_marks() {
    let with = |name: &str| {
        Receipt { metadata: Some(vec![(Text::new(name).expect("text"), Extra::Number(1))]), ..receipt() }.check()
    };
    for good in ["a", "Z-9_.", &"n".repeat(64)] {
        assert_eq!(with(good), Ok(()), "{good}");
    }
    for wrong in ["", " ", "a b", "$", "a:b", "a/b", "a'"] {
        let name = Text::new(wrong).expect("text");
        assert_eq!(with(wrong), Err(ReceiptError::MetadataName { name }));
    }
}

/// Nobody signs such a receipt but to hide it: a parser with raw values takes the object for something else.
#[test]
fn a_receipt_is_shown_whole_whatever_its_names_are() {
    for extra in [Extra::Text(Text::new("1").expect("text")), Extra::Number(1)] {
        let value = if matches!(extra, Extra::Number(_)) { json!(1) } else { json!("1") };
        let hiding = Receipt { metadata: Some(vec![(Text::new(PRIVATE).expect("text"), extra)]), ..receipt() };
        let shown = hiding.to_json();
        assert_eq!(shown["units"], json!(hiding.units));
        assert_eq!(shown["metadata"].as_object().expect("object")[PRIVATE], value);
        assert_eq!(shown.len(), receipt().to_json().len());
    }
}

#[test]
fn attestations_are_some_in_order_and_of_distinct_keys() {
    let with = |change: fn(&mut Vec<Attestation>)| {
        let mut attested = attested();
        change(&mut attested.attestations);
        attested.check().map_err(|error| error.code())
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|list| list.truncate(1)), Ok(()));
    assert_eq!(with(Vec::clear), Err("MALFORMED_ATTESTATIONS"));
    assert_eq!(with(|list| list.reverse()), Err("MALFORMED_ATTESTATIONS"));
    assert_eq!(with(|list| list[1] = list[0].clone()), Err("MALFORMED_ATTESTATIONS"));
    let mut many = attested();
    many.attestations =
        (1..=17).map(|n| Attestation { coordinator: key(n).public(), signature: many.signature }).collect();
    many.attestations.sort_by_key(|attestation| attestation.coordinator);
    assert_eq!(many.check().map_err(|error| error.code()), Err("MALFORMED_ATTESTATIONS"));
    assert!(codec::decode::<AttestedReceipt>(&codec::encode(&many)).is_err(), "over the cap");
}

#[test]
fn a_list_of_metadata_over_its_cap_does_not_decode() {
    let entry = |n: usize| (Text::new(&format!("{n:03}")).expect("text"), Extra::Text(Text::new("x").expect("text")));
    let with = |count| Receipt { metadata: Some((0..count).map(entry).collect()), ..receipt() };
    assert!(codec::decode::<Receipt>(&codec::encode(&with(MAX_METADATA))).is_ok());
    assert!(codec::decode::<Receipt>(&codec::encode(&with(MAX_METADATA + 1))).is_err());
}

#[test]
fn a_transaction_is_invalid_by_any_of_its_signatures_or_any_changed_field() {
    let (chain, sender) = (chain(), key(1));
    let signed = |attested: AttestedReceipt| {
        let action = Action::ClaimReceipt(Box::new(attested));
        Transaction { sender: sender.public(), nonce: 0, fee: 1, expiry_height: 9, action }.sign(&chain, &sender)
    };
    let good = signed(attested());
    assert!(good.verifies(&chain));
    assert_eq!((good.signatures(), good.endorsements(&chain).len()), (4, 3));
    let forge = |change: &dyn Fn(&mut AttestedReceipt)| {
        let mut attested = attested();
        change(&mut attested);
        signed(attested).verifies(&chain)
    };
    assert!(!forge(&|a| a.signature = key(8).sign(&a.receipt.canonical())));
    assert!(!forge(&|a| a.attestations[0].signature = key(13).sign(&a.receipt.attest_bytes(&chain))));
    assert!(!forge(&|a| a.attestations[1].coordinator = key(13).public()));
    assert!(!forge(&|a| a.receipt.units += 1));
    assert!(!forge(&|a| a.receipt.chain_id = None));
    assert!(!forge(&|a| a.receipt.metadata = None));
}
