//! The agent's end of the worker protocol (`proto/worker.md`): lines on a socket, JSON in them.
//!
//! A worker is a program anyone may have written. Its lines are bounded, and whatever is not a message of the
//! protocol becomes [`WorkerLinkError::Garbage`] with the offending text fit to be shown.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use distributest_core::test_result::{TestResult, TestStatus};
use distributest_core::usage::Usage;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// The longest line a worker may write.
const LINE_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// Room made for each read; a worker's line is rarely longer.
const READ_BYTES: usize = 8 * 1024;

/// How much of an offending line is shown.
const SHOWN_BYTES: usize = 200;

/// What the agent says to a worker.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum WorkerOrder<'a> {
    /// Run this file.
    Run {
        /// Relative to the workspace.
        file: &'a str,
        /// Only these tests of it; none: all.
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        tests: &'a [String],
        /// Only these tests, as far as they are there: the file is run in parts.
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        only: &'a [String],
        /// All tests but these: the file is run in parts, and they are those of the others.
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        except: &'a [String],
    },
    /// The run is over: say which files you have loaded, and stay.
    Keep,
    /// Another run begins.
    Renew {
        /// Variables that are others there, as `KEY=value`; only the name of one that is not set.
        environment: Vec<String>,
    },
    /// End.
    Quit,
}

/// What a worker says.
#[derive(Debug, PartialEq)]
pub(crate) enum WorkerMessage {
    /// The first file may come.
    Ready {
        /// It understands [`WorkerOrder::Keep`].
        keeps: bool,
        /// Which of its processes has loaded what is loaded once, where that is not the first.
        process: Option<u32>,
        /// Its versions.
        versions: Versions,
    },
    /// The worker stays.
    Kept {
        /// What it has loaded, and where it has looked for that.
        files: Vec<PathBuf>,
        /// It has read no other files.
        is_all: bool,
    },
    /// The worker can't work here.
    Unable {
        /// Why.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// A test ended.
    Test(Box<TestResult>),
    /// The file ended.
    Finished(Finished),
    /// What belongs to many files failed as it ended.
    EndFailed {
        /// One line on it.
        message: String,
    },
}

/// What a worker says of the versions that it runs tests with; empty what it does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Versions {
    /// The framework's.
    pub(crate) framework: String,
    /// That of the interpreter, and of whatever else is loaded with it.
    pub(crate) runtime: String,
}

/// How a worker closes a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finished {
    /// What came of it.
    pub(crate) outcome: FileOutcome,
    /// One line on it; may be empty.
    pub(crate) message: String,
    /// Many lines on it; may be empty.
    pub(crate) details: String,
    /// Processes the worker has started for its next file; mostly none.
    pub(crate) helpers: Vec<u32>,
    /// Of a part of a file: a digest of the ids of all its tests; otherwise empty.
    pub(crate) collected: String,
    /// What the file used, as far as the worker knows.
    pub(crate) usage: Usage,
    /// What ended the process that ran it, where that was a signal.
    pub(crate) signal: Option<i32>,
}

/// The outcomes a worker may report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileOutcome {
    /// Every test held.
    Passed,
    /// One did not.
    Failed,
    /// The file did not load.
    Broken,
    /// The process that ran it died.
    Crashed,
}

/// Why a worker can't be talked to any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerLinkError {
    /// The worker closed its end.
    #[error("the worker closed its protocol descriptor")]
    Closed,
    /// It wrote something that is not a message.
    #[error("the worker wrote what is no message of the worker protocol ({reason}): {shown}")]
    Garbage {
        /// What is wrong with it.
        reason: String,
        /// Its beginning, printable.
        shown: String,
        /// It could be the beginning of a message: a forked child that dies in the middle of a line leaves that.
        cut_short: bool,
    },
    /// It speaks another version.
    #[error("the worker speaks version {version} of the worker protocol, this agent version 1")]
    Version {
        /// Its version.
        version: u64,
    },
    /// The socket failed.
    #[error("failed to talk to the worker")]
    Socket(#[source] io::Error),
}

/// The socket to a worker.
pub(crate) struct WorkerLink {
    socket: UnixStream,
    received: Vec<u8>,
    /// Bytes at the beginning of `received` that hold no end of line.
    searched: usize,
}

impl WorkerLink {
    /// Takes the agent's end of the control socket.
    pub(crate) fn new(socket: UnixStream) -> Self {
        WorkerLink { socket, received: Vec::new(), searched: 0 }
    }

    /// Sends one order.
    pub(crate) async fn send(&mut self, order: &WorkerOrder<'_>) -> Result<(), WorkerLinkError> {
        let mut line = serde_json::to_vec(order).map_err(|error| WorkerLinkError::Socket(error.into()))?;
        line.push(b'\n');
        self.socket.write_all(&line).await.map_err(WorkerLinkError::Socket)
    }

    /// Waits for the next message. Nothing is lost when the wait is given up.
    pub(crate) async fn receive(&mut self) -> Result<WorkerMessage, WorkerLinkError> {
        loop {
            let line = self.receive_line().await?;
            if !line.trim_ascii().is_empty() {
                return parse(&line);
            }
        }
    }

    async fn receive_line(&mut self) -> Result<Vec<u8>, WorkerLinkError> {
        loop {
            let newline = self.received[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(offset) = newline {
                let rest = self.received.split_off(self.searched + offset + 1);
                self.searched = 0;
                let mut line = std::mem::replace(&mut self.received, rest);
                line.pop();
                return Ok(line);
            }
            self.searched = self.received.len();
            if self.searched > LINE_LIMIT_BYTES {
                let reason = format!("a line of more than {LINE_LIMIT_BYTES} bytes");
                return Err(garbage(&self.received, reason));
            }
            self.received.reserve(READ_BYTES);
            match self.socket.read_buf(&mut self.received).await {
                Ok(0) if self.received.trim_ascii().is_empty() => return Err(WorkerLinkError::Closed),
                Ok(0) => {
                    let reason = "the descriptor was closed in the middle of a line".to_owned();
                    self.searched = 0;
                    return Err(garbage(&std::mem::take(&mut self.received), reason));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(WorkerLinkError::Closed);
                }
                Err(error) => return Err(WorkerLinkError::Socket(error)),
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<WorkerMessage, WorkerLinkError> {
    let message = serde_json::from_slice(line).map_err(|error| WorkerLinkError::Garbage {
        reason: error.to_string(),
        shown: shown(line),
        cut_short: error.is_eof(),
    })?;
    Ok(match message {
        Line::Ready { protocol: 1, keeps, process, version, runtime } => {
            let known = |text: Option<String>| text.unwrap_or_default();
            let versions = Versions { framework: known(version), runtime: known(runtime) };
            WorkerMessage::Ready { keeps, process, versions }
        }
        Line::Kept { files, all } => WorkerMessage::Kept { files, is_all: all },
        Line::Ready { protocol: version, .. } => return Err(WorkerLinkError::Version { version }),
        Line::Unable { message, hint } => WorkerMessage::Unable { message, hint: hint.unwrap_or_default() },
        Line::Test(test) => {
            WorkerMessage::Test(Box::new(test_result(test).map_err(|reason| garbage(line, reason))?))
        }
        Line::Finished(finished) => WorkerMessage::Finished(finished.into()),
        Line::EndFailed { message } => WorkerMessage::EndFailed { message },
    })
}

/// A line as it is written.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Ready {
        protocol: u64,
        #[serde(default)]
        keeps: bool,
        process: Option<u32>,
        version: Option<String>,
        runtime: Option<String>,
    },
    Kept {
        files: Vec<PathBuf>,
        #[serde(default)]
        all: bool,
    },
    Unable {
        message: String,
        hint: Option<String>,
    },
    Test(TestLine),
    Finished(FinishedLine),
    EndFailed {
        message: String,
    },
}

#[derive(Deserialize)]
struct FinishedLine {
    outcome: FileOutcome,
    message: Option<String>,
    details: Option<String>,
    #[serde(default)]
    helpers: Vec<u32>,
    #[serde(default)]
    collected: String,
    processor_seconds: Option<f64>,
    peak_memory_bytes: Option<u64>,
    signal: Option<i32>,
}

impl From<FinishedLine> for Finished {
    fn from(line: FinishedLine) -> Finished {
        // What is no time at all is not known.
        let processor = line.processor_seconds.and_then(|time| Duration::try_from_secs_f64(time).ok());
        Finished {
            outcome: line.outcome,
            message: line.message.unwrap_or_default(),
            details: line.details.unwrap_or_default(),
            helpers: line.helpers,
            collected: line.collected,
            usage: Usage { processor, peak_memory: line.peak_memory_bytes },
            signal: line.signal,
        }
    }
}

#[derive(Deserialize)]
struct TestLine {
    id: String,
    name: String,
    status: String,
    seconds: f64,
    message: Option<String>,
    details: Option<String>,
    file: Option<String>,
    line: Option<u32>,
}

fn test_result(test: TestLine) -> Result<TestResult, String> {
    let status =
        TestStatus::from_word(&test.status).ok_or_else(|| format!("unknown status {:?}", test.status))?;
    // A clock that was set back during a test makes its time negative.
    let duration = Duration::try_from_secs_f64(test.seconds.max(0.0))
        .map_err(|error| format!("seconds {}: {error}", test.seconds))?;
    Ok(TestResult {
        id: test.id,
        name: test.name,
        status,
        duration,
        message: test.message.unwrap_or_default(),
        details: test.details.unwrap_or_default(),
        file: test.file,
        line: test.line,
    })
}

fn garbage(line: &[u8], reason: String) -> WorkerLinkError {
    WorkerLinkError::Garbage { reason, shown: shown(line), cut_short: false }
}

fn shown(line: &[u8]) -> String {
    let cut = &line[..line.len().min(SHOWN_BYTES)];
    let ellipsis = if cut.len() < line.len() { "..." } else { "" };
    format!("\"{}{ellipsis}\"", cut.escape_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    async fn messages(written: &[u8]) -> Vec<Result<WorkerMessage, WorkerLinkError>> {
        let (agent, mut worker) = UnixStream::pair().unwrap();
        let mut link = WorkerLink::new(agent);
        let written = written.to_vec();
        let writer = tokio::spawn(async move { worker.write_all(&written).await });
        let mut messages = Vec::new();
        loop {
            messages.push(link.receive().await);
            if messages.last().is_some_and(Result::is_err) {
                break;
            }
        }
        drop(link);
        // A link that gave up on garbage does not read the rest.
        let _ = writer.await.unwrap();
        messages
    }

    fn expect_garbage(message: &Result<WorkerMessage, WorkerLinkError>) -> (&str, &str) {
        match message {
            Err(WorkerLinkError::Garbage { reason, shown, .. }) => (reason, shown),
            other => panic!("expected garbage, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_whole_conversation_is_read() {
        let written = b"{\"type\":\"ready\",\"protocol\":1,\"framework\":\"x\",\"version\":\"1\"}\n\n\
            {\"type\":\"test\",\"id\":\"a\",\"name\":\"b\",\"status\":\"passed\",\"seconds\":-0.5,\"new\":[1]}\n \
            {\"type\":\"finished\",\"outcome\":\"broken\",\"message\":null,\
            \"processor_seconds\":-1,\"peak_memory_bytes\":4096}\n";
        let messages = messages(written).await;
        assert!(matches!(messages[0], Ok(WorkerMessage::Ready { .. })));
        let Ok(WorkerMessage::Test(test)) = &messages[1] else { panic!("{messages:?}") };
        assert_eq!((test.id.as_str(), test.duration, test.line), ("a", Duration::ZERO, None));
        let finished = Finished {
            outcome: FileOutcome::Broken,
            message: String::new(),
            details: String::new(),
            helpers: Vec::new(),
            collected: String::new(),
            usage: Usage { processor: None, peak_memory: Some(4096) },
            signal: None,
        };
        assert!(matches!(&messages[2], Ok(WorkerMessage::Finished(read)) if *read == finished));
        assert!(matches!(messages[3], Err(WorkerLinkError::Closed)));
    }

    #[tokio::test]
    async fn what_is_no_message_is_shown() {
        let cases: [(&[u8], &str); 6] = [
            (b"hello\x1b[2J\n", r#""hello\x1b[2J""#),
            (b"{\"type\":\"dance\"}\n", r#""{\"type\":\"dance\"}""#),
            (b"{\"type\":\"test\",\"id\":\"a\",\"name\":\"b\",\"status\":\"meh\",\"seconds\":0}\n", "meh"),
            (b"{\"type\":\"finished\",\"outcome\":\"fine\"}\n", "fine"),
            (b"\xff\xfe\n", r#""\xff\xfe""#),
            (b"{\"type\":\"fin", r#""{\"type\":\"fin""#),
        ];
        for (written, expected) in cases {
            let messages = messages(written).await;
            let (reason, shown) = expect_garbage(&messages[0]);
            assert!(shown.contains(expected), "{shown} should contain {expected}");
            assert!(!reason.is_empty());
        }
    }

    #[tokio::test]
    async fn an_endless_line_is_given_up() {
        let messages = messages(&vec![b'x'; LINE_LIMIT_BYTES + READ_BYTES]).await;
        let (reason, shown) = expect_garbage(&messages[0]);
        assert!(reason.contains("more than 16777216 bytes"), "{reason}");
        assert!(shown.len() < 2 * SHOWN_BYTES);
    }

    #[tokio::test]
    async fn a_message_cut_short_is_told_from_other_garbage() {
        for (written, expected) in
            [("{\"type\":\"test\",\"id\":\"\u{e9}", true), ("Segmentation fault", false)]
        {
            let messages = messages(format!("{written}\n").as_bytes()).await;
            assert!(
                matches!(messages[0], Err(WorkerLinkError::Garbage { cut_short, .. }) if cut_short == expected),
                "{messages:?}"
            );
        }
    }

    #[tokio::test]
    async fn another_version_is_told_apart() {
        let messages = messages(b"{\"type\":\"ready\",\"protocol\":2}\n").await;
        assert!(matches!(messages[0], Err(WorkerLinkError::Version { version: 2 })));
    }

    #[tokio::test]
    async fn a_given_up_wait_loses_nothing() {
        let (agent, mut worker) = UnixStream::pair().unwrap();
        let mut link = WorkerLink::new(agent);
        worker.write_all(b"{\"type\":\"ready\",").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(20), link.receive()).await;
        assert!(early.is_err());
        worker.write_all(b"\"protocol\":1}\n").await.unwrap();
        assert!(matches!(link.receive().await, Ok(WorkerMessage::Ready { .. })));
    }

    /// What may come from a worker in pieces of any size: messages, damaged ones, and no messages at all.
    fn written() -> impl Strategy<Value = Vec<u8>> {
        let lines = [
            r#"{"type":"ready","protocol":1}"#,
            r#"{"type":"test","id":"a","name":"b","status":"passed","seconds":0.5,"file":"a.py","line":3}"#,
            r#"{"type":"test","id":"a","name":"b","status":"failed","seconds":1e400,"message":null}"#,
            r#"{"type":"finished","outcome":"failed","message":"x","helpers":[1,2],"processor_seconds":0.5,"signal":9}"#,
            r#"{"type":"unable","message":"m"}"#,
            r#"{"type":"test","id":"\ud800","name":"b","status":"passed","seconds":-1}"#,
        ];
        let line = (select(lines.map(str::as_bytes).to_vec()), vec((any::<Index>(), any::<u8>()), 0..3));
        let damaged = line.prop_map(|(line, changes)| {
            let mut line = line.to_vec();
            for (place, byte) in changes {
                let place = place.index(line.len());
                line[place] = byte;
            }
            line.push(b'\n');
            line
        });
        let deep = (1..2_000_usize).prop_map(|depth| [b"[".repeat(depth), b"\n".to_vec()].concat());
        let part = prop_oneof![6 => damaged, 1 => vec(any::<u8>(), 0..100), 1 => deep];
        vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn whatever_a_worker_writes_is_read_to_its_end(written in written()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let read = runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(20), messages(&written)).await
            });
            let read = read.expect("it ends in time");
            let newlines = written.iter().filter(|byte| **byte == b'\n').count();
            prop_assert!(read.len() <= newlines + 1);
            if let Err(WorkerLinkError::Garbage { shown, .. }) = &read[read.len() - 1] {
                // Each byte is shown with four characters at most.
                prop_assert!(shown.len() <= 4 * SHOWN_BYTES + 5 && shown.is_ascii(), "{}", shown);
            }
        }
    }
}
