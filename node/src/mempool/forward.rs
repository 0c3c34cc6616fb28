//! What a node of no set has passed on: to which member, and when it goes to another one. Pure.
//!
//! ```text
//! queued ─→ passed on to a member ─→ final, expired, its nonce used: gone
//!    ↑          │ the member is gone, or it is not final in time
//!    └─ TRIES ──┴─────→ to the next member, as what comes after it
//! ```
//! All goes to one member, so that what a sender signs arrives in the order of its nonces. Which one depends on the own key: many
//! such nodes spread over the members.

use crate::quota::Quota;
use aitbc_core::hash::Hash;
use aitbc_core::key::PublicKey;
use aitbc_core::transaction::SignedTransaction;
use aitbc_core::validators::Index;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

/// Messages passed on of which not all is final.
const OPEN: usize = 256;
/// After so long without being final what was passed on goes to another member; then after twice as long.
pub const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Members that get a message before its transactions are queued again: there what pays more overtakes them.
const TRIES: u32 = 4;
/// What one node may pass on to one member in a second, by [`cost`]: 2 MiB, 4,096 signatures. Who passes on saves up one second's
/// share at most, and a member lets two in at once: what the network brings late is no flood.
pub const RATE: u64 = 2 << 20;
/// What a signature costs at least, in bytes: it takes as long to verify whatever is signed.
const SIGNATURE_BYTES: u64 = 512;

/// Connected members of the set, by key, and their numbers.
pub type Members = BTreeMap<PublicKey, Index>;

/// What transactions cost of a quota, in bytes.
pub fn cost(transactions: &[SignedTransaction]) -> u64 {
    let cost = |tx: &SignedTransaction| (tx.signatures() as u64 * SIGNATURE_BYTES).max(tx.encoded_len() as u64);
    transactions.iter().map(cost).sum()
}

/// A message passed on.
#[derive(Debug, PartialEq, Eq)]
pub struct Forward {
    /// Its transactions that are not final yet, in order.
    pub ids: Vec<Hash>,
    /// Members that it went to.
    pub tries: u32,
    to: PublicKey,
    due: Instant,
}

impl Forward {
    /// Whether it is of no use to try the next member now.
    pub fn is_given_up(&self) -> bool {
        self.tries >= TRIES
    }
}

/// All that was passed on and is not final.
pub struct Forwards {
    /// Whom all goes to, if it is connected.
    to: PublicKey,
    /// Oldest first.
    open: VecDeque<Forward>,
    ids: HashSet<Hash>,
    quota: Quota,
}

impl Forwards {
    /// Nothing yet; `own` key.
    pub fn new(own: PublicKey, now: Instant) -> Forwards {
        Forwards { to: own, open: VecDeque::new(), ids: HashSet::new(), quota: Quota::new(RATE, RATE, now) }
    }

    /// Whether nothing is passed on and not final.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a transaction is passed on and not final.
    pub fn contains(&self, id: &Hash) -> bool {
        self.ids.contains(id)
    }

    /// Whether the quota of the members lets a message through now.
    pub fn has_quota(&mut self, now: Instant) -> bool {
        self.quota.is_level(now)
    }

    /// Whether there is room for what was not passed on before.
    pub fn has_room(&mut self, now: Instant) -> bool {
        self.open.len() < OPEN && self.has_quota(now)
    }

    /// The member that all goes to; `None` where none is connected.
    pub fn target(&mut self, members: &Members) -> Option<(PublicKey, Index)> {
        if !members.contains_key(&self.to) {
            self.to = next_after(&self.to, members)?;
        }
        members.get(&self.to).map(|number| (self.to, *number))
    }

    /// A message goes out now.
    pub fn sent(&mut self, to: PublicKey, ids: Vec<Hash>, tries: u32, cost: u64, now: Instant) {
        self.quota.pay(cost, now);
        self.ids.extend(ids.iter().copied());
        self.open.push_back(Forward { ids, tries: tries + 1, to, due: now + AGAIN_AFTER * 2u32.saturating_pow(tries) });
    }

    /// Forgets the transactions that are not `open` any more.
    pub fn settle(&mut self, open: impl Fn(&Hash) -> bool) {
        for forward in &mut self.open {
            for id in forward.ids.extract_if(.., |id| !open(id)) {
                self.ids.remove(&id);
            }
        }
        self.open.retain(|forward| !forward.ids.is_empty());
    }

    /// Takes out the first message whose member is gone or had its time; the latter gets nothing new either.
    pub fn take_due(&mut self, members: &Members, now: Instant) -> Option<Forward> {
        let at = self.open.iter().position(|forward| forward.due <= now || !members.contains_key(&forward.to))?;
        let forward = self.open.remove(at)?;
        for id in &forward.ids {
            self.ids.remove(id);
        }
        if forward.to == self.to {
            self.to = next_after(&self.to, members).unwrap_or(self.to);
        }
        Some(forward)
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
    use aitbc_core::key::Signature;
    use aitbc_core::transaction::{Action, Transaction};

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    fn id(n: u64) -> Hash {
        plain(&n.to_le_bytes())
    }

    fn members(keys: &[u8]) -> Members {
        keys.iter().map(|n| (key(*n), Index::from(*n))).collect()
    }

    fn sent(forwards: &mut Forwards, members: &Members, n: u64, tries: u32, now: Instant) -> PublicKey {
        let (to, _) = forwards.target(members).expect("connected");
        forwards.sent(to, vec![id(n)], tries, 1, now);
        to
    }

    #[test]
    fn all_goes_to_the_member_after_the_own_key_as_long_as_it_is_connected() {
        let now = Instant::now();
        let mut forwards = Forwards::new(key(5), now);
        assert_eq!(forwards.target(&Members::new()), None);
        assert_eq!(forwards.target(&members(&[1, 3, 7, 9])), Some((key(7), 7)));
        assert_eq!(forwards.target(&members(&[1, 6, 7, 9])), Some((key(7), 7)), "a nearer one does not divert it");
        assert_eq!(forwards.target(&members(&[1, 3, 9])), Some((key(9), 9)));
        assert_eq!(forwards.target(&members(&[1, 3])), Some((key(1), 1)), "around the ring");
    }

    #[test]
    fn what_is_not_final_in_time_goes_to_the_next_member_in_order_and_so_does_what_comes_after_it() {
        let (now, all) = (Instant::now(), members(&[1, 2, 3]));
        let mut forwards = Forwards::new(key(0), now);
        for n in 0..3 {
            assert_eq!(sent(&mut forwards, &all, n, 0, now), key(1));
        }
        forwards.settle(|open| *open != id(1));
        assert!(forwards.take_due(&all, now + AGAIN_AFTER / 2).is_none(), "not yet");
        let late = now + AGAIN_AFTER;
        let due = forwards.take_due(&all, late).expect("due");
        assert_eq!((&due.ids[..], due.tries, forwards.target(&all)), (&[id(0)][..], 1, Some((key(2), 2))));
        assert!(!forwards.contains(&id(0)) && forwards.contains(&id(2)));
        let second = forwards.take_due(&all, late).expect("due");
        assert_eq!((&second.ids[..], forwards.target(&all)), (&[id(2)][..], Some((key(2), 2))), "not over 2 to 3");
        assert!(forwards.take_due(&all, late).is_none() && forwards.is_empty());
    }

    #[test]
    fn each_member_is_given_twice_the_time_and_after_the_last_it_is_given_up() {
        let (mut now, all) = (Instant::now(), members(&[1, 2]));
        let mut forwards = Forwards::new(key(0), now);
        for tries in 0..TRIES {
            sent(&mut forwards, &all, 7, tries, now);
            let wait = AGAIN_AFTER * 2u32.pow(tries);
            assert!(forwards.take_due(&all, now + wait - Duration::from_millis(1)).is_none(), "{tries}");
            now += wait;
            let due = forwards.take_due(&all, now).expect("due");
            assert_eq!((due.tries, due.is_given_up()), (tries + 1, tries + 1 == TRIES));
        }
    }

    #[test]
    fn what_a_member_had_that_is_gone_goes_to_the_next_one_at_once() {
        let (now, all) = (Instant::now(), members(&[1, 2]));
        let mut forwards = Forwards::new(key(0), now);
        sent(&mut forwards, &all, 0, 0, now);
        assert!(forwards.take_due(&all, now).is_none());
        let due = forwards.take_due(&members(&[2]), now).expect("due");
        assert_eq!((&due.ids[..], forwards.target(&members(&[2]))), (&[id(0)][..], Some((key(2), 2))));
        assert_eq!(forwards.target(&all), Some((key(2), 2)), "nor does it go back");
    }

    #[test]
    fn with_one_member_connected_it_is_sent_there_again() {
        let (now, one) = (Instant::now(), members(&[1]));
        let mut forwards = Forwards::new(key(0), now);
        sent(&mut forwards, &one, 0, 0, now);
        assert!(forwards.take_due(&one, now + AGAIN_AFTER).is_some());
        assert_eq!(forwards.target(&one), Some((key(1), 1)));
    }

    #[test]
    fn room_is_for_so_many_messages_and_for_a_second_s_share() {
        let (now, one) = (Instant::now(), members(&[1]));
        let mut forwards = Forwards::new(key(0), now);
        for n in 0..OPEN as u64 {
            assert!(forwards.has_room(now), "{n}");
            sent(&mut forwards, &one, n, 0, now);
        }
        assert!(!forwards.has_room(now));
        forwards.settle(|_| false);
        assert!(forwards.is_empty() && forwards.ids.is_empty() && forwards.has_room(now));
        forwards.sent(key(1), vec![id(0)], 0, 2 * RATE, now);
        assert!(!forwards.has_room(now) && !forwards.has_room(now + Duration::from_millis(900)));
        assert!(forwards.has_room(now + Duration::from_secs(2)));
    }

    #[test]
    fn a_small_transaction_costs_what_its_signature_does_and_a_large_one_its_bytes() {
        let payments =
            |n| vec![aitbc_core::transaction::Payment { to: aitbc_core::key::Address([1; 20]), amount: 1 }; n];
        let signed = |n| {
            let action = Action::TransferMany { payments: payments(n) };
            let transaction = Transaction { sender: key(1), nonce: 0, fee: 1, expiry_height: 9, action };
            SignedTransaction { transaction, signature: Signature([0; 64]) }
        };
        let (small, large) = (signed(1), signed(64));
        assert!(small.encoded_len() < 512 && large.encoded_len() > 512);
        let bytes = large.encoded_len() as u64;
        assert_eq!(cost(&[small, large]), SIGNATURE_BYTES + bytes);
    }
}
