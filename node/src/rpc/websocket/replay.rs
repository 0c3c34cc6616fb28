//! Blocks from the database for a subscriber that gave `from_height`, up to the moment when live ones follow.

use super::super::Api;
use super::super::error::ApiError;
use super::outgoing::Outgoing;
use crate::storage::StoredBlock;
use crate::subscriptions::{self, Topic};
use crate::view::BlockSummary;
use axum::extract::ws::Utf8Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a block may take to reach the database, and the database to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A replay that stopped.
pub(super) struct Failed {
    /// First height that was not sent.
    pub(super) height: u64,
    /// Why.
    pub(super) error: ApiError,
}

/// Queues blocks from `from` up to the last final one; answers the height after it.
pub(super) async fn replay(api: Api, outgoing: Arc<Outgoing>, from: u64) -> Result<u64, Failed> {
    let mut source = Source { api: &api, ahead: None };
    let mut height = from;
    while height <= api.view.snapshot().head.height {
        outgoing.room_for_replay().await;
        let text = source.event(height).await.map_err(|error| Failed { height, error })?;
        // Full only where answers to the client's requests took the room in between.
        if outgoing.push(Some(height), text).is_ok() {
            height += 1;
        }
    }
    Ok(height)
}

struct Source<'a> {
    api: &'a Api,
    /// The block read last, which is the next one to describe.
    ahead: Option<StoredBlock>,
}

impl Source<'_> {
    async fn event(&mut self, height: u64) -> Result<Utf8Bytes, ApiError> {
        let block = self.wait_for(height).await?;
        subscriptions::event(Topic::NewBlocks, height, &block)
            .map_err(|cause| ApiError::Internal(format!("replay: {cause}")))
    }

    async fn wait_for(&mut self, height: u64) -> Result<BlockSummary, ApiError> {
        let start = Instant::now();
        loop {
            match self.summary(height).await {
                Ok(Some(block)) => return Ok(block),
                Err(error @ ApiError::Pruned { .. }) => return Err(error),
                Err(error) if start.elapsed() > PATIENCE => return Err(error),
                Ok(None) if start.elapsed() > PATIENCE => {
                    return Err(ApiError::Busy("a final block does not reach the database"));
                }
                Ok(None) | Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// As live subscribers got it. Roots after a block stand in the header after it; of the last block, in the snapshot.
    async fn summary(&mut self, height: u64) -> Result<Option<BlockSummary>, ApiError> {
        let snapshot = self.api.view.snapshot();
        if snapshot.head.height == height {
            return Ok(Some(snapshot.head.clone()));
        }
        let Some(stored) = self.block(height).await? else { return Ok(None) };
        let Some(next) = self.block(height + 1).await? else { return Ok(None) };
        let (header, after) = (&stored.candidate.header, &next.candidate.header);
        let (sets, roots) = (self.api.view.known_sets(), (after.parent_state_root, after.parent_results_root));
        let summary = BlockSummary::of(sets.of_header(header), stored.digest, header, roots);
        self.ahead = Some(next);
        Ok(Some(summary))
    }

    async fn block(&mut self, height: u64) -> Result<Option<StoredBlock>, ApiError> {
        match self.ahead.take() {
            Some(ahead) if ahead.candidate.header.height == height => Ok(Some(ahead)),
            _ => match self.api.view.storage.block(height).await? {
                Some(block) => Ok(Some(block)),
                // A node that fetched a snapshot has not got all.
                None => {
                    let lowest = self.api.view.storage.lowest();
                    let gone = ApiError::Pruned { what: format!("block {height}"), lowest };
                    if height < lowest { Err(gone) } else { Ok(None) }
                }
            },
        }
    }
}
