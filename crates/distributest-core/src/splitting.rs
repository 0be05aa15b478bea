//! Decides which test files are split by their tests, and into which parts.
//!
//! A run takes at least as long as its longest file. One that is longer than every runner's share of the work is run in
//! parts, each on a runner of its own. But a part costs what the file costs before its first test (loading it, its
//! fixtures), and that is paid again in each. The rules:
//!
//! 1. A file may be split if it is predicted longer than a runner's share of all the work, and it is known how long its
//!    tests took. What of its prediction they do not explain is its *setup*.
//! 2. A part is a stretch of tests that follow one another in the file, as they often share fixtures. For a number of
//!    parts, the stretches are chosen so that the longest is as short as possible.
//! 3. The run is estimated as `max(work / runners, setup + longest stretch)`, the work being more by a setup for every
//!    part beyond the first. Of the numbers of parts, up to that of the runners and [`PARTS_LIMIT`], the smallest counts whose estimate is within
//!    [`CLOSE`] of the best.
//! 4. It has to pay: by [`WORTHWHILE`] of the file's prediction, and by [`LEAST_GAIN`].
//!
//! Files are looked at one by one, longest first; the work includes what splitting those before has added.

use std::time::Duration;

/// Estimates at most so many times the best one are as good as it.
pub const CLOSE: f64 = 1.05;

/// The least share of a file's prediction that splitting it must spare.
pub const WORTHWHILE: f64 = 0.1;

/// The least time that splitting a file must spare.
pub const LEAST_GAIN: Duration = Duration::from_millis(250);

/// The most parts of a file.
pub const PARTS_LIMIT: usize = 64;

/// The most tests of a file that is split: what says where each of them belongs goes to each part's runner.
pub const TESTS_LIMIT: usize = 20_000;

/// A file, as far as splitting is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How long it should take as a whole.
    pub predicted: Duration,
    /// How long each of its tests took, in the order of the file; empty where it can't be split.
    pub tests: Vec<Duration>,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index of its first test.
    pub first: usize,
    /// How many tests it has.
    pub tests: usize,
    /// How long it should take, setup included.
    pub predicted: Duration,
}

/// The parts of every file; none of them for one that is run as a whole. The parts of a file, in order, make up all of its
/// tests, and each has at least one.
pub fn split(files: &[Candidate], runners: u32) -> Vec<Vec<Part>> {
    let mut parts = vec![Vec::new(); files.len()];
    let mut work: f64 = files.iter().map(|file| file.predicted.as_secs_f64()).sum();
    let mut longest_first: Vec<usize> = (0..files.len()).collect();
    longest_first.sort_by_key(|index| std::cmp::Reverse(files[*index].predicted));
    for index in longest_first {
        let file = &files[index];
        if file.predicted.as_secs_f64() <= work / f64::from(runners.max(1)) {
            break;
        }
        parts[index] = parts_of(file, work, runners);
        let further = parts[index].len().saturating_sub(1);
        work += further as f64 * setup(file).as_secs_f64();
    }
    parts
}

/// What a file costs besides its tests.
fn setup(file: &Candidate) -> Duration {
    file.predicted.saturating_sub(file.tests.iter().sum())
}

fn parts_of(file: &Candidate, work: f64, runners: u32) -> Vec<Part> {
    let most = file.tests.len().min(runners as usize).min(PARTS_LIMIT);
    if most < 2 || file.tests.len() > TESTS_LIMIT {
        return Vec::new();
    }
    let setup = setup(file);
    let options: Vec<(f64, Vec<Part>)> = (2..=most)
        .map(|number| {
            let parts = stretches(&file.tests, number, setup);
            let longest = parts.iter().map(|part| part.predicted).max().unwrap_or_default().as_secs_f64();
            let share = (work + (parts.len() - 1) as f64 * setup.as_secs_f64()) / f64::from(runners);
            (share.max(longest), parts)
        })
        .collect();
    let best = options.iter().map(|(estimate, _)| *estimate).fold(f64::INFINITY, f64::min);
    let gain = file.predicted.as_secs_f64() - best;
    if gain < LEAST_GAIN.as_secs_f64() || gain < WORTHWHILE * file.predicted.as_secs_f64() {
        return Vec::new();
    }
    let close = options.into_iter().find(|(estimate, _)| *estimate <= best * CLOSE);
    close.map(|(_, parts)| parts).unwrap_or_default()
}

/// At most so many stretches of the tests, the longest as short as possible.
fn stretches(tests: &[Duration], number: usize, setup: Duration) -> Vec<Part> {
    // Between these lies the shortest limit with which the stretches are few enough.
    let mut too_short = Duration::ZERO;
    let mut enough: Duration = tests.iter().sum();
    let shortest = tests.iter().max().copied().unwrap_or_default();
    if fill(tests, shortest).len() <= number {
        enough = shortest;
    }
    while enough.saturating_sub(too_short) > Duration::from_micros(100) {
        let limit = (enough + too_short) / 2;
        if limit >= shortest && fill(tests, limit).len() <= number {
            enough = limit;
        } else {
            too_short = limit;
        }
    }
    let mut first = 0;
    let stretches = fill(tests, enough).into_iter().map(|(tests, duration)| {
        let part = Part { first, tests, predicted: setup + duration };
        first += tests;
        part
    });
    stretches.collect()
}

/// The stretches that come of taking tests, one after the other, as long as they fit the limit: how many tests, and how
/// long they take.
fn fill(tests: &[Duration], limit: Duration) -> Vec<(usize, Duration)> {
    let mut stretches: Vec<(usize, Duration)> = Vec::new();
    for test in tests {
        match stretches.last_mut() {
            Some((number, duration)) if *duration + *test <= limit => {
                *number += 1;
                *duration += *test;
            }
            _ => stretches.push((1, *test)),
        }
    }
    stretches
}
