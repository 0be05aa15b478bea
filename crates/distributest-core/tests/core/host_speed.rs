//! Speeds of hosts: what is learnt from files that several hosts ran.

use std::time::Duration;

use distributest_core::host_speed::{EVIDENCE, EXTREME, TOLERANCE, TimedAttempt, host_speeds};
use proptest::prelude::*;

fn on(host: usize, seconds: f64) -> TimedAttempt {
    TimedAttempt { host, duration: Duration::from_secs_f64(seconds) }
}

fn speeds(files: &[Vec<TimedAttempt>], host_count: usize) -> Vec<f64> {
    host_speeds(files.iter().map(Vec::as_slice), host_count)
}

#[test]
fn a_host_that_takes_three_times_as_long_has_a_third_of_the_speed() {
    let files = [1.0, 2.0, 0.5, 4.0, 0.1].map(|work| vec![on(0, work), on(0, work), on(1, 3.0 * work)]);
    let found = speeds(&files, 2);
    assert_eq!(found[0], 1.0);
    assert!((found[1] - 1.0 / 3.0).abs() < 1e-9, "{found:?}");
}

#[test]
fn files_of_one_host_say_nothing() {
    let files: Vec<_> =
        (0..20).map(|file| vec![on(file % 2, if file % 2 == 0 { 1.0 } else { 9.0 }); 3]).collect();
    assert_eq!(speeds(&files, 3), [1.0; 3]);
}

#[test]
fn little_evidence_and_little_difference_say_nothing() {
    let few = vec![vec![on(0, 1.0), on(1, 5.0)]; EVIDENCE - 1];
    assert_eq!(speeds(&few, 2), [1.0; 2]);
    let alike = vec![vec![on(0, 1.0), on(1, TOLERANCE - 0.05)]; 30];
    assert_eq!(speeds(&alike, 2), [1.0; 2]);
}

#[test]
fn a_few_attempts_on_a_busy_machine_move_nothing() {
    let mut files: Vec<_> =
        (1..=20).map(|work| vec![on(0, work.into()), on(1, 2.0 * f64::from(work))]).collect();
    for file in files.iter_mut().take(6) {
        file[1].duration *= 10;
    }
    let found = speeds(&files, 2);
    assert!((found[1] - 0.5).abs() < 0.01, "{found:?}");
}

#[test]
fn nothing_is_infinitely_fast() {
    let files = vec![vec![on(0, 1.0), on(1, 0.0)]; 10];
    assert_eq!(speeds(&files, 2)[1], EXTREME);
    assert_eq!(speeds(&[], 2), [1.0; 2]);
    assert_eq!(speeds(&[], 0), [0.0; 0]);
}

proptest! {
    /// Hosts of any speed, each file on two of them or more, every attempt up to 15 % off.
    #[test]
    fn speeds_are_found_among_noise(
        // The reference is the host with the most attempts, which is the first.
        truth in prop::collection::vec(0.2..5.0_f64, 1..4),
        works in prop::collection::vec((0.05..20.0_f64, 0.85..1.15_f64, 0.85..1.15_f64), 30..60),
    ) {
        let others = truth.len();
        let files: Vec<_> = works.iter().enumerate().map(|(file, (work, noise, other_noise))| {
            let other = file % others;
            vec![on(0, work * noise), on(other + 1, work * other_noise / truth[other])]
        }).collect();
        let found = speeds(&files, others + 1);
        prop_assert_eq!(found[0], 1.0);
        for (found, truth) in found[1..].iter().zip(&truth) {
            let is_near = (found / truth).max(truth / found) < 1.25;
            let is_alike = *found == 1.0 && (1.0 / 1.5..1.5).contains(truth);
            prop_assert!(is_near || is_alike, "{found} for {truth}");
        }
    }
}
