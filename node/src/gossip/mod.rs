//! Authenticated channels to the other validators: Noise inside WebSocket, bounded queues, one channel a peer.

use aitbc_core::message::Message;
use aitbc_core::validators::Index;

/// What gossip tells the node. Sent into one bounded channel; a full channel slows the peer, never the node.
#[derive(Debug)]
pub enum GossipEvent {
    /// A channel is up.
    Connected(Index),
    /// A channel is gone.
    Disconnected(Index),
    /// A message came, decoded and within its caps.
    Message(Index, Message),
}
