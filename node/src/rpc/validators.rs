//! `GET /rpc/validators`: the set that decides in this epoch, with its quorum, and the next one.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::validators::Validator;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};

/// The validator set of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
}

/// A member of the set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    Ok(Json(Validators {
        epoch: snapshot.sets.epoch,
        validators: (0..).zip(set.members()).map(info).collect(),
        total_weight: set.total_weight(),
        quorum: set.quorum(),
        faulty_weight: set.faulty_weight(),
        set_hash: set.hash(),
        next: next.members().to_vec(),
        next_set_hash: next.hash(),
    }))
}
