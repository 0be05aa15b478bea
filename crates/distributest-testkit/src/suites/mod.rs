//! Writes a project of N test files together with what each of them must come out as.
//!
//! The same [`SuitePlan`] always makes the same project: durations and kinds come from its seed. What a file takes is
//! spent asleep, so that a makespan measures scheduling and not the machine. Beside the tests stands
//! [`EXPECTED_FILE`], the model in JSON:
//!
//! ```json
//! {
//!   "flavour": "pytest", "seed": 7,
//!   "files": [
//!     {"path": "tests/test_0001.py", "outcome": "failed", "milliseconds": 310,
//!      "tests": [{"id": "tests/test_0001.py::test_sleeps", "status": "passed"}]}
//!   ]
//! }
//! ```
//!
//! `outcome` and `status` are the words of [`Outcome`] and [`TestStatus`]. `tests` are those that are
//! reported, in order: a file that does not load has none, one that crashes has those before the crash and, as an error,
//! the one that was running.

mod command;
mod durations;
mod pytest;
mod rspec;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use distributest_core::outcome::Outcome;
use distributest_core::test_result::TestStatus;
use serde_json::{Value, json};

pub use durations::{DurationError, DurationPlan, Shape};

/// The model's file, in the project's directory.
pub const EXPECTED_FILE: &str = "expected.json";

/// Which framework's files to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Executable shell scripts, each of which is one test, with a configuration that says so.
    Command,
    /// Python files for pytest.
    Pytest,
    /// Ruby files for RSpec.
    Rspec,
}

impl Flavour {
    /// The framework's word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Flavour::Command => "command",
            Flavour::Pytest => "pytest",
            Flavour::Rspec => "rspec",
        }
    }

    /// The kinds of files it can be made to write.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Flavour::Command => &[Kind::Pass, Kind::Fail, Kind::Broken, Kind::Crash],
            Flavour::Pytest | Flavour::Rspec => {
                &[Kind::Pass, Kind::Fail, Kind::Skip, Kind::Broken, Kind::ExpectedFailure, Kind::Crash]
            }
        }
    }
}

/// What a file is made to do, after it has slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything passes.
    Pass,
    /// One test fails; a command leaves with a status other than 0.
    Fail,
    /// One test is skipped.
    Skip,
    /// One test fails as it is said to.
    ExpectedFailure,
    /// The file does not load; a command's interpreter does not exist. It never gets to sleep.
    Broken,
    /// A signal kills the process.
    Crash,
}

impl Kind {
    /// What a file of this kind comes out as.
    pub fn outcome(self) -> Outcome {
        match self {
            Kind::Pass | Kind::Skip | Kind::ExpectedFailure => Outcome::Passed,
            Kind::Fail => Outcome::Failed,
            Kind::Broken => Outcome::Broken,
            Kind::Crash => Outcome::Crashed,
        }
    }
}

/// Which kinds of files a suite has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixture {
    /// All pass.
    Passing,
    /// Every other file passes, those between take their turn through the flavour's other kinds. All are there from
    /// ten files on.
    EveryKind,
}

/// A suite to write.
#[derive(Clone, Debug, PartialEq)]
pub struct SuitePlan {
    /// Whose files.
    pub flavour: Flavour,
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many files, and how long they take.
    pub durations: DurationPlan,
    /// What becomes of them.
    pub mixture: Mixture,
}

/// A suite that was written: the model of its outcomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Suite {
    /// Whose files.
    pub flavour: Flavour,
    /// What it was made from.
    pub seed: u64,
    /// Its files in the order of their names.
    pub files: Vec<ExpectedFile>,
}

/// What must come of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedFile {
    /// Relative to the project.
    pub path: String,
    /// What it is made to do.
    pub kind: Kind,
    /// How long it sleeps; zero for one that is broken.
    pub duration: Duration,
    /// The tests that are reported, in order.
    pub tests: Vec<ExpectedTest>,
}

/// What must come of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedTest {
    /// As the framework says it.
    pub id: String,
    /// As the framework says it.
    pub status: TestStatus,
}

/// Why a suite was not written.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// No durations fit what was asked for.
    #[error("no durations fit what was asked for")]
    Durations(#[from] DurationError),
    /// The directory holds something already.
    #[error("{directory} is not empty; give a directory that does not exist yet")]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// A file or directory can't be written.
    #[error("failed to write {path}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl SuitePlan {
    /// Writes the suite and its model into `directory`, which is made if it does not exist.
    ///
    /// # Errors
    ///
    /// When the durations contradict each other, the directory is not empty or can't be written.
    pub fn write(&self, directory: &Path) -> Result<Suite, SuiteError> {
        let durations = self.durations.draw(self.seed)?;
        refuse_unless_empty(directory)?;
        for (path, text) in self.flavour.project_files() {
            write_file(&directory.join(path), text)?;
        }
        let mut files = Vec::with_capacity(durations.len());
        for (number, duration) in (1..).zip(durations) {
            let kind = self.kind_of(number);
            let duration = if kind == Kind::Broken { Duration::ZERO } else { duration };
            let (text, file) = self.flavour.file(number, kind, duration);
            let path = directory.join(&file.path);
            write_file(&path, &text)?;
            if self.flavour == Flavour::Command {
                make_executable(&path)?;
            }
            files.push(file);
        }
        let suite = Suite { flavour: self.flavour, seed: self.seed, files };
        write_file(&directory.join(EXPECTED_FILE), &format!("{:#}\n", suite.to_json()))?;
        Ok(suite)
    }

    /// The kind of the file of this number, from 1.
    fn kind_of(&self, number: usize) -> Kind {
        match self.mixture {
            Mixture::EveryKind if number.is_multiple_of(2) => {
                let others = &self.flavour.kinds()[1..];
                others[(number / 2 - 1) % others.len()]
            }
            Mixture::Passing | Mixture::EveryKind => Kind::Pass,
        }
    }
}

impl Suite {
    /// What its files take one after another.
    pub fn total(&self) -> Duration {
        self.files.iter().map(|file| file.duration).sum()
    }

    /// What its slowest file takes.
    pub fn longest(&self) -> Duration {
        self.files.iter().map(|file| file.duration).max().unwrap_or_default()
    }

    /// The shortest time in which this many runners, at least one, can run it: `max(total / runners, longest)`.
    pub fn lower_bound(&self, runners: u32) -> Duration {
        (self.total() / runners).max(self.longest())
    }

    /// The model, as it stands in [`EXPECTED_FILE`].
    pub fn to_json(&self) -> Value {
        let files: Vec<Value> = self.files.iter().map(ExpectedFile::to_json).collect();
        json!({ "flavour": self.flavour.word(), "seed": self.seed, "files": files })
    }
}

impl ExpectedFile {
    /// What it must come out as.
    pub fn outcome(&self) -> Outcome {
        self.kind.outcome()
    }

    fn to_json(&self) -> Value {
        let tests: Vec<Value> =
            self.tests.iter().map(|test| json!({ "id": test.id, "status": test.status.word() })).collect();
        json!({
            "path": self.path,
            "outcome": self.outcome().word(),
            "milliseconds": u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            "tests": tests,
        })
    }
}

impl Flavour {
    /// Files besides the tests: path and text.
    fn project_files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Flavour::Command => command::PROJECT_FILES,
            Flavour::Pytest => pytest::PROJECT_FILES,
            Flavour::Rspec => rspec::PROJECT_FILES,
        }
    }

    /// The text of a test file, and what must come of it.
    fn file(self, number: usize, kind: Kind, duration: Duration) -> (String, ExpectedFile) {
        match self {
            Flavour::Command => command::file(number, kind, duration),
            Flavour::Pytest => pytest::file(number, kind, duration),
            Flavour::Rspec => rspec::file(number, kind, duration),
        }
    }
}

fn refuse_unless_empty(directory: &Path) -> Result<(), SuiteError> {
    let failed = |source| SuiteError::Write { path: directory.to_path_buf(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    match fs::read_dir(directory).map_err(failed)?.next() {
        Some(_) => Err(SuiteError::NotEmpty { directory: directory.to_path_buf() }),
        None => Ok(()),
    }
}

fn write_file(path: &Path, text: &str) -> Result<(), SuiteError> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|source| SuiteError::Write { path: path.to_path_buf(), source })
}

fn make_executable(path: &Path) -> Result<(), SuiteError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(|source| SuiteError::Write { path: path.to_path_buf(), source })
}
