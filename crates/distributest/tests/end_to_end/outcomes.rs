//! What tests can come out as: every suite of the testkit against its model, and what outlives, hangs or floods.

use std::time::Duration;

use distributest_testkit::suites::{DurationPlan, Flavour, Mixture, Shape, Suite, SuitePlan};
use serde_json::Value;

use crate::sandbox::{Events, Sandbox};

/// More than any process of a run may need, less than the flood it is tested with.
const MEMORY_LIMIT_KIB: u64 = 64 * 1024;

#[test]
fn every_file_and_test_of_a_pytest_suite_comes_out_as_its_model_says() {
    agrees_with_its_model(Flavour::Pytest);
}

#[test]
fn every_file_and_test_of_an_rspec_suite_comes_out_as_its_model_says() {
    agrees_with_its_model(Flavour::Rspec);
}

#[test]
fn every_file_of_a_command_suite_comes_out_as_its_model_says() {
    agrees_with_its_model(Flavour::Command);
}

fn agrees_with_its_model(flavour: Flavour) {
    let sandbox = Sandbox::new();
    let longest = Duration::from_millis(50);
    let durations = DurationPlan { files: 12, shape: Shape::Uniform, longest, total: None };
    let plan = SuitePlan { flavour, seed: 1, durations, mixture: Mixture::EveryKind };
    let suite = plan.write(&sandbox.path("project")).expect("write the suite");
    let (ended, events) = sandbox.run_for_events(&["--runners", "2"]);
    assert_eq!(ended.code(), Some(1), "{}", ended.seen());
    assert_eq!(results(&events), expected(&suite));
}

/// Path, verdict, and id and status of each test.
type FileResult = (String, String, Vec<(String, String)>);

fn expected(suite: &Suite) -> Vec<FileResult> {
    let files = suite.files.iter().map(|file| {
        let tests = file.tests.iter().map(|test| (test.id.clone(), test.status.word().to_owned()));
        (file.path.clone(), file.outcome().word().to_owned(), tests.collect())
    });
    files.collect()
}

fn results(events: &Events) -> Vec<FileResult> {
    let text = |event: &Value, field: &str| event[field].as_str().expect("it is text").to_owned();
    let all_tests = events.of("test_finished");
    let files = events.of("file_verdict").into_iter().map(|verdict| {
        let tests = all_tests.iter().filter(|test| test["attempt"] == verdict["attempt"]);
        let tests = tests.map(|test| (text(test, "id"), text(test, "status")));
        (text(verdict, "file"), text(verdict, "verdict"), tests.collect())
    });
    let mut files: Vec<FileResult> = files.collect();
    files.sort();
    files
}

#[test]
fn a_crash_names_the_signal_and_the_tests_before_it() {
    let sandbox = Sandbox::new();
    let text = "import os, signal\n\ndef test_passes(): pass\n\n\
                def test_crashes():\n    print('going down')\n    os.kill(os.getpid(), signal.SIGKILL)\n";
    sandbox.file("test_crash.py", text).file("test_other.py", "def test_other(): pass\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 1
    ----- standard output
    CRASHED test_crash.py  after 2 tests, 1 of them failed  (runner 1, TIME)
      the process running this file died of signal 9 (SIGKILL) while test_crash.py::test_crashes ran

      test_crashes  test_crash.py:5
        the process running this file died of signal 9 (SIGKILL) while test_crash.py::test_crashes ran

      its last output:
        going down

    Crashed
      test_crash.py
        the process running this file died of signal 9 (SIGKILL) while test_crash.py::test_crashes ran
        test_crashes: the process running this file died of signal 9 (SIGKILL) while test_crash.py::te…
        $ distributest test_crash.py

    2 files: 1 passed, 1 crashed; 3 tests: 2 passed, 1 error
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    ");
}

#[test]
fn what_fails_when_a_session_ends_makes_the_run_fail() {
    let sandbox = Sandbox::new();
    let conftest = "import pytest\n\n@pytest.fixture(scope='session', autouse=True)\n\
                    def server():\n    yield\n    import time; time.sleep(4)\n    raise RuntimeError('it does not stop')\n";
    sandbox.file("conftest.py", conftest).file("test_a.py", "def test_a(): pass\n");
    let arguments = ["--runners", "1", "--isolation", "shared", "--junit", "junit.xml", "--quiet"];
    insta::assert_snapshot!(sandbox.run(&arguments), @"
    exit status: 1
    ----- standard output
    Failed behind the last file
      pytest worker of localhost runner 1
        when the session ended: RuntimeError: it does not stop

    1 file: 1 passed; 1 test: 1 passed; 1 worker failed behind the last file
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
    let junit = std::fs::read_to_string(sandbox.path("project/junit.xml")).expect("read the report");
    assert!(junit.contains("it does not stop"), "{junit}");
}

#[test]
fn a_file_that_ignores_sigterm_is_ended_at_its_time_limit_with_its_daemon() {
    let sandbox = Sandbox::new();
    let text = "import os, signal, subprocess, time\n\n\
                def test_passes(): pass\n\n\
                def test_hangs():\n    \
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    \
                    subprocess.Popen('trap : TERM; while :; do sleep 1000; done', shell=True, start_new_session=True)\n    \
                    print('hanging', flush=True)\n    \
                    while True: time.sleep(1000)\n";
    sandbox.file("test_hang.py", text).file("test_other.py", "def test_other(): pass\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1", "--timeout", "2s"]), @r#"
    exit status: 1
    ----- standard output
    TIMED OUT test_hang.py  after 2 tests, 1 of them failed  (runner 1, TIME)
      no output for 2s, while test_hang.py::test_hangs ran

      test_hangs  test_hang.py:5
        timed out

      its last output:
        distributest: no output for 2s; its processes:
        PID STATE: /usr/bin/python3 SANDBOX/tmp/distributest-agent-NAME/0-pytest_worker.py
        PID STATE: /usr/bin/python3 SANDBOX/tmp/distributest-agent-NAME/0-pytest_worker.py
        PID STATE: /bin/sh -c trap : TERM; while :; do sleep 1000; done
        PID STATE: sleep 1000
        hanging
        Current thread ADDRESS (most recent call first):
          File "SANDBOX/project/test_hang.py", line 9 in test_hangs
          … called by MANY more

    Timed out
      test_hang.py
        no output for 2s, while test_hang.py::test_hangs ran
        test_hangs: timed out
        $ distributest test_hang.py

    2 files: 1 passed, 1 timed out; 3 tests: 2 passed, 1 error
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    "#);
}

#[test]
fn a_test_that_hangs_is_named_whatever_the_isolation() {
    for isolation in ["fork", "shared", "process"] {
        let sandbox = Sandbox::new();
        let ignores = "signal.signal(signal.SIGTERM, signal.SIG_IGN)";
        sandbox.file(
            "tests/test_hang.py",
            format!("import signal, time\n\ndef test_hangs():\n    {ignores}\n    time.sleep(1000)\n"),
        );
        let ignores = "trap('TERM', 'IGNORE')";
        sandbox.file(
            "spec/hang_spec.rb",
            format!("RSpec.describe('it') {{ it('hangs') {{ {ignores}; sleep 1000 }} }}\n"),
        );
        let (ended, events) =
            sandbox.run_for_events(&["--runners", "2", "--timeout", "2s", "--isolation", isolation]);
        assert_eq!(ended.code(), Some(1), "{}", ended.seen());
        let mut tests: Vec<_> = events.of("test_finished").iter().map(|test| words_of(test)).collect();
        tests.sort();
        let pytest = ("tests/test_hang.py::test_hangs", "error", "timed out");
        assert_eq!(tests, [("./spec/hang_spec.rb[1:1]", "error", "timed out"), pytest], "{isolation}");
        for attempt in events.of("attempt_finished") {
            let (outcome, message) = (attempt["outcome"].as_str(), attempt["message"].as_str());
            assert_eq!(outcome, Some("timed out"));
            let named = |(id, ..): &(&str, &str, &str)| message.is_some_and(|message| message.contains(id));
            assert!(tests.iter().any(named), "{isolation}: {message:?}");
        }
        let log = String::from_utf8_lossy(&sandbox.log()).into_owned();
        for call in ["test_hang.py\", line 5 in test_hangs", "hang_spec.rb:1:in "] {
            assert!(log.contains(call), "{isolation}: {call} is not in {log}");
        }
    }
}

#[test]
fn a_test_that_closes_every_descriptor_and_hangs_is_ended_and_named() {
    for isolation in ["fork", "shared"] {
        let sandbox = Sandbox::new();
        let text =
            "import os, time\n\ndef test_closes():\n    os.closerange(0, 1024)\n    time.sleep(1000)\n";
        sandbox.file("test_close.py", text).file("test_other.py", "def test_other(): pass\n");
        let arguments = ["--runners", "1", "--timeout", "2s", "--isolation", isolation];
        let (ended, events) = sandbox.run_for_events(&arguments);
        assert_eq!(ended.code(), Some(1), "{}", ended.seen());
        let attempts = events.of("attempt_finished");
        let mut outcomes: Vec<_> =
            attempts.iter().filter_map(|attempt| attempt["outcome"].as_str()).collect();
        outcomes.sort_unstable();
        assert_eq!(outcomes, ["passed", "timed out"], "{isolation}: {}", ended.seen());
        let tests = events.of("test_finished");
        let closes = tests.iter().map(|test| words_of(test)).find(|(id, ..)| id.ends_with("test_closes"));
        assert_eq!(closes, Some(("test_close.py::test_closes", "error", "timed out")), "{isolation}");
    }
}

/// Id, status and message of a test.
fn words_of(test: &Value) -> (&str, &str, &str) {
    let word = |field: &str| test[field].as_str().unwrap_or_default();
    (word("id"), word("status"), word("message"))
}

#[test]
fn a_command_is_ended_at_its_time_limit_with_all_it_started() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("");
    let text = "trap '' TERM\n(setsid sleep 1000 &)\necho hanging\nwhile :; do sleep 1000; done\n";
    sandbox.file("tests/hang", text);
    insta::assert_snapshot!(sandbox.run(&["--timeout", "1s"]), @"
    exit status: 1
    ----- standard output
    TIMED OUT tests/hang  (runner 1, TIME)
      no output for 1s

      its last output:
        hanging
        distributest: no output for 1s; its processes:
        PID STATE: bash tests/hang
        PID STATE: sleep 1000
        PID STATE: sleep 1000

    Timed out
      tests/hang
        no output for 1s
        $ distributest tests/hang

    1 file: 1 timed out
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    ");
}

#[test]
fn processes_that_outlive_their_file_are_named_and_killed() {
    let sandbox = Sandbox::new();
    sandbox.file(
        "tests/test_leak.py",
        "import subprocess\n\ndef test_leaks():\n    \
             subprocess.Popen(['sleep', '1001'], start_new_session=True)\n",
    );
    sandbox.file("spec/leak_spec.rb", "RSpec.describe('leak') { it('leaks') { spawn('sleep', '1002') } }\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 0
    ----- standard output

    Processes left running by tests, killed
      tests/test_leak.py on localhost runner 1
        PID sleep 1001
      spec/leak_spec.rb on localhost runner 1
        PID sleep 1002

    2 files: 2 passed; 2 tests: 2 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    ");
}

#[test]
fn a_flood_of_output_is_whole_in_the_log_and_nobody_grows_with_it() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("");
    let flood = "head -c 100000000 /dev/zero | tr '\\0' x\ntouch flooded\nuntil [ -e go ]; do sleep 0.01; done\nexit 1\n";
    sandbox.file("tests/flood", flood);
    let mut running = sandbox.start(sandbox.command(&["--runners", "1"]));
    running.wait_for_file("flooded");
    let peaks: Vec<u64> = running.family().iter().map(|pid| peak_memory_kib(*pid)).collect();
    sandbox.file("go", "");
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"x{1000,8192} … \(\d+ ", "THOUSANDS-OF-X … (MANY ");
    settings.bind(|| {
        insta::assert_snapshot!(running.wait().seen(), @"
        exit status: 1
        ----- standard output
        FAILED tests/flood  1 of 1 test failed  (runner 1, TIME)
          exit status 1

          tests/flood  tests/flood
            exit status 1

          its last output:
            THOUSANDS-OF-X … (MANY more characters in the log)

        Failed
          tests/flood
            exit status 1
            tests/flood: exit status 1
            $ distributest tests/flood

        1 file: 1 failed; 1 test: 1 failed
        TIME; testing took TIME, RATIO × the least possible TIME
        log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
        ----- standard error
        1 file
        ")
    });
    assert!(peaks.len() >= 3, "coordinator, guardian and agent: {peaks:?}");
    assert!(peaks.iter().all(|peak| *peak < MEMORY_LIMIT_KIB), "KiB at their peaks: {peaks:?}");
    let log = sandbox.log();
    let title: &[u8] = b"==> host localhost runner 1 tests/flood (100000000 bytes)\n";
    let start = find(&log[..4096], title).expect("there is a block") + title.len();
    let (flood, rest) = log[start..].split_at(100_000_000);
    assert!(flood == vec![b'x'; 100_000_000]);
    assert!(rest.starts_with(b"\n--- "));
}

/// The most memory a process has had so far.
fn peak_memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[test]
fn binary_output_is_whole_in_the_log_and_harmless_on_the_console() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("");
    let every_byte: Vec<u8> = (0..=255).collect();
    sandbox.file("every-byte", &every_byte).file("tests/binary", "cat every-byte; exit 1\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @r##"
    exit status: 1
    ----- standard output
    FAILED tests/binary  1 of 1 test failed  (runner 1, TIME)
      exit status 1

      tests/binary  tests/binary
        exit status 1

      its last output:
        ^@^A^B^C^D^E^F^G^H
        ^K^L^M^N^O^P^Q^R^S^T^U^V^W^X^Y^Z^[^\^]^^^_ !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefghijklmnopqrstuvwxyz{|}~^?��������������������������������������������������������������������������������������������������������������������������������

    Failed
      tests/binary
        exit status 1
        tests/binary: exit status 1
        $ distributest tests/binary

    1 file: 1 failed; 1 test: 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    "##);
    assert!(find(&sandbox.log(), &every_byte).is_some(), "every byte is in the log");
}
