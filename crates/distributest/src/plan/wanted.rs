//! What was asked for on the command line: paths, parts of paths, and single tests.

use super::Found;
use crate::config::Config;
use crate::error::{Problem, UserError};
use crate::project::Project;

/// The arguments, sorted by what they are.
pub(super) struct Wanted {
    /// Files and directories that exist.
    paths: Vec<String>,
    /// Single tests of files that exist.
    tests: Vec<WantedTest>,
    /// Parts of paths: everything else.
    pub(super) filters: Vec<String>,
}

/// A test as it stands on a command line: `tests/test_a.py::test_one`, `spec/a_spec.rb:12`, `spec/a_spec.rb[1:2]`.
struct WantedTest {
    file: String,
    /// From `::`, `:` or `[` on.
    suffix: String,
}

impl Wanted {
    /// Looks in the project for what the arguments name.
    pub(super) fn of(project: &Project, arguments: &[String]) -> Wanted {
        let mut wanted = Wanted { paths: Vec::new(), tests: Vec::new(), filters: Vec::new() };
        for argument in arguments {
            if project.directory.join(argument).symlink_metadata().is_ok() {
                wanted.paths.push(argument.clone());
            } else if let Some(test) = WantedTest::of(project, argument) {
                wanted.tests.push(test);
            } else {
                wanted.filters.push(argument.clone());
            }
        }
        wanted
    }

    /// Every path that discovery is to look at, those of single tests among them; empty: everywhere.
    pub(super) fn places(&self) -> Vec<String> {
        self.paths.iter().cloned().chain(self.tests.iter().map(|test| test.file.clone())).collect()
    }

    /// Whether a path has a filter in it.
    pub(super) fn by_filter(&self, path: &str) -> bool {
        self.filters.iter().any(|filter| path.contains(filter.as_str()))
    }

    /// What was given behind a file's path, where single tests of it are all that is wanted of it.
    pub(super) fn suffixes_of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let whole = self.by_filter(path) || self.paths.iter().any(|wanted| is_below(path, wanted));
        let of_file = self.tests.iter().filter(move |test| !whole && plain(&test.file) == path);
        of_file.map(|test| test.suffix.as_str())
    }

    /// Refuses globs, paths and filters that lead to no file: a typing error must not make a run look green.
    ///
    /// # Errors
    ///
    /// Names every one of them.
    pub(super) fn check_matches(&self, config: &Config, found: &Found) -> Result<(), UserError> {
        let mut problems = Vec::new();
        let list = "`distributest --dry-run` lists the test files";
        let tables = config.framework.values().flat_map(|table| &table.files);
        for glob in config.files.iter().chain(tables).filter(|glob| found.unmatched_globs.contains(*glob)) {
            problems.push(Problem::new(format!("the glob {glob:?} of `files` matches no file")).with_hint(
                "globs are relative to the project; `distributest config` shows where this one was set",
            ));
        }
        for path in self.places().iter().filter(|path| found.unmatched_places.contains(*path)) {
            problems.push(Problem::new(format!("there is no test file in {path:?}")).with_hint(list));
        }
        for filter in &self.filters {
            if !found.names().any(|name| name.contains(filter.as_str())) {
                let message =
                    format!("{filter:?} is neither a file, a directory nor part of a test file's path");
                problems.push(Problem::new(message).with_hint(list));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(UserError::usage_problems(problems)) }
    }
}

impl WantedTest {
    /// The longest beginning of an argument that is a file, where what follows can name a test.
    fn of(project: &Project, argument: &str) -> Option<WantedTest> {
        let places = argument.char_indices().rev().filter(|(_, letter)| matches!(letter, ':' | '['));
        let mut split = places.map(|(offset, _)| argument.split_at(offset));
        // A package of Go's is a directory; the examples in a library's documentation are named after its root file.
        let is_unit = |file: &str, suffix: &str| {
            let path = project.directory.join(file.strip_suffix(" (doc tests)").unwrap_or(file));
            path.is_file() || (suffix.starts_with("::") && path.is_dir())
        };
        let (file, suffix) = split.find(|(file, suffix)| names_a_test(suffix) && is_unit(file, suffix))?;
        Some(WantedTest { file: file.to_owned(), suffix: suffix.to_owned() })
    }
}

fn names_a_test(suffix: &str) -> bool {
    let line = suffix.strip_prefix(':').is_some_and(|line| line.parse::<u32>().is_ok());
    let id = suffix.strip_prefix("::").is_some_and(|id| !id.is_empty());
    line || id || (suffix.starts_with('[') && suffix.ends_with(']'))
}

/// A path as discovery writes it.
fn plain(path: &str) -> &str {
    path.strip_prefix("./").unwrap_or(path)
}

fn is_below(path: &str, directory: &str) -> bool {
    let directory = plain(directory).trim_end_matches('/');
    matches!(directory, "" | ".") || std::path::Path::new(path).starts_with(directory)
}
