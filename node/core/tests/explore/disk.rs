//! What survives a crash of a validator in the exploration: rows with the schema's guards (P1-P4, P10), and the last block.

use crate::universe::{Rows as Votes, Universe};
use aitbc_core::block::{Candidate, Seal};
use aitbc_core::consensus::input::Recovered;
use aitbc_core::consensus::output::Rows;
use aitbc_core::hash::Hash;
use aitbc_core::memory::Memory;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use std::collections::BTreeMap;

/// Epoch and slot.
type Position = (u64, u64);
/// Position and digest of a certificate.
type Certified = (Position, Hash);
/// All that tells two disks apart: votes, Notar certificates, the highest Final one, Seals, candidates and which of them their
/// leader signed.
pub type Key = (Votes, Vec<Certified>, Option<Certified>, Vec<Certified>, Vec<(Hash, bool)>, Option<u32>);

/// Rows of one validator.
#[derive(Clone, Default)]
pub struct Disk {
    votes: BTreeMap<(Position, u8), Vote>,
    candidates: BTreeMap<Hash, Candidate>,
    certs: BTreeMap<Position, Cert>,
    final_cert: Option<Cert>,
    seals: BTreeMap<u64, Seal>,
    /// Last block of the ledger; where none is ever appended, each start is from as far behind as it can be.
    pub tip: Option<usize>,
}

fn position(statement: &Statement) -> Position {
    (statement.epoch, statement.slot)
}

impl Disk {
    /// One commit; the vote in it, if it holds one.
    ///
    /// # Errors
    /// Where the schema would refuse it: the core must never ask for that.
    pub fn commit(&mut self, universe: &Universe, me: Index, rows: &Rows) -> Result<Option<Vote>, &'static str> {
        match rows {
            Rows::Notar { statement, candidate } => {
                if candidate.header.digest() != statement.digest {
                    return Err("P3: a Notar row without its candidate");
                }
                let vote = self.insert(universe, me, *statement)?;
                let mut candidate = (**candidate).clone();
                // A boundary block again keeps what its first leader signed (E4).
                if candidate.header.proposer == vote.signer && candidate.header.slot == statement.slot {
                    candidate.signature = vote.signature;
                }
                self.candidates.entry(statement.digest).or_insert(candidate);
                Ok(Some(vote))
            }
            Rows::Final { statement, cert } => {
                if cert.statement != (Statement { kind: Kind::Notar, ..*statement }) {
                    return Err("P4: a Final row without the Notar certificate it rests on");
                }
                self.certs.insert(position(statement), cert.clone());
                self.insert(universe, me, *statement).map(Some)
            }
            Rows::Skip { statement } => self.insert(universe, me, *statement).map(Some),
            Rows::FinalCert { cert } => {
                let is_higher = |old: &Cert| position(&old.statement) < position(&cert.statement);
                if self.final_cert.as_ref().is_none_or(is_higher) {
                    self.final_cert = Some(cert.clone());
                }
                Ok(None)
            }
            Rows::Seal { seal } => self.seal(universe, seal).map(|()| None),
            Rows::Memory { .. } => Err("A3: no row was ever lost here"),
        }
    }

    /// E5: one Seal an epoch, of its last block.
    fn seal(&mut self, universe: &Universe, seal: &Seal) -> Result<(), &'static str> {
        let Statement { epoch, kind, digest, .. } = seal.cert.statement;
        let ends = universe.find(&digest).is_some_and(|cand| universe.is_boundary(cand));
        if !ends || kind != Kind::Final || epoch != seal.header.epoch || digest != seal.header.digest() {
            return Err("a Seal that ends no epoch (E5)");
        }
        let row = self.seals.entry(epoch).or_insert_with(|| seal.clone());
        if row.header == seal.header { Ok(()) } else { Err("two Seals of an epoch (E5)") }
    }

    /// P1, P2: one row a slot and class.
    fn insert(&mut self, universe: &Universe, me: Index, statement: Statement) -> Result<Vote, &'static str> {
        let vote = universe.sign(me, statement);
        let key = (position(&statement), statement.kind.class());
        if self.votes.get(&key).is_some_and(|row| row.statement != statement) {
            return Err("two votes of a class by an honest key (P1, P2)");
        }
        if !self.has(&statement) {
            self.check_epoch(universe, me, statement.epoch)?;
            self.votes.insert(key, vote.clone());
        }
        Ok(vote)
    }

    /// What no primary key refuses: a vote of who is no member (E1), before the Seal of the epoch before (P10), or once its own
    /// epoch is sealed (E5).
    fn check_epoch(&self, universe: &Universe, me: Index, epoch: u64) -> Result<(), &'static str> {
        if universe.index_of(me, epoch).is_none() {
            return Err("a vote by who is no member of the epoch (E1)");
        }
        if epoch.checked_sub(1).is_some_and(|before| !self.seals.contains_key(&before)) {
            return Err("a vote is durable before the Seal of the epoch before it (P10)");
        }
        let later = self.votes.keys().any(|((other, _), _)| *other > epoch);
        if later || self.seals.range(epoch..).next().is_some() {
            return Err("a vote in an epoch that is sealed (E5)");
        }
        Ok(())
    }

    pub fn has(&self, statement: &Statement) -> bool {
        let row = self.votes.get(&(position(statement), statement.kind.class()));
        row.is_some_and(|vote| vote.statement == *statement)
    }

    /// The votes, as numbers of the universe.
    pub fn rows(&self, universe: &Universe) -> Votes {
        let numbers = self.votes.values().filter_map(|vote| universe.number_of(&vote.statement));
        numbers.fold(0, |rows, number| rows | 1 << number)
    }

    pub fn key(&self, universe: &Universe) -> Key {
        let of = |cert: &Cert| (position(&cert.statement), cert.statement.digest);
        let seals = self.seals.values().map(|seal| of(&seal.cert));
        let candidates = self.candidates.iter().map(|(digest, candidate)| (*digest, candidate.is_signed()));
        let certs = self.certs.values().map(of);
        let last = self.final_cert.as_ref().map(of);
        let tip = self.tip.map(|block| block as u32);
        (self.rows(universe), certs.collect(), last, seals.collect(), candidates.collect(), tip)
    }

    /// The certificates, as numbers of the universe.
    pub fn held(&self, universe: &Universe) -> Votes {
        let certs = self.certs.values().chain(&self.final_cert).chain(self.seals.values().map(|seal| &seal.cert));
        certs.filter_map(|cert| universe.number_of(&cert.statement)).fold(0, |held, number| held | 1 << number)
    }

    /// What a restart finds (P8).
    pub fn recover(&self, universe: &Universe) -> Recovered {
        let height = universe.tip_of(self.tip).height;
        let is_above = |candidate: &&Candidate| candidate.header.height > height;
        Recovered {
            tip: universe.tip_of(self.tip),
            seals: self.seals.values().cloned().collect(),
            final_cert: self.final_cert.clone(),
            votes: self.votes.values().cloned().collect(),
            certs: self.certs.values().cloned().collect(),
            candidates: self.candidates.values().filter(is_above).cloned().collect(),
            batches: Vec::new(),
            included: Vec::new(),
            vote_floor: (0, 0),
            recent: Vec::new(),
            nullifiers: Vec::new(),
            memory: Memory::first_start(),
            generation: 1,
        }
    }
}
