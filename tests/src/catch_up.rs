//! Measures how fast a validator with an empty database takes a long chain from its peers, and when it votes again.

use crate::forge::{self, Plan};
use crate::ledger_reader::LedgerReader;
use crate::localnet::{Database, Localnet, START_LIMIT, Shape, Wiring};
use crate::process_stats;
use crate::seed::Seed;
use crate::wait;
use aitbc_core::env::name;
use aitbc_core::params::Parameters;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longest time to take the chain.
const LIMIT: Duration = Duration::from_secs(900);
/// Longest time from the last block to a vote.
const VOTE_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at height and memory.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Blocks that the node may keep beyond those it shall: it deletes a few at a time.
const PRUNE_LAG: u64 = 64;
/// Longest time it may take to delete them.
const PRUNE_LIMIT: Duration = Duration::from_secs(60);
/// Of four: it was away all the time.
const AWAY: usize = 3;

/// How it catches up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It takes all blocks.
    Blocks,
    /// It fetches a snapshot, where it is far enough behind for that.
    Snapshot,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `sqlite` or `postgres`.
    pub database: &'static str,
    /// Blocks it was behind.
    pub blocks: u64,
    /// Seconds from the start of its process to the last of them.
    pub seconds: f64,
    /// Seconds from the start of its process to its first vote.
    pub seconds_to_vote: f64,
    /// Blocks a second.
    pub blocks_per_second: f64,
    /// MB of a database that has all blocks.
    pub archive_mb: f64,
    /// MB of its own database: the greatest on the way.
    pub database_mb: f64,
    /// Least height whose transactions it keeps.
    pub lowest: u64,
    /// Most resident memory on the way, MB.
    pub memory_mb: f64,
    /// Seconds of processor time by thread name, from 0.1 on.
    pub cpu_seconds: BTreeMap<String, f64>,
}

/// A chain of four validators, forged by `plan`, of whom the last has nothing yet and none runs.
///
/// # Errors
/// Where a database cannot be made or written.
pub async fn prepare(database: Database, seed: Seed, plan: Plan) -> Result<Localnet> {
    let (parameters, wiring) = (Parameters::default(), Wiring::Direct);
    let mut net = Localnet::prepare(Shape { validators: 4, database, seed, accounts: 64, parameters, wiring }).await?;
    forge::fill(&mut net, &[0, 1, 2], plan).await?;
    Ok(net)
}

/// Starts the three that have the chain, then the one that has not, which keeps so many blocks; waits until it votes and
/// has deleted what it shall, or has never had it.
///
/// # Errors
/// Where it does not catch up in time.
pub async fn catch_up(net: &mut Localnet, plan: Plan, keep: Option<u64>, way: Way) -> Result<Report> {
    net.nodes[AWAY].process.set_env(name::STATE_SYNC, if way == Way::Snapshot { "on" } else { "off" });
    if let Some(keep) = keep {
        net.nodes[AWAY].process.set_env(name::PRUNING, &keep.to_string());
    }
    for node in &mut net.nodes[..AWAY] {
        node.process.start()?;
    }
    net.wait_for_height(plan.blocks + 1, START_LIMIT).await?;
    if way == Way::Snapshot {
        // As after a restart one by one, not all have snapshots of the same height.
        net.nodes[AWAY - 1].process.kill().await?;
        net.nodes[AWAY - 1].process.start()?;
        net.wait_until_votes(AWAY - 1, VOTE_LIMIT).await?;
    }
    let behind = net.height().await?;
    let start = Instant::now();
    net.start_all()?;
    let process = net.nodes[AWAY].process.pid().context("it ended")?;
    let database = LedgerReader::open(&net.nodes[AWAY].database_url)?;
    let (mut memory, mut bytes) = (0, 0);
    let what = format!("{behind} blocks taken");
    wait::until_ok(LOOK_EVERY, &what, LIMIT, async || {
        memory = memory.max(process_stats::resident_bytes(process).unwrap_or(0));
        // Its tables are not there at once.
        bytes = bytes.max(database.bytes().await.unwrap_or(0));
        match net.nodes[AWAY].rpc.height().await? {
            height if height >= behind => Ok(()),
            height => bail!("height {height}"),
        }
    })
    .await?;
    let seconds = start.elapsed().as_secs_f64();
    net.wait_until_votes(AWAY, VOTE_LIMIT).await?;
    let seconds_to_vote = start.elapsed().as_secs_f64();
    let lowest = wait_until_pruned(net, behind, keep).await?;
    let archive = LedgerReader::open(&net.nodes[0].database_url)?.bytes().await?;
    let mut cpu_seconds = process_stats::cpu_by_thread(process);
    cpu_seconds.retain(|_, seconds| *seconds >= 0.1);
    Ok(Report {
        database: net.database().name(),
        blocks: behind,
        seconds,
        seconds_to_vote,
        blocks_per_second: behind as f64 / seconds,
        archive_mb: archive as f64 / 1e6,
        database_mb: bytes.max(database.bytes().await?) as f64 / 1e6,
        lowest,
        memory_mb: memory as f64 / 1e6,
        cpu_seconds,
    })
}

/// Least height that is kept, once no more than a few blocks too many are.
async fn wait_until_pruned(net: &Localnet, behind: u64, keep: Option<u64>) -> Result<u64> {
    let Some(keep) = keep else { return Ok(1) };
    let least = behind.saturating_sub(keep + PRUNE_LAG);
    wait::until_ok(LOOK_EVERY, "old transactions deleted", PRUNE_LIMIT, async || {
        match net.metrics(AWAY).await?.sum("blockchain_lowest_height") as u64 {
            lowest if lowest >= least => Ok(lowest),
            lowest => bail!("lowest height {lowest}, {least} wanted"),
        }
    })
    .await
}

/// Forges, catches up, stops, and checks what must always hold.
///
/// # Errors
/// Where any of it fails.
pub async fn measure(database: Database, seed: Seed, plan: Plan, keep: Option<u64>, way: Way) -> Result<Report> {
    let mut net = prepare(database, seed, plan).await?;
    let report = catch_up(&mut net, plan, keep, way).await?;
    net.finish().await?;
    Ok(report)
}
