//! A runner: prepares itself, then makes one attempt after another until nothing more is wanted or it can't go on.
//!
//! A launch that can't be had here (its framework is missing, its worker does not start) is given up, which the
//! coordinator is told once, and the runner goes on with the others; it fails when none is left. Each runner starts
//! with another launch's worker, so that what is missing on a host comes out before the first file as far as its
//! runners reach; the other workers are started when a file needs them.

use std::sync::Arc;

use distributest_core::outcome::Interruption;
use distributest_process::Variables;
use distributest_protocol::conversions::microseconds;
use distributest_protocol::gathering::Haste;
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use tokio::time::Instant;

use super::attempt::{Attempt, Ended};
use super::command;
use super::context::{Launch, RunContext, Started};
use super::environment::Environment;
use super::hooks::Subject;
use super::lane_queue::LaneReceiver;
use super::worker::{StartFailure, Worker, WorkerLaunch};

/// How often a worker is started that dies before it is ready: once may be bad luck, a second time a busy machine.
const START_LIMIT: usize = 3;

/// Why a runner takes no more work.
enum RunnerFailure {
    /// Its `runner_setup` failed.
    Setup(wire::Failure),
    /// All launches are given up; the coordinator knows why.
    NothingToRun,
}

/// One runner of the run.
struct Lane {
    context: Arc<RunContext>,
    number: u16,
    environment: Environment,
    /// The same, for processes.
    variables: Variables,
    /// How each launch fares here.
    launches: Vec<LaunchState>,
    /// What `runner_setup` left running; ends with the lane.
    left_running: Option<Started>,
}

/// How a launch fares on a runner.
enum LaunchState {
    /// No process of it is there, because none was needed so far or each file has its own.
    Dormant,
    /// Its worker, which may have died.
    Started(Box<Worker>),
    /// It can't be had here.
    GivenUp(wire::Failure),
}

impl LaunchState {
    /// Takes the worker, if there is one, dead or alive.
    fn take_worker(&mut self) -> Option<Box<Worker>> {
        match std::mem::replace(self, LaunchState::Dormant) {
            LaunchState::Started(worker) => Some(worker),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// Lives a runner's life. `node_environment` is what `node_setup` made of the run's.
pub(crate) async fn run(
    context: Arc<RunContext>,
    number: u16,
    node_environment: Arc<Environment>,
    mut attempts: LaneReceiver,
) {
    let ending = context.ending.clone();
    let prepared =
        ending.run_until_cancelled(Lane::prepare(context.clone(), number, &node_environment)).await;
    let ended = match prepared {
        None => Ok(()),
        Some(Err(failure)) => Err(failure),
        Some(Ok(mut lane)) => lane.work(&mut attempts).await,
    };
    if let Err(failure) = ended {
        let (failure, cause) = match failure {
            RunnerFailure::Setup(failure) => (Some(failure.clone()), failure.to_string()),
            RunnerFailure::NothingToRun => (None, "the runner can run nothing".to_owned()),
        };
        let failed = wire::RunnerFailed { runner: number.into(), failure };
        context.updates.send(Kind::RunnerFailed(failed)).await;
        // Orders that crossed the message on their way.
        attempts.close();
        while let Some(attempt) = attempts.next().await {
            let ended = Ended::interrupted(Interruption::RunnerLost, cause.clone());
            context.updates.send(ended.into_update(attempt.number)).await;
        }
    }
}

impl Lane {
    /// Runs `runner_setup`, starts the first worker and reports for duty.
    async fn prepare(
        context: Arc<RunContext>,
        number: u16,
        node_environment: &Environment,
    ) -> Result<Lane, RunnerFailure> {
        let (mut environment, identifier) =
            node_environment.for_runner(&context.hello, context.identifiers.number_of(number));
        let mut left_running = None;
        if let Some(hook) = &context.runner_setup {
            let subject = Subject::Runner { number, identifier: &identifier };
            let prepared = hook.run(&context, subject, &environment).await.map_err(RunnerFailure::Setup)?;
            environment.extend(&prepared.given);
            left_running = prepared.left_running;
        }
        let launches: Vec<_> = context.launches.iter().map(|_| LaunchState::Dormant).collect();
        let first = usize::from(number - 1).checked_rem(launches.len());
        let variables = environment.variables();
        let mut lane = Lane { context, number, environment, variables, launches, left_running };
        if let Some(first) = first
            && let Err(failure) = lane.ensure_worker(first).await
        {
            lane.give_up(first, failure).await?;
        }
        let ready = wire::RunnerReady { runner: number.into(), identifier };
        lane.context.updates.send(Kind::RunnerReady(ready)).await;
        Ok(lane)
    }

    /// Makes attempts until no more can come.
    async fn work(&mut self, attempts: &mut LaneReceiver) -> Result<(), RunnerFailure> {
        let ending = self.context.ending.clone();
        while let Some(Some(attempt)) = ending.run_until_cancelled(attempts.next()).await {
            self.make(&attempt, attempts).await?;
            // The next one is loaded while the coordinator looks for the next file.
            match ending.run_until_cancelled(self.ensure_worker(attempt.launch)).await {
                Some(Ok(())) => {}
                Some(Err(failure)) => self.give_up(attempt.launch, failure).await?,
                None => break,
            }
        }
        for launch in 0..self.launches.len() {
            self.leave_worker(launch).await;
        }
        Ok(())
    }

    /// Makes one attempt, from its slot to its last byte of output.
    async fn make(&mut self, attempt: &Attempt, others: &LaneReceiver) -> Result<(), RunnerFailure> {
        let context = self.context.clone();
        let claimed = attempt.cancelled.run_until_cancelled(context.slots.claim(attempt.number)).await;
        let Some(slot) = claimed else {
            let ended = Ended::cancelled().into_update(attempt.number);
            context.updates.send(ended).await;
            return Ok(());
        };
        let (ended, failure) = match &context.launches[attempt.launch] {
            launch if launch.runs_files() && context.is_gone(&attempt.file) => (context.file_gone(), None),
            Launch::Command(launch) => {
                command::run(&context, &self.variables, launch, attempt, others.haste_of_start()).await
            }
            Launch::Worker(_) => self.run_on_worker(attempt, others.haste_of_start()).await,
        };
        if !others.is_empty() {
            context.slots.keep(slot);
        }
        // The attempt's end makes the runner idle, so what it can't run is to be known before.
        let given_up = match failure {
            Some(failure) => self.give_up(attempt.launch, failure).await,
            None => Ok(()),
        };
        context.updates.send_in(others.haste(), ended.into_update(attempt.number)).await;
        given_up
    }

    /// Runs a file on its launch's worker. The failure, if any, is why there is none.
    async fn run_on_worker(&mut self, attempt: &Attempt, haste: Haste) -> (Ended, Option<wire::Failure>) {
        self.context.warmth.note_test_file(&attempt.file);
        let is_used = |state: &LaunchState| matches!(state, LaunchState::Started(worker) if worker.has_run());
        if attempt.fresh_worker && is_used(&self.launches[attempt.launch]) {
            self.retire_worker(attempt.launch).await;
        }
        let ready = attempt.cancelled.run_until_cancelled(self.ensure_worker(attempt.launch)).await;
        match ready {
            None => return (Ended::cancelled(), None),
            Some(Err(failure)) => {
                return (Ended::interrupted(Interruption::RunnerLost, failure.to_string()), Some(failure));
            }
            Some(Ok(())) => {}
        }
        let worker = self.launches[attempt.launch].take_worker().expect("it was made sure of just now");
        let (ended, worker) = worker.run(&self.context, attempt, haste).await;
        if let Some(worker) = worker {
            self.launches[attempt.launch] = LaunchState::Started(Box::new(worker));
        }
        (ended, None)
    }

    /// Starts a launch's worker unless it has a living one or needs none. A failure means that there will never be one.
    async fn ensure_worker(&mut self, launch: usize) -> Result<(), wire::Failure> {
        let context = self.context.clone();
        match &self.launches[launch] {
            LaunchState::Started(worker) if worker.is_alive() => return Ok(()),
            LaunchState::GivenUp(failure) => return Err(failure.clone()),
            LaunchState::Started(_) | LaunchState::Dormant => {}
        }
        let Launch::Worker(worker_launch) = &context.launches[launch] else { return Ok(()) };
        self.retire_worker(launch).await;
        if let Some(worker) = self.take_kept_worker(worker_launch).await {
            self.launches[launch] = LaunchState::Started(Box::new(worker));
            return Ok(());
        }
        let mut deaths = 0;
        loop {
            match self.start_worker(worker_launch).await {
                Ok(worker) => {
                    self.launches[launch] = LaunchState::Started(Box::new(worker));
                    return Ok(());
                }
                Err(StartFailure::Died(mut failure)) => {
                    deaths += 1;
                    if deaths == START_LIMIT {
                        failure.cause.push_str(&format!(", {START_LIMIT} times in a row"));
                        return Err(failure);
                    }
                }
                Err(StartFailure::Final(failure)) => return Err(failure),
            }
        }
    }

    /// Starts a worker and tells the coordinator how that went.
    async fn start_worker(&self, launch: &WorkerLaunch) -> Result<Worker, StartFailure> {
        let begin = Instant::now();
        let (worker, block) = Worker::start(&self.context, &self.environment, launch).await;
        let versions = worker.as_ref().map(|worker| worker.versions().clone()).unwrap_or_default();
        let prepared = wire::WorkerPrepared {
            runner: self.number.into(),
            framework: launch.framework.clone(),
            failure: worker.as_ref().err().map(|error| error.failure().clone()),
            duration_microseconds: microseconds(begin.elapsed()),
            block: Some(block.unwrap_or_default()),
            saved_microseconds: 0,
            version: versions.framework,
            runtime: versions.runtime,
        };
        self.context.updates.send(Kind::WorkerPrepared(prepared)).await;
        worker
    }

    /// Takes over a worker from an earlier run, if there is one that is as good as new, and tells the coordinator.
    async fn take_kept_worker(&self, launch: &WorkerLaunch) -> Option<Worker> {
        let begin = Instant::now();
        let context = &self.context;
        let wanted = launch.wanted(context.workspace.directory(), &self.environment);
        let mut worker = context.warmth.take(wanted.as_ref()).await?;
        if let Err(reason) = worker.join_run(context, wanted?).await {
            tracing::info!(reason, "a kept worker is not used");
            worker.discard().await;
            return None;
        }
        let prepared = wire::WorkerPrepared {
            runner: self.number.into(),
            framework: launch.framework.clone(),
            failure: None,
            duration_microseconds: microseconds(begin.elapsed()),
            block: Some(worker.close_block().await),
            saved_microseconds: microseconds(worker.start_took()).max(1),
            version: worker.versions().framework.clone(),
            runtime: worker.versions().runtime.clone(),
        };
        context.updates.send(Kind::WorkerPrepared(prepared)).await;
        Some(worker)
    }

    /// Takes a launch to be impossible on this runner, and tells the coordinator unless it knows.
    async fn give_up(&mut self, launch: usize, failure: wire::Failure) -> Result<(), RunnerFailure> {
        let before = std::mem::replace(&mut self.launches[launch], LaunchState::GivenUp(failure.clone()));
        if !matches!(before, LaunchState::GivenUp(_)) {
            let unavailable = wire::LaunchUnavailable {
                runner: self.number.into(),
                // An index into what came as a list in a message.
                launch: launch as u32,
                failure: Some(failure),
            };
            self.context.updates.send(Kind::LaunchUnavailable(unavailable)).await;
        }
        if self.launches.iter().all(|state| matches!(state, LaunchState::GivenUp(_))) {
            return Err(RunnerFailure::NothingToRun);
        }
        Ok(())
    }

    /// Parts with a launch's worker, if it has one, dead or alive.
    async fn retire_worker(&mut self, launch: usize) {
        let Some(worker) = self.launches[launch].take_worker() else { return };
        let (block, failure) = worker.retire().await;
        self.tell_last_words(launch, block, failure).await;
    }

    /// Leaves a launch's worker to the next run, or parts with it. What the hook left running ends with this run, and who
    /// has found it may miss it.
    async fn leave_worker(&mut self, launch: usize) {
        let Some(worker) = self.launches[launch].take_worker() else { return };
        let left = match &self.left_running {
            None => self.context.warmth.leave(worker).await,
            Some(_) => Err(worker),
        };
        let (block, failure) = match left {
            Ok(last_words) => last_words,
            Err(worker) => worker.retire().await,
        };
        self.tell_last_words(launch, block, failure).await;
    }

    /// Tells the coordinator what a worker still wrote, and what failed as it ended, if anything.
    async fn tell_last_words(&self, launch: usize, block: wire::OutputBlock, failure: Option<String>) {
        let Launch::Worker(worker_launch) = &self.context.launches[launch] else { return };
        if block.bytes == 0 && failure.is_none() {
            return;
        }
        let (runner, framework) = (self.number.into(), worker_launch.framework.clone());
        let failure = failure.unwrap_or_default();
        let left = wire::WorkerEnded { runner, framework, block: Some(block), failure };
        self.context.updates.send(Kind::WorkerEnded(left)).await;
    }
}
