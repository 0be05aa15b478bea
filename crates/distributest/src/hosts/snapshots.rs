//! Numbers the states of the project that hosts were given, so that it can be told later which of them an attempt ran.
//!
//! People go on working while their tests run, and a host may be copied to late, or again. The state is looked at once
//! before the first copy and after each one: as long as nothing has changed, everybody has snapshot 1. A copy after which
//! the project looks different from all before has a new number, and may hold some of the state before as well.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ignore::WalkBuilder;

/// The states of the project seen so far.
#[derive(Debug, Default)]
pub struct Snapshots(Mutex<Vec<u64>>);

impl Snapshots {
    /// The number of the state the project is in, from 1. Walks the project, which may take a while.
    pub(super) fn number(&self, project: &Path) -> u32 {
        let state = state(project);
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = states.iter().position(|known| *known == state).unwrap_or_else(|| {
            states.push(state);
            states.len() - 1
        });
        u32::try_from(index + 1).unwrap_or(u32::MAX)
    }
}

/// Path, size and time of change of everything that git does not ignore, as one number.
fn state(project: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let walk = WalkBuilder::new(project)
        .hidden(false)
        .ignore(false)
        .filter_entry(|entry| entry.file_name() != ".git" && entry.file_name() != "__pycache__")
        .sort_by_file_name(Ord::cmp)
        .build();
    for entry in walk.flatten() {
        // A directory's time changes with what is ignored in it.
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

    use super::*;

    #[test]
    fn a_state_keeps_its_number_and_a_change_has_a_new_one() {
        let project = tempfile::tempdir().unwrap();
        let path = |name: &str| project.path().join(name);
        fs::create_dir(path(".git")).unwrap();
        fs::write(path(".gitignore"), "build\n").unwrap();
        fs::write(path("a"), "one").unwrap();
        let snapshots = Snapshots::default();
        assert_eq!(snapshots.number(project.path()), 1);
        fs::create_dir(path("build")).unwrap();
        fs::write(path("build/output"), "ignored").unwrap();
        assert_eq!(snapshots.number(project.path()), 1);
        fs::write(path("b"), "two").unwrap();
        assert_eq!(snapshots.number(project.path()), 2);
        fs::remove_file(path("b")).unwrap();
        assert_eq!(snapshots.number(project.path()), 1);
    }
}
