//! Words to write scripts in: events and commands by their numbers.

use distributest_core::identity::{AttemptId, FileId, HostId, LaunchId, RunnerId};
use distributest_core::outcome::{Interruption, NotRunReason, Outcome, Verdict};
use distributest_core::scheduler::SchedulerOptions;
use distributest_core::scheduler_messages::{Command, Event};

use crate::observed_run::ATTEMPT_DURATION;

pub(crate) const RUBY: u16 = 0;
pub(crate) const PYTHON: u16 = 1;

pub(crate) fn options(file_launches: &[u16], host_count: u32) -> SchedulerOptions {
    let file_launches = file_launches.iter().copied().map(LaunchId).collect();
    SchedulerOptions {
        file_launches,
        retries: Vec::new(),
        predicted: Vec::new(),
        host_speeds: Vec::new(),
        memory: Vec::new(),
        fail_fast: None,
        host_count,
    }
}

pub(crate) fn expect(host: u32, runners: u16) -> Event {
    expect_queues(host, runners, 0)
}

pub(crate) fn expect_queues(host: u32, runners: u16, queue: u16) -> Event {
    Event::HostExpected { host: HostId(host), runners, queue, memory: None }
}

pub(crate) fn expect_memory(host: u32, runners: u16, queue: u16, memory: u64) -> Event {
    Event::HostExpected { host: HostId(host), runners, queue, memory: Some(memory) }
}

pub(crate) fn ready(host: u32, number: u16) -> Event {
    Event::RunnerReady { runner: RunnerId { host: HostId(host), number } }
}

pub(crate) fn worker_says(launch: u16, versions: Option<&str>) -> Event {
    Event::WorkerReady { launch: LaunchId(launch), versions: versions.map(str::to_owned) }
}

/// The versions that each file passed with before.
pub(crate) fn passed<const FILES: usize>(versions: &[&[&str]; FILES]) -> Vec<Vec<String>> {
    let owned = |versions: &&[&str]| versions.iter().map(|version| (*version).to_owned()).collect();
    versions.iter().map(owned).collect()
}

pub(crate) fn reuse(file: u32, pass: usize) -> Command {
    Command::Reuse { file: FileId(file), pass }
}

pub(crate) fn runner_lost(host: u32, number: u16) -> Event {
    Event::RunnerLost {
        runner: RunnerId { host: HostId(host), number },
        reason: format!("runner {number} is gone"),
    }
}

pub(crate) fn unavailable(host: u32, number: u16, launch: u16) -> Event {
    let runner = RunnerId { host: HostId(host), number };
    let reason = format!("host {host} has no {}", if launch == RUBY { "ruby" } else { "python" });
    Event::LaunchUnavailable { runner, launch: LaunchId(launch), reason }
}

pub(crate) fn host_lost(host: u32) -> Event {
    Event::HostLost { host: HostId(host), reason: format!("host {host} is gone") }
}

pub(crate) fn away(host: u32) -> Event {
    Event::HostAway { host: HostId(host), reason: format!("host {host} is away") }
}

pub(crate) fn silent(host: u32) -> Event {
    Event::HostSilent { host: HostId(host) }
}

pub(crate) fn heard(host: u32) -> Event {
    Event::HostHeard { host: HostId(host) }
}

pub(crate) fn started(attempt: u64) -> Event {
    Event::AttemptStarted { attempt: AttemptId(attempt) }
}

pub(crate) fn finished(attempt: u64, outcome: Outcome) -> Event {
    let (attempt, out_of_memory) = (AttemptId(attempt), false);
    Event::AttemptFinished { attempt, outcome, duration: ATTEMPT_DURATION, out_of_memory }
}

pub(crate) fn out_of_memory(attempt: u64) -> Event {
    let (attempt, outcome) = (AttemptId(attempt), Outcome::Crashed);
    Event::AttemptFinished { attempt, outcome, duration: ATTEMPT_DURATION, out_of_memory: true }
}

pub(crate) fn interrupted(attempt: u64) -> Event {
    let interruption = Interruption::RunnerLost;
    Event::AttemptInterrupted { attempt: AttemptId(attempt), interruption, reason: "worker gone".to_owned() }
}

pub(crate) fn gone(attempt: u64) -> Event {
    let interruption = Interruption::FileGone;
    Event::AttemptInterrupted {
        attempt: AttemptId(attempt),
        interruption,
        reason: "it is not in /x".to_owned(),
    }
}

pub(crate) fn cancelled(attempt: u64) -> Event {
    let interruption = Interruption::Cancelled;
    Event::AttemptInterrupted { attempt: AttemptId(attempt), interruption, reason: "stopped".to_owned() }
}

pub(crate) fn dispatch(attempt: u64, file: u32, host: u32, number: u16) -> Command {
    let runner = RunnerId { host: HostId(host), number };
    Command::Dispatch { attempt: AttemptId(attempt), file: FileId(file), runner, fresh: false, queued: false }
}

pub(crate) fn dispatch_again(attempt: u64, file: u32, host: u32, number: u16) -> Command {
    let runner = RunnerId { host: HostId(host), number };
    Command::Dispatch { attempt: AttemptId(attempt), file: FileId(file), runner, fresh: true, queued: false }
}

pub(crate) fn queue(attempt: u64, file: u32, host: u32, number: u16) -> Command {
    let runner = RunnerId { host: HostId(host), number };
    Command::Dispatch { attempt: AttemptId(attempt), file: FileId(file), runner, fresh: false, queued: true }
}

pub(crate) fn reserve(host: u32, file: u32) -> Command {
    Command::Reserve { host: HostId(host), file: FileId(file) }
}

pub(crate) fn release(host: u32) -> Command {
    Command::Release { host: HostId(host) }
}

pub(crate) fn withdraw(attempt: u64) -> Command {
    Command::Withdraw { attempt: AttemptId(attempt) }
}

pub(crate) fn ran_after(file: u32, verdict: Verdict, attempt: u64, failed_before: &[u64]) -> Command {
    let failed_before = failed_before.iter().copied().map(AttemptId).collect();
    Command::Decide { file: FileId(file), verdict, attempt: Some(AttemptId(attempt)), failed_before }
}

pub(crate) fn ran(file: u32, outcome: Outcome, attempt: u64) -> Command {
    let verdict = Verdict::Ran(outcome);
    Command::Decide {
        file: FileId(file),
        verdict,
        attempt: Some(AttemptId(attempt)),
        failed_before: Vec::new(),
    }
}

pub(crate) fn no_ruby() -> NotRunReason {
    NotRunReason::NoRunnerAble("host 0 has no ruby; host 2 is gone; host 1 has no ruby".to_owned())
}

pub(crate) fn not_run(file: u32, reason: NotRunReason) -> Command {
    Command::Decide {
        file: FileId(file),
        verdict: Verdict::NotRun(reason),
        attempt: None,
        failed_before: Vec::new(),
    }
}
