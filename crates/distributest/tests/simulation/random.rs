//! The only source of chance: SplitMix64, a few lines that will never change under a seed that is written down.

use std::ops::Range;
use std::time::Duration;

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Numbers of their own for a purpose, so that one draw more here changes nothing there.
    pub(crate) fn of(seed: u64, purpose: &[u64]) -> Random {
        let mixed = purpose.iter().fold(seed, |mixed, part| Random(mixed ^ part.rotate_left(32)).next());
        Random(mixed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range, which is not empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    pub(crate) fn milliseconds(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// One of the weighted choices.
    pub(crate) fn weighted<Choice: Clone>(&mut self, choices: &[(u64, Choice)]) -> Choice {
        let mut left = self.within(0..choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            if left < *weight {
                return choice.clone();
            }
            left -= weight;
        }
        unreachable!("the number is below the sum of all weights")
    }
}
