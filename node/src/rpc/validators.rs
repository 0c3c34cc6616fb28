//! `GET /rpc/validators`: the set that decides, with its quorum.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey};
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The validator set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Validators {
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
    let info = |(index, member): (u16, &aitbc_core::validators::Validator)| ValidatorInfo {
        index,
        address: member.key.address(),
        public_key: member.key,
        weight: member.weight,
        connected: connected(&member.key),
    };
    let set = &identity.set;
    Ok(Json(Validators {
        validators: (0..).zip(set.members()).map(info).collect(),
        total_weight: set.total_weight(),
        quorum: set.quorum(),
        faulty_weight: set.faulty_weight(),
        set_hash: set.hash(),
    }))
}
