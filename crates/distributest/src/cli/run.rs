//! `distributest [run]`: puts a run together from the configuration and drives it to its end.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use distributest_core::identity::HostId;
use distributest_core::ledger::EXIT_NOT_RUN;
use distributest_history::{History, RecordedAttempt, RecordedPass, Recorder, RunInfo};
use distributest_protocol::conversions::milliseconds;
use distributest_protocol::wire;
use distributest_report::format::shell_quote;
use distributest_report::{
    AggregatedLog, Console, ConsoleOptions, JUnit, JsonLines, LogDestination, LogFileError, PreparedLog,
    Reporters, Verbosity, prepare_log,
};
use sha2::{Digest, Sha256};
use tokio::runtime::{self, Runtime};
use tokio::time::Instant;

use super::{RunArgs, resume};
use crate::agents::Patience;
use crate::cache::{PassWatch, ResultCache};
use crate::config::{
    self, Config, ConfigSources, Flag, Hook, HookSource, Hooks, LOCALHOST, find_hooks, flag_of,
};
use crate::driver::{DriverOptions, drive};
use crate::dry_run;
use crate::error::{UserError, chain};
use crate::event_sinks::EventSinks;
use crate::hosts::{FirstConnections, FirstLook, HostPlace, HostSpec, Introduction, RunSpec};
use crate::journal::{self, FileIdentity, Invocation, Journals, TakenUp};
use crate::plan::{Request, RunPlan, plan};
use crate::project::{Initiator, Project};
use crate::signals::Signals;
use crate::terminal::{self, Terminal};

/// Threads beside the main one, which drives the run and may wait for a disk: this one keeps connections alive meanwhile. More
/// would only cost memory.
const THREADS: usize = 1;

/// The keys whose flags decide whether a file is a test and how it is run.
const FLAGS_OF_A_FILE: [&str; 4] = ["frameworks", "files", "command", "isolation"];

/// Runs the tests and returns the exit status.
///
/// # Errors
///
/// What keeps the run from starting: usage, configuration, no tests, an unwritable log.
pub fn run(args: &RunArgs) -> Result<u8, UserError> {
    let start = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "the date of the run, for people and for names of files")]
    let started_at = SystemTime::now();
    let sources = args.settings.sources()?;
    check_fail_fast(args)?;
    let project = project(&sources)?;
    let state = state_directory(sources.home.as_deref());
    let journals = state.as_deref().map(|state| Journals::of(state, &project));
    let (asked, mut former) = resume::asked(args, &sources, journals.as_ref())?;
    let flags = resume::flags(&asked);
    let (config, _) = config::load(&sources, &flags)?;
    let hosts = hosts(&config);
    let first_look = FirstLook::new(project.directory.clone(), config.sync.clone()).settling(config.cache);
    if !args.dry_run && hosts.iter().any(|host| !host.place.is_in_place()) {
        first_look.take();
    }
    let run = run_identifier(started_at);
    let introduction = introduction(&run, &project, &config);
    let runtime = runtime()?;
    let first_connections = match args.dry_run {
        true => FirstConnections::default(),
        false => FirstConnections::begin(runtime.handle(), &hosts, &introduction),
    };
    let hooks = find_hooks(&sources)?;
    let mut warnings = Vec::new();
    let (history, past) = open_history(state.as_deref(), &project, &mut warnings);
    let request = Request { paths: &asked.paths, framework_arguments: &asked.framework_arguments };
    let mut plan = plan(run, project, &config, &request, &past)?;
    split_files(&mut plan, &config, &hosts, history.as_ref(), &mut warnings);
    let mut files = journal::identify(&plan);
    if let Some(former) = &mut former {
        files = former.set_aside(&mut plan, files, started_at);
    }
    let terminal = Terminal::of_process(args.color);
    if args.dry_run {
        terminal::print(&dry_run::describe(&plan, &hosts));
        return Ok(0);
    }
    let former_logs = former.iter().flat_map(TakenUp::logs).collect();
    let log = open_log(&config, state.as_deref(), &plan.run, started_at, former_logs)?;
    warnings.extend(log.warnings.iter().cloned());
    let log_path = log.path.clone();
    let console = ConsoleOptions {
        log_path: Some(log_path.clone()),
        ..console_options(args, &config, &terminal, &flags)
    };
    let reporters = reporters(&asked, log, Console::new(console, terminal.outputs()), started_at)?;
    let spec = RunSpec { first_connections, ..run_spec(&plan, &config, hooks, first_look, introduction) };
    let cache = result_cache((&plan, &files), &spec, &config, state.as_deref(), &mut warnings);
    plan.passes = earlier_passes(cache.as_ref(), history.as_ref(), &plan.project, &mut warnings);
    let recorder = history.map(|history| Recorder::new(history, run_info(&plan, started_at)));
    let begun = resume::begun(&plan.run, started_at, log_path.display().to_string(), asked);
    let journal = resume::journal(journals.as_ref(), former, begun, files, &mut warnings);
    let sinks = EventSinks::new(start, recorder, reporters, warnings, config.flaky_fails)
        .with_journal(journal, plan.resumed_events(&hosts))
        .with_passes(cache.map(PassWatch::new));
    let options = DriverOptions {
        hosts,
        run: Arc::new(spec),
        timeout: config.timeout,
        fail_fast: config.fail_fast,
        require_hosts: config.require_hosts,
    };
    drive_to_its_end(runtime, &plan, options, sinks)
}

/// Returns the exit status.
///
/// The runtime is kept to the very end: requests to stop are heard as long as it lives.
fn drive_to_its_end(
    runtime: Runtime,
    plan: &RunPlan,
    options: DriverOptions,
    mut sinks: EventSinks,
) -> Result<u8, UserError> {
    let summary = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(|error| failed("listen to signals", &error))?;
        Ok::<_, UserError>(drive(plan, options, &mut sinks, &mut signals).await)
    })?;
    let missing = sinks.finish();
    runtime.shutdown_background();
    // A report somebody asked for and did not get must not look like success.
    let status =
        if summary.exit_status == 0 && !missing.is_empty() { EXIT_NOT_RUN } else { summary.exit_status };
    Ok(status)
}

fn project(sources: &ConfigSources) -> Result<Project, UserError> {
    let directory = sources.project.clone();
    if directory.to_str().is_none() {
        let message = format!("the path of the project, {}, is not valid UTF-8", directory.display());
        return Err(
            UserError::usage(message).hint("rename the directory that is not, or work in a copy elsewhere")
        );
    }
    Ok(Project::of(directory))
}

fn failed(operation: &str, error: &dyn Error) -> UserError {
    UserError::usage(format!("failed to {operation}")).because(error)
}

/// Tells an error whose own words say which operation failed.
fn failed_to(error: &dyn Error) -> UserError {
    let failed = UserError::usage(format!("failed to {error}"));
    match error.source() {
        Some(source) => failed.because(source),
        None => failed,
    }
}

fn runtime() -> Result<Runtime, UserError> {
    let mut builder = runtime::Builder::new_multi_thread();
    builder.worker_threads(THREADS).enable_all().build().map_err(|error| failed("start the runtime", &error))
}

/// The hosts that take part, this machine first.
fn hosts(config: &Config) -> Vec<HostSpec> {
    let local = config
        .local
        .then(|| (LOCALHOST.to_owned(), HostPlace::Local { snapshot: config.snapshot }, config.runners));
    let remote =
        config.hosts.iter().map(|host| (host.name.clone(), HostPlace::Remote(host.clone()), host.runners));
    let places = local.into_iter().chain(remote);
    let numbered = (0..).map(HostId).zip(places);
    numbered.map(|(id, (name, place, runners))| HostSpec { id, name, place, runners }).collect()
}

/// `$XDG_STATE_HOME/distributest`, else `~/.local/state/distributest`.
fn state_directory(home: Option<&Path>) -> Option<PathBuf> {
    let named = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| Some(home?.join(".local/state"))).map(|directory| directory.join("distributest"))
}

/// What earlier runs took. Without a history the run goes on, in a guessed order.
fn open_history(
    state: Option<&Path>,
    project: &Project,
    warnings: &mut Vec<String>,
) -> (Option<History>, HashMap<String, Vec<RecordedAttempt>>) {
    let Some(state) = state else { return (None, HashMap::new()) };
    let opened = History::open(&state.join("history.sqlite")).and_then(|(history, opening)| {
        warnings.extend(opening.iter().map(ToString::to_string));
        let past = history.recent(&project.history_key)?;
        Ok((history, past))
    });
    match opened {
        Ok((history, past)) => (Some(history), past),
        Err(error) => {
            warnings.push(format!("failed to {}; the run goes on without its history", chain(&error)));
            (None, HashMap::new())
        }
    }
}

/// What a plan's files depend on, if anybody wants to know.
fn result_cache(
    plan: (&RunPlan, &[FileIdentity]),
    spec: &RunSpec,
    config: &Config,
    state: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Option<ResultCache> {
    config.cache.then(|| ResultCache::look(plan, spec, config, state, warnings))
}

/// Passes that may stand for running files. Without them every file is run.
fn earlier_passes(
    cache: Option<&ResultCache>,
    history: Option<&History>,
    project: &Project,
    warnings: &mut Vec<String>,
) -> Vec<Vec<RecordedPass>> {
    let (Some(cache), Some(history)) = (cache, history) else { return Vec::new() };
    cache.passes(history, &project.history_key).unwrap_or_else(|error| {
        warnings.push(format!("failed to {}; the run goes on without the cache", chain(&error)));
        Vec::new()
    })
}

/// Date, time and process: unique on this machine, sorted by start, and short enough to read out.
fn run_identifier(started_at: SystemTime) -> String {
    let seconds = started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{seconds:x}-{:x}", std::process::id())
}

fn run_info(plan: &RunPlan, started_at: SystemTime) -> RunInfo {
    let started = started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    RunInfo {
        run: plan.run.clone(),
        project_key: plan.project.history_key.clone(),
        project_name: plan.project.name.clone(),
        started_at_unix_ms: i64::try_from(started).unwrap_or(i64::MAX),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Opens the log where the user wants it, with what former runs wrote there that are continued, else in the state directory, else in a new temporary directory.
fn open_log(
    config: &Config,
    state: Option<&Path>,
    run: &str,
    started_at: SystemTime,
    former: Vec<PathBuf>,
) -> Result<PreparedLog, UserError> {
    let unusable = |error: LogFileError| {
        failed_to(&error).hint("set `log.path` (DISTRIBUTEST_LOG_PATH, --log-file) to a file you can write")
    };
    if let Some(path) = &config.log.path {
        let destination = match former.is_empty() {
            true => LogDestination::File(path.clone()),
            false => LogDestination::Continued { path: path.clone(), former },
        };
        return prepare_log(&destination, run, started_at).map_err(unusable);
    }
    let keep = usize::try_from(config.log.keep).unwrap_or(usize::MAX);
    let in_directory =
        |directory| prepare_log(&LogDestination::Directory { directory, keep }, run, started_at);
    let reason = match state.map(|state| in_directory(state.join("logs"))) {
        Some(Ok(log)) => return Ok(log),
        Some(Err(error)) => format!("failed to {}", chain(&error)),
        None => "neither XDG_STATE_HOME nor HOME is set".to_owned(),
    };
    let made = tempfile::Builder::new().prefix("distributest-log-").tempdir();
    let directory = made.map_err(|error| failed("make a temporary directory for the log", &error))?.keep();
    let mut log = in_directory(directory).map_err(unusable)?;
    log.warnings.push(format!("{reason}; the log of this run is in a temporary directory"));
    Ok(log)
}

/// Splits files that take too long; without what the history knows of their tests, they stay whole.
fn split_files(
    plan: &mut RunPlan,
    config: &Config,
    hosts: &[HostSpec],
    history: Option<&History>,
    warnings: &mut Vec<String>,
) {
    let Some(history) = history.filter(|_| !config.split.is_empty()) else { return };
    let runners = hosts.iter().map(|host| u32::from(host.expected_runners())).sum();
    let key = plan.project.history_key.clone();
    let split = plan.split_files(&config.split, runners, |paths| history.tests_of(&key, paths));
    if let Err(error) = split {
        warnings.push(format!("failed to {}; no file is split", chain(&error)));
    }
}

/// Every consumer of the run's events; the console last, so that it can tell what befell the others.
fn reporters(
    asked: &Invocation,
    log: PreparedLog,
    console: Console,
    started_at: SystemTime,
) -> Result<Reporters, UserError> {
    let mut reporters = Reporters::new();
    reporters.add(AggregatedLog::new(log));
    if let Some(path) = &asked.junit {
        reporters.add(JUnit::create(path, started_at).map_err(|error| report_error(&error, "--junit"))?);
    }
    if let Some(path) = &asked.json {
        reporters.add(JsonLines::create(path).map_err(|error| report_error(&error, "--json"))?);
    }
    reporters.add(console);
    Ok(reporters)
}

fn console_options(args: &RunArgs, config: &Config, terminal: &Terminal, flags: &[Flag]) -> ConsoleOptions {
    let verbosity = match (args.quiet, args.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    ConsoleOptions {
        color: terminal.color,
        width: terminal.width,
        live: terminal.live && !args.quiet,
        verbosity,
        slow_file: config.slow_file.unwrap_or(Duration::MAX),
        slow_test: config.slow_test.unwrap_or(Duration::MAX),
        rerun_command: rerun_command(args.settings.project.as_deref(), flags),
        resume_command: rerun_command(args.settings.project.as_deref(), &[]) + " --resume",
        log_path: None,
    }
}

/// `--fail-fast 2` would run only the files with a 2 in their paths, and be green.
fn check_fail_fast(args: &RunArgs) -> Result<(), UserError> {
    let number = args.paths.iter().find(|path| path.parse::<u32>().is_ok());
    match (args.settings.fail_fast.as_deref(), number) {
        (Some("1"), Some(number)) => {
            Err(UserError::usage(format!("\"{number}\" is taken for a part of paths"))
                .hint(format!("write --fail-fast={number}, or ./{number} for a file of that name")))
        }
        _ => Ok(()),
    }
}

/// `distributest` with those flags of this run without which a file would not be found or be run in another way.
fn rerun_command(project: Option<&Path>, flags: &[Flag]) -> String {
    let project = project.map(|project| ("--project", project.display().to_string()));
    let flags = flags.iter().filter(|flag| FLAGS_OF_A_FILE.contains(&flag.key));
    let flags = flags.flat_map(|flag| flag.values.iter().map(|value| (flag.key, value.clone())));
    let named = flags.filter_map(|(key, value)| Some((flag_of(key)?, value)));
    let words =
        project.into_iter().chain(named).map(|(flag, value)| format!(" {flag} {}", shell_quote(&value)));
    std::iter::once("distributest".to_owned()).chain(words).collect()
}

fn report_error(error: &distributest_report::ReportError, flag: &str) -> UserError {
    failed_to(error).hint(format!("give {flag} a file in a directory you can write to"))
}

/// What hosts are told of the run first.
fn introduction(run: &str, project: &Project, config: &Config) -> Introduction {
    let initiator = Initiator::of_process();
    Introduction {
        project: project.directory.clone(),
        hello: wire::Hello {
            run: run.to_owned(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            initiating_host: initiator.host,
            initiating_user: initiator.user,
            project: project.name.clone(),
            project_hash: project.workspace_hash.clone(),
            ..wire::Hello::default()
        },
        bootstrap: config.bootstrap,
        patience: Patience { host_timeout: config.host_timeout },
    }
}

fn run_spec(
    plan: &RunPlan,
    config: &Config,
    hooks: Hooks,
    first_look: FirstLook,
    introduction: Introduction,
) -> RunSpec {
    let Hooks { node_setup, runner_setup } = hooks;
    let fingerprint = node_setup.as_ref().map(|hook| fingerprint(&plan.project.directory, config, hook));
    let own_environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let passed = own_environment.iter().filter(|(name, _)| config.pass_env.contains(name)).cloned();
    let mut environment: BTreeMap<String, String> = passed.collect();
    environment.extend(config.env.clone());
    RunSpec {
        introduction,
        prepare: wire::Prepare {
            node_setup: node_setup.map(|hook| {
                let limit = config.node_setup_timeout.map_or(0, milliseconds);
                hook_to_wire(hook, limit, fingerprint.unwrap_or_default())
            }),
            runner_setup: runner_setup.map(|hook| {
                hook_to_wire(hook, config.runner_setup_timeout.map_or(0, milliseconds), String::new())
            }),
            environment: environment.into_iter().collect(),
            launches: plan.launches.clone(),
            keep_warm_milliseconds: config.keep_warm.map_or(0, milliseconds),
            ..wire::Prepare::default()
        },
        own_environment,
        first_connections: FirstConnections::default(),
        first_look,
        snapshots: Arc::default(),
    }
}

fn hook_to_wire(hook: Hook, timeout_milliseconds: u32, fingerprint: String) -> wire::Hook {
    let source = match hook.source {
        HookSource::Project(path) => wire::hook::Source::WorkspacePath(path),
        HookSource::System => wire::hook::Source::Content(hook.content),
    };
    wire::Hook { source: Some(source), timeout_milliseconds, fingerprint }
}

/// What `node_setup` depends on, as it says; empty when it does not say, and it always runs.
fn fingerprint(project: &Path, config: &Config, hook: &Hook) -> String {
    if config.node_setup_inputs.is_empty() {
        return String::new();
    }
    let mut hash = Sha256::new();
    hash.update(Sha256::digest(&hook.content));
    for input in &config.node_setup_inputs {
        hash.update(Sha256::digest(input));
        // A missing input is a state of its own.
        let content = std::fs::read(project.join(input)).map(|content| Sha256::digest(content).to_vec());
        hash.update(content.unwrap_or_default());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
