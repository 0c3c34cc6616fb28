//! Tells a validator that recovers that it never voted, and votes twice besides: only the quorum of others saves the one who asks.

use super::{Lie, Scene, double_voter};
use crate::disk::sign;
use aitbc_core::key::PublicKey;
use aitbc_core::memory::{Mark, MarkReply, Seen};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    let Message::MarkReply(reply) = message else { return double_voter::twist(to, message) };
    let mark = Mark { slot: 0, quarantined: false, clean_from: 0, ..reply.mark };
    // Keys of the simulation are names.
    let asker = PublicKey([to as u8 + 1; 32]);
    let signature = sign(scene.me, &mark.sign_bytes(&scene.chain, &asker));
    let lie = MarkReply { mark, signature, seen: Seen::default(), votes: Vec::new() };
    vec![(to, 0, Message::MarkReply(Box::new(lie)))]
}
