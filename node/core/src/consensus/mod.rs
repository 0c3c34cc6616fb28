//! Weighted Simplex for one validator set: a pure state machine (protocol.md §3, C0).

pub mod input;
pub mod output;
