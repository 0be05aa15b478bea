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

    #[test]
    fn mix_and_rebar_projects_with_tests_give_exunit_and_eunit_away() {
        let exunit = ("test/a_test.exs", "defmodule ATest do\nend\n");
        let helper = ("test/test_helper.exs", "ExUnit.start()\n");
        assert_eq!(detected(&[("mix.exs", ""), exunit]), named(&[("exunit", "mix.exs")]));
        assert_eq!(
            detected(&[("mix.exs", ""), exunit, helper]),
            named(&[("exunit", "test/test_helper.exs")])
        );
        assert_eq!(detected(&[exunit]), named(&[("exunit", "test/a_test.exs")]));
        assert_eq!(detected(&[("mix.exs", ""), ("lib/a.ex", "")]), []);
        let elsewhere = ("mix.exs", "[test_paths: [\"spec\"], test_pattern: \"*_spec.exs\"]");
        assert_eq!(detected(&[elsewhere, ("spec/a_spec.exs", "")]), named(&[("exunit", "mix.exs")]));

        let inline = ("src/a.erl", "-ifdef(TEST).\na_test() -> ok.\n-endif.\n");
        assert_eq!(detected(&[("rebar.config", ""), inline]), named(&[("eunit", "rebar.config")]));
        assert_eq!(detected(&[("src/a.app.src", ""), inline]), named(&[("eunit", "src/a.app.src")]));
        assert_eq!(detected(&[inline]), named(&[("eunit", "src/a.erl")]));
        assert_eq!(detected(&[("rebar.config", ""), ("src/a.erl", "a() -> ok.\n")]), []);
    }

    #[test]
    fn unittest_is_used_where_nothing_speaks_of_pytest() {
        let case = "import unittest\n\nclass A(unittest.TestCase):\n    def test_a(self):\n        pass\n";
        let suite = [
            ("tests/__init__.py", ""),
            ("tests/test_a.py", case),
            ("tests/test_b.py", "from . import base\n"),
        ];
        let with = |other: (&'static str, &'static str)| detected(&[&suite[..], &[other]].concat());
        let unittest = named(&[("unittest", "tests/test_a.py")]);
        let pytest = named(&[("pytest", "tests/test_a.py")]);
        assert_eq!(detected(&suite), unittest);
        assert_eq!(with(("setup.py", "from setuptools import setup\n")), unittest);
        // Fixtures of other tools are no tests.
        assert_eq!(with(("tests/base.py", "def test_helper():\n    pass\n")), unittest);
        for speaks_of_pytest in [
            ("requirements-dev.txt", "pytest>=7\n"),
            ("requirements/test.in", "pytest\n"),
            ("pyproject.toml", "[dependency-groups]\ndev = [\"pytest\"]\n"),
            ("Pipfile", "pytest = \"*\"\n"),
            ("tests/test_c.py", "import pytest\n"),
            ("tests/test_c.py", "def test_c():\n    pass\n"),
            ("tests/test_c.py", "class TestC:\n    def test_c(self):\n        pass\n"),
            ("tests/unit/conftest.py", ""),
            // unittest's discovery would not find it.
            ("tests/unit/test_c.py", "import unittest\n"),
            ("tests/c_test.py", "import unittest\n"),
        ] {
            assert_eq!(
                with(speaks_of_pytest).first().map(|found| &found.0),
                Some(&"pytest".to_owned()),
                "{speaks_of_pytest:?}"
            );
        }
        assert_eq!(with(("setup.cfg", "[options.extras_require]\ntest = pytest\n")), pytest);
        assert_eq!(
            detected(&[("pkg/__init__.py", ""), ("pkg/test_a.py", case)]),
            named(&[("unittest", "pkg/test_a.py")])
        );
    }

    #[test]
    fn a_django_project_is_run_by_its_own_runner_unless_it_has_pytest_django() {
        let manage = ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'website.settings')\n");
        let tests = ("shop/tests.py", "from django.test import TestCase\n");
        assert_eq!(detected(&[manage, tests]), named(&[("django", "manage.py")]));
        assert_eq!(detected(&[("manage.py", "import flask\n"), tests]), []);
        let configured = detected(&[manage, tests, ("pytest.ini", "")]);
        assert_eq!(configured, named(&[("pytest", "pytest.ini")]));
        let listed = [manage, ("tests/test_a.py", ""), ("requirements/dev.txt", "pytest-django==4.8\n")];
        assert_eq!(detected(&listed), named(&[("pytest", "tests/test_a.py")]));
        let only_pytest = [manage, tests, ("requirements.txt", "pytest\n")];
        assert_eq!(detected(&only_pytest), named(&[("django", "manage.py")]));
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
    fn what_the_helper_or_the_tests_require_tells_the_libraries_of_ruby_apart() {
        let minitest = "# not test/unit\nrequire \"minitest/autorun\"\n";
        let test_unit = "require 'test/unit'\n";
        for (files, expected) in [
            (
                vec![("test/test_helper.rb", minitest), ("test/a_test.rb", test_unit)],
                ("minitest", "test/test_helper.rb"),
            ),
            (vec![("test/helper.rb", test_unit), ("test/test_a.rb", "")], ("test-unit", "test/helper.rb")),
            (
                vec![("test/run-test.rb", test_unit), ("test/test-a.rb", "")],
                ("test-unit", "test/run-test.rb"),
            ),
            (
                vec![("test/models/a_test.rb", "class ATest < ActiveSupport::TestCase")],
                ("minitest", "test/models/a_test.rb"),
            ),
            (vec![("test/a_test.rb", "class ATest < Test::Unit::TestCase")], ("test-unit", "test/a_test.rb")),
            (vec![("test/a_test.rb", "class ATest < OurTest")], ("minitest", "test/a_test.rb")),
            (
                vec![("spec/spec_helper.rb", minitest), ("spec/a_spec.rb", "")],
                ("minitest", "spec/spec_helper.rb"),
            ),
            (vec![("lib/a_test.rb", minitest)], ("minitest", "lib/a_test.rb")),
        ] {
            assert_eq!(detected(&files), named(&[expected]), "{files:?}");
        }
        let spec = ("spec/spec_helper.rb", "require 'rspec'\nrequire 'minitest'\n");
        assert_eq!(
            detected(&[spec, ("test/test_helper.rb", "require 'rails/test_help'")]),
            named(&[("rspec", "spec/spec_helper.rb"), ("minitest", "test/test_helper.rb")])
        );
        assert_eq!(detected(&[(".rspec", ""), ("lib/a_test.rb", minitest)]), named(&[("rspec", ".rspec")]));
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
