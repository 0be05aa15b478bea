//! Detects which frameworks a project uses, from its files.

use std::path::Path;

use crate::discover::{Selection, discover};
use crate::framework::Framework;
use crate::pytest_settings::PytestSettings;

/// A framework that a project uses, and what gave it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The framework.
    pub framework: Framework,
    /// The file that says so, relative to the project, for messages.
    pub evidence: String,
}

/// The frameworks a project uses, in the order of [`Framework::ALL`]; [`Framework::Command`] is never detected.
///
/// A framework counts by its configuration file or by a file that is a test to it. What can't be read says nothing:
/// [`discover`] reports it once the framework is chosen.
pub fn detect(project: &Path) -> Vec<Detected> {
    [(Framework::Pytest, pytest_evidence(project)), (Framework::Rspec, rspec_evidence(project))]
        .into_iter()
        .filter_map(|(framework, evidence)| Some(Detected { framework, evidence: evidence? }))
        .collect()
}

fn pytest_evidence(project: &Path) -> Option<String> {
    let configuration = PytestSettings::read(project).ok().and_then(|settings| settings.source);
    let configuration = configuration.map(str::to_owned).or_else(|| existing(project, &["conftest.py"]));
    configuration.or_else(|| first_file(project, Framework::Pytest, |path| path.ends_with(".py")))
}

fn rspec_evidence(project: &Path) -> Option<String> {
    existing(project, &[".rspec", "spec/spec_helper.rb"])
        .or_else(|| first_file(project, Framework::Rspec, |path| path.ends_with("_spec.rb")))
}

fn existing(project: &Path, names: &[&str]) -> Option<String> {
    names.iter().find(|name| project.join(name).is_file()).map(ToString::to_string)
}

fn first_file(project: &Path, framework: Framework, counts: impl Fn(&str) -> bool) -> Option<String> {
    let found = discover(project, &Selection::of(framework)).ok()?;
    found.files.into_iter().map(|file| file.path).find(|path| counts(path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn detected(files: &[(&str, &str)]) -> Vec<(Framework, String)> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        detect(directory.path()).into_iter().map(|found| (found.framework, found.evidence)).collect()
    }

    #[test]
    fn configuration_files_give_pytest_away() {
        for (name, text) in [
            ("pytest.ini", ""),
            ("pyproject.toml", "[tool.pytest.ini_options]\n"),
            ("setup.cfg", "[tool:pytest]\n"),
            ("tox.ini", "[pytest]\n"),
            ("conftest.py", ""),
        ] {
            assert_eq!(detected(&[(name, text)]), [(Framework::Pytest, name.to_owned())]);
        }
        assert_eq!(detected(&[("pyproject.toml", "[tool.black]\n"), ("setup.cfg", ""), ("a.py", "")]), []);
    }

    #[test]
    fn test_files_give_their_framework_away_and_both_may_be_there() {
        let both =
            detected(&[("app/a_test.py", ""), ("spec/models/user_spec.rb", ""), ("test_notes.txt", "")]);
        assert_eq!(
            both,
            [
                (Framework::Pytest, "app/a_test.py".to_owned()),
                (Framework::Rspec, "spec/models/user_spec.rb".to_owned())
            ]
        );
    }

    #[test]
    fn an_empty_project_and_one_with_only_vendored_tests_use_nothing() {
        assert_eq!(detected(&[("README", "")]), []);
        assert_eq!(
            detected(&[("venv/lib/test_a.py", ""), (".tox/test_b.py", ""), ("test_notes.txt", "")]),
            []
        );
    }
}
