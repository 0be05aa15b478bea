//! Gives busy runners their next files before they ask, so that the way there and back costs no time (rules 16 and 17).
//!
//! How much may wait at a runner is a matter of time. It must not run dry while an answer and the next order are on
//! their way: [`ROUND_TRIPS`] times the round trip to its host. More than that spares messages, and does no harm as long
//! as there is plenty left to even things out with: one part in [`SHARE_PARTS`] of what each runner still has to do. So
//! much is queued in the beginning, with the first file already, and little in the end, and nothing where files take long and
//! the host is near.
//!
//! The round trip to a host is the shortest time that was seen between an order to an idle runner and the news that it
//! had begun; more than [`ROUND_TRIP_LIMIT`] is not the network's doing. How long a file takes is its prediction or, without one, the mean of what its launch ran before.
//!
//! Whoever is wrong is put right in the end: when a runner is idle and nothing waits in the queue, what waits at others
//! is taken back, unless it should begin before it could be back.

use std::collections::BTreeSet;
use std::time::Duration;

use super::queue::Waiting;
use super::{Attempt, Role, Scheduler};
use crate::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};
use crate::scheduler_messages::Command;

/// How many round trips to its host a runner's queue should last: one is needed, and the shortest one seen is shorter
/// than most.
pub const ROUND_TRIPS: u32 = 4;

/// A runner's queue may hold one part in this many of what is left for each runner to do.
pub const SHARE_PARTS: u32 = 8;

/// What a round trip is taken to last at most.
pub const ROUND_TRIP_LIMIT: Duration = Duration::from_secs(1);

/// What waits at a runner is taken back when it would begin, or should have begun, this many round trips from now.
const PATIENCE_ROUND_TRIPS: u32 = 2;

/// What is known of hosts and launches, and what waits at runners.
#[derive(Debug)]
pub(super) struct Ahead {
    hosts: Vec<HostPace>,
    /// By launch.
    observed: Vec<Observed>,
    /// Attempts of each launch that wait behind others, by the time they should begin.
    waiting: Vec<BTreeSet<(Duration, AttemptId)>>,
    /// Those of them that were asked back and have not answered.
    withdrawn: BTreeSet<AttemptId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct HostPace {
    /// How many attempts may wait at each of its runners.
    limit: usize,
    round_trip: Option<Duration>,
}

/// What a launch ran in this run.
#[derive(Clone, Copy, Debug, Default)]
struct Observed {
    finished: u32,
    total: Duration,
}

impl Observed {
    fn mean(self) -> Option<Duration> {
        self.total.checked_div(self.finished)
    }
}

impl Ahead {
    pub(super) fn new(host_count: u32, launch_count: usize) -> Self {
        let hosts = (0..host_count).map(|_| HostPace::default()).collect();
        let observed = vec![Observed::default(); launch_count];
        let waiting = vec![BTreeSet::new(); launch_count];
        Ahead { hosts, observed, waiting, withdrawn: BTreeSet::new() }
    }

    /// A host says how many attempts each of its runners takes beside the one it is at work on.
    pub(super) fn set_limit(&mut self, host: HostId, limit: u16) {
        if let Some(pace) = self.hosts.get_mut(host.0 as usize) {
            pace.limit = limit.into();
        }
    }

    /// An order to an idle runner of the host took this long to be carried out, as far as can be told from here.
    pub(super) fn saw_round_trip(&mut self, host: HostId, took: Duration) {
        let pace = &mut self.hosts[host.0 as usize];
        let shortest = pace.round_trip.unwrap_or(ROUND_TRIP_LIMIT);
        pace.round_trip = Some(shortest.min(took));
    }

    /// A file of a launch took this long, or would have on a host of speed 1.
    pub(super) fn saw_work(&mut self, launch: LaunchId, took: Duration) {
        let observed = &mut self.observed[usize::from(launch.0)];
        observed.finished += 1;
        observed.total = observed.total.saturating_add(took);
    }

    /// An attempt was put behind others; it should begin at that time.
    pub(super) fn wait(&mut self, attempt: AttemptId, launch: LaunchId, begins: Duration) {
        self.waiting[usize::from(launch.0)].insert((begins, attempt));
    }

    /// An attempt that should have begun at that time does not wait behind others any more.
    pub(super) fn wait_no_more(&mut self, attempt: AttemptId, launch: LaunchId, begins: Duration) {
        self.waiting[usize::from(launch.0)].remove(&(begins, attempt));
    }

    /// An attempt that may have been asked back has begun or ended.
    pub(super) fn answered(&mut self, attempt: AttemptId) {
        self.withdrawn.remove(&attempt);
    }

    /// How long a file of a launch takes on average on a host of speed 1, as far as any ran.
    pub(super) fn mean_work(&self, launch: LaunchId) -> Option<Duration> {
        self.observed[usize::from(launch.0)].mean()
    }

    fn round_trip(&self, host: HostId) -> Duration {
        self.hosts[host.0 as usize].round_trip.unwrap_or_default()
    }

    fn limit(&self, host: HostId) -> usize {
        self.hosts[host.0 as usize].limit
    }

    /// The mean of everything that ran.
    pub(super) fn typical(&self) -> Duration {
        let sum = |all: Observed, one: &Observed| Observed {
            finished: all.finished + one.finished,
            total: all.total.saturating_add(one.total),
        };
        self.observed.iter().fold(Observed::default(), sum).mean().unwrap_or_default()
    }
}

impl Scheduler {
    /// Gives a busy runner what it may have in advance. Idle runners have theirs already.
    pub(super) fn queue_ahead(&mut self, runner: RunnerId, commands: &mut Vec<Command>) {
        while let Some((launch, waiting)) = self.next_in_advance(runner) {
            self.queue.take(launch, waiting);
            self.dispatch(waiting.file, runner, Role::Counts, commands);
        }
    }

    /// What befell a file before is no matter of chance, perhaps: nothing waits behind it, and it waits behind nothing.
    fn next_in_advance(&self, runner: RunnerId) -> Option<(LaunchId, Waiting)> {
        let attempts = self.fleet.attempts_of(runner)?;
        let is_full = attempts.len() > self.ahead.limit(runner.host);
        // A host that may be broken fails faster than others pass, and must not drain the queue.
        let is_suspect = !self.trust.held(runner.host).is_empty();
        if is_full || is_suspect || self.stopping.is_some() || self.fleet.is_paused(runner.host) {
            return None;
        }
        let at_work = self.attempts.get(attempts.front()?)?;
        if at_work.role != Role::Counts || self.troubles.contains_key(&at_work.file) {
            return None;
        }
        let able = self.queue.launches().filter(|launch| self.fleet.is_able(runner, *launch));
        let (launch, waiting) = able
            .filter_map(|launch| Some((launch, self.fresh_for(launch, runner)?)))
            .min_by_key(|(_, waiting)| waiting.file)?;
        // Neighbours in the queue take about as long as one another.
        let queued = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
        let work = self.expected(waiting.file, runner.host)?.saturating_mul(queued);
        (work <= self.most_in_advance(runner.host)).then_some((launch, waiting))
    }

    /// How much work may wait at a runner of a host.
    fn most_in_advance(&self, host: HostId) -> Duration {
        let share = self.queue.work(self.ahead.typical()) / self.fleet.runners_hoped_for().max(1);
        (self.ahead.round_trip(host) * ROUND_TRIPS).max(share / SHARE_PARTS)
    }

    /// When an attempt would begin that is put behind those its runner has.
    pub(super) fn begin_behind(&self, runner: RunnerId, file: FileId) -> Duration {
        let Some(attempts) = self.fleet.attempts_of(runner) else { return self.now };
        let first = attempts.front().and_then(|first| self.attempts.get(first));
        let expected = |file: FileId| self.expected(file, runner.host).unwrap_or_default();
        let first_ends = first.map(|first| first.begins.saturating_add(expected(first.file)));
        let others = u32::try_from(attempts.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let others_take = expected(file).saturating_mul(others);
        first_ends.unwrap_or_default().max(self.now).saturating_add(others_take)
    }

    /// Takes back what waits at busy runners while others are idle.
    pub(super) fn take_back(&mut self, commands: &mut Vec<Command>) {
        while let Some(attempt) = self.in_vain() {
            self.withdraw(attempt, commands);
        }
    }

    /// An attempt that waits although a runner is idle that could make it, and would not begin before it were back.
    fn in_vain(&self) -> Option<AttemptId> {
        let wanted = self.queue.launches().filter(|launch| self.wants_back(*launch));
        wanted.into_iter().find_map(|launch| {
            let waiting = &self.ahead.waiting[usize::from(launch.0)];
            let is_late = |(begins, id): &&(Duration, AttemptId)| {
                *begins > self.now + self.patience(*id)
                    && self.is_sooner_elsewhere(*id)
                    && self.has_room_elsewhere(*id)
            };
            let is_overdue = |(begins, id): &&(Duration, AttemptId)| {
                *begins + self.patience(*id) <= self.now && self.has_room_elsewhere(*id)
            };
            let found = waiting.last().filter(is_late).or(waiting.first().filter(is_overdue));
            found.map(|(_, id)| *id)
        })
    }

    /// When the next attempt will have waited too long while others are idle.
    pub(super) fn next_in_vain(&self) -> Option<Duration> {
        let wanted = self.queue.launches().filter(|launch| self.wants_back(*launch));
        let firsts = wanted.filter_map(|launch| self.ahead.waiting[usize::from(launch.0)].first());
        let wanted = firsts.filter(|(_, id)| self.has_room_elsewhere(*id));
        wanted.map(|(begins, id)| *begins + self.patience(*id)).min()
    }

    fn patience(&self, attempt: AttemptId) -> Duration {
        let host = self.attempts.get(&attempt).map(|attempt| attempt.runner.host);
        host.map_or(Duration::ZERO, |host| self.ahead.round_trip(host) * PATIENCE_ROUND_TRIPS)
    }

    /// Whether a runner is idle that has nothing else to hope for than what waits of this launch behind others.
    fn wants_back(&self, launch: LaunchId) -> bool {
        let is_next = self.queue.first(launch, None).is_none() && self.stopping.is_none();
        is_next && self.fleet.idle_count(launch) > self.ahead.withdrawn.len()
    }

    fn withdraw(&mut self, id: AttemptId, commands: &mut Vec<Command>) {
        if let Some(attempt) = self.attempts.get(&id) {
            self.ahead.wait_no_more(id, self.launch_of(attempt.file), attempt.begins);
            self.ahead.withdrawn.insert(id);
            commands.push(Command::Withdraw { attempt: id });
        }
        // It is asked for because others are idle: they don't wait for an answer for long.
        self.expect_end(id);
    }

    /// Takes back everything that waits on a host behind others, unless the run is about to end.
    pub(super) fn withdraw_all(&mut self, host: HostId, commands: &mut Vec<Command>) {
        if self.failures_left == Some(0) {
            return;
        }
        for id in self.fleet.attempts_on(host) {
            let waits = |attempt: &Attempt| attempt.begun.is_none() && attempt.role == Role::Counts;
            if self.attempts.get(&id).is_some_and(waits) && !self.ahead.withdrawn.contains(&id) {
                self.withdraw(id, commands);
            }
        }
    }
}
