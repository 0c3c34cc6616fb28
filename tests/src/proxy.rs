//! The network between the validators of a localnet: every channel runs through a TCP proxy that obeys orders.
//!
//! ```text
//! validator a ─ PEERS ─▶ proxy a→b ─▶ validator b    both dial, and either channel may be the one in use: so faults
//! validator b ─ PEERS ─▶ proxy b→a ─▶ validator a    belong to a direction of traffic, whoever dialed
//! ```
//! TCP shows its users neither loss nor reordering: what the wire loses comes late, after retransmission time-outs that
//! double, and all that was sent behind it waits too. So does a chunk here; one that meets a cut is lost each time.

use crate::seed::Seed;
use crate::wait;
use anyhow::{Context, Result};
use futures_util::stream::{self, BoxStream, StreamExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// First and longest retransmission time-out, as Linux has them.
const RETRANSMIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(120));
/// A lost SYN is sent again after this long, when the dialer has given up (its CONNECT_TIMEOUT).
const SYN_LOST: Duration = Duration::from_secs(1);
/// Most bytes that are lost or delayed as one.
pub const CHUNK_BYTES: usize = 16 << 10;
/// Chunks on the way in one direction of a connection; beyond, the sender waits, as for a TCP window.
const WINDOW_CHUNKS: usize = 256;

/// What a direction of traffic suffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nothing arrives.
    pub cut: bool,
    /// Every chunk arrives so much later.
    pub delay: Duration,
    /// And by up to so much more, by chance.
    pub jitter: Duration,
    /// Of a hundred transmissions so many are lost, by chance.
    pub loss_percent: u32,
}

impl Faults {
    /// Nothing arrives.
    pub const CUT: Faults = Faults { cut: true, delay: Duration::ZERO, jitter: Duration::ZERO, loss_percent: 0 };

    fn lose(&self, rng: &mut StdRng) -> bool {
        self.cut || rng.random_range(0..100) < self.loss_percent
    }

    fn delay(&self, rng: &mut StdRng) -> Duration {
        self.delay + self.jitter.mul_f64(rng.random_range(0.0..1.0))
    }
}

/// Traffic from one validator to another, over whichever connections.
struct Direction {
    state: Mutex<State>,
}

struct State {
    faults: Faults,
    /// When bytes last arrived.
    arrived: Instant,
}

impl Direction {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> Faults {
        self.state().faults
    }

    /// Returns once a transmission arrives.
    async fn transmit(&self, rng: &mut StdRng) {
        let mut timeout = RETRANSMIT.0;
        while self.faults().lose(rng) {
            wait::let_it_run(timeout).await;
            timeout = (timeout * 2).min(RETRANSMIT.1);
        }
        self.state().arrived = Instant::now();
    }
}

/// The proxy that one validator dials to reach another.
struct Link {
    /// `a→b`, names the random choices.
    name: String,
    seed: Seed,
    /// Port of the dialed validator.
    target: u16,
    /// From the dialer.
    there: Arc<Direction>,
    /// To the dialer.
    back: Arc<Direction>,
    /// Changes when all connections are to be reset.
    resets: watch::Sender<u64>,
}

/// All links of a localnet.
pub struct Network {
    validators: usize,
    /// By sender and receiver.
    directions: Vec<Arc<Direction>>,
    links: Vec<Arc<Link>>,
    ports: Vec<u16>,
    tasks: Vec<JoinHandle<()>>,
}

impl Network {
    /// A proxy for each validator's way to each other one; `gossip` are the ports on which they listen.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start(seed: Seed, gossip: &[u16]) -> Result<Network> {
        let validators = gossip.len();
        let state = || State { faults: Faults::default(), arrived: Instant::now() };
        let directions: Vec<Arc<Direction>> =
            (0..validators * validators).map(|_| Arc::new(Direction { state: Mutex::new(state()) })).collect();
        let mut network = Network { validators, directions, links: Vec::new(), ports: Vec::new(), tasks: Vec::new() };
        for from in 0..validators {
            for (to, target) in gossip.iter().enumerate() {
                let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for a proxy")?;
                network.ports.push(listener.local_addr()?.port());
                let link = Arc::new(Link {
                    name: format!("{from}→{to}"),
                    seed,
                    target: *target,
                    there: network.direction(from, to).clone(),
                    back: network.direction(to, from).clone(),
                    resets: watch::Sender::new(0),
                });
                network.tasks.push(tokio::spawn(link.clone().accept(listener)));
                network.links.push(link);
            }
        }
        Ok(network)
    }

    fn direction(&self, from: usize, to: usize) -> &Arc<Direction> {
        &self.directions[from * self.validators + to]
    }

    /// The port that validator `from` dials for validator `to`.
    pub fn port(&self, from: usize, to: usize) -> u16 {
        self.ports[from * self.validators + to]
    }

    /// Sets what traffic from one validator to another suffers from now on.
    pub fn set(&self, from: usize, to: usize, faults: Faults) {
        self.direction(from, to).state().faults = faults;
    }

    /// The same for all traffic of a validator, both ways.
    pub fn set_all_of(&self, validator: usize, faults: Faults) {
        for other in (0..self.validators).filter(|other| *other != validator) {
            self.set(validator, other, faults);
            self.set(other, validator, faults);
        }
    }

    /// Cuts both ways between some validators and all others.
    pub fn partition(&self, side: &[usize]) {
        for from in 0..self.validators {
            for to in (0..self.validators).filter(|to| side.contains(to) != side.contains(&from)) {
                self.set(from, to, Faults::CUT);
            }
        }
    }

    /// Ends all faults. What waits for its retransmission goes on waiting for it.
    pub fn heal(&self) {
        self.directions.iter().for_each(|direction| direction.state().faults = Faults::default());
    }

    /// Closes every connection between two validators at once, by TCP reset.
    pub fn reset(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            self.links[from * self.validators + to].resets.send_modify(|count| *count += 1);
        }
    }

    /// Whether bytes have arrived in every direction after a moment: whether that moment's cuts are over for all.
    pub fn all_arrived_since(&self, moment: Instant) -> bool {
        let pairs = (0..self.validators).flat_map(|a| (0..self.validators).map(move |b| (a, b)));
        pairs.filter(|(a, b)| a != b).all(|(a, b)| self.direction(a, b).state().arrived > moment)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Link {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        for number in 0u64.. {
            let Ok((near, _)) = listener.accept().await else { return };
            let link = self.clone();
            tokio::spawn(async move { link.carry(near, number).await });
        }
    }

    fn rng(&self, number: u64, purpose: &str) -> StdRng {
        self.seed.rng(&format!("link {} connection {number} {purpose}", self.name))
    }

    fn chance(&self, number: u64, way: &str) -> Chance {
        Chance {
            delays: self.rng(number, &format!("{way} delays")),
            losses: self.rng(number, &format!("{way} losses")),
        }
    }

    /// One connection, from SYN to its end.
    async fn carry(&self, mut near: TcpStream, number: u64) {
        let mut rng = self.rng(number, "syn");
        if self.there.faults().lose(&mut rng) || self.back.faults().lose(&mut rng) {
            return wait::let_it_run(SYN_LOST).await;
        }
        let Ok(mut far) = TcpStream::connect(("127.0.0.1", self.target)).await else { return };
        if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
            return;
        }
        let mut resets = self.resets.subscribe();
        let was_reset = {
            let (near_read, near_write) = near.split();
            let (far_read, far_write) = far.split();
            let there = pump(near_read, far_write, &self.there, self.chance(number, "there"));
            let back = pump(far_read, near_write, &self.back, self.chance(number, "back"));
            tokio::select! {
                _ = resets.changed() => true,
                _ = async { tokio::join!(there, back) } => false,
            }
        };
        if was_reset {
            // Fails only where the other end has closed.
            let _ = near.set_zero_linger();
            let _ = far.set_zero_linger();
        }
    }
}

/// Random choices for one way of one connection; two, so that how chunks are read does not change which are lost.
struct Chance {
    delays: StdRng,
    losses: StdRng,
}

/// Carries bytes one way, in order, until the sender closes or the receiver is gone. Each chunk is lost and sent again for
/// itself, as with selective acknowledgements; it is delivered when all before it have arrived.
async fn pump(from: ReadHalf<'_>, mut to: WriteHalf<'_>, direction: &Direction, mut chance: Chance) {
    let mut last = StdRng::from_rng(&mut chance.losses);
    let chunks = stream::unfold((from, chance), move |(mut from, mut chance)| async move {
        let mut bytes = vec![0; CHUNK_BYTES];
        let count = from.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
        bytes.truncate(count);
        let due = Instant::now() + direction.faults().delay(&mut chance.delays);
        let losses = StdRng::from_rng(&mut chance.losses);
        Some(((due, bytes, losses), (from, chance)))
    });
    // Boxed, because the compiler does not see otherwise that the whole is `Send`.
    let chunks: BoxStream<'_, _> = chunks.boxed();
    let arrivals = chunks.map(move |(due, bytes, mut losses): (Instant, Vec<u8>, StdRng)| async move {
        wait::let_it_run(due.saturating_duration_since(Instant::now())).await;
        direction.transmit(&mut losses).await;
        bytes
    });
    let mut arrivals: BoxStream<'_, Vec<u8>> = arrivals.buffered(WINDOW_CHUNKS).boxed();
    while let Some(bytes) = arrivals.next().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    direction.transmit(&mut last).await;
    // Fails only where the receiver is gone.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network of two whose second end is this test's listener: the dialing end and the listening end.
    async fn pair(faults: Faults) -> (Network, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let network = Network::start(Seed(1), &[port, port]).await.expect("a network");
        let near = TcpStream::connect(("127.0.0.1", network.port(0, 1))).await.expect("connected");
        let (far, _) = listener.accept().await.expect("accepted");
        network.set(0, 1, faults);
        (network, near, far)
    }

    async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).await.expect("readable");
        bytes
    }

    #[tokio::test]
    async fn a_cut_one_way_holds_that_way_only_and_what_it_held_arrives_after_the_heal() {
        let (network, mut near, mut far) = pair(Faults::CUT).await;
        near.write_all(b"there").await.expect("written");
        far.write_all(b"back").await.expect("written");
        assert_eq!(read(&mut near, 4).await, b"back");
        let held = tokio::time::timeout(Duration::from_millis(300), far.peek(&mut [0; 5])).await;
        assert!(held.is_err(), "bytes came through a cut");
        let healed = Instant::now();
        assert!(!network.all_arrived_since(healed));
        network.heal();
        assert_eq!(read(&mut far, 5).await, b"there");
        far.write_all(b"!").await.expect("written");
        assert_eq!(read(&mut near, 1).await, b"!");
    }

    #[tokio::test]
    async fn delay_and_loss_change_no_byte_and_no_order() {
        let faults =
            Faults { delay: Duration::from_millis(30), jitter: Duration::from_millis(30), ..Faults::default() };
        let (_network, mut near, mut far) = pair(Faults { loss_percent: 30, ..faults }).await;
        let sent: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let (start, copy) = (Instant::now(), sent.clone());
        let writer = tokio::spawn(async move {
            near.write_all(&copy).await.expect("written");
            near
        });
        assert_eq!(read(&mut far, sent.len()).await, sent);
        assert!(start.elapsed() >= Duration::from_millis(30));
        drop(writer.await);
    }

    #[tokio::test]
    async fn a_reset_ends_what_is_open_and_not_what_comes_after() {
        let (network, mut near, mut far) = pair(Faults::default()).await;
        near.write_all(b"a").await.expect("written");
        assert_eq!(read(&mut far, 1).await, b"a");
        network.reset(0, 1);
        assert!(near.read_u8().await.is_err() && far.read_u8().await.is_err());
        let again = TcpStream::connect(("127.0.0.1", network.port(0, 1))).await;
        assert!(again.is_ok());
    }

    #[test]
    fn the_same_seed_loses_the_same_transmissions() {
        let faults = Faults { loss_percent: 20, ..Faults::default() };
        let run = |seed: u64| {
            let mut rng = Seed(seed).rng("losses");
            (0..1_000).map(|_| faults.lose(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let lost = run(1).iter().filter(|lost| **lost).count();
        assert!((150..250).contains(&lost), "{lost} of 1,000 lost at 20 %");
    }
}
