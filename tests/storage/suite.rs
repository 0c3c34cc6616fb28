//! What both databases must do, rule by rule.

use crate::fixture::*;
use aitbc_core::batch::Batch;
use aitbc_core::block::{Header, Seal};
use aitbc_core::hash::Hash;
use aitbc_core::memory::{Cause, Memory};
use aitbc_core::record::Record;
use aitbc_core::state::Account;
use aitbc_core::vote::{Cert, Kind, Statement};
use aitbc_node::storage::{Owner, ReceiptsOf, StateWrite, Storage, StorageError, Undo, VoteWrite};
use std::sync::Arc;

macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(crate::fixture::Site::sqlite()).await }
        )+}
        mod postgres {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(crate::fixture::Site::postgres()).await }
        )+}
    };
}

pub(crate) use on_both_databases;

on_both_databases! {
    p1_p2_a_second_vote_of_a_class_in_a_slot_is_refused,
    p1_notar_beside_skip_or_final_is_allowed,
    p3_p4_votes_come_with_what_they_rest_on,
    p6_the_same_vote_again_is_no_error,
    p7_the_first_holder_is_fenced_once_a_second_takes_the_lease,
    p7_one_that_writes_nothing_learns_by_its_pings_that_it_is_fenced,
    p7_a_vote_racing_the_lease_is_either_refused_or_known_to_the_new_holder,
    p7_nothing_is_written_without_a_lease,
    a1_the_memory_record_is_kept_and_fenced_and_raises_the_generation_with_it,
    p8_another_chain_key_or_newer_schema_is_refused,
    a_database_from_before_epochs_keeps_its_votes_and_takes_ends_of_epochs,
    p9_no_vote_at_or_below_the_floor,
    p9_a_floor_of_a_later_epoch_covers_the_votes_of_earlier_ones,
    p10_ends_of_epochs_are_read_from_three_below_the_last_block_on_and_older_ones_are_deleted,
    p10_another_end_of_an_epoch_is_refused_and_the_first_one_stays,
    p9_pruning_keeps_what_is_above_the_slot_and_the_highest_final_certificate,
    one_conflicting_vote_sinks_its_own_call_only,
    votes_of_one_call_are_all_there_or_none,
    a_new_database_is_empty,
    a_restart_finds_what_was_committed,
    batches_and_blocks_come_back_as_they_went_in,
    blocks_are_cut_by_bytes_but_never_to_none,
    known_batches_and_blocks_are_no_error_but_another_block_is,
    a_block_whose_batch_is_missing_is_refused,
    batches_that_expired_outside_a_block_are_deleted,
    e8_batches_that_no_later_block_includes_are_deleted_however_late_they_expire,
    batches_of_old_blocks_go_in_steps_and_headers_and_certificates_stay,
    what_was_deleted_is_known_to_the_next_holder_of_the_lease_and_never_falls,
    a_step_deletes_no_more_than_a_mebibyte_but_at_least_one_block,
    outcomes_go_with_their_blocks_and_the_others_are_found,
    a_state_that_is_on_disk_tells_its_height,
    the_state_grows_by_height_and_never_goes_back,
    a_transaction_included_twice_keeps_its_first_outcome,
    a_transaction_is_found_in_every_run_of_the_index,
    records_are_set_replaced_removed_and_loaded,
    records_of_receipts_and_escrows_outlive_a_restart_and_change,
    a_database_from_before_records_keeps_its_state,
    s3_what_the_last_block_changed_is_kept_for_the_state_as_applied_only,
    evidence_is_read_without_the_other_records,
    a_reset_forgets_the_state_before,
    transactions_are_listed_newest_first,
    receipts_are_found_by_their_names_and_provider_newest_first,
    receipts_go_with_their_blocks_and_with_the_state,
    many_callers_at_once_are_all_served,
    closing_flushes_and_then_refuses,
    calls_and_failures_are_measured,
}

fn conflict(outcome: aitbc_node::storage::Result<()>) -> Option<(u64, u8)> {
    match outcome {
        Err(StorageError::ConflictingVote { slot, class }) => Some((slot, class)),
        other => panic!("a conflict expected, not {other:?}"),
    }
}

fn other_block(slot: u64) -> VoteWrite {
    let mut write = vote_write(Kind::Notar, slot);
    write.vote.statement.digest = Hash([1; 32]);
    write
}

async fn p1_p2_a_second_vote_of_a_class_in_a_slot_is_refused(site: Site) {
    let storage = site.ready().await;
    storage.commit_votes(vec![vote_write(Kind::Notar, 5), vote_write(Kind::Skip, 6)]).await.expect("first votes");
    assert_eq!(conflict(storage.commit_votes(vec![other_block(5)]).await), Some((5, 0)));
    assert_eq!(conflict(storage.commit_votes(vec![vote_write(Kind::Final, 6)]).await), Some((6, 1)));
    let ledger = storage.load_ledger().await.expect("loads");
    assert_eq!(ledger.votes, [vote(Kind::Notar, 5), vote(Kind::Skip, 6)]);
    assert!(ledger.certs.is_empty(), "the certificate of the refused Final vote");
}

async fn p1_notar_beside_skip_or_final_is_allowed(site: Site) {
    let storage = site.ready().await;
    let votes = [(Kind::Notar, 5), (Kind::Final, 5), (Kind::Notar, 6), (Kind::Skip, 6)];
    for (kind, slot) in votes {
        storage.commit_votes(vec![vote_write(kind, slot)]).await.expect("legal");
    }
    assert_eq!(storage.load_ledger().await.expect("loads").votes, votes.map(|(kind, slot)| vote(kind, slot)));
}

async fn p3_p4_votes_come_with_what_they_rest_on(site: Site) {
    let storage = site.ready().await;
    storage.commit_votes(vec![vote_write(Kind::Notar, 5)]).await.expect("votes");
    storage.commit_votes(vec![vote_write(Kind::Final, 5)]).await.expect("votes");
    let ledger = storage.load_ledger().await.expect("loads");
    assert_eq!(ledger.candidates, [candidate(header(5, 5, vec![]))]);
    assert_eq!(ledger.certs, [cert(Kind::Notar, 5)]);
    assert_eq!(ledger.final_cert, None);
    storage.commit_cert(cert(Kind::Final, 5)).await.expect("cert");
    storage.commit_cert(cert(Kind::Final, 4)).await.expect("a lower one");
    assert_eq!(storage.load_ledger().await.expect("loads").final_cert, Some(cert(Kind::Final, 5)));
}

async fn p6_the_same_vote_again_is_no_error(site: Site) {
    let storage = site.ready().await;
    let group = || vec![vote_write(Kind::Notar, 5), vote_write(Kind::Final, 5)];
    storage.commit_votes(group()).await.expect("first");
    storage.commit_votes(group()).await.expect("again");
    storage.commit_votes(vec![vote_write(Kind::Notar, 5), vote_write(Kind::Notar, 6)]).await.expect("one of them new");
    storage.commit_votes(vec![vote_write(Kind::Skip, 7), vote_write(Kind::Skip, 7)]).await.expect("twice in a call");
    let ledger = storage.load_ledger().await.expect("loads");
    assert_eq!(ledger.votes.len(), 4);
    assert_eq!(ledger.candidates.len(), 2);
}

async fn p7_the_first_holder_is_fenced_once_a_second_takes_the_lease(site: Site) {
    let first = site.ready().await;
    first.commit_votes(vec![vote_write(Kind::Skip, 1)]).await.expect("holds the lease");
    let second = site.open().await;
    assert_eq!(second.take_lease("second".to_owned()).await.expect("takes over"), 2);
    let fenced = |outcome| match outcome {
        Err(StorageError::Fenced { ours: 1, found: 2 }) => {}
        other => panic!("fenced expected, not {other:?}"),
    };
    fenced(first.commit_votes(vec![vote_write(Kind::Skip, 2)]).await);
    fenced(first.commit_votes(vec![vote_write(Kind::Skip, 1)]).await);
    fenced(first.commit_cert(cert(Kind::Final, 2)).await);
    fenced(first.commit_batches(vec![batch_write(&batch(1, 9, 1))]).await);
    fenced(first.commit_blocks(vec![block_write(header(1, 1, vec![]), None)]).await);
    fenced(first.prune((0, 1), 1).await);
    fenced(first.apply_state(state(1)).await);
    fenced(first.reset_state(state(0)).await);
    second.commit_votes(vec![vote_write(Kind::Skip, 2)]).await.expect("the second goes on");
    second.apply_state(state(1)).await.expect("the second goes on");
    assert_eq!(second.load_ledger().await.expect("loads").votes, [vote(Kind::Skip, 1), vote(Kind::Skip, 2)]);
}

async fn p7_one_that_writes_nothing_learns_by_its_pings_that_it_is_fenced(site: Site) {
    let first = site.ready().await;
    first.ping().await.expect("holds the lease");
    let second = site.open().await;
    second.ping().await.expect("has none to lose yet");
    first.ping().await.expect("and takes none by being there");
    second.take_lease("second".to_owned()).await.expect("takes over");
    let outcome = first.ping().await;
    assert!(matches!(outcome, Err(StorageError::Fenced { ours: 1, found: 2 })), "{outcome:?}");
    second.ping().await.expect("holds the lease");
}

/// §8.4: a vote of the old process is committed before the new one reads, or it is refused.
async fn p7_a_vote_racing_the_lease_is_either_refused_or_known_to_the_new_holder(site: Site) {
    let mut holder = site.ready().await;
    let mut refused = 0;
    for slot in 1..=60 {
        let next = site.open().await;
        let vote = {
            let holder = holder.clone();
            tokio::spawn(async move { holder.commit_votes(vec![vote_write(Kind::Skip, slot)]).await })
        };
        if slot % 3 == 0 {
            tokio::task::yield_now().await;
        }
        next.take_lease("next".to_owned()).await.expect("takes over");
        let seen = next.load_ledger().await.expect("loads").votes.contains(&super::fixture::vote(Kind::Skip, slot));
        match vote.await.expect("no panic") {
            Ok(()) => assert!(seen, "slot {slot}: voted, but the new holder does not know"),
            Err(StorageError::Fenced { .. }) => {
                refused += 1;
                assert!(!seen, "slot {slot}: refused, yet stored");
            }
            Err(other) => panic!("slot {slot}: {other}"),
        }
        holder = next;
    }
    println!("{refused} of 60 votes came after the lease");
}

async fn p7_nothing_is_written_without_a_lease(site: Site) {
    let storage = site.open().await;
    for outcome in [
        storage.commit_votes(vec![vote_write(Kind::Skip, 1)]).await,
        storage.commit_cert(cert(Kind::Final, 2)).await,
        storage.commit_batches(vec![batch_write(&batch(1, 9, 1))]).await,
        storage.commit_blocks(vec![block_write(header(1, 1, vec![]), None)]).await,
        storage.reset_state(state(0)).await,
    ] {
        assert!(matches!(outcome, Err(StorageError::Fenced { .. })), "{outcome:?}");
    }
}

async fn a1_the_memory_record_is_kept_and_fenced_and_raises_the_generation_with_it(site: Site) {
    let storage = site.ready().await;
    assert_eq!(storage.load_ledger().await.expect("loads").memory, None, "a new database knows nothing");
    let quarantined = Memory::default().quarantined(Cause::VoteMissing { slot: 9 });
    storage.commit_memory(quarantined.clone(), None).await.expect("stores");
    storage.commit_votes(vec![vote_write(Kind::Skip, 1)]).await.expect("the lease is still ours");
    assert_eq!(storage.load_ledger().await.expect("loads").memory, Some(quarantined));

    let recovered = Memory { floors: [(0, 17), (1, 1)].into(), clean_from: 2, ..Memory::default() };
    storage.commit_memory(recovered.clone(), Some(40)).await.expect("stores");
    storage.commit_votes(vec![vote_write(Kind::Skip, 2)]).await.expect("the lease is still ours");
    let other = site.open().await;
    assert_eq!(other.take_lease("other".to_owned()).await.expect("takes over"), 41);
    assert_eq!(other.load_ledger().await.expect("loads").memory, Some(recovered.clone()));
    let late = storage.commit_memory(Memory::first_start(), None).await;
    assert!(matches!(late, Err(StorageError::Fenced { .. })), "{late:?}");
    assert_eq!(other.load_ledger().await.expect("loads").memory, Some(recovered));
}

async fn p8_another_chain_key_or_newer_schema_is_refused(site: Site) {
    drop(site.ready().await);
    let refused = async |owner: Owner, names: &str| match site.try_open(owner).await {
        Err(StorageError::Foreign(text)) => assert!(text.contains(names), "{text}"),
        other => panic!("foreign expected, not {:?}", other.map(|_| "open")),
    };
    refused(Owner { chain: Hash([1; 32]), ..owner() }, "chain is 0x").await;
    refused(Owner { key: None, ..owner() }, "key is ").await;
    site.execute(&format!("UPDATE {} SET value = '99' WHERE name = 'schema'", site.ledger("meta"))).await;
    refused(owner(), "version 99").await;
}

async fn a_database_from_before_records_keeps_its_state(site: Site) {
    site.ready().await.close().await;
    let (begin, meta) = match &site {
        Site::Sqlite(dir) => (format!("ATTACH '{}/blockchain-state.db' AS state;", dir.path().display()), "state.meta"),
        Site::Postgres(..) => (String::new(), "ledger.meta"),
    };
    let version = format!("UPDATE {meta} SET value = '2' WHERE name = 'schema'");
    // Some builds made the table without a new version.
    for older in ["DROP TABLE state.receipts; DROP TABLE state.records;", "DROP TABLE state.receipts;"] {
        site.execute(&format!("{begin} DROP TABLE state.undo; {older} {version}")).await;
        let storage = site.open().await;
        let kept = storage.load_state().await.expect("loads").expect("is not emptied");
        assert_eq!((kept.height, sorted(kept)), (0, sorted(state(0))));
        storage.take_lease("test".to_owned()).await.expect("takes the lease");
        storage.reset_state(StateWrite { records: vec![record(1)], ..state(0) }).await.expect("writes");
        storage.close().await;
    }
    let kept = site.open().await.load_state().await.expect("loads").expect("is not emptied");
    assert_eq!(kept.records, [record(1)]);
}

async fn p9_no_vote_at_or_below_the_floor(site: Site) {
    let storage = site.ready().await;
    storage.commit_votes(vec![vote_write(Kind::Notar, 10), vote_write(Kind::Skip, 11)]).await.expect("votes");
    storage.prune((0, 10), 0).await.expect("prunes");
    // The row is gone, so only the floor can refuse another one.
    assert_eq!(conflict(storage.commit_votes(vec![other_block(10)]).await), Some((10, 0)));
    assert_eq!(conflict(storage.commit_votes(vec![vote_write(Kind::Skip, 3)]).await), Some((3, 1)));
    let mixed = vec![vote_write(Kind::Skip, 3), vote_write(Kind::Skip, 12)];
    assert_eq!(conflict(storage.commit_votes(mixed).await), Some((3, 1)));
    storage.prune((0, 4), 0).await.expect("prunes");
    let ledger = storage.load_ledger().await.expect("loads");
    assert_eq!((ledger.vote_floor, ledger.votes), ((0, 10), vec![vote(Kind::Skip, 11)]));
    storage.prune((0, 20), 0).await.expect("prunes");
    let highest = format!("SELECT highest_vote_slot FROM {}", site.ledger("lease"));
    assert_eq!(site.number(&highest).await, 11);
}

async fn p9_a_floor_of_a_later_epoch_covers_the_votes_of_earlier_ones(site: Site) {
    let storage = site.ready().await;
    storage.commit_votes(vec![vote_write(Kind::Notar, 10), vote_write(Kind::Skip, 11)]).await.expect("votes");
    storage.prune((1, 0), 0).await.expect("prunes");
    let ledger = storage.load_ledger().await.expect("loads");
    assert_eq!((ledger.vote_floor, ledger.votes.len()), ((1, 0), 0));
    assert_eq!(conflict(storage.commit_votes(vec![vote_write(Kind::Skip, 99)]).await), Some((99, 1)));
    storage.prune((0, 50), 0).await.expect("prunes");
    assert_eq!(storage.load_ledger().await.expect("loads").vote_floor, (1, 0), "never lower");
    let highest = format!("SELECT highest_vote_slot FROM {}", site.ledger("lease"));
    assert_eq!(site.number(&highest).await, 11);
}

fn seal(epoch: u64) -> Seal {
    let header = Header { epoch, height: 10 * (epoch + 1), ..header(1, 1, Vec::new()) };
    let cert = cert(Kind::Final, 1);
    Seal { cert: Cert { statement: Statement { epoch, digest: header.digest(), ..cert.statement }, ..cert }, header }
}

async fn a_database_from_before_epochs_keeps_its_votes_and_takes_ends_of_epochs(site: Site) {
    let storage = site.ready().await;
    storage.commit_votes(vec![vote_write(Kind::Notar, 10)]).await.expect("vote");
    storage.close().await;
    let (table, meta) = (site.ledger("seals"), site.ledger("meta"));
    let before = if matches!(site, Site::Sqlite(_)) { 1 } else { 3 };
    // Some builds made the table without a new version.
    for older in [format!("DROP TABLE {table};"), String::new()] {
        site.execute(&format!("{older} UPDATE {meta} SET value = '{before}' WHERE name = 'schema'")).await;
        let storage = site.open().await;
        storage.take_lease("test".to_owned()).await.expect("takes the lease");
        storage.commit_seal(seal(0)).await.expect("seal");
        let ledger = storage.load_ledger().await.expect("loads");
        assert_eq!((ledger.votes, ledger.seals), (vec![vote(Kind::Notar, 10)], vec![seal(0)]));
        storage.close().await;
    }
}

async fn p10_ends_of_epochs_are_read_from_three_below_the_last_block_on_and_older_ones_are_deleted(site: Site) {
    let storage = site.ready().await;
    for epoch in [0, 1, 2, 3, 3] {
        storage.commit_seal(seal(epoch)).await.expect("seal");
    }
    let ledger = storage.load_ledger().await.expect("loads");
    assert_eq!(ledger.seals, [seal(0), seal(1), seal(2), seal(3)], "all of epochs whose blocks are not here yet");
    for epoch in 4..=8 {
        storage.commit_seal(seal(epoch)).await.expect("seal");
    }
    let head = Header { epoch: 6, ..header(1, 1, Vec::new()) };
    storage.commit_blocks(vec![block_write(head, None)]).await.expect("a block of epoch 6");
    let wanted: Vec<Seal> = (3..=8).map(seal).collect();
    assert_eq!(storage.load_ledger().await.expect("loads").seals, wanted);
    storage.prune((6, 0), 1).await.expect("prunes");
    assert_eq!(storage.load_ledger().await.expect("loads").seals, wanted);
    let rows = format!("SELECT count(*) FROM {}", site.ledger("seals"));
    assert_eq!(site.number(&rows).await, 7, "those of epochs 0 and 1 are gone, that of 2 stays");
}

async fn p10_another_end_of_an_epoch_is_refused_and_the_first_one_stays(site: Site) {
    let storage = site.ready().await;
    storage.commit_seal(seal(1)).await.expect("seal");
    let mut other = seal(1);
    other.header.time_ms += 1;
    other.cert.statement.digest = other.header.digest();
    assert_eq!(conflict(storage.commit_seal(other).await), Some((1, 1)));
    let mut by_later_slot = seal(1);
    by_later_slot.cert.statement.slot += 1;
    storage.commit_seal(by_later_slot).await.expect("of the same block (E4)");
    assert_eq!(storage.load_ledger().await.expect("loads").seals, [seal(1)]);
}

async fn p9_pruning_keeps_what_is_above_the_slot_and_the_highest_final_certificate(site: Site) {
    let storage = site.ready().await;
    for slot in 1..=4 {
        storage.commit_votes(vec![vote_write(Kind::Notar, slot)]).await.expect("votes");
        storage.commit_votes(vec![vote_write(Kind::Final, slot)]).await.expect("votes");
    }
    storage.commit_cert(cert(Kind::Final, 1)).await.expect("cert");
    storage.commit_cert(cert(Kind::Final, 2)).await.expect("cert");
    storage.prune((0, 3), 0).await.expect("prunes");
    let ledger = storage.load_ledger().await.expect("loads");
    assert_eq!(ledger.votes, [vote(Kind::Notar, 4), vote(Kind::Final, 4)]);
    assert_eq!(ledger.certs, [cert(Kind::Notar, 4)]);
    assert_eq!(ledger.candidates, [candidate(header(4, 4, vec![]))]);
    assert_eq!(ledger.final_cert, Some(cert(Kind::Final, 2)));
    assert_eq!(site.number(&format!("SELECT count(*) FROM {}", site.ledger("certs"))).await, 2);
}

async fn one_conflicting_vote_sinks_its_own_call_only(site: Site) {
    let storage = site.ready().await;
    storage.commit_votes(vec![vote_write(Kind::Notar, 50)]).await.expect("votes");
    let calls = (1..=40).map(|slot| {
        let storage = storage.clone();
        let write = if slot == 20 { other_block(50) } else { vote_write(Kind::Skip, slot) };
        tokio::spawn(async move { (slot, storage.commit_votes(vec![write]).await) })
    });
    for call in calls.collect::<Vec<_>>() {
        let (slot, outcome) = call.await.expect("no panic");
        if slot == 20 {
            assert_eq!(conflict(outcome), Some((50, 0)));
        } else {
            outcome.expect("its own vote is fine");
        }
    }
    assert_eq!(storage.load_ledger().await.expect("loads").votes.len(), 40);
}

async fn votes_of_one_call_are_all_there_or_none(site: Site) {
    let storage = site.ready().await;
    storage.commit_votes(vec![vote_write(Kind::Notar, 5)]).await.expect("votes");
    let call = vec![vote_write(Kind::Skip, 4), other_block(5), vote_write(Kind::Skip, 6)];
    assert_eq!(conflict(storage.commit_votes(call).await), Some((5, 0)));
    assert_eq!(storage.load_ledger().await.expect("loads").votes, [vote(Kind::Notar, 5)]);
}

async fn a_new_database_is_empty(site: Site) {
    let storage = site.open().await;
    assert_eq!(storage.take_lease("x".to_owned()).await.expect("takes the lease"), 1);
    let ledger = storage.load_ledger().await.expect("loads");
    assert!(ledger.head.is_none() && ledger.votes.is_empty() && ledger.batches.is_empty());
    assert!(storage.load_state().await.expect("loads").is_none());
    assert!(matches!(storage.apply_state(state(1)).await, Err(StorageError::Corrupt(_))), "no genesis yet");
    assert!(storage.block(1).await.expect("reads").is_none());
    assert!(storage.blocks(1, 9, 1 << 20).await.expect("reads").is_empty());
    storage.ping().await.expect("answers");
}

async fn a_restart_finds_what_was_committed(site: Site) {
    let storage = site.ready().await;
    let (final_one, pending, expired) = (batch(1, 30, 3), batch(2, 31, 2), batch(3, 1, 1));
    storage.commit_batches([&final_one, &pending, &expired].map(batch_write).to_vec()).await.expect("batches");
    let first = header(1, 1, vec![&final_one]);
    let second = header(3, 2, vec![]);
    let blocks = vec![block_write(first, None), block_write(second.clone(), Some(cert(Kind::Final, 3)))];
    storage.commit_blocks(blocks).await.expect("blocks");
    storage.commit_votes(vec![vote_write(Kind::Notar, 3), vote_write(Kind::Notar, 4)]).await.expect("votes");
    storage.apply_state(state(1)).await.expect("state");
    storage.close().await;

    let storage = site.open().await;
    assert_eq!(storage.take_lease("again".to_owned()).await.expect("takes the lease"), 2);
    let ledger = storage.load_ledger().await.expect("loads");
    let head = ledger.head.expect("a head");
    assert_eq!(facts(&head), (second.digest(), candidate(second), Some(cert(Kind::Final, 3))));
    assert_eq!(ledger.candidates, [candidate(header(4, 4, vec![]))], "those above the head");
    assert_eq!(ledger.batches, [(pending.reference(pending.digest()), 2, 31)]);
    assert_eq!(ledger.included, [(final_one.digest(), 30)]);
    let found = storage.load_state().await.expect("loads").expect("applied");
    assert_eq!((found.height, found.state_root), (1, state(1).state_root));
    assert_eq!(sorted(found), sorted(state(1)));
}

async fn batches_and_blocks_come_back_as_they_went_in(site: Site) {
    let storage = site.ready().await;
    let batches: Vec<_> = (0..40).map(|seq| batch(u64::MAX - seq, u64::MAX, 300)).collect();
    storage.commit_batches(batches.iter().map(batch_write).collect()).await.expect("2.5 MB of batches");
    let headers = [header(1, 1, batches[..20].iter().collect()), header(2, 2, batches[20..].iter().rev().collect())];
    storage.commit_blocks(headers.iter().map(|h| block_write(h.clone(), None)).collect()).await.expect("blocks");

    let found = storage.blocks(1, 2, usize::MAX).await.expect("reads");
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].1.batches, batches[..20]);
    assert!(found[1].1.batches.iter().eq(batches[20..].iter().rev()), "in the order of the header");
    for ((stored, block), header) in found.iter().zip(&headers) {
        assert_eq!((&stored.candidate.header, &block.header), (header, header));
        let same = storage.block_by_digest(header.digest()).await.expect("reads").expect("there");
        assert_eq!(facts(&same), facts(stored));
    }
    let asked = vec![batches[7].digest(), Hash([1; 32]), batches[3].digest()];
    let got = storage.batches(asked).await.expect("reads");
    assert_eq!(got, [&batches[7], &batches[3]].map(|b| (b.digest(), Arc::new(b.clone()))));
    let pending = batch(u64::MAX - 99, u64::MAX, 1);
    storage.commit_batches(vec![batch_write(&pending)]).await.expect("a batch");
    let ledger = storage.load_ledger().await.expect("loads");
    assert_eq!(ledger.batches[0].1, u64::MAX - 99, "the author's seq in full");
    assert_eq!(ledger.included.len(), 40);
}

async fn blocks_are_cut_by_bytes_but_never_to_none(site: Site) {
    let storage = site.ready().await;
    let batches: Vec<_> = (0..4).map(|seq| batch(seq, 9, 100)).collect();
    storage.commit_batches(batches.iter().map(batch_write).collect()).await.expect("batches");
    let blocks = batches.iter().zip(1..).map(|(batch, height)| block_write(header(height, height, vec![batch]), None));
    storage.commit_blocks(blocks.collect()).await.expect("blocks");
    let size = batches[0].encoded_len();
    let count = async |from, to, bytes| storage.blocks(from, to, bytes).await.expect("reads").len();
    assert_eq!(count(1, 4, 2 * size + 10).await, 2);
    assert_eq!(count(2, 4, 0).await, 1);
    assert_eq!(count(2, 9, usize::MAX).await, 3);
    assert_eq!(count(5, 9, usize::MAX).await, 0);
}

async fn known_batches_and_blocks_are_no_error_but_another_block_is(site: Site) {
    let storage = site.ready().await;
    let batch = batch(1, 9, 1);
    let block = block_write(header(1, 1, vec![&batch]), None);
    for _ in 0..2 {
        storage.commit_batches(vec![batch_write(&batch), batch_write(&batch)]).await.expect("batches");
        storage.commit_blocks(vec![block.clone()]).await.expect("blocks");
    }
    let next = block_write(header(2, 2, vec![]), None);
    storage.commit_blocks(vec![block, next]).await.expect("one known, one new");
    let mut other = header(1, 1, vec![&batch]);
    other.time_ms += 1;
    let outcome = storage.commit_blocks(vec![block_write(other, None)]).await;
    assert!(matches!(&outcome, Err(StorageError::Corrupt(text)) if text.contains("block 1 is 0x")), "{outcome:?}");
}

async fn a_block_whose_batch_is_missing_is_refused(site: Site) {
    let storage = site.ready().await;
    let outcome = storage.commit_blocks(vec![block_write(header(1, 1, vec![&batch(1, 9, 1)]), None)]).await;
    assert!(matches!(&outcome, Err(StorageError::Corrupt(text)) if text.contains("names 1 batches")), "{outcome:?}");
    assert!(storage.block(1).await.expect("reads").is_none());
}

async fn batches_that_expired_outside_a_block_are_deleted(site: Site) {
    let storage = site.ready().await;
    let (final_one, late, open) = (batch(1, 4, 1), batch(2, 4, 1), batch(3, 5, 1));
    storage.commit_batches([&final_one, &late, &open].map(batch_write).to_vec()).await.expect("batches");
    storage.commit_blocks(vec![block_write(header(1, 1, vec![&final_one]), None)]).await.expect("blocks");
    storage.prune((0, 0), 5).await.expect("prunes");
    let left = storage.batches(vec![final_one.digest(), late.digest(), open.digest()]).await.expect("reads");
    let left: Vec<Hash> = left.into_iter().map(|(digest, _)| digest).collect();
    assert_eq!(left, [final_one.digest(), open.digest()]);
}

async fn e8_batches_that_no_later_block_includes_are_deleted_however_late_they_expire(site: Site) {
    let storage = site.ready().await;
    let of = |epoch: u64| Batch { epoch, ..batch(epoch, i64::MAX as u64, 1) };
    let (included, batches) = (batch(9, 99, 1), [3, 4, 5].map(of));
    storage.commit_batches(batches.iter().chain([&included]).map(batch_write).collect()).await.expect("batches");
    storage.commit_blocks(vec![block_write(header(1, 1, vec![&included]), None)]).await.expect("blocks");
    let digests: Vec<Hash> = batches.iter().chain([&included]).map(Batch::digest).collect();
    for (floor, left) in [((4, 9), &digests[..]), ((5, 0), &digests[1..])] {
        storage.prune(floor, 1).await.expect("prunes");
        let found = storage.batches(digests.clone()).await.expect("reads");
        let found: Vec<Hash> = found.into_iter().map(|(digest, _)| digest).collect();
        assert_eq!(found, left, "floor {floor:?}");
    }
    if matches!(site, Site::Sqlite(_)) {
        assert_eq!(site.number("SELECT count(*) FROM batch_bytes").await, 3);
    }
}

/// Calls until nothing is left to delete; gives the marks on the way.
async fn forget(storage: &Arc<dyn Storage>, below: u64) -> Vec<u64> {
    let mut marks = vec![storage.lowest()];
    loop {
        let lowest = storage.forget_bodies(below).await.expect("deletes");
        assert_eq!(storage.lowest(), lowest);
        if marks.last() == Some(&lowest) {
            return marks;
        }
        marks.push(lowest);
    }
}

async fn batches_of_old_blocks_go_in_steps_and_headers_and_certificates_stay(site: Site) {
    let storage = site.ready().await;
    let batches: Vec<_> = (1..=200).map(|height| batch(height, height + 9, 1)).collect();
    storage.commit_batches(batches.iter().map(batch_write).collect()).await.expect("batches");
    let block = |(height, batch)| block_write(header(height, height, vec![batch]), Some(cert(Kind::Final, height)));
    storage.commit_blocks((1..).zip(&batches).map(block).collect()).await.expect("blocks");
    assert_eq!(forget(&storage, 151).await, [1, 65, 129, 151], "64 blocks a step");

    let headers = storage.headers(1, 200).await.expect("reads");
    assert_eq!(headers.len(), 200);
    assert!(headers.iter().all(|stored| stored.cert.is_some() && stored.candidate.header.batches.len() == 1));
    assert_eq!(storage.blocks(151, 200, usize::MAX).await.expect("reads").len(), 50);
    assert!(matches!(storage.blocks(150, 150, usize::MAX).await, Err(StorageError::Corrupt(_))));
    let left = storage.batches(batches.iter().map(|b| b.digest()).collect()).await.expect("reads");
    assert_eq!(left.iter().map(|(digest, _)| *digest).collect::<Vec<_>>(), digests(&batches[150..]));
    let rows = format!("SELECT count(*) FROM {}", site.ledger("batches"));
    assert_eq!(site.number(&rows).await, 50);
    storage.close().await;
    assert_eq!(site.open().await.lowest(), 151, "a start knows");
}

async fn what_was_deleted_is_known_to_the_next_holder_of_the_lease_and_never_falls(site: Site) {
    let (storage, next) = (site.ready().await, site.open().await);
    let block = |height| block_write(header(height, height, vec![]), None);
    storage.commit_blocks((1..=200).map(block).collect()).await.expect("blocks");
    assert_eq!((forget(&storage, 151).await.last(), next.lowest()), (Some(&151), 1));
    next.take_lease("next".to_owned()).await.expect("takes the lease");
    assert_eq!(next.lowest(), 151);
    let meta = site.ledger("meta");
    site.execute(&format!("UPDATE {meta} SET value = '1000' WHERE name = 'lowest_batches'")).await;
    assert_eq!(next.forget_bodies(171).await.expect("deletes"), 171);
    let stored = format!("SELECT CAST(value AS BIGINT) FROM {meta} WHERE name = 'lowest_batches'");
    assert_eq!(site.number(&stored).await, 1_000, "the greater number, not the greater text");
}

fn digests(batches: &[aitbc_core::batch::Batch]) -> Vec<Hash> {
    batches.iter().map(|batch| batch.digest()).collect()
}

async fn a_step_deletes_no_more_than_a_mebibyte_but_at_least_one_block(site: Site) {
    let storage = site.ready().await;
    // What counts is what the headers say of the sizes.
    let block = |height: u64, kib: u32| {
        let mut header = header(height, height, vec![&batch(height, 9, 1)]);
        header.batches[0].bytes = kib << 10;
        header
    };
    let headers = [(1, 500), (2, 500), (3, 30), (4, 2_000), (5, 1), (6, 1)].map(|(height, kib)| block(height, kib));
    storage.commit_batches((1..=6).map(|h| batch_write(&batch(h, 9, 1))).collect()).await.expect("batches");
    storage.commit_blocks(headers.map(|h| block_write(h, None)).to_vec()).await.expect("blocks");
    assert_eq!(forget(&storage, 6).await, [1, 3, 4, 5, 6]);
}

async fn outcomes_go_with_their_blocks_and_the_others_are_found(site: Site) {
    let storage = site.ready().await;
    storage.commit_blocks((1..=7).map(|h| block_write(header(h, h, vec![]), None)).collect()).await.expect("blocks");
    // The index by id is in runs of 65,536: the first one goes wholly.
    for height in 1..=7 {
        let transactions = (0..12_000).map(|index| transaction_row(height, index)).collect();
        storage.apply_state(StateWrite { transactions, ..state(height) }).await.expect("applies");
    }
    assert_eq!(forget(&storage, 7).await, [1, 7]);
    let found = async |height, index| storage.transaction(transaction_row(height, index).id).await.expect("reads");
    for index in [0, 11_999] {
        assert!(found(6, index).await.is_none(), "deleted");
        assert_eq!(found(7, index).await.map(|row| (row.height, row.index)), Some((7, index)));
    }
    assert_eq!(storage.transactions(None, 1_000, 11_500).await.expect("reads").len(), 500);
    let transactions = vec![transaction_row(8, 0)];
    storage.apply_state(StateWrite { transactions, ..state(8) }).await.expect("goes on");
    assert!(found(8, 0).await.is_some());
}

async fn a_state_that_is_on_disk_tells_its_height(site: Site) {
    let storage = site.open().await;
    storage.take_lease("test".to_owned()).await.expect("takes the lease");
    assert_eq!(storage.flush_state().await.expect("flushes"), None, "there is none yet");
    storage.reset_state(state(0)).await.expect("writes genesis");
    assert_eq!(storage.flush_state().await.expect("flushes"), Some(0));
    storage.apply_state(state(2)).await.expect("applies");
    assert_eq!(storage.flush_state().await.expect("flushes"), Some(2));
}

async fn the_state_grows_by_height_and_never_goes_back(site: Site) {
    let storage = site.ready().await;
    storage.apply_state(state(2)).await.expect("applies");
    for known in [1, 2] {
        storage.apply_state(state(known)).await.expect("known already");
    }
    let found = storage.load_state().await.expect("loads").expect("applied");
    assert_eq!((found.height, found.results_root), (2, state(2).results_root));
    assert_eq!(sorted(found), sorted(state(2)));
    assert!(storage.transaction(transaction_row(1, 0).id).await.expect("reads").is_none());
    let new = StateWrite { accounts: vec![(address(99), 5, 0)], transactions: Vec::new(), ..state(3) };
    storage.apply_state(new).await.expect("applies");
    assert_eq!(storage.load_state().await.expect("loads").expect("applied").accounts.len(), 8);
}

async fn a_transaction_included_twice_keeps_its_first_outcome(site: Site) {
    let storage = site.ready().await;
    let first = transaction_row(1, 0);
    let again = |height, index| aitbc_node::storage::TransactionRow { height, index, code: 9, ..first.clone() };
    let write = |height, rows| StateWrite { transactions: rows, ..state(height) };
    storage.apply_state(write(1, vec![first.clone(), again(1, 1)])).await.expect("twice in a block");
    storage.apply_state(write(2, vec![again(2, 0), transaction_row(2, 1)])).await.expect("in the next one too");
    let found = storage.transaction(first.id).await.expect("reads").expect("there");
    assert_eq!((found.height, found.index, found.code), (1, 0, first.code));
    assert_eq!(storage.transactions(None, 9, 0).await.expect("reads").len(), 4, "each inclusion is listed");
}

/// The index by id is in runs of 65,536.
async fn a_transaction_is_found_in_every_run_of_the_index(site: Site) {
    let storage = site.ready().await;
    for height in 1..=7 {
        let transactions = (0..10_000).map(|index| transaction_row(height, index)).collect();
        storage.apply_state(StateWrite { transactions, ..state(height) }).await.expect("applies");
    }
    for (height, index) in [(1, 0), (7, 5_535), (7, 5_536), (7, 9_999)] {
        let found = storage.transaction(transaction_row(height, index).id).await.expect("reads").expect("there");
        assert_eq!((found.height, found.index), (height, index));
    }
    assert!(storage.transaction(transaction_row(8, 0).id).await.expect("reads").is_none());
}

async fn records_are_set_replaced_removed_and_loaded(site: Site) {
    let storage = site.ready().await;
    let with = |height, records| StateWrite { records, ..state(height) };
    let many: Vec<_> = (0..700).map(record).collect();
    storage.apply_state(with(1, many.clone())).await.expect("many at once");
    let changed = (many[1].0.clone(), Some(Record::Evidence { slot: 77, height: 2 }));
    let gone: Vec<_> = many[2..].iter().map(|(key, _)| (key.clone(), None)).collect();
    storage.apply_state(with(2, [vec![changed.clone(), record(900)], gone].concat())).await.expect("applies");
    let found = storage.load_state().await.expect("loads").expect("applied");
    let mut records = found.records.clone();
    records.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(records, [many[0].clone(), changed.clone(), record(900)]);
    assert_eq!(found.state().record(&changed.0), changed.1.as_ref());
    storage.reset_state(with(0, vec![record(5)])).await.expect("resets");
    assert_eq!(storage.load_state().await.expect("loads").map(|s| s.records), Some(vec![record(5)]));
}

async fn records_of_receipts_and_escrows_outlive_a_restart_and_change(site: Site) {
    let storage = site.ready().await;
    let with = |height, records| StateWrite { records, ..state(height) };
    let loaded = async |storage: &Arc<dyn Storage>| {
        let found = storage.load_state().await.expect("loads").expect("applied");
        let mut records = found.records;
        records.sort_by(|a, b| a.0.cmp(&b.0));
        records
    };
    storage.apply_state(with(1, receipt_records(1))).await.expect("applies");
    storage.close().await;

    let storage = site.open().await;
    assert_eq!(loaded(&storage).await, [vec![record(0)], receipt_records(1)].concat());
    storage.take_lease("again".to_owned()).await.expect("takes the lease");
    // The same keys with other values, and the last one, an escrow that is refunded, gone.
    let mut changed = receipt_records(u64::MAX);
    changed.last_mut().expect("an escrow").1 = None;
    storage.apply_state(with(2, changed.clone())).await.expect("applies");
    changed.pop();
    assert_eq!(loaded(&storage).await, [vec![record(0)], changed].concat());
}

async fn s3_what_the_last_block_changed_is_kept_for_the_state_as_applied_only(site: Site) {
    let storage = site.ready().await;
    let accounts = vec![(address(1), Account { balance: 9, nonce: 1 }), (address(2), Account::default())];
    let records = vec![record(3), (record(4).0, None)];
    let undo = |height| Undo { height, accounts: accounts.clone(), records: records.clone() };
    assert_eq!(storage.undo().await.expect("reads"), None);
    storage.apply_state(state(5)).await.expect("applies");
    assert!(!storage.commit_undo(undo(4)).await.expect("no error"));
    assert!(storage.commit_undo(undo(5)).await.expect("stored"));
    assert_eq!(storage.undo().await.expect("reads"), Some(undo(5)));
    storage.apply_state(state(6)).await.expect("applies");
    assert!(storage.commit_undo(undo(6)).await.expect("stored"), "in place of the other");
    let second = site.open().await;
    second.take_lease("second".to_owned()).await.expect("takes over");
    assert!(!storage.commit_undo(Undo { accounts: Vec::new(), ..undo(6) }).await.expect("no error"), "fenced");
    assert_eq!(second.undo().await.expect("reads"), Some(undo(6)));
}

async fn evidence_is_read_without_the_other_records(site: Site) {
    let storage = site.ready().await;
    let records = [vec![record(5), record(2)], receipt_records(5)].concat();
    storage.apply_state(StateWrite { records, ..state(5) }).await.expect("applies");
    let expected = [0, 2, 5].map(|n| (record(n).0, record(n).1.expect("a record")));
    assert_eq!(storage.evidence().await.expect("reads"), (5, expected.to_vec()));
    storage.reset_state(StateWrite { records: receipt_records(1), ..state(3) }).await.expect("resets");
    assert_eq!(storage.evidence().await.expect("reads"), (3, Vec::new()));
}

async fn a_reset_forgets_the_state_before(site: Site) {
    let storage = site.ready().await;
    storage.apply_state(state(5)).await.expect("applies");
    let genesis = StateWrite { accounts: vec![(address(1), 7, 0)], ..state(0) };
    storage.reset_state(genesis.clone()).await.expect("resets");
    assert_eq!(storage.load_state().await.expect("loads").map(|s| (s.height, s.accounts)), Some((0, genesis.accounts)));
    assert!(storage.transactions(None, 9, 0).await.expect("reads").is_empty());
    storage.apply_state(state(1)).await.expect("grows again");
}

async fn transactions_are_listed_newest_first(site: Site) {
    let storage = site.ready().await;
    for height in 1..=3 {
        let transactions = (0..1_000).map(|index| transaction_row(height, index)).collect();
        storage.apply_state(StateWrite { transactions, ..state(height) }).await.expect("applies");
    }
    let place = |row: &aitbc_node::storage::TransactionRow| (row.height, row.index);
    let all = storage.transactions(None, 3, 1).await.expect("reads");
    assert_eq!(all.iter().map(place).collect::<Vec<_>>(), [(3, 998), (3, 997), (3, 996)]);
    let own = storage.transactions(Some(address(2)), 2, 0).await.expect("reads");
    assert_eq!(own.iter().map(place).collect::<Vec<_>>(), [(3, 996), (3, 989)]);
    assert!(storage.transactions(Some(address(99)), 2, 0).await.expect("reads").is_empty());
    let expected = transaction_row(2, 500);
    let found = storage.transaction(expected.id).await.expect("reads").expect("there");
    assert_eq!((found.height, found.index, found.code, found.nonce), (2, 500, 2, expected.nonce));
    assert_eq!((found.sender, found.batch), (expected.sender, expected.batch));
}

async fn receipts_are_found_by_their_names_and_provider_newest_first(site: Site) {
    let storage = site.ready().await;
    // Of each provider one a height; jobs and receipts are called the same by both.
    for height in 1..=3 {
        let receipts = (0..2).map(|provider| receipt_row(height, provider)).collect();
        storage.apply_state(StateWrite { receipts, ..state(height) }).await.expect("applies");
    }
    let found = async |of: ReceiptsOf, limit, offset| storage.receipts(of, limit, offset).await.expect("reads");
    let row = receipt_row;
    assert_eq!(found(ReceiptsOf::Everybody, 3, 1).await, (vec![row(3, 0), row(2, 1), row(2, 0)], 6));
    let second = row(2, 1).attested.receipt;
    assert_eq!(found(ReceiptsOf::Receipt(second.receipt_id), 9, 0).await, (vec![row(2, 1), row(2, 0)], 2));
    assert_eq!(found(ReceiptsOf::Job(second.job_id), 1, 1).await, (vec![row(2, 0)], 2));
    let provider = ReceiptsOf::Provider(second.provider.address());
    assert_eq!(found(provider, 9, 0).await, (vec![row(3, 1), row(2, 1), row(1, 1)], 3));
    assert_eq!(found(ReceiptsOf::Provider(address(99)), 9, 0).await, (Vec::new(), 0));
    assert_eq!(storage.transaction_count().await.expect("reads"), 6);
}

async fn receipts_go_with_their_blocks_and_with_the_state(site: Site) {
    let storage = site.ready().await;
    storage.commit_blocks((1..=3).map(|h| block_write(header(h, h, vec![]), None)).collect()).await.expect("blocks");
    for height in 1..=3 {
        let receipts = vec![receipt_row(height, 0)];
        storage.apply_state(StateWrite { receipts, ..state(height) }).await.expect("applies");
    }
    assert_eq!(forget(&storage, 3).await, [1, 3]);
    let kept = storage.receipts(ReceiptsOf::Everybody, 9, 0).await.expect("reads");
    assert_eq!(kept, (vec![receipt_row(3, 0)], 1));
    storage.reset_state(state(0)).await.expect("resets");
    assert_eq!(storage.receipts(ReceiptsOf::Everybody, 9, 0).await.expect("reads"), (Vec::new(), 0));
}

async fn many_callers_at_once_are_all_served(site: Site) {
    let storage = site.ready().await;
    let calls = (1..=500u64).map(|slot| {
        let storage = storage.clone();
        tokio::spawn(async move {
            storage.commit_votes(vec![vote_write(Kind::Skip, slot)]).await?;
            storage.commit_batches(vec![batch_write(&batch(slot, 9, 20))]).await
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no panic").expect("stored");
    }
    let ledger = storage.load_ledger().await.expect("loads");
    assert_eq!((ledger.votes.len(), ledger.batches.len()), (500, 500));
}

async fn closing_flushes_and_then_refuses(site: Site) {
    let storage = site.ready().await;
    let calls = (1..=100u64).map(|slot| {
        let storage = storage.clone();
        tokio::spawn(async move { storage.commit_votes(vec![vote_write(Kind::Skip, slot)]).await })
    });
    let calls: Vec<_> = calls.collect();
    tokio::task::yield_now().await;
    storage.close().await;
    let mut stored = 0;
    for call in calls {
        stored += usize::from(call.await.expect("no panic").is_ok());
    }
    assert!(storage.commit_votes(vec![vote_write(Kind::Skip, 101)]).await.is_err(), "closed");
    let storage = site.ready().await;
    assert_eq!(storage.load_ledger().await.expect("loads").votes.len(), stored);
}

async fn calls_and_failures_are_measured(site: Site) {
    let metrics = metrics();
    let storage = aitbc_node::storage::open(&site.url(), owner(), metrics.clone()).await.expect("opens");
    storage.commit_votes(vec![vote_write(Kind::Skip, 1)]).await.expect_err("no lease");
    storage.take_lease("test".to_owned()).await.expect("takes the lease");
    storage.commit_votes(vec![vote_write(Kind::Skip, 1)]).await.expect("votes");
    let text = metrics.render().expect("renders");
    for line in [
        "blockchain_database_seconds_count{operation=\"commit_votes\"} 2",
        "blockchain_database_errors_total{operation=\"commit_votes\"} 1",
        "blockchain_queue_depth{queue=\"storage_votes\"} 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
