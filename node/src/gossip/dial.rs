//! Dials one entry of PEERS for as long as the node runs: resolves its name at each attempt, backs off, comes back.

use super::addresses::{Addresses, Outcome, backoff};
use super::handshake::{HandshakeError, Refusal};
use super::limits::{CONNECT_TIMEOUT, RESOLVE_EVERY, RESOLVE_TIMEOUT, SEND_BUFFER_BYTES};
use super::{Shared, peer};
use aitbc_core::hello::Role;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep_until, timeout};
use tracing::{debug, warn};

/// Keeps the nodes behind `entry` (`host:port`) connected until the node stops.
pub async fn keep_connected(entry: String, shared: Arc<Shared>) {
    let mut changes = shared.channels.changes();
    let mut names = Resolver::new(&entry);
    let mut addresses = Addresses::default();
    let mut attempts = JoinSet::new();
    // The last failure of each address, so that a lasting one is one line in the log.
    let mut last_failure: BTreeMap<SocketAddr, &'static str> = BTreeMap::new();
    loop {
        let now = Instant::now();
        addresses.lost(|peer| shared.channels.get(peer).is_some(), now, rand::random());
        if names.is_due(now, addresses.any_due(now))
            && let Some(found) = names.resolve(&shared).await
        {
            addresses.resolved(found.into_iter(), Instant::now());
            last_failure.retain(|address, _| addresses.knows(address));
        }
        for address in addresses.take_due(Instant::now()) {
            let (shared, entry) = (shared.clone(), entry.clone());
            attempts.spawn(async move { (address, attempt(address, &entry, shared).await) });
        }
        let next = [addresses.next(), names.next()].into_iter().flatten().min();
        let next = next.unwrap_or_else(|| Instant::now() + RESOLVE_EVERY);
        tokio::select! {
            () = shared.stopped() => return,
            () = sleep_until(next.into()) => {}
            changed = changes.changed() => if changed.is_err() { return },
            Some(done) = attempts.join_next() => if let Ok((address, result)) = done {
                let outcome = judge(address, &entry, result, &mut last_failure, &shared);
                addresses.outcome(address, outcome, Instant::now(), rand::random());
            },
        }
    }
}

/// One attempt: TCP, handshake, agreement; an open channel runs on as its own task.
async fn attempt(address: SocketAddr, entry: &str, shared: Arc<Shared>) -> Result<u16, HandshakeError> {
    let connected = timeout(CONNECT_TIMEOUT, connect(address)).await.map_err(|_| HandshakeError::Timeout)?;
    let tcp = connected.map_err(HandshakeError::Connect)?;
    let opened = shared.establish(tcp, Role::Dialer, entry).await?;
    let peer = opened.channel.peer;
    tokio::spawn(peer::run(opened, shared));
    Ok(peer)
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The kernel may grant less; a smaller buffer only lets votes overtake sooner.
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What an attempt means for the next one; logs and counts failures.
fn judge(
    address: SocketAddr,
    entry: &str,
    result: Result<u16, HandshakeError>,
    last_failure: &mut BTreeMap<SocketAddr, &'static str>,
    shared: &Shared,
) -> Outcome {
    let error = match result {
        Ok(peer) | Err(HandshakeError::Duplicate(peer)) => {
            last_failure.remove(&address);
            return Outcome::Peer(peer);
        }
        Err(HandshakeError::Refused(Refusal::OwnAddress) | HandshakeError::RefusedByPeer(Refusal::OwnAddress)) => {
            return Outcome::OwnAddress;
        }
        Err(error) => error,
    };
    shared.refused(error.name());
    let quiet = matches!(error, HandshakeError::Connect(_) | HandshakeError::Timeout | HandshakeError::Closed);
    let known = last_failure.insert(address, error.name()) == Some(error.name());
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    if quiet || known {
        debug!(%address, entry, reason = error.name(), error = %error, cause, "no channel");
    } else {
        warn!(%address, entry, reason = error.name(), error = %error, cause, "no channel");
    }
    Outcome::Failed
}

/// Looks up one entry, never twice at a time: a resolver that hangs must not collect threads.
struct Resolver {
    entry: String,
    /// Set where the entry is an address: nothing to look up.
    literal: Option<SocketAddr>,
    running: Option<JoinHandle<std::io::Result<Vec<SocketAddr>>>>,
    failures: u32,
    again: Instant,
}

impl Resolver {
    fn new(entry: &str) -> Self {
        let literal = entry.parse().ok();
        Resolver { entry: entry.to_owned(), literal, running: None, failures: 0, again: Instant::now() }
    }

    /// Before each attempt, and now and then while nothing is to be dialed.
    fn is_due(&self, now: Instant, attempt_due: bool) -> bool {
        self.again <= now || (attempt_due && self.literal.is_none() && self.failures == 0)
    }

    fn next(&self) -> Option<Instant> {
        Some(self.again)
    }

    /// The addresses of the entry, or `None` where DNS did not answer: those known before stand.
    async fn resolve(&mut self, shared: &Shared) -> Option<Vec<SocketAddr>> {
        if let Some(literal) = self.literal {
            self.again = Instant::now() + RESOLVE_EVERY;
            return Some(vec![literal]);
        }
        let entry = self.entry.clone();
        let lookup = self.running.get_or_insert_with(|| {
            tokio::spawn(async move { tokio::net::lookup_host(entry).await.map(Iterator::collect) })
        });
        let answer = timeout(RESOLVE_TIMEOUT, lookup).await;
        if answer.is_ok() {
            self.running = None;
        }
        match answer {
            Ok(Ok(Ok(found))) => {
                self.failures = 0;
                self.again = Instant::now() + RESOLVE_EVERY;
                return Some(found);
            }
            Ok(Ok(Err(error))) => debug!(entry = self.entry, %error, "name not resolved"),
            Ok(Err(_)) | Err(_) => debug!(entry = self.entry, "name not resolved in time"),
        }
        shared.refused("resolve");
        self.again = Instant::now() + backoff(self.failures, rand::random());
        self.failures = self.failures.saturating_add(1);
        None
    }
}
