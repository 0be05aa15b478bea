//! What everything in a run shares: where it runs, whom it tells, how it starts processes.

use std::ffi::OsString;
use std::future::pending;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use distributest_core::outcome::Interruption;
use distributest_process::{CgroupPool, OutOfMemoryKills, ProcessSpec, ProcessTree, SpawnError, Variables};
use distributest_protocol::gathering::Haste;
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::attempt::Ended;
use super::hooks::Hook;
use super::identifiers::Identifiers;
use super::output::{Capture, OutputSink};
use super::private_directory::PrivateDirectory;
use super::slots::Slots;
use super::warm::RunWarmth;
use super::worker::WorkerLaunch;
use super::workspace::Workspace;

/// How long processes that are told to end may take before they are killed, while the coordinator is there. When it
/// is not, they are killed at once.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(1);

/// What a run's hooks and lanes share.
pub(crate) struct RunContext {
    /// Who runs what.
    pub(crate) hello: wire::Hello,
    /// What its runners are called.
    pub(crate) identifiers: Identifiers,
    /// Where the tests are.
    pub(crate) workspace: Workspace,
    /// Where the run's own files are.
    pub(crate) private: PrivateDirectory,
    /// How the files of each framework are run.
    pub(crate) launches: Vec<Launch>,
    /// What prepares each runner.
    pub(crate) runner_setup: Option<Hook>,
    /// The way to the coordinator.
    pub(crate) updates: Updates,
    /// Where output goes.
    pub(crate) output: OutputSink,
    /// Where the right to execute comes from.
    pub(crate) slots: Slots,
    /// Cancelled when the coordinator wants no more.
    pub(crate) ending: CancellationToken,
    /// Cgroups for the run's process trees, where a part of the hierarchy was delegated.
    pub(crate) cgroups: Option<CgroupPool>,
    /// Processes that the kernel killed for lack of memory since the run began.
    pub(crate) out_of_memory_kills: OutOfMemoryKills,
    /// Workers of earlier runs, and for later ones.
    pub(crate) warmth: Arc<RunWarmth>,
}

/// How the files of one framework are run, ready to be used.
pub(crate) enum Launch {
    /// By a program that stays.
    Worker(WorkerLaunch),
    /// By one process per file.
    Command(wire::CommandLaunch),
}

impl Launch {
    /// Whether what it runs are files, and not a tool's packages or binaries.
    pub(crate) fn runs_files(&self) -> bool {
        match self {
            Launch::Worker(worker) => worker.runs_files,
            Launch::Command(_) => true,
        }
    }
}

/// The way to the coordinator; cheap to clone.
#[derive(Clone)]
pub(crate) struct Updates(pub(crate) mpsc::Sender<(wire::AgentMessage, Haste)>);

impl Updates {
    /// Tells the coordinator something. Once the connection has ended nobody is told, and the run is being ended.
    pub(crate) async fn send(&self, kind: Kind) {
        self.send_in(Haste::AtOnce, kind).await;
    }

    /// As [`Updates::send`], with what may wait for others.
    pub(crate) async fn send_in(&self, haste: Haste, kind: Kind) {
        let _ = self.0.send((wire::AgentMessage { kind: Some(kind) }, haste)).await;
    }

    /// Shows that this side is alive, unless messages are waiting that do so themselves.
    pub(crate) fn heartbeat(&self) {
        let heartbeat = wire::AgentMessage { kind: Some(Kind::Heartbeat(wire::Heartbeat {})) };
        let _ = self.0.try_send((heartbeat, Haste::AtOnce));
    }
}

/// A started program and the reader of its output.
pub(crate) struct Started {
    /// Its processes.
    pub(crate) tree: ProcessTree,
    /// Its output.
    pub(crate) capture: Capture,
}

/// A program to start in the workspace.
pub(crate) struct Program {
    /// With a slash: a path, relative to the workspace or absolute. Otherwise looked for in `PATH`.
    pub(crate) program: OsString,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Its whole environment.
    pub(crate) environment: Variables,
    /// Whether it gets a socket to talk to the agent.
    pub(crate) control: bool,
}

impl RunContext {
    /// Whether a test file is not in the workspace (any more): somebody removed it while the run went on.
    pub(crate) fn is_gone(&self, file: &str) -> bool {
        let looked = self.workspace.directory().join(file).symlink_metadata();
        looked.is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
    }

    /// What comes of an attempt at such a file.
    pub(crate) fn file_gone(&self) -> Ended {
        let (host, directory) = (&self.hello.host_name, self.workspace.directory().display());
        Ended::interrupted(Interruption::FileGone, format!("it is not in {directory} on {host}"))
    }

    /// Starts a program in the workspace, and waits until it is executed.
    pub(crate) async fn start(&self, program: Program) -> Result<Started, SpawnError> {
        Ok(self.capture(ProcessTree::spawn(self.specify(program)).await?))
    }

    /// The same, but does not wait: whether it was executed is known in the end only.
    pub(crate) fn start_ahead(&self, program: Program) -> Result<Started, SpawnError> {
        Ok(self.capture(ProcessTree::start(self.specify(program))?))
    }

    fn specify(&self, program: Program) -> ProcessSpec {
        let cgroup = self.cgroups.as_ref().and_then(|cgroups| {
            // The tree is held without a cgroup, too.
            cgroups.take().inspect_err(|error| tracing::warn!(%error, "failed to make a cgroup")).ok()
        });
        ProcessSpec {
            program: program.program,
            arguments: program.arguments,
            environment: program.environment,
            directory: self.workspace.directory().to_owned(),
            control: program.control,
            cgroup,
            user: None,
        }
    }

    fn capture(&self, mut tree: ProcessTree) -> Started {
        let pipes = tree.take_stdout().zip(tree.take_stderr());
        let (stdout, stderr) = pipes.expect("a new tree has both pipes");
        let capture = Capture::start(stdout, stderr, self.output.clone());
        Started { tree, capture }
    }
}

/// A time limit as the wire says it; zero: none.
pub(crate) fn time_limit(milliseconds: u32) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()))
}

/// Waits for a time limit to run out; without one, for ever.
pub(crate) async fn run_out(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => pending().await,
    }
}
