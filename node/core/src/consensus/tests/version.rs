//! V1: a program stops before the first block of a version that it does not speak, whatever the others do.

use super::rig::*;
use crate::block::{Candidate, Header, VERSION};
use crate::consensus::doctor::{Cause, Condition, Voting};
use crate::consensus::examine::State;
use crate::consensus::input::{Input, Recovered, Roots, Tip};
use crate::consensus::validity::Invalid;
use crate::hash::Hash;
use crate::message::{Message, Status};
use crate::staking::motion::Upgrade;
use crate::vote::Kind;

/// First height of the next version.
const AT: u64 = 3;
const NEXT: Upgrade = Upgrade { version: VERSION + 1, height: AT };

/// Four validators, of whom `me` is a core that must stop before [`AT`].
fn upgrading(me: u16) -> Rig {
    Rig { upgrade: Some(AT), ..Rig::new(4, me) }
}

/// The same after the last block that it can take.
fn stopped(me: u16) -> (Rig, Parent) {
    let mut rig = upgrading(me);
    let first = rig.final_block(1, &genesis());
    let last = rig.final_block(2, &first);
    rig.take();
    (rig, last)
}

/// What a new program proposes in a slot.
fn newer(rig: &Rig, slot: u64, parent: &Parent) -> Candidate {
    rig.candidate(Header { version: VERSION + 1, ..rig.header(slot, parent) })
}

fn last_status(rig: &Rig) -> Status {
    let status = |m: &Message| if let Message::Status(status) = m { Some(status.clone()) } else { None };
    rig.broadcasts().iter().rev().find_map(status).expect("a status every half second")
}

/// Time passes, and the shell answers whatever the core asks for.
fn live(rig: &mut Rig, ms: u64) {
    for _ in 0..ms / 50 {
        rig.pass(50);
        rig.serve();
    }
}

#[test]
fn v1_blocks_before_an_upgrade_are_as_ever_and_none_from_it_on_is_voted_for_or_executed() {
    let mut rig = upgrading(3);
    let first = rig.final_block(1, &genesis());
    assert_eq!(rig.core.v1_stopped(), None, "height 2 is still of this version");
    let last = rig.final_block(2, &first);
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1), (Kind::Final, 1), (Kind::Notar, 2), (Kind::Final, 2)]);
    assert_eq!((rig.finalized(), rig.core.v1_stopped()), (vec![1, 2], Some(NEXT)));
    rig.take();
    let old = rig.propose(rig.header(3, &last));
    rig.give_candidate(newer(&rig, 3, &last));
    rig.durable_batch(0, 1, 9);
    live(&mut rig, 5_000);
    assert_eq!((rig.persisted(), rig.asked_to_execute()), (vec![], vec![]));
    assert_eq!(rig.dropped(), ["v1_version"], "the new one");
    assert!(rig.core.candidates.contains_key(&old), "the old one is held, not judged");
    assert_eq!((rig.halts(), rig.core.height()), (vec![], 2));
}

#[test]
fn v1_a_leader_builds_the_last_block_before_an_upgrade_and_not_the_next() {
    let mut rig = upgrading(1);
    let first = rig.final_block(1, &genesis());
    rig.durable_batch(0, 1, 9);
    rig.pass(200);
    rig.serve();
    let proposed = rig.sent_proposals();
    assert_eq!(proposed.iter().map(|p| p.candidate.header.height).collect::<Vec<_>>(), [2], "on {first:?}");
    assert_eq!(proposed[0].candidate.header.version, VERSION);
    let (mut rig, _) = stopped(2);
    rig.durable_batch(0, 1, 9);
    live(&mut rig, 5_000);
    assert!(rig.sent_proposals().is_empty() && rig.persisted().is_empty());
}

#[test]
fn v1_a_leader_tries_no_block_upon_the_last_one_while_that_is_not_final() {
    let mut rig = upgrading(2);
    let first = rig.final_block(1, &genesis());
    let last = rig.propose(rig.header(2, &first));
    rig.serve();
    rig.cert(Kind::Notar, 2, last);
    rig.take();
    rig.durable_batch(0, 1, 9);
    live(&mut rig, 5_000);
    assert_eq!((rig.core.frontier(), rig.sent_proposals(), rig.dropped()), (3, vec![], vec![]), "its turn");
}

#[test]
fn v1_a_new_program_goes_on_with_the_version_that_is_due() {
    let (mut rig, last) = stopped(2);
    rig.core.config.version = VERSION + 1;
    rig.durable_batch(0, 1, 9);
    rig.pass(200);
    rig.serve();
    let header = rig.sent_proposals().pop().expect("its turn").candidate.header;
    assert_eq!((header.version, header.height, rig.core.v1_stopped()), (VERSION + 1, AT, None));
    rig.cert(Kind::Skip, 3, Hash::ZERO);
    let old = rig.propose(rig.header(4, &last));
    assert_eq!(rig.core.state_of(&old), State::Invalid(Invalid::Version), "its time is over");
    let new = newer(&rig, 4, &last);
    let digest = new.header.digest();
    rig.give_candidate(new);
    assert!(rig.persisted().contains(&statement(Kind::Notar, 4, digest)));
}

#[test]
fn v1_no_certificate_makes_an_old_program_execute_halt_or_ask() {
    let (mut rig, last) = stopped(3);
    let candidate = newer(&rig, 3, &last);
    let digest = candidate.header.digest();
    rig.cert(Kind::Notar, 3, digest);
    rig.give(Input::Cand { from: 0, candidate: candidate.clone() });
    rig.cert(Kind::Final, 3, digest);
    rig.give(Input::Cand { from: 0, candidate });
    // By other rules its roots may be anything: no sign of an own fault (C21).
    for slot in 4..40 {
        rig.cert(Kind::Final, slot, Hash([slot as u8; 32]));
    }
    live(&mut rig, 5_000);
    assert_eq!((rig.persisted(), rig.asked_to_execute(), rig.halts()), (vec![], vec![], vec![]));
    assert_eq!((rig.core.height(), rig.finalized()), (2, vec![]));
    assert!(rig.core.wants.is_empty(), "nothing is asked for that is of no use: {:?}", rig.core.wants);
}

#[test]
fn v1_the_last_block_is_let_out_though_only_its_child_is_known_to_be_final() {
    let mut rig = upgrading(3);
    let first = rig.final_block(1, &genesis());
    let last = rig.candidate(rig.header(2, &first));
    let parent = after(&last);
    rig.give_candidate(last);
    rig.serve();
    rig.cert(Kind::Notar, 2, parent.digest);
    rig.serve();
    rig.take();
    let candidate = newer(&rig, 3, &parent);
    rig.cert(Kind::Final, 3, candidate.header.digest());
    assert_eq!(rig.finalized(), Vec::<u64>::new());
    rig.give(Input::Cand { from: 0, candidate });
    assert_eq!((rig.finalized(), rig.core.v1_stopped()), (vec![2], Some(NEXT)));
    assert!(rig.asked_to_execute().is_empty());
}

#[test]
fn v1_slots_after_the_last_block_are_not_skipped_while_it_waits_to_be_final() {
    let mut rig = upgrading(3);
    let first = rig.final_block(1, &genesis());
    let last = rig.propose(rig.header(2, &first));
    rig.serve();
    rig.take();
    rig.cert(Kind::Notar, 2, last);
    rig.durable_batch(0, 1, 9);
    live(&mut rig, 10_000);
    assert_eq!(rig.persisted_kinds(), [(Kind::Final, 2)], "for the block itself, and no Skip");
    let report = rig.core.report(rig.now);
    assert_eq!((report.upgrade, report.cause, report.voting), (Some(NEXT), Cause::OldVersion, Voting::Yes));
    // Others may decide otherwise: a last block in a later slot is voted for.
    let mut rig = upgrading(3);
    let first = rig.final_block(1, &genesis());
    let lost = rig.propose(rig.header(2, &first));
    rig.serve();
    rig.cert(Kind::Notar, 2, lost);
    rig.cert(Kind::Skip, 2, Hash::ZERO);
    rig.take();
    let other = rig.propose(rig.header(3, &first));
    rig.serve();
    assert!(rig.persisted().contains(&statement(Kind::Notar, 3, other)));
}

#[test]
fn v1_a_stopped_validator_says_not_ready_and_its_report_says_what_it_needs() {
    let (mut rig, _) = stopped(3);
    live(&mut rig, 1_000);
    assert!(!last_status(&rig).ready, "C11: nobody waits for its turns");
    live(&mut rig, 5_000);
    let report = rig.core.report(rig.now);
    assert_eq!(
        (report.state, report.cause, report.voting),
        (Condition::Stalled, Cause::OldVersion, Voting::OldVersion)
    );
    assert_eq!((report.upgrade, report.validators[3].ready), (Some(NEXT), Some(false)));
    assert!(report.diagnosis.contains("from height 3 on have version 2"), "{}", report.diagnosis);
    let mut before = upgrading(3);
    before.final_block(1, &genesis());
    live(&mut before, 600);
    assert!(last_status(&before).ready);
    assert_eq!(before.core.report(before.now).upgrade, None);
}

#[test]
fn v1_the_same_program_stops_at_the_same_block_after_a_restart_and_a_new_one_goes_on() {
    let roots = Roots { next_version: VERSION + 1, ..roots(Hash([7; 32])) };
    let tip = Tip { digest: Hash([7; 32]), slot: 2, height: 2, time_ms: WALL, roots };
    let recovered = || Recovered { tip: tip.clone(), ..nothing() };
    let mut old = Rig::recovered(4, 2, recovered());
    old.durable_batch(0, 1, 9);
    live(&mut old, 5_000);
    assert_eq!((old.persisted(), old.core.v1_stopped()), (vec![], Some(NEXT)));
    let mut new = Rig::recovered(4, 2, recovered());
    new.core.config.version = VERSION + 1;
    new.durable_batch(0, 1, 9);
    live(&mut new, 100);
    assert_eq!(new.persisted_kinds(), [(Kind::Notar, 3)]);
}
