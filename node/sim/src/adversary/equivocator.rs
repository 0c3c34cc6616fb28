//! Leads with two blocks at once: half of the peers get the other one, some both, some nothing. Some of its batches too have
//! a second one of the same number.

use super::{Lie, Scene};
use crate::disk::sign;
use aitbc_core::batch::Batch;
use aitbc_core::block::Proposal;
use aitbc_core::message::Message;
use aitbc_core::validators::Index;

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    if scene.random.percent(15) {
        return Vec::new();
    }
    let own = (to, 0, message.clone());
    match message {
        Message::Proposal(proposal) if proposal.candidate.header.proposer == scene.me && to.is_multiple_of(2) => {
            let twin = (to, 0, twin(scene, proposal));
            // Sometimes both, which is evidence at once.
            if scene.random.percent(20) { vec![twin, own] } else { vec![twin] }
        }
        Message::Batch(batch) if batch.author == scene.me && scene.random.percent(20) => {
            vec![own, (to, 0, Message::Batch(Box::new(other(scene, batch))))]
        }
        _ => vec![own],
    }
}

/// The same batch for a height longer.
fn other(scene: &Scene<'_>, batch: &Batch) -> Batch {
    let mut other = Batch { expiry_height: batch.expiry_height + 1, ..batch.clone() };
    other.signature = sign(scene.me, &Batch::sign_bytes(&scene.chain, &other.digest()));
    other
}

/// The same block a millisecond later.
fn twin(scene: &Scene<'_>, proposal: &Proposal) -> Message {
    let mut header = proposal.candidate.header.clone();
    header.time_ms += 1;
    scene.proposal(header, &proposal.proof)
}
