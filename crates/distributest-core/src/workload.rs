//! Measures an amount of work: what the schedule of a run is judged by.

use std::time::Duration;

/// The durations of a set of test files, added up. Collect it from them, or [`add`](Self::add) them as they
/// come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    total: Duration,
    longest: Duration,
}

impl Workload {
    /// Adds one file's duration.
    pub fn add(&mut self, duration: Duration) {
        self.total = self.total.saturating_add(duration);
        self.longest = self.longest.max(duration);
    }

    /// All durations added up.
    pub fn total(&self) -> Duration {
        self.total
    }

    /// The longest of them; zero when there are none.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The time no schedule on this many equal runners can beat: `max(total / runners, longest)`.
    ///
    /// No runner at all counts as one, so that an empty run has an answer too.
    pub fn lower_bound(&self, runners: u32) -> Duration {
        self.longest.max(self.total / runners.max(1))
    }

    /// The same for runners of these speeds: those of 2 take half of each duration. All speeds are above zero.
    pub fn lower_bound_at(&self, speeds: &[f64]) -> Duration {
        let together: f64 = speeds.iter().sum();
        let Some(fastest) = speeds.iter().copied().reduce(f64::max) else { return self.lower_bound(0) };
        self.longest.div_f64(fastest).max(self.total.div_f64(together))
    }
}

impl FromIterator<Duration> for Workload {
    fn from_iter<Durations: IntoIterator<Item = Duration>>(durations: Durations) -> Self {
        let mut workload = Workload::default();
        durations.into_iter().for_each(|duration| workload.add(duration));
        workload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(durations: &[u64]) -> Workload {
        durations.iter().copied().map(Duration::from_secs).collect()
    }

    #[test]
    fn many_short_files_are_bounded_by_their_share() {
        assert_eq!(seconds(&[4, 4, 4, 4]).lower_bound(2), Duration::from_secs(8));
    }

    #[test]
    fn one_long_file_bounds_the_run_by_itself() {
        assert_eq!(seconds(&[1, 9, 2]).lower_bound(4), Duration::from_secs(9));
    }

    #[test]
    fn fast_runners_do_more_and_the_fastest_has_the_longest() {
        assert_eq!(seconds(&[4, 4, 4]).lower_bound_at(&[1.0, 0.5]), Duration::from_secs(8));
        assert_eq!(seconds(&[8, 1]).lower_bound_at(&[2.0, 1.0]), Duration::from_secs(4));
        assert_eq!(seconds(&[3, 4]).lower_bound_at(&[]), Duration::from_secs(7));
        assert_eq!(seconds(&[4, 4, 4, 4]).lower_bound_at(&[1.0; 2]), seconds(&[4; 4]).lower_bound(2));
    }

    #[test]
    fn nothing_to_do_and_nobody_to_do_it_have_an_answer() {
        assert_eq!(seconds(&[]).lower_bound(0), Duration::ZERO);
        assert_eq!(seconds(&[3, 4]).lower_bound(0), Duration::from_secs(7));
    }
}
