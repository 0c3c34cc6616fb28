//! `GET /rpc/head`, `/rpc/height`, `/rpc/blocks`, `/rpc/blocks/{height}`, `/rpc/blocks-range`: blocks as the prototype had them.

use super::super::error::ApiError;
use super::super::query::{self, Parameters, Segment};
use super::super::websocket::{self, Upgrade};
use super::super::{Api, get_block, headers, written};
use super::timestamp;
use super::transactions::{Payload, PrototypeTransaction};
use crate::storage::{StoredBlock, TransactionRow, fitting};
use crate::subscriptions::Topic;
use crate::view::{Identity, KnownSets};
use aitbc_core::block::Block;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, Signature};
use aitbc_core::transaction::SignedTransaction;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Most blocks of `blocks-range`.
const MAX_SPAN: u64 = 1_000;
/// The same with their transactions.
const MAX_FULL_SPAN: u64 = 100;
/// Transactions after which such an answer ends; one block may have more.
const MAX_FULL_TXS: u64 = 4_096;
/// Most blocks of `blocks`, and how many without `limit`.
const LISTED: (u32, u32) = (100, 10);

/// The last final block, or another one, in the prototype's words.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PrototypeBlock {
    /// Height.
    pub height: u64,
    /// Digest of its header; the genesis hash at height 0.
    pub hash: Hash,
    /// Digest of its parent.
    pub parent_hash: Hash,
    /// By the proposer's clock, UTC without saying so; null for genesis.
    pub timestamp: Option<String>,
    /// Number of transactions.
    pub tx_count: u64,
    /// State root after it; null while the block after it is not in the database.
    pub state_root: Option<Hash>,
    /// Name of the chain.
    pub chain_id: String,
    /// Who proposed it; null for genesis.
    pub proposer: Option<Address>,
    /// The proposer's, over the header; null where it was not part of what the node fetched, as a certificate covers it.
    pub signature: Option<Signature>,
    /// With a block by its height, and with `include_tx=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transactions: Option<Vec<PrototypeTransaction>>,
}

/// Height of the last final block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Height {
    /// The height.
    pub height: u64,
}

/// Newest blocks first.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct BlockList {
    /// At most `limit`.
    pub blocks: Vec<PrototypeBlock>,
    /// How many there are, genesis among them.
    pub total: u64,
    /// Most of this answer.
    pub limit: u32,
    /// How many newer ones were left out.
    pub offset: u32,
}

/// Blocks by ascending height.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct BlockRange {
    /// Fewer than asked for above the head.
    pub blocks: Vec<PrototypeBlock>,
    /// First height asked for.
    pub start: u64,
    /// Last height asked for.
    pub end: u64,
    /// How many stand in this answer.
    pub count: u64,
}

pub(in super::super) async fn head(State(api): State<Api>, uri: Uri) -> Result<Json<PrototypeBlock>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let head = &api.view.snapshot().head;
    Ok(Json(PrototypeBlock {
        height: head.height,
        hash: head.hash,
        parent_hash: head.parent_hash,
        timestamp: timestamp(head.height, head.time_ms),
        tx_count: head.tx_count,
        state_root: Some(head.state_root),
        chain_id: api.view.identity.genesis.chain_id.clone(),
        proposer: head.proposer,
        signature: None,
        transactions: None,
    }))
}

pub(in super::super) async fn height(State(api): State<Api>, uri: Uri) -> Result<Json<Height>, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    Ok(Json(Height { height: api.view.snapshot().head.height }))
}

pub(in super::super) async fn block(
    State(api): State<Api>,
    Segment(height): Segment,
    uri: Uri,
) -> Result<Response, ApiError> {
    Parameters::read(&uri, &["chain_id"])?.of_chain(&api.view.identity)?;
    let head = api.view.snapshot().head.clone();
    let height = query::height(&height)?.unwrap_or(head.height);
    get_block::not_ahead(height, &head)?;
    let mut blocks = blocks(&api, height..=height).await?;
    let mut block = blocks.pop().ok_or(ApiError::Busy("the block is final but not in the database yet"))?;
    let _permit = api.block_reads.acquire().await.map_err(|_| ApiError::Stopping)?;
    let contents = Contents::read(&api, height).await?;
    written("blocks", move || {
        block.transactions = Some(contents.list());
        Ok(block)
    })
    .await
}

/// Where a WebSocket is asked for, new blocks; else a list.
pub(in super::super) async fn list(State(api): State<Api>, uri: Uri, upgrade: Upgrade) -> Result<Response, ApiError> {
    if upgrade.is_ok() {
        return websocket::prototype(&api, &uri, upgrade, Topic::PrototypeBlocks);
    }
    let parameters = Parameters::read(&uri, &["limit", "offset", "chain_id"])?;
    parameters.of_chain(&api.view.identity)?;
    let page = parameters.page(LISTED.1, LISTED.0)?;
    let head = api.view.snapshot().head.height;
    let newest = head.checked_sub(page.offset.into());
    let mut found = match newest {
        Some(newest) => blocks(&api, newest.saturating_sub(u64::from(page.limit) - 1)..=newest).await?,
        None => Vec::new(),
    };
    found.reverse();
    Ok(Json(BlockList { blocks: found, total: head + 1, limit: page.limit, offset: page.offset }).into_response())
}

pub(in super::super) async fn range(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    let parameters = Parameters::read(&uri, &["start", "end", "limit", "include_tx", "chain_id"])?;
    parameters.of_chain(&api.view.identity)?;
    let full = parameters.flag("include_tx")?;
    let most = if full { MAX_FULL_SPAN } else { MAX_SPAN };
    let start = parameters.number("start", 0..=u64::MAX)?.unwrap_or(0);
    let limit = parameters.number("limit", 1..=most)?.unwrap_or(most.min(100));
    let last = start.saturating_add(most - 1);
    let end = parameters.number("end", start..=last)?.unwrap_or(start.saturating_add(limit - 1));
    let head = api.view.snapshot().head.height;
    let mut found = if start <= head { blocks(&api, start..=end.min(head)).await? } else { Vec::new() };
    let _permit = api.block_reads.acquire().await.map_err(|_| ApiError::Stopping)?;
    let mut contents = Vec::new();
    if full {
        found.truncate(fitting(found.iter().map(|block| block.tx_count), MAX_FULL_TXS));
        for block in &found {
            contents.push(Contents::read(&api, block.height).await?);
        }
    }
    written("blocks-range", move || {
        for (block, contents) in found.iter_mut().zip(&contents) {
            block.transactions = Some(contents.list());
        }
        let count = found.len() as u64;
        Ok(BlockRange { blocks: found, start, end, count })
    })
    .await
}

/// Blocks of these heights without transactions, as far as they are in the database.
async fn blocks(api: &Api, heights: RangeInclusive<u64>) -> Result<Vec<PrototypeBlock>, ApiError> {
    let (from, to) = heights.into_inner();
    let head = api.view.snapshot().head.clone();
    // The state root after a block stands in the header after it; of the last block, in the snapshot.
    let (first, last) = (from.max(1), (to + 1).min(head.height));
    let stored = if first <= last { headers::read(api, first, last).await? } else { Vec::new() };
    let mut roots: HashMap<u64, Hash> = HashMap::from([(head.height, head.state_root)]);
    let below = |block: &StoredBlock| (block.candidate.header.height - 1, block.candidate.header.parent_state_root);
    roots.extend(stored.iter().map(below));
    let (identity, sets) = (&api.view.identity, api.view.known_sets());
    let genesis = (from == 0).then(|| genesis(identity, roots.get(&0).copied()));
    let others = stored.iter().filter(|block| block.candidate.header.height <= to);
    Ok(genesis.into_iter().chain(others.map(|block| describe(identity, &sets, block, &roots))).collect())
}

fn genesis(identity: &Identity, state_root: Option<Hash>) -> PrototypeBlock {
    PrototypeBlock {
        height: 0,
        hash: identity.chain,
        parent_hash: Hash::ZERO,
        timestamp: None,
        tx_count: 0,
        state_root,
        chain_id: identity.genesis.chain_id.clone(),
        proposer: None,
        signature: None,
        transactions: None,
    }
}

fn describe(identity: &Identity, sets: &KnownSets, stored: &StoredBlock, roots: &HashMap<u64, Hash>) -> PrototypeBlock {
    let (header, candidate) = (&stored.candidate.header, &stored.candidate);
    PrototypeBlock {
        height: header.height,
        hash: stored.digest,
        parent_hash: header.parent,
        timestamp: timestamp(header.height, header.time_ms),
        tx_count: header.tx_count(),
        state_root: roots.get(&header.height).copied(),
        chain_id: identity.genesis.chain_id.clone(),
        proposer: sets.of_header(header).and_then(|set| set.address(header.proposer)),
        signature: candidate.is_signed().then_some(candidate.signature),
        transactions: None,
    }
}

/// A block's transactions, to be described where that may take long.
struct Contents {
    identity: Arc<Identity>,
    /// The block and its results by id; `None` of genesis.
    found: Option<(Block, HashMap<Hash, TransactionRow>)>,
}

impl Contents {
    async fn read(api: &Api, height: u64) -> Result<Contents, ApiError> {
        let identity = api.view.identity.clone();
        if height == 0 {
            return Ok(Contents { identity, found: None });
        }
        get_block::kept(api, height)?;
        let (_, block) = get_block::read(api, height).await?;
        let rows = get_block::results(api, height, block.header.tx_count()).await?;
        Ok(Contents { identity, found: Some((block, rows)) })
    }

    /// In order; one that has no result here is in another block, where it took effect.
    fn list(&self) -> Vec<PrototypeTransaction> {
        let Some((block, rows)) = &self.found else { return Vec::new() };
        let time_ms = block.header.time_ms;
        let txs = block.batches.iter().flat_map(|batch| &batch.txs);
        let one = |(index, tx): (u32, &SignedTransaction)| {
            let row = rows.get(&tx.id(&self.identity.chain)).filter(|row| row.index == index)?;
            Some(PrototypeTransaction::of(&self.identity, row, time_ms, tx, Payload::Own))
        };
        (0..).zip(txs).filter_map(one).collect()
    }
}
