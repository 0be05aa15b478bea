//! Plans a run: which frameworks, which files, in which order. A plan leaves the driver no choices about files.

mod frameworks;
mod parts;
mod speeds;
mod wanted;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use distributest_core::identity::{FileId, LaunchId};
use distributest_core::prediction::{self, FileFacts, PastAttempt};
use distributest_core::run_event::{FilePlan, HostPlan, RunEvent};
use distributest_frameworks::{DiscoverError, Discovered, DiscoveredFile, Framework, Selection};
use distributest_history::{RecordedAttempt, RecordedPass};
use distributest_protocol::wire;
use globset::{GlobBuilder, GlobMatcher};

use self::frameworks::Chosen;
pub use self::parts::PlannedPart;
pub use self::speeds::HostSpeeds;
use self::wanted::Wanted;
use crate::config::Config;
use crate::error::{Problem, UserError};
use crate::hosts::HostSpec;
use crate::journal::FinishedPart;
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
    /// Files that a former run finished, which are not run again; their ids follow those of `unusable`.
    pub finished: Option<FinishedPart>,
    /// How each framework's files are run.
    pub launches: Vec<wire::Launch>,
    /// How fast hosts are.
    pub speeds: HostSpeeds,
    /// Passes of each of `files` in earlier runs that may stand for running it; none for those beyond its end.
    pub passes: Vec<Vec<RecordedPass>>,
}

/// A file of the plan.
pub struct PlannedFile {
    /// Project-relative path.
    pub path: String,
    /// The framework's name.
    pub framework: String,
    /// Index into the plan's launches.
    pub launch: LaunchId,
    /// Ids of the tests to run; empty: all of them.
    pub tests: Vec<String>,
    /// How often it is tried again when it fails.
    pub retries: u8,
    /// How long it should take; `None` where there is nothing to go by.
    pub predicted: Option<Duration>,
    /// The part of the file that is run; `None`: all of it.
    pub part: Option<Arc<PlannedPart>>,
    /// How many bytes of memory it should need; `None` where nobody knows.
    pub memory: Option<u64>,
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
        let usable = self.files.iter().map(PlannedFile::announced);
        let unusable = self.unusable.iter().map(|file| FilePlan {
            path: file.name.clone(),
            framework: file.framework.clone(),
            tests: Vec::new(),
            predicted: None,
            part: None,
        });
        let finished = self.finished.iter().flat_map(FinishedPart::file_plans);
        RunEvent::RunStarted {
            run: self.run.clone(),
            project: self.project.name.clone(),
            hosts: self.announced_hosts(hosts),
            files: usable.chain(unusable).chain(finished).collect(),
        }
    }

    /// The versions of framework and interpreter with which each file passed that may not need to be run.
    pub fn passed_with(&self) -> Vec<Vec<String>> {
        let versions = |passes: &Vec<RecordedPass>| passes.iter().map(|pass| pass.versions.clone()).collect();
        self.passes.iter().map(versions).collect()
    }

    /// What is told right after the first event: what a former run found out.
    pub fn resumed_events(&self, hosts: &[HostSpec]) -> Vec<RunEvent> {
        let first = u32::try_from(self.files.len() + self.unusable.len()).unwrap_or(u32::MAX);
        let events = |finished: &FinishedPart| finished.events(FileId(first), &self.announced_hosts(hosts));
        self.finished.as_ref().map(events).unwrap_or_default()
    }

    /// The hosts that take part, then those that a former run used.
    fn announced_hosts(&self, hosts: &[HostSpec]) -> Vec<HostPlan> {
        let others = self.finished.iter().flat_map(|finished| finished.other_hosts(hosts));
        let own = hosts.iter().map(|host| HostPlan { name: host.name.clone(), runners: host.runners });
        own.chain(others).collect()
    }
}

impl PlannedFile {
    /// The file as the first event of the run announces it.
    pub fn announced(&self) -> FilePlan {
        FilePlan {
            path: self.path.clone(),
            framework: self.framework.clone(),
            tests: self.tests.clone(),
            predicted: self.predicted,
            part: self.part.as_ref().map(|part| part.place()),
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
    let chosen = frameworks::choose(&project, config, request.framework_arguments)?;
    let wanted = Wanted::of(&project, request.paths);
    let found = Found::by(&project, &chosen, &wanted)?;
    wanted.check_matches(config, &found)?;
    if found.files.is_empty() && found.unusable.is_empty() {
        return Err(no_tests(&project, &chosen, config));
    }
    let used: Vec<&Chosen> = chosen.iter().filter(|chosen| found.has_files_of(&chosen.framework)).collect();
    frameworks::check_arguments(&used, request.framework_arguments)?;
    let launches = used.iter().map(|chosen| launch::to_wire(&chosen.framework, &chosen.options)).collect();
    let retries = Retries::new(config);
    let speeds = HostSpeeds::learn(past);
    let facts: Vec<FileFacts> = found.files.iter().map(|(_, file)| facts(file, past, &speeds)).collect();
    let order = prediction::plan(&facts);
    let files = order.iter().map(|planned| {
        let (framework, file) = &found.files[planned.index];
        let launch = used.iter().position(|chosen| chosen.framework == *framework);
        let suffixes = wanted.suffixes_of(&file.path);
        PlannedFile {
            path: file.path.clone(),
            framework: framework.name().to_owned(),
            launch: launch
                .and_then(|launch| launch.try_into().ok())
                .map(LaunchId)
                .expect("every file is of a framework in use"),
            tests: without_repeats(suffixes.map(|suffix| framework.test_id(&file.path, suffix))),
            retries: retries.of(&file.path),
            predicted: planned.predicted,
            part: None,
            memory: planned.memory,
        }
    });
    let files = files.collect();
    Ok(RunPlan {
        run,
        project,
        files,
        unusable: found.unusable,
        finished: None,
        launches,
        speeds,
        passes: Vec::new(),
    })
}

fn without_repeats(ids: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = HashSet::new();
    ids.filter(|id| seen.insert(id.clone())).collect()
}

/// How often files are tried again.
struct Retries {
    all: u8,
    globs: Vec<(GlobMatcher, u8)>,
}

impl Retries {
    fn new(config: &Config) -> Retries {
        let glob = |(text, retries): (&String, &u8)| {
            let glob = GlobBuilder::new(text).literal_separator(true).build().ok()?;
            Some((glob.compile_matcher(), *retries))
        };
        Retries { all: config.retries, globs: config.retry.iter().filter_map(glob).collect() }
    }

    /// The most that any glob that matches says; without one, what holds for all.
    fn of(&self, path: &str) -> u8 {
        let matching = self.globs.iter().filter(|(glob, _)| glob.is_match(path));
        matching.map(|(_, retries)| *retries).max().unwrap_or(self.all)
    }
}

/// What discovery found, of all frameworks.
#[derive(Default)]
pub(crate) struct Found {
    files: Vec<(Framework, DiscoveredFile)>,
    unusable: Vec<UnusableFile>,
    /// Globs of a framework's files that lead to none.
    unmatched_globs: BTreeSet<String>,
    /// Paths that lead to no framework's file: one may well lead to files of a single one only.
    unmatched_places: BTreeSet<String>,
}

impl Found {
    fn by(project: &Project, chosen: &[Chosen], wanted: &Wanted) -> Result<Found, UserError> {
        let mut found = Found { unmatched_places: wanted.places().into_iter().collect(), ..Found::default() };
        for Chosen { framework, selection, .. } in chosen {
            let discovered = discover(project, selection, wanted)?;
            found.files.extend(discovered.files.into_iter().map(|file| (framework.clone(), file)));
            let unusable = discovered.unusable.into_iter();
            let unusable = unusable.map(|name| UnusableFile { name, framework: framework.name().to_owned() });
            found.unusable.extend(unusable);
            found.unmatched_places.retain(|place| discovered.unmatched.contains(place));
            let globs = discovered.unmatched.into_iter().filter(|name| selection.files.contains(name));
            found.unmatched_globs.extend(globs);
        }
        // Two frameworks may claim the same path; each file runs once, with the first that takes it for a test, or, where
        // none does and it was given by name, with the first that can run it.
        let matching = found.files.iter().filter(|(_, file)| !file.by_name_only);
        let matching: HashSet<String> = matching.map(|(_, file)| file.path.clone()).collect();
        let mut seen = HashSet::new();
        found.files.retain(|(_, file)| {
            !(file.by_name_only && matching.contains(&file.path)) && seen.insert(file.path.clone())
        });
        Ok(found)
    }

    fn has_files_of(&self, framework: &Framework) -> bool {
        self.files.iter().any(|(of, _)| of == framework)
    }

    /// The path of every file, usable or not.
    fn names(&self) -> impl Iterator<Item = &str> {
        let usable = self.files.iter().map(|(_, file)| file.path.as_str());
        usable.chain(self.unusable.iter().map(|file| file.name.as_str()))
    }
}

fn facts(
    file: &DiscoveredFile,
    past: &HashMap<String, Vec<RecordedAttempt>>,
    speeds: &HostSpeeds,
) -> FileFacts {
    let attempts = past.get(&file.path).map(Vec::as_slice).unwrap_or_default();
    let recent = attempts.iter().map(|attempt| PastAttempt {
        duration: attempt.duration,
        host_speed: speeds.of(&attempt.host),
        peak_memory: attempt.peak_memory,
    });
    FileFacts {
        path: file.path.clone(),
        size_bytes: file.size_bytes,
        shared_examples: file.shared_examples,
        recent: recent.collect(),
    }
}

/// The files of a framework that the paths lead to, and those whose own paths hold a filter.
fn discover(project: &Project, selection: &Selection, wanted: &Wanted) -> Result<Discovered, UserError> {
    let find = |only: Vec<String>| {
        let selection = Selection { only, ..selection.clone() };
        distributest_frameworks::discover(&project.directory, &selection)
            .map_err(|error| discover_error(&error))
    };
    let places = wanted.places();
    if wanted.filters.is_empty() {
        return find(places);
    }
    let mut discovered = find(Vec::new())?;
    discovered.files.retain(|file| wanted.by_filter(&file.path));
    discovered.unusable.retain(|name| wanted.by_filter(name));
    if !places.is_empty() {
        // A file that is found both ways is dropped with the other duplicates; names that are not UTF-8 can be equal
        // in their lossy form without being duplicates.
        let led_to = find(places)?;
        discovered.files.extend(led_to.files);
        discovered.unusable.extend(led_to.unusable.into_iter().filter(|name| !wanted.by_filter(name)));
        discovered.unmatched.extend(led_to.unmatched);
    }
    Ok(discovered)
}

fn discover_error(error: &DiscoverError) -> UserError {
    UserError::usage_problems(vec![Problem::from_error(error)])
}

fn no_tests(project: &Project, frameworks: &[Chosen], config: &Config) -> UserError {
    let found = format!("no tests found in {}", project.directory.display());
    let (message, hint) = if frameworks.is_empty() {
        let hint = "distributest knows frameworks by their files; for anything else set `files` and `command` in \
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
