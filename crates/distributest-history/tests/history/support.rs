//! A run's events, made by hand, and a directory to record them in.

use std::path::PathBuf;
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{
    AttemptReport, AttemptResult, FilePlan, HostPlan, RunEvent, RunSummary, RunnerTime,
};
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_core::usage::Usage;
use distributest_history::{History, NewPass, Recorder, RunInfo};

/// A history in a directory of its own that goes with this value.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("state/history.sqlite")
    }

    pub(crate) fn open(&self) -> History {
        let (history, warnings) = History::open(&self.path()).unwrap();
        assert_eq!(warnings, []);
        history
    }

    pub(crate) fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }

    pub(crate) fn count(&self, table: &str) -> i64 {
        self.database().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

pub(crate) fn info(project_key: &str, started_at_unix_ms: i64) -> RunInfo {
    RunInfo {
        run: "run-1".to_string(),
        project_key: project_key.to_string(),
        project_name: "blog".to_string(),
        started_at_unix_ms,
        version: "0.1.0".to_string(),
    }
}

/// A run on one host that feeds a recorder, its clock standing where it was last set.
pub(crate) struct Run {
    recorder: Recorder,
    pub(crate) now: Duration,
    next_attempt: u64,
}

impl Run {
    pub(crate) fn start(history: History, info: RunInfo, paths: &[&str]) -> Run {
        Run::start_with(history, info, paths.iter().map(|path| file_plan(path)).collect())
    }

    pub(crate) fn start_with(history: History, info: RunInfo, files: Vec<FilePlan>) -> Run {
        let mut run = Run { recorder: Recorder::new(history, info), now: Duration::ZERO, next_attempt: 1 };
        run.send(&RunEvent::RunStarted {
            run: "run-1".to_string(),
            project: "blog".to_string(),
            hosts: vec![HostPlan { name: "elm".to_string(), runners: Some(2) }],
            files: files.into(),
        });
        run
    }

    pub(crate) fn send(&mut self, event: &RunEvent) {
        self.recorder.on_event(self.now, event).unwrap();
    }

    /// One attempt on a file that took `duration` and does not decide it yet.
    pub(crate) fn attempt(&mut self, file: u32, result: AttemptResult, duration: Duration) -> AttemptId {
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        let runner = RunnerId { host: HostId(0), number: 1 };
        self.send(&RunEvent::AttemptStarted { attempt, file: FileId(file), runner });
        self.now += duration;
        self.send(&RunEvent::TestFinished { attempt, file: FileId(file), test: test_result(file) });
        self.send(&RunEvent::AttemptFinished(AttemptReport {
            attempt,
            file: FileId(file),
            runner,
            result,
            duration,
            usage: Usage::default(),
            message: String::new(),
            details: String::new(),
            leaked: Vec::new(),
            block: None,
        }));
        attempt
    }

    pub(crate) fn decide(&mut self, file: u32, outcome: Outcome, attempt: AttemptId) {
        let verdict = Verdict::Ran(outcome);
        self.send(&RunEvent::FileVerdict {
            file: FileId(file),
            verdict,
            attempt: Some(attempt),
            failed_before: Vec::new(),
        });
    }

    /// One attempt on a file that is its verdict.
    pub(crate) fn verdict(&mut self, file: u32, outcome: Outcome, duration: Duration) {
        let attempt = self.attempt(file, AttemptResult::Outcome(outcome), duration);
        self.decide(file, outcome, attempt);
    }

    /// An attempt's pass may stand for later runs.
    pub(crate) fn remember(&mut self, attempt: AttemptId, inputs: &str, versions: &str) {
        let (inputs, versions) = (inputs.to_owned(), versions.to_owned());
        self.recorder.remember(vec![NewPass { attempt, inputs, versions }]);
    }

    pub(crate) fn finish(mut self) {
        self.send(&RunEvent::RunFinished(summary()));
    }
}

pub(crate) fn file_plan(path: &str) -> FilePlan {
    FilePlan {
        path: path.to_string(),
        framework: "pytest".to_string(),
        tests: Vec::new(),
        predicted: None,
        part: None,
    }
}

pub(crate) fn summary() -> RunSummary {
    RunSummary {
        wall: Duration::from_secs(9),
        testing: Duration::from_secs(8),
        lower_bound: Duration::from_secs(7),
        runner_time: RunnerTime::default(),
        files: 1,
        outcomes: [1, 0, 0, 0, 0],
        flaky: 0,
        cached: 0,
        not_run: 0,
        failed_ends: 0,
        tests: [1, 0, 0, 0, 0, 0],
        hosts: Vec::new(),
        exit_status: 0,
    }
}

/// The test of the file with this id.
pub(crate) fn test_result(file: u32) -> TestResult {
    TestResult {
        id: format!("tests/test_a.py::test_{file}"),
        name: "test_one".to_string(),
        status: TestStatus::Passed,
        duration: Duration::from_millis(3),
        message: String::new(),
        details: String::new(),
        file: None,
        line: None,
    }
}
