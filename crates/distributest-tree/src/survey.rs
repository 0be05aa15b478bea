//! Looks at a workspace: how each entry of a tree looks there, and what is there besides.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use rustix::fs::FileType;

use crate::filter::Filter;
use crate::record::Stamp;
use crate::tree::{Kind, ProjectTree};
use crate::walk::{OpenDirectory, Place, Visitor, walk};

/// A workspace as it was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// How each entry of the tree looks; `None`: it is missing.
    pub(crate) stamps: Vec<Option<Stamp>>,
    /// What is not of the tree and would be deleted by a copy, what is in a directory before the directory.
    pub(crate) superfluous: Vec<Vec<u8>>,
}

impl Survey {
    /// Surveys the workspace in `root`.
    pub(crate) fn of(root: &Path, tree: &ProjectTree, filter: &Filter) -> io::Result<Survey> {
        let indices = tree.entries.iter().enumerate().map(|(index, entry)| (&entry.path[..], index));
        let indices: HashMap<&[u8], usize> = indices.collect();
        let stat = OpenDirectory::open(root, b"")?.stat()?;
        let surveyor = || Surveyor {
            root,
            tree,
            filter,
            indices: &indices,
            device: stat.st_dev,
            found: Vec::new(),
            superfluous: Vec::new(),
        };
        let surveyors = walk(root, surveyor)?;
        let mut survey = Survey { stamps: vec![None; tree.entries.len()], superfluous: Vec::new() };
        survey.stamps[0] = Some(Stamp::of(&stat));
        for surveyor in surveyors {
            for (index, stamp) in surveyor.found {
                survey.stamps[index] = Some(stamp);
            }
            survey.superfluous.extend(surveyor.superfluous);
        }
        Ok(survey)
    }
}

struct Surveyor<'walk> {
    root: &'walk Path,
    tree: &'walk ProjectTree,
    filter: &'walk Filter,
    indices: &'walk HashMap<&'walk [u8], usize>,
    device: u64,
    found: Vec<(usize, Stamp)>,
    superfluous: Vec<Vec<u8>>,
}

impl Visitor for Surveyor<'_> {
    fn visit(&mut self, place: &Place<'_>) -> io::Result<bool> {
        let Some(&index) = self.indices.get(place.path) else {
            self.judge(place)?;
            return Ok(false);
        };
        let stat = place.stat()?;
        self.found.push((index, Stamp::of(&stat)));
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory && stat.st_dev != self.device {
            return Err(io::Error::other("another file system is mounted in it"));
        }
        Ok(is_directory && self.tree.entries[index].kind == Kind::Directory)
    }
}

impl Surveyor<'_> {
    /// Finds what a copy would delete of something that is not of the tree. Says whether all of it.
    fn judge(&mut self, place: &Place<'_>) -> io::Result<bool> {
        if self.filter.protects(place.path, place.is_directory) {
            return Ok(false);
        }
        let mut all = true;
        if place.is_directory {
            let directory = OpenDirectory::open(self.root, place.path)?;
            directory.read(place.path, |inner| {
                all &= self.judge(inner)?;
                Ok(())
            })?;
        }
        if all {
            self.superfluous.push(place.path.to_vec());
        }
        Ok(all)
    }
}
