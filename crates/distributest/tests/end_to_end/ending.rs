//! How a run ends before its time, and that nothing of it is left.

use std::io;
use std::process::Command;

use rustix::process::Signal;

use crate::sandbox::{Running, Sandbox, kill};

/// A test that hangs, the first time it is run, and has started a daemon: forked twice, in a session of its own, without environment, in another
/// directory, ignoring signals. Both name the project in their command line, so that the sandbox finds them.
const HANGS: &str = "\
[ -e started ] && exit 0
project=$PWD
(trap '' HUP INT TERM; cd /
 setsid env -i sh -c 'touch \"$0/daemon\"; exec tail -f \"$0/tests/2-hangs\"' \"$project\" >/dev/null 2>&1 &)
until [ -e daemon ]; do sleep 0.01; done
trap '' TERM
echo hanging
touch started
tail -f \"$project/tests/2-hangs\"
";

/// A project of three tests: one passes, one hangs, one never gets its turn.
fn hanging_project() -> Sandbox {
    let sandbox = Sandbox::new();
    // Bigger ones go first.
    sandbox.shell_tests("").file("tests/1-passes", "# a comment\n".repeat(100));
    sandbox.file("tests/2-hangs", HANGS).file("tests/3-waits", "exit 1\n");
    sandbox
}

/// A run that hangs in the second of its three tests.
fn hanging(sandbox: &Sandbox) -> Running<'_> {
    let mut running = sandbox.start(sandbox.command(&["--runners", "1"]));
    running.wait_for_file("started");
    running
}

/// A terminal that was stopped with Ctrl-S, a pager nobody scrolls: the coordinator's own writing waits.
#[test]
fn the_second_ctrl_c_counts_while_standard_output_is_blocked() {
    let sandbox = Sandbox::new();
    // Twenty lines of each failure are shown, so a few files fill a pipe's 64 KiB.
    let failing = "for i in $(seq 20); do head -c 400 /dev/zero | tr '\\0' x; echo; done\nexit 1\n";
    sandbox.shell_tests("");
    for number in 0..40 {
        sandbox.file(format!("tests/{number}"), failing);
    }
    let (unread, blocked) = io::pipe().unwrap();
    let running = sandbox.start_writing_to(blocked.into(), sandbox.command(&["--runners", "1"]));
    running.wait_until_it_waits_to_write();
    running.signal(Signal::INT);
    // Two of the same kind sent at once may arrive as one.
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(130));
    drop(unread);
}

#[test]
fn ctrl_c_ends_the_run_in_order() {
    let sandbox = hanging_project();
    let running = hanging(&sandbox);
    running.signal(Signal::INT);
    insta::assert_snapshot!(running.wait().seen(), @"
    exit status: 130
    ----- standard output

    Not run
      2 files: the run was stopped
        tests/2-hangs
        tests/3-waits
      $ distributest --resume

    3 files: 1 passed, 2 not run; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    3 files
    stopping what runs and cleaning up (Ctrl-C again: leave at once)
    ");
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let sandbox = hanging_project();
    let running = hanging(&sandbox);
    running.signal(Signal::INT);
    running.wait_for_message("stopping");
    running.signal(Signal::INT);
    insta::assert_snapshot!(running.wait().seen(), @"
    exit status: 130
    ----- standard output

    Not run
      2 files: the run was stopped
        tests/2-hangs
        tests/3-waits
      $ distributest --resume

    3 files: 1 passed, 2 not run; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    3 files
    stopping what runs and cleaning up (Ctrl-C again: leave at once)
    ");
}

#[test]
fn sigterm_ends_the_run_like_ctrl_c() {
    let sandbox = hanging_project();
    let running = hanging(&sandbox);
    running.signal(Signal::TERM);
    insta::assert_snapshot!(running.wait().seen(), @"
    exit status: 130
    ----- standard output

    Not run
      2 files: the run was stopped
        tests/2-hangs
        tests/3-waits
      $ distributest --resume

    3 files: 1 passed, 2 not run; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    3 files
    stopping what runs and cleaning up (Ctrl-C again: leave at once)
    ");
}

#[test]
fn nothing_outlives_a_coordinator_that_is_killed_and_the_next_run_works() {
    let sandbox = hanging_project();
    let running = hanging(&sandbox);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code(), None);
    insta::assert_snapshot!(sandbox.run(&["--runners", "1", "tests/1-passes"]), @"
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
fn nothing_outlives_a_killed_coordinator_where_workers_fork() {
    let sandbox = Sandbox::new();
    sandbox.file("tests/2-hangs", HANGS);
    let text = "import subprocess\n\ndef test_hangs():\n    subprocess.run(['bash', 'tests/2-hangs'])\n";
    sandbox.file("tests/test_hangs.py", text);
    let running = hanging(&sandbox);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code(), None);
}

#[test]
fn a_killed_agent_leaves_nothing_and_another_takes_over() {
    let sandbox = hanging_project();
    let running = hanging(&sandbox);
    let [_coordinator, _guardian, agent, ..] = running.family()[..] else { panic!("there is no agent") };
    kill(agent, Signal::KILL);
    // Nobody is left to remove its temporary directory; the next agent does.
    insta::assert_snapshot!(running.wait_for_processes().seen(), @"
    exit status: 1
    ----- standard output
    FAILED tests/3-waits  1 of 1 test failed  (runner 1, TIME)
      exit status 1

      tests/3-waits  tests/3-waits
        exit status 1

    Failed
      tests/3-waits
        exit status 1
        tests/3-waits: exit status 1
        $ distributest tests/3-waits

    Hosts
      localhost  1 runner, 3 files, busy SHARE
        the connection to its agent broke

    3 files: 2 passed, 1 failed; 3 tests: 2 passed, 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    3 files
    warning: host localhost: the connection to its agent broke; connecting anew
    ");
    sandbox.run(&["--runners", "1", "tests/1-passes"]);
}

#[test]
fn a_killed_guardian_takes_its_agent_along_and_another_takes_over() {
    let sandbox = hanging_project();
    let running = hanging(&sandbox);
    let [_coordinator, guardian, ..] = running.family()[..] else { panic!("there is no guardian") };
    kill(guardian, Signal::KILL);
    insta::assert_snapshot!(running.wait().seen(), @"
    exit status: 1
    ----- standard output
    FAILED tests/3-waits  1 of 1 test failed  (runner 1, TIME)
      exit status 1

      tests/3-waits  tests/3-waits
        exit status 1

    Failed
      tests/3-waits
        exit status 1
        tests/3-waits: exit status 1
        $ distributest tests/3-waits

    Hosts
      localhost  1 runner, 3 files, busy SHARE
        the connection to its agent broke

    3 files: 2 passed, 1 failed; 3 tests: 2 passed, 1 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    3 files
    warning: host localhost: the connection to its agent broke; connecting anew
    ");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/fails", "exit 1\n").file("tests/passes", "");
    let (reader, writer) = io::pipe().expect("make a pipe");
    drop(reader);
    let ended = sandbox.start_writing_to(writer.into(), sandbox.command(&["--runners", "1"])).wait();
    insta::assert_snapshot!(ended.seen(), @"
    exit status: 1
    ----- standard error
    2 files
    ");
}

#[test]
fn standard_streams_may_all_be_closed() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/fails", "exit 1\n").file("tests/passes", "");
    let program = sandbox.command::<&str>(&[]).get_program().to_owned();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" <&- >&- 2>&-"]).arg(program);
    sandbox.prepare(&mut command);
    insta::assert_snapshot!(sandbox.finish(command).seen(), @"exit status: 1");
}
