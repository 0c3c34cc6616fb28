//! The one number a test's random choices come from: printed, and given again to repeat a run.

use aitbc_core::hash;
use aitbc_core::key::SecretKey;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Environment variable that repeats a run.
pub const VARIABLE: &str = "AITBC_SEED";

/// A test's seed.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// Of the environment, else a new one; prints it either way.
    pub fn of(test: &str) -> Seed {
        let given = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
        let seed = Seed(given.unwrap_or_else(|| rand::random::<u32>().into()));
        println!("{test}: seed {} ({VARIABLE}={} repeats it)", seed.0, seed.0);
        seed
    }

    /// Key number `index` of a kind.
    pub fn key(self, kind: &str, index: u64) -> SecretKey {
        let mut text = self.0.to_le_bytes().to_vec();
        text.extend_from_slice(&index.to_le_bytes());
        text.extend_from_slice(kind.as_bytes());
        SecretKey::from_seed(hash::plain(&text).0)
    }

    /// A generator for one purpose.
    pub fn rng(self, purpose: &str) -> StdRng {
        StdRng::from_seed(hash::plain(format!("{} {purpose}", self.0).as_bytes()).0)
    }
}
