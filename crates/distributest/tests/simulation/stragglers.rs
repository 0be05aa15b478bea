//! Hosts that stand still near the end of a run: what is left is done elsewhere, and nobody waits for them.

use std::time::Duration;

use distributest_core::outcome::Outcome;

use crate::scenario::{
    Answer, Behaviour, Fault, FileScenario, Greeting, HostScenario, Preparation, Scenario,
};
use crate::simulation::{Report, simulate_scenario};

fn file(seconds: u64) -> FileScenario {
    let duration = Duration::from_secs(seconds);
    FileScenario {
        launch: 0,
        duration,
        predicted: Some(duration),
        behaviour: Behaviour::Answers(Outcome::Passed),
        tests: 1,
        output: 10,
        retries: 0,
        obedient: true,
        memory: 0,
        predicted_memory: None,
        passed_with: Vec::new(),
        part: None,
    }
}

/// A host with a runner, at work at once; `faults` befall it.
fn host(faults: Vec<(Duration, Fault)>) -> HostScenario {
    HostScenario {
        cores: 1,
        runners: Some(1),
        believed_speed: 1.0,
        latency: Duration::from_millis(1),
        bandwidth: None,
        queue_limit: 0,
        dials: vec![Answer::Connects(Duration::ZERO)],
        greeting: Greeting::Welcomes(Duration::ZERO),
        node_setup: Preparation::Succeeds(Duration::ZERO),
        runner_setups: vec![Preparation::Succeeds(Duration::ZERO)],
        unable: Vec::new(),
        broken: None,
        faults,
        babbles: false,
        memory: None,
        versions: vec![None],
    }
}

/// Runs the files on a host that is well and one that freezes for a minute after so many seconds, each with one runner.
fn run(seconds_of_files: &[u64], frozen_after: u64) -> Report {
    let freeze = Fault::Freeze { lasts: Duration::from_secs(60), clock_stops: false };
    let scenario = Scenario {
        seed: 0,
        launches: 1,
        hosts: vec![host(Vec::new()), host(vec![(Duration::from_secs(frozen_after), freeze)])],
        files: seconds_of_files.iter().map(|seconds| file(*seconds)).collect(),
        fail_fast: None,
        require_hosts: false,
        flaky_fails: false,
        stops: Vec::new(),
        slow_log: None,
    };
    let report = simulate_scenario(scenario, true);
    assert_eq!(report.violations, Vec::<String>::new(), "{}", report.trace.join("\n"));
    report
}

#[test]
fn a_file_on_a_host_that_stands_still_is_run_elsewhere_before_the_host_counts_as_silent() {
    // The second file of 2 s should be over after 2 s, and is overdue after 4.5.
    let report = run(&[3, 2], 1);
    assert_eq!(report.counts["attempts doubled"], 1);
    let took = report.took.as_secs_f64();
    assert!((6.5..8.0).contains(&took), "{took} s");
}

#[test]
fn a_host_that_stands_still_with_nothing_to_do_is_not_waited_for() {
    let report = run(&[5, 1], 3);
    assert_eq!(report.counts.get("attempts doubled"), None);
    let took = report.took.as_secs_f64();
    assert!((5.0..7.0).contains(&took), "{took} s");
}
