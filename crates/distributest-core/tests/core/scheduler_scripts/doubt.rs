//! Hosts that fail file after file before anybody can tell whose fault that is.

use distributest_core::identity::HostId;
use distributest_core::outcome::Outcome;
use distributest_core::scheduler::SchedulerOptions;
use distributest_core::scheduler_messages::{Command, Event};

use super::Script;
use crate::observed_run::ObservedRun;
use crate::words::*;

scripts! {
    a_host_that_fails_file_after_file_gets_little_until_another_has_passed_one([RUBY; 8], 2 hosts) {
        expect(0, 1) => [];
        expect(1, 1) => [];
        ready(1, 1) => [dispatch(1, 0, 1, 1)];
        ready(0, 1) => [dispatch(2, 1, 0, 1)];
        finished(2, Outcome::Failed) => [dispatch(3, 2, 0, 1)];
        finished(3, Outcome::Failed) => [dispatch(4, 3, 0, 1)];
        finished(4, Outcome::Broken) => [dispatch(5, 4, 0, 1)];
        finished(5, Outcome::Failed) => [dispatch(6, 5, 0, 1)];
        finished(6, Outcome::Failed) => [];
        Event::TimePassed => [dispatch(7, 6, 0, 1)];
        finished(7, Outcome::Failed) => [];
        finished(1, Outcome::Passed) => [
            ran(0, Outcome::Passed, 1),
            Command::Fence { host: HostId(0), failures: 6 },
            dispatch_again(8, 1, 1, 1)
        ];
        finished(8, Outcome::Passed) => [
            ran(1, Outcome::Passed, 8),
            dispatch_again(9, 2, 1, 1),
            dispatch_again(10, 1, 0, 1)
        ];
        finished(10, Outcome::Passed) => [Command::Readmit { host: HostId(0) }, dispatch(11, 7, 0, 1)];
        finished(11, Outcome::Passed) => [ran(7, Outcome::Passed, 11)];
        finished(9, Outcome::Passed) => [ran(2, Outcome::Passed, 9), dispatch_again(12, 3, 1, 1)];
        finished(12, Outcome::Passed) => [ran(3, Outcome::Passed, 12), dispatch_again(13, 4, 1, 1)];
        finished(13, Outcome::Passed) => [ran(4, Outcome::Passed, 13), dispatch_again(14, 5, 1, 1)];
        finished(14, Outcome::Passed) => [ran(5, Outcome::Passed, 14), dispatch_again(15, 6, 1, 1)];
        finished(15, Outcome::Passed) => [ran(6, Outcome::Passed, 15), Command::Finish];
    }

    a_host_that_passes_after_many_failures_is_trusted_again([RUBY; 8], 2 hosts) {
        expect(0, 1) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        finished(1, Outcome::Failed) => [dispatch(2, 1, 0, 1)];
        finished(2, Outcome::Failed) => [dispatch(3, 2, 0, 1)];
        finished(3, Outcome::Failed) => [dispatch(4, 3, 0, 1)];
        finished(4, Outcome::Failed) => [dispatch(5, 4, 0, 1)];
        finished(5, Outcome::Failed) => [];
        Event::TimePassed => [dispatch(6, 5, 0, 1)];
        finished(6, Outcome::Passed) => [
            ran(0, Outcome::Failed, 1),
            ran(1, Outcome::Failed, 2),
            ran(2, Outcome::Failed, 3),
            ran(3, Outcome::Failed, 4),
            ran(4, Outcome::Failed, 5),
            ran(5, Outcome::Passed, 6),
            dispatch(7, 6, 0, 1)
        ];
        finished(7, Outcome::Failed) => [dispatch(8, 7, 0, 1)];
        finished(8, Outcome::Passed) => [
            ran(6, Outcome::Failed, 7),
            ran(7, Outcome::Passed, 8),
            Command::Finish
        ];
    }

    what_a_host_failed_counts_when_there_is_nobody_else_to_wait_for([RUBY; 7], 2 hosts) {
        expect(0, 2) => [];
        ready(0, 1) => [dispatch(1, 0, 0, 1)];
        ready(0, 2) => [dispatch(2, 1, 0, 2)];
        finished(1, Outcome::Failed) => [dispatch(3, 2, 0, 1)];
        finished(2, Outcome::Failed) => [dispatch(4, 3, 0, 2)];
        finished(3, Outcome::Failed) => [dispatch(5, 4, 0, 1)];
        finished(4, Outcome::Failed) => [dispatch(6, 5, 0, 2)];
        finished(5, Outcome::Failed) => [];
        finished(6, Outcome::Failed) => [];
        host_lost(1) => [
            ran(0, Outcome::Failed, 1),
            ran(1, Outcome::Failed, 2),
            ran(2, Outcome::Failed, 3),
            ran(3, Outcome::Failed, 4),
            ran(4, Outcome::Failed, 5),
            ran(5, Outcome::Failed, 6),
            dispatch(7, 6, 0, 1)
        ];
        finished(7, Outcome::Failed) => [ran(6, Outcome::Failed, 7), Command::Finish];
    }
}
