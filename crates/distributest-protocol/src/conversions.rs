//! Wire messages to core types and back.

use std::fmt;
use std::time::Duration;

use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::run_event::AttemptResult;
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_core::usage::Usage;

use crate::wire;
use crate::wire::attempt_finished::Result as WireResult;

/// A message that keeps the wire's shape but not its contract.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MalformedMessage {
    /// A test with a status word nobody defined.
    #[error("a test came with the unknown status {0:?}")]
    UnknownStatus(String),
    /// An attempt without a result.
    #[error("attempt {0} came back without a result")]
    MissingResult(u64),
}

/// A duration as the wire counts it. Saturates after half a million years.
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A duration as the wire counts time limits. Saturates after 49 days, the largest limit there is.
pub fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The wire's form of a test's result.
pub fn test_to_wire(attempt: u64, test: TestResult) -> wire::TestFinished {
    wire::TestFinished {
        attempt,
        id: test.id,
        name: test.name,
        status: test.status.word().to_owned(),
        duration_microseconds: microseconds(test.duration),
        message: test.message,
        details: test.details,
        file: test.file.unwrap_or_default(),
        line: test.line.unwrap_or_default(),
    }
}

impl TryFrom<wire::TestFinished> for TestResult {
    type Error = MalformedMessage;

    fn try_from(test: wire::TestFinished) -> Result<TestResult, MalformedMessage> {
        let Some(status) = TestStatus::from_word(&test.status) else {
            return Err(MalformedMessage::UnknownStatus(test.status));
        };
        Ok(TestResult {
            id: test.id,
            name: test.name,
            status,
            duration: Duration::from_micros(test.duration_microseconds),
            message: test.message,
            details: test.details,
            file: (!test.file.is_empty()).then_some(test.file),
            line: (test.line > 0).then_some(test.line),
        })
    }
}

/// An attempt's end, with nothing but what came of it and what it used.
pub fn finished_to_wire(attempt: u64, result: AttemptResult, usage: Usage) -> wire::AttemptFinished {
    wire::AttemptFinished {
        attempt,
        result: result_to_wire(result).into(),
        processor_microseconds: usage.processor.map(microseconds),
        peak_memory_bytes: usage.peak_memory,
        ..Default::default()
    }
}

/// What an attempt used.
pub fn usage_from_wire(finished: &wire::AttemptFinished) -> Usage {
    Usage {
        processor: finished.processor_microseconds.map(Duration::from_micros),
        peak_memory: finished.peak_memory_bytes,
    }
}

/// The wire's form of what came of an attempt.
fn result_to_wire(result: AttemptResult) -> WireResult {
    match result {
        AttemptResult::Outcome(Outcome::Passed) => WireResult::Passed,
        AttemptResult::Outcome(Outcome::Failed) => WireResult::Failed,
        AttemptResult::Outcome(Outcome::Broken) => WireResult::Broken,
        AttemptResult::Outcome(Outcome::TimedOut) => WireResult::TimedOut,
        AttemptResult::Outcome(Outcome::Crashed) => WireResult::Crashed,
        AttemptResult::Interrupted(Interruption::Cancelled) => WireResult::Cancelled,
        AttemptResult::Interrupted(Interruption::FileGone) => WireResult::FileGone,
        // An agent that can still speak has not lost its host.
        AttemptResult::Interrupted(Interruption::RunnerLost | Interruption::HostLost) => {
            WireResult::RunnerLost
        }
    }
}

/// What came of an attempt.
///
/// # Errors
///
/// When the message carries no result, or one from a later version.
pub fn result_from_wire(finished: &wire::AttemptFinished) -> Result<AttemptResult, MalformedMessage> {
    Ok(match finished.result() {
        WireResult::Passed => AttemptResult::Outcome(Outcome::Passed),
        WireResult::Failed => AttemptResult::Outcome(Outcome::Failed),
        WireResult::Broken => AttemptResult::Outcome(Outcome::Broken),
        WireResult::TimedOut => AttemptResult::Outcome(Outcome::TimedOut),
        WireResult::Crashed => AttemptResult::Outcome(Outcome::Crashed),
        WireResult::RunnerLost => AttemptResult::Interrupted(Interruption::RunnerLost),
        WireResult::Cancelled => AttemptResult::Interrupted(Interruption::Cancelled),
        WireResult::FileGone => AttemptResult::Interrupted(Interruption::FileGone),
        WireResult::Unspecified => return Err(MalformedMessage::MissingResult(finished.attempt)),
    })
}

/// `failed to start worker pytest: No such file or directory`, without the hint.
impl fmt::Display for wire::Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "failed to {}", self.operation)?;
        if !self.subject.is_empty() {
            write!(formatter, " {}", self.subject)?;
        }
        if !self.cause.is_empty() {
            write!(formatter, ": {}", self.cause)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_result_survives_the_wire() {
        let outcomes = Outcome::ALL.map(AttemptResult::Outcome);
        let interruptions = [Interruption::RunnerLost, Interruption::Cancelled, Interruption::FileGone]
            .map(AttemptResult::Interrupted);
        for result in outcomes.into_iter().chain(interruptions) {
            let finished =
                wire::AttemptFinished { result: result_to_wire(result).into(), ..Default::default() };
            assert_eq!(result_from_wire(&finished), Ok(result));
        }
        assert_eq!(
            result_from_wire(&wire::AttemptFinished { attempt: 7, ..Default::default() }),
            Err(MalformedMessage::MissingResult(7))
        );
    }

    #[test]
    fn what_an_attempt_used_survives_the_wire_known_or_not() {
        let known = Usage { processor: Some(Duration::from_millis(7)), peak_memory: Some(0) };
        for usage in [known, Usage::default()] {
            let finished = finished_to_wire(1, AttemptResult::Outcome(Outcome::Passed), usage);
            assert_eq!(usage_from_wire(&finished), usage);
        }
    }

    #[test]
    fn every_test_status_survives_the_wire() {
        for status in TestStatus::ALL {
            let test = TestResult {
                id: "a::b".into(),
                name: "b".into(),
                status,
                duration: Duration::from_millis(3),
                message: "m".into(),
                details: String::new(),
                file: Some("a".into()),
                line: None,
            };
            assert_eq!(TestResult::try_from(test_to_wire(1, test.clone())), Ok(test));
        }
    }

    #[test]
    fn a_failure_reads_as_a_sentence() {
        let failure = wire::Failure {
            operation: "start worker".into(),
            subject: "python3".into(),
            cause: "not found in PATH".into(),
            ..Default::default()
        };
        assert_eq!(failure.to_string(), "failed to start worker python3: not found in PATH");
    }
}
