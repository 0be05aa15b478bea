//! Finds a project's test files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::error::DiscoverError;
use crate::framework::Framework;
use crate::glob::Pattern;
use crate::rules::Rules;
use crate::walk;

/// How much of a file is looked through for shared examples.
const LONGEST_LOOK: u64 = 256 * 1024;

/// Which files are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Whose files.
    pub framework: Framework,
    /// Globs over project-relative paths that replace the framework's own idea of its test files; empty: its own.
    pub files: Vec<String>,
    /// Globs of files and directories to leave out.
    pub exclude: Vec<String>,
    /// Files and directories given on the command line, relative to the project or absolute; empty: everything.
    pub only: Vec<String>,
}

impl Selection {
    /// Everything that is a test file to the framework.
    pub fn of(framework: Framework) -> Selection {
        Selection { framework, files: Vec::new(), exclude: Vec::new(), only: Vec::new() }
    }
}

/// A test file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredFile {
    /// Relative to the project, with `/`.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// How many times it says that tests are to be multiplied: shared examples, parametrized tests.
    pub shared_examples: u32,
    /// Nothing but its name on the command line makes it one: it matches none of the framework's patterns.
    pub by_name_only: bool,
}

/// The files of a framework in a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Ordered by path.
    pub files: Vec<DiscoveredFile>,
    /// Test files whose names are not UTF-8, which no report can carry; lossy, ordered.
    pub unusable: Vec<String>,
    /// What of [`Selection::files`] and [`Selection::only`] led to no file, as it was given.
    pub unmatched: Vec<String>,
}

/// Finds the test files of a project.
///
/// # Errors
///
/// When a glob is invalid, a path leads out of the project, the framework's configuration can't be read, or a
/// directory can't be looked through. A glob or path that leads nowhere is no error: see [`Discovered::unmatched`].
pub fn discover(project: &Path, selection: &Selection) -> Result<Discovered, DiscoverError> {
    let only = selection.only.iter().map(|path| inside(project, path)).collect::<Result<Vec<_>, _>>()?;
    selection.framework.definition().discover(project, selection, &only)
}

/// Finds the files that follow the rules. `only` are the selection's paths, relative to the project.
pub(crate) fn by_rules(
    project: &Path,
    rules: &Rules,
    selection: &Selection,
    only: &[PathBuf],
    multipliers: &[&str],
) -> Result<Discovered, DiscoverError> {
    let mut paths = BTreeSet::new();
    for start in &rules.starts {
        let enters = rules.entrance();
        paths.extend(walk::files(project, start, enters)?.into_iter().filter(|path| rules.include(path)));
    }
    let mut discovered =
        Discovered { unmatched: unmatched(selection, only, &paths)?, ..Discovered::default() };
    for path in paths {
        match path.to_str() {
            Some(name) => {
                let file = describe(project, name, multipliers);
                discovered.files.push(DiscoveredFile { by_name_only: !rules.matches(&path), ..file });
            }
            None => discovered.unusable.push(path.to_string_lossy().into_owned()),
        }
    }
    Ok(discovered)
}

/// A path given on the command line, relative to the project and without `.`; the project itself is empty.
fn inside(project: &Path, given: &str) -> Result<PathBuf, DiscoverError> {
    let outside = || DiscoverError::OutsideProject { path: given.to_owned(), project: project.to_owned() };
    let relative = if Path::new(given).is_absolute() {
        Path::new(given).strip_prefix(project).map_err(|_| outside())?
    } else {
        Path::new(given)
    };
    let mut clean = PathBuf::new();
    for component in relative.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir if clean.pop() => {}
            Component::CurDir => {}
            _ => return Err(outside()),
        }
    }
    Ok(clean)
}

pub(crate) fn unmatched(
    selection: &Selection,
    only: &[PathBuf],
    paths: &BTreeSet<PathBuf>,
) -> Result<Vec<String>, DiscoverError> {
    let mut unmatched = Vec::new();
    for glob in &selection.files {
        let pattern = path_pattern(glob)?;
        // A glob whose files were not asked for this time has not failed.
        if only.is_empty() && !paths.iter().any(|path| pattern.matches(path)) {
            unmatched.push(glob.clone());
        }
    }
    for (given, path) in selection.only.iter().zip(only) {
        if !paths.iter().any(|found| found.starts_with(path)) {
            unmatched.push(given.clone());
        }
    }
    Ok(unmatched)
}

/// A glob of the project's, or the error that names it.
pub(crate) fn path_pattern(glob: &str) -> Result<Pattern, DiscoverError> {
    Pattern::over_paths(glob)
        .map_err(|source| DiscoverError::InvalidGlob { glob: glob.to_owned(), source: Box::new(source) })
}

fn describe(project: &Path, name: &str, multipliers: &[&str]) -> DiscoveredFile {
    let path = project.join(name);
    // A file that can't be read is left to the worker, whose report says so.
    let size_bytes = path.metadata().map_or(0, |metadata| metadata.len());
    let mut text = Vec::new();
    if !multipliers.is_empty()
        && let Ok(file) = File::open(&path)
    {
        // What was read before an error counts.
        let _ = file.take(LONGEST_LOOK).read_to_end(&mut text);
    }
    let count = |word: &&str| text.windows(word.len()).filter(|window| *window == word.as_bytes()).count();
    let shared_examples = multipliers
        .iter()
        .map(|word| u32::try_from(count(word)).unwrap_or(u32::MAX))
        .fold(0, u32::saturating_add);
    DiscoveredFile { path: name.to_owned(), size_bytes, shared_examples, by_name_only: false }
}
