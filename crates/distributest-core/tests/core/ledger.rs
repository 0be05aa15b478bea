//! The ledger: the summary and the exit status of small runs, event by event.

use std::sync::Arc;
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::ledger::{
    EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NO_TESTS, EXIT_NOT_RUN, EXIT_PASSED, Ledger,
};
use distributest_core::outcome::{Interruption, NotRunReason, Outcome, Verdict};
use distributest_core::run_event::{
    AttemptReport, AttemptResult, BlockId, FilePart, FilePlan, HostPlan, HostSummary, RunEvent,
};
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_core::usage::Usage;

fn run_started(files: usize, hosts: &[&str]) -> RunEvent {
    let plan = |file| FilePlan {
        path: format!("file_{file}"),
        framework: "command".to_owned(),
        tests: Vec::new(),
        predicted: None,
        part: None,
    };
    let host = |name: &&str| HostPlan { name: (*name).to_owned(), runners: None };
    RunEvent::RunStarted {
        run: "run".to_owned(),
        project: "project".to_owned(),
        hosts: hosts.iter().map(host).collect(),
        files: (0..files).map(plan).collect(),
    }
}

fn runner(host: u32, number: u16) -> RunnerId {
    RunnerId { host: HostId(host), number }
}

fn ready(host: u32, number: u16) -> RunEvent {
    RunEvent::RunnerReady { runner: runner(host, number), identifier: String::new() }
}

fn runner_failed(host: u32, number: u16, reason: &str) -> RunEvent {
    RunEvent::RunnerFailed { runner: runner(host, number), reason: Some(reason.to_owned()) }
}

fn host_failed(host: u32, reason: &str) -> RunEvent {
    RunEvent::HostFailed { host: HostId(host), reason: reason.to_owned(), hint: None }
}

fn attempt_started(attempt: u64, file: u32, host: u32) -> RunEvent {
    RunEvent::AttemptStarted { attempt: AttemptId(attempt), file: FileId(file), runner: runner(host, 1) }
}

fn test(attempt: u64, file: u32, status: TestStatus) -> RunEvent {
    let test = TestResult {
        id: "id".to_owned(),
        name: "name".to_owned(),
        status,
        duration: Duration::ZERO,
        message: String::new(),
        details: String::new(),
        file: None,
        line: None,
    };
    RunEvent::TestFinished { attempt: AttemptId(attempt), file: FileId(file), test }
}

fn attempt_finished(attempt: u64, file: u32, host: u32, result: AttemptResult, seconds: u64) -> RunEvent {
    RunEvent::AttemptFinished(AttemptReport {
        attempt: AttemptId(attempt),
        file: FileId(file),
        runner: runner(host, 1),
        result,
        duration: Duration::from_secs(seconds),
        usage: Usage::default(),
        message: String::new(),
        details: String::new(),
        leaked: Vec::new(),
        block: None,
    })
}

fn ran(file: u32, outcome: Outcome, attempt: u64) -> RunEvent {
    let verdict = Verdict::Ran(outcome);
    RunEvent::FileVerdict {
        file: FileId(file),
        verdict,
        attempt: Some(AttemptId(attempt)),
        failed_before: Vec::new(),
    }
}

fn not_run(file: u32) -> RunEvent {
    let verdict = Verdict::NotRun(NotRunReason::UnusableName);
    RunEvent::FileVerdict { file: FileId(file), verdict, attempt: None, failed_before: Vec::new() }
}

/// A ledger that saw these events, one a second from second zero on.
fn ledger(events: &[RunEvent]) -> Ledger {
    let mut ledger = Ledger::new(false);
    for (second, event) in (0..).zip(events) {
        ledger.record(Duration::from_secs(second), event);
    }
    ledger
}

fn exit_status(files: usize, events: &[RunEvent]) -> u8 {
    ledger(&[&[run_started(files, &["localhost"])], events].concat()).exit_status()
}

#[test]
fn a_whole_run_adds_up() {
    let passed = AttemptResult::Outcome(Outcome::Passed);
    let failed = AttemptResult::Outcome(Outcome::Failed);
    let lost = AttemptResult::Interrupted(Interruption::RunnerLost);
    let summary = ledger(&[
        run_started(3, &["localhost", "beta", "gamma"]),
        ready(0, 1),
        ready(0, 1),
        ready(1, 1),
        attempt_started(1, 0, 0),
        attempt_started(2, 1, 1),
        test(1, 0, TestStatus::Failed),
        attempt_finished(1, 0, 0, lost, 5),
        test(2, 1, TestStatus::Passed),
        test(2, 1, TestStatus::Skipped),
        attempt_finished(2, 1, 1, passed, 7),
        ran(1, Outcome::Passed, 2),
        attempt_started(3, 0, 1),
        test(3, 0, TestStatus::Passed),
        test(3, 0, TestStatus::Error),
        ran(0, Outcome::Failed, 3),
        attempt_finished(3, 0, 1, failed, 2),
        not_run(2),
        host_failed(2, "no route"),
        RunEvent::Warning { message: "the end".to_owned() },
    ])
    .summary();

    assert_eq!(summary.wall, Duration::from_secs(17));
    assert_eq!(summary.testing, Duration::from_secs(13));
    assert_eq!(summary.lower_bound, Duration::from_secs(7), "9 seconds on 2 runners, one file of 7");
    assert_eq!((summary.files, summary.outcomes, summary.not_run), (3, [1, 1, 0, 0, 0], 1));
    assert_eq!(summary.tests, [2, 0, 1, 1, 0, 0], "the interrupted attempt's tests do not count");
    let host = |name: &str, runners, files, busy, problems: &[&str]| HostSummary {
        name: name.to_owned(),
        runners,
        files,
        busy: Duration::from_secs(busy),
        problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
    };
    let hosts =
        [host("localhost", 1, 0, 5, &[]), host("beta", 1, 2, 9, &[]), host("gamma", 0, 0, 0, &["no route"])];
    assert_eq!(summary.hosts, hosts);
    assert_eq!(summary.exit_status, EXIT_FAILED);
}

#[test]
fn the_same_problem_of_many_runners_is_one_line() {
    let summary = ledger(&[
        run_started(0, &["localhost"]),
        runner_failed(0, 2, "runner_setup exited with 1"),
        runner_failed(0, 3, "worker died"),
        runner_failed(0, 4, "runner_setup exited with 1"),
        host_failed(0, "worker died"),
    ])
    .summary();
    let lines = ["runners 2, 4: runner_setup exited with 1", "runner 3: worker died", "worker died"];
    assert_eq!(summary.hosts[0].problems, lines);
}

#[test]
fn what_a_host_can_not_run_is_said_once_with_its_runners() {
    let unavailable = |number| RunEvent::LaunchUnavailable {
        runner: runner(0, number),
        framework: "rspec".to_owned(),
        reason: "no ruby".to_owned(),
        hint: (number > 2).then(|| "install it".to_owned()),
    };
    let nothing_left = RunEvent::RunnerFailed { runner: runner(0, 2), reason: None };
    let events =
        [run_started(0, &["localhost"]), unavailable(1), unavailable(2), nothing_left, unavailable(3)];
    assert_eq!(ledger(&events).summary().hosts[0].problems, ["runners 1, 2, 3: can't run rspec"]);
}

/// What tells that a file passed, with one test of each of these statuses.
fn passed_with(file: u32, statuses: &[TestStatus]) -> Vec<RunEvent> {
    let attempt = u64::from(file) + 1;
    let mut events: Vec<_> = statuses.iter().map(|status| test(attempt, file, *status)).collect();
    events.push(attempt_finished(attempt, file, 0, AttemptResult::Outcome(Outcome::Passed), 1));
    events.push(ran(file, Outcome::Passed, attempt));
    events
}

#[test]
fn a_run_in_which_every_file_passed_without_a_test_tested_nothing() {
    assert_eq!(exit_status(1, &passed_with(0, &[])), EXIT_NO_TESTS);
    assert_eq!(exit_status(2, &[passed_with(0, &[]), passed_with(1, &[])].concat()), EXIT_NO_TESTS);
    for status in TestStatus::ALL {
        let events = [passed_with(0, &[]), passed_with(1, &[status])].concat();
        assert_eq!(exit_status(2, &events), EXIT_PASSED, "{status:?}");
    }
    assert_eq!(exit_status(2, &[passed_with(0, &[]), vec![not_run(1)]].concat()), EXIT_NOT_RUN);
    assert_eq!(
        exit_status(2, &[passed_with(0, &[]), vec![ran(1, Outcome::Broken, 2)]].concat()),
        EXIT_FAILED
    );
}

#[test]
fn the_exit_status_follows_its_table() {
    let passed = || ran(0, Outcome::Passed, 1);
    assert_eq!(exit_status(1, &passed_with(0, &[TestStatus::Passed])), EXIT_PASSED);
    for outcome in Outcome::ALL.into_iter().filter(|outcome| !outcome.is_success()) {
        assert_eq!(exit_status(2, &[passed(), ran(1, outcome, 2)]), EXIT_FAILED, "{outcome:?}");
    }
    assert_eq!(exit_status(2, &[passed(), not_run(1)]), EXIT_NOT_RUN);
    assert_eq!(exit_status(2, &[ran(0, Outcome::Failed, 1), not_run(1)]), EXIT_FAILED);
    let left = |failure: Option<&str>| RunEvent::WorkerEnded {
        runner: runner(0, 1),
        framework: "pytest".to_owned(),
        failure: failure.map(str::to_owned),
        block: BlockId { host: HostId(0), number: 1 },
    };
    let all_passed = |end| [passed_with(0, &[TestStatus::Passed]), vec![end]].concat();
    assert_eq!(exit_status(1, &all_passed(left(None))), EXIT_PASSED);
    assert_eq!(exit_status(1, &all_passed(left(Some("the session's end failed")))), EXIT_FAILED);
    assert_eq!(exit_status(0, &[]), EXIT_NO_TESTS);
    assert_eq!(exit_status(1, &[RunEvent::StopRequested, passed()]), EXIT_INTERRUPTED);
    assert_eq!(exit_status(2, &[ran(0, Outcome::Failed, 1), RunEvent::StopRequested]), EXIT_INTERRUPTED);
}

#[test]
fn a_file_in_parts_counts_once_by_the_worst_of_them() {
    let mut start = run_started(4, &["h1"]);
    if let RunEvent::RunStarted { files, .. } = &mut start {
        for (number, file) in (1..).zip(&mut Arc::make_mut(files)[..3]) {
            file.path = "split".to_owned();
            file.part = Some(FilePart { number, of: 3 });
        }
    }
    let count = |events: &[RunEvent]| {
        let summary = ledger(&[vec![start.clone()], events.to_vec()].concat()).summary();
        (summary.files, summary.outcomes, summary.flaky, summary.not_run, summary.exit_status)
    };
    let two = [passed_with(0, &[TestStatus::Passed]), vec![ran(2, Outcome::Passed, 3)]].concat();
    let with = |events: &[RunEvent]| [two.as_slice(), events].concat();
    let whole = ran(3, Outcome::Passed, 4);
    assert_eq!(count(&two), (2, [0; 5], 0, 2, EXIT_NOT_RUN));
    assert_eq!(
        count(&with(&[ran(1, Outcome::Passed, 2), whole.clone()])),
        (2, [2, 0, 0, 0, 0], 0, 0, EXIT_PASSED)
    );
    assert_eq!(
        count(&with(&[ran(1, Outcome::Failed, 2), whole.clone()])),
        (2, [1, 1, 0, 0, 0], 0, 0, EXIT_FAILED)
    );
    assert_eq!(count(&with(&[not_run(1), whole])), (2, [1, 0, 0, 0, 0], 0, 1, EXIT_NOT_RUN));
}

#[test]
fn the_runners_time_is_all_accounted_for() {
    let mut ledger = Ledger::new(false);
    let passed = AttemptResult::Outcome(Outcome::Passed);
    for (now, event) in [
        (0, run_started(3, &["h1", "h2"])),
        (2, ready(0, 1)),
        (2, attempt_started(1, 0, 0)),
        (3, ready(1, 1)),
        (3, attempt_started(3, 2, 1)),
        (5, attempt_finished(3, 2, 1, passed, 2)),
        (5, ran(2, Outcome::Passed, 3)),
        (6, attempt_finished(1, 0, 0, passed, 4)),
        (6, ran(0, Outcome::Passed, 1)),
        (7, attempt_started(2, 1, 0)),
        (10, attempt_finished(2, 1, 0, passed, 3)),
        (10, ran(1, Outcome::Passed, 2)),
        (12, ready(1, 2)),
    ] {
        ledger.record(Duration::from_secs(now), &event);
    }
    let time = ledger.summary().runner_time;
    let seconds = [time.preparing, time.testing, time.between, time.waiting].map(|time| time.as_secs());
    // The third runner was not ready in time, and prepared for all of the ten seconds.
    assert_eq!(seconds, [2 + 3 + 10, 4 + 3 + 2, 1, 5]);
    assert_eq!(time.total(), Duration::from_secs(30));
}

#[test]
fn a_file_nobody_decided_counts_as_not_run() {
    let ledger = ledger(&[run_started(2, &[]), ran(0, Outcome::Passed, 1)]);
    assert_eq!(ledger.summary().not_run, 1);
    assert_eq!(ledger.exit_status(), EXIT_NOT_RUN);
}

#[test]
fn a_second_verdict_of_a_file_does_not_count() {
    let others = vec![ran(0, Outcome::Failed, 2), ran(5, Outcome::Failed, 3)];
    let first = passed_with(0, &[TestStatus::Passed]);
    let summary = ledger(&[vec![run_started(1, &["localhost"])], first, others].concat()).summary();
    assert_eq!(summary.outcomes, [1, 0, 0, 0, 0]);
    assert_eq!(summary.exit_status, EXIT_PASSED);
}

/// A run that continues another is as red as both together, but no faster or slower for what it did not do itself.
#[test]
fn what_a_former_run_finished_counts_but_took_no_time() {
    let mut start = run_started(2, &["h1"]);
    if let RunEvent::RunStarted { hosts, .. } = &mut start {
        hosts.push(HostPlan { name: "h2".to_owned(), runners: Some(0) });
    }
    let former = AttemptId::of_former_run(0).0;
    let failed = AttemptResult::Outcome(Outcome::Failed);
    let mut ledger = Ledger::new(false);
    for (now, event) in [
        (0, start),
        (0, test(former, 1, TestStatus::Failed)),
        (0, attempt_finished(former, 1, 1, failed, 500)),
        (0, ran(1, Outcome::Failed, former)),
        (1, ready(0, 1)),
        (1, attempt_started(1, 0, 0)),
        (4, test(1, 0, TestStatus::Passed)),
        (4, attempt_finished(1, 0, 0, AttemptResult::Outcome(Outcome::Passed), 3)),
        (4, ran(0, Outcome::Passed, 1)),
    ] {
        ledger.record(Duration::from_secs(now), &event);
    }
    let summary = ledger.summary();
    assert_eq!((summary.files, summary.outcomes, summary.not_run), (2, [1, 1, 0, 0, 0], 0));
    assert_eq!((summary.tests[0], summary.tests[1]), (1, 1));
    assert_eq!(summary.exit_status, EXIT_FAILED);
    assert_eq!((summary.testing, summary.lower_bound), (Duration::from_secs(3), Duration::from_secs(3)));
    let hosts: Vec<_> =
        summary.hosts.iter().map(|host| (host.name.as_str(), host.files, host.busy.as_secs())).collect();
    assert_eq!(hosts, [("h1", 1, 3)]);
}
