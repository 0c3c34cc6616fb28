//! Proofs for light clients: each says what the plain model says, and none survives a changed byte anywhere.

use crate::model::{merkle_root, state_root};
use crate::seed;
use aitbc_core::batch::Batch;
use aitbc_core::block::Header;
use aitbc_core::codec::{decode, encode};
use aitbc_core::hash::{Hash, plain};
use aitbc_core::key::{Address, SecretKey};
use aitbc_core::ledger::{ResultCode, TxResult};
use aitbc_core::light::{InclusionProof, ResultProof};
use aitbc_core::state::{Account, AccountProof, State};
use aitbc_core::transaction::{Action, Payment, SignedTransaction, Transaction};
use borsh::BorshDeserialize;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use std::collections::BTreeMap;

type Map = BTreeMap<Address, (u64, u64)>;

/// Each byte of a value changed in a random way; those that decode.
fn changed<T: BorshDeserialize>(rng: &mut StdRng, bytes: &[u8]) -> Vec<(usize, T)> {
    let change = |at: usize| {
        let mut other = bytes.to_vec();
        other[at] ^= rng.random_range(1..=255u8);
        decode(&other).ok().map(|value| (at, value))
    };
    (0..bytes.len()).filter_map(change).collect()
}

fn changed_hash(rng: &mut StdRng, hash: &Hash) -> Hash {
    let mut other = *hash;
    other.0[rng.random_range(0..32)] ^= rng.random_range(1..=255u8);
    other
}

#[test]
fn accounts_present_and_absent_are_proven_and_no_changed_byte_of_proof_key_value_or_root_is() {
    let (mut present, mut absent) = (0u64, 0u64);
    let count = seed::cases("account proofs", |rng| {
        let account = |rng: &mut StdRng| (rng.random_range(1..9), rng.random_range(0..9));
        let map: Map = (0..rng.random_range(0..60)).map(|_| (Address(rng.random()), account(rng))).collect();
        let given = |(balance, nonce): &(u64, u64)| Account { balance: *balance, nonce: *nonce };
        let state = State::from_accounts(map.iter().map(|(address, a)| (*address, given(a))));
        let root = state_root(&map);
        let absentee = Address(rng.random());
        for address in map.keys().take(4).chain([&absentee]) {
            let proof = state.prove(address);
            let expected = map.get(address).map(given);
            assert_eq!(proof.verify(&root), Ok(expected), "{address}");
            *(if expected.is_some() { &mut present } else { &mut absent }) += 1;
            assert!(proof.verify(&changed_hash(rng, &root)).is_err(), "another root");
            for (at, other) in changed::<AccountProof>(rng, &encode(&proof)) {
                let Ok(said) = other.verify(&root) else { continue };
                // Only the question may change, where its way ends at the same leaf: then the answer must be true of it.
                assert_eq!((&other.leaf, &other.path), (&proof.leaf, &proof.path), "byte {at} of {address}");
                assert_eq!(said, map.get(&other.address).map(given), "byte {at} of {address}");
            }
        }
    });
    assert!(count < 100 || (present > 100 && absent >= 100), "{present} present, {absent} absent");
}

fn transaction(rng: &mut StdRng, chain: &Hash) -> SignedTransaction {
    let payment = |rng: &mut StdRng| Payment { to: Address(rng.random()), amount: rng.random_range(1..99) };
    let key = SecretKey::from_seed(rng.random());
    let action = match rng.random_range(0..3) {
        0 => Action::TransferMany { payments: (0..rng.random_range(1..4)).map(|_| payment(rng)).collect() },
        1 => Action::Faucet(payment(rng)),
        _ => Action::Transfer(payment(rng)),
    };
    Transaction { sender: key.public(), nonce: rng.random_range(0..9), fee: 1, expiry_height: 100, action }
        .sign(chain, &key)
}

fn noise(rng: &mut StdRng) -> Hash {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    Hash(bytes)
}

fn header(rng: &mut StdRng, parent: Hash, batches: &[Batch]) -> Header {
    Header {
        version: 1,
        epoch: 0,
        slot: 3,
        height: 3,
        parent_slot: 2,
        parent,
        parent_state_root: noise(rng),
        parent_results_root: noise(rng),
        time_ms: 3,
        proposer: 0,
        set_hash: noise(rng),
        next_set_hash: noise(rng),
        batches: batches.iter().map(|batch| batch.reference(batch.digest())).collect(),
        evidence: Vec::new(),
    }
}

/// Digest of a batch by its definition (F7), from the plain model of Merkle lists.
fn batch_digest(batch: &Batch) -> Hash {
    let root = merkle_root(&batch.txs.iter().map(encode).collect::<Vec<_>>());
    let fields = [
        &batch.epoch.to_le_bytes()[..],
        &batch.author.to_le_bytes(),
        &batch.seq.to_le_bytes(),
        &batch.expiry_height.to_le_bytes(),
        &root.0,
    ];
    Hash(blake3::derive_key("aitbc/batch/v1", &fields.concat()))
}

#[test]
fn a_transaction_is_proven_by_its_batch_and_no_changed_byte_of_the_proof_or_the_header_is() {
    let (chain, key) = (plain(b"chain"), SecretKey::from_seed([1; 32]));
    seed::cases("inclusion proofs", |rng| {
        let batch = |rng: &mut StdRng, seq| {
            let txs = (0..rng.random_range(1..12)).map(|_| transaction(rng, &chain)).collect();
            Batch::seal(&chain, &key, (0, 0), seq, 100, txs)
        };
        let batches: Vec<Batch> = (0..rng.random_range(1..4)).map(|seq| batch(rng, seq)).collect();
        assert!(batches.iter().all(|batch| batch.digest() == batch_digest(batch)));
        let header = header(rng, Hash::ZERO, &batches);
        let which = rng.random_range(0..batches.len());
        let index = rng.random_range(0..batches[which].txs.len());
        let proof = InclusionProof::of(&batches[which], index as u16).expect("there");
        let before: usize = batches[..which].iter().map(|batch| batch.txs.len()).sum();
        assert_eq!(proof.verify(&header), Ok((before + index) as u32));
        for (at, other) in changed::<InclusionProof>(rng, &encode(&proof)) {
            assert!(other.verify(&header).is_err(), "byte {at}");
        }
        let mut without = header.clone();
        without.batches[which].digest = changed_hash(rng, &header.batches[which].digest);
        assert!(proof.verify(&without).is_err(), "a header that names another batch");
        assert_eq!(InclusionProof::of(&batches[which], batches[which].txs.len() as u16), None);
    });
}

#[test]
fn a_result_is_proven_by_the_next_header_and_no_changed_byte_of_the_proof_or_the_root_is() {
    let (chain, key) = (plain(b"chain"), SecretKey::from_seed([1; 32]));
    seed::cases("result proofs", |rng| {
        let txs: Vec<_> = (0..rng.random_range(1..12)).map(|_| transaction(rng, &chain)).collect();
        let result = |tx: &SignedTransaction| TxResult {
            id: tx.id(&chain),
            code: ResultCode::ALL[rng.random_range(0..ResultCode::ALL.len())],
            fee: rng.random_range(0..9),
        };
        let results: Vec<TxResult> = txs.iter().map(result).collect();
        let batch = Batch::seal(&chain, &key, (0, 0), 1, 100, txs);
        let header_of_block = header(rng, Hash::ZERO, &[batch]);
        let mut next = header(rng, header_of_block.digest(), &[]);
        next.parent_results_root = merkle_root(&results.iter().map(encode).collect::<Vec<_>>());
        let index = rng.random_range(0..results.len()) as u32;
        let proof = ResultProof::of(&results, index).expect("there");
        assert_eq!(proof.verify(&header_of_block, &next), Ok(()));
        for (at, other) in changed::<ResultProof>(rng, &encode(&proof)) {
            assert!(other.verify(&header_of_block, &next).is_err(), "byte {at}");
        }
        let mut other = next.clone();
        other.parent_results_root = changed_hash(rng, &next.parent_results_root);
        assert!(proof.verify(&header_of_block, &other).is_err(), "another root");
        other = next;
        other.parent = changed_hash(rng, &other.parent);
        assert!(proof.verify(&header_of_block, &other).is_err(), "another parent");
        assert_eq!(ResultProof::of(&results, results.len() as u32), None);
    });
}
