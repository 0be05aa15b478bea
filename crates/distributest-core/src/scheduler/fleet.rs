//! Knows every host and runner of a run: who may still come, who is idle, who is busy with what, who is gone, and
//! who can run what.
//!
//! A host goes from *awaited* to *present* to *lost*, a runner from *awaited* through *idle* and *busy* to
//! *lost*; of a lost host or runner nobody comes back. A busy runner is at work on the first of its attempts, and the
//! others wait there. A host that is *away* has lost its runners and is awaited
//! again. A host whose runners are all lost is lost itself. A runner that says that it can't run a launch never can.
//! Anything that does not fit is ignored: it is late.
//!
//! A host may be *paused*, because it is silent, fenced, doubted or reserved: it is given nothing, and what waits does not wait for it
//! as long as another host may run it.
//!
//! Each launch has its own view of the fleet, its [`Crew`]: the runners that can run it and wait for work, and how
//! many hosts have or may still bring one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::identity::{AttemptId, HostId, LaunchId, RunnerId};

/// How many hosts' reasons are kept to explain why nobody is left.
const REASONS_LIMIT: usize = 3;

#[derive(Debug)]
pub(super) struct Fleet {
    hosts: Vec<Host>,
    /// The place of each host in the order in which their idle runners are given work.
    ranks: Vec<u32>,
    hosts_left: usize,
    /// Runners that are or may still come of the hosts that are there.
    runners_left: u32,
    hosts_present: u32,
    /// By launch.
    crews: Vec<Crew>,
    /// What runners said that they can't run.
    unable: BTreeSet<(RunnerId, LaunchId)>,
    /// Why hosts are paused; a host may be for more than one reason.
    paused: BTreeSet<(HostId, Pause)>,
}

/// Why a host is given nothing for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pause {
    /// Nothing is heard from it.
    Silent,
    /// What it fails passes elsewhere.
    Fenced,
    /// It fails everything, and nobody knows whether others do too: it is given one file now and then.
    Doubted,
    /// A file is to run there alone.
    Reserved,
}

#[derive(Debug)]
enum Host {
    Awaited,
    Present {
        runners: Vec<Runner>,
        runners_left: u16,
        /// How many of those can run each launch.
        able: Vec<u16>,
    },
    Lost,
}

#[derive(Clone, Debug)]
enum Runner {
    Awaited,
    Idle,
    /// Its attempts, in the order it makes them.
    Busy(VecDeque<AttemptId>),
    Lost,
}

/// Those who can run a launch.
#[derive(Clone, Debug, Default)]
struct Crew {
    /// The numbers of those that are idle, by the ranks of their hosts and their hosts. No host has none.
    idle: BTreeMap<(u32, HostId), BTreeSet<u16>>,
    idle_count: usize,
    /// The same of hosts where nothing fits that waits.
    full: BTreeMap<HostId, BTreeSet<u16>>,
    /// Hosts that have or may still bring a runner that can run it.
    hosts_left: usize,
    /// Those of them that are paused.
    hosts_paused: usize,
    /// Why the first hosts can't, each reason once.
    reasons: Vec<String>,
}

impl Crew {
    /// Those that are not paused.
    fn hosts_at_work(&self) -> usize {
        self.hosts_left - self.hosts_paused
    }

    fn join(&mut self, rank: u32, runner: RunnerId) {
        if let Some(numbers) = self.full.get_mut(&runner.host) {
            numbers.insert(runner.number);
        } else {
            let numbers = self.idle.entry((rank, runner.host)).or_default();
            self.idle_count += usize::from(numbers.insert(runner.number));
        }
    }

    fn leave(&mut self, rank: u32, runner: RunnerId) {
        if let Some(numbers) = self.full.get_mut(&runner.host) {
            numbers.remove(&runner.number);
        } else if let Entry::Occupied(mut numbers) = self.idle.entry((rank, runner.host)) {
            self.idle_count -= usize::from(numbers.get_mut().remove(&runner.number));
            if numbers.get().is_empty() {
                numbers.remove();
            }
        }
    }

    fn hide(&mut self, rank: u32, host: HostId) {
        let numbers = self.idle.remove(&(rank, host)).unwrap_or_default();
        self.idle_count -= numbers.len();
        self.full.entry(host).or_default().extend(numbers);
    }

    fn show(&mut self, rank: u32, host: HostId) {
        if let Some(numbers) = self.full.remove(&host).filter(|numbers| !numbers.is_empty()) {
            self.idle_count += numbers.len();
            self.idle.insert((rank, host), numbers);
        }
    }

    fn lose_host(&mut self, is_paused: bool, reason: &str) {
        self.hosts_left -= 1;
        self.hosts_paused -= usize::from(is_paused);
        if self.reasons.len() < REASONS_LIMIT && !self.reasons.iter().any(|known| known == reason) {
            self.reasons.push(reason.to_owned());
        }
    }
}

impl Fleet {
    /// A host for each rank.
    pub(super) fn new(ranks: Vec<u32>, launch_count: usize) -> Self {
        let hosts: Vec<Host> = ranks.iter().map(|_| Host::Awaited).collect();
        let crew = Crew { hosts_left: hosts.len(), ..Crew::default() };
        let crews = vec![crew; launch_count];
        Fleet {
            hosts_left: hosts.len(),
            hosts,
            ranks,
            runners_left: 0,
            hosts_present: 0,
            crews,
            unable: BTreeSet::new(),
            paused: BTreeSet::new(),
        }
    }

    /// Whether a runner is there or may still come, whatever it can run.
    pub(super) fn has_hope(&self) -> bool {
        self.hosts_left > 0
    }

    /// Whether a runner that can run a launch is there or may still come.
    pub(super) fn has_hope_for(&self, launch: LaunchId) -> bool {
        self.crew(launch).hosts_left > 0
    }

    /// Whether hosts other than this one, which has an idle runner for the launch, have or may bring one without being
    /// paused.
    pub(super) fn has_hope_for_besides_one_host(&self, launch: LaunchId) -> bool {
        self.crew(launch).hosts_at_work() > 1
    }

    /// Whether a host other than this one has or may still bring a runner for the launch, and is not paused.
    pub(super) fn has_hope_elsewhere(&self, launch: LaunchId, host: HostId) -> bool {
        let is_here = self.may_bring(host, launch) && !self.is_paused(host);
        self.crew(launch).hosts_at_work() > usize::from(is_here)
    }

    /// Whether a host other than this one has or may bring a runner for the launch, and is not fenced; one that is silent
    /// now may be heard again. A search.
    pub(super) fn has_unfenced_hope_elsewhere(&self, launch: LaunchId, host: HostId) -> bool {
        let hosts = (0..).map(HostId).take(self.hosts.len());
        let mut others = hosts.filter(|other| *other != host && !self.is_paused_for(*other, Pause::Fenced));
        others.any(|other| self.may_bring(other, launch))
    }

    /// Whether a host has or may still bring a runner for the launch, paused or not.
    pub(super) fn may_bring(&self, host: HostId, launch: LaunchId) -> bool {
        match self.hosts.get(host.0 as usize) {
            Some(Host::Awaited) => true,
            Some(Host::Present { able, .. }) => able[usize::from(launch.0)] > 0,
            Some(Host::Lost) | None => false,
        }
    }

    /// What became of the hosts, once none of them can run a launch any more.
    pub(super) fn why_no_hope_for(&self, launch: LaunchId) -> String {
        if self.hosts.is_empty() {
            return "no host takes part".to_owned();
        }
        self.crew(launch).reasons.join("; ")
    }

    /// The first idle runner that can run a launch; with `except`, the first one elsewhere.
    pub(super) fn idle_runner(&self, launch: LaunchId, except: Option<HostId>) -> Option<RunnerId> {
        self.idle_hosts(launch).find(|runner| Some(runner.host) != except)
    }

    /// The first idle runner of each host that has one for a launch.
    pub(super) fn idle_hosts(&self, launch: LaunchId) -> impl Iterator<Item = RunnerId> {
        let idle = self.crew(launch).idle.iter();
        idle.filter_map(|((_, host), numbers)| Some(RunnerId { host: *host, number: *numbers.first()? }))
    }

    /// Nothing that waits of a launch fits on a host: its idle runners are none until it is shown again.
    pub(super) fn hide(&mut self, host: HostId, launch: LaunchId) {
        self.crews[usize::from(launch.0)].hide(self.ranks[host.0 as usize], host);
    }

    /// Something may fit on a host again.
    pub(super) fn show(&mut self, host: HostId, launch: LaunchId) {
        self.crews[usize::from(launch.0)].show(self.ranks[host.0 as usize], host);
    }

    /// The hosts that are hidden.
    pub(super) fn hidden(&self, launch: LaunchId) -> impl Iterator<Item = HostId> {
        self.crew(launch).full.keys().copied()
    }

    /// The first idle runner of a host that can run a launch, even if the host is paused. A search.
    pub(super) fn idle_runner_of(&self, host: HostId, launch: LaunchId) -> Option<RunnerId> {
        self.idle_runners_of(host).into_iter().find(|runner| self.is_able(*runner, launch))
    }

    /// How many idle runners can run a launch.
    pub(super) fn idle_count(&self, launch: LaunchId) -> usize {
        self.crew(launch).idle_count
    }

    /// How many runners there may be once every host is there, each of those that are awaited having as many as the others
    /// have on average.
    pub(super) fn runners_hoped_for(&self) -> u32 {
        // Hosts are numbered in 32 bits.
        let hosts = self.hosts_left as u32;
        self.runners_left.saturating_mul(hosts) / self.hosts_present.max(1)
    }

    /// The hosts that may be given files of a launch, now or later.
    pub(super) fn rivals(&self, launch: LaunchId) -> impl Iterator<Item = HostId> {
        let hosts = (0..).map(HostId).take(self.hosts.len());
        hosts.filter(move |host| self.may_bring(*host, launch) && !self.is_paused(*host))
    }

    /// How many runners each host has that is not paused; one that is awaited, as many as the others have on average.
    pub(super) fn runners_by_host(&self) -> impl Iterator<Item = (HostId, u32)> {
        let average = self.runners_left / self.hosts_present.max(1);
        let left = (0..).map(HostId).zip(&self.hosts).filter_map(move |(host, state)| match state {
            Host::Present { runners_left, .. } => Some((host, u32::from(*runners_left))),
            Host::Awaited => Some((host, average)),
            Host::Lost => None,
        });
        left.filter(|(host, _)| !self.is_paused(*host))
    }

    /// The hosts that are there and have or may bring a runner for a launch, paused or not.
    pub(super) fn hosts_present(&self, launch: LaunchId) -> impl Iterator<Item = HostId> {
        let hosts = (0..).map(HostId).zip(&self.hosts);
        let present = hosts.filter(|(_, state)| matches!(state, Host::Present { .. })).map(|(host, _)| host);
        present.filter(move |host| self.may_bring(*host, launch))
    }

    /// The attempts of a runner, in the order it makes them; none when it is not busy.
    pub(super) fn attempts_of(&self, runner: RunnerId) -> Option<&VecDeque<AttemptId>> {
        let Some(Host::Present { runners, .. }) = self.hosts.get(runner.host.0 as usize) else { return None };
        match runners.get(usize::from(runner.number).checked_sub(1)?)? {
            Runner::Busy(attempts) => Some(attempts),
            Runner::Awaited | Runner::Idle | Runner::Lost => None,
        }
    }

    /// The attempts on a host, in the order of its runners. A search.
    pub(super) fn attempts_on(&self, host: HostId) -> Vec<AttemptId> {
        let Some(Host::Present { runners, .. }) = self.hosts.get(host.0 as usize) else { return Vec::new() };
        let attempts = |runner: &Runner| match runner {
            Runner::Busy(attempts) => attempts.clone(),
            Runner::Awaited | Runner::Idle | Runner::Lost => VecDeque::new(),
        };
        runners.iter().flat_map(attempts).collect()
    }

    /// Whether a host is there or may still come.
    pub(super) fn is_left(&self, host: HostId) -> bool {
        matches!(self.hosts.get(host.0 as usize), Some(Host::Awaited | Host::Present { .. }))
    }

    /// Whether a host is given nothing, for whatever reason.
    pub(super) fn is_paused(&self, host: HostId) -> bool {
        [Pause::Silent, Pause::Fenced, Pause::Doubted, Pause::Reserved]
            .into_iter()
            .any(|pause| self.is_paused_for(host, pause))
    }

    /// Whether a host is given nothing for this reason.
    pub(super) fn is_paused_for(&self, host: HostId, pause: Pause) -> bool {
        self.paused.contains(&(host, pause))
    }

    /// The hosts that are given nothing for this reason.
    pub(super) fn paused_for(&self, pause: Pause) -> Vec<HostId> {
        self.paused.iter().filter(|(_, why)| *why == pause).map(|(host, _)| *host).collect()
    }

    /// A host is given nothing for now.
    pub(super) fn pause(&mut self, host: HostId, pause: Pause) {
        let was_paused = self.is_paused(host);
        if !self.is_left(host) || !self.paused.insert((host, pause)) || was_paused {
            return;
        }
        for launch in self.launches() {
            if self.may_bring(host, launch) {
                self.crews[usize::from(launch.0)].hosts_paused += 1;
            }
        }
        for runner in self.idle_runners_of(host) {
            self.leave_crews(runner);
        }
    }

    /// A reason to give a host nothing is gone.
    pub(super) fn resume(&mut self, host: HostId, pause: Pause) {
        if !self.paused.remove(&(host, pause)) || self.is_paused(host) {
            return;
        }
        for launch in self.launches() {
            if self.may_bring(host, launch) {
                self.crews[usize::from(launch.0)].hosts_paused -= 1;
            }
        }
        for runner in self.idle_runners_of(host) {
            self.join_crews(runner);
        }
    }

    /// A host has lost its runners and is awaited again. Returns the attempts it takes with it, as
    /// [`Fleet::lose_host`] does.
    pub(super) fn send_away(&mut self, host: HostId) -> Vec<AttemptId> {
        if !matches!(self.hosts.get(host.0 as usize), Some(Host::Present { .. })) {
            return Vec::new();
        }
        self.resume(host, Pause::Silent);
        let is_paused = self.is_paused(host);
        for launch in self.launches() {
            if !self.may_bring(host, launch) {
                let crew = &mut self.crews[usize::from(launch.0)];
                crew.hosts_left += 1;
                crew.hosts_paused += usize::from(is_paused);
            }
        }
        let first = RunnerId { host, number: 0 };
        let next = RunnerId { host: HostId(host.0 + 1), number: 0 };
        let can_now: Vec<_> = self.unable.range((first, LaunchId(0))..(next, LaunchId(0))).copied().collect();
        for unable in can_now {
            self.unable.remove(&unable);
        }
        let attempts = self.attempts_on(host);
        for runner in self.idle_runners_of(host) {
            self.leave_crews(runner);
        }
        if let Host::Present { runners_left, .. } = &self.hosts[host.0 as usize] {
            self.runners_left -= u32::from(*runners_left);
            self.hosts_present -= 1;
        }
        self.hosts[host.0 as usize] = Host::Awaited;
        attempts
    }

    fn idle_runners_of(&self, host: HostId) -> Vec<RunnerId> {
        let Some(Host::Present { runners, .. }) = self.hosts.get(host.0 as usize) else { return Vec::new() };
        let named = (1..).zip(runners).map(|(number, state)| (RunnerId { host, number }, state));
        named.filter(|(_, state)| matches!(state, Runner::Idle)).map(|(runner, _)| runner).collect()
    }

    /// Whether a runner has not said that it can't run a launch.
    pub(super) fn is_able(&self, runner: RunnerId, launch: LaunchId) -> bool {
        !self.unable.contains(&(runner, launch))
    }

    /// A host says how many runners it will have. Returns whether it was awaited.
    pub(super) fn expect(&mut self, host: HostId, runners: u16) -> bool {
        let Some(awaited @ Host::Awaited) = self.hosts.get_mut(host.0 as usize) else { return false };
        if runners == 0 {
            self.lose_host(host, "it has no runners");
            return true;
        }
        *awaited = Host::Present {
            runners: vec![Runner::Awaited; usize::from(runners)],
            runners_left: runners,
            able: vec![runners; self.crews.len()],
        };
        self.runners_left += u32::from(runners);
        self.hosts_present += 1;
        true
    }

    /// An awaited runner is there.
    pub(super) fn ready(&mut self, runner: RunnerId) {
        if let Some(state @ Runner::Awaited) = self.runner_mut(runner) {
            *state = Runner::Idle;
            self.join_crews(runner);
        }
    }

    /// A runner is given an attempt: an idle one begins with it, a busy one makes it after those it has.
    pub(super) fn occupy(&mut self, runner: RunnerId, attempt: AttemptId) {
        match self.runner_mut(runner) {
            Some(state @ Runner::Idle) => {
                *state = Runner::Busy(VecDeque::from([attempt]));
                self.leave_crews(runner);
            }
            Some(Runner::Busy(attempts)) => attempts.push_back(attempt),
            Some(Runner::Awaited | Runner::Lost) | None => {}
        }
    }

    /// An attempt of a busy runner is over. Returns the one it begins with by that, if any.
    pub(super) fn release(&mut self, runner: RunnerId, attempt: AttemptId) -> Option<AttemptId> {
        let state = self.runner_mut(runner)?;
        let Runner::Busy(attempts) = state else { return None };
        let place = attempts.iter().position(|other| *other == attempt)?;
        attempts.remove(place);
        match attempts.front() {
            Some(next) => (place == 0).then_some(*next),
            None => {
                *state = Runner::Idle;
                self.join_crews(runner);
                None
            }
        }
    }

    /// A runner that is not lost can't run a launch, and never will.
    pub(super) fn exclude(&mut self, runner: RunnerId, launch: LaunchId, reason: &str) {
        let is_launch = usize::from(launch.0) < self.crews.len();
        let is_there = self.runner_mut(runner).is_some_and(|state| !matches!(state, Runner::Lost));
        if !is_launch || !is_there || !self.unable.insert((runner, launch)) {
            return;
        }
        self.crews[usize::from(launch.0)].leave(self.ranks[runner.host.0 as usize], runner);
        self.count_out(runner.host, launch, reason);
    }

    /// A runner is gone. Returns the attempts it takes with it, in their order.
    pub(super) fn lose_runner(&mut self, runner: RunnerId, reason: &str) -> VecDeque<AttemptId> {
        let Some(state) = self.runner_mut(runner) else { return VecDeque::new() };
        let before = std::mem::replace(state, Runner::Lost);
        if matches!(before, Runner::Lost) {
            return VecDeque::new();
        }
        self.leave_crews(runner);
        for launch in self.launches() {
            if self.is_able(runner, launch) {
                self.count_out(runner.host, launch, reason);
            }
        }
        if let Host::Present { runners_left, .. } = &mut self.hosts[runner.host.0 as usize] {
            *runners_left -= 1;
            self.runners_left -= 1;
            if *runners_left == 0 {
                self.lose_host(runner.host, reason);
            }
        }
        match before {
            Runner::Busy(attempts) => attempts,
            Runner::Awaited | Runner::Idle | Runner::Lost => VecDeque::new(),
        }
    }

    /// A host is gone. Returns the attempts it takes with it, in the order of its runners.
    pub(super) fn lose_host(&mut self, host: HostId, reason: &str) -> Vec<AttemptId> {
        let Some(state) = self.hosts.get_mut(host.0 as usize) else { return Vec::new() };
        let before = std::mem::replace(state, Host::Lost);
        let (runners, able) = match before {
            Host::Lost => return Vec::new(),
            Host::Awaited => (Vec::new(), None),
            Host::Present { runners, runners_left, able } => {
                self.runners_left -= u32::from(runners_left);
                self.hosts_present -= 1;
                (runners, Some(able))
            }
        };
        self.hosts_left -= 1;
        let is_paused = self.is_paused(host);
        for (index, crew) in self.crews.iter_mut().enumerate() {
            if able.as_ref().is_none_or(|able| able[index] > 0) {
                crew.lose_host(is_paused, reason);
            }
        }
        self.paused.retain(|(paused, _)| *paused != host);
        let mut attempts = Vec::new();
        for (number, runner) in (1..).zip(runners) {
            match runner {
                Runner::Idle => self.leave_crews(RunnerId { host, number }),
                Runner::Busy(its) => attempts.extend(its),
                Runner::Awaited | Runner::Lost => {}
            }
        }
        attempts
    }

    /// A host has one runner less that can run a launch.
    fn count_out(&mut self, host: HostId, launch: LaunchId, reason: &str) {
        let is_paused = self.is_paused(host);
        let Host::Present { able, .. } = &mut self.hosts[host.0 as usize] else { return };
        let able = &mut able[usize::from(launch.0)];
        *able -= 1;
        if *able == 0 {
            self.crews[usize::from(launch.0)].lose_host(is_paused, reason);
        }
    }

    fn join_crews(&mut self, runner: RunnerId) {
        if self.is_paused(runner.host) {
            return;
        }
        for launch in self.launches() {
            if self.is_able(runner, launch) {
                self.crews[usize::from(launch.0)].join(self.ranks[runner.host.0 as usize], runner);
            }
        }
    }

    fn leave_crews(&mut self, runner: RunnerId) {
        let Some(rank) = self.ranks.get(runner.host.0 as usize) else { return };
        for crew in &mut self.crews {
            crew.leave(*rank, runner);
        }
    }

    fn launches(&self) -> impl Iterator<Item = LaunchId> + use<> {
        (0..).map(LaunchId).take(self.crews.len())
    }

    fn crew(&self, launch: LaunchId) -> &Crew {
        &self.crews[usize::from(launch.0)]
    }

    fn runner_mut(&mut self, runner: RunnerId) -> Option<&mut Runner> {
        match self.hosts.get_mut(runner.host.0 as usize)? {
            Host::Present { runners, .. } => runners.get_mut(usize::from(runner.number).checked_sub(1)?),
            Host::Awaited | Host::Lost => None,
        }
    }
}
