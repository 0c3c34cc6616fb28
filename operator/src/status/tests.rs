//! What people read of a network in each of its situations.

use super::*;
use crate::observe::SyncValidator;
use crate::validate::{Defaults, keys::ValidatorKey, validate};
use aitbc_core::key::SecretKey;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

const NOW: i64 = 1_800_000_000;

struct Situation {
    network: BlockchainNetwork,
    observed: Observed,
}

/// Four validators that finalise blocks.
fn running() -> Situation {
    of(4)
}

fn of(replicas: i32) -> Situation {
    let network: BlockchainNetwork = serde_json::from_value(json!({
        "apiVersion": "blockchain.aitbc.io/v1alpha1",
        "kind": "BlockchainNetwork",
        "metadata": { "name": "net", "namespace": "chains", "uid": "u", "generation": 3 },
        "spec": { "validators": { "replicas": replicas } },
    }))
    .expect("a network");
    let identity = crate::names::Identity { name: "net".into(), namespace: "chains".into(), uid: "u".into() };
    let mut observed = Observed { now: Timestamp::from_second(NOW).expect("a time"), ..Observed::default() };
    for ordinal in 0..replicas {
        let secret = SecretKey::from_seed([u8::try_from(ordinal).expect("few"); 32]);
        let key = ValidatorKey { public: secret.public(), pem: secret.to_pkcs8_pem() };
        observed.key_secrets.insert(ordinal, crate::desired::keys::build(&identity, ordinal, &key));
        observed.pods.insert(ordinal, pod(ordinal));
        observed.sync.insert(ordinal, sync(100));
    }
    Situation { network, observed }
}

fn pod(ordinal: i32) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": format!("net-validator-{ordinal}"), "uid": format!("uid-{ordinal}") },
        "spec": { "nodeName": format!("machine-{ordinal}"), "containers": [{ "name": "validator", "image": "node:1" }] },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    }))
    .expect("a pod")
}

fn sync(height: i64) -> SyncStatus {
    SyncStatus {
        height,
        last_block_time_ms: (NOW - 1) * 1_000,
        database_ready: true,
        validator: Some(SyncValidator { weight: 1, last_signed_height: height, ..SyncValidator::default() }),
        ..SyncStatus::default()
    }
}

fn status_of(situation: &Situation) -> BlockchainNetworkStatus {
    let defaults = Defaults { node_image: "node:1".into() };
    let validated = validate(&situation.network, &situation.observed, &defaults);
    let plan = plan::plan(&validated.settings, &situation.observed, None);
    let Situation { network, observed } = situation;
    status(Visit { network, validated: &validated, observed, plan: &plan, failed: None })
}

fn condition(status: &BlockchainNetworkStatus, type_: &str) -> Condition {
    status.conditions.iter().find(|condition| condition.type_ == type_).cloned().expect("the condition")
}

fn says(situation: &Situation, type_: &str, status: &str, reason: &str) {
    let found = condition(&status_of(situation), type_);
    assert_eq!((found.status.as_str(), found.reason.as_str()), (status, reason), "{type_}: {}", found.message);
}

#[test]
fn every_condition_is_set_from_the_first_visit_on() {
    let mut situation = running();
    situation.observed = Observed::default();
    let status = status_of(&situation);
    let types: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(types, conditions::NAMES);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
    assert!(status.conditions.iter().all(|condition| !condition.message.is_empty()));
}

#[test]
fn four_validators_that_finalise_are_ready_and_one_more_may_go_down() {
    let situation = running();
    says(&situation, "Ready", "True", "Ready");
    says(&situation, "QuorumSafe", "True", "QuorumSafe");
    says(&situation, "FaultDomainsIndependent", "True", "Independent");
    says(&situation, "Degraded", "False", "AsExpected");
    let counted = status_of(&situation).validators.expect("validators");
    assert_eq!((counted.summary.as_str(), counted.disruptions_allowed), ("4/4", 1));
}

#[test]
fn one_validator_down_leaves_the_chain_available_and_no_slack() {
    let mut situation = running();
    situation.observed.pods.remove(&2);
    situation.observed.sync.remove(&2);
    says(&situation, "Ready", "False", "ValidatorsNotReady");
    says(&situation, "Available", "True", "BlocksAdvance");
    says(&situation, "QuorumSafe", "False", "NoSlack");
    says(&situation, "Degraded", "True", "ValidatorsDown");
    assert_eq!(status_of(&situation).validators.map(|v| v.disruptions_allowed), Some(0));
}

#[test]
fn a_chain_without_new_blocks_is_halted_whatever_the_pods_say() {
    let mut situation = running();
    for sync in situation.observed.sync.values_mut() {
        sync.last_block_time_ms = (NOW - 60) * 1_000;
    }
    says(&situation, "Available", "False", "ChainHalted");
    says(&situation, "Ready", "False", "ChainHalted");
}

#[test]
fn one_that_stands_still_while_the_others_go_on_does_not_sign() {
    let mut situation = running();
    if let Some(sync) = situation.observed.sync.get_mut(&1) {
        sync.last_block_time_ms -= 60_000;
    }
    says(&situation, "Ready", "False", "ValidatorsNotSigning");
    assert_eq!(status_of(&situation).validator_statuses[1].state, ValidatorState::Syncing);
}

#[test]
fn answers_of_different_moments_on_a_fast_chain_are_no_lag() {
    let mut situation = running();
    situation.observed.sync.insert(0, sync(150));
    says(&situation, "Ready", "True", "Ready");
}

#[test]
fn a_database_that_is_down_is_named() {
    let mut situation = running();
    if let Some(sync) = situation.observed.sync.get_mut(&1) {
        sync.database_ready = false;
    }
    says(&situation, "DatabaseReady", "False", "DatabaseDown");
    assert!(condition(&status_of(&situation), "DatabaseReady").message.contains("validators 1 "));
}

#[test]
fn three_validators_tolerate_nothing_and_it_is_said() {
    says(&of(3), "QuorumSafe", "False", "NoFaultTolerance");
    says(&of(3), "Ready", "True", "Ready");
}

#[test]
fn two_of_four_validators_on_one_machine_share_a_fault_domain() {
    let mut situation = running();
    for pod in situation.observed.pods.values_mut().take(2) {
        pod.spec.get_or_insert_default().node_name = Some("one".into());
    }
    says(&situation, "FaultDomainsIndependent", "False", "SharedFaultDomain");
}

#[test]
fn a_fenced_validator_is_shown_as_such() {
    let mut situation = running();
    let fenced = json!([{ "name": "validator", "image": "", "imageID": "", "ready": false, "restartCount": 1,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "exitCode": 70 } } }]);
    if let Some(status) = situation.observed.pods.get_mut(&0).and_then(|pod| pod.status.as_mut()) {
        status.container_statuses = serde_json::from_value(fenced).expect("statuses");
    }
    situation.observed.sync.remove(&0);
    assert_eq!(status_of(&situation).validator_statuses[0].state, ValidatorState::Fenced);
    says(&situation, "Degraded", "True", "ValidatorFenced");
}

fn set_voting_state(situation: &mut Situation, ordinal: i32, voting_state: VotingState) {
    let validator = situation.observed.sync.get_mut(&ordinal).and_then(|sync| sync.validator.as_mut());
    let validator = validator.expect("a validator that answers");
    validator.voting_state = voting_state;
    validator.quarantine = (voting_state == VotingState::Quarantined).then(|| "the database is new".to_owned());
}

fn state_of(situation: &Situation, ordinal: usize) -> ValidatorState {
    status_of(situation).validator_statuses[ordinal].state
}

#[test]
fn a_quarantined_validator_does_not_sign_and_it_is_said_why_and_what_gives_its_vote_back() {
    let mut situation = running();
    set_voting_state(&mut situation, 2, VotingState::Quarantined);
    assert_eq!(state_of(&situation, 2), ValidatorState::Quarantined);
    says(&situation, "Degraded", "True", "ValidatorQuarantined");
    says(&situation, "Ready", "False", "ValidatorsNotSigning");
    says(&situation, "QuorumSafe", "False", "NoSlack");
    let status = status_of(&situation);
    assert_eq!(status.validators.as_ref().map(|v| v.disruptions_allowed), Some(0), "nobody else is restarted");
    let message = condition(&status, "Degraded").message;
    assert!(message.contains("2: the database is new") && message.contains("once 3 validators"), "{message}");
}

#[test]
fn where_too_few_are_left_to_answer_the_way_out_is_named() {
    let mut situation = running();
    set_voting_state(&mut situation, 2, VotingState::Quarantined);
    set_voting_state(&mut situation, 3, VotingState::Quarantined);
    let message = condition(&status_of(&situation), "Degraded").message;
    assert!(message.contains("validators 2, 3 ") && message.contains("only 2 are left"), "{message}");
    assert!(message.contains("docs/operations.md"), "{message}");
}

#[test]
fn a_validator_that_checks_its_database_has_yet_to_sign() {
    let mut situation = running();
    set_voting_state(&mut situation, 1, VotingState::Checking);
    assert_eq!(state_of(&situation, 1), ValidatorState::Syncing);
    says(&situation, "Degraded", "True", "ValidatorsDown");
    set_voting_state(&mut situation, 1, VotingState::Voting);
    says(&situation, "Ready", "True", "Ready");
}

#[test]
fn a_quarantine_lasts_until_the_node_says_that_it_votes() {
    let mut situation = running();
    set_voting_state(&mut situation, 2, VotingState::Quarantined);
    situation.network.status = Some(status_of(&situation));
    set_voting_state(&mut situation, 2, VotingState::Checking);
    assert_eq!(state_of(&situation, 2), ValidatorState::Quarantined);
    let silent = situation.observed.sync.remove(&2).expect("an answer");
    assert_eq!(state_of(&situation, 2), ValidatorState::Quarantined);
    situation.observed.sync.insert(2, silent);
    set_voting_state(&mut situation, 2, VotingState::Voting);
    assert_eq!(state_of(&situation, 2), ValidatorState::Active);
}

#[test]
fn the_height_last_signed_stays_when_the_node_starts_to_count_anew() {
    let mut situation = running();
    situation.network.status = Some(status_of(&situation));
    situation.observed.sync.insert(1, SyncStatus { validator: Some(SyncValidator::default()), ..sync(100) });
    assert_eq!(status_of(&situation).validator_statuses[1].last_signed_height, Some(100));
}

#[test]
fn a_transition_time_changes_only_with_the_status_of_its_condition() {
    let mut situation = running();
    let before = status_of(&situation);
    situation.network.status = Some(before.clone());
    situation.observed.now = Timestamp::from_second(NOW + 5).expect("a time");
    assert_eq!(status_of(&situation), before, "an unchanged network has an unchanged status");
    situation.observed.pods.remove(&0);
    let after = status_of(&situation);
    assert_ne!(condition(&after, "Ready").last_transition_time, condition(&before, "Ready").last_transition_time);
    assert_eq!(
        condition(&after, "KeysReady").last_transition_time,
        condition(&before, "KeysReady").last_transition_time
    );
}

#[test]
fn heights_alone_are_no_news_but_the_first_block_is() {
    let mut situation = running();
    let before = status_of(&situation);
    for sync in situation.observed.sync.values_mut() {
        *sync = SyncStatus { last_block_time_ms: NOW * 1_000, ..self::sync(101) };
    }
    let after = status_of(&situation);
    assert!(after != before && differs_only_in_heights(&before, &after));
    let mut none = before.clone();
    none.chain = none.chain.map(|chain| ChainStatus { height: Some(0), ..chain });
    assert!(!differs_only_in_heights(&none, &after));
}

#[test]
fn a_recorded_public_key_stays_while_its_secret_is_missing() {
    let mut situation = running();
    let before = status_of(&situation);
    situation.network.status = Some(before.clone());
    situation.observed.key_secrets.remove(&3);
    let after = status_of(&situation);
    assert_eq!(after.validator_statuses[3].public_key, before.validator_statuses[3].public_key);
    says(&situation, "Ready", "False", "KeyMissing");
}

#[test]
fn the_last_known_height_stays_while_nobody_answers() {
    let mut situation = running();
    situation.network.status = Some(status_of(&situation));
    situation.observed.sync.clear();
    assert_eq!(status_of(&situation).chain.and_then(|chain| chain.height), Some(100));
}
