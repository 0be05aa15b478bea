//! Holds the files that wait for a runner, in the order they should be handed out.
//!
//! Files that were never handed out are a range: their ids stand in that order already. Files that came back
//! stand before all of those, because they were handed out before them; they are kept apart by the host that
//! lost them, so that a host can pass over its own in one step however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::identity::{FileId, HostId};

/// The waiting files. Every operation is O(log n) in the number of files that came back.
#[derive(Debug)]
pub(super) struct FileQueue {
    fresh: Range<u32>,
    returned: BTreeMap<HostId, BTreeSet<FileId>>,
    /// The first file of each host in `returned`.
    heads: BTreeSet<(FileId, HostId)>,
}

impl FileQueue {
    pub(super) fn new(file_count: u32) -> Self {
        FileQueue { fresh: 0..file_count, returned: BTreeMap::new(), heads: BTreeSet::new() }
    }

    /// Puts a file back in its place.
    pub(super) fn put_back(&mut self, file: FileId, lost_by: HostId) {
        let files = self.returned.entry(lost_by).or_default();
        if let Some(head) = files.first() {
            self.heads.remove(&(*head, lost_by));
        }
        files.insert(file);
        let head = files.first().map_or(file, |head| *head);
        self.heads.insert((head, lost_by));
    }

    /// Takes the first file, passing over those that `except` lost.
    pub(super) fn take(&mut self, except: Option<HostId>) -> Option<FileId> {
        let head = self.heads.iter().find(|(_, lost_by)| Some(*lost_by) != except).copied();
        let Some((file, lost_by)) = head else { return self.fresh.next().map(FileId) };
        self.take_head(file, lost_by);
        Some(file)
    }

    fn take_head(&mut self, head: FileId, lost_by: HostId) {
        self.heads.remove(&(head, lost_by));
        if let Some(files) = self.returned.get_mut(&lost_by) {
            files.remove(&head);
            match files.first() {
                Some(next) => _ = self.heads.insert((*next, lost_by)),
                None => _ = self.returned.remove(&lost_by),
            }
        }
    }
}
