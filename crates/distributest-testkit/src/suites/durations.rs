//! Draws the durations of a suite's files: uneven, but exactly as long as was asked for.

use std::time::Duration;

/// How unevenly the durations are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All take the same.
    Even,
    /// Anything between nothing and the longest, all equally likely.
    Uniform,
    /// Many short ones and a few long ones, as real suites have them.
    Lognormal,
}

/// How many files, and how long they take.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationPlan {
    /// Number of files.
    pub files: usize,
    /// How unevenly they are spread.
    pub shape: Shape,
    /// What the slowest file takes.
    pub longest: Duration,
    /// What all files together take, to about half a millisecond per file; `None`: what the shape makes of it.
    pub total: Option<Duration>,
}

/// Why there are no such durations.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DurationError {
    /// There is nothing to spread.
    #[error("a suite needs at least one file")]
    NoFiles,
    /// The total is shorter than the longest file, or longer than all files at the longest.
    #[error("{files} files of at most {longest:?} can't take {total:?} in all")]
    OutOfReach {
        /// Number of files.
        files: usize,
        /// What the slowest takes.
        longest: Duration,
        /// What all were to take.
        total: Duration,
    },
}

impl DurationPlan {
    /// The durations, in whole milliseconds; the same for the same seed.
    ///
    /// # Errors
    ///
    /// When there are no files or the total is out of reach.
    pub fn draw(&self, seed: u64) -> Result<Vec<Duration>, DurationError> {
        let mut random = Random(seed);
        let weights: Vec<f64> = (0..self.files).map(|_| self.shape.weight(&mut random)).collect();
        let (slowest, heaviest) = weights
            .iter()
            .copied()
            .enumerate()
            .max_by(|one, other| one.1.total_cmp(&other.1))
            .ok_or(DurationError::NoFiles)?;
        let longest = self.longest.as_secs_f64();
        let mut seconds: Vec<f64> = weights.iter().map(|weight| weight / heaviest * longest).collect();
        if let Some(total) = self.total {
            let reachable =
                self.longest..=self.longest.saturating_mul(self.files.try_into().unwrap_or(u32::MAX));
            if !reachable.contains(&total) || (self.files == 1 && total != self.longest) {
                let DurationPlan { files, longest, .. } = *self;
                return Err(DurationError::OutOfReach { files, longest, total });
            }
            stretch(&mut seconds, slowest, total.as_secs_f64());
        }
        Ok(seconds
            .into_iter()
            .map(|seconds| Duration::from_millis((seconds * 1000.0).round() as u64))
            .collect())
    }
}

impl Shape {
    /// The relative duration of one file, above zero.
    fn weight(self, random: &mut Random) -> f64 {
        match self {
            Shape::Even => 1.0,
            Shape::Uniform => random.fraction(),
            Shape::Lognormal => random.normal().exp(),
        }
    }
}

/// Scales all but the slowest by one factor, none beyond the slowest, so that all add up to `total`.
fn stretch(seconds: &mut [f64], slowest: usize, total: f64) {
    let longest = seconds[slowest];
    let mut capped = vec![false; seconds.len()];
    capped[slowest] = true;
    // Each round caps at least one more, or ends.
    loop {
        let count = capped.iter().filter(|capped| **capped).count();
        let free: f64 = (0..seconds.len()).filter(|index| !capped[*index]).map(|index| seconds[index]).sum();
        if free == 0.0 {
            return;
        }
        let factor = (total - longest * count as f64) / free;
        let mut fits = true;
        for index in 0..seconds.len() {
            if !capped[index] && seconds[index] * factor > longest {
                (seconds[index], capped[index], fits) = (longest, true, false);
            }
        }
        if fits {
            (0..seconds.len()).filter(|index| !capped[*index]).for_each(|index| seconds[index] *= factor);
            return;
        }
    }
}

/// SplitMix64: small, and the same on every machine and in every version.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, at most 1.
    fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.fraction().ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.fraction()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn plan(shape: Shape, total: Option<u64>) -> DurationPlan {
        let longest = Duration::from_secs(6);
        DurationPlan { files: 120, shape, longest, total: total.map(Duration::from_secs) }
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        let plan = plan(Shape::Lognormal, Some(90));
        assert_eq!(plan.draw(7), plan.draw(7));
        assert_ne!(plan.draw(7), plan.draw(8));
    }

    #[test]
    fn longest_and_total_are_met_whatever_the_shape() {
        for shape in [Shape::Even, Shape::Uniform, Shape::Lognormal] {
            for total in [7, 90, 400, 719, 720] {
                for seed in 0..20 {
                    let drawn = plan(shape, Some(total)).draw(seed).unwrap();
                    assert_eq!(drawn.len(), 120);
                    assert_eq!(drawn.iter().max(), Some(&Duration::from_secs(6)), "{shape:?} {total} {seed}");
                    let sum: Duration = drawn.iter().sum();
                    let off = sum.abs_diff(Duration::from_secs(total));
                    assert!(off <= MILLISECOND * 60, "{shape:?} {total} {seed}: off by {off:?}");
                }
            }
        }
    }

    #[test]
    fn a_lognormal_suite_is_mostly_short_files() {
        let mut drawn = plan(Shape::Lognormal, None).draw(7).unwrap();
        drawn.sort();
        assert!(drawn[60] < Duration::from_secs(2), "median {:?}", drawn[60]);
        assert!(drawn[0] > Duration::ZERO);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for total in [5, 721] {
            let error = plan(Shape::Uniform, Some(total)).draw(7).unwrap_err();
            assert!(matches!(error, DurationError::OutOfReach { .. }), "{total}");
        }
        let none = DurationPlan { files: 0, ..plan(Shape::Even, None) };
        assert_eq!(none.draw(7), Err(DurationError::NoFiles));
    }
}
