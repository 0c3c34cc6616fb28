//! Seeded simulation of the real consensus core: fake clock, network and disks, real rules.
//!
//! `SIMULATION_SEEDS=1000` runs more, `SIMULATION_FIRST=n` from another seed on. A failure prints its seed; the same seed is
//! the same run.

/// Who lies.
mod adversary;
/// What must hold, apart from what happens.
mod checkers;
/// What survives a crash.
mod disk;
/// Loss, delay, partitions.
mod network;
/// The seed's generator.
mod random;
/// What happens.
mod scenarios;
/// Nodes, events, time.
mod world;
