//! Files that need not be run because they passed in an earlier run with the same inputs.

use distributest_core::outcome::{NotRunReason, Outcome};
use distributest_core::scheduler::SchedulerOptions;
use distributest_core::scheduler_messages::{Command, Event};

use super::Script;
use crate::observed_run::ObservedRun;
use crate::words::*;

scripts! {
    what_passed_with_the_same_versions_is_not_run([RUBY; 3], passed [&["1"][..], &[], &["2", "1"]], 1 hosts) {
        expect(0, 1) => [];
        worker_says(RUBY, Some("1")) => [reuse(0, 0), reuse(2, 1)];
        ready(0, 1) => [dispatch(1, 1, 0, 1)];
        worker_says(RUBY, Some("2")) => [];
        finished(1, Outcome::Passed) => [ran(1, Outcome::Passed, 1), Command::Finish];
    }

    a_run_of_cached_files_only_ends_with_the_first_word([RUBY; 2], passed [&["1"][..], &["1"]], 2 hosts) {
        expect(0, 1) => [];
        worker_says(RUBY, Some("1")) => [reuse(0, 0), reuse(1, 0), Command::Finish];
    }

    what_passed_with_other_versions_is_run_in_its_place([RUBY; 3], passed [&["1"][..], &[], &["1"]], 1 hosts) {
        expect(0, 1) => [];
        worker_says(RUBY, Some("2")) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        worker_says(RUBY, Some("1")) => [];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), dispatch(2, 1, 0, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(3, 2, 0, 1)];
        finished(3, Outcome::Passed) => [ran(2, Outcome::Passed, 3), Command::Finish];
    }

    a_worker_that_says_no_versions_has_everything_run([RUBY], passed [&["1"][..]], 1 hosts) {
        expect(0, 1) => [];
        worker_says(RUBY, None) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        finished(1, Outcome::Failed) => [ran(0, Outcome::Failed, 1), Command::Finish];
    }

    nothing_is_run_before_a_worker_of_the_launch_has_spoken([RUBY, PYTHON], passed [&["1"][..], &["1"]], 1 hosts) {
        expect(0, 2) => [];
        worker_says(PYTHON, Some("1")) => [reuse(1, 0)];
        ready(0, 2) => [];
        worker_says(RUBY, Some("3")) => [dispatch(1, 0, 0, 2)];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1), Command::Finish];
    }

    a_launch_nobody_speaks_for_has_its_last_file_run(
        [RUBY, PYTHON, PYTHON, PYTHON], passed [&[][..], &["1"], &["1"], &["1"]], 1 hosts
    ) {
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        finished(1, Outcome::Passed) => [ran(0, Outcome::Passed, 1)];
        Event::TimePassed => [dispatch(2, 3, 0, 1)];
        worker_says(PYTHON, Some("1")) => [reuse(1, 0), reuse(2, 0)];
        finished(2, Outcome::Failed) => [ran(3, Outcome::Failed, 2), Command::Finish];
    }

    another_file_is_run_where_the_first_leads_to_no_word([PYTHON, PYTHON], passed [&["1"][..], &["1"]], 1 hosts) {
        expect(0, 1) => [];
        ready(0, 1) => [];
        Event::TimePassed => [dispatch(1, 1, 0, 1)];
        gone(1) => [not_run(1, NotRunReason::FileGone("it is not in /x".to_owned()))];
        Event::TimePassed => [dispatch(2, 0, 0, 1)];
        worker_says(PYTHON, Some("1")) => [];
        finished(2, Outcome::Passed) => [ran(0, Outcome::Passed, 2), Command::Finish];
    }

    what_waits_for_a_word_is_not_run_when_nobody_is_left_to_say_it([RUBY; 2], passed [&["1"][..], &["1"]], 2 hosts) {
        expect(0, 1) => [];
        host_lost(1) => [];
        unavailable(0, 1, RUBY) => [
            not_run(0, NotRunReason::NoRunnerAble("host 1 is gone; host 0 has no ruby".to_owned())),
            not_run(1, NotRunReason::NoRunnerAble("host 1 is gone; host 0 has no ruby".to_owned())),
            Command::Finish
        ];
        worker_says(RUBY, Some("1")) => [];
    }

    what_waits_for_a_word_is_not_run_after_a_stop([RUBY], passed [&["1"][..]], 1 hosts) {
        expect(0, 1) => [];
        Event::StopRequested => [not_run(0, NotRunReason::Stopped), Command::Finish];
    }

    enough_failures_end_a_run_whose_other_files_wait_for_a_word(
        [PYTHON, RUBY], fail_fast 1, passed [&[][..], &["1"]], 1 hosts
    ) {
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        finished(1, Outcome::Failed) => [
            ran(0, Outcome::Failed, 1),
            not_run(1, NotRunReason::FailedFast),
            Command::Finish
        ];
    }
}
