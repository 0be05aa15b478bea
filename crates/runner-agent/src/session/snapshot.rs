//! What a directory tree looks like at a moment, so that a later look tells what has changed.
//!
//! A file is taken to be unchanged when its [`Stamp`] is: device, inode, kind, size, and the times of its last
//! modification and last change. The time of the last change can't be set back, so neither `touch -d` nor a tool that
//! restores times hides anything. Of directories only the names in them count.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// More entries than any look takes.
const ENTRY_LIMIT: usize = 50_000;

/// Directories that are not looked into: version control's own, and caches of compiled code that is checked against its
/// source each time. What of `node_modules` is loaded is told by who loads it.
const SKIPPED: [&str; 5] = [".git", ".hg", ".svn", "__pycache__", "node_modules"];

/// What tells a file from what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    /// Seconds and nanoseconds since 1970.
    pub(crate) changed: (i64, i64),
}

impl Stamp {
    /// That of the file a path leads to; `None` where it leads to none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Stamp::of_metadata(&metadata))
    }

    fn of_metadata(metadata: &Metadata) -> Self {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
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
        let metadata = fs::metadata(root)?;
        let mut entries = HashMap::new();
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(root.join(&directory))? {
                let entry = entry?;
                let name = entry.file_name();
                if name.to_str().is_some_and(|name| SKIPPED.contains(&name)) {
                    continue;
                }
                let path = directory.join(name);
                let stamp = if entry.file_type()?.is_dir() {
                    directories.push(path.clone());
                    None
                } else {
                    Some(Stamp::of_metadata(&entry.metadata()?))
                };
                entries.insert(path, stamp);
            }
            if entries.len() > ENTRY_LIMIT {
                return Err(io::Error::other(format!("there are more than {ENTRY_LIMIT} files")));
            }
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
        let changed = || Stamp::of(&file).unwrap().changed;
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
    fn caches_of_compiled_code_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("pkg/__pycache__");
        fs::create_dir_all(&cache).unwrap();
        let nothing: [&str; 0] = [];
        assert_eq!(differences(directory.path(), || fs::write(cache.join("a.pyc"), "").unwrap()), nothing);
    }
}
