//! Subscribers get events in order, from where they ask, or are told why not and where to go on.

use super::super::limits::{MAX_SUBSCRIBERS, share_of_files};
use super::fixture::{Chain, alice};
use crate::subscriptions::Topic;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long an expected message may take.
const SOON: Duration = Duration::from_secs(10);

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(chain: &Chain, path: &str) -> Socket {
        Socket(connect_async(format!("ws://{}{path}", chain.ws)).await.expect("connected").0)
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// The next text; `Err` with the close code once closed.
    async fn next(&mut self) -> Result<Value, u16> {
        loop {
            match tokio::time::timeout(SOON, self.0.next()).await.expect("a message") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("json")),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(0, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(0),
            }
        }
    }

    async fn text(&mut self) -> Value {
        self.next().await.expect("a message")
    }

    /// Height of the next block event.
    async fn block(&mut self) -> u64 {
        let message = self.text().await;
        assert_eq!(message["topic"], "new_blocks", "{message}");
        assert_eq!(message["height"], message["data"]["height"], "{message}");
        message["height"].as_u64().expect("height")
    }
}

/// Status and code of a refused connection.
async fn refusal(chain: &Chain, path: &str) -> (u16, String) {
    match connect_async(format!("ws://{}{path}", chain.ws)).await {
        Err(Error::Http(response)) => {
            let body: Value = serde_json::from_slice(response.body().as_deref().unwrap_or_default()).expect("json");
            (response.status().as_u16(), body["code"].as_str().unwrap_or_default().to_owned())
        }
        other => panic!("{path}: {:?}", other.map(|_| ())),
    }
}

#[tokio::test]
async fn a_transaction_is_seen_from_pool_to_block_in_order_on_one_connection() {
    let chain = Chain::start().await;
    let mut socket = Socket::open(&chain, "/ws").await;
    socket.say(json!({ "subscribe": ["new_transactions", "new_blocks"] })).await;
    let subscribed = socket.text().await;
    assert_eq!(subscribed, json!({ "subscribed": ["new_transactions", "new_blocks"], "height": 0 }));
    let sent = chain.client().send(&chain.pay(&alice(), 0)).await.expect("taken");
    chain.block().await;
    let (pending, block, last) = (socket.text().await, socket.text().await, socket.text().await);
    let id = json!(sent.tx_hash);
    assert_eq!((&pending["topic"], &pending["data"]["status"]), (&json!("new_transactions"), &json!("pending")));
    assert_eq!((&block["topic"], &block["data"]["tx_count"]), (&json!("new_blocks"), &json!(1)));
    assert_eq!((&last["data"]["status"], &last["height"]), (&json!("final"), &json!(1)));
    assert!(pending["data"]["tx_hash"] == id && last["data"]["tx_hash"] == id);
}

#[tokio::test]
async fn a_topic_of_its_own_needs_no_message_and_gives_no_other_events() {
    let chain = Chain::start().await;
    let mut socket = Socket::open(&chain, "/ws/new_blocks").await;
    chain.client().send(&chain.pay(&alice(), 0)).await.expect("taken");
    chain.block().await;
    chain.block().await;
    assert_eq!((socket.block().await, socket.block().await), (1, 2));
    assert_eq!(chain.metrics.websocket_clients.get(), 1);
}

#[tokio::test]
async fn subscriptions_change_and_wrong_messages_are_answered() {
    let chain = Chain::start().await;
    let mut socket = Socket::open(&chain, "/ws").await;
    socket.say(json!({ "ping": 7 })).await;
    assert_eq!(socket.text().await, json!({ "pong": 7 }));
    socket.say(json!({ "subscribe": ["blocks"] })).await;
    assert_eq!(socket.text().await["error"]["code"], "UNKNOWN_TOPIC");
    socket.0.send(Message::text("{")).await.expect("sent");
    assert_eq!(socket.text().await["error"]["code"], "MALFORMED_JSON");
    socket.0.send(Message::binary(vec![1, 2])).await.expect("sent");
    assert_eq!(socket.text().await["error"]["code"], "MALFORMED_JSON");
    socket.say(json!({ "subscribe": ["new_blocks"] })).await;
    socket.text().await;
    chain.block().await;
    assert_eq!(socket.block().await, 1);
    socket.say(json!({ "unsubscribe": ["new_blocks"] })).await;
    assert_eq!(socket.text().await, json!({ "unsubscribed": ["new_blocks"] }));
    chain.block().await;
    socket.say(json!({ "subscribe": ["new_blocks"], "from_height": 2 })).await;
    assert_eq!(socket.text().await["height"], 2);
    assert_eq!(socket.block().await, 2);
}

#[tokio::test]
async fn from_height_joins_live_without_a_gap_and_without_a_block_twice() {
    let chain = Chain::start().await;
    for _ in 0..300 {
        chain.block().await;
    }
    let producer = async {
        for _ in 0..200 {
            // Told to readers before it is in the database, as the node does it.
            let unwritten = chain.publish_block();
            tokio::task::yield_now().await;
            chain.write(unwritten).await;
        }
    };
    let reader = |from: u64| {
        let chain = &chain;
        async move {
            let mut socket = Socket::open(chain, &format!("/ws/new_blocks?from_height={from}")).await;
            for height in from.max(1)..=500 {
                assert_eq!(socket.block().await, height, "from {from}");
            }
        }
    };
    tokio::join!(producer, reader(0), reader(1), reader(150), reader(299), reader(301), reader(420));
}

#[tokio::test]
async fn a_replayed_block_is_the_same_as_it_was_live() {
    let chain = Chain::start().await;
    let mut live = Socket::open(&chain, "/ws/new_blocks").await;
    for nonce in 0..5 {
        chain.client().send(&chain.pay(&alice(), nonce)).await.expect("taken");
        chain.block().await;
    }
    let mut replayed = Socket::open(&chain, "/ws/new_blocks?from_height=1").await;
    for _ in 0..5 {
        assert_eq!(replayed.text().await, live.text().await);
    }
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_with_the_height_where_it_goes_on_without_a_gap() {
    let chain = Chain::start().await;
    let mut socket = Socket::open(&chain, "/ws").await;
    socket.say(json!({ "subscribe": ["new_blocks", "new_transactions"] })).await;
    socket.text().await;
    // It does not read, so the kernel's buffers and then the queue fill up.
    let large = json!({ "pad": "x".repeat(4_000) });
    while chain.metrics.websocket_lagged.get() == 0 {
        let height = chain.block().await;
        for _ in 0..100 {
            chain.subscriptions.publish(Topic::NewTransactions, height, &large);
            tokio::task::yield_now().await;
        }
        assert!(height < 1_000, "never too slow");
    }
    let mut next = 1;
    let resume = loop {
        let message = socket.text().await;
        if let Some(error) = message.get("error") {
            assert_eq!(error["code"], "SLOW_READER");
            break error["resume_from_height"].as_u64().expect("a height");
        }
        if message["topic"] == "new_blocks" {
            assert_eq!(message["height"], next);
            next += 1;
        }
    };
    assert_eq!(socket.next().await, Err(1013));
    assert!(resume == next || resume + 1 == next, "resume from {resume}, where {next} is the first block not sent");
    let mut again = Socket::open(&chain, &format!("/ws/new_blocks?from_height={resume}")).await;
    for height in resume..=chain.head().height {
        assert_eq!(again.block().await, height);
    }
}

#[tokio::test]
async fn a_stop_closes_all_subscribers_at_once_with_a_reason_whether_they_read_or_not() {
    let mut chain = Chain::start().await;
    let mut sockets = Vec::new();
    for _ in 0..50 {
        sockets.push(Socket::open(&chain, "/ws/new_blocks").await);
    }
    chain.block().await;
    let took = chain.stop().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let start = Instant::now();
    for socket in &mut sockets {
        assert_eq!(socket.block().await, 1);
        let error = socket.text().await["error"].clone();
        assert_eq!((&error["code"], &error["resume_from_height"]), (&json!("STOPPING"), &json!(2)));
        assert_eq!(socket.next().await, Err(1001));
    }
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(chain.metrics.websocket_clients.get(), 0);
}

#[tokio::test]
async fn wrong_connections_are_refused_with_a_stable_code() {
    let chain = Chain::start().await;
    let cases = [
        ("/", 404, "UNKNOWN_ROUTE"),
        ("/ws/blocks", 404, "UNKNOWN_ROUTE"),
        ("/ws?from_height=1", 400, "INVALID_QUERY"),
        ("/ws/new_blocks?from_height=x", 400, "INVALID_QUERY"),
        ("/ws/new_transactions?from_height=1", 400, "INVALID_QUERY"),
    ];
    for (path, status, code) in cases {
        assert_eq!(refusal(&chain, path).await, (status, code.to_owned()), "{path}");
    }
    let plain = reqwest::get(format!("http://{}/ws", chain.ws)).await.expect("an answer");
    assert_eq!(plain.status(), 400);
    assert_eq!(plain.json::<Value>().await.expect("json")["code"], "WEBSOCKET_EXPECTED");
}

#[tokio::test]
async fn subscribers_over_the_cap_are_refused_until_one_leaves() {
    let chain = Chain::start().await;
    let mut sockets = Vec::new();
    for _ in 0..share_of_files(MAX_SUBSCRIBERS) {
        sockets.push(Socket::open(&chain, "/ws").await);
    }
    assert_eq!(refusal(&chain, "/ws").await, (503, "TOO_MANY_SUBSCRIBERS".to_owned()));
    assert_eq!(chain.metrics.rpc_limited.with_label_values(&["subscribers"]).get(), 1);
    let mut first = sockets.swap_remove(0);
    first.0.close(None).await.expect("closed");
    let start = Instant::now();
    while connect_async(format!("ws://{}/ws", chain.ws)).await.is_err() {
        assert!(start.elapsed() < SOON, "its place is not given back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_floods_with_requests_or_sends_a_large_one_is_closed() {
    let chain = Chain::start().await;
    let mut socket = Socket::open(&chain, "/ws").await;
    for n in 0..60 {
        // The node may close in the midst of it.
        let _ = socket.0.send(Message::text(json!({ "ping": n }).to_string())).await;
    }
    let mut last = json!(null);
    while let Ok(message) = socket.next().await {
        last = message;
    }
    assert_eq!(last["error"]["code"], "RATE_LIMITED", "{last}");
    let mut socket = Socket::open(&chain, "/ws").await;
    let _ = socket.0.send(Message::text("x".repeat(100_000))).await;
    while socket.next().await.is_ok() {}
    assert!(chain.client().get_head().await.is_ok());
}
