//! The files a command wrote its results to.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// A glob over paths, and where what it matches can be.
#[derive(Debug)]
pub(super) struct ResultsGlob {
    matcher: GlobMatcher,
    /// The directory all that matches is in.
    start: PathBuf,
}

/// What tells one writing of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        Stamp {
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// The files that matched at one time.
#[derive(Debug, Default)]
pub(super) struct Snapshot(HashMap<PathBuf, Stamp>);

impl ResultsGlob {
    /// Reads a glob over paths relative to the current directory, or absolute ones. `*` does not match `/`, `**` does.
    pub(super) fn new(glob: &str) -> Result<ResultsGlob, globset::Error> {
        let glob = glob.strip_prefix("./").unwrap_or(glob);
        let matcher =
            GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build()?.compile_matcher();
        let is_plain = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
        let parts: Vec<&str> = glob.split('/').collect();
        let plain =
            parts[..parts.len() - 1].iter().copied().take_while(is_plain).collect::<Vec<_>>().join("/");
        let start = if plain.is_empty() && glob.starts_with('/') { "/".to_owned() } else { plain };
        Ok(ResultsGlob { matcher, start: start.into() })
    }

    /// What matches now.
    pub(super) fn look(&self) -> io::Result<Snapshot> {
        let mut found = HashMap::new();
        let mut pending = vec![self.start.clone()];
        while let Some(directory) = pending.pop() {
            let here = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
            let entries = match fs::read_dir(here) {
                // It is not there yet, or not any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let path = directory.join(entry.file_name());
                // Links to directories are not followed: they may lead in a circle.
                if entry.file_type()?.is_dir() {
                    pending.push(path);
                } else if self.matcher.is_match(&path)
                    && let Ok(file) = fs::metadata(&path)
                    && file.is_file()
                {
                    found.insert(path, Stamp::of(&file));
                }
            }
        }
        Ok(Snapshot(found))
    }
}

impl Snapshot {
    /// The files here that were not there before, or not as they are now; by path.
    pub(super) fn since(self, before: &Snapshot) -> Vec<PathBuf> {
        let is_new = |(path, stamp): &(PathBuf, Stamp)| before.0.get(path) != Some(stamp);
        let mut paths: Vec<PathBuf> = self.0.into_iter().filter(is_new).map(|(path, _)| path).collect();
        paths.sort();
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_or_changed_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("a b/deep")).unwrap();
        for name in ["a b/old.xml", "a b/changes.xml", "a b/deep/deep.xml"] {
            fs::write(path(name), "old").unwrap();
        }
        let all = ResultsGlob::new(&format!("{}/**/*.xml", directory.path().display())).unwrap();
        let flat = ResultsGlob::new(&format!("{}/a*/*.xml", directory.path().display())).unwrap();
        let before = [all.look().unwrap(), flat.look().unwrap()];
        assert_eq!(before.each_ref().map(|found| found.0.len()), [3, 2]);
        // Another size, so that it does not depend on how fine the clock of the file system is.
        fs::write(path("a b/changes.xml"), "changed").unwrap();
        fs::write(path("a b/new.xml"), "new").unwrap();
        fs::write(path("a b/deep/new.xml"), "new").unwrap();
        fs::write(path("a b/new.txt"), "new").unwrap();
        let names = |glob: &ResultsGlob, before: &Snapshot| -> Vec<String> {
            let paths = glob.look().unwrap().since(before);
            paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&flat, &before[1]), ["changes.xml", "new.xml"]);
        assert_eq!(names(&all, &before[0]).len(), 3);
    }

    #[test]
    fn a_directory_that_is_not_there_holds_nothing() {
        assert_eq!(ResultsGlob::new("no/such/place/*.xml").unwrap().look().unwrap().0.len(), 0);
        assert!(ResultsGlob::new("a/{b").is_err());
    }
}
