//! Runs the tests of a test binary.
//!
//! One with Rust's own harness runs all its tests in one process, one after another, as `cargo test` does (`shared`), or each
//! in a process of its own, as cargo-nextest does (`process`). With `shared`, when a test takes the process with it, those
//! after it run in a new one.
//!
//! One with a harness of its own (`harness = false`) that answers `--list --format terse` as cargo-nextest asks for has
//! each of its tests run by itself; any other is one test, which passes when the binary's exit status is 0.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use distributest_core::test_result::TestStatus;
use distributest_process::Exit;

use super::arguments::Arguments;
use super::build::Binary;
use super::libtest::{End, Ended, Follower, TestEnd};
use super::panic::account_of;
use super::settings::Settings;
use crate::excerpt::Excerpt;
use crate::link::{Link, Stop};
use crate::program::{self, Ending, Piped, Reader, Stream, pass_on};
use crate::report::{Entry, Report};
use crate::tools;

/// How many bytes of names one process is given; the system takes some more.
const NAMES_BYTES: usize = 512 * 1024;

/// How much of each end of what a test wrote is kept.
const OUTPUT_BYTES: usize = 128 * 1024;

/// The message of a test that failed and printed nothing.
const SILENT: &str = "it failed without a word";

/// The message of a test that failed in a process that died later.
const LOST: &str = "it failed; what it said was lost with the process";

/// How many tests a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// One process for a binary's tests.
    Shared,
    /// One for each test.
    Process,
}

/// A binary and how it is run.
pub(super) struct TestRun<'a> {
    pub(super) binary: &'a Binary,
    /// What its package tells its tests.
    pub(super) variables: &'a [(String, String)],
    pub(super) settings: &'a Settings,
    pub(super) arguments: &'a Arguments,
    pub(super) isolation: Isolation,
    /// What its tests' ids begin with: nothing, unless other binaries have the same root file.
    pub(super) prefix: String,
    /// The directory that places in reports are relative to.
    pub(super) project: &'a Path,
    /// The directory that the compiler's are relative to.
    pub(super) workspace: &'a Path,
    pub(super) report: &'a mut Report,
    /// Whether somebody ended a process, and may not want a further one to be started.
    pub(super) is_stopped: bool,
}

/// What a binary says of its tests.
struct Listing {
    names: Vec<String>,
    /// Those of them that it would skip.
    ignored: HashSet<String>,
}

impl TestRun<'_> {
    /// Runs the tests of these ids; without any, all.
    pub(super) fn run(&mut self, ids: &[String], link: &mut Link) -> Result<(), Stop> {
        let Some(listing) = self.list(link)? else { return Ok(()) };
        let is_whole = ids.is_empty();
        let wanted: HashSet<&str> = ids.iter().filter_map(|id| id.strip_prefix(&self.prefix)).collect();
        let names: Vec<String> =
            listing.names.iter().filter(|name| is_whole || wanted.contains(name.as_str())).cloned().collect();
        let known: HashSet<&str> = listing.names.iter().map(String::as_str).collect();
        for id in ids {
            if id.strip_prefix(&self.prefix).is_none_or(|name| !known.contains(name)) {
                self.report.fault(format!("the test {id} is not there any more"));
            }
        }
        if !self.binary.has_libtest {
            return self.run_foreign(&names, &listing.ignored, link);
        }
        match self.isolation {
            Isolation::Shared => self.run_shared(&names, is_whole, link),
            Isolation::Process => {
                let (ignored, run): (Vec<String>, Vec<String>) =
                    names.into_iter().partition(|name| listing.ignored.contains(name));
                for (number, name) in run.iter().enumerate() {
                    if self.is_stopped {
                        self.report.left_out(run.len() - number);
                        return Ok(());
                    }
                    self.run_alone(name, link)?;
                }
                // They only say why they are ignored.
                self.run_shared(&ignored, false, link)
            }
        }
    }

    /// Asks the binary for its tests; nothing where it has none to be asked for, or can't be started, which is reported.
    fn list(&mut self, link: &mut Link) -> Result<Option<Listing>, Stop> {
        let Some(names) = self.names(&[], link)? else {
            if self.binary.has_libtest {
                return Ok(None);
            }
            return self.run_plain(link).map(|()| None);
        };
        if names.is_empty() && self.binary.has_libtest && !self.counts_none(link)? {
            self.report
                .crashed("the test binary left with exit status 0 before its tests were done".to_owned());
            return Ok(None);
        }
        let decides = |option: &String| option == "--ignored" || option == "--include-ignored";
        let asks = self.isolation == Isolation::Process || !self.binary.has_libtest;
        let ignored = if asks && !self.arguments.options.iter().any(decides) {
            self.names(&["--ignored"], link)?.unwrap_or_default().into_iter().collect()
        } else {
            HashSet::new()
        };
        Ok(Some(Listing { names, ignored }))
    }

    /// Whether a binary with Rust's harness that named no test says that it has none, and did not just leave before. Behind
    /// a runner, which may have its own words for that, it is taken for granted.
    fn counts_none(&self, link: &mut Link) -> Result<bool, Stop> {
        if !self.settings.runner.is_empty() {
            return Ok(true);
        }
        let mut command = self.command();
        command.args(["--list", "--format", "pretty"]);
        command.args(&self.arguments.options).args(&self.arguments.filters);
        let answer = tools::ask(command, false, link)?;
        Ok(!answer.is_success() || answer.text().lines().any(|line| line.starts_with("0 tests, ")))
    }

    /// The names of its tests. Nothing where it does not tell, which is reported where it should.
    fn names(&mut self, more: &[&str], link: &mut Link) -> Result<Option<Vec<String>>, Stop> {
        let mut command = self.command();
        command.args(["--list", "--format", "terse"]).args(more);
        command.args(&self.arguments.options).args(&self.arguments.filters);
        let answer = tools::ask(command, self.binary.has_libtest, link)?;
        let text = answer.text();
        let name = |line: &str| {
            let name = line.strip_suffix(": test").or_else(|| line.strip_suffix(": benchmark"));
            name.map(str::to_owned)
        };
        if answer.is_success() {
            if self.binary.has_libtest {
                // What a runner or a library prints on the way is not a test.
                return Ok(Some(text.lines().filter_map(name).collect()));
            }
            let names: Option<Vec<String>> = text.lines().map(name).collect();
            // A harness that knows no list has usually run its tests instead, and said nothing.
            return Ok(names.filter(|names| !more.is_empty() || !names.is_empty()));
        }
        if self.binary.has_libtest {
            let messages = answer.messages.text();
            let (said, ended) = (last_line(&messages), words_on(&answer.ending));
            self.report.broken(
                format!("the test binary does not start: {}", if said.is_empty() { &ended } else { said }),
                &messages,
            );
        }
        Ok(None)
    }

    /// Runs these tests in one process, and those after one that takes it with it in further ones.
    fn run_shared(&mut self, names: &[String], is_whole: bool, link: &mut Link) -> Result<(), Stop> {
        let (mut rest, mut is_whole) = (names, is_whole);
        while !rest.is_empty() {
            let some = if is_whole { rest } else { &rest[..that_fit(rest)] };
            let mut command = self.libtest();
            command.args(&self.arguments.options);
            if is_whole {
                command.args(&self.arguments.filters);
            } else {
                command.arg("--exact").args(some);
            }
            let (ending, end, said) = self.follow(command, some, link)?;
            let done = match end {
                End::Complete => {
                    self.judge_exit(&ending);
                    some.len()
                }
                End::Contradiction => {
                    self.report.fault(
                        "what its tests print can't be told from what their harness prints; \
                         with isolation = \"process\" each has its own output",
                    );
                    return Ok(());
                }
                End::BeforeTests => {
                    let details = said.text();
                    self.report.broken(format!("no test was run: {}", words_on(&ending)), details);
                    return Ok(());
                }
                End::AfterTests => {
                    self.report.crashed(format!("after its last test: {}", words_on(&ending)));
                    some.len()
                }
                End::InTest(number) => {
                    self.died_in(&some[number], &ending, &said, link)?;
                    number + 1
                }
            };
            rest = &rest[done..];
            is_whole = false;
            if self.is_stopped {
                self.report.left_out(rest.len());
                return Ok(());
            }
        }
        Ok(())
    }

    /// Runs one test in a process of its own.
    fn run_alone(&mut self, name: &String, link: &mut Link) -> Result<(), Stop> {
        let mut command = self.libtest();
        command.args(&self.arguments.options);
        if !self.arguments.capture_nothing() {
            command.arg("--nocapture");
        }
        command.arg("--exact").arg(name);
        let (ending, end, said) = self.follow(command, std::slice::from_ref(name), link)?;
        match end {
            // What it prints besides can't be another test's here.
            End::Complete | End::Contradiction => self.judge_exit(&ending),
            End::AfterTests => self.report.crashed(format!("after {name}: {}", words_on(&ending))),
            End::InTest(_) | End::BeforeTests => self.died_in(name, &ending, &said, link)?,
        }
        Ok(())
    }

    /// Runs the tests of a harness that is not Rust's own, each by itself.
    fn run_foreign(
        &mut self,
        names: &[String],
        ignored: &HashSet<String>,
        link: &mut Link,
    ) -> Result<(), Stop> {
        for (number, name) in names.iter().enumerate() {
            if self.is_stopped {
                self.report.left_out(names.len() - number);
                return Ok(());
            } else if ignored.contains(name) {
                let entry = self.entry(name, TestStatus::Skipped, Duration::ZERO).because("ignored", "");
                self.report.test(entry, link)?;
                continue;
            }
            let mut command = self.command();
            command.arg(name).args(["--exact", "--nocapture"]);
            command.args(self.arguments.options.iter().filter(|option| !option.ends_with("capture")));
            self.run_by_exit(name, command, link)?;
        }
        Ok(())
    }

    /// Runs a binary that has no list of tests.
    fn run_plain(&mut self, link: &mut Link) -> Result<(), Stop> {
        let mut command = self.command();
        command.args(&self.arguments.options).args(&self.arguments.filters);
        let name = self.binary.name.clone();
        self.run_by_exit(&name, command, link)
    }

    /// Runs something whose exit status decides.
    fn run_by_exit(&mut self, name: &str, command: Command, link: &mut Link) -> Result<(), Stop> {
        let begin = Instant::now();
        let mut listener = Listener { said: Excerpt::new(OUTPUT_BYTES) };
        let ending = program::run(command, Piped::Both, link, &mut listener)?;
        self.is_stopped |= ending.is_from_outside();
        let (duration, details) = (begin.elapsed(), listener.said.text());
        match &ending {
            Ending::Exited(exit) if exit.is_success() => {
                let entry = self.entry(name, TestStatus::Passed, duration);
                self.report.test(entry, link)
            }
            Ending::Exited(Exit::Code(_)) => {
                let account = account_of(&details);
                let words = if account.message.is_empty() { words_on(&ending) } else { account.message };
                let entry = self.entry(name, TestStatus::Failed, duration).because(words, details);
                self.report.test(entry, link)
            }
            Ending::Exited(Exit::Signal(_)) | Ending::NotStarted(_) => {
                self.died_in(name, &ending, &listener.said, link)
            }
        }
    }

    /// Runs the binary and reports each of these tests as it ends.
    fn follow(
        &mut self,
        command: Command,
        names: &[String],
        link: &mut Link,
    ) -> Result<(Ending, End, Excerpt), Stop> {
        let follower = Follower::new(names.to_vec(), Instant::now());
        let mut following = Following { run: self, follower, said: Excerpt::new(OUTPUT_BYTES) };
        let ending = program::run(command, Piped::Both, link, &mut following)?;
        let Following { follower, said, .. } = following;
        self.is_stopped |= ending.is_from_outside();
        let conclusion = follower.conclude();
        // Where the process died, libtest had no chance to say what failed tests had printed.
        let silence = if matches!(conclusion.end, End::InTest(_)) { LOST } else { SILENT };
        self.tell_all(conclusion.ended, &said, silence, link)?;
        Ok((ending, conclusion.end, said))
    }

    /// `said` is what stands on standard error; `silence` the message of a test that failed without one.
    fn tell_all(
        &mut self,
        ended: Vec<Ended>,
        said: &Excerpt,
        silence: &str,
        link: &mut Link,
    ) -> Result<(), Stop> {
        for Ended { name, result, duration } in ended {
            let entry = |status| self.entry(&name, status, duration);
            let entry = match result {
                TestEnd::Ok => entry(TestStatus::Passed),
                TestEnd::Ignored(reason) if reason.is_empty() => {
                    entry(TestStatus::Skipped).because("ignored", "")
                }
                TestEnd::Ignored(reason) => entry(TestStatus::Skipped).because(reason, ""),
                TestEnd::Failed(details) => {
                    self.failure(entry(TestStatus::Failed), &details, &said.text(), silence)
                }
            };
            self.report.test(entry, link)?;
        }
        Ok(())
    }

    /// Completes what is reported of a failed test.
    fn failure(&self, entry: Entry, printed: &str, said: &str, silence: &str) -> Entry {
        // What is not captured is on standard error, which is that of all tests of the process.
        let begin = match self.isolation {
            Isolation::Shared => said.find(&format!("thread '{}'", entry.name)),
            Isolation::Process => Some(0),
        };
        let details = format!("{printed}\n{}", begin.map_or("", |begin| &said[begin..]));
        let account = account_of(&details);
        let message = if account.message.is_empty() { silence.to_owned() } else { account.message };
        let place = match account.place {
            Some((file, line)) => (self.relative(&file), Some(line)),
            None => entry.place.clone(),
        };
        Entry { place, ..entry.because(message, details.trim()) }
    }

    /// Reports the test that took the process with it.
    fn died_in(&mut self, name: &str, ending: &Ending, said: &Excerpt, link: &mut Link) -> Result<(), Stop> {
        let what = match ending {
            Ending::Exited(Exit::Code(code)) => format!("it left the process with exit status {code}"),
            _ => words_on(ending),
        };
        self.report.crashed(format!("{what} in {name}"));
        let entry = self.entry(name, TestStatus::Error, Duration::ZERO).because(what, said.text());
        self.report.test(entry, link)
    }

    /// Compares how the binary left with what its tests said.
    fn judge_exit(&mut self, ending: &Ending) {
        match ending {
            Ending::Exited(exit @ Exit::Signal(_)) => {
                self.report.crashed(format!("after its last test: {exit}"))
            }
            Ending::Exited(exit @ Exit::Code(code)) if *code != 0 && !self.report.has_failed() => {
                self.report.fault(format!("{exit} after its tests had passed"));
            }
            _ => {}
        }
    }

    /// A test with nothing more to say of it.
    fn entry(&self, name: &str, status: TestStatus, duration: Duration) -> Entry {
        Entry {
            id: format!("{}{name}", self.prefix),
            name: name.to_owned(),
            status,
            duration,
            message: String::new(),
            details: String::new(),
            place: (self.relative(&self.binary.source.to_string_lossy()), None),
        }
    }

    /// A path of the compiler's, relative to the project; nothing for one outside of it.
    fn relative(&self, path: &str) -> Option<String> {
        let path = self.workspace.join(path);
        path.strip_prefix(self.project).ok().map(|path| path.to_string_lossy().into_owned())
    }

    /// The binary with Rust's harness, which is to report in full, one test after another.
    fn libtest(&self) -> Command {
        let mut command = self.command();
        command.args(["--test-threads=1", "--format=pretty", "--color=never"]);
        command
    }

    /// The binary as cargo starts it.
    fn command(&self) -> Command {
        let mut command = match self.settings.runner.split_first() {
            Some((runner, arguments)) => {
                let mut command = Command::new(runner);
                command.args(arguments).arg(&self.binary.executable);
                command
            }
            None => Command::new(&self.binary.executable),
        };
        command.current_dir(&self.binary.package);
        command.envs(self.settings.environment.iter().map(|(name, value)| (name, value)));
        command
            .envs(self.variables.iter().chain(&self.binary.environment).map(|(name, value)| (name, value)));
        if let Some(cargo) = &self.settings.cargo {
            command.env("CARGO", cargo);
        }
        command.env("LD_LIBRARY_PATH", self.library_path());
        command
    }

    fn library_path(&self) -> OsString {
        let inherited = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let inherited = std::env::split_paths(&inherited).filter(|path| !path.as_os_str().is_empty());
        let own = self.binary.libraries.iter().chain(&self.settings.libraries).cloned();
        let paths: Vec<PathBuf> = own.chain(inherited).collect();
        // A directory with a colon in its name can't be said; nobody else finds it either.
        std::env::join_paths(paths).unwrap_or_default()
    }
}

/// Follows a binary with Rust's harness.
struct Following<'a, 'b> {
    run: &'a mut TestRun<'b>,
    follower: Follower,
    /// What it wrote to standard error.
    said: Excerpt,
}

impl Reader for Following<'_, '_> {
    fn read(&mut self, stream: Stream, bytes: &[u8], link: &mut Link) -> Result<(), Stop> {
        pass_on(stream, bytes)?;
        match stream {
            Stream::Stdout => {
                let ended = self.follower.read(bytes, Instant::now());
                self.run.tell_all(ended, &self.said, SILENT, link)
            }
            Stream::Stderr => {
                self.said.push(bytes);
                Ok(())
            }
        }
    }
}

/// Keeps what a program writes.
struct Listener {
    said: Excerpt,
}

impl Reader for Listener {
    fn read(&mut self, stream: Stream, bytes: &[u8], _: &mut Link) -> Result<(), Stop> {
        self.said.push(bytes);
        pass_on(stream, bytes)
    }
}

/// How many of these names can be given to one process.
fn that_fit(names: &[String]) -> usize {
    let mut length = 0;
    let fits = |name: &&String| {
        length += name.len() + 1;
        length <= NAMES_BYTES
    };
    names.iter().take_while(fits).count().max(1)
}

fn words_on(ending: &Ending) -> String {
    match ending {
        Ending::NotStarted(error) => format!("it can't be started: {error}"),
        Ending::Exited(Exit::Code(code)) => format!("exit status {code}"),
        Ending::Exited(exit) => format!("the process died of {exit}"),
    }
}

fn last_line(text: &str) -> &str {
    text.trim_end().rsplit('\n').next().unwrap_or_default()
}
