//! Reads what of a project is copied.

use std::io;
use std::path::Path;

use rustix::fs::{FileType, Stat};

use crate::clock;
use crate::filter::{Filter, UnknownRule};
use crate::tree::{Entry, Kind, ProjectTree, Version};
use crate::walk::{OpenDirectory, Place, Visitor, walk};

/// More entries than this are left to rsync, which needs less memory for each.
const MOST_ENTRIES: usize = 500_000;

/// Why only rsync can copy a project.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its rules are beyond this crate.
    #[error(transparent)]
    Rule(#[from] UnknownRule),
    /// Its file system may not date changes.
    #[error("its file system is not one of those that are known to date every change")]
    FileSystem,
    /// It can't be read, or holds what is no file, directory or link.
    #[error("failed to read it")]
    Read(#[from] io::Error),
}

impl ProjectTree {
    /// Reads the project in `root` as rsync would with these filter rules. What changes while it is read, or has just
    /// been changed, has no certain version.
    ///
    /// # Errors
    ///
    /// When only rsync can tell what is copied.
    pub fn read(root: &Path, rules: Vec<u8>) -> Result<ProjectTree, Unreadable> {
        let filter = Filter::parse(&rules)?;
        if !clock::is_trusted(root)? {
            return Err(Unreadable::FileSystem);
        }
        let now = clock::now();
        let stat = OpenDirectory::open(root, b"")?.stat()?;
        let device = stat.st_dev;
        let readers =
            walk(root, || Reader { filter: &filter, now, device, entries: Vec::new() })?.into_iter();
        let mut entries = vec![entry(Vec::new(), Kind::Directory, &stat, now)];
        entries.extend(readers.flat_map(|reader| reader.entries));
        if entries.len() > MOST_ENTRIES {
            return Err(io::Error::other("it holds too much").into());
        }
        entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Ok(ProjectTree { rules, entries })
    }
}

impl Entry {
    /// Whether the file that `stat` tells of is still this entry.
    pub fn is(&self, stat: &Stat) -> bool {
        let size = match self.kind {
            Kind::File { size } => size,
            Kind::Directory | Kind::Link { .. } => return false,
        };
        self.version.is_certain()
            && self.version == Version::new(clock::changed(stat), stat.st_ino)
            && u64::try_from(stat.st_size) == Ok(size)
            && self.modified == clock::modified(stat)
    }
}

struct Reader<'walk> {
    filter: &'walk Filter,
    now: i64,
    device: u64,
    entries: Vec<Entry>,
}

impl Visitor for Reader<'_> {
    fn visit(&mut self, place: &Place<'_>) -> io::Result<bool> {
        if self.filter.excludes(place.path, place.is_directory) {
            return Ok(false);
        }
        let stat = match place.stat() {
            // It has gone since its directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            stat => stat?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File { size: stat.st_size.try_into().unwrap_or(0) },
            FileType::Directory if stat.st_dev == self.device => Kind::Directory,
            FileType::Directory => return Err(io::Error::other("another file system is mounted in it")),
            FileType::Symlink => Kind::Link { target: place.link_target()? },
            _ => return Err(io::Error::other("it holds something else than files, directories and links")),
        };
        let is_directory = kind == Kind::Directory;
        self.entries.push(entry(place.path.to_vec(), kind, &stat, self.now));
        Ok(is_directory)
    }
}

fn entry(path: Vec<u8>, kind: Kind, stat: &Stat, now: i64) -> Entry {
    let changed = clock::changed(stat);
    // A directory and a link have no contents beyond what is said of them here.
    let version = match kind {
        Kind::Directory | Kind::Link { .. } => Version::UNCERTAIN,
        Kind::File { .. } if clock::is_settled(changed, now) => Version::new(changed, stat.st_ino),
        Kind::File { .. } => Version::UNCERTAIN,
    };
    Entry { path, kind, mode: stat.st_mode & 0o7777, modified: clock::modified(stat), version }
}
