//! One execution of one test file on one runner: its orders, and how it ended.

use std::time::Duration;

use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::run_event::AttemptResult;
use distributest_core::usage::{Usage, memory_in_words};
use distributest_protocol::conversions::{finished_to_wire, microseconds};
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use tokio_util::sync::CancellationToken;

use super::time_limit::{TimeLimit, TimedOut};

/// An attempt to make.
pub(crate) struct Attempt {
    /// Its number.
    pub(crate) number: u64,
    /// Index into the run's launches.
    pub(crate) launch: usize,
    /// Relative to the workspace.
    pub(crate) file: String,
    /// Ids of the tests of it to run; none: all.
    pub(crate) tests: Vec<String>,
    /// The part of it to run; without tests: all.
    pub(crate) part: wire::FilePart,
    /// Not on a worker that another file has run on.
    pub(crate) fresh_worker: bool,
    /// How long it may take, and be silent, once it has its slot.
    pub(crate) time_limit: Option<TimeLimit>,
    /// Cancelled when nobody wants its outcome any more, and when it is over.
    pub(crate) cancelled: CancellationToken,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.cancelled.cancel();
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What came of it.
    pub(crate) result: AttemptResult,
    /// One line on a result that needs one.
    pub(crate) message: String,
    /// Many lines on the same.
    pub(crate) details: String,
    /// From its start until it was over; what cleaning up took does not count.
    pub(crate) duration: Duration,
    /// What it used.
    pub(crate) usage: Usage,
    /// The kernel killed its process for lack of memory.
    pub(crate) out_of_memory: bool,
    /// Processes that outlived it and were killed.
    pub(crate) leaked: Vec<String>,
    /// Of a part of a file: what tells whether another part has seen the same tests; otherwise empty.
    pub(crate) collected: String,
    /// Its output; `None` when nothing was started.
    pub(crate) block: Option<wire::OutputBlock>,
}

impl Ended {
    /// The tests gave an answer.
    pub(crate) fn outcome(outcome: Outcome, message: impl Into<String>) -> Self {
        Ended::new(AttemptResult::Outcome(outcome), message.into())
    }

    /// They did not get to.
    pub(crate) fn interrupted(interruption: Interruption, message: impl Into<String>) -> Self {
        Ended::new(AttemptResult::Interrupted(interruption), message.into())
    }

    /// The time limit ended it.
    pub(crate) fn timed_out(timed_out: TimedOut) -> Self {
        Ended::outcome(Outcome::TimedOut, timed_out.to_string())
    }

    /// This test of it was running at the time.
    pub(crate) fn during(mut self, test: &str) -> Self {
        self.message.push_str(&format!(", while {test} ran"));
        self
    }

    /// Its process did not end as one whose tests passed.
    pub(crate) fn failed_at_its_end(self, message: String) -> Self {
        match self.result {
            AttemptResult::Outcome(Outcome::Passed) => {
                Ended { result: AttemptResult::Outcome(Outcome::Failed), message, ..self }
            }
            _ => self,
        }
    }

    /// The kernel killed its process for lack of memory, which is all there is to say of a crash but for `how` it died.
    pub(crate) fn out_of_memory(self, how: &str) -> Self {
        let peak = self.usage.peak_memory.map(|bytes| format!(" (peak {})", memory_in_words(bytes)));
        let colon = if how.is_empty() { "" } else { ": " };
        let peak = peak.unwrap_or_default();
        let message = format!("killed by the kernel for lack of memory{peak}{colon}{how}");
        let result = AttemptResult::Outcome(Outcome::Crashed);
        Ended { result, message, out_of_memory: true, ..self }
    }

    /// Nobody wanted its outcome any more.
    pub(crate) fn cancelled() -> Self {
        Ended::interrupted(Interruption::Cancelled, "cancelled")
    }

    fn new(result: AttemptResult, message: String) -> Self {
        Ended {
            result,
            message,
            details: String::new(),
            duration: Duration::ZERO,
            usage: Usage::default(),
            out_of_memory: false,
            leaked: Vec::new(),
            collected: String::new(),
            block: None,
        }
    }

    /// The message that closes the attempt.
    pub(crate) fn into_update(self, attempt: u64) -> Kind {
        Kind::AttemptFinished(wire::AttemptFinished {
            duration_microseconds: microseconds(self.duration),
            message: self.message,
            details: self.details,
            leaked: self.leaked,
            collected: self.collected,
            block: self.block,
            out_of_memory: self.out_of_memory,
            ..finished_to_wire(attempt, self.result, self.usage)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_can_cancel_an_attempt_learns_that_it_is_over() {
        let cancelled = CancellationToken::new();
        let attempt = Attempt {
            number: 1,
            launch: 0,
            file: "a_spec.rb".into(),
            tests: Vec::new(),
            part: wire::FilePart::default(),
            fresh_worker: false,
            time_limit: None,
            cancelled: cancelled.clone(),
        };
        assert!(!cancelled.is_cancelled());
        drop(attempt);
        assert!(cancelled.is_cancelled());
    }
}
