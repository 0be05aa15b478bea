//! Runs files alone that the kernel killed for lack of memory (rule 24).
//!
//! What was killed together with others may well fit alone. Such a file waits beside the queue, and the host with the most
//! memory is *reserved* for it: it is given nothing, what waits there behind others is taken back, and once nothing runs
//! there any more the file does, and nothing beside it until it is over. One file at a time has a host reserved for it; a host
//! that is fenced or doubted is only taken for want of others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::fleet::Pause;
use super::{Role, Scheduler};
use crate::identity::{AttemptId, FileId, HostId, LaunchId};
use crate::outcome::NotRunReason;
use crate::scheduler_messages::Command;

/// The files that run alone: usually none.
#[derive(Debug, Default)]
pub(super) struct Alone {
    /// Those that are not decided.
    files: BTreeSet<FileId>,
    /// Those of them that wait for a host.
    waiting: BTreeSet<FileId>,
    /// Attempts at them that are not over, and where.
    running: BTreeMap<AttemptId, HostId>,
    /// Hosts that are given nothing else.
    reserved: BTreeSet<HostId>,
}

impl Alone {
    /// From now on a file runs alone.
    pub(super) fn add(&mut self, file: FileId) {
        self.files.insert(file);
    }

    pub(super) fn has(&self, file: FileId) -> bool {
        self.files.contains(&file)
    }

    /// A file waits for a host, if it is one of those that run alone.
    pub(super) fn wait(&mut self, file: FileId) -> bool {
        self.has(file) && self.waiting.insert(file)
    }

    /// A file does not wait any more; whether it did.
    pub(super) fn wait_no_more(&mut self, file: FileId) -> bool {
        self.waiting.remove(&file)
    }

    pub(super) fn is_any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A file has an attempt on a host.
    pub(super) fn begin(&mut self, attempt: AttemptId, file: FileId, host: HostId) {
        if self.has(file) {
            self.running.insert(attempt, host);
        }
    }

    /// An attempt is over.
    pub(super) fn end(&mut self, attempt: AttemptId) {
        self.running.remove(&attempt);
    }

    /// A file is decided.
    pub(super) fn decided(&mut self, file: FileId) {
        self.files.remove(&file);
    }
}

impl Scheduler {
    /// Reserves hosts for files that run alone, and gives them those once they have nothing else.
    pub(super) fn run_alone(&mut self, commands: &mut Vec<Command>) {
        if self.alone.files.is_empty() && self.alone.reserved.is_empty() {
            return;
        }
        // With one of them at work there may be a host for the next one.
        while self.run_next_alone(commands) {}
    }

    /// Returns whether one was given away.
    fn run_next_alone(&mut self, commands: &mut Vec<Command>) -> bool {
        let next = self.next_alone();
        let running = self.alone.running.values().copied();
        let wanted: BTreeSet<HostId> = running.chain(next.map(|(_, host)| host)).collect();
        let reserved = std::mem::replace(&mut self.alone.reserved, wanted.clone());
        for host in reserved.difference(&wanted) {
            self.fleet.resume(*host, Pause::Reserved);
            commands.push(Command::Release { host: *host });
        }
        if let Some((file, host)) = next.filter(|(_, host)| !reserved.contains(host)) {
            self.fleet.pause(host, Pause::Reserved);
            commands.push(Command::Reserve { host, file });
            self.withdraw_all(host, commands);
        }
        if let Some((file, host)) = next.filter(|(_, host)| self.fleet.attempts_on(*host).is_empty())
            && let Some(runner) = self.fleet.idle_runner_of(host, self.launch_of(file))
        {
            self.alone.wait_no_more(file);
            self.dispatch(file, runner, Role::Counts, commands);
            return true;
        }
        false
    }

    /// The first file that waits for a host, of those for which there is one.
    fn next_alone(&self) -> Option<(FileId, HostId)> {
        let mut waiting = self.alone.waiting.iter();
        waiting.find_map(|file| Some((*file, self.roomiest(self.launch_of(*file))?)))
    }

    /// The host with the most memory that is there, heard and has runners for a launch.
    fn roomiest(&self, launch: LaunchId) -> Option<HostId> {
        let is_last = |host: HostId| !self.fleet.has_unfenced_hope_elsewhere(launch, host);
        let heard =
            self.fleet.hosts_present(launch).filter(|host| !self.fleet.is_paused_for(*host, Pause::Silent));
        let trusted = heard.filter(|host| !self.trust.is_fenced(*host) || is_last(*host));
        trusted.min_by_key(|host| {
            let is_doubted = self.fleet.is_paused_for(*host, Pause::Doubted);
            (self.trust.is_fenced(*host), is_doubted, Reverse(self.packing.memory(*host)), *host)
        })
    }

    /// Decides that those of a launch that wait for a host are not run.
    pub(super) fn give_up_alone(
        &mut self,
        launch: LaunchId,
        reason: &NotRunReason,
        commands: &mut Vec<Command>,
    ) {
        let waiting = self.alone.waiting.iter().copied().filter(|file| self.launch_of(*file) == launch);
        for file in waiting.collect::<Vec<_>>() {
            self.alone.wait_no_more(file);
            self.decide_without(file, reason.clone(), commands);
        }
    }
}
