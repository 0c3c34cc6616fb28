//! The state trie against a map: all versions, in any order of changes, with proofs.

use crate::model::state_root;
use crate::seed;
use aitbc_core::codec;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::state::{Account, AccountProof, State};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::OnceLock;

type Map = BTreeMap<Address, (u64, u64)>;

const CHANGES: usize = 150;
const VERSIONS: usize = 8;

/// Addresses whose keys stand next to each other, so that tries get as deep as hashes allow: up to 30 common bits.
fn addresses() -> &'static [Address] {
    static ADDRESSES: OnceLock<Vec<Address>> = OnceLock::new();
    ADDRESSES.get_or_init(|| {
        let mut rng = StdRng::seed_from_u64(7);
        let mut all: Vec<Address> = (0..50_000).map(|_| Address(rng.random())).collect();
        all.sort_by_key(|address| blake3::derive_key("aitbc/state-key/v1", &address.0));
        let common = |pair: &[Address]| {
            let key = |a: &Address| blake3::derive_key("aitbc/state-key/v1", &a.0);
            key(&pair[0]).iter().zip(key(&pair[1])).take_while(|(x, y)| **x == *y).count()
        };
        let deep = all.windows(2).filter(|pair| common(pair) >= 3).flat_map(<[Address]>::to_vec).take(60);
        deep.chain(all.iter().copied().step_by(1_000)).collect()
    })
}

fn some_address(rng: &mut StdRng) -> Address {
    addresses()[rng.random_range(0..addresses().len())]
}

fn some_account(rng: &mut StdRng) -> Account {
    match rng.random_range(0..5) {
        0 => Account::default(),
        1 => Account { balance: u64::MAX, nonce: u64::MAX },
        2 => Account { balance: 0, nonce: rng.random_range(0..3) },
        _ => Account { balance: rng.random_range(0..3), nonce: rng.random_range(0..3) },
    }
}

fn put(map: &mut Map, address: Address, account: Account) {
    if account == Account::default() {
        map.remove(&address);
    } else {
        map.insert(address, (account.balance, account.nonce));
    }
}

fn change(rng: &mut StdRng, state: &mut State, map: &mut Map) {
    match rng.random_range(0..10) {
        0..4 => {
            let (address, account) = (some_address(rng), some_account(rng));
            state.set(address, account);
            put(map, address, account);
        }
        4..6 => {
            let address = some_address(rng);
            state.remove(&address);
            map.remove(&address);
        }
        6..9 => {
            let count = rng.random_range(0..40);
            let many: BTreeMap<_, _> = (0..count).map(|_| (some_address(rng), some_account(rng))).collect();
            let mut many: Vec<_> = many.into_iter().collect();
            many.shuffle(rng);
            state.set_many(&many);
            many.into_iter().for_each(|(address, account)| put(map, address, account));
        }
        // Rarely everything goes, so that an empty trie fills again.
        _ if rng.random_bool(0.2) => {
            let gone: Vec<_> = std::mem::take(map).into_keys().map(|address| (address, Account::default())).collect();
            state.set_many(&gone);
        }
        _ => {}
    }
}

fn account((balance, nonce): &(u64, u64)) -> Account {
    Account { balance: *balance, nonce: *nonce }
}

fn check(state: &State, map: &Map) {
    assert_eq!(state.len(), map.len());
    assert_eq!(state.root(), state_root(map));
    let all: Map = state.iter().map(|(address, a)| (address, (a.balance, a.nonce))).collect();
    assert_eq!((all.len(), &all), (state.iter().count(), map));
    for address in addresses() {
        assert_eq!(state.get(address), map.get(address).map(account), "{address}");
    }
}

#[test]
fn every_version_of_a_forked_trie_stays_what_its_map_says() {
    seed::cases("trie", |rng| {
        let mut versions = vec![(State::empty(), Map::new())];
        for _ in 0..CHANGES {
            let at = rng.random_range(0..versions.len());
            if rng.random_bool(0.2) {
                let copy = versions[at].clone();
                versions.push(copy);
                if versions.len() > VERSIONS {
                    versions.swap_remove(0);
                }
            }
            let last = versions.len() - 1;
            let (state, map) = &mut versions[if rng.random_bool(0.7) { last } else { at.min(last) }];
            change(rng, state, map);
            // Not always: a hash that is stale shows only if it was computed before the change.
            if rng.random_bool(0.3) {
                assert_eq!(state.root(), state_root(map));
            }
        }
        versions.iter().for_each(|(state, map)| check(state, map));
    });
}

#[test]
fn the_root_does_not_depend_on_how_the_accounts_came() {
    seed::cases("trie orders", |rng| {
        let mut map = Map::new();
        for _ in 0..rng.random_range(0..120) {
            put(&mut map, some_address(rng), some_account(rng));
        }
        let expected = state_root(&map);
        let mut items: Vec<_> = map.iter().map(|(address, a)| (*address, account(a))).collect();
        items.shuffle(rng);
        let mut one_by_one = State::empty();
        items.iter().for_each(|(address, a)| one_by_one.set(*address, *a));
        assert_eq!(one_by_one.root(), expected);
        items.shuffle(rng);
        assert_eq!(State::from_accounts(items.iter().copied()).root(), expected);
        items.shuffle(rng);
        let mut in_parts = State::empty();
        items.chunks(rng.random_range(1..20)).for_each(|part| in_parts.set_many(part));
        assert_eq!(in_parts.root(), expected);
    });
}

#[test]
fn a_proof_says_what_the_map_says_and_no_changed_bit_of_it_holds() {
    seed::cases("trie proofs", |rng| {
        let mut map = Map::new();
        for _ in 0..rng.random_range(0..80) {
            put(&mut map, some_address(rng), some_account(rng));
        }
        let state = State::from_accounts(map.iter().map(|(address, a)| (*address, account(a))));
        let (root, other) = (state.root(), other_root(rng, &state));
        for _ in 0..10 {
            let address = if rng.random_bool(0.8) { some_address(rng) } else { Address(rng.random()) };
            let proof = state.prove(&address);
            assert_eq!(proof.verify(&root), Ok(map.get(&address).map(account)), "{address}");
            assert!(proof.verify(&other).is_err(), "proof of another state's root");
            changed_bits(rng, &proof, &root, &map);
        }
    });
}

fn other_root(rng: &mut StdRng, state: &State) -> Hash {
    let mut other = state.clone();
    let address = some_address(rng);
    other.set(address, Account { balance: 77, nonce: 77 });
    other.root()
}

/// All bits of a proof would take minutes over all cases; these are a sample of each.
fn changed_bits(rng: &mut StdRng, proof: &AccountProof, root: &Hash, map: &Map) {
    let bytes = codec::encode(proof);
    for _ in 0..60 {
        let at = rng.random_range(0..bytes.len() * 8);
        let mut changed = bytes.clone();
        changed[at / 8] ^= 1 << (at % 8);
        let Ok(decoded) = codec::decode::<AccountProof>(&changed) else { continue };
        let Ok(said) = decoded.verify(root) else { continue };
        // The address is the question. Another one may end at the same leaf, and then the proof must tell the truth.
        assert_eq!((&decoded.leaf, &decoded.path), (&proof.leaf, &proof.path), "bit {at}");
        assert_eq!(said, map.get(&decoded.address).map(account), "bit {at}");
    }
}
