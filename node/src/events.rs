//! The events that subscribers get, one JSON shape each; see docs/rpc.md.

use crate::storage::TransactionRow;
use crate::subscriptions::{Subscriptions, Topic};
use crate::view::BlockSummary;
use aitbc_core::consensus::output::Event;
use aitbc_core::hash::Hash;
use aitbc_core::key::Address;
use aitbc_core::ledger::ResultCode;
use aitbc_core::validators::ValidatorSet;
use serde::Serialize;

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

/// A block is final.
pub fn block_final(subscriptions: &Subscriptions, block: &BlockSummary) {
    subscriptions.publish(Topic::NewBlocks, block.height, block);
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

/// Transactions entered the pool of this node, each with its id, sender and nonce.
pub fn transactions_pending(subscriptions: &Subscriptions, height: u64, transactions: &[(Hash, Address, u64)]) {
    let events = transactions.iter().map(|&(id, sender, nonce)| TransactionEvent {
        tx_hash: id,
        status: "pending",
        sender: Some(sender),
        nonce: Some(nonce),
        block_height: None,
        code: None,
    });
    subscriptions.publish_all(Topic::NewTransactions, height, events);
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
