//! C1-C3 and C8-C11: votes in, votes out.

use super::rig::*;
use crate::vote::Kind;

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
