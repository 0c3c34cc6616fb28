//! The chain as pure functions: no clock, no I/O, no randomness, no environment.
//!
//! In reading order; each module imports only from those above it. The flow through them:
//!
//! ```text
//! send_tx → transaction → mempool → batch → consensus (proposal → votes → certificate) → ledger → state
//! ```

#![deny(missing_docs)]

// Bytes, hashes, keys, bounds.
pub mod codec;
pub mod hash;
pub mod key;
pub mod merkle;
pub mod params;

// Names and defaults that the operator shares.
pub mod env;

// Who decides, and how it began.
pub mod validators;

pub mod epoch;
pub mod terms;

pub mod genesis;

// What is sent: receipts in transactions, and their JSON; batches of them; votes; blocks; messages.
pub mod receipt;

pub mod transaction;

pub mod json;

pub mod batch;
pub mod vote;

// Who a validator is on a channel, and what its database remembers.
pub mod hello;

pub mod memory;

pub mod evidence;

pub mod block;

// What transactions do, and where they wait.
pub mod result_code;

pub mod supply;

pub mod staking;

pub mod record;

pub mod state;

pub mod ledger;

pub mod mempool;

// What validators tell each other.
pub mod message;

// How a block becomes final, how one that was away catches up, and what proves it to who trusts no node.
pub mod consensus;

pub mod light;

pub mod sync;

pub mod state_sync;
