//! `--resume`: what was asked for when the run began that is to be continued, and the journal of every run.

use std::time::{SystemTime, UNIX_EPOCH};

use super::RunArgs;
use crate::config::{ConfigSources, Flag};
use crate::error::UserError;
use crate::event_sinks::without_journal;
use crate::journal::{Begun, FileIdentity, Invocation, Journal, Journals, TakeUpError, TakenUp};

/// What is asked for: on the command line and, with `--resume`, by the run that is continued, which is taken up. Flags of
/// this command line take the place of the former ones.
///
/// # Errors
///
/// There is no run to continue.
pub(super) fn asked(
    args: &RunArgs,
    sources: &ConfigSources,
    journals: Option<&Journals>,
) -> Result<(Invocation, Option<TakenUp>), UserError> {
    let given = given(args, sources);
    if !args.resume {
        return Ok((given, None));
    }
    let journals = journals.ok_or_else(|| {
        UserError::usage("there is no state directory with the run to continue")
            .hint("set HOME or XDG_STATE_HOME to what it was for that run")
    })?;
    let former = journals.take_up().map_err(|error| cannot_resume(&error))?;
    let mut asked = former.invocation().clone();
    for (key, values) in given.flags {
        asked.flags.retain(|(former, _)| *former != key);
        asked.flags.push((key, values));
    }
    asked.junit = given.junit.or(asked.junit);
    asked.json = given.json.or(asked.json);
    Ok((asked, Some(former)))
}

/// The flags that set keys of the configuration.
pub(super) fn flags(asked: &Invocation) -> Vec<Flag> {
    asked.flags.iter().filter_map(|(key, values)| Flag::of(key, values.clone())).collect()
}

/// What this command line asks for, with paths that mean the same from any directory.
fn given(args: &RunArgs, sources: &ConfigSources) -> Invocation {
    let absolute = |key: &str, value: String| match key {
        "log.path" if !value.starts_with("~/") => sources.current_directory.join(value).display().to_string(),
        _ => value,
    };
    let flags = args.settings.flags().into_iter().map(|Flag { key, values }| {
        (key.to_owned(), values.into_iter().map(|value| absolute(key, value)).collect())
    });
    Invocation {
        paths: args.paths.clone(),
        framework_arguments: args.framework_arguments.clone(),
        flags: flags.collect(),
        junit: args.junit.as_ref().map(|path| sources.current_directory.join(path)),
        json: args.json.as_ref().map(|path| sources.current_directory.join(path)),
    }
}

fn cannot_resume(error: &TakeUpError) -> UserError {
    let hint = match error {
        TakeUpError::Nothing => "without --resume everything is run",
        TakeUpError::GoesOn { .. } => "wait for its end, or stop it with Ctrl-C first",
        TakeUpError::Unreadable { .. } | TakeUpError::Open { .. } => "run without --resume, from the start",
    };
    let failed = UserError::usage(format!("cannot resume: {error}"));
    let failed =
        std::error::Error::source(error).into_iter().fold(failed, |failed, cause| failed.because(cause));
    failed.hint(hint)
}

/// What the journal says about a run that begins.
pub(super) fn begun(run: &str, started_at: SystemTime, log: String, invocation: Invocation) -> Begun {
    let since_epoch = started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Begun {
        run: run.to_owned(),
        at_unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        process: std::process::id(),
        log,
        invocation,
    }
}

/// The journal of a run, its own or that of the run it continues. Without one the run goes on, with a warning.
pub(super) fn journal(
    journals: Option<&Journals>,
    former: Option<TakenUp>,
    begun: Begun,
    files: Vec<FileIdentity>,
    warnings: &mut Vec<String>,
) -> Option<Journal> {
    let begun = match former {
        Some(former) => former.go_on(begun, files),
        None => journals?.begin(begun, files),
    };
    begun.inspect_err(|error| warnings.push(without_journal(error))).ok()
}
