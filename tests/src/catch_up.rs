//! Measures how fast a validator with an empty database takes a long chain from its peers, and when it votes again.

use crate::forge::{self, Plan};
use crate::localnet::{Database, Localnet, START_LIMIT, Shape};
use crate::process_stats;
use crate::seed::Seed;
use crate::wait;
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
/// Of four: it was away all the time.
const AWAY: usize = 3;

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
    let parameters = Parameters::default();
    let mut net = Localnet::prepare(Shape { validators: 4, database, seed, accounts: 64, parameters }).await?;
    forge::fill(&mut net, &[0, 1, 2], plan).await?;
    Ok(net)
}

/// Starts the three that have the chain, then the one that has not; waits until it votes.
///
/// # Errors
/// Where it does not catch up in time.
pub async fn catch_up(net: &mut Localnet, plan: Plan) -> Result<Report> {
    for node in &mut net.nodes[..AWAY] {
        node.process.start()?;
    }
    net.wait_for_height(plan.blocks + 1, START_LIMIT).await?;
    let behind = net.height().await?;
    let start = Instant::now();
    net.start_all()?;
    let process = net.nodes[AWAY].process.pid().context("it ended")?;
    let mut memory = 0;
    let what = format!("{behind} blocks taken");
    wait::until_ok(LOOK_EVERY, &what, LIMIT, async || {
        memory = memory.max(process_stats::resident_bytes(process).unwrap_or(0));
        match net.nodes[AWAY].rpc.height().await? {
            height if height >= behind => Ok(()),
            height => bail!("height {height}"),
        }
    })
    .await?;
    let seconds = start.elapsed().as_secs_f64();
    net.wait_until_votes(AWAY, VOTE_LIMIT).await?;
    let seconds_to_vote = start.elapsed().as_secs_f64();
    let mut cpu_seconds = process_stats::cpu_by_thread(process);
    cpu_seconds.retain(|_, seconds| *seconds >= 0.1);
    Ok(Report {
        database: net.database().name(),
        blocks: behind,
        seconds,
        seconds_to_vote,
        blocks_per_second: behind as f64 / seconds,
        memory_mb: memory as f64 / 1e6,
        cpu_seconds,
    })
}

/// Forges, catches up, stops, and checks what must always hold.
///
/// # Errors
/// Where any of it fails.
pub async fn measure(database: Database, seed: Seed, plan: Plan) -> Result<Report> {
    let mut net = prepare(database, seed, plan).await?;
    let report = catch_up(&mut net, plan).await?;
    net.finish().await?;
    Ok(report)
}
