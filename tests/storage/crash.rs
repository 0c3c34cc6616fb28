//! A process that stores votes is killed with SIGKILL: what it was told is durable is there.

use crate::fixture::*;
use aitbc_core::vote::Kind;
use aitbc_node::storage::{StorageError, open_within};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Tells the child which database to fill.
const URL: &str = "AITBC_STORAGE_TEST_URL";
/// Votes the parent waits for before it kills.
const VOTES: u64 = 40;

/// The child: votes until it is killed, and prints each slot once the vote is durable.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests below in a process of its own"]
async fn child() {
    let Ok(url) = std::env::var(URL) else { return };
    let storage = open_within(&url, owner(), metrics(), Duration::ZERO).await.expect("opens");
    storage.take_lease("child".to_owned()).await.expect("takes the lease");
    for slot in 1.. {
        let kind = if slot % 3 == 0 { Kind::Skip } else { Kind::Notar };
        storage.commit_votes(vec![vote_write(kind, slot)]).await.expect("votes");
        println!("\nslot {slot}");
    }
}

async fn a_killed_process_leaves_every_vote_it_was_told_is_durable(site: Site) {
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--ignored", "--exact", "crash::child", "--nocapture"])
        .env(URL, site.url())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs itself");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut slots = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("slot ")?.parse::<u64>().ok());
    let told: Vec<u64> = slots.by_ref().take(VOTES as usize).collect();
    child.kill().expect("kills");
    child.wait().expect("ends");
    // What it printed before the signal reached it counts too.
    let last = slots.last().or(told.last().copied()).expect("some votes");

    let storage = site.open().await;
    storage.take_lease("parent".to_owned()).await.expect("takes the lease");
    let ledger = storage.load_ledger().await.expect("loads");
    let stored: Vec<u64> = ledger.votes.iter().map(|v| v.statement.slot).collect();
    assert_eq!(stored[..last as usize], (1..=last).collect::<Vec<_>>(), "all of 1 ..= {last}");
    assert!(stored.len() as u64 <= last + 1, "at most one more whose answer nobody saw");
    // The outcome of that one was unknown: it is either there, and nothing else may be, or it is free.
    let next = last + 1;
    let kind = if next.is_multiple_of(3) { Kind::Notar } else { Kind::Skip };
    storage.commit_votes(vec![vote_write(kind, next)]).await.expect("the other class is free");
    let candidates = ledger.votes.iter().filter(|v| v.statement.kind == Kind::Notar).count();
    assert_eq!(ledger.candidates.len(), candidates, "each Notar vote with its candidate (P3)");
    let mut other = vote_write(Kind::Notar, 1);
    other.vote.statement.digest = digest(2);
    let refused = storage.commit_votes(vec![other]).await;
    assert!(matches!(refused, Err(StorageError::ConflictingVote { slot: 1, class: 0 })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_killed_process_leaves_its_votes_in_sqlite() {
    a_killed_process_leaves_every_vote_it_was_told_is_durable(Site::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_killed_process_leaves_its_votes_in_postgres() {
    a_killed_process_leaves_every_vote_it_was_told_is_durable(Site::postgres()).await;
}
