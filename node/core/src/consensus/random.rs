//! The seeded generator for random peers: part of the state, so that a step stays a pure function (protocol.md C0).

/// SplitMix64: small, and good enough to spread requests over peers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator whose sequence the seed decides.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number, any of 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One of the items; `None` of none.
    pub(super) fn choose<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        let at = self.number() % (items.len() as u64).max(1);
        items.get(at as usize).copied()
    }
}
