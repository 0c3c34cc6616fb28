//! The chain as pure functions: no clock, no I/O, no randomness, no environment.
//!
//! In reading order; each module imports only from those above it. The flow through them:
//!
//! ```text
//! send_tx → transaction → mempool → batch → consensus (proposal → votes → certificate) → ledger → state
//! ```

#![deny(missing_docs)]

pub mod batch;
pub mod block;
pub mod codec;
pub mod consensus;
pub mod env;
pub mod genesis;
pub mod hash;
pub mod json;
pub mod key;
pub mod ledger;
pub mod mempool;
pub mod merkle;
pub mod message;
pub mod params;
pub mod state;
pub mod sync;
pub mod transaction;
pub mod validators;
pub mod vote;
