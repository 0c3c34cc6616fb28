//! Key Secrets: one for each validator, which people back up, and one of all, which pods mount.
//!
//! The former are created, immutable and have no owner: neither an apply nor garbage collection can take a key away.

use crate::names::Identity;
use crate::names::{self, ADDRESS_ENTRY, KEY_ENTRY, KEY_SECRET_TYPE, ORDINAL_LABEL, Role};
use crate::validate::Settings;
use crate::validate::keys::{Keys, ValidatorKey};
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

/// The Secret that pods mount: an entry for each pod, of which a container sees only its own (`subPathExpr`).
pub fn build_mounted(settings: &Settings, keys: &Keys) -> Secret {
    let identity = &settings.identity;
    let entry = |ordinal: &i32| names::pod(&identity.name, *ordinal);
    Secret {
        metadata: names::owned_meta(identity, names::mounted_keys(&identity.name), Role::MountedKeys),
        type_: Some("Opaque".into()),
        data: Some(keys.known.iter().map(|(i, key)| (entry(i), ByteString(key.pem.clone().into_bytes()))).collect()),
        ..Secret::default()
    }
}
