//! One HTTP listener: accepts, bounds and closes connections, stops within a few seconds.
//!
//! At the cap the connection that has been idle longest makes room, so thousands of idle sockets keep nobody out.

use super::limits::STOP_TIMEOUT;
use super::stall::StallLimit;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Pause after a failed accept: most often no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a request's head, and of what is read ahead of a body.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// What a client gets that finds every connection busy.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
connection: close\r\ncontent-length: 79\r\n\r\n\
{\"code\":\"BUSY\",\"message\":\"every connection is busy; try again\",\"detail\":{}}    ";

/// A listener and what it serves.
pub(super) struct Server {
    /// Where.
    pub(super) listener: TcpListener,
    /// What.
    pub(super) router: Router,
    /// Most open connections.
    pub(super) cap: usize,
    /// How long a request's head may take, and a connection be idle.
    pub(super) head_timeout: Duration,
    /// Counts what is refused.
    pub(super) metrics: Arc<Metrics>,
    /// The wish to stop.
    pub(super) shutdown: Shutdown,
}

/// What is known of an open connection.
struct Connection {
    /// Requests being answered: 0 or 1 by HTTP/1.1.
    in_flight: AtomicUsize,
    /// Milliseconds from the server's start to its last request or answer.
    active_ms: AtomicU64,
    evicted: Notify,
}

/// All open connections of a listener.
struct Connections {
    started: Instant,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
}

impl Connections {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        // A thread that panicked within left a map that is as good as before.
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn add(&self) -> (u64, Arc<Connection>) {
        let connection = Arc::new(Connection {
            in_flight: AtomicUsize::new(0),
            active_ms: AtomicU64::new(self.now_ms()),
            evicted: Notify::new(),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, connection.clone());
        (id, connection)
    }

    /// Makes room where `cap` is reached; false where every connection is busy.
    fn make_room(&self, cap: usize) -> bool {
        let mut open = self.lock();
        if open.len() < cap {
            return true;
        }
        let idle = open.iter().filter(|(_, c)| c.in_flight.load(Ordering::Relaxed) == 0);
        let oldest = idle.min_by_key(|(_, c)| c.active_ms.load(Ordering::Relaxed)).map(|(id, _)| *id);
        let Some(connection) = oldest.and_then(|id| open.remove(&id)) else { return false };
        connection.evicted.notify_one();
        true
    }
}

impl Server {
    /// Serves until the wish to stop, then waits for requests in flight, but not for long.
    pub(super) async fn run(self) {
        let connections = Arc::new(Connections {
            started: Instant::now(),
            next: AtomicU64::new(0),
            open: Mutex::new(HashMap::new()),
        });
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.asked() => break,
                // Finished tasks must not pile up.
                Some(_) = tasks.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => self.admit(stream, client, &connections, &mut tasks),
                Err(cause) => {
                    self.count("accept");
                    tracing::warn!(%cause, "a connection could not be accepted");
                    connections.make_room(0);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("requests still in flight are cut off");
        }
    }

    fn count(&self, limit: &str) {
        self.metrics.rpc_limited.with_label_values(&[limit]).inc();
    }

    fn admit(&self, stream: TcpStream, client: SocketAddr, connections: &Arc<Connections>, tasks: &mut JoinSet<()>) {
        let before = connections.lock().len();
        if !connections.make_room(self.cap) {
            self.count("connections");
            return refuse(stream);
        }
        if before >= self.cap {
            self.count("idle_connections");
        }
        // Small answers must not wait for each other.
        let _ = stream.set_nodelay(true);
        let (id, connection) = connections.add();
        let (router, connections, shutdown) = (self.router.clone(), connections.clone(), self.shutdown.clone());
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.head_timeout).max_buf_size(MAX_HEAD_BYTES);
        tasks.spawn(async move {
            serve(http, (stream, client), router, &connection, &connections, &shutdown).await;
            connections.lock().remove(&id);
        });
    }
}

/// Says why before it closes, as far as that can be done without waiting.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        // The client may be gone already.
        let _ = stream.write(FULL);
    }
}

async fn serve(
    http: http1::Builder,
    (stream, client): (TcpStream, SocketAddr),
    router: Router,
    connection: &Arc<Connection>,
    connections: &Arc<Connections>,
    shutdown: &Shutdown,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        connection.in_flight.fetch_add(1, Ordering::Relaxed);
        connection.active_ms.store(connections.now_ms(), Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(client));
        let (answer, done) = (router.call(request), InFlight(connection.clone(), connections.clone()));
        async move {
            let answer = answer.await;
            drop(done);
            answer
        }
    });
    let mut served = pin!(http.serve_connection(TokioIo::new(StallLimit::new(stream)), service).with_upgrades());
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = connection.evicted.notified() => return,
        () = shutdown.asked() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(cause) = outcome {
        tracing::debug!(%client, %cause, "connection ended");
    }
}

/// Counts a request as done even where the client left in the midst of it.
struct InFlight(Arc<Connection>, Arc<Connections>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.active_ms.store(self.1.now_ms(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_static_refusal_has_the_length_it_says() {
        let text = std::str::from_utf8(FULL).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{} bytes", body.len());
        let body: super::super::error::ErrorBody = serde_json::from_str(body).expect("json");
        assert_eq!(body.code, "BUSY");
    }
}
