//! Signed transactions as JSON: what clients send and read (design.md §4, compat.md).
//!
//! ```text
//! {"type": "TRANSFER" | "TRANSFER_MANY" | "FAUCET" | "RECEIPT_CLAIM" | "ESCROW_LOCK" | "ESCROW_RELEASE" | "ESCROW_REFUND"
//!        | "BOND" | "UNBOND" | "ACTIVATE" | "UNJAIL" | "AUTHORITY_VOTE",
//!  "genesis_hash": "0x…", "public_key": "…", "sender": "ait1…",
//!  "nonce": 0, "fee": 1, "expiry_height": 100,
//!  "payload": {"recipient": "ait1…", "amount": 5} | {"payments": [{"recipient": "ait1…", "amount": 5}]}
//!           | {"receipt": {…}, "attestations": […]} | {"job_id": "…", "provider": "ait1…", "amount": 5, "timeout_height": 900}
//!           | {"job_id": "…"} | those of `staking`,
//!  "signature": "…"}
//! {"transaction": "0x<borsh of the signed transaction>"}
//! ```
//!
//! `sender` may be left out, `type` is TRANSFER then too and of any case. Also read: `from` for `sender`, `to` for
//! `recipient`, `sig` for `signature`; `recipient`, `amount` and `payments` beside `payload` instead of in it; `chain_id`,
//! which means nothing here. Any other field is refused, so that a misspelt one is not lost, and one that is there twice.
//! `null` is the same as absent. Receipts: [`receipt`].
//!
//! JSON is only the clothing: what is signed are the bytes of [`Transaction::sign_bytes`].

use crate::codec;
use crate::hash::Hash;
use crate::key::{Address, PublicKey, Signature};
use crate::params::{MAX_SUPPLY, MAX_TRANSFERS, MAX_TX_BYTES};
use crate::transaction::{Action, Payment, SignedTransaction, Transaction};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use std::fmt;
use std::str::FromStr;

pub mod receipt;
mod staking;

/// Greatest number in JSON that every language reads exactly.
const MAX_NUMBER: u64 = MAX_SUPPLY;
/// Characters of a wrong value that a message repeats.
const SHOWN: usize = 80;

const TYPES: &str = "TRANSFER, TRANSFER_MANY, FAUCET, RECEIPT_CLAIM, ESCROW_LOCK, ESCROW_RELEASE, ESCROW_REFUND, BOND, UNBOND, \
                     ACTIVATE, UNJAIL or AUTHORITY_VOTE";
const RECIPIENT: [&str; 2] = ["recipient", "to"];
const SENDER: [&str; 2] = ["sender", "from"];
const SIGNATURE: [&str; 2] = ["signature", "sig"];
const PAYMENT_FIELDS: [&str; 3] = ["recipient", "to", "amount"];
const PAYLOAD_FIELDS: [&str; 4] = ["recipient", "to", "amount", "payments"];
const FIELDS: [&str; 16] = [
    "type",
    "genesis_hash",
    "public_key",
    "sender",
    "from",
    "nonce",
    "fee",
    "expiry_height",
    "payload",
    "recipient",
    "to",
    "amount",
    "payments",
    "signature",
    "sig",
    "chain_id",
];

/// Why a text is no transaction of this chain. [`JsonError::code`] is stable; the message says what was found and what
/// is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is no JSON.
    #[error("not JSON as it is read here: {0}")]
    Syntax(String),
    /// A field is missing, of the wrong form, unknown, or there twice.
    #[error("{field}: {found}, {allowed}")]
    Field {
        /// Its name, with the path to it.
        field: String,
        /// What was there.
        found: String,
        /// What may be there.
        allowed: String,
    },
    /// A field should hold an address and does not.
    #[error("{field}: {found} is not an address, ait1… (bech32) or 0x and 40 hex digits expected")]
    Address {
        /// Its name, with the path to it.
        field: String,
        /// What was there.
        found: String,
    },
    /// Signed for another chain.
    #[error("genesis_hash: signed for chain {found}, this one is {expected}")]
    WrongChain {
        /// This chain.
        expected: Hash,
        /// What the transaction names.
        found: Hash,
    },
    /// `sender` is not the address of `public_key`.
    #[error("sender: {found} given, public_key belongs to {expected}")]
    WrongSender {
        /// Address of the key.
        expected: Address,
        /// What the transaction names.
        found: Address,
    },
}

impl JsonError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            JsonError::Syntax(_) | JsonError::Field { .. } => "MALFORMED_TRANSACTION",
            JsonError::Address { .. } => "UNKNOWN_ADDRESS_FORM",
            JsonError::WrongChain { .. } => "WRONG_CHAIN",
            JsonError::WrongSender { .. } => "WRONG_SENDER",
        }
    }

    /// The parts of the message, for the `detail` of an error answer.
    pub fn detail(&self) -> Value {
        match self {
            JsonError::Syntax(_) => json!({}),
            JsonError::Field { field, found, allowed } => json!({ "field": field, "found": found, "allowed": allowed }),
            JsonError::Address { field, found } => json!({ "field": field, "found": found }),
            JsonError::WrongChain { expected, found } => {
                json!({ "field": "genesis_hash", "expected": expected, "found": found })
            }
            JsonError::WrongSender { expected, found } => {
                json!({ "field": "sender", "expected": expected, "found": found })
            }
        }
    }
}

/// Reads a signed transaction of `chain`. The signature is not verified, nor is [`Transaction::check`] made.
///
/// # Errors
/// On anything but the forms above, and on another chain's transaction.
pub fn from_str(text: &str, chain: &Hash) -> Result<SignedTransaction, JsonError> {
    from_value(&read(text)?, chain)
}

/// Reads JSON in which no field is there twice: which of both counts would be up to the reader.
///
/// # Errors
/// [`JsonError::Syntax`] says what and where.
pub fn read(text: &str) -> Result<Value, JsonError> {
    match serde_json::from_str(text) {
        Ok(Strict(value)) => Ok(value),
        Err(cause) => Err(JsonError::Syntax(cause.to_string())),
    }
}

/// A value whose objects have each field once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Once).map(Strict)
    }
}

struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if fields.contains_key(&name) {
                let name: String = name.chars().take(SHOWN).collect();
                return Err(de::Error::custom(format!("field \"{name}\" is there twice")));
            }
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

/// Like [`from_str`], of JSON that was read already.
///
/// # Errors
/// As [`from_str`].
pub fn from_value(value: &Value, chain: &Hash) -> Result<SignedTransaction, JsonError> {
    let top = Object::new("", value)?;
    if let Some(raw) = top.get("transaction") {
        top.allow_only(&["transaction"])?;
        return raw_form(raw);
    }
    top.allow_only(&FIELDS)?;
    let found = top.parsed::<Hash>("genesis_hash", "0x and 64 hex digits expected: this chain's genesis hash")?;
    if found != *chain {
        return Err(JsonError::WrongChain { expected: *chain, found });
    }
    let sender: PublicKey = top.parsed("public_key", "64 hex digits expected: the sender's ed25519 key")?;
    if let Some((name, value)) = top.one_of(&SENDER)? {
        let (expected, found) = (sender.address(), address(&top.path(name), value)?);
        if found != expected {
            return Err(JsonError::WrongSender { expected, found });
        }
    }
    let (name, value) = top.one_of(&SIGNATURE)?.unwrap_or(("signature", &Value::Null));
    let signature: Signature = parse(&top.path(name), value, "128 hex digits expected")?;
    let transaction = Transaction {
        sender,
        nonce: top.number("nonce", MAX_NUMBER)?,
        fee: top.number("fee", MAX_NUMBER)?,
        expiry_height: top.number("expiry_height", MAX_NUMBER)?,
        action: action(&top)?,
    };
    Ok(SignedTransaction { transaction, signature })
}

/// The JSON form of a transaction of `chain`, every field under its first name.
pub fn to_value(signed: &SignedTransaction, chain: &Hash) -> Value {
    let tx = &signed.transaction;
    json!({
        "type": type_name(&tx.action),
        "genesis_hash": chain,
        "public_key": tx.sender,
        "sender": tx.sender.address(),
        "nonce": tx.nonce,
        "fee": tx.fee,
        "expiry_height": tx.expiry_height,
        "payload": payload(&tx.action),
        "signature": signed.signature,
    })
}

/// Name of an action's type.
pub fn type_name(action: &Action) -> &'static str {
    match action {
        Action::Transfer(_) => "TRANSFER",
        Action::TransferMany { .. } => "TRANSFER_MANY",
        Action::Faucet(_) => "FAUCET",
        Action::ClaimReceipt(_) => "RECEIPT_CLAIM",
        Action::LockEscrow(_) => "ESCROW_LOCK",
        Action::ReleaseEscrow(_) => "ESCROW_RELEASE",
        Action::RefundEscrow { .. } => "ESCROW_REFUND",
        Action::Bond(_) => "BOND",
        Action::Unbond(_) => "UNBOND",
        Action::Activate { .. } => "ACTIVATE",
        Action::Unjail => "UNJAIL",
        Action::AuthorityVote(_) => "AUTHORITY_VOTE",
    }
}

/// Whom an action pays, where that is one account: of a receipt its provider.
pub fn recipient(action: &Action) -> Option<Address> {
    match action {
        Action::Transfer(payment) | Action::Faucet(payment) => Some(payment.to),
        Action::ClaimReceipt(attested) | Action::ReleaseEscrow(attested) => Some(attested.receipt.provider.address()),
        Action::LockEscrow(lock) => lock.provider,
        Action::TransferMany { .. }
        | Action::RefundEscrow { .. }
        | Action::Bond(_)
        | Action::Unbond(_)
        | Action::Activate { .. }
        | Action::Unjail
        | Action::AuthorityVote(_) => None,
    }
}

/// The `payload` of an action.
pub fn payload(action: &Action) -> Value {
    let one = |payment: &Payment| json!({ "recipient": payment.to, "amount": payment.amount });
    match action {
        Action::Transfer(payment) | Action::Faucet(payment) => one(payment),
        Action::TransferMany { payments } => json!({ "payments": payments.iter().map(one).collect::<Vec<_>>() }),
        Action::ClaimReceipt(receipt) | Action::ReleaseEscrow(receipt) => receipt::attested_value(receipt),
        Action::LockEscrow(lock) => receipt::lock_value(lock),
        Action::RefundEscrow { job_id } => json!({ "job_id": job_id.as_str() }),
        Action::Bond(stake) | Action::Unbond(stake) => staking::stake_value(stake),
        Action::Activate { owner } => json!({ "owner": owner }),
        Action::Unjail => json!({}),
        Action::AuthorityVote(motion) => staking::motion_value(motion),
    }
}

fn raw_form(value: &Value) -> Result<SignedTransaction, JsonError> {
    let wrong = |found: String| JsonError::Field {
        field: "transaction".into(),
        found,
        allowed: format!("0x and the hex digits of at most {MAX_TX_BYTES} bytes of borsh expected"),
    };
    let text = value.as_str().ok_or_else(|| wrong(shown(value)))?;
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() > 2 * MAX_TX_BYTES {
        return Err(wrong(format!("{} hex digits", digits.len())));
    }
    let bytes = hex::decode(digits).map_err(|e| wrong(e.to_string()))?;
    codec::decode(&bytes).map_err(|e| wrong(format!("not a signed transaction: {e}")))
}

/// The action of an object that has at least `type` and `payload` as above: what is not signed yet has one too.
///
/// # Errors
/// On an unknown type, or a payload that is not of its form.
pub fn action_of(value: &Value) -> Result<Action, JsonError> {
    action(&Object::new("", value)?)
}

fn action(top: &Object<'_>) -> Result<Action, JsonError> {
    let given = top.get("type");
    let name = match given {
        None => "TRANSFER".to_owned(),
        Some(value) => value.as_str().unwrap_or_default().to_ascii_uppercase(),
    };
    match name.as_str() {
        "TRANSFER" | "FAUCET" | "TRANSFER_MANY" => payment_action(&name, top),
        "RECEIPT_CLAIM" => Ok(Action::ClaimReceipt(Box::new(receipt::read(&only_payload(top)?)?))),
        "ESCROW_LOCK" => Ok(Action::LockEscrow(receipt::lock(&only_payload(top)?)?)),
        "ESCROW_RELEASE" => Ok(Action::ReleaseEscrow(Box::new(receipt::read(&only_payload(top)?)?))),
        "ESCROW_REFUND" => Ok(Action::RefundEscrow { job_id: receipt::refund(&only_payload(top)?)? }),
        "BOND" => Ok(Action::Bond(staking::stake(&only_payload(top)?)?)),
        "UNBOND" => Ok(Action::Unbond(staking::stake(&only_payload(top)?)?)),
        "ACTIVATE" => Ok(Action::Activate { owner: staking::owner(&only_payload(top)?)? }),
        "UNJAIL" => no_payload(top).map(|()| Action::Unjail),
        "AUTHORITY_VOTE" => Ok(Action::AuthorityVote(staking::motion(&only_payload(top)?)?)),
        _ => Err(top.wrong("type", given.map_or_else(nothing, shown), format!("{TYPES} expected"))),
    }
}

fn payment_action(name: &str, top: &Object<'_>) -> Result<Action, JsonError> {
    let payload = top.get("payload").map(|value| Object::new("payload", value)).transpose()?;
    if let Some(payload) = &payload {
        payload.allow_only(&PAYLOAD_FIELDS)?;
    }
    let inside = payload.as_ref().unwrap_or(top);
    match name {
        "TRANSFER_MANY" => Ok(Action::TransferMany { payments: payments(&[inside, top])? }),
        "FAUCET" => Ok(Action::Faucet(payment(&[inside, top])?)),
        _ => Ok(Action::Transfer(payment(&[inside, top])?)),
    }
}

/// The payload of a type whose fields are read there only.
fn only_payload<'a>(top: &Object<'a>) -> Result<Object<'a>, JsonError> {
    nothing_beside_payload(top)?;
    top.inner("payload")
}

/// Of a type without fields, whose payload may be left out.
fn no_payload(top: &Object<'_>) -> Result<(), JsonError> {
    nothing_beside_payload(top)?;
    top.get("payload").map_or(Ok(()), |value| Object::new("payload", value)?.allow_only(&[]))
}

fn nothing_beside_payload(top: &Object<'_>) -> Result<(), JsonError> {
    PAYLOAD_FIELDS.iter().try_for_each(|name| refuse_field(&[top], name, "this type has its fields in payload only"))
}

/// The payment in the payload, or beside it.
fn payment(places: &[&Object<'_>]) -> Result<Payment, JsonError> {
    refuse_field(places, "payments", "only TRANSFER_MANY has it")?;
    let (place, name, value) = find(places, &RECIPIENT)?;
    let to = address(&place.path(name), value)?;
    let (place, name, value) = find(places, &["amount"])?;
    Ok(Payment { to, amount: number(&place.path(name), value, MAX_SUPPLY)? })
}

fn payments(places: &[&Object<'_>]) -> Result<Vec<Payment>, JsonError> {
    for name in PAYMENT_FIELDS {
        refuse_field(places, name, "TRANSFER_MANY has it in payments only")?;
    }
    let (place, name, value) = find(places, &["payments"])?;
    let allowed = || format!("a list of 1 to {MAX_TRANSFERS} payments expected");
    let list = value.as_array().ok_or_else(|| place.wrong(name, shown(value), allowed()))?;
    if list.is_empty() || list.len() > MAX_TRANSFERS {
        return Err(place.wrong(name, format!("{} payments", list.len()), allowed()));
    }
    let one = |(i, value)| {
        let object = Object::new(&format!("{}[{i}]", place.path(name)), value)?;
        object.allow_only(&PAYMENT_FIELDS)?;
        payment(&[&object])
    };
    list.iter().enumerate().map(one).collect()
}

/// The field of one of these names in the first place that has it; two places must not say different things.
fn find<'a>(
    places: &[&'a Object<'a>],
    names: &[&'static str],
) -> Result<(&'a Object<'a>, &'static str, &'a Value), JsonError> {
    let mut found: Option<(&'a Object<'a>, &'static str, &'a Value)> = None;
    for place in places {
        let Some((name, value)) = place.one_of(names)? else { continue };
        match found {
            None => found = Some((place, name, value)),
            Some((_, _, first)) if first != value => {
                return Err(place.wrong(name, shown(value), format!("the payload says {}", shown(first))));
            }
            Some(_) => {}
        }
    }
    found.ok_or_else(|| places[0].wrong(names[0], nothing(), expected_of(names[0])))
}

fn expected_of(name: &str) -> String {
    match name {
        "recipient" => "an address expected".into(),
        "payments" => format!("a list of 1 to {MAX_TRANSFERS} payments expected"),
        _ => format!("a whole number from 0 to {MAX_NUMBER} expected"),
    }
}

fn refuse_field(places: &[&Object<'_>], name: &str, why: &str) -> Result<(), JsonError> {
    match places.iter().find(|place| place.get(name).is_some()) {
        Some(place) => Err(place.wrong(name, "not allowed here".into(), why.into())),
        None => Ok(()),
    }
}

/// A JSON object and the path to it.
struct Object<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    fn new(path: &str, value: &'a Value) -> Result<Self, JsonError> {
        match value {
            Value::Object(map) => Ok(Object { path: path.to_owned(), map }),
            other => Err(JsonError::Field {
                field: if path.is_empty() { "transaction".into() } else { path.into() },
                found: shown(other),
                allowed: "an object expected".into(),
            }),
        }
    }

    /// The object under a name.
    fn inner(&self, name: &str) -> Result<Object<'a>, JsonError> {
        Object::new(&self.path(name), self.get(name).unwrap_or(&Value::Null))
    }

    fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn wrong(&self, name: &str, found: String, allowed: String) -> JsonError {
        JsonError::Field { field: self.path(name), found, allowed }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn allow_only(&self, names: &[&str]) -> Result<(), JsonError> {
        match self.map.keys().find(|key| !names.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let name: String = key.chars().take(SHOWN).collect();
                Err(self.wrong(&name, "unknown field".into(), format!("known are {}", names.join(", "))))
            }
        }
    }

    /// The field under whichever of its names; not under two.
    fn one_of(&self, names: &[&'static str]) -> Result<Option<(&'static str, &'a Value)>, JsonError> {
        let mut given = names.iter().filter_map(|name| Some((*name, self.get(name)?)));
        let first = given.next();
        match (first, given.next()) {
            (Some((one, _)), Some((other, _))) => {
                Err(self.wrong(other, "given twice".into(), format!("it is another name of {one}")))
            }
            _ => Ok(first),
        }
    }

    fn parsed<T: FromStr>(&self, name: &str, allowed: &str) -> Result<T, JsonError> {
        parse(&self.path(name), self.get(name).unwrap_or(&Value::Null), allowed)
    }

    fn number(&self, name: &str, max: u64) -> Result<u64, JsonError> {
        number(&self.path(name), self.get(name).unwrap_or(&Value::Null), max)
    }
}

fn parse<T: FromStr>(field: &str, value: &Value, allowed: &str) -> Result<T, JsonError> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| JsonError::Field {
        field: field.to_owned(),
        found: shown(value),
        allowed: allowed.to_owned(),
    })
}

fn address(field: &str, value: &Value) -> Result<Address, JsonError> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| JsonError::Address { field: field.to_owned(), found: shown(value) })
}

/// A whole number from 0; JSON's 1.0, 1e3 and "1" are none.
fn number(field: &str, value: &Value, max: u64) -> Result<u64, JsonError> {
    value.as_u64().filter(|number| *number <= max).ok_or_else(|| JsonError::Field {
        field: field.to_owned(),
        found: shown(value),
        allowed: format!("a whole number from 0 to {max} expected"),
    })
}

fn nothing() -> String {
    "missing".into()
}

/// A value as a message repeats it, cut short.
fn shown(value: &Value) -> String {
    if value.is_null() {
        return nothing();
    }
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::plain;
    use crate::key::SecretKey;

    fn chain() -> Hash {
        plain(b"chain")
    }

    fn key() -> SecretKey {
        SecretKey::from_seed([1; 32])
    }

    fn to() -> Address {
        Address([9; 20])
    }

    fn signed(action: Action) -> SignedTransaction {
        Transaction { sender: key().public(), nonce: 3, fee: 2, expiry_height: 100, action }.sign(&chain(), &key())
    }

    fn transfer() -> SignedTransaction {
        signed(Action::Transfer(Payment { to: to(), amount: 5 }))
    }

    /// The JSON of a good transfer with some fields set, or taken out where the value is null.
    fn with(changes: &[(&str, Value)]) -> Value {
        let mut value = to_value(&transfer(), &chain());
        let map = value.as_object_mut().expect("object");
        for (name, change) in changes {
            if change.is_null() {
                map.remove(*name);
            } else {
                map.insert((*name).to_owned(), change.clone());
            }
        }
        value
    }

    fn read(value: &Value) -> Result<SignedTransaction, JsonError> {
        from_str(&value.to_string(), &chain())
    }

    /// Refused with this code, and a message with each of these words.
    fn refused(value: &Value, code: &str, words: &[&str]) {
        let error = read(value).expect_err("refused");
        assert_eq!(error.code(), code, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "\"{word}\" in: {error}");
        }
    }

    fn malformed(changes: &[(&str, Value)], words: &[&str]) {
        refused(&with(changes), "MALFORMED_TRANSACTION", words);
    }

    #[test]
    fn every_action_survives_its_json() {
        let payment = Payment { to: to(), amount: MAX_SUPPLY };
        let many = Action::TransferMany { payments: vec![payment.clone(), Payment { to: to(), amount: 1 }] };
        for action in [Action::Transfer(payment.clone()), many, Action::Faucet(payment)] {
            let tx = signed(action);
            let back = read(&to_value(&tx, &chain())).expect("own JSON");
            assert_eq!(back, tx);
            assert!(back.verifies(&chain()));
        }
    }

    #[test]
    fn every_other_name_of_a_field_is_read_as_the_same_transaction() {
        let good = to_value(&transfer(), &chain());
        let (sender, signature) = (good["sender"].clone(), good["signature"].clone());
        let hex_to = json!(format!("0x{}", hex::encode(to().0)));
        let forms = [
            with(&[("sender", Value::Null), ("from", sender.clone())]),
            with(&[("sender", Value::Null)]),
            with(&[("signature", Value::Null), ("sig", signature)]),
            with(&[("type", json!("transfer"))]),
            with(&[("type", Value::Null)]),
            with(&[("payload", json!({ "to": to(), "amount": 5 }))]),
            with(&[("payload", json!({ "recipient": hex_to, "amount": 5 }))]),
            with(&[("payload", json!({ "amount": 5 })), ("to", json!(to()))]),
            with(&[("payload", json!({})), ("to", json!(to())), ("amount", json!(5))]),
            with(&[("payload", Value::Null), ("recipient", json!(to())), ("amount", json!(5))]),
            with(&[("recipient", json!(to())), ("amount", json!(5))]),
            with(&[("chain_id", json!("devnet"))]),
        ];
        for form in forms {
            assert_eq!(read(&form).as_ref(), Ok(&transfer()), "{form}");
        }
        let raw = json!({ "transaction": format!("0x{}", hex::encode(codec::encode(&transfer()))) });
        assert_eq!(read(&raw), Ok(transfer()));
    }

    #[test]
    fn each_missing_field_is_named() {
        for field in ["genesis_hash", "public_key", "nonce", "fee", "expiry_height", "signature"] {
            malformed(&[(field, Value::Null)], &[field, "missing"]);
        }
        malformed(&[("payload", Value::Null)], &["recipient", "missing"]);
        malformed(&[("payload", json!({ "recipient": to() }))], &["payload.amount", "missing"]);
    }

    #[test]
    fn numbers_that_are_no_whole_number_in_range_are_refused() {
        for wrong in [json!(-1), json!(1.5), json!(1.0), json!("7"), json!(true), json!(MAX_SUPPLY + 1), json!(1e300)] {
            for field in ["nonce", "fee", "expiry_height"] {
                malformed(&[(field, wrong.clone())], &[field, &wrong.to_string(), "9007199254740991"]);
            }
            let payload = json!({ "recipient": to(), "amount": wrong });
            malformed(&[("payload", payload)], &["payload.amount", &wrong.to_string(), "9007199254740991"]);
        }
        assert!(read(&with(&[("nonce", json!(MAX_SUPPLY))])).is_ok());
    }

    #[test]
    fn an_unknown_or_contradictory_field_is_refused() {
        malformed(&[("expiry", json!(5))], &["expiry", "unknown", "expiry_height"]);
        malformed(&[("payload", json!({ "recipient": to(), "amount": 5, "memo": "x" }))], &["payload.memo", "unknown"]);
        malformed(&[("from", json!(key().public().address()))], &["from", "given twice"]);
        malformed(&[("amount", json!(6))], &["amount", "6", "the payload says 5"]);
        malformed(&[("type", json!("MINT"))], &["type", "MINT", "TRANSFER_MANY"]);
        malformed(&[("type", json!(7))], &["type", "7", "TRANSFER_MANY"]);
        malformed(&[("payments", json!([]))], &["payments", "only TRANSFER_MANY"]);
        malformed(&[("type", json!("TRANSFER_MANY"))], &["payload.recipient", "in payments only"]);
    }

    #[test]
    fn lists_of_payments_are_bounded_and_each_is_checked() {
        let many = |payments: Value| [("type", json!("TRANSFER_MANY")), ("payload", json!({ "payments": payments }))];
        let one = json!({ "recipient": to(), "amount": 5 });
        malformed(&many(json!([])), &["payload.payments", "0 payments", "1 to 64"]);
        malformed(&many(json!(vec![one.clone(); 65])), &["65 payments"]);
        malformed(&many(json!("all")), &["payload.payments", "a list"]);
        malformed(&many(json!([one, { "amount": 5 }])), &["payload.payments[1].recipient", "missing"]);
        malformed(&many(json!([7])), &["payload.payments[0]", "an object expected"]);
    }

    #[test]
    fn a_wrong_address_is_named_with_its_field() {
        let wrong = with(&[("payload", json!({ "recipient": "bob", "amount": 5 }))]);
        refused(&wrong, "UNKNOWN_ADDRESS_FORM", &["payload.recipient", "bob", "ait1"]);
        refused(&with(&[("sender", json!(7))]), "UNKNOWN_ADDRESS_FORM", &["sender", "7"]);
    }

    #[test]
    fn a_sender_that_is_not_of_the_key_is_refused() {
        let words = [to().to_string(), key().public().address().to_string()];
        refused(&with(&[("sender", json!(to()))]), "WRONG_SENDER", &[&words[0], &words[1]]);
    }

    #[test]
    fn another_chains_transaction_is_refused() {
        let other = plain(b"other");
        let words = [other.to_string(), chain().to_string()];
        refused(&with(&[("genesis_hash", json!(other))]), "WRONG_CHAIN", &[&words[0], &words[1]]);
    }

    #[test]
    fn malformed_keys_signatures_and_hashes_are_named() {
        malformed(&[("public_key", json!("12"))], &["public_key", "12", "64 hex"]);
        malformed(&[("signature", json!("zz"))], &["signature", "zz", "128 hex"]);
        malformed(&[("genesis_hash", json!("0x"))], &["genesis_hash", "64 hex"]);
    }

    #[test]
    fn texts_that_are_no_transaction_at_all_are_refused() {
        for text in ["", "{", "[]", "null", "7", "\"x\"", "{}"] {
            let error = from_str(text, &chain()).expect_err(text);
            assert_eq!(error.code(), "MALFORMED_TRANSACTION", "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(from_str(&deep, &chain()).expect_err("deep").code(), "MALFORMED_TRANSACTION");
    }

    #[test]
    fn a_raw_form_that_does_not_decode_is_refused() {
        let raw = |text: &str| json!({ "transaction": text });
        let mut bytes = codec::encode(&transfer());
        bytes.push(0);
        refused(&raw(&hex::encode(&bytes)), "MALFORMED_TRANSACTION", &["transaction"]);
        refused(&raw("0x1"), "MALFORMED_TRANSACTION", &["transaction", "hex"]);
        refused(&raw(&"00".repeat(MAX_TX_BYTES + 1)), "MALFORMED_TRANSACTION", &["hex digits", "16384"]);
        refused(&json!({ "transaction": "0x", "fee": 1 }), "MALFORMED_TRANSACTION", &["fee", "unknown"]);
    }

    #[test]
    fn a_long_wrong_value_is_cut_short_in_the_message() {
        let error = read(&with(&[("public_key", json!("é".repeat(10_000)))])).expect_err("long");
        assert!(error.to_string().len() < 400, "{error}");
    }
}
