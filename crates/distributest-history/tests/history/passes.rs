//! Which passes may stand for running a file.

use std::time::Duration;

use distributest_core::identity::AttemptId;
use distributest_core::outcome::Outcome;
use distributest_core::run_event::{AttemptResult, EarlierPass};
use distributest_history::{RecordedPass, TESTS_KEPT};

use crate::support::{Place, Run, info, test_result};

const SECOND: Duration = Duration::from_secs(1);

/// A run of one file that passes, to be remembered under these names.
fn pass(place: &Place, start: i64, inputs: &str, versions: &str) {
    let mut run = Run::start(place.open(), info("blog", start), &["a"]);
    run.verdict(0, Outcome::Passed, SECOND);
    run.remember(AttemptId(1), inputs, versions);
    run.finish();
}

fn fail(place: &Place, start: i64) {
    let mut run = Run::start(place.open(), info("blog", start), &["a"]);
    run.verdict(0, Outcome::Failed, SECOND);
    run.finish();
}

fn passes(place: &Place, inputs: &str) -> Vec<RecordedPass> {
    place.open().passes("blog", "a", inputs).unwrap()
}

#[test]
fn a_pass_is_found_by_its_inputs_with_its_tests() {
    let place = Place::new();
    pass(&place, 5_000, "inputs", "pytest 8");
    let expected = EarlierPass {
        run: "run-1".to_owned(),
        host: "elm".to_owned(),
        finished_at_unix_ms: 6_000,
        duration: SECOND,
        tests: vec![test_result(0)],
    };
    assert_eq!(passes(&place, "inputs"), [RecordedPass { versions: "pytest 8".to_owned(), pass: expected }]);
    assert_eq!(passes(&place, "others"), []);
    assert_eq!(place.open().passes("shop", "a", "inputs").unwrap(), []);
    assert_eq!(place.open().passes("blog", "b", "inputs").unwrap(), []);
}

#[test]
fn of_each_versions_the_newest_pass_is_told() {
    let place = Place::new();
    for (start, versions) in [(0, "8"), (10_000, "7"), (20_000, "8")] {
        pass(&place, start, "inputs", versions);
    }
    let told: Vec<_> =
        passes(&place, "inputs").into_iter().map(|it| (it.versions, it.pass.finished_at_unix_ms)).collect();
    assert_eq!(told, [("8".to_owned(), 21_000), ("7".to_owned(), 11_000)]);
}

#[test]
fn a_pass_counts_until_the_file_fails() {
    let place = Place::new();
    pass(&place, 0, "inputs", "8");
    fail(&place, 10_000);
    assert_eq!(passes(&place, "inputs"), [], "whatever the inputs of the failure were");
    pass(&place, 20_000, "inputs", "8");
    assert_eq!(passes(&place, "inputs").len(), 1);
    let mut flaky = Run::start(place.open(), info("blog", 30_000), &["a"]);
    flaky.attempt(0, AttemptResult::Outcome(Outcome::Crashed), SECOND);
    flaky.verdict(0, Outcome::Passed, SECOND);
    flaky.finish();
    assert_eq!(passes(&place, "inputs"), [], "a failure that did not decide is one, too");
}

#[test]
fn only_what_decided_its_file_is_remembered() {
    let place = Place::new();
    let mut run = Run::start(place.open(), info("blog", 0), &["a"]);
    let undecided = run.attempt(0, AttemptResult::Outcome(Outcome::Passed), SECOND);
    run.remember(undecided, "inputs", "8");
    run.remember(AttemptId(77), "inputs", "8");
    run.finish();
    assert_eq!((passes(&place, "inputs").len(), place.count("passes")), (0, 0));
}

#[test]
fn a_pass_goes_with_the_tests_of_its_attempt() {
    let place = Place::new();
    pass(&place, 0, "inputs", "8");
    for run in 1..=i64::from(TESTS_KEPT) {
        assert_eq!(passes(&place, "inputs").len(), 1, "before run {run}");
        pass(&place, run * 10_000, "others", "8");
    }
    assert_eq!(passes(&place, "inputs"), []);
    assert_eq!(place.count("passes"), i64::from(TESTS_KEPT));
}
