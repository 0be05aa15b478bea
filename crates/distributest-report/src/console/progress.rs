//! Keeps track of how far a run is, for the live view and for progress lines.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::Verdict;
use distributest_core::run_event::RunEvent;

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
    ready_runners: BTreeSet<RunnerId>,
    predictions: HashMap<FileId, Option<Duration>>,
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
                self.preparing =
                    (0..hosts.len() as u32).map(|host| (HostId(host), "connecting".into())).collect();
                self.predictions = (0..).map(FileId).zip(files.iter().map(|plan| plan.predicted)).collect();
            }
            RunEvent::HostProgress { host, activity } => {
                if let Some(current) = self.preparing.get_mut(host) {
                    current.clone_from(activity);
                }
            }
            RunEvent::HostFailed { host, .. } => {
                self.preparing.remove(host);
                self.ready_runners.retain(|runner| runner.host != *host);
            }
            RunEvent::RunnerReady { runner, .. } => {
                self.preparing.remove(&runner.host);
                self.ready_runners.insert(*runner);
            }
            RunEvent::RunnerFailed { runner, .. } => {
                self.ready_runners.remove(runner);
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
                self.predictions.remove(file);
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
        let known: Vec<_> = self.predictions.values().flatten().collect();
        let total: Duration = known.iter().copied().sum();
        (!known.is_empty()).then(|| total / known.len() as u32)
    }
}
