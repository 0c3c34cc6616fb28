//! What a hostile length costs: a list that claims 1 GiB is refused at once, before memory is asked for.

use crate::samples;
use aitbc_core::codec::{decode, encode};
use aitbc_core::message::{Blocks, MAX_MESSAGE_BYTES, Message};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

/// Most by which the process may grow beyond what it had, all tests of this binary together.
const GROWTH: u64 = 64 << 20;
/// Most that one refusal may take; they take microseconds, the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(1);

/// Greatest resident size so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    kib << 10
}

fn decode_quickly(bytes: &[u8]) -> bool {
    let start = Instant::now();
    let read = decode::<Message>(bytes).is_ok();
    assert!(start.elapsed() < PATIENCE, "{:?} for {} bytes", start.elapsed(), bytes.len());
    read
}

#[test]
fn a_claimed_length_of_a_gigabyte_at_any_place_costs_neither_time_nor_memory() {
    let before = peak();
    let mut rng = StdRng::seed_from_u64(1);
    for tag in 0..samples::MESSAGES {
        let valid = encode(&samples::message(&mut rng, tag));
        for at in 0..valid.len().saturating_sub(3).min(2_000) {
            for length in [1u32 << 30, u32::MAX, 4_096] {
                let mut bytes = valid.clone();
                bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
                decode_quickly(&bytes);
            }
        }
    }
    let grown = peak().saturating_sub(before);
    assert!(grown < GROWTH, "grew by {} MiB", grown >> 20);
}

#[test]
fn the_largest_message_of_nothing_but_small_items_stays_within_ten_times_its_size() {
    let before = peak();
    // Batches without transactions are the smallest items that a message may hold many of.
    let mut rng = StdRng::seed_from_u64(2);
    let empty = aitbc_core::batch::Batch { txs: Vec::new(), ..samples::batch(&mut rng) };
    let block = aitbc_core::block::Block { batches: vec![empty; 64], ..samples::block(&mut rng) };
    let bytes = encode(&Message::Blocks(Blocks { blocks: vec![block; 256], ..Blocks::default() }));
    assert!(bytes.len() < MAX_MESSAGE_BYTES);
    assert!(decode_quickly(&bytes));
    let grown = peak().saturating_sub(before);
    assert!(grown < 10 * MAX_MESSAGE_BYTES as u64 + GROWTH, "grew by {} MiB", grown >> 20);
}
