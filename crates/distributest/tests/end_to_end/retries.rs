//! Files that are tried again, files that are flaky, and runs that end early.

use crate::sandbox::Sandbox;

/// A check that fails the first time, whatever runner and worker it runs on.
const FAILS_ONCE: &str =
    "test -e marks/once || { mkdir -p marks; touch marks/once; echo not yet >&2; exit 1; }\n";

#[test]
fn a_file_that_passes_when_tried_again_is_flaky() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("retries = 1\n").file("tests/once", FAILS_ONCE).file("tests/good", "");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"");
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
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1"]), @"");
}

#[test]
fn retries_go_by_glob_and_end() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("[retry]\n'tests/flaky*' = 2\n");
    sandbox
        .file("tests/flaky_bad", "echo ran >>runs; exit 1\n")
        .file("tests/good", "echo ran >>good_runs; exit 1\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"");
    assert_eq!(sandbox.read("project/runs").lines().count(), 3);
    assert_eq!(sandbox.read("project/good_runs").lines().count(), 1);
}

#[test]
fn enough_failures_end_the_run() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("");
    sandbox.file("tests/a", "exit 1\n#########\n").file("tests/b", "exit 1\n##\n").file("tests/c", "");
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1", "--fail-fast"]), @"");
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1", "--fail-fast=2", "tests/a", "tests/b"]), @"");
}

#[test]
fn what_is_tried_again_runs_on_a_worker_of_its_own() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "retries = 1\nisolation = 'shared'\nframeworks = ['pytest']\n");
    sandbox.file("conftest.py", "import os\nshared = {'pid': os.getpid()}\n");
    // Fails wherever another test file left something in the process.
    sandbox
        .file("tests/test_a.py", "import conftest\ndef test_a():\n    conftest.shared['a'] = 1\n#########\n");
    sandbox
        .file("tests/test_b.py", "import conftest\ndef test_b():\n    assert 'a' not in conftest.shared\n");
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1"]), @"");
}
