//! What a project's tree holds, as it is sent and remembered.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The format of [`ProjectTree::encode`] and of what is remembered beside a workspace: another one is not read.
pub const FORMAT: u32 = 1;

/// Everything of a project that is copied, and the rules by which that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectTree {
    /// rsync filter rules, each ended by a NUL.
    pub rules: Vec<u8>,
    /// In the order of their paths' bytes; the first is the root, whose path is empty.
    pub entries: Vec<Entry>,
}

/// A file, link or directory of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits.
    pub mode: u32,
    /// When its contents were changed, in nanoseconds since 1970.
    pub modified: i64,
    /// What tells it from what was and will be at this path.
    pub version: Version,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: Vec<u8>,
    },
}

/// What a file in the project can't keep when it changes, whoever puts its size and times back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// When the system last noted a change of it, in nanoseconds since 1970. Zero: it was changed just when it was looked
    /// at, and may have changed once more since without a trace.
    changed: i64,
    inode: u64,
}

impl Version {
    /// Of something that can't be told from what it was or will be.
    pub(crate) const UNCERTAIN: Version = Version { changed: 0, inode: 0 };

    pub(crate) fn new(changed: i64, inode: u64) -> Version {
        Version { changed, inode }
    }

    pub(crate) fn is_certain(self) -> bool {
        self != Version::UNCERTAIN
    }
}

/// Names the state of a project: what is sent, the rules, and when everything changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of an encoded tree.
    pub fn of(encoded: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(encoded).into())
    }

    /// As it crosses the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it came over the wire; `None` when it is none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Fingerprint> {
        bytes.try_into().ok().map(Fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Bytes that are no tree of this format.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// They mean nothing.
    #[error("failed to decode a project's tree")]
    Malformed(#[source] postcard::Error),
    /// Their format is another one.
    #[error("the project's tree is of format {0}, this program reads format {FORMAT}")]
    Format(u32),
    /// What they say can't be.
    #[error("the project's tree is not in order")]
    Disordered,
}

#[derive(Serialize, Deserialize)]
struct Encoded<'tree> {
    #[serde(borrow, with = "serde_bytes")]
    rules: &'tree [u8],
    #[serde(borrow)]
    entries: Vec<EncodedEntry<'tree>>,
}

/// An entry, the path less what it shares with the one before.
#[derive(Serialize, Deserialize)]
struct EncodedEntry<'tree> {
    shared: usize,
    #[serde(borrow, with = "serde_bytes")]
    rest: &'tree [u8],
    kind: Kind,
    mode: u32,
    modified: i64,
    version: Version,
}

impl ProjectTree {
    /// As bytes: the same for the same tree.
    pub fn encode(&self) -> Vec<u8> {
        let mut previous: &[u8] = b"";
        let entries = self.entries.iter().map(|entry| {
            let shared = previous.iter().zip(&entry.path).take_while(|(one, other)| one == other).count();
            previous = &entry.path;
            EncodedEntry {
                shared,
                rest: &entry.path[shared..],
                kind: entry.kind.clone(),
                mode: entry.mode,
                modified: entry.modified,
                version: entry.version,
            }
        });
        let encoded = Encoded { rules: &self.rules, entries: entries.collect() };
        let capacity = 64 + self.rules.len() + 64 * self.entries.len();
        postcard::to_extend(&(FORMAT, encoded), Vec::with_capacity(capacity))
            .expect("a vector takes every byte, and all lengths are known")
    }

    /// Reads what [`ProjectTree::encode`] made. What comes out is in order and leads nowhere out of its root, whoever
    /// sent it.
    ///
    /// # Errors
    ///
    /// When the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<ProjectTree, DecodeError> {
        let (format, rest) = postcard::take_from_bytes::<u32>(bytes).map_err(DecodeError::Malformed)?;
        if format != FORMAT {
            return Err(DecodeError::Format(format));
        }
        let Encoded { rules, entries: encoded } =
            postcard::from_bytes(rest).map_err(DecodeError::Malformed)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(encoded.len());
        for entry in encoded {
            let previous = entries.last().map_or(&[][..], |previous| &previous.path);
            let shared = previous.get(..entry.shared).ok_or(DecodeError::Disordered)?;
            let path = [shared, entry.rest].concat();
            let EncodedEntry { kind, mode, modified, version, .. } = entry;
            entries.push(Entry { path, kind, mode, modified, version });
        }
        let tree = ProjectTree { rules: rules.to_vec(), entries };
        if tree.is_in_order() { Ok(tree) } else { Err(DecodeError::Disordered) }
    }

    /// Whether the first entry is the root, paths are proper and ascend, and each is below a directory that is there.
    fn is_in_order(&self) -> bool {
        let Some((root, below)) = self.entries.split_first() else { return false };
        let is_directory = |path| self.find(path).is_some_and(|entry| entry.kind == Kind::Directory);
        // What is in one directory mostly stands together.
        let mut known: &[u8] = b"";
        root.path.is_empty()
            && root.kind == Kind::Directory
            && self.entries.windows(2).all(|pair| pair[0].path < pair[1].path)
            && below.iter().all(|entry| {
                let directory = parent(&entry.path);
                let is_below = directory == known || is_directory(directory);
                known = directory;
                is_below && is_proper(&entry.path)
            })
    }

    fn find(&self, path: &[u8]) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|entry| entry.path.as_slice().cmp(path));
        found.ok().map(|index| &self.entries[index])
    }

    /// For each entry the index of the one at the same path in `other`.
    pub(crate) fn counterparts(&self, other: &ProjectTree) -> Vec<Option<usize>> {
        let mut next = 0;
        let counterpart = |entry: &Entry| {
            while let Some(candidate) = other.entries.get(next) {
                match candidate.path.cmp(&entry.path) {
                    Ordering::Less => next += 1,
                    Ordering::Equal => return Some(next),
                    Ordering::Greater => return None,
                }
            }
            None
        };
        self.entries.iter().map(counterpart).collect()
    }
}

/// Whether a path leads to somewhere below the root, and has only one spelling.
fn is_proper(path: &[u8]) -> bool {
    !path.contains(&0) && path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
}

/// The path of the directory that something is in.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

/// A relative path below a root.
pub(crate) fn below(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(path)) }
}

impl Entry {
    /// Where it is below `root`.
    pub fn below(&self, root: &Path) -> PathBuf {
        below(root, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.into(), kind, mode: 0o755, modified: -5, version: Version::new(7, 8) }
    }

    fn tree(entries: Vec<Entry>) -> ProjectTree {
        ProjectTree { rules: b"- .git\0".to_vec(), entries }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let link = Kind::Link { target: b"../\xff".to_vec() };
        let tree = tree(vec![
            entry("", Kind::Directory),
            entry("a", Kind::Directory),
            entry("a-b", Kind::File { size: 3 }),
            entry("a/b", link),
            entry("a/b.c", Kind::File { size: u64::MAX }),
        ]);
        assert_eq!(ProjectTree::decode(&tree.encode()).unwrap(), tree);
    }

    #[test]
    fn what_leads_out_of_the_root_or_is_out_of_order_is_refused() {
        let root = || entry("", Kind::Directory);
        let file = |path| entry(path, Kind::File { size: 0 });
        let link = entry("a", Kind::Link { target: b"/etc".to_vec() });
        for entries in [
            vec![],
            vec![file("")],
            vec![root(), file("..")],
            vec![root(), file("/etc")],
            vec![root(), file("a"), file("a")],
            vec![root(), file("b"), file("a")],
            vec![root(), file("a/b")],
            vec![root(), link, file("a/b")],
            vec![root(), file("a"), file("a/b")],
            vec![root(), entry("a", Kind::Directory), file("a/../b")],
            vec![root(), file("a\0")],
        ] {
            let decoded = ProjectTree::decode(&tree(entries.clone()).encode());
            assert!(matches!(decoded, Err(DecodeError::Disordered)), "{entries:?}");
        }
        let mut other_format = tree(vec![root()]).encode();
        other_format[0] = 99;
        assert!(matches!(ProjectTree::decode(&other_format), Err(DecodeError::Format(99))));
        assert!(matches!(ProjectTree::decode(&[1, 1]), Err(DecodeError::Malformed(_))));
    }
}
