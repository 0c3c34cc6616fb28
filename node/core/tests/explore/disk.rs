//! What survives a crash of a validator in the exploration: rows with the schema's guards (P1-P4), no ledger beyond them.

use crate::universe::{Rows as Votes, Universe};
use aitbc_core::block::Candidate;
use aitbc_core::consensus::input::Recovered;
use aitbc_core::consensus::output::Rows;
use aitbc_core::hash::Hash;
use aitbc_core::memory::Memory;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use std::collections::BTreeMap;

/// All that tells two disks apart: votes, Notar certificates, the highest Final one, candidates.
pub type Key = (Votes, Vec<(u64, Hash)>, Option<Hash>, u32);

/// Rows of one validator. Final blocks are never appended: at each start the ledger is as far behind as it can be.
#[derive(Clone, Default)]
pub struct Disk {
    votes: BTreeMap<(u64, u8), Vote>,
    candidates: BTreeMap<Hash, Candidate>,
    certs: BTreeMap<u64, Cert>,
    final_cert: Option<Cert>,
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
                let vote = self.insert(universe.sign(me, *statement))?;
                let mut candidate = (**candidate).clone();
                if candidate.header.proposer == me {
                    candidate.signature = vote.signature;
                }
                self.candidates.insert(statement.digest, candidate);
                Ok(Some(vote))
            }
            Rows::Final { statement, cert } => {
                if cert.statement != (Statement { kind: Kind::Notar, ..*statement }) {
                    return Err("P4: a Final row without the Notar certificate it rests on");
                }
                self.certs.insert(statement.slot, cert.clone());
                self.insert(universe.sign(me, *statement)).map(Some)
            }
            Rows::Skip { statement } => self.insert(universe.sign(me, *statement)).map(Some),
            Rows::FinalCert { cert } => {
                if self.final_cert.as_ref().is_none_or(|old| old.statement.slot < cert.statement.slot) {
                    self.final_cert = Some(cert.clone());
                }
                Ok(None)
            }
            Rows::Seal { .. } => Err("E5: no epoch ends here"),
            Rows::Memory { .. } => Err("A3: no row was ever lost here"),
        }
    }

    /// P1, P2: one row a slot and class.
    fn insert(&mut self, vote: Vote) -> Result<Vote, &'static str> {
        let key = (vote.statement.slot, vote.statement.kind.class());
        let row = self.votes.entry(key).or_insert_with(|| vote.clone());
        if row.statement == vote.statement { Ok(vote) } else { Err("two votes of a class by an honest key (P1, P2)") }
    }

    pub fn has(&self, statement: &Statement) -> bool {
        self.votes.get(&(statement.slot, statement.kind.class())).is_some_and(|vote| vote.statement == *statement)
    }

    /// The votes, as numbers of the universe.
    pub fn rows(&self, universe: &Universe) -> Votes {
        let numbers = self.votes.values().filter_map(|vote| universe.number_of(&vote.statement));
        numbers.fold(0, |rows, number| rows | 1 << number)
    }

    pub fn key(&self, universe: &Universe) -> Key {
        let certs = self.certs.iter().map(|(slot, cert)| (*slot, cert.statement.digest)).collect();
        let last = self.final_cert.as_ref().map(|cert| cert.statement.digest);
        (self.rows(universe), certs, last, self.candidates.len() as u32)
    }

    /// The certificates, as numbers of the universe.
    pub fn held(&self, universe: &Universe) -> Votes {
        let certs = self.certs.values().chain(&self.final_cert);
        certs.filter_map(|cert| universe.number_of(&cert.statement)).fold(0, |held, number| held | 1 << number)
    }

    /// What a restart finds (P8).
    pub fn recover(&self, universe: &Universe) -> Recovered {
        Recovered {
            tip: universe.floor.clone(),
            seals: Vec::new(),
            final_cert: self.final_cert.clone(),
            votes: self.votes.values().cloned().collect(),
            certs: self.certs.values().cloned().collect(),
            candidates: self.candidates.values().cloned().collect(),
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
