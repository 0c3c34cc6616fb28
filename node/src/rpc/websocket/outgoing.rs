//! What waits to be written to one subscriber: bounded, so that a slow reader costs a known amount of memory.

use axum::extract::ws::Utf8Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// Entries that may wait.
const MAX_FRAMES: usize = 4_096;
/// Bytes that may wait: the transactions of three full blocks. All readers share the bytes of one event.
const MAX_BYTES: usize = 16 << 20;
/// A replay waits while this many do, so it never makes its own reader a slow one.
const REPLAY_FRAMES: usize = 256;

/// Messages that were queued together.
#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    /// Height of events; `None` for answers.
    pub(super) height: Option<u64>,
    /// Their texts.
    pub(super) texts: Arc<[Utf8Bytes]>,
}

impl Frame {
    fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.len()).sum()
    }
}

/// How a connection ends.
#[derive(Debug, PartialEq)]
pub(super) struct End {
    /// Last message before the close frame.
    pub(super) last: Option<String>,
    /// WebSocket close code.
    pub(super) code: u16,
    /// Text of the close frame.
    pub(super) reason: &'static str,
    /// How long the client may take to read both.
    pub(super) limit: Duration,
}

/// What the writer does next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Write these.
    Frames(Vec<Frame>),
    /// Write this and close.
    End(End),
}

/// The queue is full.
#[derive(Debug, PartialEq)]
pub(super) struct Full;

#[derive(Default)]
struct State {
    queue: VecDeque<Frame>,
    bytes: usize,
    /// Until the writer has taken it.
    end: Option<End>,
    ended: bool,
}

/// The queue between session and writer.
#[derive(Default)]
pub(super) struct Outgoing {
    state: Mutex<State>,
    filled: Notify,
    drained: Notify,
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked within left a queue that is as good as before.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Queues a message; after the end it goes nowhere.
    pub(super) fn push(&self, height: Option<u64>, text: impl Into<Utf8Bytes>) -> Result<(), Full> {
        self.push_all(height, Arc::new([text.into()]))
    }

    /// Queues messages as one entry, all or none.
    pub(super) fn push_all(&self, height: Option<u64>, texts: Arc<[Utf8Bytes]>) -> Result<(), Full> {
        let frame = Frame { height, texts };
        let bytes = frame.bytes();
        let mut state = self.lock();
        if state.ended {
            return Ok(());
        }
        if state.queue.len() >= MAX_FRAMES || state.bytes + bytes > MAX_BYTES {
            return Err(Full);
        }
        state.bytes += bytes;
        state.queue.push_back(frame);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Ends the connection. `end` is given the height of the first event that was queued and will not be sent.
    /// Only the first end counts.
    pub(super) fn cut(&self, end: impl FnOnce(Option<u64>) -> End) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        let first = state.queue.iter().find_map(|frame| frame.height);
        state.queue.clear();
        state.bytes = 0;
        state.end = Some(end(first));
        state.ended = true;
        drop(state);
        self.filled.notify_one();
        self.drained.notify_one();
    }

    /// Waits until a replay may queue more.
    pub(super) async fn room_for_replay(&self) {
        while !self.has_room_for_replay() {
            self.drained.notified().await;
        }
    }

    fn has_room_for_replay(&self) -> bool {
        let state = self.lock();
        state.ended || (state.queue.len() < REPLAY_FRAMES && state.bytes < MAX_BYTES / 2)
    }

    /// Waits for something to write; at most `max` entries.
    pub(super) async fn next(&self, max: usize) -> Next {
        loop {
            if let Some(next) = self.take(max) {
                self.drained.notify_one();
                return next;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self, max: usize) -> Option<Next> {
        let mut state = self.lock();
        if let Some(end) = state.end.take() {
            return Some(Next::End(end));
        }
        if state.queue.is_empty() {
            return None;
        }
        let count = state.queue.len().min(max);
        let frames: Vec<Frame> = state.queue.drain(..count).collect();
        state.bytes -= frames.iter().map(Frame::bytes).sum::<usize>();
        Some(Next::Frames(frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(first: Option<u64>) -> End {
        End { last: Some(format!("{first:?}")), code: 1, reason: "", limit: Duration::ZERO }
    }

    #[tokio::test]
    async fn messages_come_out_in_order_and_the_end_drops_what_waits() {
        let outgoing = Outgoing::default();
        outgoing.push(None, "a").expect("room");
        outgoing.push(Some(7), "b").expect("room");
        let Next::Frames(frames) = outgoing.next(1).await else { panic!("frames") };
        assert_eq!(frames[0].texts[0].as_str(), "a");
        outgoing.cut(end);
        outgoing.cut(|_| panic!("only the first end counts"));
        assert_eq!(outgoing.next(1).await, Next::End(end(Some(7))));
        assert_eq!(outgoing.push(None, "late"), Ok(()));
        outgoing.room_for_replay().await;
    }

    #[test]
    fn messages_and_bytes_are_bounded() {
        let outgoing = Outgoing::default();
        for _ in 0..MAX_FRAMES {
            outgoing.push(None, "x").expect("room");
        }
        assert_eq!(outgoing.push(None, "x"), Err(Full));
        let outgoing = Outgoing::default();
        outgoing.push(None, "x".repeat(MAX_BYTES)).expect("room");
        assert_eq!(outgoing.push(None, "x"), Err(Full));
    }
}
