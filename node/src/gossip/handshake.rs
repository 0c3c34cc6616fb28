//! Who is it: WebSocket upgrade, Noise XX with a static key of this process, then both sides' signed Hello (protocol.md F8).
//!
//! ```text
//! dialer                                   listener
//!   GET /  Upgrade: websocket        →
//!                                    ←     101
//!   Noise e                          →
//!                                    ←     Noise e, ee, s, es
//!   Noise s, se                      →
//!   Hello                            →                          from here on encrypted
//!                                    ←     Hello | Refused
//!   then the two agree on one channel a pair, see `channels`
//! ```
//! The consensus key signs the hash of the whole handshake, so a Hello is worth nothing on another channel.

use super::limits::{
    GREETING_MAX_BYTES, PROTOCOL, READ_BUFFER_BYTES, RECORD_MAX_BYTES, SEALED_MAX_BYTES, TAG_BYTES, WRITE_BUFFER_BYTES,
};
use super::roster::Roster;
use super::turns::Turns;
use aitbc_core::codec;
use aitbc_core::hash::Hash;
use aitbc_core::hello::{Heard, Hello, Role};
use aitbc_core::key::{PublicKey, SecretKey, Signature};
use aitbc_core::validators::Index;
use borsh::{BorshDeserialize, BorshSerialize};
use futures_util::{SinkExt, StreamExt};
use snow::{Builder, HandshakeState, StatelessTransportState};
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Bytes, Message as Frame};

/// Noise pattern and primitives.
const NOISE: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";
/// Mixed into the handshake hash, so no other protocol's bytes fit.
const PROLOGUE: &[u8] = b"aitbc/gossip/v1";

/// A Hello for one channel.
pub fn say_hello(identity: &Identity, role: Role, binding: Hash) -> Hello {
    let hello = Hello {
        chain: identity.chain,
        protocol: PROTOCOL,
        key: identity.public,
        generation: identity.generation,
        binding,
        signature: Signature([0; 64]),
    };
    hello.signed(role, &identity.key)
}

/// Whether everything fits, so that the sender has its key. `role` is the sender's.
///
/// # Errors
/// Says what does not fit; the signature is checked before anything is concluded from the key.
pub fn check_hello(hello: &Hello, identity: &Identity, role: Role, binding: Hash) -> Result<(), Refusal> {
    if hello.protocol != PROTOCOL {
        return Err(Refusal::Protocol);
    }
    if hello.chain != identity.chain {
        return Err(Refusal::Chain);
    }
    if hello.binding != binding {
        return Err(Refusal::Binding);
    }
    if !hello.key.verifies(&hello.sign_bytes(role), &hello.signature) {
        return Err(Refusal::Signature);
    }
    if hello.key == identity.public {
        return Err(Refusal::OwnKey);
    }
    Ok(())
}

/// Noise keys of the processes that answered at addresses of PEERS, whoever they turned out to be. One of them may have a
/// channel though its key is unknown here, whichever of the two dials: each may be in epochs that the other does not know,
/// and then neither would let the other in.
#[derive(Default)]
pub struct Answered(Mutex<VecDeque<(SocketAddr, [u8; 32])>>);

impl Answered {
    /// Addresses whose processes are remembered; beyond, the one that answered longest ago is forgotten.
    const MAX: usize = 256;

    fn lock(&self) -> MutexGuard<'_, VecDeque<(SocketAddr, [u8; 32])>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An address has one process: the one before it is gone.
    fn note(&self, address: SocketAddr, process: [u8; 32]) {
        let mut answered = self.lock();
        answered.retain(|(known, _)| *known != address);
        answered.push_back((address, process));
        if answered.len() > Self::MAX {
            answered.pop_front();
        }
    }

    /// Whether an address of PEERS led to this process when it was last dialed.
    pub fn contains(&self, process: &[u8; 32]) -> bool {
        self.lock().iter().any(|(_, known)| known == process)
    }
}

/// Channels for which this process signed a Hello: shown to it later, such a Hello is no other process's (A2).
#[derive(Default)]
pub struct Bindings(Mutex<HashSet<Hash>>);

impl Bindings {
    /// A start has asked everybody long before so many handshakes, also one whom somebody refuses every two seconds for a day:
    /// 4 MiB. Beyond, any Hello may be an own one. None is forgotten: whoever got an early one may show it at any time, and it
    /// would look like another process's, so one liar could quarantine all others at once.
    const MAX: usize = 65_536;

    fn add(&self, binding: Hash) {
        let mut bindings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bindings.len() < Self::MAX {
            bindings.insert(binding);
        }
    }

    /// False where surely another process signed a Hello for it.
    pub fn may_contain(&self, binding: &Hash) -> bool {
        let bindings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bindings.contains(binding) || bindings.len() >= Self::MAX
    }
}

/// Why a peer is not let in. Told to it, so that both logs name the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum Refusal {
    /// Other protocol version.
    #[error("speaks another protocol version, {PROTOCOL} is spoken here")]
    Protocol,
    /// Other genesis.
    #[error("is on another chain (its genesis hash differs)")]
    Chain,
    /// A Hello made for another channel: replayed or relayed.
    #[error("showed a Hello made for another channel")]
    Binding,
    /// Wrong signature.
    #[error("did not sign its Hello with the key it claims")]
    Signature,
    /// The own key: another process runs with it.
    #[error("uses this validator's own key: two processes must never share one")]
    OwnKey,
    /// This very process: an address in PEERS is the own one.
    #[error("is this node itself")]
    OwnAddress,
    /// A validator neither of this epoch nor of those around it, no candidate for later ones, and none that PEERS here lead to;
    /// or one whose number has changed, as with an epoch, while the two agreed.
    #[error("is no validator of these epochs, nor a candidate")]
    UnknownKey,
    /// A later start of the same validator is connected.
    #[error("is an earlier start of a validator whose later start is connected")]
    Stale,
}

impl Refusal {
    /// Label in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Protocol => "other_protocol",
            Refusal::Chain => "other_chain",
            Refusal::Binding => "hello_of_other_channel",
            Refusal::Signature => "hello_signature",
            Refusal::OwnKey => "own_key",
            Refusal::OwnAddress => "own_address",
            Refusal::UnknownKey => "unknown_key",
            Refusal::Stale => "stale_generation",
        }
    }
}

/// What is said on a channel before it is open.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Greeting {
    /// First word of both sides.
    Hello(Hello),
    /// Last word: go away, and why.
    Refused(Refusal),
    /// The larger key says whether it has an open channel with this process of the other.
    Offer {
        /// True: it has one.
        live: bool,
    },
    /// The smaller key opens the channel.
    Open,
    /// The smaller key keeps the channel that is there.
    Duplicate,
}

/// Who this node is on the network.
pub struct Identity {
    /// Genesis hash.
    pub chain: Hash,
    /// Numbers of peers, and who may connect.
    pub roster: Mutex<Roster>,
    /// Consensus key.
    pub key: std::sync::Arc<SecretKey>,
    /// Its public half.
    pub public: PublicKey,
    /// Own lease generation.
    pub generation: u32,
    /// Noise static key pair of this process: never stored.
    pub process: snow::Keypair,
    /// Of its channels.
    pub bindings: Bindings,
    /// Whom PEERS lead to.
    pub answered: Answered,
    /// Of all handshakes.
    pub turns: Turns,
}

impl Identity {
    /// Numbers of peers, and who may connect.
    pub fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of whoever has proven its key, once it is its turn; `process` is its Noise key.
    ///
    /// # Errors
    /// Where it may have no channel.
    async fn admit(&self, hello: &Hello, process: &[u8; 32]) -> Result<Index, Refusal> {
        tokio::time::sleep_until(self.turns.take(&hello.key, process, Instant::now()).into()).await;
        let number = self.roster().admit(&hello.key, process, |process| self.answered.contains(process));
        number.ok_or(Refusal::UnknownKey)
    }

    /// A fresh Noise key pair.
    ///
    /// # Errors
    /// Where the system gives no randomness.
    pub fn generate_process_key() -> Result<snow::Keypair, snow::Error> {
        builder()?.generate_keypair()
    }
}

/// Of either end's Noise handshake.
pub(super) fn builder() -> Result<Builder<'static>, snow::Error> {
    Builder::new(NOISE.parse()?).prologue(PROLOGUE)
}

/// Why no channel came about, or what ended it.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// No TCP connection.
    #[error("connecting failed")]
    Connect(#[source] std::io::Error),
    /// It took too long.
    #[error("timed out")]
    Timeout,
    /// The WebSocket layer failed.
    #[error("the WebSocket failed")]
    WebSocket(#[source] Box<tungstenite::Error>),
    /// The other side closed.
    #[error("closed by the other side")]
    Closed,
    /// The Noise layer failed: not our protocol, or tampered with.
    #[error("the Noise handshake failed")]
    Noise(#[from] snow::Error),
    /// Something else than the greeting that was due.
    #[error("an unexpected greeting")]
    Unexpected,
    /// We refuse the peer.
    #[error("the peer {0}")]
    Refused(Refusal),
    /// The peer refuses us.
    #[error("the peer refuses this node: it says that this node {0}")]
    RefusedByPeer(Refusal),
    /// There is a channel to this peer already.
    #[error("there is a channel to peer {0} already")]
    Duplicate(Index),
}

impl HandshakeError {
    /// Label in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            HandshakeError::Connect(_) => "connect",
            HandshakeError::Timeout => "handshake_timeout",
            HandshakeError::WebSocket(_) => "websocket",
            HandshakeError::Closed => "handshake_closed",
            HandshakeError::Noise(_) => "noise",
            HandshakeError::Unexpected => "unexpected_greeting",
            HandshakeError::Refused(refusal) => refusal.name(),
            // Both logs must name this one: whoever operates either process has to act.
            HandshakeError::RefusedByPeer(Refusal::OwnKey) => Refusal::OwnKey.name(),
            HandshakeError::RefusedByPeer(_) => "refused_by_peer",
            HandshakeError::Duplicate(_) => "duplicate",
        }
    }
}

impl From<tungstenite::Error> for HandshakeError {
    fn from(error: tungstenite::Error) -> Self {
        HandshakeError::WebSocket(Box::new(error))
    }
}

/// A WebSocket whose messages are sealed by Noise.
pub struct Secure {
    /// The WebSocket.
    pub socket: WebSocketStream<TcpStream>,
    /// The ciphers.
    pub noise: StatelessTransportState,
    /// Number of the next record to send.
    pub send_nonce: u64,
    /// Number of the next record to receive.
    pub receive_nonce: u64,
}

/// A channel whose other end is proven to be whom the roster admits.
pub struct Session {
    /// The encrypted socket.
    pub secure: Secure,
    /// Who it is.
    pub peer: Index,
    /// What it said of itself.
    pub heard: Heard,
    /// Noise key of its process: tells a restarted peer from the same one.
    pub process: [u8; 32],
}

/// Bounds of the WebSocket layer: a frame header that announces more is refused before its payload is allocated.
pub fn socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(Some(SEALED_MAX_BYTES))
        .max_frame_size(Some(SEALED_MAX_BYTES))
}

/// Upgrades a TCP connection. `host` goes into the request of a dialer, so that an ingress can route it.
///
/// # Errors
/// Where the other end does not speak WebSocket.
pub async fn upgrade(tcp: TcpStream, role: Role, host: &str) -> Result<WebSocketStream<TcpStream>, HandshakeError> {
    let config = Some(socket_config());
    match role {
        Role::Dialer => {
            let url = format!("ws://{host}/");
            Ok(tokio_tungstenite::client_async_with_config(url, tcp, config).await?.0)
        }
        Role::Listener => Ok(tokio_tungstenite::accept_async_with_config(tcp, config).await?),
    }
}

/// Proves both ends to each other. The caller bounds the time.
///
/// # Errors
/// Says what failed; a refused peer has been told why.
pub async fn authenticate(
    socket: WebSocketStream<TcpStream>,
    role: Role,
    identity: &Identity,
) -> Result<Session, HandshakeError> {
    let (mut secure, binding, process) = noise(socket, role, &identity.process.private).await?;
    let own = Greeting::Hello(say_hello(identity, role, binding));
    let same_process = process[..] == identity.process.public[..];
    if role == Role::Dialer {
        if let Ok(address) = secure.socket.get_ref().peer_addr() {
            identity.answered.note(address, process);
        }
        identity.bindings.add(binding);
        secure.say(&own).await?;
    }
    let hello = match secure.hear().await? {
        Greeting::Hello(hello) => hello,
        Greeting::Refused(refusal) => return Err(HandshakeError::RefusedByPeer(refusal)),
        _ => return Err(HandshakeError::Unexpected),
    };
    let checked = match same_process {
        true => Err(Refusal::OwnAddress),
        false => check_hello(&hello, identity, role.other(), binding),
    };
    let admitted = match checked {
        Ok(()) => identity.admit(&hello, &process).await,
        Err(refusal) => Err(refusal),
    };
    let peer = match admitted {
        Ok(peer) => peer,
        Err(refusal) => return Err(secure.refuse(refusal).await),
    };
    if role == Role::Listener {
        // Only now, when the other end has proven who it is: strangers must not fill the list.
        identity.bindings.add(binding);
        secure.say(&own).await?;
    }
    Ok(Session { secure, peer, heard: Heard { role: role.other(), hello }, process })
}

/// Noise XX: three messages with empty payloads.
pub async fn noise(
    mut socket: WebSocketStream<TcpStream>,
    role: Role,
    private: &[u8],
) -> Result<(Secure, Hash, [u8; 32]), HandshakeError> {
    let builder = builder()?.local_private_key(private)?;
    let mut state = match role {
        Role::Dialer => builder.build_initiator()?,
        Role::Listener => builder.build_responder()?,
    };
    while !state.is_handshake_finished() {
        if state.is_my_turn() {
            let mut message = vec![0; GREETING_MAX_BYTES];
            let len = state.write_message(&[], &mut message)?;
            message.truncate(len);
            socket.send(Frame::binary(message)).await?;
        } else {
            let message = binary(&mut socket).await?;
            state.read_message(&message, &mut [0; GREETING_MAX_BYTES])?;
        }
    }
    let (binding, process) = facts(&state)?;
    let noise = state.into_stateless_transport_mode()?;
    Ok((Secure { socket, noise, send_nonce: 0, receive_nonce: 0 }, binding, process))
}

/// Handshake hash and the other side's static key.
fn facts(state: &HandshakeState) -> Result<(Hash, [u8; 32]), HandshakeError> {
    let hash = state.get_handshake_hash().try_into().map_err(|_| HandshakeError::Unexpected)?;
    let process = state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(HandshakeError::Unexpected)?;
    Ok((Hash(hash), process))
}

/// The next binary message; control frames are passed over.
async fn binary(socket: &mut WebSocketStream<TcpStream>) -> Result<Bytes, HandshakeError> {
    loop {
        match socket.next().await {
            None | Some(Ok(Frame::Close(_))) => return Err(HandshakeError::Closed),
            Some(Ok(Frame::Binary(bytes))) => return Ok(bytes),
            Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
            Some(Ok(_)) => return Err(HandshakeError::Unexpected),
            Some(Err(error)) => return Err(error.into()),
        }
    }
}

impl Secure {
    /// Sends a greeting at once.
    ///
    /// # Errors
    /// Where the socket fails.
    pub async fn say(&mut self, greeting: &Greeting) -> Result<(), HandshakeError> {
        let sealed = seal(&self.noise, &mut self.send_nonce, &codec::encode(greeting))?;
        Ok(self.socket.send(Frame::Binary(sealed)).await?)
    }

    /// Waits for a greeting.
    ///
    /// # Errors
    /// Where the socket fails, or the bytes are no greeting.
    pub async fn hear(&mut self) -> Result<Greeting, HandshakeError> {
        let sealed = binary(&mut self.socket).await?;
        let mut plain = [0; GREETING_MAX_BYTES];
        let len = open(&self.noise, &mut self.receive_nonce, &sealed, &mut plain)?;
        codec::decode(plain.get(..len).unwrap_or_default()).map_err(|_| HandshakeError::Unexpected)
    }

    /// Tells the peer why it is refused.
    pub async fn refuse(&mut self, refusal: Refusal) -> HandshakeError {
        // Whether it still listens does not change the outcome.
        let _ = self.say(&Greeting::Refused(refusal)).await;
        let _ = self.socket.close(None).await;
        HandshakeError::Refused(refusal)
    }
}

/// Seals one record; `nonce` counts on.
///
/// # Errors
/// Where the record is too large.
pub fn seal(noise: &StatelessTransportState, nonce: &mut u64, record: &[u8]) -> Result<Bytes, snow::Error> {
    debug_assert!(record.len() <= RECORD_MAX_BYTES);
    let mut sealed = vec![0; record.len() + TAG_BYTES];
    noise.write_message(*nonce, record, &mut sealed)?;
    *nonce += 1;
    Ok(sealed.into())
}

/// Opens one record into `plain`; `nonce` counts on. Returns its length.
///
/// # Errors
/// Where it was tampered with, replayed, reordered, or does not fit.
pub fn open(
    noise: &StatelessTransportState,
    nonce: &mut u64,
    sealed: &[u8],
    plain: &mut [u8],
) -> Result<usize, snow::Error> {
    let len = noise.read_message(*nonce, sealed, plain)?;
    *nonce += 1;
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aitbc_core::hash::plain;

    fn binding(n: usize) -> Hash {
        plain(&n.to_le_bytes())
    }

    #[test]
    fn a2_an_own_hello_is_known_for_ever_and_another_processs_is_told_from_it_after_a_day_of_refusals() {
        let bindings = Bindings::default();
        (0..43_200).for_each(|n| bindings.add(binding(n)));
        assert!(bindings.may_contain(&binding(0)) && !bindings.may_contain(&binding(100_000)));
        (43_200..100_000).for_each(|n| bindings.add(binding(n)));
        assert!(
            bindings.may_contain(&binding(0)) && bindings.may_contain(&binding(100_001)),
            "no liar makes it believe"
        );
        assert_eq!(bindings.0.lock().expect("no panic").len(), Bindings::MAX);
    }
}
