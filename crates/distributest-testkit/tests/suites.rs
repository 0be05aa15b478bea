//! The generated suites do what their model says, by the word of each framework's own runner.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use distributest_core::outcome::Outcome;
use distributest_core::test_result::TestStatus;
use distributest_testkit::suites::{
    DurationPlan, EXPECTED_FILE, ExpectedFile, Flavour, Mixture, Shape, Suite, SuiteError, SuitePlan,
};

fn plan(flavour: Flavour) -> SuitePlan {
    let longest = Duration::from_millis(20);
    SuitePlan {
        flavour,
        seed: 7,
        durations: DurationPlan { files: 12, shape: Shape::Uniform, longest, total: None },
        mixture: Mixture::EveryKind,
    }
}

fn in_new_directory(flavour: Flavour, check: impl FnOnce(&Path, &Suite)) {
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("project");
    let suite = plan(flavour).write(&project).unwrap();
    check(&project, &suite);
}

/// One file of each kind: starting a framework takes longer than everything else here.
fn one_of_each_kind(suite: &Suite) -> impl Iterator<Item = &ExpectedFile> {
    suite.flavour.kinds().iter().filter_map(|kind| suite.files.iter().find(|file| file.kind == *kind))
}

/// A framework's own run of one file.
fn run(program: &str, arguments: &[&str], project: &Path, file: &ExpectedFile) -> Output {
    Command::new(program)
        .args(arguments)
        .arg(&file.path)
        .current_dir(project)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed (scripts/install-test-dependencies): {error}"))
}

/// The first Python that has pytest: the one in front may be a version manager's, without it.
fn python_with_pytest() -> &'static str {
    let imports = |python: &&str| {
        let import = Command::new(python).args(["-c", "import pytest"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(imports);
    found.expect("pytest is needed (scripts/install-test-dependencies)")
}

#[test]
fn scripts_leave_as_the_model_says() {
    in_new_directory(Flavour::Command, |project, suite| {
        for file in &suite.files {
            let started = Command::new(project.join(&file.path)).stdout(Stdio::piped()).spawn();
            let outcome = match started.map(|child| child.wait_with_output().unwrap()) {
                Err(_) => Outcome::Broken,
                Ok(output) if output.status.signal() == Some(9) => Outcome::Crashed,
                Ok(output) if output.status.success() => Outcome::Passed,
                Ok(_) => Outcome::Failed,
            };
            assert_eq!(outcome, file.outcome(), "{}", file.path);
        }
    });
}

#[test]
fn python_files_come_out_as_the_model_says() {
    let python = python_with_pytest();
    in_new_directory(Flavour::Pytest, |project, suite| {
        for file in one_of_each_kind(suite) {
            let output = run(python, &["-m", "pytest", "-rA", "-p", "no:cacheprovider"], project, file);
            let text = String::from_utf8_lossy(&output.stdout);
            if file.outcome() == Outcome::Crashed {
                assert_eq!(output.status.signal(), Some(9), "{}: {text}", file.path);
                continue;
            }
            let status = match file.outcome() {
                Outcome::Passed => 0,
                Outcome::Failed => 1,
                _ => 2,
            };
            assert_eq!(output.status.code(), Some(status), "{}: {text}", file.path);
            for test in file.tests.iter().filter(|test| test.status != TestStatus::Skipped) {
                let word = match test.status {
                    TestStatus::Passed => "PASSED",
                    TestStatus::Failed => "FAILED",
                    _ => "XFAIL",
                };
                assert!(text.contains(&format!("{word} {}", test.id)), "{word} {}: {text}", test.id);
            }
            let skipped = file.tests.iter().filter(|test| test.status == TestStatus::Skipped).count();
            assert_eq!(text.contains("1 skipped"), skipped == 1, "{}: {text}", file.path);
        }
    });
}

#[test]
fn ruby_files_come_out_as_the_model_says() {
    in_new_directory(Flavour::Rspec, |project, suite| {
        for file in one_of_each_kind(suite) {
            let output = run("rspec", &["--format", "json", "--out", "result.json"], project, file);
            if file.outcome() == Outcome::Crashed {
                assert_eq!(output.status.signal(), Some(9), "{}", file.path);
                continue;
            }
            assert_eq!(output.status.success(), file.outcome() == Outcome::Passed, "{}", file.path);
            let result: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(project.join("result.json")).unwrap()).unwrap();
            let broken = result["summary"]["errors_outside_of_examples_count"] != 0;
            assert_eq!(broken, file.outcome() == Outcome::Broken, "{}", file.path);
            let told: Vec<(&str, &str)> = result["examples"]
                .as_array()
                .unwrap()
                .iter()
                .map(|example| (example["id"].as_str().unwrap(), example["status"].as_str().unwrap()))
                .collect();
            let word = |status| match status {
                TestStatus::Passed => "passed",
                TestStatus::Failed => "failed",
                _ => "pending",
            };
            let expected: Vec<(&str, &str)> =
                file.tests.iter().map(|test| (test.id.as_str(), word(test.status))).collect();
            assert_eq!(told, expected);
        }
    });
}

#[test]
fn every_kind_is_there_and_the_model_stands_beside_the_tests() {
    for flavour in [Flavour::Command, Flavour::Pytest, Flavour::Rspec] {
        in_new_directory(flavour, |project, suite| {
            let outcomes: BTreeSet<&str> = suite.files.iter().map(|file| file.outcome().word()).collect();
            assert_eq!(outcomes, BTreeSet::from(["broken", "crashed", "failed", "passed"]));
            let missing: Vec<_> = flavour
                .kinds()
                .iter()
                .filter(|kind| suite.files.iter().all(|file| file.kind != **kind))
                .collect();
            assert!(missing.is_empty(), "{missing:?}");
            let written: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(project.join(EXPECTED_FILE)).unwrap()).unwrap();
            assert_eq!(written, suite.to_json());
            assert_eq!(written["files"].as_array().unwrap().len(), 12);
        });
    }
}

#[test]
fn the_bound_is_the_longest_file_or_the_even_share() {
    let directory = tempfile::tempdir().unwrap();
    let durations = DurationPlan {
        files: 10,
        shape: Shape::Uniform,
        longest: Duration::from_millis(300),
        total: Some(Duration::from_secs(1)),
    };
    let plan = SuitePlan { durations, mixture: Mixture::Passing, ..plan(Flavour::Command) };
    let suite = plan.write(directory.path()).unwrap();
    assert_eq!(suite.longest(), Duration::from_millis(300));
    assert_eq!(suite.lower_bound(1), suite.total());
    assert_eq!(suite.lower_bound(2), suite.total() / 2);
    assert_eq!(suite.lower_bound(8), Duration::from_millis(300));
}

#[test]
fn nothing_is_written_over() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mine"), "").unwrap();
    let error = plan(Flavour::Command).write(directory.path()).unwrap_err();
    assert!(matches!(error, SuiteError::NotEmpty { .. }), "{error:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
