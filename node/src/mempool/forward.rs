//! What a node of no set has passed on to a member, and when it comes back to go to another one. Pure.
//!
//! ```text
//! pool ─→ passed on to a member ─→ final, expired, its nonce used, late and no longer valid: gone
//!   ↑          │ the member is gone, or the oldest is not final in time
//!   └─── all ──┘ and the next member is whom all goes to from then on
//! ```
//! All goes to one member, so that what a sender signs arrives in the order of its nonces: the pool gives out again what came
//! back, in this order and before what pays less. Which member it is depends on the own key: many such nodes spread over them.

use crate::quota::Quota;
use aitbc_core::hash::Hash;
use aitbc_core::key::PublicKey;
use aitbc_core::transaction::SignedTransaction;
use aitbc_core::validators::Index;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

/// Transactions passed on that are not final: eight seconds of the quota. One message more than this at most.
const OPEN: usize = 32_768;
/// Their bytes, likewise.
const OPEN_BYTES: usize = 16 << 20;
/// After so long without being final what was passed on comes back; after each time that it did, twice as long.
pub const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// And not before the chain has moved by so many blocks since: one that stands still or is slow brings nothing in elsewhere.
pub const AGAIN_BLOCKS: u64 = 4;
/// But once for each height that lasts so long: what was dropped may be all that there is to make a block of.
const STILL: Duration = Duration::from_secs(15);
/// How often the wait doubles at most: 40 s.
const DOUBLINGS: u32 = 3;
/// Once nothing came back late for so long the wait is the shortest again.
const CALM: Duration = Duration::from_secs(120);
/// What one node may pass on to one member in a second, by [`cost`]: 2 MiB, 4,096 signatures. Who passes on saves up one second's
/// share at most, and a member lets two in at once: what the network brings late is no flood.
pub const RATE: u64 = 2 << 20;
/// What a signature costs at least, in bytes: it takes as long to verify whatever is signed.
const SIGNATURE_BYTES: u64 = 512;
/// What a message costs at least, in bytes: it takes a place in a queue, and a turn of the pool.
const MESSAGE_BYTES: u64 = 4 << 10;

/// Connected members of the set, by key, and their numbers.
pub type Members = BTreeMap<PublicKey, Index>;

/// What a message costs of a quota, in bytes.
pub fn cost(transactions: &[SignedTransaction]) -> u64 {
    transactions.iter().map(cost_of_one).sum::<u64>().max(MESSAGE_BYTES)
}

/// What a transaction costs of a quota, in bytes.
pub fn cost_of_one(transaction: &SignedTransaction) -> u64 {
    (transaction.signatures() as u64 * SIGNATURE_BYTES).max(transaction.encoded_len() as u64)
}

/// A message passed on of which not all is final.
struct Sent {
    at: Instant,
    /// Of the last final block then.
    height: u64,
    /// How many of its transactions are open.
    left: usize,
}

/// A transaction passed on that is not final.
struct Open {
    /// Number of its message.
    message: u64,
    bytes: usize,
}

/// All that was passed on and is not final.
pub struct Forwards {
    /// Whom all goes to, if it is connected; it has all that is open.
    to: PublicKey,
    /// By number: oldest first.
    messages: BTreeMap<u64, Sent>,
    /// Messages sent so far.
    count: u64,
    open: HashMap<Hash, Open>,
    /// Of all that is open.
    bytes: usize,
    /// What came back, or into a block too early, and has not gone out again: some of what the pool holds.
    back: HashSet<Hash>,
    doublings: u32,
    /// When something came back late, and at which height.
    late: Option<(Instant, u64)>,
    quota: Quota,
}

impl Forwards {
    /// Nothing yet; `own` key.
    pub fn new(own: PublicKey, now: Instant) -> Forwards {
        Forwards {
            to: own,
            messages: BTreeMap::new(),
            count: 0,
            open: HashMap::new(),
            bytes: 0,
            back: HashSet::new(),
            doublings: 0,
            late: None,
            quota: Quota::new(RATE, RATE, now),
        }
    }

    /// Whether nothing is passed on and not final.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a transaction is passed on and not final.
    pub fn contains(&self, id: &Hash) -> bool {
        self.open.contains_key(id)
    }

    /// All that is passed on and not final.
    pub fn ids(&self) -> impl Iterator<Item = &Hash> {
        self.open.keys()
    }

    /// Whether a message may go out now.
    pub fn has_room(&mut self, now: Instant) -> bool {
        !self.is_full() && self.quota.is_level(now)
    }

    fn is_full(&self) -> bool {
        self.open.len() >= OPEN || self.bytes >= OPEN_BYTES
    }

    /// The member that all goes to; `None` where none is connected.
    pub fn target(&mut self, members: &Members) -> Option<Index> {
        if !members.contains_key(&self.to) {
            self.to = next_after(&self.to, members)?;
        }
        members.get(&self.to).copied()
    }

    /// A message went to the target at this height of the chain: ids and bytes of its transactions. Answers how many of them some
    /// member had before.
    pub fn sent(
        &mut self,
        transactions: impl IntoIterator<Item = (Hash, usize)>,
        cost: u64,
        height: u64,
        now: Instant,
    ) -> usize {
        self.quota.pay(cost, now);
        self.count += 1;
        let (mut left, mut again) = (0, 0);
        for (id, bytes) in transactions {
            again += usize::from(self.back.remove(&id));
            self.settle(&id);
            self.open.insert(id, Open { message: self.count, bytes });
            self.bytes += bytes;
            left += 1;
        }
        if left > 0 {
            self.messages.insert(self.count, Sent { at: now, height, left });
        }
        again
    }

    /// A transaction has a result, or left the pool without one.
    pub fn settle(&mut self, id: &Hash) {
        self.back.remove(id);
        let Some(open) = self.open.remove(id) else { return };
        self.bytes -= open.bytes;
        let Some(message) = self.messages.get_mut(&open.message) else { return };
        message.left -= 1;
        if message.left == 0 {
            self.messages.remove(&open.message);
        }
    }

    /// A block had a transaction before its nonce was next: the pool has queued it again.
    pub fn came_early(&mut self, id: &Hash) {
        if self.contains(id) {
            self.settle(id);
            self.back.insert(*id);
        }
    }

    /// Takes out all, where the member that has it is gone or has had its time; then the next one is the target. `height` is that
    /// of the last final block.
    pub fn take_back(&mut self, members: &Members, height: u64, now: Instant) -> Vec<Hash> {
        let connected = members.contains_key(&self.to);
        if self.is_empty() || (connected && !self.is_late(height, now)) {
            return Vec::new();
        }
        if connected {
            self.doublings = (self.doublings_at(now) + 1).min(DOUBLINGS);
            self.late = Some((now, height));
        }
        self.to = next_after(&self.to, members).unwrap_or(self.to);
        self.messages.clear();
        self.bytes = 0;
        let ids: Vec<Hash> = self.open.drain().map(|(id, _)| id).collect();
        self.back.extend(ids.iter().copied());
        ids
    }

    /// Whether the oldest is not final in time. Where no more fits it is not given longer than at first: what pays more must
    /// come past what no block takes.
    pub fn is_late(&self, height: u64, now: Instant) -> bool {
        let Some((_, oldest)) = self.messages.first_key_value() else { return false };
        let doublings = if self.is_full() { 0 } else { self.doublings_at(now) };
        let wait = AGAIN_AFTER * 2u32.saturating_pow(doublings);
        let waited = now.saturating_duration_since(oldest.at);
        let moved = height >= oldest.height.saturating_add(AGAIN_BLOCKS);
        let lasts = waited >= STILL && self.late.is_none_or(|(_, at)| at != height);
        waited >= wait && (moved || lasts)
    }

    fn doublings_at(&self, now: Instant) -> u32 {
        let calm = self.late.is_none_or(|(at, _)| now.saturating_duration_since(at) >= CALM);
        if calm { 0 } else { self.doublings }
    }
}

/// The next key in a ring.
fn next_after(key: &PublicKey, members: &Members) -> Option<PublicKey> {
    let next = members.range((Bound::Excluded(*key), Bound::Unbounded)).next();
    next.or_else(|| members.first_key_value()).map(|(key, _)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aitbc_core::hash::plain;
    use aitbc_core::key::{Address, Signature};
    use aitbc_core::transaction::{Action, Payment, Transaction};

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    fn id(n: u64) -> Hash {
        plain(&n.to_le_bytes())
    }

    fn members(keys: &[u8]) -> Members {
        keys.iter().map(|n| (key(*n), Index::from(*n))).collect()
    }

    /// A message of one transaction, at height 0.
    fn sent(forwards: &mut Forwards, members: &Members, n: u64, now: Instant) -> Index {
        let to = forwards.target(members).expect("connected");
        forwards.sent([(id(n), 100)], 1, 0, now);
        to
    }

    fn sorted(mut ids: Vec<Hash>) -> Vec<Hash> {
        ids.sort_unstable();
        ids
    }

    #[test]
    fn all_goes_to_the_member_after_the_own_key_as_long_as_it_is_connected() {
        let mut forwards = Forwards::new(key(5), Instant::now());
        assert_eq!(forwards.target(&Members::new()), None);
        assert_eq!(forwards.target(&members(&[1, 3, 7, 9])), Some(7));
        assert_eq!(forwards.target(&members(&[1, 6, 7, 9])), Some(7), "a nearer one does not divert it");
        assert_eq!(forwards.target(&members(&[1, 3, 9])), Some(9));
        assert_eq!(forwards.target(&members(&[1, 3])), Some(1), "around the ring");
    }

    #[test]
    fn once_the_oldest_is_late_all_that_is_open_comes_back_and_the_next_member_is_the_target() {
        let (now, all) = (Instant::now(), members(&[1, 2, 3]));
        let mut forwards = Forwards::new(key(0), now);
        for n in 0..3 {
            assert_eq!(sent(&mut forwards, &all, n, now), 1);
        }
        // A later one must not wait where the nonces before it are gone from.
        sent(&mut forwards, &all, 3, now + AGAIN_AFTER / 2);
        forwards.settle(&id(1));
        assert!(forwards.take_back(&all, AGAIN_BLOCKS, now + AGAIN_AFTER / 2).is_empty(), "not yet");
        let back = forwards.take_back(&all, AGAIN_BLOCKS, now + AGAIN_AFTER);
        assert_eq!(sorted(back), sorted(vec![id(0), id(2), id(3)]));
        assert!(forwards.is_empty() && !forwards.contains(&id(0)) && forwards.messages.is_empty());
        assert_eq!((forwards.bytes, forwards.target(&all)), (0, Some(2)));
    }

    #[test]
    fn on_a_chain_that_has_not_moved_since_all_comes_back_once_a_height() {
        let (now, all) = (Instant::now(), members(&[1, 2]));
        let mut forwards = Forwards::new(key(0), now);
        let send = |forwards: &mut Forwards, now: Instant| {
            let to = forwards.target(&all);
            forwards.sent([(id(0), 100)], 1, 7, now);
            to
        };
        assert_eq!(send(&mut forwards, now), Some(1));
        assert!(forwards.take_back(&all, 7, now + STILL - Duration::from_millis(1)).is_empty());
        assert_eq!(
            forwards.take_back(&all, 7, now + STILL),
            [id(0)],
            "a member that drops it may be why there is no block"
        );
        assert_eq!(send(&mut forwards, now + STILL), Some(2));
        let hours = now + Duration::from_secs(7_200);
        assert!(forwards.take_back(&all, 7, hours).is_empty(), "the chain halts");
        assert_eq!(forwards.take_back(&all, 8, hours), [id(0)]);
    }

    #[test]
    fn each_member_is_given_twice_the_time_up_to_eight_times_until_all_is_calm() {
        let (mut now, all) = (Instant::now(), members(&[1, 2]));
        let mut forwards = Forwards::new(key(0), now);
        let late_after = |forwards: &mut Forwards, now: Instant, wait: Duration| {
            sent(forwards, &all, 7, now);
            let before = now + wait - Duration::from_millis(1);
            assert!(forwards.take_back(&all, AGAIN_BLOCKS, before).is_empty(), "{wait:?}");
            assert_eq!(forwards.take_back(&all, AGAIN_BLOCKS, now + wait), [id(7)], "{wait:?}");
        };
        for doublings in [0, 1, 2, 3, 3] {
            let wait = AGAIN_AFTER * 2u32.pow(doublings);
            late_after(&mut forwards, now, wait);
            now += wait;
        }
        late_after(&mut forwards, now + CALM, AGAIN_AFTER);
    }

    #[test]
    fn what_a_member_had_that_is_gone_comes_back_at_once_whether_the_chain_moves_or_not() {
        let (now, all) = (Instant::now(), members(&[1, 2]));
        let mut forwards = Forwards::new(key(0), now);
        sent(&mut forwards, &all, 0, now);
        assert!(forwards.take_back(&all, 0, now).is_empty());
        assert_eq!(forwards.take_back(&members(&[2]), 0, now), [id(0)]);
        assert_eq!(forwards.target(&all), Some(2), "nor does it go back");
        assert_eq!(forwards.doublings_at(now), 0, "who is gone was not late");
    }

    #[test]
    fn with_one_member_connected_it_is_sent_there_again() {
        let (now, one) = (Instant::now(), members(&[1]));
        let mut forwards = Forwards::new(key(0), now);
        sent(&mut forwards, &one, 0, now);
        assert_eq!(forwards.take_back(&one, AGAIN_BLOCKS, now + AGAIN_AFTER), [id(0)]);
        assert_eq!(forwards.target(&one), Some(1));
    }

    #[test]
    fn what_goes_out_again_is_counted_once_each_time_and_what_has_an_end_is_forgotten() {
        let (now, one) = (Instant::now(), members(&[1]));
        let mut forwards = Forwards::new(key(0), now);
        assert_eq!(forwards.sent([(id(0), 1), (id(1), 1), (id(2), 1)], 1, 0, now), 0);
        forwards.target(&one);
        assert_eq!(forwards.take_back(&members(&[2]), 0, now).len(), 3);
        forwards.settle(&id(2));
        assert_eq!(forwards.sent([(id(0), 1), (id(3), 1)], 1, 0, now), 1);
        assert_eq!(forwards.sent([(id(1), 1)], 1, 0, now), 1);
        (0..4).for_each(|n| forwards.settle(&id(n)));
        assert!(forwards.is_empty() && forwards.back.is_empty() && forwards.messages.is_empty());
        assert_eq!(forwards.bytes, 0);
    }

    #[test]
    fn what_came_into_a_block_too_early_is_no_first_one_when_it_goes_out_again() {
        let now = Instant::now();
        let mut forwards = Forwards::new(key(0), now);
        forwards.sent([(id(0), 1), (id(1), 1)], 1, 0, now);
        forwards.came_early(&id(0));
        assert_eq!((forwards.ids().collect::<Vec<_>>(), forwards.bytes), (vec![&id(1)], 1));
        forwards.came_early(&id(2));
        assert_eq!(forwards.sent([(id(0), 1), (id(2), 1)], 1, 0, now), 1, "the other one came by another way");
        forwards.came_early(&id(1));
        (0..3).for_each(|n| forwards.settle(&id(n)));
        assert!(forwards.is_empty() && forwards.back.is_empty() && forwards.messages.is_empty());
    }

    #[test]
    fn where_only_what_has_left_the_pool_was_late_nothing_comes_back_and_nobody_is_given_longer() {
        let (now, all) = (Instant::now(), members(&[1, 2]));
        let mut forwards = Forwards::new(key(0), now);
        sent(&mut forwards, &all, 0, now);
        sent(&mut forwards, &all, 1, now + AGAIN_AFTER / 2);
        let late = now + AGAIN_AFTER;
        assert!(
            !forwards.is_late(AGAIN_BLOCKS, late - Duration::from_millis(1)) && forwards.is_late(AGAIN_BLOCKS, late)
        );
        forwards.settle(&id(0));
        assert!(!forwards.is_late(AGAIN_BLOCKS, late) && forwards.take_back(&all, AGAIN_BLOCKS, late).is_empty());
        assert_eq!((forwards.target(&all), forwards.doublings_at(late)), (Some(1), 0));
        assert_eq!(forwards.take_back(&all, AGAIN_BLOCKS, late + AGAIN_AFTER / 2), [id(1)], "it has its own time");
    }

    #[test]
    fn room_is_for_so_many_transactions_and_bytes_and_for_a_second_s_share() {
        let now = Instant::now();
        let mut forwards = Forwards::new(key(0), now);
        for n in 0..OPEN as u64 {
            assert!(forwards.has_room(now), "messages of one transaction, {n}");
            forwards.sent([(id(n), 1)], 0, 0, now);
        }
        assert!(!forwards.has_room(now));
        (0..OPEN as u64).for_each(|n| forwards.settle(&id(n)));
        assert!(forwards.is_empty() && forwards.has_room(now));
        forwards.sent([(id(0), OPEN_BYTES)], 0, 0, now);
        assert!(!forwards.has_room(now));
        forwards.settle(&id(0));
        assert!(forwards.has_room(now));
        forwards.sent([(id(0), 1)], 2 * RATE, 0, now);
        assert!(!forwards.has_room(now) && !forwards.has_room(now + Duration::from_millis(900)));
        assert!(forwards.has_room(now + Duration::from_secs(2)));
    }

    #[test]
    fn where_no_more_fits_what_is_stuck_comes_back_after_the_shortest_wait() {
        let (mut now, all) = (Instant::now(), members(&[1, 2]));
        let mut forwards = Forwards::new(key(0), now);
        sent(&mut forwards, &all, 0, now);
        now += AGAIN_AFTER;
        assert_eq!(forwards.take_back(&all, AGAIN_BLOCKS, now).len(), 1);
        sent(&mut forwards, &all, 0, now);
        assert!(forwards.take_back(&all, AGAIN_BLOCKS, now + AGAIN_AFTER).is_empty(), "twice the time, with room");
        forwards.sent([(id(1), OPEN_BYTES)], 1, 0, now);
        assert_eq!(forwards.take_back(&all, AGAIN_BLOCKS, now + AGAIN_AFTER).len(), 2);
    }

    #[test]
    fn a_small_transaction_costs_what_its_signature_does_and_a_large_one_its_bytes() {
        let signed = |n| {
            let action = Action::TransferMany { payments: vec![Payment { to: Address([1; 20]), amount: 1 }; n] };
            let transaction = Transaction { sender: key(1), nonce: 0, fee: 1, expiry_height: 9, action };
            SignedTransaction { transaction, signature: Signature([0; 64]) }
        };
        let (small, large) = (signed(1), signed(64));
        assert!(small.encoded_len() < 512 && large.encoded_len() > 512);
        let bytes = large.encoded_len() as u64;
        assert_eq!((cost_of_one(&small), cost_of_one(&large)), (SIGNATURE_BYTES, bytes));
        assert_eq!(cost(&[vec![small; 9], vec![large; 9]].concat()), 9 * (SIGNATURE_BYTES + bytes));
    }

    #[test]
    fn a_message_is_never_free_however_little_is_in_it() {
        assert_eq!(cost(&[]), MESSAGE_BYTES);
    }
}
