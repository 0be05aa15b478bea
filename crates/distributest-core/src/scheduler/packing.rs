//! Knows how much memory hosts have and files need, and keeps apart what does not fit together (rule 23).
//!
//! A host says how much memory there is for tests, and a file is taken to need as much as it did before; one that nothing
//! is known of needs next to none. A runner needs as much as the one of its attempts that needs most, and what the
//! runners of a host need together must not be more than it has. A file that needs more than that alone runs where
//! nothing else does.
//!
//! On most hosts the files that need most would fit together on all runners. They are *roomy*: nothing is counted there, and
//! nothing is asked for. On any other the first file is taken that fits. What is queued behind another attempt never
//! makes its runner need more.

use std::collections::HashMap;
use std::collections::VecDeque;

use super::queue::Waiting;
use super::{Attempt, Scheduler};
use crate::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};

/// Bytes that any file needs: so little that it does not count, and more than there is left beside one that needs all.
const LEAST_NEED: u64 = 1;

/// What a file should need, by what is known of all.
pub(super) fn need_of(needs: &[Option<u64>], file: FileId) -> u64 {
    needs.get(file.0 as usize).copied().flatten().unwrap_or_default().max(LEAST_NEED)
}

/// What files need and hosts have.
#[derive(Debug)]
pub(super) struct Packing {
    /// Bytes each file should need; nobody knows of those beyond its end.
    needs: Vec<Option<u64>>,
    /// Files of the run.
    file_count: u32,
    /// What files need, the most first; made when it is asked for.
    largest: Option<Vec<u64>>,
    /// By host.
    memory: Vec<Option<u64>>,
    /// Those that are not roomy.
    tight: HashMap<HostId, TightHost>,
}

/// A host whose runners may need more than it has.
#[derive(Debug, Default)]
struct TightHost {
    memory: u64,
    /// What its runners need together.
    needed: u64,
    /// Those that have attempts, with what each of those needs.
    runners: HashMap<RunnerId, VecDeque<(AttemptId, u64)>>,
}

fn need_of_all(attempts: &VecDeque<(AttemptId, u64)>) -> u64 {
    attempts.iter().map(|(_, need)| *need).max().unwrap_or_default()
}

impl Packing {
    /// `needs` may be longer than there are files.
    pub(super) fn new(host_count: u32, mut needs: Vec<Option<u64>>, file_count: usize) -> Self {
        needs.truncate(file_count);
        let file_count = u32::try_from(file_count).unwrap_or(u32::MAX);
        Packing {
            needs,
            file_count,
            largest: None,
            memory: vec![None; host_count as usize],
            tight: HashMap::new(),
        }
    }

    /// What each file needs, as far as that is known.
    pub(super) fn needs(&self) -> &[Option<u64>] {
        &self.needs
    }

    /// A host says how much memory it has for that many runners. Nothing runs there.
    pub(super) fn expect(&mut self, host: HostId, runners: u16, memory: Option<u64>) {
        self.memory[host.0 as usize] = memory;
        self.tight.remove(&host);
        if let Some(memory) = memory.filter(|memory| self.most_needed_by(runners) > *memory) {
            self.tight.insert(host, TightHost { memory, ..TightHost::default() });
        }
    }

    /// What that many runners need at most.
    fn most_needed_by(&mut self, runners: u16) -> u64 {
        let (needs, files) = (&self.needs, (0..self.file_count).map(FileId));
        let largest = self.largest.get_or_insert_with(|| {
            let mut largest: Vec<u64> = files.map(|file| need_of(needs, file)).collect();
            largest.sort_unstable_by(|one, other| other.cmp(one));
            largest.truncate(u16::MAX.into());
            largest
        });
        largest.iter().take(runners.into()).fold(0, |sum, need| sum.saturating_add(*need))
    }

    /// Whether there is a host that is not roomy.
    pub(super) fn is_tight(&self) -> bool {
        !self.tight.is_empty()
    }

    /// How much memory a host has, if it said so.
    pub(super) fn memory(&self, host: HostId) -> Option<u64> {
        self.memory[host.0 as usize]
    }

    /// A runner is given an attempt.
    pub(super) fn occupy(&mut self, runner: RunnerId, attempt: AttemptId, file: FileId) {
        let need = self.need(file);
        if let Some(host) = self.tight.get_mut(&runner.host) {
            host.change(runner, |attempts| attempts.push_back((attempt, need)));
        }
    }

    /// An attempt of a runner is over. Returns whether that matters.
    fn release(&mut self, runner: RunnerId, attempt: AttemptId) -> bool {
        let Some(host) = self.tight.get_mut(&runner.host) else { return false };
        host.change(runner, |attempts| attempts.retain(|(other, _)| *other != attempt));
        true
    }

    fn need(&self, file: FileId) -> u64 {
        need_of(&self.needs, file)
    }

    /// Whether an idle runner of a host could be given a file, as far as memory goes.
    fn has_room_on(&self, host: HostId, file: FileId) -> bool {
        self.tight.get(&host).and_then(TightHost::room).is_none_or(|room| self.need(file) <= room)
    }

    /// How much the next file of a runner may need; `None`: anything.
    pub(super) fn room(&self, runner: RunnerId) -> Option<u64> {
        let host = self.tight.get(&runner.host)?;
        match host.runners.get(&runner) {
            Some(attempts) => Some(need_of_all(attempts)),
            None => host.room(),
        }
    }

    /// Whether a runner may be given a file next, as far as memory goes.
    pub(super) fn has_room(&self, runner: RunnerId, file: FileId) -> bool {
        self.room(runner).is_none_or(|room| self.need(file) <= room)
    }
}

impl TightHost {
    /// How much a file may need that an idle runner is given; `None`: anything.
    fn room(&self) -> Option<u64> {
        (!self.runners.is_empty()).then(|| self.memory.saturating_sub(self.needed))
    }

    fn change(&mut self, runner: RunnerId, change: impl FnOnce(&mut VecDeque<(AttemptId, u64)>)) {
        let attempts = self.runners.entry(runner).or_default();
        let before = need_of_all(attempts);
        change(attempts);
        // No sum of what fits overflows, but of one that does not fit.
        self.needed = self.needed.saturating_sub(before).saturating_add(need_of_all(attempts));
        if attempts.is_empty() {
            self.runners.remove(&runner);
        }
    }
}

/// Where memory is short.
impl Scheduler {
    /// A host says how much memory it has.
    pub(super) fn expect_memory(&mut self, host: HostId, runners: u16, memory: Option<u64>) {
        self.packing.expect(host, runners, memory);
        self.show(host);
        if self.packing.is_tight() {
            self.queue.index_memory(self.packing.needs());
        }
    }

    /// Passes over idle runners from now on that have no room for anything that waits.
    pub(super) fn hide_full_hosts(&mut self) {
        if !self.packing.is_tight() {
            return;
        }
        for launch in self.queue.launches() {
            while self.queue.first(launch, None).is_some()
                && let Some(first) = self.fleet.idle_runner(launch, None)
                && let Some(room) = self.packing.room(first)
                && !self.queue.has_any_within(launch, room)
            {
                self.fleet.hide(first.host, launch);
            }
        }
    }

    /// Where nothing waits, idle runners may be wanted for something else.
    pub(super) fn show_where_nothing_waits(&mut self) {
        if !self.packing.is_tight() {
            return;
        }
        for launch in self.queue.launches() {
            if self.queue.first(launch, None).is_none() {
                let hidden: Vec<HostId> = self.fleet.hidden(launch).collect();
                hidden.into_iter().for_each(|host| self.fleet.show(host, launch));
            }
        }
    }

    /// There may be room on a host again.
    fn show(&mut self, host: HostId) {
        for launch in self.queue.launches() {
            self.fleet.show(host, launch);
        }
    }

    /// An attempt of a runner is over.
    pub(super) fn make_room(&mut self, runner: RunnerId, attempt: AttemptId) {
        if self.packing.release(runner, attempt) {
            self.show(runner.host);
        }
    }

    /// A file waits that some of the full hosts may have room for.
    pub(super) fn show_to(&mut self, file: FileId) {
        let launch = self.launch_of(file);
        let has_room = |host: &HostId| self.packing.has_room_on(*host, file);
        let hosts: Vec<HostId> = self.fleet.hidden(launch).filter(has_room).collect();
        hosts.into_iter().for_each(|host| self.fleet.show(host, launch));
    }

    /// The first file of a launch that an idle runner has room for, and the first such runner. It takes time with the
    /// number of hosts that are idle, but not when the first of them may have the first file.
    pub(super) fn match_with_room(&self, launch: LaunchId) -> Option<(Waiting, RunnerId)> {
        let very_first = self.queue.first(launch, None)?;
        let mut best: Option<(Waiting, RunnerId)> = None;
        for runner in self.fleet.idle_hosts(launch) {
            let fresh = self.fresh_for(launch, runner);
            let lost_here = Some(runner.host).filter(|_| self.fleet.has_hope_for_besides_one_host(launch));
            let returned = self.first_returned_for(launch, runner, lost_here);
            let firsts = [returned, fresh].into_iter().flatten().map(|waiting| (waiting, runner));
            best = best.into_iter().chain(firsts).min_by_key(|(waiting, _)| waiting.file);
            if best.is_some_and(|(waiting, _)| waiting == very_first) {
                break;
            }
        }
        best
    }

    /// The first file of a launch that a runner has room for, passing over those that `except` lost.
    pub(super) fn first_for(
        &self,
        launch: LaunchId,
        runner: RunnerId,
        except: Option<HostId>,
    ) -> Option<Waiting> {
        let fresh = self.queue.first_fresh(launch, self.packing.room(runner));
        let firsts = [self.first_returned_for(launch, runner, except), fresh];
        firsts.into_iter().flatten().min_by_key(|waiting| waiting.file)
    }

    /// The same of those that came back.
    fn first_returned_for(
        &self,
        launch: LaunchId,
        runner: RunnerId,
        except: Option<HostId>,
    ) -> Option<Waiting> {
        match self.packing.room(runner) {
            None => self.queue.first_returned(launch, except),
            Some(room) => self.queue.first_returned_within(launch, except, room),
        }
    }

    /// The first idle runner outside of a host that has room for a file of a launch.
    pub(super) fn idle_runner_for(
        &self,
        launch: LaunchId,
        except: Option<HostId>,
        file: FileId,
    ) -> Option<RunnerId> {
        if !self.packing.is_tight() {
            return self.fleet.idle_runner(launch, except);
        }
        let elsewhere = self.fleet.idle_hosts(launch).filter(|runner| Some(runner.host) != except);
        elsewhere.into_iter().find(|runner| self.packing.has_room(*runner, file))
    }

    /// Whether an attempt that waits behind others would find room at a runner that is idle.
    pub(super) fn has_room_elsewhere(&self, id: AttemptId) -> bool {
        let Some(Attempt { file, .. }) = self.attempts.get(&id) else { return false };
        !self.packing.is_tight() || self.idle_runner_for(self.launch_of(*file), None, *file).is_some()
    }
}
