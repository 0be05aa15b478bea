//! Decides which runner runs which test file, and what becomes of every file: the heart of a run.
//!
//! # Theory of operation
//!
//! One event in, the state changed, commands out; nothing else goes in or out, so a run can be replayed from
//! its events. At any time each file is in exactly one place: in the queue, in one live attempt, or decided.
//! Moving a file out of a place is what gives the right to put it into the next, which is why no file is lost
//! and none is decided twice.
//!
//! # Rules
//!
//! 1. An idle runner takes the first file of the queue among those it can run. Files are queued in the order of
//!    their ids; each belongs to a launch, the way it is run, and a runner can run a launch until it says that it
//!    can't.
//! 2. An outcome decides its file, unless it failed and is to be tried again (rules 8 and 9). The runner is free
//!    again. A file that passes after an attempt that failed is flaky.
//! 3. An interruption puts the file back in its place in the order, to be run by another host than the one
//!    that lost it as long as another host has or may still bring a runner that can run it; a host that can't run
//!    anything must not use up a file's chances. A file that waits for this does not hold up the files behind it.
//! 4. After [`INTERRUPTION_LIMIT`] interruptions a file is not run again. Two kinds do not count, because the file
//!    cannot have been the cause: that of an attempt that had not started when its runner or host was lost, and
//!    that of an attempt on a runner that can't run the file's launch. Either befalls a file once a runner at most,
//!    so this stays bounded too.
//! 5. A file in the queue that no runner is left to run, neither one that is there nor one that may still come, is
//!    not run.
//! 6. After a request to stop, or once as many files as [`SchedulerOptions::fail_fast`] says have failed, live attempts
//!    are cancelled and the queue is not run. A cancelled attempt's outcome counts if it still arrives; otherwise its
//!    file is not run.
//! 7. When every file is decided the run is finished, and nothing follows.
//! 8. A file that crashed is tried a second time, on another host if there is one that may run it: the process may have
//!    died of its host. It costs no retry. Where no other host may run it, or when it crashes a second time, the crash
//!    decides; a third time never follows.
//! 9. A file that failed is tried again as long as it has retries left, on another host while one may run it, and on a
//!    fresh worker.
//! 10. A file that waits to be tried again and can't be (rules 4, 5 and 6) is decided by its last outcome: an outcome is
//!     never lost.
//! 11. A file that is gone when its turn comes is not run and not looked for elsewhere: hosts have what the project had.
//!
//! Events that are late, repeated or about somebody unknown change nothing.
//!
//! An event costs O(log n) in files and runners for each launch of the run, apart from the commands and lost
//! runners it stands for.

mod fleet;
mod queue;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};
use crate::outcome::{Interruption, NotRunReason, Outcome, Verdict};
use crate::scheduler_messages::{Command, Event};
use fleet::Fleet;
use queue::{FileQueue, Waiting};

/// Interruptions after which a file is not run again. One is bad luck, and two may be (a host that goes takes
/// the file with it, the next one is being shut down as well); at the third the file itself is the likely
/// cause, and each further attempt could take a runner from the others.
pub const INTERRUPTION_LIMIT: u8 = 3;

/// What a run starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// The launch of each file to decide: ids from 0, in the order they should be handed out.
    pub file_launches: Vec<LaunchId>,
    /// How often each file that fails is tried again; none for files beyond its end.
    pub retries: Vec<u8>,
    /// How many failing files end the run; `None`: it always goes on.
    pub fail_fast: Option<NonZeroU32>,
    /// Hosts to wait for: ids from 0. Each is announced by `HostExpected` or given up by `HostLost`.
    pub host_count: u32,
}

/// The state of a run. See the [module](self) for its rules.
#[derive(Debug)]
pub struct Scheduler {
    file_launches: Vec<LaunchId>,
    queue: FileQueue,
    fleet: Fleet,
    attempts: BTreeMap<AttemptId, Attempt>,
    next_attempt: u64,
    /// Of the undecided files that had any.
    troubles: HashMap<FileId, Trouble>,
    retries: Vec<u8>,
    /// Files that may still fail before the run ends early.
    failures_left: Option<u32>,
    undecided: u32,
    /// Why nothing new starts.
    stopping: Option<NotRunReason>,
    finished: bool,
}

/// What befell a file that is not decided yet.
#[derive(Debug, Default)]
struct Trouble {
    /// Those that count.
    interruptions: u8,
    /// The attempts that failed, in order.
    failed: Vec<AttemptId>,
    /// What the last of them said.
    last_outcome: Option<Outcome>,
    crashes: u8,
    retries: u8,
}

/// A live attempt.
#[derive(Debug)]
struct Attempt {
    file: FileId,
    runner: RunnerId,
    started: bool,
}

impl Scheduler {
    /// A run that nothing has happened to yet.
    pub fn new(options: SchedulerOptions) -> Self {
        let SchedulerOptions { file_launches, retries, fail_fast, host_count } = options;
        let queue = FileQueue::new(&file_launches);
        Scheduler {
            fleet: Fleet::new(host_count, queue.launch_count()),
            queue,
            // Files are numbered in 32 bits.
            undecided: file_launches.len() as u32,
            file_launches,
            attempts: BTreeMap::new(),
            next_attempt: 1,
            troubles: HashMap::new(),
            retries,
            failures_left: fail_fast.map(NonZeroU32::get),
            stopping: None,
            finished: false,
        }
    }

    /// Gives the commands that need no event: a run without files finishes here, and one without hosts
    /// decides that nothing is run. To be called once, before the first event.
    pub fn start(&mut self, commands: &mut Vec<Command>) {
        self.settle(commands);
    }

    /// Whether [`Command::Finish`] was given.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes in what happened at `now`, time since the run's start, and appends what is to be done about it.
    ///
    /// No rule depends on time so far; it is part of the call so that a journal of calls stays complete when
    /// one does.
    pub fn handle(&mut self, _now: Duration, event: Event, commands: &mut Vec<Command>) {
        match event {
            Event::RunnerReady { runner } => self.fleet.ready(runner),
            Event::HostExpected { host, runners } => self.fleet.expect(host, runners),
            Event::RunnerLost { runner, reason } => {
                if let Some(attempt) = self.fleet.lose_runner(runner, &reason) {
                    self.runner_of_attempt_lost(attempt, &reason, commands);
                }
            }
            Event::HostLost { host, reason } => {
                for attempt in self.fleet.lose_host(host, &reason) {
                    self.runner_of_attempt_lost(attempt, &reason, commands);
                }
            }
            Event::LaunchUnavailable { runner, launch, reason } => {
                self.fleet.exclude(runner, launch, &reason);
            }
            Event::AttemptStarted { attempt } => {
                if let Some(attempt) = self.attempts.get_mut(&attempt) {
                    attempt.started = true;
                }
            }
            Event::AttemptFinished { attempt: id, outcome, .. } => {
                if let Some(attempt) = self.attempts.remove(&id) {
                    self.fleet.release(attempt.runner);
                    self.finished_with(id, &attempt, outcome, commands);
                }
            }
            Event::AttemptInterrupted { attempt, interruption: Interruption::FileGone, reason } => {
                if let Some(attempt) = self.attempts.remove(&attempt) {
                    self.fleet.release(attempt.runner);
                    self.decide_without(attempt.file, NotRunReason::FileGone(reason), commands);
                }
            }
            Event::AttemptInterrupted { attempt, reason, .. } => {
                if let Some(attempt) = self.attempts.remove(&attempt) {
                    let counts = self.fleet.is_able(attempt.runner, self.launch_of(attempt.file));
                    self.fleet.release(attempt.runner);
                    self.interrupted(attempt.file, attempt.runner.host, counts, &reason, commands);
                }
            }
            Event::StopRequested => self.stop(NotRunReason::Stopped, commands),
        }
        self.settle(commands);
    }

    fn runner_of_attempt_lost(&mut self, attempt: AttemptId, reason: &str, commands: &mut Vec<Command>) {
        if let Some(attempt) = self.attempts.remove(&attempt) {
            self.interrupted(attempt.file, attempt.runner.host, attempt.started, reason, commands);
        }
    }

    /// A file lost its attempt: back into the queue with it, unless that was once too often (rules 3, 4 and
    /// 6).
    fn interrupted(
        &mut self,
        file: FileId,
        host: HostId,
        counts: bool,
        reason: &str,
        commands: &mut Vec<Command>,
    ) {
        if let Some(why) = &self.stopping {
            return self.decide_without(file, why.clone(), commands);
        }
        if counts {
            let interruptions = &mut self.troubles.entry(file).or_default().interruptions;
            *interruptions += 1;
            if *interruptions >= INTERRUPTION_LIMIT {
                let why = NotRunReason::TooManyInterruptions(reason.to_owned());
                return self.decide_without(file, why, commands);
            }
        }
        self.queue.put_back(self.launch_of(file), file, host);
    }

    /// A file has an outcome: it decides the file, unless it is to be tried again (rules 2, 8 and 9).
    fn finished_with(
        &mut self,
        id: AttemptId,
        attempt: &Attempt,
        outcome: Outcome,
        commands: &mut Vec<Command>,
    ) {
        let Attempt { file, runner, .. } = *attempt;
        if outcome.is_success() {
            let failed_before = self.troubles.get(&file).is_some_and(|trouble| !trouble.failed.is_empty());
            let verdict = if failed_before { Verdict::Flaky } else { Verdict::Ran(outcome) };
            return self.decide(file, verdict, Some(id), commands);
        }
        if self.stopping.is_none() && self.is_tried_again(file, runner.host, outcome) {
            let trouble = self.troubles.entry(file).or_default();
            trouble.failed.push(id);
            trouble.last_outcome = Some(outcome);
            return self.queue.put_back(self.launch_of(file), file, runner.host);
        }
        self.decide(file, Verdict::Ran(outcome), Some(id), commands);
    }

    /// Whether a file that just failed on this host is tried again; counts what that costs.
    fn is_tried_again(&mut self, file: FileId, host: HostId, outcome: Outcome) -> bool {
        let has_others = self.fleet.has_hope_elsewhere(self.launch_of(file), host);
        let retries = self.retries.get(file.0 as usize).copied().unwrap_or_default();
        let trouble = self.troubles.entry(file).or_default();
        if outcome == Outcome::Crashed {
            trouble.crashes += 1;
            if trouble.crashes > 1 || has_others {
                return trouble.crashes == 1;
            }
        }
        let has_retries = trouble.retries < retries;
        trouble.retries += u8::from(has_retries);
        has_retries
    }

    fn stop(&mut self, why: NotRunReason, commands: &mut Vec<Command>) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(why.clone());
        commands.extend(self.attempts.keys().map(|attempt| Command::Cancel { attempt: *attempt }));
        for launch in self.queue.launches() {
            self.give_up(launch, &why, commands);
        }
    }

    /// Draws every conclusion the state allows: files to idle runners, nobody left to run some, all decided.
    fn settle(&mut self, commands: &mut Vec<Command>) {
        if self.finished {
            return;
        }
        self.stop_after_failures(commands);
        while let Some((file, runner)) = self.match_file_to_runner() {
            self.dispatch(file, runner, commands);
        }
        for launch in self.queue.launches() {
            if !self.fleet.has_hope_for(launch) {
                let why = self.fleet.why_no_hope_for(launch);
                let reason = if self.fleet.has_hope() {
                    NotRunReason::NoRunnerAble(why)
                } else {
                    NotRunReason::NoRunnerLeft(why)
                };
                self.give_up(launch, &reason, commands);
            }
        }
        // What was given up may have been decided by an earlier failure.
        self.stop_after_failures(commands);
        if self.undecided == 0 {
            self.finished = true;
            commands.push(Command::Finish);
        }
    }

    fn stop_after_failures(&mut self, commands: &mut Vec<Command>) {
        if self.failures_left == Some(0) {
            self.stop(NotRunReason::FailedFast, commands);
        }
    }

    /// Takes the first file that an idle runner may have out of the queue.
    fn match_file_to_runner(&mut self) -> Option<(FileId, RunnerId)> {
        let matches = self.queue.launches().filter_map(|launch| Some((launch, self.match_of(launch)?)));
        let (launch, (waiting, runner)) = matches.min_by_key(|(_, (waiting, _))| waiting.file)?;
        self.queue.take(launch, waiting);
        Some((waiting.file, runner))
    }

    /// The first file of a launch that an idle runner may have.
    ///
    /// Two tries are enough: if nobody is idle but on the host that lost the first file, they may have any file that
    /// this host did not lose.
    fn match_of(&self, launch: LaunchId) -> Option<(Waiting, RunnerId)> {
        let anybody = self.fleet.idle_runner(launch, None)?;
        let first = self.queue.first(launch, None)?;
        if !self.fleet.has_hope_for_besides_one_host(launch) {
            return Some((first, anybody));
        }
        match self.fleet.idle_runner(launch, first.lost_by) {
            Some(runner) => Some((first, runner)),
            None => Some((self.queue.first(launch, first.lost_by)?, anybody)),
        }
    }

    fn dispatch(&mut self, file: FileId, runner: RunnerId, commands: &mut Vec<Command>) {
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        self.fleet.occupy(runner, attempt);
        self.attempts.insert(attempt, Attempt { file, runner, started: false });
        let fresh = self.troubles.get(&file).is_some_and(|trouble| !trouble.failed.is_empty());
        commands.push(Command::Dispatch { attempt, file, runner, fresh });
    }

    /// Decides that what waits of a launch is not run.
    fn give_up(&mut self, launch: LaunchId, reason: &NotRunReason, commands: &mut Vec<Command>) {
        while let Some(waiting) = self.queue.first(launch, None) {
            self.queue.take(launch, waiting);
            self.decide_without(waiting.file, reason.clone(), commands);
        }
    }

    fn launch_of(&self, file: FileId) -> LaunchId {
        self.file_launches[file.0 as usize]
    }

    /// Decides a file that is not run, or not run again (rule 10).
    fn decide_without(&mut self, file: FileId, why: NotRunReason, commands: &mut Vec<Command>) {
        let trouble = self.troubles.get_mut(&file);
        match trouble.and_then(|trouble| Some((trouble.failed.pop()?, trouble.last_outcome?))) {
            Some((attempt, outcome)) => self.decide(file, Verdict::Ran(outcome), Some(attempt), commands),
            None => self.decide(file, Verdict::NotRun(why), None, commands),
        }
    }

    fn decide(
        &mut self,
        file: FileId,
        verdict: Verdict,
        attempt: Option<AttemptId>,
        commands: &mut Vec<Command>,
    ) {
        self.undecided -= 1;
        let has_failed = matches!(verdict, Verdict::Ran(outcome) if !outcome.is_success());
        let failed_before = self.troubles.remove(&file).map(|trouble| trouble.failed).unwrap_or_default();
        commands.push(Command::Decide { file, verdict, attempt, failed_before });
        if let (true, Some(left)) = (has_failed, &mut self.failures_left) {
            *left = left.saturating_sub(1);
        }
    }
}
