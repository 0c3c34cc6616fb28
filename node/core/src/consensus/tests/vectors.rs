//! Golden vectors: bytes, digests, certificates and rotation that must never change (protocol.md §10.1, F2-F5, M6).

use super::rig::*;
use crate::batch::BatchRef;
use crate::block::{Candidate, Header};
use crate::codec;
use crate::hash::Hash;
use crate::key::SecretKey;
use crate::validators::{Validator, ValidatorSet};
use crate::vote::{Cert, Kind, Statement, Vote};
use serde_json::{Value, json};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/consensus.json");

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

fn keys(n: usize) -> Vec<SecretKey> {
    let mut keys: Vec<SecretKey> = (0..n).map(|i| SecretKey::from_seed([i as u8 + 1; 32])).collect();
    keys.sort_by_key(SecretKey::public);
    keys
}

fn set(weights: &[u32]) -> ValidatorSet {
    let member = |(key, weight): (SecretKey, &u32)| Validator { key: key.public(), weight: *weight };
    ValidatorSet::new(keys(weights.len()).into_iter().zip(weights).map(member).collect()).expect("valid set")
}

fn vote_vector(slot: u64, kind: Kind, digest: Hash) -> Value {
    let statement = Statement { epoch: 0, slot, kind, digest };
    let vote = Vote::sign(statement, &chain(), 1, &keys(4)[1]);
    json!({
        "slot": slot, "kind": kind.code(), "digest": hex(&digest.0), "signer": 1,
        "sign_bytes": hex(&statement.sign_bytes(&chain())),
        "signature": vote.signature.to_string(), "encoded": hex(&codec::encode(&vote)),
    })
}

fn cert_vector(weights: &[u32], signers: &[u16]) -> Value {
    let set = set(weights);
    let statement = Statement { epoch: 0, slot: 9, kind: Kind::Notar, digest: Hash([0xab; 32]) };
    let keys = keys(weights.len());
    let votes: Vec<_> =
        signers.iter().map(|i| (*i, Vote::sign(statement, &chain(), *i, &keys[usize::from(*i)]).signature)).collect();
    let cert = Cert::collect(statement, &set, &votes);
    json!({
        "weights": weights, "signers": signers, "set_hash": hex(&set.hash().0), "quorum": set.quorum(),
        "valid": cert.verify(&chain(), &set).is_ok(), "encoded": hex(&codec::encode(&cert)),
    })
}

fn header() -> Header {
    Header {
        version: 1,
        epoch: 0,
        slot: 7,
        height: 5,
        parent_slot: 6,
        parent: Hash([1; 32]),
        parent_state_root: Hash([2; 32]),
        parent_results_root: Hash([3; 32]),
        time_ms: WALL,
        proposer: 2,
        set_hash: set(&[1; 4]).hash(),
        next_set_hash: set(&[1; 4]).hash(),
        batches: vec![BatchRef { digest: Hash([4; 32]), epoch: 0, author: 3, bytes: 65_536, txs: 300 }],
        evidence: Vec::new(),
    }
}

fn header_vector() -> Value {
    let header = header();
    let digest = header.digest();
    let signature = Vote::sign(header.notar(digest), &chain(), 2, &keys(4)[2]).signature;
    let encoded = hex(&codec::encode(&header));
    let candidate = Candidate { header, signature };
    json!({ "encoded": encoded, "digest": hex(&digest.0), "candidate": hex(&codec::encode(&candidate)) })
}

fn cycle_vector(weights: &[u32]) -> Value {
    json!({ "weights": weights, "cycle": set(weights).cycle() })
}

/// Weights of a set of 100, from 1 to 5,000, far from equal.
fn skewed(n: u32) -> Vec<u32> {
    (0..n).map(|i| 1 + i * i / 2 % 5_000).collect()
}

fn vectors() -> Value {
    json!({
        "chain": hex(&chain().0),
        "votes": [
            vote_vector(1, Kind::Notar, Hash([0xd; 32])),
            vote_vector(2, Kind::Skip, Hash::ZERO),
            vote_vector(u64::MAX, Kind::Final, Hash([0xff; 32])),
        ],
        "header": header_vector(),
        "certs": [
            cert_vector(&[1; 4], &[0, 1, 3]),
            cert_vector(&[1; 4], &[0, 1]),
            cert_vector(&[3, 2, 2, 1, 1], &[0, 1, 2]),
            cert_vector(&[1; 100], &(0..67).collect::<Vec<_>>()),
        ],
        "cycles": [
            cycle_vector(&[1; 4]),
            cycle_vector(&[3, 2, 2, 1, 1]),
            cycle_vector(&[1_000_000, 1, 1, 1]),
            cycle_vector(&[7; 100]),
            cycle_vector(&skewed(100)),
        ],
    })
}

/// `WRITE_VECTORS=1` writes the file anew: only for a new format version, with an ADR.
#[test]
fn f_vectors_are_as_they_were() {
    let now = serde_json::to_string_pretty(&vectors()).expect("json") + "\n";
    if std::env::var_os("WRITE_VECTORS").is_some() {
        std::fs::write(FILE, &now).expect("vectors written");
    }
    let fixed = std::fs::read_to_string(FILE).expect("vectors are in the repository");
    assert!(fixed == now, "bytes that are signed or stored have changed; see {FILE}");
}

#[test]
fn f3_sign_bytes_of_the_vectors_are_97() {
    for vote in vectors()["votes"].as_array().expect("votes") {
        assert_eq!(vote["sign_bytes"].as_str().map(str::len), Some(2 * 97));
    }
}

#[test]
fn f1_trailing_bytes_and_cut_ones_do_not_decode() {
    let bytes = codec::encode(&header());
    assert_eq!(codec::decode::<Header>(&bytes).ok(), Some(header()));
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(codec::decode::<Header>(&longer).is_err());
    assert!(codec::decode::<Header>(&bytes[..bytes.len() - 1]).is_err());
}
