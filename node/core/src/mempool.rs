//! Pending transactions: bounded, ordered by fee, each sender's by nonce. Pure: heights come in, no clock.
//!
//! A transaction is *queued*, then *in flight* once [`Mempool::take`] gave it out to be sealed in a batch, and leaves the
//! pool by a final result, by expiry, by a nonce that passed it, by a replacement or by eviction; one that was passed on also
//! where no pool would admit it any more. One in flight whose batch was lost, or came before a missing nonce, is queued again.
//! Of a sender's queued transactions only those are *ready* before which no nonce is missing.
//!
//! Every call costs O(log n) for each transaction it names, or drops, or has to look at. What is where:
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
use crate::ledger::{ResultCode, Rules, TxResult};
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

    /// 1,024 times the fee for each of [`Action::fee_units`]: what goes into blocks first, and what a full pool goes by.
    fn price(&self) -> u64 {
        self.fee().saturating_mul(1_024) / self.tx.transaction.action.fee_units().max(1)
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
    /// This nonce is in a sealed batch, or was passed on to a validator: nothing can take it back.
    #[error("nonce {nonce} is already sealed in a batch or passed on to a validator; wait for its result")]
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
    /// Under the least fee of such a transaction.
    #[error("fee {found}, at least {min} needed; sign again with a higher fee")]
    FeeTooLow {
        /// The transaction's.
        found: u64,
        /// See [`Action::least_fee`].
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
        "the pool holds {count} transactions of {bytes} bytes, all paying as much or more; try again later or with a higher fee"
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
    /// A receipt or escrow that every block would refuse.
    #[error("{}", code.explanation())]
    Receipt {
        /// With this result.
        code: ResultCode,
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
            Rejected::Receipt { code } => code.name(),
        }
    }

    /// The figures of the message, for the `detail` of an error answer.
    pub fn detail(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Rejected::Duplicate | Rejected::FaucetDisabled | Rejected::Receipt { .. } => json!({}),
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
    /// One that pays more took its place.
    Evicted,
    /// The pool would not admit it any more, see [`Mempool::drop_no_longer_valid`].
    NoLongerValid,
}

impl Reason {
    /// Stable name.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Expired => "EXPIRED",
            Reason::NonceUsed => "NONCE_TOO_LOW",
            Reason::Replaced => "REPLACED",
            Reason::Evicted => "EVICTED",
            Reason::NoLongerValid => "NO_LONGER_VALID",
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
    /// In a batch of ours, or passed on.
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
    /// Dropped as no longer valid since the start.
    pub invalid: u64,
    /// Queued again after they were in flight, since the start.
    pub requeued: u64,
}

/// Place in `heads`: highest price first, then whose turn came first.
type HeadKey = (Reverse<u64>, u64);
/// Place in `tails`: lowest price first, of equals the youngest.
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

/// Pending transactions whose nonces an account has passed: they leave with the next admission of their sender.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    count: usize,
    bytes: usize,
    /// Fees and amounts.
    cost: u64,
}

impl Queue {
    fn len(&self) -> usize {
        self.queued.len() + self.in_flight.len()
    }

    fn holds(&self, nonce: u64) -> bool {
        self.queued.contains_key(&nonce) || self.in_flight.contains_key(&nonce)
    }

    fn advance(&mut self) {
        self.next = self.next_from(self.next);
    }

    /// The next nonce of an account whose own is `nonce`, counting what is pending.
    fn next_from(&self, nonce: u64) -> u64 {
        let mut next = self.next.max(nonce);
        while self.holds(next) {
            next += 1;
        }
        next
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

    /// The rules it admits by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Another least fee from now on, as authorities changed it; what is pending stays until its result.
    pub fn set_min_fee(&mut self, min_fee: u64) {
        self.rules.min_fee = min_fee;
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
    /// See [`Rejected`]; the pool is then as it was.
    pub fn admit(&mut self, height: u64, tx: VerifiedTx, account: Account) -> Result<Admitted, Rejected> {
        if self.by_id.contains_key(&tx.id) {
            return Err(Rejected::Duplicate);
        }
        self.check_terms(height, &tx)?;
        let known = self.queues.get(&tx.sender).map(|queue| queue.account);
        let account = known.filter(|known| known.nonce > account.nonce).unwrap_or(account);
        let passed = self.passed(&tx.sender, account.nonce);
        let replaced = self.check_sender(&tx, account, &passed)?;
        let evicted = self.make_room(&tx, replaced, &passed)?;
        let mut dropped = Vec::new();
        self.learn(tx.sender, account, &mut dropped);
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
        let min = tx.tx.transaction.action.least_fee(self.rules.min_fee);
        if tx.fee() < min {
            return Err(Rejected::FeeTooLow { found: tx.fee(), min });
        }
        self.rules.admit(&tx.tx.transaction.action).map_err(|code| Rejected::Receipt { code })?;
        check_timeout(height, &tx.tx.transaction.action)?;
        match (&tx.tx.transaction.action, self.rules.faucet) {
            (Action::Faucet(_), None) => Err(Rejected::FaucetDisabled),
            (Action::Faucet(payment), Some(max)) if payment.amount > max => {
                Err(Rejected::FaucetLimit { found: payment.amount, max })
            }
            _ => Ok(()),
        }
    }

    /// What of a sender goes once its account's nonce is known to be `nonce`.
    fn passed(&self, sender: &Address, nonce: u64) -> Passed {
        let mut passed = Passed::default();
        let Some(queue) = self.queues.get(sender) else { return passed };
        for (_, pending) in queue.queued.range(..nonce).chain(queue.in_flight.range(..nonce)) {
            passed.count += 1;
            passed.bytes += pending.tx.bytes;
            passed.cost = passed.cost.saturating_add(pending.tx.cost());
        }
        passed
    }

    /// Nonce, balance and share of the sender; answers which pending transaction gives way. What its nonce has passed
    /// counts no more: another node may have had it included before this pool heard of it.
    fn check_sender(&self, tx: &VerifiedTx, account: Account, passed: &Passed) -> Result<Option<Hash>, Rejected> {
        let (found, empty) = (tx.nonce(), Queue { account, next: account.nonce, ..Queue::default() });
        let queue = self.queues.get(&tx.sender).unwrap_or(&empty);
        if found < account.nonce {
            return Err(Rejected::NonceTooLow { expected: account.nonce, found });
        }
        let (allowed, expected) = (self.limits.nonce_gap, queue.next_from(account.nonce));
        if found > expected.saturating_add(allowed) {
            return Err(Rejected::NonceGap { expected, found, allowed });
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
            None if queue.len() - passed.count >= self.limits.per_sender => {
                return Err(Rejected::SenderFull { allowed: self.limits.per_sender });
            }
            None => {}
        }
        let others = queue.cost.saturating_sub(passed.cost).saturating_sub(old.map_or(0, VerifiedTx::cost));
        let (balance, needed) = (account.balance, others.saturating_add(tx.cost()));
        if balance < needed {
            return Err(Rejected::InsufficientBalance { balance, needed });
        }
        Ok(old.map(|old| old.id))
    }

    /// Which transactions must go so that `tx` fits; all of them pay less.
    fn make_room(&self, tx: &VerifiedTx, replaced: Option<Hash>, passed: &Passed) -> Result<Vec<Hash>, Rejected> {
        let gone = replaced.and_then(|id| self.get(&id)).map(|(old, _)| old.bytes);
        let mut bytes = (self.counters.bytes + tx.bytes).saturating_sub(gone.unwrap_or(0) + passed.bytes);
        let mut count = self.counters.count + usize::from(gone.is_none()) - passed.count;
        let fits = |bytes: usize, count: usize| bytes <= self.limits.bytes && count <= self.limits.count;
        let mut evicted = Vec::new();
        // One tail of each other sender: its own could leave a gap before the newcomer.
        let mut tails = self.tails.iter().filter(|(_, sender)| **sender != tx.sender).take(MAX_EVICTIONS);
        while !fits(bytes, count) {
            let full = || Rejected::MempoolFull { count: self.counters.count, bytes: self.counters.bytes };
            let ((price, _), sender) = tails.next().ok_or_else(full)?;
            if *price >= tx.price() {
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
            if !result.code.is_final() {
                self.requeue_one(&result.id);
                continue;
            }
            if result.code.had_effect() {
                self.use_nonce(&result.id);
            }
            self.remove(&result.id);
        }
        for (address, account) in changed {
            self.learn(*address, *account, &mut dropped);
        }
        dropped.extend(self.expire(height));
        dropped
    }

    /// Queues transactions again whose batch will come into no block (it expired, or was never stored), or which whoever they were
    /// passed on to did not bring into one. Answers their bytes.
    pub fn requeue<'a>(&mut self, ids: impl IntoIterator<Item = &'a Hash>) -> usize {
        ids.into_iter().map(|id| self.requeue_one(id)).sum()
    }

    /// Drops what [`Self::admit`] would refuse by now, queued or in flight: of these, whose fee is under the least one or whose lock's
    /// timeout has come too near; of all that their senders have pending, the last ones, until the account covers the rest.
    ///
    /// Who seals such a transaction gets a result for it. Who passes it on gets none where no
    /// pool has admitted it yet: each that it reaches from now on refuses it.
    pub fn drop_no_longer_valid<'a>(&mut self, height: u64, ids: impl IntoIterator<Item = &'a Hash>) -> Vec<Dropped> {
        let (mut senders, mut outdated, mut dropped) = (BTreeSet::new(), Vec::new(), Vec::new());
        for id in ids {
            let Some((tx, _)) = self.get(id) else { continue };
            senders.insert(tx.sender);
            if self.is_outdated(height, tx) {
                outdated.push(*id);
            }
        }
        for id in outdated {
            self.drop_with(id, Reason::NoLongerValid, &mut dropped);
        }
        for sender in senders {
            for id in self.uncovered(&sender) {
                self.drop_with(id, Reason::NoLongerValid, &mut dropped);
            }
        }
        dropped
    }

    /// Whether its fee is under the least one by now, or the timeout of its lock too near.
    fn is_outdated(&self, height: u64, tx: &VerifiedTx) -> bool {
        let action = &tx.tx.transaction.action;
        tx.fee() < action.least_fee(self.rules.min_fee) || check_timeout(height, action).is_err()
    }

    /// A sender's last ones, which its account does not cover beside those before them.
    fn uncovered(&self, sender: &Address) -> Vec<Hash> {
        let over = |queue: &&Queue| queue.cost > queue.account.balance;
        let Some(queue) = self.queues.get(sender).filter(over) else { return Vec::new() };
        let mut all: Vec<(&u64, &Pending)> = queue.queued.iter().chain(&queue.in_flight).collect();
        all.sort_unstable_by_key(|(nonce, _)| Reverse(**nonce));
        let mut cost = queue.cost;
        let last = all.into_iter().take_while(|(_, pending)| {
            let goes = cost > queue.account.balance;
            cost = cost.saturating_sub(pending.tx.cost());
            goes
        });
        last.map(|(_, pending)| pending.tx.id).collect()
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

    /// Answers its bytes; 0 where it is not in flight.
    fn requeue_one(&mut self, id: &Hash) -> usize {
        let Some((sender, nonce)) = self.by_id.get(id).copied() else { return 0 };
        let Some(queue) = self.queues.get_mut(&sender) else { return 0 };
        let Some(pending) = queue.in_flight.remove(&nonce) else { return 0 };
        let bytes = pending.tx.bytes;
        queue.queued.insert(nonce, pending);
        self.counters.in_flight -= 1;
        self.counters.requeued += 1;
        self.reindex(sender);
        bytes
    }

    /// The nonce of a transaction is used, so that those after it stay ready when it goes.
    fn use_nonce(&mut self, id: &Hash) {
        let Some((sender, nonce)) = self.by_id.get(id).copied() else { return };
        let Some(queue) = self.queues.get_mut(&sender) else { return };
        queue.account.nonce = queue.account.nonce.max(nonce.saturating_add(1));
        queue.next = queue.next.max(queue.account.nonce);
        queue.advance();
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
        self.reindex(sender);
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
            Reason::NoLongerValid => self.counters.invalid += 1,
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
        let head = queue.ready().map(|pending| (pending.tx.id, pending.tx.price()));
        if queue.head.map(|(_, id)| id) != head.map(|(id, _)| id) {
            if let Some((key, _)) = queue.head.take() {
                self.heads.remove(&key);
            }
            if let Some((id, price)) = head {
                self.ticks += 1;
                let key = (Reverse(price), self.ticks);
                self.heads.insert(key, sender);
                queue.head = Some((key, id));
            }
        }
        let tail = queue.queued.last_key_value().map(|(_, pending)| (pending.tx.price(), Reverse(pending.arrival)));
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

/// Whether the next block would take the timeout of a lock; a later one hardly would.
fn check_timeout(height: u64, action: &Action) -> Result<(), Rejected> {
    match action {
        Action::LockEscrow(lock) if !lock.timeout_fits(height.saturating_add(1)) => {
            Err(Rejected::Receipt { code: ResultCode::EscrowTimeoutOutOfRange })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::plain;
    use crate::key::{PublicKey, SecretKey, Signature};
    use crate::ledger::ReceiptRules;
    use crate::params::MAX_ESCROW_AHEAD;
    use crate::receipt::{AttestedReceipt, Receipt, Text};
    use crate::terms::{Coordinator, Terms};
    use crate::transaction::{Lock, Payment, Transaction};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const HEIGHT: u64 = 10;
    const RICH: Account = Account { balance: 1_000_000, nonce: 0 };

    fn rules() -> Rules {
        Rules { chain: plain(b"chain"), min_fee: 2, faucet: Some(50), ..Rules::default() }
    }

    fn verified(transaction: Transaction) -> VerifiedTx {
        VerifiedTx::trusted(SignedTransaction { transaction, signature: Signature([0; 64]) }, &rules().chain)
    }

    fn transfer(sender: u8, nonce: u64, fee: u64) -> Transaction {
        let action = Action::Transfer(Payment { to: Address([9; 20]), amount: 100 });
        Transaction { sender: PublicKey([sender; 32]), nonce, fee, expiry_height: HEIGHT + 50, action }
    }

    fn tx(sender: u8, nonce: u64, fee: u64) -> VerifiedTx {
        verified(transfer(sender, nonce, fee))
    }

    fn faucet(sender: u8, amount: u64) -> VerifiedTx {
        let action = Action::Faucet(Payment { to: Address([9; 20]), amount });
        verified(Transaction { action, ..transfer(sender, 0, 0) })
    }

    /// A transaction of about `payments` × 28 bytes more than the smallest.
    fn large(sender: u8, nonce: u64, fee: u64, payments: usize) -> VerifiedTx {
        let payments = vec![Payment { to: Address([9; 20]), amount: 1 }; payments];
        verified(Transaction { action: Action::TransferMany { payments }, ..transfer(sender, nonce, fee) })
    }

    fn pool() -> Mempool {
        Mempool::new(rules(), Limits::default())
    }

    fn small(count: usize) -> Mempool {
        Mempool::new(rules(), Limits { count, ..Limits::default() })
    }

    fn admit(pool: &mut Mempool, tx: VerifiedTx) -> Result<Admitted, Rejected> {
        pool.admit(HEIGHT, tx, RICH)
    }

    fn admit_all(pool: &mut Mempool, txs: impl IntoIterator<Item = VerifiedTx>) {
        for tx in txs {
            admit(pool, tx).expect("admitted");
        }
    }

    fn take(pool: &mut Mempool, count: usize) -> Vec<(u8, u64)> {
        pool.take(usize::MAX, count).iter().map(|tx| (tx.tx.transaction.sender.0[0], tx.nonce())).collect()
    }

    fn result(tx: &VerifiedTx, code: ResultCode) -> TxResult {
        TxResult { id: tx.id, code, fee: 0 }
    }

    fn used(tx: &VerifiedTx, nonce: u64) -> (Address, Account) {
        (tx.sender, Account { nonce, ..RICH })
    }

    fn dropped(tx: &VerifiedTx, reason: Reason) -> Dropped {
        Dropped { id: tx.id, reason }
    }

    fn attested(coordinators: &[u8], chain_id: &str, units: u64) -> Box<AttestedReceipt> {
        let key = |n| SecretKey::from_seed([n; 32]);
        let receipt = Receipt {
            chain_id: Text::new(chain_id),
            ..Receipt::required(
                (Text::new("r").expect("text"), Text::new("j").expect("text")),
                key(7).public(),
                Address([9; 20]),
                (units, Text::new("gpu_seconds").expect("text")),
                (1, 2),
            )
        };
        let keys: Vec<SecretKey> = coordinators.iter().map(|n| key(*n)).collect();
        Box::new(receipt.attest(&rules().chain, &key(7), &keys.iter().collect::<Vec<_>>()))
    }

    /// Rules with receipts and locks.
    fn with_terms() -> Rules {
        let coordinators = [11, 12].map(|n| Coordinator { public_key: SecretKey::from_seed([n; 32]).public() });
        let terms = Terms {
            mint_per_unit: 1,
            coordinator_parts_per_million: 0,
            coordinators: coordinators.to_vec(),
            coordinator_threshold: 2,
            epoch_cap: 3,
            provider_epoch_cap: 2,
            expiry_seconds: 1,
        };
        let receipts = ReceiptRules { chain_id: "devnet".into(), terms };
        Rules { receipts: Some(receipts), ..rules() }
    }

    fn lock(sender: u8, timeout_height: u64) -> VerifiedTx {
        let job_id = Text::new("j").expect("text");
        let action = Action::LockEscrow(Lock { job_id, provider: None, amount: 1, timeout_height });
        let fee = 3 * action.fee_units();
        verified(Transaction { action, ..transfer(sender, 0, fee) })
    }

    #[test]
    fn a_receipt_that_every_block_would_refuse_is_refused_before_it_costs_a_fee() {
        let with_terms = with_terms();
        let code = |rules: &Rules, action: Action| {
            let mut pool = Mempool::new(rules.clone(), Limits::default());
            let fee = rules.min_fee * action.fee_units();
            let tx = verified(Transaction { action, ..transfer(1, 0, fee) });
            pool.admit(0, tx, Account { balance: 1_000, nonce: 0 }).map_err(|rejected| rejected.code())
        };
        let claim = |keys: &[u8], chain_id| Action::ClaimReceipt(attested(keys, chain_id, 1));
        let claim_of = |units| Action::ClaimReceipt(attested(&[11, 12], "devnet", units));
        let release = |units| Action::ReleaseEscrow(attested(&[11, 12], "devnet", units));
        let lock_until = |timeout_height| {
            let job_id = Text::new("j").expect("text");
            Action::LockEscrow(Lock { job_id, provider: None, amount: 1, timeout_height })
        };
        let lock = || lock_until(9);
        assert!(code(&with_terms, claim(&[11, 12], "devnet")).is_ok());
        assert!(code(&with_terms, claim_of(2)).is_ok());
        assert_eq!(code(&with_terms, claim_of(3)).err(), Some("PROVIDER_CAP_REACHED"));
        assert_eq!(code(&with_terms, claim_of(4)).err(), Some("EPOCH_CAP_REACHED"));
        assert_eq!(code(&with_terms, claim_of(1 << 53)).err(), Some("SUPPLY_EXHAUSTED"));
        assert!(code(&with_terms, release(1)).is_ok() && code(&with_terms, release(4)).is_ok(), "it mints nothing");
        // The pool is at height 0, so that 1 is the first block that can have it.
        for good in [2, 9, 1 + MAX_ESCROW_AHEAD] {
            assert!(code(&with_terms, lock_until(good)).is_ok(), "{good}");
        }
        for wrong in [0, 1, 2 + MAX_ESCROW_AHEAD, u64::MAX] {
            assert_eq!(code(&with_terms, lock_until(wrong)).err(), Some("ESCROW_TIMEOUT_OUT_OF_RANGE"), "{wrong}");
        }
        assert_eq!(code(&with_terms, claim(&[11, 12], "other")).err(), Some("RECEIPT_WRONG_CHAIN"));
        assert_eq!(code(&with_terms, claim(&[11], "devnet")).err(), Some("TOO_FEW_ATTESTATIONS"));
        assert_eq!(code(&with_terms, claim(&[11, 12, 13], "devnet")).err(), Some("UNKNOWN_COORDINATOR"));
        assert_eq!(code(&rules(), claim(&[11, 12], "devnet")).err(), Some("RECEIPTS_DISABLED"));
        assert_eq!(code(&rules(), lock()).err(), Some("RECEIPTS_DISABLED"));
        let free = Action::RefundEscrow { job_id: Text::new("j").expect("text") };
        let tx = verified(Transaction { action: free, ..transfer(1, 0, 1) });
        let refused = Mempool::new(rules(), Limits::default()).admit(0, tx, Account { balance: 9, nonce: 0 });
        assert_eq!(refused.err().map(|rejected| rejected.code()), Some("FEE_TOO_LOW"));
    }

    #[test]
    fn a_transaction_is_admitted_once() {
        let mut pool = pool();
        assert_eq!(admit(&mut pool, tx(1, 0, 2)), Ok(Admitted { ready: true, dropped: vec![] }));
        assert_eq!(admit(&mut pool, tx(1, 0, 2)), Err(Rejected::Duplicate));
        pool.take(usize::MAX, 1);
        assert_eq!(admit(&mut pool, tx(1, 0, 2)), Err(Rejected::Duplicate));
        assert_eq!((pool.counters().count, pool.counters().bytes), (1, tx(1, 0, 2).bytes));
    }

    #[test]
    fn a_used_nonce_is_refused() {
        let error = pool().admit(HEIGHT, tx(1, 4, 2), Account { nonce: 5, ..RICH });
        assert_eq!(error, Err(Rejected::NonceTooLow { expected: 5, found: 4 }));
    }

    #[test]
    fn a_nonce_may_lie_64_beyond_the_next_counting_what_is_queued() {
        let mut pool = pool();
        let gap = |expected, found| Err(Rejected::NonceGap { expected, found, allowed: 64 });
        assert_eq!(admit(&mut pool, tx(1, 65, 2)), gap(0, 65));
        assert_eq!(admit(&mut pool, tx(1, 64, 2)).map(|a| a.ready), Ok(false));
        admit_all(&mut pool, [tx(1, 0, 2), tx(1, 1, 2)]);
        assert_eq!(admit(&mut pool, tx(1, 67, 2)), gap(2, 67));
        assert!(admit(&mut pool, tx(1, 66, 2)).is_ok());
        assert_eq!(pool.next_nonce(&tx(1, 0, 2).sender), Some(2));
        assert_eq!(pool.next_nonce(&tx(2, 0, 2).sender), None);
    }

    #[test]
    fn a_sender_cannot_queue_more_than_its_balance_covers() {
        let mut pool = pool();
        let poor = Account { balance: 250, nonce: 0 };
        assert!(pool.admit(HEIGHT, tx(1, 0, 2), poor).is_ok());
        assert!(pool.admit(HEIGHT, tx(1, 1, 2), poor).is_ok());
        let error = pool.admit(HEIGHT, tx(1, 2, 2), poor);
        assert_eq!(error, Err(Rejected::InsufficientBalance { balance: 250, needed: 306 }));
        // What replaces another counts instead of it.
        assert!(pool.admit(HEIGHT, tx(1, 1, 46), poor).is_ok());
        let error = pool.admit(HEIGHT, tx(1, 1, 51), poor);
        assert_eq!(error, Err(Rejected::InsufficientBalance { balance: 250, needed: 253 }));
    }

    #[test]
    fn a_fee_under_the_least_is_refused() {
        assert_eq!(admit(&mut pool(), tx(1, 0, 1)), Err(Rejected::FeeTooLow { found: 1, min: 2 }));
    }

    #[test]
    fn a_faucet_request_needs_no_fee_and_no_balance() {
        let nobody = Account::default();
        assert!(pool().admit(HEIGHT, faucet(1, 50), nobody).is_ok());
        assert_eq!(pool().admit(HEIGHT, faucet(1, 51), nobody), Err(Rejected::FaucetLimit { found: 51, max: 50 }));
        let mut none = Mempool::new(Rules { faucet: None, ..rules() }, Limits::default());
        assert_eq!(none.admit(HEIGHT, faucet(1, 1), nobody), Err(Rejected::FaucetDisabled));
    }

    #[test]
    fn expiry_heights_must_lie_in_the_next_2000() {
        let with = |expiry_height| verified(Transaction { expiry_height, ..transfer(1, 0, 2) });
        assert_eq!(admit(&mut pool(), with(10)), Err(Rejected::Expired { found: 10, height: 10 }));
        assert!(admit(&mut pool(), with(11)).is_ok());
        assert!(admit(&mut pool(), with(2_010)).is_ok());
        assert_eq!(admit(&mut pool(), with(2_011)), Err(Rejected::ExpiryTooFar { found: 2_011, max: 2_010 }));
    }

    #[test]
    fn a_replacement_must_pay_ten_percent_more() {
        let mut pool = pool();
        admit_all(&mut pool, [tx(1, 0, 20)]);
        let under = Rejected::ReplacementUnderpriced { nonce: 0, found: 21, min: 22 };
        assert_eq!(admit(&mut pool, tx(1, 0, 21)), Err(under));
        let admitted = admit(&mut pool, tx(1, 0, 22)).expect("pays enough");
        assert_eq!(admitted.dropped, [dropped(&tx(1, 0, 20), Reason::Replaced)]);
        assert!(!pool.contains(&tx(1, 0, 20).id) && pool.contains(&tx(1, 0, 22).id));
        assert_eq!((pool.counters().count, pool.counters().replaced), (1, 1));
        assert_eq!(admit(&mut pool, tx(1, 0, 24)).expect_err("10 % rounded up").code(), "REPLACEMENT_UNDERPRICED");
    }

    #[test]
    fn what_is_in_flight_cannot_be_replaced() {
        let mut pool = pool();
        admit_all(&mut pool, [tx(1, 0, 20)]);
        pool.take(usize::MAX, 1);
        assert_eq!(admit(&mut pool, tx(1, 0, 100)), Err(Rejected::NonceInFlight { nonce: 0 }));
    }

    #[test]
    fn a_sender_has_at_most_its_share() {
        let mut pool = Mempool::new(rules(), Limits { per_sender: 2, ..Limits::default() });
        admit_all(&mut pool, [tx(1, 0, 20), tx(1, 1, 20)]);
        pool.take(usize::MAX, 1);
        assert_eq!(admit(&mut pool, tx(1, 2, 20)), Err(Rejected::SenderFull { allowed: 2 }));
        assert!(admit(&mut pool, tx(1, 1, 22)).is_ok());
        assert!(admit(&mut pool, tx(2, 0, 20)).is_ok());
    }

    #[test]
    fn a_full_pool_evicts_the_last_of_whoever_pays_least_for_a_byte() {
        let mut pool = small(3);
        admit_all(&mut pool, [tx(1, 0, 5), tx(1, 1, 9), tx(2, 0, 7)]);
        assert_eq!(admit(&mut pool, tx(3, 0, 7)).expect_err("pays no more").code(), "MEMPOOL_FULL");
        // Sender 1's first pays least, but to take it would strand the second.
        let admitted = admit(&mut pool, tx(3, 0, 8)).expect("pays more");
        assert_eq!(admitted.dropped, [dropped(&tx(2, 0, 7), Reason::Evicted)]);
        assert_eq!((pool.counters().count, pool.counters().evicted), (3, 1));
    }

    #[test]
    fn of_equals_the_youngest_is_evicted_first() {
        let mut pool = small(2);
        admit_all(&mut pool, [tx(1, 0, 5), tx(2, 0, 5)]);
        let admitted = admit(&mut pool, tx(3, 0, 6)).expect("pays more");
        assert_eq!(admitted.dropped, [dropped(&tx(2, 0, 5), Reason::Evicted)]);
    }

    #[test]
    fn a_newcomer_does_not_evict_its_own_predecessor() {
        let mut pool = small(1);
        admit_all(&mut pool, [tx(1, 0, 5)]);
        assert_eq!(admit(&mut pool, tx(1, 1, 500)).expect_err("own").code(), "MEMPOOL_FULL");
        assert!(admit(&mut pool, tx(1, 0, 6)).is_ok(), "a replacement needs no room");
    }

    #[test]
    fn what_is_in_flight_is_never_evicted() {
        let mut pool = small(1);
        admit_all(&mut pool, [tx(1, 0, 5)]);
        pool.take(usize::MAX, 1);
        assert_eq!(admit(&mut pool, tx(2, 0, 500)).expect_err("sealed").code(), "MEMPOOL_FULL");
    }

    #[test]
    fn a_large_newcomer_evicts_as_many_as_it_needs_or_none() {
        let one = tx(1, 0, 5).bytes;
        let mut pool = Mempool::new(rules(), Limits { bytes: 10 * one, ..Limits::default() });
        admit_all(&mut pool, (1..=10).map(|sender| tx(sender, 0, 5 + u64::from(sender))));
        let needs = large(20, 0, 100, 10).bytes.div_ceil(one);
        assert!(needs > 1);
        let before = pool.counters();
        // Pays more for each of its ten payments than the cheapest of those it needs, not than all.
        assert_eq!(admit(&mut pool, large(20, 0, 70, 10)).expect_err("some").code(), "MEMPOOL_FULL");
        assert_eq!(pool.counters(), before);
        let admitted = admit(&mut pool, large(20, 0, 1_000, 10)).expect("pays more than all");
        assert_eq!(admitted.dropped.len(), needs);
        assert!(pool.counters().bytes <= 10 * one);
    }

    #[test]
    fn transactions_are_taken_by_fee_and_of_one_sender_by_nonce() {
        let mut pool = pool();
        admit_all(&mut pool, [tx(1, 1, 90), tx(2, 0, 10), tx(1, 0, 5), tx(3, 0, 20)]);
        assert_eq!(take(&mut pool, 9), [(3, 0), (2, 0), (1, 0), (1, 1)]);
        assert!(!pool.has_ready());
        assert_eq!(pool.counters().in_flight, 4);
    }

    #[test]
    fn of_equal_fees_senders_take_turns() {
        let mut pool = pool();
        admit_all(&mut pool, (0..4).map(|nonce| tx(1, nonce, 5)));
        admit_all(&mut pool, [tx(2, 0, 5), tx(2, 1, 5), tx(3, 0, 5)]);
        let taken = take(&mut pool, 9);
        assert_eq!(taken, [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2), (1, 3)]);
    }

    #[test]
    fn what_has_a_nonce_missing_before_it_is_not_taken() {
        let mut pool = pool();
        admit_all(&mut pool, [tx(1, 0, 5), tx(1, 2, 5)]);
        assert_eq!(take(&mut pool, 9), [(1, 0)]);
        assert_eq!(admit(&mut pool, tx(1, 1, 5)).map(|a| a.ready), Ok(true));
        assert_eq!(take(&mut pool, 9), [(1, 1), (1, 2)]);
    }

    #[test]
    fn taking_stops_at_the_bounds() {
        let mut pool = pool();
        admit_all(&mut pool, (1..=5).map(|sender| tx(sender, 0, 5)));
        let one = tx(1, 0, 5).bytes;
        assert_eq!(pool.take(2 * one + 1, 9).len(), 2);
        assert_eq!(pool.take(usize::MAX, 1).len(), 1);
        assert_eq!(pool.take(one - 1, 9).len(), 0);
        assert_eq!(pool.take(usize::MAX, 9).len(), 2);
    }

    #[test]
    fn a_final_result_ends_a_transaction() {
        let mut pool = pool();
        let all = [tx(1, 0, 5), tx(1, 1, 5), tx(2, 0, 5)];
        admit_all(&mut pool, all.clone());
        pool.take(usize::MAX, 2);
        let results = [result(&all[0], ResultCode::Ok), result(&all[2], ResultCode::FeeNotCovered)];
        let left = pool.on_executed(HEIGHT, &results, &[used(&all[0], 1)]);
        assert_eq!((left, pool.counters().count), (vec![], 1));
        assert_eq!(pool.next_nonce(&all[0].sender), Some(2));
        assert_eq!(take(&mut pool, 9), [(1, 1)]);
    }

    #[test]
    fn a_failure_by_a_nonce_gap_is_queued_again() {
        let mut pool = pool();
        let both = [tx(1, 0, 5), tx(1, 1, 5)];
        admit_all(&mut pool, both.clone());
        assert_eq!(take(&mut pool, 9).len(), 2);
        pool.on_executed(HEIGHT, &[result(&both[1], ResultCode::NonceTooHigh)], &[]);
        assert_eq!(pool.get(&both[1].id).map(|(_, place)| place), Some(Place::Queued));
        assert_eq!((pool.counters().requeued, pool.counters().in_flight), (1, 1));
        // The one before it is still in flight, so it goes into a later batch.
        assert_eq!(take(&mut pool, 9), [(1, 1)]);
    }

    #[test]
    fn what_follows_a_failed_transaction_waits_for_its_nonce() {
        let mut pool = pool();
        let both = [tx(1, 0, 5), tx(1, 1, 5)];
        admit_all(&mut pool, both.clone());
        pool.take(usize::MAX, 9);
        let results = [result(&both[0], ResultCode::FeeNotCovered), result(&both[1], ResultCode::NonceTooHigh)];
        pool.on_executed(HEIGHT, &results, &[]);
        assert_eq!((take(&mut pool, 9), pool.next_nonce(&both[0].sender)), (vec![], Some(0)));
        admit_all(&mut pool, [tx(1, 0, 7)]);
        assert_eq!(take(&mut pool, 9), [(1, 0), (1, 1)]);
    }

    #[test]
    fn a_nonce_used_by_another_transaction_drops_what_it_passed() {
        let mut pool = pool();
        let all = [tx(1, 0, 5), tx(1, 1, 5), tx(1, 2, 5)];
        admit_all(&mut pool, all.clone());
        pool.take(usize::MAX, 1);
        let left = pool.on_executed(HEIGHT, &[], &[used(&all[0], 2)]);
        assert_eq!(left, [dropped(&all[1], Reason::NonceUsed), dropped(&all[0], Reason::NonceUsed)]);
        assert_eq!((pool.counters().count, pool.counters().overtaken, pool.counters().in_flight), (1, 2, 0));
        assert_eq!(take(&mut pool, 9), [(1, 2)]);
    }

    #[test]
    fn an_older_account_does_not_undo_what_is_known() {
        let mut pool = pool();
        admit_all(&mut pool, [tx(1, 0, 5), tx(1, 1, 5)]);
        pool.on_executed(HEIGHT, &[result(&tx(1, 0, 5), ResultCode::Ok)], &[used(&tx(1, 0, 5), 1)]);
        assert_eq!(admit(&mut pool, tx(1, 0, 50)), Err(Rejected::NonceTooLow { expected: 1, found: 0 }));
        assert_eq!(take(&mut pool, 9), [(1, 1)]);
    }

    #[test]
    fn a_newer_account_than_the_pool_knows_drops_what_it_passed_with_the_next_admission() {
        let mut pool = pool();
        admit_all(&mut pool, [tx(1, 0, 5), tx(1, 1, 5)]);
        let newer = Account { nonce: 1, ..RICH };
        assert!(pool.admit(HEIGHT, tx(1, 0, 50), newer).is_err());
        assert!(pool.contains(&tx(1, 0, 5).id), "a refusal changes nothing");
        let admitted = pool.admit(HEIGHT, tx(1, 2, 5), newer).expect("next");
        assert_eq!(admitted, Admitted { ready: true, dropped: vec![dropped(&tx(1, 0, 5), Reason::NonceUsed)] });
        assert_eq!(take(&mut pool, 9), [(1, 1), (1, 2)]);
    }

    /// Another node had two of the sender's transactions included; this pool hears of the account first at the next one.
    #[test]
    fn what_a_newer_account_has_passed_takes_nothing_of_the_senders_balance_share_and_room() {
        let newer = |balance| Account { nonce: 2, balance };
        let held = [tx(1, 0, 5), tx(1, 1, 5)];
        let after = || {
            let mut pool = pool();
            admit_all(&mut pool, held.clone());
            take(&mut pool, 1);
            pool
        };
        let mut of_balance = after();
        assert!(of_balance.admit(HEIGHT, tx(1, 2, 5), newer(105)).is_ok(), "105 cover the one that is left");
        let needed = Err(Rejected::InsufficientBalance { balance: 104, needed: 105 });
        assert_eq!(after().admit(HEIGHT, tx(1, 2, 5), newer(104)), needed);

        let mut of_share = after();
        of_share.limits.per_sender = 2;
        let admitted = of_share.admit(HEIGHT, tx(1, 2, 5), newer(105)).expect("its share is free again");
        assert_eq!(admitted.dropped, [&held[1], &held[0]].map(|tx| dropped(tx, Reason::NonceUsed)));

        let mut of_room = after();
        of_room.limits.count = 2;
        assert!(of_room.admit(HEIGHT, tx(1, 2, 5), newer(105)).is_ok(), "the pool has room for it");
        assert_eq!((of_room.counters().count, of_room.counters().in_flight), (1, 0));
    }

    #[test]
    fn a_nonce_is_measured_from_what_is_pending_beyond_a_newer_account() {
        let mut pool = pool();
        admit_all(&mut pool, [tx(1, 5, 2), tx(1, 6, 2)]);
        let newer = Account { nonce: 5, ..RICH };
        let gap = Err(Rejected::NonceGap { expected: 7, found: 72, allowed: 64 });
        assert_eq!(pool.admit(HEIGHT, tx(1, 72, 2), newer), gap);
        assert!(pool.admit(HEIGHT, tx(1, 71, 2), newer).is_ok());
    }

    #[test]
    fn what_expired_leaves_wherever_it_is() {
        let mut pool = pool();
        let until = |sender, expiry_height| verified(Transaction { expiry_height, ..transfer(sender, 0, 2) });
        let all = [until(1, 12), until(2, 13), until(3, 14)];
        admit_all(&mut pool, all.clone());
        pool.take(usize::MAX, 1);
        assert_eq!(pool.expire(11), []);
        let left = pool.on_executed(13, &[], &[]);
        assert_eq!(left, [dropped(&all[0], Reason::Expired), dropped(&all[1], Reason::Expired)]);
        assert_eq!((pool.counters().count, pool.counters().in_flight, pool.counters().expired), (1, 0, 2));
    }

    #[test]
    fn what_an_expired_one_leaves_behind_waits_for_its_nonce() {
        let mut pool = pool();
        let first = verified(Transaction { expiry_height: 12, ..transfer(1, 0, 2) });
        admit_all(&mut pool, [first, tx(1, 1, 2)]);
        pool.expire(12);
        assert!(take(&mut pool, 9).is_empty());
        assert_eq!(pool.next_nonce(&tx(1, 0, 2).sender), Some(0));
    }

    #[test]
    fn the_transactions_of_a_lost_batch_are_queued_again_in_order() {
        let mut pool = pool();
        admit_all(&mut pool, (0..3).map(|nonce| tx(1, nonce, 5)));
        let lost: Vec<Hash> = pool.take(usize::MAX, 2).iter().map(|tx| tx.id).collect();
        assert_eq!(pool.requeue(&lost), tx(1, 0, 5).bytes + tx(1, 1, 5).bytes);
        assert_eq!(pool.requeue(&lost), 0, "they are queued already");
        assert_eq!(pool.requeue(&[plain(b"unknown")]), 0);
        assert_eq!(take(&mut pool, 9), [(1, 0), (1, 1), (1, 2)]);
    }

    #[test]
    fn what_an_account_does_not_cover_any_more_goes_from_its_last_one_on_wherever_it_is() {
        let mut pool = pool();
        let of_one = [tx(1, 0, 5), tx(1, 1, 5), tx(1, 2, 5), tx(1, 3, 5)];
        let other = tx(2, 0, 5);
        admit_all(&mut pool, of_one.clone());
        admit_all(&mut pool, [other.clone()]);
        assert_eq!(take(&mut pool, 3), [(1, 0), (2, 0), (1, 1)]);
        let first = [of_one[0].id];
        assert_eq!(pool.drop_no_longer_valid(HEIGHT, &first), [], "all is covered");
        let now_has = |tx: &VerifiedTx, balance| (tx.sender, Account { balance, nonce: 0 });
        // Each takes 105.
        pool.on_executed(HEIGHT, &[], &[now_has(&of_one[0], 315), now_has(&other, 0)]);
        assert_eq!(pool.drop_no_longer_valid(HEIGHT, &first), [dropped(&of_one[3], Reason::NoLongerValid)]);
        assert_eq!(pool.drop_no_longer_valid(HEIGHT, &first), [], "315 cover three");
        pool.on_executed(HEIGHT, &[], &[now_has(&of_one[0], 209)]);
        let left = pool.drop_no_longer_valid(HEIGHT, &first);
        assert_eq!(left, [&of_one[2], &of_one[1]].map(|tx| dropped(tx, Reason::NoLongerValid)), "queued or in flight");
        assert!(pool.contains(&of_one[0].id) && pool.contains(&other.id), "of the other one nothing was named");
        assert_eq!(pool.drop_no_longer_valid(HEIGHT, &[other.id]), [dropped(&other, Reason::NoLongerValid)]);
        assert_eq!((pool.counters().count, pool.counters().in_flight, pool.counters().invalid), (1, 1, 4));
        assert_eq!(pool.drop_no_longer_valid(HEIGHT, &[other.id, plain(b"unknown")]), []);
    }

    #[test]
    fn what_pays_too_little_by_now_goes_and_a_lock_whose_timeout_has_come_too_near() {
        let mut pool = Mempool::new(with_terms(), Limits::default());
        let all = [lock(1, HEIGHT + 2), lock(2, HEIGHT + 3), tx(3, 0, 2), tx(4, 0, 3)];
        let ids = all.clone().map(|tx| tx.id);
        admit_all(&mut pool, all.clone());
        assert_eq!(pool.drop_no_longer_valid(HEIGHT, &ids), [], "all would be admitted");
        assert_eq!(pool.drop_no_longer_valid(HEIGHT + 1, &ids[1..]), [], "the first one was not named");
        assert_eq!(pool.drop_no_longer_valid(HEIGHT + 1, &ids), [dropped(&all[0], Reason::NoLongerValid)]);
        pool.set_min_fee(3);
        assert_eq!(pool.drop_no_longer_valid(HEIGHT + 1, &ids), [dropped(&all[2], Reason::NoLongerValid)]);
        assert!(pool.contains(&all[1].id) && pool.contains(&all[3].id));
    }

    #[test]
    fn every_refusal_has_a_stable_code_and_says_its_figures() {
        let all = [
            (Rejected::Duplicate, "DUPLICATE"),
            (Rejected::NonceTooLow { expected: 5, found: 4 }, "NONCE_TOO_LOW"),
            (Rejected::NonceGap { expected: 5, found: 99, allowed: 64 }, "NONCE_GAP"),
            (Rejected::NonceInFlight { nonce: 3 }, "NONCE_IN_FLIGHT"),
            (Rejected::InsufficientBalance { balance: 1, needed: 2 }, "INSUFFICIENT_BALANCE"),
            (Rejected::FeeTooLow { found: 1, min: 2 }, "FEE_TOO_LOW"),
            (Rejected::ReplacementUnderpriced { nonce: 1, found: 2, min: 3 }, "REPLACEMENT_UNDERPRICED"),
            (Rejected::MempoolFull { count: 1, bytes: 2 }, "MEMPOOL_FULL"),
            (Rejected::SenderFull { allowed: 1_024 }, "SENDER_FULL"),
            (Rejected::Expired { found: 1, height: 2 }, "EXPIRED"),
            (Rejected::ExpiryTooFar { found: 3, max: 2 }, "EXPIRY_TOO_FAR"),
            (Rejected::FaucetDisabled, "FAUCET_DISABLED"),
            (Rejected::FaucetLimit { found: 3, max: 2 }, "FAUCET_LIMIT"),
        ];
        for (rejected, code) in all {
            assert_eq!(rejected.code(), code);
            let (message, detail) = (rejected.to_string(), rejected.detail());
            for (name, figure) in detail.as_object().expect("object") {
                assert!(message.contains(&figure.to_string()), "{name} {figure} in: {message}");
            }
        }
        // The price goes by fee units, not by bytes.
        let full = Rejected::MempoolFull { count: 1, bytes: 2 }.to_string();
        assert!(full.contains("all paying as much or more; try again later"), "{full}");
    }

    /// Whole pool against its parts.
    fn check(pool: &Mempool, seed: u64) {
        let all: Vec<_> = pool.iter().collect();
        let counters = pool.counters();
        assert_eq!(all.len(), counters.count, "seed {seed}");
        assert_eq!(all.iter().map(|(tx, _)| tx.bytes).sum::<usize>(), counters.bytes, "seed {seed}");
        let in_flight = all.iter().filter(|(_, place)| *place == Place::InFlight).count();
        assert_eq!(in_flight, counters.in_flight, "seed {seed}");
        assert!(counters.count <= pool.limits.count && counters.bytes <= pool.limits.bytes, "seed {seed}");
        assert_eq!((pool.by_id.len(), pool.expiries.len()), (counters.count, counters.count), "seed {seed}");
        let (mut heads, mut tails, mut count) = (0, 0, 0);
        for (sender, queue) in &pool.queues {
            assert!(queue.len() > 0 && queue.len() <= pool.limits.per_sender, "seed {seed}");
            count += queue.len();
            let pending = || queue.queued.iter().chain(&queue.in_flight);
            assert!(pending().all(|(nonce, p)| p.tx.sender == *sender && p.tx.nonce() == *nonce), "seed {seed}");
            assert!(pending().all(|(nonce, _)| *nonce >= queue.account.nonce), "seed {seed}");
            assert_eq!(pending().map(|(_, p)| p.tx.cost()).sum::<u64>(), queue.cost, "seed {seed}");
            let next = (queue.account.nonce..).find(|nonce| !queue.holds(*nonce)).expect("some");
            assert_eq!(queue.next, next, "seed {seed}");
            let ready = queue.queued.first_key_value().filter(|(nonce, _)| **nonce < next).map(|(_, p)| p.tx.id);
            assert_eq!(queue.head.map(|(_, id)| id), ready, "seed {seed}");
            heads += usize::from(ready.is_some());
            tails += usize::from(!queue.queued.is_empty());
        }
        assert_eq!((pool.heads.len(), pool.tails.len(), count), (heads, tails, counters.count), "seed {seed}");
    }

    /// What the chain and the clients know beside the pool: where each admitted transaction must be.
    #[derive(Default)]
    struct World {
        height: u64,
        nonces: HashMap<u8, u64>,
        pending: HashMap<Hash, VerifiedTx>,
        taken: Vec<VerifiedTx>,
    }

    impl World {
        fn account(&self, sender: u8) -> Account {
            Account { balance: 3_000, nonce: self.nonces.get(&sender).copied().unwrap_or(0) }
        }

        fn forget(&mut self, dropped: &[Dropped], seed: u64) {
            for Dropped { id, .. } in dropped {
                assert!(self.pending.remove(id).is_some(), "seed {seed}: {id} dropped twice or never there");
            }
        }

        /// A block of some of what was taken: each runs if its nonce is next.
        fn execute(&mut self, rng: &mut StdRng, pool: &mut Mempool, seed: u64) {
            self.height += 1;
            let (mut results, mut changed) = (Vec::new(), HashMap::new());
            for _ in 0..rng.random_range(0..6) {
                if self.taken.is_empty() {
                    break;
                }
                let tx = self.taken.swap_remove(rng.random_range(0..self.taken.len()));
                let who = tx.tx.transaction.sender.0[0];
                let nonce = self.nonces.entry(who).or_default();
                let code = match tx.nonce().cmp(nonce) {
                    std::cmp::Ordering::Less => ResultCode::NonceTooLow,
                    std::cmp::Ordering::Greater => ResultCode::NonceTooHigh,
                    std::cmp::Ordering::Equal if rng.random_bool(0.1) => ResultCode::FeeNotCovered,
                    std::cmp::Ordering::Equal => ResultCode::Ok,
                };
                *nonce += u64::from(code == ResultCode::Ok);
                results.push(result(&tx, code));
                changed.insert(tx.sender, self.account(who));
                if code.is_final() {
                    self.pending.remove(&tx.id);
                }
            }
            // Another validator's batch held a transaction of one of the senders.
            if rng.random_bool(0.2) {
                let who = rng.random_range(1..6);
                *self.nonces.entry(who).or_default() += 1;
                changed.insert(tx(who, 0, 2).sender, self.account(who));
            }
            let left = pool.on_executed(self.height, &results, &changed.into_iter().collect::<Vec<_>>());
            self.forget(&left, seed);
        }

        fn admit(&mut self, rng: &mut StdRng, pool: &mut Mempool, seed: u64) {
            let who = rng.random_range(1..6);
            let nonce = (self.account(who).nonce + rng.random_range(0..8)).saturating_sub(1);
            let expiry_height = self.height + rng.random_range(0..30);
            let base = Transaction { expiry_height, ..transfer(who, nonce, rng.random_range(1..40)) };
            let tx = if rng.random_bool(0.1) { large(who, nonce, rng.random_range(1..99), 9) } else { verified(base) };
            let before = pool.counters();
            match pool.admit(self.height, tx.clone(), self.account(who)) {
                Ok(admitted) => {
                    self.forget(&admitted.dropped, seed);
                    assert!(self.pending.insert(tx.id, tx).is_none(), "seed {seed}: admitted twice");
                }
                Err(_) => assert_eq!(before, pool.counters(), "seed {seed}"),
            }
        }

        fn take(&mut self, rng: &mut StdRng, pool: &mut Mempool, seed: u64) {
            let (bytes, count) = (rng.random_range(100..2_000), rng.random_range(1..6));
            let taken = pool.take(bytes, count);
            assert!(taken.len() <= count && taken.iter().map(|tx| tx.bytes).sum::<usize>() <= bytes, "seed {seed}");
            let mut last: HashMap<Address, u64> = HashMap::new();
            for tx in taken {
                assert!(self.pending.contains_key(&tx.id), "seed {seed}: taken but not pending");
                let before = last.insert(tx.sender, tx.nonce());
                assert!(before.is_none_or(|before| before < tx.nonce()), "seed {seed}: out of order");
                assert!(!self.taken.contains(&tx), "seed {seed}: taken twice");
                self.taken.push(tx);
            }
        }

        fn lose(&mut self, rng: &mut StdRng, pool: &mut Mempool) {
            let lost: Vec<Hash> = self.taken.extract_if(.., |_| rng.random_bool(0.3)).map(|tx| tx.id).collect();
            pool.requeue(&lost);
        }
    }

    #[test]
    fn in_random_histories_nothing_is_lost_or_doubled_and_all_counts_are_exact() {
        for seed in 0..50 {
            let mut rng = StdRng::seed_from_u64(seed);
            let limits = Limits { bytes: rng.random_range(1_500..9_000), count: 40, per_sender: 12, nonce_gap: 4 };
            let (mut pool, mut world) = (Mempool::new(rules(), limits), World::default());
            for _ in 0..300 {
                match rng.random_range(0..10) {
                    0 => world.execute(&mut rng, &mut pool, seed),
                    1 => world.take(&mut rng, &mut pool, seed),
                    2 if rng.random_bool(0.2) => world.lose(&mut rng, &mut pool),
                    _ => world.admit(&mut rng, &mut pool, seed),
                }
                // What left the pool is in no batch that can still be lost.
                world.taken.retain(|tx| pool.get(&tx.id).is_some_and(|(_, place)| place == Place::InFlight));
                check(&pool, seed);
                let ids: BTreeSet<Hash> = pool.iter().map(|(tx, _)| tx.id).collect();
                assert_eq!(ids, world.pending.keys().copied().collect(), "seed {seed}");
                assert_eq!(pool.counters().in_flight, world.taken.len(), "seed {seed}");
            }
        }
    }
}
