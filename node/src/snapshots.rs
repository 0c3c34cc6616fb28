//! States after some heights, kept for nodes that are far behind (S3): clones, which share what has not changed since.

use aitbc_core::message::MAX_SNAPSHOTS;
use aitbc_core::state::State;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A snapshot that was asked for within this time is still being fetched.
const IN_USE: Duration = Duration::from_secs(30);

/// So many are kept whoever asks for them.
const NEWEST: usize = 2;

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

/// The last two, and of those before the ones that are being fetched: [`MAX_SNAPSHOTS`] at most.
#[derive(Default)]
pub struct Snapshots(Mutex<Vec<Kept>>);

impl Snapshots {
    /// Keeps one more. Older ones go unless they are being fetched; of too many the one that was asked for longest ago.
    pub fn keep(&self, height: u64, state: State) {
        let mut kept = self.lock();
        kept.push(Kept { height, state, asked: None });
        kept.sort_by_key(|kept| kept.height);
        let mut older = kept.len().saturating_sub(NEWEST);
        while let Some(at) = (0..older).min_by_key(|at| (kept[*at].in_use(), kept[*at].height)) {
            if kept[at].in_use().is_some() && kept.len() <= MAX_SNAPSHOTS {
                break;
            }
            kept.remove(at);
            older -= 1;
        }
    }

    /// Heights of those there are.
    pub fn heights(&self) -> Vec<u64> {
        self.lock().iter().map(|kept| kept.height).collect()
    }

    /// The same for one that will fetch one of them: all stay for a while, as it takes the headers first.
    pub fn offer(&self) -> Vec<u64> {
        let mut kept = self.lock();
        kept.iter_mut().for_each(|kept| kept.asked = Some(Instant::now()));
        kept.iter().map(|kept| kept.height).collect()
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

    fn kept(heights: std::ops::RangeInclusive<u64>) -> Snapshots {
        let snapshots = Snapshots::default();
        heights.for_each(|height| snapshots.keep(height, State::empty()));
        snapshots
    }

    #[test]
    fn the_newest_two_are_kept_and_older_ones_while_they_are_fetched() {
        let snapshots = kept(1..=3);
        assert!(Snapshots::default().heights().is_empty() && snapshots.get(1).is_none());
        assert_eq!(snapshots.heights(), [2, 3]);
        assert!(snapshots.get(2).is_some() && snapshots.get(3).is_some());
        (4..=5).for_each(|height| snapshots.keep(height, State::empty()));
        assert_eq!(snapshots.heights(), [2, 3, 4, 5], "two are fetched, and neither costs the other");
        snapshots.keep(6, State::empty());
        assert_eq!(snapshots.heights(), [2, 3, 5, 6], "nobody fetches 4");
    }

    #[test]
    fn of_more_than_four_the_one_asked_for_longest_ago_goes() {
        let snapshots = kept(1..=2);
        for height in 3..=4 {
            snapshots.offer();
            snapshots.keep(height, State::empty());
        }
        assert_eq!(snapshots.heights(), [1, 2, 3, 4]);
        snapshots.offer();
        assert!(snapshots.get(1).is_some());
        snapshots.keep(5, State::empty());
        assert_eq!(snapshots.heights(), [1, 3, 4, 5]);
    }

    #[test]
    fn those_offered_stay_as_if_they_were_fetched() {
        let snapshots = kept(1..=2);
        assert_eq!(snapshots.offer(), [1, 2]);
        (3..=4).for_each(|height| snapshots.keep(height, State::empty()));
        assert_eq!(snapshots.heights(), [1, 2, 3, 4]);
        let untouched = kept(1..=2);
        assert_eq!(untouched.heights(), [1, 2]);
        (3..=4).for_each(|height| untouched.keep(height, State::empty()));
        assert_eq!(untouched.heights(), [3, 4]);
    }
}
