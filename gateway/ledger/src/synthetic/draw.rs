//! Numbers that follow from a seed alone.

/// SplitMix64: small, steady, and good enough for a scene.
pub(super) struct Draw(u64);

impl Draw {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below a limit that is not 0.
    pub(super) const fn below(&mut self, limit: u64) -> u64 {
        match self.number().checked_rem(limit) {
            Some(number) => number,
            None => 0,
        }
    }

    /// Happens so many times in ten thousand.
    pub(super) const fn happens(&mut self, in_ten_thousand: u64) -> bool {
        self.below(10_000) < in_ten_thousand
    }

    /// A number below a limit, small ones far more often: half of all draws fall into the lowest eighth.
    pub(super) fn skewed(&mut self, limit: u64) -> u64 {
        /// Fractions of 2^20, so that the cube fits.
        const ONE: u64 = 1 << 20;
        let fraction = self.below(ONE);
        let cube = u128::from(fraction).pow(3);
        u64::try_from(cube * u128::from(limit) / u128::from(ONE).pow(3)).unwrap_or(0)
    }

    /// One of some, the first ones more often.
    pub(super) fn one_of<'a, T>(&mut self, some: &'a [T]) -> Option<&'a T> {
        let at = self.skewed(u64::try_from(some.len()).unwrap_or(0));
        usize::try_from(at).ok().and_then(|at| some.get(at))
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let number = self.number().to_le_bytes();
            for (byte, drawn) in chunk.iter_mut().zip(number) {
                *byte = drawn;
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skewed_draws_stay_below_the_limit_and_prefer_small_numbers() {
        let mut draw = Draw::new(1);
        let drawn: Vec<u64> = (0..10_000).map(|_| draw.skewed(80)).collect();
        assert!(drawn.iter().all(|number| *number < 80));
        let low = drawn.iter().filter(|number| **number < 10).count();
        assert!((4_500..5_500).contains(&low), "{low}");
        assert!(drawn.contains(&79) || drawn.contains(&78));
        assert_eq!(draw.skewed(0), 0);
    }
}
