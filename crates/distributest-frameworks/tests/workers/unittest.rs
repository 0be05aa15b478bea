//! The unittest worker against a real unittest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Project, Start, Worker, assert_same};
use distributest_frameworks::{Framework, Isolation, Selection, discover};
use serde_json::Value;

/// Files that end or break the whole of a plain unittest run, or notice that it is one process.
const MISBEHAVING: [&str; 9] = [
    "tests/test_exit_in_set_up_class.py",
    "tests/test_exit_while_loading.py",
    "tests/test_import_error.py",
    "tests/test_interrupt.py",
    "tests/test_isolation_1.py",
    "tests/test_isolation_2.py",
    "tests/test_load_tests_error.py",
    "tests/test_os_exit.py",
    "tests/test_syntax_error.py",
];

const OUTCOMES: &str = "tests/test_outcomes.py";

fn framework() -> Framework {
    Framework::named("unittest").unwrap()
}

fn start(isolation: Isolation) -> Start<'static> {
    Start {
        framework: framework(),
        program: PathBuf::from("/usr/bin/python3"),
        program_arguments: &[],
        arguments: &[],
        isolation,
        may_stay: false,
    }
}

fn forking(project: &Project) -> Worker {
    start(Isolation::Fork).ready_worker(project)
}

/// Status and message by test id, of what `unittest_reference.py` wrote.
pub(crate) fn recorded(reports: &Path) -> BTreeMap<String, (String, String)> {
    let mut tests: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in fs::read_to_string(reports).unwrap().lines() {
        let report: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| report[key].as_str().unwrap().to_owned();
        // What is recorded twice failed, and then had an error in its tear-down.
        tests.entry(text("id")).or_insert((text("status"), text("message")));
    }
    tests
}

/// Status and message by test id, from a plain run of unittest over what does not misbehave.
fn reference(arguments: &[&str]) -> BTreeMap<String, (String, String)> {
    let project = Project::copy_of("unittest");
    for file in MISBEHAVING {
        fs::remove_file(project.path().join(file)).unwrap();
    }
    let reports = project.path().join("reports");
    let output = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/unittest_reference.py"))
        .args(arguments)
        .current_dir(project.path())
        .env("REFERENCE_REPORTS", &reports)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let mut tests = recorded(&reports);
    // unittest counts these tests as run, and records nothing but their subtests.
    for (test, status, message) in [
        ("test_some_fail", "failed", "2 subtests failed: [message [x]] (number=1); [message [x]] (number=2)"),
        ("test_only_errors", "error", "1 subtest failed: (<subtest>)"),
        ("test_nested", "failed", "1 subtest failed: (inner=2, outer=1)"),
        ("test_some_are_skipped", "passed", ""),
    ] {
        let id = format!("tests.test_outcomes.SubTests.{test}");
        assert_eq!(tests.insert(id, (status.to_owned(), message.to_owned())), None, "{test}");
    }
    tests
}

pub(crate) fn statuses(tests: &BTreeMap<String, (String, String)>) -> BTreeMap<String, String> {
    tests.iter().map(|(id, (status, _))| (id.clone(), status.clone())).collect()
}

fn well_behaving(project: &Project) -> Vec<String> {
    let found = discover(project.path(), &Selection::of(framework())).unwrap().files;
    let paths = found.into_iter().map(|file| file.path);
    paths.filter(|path| !MISBEHAVING.contains(&path.as_str())).collect()
}

#[test]
fn reports_the_same_tests_with_the_same_status_as_unittest() {
    let project = Project::copy_of("unittest");
    let expected = reference(&["discover"]);
    assert!(expected.len() > 45, "the fixture has many tests: {}", expected.len());
    for isolation in [Isolation::Fork, Isolation::Shared] {
        let mut worker = start(isolation).ready_worker(&project);
        let mut actual = BTreeMap::new();
        for file in well_behaving(&project) {
            let report = worker.run(&file);
            let failed =
                report.tests.iter().any(|test| test["status"] == "failed" || test["status"] == "error");
            assert_eq!(report.outcome(), if failed { "failed" } else { "passed" }, "{file}");
            actual.extend(report.statuses());
            for test in &report.tests {
                let (_, message) = &expected[test["id"].as_str().unwrap()];
                let first_line = message.lines().find(|line| !line.is_empty()).unwrap_or_default();
                let shown = test["message"].as_str().unwrap();
                // Messages of errors begin with the error's class.
                let is_same = shown == first_line || shown.ends_with(&format!(": {first_line}"));
                assert!(is_same, "{test}: {message}");
            }
        }
        assert_same(&actual, &statuses(&expected));
        worker.quit();
    }
}

#[test]
fn options_of_unittest_are_heeded() {
    let project = Project::copy_of("unittest");
    let files = well_behaving(&project);
    let expected = reference(&["discover", "-k", "*Tear*", "-k", "test_passes"]);
    let with = |arguments: &[&str]| Start { arguments, ..start(Isolation::Fork) }.ready_worker(&project);
    let mut patterns = with(&["-k", "*Tear*", "-k", "test_passes"]);
    let mut actual = BTreeMap::new();
    for file in &files {
        actual.extend(patterns.run(file).statuses());
    }
    let mut expected = statuses(&expected);
    expected.retain(|id, _| !id.starts_with("tests.test_outcomes.SubTests."));
    assert_same(&actual, &expected);
    assert_eq!(patterns.run("tests/test_set_up_module.py").message(), "no tests: -k leaves none");

    let mut failing_fast = with(&["--failfast", "--locals", "-p", "*_outcomes.py"]);
    let report = failing_fast.run(OUTCOMES);
    assert_eq!(report.outcome(), "failed");
    let failures = report.tests.iter().filter(|test| test["status"] == "failed" || test["status"] == "error");
    assert_eq!(failures.count(), 1);
    assert!(report.tests.iter().any(|test| test["details"].as_str().unwrap().contains("self = <tests.")));
    let left_out = failing_fast.run("tests/test_empty.py");
    assert_eq!(left_out.message(), "no tests: the pattern *_outcomes.py leaves this file out");

    let mut buffering = with(&["-b"]);
    let crashed = buffering.run("tests/test_isolation_1.py");
    assert_eq!(crashed.outcome(), "passed");
    assert!(!buffering.quit().contains("random"));

    let unable = Start { arguments: &["--no-such-option"], ..start(Isolation::Fork) };
    let unable = unable.worker(&project).next().unwrap();
    assert_eq!(unable["type"], "unable");
    assert!(unable["message"].as_str().unwrap().contains("unrecognized arguments: --no-such-option"));
}

#[test]
fn tells_where_a_test_stands_and_what_it_said() {
    let project = Project::copy_of("unittest");
    let mut worker = forking(&project);
    let report = worker.run(OUTCOMES);
    let line_of = |file: &str, text: &str| {
        let source = fs::read_to_string(project.path().join(file)).unwrap();
        source.lines().position(|line| line.contains(text)).unwrap() + 1
    };
    for (test, file, text) in [
        ("Outcomes.test_passes", OUTCOMES, "def test_passes"),
        ("Outcomes.test_skipped_by_decorator", OUTCOMES, "@unittest.skip(\"not today\")"),
        ("Outcomes.test_decorated", OUTCOMES, "@mock.patch"),
        ("Asynchronous.test_fails", OUTCOMES, "async def test_fails"),
        ("SubTests.test_nested (inner=2, outer=1)", OUTCOMES, "def test_nested"),
        ("InheritedTests.test_inherited", "tests/base.py", "def test_inherited"),
    ] {
        let test = report.test(&format!("tests.test_outcomes.{test}"));
        assert_eq!(
            (test["file"].as_str(), test["line"].as_u64()),
            (Some(file), Some(line_of(file, text) as u64)),
            "{test}"
        );
    }
    let both = report.test("tests.test_outcomes.ErrorInTearDown.test_fails");
    let details = both["details"].as_str().unwrap();
    assert!(
        details.contains("AssertionError: both") && details.contains("tear-down went wrong"),
        "{details}"
    );
    let documented = worker.run("tests/deep/test_load_tests.py");
    let doctest = documented.test("library.arithmetic.add");
    assert_eq!(
        (doctest["file"].as_str(), doctest["line"].as_u64()),
        (Some("library/arithmetic.py"), Some(2))
    );
    assert!(worker.quit().contains("UserWarning: a warning of the test"));
}

#[test]
fn only_the_tests_asked_for_are_run_and_unknown_ones_are_named() {
    let project = Project::copy_of("unittest");
    let mut worker = forking(&project);
    for file in well_behaving(&project) {
        for (id, status) in worker.run(&file).statuses() {
            let one = worker.run_tests(&file, &[&id]);
            assert_eq!(one.statuses().get(&id), Some(&status), "{id}");
            assert!(!one.message().contains("no such test"), "{id}: {}", one.message());
            if !id.contains(['(', '#']) && !one.tests.iter().any(|test| test["id"] != id.as_str()) {
                assert_eq!(one.tests.len(), 1, "{id}");
            }
        }
    }
    let of_class = worker.run(OUTCOMES).statuses().into_keys();
    let of_class: Vec<String> =
        of_class.filter(|id| id.starts_with("tests.test_outcomes.Outcomes.")).collect();
    assert!(of_class.len() > 1);
    for name in ["Outcomes", "tests.test_outcomes.Outcomes"] {
        let report = worker.run_tests(OUTCOMES, &[name]);
        let ids = report.statuses().into_keys().filter(|id| id.starts_with("tests.test_outcomes.Outcomes."));
        assert_eq!(ids.collect::<Vec<_>>(), of_class);
        assert_eq!(report.message(), "");
    }
    assert_eq!(worker.run_tests(OUTCOMES, &["Outcomes::test_passes"]).tests.len(), 1);
    let gone = "tests.test_outcomes.Outcomes.test_gone";
    let unknown = worker.run_tests(OUTCOMES, &["tests.test_outcomes.Outcomes.test_passes", gone]);
    assert_eq!(unknown.statuses().into_values().collect::<Vec<_>>(), ["passed"]);
    assert_eq!(
        (unknown.outcome(), unknown.message()),
        ("failed", format!("unittest finds no such test: {gone}").as_str())
    );
    worker.quit();
}

#[test]
fn a_file_that_does_not_load_or_stops_unittest_is_broken_and_says_why() {
    let project = Project::copy_of("unittest");
    let mut worker = forking(&project);
    for (file, message) in [
        ("tests/test_syntax_error.py", "SyntaxError: invalid syntax"),
        ("tests/test_import_error.py", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("tests/test_exit_while_loading.py", "SystemExit: this module is a script"),
        ("tests/test_load_tests_error.py", "RuntimeError: load_tests went wrong"),
        (
            "tests/test_interrupt.py",
            "unittest was stopped by KeyboardInterrupt: stop in tests.test_interrupt.Interrupts.test_interrupts",
        ),
        ("tests/test_exit_in_set_up_class.py", "unittest was stopped by SystemExit: enough"),
        ("tests/no_such_file.py", "ModuleNotFoundError: No module named 'tests.no_such_file'"),
    ] {
        let report = worker.run(file);
        assert_eq!((report.outcome(), report.message()), ("broken", message), "{file}");
        assert!(!report.finished["details"].as_str().unwrap().is_empty(), "{file}");
    }
    // A module of the same name that is installed would be run in its place.
    project.write("src/json/__init__.py", "");
    project.write("src/json/test_a.py", "import unittest\n");
    assert_eq!(worker.run("src/json/test_a.py").outcome(), "passed", "one's own package goes first");
    project.write("src/json.py", "import unittest\n");
    let shadowed = worker.run("src/json.py");
    assert!(shadowed.message().contains("module incorrectly imported"), "{}", shadowed.message());
    let empty = worker.run("tests/test_empty.py");
    assert_eq!((empty.outcome(), empty.message()), ("passed", "no tests"));
    worker.quit();
}

#[test]
fn a_test_that_ends_its_process_is_named_and_the_next_file_runs() {
    let project = Project::copy_of("unittest");
    for isolation in Isolation::ALL {
        let mut worker = start(isolation).ready_worker(&project);
        let report = worker.run("tests/test_os_exit.py");
        let id = "tests.test_os_exit.Leaves.test_2_leaves";
        assert_eq!(report.outcome(), "crashed");
        assert!(report.message().contains("left with exit status 0") && report.message().contains(id));
        assert_eq!(report.statuses()["tests.test_os_exit.Leaves.test_1_before"], "passed");
        assert_eq!(report.test(id)["status"], "error");
        assert!(worker.output().contains("last words\n"), "{isolation:?}: {}", worker.output());
        if isolation == Isolation::Fork {
            assert_eq!(worker.run("tests/test_empty.py").outcome(), "passed");
        }
    }
}

#[test]
fn files_do_not_see_each_other_and_their_package_is_loaded_once() {
    let project = Project::copy_of("unittest");
    let mut worker = forking(&project);
    for file in ["tests/test_isolation_1.py", "tests/test_isolation_2.py"] {
        assert_eq!(worker.run(file).outcome(), "passed", "{file}");
    }
    let output = worker.quit();
    let after =
        |word: &str| -> Vec<&str> { output.lines().filter_map(|line| line.strip_prefix(word)).collect() };
    let numbers = after("random ");
    assert!(numbers.len() == 2 && numbers[0] != numbers[1], "{output}");
    assert_eq!(after("package loaded in "), ["this process", "another"], "{output}");
    // The first file's process loaded the package itself.
    assert_eq!(after("exit handler of the package in "), ["its own process", "its own process"], "{output}");
}

#[test]
fn packages_of_the_same_name_below_different_directories_are_kept_apart() {
    let project = Project::empty();
    let test = "import unittest\nimport cases\n\nclass A(unittest.TestCase):\n    def test_a(self):\n        \
                self.assertEqual(cases.PLACE, __file__.split('/')[-3])\n";
    for place in ["src", "tests"] {
        project.write(&format!("{place}/cases/__init__.py"), &format!("PLACE = '{place}'\n"));
        project.write(&format!("{place}/cases/test_a.py"), test);
    }
    for isolation in [Isolation::Fork, Isolation::Shared] {
        let mut worker = start(isolation).ready_worker(&project);
        for place in ["src", "tests", "src"] {
            let report = worker.run(&format!("{place}/cases/test_a.py"));
            assert_eq!(report.outcome(), "passed", "{isolation:?}: {place}: {:?}", report.tests);
        }
        worker.quit();
    }
}

#[test]
fn a_forked_child_that_returns_from_its_test_ends_there() {
    let project = Project::empty();
    project.write(
        "test_forks.py",
        "import os, unittest\n\nclass Forks(unittest.TestCase):\n    def test_1_forks(self):\n        if os.fork() == 0:\n            \
         return\n        os.wait()\n\n    def test_2_next(self):\n        print('next ran', flush=True)\n",
    );
    for isolation in Isolation::ALL {
        let mut worker = start(isolation).ready_worker(&project);
        let report = worker.run("test_forks.py");
        assert_eq!((report.outcome(), report.tests.len()), ("passed", 2), "{isolation:?}");
        assert_eq!(worker.quit().matches("next ran").count(), 1, "{isolation:?}");
    }
}

#[test]
fn goes_on_in_the_environment_poetry_or_pipenv_made_for_the_project() {
    let test = "import sys, unittest\n\nclass A(unittest.TestCase):\n    def test_a(self):\n        \
                print('prefix', sys.prefix, flush=True)\n";
    let poetry = "[tool.poetry]\nname = \"My.Nice_Project\"\n";
    for (file, text, variable, begin, hashed, end) in [
        ("pyproject.toml", poetry, "POETRY_VIRTUALENVS_PATH", "my-nice-project", "", "-py3.11"),
        ("Pipfile", "[packages]\n", "WORKON_HOME", "", "/Pipfile", ""),
    ] {
        let project = Project::empty();
        let environments = tempfile::tempdir().unwrap();
        let directory = project.path().canonicalize().unwrap();
        let begin = if begin.is_empty() { directory.file_name().unwrap().to_str().unwrap() } else { begin };
        let digest = Command::new("/usr/bin/python3")
            .args(["-c", "import base64, hashlib, sys; \
                   print(base64.urlsafe_b64encode(hashlib.sha256(sys.argv[1].encode()).digest()).decode()[:8])"])
            .arg(format!("{}{hashed}", directory.display()))
            .output()
            .unwrap();
        let digest = String::from_utf8(digest.stdout).unwrap();
        let environment = environments.path().join(format!("{begin}-{}{end}", digest.trim()));
        let made =
            Command::new("/usr/bin/python3").args(["-m", "venv", "--without-pip"]).arg(&environment).status();
        assert!(made.unwrap().success());
        project.write("test_a.py", test);
        let variables = format!("{variable}={}", environments.path().display());
        let start = Start {
            program: PathBuf::from("env"),
            program_arguments: &[&variables, "/usr/bin/python3"],
            ..start(Isolation::Fork)
        };
        let prefix = || {
            let mut worker = start.ready_worker(&project);
            assert_eq!(worker.run("test_a.py").outcome(), "passed");
            let output = worker.quit();
            output.lines().find_map(|line| line.strip_prefix("prefix ")).unwrap().to_owned()
        };
        assert_eq!(prefix(), "/usr", "{file}: the project has no such file yet");
        project.write(file, text);
        assert_eq!(prefix(), environment.display().to_string(), "{file}");
    }
}
