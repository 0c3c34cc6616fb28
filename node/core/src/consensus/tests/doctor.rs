//! The report: for each cause of a stall the right one is named, and who is waited for.

use super::rig::*;
use crate::block::Header;
use crate::consensus::doctor::{Cause, Condition, Report, Voting};
use crate::consensus::input::{Input, Recovered, WriteFailure};
use crate::hash::Hash;
use crate::memory::{self, Memory};
use crate::params::Parameters;
use crate::validators::Index;
use crate::vote::Kind;

const D: Hash = Hash([0xd; 32]);
/// From here on four validators with the default parameters count as stalled.
const STALLED_MS: u64 = 2_000;

/// Time passes, and the shell answers what the core asks for.
fn live(rig: &mut Rig, ms: u64) {
    rig.serve();
    for _ in 0..ms / 50 {
        rig.take();
        rig.pass(50);
        rig.serve();
    }
}

fn report(rig: &Rig) -> Report {
    rig.core.report(rig.now)
}

/// What the diagnosis calls a validator.
fn named(rig: &Rig, index: Index) -> String {
    format!("validator {index} ({})", rig.config.set.address(index).expect("a member"))
}

fn assert_names(rig: &Rig, report: &Report, expected: &[Index]) {
    for index in 0..rig.config.set.len() as Index {
        let text = named(rig, index);
        assert_eq!(report.diagnosis.contains(&text), expected.contains(&index), "{text}: {}", report.diagnosis);
    }
}

/// A core with a batch to get into a block, so that there is work from now on.
fn busy(me: Index) -> Rig {
    let mut rig = Rig::new(4, me);
    rig.durable_batch(0, 1, 9);
    rig
}

#[test]
fn a_chain_with_nothing_to_do_is_idle_however_long_ago_its_last_block_was() {
    let mut rig = Rig::new(4, 3);
    rig.final_block(1, &genesis());
    rig.pass(900);
    let report = report(&rig);
    assert_eq!((report.state, report.cause, report.waiting_ms), (Condition::Idle, Cause::None, 0));
    assert_eq!((report.slot, report.height, report.final_slot), (2, 1, 1));
    assert_eq!(report.final_age_ms, Some(900));
    assert!(report.diagnosis.starts_with("idle"), "{}", report.diagnosis);
}

#[test]
fn work_is_working_until_it_has_waited_for_twice_what_a_dead_leader_costs() {
    let mut rig = busy(3);
    live(&mut rig, STALLED_MS - 50);
    assert_eq!((report(&rig).state, report(&rig).stalled_since_ms), (Condition::Working, None));
    live(&mut rig, 50);
    let report = report(&rig);
    assert_eq!((report.state, report.waiting_ms), (Condition::Stalled, STALLED_MS));
    assert_eq!(report.stalled_since_ms, Some(WALL), "when the batch came");
}

#[test]
fn a_final_block_ends_the_wait_and_a_new_one_begins_with_the_next_work() {
    let mut rig = busy(3);
    live(&mut rig, 3_000);
    assert_eq!(report(&rig).state, Condition::Stalled);
    rig.final_block(5, &genesis());
    assert_eq!(report(&rig).state, Condition::Working, "the batch is still not in a block");
    assert_eq!(report(&rig).waiting_ms, 0);
}

#[test]
fn a_silent_leader_is_named_with_all_others_who_have_not_voted() {
    let mut rig = busy(3);
    live(&mut rig, STALLED_MS);
    let report = report(&rig);
    assert_eq!(report.cause, Cause::LeaderSilent);
    assert_eq!((report.frontier.slot, report.frontier.leader), (1, 0));
    assert!(report.frontier.candidates.is_empty());
    assert_eq!((report.frontier.skip.weight, report.frontier.skip.voted.as_slice()), (1, [3].as_slice()));
    assert_eq!((report.frontier.silent.as_slice(), report.quorum), ([0, 1, 2].as_slice(), 3));
    assert_names(&rig, &report, &[0, 1, 2]);
    assert!(report.diagnosis.contains("weight 1 are here, the quorum is 3, so weight 2 more"), "{}", report.diagnosis);
}

#[test]
fn validators_that_are_not_connected_are_named_where_without_them_there_is_no_quorum() {
    let mut rig = busy(3);
    live(&mut rig, 1_000);
    rig.give(Input::Disconnected { peer: 1 });
    rig.give(Input::Disconnected { peer: 2 });
    live(&mut rig, 4_000);
    let report = report(&rig);
    assert_eq!(report.cause, Cause::NoQuorumConnected);
    assert_names(&rig, &report, &[1, 2]);
    assert!(report.diagnosis.contains("not connected for 4 s"), "{}", report.diagnosis);
    assert!(report.diagnosis.contains("weigh 2, the quorum is 3"), "{}", report.diagnosis);
    let link = |index: usize| (report.validators[index].connected, report.validators[index].connection_age_ms);
    assert_eq!((link(0), link(1)), ((true, 5_000), (false, 4_000)));
}

#[test]
fn one_validator_away_is_not_the_cause_where_the_others_are_a_quorum() {
    let mut rig = busy(3);
    rig.give(Input::Disconnected { peer: 2 });
    live(&mut rig, STALLED_MS);
    let report = report(&rig);
    assert_eq!(report.cause, Cause::LeaderSilent);
    assert!(report.diagnosis.contains("not connected"), "it is told all the same: {}", report.diagnosis);
}

#[test]
fn who_has_not_voted_for_a_block_that_is_here_is_named_with_the_weight_that_lacks() {
    let mut rig = Rig::weighted(&[2, 1, 1, 3], 3);
    let leader = rig.config.set.leader(0, 1);
    assert_eq!(leader, 3, "the heaviest leads first");
    rig.durable_batch(0, 1, 9);
    live(&mut rig, 100);
    let report_of = |rig: &Rig| report(rig);
    rig.vote(1, statement(Kind::Skip, 1, Hash::ZERO));
    live(&mut rig, STALLED_MS);
    let report = report_of(&rig);
    assert_eq!((report.cause, report.frontier.candidates.len()), (Cause::VotesMissing, 1));
    assert_eq!((report.frontier.notar.weight, report.frontier.skip.weight), (3, 4));
    assert_eq!(report.frontier.skip.voted, [1, 3]);
    assert_eq!(report.frontier.skip.missing, [0, 2]);
    assert_names(&rig, &report, &[0, 2]);
    assert!(report.diagnosis.contains("weight 4 are here, the quorum is 5, so weight 1 more"), "{}", report.diagnosis);
}

#[test]
fn a_missing_batch_is_named_with_whom_it_was_asked_of() {
    let mut rig = Rig::new(4, 3);
    let header = Header { batches: vec![batch(1, 9)], ..rig.header(1, &genesis()) };
    let block = rig.propose(header);
    live(&mut rig, 50);
    let asked = report(&rig).fetches;
    assert_eq!((asked.len(), asked[0].asked, asked[0].tries), (1, Some(0), 1), "the leader first");
    live(&mut rig, STALLED_MS);
    let report = report(&rig);
    assert_eq!(report.cause, Cause::BatchesMissing);
    let candidate = &report.frontier.candidates[0];
    assert_eq!((candidate.block, candidate.holds.as_slice()), (block, ["H3"].as_slice()));
    assert_eq!(candidate.missing_batches, [Hash([9; 32])]);
    let fetch = &report.fetches[0];
    assert_eq!((fetch.what, fetch.block, fetch.batches.as_slice()), ("batches", block, [Hash([9; 32])].as_slice()));
    let last = named(&rig, fetch.asked.expect("asked"));
    assert!(
        report.diagnosis.contains(&format!("asked for {} times, last of {last}", fetch.tries)),
        "{}",
        report.diagnosis
    );
}

#[test]
fn a_parent_that_is_not_executed_is_told() {
    let mut rig = Rig::new(4, 3);
    let first = rig.header(1, &genesis());
    let first = rig.candidate(first);
    rig.give_candidate(first.clone());
    for write in rig.writes() {
        rig.commit(&write);
    }
    // Its execution is asked for and never answered.
    rig.take();
    rig.cert(Kind::Notar, 1, first.header.digest());
    let second = rig.header(2, &after(&first));
    rig.propose(second);
    rig.serve();
    live(&mut rig, STALLED_MS);
    let report = report(&rig);
    assert_eq!((report.cause, report.frontier.slot), (Cause::ParentNotExecuted, 2));
    assert_eq!(report.frontier.candidates[0].holds, ["H2"]);
}

/// The leaders of some slots propose, each ahead of us by `ms`; the slots below are skipped.
fn proposals_from_the_future(rig: &mut Rig, slots: &[u64], ms: u64) {
    for slot in slots {
        if *slot > 1 {
            rig.cert(Kind::Skip, slot - 1, Hash::ZERO);
        }
        let header = Header { time_ms: rig.now.wall_ms + ms, ..rig.header(*slot, &genesis()) };
        rig.propose(header);
        rig.serve();
    }
}

#[test]
fn the_leader_whose_clock_is_ahead_is_named() {
    let mut rig = Rig::new(4, 3);
    proposals_from_the_future(&mut rig, &[1], 60_000);
    live(&mut rig, STALLED_MS);
    let report = report(&rig);
    assert_eq!(report.cause, Cause::LeaderClock);
    assert_names(&rig, &report, &[0]);
    assert_eq!(report.validators[0].clock_ahead_ms, Some(60_000));
    assert_eq!((report.frontier.candidates[0].ahead_ms, report.validators[1].clock_ahead_ms), (58_000, None));
}

#[test]
fn where_more_than_the_faulty_are_ahead_it_is_the_own_clock() {
    let mut rig = Rig::new(4, 3);
    proposals_from_the_future(&mut rig, &[1, 2], 60_000);
    live(&mut rig, STALLED_MS);
    let report = report(&rig);
    assert_eq!(report.cause, Cause::OwnClock);
    assert_names(&rig, &report, &[]);
}

#[test]
fn a_database_that_does_not_answer_is_told_with_how_long() {
    let mut rig = busy(3);
    let header = rig.header(1, &genesis());
    rig.propose(header);
    let waiting = rig.writes();
    rig.take();
    rig.pass(STALLED_MS);
    let stalled = report(&rig);
    assert_eq!((stalled.cause, stalled.writes.oldest_ms), (Cause::OwnDatabase, Some(STALLED_MS)));
    assert!(stalled.diagnosis.contains("for 2 s"), "{}", stalled.diagnosis);
    rig.commit(&waiting[0]);
    assert_eq!(report(&rig).writes.last_ms, Some(STALLED_MS), "its latency");
}

#[test]
fn blocks_that_are_notarized_but_lack_final_votes_are_told() {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    rig.serve();
    rig.cert(Kind::Notar, 1, digest);
    rig.serve();
    for slot in 2..=9 {
        live(&mut rig, 300);
        rig.cert(Kind::Skip, slot, Hash::ZERO);
    }
    let report = report(&rig);
    assert_eq!(report.cause, Cause::FinalVotesMissing);
    let slot = report.notarized.as_ref().expect("slot 1");
    assert_eq!((slot.slot, slot.finality.weight, slot.finality.missing.as_slice()), (1, 1, [0, 1, 2].as_slice()));
    assert_names(&rig, &report, &[0, 1, 2]);
}

#[test]
fn slots_that_are_all_skipped_are_counted() {
    let mut rig = Rig::new(4, 3);
    for slot in 1..=9 {
        rig.cert(Kind::Skip, slot, Hash::ZERO);
        live(&mut rig, 300);
    }
    let report = report(&rig);
    assert_eq!(report.cause, Cause::Skipping);
    assert!(report.diagnosis.starts_with("9 slots"), "{}", report.diagnosis);
}

#[test]
fn a_final_block_that_is_not_here_is_told_with_whom_it_was_asked_of() {
    let mut rig = Rig::new(4, 3);
    rig.cert(Kind::Final, 7, D);
    rig.serve();
    live(&mut rig, STALLED_MS);
    let report = report(&rig);
    assert_eq!((report.cause, report.final_slot, report.height), (Cause::Unresolved, 7, 0));
    assert_eq!(report.unresolved.as_ref().and_then(|u| u.missing_block), Some(D));
    assert!(report.diagnosis.contains("last of validator"), "{}", report.diagnosis);
}

#[test]
fn a_validator_that_does_not_vote_says_so_first() {
    let mut rig = busy(3);
    rig.give(Input::Ready(false));
    live(&mut rig, STALLED_MS);
    assert_eq!((report(&rig).cause, report(&rig).voting), (Cause::OwnVoting, Voting::NotReady));

    let mut rig = busy(3);
    let header = rig.header(1, &genesis());
    rig.propose(header);
    let write = rig.writes()[0].id;
    rig.give(Input::WriteFailed { write, failure: WriteFailure::Unknown });
    rig.pass(STALLED_MS);
    assert_eq!((report(&rig).cause, report(&rig).voting), (Cause::OwnVoting, Voting::WriteFailed));

    let memory = Memory::default().quarantined(memory::Cause::NewDatabase);
    let mut rig = Rig::recovered(4, 3, Recovered { memory, ..nothing() });
    rig.durable_batch(0, 1, 9);
    live(&mut rig, STALLED_MS);
    assert_eq!((report(&rig).cause, report(&rig).voting), (Cause::OwnVoting, Voting::Quarantined));
}

#[test]
fn a_validator_that_waits_for_what_others_have_seen_of_its_key_says_first_who_of_them_is_away() {
    let mut rig = Rig::alone(&[1; 4], 3, Parameters::default(), nothing());
    rig.durable_batch(0, 1, 9);
    live(&mut rig, STALLED_MS);
    assert_eq!((report(&rig).cause, report(&rig).voting), (Cause::NoQuorumConnected, Voting::Checking));
    (0..3).for_each(|peer| rig.give(Input::Connected { peer }));
    assert_eq!((report(&rig).cause, report(&rig).voting), (Cause::OwnVoting, Voting::Checking));
}

#[test]
fn a_peer_that_says_it_is_not_ready_is_told_with_the_reason_to_look_for() {
    let mut rig = busy(3);
    rig.status(1, 0, 1, 0, false);
    live(&mut rig, STALLED_MS);
    let report = report(&rig);
    assert_eq!((report.validators[1].ready, report.validators[2].ready), (Some(false), None));
    assert!(report.diagnosis.contains("says that it is not ready"), "{}", report.diagnosis);
}

#[test]
fn a_sentence_about_a_hundred_validators_names_a_few_and_counts_the_rest() {
    let mut rig = Rig::weighted(&[1; 100], 99);
    rig.durable_batch(0, 1, 9);
    live(&mut rig, STALLED_MS);
    let report = report(&rig);
    assert_eq!(report.frontier.silent.len(), 99);
    assert!(report.diagnosis.contains("95 more") && report.diagnosis.len() < 1_500, "{}", report.diagnosis);
}
