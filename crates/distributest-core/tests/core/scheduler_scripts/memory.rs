//! Scripts: what does not fit together, and what has to run alone (rules 23 and 24).

use super::*;

scripts! {
    files_that_do_not_fit_together_run_one_after_the_other(
        [RUBY; 3], memory [Some(60), Some(60), Some(30)], 1 hosts
    ) {
        expect_memory(0, 2, 0, 100) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 2, 0, 2)];
        finished(2, Outcome::Passed) => [ran(2, Outcome::Passed, 2)];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), dispatch(3, 1, 0, 1)];
        finished(3, Outcome::Passed) => [ran(1, Outcome::Passed, 3), Command::Finish];
    }

    a_file_goes_to_the_host_that_has_room_for_it([RUBY; 3], memory [Some(80), Some(80), None], 2 hosts) {
        expect_memory(0, 2, 0, 100) => [];
        expect_memory(1, 2, 0, 100) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 2, 0, 2)];
        finished(2, Outcome::Passed) => [ran(2, Outcome::Passed, 2)];
        ready(1, 1) => [dispatch(3, 1, 1, 1)];
        finished(3, Outcome::Passed) => [ran(1, Outcome::Passed, 3)];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), Command::Finish];
    }

    a_file_that_needs_more_than_there_is_runs_where_nothing_else_does(
        [RUBY; 3], memory [Some(40), Some(200), Some(40)], 1 hosts
    ) {
        expect_memory(0, 2, 0, 100) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 2, 0, 2)];
        finished(2, Outcome::Passed) => [ran(2, Outcome::Passed, 2)];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), dispatch(3, 1, 0, 1)];
        finished(3, Outcome::Passed) => [ran(1, Outcome::Passed, 3), Command::Finish];
    }

    nothing_runs_beside_a_file_that_needs_more_than_there_is(
        [RUBY; 2], memory [Some(200), None], 1 hosts
    ) {
        expect_memory(0, 2, 0, 100) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), dispatch(2, 1, 0, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), Command::Finish];
    }

    what_is_queued_ahead_needs_no_more_than_what_is_at_work(
        [RUBY; 8], milliseconds [1; 8],
        memory [Some(50), Some(50), Some(60), Some(20), Some(20), Some(20), Some(20), Some(20)], 1 hosts
    ) {
        expect_memory(0, 2, 1, 100) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 1, 0, 2)];
        started(1) => [queue(3, 3, 0, 1)];
        started(2) => [queue(4, 4, 0, 2)];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), queue(5, 5, 0, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), queue(6, 6, 0, 2)];
        finished(3, Outcome::Passed) => [ran(3, Outcome::Passed, 3), queue(7, 7, 0, 1)];
        finished(4, Outcome::Passed) => [ran(4, Outcome::Passed, 4)];
        finished(6, Outcome::Passed) => [ran(6, Outcome::Passed, 6), dispatch(8, 2, 0, 2)];
        finished(5, Outcome::Passed) => [ran(5, Outcome::Passed, 5)];
        finished(7, Outcome::Passed) => [ran(7, Outcome::Passed, 7)];
        finished(8, Outcome::Passed) => [ran(2, Outcome::Passed, 8), Command::Finish];
    }

    a_file_there_was_no_memory_for_runs_alone_where_most_is([RUBY; 4], 2 hosts) {
        expect_memory(0, 2, 0, 100) => [];
        expect_memory(1, 2, 0, 200) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        ready(1, 2) => [dispatch(3, 2, 1, 2)];
        finished(3, Outcome::Passed) => [ran(2, Outcome::Passed, 3), dispatch(4, 3, 1, 2)];
        out_of_memory(1) => [reserve(1, 0)];
        ready(0, 2) => [];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2)];
        finished(4, Outcome::Passed) => [
            ran(3, Outcome::Passed, 4),
            dispatch_again(5, 0, 1, 1)
        ];
        finished(5, Outcome::Passed) => [ran_after(0, Verdict::Flaky, 5, &[1]), release(1), Command::Finish];
    }

    a_reserved_host_is_emptied_first_and_given_nothing_else([RUBY; 4], 1 hosts) {
        expect_memory(0, 2, 0, 100) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 1, 0, 2)];
        out_of_memory(1) => [reserve(0, 0)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch_again(3, 0, 0, 1)];
        finished(3, Outcome::Passed) => [
            ran_after(0, Verdict::Flaky, 3, &[1]),
            release(0),
            dispatch(4, 2, 0, 1),
            dispatch(5, 3, 0, 2)
        ];
        finished(4, Outcome::Passed) => [ran(2, Outcome::Passed, 4)];
        finished(5, Outcome::Passed) => [ran(3, Outcome::Passed, 5), Command::Finish];
    }

    a_file_there_is_no_memory_for_even_alone_crashes([RUBY; 1], 1 hosts) {
        expect_memory(0, 1, 0, 100) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        out_of_memory(1) => [reserve(0, 0), dispatch_again(2, 0, 0, 1)];
        out_of_memory(2) => [
            ran_after(0, Verdict::Ran(Outcome::Crashed), 2, &[1]),
            release(0),
            Command::Finish
        ];
    }

    what_waits_on_a_reserved_host_is_taken_back([RUBY; 4], milliseconds [1; 4], 1 hosts) {
        expect_memory(0, 2, 1, 100) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 1, 0, 2)];
        started(1) => [queue(3, 2, 0, 1)];
        out_of_memory(2) => [reserve(0, 1), withdraw(3)];
        cancelled(3) => [];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), dispatch_again(4, 1, 0, 1)];
        finished(4, Outcome::Passed) => [
            ran_after(1, Verdict::Flaky, 4, &[2]),
            release(0),
            dispatch(5, 2, 0, 1),
            dispatch(6, 3, 0, 2)
        ];
        finished(5, Outcome::Passed) => [ran(2, Outcome::Passed, 5)];
        finished(6, Outcome::Passed) => [ran(3, Outcome::Passed, 6), Command::Finish];
    }
}
