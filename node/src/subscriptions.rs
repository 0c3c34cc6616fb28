//! Bounded fan-out of what happens to WebSocket subscribers; a reader that is too slow is told where to resume.

use serde::Serialize;
use std::sync::Arc;
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

/// One event, serialised once for all subscribers.
#[derive(Clone, Debug)]
pub struct Published {
    /// Of what topic.
    pub topic: Topic,
    /// Height it belongs to: where a cut-off reader resumes.
    pub height: u64,
    /// JSON object, without the topic.
    pub data: Arc<serde_json::value::RawValue>,
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
        if let Ok(raw) = serde_json::value::to_raw_value(data) {
            // Fails only where the last reader left meanwhile.
            let _ = self.sender.send(Published { topic, height, data: raw.into() });
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
