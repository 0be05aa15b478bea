//! Drives one run: takes the coordinator's orders, hands them to hooks and lanes, watches the lease.
//!
//! The driver is one loop over orders, the lease, its own heartbeat and the tasks it started. It never waits for
//! anything else, so neither a slow hook nor an unread log keeps it from noticing that the run is over. It returns
//! when the run has ended in order; when it is dropped or returns early, what its tasks hold is killed by
//! [`JoinSet::shutdown`], which its caller awaits.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use distributest_core::outcome::Interruption;
use distributest_process::{CgroupPool, OutOfMemoryKills};
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::PROC;
use super::attempt::{Attempt, Ended};
use super::context::{Launch, RunContext, Updates};
use super::environment::{Environment, RunFacts};
use super::hooks::{Hook, Prepared, Subject};
use super::identifiers::Identifiers;
use super::lane;
use super::lane_queue::{LaneReceiver, LaneSender, lane_queue};
use super::output::OutputSink;
use super::private_directory::PrivateDirectory;
use super::slots::Slots;
use super::time_limit::TimeLimit;
use super::warm::WarmWorkers;
use super::worker::{SHARED_QUIT_GRACE, WorkerLaunch};
use super::workspace::Workspace;
use crate::failure::Failure;

/// How long the lanes may take to end after `EndRun`: their workers' grace and a little more.
const END_LIMIT: Duration = SHARED_QUIT_GRACE.saturating_add(Duration::from_secs(5));

/// Runners of one run; more is a mistake.
const RUNNER_LIMIT: u16 = 4096;

/// Answers to orders that can't be carried out, under way at a time; a coordinator that reads what it is told never
/// has so many.
const ANSWER_LIMIT: usize = 1024;

/// What a run is driven with.
pub(crate) struct Driver<'session> {
    /// What the coordinator said first.
    pub(crate) hello: wire::Hello,
    /// The user's home, if it is known.
    pub(crate) home: Option<PathBuf>,
    /// Where it runs.
    pub(crate) workspace: Workspace,
    /// The order that came when the workspace was ready.
    pub(crate) first_order: wire::CoordinatorMessage,
    /// What the coordinator orders.
    pub(crate) orders: mpsc::Receiver<wire::CoordinatorMessage>,
    /// The way to it.
    pub(crate) updates: Updates,
    /// Where output goes.
    pub(crate) output: OutputSink,
    /// Where the right to execute comes from.
    pub(crate) slots: Slots,
    /// Cgroups for process trees.
    pub(crate) cgroups: Option<CgroupPool>,
    /// Workers of earlier runs.
    pub(crate) warm: &'session mut WarmWorkers,
}

/// A task of the run that came to its end.
pub(crate) enum TaskEnd {
    /// `node_setup` is done, and this is the environment it left.
    NodeReady(Box<Result<(Environment, Prepared), wire::Failure>>),
    /// There was nothing more to do.
    Done,
}

/// Why a run is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RunOver {
    /// The coordinator ended it.
    Ended,
    /// The agent takes no part any more; the coordinator knows why.
    Refused,
    /// The connection ended, or nothing came for the lease.
    CoordinatorGone,
    /// The daemon is gone.
    WatcherGone,
    /// The process was told to end.
    Terminated,
}

impl Driver<'_> {
    /// Drives the run to its end. The tasks are the caller's, so that it can wait until they are gone.
    pub(crate) async fn drive(self, tasks: &mut JoinSet<TaskEnd>) -> RunOver {
        let lease = Duration::from_millis(self.hello.lease_milliseconds.max(1).into());
        let Driver { hello, home, workspace, first_order, mut orders, updates, output, slots, cgroups, warm } =
            self;
        let mut first_order = Some(first_order);
        let mut beat = heartbeat(&hello);
        let mut run = Run::new(updates.clone());
        let mut setting = Some(Setting { hello, home, workspace, output, slots, cgroups, warm });
        let mut silence_ends = Instant::now() + lease;
        // Once the run is to end: when that must be done.
        let mut ends_by = None;
        loop {
            if ends_by.is_some() && tasks.is_empty() {
                // The private directory goes with it, and what node_setup left running.
                drop(run);
                tell_last(&updates, Kind::RunEnded(wire::RunEnded {}), lease).await;
                return RunOver::Ended;
            }
            tokio::select! {
                // What came while this host was asleep must be seen before the silence that was none.
                biased;
                order = next(&mut first_order, &mut orders) => {
                    let Some(order) = order else { return RunOver::CoordinatorGone };
                    silence_ends = Instant::now() + lease;
                    match order.kind {
                        Some(Order::Prepare(prepare)) => {
                            if let Some(setting) = setting.take()
                                && let Err(failure) = run.prepare(setting, prepare, tasks)
                            {
                                return refuse(&updates, failure, lease).await;
                            }
                        }
                        Some(Order::Dispatch(dispatch)) => {
                            if let Err(failure) = run.dispatch(dispatch, tasks) {
                                return refuse(&updates, failure, lease).await;
                            }
                        }
                        Some(Order::Cancel(cancel)) => run.cancel(cancel, tasks),
                        Some(Order::EndRun(wire::EndRun {})) => {
                            run.begin_end();
                            ends_by.get_or_insert(Instant::now() + END_LIMIT);
                        }
                        Some(
                            Order::Hello(_)
                            | Order::Heartbeat(_)
                            | Order::CompareWorkspace(_)
                            | Order::ProjectTree(_)
                            | Order::FileContent(_),
                        )
                        | None => {}
                    }
                }
                () = sleep_until(silence_ends) => {
                    tracing::warn!(?lease, "nothing was heard from the coordinator, the run is over");
                    return RunOver::CoordinatorGone;
                }
                () = sleep_until(ends_by.unwrap_or(silence_ends)), if ends_by.is_some() => {
                    tasks.shutdown().await;
                }
                _ = beat.tick() => {
                    updates.heartbeat();
                    run.look_at_memory();
                }
                Some(ended) = tasks.join_next() => {
                    // What fails while the run ends has nobody to be told to.
                    if ends_by.is_none()
                        && let Err(failure) = run.task_ended(ended, tasks)
                    {
                        return refuse(&updates, failure, lease).await;
                    }
                }
            }
        }
    }
}

/// The next order. Cancel-safe.
async fn next(
    first: &mut Option<wire::CoordinatorMessage>,
    orders: &mut mpsc::Receiver<wire::CoordinatorMessage>,
) -> Option<wire::CoordinatorMessage> {
    match first.take() {
        Some(order) => Some(order),
        None => orders.recv().await,
    }
}

/// Beats as often as the coordinator wants to hear something.
pub(crate) fn heartbeat(hello: &wire::Hello) -> Interval {
    let milliseconds = match hello.heartbeat_milliseconds {
        0 => hello.lease_milliseconds / 3,
        wanted => wanted,
    };
    let mut beat = interval(Duration::from_millis(milliseconds.max(1).into()));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

/// Tells the coordinator that the agent takes no part, or no longer.
pub(crate) async fn refuse(updates: &Updates, failure: wire::Failure, lease: Duration) -> RunOver {
    tell_last(updates, Kind::Refusal(wire::Refusal { failure: Some(failure) }), lease).await;
    RunOver::Refused
}

/// Says the last thing there is to say, unless nobody takes it within the lease.
async fn tell_last(updates: &Updates, kind: Kind, lease: Duration) {
    let _ = tokio::time::timeout(lease, updates.send(kind)).await;
}

/// What is known before `Prepare` and needed after it.
struct Setting<'session> {
    hello: wire::Hello,
    home: Option<PathBuf>,
    workspace: Workspace,
    output: OutputSink,
    slots: Slots,
    cgroups: Option<CgroupPool>,
    warm: &'session mut WarmWorkers,
}

/// A run's lanes and attempts.
struct Run {
    updates: Updates,
    ending: CancellationToken,
    context: Option<Arc<RunContext>>,
    /// What `node_setup` left running; ends with the run.
    node: Option<Prepared>,
    /// The way to each runner, by number from 1; those that read it don't live yet.
    lanes: Vec<LaneSender>,
    /// What the lanes will read.
    waiting: Vec<LaneReceiver>,
    /// Every attempt ever ordered.
    ordered: HashSet<u64>,
    /// How to cancel those that may still be running, and the place of their lanes; those that are over go now and then.
    cancels: HashMap<u64, (CancellationToken, usize)>,
}

impl Run {
    fn new(updates: Updates) -> Self {
        Run {
            updates,
            ending: CancellationToken::new(),
            context: None,
            node: None,
            lanes: Vec::new(),
            waiting: Vec::new(),
            ordered: HashSet::new(),
            cancels: HashMap::new(),
        }
    }

    /// Takes note of what the kernel killed up to now, so that it is not taken for the reason of later deaths.
    fn look_at_memory(&self) {
        if let Some(context) = &self.context {
            context.out_of_memory_kills.look();
        }
    }

    /// Writes the run's files and starts `node_setup`, or what comes after it.
    fn prepare(
        &mut self,
        setting: Setting<'_>,
        mut prepare: wire::Prepare,
        tasks: &mut JoinSet<TaskEnd>,
    ) -> Result<(), wire::Failure> {
        let Setting { hello, home, workspace, output, slots, cgroups, warm } = setting;
        let runners = u16::try_from(prepare.runners).ok().filter(|runners| *runners <= RUNNER_LIMIT);
        let Some(runners) = runners else {
            let failure = Failure::configuration("start runners", prepare.runners.to_string());
            return Err(failure.because(format!("more than {RUNNER_LIMIT} on one host")).into());
        };
        let parent = std::env::temp_dir();
        let private = PrivateDirectory::create_in(&parent).map_err(|error| {
            wire::Failure::from(
                Failure::host("create a directory for the run in", parent.display().to_string())
                    .because(error.to_string())
                    .hint("check the free space and the permissions there, or set TMPDIR for the agent"),
            )
        })?;
        let environment =
            Environment::of_run(std::env::vars_os(), &RunFacts { hello: &hello, prepare: &prepare });
        let take_hook = |name, hook: Option<wire::Hook>, private: &PrivateDirectory| match hook {
            Some(hook) => Hook::new(name, hook, private),
            None => Ok(None),
        };
        let node_setup = take_hook("node_setup", prepare.node_setup.take(), &private)?;
        let runner_setup = take_hook("runner_setup", prepare.runner_setup.take(), &private)?;
        let launches = write_launches(prepare.launches, &private)?;
        let identifiers = Identifiers::take(&hello, runners, home.as_deref());
        let (updates, ending) = (self.updates.clone(), self.ending.clone());
        // A private agent ends with its run, and everything with it.
        let keep_for = match slots {
            Slots::Shared(_) => Duration::from_millis(prepare.keep_warm_milliseconds.into()),
            Slots::Unlimited => Duration::ZERO,
        };
        let warmth = warm.begin(workspace.directory(), keep_for);
        let context = Arc::new(RunContext {
            hello,
            identifiers,
            workspace,
            private,
            launches,
            runner_setup,
            updates,
            output,
            slots,
            ending,
            cgroups,
            out_of_memory_kills: OutOfMemoryKills::count(Path::new(PROC)),
            warmth,
        });
        self.context = Some(context.clone());
        (self.lanes, self.waiting) = (0..runners).map(|_| lane_queue()).unzip();
        tasks.spawn(async move {
            TaskEnd::NodeReady(Box::new(prepare_node(&context, node_setup, environment).await))
        });
        Ok(())
    }

    /// Carries on after a task.
    fn task_ended(
        &mut self,
        ended: Result<TaskEnd, JoinError>,
        tasks: &mut JoinSet<TaskEnd>,
    ) -> Result<(), wire::Failure> {
        match ended {
            Ok(TaskEnd::Done) => Ok(()),
            Ok(TaskEnd::NodeReady(node)) => {
                let (environment, prepared) = (*node)?;
                if let Some(context) = self.context.as_ref().filter(|_| prepared.left_running.is_some()) {
                    context.warmth.refuse();
                }
                self.node = Some(prepared);
                let environment = Arc::new(environment);
                for (number, attempts) in (1..).zip(self.waiting.drain(..)) {
                    let Some(context) = self.context.clone() else { break };
                    let environment = environment.clone();
                    tasks.spawn(async move {
                        lane::run(context, number, environment, attempts).await;
                        TaskEnd::Done
                    });
                }
                Ok(())
            }
            Err(error) => {
                let cause = error.to_string();
                Err(Failure::internal("drive the run", "").because(cause).hint("please report this").into())
            }
        }
    }

    fn dispatch(
        &mut self,
        dispatch: wire::Dispatch,
        tasks: &mut JoinSet<TaskEnd>,
    ) -> Result<(), wire::Failure> {
        if !self.ordered.insert(dispatch.attempt) {
            return Ok(());
        }
        let launch = usize::try_from(dispatch.launch).unwrap_or(usize::MAX);
        let launches = self.context.as_ref().map_or(0, |context| context.launches.len());
        let runner = usize::try_from(dispatch.runner).unwrap_or(usize::MAX).wrapping_sub(1);
        let cancelled = self.ending.child_token();
        let time_limit = TimeLimit::of(&dispatch);
        let attempt = Attempt {
            number: dispatch.attempt,
            launch,
            file: dispatch.file,
            tests: dispatch.tests,
            part: dispatch.part.unwrap_or_default(),
            fresh_worker: dispatch.fresh_worker,
            time_limit,
            cancelled: cancelled.clone(),
        };
        let problem = match self.lanes.get(runner) {
            _ if launch >= launches => "there is no such way to run a file".to_owned(),
            None => "there is no such runner".to_owned(),
            Some(lane) => match lane.put(attempt) {
                Ok(()) => {
                    self.remember(dispatch.attempt, cancelled, runner);
                    return Ok(());
                }
                Err(refused) => refused.to_string(),
            },
        };
        if tasks.len() >= self.lanes.len() + ANSWER_LIMIT {
            let failure =
                Failure::internal("take more orders", "").because("nobody reads the answers to them");
            return Err(failure.hint("please report this").into());
        }
        self.answer(dispatch.attempt, Ended::interrupted(Interruption::RunnerLost, problem), tasks);
        Ok(())
    }

    /// Keeps what it takes to cancel an attempt. Those that are over are forgotten whenever they may be half of all.
    fn remember(&mut self, attempt: u64, cancelled: CancellationToken, lane: usize) {
        if self.cancels.len() == self.cancels.capacity() {
            self.cancels.retain(|_, (cancelled, _)| !cancelled.is_cancelled());
            self.cancels.reserve(self.cancels.len() + 1);
        }
        self.cancels.insert(attempt, (cancelled, lane));
    }

    /// Ends an attempt, or only takes it back while it waits. What waits need not wait for its answer.
    fn cancel(&mut self, cancel: wire::Cancel, tasks: &mut JoinSet<TaskEnd>) {
        let Some((_, lane)) = self.cancels.get(&cancel.attempt) else { return };
        if self.lanes[*lane].take_back(cancel.attempt).is_some() {
            self.cancels.remove(&cancel.attempt);
            self.answer(cancel.attempt, Ended::cancelled(), tasks);
        } else if !cancel.unless_begun
            && let Some((cancelled, _)) = self.cancels.remove(&cancel.attempt)
        {
            cancelled.cancel();
        }
    }

    /// Says what came of an attempt that no lane made.
    fn answer(&self, attempt: u64, ended: Ended, tasks: &mut JoinSet<TaskEnd>) {
        let updates = self.updates.clone();
        tasks.spawn(async move {
            updates.send(ended.into_update(attempt)).await;
            TaskEnd::Done
        });
    }

    /// Has everything end in order: it has once no task is left.
    fn begin_end(&mut self) {
        self.ending.cancel();
        self.lanes.clear();
    }
}

async fn prepare_node(
    context: &RunContext,
    node_setup: Option<Hook>,
    mut environment: Environment,
) -> Result<(Environment, Prepared), wire::Failure> {
    let Some(hook) = node_setup else { return Ok((environment, Prepared::default())) };
    let ran = context.ending.run_until_cancelled(hook.run(context, Subject::Node, &environment)).await;
    let prepared = ran.unwrap_or_else(|| Ok(Prepared::default()))?;
    environment.extend(&prepared.given);
    Ok((environment, prepared))
}

/// Puts the worker programs where they can be started.
fn write_launches(
    launches: Vec<wire::Launch>,
    private: &PrivateDirectory,
) -> Result<Vec<Launch>, wire::Failure> {
    let write = |(index, launch): (usize, wire::Launch)| match launch.kind {
        Some(wire::launch::Kind::Command(command)) => Ok(Launch::Command(command)),
        Some(wire::launch::Kind::Worker(worker)) if worker.worker_source.is_empty() => {
            Ok(Launch::Worker(WorkerLaunch::of_program(launch.framework, worker, None)))
        }
        Some(wire::launch::Kind::Worker(worker)) => {
            let name = PathBuf::from(&worker.worker_file_name);
            let name = name.file_name().map_or("worker".into(), |name| name.to_string_lossy());
            let written = private.write(&format!("{index}-{name}"), &worker.worker_source, false);
            let program_file = written.map_err(|error| {
                wire::Failure::from(
                    Failure::host("write the worker of", &launch.framework).because(error.to_string()),
                )
            })?;
            Ok(Launch::Worker(WorkerLaunch::of_program(launch.framework, worker, Some(program_file))))
        }
        Some(wire::launch::Kind::OwnWorker(worker)) => {
            Ok(Launch::Worker(WorkerLaunch::of_this_agent(launch.framework, worker)))
        }
        None => {
            let failure = Failure::internal("prepare the framework", &launch.framework);
            Err(failure.because("it came without a way to run files").into())
        }
    };
    launches.into_iter().enumerate().map(write).collect()
}
