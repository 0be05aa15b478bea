//! Plans a run: which frameworks, which files, in which order. A plan leaves the driver no choices about files.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use distributest_core::prediction::{self, FileFacts, PastAttempt};
use distributest_core::run_event::{FilePlan, HostPlan, RunEvent};
use distributest_frameworks::{
    DiscoverError, Discovered, DiscoveredFile, Framework, LaunchOptions, Selection,
};
use distributest_history::RecordedAttempt;
use distributest_protocol::wire;

use crate::config::Config;
use crate::error::{Problem, UserError};
use crate::hosts::HostSpec;
use crate::launch;
use crate::project::Project;

/// What a run is to do.
pub struct RunPlan {
    /// Unique among this user's runs.
    pub run: String,
    /// The project.
    pub project: Project,
    /// The files, in the order they are handed out: the index is the file's id.
    pub files: Vec<PlannedFile>,
    /// Files that can't be run because of their names; their ids follow those of `files`.
    pub unusable: Vec<UnusableFile>,
    /// How each framework's files are run.
    pub launches: Vec<wire::Launch>,
}

/// A file of the plan.
pub struct PlannedFile {
    /// Project-relative path.
    pub path: String,
    /// The framework's name.
    pub framework: String,
    /// Index into the plan's launches.
    pub launch: u32,
    /// How long it should take; `None` where there is nothing to go by.
    pub predicted: Option<Duration>,
}

/// A file whose name is not UTF-8.
pub struct UnusableFile {
    /// The name, with what is not UTF-8 replaced.
    pub name: String,
    /// The framework it would belong to.
    pub framework: String,
}

impl RunPlan {
    /// The first event of the run.
    pub fn started_event(&self, hosts: &[HostSpec]) -> RunEvent {
        let usable = self.files.iter().map(|file| FilePlan {
            path: file.path.clone(),
            framework: file.framework.clone(),
            predicted: file.predicted,
        });
        let unusable = self.unusable.iter().map(|file| FilePlan {
            path: file.name.clone(),
            framework: file.framework.clone(),
            predicted: None,
        });
        RunEvent::RunStarted {
            run: self.run.clone(),
            project: self.project.name.clone(),
            hosts: hosts
                .iter()
                .map(|host| HostPlan { name: host.name.clone(), runners: host.runners })
                .collect(),
            files: usable.chain(unusable).collect(),
        }
    }
}

/// What the user wants run, apart from the configuration.
pub struct Request<'a> {
    /// Paths, directories or parts of paths; empty: everything.
    pub paths: &'a [String],
    /// Arguments for the framework.
    pub framework_arguments: &'a [String],
}

/// Finds the files, predicts how long they take, and puts them in order.
///
/// # Errors
///
/// Exit status 2 when a glob or path matches nothing or the configuration does not fit the project, 4 when there are
/// no tests.
pub fn plan(
    run: String,
    project: Project,
    config: &Config,
    request: &Request<'_>,
    past: &HashMap<String, Vec<RecordedAttempt>>,
) -> Result<RunPlan, UserError> {
    if request.paths.iter().any(String::is_empty) {
        let hint = "an unset variable on the command line? Without arguments everything is run";
        return Err(UserError::usage("an empty argument names no test file").hint(hint));
    }
    let frameworks = frameworks(&project, config)?;
    let wanted = Wanted::of(&project, request.paths);
    let mut unordered = Vec::new();
    let mut unusable = Vec::new();
    let mut launches = Vec::new();
    // A path may lead to files of one framework only; it is wrong when it leads to none at all.
    let mut unmatched: Option<HashSet<String>> = None;
    for (index, framework) in (0..).zip(&frameworks) {
        let discovered = discover(&project, config, framework, &wanted)?;
        unordered.extend(discovered.files.into_iter().map(|file| (index, framework, file)));
        let unusable_files = discovered.unusable.into_iter();
        unusable
            .extend(unusable_files.map(|name| UnusableFile { name, framework: framework.name().to_owned() }));
        launches.push(launch::to_wire(framework, &launch_options(config, request)));
        let led_nowhere: HashSet<String> = discovered.unmatched.into_iter().collect();
        unmatched = Some(match unmatched {
            Some(so_far) => so_far.intersection(&led_nowhere).cloned().collect(),
            None => led_nowhere,
        });
    }
    let paths = unordered.iter().map(|(_, _, file)| file.path.as_str());
    let names = paths.chain(unusable.iter().map(|file: &UnusableFile| file.name.as_str()));
    check_matches(config, &wanted, unmatched.unwrap_or_default(), &names.collect::<Vec<_>>())?;
    if unordered.is_empty() && unusable.is_empty() {
        return Err(no_tests(&project, &frameworks, config));
    }
    let facts: Vec<FileFacts> = unordered.iter().map(|(_, _, file)| facts(file, past)).collect();
    let mut order = prediction::plan(&facts);
    let mut seen = HashSet::new();
    // Two frameworks may claim the same path; each file runs once, with the first.
    order.retain(|planned| seen.insert(&facts[planned.index].path));
    let files = order.iter().map(|planned| {
        let (launch, framework, file) = &unordered[planned.index];
        PlannedFile {
            path: file.path.clone(),
            framework: framework.name().to_owned(),
            launch: *launch,
            predicted: planned.predicted,
        }
    });
    let files = files.collect();
    Ok(RunPlan { run, project, files, unusable, launches })
}

fn facts(file: &DiscoveredFile, past: &HashMap<String, Vec<RecordedAttempt>>) -> FileFacts {
    let attempts = past.get(&file.path).map(Vec::as_slice).unwrap_or_default();
    // Hosts count as equally fast until their speeds are learnt.
    let recent = attempts.iter().map(|attempt| PastAttempt { duration: attempt.duration, host_speed: 1.0 });
    FileFacts {
        path: file.path.clone(),
        size_bytes: file.size_bytes,
        shared_examples: file.shared_examples,
        recent: recent.collect(),
    }
}

fn frameworks(project: &Project, config: &Config) -> Result<Vec<Framework>, UserError> {
    if let Some(name) = &config.framework {
        let framework = Framework::named(name)
            .ok_or_else(|| UserError::usage(format!("there is no framework called {name:?}")))?;
        return Ok(vec![framework]);
    }
    if config.command.is_some() {
        return Ok(vec![Framework::command()]);
    }
    let detected = distributest_frameworks::detect(&project.directory, &Framework::built_in());
    let found: Vec<Framework> = detected.into_iter().map(|detected| detected.framework).collect();
    if found.len() > 1 && !config.files.is_empty() {
        let names: Vec<&str> = found.iter().map(|framework| framework.name()).collect();
        return Err(UserError::usage(format!(
            "`files` is set, but the project has tests for {}",
            names.join(" and ")
        ))
        .hint("set `framework` (or --framework) to the one that `files` are for"));
    }
    if found.is_empty() && !config.files.is_empty() {
        return Err(UserError::usage("no test framework was found for `files`").hint(
            "set `framework` to pytest, rspec or command (each file is executed), or `command = \"bash {file}\"`",
        ));
    }
    Ok(found)
}

/// What was asked for on the command line.
struct Wanted {
    /// Files and directories that exist.
    paths: Vec<String>,
    /// Parts of paths: everything else.
    filters: Vec<String>,
}

impl Wanted {
    fn of(project: &Project, arguments: &[String]) -> Wanted {
        let exists = |argument: &&String| project.directory.join(argument).symlink_metadata().is_ok();
        let (paths, filters) = arguments.iter().partition::<Vec<&String>, _>(exists);
        Wanted {
            paths: paths.into_iter().cloned().collect(),
            filters: filters.into_iter().cloned().collect(),
        }
    }

    fn by_filter(&self, path: &str) -> bool {
        self.filters.iter().any(|filter| path.contains(filter.as_str()))
    }
}

/// Refuses globs, paths and filters that lead to no file: a typing error must not make a run look green.
fn check_matches(
    config: &Config,
    wanted: &Wanted,
    unmatched: HashSet<String>,
    names: &[&str],
) -> Result<(), UserError> {
    let mut problems = Vec::new();
    let list = "`distributest --dry-run` lists the test files";
    let whole_files = "files are run whole; give the file, and the framework its own way to select tests: \
                       `distributest FILE -- -k NAME` (pytest), `distributest FILE -- --example NAME` (RSpec)";
    for glob in config.files.iter().filter(|glob| unmatched.contains(*glob)) {
        problems.push(Problem::new(format!("the glob {glob:?} of `files` matches no file")).with_hint(
            "globs are relative to the project; `distributest config` shows where this one was set",
        ));
    }
    for path in wanted.paths.iter().filter(|path| unmatched.contains(*path)) {
        problems.push(Problem::new(format!("there is no test file in {path:?}")).with_hint(list));
    }
    for filter in &wanted.filters {
        if !names.iter().any(|name| name.contains(filter.as_str())) {
            let message = format!("{filter:?} is neither a file, a directory nor part of a test file's path");
            problems.push(Problem::new(message).with_hint(if names_a_test(filter) {
                whole_files
            } else {
                list
            }));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(UserError::usage_problems(problems)) }
}

/// Whether it looks like pytest's `file::test` or RSpec's `file:12` and `file[1:2]`.
fn names_a_test(argument: &str) -> bool {
    let line = argument.rsplit_once(':').is_some_and(|(_, line)| line.parse::<u32>().is_ok());
    line || argument.contains("::") || argument.ends_with(']')
}

fn launch_options(config: &Config, request: &Request<'_>) -> LaunchOptions {
    LaunchOptions {
        isolation: config.isolation,
        command: config.command.clone(),
        arguments: request.framework_arguments.to_vec(),
        results: None,
    }
}

/// The files of a framework that the paths lead to, and those whose own paths hold a filter.
fn discover(
    project: &Project,
    config: &Config,
    framework: &Framework,
    wanted: &Wanted,
) -> Result<Discovered, UserError> {
    let find = |only: &[String]| {
        let selection = Selection {
            framework: framework.clone(),
            files: config.files.clone(),
            exclude: config.exclude.clone(),
            only: only.to_vec(),
        };
        distributest_frameworks::discover(&project.directory, &selection)
            .map_err(|error| discover_error(&error))
    };
    if wanted.filters.is_empty() {
        return find(&wanted.paths);
    }
    let mut discovered = find(&[])?;
    discovered.files.retain(|file| wanted.by_filter(&file.path));
    discovered.unusable.retain(|name| wanted.by_filter(name));
    if !wanted.paths.is_empty() {
        // A file that is found both ways is dropped with the other duplicates; names that are not UTF-8 can be equal
        // in their lossy form without being duplicates.
        let led_to = find(&wanted.paths)?;
        discovered.files.extend(led_to.files);
        discovered.unusable.extend(led_to.unusable.into_iter().filter(|name| !wanted.by_filter(name)));
        discovered.unmatched.extend(led_to.unmatched);
    }
    Ok(discovered)
}

fn discover_error(error: &DiscoverError) -> UserError {
    UserError::usage_problems(vec![Problem::from_error(error)])
}

fn no_tests(project: &Project, frameworks: &[Framework], config: &Config) -> UserError {
    let found = format!("no tests found in {}", project.directory.display());
    let (message, hint) = if frameworks.is_empty() {
        let hint = "distributest knows pytest and RSpec by their files; for anything else set `files` and `command` in \
                    .distributest/config.toml (`distributest init` writes one)";
        (format!("{found}: no test framework was detected"), hint)
    } else if config.exclude.is_empty() {
        (found, "set `files` in .distributest/config.toml to where the tests are")
    } else {
        (found, "`exclude` may leave all of them out; `distributest config` shows where it was set")
    };
    let problem = Problem::new(message).with_hint(hint);
    UserError { problems: vec![problem], exit_status: distributest_core::ledger::EXIT_NO_TESTS }
}
