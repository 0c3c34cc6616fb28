//! Golden vectors of transactions, batches, results and states: `vectors/transactions.json` holds inputs and outputs, for
//! clients in any language as well. A difference means that signatures or roots of running chains would break.
//!
//! `UPDATE_VECTORS=1 cargo test -p aitbc-core --test vectors` writes the file; look at the difference before you commit it.

use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::genesis::{Genesis, faucet_address};
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::ledger::{Context, Executed, Rules, execute};
use aitbc_core::receipt::{AttestedReceipt, Extra, Receipt, Text};
use aitbc_core::state::{AccountProof, State};
use aitbc_core::transaction::{Action, Lock, Payment, SignedTransaction, Transaction};
use aitbc_core::{codec, hash, json as transaction_json, merkle};
use serde_json::{Value, json};
use std::sync::Arc;

/// Time of the blocks, one second after the work of the receipt.
const TIME_MS: u64 = 1_695_720_003_000;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/transactions.json");

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn address(seed: u8) -> Address {
    key(seed).public().address()
}

fn hex0x(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn genesis() -> Genesis {
    let text = json!({
        "chain_id": "vectors",
        "mode": "poa",
        "validators": [{ "public_key": key(101).public() }, { "public_key": key(102).public(), "weight": 1 }],
        "accounts": [{ "address": address(1), "balance": 1_000 }, { "address": address(2), "balance": 500 }],
        "faucet": { "balance": 300, "max_amount": 200 },
        "receipts": {
            "mint_per_unit": 10,
            "coordinator_parts_per_million": 50_000,
            "coordinators": [{ "public_key": key(111).public() }, { "public_key": key(112).public() }],
            "coordinator_threshold": 2,
        },
    });
    Genesis::from_json(&text.to_string()).expect("valid genesis")
}

fn transaction(seed: u8, nonce: u64, fee: u64, action: Action) -> SignedTransaction {
    let transaction = Transaction { sender: key(seed).public(), nonce, fee, expiry_height: 100, action };
    transaction.sign(&genesis().hash(), &key(seed))
}

fn pay(to: u8, amount: u64) -> Payment {
    Payment { to: address(to), amount }
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).expect("a text")
}

/// By provider 6 for client 2, attested by both coordinators.
fn receipt() -> Box<AttestedReceipt> {
    let receipt = Receipt {
        receipt_id: text("rcpt-1"),
        job_id: text("job-1"),
        provider: key(6).public(),
        client: address(2),
        units: 41,
        unit_type: text("gpu_seconds"),
        price: Some(30),
        model: Some(text("runwayml/stable-diffusion-v1-5")),
        prompt_hash: None,
        started_at: 1_695_720_000,
        completed_at: 1_695_720_002,
        duration_ms: Some(1_900),
        artifact_hash: None,
        coordinator_id: None,
        nonce: None,
        chain_id: Some(text("vectors")),
        metadata: Some(vec![(text("gpu"), Extra::Text(text("A100"))), (text("try"), Extra::Number(1))]),
    };
    Box::new(receipt.attest(&genesis().hash(), &key(6), &[&key(111), &key(112)]))
}

/// The blocks of the small chain: seed of the sender beside each transaction.
fn blocks() -> [Vec<(u8, SignedTransaction)>; 3] {
    let many = |payments| Action::TransferMany { payments };
    let first = vec![
        (1, transaction(1, 0, 1, Action::Transfer(pay(2, 100)))),
        (2, transaction(2, 0, 3, many(vec![pay(1, 7), pay(3, 50)]))),
        (3, transaction(3, 0, 0, Action::Faucet(pay(3, 200)))),
        (1, transaction(1, 1, 2, Action::Transfer(pay(4, 5_000)))),
    ];
    let second = vec![
        (1, transaction(1, 2, 1, Action::Transfer(pay(1, 10)))),
        (1, transaction(1, 2, 1, Action::Transfer(pay(1, 11)))),
        (1, transaction(1, 9, 1, Action::Transfer(pay(1, 12)))),
        (2, transaction(2, 1, 0, Action::Transfer(pay(1, 1)))),
        (5, transaction(5, 0, 1, Action::Transfer(pay(1, 1)))),
        (3, transaction(3, 1, 0, Action::Faucet(pay(3, 201)))),
        (3, transaction(3, 1, 0, Action::Faucet(pay(3, 101)))),
        (3, transaction(3, 1, 240, Action::Transfer(pay(2, 10)))),
    ];
    let lock = |job: &str, provider| Lock { job_id: text(job), provider, amount: 40, timeout_height: 9 };
    let third = vec![
        (1, transaction(1, 3, 21, Action::ClaimReceipt(receipt()))),
        (1, transaction(1, 4, 21, Action::ClaimReceipt(receipt()))),
        (2, transaction(2, 1, 17, Action::LockEscrow(lock("job-1", Some(address(6)))))),
        (1, transaction(1, 5, 5, Action::ReleaseEscrow(receipt()))),
        (2, transaction(2, 2, 17, Action::LockEscrow(lock("job-2", None)))),
        (2, transaction(2, 3, 1, Action::RefundEscrow { job_id: text("job-2") })),
    ];
    [first, second, third]
}

fn key_vector(seed: u8) -> Value {
    let public = key(seed).public();
    json!({
        "seed": hex::encode([seed; 32]),
        "public_key": public,
        "address": public.address(),
        "address_hex": hex0x(&public.address().0),
    })
}

fn transaction_vector(seed: u8, signed: &SignedTransaction) -> Value {
    let chain = genesis().hash();
    json!({
        "seed": hex::encode([seed; 32]),
        "json": transaction_json::to_value(signed, &chain),
        "sign_bytes": hex0x(&signed.transaction.sign_bytes(&chain)),
        "id": signed.id(&chain),
        "signature": signed.signature,
        "bytes": hex0x(&codec::encode(signed)),
    })
}

fn batch(height: usize, txs: &[(u8, SignedTransaction)]) -> Batch {
    let txs = txs.iter().map(|(_, tx)| tx.clone()).collect();
    Batch::seal(&genesis().hash(), &key(101), (0, 1), (7 << 32) | height as u64, 50, txs)
}

fn batch_vector(batch: &Batch) -> Value {
    let leaves: Vec<_> = batch.txs.iter().map(|tx| merkle::leaf(&codec::encode(tx))).collect();
    json!({
        "epoch": batch.epoch,
        "author": batch.author,
        "author_seed": hex::encode([101; 32]),
        "seq": batch.seq,
        "expiry_height": batch.expiry_height,
        "merkle_leaves": leaves,
        "merkle_root": merkle::root(&leaves),
        "digest": batch.digest(),
        "signature": batch.signature,
        "encoded_len": batch.encoded_len(),
    })
}

fn accounts(state: &State) -> Value {
    let mut all: Vec<_> = state.iter().collect();
    all.sort_by_key(|(address, _)| *address);
    let one = |(address, account): &(Address, aitbc_core::state::Account)| {
        let mut state_key = hash::hash(hash::Domain::StateKey, &[&address.0]);
        state_key.0[0] &= 0x7f;
        json!({
            "address": hex0x(&address.0),
            "balance": account.balance,
            "nonce": account.nonce,
            "state_key": state_key,
        })
    };
    Value::Array(all.iter().map(one).collect())
}

fn records(state: &State) -> Value {
    let one = |(key, record)| {
        json!({
            "record_key": key,
            "record": record,
            "key_bytes": hex0x(&codec::encode(key)),
            "record_bytes": hex0x(&codec::encode(record)),
        })
    };
    Value::Array(state.records().map(one).collect())
}

fn block_vector(height: usize, txs: &[(u8, SignedTransaction)], batch: &Batch, executed: &Executed) -> Value {
    let results: Vec<Value> = executed
        .results
        .iter()
        .map(|r| {
            let bytes = hex0x(&codec::encode(r));
            json!({ "id": r.id, "code": r.code.number(), "name": r.code.name(), "fee": r.fee, "bytes": bytes })
        })
        .collect();
    let transactions: Vec<Value> = txs.iter().map(|(seed, tx)| transaction_vector(*seed, tx)).collect();
    json!({
        "height": height,
        "time_ms": TIME_MS,
        "proposer": address(102),
        "transactions": transactions,
        "batch": batch_vector(batch),
        "results": results,
        "results_root": executed.results_root,
        "fees": executed.fees,
        "accounts_after": accounts(&executed.state),
        "records_after": records(&executed.state),
        "state_root": executed.state_root,
    })
}

/// Everything that the file holds, computed.
fn vectors() -> Value {
    let (genesis, mut state) = (genesis(), State::from_genesis(&genesis()));
    let rules = Rules::of(&genesis);
    let at_genesis = json!({
        "json": genesis,
        "bytes": hex0x(&codec::encode(&genesis)),
        "hash": genesis.hash(),
        "faucet_address": faucet_address(),
        "accounts": accounts(&state),
        "state_root": state.root(),
    });
    let mut chain = Vec::new();
    for (i, txs) in blocks().iter().enumerate() {
        let (height, batch) = (i + 1, batch(i + 1, txs));
        let verified = VerifiedBatch::trusted(Arc::new(batch.clone()), batch.digest(), &rules.chain);
        let context = Context { time_ms: TIME_MS, ..Context::plain(height as u64, address(102)) };
        let executed = execute(&state, &rules, &context, [&verified]);
        chain.push(block_vector(height, txs, &batch, &executed));
        state = executed.state;
    }
    json!({
        "keys": ([1, 2, 3, 4, 5, 101, 102].map(key_vector)),
        "genesis": at_genesis,
        "blocks": chain,
        "proofs": { "root": state.root(), "present": state.prove(&address(2)), "absent": state.prove(&address(5)) },
    })
}

fn stored() -> Value {
    serde_json::from_str(&std::fs::read_to_string(FILE).expect("the file of vectors")).expect("JSON")
}

/// Paths at which two values differ.
fn differences(path: &str, found: &Value, expected: &Value, out: &mut Vec<String>) {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().for_each(|(name, value)| differences(&format!("{path}.{name}"), value, &b[name], out));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| differences(&format!("{path}[{i}]"), a, b, out));
        }
        (a, b) if a != b => out.push(format!("{path}: {a} computed, {b} in the file")),
        _ => {}
    }
}

#[test]
fn every_byte_hash_and_signature_is_the_one_in_the_file() {
    let computed = vectors();
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&computed).expect("JSON") + "\n";
        std::fs::write(FILE, text).expect("written");
    }
    let mut out = Vec::new();
    differences("", &computed, &stored(), &mut out);
    assert!(out.is_empty(), "{}", out.join("\n"));
}

#[test]
fn every_transaction_in_the_file_reads_back_and_verifies() {
    let (chain, file) = (genesis().hash(), stored());
    let mut count = 0;
    for vector in file["blocks"].as_array().into_iter().flatten().filter_map(|b| b["transactions"].as_array()).flatten()
    {
        let signed = transaction_json::from_value(&vector["json"], &chain).expect("reads");
        assert!(signed.verifies(&chain));
        let raw = transaction_json::from_value(&json!({ "transaction": vector["bytes"] }), &chain).expect("reads");
        assert_eq!(raw, signed);
        assert_eq!(json!(signed.id(&chain)), vector["id"]);
        count += 1;
    }
    assert_eq!(count, blocks().iter().map(Vec::len).sum::<usize>());
}

#[test]
fn the_proofs_in_the_file_verify_against_its_last_state_root() {
    let file = stored();
    let root = serde_json::from_value(file["blocks"][2]["state_root"].clone()).expect("root");
    let proof = |name: &str| serde_json::from_value::<AccountProof>(file["proofs"][name].clone()).expect("proof");
    assert!(proof("present").verify(&root).expect("verifies").is_some());
    assert_eq!(proof("absent").verify(&root), Ok(None));
}
