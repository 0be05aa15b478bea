//! Drives a run: one loop that turns what hosts, signals and the clock do into events for the scheduler, carries out
//! its commands, and tells the reporters.
//!
//! It decides nothing about files. What it does decide is about its own process: the first Ctrl-C asks the scheduler to
//! stop, a second one or `STOP_TIMEOUT` later ends the loop as it is.

mod news;
mod split_files;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::ledger::{EXIT_NOT_RUN, EXIT_PASSED};
use distributest_core::outcome::{Interruption, NotRunReason, Verdict};
use distributest_core::run_event::{AttemptResult, HostChange, RunEvent, RunSummary};
use distributest_core::scheduler::{Scheduler, SchedulerOptions};
use distributest_core::scheduler_messages::{Command, Event};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::split_files::SplitFiles;
use crate::event_sinks::EventSinks;
use crate::hosts::messages::{HostFailure, HostOrder, Order, OutputPiece};
use crate::hosts::{HostSpec, Outlets, RunSpec, participate};
use crate::news_channel::{NewsReceiver, news_channel};
use crate::output_blocks::OutputBlocks;
use crate::plan::RunPlan;
use crate::signals::Signals;

/// How long hosts may take to end their attempts after a request to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long hosts that are heard may take to end the run after the last verdict: a minute is for workers that take down
/// what they have set up for all files.
const END_TIMEOUT: Duration = Duration::from_secs(70);

/// How long a finished run waits for required hosts that have not answered yet: what reaching one may take at most.
const REQUIRED_HOST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long output that much waits for may stay away entirely.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(10);

/// How often the live view moves.
const TICK: Duration = Duration::from_millis(250);

/// Pieces of output, at most 64 KiB each, that may wait for the driver.
const OUTPUT_IN_FLIGHT: usize = 32;

/// What drives a run besides its plan.
pub struct DriverOptions {
    /// The hosts, in the order of their ids.
    pub hosts: Vec<HostSpec>,
    /// What they are told.
    pub run: Arc<RunSpec>,
    /// The longest a file may take.
    pub timeout: Option<Duration>,
    /// How many failing files end the run; `None`: it always goes on.
    pub fail_fast: Option<NonZeroU32>,
    /// Whether a host that takes no part ends the run.
    pub require_hosts: bool,
}

/// Runs the plan and returns what came of it. `RunEvent::RunFinished` has been emitted.
pub async fn drive(
    plan: &RunPlan,
    options: DriverOptions,
    sinks: &mut EventSinks,
    signals: &mut Signals,
) -> RunSummary {
    let (news_sender, mut news) = news_channel();
    let (output_sender, mut output) = mpsc::channel(OUTPUT_IN_FLIGHT);
    let outlets = Outlets { news: news_sender, output: output_sender };
    let mut driver = Driver::new(plan, options, sinks);
    driver.begin(&outlets);
    drop(outlets);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut output_expected = None;
    while !driver.is_over() {
        let deadline = driver.deadline;
        // More news would only wait for the output, too, and that has a way of its own.
        let overdue = driver
            .blocks
            .is_full()
            .then(|| *output_expected.get_or_insert_with(|| Instant::now() + OUTPUT_PATIENCE));
        let due = driver.time_to_next_step();
        tokio::select! {
            biased;
            () = signals.next() => driver.signal(),
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                driver.catch_up(&mut news, &mut output);
                if driver.deadline == deadline {
                    break;
                }
            }
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => driver.step(Event::TimePassed),
            _ = ticks.tick() => driver.sinks.tick(),
            () = tokio::time::sleep_until(overdue.unwrap_or_else(Instant::now)), if overdue.is_some() => {
                driver.do_without_output();
            }
            Some(host_news) = news.recv(), if overdue.is_none() => driver.news(host_news, &mut output),
            Some(piece) = output.recv() => {
                output_expected = None;
                driver.output(piece);
            }
        }
    }
    driver.end()
}

/// A live attempt.
struct LiveAttempt {
    file: FileId,
    runner: RunnerId,
    started: Duration,
    /// The agent's number of its output block, once it started.
    block: Option<u64>,
    /// It was given to a busy runner.
    queued: bool,
}

impl LiveAttempt {
    /// Whether nobody needs to know how it ended: it waited behind others, and nothing came of that.
    fn is_secret(&self, result: AttemptResult) -> bool {
        self.queued
            && self.block.is_none()
            && matches!(result, AttemptResult::Interrupted(why) if why != Interruption::FileGone)
    }
}

struct HostState {
    orders: mpsc::UnboundedSender<HostOrder>,
    /// How many of its sessions were lost.
    session: u32,
    connected: bool,
    /// It was connected at some time.
    took_part: bool,
    /// Runners it was asked to start.
    runners: u16,
    silent: bool,
    /// Nothing was heard from it for a while after the last verdict.
    quiet: bool,
    ended: bool,
}

impl HostState {
    /// Neither its agent nor the reason why there is none was heard of so far.
    fn is_awaited(&self) -> bool {
        !self.took_part && !self.ended
    }

    /// Its connection was lost, and another one is not there yet.
    fn is_away(&self) -> bool {
        self.took_part && !self.connected
    }
}

struct Driver<'run> {
    plan: &'run RunPlan,
    options: DriverOptions,
    sinks: &'run mut EventSinks,
    scheduler: Scheduler,
    blocks: OutputBlocks,
    split_files: SplitFiles,
    attempts: HashMap<AttemptId, LiveAttempt>,
    /// Attempts whose end waits for their output, and their files.
    untold: HashMap<AttemptId, FileId>,
    /// The verdicts on those files.
    early_verdicts: Vec<RunEvent>,
    decided: Vec<bool>,
    hosts: Vec<HostState>,
    /// Dropping it ends every host's part.
    tasks: JoinSet<()>,
    stopping: bool,
    finished: bool,
    aborted: bool,
    /// A host that has to take part did not.
    required_host_missing: bool,
    deadline: Option<Instant>,
}

impl<'run> Driver<'run> {
    fn new(plan: &'run RunPlan, options: DriverOptions, sinks: &'run mut EventSinks) -> Driver<'run> {
        let file_launches = plan.files.iter().map(|file| file.launch).collect();
        let host_count = u32::try_from(options.hosts.len()).unwrap_or(u32::MAX);
        let scheduler_options = SchedulerOptions {
            file_launches,
            retries: plan.files.iter().map(|file| file.retries).collect(),
            predicted: plan.files.iter().map(|file| file.predicted).collect(),
            host_speeds: options.hosts.iter().map(|host| plan.speeds.of(&host.name)).collect(),
            memory: plan.files.iter().map(|file| file.memory).collect(),
            fail_fast: options.fail_fast,
            host_count,
        };
        Driver {
            plan,
            options,
            sinks,
            scheduler: Scheduler::new(scheduler_options).with_passes(plan.passed_with()),
            blocks: OutputBlocks::default(),
            split_files: SplitFiles::default(),
            attempts: HashMap::new(),
            untold: HashMap::new(),
            early_verdicts: Vec::new(),
            decided: vec![false; plan.files.len() + plan.unusable.len()],
            hosts: Vec::new(),
            tasks: JoinSet::new(),
            stopping: false,
            finished: false,
            aborted: false,
            required_host_missing: false,
            deadline: None,
        }
    }

    fn begin(&mut self, outlets: &Outlets) {
        self.sinks.emit(&self.plan.started_event(&self.options.hosts));
        for index in 0..self.plan.unusable.len() {
            let file = FileId(u32::try_from(self.plan.files.len() + index).unwrap_or(u32::MAX));
            self.decide(file, Verdict::NotRun(NotRunReason::UnusableName), None);
        }
        for host in self.options.hosts.clone() {
            let (sender, orders) = mpsc::unbounded_channel();
            self.hosts.push(HostState {
                orders: sender,
                session: 0,
                connected: false,
                took_part: false,
                runners: 0,
                silent: false,
                quiet: false,
                ended: false,
            });
            self.tasks.spawn(participate(host, Arc::clone(&self.options.run), orders, outlets.clone()));
        }
        let mut commands = Vec::new();
        self.scheduler.start(&mut commands);
        let events = self.carry_out(commands);
        self.emit(events);
    }

    /// Over when every file is decided, every host that took part has ended its part, and all it wrote is here.
    /// Hosts that are silent or away are not waited for, nor quiet ones once all output of attempts is here, and those that
    /// are still being reached for the first time only if they have to take part.
    fn is_over(&self) -> bool {
        let waits_for_all = self.options.require_hosts && !self.stopping;
        let host_is_over = |host: &HostState| {
            let is_gone = host.ended || host.silent || host.is_away();
            is_gone || (host.quiet && self.untold.is_empty()) || (host.is_awaited() && !waits_for_all)
        };
        self.aborted || (self.finished && self.hosts.iter().all(host_is_over))
    }

    fn end(mut self) -> RunSummary {
        for host in 0..self.hosts.len() {
            let late = self.blocks.output_ended(HostId(u32::try_from(host).unwrap_or(u32::MAX)), u64::MAX);
            self.emit(late);
        }
        // Only after a second Ctrl-C or a host that did not end in time.
        self.interrupt_attempts(None, Interruption::Cancelled, "the run ended before it did");
        for index in 0..self.decided.len() {
            let file = FileId(u32::try_from(index).unwrap_or(u32::MAX));
            self.decide(file, Verdict::NotRun(NotRunReason::Stopped), None);
        }
        self.give_up_awaited_hosts();
        let mut summary = self.sinks.summary();
        if self.required_host_missing && summary.exit_status == EXIT_PASSED {
            summary.exit_status = EXIT_NOT_RUN;
        }
        self.sinks.emit(&RunEvent::RunFinished(summary.clone()));
        summary
    }

    /// Says of each host that never answered why it took no part.
    fn give_up_awaited_hosts(&mut self) {
        for index in 0..self.hosts.len() {
            if self.hosts[index].is_awaited() && !self.stopping {
                let host = HostId(u32::try_from(index).unwrap_or(u32::MAX));
                let reason = "it was still being connected to when the last file was done".to_owned();
                self.sinks.emit(&RunEvent::HostFailed { host, reason, hint: None });
                if self.options.require_hosts {
                    self.miss_required_host(host);
                }
            }
        }
    }

    /// A run without a host that has to take part is no success, and need not go on.
    fn miss_required_host(&mut self, host: HostId) {
        self.required_host_missing = true;
        if self.stopping {
            return;
        }
        let name = &self.options.hosts[host.0 as usize].name;
        let stopping = if self.finished { "" } else { "stopping: " };
        let message = format!("{stopping}{name} takes no part and require_hosts is set");
        self.sinks.emit(&RunEvent::Warning { message });
        if !self.finished {
            self.stop();
        }
    }

    fn signal(&mut self) {
        if self.stopping {
            self.aborted = true;
            return;
        }
        self.sinks.emit(&RunEvent::StopRequested);
        self.stop();
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.deadline = Some(Instant::now() + STOP_TIMEOUT);
        self.step(Event::StopRequested);
    }

    /// Takes what is here already: it came in time, and only the log's disk kept it waiting.
    fn catch_up(&mut self, news: &mut NewsReceiver, output: &mut mpsc::Receiver<OutputPiece>) {
        for _ in 0..news.waiting() {
            if let Some(host_news) = news.try_recv() {
                self.news(host_news, output);
            }
        }
        for _ in 0..output.len() {
            if let Ok(piece) = output.try_recv() {
                self.output(piece);
            }
        }
    }

    /// Tells events in their order, but a verdict only once the ends of all attempts at its file are told: those may have
    /// run on several hosts, and the output of each has a way of its own.
    fn emit(&mut self, events: Vec<RunEvent>) {
        for event in events {
            if self.is_early(&event) {
                self.early_verdicts.push(event);
                continue;
            }
            self.sinks.emit(&event);
            if let RunEvent::AttemptFinished(report) = &event
                && self.untold.remove(&report.attempt).is_some()
            {
                let verdicts = std::mem::take(&mut self.early_verdicts);
                self.emit(verdicts);
            }
        }
    }

    fn is_early(&self, event: &RunEvent) -> bool {
        let RunEvent::FileVerdict { file, .. } = event else { return false };
        self.untold.values().any(|untold| untold == file)
    }

    /// Feeds the scheduler, carries out what it wants and tells what follows.
    fn step(&mut self, event: Event) {
        let events = self.step_quietly(event);
        self.emit(events);
    }

    /// As `step`, but leaves what follows to be told by the caller.
    fn step_quietly(&mut self, event: Event) -> Vec<RunEvent> {
        let mut commands = Vec::new();
        self.scheduler.handle(self.sinks.now(), event, &mut commands);
        self.carry_out(commands)
    }

    /// How long the scheduler would wait before it wants to know that time has passed.
    fn time_to_next_step(&self) -> Option<Duration> {
        Some(self.scheduler.next_deadline()?.saturating_sub(self.sinks.now()))
    }

    fn carry_out(&mut self, commands: Vec<Command>) -> Vec<RunEvent> {
        let mut events = Vec::new();
        for command in commands {
            match command {
                Command::Dispatch { attempt, file, runner, fresh, queued } => {
                    let started = self.sinks.now();
                    self.attempts.insert(attempt, LiveAttempt { file, runner, started, block: None, queued });
                    self.dispatch(attempt, file, runner, fresh);
                }
                Command::Cancel { attempt } => self.order_about(attempt, Order::Cancel),
                Command::Withdraw { attempt } => self.order_about(attempt, Order::Withdraw),
                Command::Decide { file, verdict, attempt, failed_before } => {
                    self.decided[file.0 as usize] = true;
                    events.push(RunEvent::FileVerdict { file, verdict, attempt, failed_before });
                }
                Command::Reuse { file, pass } => events.extend(self.reuse(file, pass).into_iter().flatten()),
                Command::Double { attempt } => {
                    let live = self.attempts.get(&attempt);
                    let doubled = |live: &LiveAttempt| RunEvent::AttemptDoubled {
                        attempt,
                        file: live.file,
                        runner: live.runner,
                    };
                    events.extend(live.map(doubled));
                }
                Command::Fence { host, failures } => {
                    events.push(RunEvent::HostChanged { host, change: HostChange::Fenced { failures } });
                }
                Command::Readmit { host } => {
                    events.push(RunEvent::HostChanged { host, change: HostChange::Readmitted });
                }
                Command::Reserve { host, file } => {
                    let file = self.plan.files[file.0 as usize].path.clone();
                    events.push(RunEvent::HostChanged { host, change: HostChange::Reserved { file } });
                }
                Command::Release { host } => {
                    events.push(RunEvent::HostChanged { host, change: HostChange::Released });
                }
                Command::Finish => self.finish(),
            }
        }
        events
    }

    /// A file is not run: an earlier pass stands for it.
    fn reuse(&mut self, file: FileId, pass: usize) -> Option<[RunEvent; 2]> {
        let pass = self.plan.passes.get(file.0 as usize)?.get(pass)?.pass.clone();
        self.decided[file.0 as usize] = true;
        let (verdict, attempt, failed_before) = (Verdict::Cached, None, Vec::new());
        let verdict = RunEvent::FileVerdict { file, verdict, attempt, failed_before };
        Some([RunEvent::FileCached { file, pass }, verdict])
    }

    fn finish(&mut self) {
        self.finished = true;
        let waits_for_all = self.options.require_hosts && self.hosts.iter().any(HostState::is_awaited);
        let patience = if waits_for_all { REQUIRED_HOST_TIMEOUT } else { END_TIMEOUT };
        self.deadline = Some(Instant::now() + patience);
        for index in 0..self.hosts.len() {
            self.order(HostId(u32::try_from(index).unwrap_or(u32::MAX)), Order::EndRun);
        }
    }

    fn decide(&mut self, file: FileId, verdict: Verdict, attempt: Option<AttemptId>) {
        let decided = &mut self.decided[file.0 as usize];
        if !std::mem::replace(decided, true) {
            let failed_before = Vec::new();
            self.sinks.emit(&RunEvent::FileVerdict { file, verdict, attempt, failed_before });
        }
    }

    fn dispatch(&mut self, attempt: AttemptId, file: FileId, runner: RunnerId, fresh: bool) {
        let planned = &self.plan.files[file.0 as usize];
        let speed = self.plan.speeds.of(&self.options.hosts[runner.host.0 as usize].name);
        let order = Order::Dispatch {
            attempt,
            runner: runner.number,
            launch: planned.launch.0.into(),
            file: planned.path.clone(),
            tests: planned.tests.clone(),
            part: planned.part.clone(),
            fresh,
            timeout: self.options.timeout,
            expected: planned.predicted.map(|predicted| predicted.div_f64(speed)),
        };
        self.order(runner.host, order);
    }

    fn order_about(&self, attempt: AttemptId, order: impl Fn(AttemptId) -> Order) {
        if let Some(live) = self.attempts.get(&attempt) {
            self.order(live.runner.host, order(attempt));
        }
    }

    fn order(&self, host: HostId, order: Order) {
        // A host that has ended does not take orders any more; its end is on its way to the scheduler as news.
        let host = &self.hosts[host.0 as usize];
        let _ = host.orders.send(HostOrder { session: host.session, order });
    }
}

fn told(failure: HostFailure) -> String {
    match failure.hint {
        Some(hint) => format!("{} ({hint})", failure.reason),
        None => failure.reason,
    }
}
