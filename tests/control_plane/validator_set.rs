//! What the chain says of its validators is shown in status and told in events: who comes in, is jailed, slashed.

use crate::kubelet::Kubelet;
use crate::wait;
use crate::world::{World, with};
use aitbc_operator::crd::status::{JailCause, ValidatorState, ValidatorStatus};
use serde_json::{Value, json};

const STAKE: i64 = 1_000;

/// Five pods, of which the first four decide from the beginning.
fn hybrid() -> Value {
    let mut spec = with("consensus.mode", json!("hybrid"));
    spec["validators"]["replicas"] = json!(5);
    spec["genesis"]["authorities"] = json!([{ "ordinal": 0 }, { "ordinal": 1 }, { "ordinal": 2 }, { "ordinal": 3 }]);
    spec
}

/// What nodes say where the first so many of these keys decide, and the chain knows this of the last one.
fn set(epoch: i64, keys: &[String], deciding: usize, of_the_last: &Value) -> Value {
    let deciding = keys.get(..deciding).expect("enough");
    let member = |key: &String| json!({ "address": "", "public_key": key, "weight": STAKE, "connected": true });
    let next = |key: &String| json!({ "key": key, "weight": STAKE });
    let mut candidates: Vec<Value> =
        keys.iter().map(|key| json!({ "public_key": key, "stake": STAKE, "admitted": true })).collect();
    let last = candidates.last_mut().and_then(Value::as_object_mut).expect("some");
    last.extend(of_the_last.as_object().expect("fields").clone());
    let (validators, next): (Vec<_>, Vec<_>) = deciding.iter().map(|key| (member(key), next(key))).unzip();
    json!({ "epoch": epoch, "validators": validators, "next": next, "candidates": candidates })
}

async fn fifth(world: &World, what: &str, holds: impl Fn(&ValidatorStatus) -> bool) {
    wait::until(what, || async {
        let status = world.network("net").await.status.unwrap_or_default();
        let found = status.validator_statuses.into_iter().find(|validator| validator.ordinal == 4);
        if found.as_ref().is_some_and(&holds) { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_into_the_set_and_is_jailed_and_slashed_is_shown_and_told() {
    let world = World::new("set").await;
    let kubelet = Kubelet::start(&world, 5).await;
    kubelet.set_weight(4, 0);
    world.apply("net", hybrid()).await.expect("created");
    world.condition("net", "Ready", "True", "Ready").await;
    let keys = world.public_keys("net").await;
    assert_eq!(keys.len(), 5);

    kubelet.set_validators(&set(3, &keys, 4, &json!({ "stake": 0, "admitted": false })));
    world.condition("net", "ValidatorSetSynced", "False", "ValidatorsOutside").await;
    fifth(&world, "the candidate", |v| v.state == ValidatorState::Candidate && v.weight == Some(0)).await;

    kubelet.set_validators(&set(5, &keys, 5, &json!({})));
    world.condition("net", "ValidatorSetSynced", "True", "Synced").await;
    fifth(&world, "the member", |v| v.state == ValidatorState::Active && v.on_chain.stake == Some(STAKE)).await;
    let note = world.told("ValidatorJoined").await;
    assert!(note.contains("net-validator-4") && note.contains("epoch 5"), "{note}");

    let convicted = json!({ "stake": 950, "admitted": false, "jailed_until": 5, "jailed_for": "double_signing" });
    kubelet.set_validators(&set(5, &keys, 5, &convicted));
    world.condition("net", "Degraded", "True", "ValidatorJailed").await;
    fifth(&world, "the convict", |v| {
        let jailed = v.on_chain.jailed_for == Some(JailCause::DoubleSigning);
        v.state == ValidatorState::Jailed && jailed && v.on_chain.stake == Some(950)
    })
    .await;
    assert!(world.told("ValidatorJailed").await.contains("net-validator-4"));
    let note = world.told("ValidatorSlashed").await;
    assert!(note.contains("from 1000 to 950"), "{note}");

    kubelet.set_validators(&set(7, &keys, 4, &convicted));
    let note = world.told("ValidatorLeft").await;
    assert!(note.contains("net-validator-4") && note.contains("epoch 7"), "{note}");
}
