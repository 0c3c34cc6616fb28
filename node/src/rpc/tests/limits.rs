//! Limits of rate, time and connections hold, and nobody else notices who runs into them.

use super::super::server::Server;
use super::fixture::{Chain, alice, config};
use crate::metrics::Metrics;
use crate::shutdown;
use axum::Router;
use axum::routing::get;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_client_over_its_rate_gets_429_and_probes_go_on() {
    let chain = Chain::start_with(crate::config::Config { rpc_rate_limit: 5, ..config() }).await;
    let url = |path: &str| format!("http://{}{path}", chain.rpc);
    let mut refused = None;
    for _ in 0..20 {
        let response = reqwest::get(url("/rpc/get_head")).await.expect("an answer");
        if response.status() == 429 {
            refused = Some(response);
        }
    }
    let refused = refused.expect("more than 5 a second");
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.json::<Value>().await.expect("json")["code"], "RATE_LIMITED");
    for path in ["/health", "/ready", "/sync_status"] {
        assert_eq!(reqwest::get(url(path)).await.expect("an answer").status(), 200, "{path}");
    }
    assert!(chain.metrics.rpc_limited.with_label_values(&["rate"]).get() > 0);
}

struct Small {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    trigger: shutdown::ShutdownTrigger,
    task: tokio::task::JoinHandle<()>,
}

/// A listener with few connections and little patience.
async fn small(cap: usize) -> Small {
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        "slow"
    };
    let router = Router::new().route("/", get(|| async { "fast" })).route("/slow", get(slow));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let metrics = Arc::new(Metrics::new().expect("unique names"));
    let (trigger, shutdown) = shutdown::channel();
    let server =
        Server { listener, router, cap, head_timeout: Duration::from_millis(300), metrics: metrics.clone(), shutdown };
    Small { address, metrics, trigger, task: tokio::spawn(server.run()) }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut text)).await.expect("closed");
    text
}

#[tokio::test]
async fn a_client_that_is_slow_to_send_its_request_is_closed() {
    let small = small(10).await;
    let start = Instant::now();
    let mut dribbling = TcpStream::connect(small.address).await.expect("connected");
    dribbling.write_all(b"GET / HTTP/1.1\r\nhost:").await.expect("written");
    let mut silent = TcpStream::connect(small.address).await.expect("connected");
    read_all(&mut dribbling).await;
    read_all(&mut silent).await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let mut kept = TcpStream::connect(small.address).await.expect("connected");
    kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    assert!(read_all(&mut kept).await.ends_with("fast"), "answered, then closed when idle");
}

#[tokio::test]
async fn at_the_cap_the_longest_idle_connection_makes_room() {
    let small = small(3).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(TcpStream::connect(small.address).await.expect("connected"));
    }
    let mut new = TcpStream::connect(small.address).await.expect("connected");
    new.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("written");
    assert!(read_all(&mut new).await.ends_with("fast"));
    assert_eq!(read_all(&mut idle[0]).await, "");
    assert_eq!(small.metrics.rpc_limited.with_label_values(&["idle_connections"]).get(), 1);
}

#[tokio::test]
async fn where_every_connection_is_busy_the_next_one_is_told_so() {
    let small = small(2).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(small.address).await.expect("connected");
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("written");
        busy.push(stream);
    }
    // Both requests must be in flight before the third comes.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut third = TcpStream::connect(small.address).await.expect("connected");
    let answer = read_all(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"BUSY\""), "{answer}");
    for stream in &mut busy {
        assert!(read_all(stream).await.ends_with("slow"));
    }
    assert_eq!(small.metrics.rpc_limited.with_label_values(&["connections"]).get(), 1);
}

#[tokio::test]
async fn a_stop_answers_requests_in_flight_and_takes_no_new_ones() {
    let small = small(10).await;
    let mut busy = TcpStream::connect(small.address).await.expect("connected");
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    let _idle = TcpStream::connect(small.address).await.expect("connected");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    small.trigger.trigger();
    assert!(read_all(&mut busy).await.ends_with("slow"));
    small.task.await.expect("ends");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(TcpStream::connect(small.address).await.is_err());
}

#[tokio::test]
async fn ten_thousand_idle_sockets_keep_nobody_out() {
    let chain = Chain::start().await;
    let limit = open_files();
    // Each socket is two files here, as both ends are in this process; the node closes what is over its cap.
    let wanted = if limit >= 16_000 { 10_000 } else { limit / 4 };
    eprintln!("{wanted} idle sockets, {limit} files may be open");
    let mut idle = Vec::with_capacity(wanted);
    for _ in 0..wanted {
        idle.push(TcpStream::connect(chain.rpc).await.expect("connected"));
        if idle.len() % 1_000 == 0 {
            let start = Instant::now();
            chain.client().send(&chain.pay(&alice(), idle.len() as u64 / 1_000 - 1)).await.expect("taken");
            assert!(start.elapsed() < Duration::from_secs(2), "{:?} with {} sockets", start.elapsed(), idle.len());
        }
    }
    assert!(chain.client().get_head().await.is_ok());
}

/// Files this process may have open.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("readable");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(1_024)
}

#[tokio::test]
async fn a_wait_for_a_result_ends_when_the_node_stops() {
    let mut chain = Chain::start().await;
    let (client, tx) = (chain.client(), chain.pay(&alice(), 0));
    let waiting = tokio::spawn(async move { client.send_and_wait(&tx, Duration::from_secs(4)).await });
    while chain.client().mempool(1).await.expect("mempool").count == 0 {
        tokio::task::yield_now().await;
    }
    let took = chain.stop().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    // It was told "pending" and asked again, but nobody listens any more.
    assert!(waiting.await.expect("no panic").is_err());
}
