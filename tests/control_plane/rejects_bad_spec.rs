//! The API server refuses what cannot work, and its message names the field and the rule.

use crate::world::{World, nowhere, with};
use serde_json::{Value, json};

async fn refused(world: &World, spec: Value, words: &[&str]) {
    let error = world.apply("bad", spec.clone()).await.expect_err("refused").to_string();
    for word in words {
        assert!(error.contains(word), "{spec}\nexpected \"{word}\" in: {error}");
    }
}

/// Mode pos, with a stake of this size.
fn stakes(weight: i64) -> Value {
    let mut spec = with("consensus.mode", json!("pos"));
    spec["validators"]["weights"] = json!([{ "ordinal": 0, "weight": weight }]);
    spec
}

/// Receipts that one coordinator attests.
fn receipts(threshold: i32, expiry: &str) -> Value {
    let coordinators = json!([{ "publicKey": "a".repeat(64) }]);
    let terms =
        json!({ "mintPerUnit": 1, "coordinators": coordinators, "coordinatorThreshold": threshold, "expiry": expiry });
    with("genesis.receipts", terms)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_names_field_and_rule() {
    let world = World::without_operator("rejects").await;
    let secret = |ordinal: i32, name: &str| json!({ "ordinal": ordinal, "name": name });
    let twice = json!([secret(0, "a"), secret(1, "b"), secret(2, "c"), secret(3, "a")]);
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (with("validators.replicas", json!(0)), vec!["spec.validators.replicas", "greater than or equal to 1"]),
        (with("validators.replicas", json!(101)), vec!["spec.validators.replicas", "less than or equal to 100"]),
        (with("consensus.blockTime", json!("0s")), vec!["consensus.blockTime", "between 100ms and 1h"]),
        (with("consensus.mode", json!("pow")), vec!["spec.consensus.mode", "supported values: \"poa\""]),
        (with("database.mode", json!("MySQL")), vec!["spec.database.mode", "supported values: \"Postgres\""]),
        (
            with("validators.keys", json!({ "policy": "Provided", "secrets": twice })),
            vec!["validators.keys.secrets", "same Secret and key twice"],
        ),
        (with("chainID", json!("Not-A-Name")), vec!["spec.chainID", "should match"]),
        (with("validators.storage.size", json!("0")), vec!["storage.size", "greater than 0"]),
        (with("pruning", json!({ "mode": "Keep" })), vec!["pruning.keepBlocks is required"]),
        (with("pruning", json!({ "mode": "Keep", "keepBlocks": 100 })), vec!["keepBlocks", "at least 2064"]),
        (with("database", json!({ "mode": "External" })), vec!["database.external is required"]),
        (with("consensus.epochBlocks", json!(2_001)), vec!["spec.consensus.epochBlocks", "less than or equal to 2000"]),
        (with("consensus.minStake", json!(5)), vec!["consensus.minStake", "only with consensus.mode pos or hybrid"]),
        (with("consensus.maxValidators", json!(3)), vec!["consensus.maxValidators must be at least"]),
        (with("genesis.authorities", json!([{ "ordinal": 4 }])), vec!["genesis.authorities must name validators"]),
        (
            with("genesis.authorities", json!([{ "ordinal": 1 }, { "ordinal": 1 }])),
            vec!["genesis.authorities", "duplicate entries"],
        ),
        (with("validators.weights", json!([{ "ordinal": 4, "weight": 1 }])), vec!["validators.weights must name"]),
        (
            with("validators.weights", json!([{ "ordinal": 0, "weight": 0 }])),
            vec!["weight", "greater than or equal to 1"],
        ),
        (stakes(999), vec!["each must be at least consensus.minStake"]),
        (receipts(2, "168h"), vec!["coordinatorThreshold must be at most the number"]),
        (receipts(1, "0s"), vec!["genesis.receipts.expiry must be between"]),
    ];
    for (spec, words) in cases {
        refused(&world, spec, &words).await;
    }
    for (name, spec) in [("stakes", stakes(1_000)), ("receipts", receipts(1, "168h"))] {
        world.apply(name, spec).await.expect("at the bound it is taken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chain_began_with_can_not_change() {
    let world = World::without_operator("immutable").await;
    world.apply("bad", with("validators.storage.size", json!("2Gi"))).await.expect("created");
    let sized = |path: &str, value: Value| {
        let mut spec = with(path, value);
        if spec["validators"].get("storage").is_none() {
            spec["validators"]["storage"] = json!({ "size": "2Gi" });
        }
        spec
    };
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (sized("chainID", json!("other")), vec!["chainID is immutable"]),
        (sized("consensus.blockTime", json!("2s")), vec!["consensus.blockTime is immutable"]),
        (sized("genesis.faucet", json!("Enabled")), vec!["genesis is immutable"]),
        (sized("genesis.authorities", json!([{ "ordinal": 0 }])), vec!["genesis is immutable"]),
        (sized("consensus.epochBlocks", json!(20)), vec!["consensus.epochBlocks is immutable"]),
        (sized("consensus.maxValidators", json!(20)), vec!["consensus.maxValidators is immutable"]),
        (sized("validators.weights", json!([{ "ordinal": 0, "weight": 2 }])), vec!["validators.weights is immutable"]),
        (sized("validators.replicas", json!(5)), vec!["validators.replicas is immutable"]),
        (sized("database.mode", json!("SQLite")), vec!["database.mode is immutable"]),
        (sized("validators.storage.size", json!("1Gi")), vec!["storage.size can only grow"]),
    ];
    for (spec, words) in cases {
        refused(&world, spec, &words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_from_which_no_pod_name_can_be_made_is_refused() {
    let world = World::without_operator("names").await;
    for name in ["a".repeat(41), "a.b".to_owned(), "1a".to_owned()] {
        let error = world.apply(&name, nowhere()).await.expect_err("refused").to_string();
        assert!(error.contains("metadata.name must be 1 to 40"), "{error}");
    }
}
