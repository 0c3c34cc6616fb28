//! Proof that a validator signed what no honest one signs (protocol.md X1, X2).

use crate::key::PublicKey;
use crate::validators::ValidatorSet;
use crate::vote::{Kind, Statement, Vote};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Which of the contradictions of X2.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Class {
    /// (a) Notar for two digests in a slot; a leader's two proposals are that.
    Notars = 0,
    /// (b) Skip and Final in a slot.
    SkipFinal = 1,
    /// (c) Final for two digests in a slot.
    Finals = 2,
    /// (d) Notar for one digest and Final for another in a slot.
    NotarFinal = 3,
    /// (e) Two batches with one sequence number.
    Batches = 4,
}

impl Class {
    /// All, in the order of X2.
    pub const ALL: [Class; 5] = [Class::Notars, Class::SkipFinal, Class::Finals, Class::NotarFinal, Class::Batches];

    /// Name in JSON, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Class::Notars => "notars",
            Class::SkipFinal => "skip_final",
            Class::Finals => "finals",
            Class::NotarFinal => "notar_final",
            Class::Batches => "batches",
        }
    }
}

/// Two contradicting votes of one signer (X1, X2), smaller sign-bytes first.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Evidence {
    /// One vote.
    pub first: Vote,
    /// The other.
    pub second: Vote,
}

impl Evidence {
    /// What it proves, if its signatures do, of a member of its epoch's set; `None` where it is of nobody or a pair that is
    /// legal (X2).
    pub fn offence(&self, set: &ValidatorSet) -> Option<Offence> {
        let Statement { epoch, slot, .. } = self.first.statement;
        let class = x2_class(&self.first.statement, &self.second.statement)?;
        Some(Offence { key: set.get(self.first.signer)?.key, epoch, class, slot })
    }
}

/// **X2 (a)-(d).** The contradiction of two statements of one signer, in either order; `None` for a legal pair.
pub fn x2_class(a: &Statement, b: &Statement) -> Option<Class> {
    if (a.epoch, a.slot) != (b.epoch, b.slot) {
        return None;
    }
    let differ = a.digest != b.digest;
    match (a.kind.min(b.kind), a.kind.max(b.kind)) {
        (Kind::Notar, Kind::Notar) if differ => Some(Class::Notars),
        (Kind::Notar, Kind::Final) if differ => Some(Class::NotarFinal),
        (Kind::Skip, Kind::Final) => Some(Class::SkipFinal),
        (Kind::Final, Kind::Final) if differ => Some(Class::Finals),
        _ => None,
    }
}

/// What a piece of evidence proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// Whose consensus key signed.
    pub key: PublicKey,
    /// Epoch of what was signed.
    pub epoch: u64,
    /// Which contradiction.
    pub class: Class,
    /// Slot of the votes; of batches their sequence number.
    pub slot: u64,
}
