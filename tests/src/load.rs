//! Load on a chain: closed loop (as much as it takes, bounded in flight) and open loop (a fixed rate, late or not). What each
//! sender sends is its [duty](crate::work::Duty).

use crate::localnet::Localnet;
use crate::metrics::Metrics;
use crate::rpc::{Rpc, Taken};
use crate::wait;
use crate::wallet::Wallet;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::transaction::SignedTransaction;
use anyhow::{Context, Result};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Requests at a time to one validator.
const FEEDERS: usize = 2;
/// Most transactions of one request: about what fills a batch.
const CHUNK: usize = 256;
/// Pause before something refused for being too busy is sent again.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Pause between two looks at what is final.
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// Transactions in final blocks.
const TRANSACTIONS: &str = "blockchain_transactions_total";
/// How far above the head transactions expire.
const EXPIRY: u64 = 1_500;

/// What a running load counts; shared by its tasks.
#[derive(Default)]
pub struct Counters {
    /// Taken by a pool.
    pub accepted: AtomicU64,
    /// In final blocks.
    pub finalized: AtomicU64,
    /// Sent again because a node was too busy.
    pub retried: AtomicU64,
    /// Height of the last block seen.
    pub height: AtomicU64,
    refused: Mutex<BTreeMap<String, u64>>,
    moved: Notify,
    stop: AtomicBool,
}

impl Counters {
    /// Refused for good, by code.
    pub fn refused(&self) -> BTreeMap<String, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refuse(&self, code: &str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(code.to_owned()).or_default() += 1;
    }

    fn in_flight(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed).saturating_sub(self.finalized.load(Ordering::Relaxed))
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A load that runs until it is stopped.
pub struct Load {
    /// Its counts.
    pub counters: Arc<Counters>,
    feeders: Vec<JoinHandle<Result<Vec<Wallet>>>>,
    watcher: JoinHandle<()>,
}

impl Load {
    /// Closed loop with these senders, each bound to one validator, at most `in_flight` accepted and not yet final.
    ///
    /// # Errors
    /// Where no validator lets itself be watched.
    pub async fn closed_loop(net: &Localnet, senders: Vec<Wallet>, in_flight: u64) -> Result<Load> {
        let all: Vec<usize> = (0..net.nodes.len()).collect();
        Load::closed_loop_on(net, senders, in_flight, &all).await
    }

    /// As [`Load::closed_loop`], through some of the validators only: those that will not go away meanwhile.
    ///
    /// # Errors
    /// As [`Load::closed_loop`].
    pub async fn closed_loop_on(
        net: &Localnet,
        senders: Vec<Wallet>,
        in_flight: u64,
        validators: &[usize],
    ) -> Result<Load> {
        let counters = Arc::new(Counters::default());
        counters.height.store(net.height().await?, Ordering::Relaxed);
        let first = validators.first().context("no validator to send to")?;
        let watcher = watch_blocks(net.nodes[*first].metrics.clone(), counters.clone()).await?;
        let recipients: Arc<[Address]> = senders.iter().map(Wallet::address).collect();
        let lanes = validators.len() * FEEDERS;
        let mut shares: Vec<Vec<Slot>> = (0..lanes).map(|_| Vec::new()).collect();
        for (i, wallet) in senders.into_iter().enumerate() {
            shares[i % lanes].push(Slot { wallet, unsent: None });
        }
        let feeders = shares.into_iter().enumerate().map(|(lane, slots)| {
            let feeder = Feeder {
                rpc: net.nodes[validators[lane % validators.len()]].rpc.clone(),
                chain: net.chain,
                slots,
                recipients: recipients.clone(),
                rng: net.seed().rng(&format!("load lane {lane}")),
                counters: counters.clone(),
                in_flight,
            };
            tokio::spawn(feeder.run())
        });
        Ok(Load { feeders: feeders.collect(), counters, watcher })
    }

    /// Stops sending and returns the senders. What was accepted still becomes final.
    ///
    /// # Errors
    /// Where a validator failed to answer while the load ran.
    pub async fn stop(self) -> Result<Vec<Wallet>> {
        self.counters.stop.store(true, Ordering::Relaxed);
        self.counters.moved.notify_waiters();
        let mut senders = Vec::new();
        for feeder in self.feeders {
            senders.extend(feeder.await??);
        }
        let counters = &self.counters;
        let drained = wait::until("accepted transactions are final", Duration::from_secs(30), || async {
            (counters.in_flight() == 0).then_some(())
        });
        drained.await.with_context(|| format!("{} are not", counters.in_flight()))?;
        self.watcher.abort();
        Ok(senders)
    }
}

/// Counts what is final by one validator's metrics: a subscriber would make it tell of every transaction.
async fn watch_blocks(metrics: Rpc, counters: Arc<Counters>) -> Result<JoinHandle<()>> {
    let read = async move || metrics.text("/metrics").await.map(|text| Metrics::parse(&text));
    let before = read().await?.sum(TRANSACTIONS);
    Ok(tokio::spawn(async move {
        loop {
            if let Ok(now) = read().await {
                counters.finalized.store((now.sum(TRANSACTIONS) - before) as u64, Ordering::Relaxed);
                counters.height.fetch_max(now.sum("blockchain_height") as u64, Ordering::Relaxed);
                counters.moved.notify_waiters();
            }
            wait::let_it_run(LOOK_EVERY).await;
        }
    }))
}

/// A sender with what it signed and could not send yet.
struct Slot {
    wallet: Wallet,
    unsent: Option<SignedTransaction>,
}

/// Sends for a share of the senders, one request at a time: so the nonces of each arrive in order.
struct Feeder {
    rpc: Rpc,
    chain: Hash,
    slots: Vec<Slot>,
    recipients: Arc<[Address]>,
    rng: StdRng,
    counters: Arc<Counters>,
    in_flight: u64,
}

impl Feeder {
    async fn run(mut self) -> Result<Vec<Wallet>> {
        let mut cursor = 0;
        while !self.counters.stopping() && !self.slots.is_empty() {
            let chunk = self.sign(cursor)?;
            self.wait_for_room().await;
            if self.counters.stopping() {
                break;
            }
            let signed: Vec<SignedTransaction> = chunk.iter().filter_map(|i| self.slots[*i].unsent.clone()).collect();
            let taken = self.rpc.send_many(&signed).await?;
            let busy = taken.contains(&Taken::Later);
            for (index, taken) in chunk.iter().zip(taken) {
                self.note(*index, taken).await?;
            }
            cursor = (cursor + chunk.len()) % self.slots.len();
            if busy {
                wait::let_it_run(BUSY_PAUSE).await;
            }
        }
        // What was signed but never taken is as if it had not been.
        Ok(self.slots.into_iter().map(|s| s.unsigned()).collect())
    }

    /// The next senders, each with a transaction in its slot.
    fn sign(&mut self, cursor: usize) -> Result<Vec<usize>> {
        let expiry = self.counters.height.load(Ordering::Relaxed) + EXPIRY;
        let chunk: Vec<usize> = (0..CHUNK.min(self.slots.len())).map(|i| (cursor + i) % self.slots.len()).collect();
        for index in &chunk {
            let to = self.recipients[self.rng.random_range(0..self.recipients.len())];
            let slot = &mut self.slots[*index];
            if slot.unsent.is_none() {
                slot.unsent = Some(slot.wallet.work(&self.chain, to, expiry)?);
            }
        }
        Ok(chunk)
    }

    async fn wait_for_room(&self) {
        loop {
            let moved = self.counters.moved.notified();
            if self.counters.in_flight() < self.in_flight || self.counters.stopping() {
                return;
            }
            // Bounded, so that a notification that comes between look and wait costs little.
            let _ = tokio::time::timeout(Duration::from_millis(20), moved).await;
        }
    }

    async fn note(&mut self, index: usize, taken: Taken) -> Result<()> {
        let slot = &mut self.slots[index];
        match taken {
            Taken::Yes => {
                slot.unsent = None;
                self.counters.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Taken::Later => {
                self.counters.retried.fetch_add(1, Ordering::Relaxed);
            }
            Taken::No(code) => {
                self.counters.refuse(&code);
                slot.unsent = None;
                slot.wallet.nonce = self.rpc.balance(slot.wallet.address()).await?.1;
            }
        }
        Ok(())
    }
}

impl Slot {
    fn unsigned(mut self) -> Wallet {
        if self.unsent.is_some() {
            self.wallet.nonce -= 1;
        }
        self.wallet
    }
}

/// Time from the moment a transfer was due to its being final, each as a client sees it that sends and waits.
///
/// `rate` a second, for `time`, over these validators in turn; those that fail are counted, not timed.
///
/// # Errors
/// Where the chain does not answer at the start, or nothing can be signed.
pub async fn open_loop(
    net: &Localnet,
    senders: &mut [Wallet],
    rate: u32,
    time: Duration,
    validators: &[usize],
) -> Result<Latencies> {
    let mut height = net.height().await?;
    let mut height_read = Instant::now();
    let mut rng = net.seed().rng("open loop");
    let recipients: Vec<Address> = senders.iter().map(Wallet::address).collect();
    let total = (time.as_secs_f64() * f64::from(rate)) as usize;
    let start = Instant::now();
    let mut waits = Vec::with_capacity(total);
    for i in 0..total {
        let due = start + Duration::from_secs_f64(i as f64 / f64::from(rate));
        let now = Instant::now();
        if due > now {
            wait::let_it_run(due - now).await;
        }
        if height_read.elapsed() > Duration::from_secs(2) {
            height = net.height().await?;
            height_read = Instant::now();
        }
        let to = recipients[rng.random_range(0..recipients.len())];
        let sender = i % senders.len();
        let signed = senders[sender].work(&net.chain, to, height + EXPIRY)?;
        // A sender always at the same validator: its nonces arrive in order.
        let rpc = net.nodes[validators[sender % validators.len()]].rpc.clone();
        let chain = net.chain;
        waits.push(tokio::spawn(async move {
            rpc.send_final(&signed, &chain).await.map(|_| due.elapsed()).map_err(|cause| format!("{cause:#}"))
        }));
    }
    let mut latencies = Latencies::default();
    for wait in waits {
        latencies.add(wait.await?);
    }
    Ok(latencies)
}

/// One transfer after the other, with pauses, so that each meets an idle chain.
///
/// # Errors
/// Where the chain does not answer.
pub async fn one_by_one(net: &Localnet, sender: &mut Wallet, count: usize) -> Result<Latencies> {
    let mut rng = net.seed().rng("one by one");
    let mut latencies = Latencies::default();
    let expiry = net.height().await? + EXPIRY;
    for i in 0..count {
        // Of random length, so that it falls in step with nothing.
        wait::let_it_run(Duration::from_millis(rng.random_range(20..60))).await;
        let to = net.wallets.first().map_or(sender.address(), Wallet::address);
        let signed = sender.transfer(&net.chain, to, 1, expiry);
        let start = Instant::now();
        let outcome = net.nodes[i % net.nodes.len()].rpc.send_final(&signed, &net.chain).await;
        latencies.add(outcome.map(|_| start.elapsed()).map_err(|cause| format!("{cause:#}")));
    }
    Ok(latencies)
}

/// Times of many transactions.
#[derive(Default, Debug, Clone)]
pub struct Latencies {
    times: Vec<Duration>,
    /// Those that did not become final, and the first reason.
    pub failed: u64,
    /// Of the first failure.
    pub first_failure: Option<String>,
}

impl Latencies {
    fn add(&mut self, outcome: std::result::Result<Duration, String>) {
        match outcome {
            Ok(time) => self.times.push(time),
            Err(cause) => {
                self.failed += 1;
                self.first_failure.get_or_insert(cause);
            }
        }
    }

    /// Number of those timed.
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// Milliseconds within which `share` (0 to 1) of them were final.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let mut latencies = Latencies::default();
        (1..=100).rev().for_each(|ms| latencies.add(Ok(Duration::from_millis(ms))));
        assert_eq!((latencies.quantile(0.5), latencies.quantile(0.99)), (50.0, 99.0));
    }
}
