//! Runs twice with one key: the world starts a second process with a disk of its own. Each of the two is honest.

use super::Lie;
use aitbc_core::message::Message;
use aitbc_core::validators::Index;

pub fn twist(to: Index, message: &Message) -> Vec<Lie> {
    vec![(to, 0, message.clone())]
}
