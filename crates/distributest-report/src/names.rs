//! The names behind the indices of a run, remembered from its first event.

use std::sync::Arc;

use distributest_core::identity::{FileId, HostId, RunnerId};
use distributest_core::run_event::{FilePart, FilePlan, HostPlan, RunEvent};

use crate::format::{self, display_path};

/// What [`RunEvent::RunStarted`] said about hosts and files. Every consumer keeps its own, but for the files.
#[derive(Debug, Default)]
pub(crate) struct Names {
    hosts: Vec<HostPlan>,
    files: Arc<[FilePlan]>,
}

impl Names {
    /// Remembers the names if this is the event that carries them.
    pub(crate) fn learn(&mut self, event: &RunEvent) {
        if let RunEvent::RunStarted { hosts, files, .. } = event {
            self.hosts = hosts.clone();
            self.files = Arc::clone(files);
        }
    }

    /// The names of the hosts that the run uses.
    pub(crate) fn hosts_taking_part(&self) -> Vec<&str> {
        self.hosts.iter().filter(|plan| plan.takes_part()).map(|plan| plan.name.as_str()).collect()
    }

    /// How many hosts the run has or, where it continues a former one, has had.
    pub(crate) fn host_count(&self) -> usize {
        self.hosts.len()
    }

    /// How many files the run has.
    pub(crate) fn file_count(&self) -> usize {
        self.files.len()
    }

    /// The name the user gave a host.
    pub(crate) fn host(&self, host: HostId) -> &str {
        self.hosts.get(host.0 as usize).map_or("unknown host", |plan| plan.name.as_str())
    }

    /// A file's path, as planned.
    pub(crate) fn path(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("unknown file", |plan| plan.path.as_str())
    }

    /// A file's path, safe to print on one line, and which part of the file it is.
    pub(crate) fn printable_path(&self, file: FileId) -> String {
        let part = self.part(file).map(format::part);
        display_path(self.path(file)) + &part.unwrap_or_default()
    }

    /// Which part of a file it is that is split by its tests.
    pub(crate) fn part(&self, file: FileId) -> Option<FilePart> {
        self.files.get(file.0 as usize).and_then(|plan| plan.part)
    }

    /// `h1 runner 2`.
    pub(crate) fn runner(&self, runner: RunnerId) -> String {
        format!("{} runner {}", self.host(runner.host), runner.number)
    }
}
