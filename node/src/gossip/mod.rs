//! Authenticated channels to the other validators: Noise inside WebSocket, bounded queues, one channel a peer.
//!
//! ```text
//! PEERS → addresses → dial ─┐                                       ┌→ peer: writer ← queue ← send, broadcast (wire: encode once)
//!                           ├→ handshake (who) → channels (which) → ┤
//! listener → listen ────────┘                                       └→ peer: reader → wire (caps, decode) → GossipEvent
//! ```
//! Only validators of these epochs get a channel ([`Peers`]), candidates for later ones, and whom PEERS lead to. A peer that
//! reads slowly loses messages from its own queues and slows nobody else; one that sends too much is read more slowly; one that
//! breaks the format is closed and may come again. Nobody is banned: a ban could cost the chain a quorum.

mod addresses;
mod channels;
mod dial;
mod handshake;
mod limits;
mod listen;
mod peer;
mod queue;
mod roster;
mod turns;
mod wire;

#[cfg(test)]
mod tests;

use crate::metrics::Metrics;
use aitbc_core::hash::Hash;
use aitbc_core::hello::{Heard, Hello, Role};
use aitbc_core::key::{PublicKey, SecretKey};
use aitbc_core::message::Message;
use aitbc_core::validators::{Index, ValidatorSet};
use channels::{Channels, Ending, Opened};
use handshake::{Answered, Bindings, HandshakeError, Identity};
use limits::{SEND_BUFFER_BYTES, Timing};
use prometheus::{IntCounter, IntGauge};
pub use roster::Peers;
use roster::Roster;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use turns::Turns;
pub use wire::TooLarge;
use wire::{Class, Encoded, KINDS, TYPES};

/// What gossip tells the node. Sent into one bounded channel; a full channel slows the peer, never the node.
#[derive(Debug)]
pub enum GossipEvent {
    /// A channel is up; what the peer said of itself.
    Connected(Index, Heard),
    /// A channel is gone. Always between two `Connected` of one peer.
    Disconnected(Index),
    /// A message came, decoded and within its caps.
    Message(Index, Message),
}

/// What gossip needs to know.
pub struct GossipConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `host:port` of the other validators; the own address among them does no harm.
    pub peers: Vec<String>,
    /// Genesis hash.
    pub chain: Hash,
    /// Who may connect.
    pub allowed: Peers,
    /// Consensus key of this validator.
    pub key: Arc<SecretKey>,
    /// Its lease generation.
    pub generation: u32,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Why gossip did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener's address is taken or not ours.
    #[error("listening for peers on {address} failed")]
    Listen {
        /// P2P_HOST and P2P_PORT.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// No Noise key.
    #[error("generating the key of the channels failed")]
    Noise(#[source] snow::Error),
}

/// Why a message was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Over its type's cap.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// There is no channel to this peer now.
    #[error("peer {0} is not connected")]
    NotConnected(Index),
}

/// What the tasks of gossip share.
struct Shared {
    identity: Identity,
    channels: Channels,
    events: mpsc::Sender<GossipEvent>,
    stop: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    counters: Counters,
    timing: Timing,
}

/// Starts gossip.
pub struct Gossip;

/// Sends to peers; cheap to clone. Nothing here waits.
#[derive(Clone)]
pub struct GossipHandle {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Closed once nothing listens any more.
    listening: watch::Receiver<()>,
}

impl Gossip {
    /// Listens and dials until `stop` becomes true; then sends what is queued for half a second and closes. Must be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// Where the listener cannot be bound.
    pub fn start(
        config: GossipConfig,
        events: mpsc::Sender<GossipEvent>,
        stop: watch::Receiver<bool>,
    ) -> Result<GossipHandle, StartError> {
        Gossip::start_with(config, Timing::default(), events, stop)
    }

    fn start_with(
        config: GossipConfig,
        timing: Timing,
        events: mpsc::Sender<GossipEvent>,
        stop: watch::Receiver<bool>,
    ) -> Result<GossipHandle, StartError> {
        let GossipConfig { listen, peers, chain, allowed, key, generation, metrics } = config;
        let (public, roster) = (key.public(), Mutex::new(Roster::new(allowed)));
        let process = Identity::generate_process_key().map_err(StartError::Noise)?;
        let failed = |source| StartError::Listen { address: listen, source };
        let listener = bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            channels: Channels::default(),
            identity: Identity {
                chain,
                roster,
                key,
                public,
                generation,
                process,
                bindings: Bindings::default(),
                answered: Answered::default(),
                turns: Turns::default(),
            },
            events,
            stop,
            counters: Counters::new(&metrics),
            metrics,
            timing,
        });
        let (open, listening) = watch::channel(());
        let accept = listen::accept(listener, shared.clone());
        tokio::spawn(async move {
            accept.await;
            drop(open);
        });
        for entry in peers {
            tokio::spawn(dial::keep_connected(entry, shared.clone()));
        }
        Ok(GossipHandle { shared, address, listening })
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    /// Connections the kernel holds until they are accepted.
    const BACKLOG: u32 = 256;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the old process's sockets to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it.
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl GossipHandle {
    /// Queues a message for one peer.
    ///
    /// # Errors
    /// Where it is over its cap, or the peer not connected. A message queued may still be lost.
    pub fn send(&self, to: Index, message: &Message) -> Result<(), SendError> {
        let channel = self.shared.channels.get(to).ok_or(SendError::NotConnected(to))?;
        self.shared.push(&channel, wire::encode(message)?);
        Ok(())
    }

    /// Queues a message for every connected peer, encoded once. Batches go to none that only follows: it gets those of final
    /// blocks when it asks for the blocks, and what a stake costs must not multiply what all validators send.
    ///
    /// # Errors
    /// Where it is over its cap.
    pub fn broadcast(&self, message: &Message) -> Result<(), TooLarge> {
        let encoded = wire::encode(message)?;
        let batch = encoded.class() == Class::Batches;
        self.shared.channels.for_each(|channel| {
            if !(batch && roster::is_follower(channel.peer)) {
                self.shared.push(channel, encoded.clone());
            }
        });
        Ok(())
    }

    /// Whether a peer takes part in consensus, as far as this node knows; what others say of it is not listened to.
    pub fn takes_part(&self, number: Index) -> bool {
        !roster::is_follower(number) && !roster::is_stranger(number)
    }

    /// Whether this very process signed a Hello, or may have: one of its own generation on a channel it no longer remembers.
    pub fn said(&self, hello: &Hello) -> bool {
        let identity = &self.shared.identity;
        hello.generation == identity.generation && identity.bindings.may_contain(&hello.binding)
    }

    /// Whether an answer of block or state sync with so many bytes could be queued for a peer: else making it is in vain.
    pub fn has_room(&self, to: Index, bytes: usize) -> bool {
        self.shared.channels.get(to).is_some_and(|channel| channel.outbound.has_room(bytes))
    }

    /// Returns when the port is free again, after a stop: a later start in this process needs it.
    pub async fn closed(&self) {
        // Nothing is ever sent: an error is what is waited for.
        let _ = self.listening.clone().changed().await;
    }

    /// An epoch has begun (E5). Who may have no channel any more loses it; who has become a validator gets one under its
    /// number there.
    pub fn follow(&self, peers: Peers) {
        self.shared.identity.roster().follow(peers);
        self.end_others();
    }

    /// Candidates that may connect now, though no set of these epochs has them.
    pub fn let_in(&self, candidates: BTreeSet<PublicKey>) {
        self.shared.identity.roster().let_in(candidates);
        self.end_others();
    }

    /// Ends channels to those who may have none, or have another number by now.
    fn end_others(&self) {
        self.shared.channels.for_each(|channel| {
            if self.number_of(&channel.key) != Some(channel.peer) {
                channel.end(Ending::NotOfEpoch);
            }
        });
    }

    /// Number of a key that may have a channel.
    pub fn number_of(&self, key: &PublicKey) -> Option<Index> {
        self.shared.identity.roster().number_of(key)
    }

    /// Key of a number.
    pub fn key_of(&self, peer: Index) -> Option<PublicKey> {
        self.shared.identity.roster().key_of(peer)
    }

    /// Peers with an open channel, ascending.
    pub fn connected(&self) -> Vec<Index> {
        self.shared.channels.open().iter().map(|channel| channel.peer).collect()
    }

    /// Members of a set with an open channel, and under which number.
    pub fn connected_of(&self, set: &ValidatorSet) -> BTreeMap<PublicKey, Index> {
        let mut members = BTreeMap::new();
        self.shared.channels.for_each(|channel| {
            if set.index_of(&channel.key).is_some() {
                members.insert(channel.key, channel.peer);
            }
        });
        members
    }

    /// Where this node listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Shared {
    /// From a TCP connection to a channel that both ends agree on, within the handshake's time.
    async fn establish(&self, tcp: TcpStream, role: Role, host: &str) -> Result<Opened, HandshakeError> {
        let steps = async {
            let socket = handshake::upgrade(tcp, role, host).await?;
            let session = handshake::authenticate(socket, role, &self.identity).await?;
            self.channels.agree(session, &self.identity).await
        };
        timeout(self.timing.handshake, steps).await.map_err(|_| HandshakeError::Timeout)?
    }

    fn push(&self, channel: &Arc<channels::Channel>, message: Encoded) {
        let class = message.class();
        let dropped = channel.outbound.push(message);
        self.counters.depth(class).add(1 - dropped as i64);
        if dropped > 0 {
            self.counters.dropped(class).inc_by(dropped as u64);
        }
    }

    /// Counts a connection that was refused or closed, or a read that was put off.
    fn refused(&self, reason: &str) {
        self.metrics.network_refused.with_label_values(&[reason]).inc();
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Returns when the node stops, or whoever could stop it is gone.
    async fn stopped(&self) {
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }
}

/// Counters looked up once: by label they cost more than a vote's encryption.
struct Counters {
    sent: [IntCounter; TYPES],
    received: [IntCounter; TYPES],
    bytes_out: IntCounter,
    bytes_in: IntCounter,
    dropped: [IntCounter; 3],
    depth: [IntGauge; 3],
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let messages = |direction: &str| {
            std::array::from_fn(|tag| metrics.messages.with_label_values(&[KINDS[tag].name, direction]))
        };
        Counters {
            sent: messages("out"),
            received: messages("in"),
            bytes_out: metrics.network_bytes.with_label_values(&["out"]),
            bytes_in: metrics.network_bytes.with_label_values(&["in"]),
            dropped: Class::ALL.map(|class| metrics.network_dropped.with_label_values(&[class.name()])),
            depth: Class::ALL
                .map(|class| metrics.queue_depth.with_label_values(&[&format!("gossip_{}", class.name())])),
        }
    }

    fn sent(&self, tag: u8, bytes: usize) {
        if let Some(counter) = self.sent.get(usize::from(tag)) {
            counter.inc();
        }
        self.bytes_out.inc_by(bytes as u64);
    }

    fn received(&self, tag: u8, bytes: usize) {
        if let Some(counter) = self.received.get(usize::from(tag)) {
            counter.inc();
        }
        self.bytes_in.inc_by(bytes as u64);
    }

    fn dropped(&self, class: Class) -> &IntCounter {
        &self.dropped[class as usize]
    }

    fn depth(&self, class: Class) -> &IntGauge {
        &self.depth[class as usize]
    }
}
