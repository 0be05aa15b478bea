//! The lines of a journal, and which of them to believe.
//!
//! The first line names the format. Every other is sixteen hexadecimal digits of the SHA-256 of what follows the blank
//! after them, and that is a JSON object. A later program that writes something else changes the number in the first line.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::time::Duration;

use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::test_result::{TestResult, TestStatus};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::identity::FileIdentity;

/// The first line of a journal of this format.
pub(super) const FORMAT: &[u8] = b"distributest journal 1\n";

/// What the first line of a journal of any format begins with.
const ANY_FORMAT: &[u8] = b"distributest journal ";

/// Digits of a checksum.
const DIGITS: usize = 16;

/// A line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// A run began, or went on with what is above.
    Begun(Begun),
    /// A file has its verdict.
    Finished(Box<FinishedFile>),
}

/// A run that writes a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Its name.
    pub run: String,
    /// When: milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The coordinator's process.
    pub process: u32,
    /// Its aggregated log.
    pub log: String,
    /// What was asked for.
    pub invocation: Invocation,
}

/// What was asked for on the command line, as far as a run that continues must do the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Paths and filters.
    pub paths: Vec<String>,
    /// Arguments for the framework.
    pub framework_arguments: Vec<String>,
    /// Keys of the configuration that flags set, and their values.
    pub flags: Vec<(String, Vec<String>)>,
    /// Where the JUnit report goes.
    pub junit: Option<PathBuf>,
    /// Where the JSON lines go.
    pub json: Option<PathBuf>,
}

/// A file with a verdict of its tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishedFile {
    /// What it was.
    pub identity: FileIdentity,
    /// Never "not run".
    #[serde(with = "verdict_word")]
    pub verdict: Verdict,
    /// The attempt whose outcome counted.
    pub deciding: Option<FinishedAttempt>,
    /// Those before it that failed.
    pub failed_before: Vec<FinishedAttempt>,
}

/// An attempt with an outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishedAttempt {
    /// Where it ran.
    pub host: String,
    /// On which of the host's runners.
    pub runner: u16,
    /// What came of it.
    #[serde(with = "outcome_word")]
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
    /// Its processor time, if that is known.
    pub processor: Option<Duration>,
    /// The most memory it had in bytes, if that is known.
    pub peak_memory: Option<u64>,
    /// Why the file is broken or crashed.
    pub message: String,
    /// More on the same.
    pub details: String,
    /// Processes that outlived it.
    pub leaked: Vec<String>,
    /// Its tests.
    pub tests: Vec<FinishedTest>,
}

/// A test of an attempt: the fields of [`TestResult`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are those of TestResult")]
pub struct FinishedTest {
    pub id: String,
    pub name: String,
    #[serde(with = "status_word")]
    pub status: TestStatus,
    pub duration: Duration,
    pub message: String,
    pub details: String,
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// Keys of the configuration that decide which files are run, and as what.
const SELECTING_KEYS: [&str; 4] = ["files", "exclude", "frameworks", "command"];

impl Invocation {
    /// Whether a flag for this key decides which files are run.
    pub fn is_selecting(key: &str) -> bool {
        SELECTING_KEYS.contains(&key)
    }

    /// Whether another one asks for the same files.
    pub(super) fn selects_the_same(&self, other: &Invocation) -> bool {
        let selecting = |flags: &[(String, Vec<String>)]| -> Vec<_> {
            flags.iter().filter(|(key, _)| Self::is_selecting(key)).cloned().collect()
        };
        self.paths == other.paths
            && self.framework_arguments == other.framework_arguments
            && selecting(&self.flags) == selecting(&other.flags)
    }
}

impl From<TestResult> for FinishedTest {
    fn from(test: TestResult) -> FinishedTest {
        let TestResult { id, name, status, duration, message, details, file, line } = test;
        FinishedTest { id, name, status, duration, message, details, file, line }
    }
}

impl From<FinishedTest> for TestResult {
    fn from(test: FinishedTest) -> TestResult {
        let FinishedTest { id, name, status, duration, message, details, file, line } = test;
        TestResult { id, name, status, duration, message, details, file, line }
    }
}

/// A record as a line.
pub(super) fn encode(record: &Record) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    Ok([checksum(&json).as_bytes(), b" ", &json, b"\n"].concat())
}

/// The record of a line, without its end; `None` for one that is not whole.
fn decode(line: &[u8]) -> Option<Record> {
    let (sum, json) = line.split_at_checked(DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    (sum == checksum(json).as_bytes()).then(|| serde_json::from_slice(json).ok())?
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// Everything in a journal that is whole.
#[derive(Debug, PartialEq)]
pub(super) struct Contents {
    /// The last run that wrote it.
    pub(super) begun: Begun,
    /// The aggregated logs of all runs that wrote it, in their order.
    pub(super) logs: Vec<String>,
    /// The last result of each file or part, by path and the part's number, 0 for a whole file.
    pub(super) finished: HashMap<(String, u32), FinishedFile>,
    /// Its last line has no end.
    pub(super) ends_in_a_line: bool,
}

/// Why a journal tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is of another program's making, or of an older or newer one's.
    #[error("it was written by another version of distributest")]
    OtherFormat,
    /// What was asked for is not in it.
    #[error("it does not say what was to be run")]
    Headless,
}

/// Reads a journal.
pub(super) fn read(mut input: impl BufRead) -> Result<Contents, UnreadableError> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    if line != FORMAT {
        let other = line.starts_with(ANY_FORMAT) && line.ends_with(b"\n");
        return Err(if other { UnreadableError::OtherFormat } else { UnreadableError::Headless });
    }
    let (mut begun, mut logs, mut finished, mut ends_in_a_line) = (None, Vec::new(), HashMap::new(), false);
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        ends_in_a_line = line.pop_if(|last| *last == b'\n').is_none();
        match decode(&line) {
            Some(Record::Begun(run)) => {
                logs.push(run.log.clone());
                begun = Some(run);
            }
            Some(Record::Finished(file)) => _ = finished.insert(file.identity.place(), *file),
            None => {}
        }
    }
    let begun = begun.ok_or(UnreadableError::Headless)?;
    Ok(Contents { begun, logs, finished, ends_in_a_line })
}

/// Reads and writes something by its word.
macro_rules! by_word {
    ($module:ident, $kind:ty, $from_word:expr) => {
        mod $module {
            use super::*;

            pub(super) fn serialize<S: serde::Serializer>(
                value: &$kind,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(value.word())
            }

            pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$kind, D::Error> {
                let word = String::deserialize(deserializer)?;
                $from_word(&word).ok_or_else(|| serde::de::Error::custom(format!("{word:?} is no word here")))
            }
        }
    };
}

by_word!(outcome_word, Outcome, Outcome::from_word);
by_word!(status_word, TestStatus, TestStatus::from_word);
by_word!(verdict_word, Verdict, verdict_from_word);

/// `None` for "not run", which is not the end of a file.
fn verdict_from_word(word: &str) -> Option<Verdict> {
    let flaky = (word == Verdict::Flaky.word()).then_some(Verdict::Flaky);
    flaky.or_else(|| Outcome::from_word(word).map(Verdict::Ran))
}
