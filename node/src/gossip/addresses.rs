//! When to dial which address of one entry of PEERS. Pure: a name may stand for several nodes, one node for several names.

use super::limits::{ADDRESSES_PER_NAME_MAX, BACKOFF_MAX, BACKOFF_MIN, OWN_ADDRESS_AGAIN, STABLE_AFTER};
use aitbc_core::validators::Index;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be dialed at this time.
    Due(Instant),
    /// Being dialed.
    Dialing,
    /// This peer answered there and is connected, be it by another socket; since when.
    Peer(Index, Instant),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is a channel to this peer, this one or another.
    Peer(Index),
    /// It is this node.
    OwnAddress,
    /// No channel.
    Failed,
}

#[derive(Debug)]
struct Address {
    state: State,
    /// Attempts in a row that brought no lasting channel.
    failures: u32,
}

/// The addresses of one entry.
#[derive(Debug, Default)]
pub struct Addresses {
    known: BTreeMap<SocketAddr, Address>,
}

impl Addresses {
    /// Takes what a name resolves to now: new addresses are due at once, old ones are forgotten.
    pub fn resolved(&mut self, found: impl Iterator<Item = SocketAddr>, now: Instant) {
        let found: Vec<SocketAddr> = found.take(ADDRESSES_PER_NAME_MAX).collect();
        self.known.retain(|address, known| known.state == State::Dialing || found.contains(address));
        for address in found {
            self.known.entry(address).or_insert(Address { state: State::Due(now), failures: 0 });
        }
    }

    /// Whether an address is one of the entry's.
    pub fn knows(&self, address: &SocketAddr) -> bool {
        self.known.contains_key(address)
    }

    /// Makes addresses due whose peer is not connected any more. `jitter` in 0 ..= 1 spreads attempts.
    pub fn lost(&mut self, connected: impl Fn(Index) -> bool, now: Instant, jitter: f64) {
        for known in self.known.values_mut() {
            if let State::Peer(peer, since) = known.state
                && !connected(peer)
            {
                let stable = now.saturating_duration_since(since) >= STABLE_AFTER;
                known.failures = if stable { 0 } else { known.failures.saturating_add(1) };
                known.state = State::Due(now + backoff(known.failures, jitter));
            }
        }
    }

    /// Whether any address is due.
    pub fn any_due(&self, now: Instant) -> bool {
        self.known.values().any(|known| matches!(known.state, State::Due(at) if at <= now))
    }

    /// The addresses to dial now; each is `Dialing` until its outcome is told.
    pub fn take_due(&mut self, now: Instant) -> Vec<SocketAddr> {
        let due = |known: &Address| matches!(known.state, State::Due(at) if at <= now);
        let dialed = self.known.iter_mut().filter(|(_, known)| due(known));
        dialed
            .map(|(address, known)| {
                known.state = State::Dialing;
                *address
            })
            .collect()
    }

    /// Takes the outcome of an attempt.
    pub fn outcome(&mut self, address: SocketAddr, outcome: Outcome, now: Instant, jitter: f64) {
        let Some(known) = self.known.get_mut(&address) else { return };
        known.state = match outcome {
            Outcome::Peer(peer) => State::Peer(peer, now),
            Outcome::OwnAddress => State::Due(now + OWN_ADDRESS_AGAIN),
            Outcome::Failed => {
                let pause = backoff(known.failures, jitter);
                known.failures = known.failures.saturating_add(1);
                State::Due(now + pause)
            }
        };
    }

    /// When the next address is due.
    pub fn next(&self) -> Option<Instant> {
        let due = |known: &Address| match known.state {
            State::Due(at) => Some(at),
            State::Dialing | State::Peer(..) => None,
        };
        self.known.values().filter_map(due).min()
    }
}

/// Doubles from [`BACKOFF_MIN`] to [`BACKOFF_MAX`]; the second half of each pause is random, so nodes do not dial in step.
pub fn backoff(failures: u32, jitter: f64) -> Duration {
    let full = BACKOFF_MIN.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX);
    full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 9082))
    }

    fn of(addresses: &[u8], now: Instant) -> Addresses {
        let mut out = Addresses::default();
        out.resolved(addresses.iter().map(|n| at(*n)), now);
        out
    }

    #[test]
    fn back_off_doubles_from_100_ms_to_2_s_with_up_to_half_of_it_random() {
        let cases = [(0, 50, 100), (1, 100, 200), (4, 800, 1_600), (5, 1_000, 2_000), (1_000, 1_000, 2_000)];
        for (failures, least, most) in cases {
            assert_eq!(backoff(failures, 0.0), Duration::from_millis(least));
            assert_eq!(backoff(failures, 1.0), Duration::from_millis(most));
        }
    }

    #[test]
    fn every_address_of_a_name_is_dialed_and_none_twice_at_a_time() {
        let now = Instant::now();
        let mut addresses = of(&[1, 2], now);
        assert_eq!(addresses.take_due(now), [at(1), at(2)]);
        assert!(addresses.take_due(now).is_empty());
    }

    #[test]
    fn a_connected_peer_is_not_dialed_and_a_lost_one_is_within_100_ms() {
        let now = Instant::now();
        let mut addresses = of(&[1], now);
        addresses.take_due(now);
        addresses.outcome(at(1), Outcome::Peer(3), now, 1.0);
        let later = now + Duration::from_secs(60);
        addresses.lost(|_| true, later, 1.0);
        assert_eq!(addresses.next(), None);
        addresses.lost(|_| false, later, 1.0);
        assert_eq!(addresses.next(), Some(later + BACKOFF_MIN));
    }

    #[test]
    fn channels_that_die_young_are_dialed_ever_more_slowly() {
        let mut now = Instant::now();
        let mut addresses = of(&[1], now);
        for _ in 0..8 {
            assert_eq!(addresses.take_due(now).len(), 1);
            addresses.outcome(at(1), Outcome::Peer(0), now, 1.0);
            addresses.lost(|_| false, now, 1.0);
            now = addresses.next().expect("due");
        }
        addresses.take_due(now);
        addresses.outcome(at(1), Outcome::Failed, now, 1.0);
        assert_eq!(addresses.next(), Some(now + BACKOFF_MAX));
    }

    #[test]
    fn an_address_that_a_name_lost_is_forgotten_and_a_new_one_dialed_at_once() {
        let now = Instant::now();
        let mut addresses = of(&[1], now);
        addresses.take_due(now);
        addresses.outcome(at(1), Outcome::Failed, now, 0.0);
        addresses.resolved([at(2)].into_iter(), now);
        assert_eq!(addresses.take_due(now + BACKOFF_MAX), [at(2)]);
    }

    #[test]
    fn the_own_address_is_left_alone_for_a_while() {
        let now = Instant::now();
        let mut addresses = of(&[1], now);
        addresses.take_due(now);
        addresses.outcome(at(1), Outcome::OwnAddress, now, 0.0);
        assert_eq!(addresses.next(), Some(now + OWN_ADDRESS_AGAIN));
    }
}
