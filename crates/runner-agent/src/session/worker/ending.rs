//! How a conversation with a worker about a file ends.

use distributest_process::Exit;

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
