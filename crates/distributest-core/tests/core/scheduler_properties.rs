//! Generated histories of whole runs: fleets, outcomes, interruptions, losses, repeated and unknown events, a
//! stop at any time. the [`Model`] checks the invariants after every event.

use std::num::NonZeroU32;
use std::time::Duration;

use distributest_core::identity::{AttemptId, HostId, LaunchId, RunnerId};
use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::scheduler::SchedulerOptions;
use distributest_core::scheduler_messages::Event;
use proptest::prelude::*;

use crate::model::{Host, Model, Runner};
use crate::observed_run::{ATTEMPT_DURATION, ObservedRun};

/// The event a generated number stands for in the present state of a run; `None` where it could befall
/// nobody.
///
/// Its remainder by [`KINDS`] is the kind of event, by the weights below, and the rest of it picks whom it
/// befalls. What is run on the broken host fails, and little else befalls a run that has one. One number an event keeps the generator faster than what it tests.
fn event_of(number: u32, broken: Option<HostId>, model: &Model, history: &[Event]) -> Option<Event> {
    let is_calm = broken.is_some() && !(number / KINDS).is_multiple_of(13);
    let kind =
        if is_calm { CALM_KINDS[(number % KINDS) as usize % CALM_KINDS.len()] } else { number % KINDS };
    let choice = number / KINDS;
    let reason = "as generated".to_owned();
    let host = |wanted: fn(&Host) -> bool| {
        let hosts = (0..).map(HostId).zip(&model.hosts);
        pick(&hosts.filter(|(_, host)| wanted(host)).map(|(id, _)| id).collect::<Vec<_>>(), choice)
    };
    let runner = |wanted: fn(Runner) -> bool| pick(&model.runners(wanted), choice);
    let attempt = || pick(&model.attempts.keys().copied().collect::<Vec<_>>(), choice);
    // An agent makes a runner's attempts in their order, but may lose any of them.
    let at_work = || pick(&model.begun(), choice);
    Some(match kind {
        0..12 => Event::RunnerReady { runner: runner(|runner| runner == Runner::Awaited)? },
        12..24 => Event::AttemptStarted { attempt: at_work()? },
        24..36 => {
            let attempt = at_work()?;
            let host = model.attempts[&attempt].runner.host;
            let outcome = match broken {
                Some(broken) if host == broken => Outcome::Failed,
                Some(_) if !(choice / 16).is_multiple_of(8) => Outcome::Passed,
                _ => pick(&Outcome::ALL, choice / 128)?,
            };
            let out_of_memory = outcome == Outcome::Crashed && !(choice / 1024).is_multiple_of(3);
            Event::AttemptFinished { attempt, outcome, duration: ATTEMPT_DURATION, out_of_memory }
        }
        36..41 => {
            let interruption = pick(&INTERRUPTIONS, choice / 16)?;
            Event::AttemptInterrupted { attempt: attempt()?, interruption, reason }
        }
        41..47 => {
            let runners = (choice / 16 % 5) as u16;
            let queue = (choice / 80 % 4) as u16;
            let memory = Some(u64::from(choice / 320 % 9)).filter(|memory| *memory > 0);
            Event::HostExpected { host: host(|host| *host == Host::Awaited)?, runners, queue, memory }
        }
        47..50 => Event::RunnerLost { runner: runner(|runner| runner != Runner::Lost)?, reason },
        50 => Event::HostLost { host: host(|host| *host != Host::Lost)?, reason },
        51..57 => pick(history, choice)?,
        57..59 => pick(&events_about_nobody(), choice)?,
        59..63 => Event::LaunchUnavailable {
            runner: runner(|runner| runner != Runner::Lost)?,
            launch: LaunchId((choice / 16 % u32::from(LAUNCHES)) as u16),
            reason,
        },
        63 => Event::StopRequested,
        64 => Event::HostAway { host: host(|host| matches!(host, Host::Present(_)))?, reason },
        65..68 => Event::HostSilent { host: host(|host| *host != Host::Lost)? },
        68..71 => Event::HostHeard { host: host(|host| *host != Host::Lost)? },
        71..74 => Event::WorkerReady {
            launch: LaunchId((choice % u32::from(LAUNCHES)) as u16),
            versions: pick(&[Some("1"), Some("2"), None], choice / 16)?.map(str::to_owned),
        },
        _ => Event::TimePassed,
    })
}

const KINDS: u32 = 75;

/// What happens in most runs most of the time: ready, started, finished, expected, and time passes.
const CALM_KINDS: [u32; 8] = [0, 0, 12, 24, 24, 24, 41, 74];

/// Launches of the files of a run.
const LAUNCHES: u16 = 3;

const INTERRUPTIONS: [Interruption; 3] =
    [Interruption::HostLost, Interruption::RunnerLost, Interruption::Cancelled];

fn pick<Item: Clone>(items: &[Item], choice: u32) -> Option<Item> {
    items.get((choice as usize).checked_rem(items.len())?).cloned()
}

fn events_about_nobody() -> Vec<Event> {
    let host = HostId(1000);
    let attempt = AttemptId(1_000_000);
    let reason = || "nobody's".to_owned();
    vec![
        Event::HostExpected { host, runners: 3, queue: 1, memory: None },
        Event::HostLost { host, reason: reason() },
        Event::HostAway { host, reason: reason() },
        Event::HostSilent { host },
        Event::HostHeard { host },
        Event::RunnerReady { runner: RunnerId { host, number: 1 } },
        Event::RunnerReady { runner: RunnerId { host: HostId(0), number: 0 } },
        Event::RunnerReady { runner: RunnerId { host: HostId(0), number: 1000 } },
        Event::RunnerLost { runner: RunnerId { host: HostId(0), number: 1000 }, reason: reason() },
        Event::LaunchUnavailable {
            runner: RunnerId { host: HostId(0), number: 1 },
            launch: LaunchId(LAUNCHES),
            reason: reason(),
        },
        Event::LaunchUnavailable {
            runner: RunnerId { host, number: 1 },
            launch: LaunchId(0),
            reason: reason(),
        },
        Event::AttemptStarted { attempt },
        Event::AttemptFinished {
            attempt,
            outcome: Outcome::Crashed,
            duration: ATTEMPT_DURATION,
            out_of_memory: true,
        },
        Event::AttemptInterrupted { attempt, interruption: Interruption::HostLost, reason: reason() },
    ]
}

/// The versions that a file passed with before.
fn versions() -> impl Strategy<Value = Vec<String>> {
    prop::sample::subsequence(vec!["1".to_owned(), "2".to_owned()], 0..=2)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12_000, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_in_every_history(
        launches in prop::collection::vec(0..LAUNCHES, 0..24),
        retries in prop::collection::vec(0..3_u8, 0..12),
        predicted in prop::collection::vec(prop::option::weighted(0.8, 0..4_u64), 0..24),
        fail_fast in prop::option::weighted(0.2, 1..4_u32),
        host_count in 0..4_u32,
        passed_with in prop::option::of(prop::collection::vec(versions(), 0..24)),
        host_speeds in prop::option::of(prop::collection::vec(prop::sample::select(&[0.3, 1.0, 2.0][..]), 0..4)),
        memory in prop::collection::vec(prop::option::weighted(0.7, 0..6_u64), 0..24),
        broken in prop::option::of((0..3_u32).prop_map(HostId)),
        numbers in prop::collection::vec(any::<u32>(), 0..120),
    ) {
        let file_launches: Vec<LaunchId> = launches.into_iter().map(LaunchId).collect();
        let mut predicted = predicted;
        if host_speeds.is_some() {
            // In the order of the files, as it has to be.
            predicted.resize(file_launches.len(), None);
            predicted.iter_mut().for_each(|predicted| _ = predicted.get_or_insert_default());
            predicted.sort_unstable_by(|one, other| other.cmp(one));
        }
        let options = SchedulerOptions {
            file_launches,
            retries,
            predicted: predicted.into_iter().map(|time| time.map(Duration::from_millis)).collect(),
            host_speeds: host_speeds.unwrap_or_default(),
            memory,
            fail_fast: fail_fast.and_then(NonZeroU32::new),
            host_count,
        };
        let mut run = ObservedRun::with_passes(options, passed_with.unwrap_or_default());
        let mut history = Vec::new();
        for number in numbers {
            if let Some(event) = event_of(number, broken, &run.model, &history) {
                run.apply(event.clone());
                history.push(event);
            }
        }
        run.run_to_end();
        for event in history {
            run.apply(event);
        }
    }
}
