//! Bounded fan-out of what happens to WebSocket subscribers; a reader that is too slow is told where to resume.

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Entries kept for a slow reader before it is cut off.
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
    /// Final blocks in the prototype's shape, for the connections of its clients.
    PrototypeBlocks,
    /// Transactions that a pool admitted, likewise.
    PrototypeTransactions,
}

impl Topic {
    /// Name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Topic::NewBlocks => "new_blocks",
            Topic::NewTransactions => "new_transactions",
            Topic::ConsensusEvents => "consensus_events",
            Topic::PrototypeBlocks => "prototype_blocks",
            Topic::PrototypeTransactions => "prototype_transactions",
        }
    }

    /// Topic of a name; the prototype's have routes of their own and none.
    pub fn from_name(name: &str) -> Option<Topic> {
        TOPICS.into_iter().find(|t| t.name() == name && !t.is_bare())
    }

    /// Whether its events are sent as they are, without topic and height around them.
    fn is_bare(self) -> bool {
        matches!(self, Topic::PrototypeBlocks | Topic::PrototypeTransactions)
    }
}

/// All of them, in the order of their numbers.
const TOPICS: [Topic; 5] = [
    Topic::NewBlocks,
    Topic::NewTransactions,
    Topic::ConsensusEvents,
    Topic::PrototypeBlocks,
    Topic::PrototypeTransactions,
];

/// Events of one moment, written once for all readers; cheap to clone, so what waits for slow ones is shared.
#[derive(Clone, Debug)]
pub struct Published {
    /// Of what topic.
    pub topic: Topic,
    /// Height they belong to: where a cut-off reader resumes.
    pub height: u64,
    /// In order, each `{"topic": …, "height": …, "data": {…}}`; of the prototype's topics the data alone.
    pub texts: Arc<[Utf8Bytes]>,
}

/// The sending side; cheap to clone. One channel for all topics keeps what happened in order across them.
#[derive(Clone)]
pub struct Subscriptions {
    sender: broadcast::Sender<Published>,
    /// Readers of each topic.
    readers: Arc<[AtomicUsize; TOPICS.len()]>,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Subscriptions { sender: broadcast::channel(BUFFER).0, readers: Arc::default() }
    }
}

impl Subscriptions {
    /// Publishes, where anybody listens.
    pub fn publish<T: Serialize>(&self, topic: Topic, height: u64, data: &T) {
        self.publish_all(topic, height, std::iter::once(data));
    }

    /// Publishes what happened at once as one entry of the channel: a block of any size takes one place in it.
    /// Without a reader of the topic `all` is not looked at.
    pub fn publish_all<T: Serialize>(&self, topic: Topic, height: u64, all: impl IntoIterator<Item = T>) {
        if self.readers(topic) == 0 {
            return;
        }
        let texts: Arc<[Utf8Bytes]> = all.into_iter().filter_map(|data| event(topic, height, &data).ok()).collect();
        if !texts.is_empty() {
            // Fails only where the last reader left meanwhile.
            let _ = self.sender.send(Published { topic, height, texts });
        }
    }

    /// A reader of no topic yet.
    pub fn reader(&self) -> Reader {
        Reader { receiver: self.sender.subscribe(), readers: self.readers.clone(), topics: HashSet::new() }
    }

    /// Readers of a topic at this moment.
    pub fn readers(&self, topic: Topic) -> usize {
        self.readers[topic as usize].load(Ordering::Relaxed)
    }
}

/// The receiving side: what is published on its topics since it asked for them.
#[derive(Debug)]
pub struct Reader {
    receiver: broadcast::Receiver<Published>,
    readers: Arc<[AtomicUsize; TOPICS.len()]>,
    topics: HashSet<Topic>,
}

impl Reader {
    /// Asks for a topic.
    pub fn add(&mut self, topic: Topic) {
        if self.topics.insert(topic) {
            self.readers[topic as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks for a topic no longer.
    pub fn remove(&mut self, topic: Topic) {
        if self.topics.remove(&topic) {
            self.readers[topic as usize].fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether it reads a topic.
    pub fn has(&self, topic: Topic) -> bool {
        self.topics.contains(&topic)
    }

    /// Whether it reads no topic.
    pub fn is_idle(&self) -> bool {
        self.topics.is_empty()
    }

    /// The next of its topics.
    ///
    /// # Errors
    /// `Lagged` where more than [`BUFFER`] entries waited; `Closed` where nobody publishes any more.
    pub async fn next(&mut self) -> Result<Published, RecvError> {
        loop {
            let published = self.receiver.recv().await?;
            if self.topics.contains(&published.topic) {
                return Ok(published);
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for topic in TOPICS {
            self.remove(topic);
        }
    }
}

/// An event as subscribers get it.
///
/// # Errors
/// Where `data` cannot be written as JSON.
pub fn event<T: Serialize>(topic: Topic, height: u64, data: &T) -> serde_json::Result<Utf8Bytes> {
    let data = serde_json::to_string(data)?;
    if topic.is_bare() {
        return Ok(data.into());
    }
    Ok(format!("{{\"topic\":\"{}\",\"height\":{height},\"data\":{data}}}", topic.name()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_gets_what_happened_in_order_and_only_of_its_topics() {
        let subscriptions = Subscriptions::default();
        let mut reader = subscriptions.reader();
        reader.add(Topic::NewBlocks);
        reader.add(Topic::ConsensusEvents);
        let mut other = subscriptions.reader();
        other.add(Topic::NewTransactions);
        subscriptions.publish(Topic::ConsensusEvents, 1, &"a");
        subscriptions.publish(Topic::NewTransactions, 1, &"b");
        subscriptions.publish(Topic::NewBlocks, 2, &"c");
        assert_eq!(reader.next().await.expect("published").topic, Topic::ConsensusEvents);
        assert_eq!(reader.next().await.expect("published").height, 2);
    }

    #[tokio::test]
    async fn a_block_of_any_number_of_transactions_cuts_off_no_reader() {
        let subscriptions = Subscriptions::default();
        let mut reader = subscriptions.reader();
        reader.add(Topic::NewTransactions);
        for height in 1..=3 {
            subscriptions.publish_all(Topic::NewTransactions, height, 0..4 * BUFFER);
        }
        for height in 1..=3 {
            let published = reader.next().await.expect("no lag");
            assert_eq!((published.height, published.texts.len()), (height, 4 * BUFFER));
        }
    }

    #[test]
    fn readers_are_counted_by_topic_and_without_one_nothing_is_written() {
        let subscriptions = Subscriptions::default();
        let mut reader = subscriptions.reader();
        reader.add(Topic::NewBlocks);
        reader.add(Topic::NewBlocks);
        assert_eq!(TOPICS.map(|topic| subscriptions.readers(topic)), [1, 0, 0, 0, 0]);
        let looked_at = (0..1).inspect(|_| panic!("nobody reads these"));
        subscriptions.publish_all(Topic::NewTransactions, 1, looked_at);
        drop(reader);
        assert_eq!(subscriptions.readers(Topic::NewBlocks), 0);
    }
}
