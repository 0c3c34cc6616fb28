//! A clock that leaps while its node runs, by libfaketime: the wall clock only, time itself goes on as ever.

use super::{LONGEST_PAUSE, all_vote, begin_and_end, shape};
use aitbc_tests::localnet::{Database, Localnet, Node, run};
use aitbc_tests::seed::Seed;
use aitbc_tests::wait;
use aitbc_tests::witness::Witness;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the clock is wrong.
const TIME: Duration = Duration::from_secs(3);
/// How exactly a leap is told: two turns of the loop that notices it.
const TOLERANCE_MS: i64 = 500;
/// Whose clock it is.
const VICTIM: usize = 3;

#[test]
fn a_clock_that_leaps_ten_seconds_ahead_back_and_behind_harms_nobody_else() {
    run("clock", async {
        let mut net = Localnet::prepare(shape(Database::Sqlite, Seed::of("clock"))).await?;
        let clock = net.dir().join("clock");
        set(&clock, "+0")?;
        let process = &mut net.nodes[VICTIM].process;
        process.set_env("LD_PRELOAD", &libfaketime()?.display().to_string());
        process.set_env("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string());
        process.set_env("FAKETIME_CACHE_DURATION", "1");
        process.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        begin_and_end(&mut net, async |net, witness| leaps(net, witness, &clock).await).await?;
        net.finish().await
    });
}

async fn leaps(net: &Localnet, witness: &Witness, clock: &Path) -> Result<()> {
    for (number, (offset, leap_ms)) in
        [("+10", 10_000), ("+0", -10_000), ("-10", -10_000), ("+0", 10_000)].iter().enumerate()
    {
        let leapt_at = Instant::now();
        set(clock, offset)?;
        wait::let_it_run(TIME).await;
        let pause = witness.longest_pause(leapt_at, &[0, 1, 2]);
        let told = told(&net.nodes[VICTIM]);
        println!("clock of validator {VICTIM} at {offset} s: longest pause {pause:?}; it tells of leaps {told:?} ms");
        ensure!(pause < LONGEST_PAUSE, "no block for {pause:?} with a clock at {offset} s");
        let last = *told.last().context("no line in the log tells of a leap")?;
        ensure!(told.len() == number + 1 && (last - leap_ms).abs() < TOLERANCE_MS, "leapt {leap_ms} ms, told {told:?}");
    }
    all_vote(net).await
}

/// The leaps in a node's log, in milliseconds.
fn told(node: &Node) -> Vec<i64> {
    let log = node.process.log_text();
    let lines = log.lines().filter(|line| line.contains("the wall clock of this machine leapt"));
    lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["ms"].as_i64()).collect()
}

/// Replaced as a whole: a reader must not see half of it.
fn set(clock: &Path, offset: &str) -> Result<()> {
    let new = clock.with_extension("new");
    std::fs::write(&new, offset)?;
    Ok(std::fs::rename(&new, clock)?)
}

fn libfaketime() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).filter(|path| path.is_file());
    found.next().context("libfaketime is not installed (Debian: apt-get install libfaketime)")
}
