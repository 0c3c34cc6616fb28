//! The JSON of stakes and motions: their payloads, which stand in `payload` only.
//!
//! ```text
//! BOND, UNBOND     {"validator": "<64 hex>", "amount": 5}
//! ACTIVATE         {"owner": "ait1…"}
//! UNJAIL           {}
//! AUTHORITY_VOTE   {"motion": "ADMIT" | "REMOVE", "validator": "<64 hex>"}
//!                  {"motion": "SET_TERM", "term": "min_fee" | "min_stake" | "max_validators" | "unbonding_ms", "value": 5}
//!                  {"motion": "SCHEDULE_UPGRADE", "version": 2, "height": 5000}
//! ```

use super::{JsonError, MAX_NUMBER, Object, address, nothing, shown};
use crate::key::{Address, PublicKey};
use crate::params::MAX_SUPPLY;
use crate::transaction::{Motion, Stake, Term};
use serde_json::{Value, json};

const VALIDATOR: &str = "64 hex digits expected: the validator's ed25519 key";
const MOTIONS: &str = "ADMIT, REMOVE, SET_TERM or SCHEDULE_UPGRADE expected";
const TERMS: &str = "min_fee, min_stake, max_validators or unbonding_ms expected";

pub(super) fn stake(payload: &Object<'_>) -> Result<Stake, JsonError> {
    payload.allow_only(&["validator", "amount"])?;
    Ok(Stake { validator: validator(payload)?, amount: payload.number("amount", MAX_SUPPLY)? })
}

pub(super) fn owner(payload: &Object<'_>) -> Result<Address, JsonError> {
    payload.allow_only(&["owner"])?;
    address("payload.owner", payload.get("owner").unwrap_or(&Value::Null))
}

fn validator(payload: &Object<'_>) -> Result<PublicKey, JsonError> {
    payload.parsed("validator", VALIDATOR)
}

pub(super) fn motion(payload: &Object<'_>) -> Result<Motion, JsonError> {
    let given = payload.get("motion");
    let name = given.and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase();
    match name.as_str() {
        "ADMIT" | "REMOVE" => {
            payload.allow_only(&["motion", "validator"])?;
            let key = validator(payload)?;
            Ok(if name == "ADMIT" { Motion::Admit(key) } else { Motion::Remove(key) })
        }
        "SET_TERM" => {
            payload.allow_only(&["motion", "term", "value"])?;
            Ok(Motion::SetTerm { term: term(payload)?, value: payload.number("value", MAX_NUMBER)? })
        }
        "SCHEDULE_UPGRADE" => {
            payload.allow_only(&["motion", "version", "height"])?;
            let version = payload.number("version", u16::MAX.into())? as u16;
            Ok(Motion::ScheduleUpgrade { version, height: payload.number("height", MAX_NUMBER)? })
        }
        _ => Err(payload.wrong("motion", given.map_or_else(nothing, shown), MOTIONS.into())),
    }
}

fn term(payload: &Object<'_>) -> Result<Term, JsonError> {
    let given = payload.get("term");
    let found = Term::ALL.into_iter().find(|term| given.and_then(Value::as_str) == Some(term.name()));
    found.ok_or_else(|| payload.wrong("term", given.map_or_else(nothing, shown), TERMS.into()))
}

/// The payload of a stake.
pub(super) fn stake_value(stake: &Stake) -> Value {
    json!({ "validator": stake.validator, "amount": stake.amount })
}

/// The payload of a vote.
pub(super) fn motion_value(motion: &Motion) -> Value {
    match motion {
        Motion::Admit(validator) => json!({ "motion": "ADMIT", "validator": validator }),
        Motion::Remove(validator) => json!({ "motion": "REMOVE", "validator": validator }),
        Motion::SetTerm { term, value } => json!({ "motion": "SET_TERM", "term": term.name(), "value": value }),
        Motion::ScheduleUpgrade { version, height } => {
            json!({ "motion": "SCHEDULE_UPGRADE", "version": version, "height": height })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{from_value, to_value};
    use super::*;
    use crate::hash::{Hash, plain};
    use crate::key::SecretKey;
    use crate::transaction::{Action, SignedTransaction, Transaction};

    fn chain() -> Hash {
        plain(b"chain")
    }

    fn signed(action: Action) -> SignedTransaction {
        let key = SecretKey::from_seed([1; 32]);
        Transaction { sender: key.public(), nonce: 0, fee: 1, expiry_height: 9, action }.sign(&chain(), &key)
    }

    fn actions() -> Vec<Action> {
        let validator = SecretKey::from_seed([2; 32]).public();
        let mut actions = vec![
            Action::Bond(Stake { validator, amount: MAX_SUPPLY }),
            Action::Unbond(Stake { validator, amount: 1 }),
            Action::Activate { owner: Address([7; 20]) },
            Action::Unjail,
            Action::AuthorityVote(Motion::Admit(validator)),
            Action::AuthorityVote(Motion::Remove(validator)),
            Action::AuthorityVote(Motion::ScheduleUpgrade { version: u16::MAX, height: MAX_NUMBER }),
        ];
        actions.extend(Term::ALL.map(|term| Action::AuthorityVote(Motion::SetTerm { term, value: 5 })));
        actions
    }

    #[test]
    fn every_stake_and_motion_survives_its_json() {
        for action in actions() {
            let tx = signed(action);
            assert_eq!(from_value(&to_value(&tx, &chain()), &chain()), Ok(tx));
        }
        let mut bare = to_value(&signed(Action::Unjail), &chain());
        bare.as_object_mut().expect("object").remove("payload");
        assert_eq!(from_value(&bare, &chain()), Ok(signed(Action::Unjail)));
    }

    #[test]
    fn a_field_that_the_action_does_not_have_or_lacks_is_named() {
        let refused = |kind: &str, payload: Value, words: [&str; 2]| {
            let mut value = to_value(&signed(Action::Unjail), &chain());
            (value["type"], value["payload"]) = (json!(kind), payload);
            let error = from_value(&value, &chain()).expect_err("refused").to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        let key = SecretKey::from_seed([2; 32]).public();
        refused("BOND", json!({ "validator": key }), ["payload.amount", "missing"]);
        refused("BOND", json!({ "validator": "ait1x", "amount": 1 }), ["payload.validator", "64 hex"]);
        refused("UNBOND", json!({ "validator": key, "amount": 1, "to": "x" }), ["payload.to", "unknown"]);
        refused("ACTIVATE", json!({}), ["payload.owner", "missing"]);
        refused("UNJAIL", json!({ "validator": key }), ["payload.validator", "unknown"]);
        refused("AUTHORITY_VOTE", json!({}), ["payload.motion", "SCHEDULE_UPGRADE"]);
        refused("AUTHORITY_VOTE", json!({ "motion": "ADMIT" }), ["payload.validator", "missing"]);
        refused(
            "AUTHORITY_VOTE",
            json!({ "motion": "SET_TERM", "term": "unit", "value": 1 }),
            ["payload.term", "unit"],
        );
        let over = json!({ "motion": "SCHEDULE_UPGRADE", "version": 65_536, "height": 1 });
        refused("AUTHORITY_VOTE", over, ["payload.version", "65535"]);
    }

    #[test]
    fn fields_of_a_transfer_beside_the_payload_are_refused() {
        for payload in [json!({}), Value::Null] {
            let mut value = to_value(&signed(Action::Unjail), &chain());
            (value["amount"], value["payload"]) = (json!(5), payload);
            let error = from_value(&value, &chain()).expect_err("refused").to_string();
            assert!(error.contains("amount: not allowed here"), "{error}");
        }
    }
}
