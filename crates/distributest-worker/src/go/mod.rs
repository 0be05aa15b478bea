//! Go's tests: what `go test` builds and runs.
//!
//! A unit is a package, by its directory. Its test binary is built when it is needed, once per host (`package.rs`), and run in
//! the package's directory with the arguments that go would give it, but without a time limit of its own: the agent's
//! counts. `output.rs` follows what it prints, `account.rs` finds the one line that says why a test failed, `places.rs` where it
//! stands, `panics.rs` which test a panic belongs to. What a whole module needs is compiled beforehand, by the first worker of
//! a run.
//!
//! A test that takes the process with it is an `error`, and so are the tests it is part of; the others that had not ended
//! run in a new process, unless the project's arguments choose tests.

mod account;
mod arguments;
mod output;
mod package;
mod panics;
mod places;
mod selection;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use distributest_core::test_result::TestStatus;
use distributest_process::Exit;

use self::account::{is_death, message_of, reason_of};
use self::arguments::Arguments;
use self::output::{Conclusion, Ended, Follower, TestEnd, Unmarked};
use self::package::{Built, TestBinary};
use crate::kind::{Kind, Unable};
use crate::link::{Link, Stop};
use crate::messages::{FileOutcome, Finished, RunOrder};
use crate::program::{self, Ending, Piped, Reader, Stream, pass_on};
use crate::report::{Entry, Report};
use crate::run_directory::RunDirectory;
use crate::tools;

/// Runs Go's tests.
pub(crate) struct Go {
    arguments: Arguments,
    program: PathBuf,
    version: String,
    /// All that it says of its version.
    full_version: String,
    project: PathBuf,
    directory: RunDirectory,
}

impl Go {
    /// Takes the arguments of `go test`.
    pub(crate) fn new(words: &[String]) -> Result<Go, Unable> {
        let directory = RunDirectory::open().map_err(Unable::no_directory)?;
        Ok(Go {
            arguments: Arguments::parse(words)?,
            program: PathBuf::new(),
            version: String::new(),
            full_version: String::new(),
            project: std::env::current_dir().unwrap_or_default(),
            directory,
        })
    }

    /// Compiles what the tests of the project's modules need, all at once rather than once in each runner: go's cache
    /// holds it, but two that compile the same at the same time don't wait for each other.
    fn compile(&self, link: &mut Link) -> Result<(), Stop> {
        let compiled = self.directory.file("go-compiled", &self.arguments.of_build);
        let _lock = self.directory.lock(&compiled, link)?;
        if compiled.exists() {
            return Ok(());
        }
        let mut command = self.go(&["list", "-m", "-f", "{{.Dir}}/..."]);
        command.env("GOFLAGS", without_mod(&std::env::var("GOFLAGS").unwrap_or_default()));
        let modules = tools::ask(command, false, link)?;
        // What is wrong with a package is said when its turn comes.
        let mut command = self.go(&["list", "-e", "-export", "-deps", "-test", "-f", ""]);
        command.args(&self.arguments.of_build).args(modules.text().lines());
        tools::ask(command, false, link)?;
        // Without it the next worker does the same, and finds everything done.
        let _ = std::fs::write(compiled, "");
        Ok(())
    }

    fn go(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words);
        command
    }

    fn has_markers(&self) -> bool {
        let mut numbers = self.version.split('.').map(|number| number.parse().unwrap_or(0));
        let (major, minor): (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        (major, minor) >= (1, 20)
    }
}

impl Kind for Go {
    fn framework(&self) -> &str {
        "go"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn runtime(&self) -> &str {
        &self.full_version
    }

    fn prepare(&mut self, link: &mut Link) -> Result<Result<(), Unable>, Stop> {
        let places = [tools::below("GOROOT", "bin/go"), tools::below("HOME", "go/bin/go")];
        let mut elsewhere: Vec<PathBuf> = places.into_iter().flatten().collect();
        elsewhere.extend(["/usr/local/go/bin/go", "/usr/lib/go/bin/go"].map(PathBuf::from));
        let Some(program) = tools::find("go", &elsewhere) else {
            return Ok(Err(Unable {
                message:
                    "go is not there: looked in PATH, $GOROOT/bin, /usr/local/go/bin and /usr/lib/go/bin"
                        .to_owned(),
                hint: "install Go, or Debian's package golang-go, in node_setup".to_owned(),
            }));
        };
        self.program = program;
        let answer = tools::ask(self.go(&["version"]), true, link)?;
        if !answer.is_success() {
            return Ok(Err(Unable {
                message: format!(
                    "{} version failed: {}",
                    self.program.display(),
                    answer.messages.text().trim()
                ),
                hint: "install the Go that the project asks for in node_setup".to_owned(),
            }));
        }
        let text = answer.text();
        let version = text.split(' ').nth(2).unwrap_or_default();
        self.version = version.strip_prefix("go").unwrap_or(version).to_owned();
        self.full_version = text;
        if self.project.join("go.mod").is_file() || self.project.join("go.work").is_file() {
            self.compile(link)?;
        }
        Ok(Ok(()))
    }

    fn run(&mut self, order: &RunOrder, link: &mut Link) -> Result<Finished, Stop> {
        let package = if order.file == "." { self.project.clone() } else { self.project.join(&order.file) };
        match package::build(&self.program, &package, &self.arguments, &self.directory, link)? {
            Built::NoTests(words) => Ok(Finished::new(FileOutcome::Passed, format!("no tests: {words}"))),
            Built::Broken { message, details } => {
                Ok(Finished::new(FileOutcome::Broken, message).with_details(details))
            }
            Built::Binary(binary) => {
                let run = TestRun {
                    binary: &binary,
                    arguments: &self.arguments,
                    has_markers: self.has_markers(),
                    package: &package,
                    unit: &order.file,
                    places: places::of_tests(&package),
                    wanted: order.tests.iter().map(String::as_str).collect(),
                    told: HashSet::new(),
                    failed: HashSet::new(),
                    report: Report::default(),
                };
                run.run(link)
            }
        }
    }
}

/// A package's tests being run.
struct TestRun<'a> {
    binary: &'a TestBinary,
    arguments: &'a Arguments,
    has_markers: bool,
    package: &'a Path,
    /// What the unit is called.
    unit: &'a str,
    places: HashMap<String, (String, u32)>,
    /// Ids of the tests to report; none: all.
    wanted: BTreeSet<&'a str>,
    /// Ids of the tests that are known to have ended.
    told: HashSet<String>,
    /// Those that failed.
    failed: HashSet<String>,
    report: Report,
}

impl TestRun<'_> {
    fn run(mut self, link: &mut Link) -> Result<Finished, Stop> {
        if self.run_until_all_ended(link)? {
            self.say_left_out();
            return Ok(self.report.finished());
        }
        for id in &self.wanted {
            if !self.told.contains(*id) {
                self.report.fault(format!("the test {id} did not run, or is not there any more"));
            }
        }
        Ok(self.report.finished())
    }

    /// Says of which tests nothing is known, because somebody ended the process before them. The binary is not asked for
    /// them now, and what stands in the files need not all be compiled: their number is known only of those asked for.
    fn say_left_out(&mut self) {
        let is_left = |id: &str| !self.told.contains(id);
        if !self.wanted.is_empty() {
            let tests = self.wanted.iter().filter(|id| is_left(id)).count();
            self.report.left_out(tests);
        } else if self.places.keys().any(|name| name != "TestMain" && is_left(name)) {
            self.report.fault("the tests after it were not run");
        }
    }

    /// Runs the tests, and those that one has kept from ending which took the process with it in further processes, until
    /// none of these dies or brings anything new. Returns whether somebody ended one, who may not want a further one to be
    /// started.
    fn run_until_all_ended(&mut self, link: &mut Link) -> Result<bool, Stop> {
        let mut patterns = Vec::new();
        if self.wanted.is_empty() {
            patterns.push(None);
        } else {
            patterns.extend(selection::patterns(&self.wanted).into_iter().map(Some));
        }
        loop {
            let (told_before, mut has_died) = (self.told.len(), false);
            for pattern in &patterns {
                let (ending, conclusion) = self.run_once(pattern.as_deref(), link)?;
                has_died |= self.take_death(&ending, conclusion, link)?;
                if ending.is_from_outside() {
                    return Ok(true);
                }
            }
            if !has_died || self.told.len() == told_before {
                return Ok(false);
            }
            let rest = self.not_ended(link)?;
            patterns = selection::patterns(&rest.iter().map(String::as_str).collect())
                .into_iter()
                .map(Some)
                .collect();
        }
    }

    /// Runs the binary once and reports each test as it ends.
    fn run_once(&mut self, pattern: Option<&str>, link: &mut Link) -> Result<(Ending, Conclusion), Stop> {
        let mut command = self.command();
        let verbose = if self.has_markers { "-test.v=test2json" } else { "-test.v=true" };
        // Before what `-args` gave the tests, which may be anything.
        let own =
            self.binary.arguments.iter().take_while(|word| word.to_string_lossy().starts_with("-test."));
        let own: Vec<_> = own.collect();
        command.args(&own).arg(verbose);
        if let Some(pattern) = pattern {
            command.arg(format!("-test.run={pattern}"));
        }
        command.args(&self.binary.arguments[own.len()..]);
        let follower = Follower::new(self.has_markers);
        let mut following = Following { run: self, follower, unmarked: Unmarked::default() };
        let ending = program::run(command, Piped::Merged, link, &mut following)?;
        let Following { follower, unmarked, .. } = following;
        pass_on(Stream::Stdout, &unmarked.end())?;
        Ok((ending, follower.conclude()))
    }

    /// Reports what is only clear now that the process has ended. Returns whether a test took it with it.
    fn take_death(&mut self, ending: &Ending, conclusion: Conclusion, link: &mut Link) -> Result<bool, Stop> {
        let Conclusion { mut ended, mut running, current, has_verdict, mut doubtful, rest } = conclusion;
        let has_begun = !(self.told.is_empty() && ended.is_empty() && running.is_empty());
        if has_verdict && is_success(ending) {
            doubtful.clear();
            // All is well, so they are; only their results were lost in what they print.
            let passed =
                |(id, output)| Ended { id, result: TestEnd::Passed, duration: Duration::ZERO, output };
            ended.extend(running.drain(..).map(passed));
        }
        let died_in = if is_orderly(ending) { None } else { panics::take_panicked(&mut ended) };
        let is_running = |id: &String| running.iter().any(|(running, _)| running == id);
        let last = || running.last().map(|(id, _)| id.clone());
        let died_in = died_in.or_else(|| current.filter(is_running)).or_else(last);
        self.note_failed(&ended);
        for test in ended {
            let is_it = died_in.as_ref() == Some(&test.id);
            self.tell(test, if is_it { Some(ending) } else { None }, link)?;
        }
        let Some(died_in) = died_in else {
            doubtful.retain(|test| !self.told.contains(&test.id));
            self.note_failed(&doubtful);
            doubtful.into_iter().try_for_each(|test| self.tell(test, None, link))?;
            if !has_begun && !has_verdict && is_success(ending) {
                self.judge_silence(link)?;
            }
            self.judge_exit(ending, has_begun, &rest);
            return Ok(false);
        };
        // What it is part of ends with it; what ran beside it gets another chance.
        for (id, output) in running {
            if died_in == id || died_in.starts_with(&format!("{id}/")) {
                let test = Ended { id, result: TestEnd::Failed, duration: Duration::ZERO, output };
                self.tell(test, Some(ending), link)?;
            }
        }
        self.report.crashed(format!("{} in {died_in}", words_on(ending)));
        Ok(true)
    }

    /// Says that the process left with 0 and no word of the testing package's, which has one also for no tests. A `TestMain`
    /// may mean to leave before it, and output may go elsewhere; what leaves while it is loaded has crashed.
    fn judge_silence(&mut self, link: &mut Link) -> Result<(), Stop> {
        let may_be_meant = self.places.contains_key("TestMain") || !self.arguments.runner.is_empty();
        if !may_be_meant && self.leaves_while_loading(link)? {
            let message = "the test binary left with exit status 0 before its tests were done";
            self.report.crashed(message.to_owned());
        } else {
            let message = "no tests seen: the test binary left with exit status 0 and said nothing of them";
            self.report.none_seen(message);
        }
        Ok(())
    }

    /// Whether the binary leaves with 0 although it is given a pattern that the testing package refuses.
    fn leaves_while_loading(&self, link: &mut Link) -> Result<bool, Stop> {
        let mut command = self.command();
        command.arg("-test.run=[");
        Ok(tools::ask(command, false, link)?.is_success())
    }

    /// Says what is wrong with how the process left although no test took it along.
    fn judge_exit(&mut self, ending: &Ending, has_begun: bool, rest: &str) {
        let death = rest.lines().find(|line| is_death(line));
        match (ending, death) {
            _ if is_success(ending) => {}
            _ if !has_begun => {
                let said = death.or_else(|| rest.lines().next_back());
                let said =
                    said.map_or_else(|| words_on(ending), |said| format!("{}: {said}", words_on(ending)));
                self.report.broken(format!("no test was run: {said}"), rest);
            }
            (Ending::Exited(Exit::Signal(_)) | Ending::NotStarted(_), _) => {
                self.report.crashed(format!("{} after the last test", words_on(ending)));
            }
            (Ending::Exited(Exit::Code(2)), Some(_)) => {
                let said = message_of("", rest);
                self.report.crashed(format!("{} after the last test: {said}", words_on(ending)));
            }
            (Ending::Exited(Exit::Code(_)), _) if self.failed.is_empty() => {
                self.report.fault(format!("{} although no test failed", words_on(ending)));
            }
            (Ending::Exited(Exit::Code(_)), _) => {
                // The wanted tests may all have passed, and what they are part of have failed.
                let unwanted = self.failed.iter().find(|id| !self.is_wanted(id)).cloned();
                if let Some(id) = unwanted.filter(|_| !self.report.has_failed()) {
                    self.report.fault(format!("{id} failed"));
                }
            }
        }
    }

    /// Remembers which of these tests failed, before any is reported: a test ends before its parts do.
    fn note_failed(&mut self, ended: &[Ended]) {
        let failed = ended.iter().filter(|test| test.result == TestEnd::Failed);
        self.failed.extend(failed.map(|test| test.id.clone()));
    }

    /// Reports a test; `died` is how the process ended that it took with it.
    fn tell(&mut self, test: Ended, died: Option<&Ending>, link: &mut Link) -> Result<(), Stop> {
        let Ended { id, result, duration, output } = test;
        self.told.insert(id.clone());
        if !self.is_wanted(&id) {
            return Ok(());
        }
        let (status, message) = match (result, died) {
            (TestEnd::Passed, _) => (TestStatus::Passed, String::new()),
            (TestEnd::Skipped, _) => (TestStatus::Skipped, reason_of(&output)),
            (TestEnd::Failed, None) => (TestStatus::Failed, self.failure(&id, &output)),
            (TestEnd::Failed, Some(ending)) => {
                let died = output.lines().find(|line| is_death(line)).map(|_| message_of(&id, &output));
                (TestStatus::Error, died.unwrap_or_else(|| words_on(ending)))
            }
        };
        let details = if status.is_failure() { output } else { String::new() };
        let (file, line) = self.place_of(&id);
        let entry = Entry { name: id.clone(), id, status, duration, message, details, place: (file, line) };
        self.report.test(entry, link)
    }

    fn failure(&self, id: &str, output: &str) -> String {
        let message = message_of(id, output);
        let below = format!("{id}/");
        match self.failed.iter().any(|failed| failed.starts_with(&below)) {
            true if message.is_empty() => "a part of it failed".to_owned(),
            _ => message,
        }
    }

    fn is_wanted(&self, id: &str) -> bool {
        self.wanted.is_empty() || self.wanted.contains(id)
    }

    /// The file and line of the function that a test is, or is part of.
    fn place_of(&self, id: &str) -> (Option<String>, Option<u32>) {
        let function = id.split('/').next().unwrap_or_default();
        let Some((file, line)) = self.places.get(function) else { return (None, None) };
        let file = if self.unit == "." { file.clone() } else { format!("{}/{file}", self.unit) };
        (Some(file), Some(*line))
    }

    /// What has not ended of the wanted tests, or else of the package's, without their parts. Which the project's own
    /// arguments choose can't be asked.
    fn not_ended(&self, link: &mut Link) -> Result<Vec<String>, Stop> {
        let has_not_ended = |id: &&str| !self.told.contains(*id);
        if !self.wanted.is_empty() {
            return Ok(self.wanted.iter().copied().filter(has_not_ended).map(str::to_owned).collect());
        } else if self.arguments.choose_tests {
            return Ok(Vec::new());
        }
        let mut command = self.command();
        command.arg("-test.list=.");
        let answer = tools::ask(command, false, link)?;
        let text = answer.text();
        let is_test = |name: &&str| ["Test", "Example", "Fuzz"].iter().any(|kind| name.starts_with(kind));
        Ok(text.lines().filter(is_test).filter(has_not_ended).map(str::to_owned).collect())
    }

    /// The binary as go starts it, without arguments.
    fn command(&self) -> Command {
        let mut command = match self.arguments.runner.split_first() {
            Some((runner, arguments)) => {
                let mut command = Command::new(runner);
                command.args(arguments).arg(&self.binary.path);
                command
            }
            None => Command::new(&self.binary.path),
        };
        command.current_dir(self.package).env("PWD", self.package);
        command.envs(self.binary.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Follows a test binary.
struct Following<'a, 'b> {
    run: &'a mut TestRun<'b>,
    follower: Follower,
    unmarked: Unmarked,
}

impl Reader for Following<'_, '_> {
    fn read(&mut self, stream: Stream, bytes: &[u8], link: &mut Link) -> Result<(), Stop> {
        if self.run.has_markers {
            pass_on(stream, &self.unmarked.read(bytes))?;
        } else {
            pass_on(stream, bytes)?;
        }
        let ended = self.follower.read(bytes);
        self.run.note_failed(&ended);
        ended.into_iter().try_for_each(|test| self.run.tell(test, None, link))
    }
}

fn is_success(ending: &Ending) -> bool {
    matches!(ending, Ending::Exited(exit) if exit.is_success())
}

/// Whether a binary left as one does whose tests have all ended: with 0, or 1 where some failed.
fn is_orderly(ending: &Ending) -> bool {
    matches!(ending, Ending::Exited(Exit::Code(0 | 1)))
}

fn words_on(ending: &Ending) -> String {
    match ending {
        Ending::NotStarted(error) => format!("the test binary can't be started: {error}"),
        Ending::Exited(Exit::Code(code)) => format!("exit status {code}"),
        Ending::Exited(exit) => format!("the process died of {exit}"),
    }
}

/// The flags of go's environment without `-mod`, which its workspaces don't take where modules are listed.
fn without_mod(flags: &str) -> String {
    flags.split(' ').filter(|flag| !flag.starts_with("-mod")).collect::<Vec<_>>().join(" ")
}
