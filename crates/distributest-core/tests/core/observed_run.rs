//! A run of the real scheduler and the real ledger on a fake fleet, with the [`Model`] looking on.

use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId};
use distributest_core::ledger::Ledger;
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{AttemptReport, AttemptResult, EarlierPass, FilePlan, HostPlan, RunEvent};
use distributest_core::scheduler::{Scheduler, SchedulerOptions};
use distributest_core::scheduler_messages::{Command, Event};
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_core::usage::Usage;

use crate::model::{Effect, Host, Model, Runner};

/// Each attempt that ends took this long, and reported one test.
pub(crate) const ATTEMPT_DURATION: Duration = Duration::from_secs(1);

/// How much time passes in an event for it: longer than after the first failed probe, not than after the second.
const LONG_ENOUGH: Duration = Duration::from_secs(15);

pub(crate) struct ObservedRun {
    scheduler: Scheduler,
    ledger: Ledger,
    pub(crate) model: Model,
    now: Duration,
}

impl ObservedRun {
    pub(crate) fn new(options: SchedulerOptions) -> Self {
        ObservedRun::with_passes(options, Vec::new())
    }

    pub(crate) fn with_passes(options: SchedulerOptions, passed_with: Vec<Vec<String>>) -> Self {
        let (file_count, host_count) = (options.file_launches.len(), options.host_count as usize);
        let mut run = ObservedRun {
            model: Model::new(&options, &passed_with),
            scheduler: Scheduler::new(options).with_passes(passed_with),
            ledger: Ledger::new(false),
            now: Duration::ZERO,
        };
        run.tell(RunEvent::RunStarted {
            run: String::new(),
            project: String::new(),
            hosts: vec![HostPlan { name: String::new(), runners: None }; host_count],
            files: vec![
                FilePlan {
                    path: String::new(),
                    framework: String::new(),
                    tests: Vec::new(),
                    predicted: None,
                    part: None,
                };
                file_count
            ]
            .into(),
        });
        let mut commands = Vec::new();
        run.scheduler.start(&mut commands);
        run.model.keep_back(&run.scheduler.candidates().collect(), &commands);
        run.observe_commands(&commands);
        run.check();
        run
    }

    /// Lets an event happen and checks everything that must hold then. Returns the commands it led to.
    pub(crate) fn apply(&mut self, event: Event) -> Vec<Command> {
        let waits = matches!(event, Event::TimePassed);
        self.now += if waits { LONG_ENOUGH } else { Duration::from_millis(1) };
        self.model.now = self.now;
        let effect = self.model.observe_event(&event);
        let mut commands = Vec::new();
        self.scheduler.handle(self.now, event.clone(), &mut commands);
        self.model.keep_back(&self.scheduler.candidates().collect(), &commands);
        self.model.judge(&commands, &self.scheduler.held_files().collect());
        match effect {
            Effect::Nothing => {
                let is_due = |command: &Command| matches!(command, Command::Withdraw { .. });
                let only_time_passed = commands.iter().all(is_due);
                assert!(
                    only_time_passed,
                    "late, repeated and unknown events change nothing: {event:?} {commands:?}"
                );
                self.observe_commands(&commands);
            }
            Effect::Changed { ended } => {
                self.tell_what_changed(&event);
                ended.iter().for_each(|attempt| self.tell_test(*attempt));
                // Output lags for some: their end is told after the verdict it led to.
                let (late, prompt): (Vec<_>, Vec<_>) =
                    ended.into_iter().partition(|attempt| attempt.0 % 2 == 0);
                prompt.into_iter().for_each(|attempt| self.tell_attempt_end(attempt));
                self.observe_commands(&commands);
                late.into_iter().for_each(|attempt| self.tell_attempt_end(attempt));
            }
        }
        self.check();
        if waits {
            self.model.check_nothing_waits_in_vain();
        }
        assert_eq!(self.scheduler.is_finished(), self.model.finished);
        commands
    }

    /// Lets everybody who is silent speak, everybody who is still awaited come and every live attempt pass, until the run is finished.
    pub(crate) fn run_to_end(&mut self) {
        while !self.model.finished {
            let event = if let Some(host) = self.model.silent.first().copied() {
                Event::HostHeard { host }
            } else if let Some(attempt) = self.model.attempts.keys().next().copied() {
                Event::AttemptFinished {
                    attempt,
                    outcome: Outcome::Passed,
                    duration: ATTEMPT_DURATION,
                    out_of_memory: false,
                }
            } else if let Some(runner) =
                self.model.runners(|runner| runner == Runner::Awaited).first().copied()
            {
                Event::RunnerReady { runner }
            } else if let Some(host) = self.model.hosts.iter().position(|host| *host == Host::Awaited) {
                Event::HostExpected { host: HostId(host as u32), runners: 1, queue: 0, memory: None }
            } else if self.scheduler.next_deadline().is_some() {
                Event::TimePassed
            } else {
                panic!("a run that waits for nobody is finished");
            };
            self.apply(event);
        }
        self.check_summary();
    }

    fn check(&mut self) {
        self.model.check(&self.scheduler.held_files().collect());
    }

    /// Compares the summary with the model.
    fn check_summary(&self) {
        let summary = self.ledger.summary();
        let verdicts: Vec<Verdict> =
            self.model.files.iter().filter_map(|file| file.verdict.clone()).collect();
        let with = |wanted: Verdict| verdicts.iter().filter(|verdict| **verdict == wanted).count() as u32;
        let outcomes = Outcome::ALL.map(|outcome| with(Verdict::Ran(outcome)));
        let [passed, ..] = outcomes;
        let flaky = with(Verdict::Flaky);
        let ran = outcomes.iter().sum::<u32>() + flaky;
        let cached = with(Verdict::Cached);
        assert_eq!(summary.cached, cached);
        let failed = ran - passed - flaky;
        assert_eq!(summary.flaky, flaky);
        assert_eq!(summary.outcomes, outcomes, "the summary counts every outcome once");
        assert_eq!(summary.files, ran + cached + summary.not_run, "discovered is the sum of all verdicts");
        let tests = [u64::from(passed + flaky), u64::from(failed), 0, u64::from(cached), 0, 0];
        assert_eq!(
            summary.tests, tests,
            "the tests are those of the deciding attempts and of earlier passes"
        );
        assert_eq!(
            summary.hosts.iter().map(|host| host.files).sum::<u32>(),
            ran,
            "a file counts at one host"
        );
        let busy = ATTEMPT_DURATION * self.model.ended.len() as u32;
        assert_eq!(summary.hosts.iter().map(|host| host.busy).sum::<Duration>(), busy);
        let exit_status = match (self.model.stopping, summary.files, failed, summary.not_run) {
            (true, ..) => 130,
            (_, 0, ..) => 4,
            (_, _, 0, 0) => 0,
            (_, _, 0, _) => 3,
            _ => 1,
        };
        assert_eq!(summary.exit_status, exit_status, "the exit status is consistent with the verdicts");
    }

    fn observe_commands(&mut self, commands: &[Command]) {
        for command in commands {
            self.model.observe_command(command);
            if let Command::Decide { file, verdict, attempt, failed_before } = command.clone() {
                self.tell(RunEvent::FileVerdict { file, verdict, attempt, failed_before });
            }
            if let Command::Reuse { file, .. } = *command {
                self.tell_cached(file);
            }
        }
    }

    /// Each earlier pass reported one test that was skipped.
    fn tell_cached(&mut self, file: FileId) {
        let test = TestResult { status: TestStatus::Skipped, ..test_result(true) };
        let (run, host, finished_at_unix_ms) = (String::new(), String::new(), 0);
        let pass =
            EarlierPass { run, host, finished_at_unix_ms, duration: ATTEMPT_DURATION, tests: vec![test] };
        self.tell(RunEvent::FileCached { file, pass });
        let (verdict, attempt, failed_before) = (Verdict::Cached, None, Vec::new());
        self.tell(RunEvent::FileVerdict { file, verdict, attempt, failed_before });
    }

    fn tell(&mut self, event: RunEvent) {
        self.ledger.record(self.now, &event);
    }

    fn tell_what_changed(&mut self, event: &Event) {
        match *event {
            Event::RunnerReady { runner } => {
                self.tell(RunEvent::RunnerReady { runner, identifier: String::new() });
            }
            Event::AttemptStarted { attempt } => {
                let live = self.model.attempts[&attempt];
                self.tell(RunEvent::AttemptStarted { attempt, file: live.file, runner: live.runner });
            }
            Event::StopRequested => self.tell(RunEvent::StopRequested),
            _ => {}
        }
    }

    fn tell_test(&mut self, attempt: AttemptId) {
        let ended = self.model.ended[&attempt];
        let passed = ended.result == AttemptResult::Outcome(Outcome::Passed);
        self.tell(RunEvent::TestFinished { attempt, file: ended.file, test: test_result(passed) });
    }

    fn tell_attempt_end(&mut self, attempt: AttemptId) {
        let ended = self.model.ended[&attempt];
        self.tell(RunEvent::AttemptFinished(AttemptReport {
            attempt,
            file: ended.file,
            runner: ended.runner,
            result: ended.result,
            duration: ATTEMPT_DURATION,
            usage: Usage::default(),
            message: String::new(),
            details: String::new(),
            leaked: Vec::new(),
            block: None,
        }));
    }
}

fn test_result(passed: bool) -> TestResult {
    TestResult {
        id: String::new(),
        name: String::new(),
        status: if passed { TestStatus::Passed } else { TestStatus::Failed },
        duration: ATTEMPT_DURATION,
        message: String::new(),
        details: String::new(),
        file: None,
        line: None,
    }
}
