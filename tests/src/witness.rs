//! What clients and subscribers were told is final while a chain was tormented: none of it may be lost.

use crate::ledger_reader::LedgerReader;
use crate::localnet::Localnet;
use crate::rpc::Rpc;
use crate::subscriber::Subscriber;
use crate::wait;
use crate::wallet::Wallet;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Pause between two looks at what a subscriber received, and before a request that failed is sent again.
const PAUSE: Duration = Duration::from_millis(20);
/// How far above the head transfers expire.
const EXPIRY: u64 = 2_000;
/// How long a database may take to show what was told, after the torment.
const STORED_LIMIT: Duration = Duration::from_secs(20);

/// A block that a validator told its subscribers is final.
#[derive(Clone, Debug)]
struct Block {
    at: Instant,
    validator: usize,
    height: u64,
    hash: String,
}

#[derive(Default)]
struct Told {
    blocks: Vec<Block>,
    /// Id, height.
    transfers: BTreeMap<Hash, u64>,
    /// Highest height told by anybody.
    height: u64,
}

#[derive(Default)]
struct Shared {
    told: Mutex<Told>,
    stop: AtomicBool,
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A subscriber at every validator, and clients that send and wait, one transfer after the other, whatever happens.
pub struct Witness {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.clients.iter().chain(&self.watchers).for_each(JoinHandle::abort);
    }
}

impl Witness {
    /// Begins: a client a sender, each with a validator of its own choice.
    pub fn start(net: &Localnet, senders: Vec<Wallet>) -> Witness {
        let all: Vec<usize> = (0..net.nodes.len()).collect();
        Witness::start_on(net, senders, &all)
    }

    /// As [`Witness::start`], with clients at some of the nodes only: those that author batches.
    pub fn start_on(net: &Localnet, senders: Vec<Wallet>, validators: &[usize]) -> Witness {
        let shared = Arc::new(Shared::default());
        let to = net.wallets.first().map_or(net.nodes[0].address, Wallet::address);
        let clients = senders.into_iter().enumerate().map(|(i, wallet)| {
            let rpc = net.nodes[validators[i % validators.len()]].rpc.clone();
            tokio::spawn(Client { rpc, chain: net.chain, wallet, to, shared: shared.clone() }.run())
        });
        let watchers = net.nodes.iter().map(|node| tokio::spawn(watch(node.index, node.ws.clone(), shared.clone())));
        Witness { clients: clients.collect(), watchers: watchers.collect(), shared }
    }

    /// Highest final height that anybody told.
    pub fn height(&self) -> u64 {
        self.shared.told().height
    }

    /// Number of transfers that clients were told are final.
    pub fn transfers(&self) -> usize {
        self.shared.told().transfers.len()
    }

    /// Waits for a final block above `height`; returns when it was told first.
    ///
    /// # Errors
    /// After `limit`.
    pub async fn block_above(&self, height: u64, limit: Duration) -> Result<Instant> {
        wait::until(&format!("a final block above {height}"), limit, || async {
            let told = self.shared.told();
            told.blocks.iter().filter(|block| block.height > height).map(|block| block.at).min()
        })
        .await
    }

    /// Longest time since `from` in which these validators told of no new block, up to now.
    pub fn longest_pause(&self, from: Instant, validators: &[usize]) -> Duration {
        let told = self.shared.told();
        let heard = told.blocks.iter().filter(|block| block.at >= from && validators.contains(&block.validator));
        let mut times: Vec<Instant> = heard.map(|block| block.at).chain([from, Instant::now()]).collect();
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Ends the clients and compares what was told with what every running validator has stored: each block, each
    /// transfer, each once.
    ///
    /// # Errors
    /// Names what is lost.
    pub async fn end(mut self, net: &Localnet) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        join_all(std::mem::take(&mut self.clients)).await;
        self.watchers.iter().for_each(JoinHandle::abort);
        let told = std::mem::take(&mut *self.shared.told());
        ensure!(!told.transfers.is_empty(), "no client was told anything");
        for node in net.nodes.iter().filter(|node| node.process.pid().is_some()) {
            let reader = LedgerReader::open(&node.database_url)?;
            told.check(&reader).await.with_context(|| format!("validator {}", node.index))?;
        }
        println!("{} transfers and {} blocks told final, none lost", told.transfers.len(), told.height);
        Ok(())
    }
}

impl Told {
    async fn check(&self, reader: &LedgerReader) -> Result<()> {
        // A client may be told of a block before any watcher is.
        let highest = self.transfers.values().copied().fold(self.height, u64::max);
        let what = format!("the state of height {highest}");
        wait::until_ok(PAUSE, &what, STORED_LIMIT, || async {
            let (_, height) = reader.supply().await?;
            ensure!(height >= highest as i64, "it is of height {height}");
            Ok(())
        })
        .await?;
        let blocks = reader.blocks().await?;
        for Block { height, hash, validator, .. } in &self.blocks {
            let found = blocks.get(&(*height as i64));
            ensure!(found == Some(hash), "validator {validator} told block {height} is {hash}, found {found:?}");
        }
        let mut heights: BTreeMap<Hash, Vec<u64>> = BTreeMap::new();
        for (id, height) in reader.successful_transactions().await? {
            heights.entry(id).or_default().push(height);
        }
        for (id, height) in &self.transfers {
            let found = heights.get(id).map_or(&[][..], Vec::as_slice);
            ensure!(found == [*height], "transfer {id} was told final at {height}, found at {found:?}");
        }
        Ok(())
    }
}

/// Sends a transfer and waits for it, again and again until its fate is known, then the next.
struct Client {
    rpc: Rpc,
    chain: Hash,
    wallet: Wallet,
    to: Address,
    shared: Arc<Shared>,
}

impl Client {
    async fn run(mut self) {
        while !self.shared.stopping() {
            let expiry = self.shared.told().height + EXPIRY;
            let signed = self.wallet.transfer(&self.chain, self.to, 1, expiry);
            let id = signed.id(&self.chain);
            while !self.shared.stopping() {
                match self.rpc.send(&signed, &self.chain, "?wait=final").await {
                    Ok(answer) if answer.status == 200 && answer.body["status"] == "final" => {
                        let height = answer.body["height"].as_u64().unwrap_or_default();
                        self.shared.told().transfers.insert(id, height);
                        break;
                    }
                    // Refused: it may have become final with nobody told, or never will.
                    Ok(answer) if matches!(answer.status, 200 | 400 | 409 | 422) => {
                        self.settle().await;
                        break;
                    }
                    // Busy, still pending, or not there.
                    Ok(_) | Err(_) => wait::let_it_run(PAUSE).await,
                }
            }
        }
    }

    /// The next nonce as the chain has it.
    async fn settle(&mut self) {
        wait::let_it_run(PAUSE).await;
        if let Ok((_, nonce)) = self.rpc.balance(self.wallet.address()).await {
            self.wallet.nonce = nonce;
        }
    }
}

/// Notes the final blocks that a validator tells of, over as many connections as it takes.
async fn watch(validator: usize, ws: String, shared: Arc<Shared>) {
    loop {
        if let Ok(subscriber) = Subscriber::connect(&ws, &["new_blocks"]).await {
            loop {
                let closed = subscriber.closed().is_some();
                for event in subscriber.take() {
                    let (height, hash) = (event.data["height"].as_u64(), event.data["hash"].as_str());
                    let (Some(height), Some(hash)) = (height, hash) else { continue };
                    let mut told = shared.told();
                    told.height = told.height.max(height);
                    told.blocks.push(Block { at: event.at, validator, height, hash: hash.to_owned() });
                }
                if closed {
                    break;
                }
                wait::let_it_run(PAUSE).await;
            }
        }
        wait::let_it_run(PAUSE).await;
    }
}
