//! TAP producers, beside TAP::Parser.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{FileReport, Project, Worker, assert_same, in_tests, text};

/// The test files of a project, in order.
fn files(project: &Path) -> Vec<String> {
    let entries = fs::read_dir(project.join("t")).unwrap();
    let mut files: Vec<String> =
        entries.map(|entry| format!("t/{}", entry.unwrap().file_name().to_str().unwrap())).collect();
    files.sort();
    files
}

/// What TAP::Parser says of files, by file.
fn as_tap_parser_says(project: &Path, files: &[String]) -> BTreeMap<String, Value> {
    let output = Command::new("perl")
        .arg(in_tests("tools/tap_parser.pl"))
        .args(files)
        .current_dir(project)
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let objects = output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    objects.map(|object| (text(&object, "file").to_owned(), object)).collect()
}

/// A file's tests as number, status and reason.
type Results = Vec<(u64, String, String)>;

fn expected_results(said: &Value) -> Results {
    let tests = said["tests"].as_array().unwrap().iter();
    tests
        .map(|test| {
            let reason = text(test, "reason").to_owned();
            (test["number"].as_u64().unwrap(), text(test, "status").to_owned(), reason)
        })
        .collect()
}

fn results(report: &FileReport) -> Results {
    let tests = report.tests.iter().map(|test| {
        let number = text(test, "id").split(' ').next().unwrap().parse().unwrap();
        let status = text(test, "status").to_owned();
        let reason = if status == "failed" { String::new() } else { text(test, "message").to_owned() };
        (number, status, reason)
    });
    tests.collect()
}

#[test]
fn every_outcome_is_the_one_tap_parser_has() {
    let project = Project::copy_of("tap");
    let files = files(project.path());
    let said = as_tap_parser_says(project.path(), &files);
    assert_eq!(said.len(), files.len());
    let mut worker = Worker::ready(&project, &["tap"]);
    let (mut actual, mut expected) = (BTreeMap::new(), BTreeMap::new());
    for file in &files {
        let (report, said) = (worker.run(file), &said[file]);
        report.statuses();
        let has_problems = said["problems"].as_bool().unwrap() || file == "t/bails_out.t";
        actual.insert(file.clone(), (results(&report), report.outcome() != "passed"));
        expected.insert(file.clone(), (expected_results(said), has_problems));
        let faults: Vec<&str> = said["errors"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        if report.outcome() == "failed" {
            assert!(report.message().starts_with(&faults.join("; ")), "{file}: {}", report.message());
        }
    }
    assert_same(&actual, &expected);
    worker.quit();
}

#[test]
fn outcomes_and_messages_of_files() {
    let project = Project::copy_of("tap");
    let mut worker = Worker::ready(&project, &["tap"]);
    let expected = [
        ("t/passes.t", "passed", ""),
        ("t/fails.t", "failed", ""),
        ("t/skip_all.t", "passed", "skipped: no display"),
        ("t/bails_out.t", "failed", "Bail out!  no disk"),
        ("t/bad_plan.t", "failed", "Bad plan.  You planned 4 tests but ran 2."),
        ("t/dies.t", "failed", "Bad plan.  You planned 3 tests but ran 1.; exit status 255"),
        ("t/exits.t", "failed", "exit status 3"),
        ("t/killed.t", "crashed", "killed by signal 9 (SIGKILL) after test 1 - before"),
        ("t/silent.t", "failed", "No plan found in TAP output"),
    ];
    for (file, outcome, message) in expected {
        let report = worker.run(file);
        assert_eq!((report.outcome(), report.message()), (outcome, message), "{file}");
    }
    let broken = worker.run("t/does_not_compile.t");
    assert_eq!(broken.outcome(), "broken");
    assert!(
        broken.message().starts_with("exit status 255: syntax error at t/does_not_compile.t line 2"),
        "{}",
        broken.message()
    );
    assert!(broken.details().contains("Execution of t/does_not_compile.t aborted"), "{}", broken.details());
    let broken = worker.run("t/misses_module.t");
    assert!(broken.message().contains("Can't locate No/Such/Module.pm"), "{}", broken.message());
    let broken = worker.run("t/not_there.t");
    assert_eq!(broken.outcome(), "broken");
    assert!(broken.message().contains("No such file"), "{}", broken.message());
    worker.quit();
}

#[test]
fn failures_are_explained() {
    let project = Project::copy_of("tap");
    let mut worker = Worker::ready(&project, &["tap"]);
    let place = |test: &Value| (text(test, "file").to_owned(), test["line"].as_u64());

    let fails = worker.run("t/fails.t");
    let is = fails.test("1 - is");
    assert_eq!((text(is, "name"), text(is, "message")), ("is", "got: '1'; expected: '2'"));
    assert_eq!(place(is), ("t/fails.t".to_owned(), Some(5)));
    assert!(text(is, "details").contains("#   Failed test 'is'\n#   at t/fails.t line 5."), "{is}");
    let nameless = fails.test("2");
    assert_eq!((text(nameless, "name"), text(nameless, "message")), ("test 2", "not ok 2"));
    assert_eq!(place(nameless), ("t/fails.t".to_owned(), Some(6)));
    let deep = text(fails.test("3 - deep"), "message").to_owned();
    assert_eq!(deep, "Structures begin differing at:; $got->[0] = '1'; $expected->[0] = '2'");
    assert_eq!(place(fails.test("5 - with # a hash")).1, Some(11));
    assert_eq!(place(fails.test("6 - two")).1, Some(12));
    assert_eq!(fails.test("4 - in between")["details"], "");

    let subtests = worker.run("t/subtests.t");
    let details = text(subtests.test("2 - one fails"), "details");
    assert!(
        details.contains("    not ok 2 - inner") && details.contains("    #   Failed test 'inner'"),
        "{details}"
    );

    let yaml = worker.run("t/yaml.t");
    let compared = yaml.test("2 - compares");
    assert_eq!(text(compared, "message"), "expected 2, got 1");
    assert_eq!(place(compared), ("t/compare.js".to_owned(), Some(7)));

    let script = worker.run("t/script.t");
    assert_eq!(text(script.test("2 - fails in sh"), "message"), "expected 1; got 2");
    worker.quit();
}

#[test]
fn output_is_passed_on_byte_for_byte() {
    let project = Project::empty();
    project.write(
        "t/bytes.t",
        r#"binmode STDOUT; print "1..1\nok 1\n", map { chr } 0..255; print STDERR "\xff\n";"#,
    );
    let mut worker = Worker::ready(&project, &["tap"]);
    assert_eq!(worker.run("t/bytes.t").outcome(), "passed");
    let expected: Vec<u8> = b"1..1\nok 1\n".iter().copied().chain(0..=255).collect();
    assert_eq!(fs::read(worker.stdout_file()).unwrap(), expected);
    assert_eq!(worker.stderr(), "\u{fffd}\n");
    worker.quit();
}

#[test]
fn single_tests_are_reported_alone() {
    let project = Project::copy_of("tap");
    let mut worker = Worker::ready(&project, &["tap"]);
    let report = worker.run_tests("t/fails.t", &["4 - in between"]);
    assert_eq!((report.outcome(), report.tests.len()), ("passed", 1));
    let report = worker.run_tests("t/fails.t", &["1 - is", "4 - in between"]);
    assert_eq!((report.outcome(), report.tests.len()), ("failed", 2));
    let report = worker.run_tests("t/passes.t", &["1 - adds", "9 - gone"]);
    assert_eq!((report.outcome(), report.message()), ("failed", "there is no test \"9 - gone\" in it"));
    worker.quit();
}

#[test]
fn options_of_prove_are_followed() {
    let project = Project::empty();
    project.write(".proverc", "--exec 'sh -e'\n");
    project.write(
        "t/arguments.t",
        "echo 1..2; echo \"ok 1 - $*\"; echo 'ok 2 - on standard error' >&2; exit 4\n",
    );
    let mut worker = Worker::ready(&project, &["tap", "-m", "--ignore-exit", "::", "--fast", "a b"]);
    let report = worker.run("t/arguments.t");
    assert_eq!(report.outcome(), "passed", "{}", report.message());
    report.test("1 - --fast a b");
    assert_eq!(worker.stderr(), "");
    worker.quit();

    project.write(".proverc", "-Iinc -w\n");
    project.write("inc/Included.pm", "package Included; 1;");
    project.write("t/perl.t", "use Included; print \"1..1\\n\", ($^W ? '' : 'not '), \"ok 1\\n\";");
    let mut worker = Worker::ready(&project, &["tap"]);
    assert_eq!(worker.run("t/perl.t").outcome(), "passed");
    worker.quit();
}

#[test]
fn what_is_missing_is_named() {
    let project = Project::empty();
    let unable = Worker::unable(&project, &["tap"], &[("PATH", "/nowhere"), ("HARNESS_PERL", "perl5")]);
    assert_eq!(text(&unable, "message"), "perl5 is not there: looked in PATH");
    assert!(text(&unable, "hint").contains("node_setup"), "{unable}");
    let unable = Worker::unable(&project, &["tap", "-PColor"], &[]);
    assert!(text(&unable, "message").contains("-P"), "{unable}");
    let unable = Worker::unable(&project, &["dance"], &[]);
    assert!(text(&unable, "message").contains("\"dance\""), "{unable}");
}

#[test]
fn a_path_is_never_taken_for_a_switch() {
    let project = Project::empty();
    project.write("-e/x.t", "print qq(1..1\\nok 1\\n);\n");
    let mut worker = Worker::ready(&project, &["tap"]);
    let report = worker.run("-e/x.t");
    assert_eq!(report.outcome(), "passed", "{report:?}");
}
