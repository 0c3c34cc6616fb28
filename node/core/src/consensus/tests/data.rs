//! C14-C18: fetching, proofs, relays, standstill, Status.

use super::rig::*;
use crate::block::Header;
use crate::consensus::input::{Input, Recovered};
use crate::consensus::output::Output;
use crate::hash::Hash;
use crate::message::Message;
use crate::params::{ANSWER_BYTES, FETCH_TIMEOUT_MS, STANDSTILL_BYTES, STANDSTILL_SLOTS};
use crate::validators::Index;
use crate::vote::Kind;

const D: Hash = Hash([0xd; 32]);

/// Peers that were asked for a candidate.
fn cand_reqs(rig: &Rig, digest: Hash) -> Vec<Index> {
    let wants = |m: &Message| matches!(m, Message::CandReq { digests } if digests.contains(&digest));
    rig.sent().into_iter().filter(|(_, m)| wants(m)).map(|(to, _)| to).collect()
}

// ---- C14 ----

#[test]
fn c14_a_certified_candidate_is_fetched_from_a_signer_then_from_others_with_growing_pauses() {
    let mut rig = Rig::new(4, 3);
    rig.cert(Kind::Notar, 1, D);
    let first = cand_reqs(&rig, D);
    assert!(first.len() == 1 && first[0] != 3);
    rig.pass(FETCH_TIMEOUT_MS.0 - 1);
    assert_eq!(cand_reqs(&rig, D).len(), 1);
    rig.pass(1);
    assert_eq!(cand_reqs(&rig, D).len(), 2);
    rig.pass(149);
    assert_eq!(cand_reqs(&rig, D).len(), 2);
    rig.pass(1);
    assert_eq!(cand_reqs(&rig, D).len(), 3);
    let before = cand_reqs(&rig, D).len();
    rig.pass(60_000);
    let rate = cand_reqs(&rig, D).len() - before;
    assert!((29..=36).contains(&rate), "every 2 s at last: {rate}");
}

#[test]
fn c14_missing_ancestors_are_fetched_down_to_the_tip() {
    let mut rig = Rig::new(4, 3);
    let first = rig.header(1, &genesis());
    let first = rig.candidate(first);
    let second = rig.header(2, &after(&first));
    let second = rig.candidate(second);
    rig.cert(Kind::Notar, 2, second.header.digest());
    rig.give(Input::Cand { from: 0, candidate: second });
    assert_eq!(cand_reqs(&rig, first.header.digest()).len(), 1);
    rig.give(Input::Cand { from: 0, candidate: first.clone() });
    assert_eq!(rig.asked_to_execute(), [first.header.digest()]);
    assert!(rig.core.wants.is_empty());
}

#[test]
fn c14_a_candidate_that_is_only_voted_for_is_fetched_when_the_proposal_does_not_come() {
    let mut rig = Rig::new(4, 3);
    rig.vote(1, statement(Kind::Notar, 1, D));
    rig.pass(36);
    assert!(cand_reqs(&rig, D).is_empty());
    rig.pass(1);
    assert_eq!(cand_reqs(&rig, D), [1], "from the voter");
}

#[test]
fn v6_a_batch_is_spent_once_it_is_in_a_final_block_or_its_last_height_is_reached() {
    let mut rig = Rig::new(4, 3);
    let header = Header { batches: vec![batch(0, 8)], ..rig.header(1, &genesis()) };
    rig.durable_batch(0, 1, 8);
    let digest = rig.propose(header);
    assert!(!rig.core.is_spent(&Hash([8; 32]), 100));
    rig.serve();
    rig.cert(Kind::Notar, 1, digest);
    rig.serve();
    rig.cert(Kind::Final, 1, digest);
    assert_eq!(rig.core.height(), 1);
    assert!(rig.core.is_spent(&Hash([8; 32]), 100), "it is in block 1");
    let another = Hash([9; 32]);
    assert!(rig.core.is_spent(&another, 1) && !rig.core.is_spent(&another, 2));
}

#[test]
fn c14_missing_batches_are_fetched_from_the_leader_then_from_others() {
    let mut rig = Rig::new(4, 3);
    let header = Header { batches: vec![batch(0, 8), batch(1, 9)], ..rig.header(1, &genesis()) };
    rig.durable_batch(0, 1, 8);
    rig.propose(header);
    let reqs = |rig: &Rig| {
        let wants = |m: &Message| matches!(m, Message::BatchReq { digests } if *digests == [Hash([9; 32])]);
        rig.sent().into_iter().filter(|(_, m)| wants(m)).map(|(to, _)| to).collect::<Vec<_>>()
    };
    rig.pass(36);
    assert!(reqs(&rig).is_empty(), "they are probably under way");
    rig.pass(1);
    assert_eq!(reqs(&rig), [0]);
    rig.pass(100);
    assert_eq!(reqs(&rig).len(), 2);
    rig.durable_batch(1, 1, 9);
    rig.pass(3_000);
    assert_eq!(reqs(&rig).len(), 2);
}

#[test]
fn c14_at_most_16_requests_are_in_flight_and_none_starves() {
    let mut rig = Rig::new(4, 3);
    rig.take();
    let name = |slot: u64| Hash([slot as u8; 32]);
    for slot in 1..=40 {
        rig.cert(Kind::Notar, slot, name(slot));
    }
    let asked = |rig: &Rig| (1..=40).filter(|slot| !cand_reqs(rig, name(*slot)).is_empty()).count();
    assert_eq!(asked(&rig), 16);
    rig.pass(2_000);
    assert_eq!(asked(&rig), 40);
}

#[test]
fn c14_everybody_answers_for_candidates_it_voted_for() {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    rig.take();
    rig.give(Input::CandReq { from: 2, digests: vec![D, digest] });
    let sent = rig.sent();
    assert_eq!(sent.len(), 1);
    let (2, Message::Cand(candidate)) = &sent[0] else { panic!("a candidate to 2") };
    assert_eq!(candidate.header.digest(), digest);
}

#[test]
fn c14_c15_a_peer_that_asks_for_ever_gets_a_mebibyte_a_second() {
    let mut rig = Rig::new(4, 3);
    let header = Header { batches: (0..60).map(|name| batch(0, name)).collect(), ..rig.header(1, &genesis()) };
    let digest = rig.propose(header);
    for slot in 2..=64 {
        rig.cert(Kind::Skip, slot, Hash::ZERO);
    }
    let ask = |rig: &mut Rig| {
        rig.take();
        for _ in 0..200 {
            rig.give(Input::CandReq { from: 2, digests: vec![digest; 64] });
            rig.give(Input::CertReq { from: 2, slots: (2..=64).collect() });
        }
        let sent = rig.sent();
        let answers = sent.iter().filter(|(_, m)| matches!(m, Message::Cand(_) | Message::Certs { .. }));
        answers.map(|(_, message)| borsh::object_length(message).expect("a length")).sum::<usize>()
    };
    let bytes = ask(&mut rig);
    assert!((ANSWER_BYTES * 9 / 10..ANSWER_BYTES * 11 / 10).contains(&bytes), "{bytes}");
    assert!(rig.dropped().contains(&"answer_rate"));
    rig.give(Input::CandReq { from: 1, digests: vec![digest] });
    assert!(rig.sent().iter().any(|(to, _)| *to == 1), "others are answered");
    rig.pass(1_000);
    assert!(ask(&mut rig) > ANSWER_BYTES * 9 / 10, "and it is again, later");
}

#[test]
fn c14_an_own_candidate_is_not_given_away_before_it_is_durable() {
    let mut rig = Rig::new(4, 0);
    rig.durable_batch(0, 1, 9);
    rig.pass(5);
    let digest = rig.persisted()[0].digest;
    rig.take();
    rig.give(Input::CandReq { from: 2, digests: vec![digest] });
    assert!(rig.sent().is_empty());
}

#[test]
fn c14_an_ancestor_that_nobody_has_calls_block_sync() {
    let mut rig = Rig::new(4, 3);
    rig.status(1, 0, 1, 30, true);
    rig.cert(Kind::Final, 40, D);
    rig.pass(5_000);
    let calls = rig.out.iter().filter(|o| matches!(o, Output::Behind { peer: 1, height: 30 })).count();
    assert!((1..=5).contains(&calls), "{calls}");
}

// ---- C15 ----

#[test]
fn c15_missing_certificates_are_asked_from_the_leader() {
    let mut rig = Rig::new(4, 3);
    rig.cert(Kind::Skip, 2, Hash::ZERO);
    let header = rig.header(5, &genesis());
    rig.propose(header);
    rig.take();
    rig.pass(38);
    let asked: Vec<_> = rig.sent().into_iter().filter(|(_, m)| matches!(m, Message::CertReq { .. })).collect();
    assert_eq!(asked, [(0, Message::CertReq { slots: vec![1, 3, 4] })]);
    for slot in [1, 3, 4] {
        rig.cert(Kind::Skip, slot, Hash::ZERO);
    }
    assert!(rig.persisted_kinds().contains(&(Kind::Notar, 5)));
    rig.take();
    rig.pass(400);
    assert!(!rig.sent().iter().any(|(_, m)| matches!(m, Message::CertReq { .. })));
}

#[test]
fn c15_answers_with_what_is_held() {
    let mut rig = Rig::new(4, 3);
    let block = rig.final_block(1, &genesis());
    rig.cert(Kind::Skip, 2, Hash::ZERO);
    rig.cert(Kind::Notar, 3, D);
    rig.take();
    let answer = |rig: &mut Rig, slots: Vec<u64>| {
        rig.take();
        rig.give(Input::CertReq { from: 1, slots });
        let certs = rig
            .sent()
            .into_iter()
            .filter_map(|(_, m)| if let Message::Certs { certs } = m { Some(certs) } else { None });
        certs.flatten().map(|c| (c.statement.kind, c.statement.slot)).collect::<Vec<_>>()
    };
    assert_eq!(answer(&mut rig, vec![2, 3, 4]), [(Kind::Skip, 2), (Kind::Notar, 3)]);
    assert_eq!(answer(&mut rig, vec![1])[0], (Kind::Final, 1));
    assert!(answer(&mut rig, vec![77]).is_empty());
    assert!(block.height == 1);
}

#[test]
fn c15_an_answer_holds_at_most_64_certificates() {
    let mut rig = Rig::new(4, 3);
    for slot in 1..=80 {
        rig.cert(Kind::Skip, slot, Hash::ZERO);
    }
    rig.take();
    rig.give(Input::CertReq { from: 1, slots: (1..=80).collect() });
    let Some((1, Message::Certs { certs })) = rig.sent().pop() else { panic!("an answer") };
    assert_eq!(certs.len(), 64);
}

// ---- C16 ----

#[test]
fn c16_more_than_8_validators_relay_late_and_only_to_who_may_lack_it() {
    let mut rig = Rig::new(10, 9);
    rig.take();
    let cert = rig.make_cert(&[0, 1, 2, 3, 4, 5, 6], statement(Kind::Skip, 1, Hash::ZERO));
    rig.give(Input::Cert { from: 0, cert });
    assert!(!rig.broadcasts().iter().any(|m| matches!(m, Message::Cert(_))));
    // 1 votes beyond it, 2 says it is beyond it; 0 sent it.
    rig.vote(1, statement(Kind::Skip, 2, Hash::ZERO));
    rig.status(2, 0, 2, 0, true);
    rig.take();
    rig.pass(18);
    let to: Vec<Index> =
        rig.sent().into_iter().filter(|(_, m)| matches!(m, Message::Cert(_))).map(|(to, _)| to).collect();
    assert_eq!(to, [3, 4, 5, 6, 7, 8]);
    rig.take();
    rig.pass(200);
    assert!(!rig.sent().iter().any(|(_, m)| matches!(m, Message::Cert(_))), "once");
}

// ---- C17 ----

/// Broadcasts of a standstill attempt in the next `ms`, Status apart.
fn resent(rig: &mut Rig, ms: u64) -> Vec<Message> {
    rig.take();
    rig.pass(ms);
    rig.broadcasts().into_iter().filter(|m| !matches!(m, Message::Status(_))).collect()
}

#[test]
fn c17_what_is_held_and_own_is_resent_while_nothing_becomes_final() {
    let mut rig = Rig::new(4, 3);
    let block = rig.final_block(1, &genesis());
    let header = rig.header(2, &block);
    let digest = rig.propose(header);
    rig.serve();
    rig.cert(Kind::Notar, 2, digest);
    rig.serve();
    rig.give(Input::Ready(false));
    let messages = resent(&mut rig, 260);
    let names: Vec<_> = messages.iter().map(|m| m.name()).collect();
    assert_eq!(names, ["cert", "cert", "vote", "vote"], "Final of s*, Notar of 2, own Notar and Final");
    assert!(resent(&mut rig, 400).is_empty(), "the period doubles");
    assert_eq!(resent(&mut rig, 110).len(), 4);
}

#[test]
fn c17_an_idle_chain_resends_nothing() {
    let mut rig = Rig::new(4, 3);
    rig.final_block(1, &genesis());
    assert!(resent(&mut rig, 950).is_empty());
}

#[test]
fn c17_a_new_final_certificate_starts_over() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    rig.pass(200);
    rig.serve();
    let block = rig.final_block(1, &genesis());
    assert!(block.height == 1);
    assert!(resent(&mut rig, 200).iter().all(|m| !matches!(m, Message::Cert(_))));
}

#[test]
fn c17_the_cursor_wraps_and_every_attempt_is_bounded() {
    let mut rig = Rig::new(4, 3);
    rig.give(Input::Ready(false));
    for slot in 1..=150 {
        rig.cert(Kind::Skip, slot, Hash::ZERO);
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let messages = resent(&mut rig, 2_000);
        let slots: Vec<u64> = messages
            .iter()
            .filter_map(|m| if let Message::Cert(c) = m { Some(c.statement.slot) } else { None })
            .collect();
        assert!(slots.len() as u64 <= 3 * STANDSTILL_SLOTS, "at most three attempts fall into 2 s");
        seen.extend(slots);
    }
    assert_eq!(seen.len(), 150, "every object again");
}

#[test]
fn c17_bytes_of_an_attempt_are_bounded() {
    let weights = vec![1; 100];
    let mut rig = Rig::weighted(&weights, 99);
    rig.give(Input::Ready(false));
    for slot in 1..=70 {
        rig.cert(Kind::Skip, slot, Hash::ZERO);
    }
    rig.take();
    rig.pass(255);
    let bytes: usize = rig
        .broadcasts()
        .iter()
        .filter(|m| matches!(m, Message::Cert(_)))
        .map(|m| borsh::object_length(m).unwrap_or(0))
        .sum();
    assert!(bytes > STANDSTILL_BYTES / 2 && bytes <= STANDSTILL_BYTES, "{bytes}");
}

#[test]
fn c17_the_own_proposal_is_resent() {
    let mut rig = Rig::new(4, 0);
    rig.durable_batch(0, 1, 9);
    rig.pass(5);
    rig.serve();
    let messages = resent(&mut rig, 300);
    assert!(messages.iter().any(|m| matches!(m, Message::Proposal(_))));
}

// ---- C18 ----

fn statuses(rig: &Rig) -> usize {
    rig.broadcasts().iter().filter(|m| matches!(m, Message::Status(_))).count()
}

#[test]
fn c18_status_on_connecting_and_every_500_ms() {
    let mut rig = Rig::new(4, 3);
    let greeted: Vec<Index> =
        rig.sent().into_iter().filter(|(_, m)| matches!(m, Message::Status(_))).map(|(to, _)| to).collect();
    assert_eq!(greeted, [0, 1, 2]);
    rig.take();
    rig.pass(5_000);
    assert_eq!(statuses(&rig), 10);
}

#[test]
fn c18_who_is_below_s_star_gets_its_certificate_at_most_every_50_ms() {
    let mut rig = Rig::new(4, 3);
    let first = rig.final_block(1, &genesis());
    rig.final_block(2, &first);
    let repairs = |rig: &Rig| {
        let final_2 = |m: &Message| matches!(m, Message::Certs { certs } if certs[0].statement.kind == Kind::Final);
        rig.sent().into_iter().filter(|(to, m)| *to == 1 && final_2(m)).count()
    };
    rig.take();
    rig.vote(1, statement(Kind::Skip, 1, Hash::ZERO));
    rig.vote(1, statement(Kind::Skip, 1, Hash::ZERO));
    rig.status(1, 0, 1, 0, true);
    assert_eq!(repairs(&rig), 1);
    rig.pass(50);
    rig.status(1, 0, 1, 0, true);
    assert_eq!(repairs(&rig), 2);
    rig.pass(50);
    rig.vote(1, statement(Kind::Skip, 2, Hash::ZERO));
    rig.status(1, 2, 3, 2, true);
    assert_eq!(repairs(&rig), 2, "who is level needs none");
}

#[test]
fn c18_who_is_below_the_frontier_gets_what_clears_its_slots() {
    let mut rig = Rig::new(4, 3);
    for slot in 1..=3 {
        rig.cert(Kind::Skip, slot, Hash::ZERO);
    }
    rig.take();
    rig.status(1, 0, 2, 0, true);
    let Some((1, Message::Certs { certs })) = rig.sent().pop() else { panic!("certificates to 1") };
    assert_eq!(certs.iter().map(|c| c.statement.slot).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn c18_a_peer_far_ahead_calls_block_sync() {
    let mut rig = Rig::new(4, 3);
    let behind = |rig: &Rig| rig.out.iter().filter(|o| matches!(o, Output::Behind { peer: 2, .. })).count();
    rig.status(2, 64, 65, 64, true);
    assert_eq!(behind(&rig), 0);
    rig.status(2, 65, 66, 65, true);
    assert_eq!(behind(&rig), 1);
}

#[test]
fn c18_a_level_and_ready_peer_is_alive() {
    let mut rig = Rig::new(4, 3);
    rig.core.missing_since[1] = Some(5);
    rig.status(1, 0, 1, 0, false);
    assert!(rig.core.missing_since[1].is_some());
    rig.status(1, 0, 1, 0, true);
    assert!(rig.core.missing_since[1].is_none());
}

#[test]
fn a_peer_that_is_gone_is_not_asked() {
    let mut rig = Rig::new(4, 3);
    for peer in [0, 1] {
        rig.give(Input::Disconnected { peer });
    }
    rig.take();
    rig.cert(Kind::Notar, 1, D);
    rig.pass(3_000);
    assert!(cand_reqs(&rig, D).iter().all(|to| *to == 2));
    assert!(!cand_reqs(&rig, D).is_empty());
}

#[test]
fn recent_blocks_of_the_ledger_answer_requests_after_a_restart() {
    let rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let digest = header.digest();
    let mut rig = Rig::recovered(4, 3, Recovered { recent: vec![header], ..nothing() });
    rig.take();
    rig.give(Input::CandReq { from: 0, digests: vec![digest] });
    assert_eq!(rig.sent().len(), 1);
}
