//! Micro-figures of ledger, state, pool and JSON: `cargo run --release -p aitbc-core --example figures`.

use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::genesis::Mode;
use aitbc_core::hash::{Hash, plain};
use aitbc_core::json;
use aitbc_core::key::{Address, PublicKey, SecretKey, Signature};
use aitbc_core::ledger::{Context, ReceiptRules, ResultCode, Rules, execute};
use aitbc_core::mempool::{Limits, Mempool, VerifiedTx};
use aitbc_core::params::MAX_BATCH_TXS;
use aitbc_core::receipt::{Attestation, AttestedReceipt, Receipt, Text};
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::staking::{self, Candidate};
use aitbc_core::state::{Account, State};
use aitbc_core::terms::{Coordinator, Terms};
use aitbc_core::transaction::{Action, Payment, SignedTransaction, Stake, Transaction};
use std::hint::black_box;
use std::sync::Arc;

const ROUNDS: usize = 5;
/// Processor time of a round in nanoseconds: the kernel counts it in steps of up to 4 ms.
const ROUND: u64 = 200_000_000;

/// Nanoseconds of processor time of this thread, so that another load on the machine disturbs little.
fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds")
}

/// Prints the median of some rounds, for each of `per` things. Dropping what a round made counts, as it does in life.
fn figure<T>(what: &str, per: usize, mut once: impl FnMut() -> T) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (start, mut times) = (cpu_nanos(), 0.0);
            loop {
                black_box(once());
                times += 1.0;
                let spent = cpu_nanos() - start;
                if spent >= ROUND {
                    return spent as f64 / times / 1e3;
                }
            }
        })
        .collect();
    rounds.sort_unstable_by(f64::total_cmp);
    let median = rounds[ROUNDS / 2];
    println!("{what:<64} {:>9.3} ms {:>9.3} µs each", median / 1e3, median / per as f64);
}

fn key(n: u64) -> PublicKey {
    PublicKey(plain(&n.to_le_bytes()).0)
}

fn chain() -> Hash {
    plain(b"figures")
}

fn rules() -> Rules {
    Rules { chain: chain(), min_fee: 1, ..Rules::default() }
}

fn transfer(sender: u64, nonce: u64, fee: u64, to: u64) -> SignedTransaction {
    let action = Action::Transfer(Payment { to: key(to).address(), amount: 1 });
    let transaction = Transaction { sender: key(sender), nonce, fee, expiry_height: 1_000, action };
    SignedTransaction { transaction, signature: Signature([7; 64]) }
}

fn state(accounts: u64) -> State {
    let rich = Account { balance: 1 << 30, nonce: 0 };
    State::from_accounts((0..accounts).map(|n| (key(n).address(), rich)))
}

/// Accounts, of which the first 200 are validators with a stake.
fn staked(accounts: u64) -> State {
    let mut state = state(accounts);
    let candidate = |n| {
        (
            RecordKey::Candidate { key: key(n) },
            Some(Record::Candidate(Candidate::of_genesis(key(n).address(), 1_000, 1))),
        )
    };
    let mut records: Vec<_> = (0..200).map(candidate).collect();
    let mut keys: Vec<_> = (0..200).map(key).collect();
    keys.sort_unstable();
    records.push((RecordKey::Candidates, Some(Record::Candidates { keys })));
    state.set_records(&records);
    state.root();
    state
}

fn coordinator() -> PublicKey {
    key(1 << 40)
}

fn minting() -> Rules {
    let terms = Terms {
        mint_per_unit: 1,
        coordinator_parts_per_million: 50_000,
        coordinators: vec![Coordinator { public_key: coordinator() }],
        coordinator_threshold: 1,
        epoch_cap: 1 << 40,
        provider_epoch_cap: 1 << 40,
        expiry_seconds: 1_000,
    };
    let receipts = Some(ReceiptRules { chain_id: "figures".into(), terms });
    let staking = Rules::default().staking;
    Rules { receipts, staking: staking::Rules { mode: Mode::Pos, ..staking }, ..rules() }
}

fn context() -> Context {
    Context { time_ms: 5_000, ..Context::plain(1, Address([1; 20])) }
}

/// Signed by nobody, which the ledger does not look at.
fn receipt(i: u64, round: u64) -> Box<AttestedReceipt> {
    let text = |text: String| Text::new(&text).expect("a text");
    let receipt = Receipt::required(
        (text(format!("{round}.{i}")), text("job".into())),
        key(i % 200),
        Address([9; 20]),
        (20, Text::new("gpu_seconds").expect("a text")),
        (1, 2),
    );
    let signature = Signature([7; 64]);
    Box::new(AttestedReceipt {
        receipt,
        signature,
        attestations: vec![Attestation { coordinator: coordinator(), signature }],
    })
}

/// A block of `txs` transfers among the first `senders` accounts, in full batches.
fn block(txs: u64, senders: u64) -> Vec<VerifiedBatch> {
    let all: Vec<_> = (0..txs).map(|i| transfer(i % senders, i / senders, 1, (i * 7 + 1) % senders)).collect();
    let seal = |txs: &[SignedTransaction]| {
        let batch =
            Batch { epoch: 0, author: 0, seq: 0, expiry_height: 9, txs: txs.to_vec(), signature: Signature([7; 64]) };
        VerifiedBatch::trusted(Arc::new(batch), chain(), &chain())
    };
    all.chunks(MAX_BATCH_TXS.min(330)).map(seal).collect()
}

fn blocks() {
    for (accounts, senders, txs) in
        [(2_000, 2_000, 5_000), (2_000, 2_000, 500), (2_000, 2_000, 1), (1_000_000, 10_000, 5_000)]
    {
        let (parent, block) = (state(accounts), block(txs, senders));
        parent.root();
        let what = format!("execute {txs} transfers, {senders} of {accounts} accounts, with roots");
        figure(&what, txs as usize, || execute(&parent, &rules(), &Context::plain(1, Address([1; 20])), &block));
    }
}

/// Makes the action of a transaction from its number and its round.
type Make = fn(u64, u64) -> Action;

/// What receipts and stakes cost beside transfers: records that are new, and few that many write.
fn records() {
    let (senders, txs) = (2_000, 2_000);
    let actions: [(&str, Make); 3] = [
        ("transfers", |i, _| Action::Transfer(Payment { to: key(i).address(), amount: 1 })),
        ("claims of receipts", |i, round| Action::ClaimReceipt(receipt(i, round))),
        ("bonds", |i, _| Action::Bond(Stake { validator: key(i % 200), amount: 1 })),
    ];
    for (what, action) in actions {
        let batch = |round: u64| {
            let one = |i: u64| {
                let transaction = Transaction {
                    sender: key(i % 200),
                    nonce: round * 10 + i / 200,
                    fee: 100,
                    expiry_height: 1_000,
                    action: action(i, round),
                };
                SignedTransaction { transaction, signature: Signature([7; 64]) }
            };
            let txs: Vec<_> = (0..txs).map(one).collect();
            let batch = Batch { epoch: 0, author: 0, seq: 0, expiry_height: 9, txs, signature: Signature([7; 64]) };
            VerifiedBatch::trusted(Arc::new(batch), chain(), &chain())
        };
        let mut parent = staked(senders);
        // As after half a minute.
        for round in 0..15 {
            let executed = execute(&parent, &minting(), &context(), [&batch(round)]);
            assert!(executed.results.iter().all(|result| result.code == ResultCode::Ok), "{:?}", executed.results[0]);
            parent = executed.state;
        }
        let last = batch(15);
        figure(&format!("execute {txs} {what} of 200 senders, with roots"), txs as usize, || {
            execute(&parent, &minting(), &context(), [&last])
        });
    }
}

fn trie() {
    let million: Vec<_> = state(1_000_000).iter().collect();
    figure("build the trie of 1,000,000 accounts", million.len(), || State::from_accounts(million.iter().copied()));
    figure("the same with its root", million.len(), || {
        let state = State::from_accounts(million.iter().copied());
        state.root();
        state
    });
    let state = State::from_accounts(million.iter().copied());
    state.root();
    figure("read 10,000 of 1,000,000 accounts", 10_000, || {
        million[..10_000].iter().filter(|(a, _)| state.get(a).is_some()).count()
    });
    figure("prove and verify 1,000 of 1,000,000 accounts", 1_000, || {
        million[..1_000].iter().filter(|(a, _)| state.prove(a).verify(&state.root()).is_ok()).count()
    });
}

fn pool() {
    let (senders, each) = (2_000u64, 25u64);
    let count = (senders * each) as usize;
    let account = Account { balance: 1 << 30, nonce: 0 };
    let raw: Vec<_> = (0..each)
        .flat_map(|nonce| (0..senders).map(move |sender| transfer(sender, nonce, 1 + sender % 50, sender + 1)))
        .collect();
    figure("id, sender and size of a transaction", count, || {
        raw.iter().map(|tx| VerifiedTx::trusted(tx.clone(), &chain())).collect::<Vec<_>>()
    });
    let txs: Vec<_> = raw.iter().map(|tx| VerifiedTx::trusted(tx.clone(), &chain())).collect();
    let filled = || {
        let mut pool = Mempool::new(rules(), Limits::default());
        let admitted = txs.iter().filter(|tx| pool.admit(0, (*tx).clone(), account).is_ok()).count();
        assert_eq!(admitted, txs.len());
        pool
    };
    figure("admit 50,000 transactions of 2,000 senders", count, filled);
    let mut full = None;
    figure("fill, then take all in batches of 64 KiB", count, || {
        let mut pool = filled();
        while !pool.take(64 << 10, MAX_BATCH_TXS).is_empty() {}
        full = Some(pool);
    });
    let senders: Vec<_> = (0..senders).map(|n| (key(n).address(), Account { nonce: each, ..account })).collect();
    let results: Vec<_> = txs
        .iter()
        .map(|tx| aitbc_core::ledger::TxResult { id: tx.id, code: aitbc_core::ledger::ResultCode::Ok, fee: 1 })
        .collect();
    figure("fill, then learn 50,000 final results", count, || {
        let mut pool = filled();
        pool.on_executed(1, &results, &senders);
        assert_eq!(pool.counters().count, 0);
    });
}

fn text() {
    let key = SecretKey::from_seed([1; 32]);
    let tx = Transaction { sender: key.public(), ..transfer(1, 5, 1, 2).transaction }.sign(&chain(), &key);
    let text = json::to_value(&tx, &chain()).to_string();
    figure("read a transfer from JSON", 10_000, || {
        (0..10_000).filter(|_| json::from_str(&text, &chain()).is_ok()).count()
    });
    figure("write a transfer as JSON", 10_000, || {
        (0..10_000).map(|_| json::to_value(&tx, &chain()).to_string().len()).sum::<usize>()
    });
}

fn main() {
    println!("processor time of one thread, median of {ROUNDS} rounds");
    blocks();
    records();
    pool();
    text();
    trie();
}
