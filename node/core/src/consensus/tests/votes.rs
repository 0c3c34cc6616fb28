//! C1-C4 and C8-C11: votes in, certificates, votes out.

use super::rig::*;
use crate::block::{Candidate, Header, Proposal};
use crate::consensus::input::{Input, Recovered};
use crate::consensus::output::{Event, Halt, Output};
use crate::hash::{Hash, plain};
use crate::message::Message;
use crate::params::Parameters;
use crate::vote::{Cert, Kind};

const D: Hash = Hash([0xd; 32]);
const E: Hash = Hash([0xe; 32]);

fn skip(slot: u64) -> crate::vote::Statement {
    statement(Kind::Skip, slot, Hash::ZERO)
}

fn notar(slot: u64, digest: Hash) -> crate::vote::Statement {
    statement(Kind::Notar, slot, digest)
}

fn fin(slot: u64, digest: Hash) -> crate::vote::Statement {
    statement(Kind::Final, slot, digest)
}

#[test]
fn a_block_goes_from_proposal_to_final_and_the_next_slot_begins() {
    let mut rig = Rig::new(4, 3);
    let block = rig.final_block(1, &genesis());
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1), (Kind::Final, 1)]);
    assert_eq!(rig.sent_votes().len(), 2);
    assert_eq!(rig.finalized(), [1]);
    assert_eq!((rig.core.final_slot(), rig.core.frontier(), rig.core.height()), (1, 2, 1));
    rig.final_block(2, &block);
    assert_eq!(rig.finalized(), [1, 2]);
}

#[test]
fn a_validator_alone_finalises_what_it_proposes() {
    let mut rig = Rig::new(1, 0);
    rig.durable_batch(0, 1, 9);
    rig.pass(10);
    rig.serve();
    assert_eq!(rig.finalized(), [1]);
    rig.take();
    rig.pass(900);
    rig.serve();
    assert!(rig.finalized().is_empty(), "nothing to do");
    rig.pass(200);
    rig.serve();
    assert_eq!(rig.finalized(), [2], "an empty block each block_time");
}

// ---- C1 ----

#[test]
fn c1_malformed_and_unknown_votes_are_dropped() {
    let mut rig = Rig::new(4, 0);
    for bad in [notar(0, D), notar(1, Hash::ZERO), statement(Kind::Skip, 1, D), fin(1, Hash::ZERO)] {
        rig.vote(1, bad);
    }
    rig.vote(1, crate::vote::Statement { epoch: 2, ..notar(1, D) });
    let mut vote = rig.sign(1, notar(1, D));
    vote.signer = 4;
    rig.give(Input::Vote { from: 1, vote });
    assert_eq!(rig.dropped(), [["vote_malformed"; 4].as_slice(), &["epoch_far", "vote_malformed"]].concat());
    assert!(rig.core.slots.is_empty());
}

#[test]
fn c1_votes_of_final_and_far_slots_are_dropped() {
    let mut rig = Rig::new(4, 0);
    rig.final_block(1, &genesis());
    rig.take();
    rig.vote(1, skip(1));
    assert!(rig.core.slots.is_empty(), "slot 1 is final");
    rig.vote(1, skip(2 + 64));
    assert_eq!(rig.core.slots.len(), 1, "the edge of the window");
    rig.vote(1, skip(2 + 65));
    rig.vote(1, skip(1 << 63));
    rig.vote(1, skip(u64::MAX));
    assert_eq!(rig.dropped(), ["vote_far"; 3]);
}

#[test]
fn c1_a_vote_in_anothers_name_is_verified_before_it_is_stored() {
    let mut rig = Rig::new(4, 0);
    let forged = rig.forged(2, skip(1));
    rig.give(Input::Vote { from: 1, vote: forged });
    assert_eq!(rig.dropped(), ["vote_signature"]);
    let good = rig.sign(2, skip(1));
    rig.give(Input::Vote { from: 1, vote: good });
    assert_eq!(rig.core.tally(&skip(1)), 1, "the true first vote was not displaced");
}

#[test]
fn c1_only_the_first_vote_of_a_kind_is_tallied() {
    let mut rig = Rig::new(4, 0);
    rig.vote(1, notar(1, D));
    rig.vote(1, notar(1, E));
    rig.vote(1, notar(1, D));
    assert_eq!((rig.core.tally(&notar(1, D)), rig.core.tally(&notar(1, E))), (1, 0));
    assert_eq!(rig.evidence(), 1);
}

#[test]
fn c1_one_statement_under_two_signatures_weighs_once() {
    let mut rig = Rig::new(4, 0);
    rig.vote(1, skip(1));
    let again = rig.forged(1, skip(1));
    rig.give(Input::Vote { from: 1, vote: again });
    rig.vote(2, skip(1));
    assert_eq!((rig.core.tally(&skip(1)), rig.certified()), (2, vec![]), "two of four are no quorum");
}

#[test]
fn c1_signatures_are_looked_at_when_the_weight_reaches_a_quorum_and_forged_ones_go() {
    let mut rig = Rig::new(4, 0);
    let forged = rig.forged(1, skip(1));
    rig.give(Input::Vote { from: 1, vote: forged });
    rig.vote(2, skip(1));
    assert!(rig.dropped().is_empty(), "nobody looked yet");
    rig.vote(3, skip(1));
    assert_eq!(rig.dropped(), ["vote_signature"]);
    assert!(rig.certified().is_empty());
    rig.vote(1, skip(1));
    assert_eq!(rig.certified(), [(Kind::Skip, 1)], "the true vote takes the place of the forged one");
}

#[test]
fn x2_each_contradiction_is_evidence_once_and_no_legal_pair_is() {
    let bad = [(notar(1, D), notar(1, E)), (skip(1), fin(1, D)), (fin(1, D), fin(1, E)), (notar(1, D), fin(1, E))];
    for (a, b) in bad {
        for (first, second) in [(a, b), (b, a)] {
            let mut rig = Rig::new(4, 0);
            rig.vote(1, first);
            rig.vote(1, second);
            rig.vote(1, second);
            assert_eq!(rig.evidence(), 1, "{first:?} {second:?}");
            assert_eq!(rig.core.tally(&second), 0, "the later one is not tallied");
            let Some(Output::Evidence(e)) = rig.out.iter().find(|o| matches!(o, Output::Evidence(_))) else { panic!() };
            assert!(e.verify(&chain(), &rig.config.set, 0).is_ok(), "X1: in its one form");
        }
    }
    for (first, second) in [(notar(1, D), skip(1)), (notar(1, D), fin(1, D)), (skip(1), skip(2)), (fin(1, D), skip(2))]
    {
        let mut rig = Rig::new(4, 0);
        rig.vote(1, first);
        rig.vote(1, second);
        assert_eq!(rig.evidence(), 0, "{first:?} {second:?}");
    }
}

#[test]
fn x2_a_forged_contradiction_is_no_evidence() {
    let mut rig = Rig::new(4, 0);
    rig.vote(1, notar(1, D));
    let forged = rig.forged(1, notar(1, E));
    rig.give(Input::Vote { from: 1, vote: forged });
    assert_eq!((rig.evidence(), rig.core.tally(&notar(1, D))), (0, 1));
    let mut rig = Rig::new(4, 0);
    let forged = rig.forged(1, notar(1, D));
    rig.give(Input::Vote { from: 1, vote: forged });
    rig.vote(1, notar(1, E));
    assert_eq!(rig.evidence(), 0);
    assert_eq!((rig.core.tally(&notar(1, D)), rig.core.tally(&notar(1, E))), (0, 1), "the true one stays");
}

#[test]
fn c22_an_equivocating_leader_is_reported_and_its_slot_still_decided() {
    let mut rig = Rig::new(4, 3);
    let first = rig.header(1, &genesis());
    let mut second = first.clone();
    second.time_ms += 1;
    rig.propose(first.clone());
    rig.propose(second);
    assert_eq!(rig.evidence(), 1);
    assert_eq!(rig.persisted(), [notar(1, first.digest())], "the first is voted for");
}

// ---- C2, C3, C4 ----

#[test]
fn c2_the_own_vote_counts_only_once_it_is_durable() {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    rig.vote(1, notar(1, digest));
    assert!(rig.certified().is_empty(), "leader and one more, the own one is not durable");
    let own = rig.sign(3, notar(1, digest));
    rig.give(Input::Vote { from: 1, vote: own });
    assert!(rig.certified().is_empty(), "and does not come in by the network");
    rig.serve();
    assert_eq!(rig.certified()[0], (Kind::Notar, 1));
}

#[test]
fn c3_a_quorum_of_weight_makes_a_certificate_and_less_does_not() {
    // W = 9, fw = 2, q = 7.
    let mut rig = Rig::weighted(&[3, 2, 2, 1, 1], 4);
    let s = notar(1, D);
    for signer in [0, 1] {
        rig.vote(signer, s);
    }
    rig.vote(3, s);
    assert!(rig.certified().is_empty(), "6 of 7");
    rig.vote(2, s);
    assert_eq!(rig.certified(), [(Kind::Notar, 1)]);
    let Some(held) = rig.core.slots[&1].notar.clone() else { panic!("held") };
    assert_eq!(held.cert.verify(&chain(), &rig.config.set), Ok(()));
}

#[test]
fn c4_certificates_are_checked_by_all_of_f4() {
    let mut rig = Rig::new(4, 0);
    let good = rig.make_cert(&[1, 2, 3], skip(1));
    let light = rig.make_cert(&[1, 2], skip(1));
    let mut padded = good.clone();
    padded.signers[0] |= 0x10;
    let mut forged = good.clone();
    forged.signatures[1] = forged.signatures[0];
    let mut other = good.clone();
    other.statement.slot = 2;
    let malformed = Cert { statement: notar(1, Hash::ZERO), ..good.clone() };
    let epoch = Cert { statement: crate::vote::Statement { epoch: 2, ..skip(1) }, ..good.clone() };
    for bad in [light, padded, forged, other, malformed, epoch] {
        rig.give(Input::Cert { from: 1, cert: bad });
    }
    assert!(rig.certified().is_empty());
    assert_eq!(rig.dropped().len(), 6);
    rig.give(Input::Cert { from: 1, cert: good });
    assert_eq!(rig.certified(), [(Kind::Skip, 1)]);
}

#[test]
fn c4_a_certificate_is_taken_for_any_slot_above_s_star_and_relayed_once() {
    let mut rig = Rig::new(4, 0);
    rig.take();
    rig.cert(Kind::Skip, 5_000, Hash::ZERO);
    rig.cert(Kind::Skip, 5_000, Hash::ZERO);
    assert_eq!(rig.certified(), [(Kind::Skip, 5_000)]);
    let certs = rig.broadcasts().iter().filter(|m| matches!(m, Message::Cert(_))).count();
    assert_eq!(certs, 1, "C16");
}

#[test]
fn c4_no_signature_is_verified_twice() {
    #[derive(Debug)]
    struct Counting(crate::consensus::verify::Ed25519, std::sync::atomic::AtomicUsize);
    impl crate::consensus::verify::Verify for Counting {
        fn verifies(&self, key: &crate::key::PublicKey, message: &[u8], signature: &crate::key::Signature) -> bool {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.0.verifies(key, message, signature)
        }

        fn prepared(
            &self,
            set: &crate::validators::ValidatorSet,
        ) -> std::sync::Arc<dyn crate::consensus::verify::Verify> {
            self.0.prepared(set)
        }
    }
    let mut rig = Rig::new(4, 3);
    let counter = std::sync::Arc::new(Counting(crate::consensus::verify::Ed25519::new(&rig.config.set), 0.into()));
    rig.core.config.verifier = counter.clone();
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    rig.serve();
    for signer in [0, 1, 2] {
        rig.vote(signer, notar(1, digest));
    }
    rig.cert(Kind::Notar, 1, digest);
    let count = counter.1.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        count, 2,
        "leader's with the candidate, one more for the quorum; none for late ones and the certificate"
    );
}

#[test]
fn c4_who_is_missing_in_a_certificate_is_missing_since_the_first_one() {
    let mut rig = Rig::new(4, 3);
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    assert_eq!(rig.core.missing_since[2], None, "signed");
    let cert = rig.make_cert(&[0, 1, 3], skip(2));
    rig.give(Input::Cert { from: 0, cert });
    let since = rig.now.mono_ms;
    assert_eq!(rig.core.missing_since, [None, None, Some(since), None]);
    rig.pass(50);
    let cert = rig.make_cert(&[0, 1, 3], skip(3));
    rig.give(Input::Cert { from: 0, cert });
    assert_eq!(rig.core.missing_since[2], Some(since), "not later than it was");
    rig.vote(2, skip(4));
    assert_eq!(rig.core.missing_since[2], None, "any vote of it is a sign of life");
}

#[test]
fn c4_a_final_certificate_moves_s_star_and_is_persisted() {
    let mut rig = Rig::new(4, 3);
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    rig.take();
    rig.cert(Kind::Final, 7, D);
    assert_eq!((rig.core.final_slot(), rig.core.frontier()), (7, 8));
    assert!(rig.core.slots.is_empty(), "pruned");
    assert_eq!(rig.writes().len(), 1);
    rig.cert(Kind::Final, 6, E);
    assert_eq!(rig.core.final_slot(), 7);
}

#[test]
fn c21_contradicting_certificates_halt() {
    let pairs = [(notar(1, D), notar(1, E)), (notar(1, D), fin(1, E)), (skip(1), fin(1, E))];
    for (a, b) in pairs {
        let mut rig = Rig::new(4, 3);
        for s in [a, b] {
            let cert = rig.make_cert(&[0, 1, 2], s);
            rig.give(Input::Cert { from: 0, cert });
        }
        assert_eq!(rig.halts(), [Halt::ContradictingCerts { slot: 1 }]);
        let header = rig.header(2, &genesis());
        rig.take();
        rig.propose(header);
        rig.pass(20_000);
        assert!(rig.persisted().is_empty(), "no vote after a halt");
    }
    let mut rig = Rig::new(4, 3);
    for s in [notar(1, D), skip(1)] {
        let cert = rig.make_cert(&[0, 1, 2], s);
        rig.give(Input::Cert { from: 0, cert });
    }
    assert!(rig.halts().is_empty(), "Notar with Skip is legal");
}

// ---- C8 ----

#[test]
fn c8_g1_one_notar_a_slot_even_while_it_is_only_reserved() {
    let mut rig = Rig::new(4, 3);
    let first = rig.header(1, &genesis());
    let mut second = first.clone();
    second.time_ms += 1;
    rig.propose(first);
    rig.take();
    rig.propose(second.clone());
    assert!(rig.persisted().is_empty());
    rig.cert(Kind::Notar, 1, second.digest());
    assert!(rig.persisted().is_empty(), "not even when it is certified; and no Final for it either (G6)");
}

#[test]
fn c8_g2_g3_the_base_and_every_skip_of_the_gap_must_be_held() {
    let mut rig = Rig::new(7, 6);
    let parent = rig.header(1, &genesis());
    let parent = rig.candidate(parent);
    rig.give_candidate(parent.clone());
    rig.execute();
    let child = rig.header(4, &after(&parent));
    rig.take();
    rig.propose(child.clone());
    assert!(rig.persisted().is_empty(), "neither");
    rig.cert(Kind::Skip, 2, Hash::ZERO);
    rig.cert(Kind::Notar, 1, parent.header.digest());
    assert!(!rig.persisted_kinds().contains(&(Kind::Notar, 4)), "one Skip is missing");
    rig.cert(Kind::Skip, 3, Hash::ZERO);
    assert!(rig.persisted().contains(&notar(4, child.digest())));
}

#[test]
fn c8_g2_without_the_bases_certificate_there_is_no_vote() {
    let mut rig = Rig::new(4, 3);
    let parent = rig.header(1, &genesis());
    let parent = rig.candidate(parent);
    rig.give_candidate(parent.clone());
    rig.execute();
    rig.take();
    let child = rig.header(2, &after(&parent));
    rig.propose(child.clone());
    assert!(rig.persisted().is_empty());
    rig.cert(Kind::Notar, 1, parent.header.digest());
    assert!(rig.persisted().contains(&notar(2, child.digest())));
}

/// A rig that has executed two candidates of slot 1.
fn two_candidates_executed() -> (Rig, Candidate, Candidate) {
    let mut rig = Rig::new(4, 3);
    let first = rig.header(1, &genesis());
    let second = Header { time_ms: first.time_ms + 1, ..first.clone() };
    let (first, second) = (rig.candidate(first), rig.candidate(second));
    rig.give_candidate(first.clone());
    rig.give_candidate(second.clone());
    rig.execute();
    rig.take();
    (rig, first, second)
}

#[test]
fn c8_g2_the_base_must_be_the_candidate_that_is_notarized() {
    let (mut rig, first, second) = two_candidates_executed();
    rig.cert(Kind::Notar, 1, first.header.digest());
    let child = rig.header(2, &after(&second));
    rig.propose(child);
    assert!(!rig.persisted_kinds().contains(&(Kind::Notar, 2)), "the other one is");
    let child = rig.header(2, &after(&first));
    rig.propose(child.clone());
    assert!(rig.persisted().contains(&notar(2, child.digest())));
}

#[test]
fn c8_g2_a_base_in_the_final_slot_must_be_the_final_block() {
    let mut rig = Rig::new(4, 3);
    let other = rig.header(1, &genesis());
    let other = rig.candidate(other);
    rig.give_candidate(other.clone());
    rig.execute();
    // The final one is not here yet, so the chain is not resolved and the other one not forgotten.
    let unseen = Header { time_ms: other.header.time_ms + 1, ..other.header.clone() };
    rig.cert(Kind::Final, 1, unseen.digest());
    let child = rig.header(2, &after(&other));
    rig.propose(child);
    assert!(!rig.persisted_kinds().contains(&(Kind::Notar, 2)));
}

#[test]
fn c8_a_base_below_s_star_is_never_voted_for() {
    let mut rig = Rig::new(4, 3);
    let block = rig.final_block(1, &genesis());
    rig.take();
    let on_genesis = rig.header(2, &genesis());
    rig.propose(on_genesis);
    rig.pass(300);
    assert!(!rig.persisted_kinds().contains(&(Kind::Notar, 2)));
    let mut rig = Rig::new(4, 3);
    rig.final_block(1, &genesis());
    let good = rig.header(2, &block);
    rig.propose(good);
    assert!(rig.persisted_kinds().contains(&(Kind::Notar, 2)));
}

#[test]
fn c8_is_allowed_after_the_own_skip_and_for_cleared_slots() {
    let mut rig = Rig::new(4, 3);
    rig.vote(0, skip(1));
    rig.vote(1, skip(1));
    rig.pass(200);
    rig.serve();
    assert_eq!(rig.persisted_kinds(), [(Kind::Skip, 1)]);
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    assert_eq!(rig.core.frontier(), 2);
    let header = rig.header(1, &genesis());
    rig.propose(header);
    assert_eq!(rig.persisted_kinds(), [(Kind::Skip, 1), (Kind::Notar, 1)]);
}

/// Other rules keep such a vote from being asked for; the guard must hold without them.
#[test]
fn c8_g5_no_position_at_or_below_s_star_is_allowed() {
    let mut rig = Rig::new(4, 3);
    rig.final_block(1, &genesis());
    let top = rig.core.final_slot();
    assert!(!rig.core.g5_position_allowed(top) && !rig.core.g5_position_allowed(top - 1));
    assert!(rig.core.g5_position_allowed(top + 1));
}

#[test]
fn c8_g5_no_vote_at_or_below_the_vote_floor() {
    let recovered = Recovered { vote_floor: (0, 1), ..nothing() };
    let mut rig = Rig::recovered(4, 3, recovered);
    let header = rig.header(1, &genesis());
    rig.propose(header);
    rig.pass(500);
    assert!(rig.persisted().is_empty(), "neither Notar nor Skip of slot 1");
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    let header = rig.header(2, &genesis());
    rig.propose(header);
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 2)]);
}

#[test]
fn c8_g5_no_vote_while_not_ready() {
    let mut rig = Rig::new(4, 3);
    rig.take();
    rig.give(Input::Ready(false));
    let told = rig.broadcasts().iter().any(|m| matches!(m, Message::Status(s) if !s.ready));
    assert!(told, "peers are told at once");
    let header = rig.header(1, &genesis());
    rig.propose(header);
    rig.pass(500);
    assert!(rig.persisted().is_empty());
    rig.give(Input::Ready(true));
    assert_eq!(rig.persisted_kinds()[0], (Kind::Notar, 1));
}

// ---- C9 ----

/// A rig that has its own durable Notar for the candidate of slot 1.
fn notarized_by_me() -> (Rig, Hash) {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    rig.serve();
    rig.take();
    (rig, digest)
}

#[test]
fn c9_final_upon_the_certificate_in_one_commit_with_it() {
    let (mut rig, digest) = notarized_by_me();
    rig.cert(Kind::Notar, 1, digest);
    assert_eq!(rig.persisted(), [fin(1, digest)]);
    let crate::consensus::output::Rows::Final { cert, .. } = &rig.writes()[0].rows else { panic!("Final row") };
    assert_eq!(cert.statement, notar(1, digest), "P4");
    rig.cert(Kind::Notar, 1, digest);
    assert_eq!(rig.persisted().len(), 1, "once");
}

#[test]
fn c9_final_needs_own_notar() {
    let mut rig = Rig::new(4, 3);
    rig.cert(Kind::Notar, 1, D);
    assert!(rig.persisted().is_empty(), "none");
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    rig.propose(header);
    rig.serve();
    rig.take();
    rig.cert(Kind::Notar, 1, plain(b"another"));
    assert!(rig.persisted().is_empty(), "for another candidate");
}

#[test]
fn c9_final_needs_the_own_notar_to_be_durable() {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    rig.cert(Kind::Notar, 1, digest);
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1)], "a reservation is no row");
    rig.serve();
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1), (Kind::Final, 1)]);
}

#[test]
fn c9_g8_no_final_after_the_own_skip() {
    let (mut rig, digest) = notarized_by_me();
    rig.pass(200);
    assert_eq!(rig.persisted_kinds(), [(Kind::Skip, 1)], "only reserved");
    rig.cert(Kind::Notar, 1, digest);
    assert_eq!(rig.persisted_kinds(), [(Kind::Skip, 1)]);
    rig.serve();
    assert!(!rig.persisted_kinds().contains(&(Kind::Final, 1)));
}

#[test]
fn c9_no_final_while_a_skip_certificate_is_held() {
    let (mut rig, digest) = notarized_by_me();
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    rig.cert(Kind::Notar, 1, digest);
    assert!(rig.persisted().is_empty());
}

#[test]
fn c9_g7_no_final_without_the_certificate() {
    let (mut rig, digest) = notarized_by_me();
    rig.vote(1, fin(1, digest));
    rig.vote(2, fin(1, digest));
    assert!(rig.persisted().is_empty());
}

// ---- C10, C11 ----

#[test]
fn c10_skip_when_the_timer_of_the_frontier_fires() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    let armed = rig.now.mono_ms;
    rig.pass(149);
    assert!(rig.persisted().is_empty());
    rig.pass(1);
    assert_eq!((rig.persisted(), rig.now.mono_ms - armed), (vec![skip(1)], 150));
    rig.pass(5_000);
    assert_eq!(rig.persisted().len(), 1, "once");
}

#[test]
fn c10_later_events_never_move_the_timer() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    for i in 0..14 {
        rig.pass(10);
        rig.durable_batch(0, 2 + i, 10 + i as u8);
        rig.vote(1, notar(1, D));
    }
    assert!(rig.persisted().is_empty());
    rig.pass(10);
    assert_eq!(rig.persisted(), [skip(1)]);
}

#[test]
fn c10_g9_no_skip_after_the_own_final() {
    let (mut rig, digest) = notarized_by_me();
    // Final is reserved at the certificate; the frontier is beyond the slot from then on.
    rig.cert(Kind::Notar, 1, digest);
    rig.pass(2_000);
    assert!(!rig.persisted_kinds().contains(&(Kind::Skip, 1)));
    assert!(!rig.core.g9_no_own_outcome(1), "and the guard says so by itself");
}

/// The certificate that a Final rests on moves the frontier, so the timer would pass; the guard must hold without it.
#[test]
fn c10_g9_an_own_final_is_an_outcome() {
    let (mut rig, digest) = notarized_by_me();
    rig.cert(Kind::Notar, 1, digest);
    assert!(rig.persisted().contains(&fin(1, digest)));
    assert!(!rig.core.g9_no_own_outcome(1) && rig.core.g9_no_own_outcome(2));
}

#[test]
fn c10_g10_a_cleared_slot_is_never_skipped() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    rig.pass(100);
    rig.cert(Kind::Notar, 1, D);
    rig.pass(100);
    assert!(rig.persisted().is_empty(), "the timer of slot 1 is gone");
    rig.pass(100);
    assert_eq!(rig.persisted(), [skip(2)], "that of slot 2 came");
}

#[test]
fn c10_the_timeout_grows_beyond_two_unfinished_slots() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    let mut waits = Vec::new();
    for slot in 1..=6 {
        let since = rig.now.mono_ms;
        while !rig.persisted().contains(&skip(slot)) {
            rig.pass(1);
        }
        waits.push(rig.now.mono_ms - since);
        rig.cert(Kind::Skip, slot, Hash::ZERO);
        if slot == 3 {
            break;
        }
    }
    // slot − s* − 2 = −1, 0, 1.
    assert_eq!(waits, [150, 150, 225]);
}

/// A rig in slot 1, led by 0, with something to do.
fn waiting_for_0(parameters: Parameters) -> Rig {
    let mut rig = Rig::with(&[1; 4], 3, parameters, nothing());
    rig.durable_batch(0, 1, 9);
    rig
}

#[test]
fn c11_a_leader_missing_for_skip_after_is_skipped_at_once() {
    let own = Rig::new(4, 3);
    let votes = (1..=4).map(|slot| own.sign(3, skip(slot))).collect();
    let mut rig = Rig::recovered(4, 3, Recovered { votes, ..nothing() });
    // Slots 1-4 pass without 0, who leads 5.
    for slot in 1..=4 {
        let cert = rig.make_cert(&[1, 2, 3], skip(slot));
        rig.give(Input::Cert { from: 1, cert });
    }
    rig.pass(1_000);
    rig.take();
    rig.vote(1, skip(5));
    rig.vote(2, skip(5));
    assert!(rig.persisted().contains(&skip(5)) || !rig.core.g9_no_own_outcome(5));
}

#[test]
fn c11_a_leader_becomes_missing_in_the_middle_of_its_slot() {
    let mut rig = waiting_for_0(Parameters { skip_timeout_ms: 200, ..Parameters::default() });
    let since = rig.now.mono_ms;
    rig.core.missing_since[0] = Some(since - 900);
    rig.give(Input::Tick);
    rig.pass(99);
    assert!(rig.persisted().is_empty());
    rig.pass(1);
    assert_eq!(rig.persisted(), [skip(1)], "100 ms before its timer");
}

#[test]
fn d25_a_vote_later_than_t0_after_its_slot_was_final_is_no_sign_of_life() {
    let mut rig = Rig::new(4, 3);
    let block = rig.final_block(1, &genesis());
    let vote = statement(Kind::Final, 1, block.digest);
    for (after, missing) in [(rig.config.t0(), None), (1, Some(7))] {
        rig.pass(after);
        rig.core.missing_since[0] = Some(7);
        rig.vote(0, vote);
        assert_eq!(rig.core.missing_since[0], missing, "{after} ms later");
    }
}

#[test]
fn c11_a_leader_that_skips_itself_or_says_not_ready_is_skipped_at_once() {
    let mut rig = waiting_for_0(Parameters::default());
    rig.vote(0, skip(1));
    assert_eq!(rig.persisted(), [skip(1)]);
    let mut rig = waiting_for_0(Parameters::default());
    rig.status(0, 0, 1, 0, false);
    assert_eq!(rig.persisted(), [skip(1)]);
    let mut rig = waiting_for_0(Parameters::default());
    rig.status(1, 0, 1, 0, false);
    assert!(rig.persisted().is_empty(), "another's word about itself");
}

#[test]
fn c11_a_leader_that_said_not_ready_and_left_is_skipped_at_once() {
    let mut rig = Rig::new(4, 3);
    rig.status(0, 0, 1, 0, false);
    rig.give(Input::Disconnected { peer: 0 });
    rig.durable_batch(1, 1, 9);
    assert_eq!(rig.persisted(), [skip(1)], "a validator that stops in order costs no timeout");
}

#[test]
fn c11_not_on_an_idle_chain() {
    let mut rig = Rig::new(4, 3);
    rig.status(0, 0, 1, 0, false);
    rig.pass(900);
    assert!(rig.persisted().is_empty());
}

#[test]
fn c11_ends_2n_slots_above_s_star() {
    let mut rig = Rig::new(4, 3);
    rig.durable_batch(0, 1, 9);
    for slot in 1..=8 {
        rig.cert(Kind::Skip, slot, Hash::ZERO);
    }
    // Slot 9 is led by 0 and 9 − 0 > 8.
    rig.vote(0, skip(9));
    assert!(!rig.persisted().contains(&skip(9)));
}

#[test]
fn c11_slots_skipped_at_once_do_not_lengthen_the_timeout() {
    let mut rig = waiting_for_0(Parameters::default());
    for slot in 1..=3 {
        rig.status((slot - 1) as u16, 0, 1, 0, false);
        rig.cert(Kind::Skip, slot, Hash::ZERO);
    }
    assert_eq!(rig.core.instant.len(), 3);
    assert_eq!(rig.core.frontier.deadline - rig.now.mono_ms, 150, "slot 4, s* = 0: excess 4 − 2 − 3 < 0");
}

#[test]
fn a_slot_without_its_leaders_vote_is_missed() {
    let mut rig = Rig::new(4, 3);
    rig.cert(Kind::Skip, 1, Hash::ZERO);
    let missed = rig.out.iter().any(|o| matches!(o, Output::Event(Event::Missed { epoch: 0, slot: 1, leader: 0 })));
    assert!(missed);
}

#[test]
fn f6_the_embedded_vote_is_a_vote() {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let digest = rig.propose(header);
    assert_eq!(rig.core.tally(&notar(1, digest)), 1);
}

#[test]
fn f6_the_proof_that_comes_along_is_taken_first() {
    let mut rig = Rig::new(4, 3);
    let proof = (1..=3).map(|slot| rig.others_cert(Kind::Skip, slot, Hash::ZERO)).collect();
    let header = rig.header(4 + 4, &genesis());
    let mut header = crate::block::Header { slot: 4, proposer: 3, ..header };
    header.slot = 5;
    header.proposer = 0;
    let candidate = rig.candidate(header.clone());
    let mut proof: Vec<Cert> = proof;
    proof.push(rig.others_cert(Kind::Skip, 4, Hash::ZERO));
    rig.give(Input::Proposal { from: 0, proposal: Proposal { candidate, proof } });
    assert_eq!(rig.persisted(), [notar(5, header.digest())]);
}
