//! Files that are not run because they passed with the same inputs.

use std::fs;
use std::os::unix::fs::symlink;

use rusqlite::Connection;
use rustix::process::Signal;

use crate::sandbox::{Events, Sandbox};

/// A worker that runs shell scripts, one test each. What it says of its versions is outside of the project.
const WORKER: &str = r#"
say() { printf '%s\n' "$1" >&"$DISTRIBUTEST_FD"; }
say "{\"type\":\"ready\",\"protocol\":1,\"framework\":\"shell\",$(cat "$HOME/versions")}"
while read -r order <&"$DISTRIBUTEST_FD"; do
    case $order in *'"quit"'*) exit;; esac
    file=${order#*'"file":"'}
    file=${file%%'"'*}
    word=passed
    bash "$file" || word=failed
    say "{\"type\":\"test\",\"id\":\"$file\",\"name\":\"$file\",\"status\":\"$word\",\"seconds\":0}"
    say "{\"type\":\"finished\",\"outcome\":\"$word\"}"
done
"#;

const VERSIONS: &str = r#""version":"1.0","runtime":"bash 5""#;

/// A project of scripts in `tests`, which that worker runs; a git checkout.
fn shell_project(settings: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let framework =
        "[framework.shell]\nfiles = ['tests/*']\nworker = 'bash tools/worker'\nisolation = 'process'\n";
    sandbox.file(".distributest/config.toml", format!("cache = true\n{settings}\n{framework}"));
    sandbox.file("tools/worker", WORKER).file(".git/HEAD", "").file(".gitignore", "ignored\n");
    say_versions(&sandbox, VERSIONS);
    sandbox
}

fn say_versions(sandbox: &Sandbox, versions: &str) {
    fs::write(sandbox.path("home/versions"), versions).expect("write what the worker says");
}

/// The verdicts of a run, and its events.
fn run(sandbox: &Sandbox, arguments: &[&str]) -> (String, Events) {
    let (_, events) = sandbox.run_for_events(arguments);
    (words(&events), events)
}

fn words(events: &Events) -> String {
    let verdicts = events.of("file_verdict").into_iter();
    let mut words: Vec<String> = verdicts
        .map(|event| {
            let path = event["file"].as_str().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            format!("{name} {}", event["verdict"].as_str().unwrap_or_default())
        })
        .collect();
    words.sort();
    words.join(", ")
}

fn verdicts(sandbox: &Sandbox) -> String {
    run(sandbox, &["--runners", "1"]).0
}

#[test]
fn with_pytest_every_change_of_what_counts_is_seen() {
    let sandbox = Sandbox::new();
    // With more runners, a run of cached files ends while workers start. One that is killed while Python tries out whether it
    // can write to its directory for temporary files leaves what it wrote.
    sandbox.file(".distributest/config.toml", "cache = true\nrunners = 1\npass_env = ['FEATURE']\n");
    sandbox.file(".git/HEAD", "").file(".gitignore", "ignored\n__pycache__\n");
    sandbox.file("source.py", "NUMBER = 1\n").file("conftest.py", "");
    let test = "import source\ndef test_one(): assert source.NUMBER\ndef test_two(): pass\n";
    sandbox.file("tests/test_a.py", test).file("tests/test_b.py", test);
    let [run_all, all_cached] =
        ["passed", "cached"].map(|word| format!("test_a.py {word}, test_b.py {word}"));
    assert_eq!(verdicts(&sandbox), run_all);
    assert_eq!(verdicts(&sandbox), all_cached);
    sandbox.file("ignored", "what git ignores is not copied to hosts");
    assert_eq!(verdicts(&sandbox), all_cached);

    sandbox.file("source.py", "NUMBER = 2\n");
    assert_eq!(verdicts(&sandbox), run_all);
    sandbox.file("source.py", "NUMBER = 1\n");
    assert_eq!(verdicts(&sandbox), all_cached, "what was is known");
    sandbox.file("conftest.py", "# changed\n");
    assert_eq!(verdicts(&sandbox), run_all);
    sandbox.file("data.txt", "new\n");
    assert_eq!(verdicts(&sandbox), run_all);
    fs::remove_file(sandbox.path("project/source.py")).expect("delete a source file");
    assert_eq!(verdicts(&sandbox), "test_a.py broken, test_b.py broken");
    sandbox.file("source.py", "NUMBER = 1\n");
    assert_eq!(verdicts(&sandbox), run_all, "files that have failed since are run");
    assert_eq!(verdicts(&sandbox), all_cached);

    let with_variable = |name: &str, value: &str| {
        let events = sandbox.path("variable.jsonl");
        let mut command = sandbox.command(&["--json", &events.display().to_string()]);
        command.env(name, value);
        sandbox.finish(command);
        words(&Events::read(&events))
    };
    assert_eq!(with_variable("FEATURE", "on"), run_all, "a variable that is passed on");
    assert_eq!(with_variable("FEATURE", "on"), all_cached);
    assert_eq!(with_variable("ANOTHER", "on"), run_all, "tests on this machine have all of the environment");
    assert_eq!(with_variable("SHLVL", "7"), all_cached, "this says nothing about tests");
    assert_eq!(run(&sandbox, &["--no-cache"]).0, run_all);
    assert_eq!(run(&sandbox, &["--", "-k", "test_one"]).0, run_all, "other arguments");
}

#[test]
fn a_run_of_cached_files_reports_their_tests_and_leaves_the_history_alone() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "cache = true\n");
    sandbox.file(".git/HEAD", "").file(".gitignore", "__pycache__\n");
    let test = "import pytest\ndef test_one(): pass\n@pytest.mark.skip\ndef test_two(): pass\n";
    sandbox.file("tests/test_a.py", test);
    let (_, first) = run(&sandbox, &[]);
    let database = sandbox.path("home/.local/state/distributest/history.sqlite");
    let attempts = || {
        let history = Connection::open(&database).expect("open the history");
        let count = "SELECT count(*) FROM attempts";
        history.query_row(count, [], |row| row.get::<_, i64>(0)).expect("count attempts")
    };
    assert_eq!(attempts(), 1);
    let junit = sandbox.path("junit.xml").display().to_string();
    insta::assert_snapshot!(sandbox.run(&["--junit", &junit]), @"
    exit status: 0
    ----- standard output

    1 file: 1 cached; 2 tests: 1 passed, 1 skipped
    TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    ");
    insta::assert_snapshot!(sandbox.read("junit.xml").replace(first.texts("run_started", "run")[0], "RUN"), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="project" tests="2" skipped="1" failures="0" errors="0" timestamp="DATE" time="SECONDS">
        <testsuite name="tests/test_a.py" tests="2" skipped="1" errors="0" failures="0" time="SECONDS" hostname="localhost">
            <properties>
                <property name="cached" value="RUN"/>
            </properties>
            <testcase name="test_one" classname="tests/test_a.py" time="SECONDS"/>
            <testcase name="test_two" classname="tests/test_a.py" time="SECONDS">
                <skipped/>
            </testcase>
        </testsuite>
    </testsuites>
    "#);
    let (_, events) = run(&sandbox, &[]);
    assert_eq!(events.texts("file_cached", "run"), first.texts("run_started", "run"));
    assert_eq!(events.summary()["cached"], 1);
    assert_eq!(attempts(), 1, "nothing is learnt from a file that was not run");
}

#[test]
fn other_versions_of_framework_or_interpreter_have_files_run() {
    let sandbox = shell_project("");
    sandbox.file("tests/a", "");
    assert_eq!(verdicts(&sandbox), "a passed");
    assert_eq!(verdicts(&sandbox), "a cached");
    for versions in [r#""version":"1.1","runtime":"bash 5""#, r#""version":"1.0","runtime":"bash 6""#] {
        say_versions(&sandbox, versions);
        assert_eq!(verdicts(&sandbox), "a passed");
        assert_eq!(verdicts(&sandbox), "a cached");
    }
    say_versions(&sandbox, VERSIONS);
    assert_eq!(verdicts(&sandbox), "a cached", "as in the first run");
    say_versions(&sandbox, r#""version":"1.0""#);
    for _ in 0..2 {
        assert_eq!(verdicts(&sandbox), "a passed");
    }
    insta::assert_snapshot!(sandbox.run(&[]), @"
    exit status: 0
    ----- standard output

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    warning: the cache can't be used for 1 file: its worker does not say the versions of framework and interpreter
    ");
}

#[test]
fn what_failed_or_was_tried_twice_or_left_something_running_is_run_again() {
    let sandbox = shell_project("retries = 1");
    sandbox.file("tests/fails", "exit 1\n").file("tests/good", "");
    sandbox.file("tests/flaky", "test -e \"$HOME/once\" || { touch \"$HOME/once\"; exit 1; }\n");
    sandbox.file("tests/leaks", "setsid sleep 600 >/dev/null 2>&1 &\n");
    assert_eq!(verdicts(&sandbox), "fails failed, flaky flaky, good passed, leaks passed");
    assert_eq!(verdicts(&sandbox), "fails failed, flaky passed, good cached, leaks passed");
    assert_eq!(verdicts(&sandbox), "fails failed, flaky cached, good cached, leaks passed");
}

#[test]
fn declared_inputs_are_all_that_counts_besides_the_file_and_the_top_of_the_project() {
    let sandbox = shell_project(
        "[cache_inputs]\n'tests/unit*' = ['src/**', 'tools/worker']\n'tests/*_two' = ['data/*']\n",
    );
    for file in ["tests/unit_one", "tests/unit_two", "tests/whole", "src/deep/a", "data/b", "other/c", "top"]
    {
        sandbox.file(file, "true\n");
    }
    let changed = |file: &str| {
        sandbox.file(file, format!("# {file}\n"));
        verdicts(&sandbox)
    };
    assert_eq!(verdicts(&sandbox), "unit_one passed, unit_two passed, whole passed");
    assert_eq!(verdicts(&sandbox), "unit_one cached, unit_two cached, whole cached");
    assert_eq!(changed("other/c"), "unit_one cached, unit_two cached, whole passed");
    assert_eq!(changed("tests/unit_one"), "unit_one passed, unit_two cached, whole passed");
    assert_eq!(changed("data/b"), "unit_one cached, unit_two passed, whole passed");
    assert_eq!(changed("src/deep/a"), "unit_one passed, unit_two passed, whole passed");
    assert_eq!(changed("src/new"), "unit_one passed, unit_two passed, whole passed");
    assert_eq!(changed("top"), "unit_one passed, unit_two passed, whole passed");
    fs::remove_file(sandbox.path("project/data/b")).expect("delete all there is of an input");
    for _ in 0..2 {
        let (ended, events) = sandbox.run_for_events(&["--runners", "1"]);
        assert!(words(&events).starts_with("unit_one cached, unit_two passed"), "{}", words(&events));
        let warning = "the cache can't be used for 1 file: \"data/*\" below [cache_inputs] matches none";
        assert!(ended.stderr.contains(warning), "{}", ended.stderr);
    }
}

#[test]
fn what_changes_during_a_run_makes_its_passes_worthless() {
    let sandbox = shell_project("");
    sandbox.file("source", "one\n").file("tests/a", "date +%N > output\n");
    assert_eq!(verdicts(&sandbox), "a passed");
    insta::assert_snapshot!(sandbox.run(&["--runners", "1"]), @"
    exit status: 0
    ----- standard output

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    warning: 1 file that passed will be run again next time, because output was changed during the run; if tests did that, have git ignore it, or declare what files depend on below [cache_inputs]
    ");
    sandbox.file(".gitignore", "ignored\noutput\n");
    assert_eq!(verdicts(&sandbox), "a passed");
    assert_eq!(verdicts(&sandbox), "a cached");
    sandbox.file("tests/a", "echo two > source; echo one > source\n");
    for _ in 0..2 {
        assert_eq!(verdicts(&sandbox), "a passed", "nobody knows what it saw");
    }
}

#[test]
fn what_a_link_out_of_the_project_leads_to_counts_or_nothing_is_known() {
    let sandbox = shell_project("");
    sandbox.file("tests/a", "");
    let outside = sandbox.path("home/outside");
    fs::write(&outside, "one").expect("write a file");
    symlink(&outside, sandbox.path("project/link")).expect("make a link");
    assert_eq!(verdicts(&sandbox), "a passed");
    assert_eq!(verdicts(&sandbox), "a cached");
    fs::write(&outside, "two").expect("write a file");
    assert_eq!(verdicts(&sandbox), "a passed");
    fs::remove_file(&outside).expect("delete a file");
    fs::create_dir(&outside).expect("make a directory");
    for _ in 0..2 {
        let (ended, events) = sandbox.run_for_events(&["--runners", "1"]);
        assert_eq!(words(&events), "a passed");
        assert!(ended.stderr.contains("link leads to a directory"), "{}", ended.stderr);
    }
}

#[test]
fn a_part_of_a_file_neither_uses_the_cache_nor_feeds_it() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "cache = true\n").file(".git/HEAD", "");
    sandbox.file("tests/test_a.py", "def test_one(): pass\ndef test_two(): pass\n");
    let part = || run(&sandbox, &["tests/test_a.py::test_one"]).0;
    assert_eq!(part(), "test_a.py passed");
    assert_eq!(part(), "test_a.py passed");
    assert_eq!(verdicts(&sandbox), "test_a.py passed");
    assert_eq!(part(), "test_a.py passed");
    assert_eq!(run(&sandbox, &["tests/test_a.py"]).0, "test_a.py cached");
}

#[test]
fn a_framework_whose_worker_nobody_has_started_has_one_file_run() {
    let sandbox = shell_project("");
    let config = sandbox.read("project/.distributest/config.toml");
    let other = config.replace("cache = true", "").replace("shell", "other").replace("tests/*", "checks/*");
    sandbox.file(".distributest/config.toml", config + &other);
    for file in ["tests/a", "tests/b", "checks/c", "checks/d"] {
        sandbox.file(file, "");
    }
    assert_eq!(verdicts(&sandbox), "a passed, b passed, c passed, d passed");
    let (words, events) = run(&sandbox, &["--runners", "1"]);
    assert_eq!(words.matches("cached").count(), 3, "{words}");
    assert_eq!(events.summary()["exit_status"], 0);
}

#[test]
fn a_run_that_is_continued_looks_for_cached_files_anew() {
    let sandbox = shell_project("");
    sandbox.file("tests/a", "");
    assert_eq!(verdicts(&sandbox), "a passed");
    sandbox.file(
        ".distributest/config.toml",
        sandbox.read("project/.distributest/config.toml") + "\n[cache_inputs]\n'tests/*' = ['tools/*']\n",
    );
    assert_eq!(verdicts(&sandbox), "a passed", "its inputs have another name");
    sandbox.file("tests/waits", "touch \"$HOME/waits\"; until test -e \"$HOME/go\"; do sleep 0.01; done\n");
    let first = sandbox.path("first.jsonl").display().to_string();
    let running = sandbox.start(sandbox.command(&["--runners", "1", "--json", &first]));
    running.wait_until("a file that waits", || sandbox.path("home/waits").exists());
    running.signal(Signal::KILL);
    running.wait_for_processes();
    assert_eq!(words(&Events::read(&sandbox.path("first.jsonl"))), "a cached");
    fs::write(sandbox.path("home/go"), "").expect("let it go on");
    assert_eq!(run(&sandbox, &["--resume"]).0, "a cached, waits passed");
    let again = sandbox.run(&["--resume"]);
    assert!(again.contains("nothing to continue") || again.contains("cannot resume"), "{again}");
}

#[test]
fn files_that_nobody_knows_the_runner_of_are_run_and_it_says_so() {
    let sandbox = Sandbox::new();
    sandbox.shell_tests("cache = true\n").file("tests/a", "");
    sandbox.run(&[]);
    insta::assert_snapshot!(sandbox.run(&[]), @"
    exit status: 0
    ----- standard output

    1 file: 1 passed; 1 test: 1 passed
    TIME; testing took TIME, RATIO × the least possible TIME
    log: SANDBOX/home/.local/state/distributest/logs/DATE_RUN.log
    ----- standard error
    1 file
    warning: the cache can't be used for 1 file: nobody knows the versions of what runs files of command
    ");
}

#[test]
fn bats_files_are_cached() {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "cache = true\n").file(".git/HEAD", "");
    sandbox.file("tests/a.bats", "@test \"one\" { true; }\n");
    assert_eq!(verdicts(&sandbox), "a.bats passed");
    assert_eq!(verdicts(&sandbox), "a.bats cached");
    sandbox.file("tests/a.bats", "@test \"one\" { true; }\n@test \"two\" { true; }\n");
    assert_eq!(verdicts(&sandbox), "a.bats passed");
}
