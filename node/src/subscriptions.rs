//! Bounded fan-out of what happens to WebSocket subscribers; a reader that is too slow is told where to resume.

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use tokio::sync::broadcast;

/// Events kept for a slow reader before it is cut off.
pub const BUFFER: usize = 4_096;

/// What one can subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Final blocks, in order of height.
    NewBlocks,
    /// Transactions: admitted to a pool, then final.
    NewTransactions,
    /// Slots, proposals, votes, certificates.
    ConsensusEvents,
}

impl Topic {
    /// Name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Topic::NewBlocks => "new_blocks",
            Topic::NewTransactions => "new_transactions",
            Topic::ConsensusEvents => "consensus_events",
        }
    }

    /// Topic of a name.
    pub fn from_name(name: &str) -> Option<Topic> {
        [Topic::NewBlocks, Topic::NewTransactions, Topic::ConsensusEvents].into_iter().find(|t| t.name() == name)
    }
}

/// One event, written once for all subscribers; cheap to clone, so what waits for slow ones is shared.
#[derive(Clone, Debug)]
pub struct Published {
    /// Of what topic.
    pub topic: Topic,
    /// Height it belongs to: where a cut-off reader resumes.
    pub height: u64,
    /// `{"topic": …, "height": …, "data": {…}}`.
    pub text: Utf8Bytes,
}

/// The sending side; cheap to clone.
#[derive(Clone)]
pub struct Subscriptions {
    sender: broadcast::Sender<Published>,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Subscriptions { sender: broadcast::channel(BUFFER).0 }
    }
}

impl Subscriptions {
    /// Publishes, where anybody listens.
    pub fn publish<T: Serialize>(&self, topic: Topic, height: u64, data: &T) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        if let Ok(text) = event(topic, height, data) {
            // Fails only where the last reader left meanwhile.
            let _ = self.sender.send(Published { topic, height, text });
        }
    }

    /// Everything published from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Published> {
        self.sender.subscribe()
    }

    /// Readers at this moment.
    pub fn readers(&self) -> usize {
        self.sender.receiver_count()
    }
}

/// An event as subscribers get it.
///
/// # Errors
/// Where `data` cannot be written as JSON.
pub fn event<T: Serialize>(topic: Topic, height: u64, data: &T) -> serde_json::Result<Utf8Bytes> {
    let data = serde_json::to_string(data)?;
    Ok(format!("{{\"topic\":\"{}\",\"height\":{height},\"data\":{data}}}", topic.name()).into())
}
