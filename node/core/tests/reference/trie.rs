//! The state trie against two maps, of accounts and of records: all versions, in any order of changes, with proofs.

use crate::model::{Records, evidence_record, state_root_with};
use crate::seed;
use aitbc_core::codec;
use aitbc_core::evidence::Class;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::state::{Account, AccountProof, RecordProof, State};
use borsh::BorshDeserialize;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What a state must hold.
#[derive(Clone, Default)]
struct Maps {
    accounts: BTreeMap<Address, (u64, u64)>,
    records: BTreeMap<RecordKey, Record>,
}

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

/// Few keys, so that they come again; some have no record ever.
fn some_key(rng: &mut StdRng) -> RecordKey {
    let class = *Class::ALL.choose(rng).expect("some");
    RecordKey::Evidence { key: PublicKey([rng.random_range(0..4); 32]), epoch: rng.random_range(0..3), class }
}

fn some_record(rng: &mut StdRng) -> Option<Record> {
    let record = Record::Evidence { slot: rng.random_range(0..3), height: rng.random_range(0..3) };
    rng.random_bool(0.7).then_some(record)
}

impl Maps {
    fn put(&mut self, address: Address, account: Account) {
        if account == Account::default() {
            self.accounts.remove(&address);
        } else {
            self.accounts.insert(address, (account.balance, account.nonce));
        }
    }

    fn put_record(&mut self, key: RecordKey, record: Option<Record>) {
        match record {
            Some(record) => self.records.insert(key, record),
            None => self.records.remove(&key),
        };
    }

    /// Of no more than `most` of either kind.
    fn random(rng: &mut StdRng, most: usize) -> Maps {
        let mut maps = Maps::default();
        for _ in 0..rng.random_range(0..most) {
            maps.put(some_address(rng), some_account(rng));
        }
        for _ in 0..rng.random_range(0..most / 4) {
            maps.put_record(some_key(rng), some_record(rng));
        }
        maps
    }

    fn account(&self, address: &Address) -> Option<Account> {
        self.accounts.get(address).map(|(balance, nonce)| Account { balance: *balance, nonce: *nonce })
    }

    fn list(&self) -> Vec<(Address, Account)> {
        self.accounts.keys().map(|address| (*address, self.account(address).expect("there"))).collect()
    }

    fn list_records(&self) -> Vec<(RecordKey, Record)> {
        self.records.iter().map(|(key, record)| (key.clone(), record.clone())).collect()
    }

    fn state(&self) -> State {
        State::from_parts(self.list(), self.list_records())
    }

    fn root(&self) -> Hash {
        let bytes = |(key, record): (&RecordKey, &Record)| {
            let (RecordKey::Evidence { key, epoch, class }, Record::Evidence { slot, height }) = (key, record) else {
                unreachable!("{key:?} is not put here");
            };
            evidence_record(key, *epoch, *class as u8, *slot, *height)
        };
        let records: Records = self.records.iter().map(bytes).collect();
        state_root_with(&self.accounts, &records)
    }
}

fn change(rng: &mut StdRng, state: &mut State, maps: &mut Maps) {
    match rng.random_range(0..14) {
        0..4 => {
            let (address, account) = (some_address(rng), some_account(rng));
            state.set(address, account);
            maps.put(address, account);
        }
        4..6 => {
            let address = some_address(rng);
            state.remove(&address);
            maps.put(address, Account::default());
        }
        6..9 => {
            let count = rng.random_range(0..40);
            let many: BTreeMap<_, _> = (0..count).map(|_| (some_address(rng), some_account(rng))).collect();
            let mut many: Vec<_> = many.into_iter().collect();
            many.shuffle(rng);
            state.set_many(&many);
            many.into_iter().for_each(|(address, account)| maps.put(address, account));
        }
        9..11 => {
            let (key, record) = (some_key(rng), some_record(rng));
            state.set_record(key.clone(), record.clone());
            maps.put_record(key, record);
        }
        11..13 => {
            let count = rng.random_range(0..20);
            let many: BTreeMap<_, _> = (0..count).map(|_| (some_key(rng), some_record(rng))).collect();
            let mut many: Vec<_> = many.into_iter().collect();
            many.shuffle(rng);
            state.set_records(&many);
            many.into_iter().for_each(|(key, record)| maps.put_record(key, record));
        }
        // Rarely everything goes, so that an empty trie fills again.
        _ if rng.random_bool(0.2) => {
            let gone = std::mem::take(maps);
            state.set_many(
                &gone.list().into_iter().map(|(address, _)| (address, Account::default())).collect::<Vec<_>>(),
            );
            state.set_records(&gone.list_records().into_iter().map(|(key, _)| (key, None)).collect::<Vec<_>>());
        }
        _ => {}
    }
}

fn check(rng: &mut StdRng, state: &State, maps: &Maps) {
    assert_eq!(state.len(), maps.accounts.len() + maps.records.len());
    assert_eq!(state.root(), maps.root());
    let all: BTreeMap<_, _> = state.iter().map(|(address, a)| (address, (a.balance, a.nonce))).collect();
    assert_eq!((all.len(), &all), (state.iter().count(), &maps.accounts));
    let all: BTreeMap<_, _> = state.records().map(|(key, record)| (key.clone(), record.clone())).collect();
    assert_eq!((all.len(), &all), (state.records().count(), &maps.records));
    for address in addresses() {
        assert_eq!(state.get(address), maps.account(address), "{address}");
    }
    for key in (0..20).map(|_| some_key(rng)) {
        assert_eq!(state.record(&key), maps.records.get(&key), "{key:?}");
    }
}

#[test]
fn every_version_of_a_forked_trie_stays_what_its_maps_say() {
    seed::cases("trie", |rng| {
        let mut versions = vec![(State::empty(), Maps::default())];
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
            let (state, maps) = &mut versions[if rng.random_bool(0.7) { last } else { at.min(last) }];
            change(rng, state, maps);
            // Not always: a hash that is stale shows only if it was computed before the change.
            if rng.random_bool(0.3) {
                assert_eq!(state.root(), maps.root());
            }
        }
        versions.iter().for_each(|(state, maps)| check(rng, state, maps));
    });
}

#[test]
fn the_root_does_not_depend_on_how_accounts_and_records_came() {
    seed::cases("trie orders", |rng| {
        let maps = Maps::random(rng, 120);
        let expected = maps.root();
        let (mut accounts, mut records) = (maps.list(), maps.list_records());
        let some = |(key, record): &(RecordKey, Record)| (key.clone(), Some(record.clone()));
        accounts.shuffle(rng);
        records.shuffle(rng);
        let mut one_by_one = State::empty();
        let records_first = rng.random_bool(0.5);
        if records_first {
            records.iter().map(some).for_each(|(key, record)| one_by_one.set_record(key, record));
        }
        accounts.iter().for_each(|(address, a)| one_by_one.set(*address, *a));
        if !records_first {
            records.iter().map(some).for_each(|(key, record)| one_by_one.set_record(key, record));
        }
        assert_eq!(one_by_one.root(), expected);
        accounts.shuffle(rng);
        assert_eq!(State::from_parts(accounts.iter().copied(), records.iter().cloned()).root(), expected);
        accounts.shuffle(rng);
        let mut in_parts = State::empty();
        accounts.chunks(rng.random_range(1..20)).for_each(|part| in_parts.set_many(part));
        in_parts.set_records(&records.iter().map(some).collect::<Vec<_>>());
        assert_eq!(in_parts.root(), expected);
    });
}

#[test]
fn a_proof_says_what_the_maps_say_and_no_changed_bit_of_it_holds() {
    seed::cases("trie proofs", |rng| {
        let maps = Maps::random(rng, 80);
        let state = maps.state();
        let (root, other) = (state.root(), other_root(rng, &state));
        for _ in 0..10 {
            let address = if rng.random_bool(0.8) { some_address(rng) } else { Address(rng.random()) };
            let proof = state.prove(&address);
            assert_eq!(proof.verify(&root), Ok(maps.account(&address)), "{address}");
            assert!(proof.verify(&other).is_err(), "proof of another state's root");
            for decoded in changed_bits::<AccountProof>(rng, &codec::encode(&proof)) {
                let Ok(said) = decoded.verify(&root) else { continue };
                // The address is the question. Another one may end at the same leaf, and then the proof must tell the truth.
                assert_eq!((&decoded.leaf, &decoded.path), (&proof.leaf, &proof.path));
                assert_eq!(said, maps.account(&decoded.address));
            }
        }
        for _ in 0..10 {
            let key = some_key(rng);
            let proof = state.prove_record(&key);
            assert_eq!(proof.verify(&root), Ok(maps.records.get(&key)), "{key:?}");
            assert!(proof.verify(&other).is_err(), "proof of another state's root");
            for decoded in changed_bits::<RecordProof>(rng, &codec::encode(&proof)) {
                let Ok(said) = decoded.verify(&root) else { continue };
                assert_eq!((&decoded.leaf, &decoded.path), (&proof.leaf, &proof.path));
                assert_eq!(said, maps.records.get(&decoded.key));
            }
        }
    });
}

fn other_root(rng: &mut StdRng, state: &State) -> Hash {
    let mut other = state.clone();
    let address = some_address(rng);
    other.set(address, Account { balance: 77, nonce: 77 });
    other.root()
}

/// All bits of a proof would take minutes over all cases; these are a sample of each, where it decodes.
fn changed_bits<T: BorshDeserialize>(rng: &mut StdRng, bytes: &[u8]) -> Vec<T> {
    let mut change = |_| {
        let at = rng.random_range(0..bytes.len() * 8);
        let mut changed = bytes.to_vec();
        changed[at / 8] ^= 1 << (at % 8);
        codec::decode::<T>(&changed).ok()
    };
    (0..60).filter_map(&mut change).collect()
}
