//! Tells a broken host from broken tests: keeps the failures of a host back until it is known whose they are.
//!
//! A host without the database, with a full disk or with half an installation fails every file it is given, and faster
//! than the others pass theirs. So a failure is *held* as long as its host passed nothing that it began with after it.
//! What becomes of it:
//!
//! - The host passes such a file: the failure counts, it was the tests'.
//! - [`STREAK_LIMIT`] or more of its files failed in a row, and a host as good as the best of the others would do that
//!   with a probability below [`CHANCE_LIMIT`]: the host is *fenced*. Its failures are set aside, the files run
//!   elsewhere, and it is given nothing more.
//! - The best of the others fails half of its files as well, or nothing is left that could tell: the failure counts.
//!
//! As long as no other host has finished a file, nobody can tell. A host that failed [`DOUBT_STREAK`] files in a row is
//! *doubted* until then, so that it does not drain the queue: it is given one file at a time, each [`DOUBT_PAUSE`] after
//! its last failure.
//!
//! The chance that a host fails a file is taken as (failed + 1) / (finished + 2), Laplace's rule of succession, which
//! is one half for a host nobody knows.
//!
//! A fenced host is *probed*: it is given a file that it failed and that passed elsewhere since, the one question that
//! tells. If it passes, the host takes part again; if not, it is asked again after [`PROBE_PAUSE`], then twice that, and
//! so on. It also takes part again when every file that was set aside failed elsewhere too. The [`FENCES_LIMIT`]th fence
//! is for good.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::identity::{AttemptId, FileId, HostId};
use crate::outcome::Outcome;

/// Failures in a row below which a host is never blamed: two failing files may well come to the same host.
pub const STREAK_LIMIT: u32 = 3;

/// How unlikely the failures of a host must be for it to be blamed. Wrongly fencing a host costs little (its failed
/// files run once more, and a probe brings it back), a missed one fails the run.
pub const CHANCE_LIMIT: f64 = 0.01;

/// Failures in a row that one pass of another host turns into a fence: by the rules above it has failed a file with a
/// chance of 1/3 then.
pub const DOUBT_STREAK: u32 = 5;

/// Between the last failure of a doubted host and its next file.
pub const DOUBT_PAUSE: Duration = Duration::from_secs(1);

/// Between a failed probe and the next one; doubled each time.
pub const PROBE_PAUSE: Duration = Duration::from_secs(10);

/// How often a host is fenced before it is for the rest of the run.
pub const FENCES_LIMIT: u8 = 3;

/// Files that hosts must have finished in all before the failures of another are taken for the tests'.
const EVIDENCE: u32 = 3;

/// Above this chance of failing, a host's failures say nothing about it.
const COMMON_FAILURE: f64 = 0.5;

/// What is known of each host of a run.
#[derive(Debug)]
pub(super) struct Trust {
    hosts: Vec<Record>,
    /// Hosts that hold failures back, and those that are fenced: usually none.
    suspects: BTreeSet<HostId>,
    fenced: BTreeSet<HostId>,
}

#[derive(Clone, Debug, Default)]
struct Record {
    finished: u32,
    failed: u32,
    /// Failures since the last pass.
    streak: u32,
    /// The number of the first attempt that a runner began with after the streak did: a pass of an earlier one does not end
    /// it.
    streak_began: Option<u64>,
    /// When the last of the streak was.
    failed_last: Duration,
    held: Vec<Held>,
    fences: u8,
    fence: Option<Fence>,
}

/// A failure that does not count yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) attempt: AttemptId,
    pub(super) file: FileId,
    pub(super) host: HostId,
    pub(super) outcome: Outcome,
    /// There was no memory left for it.
    pub(super) out_of_memory: bool,
}

#[derive(Clone, Debug)]
struct Fence {
    /// Files it failed that are not decided yet.
    set_aside: BTreeSet<FileId>,
    /// One of those that passed elsewhere.
    question: Option<FileId>,
    is_asked: bool,
    /// When it may be asked again, and how long to wait after that.
    not_before: Duration,
    pause: Duration,
}

/// What to think of a host that holds failures back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nobody knows yet.
    Open,
    /// The failures are the tests'.
    Tests,
    /// They are the host's.
    Host,
}

impl Trust {
    pub(super) fn new(host_count: u32) -> Self {
        let hosts = (0..host_count).map(|_| Record::default()).collect();
        Trust { hosts, suspects: BTreeSet::new(), fenced: BTreeSet::new() }
    }

    /// A file passed on a host, in an attempt with that number. Returns the failures that count by that.
    pub(super) fn passed(&mut self, host: HostId, begun: u64) -> Vec<Held> {
        let record = self.record(host);
        record.finished += 1;
        if record.streak_began.is_some_and(|began| begun < began) {
            return Vec::new();
        }
        self.take_held(host)
    }

    /// A file failed on a host that is not fenced; `next` is the number of the attempt that is begun with next.
    pub(super) fn failed(&mut self, held: Held, next: u64, now: Duration) {
        let record = self.record(held.host);
        record.failed_last = now;
        record.finished += 1;
        record.failed += 1;
        record.streak += 1;
        record.streak_began.get_or_insert(next);
        record.held.push(held);
        self.suspects.insert(held.host);
    }

    /// The hosts that hold failures back.
    pub(super) fn suspects(&self) -> Vec<HostId> {
        self.suspects.iter().copied().collect()
    }

    /// The failures a host holds back.
    pub(super) fn held(&self, host: HostId) -> &[Held] {
        &self.hosts[host.0 as usize].held
    }

    /// What the others' results say about a host's failures.
    pub(super) fn judge(&self, host: HostId) -> Judgement {
        let finished: u32 = self.others(host).map(|other| other.finished).sum();
        let chances = self.others(host).map(Record::chance_of_failing);
        let Some(best) = chances.min_by(f64::total_cmp) else { return Judgement::Open };
        let streak = self.hosts[host.0 as usize].streak;
        if streak >= STREAK_LIMIT && best.powf(f64::from(streak)) < CHANCE_LIMIT {
            Judgement::Host
        } else if finished >= EVIDENCE && best >= COMMON_FAILURE {
            Judgement::Tests
        } else {
            Judgement::Open
        }
    }

    /// The hosts that another one can be measured by.
    fn others(&self, host: HostId) -> impl Iterator<Item = &Record> {
        let others = (0..).map(HostId).zip(&self.hosts).filter(move |(other, _)| *other != host);
        others.map(|(_, record)| record).filter(|record| record.fence.is_none() && record.finished > 0)
    }

    /// Whether a host failed so many files that it is given little until others have finished some.
    pub(super) fn is_doubtful(&self, host: HostId) -> bool {
        let record = &self.hosts[host.0 as usize];
        record.streak >= DOUBT_STREAK && record.fence.is_none() && self.others(host).next().is_none()
    }

    /// When a doubted host may be given its next file.
    pub(super) fn doubted_until(&self, host: HostId) -> Duration {
        self.hosts[host.0 as usize].failed_last + DOUBT_PAUSE
    }

    /// Whether the failures of a host are so few that they don't speak against it, whatever the others do.
    pub(super) fn is_hardly_suspect(&self, host: HostId) -> bool {
        self.hosts[host.0 as usize].streak < STREAK_LIMIT
    }

    /// Ends the streak of a host and returns what it holds back, in the order it failed.
    pub(super) fn take_held(&mut self, host: HostId) -> Vec<Held> {
        self.suspects.remove(&host);
        let record = self.record(host);
        record.streak = 0;
        record.streak_began = None;
        std::mem::take(&mut record.held)
    }

    /// Fences a host.
    pub(super) fn fence(&mut self, host: HostId, now: Duration) {
        let record = self.record(host);
        record.fences += 1;
        record.fence = Some(Fence {
            set_aside: BTreeSet::new(),
            question: None,
            is_asked: false,
            not_before: now,
            pause: PROBE_PAUSE,
        });
        self.fenced.insert(host);
    }

    /// A file that a fenced host failed is to run elsewhere.
    pub(super) fn set_aside(&mut self, host: HostId, file: FileId) {
        if let Some(fence) = &mut self.record(host).fence {
            fence.set_aside.insert(file);
        }
    }

    pub(super) fn is_fenced(&self, host: HostId) -> bool {
        self.fenced.contains(&host)
    }

    pub(super) fn fenced(&self) -> Vec<HostId> {
        self.fenced.iter().copied().collect()
    }

    /// A host takes part again.
    pub(super) fn readmit(&mut self, host: HostId) {
        self.fenced.remove(&host);
        self.record(host).fence = None;
    }

    /// A file is decided. Returns the hosts that are cleared by it: all they failed failed elsewhere too.
    pub(super) fn decided(&mut self, file: FileId, passed: bool) -> Vec<HostId> {
        let mut cleared = Vec::new();
        for host in self.fenced() {
            let Some(fence) = &mut self.record(host).fence else { continue };
            if !fence.set_aside.remove(&file) {
                continue;
            }
            if passed {
                fence.question.get_or_insert(file);
            } else if fence.set_aside.is_empty() && fence.question.is_none() {
                cleared.push(host);
            }
        }
        cleared
    }

    /// The hosts that may be asked now, and the file to ask them with.
    pub(super) fn questions(&self, now: Duration) -> Vec<(HostId, FileId)> {
        let questions = self.open_questions().filter(|(_, _, not_before)| *not_before <= now);
        questions.map(|(host, file, _)| (host, file)).collect()
    }

    /// When the next host may be asked that must not yet.
    pub(super) fn next_question(&self, now: Duration) -> Option<Duration> {
        self.open_questions()
            .map(|(_, _, not_before)| not_before)
            .filter(|not_before| *not_before > now)
            .min()
    }

    fn open_questions(&self) -> impl Iterator<Item = (HostId, FileId, Duration)> {
        self.fenced.iter().filter_map(|host| {
            let record = &self.hosts[host.0 as usize];
            let fence = record.fence.as_ref().filter(|fence| !fence.is_asked)?;
            (record.fences < FENCES_LIMIT).then_some((*host, fence.question?, fence.not_before))
        })
    }

    /// A host was given its question.
    pub(super) fn asked(&mut self, host: HostId) {
        if let Some(fence) = &mut self.record(host).fence {
            fence.is_asked = true;
        }
    }

    /// A host did not pass its question, or could not be asked.
    pub(super) fn refuted(&mut self, host: HostId, now: Duration) {
        if let Some(fence) = &mut self.record(host).fence {
            fence.is_asked = false;
            fence.not_before = now + fence.pause;
            fence.pause *= 2;
        }
    }

    fn record(&mut self, host: HostId) -> &mut Record {
        &mut self.hosts[host.0 as usize]
    }
}

impl Record {
    fn chance_of_failing(&self) -> f64 {
        f64::from(self.failed + 1) / f64::from(self.finished + 2)
    }
}
