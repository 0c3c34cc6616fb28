//! Receipts of compute jobs: their one canonical form, who signs what of it, and the checks that need no state (compat.md §2).
//!
//! A transaction carries a receipt as fields, not as JSON: each validator builds the canonical JSON from them, so a receipt
//! has one form in a block however it was written when it was sent.
//!
//! ```text
//! canonical    = JSON object of all fields that are there but `signature`, keys sorted, no spaces; UTF-8
//! provider     signs canonical itself, as existing signers do; it begins with `{`, all else that is signed with `aitbc/`
//! digest       = SHA-256(canonical)
//! coordinators sign pad16(`aitbc/attest/v1`) ‖ chain[32] ‖ digest[32]
//! nullifier    = H(receipt: provider[20] ‖ receipt_id)       what mints once
//! job          = H(job: client[20] ‖ job_id)                 what is paid once
//! ```
//!
//! Texts are printable ASCII without `"` and `\`, numbers whole: nothing is left to how a language escapes or rounds. Names
//! of metadata are 1 to 64 of `A-Z a-z 0-9 _ . -`: some libraries take objects with odd names for something else.

use crate::codec;
use crate::hash::{self, Domain, Hash, hash};
use crate::key::{Address, PublicKey, SecretKey, Signature};
use crate::params::{MAX_COORDINATORS, MAX_METADATA, MAX_SUPPLY};
use borsh::io::{Error, ErrorKind, Read};
use borsh::{BorshDeserialize, BorshSerialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt;

/// Prefix of a coordinator's sign bytes.
const PREFIX: [u8; 16] = hash::sign_prefix("aitbc/attest/v1");
/// The one version of receipts that there is.
pub const VERSION: &str = "1.0";
/// Bytes that most canonical forms fit in: a larger one only takes room again.
const CANONICAL_BYTES: usize = 640;

/// A text of at most `MAX` bytes, of characters that JSON writes in one way: printable ASCII without `"` and `\`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// The text, if it is one.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
        (text.len() <= MAX && text.bytes().all(plain)).then(|| Text(text.to_owned()))
    }

    /// Its characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> BorshDeserialize for Text<MAX> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> borsh::io::Result<Self> {
        let bytes = codec::capped::<_, u8, MAX>(reader)?;
        let text = std::str::from_utf8(&bytes).ok().and_then(Text::new);
        text.ok_or_else(|| Error::new(ErrorKind::InvalidData, "a text of other characters than receipts have"))
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a receipt or job: 1 to 64 characters.
pub type Name = Text<64>;
/// Hash or model in a receipt: up to 128 characters.
pub type Label = Text<128>;

/// A value of [`Receipt::metadata`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Extra {
    /// Up to 256 characters.
    Text(Text<256>),
    /// 0 to 2^53 − 1.
    Number(u64),
}

/// Whether a name of [`Receipt::metadata`] is one.
pub(crate) fn is_metadata_name(name: &Name) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !name.as_str().is_empty() && name.as_str().bytes().all(plain)
}

/// A field of a receipt, before it is written.
enum Field<'a> {
    Text(&'a str),
    Address(Address),
    Number(u64),
    Entries(&'a [(Name, Extra)]),
}

impl<'a> Field<'a> {
    fn text<const MAX: usize>(text: &'a Text<MAX>) -> Self {
        Field::Text(text.as_str())
    }

    fn value(self) -> Value {
        match self {
            Field::Text(text) => text.into(),
            Field::Address(address) => address.to_string().into(),
            Field::Number(number) => number.into(),
            Field::Entries(entries) => {
                let entry = |(name, extra): &(Name, Extra)| (name.to_string(), Field::from(extra).value());
                Value::Object(entries.iter().map(entry).collect())
            }
        }
    }
}

/// As JSON. A text has no character that JSON would escape.
impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Text(text) => write!(f, "\"{text}\""),
            Field::Address(address) => write!(f, "\"{address}\""),
            Field::Number(number) => write!(f, "{number}"),
            Field::Entries(entries) => write_object(f, entries.iter().map(|(name, extra)| (name, Field::from(extra)))),
        }
    }
}

impl<'a> From<&'a Extra> for Field<'a> {
    fn from(extra: &'a Extra) -> Self {
        match extra {
            Extra::Text(text) => Field::text(text),
            Extra::Number(number) => Field::Number(*number),
        }
    }
}

/// What a provider says it did. `version` is always [`VERSION`] and not written down.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Receipt {
    /// Chosen by the provider, never twice.
    pub receipt_id: Name,
    /// The job, as its client calls it.
    pub job_id: Name,
    /// Key that did the work and signs; the canonical form has its address.
    pub provider: PublicKey,
    /// Who ordered the work.
    pub client: Address,
    /// Amount of work, 1 to 2^53 − 1.
    pub units: u64,
    /// What is counted, such as `gpu_seconds`.
    pub unit_type: Text<32>,
    /// Smallest units the provider asks of the client.
    pub price: Option<u64>,
    /// What ran.
    pub model: Option<Label>,
    /// Hash of the input.
    pub prompt_hash: Option<Label>,
    /// Seconds since 1970.
    pub started_at: u64,
    /// Seconds since 1970, not before `started_at`; a receipt expires by it.
    pub completed_at: u64,
    /// Milliseconds of work.
    pub duration_ms: Option<u64>,
    /// Hash of the output.
    pub artifact_hash: Option<Label>,
    /// Which coordinator gave the job out; means nothing to the chain.
    pub coordinator_id: Option<Name>,
    /// Means nothing to the chain: `receipt_id` makes a receipt unique.
    pub nonce: Option<Name>,
    /// Name of the chain it is for; without it, any that its coordinators attest it on.
    pub chain_id: Option<Text<48>>,
    /// Anything else, by ascending name.
    #[borsh(deserialize_with = "metadata")]
    pub metadata: Option<Vec<(Name, Extra)>>,
}

fn metadata<R: Read>(reader: &mut R) -> borsh::io::Result<Option<Vec<(Name, Extra)>>> {
    if bool::deserialize_reader(reader)? { codec::capped::<_, _, MAX_METADATA>(reader).map(Some) } else { Ok(None) }
}

/// A coordinator's word that a receipt is true.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Attestation {
    /// Its key; whether genesis names it is asked when the transaction is executed.
    pub coordinator: PublicKey,
    /// Over [`Receipt::attest_bytes`].
    pub signature: Signature,
}

/// A receipt with all signatures.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct AttestedReceipt {
    /// What was signed.
    pub receipt: Receipt,
    /// The provider's, over [`Receipt::canonical`].
    pub signature: Signature,
    /// 1 ..= [`MAX_COORDINATORS`], by ascending key.
    #[borsh(deserialize_with = "codec::capped::<_, _, MAX_COORDINATORS>")]
    pub attestations: Vec<Attestation>,
}

/// A signature that a transaction carries beside its sender's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// Who signed.
    pub key: PublicKey,
    /// What was signed.
    pub bytes: Vec<u8>,
    /// The signature, to be verified by ZIP-215.
    pub signature: Signature,
}

/// Why a receipt is invalid whatever the state. [`ReceiptError::code`] is stable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// No units, or too many.
    #[error("{found} units, 1 to {MAX_SUPPLY} allowed")]
    UnitsOutOfRange {
        /// The units.
        found: u64,
    },
    /// A number is over what JSON holds exactly.
    #[error("{field}: {found}, at most {MAX_SUPPLY} allowed")]
    NumberOutOfRange {
        /// Field.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// A name is empty.
    #[error("{field} is empty")]
    EmptyName {
        /// Field.
        field: &'static str,
    },
    /// It ended before it began.
    #[error("completed_at {completed} is before started_at {started}")]
    EndsBeforeStart {
        /// `started_at`.
        started: u64,
        /// `completed_at`.
        completed: u64,
    },
    /// A name of metadata is empty, or has other characters than names have.
    #[error("metadata: \"{name}\" is no name, 1 to 64 letters, digits, _ . or - expected")]
    MetadataName {
        /// The name.
        name: Name,
    },
    /// Names of metadata are not in order, or one is there twice.
    #[error("metadata is not sorted by name, or has a name twice")]
    MetadataOrder,
    /// None, too many, not in order, or one key twice.
    #[error("{found} attestations: 1 to {MAX_COORDINATORS} allowed, by ascending key, each key once")]
    Attestations {
        /// How many.
        found: usize,
    },
}

impl ReceiptError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            ReceiptError::UnitsOutOfRange { .. } => "UNITS_OUT_OF_RANGE",
            ReceiptError::Attestations { .. } => "MALFORMED_ATTESTATIONS",
            _ => "MALFORMED_RECEIPT",
        }
    }
}

impl Receipt {
    /// With what every receipt must say, and nothing of what may be left out.
    pub fn required(
        (receipt_id, job_id): (Name, Name),
        provider: PublicKey,
        client: Address,
        (units, unit_type): (u64, Text<32>),
        (started_at, completed_at): (u64, u64),
    ) -> Receipt {
        Receipt {
            receipt_id,
            job_id,
            provider,
            client,
            units,
            unit_type,
            started_at,
            completed_at,
            price: None,
            model: None,
            prompt_hash: None,
            duration_ms: None,
            artifact_hash: None,
            coordinator_id: None,
            nonce: None,
            chain_id: None,
            metadata: None,
        }
    }

    /// The fields that are there, by ascending name.
    fn fields(&self) -> impl Iterator<Item = (&'static str, Field<'_>)> {
        let fields = [
            ("artifact_hash", self.artifact_hash.as_ref().map(Field::text)),
            ("chain_id", self.chain_id.as_ref().map(Field::text)),
            ("client", Some(Field::Address(self.client))),
            ("completed_at", Some(Field::Number(self.completed_at))),
            ("coordinator_id", self.coordinator_id.as_ref().map(Field::text)),
            ("duration_ms", self.duration_ms.map(Field::Number)),
            ("job_id", Some(Field::text(&self.job_id))),
            ("metadata", self.metadata.as_deref().map(Field::Entries)),
            ("model", self.model.as_ref().map(Field::text)),
            ("nonce", self.nonce.as_ref().map(Field::text)),
            ("price", self.price.map(Field::Number)),
            ("prompt_hash", self.prompt_hash.as_ref().map(Field::text)),
            ("provider", Some(Field::Address(self.provider.address()))),
            ("receipt_id", Some(Field::text(&self.receipt_id))),
            ("started_at", Some(Field::Number(self.started_at))),
            ("unit_type", Some(Field::text(&self.unit_type))),
            ("units", Some(Field::Number(self.units))),
            ("version", Some(Field::Text(VERSION))),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// The bytes that the provider signs. Written by hand: what all must agree on depends on no library's idea of JSON.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = String::with_capacity(CANONICAL_BYTES);
        match write_object(&mut out, self.fields()) {
            Ok(()) => out.into_bytes(),
            Err(fmt::Error) => unreachable!("a String takes what is written, and an address has always its text"),
        }
    }

    /// The JSON object that is signed, without `signature`, for people and clients.
    pub fn to_json(&self) -> Map<String, Value> {
        self.fields().map(|(name, field)| (name.to_owned(), field.value())).collect()
    }

    /// SHA-256 of [`Self::canonical`], what coordinators attest; plain, so that any language computes it.
    pub fn digest(&self) -> Hash {
        Hash(Sha256::digest(self.canonical()).into())
    }

    /// Bytes under a coordinator's signature: pad16(`aitbc/attest/v1`) ‖ chain ‖ digest.
    pub fn attest_bytes(&self, chain: &Hash) -> [u8; 80] {
        attest_bytes(chain, &self.digest())
    }

    /// What of a receipt is taken for minting once: its provider and `receipt_id`, whatever else it says.
    pub fn nullifier(&self) -> Hash {
        nullifier(&self.provider.address(), &self.receipt_id)
    }

    /// The job it is for.
    pub fn job(&self) -> Hash {
        job(&self.client, &self.job_id)
    }

    /// Signs as the provider and as coordinators.
    pub fn attest(self, chain: &Hash, provider: &SecretKey, coordinators: &[&SecretKey]) -> AttestedReceipt {
        let canonical = self.canonical();
        let bytes = attest_bytes(chain, &Hash(Sha256::digest(&canonical).into()));
        let attest = |key: &&SecretKey| Attestation { coordinator: key.public(), signature: key.sign(&bytes) };
        let mut attestations: Vec<Attestation> = coordinators.iter().map(attest).collect();
        attestations.sort_by_key(|attestation| attestation.coordinator);
        AttestedReceipt { receipt: self, signature: provider.sign(&canonical), attestations }
    }

    /// Checks that need neither state nor signatures.
    ///
    /// # Errors
    /// On numbers out of range, empty names, times and metadata out of order.
    pub fn check(&self) -> Result<(), ReceiptError> {
        if self.units == 0 || self.units > MAX_SUPPLY {
            return Err(ReceiptError::UnitsOutOfRange { found: self.units });
        }
        let numbers = [
            ("price", self.price),
            ("started_at", Some(self.started_at)),
            ("completed_at", Some(self.completed_at)),
            ("duration_ms", self.duration_ms),
        ];
        let extras = self.metadata.iter().flatten().map(|(_, extra)| match extra {
            Extra::Number(number) => ("metadata", Some(*number)),
            Extra::Text(_) => ("metadata", None),
        });
        for (field, number) in numbers.into_iter().chain(extras) {
            if let Some(found) = number.filter(|number| *number > MAX_SUPPLY) {
                return Err(ReceiptError::NumberOutOfRange { field, found });
            }
        }
        let names = [("receipt_id", self.receipt_id.as_str()), ("job_id", self.job_id.as_str())];
        let names = names.into_iter().chain([("unit_type", self.unit_type.as_str())]);
        if let Some((field, _)) = names.into_iter().find(|(_, name)| name.is_empty()) {
            return Err(ReceiptError::EmptyName { field });
        }
        let (started, completed) = (self.started_at, self.completed_at);
        if completed < started {
            return Err(ReceiptError::EndsBeforeStart { started, completed });
        }
        let entries = self.metadata.as_deref().unwrap_or_default();
        if let Some((name, _)) = entries.iter().find(|(name, _)| !is_metadata_name(name)) {
            return Err(ReceiptError::MetadataName { name: name.clone() });
        }
        if entries.is_sorted_by(|(a, _), (b, _)| a < b) { Ok(()) } else { Err(ReceiptError::MetadataOrder) }
    }
}

/// See [`Receipt::nullifier`].
pub fn nullifier(provider: &Address, receipt_id: &Name) -> Hash {
    hash(Domain::Receipt, &[&provider.0, receipt_id.as_str().as_bytes()])
}

/// The job that a client calls by a name.
pub fn job(client: &Address, job_id: &Name) -> Hash {
    hash(Domain::Job, &[&client.0, job_id.as_str().as_bytes()])
}

fn attest_bytes(chain: &Hash, digest: &Hash) -> [u8; 80] {
    let mut out = [0; 80];
    out[..16].copy_from_slice(&PREFIX);
    out[16..48].copy_from_slice(&chain.0);
    out[48..].copy_from_slice(&digest.0);
    out
}

/// Writes a JSON object. A name has no character that JSON would escape.
fn write_object<'a, N: fmt::Display>(
    out: &mut impl fmt::Write,
    fields: impl Iterator<Item = (N, Field<'a>)>,
) -> fmt::Result {
    out.write_char('{')?;
    let mut comma = "";
    for (name, field) in fields {
        write!(out, "{comma}\"{name}\":{field}")?;
        comma = ",";
    }
    out.write_char('}')
}

impl AttestedReceipt {
    /// How many there are in it: the provider's and the coordinators'.
    pub fn signatures(&self) -> usize {
        1 + self.attestations.len()
    }

    /// Checks that need neither state nor signatures.
    ///
    /// # Errors
    /// As [`Receipt::check`], and on the list of attestations.
    pub fn check(&self) -> Result<(), ReceiptError> {
        self.receipt.check()?;
        let found = self.attestations.len();
        let ascending = self.attestations.is_sorted_by(|a, b| a.coordinator < b.coordinator);
        if (1..=MAX_COORDINATORS).contains(&found) && ascending {
            Ok(())
        } else {
            Err(ReceiptError::Attestations { found })
        }
    }

    /// The signatures in it, all of which must be valid.
    pub fn endorsements(&self, chain: &Hash) -> Vec<Endorsement> {
        let canonical = self.receipt.canonical();
        let bytes = attest_bytes(chain, &Hash(Sha256::digest(&canonical).into()));
        let provider = Endorsement { key: self.receipt.provider, bytes: canonical, signature: self.signature };
        let attested = self.attestations.iter().map(|attestation| Endorsement {
            key: attestation.coordinator,
            bytes: bytes.to_vec(),
            signature: attestation.signature,
        });
        std::iter::once(provider).chain(attested).collect()
    }
}

#[cfg(test)]
mod tests;
