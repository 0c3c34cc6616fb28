//! Holds votes and proposals back for long, then shows them to some: old slots come to life when others have moved on.

use super::{Lie, Scene};
use aitbc_core::message::Message;
use aitbc_core::validators::Index;

pub fn twist(scene: &mut Scene<'_>, to: Index, message: &Message) -> Vec<Lie> {
    let late = match message {
        Message::Vote(_) | Message::Proposal(_) if scene.random.percent(60) => scene.random.between(100, 2_000),
        Message::Vote(_) | Message::Proposal(_) if scene.random.percent(30) => return Vec::new(),
        _ => 0,
    };
    vec![(to, late, message.clone())]
}
