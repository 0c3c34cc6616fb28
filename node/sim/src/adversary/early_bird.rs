//! Speaks in epochs that have not begun: votes for anything in the next ones, and proposes what is no last block again there.

use super::{Lie, Scene};
use crate::disk::sign_vote;
use aitbc_core::block::Reproposal;
use aitbc_core::hash::{self, Hash};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Kind, Statement};

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    let mut out = vec![(to, 0, message.clone())];
    let Message::Vote(vote) = message else { return out };
    let Statement { epoch, digest, .. } = vote.statement;
    for _ in 0..scene.random.below(4) {
        let epoch = epoch + scene.random.between(1, 2);
        let slot = scene.random.between(1, 4);
        let digest = if scene.random.percent(50) { digest } else { hash::plain(&slot.to_le_bytes()) };
        out.push((to, 0, word(scene, Statement { epoch, slot, kind: Kind::Notar, digest })));
    }
    out
}

fn word(scene: &mut Scene<'_>, notar: Statement) -> Message {
    let Statement { epoch, slot, digest, .. } = notar;
    let statement = match scene.random.below(4) {
        0 => Statement { kind: Kind::Skip, digest: Hash::ZERO, ..notar },
        1 if digest != Hash::ZERO => Statement { kind: Kind::Final, ..notar },
        _ => notar,
    };
    let vote = sign_vote(&scene.chain, scene.me, statement);
    if statement.kind == Kind::Notar && scene.random.percent(50) {
        let again = Reproposal { epoch, slot, digest, signature: vote.signature, proof: Vec::new() };
        return Message::Reproposal(Box::new(again));
    }
    Message::Vote(vote)
}
