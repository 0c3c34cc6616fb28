//! Evidence on its way into a block: what was seen and proved here, and what is in the chain already (protocol.md X2-X5).
//!
//! Nothing of it is durable. A pair that was seen and lost by a restart is seen again as long as its slot is not final (C17
//! resends votes and certificates), its batches as long as they wait for a block; other validators saw it too, and each puts
//! it into the blocks that it leads.

use super::output::Output;
use super::state::Core;
use crate::evidence::{Evidence, x3_fresh};
use crate::hash::Hash;
use crate::params::{MAX_EVIDENCE, MAX_VALIDATORS};
use crate::record::RecordKey;
use crate::validators::ValidatorSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Evidence that waits for a block: each of the five classes of each validator once.
const WAITING_MAX: usize = 5 * MAX_VALIDATORS;

/// Evidence by what it proves, that is by its nullifier (X4).
#[derive(Clone, Debug, Default)]
pub(super) struct Accusations {
    /// Proved here and in no final block.
    waiting: BTreeMap<RecordKey, Evidence>,
    /// In the state after the tip, as far as it is fresh (X3).
    settled: BTreeSet<RecordKey>,
}

impl Accusations {
    /// What the state of a start knows, or final blocks bring.
    pub(super) fn settle(&mut self, nullifier: RecordKey) {
        self.waiting.remove(&nullifier);
        self.settled.insert(nullifier);
    }

    /// **X4** The state after the tip has the nullifier.
    pub(super) fn is_settled(&self, nullifier: &RecordKey) -> bool {
        self.settled.contains(nullifier)
    }

    /// **X3** What is not fresh in this epoch cannot be in a block any more.
    pub(super) fn enter_epoch(&mut self, current: u64) {
        let fresh = |key: &RecordKey| key.offence_epoch().is_some_and(|epoch| x3_fresh(epoch, current).is_ok());
        self.waiting.retain(|key, _| fresh(key));
        self.settled.retain(fresh);
    }

    fn knows(&self, nullifier: &RecordKey) -> bool {
        self.settled.contains(nullifier) || self.waiting.contains_key(nullifier)
    }
}

impl Core {
    /// **X2.** A contradiction, its signatures verified, is reported and waits for a block, unless the like of it does.
    pub(super) fn x2_accuse(&mut self, evidence: Evidence) {
        let set = self.config.sets.of(evidence.epoch());
        let Some(offence) = set.and_then(|set| evidence.offence(set)) else { return };
        let nullifier = RecordKey::nullifier(&offence);
        if self.accusations.knows(&nullifier) {
            return;
        }
        if self.accusations.waiting.len() >= WAITING_MAX {
            return self.dropped("evidence_full");
        }
        self.accusations.waiting.insert(nullifier, evidence.clone());
        self.emit(Output::Evidence(evidence));
    }

    /// Evidence from the shell, of two batches: X1 to X3 in full, and only what is new.
    pub(super) fn x2_on_evidence(&mut self, evidence: Evidence) {
        let set = self.config.sets.of(evidence.epoch()).cloned();
        let check = |set: &Arc<ValidatorSet>| evidence.check_shape(&self.config.chain, set, self.config.epoch()).ok();
        let Some((set, offence)) = set.and_then(|set| check(&set).map(|offence| (set, offence))) else {
            return self.dropped("evidence_invalid");
        };
        if self.accusations.knows(&RecordKey::nullifier(&offence)) {
            return;
        }
        let verifier = self.config.verifier.clone();
        let valid = evidence.check_signatures(&self.config.chain, |signer, m, s| {
            set.get(signer).is_some_and(|member| verifier.verifies(&member.key, m, s))
        });
        match valid {
            Ok(()) => self.x2_accuse(evidence),
            Err(_) => self.dropped("evidence_invalid"),
        }
    }

    /// **X2 (e).** Another batch of this author has the number: the shell has both, and makes the proof.
    pub(super) fn x2_two_batches(&mut self, first: Hash, second: Hash) {
        self.emit(Output::TwoBatches { first, second });
    }

    /// **X4, X5.** What a block on `base` shall have as evidence: the first that its chain has not.
    pub(super) fn x5_pick(&self, base: Hash) -> Vec<Evidence> {
        if !self.config.accuses {
            return Vec::new();
        }
        let taken = self.unfinal_nullifiers(base);
        let open = self.accusations.waiting.iter().filter(|(nullifier, _)| !taken.contains(*nullifier));
        let fresh = open.filter(|(_, evidence)| x3_fresh(evidence.epoch(), self.config.epoch()).is_ok());
        fresh.take(MAX_EVIDENCE).map(|(_, evidence)| evidence.clone()).collect()
    }

    /// Nullifiers of a block and its ancestors above the tip; those of final blocks are settled.
    pub(super) fn unfinal_nullifiers(&self, from: Hash) -> BTreeSet<RecordKey> {
        let set_of = |epoch| self.config.sets.of(epoch).cloned();
        self.above_tip(from).flat_map(|header| RecordKey::nullifiers(&header.evidence, set_of)).collect()
    }
}
