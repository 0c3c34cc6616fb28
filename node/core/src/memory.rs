//! What a database knows of its key's past votes, and how others are asked when it may have forgotten some
//! (protocol.md §4.2: A1, A2, A4).

use crate::codec;
use crate::hash::{self, Hash};
use crate::hello::Heard;
use crate::key::{PublicKey, Signature};
use crate::vote::Vote;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Prefix of a mark's sign bytes.
const PREFIX: [u8; 16] = hash::sign_prefix("aitbc/mark/v1");

/// The memory record (A1): one a database, written before any vote that depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Somebody asserted that the key had never voted when this database was made.
    pub first_start: bool,
    /// Somebody declared that no vote is missing, without asking the others (A9).
    #[serde(default)]
    pub assumed_clean: bool,
    /// Epoch and slot up to which all was decided then: no vote at or below it, and none need be in the database (A9, P9).
    #[serde(default)]
    pub vouched_to: (u64, u64),
    /// The word is new: votes above that position which the others kept are taken back from them, once (A9).
    #[serde(default)]
    pub vouched_anew: bool,
    /// Votes taken back: they forbid what rows forbid, and are not cast again.
    #[serde(default)]
    pub taken_back: Vec<Vote>,
    /// Least epoch for which this database knows every vote of its key.
    pub clean_from: u64,
    /// No vote at or below these slots, by epoch; none at all in epochs below the lowest (A6).
    pub floors: BTreeMap<u64, u64>,
    /// Why this validator casts no vote until the others have been asked (A3); absent: it votes.
    pub quarantine: Option<Cause>,
}

impl Memory {
    /// Of a new database whose key has never voted.
    pub fn first_start() -> Memory {
        Memory { first_start: true, ..Memory::default() }
    }

    /// Of a database that may lack votes, or the same one once that is known of it.
    pub fn quarantined(self, cause: Cause) -> Memory {
        Memory { vouched_anew: false, quarantine: Some(cause), ..self }
    }

    /// **A9.** Of a database whose owner vouches for it, with the position (epoch and slot) up to which it knows all to be decided. What
    /// it lacks there can do no harm, as no vote is cast there again (P9); above, what nobody shows is what the owner vouches for.
    /// An old copy put back later has an old record.
    pub fn vouched_for(self, decided: (u64, u64)) -> Memory {
        let vouched_to = self.vouched_to.max(decided);
        Memory { assumed_clean: true, vouched_to, vouched_anew: true, quarantine: None, ..self }
    }

    /// **A6**, the clause of G5: epoch ≥ E and slot > `floors[epoch]`.
    pub fn allows(&self, epoch: u64, slot: u64) -> bool {
        let lowest = self.floors.keys().next().copied().unwrap_or(0);
        epoch >= lowest && self.floors.get(&epoch).is_none_or(|floor| slot > *floor)
    }
}

/// A lease generation above `known` and above those of a lost database, which rose by one a start: seconds since 1970.
/// Numbers of batches begin with it, and two batches of one number are an offence (X2 e).
pub fn generation_above(known: u32, wall_ms: u64) -> u32 {
    known.max(u32::try_from(wall_ms / 1_000).unwrap_or(u32::MAX)).saturating_add(1)
}

/// Why a validator went into quarantine (A3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum Cause {
    /// The database is new and nobody asserted a first start.
    NewDatabase,
    /// The database server is another than before: restored, moved, or a replica took over (P12).
    OtherServer,
    /// A peer showed a vote of this key that the database lacks.
    VoteMissing {
        /// Its slot.
        slot: u64,
    },
    /// A peer showed a Hello of this key with a generation that the database does not know of.
    NewerGeneration {
        /// That generation.
        generation: u32,
    },
    /// `aitbc-node recover` asked for it.
    Command,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NewDatabase => f.write_str("the database is new, and nobody asserted that the key has never voted"),
            Cause::OtherServer => f.write_str(
                "the database server is another than before: it was restored, moved, or a replica took over",
            ),
            Cause::VoteMissing { slot } => {
                write!(f, "a peer has a vote of this key in slot {slot} that the database lacks: it is an old copy")
            }
            Cause::NewerGeneration { generation } => {
                write!(
                    f,
                    "a peer knows generation {generation} of this key, which the database does not: it is an old copy"
                )
            }
            Cause::Command => f.write_str("\"aitbc-node recover\" was run"),
        }
    }
}

/// What a validator states of its own votes to one that recovers (A4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Mark {
    /// Of the query: the answer is fresh.
    pub nonce: Hash,
    /// Highest epoch proven started at the signer.
    pub epoch: u64,
    /// Least epoch for which the signer's database knows every vote of its key.
    pub clean_from: u64,
    /// The signer may itself have forgotten votes, or has not found out yet.
    pub quarantined: bool,
    /// Not below the highest slot of the signer's own votes in `epoch`.
    pub slot: u64,
}

impl Mark {
    /// Bytes under the signature, 137:
    /// pad16(`aitbc/mark/v1`) ‖ `chain[32]` ‖ `asker's key[32]` ‖ `nonce[32]` ‖ epoch u64le ‖ clean_from u64le ‖
    /// quarantined u8 ‖ slot u64le.
    pub fn sign_bytes(&self, chain: &Hash, asker: &PublicKey) -> [u8; 137] {
        let mut out = [0; 137];
        out[..16].copy_from_slice(&PREFIX);
        out[16..48].copy_from_slice(&chain.0);
        out[48..80].copy_from_slice(&asker.0);
        out[80..112].copy_from_slice(&self.nonce.0);
        out[112..120].copy_from_slice(&self.epoch.to_le_bytes());
        out[120..128].copy_from_slice(&self.clean_from.to_le_bytes());
        out[128] = u8::from(self.quarantined);
        out[129..].copy_from_slice(&self.slot.to_le_bytes());
        out
    }

    /// **A4.** The reply counts toward a set's epoch iff the signer knows every vote of its own in it.
    pub fn counts_toward(&self, epoch: u64) -> bool {
        !self.quarantined && self.clean_from <= epoch
    }
}

/// What a peer has seen of the asker's key, each signed by that key, so that it proves itself (A2).
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Seen {
    /// The vote in the highest slot.
    pub vote: Option<Vote>,
    /// The Hello of the highest generation.
    pub hello: Option<Heard>,
}

/// Most votes in a [`MarkReply`]: so many of the asker's as there can be in 682 slots.
pub const MAX_VOTES_SHOWN: usize = 2_048;

/// The answer to a [`MarkQuery`](crate::message::Message::MarkQuery).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct MarkReply {
    /// Of the signer's own votes.
    pub mark: Mark,
    /// Over [`Mark::sign_bytes`].
    pub signature: Signature,
    /// Of the asker's.
    pub seen: Seen,
    /// If it wants them, the asker's votes above the highest final slot that the signer keeps, ascending; [`MAX_VOTES_SHOWN`] where
    /// there may be more above (A9).
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_VOTES_SHOWN>")]
    pub votes: Vec<Vote>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a6_a_position_is_allowed_above_the_floor_of_its_epoch_and_never_below_the_lowest() {
        let memory = Memory { floors: BTreeMap::from([(3, 7), (4, 1)]), ..Memory::default() };
        assert!(!memory.allows(2, 100) && !memory.allows(3, 7) && !memory.allows(4, 1));
        assert!(memory.allows(3, 8) && memory.allows(4, 2) && memory.allows(5, 1));
        assert!(Memory::first_start().allows(0, 1));
    }

    #[test]
    fn a9_who_is_vouched_for_votes_and_it_stays_known_over_a_later_quarantine() {
        let lost = Memory::default().quarantined(Cause::NewDatabase);
        let vouched = lost.clone().vouched_for((2, 7));
        assert_eq!((vouched.quarantine, vouched.assumed_clean, lost.assumed_clean), (None, true, false));
        let again = vouched.quarantined(Cause::Command);
        assert_eq!((again.assumed_clean, again.vouched_to), (true, (2, 7)));
        assert_eq!(again.vouched_for((1, 9)).vouched_to, (2, 7), "a later word takes nothing back");
    }

    #[test]
    fn a4_a_reply_counts_only_from_who_knows_all_its_votes_of_the_epoch() {
        let mark = Mark { nonce: Hash::ZERO, epoch: 2, clean_from: 2, quarantined: false, slot: 9 };
        assert!(mark.counts_toward(2) && mark.counts_toward(3) && !mark.counts_toward(1));
        assert!(!Mark { quarantined: true, ..mark }.counts_toward(2));
    }

    #[test]
    fn every_field_of_a_mark_is_signed() {
        let (chain, asker) = (Hash([1; 32]), PublicKey([2; 32]));
        let mark = Mark { nonce: Hash([3; 32]), epoch: 4, clean_from: 5, quarantined: false, slot: 6 };
        let bytes = mark.sign_bytes(&chain, &asker);
        let others = [
            Mark { nonce: Hash([9; 32]), ..mark },
            Mark { epoch: 9, ..mark },
            Mark { clean_from: 9, ..mark },
            Mark { quarantined: true, ..mark },
            Mark { slot: 9, ..mark },
        ];
        assert!(others.iter().all(|other| other.sign_bytes(&chain, &asker) != bytes));
        assert_ne!(mark.sign_bytes(&Hash([9; 32]), &asker), bytes);
        assert_ne!(mark.sign_bytes(&chain, &PublicKey([9; 32])), bytes);
    }
}
