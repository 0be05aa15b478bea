//! Writes the event streams of runs as short scripts, with a summary that adds up.

use std::collections::HashMap;
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::{Interruption, NotRunReason, Outcome, Verdict};
use distributest_core::run_event::{
    AttemptReport, AttemptResult, BlockId, EarlierPass, FilePlan, HostPlan, HostSummary, OutputStream,
    RunEvent, RunSummary, RunnerTime,
};
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_core::usage::Usage;

/// A run under construction. Times are seconds since its start.
pub(crate) struct Script {
    pub(crate) events: Vec<(Duration, RunEvent)>,
    now: Duration,
    attempts: HashMap<AttemptId, Attempt>,
    summary: RunSummary,
    first_start: Option<Duration>,
    longest: Duration,
}

struct Attempt {
    file: FileId,
    runner: RunnerId,
    started: Duration,
    statuses: Vec<TestStatus>,
}

impl Script {
    /// Starts a run with these hosts and these files, each with its predicted seconds.
    pub(crate) fn new(hosts: &[&str], files: &[(&str, Option<f64>)]) -> Script {
        let summary = RunSummary {
            wall: Duration::ZERO,
            testing: Duration::ZERO,
            lower_bound: Duration::ZERO,
            runner_time: RunnerTime::default(),
            files: files.len() as u32,
            outcomes: [0; 5],
            flaky: 0,
            cached: 0,
            not_run: 0,
            failed_ends: 0,
            tests: [0; 6],
            hosts: hosts.iter().map(|name| host_summary(name)).collect(),
            exit_status: 0,
        };
        let (now, longest) = (Duration::ZERO, Duration::ZERO);
        let mut script =
            Script { events: Vec::new(), now, attempts: HashMap::new(), summary, first_start: None, longest };
        script.push(RunEvent::RunStarted {
            run: "20261121-231008-4f2a".to_owned(),
            project: "shop".to_owned(),
            hosts: hosts.iter().map(|name| HostPlan { name: (*name).to_owned(), runners: None }).collect(),
            files: files.iter().map(|(path, predicted)| file_plan(path, *predicted)).collect(),
        });
        script
    }

    /// Moves the time on.
    pub(crate) fn at(&mut self, seconds: f64) -> &mut Script {
        self.now = Duration::from_secs_f64(seconds);
        self
    }

    pub(crate) fn push(&mut self, event: RunEvent) -> &mut Script {
        self.events.push((self.now, event));
        self
    }

    /// Adds a host that only a former run used.
    pub(crate) fn other_host(&mut self, name: &str) {
        if let (_, RunEvent::RunStarted { hosts, .. }) = &mut self.events[0] {
            hosts.push(HostPlan { name: name.to_owned(), runners: Some(0) });
        }
    }

    /// An attempt of a former run, which took 400 seconds: a test of it failed, and so did its file.
    pub(crate) fn fail_former(
        &mut self,
        attempt: AttemptId,
        file: FileId,
        runner: RunnerId,
        test: TestResult,
    ) {
        self.push(RunEvent::TestFinished { attempt, file, test });
        self.push(RunEvent::AttemptFinished(AttemptReport {
            attempt,
            file,
            runner,
            result: AttemptResult::Outcome(Outcome::Failed),
            duration: Duration::from_secs(400),
            usage: Usage::default(),
            message: String::new(),
            details: String::new(),
            leaked: Vec::new(),
            block: None,
        }));
        self.summary.tests[1] += 1;
        self.summary.outcomes[1] += 1;
        let (verdict, failed_before) = (Verdict::Ran(Outcome::Failed), Vec::new());
        self.push(RunEvent::FileVerdict { file, verdict, attempt: Some(attempt), failed_before });
    }

    /// Connects a host and makes its runners ready.
    pub(crate) fn ready(&mut self, host: u32, runners: u16) -> &mut Script {
        self.summary.hosts[host as usize].runners = runners;
        let agent = "resident agent 0.1.0".to_owned();
        self.push(RunEvent::HostConnected { host: HostId(host), agent, cores: runners, runners });
        for number in 1..=runners {
            let runner = RunnerId { host: HostId(host), number };
            self.push(RunEvent::RunnerReady { runner, identifier: format!("dev_ana_{number}") });
        }
        self
    }

    pub(crate) fn host_failed(&mut self, host: u32, reason: &str, hint: Option<&str>) -> &mut Script {
        self.summary.hosts[host as usize].problems.push(reason.to_owned());
        let (reason, hint) = (reason.to_owned(), hint.map(str::to_owned));
        self.push(RunEvent::HostFailed { host: HostId(host), reason, hint })
    }

    /// None of a host's first runners can run a framework's files.
    pub(crate) fn launch_unavailable(&mut self, host: u32, runners: u16, framework: &str, reason: &str) {
        let numbers: Vec<_> = (1..=runners).map(|number| number.to_string()).collect();
        let problem = format!("runners {}: can't run {framework}", numbers.join(", "));
        self.summary.hosts[host as usize].problems.push(problem);
        for number in 1..=runners {
            self.push(RunEvent::LaunchUnavailable {
                runner: RunnerId { host: HostId(host), number },
                framework: framework.to_owned(),
                reason: reason.to_owned(),
                hint: Some("install it in node_setup".to_owned()),
            });
        }
    }

    /// Starts the next attempt.
    pub(crate) fn start(&mut self, file: u32, host: u32, runner: u16) -> AttemptId {
        let attempt = AttemptId(self.attempts.len() as u64 + 1);
        let (file, runner) = (FileId(file), RunnerId { host: HostId(host), number: runner });
        self.first_start.get_or_insert(self.now);
        self.attempts.insert(attempt, Attempt { file, runner, started: self.now, statuses: Vec::new() });
        self.push(RunEvent::AttemptStarted { attempt, file, runner });
        attempt
    }

    /// A test that has nothing to say.
    pub(crate) fn quiet_test(
        &mut self,
        attempt: AttemptId,
        name: &str,
        status: TestStatus,
        seconds: f64,
    ) -> &mut Script {
        self.test(attempt, test(name, status, seconds))
    }

    pub(crate) fn test(&mut self, attempt: AttemptId, test: TestResult) -> &mut Script {
        let known = self.attempts.get_mut(&attempt).unwrap();
        known.statuses.push(test.status);
        let file = known.file;
        self.push(RunEvent::TestFinished { attempt, file, test })
    }

    /// Bytes of an attempt's block, which has the attempt's number.
    pub(crate) fn output(&mut self, attempt: AttemptId, bytes: &[u8]) -> &mut Script {
        let block = BlockId { host: self.attempts[&attempt].runner.host, number: attempt.0 };
        self.push(RunEvent::Output { block, stream: OutputStream::Stdout, bytes: bytes.to_vec() })
    }

    /// Ends an attempt with an outcome that decides its file.
    /// What the runners did, for the summary.
    pub(crate) fn runner_time(&mut self, seconds: [u64; 4]) -> &mut Script {
        let [preparing, testing, between, waiting] = seconds.map(Duration::from_secs);
        self.summary.runner_time = RunnerTime { preparing, testing, between, waiting };
        self
    }

    pub(crate) fn finish(&mut self, attempt: AttemptId, outcome: Outcome) -> &mut Script {
        self.finish_with(attempt, outcome, "", "", &[])
    }

    pub(crate) fn finish_with(
        &mut self,
        attempt: AttemptId,
        outcome: Outcome,
        message: &str,
        details: &str,
        leaked: &[&str],
    ) -> &mut Script {
        let report = self.report(attempt, AttemptResult::Outcome(outcome), message, details, leaked);
        let (file, runner, duration) = (report.file, report.runner, report.duration);
        self.push(RunEvent::AttemptFinished(report));
        for status in &self.attempts[&attempt].statuses {
            self.summary.tests[TestStatus::ALL.iter().position(|known| known == status).unwrap()] += 1;
        }
        self.summary.outcomes[Outcome::ALL.iter().position(|known| *known == outcome).unwrap()] += 1;
        self.summary.hosts[runner.host.0 as usize].files += 1;
        self.longest = self.longest.max(duration);
        self.push(RunEvent::FileVerdict {
            file,
            verdict: Verdict::Ran(outcome),
            attempt: Some(attempt),
            failed_before: Vec::new(),
        })
    }

    /// Ends an attempt without an outcome.
    pub(crate) fn interrupt(
        &mut self,
        attempt: AttemptId,
        interruption: Interruption,
        message: &str,
    ) -> &mut Script {
        let report = self.report(attempt, AttemptResult::Interrupted(interruption), message, "", &[]);
        self.push(RunEvent::AttemptFinished(report))
    }

    /// A file is not run, because it passed in an earlier run in half a second, with these tests.
    pub(crate) fn cached(&mut self, file: u32, tests: Vec<TestResult>) -> &mut Script {
        self.summary.cached += 1;
        for test in &tests {
            let place = TestStatus::ALL.iter().position(|status| *status == test.status).unwrap();
            self.summary.tests[place] += 1;
        }
        let pass = EarlierPass {
            run: "20261120-091500-77aa".to_owned(),
            host: "h9".to_owned(),
            finished_at_unix_ms: 1_795_166_101_000,
            duration: Duration::from_millis(500),
            tests,
        };
        self.push(RunEvent::FileCached { file: FileId(file), pass });
        let (file, verdict, attempt, failed_before) = (FileId(file), Verdict::Cached, None, Vec::new());
        self.push(RunEvent::FileVerdict { file, verdict, attempt, failed_before })
    }

    pub(crate) fn not_run(&mut self, file: u32, reason: NotRunReason) -> &mut Script {
        self.summary.not_run += 1;
        let verdict = Verdict::NotRun(reason);
        self.push(RunEvent::FileVerdict {
            file: FileId(file),
            verdict,
            attempt: None,
            failed_before: Vec::new(),
        })
    }

    /// Ends the run.
    pub(crate) fn end(&mut self, exit_status: u8) -> Vec<(Duration, RunEvent)> {
        let runners: u32 = self.summary.hosts.iter().map(|host| u32::from(host.runners)).sum();
        let total: Duration = self.summary.hosts.iter().map(|host| host.busy).sum();
        self.summary.wall = self.now;
        self.summary.testing = self.first_start.map_or(Duration::ZERO, |start| self.now - start);
        self.summary.lower_bound = self.longest.max(total / runners.max(1));
        self.summary.exit_status = exit_status;
        self.push(RunEvent::RunFinished(self.summary.clone()));
        std::mem::take(&mut self.events)
    }

    fn report(
        &mut self,
        attempt: AttemptId,
        result: AttemptResult,
        message: &str,
        details: &str,
        leaked: &[&str],
    ) -> AttemptReport {
        let Attempt { file, runner, started, .. } = self.attempts[&attempt];
        let duration = self.now - started;
        self.summary.hosts[runner.host.0 as usize].busy += duration;
        AttemptReport {
            attempt,
            file,
            runner,
            result,
            duration,
            usage: Usage::default(),
            message: message.to_owned(),
            details: details.to_owned(),
            leaked: leaked.iter().map(|process| (*process).to_owned()).collect(),
            block: Some(BlockId { host: runner.host, number: attempt.0 }),
        }
    }
}

/// A test that has nothing to say.
pub(crate) fn test(name: &str, status: TestStatus, seconds: f64) -> TestResult {
    TestResult {
        id: name.to_owned(),
        name: name.to_owned(),
        status,
        duration: Duration::from_secs_f64(seconds),
        message: String::new(),
        details: String::new(),
        file: None,
        line: None,
    }
}

fn host_summary(name: &str) -> HostSummary {
    HostSummary { name: name.to_owned(), runners: 0, files: 0, busy: Duration::ZERO, problems: Vec::new() }
}

fn file_plan(path: &str, predicted: Option<f64>) -> FilePlan {
    FilePlan {
        path: path.to_owned(),
        framework: "pytest".to_owned(),
        tests: Vec::new(),
        predicted: predicted.map(Duration::from_secs_f64),
        part: None,
    }
}
