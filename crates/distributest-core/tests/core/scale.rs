//! A run on the largest fleet the scheduler is meant for. It takes a second or two; with a search through
//! files or runners at every event it would take hours, and the test runner's time limit would end it.

use std::collections::VecDeque;
use std::time::Duration;

use distributest_core::identity::{AttemptId, HostId, LaunchId, RunnerId};
use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::scheduler::{Scheduler, SchedulerOptions};
use distributest_core::scheduler_messages::{Command, Event};

const FILES: u32 = 300_000;
const HOSTS: u32 = 250;
const RUNNERS_PER_HOST: u16 = 64;

/// Attempts that may wait at a runner.
const QUEUE: u16 = 4;

/// The first host of this many is broken: it interrupts every attempt.
const BROKEN: HostId = HostId(0);

/// The files belong to this many launches in turn, and each host but the broken one and every seventh lacks one.
const LAUNCHES: u16 = 3;

/// What each file needs.
const FILE_MEMORY: u64 = 10;

/// Every third host has room for all its runners but one.
fn memory_of(host: HostId) -> Option<u64> {
    host.0.is_multiple_of(3).then(|| FILE_MEMORY * u64::from(RUNNERS_PER_HOST - 1))
}

#[test]
fn sixteen_thousand_runners_are_served_without_a_search() {
    let file_launches = (0..FILES).map(|file| LaunchId((file % u32::from(LAUNCHES)) as u16)).collect();
    let mut scheduler = Scheduler::new(SchedulerOptions {
        file_launches,
        retries: Vec::new(),
        predicted: vec![Some(Duration::from_millis(1)); FILES as usize],
        host_speeds: Vec::new(),
        memory: vec![Some(FILE_MEMORY); FILES as usize],
        fail_fast: None,
        host_count: HOSTS,
    });
    let mut live: VecDeque<(AttemptId, HostId)> = VecDeque::new();
    let mut commands = Vec::new();
    let mut decided = 0;
    for host in (0..HOSTS).map(HostId) {
        let event =
            Event::HostExpected { host, runners: RUNNERS_PER_HOST, queue: QUEUE, memory: memory_of(host) };
        scheduler.handle(Duration::ZERO, event, &mut commands);
        for number in 1..=RUNNERS_PER_HOST {
            let runner = RunnerId { host, number };
            if host.0 % 7 != 0 {
                let launch = LaunchId((host.0 % u32::from(LAUNCHES)) as u16);
                let event = Event::LaunchUnavailable { runner, launch, reason: String::new() };
                scheduler.handle(Duration::ZERO, event, &mut commands);
            }
            scheduler.handle(Duration::ZERO, Event::RunnerReady { runner }, &mut commands);
        }
    }
    loop {
        for command in commands.drain(..) {
            match command {
                Command::Dispatch { attempt, runner, .. } => live.push_back((attempt, runner.host)),
                Command::Decide { .. } => decided += 1,
                Command::Cancel { .. }
                | Command::Withdraw { .. }
                | Command::Double { .. }
                | Command::Fence { .. }
                | Command::Reuse { .. }
                | Command::Readmit { .. }
                | Command::Reserve { .. }
                | Command::Release { .. }
                | Command::Finish => {}
            }
        }
        let Some((attempt, host)) = live.pop_front() else { break };
        scheduler.handle(Duration::ZERO, end_of(attempt, host), &mut commands);
    }
    assert!(scheduler.is_finished());
    assert_eq!(decided, FILES);
}

fn end_of(attempt: AttemptId, host: HostId) -> Event {
    if host == BROKEN {
        let reason = String::new();
        return Event::AttemptInterrupted { attempt, interruption: Interruption::RunnerLost, reason };
    }
    let (outcome, duration) = (Outcome::Passed, Duration::ZERO);
    Event::AttemptFinished { attempt, outcome, duration, out_of_memory: false }
}
