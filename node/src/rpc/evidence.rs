//! `GET /rpc/evidence`: whom evidence in final blocks has convicted of double signing, and of what.

use super::Api;
use super::error::ApiError;
use super::get_block::{WRITE_WAIT, within};
use super::query::Parameters;
use aitbc_core::evidence::Class;
use aitbc_core::key::{Address, PublicKey};
use aitbc_core::record::{Record, RecordKey};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most convictions of an answer: the newest.
const MAX_CONVICTIONS: usize = 256;

/// Convictions after a final block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Convictions {
    /// Height of the block after which this holds.
    pub height: u64,
    /// Newest first, at most 256.
    pub evidence: Vec<Conviction>,
}

/// Misbehaviour of one validator, of one class in one epoch: listed once, however often it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conviction {
    /// Who.
    pub validator: Address,
    /// Its consensus key.
    pub public_key: PublicKey,
    /// Which contradiction: `notars`, `skip_final`, `finals`, `notar_final` or `batches`.
    pub class: Class,
    /// Epoch in which it happened.
    pub epoch: u64,
    /// Slot in which it happened; of batches their sequence number.
    pub slot: u64,
    /// Height of the block with the proof.
    pub height: u64,
}

pub(super) async fn evidence(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    Parameters::read(&uri, &[])?;
    let _permit = api.block_reads.acquire().await.map_err(|_| ApiError::Stopping)?;
    // Readers are told of a block before its state is in the tables.
    let head = api.view.snapshot().head.height;
    let found = within(WRITE_WAIT, || async {
        let found = api.view.storage.evidence().await?;
        Ok(api.view.or_wanted(Some(found).filter(|(height, _)| *height >= head)))
    });
    let found = found.await?;
    let (height, records) = found.ok_or(ApiError::Busy("the state of the last block is not in the database yet"))?;
    super::written("evidence", move || {
        let mut evidence: Vec<Conviction> = records.iter().filter_map(conviction).collect();
        evidence.sort_by_key(|found| (std::cmp::Reverse(found.height), found.public_key, found.class));
        evidence.truncate(MAX_CONVICTIONS);
        Ok(Convictions { height, evidence })
    })
    .await
}

/// `None` where the record is of something else.
fn conviction((key, record): &(RecordKey, Record)) -> Option<Conviction> {
    let (RecordKey::Evidence { key, epoch, class }, Record::Evidence { slot, height }) = (key, record) else {
        return None;
    };
    let (validator, public_key) = (key.address(), *key);
    Some(Conviction { validator, public_key, class: *class, epoch: *epoch, slot: *slot, height: *height })
}
