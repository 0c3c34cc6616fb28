//! Gives certificates, and its votes that complete them, to one peer only.

use super::{Lie, Scene};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    let friend = (scene.me + 1) % scene.n as Index;
    let held = match message {
        Message::Cert(_) | Message::Certs { .. } => to != friend,
        Message::Vote(_) => to != friend && scene.random.percent(70),
        _ => false,
    };
    if held { Vec::new() } else { vec![(to, 0, message.clone())] }
}
