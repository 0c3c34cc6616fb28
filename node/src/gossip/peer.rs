//! One channel from open to closed: a writer that empties the queues, a reader that hands out messages.

use super::channels::{Ending, Opened};
use super::handshake::{self, Greeting, Secure, Session};
use super::limits::{
    DRAIN_TIMEOUT, QUOTA_BURST_BYTES, QUOTA_BYTES_PER_SECOND, QUOTA_MESSAGE_BYTES, RECORD_MAX_BYTES, SEALED_MAX_BYTES,
    Timing,
};
use super::queue::Queues;
use super::wire::{Assembler, Class, Encoded, Incoming, PING, WireError};
use super::{GossipEvent, Shared};
use crate::quota::Quota;
use aitbc_core::validators::Index;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use snow::StatelessTransportState;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tracing::{info, warn};

/// The queues of a channel and the bell that wakes its writer.
pub struct Outbound {
    /// `None` once the channel has ended.
    queues: Mutex<Option<Queues>>,
    ready: Notify,
}

impl Default for Outbound {
    fn default() -> Self {
        Outbound { queues: Mutex::new(Some(Queues::default())), ready: Notify::new() }
    }
}

impl Outbound {
    fn queues(&self) -> MutexGuard<'_, Option<Queues>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message; never waits. Returns how many were dropped, this one included.
    pub fn push(&self, message: Encoded) -> usize {
        let dropped = self.queues().as_mut().map_or(1, |queues| queues.push(message));
        self.ready.notify_one();
        dropped
    }

    /// Whether an answer of so many bytes would not be dropped now.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.queues().as_ref().is_some_and(|queues| queues.has_room(bytes))
    }

    fn fill(&self, record: &mut Vec<u8>, left: impl FnMut(&Encoded)) {
        match self.queues().as_mut() {
            Some(queues) => queues.fill(record, left),
            None => record.clear(),
        }
    }

    /// Takes nothing more. Returns how many messages of each class never left.
    fn close(&self) -> [(Class, usize); 3] {
        self.queues().take().unwrap_or_default().depths()
    }
}

/// Why a channel ended.
#[derive(Debug, thiserror::Error)]
enum End {
    /// The other side closed, or its process is gone.
    #[error("closed by the peer")]
    Closed,
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Socket(#[source] tungstenite::Error),
    /// A frame over the limit, or one that is not binary.
    #[error("malformed frame: {0}")]
    Frame(String),
    /// A record did not open.
    #[error("a record was tampered with")]
    Noise(#[from] snow::Error),
    /// A record broke the format.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Nothing came for [`Timing::dead`].
    #[error("silent for too long")]
    Silent,
    /// Nothing could be sent for [`Timing::dead`].
    #[error("took nothing for too long")]
    Stalled,
    /// This node ended it.
    #[error("{}", .0.explanation())]
    Ended(Ending),
    /// This node stops.
    #[error("the node is stopping")]
    Stopping,
}

impl End {
    /// Label in metrics.
    fn name(&self) -> &'static str {
        match self {
            End::Closed => "closed_by_peer",
            End::Socket(_) => "socket",
            End::Frame(_) => "malformed_frame",
            End::Noise(_) => "bad_mac",
            End::Wire(WireError::TooLarge(_)) => "too_large",
            End::Wire(_) => "malformed_message",
            End::Silent => "silent",
            End::Stalled => "stalled",
            End::Ended(ending) => ending.name(),
            End::Stopping => "stopping",
        }
    }

    /// True where the peer broke the protocol; an honest one never does.
    fn is_violation(&self) -> bool {
        matches!(self, End::Frame(_) | End::Noise(_) | End::Wire(_))
    }
}

impl From<tungstenite::Error> for End {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => End::Closed,
            tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                End::Closed
            }
            tungstenite::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset => End::Closed,
            tungstenite::Error::Capacity(error) => End::Frame(error.to_string()),
            tungstenite::Error::Protocol(error) => End::Frame(error.to_string()),
            other => End::Socket(other),
        }
    }
}

/// Runs a channel until it ends, and tells the node of both.
pub async fn run(opened: Opened, shared: Arc<Shared>) {
    let Opened { session: Session { mut secure, peer, heard, .. }, channel, old, open_due } = opened;
    let said = if open_due { timeout(shared.timing.handshake, secure.say(&Greeting::Open)).await } else { Ok(Ok(())) };
    if let Some(old) = old {
        // The node hears of the old channel's end before it hears of the new one.
        old.finished().await;
    }
    if matches!(said, Ok(Ok(()))) && shared.events.send(GossipEvent::Connected(peer, heard)).await.is_ok() {
        shared.metrics.network_peers.inc();
        let address = channel.key.address();
        info!(peer, %address, "peer connected");
        let end = exchange(peer, secure, &channel.outbound, &shared, channel.ending()).await;
        shared.metrics.network_peers.dec();
        shared.refused(end.name());
        if end.is_violation() {
            warn!(peer, %address, reason = end.name(), error = %end, "channel closed: the peer broke the protocol");
        } else {
            info!(peer, %address, reason = end.name(), error = %end, "peer disconnected");
        }
        shared.channels.remove(&channel);
        // While stopping nobody may be reading any more.
        if shared.stopping() {
            let _ = shared.events.try_send(GossipEvent::Disconnected(peer));
        } else {
            let _ = shared.events.send(GossipEvent::Disconnected(peer)).await;
        }
    }
    shared.channels.remove(&channel);
    for (class, depth) in channel.outbound.close() {
        shared.counters.depth(class).sub(depth as i64);
    }
    channel.finish();
}

/// Reads and writes until one of them, this node or its stop ends it.
async fn exchange(
    peer: Index,
    secure: Secure,
    outbound: &Outbound,
    shared: &Shared,
    ending: impl Future<Output = Ending>,
) -> End {
    let Secure { socket, noise, send_nonce, receive_nonce } = secure;
    let (sink, stream) = socket.split();
    let mut writer = Writer {
        sink,
        noise: &noise,
        nonce: send_nonce,
        record: Vec::with_capacity(RECORD_MAX_BYTES),
        outbound,
        shared,
        timing: shared.timing,
    };
    let mut reader = Reader {
        stream,
        noise: &noise,
        nonce: receive_nonce,
        plain: vec![0; SEALED_MAX_BYTES],
        assembler: Assembler::default(),
        quota: Quota::new(QUOTA_BYTES_PER_SECOND, QUOTA_BURST_BYTES, Instant::now()),
        peer,
        shared,
    };
    let end = tokio::select! {
        end = writer.run() => end,
        end = reader.run() => end,
        ending = ending => End::Ended(ending),
        () = shared.stopped() => End::Stopping,
    };
    match end {
        End::Stopping => {
            // What is queued may be the vote that lets the others go on.
            let _ = timeout(DRAIN_TIMEOUT, writer.drain()).await;
        }
        End::Closed | End::Socket(_) | End::Stalled => {}
        _ => {
            let _ = timeout(DRAIN_TIMEOUT, writer.sink.close()).await;
        }
    }
    end
}

struct Writer<'a> {
    sink: SplitSink<WebSocketStream<TcpStream>, Frame>,
    noise: &'a StatelessTransportState,
    nonce: u64,
    record: Vec<u8>,
    outbound: &'a Outbound,
    shared: &'a Shared,
    timing: Timing,
}

impl Writer<'_> {
    async fn run(&mut self) -> End {
        loop {
            match self.turn().await {
                Ok(true) => {}
                // Nothing waits: all that is written goes out now, small messages of a moment in one packet.
                Ok(false) => match self.flush_and_wait().await {
                    Ok(()) => {}
                    Err(end) => return end,
                },
                Err(end) => return end,
            }
        }
    }

    /// Writes one record, if anything waits. No await between taking messages and writing them: a record is never lost.
    async fn turn(&mut self) -> Result<bool, End> {
        let ready = poll_fn(|cx| self.sink.poll_ready_unpin(cx));
        timeout(self.timing.dead, ready).await.map_err(|_| End::Stalled)??;
        let counters = &self.shared.counters;
        self.outbound.fill(&mut self.record, |message| {
            counters.sent(message.tag, message.bytes.len());
            counters.depth(message.class()).dec();
        });
        if self.record.is_empty() {
            return Ok(false);
        }
        self.write_record()?;
        Ok(true)
    }

    fn write_record(&mut self) -> Result<(), End> {
        let sealed = handshake::seal(self.noise, &mut self.nonce, &self.record)?;
        Ok(self.sink.start_send_unpin(Frame::Binary(sealed))?)
    }

    async fn flush_and_wait(&mut self) -> Result<(), End> {
        timeout(self.timing.dead, self.sink.flush()).await.map_err(|_| End::Stalled)??;
        if timeout(self.timing.ping, self.outbound.ready.notified()).await.is_err() {
            self.record.clear();
            self.record.push(PING);
            self.write_record()?;
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), End> {
        while self.turn().await? {}
        Ok(self.sink.close().await?)
    }
}

struct Reader<'a> {
    stream: SplitStream<WebSocketStream<TcpStream>>,
    noise: &'a StatelessTransportState,
    nonce: u64,
    plain: Vec<u8>,
    assembler: Assembler,
    quota: Quota,
    peer: Index,
    shared: &'a Shared,
}

impl Reader<'_> {
    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        let frame = timeout(self.shared.timing.dead, self.stream.next()).await.map_err(|_| End::Silent)?;
        let sealed = match frame.ok_or(End::Closed)?? {
            Frame::Binary(sealed) => sealed,
            Frame::Close(_) => return Err(End::Closed),
            Frame::Ping(_) | Frame::Pong(_) => return self.pay(QUOTA_MESSAGE_BYTES).await,
            Frame::Text(_) | Frame::Frame(_) => return Err(End::Frame("not a binary message".to_owned())),
        };
        let len = handshake::open(self.noise, &mut self.nonce, &sealed, &mut self.plain)?;
        let mut cost = sealed.len() as u64;
        let mut record = self.plain.get(..len).unwrap_or_default();
        while let Some(incoming) = self.assembler.next(&mut record)? {
            cost += QUOTA_MESSAGE_BYTES;
            if let Incoming::Message { tag, bytes, message } = incoming {
                self.shared.counters.received(tag, bytes);
                // A full channel stops the reading of this peer, and by TCP the peer.
                if self.shared.events.send(GossipEvent::Message(self.peer, message)).await.is_err() {
                    return Err(End::Stopping);
                }
            }
        }
        self.pay(cost).await
    }

    /// Over its quota a peer is slowed, never banned: a validator's votes must arrive.
    async fn pay(&mut self, cost: u64) -> Result<(), End> {
        let pause = self.quota.pay(cost, Instant::now());
        if !pause.is_zero() {
            self.shared.refused("throttled");
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }
}
