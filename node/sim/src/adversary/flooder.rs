//! Sends votes for far slots by the dozen, and repeats itself.

use super::{Lie, Scene};
use crate::disk::sign_vote;
use aitbc_core::hash::{self, Hash};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;
use aitbc_core::vote::{Kind, Statement};

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    let mut out = vec![(to, 0, message.clone())];
    if let Message::Vote(vote) = message {
        for _ in 0..6 {
            let slot = vote.statement.slot + scene.random.between(1, 200);
            let kind = scene.random.choose(&[Kind::Notar, Kind::Skip, Kind::Final]);
            let digest = if kind == Kind::Skip { Hash::ZERO } else { hash::plain(&slot.to_le_bytes()) };
            let statement = Statement { epoch: 0, slot, kind, digest };
            out.push((to, 0, Message::Vote(sign_vote(&scene.chain, scene.me, statement))));
        }
        out.push((to, 0, message.clone()));
    }
    out
}
