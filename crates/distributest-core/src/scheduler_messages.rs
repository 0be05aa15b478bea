//! What goes into the scheduler and what comes out: the contract between the pure core and the driver.

use std::time::Duration;

use crate::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};
use crate::outcome::{Interruption, Outcome, Verdict};

/// Something that happened. Sent by the driver, in the order it learned of it.
///
/// Late arrivals are normal on a network: an event about an attempt that is already decided, or from a runner
/// or host that is already gone, changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A runner waits for work, for the first time: it is free again by the end of its attempts. Sent after
    /// its host's `HostExpected`. Promised reply: a [`Command::Dispatch`] as soon as there is a file for it.
    RunnerReady {
        /// The runner; its number is at most what `HostExpected` said.
        runner: RunnerId,
    },
    /// A worker can run the files of this launch, on whichever runner. Sent before the `RunnerReady` of a runner whose first
    /// worker it is, and before the `AttemptStarted` of the first file it is given. Promised reply, to the first one of each
    /// launch: [`Command::Reuse`] for every file that it need not run.
    WorkerReady {
        /// The launch.
        launch: LaunchId,
        /// The versions of its framework and interpreter; `None` when it does not say.
        versions: Option<String>,
    },
    /// A runner, ready or still awaited, takes no more work; its attempt, if it has one, is interrupted by
    /// this.
    RunnerLost {
        /// The runner.
        runner: RunnerId,
        /// What happened, for the verdicts of files that can now not be run.
        reason: String,
    },
    /// A runner, ready or still awaited, can't run the files of this launch, now or later, and goes on with those
    /// of others. If its attempt is one of them, that ends as any other, at no cost for its file.
    LaunchUnavailable {
        /// The runner.
        runner: RunnerId,
        /// What it can't run.
        launch: LaunchId,
        /// Why, for the verdicts of files that can now not be run.
        reason: String,
    },
    /// A host will take part with this many runners, each of which announces itself. Sent once per host.
    HostExpected {
        /// The host.
        host: HostId,
        /// Runners to wait for before concluding that no runner is left.
        runners: u16,
        /// How many attempts each of them takes beside the one it is at work on.
        queue: u16,
        /// Bytes of memory for the tests of all of them together; `None` where nobody knows.
        memory: Option<u64>,
    },
    /// A host takes no part, or no longer: all its runners are lost, and their attempts are interrupted by
    /// this. Every host is either announced by `HostExpected` or given up by this, sooner or later.
    HostLost {
        /// The host.
        host: HostId,
        /// What happened.
        reason: String,
    },
    /// The connection to a host broke, and is being made anew: its runners are gone, their attempts are interrupted by
    /// this, and the host is awaited again, as if nothing had been heard from it.
    HostAway {
        /// The host.
        host: HostId,
        /// What happened.
        reason: String,
    },
    /// Nothing was heard from a host for longer than it should be silent; it may speak again or be lost.
    HostSilent {
        /// The host.
        host: HostId,
    },
    /// A silent host spoke. Sent before whatever it said.
    HostHeard {
        /// The host.
        host: HostId,
    },
    /// The time that the scheduler asked for has come.
    TimePassed,
    /// The agent started the attempt's process.
    AttemptStarted {
        /// The attempt.
        attempt: AttemptId,
    },
    /// The tests answered. The runner goes on with its next attempt, or is free again.
    AttemptFinished {
        /// The attempt.
        attempt: AttemptId,
        /// Their answer.
        outcome: Outcome,
        /// Time from start to end on the host's clock.
        duration: Duration,
        /// The kernel killed its process because there was no memory left.
        out_of_memory: bool,
    },
    /// The attempt ended without an answer. The runner goes on with its next attempt or is free again, unless a `RunnerLost`
    /// says otherwise.
    AttemptInterrupted {
        /// The attempt.
        attempt: AttemptId,
        /// What befell it.
        interruption: Interruption,
        /// The reason in words.
        reason: String,
    },
    /// The user asked to stop: nothing new starts, what runs is cancelled.
    StopRequested,
}

/// Something to do. Carried out by the driver in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Send this file to this runner. Promised reply: `AttemptFinished`, `AttemptInterrupted`, or the loss of
    /// its runner or host.
    Dispatch {
        /// New, never used before.
        attempt: AttemptId,
        /// The file to run.
        file: FileId,
        /// An idle runner, or a busy one that makes it after those it has.
        runner: RunnerId,
        /// With nothing left from files before it: the file is tried again after it failed, and the runner's worker may
        /// have had a part in that.
        fresh: bool,
        /// Its runner is busy.
        queued: bool,
    },
    /// End this attempt's processes: the run ends, or another attempt at the file was first. Promised reply as for
    /// `Dispatch`.
    Cancel {
        /// A live attempt.
        attempt: AttemptId,
    },
    /// Take this attempt back if its runner has not begun with it. Promised reply: `AttemptInterrupted`; or, if it has, as
    /// for `Dispatch`.
    Withdraw {
        /// An attempt that was sent to a busy runner.
        attempt: AttemptId,
    },
    /// Nothing to carry out: the file of this attempt, which takes too long, is given to another host as well by the
    /// `Dispatch` that follows.
    Double {
        /// A live attempt.
        attempt: AttemptId,
    },
    /// This file is decided, once and for all.
    Decide {
        /// The file.
        file: FileId,
        /// Its verdict.
        verdict: Verdict,
        /// The attempt whose outcome counted.
        attempt: Option<AttemptId>,
        /// The attempts before it that failed, in order.
        failed_before: Vec<AttemptId>,
    },
    /// This file is decided, once and for all: it passed in an earlier run with the same inputs, and is not run.
    Reuse {
        /// The file.
        file: FileId,
        /// Which of the passes counts that the run was told of, from 0.
        pass: usize,
    },
    /// Nothing to carry out: a host that fails what others pass is given nothing for now, and its last failures don't
    /// count.
    Fence {
        /// The host.
        host: HostId,
        /// How many they are.
        failures: u32,
    },
    /// Nothing to carry out: a fenced host takes part again.
    Readmit {
        /// The host.
        host: HostId,
    },
    /// Nothing to carry out: a host is given nothing but this file, which the kernel killed for lack of memory when it was
    /// not alone.
    Reserve {
        /// The host.
        host: HostId,
        /// The file.
        file: FileId,
    },
    /// Nothing to carry out: a reserved host is given files as any other again, unless it is gone.
    Release {
        /// The host.
        host: HostId,
    },
    /// Every file is decided. Last command.
    Finish,
}
