//! What the model knows of memory: what fits together, and what runs alone.

use std::collections::BTreeMap;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};

use super::{Host, LiveAttempt, Model, Role, Runner};

impl Model {
    /// What must hold between events.
    pub(super) fn check_memory(&self) {
        for host in self.hosts_expected() {
            // What is cancelled is as good as over.
            let needs = self.needs_on(host, |live| live.role != Role::Superseded);
            let needed: u64 = needs.values().sum();
            let fits = self.memory.get(&host).is_none_or(|memory| needed <= *memory);
            assert!(
                fits || needs.len() < 2,
                "what does not fit together does not run together: {host:?} {needs:?}"
            );
        }
        let is_lonely = |file: FileId| self.files[file.0 as usize].is_lonely;
        let anybody_waits = self.waiting().into_iter().any(is_lonely);
        for host in &self.reserved {
            let mut here = self.attempts.values().filter(|live| live.runner.host == *host);
            let runs_alone = here.any(|live| is_lonely(live.file));
            assert!(anybody_waits || runs_alone, "a host is reserved for somebody: {host:?}");
        }
        for live in self.attempts.values().filter(|live| is_lonely(live.file) && live.is_for(live.file)) {
            let here = self.attempts.values().filter(|other| other.runner.host == live.runner.host);
            assert_eq!(here.count(), 1, "what is to run alone does: {:?}", live.file);
        }
    }

    /// A file that there was no memory for goes to a host.
    pub(super) fn observe_lonely(&mut self, attempt: AttemptId, file: FileId, runner: RunnerId) {
        assert_eq!(self.runner(runner), Some(Runner::Idle), "it takes the place of nothing: {runner:?}");
        assert!(self.is_waiting(file), "it has one live attempt at most on hosts that are heard: {file:?}");
        assert!(self.reserved.contains(&runner.host), "a host is reserved for it: {runner:?}");
        assert!(!self.silent.contains(&runner.host), "a silent host is given nothing");
        assert!(self.is_able(runner, file), "no file goes to a runner that said it can't run it: {runner:?}");
        let launch = self.files[file.0 as usize].launch;
        if self.fenced.contains(&runner.host) {
            let others = self.unfenced_hosts_for(launch).into_iter().filter(|host| *host != runner.host);
            assert_eq!(others.count(), 0, "a fenced host is given what nobody else is left to run");
        } else if !self.doubted.contains(&runner.host) {
            let memory = |host: &HostId| self.memory.get(host);
            let is_better = |host: &HostId| {
                let is_out = [&self.silent, &self.fenced, &self.doubted].iter().any(|out| out.contains(host));
                let is_there = matches!(self.hosts[host.0 as usize], Host::Present(_));
                is_there && !is_out && memory(host) > memory(&runner.host)
            };
            let better = self.hosts_for(launch).into_iter().find(is_better);
            assert_eq!(better, None, "it runs where the most memory is: {file:?}");
        }
        self.files[file.0 as usize].dispatches += 1;
        self.give(attempt, file, runner, Role::Counts);
    }

    /// Whether a runner has room for a file.
    pub(super) fn fits(&self, file: FileId, runner: RunnerId) -> bool {
        let needs = self.needs_on(runner.host, |_| true);
        if !self.is_tight(runner.host) || needs.is_empty() {
            return true;
        }
        let need = self.needs[file.0 as usize];
        match needs.get(&runner) {
            Some(at_work) => need <= *at_work,
            None => {
                let left = self.memory[&runner.host].saturating_sub(needs.values().sum());
                need <= left
            }
        }
    }

    /// Whether some files that might come to run there at the same time would not fit together.
    pub(super) fn is_tight(&self, host: HostId) -> bool {
        let Some(memory) = self.memory.get(&host) else { return false };
        let Host::Present(runners) = &self.hosts[host.0 as usize] else { return false };
        let mut needs = self.needs.clone();
        needs.sort_unstable();
        needs.iter().rev().take(runners.len()).sum::<u64>() > *memory
    }

    pub(super) fn hosts_expected(&self) -> impl Iterator<Item = HostId> {
        (0..self.hosts.len() as u32).map(HostId)
    }

    /// What each runner of a host needs that has attempts: as much as the one that needs most.
    fn needs_on(&self, host: HostId, counts: impl Fn(&LiveAttempt) -> bool) -> BTreeMap<RunnerId, u64> {
        let mut needs = BTreeMap::new();
        for live in self.attempts.values().filter(|live| live.runner.host == host && counts(live)) {
            let need: &mut u64 = needs.entry(live.runner).or_default();
            *need = self.needs[live.file.0 as usize].max(*need);
        }
        needs
    }
}
