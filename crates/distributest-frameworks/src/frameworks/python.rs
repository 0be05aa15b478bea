//! What the frameworks for Python have in common: where Python is looked for, and which of them a project uses.
//!
//! Their test files look alike, so a project has one of them. pytest runs unittest's and Django's tests too; it is
//! the one unless the project shows that it does without:
//!
//! 1. pytest is configured (`pytest.ini`, `[tool.pytest…]`, `conftest.py`, …): pytest.
//! 2. `manage.py` is Django's, and no file that lists dependencies names pytest-django: Django.
//! 3. No such file names pytest, there is no `conftest.py` anywhere, no test file needs pytest ([`needs_pytest`]), some are
//!    unittest's, and its discovery reaches them all: unittest.
//! 4. There are files with names that pytest takes for tests: pytest.

use std::path::Path;

use crate::framework::Evidence;
use crate::frameworks::{pytest, unittest};
use crate::project_files::ProjectFiles;

/// The Pythons to try, in this order. Environments that Poetry and Pipenv keep elsewhere are found by the worker program,
/// before it goes on with one from `PATH`.
pub(crate) const PROGRAMS: [&str; 7] = [
    "$VIRTUAL_ENV/bin/python",
    "$UV_PROJECT_ENVIRONMENT/bin/python",
    ".venv/bin/python",
    "venv/bin/python",
    "$CONDA_PREFIX/bin/python",
    "python3",
    "python",
];

/// The text of a worker program: the three files for Python and those for the framework.
macro_rules! worker_source {
    ($($file:literal),+) => {
        concat!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/workers/python_worker.py")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/workers/python_processes.py")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/workers/python_keeping.py")),
            $(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/workers/", $file)),)+
        )
    };
}
pub(crate) use worker_source;

/// Files that list what a project depends on, besides `requirements*.txt`.
const DEPENDENCIES: [&str; 7] =
    ["pyproject.toml", "Pipfile", "setup.cfg", "setup.py", "tox.ini", "noxfile.py", "environment.yml"];

/// A framework for Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PythonFramework {
    Pytest,
    Unittest,
    Django,
}

/// What says that a project uses this framework; `None` where it uses another or none.
pub(crate) fn evidence_of(framework: PythonFramework, project: &ProjectFiles<'_>) -> Option<Evidence> {
    let (used, evidence) = used(project)?;
    (used == framework).then_some(evidence)
}

fn used(project: &ProjectFiles<'_>) -> Option<(PythonFramework, Evidence)> {
    if let Some(file) = pytest::configuration(project) {
        return Some((PythonFramework::Pytest, Evidence::certain(file)));
    }
    let is_djangos = project.text("manage.py").is_some_and(|text| text.contains("DJANGO_SETTINGS_MODULE"));
    if is_djangos && !depends_on(project, &["pytest-django", "pytest_django"]) {
        return Some((PythonFramework::Django, Evidence::certain("manage.py")));
    }
    let (framework, files) = match unittest_files(project) {
        Some(files) => (PythonFramework::Unittest, files),
        None => (PythonFramework::Pytest, files_of_pytest(project)),
    };
    let is_usual = |path: &&String| {
        let top = path.split_once('/').map(|(top, _)| top);
        matches!(top, None | Some("test" | "tests"))
    };
    let usual = files.iter().find(is_usual).map(Evidence::certain);
    let evidence = usual.or_else(|| files.first().map(Evidence::likely))?;
    Some((framework, evidence))
}

fn files_of_pytest(project: &ProjectFiles<'_>) -> Vec<String> {
    project.paths().iter().filter(|path| pytest::is_test(path)).cloned().collect()
}

/// The test files that import unittest, where unittest's own discovery finds every test of the project.
fn unittest_files(project: &ProjectFiles<'_>) -> Option<Vec<String>> {
    let has_conftest = project.first(|path| path.ends_with("/conftest.py")).is_some();
    if has_conftest || depends_on(project, &["pytest"]) {
        return None;
    }
    let found = unittest::test_files(project);
    if !files_of_pytest(project).iter().all(|path| found.contains(path)) {
        return None;
    }
    let mut of_unittest = Vec::new();
    for path in found {
        let text = project.text(&path).unwrap_or_default();
        if needs_pytest(&text) {
            return None;
        }
        if text.lines().any(imports_unittest) {
            of_unittest.push(path);
        }
    }
    (!of_unittest.is_empty()).then_some(of_unittest)
}

/// Whether a file that lists dependencies has one of these words.
fn depends_on(project: &ProjectFiles<'_>, words: &[&str]) -> bool {
    let lists_dependencies = |path: &str| {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_requirements = name.ends_with(".txt") || name.ends_with(".in");
        DEPENDENCIES.contains(&path)
            || (is_requirements && (name.contains("requirements") || directory == "requirements"))
    };
    let names =
        |path: &String| project.text(path).is_some_and(|text| words.iter().any(|word| text.contains(word)));
    project.paths().iter().filter(|path| lists_dependencies(path)).any(names)
}

/// Whether a test file has what only pytest understands: pytest itself, test functions, test classes of no class.
fn needs_pytest(text: &str) -> bool {
    text.lines().any(|line| {
        let code = line.trim_start();
        let is_bare_class =
            line.starts_with("class Test") && line.trim_end().ends_with("):") && line.contains("(object)")
                || line.starts_with("class Test") && !line.contains('(');
        code.starts_with("import pytest")
            || code.starts_with("from pytest ")
            || line.starts_with("def test")
            || line.starts_with("async def test")
            || is_bare_class
    })
}

fn imports_unittest(line: &str) -> bool {
    let code = line.trim_start();
    ["import unittest", "from unittest", "from django.test", "from twisted.trial", "import unittest2"]
        .iter()
        .any(|begin| code.starts_with(begin))
}

/// The directory a path is in; empty for the project's own.
pub(crate) fn directory_of(path: &str) -> &str {
    Path::new(path).parent().and_then(Path::to_str).unwrap_or_default()
}
