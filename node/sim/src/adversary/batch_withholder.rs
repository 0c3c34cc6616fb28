//! Keeps its batches from all but one, and names them in its blocks all the same.

use super::{Lie, Scene};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;

pub fn twist(scene: &Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    let friend = (scene.me + 1) % scene.n as Index;
    let held = matches!(message, Message::Batch(_) | Message::Batches { .. }) && to != friend;
    if held { Vec::new() } else { vec![(to, 0, message.clone())] }
}
