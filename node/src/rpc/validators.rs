//! `GET /rpc/validators`: the set that decides in this epoch, with its quorum, the next one, and who may come into later ones.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::ledger::Rules;
use aitbc_core::staking::motion::Terms;
use aitbc_core::staking::{Candidate, Cause};
use aitbc_core::validators::Validator;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The validator set of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Validators {
    /// Epoch of the next block.
    pub epoch: u64,
    /// By index: the bit in a certificate, the proposer of a header.
    pub validators: Vec<ValidatorInfo>,
    /// Sum of all weights.
    pub total_weight: u64,
    /// Least weight that decides.
    pub quorum: u64,
    /// Most weight that may fail.
    pub faulty_weight: u64,
    /// Hash of the set, as headers name it.
    pub set_hash: Hash,
    /// Keys and weights of the next epoch, by index: the list that `next_set_hash` is over.
    pub next: Vec<Validator>,
    /// Hash of the next epoch's set, as headers name it.
    pub next_set_hash: Hash,
    /// Who is admitted or has something at stake or unbonding, by key, and the set's members.
    pub candidates: Vec<CandidateInfo>,
    /// What authorities can change, as it is for the next block.
    pub terms: Terms,
    /// Height of the block after which candidates and terms hold.
    pub height: u64,
}

/// What the chain knows of a validator's key (docs/staking.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CandidateInfo {
    /// Its address.
    pub address: Address,
    /// Its key.
    pub public_key: PublicKey,
    /// Who bonds, unbonds and is paid out.
    pub owner: Address,
    /// Smallest units at stake.
    pub stake: u64,
    /// Smallest units on their way back to the owner.
    pub unbonding: u64,
    /// Whether authorities have admitted it.
    pub admitted: bool,
    /// Whether it has activated.
    pub active: bool,
    /// First epoch in which `UNJAIL` is taken; null: not jailed.
    pub jailed_until: Option<u64>,
    /// `double_signing` or `absence`; null: not jailed.
    pub jailed_for: Option<Cause>,
    /// Slots it should have led since its last block, and did not.
    pub missed_slots: u32,
}

fn candidate_info(public_key: PublicKey, candidate: &Candidate) -> CandidateInfo {
    CandidateInfo {
        address: public_key.address(),
        public_key,
        owner: candidate.owner,
        stake: candidate.stake,
        unbonding: candidate.locked() - candidate.stake,
        admitted: candidate.admitted,
        active: candidate.active,
        jailed_until: candidate.jail.map(|jail| jail.until),
        jailed_for: candidate.jail.map(|jail| jail.cause),
        missed_slots: candidate.missed,
    }
}

/// A member of the set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValidatorInfo {
    /// Index in the set.
    pub index: u16,
    /// Its address.
    pub address: Address,
    /// Its key.
    pub public_key: PublicKey,
    /// Its voting power.
    pub weight: u32,
    /// Whether a channel to it is open; true for this node itself.
    pub connected: bool,
}

pub(super) async fn validators(State(api): State<Api>, uri: Uri) -> Result<Json<Validators>, ApiError> {
    Parameters::read(&uri, &[])?;
    let (identity, status) = (&api.view.identity, api.view.condition());
    let connected = |key: &PublicKey| {
        identity.key == Some(*key) || status.peers.iter().any(|peer| peer.public_key == *key && peer.connected)
    };
    let info = |(index, member): (u16, &Validator)| ValidatorInfo {
        index,
        address: member.key.address(),
        public_key: member.key,
        weight: member.weight,
        connected: connected(&member.key),
    };
    let snapshot = api.view.snapshot();
    let (set, next) = (&snapshot.sets.current, &snapshot.sets.next);
    let mut keys: BTreeSet<PublicKey> = snapshot.state.candidates().iter().copied().collect();
    keys.extend(set.members().iter().map(|member| member.key));
    let known = |key: &PublicKey| snapshot.state.candidate(key).map(|candidate| candidate_info(*key, candidate));
    Ok(Json(Validators {
        epoch: snapshot.sets.epoch,
        validators: (0..).zip(set.members()).map(info).collect(),
        total_weight: set.total_weight(),
        quorum: set.quorum(),
        faulty_weight: set.faulty_weight(),
        set_hash: set.hash(),
        next: next.members().to_vec(),
        next_set_hash: next.hash(),
        candidates: keys.iter().filter_map(known).collect(),
        terms: snapshot.state.terms(&Rules::of(&identity.genesis)),
        height: snapshot.head.height,
    }))
}
