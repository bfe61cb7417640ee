//! Chance that can be repeated.

/// A row of numbers that looks random and follows from its seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The row of one case: two cases share nothing, and each can be repeated alone.
    pub(crate) fn of(seed: u64, campaign: &str, case: usize) -> Self {
        let mut chance = Self(seed ^ (case as u64).wrapping_mul(0xa076_1d64_78bd_642f));
        for byte in campaign.bytes() {
            chance.0 = chance.next() ^ u64::from(byte);
        }
        chance
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; zero where that is zero.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_repeats_and_cases_differ() {
        let row = |case| {
            let mut chance = Chance::of(7, "kill", case);
            [chance.next(), chance.next()]
        };
        assert_eq!(row(1), row(1));
        assert_ne!(row(1), row(2));
        assert_ne!(
            Chance::of(7, "kill", 1).next(),
            Chance::of(7, "power", 1).next()
        );
    }
}
