//! bats-core, by its own program: a process per file.
//!
//! bats is started with the formatter that leaves its own stream as it is (`stream.rs`) and with timing. What stands
//! behind `--` goes to it. A test's id is its name as bats prints it. For single tests bats gets a `--filter` with
//! their names; where a name in the file is not what is printed (`@test "$what works"`), tests with such names run along
//! and are not reported.
//!
//! `setup_suite` runs for each file, because each has a bats of its own.

mod install;
mod stream;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use distributest_core::test_result::{TestResult, TestStatus};
use distributest_process::Exit;

use self::stream::{Stream, Test, TestOutcome};
use crate::ids::Ids;
use crate::kind::{Kind, Unable};
use crate::lines::Lines;
use crate::link::{Link, Stop};
use crate::messages::{FileOutcome, Finished, RunOrder};
use crate::program::{self, Ending, Piped, Reader, Stream as Output, pass_on};
use crate::text::{Tail, relative_path};
use crate::tools;

/// The longest filter that is passed to bats.
const FILTER_LIMIT_BYTES: usize = 120_000;

/// What bats runs.
pub(crate) struct Bats {
    program: PathBuf,
    version: String,
    /// What the shell says of itself that runs it.
    shell: String,
    arguments: Vec<String>,
}

impl Bats {
    /// Takes bats' options.
    pub(crate) fn new(arguments: &[String]) -> Bats {
        let (version, shell) = (String::new(), String::new());
        Bats { program: PathBuf::new(), version, shell, arguments: arguments.to_vec() }
    }
}

impl Bats {
    /// Has bats say whether it knows its options: without a file, its complaint is another one if it does.
    fn check_arguments(&self, link: &mut Link) -> Result<Result<(), Unable>, Stop> {
        let Some(first) = self.arguments.first() else { return Ok(Ok(())) };
        if !first.starts_with('-') {
            return Ok(Err(Unable {
                message: format!("bats does not run {first} because it stands behind --"),
                hint: format!("name files and tests before --: distributest {first}"),
            }));
        }
        let mut command = Command::new(&self.program);
        command.arg("--count").args(&self.arguments);
        let messages = tools::ask(command, false, link)?.messages.text();
        Ok(match messages.lines().find_map(|line| line.strip_prefix("Error: Bad command line option ")) {
            Some(option) => Err(Unable {
                message: format!("bats has no option {option}"),
                hint: "see `bats --help` for what it takes".to_owned(),
            }),
            None => Ok(()),
        })
    }
}

impl Kind for Bats {
    fn framework(&self) -> &str {
        "bats"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn runtime(&self) -> &str {
        &self.shell
    }

    /// Finds bats, and sees that it is new enough.
    fn prepare(&mut self, link: &mut Link) -> Result<Result<(), Unable>, Stop> {
        let found = match install::find() {
            Ok(program) => install::version(&program, link)?.map(|version| (program, version)),
            Err(unable) => Err(unable),
        };
        match found {
            Ok((program, version)) => (self.program, self.version) = (program, version),
            Err(unable) => return Ok(Err(unable)),
        }
        self.shell = install::shell(link)?;
        self.check_arguments(link)
    }

    fn run(&mut self, order: &RunOrder, link: &mut Link) -> Result<Finished, Stop> {
        // Where it can't be read, bats says so.
        let source = std::fs::read(&order.file).unwrap_or_default();
        let source = String::from_utf8_lossy(&source);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(["--formatter", "cat", "--timing"]);
        let filter = filter(&order.tests, &source);
        // The kernel takes no longer argument. Without it, all run, and those that are wanted are reported.
        if !order.tests.is_empty() && filter.len() < FILTER_LIMIT_BYTES {
            command.arg("--filter").arg(filter);
        }
        let file = if order.file.starts_with('-') { format!("./{}", order.file) } else { order.file.clone() };
        command.arg(file);
        let mut follower = Follower::new(order, &source);
        match program::run(command, Piped::Both, link, &mut follower)? {
            Ending::NotStarted(error) => {
                let message = format!("failed to start {}: {error}", self.program.display());
                Ok(Finished::new(FileOutcome::Broken, message))
            }
            Ending::Exited(exit) => follower.finish(exit, link),
        }
    }
}

/// An extended regular expression for the names of these tests in the source of their file.
fn filter(tests: &[String], source: &str) -> String {
    let names: Vec<&str> = source.lines().filter_map(name_in_source).collect();
    let mut wanted: Vec<&str> = tests.iter().map(String::as_str).collect();
    if !wanted.iter().all(|test| names.contains(test)) {
        let changes = |name: &&str| name.contains(['$', '`', '\\', '"']);
        wanted.extend(names.into_iter().filter(changes));
    }
    let escaped: Vec<String> = wanted.into_iter().map(escape).collect();
    format!("^({})$", escaped.join("|"))
}

/// The name in `@test "name" {` and in `name() { # @test`, as bats finds it.
fn name_in_source(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("@test").filter(|rest| rest.starts_with([' ', '\t'])) {
        let (name, _) = rest.rsplit_once(" {").or(rest.rsplit_once("\t{"))?;
        let name = name.trim();
        let name = name.strip_prefix(['\'', '"']).unwrap_or(name);
        return Some(name.strip_suffix(['\'', '"']).unwrap_or(name));
    }
    let (function, comment) = line.split_once('{')?;
    comment.trim_start().strip_prefix('#').filter(|comment| comment.trim() == "@test")?;
    Some(function.trim().trim_end_matches("()").trim_end())
}

fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        if r"\^$.[]|()?*+{}".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Follows what bats writes about one file.
struct Follower<'a> {
    order: &'a RunOrder,
    source: &'a str,
    stream: Stream,
    stdout: Lines,
    stderr: Tail,
    /// Of the tests that are wanted, the ones that were there.
    found: Vec<bool>,
    ids: Ids,
    failed: bool,
    /// A test failed that ran along and is not reported.
    other_failed: bool,
    /// A function around the tests failed, so that some may not have run.
    hook_failed: bool,
    /// The file did not load, and what bats says of that.
    load_failure: Option<Test>,
}

impl<'a> Follower<'a> {
    fn new(order: &'a RunOrder, source: &'a str) -> Self {
        Follower {
            order,
            source,
            stream: Stream::default(),
            stdout: Lines::default(),
            stderr: Tail::default(),
            found: vec![false; order.tests.len()],
            ids: Ids::default(),
            failed: false,
            other_failed: false,
            hook_failed: false,
            load_failure: None,
        }
    }

    fn report(&mut self, test: Test, link: &mut Link) -> Result<(), Stop> {
        // Two names of which parts are computed may come out the same.
        let id = self.ids.unique(&test.name);
        if test.is_hook {
            self.hook_failed = true;
            // What fails before the first test in a file without that function is the file itself.
            if test.name == "setup_file failed" && !self.source.contains("setup_file") {
                self.load_failure = Some(test);
                return Ok(());
            }
        } else if !self.order.tests.is_empty() {
            let Some(index) = self.order.tests.iter().position(|wanted| *wanted == id) else {
                self.other_failed |= matches!(test.result, TestOutcome::Failed | TestOutcome::Vanished);
                return Ok(());
            };
            self.found[index] = true;
        }
        let (status, message) = match test.result {
            _ if test.is_hook => (TestStatus::Error, test.message),
            TestOutcome::Passed => (TestStatus::Passed, String::new()),
            TestOutcome::Failed => (TestStatus::Failed, test.message),
            TestOutcome::Skipped(reason) => (TestStatus::Skipped, reason),
            TestOutcome::Vanished => (TestStatus::Error, test.message),
        };
        self.failed |= status.is_failure();
        let (file, line) = match test.place {
            Some((file, line)) => (relative_path(&file), Some(line)),
            None => (self.order.file.clone(), None),
        };
        let result = TestResult {
            id,
            name: test.name,
            status,
            duration: Duration::from_millis(test.milliseconds.unwrap_or_default()),
            message,
            details: test.details,
            file: Some(file),
            line,
        };
        link.send(&(&result).into())
    }

    fn line(&mut self, line: &[u8], link: &mut Link) -> Result<(), Stop> {
        let completed = self.stream.line(&String::from_utf8_lossy(line));
        completed.map_or(Ok(()), |test| self.report(test, link))
    }

    fn finish(mut self, exit: Exit, link: &mut Link) -> Result<Finished, Stop> {
        let mut last = None;
        self.stdout.finish(|line| last = Some(line.to_vec()));
        if let Some(line) = last {
            self.line(&line, link)?;
        }
        let running: Vec<String> = self.stream.running().map(str::to_owned).collect();
        for test in self.stream.finish() {
            self.report(test, link)?;
        }
        Ok(self.judge(exit, &running))
    }

    fn judge(&self, exit: Exit, running: &[String]) -> Finished {
        if let Exit::Signal(_) = exit {
            let place =
                if running.is_empty() { String::new() } else { format!(" in {}", running.join(", ")) };
            return Finished::new(FileOutcome::Crashed, format!("bats was killed by {exit}{place}"));
        }
        let stderr = self.stderr.text();
        let said = complaint(&stderr).or(self.stream.warning());
        if self.stream.results() == 0 && !exit.is_success() && running.is_empty() {
            let message = format!("{exit}: {}", said.unwrap_or("bats gave no reason"));
            return Finished::new(FileOutcome::Broken, message).with_details(stderr);
        }
        if self.stream.planned().is_none() && self.stream.results() == 0 && running.is_empty() {
            let message = "bats ran no test and did not say how many there are";
            return Finished::new(FileOutcome::Broken, message).with_details(stderr);
        }
        if let Some(failure) = &self.load_failure {
            return Finished::new(FileOutcome::Broken, &failure.message).with_details(&failure.details);
        }
        let missing =
            self.order.tests.iter().zip(&self.found).filter(|(_, found)| !**found && !self.hook_failed);
        let mut faults: Vec<String> =
            missing.map(|(test, _)| format!("there is no test {test:?} in it")).collect();
        if !exit.is_success() && !self.failed && !self.other_failed {
            faults.push(said.map_or(exit.to_string(), |said| format!("{exit}: {said}")));
        }
        if self.failed || !faults.is_empty() {
            return Finished::new(FileOutcome::Failed, faults.join("; "));
        }
        let message = if self.stream.planned() == Some(0) { "no tests" } else { "" };
        Finished::new(FileOutcome::Passed, message)
    }
}

/// The first line of standard error that says something. What went wrong while bats looked for tests, newer ones put
/// there as TAP.
fn complaint(stderr: &str) -> Option<&str> {
    let lines = stderr.lines().map(|line| line.strip_prefix("# ").unwrap_or(line).trim());
    let is_frame = |line: &str| line.starts_with("1..") || line.starts_with("not ok 1 bats-gather-tests");
    lines.into_iter().find(|line| !line.is_empty() && !is_frame(line))
}

impl Reader for Follower<'_> {
    fn read(&mut self, stream: Output, bytes: &[u8], link: &mut Link) -> Result<(), Stop> {
        pass_on(stream, bytes)?;
        if stream == Output::Stderr {
            self.stderr.push(bytes);
            return Ok(());
        }
        let (mut lines, mut done) = (std::mem::take(&mut self.stdout), Ok(()));
        lines.push(bytes, |line| {
            if done.is_ok() {
                done = self.line(line, link);
            }
        });
        self.stdout = lines;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_bats_finds_them() {
        let cases = [
            ("@test \"adds 1 and 2\" {", Some("adds 1 and 2")),
            ("  @test 'it''s { fine' { true; }", Some("it''s { fine")),
            ("@test unquoted {", Some("unquoted")),
            ("function_name() { # @test", Some("function_name")),
            ("function_name() {", None),
            ("@testing { x", None),
        ];
        for (line, name) in cases {
            assert_eq!(name_in_source(line), name, "{line}");
        }
    }

    #[test]
    fn a_filter_matches_names_and_nothing_else() {
        let source = "@test \"a.b (c)\" {\n@test \"with $value\" {\n@test \"other\" {\n";
        assert_eq!(filter(&["a.b (c)".to_owned()], source), r"^(a\.b \(c\))$");
        let unknown = filter(&["with 3".to_owned()], source);
        assert_eq!(unknown, r"^(with 3|with \$value)$");
    }
}
