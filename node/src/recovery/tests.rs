//! Starts from databases of a chain whose validators change.

use super::*;
use crate::tests::chain::{BLOCKS, chain, set_of, sets_of};
use sqlx::{Connection, SqliteConnection};

#[tokio::test]
async fn e1_a_start_has_the_sets_of_the_next_block_wherever_ledger_and_state_end() {
    let chain = chain(7 * BLOCKS);
    let ends =
        [(0, 0), (2, 0), (3, 0), (3, 3), (4, 3), (4, 4), (6, 5), (7, 2), (9, 9), (12, 3), (13, 13), (20, 4), (21, 21)];
    for (blocks, state) in ends {
        let stored = chain.store(blocks, state).await;
        let start = chain.start(&stored.storage).await.expect("starts").snapshot;
        let (case, at) = (format!("{blocks} blocks, state {state}"), blocks as usize);
        assert_eq!(start.sets, sets_of(chain.epochs.after(blocks)), "{case}");
        assert_eq!((start.head.height, start.state.root()), (blocks, chain.state(blocks).root()), "{case}");
        let last = at.checked_sub(1).map(|last| &chain.blocks[last].candidate.header);
        let proposer = last.and_then(|header| set_of(header.epoch).address(header.proposer));
        assert_eq!(start.head.proposer, proposer, "{case}");
    }
}

#[tokio::test]
async fn p10_a_start_has_the_end_of_the_epoch_before_also_where_only_its_block_was_stored() {
    let chain = chain(3 * BLOCKS);
    for blocks in BLOCKS..3 * BLOCKS {
        let stored = chain.store(blocks, blocks).await;
        assert!(stored.storage.load_ledger().await.expect("loads").seals.is_empty(), "no row of its own");
        let seals = chain.start(&stored.storage).await.expect("starts").recovered.seals;
        let last = chain.epochs.last(chain.epochs.after(blocks) - 1);
        let boundary = &chain.blocks[last as usize - 1];
        let found: Vec<_> = seals.iter().map(|seal| (&seal.header, &seal.cert)).collect();
        assert_eq!(found, [(&boundary.candidate.header, &boundary.cert)], "{blocks} blocks");
    }
}

#[tokio::test]
async fn p10_without_the_block_that_ended_the_epoch_before_there_is_no_start_and_without_its_certificate_no_seal() {
    let chain = chain(BLOCKS + 1);
    for (change, whole) in [("UPDATE blocks SET cert = NULL", true), ("DELETE FROM blocks", false)] {
        let stored = chain.store(BLOCKS + 1, BLOCKS + 1).await;
        let mut ledger =
            SqliteConnection::connect(&stored.url.replace("sqlite:///", "sqlite://")).await.expect("opens");
        let change = format!("{change} WHERE height = {BLOCKS}");
        sqlx::query(sqlx::AssertSqlSafe(change)).execute(&mut ledger).await.expect("done");
        match chain.start(&stored.storage).await {
            Ok(start) => assert!(whole && start.recovered.lacks_seal(chain.epochs) == Some(0)),
            Err(RecoveryError::Hole { height, head }) => assert!(!whole && (height, head) == (BLOCKS, BLOCKS + 1)),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn e1_a_state_without_the_validators_of_its_epoch_is_no_start() {
    let chain = chain(2 * BLOCKS + 1);
    let stored = chain.store(2 * BLOCKS + 1, 0).await;
    let mut write = chain.state_write(2 * BLOCKS + 1);
    write.records.clear();
    write.state_root = write.state().root();
    stored.storage.reset_state(write).await.expect("written");
    let outcome = chain.start(&stored.storage).await;
    assert!(matches!(outcome, Err(RecoveryError::Sets { height: 7 })), "{:?}", outcome.err());
}
