//! The node: effects around the pure core, in flow order.
//!
//! ```text
//! rpc/send_tx → mempool → batch → proposal → votes → certificate → commit → storage → subscriptions → rpc/websocket
//! ```
//! Layers, each imports only from those above it (scripts/check-layers.sh):
//!
//! ```text
//! 1  config lapse metrics pulse quota recent serving shutdown snapshots subscriptions
//! 2  devnet doctor gossip storage telemetry verify
//! 3  batches commit prune signer view
//! 4  events joiners state_sync undo
//! 5  mempool
//! 6  executor rpc
//! 7  client recovery sync
//! 8  audit consensus status
//! 9  node
//! 10 cli
//! ```

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
pub mod joiners;
pub mod lapse;
pub mod mempool;
pub mod metrics;
pub mod node;
pub mod prune;
pub mod pulse;
mod quota;
mod recent;
pub mod recovery;
pub mod rpc;
pub mod serving;
pub mod shutdown;
pub mod signer;
pub mod snapshots;
pub mod state_sync;
pub mod status;
pub mod storage;
pub mod subscriptions;
pub mod sync;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod undo;
pub mod verify;
pub mod view;
