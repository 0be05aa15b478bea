//! Makes a workspace hold what a tree says, where it differs in little.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps, UTIME_OMIT, utimensat};

use crate::clock;
use crate::record::{Record, Stamp};
use crate::survey::Survey;
use crate::tree::{Entry, Kind, ProjectTree, below, parent};

/// What must be done to a workspace. Numbers are indices into its tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Repair {
    /// What is deleted.
    pub(crate) superfluous: Vec<Vec<u8>>,
    /// Directories that are not there.
    pub(crate) directories: Vec<usize>,
    /// Links that are not there, or look different from how they were left.
    pub(crate) links: Vec<usize>,
    /// Files whose contents are not there, or not known to be there.
    pub(crate) files: Vec<usize>,
    /// Directories that have another mode or time.
    pub(crate) attributes: BTreeSet<usize>,
}

/// What only rsync makes way for: a directory stands where something else should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a directory is in the way of {0}")]
pub(crate) struct Obstacle(String);

impl Repair {
    /// Compares what was found with what should be there. What looks as the last copy left it holds what was copied then.
    pub(crate) fn plan(
        tree: &ProjectTree,
        survey: Survey,
        record: Option<&Record>,
    ) -> Result<Repair, Obstacle> {
        let former = match record {
            Some(record) => tree.counterparts(&record.tree),
            None => vec![None; tree.entries.len()],
        };
        let mut repair = Repair { superfluous: survey.superfluous, ..Repair::default() };
        for (index, (entry, stamp)) in tree.entries.iter().zip(&survey.stamps).enumerate() {
            let found = stamp.map(|stamp| FileType::from_raw_mode(stamp.mode));
            let left = || {
                let (record, former) = (record?, former[index]?);
                let was_copied = record.tree.entries[former] == *entry;
                was_copied.then(|| record.stamps[former]).flatten()
            };
            match entry.kind {
                Kind::Directory if found != Some(FileType::Directory) => repair.directories.push(index),
                Kind::Directory => {
                    let as_told =
                        |stamp: &Stamp| stamp.permissions() == entry.mode && stamp.modified == entry.modified;
                    if !stamp.as_ref().is_some_and(as_told) {
                        repair.attributes.insert(index);
                    }
                }
                _ if found == Some(FileType::Directory) => {
                    return Err(Obstacle(String::from_utf8_lossy(&entry.path).into_owned()));
                }
                Kind::Link { .. } if stamp.is_none() || left() != *stamp => repair.links.push(index),
                Kind::File { .. } if stamp.is_none() || left() != *stamp || !entry.version.is_certain() => {
                    repair.files.push(index);
                }
                Kind::Link { .. } | Kind::File { .. } => {}
            }
        }
        Ok(repair)
    }

    /// Whether nothing differs but modes and times of directories, if anything.
    pub(crate) fn is_of_attributes(&self) -> bool {
        let made = [&self.directories, &self.links, &self.files];
        self.superfluous.is_empty() && made.into_iter().all(Vec::is_empty)
    }

    /// Does all that needs no contents of files.
    pub(crate) fn begin(&self, root: &Path, tree: &ProjectTree, scratch: &Path) -> io::Result<()> {
        for path in &self.superfluous {
            remove(&below(root, path))?;
        }
        for index in &self.directories {
            let entry = &tree.entries[*index];
            let path = entry.below(root);
            remove(&path)?;
            DirBuilder::new().mode(entry.mode | 0o700).create(path)?;
        }
        for index in &self.links {
            let entry = &tree.entries[*index];
            let Kind::Link { target } = &entry.kind else { continue };
            remove(scratch)?;
            std::os::unix::fs::symlink(OsStr::from_bytes(target), scratch)?;
            set_modified(scratch, entry)?;
            fs::rename(scratch, entry.below(root))?;
        }
        Ok(())
    }

    /// Does what can only be done when everything else is in place. Returns how what was made looks now; nothing of what
    /// changed while it was being done.
    pub(crate) fn finish(&self, root: &Path, tree: &ProjectTree) -> io::Result<Vec<(usize, Option<Stamp>)>> {
        let directories = self.finish_directories(root, tree)?;
        clock::wait_for_tick();
        let now = clock::now();
        let made = [&self.directories, &self.links, &self.files].into_iter().flatten().chain(&directories);
        let look = |index: &usize| {
            let entry = &tree.entries[*index];
            let stat = rustix::fs::lstat(entry.below(root))?;
            Ok((*index, as_copied(entry, Stamp::of(&stat), now)))
        };
        made.map(look).collect()
    }

    /// Gives directories their modes and times, those too that something was done in. Returns which.
    pub(crate) fn finish_directories(&self, root: &Path, tree: &ProjectTree) -> io::Result<BTreeSet<usize>> {
        let made = [&self.directories, &self.links, &self.files].into_iter().flatten();
        let made = made.map(|index| &tree.entries[*index].path);
        let touched: BTreeSet<&[u8]> = made.chain(&self.superfluous).map(|path| parent(path)).collect();
        let mut directories: BTreeSet<usize> =
            self.directories.iter().chain(&self.attributes).copied().collect();
        if !touched.is_empty() {
            let entries = tree.entries.iter().enumerate();
            let parents = entries.filter(|(_, entry)| touched.contains(&entry.path[..]));
            directories.extend(parents.map(|(index, _)| index));
        }
        // A directory's time changes with what is done in it, so what is inside comes first.
        for index in directories.iter().rev() {
            let entry = &tree.entries[*index];
            let path = entry.below(root);
            fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode))?;
            set_modified(&path, entry)?;
        }
        Ok(directories)
    }
}

/// The stamp of something that looks like its entry, unless a later change might leave it the same.
pub(crate) fn as_copied(entry: &Entry, stamp: Stamp, now: i64) -> Option<Stamp> {
    let kind = FileType::from_raw_mode(stamp.mode);
    let alike = match entry.kind {
        Kind::File { size } => {
            kind == FileType::RegularFile && stamp.size == size && stamp.permissions() == entry.mode
        }
        Kind::Directory => kind == FileType::Directory && stamp.permissions() == entry.mode,
        Kind::Link { .. } => kind == FileType::Symlink,
    };
    (alike && stamp.modified == entry.modified && clock::is_settled(stamp.changed, now)).then_some(stamp)
}

/// A file whose contents are arriving, beside the workspace until they are complete.
#[derive(Debug)]
pub(crate) struct IncomingFile {
    file: File,
    scratch: PathBuf,
}

impl IncomingFile {
    pub(crate) fn create(scratch: &Path) -> io::Result<IncomingFile> {
        remove(scratch)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(scratch)?;
        Ok(IncomingFile { file, scratch: scratch.to_owned() })
    }

    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)
    }

    /// Puts it in its place.
    pub(crate) fn put(self, root: &Path, entry: &Entry) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(entry.mode))?;
        drop(self.file);
        set_modified(&self.scratch, entry)?;
        fs::rename(&self.scratch, entry.below(root))
    }
}

/// Gives a file a time that no file of a project has, so that rsync, which goes by size and time, copies it again.
pub(crate) fn spoil(path: &Path) -> io::Result<()> {
    let long_ago = Timespec { tv_sec: 1, tv_nsec: 1 };
    set_times(path, long_ago)
}

/// Deletes a file, link or empty directory, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn set_modified(path: &Path, entry: &Entry) -> io::Result<()> {
    let (seconds, nanoseconds) =
        (entry.modified.div_euclid(1_000_000_000), entry.modified.rem_euclid(1_000_000_000));
    set_times(path, Timespec { tv_sec: seconds, tv_nsec: nanoseconds })
}

fn set_times(path: &Path, modified: Timespec) -> io::Result<()> {
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access, last_modification: modified };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
