//! Writes the JUnit XML that build servers read, at the end of the run.
//!
//! One test suite per test file, in the order of the plan, named by its path; one test case per test. The parts of a file
//! that is split are one suite. Only the tests
//! of the attempt that decided a file count; those of a file that was not run because it passed before (*cached*) are told as
//! they were then, under a property `cached` with the name of that run. A file whose verdict is not told by its tests (broken, crashed, timed
//! out, not run, or failed without a failing test) gets a test case named after the verdict with an error, so that
//! a file that is not fine is never green. A worker that failed behind its last file gets a suite of its own. The file appears complete or not at all.
//!
//! All of it is in memory until then. So once the accounts of failures fill [`ACCOUNTS_BYTES`], only the beginnings of
//! further ones are kept, with a note; they are whole in the log.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use distributest_core::identity::{AttemptId, FileId, RunnerId};
use distributest_core::outcome::{NotRunReason, Outcome, Verdict};
use distributest_core::run_event::{AttemptReport, AttemptResult, EarlierPass, RunEvent};
use distributest_core::test_result::{TestResult, TestStatus};
use quick_junit::{
    NonSuccessKind, Property, Report, SerializeError, TestCase, TestCaseStatus, TestRerun, TestSuite,
    XmlString,
};
use tempfile::{Builder, NamedTempFile};

use crate::names::Names;
use crate::reporter::{ReportError, Reporter};

/// Bytes of messages and details that are kept whole.
const ACCOUNTS_BYTES: usize = 8 * 1024 * 1024;

/// Bytes kept of each when those are used up.
const SHORT_BYTES: usize = 1024;

/// The consumer that writes JUnit XML.
#[derive(Debug)]
pub struct JUnit {
    path: PathBuf,
    report: Report,
    names: Names,
    attempts: HashMap<AttemptId, AttemptTests>,
    suites: BTreeMap<FileId, TestSuite>,
    /// What no file can be told of.
    failed_ends: Vec<TestSuite>,
    /// What is left for messages and details.
    room: Room,
}

/// How many more bytes of messages and details are kept whole.
#[derive(Debug)]
struct Room(usize);

impl Room {
    /// The text, or its beginning with a note when there is no room for more.
    fn take<'text>(&mut self, text: &'text str) -> Cow<'text, str> {
        if let Some(left) = self.0.checked_sub(text.len()) {
            self.0 = left;
            return Cow::Borrowed(text);
        }
        let end = text.floor_char_boundary(SHORT_BYTES);
        if end == text.len() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(format!("{}\n[... {} more bytes are in the log]", &text[..end], text.len() - end))
    }
}

/// What is known of an attempt whose file has no verdict yet.
#[derive(Debug, Default)]
struct AttemptTests {
    file: Option<FileId>,
    cases: Vec<TestCase>,
    failing: bool,
    report: Option<AttemptReport>,
}

impl AttemptTests {
    /// Notes on each test how it failed in an attempt before this one, and what that attempt as a whole came to if no
    /// test told.
    fn remember(&mut self, earlier: AttemptTests, path: &str) {
        let outcome = earlier.report.as_ref().map(|report| report.result);
        let whole = match outcome {
            Some(AttemptResult::Outcome(outcome)) => verdict_case(&Verdict::Ran(outcome), &earlier, path),
            _ => None,
        };
        for failed in earlier.cases.into_iter().chain(whole) {
            let TestCaseStatus::NonSuccess { kind, message, ty, description, .. } = failed.status else {
                continue;
            };
            let rerun = TestRerun { time: failed.time, message, ty, description, ..TestRerun::new(kind) };
            let is_same =
                |case: &&mut TestCase| case.name == failed.name && case.classname == failed.classname;
            match self.cases.iter_mut().find(is_same) {
                Some(case) => _ = case.status.add_rerun(rerun),
                None => {
                    let mut case = TestCase::new(failed.name, TestCaseStatus::success());
                    case.classname = failed.classname;
                    case.status.add_rerun(rerun);
                    self.cases.push(case);
                }
            }
        }
    }
}

impl JUnit {
    /// Will write to `path` at the end. `started` is the run's start on the wall clock.
    ///
    /// # Errors
    ///
    /// [`ReportError::JUnit`] if that directory can't be written, found out now and not after the whole run.
    pub fn create(path: &Path, started: SystemTime) -> Result<JUnit, ReportError> {
        temporary_beside(path)
            .map(drop)
            .map_err(|source| ReportError::JUnit { path: path.to_owned(), source })?;
        let mut report = Report::new("distributest");
        report.set_timestamp(DateTime::<Utc>::from(started));
        Ok(JUnit {
            path: path.to_owned(),
            report,
            names: Names::default(),
            attempts: HashMap::new(),
            suites: BTreeMap::new(),
            failed_ends: Vec::new(),
            room: Room(ACCOUNTS_BYTES),
        })
    }

    fn add_test(&mut self, attempt: AttemptId, file: FileId, test: &TestResult) {
        let case = test_case(test, self.names.path(file), &mut self.room);
        let tests = self.attempts.entry(attempt).or_default();
        tests.file = Some(file);
        tests.failing |= test.status.is_failure();
        tests.cases.push(case);
    }

    /// The suite of a file that was not run is that of its earlier pass, and says so.
    fn add_cached(&mut self, file: FileId, pass: &EarlierPass) {
        let path = self.names.path(file);
        let mut suite = TestSuite::new(xml(path));
        suite.set_time(pass.duration);
        suite.extra.insert("hostname".into(), xml(&pass.host));
        suite.add_property(Property::new("cached", xml(&pass.run)));
        let room = &mut self.room;
        suite.add_test_cases(pass.tests.iter().map(|test| test_case(test, path, room)));
        self.suites.insert(file, suite);
    }

    fn decide(
        &mut self,
        file: FileId,
        verdict: &Verdict,
        attempt: Option<AttemptId>,
        failed_before: &[AttemptId],
    ) {
        let mut deciding = attempt.and_then(|attempt| self.attempts.remove(&attempt)).unwrap_or_default();
        for earlier in failed_before.iter().filter_map(|attempt| self.attempts.remove(attempt)) {
            deciding.remember(earlier, self.names.path(file));
        }
        self.attempts.retain(|_, other| other.file != Some(file));
        let path = self.names.path(file);
        let mut suite = TestSuite::new(xml(path));
        if let Some(report) = &deciding.report {
            suite.set_time(report.duration);
            let host = self.names.host(report.runner.host);
            suite.extra.insert("hostname".into(), xml(host));
        }
        suite.add_test_cases(std::mem::take(&mut deciding.cases));
        if let Some(case) = verdict_case(verdict, &deciding, path) {
            suite.add_test_case(case);
        }
        self.suites.insert(file, suite);
    }

    /// The suite of each file: with the first of its parts, where it is split, those of the others.
    fn suites_of_files(&mut self) -> Vec<TestSuite> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut suites: Vec<TestSuite> = Vec::with_capacity(self.suites.len());
        for (file, suite) in std::mem::take(&mut self.suites) {
            let first = match self.names.part(file) {
                None => None,
                Some(_) => match places.entry(self.names.path(file).to_owned()) {
                    Entry::Occupied(place) => Some(*place.get()),
                    Entry::Vacant(place) => {
                        place.insert(suites.len());
                        None
                    }
                },
            };
            match first {
                None => suites.push(suite),
                Some(first) => {
                    let time = suites[first].time.unwrap_or_default() + suite.time.unwrap_or_default();
                    suites[first].set_time(time);
                    suites[first].add_test_cases(suite.test_cases);
                }
            }
        }
        suites
    }

    fn add_failed_end(&mut self, runner: RunnerId, framework: &str, failure: &str) {
        let name = format!("{framework} worker of {}", self.names.runner(runner));
        let status = TestCaseStatus::non_success(NonSuccessKind::Error);
        let mut case = TestCase::new("behind the last file", explained(status, &self.room.take(failure), ""));
        case.set_classname(xml(&name));
        let mut suite = TestSuite::new(xml(&name));
        suite.add_test_case(case);
        self.failed_ends.push(suite);
    }

    /// Writes everything in one step; files a broken-off run left without a verdict are errors.
    fn write(&mut self) -> io::Result<()> {
        for index in 0..self.names.file_count() {
            let file = FileId(index as u32);
            if !self.suites.contains_key(&file) {
                self.decide(file, &Verdict::NotRun(NotRunReason::Stopped), None, &[]);
            }
        }
        let mut report = std::mem::replace(&mut self.report, Report::new("distributest"));
        report.add_test_suites(self.suites_of_files());
        report.add_test_suites(std::mem::take(&mut self.failed_ends));
        if let Some(mut temporary) = temporary_beside(&self.path)? {
            serialize(&report, temporary.as_file_mut())?;
            temporary.persist(resolved(&self.path)).map_err(|error| error.error)?;
            return Ok(());
        }
        serialize(&report, &mut File::options().write(true).open(&self.path)?)
    }
}

impl Reporter for JUnit {
    fn on_event(&mut self, _now: Duration, event: &RunEvent) -> Result<(), ReportError> {
        self.names.learn(event);
        match event {
            RunEvent::RunStarted { project, .. } => self.report.name = Some(xml(project)),
            RunEvent::TestFinished { attempt, file, test } => self.add_test(*attempt, *file, test),
            RunEvent::AttemptFinished(report) => {
                let tests = self.attempts.entry(report.attempt).or_default();
                tests.file = Some(report.file);
                tests.report = Some(AttemptReport {
                    message: self.room.take(&report.message).into_owned(),
                    details: self.room.take(&report.details).into_owned(),
                    ..report.clone()
                });
            }
            RunEvent::FileCached { file, pass } => self.add_cached(*file, pass),
            RunEvent::FileVerdict { verdict: Verdict::Cached, .. } => {}
            RunEvent::FileVerdict { file, verdict, attempt, failed_before } => {
                self.decide(*file, verdict, *attempt, failed_before);
            }
            RunEvent::WorkerEnded { runner, framework, failure: Some(failure), .. } => {
                self.add_failed_end(*runner, framework, failure);
            }
            RunEvent::RunFinished(summary) => {
                self.report.set_time(summary.wall);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        self.write().map_err(|source| ReportError::JUnit { path: self.path.clone(), source })
    }
}

fn test_case(test: &TestResult, path: &str, room: &mut Room) -> TestCase {
    let status = match test.status {
        TestStatus::Passed | TestStatus::UnexpectedPass => TestCaseStatus::success(),
        TestStatus::Skipped | TestStatus::ExpectedFailure => TestCaseStatus::skipped(),
        TestStatus::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        TestStatus::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    let mut case = TestCase::new(
        xml(&test.name),
        explained(status, &room.take(&test.message), &room.take(&test.details)),
    );
    case.set_classname(xml(path)).set_time(test.duration);
    if let Some(file) = &test.file {
        case.extra.insert("file".into(), xml(file));
    }
    if let Some(line) = test.line {
        case.extra.insert("line".into(), line.to_string().into());
    }
    case
}

/// The case for what no test told; `None` where the tests said it all.
fn verdict_case(verdict: &Verdict, attempt: &AttemptTests, path: &str) -> Option<TestCase> {
    let told = match verdict {
        Verdict::Ran(Outcome::Passed) | Verdict::Flaky | Verdict::Cached => true,
        Verdict::Ran(Outcome::Failed) => attempt.failing,
        Verdict::Ran(Outcome::Broken | Outcome::TimedOut | Outcome::Crashed) | Verdict::NotRun(_) => false,
    };
    if told {
        return None;
    }
    let (message, details) = match (verdict, &attempt.report) {
        (Verdict::NotRun(reason), _) => (reason.to_string(), ""),
        (_, Some(report)) => (report.message.clone(), report.details.as_str()),
        (_, None) => (String::new(), ""),
    };
    let message = if message.is_empty() { verdict.word().to_owned() } else { message };
    let mut status = explained(TestCaseStatus::non_success(NonSuccessKind::Error), &message, details);
    status.set_type(verdict.word());
    let mut case = TestCase::new(verdict.word(), status);
    case.set_classname(xml(path));
    Some(case)
}

fn explained(mut status: TestCaseStatus, message: &str, details: &str) -> TestCaseStatus {
    if !message.is_empty() {
        status.set_message(xml(message));
    }
    if !details.is_empty() {
        status.set_description(xml(details));
    }
    status
}

/// Text that XML can hold. The library removes escape sequences and control characters, tabs among them, but keeps
/// the two noncharacters that XML forbids.
fn xml(text: &str) -> XmlString {
    XmlString::new(text.replace('\t', "    ").replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}"))
}

fn serialize(report: &Report, output: &mut File) -> io::Result<()> {
    let mut buffered = io::BufWriter::new(output);
    report.serialize(&mut buffered).map_err(|error: SerializeError| io::Error::other(error))?;
    buffered.flush()
}

/// A temporary file in the directory of `path`, to be renamed to it; `None` where `path` is a device or a pipe.
fn temporary_beside(path: &Path) -> io::Result<Option<NamedTempFile>> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return if path.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(None) };
    }
    let path = resolved(path);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As readable as the umask allows, not private as temporary files are: other programs read this one.
    Builder::new()
        .prefix(".junit-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .map(Some)
}

/// The file behind a symbolic link, which renaming would otherwise replace.
fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
