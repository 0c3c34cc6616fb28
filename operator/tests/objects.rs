//! Every object that is built for the samples, compared with golden files. `UPDATE_GOLDEN=1` writes them anew.
//!
//! Genesis is left out: its text belongs to the chain's own tests, and a new default there is no change of ours.

use aitbc_core::genesis::Genesis;
use aitbc_core::key::SecretKey;
use aitbc_operator::crd::BlockchainNetwork;
use aitbc_operator::desired::{self, Objects, Parts, keys};
use aitbc_operator::names::{self, Identity};
use aitbc_operator::observe::{Observed, SyncStatus, SyncValidator, VotingState};
use aitbc_operator::plan;
use aitbc_operator::validate::{self, Defaults, Validated, keys::ValidatorKey};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{ApiResource, GroupVersionKind};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;

fn path(inner: &str) -> String {
    format!("{}/{inner}", env!("CARGO_MANIFEST_DIR"))
}

fn sample(name: &str) -> BlockchainNetwork {
    let text = std::fs::read_to_string(path(&format!("../manifests/samples/{name}.yaml"))).expect("sample");
    let mut network: BlockchainNetwork = serde_saphyr::from_str(&text).expect("a network");
    network.metadata.namespace = Some("chains".into());
    network.metadata.uid = Some("00000000-0000-0000-0000-000000000001".into());
    network
}

fn monitors() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor"))
}

/// A cluster that holds the keys of the network and the Secrets it names, and whose validators may vote.
fn cluster(network: &BlockchainNetwork) -> Observed {
    let identity = Identity {
        name: network.name_any(),
        namespace: network.namespace().unwrap_or_default(),
        uid: network.uid().unwrap_or_default(),
    };
    let mut observed = Observed { monitors: Some(monitors()), ..Observed::default() };
    for ordinal in 0..network.spec.validators.replicas {
        let secret = SecretKey::from_seed([u8::try_from(ordinal).expect("few"); 32]);
        let key = ValidatorKey { public: secret.public(), pem: secret.to_pkcs8_pem() };
        observed.key_secrets.insert(ordinal, keys::build(&identity, ordinal, &key));
        observed.provided_keys.insert(ordinal, Some(key.pem));
        // No first start is asserted, then: golden files hold no hash of genesis.
        observed.sync.insert(ordinal, voting_state(VotingState::Voting));
        let url = format!("postgresql://v:secret@postgres-{ordinal}.databases:5433/chain");
        observed.database_urls.insert(ordinal, Some(url));
    }
    observed
}

fn voting_state(voting_state: VotingState) -> SyncStatus {
    let validator = SyncValidator { voting_state, ..SyncValidator::default() };
    SyncStatus { validator: Some(validator), ..SyncStatus::default() }
}

fn validated(network: &BlockchainNetwork, observed: &Observed) -> Validated {
    validate::validate(network, observed, &Defaults { node_image: "aitbc/blockchain-node:1.2.3".into() })
}

fn objects(network: &BlockchainNetwork, observed: &Observed) -> Objects {
    let validated = validated(network, observed);
    let parts = Parts::of(&validated).unwrap_or_else(|| panic!("something waits: {validated:?}"));
    let plan = plan::plan(&validated, observed, None, None);
    desired::desired(&validated, parts, &plan, observed.monitors.as_ref())
}

fn document(object: &impl Serialize, kind: &str, version: &str) -> Value {
    let mut value = serde_json::to_value(object).expect("json");
    (value["apiVersion"], value["kind"]) = (version.into(), kind.into());
    value
}

fn of<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Value {
    document(object, &K::kind(&()), &K::api_version(&()))
}

fn render(objects: &Objects) -> String {
    let Objects {
        genesis: _,
        service_account,
        mounted_keys,
        mounted_databases,
        peers,
        rpc,
        disruption_budget,
        network_policy,
        service_monitor,
        stateful_set,
    } = objects;
    let mut all = vec![of(service_account), of(mounted_keys), of(peers), of(rpc), of(disruption_budget)];
    all.extend(mounted_databases.as_ref().map(of));
    all.extend(network_policy.as_ref().map(of));
    all.extend(service_monitor.as_ref().map(|m| document(m, "ServiceMonitor", "monitoring.coreos.com/v1")));
    all.push(of(stateful_set));
    let texts = all.iter().map(|value| serde_saphyr::to_string(value).expect("yaml"));
    texts.collect::<Vec<_>>().join("---\n")
}

fn check(name: &str) {
    let network = sample(name);
    let rendered =
        format!("# Objects of manifests/samples/{name}.yaml.\n{}", render(&objects(&network, &cluster(&network))));
    let golden = path(&format!("tests/golden/{name}.yaml"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &rendered).expect("golden file written");
    }
    let expected = std::fs::read_to_string(&golden).expect("golden file");
    assert!(rendered == expected, "{name} differs from its golden file; UPDATE_GOLDEN=1 writes it, git diff shows it");
}

#[test]
fn a_devnet_with_postgres_sidecars() {
    check("devnet");
}

#[test]
fn a_network_with_keys_of_its_own() {
    check("bring-your-own-keys");
}

#[test]
fn a_network_on_external_databases() {
    check("external-postgres");
}

#[test]
fn a_hybrid_network_with_a_fifth_validator_that_may_come_in() {
    check("hybrid");
}

#[test]
fn the_same_spec_and_observation_give_the_same_objects() {
    let network = sample("devnet");
    let observed = cluster(&network);
    assert_eq!(render(&objects(&network, &observed)), render(&objects(&network, &observed)));
}

#[test]
fn how_many_blocks_are_kept_reaches_the_node_and_archive_needs_no_word() {
    let value = |pruning: Value| {
        let mut network = sample("devnet");
        network.spec.pruning = serde_json::from_value(pruning).expect("pruning");
        let set = objects(&network, &cluster(&network)).stateful_set;
        let pod = set.spec.expect("spec").template.spec.expect("pod");
        let variables = pod.containers.into_iter().flat_map(|container| container.env.unwrap_or_default());
        variables.into_iter().find(|variable| variable.name == "PRUNING").and_then(|variable| variable.value)
    };
    assert_eq!(value(serde_json::json!({ "mode": "Keep", "keepBlocks": 5_000 })).as_deref(), Some("5000"));
    assert_eq!(value(serde_json::json!({})), None);
}

#[test]
fn the_node_is_told_the_mode_that_genesis_has() {
    for name in ["devnet", "hybrid"] {
        let network = sample(name);
        let observed = cluster(&network);
        let genesis =
            Genesis::from_json(&validated(&network, &observed).genesis.expect("genesis").json).expect("valid");
        let set = objects(&network, &observed).stateful_set;
        let pod = set.spec.and_then(|spec| spec.template.spec).expect("a pod");
        let mode = pod.containers[0].env.iter().flatten().find(|variable| variable.name == "CONSENSUS_MODE");
        assert_eq!(mode.and_then(|variable| variable.value.as_deref()), Some(genesis.mode.name()), "{name}");
    }
}

#[test]
fn drains_take_as_many_as_the_chain_can_spare() {
    let budget = |spec: Value| {
        let mut network = sample("hybrid");
        network.spec.validators.weights = serde_json::from_value(spec).expect("weights");
        let budget = objects(&network, &cluster(&network)).disruption_budget.spec.expect("spec");
        budget.max_unavailable
    };
    let seven = || {
        let mut network = sample("devnet");
        network.spec.validators.replicas = 7;
        objects(&network, &cluster(&network)).disruption_budget.spec.expect("spec").max_unavailable
    };
    assert_eq!(seven(), Some(IntOrString::Int(2)));
    assert_eq!(budget(serde_json::json!([])), Some(IntOrString::Int(1)));
    let heavy = serde_json::json!([{ "ordinal": 0, "weight": 20_000 }]);
    assert_eq!(budget(heavy), Some(IntOrString::Int(1)), "none can be spared, and a drain must not hang for ever");
}

#[test]
fn every_container_is_restricted_and_has_a_read_only_root() {
    for name in ["devnet", "bring-your-own-keys", "external-postgres"] {
        let network = sample(name);
        let set = objects(&network, &cluster(&network)).stateful_set;
        let pod = set.spec.expect("spec").template.spec.expect("pod");
        let security = pod.security_context.expect("security context");
        assert_eq!(security.run_as_non_root, Some(true));
        assert_eq!(security.seccomp_profile.map(|profile| profile.type_), Some("RuntimeDefault".into()));
        for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
            let own = container.security_context.as_ref().expect("security context");
            assert_eq!(own.allow_privilege_escalation, Some(false), "{}", container.name);
            assert_eq!(own.read_only_root_filesystem, Some(true), "{}", container.name);
            let dropped = own.capabilities.as_ref().and_then(|c| c.drop.clone());
            assert_eq!(dropped, Some(vec!["ALL".to_owned()]), "{}", container.name);
        }
    }
}

#[test]
fn keys_and_genesis_have_no_owner_so_garbage_collection_cannot_take_them() {
    let network = sample("devnet");
    let observed = cluster(&network);
    for secret in observed.key_secrets.values() {
        assert_eq!(secret.metadata.owner_references, None);
        assert_eq!(secret.immutable, Some(true));
    }
    let genesis = objects(&network, &observed).genesis.expect("a new chain");
    assert_eq!(genesis.metadata.owner_references, None);
    assert_eq!(genesis.immutable, Some(true));
}

#[test]
fn no_environment_variable_or_argument_holds_a_secret() {
    let network = sample("external-postgres");
    let set = objects(&network, &cluster(&network)).stateful_set;
    let text = serde_json::to_string(&set).expect("json");
    assert!(!text.contains("secret@") && !text.contains("PRIVATE KEY"));
}

#[test]
fn a_hibernated_network_keeps_its_objects_and_has_no_pods() {
    let mut network = sample("devnet");
    network.spec.suspend = aitbc_operator::crd::Suspend::Hibernated;
    let set = objects(&network, &cluster(&network)).stateful_set;
    assert_eq!(set.spec.and_then(|spec| spec.replicas), Some(0));
}

#[test]
fn a_new_restart_annotation_or_database_address_changes_the_template() {
    let network = sample("external-postgres");
    let observed = cluster(&network);
    let template = |network: &BlockchainNetwork, observed: &Observed| {
        objects(network, observed).stateful_set.spec.map(|spec| spec.template)
    };
    let before = template(&network, &observed);
    let mut restarted = network.clone();
    restarted.annotations_mut().insert(names::RESTART_ANNOTATION.into(), "2026-01-01T00:00:00Z".into());
    assert_ne!(template(&restarted, &observed), before);
    let mut moved = observed.clone();
    moved.database_urls.insert(2, Some("postgresql://v:secret@elsewhere/chain".into()));
    assert_ne!(template(&network, &moved), before);
}

fn first_starts(objects: &Objects) -> Vec<(String, String)> {
    let entries = objects.mounted_keys.data.iter().flatten().filter(|(name, _)| name.ends_with(".first-start"));
    entries.map(|(name, text)| (name.clone(), String::from_utf8(text.0.clone()).expect("text"))).collect()
}

#[test]
fn a_first_start_is_asserted_to_each_pod_and_taken_back_without_restarting_it() {
    let network = sample("devnet");
    let mut observed = cluster(&network);
    observed.sync.clear();
    let hash = validated(&network, &observed).genesis.expect("genesis").hash;
    let entry = |i: i32, text: &str| (format!("devnet-validator-{i}.first-start"), text.to_owned());
    let asserted = objects(&network, &observed);
    assert_eq!(first_starts(&asserted), [0, 1, 2, 3].map(|i| entry(i, &hash)));
    observed.sync.insert(1, voting_state(VotingState::Voting));
    let taken_back = objects(&network, &observed);
    assert_eq!(first_starts(&taken_back), [0, 1, 2, 3].map(|i| entry(i, if i == 1 { "" } else { &hash })));
    assert_eq!(taken_back.stateful_set, asserted.stateful_set, "nothing of it is in the pod template");
}

#[test]
fn a_container_sees_its_own_assertion_where_the_setting_says() {
    for name in ["devnet", "bring-your-own-keys", "external-postgres"] {
        let network = sample(name);
        let set = objects(&network, &cluster(&network)).stateful_set;
        let node = set.spec.and_then(|spec| spec.template.spec).expect("a pod").containers.remove(0);
        let variable = node.env.iter().flatten().find(|variable| variable.name == "FIRST_START_FILE");
        let path = variable.and_then(|variable| variable.value.clone()).expect("the setting");
        let mounted = node.volume_mounts.iter().flatten().find(|mount| mount.mount_path == path).expect("the file");
        assert_eq!(mounted.sub_path_expr.as_deref(), Some("$(POD_NAME).first-start"));
        assert_eq!((mounted.name.as_str(), mounted.read_only), ("keys", Some(true)));
    }
}

#[test]
fn applied_again_with_the_same_keys_a_network_gets_the_same_genesis() {
    let network = sample("devnet");
    let observed = cluster(&network);
    let first = validated(&network, &observed).genesis.expect("genesis");
    let mut again = network.clone();
    again.metadata.uid = Some("00000000-0000-0000-0000-000000000002".into());
    assert_eq!(validated(&again, &observed).genesis.expect("genesis").json, first.json);
}

#[test]
fn a_sqlite_network_keeps_its_file_on_the_volume() {
    let mut network = sample("devnet");
    network.spec.database.mode = aitbc_operator::crd::database::DatabaseMode::Sqlite;
    let set = objects(&network, &cluster(&network)).stateful_set.spec.expect("spec");
    let pod = set.template.spec.expect("pod");
    let url = pod.containers[0].env.iter().flatten().find(|variable| variable.name == "DATABASE_URL");
    // Four slashes: an absolute path.
    assert_eq!(url.and_then(|variable| variable.value.as_deref()), Some("sqlite:////data/blockchain.db"));
    let mounted = pod.containers[0].volume_mounts.iter().flatten().find(|mount| mount.mount_path == "/data");
    assert_eq!(mounted.map(|mount| mount.name.as_str()), Some("data"));
    assert_eq!(pod.init_containers, None);
    assert!(set.volume_claim_templates.is_some_and(|templates| templates.len() == 1));
}
