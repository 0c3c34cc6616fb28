//! What the fuzz tests of gossip and RPC share with those of the core: cases by seed, damage to bytes, valid values.
//!
//! `FUZZ_SEED` and `FUZZ_CASES` choose the cases; `node/tests/corpus` holds inputs that must be refused in a known way.

#[path = "../core/tests/decoders/mutate.rs"]
pub mod mutate;
#[allow(dead_code, reason = "the tests of the core use the rest")]
#[path = "../core/tests/decoders/samples.rs"]
pub mod samples;
#[path = "../core/tests/reference/seed.rs"]
pub mod seed;

use rand::rngs::StdRng;
use std::path::{Path, PathBuf};

/// Bytes that differ from `bytes`, if only a little.
pub fn damaged(rng: &mut StdRng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    loop {
        let out = mutate::mutate(rng, bytes, other);
        if out != bytes {
            return out;
        }
    }
}

/// Greatest resident size of this process so far, in bytes.
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    kib << 10
}

/// Files of a folder of the corpus, by name.
pub fn corpus(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus")).join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("corpus").map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).expect("readable"))).collect()
}

/// A runtime for tests that run many cases by seed.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
