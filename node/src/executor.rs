//! The thread that executes blocks: ahead of finality, once each; and lets final ones out, in order.
//!
//! ```text
//! core --Execute--> overlay by digest --Executed{roots}--> core
//! core --Finalized--> snapshot, outcomes, subscriptions --CommitJob--> commit
//! ```

use crate::batches::BatchPool;
use crate::commit::CommitJob;
use crate::events;
use crate::mempool::task::FinalBlock;
use crate::metrics::Metrics;
use crate::snapshots::Snapshots;
use crate::storage::{BatchWrite, ReceiptRow, Storage, TransactionRow};
use crate::subscriptions::Subscriptions;
use crate::view::{BlockSummary, Identity, Snapshot};
use aitbc_core::batch::VerifiedBatch;
use aitbc_core::block::{Candidate, Header, VERSION};
use aitbc_core::consensus::input::{Input, Roots, Tip};
use aitbc_core::epoch::{Epochs, Sets};
use aitbc_core::hash::Hash;
use aitbc_core::ledger::{self, Context, Executed, ResultCode, Rules, TxResult};
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::state::State;
use aitbc_core::state_sync::SNAPSHOT_EVERY;
use aitbc_core::sync;
use aitbc_core::transaction::{Action, SignedTransaction};
use aitbc_core::validators::ValidatorSet;
use aitbc_core::vote::Cert;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info};

/// Blocks waiting to be executed or let out.
pub const QUEUE: usize = 256;
/// Pause before a failed read is tried again.
const READ_RETRY: Duration = Duration::from_millis(100);

/// What the thread is asked to do.
pub enum Command {
    /// Execute on the parent, which was executed before.
    Execute {
        /// Digest of the candidate.
        digest: Hash,
        /// The candidate.
        candidate: Box<Candidate>,
    },
    /// These are final, in order.
    Finalize {
        /// Digest and candidate of each.
        blocks: Vec<(Hash, Candidate)>,
        /// Final certificate of the last.
        cert: Cert,
    },
    /// Final blocks from block sync, linked and certified; execute and let out.
    Sync {
        /// The blocks, verified.
        blocks: Vec<sync::FinalBlock>,
        /// Final certificate of the last, or of one above it.
        cert: Cert,
        /// The new end, or which block's roots differ from what the next header says.
        reply: oneshot::Sender<Result<Tip, RootsDiffer>>,
    },
}

/// The own execution disagrees with a certified header (C21).
#[derive(Debug, Clone, thiserror::Error)]
#[error("executing block {height} gives other roots than the certified header after it says")]
pub struct RootsDiffer {
    /// The block whose result differs.
    pub height: u64,
}

/// A block that is executed and perhaps not final.
struct Done {
    height: u64,
    batches: Vec<VerifiedBatch>,
    executed: Executed,
}

/// State of the thread.
pub struct Executor {
    /// Fixed facts.
    pub identity: Arc<Identity>,
    /// Rules of execution.
    pub rules: Rules,
    /// Batches by digest.
    pub pool: Arc<BatchPool>,
    /// For batches that left memory.
    pub storage: Arc<dyn Storage>,
    /// Inputs of the core.
    pub core: mpsc::Sender<Input>,
    /// Final blocks on their way to the database.
    pub commits: mpsc::Sender<CommitJob>,
    /// Outcomes for the pool.
    pub outcomes: mpsc::Sender<FinalBlock>,
    /// What readers see.
    pub chain: watch::Sender<Arc<Snapshot>>,
    /// States for nodes that are far behind.
    pub snapshots: Arc<Snapshots>,
    /// Subscribers.
    pub subscriptions: Subscriptions,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Runtime for the rare read of the database.
    pub runtime: tokio::runtime::Handle,
    done: HashMap<Hash, Done>,
    tip: Hash,
    tip_state: State,
    tip_height: u64,
    /// Of the epoch of the tip's child.
    sets: Sets,
}

impl Executor {
    /// An executor at the end of the ledger, taken from `chain`.
    #[expect(clippy::too_many_arguments, reason = "called once, by the wiring")]
    pub fn new(
        identity: Arc<Identity>,
        rules: Rules,
        pool: Arc<BatchPool>,
        storage: Arc<dyn Storage>,
        core: mpsc::Sender<Input>,
        commits: mpsc::Sender<CommitJob>,
        outcomes: mpsc::Sender<FinalBlock>,
        chain: watch::Sender<Arc<Snapshot>>,
        snapshots: Arc<Snapshots>,
        subscriptions: Subscriptions,
        metrics: Arc<Metrics>,
        runtime: tokio::runtime::Handle,
    ) -> Executor {
        let end = chain.borrow().clone();
        Executor {
            identity,
            rules,
            pool,
            storage,
            core,
            commits,
            outcomes,
            chain,
            snapshots,
            subscriptions,
            metrics,
            runtime,
            done: HashMap::new(),
            tip: end.head.hash,
            tip_state: end.state.clone(),
            tip_height: end.head.height,
            sets: end.sets.clone(),
        }
    }

    /// Serves commands until the channel closes. Runs on a thread of its own: execution is all computation.
    pub fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            match command {
                Command::Execute { digest, candidate } => self.execute(digest, &candidate),
                Command::Finalize { blocks, cert } => self.finalize(blocks, &cert),
                Command::Sync { blocks, cert, reply } => {
                    // The asker is gone only while the node stops.
                    let _ = reply.send(self.sync(blocks, &cert));
                }
            }
        }
    }

    fn execute(&mut self, digest: Hash, candidate: &Candidate) {
        if self.done.contains_key(&digest) {
            return;
        }
        if digest == self.tip {
            // Block sync executed it and was faster than this order.
            let Tip { height, roots, .. } = tip(&self.chain.borrow());
            let set = self.epochs().is_boundary(height).then(|| self.sets.next.clone());
            let _ = self.core.blocking_send(Input::Executed { digest, roots, set });
            return;
        }
        if candidate.header.epoch != self.sets.epoch {
            // Block sync has ended that epoch; the core hears of it.
            return info!(%digest, epoch = candidate.header.epoch, "a block of another epoch is not executed any more");
        }
        let Some(state) = self.state_after(&candidate.header.parent) else {
            error!(%digest, parent = %candidate.header.parent, "asked to execute a block whose parent is not executed");
            return;
        };
        let Some(batches) = self.batches(&candidate.header) else {
            error!(%digest, "asked to execute a block whose batches are not here");
            return;
        };
        if !speaks(&state, candidate.header.height) {
            error!(%digest, height = candidate.header.height, "asked to execute a block of a version that is not spoken here");
            return;
        }
        let executed = self.apply(&state, &candidate.header, &batches);
        let next_version = executed.state.version_at(candidate.header.height.saturating_add(1));
        let roots = Roots { state: executed.state_root, results: executed.results_root, next_version };
        let set = self.e1_set_after(candidate.header.height, &executed.state);
        self.done.insert(digest, Done { height: candidate.header.height, batches, executed });
        // Fails only while the node stops.
        let _ = self.core.blocking_send(Input::Executed { digest, roots, set });
    }

    fn epochs(&self) -> Epochs {
        Epochs::by(&self.identity.genesis.parameters)
    }

    /// **E1** What the state after the last block of this epoch decides: the set of the epoch after the next.
    fn e1_set_after(&self, height: u64, state: &State) -> Option<Arc<ValidatorSet>> {
        let Sets { epoch, next, .. } = &self.sets;
        self.epochs().is_boundary(height).then(|| state.elect(&self.rules, epoch.saturating_add(2), next))
    }

    fn apply(&self, state: &State, header: &Header, batches: &[VerifiedBatch]) -> Executed {
        ledger::execute(state, &self.rules, &Context::of(header, &self.sets), batches)
    }

    fn state_after(&self, digest: &Hash) -> Option<State> {
        if *digest == self.tip {
            return Some(self.tip_state.clone());
        }
        self.done.get(digest).map(|done| done.executed.state.clone())
    }

    fn batches(&self, header: &Header) -> Option<Vec<VerifiedBatch>> {
        header.batches.iter().map(|reference| self.batch(&reference.digest)).collect()
    }

    /// From memory, else from the ledger, where only verified batches are.
    fn batch(&self, digest: &Hash) -> Option<VerifiedBatch> {
        if let Some(batch) = self.pool.get(digest) {
            return Some(batch);
        }
        // Tried until the database answers: the core waits for the result of this block, and asks once.
        loop {
            match self.runtime.block_on(self.storage.batches(vec![*digest])) {
                Ok(stored) => {
                    let (_, batch) = stored.into_iter().next()?;
                    return Some(VerifiedBatch::trusted(batch, *digest, &self.identity.chain));
                }
                Err(cause) => {
                    error!(%cause, batch = %digest, "a batch to execute could not be read, trying again");
                    self.metrics.database_errors.with_label_values(&["read_batch"]).inc();
                    if self.core.is_closed() {
                        return None;
                    }
                    std::thread::sleep(READ_RETRY);
                }
            }
        }
    }

    fn finalize(&mut self, blocks: Vec<(Hash, Candidate)>, cert: &Cert) {
        for (digest, candidate) in blocks {
            // Block sync was faster.
            if candidate.header.height <= self.tip_height {
                continue;
            }
            let Some(done) = self.done.remove(&digest) else {
                error!(%digest, height = candidate.header.height, "a final block was never executed");
                return;
            };
            let own = (cert.statement.digest == digest).then(|| cert.clone());
            self.let_out(digest, candidate, own, done, None);
        }
        self.forget_losers();
        if self.tip_height.is_multiple_of(64) {
            self.pool.expire(self.tip_height);
        }
    }

    /// Whatever was executed at or below the final height lost.
    fn forget_losers(&mut self) {
        let height = self.tip_height;
        self.done.retain(|_, done| done.height > height);
    }

    fn sync(&mut self, blocks: Vec<sync::FinalBlock>, cert: &Cert) -> Result<Tip, RootsDiffer> {
        for sync::FinalBlock { digest, header, batches } in blocks {
            // Consensus was faster.
            if header.height <= self.tip_height {
                continue;
            }
            // Before its roots are looked at: what they mean may be another rule's.
            if !speaks(&self.tip_state, header.height) {
                break;
            }
            let snapshot = self.chain.borrow().clone();
            let (state, results) = (snapshot.head.state_root, snapshot.head.results_root);
            if header.parent_state_root != state || header.parent_results_root != results {
                return Err(RootsDiffer { height: header.height - 1 });
            }
            let executed = self.apply(&self.tip_state, &header, &batches);
            let own = (cert.statement.digest == digest).then(|| cert.clone());
            let write = |b: &VerifiedBatch| BatchWrite { digest: b.digest, batch: b.batch.clone() };
            let fetched = Some(batches.iter().map(write).collect());
            let done = Done { height: header.height, batches, executed };
            // The leader's signature is not part of fetched blocks and not needed: a certificate covers them.
            let candidate = Candidate::unsigned(header);
            self.let_out(digest, candidate, own, done, fetched);
        }
        self.forget_losers();
        Ok(tip(&self.chain.borrow()))
    }

    /// Makes a final block visible and sends it to the database; of a fetched one its batches too.
    fn let_out(
        &mut self,
        digest: Hash,
        candidate: Candidate,
        cert: Option<Cert>,
        done: Done,
        fetched: Option<Vec<BatchWrite>>,
    ) {
        let header = &candidate.header;
        let roots = (done.executed.state_root, done.executed.results_root);
        let summary = BlockSummary::of(Some(&self.sets.current), digest, header, roots);
        let rows: Arc<[TransactionRow]> = transaction_rows(header.height, &done.batches, &done.executed.results).into();
        self.count(&summary, &rows);
        let receipts = receipt_rows(header, &done.batches, &done.executed);
        let batches: Vec<Hash> = header.batches.iter().map(|b| b.digest).collect();
        self.pool.included(header.height, batches.iter().copied());
        self.tip = digest;
        self.tip_height = header.height;
        self.sets = done.executed.state.sets_after(&self.rules, self.epochs(), &self.sets, header.height);
        let parent_state = Some(std::mem::replace(&mut self.tip_state, done.executed.state.clone()));
        if self.tip_height.is_multiple_of(SNAPSHOT_EVERY) {
            self.snapshots.keep(self.tip_height, self.tip_state.clone());
        }
        let min_fee = done.executed.state.terms(&self.rules).min_fee;
        // Readers first see the state, then hear of it.
        let (state, sets) = (done.executed.state, self.sets.clone());
        let snapshot = Snapshot { head: summary.clone(), state, parent_state, sets };
        self.chain.send_replace(Arc::new(snapshot));
        events::block_final(&self.subscriptions, &summary);
        events::transactions_final(&self.subscriptions, &rows);
        let changed = done.executed.changed;
        let job = CommitJob {
            digest,
            candidate,
            cert,
            fetched,
            accounts: changed.iter().map(|(address, account)| (*address, account.balance, account.nonce)).collect(),
            records: done.executed.changed_records,
            transactions: rows.clone(),
            receipts,
            state_root: summary.state_root,
            results_root: summary.results_root,
        };
        let (height, results) = (summary.height, done.executed.results);
        let block = FinalBlock { height, results, changed, rows, batches, min_fee };
        // Either fails only while the node stops; the ledger of another start has the block by sync.
        let _ = self.outcomes.blocking_send(block);
        if self.commits.blocking_send(job).is_err() {
            info!(height = summary.height, "final block not stored here: the node is stopping");
        }
    }

    fn count(&self, summary: &BlockSummary, rows: &[TransactionRow]) {
        let metrics = &self.metrics;
        metrics.blocks.inc();
        metrics.transactions.inc_by(rows.len() as u64);
        metrics.height.set(summary.height as i64);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        metrics.finality_seconds.observe(now.saturating_sub(summary.time_ms) as f64 / 1_000.0);
        for row in rows.iter().filter(|row| row.code != 0) {
            let code = ResultCode::from_number(row.code).map_or("UNKNOWN", ResultCode::name);
            metrics.transaction_results.with_label_values(&[code]).inc();
        }
    }
}

/// The end of the chain as the core wants it.
pub fn tip(end: &Snapshot) -> Tip {
    let (head, next_version) = (&end.head, end.state.version_at(end.head.height.saturating_add(1)));
    Tip {
        digest: head.hash,
        slot: head.slot,
        height: head.height,
        time_ms: head.time_ms,
        roots: Roots { state: head.state_root, results: head.results_root, next_version },
    }
}

/// **V1** Whether the block of `height` on this state has a version that this program speaks. The core does not ask for others; here
/// nothing is executed by rules that are not known, whoever asks.
fn speaks(state: &State, height: u64) -> bool {
    state.version_at(height) <= VERSION
}

/// Rows of a block's transactions: one result a transaction, in order (the ledger's contract).
pub fn transaction_rows(height: u64, batches: &[VerifiedBatch], results: &[TxResult]) -> Vec<TransactionRow> {
    let txs = batches.iter().flat_map(|b| b.batch.txs.iter().map(move |tx| (b.digest, tx)));
    let row = |(index, ((batch, tx), result)): (usize, ((Hash, &SignedTransaction), &TxResult))| TransactionRow {
        id: result.id,
        height,
        index: index as u32,
        code: result.code as u16,
        sender: tx.transaction.sender.address(),
        nonce: tx.transaction.nonce,
        batch,
    };
    txs.zip(results).enumerate().map(row).collect()
}

/// Rows of the receipts that a block minted: its claims that took effect, with what the records say that it changed.
pub fn receipt_rows(header: &Header, batches: &[VerifiedBatch], executed: &Executed) -> Vec<ReceiptRow> {
    let txs = batches.iter().flat_map(|b| &b.batch.txs);
    let row = |(index, (result, tx)): (u32, (&TxResult, &SignedTransaction))| {
        let Action::ClaimReceipt(attested) = &tx.transaction.action else { return None };
        if result.code != ResultCode::Ok {
            return None;
        }
        let key = RecordKey::Receipt { nullifier: attested.receipt.nullifier() };
        let at = executed.changed_records.binary_search_by(|(changed, _)| changed.cmp(&key)).ok()?;
        let Some(Record::Receipt { minted, .. }) = executed.changed_records[at].1 else { return None };
        let (height, time_ms, attested) = (header.height, header.time_ms, (**attested).clone());
        Some(ReceiptRow { height, index, time_ms, minted, attested })
    };
    (0..).zip(executed.results.iter().zip(txs)).filter_map(row).collect()
}

#[cfg(test)]
mod tests;
