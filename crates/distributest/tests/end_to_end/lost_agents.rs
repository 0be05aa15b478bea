//! Tests that bring down what runs them: the run goes on with another agent.

use crate::sandbox::Sandbox;

/// A check that kills the process of the agent that started it, the first time it is run.
const KILLS_ONCE: &str = "mkdir marks 2>/dev/null && kill -9 $PPID; exit 0\n";

/// The same, every time.
const KILLS_ALWAYS: &str = "kill -9 $PPID\n";

#[test]
fn an_agent_that_dies_is_replaced_and_nothing_is_lost() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/a", KILLS_ONCE).file("tests/b", "").file("tests/c", "");
    let (ended, events) = sandbox.run_for_events(&["--runners", "1"]);
    assert_eq!(ended.code(), Some(0), "{}", ended.seen());
    assert_eq!(events.texts("host_changed", "change"), ["away"]);
    assert_eq!(events.of("host_connected").len(), 2);
    let verdicts: Vec<_> = events
        .texts("file_verdict", "file")
        .into_iter()
        .zip(events.texts("file_verdict", "verdict"))
        .collect();
    assert_eq!(verdicts, [("tests/a", "passed"), ("tests/b", "passed"), ("tests/c", "passed")]);
    assert_eq!(events.texts("attempt_finished", "file"), ["tests/a", "tests/a", "tests/b", "tests/c"]);
    sandbox.wait_until_nothing_is_left();
}

#[test]
fn a_file_that_kills_every_agent_is_given_up_and_the_others_run() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/a", KILLS_ALWAYS).file("tests/b", "").file("tests/c", "");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 3
    ----- standard output

    Not run
      1 file: its attempts were interrupted too often, last: the connection to its agent broke
        tests/a
      $ distributest --resume

    Hosts
      localhost  1 runner, 2 files, busy SHARE
        the connection to its agent broke

    3 files: 2 passed, 1 not run; 2 tests: 2 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    3 files
    warning: host localhost: the connection to its agent broke; connecting anew
    warning: host localhost: the connection to its agent broke; connecting anew
    warning: host localhost: the connection to its agent broke; connecting anew
    ");
    sandbox.wait_until_nothing_is_left();
}
