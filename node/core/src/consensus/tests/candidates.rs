//! C13: candidates in.

use super::rig::*;
use crate::consensus::input::Input;
use crate::vote::Kind;

#[test]
fn c13_two_digests_of_a_slot_are_kept_and_a_third_only_if_certified() {
    let mut rig = Rig::new(4, 3);
    let first = rig.header(1, &genesis());
    let headers: Vec<_> =
        (0..4).map(|i| crate::block::Header { time_ms: first.time_ms + i, ..first.clone() }).collect();
    for header in &headers[..3] {
        rig.propose(header.clone());
    }
    assert_eq!(rig.core.candidates.len(), 2);
    assert!(rig.dropped().contains(&"candidate_third"));
    rig.cert(Kind::Notar, 1, headers[3].digest());
    rig.propose(headers[3].clone());
    assert!(rig.core.candidates.contains_key(&headers[3].digest()));
}

#[test]
fn c13_ten_thousand_candidates_of_a_slot_cost_two() {
    let mut rig = Rig::new(4, 3);
    let first = rig.header(1, &genesis());
    for i in 0..200 {
        rig.propose(crate::block::Header { time_ms: first.time_ms + i, ..first.clone() });
    }
    assert_eq!((rig.core.candidates.len(), rig.evidence()), (2, 1));
}

#[test]
fn c13_far_and_final_slots_are_dropped() {
    let mut rig = Rig::new(4, 3);
    let far = rig.header(1 + 65, &genesis());
    rig.propose(far);
    assert_eq!(rig.dropped(), ["candidate_far"]);
    rig.final_block(1, &genesis());
    rig.take();
    let old = crate::block::Header { time_ms: 5, ..rig.header(1, &genesis()) };
    rig.propose(old);
    assert!(rig.core.candidates.len() == 1, "only the final one");
}

#[test]
fn c13_one_that_a_certificate_names_needs_no_signature() {
    let mut rig = Rig::new(4, 3);
    let header = rig.header(1, &genesis());
    let mut candidate = rig.candidate(header);
    let digest = candidate.header.digest();
    candidate.signature.0 = [0; 64];
    rig.give(Input::Cand { from: 1, candidate: candidate.clone() });
    assert!(rig.core.candidates.is_empty(), "unasked");
    rig.cert(Kind::Notar, 1, digest);
    rig.give(Input::Cand { from: 1, candidate });
    assert_eq!(rig.asked_to_execute(), [digest]);
    assert!(rig.persisted().is_empty(), "but no vote for it (V1)");
    let header = rig.header(1, &genesis());
    rig.propose(header);
    assert_eq!(rig.persisted_kinds(), [(Kind::Notar, 1)], "until the signature comes");
}
