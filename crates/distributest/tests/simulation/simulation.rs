//! One simulated run, from its seed to the last thing that happens in it.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use distributest::agents::Patience;
use distributest::config::SyncConfig;
use distributest::driver::{DriverOptions, drive};
use distributest::event_sinks::EventSinks;
use distributest::hosts::{FirstConnections, FirstLook, HostPlace, HostSpec, Introduction, RunSpec};
use distributest::plan::{PlannedFile, PlannedPart, RunPlan};
use distributest::project::Project;
use distributest::signals::Signals;
use distributest_core::identity::{HostId, LaunchId};
use distributest_core::run_event::EarlierPass;
use distributest_history::RecordedPass;
use distributest_protocol::wire;
use distributest_report::Reporters;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::agent::{file_path, framework, passed_test, test_of_part};
use crate::machine::{Machine, Port};
use crate::observer::Observer;
use crate::scenario::{FILE_TIMEOUT, FileScenario, PartScenario, Scenario};
use crate::world::{Counts, SharedWorld};

/// What came of a simulated run.
pub(crate) struct Report {
    /// The rules that were broken.
    pub(crate) violations: Vec<String>,
    /// How often what happened.
    pub(crate) counts: Counts,
    /// Everything that happened, if it was asked for.
    pub(crate) trace: Vec<String>,
    /// Until the coordinator was gone.
    pub(crate) took: Duration,
}

/// How long after the coordinator is gone and all faults are over a test may still run: the lease and what it takes to
/// notice.
const LEASE_AND_MORE: Duration = Duration::from_secs(75);

/// Runs the scenario of a seed.
pub(crate) fn simulate(seed: u64, traced: bool) -> Report {
    simulate_scenario(Scenario::of(seed), traced)
}

pub(crate) fn simulate_scenario(scenario: Scenario, traced: bool) -> Report {
    let seed = scenario.seed;
    let simulated = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without threads and sockets can be had");
        runtime.block_on(run(scenario, traced))
    }));
    simulated.unwrap_or_else(|_| Report {
        violations: vec![format!("seed {seed} panics")],
        counts: Counts::new(),
        trace: Vec::new(),
        took: Duration::ZERO,
    })
}

async fn run(scenario: Scenario, traced: bool) -> Report {
    let limit = time_limit(&scenario);
    let world = SharedWorld::new(scenario.clone(), traced);
    world.lock().trace(|| format!("{scenario:#?}"));
    let machines: Vec<Arc<Machine>> = scenario
        .hosts
        .iter()
        .enumerate()
        .map(|(number, host)| Arc::new(Machine::new(number, host.clone(), world.clone())))
        .collect();
    for machine in &machines {
        tokio::spawn(machine.clone().suffer());
    }
    if tokio::time::timeout(limit, coordinate(&scenario, &machines, &world)).await.is_err() {
        world.lock().violation(format!("the run is not over after {} s", limit.as_secs()));
    }
    world.lock().trace(|| "the coordinator is gone".into());
    let start = world.lock().start;
    let took = start.elapsed();
    sleep_until(start + scenario.last_fault_ends()).await;
    sleep(LEASE_AND_MORE).await;
    let mut world = world.lock();
    world.count("runs");
    let left: Vec<u64> =
        world.attempts.iter().filter(|(_, attempt)| !attempt.has_ended).map(|(number, _)| *number).collect();
    if !left.is_empty() {
        world.violation(format!("the attempts {left:?} outlive their run"));
    }
    Report {
        violations: std::mem::take(&mut world.violations),
        counts: std::mem::take(&mut world.counts),
        trace: world.trace.take().unwrap_or_default(),
        took,
    }
}

/// The simulated time in which a run must be over, whatever happens: the faults, what is waited for at most, and every
/// file as often as it may be tried, one after the other.
fn time_limit(scenario: &Scenario) -> Duration {
    let tries = |retries: u8| 6 + u32::from(retries);
    let files = scenario.files.iter().map(|file| (file.duration.max(FILE_TIMEOUT)) * tries(file.retries));
    let stalls = scenario.slow_log.map(|slow| slow.stall * slow.times as u32).unwrap_or_default();
    scenario.last_fault_ends() + stalls + files.sum::<Duration>() + Duration::from_secs(600)
}

/// The coordinator's part of the run, from its first event to its last.
async fn coordinate(scenario: &Scenario, machines: &[Arc<Machine>], world: &SharedWorld) {
    let (stall, stalled_until) = watch::channel(Instant::now());
    let mut reporters = Reporters::new();
    reporters.add(Observer::new(world.clone(), stall));
    let mut sinks = EventSinks::new(Instant::now(), None, reporters, Vec::new(), scenario.flaky_fails);
    let (requests, receiver) = mpsc::unbounded_channel();
    let stops = scenario.stops.clone();
    tokio::spawn(async move {
        let start = Instant::now();
        for stop in stops {
            sleep_until(start + stop).await;
            let _ = requests.send(());
        }
    });
    let mut signals = Signals::from_requests(receiver);
    let plan = plan(scenario);
    let driving = drive(&plan, options(scenario, machines), &mut sinks, &mut signals);
    while_not_stalled(driving, stalled_until).await;
}

/// Lets a future go on only while the log's disk does not keep it waiting, as a thread would be kept in `write`.
async fn while_not_stalled<Output>(
    future: impl Future<Output = Output>,
    stalled_until: watch::Receiver<Instant>,
) -> Output {
    let mut future = pin!(future);
    let mut alarm = pin!(sleep_until(Instant::now()));
    std::future::poll_fn(|context| {
        loop {
            let until = *stalled_until.borrow();
            if until <= Instant::now() {
                break;
            }
            alarm.as_mut().reset(until);
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        let polled = future.as_mut().poll(context);
        let until = *stalled_until.borrow();
        if polled.is_pending() && until > Instant::now() {
            alarm.as_mut().reset(until);
            let _ = alarm.as_mut().poll(context);
        }
        polled
    })
    .await
}

fn plan(scenario: &Scenario) -> RunPlan {
    let files = scenario.files.iter().enumerate().map(|(number, file)| PlannedFile {
        path: file_path(file.part.map_or(number, |part| part.first)),
        framework: framework(file.launch.into()),
        launch: LaunchId(file.launch),
        tests: Vec::new(),
        retries: file.retries,
        memory: file.predicted_memory,
        predicted: file.predicted,
        part: file.part.map(planned_part),
    });
    let launches = (0..scenario.launches)
        .map(|launch| wire::Launch { framework: framework(launch.into()), kind: None })
        .collect();
    RunPlan {
        run: format!("simulation-{}", scenario.seed),
        project: Project {
            directory: PathBuf::from("/project"),
            name: "project".into(),
            history_key: "project".into(),
            workspace_hash: "0".into(),
        },
        files: files.collect(),
        unusable: Vec::new(),
        finished: None,
        launches,
        passes: scenario.files.iter().map(passes).collect(),
        speeds: (0..).zip(&scenario.hosts).map(|(host, it)| (host_name(host), it.believed_speed)).collect(),
    }
}

fn planned_part(part: PartScenario) -> Arc<PlannedPart> {
    let tests = (1..=part.of).map(|number| vec![test_of_part(number)]).collect();
    Arc::new(PlannedPart { number: part.number as u32, of: part.of as u32, tests: Arc::new(tests) })
}

fn passes(file: &FileScenario) -> Vec<RecordedPass> {
    let pass = |versions: &&str| RecordedPass {
        versions: (*versions).into(),
        pass: EarlierPass {
            // By which it is known again.
            run: (*versions).into(),
            host: host_name(0),
            finished_at_unix_ms: 0,
            duration: file.duration,
            tests: vec![passed_test("earlier:1".into())],
        },
    };
    file.passed_with.iter().map(pass).collect()
}

fn host_name(host: usize) -> String {
    format!("host-{host}")
}

fn options(scenario: &Scenario, machines: &[Arc<Machine>]) -> DriverOptions {
    let hosts = (0..).map(HostId).zip(machines).map(|(id, machine)| HostSpec {
        id,
        name: host_name(id.0 as usize),
        place: HostPlace::Dialed(Arc::new(Port(machine.clone()))),
        runners: machine.scenario.runners,
    });
    DriverOptions {
        hosts: hosts.collect(),
        run: Arc::new(RunSpec {
            introduction: Introduction {
                project: PathBuf::from("/project"),
                hello: wire::Hello { run: format!("simulation-{}", scenario.seed), ..wire::Hello::default() },
                bootstrap: false,
                patience: Patience { host_timeout: Duration::from_secs(10) },
            },
            prepare: wire::Prepare {
                node_setup: Some(wire::Hook::default()),
                runner_setup: Some(wire::Hook::default()),
                ..wire::Prepare::default()
            },
            own_environment: Vec::new(),
            first_connections: FirstConnections::default(),
            first_look: FirstLook::new(PathBuf::from("/project"), SyncConfig::default()),
            snapshots: Arc::default(),
        }),
        timeout: Some(FILE_TIMEOUT),
        fail_fast: scenario.fail_fast.and_then(NonZeroU32::new),
        require_hosts: scenario.require_hosts,
    }
}
