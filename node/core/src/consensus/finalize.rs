//! Letting final blocks out in order, and going on from block sync (protocol.md C19, C20, S1).

use super::input::{Boundary, Tip};
use super::output::{Halt, Output, Rows};
use super::state::{Core, Execution, facts_of};
use crate::hash::Hash;
use crate::record::RecordKey;
use crate::vote::Cert;

impl Core {
    /// **C19.** Upon the Final certificate of s* held and the chain from the last block let out to it resolved: all its
    /// blocks are final, in order.
    pub(super) fn c19_finalize(&mut self) -> bool {
        if self.top.digest == self.tip.digest || self.halted.is_some() {
            return false;
        }
        let Some(chain) = self.resolved_chain() else { return false };
        let Some(cert) = self.top.cert.clone() else { return false };
        let block = |digest: &Hash| Some((*digest, self.candidates.get(digest)?.candidate.clone()));
        let blocks = chain.iter().filter_map(block).collect();
        self.emit(Output::Finalized { blocks, cert });
        chain.into_iter().for_each(|digest| self.settle_block(digest));
        self.forget_below_tip();
        true
    }

    /// Digests from above the tip up to s*, if each is here and its execution was asked for, which needs its batches. Blocks of a
    /// version that this program does not speak prove those below them and are let out by another one (V1).
    fn resolved_chain(&mut self) -> Option<Vec<Hash>> {
        let mut chain = Vec::new();
        let mut resolved = true;
        let mut at = self.top.digest;
        while at != self.tip.digest {
            let digest = at;
            let entry = self.candidates.get(&digest)?;
            let header = &entry.candidate.header;
            if header.height <= self.tip.height {
                // C21: a final chain that does not go through the last final block (Theorem 1).
                self.halt(Halt::ContradictingCerts { slot: self.tip.slot });
                return None;
            }
            at = header.parent;
            if header.version > self.config.version {
                (chain, resolved) = (Vec::new(), true);
                continue;
            }
            resolved &= entry.execution != Execution::No;
            chain.push(digest);
        }
        chain.reverse();
        (resolved && !chain.is_empty()).then_some(chain)
    }

    /// A block is final: it is the tip, its batches are spent, its candidate is kept for late peers.
    fn settle_block(&mut self, digest: Hash) {
        let Some(entry) = self.candidates.get(&digest) else { return };
        self.tip = entry.facts(digest);
        let batches: Vec<Hash> = entry.candidate.header.batches.iter().map(|batch| batch.digest).collect();
        let nullifiers: Vec<_> = {
            RecordKey::nullifiers(&entry.candidate.header.evidence, |epoch| self.config.sets.of(epoch).cloned())
                .collect()
        };
        batches.into_iter().for_each(|batch| self.batches.include(batch));
        nullifiers.into_iter().for_each(|nullifier| self.accusations.settle(nullifier));
        if let Some(of_slot) = self.by_slot.get_mut(&self.tip.slot) {
            of_slot.retain(|other| *other != digest);
        }
        self.keep_past(digest);
    }

    /// **C20.** What can matter no more: candidates that lost, wants for them, expired batches.
    fn forget_below_tip(&mut self) {
        self.drop_candidates_below_tip();
        self.drop_wants_below_tip();
        self.batches.expire(self.tip.height);
    }

    /// Final blocks came by block sync: s* and the tip move up, and what is certified above is linked to them (S1).
    pub(super) fn on_synced(
        &mut self,
        tip: &Tip,
        cert: Cert,
        included: Vec<(Hash, u64)>,
        nullifiers: Vec<RecordKey>,
        boundary: Option<Box<Boundary>>,
    ) {
        nullifiers.into_iter().for_each(|nullifier| self.accusations.settle(nullifier));
        included.into_iter().for_each(|(digest, expiry)| self.batches.include_until(digest, expiry));
        // Block sync goes epoch by epoch too, and tells of each end; an older one was over before.
        if cert.statement.epoch != self.config.epoch() {
            return;
        }
        if let Some(boundary) = boundary {
            self.boundaries.insert(tip.digest, boundary.set);
            self.synced_boundary = Some(boundary.header);
        }
        if cert.statement.slot > self.top.slot {
            self.persist(Rows::FinalCert { cert: cert.clone() });
            self.raise_top(cert);
        }
        // The same block became final here meanwhile; block sync executed it, so nobody else will.
        if tip.digest == self.tip.digest {
            self.tip.roots = Some(tip.roots);
        }
        // Consensus was faster.
        if tip.height <= self.tip.height {
            return;
        }
        self.tip = facts_of(tip);
        self.forget_below_tip();
        self.want_ancestors_of_top();
        self.refresh_base();
    }
}
