//! V1-V8 and H1-H5: what is refused, and what only waits.

use super::rig::*;
use crate::batch::BatchRef;
use crate::block::Header;
use crate::consensus::examine::{Hold, State};
use crate::consensus::input::Input;
use crate::consensus::output::Halt;
use crate::consensus::validity::{Invalid, check_alone, check_v4, check_v6_limits, check_v8};
use crate::hash::Hash;
use crate::vote::Kind;

/// The rule that a change of a good header of slot 2 breaks, alone or on its parent.
fn broken_by(change: impl FnOnce(&mut Header)) -> Option<Invalid> {
    let mut rig = Rig::new(4, 3);
    let block = rig.final_block(1, &genesis());
    let mut header = rig.header(2, &block);
    change(&mut header);
    if let Err(invalid) = check_alone(&header, &rig.config) {
        return Some(invalid);
    }
    let digest = rig.propose(header);
    match rig.core.state_of(&digest) {
        State::Invalid(invalid) => Some(invalid),
        State::Held(hold) => panic!("held: {hold:?}"),
        State::Votable => None,
    }
}

#[test]
fn v1_version_epoch_slots_and_leader() {
    assert_eq!(broken_by(|_| {}), None);
    assert_eq!(broken_by(|h| h.version = 2), Some(Invalid::Version));
    assert_eq!(broken_by(|h| h.version = 0), Some(Invalid::Version));
    assert_eq!(broken_by(|h| h.epoch = 1), Some(Invalid::Position));
    // Of four equal validators the same one leads there.
    assert_eq!(broken_by(|h| h.epoch = 4), Some(Invalid::Position));
    assert_eq!(broken_by(|h| h.parent_slot = 2), Some(Invalid::Position));
    assert_eq!(broken_by(|h| h.proposer = 2), Some(Invalid::Position));
    assert_eq!(broken_by(|h| h.slot = 3), Some(Invalid::Position));
}

#[test]
fn v1_the_leaders_signature() {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let mut candidate = rig.candidate(header.clone());
    candidate.signature.0[0] ^= 1;
    rig.give_candidate(candidate);
    assert_eq!(rig.dropped(), ["candidate_signature"]);
    let by_another =
        crate::block::Candidate { signature: rig.sign(1, header.notar(header.digest())).signature, header };
    rig.give_candidate(by_another);
    assert!(rig.core.candidates.is_empty() && rig.persisted().is_empty());
}

#[test]
fn v2_height_and_parent_slot() {
    assert_eq!(broken_by(|h| h.height = 3), Some(Invalid::Parent));
    assert_eq!(broken_by(|h| h.height = 1), Some(Invalid::Parent));
    assert_eq!(broken_by(|h| h.parent_slot = 0), Some(Invalid::Parent));
}

#[test]
fn v3_set_hashes() {
    assert_eq!(broken_by(|h| h.set_hash = Hash::ZERO), Some(Invalid::Sets));
    assert_eq!(broken_by(|h| h.next_set_hash = Hash::ZERO), Some(Invalid::Sets));
}

#[test]
fn v4_time_grows() {
    assert_eq!(broken_by(|h| h.time_ms = 0), Some(Invalid::Time));
    let parent = crate::consensus::state::facts_of(&crate::consensus::input::Tip { time_ms: 10, ..genesis_tip() });
    let rig = Rig::new(1, 0);
    let at = |time_ms| Header { time_ms, ..rig.header(1, &genesis()) };
    assert!(check_v4(&at(10), &parent).is_err() && check_v4(&at(11), &parent).is_ok());
}

#[test]
fn v5_roots_are_those_of_the_own_execution() {
    assert_eq!(broken_by(|h| h.parent_state_root = Hash::ZERO), Some(Invalid::Roots));
    assert_eq!(broken_by(|h| h.parent_results_root = Hash::ZERO), Some(Invalid::Roots));
}

#[test]
fn c21_v5_of_a_certified_candidate_halts() {
    let mut rig = Rig::new(4, 3);
    let header = Header { parent_state_root: Hash::ZERO, ..rig.header(1, &genesis()) };
    let digest = rig.propose(header);
    assert!(rig.halts().is_empty(), "a bad leader is no reason");
    rig.cert(Kind::Notar, 1, digest);
    assert_eq!(rig.halts(), [Halt::Diverged { height: 0, digest }]);
    assert!(rig.persisted().is_empty());
}

#[test]
fn v6_limits_authors_and_doubles() {
    let rig = Rig::new(4, 3);
    let ok =
        |batches: Vec<BatchRef>| check_v6_limits(&Header { batches, ..rig.header(1, &genesis()) }, &rig.config).is_ok();
    let many = |n: u8| (0..n).map(|i| batch(0, i)).collect::<Vec<_>>();
    assert!(ok(many(64)) && !ok(many(65)));
    assert!(!ok(vec![batch(0, 1), batch(0, 1)]), "twice");
    assert!(ok(vec![BatchRef { bytes: 2 << 20, ..batch(0, 1) }]));
    assert!(!ok(vec![BatchRef { bytes: 2 << 20, ..batch(0, 1) }, BatchRef { bytes: 1, ..batch(0, 2) }]));
    assert!(ok(vec![BatchRef { txs: 16_384, ..batch(0, 1) }]));
    assert!(!ok(vec![BatchRef { txs: 16_384, ..batch(0, 1) }, BatchRef { txs: 1, ..batch(0, 2) }]));
    assert!(!ok(vec![batch(4, 1)]), "no such author");
    assert!(!ok(vec![BatchRef { epoch: 1, ..batch(0, 1) }]));
}

/// State of a proposal for slot 1 naming these batches, where 0:1 (name 9) is durable.
fn state_with(batches: Vec<BatchRef>, height: impl FnOnce(&mut Rig)) -> State {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    height(&mut rig);
    let header = Header { batches, ..rig.header(1, &genesis()) };
    let digest = rig.propose(header);
    rig.core.state_of(&digest)
}

#[test]
fn v6_references_match_the_batches() {
    assert_eq!(state_with(vec![batch(0, 9)], |_| {}), State::Votable);
    for wrong in [
        BatchRef { bytes: 999, ..batch(0, 9) },
        BatchRef { txs: 11, ..batch(0, 9) },
        BatchRef { author: 1, ..batch(0, 9) },
    ] {
        assert_eq!(state_with(vec![wrong], |_| {}), State::Invalid(Invalid::Batches));
    }
}

#[test]
fn v6_an_expired_batch() {
    let state = |expiry_height| {
        state_with(vec![batch(1, 8)], |rig| {
            rig.give(Input::BatchDurable { reference: batch(1, 8), seq: 1, expiry_height });
        })
    };
    assert_eq!(state(1), State::Votable, "height 1 may");
    assert_eq!(state(0), State::Held(Hold::Batches), "expired before it came: never taken in");
}

#[test]
fn v6_a_batch_that_expires_below_the_block_or_too_far_above_is_invalid() {
    let child_with = |expiry_height| {
        let mut rig = Rig::new(4, 3);
        rig.give(Input::BatchDurable { reference: batch(1, 8), seq: 1, expiry_height });
        let parent = rig.header(1, &genesis());
        let parent = rig.candidate(parent);
        rig.give_candidate(parent.clone());
        rig.execute();
        rig.cert(Kind::Notar, 1, parent.header.digest());
        let child = Header { batches: vec![batch(1, 8)], ..rig.header(2, &after(&parent)) };
        let digest = rig.propose(child);
        rig.core.state_of(&digest)
    };
    assert_eq!(child_with(2), State::Votable);
    assert_eq!(child_with(1), State::Invalid(Invalid::Batches), "still known, as its parent is not final");
    assert_eq!(child_with(u64::MAX), State::Invalid(Invalid::Batches), "would have to be remembered for ever");
}

#[test]
fn v6_no_batch_of_an_ancestor_final_or_not() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    let parent = Header { batches: vec![batch(0, 9)], ..rig.header(1, &genesis()) };
    let parent = rig.candidate(parent);
    rig.give_candidate(parent.clone());
    rig.execute();
    rig.cert(Kind::Notar, 1, parent.header.digest());
    let child = Header { batches: vec![batch(0, 9)], ..rig.header(2, &after(&parent)) };
    let digest = rig.propose(child);
    assert_eq!(rig.core.state_of(&digest), State::Invalid(Invalid::Batches), "of an unfinal one");
    rig.cert(Kind::Final, 1, parent.header.digest());
    rig.serve();
    let mut other = rig.header(2, &after(&parent));
    other.batches = vec![batch(0, 9)];
    other.time_ms += 5;
    let digest = rig.propose(other);
    assert_eq!(rig.core.state_of(&digest), State::Invalid(Invalid::Batches), "of a final one");
}

#[test]
fn v8_a_header_of_more_than_64_kib() {
    let rig = Rig::new(4, 3);
    let with = |n: usize| Header { batches: vec![batch(0, 1); n], ..rig.header(1, &genesis()) };
    assert!(check_v8(&with(64)).is_ok());
    assert!(check_v8(&with(1_500)).is_err());
}

#[test]
fn h1_a_time_ahead_of_the_own_clock_waits() {
    let mut rig = Rig::new(4, 3);
    let header = Header { time_ms: rig.now.wall_ms + 500 + 40, ..rig.header(1, &genesis()) };
    let digest = rig.propose(header);
    assert_eq!(rig.core.state_of(&digest), State::Held(Hold::Time(rig.now.wall_ms + 40)));
    assert_eq!(rig.asked_to_execute(), [digest], "execution does not wait");
    rig.pass(39);
    assert!(rig.persisted().is_empty());
    rig.pass(1);
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1)], "by its own timer");
}

#[test]
fn h2_the_parent_must_be_executed() {
    let mut rig = Rig::new(4, 3);
    let parent = rig.header(1, &genesis());
    let parent = rig.candidate(parent);
    rig.give_candidate(parent.clone());
    rig.cert(Kind::Notar, 1, parent.header.digest());
    let child = rig.header(2, &after(&parent));
    let digest = rig.propose(child);
    assert_eq!(rig.core.state_of(&digest), State::Held(Hold::Parent));
    assert_eq!(rig.asked_to_execute(), [parent.header.digest()]);
    rig.give(Input::Executed { digest: parent.header.digest(), roots: roots(parent.header.digest()), set: None });
    assert!(rig.persisted_kinds().contains(&(Kind::Notar, 2)));
    assert_eq!(rig.asked_to_execute().len(), 2);
}

#[test]
fn h3_every_batch_must_be_durable_here() {
    let mut rig = Rig::new(4, 3);
    let header = Header { batches: vec![batch(0, 8), batch(1, 9)], ..rig.header(1, &genesis()) };
    let digest = rig.propose(header);
    assert_eq!(rig.core.state_of(&digest), State::Held(Hold::Batches));
    rig.durable_batch(1, 1, 9);
    assert!(rig.persisted().is_empty() && rig.asked_to_execute().is_empty());
    rig.durable_batch(0, 1, 8);
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1)]);
}

#[test]
fn h4_the_chain_down_to_the_tip_must_be_here() {
    let mut rig = Rig::new(4, 3);
    let parent = rig.header(1, &genesis());
    let parent = rig.candidate(parent);
    rig.cert(Kind::Notar, 1, parent.header.digest());
    let child = rig.header(2, &after(&parent));
    let digest = rig.propose(child);
    assert_eq!(rig.core.state_of(&digest), State::Held(Hold::Ancestor));
    rig.give(Input::Cand { from: 1, candidate: parent });
    rig.serve();
    assert!(rig.persisted_kinds().contains(&(Kind::Notar, 2)));
}

#[test]
fn h5_an_incomplete_proof_waits_and_is_never_invalid() {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(3, &genesis());
    let digest = rig.propose(header);
    assert_eq!(rig.core.state_of(&digest), State::Held(Hold::Proof));
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    rig.cert(Kind::Skip, 2, Hash::ZERO);
    assert_eq!(rig.core.state_of(&digest), State::Votable);
}
