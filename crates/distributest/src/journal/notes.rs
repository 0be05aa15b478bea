//! Gathers what events tell about each file until everything about its verdict is known.
//!
//! What tests said waits in memory for that. When it comes to [`DETAILS_BYTES`], of further tests only the beginnings of
//! their details are kept, with a note; they are whole in the log of this run.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use distributest_core::identity::{AttemptId, FileId};
use distributest_core::outcome::Verdict;
use distributest_core::run_event::{AttemptReport, AttemptResult, RunEvent};

use super::identity::FileIdentity;
use super::record::{FinishedAttempt, FinishedFile, FinishedTest};

/// Bytes of details that wait at a time.
const DETAILS_BYTES: usize = 4 * 1024 * 1024;

/// Bytes kept of each when more than that would wait.
const SHORT_BYTES: usize = 1024;

/// What is known of the files of a run.
#[derive(Debug)]
pub(super) struct Notes {
    /// In the order of their ids. Files with higher ids are somebody else's.
    files: Vec<File>,
    hosts: Vec<String>,
    /// Bytes of details that wait.
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct File {
    identity: FileIdentity,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Open {
        attempts: HashMap<AttemptId, Attempt>,
        verdict: Option<Decision>,
    },
    Finished,
    /// An earlier pass stands for it. That is looked for anew in a run that continues this one: what the file depends on may
    /// have changed by then.
    Cached,
    NotRun,
}

#[derive(Debug, Default)]
struct Attempt {
    tests: Vec<FinishedTest>,
    report: Option<AttemptReport>,
    details: Details,
}

/// How many bytes of details an attempt keeps; given back when it is dropped.
#[derive(Debug, Default)]
struct Details {
    bytes: usize,
    waiting: Arc<AtomicUsize>,
}

impl Details {
    /// The text, or its beginning when too much waits already.
    fn keep(&mut self, mut text: String, waiting: &Arc<AtomicUsize>) -> String {
        self.waiting = Arc::clone(waiting);
        let room = DETAILS_BYTES.saturating_sub(waiting.load(Ordering::Relaxed));
        let end = text.floor_char_boundary(SHORT_BYTES);
        if text.len() > room && end < text.len() {
            let note = format!("\n[... {} more bytes are in the log of the first run]", text.len() - end);
            text.truncate(end);
            text.shrink_to_fit();
            text.push_str(&note);
        }
        self.bytes += text.len();
        waiting.fetch_add(text.len(), Ordering::Relaxed);
        text
    }
}

impl Drop for Details {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A verdict and the attempts it rests on.
#[derive(Clone, Debug)]
struct Decision {
    verdict: Verdict,
    deciding: Option<AttemptId>,
    failed_before: Vec<AttemptId>,
}

impl Notes {
    /// Nothing is known of these files yet.
    pub(super) fn new(files: Vec<FileIdentity>) -> Notes {
        let open = || Stage::Open { attempts: HashMap::new(), verdict: None };
        let files = files.into_iter().map(|identity| File { identity, stage: open() });
        Notes { files: files.collect(), hosts: Vec::new(), waiting: Arc::default() }
    }

    /// Whether every file has a verdict of its tests, now or earlier.
    pub(super) fn all_finished(&self) -> bool {
        self.files.iter().all(|file| matches!(file.stage, Stage::Finished | Stage::Cached))
    }

    /// Takes an event in; returns the file about which nothing is missing any more with it.
    pub(super) fn on_event(&mut self, event: &RunEvent) -> Option<FinishedFile> {
        match event {
            RunEvent::RunStarted { hosts, .. } => {
                self.hosts = hosts.iter().map(|host| host.name.clone()).collect();
                None
            }
            RunEvent::TestFinished { attempt, file, test } => {
                let waiting = Arc::clone(&self.waiting);
                let attempt = self.attempts(*file)?.entry(*attempt).or_default();
                let mut test = FinishedTest::from(test.clone());
                test.details = attempt.details.keep(test.details, &waiting);
                attempt.tests.push(test);
                None
            }
            RunEvent::AttemptFinished(report) => {
                let attempts = self.attempts(report.file)?;
                match report.result {
                    AttemptResult::Interrupted(_) => _ = attempts.remove(&report.attempt),
                    AttemptResult::Outcome(_) => {
                        attempts.entry(report.attempt).or_default().report = Some(report.clone());
                    }
                }
                self.settle(report.file)
            }
            RunEvent::FileVerdict { file, verdict, attempt, failed_before } => {
                let stage = &mut self.files.get_mut(file.0 as usize)?.stage;
                match (verdict, &mut *stage) {
                    (Verdict::NotRun(_), Stage::Open { .. }) => *stage = Stage::NotRun,
                    (Verdict::Cached, Stage::Open { .. }) => *stage = Stage::Cached,
                    (_, Stage::Open { verdict: open @ None, .. }) => {
                        let failed_before = failed_before.clone();
                        *open =
                            Some(Decision { verdict: verdict.clone(), deciding: *attempt, failed_before });
                    }
                    _ => {}
                }
                self.settle(*file)
            }
            _ => None,
        }
    }

    /// The attempts of a file that is not finished.
    fn attempts(&mut self, file: FileId) -> Option<&mut HashMap<AttemptId, Attempt>> {
        match &mut self.files.get_mut(file.0 as usize)?.stage {
            Stage::Open { attempts, .. } => Some(attempts),
            Stage::Finished | Stage::Cached | Stage::NotRun => None,
        }
    }

    /// Finishes a file if its verdict and the end of every attempt behind it are known.
    fn settle(&mut self, file: FileId) -> Option<FinishedFile> {
        let File { identity, stage } = self.files.get_mut(file.0 as usize)?;
        let Stage::Open { attempts, verdict: Some(decision) } = stage else { return None };
        let known = |attempt: &AttemptId| attempts.get(attempt).is_some_and(|known| known.report.is_some());
        if !decision.failed_before.iter().chain(&decision.deciding).all(known) {
            return None;
        }
        let Decision { verdict, deciding, failed_before } = decision.clone();
        let hosts = &self.hosts;
        let mut finished = |attempt: AttemptId| attempts.remove(&attempt)?.finish(hosts);
        let deciding = deciding.and_then(&mut finished);
        let failed_before = failed_before.into_iter().filter_map(finished).collect();
        let finished = FinishedFile { identity: identity.clone(), verdict, deciding, failed_before };
        *stage = Stage::Finished;
        Some(finished)
    }
}

impl Attempt {
    /// `None` for one without an outcome.
    fn finish(self, hosts: &[String]) -> Option<FinishedAttempt> {
        let report = self.report?;
        let AttemptResult::Outcome(outcome) = report.result else { return None };
        Some(FinishedAttempt {
            host: hosts.get(report.runner.host.0 as usize).cloned().unwrap_or_default(),
            runner: report.runner.number,
            outcome,
            duration: report.duration,
            processor: report.usage.processor,
            peak_memory: report.usage.peak_memory,
            message: report.message,
            details: report.details,
            leaked: report.leaked,
            tests: self.tests,
        })
    }
}
