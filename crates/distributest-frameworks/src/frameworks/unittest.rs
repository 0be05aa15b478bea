//! Python's unittest, on Python 3.8 or newer.
//!
//! Files are found as `python -m unittest discover` finds them: `test*.py` in the directory it starts from and in the
//! packages below it. It is started from the project's directory, and from those of [`STARTS`] that are no packages, which
//! its users name with `-s`. A package whose `__init__.py` has tests of its own is a test file too; one that has
//! `load_tests` stands for everything below it, as in unittest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::discover::path_pattern;
use crate::error::DiscoverError;
use crate::framework::{Definition, Evidence};
use crate::frameworks::python::{self, PythonFramework, directory_of};
use crate::launch::{Launch, LaunchOptions, WorkerLaunch};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

/// Directories that discovery is started from when they are no packages.
const STARTS: [&str; 3] = ["src", "test", "tests"];

/// Names that are no modules: with a character that no identifier has.
const NO_MODULE: &str = "**/test*[ -.:-@[-^`{-~]*.py";

pub(crate) struct Unittest;

impl Definition for Unittest {
    fn name(&self) -> &str {
        "unittest"
    }

    fn evidence(&self, project: &ProjectFiles<'_>) -> Option<Evidence> {
        python::evidence_of(PythonFramework::Unittest, project)
    }

    fn rules(&self, project: &Path, only: &[PathBuf]) -> Result<Rules, DiscoverError> {
        rules(project, &STARTS, only)
    }

    fn accepts(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "py")
    }

    fn multipliers(&self) -> &'static [&'static str] {
        &["load_tests", "parameterized.expand", "hypothesis.given", "@given"]
    }

    fn launch(&self, options: &LaunchOptions) -> Launch {
        Launch::Worker(WorkerLaunch::embedded(
            &python::PROGRAMS,
            "unittest_worker.py",
            python::worker_source!("unittest_cases.py", "unittest_worker.py"),
            options,
        ))
    }
}

/// The rules of a discovery that starts from the project's directory, from `starts`, and from directories in `only`.
pub(crate) fn rules(project: &Path, starts: &[&str], only: &[PathBuf]) -> Result<Rules, DiscoverError> {
    let files = ProjectFiles::of(project);
    let given = only.iter().filter_map(|path| path.to_str());
    let starts: Vec<&str> = starts.iter().copied().chain(given).collect();
    let mut rules = Rules::from_globs(project, &globs(&files, &starts))?;
    rules.exclude.push(path_pattern(NO_MODULE)?);
    Ok(rules)
}

/// The test files of a project as they are found where nobody names any.
pub(crate) fn test_files(project: &ProjectFiles<'_>) -> BTreeSet<String> {
    let rules = rules(project.directory(), &STARTS, &[]);
    let included = |path: &&String| rules.as_ref().is_ok_and(|rules| rules.include(Path::new(path.as_str())));
    project.paths().iter().filter(included).cloned().collect()
}

/// A glob for each directory that discovery looks into, and the `__init__.py` that are test files.
fn globs(files: &ProjectFiles<'_>, starts: &[&str]) -> Vec<String> {
    let initials = files.paths().iter().filter(|path| path.rsplit('/').next() == Some("__init__.py"));
    let packages: BTreeSet<&str> =
        initials.map(|path| directory_of(path)).filter(|directory| !directory.is_empty()).collect();
    let text = |package: &str| files.text(&format!("{package}/__init__.py")).unwrap_or_default();
    let stands_for_all: BTreeSet<&str> =
        packages.iter().copied().filter(|package| text(package).contains("def load_tests")).collect();
    let starts_here = |directory: &str| {
        directory.is_empty() || (starts.contains(&directory) && !packages.contains(directory))
    };
    let is_reached = |package: &str| {
        let mut above = directory_of(package);
        while packages.contains(above) && !stands_for_all.contains(above) {
            above = directory_of(above);
        }
        starts_here(above) || starts.contains(&package)
    };
    let mut globs = vec!["test*.py".to_owned()];
    let plain_starts = starts.iter().filter(|start| !start.is_empty() && !packages.contains(**start));
    globs.extend(plain_starts.map(|start| format!("{}/test*.py", globset::escape(start))));
    for package in packages.iter().copied().filter(|package| is_reached(package)) {
        let escaped = globset::escape(package);
        if !stands_for_all.contains(package) {
            globs.push(format!("{escaped}/test*.py"));
        }
        if has_tests(&text(package)) {
            globs.push(format!("{escaped}/__init__.py"));
        }
    }
    globs
}

/// Whether a package's own text may have test cases, or import some, which is the same to unittest.
fn has_tests(text: &str) -> bool {
    text.lines().map(str::trim).any(|line| {
        let imports = line.starts_with("from ") && (line.contains("Test") || line.ends_with("import *"));
        imports || line.contains("load_tests") || (line.starts_with("class ") && line.contains("Test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn found(files: &[(&str, &str)], starts: &[&str]) -> Vec<String> {
        let project = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = project.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let rules = rules(project.path(), starts, &[]).unwrap();
        let names = files.iter().map(|(name, _)| *name);
        names.filter(|name| rules.include(Path::new(name))).map(str::to_owned).collect()
    }

    #[test]
    fn discovery_goes_through_packages_only() {
        let files = [
            ("test_top.py", ""),
            ("testing.py", ""),
            ("a_test.py", ""),
            ("test-dash.py", ""),
            ("pkg/__init__.py", ""),
            ("pkg/test_in.py", ""),
            ("pkg/Deep/__init__.py", ""),
            ("pkg/Deep/test_in.py", ""),
            ("pkg/data/test_out.py", ""),
            ("tests/test_started.py", ""),
            ("tests/unit/__init__.py", ""),
            ("tests/unit/test_started.py", ""),
            ("tests/other/test_out.py", ""),
        ];
        let expected = ["test_top.py", "testing.py", "pkg/test_in.py", "pkg/Deep/test_in.py"];
        assert_eq!(found(&files, &[]), expected);
        let started = ["tests/test_started.py", "tests/unit/test_started.py"];
        assert_eq!(found(&files, &STARTS), [&expected[..], &started[..]].concat());
    }

    #[test]
    fn packages_with_tests_of_their_own_count_and_load_tests_stands_for_all_below() {
        let files = [
            ("a/__init__.py", "def load_tests(loader, tests, pattern):\n    return tests\n"),
            ("a/test_below.py", ""),
            ("a/b/__init__.py", ""),
            ("a/b/test_below.py", ""),
            ("c/__init__.py", "from .cases import *\n"),
            ("c/test_beside.py", ""),
            ("d/__init__.py", "version = 1\n"),
        ];
        assert_eq!(found(&files, &[]), ["a/__init__.py", "c/__init__.py", "c/test_beside.py"]);
    }
}
