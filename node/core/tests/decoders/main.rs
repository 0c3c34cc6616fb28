//! Every decoder on arbitrary and mutated bytes: no panic, bounded memory, one encoding a value, nothing trailing.
//!
//! Seeds as in `../reference/seed.rs`. `../corpus` holds one file for each format, and each input that once did harm.

#[path = "../reference/seed.rs"]
mod seed; // which cases run, and what is printed when one fails

mod borsh; // everything that is sent or stored as bytes
mod corpus; // the files, and what they must do
mod json; // genesis, transactions, addresses: what people write
mod memory; // what a hostile length costs
mod mutate; // small damage to valid bytes
mod samples; // random valid values of each format
