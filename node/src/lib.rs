//! The node: effects around the pure core, in flow order.
//!
//! ```text
//! rpc/send_tx → mempool → batch → proposal → votes → certificate → commit → storage → subscriptions → rpc/websocket
//! ```
//! Layers, left never imports right: storage, subscriptions, gossip | signer, verify, mempool, commit, prune |
//! consensus, sync, rpc | audit | node.

pub mod audit;
pub mod batches;
pub mod cli;
pub mod client;
pub mod commit;
pub mod config;
pub mod consensus;
pub mod devnet;
pub mod doctor;
pub mod events;
pub mod executor;
#[cfg(test)]
mod fuzz;
pub mod gossip;
pub mod lapse;
pub mod mempool;
pub mod metrics;
pub mod node;
pub mod prune;
pub mod pulse;
pub mod recovery;
pub mod rpc;
pub mod shutdown;
pub mod signer;
pub mod status;
pub mod storage;
pub mod subscriptions;
pub mod sync;
pub mod telemetry;
pub mod verify;
pub mod view;
