//! Predicts how long each test file will take, and from that the order in which files are handed out.
//!
//! A run ends when its last file does, so slow files go first. Being wrong is not symmetric: a fast file
//! started early costs nothing, a slow one started last is waited for by everybody. Hence doubt counts as
//! slow. The rules, in turn:
//!
//! - **A file with history** takes the *recency-weighted median* of its last [`RECENT_LIMIT`] attempts, each
//!   first scaled to a host of speed 1 (`duration × host_speed`). The newest attempt weighs 1, each older one
//!   [`RECENCY_DECAY`] times the one after it; the answer is the duration at which half of the weight lies at
//!   or below. A median because one run on a busy machine must not move a file (an average would follow it);
//!   weighted because a file that was made slower or faster is believed from its second or third run on. It
//!   is monotonic: a file whose attempts were all at least as long as another's is never predicted shorter.
//! - **A new file among known ones** takes its *weight*, `size × (1 + shared examples)`, at the pace of the
//!   slower known files: the [`SLOW_QUANTILE`] of seconds per weight. The result is kept between the same
//!   quantile of the known predictions (a small file may well be slow) and the longest of them (a big table
//!   of data need not be).
//! - **No history at all** predicts nothing, and the order alone decides: files with shared examples first,
//!   then big ones.
//!
//! **Memory** is not averaged: a file needs as much as it ever did in the same attempts, because what does not fit may be
//! killed. Where none of them told, nothing is known.
//!
//! Ties fall to files with shared examples, then to bigger ones, then to the path, so the order is total and
//! does not depend on the order in which files were discovered.

use std::cmp::Reverse;
use std::time::Duration;

/// How many of a file's attempts are looked at, newest first.
pub const RECENT_LIMIT: usize = 10;

/// What an attempt weighs, relative to the next newer one. At 0.75, two agreeing attempts of the last three
/// win, and of a long history the last three.
pub const RECENCY_DECAY: f64 = 0.75;

/// Which of the known files a new one is measured by, from 0 (the fastest) to 1 (the slowest).
pub const SLOW_QUANTILE: f64 = 0.8;

/// What is known of a test file before the run.
#[derive(Clone, Debug, PartialEq)]
pub struct FileFacts {
    /// Project-relative path with `/`.
    pub path: String,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// How many uses of shared examples, or parametrisations, the discoverer counted in it.
    pub shared_examples: u32,
    /// Its attempts that ended with an outcome, newest first; those past [`RECENT_LIMIT`] are not looked at.
    pub recent: Vec<PastAttempt>,
}

/// One attempt of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PastAttempt {
    /// How long it took.
    pub duration: Duration,
    /// How fast its host is: 1 is the reference, 2 is twice as fast. Anything but a positive finite number
    /// means that it is not known, and counts as 1.
    pub host_speed: f64,
    /// The most memory it had resident, in bytes, if that is known.
    pub peak_memory: Option<u64>,
}

/// A file's place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// Index into the list given to [`plan`].
    pub index: usize,
    /// How long it should take on a host of speed 1; `None` where there is nothing to go by.
    pub predicted: Option<Duration>,
    /// How many bytes of memory it should need; `None` where nobody knows.
    pub memory: Option<u64>,
}

/// Predicts every file and puts the files in the order they should be handed out, slowest first.
///
/// Each file of the list appears exactly once. Either every file has a prediction or none has.
pub fn plan(files: &[FileFacts]) -> Vec<PlannedFile> {
    let known: Vec<Option<Duration>> = files.iter().map(|file| weighted_median(&file.recent)).collect();
    let pace = Pace::of(files, &known);
    let predict = |(index, known): (usize, Option<Duration>)| PlannedFile {
        index,
        predicted: known.or_else(|| pace.as_ref().map(|pace| pace.predict(&files[index]))),
        memory: files[index].recent.iter().take(RECENT_LIMIT).filter_map(|attempt| attempt.peak_memory).max(),
    };
    let mut planned: Vec<PlannedFile> = known.into_iter().enumerate().map(predict).collect();
    planned.sort_by_key(|planned| {
        let file = &files[planned.index];
        (Reverse((planned.predicted, file.shared_examples > 0, file.size_bytes)), file.path.as_str())
    });
    planned
}

/// The recency-weighted median of a file's attempts; `None` when there are none.
fn weighted_median(recent: &[PastAttempt]) -> Option<Duration> {
    let mut weight = 1.0;
    let mut weighted = Vec::with_capacity(recent.len().min(RECENT_LIMIT));
    for attempt in recent.iter().take(RECENT_LIMIT) {
        weighted.push((attempt.at_reference_speed(), weight));
        weight *= RECENCY_DECAY;
    }
    let half = weighted.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    weighted.sort_by_key(|(duration, _)| *duration);
    let mut reached = 0.0;
    let median = weighted.iter().find(|(_, weight)| {
        reached += weight;
        reached >= half
    });
    median.map(|(duration, _)| *duration)
}

impl PastAttempt {
    fn at_reference_speed(&self) -> Duration {
        if self.host_speed > 0.0 {
            let seconds = self.duration.as_secs_f64() * self.host_speed;
            Duration::try_from_secs_f64(seconds).unwrap_or(self.duration)
        } else {
            self.duration
        }
    }
}

impl FileFacts {
    /// What the file's duration should grow with: each use of shared examples is taken to repeat the file
    /// once more.
    fn weight(&self) -> f64 {
        self.size_bytes.max(1) as f64 * (1.0 + f64::from(self.shared_examples))
    }
}

/// How slow the slower known files are: what new files are measured by.
struct Pace {
    seconds_per_weight: f64,
    at_least: Duration,
    at_most: Duration,
}

impl Pace {
    /// `None` when no file is known.
    fn of(files: &[FileFacts], known: &[Option<Duration>]) -> Option<Pace> {
        let mut durations: Vec<Duration> = known.iter().flatten().copied().collect();
        durations.sort_unstable();
        let at_most = *durations.last()?;
        let known_files = files.iter().zip(known);
        let paces =
            known_files.filter_map(|(file, known)| Some(known.as_ref()?.as_secs_f64() / file.weight()));
        let mut paces: Vec<f64> = paces.collect();
        paces.sort_unstable_by(f64::total_cmp);
        let rank = (SLOW_QUANTILE * (durations.len() - 1) as f64).ceil() as usize;
        Some(Pace { seconds_per_weight: paces[rank], at_least: durations[rank], at_most })
    }

    fn predict(&self, file: &FileFacts) -> Duration {
        let seconds = self.seconds_per_weight * file.weight();
        Duration::try_from_secs_f64(seconds).unwrap_or(self.at_most).clamp(self.at_least, self.at_most)
    }
}
