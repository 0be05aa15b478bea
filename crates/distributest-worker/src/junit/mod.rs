//! Any command that writes its results as JUnit XML: PHPUnit, Maven, Gradle, CTest, GoogleTest, …
//!
//! For each file the command runs once, with `{file}` and `{results}` replaced in its words; `{results}` is a directory made
//! for the attempt, which also stands in `DISTRIBUTEST_RESULTS`. The results are the files a glob matches that are new or
//! changed when the command has ended, so that those of an earlier run don't count. Where the glob is outside
//! of `{results}`, one command of a host runs at a time: whose results they are could not be told otherwise.
//!
//! A command can't be told to run single tests: with `tests`, all of the file runs, and only they are reported and
//! judged.
//!
//! - `parser.rs`: what the XML means, `case.rs`: what it says of one test, `suite.rs`: of many; `abridged.rs` keeps it small;
//! - `results.rs`: which files count.

mod abridged;
mod case;
mod parser;
mod results;
mod suite;

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use distributest_core::test_result::{TestResult, TestStatus};
use distributest_process::Exit;

use self::abridged::Abridged;
use self::case::{Case, CaseOutcome};
use self::parser::JunitError;
use self::results::ResultsGlob;
use crate::ids::Ids;
use crate::kind::{Kind, Unable};
use crate::link::{Link, Stop};
use crate::messages::{FileOutcome, Finished, RunOrder};
use crate::program::{self, Ending, NoReader, Piped};
use crate::run_directory::RunDirectory;
use crate::text::relative_path;
use crate::tools;

/// Stands for the file in a command's words.
const FILE: &str = "{file}";

/// Stands for the directory of the attempt in a command's words and in the glob.
const RESULTS: &str = "{results}";

/// The same directory in the command's environment.
const RESULTS_VARIABLE: &str = "DISTRIBUTEST_RESULTS";

/// A command that writes results.
pub(crate) struct Junit {
    glob: String,
    command: Vec<String>,
    directory: RunDirectory,
    /// How many attempts there were.
    attempts: u64,
}

impl Junit {
    /// Takes the glob of the results, and the words of the command.
    pub(crate) fn new(arguments: &[String]) -> Result<Junit, Unable> {
        let [glob, command @ ..] = arguments else { return Err(no_command()) };
        let Some(program) = command.first() else { return Err(no_command()) };
        if let Err(error) = ResultsGlob::new(&glob.replace(RESULTS, "results")) {
            let hint = "correct `results` in the configuration".to_owned();
            return Err(Unable { message: format!("{glob:?} is no glob: {}", error.kind()), hint });
        }
        if !program.contains(FILE) && !is_there(program) {
            return Err(Unable {
                message: format!(
                    "{program} is not there{}",
                    if program.contains('/') { "" } else { ": looked in PATH" }
                ),
                hint: "install it in node_setup, or correct `command` in the configuration".to_owned(),
            });
        }
        let directory = RunDirectory::open().map_err(|error| Unable {
            message: format!("failed to make a directory in {}: {error}", std::env::temp_dir().display()),
            hint: "set TMPDIR to a directory that can be written to".to_owned(),
        })?;
        Ok(Junit { glob: glob.clone(), command: command.to_vec(), directory, attempts: 0 })
    }

    /// Makes the directory of the next attempt.
    fn make_directory(&mut self) -> io::Result<AttemptDirectory> {
        loop {
            self.attempts += 1;
            let path = self.directory.file("results", (std::process::id(), self.attempts));
            match DirBuilder::new().mode(0o700).create(&path) {
                // A killed worker that had this process id left it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| AttemptDirectory(path)),
            }
        }
    }

    fn command(&self, file: &str, directory: &Path) -> Command {
        // The path never looks like an option, nor like a name to find in PATH.
        let path = if file.starts_with('-') { format!("./{file}") } else { file.to_owned() };
        let results = directory.to_string_lossy();
        let mut words = self.command.iter().map(|word| word.replace(FILE, &path).replace(RESULTS, &results));
        let program = words.next().unwrap_or_default();
        let is_file = program == path && !program.contains('/');
        let mut command = Command::new(if is_file { format!("./{program}") } else { program });
        command.args(words).env(RESULTS_VARIABLE, directory);
        command
    }

    /// Runs the command and reports what it wrote.
    fn attempt(&self, order: &RunOrder, directory: &Path, link: &mut Link) -> Result<Finished, Stop> {
        let glob = self.glob.replace(RESULTS, &globset::escape(&directory.to_string_lossy()));
        let (glob, before) = match ResultsGlob::new(&glob).map(|glob| (glob.look(), glob)) {
            Ok((Ok(before), glob)) => (glob, before),
            Ok((Err(error), _)) => return Ok(could_not("look for results", &error)),
            Err(error) => return Ok(could_not("look for results", &error)),
        };
        let command = self.command(&order.file, directory);
        let program = command.get_program().to_string_lossy().into_owned();
        let exit = match program::run(command, Piped::Neither, link, &mut NoReader)? {
            Ending::NotStarted(error) => return Ok(could_not(&format!("start {program}"), &error)),
            Ending::Exited(exit) => exit,
        };
        let files = match glob.look() {
            Ok(after) => after.since(&before),
            Err(error) => return Ok(could_not("look for results", &error)),
        };
        let mut report = Report::new(order, directory, link);
        let mut unreadable = Vec::new();
        for file in &files {
            match report.read(file) {
                Ok(()) => {}
                Err(ReadError::Stop(stop)) => return Err(stop),
                Err(ReadError::File(problem)) => unreadable.push(problem),
            }
        }
        Ok(report.judge(exit, files.len(), &unreadable, &self.glob))
    }
}

impl Kind for Junit {
    fn framework(&self) -> &str {
        "command"
    }

    fn version(&self) -> &str {
        ""
    }

    fn run(&mut self, order: &RunOrder, link: &mut Link) -> Result<Finished, Stop> {
        match self.make_directory() {
            Ok(directory) => {
                let _lock = match self.glob.contains(RESULTS) {
                    true => None,
                    // Whose results they are could not be told from those of a command on another runner.
                    false => Some(self.directory.lock(&self.directory.file("glob", &self.glob), link)?),
                };
                self.attempt(order, &directory.0, link)
            }
            Err(error) => Ok(could_not("make a directory for results", &error)),
        }
    }
}

/// The directory of an attempt; it goes with this.
struct AttemptDirectory(PathBuf);

impl Drop for AttemptDirectory {
    fn drop(&mut self) {
        // What can't be removed now goes with the run's own directory, or stays in the one for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn no_command() -> Unable {
    Unable { message: "there is no command to run".to_owned(), hint: "set `command`".to_owned() }
}

fn is_there(program: &str) -> bool {
    if program.contains('/') {
        tools::is_executable(Path::new(program))
    } else {
        tools::find(program, &[]).is_some()
    }
}

fn could_not(what: &str, error: &dyn std::error::Error) -> Finished {
    Finished::new(FileOutcome::Broken, format!("failed to {what}: {error}"))
}

/// Why a file of results was not read to its end.
enum ReadError {
    /// The worker has to end.
    Stop(Stop),
    /// What is wrong with it, and where.
    File(String),
}

impl From<JunitError> for ReadError {
    fn from(error: JunitError) -> Self {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        ReadError::File(format!("{error}{}", source.unwrap_or_default()))
    }
}

/// What the results of one attempt say.
struct Report<'a> {
    wanted: &'a [String],
    /// Of those that are wanted, the ones that were there.
    found: Vec<bool>,
    /// The directory of the attempt.
    directory: &'a Path,
    link: &'a mut Link,
    ids: Ids,
    cases: u64,
    /// Those that failed, of which not all may have been wanted.
    failed: u64,
    reported_failed: u64,
}

impl<'a> Report<'a> {
    fn new(order: &'a RunOrder, directory: &'a Path, link: &'a mut Link) -> Self {
        let found = vec![false; order.tests.len()];
        let (cases, failed, reported_failed) = (0, 0, 0);
        Report {
            wanted: &order.tests,
            found,
            directory,
            link,
            ids: Ids::default(),
            cases,
            failed,
            reported_failed,
        }
    }

    /// Reports the tests in a file. One that is not read to its end has told of tests all the same.
    fn read(&mut self, path: &Path) -> Result<(), ReadError> {
        // The directory is gone when somebody reads its name.
        let shown = match path.strip_prefix(self.directory) {
            Ok(path) => Path::new(RESULTS).join(path).display().to_string(),
            Err(_) => relative_path(&path.to_string_lossy()),
        };
        let open = || File::open(path).map(|file| Abridged::new(BufReader::new(file)));
        let unreadable = |error: io::Error| ReadError::File(format!("{shown}: {error}"));
        let mut position = 0;
        let read = parser::read(open().map_err(unreadable)?, &mut position, |case| self.take(case));
        read.map_err(|error| match error {
            ReadError::File(problem) => {
                let line = open().and_then(|document| parser::line_at(document, position));
                ReadError::File(format!("{shown}:{}: {problem}", line.unwrap_or(1)))
            }
            stop => stop,
        })
    }

    fn take(&mut self, case: Case) -> Result<(), ReadError> {
        self.cases += 1;
        let status = status(case.outcome);
        self.failed += u64::from(status.is_failure());
        let id = self.ids.unique(&id(&case));
        if !self.wanted.is_empty() {
            let Some(index) = self.wanted.iter().position(|wanted| *wanted == id) else { return Ok(()) };
            self.found[index] = true;
        }
        self.reported_failed += u64::from(status.is_failure());
        // What passing tests print is in the log where the command wants it there.
        let details = match (status.is_failure(), case.details.is_empty(), case.output.is_empty()) {
            (true, false, false) => format!("{}\n\n{}", case.details, case.output),
            (true, true, false) => case.output,
            _ => case.details,
        };
        let test = TestResult {
            name: id.clone(),
            id,
            status,
            duration: Duration::try_from_secs_f64(case.seconds).unwrap_or_default(),
            message: case.message,
            details,
            file: case.file.map(|file| relative_path(&file)),
            line: case.line,
        };
        self.link.send(&(&test).into()).map_err(ReadError::Stop)
    }

    fn judge(&self, exit: Exit, files: usize, unreadable: &[String], glob: &str) -> Finished {
        if matches!(exit, Exit::Signal(_)) {
            return Finished::new(FileOutcome::Crashed, format!("killed by {exit}"));
        }
        if !unreadable.is_empty() {
            return Finished::new(FileOutcome::Broken, unreadable.join("; "));
        }
        if files == 0 {
            let left = if exit.is_success() { String::new() } else { format!("it left with {exit} and ") };
            return Finished::new(FileOutcome::Failed, format!("{left}wrote no results matching {glob}"));
        }
        let missing = self.wanted.iter().zip(&self.found).filter(|(_, found)| !**found);
        let mut faults: Vec<String> =
            missing.map(|(test, _)| format!("there is no test {test:?} in its results")).collect();
        if !exit.is_success() && self.failed == 0 {
            faults.push(format!("{exit}, although no test failed"));
        }
        if self.reported_failed > 0 || !faults.is_empty() {
            return Finished::new(FileOutcome::Failed, faults.join("; "));
        }
        Finished::new(FileOutcome::Passed, if self.cases == 0 { "no tests" } else { "" })
    }
}

/// A test's id: its class and its name, as PHPUnit and others write it.
fn id(case: &Case) -> String {
    let class = if case.class.is_empty() { &case.suite } else { &case.class };
    // CTest repeats the name as the class.
    if class.is_empty() || *class == case.name {
        case.name.clone()
    } else {
        format!("{class}::{}", case.name)
    }
}

fn status(outcome: CaseOutcome) -> TestStatus {
    match outcome {
        CaseOutcome::Passed => TestStatus::Passed,
        CaseOutcome::Skipped => TestStatus::Skipped,
        CaseOutcome::Failed => TestStatus::Failed,
        CaseOutcome::Error => TestStatus::Error,
    }
}
