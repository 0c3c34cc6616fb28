//! Rows of both databases to values and back. Hashes and addresses are text in SQL, so that people can read the tables.
//!
//! ```text
//! vote row:  epoch, slot, class, kind, digest, signer, generation, signature      kind: notar | skip | final
//! block row: height, …, header (borsh), signature, cert (borsh)                   digest: 0x and 64 hex digits
//! ```

use super::{
    BatchWrite, BlockWrite, ReceiptRow, ReceiptsOf, Result, StateWrite, StorageError, StoredBlock, StoredSnapshot,
    TransactionRow,
};
use aitbc_core::batch::BatchRef;
use aitbc_core::block::{Candidate, Header, Seal};
use aitbc_core::codec;
use aitbc_core::hash::Hash;
use aitbc_core::key::{Address, Signature};
use aitbc_core::record::{Record, RecordChange, RecordKey};
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use borsh::BorshDeserialize;
use std::collections::HashMap;

/// A number as SQL has it. Heights, slots and amounts stay far below 2^63; what an author made up beyond that
/// (an expiry height) means "never" either way.
pub fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number from SQL; columns of ours hold no negative ones.
pub fn number(sql: i64) -> u64 {
    u64::try_from(sql).unwrap_or(0)
}

fn small<T: TryFrom<i64>>(what: &str, sql: i64) -> Result<T> {
    T::try_from(sql).map_err(|_| StorageError::Corrupt(format!("{what} {sql} is out of range")))
}

/// Bytes to a value.
pub fn decode<T: BorshDeserialize>(what: &str, bytes: &[u8]) -> Result<T> {
    codec::decode(bytes).map_err(|cause| StorageError::Corrupt(format!("{what}: {cause}")))
}

/// Text to a hash.
pub fn hash(text: &str) -> Result<Hash> {
    text.parse().map_err(|cause| StorageError::Corrupt(format!("{cause}")))
}

/// Bytes to a hash.
pub fn hash_of_bytes(bytes: &[u8]) -> Result<Hash> {
    let bytes = bytes.try_into().map_err(|_| StorageError::Corrupt(format!("a hash of {} bytes", bytes.len())))?;
    Ok(Hash(bytes))
}

/// Text to an address.
pub fn address(text: &str) -> Result<Address> {
    text.parse().map_err(|cause| StorageError::Corrupt(format!("{cause}")))
}

/// The ledger holds another end of this epoch (E5): two blocks cannot both end it.
pub fn another_seal(seal: &Seal) -> StorageError {
    let Statement { slot, kind, .. } = seal.cert.statement;
    StorageError::ConflictingVote { slot, class: kind.class() }
}

fn signature(bytes: &[u8]) -> Result<Signature> {
    let bytes = bytes.try_into().map_err(|_| StorageError::Corrupt(format!("a signature of {} bytes", bytes.len())))?;
    Ok(Signature(bytes))
}

/// epoch, slot, kind, digest, signer, signature.
pub type VoteRow = (i64, i64, String, String, i64, Vec<u8>);

/// A row of `votes`.
pub fn vote((epoch, slot, kind, digest, signer, bytes): VoteRow) -> Result<Vote> {
    let kind = [Kind::Notar, Kind::Skip, Kind::Final].into_iter().find(|k| k.name() == kind);
    let kind = kind.ok_or_else(|| StorageError::Corrupt("a vote of unknown kind".to_owned()))?;
    let statement = Statement { epoch: number(epoch), slot: number(slot), kind, digest: hash(&digest)? };
    Ok(Vote { statement, signer: small("signer", signer)?, signature: signature(&bytes)? })
}

/// key, value.
pub type RecordRow = (Vec<u8>, Vec<u8>);

/// A row of `records`.
pub fn record((key, value): RecordRow) -> Result<(RecordKey, Record)> {
    Ok((decode("key of a record", &key)?, decode("record", &value)?))
}

/// height, state_root, results_root; each is there or none.
pub type AppliedRow = (Option<i64>, Option<String>, Option<String>);
/// address, balance, nonce.
pub type AccountRow = (String, i64, i64);

/// All rows of the state but those of transactions and receipts; `None` before genesis was written.
pub fn state(applied: AppliedRow, accounts: Vec<AccountRow>, records: Vec<RecordRow>) -> Result<Option<StateWrite>> {
    let (Some(height), Some(state_root), Some(results_root)) = applied else { return Ok(None) };
    let account = |(text, balance, nonce): AccountRow| Ok((address(&text)?, number(balance), number(nonce)));
    let written = |row: RecordRow| record(row).map(|(key, record)| (key, Some(record)));
    Ok(Some(StateWrite {
        height: number(height),
        state_root: hash(&state_root)?,
        results_root: hash(&results_root)?,
        accounts: accounts.into_iter().map(account).collect::<Result<_>>()?,
        records: records.into_iter().map(written).collect::<Result<_>>()?,
        transactions: Vec::new(),
        receipts: Vec::new(),
    }))
}

/// Height of the state, and one of its records, if it has any of those asked for.
pub type EvidenceRow = (Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>);

/// Rows of a read of evidence.
pub fn evidence(found: Vec<EvidenceRow>) -> Result<(u64, Vec<(RecordKey, Record)>)> {
    let height = found.first().and_then(|(height, ..)| *height).map_or(0, number);
    let records = found.into_iter().filter_map(|(_, key, value)| Some(record((key?, value?))));
    Ok((height, records.collect::<Result<_>>()?))
}

/// Rows of `records` to write, and keys of those to delete.
pub fn records(changed: &[RecordChange]) -> (Vec<RecordRow>, Vec<Vec<u8>>) {
    let (mut written, mut gone) = (Vec::new(), Vec::new());
    for (key, record) in changed {
        match record {
            Some(record) => written.push((codec::encode(key), codec::encode(record))),
            None => gone.push(codec::encode(key)),
        }
    }
    (written, gone)
}

/// digest, header, signature, cert.
pub type BlockRow = (String, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// A row of `blocks`.
pub fn block((digest, header, bytes, cert): BlockRow) -> Result<StoredBlock> {
    let header: Header = decode("header", &header)?;
    let candidate = Candidate { header, signature: signature(&bytes)? };
    let cert: Option<Cert> = cert.map(|bytes| decode("certificate", &bytes)).transpose()?;
    Ok(StoredBlock { digest: hash(&digest)?, candidate, cert })
}

/// height, state_root, results_root, leaves.
pub type SnapshotRow = (i64, String, String, Vec<u8>);

/// The rows of `snapshot`, by part; `None` where there are none.
pub fn snapshot(rows: Vec<SnapshotRow>) -> Result<Option<StoredSnapshot>> {
    let Some((height, state_root, results_root, _)) = rows.first() else { return Ok(None) };
    let (height, state_root, results_root) = (number(*height), hash(state_root)?, hash(results_root)?);
    let parts = rows.into_iter().map(|(.., leaves)| leaves).collect();
    Ok(Some(StoredSnapshot { height, state_root, results_root, parts }))
}

/// digest, epoch, author, size, tx_count, seq, expiry_height.
pub type BatchRow = (String, i64, i64, i64, i64, i64, i64);

/// A row of `batches` that no block holds.
pub fn batch((digest, epoch, author, size, txs, seq, expiry): BatchRow) -> Result<(BatchRef, u64, u64)> {
    let reference = BatchRef {
        digest: hash(&digest)?,
        epoch: number(epoch),
        author: small("author", author)?,
        bytes: small("size", size)?,
        txs: small("tx_count", txs)?,
    };
    Ok((reference, seq.cast_unsigned(), number(expiry)))
}

/// A batch's digest with its expiry height or size.
pub fn numbered((digest, value): (String, i64)) -> Result<(Hash, u64)> {
    Ok((hash(&digest)?, number(value)))
}

/// id, height, idx, code, sender, nonce, batch.
pub type OutcomeRow = (Vec<u8>, i64, i64, i64, String, i64, Vec<u8>);

/// A row of `transactions`.
pub fn transaction((id, height, index, code, sender, nonce, batch): OutcomeRow) -> Result<TransactionRow> {
    Ok(TransactionRow {
        id: hash_of_bytes(&id)?,
        height: number(height),
        index: small("idx", index)?,
        code: small("code", code)?,
        sender: address(&sender)?,
        nonce: number(nonce),
        batch: hash_of_bytes(&batch)?,
    })
}

/// height, idx, time_ms, minted, receipt.
pub type ReceiptColumns = (i64, i64, i64, i64, Vec<u8>);

/// A row of `receipts`.
pub fn receipt((height, index, time_ms, minted, receipt): ReceiptColumns) -> Result<ReceiptRow> {
    Ok(ReceiptRow {
        height: number(height),
        index: small("idx", index)?,
        time_ms: number(time_ms),
        minted: number(minted),
        attested: decode("receipt", &receipt)?,
    })
}

/// Primary key of `receipts`: the order of the chain. No block has 2^20 transactions.
pub fn place(row: &ReceiptRow) -> i64 {
    (sql(row.height) << 20) | i64::from(row.index)
}

/// Column of `receipts` that has what is asked for, and what it must have; `None`: all rows.
pub fn receipts_of(of: &ReceiptsOf) -> Option<(&'static str, String)> {
    match of {
        ReceiptsOf::Everybody => None,
        ReceiptsOf::Receipt(name) => Some(("receipt_id", name.to_string())),
        ReceiptsOf::Job(name) => Some(("job_id", name.to_string())),
        ReceiptsOf::Provider(provider) => Some(("provider", provider.to_string())),
    }
}

/// Columns of `batches` for a write.
pub struct BatchColumns {
    pub digest: String,
    pub epoch: i64,
    pub author: i64,
    pub seq: i64,
    pub expiry_height: i64,
    pub tx_count: i64,
    pub size: i64,
    pub bytes: Vec<u8>,
}

impl From<&BatchWrite> for BatchColumns {
    fn from(write: &BatchWrite) -> Self {
        let batch = &*write.batch;
        let bytes = codec::encode(batch);
        BatchColumns {
            digest: write.digest.to_string(),
            epoch: sql(batch.epoch),
            author: i64::from(batch.author),
            seq: batch.seq.cast_signed(),
            expiry_height: sql(batch.expiry_height),
            tx_count: sql(batch.txs.len() as u64),
            size: sql(bytes.len() as u64),
            bytes,
        }
    }
}

/// Columns of `blocks` for a write, and as an auditor reads them.
#[derive(sqlx::FromRow)]
pub struct BlockColumns {
    pub height: i64,
    pub epoch: i64,
    pub slot: i64,
    pub digest: String,
    pub parent: String,
    pub time_ms: i64,
    pub proposer: i64,
    pub tx_count: i64,
    pub parent_state_root: String,
    pub header: Vec<u8>,
    pub signature: Vec<u8>,
    pub cert: Option<Vec<u8>>,
}

impl From<&BlockWrite> for BlockColumns {
    fn from(write: &BlockWrite) -> Self {
        let header = &write.candidate.header;
        BlockColumns {
            height: sql(header.height),
            epoch: sql(header.epoch),
            slot: sql(header.slot),
            digest: write.digest.to_string(),
            parent: header.parent.to_string(),
            time_ms: sql(header.time_ms),
            proposer: i64::from(header.proposer),
            tx_count: sql(header.tx_count()),
            parent_state_root: header.parent_state_root.to_string(),
            header: codec::encode(header),
            signature: write.candidate.signature.0.to_vec(),
            cert: write.cert.as_ref().map(codec::encode),
        }
    }
}

/// The block of a row whose every column says what the header says; else which one does not, and what each says.
pub fn audited(row: &BlockColumns) -> std::result::Result<StoredBlock, String> {
    let bytes = (row.digest.clone(), row.header.clone(), row.signature.clone(), row.cert.clone());
    let mut stored = block(bytes).map_err(|cause| cause.to_string())?;
    stored.digest = stored.candidate.header.digest();
    let StoredBlock { digest, candidate, cert } = stored.clone();
    let own = BlockColumns::from(&BlockWrite { digest, candidate, cert });
    let numbers = |c: &BlockColumns| [c.height, c.epoch, c.slot, c.time_ms, c.proposer, c.tx_count];
    let texts = |c: &BlockColumns| [c.digest.clone(), c.parent.clone(), c.parent_state_root.clone()];
    let said = |c: &BlockColumns| numbers(c).map(|number| number.to_string()).into_iter().chain(texts(c));
    let names = ["height", "epoch", "slot", "time_ms", "proposer", "tx_count", "digest", "parent", "parent_state_root"];
    for (name, (found, expected)) in names.into_iter().zip(said(row).zip(said(&own))) {
        if found != expected {
            return Err(format!("column {name} is {found}, expected {expected} by its header"));
        }
    }
    Ok(stored)
}

/// Addresses as text, each made once: a sender is among the changed accounts, and bech32 costs more than a look-up.
#[derive(Default)]
pub struct AddressTexts(HashMap<Address, String>);

impl AddressTexts {
    /// The text form.
    pub fn get(&mut self, address: Address) -> &str {
        self.0.entry(address).or_insert_with(|| address.to_string())
    }
}

/// A block that was in the ledger before must be the same one.
pub fn same_block(height: i64, ours: &str, found: Option<&str>) -> Result<()> {
    match found {
        Some(found) if found == ours => Ok(()),
        found => {
            let found = found.unwrap_or("another height for it");
            Err(StorageError::Corrupt(format!("block {height} is {ours}, but the ledger has {found}")))
        }
    }
}

/// A block's batches are durable before it (P3).
pub fn all_there(height: i64, expected: usize, found: u64) -> Result<()> {
    if found == expected as u64 {
        return Ok(());
    }
    Err(StorageError::Corrupt(format!("block {height} names {expected} batches, the ledger has {found} of them")))
}

/// Hashes as a JSON array of texts.
pub fn json_list<'a>(hashes: impl Iterator<Item = &'a Hash>) -> String {
    let quoted: Vec<String> = hashes.map(|hash| format!("\"{hash}\"")).collect();
    format!("[{}]", quoted.join(","))
}

/// A write of the state that `applied` is not below of: known already, or before any genesis.
pub fn applied_before(applied: Option<i64>, height: u64) -> Result<()> {
    match applied {
        Some(_) => Ok(()),
        None => Err(StorageError::Corrupt(format!("no genesis state to apply height {height} to"))),
    }
}
