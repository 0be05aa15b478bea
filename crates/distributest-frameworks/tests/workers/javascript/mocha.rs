//! The Mocha worker against a real Mocha.

use std::collections::BTreeMap;
use std::fs;

use super::{
    Ids, Tests, assert_messages, empty_project, project_of, relative, report_of, reported, run_own, start,
    text,
};
use crate::support::{Project, Start, assert_same};
use distributest_frameworks::{Framework, Isolation, Selection, discover};

/// Mocha's own runs of these don't end, or leave no report.
const WITHOUT_REPORT: [&str; 4] =
    ["test/stays_open.js", "test/syntax_error.js", "test/load_error.js", "test/exit_late.js"];

fn forking() -> Start<'static> {
    start("mocha", Isolation::Fork)
}

/// What Mocha's own JSON says of one file.
fn reference(project: &Project, file: &str) -> (Tests, BTreeMap<String, String>) {
    // The configuration of the fixture names no files, so this is the only one.
    let output =
        run_own(project, "mocha", &["--reporter=json", "--reporter-option=output=report.json", file]);
    let report = report_of(project, "report.json", &output);
    let failures = report["failures"].as_array().unwrap();
    let (mut tests, mut messages, mut ids) = (Tests::new(), BTreeMap::new(), Ids::default());
    let all = report["tests"].as_array().unwrap();
    let is_hook = |failure: &&serde_json::Value| failure["title"].as_str().unwrap().contains(" hook ");
    for test in all.iter().chain(failures.iter().filter(is_hook)) {
        let id = ids.of(test["fullTitle"].as_str().unwrap());
        let has = |list: &str| report[list].as_array().unwrap().contains(test);
        let status = match (has("failures"), has("pending")) {
            (true, _) if is_hook(&test) => "error",
            (true, _) => "failed",
            (_, true) => "skipped",
            _ => "passed",
        };
        if status == "failed" || status == "error" {
            messages.insert(id.clone(), text(&test["err"]["message"]));
        }
        tests.insert(id, (status.to_owned(), relative(project, test["file"].as_str().unwrap()), None));
    }
    (tests, messages)
}

#[test]
fn reports_the_same_tests_as_mocha() {
    for isolation in [Isolation::Fork, Isolation::Shared] {
        let project = project_of("mocha");
        let selection = Selection::of(Framework::named("mocha").unwrap());
        let files: Vec<String> =
            discover(project.path(), &selection).unwrap().files.into_iter().map(|file| file.path).collect();
        assert_eq!(files.len(), fs::read_dir(project.path().join("test")).unwrap().count());
        let mut worker = start("mocha", isolation).ready_worker(&project);
        for file in files.iter().filter(|file| !WITHOUT_REPORT.contains(&file.as_str())) {
            if isolation == Isolation::Shared && file.contains("isolation") {
                continue;
            }
            let (tests, messages) = reference(&project, file);
            let report = worker.run(file);
            assert_same(&reported(&report), &tests);
            assert_messages(&report, &messages);
            let outcome = if messages.is_empty() { "passed" } else { "failed" };
            assert_eq!((report.outcome(), isolation), (outcome, isolation), "{file}: {}", report.message());
        }
        worker.quit();
    }
}

#[test]
fn a_file_that_does_not_load_is_broken() {
    let project = project_of("mocha");
    let mut worker = forking().ready_worker(&project);
    for (file, message) in [
        ("test/syntax_error.js", "SyntaxError: Unexpected identifier"),
        ("test/load_error.js", "Cannot find module './there_is_no_such_module'"),
    ] {
        let report = worker.run(file);
        assert_eq!((report.outcome(), report.tests.len()), ("broken", 0));
        assert!(report.message().starts_with(message), "{}", report.message());
    }
    assert_eq!(worker.run("test/empty.js").message(), "no tests");
    worker.quit();
}

#[test]
fn a_test_that_fails_after_it_has_passed_is_reported_for_both() {
    let project = empty_project();
    project.write("test/a.js", "it('is done twice', (done) => {\n  done();\n  setTimeout(done, 5);\n});\nit('waits', (done) => {\n  setTimeout(done, 100);\n});\n");
    let mut worker = forking().ready_worker(&project);
    let report = worker.run("test/a.js");
    let expected = [("is done twice", "passed"), ("is done twice (2)", "failed"), ("waits", "passed")];
    let expected = expected.map(|(id, status)| (id.to_owned(), status.to_owned()));
    assert_eq!((report.statuses(), report.outcome()), (BTreeMap::from(expected), "failed"));
    worker.quit();
}

#[test]
fn what_a_file_leaves_open_does_not_keep_its_process_and_exit_handlers_run() {
    let project = project_of("mocha");
    let mut worker = forking().ready_worker(&project);
    assert_eq!(worker.run("test/stays_open.js").outcome(), "passed");
    assert!(worker.output().contains("exit handlers have run"), "{}", worker.output());
    let late = worker.run("test/exit_late.js");
    assert_eq!(late.outcome(), "failed");
    assert!(late.message().contains("left with exit status 5"), "{}", late.message());
    worker.quit();
}

#[test]
fn only_a_shared_process_is_shared_and_what_is_the_projects_own_waits_for_its_turn() {
    let loaded =
        |project: &Project| fs::read_to_string(project.path().join("loaded.txt")).unwrap_or_default();
    let project = project_of("mocha");
    let mut worker = forking().ready_worker(&project);
    for (file, times) in [("test/isolation_1.js", 1), ("test/isolation_2.js", 2)] {
        assert_eq!(worker.run(file).outcome(), "passed", "{file}");
        assert_eq!(loaded(&project).lines().count(), times);
    }
    worker.quit();
    assert_eq!(loaded(&project).lines().count(), 2);

    let project = project_of("mocha");
    let mut worker = start("mocha", Isolation::Shared).ready_worker(&project);
    assert_eq!(worker.run("test/isolation_1.js").outcome(), "passed");
    assert_eq!(worker.run("test/isolation_2.js").outcome(), "failed");
    assert_eq!(loaded(&project).lines().count(), 1);
    // A module is loaded once, so the second time wants a new process.
    for _ in 0..2 {
        assert_eq!(worker.run("test/module.mjs").tests.len(), 1);
    }
    assert_eq!(loaded(&project).lines().count(), 2);
    worker.quit();
}

#[test]
fn single_tests_run_alone() {
    let project = project_of("mocha");
    let mut worker = forking().ready_worker(&project);
    let ids = ["outcomes has a name twice (2)", "outcomes has an “odd” name: 😀"];
    let report = worker.run_tests("test/outcomes.js", &ids);
    assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), ids);
    let gone = worker.run_tests("test/only.js", &["is gone"]);
    assert_eq!((gone.outcome(), gone.message()), ("failed", "there is no test is gone"));
    worker.quit();
}

#[test]
fn options_of_every_kind_reach_mocha_and_node() {
    let project = empty_project();
    project.write(
        "package.json",
        "{\"mocha\": {\"retries\": 1, \"node-option\": [\"expose-gc\"], \"spec\": [\"other/*.js\"]}}",
    );
    project.write(
        "test/a.js",
        "let tries = 0;\nsuite('options', () => {\n  test('wanted', () => {\n    if (typeof gc !== 'function' || tries++ < 1) throw new Error();\n  });\n  \
         test('other', () => {});\n});\n",
    );
    let mut worker =
        Start { arguments: &["--ui", "tdd", "--grep", "wanted"], ..forking() }.ready_worker(&project);
    for _ in 0..2 {
        let report = worker.run("test/a.js");
        assert_eq!(report.statuses(), BTreeMap::from([("options wanted".to_owned(), "passed".to_owned())]));
    }
    worker.quit();
}
