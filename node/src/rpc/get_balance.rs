//! `GET /rpc/get_balance/{address}`: balance and nonces after the last final block, with a proof where asked for.

use super::Api;
use super::error::ApiError;
use super::query::{self, Parameters, Segment};
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::state::AccountProof;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An account; one that was never used has balance and nonce 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Balance {
    /// Whose.
    pub address: Address,
    /// Smallest units.
    pub balance: u64,
    /// Transactions of it that had an effect.
    pub nonce: u64,
    /// Nonce for its next transaction, counting what is pending on this node.
    pub next_nonce: u64,
    /// Height of the block after which this holds.
    pub height: u64,
    /// With `?proof=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<BalanceProof>,
}

/// What proves an account to who trusts only certificates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BalanceProof {
    /// Leads from the account to `state_root`.
    pub account: AccountProof,
    /// Root of the state after the block at `height`.
    pub state_root: Hash,
    /// Digest of that block's header.
    pub block_hash: Hash,
    /// The header that commits to `state_root`, as its `parent_state_root` with `block_hash` as parent: height + 1.
    pub committed_in_height: u64,
}

pub(super) async fn get_balance(
    State(api): State<Api>,
    Segment(address): Segment,
    uri: Uri,
) -> Result<Json<Balance>, ApiError> {
    let parameters = Parameters::read(&uri, &["proof", "chain_id"])?;
    parameters.of_chain(&api.view.identity)?;
    let proof = parameters.flag("proof")?;
    let address = query::address(&address)?;
    // Asked before the snapshot is taken, or a block in between would make it smaller than the account's nonce.
    let queued = api.mempool.next_nonce(address).await;
    let snapshot = api.view.snapshot();
    let (head, account) = (&snapshot.head, snapshot.state.account(&address));
    let proof = proof.then(|| BalanceProof {
        account: snapshot.state.prove(&address),
        state_root: head.state_root,
        block_hash: head.hash,
        committed_in_height: head.height + 1,
    });
    Ok(Json(Balance {
        address,
        balance: account.balance,
        nonce: account.nonce,
        next_nonce: queued.unwrap_or(0).max(account.nonce),
        height: head.height,
        proof,
    }))
}
