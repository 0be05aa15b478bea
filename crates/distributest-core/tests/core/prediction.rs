//! Prediction and order: a test for each rule, and the properties the order is trusted for.

use std::time::Duration;

use distributest_core::prediction::{FileFacts, PastAttempt, PlannedFile, RECENT_LIMIT, plan};
use proptest::prelude::*;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn attempt(duration: f64) -> PastAttempt {
    PastAttempt { duration: seconds(duration), host_speed: 1.0, peak_memory: None }
}

fn file(path: &str, size_bytes: u64, shared_examples: u32, recent: &[f64]) -> FileFacts {
    let recent = recent.iter().copied().map(attempt).collect();
    FileFacts { path: path.to_owned(), size_bytes, shared_examples, recent }
}

/// What a single file with this history is predicted to take.
fn predicted(recent: &[f64]) -> Option<f64> {
    plan(&[file("a", 1, 0, recent)])[0].predicted.map(|predicted| predicted.as_secs_f64())
}

/// The paths in order, each with its predicted seconds.
fn planned(files: &[FileFacts]) -> Vec<(&str, Option<f64>)> {
    let named = |planned: PlannedFile| {
        (files[planned.index].path.as_str(), planned.predicted.map(|predicted| predicted.as_secs_f64()))
    };
    plan(files).into_iter().map(named).collect()
}

#[test]
fn one_attempt_is_believed() {
    assert_eq!(predicted(&[3.0]), Some(3.0));
}

#[test]
fn one_odd_run_moves_nothing() {
    assert_eq!(predicted(&[60.0, 2.0, 2.1, 1.9]), Some(2.1));
    assert_eq!(predicted(&[0.0, 2.0, 2.1, 1.9]), Some(1.9));
    assert_eq!(predicted(&[2.0, 2.0, 60.0, 2.0, 60.0]), Some(2.0));
}

#[test]
fn a_file_that_changed_is_believed_from_its_third_run_on() {
    assert_eq!(predicted(&[9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), Some(1.0));
    assert_eq!(predicted(&[9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0]), Some(9.0));
}

#[test]
fn attempts_of_long_ago_are_not_looked_at() {
    // The 9s of the last ten attempts weigh just over half; with any older attempt they would not.
    let recent = [9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0];
    assert_eq!(predicted(&[&recent[..], &[1.0; 90]].concat()), Some(9.0));
}

#[test]
fn durations_are_scaled_by_the_speed_of_their_host() {
    let mut scaled = file("a", 1, 0, &[]);
    scaled.recent = vec![PastAttempt { duration: seconds(2.0), host_speed: 3.0, peak_memory: None }];
    assert_eq!(planned(&[scaled]), [("a", Some(6.0))]);
}

#[test]
fn a_speed_that_makes_no_sense_counts_as_unknown() {
    for host_speed in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX] {
        let mut odd = file("a", 1, 0, &[]);
        odd.recent = vec![PastAttempt { duration: seconds(2.0), host_speed, peak_memory: None }];
        assert_eq!(planned(&[odd]), [("a", Some(2.0))], "speed {host_speed}");
    }
}

#[test]
fn without_any_history_shared_examples_and_then_size_decide() {
    let files = [
        file("small", 10, 0, &[]),
        file("big", 90, 0, &[]),
        file("small_shared", 20, 1, &[]),
        file("big_shared", 80, 1, &[]),
        file("another_big", 90, 0, &[]),
    ];
    let order = ["big_shared", "small_shared", "another_big", "big", "small"].map(|path| (path, None));
    assert_eq!(planned(&files), order);
}

#[test]
fn the_slowest_known_file_is_first() {
    let files = [file("fast", 900, 5, &[1.0]), file("slow", 1, 0, &[8.0]), file("medium", 5, 0, &[3.0])];
    assert_eq!(planned(&files), [("slow", Some(8.0)), ("medium", Some(3.0)), ("fast", Some(1.0))]);
}

/// Ten files of 100 bytes that take 1 to 10 seconds: the slow pace is 9 seconds for 100 bytes.
fn ten_known_files() -> Vec<FileFacts> {
    (1..=10).map(|number| file(&format!("known_{number}"), 100, 0, &[f64::from(number)])).collect()
}

fn predicted_among_ten(new: FileFacts) -> f64 {
    let files = [ten_known_files(), vec![new]].concat();
    let all = planned(&files);
    all.iter()
        .find(|(path, _)| *path == "new")
        .and_then(|(_, predicted)| *predicted)
        .expect("others are known")
}

#[test]
fn a_new_file_among_known_ones_is_treated_as_slow() {
    assert_eq!(predicted_among_ten(file("new", 100, 0, &[])), 9.0);
    assert_eq!(predicted_among_ten(file("new", 1, 0, &[])), 9.0, "a small file may be slow");
    assert!((predicted_among_ten(file("new", 110, 0, &[])) - 9.9).abs() < 1e-6, "size counts");
    assert_eq!(predicted_among_ten(file("new", 1_000_000, 0, &[])), 10.0, "no slower than the slowest known");
    assert_eq!(predicted_among_ten(file("new", u64::MAX, u32::MAX, &[])), 10.0);
}

#[test]
fn shared_examples_make_a_new_file_slower() {
    assert_eq!(predicted_among_ten(file("new", 55, 0, &[])), 9.0);
    assert!((predicted_among_ten(file("new", 55, 1, &[])) - 9.9).abs() < 1e-6);
}

fn any_file(path: usize) -> impl Strategy<Value = FileFacts> {
    let attempt =
        (0..5_000_000_u64, prop_oneof![Just(1.0), 0.2..5.0_f64]).prop_map(|(micros, host_speed)| {
            PastAttempt { duration: Duration::from_micros(micros), host_speed, peak_memory: None }
        });
    let recent = prop_oneof![1 => Just(Vec::new()), 2 => prop::collection::vec(attempt, 0..14)];
    (0..4_u64, 0..3_u32, recent).prop_map(move |(size, shared_examples, recent)| FileFacts {
        path: format!("file_{path}"),
        size_bytes: size * 1000,
        shared_examples,
        recent,
    })
}

fn any_files() -> impl Strategy<Value = Vec<FileFacts>> {
    (0..20_usize).prop_flat_map(|count| (0..count).map(any_file).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_file_is_in_the_order_once_slowest_first(files in any_files()) {
        let order = plan(&files);
        let mut indices: Vec<usize> = order.iter().map(|planned| planned.index).collect();
        indices.sort_unstable();
        prop_assert_eq!(indices, (0..files.len()).collect::<Vec<_>>());
        prop_assert!(order.is_sorted_by(|one, next| one.predicted >= next.predicted));
        let known = files.iter().any(|file| !file.recent.is_empty());
        prop_assert!(order.iter().all(|planned| planned.predicted.is_some() == known));
    }

    #[test]
    fn the_order_does_not_depend_on_the_order_of_discovery(
        files in any_files(),
        turn in any::<prop::sample::Index>(),
    ) {
        let mut shuffled = files.clone();
        if !shuffled.is_empty() {
            shuffled.rotate_left(turn.index(files.len()));
            shuffled[..files.len() / 2].reverse();
        }
        prop_assert_eq!(planned(&files), planned(&shuffled));
    }

    #[test]
    fn a_file_whose_attempts_were_all_longer_is_never_predicted_shorter(
        attempts in prop::collection::vec((0..5000_u64, 0..5000_u64, 0.2..5.0_f64), 1..14),
    ) {
        let history = |duration: fn(u64, u64) -> u64| {
            let attempt = |&(base, more, host_speed): &(u64, u64, f64)| PastAttempt {
                duration: Duration::from_millis(duration(base, more)), host_speed,
                peak_memory: None,
            };
            attempts.iter().map(attempt).collect::<Vec<_>>()
        };
        let shorter = FileFacts { recent: history(|base, _| base), ..file("shorter", 1, 0, &[]) };
        let longer = FileFacts { recent: history(|base, more| base + more), ..file("longer", 1, 0, &[]) };
        let files = [shorter, longer];
        let all = planned(&files);
        let of = |wanted: &str| all.iter().find(|(path, _)| *path == wanted).map(|(_, predicted)| *predicted);
        prop_assert!(of("longer") >= of("shorter"));
    }

    #[test]
    fn a_prediction_lies_within_what_was_seen(files in any_files()) {
        let scaled = |attempt: &PastAttempt| attempt.duration.as_secs_f64() * attempt.host_speed;
        let seen: Vec<f64> = files.iter().flat_map(|file| &file.recent).map(scaled).collect();
        let least = seen.iter().copied().fold(f64::MAX, f64::min);
        let most = seen.iter().copied().fold(0.0, f64::max);
        for (_, predicted) in planned(&files) {
            if let Some(predicted) = predicted {
                prop_assert!(least - 1e-6 <= predicted && predicted <= most + 1e-6);
            }
        }
    }
}

#[test]
fn a_file_needs_as_much_memory_as_it_ever_did_lately() {
    let memory = |peaks: &[Option<u64>]| {
        let recent = peaks.iter().map(|peak| PastAttempt { peak_memory: *peak, ..attempt(1.0) }).collect();
        plan(&[FileFacts { recent, ..file("a", 1, 0, &[]) }])[0].memory
    };
    assert_eq!(memory(&[Some(5), None, Some(7), Some(6)]), Some(7));
    assert_eq!(memory(&[None, None]), None);
    assert_eq!(memory(&[]), None);
    let long_ago = [vec![Some(5); RECENT_LIMIT], vec![Some(9)]].concat();
    assert_eq!(memory(&long_ago), Some(5));
}
