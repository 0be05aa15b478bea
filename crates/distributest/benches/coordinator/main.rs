//! What a file costs the coordinator: a whole run of this process, from finding the files to the last line of its
//! summary, with history, journal, log and console, against agents that run nothing.
//!
//!     coordinator PROJECT STATE HOSTS RUNNERS
//!
//! runs the tests of PROJECT, which must have a `.distributest/config.toml`, on HOSTS hosts with RUNNERS runners each, and
//! keeps its history, journal and log below STATE. Prints one line of JSON: files, wall and processor seconds, and the
//! highest resident memory. The agents live in a thread of their own, whose processor time is not counted.
//! `scripts/bench coordinator` builds and runs it.

mod agents;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, sink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use distributest::agents::Patience;
use distributest::config::{self, ConfigSources, SyncConfig};
use distributest::driver::{DriverOptions, drive};
use distributest::event_sinks::EventSinks;
use distributest::hosts::{FirstConnections, FirstLook, HostPlace, HostSpec, Introduction, RunSpec};
use distributest::journal::{Begun, Invocation, Journals, identify};
use distributest::plan::{Request, RunPlan, plan};
use distributest::project::Project;
use distributest::signals::Signals;
use distributest_core::identity::HostId;
use distributest_history::{History, Recorder, RunInfo};
use distributest_protocol::wire;
use distributest_report::{
    AggregatedLog, Console, ConsoleOptions, ConsoleOutputs, LogDestination, Reporters, Verbosity, prepare_log,
};
use indicatif::ProgressDrawTarget;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::time::Instant;

use agents::Agents;

const RUN: &str = "coordinator-benchmark";

#[expect(clippy::print_stdout, reason = "the result is for scripts/bench")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [project, state, hosts, runners] = arguments.as_slice() else {
        return Err("usage: coordinator PROJECT STATE HOSTS RUNNERS".into());
    };
    let agents = Agents::start(runners.parse()?)?;
    let start = Instant::now();
    let files = run(&std::path::absolute(project)?, &std::path::absolute(state)?, hosts.parse()?, &agents)?;
    let wall = start.elapsed();
    let processor = processor_time(ClockId::ProcessCPUTime);
    let (agents, orders) = agents.end();
    println!(
        r#"{{"files": {files}, "orders": {orders}, "seconds": {:.6}, "cpu_seconds": {:.6}, "peak_bytes": {}}}"#,
        wall.as_secs_f64(),
        processor.saturating_sub(agents).as_secs_f64(),
        peak_bytes()?,
    );
    Ok(())
}

/// Runs everything once; returns the number of files that passed.
fn run(directory: &Path, state: &Path, hosts: u32, agents: &Agents) -> Result<usize, Box<dyn Error>> {
    let start = Instant::now();
    let sources = ConfigSources {
        system_directory: state.join("system"),
        user_directory: None,
        project: directory.to_path_buf(),
        home: None,
        current_directory: directory.to_path_buf(),
        environment: BTreeMap::new(),
    };
    let (config, _) = config::load(&sources, &[])?;
    let project = Project::of(directory.to_path_buf());
    let journals = Journals::of(state, &project);
    let (history, _) = History::open(&state.join("history.sqlite"))?;
    let past = history.recent(&project.history_key)?;
    let request = Request { paths: &[], framework_arguments: &[] };
    let plan = plan(RUN.into(), project, &config, &request, &past).map_err(|error| error.to_string())?;
    let journal = journals.begin(begun(), identify(&plan))?;
    let recorder = Recorder::new(history, run_info(&plan));
    let mut sinks = EventSinks::new(start, Some(recorder), reporters(state)?, Vec::new(), false)
        .with_journal(Some(journal), Vec::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (_requests, receiver) = mpsc::unbounded_channel();
    let mut signals = Signals::from_requests(receiver);
    let summary =
        runtime.block_on(drive(&plan, options(&plan, directory, hosts, agents), &mut sinks, &mut signals));
    if !sinks.finish().is_empty() || summary.exit_status != 0 {
        return Err(format!("the run did not pass: {summary:?}").into());
    }
    Ok(plan.files.len())
}

fn options(plan: &RunPlan, directory: &Path, hosts: u32, agents: &Agents) -> DriverOptions {
    let host = |number: u32| HostSpec {
        id: HostId(number),
        name: format!("host-{number}"),
        place: HostPlace::Dialed(agents.port()),
        runners: None,
    };
    DriverOptions {
        hosts: (0..hosts).map(host).collect(),
        run: Arc::new(RunSpec {
            introduction: Introduction {
                project: directory.to_path_buf(),
                hello: wire::Hello { run: plan.run.clone(), ..wire::Hello::default() },
                bootstrap: false,
                patience: Patience { host_timeout: Duration::from_secs(60) },
            },
            prepare: wire::Prepare { launches: plan.launches.clone(), ..wire::Prepare::default() },
            own_environment: Vec::new(),
            first_connections: FirstConnections::default(),
            first_look: FirstLook::new(directory.to_path_buf(), SyncConfig::default()),
            snapshots: Arc::default(),
        }),
        timeout: None,
        fail_fast: None,
        require_hosts: true,
    }
}

fn reporters(state: &Path) -> io::Result<Reporters> {
    let destination = LogDestination::File(state.join("log"));
    let log = prepare_log(&destination, RUN, SystemTime::UNIX_EPOCH).map_err(io::Error::other)?;
    let options = ConsoleOptions {
        color: false,
        width: 80,
        live: false,
        verbosity: Verbosity::Normal,
        slow_file: Duration::from_secs(10),
        slow_test: Duration::from_secs(1),
        rerun_command: String::new(),
        resume_command: String::new(),
        log_path: None,
    };
    let outputs = ConsoleOutputs {
        results: Box::new(sink()),
        messages: Box::new(sink()),
        progress: ProgressDrawTarget::hidden(),
    };
    let mut reporters = Reporters::new();
    reporters.add(AggregatedLog::new(log));
    reporters.add(Console::new(options, outputs));
    Ok(reporters)
}

fn begun() -> Begun {
    let invocation = Invocation {
        paths: Vec::new(),
        framework_arguments: Vec::new(),
        flags: Vec::new(),
        junit: None,
        json: None,
    };
    Begun { run: RUN.into(), at_unix_ms: 0, process: std::process::id(), log: String::new(), invocation }
}

fn run_info(plan: &RunPlan) -> RunInfo {
    RunInfo {
        run: plan.run.clone(),
        project_key: plan.project.history_key.clone(),
        project_name: plan.project.name.clone(),
        started_at_unix_ms: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// What the process or the current thread has used so far.
fn processor_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn peak_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string(PathBuf::from("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| io::Error::other("no VmHWM in /proc/self/status"))
}
