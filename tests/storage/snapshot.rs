//! A fetched state as the base of the ledger (S3): in one commit, and every start after it goes on from there.

use crate::fixture::*;
use crate::suite::on_both_databases;
use aitbc_core::batch::Batch;
use aitbc_core::codec;
use aitbc_core::genesis::Genesis;
use aitbc_core::hash::{Hash, plain};
use aitbc_core::ledger::Rules;
use aitbc_core::params::MAX_EXPIRY_AHEAD;
use aitbc_core::record::{Record, RecordKey};
use aitbc_core::state::{Account, ProvenLeaf, State};
use aitbc_core::validators::Validator;
use aitbc_core::vote::Kind;
use aitbc_node::recovery::{Lease, RecoveryError, Start, recover};
use aitbc_node::storage::{BlockWrite, StateWrite, Storage, StorageError, StoredSnapshot};
use aitbc_node::view::Identity;
use std::sync::Arc;

on_both_databases! {
    s3_a_snapshot_replaces_old_blocks_and_keeps_headers_and_votes_in_one_commit,
    s3_a_snapshot_is_fenced_and_never_takes_the_ledger_back,
    s3_a_start_goes_on_from_the_snapshot_whatever_the_state_was,
    s3_a_start_after_a_crash_at_any_step_goes_on_from_the_snapshot_too,
    s3_blocks_that_were_on_their_way_change_nothing_for_a_start,
    s3_needless_batches_go_in_small_steps_and_no_others,
    s3_a_state_of_many_parts_is_read_in_pages,
    s3_a_start_knows_the_batches_that_the_headers_below_the_snapshot_name,
    s3_a_damaged_snapshot_or_a_hole_below_it_stops_the_start,
}

/// Height of the snapshot.
const BASE: u64 = 5_000;

/// A state of some accounts, and of the sets that a start needs at the base and a little above it (E1).
fn fetched() -> State {
    let members = vec![Validator { key: key().public(), weight: 1 }];
    let set = |epoch| (RecordKey::ValidatorSet { epoch }, Record::ValidatorSet { members: members.clone() });
    State::from_parts(
        (0..50).map(|n| (address(n), Account { balance: 10 * n + 1, nonce: n })),
        (3..=6).map(set).chain([(record(7).0, record(7).1.expect("a record"))]),
    )
}

fn snapshot(height: u64) -> StoredSnapshot {
    let leaves: Vec<ProvenLeaf> = fetched().leaves().collect();
    let parts = leaves.chunks(20).map(|part| codec::encode(&part.to_vec())).collect();
    StoredSnapshot { height, state_root: fetched().root(), results_root: plain(b"results"), parts }
}

/// One batch a header, up to a height.
fn batches(from: u64, to: u64) -> Vec<Batch> {
    (from..=to).map(|height| batch(height, height + 100, 1)).collect()
}

fn headers(from: u64, to: u64) -> Vec<BlockWrite> {
    let batches = batches(from, to);
    let write = |(height, batch)| block_write(header(height + 7, height, vec![batch]), None);
    (from..=to).zip(&batches).map(write).collect()
}

/// The headers that are needed below the base.
fn window() -> Vec<BlockWrite> {
    window_of(BASE)
}

fn window_of(base: u64) -> Vec<BlockWrite> {
    headers(base + 1 - MAX_EXPIRY_AHEAD, base)
}

async fn with_blocks(storage: &Arc<dyn Storage>, to: u64) {
    let batches = batches(1, to);
    storage.commit_batches(batches.iter().map(batch_write).collect()).await.expect("batches");
    let block = |(height, batch)| block_write(header(height, height, vec![batch]), Some(cert(Kind::Final, height)));
    storage.commit_blocks((1..).zip(&batches).map(block).collect()).await.expect("blocks");
}

async fn s3_a_snapshot_replaces_old_blocks_and_keeps_headers_and_votes_in_one_commit(site: Site) {
    let storage = site.ready().await;
    with_blocks(&storage, 10).await;
    storage.commit_votes(vec![vote_write(Kind::Notar, 11), vote_write(Kind::Final, 11)]).await.expect("votes");
    // One that no block has, and one that is in a block of which only the header comes.
    let pending = [batch(77, 2 * BASE, 1), batches(BASE, BASE).remove(0)];
    storage.commit_batches(pending.iter().map(batch_write).collect()).await.expect("batches");
    assert_eq!(storage.snapshot(0).await.expect("reads"), None);
    storage.commit_snapshot(window(), snapshot(BASE)).await.expect("snapshot");

    for storage in [storage, reopened(&site).await] {
        assert_eq!(storage.lowest(), BASE + 1);
        assert_eq!(storage.snapshot(0).await.expect("reads"), Some(snapshot(BASE)));
        let ledger = storage.load_ledger().await.expect("loads");
        assert_eq!(ledger.head.map(|head| head.candidate.header.height), Some(BASE));
        assert_eq!(ledger.votes, [vote(Kind::Notar, 11), vote(Kind::Final, 11)], "own votes are no part of it");
        assert_eq!(ledger.vote_floor, (0, 0));
        assert!(ledger.candidates.is_empty(), "none above the base");
        assert!(ledger.batches.iter().any(|(reference, ..)| reference.digest == pending[0].digest()));
        assert_eq!(storage.headers(1, 100).await.expect("reads").len(), 10, "old headers stay");
        assert_eq!(storage.headers(BASE - 99, BASE + 9).await.expect("reads").len(), 100);
    }
    let storage = reopened(&site).await;
    storage.take_lease("again".to_owned()).await.expect("lease");
    storage.forget_snapshot().await.expect("deletes");
    assert_eq!((storage.snapshot(0).await.expect("reads"), storage.lowest()), (None, BASE + 1));
}

/// Two blocks from a height on, which somebody had begun to store.
async fn late_blocks(storage: &Arc<dyn Storage>, from: u64) {
    let late = batches(from, from + 1);
    storage.commit_batches(late.iter().map(batch_write).collect()).await.expect("batches");
    let block = |(height, batch)| block_write(header(height, height, vec![batch]), None);
    storage.commit_blocks((from..).zip(&late).map(block).collect()).await.expect("blocks");
}

async fn s3_needless_batches_go_in_small_steps_and_no_others(site: Site) {
    let storage = site.ready().await;
    assert_eq!(storage.forget_leftovers().await.expect("deletes"), 0);
    with_blocks(&storage, 600).await;
    // Of 1.2 MiB together, in blocks 601 to 603, and one in no block.
    let large: Vec<Batch> = (601..=603).map(|height| batch(height, height + 100, 2_700)).collect();
    assert!((350_000..450_000).contains(&large[0].encoded_len()), "{}", large[0].encoded_len());
    storage.commit_batches(large.iter().map(batch_write).collect()).await.expect("batches");
    let block = |(height, batch)| block_write(header(height, height, vec![batch]), None);
    storage.commit_blocks((601..).zip(&large).map(block).collect()).await.expect("blocks");
    let pending = batch(77, 2 * BASE, 1);
    storage.commit_batches(vec![batch_write(&pending)]).await.expect("batches");
    assert_eq!(storage.forget_leftovers().await.expect("deletes"), 0, "all are needed");
    storage.commit_snapshot(window(), snapshot(BASE)).await.expect("snapshot");
    // Blocks above it, whose batches expire as soon as those may that are needless.
    let above = batch(BASE + 1, BASE + 1, 1);
    storage.commit_batches(vec![batch_write(&above)]).await.expect("batches");
    storage.commit_blocks(vec![block_write(header(BASE + 8, BASE + 1, vec![&above]), None)]).await.expect("blocks");
    late_blocks(&storage, 604).await;
    let mut steps = Vec::new();
    while let count @ 1.. = storage.forget_leftovers().await.expect("deletes") {
        steps.push(count);
    }
    assert_eq!(steps.iter().sum::<usize>(), 605, "{steps:?}");
    assert_eq!(steps[..2], [256, 256], "{steps:?}");
    assert!(steps.len() > 3, "not more than a MiB in one: {steps:?}");
    let gone = batches(1, 600).iter().chain(&large).map(Batch::digest).collect();
    assert!(storage.batches(gone).await.expect("reads").is_empty());
    let rows = format!("SELECT count(*) FROM {}", site.ledger("batches"));
    assert_eq!(site.number(&rows).await, 2, "the one in no block and that of the block above");
    assert_eq!(storage.lowest(), BASE + 1);
}

async fn s3_a_state_of_many_parts_is_read_in_pages(site: Site) {
    let storage = site.ready().await;
    let parts: Vec<Vec<u8>> = fetched().leaves().map(|leaf| codec::encode(&vec![leaf])).collect();
    assert!(parts.len() > 32);
    let many = StoredSnapshot { parts, ..snapshot(BASE) };
    storage.commit_snapshot(window(), many.clone()).await.expect("snapshot");
    let (mut found, mut pages) = (Vec::new(), 0);
    while let Some(page) = storage.snapshot(found.len() as u64).await.expect("reads") {
        assert_eq!((page.height, page.state_root, page.results_root), (BASE, many.state_root, many.results_root));
        assert!((1..=16).contains(&page.parts.len()), "{} parts", page.parts.len());
        found.extend(page.parts);
        pages += 1;
    }
    assert!(found == many.parts && pages > 2, "{pages} pages");
    storage.close().await;
    let (start, _) = start(&site).await.expect("from the snapshot");
    assert_eq!(start.snapshot.state.root(), fetched().root());
}

async fn reopened(site: &Site) -> Arc<dyn Storage> {
    site.open().await
}

async fn s3_a_snapshot_is_fenced_and_never_takes_the_ledger_back(site: Site) {
    let storage = site.ready().await;
    with_blocks(&storage, 10).await;
    storage.commit_snapshot(headers(1, 10), snapshot(10)).await.expect("consensus was faster");
    assert_eq!((storage.snapshot(0).await.expect("reads"), storage.lowest()), (None, 1));
    assert_eq!(storage.blocks(1, 10, usize::MAX).await.expect("reads").len(), 10, "whole as before");
    // Its headers reach into the own ones, and contradict them: their slots differ.
    let error = storage.commit_snapshot(headers(8, 12), snapshot(12)).await.expect_err("another chain");
    assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
    assert_eq!((storage.snapshot(0).await.expect("reads"), storage.lowest()), (None, 1), "nothing of it is there");
    assert_eq!(storage.blocks(1, 10, usize::MAX).await.expect("reads").len(), 10);
    let second = site.open().await;
    second.take_lease("second".to_owned()).await.expect("takes over");
    let error = storage.commit_snapshot(window(), snapshot(BASE)).await.expect_err("fenced");
    assert!(matches!(error, StorageError::Fenced { .. }), "{error}");
    assert_eq!(second.snapshot(0).await.expect("reads"), None);
}

fn identity() -> Identity {
    let text = format!(r#"{{"chain_id":"t","mode":"poa","validators":[{{"public_key":"{}"}}]}}"#, key().public());
    let genesis = Genesis::from_json(&text).expect("valid");
    let genesis_set = Arc::new(genesis.validator_set().expect("valid"));
    Identity { genesis, chain: chain(), genesis_set, key: Some(key().public()) }
}

async fn start(site: &Site) -> Result<(Start, Arc<dyn Storage>), RecoveryError> {
    let storage = site.open().await;
    let generation = storage.take_lease("start".to_owned()).await.expect("lease");
    let (identity, lease) = (identity(), Lease { generation, first_start: true });
    let start = recover(&storage, &identity, &Rules::of(&identity.genesis), lease).await?;
    Ok((start, storage))
}

/// That a start goes on from the base; afterwards the state's tables have it, and the snapshot is gone.
async fn goes_on_from_the_base(site: &Site) -> Arc<dyn Storage> {
    let (start, storage) = start(site).await.expect("from the snapshot");
    assert_eq!((start.snapshot.head.height, start.snapshot.state.root()), (BASE, fetched().root()));
    let (tip, roots) = (&start.recovered.tip, start.recovered.tip.roots);
    assert_eq!((roots.state, roots.results), (fetched().root(), plain(b"results")));
    assert_eq!((tip.slot, start.recovered.vote_floor), (BASE + 7, (0, 0)));
    assert_eq!(storage.snapshot(0).await.expect("reads"), None, "the state's tables have it");
    let rows = storage.load_state().await.expect("reads").expect("applied");
    assert_eq!((rows.height, rows.accounts.len()), (BASE, 50));
    storage
}

async fn s3_a_start_goes_on_from_the_snapshot_whatever_the_state_was(site: Site) {
    let storage = site.ready().await;
    with_blocks(&storage, 10).await;
    // It lags behind the ledger, and has accounts that the fetched one has not.
    storage.apply_state(state(5)).await.expect("applies");
    storage.commit_votes(vec![vote_write(Kind::Notar, BASE + 9)]).await.expect("votes");
    storage.commit_snapshot(window(), snapshot(BASE)).await.expect("snapshot");
    storage.close().await;
    goes_on_from_the_base(&site).await.close().await;
    let storage = goes_on_from_the_base(&site).await;
    let ledger = storage.load_ledger().await.expect("loads");
    assert_eq!(ledger.votes, [vote(Kind::Notar, BASE + 9)]);
    assert_eq!(ledger.candidates, [candidate(header(BASE + 9, BASE + 9, vec![]))], "above the base");
    assert!(storage.transaction(transaction_row(5, 0).id).await.expect("reads").is_none(), "of the state before");
}

async fn s3_a_start_after_a_crash_at_any_step_goes_on_from_the_snapshot_too(site: Site) {
    let storage = site.ready().await;
    storage.commit_snapshot(window(), snapshot(BASE)).await.expect("snapshot");
    // Its state went into the tables, and the crash came before the snapshot was deleted.
    let base = StateWrite::whole(BASE, &fetched(), plain(b"results"));
    storage.reset_state(base.clone()).await.expect("resets");
    storage.close().await;
    goes_on_from_the_base(&site).await.close().await;

    // A crash of the machine takes the tables back to what they were before, if the snapshot is still there.
    let storage = site.open().await;
    storage.take_lease("crash".to_owned()).await.expect("lease");
    storage.reset_state(state(0)).await.expect("resets");
    let lost = start(&site).await.err().expect("nothing is left to make it from");
    assert!(matches!(lost, RecoveryError::StateRoot { height: 0, .. }), "{lost}");
    let storage = site.open().await;
    storage.take_lease("again".to_owned()).await.expect("lease");
    storage.commit_snapshot(window_of(BASE + 10), snapshot(BASE + 10)).await.expect("another one");
    storage.close().await;
    let (from_it, storage) = start(&site).await.expect("from the newer snapshot");
    assert_eq!(from_it.snapshot.head.height, BASE + 10);

    // The state went on beyond a snapshot that was not deleted yet: it stays as it is.
    storage.commit_snapshot(window_of(BASE + 30), snapshot(BASE + 30)).await.expect("a third");
    let (slot, height) = (BASE + 38, BASE + 31);
    storage.commit_blocks(vec![block_write(header(slot, height, vec![]), None)]).await.expect("a block above it");
    storage.reset_state(StateWrite { height, ..base }).await.expect("resets");
    storage.close().await;
    let (beyond, storage) = start(&site).await.expect("from the state");
    assert_eq!(beyond.snapshot.head.height, height);
    assert_eq!(storage.snapshot(0).await.expect("reads"), None);
}

async fn s3_blocks_that_were_on_their_way_change_nothing_for_a_start(site: Site) {
    let storage = site.ready().await;
    with_blocks(&storage, 10).await;
    storage.commit_snapshot(window(), snapshot(BASE)).await.expect("snapshot");
    // The executor goes on until the node stops.
    late_blocks(&storage, 11).await;
    storage.apply_state(state(12)).await.expect("applies");
    storage.close().await;
    goes_on_from_the_base(&site).await.close().await;
    goes_on_from_the_base(&site).await;
}

async fn s3_a_start_knows_the_batches_that_the_headers_below_the_snapshot_name(site: Site) {
    let storage = site.ready().await;
    // It came by gossip, and nobody told this node that it is in a block.
    let named = batches(BASE - 9, BASE - 9).remove(0);
    storage.commit_batches(vec![batch_write(&named)]).await.expect("batches");
    storage.commit_snapshot(window(), snapshot(BASE)).await.expect("snapshot");
    storage.close().await;
    for _ in 0..2 {
        let (start, storage) = start(&site).await.expect("from the snapshot");
        let mut included = start.recovered.included;
        included.sort_by_key(|(_, expiry)| *expiry);
        let expected = batches(BASE + 1 - MAX_EXPIRY_AHEAD, BASE);
        let expected: Vec<(Hash, u64)> = expected.iter().map(|b| (b.digest(), b.seq + MAX_EXPIRY_AHEAD)).collect();
        assert_eq!(included, expected);
        assert!(included.contains(&(named.digest(), BASE - 9 + MAX_EXPIRY_AHEAD)));
        storage.close().await;
    }
}

async fn s3_a_damaged_snapshot_or_a_hole_below_it_stops_the_start(site: Site) {
    let storage = site.ready().await;
    storage.commit_snapshot(window(), snapshot(BASE)).await.expect("snapshot");
    storage.close().await;
    let table = site.ledger("snapshot");
    site.execute(&format!("UPDATE {table} SET state_root = '{}'", plain(b"other"))).await;
    let error = start(&site).await.err().expect("another root");
    assert!(matches!(error, RecoveryError::StateRoot { height: BASE, .. }), "{error}");
    site.execute(&format!("UPDATE {table} SET state_root = '{}'", fetched().root())).await;
    site.execute(&format!("DELETE FROM {} WHERE height = {}", site.ledger("blocks"), BASE - 3)).await;
    let error = start(&site).await.err().expect("a hole");
    assert!(matches!(error, RecoveryError::Hole { height, .. } if height == BASE - 3), "{error}");
}
