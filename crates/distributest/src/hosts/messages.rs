//! What hosts tell the driver and what the driver orders: the only things that pass between them.

use std::sync::Arc;
use std::time::Duration;

use distributest_core::identity::{AttemptId, HostId};
use distributest_core::run_event::{AttemptResult, HookKind, OutputStream};
use distributest_core::test_result::TestResult;
use distributest_core::usage::Usage;

use crate::plan::PlannedPart;

/// News of one host.
#[derive(Debug)]
pub struct HostNews {
    /// The host.
    pub host: HostId,
    /// What happened there.
    pub news: News,
}

/// An agent's output block: its number there, and the bytes that make it complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentBlock {
    /// Unique on its host within the run.
    pub number: u64,
    /// Bytes written to it in all.
    pub bytes: u64,
}

/// Something that failed on a host, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFailure {
    /// What failed and why, one chain.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What happened on a host.
#[derive(Debug)]
pub enum News {
    /// What the host is busy with before its runners are ready.
    Progress(String),
    /// It has the project.
    Synced {
        /// The number of the state it was given.
        snapshot: u32,
        /// Why rsync had to copy it; `None` where it had not.
        copied: Option<String>,
    },
    /// Nothing was heard from its agent for this long.
    Silent(Duration),
    /// Nothing was heard from the agent for a while after it was told that the run is over.
    Quiet,
    /// A silent agent is heard again; what it says follows.
    Heard,
    /// The connection to its agent broke, after the last piece of its output; another one is being made. What comes next
    /// is [`News::Connected`] or [`News::Ended`].
    Away {
        /// Why.
        failure: HostFailure,
        /// The numbers of the connection's blocks are below this one, those of later connections are not.
        next_block: u64,
    },
    /// Its agent answered; this many runners will announce themselves or fail.
    Connected {
        /// Words for people: `private agent`, `resident agent 0.1.0`.
        agent: String,
        /// The host's cores.
        cores: u16,
        /// Runners it was asked to start.
        runners: u16,
        /// How many attempts each of them takes beside the one it is at work on.
        queue: u16,
        /// Bytes of memory for tests, if it knows.
        memory: Option<u64>,
    },
    /// A hook ended.
    HookFinished {
        /// `None`: `node_setup`.
        runner: Option<u16>,
        /// Which hook.
        hook: HookKind,
        /// What went wrong, if anything.
        failure: Option<HostFailure>,
        /// Not run: its inputs are unchanged.
        skipped: bool,
        /// How long it took.
        duration: Duration,
        /// Its output.
        block: AgentBlock,
    },
    /// A worker is ready, or could not be started.
    WorkerPrepared {
        /// Its runner.
        runner: u16,
        /// Its framework.
        framework: String,
        /// What went wrong, if anything.
        failure: Option<HostFailure>,
        /// How long it took to load.
        duration: Duration,
        /// It was kept from an earlier run, in which loading took so long.
        saved: Option<Duration>,
        /// Its framework's and interpreter's versions, if it says both.
        versions: Option<String>,
        /// Its output so far.
        block: AgentBlock,
    },
    /// A worker left and wrote something after its last file, or failed in that.
    WorkerEnded {
        /// Its runner.
        runner: u16,
        /// Its framework.
        framework: String,
        /// What the tests did wrong then, if anything.
        failure: Option<String>,
        /// What it wrote.
        block: AgentBlock,
    },
    /// A runner waits for its first file.
    RunnerReady {
        /// The runner.
        runner: u16,
        /// Its identifier.
        identifier: String,
    },
    /// A runner can't run the files of a launch, now or later.
    LaunchUnavailable {
        /// The runner.
        runner: u16,
        /// Index into the run's launches.
        launch: u32,
        /// Why.
        failure: HostFailure,
    },
    /// A runner takes no more files.
    RunnerFailed {
        /// The runner.
        runner: u16,
        /// Why; `None` when it can run none of the launches.
        failure: Option<HostFailure>,
    },
    /// An attempt's process is at work.
    AttemptStarted {
        /// The attempt.
        attempt: AttemptId,
        /// The number of its output block.
        block: u64,
    },
    /// One test of an attempt ended.
    TestFinished(AttemptId, TestResult),
    /// An attempt ended.
    AttemptFinished(FinishedAttempt),
    /// The last news, after the last piece of output: the run is over there, or the host is lost.
    Ended(Result<(), HostFailure>),
}

/// How an attempt ended, as its agent tells it.
#[derive(Debug)]
pub struct FinishedAttempt {
    /// The attempt.
    pub attempt: AttemptId,
    /// What came of it.
    pub result: AttemptResult,
    /// From start to end on the host's monotonic clock.
    pub duration: Duration,
    /// What it used.
    pub usage: Usage,
    /// The kernel killed its process for lack of memory.
    pub out_of_memory: bool,
    /// One line on a result that needs one.
    pub message: String,
    /// Many lines on the same.
    pub details: String,
    /// Processes that outlived it and were killed.
    pub leaked: Vec<String>,
    /// Of a part of a file: a digest of the ids of all tests its worker has seen in the file; otherwise empty.
    pub collected: String,
    /// Its output; `None` when nothing was started.
    pub block: Option<AgentBlock>,
}

/// Bytes that a hook, worker or test wrote.
#[derive(Debug)]
pub struct OutputPiece {
    /// Where.
    pub host: HostId,
    /// The agent's number of the block they belong to.
    pub block: u64,
    /// To which of its two outputs.
    pub stream: OutputStream,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// An order to a host.
#[derive(Clone, Debug)]
pub struct HostOrder {
    /// How many sessions of the host the driver knows to have been lost: what was ordered of those is void.
    pub session: u32,
    /// What to do.
    pub order: Order,
}

/// What the driver wants a host to do.
#[derive(Clone, Debug)]
pub enum Order {
    /// Run this file on this runner.
    Dispatch {
        /// Never used before.
        attempt: AttemptId,
        /// A runner that is ready.
        runner: u16,
        /// Index into the run's launches.
        launch: u32,
        /// Project-relative path.
        file: String,
        /// Ids of the tests to run; empty: all of them.
        tests: Vec<String>,
        /// The part of the file to run; `None`: all of it.
        part: Option<Arc<PlannedPart>>,
        /// On a worker that no file has run on.
        fresh: bool,
        /// The longest silence; `None`: no limit.
        timeout: Option<Duration>,
        /// How long the file should take, if that is known.
        expected: Option<Duration>,
    },
    /// End this attempt's processes.
    Cancel(AttemptId),
    /// The same, unless its runner has begun with it.
    Withdraw(AttemptId),
    /// No more files: end the run there.
    EndRun,
}
