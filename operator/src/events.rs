//! Pure: which events a visit is worth. Transitions of conditions, what the planner does to pods, who came, went, was jailed or slashed.

use crate::crd::status::{
    BlockchainNetworkStatus, JailCause, OnChain, OtherValidator, ValidatorState, ValidatorStatus,
};
use crate::observe::{Observed, SyncStatus};
use crate::plan::Note;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use std::collections::BTreeMap;

/// Conditions whose changes people want to read of.
const TOLD: [&str; 6] = ["Ready", "KeysReady", "GenesisReady", "DatabaseReady", "Available", "Degraded"];
/// Reasons that say no more than "not yet", or whose validators have an event each.
const TRANSIENT: [&str; 10] = [
    "Creating",
    "WaitingForKeys",
    "NoBlockYet",
    "ValidatorsNotReady",
    "ValidatorsNotSigning",
    "ValidatorsSilent",
    "Hibernated",
    "ValidatorsDown",
    "ValidatorQuarantined",
    "ValidatorJailed",
];
/// Most bytes of an event's note.
const NOTE_BYTES_MAX: usize = 1_000;

/// Events of conditions that changed.
pub fn transitions(former: &[Condition], present: &[Condition]) -> Vec<Event> {
    let told = present.iter().filter(|condition| TOLD.contains(&condition.type_.as_str()));
    told.filter(|condition| has_changed(former, condition)).filter_map(of_condition).collect()
}

fn has_changed(former: &[Condition], condition: &Condition) -> bool {
    let known = former.iter().find(|known| known.type_ == condition.type_);
    known.is_none_or(|known| (&known.status, &known.reason) != (&condition.status, &condition.reason))
}

fn of_condition(condition: &Condition) -> Option<Event> {
    let bad = if condition.type_ == "Degraded" { "True" } else { "False" };
    // What makes `Ready` false is told by the condition that it repeats.
    let transient = condition.type_ == "Ready" || TRANSIENT.contains(&condition.reason.as_str());
    let good_news = condition.type_ == "Ready" && condition.status == "True";
    let type_ = match condition.status == bad && !transient {
        true => EventType::Warning,
        false if good_news => EventType::Normal,
        false => return None,
    };
    Some(event(type_, &condition.reason, "Reconcile", format!("{}: {}", condition.type_, condition.message)))
}

/// Event of a step of the plan. It names its pod as the second object: events that differ only in their words are counted as one.
pub fn of_note(note: &Note, namespace: &str) -> Event {
    let pod = match note {
        Note::Restarting { pod } | Note::Restarted { pod, .. } => pod,
        Note::Replacing { pod } | Note::NoFaultTolerance { pod } => pod,
    };
    Event { secondary: Some(reference(pod, namespace)), ..in_words(note) }
}

fn reference(pod: &str, namespace: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectReference::default()
    }
}

/// Events of validators that were quarantined, or vote again.
pub fn quarantines(
    former: &[ValidatorStatus],
    present: &[ValidatorStatus],
    observed: &Observed,
    namespace: &str,
) -> Vec<Event> {
    let of = |validator: &ValidatorStatus| {
        let known = former.iter().find(|known| known.ordinal == validator.ordinal);
        let was = known.is_some_and(|known| known.state == ValidatorState::Quarantined);
        let why = || observed.sync.get(&validator.ordinal).map(SyncStatus::quarantine).unwrap_or_default();
        let pod = &validator.pod_name;
        let event = match validator.state {
            ValidatorState::Quarantined if !was => {
                let note = format!("{pod} casts no vote: {}", why());
                event(EventType::Warning, "ValidatorQuarantined", "Quarantine", note)
            }
            ValidatorState::Active | ValidatorState::Syncing if was => {
                event(EventType::Normal, "ValidatorRecovered", "Quarantine", format!("{pod} may vote again"))
            }
            _ => return None,
        };
        Some(Event { secondary: Some(reference(pod, namespace)), ..event })
    };
    present.iter().filter_map(of).collect()
}

/// A validator as the chain has it, whosever it is.
struct Seen<'a> {
    /// For people: its pod, or its address.
    name: &'a str,
    /// The object that an event is about.
    object: ObjectReference,
    weight: i64,
    on_chain: OnChain,
}

impl<'a> Seen<'a> {
    fn own(validator: &'a ValidatorStatus, namespace: &str) -> Option<(&'a str, Seen<'a>)> {
        let seen = Seen {
            name: &validator.pod_name,
            object: reference(&validator.pod_name, namespace),
            weight: validator.weight?,
            on_chain: validator.on_chain,
        };
        Some((validator.public_key.as_deref()?, seen))
    }

    fn other(validator: &'a OtherValidator) -> (&'a str, Seen<'a>) {
        let field_path = Some(format!("status.otherValidators[{}]", validator.public_key));
        let seen = Seen {
            name: &validator.address,
            object: ObjectReference { field_path, ..ObjectReference::default() },
            weight: validator.weight,
            on_chain: validator.on_chain,
        };
        (&validator.public_key, seen)
    }
}

/// By public key.
fn seen<'a>(status: &'a BlockchainNetworkStatus, namespace: &str) -> BTreeMap<&'a str, Seen<'a>> {
    let own = status.validator_statuses.iter().filter_map(|validator| Seen::own(validator, namespace));
    own.chain(status.other_validators.iter().map(Seen::other)).collect()
}

/// Events of validators that came into the set or left it, were jailed or slashed. None before a set was ever seen: who is there
/// then did not just come.
pub fn set_changes(former: &BlockchainNetworkStatus, present: &BlockchainNetworkStatus, namespace: &str) -> Vec<Event> {
    let epoch = |status: &BlockchainNetworkStatus| status.chain.as_ref().and_then(|chain| chain.epoch);
    let (Some(_), Some(epoch)) = (epoch(former), epoch(present)) else { return Vec::new() };
    let (was, is) = (seen(former, namespace), seen(present, namespace));
    let gone = was.iter().filter(|(key, known)| known.weight > 0 && !is.contains_key(*key));
    let mut all: Vec<Event> = gone.map(|(_, known)| left(known, epoch)).collect();
    for (key, now) in &is {
        let known = was.get(key);
        all.extend(changes(known, now, epoch));
    }
    all
}

fn changes(known: Option<&Seen<'_>>, now: &Seen<'_>, epoch: i64) -> Vec<Event> {
    let mut all = Vec::new();
    let was_member = known.is_some_and(|known| known.weight > 0);
    match (was_member, now.weight > 0) {
        (false, true) => all.push(joined(now, epoch)),
        (true, false) => all.push(left(now, epoch)),
        (true, true) | (false, false) => {}
    }
    let jailed_for = now.on_chain.jailed_for;
    let cause = jailed_for.filter(|_| known.and_then(|known| known.on_chain.jailed_for) != jailed_for);
    all.extend(cause.map(|cause| jailed(now, cause)));
    all.extend(known.and_then(|known| slashed(known, now)));
    all
}

fn joined(now: &Seen<'_>, epoch: i64) -> Event {
    let note =
        format!("{} decides on the chain from epoch {epoch} on, with a voting power of {}", now.name, now.weight);
    about(now, event(EventType::Normal, "ValidatorJoined", "ValidatorSet", note))
}

fn left(seen: &Seen<'_>, epoch: i64) -> Event {
    let note = format!("{} decides nothing on the chain from epoch {epoch} on", seen.name);
    about(seen, event(EventType::Normal, "ValidatorLeft", "ValidatorSet", note))
}

fn jailed(now: &Seen<'_>, cause: JailCause) -> Event {
    let cause = match cause {
        JailCause::DoubleSigning => "it signed two things that contradict each other",
        JailCause::Absence => "it made no block for long",
    };
    about(now, event(EventType::Warning, "ValidatorJailed", "Jail", format!("{} is jailed: {cause}", now.name)))
}

/// What was unbonded is still locked, and what is paid out was unbonded before: a stake that falls by more than is unbonding now was
/// cut, which double signing alone brings about.
fn slashed(known: &Seen<'_>, now: &Seen<'_>) -> Option<Event> {
    let units = |amount: Option<i64>| amount.unwrap_or(0);
    let (was, is) = (units(known.on_chain.stake), units(now.on_chain.stake));
    // What is known comes from status, which may hold any number.
    let unbonded = units(now.on_chain.unbonding).saturating_sub(units(known.on_chain.unbonding)).max(0);
    let cut = now.on_chain.jailed_for == Some(JailCause::DoubleSigning) && was.saturating_sub(is) > unbonded;
    let note = format!("{} is slashed for double signing: its stake falls from {was} to {is}", now.name);
    cut.then(|| about(now, event(EventType::Warning, "ValidatorSlashed", "Jail", note)))
}

fn about(seen: &Seen<'_>, event: Event) -> Event {
    Event { secondary: Some(seen.object.clone()), ..event }
}

fn in_words(note: &Note) -> Event {
    match note {
        Note::Restarting { pod } => event(
            EventType::Normal,
            "RestartingValidator",
            "Restart",
            format!("{pod} is restarted with the new template"),
        ),
        Note::Restarted { pod, height: 0 } => {
            event(EventType::Normal, "ValidatorRestarted", "Restart", format!("{pod} is ready again"))
        }
        Note::Restarted { pod, height } => {
            event(EventType::Normal, "ValidatorRestarted", "Restart", format!("{pod} signs again, at height {height}"))
        }
        Note::Replacing { pod } => event(
            EventType::Normal,
            "ReplacingPod",
            "Restart",
            format!("{pod} does not run and is replaced with the new template"),
        ),
        Note::NoFaultTolerance { pod } => event(
            EventType::Warning,
            "NoFaultTolerance",
            "Restart",
            format!("the chain cannot spare {pod}, and pauses while it restarts"),
        ),
    }
}

/// Event of keys that were created.
pub fn keys_created(names: &[String]) -> Event {
    event(EventType::Normal, "KeysCreated", "CreateKeys", format!("created {}; back them up", names.join(", ")))
}

/// Event of something that failed.
pub fn failed(reason: &'static str, message: &str) -> Event {
    event(EventType::Warning, reason, "Reconcile", message.to_owned())
}

/// Event of a network that is being deleted.
pub fn cleanup(message: &str) -> Event {
    event(EventType::Normal, "CleaningUp", "Delete", message.to_owned())
}

fn event(type_: EventType, reason: &str, action: &str, note: String) -> Event {
    let mut note = note;
    let mut end = NOTE_BYTES_MAX.min(note.len());
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note.truncate(end);
    Event { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn condition(type_: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: "m".into(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        }
    }

    #[test]
    fn an_unchanged_condition_makes_no_event() {
        let known = [condition("KeysReady", "False", "KeyMissing")];
        assert!(transitions(&known, &known).is_empty());
    }

    #[test]
    fn a_missing_key_is_a_warning_and_waiting_is_none() {
        let now = [condition("KeysReady", "False", "KeyMissing"), condition("Ready", "False", "ValidatorsNotReady")];
        let events = transitions(&[], &now);
        assert_eq!(events.iter().map(|e| e.reason.as_str()).collect::<Vec<_>>(), ["KeyMissing"]);
        assert_eq!(events[0].type_, EventType::Warning);
    }

    #[test]
    fn restarts_of_two_pods_are_two_events() {
        let of = |pod: &str| of_note(&Note::Restarting { pod: pod.into() }, "chains").secondary;
        assert_ne!(of("net-validator-0"), of("net-validator-1"));
    }

    fn validator(state: ValidatorState) -> [ValidatorStatus; 1] {
        [ValidatorStatus { ordinal: 2, state, pod_name: "net-validator-2".into(), ..ValidatorStatus::default() }]
    }

    #[test]
    fn a_quarantine_is_told_once_when_it_begins_and_once_when_it_ends() {
        use ValidatorState::{Active, Pending, Quarantined, Syncing};
        let quarantine = Some("the database is new".to_owned());
        let own = crate::observe::SyncValidator { quarantine, ..Default::default() };
        let sync = SyncStatus { validator: Some(own), ..SyncStatus::default() };
        let observed = Observed { sync: [(2, sync)].into(), ..Observed::default() };
        let told = |from, to| {
            let events = quarantines(&validator(from), &validator(to), &observed, "chains");
            assert!(events.iter().all(|event| event.secondary.is_some()), "each is about its pod");
            events.into_iter().map(|event| (event.reason, event.note.unwrap_or_default())).collect::<Vec<_>>()
        };
        let begin =
            ("ValidatorQuarantined".to_owned(), "net-validator-2 casts no vote: the database is new".to_owned());
        assert_eq!(told(Active, Quarantined), std::slice::from_ref(&begin));
        assert_eq!(told(Pending, Quarantined), [begin]);
        assert!(told(Quarantined, Quarantined).is_empty() && told(Pending, Syncing).is_empty());
        let end = ("ValidatorRecovered".to_owned(), "net-validator-2 may vote again".to_owned());
        assert_eq!(told(Quarantined, Syncing), [end]);
        let known = [condition("Degraded", "False", "AsExpected")];
        let now = [condition("Degraded", "True", "ValidatorQuarantined")];
        assert!(transitions(&known, &now).is_empty(), "not told a second time for the network");
    }

    fn chain_of(own: ValidatorStatus, others: Vec<OtherValidator>) -> BlockchainNetworkStatus {
        let chain = Some(crate::crd::status::ChainStatus { epoch: Some(7), ..Default::default() });
        let own = ValidatorStatus { public_key: Some("aa".into()), pod_name: "net-validator-4".into(), ..own };
        let validator_statuses = vec![own];
        BlockchainNetworkStatus { chain, validator_statuses, other_validators: others, ..Default::default() }
    }

    fn weighing(weight: i64, stake: i64) -> ValidatorStatus {
        let on_chain = OnChain { stake: Some(stake), ..OnChain::default() };
        ValidatorStatus { weight: Some(weight), on_chain, ..ValidatorStatus::default() }
    }

    fn shut_out(weight: i64, stake: i64, cause: JailCause) -> ValidatorStatus {
        let on_chain = OnChain { stake: Some(stake), jailed_for: Some(cause), ..OnChain::default() };
        ValidatorStatus { on_chain, ..weighing(weight, stake) }
    }

    fn told(former: &BlockchainNetworkStatus, present: &BlockchainNetworkStatus) -> Vec<(EventType, String)> {
        let events = set_changes(former, present, "chains");
        assert!(events.iter().all(|event| event.secondary.is_some()), "each is about its validator");
        events.into_iter().map(|event| (event.type_, event.reason)).collect()
    }

    fn normal(reason: &str) -> (EventType, String) {
        (EventType::Normal, reason.to_owned())
    }

    fn warning(reason: &str) -> (EventType, String) {
        (EventType::Warning, reason.to_owned())
    }

    #[test]
    fn a_validator_that_joins_or_leaves_is_told_once() {
        let (out, in_) = (chain_of(weighing(0, 1_000), vec![]), chain_of(weighing(1_000, 1_000), vec![]));
        assert_eq!(told(&out, &in_), [normal("ValidatorJoined")]);
        assert_eq!(told(&in_, &out), [normal("ValidatorLeft")]);
        assert!(told(&in_, &in_).is_empty() && told(&out, &out).is_empty());
    }

    #[test]
    fn who_is_there_at_the_first_look_did_not_just_come() {
        let mut never = chain_of(weighing(0, 0), vec![]);
        never.chain = None;
        let jailed = chain_of(shut_out(1_000, 950, JailCause::DoubleSigning), vec![]);
        assert!(told(&never, &jailed).is_empty());
    }

    #[test]
    fn jail_and_slash_are_warnings_and_absence_costs_no_stake() {
        let before = chain_of(weighing(1_000, 1_000), vec![]);
        let convicted = chain_of(shut_out(1_000, 950, JailCause::DoubleSigning), vec![]);
        assert_eq!(told(&before, &convicted), [warning("ValidatorJailed"), warning("ValidatorSlashed")]);
        let absent = chain_of(shut_out(1_000, 1_000, JailCause::Absence), vec![]);
        assert_eq!(told(&before, &absent), [warning("ValidatorJailed")]);
        assert!(told(&absent, &absent).is_empty() && told(&convicted, &convicted).is_empty());
        let again = chain_of(shut_out(1_000, 902, JailCause::DoubleSigning), vec![]);
        assert_eq!(told(&convicted, &again), [warning("ValidatorSlashed")], "a second offence in jail");
        assert_eq!(told(&absent, &again), [warning("ValidatorJailed"), warning("ValidatorSlashed")]);
        assert!(told(&convicted, &before).is_empty(), "it is out again");
    }

    #[test]
    fn a_stake_that_is_unbonded_or_paid_out_is_not_slashed() {
        let unbonding = |stake: i64, unbonding: i64| {
            let own = shut_out(0, stake, JailCause::DoubleSigning);
            let on_chain = OnChain { unbonding: Some(unbonding), ..own.on_chain };
            chain_of(ValidatorStatus { on_chain, ..own }, vec![])
        };
        assert!(told(&unbonding(1_000, 0), &unbonding(400, 600)).is_empty());
        assert!(told(&unbonding(400, 600), &unbonding(400, 0)).is_empty());
        assert_eq!(told(&unbonding(400, 600), &unbonding(380, 570)), [warning("ValidatorSlashed")]);
        let of_its_own = chain_of(weighing(400, 400), vec![]);
        assert!(told(&chain_of(weighing(400, 1_000), vec![]), &of_its_own).is_empty(), "it is not jailed");
    }

    #[test]
    fn whatever_number_status_holds_a_slash_is_told_without_a_panic() {
        let convicted = chain_of(shut_out(0, 950, JailCause::DoubleSigning), vec![]);
        let slashes = |stake: i64, unbonding: i64| {
            let mut edited = shut_out(0, stake, JailCause::DoubleSigning);
            edited.on_chain.unbonding = Some(unbonding);
            told(&chain_of(edited, vec![]), &convicted).len()
        };
        assert_eq!((slashes(i64::MAX, 0), slashes(i64::MIN, i64::MAX), slashes(i64::MAX, i64::MIN)), (1, 0, 0));
    }

    #[test]
    fn validators_of_others_are_told_of_by_address_and_each_by_itself() {
        let other = |key: &str, weight: i64| OtherValidator {
            public_key: key.into(),
            address: format!("ait1{key}"),
            weight,
            ..OtherValidator::default()
        };
        let with = |others| chain_of(weighing(1, 0), others);
        let (none, both) = (with(vec![]), with(vec![other("bb", 1), other("cc", 1)]));
        assert_eq!(told(&none, &both), [normal("ValidatorJoined"), normal("ValidatorJoined")]);
        let events = set_changes(&none, &both, "chains");
        assert_ne!(events[0].secondary, events[1].secondary, "or they would count as one");
        assert!(events[0].note.as_ref().is_some_and(|note| note.contains("ait1bb")));
        assert_eq!(
            told(&both, &none),
            [normal("ValidatorLeft"), normal("ValidatorLeft")],
            "also one that is listed no more"
        );
        assert!(told(&with(vec![other("bb", 0)]), &none).is_empty());
    }

    #[test]
    fn a_note_never_exceeds_what_the_api_takes() {
        let long = failed("X", &"ä".repeat(2_000));
        assert!(long.note.is_some_and(|note| note.len() <= NOTE_BYTES_MAX));
    }
}
