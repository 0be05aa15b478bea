//! Files that are tried again, files that are flaky, and runs that end early.

use crate::sandbox::Sandbox;

/// A check that fails the first time, whatever runner and worker it runs on.
const FAILS_ONCE: &str =
    "test -e marks/once || { mkdir -p marks; touch marks/once; echo not yet >&2; exit 1; }\n";

#[test]
fn a_file_that_passes_when_tried_again_is_flaky() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("retries = 1\n").file("tests/once", FAILS_ONCE).file("tests/good", "");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 0
    ----- standard output
    FLAKY tests/once  passed on try 2  (runner 1)
    before that failed tests/once  1 of 1 test failed  (runner 1, TIME)
      exit status 1

      tests/once  tests/once
        exit status 1

      its last output:
        not yet

    Flaky: failed, then passed
      tests/once
        exit status 1
        tests/once: exit status 1
        $ distributest tests/once

    2 files: 1 passed, 1 flaky; 2 tests: 2 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    ");
    let junit = sandbox.path("junit.xml");
    std::fs::remove_dir_all(sandbox.path("project/marks")).expect("forget that it ran");
    sandbox.run(&["--quiet", "--runners", "1", "--junit", junit.to_str().expect("a path in UTF-8")]);
    let junit = sandbox.read("junit.xml");
    assert!(junit.contains("<flakyFailure"), "{junit}");
}

#[test]
fn a_flaky_file_can_be_made_to_count_as_failing() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("retries = 1\nflaky = 'fail'\n").file("tests/once", FAILS_ONCE);
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1"]), @"
    exit status: 1
    ----- standard output
    Flaky: failed, then passed
      tests/once
        exit status 1
        tests/once: exit status 1
        $ distributest tests/once

    1 file: 1 flaky; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
}

#[test]
fn retries_go_by_glob_and_end() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("[retry]\n'tests/flaky*' = 2\n");
    sandbox
        .file("tests/flaky_bad", "echo ran >>runs; exit 1\n")
        .file("tests/good", "echo ran >>good_runs; exit 1\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 1
    ----- standard output
    FAILED tests/good  1 of 1 test failed  (runner 1, TIME)
      exit status 1

      tests/good  tests/good
        exit status 1

    FAILED tests/flaky_bad  1 of 1 test failed  (runner 1, TIME)
      exit status 1

      tests/flaky_bad  tests/flaky_bad
        exit status 1

    before that failed tests/flaky_bad  1 of 1 test failed  (runner 1, TIME)
      exit status 1

      tests/flaky_bad  tests/flaky_bad
        exit status 1

    before that failed tests/flaky_bad  1 of 1 test failed  (runner 1, TIME)
      exit status 1

      tests/flaky_bad  tests/flaky_bad
        exit status 1

    Failed
      tests/good
        exit status 1
        tests/good: exit status 1
        $ distributest tests/good
      tests/flaky_bad
        exit status 1
        tests/flaky_bad: exit status 1
        $ distributest tests/flaky_bad

    2 files: 2 failed; 2 tests: 2 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    ");
    assert_eq!(sandbox.read("project/runs").lines().count(), 3);
    assert_eq!(sandbox.read("project/good_runs").lines().count(), 1);
}

#[test]
fn enough_failures_end_the_run() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("");
    sandbox.file("tests/a", "exit 1\n#########\n").file("tests/b", "exit 1\n##\n").file("tests/c", "");
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1", "--fail-fast"]), @"
    exit status: 1
    ----- standard output
    Failed
      tests/a
        exit status 1
        tests/a: exit status 1
        $ distributest tests/a

    Not run
      2 files: the run ended early because others failed
        tests/b
        tests/c
      $ distributest --resume

    3 files: 1 failed, 2 not run; 1 test: 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1", "--fail-fast=2", "tests/a", "tests/b"]), @"
    exit status: 1
    ----- standard output
    Failed
      tests/a
        exit status 1
        tests/a: exit status 1
        $ distributest tests/a
      tests/b
        exit status 1
        tests/b: exit status 1
        $ distributest tests/b

    2 files: 2 failed; 2 tests: 2 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
}

#[test]
fn a_number_apart_from_its_flag_is_not_taken_for_a_filter() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/a2", "").file("tests/b", "exit 1\n");
    insta::assert_snapshot!(sandbox.run(&["--fail-fast", "2"]), @r#"
    exit status: 2
    ----- standard error
    error: "2" is taken for a part of paths
      hint: write --fail-fast=2, or ./2 for a file of that name
    "#);
}

#[test]
fn what_is_tried_again_runs_on_a_worker_of_its_own() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "retries = 1\nisolation = 'shared'\nframeworks = ['pytest']\n");
    // Fails wherever another test file left something in the process.
    let leaves = "import sys\ndef test_a():\n    sys.left_by_a = 1\n# the bigger file goes first, and this one is bigger\n";
    sandbox.file("tests/test_a.py", leaves);
    sandbox.file("tests/test_b.py", "import sys\ndef test_b():\n    assert not hasattr(sys, 'left_by_a')\n");
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1"]), @"
    exit status: 0
    ----- standard output
    Flaky: failed, then passed
      tests/test_b.py
        test_b: AssertionError: assert not True
        $ distributest tests/test_b.py::test_b

    2 files: 1 passed, 1 flaky; 2 tests: 2 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
}
