//! Pure: which validator keys exist, which may be made or copied now, and why not.
//!
//! The rule above all others: a key that a chain has seen is never made anew. It is restored, or the network waits.

use crate::crd::status::BlockchainNetworkStatus;
use crate::names::{self, KEY_ENTRY};
use crate::observe::Observed;
use crate::validate::{Problem, Settings};
use aitbc_core::genesis::Genesis;
use aitbc_core::key::{PublicKey, SecretKey};
use k8s_openapi::api::core::v1::Secret;
use std::collections::BTreeMap;

/// Most of a message that lists problems, so that a status stays small.
const MESSAGE_CHARS_MAX: usize = 900;

/// The keys of a network.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Those that have their Secret.
    pub known: BTreeMap<i32, ValidatorKey>,
    /// Secrets that are created next, by ordinal.
    pub create: BTreeMap<i32, KeySource>,
}

/// A validator's key.
#[derive(Clone)]
pub struct ValidatorKey {
    /// Public half.
    pub public: PublicKey,
    /// PKCS#8 PEM. Never printed.
    pub pem: String,
}

/// Where a key that has no Secret yet comes from.
#[derive(Clone)]
pub enum KeySource {
    /// The operating system's generator.
    Generate,
    /// A PEM that exists: the user's Secret, or the mounted copy of a Secret that was deleted.
    Copy(ValidatorKey),
}

impl std::fmt::Debug for ValidatorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ValidatorKey({})", self.public)
    }
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeySource::Generate => f.write_str("Generate"),
            KeySource::Copy(key) => write!(f, "Copy({key:?})"),
        }
    }
}

impl Keys {
    /// True where every validator has its Secret.
    pub fn complete(&self) -> bool {
        self.create.is_empty()
    }
}

/// Public keys that a chain of this name has seen: from genesis, which names those that began, else from status.
pub fn recorded(
    settings: &Settings,
    observed: &Observed,
    status: Option<&BlockchainNetworkStatus>,
) -> BTreeMap<i32, PublicKey> {
    let statuses = status.map(|s| s.validator_statuses.as_slice()).unwrap_or_default();
    let known = statuses.iter().filter_map(|v| Some((v.ordinal, v.public_key.as_ref()?.parse().ok()?)));
    let mut all: BTreeMap<i32, PublicKey> = known.collect();
    if let Some(genesis) = observed.genesis_json().and_then(|json| Genesis::from_json(json).ok()) {
        let began = genesis.validators.iter().map(|v| v.public_key);
        all.extend(settings.genesis_power.keys().copied().zip(began));
    }
    all
}

/// Finds the key of each validator.
///
/// # Errors
/// `KeyMissing`, `KeyMismatch`, `KeyInvalid` or `KeyConflict`, with every validator concerned.
pub fn check(settings: &Settings, observed: &Observed, recorded: &BTreeMap<i32, PublicKey>) -> Result<Keys, Problem> {
    let mut keys = Keys::default();
    let mut problems = Vec::new();
    for ordinal in 0..settings.replicas {
        match one(settings, observed, recorded.get(&ordinal), ordinal) {
            Ok(Found::Known(key)) => drop(keys.known.insert(ordinal, key)),
            Ok(Found::Create(source)) => drop(keys.create.insert(ordinal, source)),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(conflict(&keys));
    match problems.first() {
        None => Ok(keys),
        Some(first) => Err(Problem::new(first.reason, joined(&problems))),
    }
}

enum Found {
    Known(ValidatorKey),
    Create(KeySource),
}

fn one(settings: &Settings, observed: &Observed, recorded: Option<&PublicKey>, ordinal: i32) -> Result<Found, Problem> {
    let network = &settings.identity.name;
    let name = names::key_secret(network, ordinal);
    let own = observed.key_secrets.get(&ordinal).map(|secret| read(secret, KEY_ENTRY, &name)).transpose()?;
    let provided = provided(settings, observed, ordinal)?;
    if let Some(own) = own {
        matches_record(&own, recorded, &name)?;
        provided_agrees(&own, provided, recorded, &name)?;
        return Ok(Found::Known(own));
    }
    let source = match (provided, mounted(network, observed, recorded, ordinal), recorded) {
        (Some(Ok(key)), _, _) => key,
        (_, Some(key), _) => key,
        (Some(Err(missing)), None, _) => return Err(missing),
        (None, None, None) => return Ok(Found::Create(KeySource::Generate)),
        (None, None, Some(public)) => return Err(lost(&name, public)),
    };
    matches_record(&source, recorded, &name)?;
    Ok(Found::Create(KeySource::Copy(source)))
}

/// The user's key: `None` where keys are generated, `Err` inside where the Secret is missing.
fn provided(
    settings: &Settings,
    observed: &Observed,
    ordinal: i32,
) -> Result<Option<Result<ValidatorKey, Problem>>, Problem> {
    let Some(sources) = &settings.provided_keys else { return Ok(None) };
    let Some(source) = sources.get(&ordinal) else {
        let message = format!("validators.keys.secrets names no Secret for validator {ordinal}");
        return Ok(Some(Err(Problem::new("KeyMissing", message))));
    };
    match observed.provided_keys.get(&ordinal).and_then(Option::as_ref) {
        Some(pem) => Ok(Some(Ok(parse(pem, &source.name, &source.key)?))),
        None => {
            let message = format!(
                "Secret \"{}\" with the key \"{}\" for validator {ordinal} is missing; create it",
                source.name, source.key
            );
            Ok(Some(Err(Problem::new("KeyMissing", message))))
        }
    }
}

/// The copy that pods mount: it brings back a Secret that was deleted, if it is the key on record.
fn mounted(network: &str, observed: &Observed, recorded: Option<&PublicKey>, ordinal: i32) -> Option<ValidatorKey> {
    let secret = observed.mounted_keys.as_ref()?;
    let entry = names::pod(network, ordinal);
    read(secret, &entry, &names::mounted_keys(network)).ok().filter(|key| Some(&key.public) == recorded)
}

/// A key that exists must be the one the chain knows.
fn matches_record(key: &ValidatorKey, recorded: Option<&PublicKey>, name: &str) -> Result<(), Problem> {
    match recorded {
        Some(public) if *public != key.public => Err(Problem::new(
            "KeyMismatch",
            format!(
                "Secret \"{name}\": the chain knows this validator by the public key {public}, the key given is {}; restore the former",
                key.public
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// The copy must be what the user brought. Once the chain has begun, the copy alone is enough.
fn provided_agrees(
    own: &ValidatorKey,
    provided: Option<Result<ValidatorKey, Problem>>,
    recorded: Option<&PublicKey>,
    name: &str,
) -> Result<(), Problem> {
    match (provided, recorded) {
        (Some(Ok(key)), _) if key.public != own.public => Err(Problem::new(
            "KeyMismatch",
            format!(
                "Secret \"{name}\" holds {}, the Secret provided holds {}; give back the former, or delete \"{name}\" if no chain began with it",
                own.public, key.public
            ),
        )),
        (Some(Err(missing)), None) => Err(missing),
        (Some(_) | None, _) => Ok(()),
    }
}

fn lost(name: &str, public: &PublicKey) -> Problem {
    let message = format!(
        "Secret \"{name}\" is gone, and the chain knows its public key {public}; restore it from your backup: a key is never made anew"
    );
    Problem::new("KeyMissing", message)
}

fn conflict(keys: &Keys) -> Option<Problem> {
    let mut seen: BTreeMap<PublicKey, i32> = BTreeMap::new();
    let copies = keys.create.iter().filter_map(|(ordinal, source)| match source {
        KeySource::Copy(key) => Some((*ordinal, key.public)),
        KeySource::Generate => None,
    });
    for (ordinal, public) in keys.known.iter().map(|(ordinal, key)| (*ordinal, key.public)).chain(copies) {
        if let Some(other) = seen.insert(public, ordinal) {
            let message = format!(
                "validators {other} and {ordinal} have the same key {public}: they would sign against each other; give each its own"
            );
            return Some(Problem::new("KeyConflict", message));
        }
    }
    None
}

fn read(secret: &Secret, entry: &str, name: &str) -> Result<ValidatorKey, Problem> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(entry));
    let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default();
    parse(text, name, entry)
}

fn parse(pem: &str, name: &str, entry: &str) -> Result<ValidatorKey, Problem> {
    match SecretKey::from_pkcs8_pem(pem) {
        Ok(key) => Ok(ValidatorKey { public: key.public(), pem: pem.to_owned() }),
        Err(error) => Err(Problem::new("KeyInvalid", format!("Secret \"{name}\", key \"{entry}\": {error}"))),
    }
}

fn joined(problems: &[Problem]) -> String {
    let all = problems.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("; ");
    all.chars().take(MESSAGE_CHARS_MAX).collect()
}
