//! What the workers of a run share on a host: a directory that is theirs alone and goes with the last of them.
//!
//! Each worker holds a shared lock on a file in it. Who gets that lock alone is the last one and removes the directory;
//! what workers that were killed left behind, the next worker of this user removes.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::geteuid;

use crate::link::{Link, Stop};

/// What the names of these directories begin with.
const PREFIX: &str = "distributest-worker-";

/// The locked file in each.
const LOCK: &str = "in-use";

/// Directories that were moved aside to be removed: each under a name of its own.
static REMOVED: AtomicU64 = AtomicU64::new(0);

/// How often a lock that another worker holds is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// A run's shared directory.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    in_use: File,
}

impl RunDirectory {
    /// The one of this run and this current directory, in the directory for temporary files.
    pub(crate) fn open() -> io::Result<RunDirectory> {
        let run =
            std::env::var_os("DISTRIBUTEST_RUN").unwrap_or_else(|| std::process::id().to_string().into());
        let key = hash_of(&(run, std::env::current_dir()?));
        RunDirectory::open_in(&std::env::temp_dir(), &key)
    }

    fn open_in(parent: &Path, key: &str) -> io::Result<RunDirectory> {
        remove_abandoned(parent);
        let path = parent.join(format!("{PREFIX}{}-{key}", geteuid().as_raw()));
        loop {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if !is_own(&path) {
                let problem = format!("{} belongs to somebody else", path.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
            }
            // The last worker of before may just be removing it.
            let in_use = match File::options().create(true).append(true).open(path.join(LOCK)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            in_use.lock_shared()?;
            if fs::metadata(path.join(LOCK))
                .is_ok_and(|file| file.ino() == in_use.metadata().map_or(0, |own| own.ino()))
            {
                return Ok(RunDirectory { path, in_use });
            }
        }
    }

    /// The path of something in it; `name` may be any text.
    pub(crate) fn file(&self, kind: &str, name: impl Hash) -> PathBuf {
        self.path.join(format!("{kind}-{}", hash_of(&name)))
    }

    /// Waits until no other worker does what goes by this file, and keeps others from it until the lock is dropped.
    pub(crate) fn lock(&self, file: &Path, link: &mut Link) -> Result<File, Stop> {
        let lock = File::create(file.with_extension("lock")).map_err(Stop::Wait)?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(fs::TryLockError::Error(error)) => return Err(Stop::Wait(error)),
                Err(fs::TryLockError::WouldBlock) => link.listen_for(LOCK_INTERVAL)?,
            }
        }
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let _ = self.in_use.unlock();
        if self.in_use.try_lock().is_ok() {
            remove(&self.path);
        }
    }
}

/// Removes a directory whose lock is held alone. Under its name a worker that starts now makes a new one, and does not find
/// this one half removed.
fn remove(path: &Path) {
    let unique = format!(".removed-{}-{}", std::process::id(), REMOVED.fetch_add(1, Ordering::Relaxed));
    let mut aside = path.as_os_str().to_owned();
    aside.push(unique);
    // Nobody would hear of a failure; the next worker tries again.
    if fs::rename(path, &aside).is_ok() {
        let _ = fs::remove_dir_all(&aside);
    }
}

fn hash_of(value: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn is_own(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw())
}

/// Removes what killed workers of this user left. Whatever goes wrong, the next worker tries again.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX) && is_own(&path);
        if let (true, Ok(lock)) = (is_one, File::open(path.join(LOCK)))
            && lock.try_lock().is_ok()
        {
            remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_a_run_share_one_and_the_last_removes_it() {
        let parent = tempfile::tempdir().unwrap();
        let open = |key| RunDirectory::open_in(parent.path(), key).unwrap();
        let (first, second, other) = (open("a"), open("a"), open("b"));
        assert_eq!(first.path, second.path);
        assert_ne!(first.path, other.path);
        let file = first.file("kept", "x");
        fs::write(&file, "").unwrap();
        drop(first);
        assert!(file.exists());
        drop(second);
        assert!(!file.exists());
        drop(other);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_killed_workers_left_is_removed_by_the_next_one() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join(format!("{PREFIX}{}-left", geteuid().as_raw()));
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let _used = RunDirectory::open_in(parent.path(), "used").unwrap();
        assert!(!left.exists());
    }
}
