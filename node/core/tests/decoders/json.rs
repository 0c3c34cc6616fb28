//! Genesis, transactions and addresses: what people write.

use crate::{mutate, samples, seed};
use aitbc_core::genesis::{Faucet, Genesis, GenesisAccount, GenesisValidator, Mode, Staking};
use aitbc_core::hash::{Hash, plain};
use aitbc_core::json;
use aitbc_core::key::{Address, PublicKey, SecretKey};
use aitbc_core::params::{MAX_SUPPLY, Parameters};
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, SignedTransaction};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeSet;

const MUTATIONS: usize = 100;
/// Kinds of transactions.
const TYPES: usize = 12;
/// Most draws for a valid one.
const DRAWS: usize = 100;
/// Pieces that parsers stumble over.
const PIECES: [&str; 17] = [
    "null",
    "{}",
    "[]",
    "\"\"",
    "-1",
    "1.0",
    "1e400",
    "18446744073709551616",
    "\"\\ud800\"",
    "\\u0000",
    "{\"a\":",
    "[[",
    ",",
    "\"fee\":1",
    "9007199254740992",
    "{\"$serde_json::private::RawValue\":\"1\"}",
    "ü",
];

fn chain() -> Hash {
    plain(b"chain")
}

/// A text with changed bytes or odd pieces put in; always UTF-8, as the node reads bodies as such.
fn mutated(rng: &mut StdRng, text: &str) -> String {
    if rng.random_bool(0.5) {
        return String::from_utf8_lossy(&mutate::mutate(rng, text.as_bytes(), text.as_bytes())).into_owned();
    }
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let at = places[rng.random_range(0..places.len())];
    let end = places.iter().copied().find(|end| *end >= at + rng.random_range(0..12)).unwrap_or(text.len());
    let piece = PIECES[rng.random_range(0..PIECES.len())];
    format!("{}{piece}{}", &text[..at], &text[end.max(at)..])
}

/// Reads a transaction; what reads must come back from its own JSON.
pub fn read_transaction(text: &str) -> bool {
    let tx = match json::from_str(text, &chain()) {
        Ok(tx) => tx,
        Err(error) => {
            assert!(error.to_string().len() < 2_000 && !error.code().is_empty(), "{error}");
            return false;
        }
    };
    // The raw form can hold numbers that JSON must not; no chain takes these.
    if tx.check().is_ok() && greatest(&tx) <= MAX_SUPPLY {
        assert_eq!(json::from_value(&json::to_value(&tx, &chain()), &chain()).as_ref(), Ok(&tx));
    }
    true
}

/// Of the numbers that no check bounds.
fn greatest(tx: &SignedTransaction) -> u64 {
    let timeout = match &tx.transaction.action {
        Action::LockEscrow(lock) => lock.timeout_height,
        _ => 0,
    };
    tx.transaction.nonce.max(tx.transaction.expiry_height).max(timeout)
}

/// Reads a genesis; what reads must have one text and one hash.
pub fn read_genesis(text: &str) -> bool {
    let Ok(genesis) = Genesis::from_json(text) else { return false };
    let canonical = genesis.to_json();
    let back = Genesis::from_json(&canonical).expect("own text");
    assert_eq!((&back, back.to_json(), back.hash()), (&genesis, canonical, genesis.hash()));
    assert!(genesis.supply().is_some_and(|supply| supply <= MAX_SUPPLY));
    true
}

fn genesis(rng: &mut StdRng) -> Genesis {
    let mut key = || SecretKey::from_seed(rng.random()).public();
    let keys: [PublicKey; 7] = std::array::from_fn(|_| key());
    let mode = Mode::ALL[rng.random_range(0..3)];
    let validator = |public_key| match (mode, rng.random_range(1..100)) {
        (Mode::Poa, weight) => GenesisValidator { public_key, weight, stake: 0 },
        (Mode::Pos | Mode::Hybrid, weight) => {
            GenesisValidator { public_key, weight: 1, stake: 1_000 * u64::from(weight) }
        }
    };
    let validators = keys[..4].iter().copied().map(validator).collect();
    let account = |_| GenesisAccount { address: Address(rng.random()), balance: rng.random_range(0..1 << 50) };
    let accounts = (0..4).map(account).collect();
    let faucet = rng.random_bool(0.5).then_some(Faucet { balance: 1_000, max_amount: 10 });
    let receipts = rng.random_bool(0.5).then(|| Terms {
        mint_per_unit: rng.random_range(0..1_000),
        coordinator_parts_per_million: rng.random_range(0..=1_000_000),
        coordinators: keys[4..].iter().map(|key| Coordinator { public_key: *key }).collect(),
        coordinator_threshold: rng.random_range(1..=3),
        epoch_cap: rng.random_range(0..=MAX_SUPPLY),
        provider_epoch_cap: rng.random_range(0..=MAX_SUPPLY),
        expiry_seconds: rng.random_range(1..1_000),
    });
    let parameters = Parameters::default();
    let staking = Staking { block_reward: rng.random_range(0..9), ..Staking::default() };
    Genesis { chain_id: "net-1".into(), mode, validators, accounts, faucet, receipts, parameters, staking }
}

/// Of any kind; one that passes the checks, so that its JSON has to come back. An empty list, which fails, is drawn at times.
fn valid_transaction(rng: &mut StdRng) -> SignedTransaction {
    let kind = rng.random_range(0..10);
    let draw = |_| {
        let (receipts, stakes) = (samples::receipt_transactions(rng), samples::stake_transactions(rng));
        receipts.into_iter().chain(stakes).nth(kind).unwrap_or_else(|| samples::transaction(rng))
    };
    (0..DRAWS).map(draw).find(|tx| tx.check().is_ok()).expect("most are valid")
}

#[test]
fn mutated_transaction_json_never_panics_and_what_reads_comes_back() {
    let mut read = BTreeSet::new();
    let count = seed::cases("transaction json", |rng| {
        let tx = valid_transaction(rng);
        let raw = format!("{{\"transaction\": \"0x{}\"}}", hex::encode(aitbc_core::codec::encode(&tx)));
        for text in [json::to_value(&tx, &chain()).to_string(), raw] {
            assert_eq!(json::from_str(&text, &chain()).as_ref(), Ok(&tx), "{text}");
            read.insert(json::type_name(&tx.transaction.action));
            for _ in 0..MUTATIONS {
                read_transaction(&mutated(rng, &text));
            }
        }
    });
    assert!(count < 100 || read.len() == TYPES, "{read:?}");
}

#[test]
fn mutated_genesis_json_never_panics_and_what_reads_has_one_text_and_one_hash() {
    seed::cases("genesis json", |rng| {
        let text = genesis(rng).to_json();
        assert!(read_genesis(&text), "{text}");
        for _ in 0..MUTATIONS {
            read_genesis(&mutated(rng, &text));
        }
    });
}

#[test]
fn deep_nesting_is_refused_without_a_stack_overflow() {
    for open in ["[", "{\"a\":"] {
        let text = open.repeat(200_000);
        assert!(!read_transaction(&text) && !read_genesis(&text));
    }
}

#[test]
fn an_address_has_one_bech32_text() {
    seed::cases("addresses", |rng| {
        let address = Address(rng.random());
        let text = address.to_string();
        assert_eq!(text.parse(), Ok(address));
        for _ in 0..MUTATIONS {
            let changed = mutated(rng, &text);
            if let Ok(read) = changed.parse::<Address>()
                && !changed.starts_with("0x")
            {
                assert_eq!(read.to_string(), changed.to_lowercase(), "{changed} is another text of the address");
            }
        }
    });
}

/// Bech32's checksum lets a `q` come in before a last `p`: https://github.com/sipa/bech32/issues/51.
#[test]
fn an_address_with_symbols_too_many_is_refused_though_its_checksum_holds() {
    let ends_in_p = |n: u8| Some(Address([n; 20])).filter(|address| address.to_string().ends_with('p'));
    let address = (0..=255).find_map(ends_in_p).expect("one in 32");
    let text = address.to_string();
    for more in 1..10 {
        let longer = format!("{}{}p", &text[..text.len() - 1], "q".repeat(more));
        assert!(longer.parse::<Address>().is_err(), "{longer} was read as {address}");
    }
}
