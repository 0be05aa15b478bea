//! Whatever ends a run, nothing of it is left.

use distributest_protocol::wire;
use distributest_protocol::wire::coordinator_message::Kind as Order;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::*;

/// A run whose hook, test and two daemons are all at work.
struct BusyRun {
    coordinator: Coordinator,
    agent: Process,
    processes: Vec<u32>,
}

async fn busy_run(site: &Site, lease_milliseconds: u32) -> BusyRun {
    // One daemon keeps nothing it could be recognised by: no parent, session, descriptors or environment.
    site.script(
        "hook",
        "setsid sh -c 'echo $$ > hook.pid; exec sleep 1000' & while [ ! -s hook.pid ]; do sleep 0.01; done",
    );
    site.script(
        "test",
        "(setsid env -i PATH=\"$PATH\" sh -c 'cd /; echo $$ > '\"$PWD\"'/daemon.pid; exec sleep 1000' </dev/null >/dev/null 2>&1 &)\n\
         trap '' TERM; echo $$ > test.pid; while :; do sleep 0.05; done",
    );
    let hello = wire::Hello { lease_milliseconds, ..site.hello() };
    let (mut coordinator, agent) = Coordinator::with_private_agent(site, hello).await;
    coordinator.welcome().await;
    let mut prepare = prepare(command_launch(&["{file}"]), 2);
    prepare.node_setup = project_hook("hook");
    coordinator.prepare(prepare).await;
    coordinator.dispatch(1, "test", 0).await;
    let mut processes = vec![agent.0.id()];
    for name in ["hook.pid", "test.pid", "daemon.pid"] {
        processes.push(pid_in(site, name).await);
    }
    BusyRun { coordinator, agent, processes }
}

/// Waits until a run's processes and files are gone.
async fn all_gone(site: &Site, processes: &[u32]) {
    gone(processes).await;
    let no_files = || site.temporary_files().is_empty().then_some(());
    wait_within(GONE_LIMIT, "the run's files are gone", no_files).await;
}

#[tokio::test]
async fn the_end_of_the_connection_ends_the_run() {
    let site = Site::new();
    let run = busy_run(&site, 60_000).await;
    drop(run.coordinator);
    all_gone(&site, &run.processes).await;
}

#[tokio::test]
async fn silence_for_the_lease_ends_the_run_and_heartbeats_prolong_it() {
    let site = Site::new();
    let run = busy_run(&site, 1_500).await;
    let begin = std::time::Instant::now();
    let heartbeats = 8;
    for _ in 0..heartbeats {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        run.coordinator.order(Order::Heartbeat(wire::Heartbeat {})).await;
    }
    assert!(begin.elapsed() > std::time::Duration::from_millis(3_000));
    assert!(run.processes.iter().all(|pid| is_alive(*pid)), "heartbeats keep the run alive");
    wait_for("the lease ends the run", || (!is_alive(run.processes[1])).then_some(())).await;
    all_gone(&site, &run.processes).await;
    drop(run.coordinator);
}

#[tokio::test]
async fn the_order_to_end_ends_a_busy_run_within_its_grace() {
    let site = Site::new();
    let run = busy_run(&site, 60_000).await;
    run.coordinator.end().await;
    assert!(run.processes[1..].iter().all(|pid| !is_alive(*pid)));
    all_gone(&site, &run.processes).await;
}

#[tokio::test]
async fn a_terminated_agent_ends_its_run_in_order() {
    let site = Site::new();
    let run = busy_run(&site, 60_000).await;
    signal(run.agent.0.id(), Signal::TERM);
    all_gone(&site, &run.processes).await;
}

#[tokio::test]
async fn killing_the_guardian_leaves_nothing() {
    let site = Site::new();
    let run = busy_run(&site, 60_000).await;
    signal(run.agent.0.id(), Signal::KILL);
    all_gone(&site, &run.processes).await;
}

#[tokio::test]
async fn killing_the_session_leaves_nothing_running_and_the_next_one_cleans_up() {
    let site = Site::new();
    let run = busy_run(&site, 60_000).await;
    let guardian = run.agent.0.id();
    let children = std::fs::read_to_string(format!("/proc/{guardian}/task/{guardian}/children")).unwrap();
    let [session] = children.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{children}") };
    signal(session.parse().unwrap(), Signal::KILL);
    gone(&run.processes).await;
    assert_eq!(site.temporary_files().len(), 1);

    let (mut coordinator, _agent) = Coordinator::with_private_agent(&site, site.hello()).await;
    coordinator.welcome().await;
    coordinator.prepare(prepare(command_launch(&["{file}"]), 1)).await;
    coordinator.end().await;
    assert_eq!(site.temporary_files(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_coordinator_that_says_nothing_useful_is_left() {
    let site = Site::new();
    let bad_place = wire::Hello { place: None, ..site.hello() };
    let (mut coordinator, agent) = Coordinator::with_private_agent(&site, bad_place).await;
    let refused = coordinator
        .until(|update| match update {
            wire::agent_message::Kind::Refusal(refusal) => refusal.failure.clone(),
            _ => None,
        })
        .await;
    assert_eq!(refused.operation, "create workspace");
    assert_eq!(coordinator.next().await, None);
    drop(coordinator);
    gone(&[agent.0.id()]).await;
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
