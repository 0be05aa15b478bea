//! Reads the part of a project's pytest configuration that says which files are tests.
//!
//! As in pytest, the first file that configures it is the only one that counts, in the order of [`CANDIDATES`]. An ini
//! file named after pytest counts even when it is empty; the others need pytest's section.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::error::DiscoverError;
use crate::words;

/// The files pytest looks into, in its order, each with its sections and whether it counts without one.
const CANDIDATES: [(&str, &[&str], bool); 7] = [
    ("pytest.toml", &["pytest"], true),
    (".pytest.toml", &["pytest"], true),
    ("pytest.ini", &["pytest"], true),
    (".pytest.ini", &["pytest"], true),
    ("pyproject.toml", &["tool.pytest", "tool.pytest.ini_options"], false),
    ("tox.ini", &["pytest"], false),
    ("setup.cfg", &["tool:pytest"], false),
];

/// What pytest's configuration says about finding files; pytest's defaults where it says nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PytestSettings {
    /// The file that configures pytest.
    pub(crate) source: Option<&'static str>,
    /// Where to look, as globs; empty: everywhere.
    pub(crate) testpaths: Vec<String>,
    /// Patterns of names that are tests, doctest files among them.
    pub(crate) patterns: Vec<String>,
    /// Patterns of directories not to enter.
    pub(crate) norecursedirs: Vec<String>,
    /// Paths to leave out.
    pub(crate) ignore: Vec<String>,
}

impl PytestSettings {
    /// Reads the configuration of the project in this directory.
    pub(crate) fn read(project: &Path) -> Result<PytestSettings, DiscoverError> {
        let (source, mut values) = match find(project)? {
            Some((source, values)) => (Some(source), values),
            None => (None, HashMap::new()),
        };
        let mut list = |key: &str, default: &[&str]| {
            values.remove(key).unwrap_or_else(|| default.iter().map(ToString::to_string).collect())
        };
        let testpaths = list("testpaths", &[]);
        let mut patterns = list("python_files", &["test_*.py", "*_test.py"]);
        let norecursedirs = list(
            "norecursedirs",
            &["*.egg", ".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}"],
        );
        let options = list("addopts", &[]);
        let mut doctest_globs = option_values(&options, "--doctest-glob");
        if doctest_globs.is_empty() {
            doctest_globs.push("test*.txt".to_owned());
        }
        patterns.append(&mut doctest_globs);
        if options.iter().any(|option| option == "--doctest-modules") {
            patterns.push("*.py".to_owned());
        }
        let ignore = option_values(&options, "--ignore");
        Ok(PytestSettings { source, testpaths, patterns, norecursedirs, ignore })
    }
}

/// Every value given to an option, as `--option value` or `--option=value`.
fn option_values(options: &[String], name: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if option == name {
            values.extend(options.next().cloned());
        } else if let Some(value) = option.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            values.push(value.to_owned());
        }
    }
    values
}

type Values = HashMap<String, Vec<String>>;

fn find(project: &Path) -> Result<Option<(&'static str, Values)>, DiscoverError> {
    for (name, sections, counts_without) in CANDIDATES {
        let path = project.join(name);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(DiscoverError::ReadSettings { path, source }),
        };
        let values = if name.ends_with(".toml") {
            toml_values(&text, sections)
                .map_err(|source| DiscoverError::ParseSettings { path, source: Box::new(source) })?
        } else {
            ini_values(&text, sections)
        };
        match values {
            Some(values) => return Ok(Some((name, values))),
            None if counts_without => return Ok(Some((name, Values::new()))),
            None => {}
        }
    }
    Ok(None)
}

fn toml_values(text: &str, sections: &[&str]) -> Result<Option<Values>, toml::de::Error> {
    let document: toml::Table = text.parse()?;
    let section = |name: &str| name.split('.').try_fold(&document, |table, key| table.get(key)?.as_table());
    // The innermost section wins: `[tool.pytest]` exists whenever `[tool.pytest.ini_options]` does.
    let Some(table) = sections.iter().rev().find_map(|name| section(name)) else { return Ok(None) };
    let values = table.iter().filter_map(|(key, value)| {
        let words = match value {
            toml::Value::Array(items) => {
                items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect()
            }
            toml::Value::String(text) => words::split(text),
            _ => return None,
        };
        Some((key.clone(), words))
    });
    Ok(Some(values.collect()))
}

/// The values of the first of these sections that an ini file has, read as Python's `iniconfig` reads it: a line that
/// begins with white space goes on with the value above it.
fn ini_values(text: &str, sections: &[&str]) -> Option<Values> {
    let mut values: Option<HashMap<String, String>> = None;
    let mut inside = false;
    let mut last_key: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split(']').next().unwrap_or_default();
            inside = sections.contains(&name);
            last_key = None;
            if inside {
                values.get_or_insert_default();
            }
        } else if let (true, Some(values)) = (inside, values.as_mut()) {
            if line.starts_with(char::is_whitespace) {
                if let Some(value) = last_key.as_ref().and_then(|key| values.get_mut(key)) {
                    value.push('\n');
                    value.push_str(trimmed);
                }
            } else if let Some((key, value)) = trimmed.split_once(['=', ':']) {
                values.insert(key.trim().to_owned(), value.trim().to_owned());
                last_key = Some(key.trim().to_owned());
            }
        }
    }
    Some(values?.into_iter().map(|(key, value)| (key, words::split(&value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    #[test]
    fn without_configuration_pytests_defaults_hold() {
        let directory = project(&[("setup.cfg", "[metadata]\nname = x\n"), ("tox.ini", "[tox]\n")]);
        let settings = PytestSettings::read(directory.path()).unwrap();
        assert_eq!(settings.source, None);
        assert_eq!(settings.patterns, ["test_*.py", "*_test.py", "test*.txt"]);
        assert!(settings.norecursedirs.contains(&"{arch}".to_owned()));
    }

    #[test]
    fn the_first_file_wins_even_when_it_is_empty() {
        let directory = project(&[
            ("pytest.ini", ""),
            ("pyproject.toml", "[tool.pytest.ini_options]\ntestpaths = [\"tests\"]\n"),
        ]);
        let settings = PytestSettings::read(directory.path()).unwrap();
        assert_eq!(settings.source, Some("pytest.ini"));
        assert!(settings.testpaths.is_empty());
    }

    #[test]
    fn pyproject_takes_lists_and_strings() {
        let directory = project(&[(
            "pyproject.toml",
            "[tool.pytest.ini_options]\ntestpaths = [\"tests\", \"my tests\"]\npython_files = \"check_*.py 'a b.py'\"\n\
             addopts = \"-ra --doctest-modules --ignore=tests/slow --ignore 'tests/big one'\"\n",
        )]);
        let settings = PytestSettings::read(directory.path()).unwrap();
        assert_eq!(settings.source, Some("pyproject.toml"));
        assert_eq!(settings.testpaths, ["tests", "my tests"]);
        assert_eq!(settings.patterns, ["check_*.py", "a b.py", "test*.txt", "*.py"]);
        assert_eq!(settings.ignore, ["tests/slow", "tests/big one"]);
    }

    #[test]
    fn ini_values_span_lines() {
        let directory = project(&[(
            "setup.cfg",
            "[metadata]\ntestpaths = wrong\n\n[tool:pytest]\n# where\ntestpaths =\n    unit\n    # not this\n    api\n\
             python_files: check_*.py\n[other]\npython_files = wrong\n",
        )]);
        let settings = PytestSettings::read(directory.path()).unwrap();
        assert_eq!(settings.source, Some("setup.cfg"));
        assert_eq!(settings.testpaths, ["unit", "api"]);
        assert_eq!(settings.patterns[0], "check_*.py");
    }

    #[test]
    fn broken_toml_names_the_file() {
        let directory = project(&[("pyproject.toml", "[tool.pytest\n")]);
        let error = PytestSettings::read(directory.path()).unwrap_err();
        assert!(error.to_string().ends_with("pyproject.toml"), "{error}");
    }
}
