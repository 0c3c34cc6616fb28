//! What people read of a network in each of its situations.

use super::*;
use crate::crd::status::{JailCause, OnChain, OtherValidator, ValidatorState};
use crate::observe::chain_set::{Candidate, ChainSet, JailedFor, Member, NextMember};
use crate::observe::{SyncStatus, SyncValidator, VotingState};
use crate::validate::{Defaults, keys::ValidatorKey, validate};
use aitbc_core::key::SecretKey;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
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
    in_mode("poa", replicas)
}

fn in_mode(mode: &str, replicas: i32) -> Situation {
    let network: BlockchainNetwork = serde_json::from_value(json!({
        "apiVersion": "blockchain.aitbc.io/v1alpha1",
        "kind": "BlockchainNetwork",
        "metadata": { "name": "net", "namespace": "chains", "uid": "u", "generation": 3 },
        "spec": { "consensus": { "mode": mode }, "validators": { "replicas": replicas } },
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
        ready: true,
        height,
        last_block_time_ms: (NOW - 1) * 1_000,
        database_ready: true,
        validator: Some(SyncValidator { weight: 1, last_signed_height: height, ..SyncValidator::default() }),
        ..SyncStatus::default()
    }
}

fn status_of(situation: &Situation) -> BlockchainNetworkStatus {
    status_after(situation, None, None)
}

/// Where a write failed, and a node said who decides at that time.
fn status_after(situation: &Situation, failed: Option<&Problem>, set_seen: Option<i64>) -> BlockchainNetworkStatus {
    let defaults = Defaults { node_image: "node:1".into() };
    let validated = validate(&situation.network, &situation.observed, &defaults);
    let set_seen = set_seen.map(|second| Timestamp::from_second(second).expect("a time"));
    let plan = plan::plan(&validated, &situation.observed, None, set_seen);
    let Situation { network, observed } = situation;
    status(Visit { network, validated: &validated, observed, plan: &plan, failed, set_seen })
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

fn fenced_containers() -> Vec<k8s_openapi::api::core::v1::ContainerStatus> {
    let fenced = json!([{ "name": "validator", "image": "", "imageID": "", "ready": false, "restartCount": 1,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "exitCode": 70 } } }]);
    serde_json::from_value(fenced).expect("statuses")
}

#[test]
fn a_fenced_validator_is_shown_as_such() {
    let mut situation = running();
    if let Some(status) = situation.observed.pods.get_mut(&0).and_then(|pod| pod.status.as_mut()) {
        status.container_statuses = Some(fenced_containers());
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
    assert!(
        message.contains("2: the database is new") && message.contains("once 3 of 4 of the voting power"),
        "{message}"
    );
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
    assert!(after != before && differs_only_in_detail(&before, &after));
    let mut none = before.clone();
    none.chain = none.chain.map(|chain| ChainStatus { height: Some(0), ..chain });
    assert!(!differs_only_in_detail(&none, &after));
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
    assert_eq!(height_of(&situation), Some(100));
}

fn height_of(situation: &Situation) -> Option<i64> {
    status_of(situation).chain.and_then(|chain| chain.height)
}

/// Every node that answers has this last block, of that time in seconds.
fn set_block(situation: &mut Situation, height: i64, second: i64) {
    for said in situation.observed.sync.values_mut() {
        *said = SyncStatus { last_block_time_ms: second * 1_000, ..sync(height) };
    }
}

#[test]
fn the_block_on_record_stays_while_those_that_answer_have_yet_to_come_as_far() {
    let mut situation = running();
    recorded(&mut situation);
    let before = status_of(&situation).chain;
    situation.observed.sync.remove(&0);
    set_block(&mut situation, 99, NOW - 2);
    assert_eq!(status_of(&situation).chain, before);
    set_block(&mut situation, 101, NOW);
    assert_eq!(height_of(&situation), Some(101));
}

#[test]
fn a_height_that_one_validator_claims_alone_is_not_the_chains() {
    let mut situation = running();
    situation.observed.sync.insert(3, sync(1 << 50));
    let status = status_of(&situation);
    assert_eq!(status.chain.and_then(|chain| chain.height), Some(100));
    assert_eq!(status.validator_statuses[3].height, Some(1 << 50), "it is shown as its own");
}

#[test]
fn a_height_that_was_never_of_the_chain_goes_with_the_next_block() {
    let mut situation = running();
    set_block(&mut situation, 1 << 50, NOW - 1);
    recorded(&mut situation);
    set_block(&mut situation, 100, NOW - 1);
    assert_eq!(height_of(&situation), Some(1 << 50), "nobody knows better yet");
    set_block(&mut situation, 101, NOW);
    assert_eq!(height_of(&situation), Some(101));
    set_block(&mut situation, 1 << 50, NOW + CLOCKS_APART_SECONDS + 1);
    recorded(&mut situation);
    set_block(&mut situation, 100, NOW - 1);
    assert_eq!(height_of(&situation), Some(100), "no block is of the future");
}

#[test]
fn the_height_of_a_chain_with_another_genesis_does_not_stay() {
    let mut situation = running();
    let validated = validate(&situation.network, &situation.observed, &Defaults { node_image: "node:1".into() });
    let entry = (crate::names::GENESIS_ENTRY.to_owned(), validated.genesis.expect("a genesis").json);
    situation.observed.genesis = Some(ConfigMap { data: Some([entry].into()), ..ConfigMap::default() });
    recorded(&mut situation);
    set_block(&mut situation, 0, 0);
    assert_eq!(height_of(&situation), Some(100));
    let known = situation.network.status.as_mut().and_then(|status| status.chain.as_mut());
    known.expect("recorded").genesis_hash = Some("0x00".into());
    assert_eq!(height_of(&situation), Some(0));
}

fn key(ordinal: i32) -> String {
    SecretKey::from_seed([u8::try_from(ordinal).expect("few"); 32]).public().to_string()
}

/// What a node says where those with that voting power decide in this epoch and the next, by number of their key.
fn set(weights: &[(i32, i64)]) -> ChainSet {
    let member = |(ordinal, weight): &(i32, i64)| Member {
        address: format!("ait1{ordinal}"),
        public_key: key(*ordinal),
        weight: *weight,
        connected: true,
    };
    let next = |(ordinal, weight): &(i32, i64)| NextMember { key: key(*ordinal), weight: *weight };
    let candidate = |(ordinal, stake): &(i32, i64)| Candidate {
        address: format!("ait1{ordinal}"),
        public_key: key(*ordinal),
        stake: *stake,
        admitted: true,
        active: true,
        ..Candidate::default()
    };
    ChainSet {
        epoch: 7,
        height: 100,
        validators: weights.iter().map(member).collect(),
        next: weights.iter().map(next).collect(),
        candidates: weights.iter().map(candidate).collect(),
    }
}

/// Five pods of a hybrid network, of which the first four decide with a stake of 1000 each.
fn four_of_five() -> Situation {
    let mut situation = in_mode("hybrid", 5);
    situation.observed.set = Some(set(&[(0, 1_000), (1, 1_000), (2, 1_000), (3, 1_000)]));
    let own = SyncValidator { weight: 0, last_signed_height: 0, ..SyncValidator::default() };
    situation.observed.sync.insert(4, SyncStatus { validator: Some(own), ..sync(100) });
    situation
}

fn chain_set(situation: &mut Situation) -> &mut ChainSet {
    situation.observed.set.as_mut().expect("a set")
}

/// The next visit finds the status of this one.
fn recorded(situation: &mut Situation) {
    situation.network.status = Some(status_of(situation));
}

#[test]
fn a_pod_that_decides_nothing_is_a_candidate_and_ready_does_not_wait_for_it() {
    let mut situation = four_of_five();
    assert_eq!(state_of(&situation, 4), ValidatorState::Candidate);
    says(&situation, "Ready", "True", "Ready");
    says(&situation, "Degraded", "False", "AsExpected");
    says(&situation, "ValidatorSetSynced", "False", "ValidatorsOutside");
    let message = condition(&status_of(&situation), "ValidatorSetSynced").message;
    assert!(
        message.contains("validators 4 ") && message.contains("ACTIVATE, a stake, and to be admitted"),
        "{message}"
    );
    let status = status_of(&situation);
    let counted = status.validators.expect("validators");
    assert_eq!((counted.summary.as_str(), counted.signing, counted.total_weight), ("5/5", 4, 4_000));
    assert_eq!((counted.fault_tolerance, counted.disruptions_allowed, counted.others), (1, 1, 0));
    assert_eq!((status.validator_statuses[4].weight, status.validator_statuses[4].on_chain.stake), (Some(0), None));
    let first = &status.validator_statuses[0];
    assert_eq!((first.weight, first.on_chain.stake), (Some(1_000), Some(1_000)));
    assert_eq!(status.chain.and_then(|chain| chain.epoch), Some(7));
    if let Some(sync) = situation.observed.sync.get_mut(&4) {
        sync.catching_up = true;
    }
    assert_eq!(state_of(&situation, 4), ValidatorState::Syncing);
}

#[test]
fn one_that_comes_in_is_a_candidate_until_its_epoch_begins_and_then_has_to_sign() {
    let mut situation = four_of_five();
    chain_set(&mut situation).next.push(NextMember { key: key(4), weight: 1_000 });
    assert_eq!(state_of(&situation, 4), ValidatorState::Candidate);
    says(&situation, "ValidatorSetSynced", "False", "ValidatorsJoining");
    situation.observed.set = Some(set(&[(0, 1_000), (1, 1_000), (2, 1_000), (3, 1_000), (4, 1_000)]));
    assert_eq!(state_of(&situation, 4), ValidatorState::Syncing);
    says(&situation, "Ready", "False", "ValidatorsNotSigning");
    says(&situation, "Degraded", "True", "ValidatorsDown");
    situation.observed.sync.insert(4, sync(100));
    assert_eq!(state_of(&situation, 4), ValidatorState::Active);
    says(&situation, "ValidatorSetSynced", "True", "Synced");
    says(&situation, "Ready", "True", "Ready");
}

#[test]
fn a_jailed_validator_is_shown_with_cause_and_stake_also_while_it_still_decides_or_is_fenced() {
    let mut situation = four_of_five();
    let jailed = &mut chain_set(&mut situation).candidates[3];
    (jailed.stake, jailed.unbonding, jailed.jailed_until) = (950, 95, Some(9));
    jailed.jailed_for = Some(JailedFor::DoubleSigning);
    let shown = status_of(&situation).validator_statuses.remove(3);
    assert_eq!((shown.state, shown.weight), (ValidatorState::Jailed, Some(1_000)));
    let OnChain { stake, unbonding, jailed_for, jailed_until_epoch } = shown.on_chain;
    assert_eq!((stake, unbonding, jailed_until_epoch), (Some(950), Some(95), Some(9)));
    assert_eq!(jailed_for, Some(JailCause::DoubleSigning));
    says(&situation, "Degraded", "True", "ValidatorJailed");
    says(&situation, "ValidatorSetSynced", "False", "ValidatorJailed");
    let message = condition(&status_of(&situation), "Degraded").message;
    assert!(message.contains("validator 3 is jailed for double signing"), "{message}");
    if let Some(pod) = situation.observed.pods.get_mut(&3) {
        pod.status.get_or_insert_default().container_statuses = Some(fenced_containers());
    }
    assert_eq!(state_of(&situation, 3), ValidatorState::Jailed);
    says(&situation, "Degraded", "True", "ValidatorFenced");
}

#[test]
fn one_that_goes_leaves_until_its_epoch_ends_and_has_left_from_then_on() {
    let mut situation = four_of_five();
    chain_set(&mut situation).next.remove(3);
    chain_set(&mut situation).candidates.remove(3);
    assert_eq!(state_of(&situation, 3), ValidatorState::Leaving);
    says(&situation, "ValidatorSetSynced", "False", "ValidatorsLeaving");
    recorded(&mut situation);
    situation.observed.set = Some(set(&[(0, 1_000), (1, 1_000), (2, 1_000)]));
    assert_eq!(state_of(&situation, 3), ValidatorState::Left);
    recorded(&mut situation);
    assert_eq!(state_of(&situation, 3), ValidatorState::Left);
    says(&situation, "Ready", "True", "Ready");
    situation.observed.sync.remove(&3);
    assert_eq!(state_of(&situation, 3), ValidatorState::Left);
}

#[test]
fn validators_of_others_count_and_are_listed_with_those_that_may_come() {
    let mut situation = running();
    let mut known = set(&[(0, 1), (1, 1), (2, 1), (3, 1), (8, 2)]);
    known.candidates.push(Candidate { public_key: key(9), address: "ait19".into(), stake: 5, ..Candidate::default() });
    situation.observed.set = Some(known);
    let status = status_of(&situation);
    let others: Vec<_> = status.other_validators.iter().map(|o| (o.address.as_str(), o.weight, o.state)).collect();
    assert_eq!(others, [("ait18", 2, ValidatorState::Active), ("ait19", 0, ValidatorState::Candidate)]);
    let counted = status.validators.expect("validators");
    assert_eq!((counted.others, counted.total_weight, counted.live_weight), (2, 6, 6));
    assert_eq!((counted.fault_tolerance, counted.disruptions_allowed), (0, 1), "not the heavy one, but one of ours");
    says(&situation, "ValidatorSetSynced", "True", "Synced");
    chain_set(&mut situation).validators[4].connected = false;
    let status = status_of(&situation);
    assert_eq!(status.other_validators[0].state, ValidatorState::Pending);
    assert_eq!(status.validators.map(|counted| counted.live_weight), Some(4));
}

#[test]
fn of_many_others_the_first_hundred_are_listed_and_all_are_counted() {
    let mut situation = running();
    let mut known = set(&[(0, 1), (1, 1), (2, 1), (3, 1), (99, 1)]);
    let other = |n: i32| Candidate { public_key: key(n), stake: 5, ..Candidate::default() };
    known.candidates.splice(0..0, (100..250).map(other));
    situation.observed.set = Some(known);
    let status = status_of(&situation);
    assert_eq!(status.other_validators.len(), 100);
    assert_eq!(status.other_validators[0].public_key, key(99), "who decides comes first");
    assert_eq!(status.validators.map(|counted| counted.others), Some(151));
}

#[test]
fn what_the_chain_said_of_its_validators_stays_while_no_node_says_it() {
    let mut situation = four_of_five();
    let known = chain_set(&mut situation);
    known.candidates[3].jailed_for = Some(JailedFor::Absence);
    known.validators.push(Member { public_key: key(8), weight: 500, connected: true, ..Member::default() });
    recorded(&mut situation);
    let before = status_of(&situation);
    situation.observed.set = None;
    let after = status_of(&situation);
    let of_chain = |status: &BlockchainNetworkStatus| {
        let own = status.validator_statuses.iter().map(|v| (v.weight, v.on_chain, v.state));
        (own.collect::<Vec<_>>(), status.other_validators.clone(), status.validators.clone())
    };
    assert_eq!(of_chain(&after), of_chain(&before));
    assert_eq!(condition(&after, "ValidatorSetSynced").status, "Unknown");
}

#[test]
fn no_restart_begins_while_no_node_says_who_decides_and_one_did_a_moment_ago() {
    let mut situation = running();
    let set = json!({
        "metadata": { "generation": 1 },
        "spec": { "replicas": 4, "selector": {}, "serviceName": "net-peers", "template": {} },
        "status": { "observedGeneration": 1, "replicas": 4, "updateRevision": "new" },
    });
    situation.observed.stateful_set = Some(serde_json::from_value(set).expect("a StatefulSet"));
    let node = json!({
        "name": "validator", "image": "node:1", "imageID": "", "ready": true, "restartCount": 0, "state": { "running": {} },
    });
    for pod in situation.observed.pods.values_mut() {
        pod.metadata.labels = Some([("controller-revision-hash".to_owned(), "old".to_owned())].into());
        let node = serde_json::from_value(node.clone()).expect("a container");
        pod.status.as_mut().expect("a status").container_statuses = Some(vec![node]);
    }
    let begins = |seen: i64| status_after(&situation, None, Some(seen)).operation.is_some();
    assert!(!begins(NOW) && !begins(NOW - 30), "nodes limit how often one may ask");
    assert!(begins(NOW - 31), "or it would wait for ever");
}

#[test]
fn a_set_of_a_lower_height_than_status_has_seen_is_not_believed() {
    let mut situation = four_of_five();
    recorded(&mut situation);
    let mut older = set(&[(0, 1_000), (1, 1_000), (2, 1_000)]);
    older.height = 99;
    situation.observed.set = Some(older.clone());
    assert_eq!(status_of(&situation).validator_statuses[3].weight, Some(1_000));
    situation.observed.set = Some(ChainSet { height: 100, ..older });
    assert_eq!(status_of(&situation).validator_statuses[3].weight, Some(0));
}

#[test]
fn a_new_epoch_alone_is_no_news() {
    let mut situation = four_of_five();
    let before = status_of(&situation);
    chain_set(&mut situation).epoch = 8;
    let after = status_of(&situation);
    assert!(after != before && differs_only_in_detail(&before, &after));
    chain_set(&mut situation).validators.remove(3);
    assert!(!differs_only_in_detail(&before, &status_of(&situation)));
}

#[test]
fn stakes_alone_are_no_news_and_weights_and_jail_are() {
    let mut situation = four_of_five();
    chain_set(&mut situation).candidates.push(Candidate { public_key: key(9), stake: 5, ..Candidate::default() });
    let before = status_of(&situation);
    for known in &mut chain_set(&mut situation).candidates {
        (known.stake, known.unbonding) = (known.stake + 1, 7);
    }
    let after = status_of(&situation);
    assert_ne!(after.validator_statuses[0].on_chain, before.validator_statuses[0].on_chain);
    assert_ne!(after.other_validators[0].on_chain, before.other_validators[0].on_chain);
    assert!(differs_only_in_detail(&before, &after));
    let mut heavier = four_of_five();
    chain_set(&mut heavier).validators[0].weight += 1;
    assert!(!differs_only_in_detail(&status_of(&four_of_five()), &status_of(&heavier)));
    chain_set(&mut situation).candidates[4].jailed_for = Some(JailedFor::Absence);
    assert!(!differs_only_in_detail(&after, &status_of(&situation)));
}

#[test]
fn the_words_of_a_failure_are_no_news_and_another_failure_is() {
    let situation = running();
    let of = |reason, message: &str| status_after(&situation, Some(&Problem::new(reason, message)), None);
    let before = of("ApplyFailed", "read tcp 10.0.0.1:40001->10.0.0.2:443: connection reset");
    let after = of("ApplyFailed", "read tcp 10.0.0.1:40002->10.0.0.2:443: connection reset");
    assert!(after != before && differs_only_in_detail(&before, &after));
    assert!(!differs_only_in_detail(&before, &of("DeleteFailed", "no")));
    assert!(!differs_only_in_detail(&before, &status_of(&situation)));
}

#[test]
fn who_decides_stays_known_for_half_a_minute_while_no_node_says_it() {
    let mut situation = four_of_five();
    recorded(&mut situation);
    let known = condition(&status_of(&situation), "ValidatorSetSynced");
    situation.observed.set = None;
    let synced = |seen| condition(&status_after(&situation, None, seen), "ValidatorSetSynced");
    assert_eq!(synced(Some(NOW - 30)), known);
    assert_eq!((synced(Some(NOW - 31)).status.as_str(), synced(None).status.as_str()), ("Unknown", "Unknown"));
    let mut never = four_of_five();
    never.observed.set = None;
    let first = condition(&status_after(&never, None, Some(NOW)), "ValidatorSetSynced");
    assert_eq!(first.status, "Unknown", "nothing was known before");
}

#[test]
fn who_decides_is_believed_at_once_where_a_node_says_it() {
    let mut situation = four_of_five();
    recorded(&mut situation);
    situation.observed.set = Some(set(&[(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]));
    let after = status_after(&situation, None, Some(NOW));
    assert_eq!(condition(&after, "ValidatorSetSynced").reason, "Synced");
}

#[test]
fn weights_in_status_that_no_chain_has_count_for_nothing() {
    let mut situation = running();
    recorded(&mut situation);
    let status = situation.network.status.as_mut().expect("recorded");
    for (validator, weight) in status.validator_statuses.iter_mut().zip([i64::MAX, i64::MAX, i64::MIN, -1]) {
        validator.weight = Some(weight);
    }
    let other = OtherValidator { public_key: key(8), weight: i64::MAX, ..OtherValidator::default() };
    status.other_validators = vec![other.clone(), OtherValidator { public_key: key(9), ..other }];
    assert_eq!(status_of(&situation).validators.map(|counted| counted.total_weight), Some(4), "as at genesis");
}

#[test]
fn a_machine_counts_by_the_voting_power_on_it() {
    let mut situation = four_of_five();
    if let Some(pod) = situation.observed.pods.get_mut(&4) {
        pod.spec.get_or_insert_default().node_name = Some("machine-0".into());
    }
    says(&situation, "FaultDomainsIndependent", "True", "Independent");
    situation.observed.set = Some(set(&[(0, 3_000), (1, 2_000), (2, 2_000), (3, 2_000)]));
    says(&situation, "FaultDomainsIndependent", "False", "SharedFaultDomain");
}
