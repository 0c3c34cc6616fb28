//! Notices what a healthy process never sees: that it stood still, or that the wall clock leapt. Pure.

use aitbc_core::consensus::input::Now;
use std::time::Duration;

/// A loop that turns every 200 ms and was silent for this long was stopped, starved, or blocked.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// Between two turns the wall clock may part from the monotonic one by this much: half of the protocol's least drift.
const LEAP: Duration = Duration::from_millis(250);

/// What happened between two turns of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lapse {
    /// No turn for so many milliseconds.
    StoodStill(u64),
    /// The wall clock went so many milliseconds further than time did; below zero: back.
    ClockLeapt(i64),
}

/// The last turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lapses(Option<Now>);

impl Lapses {
    /// Takes note of a turn. A process that stood still while its clock was set is told both, one turn after the other.
    pub fn turn(&mut self, now: Now) -> Option<Lapse> {
        let before = self.0.replace(now)?;
        let passed = now.mono_ms.saturating_sub(before.mono_ms);
        let leap = now.wall_ms as i64 - before.wall_ms as i64 - passed as i64;
        if u128::from(passed) >= STOOD_STILL.as_millis() {
            self.0 = Some(Now { wall_ms: before.wall_ms.saturating_add(passed), ..now });
            return Some(Lapse::StoodStill(passed));
        }
        (u128::from(leap.unsigned_abs()) >= LEAP.as_millis()).then_some(Lapse::ClockLeapt(leap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(turns: &[(u64, u64)], expected: &[Lapse]) {
        let mut lapses = Lapses::default();
        let found: Vec<Lapse> = turns
            .iter()
            .filter_map(|(mono_ms, wall_ms)| lapses.turn(Now { mono_ms: *mono_ms, wall_ms: *wall_ms }))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_clock_that_is_slewed_and_a_slow_turn_are_nothing() {
        check(&[(0, 50_000), (200, 50_201), (1_900, 51_890), (2_100, 52_300)], &[]);
    }

    #[test]
    fn a_leap_is_told_once_and_back_again_once() {
        let turns = [(0, 50_000), (200, 60_200), (400, 60_400), (600, 50_600), (800, 50_800)];
        check(&turns, &[Lapse::ClockLeapt(10_000), Lapse::ClockLeapt(-10_000)]);
    }

    #[test]
    fn standing_still_is_told_and_a_clock_set_meanwhile_at_the_next_turn() {
        check(&[(0, 50_000), (10_000, 60_000), (10_200, 60_200)], &[Lapse::StoodStill(10_000)]);
        let both = [Lapse::StoodStill(10_000), Lapse::ClockLeapt(5_000)];
        check(&[(0, 50_000), (10_000, 65_000), (10_200, 65_200), (10_400, 65_400)], &both);
    }
}
