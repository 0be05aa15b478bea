//! Which files are split, and into which parts.

use std::time::Duration;

use distributest_core::splitting::{Candidate, PARTS_LIMIT, Part, TESTS_LIMIT, split};
use proptest::prelude::*;

fn milliseconds(duration: u64) -> Duration {
    Duration::from_millis(duration)
}

/// A file of so many tests of equal length, with a setup.
fn file(setup: u64, tests: usize, each: u64) -> Candidate {
    Candidate { predicted: milliseconds(setup + tests as u64 * each), tests: vec![milliseconds(each); tests] }
}

fn whole(predicted: u64) -> Candidate {
    Candidate { predicted: milliseconds(predicted), tests: Vec::new() }
}

fn sizes(parts: &[Part]) -> Vec<usize> {
    parts.iter().map(|part| part.tests).collect()
}

#[test]
fn a_file_with_most_of_the_work_is_spread_over_the_runners() {
    // 16 s of 40 s; a share of eight runners is 5 s.
    let mut files = vec![file(0, 40, 400)];
    files.extend(vec![whole(1200); 20]);
    let parts = split(&files, 8);
    assert_eq!(sizes(&parts[0]), [10, 10, 10, 10], "a fifth part would not make the run shorter");
    assert!(parts[1..].iter().all(Vec::is_empty));
}

#[test]
fn what_comes_before_the_first_test_is_paid_in_each_part() {
    let alone = |setup| sizes(&split(&[file(setup, 40, 100)], 4)[0]);
    assert_eq!(alone(0), [10; 4]);
    assert_eq!(alone(2_000), [10; 4], "half of the time is left");
    assert_eq!(alone(40_000), [0; 0], "next to nothing is spared");
}

#[test]
fn a_file_no_longer_than_a_share_of_the_work_is_left_alone() {
    let files = vec![file(0, 10, 100); 8];
    assert!(split(&files, 8).iter().all(Vec::is_empty));
    assert!(split(&files, 1).iter().all(Vec::is_empty));
}

#[test]
fn what_would_spare_next_to_nothing_is_not_done() {
    assert!(split(&[file(0, 10, 20)], 8)[0].is_empty(), "a fifth of a second");
    assert!(split(&[whole(60_000)], 8)[0].is_empty(), "nobody knows its tests");
    assert!(split(&[file(0, TESTS_LIMIT + 1, 10)], 8)[0].is_empty());
}

#[test]
fn a_long_test_has_a_part_of_its_own() {
    let tests = [100, 100, 5_000, 100, 100].map(milliseconds).to_vec();
    let parts = split(&[Candidate { predicted: milliseconds(5_400), tests }], 4);
    assert!(parts[0].is_empty(), "less than a tenth is spared: {parts:?}");
    let tests = [2_000, 1_000, 5_000, 1_000, 1_000].map(milliseconds).to_vec();
    let parts = split(&[Candidate { predicted: milliseconds(10_000), tests }], 4);
    assert_eq!(sizes(&parts[0]), [2, 1, 2]);
    assert_eq!(parts[0].iter().map(|part| part.first).collect::<Vec<_>>(), [0, 2, 3]);
}

proptest! {
    #[test]
    fn the_parts_of_a_file_are_all_of_its_tests_and_pay(
        files in prop::collection::vec((0_u64..5_000, prop::collection::vec(0_u64..3_000, 0..60)), 1..12),
        runners in 0_u32..200,
    ) {
        let files: Vec<Candidate> = files
            .into_iter()
            .map(|(setup, tests)| {
                let tests: Vec<Duration> = tests.into_iter().map(milliseconds).collect();
                Candidate { predicted: milliseconds(setup) + tests.iter().sum::<Duration>(), tests }
            })
            .collect();
        for (file, parts) in files.iter().zip(split(&files, runners)) {
            if parts.is_empty() {
                continue;
            }
            prop_assert!(parts.len() >= 2 && parts.len() <= PARTS_LIMIT && parts.len() <= runners as usize);
            let mut next = 0;
            for part in &parts {
                prop_assert!(part.tests > 0 && part.first == next);
                prop_assert!(part.predicted < file.predicted);
                next += part.tests;
            }
            prop_assert_eq!(next, file.tests.len());
        }
    }
}
