//! X1-X3, both ways: what is evidence, and what is not.

use super::*;
use crate::codec;
use crate::hash::plain;
use crate::vote::tests::{chain, keys, set_of};

fn set() -> ValidatorSet {
    set_of(&keys(1))
}

fn statement(kind: Kind, slot: u64, name: &[u8]) -> Statement {
    let digest = if kind == Kind::Skip { Hash::ZERO } else { plain(name) };
    Statement { epoch: 5, slot, kind, digest }
}

fn vote(signer: Index, statement: Statement) -> Vote {
    Vote::sign(statement, &chain(), signer, &keys(1)[usize::from(signer)])
}

fn of(a: Statement, b: Statement) -> Evidence {
    Evidence::of_votes(vote(2, a), vote(2, b), &chain())
}

fn batch(author: Index, seq: u64, expiry_height: u64) -> Batch {
    Batch::seal(&chain(), &keys(1)[usize::from(author)], (5, author), seq, expiry_height, Vec::new())
}

fn verify(evidence: &Evidence) -> Result<Offence, EvidenceError> {
    evidence.verify(&chain(), &set(), 5)
}

fn class(evidence: &Evidence) -> Result<Class, EvidenceError> {
    verify(evidence).map(|offence| offence.class)
}

fn notar(name: &[u8]) -> Statement {
    statement(Kind::Notar, 9, name)
}

fn final_vote(name: &[u8]) -> Statement {
    statement(Kind::Final, 9, name)
}

fn skip() -> Statement {
    statement(Kind::Skip, 9, b"")
}

#[test]
fn x2_each_contradiction_is_of_its_class_whichever_vote_came_first() {
    let pairs = [
        (notar(b"a"), notar(b"b"), Class::Notars),
        (skip(), final_vote(b"a"), Class::SkipFinal),
        (final_vote(b"a"), final_vote(b"b"), Class::Finals),
        (notar(b"a"), final_vote(b"b"), Class::NotarFinal),
    ];
    for (a, b, expected) in pairs {
        assert_eq!(of(a, b), of(b, a), "one contradiction, one form");
        let offence = verify(&of(a, b)).expect("proves it");
        assert_eq!(offence, Offence { key: keys(1)[2].public(), epoch: 5, class: expected, slot: 9 });
    }
}

#[test]
fn x2_legal_pairs_are_no_evidence() {
    let far = |kind| statement(kind, 10, b"b");
    let legal = [
        (notar(b"a"), skip()),
        (notar(b"a"), final_vote(b"a")),
        (notar(b"a"), notar(b"a")),
        (notar(b"a"), far(Kind::Notar)),
        (notar(b"a"), statement(Kind::Notar, 10, b"a")),
        (skip(), far(Kind::Final)),
        (final_vote(b"a"), far(Kind::Final)),
        (notar(b"a"), Statement { epoch: 4, ..notar(b"b") }),
    ];
    for (a, b) in legal {
        assert_eq!(class(&of(a, b)), Err(EvidenceError::Legal), "{a:?} {b:?}");
        assert_eq!((x2_class(&a, &b), x2_class(&b, &a)), (None, None));
    }
}

#[test]
fn x2e_two_batches_of_one_number_are_evidence_and_others_are_not() {
    let (a, b) = (batch(1, 7, 50), batch(1, 7, 60));
    let evidence = Evidence::of_batches(&a, &b, &chain());
    assert_eq!(evidence, Evidence::of_batches(&b, &a, &chain()));
    let offence = verify(&evidence).expect("proves it");
    assert_eq!(offence, Offence { key: keys(1)[1].public(), epoch: 5, class: Class::Batches, slot: 7 });
    for other in [batch(1, 8, 60), Batch { epoch: 4, ..batch(1, 7, 60) }, a.clone()] {
        assert_eq!(class(&Evidence::of_batches(&a, &other, &chain())), Err(EvidenceError::Legal));
    }
    assert_eq!(class(&Evidence::of_batches(&a, &batch(3, 7, 60), &chain())), Err(EvidenceError::Signer));
    let forged = Batch { signature: a.signature, ..b };
    assert_eq!(class(&Evidence::of_batches(&a, &forged, &chain())), Err(EvidenceError::Signature(1)));
}

#[test]
fn x1_both_must_be_of_one_known_signer_with_valid_signatures() {
    let (a, b) = (notar(b"a"), notar(b"b"));
    let two = Evidence::of_votes(vote(2, a), vote(3, b), &chain());
    assert_eq!(class(&two), Err(EvidenceError::Signer));
    let unknown = |statement| Vote { signer: 4, ..vote(2, statement) };
    assert_eq!(class(&Evidence::of_votes(unknown(a), unknown(b), &chain())), Err(EvidenceError::Signer));
    let in_anothers_name = |statement| Vote { signer: 3, ..vote(2, statement) };
    let forged = Evidence::of_votes(in_anothers_name(a), in_anothers_name(b), &chain());
    assert_eq!(class(&forged), Err(EvidenceError::Signature(3)));
    let half = Evidence::of_votes(vote(2, a), Vote { signature: Signature([7; 64]), ..vote(2, b) }, &chain());
    assert_eq!(class(&half), Err(EvidenceError::Signature(2)));
    let elsewhere = of(a, b).verify(&plain(b"another chain"), &set(), 5);
    assert_eq!(elsewhere, Err(EvidenceError::Signature(2)), "a replay from another chain");
    let malformed = Statement { kind: Kind::Skip, ..notar(b"a") };
    assert_eq!(class(&of(malformed, final_vote(b"a"))), Err(EvidenceError::Signer));
}

#[test]
fn x1_the_two_stand_in_the_order_of_their_sign_bytes() {
    let Evidence::Votes { first, second } = of(notar(b"a"), notar(b"b")) else { panic!() };
    let swapped = Evidence::Votes { first: second, second: first };
    assert_eq!(class(&swapped), Err(EvidenceError::Order));
    let Evidence::Batches { first, second } = Evidence::of_batches(&batch(1, 7, 50), &batch(1, 7, 60), &chain()) else {
        panic!()
    };
    assert_eq!(class(&Evidence::Batches { first: second, second: first }), Err(EvidenceError::Order));
}

#[test]
fn x3_evidence_is_good_in_its_epoch_and_the_two_after() {
    let evidence = of(notar(b"a"), notar(b"b"));
    for current in 5..=7 {
        assert!(evidence.verify(&chain(), &set(), current).is_ok(), "{current}");
    }
    for current in [4, 8, u64::MAX] {
        let stale = Err(EvidenceError::Stale { found: 5, current });
        assert_eq!(evidence.verify(&chain(), &set(), current), stale);
    }
}

#[test]
fn evidence_of_both_kinds_has_one_encoding_of_a_small_size() {
    let votes = of(notar(b"a"), notar(b"b"));
    let batches = Evidence::of_batches(&batch(1, 7, 50), &batch(1, 7, 60), &chain());
    for evidence in [votes, batches] {
        let bytes = codec::encode(&evidence);
        assert_eq!(codec::decode::<Evidence>(&bytes).expect("own bytes"), evidence);
        assert!(bytes.len() < 256, "{}", bytes.len());
    }
}
