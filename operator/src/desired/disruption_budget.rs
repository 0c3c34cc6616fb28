//! PodDisruptionBudget: drains never take down more than the quorum can spare.

use crate::names::{self, Role};
use crate::quorum;
use crate::validate::Settings;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The budget. At least 1, also where no validator can be spared: a budget of 0 would make every drain hang for ever.
pub fn build(settings: &Settings) -> PodDisruptionBudget {
    let identity = &settings.identity;
    let spare = quorum::fault_tolerance(settings.replicas).max(1);
    PodDisruptionBudget {
        metadata: names::owned_meta(identity, names::validator(&identity.name), Role::Validator),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(spare)),
            selector: Some(names::validators_selector(&identity.name)),
            // A pod that is not ready signs nothing that a drain could take away.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
