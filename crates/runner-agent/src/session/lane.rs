//! A runner: prepares itself, then makes one attempt after another until nothing more is wanted or it can't go on.

use std::sync::Arc;

use distributest_core::outcome::Interruption;
use distributest_protocol::conversions::microseconds;
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::attempt::{Attempt, Ended};
use super::command;
use super::context::{Launch, RunContext, Started};
use super::environment::Environment;
use super::hooks::Subject;
use super::worker::Worker;

/// Why a runner takes no more work.
type RunnerFailure = wire::Failure;

/// One runner of the run.
struct Lane {
    context: Arc<RunContext>,
    number: u16,
    environment: Environment,
    /// The living worker of each launch.
    workers: Vec<Option<Worker>>,
    /// What `runner_setup` left running; ends with the lane.
    _left_running: Option<Started>,
}

/// Lives a runner's life. `node_environment` is what `node_setup` made of the run's.
pub(crate) async fn run(
    context: Arc<RunContext>,
    number: u16,
    node_environment: Arc<Environment>,
    mut attempts: mpsc::Receiver<Attempt>,
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
        let runner = u32::from(number);
        let cause = failure.to_string();
        let failed = wire::RunnerFailed { runner, failure: Some(failure) };
        context.updates.send(Kind::RunnerFailed(failed)).await;
        // Orders that crossed the message on their way.
        attempts.close();
        while let Some(attempt) = attempts.recv().await {
            let ended = Ended::interrupted(Interruption::RunnerLost, cause.clone());
            context.updates.send(ended.into_update(attempt.number)).await;
        }
    }
}

impl Lane {
    /// Runs `runner_setup`, starts the first launch's worker and reports for duty.
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
            let prepared = hook.run(&context, subject, &environment).await?;
            environment.extend(&prepared.given);
            left_running = prepared.left_running;
        }
        let workers = context.launches.iter().map(|_| None).collect();
        let mut lane = Lane { context, number, environment, workers, _left_running: left_running };
        lane.ensure_worker(0).await?;
        let ready = wire::RunnerReady { runner: number.into(), identifier };
        lane.context.updates.send(Kind::RunnerReady(ready)).await;
        Ok(lane)
    }

    /// Makes attempts until no more can come.
    async fn work(&mut self, attempts: &mut mpsc::Receiver<Attempt>) -> Result<(), RunnerFailure> {
        let ending = self.context.ending.clone();
        while let Some(Some(attempt)) = ending.run_until_cancelled(attempts.recv()).await {
            self.make(&attempt).await?;
            // The next one is loaded while the coordinator looks for the next file.
            match ending.run_until_cancelled(self.ensure_worker(attempt.launch)).await {
                Some(ready) => ready?,
                None => break,
            }
        }
        for launch in 0..self.workers.len() {
            self.retire_worker(launch).await;
        }
        Ok(())
    }

    /// Makes one attempt, from its slot to its last byte of output.
    async fn make(&mut self, attempt: &Attempt) -> Result<(), RunnerFailure> {
        let context = self.context.clone();
        let claimed = attempt.cancelled.run_until_cancelled(context.slots.claim(attempt.number)).await;
        let Some(_slot) = claimed else {
            let ended = Ended::cancelled().into_update(attempt.number);
            context.updates.send(ended).await;
            return Ok(());
        };
        let (ended, failure) = match &context.launches[attempt.launch] {
            Launch::Command(launch) => command::run(&context, &self.environment, launch, attempt).await,
            Launch::Worker(_) => self.run_on_worker(attempt).await,
        };
        context.updates.send(ended.into_update(attempt.number)).await;
        failure.map_or(Ok(()), Err)
    }

    async fn run_on_worker(&mut self, attempt: &Attempt) -> (Ended, Option<RunnerFailure>) {
        let ready = attempt.cancelled.run_until_cancelled(self.ensure_worker(attempt.launch)).await;
        match ready {
            None => return (Ended::cancelled(), None),
            Some(Err(failure)) => {
                return (Ended::interrupted(Interruption::RunnerLost, failure.to_string()), Some(failure));
            }
            Some(Ok(())) => {}
        }
        let worker = self.workers[attempt.launch].take().expect("it was made sure of just now");
        let (ended, worker) = worker.run(&self.context, attempt).await;
        self.workers[attempt.launch] = worker;
        (ended, None)
    }

    /// Starts a launch's worker unless it has a living one or needs none, and tells the coordinator how that went.
    async fn ensure_worker(&mut self, launch: usize) -> Result<(), RunnerFailure> {
        let context = self.context.clone();
        let Some(Launch::Worker(worker_launch)) = context.launches.get(launch) else { return Ok(()) };
        if self.workers[launch].as_ref().is_some_and(Worker::is_alive) {
            return Ok(());
        }
        self.retire_worker(launch).await;
        let begin = Instant::now();
        let (worker, block) = Worker::start(&context, &self.environment, worker_launch).await;
        let prepared = wire::WorkerPrepared {
            runner: self.number.into(),
            framework: worker_launch.framework.clone(),
            failure: worker.as_ref().err().cloned(),
            duration_microseconds: microseconds(begin.elapsed()),
            block: Some(block.unwrap_or_default()),
        };
        context.updates.send(Kind::WorkerPrepared(prepared)).await;
        self.workers[launch] = Some(worker?);
        Ok(())
    }

    /// Parts with a launch's worker, if it has one, dead or alive, and tells the coordinator what it still wrote.
    async fn retire_worker(&mut self, launch: usize) {
        let Some(worker) = self.workers[launch].take() else { return };
        let block = worker.retire().await;
        if let (1.., Launch::Worker(worker_launch)) = (block.bytes, &self.context.launches[launch]) {
            let (runner, framework) = (self.number.into(), worker_launch.framework.clone());
            let left = wire::WorkerEnded { runner, framework, block: Some(block) };
            self.context.updates.send(Kind::WorkerEnded(left)).await;
        }
    }
}
