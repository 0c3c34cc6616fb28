//! Every bound of gossip: sizes, counts, rates and times, each with its unit in the name or type.

use aitbc_core::message::MAX_MESSAGE_BYTES;
use std::time::Duration;

/// Version of everything that is sent, from the TCP connection to the fields of a message: raised with each change of them,
/// for another one is refused. 2: answers of block sync hold headers and the least height that is kept. 3: epochs and receipts;
/// headers and parts of snapshots are asked for and sent. 4: transactions of stakes and votes. 5: fees by what a transaction costs.
/// 6: nodes of no set pass transactions on. 7: accounts apart from records in the state. 8: own votes are asked
/// for (A9).
pub const PROTOCOL: u16 = 8;

/// Most bytes of a Noise message, which is the payload of one WebSocket message.
pub const SEALED_MAX_BYTES: usize = 65_535;
/// Bytes that ChaCha20-Poly1305 adds.
pub const TAG_BYTES: usize = 16;
/// Most bytes of a record: the plain text of a Noise message.
pub const RECORD_MAX_BYTES: usize = SEALED_MAX_BYTES - TAG_BYTES;
/// Most bytes of a greeting; a Hello takes 167.
pub const GREETING_MAX_BYTES: usize = 256;
/// WebSocket read buffer of a connection: one record and its header.
pub const READ_BUFFER_BYTES: usize = 64 << 10;
/// The WebSocket layer writes to the socket at this fill, or when the queues are empty.
pub const WRITE_BUFFER_BYTES: usize = 128 << 10;
/// Kernel send buffer asked for: what is in it can no longer be overtaken by a vote.
pub const SEND_BUFFER_BYTES: u32 = 512 << 10;

/// Messages and bytes of a peer's outbound queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueBound {
    /// Messages.
    pub count: usize,
    /// Bytes of encoded messages.
    pub bytes: usize,
}

/// Votes, certificates, proposals, requests: seconds of the busiest chain.
pub const CONSENSUS_QUEUE: QueueBound = QueueBound { count: 8_192, bytes: 4 << 20 };
/// Sealed batches: four full blocks.
pub const BATCHES_QUEUE: QueueBound = QueueBound { count: 1_024, bytes: 8 << 20 };
/// Replies of block sync: two of the largest.
pub const SYNC_QUEUE: QueueBound = QueueBound { count: 64, bytes: 2 * MAX_MESSAGE_BYTES };
/// One record in so many serves the sync queue before the batches, so that a peer which is behind catches up under load.
pub const SYNC_EVERY_RECORDS: u32 = 8;

/// Bytes a second that a peer may send on average; beyond it reading pauses.
pub const QUOTA_BYTES_PER_SECOND: u64 = 32 << 20;
/// Bytes that a peer may send at once before the rate counts.
pub const QUOTA_BURST_BYTES: u64 = 32 << 20;
/// What a message costs at least, however small: bounds messages a second to 131,072.
pub const QUOTA_MESSAGE_BYTES: u64 = 256;

/// Inbound sockets that have not proven a key yet.
pub const UNAUTHENTICATED_MAX: usize = 64;
/// The same from one IP address.
pub const UNAUTHENTICATED_PER_IP_MAX: usize = 8;
/// Addresses taken from one DNS name; a set has at most 100 validators.
pub const ADDRESSES_PER_NAME_MAX: usize = 128;

/// First pause before dialing an address again.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause before dialing an address again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A channel that lived this long resets the pause; a shorter life counts as a failed attempt.
pub const STABLE_AFTER: Duration = Duration::from_secs(2);
/// How often an address that turned out to be this node is tried again: it may be given to another pod.
pub const OWN_ADDRESS_AGAIN: Duration = Duration::from_secs(30);
/// How often a name is resolved while all its addresses are connected: pods may have been added.
pub const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// How long an attempt waits for DNS before it uses the addresses it has.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a TCP connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Two dials that cross end in one channel: the second is a duplicate if the first is younger than this.
pub const CROSSING: Duration = Duration::from_millis(500);
/// Least time between two channels of one peer: one that opens and closes all the time costs no more than this.
pub const REOPEN_AFTER: Duration = Duration::from_millis(50);
/// How long a stopping node goes on sending what is queued.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause after a failed `accept`, so that a lack of file descriptors is no busy loop.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The times that tests shorten.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the TCP connection to the open channel, both ways.
    pub handshake: Duration,
    /// A side that sent nothing for so long sends a ping.
    pub ping: Duration,
    /// A peer from which nothing came for so long, or that took nothing, is closed.
    pub dead: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing { handshake: Duration::from_secs(3), ping: Duration::from_secs(5), dead: Duration::from_secs(15) }
    }
}
