//! What is recorded of files that are run in parts, and what is known of tests to split them by.

use std::time::Duration;

use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::run_event::{AttemptResult, FilePart};

use crate::support::{Place, Run, file_plan, info};

const SECOND: Duration = Duration::from_secs(1);

/// What each test takes.
const TEST: Duration = Duration::from_millis(3);

fn in_two_parts(place: &Place, start: i64) -> Run {
    let files = [Some(2), None, Some(1)].map(|number| {
        let mut plan = file_plan(if number.is_some() { "split" } else { "whole" });
        plan.part = number.map(|number| FilePart { number, of: 2 });
        plan
    });
    Run::start_with(place.open(), info("blog", start), files.to_vec())
}

fn tests_of(place: &Place, path: &str) -> Vec<(String, Duration)> {
    let mut known = place.open().tests_of("blog", &[path, "unknown"]).unwrap();
    assert!(!known.contains_key("unknown"));
    let tests = known.remove(path).unwrap_or_default();
    tests.into_iter().map(|test| (test.identifier, test.duration)).collect()
}

#[test]
fn a_file_in_parts_is_recorded_as_a_whole_with_one_setup() {
    let place = Place::new();
    let mut run = in_two_parts(&place, 0);
    run.attempt(0, AttemptResult::Interrupted(Interruption::HostLost), SECOND * 60);
    run.verdict(0, Outcome::Passed, SECOND * 5);
    run.verdict(1, Outcome::Passed, SECOND);
    run.verdict(2, Outcome::Failed, SECOND * 2);
    run.finish();
    let recent = place.open().recent("blog").unwrap();
    let durations: Vec<Duration> = recent["split"].iter().map(|past| past.duration).collect();
    assert_eq!(durations, [SECOND * 2 + TEST], "the setup of the shorter part, and both tests");
    let [first, second] = [2, 0].map(|file| (format!("tests/test_a.py::test_{file}"), TEST));
    assert_eq!(tests_of(&place, "split"), [first, second], "in the order of the parts");
    let failed: i64 = place
        .database()
        .query_row("SELECT count(*) FROM attempts WHERE result = 'failed' AND deciding", [], |row| row.get(0))
        .unwrap();
    assert_eq!((failed, place.count("attempts")), (1, 2));
}

#[test]
fn a_file_with_a_part_that_did_not_run_to_its_end_leaves_nothing() {
    let place = Place::new();
    let mut run = in_two_parts(&place, 0);
    run.verdict(0, Outcome::Crashed, SECOND);
    run.verdict(2, Outcome::Passed, SECOND);
    run.finish();
    let run = in_two_parts(&place, 100_000);
    run.finish();
    assert!(place.open().recent("blog").unwrap().is_empty());
    assert_eq!(tests_of(&place, "split"), []);
}

#[test]
fn the_tests_of_a_file_are_those_of_the_newest_attempt_that_ran_to_its_end() {
    let place = Place::new();
    for (start, file, outcome) in
        [(0, 0, Outcome::Passed), (1_000, 1, Outcome::Failed), (2_000, 1, Outcome::TimedOut)]
    {
        let mut run = Run::start(place.open(), info("blog", start), &["a", "a"]);
        run.verdict(file, outcome, SECOND);
        run.finish();
    }
    assert_eq!(tests_of(&place, "a"), [("tests/test_a.py::test_1".to_owned(), TEST)]);
}
