//! The shape of each line. Core types are not serializable on purpose: the domain may change, these names may not.

use std::collections::BTreeMap;
use std::time::Duration;

use distributest_core::identity::{AttemptId, FileId, HostId, RunnerId};
use distributest_core::outcome::{NotRunReason, Outcome, Verdict};
use distributest_core::run_event::{
    AttemptReport, AttemptResult, BlockId, EarlierPass, FilePlan, HostPlan, HostSummary, RunEvent, RunSummary,
};
use distributest_core::test_result::{TestResult, TestStatus};
use serde::Serialize;

use super::JSON_SCHEMA;
use crate::names::Names;
use crate::phrases;

/// One line.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    /// Seconds since the start of the run.
    at: f64,
    #[serde(flatten)]
    event: Event<'a>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    RunStarted {
        schema: u32,
        run: &'a str,
        project: &'a str,
        hosts: Vec<HostLine<'a>>,
        files: Vec<FileLine<'a>>,
    },
    RunResumed {
        run: &'a str,
        age_seconds: f64,
        finished: u32,
        failed: u32,
        changed: u32,
        left: u32,
        logs: &'a [String],
    },
    HostProgress {
        host: &'a str,
        activity: &'a str,
    },
    HostConnected {
        host: &'a str,
        agent: &'a str,
        cores: u16,
        runners: u16,
    },
    HostFailed {
        host: &'a str,
        reason: &'a str,
        hint: Option<&'a str>,
    },
    HostSynced {
        host: &'a str,
        snapshot: u32,
        copied: Option<&'a str>,
    },
    HostChanged {
        host: &'a str,
        change: &'static str,
        message: String,
    },
    HookFinished(HookLine<'a>),
    WorkerPrepared(WorkerLine<'a>),
    WorkerEnded {
        host: &'a str,
        runner: u16,
        framework: &'a str,
        failure: Option<&'a str>,
        block: u64,
    },
    RunnerReady {
        host: &'a str,
        runner: u16,
        identifier: &'a str,
    },
    LaunchUnavailable {
        host: &'a str,
        runner: u16,
        framework: &'a str,
        reason: &'a str,
        hint: Option<&'a str>,
    },
    RunnerFailed {
        host: &'a str,
        runner: u16,
        reason: &'a str,
    },
    AttemptStarted {
        attempt: u64,
        file: &'a str,
        file_id: u32,
        host: &'a str,
        runner: u16,
    },
    AttemptDoubled {
        attempt: u64,
        file: &'a str,
        file_id: u32,
        host: &'a str,
        runner: u16,
    },
    TestFinished(TestLine<'a>),
    AttemptFinished(AttemptLine<'a>),
    FileCached(CachedLine<'a>),
    FileVerdict(VerdictLine<'a>),
    StopRequested,
    Warning {
        message: &'a str,
    },
    RunFinished(SummaryLine<'a>),
}

#[derive(Serialize)]
struct HostLine<'a> {
    name: &'a str,
    runners: Option<u16>,
}

#[derive(Serialize)]
struct FileLine<'a> {
    path: &'a str,
    framework: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tests: &'a [String],
    predicted: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<PartLine>,
}

#[derive(Serialize)]
struct PartLine {
    number: u32,
    of: u32,
}

#[derive(Serialize)]
struct HookLine<'a> {
    host: &'a str,
    runner: Option<u16>,
    hook: &'static str,
    failure: Option<&'a str>,
    skipped: bool,
    seconds: f64,
    block: u64,
}

#[derive(Serialize)]
struct WorkerLine<'a> {
    host: &'a str,
    runner: u16,
    framework: &'a str,
    failure: Option<&'a str>,
    seconds: f64,
    /// What the run was spared, where the worker was kept from an earlier one.
    saved_seconds: Option<f64>,
    versions: Option<&'a str>,
    block: u64,
}

#[derive(Serialize)]
struct TestLine<'a> {
    attempt: u64,
    file: &'a str,
    file_id: u32,
    id: &'a str,
    name: &'a str,
    status: &'static str,
    seconds: f64,
    message: &'a str,
    details: &'a str,
    test_file: Option<&'a str>,
    line: Option<u32>,
}

#[derive(Serialize)]
struct AttemptLine<'a> {
    attempt: u64,
    file: &'a str,
    file_id: u32,
    host: &'a str,
    runner: u16,
    outcome: Option<&'static str>,
    interruption: Option<&'static str>,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    processor_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    message: &'a str,
    details: &'a str,
    leaked: &'a [String],
    block: Option<u64>,
}

#[derive(Serialize)]
struct CachedLine<'a> {
    file: &'a str,
    file_id: u32,
    run: &'a str,
    host: &'a str,
    finished_at_unix_ms: i64,
    seconds: f64,
    tests: Vec<CachedTestLine<'a>>,
}

#[derive(Serialize)]
struct CachedTestLine<'a> {
    id: &'a str,
    name: &'a str,
    status: &'static str,
    seconds: f64,
}

#[derive(Serialize)]
struct VerdictLine<'a> {
    file: &'a str,
    file_id: u32,
    verdict: &'static str,
    reason: Option<String>,
    reason_kind: Option<&'static str>,
    attempt: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_before: Vec<u64>,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    wall_seconds: f64,
    testing_seconds: f64,
    lower_bound_seconds: f64,
    runner_seconds: RunnerTimeLine,
    files: u32,
    outcomes: BTreeMap<&'static str, u32>,
    flaky: u32,
    cached: u32,
    not_run: u32,
    failed_ends: u32,
    tests: BTreeMap<&'static str, u64>,
    hosts: Vec<HostSummaryLine<'a>>,
    exit_status: u8,
}

#[derive(Serialize)]
struct RunnerTimeLine {
    preparing: f64,
    testing: f64,
    waiting: f64,
    between: f64,
}

#[derive(Serialize)]
struct HostSummaryLine<'a> {
    name: &'a str,
    runners: u16,
    files: u32,
    busy_seconds: f64,
    problems: &'a [String],
}

impl<'a> Line<'a> {
    /// The line for an event; `None` for output, whose bytes are in the aggregated log.
    pub(super) fn of(now: Duration, event: &'a RunEvent, names: &'a Names) -> Option<Line<'a>> {
        Event::of(event, names).map(|event| Line { at: seconds(now), event })
    }
}

impl<'a> Event<'a> {
    fn of(event: &'a RunEvent, names: &'a Names) -> Option<Event<'a>> {
        let host_name = |host: &HostId| names.host(*host);
        Some(match event {
            RunEvent::RunStarted { run, project, hosts, files } => Event::RunStarted {
                schema: JSON_SCHEMA,
                run,
                project,
                hosts: hosts.iter().map(HostLine::of).collect(),
                files: files.iter().map(FileLine::of).collect(),
            },
            RunEvent::RunResumed(former) => Event::RunResumed {
                run: &former.run,
                age_seconds: seconds(former.age),
                finished: former.finished,
                failed: former.failed,
                changed: former.changed,
                left: former.left,
                logs: &former.logs,
            },
            RunEvent::HostProgress { host, activity } => {
                Event::HostProgress { host: host_name(host), activity }
            }
            RunEvent::HostConnected { host, agent, cores, runners } => {
                Event::HostConnected { host: host_name(host), agent, cores: *cores, runners: *runners }
            }
            RunEvent::HostFailed { host, reason, hint } => {
                Event::HostFailed { host: host_name(host), reason, hint: hint.as_deref() }
            }
            RunEvent::HostSynced { host, snapshot, copied } => {
                let copied = copied.as_deref();
                Event::HostSynced { host: host_name(host), snapshot: *snapshot, copied }
            }
            RunEvent::HostChanged { host, change } => Event::HostChanged {
                host: host_name(host),
                change: change.word(),
                message: change.to_string(),
            },
            RunEvent::HookFinished { host, runner, hook, failure, skipped, duration, block } => {
                Event::HookFinished(HookLine {
                    host: host_name(host),
                    runner: runner.map(|runner| runner.number),
                    hook: hook.word(),
                    failure: failure.as_deref(),
                    skipped: *skipped,
                    seconds: seconds(*duration),
                    block: block.number,
                })
            }
            RunEvent::WorkerPrepared { runner, framework, failure, duration, saved, versions, block } => {
                Event::WorkerPrepared(WorkerLine {
                    host: names.host(runner.host),
                    runner: runner.number,
                    framework,
                    failure: failure.as_deref(),
                    seconds: seconds(*duration),
                    saved_seconds: saved.map(seconds),
                    versions: versions.as_deref(),
                    block: block.number,
                })
            }
            RunEvent::WorkerEnded { runner: RunnerId { host, number }, framework, failure, block } => {
                Event::WorkerEnded {
                    host: host_name(host),
                    runner: *number,
                    framework,
                    failure: failure.as_deref(),
                    block: block.number,
                }
            }
            RunEvent::RunnerReady { runner: RunnerId { host, number }, identifier } => {
                Event::RunnerReady { host: host_name(host), runner: *number, identifier }
            }
            RunEvent::LaunchUnavailable { runner: RunnerId { host, number }, framework, reason, hint } => {
                let (host, hint) = (host_name(host), hint.as_deref());
                Event::LaunchUnavailable { host, runner: *number, framework, reason, hint }
            }
            RunEvent::RunnerFailed { runner: RunnerId { host, number }, reason } => {
                let reason = phrases::runner_failure(reason.as_deref());
                Event::RunnerFailed { host: host_name(host), runner: *number, reason }
            }
            RunEvent::AttemptStarted { attempt, file, runner: RunnerId { host, number } } => {
                Event::AttemptStarted {
                    attempt: attempt.0,
                    file: names.path(*file),
                    file_id: file.0,
                    host: host_name(host),
                    runner: *number,
                }
            }
            RunEvent::AttemptDoubled { attempt, file, runner: RunnerId { host, number } } => {
                Event::AttemptDoubled {
                    attempt: attempt.0,
                    file: names.path(*file),
                    file_id: file.0,
                    host: host_name(host),
                    runner: *number,
                }
            }
            RunEvent::TestFinished { attempt, file, test } => {
                Event::TestFinished(TestLine::of(*attempt, *file, test, names))
            }
            RunEvent::Output { .. } => return None,
            RunEvent::AttemptFinished(report) => Event::AttemptFinished(AttemptLine::of(report, names)),
            RunEvent::FileCached { file, pass } => Event::FileCached(CachedLine::of(*file, pass, names)),
            RunEvent::FileVerdict { file, verdict, attempt, failed_before } => {
                Event::FileVerdict(VerdictLine::of(*file, verdict, *attempt, failed_before, names))
            }
            RunEvent::StopRequested => Event::StopRequested,
            RunEvent::Warning { message } => Event::Warning { message },
            RunEvent::RunFinished(summary) => Event::RunFinished(SummaryLine::of(summary)),
        })
    }
}

impl<'a> HostLine<'a> {
    fn of(plan: &'a HostPlan) -> HostLine<'a> {
        HostLine { name: &plan.name, runners: plan.runners }
    }
}

impl<'a> FileLine<'a> {
    fn of(plan: &'a FilePlan) -> FileLine<'a> {
        FileLine {
            path: &plan.path,
            framework: &plan.framework,
            tests: &plan.tests,
            predicted: plan.predicted.map(seconds),
            part: plan.part.map(|part| PartLine { number: part.number, of: part.of }),
        }
    }
}

impl<'a> TestLine<'a> {
    fn of(attempt: AttemptId, file: FileId, test: &'a TestResult, names: &'a Names) -> TestLine<'a> {
        TestLine {
            attempt: attempt.0,
            file: names.path(file),
            file_id: file.0,
            id: &test.id,
            name: &test.name,
            status: test.status.word(),
            seconds: seconds(test.duration),
            message: &test.message,
            details: &test.details,
            test_file: test.file.as_deref(),
            line: test.line,
        }
    }
}

impl<'a> AttemptLine<'a> {
    fn of(report: &'a AttemptReport, names: &'a Names) -> AttemptLine<'a> {
        let (outcome, interruption) = match report.result {
            AttemptResult::Outcome(outcome) => (Some(outcome.word()), None),
            AttemptResult::Interrupted(interruption) => (None, Some(interruption.word())),
        };
        AttemptLine {
            attempt: report.attempt.0,
            file: names.path(report.file),
            file_id: report.file.0,
            host: names.host(report.runner.host),
            runner: report.runner.number,
            outcome,
            interruption,
            seconds: seconds(report.duration),
            processor_seconds: report.usage.processor.map(seconds),
            peak_memory_bytes: report.usage.peak_memory,
            message: &report.message,
            details: &report.details,
            leaked: &report.leaked,
            block: report.block.map(|BlockId { number, .. }| number),
        }
    }
}

impl<'a> CachedLine<'a> {
    fn of(file: FileId, pass: &'a EarlierPass, names: &'a Names) -> CachedLine<'a> {
        let test = |test: &'a TestResult| CachedTestLine {
            id: &test.id,
            name: &test.name,
            status: test.status.word(),
            seconds: seconds(test.duration),
        };
        CachedLine {
            file: names.path(file),
            file_id: file.0,
            run: &pass.run,
            host: &pass.host,
            finished_at_unix_ms: pass.finished_at_unix_ms,
            seconds: seconds(pass.duration),
            tests: pass.tests.iter().map(test).collect(),
        }
    }
}

impl<'a> VerdictLine<'a> {
    fn of(
        file: FileId,
        verdict: &Verdict,
        attempt: Option<AttemptId>,
        failed_before: &[AttemptId],
        names: &'a Names,
    ) -> VerdictLine<'a> {
        let reason = match verdict {
            Verdict::Ran(_) | Verdict::Flaky | Verdict::Cached => None,
            Verdict::NotRun(reason) => Some(reason),
        };
        VerdictLine {
            file: names.path(file),
            file_id: file.0,
            verdict: verdict.word(),
            reason: reason.map(NotRunReason::to_string),
            reason_kind: reason.map(reason_kind),
            attempt: attempt.map(|attempt| attempt.0),
            failed_before: failed_before.iter().map(|attempt| attempt.0).collect(),
        }
    }
}

impl<'a> SummaryLine<'a> {
    fn of(summary: &'a RunSummary) -> SummaryLine<'a> {
        SummaryLine {
            wall_seconds: seconds(summary.wall),
            testing_seconds: seconds(summary.testing),
            lower_bound_seconds: seconds(summary.lower_bound),
            runner_seconds: RunnerTimeLine {
                preparing: seconds(summary.runner_time.preparing),
                testing: seconds(summary.runner_time.testing),
                waiting: seconds(summary.runner_time.waiting),
                between: seconds(summary.runner_time.between),
            },
            files: summary.files,
            outcomes: Outcome::ALL.map(Outcome::word).into_iter().zip(summary.outcomes).collect(),
            flaky: summary.flaky,
            cached: summary.cached,
            not_run: summary.not_run,
            failed_ends: summary.failed_ends,
            tests: TestStatus::ALL.map(TestStatus::word).into_iter().zip(summary.tests).collect(),
            hosts: summary.hosts.iter().map(HostSummaryLine::of).collect(),
            exit_status: summary.exit_status,
        }
    }
}

impl<'a> HostSummaryLine<'a> {
    fn of(summary: &'a HostSummary) -> HostSummaryLine<'a> {
        HostSummaryLine {
            name: &summary.name,
            runners: summary.runners,
            files: summary.files,
            busy_seconds: seconds(summary.busy),
            problems: &summary.problems,
        }
    }
}

/// Microseconds are exact enough, and shorter.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

fn reason_kind(reason: &NotRunReason) -> &'static str {
    match reason {
        NotRunReason::UnusableName => "unusable_name",
        NotRunReason::NoRunnerLeft(_) => "no_runner_left",
        NotRunReason::NoRunnerAble(_) => "no_runner_able",
        NotRunReason::TooManyInterruptions(_) => "too_many_interruptions",
        NotRunReason::FileGone(_) => "file_gone",
        NotRunReason::Stopped => "stopped",
        NotRunReason::FailedFast => "failed_fast",
    }
}
