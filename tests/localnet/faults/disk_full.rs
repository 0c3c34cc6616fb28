//! A database without room: nothing is voted that is not stored, and with room again all goes on.

use super::{BACK, LONGEST_PAUSE, all_vote, begin_and_end, log_tells, shape};
use aitbc_tests::localnet::{Database, Localnet, run};
use aitbc_tests::seed::Seed;
use aitbc_tests::tmpfs::Tmpfs;
use aitbc_tests::wait;
use aitbc_tests::witness::Witness;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// Size of the file system: some minutes of blocks.
const MIB: u32 = 64;
/// How long it is full.
const TIME: Duration = Duration::from_secs(4);
/// Pause between two looks whether it ended and is to be started again.
const RESTART: Duration = Duration::from_millis(500);
/// Whose it is.
const VICTIM: usize = 3;

#[test]
fn a_full_disk_stops_one_validator_s_votes_and_nobody_else_and_it_goes_on_with_room_again() {
    if !Tmpfs::is_possible() {
        return println!("left out: mounting a small file system takes root");
    }
    run("disk full", async {
        let mut net = Localnet::prepare(shape(Database::Sqlite, Seed::of("disk full"))).await?;
        let disk = Tmpfs::mount(MIB)?;
        let folder = net.database_dir(VICTIM);
        std::fs::remove_dir(&folder)?;
        std::os::unix::fs::symlink(disk.path(), &folder)?;
        begin_and_end(&mut net, async |net, witness| filled(net, witness, &disk).await).await?;
        net.finish().await
    });
}

async fn filled(net: &mut Localnet, witness: &Witness, disk: &Tmpfs) -> Result<()> {
    let filled_at = Instant::now();
    disk.fill()?;
    log_tells(&net.nodes[VICTIM], &["a vote could not be stored", "full"], Duration::from_secs(10)).await?;
    // As a kubelet does: it is started again and again, and must not become ready.
    wait::until_every(RESTART, "time with a full disk has passed", TIME * 2, async || {
        if net.nodes[VICTIM].process.ended().is_some() {
            net.nodes[VICTIM].process.start().ok()?;
        }
        let ready = net.nodes[VICTIM].rpc.get("/ready").await.is_ok_and(|answer| answer.status == 200);
        (filled_at.elapsed() > TIME && !ready).then_some(())
    })
    .await?;
    let silent_from = net.votes.highest(net.nodes[VICTIM].signer);
    let pause = witness.longest_pause(filled_at, &[0, 1, 2]);
    ensure!(pause < LONGEST_PAUSE, "no block for {pause:?}");
    disk.free()?;
    let freed_at = Instant::now();
    net.start_again_until_votes(VICTIM, BACK).await?;
    println!(
        "disk full: longest pause {pause:?}, last epoch and slot voted {silent_from:?}, votes again {:?} after there was room",
        freed_at.elapsed()
    );
    all_vote(net).await
}
