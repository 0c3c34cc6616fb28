//! A WebSocket subscriber: events of the three topics in the order they came, with the time each came.

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// An event of a topic.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it came.
    pub at: Instant,
    /// `new_blocks`, `new_transactions`, `consensus_events`.
    pub topic: String,
    /// Its object.
    pub data: Value,
}

/// What was received so far, and whether the connection still stands.
#[derive(Default)]
struct Received {
    events: Vec<Event>,
    closed: Option<String>,
}

/// Reads until it is dropped or the node closes.
pub struct Subscriber {
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Connects to `ws://host:port` and subscribes to topics by message.
    ///
    /// # Errors
    /// Where the node does not take it.
    pub async fn connect(ws: &str, topics: &[&str]) -> Result<Subscriber> {
        let url = format!("{ws}/ws");
        let connecting = tokio::time::timeout(CONNECT_LIMIT, tokio_tungstenite::connect_async(&url)).await;
        let (mut socket, _) = connecting.with_context(|| format!("connect to {url}"))??;
        socket.send(Message::text(json!({ "subscribe": topics }).to_string())).await?;
        let received = Arc::new(Mutex::new(Received::default()));
        let message = tokio::time::timeout(CONNECT_LIMIT, socket.next()).await.context("no confirmation")?;
        let Some(Ok(Message::Text(text))) = message else { bail!("{url} closed before it confirmed: {message:?}") };
        let value: Value = serde_json::from_str(&text)?;
        ensure!(value.get("subscribed").is_some(), "{url} refused: {value}");
        let sink = received.clone();
        let task = tokio::spawn(async move {
            let reason = loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str::<Value>(&text) {
                        Ok(value) if value.get("error").is_some() => break value.to_string(),
                        Ok(value) => note(&sink, &value),
                        Err(cause) => break format!("not JSON: {cause}: {text}"),
                    },
                    Some(Ok(Message::Close(frame))) => break format!("{frame:?}"),
                    Some(Ok(_)) => {}
                    Some(Err(cause)) => break cause.to_string(),
                    None => break "end of stream".into(),
                }
            };
            sink.lock().unwrap_or_else(PoisonError::into_inner).closed = Some(reason);
        });
        Ok(Subscriber { received, task })
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).events.clone()
    }

    /// Takes everything so far out, for streams that would grow too long.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.received.lock().unwrap_or_else(PoisonError::into_inner).events)
    }

    /// Why the connection ended, once it did.
    pub fn closed(&self) -> Option<String> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).closed.clone()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(received: &Mutex<Received>, value: &Value) {
    let Some(topic) = value["topic"].as_str() else { return };
    let event = Event { at: Instant::now(), topic: topic.to_owned(), data: value["data"].clone() };
    received.lock().unwrap_or_else(PoisonError::into_inner).events.push(event);
}

/// Longest time without a new block among events since `from`, up to now; and the highest height.
pub fn longest_pause(events: &[Event], from: Instant) -> (Duration, u64) {
    let blocks = events.iter().filter(|e| e.topic == "new_blocks" && e.at >= from);
    let (mut last, mut longest, mut height) = (from, Duration::ZERO, 0);
    for block in blocks {
        longest = longest.max(block.at - last);
        last = block.at;
        height = height.max(block.data["height"].as_u64().unwrap_or(0));
    }
    (longest.max(last.elapsed()), height)
}
