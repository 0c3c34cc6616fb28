//! The consensus loop's heartbeat and position, read by health, status and metrics.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// What the loop tells everybody else.
pub struct Pulse {
    /// Start of the process; the times count from here.
    pub started: Instant,
    /// Milliseconds since start of the last turn of the loop.
    pub last_turn_ms: AtomicU64,
    /// Frontier F.
    pub frontier: AtomicU64,
    /// s*.
    pub final_slot: AtomicU64,
    /// Last height whose Final certificate holds a vote of ours.
    pub last_signed_height: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse {
            started: Instant::now(),
            last_turn_ms: AtomicU64::new(0),
            frontier: AtomicU64::new(0),
            final_slot: AtomicU64::new(0),
            last_signed_height: AtomicU64::new(0),
        }
    }
}
