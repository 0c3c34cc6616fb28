//! Keys: a missing Secret is a condition that heals, and a key is never made anew.

use crate::wait;
use crate::world::{World, nowhere, with};
use aitbc_core::key::SecretKey;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

async fn bring(world: &World, ordinal: u8) {
    let pem = SecretKey::from_seed([ordinal + 1; 32]).to_pkcs8_pem();
    let mut secret = Secret::default();
    secret.metadata.name = Some(format!("own-{ordinal}"));
    secret.data = Some([("ed25519.pem".to_owned(), ByteString(pem.into_bytes()))].into());
    world.api::<Secret>().create(&PostParams::default(), &secret).await.expect("Secret created");
}

fn provided() -> Value {
    let secrets: Vec<Value> = (0..4).map(|i| json!({ "ordinal": i, "name": format!("own-{i}") })).collect();
    with("validators.keys", json!({ "policy": "Provided", "secrets": secrets }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_provided_secret_is_a_condition_and_heals_when_it_appears() {
    let world = World::new("byo").await;
    for ordinal in 0..3 {
        bring(&world, ordinal).await;
    }
    world.apply("net", provided()).await.expect("created");
    let message = world.condition("net", "KeysReady", "False", "KeyMissing").await;
    assert!(message.contains("\"own-3\""), "{message}");
    assert!(world.names::<StatefulSet>().await.is_empty(), "no validator starts before all keys are there");
    bring(&world, 3).await;
    world.condition("net", "KeysReady", "True", "KeysReady").await;
    wait::until("the validators", || async { world.api::<StatefulSet>().get("net-validator").await.map(drop) }).await;
    let copy = world.api::<Secret>().get("net-validator-3-key").await.expect("copied in");
    let address = SecretKey::from_seed([4; 32]).public().address().to_string();
    assert_eq!(copy.data.expect("data")["address"], ByteString(address.into_bytes()));
    assert_eq!(copy.immutable, Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_secret_comes_back_with_the_same_key() {
    let world = World::new("restore").await;
    world.apply("net", nowhere()).await.expect("created");
    let secrets = world.api::<Secret>();
    wait::until("the mounted copy", || async { secrets.get("net-validator-keys").await.map(drop) }).await;
    let before = secrets.get("net-validator-2-key").await.expect("key");
    secrets.delete("net-validator-2-key", &DeleteParams::default()).await.expect("deleted");
    let after = wait::until("the key to come back", || async {
        let found = secrets.get("net-validator-2-key").await.map_err(|error| error.to_string())?;
        if found.uid() == before.uid() { Err("the old one".to_owned()) } else { Ok(found) }
    })
    .await;
    assert_eq!(after.data, before.data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_is_reported_and_not_replaced() {
    let mut world = World::new("lost").await;
    world.apply("net", nowhere()).await.expect("created");
    let secrets = world.api::<Secret>();
    wait::until("the mounted copy", || async { secrets.get("net-validator-keys").await.map(drop) }).await;
    world.condition("net", "GenesisReady", "True", "GenesisReady").await;
    // Both copies go while nobody watches.
    world.stop_operator().await;
    for name in ["net-validator-2-key", "net-validator-keys"] {
        secrets.delete(name, &DeleteParams::default()).await.expect("deleted");
    }
    world.start_operator();
    let message = world.condition("net", "KeysReady", "False", "KeyMissing").await;
    assert!(message.contains("net-validator-2-key") && message.contains("backup"), "{message}");
    world.more_visits(3).await;
    assert!(secrets.get_opt("net-validator-2-key").await.expect("answer").is_none());
}
