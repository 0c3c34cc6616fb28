//! Every vote that any validator ever wrote: collected while the chain runs, because nodes delete old rows.

use crate::ledger_reader::{LedgerReader, VoteRow};
use crate::wait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Pause between two looks; rows stay for 64 slots, a second of a chain under load.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// (signer, epoch, slot, class) → what was voted.
type Rows = BTreeMap<(i64, i64, i64, i64), VoteRow>;

#[derive(Default)]
struct Archive {
    rows: Rows,
    /// Epochs in which each reader's validator voted, and as whom.
    cast: BTreeMap<usize, BTreeSet<(i64, i64)>>,
    conflicts: Vec<String>,
}

impl Archive {
    fn add(&mut self, reader: usize, row: VoteRow) {
        self.cast.entry(reader).or_default().insert((row.epoch, row.signer));
        let first = self.rows.entry((row.signer, row.epoch, row.slot, row.class)).or_insert_with(|| row.clone());
        if (&first.kind, &first.digest) != (&row.kind, &row.digest) {
            self.conflicts.push(format!("{first:?} and {row:?}"));
        }
    }
}

/// Collects until it is dropped.
pub struct VoteArchive {
    archive: Arc<Mutex<Archive>>,
    readers: Vec<LedgerReader>,
    tasks: Vec<JoinHandle<()>>,
}

impl VoteArchive {
    /// Starts to collect.
    pub fn start(readers: Vec<LedgerReader>) -> VoteArchive {
        let archive = Arc::new(Mutex::new(Archive::default()));
        // One each: a server that hangs must not hide what the others write.
        let task =
            |(number, reader): (usize, &LedgerReader)| tokio::spawn(collect(archive.clone(), number, reader.clone()));
        let tasks = readers.iter().enumerate().map(task).collect();
        VoteArchive { archive, readers, tasks }
    }

    /// Collects from one more: a database that took the place of another.
    pub fn add(&mut self, reader: LedgerReader) {
        self.tasks.push(tokio::spawn(collect(self.archive.clone(), self.readers.len(), reader.clone())));
        self.readers.push(reader);
    }

    /// Looks once more and returns the number of votes seen, and every pair of one class in one slot of one signer.
    pub async fn check(&self) -> (usize, Vec<String>) {
        for (number, reader) in self.readers.iter().enumerate() {
            look(&self.archive, number, reader).await;
        }
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        (archive.rows.len(), archive.conflicts.clone())
    }

    /// Whether a validator wrote a vote above an epoch and slot.
    pub fn voted_above(&self, signer: i64, position: (i64, i64)) -> bool {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        archive.rows.keys().any(|(who, epoch, slot, _)| *who == signer && (*epoch, *slot) > position)
    }

    /// Highest epoch and slot that a validator voted in.
    pub fn highest(&self, signer: i64) -> (i64, i64) {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let own = archive.rows.keys().filter(|(who, ..)| *who == signer);
        own.map(|(_, epoch, slot, _)| (*epoch, *slot)).max().unwrap_or((0, 0))
    }

    /// Highest epoch and slot that anybody voted in.
    pub fn highest_of_all(&self) -> (i64, i64) {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        archive.rows.keys().map(|(_, epoch, slot, _)| (*epoch, *slot)).max().unwrap_or((0, 0))
    }

    /// Epochs in which the validator of a database voted, and under which number of that epoch's set; databases are counted from
    /// 0 in the order in which they were named.
    pub fn cast_by(&self, reader: usize) -> BTreeSet<(i64, i64)> {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        archive.cast.get(&reader).cloned().unwrap_or_default()
    }

    /// Generations of the lease under which a validator wrote.
    pub fn generations(&self, signer: i64) -> Vec<i64> {
        let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<i64> = archive.rows.values().filter(|r| r.signer == signer).map(|r| r.generation).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Drop for VoteArchive {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn collect(archive: Arc<Mutex<Archive>>, number: usize, reader: LedgerReader) {
    loop {
        look(&archive, number, &reader).await;
        wait::let_it_run(LOOK_EVERY).await;
    }
}

async fn look(archive: &Mutex<Archive>, number: usize, reader: &LedgerReader) {
    // A database that is down, or not made yet, has nothing new to tell.
    if let Ok(rows) = reader.votes().await {
        let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
        rows.into_iter().for_each(|row| archive.add(number, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, class: i64, digest: &str) -> VoteRow {
        VoteRow { signer: 1, epoch: 0, slot: 7, class, kind: kind.into(), digest: digest.into(), generation: 1 }
    }

    #[test]
    fn a_final_and_a_skip_vote_of_one_slot_are_a_conflict_and_the_same_vote_twice_is_none() {
        let mut archive = Archive::default();
        archive.add(0, row("notar", 0, "a"));
        archive.add(0, row("final", 1, "a"));
        archive.add(0, row("final", 1, "a"));
        assert!(archive.conflicts.is_empty());
        archive.add(0, row("skip", 1, ""));
        assert_eq!(archive.conflicts.len(), 1);
    }
}
