//! Which cases a test runs. Same seed, same run; a failing case prints how to run it again.
//!
//! | `FUZZ_SEED` | `FUZZ_CASES` | cases |
//! |---|---|---|
//! | – | – | 100 from seed 1 on: the short run of `cargo test` |
//! | – | n | n from seed 1 on |
//! | s | – | s alone |
//! | s | n | n from s on |

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Cases of the short run.
const SHORT: u64 = 100;

/// Prints the seed when the test unwinds through it.
struct Case {
    test: &'static str,
    seed: u64,
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed with seed {seed}; again: FUZZ_SEED={seed}", self.test, seed = self.seed);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs the cases of a test; answers how many.
pub fn cases(test: &'static str, mut run: impl FnMut(&mut StdRng)) -> u64 {
    let (seed, count) = (number("FUZZ_SEED"), number("FUZZ_CASES"));
    let first = seed.unwrap_or(1);
    let count = count.unwrap_or(if seed.is_some() { 1 } else { SHORT });
    for seed in first..first.saturating_add(count) {
        let _case = Case { test, seed };
        run(&mut StdRng::seed_from_u64(seed));
    }
    count
}
