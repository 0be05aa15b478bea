//! bats-core, 1.2 or newer.

use std::fs;
use std::path::{Path, PathBuf};

use crate::discover::path_pattern;
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::launch::{Isolation, Launch, LaunchOptions, OwnWorkerLaunch};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

/// Where projects keep a copy of bats and its libraries when they are no submodules.
const COPIES: [&str; 8] = [
    "test/bats",
    "tests/bats",
    "test/libs/bats",
    "test/libs/bats-core",
    "vendor/bats-core",
    "test/test_helper/bats-support",
    "test/test_helper/bats-assert",
    "test/test_helper/bats-file",
];

/// What only a copy of bats has, or one of its libraries.
const SIGNS: [&str; 2] = ["bin/bats", "load.bash"];

pub(crate) struct Bats;

impl Definition for Bats {
    fn name(&self) -> &str {
        "bats"
    }

    /// A file's ending says all; in a directory for tests it is one of the project's.
    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        let copies = copies(project.directory());
        let is_test = |path: &str| {
            path.ends_with(".bats") && !copies.iter().any(|copy| Path::new(path).starts_with(copy))
        };
        let is_usual = |path: &str| is_test(path) && (path.starts_with("test") || !path.contains('/'));
        let usual = project.first(is_usual).map(Evidence::certain);
        usual.or_else(|| project.first(is_test).map(Evidence::likely))
    }

    fn rules(&self, project: &Path, _: &[PathBuf]) -> Result<Rules, DiscoverError> {
        let mut rules = Rules::from_globs(project, &["**/*.bats".to_owned()])?;
        for copy in copies(project) {
            rules.exclude.push(path_pattern(&globset::escape(&copy))?);
        }
        Ok(rules)
    }

    fn accepts(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "bats")
    }

    fn isolations(&self) -> &'static [Isolation] {
        &[]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        Launch::OwnWorker(OwnWorkerLaunch::of_kind("bats", options))
    }
}

/// The directories that hold a copy of bats or of one of its libraries, whose own tests are not the project's.
fn copies(project: &Path) -> Vec<String> {
    let modules = fs::read_to_string(project.join(".gitmodules")).unwrap_or_default();
    let submodules = modules.lines().filter_map(|line| {
        let (key, path) = line.split_once('=')?;
        (key.trim() == "path").then(|| path.trim().trim_end_matches('/'))
    });
    let is_copy = |path: &&str| SIGNS.iter().any(|sign| project.join(path).join(sign).is_file());
    submodules.chain(COPIES).filter(is_copy).map(str::to_owned).collect()
}
