//! What is remembered of a workspace between runs: what was copied there, and how each file was left.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock;
use crate::tree::{Fingerprint, ProjectTree};

/// How a file, link or directory looks to the system. Whoever changes it changes this, since nobody can set the time that
/// the system notes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub(crate) size: u64,
    /// Permission bits and kind.
    pub(crate) mode: u32,
    pub(crate) modified: i64,
    /// When the system last noted a change of it, in nanoseconds since 1970.
    pub changed: i64,
    pub(crate) inode: u64,
}

impl Stamp {
    /// That of what the system tells this of.
    pub fn of(stat: &Stat) -> Stamp {
        Stamp {
            size: stat.st_size.try_into().unwrap_or(0),
            mode: stat.st_mode,
            modified: clock::modified(stat),
            changed: clock::changed(stat),
            inode: stat.st_ino,
        }
    }

    pub(crate) fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::RegularFile
    }

    pub(crate) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

/// What a workspace held after the project was last copied to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of the project's state.
    pub fingerprint: Fingerprint,
    /// What was copied.
    pub tree: ProjectTree,
    /// How each entry of the tree was left; `None` where that is not known to be what the entry says.
    pub(crate) stamps: Vec<Option<Stamp>>,
}

impl Record {
    /// Reads one. What is missing, damaged or of another format is none.
    pub fn load(path: &Path) -> Option<Record> {
        let bytes = fs::read(path).ok()?;
        let (checksum, bytes) = bytes.split_at_checked(32)?;
        if Sha256::digest(bytes)[..] != *checksum {
            return None;
        }
        let (stamps, encoded) = postcard::take_from_bytes::<Vec<Option<Stamp>>>(bytes).ok()?;
        let tree = ProjectTree::decode(encoded).ok()?;
        let fingerprint = Fingerprint::of(encoded);
        (stamps.len() == tree.entries.len()).then_some(Record { fingerprint, tree, stamps })
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    ///
    /// When there is no room for it.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let bytes = postcard::to_stdvec(&self.stamps).map_err(io::Error::other)?;
        let bytes = [bytes, self.tree.encode()].concat();
        let unfinished = path.with_added_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let written = file.write_all(&Sha256::digest(&bytes)).and_then(|()| file.write_all(&bytes));
        written.and_then(|()| fs::rename(&unfinished, path)).inspect_err(|_| _ = fs::remove_file(&unfinished))
    }

    /// Forgets what is remembered, before the workspace is changed: what changes it may be stopped half-way.
    ///
    /// # Errors
    ///
    /// When it can't be deleted.
    pub fn forget(path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Entry, Kind, Version};

    #[test]
    fn a_record_is_read_as_it_was_written_and_not_at_all_when_it_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        let version = Version::new(1, 2);
        let root = Entry { path: Vec::new(), kind: Kind::Directory, mode: 0o700, modified: 3, version };
        let tree = ProjectTree { rules: Vec::new(), entries: vec![root] };
        let stamp = Stamp { size: 1, mode: 2, modified: 3, changed: 4, inode: 5 };
        let fingerprint = Fingerprint::of(&tree.encode());
        let record = Record { fingerprint, tree, stamps: vec![Some(stamp)] };
        assert_eq!(Record::load(&path), None);
        record.store(&path).unwrap();
        assert_eq!(Record::load(&path), Some(record));
        let bytes = fs::read(&path).unwrap();
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert_eq!(Record::load(&path), None);
            fs::write(&path, &bytes[..index]).unwrap();
            assert_eq!(Record::load(&path), None);
        }
        Record::forget(&path).unwrap();
        Record::forget(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
