//! Weighted Simplex for one validator set: a pure state machine (protocol.md §3, C0).

mod batches;
mod candidates;
mod certs;
mod examine;
mod finalize;
mod frontier;
pub mod input;
mod lead;
pub mod output;
mod pool;
mod random;
mod resolve;
mod rules;
mod skip;
mod standstill;
mod state;
mod status;
mod step;
#[cfg(test)]
mod tests;
mod validity;
pub mod verify;
mod voting;

pub use state::{Config, Core};
