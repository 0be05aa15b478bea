//! Sentences that both the log and the console say.

use std::time::Duration;

use distributest_core::identity::{HostId, RunnerId};
use distributest_core::run_event::{EarlierPass, FormerRun};
use distributest_core::usage::{Usage, memory_in_words};

use crate::format;
use crate::names::Names;

/// What is said of a file that takes too long where it runs.
pub(crate) const DOUBLED: &str = "takes long: another host, which has nothing else to do, runs it as well";

/// Where a hook ran: `h1`, `h1 runner 2`.
pub(crate) fn lane(names: &Names, host: HostId, runner: Option<RunnerId>) -> String {
    runner.map_or_else(|| names.host(host).to_owned(), |runner| names.runner(runner))
}

/// How a hook ended.
pub(crate) fn hook_end(failure: Option<&str>, skipped: bool, duration: Duration) -> String {
    match failure {
        _ if skipped => "skipped, its inputs are unchanged".to_owned(),
        None => format!("done in {}", format::seconds(duration)),
        Some(reason) => format!("failed after {}: {reason}", format::seconds(duration)),
    }
}

/// How a worker's preparation ended.
pub(crate) fn worker_end(failure: Option<&str>, duration: Duration, saved: Option<Duration>) -> String {
    match (failure, saved) {
        (None, Some(saved)) => format!("kept from an earlier run, spared {}", format::seconds(saved)),
        (None, None) => format!("ready in {}", format::seconds(duration)),
        (Some(reason), _) => format!("failed after {}: {reason}", format::seconds(duration)),
    }
}

/// Of which pass a file's verdict is that was not run.
pub(crate) fn passed_before(pass: &EarlierPass) -> String {
    let EarlierPass { run, host, duration, .. } = pass;
    format!("passed in run {run} with the same inputs, in {} on {host}", format::seconds(*duration))
}

/// How a worker left.
pub(crate) fn last_words(failure: Option<&str>) -> String {
    failure.map_or_else(|| "left".to_owned(), |failure| format!("failed behind its last file: {failure}"))
}

/// What an attempt used, as far as that is known: `, 9.80 s of processor, 812 MB`.
pub(crate) fn usage(usage: Usage) -> String {
    let processor = usage.processor.map(|time| format!(", {} of processor", format::seconds(time)));
    let memory = usage.peak_memory.map(|bytes| format!(", {}", memory_in_words(bytes)));
    [processor, memory].into_iter().flatten().collect()
}

/// Why a runner takes no part, or no longer.
pub(crate) fn runner_failure(reason: Option<&str>) -> &str {
    reason.unwrap_or("none of the run's frameworks can be run on it")
}

/// What answered on a host: `resident agent 0.1.0, 8 cores, 8 runners`.
pub(crate) fn connected(agent: &str, cores: u16, runners: u16) -> String {
    format!("{agent}, {}, {}", format::count(cores.into(), "core"), format::count(runners.into(), "runner"))
}

/// What a run continues: `resuming run 6b02-1f, begun 3 min 02 s ago: 140 of 200 files are done (3 failed), 60 to run`.
pub(crate) fn resuming(former: &FormerRun) -> String {
    let FormerRun { run, age, finished, failed, changed, left, .. } = former;
    let age = format::whole_duration(*age);
    let failures = if *failed > 0 { format!(" ({failed} failed)") } else { String::new() };
    let files = format::count((finished + left).into(), "file");
    let verb = if *finished == 1 { "is" } else { "are" };
    let changes = if *changed > 0 { format!(" ({changed} changed since)") } else { String::new() };
    format!(
        "resuming run {run}, begun {age} ago: {finished} of {files} {verb} done{failures}, {left} to run{changes}"
    )
}
