//! Pure: which events a visit is worth. Transitions of conditions, and what the planner does to pods.

use crate::crd::status::{ValidatorState, ValidatorStatus};
use crate::observe::{Observed, SyncStatus};
use crate::plan::Note;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

/// Conditions whose changes people want to read of.
const TOLD: [&str; 6] = ["Ready", "KeysReady", "GenesisReady", "DatabaseReady", "Available", "Degraded"];
/// Reasons that say no more than "not yet", or whose validators have an event each.
const TRANSIENT: [&str; 9] = [
    "Creating",
    "WaitingForKeys",
    "NoBlockYet",
    "ValidatorsNotReady",
    "ValidatorsNotSigning",
    "ValidatorsSilent",
    "Hibernated",
    "ValidatorsDown",
    "ValidatorQuarantined",
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
        Note::Restarting { pod } | Note::Restarted { pod, .. } | Note::Replacing { pod } => Some(pod),
        Note::NoFaultTolerance { .. } => None,
    };
    Event { secondary: pod.map(|name| reference(name, namespace)), ..in_words(note) }
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

fn in_words(note: &Note) -> Event {
    match note {
        Note::Restarting { pod } => event(
            EventType::Normal,
            "RestartingValidator",
            "Restart",
            format!("{pod} is restarted with the new template"),
        ),
        Note::Restarted { pod, height } => {
            event(EventType::Normal, "ValidatorRestarted", "Restart", format!("{pod} signs again, at height {height}"))
        }
        Note::Replacing { pod } => event(
            EventType::Normal,
            "ReplacingPod",
            "Restart",
            format!("{pod} does not run and is replaced with the new template"),
        ),
        Note::NoFaultTolerance { replicas } => event(
            EventType::Warning,
            "NoFaultTolerance",
            "Restart",
            format!("{replicas} validators tolerate no failure: the chain pauses while one restarts"),
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

    #[test]
    fn a_note_never_exceeds_what_the_api_takes() {
        let long = failed("X", &"ä".repeat(2_000));
        assert!(long.note.is_some_and(|note| note.len() <= NOTE_BYTES_MAX));
    }
}
