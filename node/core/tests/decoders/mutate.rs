//! Small damage to valid bytes, as a hostile or broken peer does it.

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// Lengths that a list may claim: nothing, one too many of the usual caps, 16 MiB, 1 GiB, the most.
const LENGTHS: [u32; 10] = [0, 1, 13, 65, 257, 4_097, 1 << 24, 1 << 30, i32::MAX as u32, u32::MAX];

/// One to four changes.
pub fn mutate(rng: &mut StdRng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..rng.random_range(1..5) {
        change(rng, &mut out, other);
    }
    out
}

fn change(rng: &mut StdRng, out: &mut Vec<u8>, other: &[u8]) {
    let at = rng.random_range(0..=out.len());
    let (from, to) = segment(rng, out.len());
    match rng.random_range(0..9) {
        0 | 1 if at < out.len() => out[at] ^= 1 << rng.random_range(0..8),
        2 if at < out.len() => out[at] = rng.random(),
        3 => out.truncate(at),
        4 => out.extend((0..rng.random_range(1..20)).map(|_| rng.random::<u8>())),
        5 if at + 4 <= out.len() => {
            let length = LENGTHS[rng.random_range(0..LENGTHS.len())];
            out[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        6 => {
            let copy = out[from..to].to_vec();
            out.splice(at..at, copy);
        }
        7 => drop(out.drain(from..to)),
        _ => {
            let (from, to) = segment(rng, other.len());
            let end = (at + to - from).min(out.len());
            out.splice(at..end, other[from..to].iter().copied());
        }
    }
}

fn segment(rng: &mut StdRng, len: usize) -> (usize, usize) {
    let from = rng.random_range(0..=len);
    (from, rng.random_range(from..=len.min(from + 300)))
}

/// Up to `most` bytes of nothing in particular.
pub fn noise(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let mut out = vec![0; rng.random_range(0..=most)];
    rng.fill_bytes(&mut out);
    out
}
