//! Typical runs: what the console's snapshots are taken of and what the example shows.

use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::{Interruption, NotRunReason, Outcome};
use distributest_core::run_event::{BlockId, FormerRun, HookKind, OutputStream, RunEvent};
use distributest_core::test_result::{TestResult, TestStatus};

use crate::script::{Script, test};

/// A run: its events with the time of each since the run's start.
pub(crate) type Run = Vec<(Duration, RunEvent)>;

/// Every scenario with its name.
pub(crate) fn all() -> Vec<(&'static str, Run)> {
    vec![
        ("all-pass", all_pass()),
        ("failures", failures()),
        ("many-ways", many_ways()),
        ("host-failed", host_failed()),
        ("not-everywhere", not_everywhere()),
        ("interrupted", interrupted()),
        ("no-runner", no_runner()),
        ("no-files", no_files()),
        ("no-tests", no_tests()),
        ("resumed", resumed()),
        ("cached", cached()),
    ]
}

/// Three files on this machine, all fine.
pub(crate) fn all_pass() -> Run {
    let files = [
        ("tests/test_import.py", Some(3.0)),
        ("tests/test_cart.py", Some(1.0)),
        ("tests/test_user.py", None),
    ];
    let mut script = Script::new(&["localhost"], &files);
    script.at(0.4).ready(0, 2);
    let import = script.start(0, 0, 1);
    let cart = script.start(1, 0, 2);
    script.at(1.2).quiet_test(cart, "test_add", TestStatus::Passed, 0.1);
    script.quiet_test(cart, "test_remove", TestStatus::Skipped, 0.0).finish(cart, Outcome::Passed);
    let user = script.start(2, 0, 2);
    script.at(2.0).quiet_test(user, "test_login", TestStatus::Passed, 0.5).finish(user, Outcome::Passed);
    script.at(3.5).quiet_test(import, "test_csv", TestStatus::Passed, 2.9).finish(import, Outcome::Passed);
    script.at(3.6).runner_time([0, 24, 1, 0]).end(0)
}

/// Two files with failing tests, on two hosts.
pub(crate) fn failures() -> Run {
    let files = [
        ("tests/test_billing.py", Some(4.0)),
        ("tests/test odd 'name'.py", Some(3.0)),
        ("tests/test_cart.py", Some(1.0)),
        ("tests/test_import.py", Some(90.0)),
    ];
    let mut script = Script::new(&["h1", "h2"], &files);
    script.at(2.0).ready(0, 2);
    let billing = script.start(0, 0, 1);
    let odd = script.start(1, 0, 2);
    script.at(3.0).ready(1, 2);
    let cart = script.start(2, 1, 1);
    let import = script.start(3, 1, 2);
    script.at(4.0).quiet_test(cart, "test_add", TestStatus::Passed, 0.1).finish(cart, Outcome::Passed);
    script.at(5.5).quiet_test(billing, "test_vat", TestStatus::Passed, 0.3);
    script.test(billing, rounding()).test(billing, missing_key()).finish(billing, Outcome::Failed);
    script.at(6.0).test(odd, hostile_test()).finish(odd, Outcome::Failed);
    script.at(99.0).quiet_test(import, "test_big_file", TestStatus::Passed, 80.5);
    script.quiet_test(import, "test_small_file", TestStatus::ExpectedFailure, 1.5);
    script.finish(import, Outcome::Passed);
    script.at(99.2).runner_time([9, 104, 2, 92]).end(1)
}

/// Broken, timed out, crashed, leaking files.
pub(crate) fn many_ways() -> Run {
    let files = [
        ("tests/test_new.py", None),
        ("tests/test_hang.py", Some(2.0)),
        ("tests/test_native.py", Some(2.0)),
        ("tests/test_server.py", Some(2.0)),
        ("tests/caf\u{fffd}.py", None),
    ];
    let mut script = Script::new(&["localhost"], &files);
    script.not_run(4, NotRunReason::UnusableName);
    script.at(0.5).ready(0, 4);
    let new = script.start(0, 0, 1);
    let hang = script.start(1, 0, 2);
    let native = script.start(2, 0, 3);
    let server = script.start(3, 0, 4);
    let traceback = "Traceback (most recent call last):\n  File \"tests/test_new.py\", line 1, in <module>\n    \
                     import stripe\nModuleNotFoundError: No module named 'stripe'\n";
    let message = "ModuleNotFoundError: No module named 'stripe'";
    script.at(0.8).finish_with(new, Outcome::Broken, message, traceback, &[]);
    script.at(1.5).quiet_test(native, "test_open", TestStatus::Passed, 0.4);
    script.output(
        native,
        b"Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f (most recent call first):\n",
    );
    script.output(native, b"  File \"tests/test_native.py\", line 9 in test_close\n");
    script.finish_with(native, Outcome::Crashed, "killed by signal 11 (segmentation fault)", "", &[]);
    script.at(2.5).quiet_test(server, "test_serve", TestStatus::Passed, 1.4);
    script.finish_with(server, Outcome::Passed, "", "", &["4242 python3 -m http.server 8000"]);
    script.at(60.5).finish_with(hang, Outcome::TimedOut, "no answer after the time limit of 60 s", "", &[]);
    script.at(60.6).end(1)
}

/// One host of three can't be reached, another is lost in the middle; the third finishes the work.
pub(crate) fn host_failed() -> Run {
    let files =
        [("tests/test_a.py", Some(5.0)), ("tests/test_b.py", Some(4.0)), ("tests/test_c.py", Some(3.0))];
    let mut script = Script::new(&["h1", "h2", "build.example"], &files);
    let unreachable = "ssh: connect to host build.example port 22: Connection refused";
    script.at(0.2).push(RunEvent::HostProgress { host: HostId(0), activity: "syncing".to_owned() });
    script.push(RunEvent::HostProgress { host: HostId(1), activity: "node_setup".to_owned() });
    script.at(0.3).host_failed(2, unreachable, Some("try `ssh build.example true`"));
    script.at(1.0).push(node_setup(0));
    script.ready(0, 1).ready(1, 1);
    let a = script.start(0, 0, 1);
    let b = script.start(1, 1, 1);
    script.at(3.0).host_failed(1, "the connection broke: no heartbeat for 10 s", None);
    script.interrupt(b, Interruption::HostLost, "no heartbeat for 10 s");
    script.at(6.0).quiet_test(a, "test_one", TestStatus::Passed, 4.5).finish(a, Outcome::Passed);
    for (file, seconds) in [(1, 10.0), (2, 13.0)] {
        let attempt = script.start(file, 0, 1);
        script.at(seconds).quiet_test(attempt, "test_one", TestStatus::Passed, 2.5);
        script.finish(attempt, Outcome::Passed);
    }
    script.push(RunEvent::Warning { message: "host h1 has 112 MB of disk space left".to_owned() });
    script.at(13.1).end(0)
}

/// One host of two has no ruby, the other goes before all specs are run.
pub(crate) fn not_everywhere() -> Run {
    let files =
        [("spec/a_spec.rb", Some(5.0)), ("tests/test_b.py", Some(4.0)), ("spec/c_spec.rb", Some(3.0))];
    let mut script = Script::new(&["h1", "h2"], &files);
    script.at(1.0).launch_unavailable(0, 2, "rspec", "none of these programs is there: ruby");
    script.ready(0, 2).ready(1, 1);
    let spec = script.start(0, 1, 1);
    let test = script.start(1, 0, 1);
    script.at(5.0).quiet_test(test, "test_one", TestStatus::Passed, 3.5).finish(test, Outcome::Passed);
    script.at(6.0).quiet_test(spec, "is one", TestStatus::Passed, 4.5).finish(spec, Outcome::Passed);
    script.at(6.5).host_failed(1, "gone", None);
    let runner = RunnerId { host: HostId(0), number: 2 };
    script.push(RunEvent::RunnerFailed { runner, reason: None });
    script.not_run(2, NotRunReason::NoRunnerAble("none of these programs is there: ruby; gone".to_owned()));
    script.at(6.6).end(3)
}

/// Ctrl-C while two of thirty files run.
pub(crate) fn interrupted() -> Run {
    let paths: Vec<_> = (0..30).map(|number| format!("tests/test_{number:02}.py")).collect();
    let files: Vec<_> = paths.iter().map(|path| (path.as_str(), Some(1.0))).collect();
    let mut script = Script::new(&["localhost"], &files);
    script.at(0.4).ready(0, 2);
    let first = script.start(0, 0, 1);
    let second = script.start(1, 0, 2);
    script.at(1.4).quiet_test(first, "test_one", TestStatus::Passed, 0.9).finish(first, Outcome::Passed);
    let third = script.start(2, 0, 1);
    script.at(1.6).test(second, missing_key());
    script.at(1.8).push(RunEvent::StopRequested);
    script.at(1.9).interrupt(second, Interruption::Cancelled, "").interrupt(
        third,
        Interruption::Cancelled,
        "",
    );
    for file in 1..30 {
        script.not_run(file, NotRunReason::Stopped);
    }
    script.at(2.0).end(130)
}

/// The only runner's setup fails.
pub(crate) fn no_runner() -> Run {
    let files = [("tests/test_a.py", None), ("tests/test_b.py", None)];
    let mut script = Script::new(&["localhost"], &files);
    let runner = RunnerId { host: HostId(0), number: 1 };
    let reason = "runner_setup exited with status 1";
    script.at(0.6).push(output(0, 7, b"createdb: error: connection to server failed\n"));
    script.push(RunEvent::HookFinished {
        host: HostId(0),
        runner: Some(runner),
        hook: HookKind::RunnerSetup,
        failure: Some("exited with status 1".to_owned()),
        skipped: false,
        duration: Duration::from_millis(120),
        block: BlockId { host: HostId(0), number: 7 },
    });
    script.at(0.7).push(RunEvent::RunnerFailed { runner, reason: Some(reason.to_owned()) });
    for file in 0..2 {
        script.not_run(file, NotRunReason::NoRunnerLeft(format!("localhost runner 1: {reason}")));
    }
    script.at(0.8).end(3)
}

/// Nothing to do.
pub(crate) fn no_files() -> Run {
    Script::new(&["localhost"], &[]).at(0.1).end(4)
}

/// Two files, and a filter that lets none of their tests through.
pub(crate) fn no_tests() -> Run {
    let mut script = Script::new(&["localhost"], &[("tests/test_a.py", None), ("tests/test_b.py", None)]);
    script.at(0.4).ready(0, 2);
    let first = script.start(0, 0, 1);
    let second = script.start(1, 0, 2);
    script.at(1.0).finish_with(first, Outcome::Passed, "no tests: all 3 are deselected", "", &[]);
    script.at(1.2).finish_with(second, Outcome::Passed, "no tests", "", &[]);
    script.at(1.3).end(4)
}

/// What a run continues.
pub(crate) fn former_run() -> FormerRun {
    FormerRun {
        run: "20261121-230512-1c08".to_owned(),
        age: Duration::from_secs(296),
        finished: 1,
        failed: 1,
        changed: 1,
        left: 2,
        logs: vec!["/logs/former.log".to_owned()],
    }
}

/// A run that continues one that had a host more.
pub(crate) fn resumed() -> Run {
    let former = AttemptId::of_former_run(0);
    let mut script = Script::new(
        &["h1"],
        &[("tests/test_shop.py", None), ("tests/test_cart.py", None), ("tests/test_billing.py", None)],
    );
    script.other_host("h2");
    script.push(RunEvent::RunResumed(former_run()));
    script.fail_former(former, FileId(2), RunnerId { host: HostId(1), number: 3 }, rounding());
    script.ready(0, 1);
    for file in 0..2 {
        let attempt = script.start(file, 0, 1);
        script
            .quiet_test(attempt, "test_one", TestStatus::Passed, 0.5)
            .at(f64::from(file + 1))
            .finish(attempt, Outcome::Passed);
    }
    script.end(1)
}

fn node_setup(host: u32) -> RunEvent {
    RunEvent::HookFinished {
        host: HostId(host),
        runner: None,
        hook: HookKind::NodeSetup,
        failure: None,
        skipped: false,
        duration: Duration::from_millis(640),
        block: BlockId { host: HostId(host), number: 99 },
    }
}

/// Of three files two need not be run.
pub(crate) fn cached() -> Run {
    let files =
        [("tests/test_import.py", Some(3.0)), ("tests/test_cart.py", Some(1.0)), ("tests/b.py", None)];
    let mut script = Script::new(&["localhost"], &files);
    script.at(0.4).cached(0, vec![passing("test_csv"), test("test_xml", TestStatus::Skipped, 0.0)]);
    script.cached(2, vec![passing("test_sum")]).ready(0, 2);
    let cart = script.start(1, 0, 2);
    script.at(1.2).quiet_test(cart, "test_add", TestStatus::Passed, 0.1).finish(cart, Outcome::Passed);
    script.at(1.3).end(0)
}

/// A test without anything to say.
pub(crate) fn passing(name: &str) -> TestResult {
    test(name, TestStatus::Passed, 0.125)
}

/// A failure as pytest tells it.
pub(crate) fn rounding() -> TestResult {
    let details = "    def test_rounding(currency):\n>       assert total(currency) == 10.0\nE       \
                   AssertionError: assert 10.01 == 10.0\nE        +  where 10.01 = total('eur')\n\n\
                   tests/test_billing.py:42: AssertionError";
    TestResult {
        message: "AssertionError: assert 10.01 == 10.0".to_owned(),
        details: details.to_owned(),
        file: Some("tests/test_billing.py".to_owned()),
        line: Some(42),
        ..test("test_rounding[eur]", TestStatus::Failed, 0.02)
    }
}

/// A test whose setup raised, with a message and no more.
pub(crate) fn missing_key() -> TestResult {
    TestResult {
        message: "KeyError: 'vat'".to_owned(),
        file: Some("tests/test_billing.py".to_owned()),
        line: Some(57),
        ..test("test_total", TestStatus::Error, 0.01)
    }
}

/// A test that tries to take over the terminal and says far too much.
pub(crate) fn hostile_test() -> TestResult {
    let mut details =
        String::from("\u{1b}[31mred\u{1b}[0m \u{1b}[2J\u{1b}]0;owned\u{7}bell\u{7} carriage\rreturn\n");
    for number in 2..=100 {
        details.push_str(&format!("line {number}\n"));
    }
    TestResult {
        message: "too much\u{1b}[2J".to_owned(),
        details,
        file: Some("tests/test odd 'name'.py".to_owned()),
        line: None,
        ..test("test_newline\nin its name", TestStatus::Failed, 0.5)
    }
}

/// Bytes of a block that belongs to no attempt.
pub(crate) fn output(host: u32, number: u64, bytes: &[u8]) -> RunEvent {
    let block = BlockId { host: HostId(host), number };
    RunEvent::Output { block, stream: OutputStream::Stderr, bytes: bytes.to_vec() }
}
