//! What a directory tree looks like at a moment, so that a later look tells what has changed.
//!
//! A file is taken to be unchanged when its [`Stamp`] is. Of directories only the names in them count.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use distributest_tree::record::Stamp;
use distributest_tree::walk::{Place, Visitor, walk};

/// More entries than any look takes.
const ENTRY_LIMIT: usize = 50_000;

/// Directories that are not looked into: version control's own, and caches of compiled code that is checked against its
/// source each time. What of `node_modules` is loaded is told by who loads it.
const SKIPPED: [&str; 5] = [".git", ".hg", ".svn", "__pycache__", "node_modules"];

/// The stamp of the file a path leads to; `None` where it leads to none.
pub(crate) fn stamp_at(path: &Path) -> Option<Stamp> {
    rustix::fs::stat(path).ok().map(|stat| Stamp::of(&stat))
}

/// Everything below a directory, by path relative to it; a directory has no stamp.
#[derive(Debug)]
pub(crate) struct Snapshot {
    root: (u64, u64),
    entries: HashMap<PathBuf, Option<Stamp>>,
}

impl Snapshot {
    /// Looks at everything below `root`, which takes a few milliseconds for a thousand files.
    ///
    /// # Errors
    ///
    /// When a directory can't be read, or there is more than can be looked at.
    pub(crate) fn take(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let metadata = fs::metadata(&root)?;
        let looks = walk(&root, Look::default)?;
        let entries: HashMap<_, _> = looks.into_iter().flat_map(|look| look.entries).collect();
        if entries.len() > ENTRY_LIMIT {
            return Err(too_many());
        }
        Ok(Snapshot { root: (metadata.dev(), metadata.ino()), entries })
    }

    /// Paths that are not in both, or not the same. The directory itself, as an empty path, when it is another one.
    pub(crate) fn differences<'a>(&'a self, later: &'a Snapshot) -> impl Iterator<Item = Difference<'a>> {
        let gone = self.entries.keys().filter(|path| !later.entries.contains_key(*path));
        let gone = gone.map(|path| Difference { path, is_of_names: true });
        let other = later.entries.iter().filter(|(path, stamp)| self.entries.get(*path) != Some(stamp));
        let other = other.map(|(path, _)| Difference { path, is_of_names: !self.entries.contains_key(path) });
        let moved =
            (self.root != later.root).then_some(Difference { path: Path::new(""), is_of_names: true });
        moved.into_iter().chain(gone).chain(other)
    }

    /// The stamp of a file; `None` for one that was not there.
    pub(crate) fn stamp_of(&self, path: &Path) -> Option<Stamp> {
        self.entries.get(path).copied().flatten()
    }
}

fn too_many() -> io::Error {
    io::Error::other(format!("there are more than {ENTRY_LIMIT} files"))
}

/// What one thread has seen.
#[derive(Default)]
struct Look {
    entries: Vec<(PathBuf, Option<Stamp>)>,
}

impl Visitor for Look {
    fn visit(&mut self, place: &Place<'_>) -> io::Result<bool> {
        if SKIPPED.iter().any(|name| name.as_bytes() == place.name.to_bytes()) {
            return Ok(false);
        }
        if self.entries.len() > ENTRY_LIMIT {
            return Err(too_many());
        }
        let stamp = if place.is_directory { None } else { Some(Stamp::of(&place.stat()?)) };
        self.entries.push((OsStr::from_bytes(place.path).into(), stamp));
        Ok(place.is_directory)
    }
}

/// What two snapshots don't have in common.
#[derive(Debug)]
pub(crate) struct Difference<'a> {
    /// Relative to the directory.
    pub(crate) path: &'a Path,
    /// It is in one of them only.
    pub(crate) is_of_names: bool,
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use super::*;

    fn differences(root: &Path, change: impl FnOnce()) -> Vec<String> {
        let before = Snapshot::take(root).unwrap();
        change();
        let after = Snapshot::take(root).unwrap();
        let describe = |difference: Difference<'_>| {
            let sign = if difference.is_of_names { "" } else { "~" };
            format!("{sign}{}", difference.path.display())
        };
        let mut paths: Vec<_> = before.differences(&after).map(describe).collect();
        paths.sort();
        paths
    }

    #[test]
    fn whatever_happens_to_a_file_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("lib/deep")).unwrap();
        fs::write(root.join("lib/a.rb"), "1").unwrap();
        fs::write(root.join("lib/deep/b.rb"), "1").unwrap();
        let nothing: [&str; 0] = [];
        assert_eq!(differences(root, || {}), nothing);
        assert_eq!(differences(root, || fs::write(root.join("lib/a.rb"), "22").unwrap()), ["~lib/a.rb"]);
        assert_eq!(differences(root, || fs::write(root.join("lib/new.rb"), "").unwrap()), ["lib/new.rb"]);
        assert_eq!(differences(root, || fs::create_dir(root.join("empty")).unwrap()), ["empty"]);
        let replaced = differences(root, || {
            fs::write(root.join("other"), "1").unwrap();
            fs::rename(root.join("other"), root.join("lib/a.rb")).unwrap();
        });
        assert_eq!(replaced, ["~lib/a.rb"]);
        let removed = differences(root, || fs::remove_dir_all(root.join("lib/deep")).unwrap());
        assert_eq!(removed, ["lib/deep", "lib/deep/b.rb"]);
    }

    #[test]
    fn the_same_size_and_an_old_time_of_modification_hide_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("settings.yml");
        fs::write(&file, "a: 1").unwrap();
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        let changed = || stamp_at(&file).unwrap().changed;
        let before = changed();
        let seen = differences(directory.path(), || {
            // The clock of the file system ticks every few milliseconds.
            while changed() == before {
                fs::write(&file, "a: 2").unwrap();
                let times = FileTimes::new().set_modified(modified);
                File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
            }
        });
        assert_eq!(seen, ["~settings.yml"]);
    }

    #[test]
    fn another_directory_of_the_same_name_is_another() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("project");
        fs::create_dir(&root).unwrap();
        let seen = differences(&root, || {
            fs::rename(&root, parent.path().join("old")).unwrap();
            fs::create_dir(&root).unwrap();
        });
        assert_eq!(seen, [""]);
    }

    #[test]
    fn a_link_that_leads_to_it_is_the_directory_itself() {
        let parent = tempfile::tempdir().unwrap();
        let (root, link) = (parent.path().join("project"), parent.path().join("link"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a.rb"), "1").unwrap();
        std::os::unix::fs::symlink(&root, &link).unwrap();
        let (direct, linked) = (Snapshot::take(&root).unwrap(), Snapshot::take(&link).unwrap());
        assert_eq!(direct.differences(&linked).count(), 0);
        assert!(linked.stamp_of(Path::new("a.rb")).is_some());
    }

    #[test]
    fn caches_of_compiled_code_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("pkg/__pycache__");
        fs::create_dir_all(&cache).unwrap();
        let nothing: [&str; 0] = [];
        assert_eq!(differences(directory.path(), || fs::write(cache.join("a.pyc"), "").unwrap()), nothing);
    }
}
