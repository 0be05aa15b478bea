//! Detects which frameworks a project uses, from its files.

use std::path::Path;

use crate::framework::{Framework, Strength};
use crate::project_files::ProjectFiles;

/// A framework that a project uses, and what gave it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The framework.
    pub framework: Framework,
    /// The file that says so, relative to the project, for messages.
    pub evidence: String,
}

/// The candidates that a project uses, in their order.
///
/// A framework counts by its configuration in the project's directory or by tests in the place its users put them. Only
/// where none counts so, files elsewhere that look like tests do: in a project whose frameworks are known they are
/// more often fixtures. What can't be read says nothing: [`discover`](crate::discover()) reports it once the framework is
/// chosen.
pub fn detect(project: &Path, candidates: &[Framework]) -> Vec<Detected> {
    let files = ProjectFiles::of(project);
    let found: Vec<_> = candidates
        .iter()
        .filter_map(|framework| Some((framework, framework.definition().evidence(&files)?)))
        .collect();
    let is_certain = found.iter().any(|(_, evidence)| evidence.strength == Strength::Certain);
    found
        .into_iter()
        .filter(|(_, evidence)| !is_certain || evidence.strength == Strength::Certain)
        .map(|(framework, evidence)| Detected { framework: framework.clone(), evidence: evidence.file })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn detected(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = detect(directory.path(), &Framework::built_in());
        found.into_iter().map(|found| (found.framework.name().to_owned(), found.evidence)).collect()
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
            assert_eq!(detected(&[(name, text)]), [("pytest".to_owned(), name.to_owned())]);
        }
        assert_eq!(detected(&[("pyproject.toml", "[tool.black]\n"), ("setup.cfg", ""), ("a.py", "")]), []);
    }

    fn named(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, file)| ((*name).to_owned(), (*file).to_owned())).collect()
    }

    #[test]
    fn test_files_give_their_framework_away_and_both_may_be_there() {
        let both =
            detected(&[("tests/a_test.py", ""), ("spec/models/user_spec.rb", ""), ("test_notes.txt", "")]);
        assert_eq!(both, named(&[("pytest", "tests/a_test.py"), ("rspec", "spec/models/user_spec.rb")]));
    }

    #[test]
    fn stray_files_count_only_where_nothing_is_certain() {
        let stray = ("app/a_test.py", "");
        assert_eq!(detected(&[stray]), named(&[("pytest", "app/a_test.py")]));
        assert_eq!(detected(&[stray, (".rspec", "")]), named(&[("rspec", ".rspec")]));
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
