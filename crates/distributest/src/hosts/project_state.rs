//! The state a project is in: which part of it is copied to hosts, and everything that is told of it to compare copies.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;

use distributest_tree::project::Unreadable;
use distributest_tree::tree::{Fingerprint, Kind, ProjectTree};
use ignore::WalkBuilder;

use super::sync_rules;
use crate::config::SyncConfig;

/// Reads what is copied of a project.
type ReadProject = fn(&Path, Vec<u8>) -> Result<ProjectTree, Unreadable>;

/// The state a project was in when it was first looked at. Clones have the same.
#[derive(Clone, Debug)]
pub struct FirstLook {
    project: PathBuf,
    sync: SyncConfig,
    settles: bool,
    state: Arc<OnceLock<Arc<ProjectState>>>,
}

impl FirstLook {
    /// Looks at nothing yet.
    pub fn new(project: PathBuf, sync: SyncConfig) -> FirstLook {
        FirstLook { project, sync, settles: false, state: Arc::default() }
    }

    /// The same, but with `settles` a moment is waited for where it takes that to tell all files from what they will be.
    #[must_use]
    pub fn settling(self, settles: bool) -> FirstLook {
        FirstLook { settles, ..self }
    }

    /// Looks at the project now, while the caller does something else.
    pub fn take(&self) {
        let look = self.clone();
        // Where there is no thread, those who need the state look themselves.
        let _ = thread::Builder::new().name("project".into()).spawn(move || _ = look.state());
    }

    /// Looks at the project anew.
    pub(crate) fn again(&self) -> ProjectState {
        ProjectState::read(&self.project, &self.sync, ProjectTree::read)
    }

    /// Waits for a look that is being taken, or takes it: walks the project, which may take a while.
    pub(crate) fn state(&self) -> Arc<ProjectState> {
        let first = || match self.settles {
            true => ProjectState::read(&self.project, &self.sync, ProjectTree::read_settled),
            false => self.again(),
        };
        Arc::clone(self.state.get_or_init(|| Arc::new(first())))
    }
}

/// A project as it was when it was looked at.
#[derive(Debug)]
pub(crate) struct ProjectState {
    /// What is copied, as filter rules for rsync.
    pub(super) rules: Vec<u8>,
    /// What is copied, entry by entry, or why only rsync can tell.
    pub(crate) tree: Result<ReadTree, Unreadable>,
    /// Of the names, sizes and times of all files that are copied.
    pub(super) number: u64,
}

/// A tree, and what it is called.
#[derive(Debug)]
pub(crate) struct ReadTree {
    pub(crate) tree: ProjectTree,
    pub(super) encoded: Vec<u8>,
    pub(super) fingerprint: Fingerprint,
}

/// A file that is sent.
pub(super) struct ReadFile {
    /// Its index into the tree.
    pub(super) entry: usize,
    pub(super) contents: Vec<u8>,
    /// It is not what the tree says.
    pub(super) changed: bool,
}

impl ProjectState {
    /// Walks the project, which may take a while.
    fn read(project: &Path, sync: &SyncConfig, read: ReadProject) -> ProjectState {
        let rules = sync_rules::rules(project, sync);
        let tree = read(project, rules.clone());
        let number = tree.as_ref().map_or_else(|_| number_by_walking(project), number_of);
        let tree = tree.map(|tree| {
            let encoded = tree.encode();
            ReadTree { fingerprint: Fingerprint::of(&encoded), tree, encoded }
        });
        ProjectState { rules, tree, number }
    }
}

impl ReadTree {
    /// Reads the files that a host has no copy of.
    pub(super) fn read_files(&self, project: &Path, entries: &[usize]) -> std::io::Result<Vec<ReadFile>> {
        entries.iter().map(|entry| self.read_file(project, *entry)).collect()
    }

    fn read_file(&self, project: &Path, index: usize) -> std::io::Result<ReadFile> {
        let unknown = || std::io::Error::other("the host wants a file that does not exist");
        let entry = self.tree.entries.get(index).ok_or_else(unknown)?;
        let Kind::File { size } = entry.kind else { return Err(unknown()) };
        let file = std::fs::File::open(entry.below(project))?;
        let mut contents = Vec::new();
        // One that grows is not followed to its end.
        (&file).take(size).read_to_end(&mut contents)?;
        let changed = !entry.is(&rustix::fs::fstat(&file)?);
        Ok(ReadFile { entry: index, contents, changed })
    }
}

/// A directory's time changes with what is not copied in it.
fn number_of(tree: &ProjectTree) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in tree.entries.iter().filter(|entry| entry.kind != Kind::Directory) {
        entry.path.hash(&mut hasher);
        entry.modified.hash(&mut hasher);
        if let Kind::File { size } = entry.kind {
            size.hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn number_by_walking(project: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let walk = WalkBuilder::new(project)
        .hidden(false)
        .ignore(false)
        .filter_entry(|entry| entry.file_name() != ".git" && entry.file_name() != "__pycache__")
        .sort_by_file_name(Ord::cmp)
        .build();
    for entry in walk.flatten() {
        let Some(metadata) = entry.metadata().ok().filter(|metadata| !metadata.is_dir()) else { continue };
        entry.path().hash(&mut hasher);
        metadata.len().hash(&mut hasher);
        metadata.modified().ok().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_number_changes_with_what_is_copied_and_with_nothing_else() {
        let project = tempfile::tempdir().unwrap();
        let path = |name: &str| project.path().join(name);
        let read = || ProjectState::read(project.path(), &SyncConfig::default(), ProjectTree::read);
        let number = || read().number;
        fs::create_dir(path(".git")).unwrap();
        fs::write(path(".gitignore"), "build\n").unwrap();
        fs::write(path("a"), "one").unwrap();
        for by_walking in [false, true] {
            if by_walking {
                // Nothing that can be compared: only rsync can tell.
                let _ = UnixListener::bind(path("socket")).unwrap();
            }
            assert_eq!(read().tree.is_err(), by_walking);
            let before = number();
            fs::create_dir(path("build")).unwrap();
            fs::write(path("build/output"), "ignored").unwrap();
            assert_eq!(number(), before);
            fs::write(path("b"), "two").unwrap();
            assert_ne!(number(), before);
            fs::remove_file(path("b")).unwrap();
            assert_eq!(number(), before);
            fs::remove_dir_all(path("build")).unwrap();
        }
    }

    #[test]
    fn a_file_that_changed_since_is_sent_as_such() {
        let project = tempfile::tempdir().unwrap();
        let path = project.path().join("a");
        fs::write(&path, "one").unwrap();
        let settled = || {
            let read = ProjectState::read(project.path(), &SyncConfig::default(), ProjectTree::read);
            let state = read.tree.unwrap();
            let read = state.read_files(project.path(), &[1]).unwrap().remove(0);
            (!read.changed).then_some((state, read))
        };
        let (state, read) = std::iter::repeat_with(settled).find_map(|settled| settled).unwrap();
        assert_eq!(read.contents, b"one");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert!(state.read_files(project.path(), &[1]).unwrap()[0].changed);
        assert!(state.read_files(project.path(), &[0]).is_err());
        assert!(state.read_files(project.path(), &[7]).is_err());
    }
}
