//! Pending transactions: bounded, ordered by fee, each sender's by nonce. Pure: heights come in, no clock.
//!
//! A transaction is *queued*, then *in flight* once [`Mempool::take`] gave it out to be sealed in a batch, and leaves the
//! pool by a final result, by expiry, by a nonce that passed it, by a replacement or by eviction. One in flight whose
//! batch was lost, or came before a missing nonce, is queued again. Of a sender's queued transactions only those are
//! *ready* before which no nonce is missing.
//!
//! Every call costs O(log n) for each transaction it names. What is where:
//!
//! ```text
//! by_id      id → sender, nonce           duplicates, results
//! queues     sender → its transactions    nonce order, what they cost together
//! heads      fee, turn → sender           next to be taken: each sender's first queued one, if ready
//! tails      fee per byte → sender        next to be evicted: each sender's last queued one
//! expiries   expiry height → id
//! ```

use crate::hash::Hash;
use crate::key::Address;
use crate::ledger::{Rules, TxResult};
use crate::params::MAX_EXPIRY_AHEAD;
use crate::state::Account;
use crate::transaction::{Action, SignedTransaction};
use std::cmp::Reverse;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Bounds of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all transactions, encoded (setting `MEMPOOL_MAX_BYTES`).
    pub bytes: usize,
    /// Number of transactions.
    pub count: usize,
    /// Transactions of one sender.
    pub per_sender: usize,
    /// How far a nonce may lie beyond the sender's next one.
    pub nonce_gap: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: 64 << 20, count: 200_000, per_sender: 1_024, nonce_gap: 64 }
    }
}

/// Percent by which a replacement must pay more.
const REPLACEMENT_PERCENT: u64 = 10;
/// Most transactions that one newcomer may push out: a large one takes the place of this many small ones.
const MAX_EVICTIONS: usize = 128;

/// A transaction whose stateless checks and signature were verified. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTx {
    /// Its id on this chain.
    pub id: Hash,
    /// Address of its key.
    pub sender: Address,
    /// Encoded size.
    pub bytes: usize,
    /// The transaction.
    pub tx: Arc<SignedTransaction>,
}

impl VerifiedTx {
    /// Puts id, sender and size beside a transaction that the caller has verified.
    pub fn trusted(tx: SignedTransaction, chain: &Hash) -> VerifiedTx {
        let (id, sender, bytes) = (tx.id(chain), tx.transaction.sender.address(), tx.encoded_len());
        VerifiedTx { id, sender, bytes, tx: Arc::new(tx) }
    }

    fn nonce(&self) -> u64 {
        self.tx.transaction.nonce
    }

    fn fee(&self) -> u64 {
        self.tx.transaction.fee
    }

    fn expiry(&self) -> u64 {
        self.tx.transaction.expiry_height
    }

    /// Smallest units it may take from the sender: fee and amounts.
    fn cost(&self) -> u64 {
        self.tx.transaction.amount().unwrap_or(u64::MAX).saturating_add(self.fee())
    }

    /// Fee for 1,024 bytes: what a full pool goes by.
    fn rate(&self) -> u64 {
        self.fee().saturating_mul(1_024) / (self.bytes.max(1) as u64)
    }
}

/// Why the pool refuses a transaction. [`Rejected::code`] is stable; the message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is in the pool already.
    #[error("the transaction is already pending; wait for its result")]
    Duplicate,
    /// The nonce is used.
    #[error("nonce {found} is used, the account's next is {expected}; sign again with nonce {expected}")]
    NonceTooLow {
        /// The account's nonce.
        expected: u64,
        /// The transaction's.
        found: u64,
    },
    /// The nonce is too far beyond the sender's next.
    #[error(
        "nonce {found} given, the sender's next is {expected}, at most {allowed} ahead of it are kept; send the missing ones first"
    )]
    NonceGap {
        /// The sender's next nonce, counting what is pending.
        expected: u64,
        /// The transaction's.
        found: u64,
        /// How far ahead it may be.
        allowed: u64,
    },
    /// This nonce is in a sealed batch, which nothing can take back.
    #[error("nonce {nonce} is already sealed in a batch; wait for its result")]
    NonceInFlight {
        /// The nonce.
        nonce: u64,
    },
    /// The sender cannot pay for all that it has pending.
    #[error(
        "balance {balance}, {needed} needed for this transaction and what is pending of this sender; fund the account or send less"
    )]
    InsufficientBalance {
        /// The account's balance.
        balance: u64,
        /// Fees and amounts of this and all pending transactions of the sender.
        needed: u64,
    },
    /// Under the least fee.
    #[error("fee {found}, at least {min} needed; sign again with a higher fee")]
    FeeTooLow {
        /// The transaction's.
        found: u64,
        /// The chain's.
        min: u64,
    },
    /// A pending transaction has this nonce, and this one pays too little to replace it.
    #[error("a pending transaction has nonce {nonce}; fee {found} given, at least {min} needed to replace it")]
    ReplacementUnderpriced {
        /// The nonce of both.
        nonce: u64,
        /// The newcomer's fee.
        found: u64,
        /// 10 % more than the pending one's.
        min: u64,
    },
    /// The pool is full of transactions that pay as much or more.
    #[error(
        "the pool holds {count} transactions of {bytes} bytes, all paying more for each byte; try again later or with a higher fee"
    )]
    MempoolFull {
        /// Transactions in the pool.
        count: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The sender has as many pending as are allowed.
    #[error("the sender has {allowed} transactions pending, no more are kept; wait for their results")]
    SenderFull {
        /// How many may be pending.
        allowed: usize,
    },
    /// No block can hold it any more.
    #[error("expiry_height {found} has passed, the chain is at height {height}; sign again with a later one")]
    Expired {
        /// The transaction's.
        found: u64,
        /// The last final block's height.
        height: u64,
    },
    /// It would stay valid for too long.
    #[error("expiry_height {found} is too far ahead, at most {max} allowed now")]
    ExpiryTooFar {
        /// The transaction's.
        found: u64,
        /// Greatest that is allowed now.
        max: u64,
    },
    /// Genesis has no faucet.
    #[error("this chain has no faucet; ask an account holder for units")]
    FaucetDisabled,
    /// More than the faucet gives at once.
    #[error("amount {found}, the faucet gives at most {max} at once")]
    FaucetLimit {
        /// What was asked for.
        found: u64,
        /// What genesis allows.
        max: u64,
    },
}

impl Rejected {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Rejected::Duplicate => "DUPLICATE",
            Rejected::NonceTooLow { .. } => "NONCE_TOO_LOW",
            Rejected::NonceGap { .. } => "NONCE_GAP",
            Rejected::NonceInFlight { .. } => "NONCE_IN_FLIGHT",
            Rejected::InsufficientBalance { .. } => "INSUFFICIENT_BALANCE",
            Rejected::FeeTooLow { .. } => "FEE_TOO_LOW",
            Rejected::ReplacementUnderpriced { .. } => "REPLACEMENT_UNDERPRICED",
            Rejected::MempoolFull { .. } => "MEMPOOL_FULL",
            Rejected::SenderFull { .. } => "SENDER_FULL",
            Rejected::Expired { .. } => "EXPIRED",
            Rejected::ExpiryTooFar { .. } => "EXPIRY_TOO_FAR",
            Rejected::FaucetDisabled => "FAUCET_DISABLED",
            Rejected::FaucetLimit { .. } => "FAUCET_LIMIT",
        }
    }

    /// True where the same transaction may be taken a little later: the pool or the sender's share of it is full.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Rejected::MempoolFull { .. } | Rejected::SenderFull { .. })
    }

    /// The figures of the message, for the `detail` of an error answer.
    pub fn detail(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Rejected::Duplicate | Rejected::FaucetDisabled => json!({}),
            Rejected::NonceTooLow { expected, found } => json!({ "expected": expected, "found": found }),
            Rejected::NonceGap { expected, found, allowed } => {
                json!({ "expected": expected, "found": found, "allowed": allowed })
            }
            Rejected::NonceInFlight { nonce } => json!({ "nonce": nonce }),
            Rejected::InsufficientBalance { balance, needed } => json!({ "balance": balance, "needed": needed }),
            Rejected::FeeTooLow { found, min } => json!({ "found": found, "min": min }),
            Rejected::ReplacementUnderpriced { nonce, found, min } => {
                json!({ "nonce": nonce, "found": found, "min": min })
            }
            Rejected::MempoolFull { count, bytes } => json!({ "count": count, "bytes": bytes }),
            Rejected::SenderFull { allowed } => json!({ "allowed": allowed }),
            Rejected::Expired { found, height } => json!({ "found": found, "height": height }),
            Rejected::ExpiryTooFar { found, max } | Rejected::FaucetLimit { found, max } => {
                json!({ "found": found, "max": max })
            }
        }
    }
}

/// Why a transaction left the pool without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its expiry height passed.
    Expired,
    /// Another transaction used its nonce.
    NonceUsed,
    /// The same sender's with a higher fee took its place.
    Replaced,
    /// One that pays more for each byte took its place.
    Evicted,
}

impl Reason {
    /// Stable name.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Expired => "EXPIRED",
            Reason::NonceUsed => "NONCE_TOO_LOW",
            Reason::Replaced => "REPLACED",
            Reason::Evicted => "EVICTED",
        }
    }
}

/// A transaction that left the pool without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Which.
    pub id: Hash,
    /// Why.
    pub reason: Reason,
}

/// What admission did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Whether no nonce is missing before it, so that it can go into the next batch.
    pub ready: bool,
    /// What had to go for it.
    pub dropped: Vec<Dropped>,
}

/// Where a pending transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the pool.
    Queued,
    /// In a batch of ours.
    InFlight,
}

/// What the pool holds, and what it dropped since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transactions, those in flight included.
    pub count: usize,
    /// Their encoded bytes.
    pub bytes: usize,
    /// Of them, in batches of ours.
    pub in_flight: usize,
    /// Admitted since the start.
    pub admitted: u64,
    /// Pushed out since the start.
    pub evicted: u64,
    /// Replaced since the start.
    pub replaced: u64,
    /// Expired since the start.
    pub expired: u64,
    /// Overtaken by another transaction with their nonce since the start.
    pub overtaken: u64,
    /// Queued again after they were in flight, since the start.
    pub requeued: u64,
}

/// Place in `heads`: highest fee first, then whose turn came first.
type HeadKey = (Reverse<u64>, u64);
/// Place in `tails`: lowest fee per byte first, of equals the youngest.
type TailKey = (u64, Reverse<u64>);

#[derive(Debug)]
struct Pending {
    tx: VerifiedTx,
    arrival: u64,
}

/// Pending transactions of one sender.
#[derive(Debug, Default)]
struct Queue {
    account: Account,
    queued: BTreeMap<u64, Pending>,
    in_flight: BTreeMap<u64, Pending>,
    /// Least nonce, from the account's on, of which nothing is pending.
    next: u64,
    /// Fees and amounts of all pending ones.
    cost: u64,
    head: Option<(HeadKey, Hash)>,
    tail: Option<TailKey>,
}

impl Queue {
    fn len(&self) -> usize {
        self.queued.len() + self.in_flight.len()
    }

    fn holds(&self, nonce: u64) -> bool {
        self.queued.contains_key(&nonce) || self.in_flight.contains_key(&nonce)
    }

    fn advance(&mut self) {
        while self.holds(self.next) {
            self.next += 1;
        }
    }

    fn ready(&self) -> Option<&Pending> {
        let (nonce, first) = self.queued.first_key_value()?;
        (*nonce < self.next).then_some(first)
    }
}

/// The pool.
#[derive(Debug)]
pub struct Mempool {
    rules: Rules,
    limits: Limits,
    by_id: HashMap<Hash, (Address, u64)>,
    queues: HashMap<Address, Queue>,
    heads: BTreeMap<HeadKey, Address>,
    tails: BTreeMap<TailKey, Address>,
    expiries: BTreeSet<(u64, Hash)>,
    /// Arrivals and turns so far: a clock of its own.
    ticks: u64,
    counters: Counters,
}

impl Mempool {
    /// An empty pool.
    pub fn new(rules: Rules, limits: Limits) -> Mempool {
        Mempool {
            rules,
            limits,
            by_id: HashMap::new(),
            queues: HashMap::new(),
            heads: BTreeMap::new(),
            tails: BTreeMap::new(),
            expiries: BTreeSet::new(),
            ticks: 0,
            counters: Counters::default(),
        }
    }

    /// What it holds and dropped.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether a transaction is pending.
    pub fn contains(&self, id: &Hash) -> bool {
        self.by_id.contains_key(id)
    }

    /// A pending transaction and where it is.
    pub fn get(&self, id: &Hash) -> Option<(&VerifiedTx, Place)> {
        let (sender, nonce) = self.by_id.get(id)?;
        let queue = self.queues.get(sender)?;
        let queued = queue.queued.get(nonce).map(|pending| (&pending.tx, Place::Queued));
        queued.or_else(|| queue.in_flight.get(nonce).map(|pending| (&pending.tx, Place::InFlight)))
    }

    /// Pending transactions in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&VerifiedTx, Place)> {
        self.by_id.keys().filter_map(|id| self.get(id))
    }

    /// The next nonce of a sender, counting what is pending; `None` where nothing is: then it is the account's.
    pub fn next_nonce(&self, sender: &Address) -> Option<u64> {
        self.queues.get(sender).map(|queue| queue.next)
    }

    /// Whether [`Self::take`] would give anything.
    pub fn has_ready(&self) -> bool {
        !self.heads.is_empty()
    }

    /// Takes a transaction in, or says why not. `height` is that of the last final block, `account` the sender's after it.
    ///
    /// # Errors
    /// See [`Rejected`]; the pool is then as it was, but for what `account` made stale.
    pub fn admit(&mut self, height: u64, tx: VerifiedTx, account: Account) -> Result<Admitted, Rejected> {
        if self.by_id.contains_key(&tx.id) {
            return Err(Rejected::Duplicate);
        }
        self.check_terms(height, &tx)?;
        let mut dropped = Vec::new();
        self.learn(tx.sender, account, &mut dropped);
        let account = self.queues.get(&tx.sender).map_or(account, |queue| queue.account);
        let replaced = self.check_sender(&tx, account)?;
        let evicted = self.make_room(&tx, replaced)?;
        if let Some(id) = replaced {
            self.drop_with(id, Reason::Replaced, &mut dropped);
        }
        for id in evicted {
            self.drop_with(id, Reason::Evicted, &mut dropped);
        }
        let (sender, nonce) = (tx.sender, tx.nonce());
        self.insert(tx, account);
        let ready = self.queues.get(&sender).is_some_and(|queue| nonce < queue.next);
        Ok(Admitted { ready, dropped })
    }

    /// What can be said without the sender's account.
    fn check_terms(&self, height: u64, tx: &VerifiedTx) -> Result<(), Rejected> {
        let (found, max) = (tx.expiry(), height.saturating_add(MAX_EXPIRY_AHEAD));
        if found <= height {
            return Err(Rejected::Expired { found, height });
        }
        if found > max {
            return Err(Rejected::ExpiryTooFar { found, max });
        }
        let min = self.rules.min_fee;
        match (&tx.tx.transaction.action, self.rules.faucet) {
            (Action::Faucet(_), None) => Err(Rejected::FaucetDisabled),
            (Action::Faucet(payment), Some(max)) if payment.amount > max => {
                Err(Rejected::FaucetLimit { found: payment.amount, max })
            }
            (Action::Faucet(_), Some(_)) => Ok(()),
            (Action::Transfer(_) | Action::TransferMany { .. }, _) if tx.fee() < min => {
                Err(Rejected::FeeTooLow { found: tx.fee(), min })
            }
            (Action::Transfer(_) | Action::TransferMany { .. }, _) => Ok(()),
        }
    }

    /// Nonce, balance and share of the sender; answers which pending transaction gives way.
    fn check_sender(&self, tx: &VerifiedTx, account: Account) -> Result<Option<Hash>, Rejected> {
        let (found, empty) = (tx.nonce(), Queue { account, next: account.nonce, ..Queue::default() });
        let queue = self.queues.get(&tx.sender).unwrap_or(&empty);
        let (allowed, expected) = (self.limits.nonce_gap, account.nonce);
        if found < expected {
            return Err(Rejected::NonceTooLow { expected, found });
        }
        if found > queue.next.saturating_add(allowed) {
            return Err(Rejected::NonceGap { expected: queue.next, found, allowed });
        }
        if queue.in_flight.contains_key(&found) {
            return Err(Rejected::NonceInFlight { nonce: found });
        }
        let old = queue.queued.get(&found).map(|pending| &pending.tx);
        match old {
            Some(old) => {
                let min =
                    old.fee().saturating_add((old.fee().saturating_mul(REPLACEMENT_PERCENT)).div_ceil(100).max(1));
                if tx.fee() < min {
                    return Err(Rejected::ReplacementUnderpriced { nonce: found, found: tx.fee(), min });
                }
            }
            None if queue.len() >= self.limits.per_sender => {
                return Err(Rejected::SenderFull { allowed: self.limits.per_sender });
            }
            None => {}
        }
        let others = queue.cost.saturating_sub(old.map_or(0, VerifiedTx::cost));
        let (balance, needed) = (account.balance, others.saturating_add(tx.cost()));
        if balance < needed {
            return Err(Rejected::InsufficientBalance { balance, needed });
        }
        Ok(old.map(|old| old.id))
    }

    /// Which transactions must go so that `tx` fits; all of them pay less for each byte.
    fn make_room(&self, tx: &VerifiedTx, replaced: Option<Hash>) -> Result<Vec<Hash>, Rejected> {
        let gone = replaced.and_then(|id| self.get(&id)).map(|(old, _)| old.bytes);
        let mut bytes = (self.counters.bytes + tx.bytes).saturating_sub(gone.unwrap_or(0));
        let mut count = self.counters.count + usize::from(gone.is_none());
        let fits = |bytes: usize, count: usize| bytes <= self.limits.bytes && count <= self.limits.count;
        let mut evicted = Vec::new();
        // One tail of each other sender: its own could leave a gap before the newcomer.
        let mut tails = self.tails.iter().filter(|(_, sender)| **sender != tx.sender).take(MAX_EVICTIONS);
        while !fits(bytes, count) {
            let full = || Rejected::MempoolFull { count: self.counters.count, bytes: self.counters.bytes };
            let ((rate, _), sender) = tails.next().ok_or_else(full)?;
            if *rate >= tx.rate() {
                return Err(full());
            }
            let tail = self.queues.get(sender).and_then(|queue| queue.queued.last_key_value()).ok_or_else(full)?.1;
            bytes = bytes.saturating_sub(tail.tx.bytes);
            count -= 1;
            evicted.push(tail.tx.id);
        }
        Ok(evicted)
    }

    /// Ready transactions by fee, then by turn: a sender that gave one goes to the end of the line, so that of equal fees
    /// each sender has its share. They are in flight from now on, until a result, [`Self::requeue`] or expiry.
    ///
    /// Stops before the first that does not fit, so that a large one is not passed over for ever.
    pub fn take(&mut self, max_bytes: usize, max_txs: usize) -> Vec<VerifiedTx> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        while out.len() < max_txs {
            let Some(sender) = self.heads.first_key_value().map(|(_, sender)| *sender) else { break };
            let Some(queue) = self.queues.get_mut(&sender) else { break };
            let Some(first) = queue.queued.first_entry() else { break };
            if bytes + first.get().tx.bytes > max_bytes {
                break;
            }
            let (nonce, pending) = first.remove_entry();
            bytes += pending.tx.bytes;
            out.push(pending.tx.clone());
            queue.in_flight.insert(nonce, pending);
            self.counters.in_flight += 1;
            self.reindex(sender);
        }
        out
    }

    /// Learns what final blocks did. `height` is that of the last one, `results` theirs, `changed` the accounts that they
    /// changed, as [`Executed`](crate::ledger::Executed) has them. Answers what left without a result of its own.
    pub fn on_executed<'a>(
        &mut self,
        height: u64,
        results: impl IntoIterator<Item = &'a TxResult>,
        changed: impl IntoIterator<Item = &'a (Address, Account)>,
    ) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        for result in results {
            if result.code.is_final() {
                self.remove(&result.id);
            } else {
                self.requeue_one(&result.id);
            }
        }
        for (address, account) in changed {
            self.learn(*address, *account, &mut dropped);
        }
        dropped.extend(self.expire(height));
        dropped
    }

    /// Queues transactions again whose batch will come into no block: it expired, or was never stored.
    pub fn requeue<'a>(&mut self, ids: impl IntoIterator<Item = &'a Hash>) {
        for id in ids {
            self.requeue_one(id);
        }
    }

    /// Drops what no block over `height` can hold.
    pub fn expire(&mut self, height: u64) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        while let Some((expiry, id)) = self.expiries.first().copied() {
            if expiry > height {
                break;
            }
            self.drop_with(id, Reason::Expired, &mut dropped);
        }
        dropped
    }

    fn requeue_one(&mut self, id: &Hash) {
        let Some((sender, nonce)) = self.by_id.get(id).copied() else { return };
        let Some(queue) = self.queues.get_mut(&sender) else { return };
        let Some(pending) = queue.in_flight.remove(&nonce) else { return };
        queue.queued.insert(nonce, pending);
        self.counters.in_flight -= 1;
        self.counters.requeued += 1;
        self.reindex(sender);
    }

    /// Takes over what a final block says of a sender and drops what its nonce passed.
    fn learn(&mut self, sender: Address, account: Account, dropped: &mut Vec<Dropped>) {
        let Some(queue) = self.queues.get_mut(&sender) else { return };
        // An answer that is older than what is known already: nonces only grow.
        if account.nonce < queue.account.nonce {
            return;
        }
        queue.account = account;
        queue.next = queue.next.max(account.nonce);
        queue.advance();
        let passed = |pending: &BTreeMap<u64, Pending>| -> Vec<Hash> {
            pending.range(..account.nonce).map(|(_, pending)| pending.tx.id).collect()
        };
        let stale = [passed(&queue.queued), passed(&queue.in_flight)].concat();
        for id in stale {
            self.drop_with(id, Reason::NonceUsed, dropped);
        }
    }

    fn drop_with(&mut self, id: Hash, reason: Reason, dropped: &mut Vec<Dropped>) {
        if !self.remove(&id) {
            return;
        }
        match reason {
            Reason::Expired => self.counters.expired += 1,
            Reason::NonceUsed => self.counters.overtaken += 1,
            Reason::Replaced => self.counters.replaced += 1,
            Reason::Evicted => self.counters.evicted += 1,
        }
        dropped.push(Dropped { id, reason });
    }

    fn insert(&mut self, tx: VerifiedTx, account: Account) {
        self.ticks += 1;
        let (sender, nonce, arrival) = (tx.sender, tx.nonce(), self.ticks);
        self.counters.count += 1;
        self.counters.bytes += tx.bytes;
        self.counters.admitted += 1;
        self.by_id.insert(tx.id, (sender, nonce));
        self.expiries.insert((tx.expiry(), tx.id));
        let queue = match self.queues.entry(sender) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => slot.insert(Queue { account, next: account.nonce, ..Queue::default() }),
        };
        queue.cost = queue.cost.saturating_add(tx.cost());
        queue.queued.insert(nonce, Pending { tx, arrival });
        queue.advance();
        self.reindex(sender);
    }

    fn remove(&mut self, id: &Hash) -> bool {
        let Some((sender, nonce)) = self.by_id.remove(id) else { return false };
        let Some(queue) = self.queues.get_mut(&sender) else { return false };
        let pending = match queue.queued.remove(&nonce) {
            Some(pending) => pending,
            None => {
                let Some(pending) = queue.in_flight.remove(&nonce) else { return false };
                self.counters.in_flight -= 1;
                pending
            }
        };
        self.counters.count -= 1;
        self.counters.bytes -= pending.tx.bytes;
        self.expiries.remove(&(pending.tx.expiry(), *id));
        queue.cost = queue.cost.saturating_sub(pending.tx.cost());
        if nonce >= queue.account.nonce {
            queue.next = queue.next.min(nonce);
        }
        self.reindex(sender);
        true
    }

    /// Brings a sender's places in `heads` and `tails` up to date, and forgets a sender without transactions.
    fn reindex(&mut self, sender: Address) {
        let Some(queue) = self.queues.get_mut(&sender) else { return };
        let head = queue.ready().map(|pending| (pending.tx.id, pending.tx.fee()));
        if queue.head.map(|(_, id)| id) != head.map(|(id, _)| id) {
            if let Some((key, _)) = queue.head.take() {
                self.heads.remove(&key);
            }
            if let Some((id, fee)) = head {
                self.ticks += 1;
                let key = (Reverse(fee), self.ticks);
                self.heads.insert(key, sender);
                queue.head = Some((key, id));
            }
        }
        let tail = queue.queued.last_key_value().map(|(_, pending)| (pending.tx.rate(), Reverse(pending.arrival)));
        if queue.tail != tail {
            if let Some(key) = queue.tail.take() {
                self.tails.remove(&key);
            }
            if let Some(key) = tail {
                self.tails.insert(key, sender);
                queue.tail = Some(key);
            }
        }
        if queue.len() == 0 {
            self.queues.remove(&sender);
        }
    }
}
