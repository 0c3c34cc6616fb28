//! Votes for a candidate, for its finality and against its slot, each to whom it likes.

use super::{Lie, Scene};
use crate::disk::sign_vote;
use aitbc_core::hash::Hash;
use aitbc_core::message::Message;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Kind, Statement};

pub fn twist(to: Index, message: &Message) -> Vec<Lie> {
    vec![(to, 0, message.clone())]
}

pub fn hear(scene: &mut Scene<'_>, heard: &Message) -> Vec<Lie> {
    let statement = match heard {
        Message::Vote(vote) if vote.statement.kind == Kind::Notar => vote.statement,
        Message::Proposal(proposal) => proposal.candidate.header.notar(proposal.candidate.header.digest()),
        Message::Reproposal(again) => {
            Statement { epoch: again.epoch, slot: again.slot, kind: Kind::Notar, digest: again.digest }
        }
        _ => return Vec::new(),
    };
    let skip = Statement { kind: Kind::Skip, digest: Hash::ZERO, ..statement };
    let fin = Statement { kind: Kind::Final, ..statement };
    let mut out = Vec::new();
    for to in (0..scene.n as Index).filter(|to| *to != scene.me) {
        let statement = scene.random.choose(&[statement, skip, fin]);
        if scene.random.percent(60) {
            out.push((to, 0, Message::Vote(sign_vote(&scene.chain, scene.me, statement))));
        }
    }
    out
}
