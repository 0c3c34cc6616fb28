//! Somebody on the network who wants no good: raw connections to a node's gossip port, and gossip by keys that lie.

use crate::localnet::Localnet;
use crate::proxy;
use crate::wait;
use aitbc_core::hash::Hash;
use aitbc_core::key::SecretKey;
use aitbc_core::validators::{Validator, ValidatorSet};
use aitbc_node::gossip::{Gossip, GossipConfig, GossipEvent, GossipHandle, Peers};
use aitbc_node::metrics::Metrics;
use anyhow::{Context, Result, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What a WebSocket client says first.
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// Longest wait for an answer to it.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Events of a lying peer waiting to be dropped.
const EVENTS: usize = 1_024;

/// A plain TCP connection to a gossip port.
///
/// # Errors
/// Where it is refused.
pub async fn connect(port: u16) -> Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("connect to a gossip port")
}

/// One that went as far as the WebSocket.
///
/// # Errors
/// Where the node does not switch protocols.
pub async fn upgraded(port: u16) -> Result<TcpStream> {
    let mut tcp = connect(port).await?;
    tcp.write_all(UPGRADE.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(tcp.read_u8().await?);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(ANSWER_LIMIT, read).await.context("no answer to the upgrade")??;
    ensure!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    Ok(tcp)
}

/// The bytes of a masked frame; `announced` may differ from the length of the payload.
pub fn frame(opcode: u8, announced: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode, 0x80 | 127];
    bytes.extend_from_slice(&announced.to_be_bytes());
    // The mask is zero, so the payload stands as it is.
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// Waits until the node has closed a connection; returns how long that took.
///
/// # Errors
/// After `limit`.
pub async fn closed(tcp: &mut TcpStream, limit: Duration) -> Result<Duration> {
    let start = Instant::now();
    let mut sink = [0; 4 << 10];
    let read = async { while let Ok(1..) = tcp.read(&mut sink).await {} };
    tokio::time::timeout(limit, read).await.with_context(|| format!("still open after {limit:?}"))?;
    Ok(start.elapsed())
}

/// Gossip as the node's own code speaks it, by a key and for a chain of one's choice.
pub struct Liar {
    /// Sends.
    pub gossip: GossipHandle,
    _stop: watch::Sender<bool>,
    events: JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.events.abort();
    }
}

impl Liar {
    /// Dials `port` as `key`, on a chain whose set is that of the net and this key.
    ///
    /// # Errors
    /// Where gossip does not start.
    pub fn start(net: &Localnet, key: SecretKey, chain: Hash, port: u16) -> Result<Liar> {
        let set = net.genesis.validator_set()?;
        let mut members: Vec<Validator> = set.members().to_vec();
        if set.index_of(&key.public()).is_none() {
            members.push(Validator { key: key.public(), weight: 1 });
        }
        Liar::dial(&ValidatorSet::new(members)?, key, chain, format!("127.0.0.1:{port}"))
    }

    /// Dials `peer` as `key`, on a chain with that set. The node there takes it for the newer one of two processes with this key.
    ///
    /// # Errors
    /// Where gossip does not start.
    pub fn dial(set: &ValidatorSet, key: SecretKey, chain: Hash, peer: String) -> Result<Liar> {
        let config = GossipConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            peers: vec![peer],
            chain,
            allowed: Peers::of_set(set),
            key: Arc::new(key),
            generation: u32::MAX,
            metrics: Arc::new(Metrics::new()?),
        };
        let (sender, mut received) = mpsc::channel::<GossipEvent>(EVENTS);
        let (stop, stopped) = watch::channel(false);
        let gossip = Gossip::start(config, sender, stopped)?;
        let events = tokio::spawn(async move { while received.recv().await.is_some() {} });
        Ok(Liar { gossip, _stop: stop, events })
    }

    /// Waits until the node has let it in.
    ///
    /// # Errors
    /// After `limit`.
    pub async fn let_in(&self, limit: Duration) -> Result<()> {
        wait::until("the node lets a peer in", limit, || async { self.gossip.connected().first().copied() })
            .await
            .map(|_| ())
    }
}

/// A relay to a gossip port that keeps what the dialer of its first connection says.
pub struct Tap {
    /// Port to dial.
    pub port: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tap {
    /// Listens.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start(target: u16) -> Result<Tap> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (port, heard) = (listener.local_addr()?.port(), Arc::default());
        let sink: Arc<Mutex<Vec<Vec<u8>>>> = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            let Ok((near, _)) = listener.accept().await else { return };
            let Ok(far) = connect(target).await else { return };
            let (near, mut far) = (near.into_split(), far.into_split());
            let (mut near_read, mut near_write) = near;
            let back = async { tokio::io::copy(&mut far.0, &mut near_write).await };
            let there = async {
                let mut chunk = vec![0; proxy::CHUNK_BYTES];
                while let Ok(count @ 1..) = near_read.read(&mut chunk).await {
                    sink.lock().unwrap_or_else(PoisonError::into_inner).push(chunk[..count].to_vec());
                    if far.1.write_all(&chunk[..count]).await.is_err() {
                        return;
                    }
                }
            };
            let _ = tokio::join!(back, there);
        });
        Ok(Tap { port, heard, task })
    }

    /// What the dialer said, in the pieces in which it came.
    ///
    /// # Errors
    /// Where it said nothing.
    pub fn heard(&self) -> Result<Vec<Vec<u8>>> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if heard.is_empty() {
            bail!("nobody dialed the tap");
        }
        Ok(heard)
    }
}
