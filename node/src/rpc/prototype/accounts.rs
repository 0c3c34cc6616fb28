//! `GET /rpc/account/{address}`, `/rpc/address/{address}`, `/rpc/addresses`, `/rpc/genesis_allocations`: accounts as the
//! prototype had them.

use super::super::error::ApiError;
use super::super::query::{self, Parameters, Segment};
use super::super::{Api, written};
use super::transactions::{Content, LISTED, Payload, bodies};
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::state::{Account, State as Accounts};
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// An account that was used.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct KnownAccount {
    /// Whose.
    pub address: Address,
    /// Smallest units.
    pub balance: u64,
    /// Transactions of it that had an effect.
    pub nonce: u64,
    /// Name of the chain.
    pub chain_id: String,
}

/// An account with its last transactions.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AddressHistory {
    /// The account.
    #[serde(flatten)]
    pub summary: AddressSummary,
    /// Newest first, among the last 100,000 transactions of the chain.
    pub latest_sent: Vec<HistoryEntry>,
    /// Always null: no node keeps an index by recipient.
    pub latest_received: Option<Vec<HistoryEntry>>,
}

/// An account in a list.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AddressSummary {
    /// Whose.
    pub address: Address,
    /// Smallest units.
    pub balance: u64,
    /// Transactions of it that had an effect.
    pub nonce: u64,
    /// The same.
    pub total_transactions_sent: u64,
    /// Always null: no node keeps an index by recipient.
    pub total_transactions_received: Option<u64>,
}

/// A transaction in the history of its sender.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HistoryEntry {
    /// Id.
    pub tx_hash: Hash,
    /// Height of its block.
    pub block_height: u64,
    /// Always `sent`.
    pub direction: String,
    /// Whom it pays, where that is one account.
    pub counterparty: Option<Address>,
    /// The transaction as it was sent.
    pub payload: Value,
    /// Time of its block, UTC without saying so.
    pub created_at: Option<String>,
}

/// A part of all accounts.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AddressList {
    /// In the order of the state trie.
    pub addresses: Vec<AddressSummary>,
    /// How many there are with `min_balance`.
    pub total: u64,
    /// Most of this answer.
    pub limit: u32,
    /// How many were left out before.
    pub offset: u32,
}

/// Who owned what at height 0.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GenesisAllocations {
    /// Name of the chain.
    pub chain_id: String,
    /// Its identity, which every signature is for.
    pub genesis_hash: Hash,
    /// Always null: genesis has no time.
    pub timestamp: Option<String>,
    /// State root at height 0.
    pub state_root: Hash,
    /// In the order of the state trie; the faucet's among them. What is at stake is in no balance.
    pub allocations: Vec<Allocation>,
    /// What is at stake, by the keys of validators, ascending; none in mode poa. With the allocations it is all there is.
    pub stakes: Vec<GenesisStake>,
}

/// A validator's stake at height 0.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GenesisStake {
    /// To whom it goes back when it is unbonded.
    pub address: Address,
    /// Consensus key of the validator.
    pub public_key: PublicKey,
    /// Smallest units.
    pub stake: u64,
}

/// A balance at height 0.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Allocation {
    /// Whose.
    pub address: Address,
    /// Smallest units.
    pub balance: u64,
    /// Always 0.
    pub nonce: u64,
}

impl AddressSummary {
    fn of((address, account): (Address, Account)) -> AddressSummary {
        AddressSummary {
            address,
            balance: account.balance,
            nonce: account.nonce,
            total_transactions_sent: account.nonce,
            total_transactions_received: None,
        }
    }
}

pub(in super::super) async fn account(
    State(api): State<Api>,
    Segment(address): Segment,
    uri: Uri,
) -> Result<Json<KnownAccount>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let address = query::address(&address)?;
    let Some(account) = api.view.snapshot().state.get(&address) else {
        let hint = "it was never paid and never sent anything; /rpc/get_balance answers 0 for it".into();
        return Err(ApiError::NotFound { what: format!("account {address}"), hint });
    };
    let chain_id = api.view.identity.genesis.chain_id.clone();
    Ok(Json(KnownAccount { address, balance: account.balance, nonce: account.nonce, chain_id }))
}

pub(in super::super) async fn history(
    State(api): State<Api>,
    Segment(address): Segment,
    uri: Uri,
) -> Result<Response, ApiError> {
    let parameters = Parameters::read(&uri, &["limit", "offset", "chain_id"])?;
    parameters.of_chain(&api.view.identity)?;
    let page = parameters.page(LISTED.1, LISTED.0)?;
    let address = query::address(&address)?;
    let summary = AddressSummary::of((address, api.view.snapshot().state.account(&address)));
    let rows = api.view.storage.transactions(Some(address), page.limit, page.offset).await?;
    let _permit = api.block_reads.acquire().await.map_err(|_| ApiError::Stopping)?;
    let found = bodies(&api, rows).await?;
    written("address", move || {
        let latest_sent = found.list(Payload::Whole).into_iter().map(|tx| sent(tx.tx_hash, tx.content)).collect();
        Ok(AddressHistory { summary, latest_sent, latest_received: None })
    })
    .await
}

fn sent(tx_hash: Hash, content: Content) -> HistoryEntry {
    HistoryEntry {
        tx_hash,
        block_height: content.block_height,
        direction: "sent".into(),
        counterparty: content.recipient,
        payload: content.payload,
        created_at: content.created_at,
    }
}

pub(in super::super) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    let parameters = Parameters::read(&uri, &["limit", "offset", "min_balance", "chain_id"])?;
    parameters.of_chain(&api.view.identity)?;
    let page = parameters.page(LISTED.1, LISTED.0)?;
    let least = parameters.number("min_balance", 0..=u64::MAX)?.unwrap_or(0);
    let snapshot = api.view.snapshot();
    let _permit = api.block_reads.acquire().await.map_err(|_| ApiError::Stopping)?;
    // The walk passes every account.
    written("addresses", move || {
        let mut addresses = Vec::new();
        let mut total = 0;
        for known in snapshot.state.iter().filter(|(_, account)| account.balance >= least) {
            if total >= u64::from(page.offset) && addresses.len() < page.limit as usize {
                addresses.push(AddressSummary::of(known));
            }
            total += 1;
        }
        Ok(AddressList { addresses, total, limit: page.limit, offset: page.offset })
    })
    .await
}

pub(in super::super) async fn genesis_allocations(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let identity = api.view.identity.clone();
    let _permit = api.block_reads.acquire().await.map_err(|_| ApiError::Stopping)?;
    // A genesis may have very many accounts.
    written("genesis_allocations", move || {
        let state = Accounts::from_genesis(&identity.genesis);
        let allocation = |(address, account): (Address, Account)| Allocation {
            address,
            balance: account.balance,
            nonce: account.nonce,
        };
        let stake = |public_key: &PublicKey| {
            let candidate = state.candidate(public_key).filter(|candidate| candidate.stake > 0)?;
            Some(GenesisStake { address: candidate.owner, public_key: *public_key, stake: candidate.stake })
        };
        Ok(GenesisAllocations {
            chain_id: identity.genesis.chain_id.clone(),
            genesis_hash: identity.chain,
            timestamp: None,
            state_root: state.root(),
            allocations: state.iter().map(allocation).collect(),
            stakes: state.candidates().iter().filter_map(stake).collect(),
        })
    })
    .await
}
