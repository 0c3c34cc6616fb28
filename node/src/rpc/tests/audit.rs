//! `verify` over the chain's REST interface and straight from its database; whatever is changed is named with its height.

use super::fixture::{Chain, FUNDS, alice};
use super::requests::ask;
use crate::audit::source::Source;
use crate::audit::{AuditError, Plan, Report, Start, run};
use crate::rpc::evidence::Convictions;
use crate::storage::StorageError;
use crate::storage::reader::Reader;
use aitbc_core::batch::{Batch, VerifiedBatch};
use aitbc_core::codec::hex;
use aitbc_core::evidence::{Class, Evidence};
use aitbc_core::genesis::Genesis;
use aitbc_core::hash::{Hash, plain};
use aitbc_core::vote::{Kind, Statement, Vote};
use reqwest::Method;
use sqlx::{Connection, SqliteConnection};
use std::sync::Arc;

const PLAN: Plan = Plan { start: Start::Genesis, to: None, account: None, transaction: None };

/// Six blocks; the first three and the fifth have a batch each.
async fn chain() -> Chain {
    let chain = Chain::start().await;
    for (nonce, has_batch) in [(0, true), (1, true), (2, true), (3, false), (3, true), (4, false)] {
        if has_batch {
            chain.client().send(&chain.pay(&alice(), nonce)).await.expect("taken");
        }
        chain.block().await;
    }
    chain
}

async fn database(chain: &Chain) -> Source {
    Source::Database(Reader::open(&chain.database, &chain.chain).await.expect("readable"))
}

async fn audit(source: &Source, chain: &Chain, plan: &Plan) -> Result<Report, AuditError> {
    run(source, &chain.identity.genesis, plan, |_, _| {}).await
}

async fn from_database(chain: &Chain) -> Result<Report, AuditError> {
    audit(&database(chain).await, chain, &PLAN).await
}

/// What is said to be wrong.
fn wrong(outcome: Result<Report, AuditError>) -> String {
    match outcome {
        Err(AuditError::Wrong(what)) => what,
        Err(other) => panic!("could not be read: {other}"),
        Ok(report) => panic!("nothing found wrong: {report:?}"),
    }
}

/// The ledger's file, or the state's beside it.
async fn open(chain: &Chain, state: bool) -> SqliteConnection {
    let path = chain.database.trim_start_matches("sqlite:///");
    let path = if state { path.replace(".db", "-state.db") } else { path.to_owned() };
    SqliteConnection::connect(&format!("sqlite://{path}")).await.expect("writable")
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) {
    let done = sqlx::query(statement).execute(connection).await.expect("done");
    assert!(done.rows_affected() > 0, "{statement}");
}

#[tokio::test]
async fn a_chain_verifies_over_rest_and_from_its_database_with_the_same_figures() {
    let chain = chain().await;
    let (rest, database) = (Source::Rpc(chain.client()), database(&chain).await);
    let mut plan = Plan { account: Some(alice().public().address()), ..PLAN };
    let from_database = audit(&database, &chain, &plan).await.expect("right");
    plan.transaction = Some(chain.pay(&alice(), 9).id(&chain.chain));
    assert!(matches!(audit(&rest, &chain, &plan).await, Err(AuditError::Rpc(_))), "no such transaction");
    let third = chain.client().get_block(Some(3), false).await.expect("block").transactions[0].tx_hash;
    plan.transaction = Some(third);
    let over_rest = audit(&rest, &chain, &plan).await.expect("right");
    for report in [&over_rest, &from_database] {
        assert_eq!((report.from, report.to, report.hash), (1, 6, chain.head().hash));
        assert_eq!((report.headers, report.certificates, report.not_final), (6, 6, 0));
        assert_eq!((report.batches, report.transactions), (4, 4));
        assert_eq!((report.pruned_below, report.executed_to), (None, Some(6)));
    }
    assert_eq!((over_rest.state_height, from_database.state_height), (None, Some(6)));
    let account = |report: &Report| report.account.as_ref().map(|a| (a.height, a.balance, a.nonce));
    assert_eq!(account(&over_rest), Some((5, FUNDS - 4 * 6, 4)));
    assert_eq!(account(&from_database), Some((6, FUNDS - 4 * 6, 4)));
    let transaction = over_rest.transaction.map(|t| (t.height, t.index, t.code));
    assert_eq!(transaction, Some((3, 0, Some("OK".to_owned()))));
}

#[tokio::test]
async fn an_audit_may_begin_above_genesis_and_end_below_the_last_block() {
    let chain = chain().await;
    let digest = chain.client().get_block(Some(3), false).await.expect("block").hash;
    for source in [Source::Rpc(chain.client()), database(&chain).await] {
        let plan = |start, to| Plan { start, to, ..PLAN };
        let from = audit(&source, &chain, &plan(Start::Height(4), Some(5))).await.expect("right");
        assert_eq!((from.from, from.to, from.headers, from.executed_to), (4, 5, 2, None));
        let trusted = Start::Trusted { height: 3, digest };
        let above = audit(&source, &chain, &plan(trusted, None)).await.expect("right");
        assert_eq!((above.from, above.to, above.headers), (4, 6, 3));
        let other = Start::Trusted { height: 3, digest: plain(b"other") };
        let message = wrong(audit(&source, &chain, &plan(other, None)).await);
        assert!(message.starts_with(&format!("block 3: digest is {digest}, expected ")), "{message}");
        for (start, to) in [(Start::Genesis, Some(7)), (Start::Height(5), Some(4)), (Start::Height(8), None)] {
            assert!(wrong(audit(&source, &chain, &plan(start, to)).await).contains("block"));
        }
    }
}

#[tokio::test]
async fn every_byte_and_column_of_a_block_row_that_is_changed_is_named_with_its_height() {
    let chain = chain().await;
    let mut ledger = open(&chain, false).await;
    let numbers = ["epoch", "slot", "time_ms", "proposer", "tx_count"];
    for column in numbers.into_iter().chain(["digest", "parent", "parent_state_root"]) {
        let to = if numbers.contains(&column) { "9" } else { "'0x'||hex(randomblob(32))" };
        let read = format!("SELECT CAST({column} AS TEXT) FROM blocks WHERE height = 3");
        let before: String = sqlx::query_scalar(sqlx::AssertSqlSafe(read)).fetch_one(&mut ledger).await.expect("row");
        let write = format!("UPDATE blocks SET {column} = {to} WHERE height = 3");
        sqlx::query(sqlx::AssertSqlSafe(write)).execute(&mut ledger).await.expect("done");
        let message = wrong(from_database(&chain).await);
        assert!(message.starts_with(&format!("block 3: column {column} is ")), "{message}");
        let back = format!("UPDATE blocks SET {column} = ? WHERE height = 3");
        sqlx::query(sqlx::AssertSqlSafe(back)).bind(before).execute(&mut ledger).await.expect("done");
    }
    let mut tried = 0;
    for column in ["header", "signature", "cert"] {
        let read = format!("SELECT {column} FROM blocks WHERE height = 3");
        let before: Vec<u8> = sqlx::query_scalar(sqlx::AssertSqlSafe(read)).fetch_one(&mut ledger).await.expect("row");
        let write = format!("UPDATE blocks SET {column} = ? WHERE height = 3");
        let changes = (0..before.len()).step_by(3).map(|at| {
            let mut changed = before.clone();
            changed[at] ^= 1 << (at % 8);
            changed
        });
        for changed in changes.chain([before.clone()]) {
            let put = sqlx::query(sqlx::AssertSqlSafe(write.clone())).bind(&changed);
            put.execute(&mut ledger).await.expect("done");
            if changed != before {
                let message = wrong(from_database(&chain).await);
                assert!(message.starts_with("block 3: "), "{column}: {message}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
    from_database(&chain).await.expect("as before");
}

#[tokio::test]
async fn a_missing_block_is_named() {
    let chain = chain().await;
    execute(&mut open(&chain, false).await, "DELETE FROM blocks WHERE height = 3").await;
    let hole = "its header is not here, as after a snapshot was fetched; the next one is that of 4: begin there";
    assert_eq!(wrong(from_database(&chain).await), format!("block 3: {hole}"));
}

#[tokio::test]
async fn headers_without_a_certificate_above_them_are_not_final() {
    let chain = chain().await;
    let mut ledger = open(&chain, false).await;
    execute(&mut ledger, "UPDATE blocks SET cert = NULL WHERE height = 2").await;
    let covered = from_database(&chain).await.expect("the third block's certificate covers the second");
    assert_eq!((covered.to, covered.certificates), (6, 5));
    execute(&mut ledger, "UPDATE blocks SET cert = NULL WHERE height > 4").await;
    let report = from_database(&chain).await.expect("the end may be open");
    assert_eq!((report.to, report.not_final), (4, 2));
    let plan = Plan { to: Some(5), ..PLAN };
    let message = wrong(audit(&database(&chain).await, &chain, &plan).await);
    assert_eq!(message, "block 5: no certificate covers it, up to block 6");
    execute(&mut ledger, "UPDATE blocks SET cert = NULL").await;
    assert_eq!(wrong(from_database(&chain).await), "block 1: no certificate covers it, up to block 6");
}

#[tokio::test]
async fn batches_that_are_changed_are_wrong_and_those_below_all_others_may_be_pruned() {
    let chain = chain().await;
    let mut ledger = open(&chain, false).await;
    // The last byte is of the author's signature, which no digest covers.
    let flip = "UPDATE batch_bytes SET bytes = CAST(substr(bytes, 1, length(bytes) - 1) || x'ff' AS BLOB) WHERE id = 3";
    execute(&mut ledger, flip).await;
    let message = wrong(from_database(&chain).await);
    assert!(
        message.starts_with("block 3: batch 0 (0x") && message.ends_with("author's signature is invalid"),
        "{message}"
    );
    execute(&mut ledger, "DELETE FROM batch_bytes WHERE id = 3").await;
    let message = wrong(from_database(&chain).await);
    assert!(
        message.starts_with("block 3: batch 0x") && message.ends_with("blocks from 1 on are kept whole"),
        "{message}"
    );
    // A node says nothing of what it keeps, so that its gaps are known by what lies below them.
    let message = wrong(audit(&Source::Rpc(chain.client()), &chain, &PLAN).await);
    assert_eq!(message, "block 3: batches are missing, expected as those of block 1 are there");

    execute(&mut ledger, "DELETE FROM batch_bytes WHERE id < 3").await;
    execute(&mut ledger, "INSERT INTO meta (name, value) VALUES ('lowest_batches', '4')").await;
    for source in [database(&chain).await, Source::Rpc(chain.client())] {
        let report = audit(&source, &chain, &PLAN).await.expect("headers and certificates are right");
        assert_eq!((report.pruned_below, report.to), (Some(4), 6));
        assert_eq!((report.batches, report.transactions, report.executed_to), (1, 1, None));
    }
    execute(&mut ledger, "UPDATE batch_bytes SET bytes = CAST(bytes || x'00' AS BLOB)").await;
    let message = wrong(from_database(&chain).await);
    assert!(message.starts_with("block 5: batch 0x") && message.contains("does not decode"), "{message}");
}

#[tokio::test]
async fn batches_that_outlive_others_below_the_lowest_height_are_no_sign_that_all_are_kept() {
    let chain = chain().await;
    // As where a state was fetched: what is needless goes by its expiry.
    let mut ledger = open(&chain, false).await;
    execute(&mut ledger, "DELETE FROM batch_bytes WHERE id = 2").await;
    execute(&mut ledger, "INSERT INTO meta (name, value) VALUES ('lowest_batches', '4')").await;
    chain.storage.take_lease("again".into()).await.expect("reads what was deleted");
    for source in [database(&chain).await, Source::Rpc(chain.client())] {
        let report = audit(&source, &chain, &PLAN).await.expect("nothing is wrong");
        assert_eq!((report.pruned_below, report.to, report.batches), (Some(4), 6, 1));
    }
}

#[tokio::test]
async fn a_block_is_covered_by_a_certificate_that_is_an_epoch_above_it() {
    let chain = Chain::start().await;
    for _ in 0..300 {
        chain.block().await;
    }
    execute(&mut open(&chain, false).await, "UPDATE blocks SET cert = NULL WHERE height BETWEEN 2 AND 299").await;
    let plan = Plan { to: Some(3), ..PLAN };
    let report = audit(&database(&chain).await, &chain, &plan).await.expect("that of block 300");
    assert_eq!((report.to, report.certificates), (300, 2));
}

#[tokio::test]
async fn a_transaction_that_nobody_signed_is_found_under_a_valid_certificate() {
    let chain = chain().await;
    let mut forged = chain.pay(&alice(), 4);
    forged.signature.0[0] ^= 1;
    let batch = Batch::seal(&chain.chain, &chain.key, (0, 0), 70, 100, vec![chain.pay(&alice(), 4), forged]);
    let (digest, batch) = (batch.digest(), Arc::new(batch));
    chain.write(chain.publish(vec![VerifiedBatch::trusted(batch, digest, &chain.chain)], |_| {})).await;
    for source in [database(&chain).await, Source::Rpc(chain.client())] {
        let message = wrong(audit(&source, &chain, &PLAN).await);
        assert_eq!(message, format!("block 7: batch 0 ({digest}): transaction 1 is invalid"));
    }
}

#[tokio::test]
async fn roots_that_execution_does_not_give_are_found_under_a_valid_certificate() {
    let chain = chain().await;
    let root = chain.head().state_root;
    chain.write(chain.publish(Vec::new(), |header| header.parent_state_root = Hash::ZERO)).await;
    for source in [database(&chain).await, Source::Rpc(chain.client())] {
        let message = wrong(audit(&source, &chain, &PLAN).await);
        assert_eq!(message, format!("block 7: parent_state_root is {}, expected {root}", Hash::ZERO));
    }
}

#[tokio::test]
async fn accounts_that_were_changed_by_hand_are_found() {
    let chain = chain().await;
    let mut state = open(&chain, true).await;
    execute(&mut state, "UPDATE accounts SET balance = balance + 1 WHERE nonce = 4").await;
    let message = wrong(from_database(&chain).await);
    let found = message.strip_prefix("block 6: root of the accounts is ").and_then(|rest| rest.split(',').next());
    let found = found.unwrap_or_else(|| panic!("{message}")).to_owned();
    assert!(message.ends_with("as stored beside them"), "{message}");
    // The root beside them made to fit: execution knows better.
    sqlx::query("UPDATE applied SET state_root = ?").bind(&found).execute(&mut state).await.expect("done");
    let message = wrong(from_database(&chain).await);
    let expected = format!("expected {} by executing all blocks", chain.head().state_root);
    assert!(message.starts_with("block 6: ") && message.contains(&found) && message.ends_with(&expected), "{message}");
    // And so does the next header, where nothing is executed.
    chain.write(chain.publish_block()).await;
    execute(&mut state, "UPDATE applied SET height = 6").await;
    sqlx::query("UPDATE applied SET state_root = ?").bind(&found).execute(&mut state).await.expect("done");
    let plan = Plan { start: Start::Height(5), ..PLAN };
    let message = wrong(audit(&database(&chain).await, &chain, &plan).await);
    assert!(message.starts_with("block 6: ") && message.ends_with("by the header of the next block"), "{message}");
}

#[tokio::test]
async fn another_genesis_is_refused() {
    let chain = chain().await;
    let other = Genesis { chain_id: "other".into(), ..chain.identity.genesis.clone() };
    let over_rest = run(&Source::Rpc(chain.client()), &other, &PLAN, |_, _| {}).await;
    let expected = format!("block 1: parent is {}, expected {}", chain.chain, other.hash());
    assert_eq!(wrong(over_rest), expected);
    let opened = Reader::open(&chain.database, &other.hash()).await;
    assert!(matches!(opened, Err(StorageError::Foreign(what)) if what.contains("another genesis")));
    for url in ["mysql://x", "sqlite:////nowhere/blockchain.db"] {
        assert!(matches!(Reader::open(url, &chain.chain).await, Err(StorageError::Foreign(_))), "{url}");
    }
}

/// Two Notar votes of the only validator in one slot.
fn notars(chain: &Chain, slot: u64) -> Evidence {
    let vote = |name: &[u8]| {
        let statement = Statement { epoch: 0, slot, kind: Kind::Notar, digest: plain(name) };
        Vote::sign(statement, &chain.chain, 0, &chain.key)
    };
    Evidence::of_votes(vote(b"a"), vote(b"b"), &chain.chain)
}

#[tokio::test]
async fn evidence_in_a_block_is_shown_and_verified_and_its_record_is_in_the_state() {
    let chain = chain().await;
    let evidence = notars(&chain, 3);
    chain.write(chain.publish(Vec::new(), |header| header.evidence = vec![evidence.clone()])).await;
    let address = chain.key.public().address();
    let block = chain.client().get_block(Some(7), false).await.expect("block");
    let shown = &block.evidence[0];
    assert_eq!((shown.validator, shown.class, shown.slot), (Some(address), Some(Class::Notars), 3));
    assert_eq!(hex::parse::<Evidence>(&shown.proof), Ok(evidence));
    let answer = ask(&chain, Method::GET, "/rpc/evidence", "").await;
    let convictions: Convictions = answer.json().await.expect("shape");
    let [found] = &convictions.evidence[..] else { panic!("{convictions:?}") };
    assert_eq!((found.validator, found.class, found.slot, found.height), (address, Class::Notars, 3, 7));
    for source in [database(&chain).await, Source::Rpc(chain.client())] {
        let report = audit(&source, &chain, &PLAN).await.expect("right");
        assert_eq!((report.to, report.executed_to), (7, Some(7)));
    }
    // The next header commits to the record.
    chain.write(chain.publish(Vec::new(), |_| {})).await;
    assert_eq!(from_database(&chain).await.expect("right").state_height, Some(8));
}

#[tokio::test]
async fn evidence_that_proves_nothing_or_comes_again_is_found_under_a_valid_certificate() {
    let chain = chain().await;
    chain.write(chain.publish(Vec::new(), |header| header.evidence = vec![notars(&chain, 3)])).await;
    chain.write(chain.publish(Vec::new(), |header| header.evidence = vec![notars(&chain, 5)])).await;
    for source in [database(&chain).await, Source::Rpc(chain.client())] {
        let message = wrong(audit(&source, &chain, &PLAN).await);
        assert_eq!(message, "block 8: evidence 0: it is in block 7 already");
    }
    let chain = self::chain().await;
    let mut forged = notars(&chain, 3);
    if let Evidence::Votes { second, .. } = &mut forged {
        second.signature.0[0] ^= 1;
    }
    chain.write(chain.publish(Vec::new(), |header| header.evidence = vec![forged])).await;
    let message = wrong(from_database(&chain).await);
    assert_eq!(message, "block 7: evidence 0: the signature of validator 0 is invalid");
}
