//! Receipts and escrows as JSON: the receipt as its provider signed it, with `signature`, and what coordinators say of it.
//!
//! ```text
//! {"receipt": {"version": "1.0", "receipt_id": …, …, "signature": {"alg": "Ed25519", "key_id": "<64 hex>", "sig": "<base64url>"}},
//!  "attestations": [{"key_id": "<64 hex>", "sig": "<base64url>"}]}
//! ```
//!
//! Read is any order of fields, any spaces, `null` for a field that is absent, and 128 hex digits for `sig`; the same receipt
//! comes of all of them. What cannot be written in one way only is refused: other texts than printable ASCII without `"` and
//! `\`, names of metadata of other characters than `A-Z a-z 0-9 _ . -`, numbers with a fraction, addresses that are not `ait1…`
//! in lower case, metadata in metadata.

use super::{JsonError, MAX_NUMBER, Object, shown};
use crate::key::{Address, PublicKey, Signature};
use crate::params::{MAX_COORDINATORS, MAX_METADATA};
use crate::receipt::{Attestation, AttestedReceipt, Extra, Name, Receipt, Text, VERSION, is_metadata_name};
use crate::transaction::Lock;
use serde_json::{Map, Value, json};

const ALGORITHM: &str = "Ed25519";
const SIGNATURE_FIELDS: [&str; 3] = ["alg", "key_id", "sig"];
const RECEIPT_FIELDS: [&str; 19] = [
    "version",
    "receipt_id",
    "job_id",
    "provider",
    "client",
    "units",
    "unit_type",
    "price",
    "model",
    "prompt_hash",
    "started_at",
    "completed_at",
    "duration_ms",
    "artifact_hash",
    "coordinator_id",
    "nonce",
    "chain_id",
    "metadata",
    "signature",
];

/// Reads a receipt with its signatures; none is verified, nor is [`AttestedReceipt::check`] made.
///
/// # Errors
/// Names the first field that is wrong.
pub fn attested(value: &Value) -> Result<AttestedReceipt, JsonError> {
    read(&Object::new("", value)?)
}

pub(super) fn read(object: &Object<'_>) -> Result<AttestedReceipt, JsonError> {
    object.allow_only(&["receipt", "attestations"])?;
    let receipt = object.inner("receipt")?;
    receipt.allow_only(&RECEIPT_FIELDS)?;
    let signed = receipt.inner("signature")?;
    signed.allow_only(&SIGNATURE_FIELDS)?;
    word(&signed, "alg", ALGORITHM)?;
    let provider = key(&signed, "the provider's ed25519 key")?;
    let mut attestations = list(object, "attestations", MAX_COORDINATORS)?
        .iter()
        .enumerate()
        .map(|(i, value)| attestation(&Object::new(&format!("{}[{i}]", object.path("attestations")), value)?))
        .collect::<Result<Vec<Attestation>, JsonError>>()?;
    attestations.sort_by_key(|attestation| attestation.coordinator);
    Ok(AttestedReceipt { receipt: fields(&receipt, provider)?, signature: signature(&signed)?, attestations })
}

fn fields(object: &Object<'_>, provider: PublicKey) -> Result<Receipt, JsonError> {
    word(object, "version", VERSION)?;
    let (expected, found) = (provider.address(), address(object, "provider")?);
    if found != expected {
        let allowed = format!("signature.key_id is the key of {expected}");
        return Err(object.wrong("provider", found.to_string(), allowed));
    }
    Ok(Receipt {
        receipt_id: text(object, "receipt_id")?,
        job_id: text(object, "job_id")?,
        provider,
        client: address(object, "client")?,
        units: object.number("units", u64::MAX)?,
        unit_type: text(object, "unit_type")?,
        price: optional_number(object, "price")?,
        model: optional_text(object, "model")?,
        prompt_hash: optional_text(object, "prompt_hash")?,
        started_at: object.number("started_at", MAX_NUMBER)?,
        completed_at: object.number("completed_at", MAX_NUMBER)?,
        duration_ms: optional_number(object, "duration_ms")?,
        artifact_hash: optional_text(object, "artifact_hash")?,
        coordinator_id: optional_text(object, "coordinator_id")?,
        nonce: optional_text(object, "nonce")?,
        chain_id: optional_text(object, "chain_id")?,
        metadata: object.get("metadata").map(|value| metadata(object, value)).transpose()?,
    })
}

/// Units for a job, of `payload`.
pub(super) fn lock(payload: &Object<'_>) -> Result<Lock, JsonError> {
    payload.allow_only(&["job_id", "provider", "amount", "timeout_height"])?;
    let provider = payload.get("provider").map(|value| super::address(&payload.path("provider"), value)).transpose()?;
    Ok(Lock {
        job_id: text(payload, "job_id")?,
        provider,
        amount: payload.number("amount", MAX_NUMBER)?,
        timeout_height: payload.number("timeout_height", MAX_NUMBER)?,
    })
}

/// The job, of `payload`.
pub(super) fn refund(payload: &Object<'_>) -> Result<Name, JsonError> {
    payload.allow_only(&["job_id"])?;
    text(payload, "job_id")
}

/// The JSON of a receipt with its signatures.
pub fn attested_value(attested: &AttestedReceipt) -> Value {
    let attestations: Vec<Value> = attested.attestations.iter().map(attestation_value).collect();
    json!({ "receipt": receipt_value(attested), "attestations": attestations })
}

/// The JSON of a receipt as its provider hands it out: with `signature`, without attestations.
pub fn receipt_value(attested: &AttestedReceipt) -> Value {
    let mut receipt: Map<String, Value> = attested.receipt.to_json();
    let signature =
        json!({ "alg": ALGORITHM, "key_id": attested.receipt.provider, "sig": base64url(&attested.signature) });
    receipt.insert("signature".into(), signature);
    Value::Object(receipt)
}

/// The JSON of an attestation.
pub fn attestation_value(attestation: &Attestation) -> Value {
    json!({ "key_id": attestation.coordinator, "sig": base64url(&attestation.signature) })
}

pub(super) fn lock_value(lock: &Lock) -> Value {
    json!({
        "job_id": lock.job_id.as_str(),
        "provider": lock.provider,
        "amount": lock.amount,
        "timeout_height": lock.timeout_height,
    })
}

fn attestation(object: &Object<'_>) -> Result<Attestation, JsonError> {
    object.allow_only(&SIGNATURE_FIELDS)?;
    if object.get("alg").is_some() {
        word(object, "alg", ALGORITHM)?;
    }
    Ok(Attestation { coordinator: key(object, "the coordinator's ed25519 key")?, signature: signature(object)? })
}

fn list<'a>(object: &Object<'a>, name: &str, most: usize) -> Result<&'a Vec<Value>, JsonError> {
    let value = object.get(name).unwrap_or(&Value::Null);
    let allowed = || format!("a list of 1 to {most} expected");
    let list = value.as_array().ok_or_else(|| object.wrong(name, shown(value), allowed()))?;
    if list.is_empty() || list.len() > most {
        return Err(object.wrong(name, format!("{} entries", list.len()), allowed()));
    }
    Ok(list)
}

fn word(object: &Object<'_>, name: &str, only: &str) -> Result<(), JsonError> {
    let value = object.get(name).unwrap_or(&Value::Null);
    if value.as_str() == Some(only) {
        Ok(())
    } else {
        Err(object.wrong(name, shown(value), format!("{only} expected")))
    }
}

fn key(object: &Object<'_>, whose: &str) -> Result<PublicKey, JsonError> {
    object.parsed("key_id", &format!("64 hex digits expected: {whose}"))
}

/// An address as it was signed: in the one form that the canonical JSON has.
fn address(object: &Object<'_>, name: &str) -> Result<Address, JsonError> {
    let value = object.get(name).unwrap_or(&Value::Null);
    let address = super::address(&object.path(name), value)?;
    if value.as_str() == Some(address.to_string().as_str()) {
        return Ok(address);
    }
    Err(object.wrong(name, shown(value), format!("{address} expected: it is signed as it is written")))
}

fn text<const MAX: usize>(object: &Object<'_>, name: &str) -> Result<Text<MAX>, JsonError> {
    as_text(object, name, object.get(name).unwrap_or(&Value::Null))
}

fn as_text<const MAX: usize>(object: &Object<'_>, name: &str, value: &Value) -> Result<Text<MAX>, JsonError> {
    value.as_str().and_then(Text::new).ok_or_else(|| {
        let allowed = format!("up to {MAX} characters of printable ASCII without \" and \\ expected");
        object.wrong(name, shown(value), allowed)
    })
}

fn optional_text<const MAX: usize>(object: &Object<'_>, name: &str) -> Result<Option<Text<MAX>>, JsonError> {
    object.get(name).map(|value| as_text(object, name, value)).transpose()
}

fn optional_number(object: &Object<'_>, name: &str) -> Result<Option<u64>, JsonError> {
    object.get(name).map(|_| object.number(name, MAX_NUMBER)).transpose()
}

fn metadata(object: &Object<'_>, value: &Value) -> Result<Vec<(Name, Extra)>, JsonError> {
    let inner = Object::new(&object.path("metadata"), value)?;
    if inner.map.len() > MAX_METADATA {
        let found = format!("{} entries", inner.map.len());
        return Err(object.wrong("metadata", found, format!("at most {MAX_METADATA} expected")));
    }
    let entry = |(name, value): (&String, &Value)| {
        let extra = match value {
            Value::Number(_) => Extra::Number(super::number(&inner.path(name), value, MAX_NUMBER)?),
            _ => Extra::Text(as_text(&inner, name, value)?),
        };
        let given = Name::new(name).filter(is_metadata_name);
        let allowed = || "1 to 64 letters, digits, _ . or - expected as a name".to_owned();
        Ok((given.ok_or_else(|| object.wrong("metadata", shown(&json!(name)), allowed()))?, extra))
    };
    let mut entries = inner.map.iter().map(entry).collect::<Result<Vec<(Name, Extra)>, JsonError>>()?;
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

fn signature(object: &Object<'_>) -> Result<Signature, JsonError> {
    let value = object.get("sig").unwrap_or(&Value::Null);
    let found = value.as_str().and_then(|text| text.parse().ok().or_else(|| from_base64url(text)));
    found.ok_or_else(|| {
        object.wrong("sig", shown(value), "86 characters of base64url or 128 hex digits expected".into())
    })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A signature in base64url without padding (RFC 4648 §5).
fn base64url(signature: &Signature) -> String {
    let mut out = String::with_capacity(86);
    for chunk in signature.0.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let symbol = (bits >> (18 - 6 * place)) & 63;
            out.push(char::from(ALPHABET[symbol as usize]));
        }
    }
    out
}

/// Reads [`base64url`], padded or not; of texts whose last bits differ only the one that is written is read.
fn from_base64url(text: &str) -> Option<Signature> {
    let digits = text.strip_suffix("==").unwrap_or(text);
    let (mut bits, mut held, mut out) = (0u32, 0, Vec::with_capacity(64));
    if digits.len() != 86 {
        return None;
    }
    for digit in digits.bytes() {
        let symbol = ALPHABET.iter().position(|symbol| *symbol == digit)?;
        bits = bits << 6 | u32::try_from(symbol).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    let signature = Signature(out.try_into().ok()?);
    (base64url(&signature) == digits).then_some(signature)
}

#[cfg(test)]
mod tests;
