//! What the scheduler takes for a file: whole runs of files that pass, whose cost per file should not grow with files or
//! runners.

use std::collections::VecDeque;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use distributest_core::identity::{AttemptId, HostId, LaunchId, RunnerId};
use distributest_core::outcome::Outcome;
use distributest_core::scheduler::{Scheduler, SchedulerOptions};
use distributest_core::scheduler_messages::{Command, Event};

/// Files, hosts, runners on each.
const RUNS: [(u32, u32, u16); 3] = [(1_000, 4, 4), (100_000, 64, 16), (1_000_000, 250, 64)];

/// Attempts that may wait at a runner.
const QUEUE: u16 = 4;

/// How long each file takes, and should take.
const DURATION: Duration = Duration::from_millis(1);

/// What each file needs.
const FILE_MEMORY: u64 = 100;

/// Runs so many files, where all runners have room for one or all but one; returns how many were decided.
fn run(files: u32, hosts: u32, runners: u16, is_tight: bool) -> u32 {
    let mut scheduler = Scheduler::new(SchedulerOptions {
        file_launches: vec![LaunchId(0); files as usize],
        retries: Vec::new(),
        predicted: vec![Some(DURATION); files as usize],
        host_speeds: Vec::new(),
        memory: vec![Some(FILE_MEMORY); files as usize],
        fail_fast: None,
        host_count: hosts,
    });
    let memory = FILE_MEMORY * u64::from(if is_tight { runners - 1 } else { runners });
    let mut commands = Vec::new();
    scheduler.start(&mut commands);
    for host in (0..hosts).map(HostId) {
        scheduler.handle(
            Duration::ZERO,
            Event::HostExpected { host, runners, queue: QUEUE, memory: Some(memory) },
            &mut commands,
        );
        for number in 1..=runners {
            let runner = RunnerId { host, number };
            scheduler.handle(Duration::ZERO, Event::RunnerReady { runner }, &mut commands);
        }
    }
    let mut live: VecDeque<AttemptId> = VecDeque::new();
    let mut decided = 0;
    loop {
        for command in commands.drain(..) {
            match command {
                Command::Dispatch { attempt, .. } => live.push_back(attempt),
                Command::Decide { .. } => decided += 1,
                // What is withdrawn has already begun.
                _ => {}
            }
        }
        let Some(attempt) = live.pop_front() else { return decided };
        scheduler.handle(DURATION, Event::AttemptStarted { attempt }, &mut commands);
        let finished = Event::AttemptFinished {
            attempt,
            outcome: Outcome::Passed,
            duration: DURATION,
            out_of_memory: false,
        };
        scheduler.handle(DURATION, finished, &mut commands);
    }
}

fn runs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler");
    group.sample_size(10);
    for (files, hosts, runners) in RUNS {
        group.throughput(Throughput::Elements(files.into()));
        for (is_tight, memory) in [(false, ""), (true, ", little memory")] {
            let name = BenchmarkId::new(format!("{hosts} hosts × {runners} runners{memory}"), files);
            group.bench_function(name, |bencher| {
                bencher.iter(|| assert_eq!(run(files, hosts, runners, is_tight), files));
            });
        }
    }
    group.finish();
}

/// Files and fleets between which the cost of a file is compared: hosts, runners on each.
const GROWTH_FILES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];
const GROWTH_FLEETS: [(u32, u16); 3] = [(4, 4), (64, 16), (250, 64)];

/// How the cost of a file grows with files and runners; `scripts/bench growth` draws it.
fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("growth");
    group.sample_size(10);
    for (hosts, runners) in GROWTH_FLEETS {
        for files in GROWTH_FILES {
            group.throughput(Throughput::Elements(files.into()));
            let name = BenchmarkId::new((hosts * u32::from(runners)).to_string(), files);
            group.bench_function(name, |bencher| {
                bencher.iter(|| assert_eq!(run(files, hosts, runners, false), files));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, runs, growth);
criterion_main!(benches);
