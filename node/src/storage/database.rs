//! Storage over a backend: two lanes of writes, bounded reads, every call timed.

use super::backend::{Backend, BlockId, DataJob, VoteJob};
use super::lane::{GROUP_BYTES, Lane, Writer};
use super::{
    BatchWrite, BlockWrite, LedgerSnapshot, ReceiptRow, ReceiptsOf, Result, StateWrite, Storage, StorageError,
    StoredBlock, StoredSnapshot, TransactionRow, Undo, VoteWrite, fitting, rows,
};
use crate::metrics::Metrics;
use aitbc_core::batch::Batch;
use aitbc_core::block::{Block, Header, Seal};
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::memory::Memory;
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::vote::Cert;
use futures_util::future::{BoxFuture, try_join_all};
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// Most blocks one call reads.
const MAX_BLOCKS: u32 = 1_024;
/// Most transactions one call lists.
const MAX_TRANSACTIONS: u32 = 1_000;
/// Most receipts one call lists.
const MAX_RECEIPTS: u32 = 100;
/// Most blocks, bytes of batches and transactions that one commit deletes, but at least one block.
const FORGET_BLOCKS: u32 = 64;
const FORGET_BYTES: u64 = 1 << 20;
const FORGET_TRANSACTIONS: u64 = 8_192;
/// Most batches that one commit deletes, which no block names any more that is kept whole.
const FORGET_BATCHES: u32 = 256;
/// A database that does not answer for this long is not ready.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A database with its queues.
pub struct Database<B> {
    backend: Arc<B>,
    votes: Lane<VoteJob>,
    data: Lane<DataJob>,
    metrics: Arc<Metrics>,
    lowest: Lowest,
}

/// Least height whose batches are there. It only rises, whoever deletes beside whom, unless a deletion fails.
struct Lowest(AtomicU64);

impl Lowest {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn raise(&self, to: u64) {
        self.0.fetch_max(to, Ordering::AcqRel);
    }

    /// Nothing was deleted after all, unless another has raised it further.
    fn take_back(&self, from: u64, to: u64) {
        // An error says that it is another height by now.
        let _ = self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }
}

struct Votes<B>(Arc<B>);
struct Data<B>(Arc<B>);

impl<B: Backend> Writer<VoteJob> for Votes<B> {
    fn write<'a>(&'a self, jobs: &'a [VoteJob]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.0.write_votes(jobs))
    }

    fn idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.keep_alive())
    }

    fn weight(_: &VoteJob) -> usize {
        0
    }
}

impl<B: Backend> Writer<DataJob> for Data<B> {
    fn write<'a>(&'a self, jobs: &'a [DataJob]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.0.write_data(jobs))
    }

    fn idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn weight(job: &DataJob) -> usize {
        match job {
            DataJob::Batches(batches) => batches.iter().map(|b| b.batch.encoded_len()).sum(),
            DataJob::Snapshot(_, snapshot) => snapshot.parts.iter().map(Vec::len).sum(),
            DataJob::Blocks(_) | DataJob::Bodies { .. } | DataJob::ForgetSnapshot | DataJob::Prune { .. } => 0,
        }
    }
}

impl<B: Backend> Database<B> {
    /// Starts the lanes.
    ///
    /// # Errors
    /// Where it cannot be read what was deleted before.
    pub async fn start(backend: B, metrics: Arc<Metrics>) -> Result<Self> {
        let lowest = backend.lowest().await?;
        let backend = Arc::new(backend);
        let depth = |queue| metrics.queue_depth.with_label_values(&[queue]);
        metrics.lowest_height.set(lowest as i64);
        Ok(Database {
            votes: Lane::start(Votes(backend.clone()), depth("storage_votes")),
            data: Lane::start(Data(backend.clone()), depth("storage_data")),
            backend,
            metrics,
            lowest: Lowest(AtomicU64::new(lowest)),
        })
    }

    /// Measures a call and counts its failure.
    fn timed<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            let timer = self.metrics.database_seconds.with_label_values(&[operation]).start_timer();
            let outcome = call.await;
            timer.observe_duration();
            if outcome.is_err() {
                self.metrics.database_errors.with_label_values(&[operation]).inc();
            }
            outcome
        })
    }

    async fn read_blocks(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<(StoredBlock, Block)>> {
        let mut stored = self.backend.block_range(from, to, MAX_BLOCKS).await?;
        let sizes = stored.iter().map(|block| block.candidate.header.batch_bytes());
        let count = fitting(sizes, max_bytes as u64);
        stored.truncate(count);
        let digests: Vec<Hash> =
            stored.iter().flat_map(|b| b.candidate.header.batches.iter().map(|r| r.digest)).collect();
        let found: HashMap<Hash, Vec<u8>> = self.backend.batch_bytes(&digests).await?.into_iter().collect();
        stored.into_iter().map(|block| with_batches(block, &found)).collect()
    }

    /// Raises the mark first: who reads meanwhile learns that these are going, not that they are missing.
    async fn forget_some(&self, below: u64) -> Result<u64> {
        let from = self.lowest();
        let blocks = self.backend.block_range(from, below.saturating_sub(1), FORGET_BLOCKS).await?;
        let headers: Vec<&Header> = blocks.iter().map(|stored| &stored.candidate.header).collect();
        let count = within_step(&headers);
        let Some(last) = headers.iter().take(count).next_back() else { return Ok(from) };
        let lowest = last.height + 1;
        let digests = headers.iter().take(count).flat_map(|h| h.batches.iter().map(|b| b.digest)).collect();
        self.lowest.raise(lowest);
        self.data.write(DataJob::Bodies { digests, lowest }).await.inspect_err(|_| {
            self.lowest.take_back(lowest, from);
        })?;
        self.backend.forget_transactions(lowest).await?;
        self.metrics.lowest_height.set(self.lowest() as i64);
        Ok(self.lowest())
    }

    async fn forget_some_leftovers(&self) -> Result<usize> {
        let lowest = self.lowest();
        if lowest <= 1 {
            return Ok(0);
        }
        let found = self.backend.batches_below(lowest, FORGET_BATCHES).await?;
        let count = fitting(found.iter().map(|(_, size)| *size), FORGET_BYTES);
        let digests: Vec<Hash> = found.iter().take(count).map(|(digest, _)| *digest).collect();
        let count = digests.len();
        if count > 0 {
            self.data.write(DataJob::Bodies { digests, lowest }).await?;
        }
        Ok(count)
    }

    fn raise_lowest(&self, lowest: u64) {
        self.lowest.raise(lowest);
        self.metrics.lowest_height.set(self.lowest() as i64);
    }

    async fn write_snapshot(&self, headers: Vec<BlockWrite>, snapshot: StoredSnapshot) -> Result<()> {
        self.data.write(DataJob::Snapshot(headers, snapshot)).await?;
        self.raise_lowest(self.backend.lowest().await?);
        Ok(())
    }

    async fn read_batches(&self, digests: Vec<Hash>) -> Result<Vec<(Hash, Arc<Batch>)>> {
        let found: HashMap<Hash, Vec<u8>> = self.backend.batch_bytes(&digests).await?.into_iter().collect();
        let known = digests.into_iter().filter_map(|digest| found.get(&digest).map(|bytes| (digest, bytes)));
        known.map(|(digest, bytes)| Ok((digest, Arc::new(rows::decode("batch", bytes)?)))).collect()
    }
}

fn with_batches(stored: StoredBlock, found: &HashMap<Hash, Vec<u8>>) -> Result<(StoredBlock, Block)> {
    let header = &stored.candidate.header;
    let read = |digest: &Hash| {
        let missing = || StorageError::Corrupt(format!("batch {digest} of block {} is missing", header.height));
        rows::decode("batch", found.get(digest).ok_or_else(missing)?)
    };
    let batches = header.batches.iter().map(|r| read(&r.digest)).collect::<Result<_>>()?;
    let block = Block { header: header.clone(), batches };
    Ok((stored, block))
}

/// How many of these blocks are deleted in one commit: votes wait for it on SQLite.
fn within_step(headers: &[&Header]) -> usize {
    let (mut bytes, mut txs) = (0, 0);
    let fits = |header: &&&Header| {
        bytes += header.batch_bytes();
        txs += header.tx_count();
        bytes <= FORGET_BYTES && txs <= FORGET_TRANSACTIONS
    };
    headers.iter().take_while(fits).count().max(1).min(headers.len())
}

/// Cuts batches into parts that are each a commit of at most about [`GROUP_BYTES`].
fn parts(batches: Vec<BatchWrite>) -> Vec<DataJob> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for batch in batches {
        bytes += batch.batch.encoded_len();
        part.push(batch);
        if bytes >= GROUP_BYTES {
            parts.push(DataJob::Batches(std::mem::take(&mut part)));
            bytes = 0;
        }
    }
    if !part.is_empty() {
        parts.push(DataJob::Batches(part));
    }
    parts
}

impl<B: Backend> Storage for Database<B> {
    fn kind(&self) -> &'static str {
        B::KIND
    }

    fn take_lease(&self, holder: String) -> BoxFuture<'_, Result<u32>> {
        self.timed("take_lease", async move {
            let generation = self.backend.take_lease(holder).await?;
            // The holder before may have deleted some since the start.
            self.raise_lowest(self.backend.lowest().await?);
            Ok(generation)
        })
    }

    fn load_ledger(&self) -> BoxFuture<'_, Result<LedgerSnapshot>> {
        self.timed("load_ledger", self.backend.load_ledger())
    }

    fn commit_votes(&self, votes: Vec<VoteWrite>) -> BoxFuture<'_, Result<()>> {
        self.timed("commit_votes", self.votes.write(VoteJob::Votes(votes)))
    }

    fn commit_cert(&self, cert: Cert) -> BoxFuture<'_, Result<()>> {
        self.timed("commit_cert", self.votes.write(VoteJob::Cert(cert)))
    }

    fn commit_seal(&self, seal: Seal) -> BoxFuture<'_, Result<()>> {
        self.timed("commit_seal", self.votes.write(VoteJob::Seal(Box::new(seal))))
    }

    fn commit_memory(&self, memory: Memory, generation: Option<u32>) -> BoxFuture<'_, Result<()>> {
        self.timed("commit_memory", async move { self.backend.write_memory(&memory, generation).await })
    }

    fn commit_batches(&self, batches: Vec<BatchWrite>) -> BoxFuture<'_, Result<()>> {
        let writes = parts(batches).into_iter().map(|part| self.data.write(part));
        let writes = try_join_all(writes);
        self.timed("commit_batches", async { writes.await.map(|_| ()) })
    }

    fn commit_blocks(&self, blocks: Vec<BlockWrite>) -> BoxFuture<'_, Result<()>> {
        self.timed("commit_blocks", self.data.write(DataJob::Blocks(blocks)))
    }

    fn commit_snapshot(&self, headers: Vec<BlockWrite>, snapshot: StoredSnapshot) -> BoxFuture<'_, Result<()>> {
        self.timed("commit_snapshot", self.write_snapshot(headers, snapshot))
    }

    fn snapshot(&self, from: u64) -> BoxFuture<'_, Result<Option<StoredSnapshot>>> {
        self.timed("snapshot", self.backend.snapshot(from))
    }

    fn forget_snapshot(&self) -> BoxFuture<'_, Result<()>> {
        self.timed("forget_snapshot", self.data.write(DataJob::ForgetSnapshot))
    }

    fn forget_leftovers(&self) -> BoxFuture<'_, Result<usize>> {
        self.timed("forget_leftovers", self.forget_some_leftovers())
    }

    fn prune(&self, floor: (u64, u64), height: u64) -> BoxFuture<'_, Result<()>> {
        self.timed("prune", self.data.write(DataJob::Prune { floor, height }))
    }

    fn lowest(&self) -> u64 {
        self.lowest.get()
    }

    fn forget_bodies(&self, below: u64) -> BoxFuture<'_, Result<u64>> {
        self.timed("forget_bodies", self.forget_some(below))
    }

    fn flush_state(&self) -> BoxFuture<'_, Result<Option<u64>>> {
        self.timed("flush_state", self.backend.flush_state())
    }

    fn apply_state(&self, write: StateWrite) -> BoxFuture<'_, Result<()>> {
        self.timed("apply_state", async move { self.backend.apply_state(&write).await })
    }

    fn load_state(&self) -> BoxFuture<'_, Result<Option<StateWrite>>> {
        self.timed("load_state", self.backend.load_state())
    }

    fn commit_undo(&self, undo: Undo) -> BoxFuture<'_, Result<bool>> {
        self.timed("undo", async move { self.backend.write_undo(&undo).await })
    }

    fn undo(&self) -> BoxFuture<'_, Result<Option<Undo>>> {
        self.timed("undo", self.backend.undo())
    }

    fn reset_state(&self, state: StateWrite) -> BoxFuture<'_, Result<()>> {
        self.timed("reset_state", async move { self.backend.reset_state(&state).await })
    }

    fn block(&self, height: u64) -> BoxFuture<'_, Result<Option<StoredBlock>>> {
        self.timed("block", self.backend.block(BlockId::Height(height)))
    }

    fn block_by_digest(&self, digest: Hash) -> BoxFuture<'_, Result<Option<StoredBlock>>> {
        self.timed("block", self.backend.block(BlockId::Digest(digest)))
    }

    fn headers(&self, from: u64, to: u64) -> BoxFuture<'_, Result<Vec<StoredBlock>>> {
        self.timed("headers", self.backend.block_range(from, to, MAX_BLOCKS))
    }

    fn blocks(&self, from: u64, to: u64, max_bytes: usize) -> BoxFuture<'_, Result<Vec<(StoredBlock, Block)>>> {
        self.timed("blocks", self.read_blocks(from, to, max_bytes))
    }

    fn batches(&self, digests: Vec<Hash>) -> BoxFuture<'_, Result<Vec<(Hash, Arc<Batch>)>>> {
        self.timed("batches", self.read_batches(digests))
    }

    fn transaction(&self, id: Hash) -> BoxFuture<'_, Result<Option<TransactionRow>>> {
        self.timed("transaction", self.backend.transaction(id))
    }

    fn transactions(
        &self,
        sender: Option<Address>,
        limit: u32,
        offset: u32,
    ) -> BoxFuture<'_, Result<Vec<TransactionRow>>> {
        self.timed("transactions", self.backend.transactions(sender, limit.min(MAX_TRANSACTIONS), offset))
    }

    fn block_transactions(&self, height: u64) -> BoxFuture<'_, Result<Vec<TransactionRow>>> {
        self.timed("transactions", self.backend.block_transactions(height))
    }

    fn transaction_count(&self) -> BoxFuture<'_, Result<u64>> {
        self.timed("transactions", self.backend.transaction_count())
    }

    fn receipts(&self, of: ReceiptsOf, limit: u32, offset: u32) -> BoxFuture<'_, Result<(Vec<ReceiptRow>, u64)>> {
        self.timed("receipts", async move { self.backend.receipts(&of, limit.min(MAX_RECEIPTS), offset).await })
    }

    fn evidence(&self) -> BoxFuture<'_, Result<(u64, Vec<(RecordKey, Record)>)>> {
        self.timed("evidence", self.backend.evidence())
    }

    fn ping(&self) -> BoxFuture<'_, Result<()>> {
        self.timed("ping", async {
            let answer = timeout(PING_TIMEOUT, self.backend.ping()).await;
            answer.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.votes.close().await;
            self.data.close().await;
            self.backend.close().await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_height_rises_by_whoever_deletes_more_and_falls_only_where_nobody_did() {
        let lowest = Lowest(AtomicU64::new(1));
        // A deletion that read the blocks before a snapshot was stored.
        lowest.raise(5_001);
        lowest.raise(65);
        assert_eq!(lowest.get(), 5_001);
        lowest.take_back(65, 1);
        assert_eq!(lowest.get(), 5_001, "nor does its failure take back the snapshot's");
        lowest.raise(5_065);
        lowest.take_back(5_065, 5_001);
        assert_eq!(lowest.get(), 5_001);
    }
}
