//! Runs the hooks `node_setup` and `runner_setup`.
//!
//! A hook runs in the workspace, at its place there or from the run's private directory, and may append `KEY=value`
//! lines to the file `$DISTRIBUTEST_ENV`. With a fingerprint it is skipped while that is unchanged. What a hook
//! leaves running (a database server, say) lives as long as the run.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use distributest_process::{Exit, SpawnError, StopError};
use distributest_protocol::conversions::microseconds;
use distributest_protocol::wire;
use distributest_protocol::wire::agent_message::Kind;
use distributest_protocol::wire::hook::Source;
use tokio::time::Instant;

use super::context::{Program, RunContext, STOP_GRACE, Started, run_out, time_limit};
use super::environment::{ENVIRONMENT_FILE, Environment, EnvironmentFileError};
use super::private_directory::PrivateDirectory;
use crate::failure::{self, Failure};

/// A hook, ready to run.
pub(crate) struct Hook {
    /// `node_setup` or `runner_setup`.
    name: &'static str,
    /// What to execute, relative to the workspace or absolute.
    program: PathBuf,
    /// What people call it.
    shown: String,
    timeout: Option<Duration>,
    fingerprint: String,
}

/// For whom a hook runs.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// The whole host.
    Node,
    /// One runner.
    Runner {
        /// Its number.
        number: u16,
        /// Its identifier, the hook's argument.
        identifier: &'a str,
    },
}

/// What a hook did.
#[derive(Default)]
pub(crate) struct Prepared {
    /// The environment it gave to what follows.
    pub(crate) given: Environment,
    /// Its processes, if any are left; they end when this is dropped.
    pub(crate) left_running: Option<Started>,
}

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
enum HookError {
    #[error("failed to start it")]
    Spawn(#[source] SpawnError),
    #[error("it left with {0}")]
    Exit(Exit),
    #[error("it ran longer than its time limit of {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("what it wrote can't be used")]
    EnvironmentFile(#[from] EnvironmentFileError),
    #[error("failed to prepare it")]
    Prepare(#[source] io::Error),
    #[error("what it left running can't be listed")]
    List(#[from] StopError),
}

impl Hook {
    /// Takes a hook as it came over the wire; its program, if that came too, is written to `private`.
    ///
    /// `None` when the message names no hook.
    pub(crate) fn new(
        name: &'static str,
        hook: wire::Hook,
        private: &PrivateDirectory,
    ) -> Result<Option<Self>, wire::Failure> {
        let (program, shown) = match hook.source {
            None => return Ok(None),
            // A name without a slash would be looked for in PATH.
            Some(Source::WorkspacePath(path)) => (PathBuf::from("./").join(&path), path),
            Some(Source::Content(content)) => {
                let written = private.write(name, &content, true).map_err(|error| {
                    wire::Failure::from(Failure::host("write the hook", name).because(error.to_string()))
                })?;
                (written, format!("/etc/distributest/{name}"))
            }
        };
        let timeout = time_limit(hook.timeout_milliseconds);
        Ok(Some(Hook { name, program, shown, timeout, fingerprint: hook.fingerprint }))
    }

    /// Runs the hook, unless its fingerprint is unchanged, and tells the coordinator how it went.
    pub(crate) async fn run(
        &self,
        context: &RunContext,
        subject: Subject<'_>,
        environment: &Environment,
    ) -> Result<Prepared, wire::Failure> {
        let (runner, memory) = match subject {
            Subject::Node => (0, self.name.to_owned()),
            Subject::Runner { number, identifier } => {
                (u32::from(number), format!("{}-{identifier}", self.name))
            }
        };
        if let Some(given) = context.workspace.recall(&memory, &self.fingerprint) {
            let block = Some(wire::OutputBlock::default());
            let skipped = wire::HookFinished { runner, skipped: true, block, ..Default::default() };
            context.updates.send(Kind::HookFinished(skipped)).await;
            return Ok(Prepared { given, left_running: None });
        }
        let begin = Instant::now();
        let (ended, block) = self.execute(context, subject, &memory, environment).await;
        let ended = ended.map_err(|error| self.failure(&error));
        let finished = wire::HookFinished {
            runner,
            failure: ended.as_ref().err().cloned(),
            duration_microseconds: microseconds(begin.elapsed()),
            block: Some(block),
            skipped: false,
        };
        context.updates.send(Kind::HookFinished(finished)).await;
        ended
    }

    /// Runs it to its end. The block is empty when it did not start.
    async fn execute(
        &self,
        context: &RunContext,
        subject: Subject<'_>,
        memory: &str,
        environment: &Environment,
    ) -> (Result<Prepared, HookError>, wire::OutputBlock) {
        let started = match self.start(context, subject, memory, environment).await {
            Ok(started) => started,
            Err(error) => return (Err(error), wire::OutputBlock::default()),
        };
        let (environment_file, started) = started;
        let ended = tokio::select! {
            exit = started.tree.wait() => if exit.is_success() { Ok(()) } else { Err(HookError::Exit(exit)) },
            () = run_out(self.timeout) => Err(HookError::TimedOut(self.timeout.unwrap_or_default())),
        };
        if ended.is_err()
            && let Err(error) = started.tree.stop(STOP_GRACE).await
        {
            tracing::warn!(%error, hook = self.shown, "failed to end a hook");
        }
        let block = started.capture.close_block().await;
        let prepared = match ended {
            Ok(()) => self.conclude(context, memory, &environment_file, started).await,
            Err(error) => Err(error),
        };
        (prepared, block)
    }

    async fn start(
        &self,
        context: &RunContext,
        subject: Subject<'_>,
        memory: &str,
        environment: &Environment,
    ) -> Result<(PathBuf, Started), HookError> {
        if !self.fingerprint.is_empty() {
            context.workspace.forget(memory).map_err(HookError::Prepare)?;
        }
        let file_name = format!("{memory}.environment");
        let environment_file = context.private.write(&file_name, b"", false).map_err(HookError::Prepare)?;
        let mut environment = environment.clone();
        environment.set(ENVIRONMENT_FILE, &environment_file);
        let arguments = match subject {
            Subject::Node => Vec::new(),
            Subject::Runner { identifier, .. } => vec![OsString::from(identifier)],
        };
        let program = self.program.clone().into_os_string();
        let program = Program { program, arguments, environment: environment.variables(), control: false };
        Ok((environment_file, context.start(program).await.map_err(HookError::Spawn)?))
    }

    /// Takes what a successful hook gave and remembers it.
    async fn conclude(
        &self,
        context: &RunContext,
        memory: &str,
        environment_file: &std::path::Path,
        started: Started,
    ) -> Result<Prepared, HookError> {
        let given = Environment::read_file(environment_file)?;
        if !self.fingerprint.is_empty()
            && let Err(error) = context.workspace.remember(memory, &self.fingerprint, &given)
        {
            tracing::warn!(%error, hook = self.shown, "failed to remember a hook; it will run again");
        }
        let left = started.tree.leaked(Duration::ZERO).await?;
        let left_running = (!left.is_empty()).then_some(started);
        Ok(Prepared { given, left_running })
    }

    fn failure(&self, error: &HookError) -> wire::Failure {
        let failure = match error {
            HookError::Prepare(_) | HookError::List(_) => Failure::host("run the hook", &self.shown),
            _ => Failure::configuration("run the hook", &self.shown),
        };
        let hint = match error {
            HookError::Spawn(SpawnError::NotExecutable { .. }) => {
                format!(
                    "make it executable (chmod +x {}) and begin it with #!/bin/sh or the like",
                    self.shown
                )
            }
            HookError::Spawn(SpawnError::InterpreterNotFound { .. }) => {
                "install what its first line names on this host, or name another interpreter".to_owned()
            }
            HookError::Exit(_) => "its output is in the log".to_owned(),
            HookError::TimedOut(_) => {
                format!("its output is in the log; if it needs the time, raise {}_timeout", self.name)
            }
            _ => String::new(),
        };
        failure.because(failure::chain(error)).hint(hint).into()
    }
}
