//! One worker of one runner: starts it, runs files on it, notices when it is of no more use.
//!
//! What a worker said before it died counts: its messages are read to the last one, and only then is it asked why
//! it left. Where the worker forks for each file, a timeout or a cancellation ends what is below it and the worker
//! stays; otherwise, and whenever in doubt, the whole worker goes and the lane starts another. The first test that is
//! said to have failed after a timeout ended its file is the one that was running.
//!
//! Processes a file leaves behind are leaks where each file has processes of its own (`fork`, `process`); with
//! `shared`, processes belong to the worker and live as long as it does.
//!
//! At the end of a run that ended in order a worker may stay for the next one (`keeping`).

mod ending;
mod keeping;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::run_event::AttemptResult;
use distributest_core::test_result::TestResult;
use distributest_process::{Exit, SpawnError};
use distributest_protocol::conversions::test_to_wire;
use distributest_protocol::gathering::Haste;
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use rustix::process::Pid;
use tokio::time::Instant;

use super::attempt::{Attempt, Ended};
use super::command::{Known, name_leaked};
use super::context::{Program, RunContext, STOP_GRACE, Started, run_out, time_limit};
use super::environment::Environment;
use super::hang;
use super::programs::{self, NoProgram};
use super::time_limit::overrun;
use super::worker_messages::{
    FileOutcome, Finished, Versions, WorkerLink, WorkerLinkError, WorkerMessage, WorkerOrder,
};
use crate::failure::{self, Failure};

use self::ending::{Ending, from_finished, tell_what_timed_out};
pub(crate) use self::keeping::{LoadedFiles, Origin};

/// How long a worker may take to leave after `quit` before it is ended: some drop databases then, or write reports.
const QUIT_GRACE: Duration = Duration::from_secs(10);

/// The same where what was set up for all files ends with the worker: servers and containers take their time.
pub(crate) const SHARED_QUIT_GRACE: Duration = Duration::from_secs(60);

/// How long a worker that closed its descriptor may take to leave, and one whose file was ended to say so.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(5);

/// What starts a worker.
pub(crate) struct WorkerLaunch {
    /// The framework's name.
    pub(crate) framework: String,
    /// Tried in this order.
    programs: Vec<String>,
    arguments: Vec<OsString>,
    isolation: wire::Isolation,
    ready_timeout: Option<Duration>,
    /// Whether what it runs are files, and not a tool's packages or binaries.
    pub(crate) runs_files: bool,
    /// All that was said of it, by which a worker kept from an earlier run is known; `None` for one that is part of this
    /// program, which is not kept.
    description: Option<Arc<(String, wire::WorkerLaunch)>>,
}

impl WorkerLaunch {
    /// A worker whose program came with the run and was written to `program_file`, or is part of the project.
    pub(crate) fn of_program(
        framework: String,
        worker: wire::WorkerLaunch,
        program_file: Option<PathBuf>,
    ) -> Self {
        let (isolation, ready_timeout) =
            (known(worker.isolation()), time_limit(worker.ready_timeout_milliseconds));
        let description = Some(Arc::new((framework.clone(), worker.clone())));
        let words = |words: Vec<String>| words.into_iter().map(OsString::from);
        let mut arguments: Vec<OsString> = words(worker.arguments).collect();
        arguments.extend(program_file.map(OsString::from));
        arguments.extend(words(worker.worker_arguments));
        let programs = worker.programs;
        let runs_files = true;
        WorkerLaunch { framework, programs, arguments, isolation, ready_timeout, runs_files, description }
    }

    /// A worker that is part of this program, whichever it is: they all have the command `agent`.
    pub(crate) fn of_this_agent(framework: String, worker: wire::OwnWorkerLaunch) -> Self {
        let (isolation, ready_timeout) =
            (known(worker.isolation()), time_limit(worker.ready_timeout_milliseconds));
        let kind = worker.arguments.first().map(String::as_str);
        let runs_files = !distributest_worker::KINDS_OF_UNITS.iter().any(|units| kind == Some(units));
        let words = ["agent", "worker"].map(str::to_owned).into_iter().chain(worker.arguments);
        // The path stays right when the file is replaced by a newer build.
        let programs = vec!["/proc/self/exe".to_owned()];
        let arguments = words.map(OsString::from).collect();
        let description = None;
        WorkerLaunch { framework, programs, arguments, isolation, ready_timeout, runs_files, description }
    }

    /// What a worker started now would be started with, if it is of the kind that may be kept.
    pub(crate) fn wanted(&self, directory: &Path, environment: &Environment) -> Option<Origin> {
        let program = programs::find(&self.programs, directory, environment).ok()?;
        self.origin(&program, environment).filter(|_| self.may_stay())
    }

    /// Whether what it has loaded may outlive its run: its files run in forks of that, or all of them in one.
    fn may_stay(&self) -> bool {
        matches!(self.isolation, wire::Isolation::Fork | wire::Isolation::Shared)
    }

    fn origin(&self, program: &Path, environment: &Environment) -> Option<Origin> {
        let launch = self.description.clone()?;
        Some(Origin { launch, program: program.to_owned(), environment: environment.clone() })
    }
}

fn known(isolation: wire::Isolation) -> wire::Isolation {
    match isolation {
        wire::Isolation::Unspecified => wire::Isolation::Fork,
        isolation => isolation,
    }
}

/// A worker that is ready.
pub(crate) struct Worker {
    started: Started,
    link: WorkerLink,
    isolation: wire::Isolation,
    has_run: bool,
    /// Processes below it before the first file, and those it has started for the next one.
    helpers: Known,
    /// It understands that it is to stay.
    keeps: bool,
    /// The process that stays then.
    loaded_process: u32,
    versions: Versions,
    origin: Option<Origin>,
    start_took: Duration,
    /// What belongs to many of its files and failed as it ended.
    failed_ends: Vec<String>,
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error(transparent)]
    NoProgram(#[from] NoProgram),
    #[error("failed to start {0:?}")]
    Spawn(PathBuf, #[source] SpawnError),
    #[error("{message}")]
    Unable { message: String, hint: String },
    #[error("it ended with {0} before it was ready")]
    Exited(Exit),
    #[error("it was not ready after {} s", .0.as_secs_f64())]
    NotReady(Duration),
    #[error("it said something else than that it is ready")]
    OutOfTurn,
    #[error(transparent)]
    Link(#[from] WorkerLinkError),
}

impl WorkerError {
    fn failure(&self, framework: &str) -> wire::Failure {
        let log = "its output is in the log";
        let (hint, fault) = match self {
            WorkerError::Unable { hint, .. } => (hint.as_str(), wire::Fault::Configuration),
            WorkerError::NoProgram(_) => (
                "install it on this host, or let node_setup append PATH=… to $DISTRIBUTEST_ENV",
                wire::Fault::Host,
            ),
            WorkerError::Spawn(..) => ("", wire::Fault::Host),
            WorkerError::NotReady(_) => (log, wire::Fault::Configuration),
            _ => (log, wire::Fault::Host),
        };
        let failure = match fault {
            wire::Fault::Configuration => Failure::configuration("start the worker of", framework),
            _ => Failure::host("start the worker of", framework),
        };
        failure.because(failure::chain(self)).hint(hint).into()
    }
}

/// Why a worker did not start, and whether another one may.
pub(crate) enum StartFailure {
    /// It died before it was ready, which may have been bad luck.
    Died(wire::Failure),
    /// The next one would fare no better.
    Final(wire::Failure),
}

impl StartFailure {
    fn new(error: &WorkerError, framework: &str) -> Self {
        let failure = error.failure(framework);
        match error {
            WorkerError::Exited(_)
            | WorkerError::Link(WorkerLinkError::Closed)
            | WorkerError::Spawn(_, SpawnError::JoinCgroup { .. }) => StartFailure::Died(failure),
            _ => StartFailure::Final(failure),
        }
    }

    /// What failed and why.
    pub(crate) fn failure(&self) -> &wire::Failure {
        match self {
            StartFailure::Died(failure) | StartFailure::Final(failure) => failure,
        }
    }
}

/// What a worker does next.
enum Event {
    Message(WorkerMessage),
    Lost(WorkerLinkError),
    Exited(Exit),
}

impl Worker {
    /// Starts a worker and waits until it is ready. The block holds what it wrote on the way; `None` when nothing was
    /// started.
    pub(crate) async fn start(
        context: &RunContext,
        environment: &Environment,
        launch: &WorkerLaunch,
    ) -> (Result<Worker, StartFailure>, Option<wire::OutputBlock>) {
        let explain = |error: WorkerError| StartFailure::new(&error, &launch.framework);
        let begin = Instant::now();
        let mut worker = match Worker::spawn(context, environment, launch).await {
            Ok(worker) => worker,
            Err(error) => return (Err(explain(error)), None),
        };
        let ready = worker.wait_until_ready(launch.ready_timeout).await;
        if ready.is_err() {
            worker.stop(STOP_GRACE).await;
        } else {
            let helpers = worker.started.tree.leaked(Duration::ZERO).await.unwrap_or_default();
            worker.helpers.before = helpers.iter().map(|process| process.pid).collect();
            worker.start_took = begin.elapsed();
        }
        let block = worker.started.capture.close_block().await;
        (ready.map(|()| worker).map_err(explain), Some(block))
    }

    async fn spawn(
        context: &RunContext,
        environment: &Environment,
        launch: &WorkerLaunch,
    ) -> Result<Worker, WorkerError> {
        let program = programs::find(&launch.programs, context.workspace.directory(), environment)?;
        let origin = launch.origin(&program, environment);
        let mut environment = environment.clone();
        environment.set("DISTRIBUTEST_ISOLATION", isolation_word(launch.isolation));
        if launch.isolation == wire::Isolation::Shared && origin.is_some() && context.warmth.is_wanted() {
            environment.set("DISTRIBUTEST_MAY_STAY", "1");
        }
        let spawned = context
            .start(Program {
                program: program.clone().into(),
                arguments: launch.arguments.clone(),
                environment: environment.variables(),
                control: true,
            })
            .await;
        let mut started = spawned.map_err(|error| WorkerError::Spawn(program, error))?;
        let control = started.tree.take_control().expect("it was asked for");
        let (link, isolation, helpers) = (WorkerLink::new(control), launch.isolation, Known::default());
        let (has_run, keeps, versions) = (false, false, Versions::default());
        let loaded_process = started.tree.pid();
        let (start_took, failed_ends) = (Duration::ZERO, Vec::new());
        Ok(Worker {
            started,
            link,
            isolation,
            has_run,
            helpers,
            keeps,
            loaded_process,
            versions,
            origin,
            start_took,
            failed_ends,
        })
    }

    async fn wait_until_ready(&mut self, limit: Option<Duration>) -> Result<(), WorkerError> {
        let event = tokio::select! {
            event = self.next_event() => event,
            () = run_out(limit) => return Err(WorkerError::NotReady(limit.unwrap_or_default())),
        };
        match event {
            Event::Message(WorkerMessage::Ready { keeps, process, versions }) => {
                (self.keeps, self.versions) = (keeps, versions);
                self.loaded_process = process.unwrap_or(self.loaded_process);
                Ok(())
            }
            Event::Message(WorkerMessage::Unable { message, hint }) => {
                // It leaves by itself, and what it writes on the way is worth reading.
                let _ = tokio::time::timeout(QUIT_GRACE, self.started.tree.wait()).await;
                Err(WorkerError::Unable { message, hint })
            }
            Event::Message(_) => Err(WorkerError::OutOfTurn),
            Event::Lost(error) => Err(error.into()),
            Event::Exited(exit) => Err(WorkerError::Exited(exit)),
        }
    }

    /// What it said of itself when it was ready.
    pub(crate) fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Whether it was given a file before.
    pub(crate) fn has_run(&self) -> bool {
        self.has_run
    }

    /// Whether the worker can be given a file, as far as can be told.
    pub(crate) fn is_alive(&self) -> bool {
        self.started.tree.poll_exit().is_none()
    }

    /// Runs a file. `haste`: with the news of its start. The worker comes back if it can run another one.
    pub(crate) async fn run(
        mut self,
        context: &RunContext,
        attempt: &Attempt,
        haste: Haste,
    ) -> (Ended, Option<Worker>) {
        self.has_run = true;
        let begin = Instant::now();
        let block = self.started.capture.block_number();
        let started = wire::AttemptStarted { attempt: attempt.number, block };
        context.updates.send_in(haste, Kind::AttemptStarted(started)).await;
        let Attempt { file, tests, part: wire::FilePart { only, except }, .. } = attempt;
        let order = WorkerOrder::Run { file, tests, only, except };
        let ending = match self.link.send(&order).await {
            Ok(()) => self.converse(context, attempt).await,
            // It left before it took the file, which is not the file's fault.
            Err(error) => Ending::Lost(error),
        };
        let duration = begin.elapsed();
        let was_killed = ending.was_killed();
        let (ended, mut stays) = self.conclude(context, attempt, ending).await;
        let mut ended = Ended { duration, ..ended };
        let has_crashed = ended.result == AttemptResult::Outcome(Outcome::Crashed);
        if was_killed && has_crashed && context.out_of_memory_kills.any_since(begin.into_std()) {
            let how = std::mem::take(&mut ended.message);
            ended = ended.out_of_memory(&how);
        }
        if stays {
            (ended.leaked, stays) = self.clear_leaks().await;
        }
        if stays && self.isolation == wire::Isolation::Process {
            self.quit().await;
            if let Some(message) = self.failed_end() {
                ended = ended.failed_at_its_end(message);
            }
            stays = false;
        } else if !stays {
            self.stop(STOP_GRACE).await;
        }
        ended.block = Some(self.started.capture.close_block().await);
        (ended, stays.then_some(self))
    }

    /// Takes what the worker says until the file is over, one way or another.
    async fn converse(&mut self, context: &RunContext, attempt: &Attempt) -> Ending {
        let heard = self.started.capture.heard();
        let limit = overrun(attempt.time_limit, &heard);
        tokio::pin!(limit);
        let mut cut_short = None;
        let mut tests = 0;
        loop {
            let event = tokio::select! {
                biased;
                () = attempt.cancelled.cancelled() => return Ending::Cancelled,
                timed_out = &mut limit => return Ending::TimedOut(timed_out),
                event = self.next_event() => event,
            };
            heard.note();
            match (event, cut_short.take()) {
                (Event::Message(WorkerMessage::Test(test)), cut) => {
                    cut_short = cut;
                    tests += 1;
                    context
                        .updates
                        .send_in(Haste::Soon, Kind::TestFinished(test_to_wire(attempt.number, *test)))
                        .await;
                }
                // A forked child that dies while it writes leaves half a line; what its worker says next, perhaps
                // after a word on the test it died in, is that it died.
                (Event::Message(WorkerMessage::Finished(finished)), Some(error))
                    if finished.outcome != FileOutcome::Crashed =>
                {
                    return Ending::Lost(error);
                }
                (Event::Message(WorkerMessage::Finished(finished)), _) => return Ending::Finished(finished),
                (_, Some(error)) => return Ending::Lost(error),
                (Event::Message(_), None) => return Ending::OutOfTurn,
                (Event::Lost(error @ WorkerLinkError::Garbage { cut_short: true, .. }), None) => {
                    cut_short = Some(error)
                }
                (Event::Lost(error), None) => return Ending::Lost(error),
                (Event::Exited(exit), None) => return Ending::Exited { exit, tests },
            }
        }
    }

    /// Says what came of the file, and whether the worker can run another.
    async fn conclude(&mut self, context: &RunContext, attempt: &Attempt, ending: Ending) -> (Ended, bool) {
        match ending {
            Ending::Finished(mut finished) => {
                self.helpers.for_next_file = std::mem::take(&mut finished.helpers);
                // What serves the files of a shared worker died with this one, and what told of it is about to leave.
                let server_died =
                    self.isolation == wire::Isolation::Shared && finished.outcome == FileOutcome::Crashed;
                (from_finished(finished), !server_died)
            }
            Ending::TimedOut(timed_out) => {
                hang::take_note(&self.started, true, attempt, timed_out).await;
                let (last_tests, stays) = self.end_file().await;
                let ended = Ended::timed_out(timed_out);
                match tell_what_timed_out(context, attempt, last_tests).await {
                    Some(test) => (ended.during(&test), stays),
                    None => (ended, stays),
                }
            }
            Ending::Cancelled => (Ended::cancelled(), self.end_file().await.1),
            Ending::Lost(error) => {
                (Ended::interrupted(Interruption::RunnerLost, failure::chain(&error)), false)
            }
            Ending::OutOfTurn => {
                let message = "the worker said it was ready or unable in the middle of a file";
                (Ended::interrupted(Interruption::RunnerLost, message), false)
            }
            Ending::Exited { exit, tests } => {
                // Whoever else holds the descriptor goes first, so that it has an end.
                self.stop(Duration::ZERO).await;
                let (last_tests, finished) = self.last_words().await;
                let any_tests = tests + last_tests.len() > 0;
                for test in last_tests {
                    context
                        .updates
                        .send_in(Haste::Soon, Kind::TestFinished(test_to_wire(attempt.number, test)))
                        .await;
                }
                let died = |when| Ended::outcome(Outcome::Crashed, format!("the worker died{when}: {exit}"));
                let ended = match finished {
                    Some(finished) => from_finished(finished),
                    None if any_tests => died(""),
                    None => died(" before it told of any test of this file"),
                };
                (ended, false)
            }
        }
    }

    /// Reads what is still said of a file whose processes are gone, and how the worker closes it, if it does.
    async fn last_words(&mut self) -> (Vec<TestResult>, Option<Finished>) {
        let mut tests = Vec::new();
        let finished = async {
            loop {
                match self.link.receive().await {
                    Ok(WorkerMessage::Finished(finished)) => return Some(finished),
                    Ok(WorkerMessage::Test(test)) => tests.push(*test),
                    Err(WorkerLinkError::Garbage { cut_short: true, .. }) => {}
                    Ok(_) | Err(_) => return None,
                }
            }
        };
        let finished = tokio::time::timeout(LAST_WORDS_PATIENCE, finished).await.unwrap_or(None);
        (tests, finished)
    }

    /// Ends the file that is running. Returns the tests that come to light by that, and whether the worker survives it.
    async fn end_file(&mut self) -> (Vec<TestResult>, bool) {
        // Helpers would die with the file, and the worker may need them.
        let survives = self.isolation == wire::Isolation::Fork && self.helpers.before.is_empty();
        let watcher = Pid::from_raw(self.loaded_process.cast_signed());
        let (tests, finished) = match self.started.tree.stop_watched(watcher, STOP_GRACE).await {
            // Who watches over the process that ran the file hears how it ended, and says so.
            Ok(had_any) if had_any || survives => self.last_words().await,
            Ok(_) => (Vec::new(), None),
            Err(error) => {
                tracing::warn!(%error, "failed to end a test file's processes");
                self.stop(Duration::ZERO).await;
                (Vec::new(), None)
            }
        };
        if survives && finished.is_some() {
            return (tests, true);
        }
        self.stop(STOP_GRACE).await;
        let (last_tests, _) = self.last_words().await;
        (tests.into_iter().chain(last_tests).collect(), false)
    }

    /// Kills what a file left behind. Returns what that was, and whether the worker survives it.
    async fn clear_leaks(&mut self) -> (Vec<String>, bool) {
        if self.isolation == wire::Isolation::Shared {
            return (Vec::new(), true);
        }
        let leaked = name_leaked(&self.started.tree, &self.helpers).await;
        let named = leaked.iter().map(ToString::to_string).collect();
        if leaked.is_empty() {
            return (named, true);
        }
        let cleared =
            self.helpers.before.is_empty() && self.started.tree.stop_descendants(STOP_GRACE).await.is_ok();
        (named, cleared)
    }

    /// Parts with the worker, dead or alive. The block holds what it wrote since its last file; the text says what of all
    /// its files failed as it ended, if anything did.
    pub(crate) async fn retire(mut self) -> (wire::OutputBlock, Option<String>) {
        self.quit().await;
        (self.started.capture.close_block().await, self.failed_end())
    }

    /// What of its files failed as it ended.
    fn failed_end(&mut self) -> Option<String> {
        let failed = std::mem::take(&mut self.failed_ends);
        (!failed.is_empty()).then(|| failed.join("; "))
    }

    /// Closes the block of what it wrote since its last file.
    pub(crate) async fn close_block(&self) -> wire::OutputBlock {
        self.started.capture.close_block().await
    }

    /// Asks the worker to leave, and ends it if it does not.
    async fn quit(&mut self) {
        let is_shared = self.isolation == wire::Isolation::Shared;
        let grace = if is_shared { SHARED_QUIT_GRACE } else { QUIT_GRACE };
        if self.link.send(&WorkerOrder::Quit).await.is_ok() {
            let left = async {
                while let Event::Message(_) = self.next_event().await {}
                self.started.tree.wait().await
            };
            let is_late = tokio::time::timeout(grace, left).await.is_err();
            if is_late && is_shared {
                self.note_late_end();
            }
        }
        self.stop(Duration::ZERO).await;
    }

    fn note_late_end(&mut self) {
        let limit = SHARED_QUIT_GRACE.as_secs();
        self.failed_ends.push(format!("it had not ended {limit} s after its last file"));
    }

    async fn stop(&self, grace: Duration) {
        if let Err(error) = self.started.tree.stop(grace).await {
            tracing::warn!(%error, "failed to end a worker");
        }
    }

    /// Waits for what the worker does next. Nothing is lost when the wait is given up.
    async fn next_event(&mut self) -> Event {
        tokio::select! {
            biased;
            message = receive_news(&mut self.link, &mut self.failed_ends) => match message {
                Ok(message) => Event::Message(message),
                Err(WorkerLinkError::Closed) => {
                    let exit = tokio::time::timeout(LAST_WORDS_PATIENCE, self.started.tree.wait()).await;
                    exit.map_or(Event::Lost(WorkerLinkError::Closed), Event::Exited)
                }
                Err(error) => Event::Lost(error),
            },
            exit = self.started.tree.wait() => Event::Exited(exit),
        }
    }
}

/// Waits for the next message that says something about a file or the worker's start; puts down the others.
async fn receive_news(
    link: &mut WorkerLink,
    failed_ends: &mut Vec<String>,
) -> Result<WorkerMessage, WorkerLinkError> {
    loop {
        match link.receive().await? {
            WorkerMessage::EndFailed { message } => failed_ends.push(message),
            message => return Ok(message),
        }
    }
}

fn isolation_word(isolation: wire::Isolation) -> &'static str {
    match isolation {
        wire::Isolation::Shared => "shared",
        wire::Isolation::Process => "process",
        wire::Isolation::Fork | wire::Isolation::Unspecified => "fork",
    }
}
