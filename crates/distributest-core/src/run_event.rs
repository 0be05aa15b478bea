//! What happened in a run, as reporters and journals are told it.
//!
//! The driver is the only sender. Events of one attempt come in the order started, tests, finished; output
//! belongs to a *block* (one attempt, one hook, one worker's start) and comes before the event that closes
//! the block. An attempt that was dispatched gets exactly one [`RunEvent::AttemptFinished`], before or after
//! the verdict it leads to (its output may lag), but its tests always come before both. Every discovered file
//! gets exactly one [`RunEvent::FileVerdict`], and [`RunEvent::RunFinished`] is last.
//!
//! A run that continues a former one says so right after its start ([`RunEvent::RunResumed`]), and then what the former
//! run found out: for each file it finished the tests, the end of each attempt (no start, no output) and the verdict.
//! Such attempts are known by their numbers ([`AttemptId::is_of_former_run`]); they took no time of this run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::{AttemptId, FileId, HostId, RunnerId};
use crate::outcome::{Interruption, Outcome, Verdict};
use crate::test_result::TestResult;
use crate::usage::Usage;

/// An output block: what one attempt, hook or worker start wrote, kept together in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId {
    /// The host whose agent numbered the block.
    pub host: HostId,
    /// The agent's number for it, never reused within a run.
    pub number: u64,
}

/// Which of a process's two outputs bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// Once per host and run.
    NodeSetup,
    /// Once per runner.
    RunnerSetup,
}

impl HookKind {
    /// The hook's file name.
    pub fn word(self) -> &'static str {
        match self {
            HookKind::NodeSetup => "node_setup",
            HookKind::RunnerSetup => "runner_setup",
        }
    }
}

/// A host of the run, as far as it is known before it answers.
#[derive(Clone, Debug, PartialEq)]
pub struct HostPlan {
    /// The name the user wrote: `localhost` or anything `ssh NAME` accepts.
    pub name: String,
    /// Runners asked for; `None` while it is the host's number of cores. `Some(0)`: it takes no part, and is known for the
    /// files that a former run finished there.
    pub runners: Option<u16>,
}

impl HostPlan {
    /// Whether the run uses the host.
    pub fn takes_part(&self) -> bool {
        self.runners != Some(0)
    }
}

/// A test file of the run, with what the plan knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct FilePlan {
    /// Project-relative path with `/`; for a name that is not UTF-8, its lossy form.
    pub path: String,
    /// The framework that runs it.
    pub framework: String,
    /// Ids of the tests to run; empty: all of them.
    pub tests: Vec<String>,
    /// Seconds it should take; `None` where there is nothing to go by.
    pub predicted: Option<Duration>,
    /// Which part of the file it is, where the file is split by its tests: the others stand in the same list with the
    /// same path.
    pub part: Option<FilePart>,
}

/// A part of a file that is split by its tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// From 1.
    pub number: u32,
    /// How many parts the file has.
    pub of: u32,
}

/// How one attempt ended, with everything its block's closing line says.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptReport {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its file.
    pub file: FileId,
    /// Where it ran.
    pub runner: RunnerId,
    /// What came of it.
    pub result: AttemptResult,
    /// From start to end, on the host's monotonic clock.
    pub duration: Duration,
    /// What it used.
    pub usage: Usage,
    /// A line on why the file is broken, crashed or interrupted; empty otherwise.
    pub message: String,
    /// Many lines on the same (a load error's backtrace, say); empty otherwise.
    pub details: String,
    /// Processes that outlived the attempt and were killed: `pid command`.
    pub leaked: Vec<String>,
    /// Its output block.
    pub block: Option<BlockId>,
}

/// How far a host is counted on, as it changes in the middle of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostChange {
    /// Nothing was heard from it for this long. What it has is run elsewhere as well; the first answer counts.
    Silent(Duration),
    /// It is heard again after a silence.
    Heard,
    /// The connection to it broke, for this reason, and is being made anew; attempts on it are interrupted separately.
    Away(String),
    /// More of its files failed in a row than fail on a sound host: it is given nothing for now, and those files are run
    /// elsewhere, where there is an elsewhere, before they count.
    Fenced {
        /// How many they are.
        failures: u32,
    },
    /// It is given files again after it was fenced.
    Readmitted,
    /// The kernel killed a file for lack of memory, and this host is given nothing else until it has run it alone.
    Reserved {
        /// The file's path.
        file: String,
    },
    /// It is given files again after it was reserved for one.
    Released,
}

impl HostChange {
    /// The word for this change in JSON lines.
    pub fn word(&self) -> &'static str {
        match self {
            HostChange::Silent(_) => "silent",
            HostChange::Heard => "heard",
            HostChange::Away(_) => "away",
            HostChange::Fenced { .. } => "fenced",
            HostChange::Readmitted => "readmitted",
            HostChange::Reserved { .. } => "reserved",
            HostChange::Released => "released",
        }
    }
}

/// The same as a sentence about the host.
impl fmt::Display for HostChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostChange::Silent(silence) => {
                let seconds = silence.as_secs();
                write!(
                    formatter,
                    "nothing was heard from it for {seconds} s, its files run elsewhere as well"
                )
            }
            HostChange::Heard => formatter.write_str("it is heard again"),
            HostChange::Away(reason) => write!(formatter, "{reason}; connecting anew"),
            HostChange::Fenced { failures } => write!(
                formatter,
                "its last {failures} files failed while others pass theirs: those run again elsewhere, and it gets no more until it passes one; the log has what they said there"
            ),
            HostChange::Readmitted | HostChange::Released => formatter.write_str("it gets files again"),
            HostChange::Reserved { file } => {
                write!(formatter, "{file} ran out of memory beside others: it runs here once more, alone")
            }
        }
    }
}

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The tests gave an answer.
    Outcome(Outcome),
    /// They did not get to.
    Interrupted(Interruption),
}

/// What a host had to spend: the ledger of one host in the summary.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSummary {
    /// The host's name.
    pub name: String,
    /// Runners that became ready.
    pub runners: u16,
    /// Files whose outcome came from here.
    pub files: u32,
    /// Time its runners spent on attempts, added up.
    pub busy: Duration,
    /// Why the host or some of its runners took no part, or not in everything; empty when all is well.
    pub problems: Vec<String>,
}

/// The ledger of a run: discovered = the sum of all verdicts.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// From the command's start to the last verdict.
    pub wall: Duration,
    /// From the first attempt's start to the last verdict.
    pub testing: Duration,
    /// `max(total / runners, longest)` over this run's real durations: no schedule could test faster.
    pub lower_bound: Duration,
    /// What the runners did from the command's start to the last verdict.
    pub runner_time: RunnerTime,
    /// Files discovered.
    pub files: u32,
    /// Files per outcome, in the order of [`Outcome::ALL`].
    pub outcomes: [u32; 5],
    /// Files that passed after an attempt that failed; they are not among the passed ones.
    pub flaky: u32,
    /// Files that were not run because they passed in an earlier run with the same inputs.
    pub cached: u32,
    /// Files with no outcome.
    pub not_run: u32,
    /// Workers that failed as they ended, which is no file's verdict.
    pub failed_ends: u32,
    /// Tests per status, those of cached files among them, in the order of [`crate::test_result::TestStatus::ALL`].
    pub tests: [u64; 6],
    /// One entry per configured host.
    pub hosts: Vec<HostSummary>,
    /// The exit status this run deserves.
    pub exit_status: u8,
}

/// What the runners that became ready did, summed up over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunnerTime {
    /// Until each was ready: connecting, copying, hooks, loading.
    pub preparing: Duration,
    /// Test files, those that came to nothing included.
    pub testing: Duration,
    /// From each one's last file to the last verdict: there was nothing left for it.
    pub waiting: Duration,
    /// The rest: from one file to the next.
    pub between: Duration,
}

impl RunnerTime {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.preparing + self.testing + self.waiting + self.between
    }
}

/// The run that a run continues, and how far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerRun {
    /// Its name.
    pub run: String,
    /// How long ago it began.
    pub age: Duration,
    /// Files that it finished and that are not run again.
    pub finished: u32,
    /// Those of them that did not pass.
    pub failed: u32,
    /// Files that it finished and that are run again because they have changed since.
    pub changed: u32,
    /// Files to run, those that have changed among them.
    pub left: u32,
    /// The aggregated logs with what the finished files wrote.
    pub logs: Vec<String>,
}

/// A pass of a file in an earlier run, which stands for it in this one.
#[derive(Clone, Debug, PartialEq)]
pub struct EarlierPass {
    /// The name of that run.
    pub run: String,
    /// Where it ran.
    pub host: String,
    /// When it finished: milliseconds since the Unix epoch.
    pub finished_at_unix_ms: i64,
    /// How long it took.
    pub duration: Duration,
    /// Its tests. What they said in words, and where they stand, is not known any more.
    pub tests: Vec<TestResult>,
}

/// One thing that happened in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent {
    /// First event. Files stand in the order the plan will hand them out; [`FileId`] is the index here.
    RunStarted {
        /// Unique among this user's runs; also in `DISTRIBUTEST_RUN`.
        run: String,
        /// The project's name.
        project: String,
        /// The hosts; [`HostId`] is the index here.
        hosts: Vec<HostPlan>,
        /// The files, which everybody who needs their names shares.
        files: Arc<[FilePlan]>,
    },
    /// The run continues a former one; the events of the files that one finished follow at once.
    RunResumed(FormerRun),
    /// What a host is busy with before its runners are ready, for the live view: "syncing", "node_setup".
    HostProgress {
        /// The host.
        host: HostId,
        /// A few words in the present participle.
        activity: String,
    },
    /// The host is connected and its agent answered.
    HostConnected {
        /// The host.
        host: HostId,
        /// How: `private agent`, `resident agent 0.1.0`.
        agent: String,
        /// Cores it reports.
        cores: u16,
        /// Runners it will start.
        runners: u16,
    },
    /// The host takes no part, or no longer; attempts on it are interrupted separately.
    HostFailed {
        /// The host.
        host: HostId,
        /// What failed and why, one chain.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The project was copied to a host.
    HostSynced {
        /// The host.
        host: HostId,
        /// The number of the state of the project that it was given, from 1 for the one the run began with. Attempts on
        /// the host run this one until the next event of this kind.
        snapshot: u32,
        /// Why rsync had to copy it, instead of the few files that differ being sent; `None` where it had not.
        copied: Option<String>,
    },
    /// How far a host is counted on has changed.
    HostChanged {
        /// The host.
        host: HostId,
        /// What changed.
        change: HostChange,
    },
    /// A hook ended; its block is complete.
    HookFinished {
        /// The host.
        host: HostId,
        /// The runner it prepared; `None` for `node_setup`.
        runner: Option<RunnerId>,
        /// Which hook.
        hook: HookKind,
        /// `None` when it did its work, otherwise what went wrong.
        failure: Option<String>,
        /// It was not run because its declared inputs are unchanged.
        skipped: bool,
        /// How long it took.
        duration: Duration,
        /// Its output block.
        block: BlockId,
    },
    /// A worker left its preparation (ready or not); its block of output so far is complete.
    WorkerPrepared {
        /// The runner it lives in.
        runner: RunnerId,
        /// Its framework.
        framework: String,
        /// `None` when it is ready, otherwise what went wrong.
        failure: Option<String>,
        /// How long it took to load.
        duration: Duration,
        /// It was kept from an earlier run, which spared this one so much loading.
        saved: Option<Duration>,
        /// Its framework's and interpreter's versions, if it says both.
        versions: Option<String>,
        /// Its output block.
        block: BlockId,
    },
    /// A worker left behind its last file, and wrote something then, or what belongs to all of its files failed; its block
    /// is complete.
    WorkerEnded {
        /// The runner it lived in.
        runner: RunnerId,
        /// Its framework.
        framework: String,
        /// What the tests did wrong as it ended (the tear-down of a session's fixture raised, say). No file can be told of it
        /// any more, but the run is not fine.
        failure: Option<String>,
        /// Its output block.
        block: BlockId,
    },
    /// A runner waits for its first file.
    RunnerReady {
        /// The runner.
        runner: RunnerId,
        /// Its identifier, as hooks and tests see it.
        identifier: String,
    },
    /// A runner can't run the files of a framework, now or later; it goes on with those of others.
    LaunchUnavailable {
        /// The runner.
        runner: RunnerId,
        /// The framework.
        framework: String,
        /// Why.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A runner takes no part, or no longer.
    RunnerFailed {
        /// The runner.
        runner: RunnerId,
        /// What failed and why; `None` when it is only that it can run none of the run's frameworks, each of which
        /// was told by `LaunchUnavailable`.
        reason: Option<String>,
    },
    /// An attempt's process is at work.
    AttemptStarted {
        /// The attempt.
        attempt: AttemptId,
        /// Its file.
        file: FileId,
        /// Where.
        runner: RunnerId,
    },
    /// An attempt takes too long while runners of other hosts have nothing to do: its file is given to one of them as well.
    /// The first answer counts.
    AttemptDoubled {
        /// The attempt that takes too long.
        attempt: AttemptId,
        /// Its file.
        file: FileId,
        /// Where it is.
        runner: RunnerId,
    },
    /// A test of a running attempt ended.
    TestFinished {
        /// The attempt.
        attempt: AttemptId,
        /// Its file.
        file: FileId,
        /// What the framework said.
        test: TestResult,
    },
    /// Bytes a process wrote.
    Output {
        /// The block they belong to.
        block: BlockId,
        /// Where they were written.
        stream: OutputStream,
        /// The bytes, as they came.
        bytes: Vec<u8>,
    },
    /// An attempt ended and its block is complete.
    AttemptFinished(AttemptReport),
    /// A file is not run, because it passed in an earlier run with the same inputs. Its verdict, [`Verdict::Cached`], follows
    /// at once.
    FileCached {
        /// The file.
        file: FileId,
        /// What came of it then.
        pass: EarlierPass,
    },
    /// A file's one and only verdict. `attempt` is the one that decided it.
    FileVerdict {
        /// The file.
        file: FileId,
        /// Its verdict.
        verdict: Verdict,
        /// The attempt whose outcome counted.
        attempt: Option<AttemptId>,
        /// The attempts before it that failed, in order; not empty for a flaky file.
        failed_before: Vec<AttemptId>,
    },
    /// The user asked the run to stop; what runs is being ended.
    StopRequested,
    /// Something people should know that is nobody's verdict.
    Warning {
        /// The whole message.
        message: String,
    },
    /// Last event.
    RunFinished(RunSummary),
}
