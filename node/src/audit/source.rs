//! Where an audit reads the chain: a node's REST interface, or a validator's database. Neither is believed.

use super::AuditError;
use crate::client::{Client, ClientError};
use crate::rpc::headers::{HeaderInfo, MAX_HEADERS};
use crate::storage::reader::{LedgerRow, Reader};
use crate::storage::{StoredBlock, fitting};
use aitbc_core::batch::Batch;
use aitbc_core::block::Header;
use aitbc_core::codec::{self, hex};
use aitbc_core::hash::Hash;
use aitbc_core::key::Signature;
use aitbc_core::vote::Cert;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// Blocks read from a database at once.
const ROWS: u64 = 256;
/// Bytes of batches read from a database at once; a single block may have more.
const BATCH_BYTES: u64 = 8 << 20;
/// How often a node that is busy is asked again.
const RETRIES: u32 = 20;

/// Where to read.
#[derive(Clone)]
pub enum Source {
    /// A node.
    Rpc(Client),
    /// A database.
    Database(Reader),
}

/// A block as it was read.
pub struct Item {
    /// The header.
    pub header: Header,
    /// Its leader's signature, where it is known: a block that came by sync has none.
    pub leader: Option<Signature>,
    /// Its own Final certificate.
    pub cert: Option<Cert>,
    /// Its batches; `None`: at least one is gone.
    pub batches: Option<Vec<Batch>>,
}

/// Blocks in the order of their heights, and what is wrong with the one after them.
#[derive(Default)]
pub struct Chunk {
    /// The blocks; empty beyond the end of the chain.
    pub items: Vec<Item>,
    /// Bytes that do not decode, or columns that contradict.
    pub wrong: Option<AuditError>,
}

impl Chunk {
    /// Items up to the first that is wrong.
    fn of(items: impl Iterator<Item = Result<Item, AuditError>>) -> Chunk {
        let mut chunk = Chunk::default();
        for item in items {
            match item {
                Ok(item) => chunk.items.push(item),
                Err(wrong) => return Chunk { wrong: Some(wrong), ..chunk },
            }
        }
        chunk
    }
}

impl Source {
    /// Height of the last block.
    ///
    /// # Errors
    /// Where the source does not answer.
    pub async fn head(&self) -> Result<u64, AuditError> {
        match self {
            Source::Rpc(client) => Ok(asked(|| client.get_head()).await?.height),
            Source::Database(reader) => Ok(reader.head().await?.unwrap_or(0)),
        }
    }

    /// The header at a height; `None` where there is none.
    ///
    /// # Errors
    /// Where the source does not answer, or the header does not decode.
    pub async fn header(&self, height: u64) -> Result<Option<Header>, AuditError> {
        let chunk = self.chunk(height, height).await?;
        match (chunk.items.into_iter().next(), chunk.wrong) {
            (Some(item), _) => Ok(Some(item.header)),
            (None, Some(wrong)) => Err(wrong),
            (None, None) => Ok(None),
        }
    }

    /// Some blocks from `from` on, none above `to`.
    async fn chunk(&self, from: u64, to: u64) -> Result<Chunk, AuditError> {
        match self {
            Source::Rpc(client) => {
                let count = (to - from).saturating_add(1).min(MAX_HEADERS);
                let answer = asked(|| client.headers(from, count, true)).await?;
                Ok(Chunk::of((from..).zip(&answer.headers).map(|(height, info)| sent(height, info))))
            }
            Source::Database(reader) => stored(reader, from, to).await,
        }
    }

    /// Reads blocks `from ..= to`, and then as many as `beyond` above them, into a channel until they end, one is wrong, or
    /// nobody listens. No chunk reaches across `to`.
    pub async fn read(self, mut from: u64, to: u64, beyond: u64, chunks: mpsc::Sender<Result<Chunk, AuditError>>) {
        let last_of_all = to.saturating_add(beyond);
        while from <= last_of_all {
            let chunk = self.chunk(from, if from <= to { to } else { last_of_all }).await;
            let read = chunk.as_ref().map_or(0, |chunk| chunk.items.len() as u64);
            let last = read == 0 || chunk.as_ref().is_ok_and(|chunk| chunk.wrong.is_some());
            if chunks.send(chunk).await.is_err() || last {
                return;
            }
            from = from.saturating_add(read);
        }
    }
}

/// Asks again while the node says that it is busy.
pub async fn asked<T, F>(ask: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    for _ in 0..RETRIES {
        match ask().await {
            Err(error) if error.retry_after().is_some() => {
                tokio::time::sleep(error.retry_after().unwrap_or(Duration::ZERO)).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

fn wrong(height: u64, what: impl std::fmt::Display) -> AuditError {
    AuditError::Wrong(format!("block {height}: {what}"))
}

/// A block as a node sends it.
fn sent(height: u64, info: &HeaderInfo) -> Result<Item, AuditError> {
    let failed = |what: &str, cause: String| wrong(height, format!("{what} does not decode: {cause}"));
    let header: Header = hex::parse(&info.header).map_err(|cause| failed("header", cause))?;
    let digest = header.digest();
    if digest != info.hash {
        return Err(wrong(height, format!("hash is {}, expected {digest} by its header", info.hash)));
    }
    let cert = info.certificate.as_deref().map(hex::parse).transpose();
    let cert = cert.map_err(|cause| failed("certificate", cause))?;
    let batch = |text: &String| hex::parse(text).map_err(|cause| failed("batch", cause));
    let batches = info.batches.as_ref().map(|texts| texts.iter().map(batch).collect()).transpose()?;
    Ok(Item { header, leader: None, cert, batches })
}

/// Blocks from a database.
async fn stored(reader: &Reader, from: u64, to: u64) -> Result<Chunk, AuditError> {
    let to = to.min(from.saturating_add(ROWS - 1));
    let mut rows = reader.rows(from, to, u32::try_from(ROWS).unwrap_or(u32::MAX)).await?;
    let follow = (from..).zip(&rows).take_while(|(height, row)| row.height == *height).count();
    if let Some(first) = rows.first().filter(|_| follow == 0) {
        let hole = "its header is not here, as after a snapshot was fetched; the next one is that of";
        return Err(wrong(from, format!("{hole} {}: begin there", first.height)));
    }
    rows.truncate(follow);
    let bytes = |row: &LedgerRow| row.block.as_ref().map_or(0, |block| block.candidate.header.batch_bytes());
    rows.truncate(fitting(rows.iter().map(bytes), BATCH_BYTES));
    let blocks = rows.iter().filter_map(|row| row.block.as_ref().ok());
    let digests: Vec<Hash> = blocks.flat_map(|b| b.candidate.header.batches.iter().map(|b| b.digest)).collect();
    let found: HashMap<Hash, Vec<u8>> = reader.batch_bytes(&digests).await?.into_iter().collect();
    // Asked after the batches were read: those of lower blocks may have been deleted meanwhile.
    let lowest = reader.lowest().await?;
    Ok(Chunk::of(rows.into_iter().map(|row| match row.block {
        Ok(block) => with_batches(block, &found, lowest),
        Err(what) => Err(wrong(row.height, what)),
    })))
}

fn with_batches(block: StoredBlock, found: &HashMap<Hash, Vec<u8>>, lowest: u64) -> Result<Item, AuditError> {
    let StoredBlock { candidate, cert, .. } = block;
    let height = candidate.header.height;
    let leader = candidate.is_signed().then_some(candidate.signature);
    // Some may still be there: those below a base go by their expiry, not by height, and some were never in a block here.
    if height < lowest && !candidate.header.batches.is_empty() {
        return Ok(Item { header: candidate.header, leader, cert, batches: None });
    }
    let mut batches = Vec::with_capacity(candidate.header.batches.len());
    for reference in &candidate.header.batches {
        let digest = reference.digest;
        match found.get(&digest).map(|bytes| codec::decode::<Batch>(bytes)) {
            Some(Ok(batch)) => batches.push(batch),
            Some(Err(cause)) => return Err(wrong(height, format!("batch {digest} does not decode: {cause}"))),
            None => {
                let expected = format!("expected as blocks from {lowest} on are kept whole");
                return Err(wrong(height, format!("batch {digest} is missing, {expected}")));
            }
        }
    }
    Ok(Item { header: candidate.header, leader, cert, batches: Some(batches) })
}
