//! Everything that is sent or stored as bytes.

use crate::{mutate, samples, seed};
use aitbc_core::batch::Batch;
use aitbc_core::block::{Block, Candidate, Header, Proposal};
use aitbc_core::codec::{decode, encode};
use aitbc_core::evidence::Evidence;
use aitbc_core::hash::{Hash, plain};
use aitbc_core::ledger::TxResult;
use aitbc_core::light::TransactionProof;
use aitbc_core::message::Message;
use aitbc_core::receipt::AttestedReceipt;
use aitbc_core::state::{AccountProof, RecordProof};
use aitbc_core::transaction::SignedTransaction;
use aitbc_core::validators::{Validator, ValidatorSet};
use aitbc_core::vote::{Cert, Vote};
use aitbc_core::{json, key::PublicKey};
use borsh::{BorshDeserialize, BorshSerialize};
use rand::RngExt;

/// Mutations of each sample.
const MUTATIONS: usize = 40;

/// Decodes; what decodes must have exactly these bytes, and no more than these.
fn read<T: BorshDeserialize + BorshSerialize>(bytes: &[u8]) -> Option<T> {
    let value: T = decode(bytes).ok()?;
    assert_eq!(hex::encode(encode(&value)), hex::encode(bytes), "two encodings of one value");
    for trailing in [0, 1, 0xff] {
        assert!(decode::<T>(&[bytes, &[trailing]].concat()).is_err(), "a trailing byte {trailing} was taken");
    }
    Some(value)
}

fn set() -> ValidatorSet {
    let members = (1..=7).map(|n| Validator { key: PublicKey([n; 32]), weight: n.into() }).collect();
    ValidatorSet::new(members).expect("valid set")
}

/// What a node does first with a value it does not trust; none of it may panic.
fn use_it(message: &Message) {
    let chain = plain(b"chain");
    match message {
        Message::Cert(cert) => drop(cert.verify(&chain, &set())),
        Message::Certs { certs } => certs.iter().for_each(|cert| drop(cert.check_shape(&set()))),
        Message::Batch(batch) => drop((batch.check_shape(), batch.digest())),
        Message::Vote(vote) => drop((vote.statement.well_formed(), vote.verifies(&chain, &PublicKey([1; 32])))),
        Message::Cand(candidate) => drop((candidate.header.digest(), candidate.header.tx_count())),
        _ => {}
    }
}

/// Reads the bytes as every format; answers as how many they could be read.
pub fn read_as_everything(bytes: &[u8]) -> usize {
    let message = read::<Message>(bytes).inspect(use_it);
    let transaction = read::<SignedTransaction>(bytes).inspect(|tx| {
        let _ = (tx.check(), tx.id(&Hash::ZERO), tx.verifies(&Hash::ZERO), json::to_value(tx, &Hash::ZERO));
    });
    let proof = read::<AccountProof>(bytes).inspect(|proof| {
        let _ = proof.verify(&Hash::ZERO);
    });
    let record = read::<RecordProof>(bytes).inspect(|proof| {
        let _ = proof.verify(&Hash::ZERO);
    });
    let place = read::<TransactionProof>(bytes).inspect(|proof| {
        let block = samples::plain_header();
        let _ = proof.verify(&Hash::ZERO, &proof.inclusion.transaction.id(&Hash::ZERO), &block, Some(&block));
    });
    let certificate = read::<Cert>(bytes).inspect(|cert| drop(cert.verify(&Hash::ZERO, &set())));
    let receipt = read::<AttestedReceipt>(bytes).inspect(|attested| {
        let _ = (attested.check(), attested.endorsements(&Hash::ZERO), attested.receipt.nullifier());
    });
    let others = [
        receipt.is_some(),
        read::<Batch>(bytes).is_some(),
        read::<Header>(bytes).is_some(),
        read::<Candidate>(bytes).is_some(),
        read::<Proposal>(bytes).is_some(),
        read::<Vote>(bytes).is_some(),
        read::<Block>(bytes).is_some(),
        read::<Evidence>(bytes).is_some(),
        read::<TxResult>(bytes).is_some(),
    ];
    let read = [message.is_some(), transaction.is_some(), proof.is_some(), record.is_some(), place.is_some()];
    read.iter().chain(&others).chain(&[certificate.is_some()]).filter(|read| **read).count()
}

#[test]
fn every_valid_value_reads_back_and_no_mutation_of_it_panics_or_has_two_encodings() {
    let (mut tried, mut decoded) = (0u64, 0u64);
    let count = seed::cases("decoders", |rng| {
        let samples = samples::all(rng);
        for (name, bytes) in &samples {
            assert!(read_as_everything(bytes) > 0, "{name} does not read back: {}", hex::encode(bytes));
            for _ in 0..MUTATIONS {
                let other = &samples[rng.random_range(0..samples.len())].1;
                let mutated = mutate::mutate(rng, bytes, other);
                tried += 1;
                decoded += u64::from(read_as_everything(&mutated) > 0);
            }
        }
    });
    println!("{tried} mutated inputs, {decoded} of them valid");
    assert!(count < 100 || decoded * 20 > tried, "mutations too coarse to get past the first bytes");
}

#[test]
fn noise_never_panics() {
    seed::cases("noise", |rng| {
        for _ in 0..200 {
            let mut bytes = mutate::noise(rng, 600);
            if let Some(first) = bytes.first_mut()
                && rng.random_bool(0.8)
            {
                *first %= samples::MESSAGES;
            }
            read_as_everything(&bytes);
        }
    });
}

#[test]
fn no_proper_prefix_of_a_value_is_that_value() {
    seed::cases("prefixes", |rng| {
        let tag = rng.random_range(0..samples::MESSAGES);
        let bytes = encode(&samples::message(rng, tag));
        for end in 0..bytes.len().min(3_000) {
            assert!(decode::<Message>(&bytes[..end]).is_err(), "first {end} of {}", hex::encode(&bytes));
        }
    });
}
