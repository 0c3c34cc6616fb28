//! When whose next handshake may go on: before it gets a Hello, a number or a channel, so that whoever shakes hands all the
//! time costs no more than once in [`REOPEN_AFTER`].

use super::limits::REOPEN_AFTER;
use aitbc_core::key::PublicKey;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Of keys and of processes, each when it may go on again: as many as have proven themselves a moment ago, or wait at the door.
#[derive(Default)]
pub struct Turns(Mutex<BTreeMap<Who, Instant>>);

/// A key may run in many processes, and a process show many keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Key(PublicKey),
    Process([u8; 32]),
}

impl Turns {
    /// When the handshake of a process that has proven a key `now` may go on.
    pub fn take(&self, key: &PublicKey, process: &[u8; 32], now: Instant) -> Instant {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, next| *next > now);
        let both = [Who::Key(*key), Who::Process(*process)];
        let turn = both.iter().filter_map(|who| turns.get(who)).copied().fold(now, Instant::max);
        turns.extend(both.map(|who| (who, turn + REOPEN_AFTER)));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    #[test]
    fn a_key_that_is_shown_all_the_time_is_slowed_and_slows_nobody_else() {
        let (turns, now) = (Turns::default(), Instant::now());
        let same = (0..3).map(|process| turns.take(&key(1), &[process; 32], now));
        assert_eq!(same.collect::<Vec<_>>(), [now, now + REOPEN_AFTER, now + 2 * REOPEN_AFTER]);
        assert_eq!(turns.take(&key(2), &[9; 32], now), now);
    }

    #[test]
    fn a_process_that_shows_key_after_key_is_slowed_and_slows_nobody_else() {
        let (turns, now) = (Turns::default(), Instant::now());
        let same = (0..3).map(|n| turns.take(&key(n), &[1; 32], now));
        assert_eq!(same.collect::<Vec<_>>(), [now, now + REOPEN_AFTER, now + 2 * REOPEN_AFTER]);
        assert_eq!(turns.take(&key(9), &[2; 32], now), now);
    }

    #[test]
    fn turns_that_are_over_are_forgotten() {
        let (turns, now) = (Turns::default(), Instant::now());
        (0..100).for_each(|n| assert_eq!(turns.take(&key(n), &[n; 32], now), now));
        assert_eq!(turns.take(&key(1), &[1; 32], now + REOPEN_AFTER), now + REOPEN_AFTER);
        assert_eq!(turns.0.lock().expect("no panic").len(), 2);
    }
}
