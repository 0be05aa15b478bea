//! The worker for Node.js's own test runner against a real `node --test`.

use std::collections::BTreeMap;

use super::{Ids, Tests, assert_messages, project_of, relative, reported, run_own, start, text};
use crate::support::{Project, Start, assert_same};
use distributest_frameworks::{Framework, Isolation, Selection, discover};
use serde_json::Value;

fn forking() -> Start<'static> {
    start("node-test", Isolation::Fork)
}

/// What `node --test` says of one file.
fn reference(project: &Project, file: &str) -> (Tests, BTreeMap<String, String>) {
    let reporter =
        concat!("--test-reporter=", env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/node_test_reference.cjs");
    let output = run_own(project, "node", &["--conditions=special", "--test", reporter, file]);
    let (mut tests, mut messages, mut ids) = (Tests::new(), BTreeMap::new(), Ids::default());
    let mut path: Vec<String> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.starts_with('{')) {
        let event: Value = serde_json::from_str(line).unwrap();
        let nesting = usize::try_from(event["nesting"].as_u64().unwrap()).unwrap();
        path.truncate(nesting);
        path.push(text(&event["name"]));
        let kind = event["error"]["kind"].as_str();
        if event["type"] == "test:start"
            || (event["isSuite"] == true && matches!(kind, None | Some("subtestsFailed")))
        {
            continue;
        }
        let has_failed = event["type"] == "test:fail";
        let status = match kind {
            _ if !event["skip"].is_null() => "skipped",
            _ if !event["todo"].is_null() => ["skipped", "expected_failure"][usize::from(has_failed)],
            Some("hookFailed" | "cancelledByParent") => "error",
            Some(_) => "failed",
            None => "passed",
        };
        // A file is a test where there is no other.
        let is_file = path[0].ends_with(file);
        let id = ids.of(&if is_file { file.to_owned() } else { path.join(" ") });
        if (status == "failed" || status == "error") && !is_file {
            messages.insert(id.clone(), text(&event["error"]["message"]));
        }
        let place = match event["file"].as_str() {
            Some(path) if !is_file => relative(project, path),
            _ => file.to_owned(),
        };
        tests.insert(id, (status.to_owned(), place, event["line"].as_u64().filter(|_| !is_file)));
    }
    (tests, messages)
}

#[test]
fn reports_the_same_tests_as_node() {
    let project = project_of("node_test");
    let selection = Selection::of(Framework::named("node-test").unwrap());
    let files: Vec<String> =
        discover(project.path(), &selection).unwrap().files.into_iter().map(|file| file.path).collect();
    assert_eq!(files.len(), 8);
    let mut worker = forking().ready_worker(&project);
    for file in
        files.iter().filter(|file| !["test/exit_status.js", "test/exits_at_once.js"].contains(&file.as_str()))
    {
        let (tests, messages) = reference(&project, file);
        let report = worker.run(file);
        assert_same(&reported(&report), &tests);
        assert_messages(&report, &messages);
        let has_failed = tests.values().any(|(status, ..)| status == "failed" || status == "error");
        assert_eq!(
            report.outcome(),
            if has_failed { "failed" } else { "passed" },
            "{file}: {}",
            report.message()
        );
    }
    worker.quit();
}

#[test]
fn the_exit_status_counts_and_leaving_in_a_test_is_no_success() {
    let project = project_of("node_test");
    let mut worker = forking().ready_worker(&project);
    let failed = worker.run("test/exit_status.js");
    assert_eq!((failed.outcome(), failed.tests.len()), ("failed", 1));
    assert!(failed.message().contains("left with exit status 3"), "{}", failed.message());
    let left = worker.run("test/exits_at_once.js");
    assert_eq!(left.outcome(), "crashed");
    assert!(left.message().contains("left with exit status 0"), "{}", left.message());
    worker.quit();
}

#[test]
fn single_tests_are_reported_and_judged_alone() {
    let project = project_of("node_test");
    project.write(
        "test/single.js",
        "const { test, describe } = require('node:test');\n\ntest('a', () => {});\ntest('fails', () => { throw new Error(); });\n\
         describe('g', () => {\n  test('b', () => {});\n  describe('h', () => { test('c', () => {}); });\n});\n",
    );
    let mut worker = forking().ready_worker(&project);
    for (id, reported) in
        [("a", &["a"][..]), ("g b", &["g b"]), ("g h c", &["g h c"]), ("g", &["g b", "g h c"])]
    {
        let report = worker.run_tests("test/single.js", &[id]);
        assert_eq!(report.outcome(), "passed", "{id}: {}", report.message());
        assert_eq!(report.statuses().into_keys().collect::<Vec<_>>(), reported);
    }
    assert_eq!(worker.run_tests("test/single.js", &["fails", "a"]).outcome(), "failed");
    let gone = worker.run_tests("test/single.js", &["a", "gone"]);
    assert_eq!((gone.outcome(), gone.message()), ("failed", "there is no test gone"));
    worker.quit();
}

#[test]
fn options_reach_node() {
    let project = project_of("node_test");
    let arguments = ["--test-name-pattern", "^passes$", "--require", "./set_up.js"];
    project.write("set_up.js", "globalThis.isSetUp = true;\n");
    project.write(
        "test/options.js",
        "const { test } = require('node:test');\n\ntest('passes', () => {\n  if (!isSetUp) throw new Error();\n});\ntest('other', () => {\n  throw new Error();\n});\n",
    );
    let mut worker = Start { arguments: &arguments, ..forking() }.ready_worker(&project);
    for _ in 0..2 {
        let report = worker.run("test/options.js");
        assert_eq!(report.outcome(), "passed", "{}", report.message());
        assert_eq!(report.test("passes")["status"], "passed");
    }
    worker.quit();
}
