//! Says everything 300 ms late, its proposals first of all.

use super::Lie;
use aitbc_core::message::Message;
use aitbc_core::validators::Index;

/// How late.
const LATE_MS: u64 = 300;

pub fn twist(to: Index, message: &Message) -> Vec<Lie> {
    vec![(to, LATE_MS, message.clone())]
}
