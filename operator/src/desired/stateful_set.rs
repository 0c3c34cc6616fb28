//! StatefulSet of the validators. `Parallel`: none waits for a quorum of the others. `OnDelete`: the planner chooses who restarts next.

use crate::crd::validators::Storage;
use crate::desired::pod;
use crate::names::{self, Role, VOLUME};
use crate::validate::Settings;
use crate::validate::databases::Databases;
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The StatefulSet with as many pods as the plan says.
pub fn build(settings: &Settings, databases: &Databases, replicas: i32) -> StatefulSet {
    let identity = &settings.identity;
    let mut metadata = names::owned_meta(identity, names::validator(&identity.name), Role::Validator);
    metadata.labels = Some(pod::labels(settings));
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            service_name: Some(names::peers(&identity.name)),
            selector: names::validators_selector(&identity.name),
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            // What happens to volumes is the network's deletionPolicy, never the StatefulSet's.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".into()),
                when_scaled: Some("Retain".into()),
            }),
            template: pod::build(settings, databases),
            volume_claim_templates: settings.store.volume().map(|volume| vec![claim(volume)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn claim(volume: &Storage) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        // No labels here: a template cannot change. The StatefulSet controller puts the selector's labels on each claim.
        metadata: ObjectMeta { name: Some(VOLUME.into()), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(volume.size.clone()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: volume.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
