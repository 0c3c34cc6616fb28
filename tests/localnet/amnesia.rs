//! A validator whose database is lost or an old copy: it notices before its first vote, asks the others, and votes again
//! above everything it may have voted for (protocol A1-A9). What no vote may contradict is checked at the end of each.

use aitbc_tests::localnet::{Database, Localnet, STOP_LIMIT, scenario};
use aitbc_tests::node_process::NodeProcess;
use aitbc_tests::wait;
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The one whose database is lost.
const VICTIM: usize = 2;
/// How long it may take to vote again, the restart included.
const BACK: Duration = Duration::from_secs(20);

#[test]
fn a_validator_with_an_empty_database_recovers_by_asking_the_others_on_sqlite() {
    scenario("empty sqlite", 4, Database::Sqlite, async |net| {
        stop_after_some_blocks(net).await?;
        for file in database_files(net, VICTIM)? {
            std::fs::remove_file(&file).with_context(|| file.display().to_string())?;
        }
        start_and_see_it_recover(net, "the database is new").await
    });
}

#[test]
fn a_validator_with_an_empty_database_recovers_by_asking_the_others_on_postgres() {
    scenario("empty postgres", 4, Database::Postgres, async |net| {
        stop_after_some_blocks(net).await?;
        let name = database_name(net)?;
        net.servers[0].psql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"))?;
        net.servers[0].psql("postgres", &format!("CREATE DATABASE {name}"))?;
        start_and_see_it_recover(net, "the database is new").await
    });
}

#[test]
fn an_old_copy_of_the_database_put_back_under_a_running_key_is_noticed_on_sqlite() {
    scenario("old copy sqlite", 4, Database::Sqlite, async |net| {
        stop_after_some_blocks(net).await?;
        let kept = net.dir().join("copy");
        std::fs::create_dir(&kept)?;
        let files = database_files(net, VICTIM)?;
        for file in &files {
            std::fs::copy(file, kept.join(file.file_name().context("a file")?))?;
        }
        net.nodes[VICTIM].process.start()?;
        stop_after_some_blocks(net).await?;
        for file in database_files(net, VICTIM)? {
            std::fs::remove_file(&file)?;
        }
        for file in &files {
            std::fs::copy(kept.join(file.file_name().context("a file")?), file)?;
        }
        start_and_see_it_recover(net, "it is an old copy").await
    });
}

#[test]
fn an_old_copy_of_the_database_put_back_under_a_running_key_is_noticed_on_postgres() {
    scenario("old copy postgres", 4, Database::Postgres, async |net| {
        stop_after_some_blocks(net).await?;
        let name = database_name(net)?;
        // Nobody may be connected to what is copied, not even who collects the votes.
        let alone = [
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
            format!("CREATE DATABASE kept TEMPLATE {name}"),
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"),
        ];
        alone.iter().try_for_each(|sql| net.servers[0].psql("postgres", sql).map(|_| ()))?;
        net.nodes[VICTIM].process.start()?;
        stop_after_some_blocks(net).await?;
        net.servers[0].psql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"))?;
        net.servers[0].psql("postgres", &format!("ALTER DATABASE kept RENAME TO {name}"))?;
        start_and_see_it_recover(net, "the database server is another than before").await
    });
}

#[test]
fn the_command_recover_quarantines_a_running_validator_and_it_recovers() {
    scenario("recover command", 4, Database::Sqlite, async |net| {
        net.wait_until_signs(VICTIM, BACK).await?;
        recover(net, VICTIM, &[], "quarantined: start the node").await?;
        start_and_see_it_recover(net, "\\\"aitbc-node recover\\\" was run").await
    });
}

#[test]
fn of_two_lost_databases_the_owner_vouches_for_one_and_the_other_recovers_by_it() {
    const OTHER: usize = 3;
    scenario("two lost", 4, Database::Sqlite, async |net| {
        // The others go on afterwards, so that whatever the victim voted for is final: its owner's word will be true.
        stop_after_some_blocks(net).await?;
        net.nodes[OTHER].process.terminate(STOP_LIMIT).await?;
        vouch_for_the_victim_of_two(net, OTHER).await?;
        ensure!(net.metrics(VICTIM).await?.sum("blockchain_validator_assumed_clean") == 1.0, "it stays known");
        // Three of four answer now.
        start_again_once_it_recovered(net, OTHER).await?;
        ensure!(
            net.metrics(OTHER).await?.sum("blockchain_validator_assumed_clean") == 0.0,
            "nobody vouched for this one"
        );
        Ok(())
    });
}

#[test]
fn of_two_databases_lost_at_once_the_one_that_is_vouched_for_takes_its_last_votes_back_from_the_others() {
    const OTHER: usize = 3;
    const FROZEN: usize = 1;
    scenario("two lost at once", 4, Database::Sqlite, async |net| {
        net.wait_until_signs(VICTIM, BACK).await?;
        net.nodes[OTHER].process.terminate(STOP_LIMIT).await?;
        // Two of four decide nothing: what the victim votes for now stays above the last final slot.
        net.nodes[FROZEN].process.signal(Signal::STOP)?;
        let slot = wait::until("another validator has votes of the victim", BACK, async || {
            let (voted, slot) = skips(net, VICTIM).await?;
            voted.then_some(slot)
        })
        .await?;
        net.nodes[VICTIM].process.kill().await?;
        net.nodes[FROZEN].process.signal(Signal::CONT)?;
        wait::until("the one that was frozen has said what it had to say", BACK, async || {
            let (voted, now) = skips(net, FROZEN).await?;
            (voted || now != slot).then_some(())
        })
        .await?;
        vouch_for_the_victim_of_two(net, OTHER).await?;
        let log = net.nodes[VICTIM].process.log_text();
        ensure!((1..=4).any(|votes| log.contains(&format!("\"taken_back\":{votes}"))), "{log}");
        start_again_once_it_recovered(net, OTHER).await
    });
}

/// Whether validator 0 has a Skip vote of another one in the least slot that is open there, and which slot that is.
async fn skips(net: &Localnet, of: usize) -> Option<(bool, Value)> {
    let doctor = async |index: usize| net.nodes[index].rpc.get("/rpc/consensus/doctor").await.ok()?.ok().ok();
    let (me, seen) = (doctor(of).await?["me"].clone(), doctor(0).await?);
    let frontier = &seen["frontier"];
    Some((frontier["skip"]["voted"].as_array()?.contains(&me), frontier["slot"].clone()))
}

/// The databases of the victim and another one are deleted, both start and have all blocks; the owner vouches for the victim, which votes.
async fn vouch_for_the_victim_of_two(net: &mut Localnet, other: usize) -> Result<()> {
    for lost in [VICTIM, other] {
        database_files(net, lost)?.iter().try_for_each(std::fs::remove_file)?;
        net.database_replaced(lost)?;
        net.nodes[lost].process.start()?;
    }
    for lost in [VICTIM, other] {
        wait::until(&format!("validator {lost} is quarantined and has all blocks"), BACK, async || {
            let status = net.nodes[lost].rpc.get("/sync_status").await.ok()?.ok().ok()?;
            let has_all = net.nodes[lost].rpc.height().await.ok()? == net.height().await.ok()?;
            (status["validator"]["voting_state"] == "quarantined" && has_all).then_some(())
        })
        .await?;
    }
    let doctor = net.nodes[VICTIM].rpc.get("/rpc/consensus/doctor").await?.ok()?;
    ensure!(doctor["voting"] == "quarantined", "{doctor}");
    let height = net.height().await?;
    recover(net, VICTIM, &["--assume-clean"], "the database counts as complete because you said so").await?;
    ensure!(net.height().await? == height, "two of four make no block");
    net.nodes[VICTIM].process.start()?;
    net.wait_until_signs(VICTIM, BACK).await
}

/// Runs `aitbc-node recover` on the database of a validator that runs: the command says `expected`, the validator is fenced.
async fn recover(net: &mut Localnet, index: usize, flags: &[&str], expected: &str) -> Result<()> {
    let config = net.nodes[index].config.display().to_string();
    let arguments = [&["recover", "--config", &config], flags].concat();
    let mut command = NodeProcess::new("recover", &arguments, net.dir().join("recover.log"));
    command.start()?;
    let ended = command.exit(BACK).await?;
    let said = command.log_text();
    ensure!(ended.success() && said.contains(expected), "{ended}: {said}");
    let status = net.nodes[index].process.exit(BACK).await?;
    ensure!(status.code() == Some(70), "the running process is fenced, not {status}");
    Ok(())
}

/// Lets the victim vote in a few slots more, then stops it.
async fn stop_after_some_blocks(net: &mut Localnet) -> Result<()> {
    net.wait_until_signs(VICTIM, BACK).await?;
    net.wait_for_height(net.height().await? + 3, BACK).await?;
    net.nodes[VICTIM].process.terminate(STOP_LIMIT).await?;
    // It must have missed something, or an old copy would be no older than what others know.
    let height = net.nodes[0].rpc.height().await?;
    wait::until("the others go on", BACK, async || (net.nodes[0].rpc.height().await.ok()? > height + 1).then_some(()))
        .await
}

/// In the server.
fn database_name(net: &Localnet) -> Result<String> {
    let url = &net.nodes[VICTIM].database_url;
    url.rsplit('/').next().map(str::to_owned).with_context(|| url.clone())
}

/// Files of a validator's database.
fn database_files(net: &Localnet, index: usize) -> Result<Vec<PathBuf>> {
    let ledger = net.nodes[index].database_url.strip_prefix("sqlite:///").context("a file")?;
    let directory = Path::new(ledger).parent().context("a directory")?;
    let entries = std::fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
    let files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    ensure!(files.iter().any(|file| file == Path::new(ledger)), "{files:?} have no {ledger}");
    Ok(files)
}

/// It casts no vote, says why, ends once with code 1 when the others have told their marks, and votes after that.
async fn start_and_see_it_recover(net: &mut Localnet, cause: &str) -> Result<()> {
    net.database_replaced(VICTIM)?;
    net.nodes[VICTIM].process.start()?;
    start_again_once_it_recovered(net, VICTIM).await?;
    let log = net.nodes[VICTIM].process.log_text();
    ensure!(log.contains("quarantined: votes of this key may be missing here") && log.contains(cause), "{log}");
    Ok(())
}

/// Waits until a quarantined validator ends with code 1 because the others have told their marks, and votes again.
async fn start_again_once_it_recovered(net: &mut Localnet, index: usize) -> Result<()> {
    let process = &mut net.nodes[index].process;
    let status = process.exit(BACK).await?;
    ensure!(status.code() == Some(1), "it ended with {status}\n{}", process.tail());
    ensure!(process.log_text().contains("recovered: the others told"), "{}", process.tail());
    process.start()?;
    net.wait_until_signs(index, BACK).await?;
    let status = net.nodes[index].rpc.get("/sync_status").await?.ok()?;
    ensure!(status["validator"]["voting_state"] == "voting", "{status}");
    Ok(())
}
