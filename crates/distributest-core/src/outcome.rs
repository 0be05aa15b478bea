//! Whose fault it was: outcomes are the tests', interruptions are not, and a verdict is final.

use std::fmt;

/// What the tests of one attempt said. The tests were run and this is their answer: it is never re-queued at no cost,
/// only as a retry or, after a crash, for a second opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Every test passed, was skipped, or failed as expected.
    Passed,
    /// At least one test failed.
    Failed,
    /// The file could not be loaded or executed, so its tests could not run.
    Broken,
    /// The time limit ended it.
    TimedOut,
    /// The process running it died of a signal or left without a word.
    Crashed,
}

impl Outcome {
    /// Every outcome, in the order summaries show them.
    pub const ALL: [Outcome; 5] =
        [Outcome::Passed, Outcome::Failed, Outcome::Broken, Outcome::TimedOut, Outcome::Crashed];

    /// The word for this outcome in logs, JSON lines, the worker protocol and the history.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Broken => "broken",
            Outcome::TimedOut => "timed out",
            Outcome::Crashed => "crashed",
        }
    }

    /// The outcome a word stands for; `None` for an unknown word.
    pub fn from_word(word: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.word() == word)
    }

    /// Whether the tests are fine.
    pub fn is_success(self) -> bool {
        self == Outcome::Passed
    }
}

/// What befell an attempt through no fault of its tests. Re-queued, at no retry cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interruption {
    /// The connection to the host broke before the outcome arrived.
    HostLost,
    /// The runner or its worker could not carry on, for a reason outside the file.
    RunnerLost,
    /// The run was told to stop, or the attempt was taken back.
    Cancelled,
    /// The file was not there any more when its turn came.
    FileGone,
}

impl Interruption {
    /// The word for this interruption in logs and JSON lines.
    pub fn word(self) -> &'static str {
        match self {
            Interruption::HostLost => "host lost",
            Interruption::RunnerLost => "runner lost",
            Interruption::Cancelled => "cancelled",
            Interruption::FileGone => "file gone",
        }
    }
}

/// Why a discovered file has no outcome. Anything not run makes the exit status non-zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NotRunReason {
    /// Its name is not valid UTF-8, which no framework's report can carry.
    UnusableName,
    /// No runner was left to run it; the text says what became of them.
    NoRunnerLeft(String),
    /// Runners are left, but none that can run it; the text says what the others lack.
    NoRunnerAble(String),
    /// Attempts on it were interrupted again and again; the text is the last reason.
    TooManyInterruptions(String),
    /// It was there when the run began, and not when its turn came; the text says where it was looked for.
    FileGone(String),
    /// The run was stopped (Ctrl-C, SIGTERM) before its turn came or while it ran.
    Stopped,
    /// As many files as `--fail-fast` allows had failed before its turn came or while it ran.
    FailedFast,
}

impl fmt::Display for NotRunReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotRunReason::UnusableName => {
                formatter.write_str("its name is not valid UTF-8; rename or exclude it")
            }
            NotRunReason::NoRunnerLeft(why) => write!(formatter, "no runner was left: {why}"),
            NotRunReason::NoRunnerAble(why) => write!(formatter, "no runner could run it: {why}"),
            NotRunReason::TooManyInterruptions(why) => {
                write!(formatter, "its attempts were interrupted too often, last: {why}")
            }
            NotRunReason::FileGone(place) => write!(formatter, "the file is gone: {place}"),
            NotRunReason::Stopped => formatter.write_str("the run was stopped"),
            NotRunReason::FailedFast => formatter.write_str("the run ended early because others failed"),
        }
    }
}

/// The final, single result of a test file in a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The tests gave their answer.
    Ran(Outcome),
    /// The tests passed, after an earlier attempt of the same run at which they did not.
    Flaky,
    /// The tests passed in an earlier run with the same inputs, and were not run in this one.
    Cached,
    /// There is no answer, and this is why.
    NotRun(NotRunReason),
}

impl Verdict {
    /// Whether the tests are not fine.
    pub fn has_failed(&self) -> bool {
        matches!(self, Verdict::Ran(outcome) if !outcome.is_success())
    }

    /// The word for this verdict in logs, JSON lines and the history.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Ran(outcome) => outcome.word(),
            Verdict::Flaky => "flaky",
            Verdict::Cached => "cached",
            Verdict::NotRun(_) => "not run",
        }
    }
}
