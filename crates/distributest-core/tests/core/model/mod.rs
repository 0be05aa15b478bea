//! A second bookkeeper of a run: a plain model of files, hosts, runners and attempts, which asserts at every
//! event and command what must hold. It scans where the scheduler indexes, so that it can't share the
//! scheduler's mistakes.

mod commands;
mod events;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::AttemptResult;
use distributest_core::scheduler::{
    DOUBT_PAUSE, DOUBT_STREAK, INTERRUPTION_LIMIT, SCOUT_DELAY, SchedulerOptions,
};
use distributest_core::scheduler_messages::Command;

pub(crate) struct Model {
    /// When the last event happened.
    pub(crate) now: Duration,
    pub(crate) files: Vec<File>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) attempts: BTreeMap<AttemptId, LiveAttempt>,
    pub(crate) ended: BTreeMap<AttemptId, EndedAttempt>,
    /// What runners said that they can't run.
    unable: BTreeSet<(RunnerId, LaunchId)>,
    pub(crate) silent: BTreeSet<HostId>,
    /// With which versions files passed before, by their ids.
    passed_with: Vec<Vec<String>>,
    /// Files that need not be run if a worker says the right versions.
    candidates: BTreeSet<FileId>,
    /// Launches of which a worker has spoken, with the versions that it said.
    versions: BTreeMap<LaunchId, Option<String>>,
    /// When the first runner was ready.
    first_ready: Option<Duration>,
    /// Candidates that were given up to have a worker started.
    scouts: BTreeSet<FileId>,
    speeds: Vec<f64>,
    /// Bytes each file needs, at least one.
    needs: Vec<u64>,
    /// Bytes each host has, where it said so.
    pub(crate) memory: BTreeMap<HostId, u64>,
    /// Hosts that are given nothing but a file that runs alone.
    reserved: BTreeSet<HostId>,
    fenced: BTreeSet<HostId>,
    /// Hosts that may be broken for all that is known.
    doubted: BTreeSet<HostId>,
    /// When each host last failed a file.
    failed_last: BTreeMap<HostId, Duration>,
    /// How many attempts may wait at each runner of a host.
    queues: BTreeMap<HostId, u16>,
    /// How often each host was away.
    absences: BTreeMap<HostId, u32>,
    /// Files finished on each host, and how many of them failed.
    records: BTreeMap<HostId, (u32, u32)>,
    /// Failing files that end the run.
    fail_fast: Option<u32>,
    /// The user asked to stop.
    pub(crate) stopping: bool,
    pub(crate) finished: bool,
}

#[derive(Clone)]
pub(crate) struct File {
    launch: LaunchId,
    pub(crate) verdict: Option<Verdict>,
    last_lost_by: Option<HostId>,
    dispatches: u32,
    counted_interruptions: u8,
    /// How often it may be tried again after a failure.
    retries: u8,
    /// A failure of which nobody knows yet whether it counts.
    pending: Option<Failure>,
    /// Attempts that failed, in order, with what they said.
    failed: Vec<(AttemptId, Outcome)>,
    /// Those that failed because of their hosts.
    set_aside: Vec<Failure>,
    /// How often it was given to another host because of a silence, or because the first took too long.
    doubts: u32,
    /// It was given to another host because the first took too long.
    was_doubled: bool,
    /// It crashed for the first time: that may lead to an attempt that is no retry.
    may_have_second_opinion: bool,
    /// The runners, and the absences of their hosts before, on which it was interrupted without the file being the
    /// cause.
    interrupted_by: BTreeSet<(RunnerId, u32)>,
    /// It came back from a runner before its turn.
    was_queued_in_vain: bool,
    /// There was no memory left for it, and from then on it runs alone.
    is_lonely: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Failure {
    attempt: AttemptId,
    host: HostId,
    outcome: Outcome,
    out_of_memory: bool,
}

impl File {
    fn new(launch: LaunchId, retries: u8) -> Self {
        File {
            launch,
            verdict: None,
            last_lost_by: None,
            dispatches: 0,
            counted_interruptions: 0,
            retries,
            pending: None,
            failed: Vec::new(),
            set_aside: Vec::new(),
            doubts: 0,
            was_doubled: false,
            may_have_second_opinion: false,
            interrupted_by: BTreeSet::new(),
            was_queued_in_vain: false,
            is_lonely: false,
        }
    }

    fn crashes(&self) -> usize {
        let set_aside = self.set_aside.iter().map(|failure| failure.outcome);
        let outcomes = self.failed.iter().map(|(_, outcome)| *outcome).chain(set_aside);
        outcomes.filter(|outcome| *outcome == Outcome::Crashed).count()
    }
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Host {
    Awaited,
    Present(Vec<Runner>),
    Lost,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Runner {
    Awaited,
    Idle,
    Busy,
    Lost,
}

#[derive(Clone, Copy)]
pub(crate) struct LiveAttempt {
    pub(crate) file: FileId,
    pub(crate) runner: RunnerId,
    given: Duration,
    /// Its file is given to another runner by the next command.
    is_doubled: bool,
    /// Its runner was busy when it was given to it.
    queued: bool,
    /// Its runner is at work on it: it does not wait behind another any more.
    begun: bool,
    started: bool,
    cancelled: bool,
    withdrawn: bool,
    role: Role,
}

impl LiveAttempt {
    /// Whether its file may have been run.
    fn may_have_run(&self) -> bool {
        self.started || !self.queued
    }
}

/// What an attempt is for.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Role {
    Counts,
    Superseded,
    Probe,
}

#[derive(Clone, Copy)]
pub(crate) struct EndedAttempt {
    role: Role,
    pub(crate) file: FileId,
    pub(crate) runner: RunnerId,
    pub(crate) result: AttemptResult,
}

/// What an event did to the model.
pub(crate) enum Effect {
    /// It is late, repeated or about nobody: it must not lead to any command.
    Nothing,
    /// It changed something; these attempts ended by it.
    Changed { ended: Vec<AttemptId> },
}

/// State.
impl Model {
    pub(crate) fn new(options: &SchedulerOptions, passed_with: &[Vec<String>]) -> Self {
        let retries = |file: usize| options.retries.get(file).copied().unwrap_or(0);
        Model {
            now: Duration::ZERO,
            files: (0..)
                .zip(&options.file_launches)
                .map(|(file, launch)| File::new(*launch, retries(file)))
                .collect(),
            hosts: vec![Host::Awaited; options.host_count as usize],
            attempts: BTreeMap::new(),
            ended: BTreeMap::new(),
            unable: BTreeSet::new(),
            silent: BTreeSet::new(),
            passed_with: passed_with.to_vec(),
            candidates: (0..)
                .map(FileId)
                .zip(&options.file_launches)
                .filter(|(file, _)| {
                    passed_with.get(file.0 as usize).is_some_and(|versions| !versions.is_empty())
                })
                .map(|(file, _)| file)
                .collect(),
            versions: BTreeMap::new(),
            first_ready: None,
            scouts: BTreeSet::new(),
            speeds: (0..options.host_count as usize)
                .map(|host| options.host_speeds.get(host).copied().unwrap_or(1.0))
                .collect(),
            needs: (0..options.file_launches.len())
                .map(|file| options.memory.get(file).copied().flatten().unwrap_or_default().max(1))
                .collect(),
            memory: BTreeMap::new(),
            reserved: BTreeSet::new(),
            fenced: BTreeSet::new(),
            doubted: BTreeSet::new(),
            failed_last: BTreeMap::new(),
            queues: BTreeMap::new(),
            absences: BTreeMap::new(),
            records: BTreeMap::new(),
            fail_fast: options.fail_fast.map(u32::from),
            stopping: false,
            finished: false,
        }
    }

    /// The runners in a state.
    pub(crate) fn runners(&self, wanted: impl Fn(Runner) -> bool) -> Vec<RunnerId> {
        let mut named = Vec::new();
        for (host, state) in (0..).map(HostId).zip(&self.hosts) {
            if let Host::Present(runners) = state {
                let chosen = (1..).zip(runners).filter(|(_, runner)| wanted(**runner));
                named.extend(chosen.map(|(number, _)| RunnerId { host, number }));
            }
        }
        named
    }

    /// Finds out which hosts are doubted when these commands are given, after which those failures are `held`.
    pub(crate) fn judge(&mut self, commands: &[Command], held: &BTreeSet<FileId>) {
        let mut fenced = self.fenced.clone();
        for command in commands {
            match command {
                Command::Fence { host, .. } => _ = fenced.insert(*host),
                Command::Readmit { host } => _ = fenced.remove(host),
                _ => {}
            }
        }
        let streak = |host: HostId| {
            let failures = held.iter().filter_map(|file| self.files[file.0 as usize].pending);
            failures.filter(|failure| failure.host == host).count() as u32
        };
        let is_doubtful = |host: &HostId| {
            let mut others = self.records.keys().filter(|other| *other != host && !fenced.contains(other));
            let is_left = self.hosts[host.0 as usize] != Host::Lost;
            is_left && streak(*host) >= DOUBT_STREAK && !fenced.contains(host) && others.next().is_none()
        };
        self.doubted = (0..self.hosts.len() as u32).map(HostId).filter(is_doubtful).collect();
    }

    /// Takes note of the files that are still kept back after an event, before the commands that it led to are looked at.
    pub(crate) fn keep_back(&mut self, candidates: &BTreeSet<FileId>, commands: &[Command]) {
        assert!(candidates.is_subset(&self.candidates), "nothing is kept back later");
        let is_decided = |file: &FileId| {
            commands.iter().any(|command| match command {
                Command::Decide { file: decided, .. } | Command::Reuse { file: decided, .. } => {
                    decided == file
                }
                _ => false,
            })
        };
        let released: Vec<FileId> = self.candidates.difference(candidates).copied().collect();
        for file in released.into_iter().filter(|file| !is_decided(file)) {
            let launch = self.files[file.0 as usize].launch;
            if self.versions.contains_key(&launch) {
                continue;
            }
            let is_due = self.first_ready.is_some_and(|ready| self.now >= ready + SCOUT_DELAY);
            assert!(is_due, "a file is kept back until a worker has spoken: {file:?}");
            let mut scouts = self.scouts.iter().map(|scout| &self.files[scout.0 as usize]);
            let is_needed = scouts.all(|scout| scout.launch != launch || scout.verdict.is_some());
            assert!(is_needed, "a launch has one scout at a time: {file:?}");
            self.scouts.insert(file);
        }
        // What is given up was kept back until then.
        let is_given_up = |file: &FileId| {
            let was_admitted =
                |command: &Command| matches!(command, Command::Dispatch { file: given, .. } if given == file);
            is_decided(file) && !commands.iter().any(was_admitted)
        };
        self.candidates.retain(|file| candidates.contains(file) || is_given_up(file));
    }

    /// Whether a file need not be run, by what the first worker of its launch said.
    fn is_cached(&self, file: FileId) -> bool {
        let versions = self.versions.get(&self.files[file.0 as usize].launch).cloned().flatten();
        let passed_with = self.passed_with.get(file.0 as usize);
        let is_same =
            |versions: String| passed_with.is_some_and(|passed_with| passed_with.contains(&versions));
        !self.scouts.contains(&file) && versions.is_some_and(is_same)
    }

    /// What must hold between events. `held`: the files whose last failure does not count yet.
    pub(crate) fn check(&mut self, held: &BTreeSet<FileId>) {
        self.check_held(held);
        for attempt in self.ended.values().filter(|attempt| attempt.role == Role::Counts) {
            let file = &self.files[attempt.file.0 as usize];
            if let AttemptResult::Outcome(Outcome::Passed) = attempt.result {
                let expected =
                    if file.failed.is_empty() { Verdict::Ran(Outcome::Passed) } else { Verdict::Flaky };
                assert_eq!(file.verdict, Some(expected), "an outcome is never lost");
            }
        }
        for attempt in self.attempts.values().filter(|attempt| attempt.role == Role::Superseded) {
            let mut others = self.ended.values().filter(|ended| ended.file == attempt.file);
            let answered = others.any(|ended| matches!(ended.result, AttemptResult::Outcome(_)));
            let decided = self.files[attempt.file.0 as usize].verdict.is_some();
            assert!(answered || decided, "an attempt is superseded by an answer");
            assert!(attempt.cancelled, "what is superseded is cancelled");
        }
        let busy = self.runners(|runner| runner == Runner::Busy);
        let begun = self.attempts.values().filter(|attempt| attempt.begun);
        let mut used: Vec<RunnerId> = begun.map(|attempt| attempt.runner).collect();
        used.sort_unstable();
        assert_eq!(
            used, busy,
            "capacity is never exceeded: one attempt at work on each busy runner, none elsewhere"
        );
        for runner in &busy {
            let limit = self.queues.get(&runner.host).copied().unwrap_or_default();
            let attempts = self.attempts_of(*runner).len();
            assert!(attempts <= usize::from(limit) + 1, "no more waits at a runner than its agent takes");
        }
        self.check_memory();
        let waiting = self.waiting();
        assert!(!self.is_ending() || waiting.is_empty(), "nothing waits after a stop");
        for runner in self.runners(|runner| runner == Runner::Idle) {
            let taken = waiting.iter().find(|file| {
                self.may_take(**file, runner)
                    && self.fits(**file, runner)
                    && !(self.is_new(**file) && self.may_be_waited_with(**file, runner))
            });
            assert_eq!(taken, None, "no runner is idle while there is a file it may take: {runner:?}");
        }
        let hopeless =
            waiting.iter().find(|file| self.hosts_for(self.files[file.0 as usize].launch).is_empty());
        assert_eq!(hopeless, None, "no file waits that nobody is left to run");
        assert!(self.candidates.is_empty() || !self.is_ending(), "nothing is kept back after a stop");
        for file in &self.candidates {
            let launch = self.files[file.0 as usize].launch;
            assert!(!self.versions.contains_key(&launch), "a worker has spoken for it: {file:?}");
            assert!(!self.hosts_for(launch).is_empty(), "nobody is left to speak for it: {file:?}");
        }
        let all_decided = self.files.iter().all(|file| file.verdict.is_some());
        assert_eq!(self.finished, all_decided, "a run is finished exactly when every file is decided");
    }

    /// What must hold when a long time has passed: nothing waits behind another attempt that an idle runner could make.
    pub(crate) fn check_nothing_waits_in_vain(&self) {
        let idle = self.runners(|runner| runner == Runner::Idle);
        let withdrawn = self.attempts.values().filter(|live| live.withdrawn).count();
        for live in self.attempts.values() {
            let waits = !live.begun && !live.withdrawn && live.role == Role::Counts;
            let launch = self.files[live.file.0 as usize].launch;
            let is_next = !self.waiting().iter().any(|file| {
                self.files[file.0 as usize].launch == launch && !self.files[file.0 as usize].is_lonely
            });
            let is_free =
                |runner: &&RunnerId| self.is_able(**runner, live.file) && !self.is_paused(runner.host);
            let free = idle.iter().filter(is_free).count();
            let all_fit = !self.hosts_expected().any(|host| self.is_tight(host));
            let is_in_vain =
                waits && is_next && !self.is_ending() && free > withdrawn && self.is_even() && all_fit;
            assert!(!is_in_vain, "{:?} waits in vain", live.file);
        }
    }

    /// The attempts that runners are at work on.
    pub(crate) fn begun(&self) -> Vec<AttemptId> {
        self.attempts.iter().filter(|(_, live)| live.begun).map(|(id, _)| *id).collect()
    }

    /// The attempts of a runner, in the order it makes them.
    fn attempts_of(&self, runner: RunnerId) -> Vec<(AttemptId, LiveAttempt)> {
        let its = self.attempts.iter().filter(|(_, live)| live.runner == runner);
        its.map(|(id, live)| (*id, *live)).collect()
    }

    fn check_held(&mut self, held: &BTreeSet<FileId>) {
        for file in (0..self.files.len() as u32).map(FileId) {
            if !held.contains(&file) {
                self.count_failure(file);
            }
        }
        assert!(held.is_empty() || !self.is_ending(), "a failure counts after a stop");
        let is_at_work =
            |live: &LiveAttempt| live.role == Role::Counts && !self.silent.contains(&live.runner.host);
        let waiting = self.waiting();
        let is_given_more = |runner: RunnerId| {
            let is_doubted = self.doubted.contains(&runner.host);
            is_doubted && waiting.iter().any(|file| self.may_take_in_time(*file, runner))
        };
        let idle = self.runners(|runner| runner == Runner::Idle);
        let goes_on =
            self.attempts.values().any(is_at_work) || idle.iter().any(|runner| is_given_more(*runner));
        assert!(held.is_empty() || goes_on, "nothing is held for ever");
        for file in held {
            let file = &self.files[file.0 as usize];
            let failure = file.pending.expect("only a failure is held");
            assert_eq!(file.verdict, None);
            assert!(!self.fenced.contains(&failure.host), "it is known whose a fenced host's failures are");
        }
    }

    fn runner(&self, runner: RunnerId) -> Option<Runner> {
        let Host::Present(runners) = self.hosts.get(runner.host.0 as usize)? else { return None };
        runners.get(usize::from(runner.number).checked_sub(1)?).copied()
    }

    fn set_runner(&mut self, runner: RunnerId, state: Runner) {
        if let Host::Present(runners) = &mut self.hosts[runner.host.0 as usize] {
            runners[usize::from(runner.number) - 1] = state;
        }
    }

    /// The files that wait for a runner, in order.
    fn waiting(&self) -> Vec<FileId> {
        (0..self.files.len() as u32).map(FileId).filter(|file| self.is_waiting(*file)).collect()
    }

    /// Whether a file is neither decided nor held nor at work on a host that is heard.
    fn is_waiting(&self, file: FileId) -> bool {
        let stands_alone = |live: &LiveAttempt| !live.is_doubled && !self.silent.contains(&live.runner.host);
        let is_heard = |live: &LiveAttempt| self.is_ending() || stands_alone(live);
        let state = &self.files[file.0 as usize];
        let mut live = self.attempts.values().filter(|live| live.is_for(file));
        let may_run = state.counted_interruptions < INTERRUPTION_LIMIT;
        let is_kept_back = self.candidates.contains(&file);
        let may_start = may_run && !is_kept_back && !self.is_at_work_for_nothing(file);
        state.verdict.is_none() && state.pending.is_none() && may_start && !live.any(is_heard)
    }

    /// Whether an attempt at a file that was cancelled because another one was first is not over, on a host that is heard.
    fn is_at_work_for_nothing(&self, file: FileId) -> bool {
        let is_cancelled = |live: &LiveAttempt| live.file == file && live.role == Role::Superseded;
        let is_heard = |live: &LiveAttempt| !self.silent.contains(&live.runner.host);
        !self.is_ending() && self.attempts.values().any(|live| is_cancelled(live) && is_heard(live))
    }

    /// Whether nothing new starts, because somebody asked for that or enough files have failed.
    fn is_ending(&self) -> bool {
        self.stopping || self.has_failed_enough()
    }

    fn has_failed_enough(&self) -> bool {
        let has_failed =
            |file: &&File| matches!(file.verdict, Some(Verdict::Ran(outcome)) if !outcome.is_success());
        let failed = self.files.iter().filter(has_failed).count() as u32;
        self.fail_fast.is_some_and(|limit| failed >= limit)
    }

    fn is_even(&self) -> bool {
        self.speeds.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// Whether a file was never handed out.
    fn is_new(&self, file: FileId) -> bool {
        self.files[file.0 as usize].dispatches == 0
    }

    /// Whether a runner may pass over a file: a faster host has or may bring somebody to take it.
    fn may_be_left(&self, file: FileId, runner: RunnerId) -> bool {
        !self.faster(file, runner).is_empty()
    }

    /// Whether a runner may do nothing rather than take a file: a faster host is at work, and will take it.
    fn may_be_waited_with(&self, file: FileId, runner: RunnerId) -> bool {
        let faster = self.faster(file, runner);
        self.attempts.values().any(|live| faster.contains(&live.runner.host))
    }

    fn faster(&self, file: FileId, runner: RunnerId) -> Vec<HostId> {
        let speed = |host: HostId| self.speeds[host.0 as usize];
        let hosts = self.hosts_at_work_for(self.files[file.0 as usize].launch);
        hosts.into_iter().filter(|host| speed(*host) > speed(runner.host)).collect()
    }

    /// Whether a runner may be given a file now.
    fn may_take(&self, file: FileId, runner: RunnerId) -> bool {
        let is_at_work = self.attempts.values().any(|live| live.runner.host == runner.host);
        let failed_last = self.failed_last.get(&runner.host).copied().unwrap_or_default();
        let is_doubted = self.doubted.contains(&runner.host);
        let has_to_wait = is_doubted && (is_at_work || self.now < failed_last + DOUBT_PAUSE);
        !has_to_wait && self.may_take_in_time(file, runner)
    }

    /// Whether a runner may be given a file: not what it can't run, and not what its host lost itself, while another
    /// host has or may bring runners that can run it.
    fn may_take_in_time(&self, file: FileId, runner: RunnerId) -> bool {
        let state = &self.files[file.0 as usize];
        let at_work = self.hosts_at_work_for(state.launch);
        let others_may = at_work.iter().any(|host| *host != runner.host);
        let is_last_resort = self.unfenced_hosts_for(state.launch).is_empty();
        let is_fenced = self.fenced.contains(&runner.host) && !is_last_resort;
        let is_reserved = self.reserved.contains(&runner.host) || state.is_lonely;
        let is_paused = self.silent.contains(&runner.host) || is_fenced || is_reserved;
        self.is_able(runner, file) && !is_paused && !(state.last_lost_by == Some(runner.host) && others_may)
    }

    /// Whether a host is given nothing in advance.
    fn is_paused(&self, host: HostId) -> bool {
        [&self.silent, &self.fenced, &self.doubted, &self.reserved]
            .into_iter()
            .any(|paused| paused.contains(&host))
    }

    fn is_able(&self, runner: RunnerId, file: FileId) -> bool {
        !self.unable.contains(&(runner, self.files[file.0 as usize].launch))
    }

    /// The same without those that are given nothing for now.
    fn hosts_at_work_for(&self, launch: LaunchId) -> Vec<HostId> {
        self.hosts_for(launch).into_iter().filter(|host| !self.is_paused(*host)).collect()
    }

    /// The same without those that are to blame for what they fail.
    fn unfenced_hosts_for(&self, launch: LaunchId) -> Vec<HostId> {
        let is_unfenced = |host: &HostId| !self.fenced.contains(host);
        self.hosts_for(launch).into_iter().filter(is_unfenced).collect()
    }

    /// The hosts that have or may still bring a runner that can run a launch.
    fn hosts_for(&self, launch: LaunchId) -> Vec<HostId> {
        let can = |host: HostId| match &self.hosts[host.0 as usize] {
            Host::Awaited => true,
            Host::Present(runners) => (1..).zip(runners).any(|(number, state)| {
                *state != Runner::Lost && !self.unable.contains(&(RunnerId { host, number }, launch))
            }),
            Host::Lost => false,
        };
        (0..self.hosts.len() as u32).map(HostId).filter(|host| can(*host)).collect()
    }
}
