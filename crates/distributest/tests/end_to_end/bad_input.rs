//! What is wrong is said whole: what failed, where, why, and what to do about it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::sandbox::Sandbox;

/// A test that passes, of any framework's project.
const PASSES: &str = "def test_passes(): pass\n";

/// Writes garbage to the socket on which this worker talks to its agent.
const GARBAGE: &str = "\
import os, stat

def write_garbage():
    for name in os.listdir('/proc/self/fd'):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                os.write(int(name), b'what is this\\n')
        except OSError:
            pass
";

#[test]
fn an_unknown_key() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "runners = 2\ntimeuot = \"5m\"\n").file("test_a.py", PASSES);
    insta::assert_snapshot!(sandbox.run(&[]), @"
    exit status: 2
    ----- standard error
    error: SANDBOX/project/.distributest/config.toml:2:1: unknown key `timeuot`
      hint: did you mean `timeout`?
    ");
}

#[test]
fn a_value_of_the_wrong_type() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "files = true\n").file("test_a.py", PASSES);
    insta::assert_snapshot!(sandbox.run(&[]), @r#"
    exit status: 2
    ----- standard error
    error: SANDBOX/project/.distributest/config.toml:1:9: `files` must be a list of globs relative to the project, such as ["spec/**/*_spec.rb"], found true
      hint: set it with `files` in a configuration file, DISTRIBUTEST_FILES or --files
    "#);
}

#[test]
fn a_glob_that_matches_nothing() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "files = [\"tests/**/*.py\", \"test_*.py\"]\n");
    sandbox.file("test_a.py", PASSES);
    insta::assert_snapshot!(sandbox.run(&[]), @r#"
    exit status: 2
    ----- standard error
    error: the glob "tests/**/*.py" of `files` matches no file
      hint: globs are relative to the project; `distributest config` shows where this one was set
    "#);
}

#[test]
fn files_of_an_unknown_framework() {
    let sandbox = Sandbox::new();
    sandbox.file("checks/a.sh", "exit 0\n");
    insta::assert_snapshot!(sandbox.run(&["--files", "checks/*.sh"]), @r#"
    exit status: 2
    ----- standard error
    error: no test framework was found for `files`
      hint: set `frameworks` to the one they are for, such as ["pytest"] or ["command"] (each file is executed), or `command = "bash {file}"`
    "#);
}

#[test]
fn reports_and_logs_that_cannot_be_written() {
    let sandbox = Sandbox::new();
    sandbox.file("test_a.py", PASSES).file("file", "");
    insta::assert_snapshot!(sandbox.run(&["--log-file", "file/distributest.log"]), @"
    exit status: 2
    ----- standard error
    error: failed to open the log SANDBOX/project/file/distributest.log for writing
      caused by: Not a directory (os error 20)
      hint: set `log.path` (DISTRIBUTEST_LOG_PATH, --log-file) to a file you can write
    ");
    insta::assert_snapshot!(sandbox.run(&["--junit", "file/junit.xml"]), @r#"
    exit status: 2
    ----- standard error
    error: failed to write the JUnit report SANDBOX/project/file/junit.xml
      caused by: Not a directory (os error 20) at path "SANDBOX/project/file/.junit-NAME"
      hint: give --junit a file in a directory you can write to
    "#);
    insta::assert_snapshot!(sandbox.run(&["--json", "missing/events.jsonl"]), @"
    exit status: 2
    ----- standard error
    error: failed to write the JSON lines to SANDBOX/project/missing/events.jsonl
      caused by: No such file or directory (os error 2)
      hint: give --json a file in a directory you can write to
    ");
}

#[test]
fn file_names_of_every_kind() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("");
    for name in ["a b.sh", "it's \"quoted\".sh", "new\nline.sh", "-dash.sh", "$HOME;.sh"] {
        sandbox.file(format!("tests/{name}"), "exit 1\n");
    }
    sandbox.file(OsStr::from_bytes(b"tests/\xff.sh"), "exit 1\n");
    insta::assert_snapshot!(sandbox.run(&["--quiet", "--runners", "1"]), @r#"
    exit status: 1
    ----- standard output
    Failed
      tests/$HOME;.sh
        exit status 1
        tests/$HOME;.sh: exit status 1
        $ distributest 'tests/$HOME;.sh'
      tests/-dash.sh
        exit status 1
        tests/-dash.sh: exit status 1
        $ distributest tests/-dash.sh
      tests/a b.sh
        exit status 1
        tests/a b.sh: exit status 1
        $ distributest 'tests/a b.sh'
      tests/it's "quoted".sh
        exit status 1
        tests/it's "quoted".sh: exit status 1
        $ distributest 'tests/it'\''s "quoted".sh'
      "tests/new\nline.sh"
        exit status 1
        tests/new line.sh: exit status 1
        $ distributest $'tests/new\nline.sh'

    Not run
      1 file: its name is not valid UTF-8; rename or exclude it
        tests/�.sh

    6 files: 5 failed, 1 not run; 5 tests: 5 failed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    "#);
}

#[test]
fn file_names_of_every_kind_with_frameworks() {
    let sandbox = Sandbox::new();
    for name in ["a b", "it's \"quoted\"", "new\nline"] {
        sandbox.file(format!("tests/test_{name}.py"), PASSES);
        sandbox.file(format!("spec/{name}_spec.rb"), "RSpec.describe('it') { it('passes') { } }\n");
    }
    sandbox.file(OsStr::from_bytes(b"tests/test_\xff.py"), PASSES);
    insta::assert_snapshot!(sandbox.run(&[]), @"
    exit status: 3
    ----- standard output

    Not run
      1 file: its name is not valid UTF-8; rename or exclude it
        tests/test_�.py

    7 files: 6 passed, 1 not run; 6 tests: 6 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    7 files
    ");
}

#[test]
fn a_worker_that_writes_garbage_before_it_is_ready() {
    let sandbox = Sandbox::new();
    sandbox.file("conftest.py", format!("{GARBAGE}\nwrite_garbage()\n")).file("test_a.py", PASSES);
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @r#"
    exit status: 3
    ----- standard output

    Not run
      1 file: no runner could run it: the worker wrote what is no message of the worker protocol (expected value at line 1 column 1): "what is this" (its output is in the log)
        test_a.py
      $ distributest --resume

    Hosts
      localhost  took no part
        runner 1: can't run pytest

    1 file: 1 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    warning: localhost can't run pytest: the worker wrote what is no message of the worker protocol (expected value at line 1 column 1): "what is this"
             its output is in the log
    "#);
}

#[test]
fn a_test_that_writes_garbage_to_its_workers_socket() {
    let sandbox = Sandbox::new();
    sandbox.file("test_a.py", format!("{GARBAGE}\ndef test_garbage(): write_garbage()\n"));
    sandbox.file("test_b.py", PASSES);
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @r#"
    exit status: 3
    ----- standard output

    Not run
      1 file: its attempts were interrupted too often, last: the worker wrote what is no message of the worker protocol (expected value at line 1 column 1): "what is this"
        test_a.py
      $ distributest --resume

    2 files: 1 passed, 1 not run; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    "#);
}

#[test]
fn a_host_without_the_frameworks_language() {
    let sandbox = Sandbox::new().with_only(&["sh", "bash"]);
    sandbox.file("test_a.py", PASSES).file("spec/a_spec.rb", "RSpec.describe('it') { it('passes') { } }\n");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 3
    ----- standard output

    Not run
      1 file: no runner could run it: none of these programs is there: $VIRTUAL_ENV/bin/python, … (install it on this host, or let node_setup append PATH=… to $DISTRIBUTEST_ENV)
        test_a.py
      1 file: no runner could run it: none of these programs is there: ruby, … (install it on this host, or let node_setup append PATH=… to $DISTRIBUTEST_ENV)
        spec/a_spec.rb
      $ distributest --resume

    Hosts
      localhost  1 runner, 0 files, busy SHARE
        runner 1: can't run pytest
        runner 1: can't run rspec

    2 files: 2 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    warning: localhost can't run pytest: none of these programs is there: $VIRTUAL_ENV/bin/python, …
             install it on this host, or let node_setup append PATH=… to $DISTRIBUTEST_ENV
    warning: localhost can't run rspec: none of these programs is there: ruby, …
             install it on this host, or let node_setup append PATH=… to $DISTRIBUTEST_ENV
    ");
}

#[test]
fn a_host_without_the_framework() {
    let sandbox = Sandbox::new();
    sandbox.fake("python3", "#!/bin/sh\nexec /usr/bin/python3 -S \"$@\"\n").file("test_a.py", PASSES);
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 3
    ----- standard output

    Not run
      1 file: no runner could run it: pytest is not installed for /usr/bin/python3 (Python VERSION), which is the first Python among: $VIRTUAL_ENV, $UV_PROJECT_ENVIRONMENT, .venv, venv, $CONDA_PREFIX, Poetry's and Pipenv's environments of this directory, python3 and python in PATH (install it where the tests run, for example in node_setup: pip install pytest)
        test_a.py
      $ distributest --resume

    Hosts
      localhost  took no part
        runner 1: can't run pytest

    1 file: 1 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    warning: localhost can't run pytest: pytest is not installed for /usr/bin/python3 (Python VERSION), which is the first Python among: $VIRTUAL_ENV, $UV_PROJECT_ENVIRONMENT, .venv, venv, $CONDA_PREFIX, Poetry's and Pipenv's environments of this directory, python3 and python in PATH
             install it where the tests run, for example in node_setup: pip install pytest
    ");
}

#[test]
fn no_rsync_for_a_snapshot() {
    let sandbox = Sandbox::new().with_only(&["sh", "bash"]);
    sandbox.shell_tests("snapshot = true\n").file("tests/a", "");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 3
    ----- standard output

    Not run
      1 file: no runner was left: failed to copy the project: failed to run rsync on this machine: No such file or directory (os error 2)
        tests/a
      $ distributest --resume

    Hosts
      localhost  took no part
        failed to copy the project: failed to run rsync on this machine: No such file or directory (os error 2)

    1 file: 1 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    warning: host localhost: failed to copy the project: failed to run rsync on this machine: No such file or directory (os error 2)
             install rsync here (Debian: apt install rsync)
    ");
}

#[test]
fn no_runners_anywhere() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("").file("tests/a", "");
    insta::assert_snapshot!(sandbox.run(&["--runners", "0"]), @"
    exit status: 2
    ----- standard error
    error: --runners: no host is left to run tests on: all of those selected have `runners = 0`
      hint: raise `runners`, or select other hosts with --hosts
    ");
}

#[test]
fn a_project_that_does_not_exist() {
    insta::assert_snapshot!(Sandbox::new().run(&["--project", "../proejct"]), @"
    exit status: 2
    ----- standard error
    error: failed to open the project ../proejct
      caused by: No such file or directory (os error 2)
      hint: start distributest in the project's directory, or name it with --project
    ");
}

/// A project with the remote host `build1`, and an `ssh` that says this and gives up.
fn with_ssh_that_says(complaint: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("[[host]]\nname = \"build1\"\n").file("tests/a", "").file("tests/b", "");
    let fake = format!("#!/bin/sh\ncat >&2 <<'END'\n{complaint}\nEND\nexit 255\n");
    sandbox.fake("ssh", &fake);
    sandbox
}

#[test]
fn a_host_whose_key_is_not_known() {
    let sandbox = with_ssh_that_says(
        "No ED25519 host key is known for build1 and you have requested strict checking.\n\
         Host key verification failed.",
    );
    insta::assert_snapshot!(sandbox.run(&["--hosts", "build1"]), @"
    exit status: 3
    ----- standard output

    Not run
      2 files: no runner was left: failed to connect: ssh build1: No ED25519 host key is known for build1 and you have requested strict checking; Host key verification failed
        tests/a
        tests/b
      $ distributest --resume

    Hosts
      build1  took no part
        failed to connect: ssh build1: No ED25519 host key is known for build1 and you have requested strict checking; Host key verification failed

    2 files: 2 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    warning: host build1: failed to connect: ssh build1: No ED25519 host key is known for build1 and you have requested strict checking; Host key verification failed
             run `ssh build1` once by hand and check its host key
    ");
}

#[test]
fn a_host_whose_key_has_changed() {
    let sandbox = with_ssh_that_says(
        "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n\
         @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n\
         @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\n\
         IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n\
         Someone could be eavesdropping on you right now (man-in-the-middle attack)!\n\
         It is also possible that a host key has just been changed.\n\
         The fingerprint for the ED25519 key sent by the remote host is\n\
         SHA256:ohD8VZEXGWo6Ez8GSEJQ9WpafgLFsOfLOtGGQCQo6Og.\n\
         Please contact your system administrator.\n\
         Add correct host key in /home/ana/.ssh/known_hosts to get rid of this message.\n\
         Offending ED25519 key in /home/ana/.ssh/known_hosts:3\n\
         Host key for build1 has changed and you have requested strict checking.\n\
         Host key verification failed.",
    );
    insta::assert_snapshot!(sandbox.run(&["--hosts", "build1"]), @"
    exit status: 3
    ----- standard output

    Not run
      2 files: no runner was left: failed to connect: ssh build1: Add correct host key in /home/ana/.ssh/known_hosts to get rid of this message; Offending ED25519 key in /home/ana/.ssh/known_hosts:3; Host key for build1 has changed and you have requested strict checking; Host key verification failed
        tests/a
        tests/b
      $ distributest --resume

    Hosts
      build1  took no part
        failed to connect: ssh build1: Add correct host key in /home/ana/.ssh/known_hosts to get rid of this message; Offending ED25519 key in /home/ana/.ssh/known_hosts:3; Host key for build1 has changed and you have requested strict checking; Host key verification failed

    2 files: 2 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    warning: host build1: failed to connect: ssh build1: Add correct host key in /home/ana/.ssh/known_hosts to get rid of this message; Offending ED25519 key in /home/ana/.ssh/known_hosts:3; Host key for build1 has changed and you have requested strict checking; Host key verification failed
             if build1 has been set up anew, remove its old key with `ssh-keygen -R`, then run `ssh build1` once by hand and check the new one
    ");
}

#[test]
fn a_host_that_does_not_let_us_in() {
    let sandbox = with_ssh_that_says("ana@build1: Permission denied (publickey,password).");
    insta::assert_snapshot!(sandbox.run(&["--hosts", "build1"]), @"
    exit status: 3
    ----- standard output

    Not run
      2 files: no runner was left: failed to connect: ssh build1: ana@build1: Permission denied (publickey,password)
        tests/a
        tests/b
      $ distributest --resume

    Hosts
      build1  took no part
        failed to connect: ssh build1: ana@build1: Permission denied (publickey,password)

    2 files: 2 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    warning: host build1: failed to connect: ssh build1: ana@build1: Permission denied (publickey,password)
             `ssh -o BatchMode=yes build1 true` must work: load your key into ssh-agent, or set `identity` of this [[host]]
    ");
}

#[test]
fn a_host_nobody_knows() {
    let sandbox = with_ssh_that_says("ssh: Could not resolve hostname build1: Name or service not known");
    insta::assert_snapshot!(sandbox.run(&["--hosts", "build1"]), @"
    exit status: 3
    ----- standard output

    Not run
      2 files: no runner was left: failed to connect: ssh build1: Could not resolve hostname build1: Name or service not known
        tests/a
        tests/b
      $ distributest --resume

    Hosts
      build1  took no part
        failed to connect: ssh build1: Could not resolve hostname build1: Name or service not known

    2 files: 2 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    warning: host build1: failed to connect: ssh build1: Could not resolve hostname build1: Name or service not known
             check `name` of this [[host]]: `ssh build1` does not know it
    ");
}

#[test]
fn a_host_where_no_ssh_listens() {
    let refused = "ssh: connect to host build1 port 22: Connection refused";
    let sandbox = with_ssh_that_says(refused);
    insta::assert_snapshot!(sandbox.run(&["--hosts", "build1"]), @"
    exit status: 3
    ----- standard output

    Not run
      2 files: no runner was left: failed to connect: ssh build1: connect to host build1 port 22: Connection refused
        tests/a
        tests/b
      $ distributest --resume

    Hosts
      build1  took no part
        failed to connect: ssh build1: connect to host build1 port 22: Connection refused

    2 files: 2 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files
    warning: host build1: failed to connect: ssh build1: connect to host build1 port 22: Connection refused
             check that it is up and its sshd is running: `ssh -o BatchMode=yes build1 true` must work
    ");
}

#[test]
fn the_run_goes_on_without_a_host_and_says_so() {
    let refused = "ssh: connect to host build1 port 22: Connection refused";
    let sandbox = with_ssh_that_says(refused);
    let said = sandbox.path("stderr");
    let until_it_is_said = format!("until grep -q 'host build1' {}; do sleep 0.01; done\n", said.display());
    sandbox.file("tests/a", &until_it_is_said).file("tests/b", &until_it_is_said);
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 0
    ----- standard output

    Hosts
      localhost  1 runner, 2 files, busy SHARE
      build1     took no part
        failed to connect: ssh build1: connect to host build1 port 22: Connection refused

    2 files: 2 passed; 2 tests: 2 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files on localhost, build1
    warning: host build1: failed to connect: ssh build1: connect to host build1 port 22: Connection refused
             check that it is up and its sshd is running: `ssh -o BatchMode=yes build1 true` must work
    ");
}

#[test]
fn a_run_that_requires_every_host_ends_when_one_takes_no_part() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("require_hosts = true\n[[host]]\nname = \"build1\"\n");
    sandbox.file("tests/a", "touch started; sleep 1000\n").file("tests/b", "sleep 1000\n");
    let refuse = "until [ -e started ]; do sleep 0.01; done\necho Connection closed >&2\nexit 255\n";
    sandbox.fake("ssh", &format!("#!/bin/sh\n{refuse}"));
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 3
    ----- standard output

    Not run
      2 files: the run was stopped
        tests/a
        tests/b
      $ distributest --resume

    Hosts
      localhost  1 runner, 0 files, busy SHARE
      build1     took no part
        failed to connect: ssh build1: Connection closed

    2 files: 2 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    2 files on localhost, build1
    warning: host build1: failed to connect: ssh build1: Connection closed
             `ssh -o BatchMode=yes build1 true` must work
    warning: stopping: build1 takes no part and require_hosts is set
    ");
}

#[test]
fn a_required_host_is_waited_for_when_all_files_have_passed_already() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("require_hosts = true\n[[host]]\nname = \"build1\"\n").file("tests/a", "");
    let refuse =
        "until grep -qs file_verdict events; do sleep 0.01; done\necho Connection closed >&2\nexit 255\n";
    sandbox.fake("ssh", &format!("#!/bin/sh\n{refuse}"));
    insta::assert_snapshot!(sandbox.run(&["--runners", "1", "--json", "events"]), @"
    exit status: 3
    ----- standard output

    Hosts
      localhost  1 runner, 1 file, busy SHARE
      build1     took no part
        failed to connect: ssh build1: Connection closed

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file on localhost, build1
    warning: host build1: failed to connect: ssh build1: Connection closed
             `ssh -o BatchMode=yes build1 true` must work
    warning: build1 takes no part and require_hosts is set
    ");
}

#[test]
fn no_ssh_on_this_machine() {
    let sandbox = Sandbox::new().with_only(&["sh", "bash"]);
    sandbox.shell_tests("[[host]]\nname = \"build1\"\n").file("tests/a", "");
    insta::assert_snapshot!(sandbox.run(&["--hosts", "build1"]), @"
    exit status: 3
    ----- standard output

    Not run
      1 file: no runner was left: failed to connect: failed to run ssh: No such file or directory (os error 2)
        tests/a
      $ distributest --resume

    Hosts
      build1  took no part
        failed to connect: failed to run ssh: No such file or directory (os error 2)

    1 file: 1 not run
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    warning: host build1: failed to connect: failed to run ssh: No such file or directory (os error 2)
             install the OpenSSH client (Debian: openssh-client)
    ");
}
