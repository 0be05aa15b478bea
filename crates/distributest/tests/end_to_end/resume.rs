//! `--resume`: a run that was killed, interrupted or left without runners is continued, and nothing is run twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::sandbox::{Events, Running, Sandbox};

/// Notes that it was run, in a directory that no run copies or counts.
const NOTES: &str = "echo ${0##*/} >> ran\n";

/// Says that it is here and waits until it may end.
const WAITS: &str = "touch started\nuntil [ -e go ]; do sleep 0.01; done\n";

/// A project whose tests note that they were run: one fails, one is flaky with a retry, one passes, one waits, and two
/// come after it. Bigger ones go first, and what is tried again before anything else may wait for its turn.
fn waiting_project() -> Sandbox {
    let sandbox = Sandbox::new();
    let test = |name: &str, size: usize, text: &str| {
        sandbox.file(format!("tests/{name}"), format!("{NOTES}{text}{}", "# bigger\n".repeat(size)));
    };
    sandbox.shell_tests("[retry]\n\"tests/2-flaky\" = 1\n");
    test("1-fails", 600, "exit 1\n");
    test("2-flaky", 700, "[ -e flaked ] || { touch flaked; exit 1; }\n");
    test("3-passes", 400, "");
    test("4-waits", 300, WAITS);
    test("5-passes", 200, "");
    test("6-passes", 100, "");
    sandbox
}

/// Starts a run of it and waits until it hangs in the fourth file, with the results of those before it written down.
fn waiting<'sandbox>(sandbox: &'sandbox Sandbox, arguments: &[&str]) -> Running<'sandbox> {
    let mut running = sandbox.start(sandbox.command(&[&["--runners", "1"], arguments].concat()));
    running.wait_for_file("started");
    fs::remove_file(sandbox.path("project/started")).expect("it was there");
    running.wait_until("journal of three files", || files_in_journals(sandbox) == 3);
    running
}

/// Kills a run of it in the fourth file; what waited may end in the next one.
fn kill(sandbox: &Sandbox, arguments: &[&str]) {
    let running = waiting(sandbox, arguments);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code(), None);
    sandbox.file("go", "");
}

/// How often each file was run.
fn ran(sandbox: &Sandbox) -> String {
    let mut times = BTreeMap::<String, u32>::new();
    for name in sandbox.read("project/ran").lines() {
        *times.entry(name.to_owned()).or_default() += 1;
    }
    times.iter().map(|(name, times)| format!("{name}: {times}")).collect::<Vec<_>>().join(", ")
}

/// Each file with its verdict, by path, and whether each has exactly one.
fn verdicts(events: &Events) -> String {
    let mut verdicts: Vec<String> = events
        .of("file_verdict")
        .into_iter()
        .map(|event| format!("{} {}", event["file"], event["verdict"]).replace('"', ""))
        .collect();
    verdicts.sort();
    assert_eq!(verdicts.len() as u64, events.summary()["files"].as_u64().expect("a number"));
    verdicts.join(", ")
}

fn journals(sandbox: &Sandbox) -> Vec<PathBuf> {
    let entries = fs::read_dir(sandbox.path("home/.local/state/distributest/journals"));
    entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn files_in_journals(sandbox: &Sandbox) -> usize {
    let texts = journals(sandbox).into_iter().map(|path| fs::read_to_string(path).unwrap_or_default());
    texts.map(|text| text.matches("{\"finished\"").count()).sum()
}

/// The name and the counts of each test suite of a JUnit report.
fn suites(report: &str) -> String {
    let suite = |line: &str| {
        let (suite, _) = line.trim().strip_prefix("<testsuite name=")?.split_once(" time=")?;
        Some(suite.replace('"', ""))
    };
    report.lines().filter_map(suite).collect::<Vec<_>>().join("\n")
}

const ALL_DONE: &str = "tests/1-fails failed, tests/2-flaky flaky, tests/3-passes passed, tests/4-waits passed, \
                        tests/5-passes passed, tests/6-passes passed";

#[test]
fn a_killed_run_is_continued() {
    let sandbox = waiting_project();
    let report = sandbox.path("report.xml");
    kill(&sandbox, &["--junit", report.to_str().expect("it is UTF-8")]);
    assert!(!report.exists());
    let (ended, events) = sandbox.run_for_events(&["--resume"]);
    insta::assert_snapshot!(ended.seen(), @"
    exit status: 1
    ----- standard output
    FLAKY tests/2-flaky  passed on try 2  (runner 1 in the former run)
    before that failed tests/2-flaky  1 of 1 test failed  (runner 1 in the former run, TIME)
      exit status 1

      tests/2-flaky  tests/2-flaky
        exit status 1

    FAILED tests/1-fails  1 of 1 test failed  (runner 1 in the former run, TIME)
      exit status 1

      tests/1-fails  tests/1-fails
        exit status 1

    Failed
      tests/1-fails
        exit status 1
        tests/1-fails: exit status 1
        $ distributest tests/1-fails

    Flaky: failed, then passed
      tests/2-flaky
        exit status 1
        tests/2-flaky: exit status 1
        $ distributest tests/2-flaky

    6 files: 4 passed, 1 failed, 1 flaky; 6 tests: 5 passed, 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    6 files
    resuming run RUN, begun TIME ago: 3 of 6 files are done (1 failed), 3 to run
    ");
    // Only what was at work when it was killed is run twice, and what is tried again.
    insta::assert_snapshot!(ran(&sandbox), @"1-fails: 1, 2-flaky: 2, 3-passes: 1, 4-waits: 2, 5-passes: 1, 6-passes: 1");
    assert_eq!(verdicts(&events), ALL_DONE);
    // Written where the killed run was told to.
    insta::assert_snapshot!(suites(&sandbox.read("report.xml")), @"
    tests/4-waits tests=1 skipped=0 errors=0 failures=0
    tests/5-passes tests=1 skipped=0 errors=0 failures=0
    tests/6-passes tests=1 skipped=0 errors=0 failures=0
    tests/2-flaky tests=1 skipped=0 errors=0 failures=0
    tests/1-fails tests=1 skipped=0 errors=0 failures=1
    tests/3-passes tests=1 skipped=0 errors=0 failures=0
    ");
    assert!(journals(&sandbox).is_empty(), "nothing is left to continue");
}

#[test]
fn nothing_to_continue() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/passes", "");
    insta::assert_snapshot!(sandbox.run(&["--resume"]), @"
    exit status: 2
    ----- standard error
    error: cannot resume: there is no unfinished run of this project
      hint: without --resume everything is run
    ");
    sandbox.run(&["--runners", "1"]);
    insta::assert_snapshot!(sandbox.run(&["--resume"]), @"
    exit status: 2
    ----- standard error
    error: cannot resume: there is no unfinished run of this project
      hint: without --resume everything is run
    ");
}

#[test]
fn what_to_run_is_not_chosen_anew() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(sandbox.run(&["--resume", "tests/passes"]), @"
    exit status: 2
    ----- standard error
    error: the argument '--resume' cannot be used with '[PATHS|FILTERS]...'

    Usage: distributest --resume [PATHS|FILTERS]... [-- <FRAMEWORK ARGS>...]

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(sandbox.run(&["--resume", "--files", "*.sh"]), @"
    exit status: 2
    ----- standard error
    error: the argument '--resume' cannot be used with '--files <GLOB>'

    Usage: distributest --resume [PATHS|FILTERS]... [-- <FRAMEWORK ARGS>...]

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(sandbox.run(&["--resume", "--", "--tag", "slow"]), @"
    exit status: 2
    ----- standard error
    error: the argument '--resume' cannot be used with '[FRAMEWORK ARGS]...'

    Usage: distributest --resume [PATHS|FILTERS]... [-- <FRAMEWORK ARGS>...]

    For more information, try '--help'.
    ");
}

#[test]
fn an_interrupted_run_is_continued() {
    let sandbox = waiting_project();
    let running = waiting(&sandbox, &[]);
    running.signal(Signal::INT);
    assert_eq!(running.wait().code(), Some(130));
    sandbox.file("go", "");
    let (ended, events) = sandbox.run_for_events(&["--resume", "--quiet"]);
    assert_eq!(ended.code(), Some(1), "{}", ended.seen());
    insta::assert_snapshot!(ran(&sandbox), @"1-fails: 1, 2-flaky: 2, 3-passes: 1, 4-waits: 2, 5-passes: 1, 6-passes: 1");
    assert_eq!(verdicts(&events), ALL_DONE);
}

/// The second time, what the first two found out is told together.
#[test]
fn a_continued_run_is_continued() {
    let sandbox = waiting_project();
    let running = waiting(&sandbox, &[]);
    running.signal(Signal::KILL);
    running.wait();
    let running = sandbox.start(sandbox.command(&["--resume"]));
    running.wait_until("fourth file at work", || sandbox.path("project/started").exists());
    running.signal(Signal::KILL);
    running.wait();
    sandbox.file("go", "");
    let (ended, events) = sandbox.run_for_events(&["--resume", "--quiet"]);
    assert_eq!(ended.code(), Some(1), "{}", ended.seen());
    insta::assert_snapshot!(ran(&sandbox), @"1-fails: 1, 2-flaky: 2, 3-passes: 1, 4-waits: 3, 5-passes: 1, 6-passes: 1");
    assert_eq!(verdicts(&events), ALL_DONE);
    assert_eq!(events.of("run_resumed")[0]["logs"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_run_that_goes_on_is_left_alone() {
    let sandbox = waiting_project();
    let running = waiting(&sandbox, &[]);
    let other = sandbox.command(&["--resume"]).output().expect("run distributest");
    assert_eq!(other.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8_lossy(&other.stderr), @"
    error: cannot resume: the run RUN of this project is still going on (process PID)
      hint: wait for its end, or stop it with Ctrl-C first
    ");
    sandbox.file("go", "");
    assert_eq!(running.wait().code(), Some(1));
    insta::assert_snapshot!(ran(&sandbox), @"1-fails: 1, 2-flaky: 2, 3-passes: 1, 4-waits: 1, 5-passes: 1, 6-passes: 1");
}

#[test]
fn what_has_changed_is_run_again() {
    let sandbox = waiting_project();
    kill(&sandbox, &[]);
    sandbox.file("tests/1-fails", format!("{NOTES}# mended\n"));
    fs::remove_file(sandbox.path("project/tests/5-passes")).expect("it was there");
    sandbox.file("tests/7-new", NOTES);
    let (ended, events) = sandbox.run_for_events(&["--resume", "--quiet"]);
    assert_eq!(ended.code(), Some(0), "{}", ended.seen());
    insta::assert_snapshot!(ran(&sandbox), @"1-fails: 2, 2-flaky: 2, 3-passes: 1, 4-waits: 2, 6-passes: 1, 7-new: 1");
    insta::assert_snapshot!(verdicts(&events), @"tests/1-fails passed, tests/2-flaky flaky, tests/3-passes passed, tests/4-waits passed, tests/6-passes passed, tests/7-new passed");
    assert_eq!(events.of("run_resumed")[0]["changed"], 1);
}

#[test]
fn what_is_run_in_another_way_is_run_again() {
    let sandbox = waiting_project();
    kill(&sandbox, &[]);
    sandbox.file(".distributest/config.toml", "files = [\"tests/*\"]\ncommand = \"bash -u {file}\"\n");
    let (ended, events) = sandbox.run_for_events(&["--resume", "--quiet"]);
    assert_eq!(ended.code(), Some(1), "{}", ended.seen());
    assert_eq!(events.of("run_resumed")[0]["changed"], 3);
    insta::assert_snapshot!(ran(&sandbox), @"1-fails: 2, 2-flaky: 3, 3-passes: 2, 4-waits: 2, 5-passes: 1, 6-passes: 1");
}

/// Between a long run that was killed and its continuation somebody runs one file, to look at it.
#[test]
fn a_run_of_something_else_in_between_does_no_harm() {
    let sandbox = waiting_project();
    kill(&sandbox, &[]);
    sandbox.run(&["--runners", "1", "tests/3-passes"]);
    let (ended, events) = sandbox.run_for_events(&["--resume", "--quiet"]);
    assert_eq!(ended.code(), Some(1), "{}", ended.seen());
    assert_eq!(verdicts(&events), ALL_DONE);
}

#[test]
fn a_later_run_of_the_same_leaves_nothing_to_continue() {
    let sandbox = waiting_project();
    kill(&sandbox, &[]);
    sandbox.run(&["--runners", "1"]);
    assert!(journals(&sandbox).is_empty());
}

#[test]
fn the_plan_shows_what_is_left() {
    let sandbox = waiting_project();
    kill(&sandbox, &[]);
    insta::assert_snapshot!(sandbox.run(&["--resume", "--dry-run"]), @"
    exit status: 0
    ----- standard output
    3 files, in the order they would be handed out:
         1           ?  command   tests/4-waits
         2           ?  command   tests/5-passes
         3           ?  command   tests/6-passes
         -  not run again: 3 files that the run to resume has finished

    runners:
      localhost: 1
    no earlier run is known: files with shared examples first, then big ones
    ");
    assert_eq!(journals(&sandbox).len(), 1, "looking at it is not continuing it");
}

/// What the tests of a file said is there with all its words, as if the run had never been killed.
#[test]
fn tests_keep_their_names_and_messages() {
    let sandbox = Sandbox::new();
    let text =
        "import pytest\n\n\n@pytest.mark.parametrize('n', [1, 2])\ndef test_sum(n):\n    assert n + n == 2\n";
    sandbox.file("test_a.py", format!("{text}{}", "# bigger\n".repeat(100)));
    let waits = "import os, pathlib, time\n\n\ndef test_waits():\n    pathlib.Path('started').touch()\n    \
                 while not os.path.exists('go'):\n        time.sleep(0.01)\n";
    sandbox.file("test_b.py", waits);
    let running = sandbox.start(sandbox.command(&["--runners", "1"]));
    running.wait_until("journal of a file", || {
        sandbox.path("project/started").exists() && files_in_journals(&sandbox) == 1
    });
    running.signal(Signal::KILL);
    running.wait();
    sandbox.file("go", "");
    let (ended, events) = sandbox.run_for_events(&["--resume"]);
    assert_eq!(ended.code(), Some(1));
    let tests = events.of("test_finished").into_iter();
    let tests: Vec<String> =
        tests.map(|test| format!("{} {}: {}", test["id"], test["status"], test["message"])).collect();
    insta::assert_snapshot!(tests.join("\n"), @r#"
    "test_a.py::test_sum[1]" "passed": ""
    "test_a.py::test_sum[2]" "failed": "assert (2 + 2) == 2"
    "test_b.py::test_waits" "passed": ""
    "#);
    assert!(ended.stdout.contains("n = 2"), "the details are shown: {}", ended.stdout);
}

#[test]
fn a_journal_that_cannot_be_written_costs_a_warning() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/fails", "exit 1\n");
    let state = sandbox.path("home/.local/state/distributest");
    fs::create_dir_all(&state).expect("make a directory");
    fs::write(state.join("journals"), "no directory").expect("write a file");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1", "--quiet"]), @"
    exit status: 1
    ----- standard output

    Failed
      tests/fails
        exit status 1
        tests/fails: exit status 1
        $ distributest tests/fails

    1 file: 1 failed; 1 test: 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    warning: failed to make the directory SANDBOX/home/.local/state/distributest/journals for journals: File exists (os error 17); --resume will not know all that this run finished
    ");
    insta::assert_snapshot!(sandbox.run(&["--resume"]), @"
    exit status: 2
    ----- standard error
    error: cannot resume: open SANDBOX/home/.local/state/distributest/journals
      caused by: Not a directory (os error 20)
      hint: run without --resume, from the start
    ");
}

/// Its log holds what it wrote from its first beginning on.
#[test]
fn a_log_with_a_name_of_its_own_is_continued() {
    let sandbox = waiting_project();
    sandbox.file("tests/3-passes", format!("{NOTES}echo spoken by the third\n{}", "# bigger\n".repeat(400)));
    let log = sandbox.path("all.log");
    kill(&sandbox, &["--log-file", log.to_str().expect("it is UTF-8")]);
    let ended = sandbox.finish(sandbox.command(&["--resume", "--quiet"]));
    assert_eq!(ended.code(), Some(1), "{}", ended.seen());
    let text = sandbox.read("all.log");
    assert!(text.contains("\nspoken by the third\n"), "{text}");
    assert!(text.contains("\n<== host localhost runner 1 tests/6-passes: passed"), "{text}");
}
