//! Seeded simulation of the real consensus core: fake clock, network and disks, real rules. No effects of its own.
//!
//! ```text
//! seed, scenario → run: Plan → world: events → Core::step → outputs → disk, network, adversary
//!                                                  └→ checkers (panic = violation), story
//! ```

/// Who lies, one file each.
pub mod adversary;
/// What must hold, apart from what happens.
pub mod checkers;
/// What survives a crash.
pub mod disk;
/// Loss, delay, partitions.
pub mod network;
/// The seed's generator.
pub mod random;
/// A whole run of a seed, with its verdict.
pub mod run;
/// A ledger in which stakes and votes decide who validates.
pub mod stakes;
/// Nodes, events, time.
pub mod world;
