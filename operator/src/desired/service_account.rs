//! Identity of the validator pods: no rights, no token. A node never talks to the Kubernetes API.

use crate::names::{self, Role};
use crate::validate::Settings;
use k8s_openapi::api::core::v1::ServiceAccount;

/// The ServiceAccount.
pub fn build(settings: &Settings) -> ServiceAccount {
    let identity = &settings.identity;
    ServiceAccount {
        metadata: names::owned_meta(identity, names::validator(&identity.name), Role::Validator),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
