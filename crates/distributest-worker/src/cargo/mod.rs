//! Rust's tests: what `cargo test` builds and runs.
//!
//! A unit is the root file of a target (`crates/core/src/lib.rs`, `tests/it.rs`), or the documentation of a library
//! (`crates/core/src/lib.rs (doc tests)`). A workspace is built once per host (`build.rs`); then its binaries are run without
//! cargo, with what cargo gives them: the package's directory as the current one, cargo's variables, paths of libraries,
//! the configured runner.
//!
//! - `arguments.rs`, `manifest.rs`, `messages.rs`, `settings.rs` read what the user, manifests, cargo and its configuration say;
//! - `binary.rs` runs a test binary, whose output `libtest.rs` follows; `doctests.rs` runs documentation;
//! - `panic.rs` finds the one line that says why a test failed.

mod arguments;
mod binary;
mod build;
mod doctests;
mod libtest;
mod manifest;
mod messages;
mod panic;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::arguments::Arguments;
use self::binary::{Isolation, TestRun};
use self::build::{Binary, Build, Builder, CompileError};
use self::doctests::Documentation;

use crate::kind::{Kind, Unable};
use crate::link::{Link, Stop};
use crate::messages::{FileOutcome, Finished, RunOrder};
use crate::report::Report;
use crate::run_directory::RunDirectory;
use crate::tools;

/// What the unit of a library's documentation is named after its root file.
const DOCUMENTATION: &str = " (doc tests)";

/// Runs Rust's tests.
pub(crate) struct Cargo {
    arguments: Arguments,
    isolation: Isolation,
    program: PathBuf,
    version: String,
    /// The project.
    project: PathBuf,
    directory: RunDirectory,
    /// Every workspace that was needed, by its directory.
    workspaces: BTreeMap<PathBuf, Build>,
}

impl Cargo {
    /// Takes the word of an isolation, and the arguments of `cargo test`.
    pub(crate) fn new(words: &[String]) -> Result<Cargo, Unable> {
        let (isolation, words) =
            words.split_first().map_or(("", &[][..]), |(word, rest)| (word.as_str(), rest));
        let directory = RunDirectory::open().map_err(Unable::no_directory)?;
        Ok(Cargo {
            arguments: Arguments::parse(words)?,
            isolation: if isolation == "process" { Isolation::Process } else { Isolation::Shared },
            program: PathBuf::new(),
            version: String::new(),
            project: std::env::current_dir().unwrap_or_default(),
            directory,
            workspaces: BTreeMap::new(),
        })
    }

    /// Where a file's package is, and its workspace as it was built. Nothing for a file of no package.
    fn workspace_of(&mut self, source: &Path, link: &mut Link) -> Result<Option<(PathBuf, &Build)>, Stop> {
        let is_package = |directory: &&Path| directory.join("Cargo.toml").is_file();
        let Some(package) = source.ancestors().skip(1).find(is_package) else { return Ok(None) };
        let holds = |(_, build): &(&PathBuf, &Build)| build.packages.contains_key(package);
        let root = match self.workspaces.iter().find(holds) {
            Some((root, _)) => root.clone(),
            None => self.build(package, link)?,
        };
        Ok(self.workspaces.get(&root).map(|build| (package.to_owned(), build)))
    }

    /// Builds the workspace of a directory. Returns where that is.
    fn build(&mut self, directory: &Path, link: &mut Link) -> Result<PathBuf, Stop> {
        let builder =
            Builder { cargo: &self.program, arguments: &self.arguments, directory: &self.directory };
        let build = builder.build(directory, link)?;
        let root = build.root.clone();
        self.workspaces.insert(root.clone(), build);
        Ok(root)
    }

    /// Refuses arguments that cargo refuses, or every test binary would.
    fn check_arguments(&self, build: &Build) -> Result<(), Unable> {
        let hint = || {
            "what follows -- goes to `cargo test`: its options, parts of tests' names, and after another -- what is for the \
             test binaries"
                .to_owned()
        };
        if !build.refusal.is_empty() && build.manifests_are_fine && !self.arguments.cargo.is_empty() {
            let said = first_error(&build.refusal);
            let said = said.strip_prefix("error: ").unwrap_or(&said);
            let words = self.arguments.cargo.join(" ");
            return Err(Unable {
                message: format!("cargo does not take the arguments {words}: {said}"),
                hint: hint(),
            });
        }
        match &self.arguments.unknown_to_libtest {
            Some(option) if build.binaries.iter().all(|binary| binary.has_libtest) => {
                Err(Unable { message: format!("cargo: test binaries have no option {option}"), hint: hint() })
            }
            _ => Ok(()),
        }
    }

    fn run_documentation(
        &mut self,
        source: &Path,
        ids: &[String],
        link: &mut Link,
    ) -> Result<Finished, Stop> {
        let mut report = Report::default();
        let arguments = self.arguments.clone();
        let (program, project) = (self.program.clone(), self.project.clone());
        let Some((package, build)) = self.workspace_of(source, link)? else {
            return Ok(no_package(source));
        };
        let is_chosen =
            !arguments.choose_packages() || build.binaries.iter().any(|binary| binary.package == package);
        let is_asked_for = !arguments.choose_targets() || arguments.cargo.iter().any(|word| word == "--doc");
        if !(is_chosen && is_asked_for) {
            return Ok(not_chosen());
        }
        if let Some(broken) = by_example(build, &package) {
            return Ok(broken);
        }
        let documentation = Documentation {
            cargo: &program,
            arguments: &arguments,
            package: &package,
            workspace: &build.root,
            project: &project,
        };
        documentation.run(ids, &mut report, link)?;
        Ok(report.finished())
    }

    fn run_binaries(&mut self, source: &Path, ids: &[String], link: &mut Link) -> Result<Finished, Stop> {
        let (arguments, isolation) = (self.arguments.clone(), self.isolation);
        let project = self.project.clone();
        let Some((package, build)) = self.workspace_of(source, link)? else {
            return Ok(no_package(source));
        };
        let binaries: Vec<&Binary> = build.binaries.iter().filter(|binary| binary.source == source).collect();
        let mut report = Report::default();
        if binaries.is_empty() {
            return Ok(without_binary(build, &package, source));
        }
        if let Some(broken) = by_example(build, &package) {
            return Ok(broken);
        }
        for binary in &binaries {
            let prefix = if binaries.len() > 1 { format!("{}: ", binary.name) } else { String::new() };
            let own: Vec<String> = ids.iter().filter(|id| id.starts_with(&prefix)).cloned().collect();
            if own.is_empty() && !ids.is_empty() {
                continue;
            }
            let mut run = TestRun {
                binary,
                variables: build.packages.get(&package).map_or(&[], Vec::as_slice),
                settings: &build.settings,
                arguments: &arguments,
                isolation,
                prefix,
                project: &project,
                workspace: &build.root,
                report: &mut report,
                is_stopped: false,
            };
            run.run(&own, link)?;
            if run.is_stopped {
                break;
            }
        }
        let is_of_one = |id: &&String| {
            binaries.len() == 1 || binaries.iter().any(|binary| id.starts_with(&format!("{}: ", binary.name)))
        };
        for id in ids.iter().filter(|id| !is_of_one(id)) {
            report.fault(format!("the test {id} is not there any more"));
        }
        Ok(report.finished())
    }
}

impl Kind for Cargo {
    fn framework(&self) -> &str {
        "cargo"
    }

    fn version(&self) -> &str {
        &self.version
    }

    /// Builds the project's workspace, where its directory is one.
    fn prepare(&mut self, link: &mut Link) -> Result<Result<(), Unable>, Stop> {
        let elsewhere = [tools::below("CARGO_HOME", "bin/cargo"), tools::below("HOME", ".cargo/bin/cargo")];
        let Some(program) =
            tools::find("cargo", &elsewhere.map(Option::into_iter).into_iter().flatten().collect::<Vec<_>>())
        else {
            return Ok(Err(Unable {
                message: "cargo is not there: looked in PATH, $CARGO_HOME/bin and ~/.cargo/bin".to_owned(),
                hint: "install Rust with rustup, or the package cargo, in node_setup".to_owned(),
            }));
        };
        let mut command = Command::new(&program);
        command.arg("--version");
        let answer = tools::ask(command, true, link)?;
        if !answer.is_success() {
            let message =
                format!("{} --version failed: {}", program.display(), answer.messages.text().trim());
            let hint = "install the toolchain that the project asks for in node_setup".to_owned();
            return Ok(Err(Unable { message, hint }));
        }
        self.version = answer.text().split(' ').nth(1).unwrap_or_default().to_owned();
        self.program = program;
        let project = self.project.clone();
        if project.join("Cargo.toml").is_file() {
            let root = self.build(&project, link)?;
            return Ok(self.check_arguments(&self.workspaces[&root]));
        }
        Ok(Ok(()))
    }

    fn run(&mut self, order: &RunOrder, link: &mut Link) -> Result<Finished, Stop> {
        match order.file.strip_suffix(DOCUMENTATION) {
            Some(source) => {
                let source = self.project.join(source);
                self.run_documentation(&source, &order.tests, link)
            }
            None => {
                let source = self.project.join(&order.file);
                self.run_binaries(&source, &order.tests, link)
            }
        }
    }
}

/// What there is to say of a unit that cargo built no test binary of.
fn without_binary(build: &Build, package: &Path, source: &Path) -> Finished {
    let mut report = Report::default();
    if !build.refusal.is_empty() {
        report.broken(first_error(&build.refusal), &build.refusal);
    } else if !build.is_complete && !build.lacks_features(package, source) {
        let text = joined(&build.errors_of(source));
        report.broken(first_error(&text), text);
    } else {
        return not_chosen();
    }
    report.finished()
}

/// What there is to say of a unit that cargo would not run because an example does not compile.
fn by_example(build: &Build, package: &Path) -> Option<Finished> {
    let errors = build.examples_that_stop(package);
    if errors.is_empty() {
        return None;
    }
    let text = joined(&errors);
    let message = format!("an example does not compile: {}", first_error(&text));
    Some(Finished::new(FileOutcome::Broken, message).with_details(text))
}

fn joined(errors: &[&CompileError]) -> String {
    errors.iter().map(|error| error.text.as_str()).collect::<Vec<_>>().join("\n")
}

fn first_error(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("error"));
    let error = lines.next().or_else(|| text.lines().next()).unwrap_or("cargo failed");
    // The compiler says where on the next line: ` --> src/lib.rs:3:5`.
    match lines.next().and_then(|line| line.trim_start().strip_prefix("--> ")) {
        Some(place) => format!("{error} ({place})"),
        None => error.to_owned(),
    }
}

fn not_chosen() -> Finished {
    Finished::new(FileOutcome::Passed, "no tests: cargo builds none of it with these arguments and features")
}

fn no_package(source: &Path) -> Finished {
    let mut report = Report::default();
    report.broken(format!("no Cargo.toml is in a directory that {} is in", source.display()), "");
    report.finished()
}
