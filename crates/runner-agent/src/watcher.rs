//! The daemon's hold on a session process: leaves nothing behind when it ends.
//!
//! A session that is killed can't clean up, so somebody else must: the session is the root of a process tree, and
//! the tree is ended when its root has. The other way round, a session learns from the end of its control socket
//! that the daemon is gone.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::time::Duration;

use distributest_process::{
    Cgroup, Exit, ProcessSpec, ProcessTree, RecordedTree, SpawnError, TreeRecords, User, Variables,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

use crate::session::ResidentOptions;

/// This very program, even if its file has been replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Bytes of a session's log forwarded at a time.
const LOG_BYTES: usize = 4096;

/// How long the rest of a dead session's log is waited for.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// Why no session was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// The process did not start.
    #[error("failed to start a session")]
    Spawn(#[from] SpawnError),
}

/// How a session process is started.
pub(crate) struct SessionSpec {
    /// How it behaves.
    pub(crate) options: ResidentOptions,
    /// Who it runs as; `None`: as this process does.
    pub(crate) user: Option<User>,
    /// Its whole environment.
    pub(crate) environment: Variables,
    /// A cgroup for it and all it starts.
    pub(crate) cgroup: Option<Cgroup>,
    /// Where it is on record, should this process be killed along with it.
    pub(crate) records: TreeRecords,
}

/// A session process that is being watched. Dropping it kills everything the session ever started.
pub(crate) struct WatchedSession {
    tree: ProcessTree,
    /// Ends after the tree.
    _recorded: Option<RecordedTree>,
    log: JoinHandle<()>,
}

impl WatchedSession {
    /// Starts a session process. The socket is the way to talk to it.
    pub(crate) async fn start(spec: SessionSpec) -> Result<(Self, UnixStream), WatchError> {
        let mut tree = ProcessTree::spawn(ProcessSpec {
            program: OWN_PROGRAM.into(),
            arguments: session_arguments(spec.options),
            environment: spec.environment,
            directory: "/".into(),
            control: true,
            cgroup: spec.cgroup,
            user: spec.user,
        })
        .await?;
        // A full disk keeps nobody's tests from running.
        let recorded = spec.records.add(&tree).inspect_err(|error| {
            tracing::warn!(%error, "failed to put a session on record; a next agent would not find what it leaves");
        });
        let control = tree.take_control().expect("it was asked for");
        let stderr = tree.take_stderr().expect("a new tree has both pipes");
        let log = tokio::spawn(forward_log(stderr));
        Ok((WatchedSession { tree, _recorded: recorded.ok(), log }, control))
    }

    /// How the session's own process has ended, if it has.
    pub(crate) fn poll_exit(&self) -> Option<Exit> {
        self.tree.poll_exit()
    }

    /// The processes of the session and of all it started.
    pub(crate) async fn processes(&self) -> Vec<u32> {
        let below = self.tree.leaked(Duration::ZERO).await.unwrap_or_default();
        std::iter::once(self.tree.pid()).chain(below.into_iter().map(|process| process.pid)).collect()
    }

    /// Waits until the session's own process has ended.
    pub(crate) async fn exited(&self) -> Exit {
        self.tree.wait().await
    }

    /// Ends the session and everything it left: asks first, with `grace` to end in order; without any it kills at once.
    /// Returns how the session's own process ended, if even SIGKILL could end it.
    pub(crate) async fn end(&mut self, grace: Duration) -> Option<Exit> {
        if let Err(error) = self.tree.stop(grace).await {
            tracing::error!(%error, "failed to end what a session left");
        }
        let _ = tokio::time::timeout(LOG_PATIENCE, &mut self.log).await;
        self.tree.poll_exit()
    }
}

impl Drop for WatchedSession {
    fn drop(&mut self) {
        self.log.abort();
    }
}

/// The arguments that make this program a session process; see `cli::AgentArguments`.
fn session_arguments(options: ResidentOptions) -> Vec<OsString> {
    let slots = options.slots.to_string();
    let mut arguments = vec!["agent", "--session", "--slots", &slots];
    if options.cgroups {
        arguments.push("--cgroups");
    }
    if let Some(refusal) = options.refusal {
        arguments.extend(["--refuse", refusal.word()]);
    }
    arguments.into_iter().map(OsString::from).collect()
}

/// Passes a session's log on to this process's own standard error.
async fn forward_log(mut log: Receiver) {
    let mut buffer = vec![0; LOG_BYTES];
    while let Ok(count @ 1..) = log.read(&mut buffer).await {
        let _ = io::stderr().write_all(&buffer[..count]);
    }
}
