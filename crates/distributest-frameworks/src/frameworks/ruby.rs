//! What the frameworks of Ruby have in common.
//!
//! Files in `test/` are Minitest's or test-unit's: nothing in their names says whose, the library that they or their
//! helper require does. The first of them that says so speaks for the project.

use std::path::{Path, PathBuf};

use crate::discover::path_pattern;
use crate::error::DiscoverError;
use crate::framework::Evidence;
use crate::launch::{Launch, LaunchOptions, WorkerLaunch};
use crate::project_files::ProjectFiles;
use crate::rules::Rules;

/// `PATH` first, where the shims of rbenv, asdf and mise are in people's shells; then where they are when a host's shell
/// is not one of those.
const PROGRAMS: [&str; 6] = [
    "ruby",
    "$RBENV_ROOT/shims/ruby",
    "$HOME/.rbenv/shims/ruby",
    "$ASDF_DATA_DIR/shims/ruby",
    "$HOME/.asdf/shims/ruby",
    "$HOME/.local/share/mise/shims/ruby",
];

/// Files that are no tests although they are named so.
const NO_TESTS: &str = "{test_helper,test-helper,run_test,run-test}.rb";

/// Looked into first.
const HELPERS: [&str; 5] = [
    "test/test_helper.rb",
    "test/helper.rb",
    "test/minitest_helper.rb",
    "test/test-helper.rb",
    "test/run-test.rb",
];

/// How many files are looked into.
const LONGEST_SEARCH: usize = 100;

/// What says that a file's tests are Minitest's.
const MINITEST: [&str; 5] =
    ["minitest", "Minitest::", "rails/test_help", "ActiveSupport::TestCase", "active_support/test"];

/// What says that they are test-unit's.
const TEST_UNIT: [&str; 3] = ["test/unit", "test-unit", "Test::Unit::"];

/// The text of a worker program: the four files for Ruby and the one for the framework.
macro_rules! worker_source {
    ($file:literal) => {
        concat!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/workers/ruby_worker.rb")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/workers/ruby_project.rb")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/workers/ruby_forking.rb")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/workers/ruby_keeping.rb")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/workers/", $file)),
        )
    };
}
pub(crate) use worker_source;

/// How files are run by a worker in Ruby.
pub(crate) fn worker(name: &'static str, source: &'static str, options: &LaunchOptions) -> Launch {
    Launch::Worker(WorkerLaunch::embedded(&PROGRAMS, name, source, options))
}

/// What tests are written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    Minitest,
    TestUnit,
}

/// What in a project says that its tests are written with this library.
pub(crate) fn evidence(project: &ProjectFiles<'_>, library: Library) -> Option<Evidence> {
    let is_in_test = |path: &str| path.starts_with("test/") && is_test(path);
    let files = |counts: &dyn Fn(&str) -> bool| -> Vec<String> {
        project.paths().iter().filter(|path| counts(path)).take(LONGEST_SEARCH).cloned().collect()
    };
    let says = |path: &String| Some((path.clone(), library_of(&project.text(path)?)?));
    let helpers = HELPERS.map(str::to_owned);
    let (conventional, stray) = (files(&is_in_test), files(&|path| is_test(path) && !is_in_test(path)));
    if let Some((file, found)) = helpers.iter().chain(&conventional).find_map(says) {
        return (found == library).then(|| Evidence::certain(file));
    }
    if let Some((file, found)) = stray.iter().find_map(says) {
        return (found == library).then(|| Evidence::likely(file));
    }
    let unsaid = conventional.into_iter().next();
    unsaid.filter(|_| library == Library::Minitest).map(Evidence::likely)
}

/// The file that says so, where the files in `spec/` are Minitest's.
pub(crate) fn specs_of_minitest(project: &ProjectFiles<'_>) -> Option<String> {
    let helper = project.existing(&["spec/spec_helper.rb", "spec/minitest_helper.rb"])?;
    let text = project.text(&helper)?;
    (!text.contains("rspec") && !text.contains("RSpec") && library_of(&text) == Some(Library::Minitest))
        .then_some(helper)
}

/// The rules for tests named by these globs, in `test/` or, where there is none, anywhere.
pub(crate) fn rules(project: &Path, only: &[PathBuf], names: &[&str]) -> Result<Rules, DiscoverError> {
    let mut directories: Vec<String> = only
        .iter()
        .filter_map(|path| path.to_str().map(|path| format!("{}/", globset::escape(path))))
        .collect();
    directories.push(if project.join("test").is_dir() { "test/".to_owned() } else { String::new() });
    let globs: Vec<String> =
        directories.iter().flat_map(|at| names.iter().map(move |name| format!("{at}**/{name}"))).collect();
    let mut rules = Rules::from_globs(project, &globs)?;
    rules.exclude.push(path_pattern(&format!("**/{NO_TESTS}"))?);
    Ok(rules)
}

/// Whether a file of Ruby's is given by name for RSpec.
pub(crate) fn may_be_spec(path: &Path) -> bool {
    is_ruby(path) && !path.to_str().is_some_and(is_test)
}

/// Whether a file of Ruby's is given by name for Minitest or test-unit.
pub(crate) fn may_be_test(path: &Path) -> bool {
    is_ruby(path) && !path.to_str().is_some_and(|path| path.ends_with("_spec.rb"))
}

fn is_ruby(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rb")
}

/// Whether a file is named as those that `rake test` runs.
fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".rb").is_some_and(|stem| {
        let beginning = stem.starts_with("test_") || stem.starts_with("test-");
        (beginning || stem.ends_with("_test") || stem.ends_with("-test")) && !stem.ends_with("helper")
    })
}

/// The library that a file speaks of first, comments aside.
fn library_of(text: &str) -> Option<Library> {
    let says = |line: &str, words: &[&str]| words.iter().any(|word| line.contains(word));
    text.lines().filter(|line| !line.trim_start().starts_with('#')).find_map(|line| {
        if says(line, &MINITEST) {
            Some(Library::Minitest)
        } else {
            says(line, &TEST_UNIT).then_some(Library::TestUnit)
        }
    })
}
