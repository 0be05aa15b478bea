//! Jest 29 or newer.

use std::path::{Path, PathBuf};

use super::literals::Literals;
use super::package::{PACKAGE, Package};
use super::{argument, is_program, literals_of, patterns, worker};
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::glob::Pattern;
use crate::launch::{Isolation, Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::{Rules, without_dots};

const CONFIGURATION: [&str; 6] = [
    "jest.config.js",
    "jest.config.ts",
    "jest.config.mjs",
    "jest.config.cjs",
    "jest.config.cts",
    "jest.config.json",
];

/// Since Jest 30; earlier ones don't count the endings of modules.
const DEFAULT_MATCH: [&str; 2] =
    ["**/__tests__/**/*.?([mc])[jt]s?(x)", "**/?(*.)+(spec|test).?([mc])[jt]s?(x)"];
const DEFAULT_MATCH_BEFORE_30: [&str; 2] = ["**/__tests__/**/*.[jt]s?(x)", "**/?(*.)+(spec|test).[jt]s?(x)"];

pub(crate) struct Jest;

impl Definition for Jest {
    fn name(&self) -> &str {
        "jest"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let package = Package::read(project.directory());
        let is_used = package.dependency("jest").is_some()
            || !package.literals.below(&["jest"]).is_empty()
            || package.script("jest", None).is_some();
        let configuration = project.existing(&CONFIGURATION);
        configuration.or_else(|| is_used.then(|| PACKAGE.to_owned())).map(Evidence::certain)
    }

    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let package = Package::read(project);
        let settings = Settings::read(project, &package);
        let mut rules = Rules::from_globs(project, &[])?;
        rules.starts = vec![PathBuf::new()];
        rules.within = patterns(&settings.roots)?;
        let (excluding, including): (Vec<_>, Vec<_>) =
            settings.matches.into_iter().partition(|glob| glob.starts_with('!'));
        rules.include = patterns(&including)?;
        rules.exclude = patterns(&excluding.iter().map(|glob| glob[1..].to_owned()).collect::<Vec<_>>())?;
        rules.include.extend(settings.regexes.iter().filter_map(|regex| Pattern::regex(regex, project).ok()));
        rules.exclude.extend(settings.ignored.iter().filter_map(|regex| Pattern::regex(regex, project).ok()));
        Ok(rules)
    }

    fn accepts(&self, path: &Path) -> bool {
        is_program(path)
    }

    fn multipliers(&self) -> &'static [&'static str] {
        &["test.each", "it.each", "describe.each"]
    }

    /// Jest keeps files of a process apart itself: each has modules and globals of its own.
    fn isolations(&self) -> &'static [Isolation] {
        &[Isolation::Shared, Isolation::Process]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        let source = worker_source!("jest_worker.cjs");
        worker("jest_worker.cjs", source, self.isolations(), options)
    }
}

/// What Jest's configuration says about finding files, as far as it can be read; Jest's defaults where it says nothing.
struct Settings {
    /// Directories to look in, as globs; empty: the project.
    roots: Vec<String>,
    /// `testMatch`
    matches: Vec<String>,
    /// `testRegex`
    regexes: Vec<String>,
    /// `testPathIgnorePatterns`
    ignored: Vec<String>,
}

impl Settings {
    fn read(project: &Path, package: &Package) -> Settings {
        let (literals, at): (&Literals, &[&str]);
        let file;
        let script = package.script("jest", None).unwrap_or_default();
        let given = argument(&script, &["--config", "-c"]);
        let existing = || CONFIGURATION.into_iter().find(|name| project.join(name).is_file());
        let name = given.map(without_dots).or_else(existing);
        if let Some(name) = name {
            file = literals_of(project, name);
            (literals, at) = (&file, &[]);
        } else {
            (literals, at) = (&package.literals, &["jest"]);
        }
        let directory = name.and_then(|name| Path::new(name).parent()).unwrap_or(Path::new(""));
        Settings::from_literals(project, directory, literals, at, package.major_version("jest"))
    }

    /// `directory` is where the configuration is, relative to the project.
    fn from_literals(
        project: &Path,
        directory: &Path,
        literals: &Literals,
        at: &[&str],
        major_version: Option<u32>,
    ) -> Settings {
        let path = |name| [at, &[name]].concat();
        let in_projects = |name| [at, &["projects", name]].concat();
        let has_projects = literals.has(&path("projects"));
        let given = |name| -> Vec<String> {
            let found = literals.at(&path(name)).into_iter().chain(literals.at(&in_projects(name)));
            found.flat_map(|property| property.values.clone()).collect()
        };
        let root_directory = literals.value(&path("rootDir")).unwrap_or_default();
        let root = join(directory, &root_directory);
        let as_glob = |text: String| match text.strip_prefix("<rootDir>") {
            Some(rest) => {
                without_dots(&format!("{}{rest}", globset::escape(&root))).trim_start_matches('/').to_owned()
            }
            None => text,
        };
        let absolute = regex::escape(&project.join(&root).to_string_lossy());
        let as_regex = |text: String| text.replace("<rootDir>", absolute.trim_end_matches('/'));
        let mut settings = Settings {
            roots: literals.values(&path("roots")).into_iter().map(as_glob).collect(),
            matches: given("testMatch").into_iter().map(as_glob).collect(),
            regexes: given("testRegex").into_iter().map(as_regex).collect(),
            // What one project leaves to another is not left out.
            ignored: if has_projects { Vec::new() } else { given("testPathIgnorePatterns") },
        };
        settings.ignored = settings.ignored.into_iter().map(as_regex).collect();
        if settings.roots.is_empty() && !root.is_empty() {
            settings.roots.push(globset::escape(&root));
        }
        if settings.matches.is_empty() && settings.regexes.is_empty() {
            let is_old = major_version.is_some_and(|version| version < 30);
            let defaults = if is_old { DEFAULT_MATCH_BEFORE_30 } else { DEFAULT_MATCH };
            settings.matches = defaults.map(str::to_owned).to_vec();
        }
        settings
    }
}

/// A path below a directory, without dots; empty: the project.
fn join(directory: &Path, path: &str) -> String {
    let mut joined = PathBuf::new();
    for part in directory.join(path).components() {
        match part {
            std::path::Component::Normal(name) => joined.push(name),
            std::path::Component::ParentDir => {
                joined.pop();
            }
            _ => {}
        }
    }
    joined.to_string_lossy().into_owned()
}
