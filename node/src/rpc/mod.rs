//! What clients reach: REST on RPC_PORT, subscriptions on WS_PORT, Prometheus on METRICS_PORT. One file an endpoint.
//!
//! Shapes and codes are in docs/rpc.md; a test compares its list of routes with [`ROUTES`].

mod block_cache;
pub mod doctor;
pub mod error;
pub mod evidence;
pub mod genesis;
pub mod get_balance;
pub mod get_block;
pub mod get_head;
pub mod headers;
pub mod health;
pub mod limits;
pub mod mempool;
mod metrics;
pub mod peers;
pub mod proof;
mod query;
pub mod ready;
pub mod receipts;
pub mod send_tx;
pub mod send_txs;
mod server;
mod stall;
pub mod supply;
pub mod sync_status;
#[cfg(test)]
mod tests;
pub mod transaction;
pub mod validators;
pub mod websocket;

use crate::config::Config;
use crate::mempool::Mempool;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::subscriptions::Subscriptions;
use crate::view::View;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use block_cache::BlockCache;
use error::ApiError;
use limits::{
    HEAD_TIMEOUT, MAX_BLOCK_READS, MAX_BODY_BYTES, MAX_CONNECTIONS, MAX_METRICS_CONNECTIONS, MAX_SUBSCRIBERS,
    MAX_UNREAD_KIB, RateLimiter, share_of_files,
};
use serde::Serialize;
use server::Server;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tower_http::cors::{Any, CorsLayer};

/// REST routes; the answer to an unknown one lists them.
pub const ROUTES: &[&str] = &[
    "GET /rpc/get_head",
    "POST /rpc/send_tx",
    "POST /rpc/send_txs",
    "GET /rpc/get_balance/{address}",
    "GET /rpc/get_block/{height}",
    "GET /rpc/transaction/{id}",
    "GET /rpc/headers",
    "GET /rpc/proof/account/{address}",
    "GET /rpc/proof/transaction/{id}",
    "GET /rpc/receipt/{provider}",
    "GET /rpc/escrow/{client}",
    "GET /rpc/peers",
    "GET /rpc/validators",
    "GET /rpc/evidence",
    "GET /rpc/supply",
    "GET /rpc/consensus/doctor",
    "GET /rpc/mempool",
    "GET /rpc/genesis",
    "GET /health",
    "GET /ready",
    "GET /sync_status",
];
/// Routes of the WebSocket listener.
pub const WS_ROUTES: &[&str] =
    &["GET /ws", "GET /ws/new_blocks", "GET /ws/new_transactions", "GET /ws/consensus_events"];
const METRICS_ROUTES: &[&str] = &["GET /metrics"];

/// What handlers work with.
pub(crate) type Api = Arc<Parts>;

/// See [`Api`].
pub(crate) struct Parts {
    view: View,
    mempool: Arc<dyn Mempool>,
    subscriptions: Subscriptions,
    metrics: Arc<Metrics>,
    rate: RateLimiter,
    timeout: Duration,
    block_reads: Semaphore,
    block_cache: BlockCache,
    unread: Arc<Semaphore>,
    subscribers: Arc<Semaphore>,
    max_subscribers: usize,
    shutdown: Shutdown,
}

impl Parts {
    fn count_limited(&self, limit: &str) {
        self.metrics.rpc_limited.with_label_values(&[limit]).inc();
    }
}

/// The running listeners.
pub struct Servers {
    /// Where REST listens: the port chosen where the setting was 0.
    pub rpc: SocketAddr,
    /// Where WebSocket listens.
    pub ws: SocketAddr,
    /// Where Prometheus may scrape.
    pub metrics: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Waits until all are down, which they are a few seconds after the wish to stop.
    pub async fn stopped(self) {
        for task in self.tasks {
            if let Err(cause) = task.await {
                tracing::error!(%cause, "a listener ended by itself");
            }
        }
    }
}

/// Binds the three listeners and serves until the wish to stop.
///
/// # Errors
/// Where a port cannot be had; names it.
pub async fn start(
    config: &Config,
    view: View,
    mempool: Arc<dyn Mempool>,
    subscriptions: Subscriptions,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) -> std::io::Result<Servers> {
    let rpc = bind("RPC_PORT", config.rpc).await?;
    let ws = bind("WS_PORT", config.ws).await?;
    let prometheus = bind("METRICS_PORT", config.metrics).await?;
    let (rpc_at, ws_at, metrics_at) = (rpc.local_addr()?, ws.local_addr()?, prometheus.local_addr()?);
    let (max_connections, max_subscribers) = (share_of_files(MAX_CONNECTIONS), share_of_files(MAX_SUBSCRIBERS));
    let subscribers = Arc::new(Semaphore::new(max_subscribers));
    let api: Api = Arc::new(Parts {
        view,
        mempool,
        subscriptions,
        metrics: metrics.clone(),
        rate: RateLimiter::new(config.rpc_rate_limit),
        timeout: config.rpc_timeout,
        block_reads: Semaphore::new(MAX_BLOCK_READS),
        block_cache: BlockCache::new(config.block_cache_size, metrics.clone()),
        unread: Arc::new(Semaphore::new(MAX_UNREAD_KIB)),
        subscribers: subscribers.clone(),
        max_subscribers,
        shutdown: shutdown.clone(),
    });
    let server = |listener, router, cap| Server {
        listener,
        router,
        cap,
        head_timeout: HEAD_TIMEOUT,
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    };
    let stopping = shutdown.clone();
    let subscriptions_closed = async move {
        stopping.asked().await;
        // A subscriber holds a permit as long as its connection is open.
        let all = subscribers.acquire_many(max_subscribers as u32);
        if tokio::time::timeout(limits::STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("subscribers that do not take their leave are cut off");
        }
    };
    let ws_server = server(ws, ws_router(api.clone()), max_connections);
    let tasks = vec![
        tokio::spawn(server(rpc, router(api), max_connections).run()),
        tokio::spawn(async move {
            tokio::join!(ws_server.run(), subscriptions_closed);
        }),
        tokio::spawn(server(prometheus, metrics_router(metrics.clone()), MAX_METRICS_CONNECTIONS).run()),
    ];
    Ok(Servers { rpc: rpc_at, ws: ws_at, metrics: metrics_at, tasks })
}

async fn bind(setting: &str, address: SocketAddr) -> std::io::Result<TcpListener> {
    let named = |cause: std::io::Error| std::io::Error::new(cause.kind(), format!("{setting} {address}: {cause}"));
    TcpListener::bind(address).await.map_err(named)
}

fn router(api: Api) -> Router {
    // Reads are for everybody's browser; sending needs no cookie, but nothing invites other sites to try.
    let cors = CorsLayer::new().allow_origin(Any).allow_methods([Method::GET, Method::HEAD]);
    Router::new()
        .route("/rpc/get_head", get(get_head::get_head))
        .route("/rpc/send_tx", post(send_tx::send_tx))
        .route("/rpc/send_txs", post(send_txs::send_txs))
        .route("/rpc/get_balance/{address}", get(get_balance::get_balance))
        .route("/rpc/get_block/{height}", get(get_block::get_block))
        .route("/rpc/transaction/{id}", get(transaction::transaction))
        .route("/rpc/headers", get(headers::headers))
        .route("/rpc/proof/account/{address}", get(proof::account))
        .route("/rpc/proof/transaction/{id}", get(proof::transaction))
        .route("/rpc/receipt/{provider}", get(receipts::receipt))
        .route("/rpc/escrow/{client}", get(receipts::escrow))
        .route("/rpc/peers", get(peers::peers))
        .route("/rpc/validators", get(validators::validators))
        .route("/rpc/evidence", get(evidence::evidence))
        .route("/rpc/supply", get(supply::supply))
        .route("/rpc/consensus/doctor", get(doctor::doctor))
        .route("/rpc/mempool", get(mempool::mempool))
        .route("/rpc/genesis", get(genesis::genesis))
        .route("/health", get(health::health))
        .route("/ready", get(ready::ready))
        .route("/sync_status", get(sync_status::sync_status))
        .fallback(|request: Request| async move { unknown_route(&request, ROUTES) })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(api.clone(), limits::guard))
        .layer(cors)
        .with_state(api)
}

fn ws_router(api: Api) -> Router {
    Router::new()
        .route("/ws", get(websocket::any_topic))
        .route("/ws/{topic}", get(websocket::one_topic))
        .fallback(|request: Request| async move { unknown_route(&request, WS_ROUTES) })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(api.clone(), limits::guard))
        .with_state(api)
}

fn metrics_router(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::metrics))
        .fallback(|request: Request| async move { unknown_route(&request, METRICS_ROUTES) })
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(metrics)
}

fn unknown_route(request: &Request, routes: &'static [&'static str]) -> ApiError {
    ApiError::UnknownRoute { path: query::shown(request.uri().path()), routes }
}

async fn method_not_allowed(request: Request) -> ApiError {
    ApiError::MethodNotAllowed {
        method: query::shown(request.method().as_str()),
        path: query::shown(request.uri().path()),
    }
}

/// Makes an answer and writes it as JSON where that takes tens of milliseconds: not on the threads that serve everybody.
async fn written<T: Serialize>(
    route: &'static str,
    make: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    Ok(json_response(written_text(route, make).await?))
}

/// As [`written`], before it is a response.
async fn written_text<T: Serialize>(
    route: &'static str,
    make: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<Bytes, ApiError> {
    let failed = move |cause: String| ApiError::Internal(format!("{route}: {cause}"));
    let text = tokio::task::spawn_blocking(move || {
        make().and_then(|answer| serde_json::to_vec(&answer).map_err(|cause| failed(cause.to_string())))
    });
    Ok(Bytes::from(text.await.map_err(|cause| failed(cause.to_string()))??))
}

fn json_response(text: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(text)).into_response()
}

/// `2026-01-31T12:00:00.5Z` of milliseconds since 1970; `None` far out of range.
fn timestamp(time_ms: u64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(i64::try_from(time_ms).ok()?).ok()?;
    Some(time.to_string())
}
