//! Builds a workspace's test binaries, once per host and run.
//!
//! The first worker of a run that needs a workspace has cargo build it; the others wait and read what came of it. Everything
//! is built by `cargo test --no-run` with the project's arguments, which stops at the first crate that does not compile; then
//! `cargo build --keep-going` makes of the rest what can be made, so that only units are broken that have to be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::arguments::Arguments;
use super::manifest;
use super::messages::{Artifact, BuildScript, CompilerMessage, Message, Metadata, Package};
use super::settings::Settings;
use crate::link::{Link, Stop};
use crate::program::{Stream, pass_on};
use crate::run_directory::RunDirectory;
use crate::tools::{self, Answer};

/// What came of building a workspace.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Build {
    /// The workspace's directory.
    pub(super) root: PathBuf,
    /// Directories of the workspace's packages, and what each tells its tests.
    pub(super) packages: BTreeMap<PathBuf, Vec<(String, String)>>,
    /// The test binaries, in the order they were built.
    pub(super) binaries: Vec<Binary>,
    /// What did not compile.
    pub(super) errors: Vec<CompileError>,
    /// Features that root files of targets need, and those that are enabled in their packages.
    pub(super) needed_features: BTreeMap<PathBuf, BTreeSet<String>>,
    pub(super) enabled_features: BTreeMap<PathBuf, BTreeSet<String>>,
    /// Why cargo did not even begin to compile, in its own words; empty where it did.
    pub(super) refusal: String,
    /// Whether it refused although it could read the manifests: because of the project's arguments, where there are any.
    pub(super) manifests_are_fine: bool,
    /// Whether everything compiled.
    pub(super) is_complete: bool,
    /// What cargo's configuration says of running the binaries.
    pub(super) settings: Settings,
}

/// A test binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Binary {
    /// The root file of its target.
    pub(super) source: PathBuf,
    /// Its target's name.
    pub(super) name: String,
    /// The directory of its package, where it runs.
    pub(super) package: PathBuf,
    pub(super) executable: PathBuf,
    /// Whether it has Rust's own harness, libtest.
    pub(super) has_libtest: bool,
    /// What its package's build script left for it, and the programs it may start.
    pub(super) environment: Vec<(String, String)>,
    /// Where its dynamic libraries may be.
    pub(super) libraries: Vec<PathBuf>,
}

/// A target that does not compile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CompileError {
    /// The root file of the target.
    pub(super) source: PathBuf,
    /// The compiler's words on it.
    pub(super) text: String,
    /// Packages none of whose tests cargo runs because of it, although no test file of theirs needs it.
    stopped: BTreeSet<PathBuf>,
}

/// What builds.
pub(super) struct Builder<'a> {
    pub(super) cargo: &'a Path,
    pub(super) arguments: &'a Arguments,
    pub(super) directory: &'a RunDirectory,
}

impl Builder<'_> {
    /// Builds the workspace that a directory with a manifest belongs to, or reads how it was built in this run.
    pub(super) fn build(&self, directory: &Path, link: &mut Link) -> Result<Build, Stop> {
        let result = self.directory.file("cargo-build", (directory, &self.arguments.cargo));
        let _lock = self.directory.lock(&result, link)?;
        if let Some(build) = fs::read(&result).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Ok(build);
        }
        let mut command = self.cargo(directory);
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        let answer = tools::ask(command, true, link)?;
        let build = match serde_json::from_slice::<Metadata>(&answer.output) {
            Ok(metadata) if answer.is_success() => {
                let build = self.build_workspace(&metadata, link)?;
                Build { settings: Settings::read(&build.root, &self.arguments.cargo, link)?, ..build }
            }
            _ => refused(directory, &answer),
        };
        // Without it the next worker asks cargo again, which then has nothing left to do.
        let _ = write_whole(&result, &serde_json::to_vec(&build).unwrap_or_default());
        Ok(build)
    }

    fn build_workspace(&self, metadata: &Metadata, link: &mut Link) -> Result<Build, Stop> {
        let root = &metadata.workspace_root;
        let mut command = self.cargo(root);
        command.args(["test", "--no-run"]);
        let mut build = self.run(command, metadata, link)?;
        if !build.is_complete && !build.errors.is_empty() && !self.arguments.choose_targets() {
            let mut command = self.cargo(root);
            command.args(["build", "--keep-going", "--tests", "--bins", "--examples"]);
            build = self.run(command, metadata, link)?;
        }
        Ok(build)
    }

    /// Runs cargo with the project's arguments.
    fn run(&self, mut command: Command, metadata: &Metadata, link: &mut Link) -> Result<Build, Stop> {
        let root = &metadata.workspace_root;
        command.arg("--message-format=json");
        if !self.arguments.choose_packages() && manifest::is_tested_whole(root) {
            command.arg("--workspace");
        }
        command.args(&self.arguments.cargo);
        let answer = tools::ask(command, true, link)?;
        let mut build = Build {
            root: root.clone(),
            is_complete: answer.is_success(),
            manifests_are_fine: true,
            ..Build::default()
        };
        build.packages =
            metadata.packages.iter().map(|package| (package.directory(), package.variables())).collect();
        build.needed_features =
            metadata.packages.iter().flat_map(|package| package.needed_features()).collect();
        let mut scripts: BTreeMap<String, BuildScript> = BTreeMap::new();
        let mut programs: BTreeMap<PathBuf, Vec<(String, String)>> = BTreeMap::new();
        let mut tests = Vec::new();
        for line in answer.output.split(|byte| *byte == b'\n') {
            // What is no message was written by a build script or a compiler's plugin.
            match serde_json::from_slice(line) {
                Ok(Message::CompilerMessage(message)) => build.note(&message, metadata)?,
                Ok(Message::BuildScriptExecuted(script)) => {
                    scripts.insert(script.package_id.clone(), script);
                }
                Ok(Message::CompilerArtifact(artifact)) => {
                    build
                        .enabled_features
                        .entry(artifact.directory())
                        .or_default()
                        .extend(artifact.features.clone());
                    match &artifact.executable {
                        Some(_) if artifact.profile.test => tests.push(artifact),
                        Some(executable) if artifact.target.is_program() => {
                            let variable = format!("CARGO_BIN_EXE_{}", artifact.target.name);
                            let variable = (variable, executable.to_string_lossy().into_owned());
                            programs.entry(artifact.directory()).or_default().push(variable);
                        }
                        _ => {}
                    }
                }
                Ok(Message::Other) | Err(_) => {}
            }
        }
        let libraries: Vec<PathBuf> =
            scripts.values().flat_map(|script| script.libraries(&metadata.target_directory)).collect();
        build.binaries = tests
            .into_iter()
            .filter_map(|artifact| {
                binary(&artifact, scripts.get(&artifact.package_id), &programs, &libraries)
            })
            .collect();
        if !build.is_complete && build.errors.is_empty() {
            build.refusal = answer.messages.text();
        }
        Ok(build)
    }

    /// Cargo, in a directory.
    fn cargo(&self, directory: &Path) -> Command {
        let mut command = Command::new(self.cargo);
        command.current_dir(directory);
        command
    }
}

impl Build {
    /// Takes a message of the compiler's.
    fn note(&mut self, message: &CompilerMessage, metadata: &Metadata) -> Result<(), Stop> {
        let text = message.message.rendered.as_deref().unwrap_or_default();
        pass_on(Stream::Stderr, text.as_bytes())?;
        if message.message.level.starts_with("error") {
            self.errors.push(CompileError {
                source: message.target.src_path.clone(),
                text: text.to_owned(),
                stopped: stopped_by(message, metadata),
            });
        }
        Ok(())
    }

    /// Why a unit has no binary although cargo should have built it: what of it does not compile, or else everything that
    /// does not, for one of those it depends on is among them.
    pub(super) fn errors_of(&self, source: &Path) -> Vec<&CompileError> {
        let own: Vec<_> = self.errors.iter().filter(|error| error.source == source).collect();
        let mut errors = if own.is_empty() { self.errors.iter().collect() } else { own };
        // A library is compiled with its tests and without.
        let mut seen = BTreeSet::new();
        errors.retain(|error| seen.insert(&error.text));
        errors
    }

    /// The examples that don't compile, for which cargo runs nothing of the package in `directory`.
    pub(super) fn examples_that_stop(&self, directory: &Path) -> Vec<&CompileError> {
        self.errors.iter().filter(|error| error.stopped.contains(directory)).collect()
    }

    /// Whether a target of the package in `directory` is left out because features that it needs are not enabled.
    pub(super) fn lacks_features(&self, directory: &Path, source: &Path) -> bool {
        let enabled = self.enabled_features.get(directory);
        let needed = self.needed_features.get(source);
        enabled.zip(needed).is_some_and(|(enabled, needed)| !needed.is_subset(enabled))
    }
}

/// The packages that an example which does not compile keeps from being tested: its own, or all where that one has no test
/// file that could say so. What is wrong with other targets the test files say that are made of them or need them.
fn stopped_by(message: &CompilerMessage, metadata: &Metadata) -> BTreeSet<PathBuf> {
    let own = message.directory();
    let is_own = |package: &&Package| package.directory() == own;
    let Some(package) = metadata.packages.iter().find(is_own).filter(|_| message.target.is_plain_example())
    else {
        return BTreeSet::new();
    };
    if package.has_test_binaries() {
        return BTreeSet::from([own]);
    }
    metadata.packages.iter().map(Package::directory).collect()
}

fn binary(
    artifact: &Artifact,
    script: Option<&BuildScript>,
    programs: &BTreeMap<PathBuf, Vec<(String, String)>>,
    libraries: &[PathBuf],
) -> Option<Binary> {
    let executable = artifact.executable.clone()?;
    let package = artifact.directory();
    let mut environment = script.map(BuildScript::variables).unwrap_or_default();
    environment.extend(programs.get(&package).into_iter().flatten().cloned());
    let mut libraries = libraries.to_vec();
    if let Some(dependencies) = executable.parent() {
        libraries.extend(dependencies.parent().map(Path::to_owned));
        libraries.push(dependencies.to_owned());
    }
    Some(Binary {
        source: artifact.target.src_path.clone(),
        name: artifact.target.name.clone(),
        has_libtest: manifest::has_libtest(&package, &artifact.target),
        package,
        executable,
        environment,
        libraries,
    })
}

/// What is known where cargo could not even read the manifests.
fn refused(directory: &Path, answer: &Answer) -> Build {
    Build { root: directory.to_owned(), refusal: answer.messages.text(), ..Build::default() }
}

/// Writes a file that others see whole or not at all.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, content)?;
    fs::rename(unfinished, path)
}
