//! A larger size grows the claims, and the StatefulSet is made again around its running pods. What cannot grow keeps nothing else waiting.

use crate::kubelet::Kubelet;
use crate::wait;
use crate::world::{World, with};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const GROWING: &str = "control-plane-test-growing";
const FIXED: &str = "control-plane-test-fixed";

fn sized(size: &str, class: &str) -> Value {
    with("validators.storage", json!({ "size": size, "storageClassName": class }))
}

/// The class, and a volume for each claim: nobody provisions here.
async fn provide_volumes(world: &World, name: &str) {
    let params = PatchParams::apply("control-plane-test").force();
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": name },
        "provisioner": "kubernetes.io/no-provisioner", "allowVolumeExpansion": name == GROWING, "volumeBindingMode": "Immediate",
    });
    let classes = Api::<StorageClass>::all(world.client.clone());
    classes.patch(name, &params, &Patch::Apply(class)).await.expect("class");
    let class = name;
    let volumes = Api::<PersistentVolume>::all(world.client.clone());
    for ordinal in 0..4 {
        let name = format!("{}-{ordinal}", world.namespace);
        let claim = json!({ "namespace": world.namespace, "name": format!("data-net-validator-{ordinal}") });
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": name },
            "spec": {
                "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "persistentVolumeReclaimPolicy": "Retain", "claimRef": claim, "hostPath": { "path": "/nowhere" },
            },
        });
        volumes.patch(&name, &params, &Patch::Apply(volume)).await.expect("volume");
    }
}

async fn pods(world: &World) -> BTreeMap<String, Option<String>> {
    let pods = world.api::<Pod>().list(&Default::default()).await.expect("list");
    pods.iter().map(|pod| (pod.name_any(), pod.uid())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_grow_and_no_pod_is_restarted() {
    let world = World::new("grows").await;
    let _kubelet = Kubelet::start(&world, 4).await;
    runs_on_bound_volumes(&world, GROWING).await;
    let claims = world.api::<PersistentVolumeClaim>();
    let before = pods(&world).await;
    world.apply("net", sized("2Gi", GROWING)).await.expect("enlarged");
    wait::until("larger claims and a larger template", || async {
        let list = claims.list(&Default::default()).await.expect("list");
        let mut sizes: Vec<Value> =
            list.iter().map(|c| json!(c)["spec"]["resources"]["requests"]["storage"].clone()).collect();
        let set = world.api::<StatefulSet>().get_opt("net-validator").await.expect("answer");
        sizes.push(json!(set)["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"].clone());
        if sizes == vec![json!("2Gi"); 5] { Ok(()) } else { Err(sizes) }
    })
    .await;
    world.condition("net", "Progressing", "False", "Complete").await;
    assert_eq!(pods(&world).await, before, "the same pods go on");
    remove_volumes(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_cannot_grow_keeps_no_new_image_waiting() {
    let world = World::new("fixed").await;
    let kubelet = Kubelet::start(&world, 4).await;
    runs_on_bound_volumes(&world, FIXED).await;
    kubelet.set_deciding(&world.public_keys("net").await);
    let mut spec = sized("2Gi", FIXED);
    spec["image"] = json!("new");
    world.apply("net", spec).await.expect("enlarged, which the spec can never take back");
    let message = world.condition("net", "Degraded", "True", "GrowFailed").await;
    assert!(message.contains("StorageClass"), "{message}");
    wait::until("all four to have the new image", || async {
        let pods = world.api::<Pod>().list(&Default::default()).await.expect("list");
        let images = pods.iter().filter_map(|pod| pod.spec.as_ref()?.containers.first()?.image.clone());
        let new = images.filter(|image| image == "new").count();
        if new == 4 { Ok(()) } else { Err(new) }
    })
    .await;
    remove_volumes(&world).await;
}

async fn runs_on_bound_volumes(world: &World, class: &str) {
    provide_volumes(world, class).await;
    world.apply("net", sized("1Gi", class)).await.expect("created");
    world.condition("net", "Ready", "True", "Ready").await;
    let claims = world.api::<PersistentVolumeClaim>();
    wait::until("bound claims", || async {
        let list = claims.list(&Default::default()).await.expect("list");
        let bound = list.iter().filter(|c| c.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")).count();
        if bound == 4 { Ok(()) } else { Err(bound) }
    })
    .await;
}

async fn remove_volumes(world: &World) {
    let volumes = Api::<PersistentVolume>::all(world.client.clone());
    for ordinal in 0..4 {
        let name = format!("{}-{ordinal}", world.namespace);
        volumes.delete(&name, &DeleteParams::default()).await.expect("volume deleted");
    }
}
