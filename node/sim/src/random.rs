//! The one source of chance: the seed decides everything.

use aitbc_core::consensus::random::Random as Generator;

/// The core's generator, with what a world asks of it.
#[derive(Clone)]
pub struct Random(Generator);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(Generator::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03))
    }

    /// 0 ..< n.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.number() % n.max(1)
    }

    /// `low ..= high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }

    pub fn choose<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}
