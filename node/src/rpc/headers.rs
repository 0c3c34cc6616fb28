//! `GET /rpc/headers`: final headers with their certificates, and batches where asked for, as the bytes that are hashed and
//! signed: all that a client needs to check the chain itself (protocol.md L1).

use super::Api;
use super::error::ApiError;
use super::get_block::{WRITE_WAIT, within};
use super::query::Parameters;
use crate::storage::{StoredBlock, fitting};
use aitbc_core::batch::Batch;
use aitbc_core::codec;
use aitbc_core::hash::Hash;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Most headers of an answer.
pub const MAX_HEADERS: u64 = 256;
/// Headers of an answer where `count` is not given.
const DEFAULT_HEADERS: u64 = 64;
/// Bytes of batches in an answer; as hex they are twice that. A single block may be larger.
const MAX_BATCH_BYTES: u64 = 1 << 20;

/// Consecutive final headers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Headers {
    /// Height of the last final block.
    pub head: u64,
    /// From the height asked for on; fewer than asked for where the answer would be too large, none above the head.
    pub headers: Vec<HeaderInfo>,
}

/// A final header as bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderInfo {
    /// Height.
    pub height: u64,
    /// Digest of the header; to be computed by who does not believe it.
    pub hash: Hash,
    /// Hex of borsh of the header.
    pub header: String,
    /// Hex of borsh of its Final certificate; `None` where a later header's covers it.
    pub certificate: Option<String>,
    /// Hex of borsh of each batch, in order; absent where not asked for, and where they were deleted by pruning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<Vec<String>>,
}

impl HeaderInfo {
    /// A stored header without batches.
    pub(super) fn of(stored: &StoredBlock) -> HeaderInfo {
        HeaderInfo {
            height: stored.candidate.header.height,
            hash: stored.digest,
            header: codec::hex::text(&stored.candidate.header),
            certificate: stored.cert.as_ref().map(codec::hex::text),
            batches: None,
        }
    }
}

pub(super) async fn headers(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    let parameters = Parameters::read(&uri, &["from", "count", "batches"])?;
    let from = parameters.number("from", 1..=u64::MAX)?.unwrap_or(1);
    let count = parameters.number("count", 1..=MAX_HEADERS)?.unwrap_or(DEFAULT_HEADERS);
    let with_batches = parameters.flag("batches")?;
    let head = api.view.snapshot().head.height;
    if from > head {
        return super::written("headers", move || Ok(Headers { head, headers: Vec::new() })).await;
    }
    let _permit = api.block_reads.acquire().await.map_err(|_| ApiError::Stopping)?;
    let mut stored = read(&api, from, head.min(from.saturating_add(count - 1))).await?;
    let mut batches = HashMap::new();
    if with_batches {
        stored.truncate(fitting(stored.iter().map(|block| block.candidate.header.batch_bytes()), MAX_BATCH_BYTES));
        let digests = stored.iter().flat_map(|block| block.candidate.header.batches.iter().map(|b| b.digest));
        batches = api.view.storage.batches(digests.collect()).await?.into_iter().collect();
    }
    // Asked after the batches were read: those of lower blocks may have been deleted meanwhile.
    let lowest = api.view.storage.lowest();
    super::written("headers", move || {
        let info = |block: &StoredBlock| HeaderInfo {
            batches: with_batches.then(|| texts(block, &batches, lowest)).flatten(),
            ..HeaderInfo::of(block)
        };
        Ok(Headers { head, headers: stored.iter().map(info).collect() })
    })
    .await
}

/// Headers from `from` on. Readers are told of a block before it is in the database, so the last few may take a moment.
pub(super) async fn read(api: &Api, from: u64, to: u64) -> Result<Vec<StoredBlock>, ApiError> {
    let found = within(WRITE_WAIT, || async {
        let mut found = api.view.storage.headers(from, to).await?;
        // A node that fetched a snapshot has not got all: what is above the hole does not follow.
        let follow =
            (from..).zip(&found).take_while(|(height, block)| block.candidate.header.height == *height).count();
        found.truncate(follow);
        let lowest = api.view.storage.lowest();
        if found.is_empty() && from < lowest {
            return Err(ApiError::Pruned { what: format!("header {from}"), lowest });
        }
        Ok(Some(found).filter(|found| !found.is_empty()))
    });
    found.await?.ok_or(ApiError::Busy("the block is final but not in the database yet"))
}

/// Batches of a block; `None` where one is gone, or all are on their way out though some are still there.
fn texts(stored: &StoredBlock, batches: &HashMap<Hash, Arc<Batch>>, lowest: u64) -> Option<Vec<String>> {
    let header = &stored.candidate.header;
    if header.height < lowest && !header.batches.is_empty() {
        return None;
    }
    let text = |digest: &Hash| batches.get(digest).map(|batch| codec::hex::text(batch.as_ref()));
    stored.candidate.header.batches.iter().map(|reference| text(&reference.digest)).collect()
}
