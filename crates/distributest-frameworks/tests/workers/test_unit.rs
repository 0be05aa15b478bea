//! The test-unit worker against a real test-unit.

use std::collections::BTreeMap;
use std::process::Command;

use distributest_frameworks::{Framework, Isolation, Selection, discover};
use serde_json::Value;

use crate::ruby::start;
use crate::support::{FileReport, Project, assert_same};

/// What test-unit tells its runner of a test: status, message on one line, its own text where it failed, file, line.
type Test = (String, String, String, String, u64);

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn reference(project: &Project, files: &[String]) -> BTreeMap<String, Test> {
    let report = project.path().join("report.json");
    let output = Command::new("ruby")
        .args(["-Ilib", "-Itest"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/test_unit_reference.rb"))
        .arg(&report)
        .args(files)
        .current_dir(project.path())
        .output()
        .expect("these tests need Ruby: apt-get install ruby ruby-test-unit");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let directory = project.path().canonicalize().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let tests = report.as_array().unwrap().iter().map(|test| {
        let faults: Vec<(String, String, String)> = test["faults"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| (text(&fault[0]), text(&fault[1]), text(&fault[2])))
            .collect();
        let is_failure = |label: &str| label == "Failure" || label == "Error";
        let failures: Vec<_> = faults.iter().filter(|fault| is_failure(&fault.0)).collect();
        let telling = failures.first().copied().or(faults.first());
        let status = match telling.map_or("", |fault| &fault.0) {
            "Failure" => "failed",
            "Error" => "error",
            "Pending" => "expected_failure",
            "Omission" => "skipped",
            _ => "passed",
        };
        let message =
            telling.filter(|_| status != "passed").map(|fault| one_line(&fault.1)).unwrap_or_default();
        let details: Vec<&str> = failures.iter().map(|fault| fault.2.as_str()).collect();
        let file = text(&test["place"][0])[directory.to_str().unwrap().len() + 1..].to_owned();
        (
            text(&test["name"]),
            (status.to_owned(), message, details.join("\n\n"), file, test["place"][1].as_u64().unwrap()),
        )
    });
    tests.collect()
}

fn reported(report: &FileReport) -> BTreeMap<String, Test> {
    report.statuses();
    let text = |test: &Value, key: &str| test[key].as_str().unwrap().to_owned();
    let tests = report.tests.iter().map(|test| {
        let described = (
            text(test, "status"),
            text(test, "message"),
            text(test, "details"),
            text(test, "file"),
            test["line"].as_u64().unwrap(),
        );
        (text(test, "id"), described)
    });
    tests.collect()
}

#[test]
fn reports_the_same_tests_with_the_same_results_as_test_unit() {
    let project = Project::copy_of("test_unit");
    let discovered =
        discover(project.path(), &Selection::of(Framework::named("test-unit").unwrap())).unwrap();
    let files: Vec<String> = discovered.files.into_iter().map(|file| file.path).collect();
    assert_eq!(files, ["test/suite-hooks-test.rb", "test/test_data.rb", "test/test_outcomes.rb"]);
    let expected = reference(&project, &files);
    assert!(expected.len() > 25, "the fixture has many tests: {}", expected.len());
    for isolation in [Isolation::Fork, Isolation::Shared] {
        let mut worker = start("test-unit", isolation).ready_worker(&project);
        let mut actual = BTreeMap::new();
        for file in &files {
            let report = worker.run(file);
            let failed = report.statuses().values().any(|status| status == "failed" || status == "error");
            assert_eq!(report.outcome(), if failed { "failed" } else { "passed" }, "{file}");
            actual.extend(reported(&report));
        }
        assert_same(&actual, &expected);
        let output = worker.quit();
        assert!(
            output.contains("shut down") && output.contains("Notification: something to know"),
            "{output}"
        );
        assert_eq!(
            output.matches("exit handler of the helper in process that loaded it").count(),
            1,
            "{output}"
        );
    }
}

#[test]
fn labels_of_data_are_part_of_ids() {
    let project = Project::copy_of("test_unit");
    let mut worker = start("test-unit", Isolation::Fork).ready_worker(&project);
    let id = "DataTest#test_adds[odd [label] \"#1\"]";
    let report = worker.run_tests("test/test_data.rb", &[id, "DataTest::a case in a case#test_inside"]);
    assert_eq!(report.outcome(), "passed", "{}", report.message());
    assert_eq!(report.statuses().keys().collect::<Vec<_>>(), [id, "DataTest::a case in a case#test_inside"]);
    worker.quit();
}

#[test]
fn an_error_in_startup_or_shutdown_fails_the_file_and_no_test() {
    for hook in ["startup", "shutdown"] {
        let project = Project::empty();
        let text = format!(
            "require 'test/unit'\nclass ATest < Test::Unit::TestCase\n  def self.{hook}\n    raise 'no {hook}'\n  end\n  \
             def test_a; end\nend\n"
        );
        project.write("test/a_test.rb", &text);
        let mut worker = start("test-unit", Isolation::Fork).ready_worker(&project);
        let report = worker.run("test/a_test.rb");
        let message = format!("an error occurred outside of tests: RuntimeError: no {hook}");
        assert_eq!((report.outcome(), report.message()), ("failed", message.as_str()));
        assert!(report.finished["details"].as_str().unwrap().contains("a_test.rb:4"), "{}", report.finished);
        assert_eq!(report.statuses()["ATest#test_a"], "passed");
        worker.quit();
    }
}
