//! X2-X5, V7: what was seen twice comes into a block, once, and into no other.

use super::rig::*;
use crate::batch::Batch;
use crate::block::Header;
use crate::consensus::examine::State;
use crate::consensus::input::{Input, Recovered, Tip};
use crate::consensus::output::{Output, Rows};
use crate::consensus::validity::{Invalid, check_v7_shape};
use crate::evidence::{Class, Evidence};
use crate::hash::{Hash, plain};
use crate::params::MAX_EVIDENCE;
use crate::record::RecordKey;
use crate::validators::Index;
use crate::vote::{Kind, Statement, Vote};

fn notar(slot: u64, name: &[u8]) -> Statement {
    statement(Kind::Notar, slot, plain(name))
}

/// Two Notar votes of a validator in a slot.
fn notars(rig: &Rig, signer: Index, slot: u64) -> Evidence {
    let vote = |name| rig.sign(signer, notar(slot, name));
    Evidence::of_votes(vote(b"a"), vote(b"b"), &chain())
}

fn nullifier(rig: &Rig, evidence: &Evidence) -> RecordKey {
    RecordKey::nullifier(&evidence.offence(&rig.config.set).expect("of a member"))
}

/// Validator 3 votes twice in the slot.
fn vote_twice(rig: &mut Rig, slot: u64) {
    for name in [b"a", b"b"] {
        rig.vote(3, notar(slot, name));
    }
}

/// Header of the own proposal in a slot.
fn own(rig: &Rig, slot: u64) -> Option<Header> {
    rig.writes().into_iter().find_map(|write| match write.rows {
        Rows::Notar { statement, candidate } if statement.slot == slot => Some(candidate.header),
        _ => None,
    })
}

/// The own block of a slot becomes final.
fn finish(rig: &mut Rig, slot: u64) -> Parent {
    rig.pass(100);
    let header = own(rig, slot).expect("built");
    rig.serve();
    rig.cert(Kind::Notar, slot, header.digest());
    rig.cert(Kind::Final, slot, header.digest());
    rig.serve();
    let (digest, height, time_ms) = (header.digest(), header.height, header.time_ms);
    Parent { digest, slot, height, time_ms }
}

#[test]
fn x5_a_leader_includes_what_it_saw_once_and_no_later_block_has_it() {
    let mut rig = Rig::new(4, 1);
    vote_twice(&mut rig, 1);
    let first = rig.final_block(1, &genesis());
    rig.durable_batch(0, 1, 8);
    let block = finish(&mut rig, 2);
    let expected = notars(&rig, 3, 1);
    let included = own(&rig, 2).expect("built").evidence;
    assert_eq!(included[0], expected);
    // It is among the signers of the Final certificate too: one class does not hide another.
    let classes: Vec<_> = included.iter().map(Evidence::class).collect();
    assert_eq!(classes, [Some(Class::Notars), Some(Class::NotarFinal)]);
    assert_eq!(rig.finalized(), [1, 2], "{first:?}");
    // Seen again in another slot: the same key, epoch and class.
    vote_twice(&mut rig, 3);
    let parent = rig.final_block(3, &block);
    let parent = rig.final_block(4, &parent);
    rig.final_block(5, &parent);
    rig.durable_batch(0, 2, 9);
    finish(&mut rig, 6);
    assert_eq!(own(&rig, 6).expect("built").evidence, []);
}

#[test]
fn x4_what_an_unfinal_ancestor_has_is_not_included_again() {
    let mut rig = Rig::new(4, 1);
    vote_twice(&mut rig, 1);
    let evidence = vec![notars(&rig, 3, 1)];
    let base = rig.candidate(Header { evidence, ..rig.header(1, &genesis()) });
    rig.give_candidate(base.clone());
    rig.serve();
    rig.cert(Kind::Notar, 1, base.header.digest());
    rig.durable_batch(0, 1, 8);
    rig.pass(100);
    assert_eq!(own(&rig, 2).map(|header| header.evidence.len()), Some(0));
}

#[test]
fn x5_at_most_eight_and_the_rest_in_the_next_block() {
    let mut rig = Rig::new(13, 1);
    for signer in 2..12 {
        // Each for candidates of its own, or one would be certified.
        for name in [[signer as u8, 0], [signer as u8, 1]] {
            rig.vote(signer, notar(1, &name));
        }
    }
    rig.final_block(1, &genesis());
    rig.durable_batch(0, 1, 8);
    rig.pass(100);
    assert_eq!(own(&rig, 2).map(|header| header.evidence.len()), Some(MAX_EVIDENCE));
}

#[test]
fn x2_evidence_from_a_certificate_and_a_vote_waits_as_well() {
    let mut rig = Rig::new(4, 1);
    rig.vote(3, notar(1, b"a"));
    let cert = rig.make_cert(&[0, 2, 3], notar(1, b"b"));
    rig.give(Input::Cert { from: 0, cert });
    assert_eq!(rig.evidence(), 1);
}

#[test]
fn x2e_two_batches_of_one_number_are_reported_to_who_has_them_and_their_proof_waits() {
    let mut rig = Rig::new(4, 1);
    rig.durable_batch(3, 7, 8);
    rig.durable_batch(3, 7, 9);
    let asked: Vec<(Hash, Hash)> = rig
        .out
        .iter()
        .filter_map(|o| if let Output::TwoBatches { first, second } = o { Some((*first, *second)) } else { None })
        .collect();
    assert_eq!(asked, [(Hash([8; 32]), Hash([9; 32]))]);
    let seal = |expiry| Batch::seal(&chain(), &rig.keys[3], (0, 3), 7, expiry, Vec::new());
    let evidence = Evidence::of_batches(&seal(50), &seal(60), &chain());
    rig.give(Input::Evidence(evidence.clone()));
    rig.give(Input::Evidence(evidence.clone()));
    assert_eq!(rig.evidence(), 1, "once");
    rig.final_block(1, &genesis());
    rig.pass(100);
    assert_eq!(own(&rig, 2).map(|header| header.evidence), Some(vec![evidence.clone()]));
    assert_eq!(evidence.class(), Some(Class::Batches));
}

#[test]
fn x1_evidence_with_a_forged_signature_is_dropped() {
    let mut rig = Rig::new(4, 1);
    let (a, b) = (rig.sign(3, notar(1, b"a")), rig.forged(3, notar(1, b"b")));
    rig.give(Input::Evidence(Evidence::of_votes(a.clone(), b, &chain())));
    let legal = rig.sign(3, statement(Kind::Skip, 1, Hash::ZERO));
    rig.give(Input::Evidence(Evidence::of_votes(a, legal, &chain())));
    assert_eq!((rig.evidence(), rig.dropped()), (0, vec!["evidence_invalid"; 2]));
}

#[test]
fn x4_a_restart_and_block_sync_know_what_the_state_has() {
    let known = nullifier(&Rig::new(4, 1), &notars(&Rig::new(4, 1), 3, 9));
    let mut restarted = Rig::recovered(4, 1, Recovered { nullifiers: vec![known.clone()], ..nothing() });
    let mut synced = Rig::new(4, 1);
    let block = Hash([50; 32]);
    let at = Tip { digest: block, slot: 60, height: 50, time_ms: WALL, ..genesis_tip() };
    let cert = synced.others_cert(Kind::Final, 60, block);
    synced.give(Input::Synced { tip: at, cert, included: Vec::new(), nullifiers: vec![known], boundary: None });
    for (rig, slot) in [(&mut restarted, 1), (&mut synced, 61)] {
        vote_twice(rig, slot);
        assert_eq!(rig.evidence(), 0, "people were told when it was new");
        assert_eq!(rig.core.x5_pick(rig.core.tip.digest), []);
    }
}

/// The verdict on a block of slot 2 with this evidence.
fn judged(rig: &mut Rig, parent: &Parent, evidence: Vec<Evidence>) -> Option<Invalid> {
    let header = Header { evidence, ..rig.header(2, parent) };
    if check_v7_shape(&header, &rig.config).is_err() {
        return Some(Invalid::Evidence);
    }
    let digest = rig.propose(header);
    match rig.core.state_of(&digest) {
        State::Invalid(invalid) => Some(invalid),
        State::Held(hold) => panic!("held: {hold:?}"),
        State::Votable => None,
    }
}

#[test]
fn v7_valid_evidence_is_voted_for_and_nothing_else_is() {
    let with = |change: &dyn Fn(&Rig) -> Vec<Evidence>| {
        let mut rig = Rig::new(4, 3);
        let parent = rig.final_block(1, &genesis());
        let evidence = change(&rig);
        judged(&mut rig, &parent, evidence)
    };
    assert_eq!(with(&|rig| vec![notars(rig, 0, 1), notars(rig, 2, 7)]), None);
    let refused = Some(Invalid::Evidence);
    assert_eq!(with(&|rig| vec![notars(rig, 0, 1), notars(rig, 0, 5)]), refused, "one key and class twice");
    let swapped = |rig: &Rig| {
        let Evidence::Votes { first, second } = notars(rig, 0, 1) else { panic!() };
        vec![Evidence::Votes { first: second, second: first }]
    };
    assert_eq!(with(&swapped), refused, "X1 order");
    let forged = |rig: &Rig| {
        let forged = Vote { signer: 0, ..rig.sign(2, notar(1, b"b")) };
        vec![Evidence::of_votes(rig.sign(0, notar(1, b"a")), forged, &chain())]
    };
    assert_eq!(with(&forged), refused, "X1 signature");
    let legal = |rig: &Rig| {
        let skip = rig.sign(0, statement(Kind::Skip, 1, Hash::ZERO));
        vec![Evidence::of_votes(rig.sign(0, notar(1, b"a")), skip, &chain())]
    };
    assert_eq!(with(&legal), refused, "X2");
    let early = |rig: &Rig| {
        let vote = |name| rig.sign(0, Statement { epoch: 1, ..notar(1, name) });
        vec![Evidence::of_votes(vote(b"a"), vote(b"b"), &chain())]
    };
    assert_eq!(with(&early), refused, "X3");
}

#[test]
fn v7_at_most_eight() {
    let rig = Rig::new(12, 3);
    let with = |n: u16| {
        let evidence = (0..n).map(|signer| notars(&rig, signer, 1)).collect();
        check_v7_shape(&Header { evidence, ..rig.header(1, &genesis()) }, &rig.config)
    };
    assert_eq!((with(8), with(9)), (Ok(()), Err(Invalid::Evidence)));
}

#[test]
fn v7_what_the_parents_state_has_is_refused() {
    let mut rig = Rig::new(4, 3);
    let evidence = vec![notars(&rig, 0, 1)];
    let base = rig.candidate(Header { evidence, ..rig.header(1, &genesis()) });
    let parent = after(&base);
    rig.give_candidate(base.clone());
    rig.serve();
    rig.cert(Kind::Notar, 1, base.header.digest());
    let again = vec![notars(&rig, 0, 3)];
    assert_eq!(judged(&mut rig, &parent, again.clone()), Some(Invalid::Evidence), "in an unfinal ancestor");
    rig.cert(Kind::Final, 1, base.header.digest());
    rig.serve();
    rig.now.wall_ms += 5;
    assert_eq!(judged(&mut rig, &parent, again), Some(Invalid::Evidence), "in a final one");
}
