//! What only files can do: be moved away, be of another ledger, lie nowhere.

use crate::fixture::*;
use aitbc_core::vote::Kind;
use aitbc_node::storage::{StateWrite, StorageError, open};
use aitbc_tests::tmpfs::Tmpfs;
use sqlx::Connection;

fn dir(site: &Site) -> &std::path::Path {
    match site {
        Site::Sqlite(dir) => dir.path(),
        Site::Postgres(..) => panic!("files only"),
    }
}

#[tokio::test]
async fn p12_no_vote_goes_to_a_file_that_was_replaced() {
    let site = Site::sqlite();
    let storage = site.ready().await;
    storage.commit_votes(vec![vote_write(Kind::Skip, 1)]).await.expect("votes");
    let (file, away) = (dir(&site).join("blockchain.db"), dir(&site).join("away.db"));
    std::fs::rename(&file, &away).expect("moves");
    let outcome = storage.commit_votes(vec![vote_write(Kind::Skip, 2)]).await;
    assert!(matches!(&outcome, Err(StorageError::Foreign(text)) if text.contains("gone")), "{outcome:?}");
    std::fs::copy(&away, &file).expect("copies");
    let outcome = storage.commit_votes(vec![vote_write(Kind::Skip, 2)]).await;
    assert!(matches!(&outcome, Err(StorageError::Foreign(text)) if text.contains("another file")), "{outcome:?}");
    assert!(storage.ping().await.is_err(), "and the node is not ready");
}

#[tokio::test]
async fn a_disk_that_was_full_and_has_room_again_takes_votes_blocks_and_state_of_the_same_process() {
    if !Tmpfs::is_possible() {
        return println!("left out: mounting a small file system takes root");
    }
    let disk = Tmpfs::mount(8).expect("mounts");
    let url = format!("sqlite:///{}/blockchain.db", disk.path().display());
    let storage = open(&url, owner(), metrics()).await.expect("opens");
    storage.take_lease("first".to_owned()).await.expect("takes the lease");
    storage.reset_state(state(0)).await.expect("genesis");
    let full = batch(1, 9, 2_000);
    disk.fill().expect("fills");
    let outcome = storage.commit_batches(vec![batch_write(&full)]).await;
    assert!(outcome.is_err_and(|cause| cause.to_string().contains("full")), "batches");
    let large = StateWrite { transactions: (0..5_000).map(|index| transaction_row(1, index)).collect(), ..state(1) };
    let outcome = storage.apply_state(large.clone()).await;
    assert!(outcome.is_err_and(|cause| cause.to_string().contains("full")), "state");
    disk.free().expect("frees");
    storage.commit_votes(vec![vote_write(Kind::Skip, 1)]).await.expect("votes");
    storage.commit_batches(vec![batch_write(&full)]).await.expect("batches");
    storage.apply_state(large).await.expect("state");
    storage.close().await;
}

#[tokio::test]
async fn the_state_of_another_ledger_is_refused() {
    let (one, other) = (Site::sqlite(), Site::sqlite());
    one.ready().await.close().await;
    other.ready().await.close().await;
    std::fs::copy(dir(&other).join("blockchain-state.db"), dir(&one).join("blockchain-state.db")).expect("copies");
    match one.try_open(owner()).await {
        Err(StorageError::Foreign(text)) => assert!(text.contains("state of another ledger"), "{text}"),
        other => panic!("foreign expected, not {:?}", other.map(|_| "open")),
    }
}

#[tokio::test]
async fn a_lost_state_file_is_made_again_empty() {
    let site = Site::sqlite();
    let storage = site.ready().await;
    storage.commit_votes(vec![vote_write(Kind::Skip, 1)]).await.expect("votes");
    storage.close().await;
    drop(storage);
    std::fs::remove_file(dir(&site).join("blockchain-state.db")).expect("deletes");
    let storage = site.open().await;
    storage.take_lease("again".to_owned()).await.expect("takes the lease");
    assert!(storage.load_state().await.expect("loads").is_none(), "to be rebuilt");
    assert_eq!(storage.load_ledger().await.expect("loads").votes.len(), 1);
}

/// Height in a copy of the state's file without its log, as a power loss may leave it.
async fn height_without_the_log(site: &Site) -> Option<i64> {
    let copy = dir(site).join("copy.db");
    std::fs::copy(dir(site).join("blockchain-state.db"), &copy).expect("copies");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&copy);
    let mut file = sqlx::SqliteConnection::connect_with(&options).await.expect("opens");
    let height = sqlx::query_scalar("SELECT height FROM applied").fetch_one(&mut file).await.expect("a row");
    file.close().await.expect("closes");
    height
}

#[tokio::test]
async fn a_flushed_state_outlives_its_log() {
    let site = Site::sqlite();
    let storage = site.ready().await;
    storage.flush_state().await.expect("flushes");
    storage.apply_state(state(7)).await.expect("applies");
    assert_eq!(height_without_the_log(&site).await, Some(0));
    assert_eq!(storage.flush_state().await.expect("flushes"), Some(7));
    assert_eq!(height_without_the_log(&site).await, Some(7));
}

#[tokio::test]
async fn urls_that_name_no_database_are_refused_with_what_is_allowed() {
    for (url, words) in [
        ("mysql://user:secret@host/db", "sqlite:///path"),
        ("sqlite:////no/such/dir/blockchain.db", "no directory \"/no/such/dir\""),
        ("sqlite:///", "names no database file"),
    ] {
        match open(url, owner(), metrics()).await {
            Err(StorageError::Foreign(text)) => assert!(text.contains(words) && !text.contains("secret"), "{text}"),
            other => panic!("{url}: {:?}", other.map(|_| "open")),
        }
    }
}
