//! bats, beside its own reports.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::{Project, Worker, assert_same, in_tests, text};

/// What bats' own JUnit report says of a file: its test cases in order.
fn as_bats_reports(project: &Project, file: &str) -> Vec<Value> {
    let report = Command::new("bats")
        .args(["--formatter", "junit", file])
        .current_dir(project.path())
        .output()
        .unwrap();
    let path = project.path().join("report.xml");
    fs::write(&path, report.stdout).unwrap();
    let cases = Command::new("python3").arg(in_tests("tools/junit.py")).arg(path).output().unwrap();
    assert!(cases.status.success(), "{}", String::from_utf8_lossy(&cases.stderr));
    let cases = String::from_utf8(cases.stdout).unwrap();
    cases.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_outcome_is_the_one_bats_reports() {
    let project = Project::copy_of("bats");
    let mut worker = Worker::ready(&project, &["bats"]);
    for file in ["test/outcomes.bats", "test/teardown.bats", "test/nested/passes.bats"] {
        let report = worker.run(file);
        report.statuses();
        let actual: BTreeMap<String, (String, String)> = report
            .tests
            .iter()
            .map(|test| {
                let said =
                    if test["status"] == "skipped" { text(test, "message") } else { text(test, "details") };
                (text(test, "id").to_owned(), (text(test, "status").to_owned(), said.to_owned()))
            })
            .collect();
        let cases = as_bats_reports(&project, file).into_iter();
        let expected = cases
            .map(|case| {
                let said = text(&case, "text").trim_end().to_owned();
                (text(&case, "name").to_owned(), (text(&case, "status").to_owned(), said))
            })
            .collect();
        assert_same(&actual, &expected);
    }
    worker.quit();
}

#[test]
fn outcomes_and_messages_of_files() {
    let project = Project::copy_of("bats");
    let mut worker = Worker::ready(&project, &["bats"]);
    let expected = [
        ("test/outcomes.bats", "failed", ""),
        ("test/nested/passes.bats", "passed", ""),
        ("test/none.bats", "passed", "no tests"),
        ("test/setup_file.bats", "failed", ""),
        ("test/teardown_file.bats", "failed", ""),
    ];
    for (file, outcome, message) in expected {
        let report = worker.run(file);
        assert_eq!((report.outcome(), report.message()), (outcome, message), "{file}");
    }
    let broken = [
        ("test/does_not_load.bats", "no_such_helper"),
        ("test/syntax.bats", "syntax error"),
        ("test/duplicate.bats", "Duplicate test name(s)"),
        ("test/not_there.bats", "does not exist"),
    ];
    for (file, message) in broken {
        let report = worker.run(file);
        assert_eq!((report.outcome(), report.tests.len()), ("broken", 0), "{file}: {}", report.message());
        assert!(report.message().contains(message), "{file}: {}", report.message());
    }
    worker.quit();
}

#[test]
fn failures_are_explained() {
    let project = Project::copy_of("bats");
    let mut worker = Worker::ready(&project, &["bats"]);
    let report = worker.run("test/outcomes.bats");
    let failure = report.test("fails");
    assert_eq!(text(failure, "message"), "`assert_sum 1 2 4' failed");
    assert_eq!((text(failure, "file"), failure["line"].as_u64()), ("test/outcomes.bats", Some(15)));
    assert!(text(failure, "details").ends_with("what it printed"), "{failure}");
    assert!(failure["seconds"].as_f64().unwrap() > 0.0, "bats was asked for times");
    let report = worker.run("test/setup_file.bats");
    assert_eq!(report.statuses(), BTreeMap::from([("setup_file failed".to_owned(), "error".to_owned())]));
    assert_eq!(text(report.test("setup_file failed"), "message"), "`false' failed");
    worker.quit();
}

#[test]
fn a_test_that_dies_is_told_from_the_others() {
    let project = Project::copy_of("bats");
    let mut worker = Worker::ready(&project, &["bats"]);
    let report = worker.run("test/dies.bats");
    let expected = [("passes", "passed"), ("dies", "error"), ("runs after it", "passed")];
    let expected = expected.map(|(id, status)| (id.to_owned(), status.to_owned()));
    assert_eq!((report.outcome(), report.statuses()), ("failed", BTreeMap::from(expected)));

    project.write("test/kills_bats.bats", "@test \"kills it\" { kill -9 $BATS_ROOT_PID; sleep 5; }\n");
    let report = worker.run("test/kills_bats.bats");
    assert_eq!(report.outcome(), "crashed");
    assert_eq!(report.message(), "bats was killed by signal 9 (SIGKILL) in kills it");
    assert_eq!(worker.run("test/nested/passes.bats").outcome(), "passed");
    worker.quit();
}

#[test]
fn names_are_read_whatever_they_look_like() {
    let project = Project::copy_of("bats");
    let mut worker = Worker::ready(&project, &["bats"]);
    let expected = [
        ("passes in 5ms # skip this", "passed"),
        ("with [brackets], (parentheses), a|b, ^a$ and a.c*", "passed"),
        ("adc", "failed"),
        ("with \"quotes\" and $dollars", "passed"),
        ("ünïcode – and tabs", "passed"),
        ("computed 3", "passed"),
        ("computed 3 (2)", "failed"),
    ];
    let report = worker.run("test/names.bats");
    assert_eq!(report.statuses(), expected.map(|(id, status)| (id.to_owned(), status.to_owned())).into());
    // Each of them alone, and nothing else.
    for (id, status) in expected {
        let report = worker.run_tests("test/names.bats", &[id]);
        assert_eq!(report.statuses(), BTreeMap::from([(id.to_owned(), status.to_owned())]));
        assert_eq!(report.outcome(), status, "{id}");
    }
    let ids = ["with [brackets], (parentheses), a|b, ^a$ and a.c*", "adc", "gone"];
    let report = worker.run_tests("test/names.bats", &ids);
    assert_eq!(report.tests.len(), 2);
    assert_eq!((report.outcome(), report.message()), ("failed", "there is no test \"gone\" in it"));
    worker.quit();
}

#[test]
fn options_reach_bats() {
    let project = Project::copy_of("bats");
    let mut worker = Worker::ready(&project, &["bats", "--filter-tags", "slow"]);
    let report = worker.run("test/outcomes.bats");
    assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), ["has a tag"]);
    worker.quit();
    let unable = Worker::unable(&project, &["bats", "--filter-tags", "slow", "--no-such"], &[]);
    assert_eq!(text(&unable, "message"), "bats has no option '--no-such'");
    let unable = Worker::unable(&project, &["bats", "test/outcomes.bats"], &[]);
    assert_eq!(text(&unable, "message"), "bats does not run test/outcomes.bats because it stands behind --");
}

#[test]
fn a_bats_of_the_project_comes_first() {
    let project = Project::copy_of("bats");
    project.write(".gitmodules", "[submodule \"bats\"]\n  path = third_party/bats\n");
    let own = "#!/bin/sh\n[ \"$1\" = --version ] && { echo Bats 1.99.0; exit; }\necho 1..1; echo begin 1 own; echo ok 1 own\n";
    project.write_program("third_party/bats/bin/bats", own);
    let mut worker = Worker::start(&project, &["bats"], &[]);
    assert_eq!(worker.next().unwrap()["version"], "1.99.0");
    assert_eq!(worker.run("test/nested/passes.bats").statuses().into_keys().collect::<Vec<_>>(), ["own"]);
    worker.quit();

    project.write_program("third_party/bats/bin/bats", "#!/bin/sh\necho Bats 0.4.0\n");
    let unable = Worker::unable(&project, &["bats"], &[]);
    assert!(text(&unable, "message").contains("third_party/bats/bin/bats is not bats-core 1.2"), "{unable}");
}

#[test]
fn no_bats_is_said_with_where_it_was_looked_for() {
    let project = Project::empty();
    let unable = Worker::unable(&project, &["bats"], &[("PATH", "/nowhere")]);
    let message = text(&unable, "message");
    assert!(message.contains("node_modules/.bin/bats") && message.contains("PATH"), "{message}");
    assert!(text(&unable, "hint").contains("apt-get install bats"), "{unable}");
}

#[test]
fn a_bats_that_runs_nothing_breaks_the_file() {
    let project = Project::empty();
    project.write("test/a.bats", "@test fails { false; }\n");
    let mut worker = Worker::ready(&project, &["bats", "--count"]);
    assert_eq!(worker.run("test/a.bats").outcome(), "broken");
}
