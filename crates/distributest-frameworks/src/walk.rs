//! Walks a project's files.
//!
//! In a git checkout, what `.gitignore` names is left out; `.git` always is. Links to directories are followed, as the
//! frameworks do; those that lead back to where they are in are not. A directory that can't be read is an error: tests could be in it.

use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};

use crate::error::DiscoverError;

/// Regular files at or below `start` (relative to the project), as project-relative paths; nothing where there is no
/// such path. `enters` decides on each directory below it.
pub(crate) fn files(
    project: &Path,
    start: &Path,
    enters: impl Fn(&Path) -> bool + Send + Sync + 'static,
) -> Result<Vec<PathBuf>, DiscoverError> {
    let root = project.join(start);
    if !root.exists() {
        return Ok(Vec::new());
    }
    let base = project.to_owned();
    let walk = WalkBuilder::new(&root)
        .standard_filters(false)
        .parents(true)
        .git_ignore(true)
        .git_exclude(true)
        .git_global(true)
        .follow_links(true)
        .filter_entry(move |entry| {
            if entry.depth() == 0 || !has_type(entry, FileType::is_dir) {
                return true;
            }
            entry.file_name() != ".git"
                && !leads_back(entry)
                && entry.path().strip_prefix(&base).is_ok_and(&enters)
        })
        .build();
    let mut files = Vec::new();
    for entry in walk {
        match entry {
            Ok(entry) if has_type(&entry, FileType::is_file) => {
                files.extend(entry.path().strip_prefix(project).map(Path::to_owned));
            }
            Ok(_) => {}
            Err(error) if is_harmless(&error) => {}
            Err(source) => return Err(DiscoverError::Walk { directory: root, source }),
        }
    }
    Ok(files)
}

/// Whether an entry, or what it is a link to, is of a type. The walk knows it already.
fn has_type(entry: &DirEntry, is: fn(&FileType) -> bool) -> bool {
    entry.file_type().is_some_and(|kind| is(&kind))
}

/// Whether an entry is a link to a directory that it is in itself.
fn leads_back(entry: &DirEntry) -> bool {
    let (Some(parent), true) = (entry.path().parent(), entry.path_is_symlink()) else { return false };
    match (parent.canonicalize(), entry.path().canonicalize()) {
        (Ok(parent), Ok(target)) => parent.starts_with(target),
        _ => false,
    }
}

/// Loops of links, links to nothing, and files that vanish meanwhile.
fn is_harmless(error: &ignore::Error) -> bool {
    match error {
        ignore::Error::Loop { .. } => true,
        ignore::Error::WithPath { err, .. }
        | ignore::Error::WithDepth { err, .. }
        | ignore::Error::WithLineNumber { err, .. } => is_harmless(err),
        ignore::Error::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
