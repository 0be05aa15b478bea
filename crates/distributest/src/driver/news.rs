//! What the driver makes of the news and the output of hosts.

use std::time::Duration;

use distributest_core::identity::{AttemptId, HostId, LaunchId, RunnerId};
use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::run_event::{AttemptReport, AttemptResult, BlockId, HostChange, RunEvent};
use distributest_core::scheduler_messages::Event;
use distributest_core::usage::Usage;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Driver, LiveAttempt, STOP_TIMEOUT, told};
use crate::hosts::messages::{AgentBlock, FinishedAttempt, HostFailure, HostNews, News, OutputPiece};
use crate::output_blocks::Lane;

impl Driver<'_> {
    pub(super) fn output(&mut self, piece: OutputPiece) {
        let block = BlockId { host: piece.host, number: piece.block };
        let count = piece.bytes.len() as u64;
        self.sinks.emit(&RunEvent::Output { block, stream: piece.stream, bytes: piece.bytes });
        let events = self.blocks.received(block, count);
        self.emit(events);
        // What is still coming after the last verdict comes as fast as the link lets it.
        if self.finished && !self.stopping {
            self.deadline = self.deadline.max(Some(Instant::now() + STOP_TIMEOUT));
        }
    }

    /// Tells what waits for output that does not come: its host is gone, or counts wrongly.
    pub(super) fn do_without_output(&mut self) {
        let message = "output that was announced did not come; the log may lack some".to_owned();
        self.sinks.emit(&RunEvent::Warning { message });
        let events = self.blocks.release_all();
        self.emit(events);
    }

    pub(super) fn news(
        &mut self,
        HostNews { host, news }: HostNews,
        output: &mut mpsc::Receiver<OutputPiece>,
    ) {
        if !self.is_plausible(host, &news) {
            return;
        }
        match news {
            News::Progress(activity) => self.sinks.emit(&RunEvent::HostProgress { host, activity }),
            News::Connected { agent, cores, runners, queue, memory } => {
                let state = &mut self.hosts[host.0 as usize];
                (state.connected, state.took_part, state.runners) = (true, true, runners);
                self.sinks.emit(&RunEvent::HostConnected { host, agent, cores, runners });
                self.step(Event::HostExpected { host, runners, queue, memory });
            }
            News::Synced { snapshot, copied } => {
                self.sinks.emit(&RunEvent::HostSynced { host, snapshot, copied });
            }
            News::Silent(silence) => self.host_silent(host, silence),
            News::Heard => self.host_heard(host),
            News::Quiet => self.hosts[host.0 as usize].quiet = true,
            News::Away { failure, next_block } => {
                self.host_output_ended(host, next_block, output);
                self.host_away(host, failure);
            }
            News::HookFinished { runner, hook, failure, skipped, duration, block } => {
                let lane = Lane { host, runner };
                let runner = runner.map(|number| RunnerId { host, number });
                let failure = failure.map(told);
                self.close(lane, block, |block| RunEvent::HookFinished {
                    host,
                    runner,
                    hook,
                    failure,
                    skipped,
                    duration,
                    block,
                });
            }
            News::WorkerPrepared { runner, framework, failure, duration, saved, versions, block } => {
                let runner = RunnerId { host, number: runner };
                let failure = failure.map(told);
                let ready = failure.is_none().then(|| self.worker_ready(&framework, versions.clone()));
                self.close(runner.into(), block, |block| RunEvent::WorkerPrepared {
                    runner,
                    framework,
                    failure,
                    duration,
                    saved,
                    versions,
                    block,
                });
                if let Some(event) = ready.flatten() {
                    self.step(event);
                }
            }
            News::WorkerEnded { runner, framework, failure, block } => {
                let runner = RunnerId { host, number: runner };
                self.close(runner.into(), block, |block| RunEvent::WorkerEnded {
                    runner,
                    framework,
                    failure,
                    block,
                });
            }
            News::RunnerReady { runner, identifier } => {
                let runner = RunnerId { host, number: runner };
                self.emit_in_order(runner, RunEvent::RunnerReady { runner, identifier });
                self.step(Event::RunnerReady { runner });
            }
            News::LaunchUnavailable { runner, launch, failure } => {
                self.launch_unavailable(RunnerId { host, number: runner }, launch, failure);
            }
            News::RunnerFailed { runner, failure } => {
                self.runner_failed(RunnerId { host, number: runner }, failure);
            }
            News::AttemptStarted { attempt, block } => self.attempt_started(attempt, block),
            News::TestFinished(attempt, test) => {
                if let Some(live) = self.attempts.get(&attempt) {
                    let (file, runner) = (live.file, live.runner);
                    self.emit_in_order(runner, RunEvent::TestFinished { attempt, file, test });
                }
            }
            News::AttemptFinished(finished) => self.attempt_finished(host, finished),
            News::Ended(result) => {
                self.host_output_ended(host, u64::MAX, output);
                self.host_ended(host, result);
            }
        }
    }

    /// Whether a host speaks of what is its own: of runners it has and attempts it was given. Anything else is a mistake
    /// there or meant to do harm, and changes nothing.
    fn is_plausible(&self, host: HostId, news: &News) -> bool {
        let runners = self.hosts[host.0 as usize].runners;
        let is_own =
            |attempt: &AttemptId| self.attempts.get(attempt).is_some_and(|live| live.runner.host == host);
        match news {
            News::HookFinished { runner: Some(runner), .. }
            | News::WorkerPrepared { runner, .. }
            | News::WorkerEnded { runner, .. }
            | News::RunnerReady { runner, .. }
            | News::LaunchUnavailable { runner, .. }
            | News::RunnerFailed { runner, .. } => (1..=runners).contains(runner),
            News::AttemptStarted { attempt, .. } | News::TestFinished(attempt, _) => is_own(attempt),
            News::AttemptFinished(finished) => is_own(&finished.attempt),
            _ => true,
        }
    }

    fn close(&mut self, lane: Lane, block: AgentBlock, event: impl FnOnce(BlockId) -> RunEvent) {
        let id = BlockId { host: lane.host, number: block.number };
        let events = self.blocks.close(lane, id, block.bytes, vec![event(id)]);
        self.emit(events);
    }

    /// What the scheduler is told of a worker that is there.
    fn worker_ready(&self, framework: &str, versions: Option<String>) -> Option<Event> {
        let launch = self.plan.launches.iter().position(|launch| launch.framework == framework)?;
        Some(Event::WorkerReady { launch: LaunchId(u16::try_from(launch).ok()?), versions })
    }

    /// Tells what happened on a runner after everything that happened there before.
    fn emit_in_order(&mut self, runner: RunnerId, event: RunEvent) {
        let events = self.blocks.in_lane(runner.into(), vec![event]);
        self.emit(events);
    }

    fn launch_unavailable(&mut self, runner: RunnerId, launch: u32, failure: HostFailure) {
        let known = u16::try_from(launch).ok().filter(|_| (launch as usize) < self.plan.launches.len());
        let Some(index) = known else { return };
        let framework = self.plan.launches[usize::from(index)].framework.clone();
        let HostFailure { reason, hint } = failure.clone();
        self.emit_in_order(runner, RunEvent::LaunchUnavailable { runner, framework, reason, hint });
        self.step(Event::LaunchUnavailable { runner, launch: LaunchId(index), reason: told(failure) });
    }

    fn runner_failed(&mut self, runner: RunnerId, failure: Option<HostFailure>) {
        let reason = failure.map(told);
        self.emit_in_order(runner, RunEvent::RunnerFailed { runner, reason: reason.clone() });
        let reason = reason.unwrap_or_else(|| "it can run none of the frameworks".to_owned());
        self.step(Event::RunnerLost { runner, reason });
    }

    fn attempt_started(&mut self, attempt: AttemptId, block: u64) {
        let now = self.sinks.now();
        let Some(live) = self.attempts.get_mut(&attempt) else { return };
        live.started = now;
        live.block = Some(block);
        let (file, runner) = (live.file, live.runner);
        self.emit_in_order(runner, RunEvent::AttemptStarted { attempt, file, runner });
        self.step(Event::AttemptStarted { attempt });
    }

    fn attempt_finished(&mut self, host: HostId, finished: FinishedAttempt) {
        let out_of_memory = finished.out_of_memory;
        let FinishedAttempt {
            attempt,
            result,
            duration,
            usage,
            message,
            details,
            leaked,
            collected,
            block,
            ..
        } = finished;
        let Some(live) = self.attempts.remove(&attempt) else { return };
        let planned = &self.plan.files[live.file.0 as usize];
        let (result, message) = match self.split_files.objection(planned, result, collected) {
            Some(objection) => (AttemptResult::Outcome(Outcome::Failed), objection),
            None => (result, message),
        };
        let block_id = block.map(|block| BlockId { host, number: block.number });
        let event = match result {
            AttemptResult::Outcome(outcome) => {
                Event::AttemptFinished { attempt, outcome, duration, out_of_memory }
            }
            AttemptResult::Interrupted(interruption) => {
                Event::AttemptInterrupted { attempt, interruption, reason: message.clone() }
            }
        };
        let report = AttemptReport {
            attempt,
            file: live.file,
            runner: live.runner,
            result,
            duration,
            usage,
            message,
            details,
            leaked,
            block: block_id,
        };
        if live.is_secret(result) {
            return self.step(event);
        }
        self.untold.insert(attempt, live.file);
        let consequences = self.step_quietly(event);
        let events = vec![RunEvent::AttemptFinished(report)];
        let events = match (block, block_id) {
            (Some(block), Some(id)) => self.blocks.close(live.runner.into(), id, block.bytes, events),
            _ => self.blocks.in_lane(live.runner.into(), events),
        };
        self.emit(events);
        self.emit(consequences);
    }

    /// Every piece of a connection was sent before the news that it is over: what is in the channel now is all there is
    /// of its blocks, those below a number.
    fn host_output_ended(&mut self, host: HostId, below: u64, output: &mut mpsc::Receiver<OutputPiece>) {
        while let Ok(piece) = output.try_recv() {
            self.output(piece);
        }
        let events = self.blocks.output_ended(host, below);
        self.emit(events);
    }

    fn host_silent(&mut self, host: HostId, silence: Duration) {
        self.hosts[host.0 as usize].silent = true;
        if !self.finished {
            self.sinks.emit(&RunEvent::HostChanged { host, change: HostChange::Silent(silence) });
        }
        self.step(Event::HostSilent { host });
    }

    fn host_heard(&mut self, host: HostId) {
        self.hosts[host.0 as usize].silent = false;
        self.sinks.emit(&RunEvent::HostChanged { host, change: HostChange::Heard });
        self.step(Event::HostHeard { host });
    }

    fn host_away(&mut self, host: HostId, failure: HostFailure) {
        let state = &mut self.hosts[host.0 as usize];
        state.session += 1;
        state.connected = false;
        state.silent = false;
        // That another connection is made is what there is to do about it.
        let reason = failure.reason;
        if !self.finished {
            let change = HostChange::Away(reason.clone());
            self.sinks.emit(&RunEvent::HostChanged { host, change });
        }
        self.interrupt_attempts(Some(host), Interruption::HostLost, &reason);
        self.step(Event::HostAway { host, reason });
    }

    fn host_ended(&mut self, host: HostId, result: Result<(), HostFailure>) {
        self.hosts[host.0 as usize].ended = true;
        let failure = match result {
            Ok(()) if self.finished => return,
            Ok(()) => HostFailure { reason: "its agent ended the run".into(), hint: None },
            Err(failure) => failure,
        };
        if self.finished && self.hosts[host.0 as usize].took_part {
            // Every file has its verdict already: worth knowing, nobody's loss.
            let name = &self.options.hosts[host.0 as usize].name;
            let message = format!("{name}: {}, after the last verdict", failure.reason);
            self.sinks.emit(&RunEvent::Warning { message });
            return;
        }
        let HostFailure { reason, hint } = failure;
        self.sinks.emit(&RunEvent::HostFailed { host, reason: reason.clone(), hint });
        self.interrupt_attempts(Some(host), Interruption::HostLost, &reason);
        self.step(Event::HostLost { host, reason });
        if self.options.require_hosts {
            self.miss_required_host(host);
        }
    }

    /// Tells the reporters what became of the attempts on a lost host, or on all; the scheduler knows by itself.
    pub(super) fn interrupt_attempts(
        &mut self,
        of: Option<HostId>,
        interruption: Interruption,
        reason: &str,
    ) {
        let is_meant = |live: &LiveAttempt| of.is_none_or(|host| live.runner.host == host);
        let interrupted =
            self.attempts.iter().filter(|(_, live)| is_meant(live)).map(|(attempt, _)| *attempt);
        let mut interrupted: Vec<AttemptId> = interrupted.collect();
        interrupted.sort();
        for attempt in interrupted {
            let Some(live) = self.attempts.remove(&attempt) else { continue };
            if live.is_secret(AttemptResult::Interrupted(interruption)) {
                continue;
            }
            let report = AttemptReport {
                attempt,
                file: live.file,
                runner: live.runner,
                result: AttemptResult::Interrupted(interruption),
                duration: self.sinks.now().saturating_sub(live.started),
                usage: Usage::default(),
                message: reason.to_owned(),
                details: String::new(),
                leaked: Vec::new(),
                block: live.block.map(|number| BlockId { host: live.runner.host, number }),
            };
            self.sinks.emit(&RunEvent::AttemptFinished(report));
        }
    }
}
