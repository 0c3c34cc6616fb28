//! The consensus loop's heartbeat and position, read by health, status and metrics.

use aitbc_core::consensus::VotingState;
use aitbc_core::consensus::input::Now;
use aitbc_core::memory::Cause;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What the loop tells everybody else.
pub struct Pulse {
    /// Start of the process; the times count from here.
    pub started: Instant,
    /// Milliseconds since start of the last turn of the loop.
    pub last_turn_ms: AtomicU64,
    /// Epoch whose slots these are.
    pub epoch: AtomicU64,
    /// Frontier F.
    pub frontier: AtomicU64,
    /// s*.
    pub final_slot: AtomicU64,
    /// Last height whose Final certificate holds a vote of ours.
    pub last_signed_height: AtomicU64,
    /// See [`Pulse::voting_state`].
    pub(crate) voting_state: Mutex<(VotingState, Option<Cause>)>,
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse {
            started: Instant::now(),
            last_turn_ms: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            frontier: AtomicU64::new(0),
            final_slot: AtomicU64::new(0),
            last_signed_height: AtomicU64::new(0),
            voting_state: Mutex::new((VotingState::default(), None)),
        }
    }
}

impl Pulse {
    /// Milliseconds since the start of the process.
    pub fn mono_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Whether this validator votes, and why not where its votes may be lost.
    pub fn voting_state(&self) -> (VotingState, Option<Cause>) {
        *self.voting_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells it to everybody.
    pub fn set_voting_state(&self, voting_state: VotingState, cause: Option<Cause>) {
        *self.voting_state.lock().unwrap_or_else(PoisonError::into_inner) = (voting_state, cause);
    }

    /// Both clocks, for a step of the core.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: self.mono_ms(), wall_ms: wall.as_millis() as u64 }
    }
}
