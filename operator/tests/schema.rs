//! The custom resource definition: what it accepts, what it refuses and in which words, and whether it obeys the API conventions.
//!
//! The rules run here as the API server runs them (kube's CEL); that a real API server agrees is tested in tests/control_plane.

use aitbc_operator::crd::definition::{definition, yaml};
use kube::core::cel::Validator;
use serde_json::{Value, json};

fn schema() -> Value {
    let crd = serde_json::to_value(definition()).expect("json");
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema").expect("a schema").clone()
}

fn network(spec: Value) -> Value {
    json!({
        "apiVersion": "blockchain.aitbc.io/v1alpha1",
        "kind": "BlockchainNetwork",
        "metadata": { "name": "devnet" },
        "spec": spec,
    })
}

/// Messages of the rules that an object, or a change of it, breaks.
fn broken(object: &Value, old: Option<&Value>) -> String {
    match Validator::new().validate(&schema(), object, old) {
        Ok(()) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

fn refused(spec: Value, words: &str) {
    let said = broken(&network(spec.clone()), None);
    assert!(said.contains(words), "{spec}: expected \"{words}\", got \"{said}\"");
}

fn change_refused(old: Value, new: Value, words: &str) {
    let said = broken(&network(new.clone()), Some(&network(old)));
    assert!(said.contains(words), "{new}: expected \"{words}\", got \"{said}\"");
}

fn four() -> Value {
    json!({ "validators": { "replicas": 4 } })
}

fn with(path: &str, value: Value) -> Value {
    let mut spec = four();
    let mut place = &mut spec;
    for part in path.split('.') {
        place = &mut place[part];
    }
    *place = value;
    spec
}

#[test]
fn the_smallest_manifest_is_accepted() {
    assert_eq!(broken(&network(four()), None), "");
}

#[test]
fn every_sample_is_accepted() {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/samples");
    let mut seen = 0;
    for entry in std::fs::read_dir(samples).expect("samples") {
        let text = std::fs::read_to_string(entry.expect("entry").path()).expect("text");
        let object: Value = serde_saphyr::from_str(&text).expect("yaml");
        assert_eq!(broken(&object, None), "");
        let typed: Result<aitbc_operator::crd::BlockchainNetwork, _> = serde_json::from_value(object);
        assert!(typed.is_ok(), "{typed:?}");
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn a_block_time_out_of_bounds_is_refused() {
    for time in ["0s", "99ms", "61m"] {
        refused(with("consensus.blockTime", json!(time)), "consensus.blockTime must be between 100ms and 1h");
    }
    assert_eq!(broken(&network(with("consensus.blockTime", json!("1m30s"))), None), "");
}

#[test]
fn pruning_keeps_all_blocks_or_a_number_that_the_node_accepts() {
    let keep = |blocks: Value| with("pruning", json!({ "mode": "Keep", "keepBlocks": blocks }));
    assert_eq!(broken(&network(keep(json!(aitbc_core::params::MIN_KEEP_BLOCKS))), None), "");
    refused(keep(json!(aitbc_core::params::MIN_KEEP_BLOCKS - 1)), "pruning.keepBlocks must be at least 2064");
    refused(with("pruning", json!({ "mode": "Keep" })), "pruning.keepBlocks is required with pruning.mode Keep");
    refused(with("pruning", json!({ "mode": "Archive", "keepBlocks": 5000 })), "allowed only with it");
    assert_eq!(broken(&network(with("pruning", json!({ "mode": "Archive" }))), None), "");
    assert_eq!(broken(&network(keep(json!(5_000))), Some(&network(four()))), "", "it may change");
}

#[test]
fn a_name_that_is_too_long_or_no_dns_label_is_refused() {
    for name in ["a".repeat(41), "Dev".into(), "a.b".into(), "1a".into(), "a-".into()] {
        let mut object = network(four());
        object["metadata"]["name"] = json!(name);
        assert!(broken(&object, None).contains("metadata.name must be 1 to 40"), "{name}");
    }
}

#[test]
fn the_chain_id_can_not_be_changed_added_or_removed() {
    let named = |id: &str| with("chainID", json!(id));
    change_refused(named("a"), named("b"), "chainID is immutable");
    change_refused(named("a"), four(), "chainID is immutable");
    change_refused(four(), named("a"), "chainID is immutable");
}

#[test]
fn what_genesis_holds_can_not_change() {
    change_refused(four(), with("consensus.mode", json!("pos")), "consensus.mode is immutable");
    change_refused(four(), with("consensus.blockTime", json!("2s")), "consensus.blockTime is immutable");
    change_refused(four(), with("genesis.faucet", json!("Enabled")), "genesis is immutable");
    for (field, value) in [("epochBlocks", 20), ("maxValidators", 50)] {
        let path = format!("consensus.{field}");
        let words = format!("{path} is immutable");
        change_refused(four(), with(&path, json!(value)), &words);
        change_refused(with(&path, json!(value)), four(), &words);
        change_refused(with(&path, json!(value)), with(&path, json!(value + 1)), &words);
        assert_eq!(broken(&network(with(&path, json!(value))), Some(&network(with(&path, json!(value))))), "");
    }
    change_refused(hybrid(json!({})), hybrid(json!({ "minStake": 2_000 })), "consensus.minStake is immutable");
    change_refused(
        hybrid(json!({ "unbondingEpochs": 3 })),
        hybrid(json!({})),
        "consensus.unbondingEpochs is immutable",
    );
    let weights = json!([{ "ordinal": 0, "weight": 2 }]);
    change_refused(four(), with("validators.weights", weights.clone()), "validators.weights is immutable");
    change_refused(with("validators.weights", weights), four(), "validators.weights is immutable");
    let authorities = json!([{ "ordinal": 0 }]);
    change_refused(four(), with("genesis.authorities", authorities), "genesis is immutable");
    change_refused(four(), with("validators.replicas", json!(5)), "validators.replicas is immutable");
    change_refused(four(), with("database.mode", json!("SQLite")), "database.mode is immutable");
    let accounts = json!([{ "address": "0x00000000000000000000000000000000000000a1", "balance": 1 }]);
    change_refused(with("genesis.accounts", accounts), four(), "genesis is immutable");
}

fn hybrid(consensus: Value) -> Value {
    let mut consensus = consensus;
    consensus["mode"] = json!("hybrid");
    with("consensus", consensus)
}

#[test]
fn stakes_belong_to_the_modes_that_have_them() {
    for (field, value) in [("minStake", 2_000), ("unbondingEpochs", 3)] {
        refused(with(&format!("consensus.{field}"), json!(value)), "allowed only with consensus.mode pos or hybrid");
        assert_eq!(broken(&network(hybrid(json!({ field: value }))), None), "");
    }
}

#[test]
fn authorities_and_weights_name_validators_of_the_network() {
    let authorities = |ordinals: &[i32]| {
        let named: Vec<Value> = ordinals.iter().map(|ordinal| json!({ "ordinal": ordinal })).collect();
        with("genesis.authorities", json!(named))
    };
    assert_eq!(broken(&network(authorities(&[0, 1, 3])), None), "");
    assert_eq!(broken(&network(authorities(&[])), None), "");
    refused(authorities(&[0, 4]), "genesis.authorities must name validators: ordinals 0 to validators.replicas - 1");
    let weighing = |spec: Value, ordinal: i32| {
        let mut spec = spec;
        spec["validators"]["weights"] = json!([{ "ordinal": ordinal, "weight": 2_000 }]);
        spec
    };
    assert_eq!(broken(&network(weighing(four(), 3)), None), "");
    assert_eq!(broken(&network(weighing(authorities(&[0, 1]), 1)), None), "");
    refused(weighing(four(), 4), "validators.weights must name validators: ordinals 0 to validators.replicas - 1");
    refused(weighing(authorities(&[0, 1]), 2), "validators.weights must name only those of genesis.authorities");
}

#[test]
fn a_stake_at_genesis_is_at_least_the_least_one() {
    let staking = |consensus: Value, weight: i64| {
        let mut spec = hybrid(consensus);
        spec["validators"]["weights"] = json!([{ "ordinal": 0, "weight": weight }]);
        spec
    };
    assert_eq!(broken(&network(staking(json!({}), 1_000)), None), "");
    assert_eq!(broken(&network(staking(json!({ "minStake": 10 }), 10)), None), "");
    refused(staking(json!({}), 999), "each must be at least consensus.minStake");
    refused(staking(json!({ "minStake": 10 }), 9), "each must be at least consensus.minStake");
    let mut light = four();
    light["validators"]["weights"] = json!([{ "ordinal": 0, "weight": 1 }]);
    assert_eq!(broken(&network(light), None), "", "in poa it is voting power");
}

#[test]
fn the_set_has_room_for_the_validators_of_genesis() {
    refused(
        with("consensus.maxValidators", json!(3)),
        "consensus.maxValidators must be at least the number of validators",
    );
    assert_eq!(broken(&network(with("consensus.maxValidators", json!(4))), None), "");
    let mut spec = with("consensus.maxValidators", json!(3));
    spec["genesis"]["authorities"] = json!([{ "ordinal": 0 }, { "ordinal": 1 }, { "ordinal": 2 }]);
    assert_eq!(broken(&network(spec), None), "");
}

#[test]
fn receipts_can_be_attested_and_expire_within_ten_years() {
    let receipts = |threshold: i32, expiry: &str| {
        let coordinators = json!([{ "publicKey": "a".repeat(64) }, { "publicKey": "b".repeat(64) }]);
        with(
            "genesis.receipts",
            json!({ "mintPerUnit": 1, "coordinators": coordinators, "coordinatorThreshold": threshold, "expiry": expiry }),
        )
    };
    assert_eq!(broken(&network(receipts(2, "168h")), None), "");
    refused(receipts(3, "168h"), "coordinatorThreshold must be at most the number of coordinators");
    for expiry in ["0s", "87601h"] {
        refused(receipts(1, expiry), "genesis.receipts.expiry must be between 1s and 87600h");
    }
}

#[test]
fn volumes_only_grow() {
    let sized = |size: &str| with("validators.storage.size", json!(size));
    change_refused(sized("10Gi"), sized("9Gi"), "storage.size can only grow");
    assert_eq!(broken(&network(sized("20Gi")), Some(&network(sized("10Gi")))), "");
    change_refused(
        sized("10Gi"),
        with("validators.storage.storageClassName", json!("fast")),
        "storageClassName is immutable",
    );
    refused(sized("0"), "storage.size must be a quantity greater than 0");
}

fn provided(secrets: Value) -> Value {
    with("validators.keys", json!({ "policy": "Provided", "secrets": secrets }))
}

#[test]
fn provided_keys_are_one_for_each_validator_and_none_twice() {
    let secret = |ordinal: i32, name: &str| json!({ "ordinal": ordinal, "name": name });
    let good = json!([secret(0, "a"), secret(1, "b"), secret(2, "c"), secret(3, "d")]);
    assert_eq!(broken(&network(provided(good)), None), "");
    let twice = json!([secret(0, "a"), secret(1, "b"), secret(2, "c"), secret(3, "a")]);
    refused(provided(twice), "validators.keys.secrets must not name the same Secret and key twice");
    refused(provided(json!([secret(0, "a")])), "validators.keys.secrets must name one Secret for each validator");
    let generated = json!({ "policy": "Generate", "secrets": [secret(0, "a")] });
    refused(with("validators.keys", generated), "validators.keys.secrets is allowed only with");
}

#[test]
fn database_settings_belong_to_their_mode() {
    refused(with("database", json!({ "mode": "External" })), "database.external is required");
    refused(with("database", json!({ "mode": "SQLite", "postgres": {} })), "database.postgres is allowed only");
    let secrets: Vec<Value> = (0..4).map(|i| json!({ "ordinal": i, "name": "one" })).collect();
    let external = json!({ "mode": "External", "external": { "secrets": secrets } });
    refused(with("database", external), "database.external.secrets must not name the same Secret and key twice");
    let unsafe_ = json!({ "mode": "Postgres", "postgres": { "parameters": [{ "name": "fsync", "value": "off" }] } });
    refused(with("database", unsafe_), "database.postgres.parameters must not set fsync");
}

#[test]
fn settings_that_the_operator_owns_are_refused() {
    for name in ["GENESIS_FILE", "FIRST_START_FILE"] {
        let env = json!([{ "name": name, "value": "/tmp/mine" }]);
        refused(with("validators.pod.env", env), "validators.pod.env must not set what the operator sets");
    }
}

#[test]
fn bounds_and_enums_are_in_the_schema() {
    let schema = schema();
    let at = |path: &str| schema.pointer(&format!("/properties/spec/properties/{path}")).cloned().unwrap_or_default();
    assert_eq!(at("validators/properties/replicas/minimum"), json!(1.0));
    assert_eq!(at("validators/properties/replicas/maximum"), json!(100.0));
    assert_eq!(at("consensus/properties/mode/enum"), json!(["poa", "pos", "hybrid"]));
    assert_eq!(at("consensus/properties/epochBlocks/maximum"), json!(2_000.0));
    assert_eq!(at("validators/properties/weights/items/properties/weight/maximum"), json!(20_000_000.0));
    assert_eq!(at("genesis/properties/receipts/properties/coordinators/maxItems"), json!(16));
    assert_eq!(at("database/properties/mode/enum"), json!(["Postgres", "External", "SQLite"]));
}

#[test]
fn the_committed_definitions_are_the_generated_one() {
    let generated = yaml().expect("yaml");
    for copy in ["crds/blockchainnetworks.yaml", "charts/aitbc/files/crd.yaml", "manifests/base/crd.yaml"] {
        let path = format!("{}/../{copy}", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(&path).expect("committed definition");
        assert!(committed == generated, "{copy} is stale: run `make generate`");
    }
}

/// Fields whose schema is Kubernetes' own: bounded there, or not at all, by its own conventions.
const UPSTREAM: [&str; 6] =
    ["resources", "tolerations", "affinity", "topologySpreadConstraints", "conditions", "metadata"];

/// The rules of kube-api-linter that we keep, over our own fields.
fn lint(path: &str, schema: &Value, found: &mut Vec<String>) {
    let is = |kind: &str| schema["type"] == kind;
    let mut say = |what: &str| found.push(format!("{path}: {what}"));
    if schema.get("nullable").is_some() {
        say("nullable: an optional field is absent, never null");
    }
    if is("boolean") {
        say("a boolean: use an enum");
    }
    if is("number") {
        say("a float");
    }
    if schema.get("format").is_some_and(|format| format.as_str().is_some_and(|f| f.starts_with("uint"))) {
        say("an unsigned format");
    }
    if schema.get("description").is_none() && !path.ends_with("[]") && !path.ends_with("{}") {
        say("no description for kubectl explain");
    }
    let spec = path.starts_with(".spec");
    if spec
        && is("string")
        && schema.get("maxLength").is_none()
        && schema.get("enum").is_none()
        && !path.ends_with("{}")
    {
        say("an unbounded string");
    }
    if is("array") && schema.get("maxItems").is_none() {
        say("an unbounded list");
    }
    let of_objects = schema["items"]["type"] == "object";
    if is("array") && of_objects && schema.get("x-kubernetes-list-type").is_none() {
        say("a list of objects without a list type: server-side apply would replace it whole");
    }
    if path.ends_with(".phase") {
        say("a phase: use conditions");
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        if !UPSTREAM.contains(&name.as_str()) {
            lint(&format!("{path}.{name}"), child, found);
        }
    }
    if schema["items"].is_object() {
        lint(&format!("{path}[]"), &schema["items"], found);
    }
    if schema["additionalProperties"].is_object() {
        if schema.get("maxProperties").is_none() {
            found.push(format!("{path}: an unbounded map"));
        }
        if schema["additionalProperties"]["type"] == "object" {
            found.push(format!("{path}: a map of objects: use a named list"));
        }
    }
}

#[test]
fn the_definition_obeys_the_api_conventions() {
    let schema = schema();
    let mut found = Vec::new();
    for part in ["spec", "status"] {
        lint(&format!(".{part}"), &schema["properties"][part], &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
