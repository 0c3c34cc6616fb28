//! The task that owns the pool: admits what was verified, seals batches or passes on, remembers outcomes.

use super::forward::{self, Forwards, Members};
use super::{Mempool, Outcome, Pending, PendingTransaction, Standing, SubmitError};
use crate::batches::Batches;
use crate::events;
use crate::gossip::GossipHandle;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::recent::Recent;
use crate::storage::TransactionRow;
use crate::subscriptions::Subscriptions;
use crate::verify::Verifier;
use crate::view::Snapshot;
use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::consensus::VotingState;
use aitbc_core::epoch::Epochs;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey, SecretKey};
use aitbc_core::ledger::{ResultCode, Rules, TxResult};
use aitbc_core::mempool::{Dropped, Mempool as Pool, Place, Reason, Rejected, VerifiedTx};
use aitbc_core::message::{MAX_TRANSACTIONS, Message};
use aitbc_core::params::{BATCH_TARGET_BYTES, MAX_BATCH_TXS, MAX_EXPIRY_AHEAD};
use aitbc_core::state::Account;
use aitbc_core::transaction::SignedTransaction;
use aitbc_core::validators::Index;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, error};

/// Requests waiting for the pool's task.
const COMMANDS: usize = 1_024;
/// Final blocks waiting for the pool's task.
pub const FINAL_QUEUE: usize = 256;
/// Longest time a transaction waits for others to share its batch, while another batch of ours is on its way; half as long again for
/// each further one, up to the most: a batch costs every validator the same however few it holds, and behind others it is not missed.
const SEAL_AFTER: Duration = Duration::from_millis(3);
const MAX_SEAL_AFTER: Duration = Duration::from_millis(24);
/// Pause between two looks whether this validator may author batches again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Batches of ours in no final block yet; beyond, transactions wait in the pool.
const MAX_OUTSTANDING: usize = 48;
/// Outcomes remembered at least, for who asks after the fact, before the database has them.
const REMEMBERED: usize = 114_688;
/// Transactions remembered at least that left the pool without a result.
const REMEMBERED_DROPS: usize = 14_336;
/// Requests taken at once.
const BURST: usize = 64;

/// What a final block means to the pool.
pub struct FinalBlock {
    /// Its height.
    pub height: u64,
    /// Results, in order.
    pub results: Vec<TxResult>,
    /// Accounts it changed.
    pub changed: Vec<(Address, Account)>,
    /// Its transactions, in order.
    pub rows: Arc<[TransactionRow]>,
    /// Its batches.
    pub batches: Vec<Hash>,
    /// Least fee after it.
    pub min_fee: u64,
}

enum Command {
    Submit { transactions: Vec<VerifiedTx>, reply: oneshot::Sender<Vec<Result<Hash, Rejected>>> },
    AreNew { ids: Vec<Hash>, reply: oneshot::Sender<Vec<bool>> },
    Standing { id: Hash, reply: oneshot::Sender<Standing> },
    List { limit: usize, reply: oneshot::Sender<Vec<PendingTransaction>> },
    NextNonce { sender: Address, reply: oneshot::Sender<Option<u64>> },
    Outcome { id: Hash, reply: oneshot::Sender<Outcome> },
}

/// What the task works with.
pub struct Parts {
    /// Genesis hash.
    pub chain: Hash,
    /// Own key: it signs batches.
    pub key: Arc<SecretKey>,
    /// Which heights make an epoch.
    pub epochs: Epochs,
    /// Lease generation: the high half of batch numbers.
    pub generation: u32,
    /// Whether this validator votes: one that may have lost votes may have lost batch numbers too (A3).
    pub pulse: Arc<Pulse>,
    /// State for admission.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Where own batches go to become durable.
    pub batches: Batches,
    /// Where own batches go to be seen.
    pub gossip: GossipHandle,
    /// Checks signatures.
    pub verifier: Arc<Verifier>,
    /// Subscribers.
    pub subscriptions: Subscriptions,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Parts {
    /// Where the chain is, with the epoch of the next block and the own index in it; `None`: no validator of that epoch.
    fn place(&self) -> Option<(u64, (u64, Index))> {
        let snapshot = self.snapshot.borrow();
        let sets = &snapshot.sets;
        Some((snapshot.head.height, (sets.epoch, sets.current.index_of(&self.key.public())?)))
    }
}

/// Access to the task.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    verifier: Arc<Verifier>,
    rules: Arc<Rules>,
    metrics: Arc<Metrics>,
    own: PublicKey,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    gossip: GossipHandle,
}

/// A sealed batch of ours in no final block yet.
struct Outstanding {
    digest: Hash,
    expiry_height: u64,
    ids: Arc<[Hash]>,
}

/// The task.
struct Task {
    parts: Parts,
    pool: Pool,
    height: u64,
    counter: u32,
    outstanding: Vec<Outstanding>,
    forwards: Forwards,
    /// Bytes admitted and ready since the last look, or queued again; an estimate that decides when to seal.
    ready_bytes: usize,
    /// When the oldest ready transaction must be sealed.
    seal_at: Option<Instant>,
    waiters: HashMap<Hash, Vec<oneshot::Sender<Outcome>>>,
    outcomes: Recent<Outcome>,
    dropped: Recent<Reason>,
}

/// Starts the task; it ends when all handles and the channel of final blocks are gone.
pub fn start(parts: Parts, pool: Pool, final_blocks: mpsc::Receiver<FinalBlock>) -> Handle {
    let (commands, waiting) = mpsc::channel(COMMANDS);
    let (verifier, rules, metrics) = (parts.verifier.clone(), Arc::new(pool.rules().clone()), parts.metrics.clone());
    let (own, snapshot, gossip) = (parts.key.public(), parts.snapshot.clone(), parts.gossip.clone());
    let handle = Handle { commands, verifier, rules, metrics, own, snapshot, gossip };
    tokio::spawn(Task::new(parts, pool).run(waiting, final_blocks));
    handle
}

impl Task {
    fn new(parts: Parts, pool: Pool) -> Task {
        let (own, height) = (parts.key.public(), parts.snapshot.borrow().head.height);
        Task {
            parts,
            pool,
            height,
            counter: 0,
            outstanding: Vec::new(),
            forwards: Forwards::new(own, Instant::now().into_std()),
            ready_bytes: 0,
            seal_at: None,
            waiters: HashMap::new(),
            outcomes: Recent::new(REMEMBERED),
            dropped: Recent::new(REMEMBERED_DROPS),
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut final_blocks: mpsc::Receiver<FinalBlock>) {
        let mut burst = Vec::with_capacity(BURST);
        loop {
            let look_at = (!self.forwards.is_empty()).then(|| Instant::now() + LOOK_AGAIN);
            let wake_at = [self.seal_at, look_at].into_iter().flatten().min();
            let timer = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                block = final_blocks.recv() => match block {
                    Some(block) => self.on_final(block),
                    None => return,
                },
                count = commands.recv_many(&mut burst, BURST) => if count == 0 { return },
                () = timer => {}
            }
            for command in burst.drain(..) {
                self.serve(command);
            }
            self.seal().await;
            self.report();
        }
    }

    fn serve(&mut self, command: Command) {
        // Each reply fails only where the asker left.
        match command {
            Command::Submit { transactions, reply } => {
                let _ = reply.send(self.admit_all(transactions));
            }
            // Neither pending nor lately final for good.
            Command::AreNew { ids, reply } => {
                let is_new = |id: &Hash| !self.outcomes.get(id).is_some_and(is_the_end) && !self.pool.contains(id);
                let _ = reply.send(ids.iter().map(is_new).collect());
            }
            Command::Standing { id, reply } => {
                let _ = reply.send(self.standing(&id));
            }
            Command::List { limit, reply } => {
                let list = self.pool.iter().take(limit).map(|(tx, place)| PendingTransaction {
                    id: tx.id,
                    transaction: (*tx.tx).clone(),
                    state: self.pending(&tx.id, place),
                });
                let _ = reply.send(list.collect());
            }
            Command::NextNonce { sender, reply } => {
                let _ = reply.send(self.pool.next_nonce(&sender));
            }
            Command::Outcome { id, reply } => match self.outcomes.get(&id) {
                Some(outcome) => drop(reply.send(*outcome)),
                None => self.wait(id, reply),
            },
        }
    }

    fn admit_all(&mut self, transactions: Vec<VerifiedTx>) -> Vec<Result<Hash, Rejected>> {
        let snapshot = self.parts.snapshot.borrow().clone();
        if !events::pending_wanted(&self.parts.subscriptions) {
            return transactions.into_iter().map(|tx| self.admit(&snapshot, tx)).collect();
        }
        let mut pending = Vec::with_capacity(transactions.len());
        let results = transactions.into_iter().map(|tx| {
            let known = tx.clone();
            self.admit(&snapshot, tx).inspect(|_| pending.push(known))
        });
        let results = results.collect();
        events::transactions_pending(&self.parts.subscriptions, snapshot.head.height, &pending);
        results
    }

    fn admit(&mut self, snapshot: &Snapshot, tx: VerifiedTx) -> Result<Hash, Rejected> {
        let account = snapshot.state.get(&tx.sender).unwrap_or_default();
        let (id, bytes) = (tx.id, tx.bytes);
        let admitted = self.pool.admit(snapshot.head.height, tx, account).inspect_err(|rejected| {
            self.parts.metrics.mempool_rejected.with_label_values(&[rejected.code()]).inc();
        })?;
        self.forget(&admitted.dropped);
        if admitted.ready {
            self.ready_bytes += bytes;
        }
        Ok(id)
    }

    fn on_final(&mut self, block: FinalBlock) {
        self.height = block.height;
        self.pool.set_min_fee(block.min_fee);
        self.outstanding.retain(|own| !block.batches.contains(&own.digest));
        let dropped = self.pool.on_executed(block.height, &block.results, &block.changed);
        self.forget(&dropped);
        let (pool, ready_bytes, height) = (&mut self.pool, &mut self.ready_bytes, self.height);
        self.outstanding.retain(|own| {
            let alive = own.expiry_height >= height;
            if !alive {
                // No block can hold it any more: its transactions go into another batch.
                *ready_bytes += pool.requeue(own.ids.iter());
            }
            alive
        });
        for TxResult { id, code, .. } in &block.results {
            if code.is_final() { self.forwards.settle(id) } else { self.forwards.came_early(id) }
        }
        for (row, result) in block.rows.iter().zip(&block.results) {
            // A nonce gap is no end: the transaction is queued again.
            if result.code.is_final() {
                self.remember(row);
            }
        }
        self.waiters.retain(|_, waiting| waiting.iter().any(|reply| !reply.is_closed()));
    }

    /// Who gave up waiting is forgotten now and then: while no block comes, nothing else does it.
    fn wait(&mut self, id: Hash, reply: oneshot::Sender<Outcome>) {
        let waiting = self.waiters.entry(id).or_default();
        if waiting.len().is_power_of_two() {
            waiting.retain(|reply| !reply.is_closed());
        }
        waiting.push(reply);
    }

    fn standing(&self, id: &Hash) -> Standing {
        if let Some(outcome) = self.outcomes.get(id) {
            return Standing::Final(*outcome);
        }
        match self.pool.get(id) {
            Some((_, place)) => Standing::Pending(self.pending(id, place)),
            None => self.dropped.get(id).map_or(Standing::Unknown, |reason| Standing::Dropped(*reason)),
        }
    }

    /// Remembers why transactions left without a result; who waits for them waits no more.
    fn forget(&mut self, dropped: &[Dropped]) {
        for Dropped { id, reason } in dropped {
            self.parts.metrics.mempool_rejected.with_label_values(&[reason.name()]).inc();
            self.waiters.remove(id);
            self.forwards.settle(id);
            self.dropped.insert(*id, *reason);
        }
    }

    /// At most one outcome of an id had an effect; that one stands.
    fn remember(&mut self, row: &TransactionRow) {
        let outcome = Outcome { height: row.height, index: row.index, code: row.code };
        match self.outcomes.get_mut(&row.id) {
            Some(known) if had_effect(known) => return,
            Some(known) => *known = outcome,
            None => self.outcomes.insert(row.id, outcome),
        }
        for reply in self.waiters.remove(&row.id).unwrap_or_default() {
            let _ = reply.send(outcome);
        }
    }

    /// Sends at once where nothing of ours is on its way, else when enough is there or has waited long enough: a sealed batch to
    /// all, or, where this node is no validator of the epoch, what is ready to one that is.
    async fn seal(&mut self) {
        let now = Instant::now();
        let members = self.members();
        self.take_back(&members, now);
        if !self.may_send(self.parts.place().is_some(), &members) {
            self.seal_at = self.pool.has_ready().then(|| now + LOOK_AGAIN);
            return;
        }
        while self.pool.has_ready() && self.has_room(now) {
            let place = self.parts.place();
            // An epoch may have begun meanwhile, with this node in the set or without it: the next turn knows to whom all goes then,
            // and who casts no vote seals nothing (A3).
            if !self.may_send(place.is_some(), &members) || !self.is_due(now) {
                break;
            }
            let most = if place.is_some() { MAX_BATCH_TXS } else { MAX_TRANSACTIONS };
            let txs = self.pool.take(BATCH_TARGET_BYTES, most);
            if txs.is_empty() {
                break;
            }
            self.ready_bytes = self.ready_bytes.saturating_sub(txs.iter().map(|tx| tx.bytes).sum());
            self.seal_at = None;
            match place {
                Some(place) => self.send_batch(txs, place).await,
                None if !self.pass_on(&txs, &members, now) => break,
                None => {}
            }
        }
        self.set_timer(now);
    }

    /// Whether what is ready need not wait for more.
    fn is_due(&self, now: Instant) -> bool {
        let idle = self.outstanding.is_empty() && self.forwards.is_empty();
        idle || self.ready_bytes >= BATCH_TARGET_BYTES || self.seal_at.is_some_and(|at| at <= now)
    }

    fn set_timer(&mut self, now: Instant) {
        if !self.pool.has_ready() {
            (self.ready_bytes, self.seal_at) = (0, None);
        } else if !self.has_room(now) {
            // Room comes with a final block; for what is passed on, with time too.
            self.seal_at = self.parts.place().is_none().then(|| room_at(self.seal_at, now));
        } else if self.seal_at.is_none() {
            self.seal_at = Some(now + seal_after(self.outstanding.len()));
        }
    }

    /// Who may take what is passed on, where this node passes anything on.
    fn members(&self) -> Members {
        if self.forwards.is_empty() && self.parts.place().is_some() {
            return Members::new();
        }
        let current = self.parts.snapshot.borrow().sets.current.clone();
        self.parts.gossip.connected_of(&current)
    }

    /// Whether this node may seal batches, where it is one that does; else whether it is connected to one.
    fn may_send(&self, seals: bool, members: &Members) -> bool {
        if seals { self.parts.pulse.voting_state().0 == VotingState::Voting } else { !members.is_empty() }
    }

    fn has_room(&mut self, now: Instant) -> bool {
        match self.parts.place() {
            Some(_) => self.outstanding.len() < MAX_OUTSTANDING,
            None => self.forwards.has_room(now.into_std()),
        }
    }

    /// Queues again what the member that has it did not bring into a block: it goes to the next one, or into a batch where this
    /// node has become a member itself. What no member takes by now does not make one late.
    fn take_back(&mut self, members: &Members, now: Instant) {
        if members.is_empty() && self.parts.place().is_none() {
            return;
        }
        let at = now.into_std();
        if self.only_passes_on() && self.forwards.is_late(self.height, at) {
            let dropped = self.pool.drop_no_longer_valid(self.height, self.forwards.ids());
            self.forget(&dropped);
        }
        let back = self.forwards.take_back(members, self.height, at);
        self.ready_bytes += self.pool.requeue(&back);
    }

    /// Whether all in flight was passed on, and accounts here are not older than those that the pool admits by. Who seals gets a
    /// result for what is no longer valid.
    fn only_passes_on(&self) -> bool {
        let shown = self.parts.snapshot.borrow().head.height;
        self.parts.place().is_none() && self.outstanding.is_empty() && self.height >= shown
    }

    /// Whether it went out; else it is queued again.
    fn pass_on(&mut self, txs: &[VerifiedTx], members: &Members, now: Instant) -> bool {
        let transactions: Vec<SignedTransaction> = txs.iter().map(|tx| (*tx.tx).clone()).collect();
        let cost = forward::cost(&transactions);
        let message = Message::Transactions { transactions };
        let number = self.forwards.target(members);
        if number.is_none_or(|number| self.parts.gossip.send(number, &message).is_err()) {
            debug!("the member that all is passed on to has gone this moment");
            self.ready_bytes += self.pool.requeue(txs.iter().map(|tx| &tx.id));
            return false;
        }
        let sent = txs.iter().map(|tx| (tx.id, tx.bytes));
        let again = self.forwards.sent(sent, cost, self.height, now.into_std());
        let forwarded = &self.parts.metrics.forwarded;
        forwarded.with_label_values(&["first"]).inc_by((txs.len() - again) as u64);
        forwarded.with_label_values(&["again"]).inc_by(again as u64);
        true
    }

    /// `height` is that of the last block, `place` the epoch of the next one with the own index in it.
    async fn send_batch(&mut self, txs: Vec<VerifiedTx>, (height, place): (u64, (u64, Index))) {
        let parts = &self.parts;
        self.counter += 1;
        let seq = (u64::from(parts.generation) << 32) | u64::from(self.counter);
        let ids: Arc<[Hash]> = txs.iter().map(|tx| tx.id).collect();
        // Blocks of this epoch and the next may include it, and none after (V6, E8).
        let expiry_height = (height + MAX_EXPIRY_AHEAD / 2).min(parts.epochs.last(place.0.saturating_add(1)));
        // Cloned: the pool keeps its own until they are final.
        let txs = txs.iter().map(|tx| (*tx.tx).clone()).collect();
        let batch = Arc::new(Batch::seal(&parts.chain, &parts.key, place, seq, expiry_height, txs));
        let digest = batch.digest();
        if let Err(cause) = parts.gossip.broadcast(&Message::Batch(Box::new((*batch).clone()))) {
            error!(%cause, "a batch of ours is over its cap");
        }
        self.outstanding.push(Outstanding { digest, expiry_height, ids: ids.clone() });
        parts.batches.own(VerifiedBatch { batch, digest, ids }).await;
    }

    fn pending(&self, id: &Hash, place: Place) -> Pending {
        match place {
            Place::Queued => Pending::Queued,
            Place::InFlight if self.forwards.contains(id) => Pending::Forwarded,
            Place::InFlight => Pending::Sealed,
        }
    }

    fn report(&self) {
        let (counters, metrics) = (self.pool.counters(), &self.parts.metrics);
        metrics.mempool_bytes.set(counters.bytes as i64);
        metrics.mempool_transactions.set(counters.count as i64);
    }
}

/// How long a transaction waits for others, by the number of batches of ours that are on their way.
fn seal_after(outstanding: usize) -> Duration {
    (SEAL_AFTER + SEAL_AFTER / 2 * outstanding.saturating_sub(1) as u32).min(MAX_SEAL_AFTER)
}

/// When to look again whether there is room: no later than was said before, however often somebody asks meanwhile.
fn room_at(before: Option<Instant>, now: Instant) -> Instant {
    before.filter(|at| *at > now).unwrap_or(now + LOOK_AGAIN)
}

fn had_effect(outcome: &Outcome) -> bool {
    ResultCode::from_number(outcome.code).is_some_and(ResultCode::had_effect)
}

/// Whether no block can give this transaction another result: else who signed it may send it again.
fn is_the_end(outcome: &Outcome) -> bool {
    let code = ResultCode::from_number(outcome.code);
    had_effect(outcome) || matches!(code, Some(ResultCode::Expired | ResultCode::NonceTooLow))
}

impl Handle {
    /// Whether this node seals batches, or is connected to one that does.
    fn has_a_way(&self) -> bool {
        let current = self.snapshot.borrow().sets.current.clone();
        current.index_of(&self.own).is_some() || !self.gossip.connected_of(&current).is_empty()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }

    /// What is refused whatever the state. Asked before a signature is verified: of a claim there may be 18, and whoever
    /// cannot win with them must not fill the verifier's queue.
    fn check(&self, tx: &SignedTransaction) -> Result<(), SubmitError> {
        tx.check()?;
        self.rules.admit(&tx.transaction.action).map_err(|code| {
            self.metrics.mempool_rejected.with_label_values(&[code.name()]).inc();
            Rejected::Receipt { code }.into()
        })
    }

    /// Stateless checks first, then all signatures together, then the pool; answers in the order of the question.
    async fn submit_all(&self, transactions: Vec<SignedTransaction>) -> Vec<Result<Hash, SubmitError>> {
        if !self.has_a_way() {
            return transactions.iter().map(|_| Err(SubmitError::NotValidator)).collect();
        }
        let checks: Vec<Result<(), SubmitError>> = transactions.iter().map(|tx| self.check(tx)).collect();
        let sound =
            transactions.into_iter().zip(&checks).filter(|(_, check)| check.is_ok()).map(|(tx, _)| tx).collect();
        let verified = match self.verifier.verify_transactions(&self.rules.chain, sound).await {
            Ok(verified) => verified,
            Err(_) => return checks.into_iter().map(|check| check.and(Err(SubmitError::Busy))).collect(),
        };
        let good = verified.iter().flatten().cloned().collect();
        let answers = self.ask(|reply| Command::Submit { transactions: good, reply }).await;
        let mut answers = answers.map(Vec::into_iter);
        let mut verified = verified.into_iter();
        let answer = |check: Result<(), SubmitError>| {
            check?;
            match verified.next().flatten() {
                None => Err(SubmitError::InvalidSignature),
                Some(_) => match answers.as_mut().and_then(Iterator::next) {
                    Some(answer) => Ok(answer?),
                    None => Err(SubmitError::Stopping),
                },
            }
        };
        checks.into_iter().map(answer).collect()
    }
}

impl Handle {
    /// What nodes of no set passed on, as if their clients had sent it here. What is known costs a lookup, however often it comes.
    /// Answers the positions of those with a forged signature.
    pub async fn take_forwarded(&self, transactions: Vec<SignedTransaction>) -> Vec<usize> {
        let ids = transactions.iter().map(|tx| tx.id(&self.rules.chain)).collect();
        let Some(news) = self.ask(|reply| Command::AreNew { ids, reply }).await else { return Vec::new() };
        let wanted = transactions.into_iter().zip(news).enumerate();
        let wanted = wanted.filter(|(_, (tx, is_new))| *is_new && self.check(tx).is_ok());
        let (positions, wanted): (Vec<usize>, Vec<SignedTransaction>) = wanted.map(|(at, (tx, _))| (at, tx)).unzip();
        if wanted.is_empty() {
            return Vec::new();
        }
        let verified = self.verifier.verify_forwarded(&self.rules.chain, wanted).await;
        let forged: Vec<usize> =
            positions.into_iter().zip(&verified).filter(|(_, tx)| tx.is_none()).map(|(at, _)| at).collect();
        let transactions = verified.into_iter().flatten().collect();
        // What is refused is counted by its code; the node is stopping where nobody answers.
        let _ = self.ask(|reply| Command::Submit { transactions, reply }).await;
        forged
    }
}

impl Mempool for Handle {
    fn submit(&self, transactions: Vec<SignedTransaction>) -> BoxFuture<'_, Vec<Result<Hash, SubmitError>>> {
        Box::pin(self.submit_all(transactions))
    }

    fn pending(&self, id: Hash) -> BoxFuture<'_, Option<Pending>> {
        Box::pin(async move {
            match self.standing(id).await {
                Standing::Pending(place) => Some(place),
                Standing::Unknown | Standing::Final(_) | Standing::Dropped(_) => None,
            }
        })
    }

    fn standing(&self, id: Hash) -> BoxFuture<'_, Standing> {
        Box::pin(async move { self.ask(|reply| Command::Standing { id, reply }).await.unwrap_or(Standing::Unknown) })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Vec<PendingTransaction>> {
        Box::pin(async move { self.ask(|reply| Command::List { limit, reply }).await.unwrap_or_default() })
    }

    fn next_nonce(&self, sender: Address) -> BoxFuture<'_, Option<u64>> {
        Box::pin(async move { self.ask(|reply| Command::NextNonce { sender, reply }).await.flatten() })
    }

    fn outcome(&self, id: Hash, timeout: Duration) -> BoxFuture<'_, Option<Outcome>> {
        Box::pin(async move {
            tokio::time::timeout(timeout, self.ask(|reply| Command::Outcome { id, reply })).await.ok().flatten()
        })
    }
}

#[cfg(test)]
mod tests;
