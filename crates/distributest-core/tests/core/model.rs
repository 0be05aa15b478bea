//! A second bookkeeper of a run: a plain model of files, hosts, runners and attempts, which asserts at every
//! event and command what must hold. It scans where the scheduler indexes, so that it can't share the
//! scheduler's mistakes.

use std::collections::{BTreeMap, BTreeSet};

use distributest_core::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};
use distributest_core::outcome::{Interruption, NotRunReason, Outcome, Verdict};
use distributest_core::run_event::AttemptResult;
use distributest_core::scheduler::{INTERRUPTION_LIMIT, SchedulerOptions};
use distributest_core::scheduler_messages::{Command, Event};

pub(crate) struct Model {
    pub(crate) files: Vec<File>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) attempts: BTreeMap<AttemptId, LiveAttempt>,
    pub(crate) ended: BTreeMap<AttemptId, EndedAttempt>,
    /// What runners said that they can't run.
    unable: BTreeSet<(RunnerId, LaunchId)>,
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
    /// Attempts that failed, in order, with what they said.
    failed: Vec<(AttemptId, Outcome)>,
    /// It was tried again after a crash for a second opinion.
    second_opinion: bool,
    /// The runners on which it was interrupted without the file being the cause.
    interrupted_by: BTreeSet<RunnerId>,
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
            failed: Vec::new(),
            second_opinion: false,
            interrupted_by: BTreeSet::new(),
        }
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
    started: bool,
    cancelled: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct EndedAttempt {
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

/// Events.
impl Model {
    pub(crate) fn new(options: &SchedulerOptions) -> Self {
        let retries = |file: usize| options.retries.get(file).copied().unwrap_or(0);
        Model {
            files: (0..)
                .zip(&options.file_launches)
                .map(|(file, launch)| File::new(*launch, retries(file)))
                .collect(),
            hosts: vec![Host::Awaited; options.host_count as usize],
            attempts: BTreeMap::new(),
            ended: BTreeMap::new(),
            unable: BTreeSet::new(),
            fail_fast: options.fail_fast.map(u32::from),
            stopping: false,
            finished: false,
        }
    }

    pub(crate) fn observe_event(&mut self, event: &Event) -> Effect {
        if self.finished {
            return Effect::Nothing;
        }
        let ended = match event {
            Event::HostExpected { host, runners } => self.expect_host(*host, *runners),
            Event::HostLost { host, .. } => self.lose_host(*host),
            Event::RunnerReady { runner } => self.greet_runner(*runner),
            Event::RunnerLost { runner, .. } => self.lose_runner(*runner, Interruption::RunnerLost),
            Event::LaunchUnavailable { runner, launch, .. } => self.exclude(*runner, *launch),
            Event::AttemptStarted { attempt } => self.start_attempt(*attempt),
            Event::AttemptFinished { attempt, outcome, .. } => {
                self.end_attempt(*attempt, AttemptResult::Outcome(*outcome))
            }
            Event::AttemptInterrupted { attempt, interruption, .. } => {
                self.end_attempt(*attempt, AttemptResult::Interrupted(*interruption))
            }
            Event::StopRequested => (!std::mem::replace(&mut self.stopping, true)).then(Vec::new),
        };
        ended.map_or(Effect::Nothing, |ended| Effect::Changed { ended })
    }

    fn expect_host(&mut self, host: HostId, runners: u16) -> Option<Vec<AttemptId>> {
        let host = self.hosts.get_mut(host.0 as usize).filter(|host| **host == Host::Awaited)?;
        *host = match runners {
            0 => Host::Lost,
            _ => Host::Present(vec![Runner::Awaited; usize::from(runners)]),
        };
        Some(Vec::new())
    }

    fn lose_host(&mut self, host: HostId) -> Option<Vec<AttemptId>> {
        self.hosts.get(host.0 as usize).filter(|host| **host != Host::Lost)?;
        let runners = self.runners(|runner| runner != Runner::Lost);
        let its = runners.into_iter().filter(|runner| runner.host == host);
        let ended =
            its.filter_map(|runner| self.lose_runner(runner, Interruption::HostLost)).flatten().collect();
        self.hosts[host.0 as usize] = Host::Lost;
        Some(ended)
    }

    fn greet_runner(&mut self, runner: RunnerId) -> Option<Vec<AttemptId>> {
        self.runner(runner).filter(|state| *state == Runner::Awaited)?;
        self.set_runner(runner, Runner::Idle);
        Some(Vec::new())
    }

    fn lose_runner(&mut self, runner: RunnerId, interruption: Interruption) -> Option<Vec<AttemptId>> {
        self.runner(runner).filter(|state| *state != Runner::Lost)?;
        let its = self.attempts.iter().find(|(_, attempt)| attempt.runner == runner);
        let its = its.map(|(id, attempt)| (*id, *attempt));
        if let Some((id, attempt)) = its {
            self.end(id, attempt, AttemptResult::Interrupted(interruption), attempt.started);
        }
        self.set_runner(runner, Runner::Lost);
        let host = &mut self.hosts[runner.host.0 as usize];
        if matches!(host, Host::Present(runners) if runners.iter().all(|runner| *runner == Runner::Lost)) {
            *host = Host::Lost;
        }
        Some(its.map(|(id, _)| id).into_iter().collect())
    }

    fn exclude(&mut self, runner: RunnerId, launch: LaunchId) -> Option<Vec<AttemptId>> {
        self.runner(runner).filter(|state| *state != Runner::Lost)?;
        self.files.iter().find(|file| file.launch.0 >= launch.0)?;
        self.unable.insert((runner, launch)).then(Vec::new)
    }

    fn start_attempt(&mut self, attempt: AttemptId) -> Option<Vec<AttemptId>> {
        let attempt = self.attempts.get_mut(&attempt)?;
        (!std::mem::replace(&mut attempt.started, true)).then(Vec::new)
    }

    fn end_attempt(&mut self, id: AttemptId, result: AttemptResult) -> Option<Vec<AttemptId>> {
        let attempt = *self.attempts.get(&id)?;
        let could_run_it = self.is_able(attempt.runner, attempt.file);
        self.end(id, attempt, result, could_run_it);
        self.set_runner(attempt.runner, Runner::Idle);
        Some(vec![id])
    }

    fn end(&mut self, id: AttemptId, attempt: LiveAttempt, result: AttemptResult, counts: bool) {
        let LiveAttempt { file, runner, .. } = attempt;
        self.attempts.remove(&id);
        self.ended.insert(id, EndedAttempt { file, runner, result });
        let others_may =
            self.hosts_for(self.files[file.0 as usize].launch).iter().any(|host| *host != runner.host);
        let file = &mut self.files[file.0 as usize];
        if let AttemptResult::Outcome(outcome) = result
            && !outcome.is_success()
        {
            let crashed_before = file.failed.iter().any(|(_, outcome)| *outcome == Outcome::Crashed);
            file.second_opinion |= outcome == Outcome::Crashed && !crashed_before && others_may;
            file.failed.push((id, outcome));
            file.last_lost_by = Some(runner.host);
        }
        if matches!(result, AttemptResult::Interrupted(_)) {
            file.last_lost_by = Some(runner.host);
            if counts {
                file.counted_interruptions += 1;
            } else {
                let first = file.interrupted_by.insert(runner);
                assert!(first, "a file is interrupted on a runner at no cost once at most: {runner:?}");
            }
        }
    }
}

/// Commands.
impl Model {
    pub(crate) fn observe_command(&mut self, command: &Command) {
        assert!(!self.finished, "Finish is the last command, and comes once: {command:?}");
        match command {
            Command::Dispatch { attempt, file, runner, fresh } => {
                let has_failed = !self.files[file.0 as usize].failed.is_empty();
                assert_eq!(*fresh, has_failed, "a file that is tried again gets a fresh worker: {file:?}");
                self.observe_dispatch(*attempt, *file, *runner);
            }
            Command::Cancel { attempt } => {
                assert!(self.is_ending(), "attempts are cancelled by a stop only");
                let attempt = self.attempts.get_mut(attempt).expect("live attempts are cancelled");
                assert!(!attempt.cancelled, "an attempt is cancelled once");
                attempt.cancelled = true;
            }
            Command::Decide { file, verdict, attempt, failed_before } => {
                let failed = self.files[file.0 as usize].failed.iter().map(|(id, _)| *id);
                let before: Vec<AttemptId> = failed.filter(|id| Some(*id) != *attempt).collect();
                assert_eq!(*failed_before, before, "a verdict names every attempt before it that failed");
                self.observe_verdict(*file, verdict, *attempt);
            }
            Command::Finish => self.finished = true,
        }
    }

    fn observe_dispatch(&mut self, attempt: AttemptId, file: FileId, runner: RunnerId) {
        assert!(!self.is_ending(), "nothing starts after a stop");
        assert_eq!(self.runner(runner), Some(Runner::Idle), "attempts go to idle runners only: {runner:?}");
        let used = self.attempts.contains_key(&attempt) || self.ended.contains_key(&attempt);
        assert!(!used, "attempt ids are never reused");
        assert!(!self.is_running(file), "a file has one live attempt at most: {file:?}");
        assert!(self.is_able(runner, file), "no file goes to a runner that said it can't run it: {runner:?}");
        assert!(self.may_take(file, runner), "a file goes to another host than the one that lost it");
        let first = self.waiting().into_iter().find(|file| self.may_take(*file, runner));
        assert_eq!(first, Some(file), "a runner takes the first file it may take");
        let state = &mut self.files[file.0 as usize];
        assert_eq!(state.verdict, None, "a decided file is not run again");
        assert!(state.counted_interruptions < INTERRUPTION_LIMIT, "re-queues are bounded");
        let crashes = state.failed.iter().filter(|(_, outcome)| *outcome == Outcome::Crashed).count();
        assert!(crashes < 2, "a file that crashed twice is never run a third time");
        let most_failures = usize::from(state.retries) + usize::from(state.second_opinion);
        assert!(state.failed.len() <= most_failures, "retries are bounded: {:?}", state.failed);
        state.dispatches += 1;
        let interruptions = u32::from(INTERRUPTION_LIMIT) + state.interrupted_by.len() as u32;
        let most = interruptions + state.failed.len() as u32;
        assert!(
            state.dispatches <= most,
            "a file is dispatched once, and once more for each interruption or retry"
        );
        self.set_runner(runner, Runner::Busy);
        self.attempts.insert(attempt, LiveAttempt { file, runner, started: false, cancelled: false });
    }

    fn observe_verdict(&mut self, file: FileId, verdict: &Verdict, attempt: Option<AttemptId>) {
        assert!(!self.is_running(file), "a file is decided after its attempt: {file:?}");
        let state = &self.files[file.0 as usize];
        assert_eq!(state.verdict, None, "a file has exactly one verdict: {file:?}");
        let gone = AttemptResult::Interrupted(Interruption::FileGone);
        let is_gone = self.ended.values().any(|ended| ended.file == file && ended.result == gone);
        match verdict {
            Verdict::Ran(outcome) => {
                let deciding = &self.ended[&attempt.expect("an outcome comes from an attempt")];
                assert_eq!(deciding.file, file, "an attempt decides its own file");
                assert_eq!(
                    deciding.result,
                    AttemptResult::Outcome(*outcome),
                    "a verdict is what the tests said"
                );
                let crashes = state.failed.iter().filter(|(_, outcome)| *outcome == Outcome::Crashed).count();
                let most_failures = usize::from(state.retries) + usize::from(state.second_opinion);
                let is_final = outcome.is_success() && state.failed.is_empty()
                    || state.failed.len() > most_failures
                    || crashes > 1;
                let can_not_go_on = is_gone
                    || self.is_ending()
                    || self.hosts_for(state.launch).is_empty()
                    || state.counted_interruptions == INTERRUPTION_LIMIT;
                assert!(is_final || can_not_go_on, "a file that can be tried again is: {file:?}");
            }
            Verdict::Flaky => {
                let deciding = &self.ended[&attempt.expect("an outcome comes from an attempt")];
                assert_eq!(
                    deciding.result,
                    AttemptResult::Outcome(Outcome::Passed),
                    "a flaky file passed in the end"
                );
                assert!(!state.failed.is_empty(), "a flaky file failed before");
            }
            Verdict::NotRun(reason) => {
                assert_eq!(attempt, None, "no attempt decided a file that was not run");
                assert!(state.failed.is_empty(), "an outcome is never lost");
                let is_true = match reason {
                    NotRunReason::Stopped => self.stopping,
                    NotRunReason::FailedFast => self.has_failed_enough(),
                    NotRunReason::NoRunnerLeft(_) => self.hosts.iter().all(|host| *host == Host::Lost),
                    NotRunReason::NoRunnerAble(_) => {
                        let anybody_left = self.hosts.iter().any(|host| *host != Host::Lost);
                        anybody_left && self.hosts_for(state.launch).is_empty()
                    }
                    NotRunReason::TooManyInterruptions(_) => {
                        state.counted_interruptions == INTERRUPTION_LIMIT
                    }
                    NotRunReason::FileGone(_) => is_gone,
                    NotRunReason::UnusableName => false,
                };
                assert!(is_true, "the reason for not running a file is true: {reason:?}");
            }
        }
        self.files[file.0 as usize].verdict = Some(verdict.clone());
    }
}

/// State.
impl Model {
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

    /// What must hold between events.
    pub(crate) fn check(&self) {
        for attempt in self.ended.values() {
            let file = &self.files[attempt.file.0 as usize];
            if let AttemptResult::Outcome(Outcome::Passed) = attempt.result {
                let expected =
                    if file.failed.is_empty() { Verdict::Ran(Outcome::Passed) } else { Verdict::Flaky };
                assert_eq!(file.verdict, Some(expected), "an outcome is never lost");
            }
        }
        let busy = self.runners(|runner| runner == Runner::Busy);
        let mut used: Vec<RunnerId> = self.attempts.values().map(|attempt| attempt.runner).collect();
        used.sort_unstable();
        assert_eq!(
            used, busy,
            "capacity is never exceeded: one live attempt on each busy runner, none elsewhere"
        );
        let waiting = self.waiting();
        assert!(!self.is_ending() || waiting.is_empty(), "nothing waits after a stop");
        for runner in self.runners(|runner| runner == Runner::Idle) {
            let taken = waiting.iter().find(|file| self.may_take(**file, runner));
            assert_eq!(taken, None, "no runner is idle while there is a file it may take: {runner:?}");
        }
        let hopeless =
            waiting.iter().find(|file| self.hosts_for(self.files[file.0 as usize].launch).is_empty());
        assert_eq!(hopeless, None, "no file waits that nobody is left to run");
        let all_decided = self.files.iter().all(|file| file.verdict.is_some());
        assert_eq!(self.finished, all_decided, "a run is finished exactly when every file is decided");
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
        let undecided = (0..).map(FileId).zip(&self.files).filter(|(_, file)| file.verdict.is_none());
        undecided.map(|(id, _)| id).filter(|id| !self.is_running(*id)).collect()
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

    fn is_running(&self, file: FileId) -> bool {
        self.attempts.values().any(|attempt| attempt.file == file)
    }

    /// Whether a runner may be given a file: not what it can't run, and not what its host lost itself, while another
    /// host has or may bring runners that can run it.
    fn may_take(&self, file: FileId, runner: RunnerId) -> bool {
        let state = &self.files[file.0 as usize];
        let others_may = self.hosts_for(state.launch).iter().any(|host| *host != runner.host);
        self.is_able(runner, file) && !(state.last_lost_by == Some(runner.host) && others_may)
    }

    fn is_able(&self, runner: RunnerId, file: FileId) -> bool {
        !self.unable.contains(&(runner, self.files[file.0 as usize].launch))
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
