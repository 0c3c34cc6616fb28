//! What must hold whatever happens: told of every vote that leaves and every block that is final, by nobody's leave.

use crate::disk::sign;
use aitbc_core::block::Header;
use aitbc_core::hash::Hash;
use aitbc_core::validators::{Index, ValidatorSet};
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Safety, over votes *sent* by honest validators plus all Byzantine weight: no need to see who received what.
pub struct Safety {
    set: Arc<ValidatorSet>,
    byzantine: BTreeSet<Index>,
    /// First vote of each honest validator, slot and class.
    rows: BTreeMap<(Index, u64, u8), Statement>,
    weight: BTreeMap<Statement, u64>,
    reached: BTreeMap<(u64, Kind), Hash>,
    /// Digest of each final height, and who first said so.
    chain: BTreeMap<u64, Hash>,
    /// Batches on the chain.
    included: BTreeSet<Hash>,
    pub votes: u64,
}

impl Safety {
    pub fn new(set: Arc<ValidatorSet>, byzantine: BTreeSet<Index>) -> Safety {
        let (rows, weight, reached, chain, included) = Default::default();
        Safety { set, byzantine, rows, weight, reached, chain, included, votes: 0 }
    }

    /// An honest validator's vote left it.
    pub fn vote_left(&mut self, vote: &Vote) {
        let statement = vote.statement;
        let key = (vote.signer, statement.slot, statement.kind.class());
        let first = *self.rows.entry(key).or_insert(statement);
        assert_eq!(first, statement, "validator {} sent two votes of a class", vote.signer);
        if first == statement && self.votes_once(vote) {
            self.check_reached(statement);
        }
    }

    fn votes_once(&mut self, vote: &Vote) -> bool {
        let key = (vote.signer, vote.statement.slot, vote.statement.kind.class() + 2);
        if self.rows.insert(key, vote.statement).is_some() {
            return false;
        }
        self.votes += 1;
        let byzantine: u64 = self.byzantine.iter().map(|i| self.set.weight(*i)).sum();
        *self.weight.entry(vote.statement).or_insert(byzantine) += self.set.weight(vote.signer);
        true
    }

    /// Lemmas 1 and 2.
    fn check_reached(&mut self, statement: Statement) {
        if self.weight[&statement] < self.set.quorum() {
            return;
        }
        let Statement { slot, kind, digest, .. } = statement;
        let first = *self.reached.entry((slot, kind)).or_insert(digest);
        assert_eq!(first, digest, "two candidates of slot {slot} reached {kind:?}");
        let both = self.reached.contains_key(&(slot, Kind::Final)) && self.reached.contains_key(&(slot, Kind::Skip));
        assert!(!both, "slot {slot} is both final and skipped");
        if let (Some(f), Some(n)) = (self.reached.get(&(slot, Kind::Final)), self.reached.get(&(slot, Kind::Notar))) {
            assert_eq!(f, n, "slot {slot}: final is what was notarized");
        }
    }

    /// Agreement and prefix consistency: each height has one block for all, on the one below. Every batch once.
    pub fn block_final(&mut self, node: Index, header: &Header, digest: Hash) {
        let height = header.height;
        if let Some(first) = self.chain.get(&height) {
            assert_eq!(*first, digest, "validator {node} finalised another block at height {height}");
            return;
        }
        if let Some(below) = self.chain.get(&(height - 1)) {
            assert_eq!(*below, header.parent, "height {height} is not on the final block below it");
        }
        for batch in &header.batches {
            assert!(self.included.insert(batch.digest), "height {height} includes a batch a second time");
        }
        self.chain.insert(height, digest);
    }

    /// A certificate that an honest validator rests on or sends.
    pub fn certificate(&self, chain: &Hash, node: Index, cert: &Cert) {
        assert!(
            cert.check_shape(&self.set).is_ok(),
            "validator {node} holds a certificate of the wrong shape: {cert:?}"
        );
        let message = cert.statement.sign_bytes(chain);
        for (signer, signature) in cert.signer_indices().zip(&cert.signatures) {
            assert!(sign(signer, &message) == *signature, "validator {node} holds a forged certificate: {cert:?}");
        }
    }

    pub fn height(&self) -> u64 {
        self.chain.keys().next_back().copied().unwrap_or(0)
    }
}

/// Bytes from each honest validator to each peer, second by second.
#[derive(Default)]
pub struct Egress {
    second: u64,
    bytes: BTreeMap<(Index, Index), u64>,
    /// Most in any second so far.
    pub worst: u64,
}

impl Egress {
    /// Most bytes to a peer in a second: four full standstill attempts and a repair reply each 50 ms stay far below.
    pub const CAP: u64 = 4 << 20;

    pub fn sent(&mut self, now: u64, from: Index, to: Index, bytes: u64) {
        if now / 1_000 != self.second {
            self.second = now / 1_000;
            self.bytes.clear();
        }
        let sum = self.bytes.entry((from, to)).or_default();
        *sum += bytes;
        self.worst = self.worst.max(*sum);
        assert!(*sum <= Egress::CAP, "validator {from} sent {to} {sum} bytes within a second");
    }
}

/// When blocks became final, for gaps and liveness.
#[derive(Default)]
pub struct Pace {
    /// Times at which the chain grew, by whoever was first.
    pub grew: Vec<u64>,
}

impl Pace {
    /// Longest time without growth between two moments.
    pub fn worst_gap(&self, from: u64, to: u64) -> u64 {
        let inside = self.grew.iter().copied().filter(|at| (from..=to).contains(at));
        let mut last = from;
        let mut worst = 0;
        for at in inside.chain([to]) {
            worst = worst.max(at - last);
            last = at;
        }
        worst
    }
}
