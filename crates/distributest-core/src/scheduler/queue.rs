//! Holds the files that wait for a runner, in the order they should be handed out.
//!
//! Each launch has a queue of its own, so that what nobody can run at the moment never stands in the way of the
//! rest. In it, files that came back are kept apart from those that were never handed out, and by the host that lost
//! them, so that a host can pass over its own in one step however many there are.
//!
//! The queue knows how much work it holds, as far as that was predicted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::memory_index::MemoryIndex;
use super::packing::need_of;
use crate::identity::{FileId, HostId, LaunchId};

/// The waiting files. Every operation takes O(log n) in their number.
#[derive(Debug)]
pub(super) struct FileQueue {
    launches: Vec<LaunchQueue>,
    /// How long each file should take; nobody knows of those beyond its end.
    predicted: Vec<Option<Duration>>,
    /// What the waiting files with a prediction should take in all.
    predicted_work: Duration,
    /// How many wait without one.
    unpredicted: u32,
}

/// The first file of a queue, and the host that lost it if one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) file: FileId,
    pub(super) lost_by: Option<HostId>,
}

impl FileQueue {
    /// All files of a run, given the launch of each and how long it should take.
    pub(super) fn new(file_launches: &[LaunchId], predicted: Vec<Option<Duration>>) -> Self {
        let launch_count = file_launches.iter().map(|launch| usize::from(launch.0) + 1).max().unwrap_or(0);
        let mut files = vec![Vec::new(); launch_count];
        for (file, launch) in (0..).map(FileId).zip(file_launches) {
            files[usize::from(launch.0)].push(file);
        }
        let known = predicted.iter().take(file_launches.len()).flatten();
        FileQueue {
            launches: files.into_iter().map(LaunchQueue::new).collect(),
            predicted_work: known.clone().sum(),
            // Files are numbered in 32 bits.
            unpredicted: (file_launches.len() - known.count()) as u32,
            predicted,
        }
    }

    /// How long a file should take, if anybody knows.
    pub(super) fn predicted(&self, file: FileId) -> Option<Duration> {
        self.predicted.get(file.0 as usize).copied().flatten()
    }

    /// What the waiting files should take in all, each of those without a prediction as long as `typical`.
    pub(super) fn work(&self, typical: Duration) -> Duration {
        self.predicted_work + typical * self.unpredicted
    }

    /// How many launches the files belong to.
    pub(super) fn launch_count(&self) -> usize {
        self.launches.len()
    }

    /// The launches that files belong to, those with none waiting among them.
    pub(super) fn launches(&self) -> impl Iterator<Item = LaunchId> + use<> {
        (0..).map(LaunchId).take(self.launches.len())
    }

    /// The first file of a launch, passing over those that `except` lost.
    pub(super) fn first(&self, launch: LaunchId, except: Option<HostId>) -> Option<Waiting> {
        self.launches[usize::from(launch.0)].first(except)
    }

    /// The first file of a launch that came back, passing over those that `except` lost.
    pub(super) fn first_returned(&self, launch: LaunchId, except: Option<HostId>) -> Option<Waiting> {
        self.launches[usize::from(launch.0)].first_returned(except)
    }

    /// The same of those that need no more memory than this. A search among those that `except` lost.
    pub(super) fn first_returned_within(
        &self,
        launch: LaunchId,
        except: Option<HostId>,
        room: u64,
    ) -> Option<Waiting> {
        let queue = &self.launches[usize::from(launch.0)];
        queue.first_returned(except)?;
        let mut from = 0;
        loop {
            let place = queue.needs.as_ref()?.returned.first_within(from, room)?;
            let waiting = queue.returned_at(place)?;
            if waiting.lost_by.is_none() || waiting.lost_by != except {
                return Some(waiting);
            }
            from = place + 1;
        }
    }

    /// From now on files can be asked for by what they need.
    pub(super) fn index_memory(&mut self, needs: &[Option<u64>]) {
        self.launches.iter_mut().for_each(|launch| launch.index_memory(needs));
    }

    /// The first file of a launch that was never handed out and does not need more memory than there is `room` for, if
    /// that is limited.
    pub(super) fn first_fresh(&self, launch: LaunchId, room: Option<u64>) -> Option<Waiting> {
        let queue = &self.launches[usize::from(launch.0)];
        match room {
            None => queue.first_fresh(),
            Some(room) => queue.first_fresh_from(0, room),
        }
    }

    /// Whether any file waits of a launch that needs no more memory than this.
    pub(super) fn has_any_within(&self, launch: LaunchId, room: u64) -> bool {
        let needs = self.launches[usize::from(launch.0)].needs.iter();
        needs
            .flat_map(|needs| [&needs.fresh, &needs.returned])
            .any(|index| index.first_within(0, room).is_some())
    }

    /// The first file of a launch that was never handed out and should take no longer than this; those without a
    /// prediction might take any time. Files are taken to be in the order of their predictions, the longest first. `room` as
    /// in [`FileQueue::first_fresh`].
    pub(super) fn first_fresh_within(
        &self,
        launch: LaunchId,
        limit: Duration,
        room: Option<u64>,
    ) -> Option<Waiting> {
        let queue = &self.launches[usize::from(launch.0)];
        let is_longer = |file: &FileId| self.predicted(*file).is_none_or(|predicted| predicted > limit);
        let place = queue.files.partition_point(is_longer);
        if let Some(room) = room {
            return queue.first_fresh_from(place, room);
        }
        let fitting = queue.files.get(place)?;
        Some(Waiting { file: *queue.fresh.range(fitting..).next()?, lost_by: None })
    }

    /// Takes out a file that [`FileQueue::first`] showed or that was put back.
    pub(super) fn take(&mut self, launch: LaunchId, waiting: Waiting) {
        match self.predicted(waiting.file) {
            Some(predicted) => self.predicted_work -= predicted,
            None => self.unpredicted -= 1,
        }
        self.launches[usize::from(launch.0)].take(waiting);
    }

    /// Takes out a file that is not to be handed out for now.
    pub(super) fn keep_back(&mut self, launch: LaunchId, file: FileId) {
        self.take(launch, Waiting { file, lost_by: None });
    }

    /// Puts a file that was kept back in its place among those that were never handed out.
    pub(super) fn admit(&mut self, launch: LaunchId, file: FileId) {
        self.count_in(file);
        self.launches[usize::from(launch.0)].admit(file);
    }

    /// Puts a file of a launch back in its place; `returned` says who lost it, if a host did.
    pub(super) fn put_back(&mut self, launch: LaunchId, returned: Waiting) {
        self.count_in(returned.file);
        self.launches[usize::from(launch.0)].put_back(returned);
    }

    fn count_in(&mut self, file: FileId) {
        match self.predicted(file) {
            Some(predicted) => self.predicted_work += predicted,
            None => self.unpredicted += 1,
        }
    }
}

/// The waiting files of one launch.
#[derive(Debug)]
struct LaunchQueue {
    /// All of them, in their order.
    files: Vec<FileId>,
    /// Those that were never handed out.
    fresh: BTreeSet<FileId>,
    /// By the host that lost them; those that no host lost have one of their own.
    returned: BTreeMap<Option<HostId>, BTreeSet<FileId>>,
    /// The first file of each host in `returned`.
    heads: BTreeSet<(FileId, Option<HostId>)>,
    /// What those that wait need, once that matters.
    needs: Option<Needs>,
}

/// By the places of files in their launch.
#[derive(Debug)]
struct Needs {
    all: Vec<u64>,
    /// Of those that were never handed out.
    fresh: MemoryIndex,
    /// Of those that came back.
    returned: MemoryIndex,
}

impl LaunchQueue {
    fn new(files: Vec<FileId>) -> Self {
        let fresh = files.iter().copied().collect();
        LaunchQueue { files, fresh, returned: BTreeMap::new(), heads: BTreeSet::new(), needs: None }
    }

    fn first(&self, except: Option<HostId>) -> Option<Waiting> {
        let firsts = [self.first_returned(except), self.first_fresh()];
        firsts.into_iter().flatten().min_by_key(|waiting| waiting.file)
    }

    fn first_returned(&self, except: Option<HostId>) -> Option<Waiting> {
        let head = self.heads.iter().find(|(_, lost_by)| lost_by.is_none() || *lost_by != except);
        head.map(|(file, lost_by)| Waiting { file: *file, lost_by: *lost_by })
    }

    fn first_fresh(&self) -> Option<Waiting> {
        Some(Waiting { file: *self.fresh.first()?, lost_by: None })
    }

    fn index_memory(&mut self, needs: &[Option<u64>]) {
        if self.needs.is_some() {
            return;
        }
        let need = |file: &FileId| need_of(needs, *file);
        let all: Vec<u64> = self.files.iter().map(need).collect();
        let those = |is_meant: &dyn Fn(&FileId) -> bool| {
            let files = self.files.iter().zip(&all);
            MemoryIndex::new(files.map(|(file, need)| Some(*need).filter(|_| is_meant(file))))
        };
        let fresh = those(&|file| self.fresh.contains(file));
        let returned = those(&|file| self.returned.values().any(|files| files.contains(file)));
        self.needs = Some(Needs { all, fresh, returned });
    }

    /// The file at a place, which came back.
    fn returned_at(&self, place: usize) -> Option<Waiting> {
        let file = *self.files.get(place)?;
        let (lost_by, _) = self.returned.iter().find(|(_, files)| files.contains(&file))?;
        Some(Waiting { file, lost_by: *lost_by })
    }

    /// The first from this place on that needs no more than this.
    fn first_fresh_from(&self, place: usize, room: u64) -> Option<Waiting> {
        let fitting = self.needs.as_ref()?.fresh.first_within(place, room)?;
        Some(Waiting { file: *self.files.get(fitting)?, lost_by: None })
    }

    fn take(&mut self, waiting: Waiting) {
        let Waiting { file, lost_by } = waiting;
        if self.fresh.remove(&file) {
            if let (Some(needs), Ok(place)) = (&mut self.needs, self.files.binary_search(&file)) {
                needs.fresh.set(place, None);
            }
            return;
        }
        if let (Some(needs), Ok(place)) = (&mut self.needs, self.files.binary_search(&file)) {
            needs.returned.set(place, None);
        }
        self.heads.remove(&(file, lost_by));
        if let Some(files) = self.returned.get_mut(&lost_by) {
            files.remove(&file);
            match files.first() {
                Some(next) => _ = self.heads.insert((*next, lost_by)),
                None => _ = self.returned.remove(&lost_by),
            }
        }
    }

    fn admit(&mut self, file: FileId) {
        if let (Some(needs), Ok(place)) = (&mut self.needs, self.files.binary_search(&file)) {
            needs.fresh.set(place, Some(needs.all[place]));
        }
        self.fresh.insert(file);
    }

    fn put_back(&mut self, returned: Waiting) {
        let Waiting { file, lost_by } = returned;
        if let (Some(needs), Ok(place)) = (&mut self.needs, self.files.binary_search(&file)) {
            needs.returned.set(place, Some(needs.all[place]));
        }
        let files = self.returned.entry(lost_by).or_default();
        if let Some(head) = files.first() {
            self.heads.remove(&(*head, lost_by));
        }
        files.insert(file);
        let head = files.first().map_or(file, |head| *head);
        self.heads.insert((head, lost_by));
    }
}
