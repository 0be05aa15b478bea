//! What a recorder is told is what the history answers and keeps.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::{Place, Run, info};
use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::prediction::RECENT_LIMIT;
use distributest_core::run_event::{AttemptResult, RunEvent};
use distributest_history::{ATTEMPTS_KEPT, DAYS_KEPT, TESTS_KEPT};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_newest_attempts_come_first_with_host_and_time() {
    let place = Place::new();
    for (start, seconds) in [(1_000, 2), (100_000, 3)] {
        let mut run = Run::start(place.open(), info("blog", start), &["tests/test_a.py", "tests/test_b.py"]);
        run.verdict(1, Outcome::Passed, SECOND * seconds);
        run.finish();
    }
    let recent = place.open().recent("blog").unwrap();
    assert_eq!(recent.len(), 1, "a file that was never attempted is absent");
    let told: Vec<_> = recent["tests/test_b.py"]
        .iter()
        .map(|past| (past.duration, &*past.host, past.finished_at_unix_ms))
        .collect();
    assert_eq!(told, [(SECOND * 3, "elm", 103_000), (SECOND * 2, "elm", 3_000)]);
}

#[test]
fn a_failure_that_did_not_decide_says_nothing_about_next_time() {
    let place = Place::new();
    let mut run = Run::start(place.open(), info("blog", 0), &["a"]);
    run.attempt(0, AttemptResult::Outcome(Outcome::Failed), SECOND);
    let failed = run.attempt(0, AttemptResult::Outcome(Outcome::Failed), SECOND * 60);
    run.decide(0, Outcome::Failed, failed);
    run.attempt(0, AttemptResult::Outcome(Outcome::Passed), SECOND * 50);
    run.attempt(0, AttemptResult::Outcome(Outcome::Failed), SECOND);
    run.finish();
    let recent = place.open().recent("blog").unwrap();
    let durations: Vec<Duration> = recent["a"].iter().map(|past| past.duration).collect();
    assert_eq!(durations, [SECOND * 50, SECOND * 60]);
}

#[test]
fn projects_do_not_see_each_other() {
    let place = Place::new();
    let mut run = Run::start(place.open(), info("blog", 0), &["tests/test_a.py"]);
    run.verdict(0, Outcome::Passed, SECOND);
    run.finish();
    assert!(place.open().recent("shop").unwrap().is_empty());
}

#[test]
fn only_the_deciding_attempt_keeps_its_tests() {
    let place = Place::new();
    let mut run = Run::start(place.open(), info("blog", 0), &["a"]);
    run.attempt(0, AttemptResult::Interrupted(Interruption::HostLost), SECOND);
    let failed = run.attempt(0, AttemptResult::Outcome(Outcome::Failed), SECOND);
    let passed = run.attempt(0, AttemptResult::Outcome(Outcome::Passed), SECOND);
    run.decide(0, Outcome::Passed, passed);
    let late = run.attempt(0, AttemptResult::Interrupted(Interruption::Cancelled), SECOND);
    run.finish();

    let database = place.database();
    let mut statement =
        database.prepare("SELECT number, result, deciding FROM attempts ORDER BY number").unwrap();
    let attempts: Vec<(u64, String, bool)> = statement
        .query_map([], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let expected = [
        (1, "host lost", false),
        (failed.0, "failed", false),
        (passed.0, "passed", true),
        (late.0, "cancelled", false),
    ];
    assert_eq!(attempts, expected.map(|(number, word, deciding)| (number, word.to_string(), deciding)));
    let test: (String, String, String, i64) = database
        .query_row("SELECT identifier, name, status, duration FROM tests", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    assert_eq!(
        test,
        ("tests/test_a.py::test_0".to_string(), "test_one".to_string(), "passed".to_string(), 3_000)
    );
    assert_eq!(place.count("tests"), 1);
}

#[test]
fn a_finished_run_has_its_figures_and_an_unfinished_one_has_none() {
    let place = Place::new();
    let mut killed = Run::start(place.open(), info("blog", 0), &["a"]);
    killed.verdict(0, Outcome::Passed, SECOND * 2);
    drop(killed);
    Run::start(place.open(), info("blog", 9_000), &["a", "b"]).finish();

    let database = place.database();
    let mut statement =
        database.prepare("SELECT started_at, files, wall, exit_status FROM runs ORDER BY id").unwrap();
    let runs: Vec<(i64, i64, Option<i64>, Option<i64>)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(runs, [(0, 1, None, None), (9_000, 2, Some(9_000_000), Some(0))]);
}

#[test]
fn rows_are_written_after_a_second_without_waiting_for_the_end() {
    let place = Place::new();
    let mut run = Run::start(place.open(), info("blog", 0), &["a", "b"]);
    run.verdict(0, Outcome::Passed, SECOND / 4);
    assert_eq!(place.count("attempts"), 0);
    run.verdict(1, Outcome::Passed, SECOND);
    assert_eq!(place.count("attempts"), 1, "the second attempt belongs to the next batch");
    run.now += SECOND;
    run.send(&RunEvent::StopRequested);
    assert_eq!(place.count("attempts"), 2, "any event makes a batch due");
}

#[test]
fn many_rows_are_written_without_waiting_for_the_second() {
    let place = Place::new();
    let paths: Vec<String> = (0..400).map(|number| format!("test_{number}.py")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let mut run = Run::start(place.open(), info("blog", 0), &paths);
    for file in 0..400 {
        run.verdict(file, Outcome::Passed, Duration::ZERO);
    }
    assert!(place.count("attempts") > 100);
}

#[test]
fn attempts_and_tests_are_kept_per_file_up_to_the_limit() {
    let place = Place::new();
    let mut once = Run::start(place.open(), info("blog", 0), &["seldom"]);
    once.verdict(0, Outcome::Passed, SECOND);
    once.finish();
    let runs = ATTEMPTS_KEPT + 5;
    for number in 1..=runs {
        let mut run = Run::start(place.open(), info("blog", i64::from(number) * 60_000), &["often"]);
        run.verdict(0, Outcome::Passed, SECOND * number);
        run.finish();
    }
    assert_eq!(place.count("attempts"), i64::from(ATTEMPTS_KEPT) + 1);
    assert_eq!(place.count("tests"), i64::from(TESTS_KEPT) + 1);
    let recent = place.open().recent("blog").unwrap();
    assert_eq!(recent["seldom"].len(), 1, "running one file often does not erase another");
    let durations: Vec<Duration> = recent["often"].iter().map(|past| past.duration).collect();
    let newest: Vec<Duration> = (0..RECENT_LIMIT as u32).map(|back| SECOND * (runs - back)).collect();
    assert_eq!(durations, newest);
}

#[test]
fn what_nobody_has_run_for_a_year_is_forgotten() {
    let place = Place::new();
    let year_ms = i64::from(DAYS_KEPT) * 24 * 60 * 60 * 1000;
    for (project, path, start) in [("gone", "x", 0), ("blog", "renamed", 1), ("blog", "kept", year_ms)] {
        let mut run = Run::start(place.open(), info(project, start), &[path]);
        run.verdict(0, Outcome::Passed, SECOND);
        run.finish();
    }
    let mut run = Run::start(place.open(), info("blog", year_ms + 2), &["kept"]);
    run.verdict(0, Outcome::Passed, SECOND);
    run.finish();
    let counts = ["projects", "files", "runs", "attempts", "tests"].map(|table| place.count(table));
    assert_eq!(counts, [1, 1, 2, 2, 2]);
}

/// An attempt of a generated run: file, what came of it, microseconds it took, whether it decides the file.
type Step = (u32, AttemptResult, u64, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let results = Outcome::ALL.map(AttemptResult::Outcome).into_iter().chain(
        [Interruption::HostLost, Interruption::RunnerLost, Interruption::Cancelled]
            .map(AttemptResult::Interrupted),
    );
    let result = prop::sample::select(results.collect::<Vec<_>>());
    // Three of them are not more than is kept of one file.
    prop::collection::vec((0_u32..4, result, 0_u64..3_000_000, any::<bool>()), 0..=ATTEMPTS_KEPT as usize / 3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever happened in whatever order and across however many runs: the answer is exactly the newest attempts
    /// that passed, or failed and decided.
    #[test]
    fn what_is_recorded_is_what_is_returned(runs in prop::collection::vec((any::<i32>(), steps()), 1..4)) {
        let place = Place::new();
        let paths = ["a_spec.rb", "sub/b with space_spec.rb", "ünï_spec.rb", "quote'\"_spec.rb"];
        let mut expected: HashMap<String, Vec<(i64, usize, Duration)>> = HashMap::new();
        let mut recorded = 0;
        for (start, steps) in &runs {
            let start = i64::from(*start);
            let mut run = Run::start(place.open(), info("blog", start), &paths);
            for (file, result, duration, decides) in steps {
                let duration = Duration::from_micros(*duration);
                let attempt = run.attempt(*file, *result, duration);
                recorded += 1;
                let AttemptResult::Outcome(outcome) = *result else { continue };
                if *decides {
                    run.decide(*file, outcome, attempt);
                }
                if outcome == Outcome::Passed || (outcome == Outcome::Failed && *decides) {
                    let finished = start + i64::try_from(run.now.as_millis()).unwrap();
                    let path = paths[*file as usize].to_string();
                    expected.entry(path).or_default().push((finished, recorded, duration));
                }
            }
            run.finish();
        }
        for attempts in expected.values_mut() {
            attempts.sort_by_key(|(finished, order, _)| std::cmp::Reverse((*finished, *order)));
            attempts.truncate(RECENT_LIMIT);
        }
        let told: HashMap<String, Vec<(i64, Duration)>> = place.open().recent("blog").unwrap().into_iter()
            .map(|(path, attempts)| {
                (path, attempts.iter().map(|past| (past.finished_at_unix_ms, past.duration)).collect())
            })
            .collect();
        let expected: HashMap<String, Vec<(i64, Duration)>> = expected.into_iter()
            .map(|(path, attempts)| {
                (path, attempts.into_iter().map(|(finished, _, duration)| (finished, duration)).collect())
            })
            .collect();
        prop_assert_eq!(told, expected);
    }
}
