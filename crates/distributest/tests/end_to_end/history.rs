//! What a run remembers for the next, and what it does when it can't.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use crate::sandbox::{Events, Sandbox};

/// Ends once two runs are here.
const MEETS_ANOTHER_RUN: &str = "\
touch run-$DISTRIBUTEST_RUN
until [ $(ls run-* | wc -l) -ge 2 ]; do sleep 0.01; done
";

#[test]
fn the_second_run_starts_with_the_slowest_file() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/big", "# a comment\n".repeat(100)).file("tests/slow", "sleep 0.4\n");
    sandbox.file("tests/slower", "sleep 0.8\n");
    let order = || {
        let (ended, events) = sandbox.run_for_events(&["--runners", "1"]);
        assert_eq!(ended.code(), Some(0), "{}", ended.seen());
        events.texts("attempt_started", "file").join(" ")
    };
    assert_eq!(order(), "tests/big tests/slow tests/slower");
    assert_eq!(order(), "tests/slower tests/slow tests/big");
}

#[test]
fn two_runs_at_once_in_one_project_are_both_right() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/meets", MEETS_ANOTHER_RUN).file("tests/fails", "exit 1\n");
    sandbox.file("tests/passes", "");
    let run = |name: &str| {
        let path = sandbox.path(name).display().to_string();
        let mut command = sandbox.command(&["--runners", "1", "--json", &path]);
        let output = command.output().expect("run distributest");
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "3 files\n");
        let events = Events::read(&sandbox.path(name));
        let verdicts = events.of("file_verdict").into_iter();
        let mut verdicts: Vec<String> =
            verdicts.map(|event| format!("{} {}", event["file"], event["verdict"])).collect();
        verdicts.sort();
        verdicts.join(", ")
    };
    let both = thread::scope(|scope| {
        let [first, second] = ["one.jsonl", "two.jsonl"].map(|name| scope.spawn(move || run(name)));
        [first, second].map(|run| run.join().expect("the run was as expected"))
    });
    sandbox.wait_until_nothing_is_left();
    assert_eq!(both[0], r#""tests/fails" "failed", "tests/meets" "passed", "tests/passes" "passed""#);
    assert_eq!(both[0], both[1]);
}

#[test]
fn a_damaged_history_is_moved_aside() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/passes", "");
    let state = sandbox.path("home/.local/state/distributest");
    fs::create_dir_all(&state).expect("make a directory");
    fs::write(state.join("history.sqlite"), "this is no database, however long it may be\n".repeat(100))
        .expect("write a file");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 0
    ----- standard output

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    warning: the history SANDBOX/home/.local/state/distributest/history.sqlite is damaged (file is not a database); it was moved to SANDBOX/home/.local/state/distributest/history.sqlite.corrupt-1 and a new one begun, so the order of this run is a guess
    ");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 0
    ----- standard output

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    ");
    let names = fs::read_dir(&state).expect("list the state directory").flatten();
    let aside =
        names.filter(|entry| fs::read(entry.path()).is_ok_and(|text| text.starts_with(b"this is no")));
    assert_eq!(aside.count(), 1);
}

#[test]
fn a_state_directory_that_cannot_be_written() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/fails", "exit 1\n");
    let state = sandbox.path("home/.local/state");
    fs::create_dir_all(&state).expect("make a directory");
    fs::set_permissions(&state, Permissions::from_mode(0o555)).expect("set permissions");
    let command = sandbox.command_bound_by_permissions(&["--runners", "1", "--quiet"]);
    insta::assert_snapshot!(sandbox.start(command).wait_for_processes().seen(), @"
    exit status: 1
    ----- standard output

    Failed
      tests/fails
        exit status 1
        tests/fails: exit status 1
        $ distributest tests/fails

    1 file: 1 failed; 1 test: 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/tmp/distributest-log-NAME/DATE_RUN.log
    ----- standard error
    warning: failed to create the directory SANDBOX/home/.local/state/distributest for the history: Permission denied (os error 13); the run goes on without its history
    warning: failed to make the log directory SANDBOX/home/.local/state/distributest/logs: Permission denied (os error 13); the log of this run is in a temporary directory
    warning: failed to make the directory SANDBOX/home/.local/state/distributest/journals for journals: Permission denied (os error 13); --resume will not know all that this run finished
    ");
    let logs = sandbox.temporary_files();
    assert_eq!(logs.len(), 1, "only the log is left: {logs:?}");
}
