//! What the model demands of commands.

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::{Interruption, NotRunReason, Outcome, Verdict};
use distributest_core::run_event::AttemptResult;
use distributest_core::scheduler::{CHANCE_LIMIT, INTERRUPTION_LIMIT, OVERDUE_GRACE, STREAK_LIMIT};
use distributest_core::scheduler_messages::Command;

use super::{EndedAttempt, File, Host, LiveAttempt, Model, Role, Runner};

impl Model {
    pub(crate) fn observe_command(&mut self, command: &Command) {
        assert!(!self.finished, "Finish is the last command, and comes once: {command:?}");
        match command {
            Command::Dispatch { attempt, file, runner, fresh, queued } => {
                assert_eq!(*queued, self.runner(*runner) == Some(Runner::Busy), "{runner:?}");
                if self.files[file.0 as usize].verdict.is_some() {
                    assert!(*fresh, "a probe is not disturbed by files before it");
                    self.observe_probe(*attempt, *file, *runner);
                } else {
                    self.count_failure(*file);
                    let state = &self.files[file.0 as usize];
                    let has_failed = !state.failed.is_empty() || !state.set_aside.is_empty();
                    assert_eq!(
                        *fresh, has_failed,
                        "a file that is tried again gets a fresh worker: {file:?}"
                    );
                    self.observe_dispatch(*attempt, *file, *runner);
                }
            }
            Command::Cancel { attempt } => {
                let is_ending = self.is_ending();
                let attempt = self.attempts.get_mut(attempt).expect("live attempts are cancelled");
                assert!(!attempt.cancelled, "an attempt is cancelled once");
                attempt.cancelled = true;
                if !is_ending {
                    assert_eq!(attempt.role, Role::Counts, "only what may still count is superseded");
                    attempt.role = Role::Superseded;
                }
            }
            Command::Withdraw { attempt } => self.observe_withdrawal(*attempt),
            Command::Double { attempt } => self.observe_doubling(*attempt),
            Command::Fence { host, failures } => {
                assert!(self.fenced.insert(*host), "a host is fenced once: {host:?}");
                self.observe_fence(*host, *failures);
                self.set_aside_failures_of(*host);
            }
            Command::Readmit { host } => {
                assert!(self.fenced.remove(host), "only a fenced host is readmitted: {host:?}");
                assert!(self.is_cleared(*host), "a host is readmitted for a reason: {host:?}");
            }
            Command::Decide { file, verdict, attempt, failed_before } => {
                self.candidates.remove(file);
                self.count_failure(*file);
                let failed = self.files[file.0 as usize].failed.iter().map(|(id, _)| *id);
                let before: Vec<AttemptId> = failed.filter(|id| Some(*id) != *attempt).collect();
                assert_eq!(*failed_before, before, "a verdict names every attempt before it that failed");
                self.observe_verdict(*file, verdict, *attempt);
            }
            Command::Reuse { file, pass } => {
                self.candidates.remove(file);
                assert!(
                    self.is_cached(*file),
                    "only what passed with the same versions is not run: {file:?}"
                );
                let launch = self.files[file.0 as usize].launch;
                let said = self.versions[&launch].as_ref().expect("it is cached");
                assert_eq!(&self.passed_with[file.0 as usize][*pass], said, "the pass that counts");
                let state = &mut self.files[file.0 as usize];
                assert_eq!(
                    (state.verdict.clone(), state.dispatches),
                    (None, 0),
                    "it was never run: {file:?}"
                );
                state.verdict = Some(Verdict::Cached);
            }
            Command::Reserve { host, file } => {
                self.count_failure(*file);
                assert!(self.files[file.0 as usize].is_lonely, "there was too little memory: {file:?}");
                assert!(self.reserved.insert(*host), "a host is reserved once: {host:?}");
            }
            Command::Release { host } => {
                assert!(self.reserved.remove(host), "a reserved host is released: {host:?}");
            }
            Command::Finish => self.finished = true,
        }
    }

    /// Whether a host passed a question, or something that it failed was decided without a pass elsewhere.
    fn is_cleared(&self, host: HostId) -> bool {
        let passed = AttemptResult::Outcome(Outcome::Passed);
        let is_answer = |ended: &EndedAttempt| ended.role == Role::Probe && ended.runner.host == host;
        let has_answered = self.ended.values().any(|ended| is_answer(ended) && ended.result == passed);
        let failed_here = |file: &&File| file.set_aside.iter().any(|failure| failure.host == host);
        let has_passed =
            |file: &File| matches!(file.verdict, None | Some(Verdict::Ran(Outcome::Passed) | Verdict::Flaky));
        has_answered || self.files.iter().filter(failed_here).any(|file| !has_passed(file))
    }

    fn observe_fence(&self, host: HostId, failures: u32) {
        let its = self.files.iter().filter(|file| file.pending.is_some_and(|failure| failure.host == host));
        assert_eq!(its.count() as u32, failures, "all failures of the host that don't count yet");
        assert!(failures >= STREAK_LIMIT, "a few failures don't speak against a host");
        let others = self.records.iter().filter(|(other, _)| **other != host && !self.fenced.contains(other));
        let chances = others.map(|(_, (finished, failed))| f64::from(failed + 1) / f64::from(finished + 2));
        let best = chances.fold(1.0, f64::min);
        assert!(best.powf(f64::from(failures)) < CHANCE_LIMIT, "others pass what the host fails");
    }

    fn observe_probe(&mut self, attempt: AttemptId, file: FileId, runner: RunnerId) {
        assert!(self.fenced.contains(&runner.host), "only a fenced host is probed");
        assert!(!self.silent.contains(&runner.host), "a silent host is given nothing");
        assert_eq!(self.runner(runner), Some(Runner::Idle), "probes go to idle runners only: {runner:?}");
        assert!(self.is_able(runner, file), "no file goes to a runner that said it can't run it: {runner:?}");
        let state = &self.files[file.0 as usize];
        assert!(state.set_aside.iter().any(|failure| failure.host == runner.host), "the host failed it");
        let has_passed = matches!(state.verdict, Some(Verdict::Ran(Outcome::Passed) | Verdict::Flaky));
        assert!(has_passed, "another host passed it");
        let probes = self.attempts.values().filter(|live| live.role == Role::Probe);
        assert!(probes.into_iter().all(|live| live.runner.host != runner.host), "one probe at a time");
        self.give(attempt, file, runner, Role::Probe);
    }

    pub(super) fn give(&mut self, attempt: AttemptId, file: FileId, runner: RunnerId, role: Role) {
        let used = self.attempts.contains_key(&attempt) || self.ended.contains_key(&attempt);
        assert!(!used, "attempt ids are never reused");
        let begun = self.runner(runner) == Some(Runner::Idle);
        self.set_runner(runner, Runner::Busy);
        for other in self.attempts.values_mut().filter(|other| other.file == file) {
            other.is_doubled = false;
        }
        let live = LiveAttempt {
            file,
            runner,
            given: self.now,
            is_doubled: false,
            queued: !begun,
            begun,
            started: false,
            cancelled: false,
            withdrawn: false,
            role,
        };
        self.attempts.insert(attempt, live);
    }

    fn observe_doubling(&mut self, attempt: AttemptId) {
        let LiveAttempt { file, runner, given, role, .. } = self.attempts[&attempt];
        assert_eq!(role, Role::Counts, "what is cancelled is not waited for");
        assert!(!self.is_ending(), "nothing starts after a stop");
        assert!(!self.is_cached(file), "what need not be run is not run: {file:?}");
        assert!(
            self.now >= given + OVERDUE_GRACE || !self.is_even(),
            "patience is not lost at once: {file:?}"
        );
        let live = self.attempts.values().filter(|live| live.is_for(file)).count();
        assert_eq!(live, 1, "an attempt is doubled, not tripled: {file:?}");
        let idle = self.runners(|runner| runner == Runner::Idle);
        let is_free = |other: &RunnerId| {
            other.host != runner.host
                && self.is_able(*other, file)
                && !self.is_paused(other.host)
                && self.fits(file, *other)
        };
        assert!(idle.iter().any(is_free), "somebody has nothing better to do: {file:?}");
        let launch = self.files[file.0 as usize].launch;
        let is_next = |other: &FileId| {
            self.files[other.0 as usize].launch == launch && !self.files[other.0 as usize].is_lonely
        };
        let next = self.waiting().into_iter().find(is_next);
        assert_eq!(next, None, "files that wait come first");
        self.attempts.get_mut(&attempt).expect("it was found").is_doubled = true;
        let state = &mut self.files[file.0 as usize];
        assert!(!std::mem::replace(&mut state.was_doubled, true), "a file is doubled once: {file:?}");
        state.last_lost_by = Some(runner.host);
        state.doubts += 1;
    }

    fn observe_withdrawal(&mut self, attempt: AttemptId) {
        let live = self.attempts[&attempt];
        assert!(!live.begun && !live.withdrawn, "what waits behind others is taken back, once: {attempt:?}");
        assert_eq!(live.role, Role::Counts, "what is cancelled need not be taken back");
        assert!(!self.is_ending(), "nothing is to be run elsewhere after a stop");
        let idle = self.runners(|runner| runner == Runner::Idle);
        let has_taker = idle.iter().any(|runner| self.is_able(*runner, live.file));
        let reasons = [&self.fenced, &self.doubted, &self.reserved];
        let is_paused = reasons.into_iter().any(|hosts| hosts.contains(&live.runner.host));
        assert!(has_taker || is_paused, "a file is taken back for a reason");
        self.attempts.get_mut(&attempt).expect("it was found").withdrawn = true;
    }

    /// A file is put behind those a busy runner has.
    fn observe_queued(&mut self, attempt: AttemptId, file: FileId, runner: RunnerId) {
        assert!(self.is_able(runner, file), "no file goes to a runner that said it can't run it: {runner:?}");
        assert!(!self.is_paused(runner.host), "a host that is given nothing has nothing queued: {runner:?}");
        let idle = self.runners(|runner| runner == Runner::Idle);
        let taker = idle
            .iter()
            .filter(|runner| self.may_take(file, **runner) && self.fits(file, **runner))
            .find(|runner| !self.may_be_waited_with(file, **runner));
        assert_eq!(taker, None, "nothing is queued that an idle runner may take: {file:?}");
        let (_, at_work) = self.attempts_of(runner)[0];
        assert!(at_work.role == Role::Counts && self.is_harmless(at_work.file), "{:?}", at_work.file);
        assert!(self.is_harmless(file) && self.files[file.0 as usize].dispatches == 0, "{file:?}");
        let may_take =
            |other: &FileId| self.is_new(*other) && self.is_able(runner, *other) && self.fits(*other, runner);
        let mut takes = self.waiting().into_iter().filter(may_take);
        let first = takes.find(|other| *other == file || !self.may_be_left(*other, runner));
        assert_eq!(first, Some(file), "a runner takes the first file it may take");
        self.files[file.0 as usize].dispatches += 1;
        self.give(attempt, file, runner, Role::Counts);
    }

    /// Whether nothing befell a file so far.
    fn is_harmless(&self, file: FileId) -> bool {
        let state = &self.files[file.0 as usize];
        let is_lost = state.last_lost_by.is_some() || state.was_queued_in_vain;
        !is_lost && state.counted_interruptions == 0 && state.failed.is_empty() && state.doubts == 0
    }

    fn observe_dispatch(&mut self, attempt: AttemptId, file: FileId, runner: RunnerId) {
        assert!(!self.is_ending(), "nothing starts after a stop");
        assert!(!self.is_cached(file), "what need not be run is not run: {file:?}");
        if self.files[file.0 as usize].is_lonely {
            return self.observe_lonely(attempt, file, runner);
        }
        if self.runner(runner) == Some(Runner::Busy) {
            return self.observe_queued(attempt, file, runner);
        }
        assert_eq!(
            self.runner(runner),
            Some(Runner::Idle),
            "attempts go to runners that are there: {runner:?}"
        );
        assert!(
            self.is_waiting(file),
            "a file has one live attempt at most on hosts that are heard: {file:?}"
        );
        assert!(self.is_able(runner, file), "no file goes to a runner that said it can't run it: {runner:?}");
        assert!(self.may_take(file, runner), "a file goes to another host than the one that lost it");
        let is_passed_over = |other: &FileId| self.is_new(*other) && self.may_be_left(*other, runner);
        assert!(self.fits(file, runner), "a runner takes what it has room for: {file:?}");
        let may_take = |other: &FileId| self.may_take(*other, runner) && self.fits(*other, runner);
        let mut takes = self.waiting().into_iter().filter(may_take);
        let first = takes.find(|other| *other == file || !is_passed_over(other));
        assert_eq!(first, Some(file), "a runner takes the first file it may take");
        let state = &mut self.files[file.0 as usize];
        assert_eq!(state.verdict, None, "a decided file is not run again");
        assert!(state.counted_interruptions < INTERRUPTION_LIMIT, "re-queues are bounded");
        assert!(state.crashes() < 2, "a file that crashed twice is never run a third time");
        let most_failures = usize::from(state.retries) + usize::from(state.may_have_second_opinion);
        assert!(state.failed.len() <= most_failures, "retries are bounded: {:?}", state.failed);
        state.dispatches += 1;
        let interruptions = u32::from(INTERRUPTION_LIMIT) + state.interrupted_by.len() as u32;
        let in_vain = u32::from(state.was_queued_in_vain);
        let most =
            interruptions + (state.failed.len() + state.set_aside.len()) as u32 + state.doubts + in_vain;
        assert!(
            state.dispatches <= most,
            "a file is dispatched once, and once more for each interruption, retry or doubt"
        );
        self.give(attempt, file, runner, Role::Counts);
    }

    fn observe_verdict(&mut self, file: FileId, verdict: &Verdict, attempt: Option<AttemptId>) {
        let left = self.attempts.values().find(|live| live.is_for(file));
        assert!(left.is_none_or(|live| live.cancelled), "a file is decided after its attempts: {file:?}");
        let state = &self.files[file.0 as usize];
        assert_eq!(state.verdict, None, "a file has exactly one verdict: {file:?}");
        let gone = AttemptResult::Interrupted(Interruption::FileGone);
        let is_gone = self.ended.values().any(|ended| ended.file == file && ended.result == gone);
        match verdict {
            Verdict::Ran(outcome) => {
                let deciding = &self.ended[&attempt.expect("an outcome comes from an attempt")];
                assert_eq!(
                    (deciding.file, deciding.role),
                    (file, Role::Counts),
                    "an attempt decides its file"
                );
                assert_eq!(
                    deciding.result,
                    AttemptResult::Outcome(*outcome),
                    "a verdict is what the tests said"
                );
                let is_final = outcome.is_success() && state.failed.is_empty()
                    || state.failed.len() > usize::from(state.retries)
                    || state.crashes() > 1;
                let can_not_go_on = is_gone
                    || self.is_ending()
                    || self.hosts_for(state.launch).is_empty()
                    || state.counted_interruptions >= INTERRUPTION_LIMIT;
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
            Verdict::Cached => panic!("a pass is named that counts: {file:?}"),
            Verdict::NotRun(reason) => {
                assert_eq!(attempt, None, "no attempt decided a file that was not run");
                let has_failed = !state.failed.is_empty() || !state.set_aside.is_empty();
                assert!(!has_failed, "an outcome is never lost");
                let is_true = match reason {
                    NotRunReason::Stopped => self.stopping,
                    NotRunReason::FailedFast => self.has_failed_enough(),
                    NotRunReason::NoRunnerLeft(_) => self.hosts.iter().all(|host| *host == Host::Lost),
                    NotRunReason::NoRunnerAble(_) => {
                        let anybody_left = self.hosts.iter().any(|host| *host != Host::Lost);
                        anybody_left && self.hosts_for(state.launch).is_empty()
                    }
                    NotRunReason::TooManyInterruptions(_) => {
                        state.counted_interruptions >= INTERRUPTION_LIMIT
                    }
                    NotRunReason::FileGone(_) => is_gone,
                    NotRunReason::UnusableName => false,
                };
                assert!(is_true, "the reason for not running a file is true: {reason:?}");
            }
        }
        self.files[file.0 as usize].verdict = Some(verdict.clone());
        for live in self.attempts.values_mut().filter(|live| live.is_for(file)) {
            live.role = Role::Superseded;
        }
    }
}
