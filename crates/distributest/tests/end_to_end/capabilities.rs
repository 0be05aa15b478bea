//! Machines that have what some files of a run need, and not what others need.

use serde_json::Value;

use crate::sandbox::Sandbox;

/// All that Python tests need.
const NO_RUBY: [&str; 3] = ["sh", "bash", "python3"];

/// A project with Python and Ruby tests.
fn write_both(sandbox: &Sandbox) {
    for number in 0..3 {
        let spec = format!("RSpec.describe('word {number}') {{ it('is one') {{ }} }}\n");
        sandbox.file(format!("spec/word_{number}_spec.rb"), spec);
        sandbox.file(format!("tests/test_{number}.py"), "def test_it(): pass\n");
    }
}

#[test]
fn without_ruby_the_python_tests_run_and_the_specs_are_named() {
    let sandbox = Sandbox::new().with_only(&NO_RUBY);
    write_both(&sandbox);
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 3
    ----- standard output

    Not run
      3 files: no runner could run it: none of these programs is there: ruby, … (install it on this host, or let node_setup append PATH=… to $DISTRIBUTEST_ENV)
        spec/word_0_spec.rb
        spec/word_1_spec.rb
        spec/word_2_spec.rb
      $ distributest --resume

    Hosts
      localhost  1 runner, 3 files, busy SHARE
        runner 1: can't run rspec

    6 files: 3 passed, 3 not run; 3 tests: 3 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    6 files
    warning: localhost can't run rspec: none of these programs is there: ruby, …
             install it on this host, or let node_setup append PATH=… to $DISTRIBUTEST_ENV
    ");
}

#[test]
fn every_runner_finds_out_and_it_is_said_once() {
    let sandbox = Sandbox::new().with_only(&NO_RUBY);
    write_both(&sandbox);
    let (ended, events) = sandbox.run_for_events(&["--runners", "3"]);
    assert_eq!(ended.code(), Some(3), "{}", ended.seen());
    assert_eq!(ended.stderr.matches("localhost can't run rspec").count(), 1, "{}", ended.stderr);
    let mut runners: Vec<_> =
        events.of("launch_unavailable").iter().map(|event| event["runner"].as_u64()).collect();
    runners.sort();
    assert_eq!(runners, [Some(1), Some(2), Some(3)]);
    assert!(events.of("runner_failed").is_empty(), "they go on");
    for verdict in events.of("file_verdict") {
        let expected = match verdict["file"].as_str() {
            Some(path) if path.ends_with(".rb") => ("not run", "no_runner_able"),
            _ => ("passed", ""),
        };
        let said = |field: &str| verdict[field].as_str().unwrap_or_default();
        assert_eq!((said("verdict"), said("reason_kind")), expected, "{verdict}");
    }
    let lost = events.of("attempt_finished").iter().filter(|attempt| attempt["outcome"].is_null()).count();
    assert!(lost <= 3, "no spec is tried twice on a runner: {lost}");
}

#[test]
fn what_is_not_asked_for_need_not_be_there() {
    let sandbox = Sandbox::new().with_only(&NO_RUBY);
    write_both(&sandbox);
    insta::assert_snapshot!(sandbox.run(&["--runners", "2", "tests"]), @"
    exit status: 0
    ----- standard output

    3 files: 3 passed; 3 tests: 3 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    3 files
    ");
}

#[test]
fn the_specs_run_where_one_runner_has_ruby() {
    let sandbox = Sandbox::new().with_only(&NO_RUBY);
    write_both(&sandbox);
    // The first runner's setup finds what the second one's does not; that starts with Ruby's worker.
    let setup =
        "#!/bin/sh\n[ -n \"$TEST_ENV_NUMBER\" ] || echo PATH=$PATH:/usr/bin >> \"$DISTRIBUTEST_ENV\"\n";
    sandbox.program(".distributest/runner_setup", setup);
    let said = sandbox.path("stderr");
    let until_it_is_said = format!("sleep 0.01 until File.read('{}').include?('run rspec')", said.display());
    let spec = format!("RSpec.describe('word 0') {{ it('is one') {{ {until_it_is_said} }} }}\n");
    sandbox.file("spec/word_0_spec.rb", spec);
    let (ended, events) = sandbox.run_for_events(&["--runners", "2"]);
    assert_eq!(ended.code(), Some(0), "{}", ended.seen());
    assert_eq!(events.texts("launch_unavailable", "framework"), ["rspec"]);
    let of_ruby = |attempt: &&&Value| attempt["file"].as_str().is_some_and(|path| path.ends_with(".rb"));
    let attempts = events.of("attempt_finished");
    let specs: Vec<_> = attempts.iter().filter(of_ruby).map(|attempt| attempt["runner"].as_u64()).collect();
    assert_eq!(specs, [Some(1); 3], "none was tried where it can't run");
    assert_eq!(ended.stderr.matches("localhost can't run rspec").count(), 1, "{}", ended.stderr);
}
