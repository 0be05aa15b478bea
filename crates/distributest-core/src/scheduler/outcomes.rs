//! What becomes of a file when an attempt at it ends, and when nobody knows whether it will (rules 2 to 4 and 8 to 15).

use std::time::Duration;

use super::fleet::Pause;
use super::queue::Waiting;
use super::trust::{Held, Judgement};
use super::{Attempt, INTERRUPTION_LIMIT, Role, Scheduler};
use crate::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};
use crate::outcome::{NotRunReason, Outcome, Verdict};
use crate::scheduler_messages::Command;

/// What befell a file that is not decided yet.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Those that count.
    interruptions: u8,
    /// The attempts that failed, in order.
    failed: Vec<AttemptId>,
    /// What the last of them said.
    last_outcome: Option<Outcome>,
    crashes: u8,
    retries: u8,
    /// The last failure that was taken for its host's.
    set_aside: Option<(AttemptId, Outcome)>,
    /// Every live attempt of the file, from the time that one of them was on a silent host or took too long.
    live: Vec<AttemptId>,
    /// It was given to a second runner because the first took too long.
    is_doubled: bool,
    /// How it stands in the queue, while it does.
    queued: Option<Waiting>,
    /// Attempts at it that were cancelled because another one was first, and are not over.
    cancelled: Vec<AttemptId>,
    /// How it comes into the queue once none of those is at work.
    returns: Option<Waiting>,
}

impl Trouble {
    /// Whether it failed already, whoever was to blame.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty() || self.set_aside.is_some()
    }

    /// Whether its one live attempt may get company: once at most.
    pub(super) fn may_be_doubled(&self) -> bool {
        !self.is_doubled && self.live.is_empty()
    }

    /// Its live attempt gets company.
    pub(super) fn double(&mut self, attempt: AttemptId) {
        self.is_doubled = true;
        self.live.push(attempt);
    }

    /// A new attempt; it is only kept where there are others.
    pub(super) fn dispatched(&mut self, attempt: AttemptId) {
        self.queued = None;
        if !self.live.is_empty() {
            self.live.push(attempt);
        }
    }
}

/// Outcomes.
impl Scheduler {
    /// An agent began with an attempt.
    pub(super) fn attempt_started(&mut self, id: AttemptId) {
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        attempt.started = true;
        self.ahead.answered(id);
        if !attempt.queued {
            self.ahead.saw_round_trip(attempt.runner.host, self.now.saturating_sub(attempt.dispatched));
        }
    }

    /// The tests answered.
    pub(super) fn attempt_finished(
        &mut self,
        id: AttemptId,
        outcome: Outcome,
        out_of_memory: bool,
        commands: &mut Vec<Command>,
    ) {
        let next = self.begun + 1;
        let Some(Attempt { file, runner, role, begun, .. }) = self.end(id) else { return };
        let (host, begun) = (runner.host, begun.unwrap_or(next));
        match role {
            Role::Superseded => {}
            Role::Probe if outcome.is_success() => self.readmit(host, commands),
            Role::Probe => self.trust.refuted(host, self.now),
            Role::Counts => {
                self.supersede_others(id, file, commands);
                let held = Held { attempt: id, file, host, outcome, out_of_memory };
                if outcome.is_success() {
                    let due = self.trust.passed(host, begun);
                    self.count_all(due, commands);
                    self.decide_passed(id, file, commands);
                } else if self.stopping.is_some() {
                    self.count(held, commands);
                } else if self.trust.is_fenced(host) {
                    self.set_aside(held, commands);
                } else {
                    self.trust.failed(held, next, self.now);
                }
            }
        }
    }

    fn decide_passed(&mut self, id: AttemptId, file: FileId, commands: &mut Vec<Command>) {
        let failed_before = self.troubles.get(&file).is_some_and(|trouble| !trouble.failed.is_empty());
        let verdict = if failed_before { Verdict::Flaky } else { Verdict::Ran(Outcome::Passed) };
        self.decide(file, verdict, Some(id), commands);
    }

    /// Failures that are the tests': each decides its file, unless that is to be tried again.
    pub(super) fn count_all(&mut self, failures: Vec<Held>, commands: &mut Vec<Command>) {
        for held in failures {
            self.count(held, commands);
        }
    }

    fn count(&mut self, held: Held, commands: &mut Vec<Command>) {
        let Held { attempt, file, host, outcome, .. } = held;
        if self.stopping.is_none() && self.is_tried_again(&held) {
            let trouble = self.troubles.entry(file).or_default();
            trouble.failed.push(attempt);
            trouble.last_outcome = Some(outcome);
            return self.put_back(file, Some(host));
        }
        self.decide(file, Verdict::Ran(outcome), Some(attempt), commands);
    }

    /// Whether a file that failed on this host is tried again; counts what that costs.
    fn is_tried_again(&mut self, held: &Held) -> bool {
        let Held { file, host, outcome, out_of_memory, .. } = *held;
        let has_others = self.fleet.has_hope_elsewhere(self.launch_of(file), host);
        let has_hope = self.fleet.has_hope_for(self.launch_of(file));
        let retries = self.retries.get(file.0 as usize).copied().unwrap_or_default();
        let trouble = self.troubles.entry(file).or_default();
        if trouble.interruptions >= INTERRUPTION_LIMIT {
            return false;
        }
        if outcome == Outcome::Crashed {
            trouble.crashes += 1;
            if trouble.crashes == 1 && out_of_memory && has_hope {
                self.alone.add(file);
                return true;
            }
            if trouble.crashes > 1 || has_others {
                return trouble.crashes == 1;
            }
        }
        let has_retries = trouble.retries < retries;
        trouble.retries += u8::from(has_retries);
        has_retries
    }

    /// A failure on a host that is to blame: the file runs elsewhere, at no cost. A crash counts even so, because a third
    /// one must never follow.
    fn set_aside(&mut self, held: Held, commands: &mut Vec<Command>) {
        let Held { attempt, file, host, outcome, .. } = held;
        let trouble = self.troubles.get(&file);
        let may_not = |trouble: &Trouble| {
            trouble.interruptions >= INTERRUPTION_LIMIT
                || (outcome == Outcome::Crashed && trouble.crashes > 0)
        };
        if trouble.is_some_and(may_not) || !self.fleet.has_unfenced_hope_elsewhere(self.launch_of(file), host)
        {
            return self.count(held, commands);
        }
        let trouble = self.troubles.entry(file).or_default();
        trouble.crashes += u8::from(outcome == Outcome::Crashed);
        trouble.set_aside = Some((attempt, outcome));
        self.trust.set_aside(host, file);
        self.put_back(file, Some(host));
    }

    /// Decides a file that is not run, or not run again (rule 10).
    pub(super) fn decide_without(&mut self, file: FileId, why: NotRunReason, commands: &mut Vec<Command>) {
        let last = self.troubles.get_mut(&file).and_then(|trouble| {
            let counted = trouble.last_outcome.and_then(|outcome| Some((trouble.failed.pop()?, outcome)));
            counted.or(trouble.set_aside)
        });
        match last {
            Some((attempt, outcome)) => self.decide(file, Verdict::Ran(outcome), Some(attempt), commands),
            None => self.decide(file, Verdict::NotRun(why), None, commands),
        }
    }

    pub(super) fn decide(
        &mut self,
        file: FileId,
        verdict: Verdict,
        attempt: Option<AttemptId>,
        commands: &mut Vec<Command>,
    ) {
        self.undecided -= 1;
        self.candidates.decided(file, self.launch_of(file));
        self.alone.decided(file);
        let has_passed = !matches!(verdict, Verdict::NotRun(_)) && !verdict.has_failed();
        let has_failed = verdict.has_failed();
        let trouble = self.troubles.remove(&file).unwrap_or_default();
        for live in trouble.live {
            self.supersede(live, commands);
        }
        commands.push(Command::Decide { file, verdict, attempt, failed_before: trouble.failed });
        if let (true, Some(left)) = (has_failed, &mut self.failures_left) {
            *left = left.saturating_sub(1);
        }
        for host in self.trust.decided(file, has_passed) {
            self.readmit(host, commands);
        }
    }
}

/// Broken hosts.
impl Scheduler {
    /// Finds out whose the failures are that hosts hold back (rule 12).
    pub(super) fn judge_failures(&mut self, commands: &mut Vec<Command>) {
        for host in self.trust.suspects() {
            let elsewhere =
                |held: &Held| self.fleet.has_unfenced_hope_elsewhere(self.launch_of(held.file), host);
            let judgement = if self.trust.held(host).iter().any(elsewhere) {
                self.trust.judge(host)
            } else {
                Judgement::Tests
            };
            match judgement {
                Judgement::Open => {}
                Judgement::Tests => {
                    let held = self.trust.take_held(host);
                    self.count_all(held, commands);
                }
                Judgement::Host => self.fence(host, commands),
            }
        }
        self.doubt(commands);
    }

    /// Gives a host little as long as nobody can tell whether it is broken, and enough to do from then on (rule 18).
    fn doubt(&mut self, commands: &mut Vec<Command>) {
        for host in self.fleet.paused_for(Pause::Doubted) {
            if !self.trust.is_doubtful(host) {
                self.fleet.resume(host, Pause::Doubted);
            }
        }
        for host in self.trust.suspects() {
            if self.trust.is_doubtful(host) && !self.fleet.is_paused_for(host, Pause::Doubted) {
                self.fleet.pause(host, Pause::Doubted);
                self.withdraw_all(host, commands);
            }
        }
    }

    /// What doubted hosts with nothing to do may have, and when.
    fn due_to_doubted(&self) -> impl Iterator<Item = (Duration, LaunchId, Waiting, RunnerId)> {
        let doubted = self.fleet.paused_for(Pause::Doubted).into_iter();
        let free =
            doubted.filter(|host| !self.is_out_of_reach(*host) && self.fleet.attempts_on(*host).is_empty());
        let pairs = free.flat_map(|host| self.queue.launches().map(move |launch| (host, launch)));
        pairs.filter_map(|(host, launch)| {
            let runner = self.fleet.idle_runner_of(host, launch)?;
            let lost_by = Some(host).filter(|_| self.fleet.has_hope_elsewhere(launch, host));
            Some((self.trust.doubted_until(host), launch, self.queue.first(launch, lost_by)?, runner))
        })
    }

    /// Whether not even a host that is given little may be given that.
    fn is_out_of_reach(&self, host: HostId) -> bool {
        [Pause::Silent, Pause::Reserved].into_iter().any(|pause| self.fleet.is_paused_for(host, pause))
    }

    /// Takes the first file that a doubted host may have now out of the queue.
    pub(super) fn match_doubted(&mut self) -> Option<(FileId, RunnerId)> {
        let due = self.due_to_doubted().filter(|(due, ..)| *due <= self.now);
        let (_, launch, waiting, runner) = due.min_by_key(|(_, _, waiting, _)| waiting.file)?;
        self.queue.take(launch, waiting);
        Some((waiting.file, runner))
    }

    /// When the next doubted host may be given a file that must not yet.
    pub(super) fn next_to_doubted(&self) -> Option<Duration> {
        self.due_to_doubted().map(|(due, ..)| due).filter(|due| *due > self.now).min()
    }

    /// Once every idle runner has what it may have: counts the failures of hosts that have nothing left to do and are
    /// hardly suspect, and all failures once nobody has. Returns whether there were any.
    pub(super) fn count_what_nothing_can_tell(&mut self, commands: &mut Vec<Command>) -> bool {
        let suspects = self.trust.suspects();
        if suspects.is_empty() {
            return false;
        }
        let nobody_is_busy = self.next_to_doubted().is_none()
            && self.attempts.values().all(|attempt| {
                attempt.role != Role::Counts || self.fleet.is_paused_for(attempt.runner.host, Pause::Silent)
            });
        let mut any = false;
        for host in suspects {
            let is_idle = self.fleet.attempts_on(host).is_empty();
            if nobody_is_busy || (is_idle && self.trust.is_hardly_suspect(host)) {
                let held = self.trust.take_held(host);
                self.count_all(held, commands);
                any = true;
            }
        }
        any
    }

    fn fence(&mut self, host: HostId, commands: &mut Vec<Command>) {
        let held = self.trust.take_held(host);
        self.trust.fence(host, self.now);
        self.fleet.pause(host, Pause::Fenced);
        let failures = u32::try_from(held.len()).unwrap_or(u32::MAX);
        commands.push(Command::Fence { host, failures });
        self.withdraw_all(host, commands);
        for held in held {
            self.set_aside(held, commands);
        }
    }

    /// A fenced host takes part again, unless it is lost.
    pub(super) fn readmit(&mut self, host: HostId, commands: &mut Vec<Command>) {
        if !self.trust.is_fenced(host) || !self.fleet.is_left(host) {
            return;
        }
        self.trust.readmit(host);
        self.fleet.resume(host, Pause::Fenced);
        commands.push(Command::Readmit { host });
    }

    /// Takes the first waiting file that nobody but fenced hosts is left to run, and that one of them can run now, out of
    /// the queue. A silent host is left: it is heard again or lost before long, and what a broken one says meanwhile
    /// would count.
    pub(super) fn match_last_resort(&mut self) -> Option<(FileId, RunnerId)> {
        let fenced = self.trust.fenced();
        let heard = fenced.into_iter().filter(|host| !self.is_out_of_reach(*host));
        let pairs = heard.flat_map(|host| self.queue.launches().map(move |launch| (host, launch)));
        let matches = pairs.filter_map(|(host, launch)| {
            let is_last = !self.fleet.has_unfenced_hope_elsewhere(launch, host);
            let runner = self.fleet.idle_runner_of(host, launch).filter(|_| is_last)?;
            Some((launch, self.first_for(launch, runner, None)?, runner))
        });
        let (launch, waiting, runner) = matches.min_by_key(|(_, waiting, _)| waiting.file)?;
        self.queue.take(launch, waiting);
        Some((waiting.file, runner))
    }

    /// Asks fenced hosts whether they work again, while there is something to do for them (rule 13).
    pub(super) fn probe(&mut self, commands: &mut Vec<Command>) {
        if !self.has_waiting() {
            return;
        }
        for (host, file) in self.trust.questions(self.now) {
            if self.is_out_of_reach(host) {
                continue;
            }
            let idle = self.fleet.idle_runner_of(host, self.launch_of(file));
            if let Some(runner) = idle.filter(|runner| self.packing.has_room(*runner, file)) {
                self.trust.asked(host);
                self.dispatch(file, runner, Role::Probe, commands);
            }
        }
    }
}

/// Interruptions and silence.
impl Scheduler {
    /// An attempt that ended by itself has no answer.
    pub(super) fn attempt_interrupted(&mut self, id: AttemptId, reason: &str, commands: &mut Vec<Command>) {
        if let Some(attempt) = self.end(id) {
            let is_able = self.fleet.is_able(attempt.runner, self.launch_of(attempt.file));
            self.interrupted(id, &attempt, is_able && attempt.may_have_run(), reason, commands);
        }
    }

    /// An attempt found no file to run (rule 15).
    pub(super) fn file_gone(&mut self, id: AttemptId, reason: String, commands: &mut Vec<Command>) {
        let Some(Attempt { file, runner, role, .. }) = self.end(id) else { return };
        match role {
            Role::Superseded => {}
            Role::Probe => self.trust.refuted(runner.host, self.now),
            Role::Counts => {
                self.supersede_others(id, file, commands);
                self.decide_without(file, NotRunReason::FileGone(reason), commands);
            }
        }
    }

    /// An attempt went with its runner or host.
    pub(super) fn runner_of_attempt_lost(
        &mut self,
        id: AttemptId,
        reason: &str,
        commands: &mut Vec<Command>,
    ) {
        if let Some(attempt) = self.end(id) {
            self.interrupted(id, &attempt, attempt.started, reason, commands);
        }
    }

    /// An attempt went with its host, which may come back. A file that waited behind others will not do so again, so that it
    /// is known the next time whether it was run.
    pub(super) fn host_of_attempt_away(&mut self, id: AttemptId, reason: &str, commands: &mut Vec<Command>) {
        if let Some(attempt) = self.end(id) {
            self.interrupted(id, &attempt, attempt.may_have_run(), reason, commands);
        }
    }

    /// A file lost its attempt: back into the queue with it, unless that was once too often (rules 3, 4 and 6) or another
    /// attempt stands in for it (rule 11).
    fn interrupted(
        &mut self,
        id: AttemptId,
        attempt: &Attempt,
        counts: bool,
        reason: &str,
        commands: &mut Vec<Command>,
    ) {
        let (file, host) = (attempt.file, attempt.runner.host);
        match attempt.role {
            Role::Superseded => return,
            Role::Probe => return self.trust.refuted(host, self.now),
            Role::Counts => {}
        }
        let trouble = self.troubles.entry(file).or_default();
        trouble.interruptions += u8::from(counts);
        trouble.live.retain(|live| *live != id);
        let too_often = trouble.interruptions >= INTERRUPTION_LIMIT;
        if !trouble.live.is_empty() {
            if too_often {
                return self.take_out(file);
            }
            return self.put_back_unless_trusted(file, host);
        }
        let lost_by = attempt.may_have_run().then_some(host);
        if let Some(why) = &self.stopping {
            return self.decide_without(file, why.clone(), commands);
        }
        if too_often {
            self.take_out(file);
            let why = NotRunReason::TooManyInterruptions(reason.to_owned());
            return self.decide_without(file, why, commands);
        }
        if self.troubles.get(&file).is_none_or(|trouble| trouble.queued.is_none()) {
            self.put_back(file, lost_by);
        }
    }

    /// Nothing is heard from a host: what it has is run elsewhere as well, and it is given nothing more (rule 11).
    pub(super) fn silence(&mut self, host: HostId) {
        if !self.fleet.is_left(host) || self.fleet.is_paused_for(host, Pause::Silent) {
            return;
        }
        self.fleet.pause(host, Pause::Silent);
        for id in self.fleet.attempts_on(host) {
            let Some(Attempt { file, role, .. }) = self.attempts.get(&id) else { continue };
            let (file, role) = (*file, *role);
            match role {
                Role::Counts => {}
                Role::Superseded => {
                    self.put_back_if_all_is_over(file);
                    continue;
                }
                Role::Probe => continue,
            }
            let trouble = self.troubles.entry(file).or_default();
            if trouble.live.is_empty() {
                trouble.live.push(id);
            }
            self.put_back_unless_trusted(file, host);
        }
    }

    /// A silent host speaks again: what waits only because of its silence stays with it.
    pub(super) fn hear(&mut self, host: HostId) {
        if !self.fleet.is_paused_for(host, Pause::Silent) {
            return;
        }
        self.fleet.resume(host, Pause::Silent);
        for id in self.fleet.attempts_on(host) {
            match self.attempts.get(&id) {
                Some(Attempt { file, role: Role::Counts, .. }) => self.take_out(*file),
                Some(Attempt { file, role: Role::Superseded, .. }) => self.wait_again(*file),
                _ => {}
            }
        }
    }

    /// Something that was cancelled of a file in the queue is at work again.
    fn wait_again(&mut self, file: FileId) {
        if let Some(Waiting { lost_by, .. }) = self.troubles.get(&file).and_then(|trouble| trouble.queued) {
            self.take_out(file);
            self.put_back(file, lost_by);
        }
    }

    /// Puts a file that has live attempts into the queue, unless one of them is on a host that is heard.
    fn put_back_unless_trusted(&mut self, file: FileId, lost_by: HostId) {
        let Some(trouble) = self.troubles.get(&file) else { return };
        let is_trusted = |id: &AttemptId| {
            let attempt = self.attempts.get(id);
            attempt.is_some_and(|attempt| !self.fleet.is_paused_for(attempt.runner.host, Pause::Silent))
        };
        let may_run = self.stopping.is_none() && trouble.interruptions < INTERRUPTION_LIMIT;
        if may_run && trouble.queued.is_none() && !trouble.live.iter().any(is_trusted) {
            self.put_back(file, Some(lost_by));
        }
    }

    /// The first answer counts: what else is live of the file is cancelled, and what comes of that is nothing.
    fn supersede_others(&mut self, id: AttemptId, file: FileId, commands: &mut Vec<Command>) {
        self.take_out(file);
        let Some(trouble) = self.troubles.get_mut(&file) else { return };
        for live in std::mem::take(&mut trouble.live) {
            if live != id {
                self.supersede(live, commands);
            }
        }
    }

    fn supersede(&mut self, id: AttemptId, commands: &mut Vec<Command>) {
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.role = Role::Superseded;
            if let Some(trouble) = self.troubles.get_mut(&attempt.file) {
                trouble.cancelled.push(id);
            }
            let launch = self.file_launches[attempt.file.0 as usize];
            self.ahead.wait_no_more(id, launch, attempt.begins);
            if self.stopping.is_none() {
                commands.push(Command::Cancel { attempt: id });
            }
        }
        self.ahead.answered(id);
        self.expect_nothing(id);
    }

    /// Puts a file back in its place in the queue, as soon as what was cancelled of it is over.
    fn put_back(&mut self, file: FileId, lost_by: Option<HostId>) {
        self.troubles.entry(file).or_default().returns = Some(Waiting { file, lost_by });
        self.put_back_if_all_is_over(file);
    }

    /// The host of a cancelled attempt might be given its file a second time, so that waits until the attempt is over, or nobody
    /// knows when that will be.
    fn put_back_if_all_is_over(&mut self, file: FileId) {
        let Some(trouble) = self.troubles.get_mut(&file) else { return };
        let is_at_work = |id: &AttemptId| {
            let attempt = self.attempts.get(id);
            attempt.is_some_and(|attempt| !self.fleet.is_paused_for(attempt.runner.host, Pause::Silent))
        };
        if trouble.cancelled.iter().any(is_at_work) {
            return;
        }
        let Some(returned) = trouble.returns.take() else { return };
        trouble.queued = Some(returned);
        if !self.alone.wait(file) {
            self.queue.put_back(self.launch_of(file), returned);
            self.show_to(file);
        }
    }

    /// A cancelled attempt at a file is over.
    pub(super) fn cancelled_ended(&mut self, id: AttemptId, file: FileId) {
        if let Some(trouble) = self.troubles.get_mut(&file) {
            trouble.cancelled.retain(|cancelled| *cancelled != id);
            self.put_back_if_all_is_over(file);
        }
    }

    /// Decides that files which wait for the end of what was cancelled are not run again.
    pub(super) fn give_up_returning(&mut self, reason: &NotRunReason, commands: &mut Vec<Command>) {
        let returning = self.troubles.iter().filter(|(_, trouble)| trouble.returns.is_some());
        let mut files: Vec<FileId> = returning.map(|(file, _)| *file).collect();
        files.sort_unstable();
        for file in files {
            self.decide_without(file, reason.clone(), commands);
        }
    }

    /// Takes a file that was put back out of the queue, if it is there.
    fn take_out(&mut self, file: FileId) {
        let Some(trouble) = self.troubles.get_mut(&file) else { return };
        trouble.returns = None;
        let queued = trouble.queued.take();
        if let Some(returned) = queued
            && !self.alone.wait_no_more(file)
        {
            self.queue.take(self.launch_of(file), returned);
        }
    }
}
