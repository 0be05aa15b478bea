//! Files that wait at busy runners: how many, and when they are taken back.

use distributest_core::identity::AttemptId;
use distributest_core::outcome::{NotRunReason, Outcome};
use distributest_core::scheduler::SchedulerOptions;
use distributest_core::scheduler_messages::{Command, Event};

use super::Script;
use crate::observed_run::ObservedRun;
use crate::words::*;

scripts! {
    a_busy_runner_has_its_next_files_before_it_asks([RUBY; 6], milliseconds [1; 6], 1 hosts) {
        expect_queues(0, 1, 2) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        started(1) => [queue(2, 1, 0, 1), queue(3, 2, 0, 1)];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), queue(4, 3, 0, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), queue(5, 4, 0, 1)];
        started(3) => [];
        // What may have been the cause of something is not waited behind.
        interrupted(3) => [queue(6, 5, 0, 1)];
        finished(4, Outcome::Passed) => [ran(3, Outcome::Passed, 4)];
        finished(5, Outcome::Passed) => [ran(4, Outcome::Passed, 5)];
        finished(6, Outcome::Passed) => [ran(5, Outcome::Passed, 6), dispatch(7, 2, 0, 1)];
        finished(7, Outcome::Passed) => [ran(2, Outcome::Passed, 7), Command::Finish];
    }

    where_there_is_plenty_the_first_file_brings_the_next_one([RUBY; 9], milliseconds [1; 9], 1 hosts) {
        expect_queues(0, 1, 9) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1), queue(2, 1, 0, 1)];
        ready(0, 1) => [];
        Event::StopRequested => [
            Command::Cancel { attempt: AttemptId(2) },
            Command::Cancel { attempt: AttemptId(1) },
            not_run(2, NotRunReason::Stopped),
            not_run(3, NotRunReason::Stopped),
            not_run(4, NotRunReason::Stopped),
            not_run(5, NotRunReason::Stopped),
            not_run(6, NotRunReason::Stopped),
            not_run(7, NotRunReason::Stopped),
            not_run(8, NotRunReason::Stopped)
        ];
        cancelled(2) => [not_run(1, NotRunReason::Stopped)];
        cancelled(1) => [not_run(0, NotRunReason::Stopped), Command::Finish];
    }

    what_is_queued_is_cancelled_before_what_it_waits_behind([RUBY; 3], milliseconds [1; 3], 1 hosts) {
        expect_queues(0, 1, 2) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        started(1) => [queue(2, 1, 0, 1), queue(3, 2, 0, 1)];
        Event::StopRequested => [
            Command::Cancel { attempt: AttemptId(3) },
            Command::Cancel { attempt: AttemptId(2) },
            Command::Cancel { attempt: AttemptId(1) }
        ];
        cancelled(3) => [not_run(2, NotRunReason::Stopped)];
        cancelled(2) => [not_run(1, NotRunReason::Stopped)];
        cancelled(1) => [not_run(0, NotRunReason::Stopped), Command::Finish];
    }

    what_takes_long_is_not_queued([RUBY; 3], milliseconds [900, 800, 700], 1 hosts) {
        expect_queues(0, 1, 2) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        started(1) => [];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), dispatch(2, 1, 0, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(3, 2, 0, 1)];
        finished(3, Outcome::Passed) => [ran(2, Outcome::Passed, 3), Command::Finish];
    }

    what_is_queued_is_taken_back_for_an_idle_runner([RUBY; 4], milliseconds [900, 1, 1, 1], 2 hosts) {
        expect_queues(0, 1, 3) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        started(1) => [queue(2, 1, 0, 1), queue(3, 2, 0, 1), queue(4, 3, 0, 1)];
        ready(1, 1) => [withdraw(4)];
        cancelled(4) => [dispatch(5, 3, 1, 1)];
        finished(5, Outcome::Passed) => [ran(3, Outcome::Passed, 5), withdraw(3)];
        // It had begun already.
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1)];
        started(3) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2)];
        finished(3, Outcome::Passed) => [ran(2, Outcome::Passed, 3), Command::Finish];
    }

    what_waited_behind_a_lost_file_lost_nothing([RUBY; 3], milliseconds [1; 3], 1 hosts) {
        expect_queues(0, 2, 2) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        started(1) => [queue(2, 1, 0, 1), queue(3, 2, 0, 1)];
        runner_lost(0, 1) => [];
        ready(0, 2) => [dispatch(4, 0, 0, 2)];
        started(4) => [];
        finished(4, Outcome::Passed) => [ran(0, Outcome::Passed, 4), dispatch(5, 1, 0, 2)];
        started(5) => [];
        finished(5, Outcome::Passed) => [ran(1, Outcome::Passed, 5), dispatch(6, 2, 0, 2)];
        finished(6, Outcome::Passed) => [ran(2, Outcome::Passed, 6), Command::Finish];
    }
}
