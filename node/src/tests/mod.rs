//! What tests of several modules stand on.

pub(crate) mod chain;

use crate::metrics::Metrics;
use crate::storage::{Owner, Storage, open};
use aitbc_core::block::{Candidate, Header, VERSION};
use aitbc_core::hash::Hash;
use std::path::Path;
use std::sync::Arc;

/// A block of epoch 0 that nobody signed and that says nothing but its height.
pub(crate) fn unsigned(height: u64) -> Candidate {
    Candidate::unsigned(Header {
        version: VERSION,
        epoch: 0,
        slot: height,
        height,
        parent_slot: height - 1,
        parent: Hash::ZERO,
        parent_state_root: Hash::ZERO,
        parent_results_root: Hash::ZERO,
        time_ms: height,
        proposer: 0,
        set_hash: Hash::ZERO,
        next_set_hash: Hash::ZERO,
        batches: Vec::new(),
        evidence: Vec::new(),
    })
}

/// An open database `chain.db` in a folder, with its lease, of no chain in particular.
pub(crate) async fn database(folder: &Path, metrics: &Arc<Metrics>) -> Arc<dyn Storage> {
    let url = format!("sqlite:///{}", folder.join("chain.db").display());
    let storage = open(&url, Owner { chain: Hash::ZERO, key: None }, metrics.clone()).await.expect("opens");
    storage.take_lease("test".into()).await.expect("lease");
    storage
}
