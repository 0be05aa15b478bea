//! `node_setup` and `runner_setup`: whose they are, what they are given, what they give, and when they fail.

use crate::sandbox::Sandbox;

/// Says who ran, where, and with which argument and environment; gives the tests a variable.
const NODE_SETUP: &str = "\
#!/bin/sh
echo \"$0\" \"$@\"
pwd
echo FROM_NODE=node >> \"$DISTRIBUTEST_ENV\"
";

const RUNNER_SETUP: &str = "\
#!/bin/sh
echo the hook of the project, after $FROM_NODE
[ $# -eq 1 ] && [ \"$1\" = \"$DISTRIBUTEST_RUNNER\" ] && [ \"${1}_\" = \"$DB_PREFIX\" ] || exit 1
echo \"FROM_RUNNER=the runner $1\" >> \"$DISTRIBUTEST_ENV\"
";

#[test]
fn the_systems_hooks_run_unless_the_project_has_its_own() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").system_program("node_setup", NODE_SETUP);
    sandbox.system_program("runner_setup", "#!/bin/sh\necho the hook of the system\n");
    sandbox.program(".distributest/runner_setup", RUNNER_SETUP);
    sandbox.file("tests/a", "[ \"$FROM_NODE, $FROM_RUNNER\" = \"node, the runner $DISTRIBUTEST_RUNNER\" ]\n");
    insta::assert_snapshot!(sandbox.run(&["--verbose", "--runners", "1"]), @"
    exit status: 0
    ----- standard output
    passed    tests/a  (TIME, 1 test, runner 1)

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    run RUN of project: 1 file
    localhost: connecting
    localhost: private agent 0.1.0, CORES, 1 runner
    localhost: preparing
    localhost: node_setup done in TIME
    localhost runner 1: runner_setup done in TIME
    ");
    let log = String::from_utf8_lossy(&sandbox.log()).into_owned();
    insta::assert_snapshot!(log, @"
    --- run RUN of project: 1 file; hosts: localhost
    --- host localhost: private agent 0.1.0, CORES, 1 runner
    ==> host localhost node_setup (81 bytes)
    SANDBOX/tmp/distributest-agent-NAME/node_setup
    SANDBOX/project
    <== host localhost node_setup: done in TIME
    ==> host localhost runner 1 runner_setup (36 bytes)
    the hook of the project, after node
    <== host localhost runner 1 runner_setup: done in TIME
    --- host localhost runner 1 is ready as USER_1
    ==> host localhost runner 1 tests/a (0 bytes)
    <== host localhost runner 1 tests/a: passed in TIME, TIME of processor, MEMORY
    --- 1 file: 1 passed; TIME; exit status 0
    ");
}

#[test]
fn a_host_whose_node_setup_fails_takes_no_part() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/a", "").file("tests/b", "");
    sandbox.program(".distributest/node_setup", "#!/bin/sh\necho no database here >&2\nexit 7\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "2"]), @"
    exit status: 3
    ----- standard output

    Not run
      2 files: no runner was left: failed to run the hook .distributest/node_setup: it left with exit status 7
        tests/a
        tests/b
      $ distributest --resume

    Hosts
      localhost  took no part
        failed to run the hook .distributest/node_setup: it left with exit status 7

    2 files: 2 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    localhost: node_setup failed, its last output:
        no database here
    warning: host localhost: failed to run the hook .distributest/node_setup: it left with exit status 7
             its output is in the log
    ");
}

#[test]
fn the_run_goes_on_without_a_runner_whose_setup_fails() {
    let sandbox = Sandbox::new();
    let setup = "#!/bin/sh\n[ \"$TEST_ENV_NUMBER\" != 2 ] || { echo port 5433 is taken; exit 1; }\n";
    sandbox.shell_tests("").program(".distributest/runner_setup", setup);
    let said = sandbox.path("stderr");
    let until_it_is_said =
        format!("until grep -q 'runner_setup.*failed' {}; do sleep 0.01; done\n", said.display());
    sandbox.file("tests/a", until_it_is_said).file("tests/b", "");
    insta::assert_snapshot!(sandbox.run(&["--runners", "2"]), @"
    exit status: 0
    ----- standard output

    Hosts
      localhost  1 runner, 2 files, busy SHARE
        runner 2: failed to run the hook .distributest/runner_setup: it left with exit status 1 (its output is in the log)

    2 files: 2 passed; 2 tests: 2 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    localhost runner 2: runner_setup failed, its last output:
        port 5433 is taken
    warning: runner 2: failed to run the hook .distributest/runner_setup: it left with exit status 1 (its output is in the log)
    ");
}

#[test]
fn a_hook_that_is_not_executable_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/a", "").file(".distributest/node_setup", NODE_SETUP);
    insta::assert_snapshot!(sandbox.run(&[]), @"
    exit status: 2
    ----- standard error
    error: the hook SANDBOX/project/.distributest/node_setup is not executable
      hint: chmod +x SANDBOX/project/.distributest/node_setup
    ");
}

#[test]
fn a_hook_that_is_no_program_fails_with_the_reason() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/a", "");
    sandbox.program(".distributest/runner_setup", "#!/no/such/interpreter\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @r#"
    exit status: 3
    ----- standard output

    Not run
      1 file: no runner was left: failed to run the hook .distributest/runner_setup: failed to start it: find the interpreter that the first line of "./.distributest/runner_setup" names, to run it in "SANDBOX/project": No such file or directory (os error 2) (install what its first line names on this host, or name another interpreter)
        tests/a
      $ distributest --resume

    Hosts
      localhost  took no part
        runner 1: failed to run the hook .distributest/runner_setup: failed to start it: find the interpreter that the first line of "./.distributest/runner_setup" names, to run it in "SANDBOX/project": No such file or directory (os error 2) (install what its first line names on this host, or name another interpreter)

    1 file: 1 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    warning: runner 1: failed to run the hook .distributest/runner_setup: failed to start it: find the interpreter that the first line of "./.distributest/runner_setup" names, to run it in "SANDBOX/project": No such file or directory (os error 2) (install what its first line names on this host, or name another interpreter)
    "#);
}

#[test]
fn a_hook_is_ended_at_its_time_limit_with_all_it_started() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("node_setup_timeout = \"1s\"\n").file("tests/a", "");
    let hook = "#!/bin/sh\ntrap '' TERM\n(setsid sleep 1000 &)\necho creating the database\nsleep 1000\nsleep 1000\n";
    sandbox.program(".distributest/node_setup", hook);
    insta::assert_snapshot!(sandbox.run(&[]), @"
    exit status: 3
    ----- standard output

    Not run
      1 file: no runner was left: failed to run the hook .distributest/node_setup: it ran longer than its time limit of 1 s
        tests/a
      $ distributest --resume

    Hosts
      localhost  took no part
        failed to run the hook .distributest/node_setup: it ran longer than its time limit of 1 s

    1 file: 1 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    localhost: node_setup failed, its last output:
        creating the database
    warning: host localhost: failed to run the hook .distributest/node_setup: it ran longer than its time limit of 1 s
             its output is in the log; if it needs the time, raise node_setup_timeout
    ");
}

#[test]
fn what_a_hook_leaves_running_serves_the_tests_and_ends_with_the_run() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/a", "kill -0 $SERVER\n");
    let hook = "#!/bin/sh\nsetsid sleep 1000 > /dev/null 2>&1 &\necho SERVER=$! >> \"$DISTRIBUTEST_ENV\"\n";
    sandbox.program(".distributest/node_setup", hook);
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 0
    ----- standard output

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    ");
}

#[test]
fn node_setup_is_skipped_while_its_inputs_are_unchanged() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("node_setup_inputs = [\"lock\"]\n").file("lock", "one\n");
    sandbox.program(
        ".distributest/node_setup",
        "#!/bin/sh\necho FROM_NODE=$(cat lock) >> \"$DISTRIBUTEST_ENV\"\n",
    );
    sandbox.file("tests/a", "[ $FROM_NODE = $(cat lock) ]\n");
    let node_setup = |sandbox: &Sandbox| {
        let (ended, events) = sandbox.run_for_events(&["--runners", "1"]);
        assert_eq!(ended.code(), Some(0), "{}", ended.seen());
        events.of("hook_finished")[0]["skipped"].as_bool()
    };
    assert_eq!(node_setup(&sandbox), Some(false));
    assert_eq!(node_setup(&sandbox), Some(true));
    sandbox.file("lock", "two\n");
    assert_eq!(node_setup(&sandbox), Some(false));
    insta::assert_snapshot!(sandbox.run(&["--verbose", "--runners", "1"]), @"
    exit status: 0
    ----- standard output
    passed    tests/a  (TIME, 1 test, runner 1)

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    run RUN of project: 1 file
    localhost: connecting
    localhost: private agent 0.1.0, CORES, 1 runner
    localhost: preparing
    localhost: node_setup skipped, its inputs are unchanged
    ");
}
