//! PodDisruptionBudget: drains never take down more than the quorum can spare.

use crate::names::{self, Role};
use crate::validate::Validated;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The budget. At least 1, also where no validator can be spared: a budget of 0 would make every drain hang for ever.
pub fn build(validated: &Validated) -> PodDisruptionBudget {
    let identity = &validated.settings.identity;
    let spare = validated.members.fault_tolerance().max(1);
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
