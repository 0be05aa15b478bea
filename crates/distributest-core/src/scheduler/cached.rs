//! Keeps back the files that need not be run if a worker says what is expected of it (rules 21 and 22).
//!
//! A *candidate* is a file whose inputs are those of earlier runs in which it passed. Whether the same versions of its
//! framework and interpreter would run it now, only a worker can tell. So it is in neither the queue nor an attempt until the
//! first worker of its launch has said its versions: then one of those passes counts, or the file goes into the queue and is
//! from then on like any other.
//!
//! Workers are started when a file needs them, as far as runners have not started them by themselves. A launch of which
//! nobody has spoken for a while therefore gives one of its candidates up as a *scout*: it is run like any other file.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Scheduler;
use crate::identity::{FileId, LaunchId};
use crate::outcome::NotRunReason;
use crate::scheduler_messages::Command;

/// How long after the first runner was ready a launch whose candidates wait in vain gets a scout.
pub const SCOUT_DELAY: Duration = Duration::from_secs(1);

/// The files that are kept back.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    launches: BTreeMap<LaunchId, KeptBack>,
    /// When the first runner was ready.
    first_ready: Option<Duration>,
}

/// Those of a launch of which no worker has spoken.
#[derive(Debug, Default)]
struct KeptBack {
    /// With the versions that each of them passed with.
    files: BTreeMap<FileId, Vec<String>>,
    /// The one that was given up to have a worker started, until it is decided.
    scout: Option<FileId>,
}

impl Candidates {
    fn launches(&self) -> Vec<LaunchId> {
        self.launches.keys().copied().collect()
    }

    /// When the next scout is due.
    fn due(&self) -> Option<Duration> {
        let waits = self.launches.values().any(|kept| kept.scout.is_none() && !kept.files.is_empty());
        Some(self.first_ready.filter(|_| waits)? + SCOUT_DELAY)
    }

    /// The last file of a launch, which should be the shortest, as its scout.
    fn take_scout(&mut self, launch: LaunchId) -> Option<FileId> {
        let kept = self.launches.get_mut(&launch).filter(|kept| kept.scout.is_none())?;
        let (scout, _) = kept.files.pop_last()?;
        kept.scout = Some(scout);
        Some(scout)
    }

    /// A file has its verdict; another scout may be needed.
    pub(super) fn decided(&mut self, file: FileId, launch: LaunchId) {
        if let Some(kept) = self.launches.get_mut(&launch)
            && kept.scout == Some(file)
        {
            kept.scout = None;
        }
    }
}

impl Scheduler {
    /// The same run, knowing of each file the versions of framework and interpreter with which it passed in earlier runs,
    /// its inputs being what they are now; none for files beyond the end. To be called before [`Scheduler::start`].
    #[must_use]
    pub fn with_passes(mut self, passed_with: Vec<Vec<String>>) -> Self {
        let files = (0..).map(FileId).zip(passed_with).take(self.file_launches.len());
        for (file, versions) in files.filter(|(_, versions)| !versions.is_empty()) {
            let launch = self.launch_of(file);
            self.queue.keep_back(launch, file);
            self.candidates.launches.entry(launch).or_default().files.insert(file, versions);
        }
        self
    }

    /// Files that are kept back: they need not be run if a worker of their launch says the versions that are expected of it.
    pub fn candidates(&self) -> impl Iterator<Item = FileId> {
        self.candidates.launches.values().flat_map(|kept| kept.files.keys().copied())
    }

    /// A runner waits for work, so its first worker has spoken.
    pub(super) fn note_ready_runner(&mut self) {
        self.candidates.first_ready.get_or_insert(self.now);
    }

    /// When a scout is due.
    pub(super) fn next_scout(&self) -> Option<Duration> {
        self.candidates.due()
    }

    /// Puts a scout of each launch into the queue of which nobody has spoken for too long.
    pub(super) fn send_scouts(&mut self) {
        if self.candidates.due().is_none_or(|due| due > self.now) {
            return;
        }
        for launch in self.candidates.launches() {
            if let Some(scout) = self.candidates.take_scout(launch) {
                self.queue.admit(launch, scout);
                self.show_to(scout);
            }
        }
    }

    /// The first worker of a launch has said its versions, or that it does not know them: its candidates are decided, or
    /// like any other file from now on.
    pub(super) fn versions_known(
        &mut self,
        launch: LaunchId,
        versions: Option<&str>,
        commands: &mut Vec<Command>,
    ) {
        let Some(kept) = self.candidates.launches.remove(&launch) else { return };
        for (file, passed_with) in kept.files {
            let pass = passed_with.iter().position(|passed_with| Some(passed_with.as_str()) == versions);
            match pass {
                Some(pass) => {
                    self.undecided -= 1;
                    commands.push(Command::Reuse { file, pass });
                }
                None => {
                    self.queue.admit(launch, file);
                    self.show_to(file);
                }
            }
        }
    }

    /// Decides that what is kept back of a launch is not run.
    pub(super) fn give_up_candidates(
        &mut self,
        launch: LaunchId,
        reason: &NotRunReason,
        commands: &mut Vec<Command>,
    ) {
        let Some(kept) = self.candidates.launches.remove(&launch) else { return };
        for file in kept.files.into_keys() {
            self.decide_without(file, reason.clone(), commands);
        }
    }
}
