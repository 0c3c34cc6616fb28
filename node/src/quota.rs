//! Token buckets: what somebody may send on average, and how much at once. Pure.

use std::time::{Duration, Instant};

/// A bucket of bytes, or of what is counted like them. Who takes more than there is owes it.
#[derive(Debug)]
pub(crate) struct Quota {
    /// What it earns in a second.
    rate: u64,
    /// Most that it holds.
    burst: u64,
    /// What may come at once; below zero it is owed.
    left: i64,
    at: Instant,
}

impl Quota {
    /// A full one; `rate` is earned in a second, of `burst` at most.
    pub(crate) fn new(rate: u64, burst: u64, now: Instant) -> Self {
        Quota { rate, burst, left: i64::try_from(burst).unwrap_or(i64::MAX), at: now }
    }

    /// Takes `cost`. Returns how long to wait until nothing is owed.
    pub(crate) fn pay(&mut self, cost: u64, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.at);
        let earned = elapsed.as_micros().saturating_mul(u128::from(self.rate)) / 1_000_000;
        // Fractions of a byte are not lost: time moves on only when something was earned.
        if earned > 0 {
            self.at = now;
        }
        let burst = i64::try_from(self.burst).unwrap_or(i64::MAX);
        let earned = i64::try_from(earned).unwrap_or(burst);
        self.left = self.left.saturating_add(earned).min(burst).saturating_sub(i64::try_from(cost).unwrap_or(burst));
        let debt = u64::try_from(self.left.saturating_neg()).unwrap_or(0);
        Duration::from_micros(debt.saturating_mul(1_000_000) / self.rate.max(1))
    }

    /// Whether nothing is owed, so that something may come.
    pub(crate) fn is_level(&mut self, now: Instant) -> bool {
        self.pay(0, now);
        self.left >= 0
    }

    /// Whether nothing was taken for so long that it is as good as new.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.pay(0, now);
        i64::try_from(self.burst).is_ok_and(|burst| self.left >= burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 32 << 20;

    #[test]
    fn who_keeps_to_a_quota_never_waits_and_who_is_over_it_waits_for_its_debt() {
        let start = Instant::now();
        let mut quota = Quota::new(RATE, RATE, start);
        assert!(quota.pay(RATE, start).is_zero() && quota.is_level(start));
        assert_eq!(quota.pay(RATE / 2, start), Duration::from_millis(500));
        assert!(!quota.is_level(start));
        assert_eq!(quota.pay(0, start + Duration::from_millis(250)), Duration::from_millis(250));
        assert!(quota.is_level(start + Duration::from_secs(1)) && !quota.is_full(start + Duration::from_secs(1)));
    }

    #[test]
    fn a_pause_earns_at_most_one_burst() {
        let start = Instant::now();
        let mut quota = Quota::new(RATE, RATE, start);
        let later = start + Duration::from_secs(3_600);
        assert!(quota.is_full(later) && quota.pay(RATE, later).is_zero());
        assert!(!quota.pay(1 << 10, later).is_zero());
    }
}
