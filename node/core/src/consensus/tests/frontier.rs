//! C5, C6, C12: the slot in progress, and reasons to be busy.

use super::rig::*;
use crate::consensus::input::Input;
use crate::consensus::output::{Event, Output};
use crate::hash::Hash;
use crate::vote::Kind;

#[test]
fn c5_the_frontier_is_the_least_uncleared_slot() {
    let mut rig = Rig::new(4, 3);
    assert_eq!(rig.core.frontier(), 1);
    rig.cert(Kind::Skip, 2, Hash::ZERO);
    assert_eq!(rig.core.frontier(), 1, "slot 1 is not cleared");
    rig.cert(Kind::Notar, 1, Hash([1; 32]));
    assert_eq!(rig.core.frontier(), 3, "Notar or Skip clears");
    rig.cert(Kind::Skip, 9, Hash::ZERO);
    rig.cert(Kind::Final, 8, Hash([8; 32]));
    assert_eq!(rig.core.frontier(), 10, "s* clears all below");
}

#[test]
fn c6_a_new_slot_begins_without_a_timer() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    assert!(rig.core.frontier.armed.is_some());
    let block = {
        let header = crate::block::Header { batches: vec![batch(0, 9)], ..rig.header(1, &genesis()) };
        let digest = rig.propose(header);
        rig.serve();
        rig.cert(Kind::Notar, 1, digest);
        rig.cert(Kind::Final, 1, digest);
        digest
    };
    assert_eq!((rig.core.frontier.slot, rig.core.frontier.base.1), (2, block));
    assert!(rig.core.frontier.armed.is_none(), "nothing left to do");
    let started =
        rig.out.iter().filter(|o| matches!(o, Output::Event(Event::SlotStarted { epoch: 0, slot: 2, leader: 1 })));
    assert_eq!(started.count(), 1);
}

fn busy(rig: &mut Rig) -> bool {
    rig.core.c12_busy()
}

#[test]
fn c12_busy_by_an_includable_batch_only() {
    let mut rig = Rig::new(4, 3);
    assert!(!busy(&mut rig));
    rig.give(Input::BatchDurable { reference: batch(0, 7), seq: 1, expiry_height: 0 });
    assert!(!busy(&mut rig), "expired");
    rig.durable_batch(0, 2, 9);
    assert!(busy(&mut rig));
    let header = crate::block::Header { batches: vec![batch(0, 9)], ..rig.header(1, &genesis()) };
    let digest = rig.propose(header);
    rig.serve();
    rig.cert(Kind::Notar, 1, digest);
    assert!(!busy(&mut rig), "it is in the chain of the base");
}

#[test]
fn c12_busy_by_a_candidate() {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    rig.propose(header);
    assert!(busy(&mut rig));
}

#[test]
fn c12_busy_by_skip_votes_of_more_than_the_faulty_weight() {
    let mut rig = Rig::new(4, 3);
    rig.vote(1, statement(Kind::Skip, 1, Hash::ZERO));
    assert!(!busy(&mut rig), "one may be Byzantine");
    rig.vote(2, statement(Kind::Skip, 1, Hash::ZERO));
    assert!(busy(&mut rig));
}

#[test]
fn c12_busy_by_unfinished_business_after_its_final_votes_had_time() {
    let mut rig = Rig::new(4, 3);
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    assert!(!busy(&mut rig));
    rig.pass(75);
    assert!(busy(&mut rig));
}

#[test]
fn c12_busy_after_block_time_by_its_own_timer() {
    let mut rig = Rig::new(4, 3);
    rig.final_block(1, &genesis());
    rig.pass(999);
    assert!(rig.core.frontier.armed.is_none());
    rig.pass(1);
    assert!(rig.core.frontier.armed.is_some());
}

#[test]
fn c12_an_idle_chain_has_no_votes_and_few_ticks_between_heartbeats() {
    let mut rig = Rig::new(4, 3);
    rig.final_block(1, &genesis());
    rig.take();
    rig.pass(990);
    assert!(rig.persisted().is_empty() && rig.sent_votes().is_empty());
    let timers = rig.out.iter().filter(|o| matches!(o, Output::Timer(_))).count();
    assert!(timers <= 6, "{timers} timers in an idle second");
}

#[test]
fn c0_the_monotonic_clock_never_goes_back() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    rig.pass(100);
    let at = rig.now.mono_ms;
    rig.now.mono_ms = 5;
    rig.give(Input::Tick);
    assert_eq!(rig.core.now.mono_ms, at);
}

#[test]
fn c0_the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut rig = Rig::new(4, 3);
        rig.durable_batch(0, 1, 9);
        rig.cert(Kind::Notar, 1, Hash([1; 32]));
        rig.pass(3_000);
        format!("{:?}", rig.out)
    };
    assert_eq!(run(), run());
}
