//! States after some heights, kept for nodes that are far behind (S3): clones, which share what has not changed since.

use aitbc_core::message::MAX_SNAPSHOTS;
use aitbc_core::state::State;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A snapshot that was asked for within this time is still being fetched.
const IN_USE: Duration = Duration::from_secs(30);

struct Kept {
    height: u64,
    state: State,
    asked: Option<Instant>,
}

impl Kept {
    fn in_use(&self) -> Option<Instant> {
        self.asked.filter(|at| at.elapsed() < IN_USE)
    }
}

/// At most [`MAX_SNAPSHOTS`].
#[derive(Default)]
pub struct Snapshots(Mutex<Vec<Kept>>);

impl Snapshots {
    /// Keeps one more, in place of the one that nobody has asked for, or the one asked for longest ago; of equals the oldest.
    pub fn keep(&self, height: u64, state: State) {
        let mut kept = self.lock();
        if kept.len() >= MAX_SNAPSHOTS
            && let Some(at) = (0..kept.len()).min_by_key(|at| (kept[*at].in_use(), kept[*at].height))
        {
            kept.remove(at);
        }
        kept.push(Kept { height, state, asked: None });
    }

    /// Heights of those there are.
    pub fn heights(&self) -> Vec<u64> {
        self.lock().iter().map(|kept| kept.height).collect()
    }

    /// The state after a height, which stays for a while now.
    pub fn get(&self, height: u64) -> Option<State> {
        let mut kept = self.lock();
        let found = kept.iter_mut().find(|kept| kept.height == height)?;
        found.asked = Some(Instant::now());
        Some(found.state.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_those_being_fetched_are_kept() {
        let snapshots = Snapshots::default();
        assert!(snapshots.heights().is_empty() && snapshots.get(0).is_none());
        (1..=3).for_each(|height| snapshots.keep(height, State::empty()));
        assert_eq!(snapshots.heights(), [2, 3]);
        assert!(snapshots.get(2).is_some());
        (4..=5).for_each(|height| snapshots.keep(height, State::empty()));
        assert_eq!(snapshots.heights(), [2, 5], "somebody fetches 2");
        assert!(snapshots.get(5).is_some());
        snapshots.keep(6, State::empty());
        assert_eq!(snapshots.heights(), [5, 6], "2 was asked for longest ago");
    }
}
