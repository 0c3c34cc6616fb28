//! Three bounded queues before one peer, and the order in which their messages leave. Pure.

use super::limits::{BATCHES_QUEUE, CONSENSUS_QUEUE, QueueBound, SYNC_EVERY_RECORDS, SYNC_QUEUE};
use super::wire::{self, Class, Encoded};
use std::collections::VecDeque;

/// Which message goes when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// The oldest that has not begun to leave.
    DropOldest,
    /// The new one.
    DropNewest,
}

struct Lane {
    class: Class,
    bound: QueueBound,
    full: Full,
    waiting: VecDeque<Encoded>,
    /// Sum of the sizes of `waiting`.
    bytes: usize,
    /// Bytes of the front that have left already.
    sent: usize,
}

/// What waits for one peer.
pub struct Queues {
    consensus: Lane,
    batches: Lane,
    sync: Lane,
    records: u32,
}

impl Default for Queues {
    fn default() -> Self {
        Queues {
            // Newer votes and certificates make older ones needless, and standstill sends again what still matters (C17).
            consensus: Lane::new(Class::Consensus, CONSENSUS_QUEUE, Full::DropOldest),
            // Old batches come with the final blocks that name them; the newest are those to be voted on next. Either
            // can be asked for (C14).
            batches: Lane::new(Class::Batches, BATCHES_QUEUE, Full::DropOldest),
            // Replies are asked for from the lowest height on: the earliest is needed first, a lost one is asked for again.
            sync: Lane::new(Class::Sync, SYNC_QUEUE, Full::DropNewest),
            records: 0,
        }
    }
}

impl Queues {
    /// Takes a message. Returns how many messages of its class were dropped for it, itself included.
    pub fn push(&mut self, message: Encoded) -> usize {
        match message.class() {
            Class::Consensus => self.consensus.push(message),
            Class::Batches => self.batches.push(message),
            Class::Sync => self.sync.push(message),
        }
    }

    /// Whether so many bytes of sync could wait beside what waits.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.sync.waiting.len() < self.sync.bound.count && self.sync.bytes + bytes <= self.sync.bound.bytes
    }

    /// Packs the next record, empty if nothing waits. Calls `left` with each message that is now wholly on its way.
    pub fn fill(&mut self, record: &mut Vec<u8>, mut left: impl FnMut(&Encoded)) {
        record.clear();
        self.consensus.pack(record, &mut left);
        self.records = self.records.wrapping_add(1);
        if self.records.is_multiple_of(SYNC_EVERY_RECORDS) {
            self.sync.pack(record, &mut left);
            self.batches.pack(record, &mut left);
        } else {
            self.batches.pack(record, &mut left);
            self.sync.pack(record, &mut left);
        }
    }

    /// Messages waiting, by class.
    pub fn depths(&self) -> [(Class, usize); 3] {
        [&self.consensus, &self.batches, &self.sync].map(|lane| (lane.class, lane.waiting.len()))
    }
}

impl Lane {
    fn new(class: Class, bound: QueueBound, full: Full) -> Self {
        Lane { class, bound, full, waiting: VecDeque::new(), bytes: 0, sent: 0 }
    }

    fn fits(&self, message: &Encoded) -> bool {
        self.waiting.len() < self.bound.count && self.bytes + message.bytes.len() <= self.bound.bytes
    }

    fn push(&mut self, message: Encoded) -> usize {
        let mut dropped = 0;
        while !self.fits(&message) {
            // A message that has begun to leave must end, or the peer could not read on.
            let oldest = usize::from(self.sent > 0);
            let gone = match self.full {
                Full::DropOldest => self.waiting.remove(oldest),
                Full::DropNewest => None,
            };
            dropped += 1;
            match gone {
                Some(gone) => self.bytes -= gone.bytes.len(),
                None => return dropped,
            }
        }
        self.bytes += message.bytes.len();
        self.waiting.push_back(message);
        dropped
    }

    fn pack(&mut self, record: &mut Vec<u8>, left: &mut impl FnMut(&Encoded)) {
        while let Some(front) = self.waiting.front() {
            let now = wire::pack(record, front, self.sent);
            self.sent += now;
            if self.sent < front.bytes.len() {
                return;
            }
            left(front);
            self.bytes -= front.bytes.len();
            self.sent = 0;
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::RECORD_MAX_BYTES;
    use super::*;

    /// A message of a class, told from others by its size.
    fn message(class: Class, bytes: usize) -> Encoded {
        let tag = match class {
            Class::Consensus => 2,
            Class::Batches => 4,
            Class::Sync => 12,
        };
        Encoded { bytes: vec![tag; bytes].into(), tag }
    }

    fn sizes_left(queues: &mut Queues, records: usize) -> Vec<usize> {
        let (mut record, mut sizes) = (Vec::new(), Vec::new());
        for _ in 0..records {
            queues.fill(&mut record, |message| sizes.push(message.bytes.len()));
            assert!(record.len() <= RECORD_MAX_BYTES);
        }
        sizes
    }

    #[test]
    fn consensus_leaves_before_batches_and_batches_before_sync() {
        let mut queues = Queues::default();
        for (class, size) in [(Class::Sync, 30), (Class::Batches, 20), (Class::Consensus, 10)] {
            assert_eq!(queues.push(message(class, size)), 0);
        }
        assert_eq!(sizes_left(&mut queues, 1), [10, 20, 30]);
    }

    #[test]
    fn a_vote_overtakes_a_batch_that_has_begun_to_leave() {
        let mut queues = Queues::default();
        queues.push(message(Class::Batches, 200_000));
        assert_eq!(sizes_left(&mut queues, 1), [0; 0]);
        queues.push(message(Class::Consensus, 116));
        assert_eq!(sizes_left(&mut queues, 1), [116]);
        assert_eq!(sizes_left(&mut queues, 3), [200_000]);
    }

    #[test]
    fn sync_is_served_even_while_batches_never_end() {
        let mut queues = Queues::default();
        queues.push(message(Class::Sync, 1_000));
        let mut record = Vec::new();
        let mut served = false;
        for _ in 0..SYNC_EVERY_RECORDS {
            queues.push(message(Class::Batches, 70_000));
            queues.fill(&mut record, |message| served |= message.class() == Class::Sync);
        }
        assert!(served);
    }

    #[test]
    fn a_full_consensus_queue_drops_the_oldest_message() {
        let mut queues = Queues::default();
        let dropped: usize =
            (0..CONSENSUS_QUEUE.count + 3).map(|i| queues.push(message(Class::Consensus, 1 + i % 100))).sum();
        assert_eq!(dropped, 3);
        assert_eq!(sizes_left(&mut queues, 1)[0], 4);
    }

    #[test]
    fn a_full_batches_queue_drops_the_oldest_that_has_not_begun_to_leave() {
        let mut queues = Queues::default();
        queues.push(message(Class::Batches, 200_000));
        sizes_left(&mut queues, 1);
        let mut dropped = 0;
        for i in 0..50 {
            dropped += queues.push(message(Class::Batches, 200_001 + i));
        }
        assert_eq!(dropped, 51 - BATCHES_QUEUE.bytes / 200_050);
        assert_eq!(sizes_left(&mut queues, 10)[0], 200_000);
    }

    #[test]
    fn a_full_sync_queue_refuses_the_newest() {
        let mut queues = Queues::default();
        let dropped: Vec<usize> = (0..4).map(|_| queues.push(message(Class::Sync, 3 << 20))).collect();
        assert_eq!(dropped, [0, 0, 1, 1]);
    }

    #[test]
    fn room_for_sync_is_what_its_queue_does_not_hold() {
        let mut queues = Queues::default();
        assert!(queues.has_room(SYNC_QUEUE.bytes) && !queues.has_room(SYNC_QUEUE.bytes + 1));
        queues.push(message(Class::Batches, 5 << 20));
        queues.push(message(Class::Sync, 5 << 20));
        assert!(queues.has_room(3 << 20) && !queues.has_room((3 << 20) + 1));
        for _ in 1..SYNC_QUEUE.count {
            queues.push(message(Class::Sync, 1));
        }
        assert!(!queues.has_room(1));
    }

    #[test]
    fn depths_and_bytes_return_to_zero() {
        let mut queues = Queues::default();
        for class in Class::ALL {
            queues.push(message(class, 50_000));
        }
        sizes_left(&mut queues, 4);
        assert!(queues.depths().iter().all(|(_, depth)| *depth == 0));
        assert!([&queues.consensus, &queues.batches, &queues.sync].iter().all(|lane| lane.bytes == 0));
    }
}
