//! Hashes what the files of a tree hold, and remembers the hashes, so that a file that has not changed is read once.
//!
//! A file is known by its size and times and what nobody can set of it ([`Version`]). One that was changed just when it was
//! looked at, or while it was read, has no hash: nobody can tell what it held.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock;
use crate::project::Unreadable;
use crate::tree::{Entry, Kind, ProjectTree, Version};

/// The SHA-256 of what a file holds.
pub type Hash = [u8; 32];

/// How much of a file is read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// How often a tree is read again that is being changed.
const READS: usize = 3;

/// The hashes of files that were read in earlier runs.
#[derive(Debug, Default)]
pub struct Hashes {
    known: HashMap<Vec<u8>, Known>,
    /// They are not what was loaded any more.
    changed: bool,
}

/// A file as it was read, and what it held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    size: u64,
    modified: i64,
    version: Version,
    hash: Hash,
}

impl Hashes {
    /// Those that were stored. What is missing or damaged is none.
    pub fn load(path: &Path) -> Hashes {
        let known = fs::read(path).ok().and_then(|bytes| {
            let (checksum, bytes) = bytes.split_at_checked(32)?;
            let is_whole = Sha256::digest(bytes)[..] == *checksum;
            is_whole.then(|| postcard::from_bytes(bytes).ok()).flatten()
        });
        Hashes { known: known.unwrap_or_default(), changed: false }
    }

    /// The hash of each entry of a tree, as far as it is a file and known. From then on others are forgotten.
    pub fn of_tree(&mut self, root: &Path, tree: &ProjectTree) -> Vec<Option<Hash>> {
        let mut known = HashMap::with_capacity(self.known.len());
        let hashes = tree.entries.iter().map(|entry| {
            let Kind::File { size } = entry.kind else { return None };
            let is_same = |known: &Known| {
                known.size == size && known.modified == entry.modified && known.version == entry.version
            };
            let remembered = self.known.remove(&entry.path).filter(|_| entry.version.is_certain());
            let remembered = remembered.filter(is_same);
            self.changed |= remembered.is_none();
            let hash = remembered.map(|known| known.hash).or_else(|| read(root, entry))?;
            let this = Known { size, modified: entry.modified, version: entry.version, hash };
            known.insert(entry.path.clone(), this);
            Some(hash)
        });
        let hashes = hashes.collect();
        self.changed |= !self.known.is_empty();
        self.known = known;
        hashes
    }

    /// Writes them, whole or not at all, unless they are what was loaded.
    ///
    /// # Errors
    ///
    /// When there is no room for them.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let bytes = postcard::to_stdvec(&self.known).map_err(io::Error::other)?;
        // Two runs of a project may store theirs at the same time.
        let unfinished = path.with_added_extension(std::process::id().to_string());
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let written = file.write_all(&Sha256::digest(&bytes)).and_then(|()| file.write_all(&bytes));
        written.and_then(|()| fs::rename(&unfinished, path)).inspect_err(|_| _ = fs::remove_file(&unfinished))
    }
}

/// The hash of a file that is what its entry says, before and after it is read.
fn read(root: &Path, entry: &Entry) -> Option<Hash> {
    let mut file = File::open(entry.below(root)).ok()?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece).ok()? {
            0 => break,
            length => hash.update(&piece[..length]),
        }
    }
    let stat = rustix::fs::fstat(&file).ok()?;
    entry.is(&stat).then(|| hash.finalize().into())
}

impl ProjectTree {
    /// As [`ProjectTree::read`], but waits for a moment where that is enough to have a certain version of every file.
    ///
    /// # Errors
    ///
    /// As of [`ProjectTree::read`].
    pub fn read_settled(root: &Path, rules: Vec<u8>) -> Result<ProjectTree, Unreadable> {
        let mut tree = ProjectTree::read(root, rules.clone())?;
        for _ in 1..READS {
            if tree.entries.iter().all(|entry| entry.is_certain()) {
                break;
            }
            clock::wait_for_tick();
            tree = ProjectTree::read(root, rules.clone())?;
        }
        Ok(tree)
    }

    /// For each entry the index of the one in `earlier` that it certainly still is, with all it holds.
    pub fn unchanged_since(&self, earlier: &ProjectTree) -> Vec<Option<usize>> {
        let counterparts = self.counterparts(earlier).into_iter().zip(&self.entries);
        let unchanged = counterparts.map(|(counterpart, entry)| {
            counterpart.filter(|index| entry.is_certainly(&earlier.entries[*index]))
        });
        unchanged.collect()
    }
}

impl Entry {
    /// Whether it can be told from what was and will be at its path.
    pub fn is_certain(&self) -> bool {
        !matches!(self.kind, Kind::File { .. }) || self.version.is_certain()
    }

    /// The times of a directory change with what is not copied in it; a link holds nothing but where it leads.
    fn is_certainly(&self, earlier: &Entry) -> bool {
        let is_file = matches!(self.kind, Kind::File { .. });
        let is_same_file = self.modified == earlier.modified && self.version == earlier.version;
        self.kind == earlier.kind
            && self.mode == earlier.mode
            && self.is_certain()
            && (!is_file || is_same_file)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn settled(root: &Path) -> ProjectTree {
        let tree = || ProjectTree::read_settled(root, Vec::new()).unwrap();
        let is_settled = |tree: &ProjectTree| tree.entries.iter().all(Entry::is_certain);
        std::iter::repeat_with(tree).find(is_settled).unwrap()
    }

    fn hash(text: &str) -> Option<Hash> {
        Some(Sha256::digest(text).into())
    }

    #[test]
    fn only_what_has_changed_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let (root, store) = (directory.path().join("project"), directory.path().join("hashes"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), "one").unwrap();
        symlink("a", root.join("b")).unwrap();
        fs::write(root.join("c"), "two").unwrap();
        let mut hashes = Hashes::load(&store);
        assert_eq!(hashes.of_tree(&root, &settled(&root)), [None, hash("one"), None, hash("two")]);
        hashes.store(&store).unwrap();

        // What is remembered is believed, which only shows when it is wrong.
        let mut hashes = Hashes::load(&store);
        hashes.known.get_mut(b"a".as_slice()).unwrap().hash = [7; 32];
        fs::write(root.join("c"), "TWO").unwrap();
        assert_eq!(hashes.of_tree(&root, &settled(&root)), [None, Some([7; 32]), None, hash("TWO")]);
        assert!(hashes.changed);

        hashes.store(&store).unwrap();
        let mut hashes = Hashes::load(&store);
        hashes.of_tree(&root, &settled(&root));
        assert!(!hashes.changed, "nothing is written where nothing has changed");
        fs::remove_file(root.join("c")).unwrap();
        hashes.of_tree(&root, &settled(&root));
        assert!(hashes.changed && hashes.known.len() == 1);
    }

    #[test]
    fn a_file_with_its_old_times_and_size_has_changed_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "one").unwrap();
        let before = settled(directory.path());
        let mut hashes = Hashes::default();
        assert_eq!(hashes.of_tree(directory.path(), &before), [None, hash("one")]);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let after = settled(directory.path());
        assert_eq!(after.unchanged_since(&before), [Some(0), None]);
        assert_eq!(hashes.of_tree(directory.path(), &before), [None, hash("one")], "of what it was");
        assert_eq!(hashes.of_tree(directory.path(), &after), [None, hash("two")]);
        assert_eq!(Hashes::default().of_tree(directory.path(), &before), [None, None], "it is gone");
    }

    #[test]
    fn what_is_damaged_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let (file, store) = (directory.path().join("a"), directory.path().join("hashes"));
        fs::write(&file, "one").unwrap();
        let mut hashes = Hashes::default();
        hashes.of_tree(directory.path(), &settled(directory.path()));
        hashes.store(&store).unwrap();
        let bytes = fs::read(&store).unwrap();
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            fs::write(&store, damaged).unwrap();
            assert_eq!(Hashes::load(&store).known.len(), 0);
        }
    }
}
