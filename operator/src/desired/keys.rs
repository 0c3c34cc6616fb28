//! Key Secrets: one for each validator, which people back up, and one of all, which pods mount, with what is asserted of each key.
//!
//! The former are created, immutable and have no owner: neither an apply nor garbage collection can take a key away.

use crate::names::Identity;
use crate::names::{self, ADDRESS_ENTRY, KEY_ENTRY, KEY_SECRET_TYPE, ORDINAL_LABEL, Role};
use crate::validate::Settings;
use crate::validate::keys::{Keys, ValidatorKey};
use crate::validate::starts::Starts;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

/// The Secret of one validator.
pub fn build(identity: &Identity, ordinal: i32, key: &ValidatorKey) -> Secret {
    let mut metadata = names::retained_meta(identity, names::key_secret(&identity.name, ordinal), Role::ValidatorKey);
    metadata.labels.get_or_insert_default().insert(ORDINAL_LABEL.into(), ordinal.to_string());
    let entries = [(KEY_ENTRY, key.pem.clone()), (ADDRESS_ENTRY, key.public.address().to_string())];
    Secret {
        metadata,
        immutable: Some(true),
        type_: Some(KEY_SECRET_TYPE.into()),
        data: Some(entries.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes()))).into()),
        ..Secret::default()
    }
}

/// The Secret that pods mount: two entries for each pod, of which a container sees only its own (`subPathExpr`).
///
/// ```text
/// N-validator-0               PKCS#8 PEM
/// N-validator-0.first-start   hash of genesis while this key has never voted on its chain, then empty (protocol A1)
/// ```
///
/// The second is always there: a mount of an entry that is missing would fail. Neither is part of the pod template, so that a
/// first start that is over restarts nobody.
pub fn build_mounted(settings: &Settings, keys: &Keys, starts: &Starts, genesis_hash: &str) -> Secret {
    let identity = &settings.identity;
    let key = |(ordinal, key): (&i32, &ValidatorKey)| (names::pod(&identity.name, *ordinal), key.pem.clone());
    let first_start = |ordinal: &i32| {
        let asserted = if starts.first.contains(ordinal) { genesis_hash } else { "" };
        (names::first_start(&identity.name, *ordinal), asserted.to_owned())
    };
    let entries = keys.known.iter().map(key).chain(keys.known.keys().map(first_start));
    Secret {
        metadata: names::owned_meta(identity, names::mounted_keys(&identity.name), Role::MountedKeys),
        type_: Some("Opaque".into()),
        data: Some(entries.map(|(name, text)| (name, ByteString(text.into_bytes()))).collect()),
        ..Secret::default()
    }
}
