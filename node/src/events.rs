//! The events that subscribers get, one JSON shape each; see docs/rpc.md.

use crate::storage::TransactionRow;
use crate::subscriptions::{Subscriptions, Topic};
use crate::view::BlockSummary;
use aitbc_core::consensus::output::Event;
use aitbc_core::hash::Hash;
use aitbc_core::json;
use aitbc_core::key::Address;
use aitbc_core::ledger::ResultCode;
use aitbc_core::mempool::VerifiedTx;
use aitbc_core::validators::ValidatorSet;
use serde::Serialize;
use serde_json::Value;

/// A transaction on `new_transactions`.
#[derive(Serialize)]
struct TransactionEvent {
    tx_hash: Hash,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_height: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

/// A final block as the prototype's clients read it (compat.md §1b).
#[derive(Serialize)]
struct PrototypeBlock {
    height: u64,
    hash: Hash,
    parent_hash: Hash,
    timestamp: Option<String>,
    tx_count: u64,
}

/// An admitted transaction as the prototype's clients read it (compat.md §1b).
#[derive(Serialize)]
struct PrototypeTransaction {
    tx_hash: Hash,
    sender: Address,
    recipient: Option<Address>,
    payload: Value,
    nonce: u64,
    fee: u64,
    r#type: &'static str,
}

/// A block is final.
pub fn block_final(subscriptions: &Subscriptions, block: &BlockSummary) {
    subscriptions.publish(Topic::NewBlocks, block.height, block);
    let prototype = std::iter::once(block).map(|block| PrototypeBlock {
        height: block.height,
        hash: block.hash,
        parent_hash: block.parent_hash,
        timestamp: naive_utc(block.time_ms),
        tx_count: block.tx_count,
    });
    subscriptions.publish_all(Topic::PrototypeBlocks, block.height, prototype);
}

/// `2026-01-31T12:00:00.500000`, the prototype's form of a time: UTC without saying so; `None` far out of range.
pub fn naive_utc(time_ms: u64) -> Option<String> {
    let seconds = jiff::Timestamp::from_second(i64::try_from(time_ms / 1_000).ok()?).ok()?.to_string();
    // Old readers of ISO 8601 take no fraction or six digits of one.
    Some(format!("{}.{:06}", seconds.trim_end_matches('Z'), time_ms % 1_000 * 1_000))
}

/// Transactions of a block are final.
pub fn transactions_final(subscriptions: &Subscriptions, rows: &[TransactionRow]) {
    // One height a call: the rows are those of a block.
    let Some(height) = rows.first().map(|row| row.height) else { return };
    let events = rows.iter().map(|row| TransactionEvent {
        tx_hash: row.id,
        status: if row.code == 0 { "final" } else { "rejected" },
        sender: Some(row.sender),
        nonce: Some(row.nonce),
        block_height: Some(row.height),
        code: ResultCode::from_number(row.code).map(ResultCode::name),
    });
    subscriptions.publish_all(Topic::NewTransactions, height, events);
}

/// Whether anybody wants to hear of transactions that enter the pool.
pub fn pending_wanted(subscriptions: &Subscriptions) -> bool {
    subscriptions.readers(Topic::NewTransactions) + subscriptions.readers(Topic::PrototypeTransactions) > 0
}

/// Transactions entered the pool of this node.
pub fn transactions_pending(subscriptions: &Subscriptions, height: u64, transactions: &[VerifiedTx]) {
    let events = transactions.iter().map(|known| TransactionEvent {
        tx_hash: known.id,
        status: "pending",
        sender: Some(known.sender),
        nonce: Some(known.tx.transaction.nonce),
        block_height: None,
        code: None,
    });
    subscriptions.publish_all(Topic::NewTransactions, height, events);
    let prototype = transactions.iter().map(|known| {
        let tx = &known.tx.transaction;
        PrototypeTransaction {
            tx_hash: known.id,
            sender: known.sender,
            recipient: json::recipient(&tx.action),
            payload: json::payload(&tx.action),
            nonce: tx.nonce,
            fee: tx.fee,
            r#type: json::type_name(&tx.action),
        }
    });
    subscriptions.publish_all(Topic::PrototypeTransactions, height, prototype);
}

/// A step of consensus on `consensus_events`.
#[derive(Serialize)]
struct ConsensusEvent {
    event: &'static str,
    slot: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_hash: Option<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_height: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<Address>,
}

/// A step of consensus happened; `height` is that of the last final block.
pub fn consensus(subscriptions: &Subscriptions, set: &ValidatorSet, height: u64, event: &Event) {
    if subscriptions.readers(Topic::ConsensusEvents) == 0 {
        return;
    }
    let base = ConsensusEvent { event: "", slot: 0, kind: None, block_hash: None, block_height: None, leader: None };
    let event = match *event {
        Event::SlotStarted { slot, leader, .. } => {
            ConsensusEvent { event: "slot_started", slot, leader: set.address(leader), ..base }
        }
        Event::Proposed { slot, height, digest } => {
            ConsensusEvent { event: "proposed", slot, block_hash: Some(digest), block_height: Some(height), ..base }
        }
        Event::Voted { statement } => ConsensusEvent {
            event: "voted",
            slot: statement.slot,
            kind: Some(statement.kind.name()),
            block_hash: (!statement.digest.is_zero()).then_some(statement.digest),
            ..base
        },
        Event::Certified { statement } => ConsensusEvent {
            event: "certified",
            slot: statement.slot,
            kind: Some(statement.kind.name()),
            block_hash: (!statement.digest.is_zero()).then_some(statement.digest),
            ..base
        },
        Event::Missed { slot, leader, .. } => {
            ConsensusEvent { event: "missed", slot, leader: set.address(leader), ..base }
        }
        Event::Dropped { .. } => return,
    };
    subscriptions.publish(Topic::ConsensusEvents, height, &event);
}
