//! TAP producers, run and judged as `prove` does it: a process per file, whatever the language.
//!
//! - `command.rs`: which program runs a file, from the project's `.proverc`, the file's first line and the arguments;
//! - `grammar.rs`, `parser.rs`: what the file's standard output means;
//! - `diagnostics.rs`: what its standard error says about failures;
//! - here: what is reported of it all.
//!
//! A test's id is its number and its description, `3 - adds`. Tests can't be run one by one: with `tests`, the whole
//! file runs, and only they are reported and judged. `Bail out!` fails the file, and only that one.

mod command;
mod diagnostics;
mod grammar;
mod parser;

use std::path::Path;
use std::time::{Duration, Instant};

use distributest_core::test_result::{TestResult, TestStatus};
use distributest_process::Exit;

use self::command::{ProveOptions, perl};
use self::diagnostics::{Account, Diagnostics, yaml_account};
use self::parser::{Event, Parser, Summary, Test, TestOutcome};
use crate::kind::{Kind, Unable};
use crate::lines::Lines;
use crate::link::{Link, Stop};
use crate::messages::{FileOutcome, Finished, RunOrder};
use crate::program::{self, Ending, Piped, Reader, Stream, pass_on};
use crate::text::{Tail, relative_path};
use crate::tools;

/// How much of what stands between two tests is kept for the details of the second one, or of the first if that failed.
const KEPT_LIMIT_BYTES: usize = 64 * 1024;

/// What `prove` runs.
pub(crate) struct Tap {
    options: ProveOptions,
}

impl Tap {
    /// Takes `prove`'s options.
    pub(crate) fn new(arguments: &[String]) -> Result<Tap, Unable> {
        let project = std::env::current_dir().unwrap_or_default();
        let options = ProveOptions::read(&project, arguments)?;
        let perl = perl();
        let has_perl = if perl.contains('/') {
            tools::is_executable(Path::new(&perl))
        } else {
            tools::find(&perl, &[]).is_some()
        };
        if options.interpreter.is_none() && !has_perl {
            let message = if perl.contains('/') {
                format!("{perl}, which HARNESS_PERL names, is not there")
            } else {
                format!("{perl} is not there: looked in PATH")
            };
            let hint = "install it in node_setup (apt-get install perl), or have HARNESS_PERL name one that is there";
            return Err(Unable { message, hint: hint.to_owned() });
        }
        Ok(Tap { options })
    }
}

impl Kind for Tap {
    fn framework(&self) -> &str {
        "tap"
    }

    fn version(&self) -> &str {
        ""
    }

    fn run(&mut self, order: &RunOrder, link: &mut Link) -> Result<Finished, Stop> {
        let project = std::env::current_dir().unwrap_or_default();
        let command = match self.options.command(&project, &order.file) {
            Ok(command) => command,
            Err(error) => {
                return Ok(Finished::new(FileOutcome::Broken, format!("failed to read it: {error}")));
            }
        };
        let program = command.get_program().to_string_lossy().into_owned();
        let piped = if self.options.merge { Piped::Merged } else { Piped::Both };
        let mut follower = Follower::new(order);
        match program::run(command, piped, link, &mut follower)? {
            Ending::NotStarted(error) => {
                Ok(Finished::new(FileOutcome::Broken, format!("failed to start {program}: {error}")))
            }
            Ending::Exited(exit) => {
                let exit = if self.options.ignore_exit && !matches!(exit, Exit::Signal(_)) {
                    Exit::Code(0)
                } else {
                    exit
                };
                follower.finish(exit, link)
            }
        }
    }
}

/// Follows what one file writes.
struct Follower<'a> {
    order: &'a RunOrder,
    parser: Parser,
    stdout: Lines,
    stderr: Lines,
    diagnostics: Diagnostics,
    /// The end of everything on standard error.
    tail: Tail,
    reporter: Reporter<'a>,
}

impl<'a> Follower<'a> {
    fn new(order: &'a RunOrder) -> Self {
        Follower {
            order,
            parser: Parser::default(),
            stdout: Lines::default(),
            stderr: Lines::default(),
            diagnostics: Diagnostics::default(),
            tail: Tail::default(),
            reporter: Reporter::new(order),
        }
    }

    /// Reads a line of the document.
    fn document_line(&mut self, line: &[u8], link: &mut Link) -> Result<(), Stop> {
        let (mut events, line) = (Vec::new(), String::from_utf8_lossy(line));
        self.parser.line(&line, &mut |event| events.push(event));
        events.into_iter().try_for_each(|event| self.reporter.take(event, &mut self.diagnostics, link))
    }

    fn finish(mut self, exit: Exit, link: &mut Link) -> Result<Finished, Stop> {
        let mut last = None;
        self.stdout.finish(|line| last = Some(line.to_vec()));
        if let Some(line) = last {
            self.document_line(&line, link)?;
        }
        self.stderr.finish(|line| self.diagnostics.line(&String::from_utf8_lossy(line)));
        let mut events = Vec::new();
        let summary = self.parser.finish(&mut |event| events.push(event));
        for event in events {
            self.reporter.take(event, &mut self.diagnostics, link)?;
        }
        self.reporter.flush(&mut self.diagnostics, link)?;
        Ok(judge(&summary, exit, &self.reporter, &self.tail, self.order))
    }
}

impl Reader for Follower<'_> {
    fn read(&mut self, stream: Stream, bytes: &[u8], link: &mut Link) -> Result<(), Stop> {
        pass_on(stream, bytes)?;
        if stream == Stream::Stderr {
            self.tail.push(bytes);
            self.stderr.push(bytes, |line| self.diagnostics.line(&String::from_utf8_lossy(line)));
            return Ok(());
        }
        let (mut lines, mut done) = (std::mem::take(&mut self.stdout), Ok(()));
        lines.push(bytes, |line| {
            if done.is_ok() {
                done = self.document_line(line, link);
            }
        });
        self.stdout = lines;
        done
    }
}

/// Reports tests as the document tells of them. A failure waits for what is said about it.
struct Reporter<'a> {
    wanted: &'a [String],
    /// Of those that are wanted, the ones that were there.
    found: Vec<bool>,
    file: &'a str,
    last_end: Instant,
    /// A failure that may still be explained.
    failure: Option<Failure>,
    /// Lines since the last test that are not about it: those of a subtest, or of anything else.
    preamble: Kept,
    /// The last test there was, in words.
    last_test: Option<String>,
    /// How many of those reported failed.
    failed: u64,
}

struct Failure {
    test: Test,
    duration: Duration,
    /// What its subtests and the comments after it say.
    comments: Kept,
    yaml: Account,
}

/// Lines, as long as they are not too many.
#[derive(Default)]
struct Kept {
    lines: Vec<String>,
    bytes: usize,
}

impl Kept {
    fn push(&mut self, line: String) {
        if self.bytes + line.len() < KEPT_LIMIT_BYTES {
            self.bytes += line.len() + 1;
            self.lines.push(line);
        }
    }
}

impl<'a> Reporter<'a> {
    fn new(order: &'a RunOrder) -> Self {
        Reporter {
            wanted: &order.tests,
            found: vec![false; order.tests.len()],
            file: &order.file,
            last_end: Instant::now(),
            failure: None,
            preamble: Kept::default(),
            last_test: None,
            failed: 0,
        }
    }

    fn take(&mut self, event: Event, diagnostics: &mut Diagnostics, link: &mut Link) -> Result<(), Stop> {
        match event {
            Event::Test(test) => {
                self.flush(diagnostics, link)?;
                let now = Instant::now();
                let duration = now - std::mem::replace(&mut self.last_end, now);
                self.last_test = Some(id(&test));
                let preamble = std::mem::take(&mut self.preamble);
                match test.result {
                    TestOutcome::Failed | TestOutcome::Unplanned | TestOutcome::TodoFailed => {
                        // A subtest says in its own indented lines what failed.
                        let is_subtest = preamble.lines.iter().any(|line| line.starts_with(' '));
                        let comments = if is_subtest { preamble } else { Kept::default() };
                        let yaml = Account::default();
                        self.failure = Some(Failure { test, duration, comments, yaml });
                    }
                    _ => self.report(&test, duration, Account::default(), link)?,
                }
            }
            Event::Comment(text) => match &mut self.failure {
                Some(failure) if !text.starts_with(" Subtest:") => failure.comments.push(format!("#{text}")),
                _ => self.preamble.push(format!("#{text}")),
            },
            Event::Yaml(text) => {
                if let Some(failure) = &mut self.failure {
                    failure.yaml = yaml_account(&text);
                }
            }
            Event::Other(line) => self.preamble.push(line),
        }
        Ok(())
    }

    /// Reports the failure that waits, if one does.
    fn flush(&mut self, diagnostics: &mut Diagnostics, link: &mut Link) -> Result<(), Stop> {
        let Some(Failure { test, duration, comments, yaml }) = self.failure.take() else { return Ok(()) };
        let account = diagnostics.take(&test.description).or(Account::of(comments.lines)).or(yaml);
        self.report(&test, duration, account, link)
    }

    fn report(
        &mut self,
        test: &Test,
        duration: Duration,
        account: Account,
        link: &mut Link,
    ) -> Result<(), Stop> {
        let id = id(test);
        if !self.wanted.is_empty() {
            let Some(index) = self.wanted.iter().position(|wanted| *wanted == id) else { return Ok(()) };
            self.found[index] = true;
        }
        let status = status(test.result);
        self.failed += u64::from(status.is_failure());
        let message = match test.result {
            TestOutcome::Unplanned => "it is one more test than planned".to_owned(),
            TestOutcome::Failed if account.message.is_empty() => format!("not ok {id}"),
            TestOutcome::Failed => account.message,
            _ => test.reason.clone(),
        };
        let name = if test.description.is_empty() {
            format!("test {}", test.number)
        } else {
            test.description.clone()
        };
        let (file, line) = account
            .place
            .map_or((self.file.to_owned(), None), |(file, line)| (relative_path(&file), Some(line)));
        let details = account.lines.join("\n");
        let result = TestResult { id, name, status, duration, message, details, file: Some(file), line };
        link.send(&(&result).into())
    }
}

/// What a test is called when it is to be run again.
fn id(test: &Test) -> String {
    let Test { position, number, description, .. } = test;
    let dash = if description.is_empty() { "" } else { " - " };
    // A number that is out of order may be another test's as well.
    let place = if number == position { String::new() } else { format!(" (test {position} of the file)") };
    format!("{number}{dash}{description}{place}")
}

fn status(result: TestOutcome) -> TestStatus {
    match result {
        TestOutcome::Passed => TestStatus::Passed,
        TestOutcome::Failed | TestOutcome::Unplanned => TestStatus::Failed,
        TestOutcome::Skipped => TestStatus::Skipped,
        TestOutcome::TodoFailed => TestStatus::ExpectedFailure,
        TestOutcome::TodoPassed => TestStatus::UnexpectedPass,
    }
}

/// What `prove` would say of the file.
fn judge(summary: &Summary, exit: Exit, reporter: &Reporter<'_>, tail: &Tail, order: &RunOrder) -> Finished {
    if matches!(exit, Exit::Signal(_)) {
        let after = reporter
            .last_test
            .as_ref()
            .map_or("before its first test".to_owned(), |test| format!("after test {test}"));
        return Finished::new(FileOutcome::Crashed, format!("killed by {exit} {after}"))
            .with_details(tail.text());
    }
    if let Some(reason) = &summary.bail_out {
        return Finished::new(FileOutcome::Failed, format!("Bail out!  {reason}").trim_end())
            .with_details(tail.text());
    }
    if summary.run == 0 && !exit.is_success() {
        let message = format!("{exit}: {}", tail.first_line().unwrap_or("no test was run"));
        return Finished::new(FileOutcome::Broken, message).with_details(tail.text());
    }
    let mut faults = summary.faults.clone();
    if !exit.is_success() && summary.failed == 0 {
        faults.push(exit.to_string());
    }
    let missing = order.tests.iter().zip(&reporter.found).filter(|(_, found)| !**found);
    faults.extend(missing.map(|(test, _)| format!("there is no test {test:?} in it")));
    if !faults.is_empty() {
        return Finished::new(FileOutcome::Failed, faults.join("; ")).with_details(tail.text());
    }
    if reporter.failed > 0 {
        return Finished::new(FileOutcome::Failed, "");
    }
    let message = match &summary.skip_all {
        Some(reason) => format!("skipped: {reason}"),
        None => String::new(),
    };
    Finished::new(FileOutcome::Passed, message.trim_end_matches([' ', ':']))
}
