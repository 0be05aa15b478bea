//! What follows from knowing when attempts should end: files for slow hosts, and second attempts at what takes too long.

use distributest_core::identity::AttemptId;
use distributest_core::outcome::{Outcome, Verdict};
use distributest_core::scheduler::SchedulerOptions;
use distributest_core::scheduler_messages::{Command, Event};

use super::Script;
use crate::observed_run::ObservedRun;
use crate::words::*;

fn double(attempt: u64) -> Command {
    Command::Double { attempt: AttemptId(attempt) }
}

scripts! {
    a_slow_host_takes_the_longest_file_that_fits(
        [RUBY; 5], milliseconds [6000, 2500, 1000, 900, 800], speeds [0.25, 1.0], 2 hosts
    ) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        // All of it would take 9 s, and the longest 6 s: 2.5 s at a quarter of the speed are too much.
        ready(0, 1) => [dispatch(1, 2, 0, 1)];
        ready(1, 1) => [dispatch(2, 0, 1, 1)];
        finished(1, Outcome::Passed) => [ran(2, Outcome::Passed, 1), dispatch(3, 3, 0, 1)];
        finished(3, Outcome::Passed) => [ran(3, Outcome::Passed, 3), dispatch(4, 4, 0, 1)];
        // The fast one will take what is left before the slow one would be done with it.
        finished(4, Outcome::Passed) => [ran(4, Outcome::Passed, 4)];
        finished(2, Outcome::Passed) => [ran(0, Outcome::Passed, 2), dispatch(5, 1, 1, 1)];
        finished(5, Outcome::Passed) => [ran(1, Outcome::Passed, 5), Command::Finish];
    }

    a_slow_host_takes_whatever_is_next_when_no_faster_one_is_at_work_in_time(
        [RUBY; 2], milliseconds [6000, 6000], speeds [0.25, 1.0], 2 hosts
    ) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(1, 1) => [dispatch(1, 0, 1, 1)];
        ready(0, 1) => [];
        Event::TimePassed => [dispatch(2, 1, 0, 1)];
        finished(2, Outcome::Passed) => [
            ran(1, Outcome::Passed, 2),
            double(1),
            dispatch(3, 0, 0, 1)
        ];
        finished(3, Outcome::Passed) => [
            Command::Cancel { attempt: AttemptId(1) },
            ran(0, Outcome::Passed, 3),
            Command::Finish
        ];
    }

    the_fastest_of_idle_runners_is_first([RUBY; 1], milliseconds [10], speeds [1.0, 1.0, 3.0], 3 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        expect(2, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [];
        ready(2, 1) => [];
        interrupted(1) => [dispatch(2, 0, 2, 1)];
        finished(2, Outcome::Passed) => [ran(0, Outcome::Passed, 2), Command::Finish];
    }

    what_takes_too_long_is_given_to_an_idle_runner_elsewhere([RUBY; 2], milliseconds [1000, 1000], 2 hosts) {
        expect(0, 2) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 1, 0, 2)];
        ready(1, 1) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2)];
        Event::TimePassed => [double(1), dispatch(3, 0, 1, 1)];
        Event::TimePassed => [];
        finished(3, Outcome::Passed) => [
            Command::Cancel { attempt: AttemptId(1) },
            ran(0, Outcome::Passed, 3),
            Command::Finish
        ];
        cancelled(1) => [];
    }

    what_takes_long_without_a_prediction_is_not_doubled([RUBY; 2], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2)];
        Event::TimePassed => [];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), Command::Finish];
    }

    of_a_file_that_two_runners_have_the_first_failure_counts([RUBY; 1], milliseconds [1000], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [];
        Event::TimePassed => [double(1), dispatch(2, 0, 1, 1)];
        finished(1, Outcome::Failed) => [
            Command::Cancel { attempt: AttemptId(2) },
            ran(0, Outcome::Failed, 1),
            Command::Finish
        ];
        finished(2, Outcome::Passed) => [];
    }

    what_two_runners_have_is_tried_again_once_neither_is_at_it(
        [RUBY; 1], retries [1], milliseconds [1000], 2 hosts
    ) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [];
        Event::TimePassed => [double(1), dispatch(2, 0, 1, 1)];
        finished(2, Outcome::Failed) => [Command::Cancel { attempt: AttemptId(1) }];
        Event::TimePassed => [];
        interrupted(1) => [dispatch_again(3, 0, 0, 1)];
        finished(3, Outcome::Passed) => [ran_after(0, Verdict::Flaky, 3, &[2]), Command::Finish];
    }

    a_file_is_doubled_once([RUBY; 1], milliseconds [1000], 3 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        expect(2, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [];
        ready(2, 1) => [];
        Event::TimePassed => [double(1), dispatch(2, 0, 1, 1)];
        Event::TimePassed => [];
        // The other one is still at it.
        interrupted(2) => [];
        interrupted(1) => [dispatch(3, 0, 1, 1)];
        Event::TimePassed => [];
        finished(3, Outcome::Passed) => [ran(0, Outcome::Passed, 3), Command::Finish];
    }

    an_idle_runner_of_a_much_faster_host_overtakes([RUBY; 1], milliseconds [1000], speeds [0.25, 1.0], 2 hosts) {
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        expect(1, 1) => [];
        ready(1, 1) => [double(1), dispatch(2, 0, 1, 1)];
        finished(2, Outcome::Passed) => [
            Command::Cancel { attempt: AttemptId(1) },
            ran(0, Outcome::Passed, 2),
            Command::Finish
        ];
    }

    what_is_asked_back_without_an_answer_is_given_to_another_as_well(
        [RUBY; 3], milliseconds [900, 1, 1], 2 hosts
    ) {
        expect_queues(0, 1, 3) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        started(1) => [queue(2, 1, 0, 1), queue(3, 2, 0, 1)];
        ready(1, 1) => [withdraw(3)];
        Event::TimePassed => [double(1), dispatch(4, 0, 1, 1)];
        finished(4, Outcome::Passed) => [
            Command::Cancel { attempt: AttemptId(1) },
            ran(0, Outcome::Passed, 4),
            double(3),
            dispatch(5, 2, 1, 1)
        ];
        finished(5, Outcome::Passed) => [
            Command::Cancel { attempt: AttemptId(3) },
            ran(2, Outcome::Passed, 5),
            withdraw(2)
        ];
        Event::TimePassed => [double(2), dispatch(6, 1, 1, 1)];
        finished(6, Outcome::Passed) => [
            Command::Cancel { attempt: AttemptId(2) },
            ran(1, Outcome::Passed, 6),
            Command::Finish
        ];
    }
}
