//! Files that are split by their tests.

use serde_json::Value;

use crate::sandbox::{Events, Sandbox};

/// So much longer than the others that it is worth splitting for two runners.
fn project() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file(".distributest/config.toml", "split = ['test_*']\nframeworks = ['pytest']\n");
    sandbox.file("test_small.py", "def test_small(): pass\n");
    sandbox.file("test_big.py", big(0..6));
    sandbox
}

fn big(tests: impl Iterator<Item = u32>) -> String {
    let test = |number| format!("def test_{number}(): time.sleep(0.3)\n\n");
    "import time\n\n".to_owned() + &tests.map(test).collect::<String>()
}

fn run(sandbox: &Sandbox, status: i32) -> Events {
    let (ended, events) = sandbox.run_for_events(&["--runners", "2"]);
    assert_eq!(ended.code(), Some(status), "{}", ended.seen());
    events
}

/// Parts of the big file.
fn parts(events: &Events) -> usize {
    events.texts("file_verdict", "file").into_iter().filter(|file| *file == "test_big.py").count()
}

fn tests(events: &Events) -> Vec<&str> {
    let mut tests = events.texts("test_finished", "id");
    tests.sort_unstable();
    tests
}

#[test]
fn the_tests_of_a_long_file_run_on_several_runners_and_count_once() {
    let sandbox = project();
    let whole = run(&sandbox, 0);
    assert_eq!(parts(&whole), 1, "nothing is known of its tests yet");
    for _ in 0..2 {
        let split = run(&sandbox, 0);
        assert_eq!(parts(&split), 2);
        assert_eq!(tests(&split), tests(&whole));
        let summary = split.summary();
        assert_eq!((&summary["files"], &summary["outcomes"]["passed"]), (&2.into(), &2.into()), "{summary}");
        let runners: Vec<&Value> = split
            .of("attempt_finished")
            .into_iter()
            .filter(|event| event["file"] == "test_big.py")
            .map(|event| &event["runner"])
            .collect();
        assert!(runners.len() == 2 && runners[0] != runners[1], "{runners:?}");
    }
}

#[test]
fn tests_that_are_new_run_and_those_that_are_gone_do_no_harm() {
    let sandbox = project();
    run(&sandbox, 0);
    sandbox.file("test_big.py", big((0..2).chain(3..5).chain(7..10)));
    let split = run(&sandbox, 0);
    assert_eq!(parts(&split), 2);
    let expected = [0, 1, 3, 4, 7, 8, 9].map(|number| format!("test_big.py::test_{number}"));
    assert_eq!(tests(&split)[..7], expected);
}

#[test]
fn tests_with_other_names_in_each_process_are_no_silent_loss() {
    let sandbox = project();
    let text = "import os, time, pytest\n\n@pytest.mark.parametrize('x', range(6), ids=lambda x: f'{x}-{os.getpid()}')\n\
                def test_it(x): time.sleep(0.3)\n";
    sandbox.file("test_big.py", text);
    run(&sandbox, 0);
    let split = run(&sandbox, 1);
    let messages = split.texts("attempt_finished", "message");
    assert!(messages.iter().any(|message| message.contains("other names in each process")), "{messages:?}");
}

#[test]
fn a_part_is_named_where_it_is_told_of() {
    let sandbox = project();
    run(&sandbox, 0);
    let plan = sandbox.run(&["--runners", "2", "--dry-run"]);
    assert!(plan.contains("2 files in 3 parts, in the order"), "{plan}");
    assert!(plan.contains("test_big.py (part 2 of 2)"), "{plan}");
    sandbox.file("test_big.py", &(big(0..6) + "def test_fails(): assert False\n"));
    let seen = sandbox.run(&["--runners", "2", "--junit", "junit.xml"]);
    assert!(seen.contains("standard error\n2 files in 3 parts"), "{seen}");
    assert!(seen.contains("FAILED test_big.py (part 1 of 2)"), "{seen}");
    assert!(seen.contains("2 files: 1 passed, 1 failed; 8 tests: 7 passed, 1 failed"), "{seen}");
    let junit = std::fs::read_to_string(sandbox.path("project/junit.xml")).expect("read the report");
    assert_eq!(junit.matches("<testsuite name=\"test_big.py\"").count(), 1, "{junit}");
    assert!(junit.contains("<testsuite name=\"test_big.py\" tests=\"7\""), "{junit}");
}
