//! Harness of the tests that cross crates: real processes, real databases, real clients.

pub mod wait;

pub mod rounds;
pub mod seed;

pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod tmpfs;

pub mod metrics;
pub mod node_process;
pub mod process_stats;
pub mod rpc;
pub mod subscriber;
pub mod wallet;

pub mod ledger_reader;
pub mod vote_archive;

pub mod abuser;
pub mod devnet;
pub mod localnet;
pub mod set_history;
pub mod witness;

pub mod forge;

pub mod cluster;

pub mod bench;
pub mod catch_up;
pub mod load;
pub mod one_of_four;
pub mod work;

pub mod mixed_load;
pub mod soak;
pub mod trend;
