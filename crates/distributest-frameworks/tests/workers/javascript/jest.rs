//! The Jest worker against a real Jest.

use std::collections::BTreeMap;
use std::fs;

use super::{
    Ids, Tests, assert_messages, empty_project, project_of, relative, report_of, reported, run_own, start,
    text,
};
use crate::support::{Project, Start, assert_same};
use distributest_frameworks::{Framework, Isolation, Selection, discover};
use serde_json::Value;

fn shared() -> Start<'static> {
    start("jest", Isolation::Shared)
}

struct Reference {
    /// By file.
    tests: BTreeMap<String, Tests>,
    messages: BTreeMap<String, BTreeMap<String, String>>,
    has_passed: BTreeMap<String, bool>,
}

/// What Jest's own JSON says of the whole project.
fn reference(project: &Project) -> Reference {
    let output =
        run_own(project, "jest", &["--ci", "--json", "--outputFile=report.json", "--testLocationInResults"]);
    let report = report_of(project, "report.json", &output);
    let mut reference =
        Reference { tests: BTreeMap::new(), messages: BTreeMap::new(), has_passed: BTreeMap::new() };
    for suite in report["testResults"].as_array().unwrap() {
        let file = relative(project, suite["name"].as_str().unwrap());
        let (mut tests, mut messages, mut ids) = (Tests::new(), BTreeMap::new(), Ids::default());
        for test in suite["assertionResults"].as_array().unwrap() {
            let id = ids.of(test["fullName"].as_str().unwrap());
            let status = match test["status"].as_str().unwrap() {
                status @ ("passed" | "failed") => status,
                "pending" | "todo" => "skipped",
                other => panic!("{other}"),
            };
            if let ("failed", Some(message)) = (status, test["failureMessages"].get(0)) {
                messages.insert(id.clone(), text(message).trim_start_matches("Error: ").to_owned());
            }
            tests.insert(id, (status.to_owned(), file.clone(), test["location"]["line"].as_u64()));
        }
        reference.has_passed.insert(file.clone(), suite["status"] != "failed");
        reference.tests.insert(file.clone(), tests);
        reference.messages.insert(file, messages);
    }
    reference
}

#[test]
fn reports_the_same_tests_as_jest() {
    let project = project_of("jest");
    let expected = reference(&project);
    fs::write(project.path().join("global.txt"), "").unwrap();
    let selection = Selection::of(Framework::named("jest").unwrap());
    let files: Vec<String> =
        discover(project.path(), &selection).unwrap().files.into_iter().map(|file| file.path).collect();
    assert_eq!(files, expected.tests.keys().cloned().collect::<Vec<_>>());
    let mut worker = shared().ready_worker(&project);
    for file in &files {
        let report = worker.run(file);
        assert_same(&reported(&report), &expected.tests[file]);
        assert_messages(&report, &expected.messages[file]);
        let outcome = match file.as_str() {
            "src/syntax_error.test.js" | "src/load_error.test.js" | "src/empty.test.js" => "broken",
            // Jest says so of the run, not of the file.
            "src/obsolete.test.js" => "failed",
            file if expected.has_passed[file] => "passed",
            _ => "failed",
        };
        assert_eq!(report.outcome(), outcome, "{file}: {}", report.message());
        if outcome != "passed" && !report.statuses().values().any(|status| status == "failed") {
            assert!(!report.message().is_empty(), "{file}");
        }
    }
    worker.quit();
    assert_eq!(fs::read_to_string(project.path().join("global.txt")).unwrap(), "set up\ntorn down\n");
}

#[test]
fn a_file_that_jest_does_not_count_is_said_to_be_none() {
    let project = project_of("jest");
    let mut worker = shared().ready_worker(&project);
    let report = worker.run("src/ignored.test.js");
    assert_eq!(report.outcome(), "broken");
    assert!(report.message().contains("testPathIgnorePatterns"), "{}", report.message());
    worker.quit();
}

#[test]
fn single_tests_run_alone() {
    let project = project_of("jest");
    let mut worker = shared().ready_worker(&project);
    let ids = ["outcomes passes", "outcomes has a name twice (2)", "outcomes number 2 is it's “odd” 😀"];
    let report = worker.run_tests("src/outcomes.test.js", &ids);
    let mut expected = ids.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), expected);
    assert_eq!((report.outcome(), report.message()), ("failed", ""));
    let gone = worker.run_tests("src/only.test.js", &["is gone"]);
    assert_eq!((gone.outcome(), gone.message()), ("failed", "there is no test is gone"));
    assert_eq!(worker.run("src/only.test.js").tests.len(), 2);
    worker.quit();
}

#[test]
fn a_process_for_each_file_is_torn_down_before_the_file_is_over() {
    let project = project_of("jest");
    let mut worker = start("jest", Isolation::Process).ready_worker(&project);
    assert_eq!(worker.run("src/isolation_1.test.js").outcome(), "passed");
    assert_eq!(fs::read_to_string(project.path().join("global.txt")).unwrap(), "set up\ntorn down\n");
    worker.quit();
}

#[test]
fn what_fails_in_the_global_teardown_is_told_of_the_worker() {
    let project = project_of("jest");
    project.write("tear_down.js", "module.exports = () => { throw new Error('left over'); };\n");
    let mut worker = shared().ready_worker(&project);
    assert_eq!(worker.run("src/isolation_1.test.js").outcome(), "passed");
    assert_eq!(worker.quit_with_failures().1, ["behind the last file: left over"]);
}

#[test]
fn every_project_of_a_configuration_runs_its_files() {
    let project = empty_project();
    project.write(
        "jest.config.js",
        "module.exports = { projects: [\n\
         { displayName: 'one', testMatch: ['<rootDir>/{one,both}/*.js'] },\n\
         { displayName: 'two', testMatch: ['<rootDir>/{two,both}/*.js'] },\n] };\n",
    );
    for file in ["one/a.js", "two/b.js", "both/c.js"] {
        project.write(file, "test('works', () => {});\n");
    }
    let selection = Selection::of(Framework::named("jest").unwrap());
    let files = discover(project.path(), &selection).unwrap().files;
    assert_eq!(
        files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
        ["both/c.js", "one/a.js", "two/b.js"]
    );
    let mut worker = shared().ready_worker(&project);
    let ids = |file: &str, worker: &mut crate::support::Worker| -> Vec<String> {
        worker.run(file).statuses().into_keys().collect()
    };
    assert_eq!(ids("one/a.js", &mut worker), ["works"]);
    assert_eq!(ids("both/c.js", &mut worker), ["one works", "two works"]);
    worker.quit();
}

#[test]
fn coverage_is_written_for_each_file() {
    let project = empty_project();
    project.write("package.json", "{\"jest\": {\"coverageThreshold\": {\"global\": {\"lines\": 100}}}}");
    project.write("library.js", "exports.one = () => 1;\nexports.two = () => 2;\n");
    for name in ["one", "two"] {
        let test = format!(
            "const library = require('./library');\ntest('{name}', () => {{\n  library.{name}();\n}});\n"
        );
        project.write(&format!("{name}.test.js"), &test);
    }
    let mut worker = Start { arguments: &["--coverage"], ..shared() }.ready_worker(&project);
    for name in ["one", "two"] {
        assert_eq!(worker.run(&format!("{name}.test.js")).outcome(), "passed");
        let file = format!("coverage/distributest/{name}.test.js/coverage-final.json");
        let coverage: Value = serde_json::from_slice(&fs::read(project.path().join(file)).unwrap()).unwrap();
        let functions = &coverage.as_object().unwrap().values().next().unwrap()["f"];
        let called = functions.as_object().unwrap().values().filter(|count| **count == 1).count();
        assert_eq!(called, 1, "{functions}");
    }
    worker.quit();
}

#[test]
fn a_worker_that_has_grown_too_big_is_replaced() {
    let project = empty_project();
    project.write("package.json", "{\"jest\": {\"workerIdleMemoryLimit\": 1000}}");
    project.write(
        "a.test.js",
        "test('prints', () => {\n  process.stdout.write(`pid ${process.pid}\\n`);\n});\n",
    );
    let mut worker = shared().ready_worker(&project);
    for _ in 0..2 {
        assert_eq!(worker.run("a.test.js").outcome(), "passed");
    }
    let output = worker.quit();
    let pids: Vec<_> = output.lines().filter(|line| line.starts_with("pid ")).collect();
    assert!(pids.len() == 2 && pids[0] != pids[1], "{output}");
}
