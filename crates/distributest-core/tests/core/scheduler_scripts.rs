//! Scripts: events and the exact commands each must lead to, one script a rule. Each is also run with a
//! failure injected at every step, where the commands differ but the model's invariants hold.

use distributest_core::identity::AttemptId;
use distributest_core::outcome::{NotRunReason, Outcome, Verdict};
use distributest_core::scheduler::SchedulerOptions;
use distributest_core::scheduler_messages::{Command, Event};

use crate::observed_run::ObservedRun;
use crate::words::*;

pub(crate) struct Script {
    options: SchedulerOptions,
    passed_with: Vec<Vec<String>>,
    steps: Vec<(Event, Vec<Command>)>,
}

/// Defines scripts, a test for each, and the list of all of them. A run's files are given by their launches.
macro_rules! scripts {
    ($($name:ident(
        $file_launches:expr $(, retries $retries:expr)? $(, fail_fast $fail_fast:expr)?
        $(, milliseconds $predicted:expr)? $(, speeds $host_speeds:expr)? $(, memory $memory:expr)?
        $(, passed $passed_with:expr)?, $host_count:literal hosts
    ) {
        $($event:expr => [$($command:expr),*];)*
    })*) => {
        $(
            #[test]
            fn $name() {
                let all = scripts();
                let named = all.iter().find(|(name, _)| *name == stringify!($name));
                let (_, script) = named.expect("every script is in the list");
                let mut run = ObservedRun::with_passes(script.options.clone(), script.passed_with.clone());
                for (step, (event, expected)) in script.steps.iter().enumerate() {
                    assert_eq!(run.apply(event.clone()), *expected, "step {step}: {event:?}");
                }
                assert!(run.model.finished, "a script tells a whole run");
                run.run_to_end();
            }
        )*

        pub(super) fn scripts() -> Vec<(&'static str, Script)> {
            vec![$((stringify!($name), Script {
                options: SchedulerOptions {
                    $(retries: $retries.to_vec(),)?
                    $(fail_fast: std::num::NonZeroU32::new($fail_fast),)?
                    $(predicted: $predicted.map(|time| Some(std::time::Duration::from_millis(time))).to_vec(),)?
                    $(host_speeds: $host_speeds.to_vec(),)?
                    $(memory: $memory.to_vec(),)?
                    ..options(&$file_launches, $host_count)
                },
                passed_with: Vec::<Vec<Vec<String>>>::from([$(passed(&$passed_with))?]).concat(),
                steps: vec![$(($event, vec![$($command),*])),*],
            })),*]
        }
    };
}

mod ahead;
mod broken_hosts;
mod cached;
mod doubt;
mod forecast;
mod memory;

scripts! {
    an_idle_runner_takes_the_next_file([RUBY; 3], 1 hosts) {
        expect(0, 2) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 1, 0, 2)];
        started(2) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(3, 2, 0, 2)];
        finished(3, Outcome::Failed) => [ran(2, Outcome::Failed, 3)];
        finished(1, Outcome::Broken) => [ran(0, Outcome::Broken, 1), Command::Finish];
    }

    every_outcome_decides([RUBY; 5], 1 hosts) {
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), dispatch(2, 1, 0, 1)];
        finished(2, Outcome::Failed) => [ran(1, Outcome::Failed, 2), dispatch(3, 2, 0, 1)];
        finished(3, Outcome::Broken) => [ran(2, Outcome::Broken, 3), dispatch(4, 3, 0, 1)];
        finished(4, Outcome::TimedOut) => [ran(3, Outcome::TimedOut, 4), dispatch(5, 4, 0, 1)];
        finished(5, Outcome::Crashed) => [ran(4, Outcome::Crashed, 5), Command::Finish];
    }

    a_failed_file_is_tried_again_elsewhere_as_often_as_it_may([RUBY; 2], retries [2, 0], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        finished(1, Outcome::Failed) => [dispatch(2, 1, 0, 1)];
        ready(1, 1) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch_again(3, 0, 1, 1)];
        finished(3, Outcome::TimedOut) => [dispatch_again(4, 0, 0, 1)];
        finished(4, Outcome::Broken) => [ran_after(0, Verdict::Ran(Outcome::Broken), 4, &[1, 3]), Command::Finish];
    }

    what_a_silent_host_has_runs_elsewhere_too_and_the_first_answer_counts([RUBY; 2], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        silent(0) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(3, 0, 1, 1)];
        heard(0) => [];
        finished(1, Outcome::Passed) => [
            Command::Cancel { attempt: AttemptId(3) },
            ran(0, Outcome::Passed, 1),
            Command::Finish
        ];
        finished(3, Outcome::Failed) => [];
    }

    a_silent_host_that_speaks_in_time_keeps_what_it_has([RUBY; 2], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        silent(0) => [];
        heard(0) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2)];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), Command::Finish];
    }

    an_answer_that_comes_too_late_is_dropped([RUBY; 2], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 2) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        ready(1, 2) => [];
        silent(0) => [dispatch(3, 0, 1, 2)];
        finished(3, Outcome::Passed) => [Command::Cancel { attempt: AttemptId(1) }, ran(0, Outcome::Passed, 3)];
        heard(0) => [];
        finished(1, Outcome::Failed) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), Command::Finish];
    }

    a_host_that_was_away_starts_anew([RUBY, PYTHON], 1 hosts) {
        expect(0, 1) => [];
        unavailable(0, 1, RUBY) => [not_run(0, NotRunReason::NoRunnerAble("host 0 has no ruby".to_owned()))];
        ready(0, 1) => [dispatch(1, 1, 0, 1)];
        started(1) => [];
        away(0) => [];
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(2, 1, 0, 1)];
        finished(1, Outcome::Passed) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), Command::Finish];
    }

    a_file_that_passes_in_the_end_is_flaky([RUBY; 1], retries [1], 1 hosts) {
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        finished(1, Outcome::Failed) => [dispatch_again(2, 0, 0, 1)];
        finished(2, Outcome::Passed) => [ran_after(0, Verdict::Flaky, 2, &[1]), Command::Finish];
    }

    a_crash_is_tried_once_more_on_another_host([RUBY; 1], retries [5], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        finished(1, Outcome::Crashed) => [];
        ready(1, 1) => [dispatch_again(2, 0, 1, 1)];
        finished(2, Outcome::Crashed) => [ran_after(0, Verdict::Ran(Outcome::Crashed), 2, &[1]), Command::Finish];
    }

    a_file_that_is_gone_is_not_looked_for_elsewhere([RUBY; 2], retries [5, 5], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        gone(1) => [not_run(0, NotRunReason::FileGone("it is not in /x".to_owned())), dispatch(2, 1, 0, 1)];
        ready(1, 1) => [];
        finished(2, Outcome::Failed) => [dispatch_again(3, 1, 1, 1)];
        gone(3) => [ran(1, Outcome::Failed, 2), Command::Finish];
    }

    enough_failures_end_the_run([RUBY; 4], fail_fast 2, 1 hosts) {
        expect(0, 2) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 1, 0, 2)];
        finished(1, Outcome::Failed) => [ran(0, Outcome::Failed, 1), dispatch(3, 2, 0, 1)];
        finished(3, Outcome::Broken) => [
            ran(2, Outcome::Broken, 3),
            Command::Cancel { attempt: AttemptId(2) },
            not_run(3, NotRunReason::FailedFast)
        ];
        interrupted(2) => [not_run(1, NotRunReason::FailedFast), Command::Finish];
    }

    an_outcome_is_not_lost_when_nobody_is_left_to_try_again([RUBY; 2], retries [1, 1], 2 hosts) {
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        finished(1, Outcome::Failed) => [dispatch(2, 1, 0, 1)];
        host_lost(0) => [];
        host_lost(1) => [
            ran(0, Outcome::Failed, 1),
            not_run(1, NotRunReason::NoRunnerLeft("host 0 is gone; host 1 is gone".to_owned())),
            Command::Finish
        ];
    }

    hosts_start_without_waiting_for_each_other([RUBY; 2], 2 hosts) {
        expect(1, 1) => [];
        ready(1, 1) => [dispatch(1, 0, 1, 1)];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), dispatch(2, 1, 1, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), Command::Finish];
        expect(0, 1) => [];
        ready(0, 1) => [];
    }

    a_lost_runners_file_goes_to_another_host_before_the_rest([RUBY; 4], 2 hosts) {
        expect(0, 2) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 1, 0, 2)];
        ready(1, 1) => [dispatch(3, 2, 1, 1)];
        started(1) => [];
        runner_lost(0, 1) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(4, 3, 0, 2)];
        finished(3, Outcome::Passed) => [ran(2, Outcome::Passed, 3), dispatch(5, 0, 1, 1)];
        finished(4, Outcome::Passed) => [ran(3, Outcome::Passed, 4)];
        finished(5, Outcome::Passed) => [ran(0, Outcome::Passed, 5), Command::Finish];
    }

    a_lost_file_waits_for_a_host_that_is_still_awaited([RUBY; 1], 2 hosts) {
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        interrupted(1) => [];
        expect(1, 1) => [];
        ready(1, 1) => [dispatch(2, 0, 1, 1)];
        finished(2, Outcome::Passed) => [ran(0, Outcome::Passed, 2), Command::Finish];
    }

    the_host_that_lost_a_file_gets_it_when_no_other_is_left([RUBY; 1], 2 hosts) {
        expect(0, 2) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [];
        interrupted(1) => [];
        host_lost(1) => [dispatch(2, 0, 0, 1)];
        finished(2, Outcome::Passed) => [ran(0, Outcome::Passed, 2), Command::Finish];
    }

    a_lost_hosts_files_go_back_in_order([RUBY; 4], 2 hosts) {
        expect(0, 2) => [];
        expect(1, 1) => [];
        ready(1, 1) => [dispatch(1, 0, 1, 1)];
        ready(0, 2) => [dispatch(2, 1, 0, 2)];
        ready(0, 1) => [dispatch(3, 2, 0, 1)];
        host_lost(0) => [];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), dispatch(4, 1, 1, 1)];
        finished(4, Outcome::Passed) => [ran(1, Outcome::Passed, 4), dispatch(5, 2, 1, 1)];
        finished(5, Outcome::Passed) => [ran(2, Outcome::Passed, 5), dispatch(6, 3, 1, 1)];
        finished(6, Outcome::Passed) => [ran(3, Outcome::Passed, 6), Command::Finish];
    }

    a_lost_file_goes_to_an_idle_runner_at_once([RUBY; 1], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(1, 1) => [dispatch(1, 0, 1, 1)];
        ready(0, 1) => [];
        host_lost(1) => [dispatch(2, 0, 0, 1)];
        finished(2, Outcome::Failed) => [ran(0, Outcome::Failed, 2), Command::Finish];
    }

    three_interruptions_are_too_many([RUBY; 2], 1 hosts) {
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        interrupted(1) => [dispatch(2, 0, 0, 1)];
        interrupted(2) => [dispatch(3, 0, 0, 1)];
        interrupted(3) => [
            not_run(0, NotRunReason::TooManyInterruptions("worker gone".to_owned())),
            dispatch(4, 1, 0, 1)
        ];
        finished(4, Outcome::Passed) => [ran(1, Outcome::Passed, 4), Command::Finish];
    }

    an_attempt_that_had_not_started_does_not_count([RUBY; 1], 1 hosts) {
        expect(0, 5) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [];
        ready(0, 3) => [];
        ready(0, 4) => [];
        ready(0, 5) => [];
        runner_lost(0, 1) => [dispatch(2, 0, 0, 2)];
        runner_lost(0, 2) => [dispatch(3, 0, 0, 3)];
        started(3) => [];
        runner_lost(0, 3) => [dispatch(4, 0, 0, 4)];
        started(4) => [];
        runner_lost(0, 4) => [dispatch(5, 0, 0, 5)];
        started(5) => [];
        finished(5, Outcome::Passed) => [ran(0, Outcome::Passed, 5), Command::Finish];
    }

    without_runners_nothing_is_run([RUBY; 2], 2 hosts) {
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        runner_lost(0, 1) => [];
        host_lost(1) => [
            not_run(0, NotRunReason::NoRunnerLeft("runner 1 is gone; host 1 is gone".to_owned())),
            not_run(1, NotRunReason::NoRunnerLeft("runner 1 is gone; host 1 is gone".to_owned())),
            Command::Finish
        ];
    }

    a_host_without_runners_is_not_waited_for([RUBY; 1], 1 hosts) {
        expect(0, 0) => [
            not_run(0, NotRunReason::NoRunnerLeft("it has no runners".to_owned())),
            Command::Finish
        ];
    }

    runners_that_never_become_ready_are_not_waited_for([RUBY; 1], 1 hosts) {
        expect(0, 2) => [];
        runner_lost(0, 2) => [];
        runner_lost(0, 1) => [
            not_run(0, NotRunReason::NoRunnerLeft("runner 1 is gone".to_owned())),
            Command::Finish
        ];
    }

    a_runner_takes_the_first_file_it_can_run([RUBY, RUBY, PYTHON, RUBY, PYTHON], 1 hosts) {
        expect(0, 2) => [];
        unavailable(0, 2, RUBY) => [];
        ready(0, 2) => [dispatch(1, 2, 0, 2)];
        ready(0, 1) => [dispatch(2, 0, 0, 1)];
        finished(1, Outcome::Passed) => [ran(2, Outcome::Passed, 1), dispatch(3, 4, 0, 2)];
        finished(3, Outcome::Passed) => [ran(4, Outcome::Passed, 3)];
        finished(2, Outcome::Passed) => [ran(0, Outcome::Passed, 2), dispatch(4, 1, 0, 1)];
        finished(4, Outcome::Passed) => [ran(1, Outcome::Passed, 4), dispatch(5, 3, 0, 1)];
        finished(5, Outcome::Passed) => [ran(3, Outcome::Passed, 5), Command::Finish];
    }

    a_file_its_runner_can_not_run_goes_elsewhere_at_no_cost([RUBY, PYTHON], 2 hosts) {
        expect(0, 3) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        unavailable(0, 1, RUBY) => [];
        unavailable(0, 1, RUBY) => [];
        interrupted(1) => [dispatch(2, 1, 0, 1)];
        ready(0, 2) => [];
        ready(0, 3) => [];
        ready(1, 1) => [dispatch(3, 0, 1, 1)];
        unavailable(1, 1, RUBY) => [];
        interrupted(3) => [dispatch(4, 0, 0, 2)];
        unavailable(0, 2, RUBY) => [];
        interrupted(4) => [dispatch(5, 0, 0, 3)];
        started(5) => [];
        finished(5, Outcome::Passed) => [ran(0, Outcome::Passed, 5)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), Command::Finish];
    }

    what_nobody_can_run_is_not_run_as_soon_as_that_is_certain([RUBY, PYTHON, RUBY], 3 hosts) {
        expect(0, 2) => [];
        unavailable(0, 1, RUBY) => [];
        unavailable(0, 2, RUBY) => [];
        ready(0, 1) => [dispatch(1, 1, 0, 1)];
        ready(0, 2) => [];
        expect(1, 1) => [];
        ready(1, 1) => [dispatch(2, 0, 1, 1)];
        host_lost(2) => [];
        unavailable(1, 1, RUBY) => [not_run(2, no_ruby())];
        interrupted(2) => [not_run(0, no_ruby())];
        unavailable(0, 1, PYTHON) => [];
        finished(1, Outcome::Passed) => [ran(1, Outcome::Passed, 1), Command::Finish];
    }

    a_lost_runner_may_have_been_the_last_able_one([RUBY, PYTHON, RUBY], 1 hosts) {
        expect(0, 2) => [];
        unavailable(0, 2, RUBY) => [];
        ready(0, 2) => [dispatch(1, 1, 0, 2)];
        ready(0, 1) => [dispatch(2, 0, 0, 1)];
        runner_lost(0, 1) => [
            not_run(0, NotRunReason::NoRunnerAble("runner 1 is gone".to_owned())),
            not_run(2, NotRunReason::NoRunnerAble("runner 1 is gone".to_owned()))
        ];
        unavailable(0, 1, PYTHON) => [];
        runner_lost(0, 2) => [
            not_run(1, NotRunReason::NoRunnerLeft("runner 2 is gone".to_owned())),
            Command::Finish
        ];
    }

    a_host_that_lost_a_file_gets_it_when_no_other_can_run_it([RUBY, PYTHON], 2 hosts) {
        expect(0, 2) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        started(1) => [];
        runner_lost(0, 1) => [];
        ready(0, 2) => [];
        unavailable(1, 1, RUBY) => [dispatch(3, 0, 0, 2)];
        finished(3, Outcome::Passed) => [ran(0, Outcome::Passed, 3)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), Command::Finish];
    }

    a_stop_cancels_what_runs_and_counts_what_still_answers([RUBY; 4], 1 hosts) {
        expect(0, 3) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 1, 0, 2)];
        ready(0, 3) => [dispatch(3, 2, 0, 3)];
        Event::StopRequested => [
            Command::Cancel { attempt: AttemptId(3) },
            Command::Cancel { attempt: AttemptId(2) },
            Command::Cancel { attempt: AttemptId(1) },
            not_run(3, NotRunReason::Stopped)
        ];
        Event::StopRequested => [];
        finished(2, Outcome::Failed) => [ran(1, Outcome::Failed, 2)];
        cancelled(1) => [not_run(0, NotRunReason::Stopped)];
        host_lost(0) => [not_run(2, NotRunReason::Stopped), Command::Finish];
    }

    a_stop_before_anything_runs_ends_the_run([RUBY; 2], 1 hosts) {
        Event::StopRequested => [
            not_run(0, NotRunReason::Stopped),
            not_run(1, NotRunReason::Stopped),
            Command::Finish
        ];
    }

    late_and_repeated_events_change_nothing([RUBY; 2], 2 hosts) {
        expect(0, 1) => [];
        expect(0, 4) => [];
        ready(0, 2) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 1) => [];
        expect(1, 1) => [];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        started(1) => [];
        host_lost(0) => [];
        host_lost(0) => [];
        ready(0, 1) => [];
        finished(1, Outcome::Failed) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(3, 0, 1, 1)];
        finished(2, Outcome::Failed) => [];
        interrupted(1) => [];
        finished(3, Outcome::Passed) => [ran(0, Outcome::Passed, 3), Command::Finish];
        finished(3, Outcome::Passed) => [];
        Event::StopRequested => [];
        host_lost(1) => [];
    }
}

#[test]
fn a_run_without_files_finishes_at_the_start() {
    assert!(ObservedRun::new(options(&[], 3)).model.finished);
}

#[test]
fn a_run_without_hosts_runs_nothing() {
    let run = ObservedRun::new(options(&[RUBY], 0));
    let why = NotRunReason::NoRunnerLeft("no host takes part".to_owned());
    assert_eq!(run.model.files[0].verdict, Some(Verdict::NotRun(why)));
    assert!(run.model.finished);
}

#[test]
fn the_invariants_hold_with_a_failure_at_every_step_of_every_script() {
    let mut injected = 0;
    for (_, script) in scripts()
        .into_iter()
        .chain(ahead::scripts())
        .chain(broken_hosts::scripts())
        .chain(cached::scripts())
        .chain(doubt::scripts())
        .chain(forecast::scripts())
    {
        for step in 0..=script.steps.len() {
            for failure in failures(&script) {
                let mut run = ObservedRun::with_passes(script.options.clone(), script.passed_with.clone());
                let (before, after) = script.steps.split_at(step);
                before.iter().for_each(|(event, _)| _ = run.apply(event.clone()));
                run.apply(failure);
                after.iter().for_each(|(event, _)| _ = run.apply(event.clone()));
                run.run_to_end();
                injected += 1;
            }
        }
    }
    assert!(injected > 1000, "the scripts are long enough to matter: {injected}");
}

/// A stop, the loss, absence and silence of each host, the loss of each of its runners, and what each of those can't run.
fn failures(script: &Script) -> Vec<Event> {
    let mut failures = vec![Event::StopRequested];
    for host in 0..script.options.host_count {
        failures.extend([host_lost(host), away(host), silent(host)]);
        for number in 1..=5 {
            failures.push(runner_lost(host, number));
            failures.extend([RUBY, PYTHON].map(|launch| unavailable(host, number, launch)));
        }
    }
    failures
}
