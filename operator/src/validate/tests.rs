//! Cases of keys, genesis and databases: what is made, what is adopted, what waits and why.

use super::*;
use crate::crd::status::{BlockchainNetworkStatus, ChainStatus, ValidatorStatus};
use crate::desired::keys::{build, build_mounted};
use crate::observe::chain_set::{Member, NextMember};
use crate::observe::{SyncStatus, SyncValidator, VotingState};
use crate::validate::keys::{KeySource, ValidatorKey};
use aitbc_core::genesis::Genesis;
use aitbc_core::key::{PublicKey, SecretKey};
use aitbc_core::params::MAX_SUPPLY;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

#[test]
fn durations_read_as_the_schema_allows_them() {
    assert_eq!(parse_duration("1s"), Some(Duration::from_secs(1)));
    assert_eq!(parse_duration("1m30s"), Some(Duration::from_secs(90)));
    assert_eq!(parse_duration("0.5s"), Some(Duration::from_millis(500)));
    assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
    assert_eq!(parse_duration("1d"), None);
    assert_eq!(parse_duration(""), None);
}

fn network(spec: serde_json::Value) -> BlockchainNetwork {
    let object = json!({
        "apiVersion": "blockchain.aitbc.io/v1alpha1",
        "kind": "BlockchainNetwork",
        "metadata": { "name": "net", "namespace": "chains", "uid": "u" },
        "spec": spec,
    });
    serde_json::from_value(object).expect("a network")
}

fn generated() -> BlockchainNetwork {
    network(json!({ "validators": { "replicas": 4 } }))
}

fn provided() -> BlockchainNetwork {
    let secrets: Vec<_> = (0..4).map(|i| json!({ "ordinal": i, "name": format!("own-{i}") })).collect();
    network(json!({ "validators": { "replicas": 4, "keys": { "policy": "Provided", "secrets": secrets } } }))
}

fn key(seed: u8) -> ValidatorKey {
    let secret = SecretKey::from_seed([seed; 32]);
    ValidatorKey { public: secret.public(), pem: secret.to_pkcs8_pem() }
}

fn check(network: &BlockchainNetwork, observed: &Observed) -> Validated {
    validate(network, observed, &Defaults { node_image: "node:1".into() })
}

fn with_keys(seeds: [u8; 4]) -> Observed {
    let identity = Identity { name: "net".into(), namespace: "chains".into(), uid: "u".into() };
    let secrets = (0..).zip(seeds).map(|(i, seed)| (i, build(&identity, i, &key(seed))));
    Observed { key_secrets: secrets.collect(), ..Observed::default() }
}

/// The cluster once the chain began: keys and genesis are there.
fn begun(network: &BlockchainNetwork) -> Observed {
    let mut observed = with_keys([1, 2, 3, 4]);
    let genesis = check(network, &observed).genesis.expect("genesis");
    let data = [(names::GENESIS_ENTRY.to_owned(), genesis.json)].into();
    observed.genesis = Some(ConfigMap { data: Some(data), ..ConfigMap::default() });
    observed
}

/// What pods of this network mount.
fn mounted(parts: &Validated) -> Secret {
    let genesis = parts.genesis.as_ref().expect("genesis");
    build_mounted(&parts.settings, parts.keys.as_ref().expect("keys"), &parts.starts, &genesis.hash)
}

fn reason<T: std::fmt::Debug>(result: &Result<T, Problem>) -> &'static str {
    result.as_ref().map_or_else(|problem| problem.reason, |_| "fine")
}

#[test]
fn a_new_network_generates_a_key_for_each_validator_and_genesis_waits_for_them() {
    let validated = check(&generated(), &Observed::default());
    let keys = validated.keys.expect("keys");
    assert_eq!(keys.create.len(), 4);
    assert!(keys.create.values().all(|source| matches!(source, KeySource::Generate)));
    assert_eq!(reason(&validated.genesis), "WaitingForKeys");
}

#[test]
fn keys_that_exist_are_adopted_and_none_is_made() {
    let validated = check(&generated(), &with_keys([1, 2, 3, 4]));
    assert!(validated.keys.expect("keys").complete());
    assert_eq!(reason(&validated.genesis), "fine");
}

#[test]
fn a_key_that_the_chain_has_seen_is_never_made_anew() {
    let network = generated();
    let mut observed = begun(&network);
    observed.key_secrets.remove(&2);
    let problem = check(&network, &observed).keys.expect_err("lost");
    assert_eq!(problem.reason, "KeyMissing");
    assert!(problem.message.contains("net-validator-2-key") && problem.message.contains("backup"));
}

#[test]
fn a_key_on_record_in_status_alone_is_never_made_anew_either() {
    let mut network = generated();
    let public_key = Some(key(3).public.to_string());
    let status = ValidatorStatus { ordinal: 2, public_key, ..ValidatorStatus::default() };
    network.status = Some(BlockchainNetworkStatus { validator_statuses: vec![status], ..Default::default() });
    let mut observed = with_keys([1, 2, 3, 4]);
    observed.key_secrets.remove(&2);
    assert_eq!(reason(&check(&network, &observed).keys), "KeyMissing");
}

#[test]
fn a_deleted_key_secret_comes_back_from_the_mounted_copy() {
    let network = generated();
    let mut observed = begun(&network);
    let parts = check(&network, &observed);
    observed.mounted_keys = Some(mounted(&parts));
    observed.key_secrets.remove(&2);
    let keys = check(&network, &observed).keys.expect("restorable");
    let Some(KeySource::Copy(copy)) = keys.create.get(&2) else { panic!("{keys:?}") };
    assert_eq!(copy.public, key(3).public);
}

#[test]
fn another_key_than_the_chain_knows_is_refused() {
    let network = generated();
    let mut observed = begun(&network);
    observed.key_secrets = with_keys([1, 2, 9, 4]).key_secrets;
    assert_eq!(reason(&check(&network, &observed).keys), "KeyMismatch");
}

#[test]
fn one_key_for_two_validators_is_refused() {
    let validated = check(&generated(), &with_keys([1, 2, 3, 1]));
    let problem = validated.keys.expect_err("conflict");
    assert_eq!(problem.reason, "KeyConflict");
    assert!(problem.message.contains("validators 0 and 3"));
}

#[test]
fn a_missing_provided_secret_is_named_and_heals_once_it_is_there() {
    let network = provided();
    let mut observed = Observed::default();
    for i in 0..3 {
        observed.provided_keys.insert(i, Some(key(u8::try_from(i).expect("small")).pem));
    }
    observed.provided_keys.insert(3, None);
    let problem = check(&network, &observed).keys.expect_err("missing");
    assert_eq!(problem.reason, "KeyMissing");
    assert!(problem.message.contains("\"own-3\""));
    observed.provided_keys.insert(3, Some(key(3).pem));
    let keys = check(&network, &observed).keys.expect("all there");
    assert!(keys.create.values().all(|source| matches!(source, KeySource::Copy(_))));
}

#[test]
fn the_same_provided_key_in_two_secrets_is_refused() {
    let mut observed = Observed::default();
    for (i, seed) in [(0, 1), (1, 2), (2, 3), (3, 1)] {
        observed.provided_keys.insert(i, Some(key(seed).pem));
    }
    assert_eq!(reason(&check(&provided(), &observed).keys), "KeyConflict");
}

#[test]
fn a_leftover_key_is_not_taken_for_the_one_provided() {
    let mut observed = with_keys([1, 2, 3, 4]);
    observed.provided_keys = (0..4).map(|i| (i, None)).collect();
    assert_eq!(reason(&check(&provided(), &observed).keys), "KeyMissing");
    observed.provided_keys = (0..4).map(|i| (i, Some(key(9 + u8::try_from(i).expect("small")).pem))).collect();
    assert_eq!(reason(&check(&provided(), &observed).keys), "KeyMismatch");
}

#[test]
fn once_the_chain_began_a_provided_secret_may_go() {
    let network = provided();
    let mut observed = with_keys([1, 2, 3, 4]);
    observed.provided_keys = (0..4).map(|i| (i, Some(key(1 + u8::try_from(i).expect("small")).pem))).collect();
    let genesis = check(&network, &observed).genesis.expect("genesis");
    let data = [(names::GENESIS_ENTRY.to_owned(), genesis.json)].into();
    observed.genesis = Some(ConfigMap { data: Some(data), ..ConfigMap::default() });
    observed.provided_keys = (0..4).map(|i| (i, None)).collect();
    assert_eq!(reason(&check(&network, &observed).keys), "fine");
}

#[test]
fn what_is_no_key_is_said_without_showing_it() {
    let provided_keys = (0..4).map(|i| (i, Some("not-a-key-but-secret".to_owned()))).collect();
    let observed = Observed { provided_keys, ..Observed::default() };
    let problem = check(&provided(), &observed).keys.expect_err("no key");
    assert_eq!(problem.reason, "KeyInvalid");
    assert!(!problem.message.contains("not-a-key"));
}

#[test]
fn nothing_printed_ever_shows_a_private_key() {
    let observed = with_keys([1, 2, 3, 4]);
    let printed = format!("{:?}", check(&generated(), &observed));
    assert!(!printed.contains("PRIVATE KEY") && !printed.contains(&key(1).pem));
}

#[test]
fn a_genesis_that_is_there_is_adopted_byte_by_byte() {
    let network = generated();
    let observed = begun(&network);
    let genesis = check(&network, &observed).genesis.expect("genesis");
    assert_eq!(genesis.stored, crate::validate::genesis::Stored::Yes);
    assert_eq!(Some(genesis.json.as_str()), observed.genesis_json());
}

#[test]
fn an_earlier_chain_of_the_same_name_but_another_spec_is_a_conflict_that_names_the_field() {
    let observed = begun(&generated());
    let other = network(json!({ "validators": { "replicas": 4 }, "genesis": { "faucet": "Enabled" } }));
    let problem = check(&other, &observed).genesis.expect_err("conflict");
    assert_eq!(problem.reason, "GenesisConflict");
    assert!(problem.message.contains("genesis.faucet"));
    let renamed = network(json!({ "chainID": "other", "validators": { "replicas": 4 } }));
    assert!(check(&renamed, &observed).genesis.expect_err("conflict").message.contains("chainID"));
}

#[test]
fn a_lost_genesis_is_rebuilt_only_if_it_is_the_same() {
    let mut network = generated();
    let observed = with_keys([1, 2, 3, 4]);
    let hash = check(&network, &observed).genesis.expect("genesis").hash;
    let began = |hash: &str| {
        let chain = ChainStatus { genesis_hash: Some(hash.into()), ..ChainStatus::default() };
        Some(BlockchainNetworkStatus { chain: Some(chain), ..Default::default() })
    };
    network.status = began(&hash);
    assert_eq!(reason(&check(&network, &observed).genesis), "fine");
    network.status = began("0xother");
    assert_eq!(reason(&check(&network, &observed).genesis), "GenesisMissing");
}

#[test]
fn an_address_with_a_wrong_checksum_is_said_to_be_invalid() {
    let address = "ait1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
    let wrong = network(json!({
        "validators": { "replicas": 4 },
        "genesis": { "accounts": [{ "address": address, "balance": 1 }] },
    }));
    let problem = check(&wrong, &with_keys([1, 2, 3, 4])).genesis.expect_err("invalid");
    assert_eq!(problem.reason, "GenesisInvalid");
    assert!(problem.message.contains(address));
}

/// What a spec of five validators makes of genesis, where keys are of seeds 1 to 5.
fn genesis_of(spec: serde_json::Value) -> Result<Genesis, Problem> {
    let mut spec = spec;
    spec["validators"]["replicas"] = json!(5);
    let genesis = check(&network(spec), &with_five_keys()).genesis?;
    Ok(Genesis::from_json(&genesis.json).expect("valid"))
}

fn with_five_keys() -> Observed {
    let mut observed = with_keys([1, 2, 3, 4]);
    let identity = Identity { name: "net".into(), namespace: "chains".into(), uid: "u".into() };
    observed.key_secrets.insert(4, build(&identity, 4, &key(5)));
    observed
}

fn four_authorities() -> serde_json::Value {
    json!([{ "ordinal": 0 }, { "ordinal": 1 }, { "ordinal": 2 }, { "ordinal": 3 }])
}

/// Keys with weight and stake.
fn power(genesis: &Genesis) -> Vec<(PublicKey, u32, u64)> {
    genesis.validators.iter().map(|v| (v.public_key, v.weight, v.stake)).collect()
}

#[test]
fn without_a_word_on_consensus_genesis_is_what_it_was() {
    let genesis = genesis_of(json!({})).expect("genesis");
    assert_eq!((genesis.mode, genesis.parameters.epoch_blocks), (Mode::Poa, 1_000));
    assert_eq!((&genesis.staking, &genesis.receipts), (&Staking::beginning_with(5), &None));
    assert_eq!(power(&genesis), [1, 2, 3, 4, 5].map(|seed| (key(seed).public, 1, 0)));
}

#[test]
fn mode_authorities_stakes_and_epochs_of_the_spec_are_those_of_genesis() {
    let genesis = genesis_of(json!({
        "consensus": { "mode": "hybrid", "epochBlocks": 20, "minStake": 500, "maxValidators": 7, "unbondingEpochs": 3 },
        "genesis": { "authorities": four_authorities() },
        "validators": { "weights": [{ "ordinal": 1, "weight": 700 }] },
    }))
    .expect("genesis");
    assert_eq!((genesis.mode, genesis.parameters.epoch_blocks), (Mode::Hybrid, 20));
    let staking = &genesis.staking;
    assert_eq!((staking.min_stake, staking.max_validators, staking.unbonding_epochs), (500, 7, 3));
    let stakes = [(1, 500), (2, 700), (3, 500), (4, 500)].map(|(seed, stake)| (key(seed).public, 1, stake));
    assert_eq!(power(&genesis), stakes, "the fifth is not in it");
}

#[test]
fn weights_of_mode_poa_are_voting_power() {
    let genesis = genesis_of(json!({ "validators": { "weights": [{ "ordinal": 4, "weight": 3 }] } })).expect("genesis");
    assert_eq!(power(&genesis)[3..], [(key(4).public, 1, 0), (key(5).public, 3, 0)]);
}

#[test]
fn terms_of_receipts_reach_genesis_and_wrong_ones_are_named() {
    let receipts = |public_key: String| {
        let coordinators = json!([{ "publicKey": public_key }]);
        json!({ "genesis": { "receipts": { "mintPerUnit": 9, "coordinatorPartsPerMillion": 50_000, "coordinators": coordinators,
            "coordinatorThreshold": 1, "epochCap": 100, "expiry": "1h" } } })
    };
    let terms = genesis_of(receipts(key(9).public.to_string())).expect("genesis").receipts.expect("terms");
    assert_eq!((terms.mint_per_unit, terms.coordinator_parts_per_million, terms.coordinator_threshold), (9, 50_000, 1));
    assert_eq!((terms.epoch_cap, terms.provider_epoch_cap, terms.expiry_seconds), (100, MAX_SUPPLY, 3_600));
    assert_eq!(terms.coordinators[0].public_key, key(9).public);
    let problem = genesis_of(receipts("0".repeat(64))).expect_err("nobody's key");
    assert_eq!(problem.reason, "GenesisInvalid");
    assert!(problem.message.contains("receipts.coordinators"), "{}", problem.message);
}

#[test]
fn another_weight_term_or_epoch_than_the_chain_began_with_is_named() {
    let began = network(json!({ "validators": { "replicas": 4 } }));
    let observed = begun(&began);
    let conflict = |path: &str, value: serde_json::Value| {
        let mut spec = json!({ "consensus": { "mode": "poa" }, "genesis": {}, "validators": { "replicas": 4 } });
        let (part, field) = path.split_once('.').expect("two parts");
        spec[part][field] = value;
        let problem = check(&network(spec), &observed).genesis.expect_err("conflict");
        assert_eq!(problem.reason, "GenesisConflict");
        assert!(problem.message.contains(path), "{}", problem.message);
    };
    conflict("consensus.epochBlocks", json!(20));
    conflict("consensus.maxValidators", json!(5));
    conflict("validators.weights", json!([{ "ordinal": 0, "weight": 2 }]));
    let coordinators = json!([{ "publicKey": key(9).public }]);
    conflict("genesis.receipts", json!({ "mintPerUnit": 1, "coordinators": coordinators, "coordinatorThreshold": 1 }));
    let named = json!({ "consensus": { "epochBlocks": 1_000, "maxValidators": 100 }, "validators": { "replicas": 4 } });
    assert_eq!(reason(&check(&network(named), &observed).genesis), "fine", "what was the default may be said");
}

#[test]
fn keys_are_told_apart_by_who_is_in_genesis_and_by_status() {
    let spec =
        json!({ "validators": { "replicas": 5 }, "genesis": { "authorities": [{ "ordinal": 1 }, { "ordinal": 3 }] } });
    let mut network = network(spec);
    let mut observed = with_five_keys();
    let genesis = check(&network, &observed).genesis.expect("genesis");
    let data = [(names::GENESIS_ENTRY.to_owned(), genesis.json)].into();
    observed.genesis = Some(ConfigMap { data: Some(data), ..ConfigMap::default() });
    assert_eq!(reason(&check(&network, &observed).keys), "fine");
    let lost = |network: &BlockchainNetwork, ordinal: i32| {
        let mut observed = observed.clone();
        observed.key_secrets.remove(&ordinal);
        reason(&check(network, &observed).keys)
    };
    assert_eq!((lost(&network, 3), lost(&network, 4)), ("KeyMissing", "fine"), "of 4 nobody knows anything yet");
    let public_key = Some(key(5).public.to_string());
    let status = ValidatorStatus { ordinal: 4, public_key, ..ValidatorStatus::default() };
    network.status = Some(BlockchainNetworkStatus { validator_statuses: vec![status], ..Default::default() });
    assert_eq!((lost(&network, 3), lost(&network, 4)), ("KeyMissing", "KeyMissing"));
}

#[test]
fn until_a_node_says_who_decides_it_is_who_is_in_genesis() {
    let spec = json!({ "validators": { "replicas": 5 }, "genesis": { "authorities": four_authorities() } });
    let members = check(&network(spec), &with_five_keys()).members;
    assert_eq!(members.own.values().copied().collect::<Vec<_>>(), [1, 1, 1, 1, 0]);
    assert_eq!((members.total(), members.own_count(), members.fault_tolerance()), (4, 4, 1));
}

#[test]
fn a_genesis_config_map_without_its_entry_is_said_and_not_made_again_at_every_visit() {
    let mut observed = with_keys([1, 2, 3, 4]);
    observed.genesis = Some(ConfigMap::default());
    let validated = check(&generated(), &observed);
    assert_eq!(validated.obstacle().map(|problem| problem.reason), Some("GenesisInvalid"));
    let problem = validated.genesis.expect_err("no entry");
    assert!(problem.message.contains("\"net-genesis\"") && problem.message.contains("genesis.json"), "{problem:?}");
}

#[test]
fn who_decides_next_is_known_from_a_node_only() {
    let network = generated();
    let mut observed = begun(&network);
    assert_eq!(check(&network, &observed).next_members, None);
    let member =
        |seed: u8, weight: i64| Member { public_key: key(seed).public.to_string(), weight, ..Member::default() };
    let next = |seed: u8, weight: i64| NextMember { key: key(seed).public.to_string(), weight };
    let mut set = ChainSet { validators: vec![member(1, 5), member(9, 1)], ..ChainSet::default() };
    observed.set = Some(set.clone());
    assert_eq!(check(&network, &observed).next_members, None, "a version that does not say it");
    set.next = vec![next(1, 7), next(2, 3), next(8, 2), next(9, 1)];
    observed.set = Some(set);
    let validated = check(&network, &observed);
    let weights = |members: &members::Members| members.own.values().copied().collect::<Vec<_>>();
    let coming = validated.next_members.expect("said");
    assert_eq!((weights(&validated.members), weights(&coming)), (vec![5, 0, 0, 0], vec![7, 3, 0, 0]));
    let others: Vec<(i64, bool)> = coming.others.iter().map(|other| (other.weight, other.live)).collect();
    assert!(others.contains(&(2, true)) && others.contains(&(1, false)), "9 is not connected, 8 has yet to come");
}

fn external() -> BlockchainNetwork {
    let secrets: Vec<_> = (0..4).map(|i| json!({ "ordinal": i, "name": format!("db-{i}") })).collect();
    network(json!({
        "validators": { "replicas": 4 },
        "database": { "mode": "External", "external": { "secrets": secrets } },
    }))
}

#[test]
fn external_databases_are_one_for_each_validator() {
    let mut observed = with_keys([1, 2, 3, 4]);
    let url = |i: i32| Some(format!("postgresql://u:p@host/chain{i}"));
    observed.database_urls = (0..4).map(|i| (i, url(i))).collect();
    assert_eq!(reason(&check(&external(), &observed).databases), "fine");
    observed.database_urls.insert(3, Some("postgres://other:words@HOST:5432/chain0?sslmode=require".into()));
    let problem = check(&external(), &observed).databases.expect_err("twice");
    assert_eq!(problem.reason, "DatabaseConflict");
    assert!(problem.message.contains("validators 0 and 3"));
    observed.database_urls.insert(3, None);
    assert_eq!(reason(&check(&external(), &observed).databases), "DatabaseSecretMissing");
    observed.database_urls.insert(3, Some("mysql://x".into()));
    assert_eq!(reason(&check(&external(), &observed).databases), "DatabaseInvalid");
}

fn says(last_signed_height: i64, voting_state: VotingState) -> SyncStatus {
    let validator = SyncValidator { last_signed_height, voting_state, ..SyncValidator::default() };
    SyncStatus { validator: Some(validator), ..SyncStatus::default() }
}

fn annotate(observed: &mut Observed, ordinal: i32, chains: &str) {
    let secret = observed.key_secrets.get_mut(&ordinal).expect("a key Secret");
    secret.annotations_mut().insert(names::STARTED_ON_ANNOTATION.into(), chains.into());
}

fn hash(validated: &Validated) -> String {
    validated.genesis.as_ref().expect("genesis").hash.clone()
}

/// Validators whose first start is asserted, and what key Secrets shall say.
fn starts(network: &BlockchainNetwork, observed: &Observed) -> (Vec<i32>, Vec<(String, String)>) {
    let starts = check(network, observed).starts;
    let records = starts.unrecorded.into_iter().map(|record| (record.secret, record.chains));
    (starts.first.into_iter().collect(), records.collect())
}

#[test]
fn the_first_start_of_new_keys_is_asserted_and_nothing_is_recorded() {
    assert_eq!(starts(&generated(), &begun(&generated())), (vec![0, 1, 2, 3], vec![]));
}

#[test]
fn a_validator_that_may_vote_or_has_signed_had_its_first_start() {
    let network = generated();
    let mut observed = begun(&network);
    let hash = hash(&check(&network, &observed));
    observed.sync.insert(0, says(0, VotingState::Voting));
    // A version that says nothing of its voting_state, and one that lost its database after it voted.
    observed.sync.insert(1, says(7, VotingState::Unknown));
    observed.sync.insert(2, says(7, VotingState::Quarantined));
    observed.sync.insert(3, says(0, VotingState::Unknown));
    let recorded = |i: i32| (format!("net-validator-{i}-key"), hash.clone());
    assert_eq!(starts(&network, &observed), (vec![3], vec![recorded(0), recorded(1), recorded(2)]));
}

#[test]
fn one_that_checks_or_is_quarantined_without_a_vote_is_no_hint() {
    let network = generated();
    let mut observed = begun(&network);
    observed.sync.insert(0, says(0, VotingState::Checking));
    observed.sync.insert(1, says(0, VotingState::Quarantined));
    assert_eq!(starts(&network, &observed), (vec![0, 1, 2, 3], vec![]));
}

#[test]
fn a_key_that_is_on_record_for_this_chain_is_left_alone() {
    let network = generated();
    let mut observed = begun(&network);
    let hash = hash(&check(&network, &observed));
    annotate(&mut observed, 1, &hash);
    observed.sync.insert(1, says(0, VotingState::Voting));
    assert_eq!(starts(&network, &observed), (vec![0, 2, 3], vec![]), "no write, as it says so already");
}

#[test]
fn a_key_that_was_on_other_chains_keeps_them_on_record() {
    let network = generated();
    let mut observed = begun(&network);
    let hash = hash(&check(&network, &observed));
    annotate(&mut observed, 1, "0xaa,0xbb");
    assert_eq!(starts(&network, &observed).0, [0, 1, 2, 3], "it is new to this one");
    observed.sync.insert(1, says(1, VotingState::Voting));
    assert_eq!(starts(&network, &observed).1, [("net-validator-1-key".into(), format!("0xaa,0xbb,{hash}"))]);
    annotate(&mut observed, 1, &format!("0xaa, {hash} ,0xbb"));
    assert_eq!(starts(&network, &observed), (vec![0, 2, 3], vec![]));
}

#[test]
fn what_the_users_own_secret_says_of_its_key_is_believed_and_copied() {
    let network = provided();
    let mut observed = begun(&generated());
    let hash = hash(&check(&network, &observed));
    observed.provided_started = [(0, "0xaa".to_owned()), (3, hash.clone())].into();
    assert_eq!(starts(&network, &observed), (vec![0, 1, 2], vec![("net-validator-3-key".into(), hash)]));
}

#[test]
fn a_first_start_that_was_taken_back_is_not_asserted_again_when_the_key_secret_lost_its_annotation() {
    let mut network = generated();
    let mut observed = begun(&network);
    observed.sync.insert(2, says(0, VotingState::Voting));
    let parts = check(&network, &observed);
    observed.mounted_keys = Some(mounted(&parts));
    observed.sync.clear();
    let chain = ChainStatus { genesis_hash: Some(hash(&parts)), ..ChainStatus::default() };
    network.status = Some(BlockchainNetworkStatus { chain: Some(chain), ..Default::default() });
    let recorded = vec![("net-validator-2-key".to_owned(), hash(&parts))];
    assert_eq!(starts(&network, &observed), (vec![0, 1, 3], recorded));
    // The mounted Secret of an earlier network of the name, which garbage collection has yet to take, is no witness.
    network.metadata.uid = Some("another".into());
    assert_eq!(starts(&network, &observed), (vec![0, 1, 2, 3], vec![]));
}

#[test]
fn a_signature_that_status_recalls_is_a_hint_for_its_own_chain_only() {
    let mut network = generated();
    let observed = begun(&network);
    let hash = hash(&check(&network, &observed));
    let recall = |genesis_hash: &str| {
        let signed = ValidatorStatus { ordinal: 1, last_signed_height: Some(9), ..ValidatorStatus::default() };
        let chain = ChainStatus { genesis_hash: Some(genesis_hash.into()), ..ChainStatus::default() };
        Some(BlockchainNetworkStatus { chain: Some(chain), validator_statuses: vec![signed], ..Default::default() })
    };
    network.status = recall(&hash);
    assert_eq!(starts(&network, &observed), (vec![0, 2, 3], vec![("net-validator-1-key".into(), hash)]));
    network.status = recall("0xother");
    assert_eq!(starts(&network, &observed), (vec![0, 1, 2, 3], vec![]));
}

#[test]
fn that_no_node_says_who_decides_means_nothing_for_half_a_minute() {
    let at = |second| Timestamp::from_second(second).expect("a time");
    assert!(members::is_awaited(None, Some(at(100)), at(130)));
    assert!(!members::is_awaited(None, Some(at(100)), at(131)));
    assert!(!members::is_awaited(None, None, at(100)), "none ever did");
    assert!(!members::is_awaited(Some(&ChainSet::default()), Some(at(100)), at(100)), "one does");
}

#[test]
fn nothing_is_asserted_before_there_is_a_genesis() {
    assert_eq!(check(&generated(), &Observed::default()).starts, starts::Starts::default());
}
