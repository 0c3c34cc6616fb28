//! Signatures, verified many at a time on threads of their own: batches of peers first, then what clients send, then what other
//! nodes pass on; of this a small group now and then while clients keep the threads busy.
//!
//! ```text
//! verify_batch ────────→ batches ──────┐ a free thread takes                          valid → replies
//!                                      ├ up to 1,024 at once ──────→ one equation ──┤
//! verify_transactions ─→ transactions ─┤                                              else bisect → culprits, replies
//! verify_forwarded ────→ forwarded ────┘
//! ```
//! A transaction with a receipt holds the signatures of its provider and coordinators too; all are verified with it and it
//! counts as so many, in groups as in queues. One bad signature makes the whole transaction, and so its batch, invalid
//! (V6): a forged attestation costs its victim nothing, and execution has only to ask who signed.
//!
//! Nothing waits for a group to fill: an idle node verifies one transaction at once, and a busy one finds full groups,
//! in which a signature costs less than half. ZIP-215 rules make a group's verdict the same as each signature's own
//! (protocol.md F2).

mod equations;

use crate::metrics::Metrics;
use crate::recent::Recent;
use aitbc_core::batch::{Batch, BatchError, VerifiedBatch};
use aitbc_core::hash::{self, Hash};
use aitbc_core::key::{PublicKey, Signature};
use aitbc_core::mempool::VerifiedTx;
use aitbc_core::transaction::SignedTransaction;
use equations::{Equations, Signed};
use prometheus::IntGauge;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, oneshot};
#[cfg(target_os = "linux")]
use tracing::debug;

/// Signatures of client transactions that may wait: a third of a second of one core.
pub const QUEUE_SIGNATURES: usize = 16_384;
/// Bytes of client transactions that may wait.
pub const QUEUE_BYTES: usize = 32 << 20;
/// Batches that may be queued or verified at once; the next one's caller waits, which slows its sender.
pub const QUEUE_BATCHES: usize = 64;
/// Signatures at which a group is full: more save hardly anything, and hold a thread for longer.
const GROUP: usize = 1_024;
/// How much verification yields to other threads: about a third of the share.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;
/// The same of what was passed on: a batch waits for no more than these, also where all are forged.
const FORWARDED_GROUP: usize = 64;
/// Groups of clients' transactions that go before one that was passed on, while there are some: a client whose signatures are all
/// forged pays nothing, and must not keep out what others pay for.
const PASSED_OVER: usize = 3;
/// Verified transactions remembered at least.
const REMEMBERED: usize = 28_672;

/// The queue of client transactions is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {QUEUE_SIGNATURES} signatures or {QUEUE_BYTES} bytes of transactions wait to be verified")]
pub struct Busy;

/// Verifies signatures off the runtime.
pub struct Verifier {
    pool: ThreadPool,
    threads: usize,
    places: Semaphore,
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    known: Mutex<Known>,
    equations: Equations,
    metrics: Arc<Metrics>,
    waiting_batches: IntGauge,
    waiting_transactions: IntGauge,
    waiting_forwarded: IntGauge,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<BatchJob>,
    transactions: VecDeque<TransactionsJob>,
    /// Of one call at a time.
    forwarded: VecDeque<TransactionsJob>,
    /// Groups of `transactions` taken while something was in `forwarded`, since the last one of these.
    passed_over: usize,
    /// Signatures in `transactions`, and bytes.
    signatures: usize,
    bytes: usize,
    /// Threads at work.
    busy: usize,
}

struct BatchJob {
    chain: Hash,
    batch: Arc<Batch>,
    digest: Hash,
    author: PublicKey,
    reply: oneshot::Sender<Result<VerifiedBatch, BatchError>>,
}

struct TransactionsJob {
    chain: Hash,
    transactions: Vec<SignedTransaction>,
    signatures: usize,
    bytes: usize,
    reply: oneshot::Sender<Verdicts>,
}

/// A job's transactions in order; `None` where one is invalid.
type Verdicts = Vec<Option<VerifiedTx>>;

/// What one thread verifies together.
enum Group {
    Batches(Vec<BatchJob>),
    Transactions(Vec<TransactionsJob>),
}

/// Where processors are short votes, execution and the database go first, as blocks wait for them; what is verified later is of a later
/// block. Linux has a niceness for each thread.
fn let_others_go_first() {
    #[cfg(target_os = "linux")]
    if let Err(cause) = rustix::process::setpriority_process(None, NICE) {
        debug!(%cause, "verification has the priority of all else");
    }
}

impl Verifier {
    /// A verifier with its own threads; `None`: one a core.
    ///
    /// # Errors
    /// Where the system gives no threads.
    pub fn new(threads: Option<usize>, metrics: Arc<Metrics>) -> Result<Verifier, ThreadPoolBuildError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(cores).max(1);
        let name = |index| format!("verify-{index}");
        let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(name);
        let pool = builder.start_handler(|_| let_others_go_first()).build()?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            known: Mutex::default(),
            equations: Equations::new(metrics.verified_groups.clone()),
            waiting_batches: metrics.queue_depth.with_label_values(&["verify_batches"]),
            waiting_transactions: metrics.queue_depth.with_label_values(&["verify_transactions"]),
            waiting_forwarded: metrics.queue_depth.with_label_values(&["verify_forwarded"]),
            metrics,
        });
        Ok(Verifier { pool, threads, places: Semaphore::new(QUEUE_BATCHES), shared })
    }

    /// Size, stateless checks, author's and all transactions' signatures of a peer's batch (V6). `digest` is
    /// [`Batch::digest`] and `author` the key of [`Batch::author`]: the caller has looked both up already.
    ///
    /// # Errors
    /// Names the first thing that is wrong; the author is to blame for any of them.
    pub async fn verify_batch(
        &self,
        chain: &Hash,
        batch: Arc<Batch>,
        digest: Hash,
        author: &PublicKey,
    ) -> Result<VerifiedBatch, BatchError> {
        batch.check_shape()?;
        // The semaphore is never closed; with or without a permit the work is the same.
        let _place = self.places.acquire().await;
        let (reply, answer) = oneshot::channel();
        let job = BatchJob { chain: *chain, batch, digest, author: *author, reply };
        self.enter(|queue| queue.batches.push_back(job));
        answered(answer).await
    }

    /// The transactions whose stateless checks and signature hold, each in its place.
    ///
    /// # Errors
    /// [`Busy`] where too many wait; none was looked at.
    pub async fn verify_transactions(
        &self,
        chain: &Hash,
        transactions: Vec<SignedTransaction>,
    ) -> Result<Vec<Option<VerifiedTx>>, Busy> {
        let count = transactions.len();
        let (jobs, answers) = jobs_of(chain, transactions, GROUP);
        let bytes: usize = jobs.iter().map(|job| job.bytes).sum();
        let signatures: usize = jobs.iter().map(|job| job.signatures).sum();
        let taken = self.enter(|queue| {
            let fits = queue.signatures + signatures <= QUEUE_SIGNATURES && queue.bytes + bytes <= QUEUE_BYTES;
            if fits {
                queue.signatures += signatures;
                queue.bytes += bytes;
                queue.transactions.extend(jobs);
            }
            fits
        });
        if !taken {
            self.shared.metrics.mempool_rejected.with_label_values(&["VERIFIER_BUSY"]).inc_by(count as u64);
            return Err(Busy);
        }
        Ok(all_answered(answers).await)
    }

    /// As [`Verifier::verify_transactions`], when nothing else waits or it is their turn. Who calls it waits for the answer before
    /// it calls again: so what one call brings waits here, and the rest with the caller.
    pub async fn verify_forwarded(
        &self,
        chain: &Hash,
        transactions: Vec<SignedTransaction>,
    ) -> Vec<Option<VerifiedTx>> {
        let (jobs, answers) = jobs_of(chain, transactions, FORWARDED_GROUP);
        self.enter(|queue| queue.forwarded.extend(jobs));
        all_answered(answers).await
    }

    /// Changes the queue, and wakes free threads for what waits.
    fn enter<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.shared.queue();
        let out = change(&mut queue);
        self.shared.show(&queue);
        let jobs = queue.batches.len() + queue.transactions.len() + queue.forwarded.len();
        for _ in 0..jobs.min(self.threads.saturating_sub(queue.busy)) {
            queue.busy += 1;
            let shared = self.shared.clone();
            self.pool.spawn(move || shared.work());
        }
        out
    }
}

/// Jobs of at most `group` signatures, so that one large request keeps several threads busy.
fn jobs_of(
    chain: &Hash,
    mut transactions: Vec<SignedTransaction>,
    group: usize,
) -> (Vec<TransactionsJob>, Vec<oneshot::Receiver<Verdicts>>) {
    let mut out = (Vec::new(), Vec::new());
    while !transactions.is_empty() {
        let sizes = transactions.iter().map(SignedTransaction::signatures);
        let rest = transactions.split_off(part_of_a_group(sizes, group));
        let bytes = transactions.iter().map(SignedTransaction::encoded_len).sum();
        let signatures = signatures(&transactions);
        let (reply, answer) = oneshot::channel();
        out.0.push(TransactionsJob { chain: *chain, transactions, signatures, bytes, reply });
        out.1.push(answer);
        transactions = rest;
    }
    out
}

/// Waits for a reply. A thread drops none: if it panics, rayon ends the process.
async fn answered<T>(answer: oneshot::Receiver<T>) -> T {
    match answer.await {
        Ok(answer) => answer,
        Err(_) => std::future::pending().await,
    }
}

/// Waits for the replies to the jobs of one call.
async fn all_answered(answers: Vec<oneshot::Receiver<Verdicts>>) -> Verdicts {
    let mut verified = Vec::new();
    for answer in answers {
        verified.extend(answered(answer).await);
    }
    verified
}

impl Queue {
    /// The next group: peers' batches before clients' transactions, for the chain waits for the former; what was passed on last,
    /// for who did so can do so again, and elsewhere, but one group after [`PASSED_OVER`] of the clients'.
    fn next(&mut self) -> Option<Group> {
        if !self.batches.is_empty() {
            let sizes = self.batches.iter().map(|job| 1 + signatures(&job.batch.txs));
            let jobs = self.batches.drain(..part_of_a_group(sizes, GROUP)).collect();
            return Some(Group::Batches(jobs));
        }
        let its_turn = !self.forwarded.is_empty() && self.passed_over >= PASSED_OVER;
        if !self.transactions.is_empty() && !its_turn {
            self.passed_over += usize::from(!self.forwarded.is_empty());
            let jobs = group_of(&mut self.transactions, GROUP);
            self.signatures -= jobs.iter().map(|job| job.signatures).sum::<usize>();
            self.bytes -= jobs.iter().map(|job| job.bytes).sum::<usize>();
            return Some(Group::Transactions(jobs));
        }
        self.passed_over = 0;
        (!self.forwarded.is_empty()).then(|| Group::Transactions(group_of(&mut self.forwarded, FORWARDED_GROUP)))
    }
}

fn group_of(jobs: &mut VecDeque<TransactionsJob>, group: usize) -> Vec<TransactionsJob> {
    let count = part_of_a_group(jobs.iter().map(|job| job.signatures), group);
    jobs.drain(..count).collect()
}

fn signatures(transactions: &[SignedTransaction]) -> usize {
    transactions.iter().map(SignedTransaction::signatures).sum()
}

/// How many of what has these numbers of signatures make a group: at least one, then up to `group` signatures.
fn part_of_a_group(sizes: impl Iterator<Item = usize>, group: usize) -> usize {
    let mut sum = 0;
    let within = sizes.take_while(|size| {
        sum += size;
        sum <= group
    });
    within.count().max(1)
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, queue: &Queue) {
        self.waiting_batches.set(queue.batches.len() as i64);
        self.waiting_transactions.set(queue.signatures as i64);
        // Of one call at a time: some hundred jobs at most, where each claims with many attestations.
        let forwarded: usize = queue.forwarded.iter().map(|job| job.signatures).sum();
        self.waiting_forwarded.set(forwarded as i64);
    }

    /// One thread, until nothing waits.
    fn work(&self) {
        loop {
            let mut queue = self.queue();
            let group = queue.next();
            self.show(&queue);
            let Some(group) = group else {
                queue.busy -= 1;
                return;
            };
            drop(queue);
            match group {
                Group::Batches(jobs) => self.batches(jobs),
                Group::Transactions(jobs) => self.transactions(jobs),
            }
        }
    }

    fn batches(&self, jobs: Vec<BatchJob>) {
        let mut claims = Claims::default();
        let ranges: Vec<Range<usize>> = jobs
            .iter()
            .map(|job| {
                let start = claims.all.len();
                claims.add_author(job);
                claims.add_transactions(&job.chain, &job.batch.txs);
                start..claims.all.len()
            })
            .collect();
        let verdict = self.judge(&claims);
        for (job, range) in jobs.into_iter().zip(ranges) {
            let result = match verdict.first_bad(range.clone()) {
                Some(0) => Err(BatchError::Signature),
                Some(at) => Err(BatchError::Transaction { index: at - 1 }),
                None => {
                    let ids = claims.all.get(range).unwrap_or_default().iter().filter_map(|claim| claim.id).collect();
                    Ok(VerifiedBatch { batch: job.batch, digest: job.digest, ids })
                }
            };
            // The caller may have given up.
            let _ = job.reply.send(result);
        }
    }

    fn transactions(&self, jobs: Vec<TransactionsJob>) {
        let mut claims = Claims::default();
        for job in &jobs {
            claims.add_transactions(&job.chain, &job.transactions);
        }
        let verdict = self.judge(&claims);
        let mut at = claims.all.iter().zip(&verdict.valid);
        for job in jobs {
            let verified = job.transactions.into_iter().zip(at.by_ref()).map(|(tx, (claim, valid))| {
                let id = claim.id.filter(|_| *valid && tx.check().is_ok())?;
                let (sender, bytes) = (tx.transaction.sender.address(), tx.encoded_len());
                Some(VerifiedTx { id, sender, bytes, tx: Arc::new(tx) })
            });
            let _ = job.reply.send(verified.collect());
        }
    }

    /// Which claims hold: those known, then all others in one equation, and by bisection where that fails.
    fn judge(&self, claims: &Claims) -> Verdict {
        let known = self.known().recognize(&claims.all);
        let open: Vec<(usize, &Claim)> = claims.all.iter().enumerate().filter(|(at, _)| !known[*at]).collect();
        // Each signature beside the claim that it belongs to.
        let (owners, group): (Vec<usize>, Vec<&Signed>) =
            open.iter().flat_map(|(at, claim)| claim.signatures().map(|signed| (*at, signed))).unzip();
        let bad = self.equations.culprits(&group);
        let mut valid = vec![true; claims.all.len()];
        for owner in bad.into_iter().filter_map(|position| owners.get(position)) {
            valid[*owner] = false;
        }
        let good: Vec<&Claim> = open.into_iter().filter(|(at, _)| valid[*at]).map(|(_, claim)| claim).collect();
        let transactions = self.known().remember(&good);
        self.metrics.verified.inc_by(transactions);
        Verdict { valid }
    }
}

/// A transaction or a batch's author, with the signatures to be verified.
struct Claim {
    /// Of the transaction: the plain hash of its sign bytes, which hold the key and what endorses it. `None`: of an author.
    id: Option<Hash>,
    signed: Signed,
    /// Signatures that the transaction carries beside its sender's.
    endorsements: Vec<Signed>,
}

impl Claim {
    fn signatures(&self) -> impl Iterator<Item = &Signed> {
        std::iter::once(&self.signed).chain(&self.endorsements)
    }
}

#[derive(Default)]
struct Claims {
    all: Vec<Claim>,
}

impl Claims {
    fn add_author(&mut self, job: &BatchJob) {
        let bytes = Batch::sign_bytes(&job.chain, &job.digest).to_vec();
        let signed = Signed { key: job.author, bytes, signature: job.batch.signature };
        self.all.push(Claim { id: None, signed, endorsements: Vec::new() });
    }

    fn add_transactions(&mut self, chain: &Hash, transactions: &[SignedTransaction]) {
        for tx in transactions {
            let bytes = tx.transaction.sign_bytes(chain);
            let id = Some(hash::plain(&bytes));
            let signed = Signed { key: tx.transaction.sender, bytes, signature: tx.signature };
            let endorsements = tx.endorsements(chain).into_iter().map(Signed::from).collect();
            self.all.push(Claim { id, signed, endorsements });
        }
    }
}

/// By claim, whether it holds.
struct Verdict {
    valid: Vec<bool>,
}

impl Verdict {
    /// Position in `range` of the first claim that does not hold.
    fn first_bad(&self, range: Range<usize>) -> Option<usize> {
        self.valid.get(range).unwrap_or_default().iter().position(|valid| !valid)
    }
}

/// Transactions verified lately, with the signature that was: the same one under another signature is not known.
/// What is asked for again is remembered anew.
struct Known(Recent<Signature>);

impl Default for Known {
    fn default() -> Known {
        Known(Recent::new(REMEMBERED))
    }
}

impl Known {
    fn recognize(&mut self, claims: &[Claim]) -> Vec<bool> {
        claims.iter().map(|claim| claim.id.is_some_and(|id| self.holds(id, &claim.signed.signature))).collect()
    }

    fn holds(&mut self, id: Hash, signature: &Signature) -> bool {
        self.0.recall(&id).as_ref() == Some(signature)
    }

    /// Returns how many of the claims are transactions.
    fn remember(&mut self, claims: &[&Claim]) -> u64 {
        let transactions = claims.iter().filter_map(|claim| claim.id.map(|id| (id, claim.signed.signature)));
        transactions.map(|(id, signature)| self.0.insert(id, signature)).count() as u64
    }
}

#[cfg(test)]
mod tests;
