//! Adds up a run as its events go by: the summary, and the exit status the run deserves.
//!
//! It keeps a byte for each file and a few numbers for each open attempt, never a test's text. Rules:
//!
//! - A file counts once, by its first verdict. Files without any count as not run, so that discovered is
//!   always the sum of all verdicts, whatever happened to the sender.
//! - Tests, durations and a host's files are those of the attempt that decided the file. The tests of an
//!   attempt come before its file's verdict; the end of the attempt may come before or after it. A host's
//!   busy time is that of all attempts.
//! - A file that is run in parts counts once, when all of them have their verdicts: by the worst of those.
//! - What a former run found out, and the pass of an earlier one that stands for a file, count as files and tests, but took
//!   no time, and no host's, of this run.
//!
//! # Exit status
//!
//! The first row that applies:
//!
//! | status | when | why in this place |
//! | --- | --- | --- |
//! | 130 | a stop was requested before the end | what stands after `distributest &&` must not start |
//! | 4 | no files | nothing was tested |
//! | 1 | a file failed, is broken, timed out or crashed; or is flaky, where that counts as failing; or a worker failed as it ended | the suite is red, whatever else was not run |
//! | 3 | a file was not run | nobody knows |
//! | 4 | every file passed, but no test of any status was reported | nothing was tested: a filter let none through |
//! | 0 | every file passed, is flaky or cached | a file without tests among others is fine |
//!
//! A skipped test is a test. Frameworks that know no tests report each file as one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::identity::{AttemptId, FileId, HostId, RunnerId};
use crate::outcome::{Outcome, Verdict};
use crate::run_event::{
    AttemptReport, AttemptResult, EarlierPass, FilePlan, HostChange, HostPlan, HostSummary, RunEvent,
    RunSummary, RunnerTime,
};
use crate::test_result::TestStatus;
use crate::workload::Workload;

/// Every file passed.
pub const EXIT_PASSED: u8 = 0;
/// At least one file failed, is broken, timed out or crashed.
pub const EXIT_FAILED: u8 = 1;
/// None failed, but not everything could be run.
pub const EXIT_NOT_RUN: u8 = 3;
/// There was no test file, or not one test in all of them.
pub const EXIT_NO_TESTS: u8 = 4;
/// The user stopped the run.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Folds [`RunEvent`]s into a [`RunSummary`].
#[derive(Debug, Default)]
pub struct Ledger {
    decided: Vec<bool>,
    split_files: SplitFiles,
    outcomes: [u32; Outcome::ALL.len()],
    flaky: u32,
    cached: u32,
    flaky_fails: bool,
    failed_ends: u32,
    tests: [u64; TestStatus::ALL.len()],
    hosts: Vec<HostAccount>,
    attempts: HashMap<AttemptId, OpenAttempt>,
    workload: Workload,
    first_start: Option<Duration>,
    last_verdict: Duration,
    stop_requested: bool,
}

/// What is known of an attempt until both its end and its file's verdict are.
#[derive(Debug, Default)]
struct OpenAttempt {
    tests: [u32; TestStatus::ALL.len()],
    decides: bool,
    ended: Option<(HostId, Duration)>,
}

#[derive(Debug)]
struct HostAccount {
    name: String,
    takes_part: bool,
    ready_runners: BTreeMap<u16, RunnerAccount>,
    files: u32,
    busy: Duration,
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct RunnerAccount {
    ready: Duration,
    busy: Duration,
    /// When its last attempt ended; at first, when it became ready.
    idle_since: Duration,
}

/// A reason, and the runners it befell; none of them when it befell the host.
#[derive(Debug)]
struct Problem {
    runners: BTreeSet<u16>,
    reason: String,
}

impl Ledger {
    /// The ledger of a run that has not started. `flaky_fails`: a flaky file counts as failing for the exit status.
    pub fn new(flaky_fails: bool) -> Self {
        Ledger { flaky_fails, ..Ledger::default() }
    }

    /// Takes in an event that happened at `now`, time since the command's start.
    pub fn record(&mut self, now: Duration, event: &RunEvent) {
        match event {
            RunEvent::RunStarted { hosts, files, .. } => {
                self.decided = vec![false; files.len()];
                self.split_files = SplitFiles::new(files);
                self.hosts = hosts.iter().map(HostAccount::new).collect();
            }
            RunEvent::RunnerReady { runner, .. } => self.runner_ready(now, *runner),
            RunEvent::HostFailed { host, reason, .. } => self.problem(*host, None, reason),
            RunEvent::HostChanged { host, change: HostChange::Away(reason) } => {
                self.problem(*host, None, reason);
            }
            RunEvent::HostChanged { host, change: change @ HostChange::Fenced { .. } } => {
                self.problem(*host, None, &change.to_string());
            }
            // Why was said when it happened, and is said again of files that are not run for it.
            RunEvent::LaunchUnavailable { runner, framework, .. } => {
                self.problem(runner.host, Some(runner.number), &format!("can't run {framework}"));
            }
            RunEvent::RunnerFailed { runner, reason: Some(reason) } => {
                self.problem(runner.host, Some(runner.number), reason);
            }
            RunEvent::AttemptStarted { .. } => _ = self.first_start.get_or_insert(now),
            RunEvent::TestFinished { attempt, test, .. } => {
                let tests = &mut self.attempts.entry(*attempt).or_default().tests;
                tests[position(&TestStatus::ALL, &test.status)] += 1;
            }
            RunEvent::AttemptFinished(report) => self.attempt_finished(now, report),
            RunEvent::FileCached { file, pass } => self.file_cached(*file, pass),
            RunEvent::FileVerdict { file, verdict, attempt, failed_before } => {
                self.file_verdict(now, *file, verdict, *attempt);
                for attempt in failed_before {
                    self.attempts.remove(attempt);
                }
            }
            RunEvent::WorkerEnded { failure: Some(_), .. } => self.failed_ends += 1,
            RunEvent::StopRequested => self.stop_requested = true,
            RunEvent::RunResumed(_)
            | RunEvent::RunnerFailed { reason: None, .. }
            | RunEvent::HostProgress { .. }
            | RunEvent::HostSynced { .. }
            | RunEvent::HostChanged { .. }
            | RunEvent::AttemptDoubled { .. }
            | RunEvent::HostConnected { .. }
            | RunEvent::HookFinished { .. }
            | RunEvent::WorkerPrepared { .. }
            | RunEvent::WorkerEnded { failure: None, .. }
            | RunEvent::Output { .. }
            | RunEvent::Warning { .. }
            | RunEvent::RunFinished(_) => {}
        }
    }

    /// The run so far.
    pub fn summary(&self) -> RunSummary {
        let files = self.files();
        let runners = count(self.hosts.iter().map(|host| host.ready_runners.len()).sum());
        let testing = self.first_start.map(|start| self.last_verdict.saturating_sub(start));
        RunSummary {
            wall: self.last_verdict,
            testing: testing.unwrap_or_default(),
            lower_bound: self.workload.lower_bound(runners),
            runner_time: self.runner_time(),
            files,
            outcomes: self.outcomes,
            flaky: self.flaky,
            cached: self.cached,
            not_run: self.not_run(),
            failed_ends: self.failed_ends,
            tests: self.tests,
            hosts: self.hosts.iter().filter(|host| host.takes_part).map(HostAccount::summary).collect(),
            exit_status: self.exit_status(),
        }
    }

    /// The exit status the run deserves, as the [module](self)'s table says.
    pub fn exit_status(&self) -> u8 {
        let failed =
            Outcome::ALL.iter().zip(self.outcomes).any(|(outcome, files)| !outcome.is_success() && files > 0);
        if self.stop_requested {
            EXIT_INTERRUPTED
        } else if self.decided.is_empty() {
            EXIT_NO_TESTS
        } else if failed || (self.flaky_fails && self.flaky > 0) || self.failed_ends > 0 {
            EXIT_FAILED
        } else if self.not_run() > 0 {
            EXIT_NOT_RUN
        } else if self.tests.iter().all(|tests| *tests == 0) {
            EXIT_NO_TESTS
        } else {
            EXIT_PASSED
        }
    }

    fn files(&self) -> u32 {
        count(self.decided.len() - self.split_files.further_parts)
    }

    fn not_run(&self) -> u32 {
        self.files() - self.outcomes.iter().sum::<u32>() - self.flaky - self.cached
    }

    fn runner_ready(&mut self, now: Duration, runner: RunnerId) {
        if let Some(host) = self.hosts.get_mut(runner.host.0 as usize) {
            let account = RunnerAccount { ready: now, busy: Duration::ZERO, idle_since: now };
            host.ready_runners.entry(runner.number).or_insert(account);
        }
    }

    /// Rule: what a host's clock says of an attempt can be longer than what was seen of it here, and what happened after the
    /// last verdict does not count.
    fn runner_time(&self) -> RunnerTime {
        let wall = self.last_verdict;
        let mut time = RunnerTime::default();
        for runner in self.hosts.iter().flat_map(|host| host.ready_runners.values()) {
            let preparing = runner.ready.min(wall);
            let waiting = wall.saturating_sub(runner.idle_since);
            let at_work = wall - preparing - waiting.min(wall - preparing);
            let testing = runner.busy.min(at_work);
            time.preparing += preparing;
            time.waiting += waiting.min(wall - preparing);
            time.testing += testing;
            time.between += at_work - testing;
        }
        time
    }

    fn problem(&mut self, host: HostId, runner: Option<u16>, reason: &str) {
        let Some(host) = self.hosts.get_mut(host.0 as usize) else { return };
        let same = |problem: &&mut Problem| {
            problem.runners.is_empty() == runner.is_none() && problem.reason == reason
        };
        match host.problems.iter_mut().find(same) {
            Some(known) => known.runners.extend(runner),
            None => host
                .problems
                .push(Problem { runners: runner.into_iter().collect(), reason: reason.to_owned() }),
        }
    }

    fn attempt_finished(&mut self, now: Duration, report: &AttemptReport) {
        if !report.attempt.is_of_former_run()
            && let Some(host) = self.hosts.get_mut(report.runner.host.0 as usize)
        {
            host.busy += report.duration;
            if let Some(runner) = host.ready_runners.get_mut(&report.runner.number) {
                runner.busy += report.duration;
                runner.idle_since = now;
            }
        }
        match report.result {
            AttemptResult::Interrupted(_) => _ = self.attempts.remove(&report.attempt),
            AttemptResult::Outcome(_) => {
                let attempt = self.attempts.entry(report.attempt).or_default();
                attempt.ended = Some((report.runner.host, report.duration));
                self.settle(report.attempt);
            }
        }
    }

    /// The tests of a file that is not run count as they did then.
    fn file_cached(&mut self, file: FileId, pass: &EarlierPass) {
        if self.decided.get(file.0 as usize) == Some(&false) {
            for test in &pass.tests {
                self.tests[position(&TestStatus::ALL, &test.status)] += 1;
            }
        }
    }

    fn file_verdict(&mut self, now: Duration, file: FileId, verdict: &Verdict, attempt: Option<AttemptId>) {
        let Some(decided @ false) = self.decided.get_mut(file.0 as usize) else { return };
        *decided = true;
        self.last_verdict = now;
        match self.split_files.verdict(file, verdict) {
            Some(Verdict::Ran(outcome)) => self.outcomes[position(&Outcome::ALL, &outcome)] += 1,
            Some(Verdict::Flaky) => self.flaky += 1,
            Some(Verdict::Cached) => self.cached += 1,
            Some(Verdict::NotRun(_)) | None => {}
        }
        if let Some(attempt) = attempt {
            self.attempts.entry(attempt).or_default().decides = true;
            self.settle(attempt);
        }
    }

    /// Books an attempt that decided its file, once all of it is known.
    fn settle(&mut self, id: AttemptId) {
        let Some(OpenAttempt { tests, decides: true, ended: Some((host, duration)) }) =
            self.attempts.get(&id)
        else {
            return;
        };
        for (sum, more) in self.tests.iter_mut().zip(tests) {
            *sum += u64::from(*more);
        }
        if !id.is_of_former_run() {
            self.workload.add(*duration);
            if let Some(host) = self.hosts.get_mut(host.0 as usize) {
                host.files += 1;
            }
        }
        self.attempts.remove(&id);
    }
}

/// The files that are run in parts.
#[derive(Debug, Default)]
struct SplitFiles {
    /// The file that each part belongs to, by its place in `files`.
    parts: HashMap<FileId, usize>,
    files: Vec<SplitFile>,
    /// Parts beyond the first of each file.
    further_parts: usize,
}

#[derive(Debug)]
struct SplitFile {
    /// Parts without a verdict.
    undecided: usize,
    worst: Verdict,
}

impl SplitFiles {
    fn new(files: &[FilePlan]) -> Self {
        let mut split = SplitFiles::default();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (id, plan) in (0..).map(FileId).zip(files).filter(|(_, plan)| plan.part.is_some()) {
            let place = *places.entry(&plan.path).or_insert_with(|| {
                split.files.push(SplitFile { undecided: 0, worst: Verdict::Ran(Outcome::Passed) });
                split.files.len() - 1
            });
            split.files[place].undecided += 1;
            split.parts.insert(id, place);
        }
        split.further_parts = split.parts.len() - split.files.len();
        split
    }

    /// The verdict of a file, when this is its last part or it has no parts.
    fn verdict(&mut self, id: FileId, verdict: &Verdict) -> Option<Verdict> {
        let Some(place) = self.parts.get(&id) else { return Some(verdict.clone()) };
        let file = &mut self.files[*place];
        file.undecided -= 1;
        if gravity(verdict) > gravity(&file.worst) {
            file.worst = verdict.clone();
        }
        (file.undecided == 0).then(|| file.worst.clone())
    }
}

/// How bad a part's verdict is for its file.
fn gravity(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Ran(Outcome::Passed) | Verdict::Cached => 0,
        Verdict::Flaky => 1,
        Verdict::NotRun(_) => 2,
        Verdict::Ran(Outcome::Failed) => 3,
        Verdict::Ran(Outcome::Broken) => 4,
        Verdict::Ran(Outcome::TimedOut) => 5,
        Verdict::Ran(Outcome::Crashed) => 6,
    }
}

impl HostAccount {
    fn new(plan: &HostPlan) -> Self {
        HostAccount {
            name: plan.name.clone(),
            takes_part: plan.takes_part(),
            ready_runners: BTreeMap::new(),
            files: 0,
            busy: Duration::ZERO,
            problems: Vec::new(),
        }
    }

    fn summary(&self) -> HostSummary {
        HostSummary {
            name: self.name.clone(),
            runners: u16::try_from(self.ready_runners.len()).unwrap_or(u16::MAX),
            files: self.files,
            busy: self.busy,
            problems: self.problems.iter().map(Problem::line).collect(),
        }
    }
}

impl Problem {
    fn line(&self) -> String {
        let numbers: Vec<String> = self.runners.iter().map(u16::to_string).collect();
        match numbers.len() {
            0 => self.reason.clone(),
            1 => format!("runner {}: {}", numbers[0], self.reason),
            _ => format!("runners {}: {}", numbers.join(", "), self.reason),
        }
    }
}

/// Where a word stands in the list of all words of its kind.
fn position<Word: PartialEq>(all: &[Word], word: &Word) -> usize {
    all.iter().position(|other| other == word).expect("ALL holds every variant")
}

/// Files and runners are numbered in 32 bits, so their counts fit.
fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}
