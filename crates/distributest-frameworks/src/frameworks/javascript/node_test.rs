//! Node.js's own test runner: `node --test`, on Node.js 18 or newer.

use std::path::{Path, PathBuf};

use super::package::{PACKAGE, Package};
use super::{is_program, patterns, worker};
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::launch::{Isolation, Launch, LaunchOptions};
use crate::project_files::ProjectFiles;
use crate::rules::{Rules, without_dots};

/// What `node --test` runs where it is given nothing.
const DEFAULT_FILES: [&str; 6] = [
    "**/*.test.?(c|m)js",
    "**/*-test.?(c|m)js",
    "**/*_test.?(c|m)js",
    "**/test-*.?(c|m)js",
    "**/test.?(c|m)js",
    "**/test/**/*.?(c|m)js",
];

pub(crate) struct NodeTest;

impl Definition for NodeTest {
    fn name(&self) -> &str {
        "node-test"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        if script(&Package::read(project.directory())).is_some() {
            return Some(Evidence::certain(PACKAGE));
        }
        let defaults = patterns(&DEFAULT_FILES.map(str::to_owned)).ok()?;
        let is_test = |path: &str| defaults.iter().any(|pattern| pattern.matches(Path::new(path)));
        let uses = |path: &str| project.text(path).is_some_and(|text| text.contains("node:test"));
        project.first(|path| is_test(path) && uses(path)).map(Evidence::likely)
    }

    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let given = script(&Package::read(project)).unwrap_or_default();
        let given: Vec<String> = given.iter().flat_map(|path| globs_of(project, path)).collect();
        let globs = if given.is_empty() { DEFAULT_FILES.map(str::to_owned).to_vec() } else { given };
        let mut rules = Rules::from_globs(project, &globs)?;
        rules.include = patterns(&globs)?;
        Ok(rules)
    }

    fn accepts(&self, path: &Path) -> bool {
        is_program(path)
    }

    /// As with `node --test`, each file has a process; with `fork` it is started while the one before runs.
    fn isolations(&self) -> &'static [Isolation] {
        &[Isolation::Fork, Isolation::Process]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        let source = worker_source!("node_test_worker.cjs");
        worker("node_test_worker.cjs", source, self.isolations(), options)
    }
}

/// The files and globs that the project's scripts give to `node --test`.
fn script(package: &Package) -> Option<Vec<String>> {
    let words = package.script("node", Some("--test"))?;
    let mut files = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-r"
            | "--require"
            | "--import"
            | "--loader"
            | "--experimental-loader"
            | "--conditions"
            | "-C"
            | "--test-name-pattern"
            | "--test-reporter"
            | "--test-reporter-destination"
            | "--test-concurrency"
            | "--test-timeout"
            | "--test-skip-pattern"
            | "--env-file" => {
                words.next();
            }
            option if option.starts_with('-') => {}
            file => files.push(file.to_owned()),
        }
    }
    Some(files)
}

/// A path on the command line as globs. A directory is looked through for the usual files, as Node.js 20 and older do.
fn globs_of(project: &Path, path: &str) -> Vec<String> {
    let path = without_dots(path);
    if !project.join(path).is_dir() {
        return vec![path.to_owned()];
    }
    let all_below = path.rsplit('/').next() == Some("test");
    let usual = DEFAULT_FILES.iter().filter(|_| !all_below).map(|glob| format!("{path}/{glob}"));
    usual.chain(all_below.then(|| format!("{path}/**/*.?(c|m)js"))).collect()
}
