//! Learns how fast hosts are beside one another, from what the same files took on them.
//!
//! A file's duration is taken as its work divided by the speed of its host. Both are unknown, and each gives the other:
//! the work of a file is the median of `duration × speed` over its attempts, and the speed of a host is the median of
//! `work ÷ duration` over its attempts, each weighing as much as its file's work, since it is the long files that
//! matter and the short ones that measure something else. The two steps are repeated a few times from equal speeds
//! on (Tukey's median polish, for factors). Medians, because an attempt on a busy machine says nothing about the host.
//!
//! Only files that several hosts ran say anything. A host with fewer than [`EVIDENCE`] attempts at such files, or one
//! within [`TOLERANCE`] of the reference, counts as the reference: to treat hosts differently costs something, too.
//! The reference, of speed 1, is the host with the most attempts.

use std::time::Duration;

/// How often work and speeds are fitted to one another; they settle in three or four.
const ROUNDS: usize = 8;

/// Attempts at files of several hosts below which a host's speed is not known.
pub const EVIDENCE: usize = 4;

/// How far from the reference a speed must be to count, as a factor.
pub const TOLERANCE: f64 = 1.2;

/// Nobody is believed to be faster or slower than this.
pub const EXTREME: f64 = 100.0;

/// What one attempt at a file took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedAttempt {
    /// The number of its host, below the number of hosts.
    pub host: usize,
    /// How long it took.
    pub duration: Duration,
}

/// An attempt at a file that several hosts ran.
struct Sample {
    file: usize,
    host: usize,
    seconds: f64,
}

/// The speed of each host, given the attempts at each file: 1 is the reference, 2 twice as fast. All are positive and
/// finite.
pub fn host_speeds<'a>(files: impl Iterator<Item = &'a [TimedAttempt]>, host_count: usize) -> Vec<f64> {
    let shared = files.filter(|attempts| attempts.iter().any(|attempt| attempt.host != attempts[0].host));
    let samples: Vec<Sample> =
        shared.enumerate().flat_map(|(file, attempts)| samples_of(file, attempts)).collect();
    let mut evidence = vec![0; host_count];
    for sample in &samples {
        evidence[sample.host] += 1;
    }
    let Some(reference) = (0..host_count).rev().max_by_key(|host| evidence[*host]) else { return Vec::new() };
    let speeds = fit(&samples, host_count);
    let relative = (0..host_count).map(|host| {
        let speed = speeds[host] / speeds[reference];
        let is_known = evidence[host] >= EVIDENCE && !(1.0 / TOLERANCE..=TOLERANCE).contains(&speed);
        if is_known { speed.clamp(1.0 / EXTREME, EXTREME) } else { 1.0 }
    });
    relative.collect()
}

fn samples_of(file: usize, attempts: &[TimedAttempt]) -> impl Iterator<Item = Sample> {
    // An attempt of no time at all has no ratio to anything.
    let seconds = |attempt: &TimedAttempt| attempt.duration.as_secs_f64().max(1e-6);
    attempts.iter().map(move |attempt| Sample { file, host: attempt.host, seconds: seconds(attempt) })
}

fn fit(samples: &[Sample], host_count: usize) -> Vec<f64> {
    let file_count = samples.last().map_or(0, |last| last.file + 1);
    let mut speeds = vec![1.0; host_count];
    for _ in 0..ROUNDS {
        let mut works = vec![Vec::new(); file_count];
        for sample in samples {
            works[sample.file].push((sample.seconds * speeds[sample.host], 1.0));
        }
        let works: Vec<f64> = works.into_iter().map(|work| weighted_median(work).unwrap_or(1.0)).collect();
        let mut ratios = vec![Vec::new(); host_count];
        for sample in samples {
            let work = works[sample.file];
            ratios[sample.host].push((work / sample.seconds, work));
        }
        speeds = ratios.into_iter().map(|ratios| weighted_median(ratios).unwrap_or(1.0)).collect();
    }
    speeds
}

/// The value at which half of the weight lies at or below; halfway to the next one where that is exactly half.
fn weighted_median(mut weighted: Vec<(f64, f64)>) -> Option<f64> {
    weighted.sort_by(|one, other| one.0.total_cmp(&other.0));
    let half = weighted.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut reached = 0.0;
    let middle = weighted.iter().position(|(_, weight)| {
        reached += weight;
        reached >= half
    })?;
    let next = weighted.get(middle + 1).filter(|_| reached == half);
    Some(next.map_or(weighted[middle].0, |next| f64::midpoint(weighted[middle].0, next.0)))
}
