//! Clients of all kinds beside the transfers of a [`Load`](crate::load::Load): payments to many, the faucet, every reading
//! endpoint, subscribers that come and go, connections that are opened and dropped.

use crate::load::Counters;
use crate::localnet::Localnet;
use crate::rpc::Rpc;
use crate::subscriber::Subscriber;
use crate::wait;
use crate::wallet::Wallet;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_node::rpc::ROUTES;
use anyhow::{Context, Result};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Clients that read, one request at a time each.
const READERS: usize = 2;
/// Subscribers at a time.
const SUBSCRIBERS: usize = 8;
/// Clients that open connections and drop them.
const DROPPERS: usize = 2;
/// Pauses of a reader between two requests, of one that pays or drops, and how long a subscriber stays, in milliseconds.
const READ_PAUSE_MS: Range<u64> = 5..50;
const PAY_PAUSE_MS: Range<u64> = 50..300;
const DROP_AFTER_MS: Range<u64> = 0..1_000;
const STAY_MS: Range<u64> = 500..15_000;
/// Longest time between two looks at what a subscriber received, and until a client that shall end does.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most recipients of one payment to many.
const RECIPIENTS: usize = 16;
/// How far above the head payments expire.
const EXPIRY: u64 = 1_500;
/// Topics of subscribers.
const TOPICS: [&str; 3] = ["new_blocks", "new_transactions", "consensus_events"];
/// What some droppers send before they go: half of a request's head.
const HALF_A_REQUEST: &[u8] = b"GET /rpc/get_head HTTP/1.1\r\nhost: ";

/// What happened how often; and what should not have happened.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// By what was done and how it was answered.
    pub all: BTreeMap<String, u64>,
    /// Those of them that tell of a fault.
    pub wrong: BTreeMap<String, u64>,
}

/// A validator as its clients see it.
#[derive(Clone)]
struct Target {
    index: usize,
    rpc: Rpc,
    ws: String,
    ports: [String; 3],
    /// It is stopped and started meanwhile: no answer is no fault then.
    restarts: bool,
}

struct Shared {
    targets: Vec<Target>,
    chain: Hash,
    recipients: Vec<Address>,
    counters: Arc<Counters>,
    counts: Mutex<Counts>,
    /// A transaction that became final lately.
    last: Mutex<Option<String>>,
    stop: AtomicBool,
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn height(&self) -> u64 {
        self.counters.height.load(Ordering::Relaxed)
    }

    fn target(&self, rng: &mut StdRng) -> &Target {
        &self.targets[rng.random_range(0..self.targets.len())]
    }

    fn note(&self, what: String, wrong: bool) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong {
            *counts.wrong.entry(what.clone()).or_default() += 1;
        }
        *counts.all.entry(what).or_default() += 1;
    }
}

/// Runs until it is stopped.
pub struct MixedLoad {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl MixedLoad {
    /// Starts all clients. `payer` pays through the first validator; `restarts` is the validator that is stopped meanwhile.
    /// Its payments are told to the counters of the other load, which counts all that is final.
    pub fn start(net: &Localnet, payer: Wallet, counters: Arc<Counters>, restarts: usize) -> MixedLoad {
        let target = |node: &crate::localnet::Node| Target {
            index: node.index,
            rpc: node.rpc.clone(),
            ws: node.ws.clone(),
            ports: [
                node.rpc.base().trim_start_matches("http://").to_owned(),
                node.ws.trim_start_matches("ws://").to_owned(),
                format!("127.0.0.1:{}", node.gossip),
            ],
            restarts: node.index == restarts,
        };
        let shared = Arc::new(Shared {
            targets: net.nodes.iter().map(target).collect(),
            chain: net.chain,
            recipients: net.genesis.accounts.iter().map(|account| account.address).collect(),
            counters,
            counts: Mutex::default(),
            last: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let rng = |kind: &str, number: usize| net.seed().rng(&format!("mixed load: {kind} {number}"));
        let mut clients = vec![tokio::spawn(pay(shared.clone(), payer, rng("payer", 0)))];
        clients.extend((0..READERS).map(|i| tokio::spawn(read(shared.clone(), rng("reader", i)))));
        clients.extend((0..SUBSCRIBERS).map(|i| tokio::spawn(subscribe(shared.clone(), rng("subscriber", i)))));
        clients.extend((0..DROPPERS).map(|i| tokio::spawn(connect_and_drop(shared.clone(), rng("dropper", i)))));
        MixedLoad { shared, clients }
    }

    /// Ends all clients, with their connections, and returns what they counted.
    ///
    /// # Errors
    /// Where one of them panicked.
    pub async fn stop(mut self) -> Result<Counts> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.await?;
        }
        Ok(self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Drop for MixedLoad {
    fn drop(&mut self) {
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

async fn pause(rng: &mut StdRng, ms: Range<u64>) {
    wait::let_it_run(Duration::from_millis(rng.random_range(ms))).await;
}

/// Payments to many and requests to the faucet in turn, each waited for.
async fn pay(shared: Arc<Shared>, mut payer: Wallet, mut rng: StdRng) {
    let rpc = &shared.targets[0].rpc;
    let mut many = true;
    while !shared.stopping() {
        let expiry = shared.height() + EXPIRY;
        let (what, signed) = if many {
            let count = rng.random_range(1..=RECIPIENTS);
            let to: Vec<Address> =
                (0..count).map(|_| shared.recipients[rng.random_range(0..shared.recipients.len())]).collect();
            ("TRANSFER_MANY", payer.pay_all(&shared.chain, &to, 1, expiry))
        } else {
            ("FAUCET", payer.ask_faucet(&shared.chain, 1, expiry))
        };
        many = !many;
        match rpc.send_final(&signed, &shared.chain).await {
            Ok(status) => {
                shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
                *shared.last.lock().unwrap_or_else(PoisonError::into_inner) =
                    status["tx_hash"].as_str().map(str::to_owned);
                shared.note(format!("{what} final"), false);
            }
            Err(cause) => {
                shared.note(format!("{what}: {cause:#}"), true);
                if let Ok((_, nonce)) = rpc.balance(payer.address()).await {
                    payer.nonce = nonce;
                }
            }
        }
        pause(&mut rng, PAY_PAUSE_MS).await;
    }
}

/// Every reading endpoint, at random.
async fn read(shared: Arc<Shared>, mut rng: StdRng) {
    let routes: Vec<&str> = ROUTES.iter().filter_map(|route| route.strip_prefix("GET ")).collect();
    while !shared.stopping() {
        let route = routes[rng.random_range(0..routes.len())];
        let target = shared.target(&mut rng);
        if let Some(path) = filled(&shared, route, &mut rng) {
            match target.rpc.get(&path).await {
                // 503 is an honest answer of probes, and of a node that has too much to do.
                Ok(answer) => {
                    let wrong = answer.status >= 500 && answer.status != 503;
                    shared.note(format!("GET {route} {}", answer.status), wrong);
                }
                Err(_) if target.restarts => shared.note("GET while restarting".into(), false),
                Err(cause) => shared.note(format!("validator {}: GET {route}: {cause:#}", target.index), true),
            }
        }
        pause(&mut rng, READ_PAUSE_MS).await;
    }
}

/// A route with something that is there in the place of its parameter.
fn filled(shared: &Shared, route: &str, rng: &mut StdRng) -> Option<String> {
    let address = shared.recipients[rng.random_range(0..shared.recipients.len())].to_string();
    let height = rng.random_range(1..=shared.height().max(1));
    if route == "/rpc/headers" {
        return Some(format!("{route}?from={height}"));
    }
    let id = shared.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if route.contains("{id}") && id.is_none() {
        return None;
    }
    let path = route.replace("{address}", &address).replace("{height}", &height.to_string());
    Some(path.replace("{id}", &id.unwrap_or_default()))
}

/// One subscriber after the other, each for a while.
async fn subscribe(shared: Arc<Shared>, mut rng: StdRng) {
    while !shared.stopping() {
        let target = shared.target(&mut rng);
        let topics = &TOPICS[rng.random_range(0..TOPICS.len())..];
        let stay = Duration::from_millis(rng.random_range(STAY_MS));
        match Subscriber::connect(&target.ws, topics).await {
            Ok(subscriber) => {
                let events = listen(&shared, &subscriber, stay).await;
                let what = if events > 0 { "subscriber with events" } else { "subscriber without events" };
                shared.note(what.into(), false);
            }
            Err(_) if target.restarts => shared.note("subscriber while restarting".into(), false),
            Err(cause) => shared.note(format!("validator {}: subscribe: {cause:#}", target.index), true),
        }
        pause(&mut rng, READ_PAUSE_MS).await;
    }
}

/// Number of events until the end of the stay, of the connection or of all.
async fn listen(shared: &Shared, subscriber: &Subscriber, stay: Duration) -> usize {
    let (mut left, mut events) = (stay, 0);
    while !left.is_zero() && !shared.stopping() && subscriber.closed().is_none() {
        let step = left.min(LOOK_EVERY);
        wait::let_it_run(step).await;
        events += subscriber.take().len();
        left -= step;
    }
    events
}

/// Connections to any port, some with half a request, dropped after a while.
async fn connect_and_drop(shared: Arc<Shared>, mut rng: StdRng) {
    while !shared.stopping() {
        let target = shared.target(&mut rng);
        let port = &target.ports[rng.random_range(0..target.ports.len())];
        match open(port, rng.random_bool(0.5)).await {
            Ok(connection) => {
                pause(&mut rng, DROP_AFTER_MS).await;
                drop(connection);
                shared.note("connection dropped".into(), false);
            }
            Err(_) if target.restarts => shared.note("connection while restarting".into(), false),
            Err(cause) => shared.note(format!("validator {}: connect: {cause:#}", target.index), true),
        }
    }
}

async fn open(port: &str, half_a_request: bool) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(port).await.context("connect")?;
    if half_a_request {
        // A node that closes at once has seen what it needs to see.
        let _ = stream.write_all(HALF_A_REQUEST).await;
    }
    Ok(stream)
}
