//! Keeps track of how far a run is, for the live view and for progress lines.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::Verdict;
use distributest_core::run_event::{HostChange, RunEvent};

/// How far a run is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) files: usize,
    pub(super) decided: usize,
    /// Files that ran and did not pass.
    pub(super) failed: usize,
    pub(super) stopping: bool,
    /// What hosts without a ready runner are busy with.
    pub(super) preparing: BTreeMap<HostId, String>,
    running: BTreeMap<AttemptId, Running>,
    /// Runners that have not failed, of the hosts that said how many they have.
    runners_left: HashMap<HostId, u16>,
    ready_runners: BTreeSet<RunnerId>,
    /// Predictions of files without a verdict, and their sum where there is one.
    predictions: HashMap<FileId, Option<Duration>>,
    predicted: Duration,
    unpredicted_files: u32,
    measured: Duration,
    measured_files: u32,
}

/// An attempt at work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) file: FileId,
    pub(super) runner: RunnerId,
    pub(super) since: Duration,
}

impl Progress {
    /// Takes an event in.
    pub(super) fn observe(&mut self, now: Duration, event: &RunEvent) {
        match event {
            RunEvent::RunStarted { hosts, files, .. } => {
                self.files = files.len();
                let hosts = (0..).map(HostId).zip(hosts).filter(|(_, plan)| plan.takes_part());
                self.preparing = hosts.map(|(host, _)| (host, "connecting".into())).collect();
                self.predictions = (0..).map(FileId).zip(files.iter().map(|plan| plan.predicted)).collect();
                self.predicted = self.predictions.values().flatten().sum();
                self.unpredicted_files = self.predictions.values().filter(|one| one.is_none()).count() as u32;
            }
            RunEvent::HostProgress { host, activity } => {
                if let Some(current) = self.preparing.get_mut(host) {
                    current.clone_from(activity);
                }
            }
            RunEvent::HostConnected { host, runners, .. } => {
                self.runners_left.insert(*host, *runners);
            }
            RunEvent::HostFailed { host, .. } => {
                self.preparing.remove(host);
                self.ready_runners.retain(|runner| runner.host != *host);
            }
            RunEvent::HostChanged { host, change: HostChange::Away(_) } => {
                self.preparing.insert(*host, "connecting".into());
                self.ready_runners.retain(|runner| runner.host != *host);
            }
            RunEvent::RunnerReady { runner, .. } => {
                self.preparing.remove(&runner.host);
                self.ready_runners.insert(*runner);
            }
            RunEvent::RunnerFailed { runner, .. } => {
                self.ready_runners.remove(runner);
                if let Some(left) = self.runners_left.get_mut(&runner.host) {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        self.preparing.remove(&runner.host);
                    }
                }
            }
            RunEvent::AttemptStarted { attempt, file, runner } => {
                self.running.insert(*attempt, Running { file: *file, runner: *runner, since: now });
            }
            RunEvent::AttemptFinished(report) => {
                self.running.remove(&report.attempt);
                self.measured += report.duration;
                self.measured_files += 1;
            }
            RunEvent::FileVerdict { file, verdict, .. } => {
                self.decided += 1;
                match self.predictions.remove(file) {
                    Some(Some(predicted)) => self.predicted = self.predicted.saturating_sub(predicted),
                    Some(None) => self.unpredicted_files -= 1,
                    None => {}
                }
                if matches!(verdict, Verdict::Ran(outcome) if !outcome.is_success()) {
                    self.failed += 1;
                }
            }
            RunEvent::StopRequested => self.stopping = true,
            _ => {}
        }
    }

    /// Attempts at work.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether no runner has had anything to do yet.
    pub(super) fn is_preparing(&self) -> bool {
        self.decided == 0 && self.running.is_empty() && self.ready_runners.is_empty()
    }

    /// The attempt that has been at work longest.
    pub(super) fn longest_running(&self) -> Option<Running> {
        self.running.values().min_by_key(|running| running.since).copied()
    }

    /// Time until the last verdict, if runners go on as they do; `None` while there is nothing to go by.
    ///
    /// A file without a prediction is taken for an average one.
    pub(super) fn time_left(&self, now: Duration) -> Option<Duration> {
        if self.ready_runners.is_empty() || self.predictions.is_empty() || self.stopping {
            return None;
        }
        let unknown = self.average_file()?;
        let mut left: Duration =
            self.predictions.values().map(|predicted| predicted.unwrap_or(unknown)).sum();
        let mut longest = Duration::ZERO;
        for running in self.running.values() {
            let Some(predicted) = self.predictions.get(&running.file) else { continue };
            let predicted = predicted.unwrap_or(unknown);
            let elapsed = now.saturating_sub(running.since).min(predicted);
            left = left.saturating_sub(elapsed);
            longest = longest.max(predicted - elapsed);
        }
        Some(longest.max(left / self.ready_runners.len() as u32))
    }

    fn average_file(&self) -> Option<Duration> {
        if self.measured_files > 0 {
            return Some(self.measured / self.measured_files);
        }
        let known_files = self.predictions.len() as u32 - self.unpredicted_files;
        (known_files > 0).then(|| self.predicted / known_files)
    }
}

#[cfg(test)]
mod tests {
    use distributest_core::outcome::Outcome;
    use distributest_core::run_event::{AttemptReport, AttemptResult, FilePlan, HostPlan};
    use distributest_core::usage::Usage;

    use super::*;

    const RUNNER: RunnerId = RunnerId { host: HostId(0), number: 1 };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn started(predictions: &[Option<u64>], runners: u16) -> Progress {
        let mut progress = Progress::default();
        let plan = |predicted: &Option<u64>| FilePlan {
            path: "a.py".to_owned(),
            framework: "pytest".to_owned(),
            tests: Vec::new(),
            predicted: predicted.map(seconds),
            part: None,
        };
        let (run, project) = ("run".to_owned(), "shop".to_owned());
        let hosts = vec![HostPlan { name: "h1".to_owned(), runners: None }];
        let files = predictions.iter().map(plan).collect();
        progress.observe(seconds(0), &RunEvent::RunStarted { run, project, hosts, files });
        for number in 1..=runners {
            let runner = RunnerId { host: HostId(0), number };
            progress.observe(seconds(0), &RunEvent::RunnerReady { runner, identifier: "one".to_owned() });
        }
        progress
    }

    fn start(progress: &mut Progress, now: u64, file: u32) {
        let (attempt, file) = (AttemptId(file.into()), FileId(file));
        progress.observe(seconds(now), &RunEvent::AttemptStarted { attempt, file, runner: RUNNER });
    }

    fn finish(progress: &mut Progress, file: u32, took: u64) {
        let report = AttemptReport {
            attempt: AttemptId(file.into()),
            file: FileId(file),
            runner: RUNNER,
            result: AttemptResult::Outcome(Outcome::Passed),
            duration: seconds(took),
            usage: Usage::default(),
            message: String::new(),
            details: String::new(),
            leaked: Vec::new(),
            block: None,
        };
        progress.observe(seconds(took), &RunEvent::AttemptFinished(report));
        let (file, verdict) = (FileId(file), Verdict::Ran(Outcome::Passed));
        progress.observe(
            seconds(took),
            &RunEvent::FileVerdict { file, verdict, attempt: None, failed_before: Vec::new() },
        );
    }

    #[test]
    fn work_left_is_shared_by_the_runners_but_one_file_is_not() {
        let mut progress = started(&[Some(30), Some(10), Some(10), Some(10)], 2);
        assert_eq!(progress.time_left(seconds(0)), Some(seconds(30)));
        start(&mut progress, 0, 0);
        start(&mut progress, 0, 1);
        assert_eq!(progress.time_left(seconds(10)), Some(seconds(20)));
        finish(&mut progress, 1, 10);
        assert_eq!(
            progress.time_left(seconds(10)),
            Some(seconds(20)),
            "20 s of file 0, and two of 10 s beside"
        );
        assert_eq!(progress.time_left(seconds(500)), Some(seconds(10)), "a late file is always about to end");
    }

    #[test]
    fn files_never_seen_before_are_taken_for_average_ones() {
        let mut progress = started(&[None, None, None], 1);
        assert_eq!(progress.time_left(seconds(0)), None, "nothing to go by");
        start(&mut progress, 0, 0);
        finish(&mut progress, 0, 4);
        assert_eq!(progress.time_left(seconds(4)), Some(seconds(8)));
        assert_eq!(started(&[Some(6), None], 1).time_left(seconds(0)), Some(seconds(12)));
    }

    #[test]
    fn a_host_whose_runners_all_failed_is_not_waited_for() {
        let mut progress = started(&[Some(1)], 0);
        let (host, agent) = (RUNNER.host, "private agent".to_owned());
        progress.observe(seconds(0), &RunEvent::HostConnected { host, agent, cores: 2, runners: 2 });
        for (number, waited_for) in [(1, true), (2, false)] {
            let runner = RunnerId { number, ..RUNNER };
            progress.observe(seconds(0), &RunEvent::RunnerFailed { runner, reason: None });
            assert_eq!(progress.preparing.contains_key(&host), waited_for);
        }
    }

    #[test]
    fn without_runners_or_when_stopping_nobody_can_say() {
        assert_eq!(started(&[Some(1)], 0).time_left(seconds(0)), None);
        let mut progress = started(&[Some(1)], 1);
        progress.observe(seconds(0), &RunEvent::StopRequested);
        assert_eq!(progress.time_left(seconds(0)), None);
    }
}
