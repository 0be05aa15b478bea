//! The Minitest worker against a real Minitest.

use std::collections::BTreeMap;
use std::process::Command;

use distributest_frameworks::{Framework, Isolation, Selection, discover};
use serde_json::Value;

use crate::ruby::start;
use crate::support::{FileReport, Project, Start, assert_same};

/// What Minitest tells its reporters of a test: status, message on one line, its own text where it failed, file, line.
type Test = (String, String, String, Option<String>, Option<u64>);

fn one_line(text: &str) -> String {
    let paragraph = text.trim().split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The tests by class and name, `a` before `b` where two are called the same.
fn reference(project: &Project, files: &[String]) -> BTreeMap<String, Vec<Test>> {
    let report = project.path().join("report.json");
    let output = Command::new("ruby")
        .args(["-Ilib", "-Itest"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/minitest_reference.rb"))
        .arg(&report)
        .args(files)
        .current_dir(project.path())
        .output()
        .expect("these tests need Ruby: apt-get install ruby ruby-minitest");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let directory = project.path().canonicalize().unwrap();
    let tests = report.as_array().unwrap().iter().map(|test| {
        let text = |key: &str| test[key].as_str().unwrap_or_default().to_owned();
        let code = text("code");
        let status = match code.as_str() {
            "." => "passed",
            "S" => "skipped",
            "E" => "error",
            _ => "failed",
        };
        let details = if matches!(status, "failed" | "error") { text("details") } else { String::new() };
        let path = test["place"][0].as_str().unwrap();
        let file = path.strip_prefix(directory.to_str().unwrap()).map(|rest| rest[1..].to_owned());
        let line = file.as_ref().map(|_| test["place"][1].as_u64().unwrap());
        (text("name"), (status.to_owned(), one_line(&text("headline")), details, file, line))
    });
    grouped(tests)
}

fn reported(report: &FileReport) -> Vec<(String, Test)> {
    report.statuses();
    let text = |test: &Value, key: &str| test[key].as_str().unwrap().to_owned();
    let tests = report.tests.iter().map(|test| {
        let message = text(test, "message");
        let file = test.get("file").map(|file| file.as_str().unwrap().to_owned());
        let line = test.get("line").map(|line| line.as_u64().unwrap());
        (
            text(test, "id").replace("[2]#", "#"),
            (text(test, "status"), message, text(test, "details"), file, line),
        )
    });
    tests.collect()
}

fn grouped(tests: impl IntoIterator<Item = (String, Test)>) -> BTreeMap<String, Vec<Test>> {
    let mut groups: BTreeMap<String, Vec<Test>> = BTreeMap::new();
    for (name, test) in tests {
        groups.entry(name).or_default().push(test);
    }
    groups.values_mut().for_each(|group| group.sort());
    groups
}

#[test]
fn reports_the_same_tests_with_the_same_results_as_minitest() {
    let project = Project::copy_of("minitest");
    let discovered = discover(project.path(), &Selection::of(Framework::named("minitest").unwrap())).unwrap();
    let files: Vec<String> = discovered.files.into_iter().map(|file| file.path).collect();
    assert_eq!(files.len(), 6, "{files:?}");
    let expected = reference(&project, &files);
    assert!(expected.len() > 35, "the fixture has many tests: {}", expected.len());
    for isolation in [Isolation::Fork, Isolation::Shared] {
        let mut worker = start("minitest", isolation).ready_worker(&project);
        let mut actual = Vec::new();
        for file in &files {
            let report = worker.run(file);
            let failed = report.statuses().values().any(|status| status == "failed" || status == "error");
            assert_eq!(report.outcome(), if failed { "failed" } else { "passed" }, "{file}");
            actual.extend(reported(&report));
        }
        assert_same(&grouped(actual), &expected);
        worker.quit();
    }
}

#[test]
fn tests_of_the_same_name_have_ids_of_their_own() {
    let project = Project::copy_of("minitest");
    let mut worker = start("minitest", Isolation::Fork).ready_worker(&project);
    let file = "test/spec_style_test.rb";
    for (id, status) in [("twice#test_0001_is there", "passed"), ("twice[2]#test_0001_is there", "failed")] {
        assert_eq!(worker.run(file).statuses()[id], status);
        let report = worker.run_tests(file, &[id]);
        assert_eq!(report.statuses(), BTreeMap::from([(id.to_owned(), status.to_owned())]));
    }
    worker.quit();
}

#[test]
fn plugins_work_and_exit_handlers_run_once_in_the_process_that_registered_them() {
    let project = Project::copy_of("minitest");
    let start =
        Start { arguments: &["--greeting", "goodbye", "--seed", "42"], ..start("minitest", Isolation::Fork) };
    let mut worker = start.ready_worker(&project);
    assert_eq!(worker.run("test/parallel_test.rb").tests.len(), 10);
    assert_eq!(worker.run("test/sub/test_prefix.rb").tests.len(), 2);
    let output = worker.quit();
    assert!(output.contains("goodbye, 10 tests") && output.contains("goodbye, 2 tests"), "{output}");
    assert_eq!(output.matches("Run options: --greeting goodbye --seed 42\n").count(), 2, "{output}");
    let handlers: Vec<&str> = output.lines().filter(|line| line.starts_with("exit handler")).collect();
    let in_the_parent = "in process that loaded it";
    assert_eq!(
        handlers,
        [
            format!("exit handler of Minitest {in_the_parent}"),
            format!("exit handler of the helper {in_the_parent}")
        ]
    );
}

#[test]
fn the_order_of_tests_is_that_of_the_seed() {
    let project = Project::copy_of("minitest");
    let order = |seed| {
        let start = Start { arguments: &["--seed", seed], ..start("minitest", Isolation::Fork) };
        let mut worker = start.ready_worker(&project);
        let report = worker.run("test/outcomes_test.rb");
        worker.quit();
        report.tests.iter().map(|test| test["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(order("1"), order("1"));
    assert_ne!(order("1"), order("2"));
}

#[test]
fn of_tests_beside_each_other_none_is_blamed_for_the_end_of_their_process() {
    let project = Project::empty();
    project.write(
        "test/a_test.rb",
        "require 'minitest/autorun'\n\nSTARTED = Queue.new\n\nclass TAll < Minitest::Test\n  parallelize_me!\n\n  \
         def test_ends_it\n    STARTED.pop\n    Process.kill(:KILL, $$)\n  end\n\n  \
         def test_waits\n    STARTED << true\n    sleep\n  end\nend\n",
    );
    let mut worker = start("minitest", Isolation::Fork).ready_worker(&project);
    let report = worker.run("test/a_test.rb");
    assert_eq!(report.outcome(), "crashed");
    assert_eq!(
        report.message(),
        "the process running this file died of signal 9 (SIGKILL) before its tests were done"
    );
    assert!(report.statuses().is_empty(), "{:?}", report.statuses());
    worker.quit();
}
