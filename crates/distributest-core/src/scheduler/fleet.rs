//! Knows every host and runner of a run: who may still come, who is idle, who is busy with what, who is gone.
//!
//! A host goes from *awaited* to *present* to *lost*, a runner from *awaited* through *idle* and *busy* to
//! *lost*; nobody comes back. A host whose runners are all lost is lost itself. Anything that does not fit is
//! ignored: it is late.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::identity::{AttemptId, HostId, RunnerId};

/// How many hosts' reasons are kept to explain why no runner is left.
const REASONS_LIMIT: usize = 3;

#[derive(Debug)]
pub(super) struct Fleet {
    hosts: Vec<Host>,
    hosts_left: usize,
    idle: BTreeSet<RunnerId>,
    /// Why the first hosts were lost, each reason once.
    reasons: Vec<String>,
}

#[derive(Debug)]
enum Host {
    Awaited,
    Present { runners: Vec<Runner>, runners_left: u16 },
    Lost,
}

#[derive(Clone, Copy, Debug)]
enum Runner {
    Awaited,
    Idle,
    Busy(AttemptId),
    Lost,
}

impl Fleet {
    pub(super) fn new(host_count: u32) -> Self {
        let hosts: Vec<Host> = (0..host_count).map(|_| Host::Awaited).collect();
        Fleet { hosts_left: hosts.len(), hosts, idle: BTreeSet::new(), reasons: Vec::new() }
    }

    /// Whether a runner is there or may still come.
    pub(super) fn has_hope(&self) -> bool {
        self.hosts_left > 0
    }

    /// Whether hosts other than this one, which is not lost, have or may still bring runners.
    pub(super) fn has_hope_besides_one_host(&self) -> bool {
        self.hosts_left > 1
    }

    /// What became of the hosts, once all of them are lost.
    pub(super) fn why_no_hope(&self) -> String {
        if self.hosts.is_empty() {
            return "no host takes part".to_owned();
        }
        self.reasons.join("; ")
    }

    /// The first idle runner; with `except`, the first one elsewhere.
    pub(super) fn idle_runner(&self, except: Option<HostId>) -> Option<RunnerId> {
        let first = *self.idle.first()?;
        if Some(first.host) != except {
            return Some(first);
        }
        let last_there = RunnerId { host: first.host, number: u16::MAX };
        self.idle.range((Bound::Excluded(last_there), Bound::Unbounded)).next().copied()
    }

    /// A host says how many runners it will have.
    pub(super) fn expect(&mut self, host: HostId, runners: u16) {
        let Some(awaited @ Host::Awaited) = self.hosts.get_mut(host.0 as usize) else { return };
        *awaited =
            Host::Present { runners: vec![Runner::Awaited; usize::from(runners)], runners_left: runners };
        if runners == 0 {
            self.lose_host(host, "it has no runners");
        }
    }

    /// An awaited runner is there.
    pub(super) fn ready(&mut self, runner: RunnerId) {
        if let Some(state @ Runner::Awaited) = self.runner_mut(runner) {
            *state = Runner::Idle;
            self.idle.insert(runner);
        }
    }

    /// An idle runner is given an attempt.
    pub(super) fn occupy(&mut self, runner: RunnerId, attempt: AttemptId) {
        if let Some(state @ Runner::Idle) = self.runner_mut(runner) {
            *state = Runner::Busy(attempt);
            self.idle.remove(&runner);
        }
    }

    /// A busy runner's attempt is over.
    pub(super) fn release(&mut self, runner: RunnerId) {
        if let Some(state @ Runner::Busy(_)) = self.runner_mut(runner) {
            *state = Runner::Idle;
            self.idle.insert(runner);
        }
    }

    /// A runner is gone. Returns the attempt it takes with it.
    pub(super) fn lose_runner(&mut self, runner: RunnerId, reason: &str) -> Option<AttemptId> {
        let Some(Host::Present { runners, runners_left }) = self.hosts.get_mut(runner.host.0 as usize) else {
            return None;
        };
        let state = runners.get_mut(usize::from(runner.number).checked_sub(1)?)?;
        let before = std::mem::replace(state, Runner::Lost);
        if matches!(before, Runner::Lost) {
            return None;
        }
        self.idle.remove(&runner);
        *runners_left -= 1;
        if *runners_left == 0 {
            self.lose_host(runner.host, reason);
        }
        match before {
            Runner::Busy(attempt) => Some(attempt),
            _ => None,
        }
    }

    /// A host is gone. Returns the attempts it takes with it, in the order of its runners.
    pub(super) fn lose_host(&mut self, host: HostId, reason: &str) -> Vec<AttemptId> {
        let Some(state) = self.hosts.get_mut(host.0 as usize) else { return Vec::new() };
        let before = std::mem::replace(state, Host::Lost);
        if matches!(before, Host::Lost) {
            return Vec::new();
        }
        self.hosts_left -= 1;
        if self.reasons.len() < REASONS_LIMIT && !self.reasons.iter().any(|known| known == reason) {
            self.reasons.push(reason.to_owned());
        }
        let Host::Present { runners, .. } = before else { return Vec::new() };
        let mut attempts = Vec::new();
        for (number, runner) in (1..).zip(runners) {
            match runner {
                Runner::Idle => _ = self.idle.remove(&RunnerId { host, number }),
                Runner::Busy(attempt) => attempts.push(attempt),
                Runner::Awaited | Runner::Lost => {}
            }
        }
        attempts
    }

    fn runner_mut(&mut self, runner: RunnerId) -> Option<&mut Runner> {
        match self.hosts.get_mut(runner.host.0 as usize)? {
            Host::Present { runners, .. } => runners.get_mut(usize::from(runner.number).checked_sub(1)?),
            Host::Awaited | Host::Lost => None,
        }
    }
}
