//! A changed image restarts one validator at a time, and the next only after the last one signed again.

use crate::kubelet::Kubelet;
use crate::wait;
use crate::world::{World, nowhere, with};
use aitbc_operator::crd::status::OperationStep;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Images of the pods that are there.
async fn images(world: &World) -> Vec<String> {
    let pods = world.api::<Pod>().list(&Default::default()).await.expect("list");
    let there = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    there.filter_map(|pod| pod.spec.as_ref()?.containers.first()?.image.clone()).collect()
}

async fn at_most_one_is_missing(world: &World) -> Result<usize, String> {
    let images = images(world).await;
    if images.len() < 3 {
        Err(format!("{images:?}"))
    } else {
        Ok(images.iter().filter(|image| *image == "new").count())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_image_rolls_one_validator_at_a_time() {
    let world = World::new("rolls").await;
    let kubelet = Kubelet::start(&world, 4).await;
    world.apply("net", nowhere()).await.expect("created");
    world.condition("net", "Ready", "True", "Ready").await;
    kubelet.set_deciding(&world.public_keys("net").await);
    world.apply("net", with("image", json!("new"))).await.expect("changed");
    wait::until("all four to have the new image", || async {
        let updated = at_most_one_is_missing(&world).await.expect("never two down");
        if updated == 4 { Ok(()) } else { Err(updated) }
    })
    .await;
    world.condition("net", "Progressing", "False", "Complete").await;
    assert_eq!(world.network("net").await.status.and_then(|status| status.operation), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_waits_until_the_last_one_signed_also_across_a_restart_of_the_operator() {
    let mut world = World::new("signs").await;
    let kubelet = Kubelet::start(&world, 4).await;
    world.apply("net", nowhere()).await.expect("created");
    world.condition("net", "Ready", "True", "Ready").await;
    kubelet.set_deciding(&world.public_keys("net").await);
    kubelet.newcomers_sign.store(false, Ordering::SeqCst);
    world.apply("net", with("image", json!("new"))).await.expect("changed");
    wait::until("the first successor to be ready without signing", || async {
        let operation = world.network("net").await.status.and_then(|status| status.operation);
        match operation {
            Some(operation) if operation.step == OperationStep::Signing => Ok(()),
            other => Err(other),
        }
    })
    .await;
    world.stop_operator().await;
    world.start_operator();
    wait::stays("only one validator is restarted", Duration::from_secs(3), || async {
        match at_most_one_is_missing(&world).await? {
            1 => Ok(()),
            updated => Err(format!("{updated} updated")),
        }
    })
    .await;
    let operation = world.network("net").await.status.and_then(|status| status.operation).expect("still in flight");
    assert_eq!(operation.target, "net-validator-3");
    kubelet.newcomers_sign.store(true, Ordering::SeqCst);
    wait::until("the roll-out to go on", || async {
        let updated = at_most_one_is_missing(&world).await.expect("never two down");
        if updated == 4 { Ok(()) } else { Err(updated) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_never_ran_are_replaced_at_once_when_the_image_is_mended() {
    let world = World::new("mends").await;
    // Nobody plays the kubelet: these pods never run.
    world.apply("net", with("image", json!("broken"))).await.expect("created");
    wait::until("four pods", || async {
        let images = images(&world).await;
        if images.len() == 4 { Ok(()) } else { Err(images) }
    })
    .await;
    world.apply("net", with("image", json!("mended"))).await.expect("changed");
    wait::until("four mended pods", || async {
        let images = images(&world).await;
        if images == ["mended"; 4] { Ok(()) } else { Err(images) }
    })
    .await;
    let pods = world.api::<Pod>().list(&Default::default()).await.expect("list");
    assert!(pods.iter().all(|pod| pod.name_any().starts_with("net-validator-")));
}
