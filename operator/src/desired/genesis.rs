//! ConfigMap with genesis.json. Created once, immutable, without owner: it stays with the volumes, so the chain can go on.

use crate::names::{self, GENESIS_ENTRY, GENESIS_HASH_ANNOTATION, Role};
use crate::validate::Settings;
use crate::validate::genesis::GenesisFile;
use k8s_openapi::api::core::v1::ConfigMap;

/// The ConfigMap.
pub fn build(settings: &Settings, genesis: &GenesisFile) -> ConfigMap {
    let identity = &settings.identity;
    let mut metadata = names::retained_meta(identity, names::genesis(&identity.name), Role::Genesis);
    metadata.annotations = Some([(GENESIS_HASH_ANNOTATION.to_owned(), genesis.hash.clone())].into());
    ConfigMap {
        metadata,
        immutable: Some(true),
        data: Some([(GENESIS_ENTRY.to_owned(), genesis.json.clone())].into()),
        ..ConfigMap::default()
    }
}
