//! Hosts that fail what others pass: fenced, probed, and given what nobody else can run.

use distributest_core::identity::HostId;
use distributest_core::outcome::Outcome;
use distributest_core::scheduler::SchedulerOptions;
use distributest_core::scheduler_messages::{Command, Event};

use super::Script;
use crate::observed_run::ObservedRun;
use crate::words::*;

scripts! {
    a_broken_host_is_fenced_until_it_passes_what_it_failed([RUBY; 8], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(3, 2, 1, 1)];
        finished(3, Outcome::Passed) => [ran(2, Outcome::Passed, 3), dispatch(4, 3, 1, 1)];
        finished(4, Outcome::Passed) => [ran(3, Outcome::Passed, 4), dispatch(5, 4, 1, 1)];
        finished(1, Outcome::Failed) => [dispatch(6, 5, 0, 1)];
        finished(6, Outcome::Broken) => [dispatch(7, 6, 0, 1)];
        finished(7, Outcome::Failed) => [Command::Fence { host: HostId(0), failures: 3 }];
        finished(5, Outcome::Passed) => [ran(4, Outcome::Passed, 5), dispatch_again(8, 0, 1, 1)];
        finished(8, Outcome::Passed) => [
            ran(0, Outcome::Passed, 8),
            dispatch_again(9, 5, 1, 1),
            dispatch_again(10, 0, 0, 1)
        ];
        finished(10, Outcome::Failed) => [];
        Event::TimePassed => [dispatch_again(11, 0, 0, 1)];
        finished(11, Outcome::Passed) => [Command::Readmit { host: HostId(0) }, dispatch(12, 7, 0, 1)];
        finished(9, Outcome::Passed) => [ran(5, Outcome::Passed, 9), dispatch_again(13, 6, 1, 1)];
        finished(13, Outcome::Passed) => [ran(6, Outcome::Passed, 13)];
        finished(12, Outcome::Failed) => [ran(7, Outcome::Failed, 12), Command::Finish];
    }

    a_fenced_host_does_not_stand_in_for_one_that_is_silent([RUBY; 7], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(3, 2, 1, 1)];
        finished(3, Outcome::Passed) => [ran(2, Outcome::Passed, 3), dispatch(4, 3, 1, 1)];
        finished(4, Outcome::Passed) => [ran(3, Outcome::Passed, 4), dispatch(5, 4, 1, 1)];
        finished(1, Outcome::Failed) => [dispatch(6, 5, 0, 1)];
        finished(6, Outcome::Broken) => [dispatch(7, 6, 0, 1)];
        silent(1) => [];
        finished(7, Outcome::Failed) => [Command::Fence { host: HostId(0), failures: 3 }];
        heard(1) => [];
        finished(5, Outcome::Passed) => [ran(4, Outcome::Passed, 5), dispatch_again(8, 0, 1, 1)];
        silent(1) => [];
        host_lost(1) => [dispatch_again(9, 0, 0, 1)];
        finished(9, Outcome::Passed) => [ran(0, Outcome::Passed, 9), dispatch_again(10, 5, 0, 1)];
        finished(10, Outcome::Broken) => [ran(5, Outcome::Broken, 10), dispatch_again(11, 6, 0, 1)];
        finished(11, Outcome::Failed) => [ran(6, Outcome::Failed, 11), Command::Finish];
    }

    a_fenced_host_that_is_lost_does_not_take_part_again([RUBY; 7], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(3, 2, 1, 1)];
        finished(3, Outcome::Passed) => [ran(2, Outcome::Passed, 3), dispatch(4, 3, 1, 1)];
        finished(4, Outcome::Passed) => [ran(3, Outcome::Passed, 4), dispatch(5, 4, 1, 1)];
        finished(1, Outcome::Failed) => [dispatch(6, 5, 0, 1)];
        finished(6, Outcome::Broken) => [dispatch(7, 6, 0, 1)];
        finished(7, Outcome::Failed) => [Command::Fence { host: HostId(0), failures: 3 }];
        host_lost(0) => [];
        finished(5, Outcome::Passed) => [ran(4, Outcome::Passed, 5), dispatch_again(8, 0, 1, 1)];
        finished(8, Outcome::Failed) => [ran(0, Outcome::Failed, 8), dispatch_again(9, 5, 1, 1)];
        finished(9, Outcome::Broken) => [ran(5, Outcome::Broken, 9), dispatch_again(10, 6, 1, 1)];
        finished(10, Outcome::Failed) => [ran(6, Outcome::Failed, 10), Command::Finish];
    }

    a_fenced_host_gets_what_nobody_else_can_run_and_nothing_more(
        [RUBY, RUBY, RUBY, RUBY, RUBY, RUBY, RUBY, PYTHON], 2 hosts
    ) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        unavailable(1, 1, PYTHON) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(3, 2, 1, 1)];
        finished(3, Outcome::Passed) => [ran(2, Outcome::Passed, 3), dispatch(4, 3, 1, 1)];
        finished(4, Outcome::Passed) => [ran(3, Outcome::Passed, 4), dispatch(5, 4, 1, 1)];
        finished(1, Outcome::Failed) => [dispatch(6, 5, 0, 1)];
        finished(6, Outcome::Failed) => [dispatch(7, 6, 0, 1)];
        finished(7, Outcome::Failed) => [
            Command::Fence { host: HostId(0), failures: 3 },
            dispatch(8, 7, 0, 1)
        ];
        finished(8, Outcome::Failed) => [ran(7, Outcome::Failed, 8)];
        finished(5, Outcome::Passed) => [ran(4, Outcome::Passed, 5), dispatch_again(9, 0, 1, 1)];
        finished(9, Outcome::Passed) => [
            ran(0, Outcome::Passed, 9),
            dispatch_again(10, 5, 1, 1),
            dispatch_again(11, 0, 0, 1)
        ];
        finished(10, Outcome::Passed) => [ran(5, Outcome::Passed, 10), dispatch_again(12, 6, 1, 1)];
        finished(12, Outcome::Passed) => [ran(6, Outcome::Passed, 12), Command::Finish];
    }

    a_host_is_not_to_blame_for_what_fails_everywhere([RUBY; 7], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        finished(1, Outcome::Failed) => [dispatch(3, 2, 0, 1)];
        finished(3, Outcome::Failed) => [dispatch(4, 3, 0, 1)];
        finished(4, Outcome::Failed) => [dispatch(5, 4, 0, 1)];
        finished(2, Outcome::Failed) => [ran(1, Outcome::Failed, 2), dispatch(6, 5, 1, 1)];
        finished(6, Outcome::Failed) => [ran(5, Outcome::Failed, 6), dispatch(7, 6, 1, 1)];
        finished(7, Outcome::Failed) => [
            ran(0, Outcome::Failed, 1),
            ran(2, Outcome::Failed, 3),
            ran(3, Outcome::Failed, 4),
            ran(6, Outcome::Failed, 7)
        ];
        finished(5, Outcome::Failed) => [ran(4, Outcome::Failed, 5), Command::Finish];
    }

    a_crash_on_a_broken_host_and_another_elsewhere_are_two([RUBY; 7], retries [5], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(1, 1) => [dispatch(2, 1, 1, 1)];
        finished(2, Outcome::Passed) => [ran(1, Outcome::Passed, 2), dispatch(3, 2, 1, 1)];
        finished(3, Outcome::Passed) => [ran(2, Outcome::Passed, 3), dispatch(4, 3, 1, 1)];
        finished(4, Outcome::Passed) => [ran(3, Outcome::Passed, 4), dispatch(5, 4, 1, 1)];
        finished(1, Outcome::Crashed) => [dispatch(6, 5, 0, 1)];
        finished(6, Outcome::Failed) => [dispatch(7, 6, 0, 1)];
        finished(7, Outcome::Failed) => [Command::Fence { host: HostId(0), failures: 3 }];
        finished(5, Outcome::Passed) => [ran(4, Outcome::Passed, 5), dispatch_again(8, 0, 1, 1)];
        finished(8, Outcome::Crashed) => [ran(0, Outcome::Crashed, 8), dispatch_again(9, 5, 1, 1)];
        finished(9, Outcome::Failed) => [ran(5, Outcome::Failed, 9), dispatch_again(10, 6, 1, 1)];
        finished(10, Outcome::Failed) => [
            ran(6, Outcome::Failed, 10),
            Command::Readmit { host: HostId(0) },
            Command::Finish
        ];
    }
}
