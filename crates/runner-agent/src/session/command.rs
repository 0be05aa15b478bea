//! Files that are run by a process of their own, whose exit status decides.

use std::ffi::OsString;
use std::iter;
use std::time::Duration;

use distributest_core::outcome::{Interruption, Outcome};
use distributest_core::run_event::AttemptResult;
use distributest_core::test_result::{TestResult, TestStatus};
use distributest_core::usage::Usage;
use distributest_process::{Exit, LeakedProcess, ProcessTree, SpawnError, Variables};
use distributest_protocol::conversions::test_to_wire;
use distributest_protocol::gathering::Haste;
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use tokio::time::Instant;

use super::attempt::{Attempt, Ended};
use super::context::{Program, RunContext, STOP_GRACE};
use super::hang;
use super::time_limit::overrun;
use crate::failure::{self, Failure};

/// How long processes may take to leave by themselves after their attempt's end before they count as leaked.
pub(crate) const LEAK_PATIENCE: Duration = Duration::from_millis(200);

/// Runs a file as a command. `haste`: with the news of its start. The failure, if any, concerns every other file as well:
/// the runner can't go on.
pub(crate) async fn run(
    context: &RunContext,
    environment: &Variables,
    launch: &wire::CommandLaunch,
    attempt: &Attempt,
    haste: Haste,
) -> (Ended, Option<wire::Failure>) {
    if let Some(unknown) = attempt.tests.iter().find(|test| **test != attempt.file) {
        return (no_such_test(&attempt.file, unknown), None);
    }
    let begin = Instant::now();
    let (program, arguments) = command_line(launch, &attempt.file);
    let shown = program.to_string_lossy().into_owned();
    let program = Program { program, arguments, environment: environment.clone(), control: false };
    let started = match context.start_ahead(program) {
        Ok(started) => started,
        Err(error) => return could_not_start(launch, &shown, &error),
    };
    let (block, heard) = (started.capture.block_number(), started.capture.heard());
    let begun = wire::AttemptStarted { attempt: attempt.number, block };
    context.updates.send_in(haste, Kind::AttemptStarted(begun)).await;

    let mut ended = tokio::select! {
        biased;
        () = attempt.cancelled.cancelled() => Ended::cancelled(),
        timed_out = overrun(attempt.time_limit, &heard) => {
            hang::take_note(&started, false, attempt, timed_out).await;
            Ended::timed_out(timed_out)
        }
        exit = started.tree.wait() => judge(exit),
    };
    if let Some(error) = started.tree.failed_start() {
        let (ended, failure) = could_not_start(launch, &shown, &error);
        return (Ended { block: Some(started.capture.close_block().await), ..ended }, failure);
    }
    ended.duration = begin.elapsed();
    ended.leaked = clear_away(&started.tree).await;
    ended.usage = usage(&started.tree);
    if matches!(ended.result, AttemptResult::Outcome(Outcome::Crashed | Outcome::Failed))
        && started.tree.poll_exit().is_some_and(may_be_killed)
        && context.out_of_memory_kills.any_since(begin.into_std())
    {
        ended = ended.out_of_memory("");
    }
    ended.block = Some(started.capture.close_block().await);
    report_as_test(context, attempt, &ended).await;
    (ended, None)
}

/// What a tree used, but for what outlived its root.
fn usage(tree: &ProcessTree) -> Usage {
    let known = tree.usage();
    Usage { processor: known.map(|usage| usage.processor), peak_memory: known.map(|usage| usage.peak_memory) }
}

/// Whether a program was killed, or is a shell that says so of the last thing it ran.
fn may_be_killed(exit: Exit) -> bool {
    const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();
    exit == Exit::Signal(SIGKILL) || exit == Exit::Code(128 + SIGKILL)
}

/// Ends what is left of a tree; names what outlived its root.
async fn clear_away(tree: &ProcessTree) -> Vec<String> {
    let leaked =
        if tree.poll_exit().is_some() { name_leaked(tree, &Known::default()).await } else { Vec::new() };
    if let Err(error) = tree.stop(STOP_GRACE).await {
        tracing::warn!(%error, "failed to end a test's processes");
    }
    leaked.into_iter().map(|leak| leak.to_string()).collect()
}

/// Processes that an attempt has not left behind.
#[derive(Default)]
pub(crate) struct Known {
    /// Those that were there before.
    pub(crate) before: Vec<u32>,
    /// Those that a worker has started for its next file, with everything below them.
    pub(crate) for_next_file: Vec<u32>,
}

impl Known {
    fn has(&self, process: &LeakedProcess, all: &[LeakedProcess]) -> bool {
        let parent = |pid: &u32| all.iter().find(|other| other.pid == *pid)?.parent;
        self.before.contains(&process.pid)
            || iter::successors(Some(process.pid), parent).any(|pid| self.for_next_file.contains(&pid))
    }
}

/// The processes of an attempt that outlive it.
pub(crate) async fn name_leaked(tree: &ProcessTree, known: &Known) -> Vec<LeakedProcess> {
    if known.before.is_empty() && known.for_next_file.is_empty() {
        return list_leaked(tree, LEAK_PATIENCE).await;
    }
    // Known ones would always use up the patience, so it is only had when there are others.
    if list_unknown(tree, known).await.is_empty() {
        return Vec::new();
    }
    tokio::time::sleep(LEAK_PATIENCE).await;
    list_unknown(tree, known).await
}

async fn list_unknown(tree: &ProcessTree, known: &Known) -> Vec<LeakedProcess> {
    let all = list_leaked(tree, Duration::ZERO).await;
    all.iter().filter(|process| !known.has(process, &all)).cloned().collect()
}

async fn list_leaked(tree: &ProcessTree, patience: Duration) -> Vec<LeakedProcess> {
    tree.leaked(patience).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "failed to look for leaked processes");
        Vec::new()
    })
}

/// A command has one test, of the file's name: there is no running a part of it.
fn no_such_test(file: &str, test: &str) -> Ended {
    let message =
        format!("there is no test {test:?}: a command runs {file} as a whole, as one test of that name");
    Ended::outcome(Outcome::Failed, message)
}

fn judge(exit: Exit) -> Ended {
    match exit {
        Exit::Code(0) => Ended::outcome(Outcome::Passed, ""),
        Exit::Code(_) => Ended::outcome(Outcome::Failed, exit.to_string()),
        Exit::Signal(_) => Ended::outcome(Outcome::Crashed, format!("killed by {exit}")),
    }
}

/// A file that is its own program is broken when it can't be executed; anything else is wrong with the runner.
fn could_not_start(
    launch: &wire::CommandLaunch,
    program: &str,
    error: &SpawnError,
) -> (Ended, Option<wire::Failure>) {
    let is_file = launch.command.first().is_some_and(|first| first.contains(PLACEHOLDER));
    match error {
        SpawnError::NotExecutable { .. } if is_file => {
            let message = format!("{program} is not executable; chmod +x it, or set `command`");
            (Ended::outcome(Outcome::Broken, message), None)
        }
        SpawnError::ProgramNotFound { .. } | SpawnError::InterpreterNotFound { .. } if is_file => {
            (Ended::outcome(Outcome::Broken, failure::chain(error)), None)
        }
        // The next one may start: there are too many processes, or somebody killed all those of the cgroup, just now.
        SpawnError::OutOfProcesses { .. } | SpawnError::JoinCgroup { .. } => {
            (Ended::interrupted(Interruption::RunnerLost, failure::chain(error)), None)
        }
        _ => {
            let failure = Failure::host("start the command", program)
                .because(failure::chain(error))
                .hint("install the program on this host, or correct `command` in the configuration");
            let message = failure::chain(error);
            (Ended::interrupted(Interruption::RunnerLost, message), Some(failure.into()))
        }
    }
}

/// Stands for the file in a command.
const PLACEHOLDER: &str = "{file}";

/// The program and its arguments. The file's path never looks like an option or like a name to find in `PATH`.
fn command_line(launch: &wire::CommandLaunch, file: &str) -> (OsString, Vec<OsString>) {
    let file = if file.starts_with('-') { format!("./{file}") } else { file.to_owned() };
    let mut words = launch.command.iter().map(|word| word.replace(PLACEHOLDER, &file));
    let mut program = words.next().unwrap_or_default();
    if program == file && !program.contains('/') {
        program = format!("./{program}");
    }
    (program.into(), words.map(OsString::from).collect())
}

/// A command is one test, of the file's name.
async fn report_as_test(context: &RunContext, attempt: &Attempt, ended: &Ended) {
    let status = match ended.result {
        AttemptResult::Outcome(Outcome::Passed) => TestStatus::Passed,
        AttemptResult::Outcome(Outcome::Failed) => TestStatus::Failed,
        _ => return,
    };
    let test = TestResult {
        id: attempt.file.clone(),
        name: attempt.file.clone(),
        status,
        duration: ended.duration,
        message: ended.message.clone(),
        details: String::new(),
        file: Some(attempt.file.clone()),
        line: None,
    };
    context.updates.send_in(Haste::Soon, Kind::TestFinished(test_to_wire(attempt.number, test))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &[&str], file: &str) -> Vec<String> {
        let launch = wire::CommandLaunch { command: command.iter().map(|word| (*word).to_owned()).collect() };
        let (program, arguments) = command_line(&launch, file);
        std::iter::once(program).chain(arguments).map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_file_stands_where_the_command_says() {
        assert_eq!(words(&["bash", "-e", "{file}"], "t/a b.sh"), ["bash", "-e", "t/a b.sh"]);
        assert_eq!(words(&["run", "--file={file}"], "a"), ["run", "--file=a"]);
        assert_eq!(words(&["{file}"], "t/a.sh"), ["t/a.sh"]);
    }

    #[test]
    fn a_file_is_never_taken_for_a_program_in_path_or_an_option() {
        assert_eq!(words(&["{file}"], "ls"), ["./ls"]);
        assert_eq!(words(&["bash", "{file}"], "-c"), ["bash", "./-c"]);
    }
}
