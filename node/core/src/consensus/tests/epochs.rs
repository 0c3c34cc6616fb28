//! The end of an epoch and the beginning of the next (E1-E8, P10, and what of A5 spans two epochs).

use super::rig::{Parent, Rig, after, batch, chain, genesis, nothing, roots, statement};
use crate::block::{Candidate, Header, Proposal, Reproposal, Seal};
use crate::consensus::VotingState;
use crate::consensus::input::{Boundary, Input, Recovered, Tip};
use crate::consensus::output::{Output, Rows};
use crate::evidence::Evidence;
use crate::hash::Hash;
use crate::key::Signature;
use crate::memory::{Cause, Mark, Memory, Seen};
use crate::message::{Message, Status};
use crate::params::Parameters;
use crate::validators::{Index, Validator, ValidatorSet};
use crate::vote::{Cert, Kind, Statement, Vote};
use std::sync::Arc;

/// Epochs of two blocks.
fn two() -> Parameters {
    Parameters { epoch_blocks: 2, ..Parameters::default() }
}

/// Number `me` of five, who leads neither; blocks 1 and 2 end epoch 0.
fn rig(me: Index) -> Rig {
    Rig::with(&[1; 5], me, two(), nothing())
}

/// Everything up to the last block of epoch 0, which is final, executed and its Seal durable: the floor of epoch 1.
fn sealed(me: Index) -> (Rig, Parent) {
    let mut rig = rig(me);
    let first = rig.final_block(1, &genesis());
    let last = rig.final_block(2, &first);
    (rig, Parent { slot: 0, ..last })
}

/// Block 1 is final; the last block of the epoch is notarized in slot 2, its votes being those of others only.
fn notarized(me: Index) -> (Rig, Candidate) {
    let mut rig = rig(me);
    let first = rig.final_block(1, &genesis());
    let header = rig.header(2, &first);
    let last = rig.candidate(header);
    rig.give_candidate(last.clone());
    rig.serve();
    rig.cert(Kind::Notar, 2, last.header.digest());
    rig.serve();
    rig.take();
    (rig, last)
}

fn reproposal(rig: &Rig, slot: u64, digest: Hash) -> Reproposal {
    let leader = rig.config.set.leader(0, slot);
    let signature = rig.sign(leader, statement(Kind::Notar, slot, digest)).signature;
    Reproposal { epoch: 0, slot, digest, signature, proof: Vec::new() }
}

fn give_again(rig: &mut Rig, reproposal: Reproposal) {
    let from = rig.config.set.leader(0, reproposal.slot);
    rig.give(Input::Reproposal { from, reproposal });
}

fn seals(rig: &Rig) -> Vec<Seal> {
    let rows = rig.writes().into_iter().map(|write| write.rows);
    rows.filter_map(|rows| if let Rows::Seal { seal } = rows { Some(*seal) } else { None }).collect()
}

fn sent_seals(rig: &Rig) -> Vec<(Index, u64)> {
    let seal = |(to, message)| if let Message::Seal(seal) = message { Some((to, seal.header.epoch)) } else { None };
    rig.sent().into_iter().filter_map(seal).collect()
}

fn sent_again(rig: &Rig) -> Vec<Reproposal> {
    let again = |message| if let Message::Reproposal(again) = message { Some(*again) } else { None };
    rig.broadcasts().into_iter().filter_map(again).collect()
}

/// A vote in another epoch than 0.
fn in_epoch(epoch: u64, kind: Kind, slot: u64, digest: Hash) -> Statement {
    Statement { epoch, ..statement(kind, slot, digest) }
}

fn others_cert(rig: &Rig, statement: Statement) -> Cert {
    let others: Vec<Index> = (0..5).filter(|i| *i != rig.config.me).collect();
    rig.make_cert(&others, statement)
}

// ---- E1, V3 ----

#[test]
fn e1_the_state_after_the_last_block_decides_the_set_after_the_next() {
    let mut rig = rig(4);
    let heavy = |(i, member): (usize, &Validator)| Validator { key: member.key, weight: i as u32 + 1 };
    let set = ValidatorSet::new(rig.config.set.members().iter().enumerate().map(heavy).collect()).expect("valid set");
    rig.after = Arc::new(set.clone());
    let first = rig.final_block(1, &genesis());
    let last = rig.final_block(2, &first);
    let sets = rig.core.sets().clone();
    assert_eq!((sets.epoch, &sets.current, &*sets.next), (1, &rig.config.set, &set), "set(1) is that of genesis");
    let header = rig.header(1, &Parent { slot: 0, ..last });
    assert_eq!((header.set_hash, header.next_set_hash), (rig.config.set_hash, set.hash()));
    rig.take();
    let wrong = Header { next_set_hash: rig.config.set_hash, ..header.clone() };
    rig.propose(wrong);
    rig.serve();
    assert_eq!((rig.persisted(), rig.dropped()), (vec![], vec!["v3_sets"]));
    let digest = rig.propose(header);
    rig.serve();
    assert_eq!(rig.persisted(), [in_epoch(1, Kind::Notar, 1, digest)]);
}

#[test]
fn e1_a_validator_that_leaves_follows_and_votes_no_more() {
    let mut rig = rig(4);
    let others = rig.config.set.members()[..4].to_vec();
    rig.after = Arc::new(ValidatorSet::new(others).expect("valid set"));
    let mut at = genesis();
    for (epoch, slot) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        at = rig.final_block(slot, &at);
        assert_eq!(
            (rig.core.member(), rig.core.height() / 2 > epoch),
            (Some(4).filter(|_| rig.core.epoch() < 2), slot == 2)
        );
        at.slot = if slot == 2 { 0 } else { slot };
    }
    assert_eq!((rig.core.epoch(), rig.core.member()), (2, None));
    rig.take();
    let header = rig.header(1, &at);
    let digest = rig.propose(header);
    rig.serve();
    rig.pass(20_000);
    rig.serve();
    assert_eq!(rig.persisted(), []);
    let cert = rig.make_cert(&[0, 1, 2], in_epoch(2, Kind::Final, 1, digest));
    rig.give(Input::Cert { from: 0, cert: Cert { signers: vec![7], ..cert } });
    assert_eq!(rig.core.height(), 5, "it follows");
}

// ---- E3 ----

#[test]
fn e3_no_block_is_above_the_last_height_of_its_epoch() {
    let (mut rig, last) = notarized(4);
    let header = rig.header(3, &after(&last));
    rig.propose(header);
    rig.serve();
    assert_eq!((rig.persisted(), rig.dropped()), (vec![], vec!["e3_height"]));
}

// ---- E4 ----

#[test]
fn e4_a_last_block_that_is_notarized_is_voted_for_again() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    let again = reproposal(&rig, 3, digest);
    give_again(&mut rig, again);
    rig.serve();
    assert_eq!(rig.persisted(), [statement(Kind::Notar, 3, digest)]);
    rig.cert(Kind::Notar, 3, digest);
    rig.serve();
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 3), (Kind::Final, 3)], "C9 as ever");
    rig.cert(Kind::Final, 3, digest);
    rig.serve();
    assert_eq!((rig.finalized(), rig.core.epoch()), (vec![2], 1));
    assert_eq!(seals(&rig)[0].cert.statement, statement(Kind::Final, 3, digest), "of whatever slot");
}

#[test]
fn e4_again_after_a_skipped_slot_needs_the_skip_certificate() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    let again = reproposal(&rig, 4, digest);
    give_again(&mut rig, again);
    rig.serve();
    assert_eq!(rig.persisted(), [], "slot 3 may hold another candidate (G3)");
    rig.cert(Kind::Skip, 3, Hash::ZERO);
    rig.serve();
    assert_eq!(rig.persisted(), [statement(Kind::Notar, 4, digest)]);
}

#[test]
fn e4_twice_rests_on_the_second() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    rig.cert(Kind::Notar, 3, digest);
    rig.serve();
    rig.take();
    let again = reproposal(&rig, 4, digest);
    give_again(&mut rig, again);
    rig.serve();
    assert_eq!(rig.persisted(), [statement(Kind::Notar, 4, digest)], "r = 3: no gap");
}

#[test]
fn e4_needs_the_notar_certificate() {
    let mut rig = rig(4);
    let first = rig.final_block(1, &genesis());
    let header = rig.header(2, &first);
    let digest = rig.propose(header);
    rig.serve();
    rig.cert(Kind::Skip, 2, Hash::ZERO);
    rig.take();
    let again = reproposal(&rig, 3, digest);
    give_again(&mut rig, again);
    rig.serve();
    assert_eq!(rig.persisted(), [], "only proposed in slot 2");
    rig.cert(Kind::Notar, 2, digest);
    rig.serve();
    assert!(rig.persisted().contains(&statement(Kind::Notar, 3, digest)));
}

#[test]
fn e4_only_a_last_block_is_proposed_again_and_only_by_the_leader_of_the_slot() {
    let mut rig = rig(4);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    rig.serve();
    rig.cert(Kind::Notar, 1, digest);
    rig.serve();
    rig.take();
    let again = reproposal(&rig, 2, digest);
    give_again(&mut rig, again);
    rig.serve();
    assert_eq!(rig.persisted(), [], "height 1 is not the last one");
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    let mut forged = reproposal(&rig, 3, digest);
    forged.signature = rig.sign(1, statement(Kind::Notar, 3, digest)).signature;
    give_again(&mut rig, forged);
    rig.serve();
    assert_eq!((rig.persisted(), rig.dropped()), (vec![], vec!["candidate_signature"]));
}

#[test]
fn e4_not_beside_another_own_notar_and_not_before_the_data_is_here() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    let first = Parent { digest: last.header.parent, slot: 1, height: 1, time_ms: last.header.time_ms - 1 };
    let first = Parent { time_ms: rig.core.facts(&first.digest).expect("known").time_ms, ..first };
    rig.cert(Kind::Skip, 2, Hash::ZERO);
    let other = Header { time_ms: last.header.time_ms + 5, ..rig.header(3, &first) };
    let other = rig.propose(other);
    rig.serve();
    assert_eq!(
        rig.persisted(),
        [statement(Kind::Notar, 3, other)],
        "a block beside the last one, on the Skip of slot 2"
    );
    let again = reproposal(&rig, 3, digest);
    give_again(&mut rig, again);
    rig.serve();
    assert_eq!(rig.persisted().len(), 1, "G1");

    let mut rig = self::rig(4);
    let first = rig.final_block(1, &genesis());
    let mut header = rig.header(2, &first);
    header.batches = vec![batch(1, 9)];
    let digest = header.digest();
    let candidate = rig.candidate(header);
    rig.give_candidate(candidate);
    rig.cert(Kind::Notar, 2, digest);
    let again = reproposal(&rig, 3, digest);
    give_again(&mut rig, again);
    rig.serve();
    assert!(!rig.persisted().iter().any(|s| s.slot == 3), "P3: its batch is missing");
    rig.durable_batch(1, 1, 9);
    rig.serve();
    assert!(rig.persisted().contains(&statement(Kind::Notar, 3, digest)));
}

#[test]
fn e4_v1_a_signature_that_nobody_verified_gets_neither_into_rows_nor_into_final_blocks() {
    let mut rig = rig(4);
    let first = rig.final_block(1, &genesis());
    let header = rig.header(2, &first);
    let digest = header.digest();
    rig.cert(Kind::Notar, 2, digest);
    let forged = Candidate { header, signature: Signature([7; 64]) };
    rig.give(Input::Cand { from: 1, candidate: forged });
    rig.serve();
    let again = reproposal(&rig, 3, digest);
    give_again(&mut rig, again);
    rig.serve();
    let voted = |write: crate::consensus::output::Write| match write.rows {
        Rows::Notar { statement, candidate } if statement.slot == 3 => Some(*candidate),
        _ => None,
    };
    let row = rig.writes().into_iter().find_map(voted).expect("voted for again");
    assert_eq!(row.signature, Signature([0; 64]));
    rig.cert(Kind::Final, 3, digest);
    let signature = |output: &Output| match output {
        Output::Finalized { blocks, .. } => blocks.iter().find(|(d, _)| *d == digest).map(|(_, c)| c.signature),
        _ => None,
    };
    assert_eq!(rig.out.iter().find_map(signature), Some(Signature([0; 64])));

    let votes = vec![rig.sign(4, statement(Kind::Notar, 3, digest))];
    let mut rig = restarted(Recovered { tip: tip_at(&first), candidates: vec![row], votes, ..nothing() }, 0);
    rig.serve();
    assert_eq!(rig.persisted(), [], "C8 asks for the leader's signature");
}

#[test]
fn c15_what_a_reproposal_lacks_is_the_skips_above_its_base_or_else_the_base() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    assert_eq!(rig.core.e4_missing_proof(100, &digest), (3..67).collect::<Vec<_>>());
    rig.cert(Kind::Skip, 3, Hash::ZERO);
    assert_eq!(rig.core.e4_missing_proof(100, &digest), (4..68).collect::<Vec<_>>(), "slot 3 is not asked for again");
    rig.cert(Kind::Notar, 50, digest);
    assert_eq!(rig.core.e4_missing_proof(100, &digest), (51..100).collect::<Vec<_>>());
    let mut rig = self::rig(4);
    let first = rig.final_block(1, &genesis());
    let header = rig.header(2, &first);
    let digest = rig.propose(header);
    rig.cert(Kind::Skip, 99, Hash::ZERO);
    assert_eq!(rig.core.e4_missing_proof(100, &digest), (36..100).rev().collect::<Vec<_>>(), "the nearest first");
}

#[test]
fn c20_reproposals_of_slots_that_are_over_are_forgotten() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    for (slot, digest) in [(3, digest), (4, digest), (4, Hash([9; 32]))] {
        let again = reproposal(&rig, slot, digest);
        give_again(&mut rig, again);
    }
    rig.serve();
    assert_eq!(rig.core.reproposals.len(), 3);
    // So that the next epoch cannot begin.
    rig.core.boundaries.clear();
    rig.cert(Kind::Final, 3, digest);
    rig.serve();
    assert_eq!(rig.core.reproposals.keys().map(|(slot, _)| *slot).collect::<Vec<_>>(), [4, 4]);
}

#[test]
fn c13_of_the_blocks_proposed_again_in_a_slot_two_are_kept() {
    let (mut rig, _) = notarized(4);
    for name in 1..=3 {
        let again = reproposal(&rig, 3, Hash([name; 32]));
        give_again(&mut rig, again);
    }
    assert_eq!((rig.core.reproposals.len(), rig.dropped()), (2, vec!["candidate_third"]));
}

#[test]
fn x2_votes_for_a_block_and_for_the_same_one_again_are_no_evidence() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    for (kind, slot) in [(Kind::Notar, 2), (Kind::Notar, 3), (Kind::Final, 3), (Kind::Skip, 4), (Kind::Notar, 4)] {
        rig.vote(1, statement(kind, slot, if kind == Kind::Skip { Hash::ZERO } else { digest }));
    }
    assert_eq!(rig.evidence(), 0);
    rig.vote(1, statement(Kind::Notar, 3, Hash([9; 32])));
    assert_eq!(rig.evidence(), 1, "a block beside the one proposed again is");
}

#[test]
fn e4_the_leader_waits_for_the_final_certificate_then_proposes_again() {
    // Validator 2 leads slot 3.
    let (mut rig, last) = notarized(2);
    let digest = last.header.digest();
    rig.durable_batch(0, 1, 5);
    rig.pass(36);
    rig.serve();
    assert_eq!(rig.persisted(), [], "T0/4 is 37 ms; and nothing else is built on it");
    rig.pass(80);
    rig.serve();
    assert_eq!(rig.persisted(), [statement(Kind::Notar, 3, digest)]);
    let sent = sent_again(&rig);
    assert_eq!((sent[0].slot, sent[0].digest), (3, digest));
    assert_eq!(
        sent[0].proof.iter().map(|cert| cert.statement).collect::<Vec<_>>(),
        [statement(Kind::Notar, 2, digest)]
    );
    let vote = Vote { statement: statement(Kind::Notar, 3, digest), signer: 2, signature: sent[0].signature };
    assert!(vote.verifies(&chain(), &rig.config.set.members()[2].key), "its signature is the leader's Notar vote (F6)");
    assert!(rig.sent_proposals().is_empty());
}

#[test]
fn e4_the_leader_proposes_nothing_again_once_it_is_final() {
    let (mut rig, last) = notarized(2);
    rig.pass(20);
    rig.cert(Kind::Final, 2, last.header.digest());
    rig.serve();
    rig.pass(80);
    rig.serve();
    assert!(sent_again(&rig).is_empty());
}

// ---- E5, P10 ----

#[test]
fn e5_no_vote_in_an_epoch_that_is_sealed() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    // All but the execution, so that the next epoch cannot begin.
    rig.core.boundaries.clear();
    rig.durable_batch(0, 1, 5);
    rig.cert(Kind::Final, 2, digest);
    rig.serve();
    assert_eq!((rig.core.epoch(), rig.finalized()), (0, vec![2]));
    rig.take();
    rig.pass(20_000);
    rig.serve();
    let again = reproposal(&rig, 3, digest);
    give_again(&mut rig, again);
    rig.serve();
    assert_eq!(rig.persisted(), [], "no Skip of slot 3, no Notar");
    rig.executed(digest, &last.header);
    assert_eq!(rig.core.epoch(), 1);
}

#[test]
fn e5_a_header_that_a_seal_brings_counts_only_under_its_certificate() {
    let (ahead, floor) = sealed(4);
    let mut seal = seals(&ahead)[0].clone();
    seal.cert.signatures[0] = Signature([7; 64]);
    let mut rig = rig(4);
    rig.final_block(1, &genesis());
    rig.take();
    rig.give(Input::Seal { from: 1, seal });
    rig.serve();
    assert_eq!((rig.core.height_of(&floor.digest), rig.asked_to_execute()), (None, vec![]));
    assert_eq!(rig.dropped(), ["cert_signature"]);
}

#[test]
fn e5_votes_and_certificates_of_an_epoch_that_is_over_do_not_count_in_the_next() {
    let (mut rig, _) = sealed(4);
    let skip = statement(Kind::Skip, 1, Hash::ZERO);
    rig.take();
    for signer in 0..4 {
        rig.vote(signer, skip);
    }
    let cert = others_cert(&rig, skip);
    rig.give(Input::Cert { from: 1, cert });
    assert_eq!((rig.certified(), rig.core.frontier()), (vec![], 1));
}

#[test]
fn e5_the_next_epoch_begins_at_slot_1_on_the_sealed_block() {
    let (mut rig, floor) = sealed(4);
    assert_eq!((rig.core.epoch(), rig.core.final_slot(), rig.core.frontier(), rig.core.height()), (1, 0, 1, 2));
    assert!(rig.core.slots.is_empty() && rig.core.wants.is_empty() && rig.core.open.is_empty());
    let seal = &seals(&rig)[0];
    assert_eq!((seal.header.digest(), seal.cert.statement.kind), (floor.digest, Kind::Final));
    rig.take();
    let header = rig.header(1, &floor);
    assert_eq!((header.proposer, header.height, header.parent_slot), (1, 3, 0), "leader(1, 1) of M6");
    let digest = rig.propose(header);
    rig.serve();
    assert_eq!(rig.persisted(), [in_epoch(1, Kind::Notar, 1, digest)]);
}

#[test]
fn e5_who_was_missing_is_missing_still() {
    let (rig, _) = sealed(4);
    let missing: Vec<bool> = rig.core.missing_since.iter().map(Option::is_some).collect();
    // The certificates are of the others' votes: the own ones came too late for them.
    assert_eq!(missing, [false, false, false, false, true]);
}

#[test]
fn e5_a_first_block_on_anything_but_the_floor_is_refused() {
    let (mut rig, floor) = sealed(4);
    rig.take();
    let below =
        Parent { digest: rig.core.candidates[&floor.digest].candidate.header.parent, height: 1, ..floor.clone() };
    for parent in [below, Parent { slot: 0, ..genesis() }] {
        let header = Header { height: 3, ..rig.header(1, &parent) };
        rig.propose(header);
        rig.serve();
    }
    assert_eq!((rig.persisted(), rig.asked_to_execute()), (vec![], vec![]));
}

#[test]
fn p10_no_vote_before_the_seal_is_durable() {
    let mut rig = rig(4);
    let first = rig.final_block(1, &genesis());
    let header = rig.header(2, &first);
    let last = rig.candidate(header);
    let digest = last.header.digest();
    rig.give_candidate(last.clone());
    rig.serve();
    rig.cert(Kind::Notar, 2, digest);
    rig.serve();
    rig.take();
    rig.cert(Kind::Final, 2, digest);
    let writes = rig.writes();
    let seal = writes.iter().find(|write| matches!(write.rows, Rows::Seal { .. })).expect("asked for").clone();
    assert_eq!(rig.core.epoch(), 1);
    writes.iter().filter(|write| write.id != seal.id).for_each(|write| rig.commit(write));
    rig.take();
    let header = rig.header(1, &Parent { slot: 0, ..after(&last) });
    let first_of_1 = rig.propose(header);
    rig.execute();
    rig.pass(20_000);
    assert_eq!(rig.persisted(), []);
    rig.commit(&seal);
    assert!(rig.persisted().contains(&in_epoch(1, Kind::Notar, 1, first_of_1)));
}

#[test]
fn p10_an_epoch_entered_without_its_seal_asks_for_it() {
    let (old, floor) = sealed(3);
    let seal = seals(&old)[0].clone();
    let tip = Tip { digest: floor.digest, slot: 2, height: 2, time_ms: floor.time_ms, roots: roots(floor.digest) };
    let mut rig = restarted(Recovered { tip, ..nothing() }, 1);
    rig.take();
    let header = rig.header(1, &floor);
    let digest = rig.propose(header);
    rig.serve();
    assert_eq!(rig.persisted(), []);
    rig.pass(60);
    let status = Status { epoch: 1, final_slot: 0, frontier: 1, height: 2, ready: true };
    rig.give(Input::Status { from: 1, status });
    assert!(rig.sent().contains(&(1, Message::SealReq { epoch: 0 })));
    let mut forged = seal.clone();
    forged.cert.signatures[0] = Signature([7; 64]);
    rig.give(Input::Seal { from: 1, seal: forged });
    rig.serve();
    assert_eq!((rig.persisted(), rig.dropped()), (vec![], vec!["cert_signature"]));
    rig.give(Input::Seal { from: 1, seal });
    rig.serve();
    assert!(rig.persisted().contains(&in_epoch(1, Kind::Notar, 1, digest)));
}

/// In an epoch whose set is another than that of the epoch before.
#[test]
fn p10_only_the_end_of_the_epoch_before_by_the_set_of_that_epoch_lets_votes_begin() {
    let old = rig(4);
    let after = Arc::new(ValidatorSet::new(old.config.set.members()[1..].to_vec()).expect("valid set"));
    let seal = row_of(&old, 1);
    let (digest, header) = (seal.header.digest(), seal.header.clone());
    let tip = Tip { digest, slot: 2, height: 4, time_ms: header.time_ms, roots: roots(digest) };
    let mut rig = restarted_by(Recovered { tip, ..nothing() }, &[after.clone(), after.clone()]);
    assert_eq!((rig.core.epoch(), rig.core.height(), &rig.core.sets().current), (2, 4, &after));
    let sealed_by = |cert| Seal { cert, ..seal.clone() };
    let low = Header { height: 3, ..header.clone() };
    let of_low = others_cert(&old, in_epoch(1, Kind::Final, 2, low.digest()));
    let sealing = in_epoch(1, Kind::Final, 2, digest);
    let by_after: Vec<_> = (0..3).map(|i| (i, old.sign(i + 1, sealing).signature)).collect();
    let wrong = [
        sealed_by(others_cert(&old, in_epoch(1, Kind::Notar, 2, digest))),
        sealed_by(others_cert(&old, in_epoch(0, Kind::Final, 2, digest))),
        Seal { header: Header { time_ms: 9, ..header }, ..seal.clone() },
        Seal { header: low, cert: of_low },
        sealed_by(Cert::collect(sealing, &after, &by_after)),
    ];
    rig.take();
    for seal in wrong {
        rig.give(Input::Seal { from: 1, seal });
        rig.serve();
        rig.pass(5_000);
        rig.serve();
    }
    let why = ["seal_malformed", "seal_malformed", "seal_malformed", "seal_malformed", "cert_signature"];
    assert_eq!((rig.persisted(), rig.dropped()), (vec![], why.to_vec()));
    rig.give(Input::Seal { from: 1, seal });
    rig.serve();
    rig.pass(5_000);
    assert!(rig.persisted().contains(&in_epoch(2, Kind::Skip, 1, Hash::ZERO)));
}

/// Number 4 starts again in an epoch.
fn restarted(recovered: Recovered, epoch: u64) -> Rig {
    let set = rig(4).config.set;
    restarted_by(recovered, &vec![set; epoch as usize])
}

/// The same, where the states after the last blocks of the epochs before decided these sets.
fn restarted_by(recovered: Recovered, decided: &[Arc<ValidatorSet>]) -> Rig {
    let mut rig = Rig::alone(&[1; 5], 4, two(), nothing());
    let mut config = rig.config.clone();
    decided.iter().for_each(|set| config.enter(set.clone()));
    rig.core = crate::consensus::Core::new(config, recovered, rig.now);
    rig.take();
    let mut out = Vec::new();
    rig.core.start(rig.now, &mut out);
    rig.out.extend(out);
    for peer in 0..4 {
        rig.give(Input::Connected { peer });
        if rig.core.voting_state() == VotingState::Checking {
            rig.answer(peer, 0, Seen::default());
        }
    }
    rig
}

fn tip_at(block: &Parent) -> Tip {
    let Parent { digest, slot, height, time_ms } = *block;
    Tip { digest, slot, height, time_ms, roots: roots(digest) }
}

// ---- E6 ----

#[test]
fn e6_a_first_proposal_with_only_the_notar_of_the_floor_is_not_voted_for() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    let (other, floor) = sealed(3);
    assert_eq!(floor.digest, digest, "the same chain");
    let header = other.header(1, &floor);
    let first = header.digest();
    let candidate = Candidate { signature: rig.sign(1, header.notar(first)).signature, header };
    let notar = others_cert(&rig, statement(Kind::Notar, 2, digest));
    rig.give(Input::Proposal { from: 1, proposal: Proposal { candidate: candidate.clone(), proof: vec![notar] } });
    rig.serve();
    assert_eq!((rig.core.epoch(), rig.persisted()), (0, vec![]));
    let sealing = others_cert(&rig, statement(Kind::Final, 2, digest));
    rig.give(Input::Proposal { from: 1, proposal: Proposal { candidate, proof: vec![sealing] } });
    rig.serve();
    assert_eq!((rig.core.epoch(), rig.persisted()), (1, vec![in_epoch(1, Kind::Notar, 1, first)]));
}

#[test]
fn e6_the_first_proposal_carries_the_sealing_certificate() {
    let (mut rig, floor) = leading();
    rig.durable_batch(0, 1, 5);
    rig.pass(50);
    rig.serve();
    let proposals = rig.sent_proposals();
    let Proposal { candidate, proof } = &proposals[0];
    assert_eq!((candidate.header.epoch, candidate.header.slot, candidate.header.parent), (1, 3, floor.digest));
    let skipped = |slot| in_epoch(1, Kind::Skip, slot, Hash::ZERO);
    let expected = [statement(Kind::Final, 2, floor.digest), skipped(1), skipped(2)];
    assert_eq!(proof.iter().map(|cert| cert.statement).collect::<Vec<_>>(), expected);
}

/// Validator 3 is to lead slot 3 of epoch 1, as M6 says, and the slots before it were skipped.
fn leading() -> (Rig, Parent) {
    let (mut rig, floor) = sealed(3);
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    rig.cert(Kind::Skip, 2, Hash::ZERO);
    rig.serve();
    rig.take();
    (rig, floor)
}

// ---- C16, C18: what others hear at the end of an epoch ----

#[test]
fn c16_the_certificate_that_sealed_an_epoch_is_relayed_to_who_is_not_in_the_next_one() {
    // Nine: certificates are relayed after a while only.
    let mut rig = Rig::with(&[1; 9], 8, two(), nothing());
    let first = rig.final_block(1, &genesis());
    let last = rig.final_block(2, &first);
    assert_eq!(rig.core.epoch(), 1);
    rig.take();
    let status = Status { epoch: 1, final_slot: 0, frontier: 1, height: 2, ready: true };
    rig.give(Input::Status { from: 1, status });
    rig.pass(30);
    let sealing = statement(Kind::Final, 2, last.digest);
    let relayed = |(to, message)| match message {
        Message::Cert(cert) if cert.statement == sealing => Some(to),
        _ => None,
    };
    assert_eq!(rig.sent().into_iter().filter_map(relayed).collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn c11_one_that_is_no_member_says_ready_for_it_may_lead_in_the_next_epoch() {
    let mut rig = rig(4);
    rig.after = Arc::new(ValidatorSet::new(rig.config.set.members()[..4].to_vec()).expect("valid set"));
    end_two_epochs(&mut rig);
    assert_eq!((rig.core.epoch(), rig.core.member()), (2, None));
    rig.take();
    rig.pass(600);
    let ready = |message| if let Message::Status(status) = message { Some(status.ready) } else { None };
    assert_eq!(rig.broadcasts().into_iter().filter_map(ready).collect::<Vec<_>>().pop(), Some(true));
}

// ---- what comes early ----

#[test]
fn e5_what_comes_for_the_next_epoch_early_counts_once_it_begins() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    let skip = in_epoch(1, Kind::Skip, 1, Hash::ZERO);
    for signer in 0..4 {
        rig.vote(signer, skip);
    }
    assert_eq!((rig.certified(), rig.core.frontier()), (vec![], 3));
    rig.cert(Kind::Final, 2, digest);
    rig.serve();
    assert_eq!((rig.core.epoch(), rig.core.frontier()), (1, 2), "slot 1 was skipped by the others");
    rig.vote(1, in_epoch(3, Kind::Skip, 1, Hash::ZERO));
    assert_eq!(rig.dropped(), ["epoch_far"]);
}

#[test]
fn e5_votes_of_the_old_set_do_not_count_in_the_new_epoch() {
    let mut rig = rig(4);
    let alone = rig.config.set.members()[..1].to_vec();
    rig.after = Arc::new(ValidatorSet::new(alone).expect("valid set"));
    let mut at = genesis();
    for slot in [1, 2, 1, 2] {
        at = rig.final_block(slot, &at);
        at.slot = if slot == 2 { 0 } else { slot };
    }
    assert_eq!((rig.core.epoch(), rig.core.sets().current.len()), (2, 1));
    rig.take();
    for signer in 1..4 {
        rig.vote(signer, in_epoch(2, Kind::Skip, 1, Hash::ZERO));
    }
    let cert = rig.make_cert(&[1, 2, 3], in_epoch(2, Kind::Skip, 1, Hash::ZERO));
    rig.give(Input::Cert { from: 1, cert });
    assert_eq!((rig.certified(), rig.core.frontier()), (vec![], 1));
    assert_eq!(rig.dropped(), ["vote_malformed", "vote_malformed", "vote_malformed", "cert_malformed"]);
}

#[test]
fn e5_votes_above_the_last_block_are_forgotten_with_their_epoch() {
    let (mut rig, last) = notarized(4);
    for signer in 0..3 {
        // Verified at once, as they come from another than their signer.
        let vote = rig.sign(signer, statement(Kind::Skip, 3, Hash::ZERO));
        rig.give(Input::Vote { from: 3, vote });
    }
    rig.cert(Kind::Final, 2, last.header.digest());
    rig.serve();
    assert_eq!((rig.core.epoch(), rig.core.slots.is_empty()), (1, true));
    rig.take();
    rig.vote(3, in_epoch(1, Kind::Skip, 3, Hash::ZERO));
    assert_eq!(rig.certified(), [], "one vote of this epoch, three of the one before");
}

#[test]
fn what_waits_for_the_next_epoch_is_in_the_fingerprint() {
    let (mut rig, _) = notarized(4);
    let before = rig.core.fingerprint();
    rig.vote(1, in_epoch(1, Kind::Skip, 1, Hash::ZERO));
    assert_ne!(rig.core.fingerprint(), before);
}

// ---- E7, C18 ----

#[test]
fn e7_an_old_vote_or_status_is_answered_with_the_seal_at_most_once_in_50_ms() {
    let (mut rig, _) = sealed(4);
    rig.pass(60);
    rig.take();
    rig.vote(2, statement(Kind::Skip, 3, Hash::ZERO));
    rig.vote(2, statement(Kind::Skip, 4, Hash::ZERO));
    assert_eq!(sent_seals(&rig), [(2, 0)]);
    rig.pass(50);
    rig.status(2, 1, 3, 1, true);
    assert_eq!(sent_seals(&rig), [(2, 0), (2, 0)]);
    rig.give(Input::SealReq { from: 3, epoch: 0 });
    rig.give(Input::SealReq { from: 3, epoch: 1 });
    assert_eq!(sent_seals(&rig).last(), Some(&(3, 0)), "that of epoch 1 is not there");
    assert_eq!(sent_seals(&rig).len(), 3);
}

#[test]
fn e7_who_asks_for_a_seal_again_and_again_gets_a_mebibyte_of_them_a_second() {
    let (mut rig, _) = sealed(4);
    let bytes = borsh::object_length(&seals(&rig)[0]).expect("a length");
    let fit = crate::params::ANSWER_BYTES / bytes;
    rig.pass(2_000);
    rig.take();
    for _ in 0..fit + 2 {
        rig.give(Input::SealReq { from: 3, epoch: 0 });
    }
    assert_eq!((sent_seals(&rig).len(), rig.dropped()), (fit, vec!["answer_rate"; 2]));
}

#[test]
fn e7_a_seal_takes_a_straggler_along() {
    let (ahead, floor) = sealed(4);
    let seal = seals(&ahead)[0].clone();
    let mut rig = rig(4);
    rig.final_block(1, &genesis());
    rig.take();
    let wrong = Seal { header: Header { time_ms: 9, ..seal.header.clone() }, ..seal.clone() };
    rig.give(Input::Seal { from: 1, seal: wrong });
    assert_eq!(rig.dropped(), ["seal_malformed"]);
    rig.give(Input::Seal { from: 1, seal });
    rig.serve();
    assert_eq!((rig.core.epoch(), rig.finalized(), rig.core.frontier()), (1, vec![2], 1));
    assert_eq!(rig.core.tip.digest, floor.digest);
}

#[test]
fn e7_a_straggler_asks_for_the_end_of_its_epoch() {
    let mut rig = rig(4);
    rig.pass(60);
    rig.take();
    let status = Status { epoch: 1, final_slot: 3, frontier: 4, height: 5, ready: true };
    rig.give(Input::Status { from: 2, status });
    assert_eq!(rig.sent(), [(2, Message::SealReq { epoch: 0 })]);
}

// ---- S1 ----

#[test]
fn s1_block_sync_may_end_an_epoch() {
    let (ahead, floor) = sealed(3);
    let Seal { header, cert } = seals(&ahead)[0].clone();
    let mut rig = rig(4);
    let tip = Tip { digest: floor.digest, slot: 2, height: 2, time_ms: header.time_ms, roots: roots(floor.digest) };
    let boundary = Some(Box::new(Boundary { header, set: rig.after.clone() }));
    rig.give(Input::Synced { tip, cert, included: Vec::new(), nullifiers: Vec::new(), boundary });
    assert_eq!((rig.core.epoch(), rig.core.height(), rig.core.frontier()), (1, 2, 1));
    assert_eq!(seals(&rig).len(), 1);
}

#[test]
fn s1_block_sync_of_an_epoch_that_is_over_moves_nothing_in_the_next() {
    let (mut rig, floor) = sealed(4);
    let cert = seals(&rig)[0].cert.clone();
    let tip = Tip { slot: 2, ..tip_at(&floor) };
    rig.give(Input::Synced { tip, cert, included: Vec::new(), nullifiers: Vec::new(), boundary: None });
    assert_eq!((rig.core.epoch(), rig.core.height(), rig.core.final_slot(), rig.core.frontier()), (1, 2, 0, 1));
}

// ---- E8 ----

#[test]
fn e8_a_batch_of_the_epoch_before_stays_includable_and_no_older_one() {
    let (mut rig, floor) = leading();
    rig.durable_batch(0, 1, 5);
    rig.pass(50);
    rig.serve();
    let header = rig.sent_proposals()[0].candidate.header.clone();
    assert_eq!((header.epoch, header.batches.len(), header.batches[0].epoch), (1, 1, 0));
    let floor = Parent { slot: 0, ..floor };
    for (epoch, valid) in [(0, true), (1, true), (2, false)] {
        let mut rig = self::sealed(4).0;
        rig.take();
        let reference = crate::batch::BatchRef { epoch, ..batch(0, 7) };
        rig.give(Input::BatchDurable { reference: reference.clone(), seq: 1, expiry_height: 100 });
        let header = Header { batches: vec![reference], ..rig.header(1, &floor) };
        rig.propose(header);
        rig.serve();
        assert_eq!(rig.persisted().len(), usize::from(valid), "of epoch {epoch} in epoch 1");
    }
}

#[test]
fn e8_a_batch_two_epochs_old_that_is_durable_late_keeps_no_leader_from_leading() {
    let mut rig = rig(4);
    let mut at = genesis();
    for slot in [1, 2, 1, 2] {
        at = rig.final_block(slot, &at);
        at.slot = if slot == 2 { 0 } else { slot };
    }
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    rig.cert(Kind::Skip, 2, Hash::ZERO);
    rig.take();
    rig.durable_batch(0, 1, 5);
    rig.pass(200);
    rig.serve();
    let header = rig.sent_proposals().pop().expect("it leads slot 3").candidate.header;
    assert_eq!((header.epoch, header.slot, header.batches.len()), (2, 3, 0));
}

// ---- X3 ----

#[test]
fn x3_evidence_of_an_earlier_epoch_is_judged_by_the_set_of_that_epoch() {
    for (key, valid) in [(0, true), (1, false)] {
        let mut rig = rig(4);
        // In set(2) number 0 is the key that was number 1.
        rig.after = Arc::new(ValidatorSet::new(rig.config.set.members()[1..].to_vec()).expect("valid set"));
        let mut at = genesis();
        for slot in [1, 2, 1, 2] {
            at = rig.final_block(slot, &at);
            at.slot = if slot == 2 { 0 } else { slot };
        }
        rig.take();
        let vote = |name| Vote { signer: 0, ..rig.sign(key, statement(Kind::Notar, 1, Hash([name; 32]))) };
        let evidence = vec![Evidence::of_votes(vote(1), vote(2), &chain())];
        let header = Header { evidence, ..rig.header(1, &at) };
        let signer = header.proposer + 1;
        let statement = header.notar(header.digest());
        let candidate = Candidate { signature: rig.sign(signer, statement).signature, header };
        rig.give_candidate(candidate);
        rig.execute();
        assert_eq!(
            rig.persisted(),
            [statement].into_iter().filter(|_| valid).collect::<Vec<_>>(),
            "{:?}",
            rig.dropped()
        );
    }
}

#[test]
fn x3_evidence_that_waits_until_it_is_stale_is_in_no_block() {
    let mut rig = rig(4);
    let vote = |name| rig.sign(0, statement(Kind::Notar, 1, Hash([name; 32])));
    let evidence = Evidence::of_votes(vote(1), vote(2), &chain());
    rig.give(Input::Evidence(evidence));
    let mut at = genesis();
    for (epoch, waits) in [(1, 1), (2, 1), (3, 0)] {
        let first = rig.final_block(1, &at);
        at = Parent { slot: 0, ..rig.final_block(2, &first) };
        assert_eq!((rig.core.epoch(), rig.core.x5_pick(at.digest).len()), (epoch, waits));
    }
}

// ---- restarts (P8, P10) ----

/// Votes of epoch 1 are durable, and its Seal, but not yet the blocks: they are written by another lane.
#[test]
fn p8_votes_of_the_next_epoch_count_though_its_floor_is_not_in_the_ledger() {
    let (old, floor) = sealed(3);
    let seal = seals(&old)[0].clone();
    let own = old.sign(4, in_epoch(1, Kind::Notar, 1, Hash([8; 32])));
    let mut rig = restarted(Recovered { seals: vec![seal.clone()], votes: vec![own], ..nothing() }, 0);
    assert_eq!((rig.core.epoch(), rig.core.final_slot()), (0, 2), "the Seal is known");
    let mark = mark_of(&mut rig);
    assert_eq!((mark.epoch, mark.slot), (1, 1), "A4: the highest epoch proven started, and the vote in it");
    rig.pass(20_000);
    rig.serve();
    assert_eq!(rig.persisted(), [], "E5");
    for header in old.core.candidates.values().map(|entry| entry.candidate.header.clone()) {
        rig.give(Input::Cand { from: 1, candidate: old.candidate(header) });
    }
    rig.serve();
    assert_eq!(rig.core.epoch(), 1);
    rig.take();
    let header = rig.header(1, &floor);
    rig.propose(header);
    rig.serve();
    assert_eq!(rig.persisted(), [], "G1: there is an own Notar in slot 1");
}

#[test]
fn p8_of_a_seal_and_a_final_certificate_the_one_of_the_higher_slot_is_the_highest_final_position() {
    let (mut old, floor) = sealed(3);
    let third = old.final_block(1, &floor);
    let fourth = old.final_block(2, &third);
    let seals = seals(&old);
    assert_eq!(seals.len(), 2);
    let again = others_cert(&old, statement(Kind::Final, 4, floor.digest));
    let rig = restarted(Recovered { seals: seals.clone(), final_cert: Some(again), ..nothing() }, 0);
    assert_eq!((rig.core.epoch(), rig.core.final_slot()), (0, 4), "proposed again in slot 4 (E4)");
    let again = others_cert(&old, in_epoch(1, Kind::Final, 5, fourth.digest));
    let mut rig = restarted(Recovered { seals, final_cert: Some(again), ..nothing() }, 0);
    for header in old.core.candidates.values().map(|entry| entry.candidate.header.clone()) {
        if header.height == 1 {
            rig.give(Input::Cand { from: 1, candidate: old.candidate(header) });
        }
    }
    rig.serve();
    assert_eq!((rig.core.epoch(), rig.core.final_slot()), (1, 5), "of an epoch that began after the start");
}

#[test]
fn c14_a_start_serves_a_last_block_that_is_notarized_in_another_slot_than_its_own() {
    let (mut rig, last) = notarized(4);
    let digest = last.header.digest();
    let tip = Tip {
        digest: last.header.parent,
        slot: 1,
        height: 1,
        time_ms: rig.core.facts(&last.header.parent).expect("known").time_ms,
        roots: roots(last.header.parent),
    };
    let certs = vec![others_cert(&rig, statement(Kind::Notar, 3, digest))];
    let candidates = vec![Candidate { signature: Signature([0; 64]), ..last }];
    rig = restarted(Recovered { tip, certs, candidates, ..nothing() }, 0);
    rig.take();
    rig.give(Input::CandReq { from: 1, digests: vec![digest] });
    let served = |(to, message)| match message {
        Message::Cand(candidate) => Some((to, candidate.header.digest())),
        _ => None,
    };
    assert_eq!(rig.sent().into_iter().filter_map(served).collect::<Vec<_>>(), [(1, digest)]);
}

#[test]
fn p8_a_start_on_the_last_block_of_an_epoch_is_in_the_next_one() {
    let (old, floor) = sealed(3);
    let tip = Tip { digest: floor.digest, slot: 2, height: 2, time_ms: floor.time_ms, roots: roots(floor.digest) };
    let mut rig = restarted(Recovered { tip, seals: seals(&old), vote_floor: (1, 0), ..nothing() }, 1);
    assert_eq!((rig.core.epoch(), rig.core.final_slot(), rig.core.frontier()), (1, 0, 1));
    rig.take();
    let header = rig.header(1, &floor);
    let digest = rig.propose(header);
    rig.serve();
    assert_eq!(rig.persisted(), [in_epoch(1, Kind::Notar, 1, digest)]);
}

#[test]
fn p8_rows_of_an_epoch_that_is_over_mean_nothing_in_the_next() {
    let (old, floor) = sealed(3);
    let of_before = statement(Kind::Notar, 1, Hash([8; 32]));
    let (votes, certs) = (vec![old.sign(4, of_before)], vec![others_cert(&old, of_before)]);
    let tip = Tip { slot: 2, ..tip_at(&floor) };
    let mut rig = restarted(Recovered { tip, seals: seals(&old), votes, certs, ..nothing() }, 1);
    assert_eq!((rig.core.epoch(), rig.core.frontier()), (1, 1), "slot 1 was notarized in epoch 0");
    rig.take();
    let header = rig.header(1, &floor);
    let digest = rig.propose(header);
    rig.serve();
    assert_eq!(rig.persisted(), [in_epoch(1, Kind::Notar, 1, digest)], "and voted in");
}

#[test]
fn e5_no_vote_in_an_epoch_below_one_whose_votes_or_seal_the_ledger_holds() {
    let old = rig(4);
    let skip = old.sign(4, in_epoch(5, Kind::Skip, 1, Hash::ZERO));
    for (seals, votes, allowed) in
        [(vec![], vec![], true), (vec![row_of(&old, 4)], vec![], false), (vec![], vec![skip], false)]
    {
        let mut rig = restarted(Recovered { seals, votes, ..nothing() }, 0);
        let header = rig.header(1, &genesis());
        rig.propose(header);
        rig.serve();
        rig.pass(20_000);
        rig.serve();
        assert_eq!(!rig.persisted().is_empty(), allowed, "{:?}", rig.persisted());
        rig.take();
        let status = Status { epoch: 6, final_slot: 0, frontier: 1, height: 13, ready: true };
        rig.give(Input::Status { from: 1, status });
        assert!(rig.sent().contains(&(1, Message::SealReq { epoch: 0 })), "its own end is still to be had");
    }
}

#[test]
fn p10_a_seal_is_asked_for_once_however_many_later_ones_the_ledger_holds() {
    let old = sealed(4).0;
    let seal = seals(&old)[0].clone();
    let later = (1..=4).map(|epoch| row_of(&old, epoch)).collect();
    let mut rig = restarted(Recovered { seals: later, ..nothing() }, 0);
    rig.final_block(1, &genesis());
    rig.give(Input::Seal { from: 1, seal });
    rig.execute();
    for _ in 0..20 {
        rig.pass(5);
    }
    assert_eq!((rig.finalized(), rig.core.epoch(), seals(&rig).len()), (vec![1, 2], 0, 1));
    assert_eq!(rig.core.seals.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn p9_a_vote_floor_of_a_later_epoch_covers_all_earlier_ones() {
    let mut rig = restarted(Recovered { vote_floor: (1, 0), ..nothing() }, 0);
    let header = rig.header(1, &genesis());
    rig.propose(header);
    rig.serve();
    rig.pass(20_000);
    rig.serve();
    assert_eq!(rig.persisted(), []);
}

// ---- A4, A5 ----

/// What number 4 answers to a question about marks.
fn mark_of(rig: &mut Rig) -> Mark {
    rig.ask(2, Hash([1; 32]));
    let mark = |o: &Output| if let Output::Mark { mark, .. } = o { Some(*mark) } else { None };
    rig.out.iter().find_map(mark).expect("an answer")
}

/// The end of an epoch as the ledger has it; only its epoch and height matter to who is far below it.
fn row_of(rig: &Rig, epoch: u64) -> Seal {
    let header = Header { epoch, height: 2 * (epoch + 1), ..rig.header(2, &genesis()) };
    let cert = others_cert(rig, in_epoch(epoch, Kind::Final, 2, header.digest()));
    Seal { header, cert }
}

#[test]
fn a4_the_mark_is_of_the_highest_epoch_that_has_started_however_far_the_blocks_lag() {
    let rig = rig(4);
    for lag in [2, 4] {
        let seals = (0..lag).map(|epoch| row_of(&rig, epoch)).collect();
        let own = |epoch, slot| rig.sign(4, in_epoch(epoch, Kind::Skip, slot, Hash::ZERO));
        let votes = vec![own(0, 9), own(1, 8), own(lag, 3), own(lag, 5)];
        let mut started = restarted(Recovered { seals, votes, ..nothing() }, 0);
        let mark = mark_of(&mut started);
        assert_eq!((mark.epoch, mark.slot), (lag, 5), "blocks lag {lag} epochs behind votes");
    }
}

#[test]
fn a4_the_mark_is_of_the_epoch_of_the_newest_vote_or_after_the_newest_seal_whichever_is_later() {
    let rig = rig(4);
    let voted = vec![rig.sign(4, in_epoch(2, Kind::Skip, 6, Hash::ZERO))];
    let mut started = restarted(Recovered { votes: voted, ..nothing() }, 0);
    let mark = mark_of(&mut started);
    assert_eq!((mark.epoch, mark.slot), (2, 6), "a vote of epoch 2 proves that it has started");
    let mut started = restarted(Recovered { seals: vec![row_of(&rig, 0), row_of(&rig, 1)], ..nothing() }, 0);
    let mark = mark_of(&mut started);
    assert_eq!((mark.epoch, mark.slot), (2, 0), "it may vote in epoch 2 next");
}

#[test]
fn a5_a_quorum_of_the_next_set_must_answer_too_and_marks_of_later_epochs_wait() {
    let memory = Memory::default().quarantined(Cause::NewDatabase);
    let mut rig = Rig::alone(&[1; 4], 3, two(), Recovered { memory, ..nothing() });
    for peer in 0..3 {
        rig.give(Input::Connected { peer });
    }
    let nonce = rig.nonce();
    let mark = Mark { nonce, epoch: 0, clean_from: 0, quarantined: false, slot: 4 };
    rig.answer_with(0, mark, Seen::default());
    rig.answer_with(1, mark, Seen::default());
    // Clean from the next epoch on only: counts there, not here.
    rig.answer_with(2, Mark { clean_from: 1, ..mark }, Seen::default());
    assert!(floors(&rig).is_empty(), "weight 2 of this epoch, 3 of the next");
    rig.answer_with(2, Mark { epoch: 1, ..mark }, Seen::default());
    assert!(floors(&rig).is_empty(), "its Seal must come first");
    rig.answer_with(2, mark, Seen::default());
    assert_eq!(floors(&rig), [vec![(0, 5), (1, 1)]]);
}

/// Number 3 of four, that has lost its votes and hears the others, in epochs of two blocks.
fn forgetful() -> Rig {
    let memory = Memory::default().quarantined(Cause::NewDatabase);
    let mut rig = Rig::alone(&[1; 4], 3, two(), Recovered { memory, ..nothing() });
    for peer in 0..3 {
        rig.give(Input::Connected { peer });
    }
    rig
}

fn end_epoch(rig: &mut Rig) {
    let first = rig.final_block(1, &genesis());
    rig.final_block(2, &first);
    assert_eq!(rig.core.epoch(), 1);
}

/// What the first of them decides about the set takes effect after the second.
fn end_two_epochs(rig: &mut Rig) {
    let mut at = genesis();
    for slot in [1, 2, 1, 2] {
        at = rig.final_block(slot, &at);
        at.slot = if slot == 2 { 0 } else { slot };
    }
}

#[test]
fn a5_a_mark_of_the_epoch_before_counts_as_0_in_the_next_one() {
    let mut rig = forgetful();
    let mark = Mark { nonce: rig.nonce(), epoch: 0, clean_from: 0, quarantined: false, slot: 30 };
    rig.answer_with(0, mark, Seen::default());
    rig.answer_with(1, mark, Seen::default());
    end_epoch(&mut rig);
    assert!(floors(&rig).is_empty(), "weight 2");
    rig.answer_with(2, Mark { epoch: 1, slot: 7, ..mark }, Seen::default());
    assert_eq!(floors(&rig), [vec![(1, 8), (2, 1)]], "whoever answered in epoch 0 had not voted in epoch 1");
}

#[test]
fn a5_a_mark_of_the_next_epoch_waits_for_it_and_counts_as_soon_as_it_begins() {
    for (slot, expected) in [(7, vec![vec![(1, 8), (2, 1)]]), (1_000, vec![])] {
        let mut rig = forgetful();
        let mark = Mark { nonce: rig.nonce(), epoch: 0, clean_from: 0, quarantined: false, slot: 30 };
        rig.answer_with(2, Mark { epoch: 1, slot, ..mark }, Seen::default());
        rig.answer_with(0, mark, Seen::default());
        rig.answer_with(1, mark, Seen::default());
        assert!(floors(&rig).is_empty(), "the Seal must come first");
        end_epoch(&mut rig);
        assert_eq!(floors(&rig), expected, "slot {slot}: one far beyond the frontier is asked for again");
    }
}

#[test]
fn a5_the_mark_of_one_that_is_in_neither_set_raises_no_floor() {
    let mut rig = forgetful();
    let other = crate::key::SecretKey::from_seed([9; 32]);
    let memory = Memory::default().quarantined(Cause::NewDatabase);
    let mut config = rig.config.clone();
    config.roster.push(other.public());
    rig.keys.push(other);
    rig.core = crate::consensus::Core::new(config, Recovered { memory, ..nothing() }, rig.now);
    rig.out.clear();
    rig.pass(1_000);
    let mark = Mark { nonce: rig.nonce(), epoch: 0, clean_from: 0, quarantined: false, slot: 5 };
    rig.answer_with(4, Mark { slot: 60, ..mark }, Seen::default());
    for peer in 0..3 {
        rig.answer_with(peer, mark, Seen::default());
    }
    assert_eq!(floors(&rig), [vec![(0, 6), (1, 1)]]);
}

#[test]
fn a5_of_two_sets_that_differ_each_must_answer_by_a_quorum_of_its_own() {
    let mut rig = forgetful();
    let joiner = crate::key::SecretKey::from_seed([9; 32]);
    let mut members = rig.config.set.members()[1..].to_vec();
    members.push(Validator { key: joiner.public(), weight: 1 });
    rig.after = Arc::new(ValidatorSet::new(members).expect("valid set"));
    end_epoch(&mut rig);
    // The shell's next number.
    rig.keys.push(joiner);
    let mark = Mark { nonce: rig.nonce(), epoch: 1, clean_from: 0, quarantined: false, slot: 9 };
    for peer in 0..3 {
        rig.answer_with(peer, mark, Seen::default());
    }
    assert!(floors(&rig).is_empty(), "weight 3 of set(1), 2 of set(2)");
    rig.answer_with(4, Mark { slot: 60, ..mark }, Seen::default());
    assert_eq!(floors(&rig), [vec![(1, 10), (2, 1)]], "marks of set(1) make the floor of epoch 1");
}

#[test]
fn a2_who_answered_in_the_epoch_before_has_answered() {
    let mut rig = Rig::alone(&[1; 4], 3, two(), nothing());
    rig.answer(0, 0, Seen::default());
    end_epoch(&mut rig);
    assert_eq!(rig.core.voting_state(), VotingState::Checking);
    rig.answer(1, 0, Seen::default());
    assert_eq!(rig.core.voting_state(), VotingState::Voting);
}

#[test]
fn a2_who_is_alone_in_a_new_epoch_waits_for_nobody() {
    let mut rig = Rig::alone(&[1; 4], 3, two(), nothing());
    rig.after = Arc::new(ValidatorSet::new(rig.config.set.members()[3..].to_vec()).expect("valid set"));
    let mut at = genesis();
    for slot in [1, 2, 1, 2] {
        assert_eq!(rig.core.voting_state(), VotingState::Checking);
        at = rig.final_block(slot, &at);
        at.slot = if slot == 2 { 0 } else { slot };
    }
    assert_eq!((rig.core.epoch(), rig.core.voting_state()), (2, VotingState::Voting));
}

#[test]
fn a9_the_askers_votes_are_found_in_a_set_that_numbers_it_anew_too() {
    let mut rig = rig(4);
    rig.after = Arc::new(ValidatorSet::new(rig.config.set.members()[1..].to_vec()).expect("valid set"));
    end_two_epochs(&mut rig);
    // The shell's number 2 is number 1 of this set.
    let vote = Vote { signer: 1, ..rig.sign(2, in_epoch(2, Kind::Skip, 1, Hash::ZERO)) };
    rig.give(Input::Vote { from: 2, vote: vote.clone() });
    rig.take();
    rig.ask_votes(2, Hash::ZERO, Some((0, 9)));
    let shown = |o: &Output| if let Output::Mark { to, votes, .. } = o { Some((*to, votes.clone())) } else { None };
    assert_eq!(rig.out.iter().filter_map(shown).collect::<Vec<_>>(), [(2, vec![vote])]);
}

#[test]
fn a9_who_is_in_an_earlier_epoch_may_have_votes_of_this_one_and_does_not_count() {
    let memory = Memory::default().quarantined(Cause::NewDatabase).vouched_for((1, 0));
    let mut rig = restarted(Recovered { memory, ..nothing() }, 1);
    assert!(floors(&rig).is_empty(), "all four others have answered in epoch 0");
    let mark = Mark { nonce: rig.core.inquiry_nonce(), epoch: 1, clean_from: 0, quarantined: false, slot: 0 };
    for epoch in [0, 1] {
        assert!(floors(&rig).is_empty(), "a durable Seal alone makes the mark that of the next epoch");
        for from in 0..4 {
            rig.give(Input::Status {
                from,
                status: Status { epoch, final_slot: 0, frontier: 1, height: 2, ready: true },
            });
            rig.answer_with(from, mark, Seen::default());
        }
    }
    assert_eq!(floors(&rig), [vec![]], "the word ends");
}

#[test]
fn a9_who_has_answered_in_the_epoch_before_is_heard_again() {
    let memory = Memory::default().quarantined(Cause::NewDatabase).vouched_for((0, 0));
    let mut rig = Rig::alone(&[1; 4], 3, two(), Recovered { memory, ..nothing() });
    rig.answer(0, 0, Seen::default());
    rig.answer(1, 0, Seen::default());
    end_epoch(&mut rig);
    rig.pass(60_000);
    assert!(floors(&rig).is_empty());
    let mark = Mark { nonce: rig.core.inquiry_nonce(), epoch: 1, clean_from: 0, quarantined: false, slot: 0 };
    (0..3).for_each(|peer| rig.answer_with(peer, mark, Seen::default()));
    assert_eq!(floors(&rig), [vec![]], "the word ends");
}

#[test]
fn a2_an_own_vote_that_came_before_its_epoch_is_missing_before_the_first_vote_in_it() {
    let mut rig = Rig::alone(&[1; 4], 3, two(), nothing());
    rig.after = Arc::new(ValidatorSet::new(rig.config.set.members()[3..].to_vec()).expect("valid set"));
    let at = rig.final_block(1, &genesis());
    let at = rig.final_block(2, &at);
    let vote = Vote { signer: 0, ..rig.sign(3, in_epoch(2, Kind::Skip, 1, Hash::ZERO)) };
    rig.give(Input::Vote { from: 0, vote });
    let at = rig.final_block(1, &Parent { slot: 0, ..at });
    rig.final_block(2, &at);
    assert_eq!((rig.core.epoch(), rig.core.voting_state(), rig.halts()), (2, VotingState::Quarantined, vec![]));
}

#[test]
fn a5_the_next_set_counts_by_its_own_weights() {
    let memory = Memory::default().quarantined(Cause::NewDatabase);
    let mut rig = Rig::alone(&[1; 4], 3, two(), Recovered { memory, ..nothing() });
    // The next set has a fifth member, so that three of four are no quorum of it.
    let other = crate::key::SecretKey::from_seed([9; 32]);
    let mut members = rig.config.set.members().to_vec();
    members.push(Validator { key: other.public(), weight: 3 });
    rig.core.config.sets.next = Arc::new(ValidatorSet::new(members).expect("valid set"));
    for peer in 0..3 {
        rig.give(Input::Connected { peer });
    }
    let mark = Mark { nonce: rig.nonce(), epoch: 0, clean_from: 0, quarantined: false, slot: 4 };
    for peer in 0..3 {
        rig.answer_with(peer, mark, Seen::default());
    }
    assert!(floors(&rig).is_empty(), "weight 3 of 7");
}

fn floors(rig: &Rig) -> Vec<Vec<(u64, u64)>> {
    let rows = rig.writes().into_iter().map(|write| write.rows);
    let floors =
        |rows| if let Rows::Memory { memory, .. } = rows { Some(memory.floors.into_iter().collect()) } else { None };
    rows.filter_map(floors).collect()
}

#[test]
fn a2_an_own_vote_of_another_epoch_that_is_in_no_row_quarantines() {
    let mut rig = Rig::alone(&[1; 4], 3, two(), nothing());
    rig.give(Input::Connected { peer: 0 });
    let vote = rig.sign(3, in_epoch(1, Kind::Skip, 2, Hash::ZERO));
    rig.answer(0, 0, Seen { vote: Some(vote), hello: None });
    assert_eq!(rig.core.voting_state(), VotingState::Quarantined);
}
