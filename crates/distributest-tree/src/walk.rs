//! Walks directories with several threads: a tree's many small questions to the disk can be asked at the same time.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};

use crate::tree::below;

/// More threads than this only wait for each other.
const MOST_THREADS: usize = 4;

/// What somebody wants to know of a tree. Each thread has one of its own.
pub trait Visitor: Send {
    /// Looks at something in a directory. Says whether to go into it, which must then be a directory.
    fn visit(&mut self, place: &Place<'_>) -> io::Result<bool>;
}

/// Something in a directory.
pub struct Place<'walk> {
    /// The directory it is in.
    directory: &'walk OpenDirectory,
    /// Relative to the root of the walk.
    pub path: &'walk [u8],
    /// In its directory.
    pub name: &'walk CStr,
    /// Whether it is a directory, and no link to one.
    pub is_directory: bool,
}

impl Place<'_> {
    /// What the system knows of it.
    ///
    /// # Errors
    ///
    /// When it has gone, or can't be looked at.
    pub fn stat(&self) -> io::Result<Stat> {
        self.directory.stat_of(self.name)
    }

    /// Where the link leads that it is.
    pub(crate) fn link_target(&self) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.directory.0, self.name, Vec::new())?.into_bytes())
    }
}

/// A directory that is being read.
pub(crate) struct OpenDirectory(OwnedFd);

impl OpenDirectory {
    /// Opens one; a link to one is none.
    pub(crate) fn open(root: &Path, path: &[u8]) -> io::Result<OpenDirectory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(OpenDirectory(openat(CWD, below(root, path), flags, Mode::empty())?))
    }

    /// What the system knows of it.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.0)?)
    }

    fn stat_of(&self, name: &CStr) -> io::Result<Stat> {
        Ok(statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Looks at all that is in it.
    pub(crate) fn read(
        &self,
        path: &[u8],
        mut look: impl FnMut(&Place<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => FileType::from_raw_mode(self.stat_of(name)?.st_mode),
                known => known,
            };
            let path = if path.is_empty() {
                name.to_bytes().to_vec()
            } else {
                [path, b"/", name.to_bytes()].concat()
            };
            look(&Place { directory: self, path: &path, name, is_directory: kind == FileType::Directory })?;
        }
        Ok(())
    }
}

/// Walks the tree below `root` with as many visitors as `new_visitor` is asked for, and returns them. Links are not
/// followed, `root` neither.
///
/// # Errors
///
/// When a directory can't be read, or a visitor gives up.
pub fn walk<V: Visitor>(root: &Path, new_visitor: impl Fn() -> V) -> io::Result<Vec<V>> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let agenda = Agenda::default();
    agenda.lock().directories.push(Vec::new());
    let mut visitors: Vec<V> = (0..threads).map(|_| new_visitor()).collect();
    thread::scope(|scope| {
        let (first, others) = visitors.split_first_mut().expect("there is at least one thread");
        for visitor in others {
            scope.spawn(|| agenda.work_off(root, visitor));
        }
        agenda.work_off(root, first);
    });
    let failed = agenda.lock().failed.take();
    failed.map_or(Ok(visitors), Err)
}

/// What is still to be walked.
#[derive(Default)]
struct Agenda {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    directories: Vec<Vec<u8>>,
    /// Threads that may still find more of them.
    at_work: usize,
    failed: Option<io::Error>,
}

impl Agenda {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work_off(&self, root: &Path, visitor: &mut impl Visitor) {
        while let Some(path) = self.next() {
            let mut found = Vec::new();
            let read = OpenDirectory::open(root, &path).and_then(|directory| {
                directory.read(&path, |place| {
                    if visitor.visit(place)? {
                        found.push(place.path.to_vec());
                    }
                    Ok(())
                })
            });
            let mut pending = self.lock();
            pending.at_work -= 1;
            match read {
                Ok(()) => pending.directories.append(&mut found),
                Err(error) => {
                    pending.directories.clear();
                    pending.failed = Some(error);
                }
            }
            self.changed.notify_all();
        }
    }

    /// The next directory; `None` once there will be no more.
    fn next(&self) -> Option<Vec<u8>> {
        let mut pending = self.lock();
        loop {
            if pending.failed.is_some() {
                return None;
            }
            if let Some(path) = pending.directories.pop() {
                pending.at_work += 1;
                return Some(path);
            }
            if pending.at_work == 0 {
                return None;
            }
            pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
