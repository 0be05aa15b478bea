//! Remembers what the end of a run is told about: files that are not fine, leaks, slow files and tests.
//!
//! What tests of an attempt said is kept until their file's verdict and counts only if that attempt decided it, so a
//! cancelled duplicate's failures are never shown.
//!
//! What is kept of an attempt is bounded however much its tests say: an excerpt of the details of its first failing
//! tests, a short message of the others.

use std::collections::HashMap;
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, RunnerId};
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{AttemptReport, AttemptResult, RunEvent};
use distributest_core::test_result::TestResult;

use super::excerpt::Excerpt;
use super::failure::Detail;
use super::tails::Tail;
use crate::format;

/// Failing tests of an attempt whose details are kept; of more of them, only names and messages are.
const DETAILED_TESTS: usize = 50;

/// Characters kept of a message or name that is shown with its details, and of others.
const DETAILED_CHARACTERS: usize = 2_000;
const BRIEF_CHARACTERS: usize = 300;

/// What the console remembers of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    attempts: HashMap<AttemptId, AttemptNotes>,
    /// Failing tests of a file's last interrupted attempt, which no verdict will tell of.
    interrupted_failures: HashMap<FileId, usize>,
    /// Files with a verdict other than passed, in the order of their verdicts.
    pub(super) problems: Vec<Problem>,
    /// Processes that outlived an attempt and were killed.
    pub(super) leaks: Vec<Leak>,
    /// Files over the threshold.
    pub(super) slow_files: Vec<Slow>,
    /// Tests over the threshold.
    pub(super) slow_tests: Vec<Slow>,
    /// The file that took longest.
    pub(super) longest: Option<Slow>,
    /// The file whose outcome came last.
    pub(super) last: Option<Slow>,
    /// Workers that failed behind their last file, and how.
    pub(super) failed_ends: Vec<FailedEnd>,
    /// How long each worker would have loaded that was kept from an earlier run.
    pub(super) spared: Vec<Duration>,
}

/// What is known of an attempt.
#[derive(Debug, Default)]
pub(super) struct AttemptNotes {
    pub(super) tests: usize,
    pub(super) failing: Vec<FailingTest>,
    pub(super) report: Option<AttemptReport>,
    /// The end of what it wrote.
    pub(super) tail: Tail,
    slow_tests: Vec<(String, Duration)>,
    /// Of the attempts before it on the same file that failed, in order.
    pub(super) failed_before: Vec<AttemptNotes>,
}

/// Failing tests of a file that the command which runs them again names one by one; of more, it names the file.
const NAMED_TESTS: usize = 3;

/// The longest id of a test that such a command has in it.
const NAMED_BYTES: usize = 500;

/// What is kept of a failing test.
#[derive(Debug)]
pub(super) struct FailingTest {
    /// `None` for one that is not named on a command line.
    id: Option<String>,
    pub(super) name: String,
    pub(super) message: String,
    /// File and line as people should see them; empty where they are not known.
    pub(super) place: String,
    /// `None` for a test that is one too many to be told of at length.
    pub(super) details: Option<Excerpt>,
}

impl AttemptNotes {
    /// The ids of the failing tests; none where they are many, or where something is wrong that is no test's failure.
    fn ids_to_rerun(&self) -> Vec<String> {
        let only_tests_failed = |report: &AttemptReport| {
            report.result == AttemptResult::Outcome(Outcome::Failed) && report.message.is_empty()
        };
        if !self.report.as_ref().is_some_and(only_tests_failed) {
            return Vec::new();
        }
        self.failing.iter().map(|test| test.id.clone()).collect::<Option<_>>().unwrap_or_default()
    }
}

impl FailingTest {
    fn of(test: &TestResult, earlier: usize, detail: Detail) -> FailingTest {
        let detailed = earlier < DETAILED_TESTS;
        let characters = if detailed { DETAILED_CHARACTERS } else { BRIEF_CHARACTERS };
        let line = test.line.map(|line| format!(":{line}")).unwrap_or_default();
        let place = test.file.as_ref().map(|file| format!("{}{line}", format::display_path(file)));
        let is_named = earlier < NAMED_TESTS && test.id.len() <= NAMED_BYTES;
        FailingTest {
            id: is_named.then(|| test.id.clone()),
            name: shortened(&test.name, characters),
            message: shortened(&test.message, characters),
            place: shortened(&place.unwrap_or_default(), characters),
            details: detailed.then(|| Excerpt::of(&test.details, detail.room, detail.colors())),
        }
    }
}

fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some(_) => text.chars().take(characters - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// A file that is not fine, in short.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) file: FileId,
    pub(super) verdict: Verdict,
    /// Names and messages of its failing tests.
    pub(super) tests: Vec<(String, String)>,
    /// Ids of its failing tests, where running just them again shows everything that is wrong with it.
    pub(super) rerun: Vec<String>,
    /// What is to say about the file as a whole.
    pub(super) message: String,
    /// Failing tests of an interrupted attempt, for a file that was not run.
    pub(super) interrupted_failures: usize,
}

/// Processes an attempt left behind.
#[derive(Debug)]
pub(super) struct Leak {
    pub(super) file: FileId,
    pub(super) runner: RunnerId,
    pub(super) processes: Vec<String>,
}

/// A worker that failed behind its last file.
#[derive(Debug)]
pub(super) struct FailedEnd {
    pub(super) runner: RunnerId,
    pub(super) framework: String,
    pub(super) message: String,
}

/// Something that took time: a file, or a test of it.
#[derive(Clone, Debug)]
pub(super) struct Slow {
    pub(super) duration: Duration,
    pub(super) file: FileId,
    pub(super) runner: RunnerId,
    pub(super) test: Option<String>,
}

impl Ledger {
    /// Takes an event in, with the end of the block it closes; a verdict returns the notes of the attempt that
    /// decided it.
    pub(super) fn record(
        &mut self,
        event: &RunEvent,
        tail: &Tail,
        limits: Thresholds,
        detail: Detail,
    ) -> Option<AttemptNotes> {
        match event {
            RunEvent::TestFinished { attempt, test, .. } => {
                let notes = self.attempts.entry(*attempt).or_default();
                notes.tests += 1;
                if test.status.is_failure() {
                    notes.failing.push(FailingTest::of(test, notes.failing.len(), detail));
                }
                if test.duration >= limits.slow_test {
                    notes.slow_tests.push((shortened(&test.name, BRIEF_CHARACTERS), test.duration));
                }
                None
            }
            RunEvent::WorkerPrepared { saved: Some(saved), .. } => {
                self.spared.push(*saved);
                None
            }
            RunEvent::WorkerEnded { runner, framework, failure: Some(message), .. } => {
                let (framework, message) = (framework.clone(), shortened(message, DETAILED_CHARACTERS));
                self.failed_ends.push(FailedEnd { runner: *runner, framework, message });
                None
            }
            RunEvent::AttemptFinished(report) => {
                self.attempt_finished(report, tail);
                None
            }
            RunEvent::FileVerdict { file, verdict, attempt, failed_before } => {
                Some(self.decide(*file, verdict, *attempt, failed_before, limits.slow_file))
            }
            _ => None,
        }
    }

    fn attempt_finished(&mut self, report: &AttemptReport, tail: &Tail) {
        if !report.leaked.is_empty() {
            self.leaks.push(Leak {
                file: report.file,
                runner: report.runner,
                processes: report.leaked.clone(),
            });
        }
        match report.result {
            AttemptResult::Outcome(_) => {
                let notes = self.attempts.entry(report.attempt).or_default();
                notes.report = Some(report.clone());
                notes.tail = tail.clone();
            }
            AttemptResult::Interrupted(_) => {
                let failing = self.attempts.remove(&report.attempt).map_or(0, |notes| notes.failing.len());
                self.interrupted_failures.insert(report.file, failing);
            }
        }
    }

    fn decide(
        &mut self,
        file: FileId,
        verdict: &Verdict,
        attempt: Option<AttemptId>,
        failed_before: &[AttemptId],
        slow_file: Duration,
    ) -> AttemptNotes {
        let mut notes = attempt.and_then(|attempt| self.attempts.remove(&attempt)).unwrap_or_default();
        let before = failed_before.iter().filter_map(|attempt| self.attempts.remove(attempt));
        notes.failed_before = before.collect();
        self.attempts.retain(|_, other| other.report.as_ref().is_none_or(|report| report.file != file));
        let interrupted_failures = self.interrupted_failures.remove(&file).unwrap_or(0);
        if let Some(report) = &notes.report {
            self.time(report, &notes.slow_tests, slow_file);
        }
        if !matches!(verdict, Verdict::Ran(Outcome::Passed) | Verdict::Cached) {
            // Of a flaky file, what went wrong is told, not that it passed in the end.
            let telling = match verdict {
                Verdict::Flaky => notes.failed_before.last().unwrap_or(&notes),
                Verdict::Ran(_) | Verdict::Cached | Verdict::NotRun(_) => &notes,
            };
            let test = |test: &FailingTest| (test.name.clone(), test.message.clone());
            self.problems.push(Problem {
                file,
                verdict: verdict.clone(),
                tests: telling.failing.iter().map(test).collect(),
                rerun: telling.ids_to_rerun(),
                message: telling.report.as_ref().map(|report| report.message.clone()).unwrap_or_default(),
                interrupted_failures,
            });
        }
        notes
    }

    fn time(&mut self, report: &AttemptReport, slow_tests: &[(String, Duration)], slow_file: Duration) {
        let slow = |duration, test| Slow { duration, file: report.file, runner: report.runner, test };
        let this = slow(report.duration, None);
        let timed_out = report.result == AttemptResult::Outcome(Outcome::TimedOut);
        if report.duration >= slow_file && !timed_out {
            self.slow_files.push(this.clone());
        }
        self.slow_tests.extend(slow_tests.iter().map(|(name, duration)| slow(*duration, Some(name.clone()))));
        if report.attempt.is_of_former_run() {
            // It held nothing of this run back.
            return;
        }
        if self.longest.as_ref().is_none_or(|longest| longest.duration < this.duration) {
            self.longest = Some(this.clone());
        }
        self.last = Some(this);
    }
}

/// From when on something is called slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    pub(super) slow_file: Duration,
    pub(super) slow_test: Duration,
}
