//! Routes of the public Python prototype that have no other name here, in its shapes (docs/rpc.md, "The prototype's routes").
//!
//! What its clients only call otherwise, such as `getBalance`, is the same handler under both names, whose answer has all
//! fields of both. Nothing unsigned is taken: where an old shape cannot be honest, the error says what to send instead.

pub mod accounts;
pub mod blocks;
pub mod sending;
pub mod status;
pub mod transactions;

use crate::events::naive_utc;

/// Of a block: genesis has no time.
fn timestamp(height: u64, time_ms: u64) -> Option<String> {
    if height > 0 { naive_utc(time_ms) } else { None }
}
