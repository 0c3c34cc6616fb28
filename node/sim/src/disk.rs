//! What survives a crash, with the guards that the real schema has (P1-P4, P8).

use aitbc_core::batch::Batch;
use aitbc_core::block::{Candidate, Header, Seal, VERSION};
use aitbc_core::consensus::input::{Recovered, Roots, Tip};
use aitbc_core::consensus::output::Rows;
use aitbc_core::epoch::Epochs;
use aitbc_core::hash::{self, Hash};
use aitbc_core::key::Signature;
use aitbc_core::memory::{Cause, Memory};
use aitbc_core::record::RecordKey;
use aitbc_core::validators::{Index, ValidatorSet};
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Epochs below that of the last block whose Seals a start reads, as in the node.
const SEALS: u64 = 3;

/// A validator's ledger.
#[derive(Clone, Default)]
pub struct Disk {
    /// Votes by primary key: epoch, slot and class.
    pub votes: BTreeMap<(u64, u64, u8), Vote>,
    candidates: BTreeMap<Hash, Candidate>,
    certs: BTreeMap<(u64, u64), Cert>,
    final_cert: Option<Cert>,
    /// Ends of epochs (P10).
    pub seals: BTreeMap<u64, Seal>,
    memory: Option<Memory>,
    generation: u32,
    /// Final blocks; height is the position + 1. The certificate is the block's own. A lane of its own writes them.
    pub blocks: Vec<(Hash, Candidate, Option<Cert>)>,
    /// No vote at or below this position is taken any more (P9).
    floor: (u64, u64),
    pub batches: BTreeMap<Hash, Batch>,
    /// Starts that found the last block of an epoch without its Seal.
    pub rebuilt_seals: u64,
    /// Height of the chain's upgrade, as it would be in the state.
    pub upgrade: Option<u64>,
}

/// The version of a block where an upgrade to the newest is at this height; without one there was none other.
pub fn version_at(upgrade: Option<u64>, height: u64) -> u16 {
    if upgrade.is_none_or(|at| height >= at) { VERSION } else { VERSION - 1 }
}

/// What executing a block gives: a function of the block, as the chain below is in its digest.
pub fn roots(digest: Hash, next_version: u16) -> Roots {
    Roots { state: hash::plain(&digest.0), results: hash::plain(&[0; 8]), next_version }
}

/// A block as the end of a chain.
pub fn tip_of(digest: Hash, header: &Header, upgrade: Option<u64>) -> Tip {
    let (slot, height, time_ms) = (header.slot, header.height, header.time_ms);
    Tip { digest, slot, height, time_ms, roots: roots(digest, version_at(upgrade, height + 1)) }
}

/// A signature that costs nothing: only its owner's code makes it. Real ones are tested in the core.
pub fn sign(signer: Index, message: &[u8]) -> Signature {
    let mut state = u64::from(signer) + 1;
    for byte in message {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&state.to_le_bytes());
    Signature(bytes)
}

pub fn sign_vote(chain: &Hash, signer: Index, statement: Statement) -> Vote {
    Vote { statement, signer, signature: sign(signer, &statement.sign_bytes(chain)) }
}

/// Whose row: its key, and its index in the set of the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Signer {
    pub identity: Index,
    pub index: Index,
}

/// Primary key of a vote's row.
fn key(statement: &Statement) -> (u64, u64, u8) {
    (statement.epoch, statement.slot, statement.kind.class())
}

fn position(cert: &Cert) -> (u64, u64) {
    (cert.statement.epoch, cert.statement.slot)
}

impl Disk {
    /// An empty one, of a chain with an upgrade at this height.
    pub fn of(upgrade: Option<u64>) -> Disk {
        Disk { upgrade, ..Disk::default() }
    }

    /// One commit. The vote's signature, if it holds one.
    ///
    /// # Panics
    /// Where the primary key would refuse it: the core must never ask for that.
    pub fn commit(&mut self, chain: &Hash, me: Signer, rows: &Rows) -> Option<Signature> {
        match rows {
            Rows::Notar { statement, candidate } => {
                let vote = self.insert_vote(chain, me, *statement);
                let mut candidate = (**candidate).clone();
                for batch in &candidate.header.batches {
                    assert!(self.batches.contains_key(&batch.digest), "P3: batches are durable before the Notar row");
                }
                // A boundary block proposed again keeps what its first leader signed (E4).
                if candidate.header.proposer == vote.signer && candidate.header.slot == statement.slot {
                    candidate.signature = vote.signature;
                }
                self.candidates.entry(statement.digest).or_insert(candidate);
                Some(vote.signature)
            }
            Rows::Final { statement, cert } => {
                assert_eq!(cert.statement, Statement { kind: Kind::Notar, ..*statement }, "P4");
                self.certs.insert((statement.epoch, statement.slot), cert.clone());
                Some(self.insert_vote(chain, me, *statement).signature)
            }
            Rows::Skip { statement } => Some(self.insert_vote(chain, me, *statement).signature),
            Rows::FinalCert { cert } => {
                if self.final_cert.as_ref().is_none_or(|old| position(old) < position(cert)) {
                    self.final_cert = Some(cert.clone());
                }
                None
            }
            Rows::Seal { seal } => {
                self.seals.insert(seal.header.epoch, (**seal).clone());
                None
            }
            Rows::Memory { memory, generation } => {
                self.memory = Some(memory.clone());
                self.generation = generation.unwrap_or(self.generation);
                None
            }
        }
    }

    /// Somebody knows that votes may be missing here (A3).
    pub fn quarantine(&mut self, cause: Cause) {
        let memory = self.memory.take().unwrap_or_default();
        self.memory = Some(memory.quarantined(cause));
    }

    fn insert_vote(&mut self, chain: &Hash, me: Signer, statement: Statement) -> Vote {
        let vote = Vote { signer: me.index, ..sign_vote(chain, me.identity, statement) };
        let who = me.identity;
        // A group of commits may be written twice.
        if !self.votes.contains_key(&key(&statement)) {
            self.check_position(who, statement.epoch, statement.slot);
        }
        let row = self.votes.entry(key(&statement)).or_insert_with(|| vote.clone());
        assert_eq!(row.statement, statement, "P1, P2: validator {who} asked for a second row of a class");
        vote
    }

    fn check_position(&self, who: Index, epoch: u64, slot: u64) {
        let floor = self.floor;
        assert!(
            (epoch, slot) > floor,
            "P9: validator {who} votes in slot {slot} of epoch {epoch}, the floor is {floor:?}"
        );
        let later = self.seals.range(epoch..).next().map(|(epoch, _)| epoch);
        assert_eq!(
            later, None,
            "E5: validator {who} votes in epoch {epoch}, and has the Seal of this one or a later one"
        );
    }

    pub fn has_vote(&self, statement: &Statement) -> bool {
        self.votes.get(&key(statement)).is_some_and(|vote| vote.statement == *statement)
    }

    pub fn height(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Appends final blocks; what is there already is passed over. Deletes nothing, but raises the floor as whoever does.
    pub fn append(&mut self, epochs: Epochs, blocks: &[(Hash, Candidate)], cert: &Cert) {
        for (digest, candidate) in blocks {
            if candidate.header.height <= self.height() {
                let here = self.blocks.get(candidate.header.height as usize - 1).map(|(here, ..)| here);
                assert_eq!(here, Some(digest), "another block is in the ledger");
                continue;
            }
            assert_eq!(candidate.header.height, self.height() + 1, "C19: final blocks come in order");
            for batch in &candidate.header.batches {
                assert!(self.batches.contains_key(&batch.digest), "a final block's batch is not here");
            }
            let own = (cert.statement.digest == *digest).then(|| cert.clone());
            self.blocks.push((*digest, candidate.clone(), own));
            self.floor = self.floor.max(epochs.vote_floor(candidate.header.epoch, candidate.header.slot));
        }
    }

    pub fn tip(&self, chain: Hash) -> Tip {
        match self.blocks.last() {
            None => {
                let roots = roots(chain, version_at(self.upgrade, 1));
                Tip { digest: chain, slot: 0, height: 0, time_ms: 0, roots }
            }
            Some((digest, candidate, _)) => tip_of(*digest, &candidate.header, self.upgrade),
        }
    }

    /// Batches of final blocks, with expiry heights.
    pub fn included(&self, from: u64) -> Vec<(Hash, u64)> {
        let blocks = self.blocks.iter().skip(from as usize);
        let batches = blocks.flat_map(|(_, candidate, _)| candidate.header.batches.iter().map(|b| b.digest));
        batches.map(|digest| (digest, self.batches[&digest].expiry_height)).collect()
    }

    /// **P10** The end of an epoch whose row is not there, of its last block and the certificate of that.
    fn seal_of_block(&self, epoch: u64, epochs: Epochs) -> Option<Seal> {
        let (_, candidate, cert) = self.blocks.get(epochs.last(epoch) as usize - 1)?;
        Some(Seal { header: candidate.header.clone(), cert: cert.clone()? })
    }

    /// What a restart finds (P8). The Seal of the epoch before is made of a block only where its row is missing, and no other.
    pub fn recover(&mut self, chain: Hash, epochs: Epochs, set_of: impl Fn(u64) -> Arc<ValidatorSet>) -> Recovered {
        self.generation += 1;
        let tip = self.tip(chain);
        let included = self.included(0);
        let is_included = |digest: &Hash| included.iter().any(|(d, _)| d == digest);
        let open = self.batches.iter().filter(|(digest, _)| !is_included(digest));
        let of_block = |header: &Header| -> Vec<RecordKey> {
            RecordKey::nullifiers(&header.evidence, |epoch| Some(set_of(epoch))).collect()
        };
        let nullifiers = self.blocks.iter().flat_map(|(_, candidate, _)| of_block(&candidate.header)).collect();
        let last = (epochs.of(tip.height), tip.slot);
        let vote_floor = self.floor;
        let oldest = last.0.saturating_sub(SEALS);
        let mut recovered = Recovered {
            seals: self.seals.range(oldest..).map(|(_, seal)| seal.clone()).collect(),
            final_cert: self.final_cert.clone(),
            votes: self
                .votes
                .values()
                .filter(|vote| (vote.statement.epoch, vote.statement.slot) > vote_floor)
                .cloned()
                .collect(),
            certs: self.certs.values().filter(|cert| position(cert) > vote_floor).cloned().collect(),
            candidates: self.candidates.values().filter(|c| (c.header.epoch, c.header.slot) > last).cloned().collect(),
            batches: open.map(|(digest, b)| (b.reference(*digest), b.seq, b.expiry_height)).collect(),
            included,
            vote_floor,
            recent: self.blocks.iter().rev().take(64).rev().map(|(_, c, _)| c.header.clone()).collect(),
            nullifiers,
            tip,
            memory: self.memory.clone().unwrap_or_else(Memory::first_start),
            generation: self.generation,
        };
        if let Some(epoch) = recovered.lacks_seal(epochs) {
            self.rebuilt_seals += 1;
            recovered.seals.extend(self.seal_of_block(epoch, epochs));
        }
        recovered
    }
}
