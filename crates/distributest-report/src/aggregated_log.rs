//! Writes the aggregated log: every byte every test, hook and worker wrote, in unbroken blocks.
//!
//! Blocks of many runners are open at once, so a block's bytes are spooled, in memory while they are few and in an
//! unlinked temporary file beside the log when they are many. So is what the framework says about an attempt's
//! failing tests. When the block's closing event comes, it goes into the log in one piece:
//!
//! ```text
//! ==> host h1 runner 2 tests/test_a.py (1234 bytes)
//! the bytes, exactly as written, standard output and error as they came
//! --- failed: test_rounding (tests/test_a.py:42)
//! what the framework says about the failure
//! <== host h1 runner 2 tests/test_a.py: failed in 3.42 s
//! ```
//!
//! The byte count makes the log readable by programs whatever the tests print; a newline is added after the bytes
//! where they do not end in one, and is not counted. Everything else (hosts that fail, warnings, files not run, the
//! summary) is a line of its own between blocks, starting with `---`. A block that is still open when the run ends
//! is written then, and its closing line says so.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use distributest_core::identity::AttemptId;
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::run_event::{AttemptReport, AttemptResult, BlockId, RunEvent, RunSummary};
use distributest_core::test_result::{TestResult, TestStatus};
use tempfile::{SpooledData, SpooledTempFile};

use crate::format;
use crate::log_file::PreparedLog;
use crate::names::Names;
use crate::phrases;
use crate::reporter::{ReportError, Reporter};

/// Bytes of an open block that are kept in memory.
const SPOOL_LIMIT: usize = 64 * 1024;

/// The consumer that writes the aggregated log.
#[derive(Debug)]
pub struct AggregatedLog {
    log: BufWriter<File>,
    path: PathBuf,
    /// Where blocks that outgrow memory go: beside the log, or with all temporary files if the log is a device.
    spool_directory: PathBuf,
    names: Names,
    open_blocks: BTreeMap<BlockId, Spool>,
    /// What is to stand after the bytes of an attempt's block.
    sections: HashMap<AttemptId, Spool>,
}

/// Bytes of a block that is still open.
#[derive(Debug)]
struct Spool {
    file: SpooledTempFile,
    length: u64,
    ends_in_newline: bool,
}

impl AggregatedLog {
    /// Writes to a log that [`prepare_log`](crate::prepare_log) opened.
    pub fn new(log: PreparedLog) -> AggregatedLog {
        let beside =
            log.path.parent().filter(|_| log.file.metadata().is_ok_and(|metadata| metadata.is_file()));
        let spool_directory = match beside {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => std::env::temp_dir(),
        };
        AggregatedLog {
            log: BufWriter::new(log.file),
            path: log.path,
            spool_directory,
            names: Names::default(),
            open_blocks: BTreeMap::new(),
            sections: HashMap::new(),
        }
    }

    fn take(&mut self, event: &RunEvent) -> io::Result<()> {
        self.names.learn(event);
        match event {
            RunEvent::Output { block, bytes, .. } => self.spool(*block, bytes),
            RunEvent::TestFinished { attempt, test, .. } => {
                if !test.status.is_failure() {
                    return Ok(());
                }
                let directory = &self.spool_directory;
                write_test(self.sections.entry(*attempt).or_insert_with(|| Spool::new(directory)), test)
            }
            RunEvent::AttemptFinished(report) => self.close_attempt(report),
            RunEvent::HookFinished { host, runner, hook, failure, skipped, duration, block } => {
                let title = format!("host {} {}", phrases::lane(&self.names, *host, *runner), hook.word());
                let end = phrases::hook_end(failure.as_deref(), *skipped, *duration);
                self.close_block(Some(*block), &title, None, &end)
            }
            RunEvent::WorkerPrepared { runner, framework, failure, duration, saved, block, .. } => {
                let title = format!("host {} {framework} worker", self.names.runner(*runner));
                let end = phrases::worker_end(failure.as_deref(), *duration, *saved);
                self.close_block(Some(*block), &title, None, &end)
            }
            RunEvent::WorkerEnded { runner, framework, failure, block } => {
                let title = format!("host {} {framework} worker", self.names.runner(*runner));
                self.close_block(Some(*block), &title, None, &phrases::last_words(failure.as_deref()))
            }
            RunEvent::RunFinished(summary) => {
                self.close_forgotten_blocks()?;
                self.note(&summary_line(summary))
            }
            other => match self.note_text(other) {
                Some(text) => self.note(&text),
                None => Ok(()),
            },
        }
    }

    /// What stands on a line of its own.
    fn note_text(&self, event: &RunEvent) -> Option<String> {
        match event {
            RunEvent::RunStarted { run, project, hosts, files } => {
                let hosts = hosts.iter().filter(|host| host.takes_part());
                let hosts: Vec<_> = hosts.map(|host| host.name.as_str()).collect();
                let files = format::count(files.len() as u64, "file");
                Some(format!("run {run} of {project}: {files}; hosts: {}", hosts.join(", ")))
            }
            RunEvent::RunResumed(former) => {
                let logs = match former.logs.as_slice() {
                    [] => String::new(),
                    logs => format!("; what they wrote is in {}", logs.join(", ")),
                };
                Some(format!("{}{logs}", phrases::resuming(former)))
            }
            RunEvent::HostConnected { host, agent, cores, runners } => {
                let connected = phrases::connected(agent, *cores, *runners);
                Some(format!("host {}: {connected}", self.names.host(*host)))
            }
            RunEvent::HostFailed { host, reason, hint } => Some(format!(
                "host {} failed: {reason}{}",
                self.names.host(*host),
                in_brackets(hint.as_ref())
            )),
            RunEvent::HostSynced { host, snapshot, copied } => {
                let copied = copied.as_ref().map(|reason| format!(", copied with rsync: {reason}"));
                let (host, copied) = (self.names.host(*host), copied.unwrap_or_default());
                Some(format!("host {host} has snapshot {snapshot} of the project{copied}"))
            }
            RunEvent::HostChanged { host, change } => {
                Some(format!("host {}: {change}", self.names.host(*host)))
            }
            RunEvent::AttemptDoubled { file, runner, .. } => {
                let (runner, path) = (self.names.runner(*runner), self.names.printable_path(*file));
                Some(format!("host {runner} {path} {}", phrases::DOUBLED))
            }
            RunEvent::LaunchUnavailable { runner, framework, reason, hint } => {
                let (runner, hint) = (self.names.runner(*runner), in_brackets(hint.as_ref()));
                Some(format!("host {runner} can't run {framework}: {reason}{hint}"))
            }
            RunEvent::RunnerReady { runner, identifier } => {
                Some(format!("host {} is ready as {identifier}", self.names.runner(*runner)))
            }
            RunEvent::RunnerFailed { runner, reason } => {
                let reason = phrases::runner_failure(reason.as_deref());
                Some(format!("host {} failed: {reason}", self.names.runner(*runner)))
            }
            RunEvent::FileCached { file, pass } => {
                let path = self.names.printable_path(*file);
                Some(format!("cached: {path}: {}", phrases::passed_before(pass)))
            }
            RunEvent::FileVerdict { file, verdict: Verdict::NotRun(reason), .. } => {
                Some(format!("not run: {}: {reason}", self.names.printable_path(*file)))
            }
            RunEvent::StopRequested => Some("the run was told to stop".to_owned()),
            RunEvent::Warning { message } => Some(format!("warning: {message}")),
            _ => None,
        }
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.log, "--- {}", text.replace('\n', "\n    "))?;
        self.log.flush()
    }

    fn spool(&mut self, block: BlockId, bytes: &[u8]) -> io::Result<()> {
        let directory = &self.spool_directory;
        self.open_blocks.entry(block).or_insert_with(|| Spool::new(directory)).write(bytes)
    }

    fn close_attempt(&mut self, report: &AttemptReport) -> io::Result<()> {
        let title =
            format!("host {} {}", self.names.runner(report.runner), self.names.printable_path(report.file));
        let tests = self.sections.remove(&report.attempt);
        let mut sections = tests.unwrap_or_else(|| Spool::new(&self.spool_directory));
        let (word, explained) = match report.result {
            AttemptResult::Outcome(outcome) => (outcome.word(), outcome != Outcome::Passed),
            AttemptResult::Interrupted(interruption) => (interruption.word(), true),
        };
        if explained && !(report.message.is_empty() && report.details.is_empty()) {
            write_section(&mut sections, word, &report.message, &[&report.details])?;
        }
        if !report.leaked.is_empty() {
            write_section(&mut sections, "left running, killed", "", &[&report.leaked.join("\n")])?;
        }
        let earlier = if report.attempt.is_of_former_run() { ", in the former run" } else { "" };
        let usage = phrases::usage(report.usage);
        let end = format!("{word} in {}{usage}{earlier}", format::seconds(report.duration));
        self.close_block(report.block, &title, Some(sections), &end)
    }

    fn close_block(
        &mut self,
        block: Option<BlockId>,
        title: &str,
        sections: Option<Spool>,
        end: &str,
    ) -> io::Result<()> {
        let spool = block.and_then(|block| self.open_blocks.remove(&block));
        writeln!(self.log, "==> {title} ({} bytes)", spool.as_ref().map_or(0, |spool| spool.length))?;
        for spool in spool.into_iter().chain(sections) {
            spool.append_to(&mut self.log)?;
        }
        writeln!(self.log, "<== {title}: {}", end.replace('\n', "\n    "))?;
        self.log.flush()
    }

    fn close_forgotten_blocks(&mut self) -> io::Result<()> {
        while let Some(block) = self.open_blocks.keys().next().copied() {
            let title = format!("host {} block {}", self.names.host(block.host), block.number);
            self.close_block(Some(block), &title, None, "never closed, the run ended")?;
        }
        Ok(())
    }

    fn error(&self, source: io::Error) -> ReportError {
        ReportError::Log { path: self.path.clone(), source }
    }
}

impl Spool {
    fn new(directory: &Path) -> Spool {
        Spool { file: SpooledTempFile::new_in(SPOOL_LIMIT, directory), length: 0, ends_in_newline: true }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        if let Some(last) = bytes.last() {
            self.ends_in_newline = *last == b'\n';
        }
        Ok(())
    }

    fn append_to(self, log: &mut BufWriter<File>) -> io::Result<()> {
        match self.file.into_inner() {
            SpooledData::InMemory(bytes) => log.write_all(bytes.get_ref())?,
            SpooledData::OnDisk(mut file) => {
                file.rewind()?;
                // From one file to another the system copies by itself.
                io::copy(&mut file, log)?;
            }
        }
        if self.ends_in_newline { Ok(()) } else { log.write_all(b"\n") }
    }
}

impl Reporter for AggregatedLog {
    fn on_event(&mut self, _now: Duration, event: &RunEvent) -> Result<(), ReportError> {
        self.take(event).map_err(|source| self.error(source))
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        self.close_forgotten_blocks().and_then(|()| self.log.flush()).map_err(|source| self.error(source))
    }
}

fn write_test(sections: &mut Spool, test: &TestResult) -> io::Result<()> {
    let word = if test.status == TestStatus::Error { "error" } else { "failed" };
    let place = match (&test.file, test.line) {
        (Some(file), Some(line)) => format!(" ({}:{line})", format::display_path(file)),
        (Some(file), None) => format!(" ({})", format::display_path(file)),
        (None, _) => String::new(),
    };
    let title = format!("{}{place}", format::display_path(&test.name));
    let message = if test.details.contains(&test.message) { "" } else { &test.message };
    write_section(sections, word, &title, &[message, &test.details])
}

/// A heading and texts below it, each of which begins a line.
fn write_section(sections: &mut Spool, word: &str, title: &str, texts: &[&str]) -> io::Result<()> {
    let colon = if title.is_empty() { "" } else { ": " };
    sections.write(format!("--- {word}{colon}{title}\n").as_bytes())?;
    for text in texts {
        sections.write(text.as_bytes())?;
        if !sections.ends_in_newline {
            sections.write(b"\n")?;
        }
    }
    Ok(())
}

fn in_brackets(hint: Option<&String>) -> String {
    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
}

fn summary_line(summary: &RunSummary) -> String {
    let mut parts = Vec::new();
    for (outcome, amount) in Outcome::ALL.into_iter().zip(summary.outcomes) {
        if amount > 0 {
            parts.push(format!("{} {}", format::number(amount.into()), outcome.word()));
        }
    }
    for (amount, word) in [(summary.flaky, "flaky"), (summary.cached, "cached"), (summary.not_run, "not run")]
    {
        if amount > 0 {
            parts.push(format!("{} {word}", format::number(amount.into())));
        }
    }
    let files = format::count(summary.files.into(), "file");
    format!(
        "{files}: {}; {}; exit status {}",
        parts.join(", "),
        format::seconds(summary.wall),
        summary.exit_status
    )
}
