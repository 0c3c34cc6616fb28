//! What one client, and all together, may take of the node: rate, size, time; each limit counts what it refuses.

use super::Api;
use super::error::ApiError;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Bytes of a request's body.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Transactions of one `send_txs`.
pub const MAX_BULK_TXS: usize = 4_096;
/// Open connections of the REST listener, and of the WebSocket listener.
pub const MAX_CONNECTIONS: usize = 4_096;
/// Open connections of the metrics listener.
pub const MAX_METRICS_CONNECTIONS: usize = 64;
/// How long a client may take to send a request's head, and how long a connection may be idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stop waits for requests in flight.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// WebSocket subscribers.
pub const MAX_SUBSCRIBERS: usize = 1_024;
/// Blocks that are turned into JSON at a time: each may take 2 MiB of transactions.
pub(super) const MAX_BLOCK_READS: usize = 8;

/// `most`, or a quarter of the files this process may open where that is less: database and peers need theirs.
pub(super) fn share_of_files(most: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 4).unwrap_or(usize::MAX).clamp(1, most)
}

/// KiB of large answers that clients have not read yet: a full block is several MiB of JSON.
pub(super) const MAX_UNREAD_KIB: usize = 64 << 10;
/// Bytes from which on an answer counts as large.
const LARGE_ANSWER: usize = 64 << 10;

/// Clients whose rate is known; beyond, the longest idle ones are forgotten.
const MAX_CLIENTS: usize = 16_384;
/// Routes that probes, the operator and Prometheus must reach whatever others do.
const EXEMPT: [&str; 4] = ["/health", "/ready", "/sync_status", "/metrics"];

/// A token bucket for each client; a second's worth may come at once.
pub(super) struct RateLimiter {
    per_second: u32,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimiter {
    /// `per_second` of 0: no limit.
    pub(super) fn new(per_second: u32) -> Self {
        RateLimiter { per_second, buckets: Mutex::default() }
    }

    /// Takes one request of a client, or says when the next one may come.
    pub(super) fn take(&self, client: IpAddr, now: Instant) -> Result<(), ApiError> {
        if self.per_second == 0 {
            return Ok(());
        }
        let rate = f64::from(self.per_second);
        // A thread that panicked within left a map that is as good as before.
        let mut buckets = self.buckets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let client = network_of(client);
        if buckets.len() >= MAX_CLIENTS && !buckets.contains_key(&client) {
            forget(&mut buckets, now);
        }
        let bucket = buckets.entry(client).or_insert(Bucket { tokens: rate, at: now });
        bucket.tokens = (bucket.tokens + now.saturating_duration_since(bucket.at).as_secs_f64() * rate).min(rate);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            let retry = Duration::from_secs_f64((1.0 - bucket.tokens) / rate);
            return Err(ApiError::RateLimited { allowed: self.per_second, retry });
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

/// Drops those whose bucket is full again, and where that is not enough, half of all: the table stays bounded.
fn forget(buckets: &mut HashMap<IpAddr, Bucket>, now: Instant) {
    buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < Duration::from_secs(1));
    if buckets.len() >= MAX_CLIENTS {
        let mut odd = false;
        buckets.retain(|_, _| {
            odd = !odd;
            odd
        });
    }
}

/// A client owns a whole /64 of IPv6 addresses, so they count as one.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
    }
}

/// Around every request: rate, time, counting.
pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = matched.as_deref().unwrap_or("unknown");
    let response = limited(&api, route, request, next).await.unwrap_or_else(IntoResponse::into_response);
    api.metrics.rpc_requests.with_label_values(&[route, response.status().as_str()]).inc();
    api.metrics.rpc_seconds.with_label_values(&[route]).observe(start.elapsed().as_secs_f64());
    response
}

async fn limited(api: &Api, route: &str, request: Request, next: Next) -> Result<Response, ApiError> {
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    if let (Some(client), false) = (client, EXEMPT.contains(&route)) {
        api.rate.take(client, Instant::now()).inspect_err(|_| api.count_limited("rate"))?;
    }
    let limit = api.timeout;
    let response = tokio::time::timeout(limit, next.run(request)).await.map_err(|_| {
        api.count_limited("timeout");
        ApiError::Timeout { limit }
    })?;
    within_budget(&api.unread, response).await.inspect_err(|_| api.count_limited("unread"))
}

/// Sends a large answer piece by piece, and holds its share of [`MAX_UNREAD_KIB`] until the last one is taken.
async fn within_budget(unread: &Arc<Semaphore>, response: Response) -> Result<Response, ApiError> {
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    if size < LARGE_ANSWER {
        return Ok(response);
    }
    let kib = u32::try_from(size / 1_024).unwrap_or(u32::MAX);
    let permit = unread.clone().try_acquire_many_owned(kib);
    let permit = permit.map_err(|_| ApiError::Busy("clients have not read large answers yet"))?;
    let (mut head, body) = response.into_parts();
    // In memory already.
    let bytes = axum::body::to_bytes(body, usize::MAX).await.map_err(|cause| ApiError::Internal(cause.to_string()))?;
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    let pieces = futures_util::stream::unfold((bytes, permit), |(mut rest, permit)| async move {
        let piece = rest.split_to(rest.len().min(LARGE_ANSWER));
        (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (rest, permit)))
    });
    Ok(Response::from_parts(head, Body::from_stream(pieces)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_client_over_its_rate_waits_and_others_do_not() {
        let (limiter, start) = (RateLimiter::new(2), Instant::now());
        assert!(limiter.take(ip(1), start).is_ok() && limiter.take(ip(1), start).is_ok());
        let refused = limiter.take(ip(1), start).expect_err("third at once");
        assert!(
            matches!(refused, ApiError::RateLimited { allowed: 2, retry } if retry.as_millis() == 500),
            "{refused:?}"
        );
        assert!(limiter.take(ip(2), start).is_ok());
        assert!(limiter.take(ip(1), start + Duration::from_millis(501)).is_ok());
        assert!(limiter.take(ip(1), start + Duration::from_millis(502)).is_err());
    }

    #[test]
    fn without_a_limit_everything_passes() {
        let limiter = RateLimiter::new(0);
        assert!((0..10_000).all(|_| limiter.take(ip(1), Instant::now()).is_ok()));
    }

    #[test]
    fn the_table_of_clients_stays_bounded_whoever_comes() {
        let (limiter, start) = (RateLimiter::new(1), Instant::now());
        for n in 0..3 * MAX_CLIENTS as u32 {
            let _ = limiter.take(IpAddr::from((n + 1).to_be_bytes()), start);
        }
        assert!(limiter.buckets.lock().expect("lock").len() <= MAX_CLIENTS);
    }

    #[tokio::test]
    async fn a_large_answer_holds_its_share_until_it_is_read_or_the_client_leaves() {
        let unread = Arc::new(Semaphore::new(1_500));
        let large = || Response::new(Body::from(vec![7; 1 << 20]));
        let first = within_budget(&unread, large()).await.expect("room");
        assert_eq!(first.headers()[header::CONTENT_LENGTH], (1 << 20).to_string());
        let refused = within_budget(&unread, large()).await.expect_err("no room");
        assert_eq!(refused.code(), "BUSY");
        assert!(within_budget(&unread, Response::new(Body::from("small"))).await.is_ok());
        let read = axum::body::to_bytes(first.into_body(), usize::MAX).await.expect("readable");
        assert_eq!(read, vec![7; 1 << 20]);
        drop(within_budget(&unread, large()).await.expect("room again"));
        assert_eq!(unread.available_permits(), 1_500);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_client() {
        let of = |text: &str| network_of(text.parse().expect("address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), ip(1));
    }
}
