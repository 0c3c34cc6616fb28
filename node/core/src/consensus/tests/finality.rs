//! C19, C20 and block sync: final blocks out.

use super::rig::*;
use crate::block::Header;
use crate::consensus::input::{Input, Tip};
use crate::consensus::output::{Halt, Output};
use crate::hash::Hash;
use crate::params::KEEP_FINAL_SLOTS;
use crate::vote::Kind;

#[test]
fn c19_ancestors_are_final_with_their_descendant_and_come_first() {
    let mut rig = Rig::new(4, 3);
    let mut parent = genesis();
    for slot in 1..=3 {
        let header = rig.header(slot, &parent);
        let candidate = rig.candidate(header);
        rig.give_candidate(candidate.clone());
        rig.execute();
        rig.cert(Kind::Notar, slot, candidate.header.digest());
        parent = after(&candidate);
    }
    assert!(rig.finalized().is_empty());
    rig.cert(Kind::Final, 3, parent.digest);
    assert_eq!(rig.finalized(), [1, 2, 3]);
    let one = rig.out.iter().filter(|o| matches!(o, Output::Finalized { .. })).count();
    assert_eq!(one, 1);
}

#[test]
fn c19_waits_for_a_missing_ancestor_and_for_batches() {
    let mut rig = Rig::new(4, 3);
    let first = rig.header(1, &genesis());
    let first = Header { batches: vec![batch(0, 9)], ..first };
    let first = rig.candidate(first);
    let second = rig.header(2, &after(&first));
    let second = rig.candidate(second);
    rig.cert(Kind::Final, 2, second.header.digest());
    rig.give(Input::Cand { from: 1, candidate: second });
    rig.give(Input::Cand { from: 1, candidate: first.clone() });
    rig.serve();
    assert!(rig.finalized().is_empty() && rig.asked_to_execute().is_empty());
    rig.durable_batch(0, 1, 9);
    rig.serve();
    assert_eq!(rig.finalized(), [1, 2]);
    assert_eq!((rig.core.height(), rig.core.final_slot()), (2, 2));
}

#[test]
fn c19_a_block_is_let_out_after_its_execution_was_asked_for() {
    let mut rig = Rig::new(4, 3);
    rig.final_block(1, &genesis());
    let position = |test: fn(&Output) -> bool| rig.out.iter().position(test);
    let executed = position(|o| matches!(o, Output::Execute { .. }));
    let finalized = position(|o| matches!(o, Output::Finalized { .. }));
    assert!(executed.is_some() && executed < finalized);
}

#[test]
fn c20_what_lost_and_what_is_old_is_forgotten() {
    let mut rig = Rig::new(4, 3);
    let first = rig.header(1, &genesis());
    let loser = Header { time_ms: first.time_ms + 1, ..first.clone() };
    rig.propose(loser.clone());
    let mut parent = rig.final_block(1, &genesis());
    assert!(!rig.core.candidates.contains_key(&loser.digest()));
    for slot in 2..=399 {
        match rig.core.leader(slot) {
            3 => rig.cert(Kind::Skip, slot, Hash::ZERO),
            _ => parent = rig.final_block(slot, &parent),
        }
        rig.take();
    }
    assert_eq!(rig.core.kept.len() as u64, KEEP_FINAL_SLOTS);
    assert!(rig.core.candidates.len() <= 256 && rig.core.slots.is_empty());
    assert!(rig.core.open.is_empty() && rig.core.by_slot.is_empty() && rig.core.wants.is_empty());
    assert!(rig.core.awaited.is_empty() && rig.core.writes.is_empty());
}

#[test]
fn c21_a_final_chain_beside_the_last_final_block_halts() {
    let mut rig = Rig::new(4, 3);
    rig.final_block(1, &genesis());
    let fork = Header { time_ms: 77, ..rig.header(2, &genesis()) };
    let fork = rig.candidate(fork);
    rig.cert(Kind::Final, 2, fork.header.digest());
    rig.give(Input::Cand { from: 1, candidate: fork });
    assert_eq!(rig.halts(), [Halt::ContradictingCerts { slot: 1 }]);
}

#[test]
fn s1_synced_moves_tip_and_s_star_and_consensus_goes_on_from_there() {
    let mut rig = Rig::new(4, 3);
    let block = Hash([50; 32]);
    let tip = Tip { digest: block, slot: 60, height: 50, time_ms: WALL, roots: roots(block) };
    let cert = rig.others_cert(Kind::Final, 60, block);
    rig.give(Input::Synced {
        tip,
        cert,
        included: vec![(batch(0, 9).digest, EXPIRY)],
        nullifiers: Vec::new(),
        boundary: None,
    });
    assert_eq!((rig.core.final_slot(), rig.core.height(), rig.core.frontier()), (60, 50, 61));
    rig.serve();
    let parent = Parent { digest: block, slot: 60, height: 50, time_ms: WALL };
    let again = Header { batches: vec![batch(0, 9)], ..rig.header(61, &parent) };
    rig.propose(again);
    assert!(rig.persisted().is_empty(), "V6: its batch is included already");
    rig.final_block(61, &parent);
    assert_eq!(rig.finalized(), [51]);
}

#[test]
fn s1_synced_below_the_tip_changes_nothing() {
    let mut rig = Rig::new(4, 3);
    let first = rig.final_block(1, &genesis());
    rig.final_block(2, &first);
    let tip = Tip { digest: first.digest, slot: 1, height: 1, time_ms: first.time_ms, roots: roots(first.digest) };
    let cert = rig.others_cert(Kind::Final, 1, first.digest);
    rig.give(Input::Synced { tip, cert, included: Vec::new(), nullifiers: Vec::new(), boundary: None });
    assert_eq!((rig.core.final_slot(), rig.core.height(), rig.finalized()), (2, 2, vec![1, 2]), "nor let out again");
}

#[test]
fn s1_a_chain_above_the_synced_tip_is_linked_to_it() {
    let mut rig = Rig::new(4, 3);
    // A chain of 3; the certificate of the last comes first, then block sync brings the first two.
    let mut parent = genesis();
    let mut chain = Vec::new();
    for slot in 1..=3 {
        let header = rig.header(slot, &parent);
        let candidate = rig.candidate(header);
        parent = after(&candidate);
        chain.push(candidate);
    }
    rig.cert(Kind::Final, 3, parent.digest);
    rig.give(Input::Cand { from: 1, candidate: chain[2].clone() });
    let second = after(&chain[1]);
    let tip = Tip { digest: second.digest, slot: 2, height: 2, time_ms: second.time_ms, roots: roots(second.digest) };
    let cert = rig.others_cert(Kind::Final, 2, second.digest);
    rig.give(Input::Synced { tip, cert, included: Vec::new(), nullifiers: Vec::new(), boundary: None });
    rig.serve();
    assert_eq!(rig.finalized(), [3]);
}
