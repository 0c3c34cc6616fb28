//! Answers to peers that catch up: one at a time each, so many at once for all, so many bytes a second each. A peer that asks for
//! more waits or is not answered; it costs the others nothing.

use aitbc_core::validators::Index;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Answers of one kind. Clones share the bounds.
#[derive(Clone)]
pub struct Serving(Arc<Shared>);

struct Shared {
    at_once: Semaphore,
    bytes_per_second: u64,
    /// At most one entry a number that gossip gives.
    peers: Mutex<HashMap<Index, Served>>,
}

/// What a peer had.
#[derive(Clone, Copy)]
struct Served {
    /// An answer to it is under way.
    busy: bool,
    /// When it may have the next one.
    next: Instant,
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, HashMap<Index, Served>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serving {
    /// `at_once`: answers made at the same time, for all peers; `bytes_per_second`: of each peer.
    pub fn new(at_once: usize, bytes_per_second: u64) -> Serving {
        let at_once = Semaphore::new(at_once);
        Serving(Arc::new(Shared { at_once, bytes_per_second, peers: Mutex::default() }))
    }

    /// Begins an answer; `None` where another one to this peer is under way.
    pub fn begin(&self, peer: Index) -> Option<Turn> {
        let mut peers = self.0.peers();
        let served = peers.entry(peer).or_insert(Served { busy: false, next: Instant::now() });
        if std::mem::replace(&mut served.busy, true) {
            return None;
        }
        Some(Turn { shared: self.0.clone(), peer })
    }
}

/// An answer under way, until it is dropped.
pub struct Turn {
    shared: Arc<Shared>,
    peer: Index,
}

impl Turn {
    /// Waits until the answer may be made; others are made meanwhile. It is made while the permit is held.
    pub async fn come(&self) -> Option<SemaphorePermit<'_>> {
        let next = self.shared.peers().get(&self.peer).map(|served| served.next);
        if let Some(next) = next.filter(|next| *next > Instant::now()) {
            tokio::time::sleep_until(next.into()).await;
        }
        // Nobody closes it.
        self.shared.at_once.acquire().await.ok()
    }

    /// The answer has so many bytes. To be called before it leaves, or the peer asks again before it may.
    pub fn end(self, bytes: usize) {
        let time =
            Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / self.shared.bytes_per_second.max(1));
        if let Some(served) = self.shared.peers().get_mut(&self.peer) {
            served.next = Instant::now() + time;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(served) = self.shared.peers().get_mut(&self.peer) {
            served.busy = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn may(turn: &Turn) -> bool {
        turn.come().now_or_never().flatten().is_some()
    }

    #[tokio::test]
    async fn a_peer_has_one_answer_under_way_and_another_peer_its_own() {
        let serving = Serving::new(4, u64::MAX);
        let turn = serving.begin(1).expect("the first");
        assert!(serving.begin(1).is_none() && serving.clone().begin(1).is_none());
        assert!(serving.begin(2).is_some());
        turn.end(1 << 20);
        assert!(serving.begin(1).is_some());
        assert!(serving.begin(1).is_some(), "one that came to nothing is over too");
    }

    #[tokio::test]
    async fn one_peer_holds_one_place_however_much_it_asks_for() {
        let serving = Serving::new(2, u64::MAX);
        let turns: Vec<Turn> = (0..100).filter_map(|_| serving.begin(1)).collect();
        assert_eq!(turns.len(), 1);
        let held = turns[0].come().await;
        let others = [2, 3].map(|peer| serving.begin(peer).expect("its first"));
        let second = others[0].come().await.expect("a place");
        assert!(!may(&others[1]), "both places are taken");
        drop(held);
        assert!(may(&others[1]));
        drop(second);
    }

    #[tokio::test]
    async fn a_peer_waits_for_the_bytes_it_had_and_holds_no_place_meanwhile() {
        let serving = Serving::new(1, 1 << 20);
        let turn = serving.begin(1).expect("the first");
        assert!(may(&turn), "at once");
        turn.end(1 << 19);
        let (next, start) = (serving.begin(1).expect("the answer before is over"), Instant::now());
        assert!(!may(&next), "half a second");
        let other = serving.begin(2).expect("another");
        assert!(may(&other));
        assert!(next.come().await.is_some());
        assert!(start.elapsed() > Duration::from_millis(400), "{:?}", start.elapsed());
    }
}
