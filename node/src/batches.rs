//! Batches on their way to being votable: verified as a unit, durable, then told to the core (V6, H3).

use crate::metrics::Metrics;
use crate::storage::{BatchWrite, Storage, StorageError};
use crate::verify::Verifier;
use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::consensus::input::Input;
use aitbc_core::epoch::Sets;
use aitbc_core::hash::Hash;
use aitbc_core::key::PublicKey;
use aitbc_core::message::MAX_REQUEST;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, error};

/// Batches being verified at once, or waiting for one that came before them.
const VERIFYING: usize = 32;
/// Batches from peers waiting to be verified; beyond, they are dropped, and fetched again if a header names them (C14).
const INTAKE: usize = 256;
/// Batches waiting for the database.
pub const QUEUE: usize = 256;
/// Batches that share a commit.
const GROUP: usize = 64;
/// Bytes of one author's batches kept in memory, of all epochs together; more are refused until some are final, unless a header
/// names them. An honest one has 48 of up to 256 KiB that are not, and mostly of 64 KiB.
const MAX_AUTHOR_BYTES: usize = 16 << 20;
/// Batches that were asked for lately, as headers name them (C14): those of 16 requests under way.
const WANTED: usize = 16 * MAX_REQUEST;
/// Heights for which an included batch stays in memory, for slow peers; after that it is read from the ledger.
const KEEP_HEIGHTS: u64 = 64;
/// Bytes of included batches that stay: eight full blocks.
const KEEP_BYTES: usize = 16 << 20;

/// Batches in memory by digest.
pub struct BatchPool {
    inner: Mutex<Inner>,
    /// Of the epoch whose blocks are voted for: whose batches are taken.
    sets: Mutex<Sets>,
}

#[derive(Default)]
struct Inner {
    batches: HashMap<Hash, Held>,
    /// Of batches that are in no final block, by author: none is zero.
    author_bytes: HashMap<PublicKey, usize>,
    /// Batches in final blocks, with their heights and bytes, oldest first.
    included: VecDeque<(u64, Hash, usize)>,
    included_bytes: usize,
    /// Batches that headers name and that were not here, newest last.
    wanted: VecDeque<Hash>,
}

struct Held {
    batch: VerifiedBatch,
    /// Its number may be another one in the next epoch.
    author: PublicKey,
    /// In a final block: it no longer counts against its author.
    included: bool,
}

impl BatchPool {
    /// An empty pool of an epoch.
    pub fn new(sets: Sets) -> BatchPool {
        BatchPool { inner: Mutex::default(), sets: Mutex::new(sets) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the maps usable: each change is complete before the lock is dropped.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The author of a batch that a block of this epoch or of the next one may include (V6, E8).
    fn author(&self, batch: &Batch) -> Result<PublicKey, &'static str> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let near = batch.epoch.saturating_add(1) >= sets.epoch;
        let set = sets.of(batch.epoch).filter(|_| near).ok_or("epoch")?;
        set.get(batch.author).map(|author| author.key).ok_or("unknown_author")
    }

    /// An epoch has begun (E5). What no block may include any more goes, however late it says that it expires (E8): or an author
    /// could have its share again in each epoch.
    pub fn enter(&self, sets: Sets) {
        self.lock().forget_older(sets.epoch.saturating_sub(1));
        *self.sets.lock().unwrap_or_else(PoisonError::into_inner) = sets;
    }

    /// The batch with this digest.
    pub fn get(&self, digest: &Hash) -> Option<VerifiedBatch> {
        self.lock().batches.get(digest).map(|held| held.batch.clone())
    }

    /// Headers name these batches, and peers are asked for them (C14): there is room for each when it comes.
    pub fn want(&self, digests: &[Hash]) {
        let wanted = &mut self.lock().wanted;
        for digest in digests {
            if !wanted.contains(digest) {
                wanted.push_back(*digest);
            }
        }
        let more = wanted.len().saturating_sub(WANTED);
        wanted.drain(..more);
    }

    /// Adds a batch.
    ///
    /// One that a header names takes the place of its author's others where there is no room: else an author could send every
    /// validator other batches, as many as it takes, and no block would be voted for that names any of them. Those others are
    /// in the ledger, where they are read from.
    ///
    /// # Errors
    /// Says why not: its author has too much here already, or no block may include it any more.
    pub fn insert(&self, batch: VerifiedBatch) -> Result<(), &'static str> {
        let author = self.author(&batch.batch)?;
        self.insert_of(author, batch)
    }

    /// As [`Self::insert`], of an author that is known, whatever the epoch here.
    fn insert_of(&self, author: PublicKey, batch: VerifiedBatch) -> Result<(), &'static str> {
        let mut inner = self.lock();
        if inner.batches.contains_key(&batch.digest) {
            return Ok(());
        }
        let bytes = batch.batch.encoded_len();
        if inner.held_of(&author) + bytes > MAX_AUTHOR_BYTES {
            if !inner.wanted.contains(&batch.digest) {
                return Err("author_full");
            }
            inner.forget_of(&author);
        }
        let held = inner.held_of(&author) + bytes;
        inner.author_bytes.insert(author, held);
        inner.batches.insert(batch.digest, Held { batch, author, included: false });
        Ok(())
    }

    /// Forgets a batch.
    pub fn remove(&self, digest: &Hash) {
        self.lock().forget(digest);
    }

    /// Marks batches as part of the final block at `height` and forgets those of old blocks.
    pub fn included(&self, height: u64, digests: impl Iterator<Item = Hash>) {
        let mut inner = self.lock();
        for digest in digests {
            let bytes = inner.release(&digest);
            inner.included_bytes += bytes;
            inner.included.push_back((height, digest, bytes));
        }
        inner.forget_included(height);
    }

    /// Forgets batches that no block may include any more.
    pub fn expire(&self, height: u64) {
        self.lock().forget_where(|held| held.batch.batch.expiry_height < height);
    }
}

impl Inner {
    /// Bytes of an author's batches that are in no final block.
    fn held_of(&self, author: &PublicKey) -> usize {
        self.author_bytes.get(author).copied().unwrap_or_default()
    }

    /// Forgets an author's batches that are in no final block.
    fn forget_of(&mut self, author: &PublicKey) {
        self.forget_where(|held| !held.included && held.author == *author);
    }

    /// Forgets batches of epochs before this one that are in no final block.
    fn forget_older(&mut self, epoch: u64) {
        self.forget_where(|held| !held.included && held.batch.batch.epoch < epoch);
    }

    fn forget_where(&mut self, goes: impl Fn(&Held) -> bool) {
        let gone: Vec<Hash> = self.batches.values().filter(|held| goes(held)).map(|held| held.batch.digest).collect();
        gone.iter().for_each(|digest| self.forget(digest));
    }

    fn forget(&mut self, digest: &Hash) {
        self.release(digest);
        self.batches.remove(digest);
    }

    /// Forgets batches of old blocks, and of newer ones while they are too many bytes.
    fn forget_included(&mut self, height: u64) {
        while let Some((at, digest, bytes)) = self.included.front().copied()
            && (at + KEEP_HEIGHTS < height || self.included_bytes > KEEP_BYTES)
        {
            self.included.pop_front();
            self.included_bytes -= bytes;
            self.forget(&digest);
        }
    }

    /// The batch does not count against its author any more; its bytes, if it did.
    fn release(&mut self, digest: &Hash) -> usize {
        let Some(held) = self.batches.get_mut(digest).filter(|held| !held.included) else { return 0 };
        held.included = true;
        let released = held.batch.batch.encoded_len();
        if let Entry::Occupied(mut bytes) = self.author_bytes.entry(held.author) {
            *bytes.get_mut() = bytes.get().saturating_sub(released);
            if *bytes.get() == 0 {
                bytes.remove();
            }
        }
        released
    }
}

/// The way of a batch from the wire, or the own pool, to the core. Cheap to clone.
#[derive(Clone)]
pub struct Batches {
    shared: Arc<Shared>,
    intake: mpsc::Sender<Batch>,
    durable: mpsc::Sender<VerifiedBatch>,
}

struct Shared {
    chain: Hash,
    /// Own key.
    own: PublicKey,
    pool: Arc<BatchPool>,
    verifier: Arc<Verifier>,
    metrics: Arc<Metrics>,
}

impl Batches {
    /// Starts the task that stores batches and tells the core.
    pub fn start(
        chain: Hash,
        own: PublicKey,
        pool: Arc<BatchPool>,
        verifier: Arc<Verifier>,
        storage: Arc<dyn Storage>,
        core: mpsc::Sender<Input>,
        metrics: Arc<Metrics>,
    ) -> Batches {
        let (durable, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(store(waiting, pool.clone(), storage, core, metrics.clone()));
        let shared = Arc::new(Shared { chain, own, pool, verifier, metrics });
        let (intake, waiting) = mpsc::channel(INTAKE);
        let batches = Batches { shared, intake, durable };
        let (verifying, verified) = mpsc::channel(VERIFYING);
        tokio::spawn(batches.clone().take_in(waiting, verifying));
        tokio::spawn(batches.clone().pass_on(verified));
        batches
    }

    /// A batch of our own, verified transaction by transaction before. The epoch that it is sealed for is the executor's, which
    /// may be several ahead of the pool's while blocks are fetched.
    pub async fn own(&self, batch: VerifiedBatch) {
        let inserted = self.shared.pool.insert_of(self.shared.own, batch.clone());
        self.make_durable(batch, inserted).await;
    }

    /// Has a batch stored that is in the pool, or counts why it is not.
    async fn make_durable(&self, batch: VerifiedBatch, inserted: Result<(), &'static str>) {
        match inserted {
            Ok(()) => {
                // Fails only while the node stops.
                let _ = self.durable.send(batch).await;
            }
            Err(reason) => {
                self.refuse::<()>(reason);
            }
        }
    }

    /// A batch from the wire. Never waits: the consensus loop calls it, and what stores batches waits for that loop.
    pub fn receive(&self, batch: Batch) {
        if self.intake.try_send(batch).is_err() {
            self.refuse::<()>("intake_full");
        }
    }

    async fn take_in(
        self,
        mut waiting: mpsc::Receiver<Batch>,
        verifying: mpsc::Sender<JoinHandle<Option<VerifiedBatch>>>,
    ) {
        while let Some(batch) = waiting.recv().await {
            let this = self.clone();
            let check = tokio::spawn(async move { this.check(batch).await });
            if verifying.send(check).await.is_err() {
                return;
            }
        }
    }

    /// Passes batches on in the order in which they came: an author's later batch may hold a sender's next nonce, and would
    /// run without effect in an earlier block.
    async fn pass_on(self, mut verifying: mpsc::Receiver<JoinHandle<Option<VerifiedBatch>>>) {
        while let Some(check) = verifying.recv().await {
            // A check that panicked is a batch refused; the panic stands in the log.
            if let Ok(Some(batch)) = check.await {
                let inserted = self.shared.pool.insert(batch.clone());
                self.make_durable(batch, inserted).await;
            }
        }
    }

    async fn check(&self, batch: Batch) -> Option<VerifiedBatch> {
        let shared = &self.shared;
        let digest = batch.digest();
        if shared.pool.get(&digest).is_some() {
            return None;
        }
        let author = match shared.pool.author(&batch) {
            Ok(author) => author,
            Err(reason) => return self.refuse(reason),
        };
        match shared.verifier.verify_batch(&shared.chain, Arc::new(batch), digest, &author).await {
            Ok(batch) => Some(batch),
            Err(cause) => {
                debug!(%cause, %digest, "batch refused");
                self.refuse("invalid")
            }
        }
    }

    fn refuse<T>(&self, reason: &str) -> Option<T> {
        self.shared.metrics.batches_refused.with_label_values(&[reason]).inc();
        None
    }
}

/// Stores batches in groups and reports each to the core (H3).
async fn store(
    mut waiting: mpsc::Receiver<VerifiedBatch>,
    pool: Arc<BatchPool>,
    storage: Arc<dyn Storage>,
    core: mpsc::Sender<Input>,
    metrics: Arc<Metrics>,
) {
    let mut group = Vec::with_capacity(GROUP);
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        let rows = group.iter().map(|b| BatchWrite { digest: b.digest, batch: b.batch.clone() }).collect();
        let timer = metrics.database_seconds.with_label_values(&["batches"]).start_timer();
        let result: Result<(), StorageError> = storage.commit_batches(rows).await;
        timer.observe_duration();
        if let Err(cause) = result {
            // Not durable, so not votable: the authors' leaders see no vote of ours until it is fetched again (C14).
            error!(%cause, batches = group.len(), "batches could not be stored");
            metrics.database_errors.with_label_values(&["batches"]).inc();
            group.drain(..).for_each(|batch| pool.remove(&batch.digest));
            continue;
        }
        for batch in group.drain(..) {
            let input = Input::BatchDurable {
                reference: batch.batch.reference(batch.digest),
                seq: batch.batch.seq,
                expiry_height: batch.batch.expiry_height,
            };
            if core.send(input).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BatchPool, Batches, KEEP_BYTES, KEEP_HEIGHTS, MAX_AUTHOR_BYTES, WANTED};
    use crate::metrics::Metrics;
    use crate::tests::database;
    use crate::verify::Verifier;
    use aitbc_core::batch::{Batch, VerifiedBatch};
    use aitbc_core::consensus::input::Input;
    use aitbc_core::epoch::Sets;
    use aitbc_core::hash::plain;
    use aitbc_core::key::{Address, SecretKey};
    use aitbc_core::transaction::{Action, Payment, Transaction};
    use aitbc_core::validators::{Validator, ValidatorSet};
    use std::sync::Arc;
    use tokio::sync::mpsc;

    fn batch(author: u16, seq: u64, txs: usize) -> VerifiedBatch {
        let (chain, key) = (plain(b"chain"), SecretKey::from_seed([1; 32]));
        let action = Action::Transfer(Payment { to: Address([2; 20]), amount: 1 });
        let tx = Transaction { sender: key.public(), nonce: 0, fee: 1, expiry_height: 9, action }.sign(&chain, &key);
        let batch = Arc::new(Batch::seal(&chain, &key, (0, author), seq, 100, vec![tx; txs]));
        let digest = batch.digest();
        VerifiedBatch::trusted(batch, digest, &chain)
    }

    fn set(seeds: &[u8]) -> Arc<ValidatorSet> {
        let member = |seed: &u8| Validator { key: SecretKey::from_seed([*seed; 32]).public(), weight: 1 };
        Arc::new(ValidatorSet::new(seeds.iter().map(member).collect()).expect("a set"))
    }

    fn sets() -> Sets {
        Sets::genesis(set(&[1]))
    }

    #[test]
    fn v6_the_author_of_a_batch_is_of_the_set_of_its_own_epoch_which_is_not_over_for_long() {
        let pool = BatchPool::new(sets());
        // Validator 1 leaves after epoch 4, 2 and 3 come.
        let (older, previous, current, next) = (set(&[1]), set(&[1]), set(&[2]), set(&[2, 3]));
        pool.enter(Sets { epoch: 5, older, previous, current: current.clone(), next: next.clone() });
        let author = |epoch, author| pool.author(&Batch { epoch, ..(*batch(author, 1, 1).batch).clone() });
        assert_eq!(author(4, 0), Ok(set(&[1]).members()[0].key));
        assert_eq!(author(5, 0), Ok(current.members()[0].key));
        assert_eq!(author(6, 1), Ok(next.members()[1].key));
        assert_eq!((author(5, 1), author(4, 1)), (Err("unknown_author"), Err("unknown_author")));
        assert_eq!((author(3, 0), author(7, 0)), (Err("epoch"), Err("epoch")));
    }

    /// Of 1,000 transactions, by a member of a set of two; each has a digest of its own.
    fn large(epoch: u64, author: u16, seq: u64) -> VerifiedBatch {
        let one = batch(author, 0, 1_000);
        let digest = plain(&[epoch.to_le_bytes(), seq.to_le_bytes()].concat());
        VerifiedBatch::trusted(Arc::new(Batch { epoch, ..(*one.batch).clone() }), digest, &plain(b"chain"))
    }

    #[test]
    fn an_author_that_holds_too_much_in_all_epochs_together_is_refused_until_some_is_final() {
        let pool = BatchPool::new(Sets::genesis(set(&[1, 2])));
        let fit = (MAX_AUTHOR_BYTES / large(0, 0, 0).batch.encoded_len()) as u64;
        let held: Vec<VerifiedBatch> = (0..fit).map(|seq| large(seq % 2, 0, seq)).collect();
        for one in &held {
            assert_eq!(pool.insert(one.clone()), Ok(()));
        }
        assert_eq!(pool.insert(large(1, 0, fit)), Err("author_full"), "one more of the same author");
        assert_eq!(pool.insert(large(0, 1, fit)), Ok(()), "another author has a share of its own");
        pool.included(1, [held[0].digest].into_iter());
        assert_eq!(pool.insert(large(1, 0, fit)), Ok(()));
        assert_eq!(pool.insert(large(1, 0, fit + 1)), Err("author_full"));
    }

    #[test]
    fn h3_a_batch_that_a_header_names_gets_room_however_many_others_of_its_author_are_here() {
        let pool = BatchPool::new(Sets::genesis(set(&[1, 2])));
        let fit = (MAX_AUTHOR_BYTES / large(0, 0, 0).batch.encoded_len()) as u64;
        let (of_the_other, named, unnamed) = (large(0, 1, fit), large(0, 0, fit + 1), large(0, 0, fit + 2));
        for one in (0..fit).map(|seq| large(0, 0, seq)).chain([of_the_other.clone()]) {
            assert_eq!(pool.insert(one), Ok(()));
        }
        pool.want(&[named.digest]);
        assert_eq!(pool.insert(unnamed), Err("author_full"));
        assert_eq!(pool.insert(named.clone()), Ok(()));
        assert!(pool.get(&named.digest).is_some() && pool.get(&of_the_other.digest).is_some());
        let held = pool.lock().author_bytes.get(&set(&[1]).members()[0].key).copied();
        assert_eq!(held, Some(named.batch.encoded_len()), "the others have made room");
    }

    #[test]
    fn c14_the_newest_batches_that_were_asked_for_are_remembered_and_no_more_than_fit_into_16_requests() {
        let pool = BatchPool::new(sets());
        let name = |number: usize| plain(&number.to_le_bytes());
        for number in 0..WANTED + 10 {
            pool.want(&[name(number), name(number)]);
        }
        let wanted = pool.lock().wanted.clone();
        assert!(wanted.into_iter().eq((10..WANTED + 10).map(name)));
    }

    #[test]
    fn included_batches_stay_for_so_many_heights_and_no_more_than_so_many_bytes() {
        let pool = BatchPool::new(Sets::genesis(set(&[1, 2])));
        let few = large(0, 1, 0);
        assert_eq!(pool.insert(few.clone()), Ok(()));
        pool.included(1, [few.digest].into_iter());
        pool.included(KEEP_HEIGHTS + 1, std::iter::empty());
        assert!(pool.get(&few.digest).is_some());
        pool.included(KEEP_HEIGHTS + 2, std::iter::empty());
        assert!(pool.get(&few.digest).is_none());
        let bytes = few.batch.encoded_len();
        let many: Vec<VerifiedBatch> = (1..=2 * (KEEP_BYTES / bytes) as u64).map(|seq| large(0, 0, seq)).collect();
        for one in &many {
            assert_eq!(pool.insert(one.clone()), Ok(()));
            pool.included(KEEP_HEIGHTS + 2, [one.digest].into_iter());
        }
        let stay: Vec<bool> = many.iter().map(|one| pool.get(&one.digest).is_some()).collect();
        let kept = stay.iter().filter(|here| **here).count();
        assert_eq!((kept, stay[stay.len() - kept..].iter().all(|here| *here)), (KEEP_BYTES / bytes, true));
        assert_eq!(pool.lock().batches.len(), kept);
    }

    #[test]
    fn an_expired_batch_is_forgotten_and_another_is_not() {
        let pool = BatchPool::new(sets());
        let one = batch(0, 1, 1);
        assert_eq!(pool.insert(one.clone()), Ok(()));
        pool.expire(100);
        assert!(pool.get(&one.digest).is_some());
        pool.expire(101);
        assert!(pool.get(&one.digest).is_none());
    }

    #[test]
    fn e8_batches_of_an_epoch_that_no_block_includes_any_more_are_forgotten_however_late_they_expire() {
        let pool = BatchPool::new(sets());
        let of = |epoch: u64, seq: u64| {
            let batch = Arc::new(Batch { epoch, seq, expiry_height: u64::MAX, ..(*batch(0, seq, 1).batch).clone() });
            let digest = batch.digest();
            VerifiedBatch::trusted(batch, digest, &plain(b"chain"))
        };
        let (open, last, included) = (of(0, 1), of(1, 2), of(0, 3));
        for batch in [&open, &last, &included] {
            assert_eq!(pool.insert(batch.clone()), Ok(()));
        }
        pool.included(5, [included.digest].into_iter());
        pool.enter(Sets { epoch: 1, ..sets() });
        assert!(pool.get(&open.digest).is_some(), "a block of this epoch may include it");
        pool.enter(Sets { epoch: 2, ..sets() });
        assert!(pool.get(&open.digest).is_none());
        assert!(pool.get(&last.digest).is_some() && pool.get(&included.digest).is_some());
        let bytes: Vec<usize> = pool.lock().author_bytes.values().copied().collect();
        assert_eq!(bytes, [last.batch.encoded_len()], "its share is free again");
        assert_eq!(pool.insert(of(0, 4)), Err("epoch"), "one that was on its way");
    }

    /// The way of batches at a validator with key 1 that is in the first epoch, and what the core is told.
    async fn started() -> (Batches, mpsc::Receiver<Input>, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let (chain, key) = (plain(b"chain"), SecretKey::from_seed([1; 32]).public());
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let storage = database(folder.path(), &metrics).await;
        let verifier = Arc::new(Verifier::new(Some(2), metrics.clone()).expect("threads"));
        let (core, inputs) = mpsc::channel(64);
        let pool = Arc::new(BatchPool::new(sets()));
        (Batches::start(chain, key, pool, verifier, storage, core, metrics), inputs, folder)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_own_batch_becomes_votable_however_many_epochs_the_executor_is_ahead_and_a_peers_does_not() {
        let (batches, mut inputs, _folder) = started().await;
        let pool = &batches.shared.pool;
        let of_later = |seq: u64| {
            let batch = Arc::new(Batch { epoch: 3, ..(*batch(0, seq, 1).batch).clone() });
            let digest = batch.digest();
            VerifiedBatch::trusted(batch, digest, &plain(b"chain"))
        };
        assert_eq!(pool.insert(of_later(1)), Err("epoch"));
        let own = of_later(2);
        batches.own(own.clone()).await;
        assert!(pool.get(&own.digest).is_some());
        let Some(Input::BatchDurable { reference, seq, .. }) = inputs.recv().await else { panic!("a batch") };
        assert_eq!((reference.digest, reference.epoch, seq), (own.digest, 3, 2));
        assert_eq!(pool.lock().author_bytes.get(&set(&[1]).members()[0].key), Some(&own.batch.encoded_len()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn batches_become_votable_in_the_order_in_which_they_came_however_long_each_takes() {
        let (batches, mut inputs, _folder) = started().await;
        // Long and short in turn, so that a short one is verified before the long one it follows.
        for seq in 0..40 {
            let txs = if seq % 2 == 0 { 1_000 } else { 1 };
            batches.receive((*batch(0, seq, txs).batch).clone());
        }
        for expected in 0..40 {
            let Some(Input::BatchDurable { seq, .. }) = inputs.recv().await else { panic!("a batch") };
            assert_eq!(seq, expected);
        }
    }
}
