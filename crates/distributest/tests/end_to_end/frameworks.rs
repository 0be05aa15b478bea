//! What the configuration says of frameworks: the project's own, several in one project, single tests.

use std::fs;
use std::path::Path;

use crate::sandbox::Sandbox;

/// A sandbox whose project is the repository's example of a framework of one's own.
fn example() -> Sandbox {
    let sandbox = Sandbox::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/own-framework");
    for file in [
        ".distributest/config.toml",
        "tools/checks_worker.pl",
        "checks/arithmetic.check",
        "checks/files.check",
    ] {
        sandbox.file(file, fs::read(example.join(file)).expect("read the example"));
    }
    sandbox
}

#[test]
fn a_framework_of_ones_own_is_told_test_by_test() {
    let sandbox = example();
    sandbox.file("checks/bad.check", "holds: true\nfails: echo why >&2; exit 3\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 1
    ----- standard output
    FAILED checks/bad.check  1 of 2 tests failed  (runner 1, TIME)

      fails  checks/bad.check:2
        exit status 3

      its last output:
        why

    Failed
      checks/bad.check
        fails: exit status 3
        $ distributest checks/bad.check::fails

    3 files: 2 passed, 1 failed; 6 tests: 5 passed, 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    3 files
    ");
}

#[test]
fn a_single_test_of_a_file_is_run_alone() {
    let sandbox = example();
    insta::assert_snapshot!(sandbox.run(&["--runners", "1", "checks/arithmetic.check::adds"]), @"
    exit status: 0
    ----- standard output

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    ");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1", "checks/arithmetic.check::subtracts"]), @"
    exit status: 1
    ----- standard output
    FAILED checks/arithmetic.check  (runner 1, TIME)
      no check is called subtracts

    Failed
      checks/arithmetic.check
        no check is called subtracts
        $ distributest checks/arithmetic.check

    1 file: 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    ");
}

#[test]
fn how_long_some_tests_of_a_file_took_is_not_how_long_it_takes() {
    let sandbox = example();
    sandbox.run(&["--quiet", "checks/arithmetic.check::adds"]);
    insta::assert_snapshot!(sandbox.run(&["--dry-run", "--runners", "1"]), @"
    exit status: 0
    ----- standard output
    2 files, in the order they would be handed out:
         1           ?  checks    checks/files.check
         2           ?  checks    checks/arithmetic.check

    runners:
      localhost: 1
    no earlier run is known: files with shared examples first, then big ones
    ");
}

#[test]
fn several_frameworks_each_with_their_own_files() {
    let sandbox = Sandbox::new();
    sandbox.file(
        ".distributest/config.toml",
        "[framework.one]\nfiles = ['one/*']\ncommand = 'sh {file}'\n\
         [framework.two]\nfiles = ['two/*']\ncommand = 'sh -c \"exit 1\" {file}'\n\
         [framework.three]\nfiles = ['two/*']\ndetect = ['three.conf']\ncommand = 'sh {file}'\n",
    );
    sandbox.file("one/a", "").file("two/b", "");
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1"]), @"
    exit status: 1
    ----- standard output
    Failed
      two/b
        exit status 1
        two/b: exit status 1
        $ distributest two/b

    2 files: 1 passed, 1 failed; 2 tests: 1 passed, 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1", "--framework", "one"]), @"
    exit status: 0
    ----- standard output
    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
}

#[test]
fn what_a_framework_can_not_have_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.file(
        ".distributest/config.toml",
        "[framework.one]\nfiles = ['one/*']\nisolation = 'fork'\ncommand = 'sh {file}'\n",
    );
    sandbox.file("one/a", "");
    insta::assert_snapshot!(sandbox.run(&[]), @r#"
    exit status: 2
    ----- standard error
    error: the files of one can't be kept apart by isolation = "fork"
      hint: each of them has a process of its own anyway: remove `isolation`
    "#);
    sandbox.file(".distributest/config.toml", "[framework.one]\nfiles = ['ones/*']\ncommand = 'sh {file}'\n");
    insta::assert_snapshot!(sandbox.run(&[]), @r#"
    exit status: 2
    ----- standard error
    error: the glob "ones/*" of `files` matches no file
      hint: globs are relative to the project; `distributest config` shows where this one was set
    "#);
}

#[test]
fn globs_and_arguments_are_checked_for_each_of_several_frameworks() {
    let sandbox = Sandbox::new();
    let one = "[framework.one]\nfiles = ['one/*']\ncommand = 'sh {file}'\n";
    sandbox.file(
        ".distributest/config.toml",
        format!("{one}[framework.two]\nfiles = ['two/*']\ncommand = 'sh {{file}}'\n"),
    );
    sandbox.file("one/a", "test \"$1\" = argument\n");
    insta::assert_snapshot!(sandbox.run(&[]), @r#"
    exit status: 2
    ----- standard error
    error: the glob "two/*" of `files` matches no file
      hint: globs are relative to the project; `distributest config` shows where this one was set
    "#);
    sandbox.file("two/b", "");
    insta::assert_snapshot!(sandbox.run(&["--", "argument"]), @"
    exit status: 2
    ----- standard error
    error: what follows -- is for one framework, but this run has files of one and two
      hint: choose one with --framework, or set `arguments` below [framework.one] in the configuration
    ");
    insta::assert_snapshot!(sandbox.run(&["--quiet", "one", "--", "argument"]), @"
    exit status: 0
    ----- standard output
    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ");
}

#[test]
fn a_file_given_by_name_goes_to_the_framework_that_takes_it_for_a_test() {
    let sandbox = Sandbox::new();
    sandbox.file(".rspec", "").file("spec/a_spec.rb", "RSpec.describe('a') { it('holds') {} }\n");
    sandbox.file(
        "test/b_test.rb",
        "require 'minitest/autorun'\nclass BTest < Minitest::Test; def test_b; end; end\n",
    );
    insta::assert_snapshot!(sandbox.run(&["--dry-run", "--runners", "1", "test/b_test.rb", "spec/a_spec.rb"]), @"
    exit status: 0
    ----- standard output
    2 files, in the order they would be handed out:
         1           ?  minitest  test/b_test.rb
         2           ?  rspec     spec/a_spec.rb

    runners:
      localhost: 1
    no earlier run is known: files with shared examples first, then big ones
    ");
}
