//! `GET /rpc/peers`: the other validators and whether a channel to each is open.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use aitbc_core::key::{Address, PublicKey};
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The other validators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Peers {
    /// All of them, connected or not.
    pub peers: Vec<Peer>,
    /// How many are connected.
    pub connected: u64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// Its address.
    pub address: Address,
    /// Its consensus key.
    pub public_key: PublicKey,
    /// Its voting power.
    pub weight: u32,
    /// Whether a channel is open.
    pub connected: bool,
    /// Its height by its last status, 0 if none came.
    pub height: u64,
    /// Milliseconds since 1970 of its last status; `None` if none came.
    pub last_seen_ms: Option<u64>,
}

pub(super) async fn peers(State(api): State<Api>, uri: Uri) -> Result<Json<Peers>, ApiError> {
    Parameters::read(&uri, &[])?;
    let status = api.view.condition();
    let peers = status.peers.iter().map(|peer| Peer {
        address: peer.address,
        public_key: peer.public_key,
        weight: peer.weight,
        connected: peer.connected,
        height: peer.height,
        last_seen_ms: peer.last_seen_ms,
    });
    let connected = status.peers.iter().filter(|peer| peer.connected).count() as u64;
    Ok(Json(Peers { peers: peers.collect(), connected }))
}
