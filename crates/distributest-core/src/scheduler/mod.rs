//! Decides which runner runs which test file, and what becomes of every file: the heart of a run.
//!
//! # Theory of operation
//!
//! One event in, the state changed, commands out; nothing else goes in or out, so a run can be replayed from
//! its events. At any time each file is in exactly one place: in the queue, in one live attempt, with a failure that
//! does not count yet, or decided. Moving a file out of a place is what gives the right to put it into the next, which
//! is why no file is lost and none is decided twice. The one exception has rules of its own: what a silent host has may
//! be in the queue or with another host at the same time (rule 11).
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
//!    cannot have been the cause: that of an attempt that had not started when its runner or host was lost for good,
//!    and that of an attempt on a runner that can't run the file's launch. Either befalls a file once a runner at most,
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
//! 11. A silent host is given nothing, and what it has goes back into the queue at no cost, to be run by another host as
//!     well. The first outcome counts; the file's other attempts are cancelled then, and what comes of them is nothing.
//!     If the file is tried again, that waits until those of them are over that are on hosts which are heard. When the
//!     silent host is heard again before another one took the file, it stays where it is.
//! 12. A failure does not count at once: it is held until it is known whether the tests or the host are to blame, as
//!     `trust.rs` tells. A host that is to blame is fenced: it is given nothing, and what it failed runs elsewhere as if
//!     it had not been run. Where no other host may run the file, and after a request to stop, a failure counts.
//! 13. A fenced host is probed with files that it failed and others passed, and takes part again once it passes one, or
//!     when all it failed failed elsewhere too. What nobody else is left to run it runs all the same, and that counts.
//! 14. A host that is away has lost its attempts (rule 3), and is waited for as one that never came. Each counts as an
//!     interruption: a test that brings its host down may do so before anybody hears that it started.
//! 15. A file that is gone when its turn comes is not run and not looked for elsewhere: hosts have what the project had.
//! 16. A busy runner is given more files to make after the one it is at work on, as many as `ahead.rs` tells, once no
//!     idle runner can take them. Only files that nothing befell are queued so, and nothing is queued behind another.
//! 17. What waits at a runner is taken back when another one is idle for want of files, and when its host is fenced. A
//!     file that is taken back, or loses its runner or host before its turn came, goes back into the queue at no cost.
//! 18. A host that failed several files in a row while no other has finished one is given one file at a time with a pause
//!     before each, and nothing in advance, until another host has finished one or the failures are found to be the tests'.
//!
//! 19. A host that is slower than others leaves files to them that it would make the run longer with, as `forecast.rs`
//!     tells, and takes the longest that fits. Of idle runners those of the fastest host are first.
//! 20. When a runner is idle for want of files, it is given a file that another host takes too long for, or should take
//!     much longer for, as `forecast.rs` tells. The first outcome counts, as in rule 11. This befalls a file once at most.
//! 21. A file that passed in an earlier run with the same inputs is kept back until a worker of its launch has said its
//!     versions, as `cached.rs` tells. If it passed with the same, it is not run and that pass counts; otherwise it is
//!     from then on like any other.
//! 22. A launch with files that are kept back and of which no worker has said a word gets one of them run.
//! 23. Files that need more memory together than a host has are not run there at the same time, as `packing.rs` tells: a runner
//!     takes the first file that fits, or waits. A file that needs more than any host has runs where nothing else does.
//! 24. A file that the kernel killed for lack of memory is tried a second time alone, on the host with the most memory, as
//!     `alone.rs` tells. For the rest that is a crash as any other (rule 8), so a third time never follows.
//!
//! Events that are late, repeated or about somebody unknown change nothing.
//!
//! An event costs O(log n) in files and runners for each launch of the run, and O(n) in hosts where those differ in
//! speed or have little memory, apart from the commands and lost runners it stands for.

mod ahead;
mod alone;
mod cached;
mod fleet;
mod forecast;
mod memory_index;
mod outcomes;
mod packing;
mod queue;
mod trust;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::identity::{AttemptId, FileId, LaunchId, RunnerId};
use crate::outcome::{Interruption, NotRunReason};
use crate::scheduler_messages::{Command, Event};
use ahead::Ahead;
use alone::Alone;
use cached::Candidates;
use fleet::Fleet;
use forecast::Forecast;
use outcomes::Trouble;
use packing::Packing;
use queue::{FileQueue, Waiting};
use trust::Trust;

pub use ahead::{ROUND_TRIP_LIMIT, ROUND_TRIPS, SHARE_PARTS};
pub use cached::SCOUT_DELAY;
pub use forecast::{OVERDUE_FACTOR, OVERDUE_GRACE};
pub use trust::{CHANCE_LIMIT, DOUBT_PAUSE, DOUBT_STREAK, FENCES_LIMIT, PROBE_PAUSE, STREAK_LIMIT};

/// Interruptions after which a file is not run again. One is bad luck, and two may be (a host that goes takes
/// the file with it, the next one is being shut down as well); at the third the file itself is the likely
/// cause, and each further attempt could take a runner from the others.
pub const INTERRUPTION_LIMIT: u8 = 3;

/// What a run starts with.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerOptions {
    /// The launch of each file to decide: ids from 0, in the order they should be handed out.
    pub file_launches: Vec<LaunchId>,
    /// How often each file that fails is tried again; none for files beyond its end.
    pub retries: Vec<u8>,
    /// How long each file should take on a host of speed 1; nobody knows of those beyond its end. Where hosts differ in
    /// speed, no file of a launch should take longer than one before it, or worse choices are made.
    pub predicted: Vec<Option<Duration>>,
    /// How fast each host is beside the others; 1 for those beyond its end.
    pub host_speeds: Vec<f64>,
    /// How many bytes of memory each file should need; nobody knows of those beyond its end.
    pub memory: Vec<Option<u64>>,
    /// How many failing files end the run; `None`: it always goes on.
    pub fail_fast: Option<NonZeroU32>,
    /// Hosts to wait for: ids from 0. Each is announced by `HostExpected` or given up by `HostLost`.
    pub host_count: u32,
}

/// The state of a run. See the [module](self) for its rules.
#[derive(Debug)]
pub struct Scheduler {
    /// When the last event happened.
    now: Duration,
    file_launches: Vec<LaunchId>,
    queue: FileQueue,
    /// Files that may need no run.
    candidates: Candidates,
    fleet: Fleet,
    trust: Trust,
    ahead: Ahead,
    forecast: Forecast,
    packing: Packing,
    alone: Alone,
    attempts: BTreeMap<AttemptId, Attempt>,
    next_attempt: u64,
    /// How many attempts their runners began with.
    begun: u64,
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

/// A live attempt.
#[derive(Debug)]
struct Attempt {
    file: FileId,
    runner: RunnerId,
    dispatched: Duration,
    /// Its runner was busy at the time.
    queued: bool,
    /// Its number among all that their runners began with; none as long as it waits behind another.
    begun: Option<u64>,
    /// When its runner began with it, or should.
    begins: Duration,
    /// When it will have taken too long, while that matters.
    overdue_at: Option<Duration>,
    /// Its agent said that it runs.
    started: bool,
    role: Role,
}

impl Attempt {
    /// Whether its file may have been run, as far as anybody was told.
    fn may_have_run(&self) -> bool {
        self.started || !self.queued
    }
}

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Its outcome is the file's.
    Counts,
    /// Another attempt answered first.
    Superseded,
    /// Its outcome is about the host.
    Probe,
}

impl Scheduler {
    /// A run that nothing has happened to yet.
    pub fn new(options: SchedulerOptions) -> Self {
        let SchedulerOptions {
            file_launches,
            retries,
            predicted,
            host_speeds,
            memory,
            fail_fast,
            host_count,
        } = options;
        let forecast = Forecast::new(host_count, &host_speeds);
        let queue = FileQueue::new(&file_launches, predicted);
        Scheduler {
            now: Duration::ZERO,
            fleet: Fleet::new(forecast.ranks(), queue.launch_count()),
            trust: Trust::new(host_count),
            ahead: Ahead::new(host_count, queue.launch_count()),
            forecast,
            packing: Packing::new(host_count, memory, file_launches.len()),
            alone: Alone::default(),
            queue,
            candidates: Candidates::default(),
            // Files are numbered in 32 bits.
            undecided: file_launches.len() as u32,
            file_launches,
            attempts: BTreeMap::new(),
            next_attempt: 1,
            begun: 0,
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

    /// When [`Event::TimePassed`] is due, in time since the run's start, unless another event changes that before.
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.finished {
            return None;
        }
        let next_question = self.has_waiting().then(|| self.trust.next_question(self.now)).flatten();
        let dues = [
            next_question,
            self.next_in_vain(),
            self.next_to_doubted(),
            self.next_overdue(),
            self.next_scout(),
        ];
        dues.into_iter().flatten().min()
    }

    /// Files whose last failure does not count yet, because it may be their host's (rule 12).
    pub fn held_files(&self) -> impl Iterator<Item = FileId> {
        self.trust.suspects().into_iter().flat_map(|host| self.trust.held(host)).map(|held| held.file)
    }

    /// Whether [`Command::Finish`] was given.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes in what happened at `now`, time since the run's start, and appends what is to be done about it.
    pub fn handle(&mut self, now: Duration, event: Event, commands: &mut Vec<Command>) {
        if self.finished {
            return;
        }
        self.now = now;
        self.notice_overdue();
        let concerned = self.runner_concerned(&event);
        match event {
            Event::RunnerReady { runner } => {
                self.fleet.ready(runner);
                self.note_ready_runner();
            }
            Event::WorkerReady { launch, versions } => {
                self.versions_known(launch, versions.as_deref(), commands);
            }
            Event::HostExpected { host, runners, queue, memory } => {
                if self.fleet.expect(host, runners) {
                    self.ahead.set_limit(host, queue);
                    self.expect_memory(host, runners, memory);
                }
            }
            Event::RunnerLost { runner, reason } => {
                for attempt in self.fleet.lose_runner(runner, &reason) {
                    self.runner_of_attempt_lost(attempt, &reason, commands);
                }
            }
            Event::HostLost { host, reason } => {
                for attempt in self.fleet.lose_host(host, &reason) {
                    self.runner_of_attempt_lost(attempt, &reason, commands);
                }
            }
            Event::HostAway { host, reason } => {
                for attempt in self.fleet.send_away(host) {
                    self.host_of_attempt_away(attempt, &reason, commands);
                }
            }
            Event::HostSilent { host } => self.silence(host),
            Event::HostHeard { host } => self.hear(host),
            Event::LaunchUnavailable { runner, launch, reason } => {
                self.fleet.exclude(runner, launch, &reason);
            }
            Event::AttemptStarted { attempt } => self.attempt_started(attempt),
            Event::AttemptFinished { attempt, outcome, duration, out_of_memory } => {
                if let Some(attempt) = self.attempts.get(&attempt) {
                    let work = self.work_in(duration, attempt.runner.host);
                    self.ahead.saw_work(self.launch_of(attempt.file), work);
                }
                self.attempt_finished(attempt, outcome, out_of_memory, commands);
            }
            Event::AttemptInterrupted { attempt, interruption: Interruption::FileGone, reason } => {
                self.file_gone(attempt, reason, commands);
            }
            Event::AttemptInterrupted { attempt, reason, .. } => {
                self.attempt_interrupted(attempt, &reason, commands);
            }
            Event::TimePassed => self.send_scouts(),
            Event::StopRequested => self.stop(NotRunReason::Stopped, commands),
        }
        self.settle(commands);
        if let Some(runner) = concerned {
            let before = commands.len();
            self.queue_ahead(runner, commands);
            // That may have been the last file that waited, and full hosts have something else to do from then on.
            if commands.len() > before && self.packing.is_tight() {
                self.settle(commands);
            }
        }
    }

    /// The runner that an event brings forward.
    fn runner_concerned(&self, event: &Event) -> Option<RunnerId> {
        match event {
            Event::RunnerReady { runner } => self.fleet.attempts_of(*runner).is_none().then_some(*runner),
            Event::AttemptStarted { attempt } => {
                let attempt = self.attempts.get(attempt)?;
                (!attempt.started).then_some(attempt.runner)
            }
            Event::AttemptFinished { attempt, .. } | Event::AttemptInterrupted { attempt, .. } => {
                Some(self.attempts.get(attempt)?.runner)
            }
            _ => None,
        }
    }

    fn stop(&mut self, why: NotRunReason, commands: &mut Vec<Command>) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(why.clone());
        let running = self.attempts.iter().filter(|(_, attempt)| attempt.role != Role::Superseded);
        // The last ones first: a runner must not begin with what waits behind what it is at work on.
        commands.extend(running.rev().map(|(attempt, _)| Command::Cancel { attempt: *attempt }));
        for host in self.trust.suspects() {
            let held = self.trust.take_held(host);
            self.count_all(held, commands);
        }
        self.give_up_returning(&why, commands);
        for launch in self.queue.launches() {
            self.give_up(launch, &why, commands);
        }
    }

    /// Draws every conclusion the state allows: whose failures they are, files to idle runners, nobody left to run some,
    /// all decided.
    fn settle(&mut self, commands: &mut Vec<Command>) {
        loop {
            let before = commands.len();
            self.judge_failures(commands);
            self.stop_after_failures(commands);
            self.run_alone(commands);
            self.hide_full_hosts();
            while let Some((file, runner)) = self.match_any() {
                self.dispatch(file, runner, Role::Counts, commands);
                self.hide_full_hosts();
            }
            self.show_where_nothing_waits();
            self.take_back(commands);
            self.double_stragglers(commands);
            let has_counted = self.count_what_nothing_can_tell(commands);
            self.probe(commands);
            self.give_up_hopeless(commands);
            // What was decided may have ended the run early, brought a host back or put a file into the queue; what was
            // doubled may end later than all else, so that a slow host has the time for another file.
            if !has_counted && commands[before..].iter().all(|command| !is_consequential(command)) {
                break;
            }
        }
        if self.undecided == 0 {
            self.finished = true;
            commands.push(Command::Finish);
        }
    }

    fn give_up_hopeless(&mut self, commands: &mut Vec<Command>) {
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
    }

    fn has_waiting(&self) -> bool {
        let is_queued = || self.queue.launches().any(|launch| self.queue.first(launch, None).is_some());
        self.alone.is_any_waiting() || is_queued()
    }

    fn stop_after_failures(&mut self, commands: &mut Vec<Command>) {
        if self.failures_left == Some(0) {
            self.stop(NotRunReason::FailedFast, commands);
        }
    }

    /// Takes a file that a runner may have now out of the queue.
    fn match_any(&mut self) -> Option<(FileId, RunnerId)> {
        let matched = self.match_file_to_runner().or_else(|| self.match_doubted());
        matched.or_else(|| self.match_last_resort())
    }

    /// Takes the first file that an idle runner may have out of the queue.
    fn match_file_to_runner(&mut self) -> Option<(FileId, RunnerId)> {
        let matches = self.queue.launches().filter_map(|launch| Some((launch, self.match_of(launch)?)));
        let (launch, (waiting, runner)) = matches.min_by_key(|(_, (waiting, _))| waiting.file)?;
        self.queue.take(launch, waiting);
        Some((waiting.file, runner))
    }

    /// The first file of a launch that an idle runner may have.
    fn match_of(&self, launch: LaunchId) -> Option<(Waiting, RunnerId)> {
        if self.packing.is_tight() {
            return self.match_with_room(launch);
        }
        let anybody = self.fleet.idle_runner(launch, None)?;
        let fresh = self.fresh_for(launch, anybody).map(|fresh| (fresh, anybody));
        let returned = self.match_of_returned(launch, anybody);
        [returned, fresh].into_iter().flatten().min_by_key(|(waiting, _)| waiting.file)
    }

    /// The first file of a launch that came back and that an idle runner may have, `anybody` if possible.
    ///
    /// Two tries are enough: if nobody is idle but on the host that lost the first file, they may have any file that
    /// this host did not lose.
    fn match_of_returned(&self, launch: LaunchId, anybody: RunnerId) -> Option<(Waiting, RunnerId)> {
        let first = self.queue.first_returned(launch, None)?;
        if !self.fleet.has_hope_for_besides_one_host(launch) {
            return Some((first, anybody));
        }
        match self.fleet.idle_runner(launch, first.lost_by) {
            Some(runner) => Some((first, runner)),
            None => Some((self.queue.first_returned(launch, first.lost_by)?, anybody)),
        }
    }

    fn dispatch(&mut self, file: FileId, runner: RunnerId, role: Role, commands: &mut Vec<Command>) {
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        let (dispatched, begins) = (self.now, self.begin_behind(runner, file));
        let queued = self.fleet.attempts_of(runner).is_some();
        self.fleet.occupy(runner, attempt);
        self.packing.occupy(runner, attempt, file);
        self.alone.begin(attempt, file, runner.host);
        let begun = None;
        let (started, overdue_at) = (false, None);
        let handed_out =
            Attempt { file, runner, dispatched, queued, begun, begins, overdue_at, started, role };
        self.attempts.insert(attempt, handed_out);
        if queued {
            self.ahead.wait(attempt, self.launch_of(file), begins);
        } else {
            self.begin(attempt);
        }
        let mut fresh = role == Role::Probe;
        if let Some(trouble) = self.troubles.get_mut(&file) {
            trouble.dispatched(attempt);
            fresh |= trouble.has_failed();
        }
        commands.push(Command::Dispatch { attempt, file, runner, fresh, queued });
    }

    /// A runner begins with an attempt.
    fn begin(&mut self, id: AttemptId) {
        if let Some(attempt) = self.attempts.get_mut(&id) {
            let launch = self.file_launches[attempt.file.0 as usize];
            self.ahead.wait_no_more(id, launch, attempt.begins);
            self.begun += 1;
            attempt.begun = Some(self.begun);
            attempt.begins = self.now;
        }
        self.expect_end(id);
    }

    /// Strikes an attempt that is over off the list; its runner may begin with the next one.
    fn end(&mut self, id: AttemptId) -> Option<Attempt> {
        self.expect_nothing(id);
        let attempt = self.attempts.remove(&id)?;
        self.ahead.wait_no_more(id, self.launch_of(attempt.file), attempt.begins);
        self.ahead.answered(id);
        self.make_room(attempt.runner, id);
        self.alone.end(id);
        if attempt.role == Role::Superseded {
            self.cancelled_ended(id, attempt.file);
        }
        if let Some(next) = self.fleet.release(attempt.runner, id) {
            self.begin(next);
        }
        Some(attempt)
    }

    /// Decides that what waits of a launch is not run.
    fn give_up(&mut self, launch: LaunchId, reason: &NotRunReason, commands: &mut Vec<Command>) {
        self.give_up_candidates(launch, reason, commands);
        while let Some(waiting) = self.queue.first(launch, None) {
            self.queue.take(launch, waiting);
            self.decide_without(waiting.file, reason.clone(), commands);
        }
        self.give_up_alone(launch, reason, commands);
    }

    fn launch_of(&self, file: FileId) -> LaunchId {
        self.file_launches[file.0 as usize]
    }
}

/// Whether a command may let others follow from it in the same event.
fn is_consequential(command: &Command) -> bool {
    !matches!(
        command,
        Command::Dispatch { .. }
            | Command::Cancel { .. }
            | Command::Withdraw { .. }
            | Command::Reserve { .. }
            | Command::Release { .. }
    )
}
