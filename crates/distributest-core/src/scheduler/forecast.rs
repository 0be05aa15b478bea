//! Knows when attempts should end, and draws two conclusions from it: what a slow host should not begin with (rule 19),
//! and which files should be given to a second host (rule 20).
//!
//! A file should take its prediction, or what its launch's files took on average, divided by the speed of the host.
//!
//! **Earliest finish.** What is left of a run takes at least as long as all waiting work would on all runners, as the
//! longest waiting file would on the fastest host, and as the last attempt at work still should. A file that would take
//! longer than all three on a slow host would make the run longer there; a fast one takes it before that, so the slow
//! one takes the longest file that fits. It never waits for nobody: where no faster host is at work in time, it takes
//! whatever is next.
//!
//! **Stragglers.** An attempt is *overdue* when it has taken [`OVERDUE_FACTOR`] times its prediction and [`OVERDUE_GRACE`]
//! more. Its host may be frozen, overloaded or about to be lost, or the file has become slow; nobody knows, and with
//! runners idle trying elsewhere costs nothing. The same goes for an attempt that should still take so long that an idle
//! runner of a faster host would be overdue before.

use std::collections::BTreeSet;
use std::time::Duration;

use super::outcomes::Trouble;
use super::queue::Waiting;
use super::{Attempt, Role, Scheduler};
use crate::host_speed::EXTREME;
use crate::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};
use crate::scheduler_messages::Command;

/// An attempt is overdue after this many times what it should take, ...
pub const OVERDUE_FACTOR: u32 = 2;

/// ... and this much more.
pub const OVERDUE_GRACE: Duration = Duration::from_millis(500);

/// The speeds of hosts, and the attempts at work.
#[derive(Debug)]
pub(super) struct Forecast {
    speeds: Vec<f64>,
    /// All hosts are equally fast.
    is_even: bool,
    /// The attempts at work that are not overdue, by the time they will be.
    punctual: BTreeSet<(Duration, AttemptId)>,
    /// How many of them are on each host.
    punctual_on: Vec<u32>,
    /// The others that count.
    overdue: BTreeSet<AttemptId>,
}

impl Forecast {
    /// Hosts beyond the end of `speeds`, and those with an impossible one, have speed 1.
    pub(super) fn new(host_count: u32, speeds: &[f64]) -> Self {
        let is_possible = |speed: &f64| (1.0 / EXTREME..=EXTREME).contains(speed);
        let speed_of = |host: usize| speeds.get(host).copied().filter(is_possible).unwrap_or(1.0);
        let speeds: Vec<f64> = (0..host_count as usize).map(speed_of).collect();
        Forecast {
            is_even: speeds.windows(2).all(|pair| pair[0] == pair[1]),
            punctual_on: vec![0; speeds.len()],
            speeds,
            punctual: BTreeSet::new(),
            overdue: BTreeSet::new(),
        }
    }

    /// The place of each host in the order of their speeds, the fastest being 0.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let faster_than = |speed: f64| self.speeds.iter().filter(move |other| **other > speed).count() as u32;
        self.speeds.iter().map(|speed| if self.is_even { 0 } else { faster_than(*speed) }).collect()
    }

    /// How fast a host is.
    fn speed(&self, host: HostId) -> f64 {
        self.speeds[host.0 as usize]
    }

    /// A host begins with an attempt that is overdue at that time.
    fn begin(&mut self, attempt: AttemptId, host: HostId, overdue_at: Duration) {
        self.punctual.insert((overdue_at, attempt));
        self.punctual_on[host.0 as usize] += 1;
    }

    /// An attempt on a host is over, or nothing is expected of it any more.
    fn end(&mut self, attempt: AttemptId, host: HostId, overdue_at: Duration) {
        if self.punctual.remove(&(overdue_at, attempt)) {
            self.punctual_on[host.0 as usize] -= 1;
        }
        self.overdue.remove(&attempt);
    }

    /// Takes the attempt that is overdue first at that time from the punctual ones.
    fn next_overdue(&mut self, now: Duration) -> Option<AttemptId> {
        let (_, attempt) = *self.punctual.first().filter(|(overdue_at, _)| *overdue_at <= now)?;
        self.punctual.pop_first();
        Some(attempt)
    }
}

/// A duration times a factor; the longest one if that is too long.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// Earliest finish.
impl Scheduler {
    /// How long a file should take on a host, if there is anything to go by.
    pub(super) fn expected(&self, file: FileId, host: HostId) -> Option<Duration> {
        let work = self.queue.predicted(file).or_else(|| self.ahead.mean_work(self.launch_of(file)))?;
        Some(scaled(work, 1.0 / self.forecast.speed(host)))
    }

    /// What was done in this time on a host, as time on a host of speed 1.
    pub(super) fn work_in(&self, duration: Duration, host: HostId) -> Duration {
        scaled(duration, self.forecast.speed(host))
    }

    /// Whether a file that waits behind others would be done sooner by a runner that is idle.
    pub(super) fn is_sooner_elsewhere(&self, id: AttemptId) -> bool {
        let sooner = || {
            let attempt = self.attempts.get(&id)?;
            let idle = self.fleet.idle_runner(self.launch_of(attempt.file), None)?;
            let there = self.expected(attempt.file, idle.host)?;
            Some(self.now.saturating_add(there) < self.ends(attempt)?)
        };
        self.forecast.is_even || sooner().unwrap_or(true)
    }

    /// The file that was never handed out that a runner should take next, if it should take one.
    pub(super) fn fresh_for(&self, launch: LaunchId, runner: RunnerId) -> Option<Waiting> {
        let room = self.packing.room(runner);
        let first = self.queue.first_fresh(launch, room)?;
        let Some(work) = self.queue.predicted(first.file).filter(|_| !self.forecast.is_even) else {
            return Some(first);
        };
        let speed = self.forecast.speed(runner.host);
        let faster = self.fleet.rivals(launch).filter(|rival| self.forecast.speed(*rival) > speed);
        let faster: Vec<HostId> = faster.collect();
        let speeds = faster.iter().map(|rival| self.forecast.speed(*rival));
        let Some(fastest) = speeds.max_by(f64::total_cmp) else { return Some(first) };
        let longest = scaled(work, 1.0 / fastest);
        let left = self.time_for_waiting().max(longest).max(self.time_for_last_at_work());
        let fitting = self.queue.first_fresh_within(launch, scaled(left, speed), room);
        let is_waited_for = || faster.iter().any(|rival| self.forecast.punctual_on[rival.0 as usize] > 0);
        fitting.or_else(|| (!is_waited_for()).then_some(first))
    }

    /// How long all runners would be at work on everything that waits.
    fn time_for_waiting(&self) -> Duration {
        let speed: f64 = self
            .fleet
            .runners_by_host()
            .map(|(host, runners)| f64::from(runners) * self.forecast.speed(host))
            .sum();
        scaled(self.queue.work(self.ahead.typical()), 1.0 / speed.max(1.0 / EXTREME))
    }

    /// How long the last of the attempts at work should still take.
    fn time_for_last_at_work(&self) -> Duration {
        let last = self.forecast.punctual.last().and_then(|(_, last)| self.attempts.get(last));
        last.and_then(|last| self.ends(last)).unwrap_or_default().saturating_sub(self.now)
    }

    /// When an attempt at work should end.
    fn ends(&self, attempt: &Attempt) -> Option<Duration> {
        Some(attempt.begins.saturating_add(self.expected(attempt.file, attempt.runner.host)?))
    }

    /// When an attempt that begins now will be overdue; `None` without a prediction: what other files take says too little.
    fn overdue_at(&self, file: FileId, host: HostId) -> Option<Duration> {
        let takes = scaled(self.queue.predicted(file)?, 1.0 / self.forecast.speed(host));
        let most = takes.saturating_mul(OVERDUE_FACTOR).saturating_add(OVERDUE_GRACE);
        Some(self.now.saturating_add(most))
    }
}

/// Stragglers.
impl Scheduler {
    /// From now on an attempt that counts should be over in good time, unless nobody knows how long it takes.
    pub(super) fn expect_end(&mut self, id: AttemptId) {
        self.expect_nothing(id);
        let Some(Attempt { file, runner, role: Role::Counts, .. }) = self.attempts.get(&id) else { return };
        if let Some(overdue_at) = self.overdue_at(*file, runner.host) {
            self.forecast.begin(id, runner.host, overdue_at);
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.overdue_at = Some(overdue_at);
            }
        }
    }

    /// It does not matter any more when an attempt ends.
    pub(super) fn expect_nothing(&mut self, id: AttemptId) {
        if let Some(attempt) = self.attempts.get_mut(&id)
            && let Some(overdue_at) = attempt.overdue_at.take()
        {
            self.forecast.end(id, attempt.runner.host, overdue_at);
        }
    }

    /// Notices which attempts are overdue by now.
    pub(super) fn notice_overdue(&mut self) {
        while let Some(id) = self.forecast.next_overdue(self.now) {
            let Some(attempt) = self.attempts.get(&id) else { continue };
            self.forecast.punctual_on[attempt.runner.host.0 as usize] -= 1;
            if self.may_be_doubled(attempt.file) {
                self.forecast.overdue.insert(id);
            }
        }
    }

    /// When the next attempt will be overdue, as long as that may matter: a runner has nothing to do.
    pub(super) fn next_overdue(&self) -> Option<Duration> {
        let (overdue_at, _) = self.forecast.punctual.first()?;
        let is_anybody_idle = self.queue.launches().any(|launch| self.fleet.idle_count(launch) > 0);
        (is_anybody_idle && self.stopping.is_none()).then_some(*overdue_at)
    }

    /// Gives the files of stragglers to idle runners of other hosts, where those have nothing else to do.
    pub(super) fn double_stragglers(&mut self, commands: &mut Vec<Command>) {
        while let Some((attempt, runner)) = self.next_straggler() {
            let Some(Attempt { file, .. }) = self.attempts.get(&attempt) else { return };
            let file = *file;
            self.troubles.entry(file).or_default().double(attempt);
            self.expect_nothing(attempt);
            commands.push(Command::Double { attempt });
            self.dispatch(file, runner, Role::Counts, commands);
        }
    }

    /// An attempt whose file should be given to another runner as well.
    fn next_straggler(&self) -> Option<(AttemptId, RunnerId)> {
        let is_anybody_idle = self.queue.launches().any(|launch| self.has_idle_for_nothing(launch));
        if !is_anybody_idle || self.stopping.is_some() {
            return None;
        }
        let overdue = self.forecast.overdue.iter().find_map(|id| Some((*id, self.stand_in_for(*id)?)));
        overdue.or_else(|| {
            let (_, last) = self.forecast.punctual.last().filter(|_| !self.forecast.is_even)?;
            let runner = self.stand_in_for(*last)?;
            let attempt = self.attempts.get(last)?;
            let overtakes = self.overdue_at(attempt.file, runner.host)? < self.ends(attempt)?;
            overtakes.then_some((*last, runner))
        })
    }

    /// Whether a runner is idle and nothing of this launch waits for one.
    fn has_idle_for_nothing(&self, launch: LaunchId) -> bool {
        self.fleet.idle_count(launch) > 0 && self.queue.first(launch, None).is_none()
    }

    /// An idle runner of another host that may make the same file.
    fn stand_in_for(&self, id: AttemptId) -> Option<RunnerId> {
        let attempt = self.attempts.get(&id).filter(|attempt| attempt.role == Role::Counts)?;
        let launch = self.launch_of(attempt.file);
        if !self.may_be_doubled(attempt.file) || !self.has_idle_for_nothing(launch) {
            return None;
        }
        self.idle_runner_for(launch, Some(attempt.runner.host), attempt.file)
    }

    fn may_be_doubled(&self, file: FileId) -> bool {
        !self.alone.has(file) && self.troubles.get(&file).is_none_or(Trouble::may_be_doubled)
    }
}
