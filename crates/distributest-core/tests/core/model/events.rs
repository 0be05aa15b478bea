//! What events do to the model.

use distributest_core::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};
use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::run_event::AttemptResult;
use distributest_core::scheduler::INTERRUPTION_LIMIT;
use distributest_core::scheduler_messages::Event;

use super::{Effect, EndedAttempt, Failure, Host, LiveAttempt, Model, Role, Runner};

impl Model {
    pub(crate) fn observe_event(&mut self, event: &Event) -> Effect {
        if self.finished {
            return Effect::Nothing;
        }
        let ended = match event {
            Event::HostExpected { host, runners, queue, memory } => {
                self.expect_host(*host, *runners, *queue, *memory)
            }
            Event::HostLost { host, .. } => self.lose_host(*host),
            Event::HostAway { host, .. } => self.send_away(*host),
            Event::HostSilent { host } => self.silence(*host),
            Event::HostHeard { host } => self.silent.remove(host).then(Vec::new),
            Event::TimePassed => Some(Vec::new()),
            Event::RunnerReady { runner } => {
                self.first_ready.get_or_insert(self.now);
                self.greet_runner(*runner)
            }
            Event::WorkerReady { launch, versions } => self.hear_versions(*launch, versions.as_deref()),
            Event::RunnerLost { runner, .. } => self.lose_runner(*runner, Interruption::RunnerLost),
            Event::LaunchUnavailable { runner, launch, .. } => self.exclude(*runner, *launch),
            Event::AttemptStarted { attempt } => self.start_attempt(*attempt),
            Event::AttemptFinished { attempt, outcome, out_of_memory, .. } => {
                self.end_attempt(*attempt, AttemptResult::Outcome(*outcome), *out_of_memory)
            }
            Event::AttemptInterrupted { attempt, interruption, .. } => {
                self.end_attempt(*attempt, AttemptResult::Interrupted(*interruption), false)
            }
            Event::StopRequested => (!std::mem::replace(&mut self.stopping, true)).then(Vec::new),
        };
        ended.map_or(Effect::Nothing, |ended| Effect::Changed { ended })
    }

    fn expect_host(
        &mut self,
        host: HostId,
        runners: u16,
        queue: u16,
        memory: Option<u64>,
    ) -> Option<Vec<AttemptId>> {
        self.hosts.get(host.0 as usize).filter(|host| **host == Host::Awaited)?;
        self.queues.insert(host, queue);
        self.memory.remove(&host);
        self.memory.extend(memory.map(|memory| (host, memory)));
        if runners == 0 {
            self.forget(host);
        } else {
            self.hosts[host.0 as usize] = Host::Present(vec![Runner::Awaited; usize::from(runners)]);
        }
        Some(Vec::new())
    }

    fn lose_host(&mut self, host: HostId) -> Option<Vec<AttemptId>> {
        self.hosts.get(host.0 as usize).filter(|host| **host != Host::Lost)?;
        let runners = self.runners(|runner| runner != Runner::Lost);
        let its = runners.into_iter().filter(|runner| runner.host == host);
        let ended =
            its.filter_map(|runner| self.lose_runner(runner, Interruption::HostLost)).flatten().collect();
        self.forget(host);
        Some(ended)
    }

    fn forget(&mut self, host: HostId) {
        self.hosts[host.0 as usize] = Host::Lost;
        self.silent.remove(&host);
    }

    fn send_away(&mut self, host: HostId) -> Option<Vec<AttemptId>> {
        let state = self.hosts.get(host.0 as usize)?;
        if !matches!(state, Host::Present(_)) {
            return None;
        }
        // A test may bring its host down before anybody hears that it started.
        self.attempts
            .values_mut()
            .filter(|live| live.runner.host == host && !live.queued)
            .for_each(|live| live.started = true);
        let ended = self.lose_host(host)?;
        self.hosts[host.0 as usize] = Host::Awaited;
        self.unable.retain(|(runner, _)| runner.host != host);
        *self.absences.entry(host).or_default() += 1;
        Some(ended)
    }

    fn silence(&mut self, host: HostId) -> Option<Vec<AttemptId>> {
        self.hosts.get(host.0 as usize).filter(|host| **host != Host::Lost)?;
        if self.silent.contains(&host) {
            return None;
        }
        let before = self.waiting();
        self.silent.insert(host);
        for file in self.waiting() {
            // A file that only waited for a cancelled attempt there to be over was failed by another host, not lost by this one.
            let is_lost = self.attempts.values().any(|live| live.runner.host == host && live.is_for(file));
            if is_lost && !before.contains(&file) {
                let file = &mut self.files[file.0 as usize];
                file.doubts += 1;
                file.last_lost_by = Some(host);
            }
        }
        Some(Vec::new())
    }

    fn hear_versions(&mut self, launch: LaunchId, versions: Option<&str>) -> Option<Vec<AttemptId>> {
        if self.versions.contains_key(&launch) {
            return None;
        }
        self.versions.insert(launch, versions.map(str::to_owned));
        let of_launch = |file: &FileId| self.files[file.0 as usize].launch == launch;
        self.candidates.iter().any(of_launch).then(Vec::new)
    }

    fn greet_runner(&mut self, runner: RunnerId) -> Option<Vec<AttemptId>> {
        self.runner(runner).filter(|state| *state == Runner::Awaited)?;
        self.set_runner(runner, Runner::Idle);
        Some(Vec::new())
    }

    fn lose_runner(&mut self, runner: RunnerId, interruption: Interruption) -> Option<Vec<AttemptId>> {
        self.runner(runner).filter(|state| *state != Runner::Lost)?;
        let its = self.attempts_of(runner);
        for (id, attempt) in &its {
            self.end(*id, *attempt, AttemptResult::Interrupted(interruption), attempt.started, false);
        }
        self.set_runner(runner, Runner::Lost);
        let host = &self.hosts[runner.host.0 as usize];
        if matches!(host, Host::Present(runners) if runners.iter().all(|runner| *runner == Runner::Lost)) {
            self.forget(runner.host);
        }
        Some(its.into_iter().map(|(id, _)| id).collect())
    }

    fn exclude(&mut self, runner: RunnerId, launch: LaunchId) -> Option<Vec<AttemptId>> {
        self.runner(runner).filter(|state| *state != Runner::Lost)?;
        self.files.iter().find(|file| file.launch.0 >= launch.0)?;
        self.unable.insert((runner, launch)).then(Vec::new)
    }

    fn start_attempt(&mut self, attempt: AttemptId) -> Option<Vec<AttemptId>> {
        let attempt = self.attempts.get_mut(&attempt)?;
        attempt.withdrawn = false;
        (!std::mem::replace(&mut attempt.started, true)).then(Vec::new)
    }

    fn end_attempt(
        &mut self,
        id: AttemptId,
        result: AttemptResult,
        out_of_memory: bool,
    ) -> Option<Vec<AttemptId>> {
        let attempt = *self.attempts.get(&id)?;
        let may_be_to_blame = self.is_able(attempt.runner, attempt.file) && attempt.may_have_run();
        self.end(id, attempt, result, may_be_to_blame, out_of_memory);
        match self.attempts_of(attempt.runner).first() {
            Some((next, _)) => self.attempts.get_mut(next).expect("it was found").begun = true,
            None => self.set_runner(attempt.runner, Runner::Idle),
        }
        Some(vec![id])
    }

    fn end(
        &mut self,
        id: AttemptId,
        attempt: LiveAttempt,
        result: AttemptResult,
        counts: bool,
        out_of_memory: bool,
    ) {
        let LiveAttempt { file, runner, role, .. } = attempt;
        let may_have_run = attempt.may_have_run();
        let was_waiting = self.is_waiting(file);
        self.attempts.remove(&id);
        self.ended.insert(id, EndedAttempt { file, runner, result, role });
        if role != Role::Counts {
            return;
        }
        let stands_in = was_waiting || self.attempts.values().any(|live| live.is_for(file));
        let absences = self.absences.get(&runner.host).copied().unwrap_or_default();
        let file = &mut self.files[file.0 as usize];
        match result {
            AttemptResult::Outcome(outcome) => {
                let (finished, failed) = self.records.entry(runner.host).or_default();
                *finished += u32::from(!self.fenced.contains(&runner.host) || outcome.is_success());
                *failed += u32::from(!self.fenced.contains(&runner.host) && !outcome.is_success());
                if !outcome.is_success() {
                    self.failed_last.insert(runner.host, self.now);
                    file.last_lost_by = Some(runner.host);
                    file.pending = Some(Failure { attempt: id, host: runner.host, outcome, out_of_memory });
                }
            }
            AttemptResult::Interrupted(_) => {
                file.counted_interruptions += u8::from(counts);
                if !was_waiting {
                    file.last_lost_by = may_have_run.then_some(runner.host);
                    file.doubts += u32::from(stands_in);
                }
                if !may_have_run {
                    let first = !std::mem::replace(&mut file.was_queued_in_vain, true);
                    assert!(first, "a file waits behind others in vain once at most");
                } else if !counts && !stands_in {
                    let first = file.interrupted_by.insert((runner, absences));
                    assert!(first, "a file is interrupted on a runner at no cost once at most: {runner:?}");
                }
            }
        }
        // Of a failure on a fenced host it is known at once whose it is.
        if self.fenced.contains(&runner.host) && !self.is_ending() {
            self.set_aside_failures_of(runner.host);
        }
    }

    /// The failures of a host that is to blame don't count, where another host may run the file; but no file crashes a
    /// third time.
    pub(super) fn set_aside_failures_of(&mut self, host: HostId) {
        for index in 0..self.files.len() {
            let others_may =
                self.unfenced_hosts_for(self.files[index].launch).iter().any(|other| *other != host);
            let file = &mut self.files[index];
            if let Some(failure) = file.pending.filter(|failure| failure.host == host) {
                let crashed_twice = failure.outcome == Outcome::Crashed && file.crashes() > 0;
                if others_may && !crashed_twice && file.counted_interruptions < INTERRUPTION_LIMIT {
                    file.pending = None;
                    file.set_aside.push(failure);
                }
            }
        }
    }

    /// A failure turns out to be the tests'.
    pub(super) fn count_failure(&mut self, file: FileId) {
        let file = &mut self.files[file.0 as usize];
        let Some(failure) = file.pending.take() else { return };
        file.may_have_second_opinion |= failure.outcome == Outcome::Crashed && file.crashes() == 0;
        file.is_lonely |= failure.out_of_memory && file.crashes() == 0;
        file.failed.push((failure.attempt, failure.outcome));
    }
}

impl LiveAttempt {
    pub(super) fn is_for(&self, file: FileId) -> bool {
        self.file == file && self.role == Role::Counts
    }
}
