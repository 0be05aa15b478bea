//! What a framework said about one test.

use std::time::Duration;

/// What a framework said about one test, in words every framework's own can be mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TestStatus {
    /// It ran and held.
    Passed,
    /// It ran and an expectation did not hold.
    Failed,
    /// It could not be judged: its setup or teardown raised.
    Error,
    /// It was not run, on purpose.
    Skipped,
    /// It failed as it was said to: pytest's xfail, RSpec's pending.
    ExpectedFailure,
    /// It was expected to fail, passed, and its framework does not count that as a failure.
    UnexpectedPass,
}

impl TestStatus {
    /// Every status, in the order summaries show them.
    pub const ALL: [TestStatus; 6] = [
        TestStatus::Passed,
        TestStatus::Failed,
        TestStatus::Error,
        TestStatus::Skipped,
        TestStatus::ExpectedFailure,
        TestStatus::UnexpectedPass,
    ];

    /// The word for this status in the worker protocol, in JSON lines and in the history.
    pub fn word(self) -> &'static str {
        match self {
            TestStatus::Passed => "passed",
            TestStatus::Failed => "failed",
            TestStatus::Error => "error",
            TestStatus::Skipped => "skipped",
            TestStatus::ExpectedFailure => "expected_failure",
            TestStatus::UnexpectedPass => "unexpected_pass",
        }
    }

    /// The status a word stands for; `None` for an unknown word.
    pub fn from_word(word: &str) -> Option<TestStatus> {
        TestStatus::ALL.into_iter().find(|status| status.word() == word)
    }

    /// Whether a test with this status makes its file fail.
    pub fn is_failure(self) -> bool {
        matches!(self, TestStatus::Failed | TestStatus::Error)
    }
}

/// One test's result as its framework reported it.
#[derive(Clone, Debug, PartialEq)]
pub struct TestResult {
    /// The id the framework understands: `tests/test_a.py::test_one[1]`, `./spec/a_spec.rb[1:2]`.
    pub id: String,
    /// The name people read.
    pub name: String,
    /// What the framework said.
    pub status: TestStatus,
    /// Time the test took, setup and teardown included.
    pub duration: Duration,
    /// One line: what went wrong or why it was skipped. Empty where there is nothing to say.
    pub message: String,
    /// The framework's whole account of a failure, many lines. Empty where there is nothing to say.
    pub details: String,
    /// Where the test stands, relative to the project; `None` where the framework does not say.
    pub file: Option<String>,
    /// Line in that file, from 1.
    pub line: Option<u32>,
}
