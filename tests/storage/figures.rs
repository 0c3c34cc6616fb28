//! How fast it is: `cargo test --release -p aitbc-tests --test storage figures -- --ignored --nocapture --test-threads 1`.

use crate::fixture::*;
use aitbc_core::vote::Kind;
use aitbc_node::storage::{StateWrite, Storage, TransactionRow};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn sqlite() {
    measure("sqlite", &Site::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn postgres() {
    measure("postgres", &Site::postgres()).await;
}

async fn measure(name: &str, site: &Site) {
    let storage = site.ready().await;
    let mut slot = 0;
    for kind in [Kind::Skip, Kind::Notar, Kind::Final] {
        let mut times = Vec::new();
        for _ in 0..1_000 {
            slot += 1;
            let votes = vec![vote_write(kind, slot)];
            times.push(time(storage.commit_votes(votes)).await);
        }
        show(name, &format!("{} vote", kind.name()), times);
    }

    let mut times = Vec::new();
    for seq in 0..500 {
        let batch = batch(seq, 1_000, 330);
        times.push(time(storage.commit_batches(vec![batch_write(&batch)])).await);
    }
    show(name, "64 KiB batch", times);

    let mut times = Vec::new();
    for height in 1..=500 {
        let batch = batch(height - 1, 1_000, 330);
        times.push(time(storage.commit_blocks(vec![block_write(header(height, height, vec![&batch]), None)])).await);
    }
    show(name, "block of one batch", times);
    apply(name, &*storage).await;
    reads(name, &*storage).await;
    votes_beside_load(name, &*storage, slot).await;
}

/// 5,000 transactions and 2,000 accounts, again and again, while the index grows.
async fn apply(name: &str, storage: &dyn Storage) {
    let mut times = Vec::new();
    for height in 1..=100u64 {
        let rows =
            |index: u32| TransactionRow { sender: address(u64::from(index) % 1_000), ..transaction_row(height, index) };
        let write = StateWrite {
            accounts: (0..2_000).map(|n| (address(n), height, height)).collect(),
            transactions: (0..5_000).map(rows).collect(),
            ..state(height)
        };
        times.push(time(storage.apply_state(write)).await);
        if [10, 50, 100].contains(&height) {
            show(name, &format!("apply 5k tx + 2k accounts, to {}k tx", height * 5), std::mem::take(&mut times));
        }
    }
}

async fn reads(name: &str, storage: &dyn Storage) {
    let started = Instant::now();
    let ledger = storage.load_ledger().await.expect("loads");
    println!("{name}: load_ledger {:?} ({} included)", started.elapsed(), ledger.included.len());
    let started = Instant::now();
    let blocks = storage.blocks(1, 500, usize::MAX).await.expect("reads");
    println!("{name}: {} blocks with batches {:?}", blocks.len(), started.elapsed());
    let mut times = Vec::new();
    for index in 0..500 {
        times.push(time(storage.transaction(transaction_row(50, index).id)).await);
    }
    show(name, "transaction by id", times);
    let mut times = Vec::new();
    for sender in [1, 999, 100_000] {
        times.push(time(storage.transactions(Some(address(sender)), 20, 0)).await);
    }
    println!("{name}: 20 of a sender {times:?}");
}

/// Votes while state and batches are being written all the time.
async fn votes_beside_load(name: &str, storage: &dyn Storage, mut slot: u64) {
    let mut votes = Vec::new();
    let voting = async {
        for _ in 0..300 {
            slot += 1;
            votes.push(time(storage.commit_votes(vec![vote_write(Kind::Notar, slot)])).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let loading = async {
        for height in 101.. {
            let write = StateWrite {
                accounts: (0..2_000).map(|n| (address(n), height, height)).collect(),
                transactions: (0..5_000).map(|index| transaction_row(height, index)).collect(),
                ..state(height)
            };
            let batches = (0..16).map(|n| batch_write(&batch(1_000_000 + height * 16 + n, 9_999, 330))).collect();
            let (state, data) = tokio::join!(storage.apply_state(write), storage.commit_batches(batches));
            state.and(data).expect("writes");
        }
    };
    tokio::select! { () = voting => {}, () = loading => {} }
    show(name, "notar vote beside full load", votes);
}

async fn time<T: std::fmt::Debug>(call: impl Future<Output = aitbc_node::storage::Result<T>>) -> Duration {
    let started = Instant::now();
    call.await.expect("works");
    started.elapsed()
}

fn show(name: &str, what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{name}: {what}: p50 {:?} p99 {:?} max {:?} ({} times)", at(0.5), at(0.99), at(1.0), times.len());
}
