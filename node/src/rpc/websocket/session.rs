//! One subscriber: its requests, what it is sent, and the reasons to part from it.

use super::super::Api;
use super::super::error::ApiError;
use super::First;
use super::message::{self, Request};
use super::outgoing::{End, Full, Next, Outgoing};
use super::replay::{Failed, replay};
use crate::subscriptions::{Published, Reader, Topic};
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// Pause between pings.
const PING_EVERY: Duration = Duration::from_secs(20);
/// A client that answers no ping for this long is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// How long one write may wait for the client to read.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// How long a client that is parted from may take to read why.
const PARTING_LIMIT: Duration = Duration::from_secs(10);
/// How long a stop waits for the client to read why.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// Entries written before the next flush.
const WRITE_BATCH: usize = 64;
/// Requests a client may send within a second.
const MAX_REQUESTS: u32 = 50;

/// Serves a connection to its end.
pub(super) async fn run(
    socket: WebSocket,
    api: Api,
    first: Option<First>,
    live: Option<Reader>,
    permit: OwnedSemaphorePermit,
) {
    let clients = api.metrics.websocket_clients.clone();
    clients.inc();
    let (sink, stream) = socket.split();
    let outgoing = Arc::new(Outgoing::default());
    let mut writer = tokio::spawn(write(sink, outgoing.clone()));
    let mut session =
        Session { api, outgoing, live, next_block: None, replay: None, last_height: 0, requests: (Instant::now(), 0) };
    session.replay_from(first.and_then(|first| first.from_height));
    session.serve(stream, &mut writer).await;
    // A write that waits for a client that does not read must not hold up a stop.
    let limit = if session.api.shutdown.is_asked() { STOP_LIMIT } else { WRITE_LIMIT + PARTING_LIMIT };
    drop(session);
    if !writer.is_finished() && tokio::time::timeout(limit, &mut writer).await.is_err() {
        writer.abort();
    }
    clients.dec();
    // Held until here: a stop waits for it.
    drop(permit);
}

/// The writer: alone waits for the socket, and for no longer than a limit.
async fn write(mut sink: SplitSink<WebSocket, Message>, outgoing: Arc<Outgoing>) {
    let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            next = outgoing.next(WRITE_BATCH) => Some(next),
            _ = pings.tick() => None,
        };
        let (limit, last) = match &next {
            Some(Next::End(end)) => (end.limit, true),
            Some(Next::Frames(_)) | None => (WRITE_LIMIT, false),
        };
        let written = tokio::time::timeout(limit, write_one(&mut sink, next)).await;
        if last || !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

/// `None`: a ping.
async fn write_one(sink: &mut SplitSink<WebSocket, Message>, next: Option<Next>) -> Result<(), axum::Error> {
    match next {
        None => sink.feed(Message::Ping(Vec::new().into())).await?,
        Some(Next::Frames(frames)) => {
            for frame in frames {
                for text in frame.texts.iter() {
                    sink.feed(Message::Text(text.clone())).await?;
                }
            }
        }
        Some(Next::End(end)) => {
            if let Some(last) = end.last {
                sink.feed(Message::Text(last.into())).await?;
            }
            sink.feed(Message::Close(Some(CloseFrame { code: end.code, reason: end.reason.into() }))).await?;
        }
    }
    sink.flush().await
}

struct Session {
    api: Api,
    outgoing: Arc<Outgoing>,
    /// Events of the subscribed topics, since before the answer to the first request; `None` without a topic.
    live: Option<Reader>,
    /// Next block to send; `None`: whichever comes next.
    next_block: Option<u64>,
    replay: Option<Replay>,
    /// Height of the event queued last.
    last_height: u64,
    /// Start of the current second, and requests in it.
    requests: (Instant, u32),
}

/// A running replay. Live blocks are not queued meanwhile, only noted.
struct Replay {
    task: JoinHandle<Result<u64, Failed>>,
    /// Highest live block seen since it began.
    seen: u64,
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What woke the session.
enum Wake {
    Message(Option<Result<Message, axum::Error>>),
    Event(Result<Published, RecvError>),
    Replayed(Result<u64, Failed>),
    Stopping,
    Silent,
    WriterEnded,
}

impl Session {
    async fn serve(&mut self, mut stream: SplitStream<WebSocket>, writer: &mut JoinHandle<()>) {
        let mut heard = Instant::now();
        loop {
            let wake = tokio::select! {
                message = stream.next() => Wake::Message(message),
                event = receive(&mut self.live) => Wake::Event(event),
                replayed = finish(&mut self.replay) => Wake::Replayed(replayed),
                () = self.api.shutdown.asked() => Wake::Stopping,
                () = tokio::time::sleep_until(heard + SILENCE_LIMIT) => Wake::Silent,
                _ = &mut *writer => Wake::WriterEnded,
            };
            match wake {
                Wake::Message(Some(Ok(message))) => {
                    heard = Instant::now();
                    if !self.on_message(&message) {
                        return;
                    }
                }
                Wake::Message(Some(Err(_)) | None) => return self.leave(None, close_code::NORMAL, ""),
                Wake::Event(Ok(event)) => {
                    if self.on_event(&event) == Err(Full) {
                        return self.too_slow();
                    }
                }
                Wake::Event(Err(RecvError::Lagged(_))) => return self.too_slow(),
                Wake::Event(Err(RecvError::Closed)) | Wake::Stopping => return self.stop(),
                Wake::Replayed(Ok(next)) => self.on_replayed(next),
                Wake::Replayed(Err(failed)) => return self.on_replay_failed(&failed),
                Wake::Silent => return self.leave(None, close_code::POLICY, "no answer to pings"),
                Wake::WriterEnded => return,
            }
        }
    }

    /// False where the connection ends.
    fn on_message(&mut self, message: &Message) -> bool {
        let text = match message {
            Message::Text(text) => text.as_str(),
            // No message of this protocol: answered as such.
            Message::Binary(_) => "",
            Message::Ping(_) | Message::Pong(_) => return true,
            Message::Close(_) => {
                self.leave(None, close_code::NORMAL, "");
                return false;
            }
        };
        if !self.may_ask() {
            self.api.count_limited("websocket_requests");
            let last = message::last_error("RATE_LIMITED", "too many requests within a second", self.resume_from(None));
            self.leave(Some(last), close_code::POLICY, "too many requests");
            return false;
        }
        if self.answer(text) == Err(Full) {
            self.too_slow();
            return false;
        }
        true
    }

    fn may_ask(&mut self) -> bool {
        if self.requests.0.elapsed() > Duration::from_secs(1) {
            self.requests = (Instant::now(), 0);
        }
        self.requests.1 += 1;
        self.requests.1 <= MAX_REQUESTS
    }

    fn answer(&mut self, text: &str) -> Result<(), Full> {
        match Request::read(text) {
            Err(body) => self.outgoing.push(None, message::error(&body)),
            Ok(Request::Ping(value)) => self.outgoing.push(None, message::pong(&value)),
            Ok(Request::Unsubscribe(topics)) => {
                self.unsubscribe(&topics);
                self.outgoing.push(None, message::unsubscribed(&topics))
            }
            Ok(Request::Subscribe { topics, from_height }) => {
                // Before the height is read: what is final after it comes live.
                let live = self.live.get_or_insert_with(|| self.api.subscriptions.reader());
                topics.iter().for_each(|topic| live.add(*topic));
                let height = self.api.view.snapshot().head.height;
                self.outgoing.push(None, message::subscribed(&topics, height))?;
                self.replay_from(from_height);
                Ok(())
            }
        }
    }

    fn replay_from(&mut self, from_height: Option<u64>) {
        if let Some(from) = from_height {
            // Genesis is no block that anybody publishes.
            self.start_replay(from.max(1));
        }
    }

    fn unsubscribe(&mut self, topics: &[Topic]) {
        let Some(live) = &mut self.live else { return };
        topics.iter().for_each(|topic| live.remove(*topic));
        if !live.has(Topic::NewBlocks) {
            (self.replay, self.next_block) = (None, None);
        }
        if live.is_idle() {
            self.live = None;
        }
    }

    fn start_replay(&mut self, from: u64) {
        self.next_block = Some(from);
        let task = tokio::spawn(replay(self.api.clone(), self.outgoing.clone(), from));
        self.replay = Some(Replay { task, seen: 0 });
    }

    fn on_event(&mut self, event: &Published) -> Result<(), Full> {
        if event.topic == Topic::NewBlocks && !self.is_next(event.height) {
            return Ok(());
        }
        self.outgoing.push_all(Some(event.height), event.texts.clone())?;
        if event.topic == Topic::NewBlocks {
            self.next_block = Some(event.height + 1);
        }
        self.last_height = event.height;
        Ok(())
    }

    /// Whether a live block is the one that comes next. One that was sent already is not; where some are missing in
    /// between, the database has them.
    fn is_next(&mut self, height: u64) -> bool {
        if let Some(replay) = &mut self.replay {
            replay.seen = replay.seen.max(height);
            return false;
        }
        match self.next_block {
            Some(next) if height > next => {
                self.start_replay(next);
                false
            }
            Some(next) => height == next,
            None => true,
        }
    }

    fn on_replayed(&mut self, next: u64) {
        let seen = self.replay.take().map_or(0, |replay| replay.seen);
        self.next_block = Some(next);
        // A live block came after the replay had looked for the last time, and was passed over.
        if seen >= next {
            self.start_replay(next);
        }
    }

    fn on_replay_failed(&mut self, failed: &Failed) {
        let body = failed.error.body();
        tracing::warn!(height = failed.height, code = body.code, "replay for a subscriber failed");
        let last = message::last_error(&body.code, &body.message, failed.height);
        self.leave(Some(last), close_code::AGAIN, "replay failed");
    }

    /// Where a client that is cut off goes on; it may get again what it has, but nothing is left out.
    fn resume_from(&self, first_unsent: Option<u64>) -> u64 {
        first_unsent.or(self.next_block).unwrap_or(self.last_height)
    }

    fn too_slow(&self) {
        self.api.metrics.websocket_lagged.inc();
        self.outgoing.cut(|first| {
            let text = "events came faster than they were read; connect again with from_height";
            let last = message::last_error("SLOW_READER", text, self.resume_from(first));
            End { last: Some(last), code: close_code::AGAIN, reason: "slow reader", limit: PARTING_LIMIT }
        });
    }

    fn stop(&self) {
        self.outgoing.cut(|first| {
            let last = message::last_error("STOPPING", "the node is stopping; use another", self.resume_from(first));
            End { last: Some(last), code: close_code::AWAY, reason: "the node is stopping", limit: STOP_LIMIT }
        });
    }

    fn leave(&self, last: Option<String>, code: u16, reason: &'static str) {
        self.outgoing.cut(|_| End { last, code, reason, limit: STOP_LIMIT });
    }
}

/// The next event; never without a subscription.
async fn receive(live: &mut Option<Reader>) -> Result<Published, RecvError> {
    match live {
        Some(live) => live.next().await,
        None => std::future::pending().await,
    }
}

/// The end of a replay; never without one.
async fn finish(replay: &mut Option<Replay>) -> Result<u64, Failed> {
    match replay {
        Some(replay) => (&mut replay.task).await.unwrap_or_else(|cause| {
            let error = ApiError::Internal(format!("replay: {cause}"));
            Err(Failed { height: 0, error })
        }),
        None => std::future::pending().await,
    }
}
