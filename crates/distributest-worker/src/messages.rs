//! What agent and worker say to each other: the lines of `proto/worker.md`.

use std::borrow::Cow;

use distributest_core::test_result::TestResult;
use serde::{Deserialize, Serialize};

use crate::link::Spent;
use crate::text::{one_line, shorten};

/// What the agent says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Order {
    /// Run a file.
    Run(RunOrder),
    /// End.
    Quit,
}

/// A file to run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct RunOrder {
    /// Its path, relative to the current directory.
    pub(crate) file: String,
    /// Ids of the tests of it to run; none: all.
    #[serde(default)]
    pub(crate) tests: Vec<String>,
}

/// What the worker says.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Message<'a> {
    /// The first file may come.
    Ready { protocol: u32, framework: &'a str, version: &'a str, runtime: &'a str },
    /// It can't work here.
    Unable { message: &'a str, hint: &'a str },
    /// A test ended.
    Test(TestLine<'a>),
    /// The file ended.
    Finished {
        outcome: FileOutcome,
        message: Cow<'a, str>,
        details: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        processor_seconds: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peak_memory_bytes: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
}

/// A test as it is written.
#[derive(Serialize)]
pub(crate) struct TestLine<'a> {
    id: &'a str,
    name: &'a str,
    status: &'static str,
    seconds: f64,
    message: Cow<'a, str>,
    details: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

impl<'a> From<&'a TestResult> for Message<'a> {
    fn from(test: &'a TestResult) -> Self {
        Message::Test(TestLine {
            id: &test.id,
            name: &test.name,
            status: test.status.word(),
            seconds: test.duration.as_secs_f64(),
            message: one_line(&test.message),
            details: shorten(&test.details),
            file: test.file.as_deref(),
            line: test.line,
        })
    }
}

/// What came of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileOutcome {
    /// Every test held.
    Passed,
    /// One did not, or the framework found fault otherwise.
    Failed,
    /// It did not load, or could not be started.
    Broken,
    /// The process that ran it died.
    Crashed,
}

/// How a file ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// What came of it.
    pub(crate) outcome: FileOutcome,
    /// One line on it; may be empty.
    pub(crate) message: String,
    /// Many lines on it; may be empty.
    pub(crate) details: String,
}

impl Finished {
    /// The tests' answer, with one line on it.
    pub(crate) fn new(outcome: FileOutcome, message: impl Into<String>) -> Self {
        Finished { outcome, message: message.into(), details: String::new() }
    }

    /// The same with many lines.
    pub(crate) fn with_details(self, details: impl Into<String>) -> Self {
        Finished { details: details.into(), ..self }
    }
}

impl<'a> Message<'a> {
    /// The end of a file, and what its programs used.
    pub(crate) fn finished(finished: &'a Finished, spent: &Spent) -> Self {
        Message::Finished {
            outcome: finished.outcome,
            message: one_line(&finished.message),
            details: shorten(&finished.details),
            processor_seconds: spent.usage.processor.map(|time| time.as_secs_f64()),
            peak_memory_bytes: spent.usage.peak_memory,
            signal: spent.signal,
        }
    }
}
