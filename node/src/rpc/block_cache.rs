//! Answers of `GET /rpc/get_block` for the last blocks, so that many readers of a new block cost the database one read.

use crate::metrics::Metrics;
use axum::body::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of all answers together, whatever `BLOCK_CACHE_SIZE` says: a full block is megabytes of JSON.
const MAX_BYTES: usize = 64 << 20;

/// Which answer: height, and whether with whole transactions.
type Key = (u64, bool);

#[derive(Default)]
struct Held {
    answers: BTreeMap<Key, Bytes>,
    bytes: usize,
}

/// The highest blocks that were asked for.
pub(super) struct BlockCache {
    /// Most answers.
    size: usize,
    held: Mutex<Held>,
    metrics: Arc<Metrics>,
}

impl BlockCache {
    /// For so many answers; 0: none is kept.
    pub(super) fn new(size: usize, metrics: Arc<Metrics>) -> Self {
        BlockCache { size, held: Mutex::default(), metrics }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was answered before; counts a hit or a miss.
    pub(super) fn get(&self, key: Key) -> Option<Bytes> {
        let found = self.held().answers.get(&key).cloned();
        let outcome = if found.is_some() { "hit" } else { "miss" };
        self.metrics.block_cache.with_label_values(&[outcome]).inc();
        found
    }

    /// Keeps an answer that will not change any more, in the place of those of the lowest blocks.
    pub(super) fn put(&self, key: Key, answer: Bytes) {
        let mut held = self.held();
        held.bytes += answer.len();
        let before = held.answers.insert(key, answer);
        held.bytes -= before.map_or(0, |before| before.len());
        while held.answers.len() > self.size || held.bytes > MAX_BYTES {
            let Some((_, lowest)) = held.answers.pop_first() else { return };
            held.bytes -= lowest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BlockCache, MAX_BYTES};
    use crate::metrics::Metrics;
    use axum::body::Bytes;
    use std::sync::Arc;

    fn cache(size: usize) -> BlockCache {
        BlockCache::new(size, Arc::new(Metrics::new().expect("unique names")))
    }

    #[test]
    fn the_highest_blocks_stay_and_hits_and_misses_are_counted() {
        let cache = cache(2);
        for height in [5, 7, 6, 4] {
            cache.put((height, false), Bytes::from(height.to_string()));
        }
        let found = [4, 5, 6, 7].map(|height| cache.get((height, false)).is_some());
        assert_eq!(found, [false, false, true, true]);
        assert_eq!(cache.get((7, true)), None, "another form of the block");
        let counted = ["hit", "miss"].map(|outcome| cache.metrics.block_cache.with_label_values(&[outcome]).get());
        assert_eq!(counted, [2, 3]);
    }

    #[test]
    fn large_answers_are_bounded_by_bytes_and_size_0_keeps_none() {
        let large = cache(1_000);
        for height in 1..=9 {
            large.put((height, true), Bytes::from(vec![0; MAX_BYTES / 4]));
            large.put((height, true), Bytes::from(vec![0; MAX_BYTES / 4]));
        }
        let found = (1..=9).filter(|height| large.get((*height, true)).is_some());
        assert_eq!(found.collect::<Vec<u64>>(), [6, 7, 8, 9]);
        let none = cache(0);
        none.put((1, false), Bytes::from_static(b"{}"));
        assert_eq!((none.get((1, false)), none.held().bytes), (None, 0));
    }
}
