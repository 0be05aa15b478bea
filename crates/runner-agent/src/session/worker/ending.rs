//! How a conversation with a worker about a file ends.

use distributest_core::outcome::Outcome;
use distributest_core::test_result::TestResult;
use distributest_process::Exit;
use distributest_protocol::conversions::test_to_wire;
use distributest_protocol::gathering::Haste;
use distributest_protocol::wire::agent_message::Kind;

use super::super::attempt::{Attempt, Ended};
use super::super::context::RunContext;
use super::super::time_limit::TimedOut;
use super::super::worker_messages::{FileOutcome, Finished, WorkerLinkError};

/// How a conversation about a file ended.
pub(super) enum Ending {
    Finished(Finished),
    TimedOut(TimedOut),
    Cancelled,
    Lost(WorkerLinkError),
    OutOfTurn,
    Exited {
        exit: Exit,
        /// How many tests it had told of.
        tests: usize,
    },
}

impl Ending {
    /// Whether the process that ran the file was killed, by nobody of ours.
    pub(super) fn was_killed(&self) -> bool {
        let signal = match self {
            Ending::Finished(finished) if finished.outcome == FileOutcome::Crashed => finished.signal,
            Ending::Exited { exit: Exit::Signal(signal), .. } => Some(*signal),
            _ => None,
        };
        signal == Some(rustix::process::Signal::KILL.as_raw())
    }
}

/// Passes on the tests of a file that was ended at its time limit. Returns the id of the one that was running.
pub(super) async fn tell_what_timed_out(
    context: &RunContext,
    attempt: &Attempt,
    mut tests: Vec<TestResult>,
) -> Option<String> {
    let running = tests.iter_mut().find(|test| test.status.is_failure());
    let id = running.map(|test| {
        test.message = "timed out".to_owned();
        test.id.clone()
    });
    for test in tests {
        context.updates.send_in(Haste::Soon, Kind::TestFinished(test_to_wire(attempt.number, test))).await;
    }
    id
}

/// What came of a file by the worker's own word.
pub(super) fn from_finished(finished: Finished) -> Ended {
    let outcome = match finished.outcome {
        FileOutcome::Passed => Outcome::Passed,
        FileOutcome::Failed => Outcome::Failed,
        FileOutcome::Broken => Outcome::Broken,
        FileOutcome::Crashed => Outcome::Crashed,
    };
    let (details, collected, usage) = (finished.details, finished.collected, finished.usage);
    Ended { details, collected, usage, ..Ended::outcome(outcome, finished.message) }
}
