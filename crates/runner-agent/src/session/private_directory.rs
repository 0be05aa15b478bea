//! A directory only this run sees: worker programs, hooks that came over the wire, their environment files.
//!
//! It is made in the user's temporary directory, readable by nobody else, and removed with the run. Should the
//! session be killed before that, the next session of this user removes it: each directory holds a file its session
//! keeps locked.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tempfile::TempDir;

/// What the names of these directories begin with.
const PREFIX: &str = "distributest-agent-";

/// The locked file in each.
const LOCK: &str = "in-use";

/// A run's private directory; dropping it removes it.
#[derive(Debug)]
pub(crate) struct PrivateDirectory {
    directory: TempDir,
    _lock: File,
}

impl PrivateDirectory {
    /// Makes one in `parent` and removes those of dead sessions there.
    pub(crate) fn create_in(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        let owner_only = fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix(PREFIX).permissions(owner_only).tempdir_in(parent)?;
        // In its place only once it is locked, so that nobody takes a new directory for an abandoned one.
        let unfinished = directory.path().join("in-use.new");
        let lock = File::create(&unfinished)?;
        lock.lock()?;
        fs::rename(&unfinished, directory.path().join(LOCK))?;
        Ok(PrivateDirectory { directory, _lock: lock })
    }

    /// Writes a file only the user can read, and execute if `executable`.
    pub(crate) fn write(&self, name: &str, content: &[u8], executable: bool) -> io::Result<PathBuf> {
        let path = self.directory.path().join(name);
        let mode = if executable { 0o700 } else { 0o600 };
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&path)?;
        io::Write::write_all(&mut file, content)?;
        Ok(path)
    }
}

/// Removes what killed sessions of this user left. Whatever goes wrong, the next session tries again.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_abandoned(directory: &Path) -> bool {
    let own = fs::symlink_metadata(directory)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == geteuid().as_raw());
    own && File::open(directory.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_goes_with_its_run() {
        let parent = tempfile::tempdir().unwrap();
        let directory = PrivateDirectory::create_in(parent.path()).unwrap();
        let hook = directory.write("node_setup", b"#!/bin/sh\n", true).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&hook), mode(hook.parent().unwrap())), (0o700, 0o700));
        assert_eq!(mode(&directory.write("worker.py", b"", false).unwrap()), 0o600);
        drop(directory);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_dead_sessions_directory_is_removed_and_a_living_ones_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = PrivateDirectory::create_in(parent.path()).unwrap();
        let abandoned = parent.path().join(format!("{PREFIX}dead"));
        fs::create_dir(&abandoned).unwrap();
        fs::write(abandoned.join(LOCK), "").unwrap();
        let unfinished = parent.path().join(format!("{PREFIX}new"));
        fs::create_dir(&unfinished).unwrap();
        let _third = PrivateDirectory::create_in(parent.path()).unwrap();
        assert!(living.directory.path().exists() && unfinished.exists());
        assert!(!abandoned.exists());
    }
}
