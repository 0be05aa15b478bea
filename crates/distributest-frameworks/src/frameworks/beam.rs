//! What the frameworks of Erlang and Elixir have in common: a virtual machine that is watched over by a shell.

use crate::launch::{Isolation, Launch, LaunchOptions, WorkerLaunch};

/// A virtual machine can't be forked.
pub(crate) const ISOLATIONS: &[Isolation] = &[Isolation::Shared, Isolation::Process];

/// The shell's program text, which takes the command to watch over as its arguments.
const SUPERVISOR: &str = include_str!("../../workers/beam_supervisor.sh");

/// A worker program that `command` runs in a virtual machine.
pub(crate) fn launch(
    command: &[&str],
    worker_file_name: &'static str,
    worker_source: &'static str,
    options: &LaunchOptions,
) -> Launch {
    let arguments = ["-c", SUPERVISOR, "sh"].iter().chain(command).map(ToString::to_string).collect();
    Launch::Worker(WorkerLaunch {
        arguments,
        isolation: options.isolation.unwrap_or(ISOLATIONS[0]),
        ..WorkerLaunch::embedded(&["sh"], worker_file_name, worker_source, options)
    })
}
