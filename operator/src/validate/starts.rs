//! Pure: whose key has never voted on this chain (protocol A1), and which key Secrets have yet to say that theirs may have.
//!
//! A new database is no proof of a new key: volumes get lost. So a first start is asserted only while nothing hints at a vote, and a
//! hint is written down where the key lies, from where it outlives network, volumes and operator. Once taken back the assertion is
//! never made again by itself: a hint too many costs a validator one round of questions, one too few may be two votes of one key.

use crate::crd::status::BlockchainNetworkStatus;
use crate::names::{self, STARTED_ON_ANNOTATION};
use crate::observe::{Observed, SyncStatus, VotingState};
use crate::validate::Settings;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use std::collections::BTreeSet;

/// What is known of the validators' keys on this chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// Validators whose key has never voted on this chain, as far as anything tells.
    pub first: BTreeSet<i32>,
    /// Key Secrets that have yet to say that their key may have.
    pub unrecorded: Vec<Record>,
}

/// What a key Secret shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name of the Secret.
    pub secret: String,
    /// Version that was read: what somebody else writes meanwhile is not overwritten.
    pub resource_version: Option<String>,
    /// Value of [`STARTED_ON_ANNOTATION`].
    pub chains: String,
}

/// Looks for a hint at a vote of each key on the chain of this genesis hash.
pub fn check(
    settings: &Settings,
    observed: &Observed,
    status: Option<&BlockchainNetworkStatus>,
    genesis_hash: &str,
) -> Starts {
    let mut starts = Starts::default();
    for (ordinal, secret) in observed.key_secrets.range(0..settings.replicas) {
        if lists(started_on(secret), genesis_hash) {
            continue;
        }
        let may_have_voted = lists(observed.provided_started.get(ordinal), genesis_hash)
            || observed.sync.get(ordinal).is_some_and(says_it_voted)
            || network_remembers(settings, observed, status, genesis_hash, *ordinal);
        if may_have_voted {
            starts.unrecorded.push(record(secret, genesis_hash));
        } else {
            starts.first.insert(*ordinal);
        }
    }
    starts
}

fn started_on(secret: &Secret) -> Option<&String> {
    secret.annotations().get(STARTED_ON_ANNOTATION)
}

/// True where the annotation names the chain. A key may have been on several, one after the other.
fn lists(chains: Option<&String>, genesis_hash: &str) -> bool {
    chains.is_some_and(|chains| chains.split(',').any(|chain| chain.trim() == genesis_hash))
}

/// A node that may vote is as good as one that has: the vote may be out before the next look.
fn says_it_voted(sync: &SyncStatus) -> bool {
    sync.voting_state() == VotingState::Voting || sync.signed_height() > 0
}

/// What this network itself recalls, should a key Secret have been deleted and copied back without its annotation, or come from a
/// backup of before. Of another chain it knows nothing.
fn network_remembers(
    settings: &Settings,
    observed: &Observed,
    status: Option<&BlockchainNetworkStatus>,
    genesis_hash: &str,
    ordinal: i32,
) -> bool {
    let Some(status) = status else { return false };
    let same_chain = status.chain.as_ref().and_then(|chain| chain.genesis_hash.as_deref()) == Some(genesis_hash);
    let known = status.validator_statuses.iter().find(|validator| validator.ordinal == ordinal);
    let signed = known.and_then(|validator| validator.last_signed_height).is_some_and(|height| height > 0);
    same_chain && (signed || was_taken_back(settings, observed, ordinal))
}

/// The mounted Secret of this network, not of an earlier one of its name, has the entry, and it is empty.
fn was_taken_back(settings: &Settings, observed: &Observed, ordinal: i32) -> bool {
    let ours = |secret: &&Secret| secret.owner_references().iter().any(|owner| owner.uid == settings.identity.uid);
    let entries = observed.mounted_keys.as_ref().filter(ours).and_then(|secret| secret.data.as_ref());
    let entry = entries.and_then(|entries| entries.get(&names::first_start(&settings.identity.name, ordinal)));
    entry.is_some_and(|entry| entry.0.is_empty())
}

fn record(secret: &Secret, genesis_hash: &str) -> Record {
    let former = started_on(secret).map(|chains| chains.trim()).filter(|chains| !chains.is_empty());
    Record {
        secret: secret.name_any(),
        resource_version: secret.resource_version(),
        chains: former.map_or(genesis_hash.to_owned(), |former| format!("{former},{genesis_hash}")),
    }
}
