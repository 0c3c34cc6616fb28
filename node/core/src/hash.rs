//! Hashes and the domains that keep them apart (protocol.md F1, F2).

use borsh::{BorshDeserialize, BorshSerialize};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A BLAKE3 hash, 32 bytes. Text form: `0x` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, BorshSerialize, BorshDeserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The digest of a vote that names none (Skip), and the parent of nothing.
    pub const ZERO: Hash = Hash([0; 32]);

    /// True for the all-zero hash.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 32]
    }
}

/// What a hash is of. Each has its own derive-key context, so no two meanings share a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Canonical genesis bytes: the `chain` of every signature.
    Genesis,
    /// A block header: the digest of a candidate.
    Header,
    /// A batch without its transactions: the digest a proposal names.
    Batch,
    /// A validator set.
    Set,
    /// Leaf of a Merkle list.
    MerkleLeaf,
    /// Inner node of a Merkle list.
    MerkleNode,
    /// Position of an account in the state trie.
    StateKey,
    /// Leaf of the state trie.
    StateLeaf,
    /// Branch of the state trie.
    StateNode,
    /// Position of a record in the state trie.
    RecordKey,
    /// Leaf of the state trie that holds a record.
    Record,
    /// A provider's name of a receipt: what mints once.
    Receipt,
    /// A client's name of a job: what is paid once.
    Job,
}

impl Domain {
    const fn context(self) -> &'static str {
        match self {
            Domain::Genesis => "aitbc/genesis/v2",
            Domain::Header => "aitbc/header/v1",
            Domain::Batch => "aitbc/batch/v1",
            Domain::Set => "aitbc/set/v1",
            Domain::MerkleLeaf => "aitbc/merkle-leaf/v1",
            Domain::MerkleNode => "aitbc/merkle-node/v1",
            Domain::StateKey => "aitbc/state-key/v1",
            Domain::StateLeaf => "aitbc/state-leaf/v1",
            Domain::StateNode => "aitbc/state-node/v1",
            Domain::RecordKey => "aitbc/record-key/v1",
            Domain::Record => "aitbc/record/v1",
            Domain::Receipt => "aitbc/receipt/v1",
            Domain::Job => "aitbc/job/v1",
        }
    }

    /// The keyed state of this domain; deriving it costs a compression, so each thread keeps its own copy.
    fn hasher(self) -> blake3::Hasher {
        const COUNT: usize = 13;
        thread_local! {
            static HASHERS: [std::cell::OnceCell<blake3::Hasher>; COUNT] = const { [const { std::cell::OnceCell::new() }; COUNT] };
        }
        HASHERS.with(|hashers| {
            hashers[self as usize].get_or_init(|| blake3::Hasher::new_derive_key(self.context())).clone()
        })
    }
}

/// Hash of the concatenated parts in a domain: BLAKE3 derive-key mode, context `aitbc/<what>/v1` (F1).
///
/// Parts must be of fixed length or self-delimiting (borsh), or two inputs could collide.
pub fn hash(domain: Domain, parts: &[&[u8]]) -> Hash {
    let mut hasher = domain.hasher();
    for part in parts {
        hasher.update(part);
    }
    Hash(*hasher.finalize().as_bytes())
}

/// Plain BLAKE3, as clients in any language compute it: transaction ids only.
pub fn plain(bytes: &[u8]) -> Hash {
    Hash(*blake3::hash(bytes).as_bytes())
}

/// First 16 bytes of everything that is signed: `aitbc/<what>/v1`, zero-padded (F2).
///
/// # Panics
/// When compiled in a constant with a tag of over 16 bytes.
pub const fn sign_prefix(tag: &str) -> [u8; 16] {
    let bytes = tag.as_bytes();
    assert!(bytes.len() <= 16, "sign tags are at most 16 bytes");
    let mut out = [0; 16];
    let mut at = 0;
    while at < bytes.len() {
        out[at] = bytes[at];
        at += 1;
    }
    out
}

impl JsonSchema for Hash {
    fn schema_name() -> Cow<'static, str> {
        "Hash".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "32 bytes, 0x and 64 hex digits", "pattern": "^0x[0-9a-f]{64}$" })
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a text is no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a hash: expected 64 hex digits, optionally after 0x")]
pub struct ParseHashError(String);

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut out = [0; 32];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut out)
            .map_err(|_| ParseHashError(text.chars().take(80).collect()))?;
        Ok(Hash(out))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_domains_never_share_a_hash_of_the_same_bytes() {
        assert_ne!(hash(Domain::Header, &[b"x"]), hash(Domain::Batch, &[b"x"]));
    }

    #[test]
    fn a_hash_equals_blake3_derive_key_of_the_written_context() {
        let expected = blake3::derive_key("aitbc/header/v1", b"ab");
        assert_eq!(hash(Domain::Header, &[b"a", b"b"]).0, expected);
    }

    #[test]
    fn text_form_round_trips_and_refuses_other_lengths() {
        let h = plain(b"x");
        assert_eq!(h.to_string().parse::<Hash>(), Ok(h));
        assert!("0x12".parse::<Hash>().is_err());
    }
}
