//! Subscriptions on WS_PORT: `/ws` with subscribe messages, or one topic at once by `/ws/new_blocks` and its like.
//!
//! ```text
//! client  {"subscribe": ["new_blocks", …], "from_height": 7}   {"unsubscribe": ["new_blocks"]}   {"ping": 1}
//! node    {"subscribed": [...], "height": 9}                   {"unsubscribed": [...]}           {"pong": 1}
//!         {"topic": "new_blocks", "height": 10, "data": {…}}   {"error": {"code", "message", "detail"}}
//! ```
//! `/rpc/ws/blocks` and `/rpc/ws/transactions` are the prototype's, here and on RPC_PORT: events without anything around them.
//!
//! One connection is three tasks: a session that sorts what comes in, a writer that alone waits for the socket, and
//! while blocks are replayed a replay. They meet in `outgoing::Outgoing`, which is bounded.

mod message;
mod outgoing;
mod replay;
mod session;

use super::error::ApiError;
use super::query::{Parameters, Segment, shown};
use super::{Api, WS_ROUTES};
use crate::subscriptions::Topic;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::Uri;
use axum::response::Response;

/// Bytes of a client's message.
const MAX_MESSAGE_BYTES: usize = 4_096;

/// What axum makes of a request to become a WebSocket.
pub(super) type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// What a connection starts with.
struct First {
    topic: Topic,
    from_height: Option<u64>,
}

/// `/ws`: nothing is subscribed until the client says so.
pub(super) async fn any_topic(State(api): State<Api>, uri: Uri, upgrade: Upgrade) -> Result<Response, ApiError> {
    Parameters::read(&uri, &[])?;
    open(&api, upgrade, None)
}

/// `/ws/{topic}`: that topic, from the first message on.
pub(super) async fn one_topic(
    State(api): State<Api>,
    Segment(topic): Segment,
    uri: Uri,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::UnknownRoute { path: shown(uri.path()), routes: WS_ROUTES };
    let topic = Topic::from_name(&topic).ok_or_else(unknown)?;
    // Only blocks can be replayed.
    let known: &[&str] = if topic == Topic::NewBlocks { &["from_height"] } else { &[] };
    let from_height = Parameters::read(&uri, known)?.number("from_height", 0..=u64::MAX)?;
    open(&api, upgrade, Some(First { topic, from_height }))
}

/// `/rpc/ws/blocks`, and `/rpc/blocks` where a WebSocket is asked for: final blocks as the prototype sent them.
pub(super) async fn prototype_blocks(State(api): State<Api>, uri: Uri, upgrade: Upgrade) -> Result<Response, ApiError> {
    prototype(&api, &uri, upgrade, Topic::PrototypeBlocks)
}

/// `/rpc/ws/transactions`, and `/rpc/transactions` likewise: transactions that this node's pool took.
pub(super) async fn prototype_transactions(
    State(api): State<Api>,
    uri: Uri,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    prototype(&api, &uri, upgrade, Topic::PrototypeTransactions)
}

/// One of the prototype's topics, from the first message on.
pub(super) fn prototype(api: &Api, uri: &Uri, upgrade: Upgrade, topic: Topic) -> Result<Response, ApiError> {
    Parameters::read(uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    open(api, upgrade, Some(First { topic, from_height: None }))
}

fn open(api: &Api, upgrade: Upgrade, first: Option<First>) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|cause| ApiError::WebSocketExpected(cause.to_string()))?;
    if api.shutdown.is_asked() {
        return Err(ApiError::Stopping);
    }
    let permit = api.subscribers.clone().try_acquire_owned().map_err(|_| {
        api.count_limited("subscribers");
        ApiError::TooManySubscribers { allowed: api.max_subscribers }
    })?;
    // Before the answer leaves: who is connected misses nothing.
    let live = first.as_ref().map(|first| {
        let mut reader = api.subscriptions.reader();
        reader.add(first.topic);
        reader
    });
    let api = api.clone();
    let upgrade = upgrade.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    Ok(upgrade.on_upgrade(move |socket| session::run(socket, api, first, live, permit)))
}
