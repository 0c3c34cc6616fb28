//! What only a server can do: go away, come back, refuse, be another one.

use crate::fixture::*;
use aitbc_core::memory::Cause;
use aitbc_core::vote::Kind;
use aitbc_node::storage::postgres::create_database;
use aitbc_node::storage::{Storage, StorageError, open_within};
use aitbc_tests::postgres::Postgres;
use aitbc_tests::wait;
use sqlx::Connection;
use std::sync::Arc;
use std::time::Duration;

async fn ready(server: &Postgres, database: &str) -> Arc<dyn Storage> {
    let storage = open_within(&server.url(database), owner(), metrics(), Duration::ZERO).await.expect("opens");
    storage.take_lease("test".to_owned()).await.expect("takes the lease");
    storage.reset_state(state(0)).await.expect("writes genesis");
    storage
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_server_killed_and_started_again_keeps_every_acknowledged_row() {
    let server = Postgres::start().expect("a server");
    let database = server.create("kill").expect("a database");
    let storage = ready(&server, &database).await;
    let kept = batch(1, 30, 200);
    storage.commit_votes(vec![vote_write(Kind::Notar, 1)]).await.expect("votes");
    storage.commit_batches(vec![batch_write(&kept)]).await.expect("batches");
    storage.apply_state(state(1)).await.expect("state");
    server.kill().expect("kills");
    let outcome = storage.commit_votes(vec![vote_write(Kind::Skip, 2)]).await;
    assert!(matches!(outcome, Err(StorageError::Database(_))), "unknown, and said so: {outcome:?}");
    assert!(storage.ping().await.is_err());

    let waiting = {
        let storage = storage.clone();
        let block = block_write(header(1, 1, vec![&kept]), None);
        tokio::spawn(async move { storage.commit_blocks(vec![block]).await })
    };
    let reading = {
        let storage = storage.clone();
        tokio::spawn(async move { storage.batches(vec![batch(1, 30, 200).digest()]).await })
    };
    server.start_again().expect("starts again");
    waiting.await.expect("no panic").expect("data is written once the server is back");
    assert_eq!(reading.await.expect("no panic").expect("reads wait too").len(), 1);
    storage.apply_state(state(2)).await.expect("and so is the state");
    storage.commit_votes(vec![vote_write(Kind::Skip, 3)]).await.expect("a new vote on a new connection");
    storage.ping().await.expect("ready again");
    let votes = storage.load_ledger().await.expect("loads").votes;
    assert!(votes.contains(&vote(Kind::Notar, 1)) && votes.contains(&vote(Kind::Skip, 3)), "{votes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_lost_is_replaced_before_the_next_vote() {
    let server = Postgres::shared();
    let database = server.create("idle").expect("a database");
    let storage = ready(server, &database).await;
    storage.commit_votes(vec![vote_write(Kind::Skip, 1)]).await.expect("votes");
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'aitbc-node' \
        AND datname = current_database() AND pid <> pg_backend_pid()";
    let ended = server.psql(&database, &sessions.replace("count(*)", "count(pg_terminate_backend(pid))"));
    assert_ne!(ended.expect("ends the sessions"), "0");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while server.psql(&database, sessions).expect("counts") == "0" {
        assert!(std::time::Instant::now() < deadline, "not connected again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    storage.commit_votes(vec![vote_write(Kind::Skip, 2)]).await.expect("votes as if nothing had been");
    assert_eq!(storage.load_ledger().await.expect("loads").votes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_right_is_an_error_and_no_vote() {
    let server = Postgres::shared();
    let database = server.create("rights").expect("a database");
    let storage = ready(server, &database).await;
    server
        .psql(
            &database,
            "CREATE ROLE validator_of_rights LOGIN; GRANT USAGE ON SCHEMA ledger, state TO validator_of_rights; \
             GRANT ALL ON ALL TABLES IN SCHEMA ledger, state TO validator_of_rights",
        )
        .expect("makes a role");
    let url = server.url(&database).replace("postgres@", "validator_of_rights@");
    let plain = open_within(&url, owner(), metrics(), Duration::ZERO).await.expect("a plain role is enough");
    plain.take_lease("plain".to_owned()).await.expect("takes the lease");
    plain.commit_votes(vec![vote_write(Kind::Skip, 1)]).await.expect("votes");
    server.psql(&database, "REVOKE INSERT ON ledger.votes FROM validator_of_rights").expect("revokes");
    let outcome = plain.commit_votes(vec![vote_write(Kind::Skip, 2)]).await;
    assert!(
        matches!(&outcome, Err(StorageError::Database(cause)) if cause.to_string().contains("denied")),
        "{outcome:?}"
    );
    server.psql(&database, "GRANT INSERT ON ledger.votes TO validator_of_rights").expect("grants");
    plain.commit_votes(vec![vote_write(Kind::Skip, 2)]).await.expect("votes again");
    drop(storage);
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_vote_waits_for_a_lease_being_taken_and_is_then_refused() {
    let server = Postgres::shared();
    let database = server.create("race").expect("a database");
    let storage = ready(server, &database).await;
    let mut other = sqlx::PgConnection::connect(&server.url(&database)).await.expect("connects");
    let mut taking = other.begin().await.expect("begins");
    sqlx::query("UPDATE ledger.lease SET generation = generation + 1").execute(&mut *taking).await.expect("bumps");
    let vote = tokio::spawn({
        let storage = storage.clone();
        async move { storage.commit_votes(vec![vote_write(Kind::Skip, 1)]).await }
    });
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while server.psql(&database, waiting).expect("counts") == "0" {
        assert!(!vote.is_finished(), "the vote must wait for the row");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    taking.commit().await.expect("commits");
    assert!(matches!(vote.await.expect("no panic"), Err(StorageError::Fenced { ours: 1, found: 2 })));
    assert!(storage.load_ledger().await.expect("loads").votes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_lease_waits_for_a_vote_being_written_and_then_knows_it() {
    let server = Postgres::shared();
    let database = server.create("race").expect("a database");
    let first = ready(server, &database).await;
    let mut old = sqlx::PgConnection::connect(&server.url(&database)).await.expect("connects");
    let mut voting = old.begin().await.expect("begins");
    // The first holder's statement, not yet committed.
    sqlx::query(
        "WITH mine AS (SELECT 1 FROM ledger.lease WHERE id = 1 AND generation = 1 FOR SHARE) \
         INSERT INTO ledger.votes SELECT 0, 9, 1, 'skip', $1, 2, 1, $2 FROM mine",
    )
    .bind(aitbc_core::hash::Hash::ZERO.to_string())
    .bind(vote(Kind::Skip, 9).signature.0.to_vec())
    .execute(&mut *voting)
    .await
    .expect("inserts");
    let second = open_within(&server.url(&database), owner(), metrics(), Duration::ZERO).await.expect("opens");
    let taking = tokio::spawn({
        let second = second.clone();
        async move { second.take_lease("second".to_owned()).await }
    });
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while server.psql(&database, waiting).expect("counts") == "0" {
        assert!(!taking.is_finished(), "the lease must wait for the vote");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    voting.commit().await.expect("commits");
    assert_eq!(taking.await.expect("no panic").expect("takes over"), 2);
    assert_eq!(second.load_ledger().await.expect("loads").votes, [vote(Kind::Skip, 9)]);
    assert!(matches!(first.commit_votes(vec![vote_write(Kind::Skip, 10)]).await, Err(StorageError::Fenced { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_database_that_was_restored_or_made_anew_is_quarantined_and_never_used_unnoticed() {
    let server = Postgres::shared();
    let database = server.create("identity").expect("a database");
    let storage = ready(server, &database).await;
    storage.commit_votes(vec![vote_write(Kind::Skip, 1)]).await.expect("votes");

    // A copy of it in the same server has other votes from now on.
    storage.close().await;
    let copy = format!("{database}_copy");
    server.psql("postgres", &format!("CREATE DATABASE {copy} TEMPLATE {database}")).expect("copies");
    let opened = open_within(&server.url(&copy), owner(), metrics(), Duration::ZERO).await.expect("opens");
    let memory = opened.load_ledger().await.expect("loads").memory.expect("a record");
    assert_eq!(memory.quarantine, Some(Cause::OtherServer), "it votes only when the others were asked (A3)");
    opened.close().await;

    // Replaced while the node runs: found when it connects again.
    let storage = ready(server, &database).await;
    let drop_and_make =
        [format!("DROP DATABASE {database} WITH (FORCE)"), format!("ALTER DATABASE {copy} RENAME TO {database}")];
    drop_and_make.iter().for_each(|sql| {
        server.psql("postgres", sql).expect("replaces");
    });
    let mut outcome = storage.commit_votes(vec![vote_write(Kind::Skip, 2)]).await;
    if matches!(outcome, Err(StorageError::Database(_))) {
        outcome = storage.commit_votes(vec![vote_write(Kind::Skip, 2)]).await;
    }
    assert!(matches!(&outcome, Err(StorageError::Foreign(text)) if text.contains("database_oid")), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_waits_for_a_server_that_is_starting_and_not_for_ever() {
    let server = Arc::new(Postgres::start().expect("a server"));
    let database = server.create("late").expect("a database");
    server.stop().expect("stops");
    let url = server.url(&database).replace("postgres@", "postgres:secret@");
    let cause = open_within(&url, owner(), metrics(), Duration::from_millis(300)).await.err().expect("nobody there");
    assert!(matches!(cause, StorageError::Database(_)) && !cause.to_string().contains("secret"), "{cause}");
    let opening = tokio::spawn(async move { open_within(&url, owner(), metrics(), Duration::from_secs(30)).await });
    tokio::task::yield_now().await;
    let starting = server.clone();
    tokio::task::spawn_blocking(move || starting.start_again()).await.expect("no panic").expect("starts");
    opening.await.expect("no panic").expect("opens once it is up").ping().await.expect("answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_serves_and_databases_are_made_on_demand() {
    let server = Postgres::shared();
    let name = format!("devnet_{}", std::process::id());
    for url in [server.socket_url("postgres"), server.url("postgres")] {
        let made = create_database(&url, &name).await.expect("makes it, or finds it");
        let storage = open_within(&made, owner(), metrics(), Duration::ZERO).await.expect("opens");
        storage.ping().await.expect("answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_can_read_the_tables() {
    let server = Postgres::shared();
    let database = server.create("readable").expect("a database");
    let storage = ready(server, &database).await;
    storage.commit_votes(vec![vote_write(Kind::Notar, 5)]).await.expect("votes");
    storage.commit_blocks(vec![block_write(header(5, 1, vec![]), None)]).await.expect("blocks");
    storage.apply_state(state(1)).await.expect("state");
    let first = |sql: &str| server.psql(&database, sql).expect("reads").lines().next().unwrap_or_default().to_owned();
    assert!(first("SELECT * FROM ledger.votes").starts_with(&format!("0|5|0|notar|{}|2|1|", digest(5))));
    let block = header(5, 1, vec![]);
    assert!(first("SELECT * FROM ledger.blocks").starts_with(&format!(
        "1|0|5|{}|{}|1000|1|0|",
        block.digest(),
        block.parent
    )));
    let account = first("SELECT * FROM state.accounts");
    assert!(account.starts_with("ait1") && account.ends_with("|999|1"), "{account}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_stored_by_indexes_also_while_the_server_knows_nothing_of_its_tables() {
    const BLOCKS: u64 = 200;
    let server = Postgres::shared();
    let database = server.create("plans").expect("a database");
    let storage = ready(server, &database).await;
    // Plans are made while the tables are empty, and kept until the server looks at them, within a minute.
    for height in 1..=BLOCKS {
        // Of four authors: with fewer rows the server plans anew each time, knowing how many.
        let included = [0, 1, 2, 3].map(|author| batch(4 * height + author, height + 20, 1));
        storage.commit_batches(included.iter().map(batch_write).collect()).await.expect("batches");
        let block = block_write(header(height, height, included.iter().collect()), None);
        storage.commit_blocks(vec![block]).await.expect("blocks");
    }
    // A server counts what a session did at the latest when it ends.
    drop(storage);
    let counted = |column: &str| {
        let sql = format!("SELECT {column} FROM pg_stat_user_tables WHERE relname = 'batches'");
        server.psql(&database, &sql).expect("reads").trim().parse::<u64>().expect("a number")
    };
    wait::until("the server counts", Duration::from_secs(20), async || (counted("idx_scan") >= BLOCKS).then_some(()))
        .await
        .expect("an index is used for each block");
    let rows = counted("seq_tup_read");
    assert!(rows < BLOCKS, "{rows} rows read by passing whole tables for {BLOCKS} blocks");
}
