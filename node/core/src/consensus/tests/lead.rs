//! C7: leading.

use super::rig::*;
use crate::block::{Candidate, Header};
use crate::consensus::input::{Input, Recovered};
use crate::consensus::output::{Output, Rows};
use crate::hash::Hash;
use crate::params::Parameters;
use crate::vote::{Kind, Vote};

/// The candidate in the first Notar write.
fn built(rig: &Rig) -> Option<Candidate> {
    rig.writes().into_iter().find_map(|write| match write.rows {
        Rows::Notar { candidate, .. } => Some(*candidate),
        _ => None,
    })
}

#[test]
fn c7_the_leader_builds_persists_and_only_then_proposes() {
    let mut rig = Rig::new(4, 0);
    rig.durable_batch(2, 1, 9);
    rig.pass(5);
    let Some(candidate) = built(&rig) else { panic!("built") };
    assert_eq!(candidate.header.batches, [batch(2, 9)]);
    let time_ms = candidate.header.time_ms;
    assert_eq!(candidate.header, Header { batches: vec![batch(2, 9)], time_ms, ..rig.header(1, &genesis()) });
    assert!(rig.sent_proposals().is_empty(), "P5");
    assert_eq!(rig.asked_to_execute(), [candidate.header.digest()], "execution overlaps");
    rig.serve();
    let proposals = rig.sent_proposals();
    assert_eq!(proposals.len(), 1);
    assert!(
        proposals[0].candidate.vote(candidate.header.digest()).verifies(&chain(), &rig.config.set.members()[0].key)
    );
    assert!(rig.sent_votes().is_empty(), "D2: the proposal carries the vote");
}

#[test]
fn c7_nothing_without_a_reason() {
    let mut rig = Rig::new(4, 0);
    rig.pass(900);
    assert!(built(&rig).is_none());
}

#[test]
fn c7_not_in_anothers_slot() {
    let mut rig = Rig::new(4, 1);
    rig.durable_batch(2, 1, 9);
    rig.pass(100);
    assert!(built(&rig).is_none());
}

#[test]
fn c7_once_a_slot_even_while_reserved() {
    let mut rig = Rig::new(4, 0);
    rig.durable_batch(2, 1, 9);
    rig.pass(5);
    rig.durable_batch(2, 2, 10);
    rig.pass(100);
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1)]);
}

#[test]
fn c7_min_slot_after_the_parent() {
    let mut rig = Rig::with(&[1; 4], 1, Parameters { min_slot_ms: 15, ..Parameters::default() }, nothing());
    rig.final_block(1, &genesis());
    rig.take();
    rig.durable_batch(2, 1, 9);
    rig.pass(14);
    assert!(built(&rig).is_none());
    rig.pass(1);
    assert!(built(&rig).is_some(), "by its own timer");
}

#[test]
fn c7_a_parent_from_a_fast_clock_costs_min_slot_and_no_more() {
    let mut rig = Rig::new(4, 1);
    let header = Header { time_ms: rig.now.wall_ms + 400, ..rig.header(1, &genesis()) };
    let digest = rig.propose(header.clone());
    rig.serve();
    rig.cert(Kind::Notar, 1, digest);
    rig.durable_batch(2, 1, 9);
    rig.take();
    rig.pass(5);
    let Some(candidate) = built(&rig) else { panic!("built") };
    assert_eq!(candidate.header.time_ms, header.time_ms + 1);
}

#[test]
fn c7_builds_on_the_largest_notarized_base() {
    let mut rig = Rig::new(4, 3);
    let block = rig.final_block(1, &genesis());
    let second = rig.header(2, &block);
    let digest = rig.propose(second);
    rig.serve();
    rig.cert(Kind::Notar, 2, digest);
    rig.cert(Kind::Skip, 3, Hash::ZERO);
    rig.durable_batch(2, 1, 9);
    rig.take();
    rig.pass(5);
    let Some(candidate) = built(&rig) else { panic!("built") };
    assert_eq!((candidate.header.slot, candidate.header.parent_slot, candidate.header.height), (4, 2, 3));
    rig.serve();
    let proposals = rig.sent_proposals();
    let proof: Vec<_> = proposals[0].proof.iter().map(|c| (c.statement.kind, c.statement.slot)).collect();
    assert_eq!(proof, [(Kind::Notar, 2), (Kind::Skip, 3)], "F6");
}

#[test]
fn c7_the_base_must_be_executed() {
    let mut rig = Rig::new(4, 1);
    let first = rig.header(1, &genesis());
    let digest = rig.propose(first);
    rig.cert(Kind::Notar, 1, digest);
    rig.durable_batch(2, 1, 9);
    rig.pass(50);
    let own = |rig: &Rig| rig.persisted().iter().any(|s| s.slot == 2 && s.kind == Kind::Notar);
    assert!(!own(&rig));
    rig.give(Input::Executed { digest, roots: roots(digest), set: None });
    assert!(own(&rig));
}

#[test]
fn c7b_an_unresolved_base_gets_a_quarter_of_t0_and_then_a_lower_one_is_used() {
    let mut rig = Rig::new(4, 1);
    // Slot 1 is both notarized, with a candidate that is not here, and skipped.
    rig.cert(Kind::Notar, 1, Hash([9; 32]));
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    rig.durable_batch(2, 1, 9);
    rig.take();
    rig.pass(36);
    assert!(built(&rig).is_none());
    rig.pass(1);
    let Some(candidate) = built(&rig) else { panic!("built") };
    assert_eq!((candidate.header.slot, candidate.header.parent_slot), (2, 0));
    let mut rig = Rig::new(4, 1);
    rig.cert(Kind::Notar, 1, Hash([9; 32]));
    rig.durable_batch(2, 1, 9);
    rig.pass(100);
    assert!(built(&rig).is_none(), "no lower one without the Skip certificate");
}

#[test]
fn c7_a_lagging_state_writer_means_empty_blocks_at_leisure() {
    let mut rig = Rig::new(4, 0);
    rig.give(Input::Lagging(true));
    rig.durable_batch(2, 1, 9);
    rig.pass(36);
    assert!(built(&rig).is_none());
    rig.pass(1);
    assert_eq!(built(&rig).map(|c| c.header.batches.len()), Some(0));
}

#[test]
fn c7_after_a_restart_the_same_candidate_again() {
    let mut rig = Rig::new(4, 0);
    rig.durable_batch(2, 1, 9);
    rig.pass(5);
    rig.serve();
    let proposal = rig.sent_proposals().remove(0);
    let digest = proposal.candidate.header.digest();
    let vote = rig.sign(0, statement(Kind::Notar, 1, digest));
    let recovered = Recovered {
        votes: vec![vote],
        candidates: vec![proposal.candidate.clone()],
        batches: vec![(batch(2, 9), 1, EXPIRY), (batch(2, 10), 2, EXPIRY)],
        ..nothing()
    };
    let mut rig = Rig::recovered(4, 0, recovered);
    rig.pass(30);
    assert_eq!(rig.sent_proposals(), [proposal], "once, and nothing new");
    assert!(rig.persisted().is_empty());
}

#[test]
fn c7_not_after_a_restart_that_lost_nothing_but_the_candidate() {
    // A row without its candidate cannot be (P3); whatever happened, no other block is proposed.
    let rig = Rig::new(4, 0);
    let vote: Vote = rig.sign(0, statement(Kind::Notar, 1, Hash([5; 32])));
    let mut rig = Rig::recovered(4, 0, Recovered { votes: vec![vote], ..nothing() });
    rig.durable_batch(2, 1, 9);
    rig.pass(100);
    assert!(built(&rig).is_none() && rig.sent_proposals().is_empty());
}

#[test]
fn c7_a_batch_of_an_unfinal_ancestor_is_not_proposed_again() {
    let mut rig = Rig::new(4, 1);
    rig.durable_batch(0, 1, 9);
    rig.durable_batch(0, 2, 10);
    let header = Header { batches: vec![batch(0, 9)], ..rig.header(1, &genesis()) };
    let digest = rig.propose(header);
    rig.execute();
    rig.cert(Kind::Notar, 1, digest);
    rig.pass(6);
    let own = rig.writes().into_iter().find_map(|write| match write.rows {
        Rows::Notar { candidate, .. } if candidate.header.slot == 2 => Some(*candidate),
        _ => None,
    });
    assert_eq!(own.map(|c| c.header.batches), Some(vec![batch(0, 10)]));
}

#[test]
fn c12_a_batch_is_announced_to_a_silent_leader_once() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(2, 1, 9);
    let announced = |rig: &Rig| rig.out.iter().filter(|o| matches!(o, Output::Announce { to: 0, .. })).count();
    rig.pass(36);
    assert_eq!(announced(&rig), 0);
    rig.pass(60);
    assert_eq!(announced(&rig), 1);
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(2, 1, 9);
    let header = rig.header(1, &genesis());
    rig.propose(header);
    rig.pass(100);
    assert_eq!(announced(&rig), 0, "the leader is not silent");
}
