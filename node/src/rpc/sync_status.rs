//! `GET /sync_status`: where this node is and how it does; the operator plans by it. Always 200 while it can answer.

use super::Api;
use super::error::ApiError;
use super::query::Parameters;
use aitbc_core::block::VERSION;
use aitbc_core::consensus::VotingState;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::staking::motion::Upgrade;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;

/// Where the node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncStatus {
    /// Name of the chain.
    pub chain_id: String,
    /// Height of the last final block here.
    pub height: u64,
    /// Epoch of the next block; the validators of an epoch are fixed.
    #[serde(default)]
    pub epoch: u64,
    /// Highest height a peer told of, or the own one.
    pub best_peer_height: u64,
    /// Whether it is more than a few blocks behind.
    pub catching_up: bool,
    /// Whether clients should be sent here.
    pub ready: bool,
    /// Header time of the last final block, milliseconds since 1970.
    pub last_block_time_ms: u64,
    /// The chain's identity.
    pub genesis_hash: Hash,
    /// State root after the last final block.
    pub state_root: Hash,
    /// Of this program.
    pub version: String,
    /// `None` where this node has no key.
    pub validator: Option<ValidatorStatus>,
    /// Whether the database answered lately.
    pub database_ready: bool,
    /// Connected peers.
    pub peers: u64,
    /// Why it is not ready; `None` where it is.
    pub reason: Option<String>,
    /// The snapshot that is being fetched instead of blocks; `None` where none is.
    pub state_sync: Option<StateSyncStatus>,
    /// The next upgrade that this program does not speak; `None` where none is scheduled.
    #[serde(default)]
    pub upgrade: Option<UpgradeStatus>,
}

/// An upgrade that needs another program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeStatus {
    /// Version of blocks that the program must speak.
    pub version: u16,
    /// First height that has it.
    pub height: u64,
    /// Newest version that this program speaks.
    pub spoken: u16,
    /// Whether the next block has it: this node has stopped before it, and serves reads only.
    pub due: bool,
}

/// How far the fetch of a snapshot is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StateSyncStatus {
    /// `offers`, `headers`, `chunks` or `install`.
    pub phase: String,
    /// Height of the snapshot, 0 before one is chosen.
    pub height: u64,
    /// Chunks that came.
    pub chunks: u64,
    /// Thousandths of the state that are here.
    pub permille: u64,
}

/// This node as a validator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValidatorStatus {
    /// Its address.
    pub address: Address,
    /// Its key.
    pub public_key: PublicKey,
    /// Its voting power; 0: it is no validator of this epoch.
    pub weight: u64,
    /// Last height it helped to finalize: the operator waits for this to grow before it takes the next pod.
    pub last_signed_height: u64,
    /// Whether it votes: `checking` until others have told what they saw of its key, `voting`, or `quarantined`.
    pub voting_state: VotingState,
    /// Why it is quarantined, and so casts no vote; null where it is not.
    pub quarantine: Option<String>,
}

pub(super) async fn sync_status(State(api): State<Api>, uri: Uri) -> Result<Json<SyncStatus>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let (identity, status, snapshot) = (&api.view.identity, api.view.condition(), api.view.snapshot());
    let head = &snapshot.head;
    let set = &snapshot.sets.current;
    let validator = identity.key.map(|public_key| ValidatorStatus {
        address: public_key.address(),
        public_key,
        weight: set.weight_of(&public_key),
        last_signed_height: status.last_signed_height,
        voting_state: status.voting_state,
        quarantine: status.quarantine.map(|cause| cause.to_string()),
    });
    Ok(Json(SyncStatus {
        chain_id: identity.genesis.chain_id.clone(),
        height: head.height,
        epoch: api.view.pulse.epoch.load(Ordering::Relaxed),
        best_peer_height: status.best_peer_height.max(head.height),
        catching_up: status.catching_up,
        ready: status.not_ready.is_none(),
        last_block_time_ms: head.time_ms,
        genesis_hash: identity.chain,
        state_root: head.state_root,
        version: env!("CARGO_PKG_VERSION").into(),
        validator,
        database_ready: status.database_ready,
        peers: status.peers.iter().filter(|peer| peer.connected).count() as u64,
        reason: status.not_ready.clone(),
        state_sync: status.state_sync.map(|progress| StateSyncStatus {
            phase: progress.phase.to_owned(),
            height: progress.height,
            chunks: progress.chunks,
            permille: progress.permille,
        }),
        upgrade: status.upgrade.map(|(Upgrade { version, height }, due)| {
            let spoken = VERSION;
            UpgradeStatus { version, height, spoken, due }
        }),
    }))
}
