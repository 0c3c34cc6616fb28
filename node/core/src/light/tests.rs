//! One rule a test, on a chain of four validators whose every third header has a certificate of its own.

use super::*;
use crate::key::{Address, SecretKey};
use crate::ledger::{ResultCode, results_root};
use crate::transaction::{Action, Payment, Transaction};
use crate::validators::Index;
use crate::vote::tests::{certify, chain, keys, set_of};
use std::sync::Arc;

fn set() -> ValidatorSet {
    set_of(&keys(1))
}

fn cert_by(keys: &[SecretKey], header: &Header, kind: Kind, signers: &[Index]) -> Cert {
    let statement = Statement { epoch: header.epoch, slot: header.slot, kind, digest: header.digest() };
    certify(keys, statement, signers)
}

fn cert(header: &Header) -> Cert {
    cert_by(&keys(1), header, Kind::Final, &[0, 2, 3])
}

fn header_on(parent: &Anchor, epoch: u64, set: &ValidatorSet) -> Header {
    let slot = parent.slot + if parent.height % 4 == 2 { 2 } else { 1 };
    Header {
        version: VERSION,
        epoch,
        slot,
        height: parent.height + 1,
        parent_slot: parent.slot,
        parent: parent.digest,
        parent_state_root: Hash::ZERO,
        parent_results_root: Hash::ZERO,
        time_ms: parent.time_ms + 10,
        proposer: set.leader(epoch, slot),
        set_hash: set.hash(),
        next_set_hash: set.hash(),
        batches: Vec::new(),
        evidence: Vec::new(),
    }
}

fn headers(count: usize) -> Vec<Header> {
    let mut out: Vec<Header> = Vec::new();
    for _ in 0..count {
        let parent = out.last().map_or_else(|| Anchor::genesis(chain()), |h| Anchor::of(h, h.digest()));
        out.push(header_on(&parent, 0, &set()));
    }
    out
}

fn own_cert(header: &Header) -> Option<Cert> {
    header.height.is_multiple_of(3).then(|| cert(header))
}

fn follow(client: &mut Client, headers: &[Header]) -> Result<(), LightError> {
    headers.iter().try_for_each(|header| client.advance(header, own_cert(header).as_ref()).map(|_| ()))
}

#[test]
fn l1_a_certificate_makes_its_header_and_all_below_it_final() {
    let headers = headers(7);
    let mut client = Client::at_genesis(chain(), set());
    for header in &headers {
        let digest = client.advance(header, own_cert(header).as_ref()).expect("valid");
        assert_eq!((digest, client.head().height), (header.digest(), header.height));
        let covered = header.height / 3 * 3;
        assert_eq!(client.trusted().map(|anchor| anchor.height), Some(covered), "after {}", header.height);
    }
}

#[test]
fn l1_a_certificate_of_a_later_slot_is_of_the_same_header_proposed_again() {
    let header = &headers(1)[0];
    let again = Statement { epoch: 0, slot: header.slot + 5, kind: Kind::Final, digest: header.digest() };
    let mut client = Client::at_genesis(chain(), set());
    client.advance(header, Some(&certify(&keys(1), again, &[0, 1, 2]))).expect("the same block");
    assert_eq!(client.trusted().map(|anchor| anchor.height), Some(1));
}

#[test]
fn l1_a_certificate_of_anything_else_or_without_a_quorum_is_refused_with_its_height() {
    let headers = headers(3);
    let other = |cert: &Cert| {
        let mut client = Client::at_genesis(chain(), set());
        follow(&mut client, &headers[..2]).expect("valid");
        client.advance(&headers[2], Some(cert)).expect_err("refused")
    };
    let of_another = |cert: Cert| matches!(other(&cert), LightError::OtherCert { height: 3, .. });
    assert!(of_another(cert_by(&keys(1), &headers[2], Kind::Notar, &[0, 1, 2])));
    assert!(of_another(cert(&headers[1])));
    let fork = Header { time_ms: headers[2].time_ms + 1, ..headers[2].clone() };
    assert!(of_another(cert(&fork)), "of the same slot");
    let mut early = cert(&headers[2]);
    early.statement.slot = headers[2].slot - 1;
    assert!(of_another(early));
    let mut epoch = cert(&headers[2]);
    epoch.statement.epoch = 1;
    assert!(of_another(epoch));
    let invalid = |cert: Cert| match other(&cert) {
        LightError::Cert { height: 3, cause } => cause,
        error => panic!("{error}"),
    };
    let light = cert_by(&keys(1), &headers[2], Kind::Final, &[0, 1]);
    assert_eq!(invalid(light), CertError::Weight { found: 2, quorum: 3 });
    assert_eq!(invalid(cert_by(&keys(9), &headers[2], Kind::Final, &[0, 1, 2])), CertError::Signature(0));
    let mut forged = cert(&headers[2]);
    forged.signatures.swap(0, 1);
    assert_eq!(invalid(forged), CertError::Signature(0));
}

#[test]
fn l1_a_header_that_does_not_follow_is_refused_by_its_field_with_what_was_expected() {
    type Change = fn(&mut Header);
    let changes: [(&str, Change); 11] = [
        ("version", |h| h.version += 1),
        ("height", |h| h.height += 1),
        ("height", |h| h.height -= 1),
        ("parent", |h| h.parent.0[0] ^= 1),
        ("epoch", |h| h.epoch += 1),
        ("parent_slot", |h| h.parent_slot += 1),
        ("slot", |h| h.slot = h.parent_slot),
        ("time_ms", |h| h.time_ms -= 10),
        ("set_hash", |h| h.set_hash.0[0] ^= 1),
        ("proposer", |h| h.proposer = 4),
        // Of the set, but not its turn (V1).
        ("proposer", |h| h.proposer = (h.proposer + 1) % 4),
    ];
    let headers = headers(3);
    for (field, change) in changes {
        let mut client = Client::at_genesis(chain(), set());
        follow(&mut client, &headers[..2]).expect("valid");
        let before = (client.head(), client.trusted());
        let mut wrong = headers[2].clone();
        change(&mut wrong);
        let LightError::Link(error) = client.advance(&wrong, Some(&cert(&wrong))).expect_err(field) else {
            panic!("{field}")
        };
        assert_eq!((error.height, error.field), (3, field));
        assert_ne!(error.expected, error.found, "{field}");
        assert_eq!((client.head(), client.trusted()), before, "{field}");
        follow(&mut client, &headers[2..]).expect("an error changes nothing");
    }
}

#[test]
fn l1_a_client_may_begin_at_a_trusted_header_or_with_nothing_but_the_set() {
    let headers = headers(9);
    let mut client = Client::at(chain(), set(), &headers[3]);
    assert_eq!(client.trusted().map(|anchor| anchor.height), Some(4));
    follow(&mut client, &headers[4..]).expect("valid");
    assert_eq!(client.trusted().map(|anchor| anchor.height), Some(9));

    let mut client = Client::before(chain(), set(), &headers[3]);
    follow(&mut client, &headers[3..5]).expect("valid");
    assert_eq!((client.head().height, client.trusted()), (5, None), "nothing is final without a certificate");
    follow(&mut client, &headers[5..6]).expect("valid");
    assert_eq!(client.trusted().map(|anchor| anchor.height), Some(6));
    let mut other = Client::before(chain(), set_of(&keys(9)), &headers[3]);
    assert!(matches!(follow(&mut other, &headers[3..]), Err(LightError::Link(LinkError { field: "set_hash", .. }))));
}

#[test]
fn l2_the_next_set_is_the_one_that_a_final_header_names_and_signs_from_then_on() {
    let (mut headers, next) = (headers(3), set_of(&keys(9)));
    headers[2].next_set_hash = next.hash();
    let mut client = Client::at_genesis(chain(), set());
    follow(&mut client, &headers[..2]).expect("valid");
    client.advance(&headers[2], None).expect("valid");
    assert_eq!(client.enter_epoch(next.clone()), Err(LightError::NotFinal { height: 3 }));

    let mut client = Client::at_genesis(chain(), set());
    follow(&mut client, &headers).expect("valid");
    assert!(matches!(client.enter_epoch(set()), Err(LightError::Set { height: 3, .. })));
    client.enter_epoch(next.clone()).expect("the set it names");
    assert_eq!((client.epoch(), client.set().hash(), client.head().slot), (1, next.hash(), 0));
    assert_eq!(client.enter_epoch(next.clone()), Err(LightError::NotFinal { height: 3 }), "no epoch is stepped over");
    let first = header_on(&client.head(), 1, &next);
    assert!(matches!(client.advance(&first, Some(&cert(&first))), Err(LightError::Cert { height: 4, .. })));
    client.advance(&first, Some(&cert_by(&keys(9), &first, Kind::Final, &[0, 1, 2]))).expect("of the new set");
    assert_eq!(client.trusted().map(|anchor| anchor.height), Some(4));
}

#[test]
fn v6_the_author_of_a_batch_is_of_the_set_of_its_own_epoch_which_is_the_headers_or_the_one_before() {
    let [older, previous, current, next] = [1, 11, 21, 31].map(|first| Arc::new(set_of(&keys(first))));
    let sets = Sets { epoch: 5, older, previous: previous.clone(), current: current.clone(), next };
    let batch = |epoch| Batch::seal(&chain(), &keys(1)[0], (epoch, 2), 1, 100, vec![transaction(0)]);
    let author = |epoch| {
        let batch = batch(epoch);
        let header = Header { batches: vec![batch.reference(batch.digest())], ..headers(1).remove(0) };
        named(&sets, &header, 0, &batch).map(|(_, author)| *author).ok()
    };
    let of = |set: &ValidatorSet| set.get(2).map(|member| member.key);
    assert_eq!((author(5), author(4)), (of(&current), of(&previous)));
    assert_eq!((author(3), author(6)), (None, None));
}

fn transaction(nonce: u64) -> SignedTransaction {
    let action = Action::Transfer(Payment { to: Address([9; 20]), amount: 5 });
    let key = &keys(1)[0];
    Transaction { sender: key.public(), nonce, fee: 1, expiry_height: 100, action }.sign(&chain(), key)
}

/// A header with two batches of three and five transactions, the header after it, and proofs of the sixth transaction.
fn proven() -> (Header, Header, Hash, TransactionProof) {
    let batch = |seq, txs| Batch::seal(&chain(), &keys(1)[0], (0, 0), seq, 100, txs);
    let batches = [batch(1, (0..3).map(transaction).collect()), batch(2, (3..8).map(transaction).collect())];
    let result = |nonce| TxResult { id: transaction(nonce).id(&chain()), code: ResultCode::Ok, fee: 1 };
    let results: Vec<TxResult> = (0..8).map(result).collect();
    let mut header = headers(1).remove(0);
    header.batches = batches.iter().map(|b| b.reference(b.digest())).collect();
    let mut next = header_on(&Anchor::of(&header, header.digest()), 0, &set());
    next.parent_results_root = results_root(&results);
    let inclusion = InclusionProof::of(&batches[1], 2).expect("there");
    let result = ResultProof::of(&results, 5);
    (header, next, transaction(5).id(&chain()), TransactionProof { inclusion, result })
}

#[test]
fn l3_a_transaction_is_proven_by_the_batch_that_a_header_names_and_its_result_by_the_header_after() {
    let (header, next, id, proof) = proven();
    let result = TxResult { id, code: ResultCode::Ok, fee: 1 };
    assert_eq!(proof.verify(&chain(), &id, &header, Some(&next)), Ok((5, Some(result))));
    assert_eq!(proof.verify(&chain(), &id, &header, None), Ok((5, None)));
    let text = serde_json::to_string(&proof).expect("json");
    assert_eq!(serde_json::from_str::<TransactionProof>(&text).expect("own text"), proof);
}

#[test]
fn l3_a_proof_of_another_transaction_place_or_header_is_refused() {
    let (header, next, id, proof) = proven();
    let verify = |id: &Hash, header: &Header, next: &Header, proof: &TransactionProof| {
        proof.verify(&chain(), id, header, Some(next)).expect_err("refused")
    };
    let other = transaction(4).id(&chain());
    assert!(matches!(verify(&other, &header, &next, &proof), NotProven::OtherTransaction { .. }));
    let mut without = header.clone();
    without.batches.pop();
    assert_eq!(verify(&id, &without, &next, &proof), NotProven::NotIncluded { height: 1, index: 2 });
    assert!(matches!(verify(&id, &header, &header, &proof), NotProven::NotNext { height: 1, .. }));
    let mut elsewhere = proof.clone();
    elsewhere.result.as_mut().expect("there").index = 4;
    assert!(matches!(verify(&id, &header, &next, &elsewhere), NotProven::OtherResult { found_at: 4, .. }));
    let mut stolen = proof.clone();
    stolen.result.as_mut().expect("there").result.id = other;
    assert!(matches!(verify(&id, &header, &next, &stolen), NotProven::OtherResult { found, .. } if found == other));
    let mut changed = header.clone();
    changed.batches.iter_mut().for_each(|batch| batch.digest.0[0] ^= 1);
    assert_eq!(verify(&id, &changed, &next, &proof), NotProven::NotIncluded { height: 1, index: 2 });
    let mut failed = proof;
    failed.result.as_mut().expect("there").result.code = ResultCode::Expired;
    assert!(matches!(verify(&id, &header, &next, &failed), NotProven::WrongResult { height: 1, .. }));
}
